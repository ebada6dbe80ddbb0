//! The steps of `configure`: ports out of and into the world, devices opened and closed, bundles, patch pairs, MACs.

use super::plan::{self, Plan};
use super::tunnels::{self, put_tunnel, remove_tunnel};
use super::{Applied, BundleNames, Interface, Key, Opened, Slowpath, mirrors};
use crate::bridge::{Bridge, Bundle, BundleId, PatchTally, Port, PortView, random_mac};
use crate::classifier::PrefixField;
use crate::config::{BridgeConfig, InterfaceConfig, PortConfig, SwitchConfig};
use crate::deps::{ChangeLog, Object};
use crate::effects::Notice;
use crate::eviction;
use crate::flow_mod::Journal;
use crate::mac;
use crate::mcast::McastTable;
use crate::protocols::{self, Spanning, Watch};
use crate::table::Table;
use crate::tunnel::Config;
use crate::udpif::Udpif;
use crate::world::{BridgeId, World};
use flow::Msec;
use flow::hash::{Map, Set};
use flow::seam::{Datapath, DpError, DpPort, PortInfo, PortRequest};
use openflow::OfPort;
use std::sync::Arc;

const REASON_ADD: u8 = 0;
const REASON_DELETE: u8 = 1;

impl Slowpath {
    /// Takes ports out of the world; gives the datapath ports to close once megaflows have settled.
    pub(super) fn take_out(&self, plan: &Plan, applied: &mut Applied, now: Msec) -> Vec<(String, DpPort)> {
        let mut closed = Vec::new();
        if plan.remove.is_empty() {
            return closed;
        }
        let mut world = self.write_world();
        for key in &plan.remove {
            let Some(interface) = applied.interfaces.remove(key) else { continue };
            tracing::info!(target: "bridge", "bridge {}: deleted interface {} on port {}", key.0, key.1, printed(interface.number));
            if let Some((kind, port)) = remove_port(&mut world, &interface, now) {
                closed.push((kind, port));
            }
        }
        closed
    }

    /// A datapath port was deleted behind the configuration's back (`dpctl/del-if`): its interface is opened again by the next
    /// `configure`.
    pub(crate) fn forget_port(&self, dp: &dyn Datapath, port: DpPort) {
        let kind = dp.kind();
        if self.udpif(kind).is_none_or(|u| u.dp.name() != dp.name()) {
            return;
        }
        let mut applied = self.lock_applied();
        let found =
            applied.interfaces.iter().find(|(_, i)| i.dp_port == Some(port) && self.kind_of(i.bridge).as_deref() == Some(kind));
        let Some(key) = found.map(|(key, _)| key.clone()) else { return };
        if let Some(interface) = applied.interfaces.remove(&key) {
            remove_port(&mut self.write_world(), &interface, flow::clock::now_ms());
        }
        drop(applied);
        self.settle();
    }

    fn kind_of(&self, bridge: BridgeId) -> Option<String> {
        self.read_world().bridges.get(&bridge).map(|b| b.kind.clone())
    }

    pub(super) fn close_port(&self, kind: &str, port: DpPort) {
        let Some(udpif) = self.udpif(kind) else { return };
        if let Err(error) = udpif.dp.port_del(port) {
            tracing::debug!(target: "bridge", "port {} of {kind} could not be closed: {error}", port.0);
        }
    }

    pub(super) fn drop_bridges(&self, plan: &Plan) {
        let mut world = self.write_world();
        for name in &plan.remove_bridges {
            if let Some(id) = world.bridge_named(name).map(|b| b.id) {
                crate::conn::groups::free_meters(&mut world, id);
                world.bridges.remove(&id);
                world.changed(Object::Everything);
            }
        }
    }

