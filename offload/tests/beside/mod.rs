//! A switch with the eSwitch model beside it, as the tests of connections and of tunnels have it: what a packet leads to.

use datapath::Switch;
use flow::DpPort;
use offload::Tiered;
use offload::model::{Model, Outcome, SameNumbers};
use offload::tc::client::Tc;
use port::dummy::Control;

pub(crate) type Tier = Tiered<Switch, Tc<Model, SameNumbers>>;
/// Ports and frames; those of one port in their order.
pub(crate) type Sent = Vec<(u32, Vec<u8>)>;
/// Takes out of a frame what may differ.
pub(crate) type Plain = fn(Vec<u8>) -> Vec<u8>;

/// What the switch's ports, numbered from 1, have sent since they were last asked.
pub(crate) fn sent(ports: &[Control], plain: Plain) -> Sent {
    let of = |(n, port): (u32, &Control)| port.captured().into_iter().map(|frame| (n, plain(frame))).collect::<Vec<_>>();
    (1..).zip(ports).flat_map(of).collect()
}

/// A packet comes in: to hardware, and to software if hardware has no rule for it. What it led to, and whether hardware did it.
pub(crate) fn send(tier: &Tier, ports: &[Control], (port, frame): (u32, &[u8]), plain: Plain) -> (Sent, bool) {
    match tier.hardware().link().receive(DpPort(port), frame) {
        Outcome::Done(done) => {
            let mut done: Sent = done.into_iter().map(|s| (s.port.0, plain(s.bytes))).collect();
            done.sort_by_key(|(port, _)| *port);
            (done, true)
        }
        Outcome::Missed => {
            tier.inner().inject(DpPort(port), 0, frame).unwrap();
            (sent(ports, plain), false)
        }
        Outcome::MissedInChain(chain) => panic!("a packet came up in the middle, in chain {chain}"),
    }
}
