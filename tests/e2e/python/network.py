"""Mininet, as Debian has it, on the switch that OVS_RUNDIR names: network.py DATAPATH. Networks are built, pinged through, taken down."""
import sys

from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.node import OVSBridge, OVSController, OVSSwitch
from mininet.topo import LinearTopo, SingleSwitchTopo

DATAPATH = sys.argv[1]
# It would raise limits of the whole machine.
Mininet.inited = True
setLogLevel("warning")


def switch(kind, **options):
    return lambda name, **more: kind(name, datapath=DATAPATH, **{**options, **more})


def run(topology, kind, controller=None, look=None):
    network = Mininet(topo=topology, switch=kind, controller=controller, waitConnected=controller is not None)
    network.start()
    try:
        if look is not None:
            look(network)
        # The first round may meet links and neighbours that are not ready yet.
        network.pingAll(timeout="1")
        return network.pingAll(timeout="2")
    finally:
        network.stop()


def connected(network):
    print("controller connected:", all(s.connected() for s in network.switches), flush=True)


print(f"bridges: {run(LinearTopo(k=2), switch(OVSBridge))}% lost", flush=True)
print(f"controller: {run(SingleSwitchTopo(k=3), switch(OVSSwitch, protocols='OpenFlow10'), OVSController, connected)}% lost", flush=True)
