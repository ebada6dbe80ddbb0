//! Connection tracking through the switch: what its tests share.

use super::common::Bench;
use flow::Datapath;
use flow::action_text::parse_actions;
use flow::conntrack::Conntrack;
use flow::forms::NoNames;

/// A switch of three ports with megaflows.
pub(crate) fn bench(flows: &[(&str, &str)]) -> Bench {
    let bench = Bench::new(3, &[]);
    for (i, (flow, actions)) in flows.iter().enumerate() {
        bench.put(i as u128 + 1, flow, parse_actions(actions, &NoNames).unwrap());
    }
    bench
}

/// Its tracker.
pub(crate) fn ct(bench: &Bench) -> &dyn Conntrack {
    bench.dp.conntrack().unwrap()
}

/// Its connections in text, sorted.
pub(crate) fn dump(bench: &Bench) -> Vec<String> {
    let mut lines = Vec::new();
    ct(bench).dump(None, &mut |e| {
        lines.push(e.text(false, false));
        true
    });
    lines.sort();
    lines
}

/// Ports that a frame came out of.
pub(crate) fn out(bench: &Bench, port: u32, frame: &[u8]) -> Vec<u32> {
    bench.send(port, frame).iter().map(|s| s.0).collect()
}

/// A packet of UDP, and the answer to it.
pub(crate) const UDP: &str = "eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x0800),\
                   ipv4(src=10.0.0.1,dst=10.0.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src=1000,dst=2000)";
pub(crate) const BACK: &str = "eth(src=00:00:00:00:00:02,dst=00:00:00:00:00:01),eth_type(0x0800),\
                    ipv4(src=10.0.0.2,dst=10.0.0.1,proto=17,tos=0,ttl=64,frag=no),udp(src=2000,dst=1000)";
