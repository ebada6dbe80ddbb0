//! Protocols without states of their own: UDP, SCTP and others by who has spoken, ICMP by request and answer.
//!
//! What enters: an entry's flags and a packet's direction. What leaves: what the packet is to the connection, and its stage. Pure.
//! Neighbours: `track`, `tcp` (which has states).

use super::entry::{ASSURED, SEVERAL};
use flow::conntrack::CtStage;

/// A packet of a known connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Flags to add.
    pub flags: u32,
    pub stage: CtStage,
    /// No answer has been seen: to the rules the connection is still new.
    pub new: bool,
}

/// The stage of a first packet.
#[must_use]
pub const fn first(icmp: bool) -> CtStage {
    if icmp { CtStage::IcmpFirst } else { CtStage::UdpFirst }
}

/// The next packet of a connection with `flags`.
#[inline]
#[must_use]
pub const fn step(icmp: bool, flags: u32, reply: bool) -> Step {
    let assured = flags & ASSURED != 0 || reply;
    let flags = SEVERAL | if assured { ASSURED } else { 0 };
    let stage = match (icmp, assured) {
        (true, false) => CtStage::IcmpFirst,
        (true, true) => CtStage::IcmpReply,
        (false, false) => CtStage::UdpSingle,
        (false, true) => CtStage::UdpMultiple,
    };
    Step { flags, stage, new: !assured }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_and_direction() {
        for icmp in [false, true] {
            let (single, multiple) =
                if icmp { (CtStage::IcmpFirst, CtStage::IcmpReply) } else { (CtStage::UdpSingle, CtStage::UdpMultiple) };
            assert_eq!(first(icmp), if icmp { CtStage::IcmpFirst } else { CtStage::UdpFirst });
            for before in [0, SEVERAL] {
                assert_eq!(step(icmp, before, false), Step { flags: SEVERAL, stage: single, new: true });
                assert_eq!(step(icmp, before, true), Step { flags: SEVERAL | ASSURED, stage: multiple, new: false });
            }
            for reply in [false, true] {
                let step = step(icmp, SEVERAL | ASSURED, reply);
                assert_eq!((step.stage, step.new), (multiple, false));
            }
        }
    }
}
