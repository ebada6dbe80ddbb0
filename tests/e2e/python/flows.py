"""Open vSwitch's own Python parsers of flows (ovs.flow) on what the switch prints: flows.py openflow|datapath, lines on standard input.
Prints each flow's sections as JSON; a line that it cannot read ends it."""
import json
import sys

from ovs.flow.decoders import FlowEncoder
from ovs.flow.odp import ODPFlow
from ovs.flow.ofp import OFPFlow

READ = {"openflow": OFPFlow, "datapath": ODPFlow}[sys.argv[1]]
for line in sys.stdin:
    line = line.strip()
    if "actions" not in line:
        continue
    flow = READ(line)
    print(json.dumps({"match": flow.match, "info": flow.info, "actions": flow.actions}, cls=FlowEncoder))