    /// Opens devices. No lock of the world is held: opening may take long.
    pub(super) fn open_ports(&self, config: &SwitchConfig, plan: &Plan, applied: &mut Applied) -> Vec<Opened> {
        let added = plan.add.iter().map(|(bridge, interface)| (bridge.as_str(), interface.name.as_str()));
        let adjusted = plan.adjust.iter().map(|((bridge, interface), _)| (bridge.as_str(), interface.as_str()));
        let tried: Set<(&str, &str)> = added.chain(adjusted).collect();
        applied.errors.retain(|(bridge, interface), _| tried.contains(&(bridge.as_str(), interface.as_str())));
        let mut opened = Vec::new();
        for (bridge, interface) in &plan.add {
            let key = (bridge.clone(), interface.name.clone());
            let tunnel = match tunnels::kind_of(interface).map(|kind| self.tunnel_config(kind, interface)).transpose() {
                Ok(tunnel) => tunnel,
                Err(refusal) => {
                    if applied.errors.insert(key, refusal.text.clone()).as_ref() != Some(&refusal.text) {
                        refusal.log(&interface.name);
                    }
                    continue;
                }
            };
            match self.open_port(config, bridge, interface, tunnel.as_deref()) {
                Ok(dp_port) => {
                    applied.errors.remove(&key);
                    opened.push(Opened { bridge: bridge.clone(), interface: interface.name.clone(), dp_port, tunnel });
                }
                Err(text) => {
                    if applied.errors.get(&key) != Some(&text) {
                        tracing::warn!(target: "bridge", "{text}");
                    }
                    applied.errors.insert(key, text);
                }
            }
        }
        opened
    }

    fn open_port(
        &self,
        config: &SwitchConfig,
        bridge: &str,
        interface: &InterfaceConfig,
        tunnel: Option<&Config>,
    ) -> Result<Option<DpPort>, String> {
        if interface.device.kind == "patch" {
            return plan::check_patch(interface).map(|()| None);
        }
        let udpif = self.side(config, bridge).ok_or_else(|| format!("no datapath for bridge {bridge}"))?;
        let hwaddr = config.bridges.iter().find(|b| b.name == bridge && b.name == interface.name).and_then(|b| b.hwaddr);
        let request = PortRequest { mac: interface.device.mac.or(hwaddr), ..interface.device.clone() };
        let opened = match tunnel {
            Some(tunnel) => Self::backing_port(&udpif, tunnel),
            None => udpif.dp.port_add(&request),
        };
        match opened {
            Ok(port) => Ok(Some(port)),
            Err(DpError::Device(text)) => Err(text),
            Err(error) => Err(format!("could not add network device {} to ofproto ({error})", interface.name)),
        }
    }

    /// The side of the datapath that a bridge is configured to stand on.
    pub(super) fn side(&self, config: &SwitchConfig, bridge: &str) -> Option<Arc<Udpif>> {
        self.udpif(&config.bridges.iter().find(|b| b.name == bridge)?.datapath_type)
    }

    /// Puts opened ports into the world, after making the bridges that are new.
    pub(super) fn put_in(&self, config: &SwitchConfig, opened: Vec<Opened>, applied: &mut Applied, now: Msec) {
        let infos: Vec<_> = opened.iter().map(|o| self.info_of(config, o)).collect();
        let mut world = self.write_world();
        for bridge in &config.bridges {
            if world.bridge_named(&bridge.name).is_none() && world.backends.contains_key(&bridge.datapath_type) {
                let id = world.new_bridge_id();
                let changes = Arc::clone(&world.changes);
                world.bridges.insert(id, Bridge::new(id, bridge, changes));
            }
        }
        let wanted = by_name(config);
        for (o, info) in opened.into_iter().zip(infos) {
            let Some((bridge, interface)) = wanted.get(&(o.bridge.as_str(), o.interface.as_str())).copied() else { continue };
            let key = (o.bridge, o.interface);
            let new = insert_port(&mut world, bridge, interface, o.dp_port, info, now);
            if let (Some(new), Some(tunnel), Some(dp_port)) = (&new, &o.tunnel, o.dp_port) {
                let place = (new.bridge, new.number);
                if let Err(text) = put_tunnel(&mut world, &bridge.datapath_type, place, dp_port, tunnel) {
                    remove_port(&mut world, new, now);
                    tracing::warn!(target: "tunnel", "{}: attempting to add tunnel port with same config as another port", key.1);
                    applied.errors.insert(key.clone(), format!("could not add network device {} to ofproto ({text})", key.1));
                    continue;
                }
            }
            match new {
                Some(new) => {
                    tracing::info!(target: "bridge", "bridge {}: added interface {} on port {}", key.0, key.1, printed(new.number));
                    applied.interfaces.insert(key, new);
                }
                None => {
                    let text = format!("could not add network device {} to ofproto (Too many open ports)", key.1);
                    applied.errors.insert(key, text);
                }
            }
        }
        drop(world);
        self.follow_strangers();
    }

