//! What time brings to a bridge's protocols: one pass over the machines, which changes nothing but them and says what is to be done.

use super::{Gate, Machines, spanning};
use crate::bond::{LacpStatus, Link};
use crate::bridge::{Bridge, BundleId, Port};
use crate::lacp::{self, Lacp};
use crate::world::{BridgeId, World};
use flow::Msec;
use openflow::OfPort;

/// A frame to send by a port.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub bridge: BridgeId,
    pub port: OfPort,
    pub bytes: Vec<u8>,
    /// Says OAM in tunnels that can.
    pub oam: bool,
}

/// What a pass wants done.
#[derive(Debug, Default)]
pub(super) struct Todo {
    pub frames: Vec<Frame>,
    /// Ports that may carry traffic from now on, or no longer.
    pub enables: Vec<(BridgeId, OfPort, bool)>,
    /// Bonds that translations have to ask again.
    pub bonds: Vec<(BridgeId, BundleId)>,
    /// Bonds whose neighbours have to learn anew.
    pub teach: Vec<(BridgeId, BundleId)>,
    /// What spanning tree lets ports do from now on.
    pub gates: Vec<(BridgeId, OfPort, Gate)>,
    /// Learned addresses to forget: of one port, or of the whole bridge.
    pub flushes: Vec<(BridgeId, Option<OfPort>)>,
    /// MACs of the next hops towards controllers, where they have changed.
    pub hops: Vec<(BridgeId, Vec<[u8; 6]>)>,
}

/// One pass over all bridges.
pub(super) fn pass(world: &World, now: Msec) -> Todo {
    let mut todo = Todo::default();
    for bridge in world.bridges.values() {
        let mut machines = bridge.protocols.lock();
        run_lacps(bridge, &mut machines, now, &mut todo);
        for port in bridge.ports.values() {
            let may = may_enable(port, &mut machines, now);
            if may != port.watch.may_enable {
                todo.enables.push((bridge.id, port.number, may));
            }
        }
        run_bonds((world, bridge), &mut machines, now, &mut todo);
        spanning::run(bridge, &mut machines, now, &mut todo);
        let hops = machines.in_band.look(world, &bridge.name, now);
        todo.hops.extend(hops.map(|hops| (bridge.id, hops)));
    }
    todo
}

/// Ports whose sessions have something to do.
pub(super) fn due_sessions(world: &World, now: Msec) -> Vec<(BridgeId, OfPort)> {
    let mut due = Vec::new();
    for bridge in world.bridges.values() {
        let machines = bridge.protocols.lock();
        due.extend(machines.sessions.iter().filter(|(_, s)| s.wake_ms() <= now).map(|(port, _)| (bridge.id, *port)));
    }
    due
}

/// What the sessions of a port have to send.
pub(super) fn transmit(world: &World, id: BridgeId, number: OfPort, now: Msec) -> Vec<Frame> {
    let Some(bridge) = world.bridges.get(&id) else { return Vec::new() };
    let Some(mac) = bridge.ports.get(&number).map(|p| p.info.mac) else { return Vec::new() };
    let mut machines = bridge.protocols.lock();
    let Some(sessions) = machines.sessions.get_mut(&number) else { return Vec::new() };
    let cfm = sessions.cfm.as_mut().and_then(|c| c.transmit(mac, now)).map(|bytes| (bytes, false));
    let bfd = sessions.bfd.as_mut().and_then(|b| b.transmit(mac, now).map(|bytes| (bytes, b.settings().oam)));
    let lldp = sessions.lldp.as_mut().and_then(|l| l.transmit(mac, now)).map(|bytes| (bytes, false));
    let frame = |(bytes, oam)| Frame { bridge: id, port: number, bytes, oam };
    [cfm, bfd, lldp].into_iter().flatten().map(frame).collect()
}

