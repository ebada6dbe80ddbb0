//! The table of scenarios: a new one is a row here, and perhaps a function of its own in `parts`.

use crate::lab::Lab;
use crate::measure::{Bench, Row};
use crate::side::{Setup, Side};
use crate::traffic::{MASK_FLOWS, Over, Traffic};
use crate::{BenchError, parts, rules};
use std::path::Path;

/// One size of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub flows: u32,
    pub masks: u32,
}

/// A scenario.
#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    pub sizes: &'static [Size],
    /// How many of the sizes, from the first, a quick run measures.
    pub quick: usize,
    pub kind: Kind,
}

/// How a scenario is measured.
#[derive(Debug)]
pub enum Kind {
    /// Packets per second through the forwarding core, both sides in turn.
    Forward(Forward),
    /// By a function that makes its own rows.
    Own(fn(&mut Bench, &Scenario, Size) -> Result<Vec<Row>, BenchError>),
}

/// A forwarding scenario.
#[derive(Debug)]
pub struct Forward {
    pub traffic: fn(Size) -> Traffic,
    pub setup: Setup,
    /// Builds ports and rules on either side.
    pub build: fn(&mut Side, &Case<'_>) -> Result<(), BenchError>,
    /// Whether the limit program does the same work.
    pub limit: bool,
}

/// What `build` may need.
#[derive(Debug)]
pub struct Case<'a> {
    pub lab: &'a Lab,
    pub size: Size,
    pub pcap: &'a Path,
}

impl Case<'_> {
    /// Bridge br0 with the sink on port 2, rules, and the source on port 1.
    pub fn simple(&self, side: &mut Side, name: &str, rules: &str) -> Result<(), BenchError> {
        side.sink("br0", 2)?;
        side.add_flows("br0", &rules::write(self.lab.dir(), name, rules)?)?;
        side.source(self.lab, "br0", 1, self.pcap)
    }
}

const fn of(flows: u32) -> Size {
    Size { flows, masks: 1 }
}

const fn masks(masks: u32) -> Size {
    Size { flows: MASK_FLOWS, masks }
}

const CURVE: &[Size] = &[of(4), of(60_000), of(1), of(2_000), of(4_000), of(1_000_000)];
const FOUR_THOUSAND: &[Size] = &[of(4_000)];
const CONNECTIONS: &[Size] = &[of(4_000), of(4), of(60_000)];
const MASKS: &[Size] = &[masks(20), masks(5), masks(100)];
const STOCK: Setup = Setup { ours: &[], peer: &[], replayed: 0, idle: false, free: false };
/// Each side without what would spare it the search for the mask.
const NO_CACHES: Setup = Setup {
    ours: &["other_config:signature-cache-flows=1", "other_config:emc-insert-inv-prob=0"],
    peer: &["other_config:emc-insert-inv-prob=0"],
    ..STOCK
};