    fn info_of(&self, config: &SwitchConfig, opened: &Opened) -> PortInfo {
        if let (Some(tunnel), Some(port)) = (&opened.tunnel, opened.dp_port) {
            return tunnels::info(&opened.interface, [0; 6], port, tunnel);
        }
        match (opened.dp_port, self.side(config, &opened.bridge)) {
            (Some(port), Some(udpif)) => udpif.dp.port(port).unwrap_or_default(),
            (Some(_), None) => PortInfo::default(),
            (None, _) => patch_info(opened),
        }
    }

    /// Changes settings of ports that stay; and asks again for those that may have been refused when a port was opened, to tell of it.
    pub(super) fn adjust_ports(&self, config: &SwitchConfig, plan: &Plan, applied: &mut Applied) {
        for (key, want) in &plan.adjust {
            if applied.interfaces.get(key).is_some_and(tunnels::is_tunnel) {
                self.adjust_tunnel(config, key, want, applied);
            } else {
                self.adjust_port(config, key, want, applied);
            }
        }
        let wishes = |i: &InterfaceConfig| i.device.mtu.is_some() || i.device.mac.is_some() || i.device.qos.is_some();
        for (bridge, want) in plan.add.iter().filter(|(_, i)| wishes(i) && tunnels::kind_of(i).is_none()) {
            self.adjust_port(config, &(bridge.clone(), want.name.clone()), want, applied);
        }
    }

    fn adjust_port(&self, config: &SwitchConfig, key: &Key, want: &InterfaceConfig, applied: &mut Applied) {
        let Some(interface) = applied.interfaces.get_mut(key) else { return };
        // Also where something is refused: the rest of it is done.
        interface.request = want.device.clone();
        let (Some(port), Some(udpif)) = (interface.dp_port, self.side(config, &key.0)) else {
            applied.errors.remove(key);
            return;
        };
        match udpif.dp.port_set(port, &want.device) {
            Ok(()) => drop(applied.errors.remove(key)),
            Err(error) => {
                let text = format!("could not set configuration ({error})");
                if applied.errors.insert(key.clone(), text.clone()).as_ref() != Some(&text) {
                    tracing::warn!(target: "bridge", "{}: {text}", key.1);
                }
            }
        }
        self.follow_port(&udpif, port);
    }

    /// Everything about bridges that is not opening and closing: settings, bundles, pairs, MACs.
    pub(super) fn set_up_bridges(&self, config: &SwitchConfig, applied: &Applied) {
        let mut world = self.write_world();
        let settings = (config.vlan_limit, config.explicit_sampled_drops);
        if (world.vlan_limit, world.explicit_sampled_drops) != settings {
            (world.vlan_limit, world.explicit_sampled_drops) = settings;
            world.changed(Object::Everything);
        }
        world.upcalls = config.upcalls;
        for wanted in &config.bridges {
            let Some(id) = world.bridge_named(&wanted.name).map(|b| b.id) else { continue };
            set_up_bundles(&mut world, id, wanted);
            set_up_bridge(&mut world, id, wanted);
            if let Some(bridge) = world.bridges.get(&id) {
                let mut journal = Journal::default();
                bridge.tables.iter().for_each(|t| eviction::shrink(&world, bridge, t, &mut journal));
                journal.commit(&world);
            }
        }
        pair_patches(&mut world, config);
        let macs = choose_macs(&mut world);
        for wanted in &config.bridges {
            let Some(id) = world.bridge_named(&wanted.name).map(|b| b.id) else { continue };
            protocols::configure(&mut world, id, wanted, flow::clock::now_ms());
        }
        drop(world);
        for (bridge, mac) in macs {
            self.set_local_mac(config, &bridge, mac, applied);
        }
    }

    /// Gives the local port the bridge's MAC.
    fn set_local_mac(&self, config: &SwitchConfig, bridge: &str, mac: [u8; 6], applied: &Applied) {
        let Some(interface) = applied.interfaces.get(&(bridge.to_owned(), bridge.to_owned())) else { return };
        let (Some(port), Some(udpif)) = (interface.dp_port, self.side(config, bridge)) else { return };
        let request = PortRequest { mac: Some(mac), ..interface.request.clone() };
        if let Err(error) = udpif.dp.port_set(port, &request) {
            tracing::error!(target: "bridge", "bridge {bridge}: failed to set bridge Ethernet address: {error}");
        }
        self.follow_port(&udpif, port);
    }
}

fn printed(port: OfPort) -> u32 {
    port.0 & 0xffff
}