/// What time does to the sessions of a port.
pub(super) fn run_sessions(world: &World, id: BridgeId, number: OfPort, now: Msec) {
    let Some(bridge) = world.bridges.get(&id) else { return };
    let Some(port) = bridge.ports.get(&number) else { return };
    let mut machines = bridge.protocols.lock();
    let Some(sessions) = machines.sessions.get_mut(&number) else { return };
    let rx_packets = || world.rx_packets(bridge, port);
    let mut changed = false;
    if let Some(cfm) = &mut sessions.cfm {
        cfm.run(rx_packets, now);
        changed |= cfm.take_changed();
    }
    if let Some(bfd) = &mut sessions.bfd {
        bfd.run(rx_packets, now);
        changed |= bfd.take_changed();
    }
    if changed {
        world.wake.note_news();
    }
}

fn run_lacps(bridge: &Bridge, machines: &mut Machines, now: Msec, todo: &mut Todo) {
    for (bundle, lacp) in &mut machines.lacps {
        let ports = bridge.bundles.get(bundle).map_or(&[][..], |b| &b.ports);
        for port in ports.iter().filter_map(|p| bridge.ports.get(p)) {
            lacp.observe_carrier(port.number, port.is_up(), port.info.link_resets, now);
        }
        for (port, actor, partner) in lacp.run(now) {
            let Some(mac) = bridge.ports.get(&port).map(|p| p.info.mac) else { continue };
            let bytes = lacp::wire::frame(mac, &actor, &partner);
            todo.frames.push(Frame { bridge: bridge.id, port, bytes, oam: false });
        }
    }
}

/// Whether nothing but the link itself keeps a port from carrying traffic: of BFD and CFM one has to say yes, and LACP if there is any.
fn may_enable(port: &Port, machines: &mut Machines, now: Msec) -> bool {
    let watched = machines.sessions.get_mut(&port.number).is_none_or(|sessions| {
        if sessions.cfm.is_none() && sessions.bfd.is_none() {
            return true;
        }
        let cfm = sessions.cfm.as_ref().is_some_and(crate::cfm::Session::is_forwarding);
        cfm || sessions.bfd.as_mut().is_some_and(|b| b.is_forwarding(now))
    });
    let lacp = port.bundle.and_then(|b| machines.lacps.get(&b));
    watched && lacp.is_none_or(|l| l.may_enable(port.number))
}

/// The members of a bundle as a bond sees them.
pub(super) fn links(bridge: &Bridge, ports: &[OfPort], lacp: Option<&Lacp>) -> Vec<(OfPort, Link)> {
    let link = |port: &Port| {
        let may_enable = port.is_up() && port.watch.may_enable && lacp.is_none_or(|l| l.may_enable(port.number));
        Link { name: port.name.clone(), mac: port.info.mac, carrier: port.is_up(), may_enable }
    };
    ports.iter().filter_map(|p| bridge.ports.get(p)).map(|p| (p.number, link(p))).collect()
}

fn run_bonds((world, bridge): (&World, &Bridge), machines: &mut Machines, now: Msec, todo: &mut Todo) {
    if machines.bonds.is_empty() {
        return;
    }
    let mut bonds = std::mem::take(&mut machines.bonds);
    for (bundle, entry) in &mut bonds {
        let ports = bridge.bundles.get(bundle).map_or(&[][..], |b| &b.ports);
        let lacp = machines.lacps.get(bundle);
        let status = match lacp {
            None => LacpStatus::Off,
            Some(lacp) if lacp.is_negotiated() => LacpStatus::Negotiated,
            Some(_) => LacpStatus::Configured,
        };
        let mut links = links(bridge, ports, None);
        for (number, link) in &mut links {
            // As of now, not as of the last pass.
            let port = bridge.ports.get(number);
            link.may_enable = link.carrier && port.is_some_and(|p| may_enable(p, machines, now));
        }
        entry.bond.set_members(links);
        entry.account_rules();
        if let Some(backend) = world.backend(bridge.id) {
            entry.account_table(backend.dp.as_ref());
        }
        entry.bond.rebalance(now);
        entry.bond.run(status, now);
        if entry.bond.take_must_teach() {
            todo.teach.push((bridge.id, *bundle));
        }
        if entry.bond.take_changed() || entry.is_outdated(bridge) {
            todo.bonds.push((bridge.id, *bundle));
        }
    }
    machines.bonds = bonds;
}
