//! Configuration of the protocols: machines come, change and go with the ports and settings.

use super::{BondEntry, Machines, Sessions};
use crate::bond::{self, Bond};
use crate::bridge::{Bridge, Bundle, BundleId};
use crate::config::{BridgeConfig, InterfaceConfig, PortConfig};
use crate::deps::Object;
use crate::in_band::InBand;
use crate::lacp::{self, Lacp, MemberSettings};
use crate::table::INTERNAL;
use crate::world::{BridgeId, World};
use crate::xlate::frozen::FrozenState;
use crate::{bfd, cfm, flow_mod, in_band, lldp};
use flow::hash::{Hasher, Map};
use flow::{Key, Msec};
use openflow::{OfPort, TableId};
use std::sync::Arc;

/// Makes the machines of a bridge those of its configuration. Called with the bridge's ports, bundles and MAC settled.
pub fn configure(world: &mut World, id: BridgeId, wanted: &BridgeConfig, now: Msec) {
    let Some(bridge) = world.bridges.get(&id) else { return };
    let mut machines = std::mem::take(&mut *bridge.protocols.lock());
    let mut changed = configure_sessions(world, bridge, wanted, &mut machines, now);
    configure_lacps(bridge, wanted, &mut machines, now);
    configure_bonds(world, bridge, wanted, &mut machines, now);
    let has_in_band = configure_in_band(world, bridge, wanted, &mut machines);
    let spanning = super::spanning::configure(bridge, wanted, &mut machines, now);
    let lacp_ports: Vec<OfPort> =
        machines.lacps.keys().filter_map(|b| bridge.bundles.get(b)).flat_map(|b| b.ports.iter().copied()).collect();
    if let Some(bridge) = world.bridges.get_mut(&id) {
        for (number, port) in &mut bridge.ports {
            let sessions = machines.sessions.get(number);
            let mut watch = port.watch.clone();
            watch.bfd = sessions.and_then(|s| s.bfd.as_ref()).map(|s| s.settings().filter());
            watch.cfm = sessions.and_then(|s| s.cfm.as_ref()).map(|s| s.settings().filter());
            watch.lacp = lacp_ports.contains(number);
            watch.lldp = sessions.is_some_and(|s| s.lldp.is_some());
            if watch != port.watch {
                port.watch = watch;
                changed.push(*number);
            }
        }
        *bridge.protocols.lock() = machines;
        let before = (bridge.spanning, bridge.in_band);
        (bridge.spanning, bridge.in_band) = (spanning, has_in_band);
        if before != (spanning, has_in_band) {
            world.changed(Object::Bridge(id));
        }
    }
    for port in changed {
        world.changed(Object::Port(id, port));
        world.wake.note_news();
    }
    world.wake.wake();
}

fn interfaces(wanted: &BridgeConfig) -> impl Iterator<Item = &InterfaceConfig> {
    wanted.ports.iter().flat_map(|p| &p.interfaces)
}

/// BFD and CFM. Gives the ports whose sessions came or went.
fn configure_sessions(world: &World, bridge: &Bridge, wanted: &BridgeConfig, machines: &mut Machines, now: Msec) -> Vec<OfPort> {
    let mut changed = Vec::new();
    let mut old = std::mem::take(&mut machines.sessions);
    for interface in interfaces(wanted) {
        let bfd = bfd::Settings::read(&interface.bfd);
        let cfm =
            interface.cfm_mpid.and_then(|mpid| cfm::Settings::read(mpid, &interface.other_config, &interface.device.options));
        let speaks_lldp = lldp::is_enabled(&interface.lldp);
        if interface.cfm_mpid.is_some() && cfm.is_none() {
            let (bridge, name) = (&bridge.name, &interface.name);
            tracing::warn!(target: "ofproto", rl = 5, burst = 5, "{bridge}: CFM configuration on port {name} failed (Invalid argument)");
        }
        if bfd.is_none() && cfm.is_none() && !speaks_lldp {
            continue;
        }
        let Some(port) = bridge.port_named(&interface.name) else { continue };
        let rx_packets = world.rx_packets(bridge, port);
        let mut sessions = old.remove(&port.number).unwrap_or_default();
        let before = kinds(&sessions);
        sessions.bfd = bfd.map(|settings| match sessions.bfd.take() {
            Some(mut session) => {
                session.configure(settings, rx_packets, now);
                session
            }
            None => new_bfd(world, &port.name, settings),
        });
        sessions.cfm = cfm.map(|settings| match sessions.cfm.take() {
            Some(mut session) => {
                session.configure(settings, rx_packets, now);
                session
            }
            None => cfm::Session::new(&port.name, settings, rx_packets, world.wake.next_session(), now),
        });
        sessions.lldp = speaks_lldp.then(|| {
            let wants = wanted.auto_attach.clone();
            let mut session = sessions.lldp.take().unwrap_or_else(|| lldp::Session::new(&port.name, wants.clone(), now));
            session.configure(wants, now);
            session
        });
        if before != kinds(&sessions) {
            changed.push(port.number);
        }
        machines.sessions.insert(port.number, sessions);
    }
    changed.extend(old.into_keys());
    changed
}

/// Which sessions there are.
fn kinds(sessions: &Sessions) -> [bool; 3] {
    [sessions.bfd.is_some(), sessions.cfm.is_some(), sessions.lldp.is_some()]
}

/// The discriminator is random above and unique below; the source port is unique as far as there are numbers (RFC 5881 section 4).
fn new_bfd(world: &World, name: &str, settings: bfd::Settings) -> bfd::Session {
    let number = world.wake.next_session();
    let random = Hasher::new().hash_one(u64::from(number)).to_be_bytes();
    let unique = number % 0xffff + 1;
    let disc = u32::from_be_bytes([random[0], random[1], 0, 0]) | unique;
    let udp_src = 49_152 + u16::try_from(number % 16_384).expect("a remainder of 16384");
    bfd::Session::new(name, settings, disc, udp_src)
}