/// The interfaces of a configuration by the names of bridge and interface.
fn by_name(config: &SwitchConfig) -> Map<(&str, &str), (&BridgeConfig, &InterfaceConfig)> {
    let mut named = Map::default();
    for bridge in &config.bridges {
        for interface in bridge.ports.iter().flat_map(|p| &p.interfaces) {
            named.entry((bridge.name.as_str(), interface.name.as_str())).or_insert((bridge, interface));
        }
    }
    named
}

/// A patch port has no device: its MAC is made up (locally administered), its link is always up.
fn patch_info(opened: &Opened) -> PortInfo {
    PortInfo {
        name: opened.interface.clone(),
        kind: "patch".to_owned(),
        mac: random_mac(),
        admin_up: true,
        link_up: true,
        ..PortInfo::default()
    }
}

fn insert_port(
    world: &mut World,
    bridge: &BridgeConfig,
    interface: &InterfaceConfig,
    dp_port: Option<DpPort>,
    info: PortInfo,
    now: Msec,
) -> Option<Interface> {
    let id = world.bridge_named(&bridge.name)?.id;
    let b = world.bridges.get_mut(&id)?;
    let number = if interface.name == bridge.name {
        OfPort::LOCAL
    } else {
        let Bridge { numbers, ports, .. } = b;
        numbers.pick(interface.ofport_request.or(interface.ofport_before).map(u32::from), now, |p| ports.contains_key(&p))?
    };
    let mut port = Port {
        number,
        name: interface.name.clone(),
        kind: interface.device.kind.clone(),
        dp_port,
        info,
        config: 0,
        state: 0,
        bundle: None,
        peer: None,
        tunnel: None,
        patch: PatchTally::default(),
        watch: Watch::default(),
        created_ms: now,
    };
    port.refresh_state();
    let is_tunnel = tunnels::kind_of(interface).is_some();
    let view = Box::new(port.view());
    b.ports.insert(number, port);
    let kind = b.kind.clone();
    if let (Some(dp_port), Some(backend), false) = (dp_port, world.backends.get_mut(&kind), is_tunnel) {
        backend.ports.insert(dp_port, (id, number));
    }
    port_changed(world, id, number);
    world.routes_changed(Some(&interface.name));
    world.notices.push(Notice::PortStatus { bridge: id, reason: REASON_ADD, port: view, before: None, by: 0 });
    Some(Interface { bridge: id, number, dp_port, request: interface.device.clone(), mtu_refused: None })
}

fn remove_port(world: &mut World, interface: &Interface, now: Msec) -> Option<(String, DpPort)> {
    let bridge = world.bridges.get_mut(&interface.bridge)?;
    let port = bridge.ports.remove(&interface.number)?;
    bridge.numbers.free(port.number, now);
    if bridge.spanning == Spanning::Stp && port.watch.gate.learns() {
        // The tree changes: who was to be reached by it is to be reached by another way.
        bridge.macs.flush(now);
        if let Some(mcast) = &bridge.mcast {
            mcast.flush();
        }
    }
    if let Some(bundle) = port.bundle.and_then(|id| bridge.bundles.get_mut(&id)) {
        bundle.ports.retain(|p| *p != port.number);
    }
    let kind = bridge.kind.clone();
    if let Some((peer_bridge, peer)) = port.peer {
        if let Some(p) = world.bridges.get_mut(&peer_bridge).and_then(|b| b.ports.get_mut(&peer)) {
            p.peer = None;
        }
        port_changed(world, peer_bridge, peer);
    }
    let closed = if port.tunnel.is_some() {
        remove_tunnel(world, &kind, (interface.bridge, interface.number))
    } else {
        if let (Some(dp_port), Some(backend)) = (port.dp_port, world.backends.get_mut(&kind)) {
            backend.ports.remove(&dp_port);
        }
        port.dp_port
    };
    world.neighbours.flush(Some(&port.name), flow::clock::now_ms());
    if port.info.kind.starts_with("dummy") {
        // Its addresses were those of the port, which no kernel takes away.
        world.router.set_addresses(&port.name, Vec::new());
        world.router.retain(|_, route| route.user || route.device != port.name);
        world.changed(Object::Listening);
    }
    world.routes_changed(Some(&port.name));
    port_changed(world, interface.bridge, interface.number);
    let view = Box::new(port.view());
    world.notices.push(Notice::PortStatus { bridge: interface.bridge, reason: REASON_DELETE, port: view, before: None, by: 0 });
    Some((kind, closed?))
}