const fn forward(
    traffic: fn(Size) -> Traffic,
    setup: Setup,
    build: fn(&mut Side, &Case<'_>) -> Result<(), BenchError>,
    limit: bool,
) -> Kind {
    Kind::Forward(Forward { traffic, setup, build, limit })
}

const fn udp(size: Size) -> Traffic {
    Traffic::Udp { flows: size.flows }
}

/// All of them, in the order in which they run.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "flows",
        about: "UDP flows, one megaflow",
        sizes: CURVE,
        quick: 2,
        kind: forward(udp, STOCK, |side, case| case.simple(side, "flows", rules::FLOWS), true),
    },
    Scenario {
        name: "wire",
        about: "the same under a rule on the input port alone",
        sizes: &[of(4_000), of(4), of(1_000_000)],
        quick: 0,
        kind: forward(udp, STOCK, |side, case| case.simple(side, "wire", rules::WIRE), false),
    },
    Scenario {
        name: "masks",
        about: "N megaflow masks consulted evenly, 64 megaflows each, caches on",
        sizes: MASKS,
        quick: 1,
        kind: forward(|s| Traffic::Masks { classes: s.masks }, STOCK, build_masks, false),
    },
    Scenario {
        name: "masks-no-cache",
        about: "the same, caches defeated",
        sizes: MASKS,
        quick: 1,
        kind: forward(|s| Traffic::Masks { classes: s.masks }, NO_CACHES, build_masks, false),
    },
    Scenario {
        name: "vlan-push",
        about: "push VLAN 100",
        sizes: FOUR_THOUSAND,
        quick: 1,
        kind: forward(udp, STOCK, |side, case| case.simple(side, "vlan-push", rules::VLAN_PUSH), false),
    },
    Scenario {
        name: "vlan-pop",
        about: "pop VLAN 100",
        sizes: FOUR_THOUSAND,
        quick: 0,
        kind: forward(
            |s| Traffic::Tagged { flows: s.flows },
            STOCK,
            |side, case| case.simple(side, "vlan-pop", rules::VLAN_POP),
            false,
        ),
    },
    Scenario {
        name: "rewrite",
        about: "set both MACs, both IP addresses, both UDP ports",
        sizes: FOUR_THOUSAND,
        quick: 1,
        kind: forward(udp, STOCK, |side, case| case.simple(side, "rewrite", rules::REWRITE), false),
    },
    Scenario {
        name: "vxlan-encap",
        about: "VXLAN put on, by a bridge with the route",
        sizes: FOUR_THOUSAND,
        quick: 1,
        kind: forward(udp, STOCK, parts::tunnels::encap, false),
    },
    Scenario {
        name: "vxlan-decap",
        about: "VXLAN taken off, forwarded by the tunnel port",
        sizes: FOUR_THOUSAND,
        quick: 1,
        kind: forward(|s| Traffic::Vxlan { flows: s.flows }, STOCK, parts::tunnels::decap, false),
    },
    Scenario {
        name: "tagged",
        about: "UDP in VLAN 100, forwarded as flows",
        sizes: FOUR_THOUSAND,
        quick: 0,
        kind: forward(|s| Traffic::Tagged { flows: s.flows }, STOCK, build_mixed, false),
    },
    Scenario {
        name: "tcp",
        about: "TCP over IPv4, forwarded as flows",
        sizes: FOUR_THOUSAND,
        quick: 0,
        kind: forward(|s| Traffic::Tcp { flows: s.flows }, STOCK, build_mixed, false),
    },
    Scenario {
        name: "udp6",
        about: "UDP over IPv6, forwarded as flows",
        sizes: FOUR_THOUSAND,
        quick: 0,
        kind: forward(|s| Traffic::Udp6 { flows: s.flows }, STOCK, build_mixed, false),
    },
    Scenario {
        name: "tcp6",
        about: "TCP over IPv6 (74 bytes), forwarded as flows",
        sizes: FOUR_THOUSAND,
        quick: 0,
        kind: forward(|s| Traffic::Tcp6 { flows: s.flows }, STOCK, build_mixed, false),
    },
    Scenario {
        name: "mixed",
        about: "UDP, TCP, VLAN and IPv6 in turn",
        sizes: &[of(4_000), of(60_000), of(4)],
        quick: 1,
        kind: forward(|s| Traffic::Mixed { flows: s.flows }, STOCK, build_mixed, false),
    },
    Scenario {
        name: "ct",
        about: "established connections, both directions",
        sizes: CONNECTIONS,
        quick: 1,
        kind: forward(
            |s| Traffic::Connections { flows: s.flows, of: Over::Udp, nat: false },
            STOCK,
            |side, case| case.simple(side, "ct", rules::CT),
            false,
        ),
    },
    Scenario {
        name: "nat",
        about: "the same, the source translated to one address",
        sizes: CONNECTIONS,
        quick: 1,
        kind: forward(
            |s| Traffic::Connections { flows: s.flows, of: Over::Udp, nat: true },
            STOCK,
            |side, case| case.simple(side, "nat", rules::NAT),
            false,
        ),
    },
    Scenario {
        name: "ct-tcp",
        about: "established connections of TCP",
        sizes: CONNECTIONS,
        quick: 0,
        kind: forward(
            |s| Traffic::Connections { flows: s.flows, of: Over::Tcp, nat: false },
            STOCK,
            |side, case| case.simple(side, "ct-tcp", rules::CT_TCP),
            false,
        ),
    },
    Scenario {
        name: "nat-tcp",
        about: "the same, the source translated to one address",
        sizes: CONNECTIONS,
        quick: 0,
        kind: forward(
            |s| Traffic::Connections { flows: s.flows, of: Over::Tcp, nat: true },
            STOCK,
            |side, case| case.simple(side, "nat-tcp", rules::NAT_TCP),
            false,
        ),
    },
    Scenario {
        name: "ct6",
        about: "established connections over IPv6",
        sizes: CONNECTIONS,
        quick: 0,
        kind: forward(
            |s| Traffic::Connections { flows: s.flows, of: Over::Udp6, nat: false },
            STOCK,
            |side, case| case.simple(side, "ct6", rules::CT6),
            false,
        ),
    },
    Scenario {
        name: "ct-tcp6",
        about: "the same of TCP (74 bytes)",
        sizes: CONNECTIONS,
        quick: 0,
        kind: forward(
            |s| Traffic::Connections { flows: s.flows, of: Over::Tcp6, nat: false },
            STOCK,
            |side, case| case.simple(side, "ct-tcp6", rules::CT_TCP6),
            false,
        ),
    },
    Scenario {
        name: "ct-new",
        about: "connections begun per second, every packet a new one",
        sizes: &[of(1_000_000)],
        quick: 1,
        kind: Kind::Own(parts::connections::new),
    },
    Scenario {
        name: "ct-memory",
        about: "resident bytes per connection (rate is KB per connection)",
        sizes: &[of(3_000_000)],
        quick: 0,
        kind: Kind::Own(parts::memory::of_connections),
    },
    Scenario {
        name: "megaflow-memory",
        about: "resident bytes per megaflow (rate is KB per megaflow)",
        sizes: &[of(200_000)],
        quick: 0,
        kind: Kind::Own(parts::memory::of_megaflows),
    },
    Scenario {
        name: "setup",
        about: "megaflows set up per second when each packet is a new 5-tuple (flow limit raised)",
        sizes: &[of(1_000_000)],
        quick: 1,
        kind: Kind::Own(parts::setup::run),
    },
    Scenario {
        name: "setup-handlers",
        about: "megaflows set up per second by one handler and by two on two cores, from the full queues of 128 ports; limit: two threads that share nothing",
        sizes: &[of(2_000)],
        quick: 0,
        kind: Kind::Own(parts::handlers::run),
    },
    Scenario {
        name: "barrier",
        about: "a flow-mod and its barrier with many megaflows, concerning a few or all of them; what it costs that nothing changes",
        sizes: &[of(200_000)],
        quick: 0,
        kind: Kind::Own(parts::barrier::run),
    },
    Scenario {
        name: "flowmods",
        about: "add-flows, the client's time included, plain and --bundle, by Debian's ovs-ofctl and by each side's own; limit: a switch that keeps nothing",
        sizes: &[of(100_000)],
        quick: 1,
        kind: Kind::Own(parts::flow_mods::run),
    },
    Scenario {
        name: "rule-memory",
        about: "resident bytes per OpenFlow rule (rate is KB per rule)",
        sizes: &[of(1_000_000)],
        quick: 0,
        kind: Kind::Own(parts::memory::of_rules),
    },
    Scenario {
        name: "bundle-stall",
        about: "the longest round of the forwarding core while a bundle is applied, less what others took of the core; and what a witness misses (ms)",
        sizes: &[of(100_000)],
        quick: 0,
        kind: Kind::Own(parts::stall::run),
    },
    Scenario {
        name: "lookup",
        about: "OpenFlow classifier lookups with wildcards, one core",
        sizes: &[Size { flows: 100_000, masks: 50 }, Size { flows: 100_000, masks: 10 }],
        quick: 1,
        kind: Kind::Own(parts::lookup::run),
    },
    Scenario {
        name: "miss-flood",
        about: "one port's rate beside a port where every packet misses; the peer column is that beside a port of established flows",
        sizes: &[of(4_000)],
        quick: 0,
        kind: Kind::Own(parts::neighbours::miss_flood),
    },
    Scenario {
        name: "mask-explosion",
        about: "one port's rate beside a port whose packets force thousands of masks; peer column as in miss-flood",
        sizes: &[of(4_000)],
        quick: 0,
        kind: Kind::Own(parts::neighbours::explosion),
    },
    Scenario {
        name: "ct-flood",
        about: "one port's established connections beside a port where every packet begins one and no more may be; peer column as in miss-flood",
        sizes: &[of(4_000)],
        quick: 0,
        kind: Kind::Own(parts::neighbours::ct_flood),
    },
    Scenario {
        name: "frag-flood",
        about: "the same beside a port of fragments that never complete; peer column as in miss-flood",
        sizes: &[of(4_000)],
        quick: 0,
        kind: Kind::Own(parts::neighbours::frag_flood),
    },
    Scenario {
        name: "route-flap",
        about: "one port's rate while routes and neighbours of another port's tunnel flap; the peer column is that while they stand",
        sizes: &[of(4_000)],
        quick: 0,
        kind: Kind::Own(parts::flapping::flap),
    },
    Scenario {
        name: "tunnel-loop",
        about: "one port's rate beside a port whose tunnel leads into itself; the peer column is that beside a tunnel that does not",
        sizes: &[of(4_000)],
        quick: 0,
        kind: Kind::Own(parts::flapping::looped),
    },
    Scenario {
        name: "tcp-veth",
        about: "TCP between two containers on veth, default ethtool settings; the peer column is the kernel's bridge (Gbit/s)",
        sizes: &[of(1)],
        quick: 0,
        kind: Kind::Own(parts::veth::tcp),
    },
    Scenario {
        name: "ping-idle",
        about: "ping between two containers while idle; the peer column is the kernel's bridge (us)",
        sizes: &[of(1)],
        quick: 0,
        kind: Kind::Own(parts::veth::ping),
    },
];

fn build_masks(side: &mut Side, case: &Case<'_>) -> Result<(), BenchError> {
    case.simple(side, "masks", &rules::masks(case.size.masks))
}

fn build_mixed(side: &mut Side, case: &Case<'_>) -> Result<(), BenchError> {
    case.simple(side, "mixed", rules::MIXED)
}

impl Scenario {
    /// Measures one size.
    pub fn measure(&self, bench: &mut Bench, size: Size) -> Result<Vec<Row>, BenchError> {
        match &self.kind {
            Kind::Forward(forward) => bench.forward(self, forward, size).map(|row| vec![row]),
            Kind::Own(run) => run(bench, self, size),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_quick_runs_are_parts_of_whole_ones() {
        for (i, scenario) in ALL.iter().enumerate() {
            assert!(!scenario.sizes.is_empty() && scenario.quick <= scenario.sizes.len(), "{}", scenario.name);
            assert!(ALL[..i].iter().all(|s| s.name != scenario.name), "{}", scenario.name);
        }
    }
}
