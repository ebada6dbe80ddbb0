//! Time for the exporters, and the counters that sFlow tells.

use super::Slowpath;
use crate::bridge::Bridge;
use crate::export::sflow::{Counters, PortCounters};
use crate::world::World;
use flow::Msec;
use flow::clock::clock;

impl Slowpath {
    /// Lets every bridge's exporters send what is due.
    pub(super) fn run_exporters(&self, now: Msec) {
        let world = self.read_world();
        for bridge in world.bridges.values() {
            bridge.exporters.run(now, clock().wall_ms(), &|| counters(&world, bridge));
        }
    }
}

fn counters(world: &World, bridge: &Bridge) -> Counters {
    let Some(backend) = world.backends.get(&bridge.kind) else { return Counters::default() };
    let machines = bridge.protocols.lock();
    let port = |p: &crate::bridge::Port| {
        let stats = backend.dp.port_stats(p.dp_port?).ok()?;
        Some(PortCounters {
            ifindex: p.info.ifindex,
            name: p.name.clone(),
            number: p.number.0 & 0xffff,
            speed_bps: p.info.speed_bps,
            full_duplex: p.info.full_duplex,
            admin_up: p.info.admin_up,
            link_up: p.info.link_up,
            stats,
            lacp: p.bundle.and_then(|b| machines.lacps.get(&b)).and_then(|l| l.figures(p.number)),
        })
    };
    Counters {
        datapath_id: bridge.datapath_id,
        datapath: backend.dp.stats(),
        ports: bridge.ports.values().filter_map(port).collect(),
    }
}