pub(crate) fn port_changed(world: &World, bridge: BridgeId, port: OfPort) {
    world.changed(Object::Port(bridge, port));
    world.changed(Object::Ports(bridge));
}

/// Makes the bundles those of the configuration; says so only if anything differs.
fn set_up_bundles(world: &mut World, id: BridgeId, wanted: &BridgeConfig) {
    let Some(bridge) = world.bridges.get_mut(&id) else { return };
    let names: BundleNames = bridge.bundles.values().map(|b| (b.name.clone(), b.id)).collect();
    let (mut changed, mut unlearned) = (Vec::new(), Vec::new());
    let staying: Set<&str> = wanted.ports.iter().map(|p| p.name.as_str()).collect();
    let gone = names.iter().filter(|(name, _)| !staying.contains(name.as_str()));
    for (_, bundle) in gone {
        let old = bridge.bundles.remove(bundle);
        unlearned.extend(forget_bundle(bridge, *bundle));
        changed.extend(old.into_iter().flat_map(|b| b.ports));
    }
    let numbers: Map<String, OfPort> = bridge.ports.values().map(|p| (p.name.clone(), p.number)).collect();
    for port in &wanted.ports {
        let bundle_id = names.get(&port.name).copied().unwrap_or_else(|| bridge.new_bundle_id());
        let bundle = make_bundle(&numbers, bundle_id, port);
        if bridge.bundles.get(&bundle_id).is_none_or(|b| !b.is_configured_as(&bundle)) {
            changed.extend(bundle.ports.iter().copied());
            // What was learned under other VLANs says nothing any more.
            forget_bundle(bridge, bundle_id);
            bridge.bundles.insert(bundle_id, bundle);
        }
    }
    let of_port: std::collections::BTreeMap<OfPort, _> =
        bridge.bundles.values().flat_map(|b| b.ports.iter().map(|p| (*p, b.id))).collect();
    for port in bridge.ports.values_mut() {
        port.bundle = of_port.get(&port.number).copied();
    }
    bridge.refresh_floodable();
    // Whoever was behind a port that is gone may be reached through another bridge now: those forget them too.
    for (vlan, mac) in unlearned {
        world.bridges.values().for_each(|b| b.macs.unlearn(vlan, mac));
    }
    for port in changed {
        port_changed(world, id, port);
    }
}

/// Forgets what was learned behind a bundle.
fn forget_bundle(bridge: &Bridge, bundle: BundleId) -> Vec<(u16, [u8; 6])> {
    if let Some(mcast) = &bridge.mcast {
        mcast.forget_bundle(bundle);
    }
    bridge.macs.forget_bundle(bundle)
}

fn make_bundle(numbers: &Map<String, OfPort>, id: BundleId, config: &PortConfig) -> Bundle {
    let mut bundle = Bundle::new(id, config);
    bundle.ports = config.interfaces.iter().filter_map(|i| numbers.get(&i.name).copied()).collect();
    bundle.ports.sort_unstable();
    bundle
}

fn set_up_bridge(world: &mut World, id: BridgeId, wanted: &BridgeConfig) {
    let features = world.backend(id).map(|b| b.features.clone());
    let Some(bridge) = world.bridges.get_mut(&id) else { return };
    let old = std::mem::replace(&mut bridge.config, wanted.clone());
    let mut objects = Vec::new();
    let settings = |c: &BridgeConfig| {
        let exports = (c.netflow.clone(), c.sflow.clone(), c.ipfix.clone(), c.flow_ipfix.clone());
        let flooding = (c.forward_bpdu, c.flood_vlans.clone(), c.mcast_snooping);
        (flooding, c.mirrors.clone(), c.fail_mode, c.other_config.clone(), exports)
    };
    let mirrors = mirrors::make(bridge, wanted);
    if settings(&old) != settings(wanted) || !mirrors::same(&bridge.mirrors, &mirrors) {
        objects.push(Object::Bridge(id));
        mirrors::set(bridge, mirrors);
    }
    bridge.tracks_connections = features.is_some_and(|f| f.ct);
    set_mcast(bridge, wanted, &world.changes);
    bridge.exporters.configure(&old, wanted, flow::clock::now_ms());
    bridge.macs.configure(
        if wanted.mac_table_size == 0 { mac::SIZE_DEFAULT } else { wanted.mac_table_size },
        if wanted.mac_aging_s == 0 { mac::IDLE_DEFAULT_MS } else { i64::from(wanted.mac_aging_s) * 1000 },
    );
    for table in &mut bridge.tables {
        let config = wanted.tables.iter().find(|(n, _)| *n == table.id.0).map(|(_, c)| c.clone()).unwrap_or_default();
        if table.config != config {
            set_prefixes(table, &config.prefixes);
            table.configure(&config);
            objects.push(Object::Table(id, table.id));
        }
    }
    for object in objects {
        world.changed(object);
    }
}

