"""os-ken's switch tests as an application of osken-manager, with waits that fit a switch on the same machine.

Their tests wait a second for a packet that must not come, three for one that does not come, and send for half a minute where they measure
rates. What is waited for here takes milliseconds, so these are set from the environment.
"""

import os

from os_ken.tests.switch import tester

tester.INTERVAL = float(os.environ["OSKEN_MISS_SECONDS"])
tester.WAIT_TIMER = float(os.environ["OSKEN_WAIT_SECONDS"])
SEND_SECONDS = float(os.environ["OSKEN_SEND_SECONDS"])


class Tester(tester.OfTester):
    """The tests themselves, unchanged."""

    def _continuous_packet_send(self, pkt):
        packets = pkt[tester.KEY_PACKETS]
        packets[tester.KEY_DURATION_TIME] = min(packets[tester.KEY_DURATION_TIME], SEND_SECONDS)
        super()._continuous_packet_send(pkt)