/// The bundle of a port that is in the world, with its row.
fn bundles<'a>(bridge: &'a Bridge, wanted: &'a BridgeConfig) -> impl Iterator<Item = (BundleId, &'a [OfPort], &'a PortConfig)> {
    let named: Map<&'a str, &'a Bundle> = bridge.bundles.values().map(|b| (b.name.as_str(), b)).collect();
    wanted.ports.iter().filter_map(move |row| named.get(row.name.as_str()).map(|b| (b.id, &b.ports[..], row)))
}

fn configure_lacps(bridge: &Bridge, wanted: &BridgeConfig, machines: &mut Machines, now: Msec) {
    let mut old = std::mem::take(&mut machines.lacps);
    for (id, ports, row) in bundles(bridge, wanted) {
        let Some(settings) = lacp::Settings::read(&row.name, &row.lacp, &row.other_config, bridge.mac, row.interfaces.len())
        else {
            continue;
        };
        let mut lacp = old.remove(&id).unwrap_or_else(|| Lacp::new(&row.name, settings.clone()));
        lacp.configure(settings);
        let members: Vec<(OfPort, MemberSettings)> = ports
            .iter()
            .filter_map(|number| bridge.ports.get(number))
            .map(|port| {
                let interface = row.interfaces.iter().find(|i| i.name == port.name);
                let other = interface.map_or(&[][..], |i| &i.other_config);
                (port.number, MemberSettings::read(&port.name, port.number, other))
            })
            .collect();
        lacp.set_members(&members, now);
        machines.lacps.insert(id, lacp);
    }
}

fn configure_bonds(world: &World, bridge: &Bridge, wanted: &BridgeConfig, machines: &mut Machines, now: Msec) {
    let mut old = std::mem::take(&mut machines.bonds);
    let features = world.backend(bridge.id).map(|b| b.features.clone());
    let can_lb_output = features.is_some_and(|f| f.lb_output);
    for (id, ports, row) in bundles(bridge, wanted).filter(|(_, ports, _)| ports.len() > 1) {
        let Some(config) = &row.bond else { continue };
        let settings = bond::Settings::read(config, &row.other_config, can_lb_output);
        let mut entry = old.remove(&id).unwrap_or_else(|| {
            let recirc = world.recircs.allocate(Arc::new(behind_the_hash(bridge.id, id)));
            let recirc_id = recirc.as_ref().map_or(0, |r| r.id);
            let active = config.active_mac.unwrap_or_default();
            let bond = Bond::new(&row.name, settings.clone(), recirc_id, active, now);
            BondEntry { bond, recirc, rules: std::collections::BTreeMap::new(), table: None, accounted: None }
        });
        entry.bond.configure(settings, now);
        entry.bond.set_members(super::run::links(bridge, ports, machines.lacps.get(&id)));
        // Before the first translation that leaves the choice of the member to the datapath.
        super::apply::refresh_table(world, bridge, &mut entry);
        machines.bonds.insert(id, entry);
    }
    for (id, entry) in old {
        super::apply::drop_rules(world, bridge.id, entry);
        world.changed(Object::Bundle(bridge.id, id));
    }
}

/// The rules for in-band control: those that are new are put, those that are not wanted any more taken. Whether there are any.
fn configure_in_band(world: &World, bridge: &Bridge, wanted: &BridgeConfig, machines: &mut Machines) -> bool {
    let remotes = in_band::remotes(wanted);
    let hops = std::mem::take(&mut machines.in_band.hops);
    let rules = in_band::rules(bridge.mac, &remotes, &hops);
    put_in_band(world, bridge, InBand::new(rules, wanted.in_band_queue, remotes, hops), machines);
    !machines.in_band.rules.is_empty()
}

/// The next hops towards the controllers have other MACs.
pub(super) fn change_hops(world: &World, bridge: &Bridge, hops: Vec<[u8; 6]>) {
    let mut machines = bridge.protocols.lock();
    let InBand { queue, remotes, .. } = &machines.in_band;
    let rules = in_band::rules(bridge.mac, remotes, &hops);
    let wanted = InBand::new(rules, *queue, remotes.clone(), hops);
    put_in_band(world, bridge, wanted, &mut machines);
}

fn put_in_band(world: &World, bridge: &Bridge, wanted: InBand, machines: &mut Machines) {
    let old = std::mem::replace(&mut machines.in_band, wanted);
    let InBand { rules, queue, .. } = &machines.in_band;
    for (priority, matching) in old.rules.iter().filter(|rule| !rules.contains(rule)) {
        flow_mod::take_own_match(world, bridge.id, TableId(0), *priority, matching);
    }
    for (priority, matching) in rules.iter().filter(|rule| old.queue != *queue || !old.rules.contains(rule)) {
        flow_mod::put_own_match(world, bridge.id, TableId(0), *priority, matching, in_band::actions(*queue));
    }
}

/// What a packet that the datapath has hashed for a bond goes on with: a lookup in the internal table. Mirrors have had it already.
fn behind_the_hash(bridge: BridgeId, bundle: BundleId) -> FrozenState {
    FrozenState {
        bridge,
        table: INTERNAL,
        metadata: Key { in_port: OfPort::ANY.to_key(), ..Key::ZERO },
        written: FrozenState::whole_tunnel(),
        conntracked: false,
        stack: Vec::new(),
        mirrors: u32::MAX,
        steps: Vec::new(),
        action_set: Vec::new(),
        // Only makes the state this bond's own.
        userdata: bundle.0.to_be_bytes().to_vec(),
    }
}