/// Multicast snooping begins, ends, or takes up other limits.
fn set_mcast(bridge: &mut Bridge, wanted: &BridgeConfig, changes: &Arc<ChangeLog>) {
    bridge.mcast = match (wanted.mcast_snooping, bridge.mcast.take()) {
        (None, _) => None,
        (Some(config), None) => Some(McastTable::new(bridge.id, Arc::clone(changes), config)),
        (Some(config), Some(table)) => {
            table.configure(config);
            Some(table)
        }
    };
}

/// `Flow_Table.prefixes`: nothing said means the usual ones, "none" none.
fn set_prefixes(table: &Table, names: &[String]) {
    let fields: Vec<PrefixField> = names.iter().filter_map(|n| PrefixField::by_name(n)).collect();
    let fields = if names.is_empty() { PrefixField::DEFAULT } else { &fields };
    table.rules.write().expect("no holder of a table's rules panics").set_prefixes(fields);
}

/// Joins patch ports that name each other and stand on the same datapath.
fn pair_patches(world: &mut World, config: &SwitchConfig) {
    let mut patches: Vec<(BridgeId, OfPort, &str, &str, &str)> = Vec::new();
    for (bridge, interface) in config.bridges.iter().flat_map(|b| b.ports.iter().flat_map(|p| &p.interfaces).map(move |i| (b, i)))
    {
        let Some(peer) = interface.peer.as_deref() else { continue };
        let Some(b) = world.bridge_named(&bridge.name) else { continue };
        let Some(port) = b.port_named(&interface.name).filter(|p| p.dp_port.is_none()) else { continue };
        patches.push((b.id, port.number, &bridge.datapath_type, &interface.name, peer));
    }
    for (bridge, port, kind, name, peer) in &patches {
        let other = patches.iter().find(|(_, _, k, n, p)| k == kind && n == peer && p == name).map(|(b, o, ..)| (*b, *o));
        let changed = world.bridges.get_mut(bridge).and_then(|b| b.ports.get_mut(port)).is_some_and(|p| {
            p.info.config = vec![("peer".to_owned(), (*peer).to_owned())];
            std::mem::replace(&mut p.peer, other) != other
        });
        if changed {
            port_changed(world, *bridge, *port);
        }
    }
}

/// The bridges' MACs and datapath ids; gives those whose local port must be told.
fn choose_macs(world: &mut World) -> Vec<(String, [u8; 6])> {
    let mut told = Vec::new();
    for bridge in world.bridges.values_mut() {
        let member =
            bridge.ports.values().filter(|p| p.number != OfPort::LOCAL).map(|p| p.info.mac).filter(|m| is_usable(*m)).min();
        let made_up = bridge.made_up_mac;
        let mac = bridge.config.hwaddr.or(member).unwrap_or(made_up);
        let in_use = bridge.ports.get(&OfPort::LOCAL).map(|p| p.info.mac);
        if in_use.is_some_and(|m| m != mac) {
            told.push((bridge.name.clone(), mac));
        }
        bridge.mac = mac;
        let id = bridge.config.datapath_id.unwrap_or_else(|| from_mac(mac));
        if bridge.datapath_id != id {
            bridge.datapath_id = id;
            tracing::info!(target: "bridge", "bridge {}: using datapath ID {id:016x}", bridge.name);
        }
    }
    told
}

/// Unicast, globally administered, not zero.
fn is_usable(mac: [u8; 6]) -> bool {
    mac[0] & 3 == 0 && mac != [0; 6]
}

fn from_mac(mac: [u8; 6]) -> u64 {
    mac.iter().fold(0, |id, byte| id << 8 | u64::from(*byte))
}

/// What OpenFlow is told of a port that changed: nothing, if nothing that it sees did.
pub(crate) fn changed_view(before: &PortView, port: &Port) -> Option<Box<PortView>> {
    let after = port.view();
    (after != *before).then(|| Box::new(after))
}

/// Names of what was asked for, to find an interface's error again.
pub(super) fn key_of(bridge: &Bridge, port: &Port) -> Key {
    (bridge.name.clone(), port.name.clone())
}
