//! Carrying out what a pass wants: liveness of ports, rules behind bonds' hashes, frames.

use super::run::{self, Frame};
use super::{BondEntry, Gate, Machines};
use crate::bridge::{Bridge, BundleId};
use crate::deps::Object;
use crate::flow_mod;
use crate::slowpath::{Slowpath, modified, port_changed};
use crate::table::INTERNAL;
use crate::world::{BridgeId, World};
use crate::{rstp, stp};
use flow::Msec;
use flow::key::Key;
use flow::matching::Match;
use flow::seam::{BOND_BUCKETS, BondTable, Datapath};
use openflow::OfPort;
use openflow::action::OfAction;
use std::sync::Arc;

/// Priority of the rules behind a bond's hash.
const RECIRC_PRIORITY: i32 = 20;
/// Passes at one point in time: a packet may be answered, and the answer be answered.
const PASSES_MAX: usize = 8;
/// Most neighbours that a failover tells of.
const TEACH_MAX: usize = 65_536;

impl Slowpath {
    /// Gives the protocols their time, until nothing more is due at `now`. Gives the time at which something will be.
    ///
    /// One caller at a time: what a pass wants done is done before another pass looks.
    pub(crate) fn run_protocols(&self, now: Msec) -> Msec {
        let _turn = self.protocols_turn.lock().expect("no pass of the protocols panics");
        for _ in 0..PASSES_MAX {
            self.world_wake().take_due();
            self.run_sessions(now);
            let todo = run::pass(&self.read_world(), now);
            if !todo.enables.is_empty() || !todo.gates.is_empty() || !todo.hops.is_empty() {
                let mut world = self.write_world();
                for (bridge, hops) in todo.hops {
                    if let Some(bridge) = world.bridges.get(&bridge) {
                        super::configure::change_hops(&world, bridge, hops);
                    }
                }
                for (bridge, port, gate) in todo.gates {
                    set_gate(&mut world, bridge, port, gate, now);
                }
                for (bridge, port, may) in todo.enables {
                    set_may_enable(&mut world, bridge, port, may);
                }
            }
            let mut frames = todo.frames;
            if !todo.bonds.is_empty() || !todo.teach.is_empty() || !todo.flushes.is_empty() {
                let world = self.read_world();
                for (bridge, port) in todo.flushes {
                    flush(&world, bridge, port, now);
                }
                for (bridge, bundle) in todo.bonds {
                    refresh_bond(&world, bridge, bundle);
                }
                for (bridge, bundle) in todo.teach {
                    frames.extend(lessons(&world, bridge, bundle));
                }
            }
            self.send_frames(frames, now);
            let wake = self.protocols_wake_ms();
            if wake > now && !self.world_wake().take_due() {
                return wake;
            }
        }
        now + 1
    }

    /// One port after the other, so that a session hears what another has said at the same point in time before it speaks itself.
    fn run_sessions(&self, now: Msec) {
        let due = run::due_sessions(&self.read_world(), now);
        for (bridge, port) in due {
            let frames = run::transmit(&self.read_world(), bridge, port, now);
            self.send_frames(frames, now);
            run::run_sessions(&self.read_world(), bridge, port, now);
        }
    }

    fn protocols_wake_ms(&self) -> Msec {
        let world = self.read_world();
        world.bridges.values().map(|b| b.protocols.lock().wake_ms()).min().unwrap_or(Msec::MAX)
    }
}

/// A port may carry traffic now, or no longer.
fn set_may_enable(world: &mut World, id: BridgeId, number: OfPort, may: bool) {
    let Some(port) = world.bridges.get_mut(&id).and_then(|b| b.ports.get_mut(&number)) else { return };
    let before = port.view();
    if std::mem::replace(&mut port.watch.may_enable, may) == may {
        return;
    }
    port.refresh_state();
    let notice = modified(id, before, port, 0);
    port_changed(world, id, number);
    world.wake.note_news();
    if let Some(notice) = notice {
        world.notices.push(notice);
    }
}

/// Spanning tree lets a port do something else.
fn set_gate(world: &mut World, id: BridgeId, number: OfPort, gate: Gate, now: Msec) {
    let Some(bridge) = world.bridges.get_mut(&id) else { return };
    let Some(port) = bridge.ports.get_mut(&number) else { return };
    let before = port.view();
    let old = std::mem::replace(&mut port.watch.gate, gate);
    if old == gate {
        return;
    }
    if let Some((protocol, from, to)) = said_of(old, gate) {
        tracing::debug!(target: "ofproto_dpif", "port {}: {protocol} state changed from {from} to {to}", port.name);
    }
    port.refresh_state();
    let notice = modified(id, before, port, 0);
    bridge.refresh_floodable();
    port_changed(world, id, number);
    world.wake.note_news();
    if old.learns() != gate.learns() {
        let whole = !matches!(gate, Gate::Rstp(_)) && !matches!(old, Gate::Rstp(_));
        flush(world, id, if whole { None } else { Some(number) }, now);
    }
    if let Some(notice) = notice {
        world.notices.push(notice);
    }
}

/// Protocol, old and new state as the log has them; nothing where they have one name, as when a port without a link joins or leaves a tree.
fn said_of(old: Gate, new: Gate) -> Option<(&'static str, &'static str, &'static str)> {
    let (protocol, _) = if new == Gate::default() { old.names() } else { new.names() };
    // A port that takes no part is disabled to either protocol, each in its own words.
    let disabled = if protocol == "RSTP" { rstp::State::Disabled.name() } else { stp::State::Disabled.name() };
    let [from, to] = [old, new].map(|gate| if gate == Gate::default() { disabled } else { gate.names().1 });
    (from != to).then_some((protocol, from, to))
}

/// What was learned may be wrong now: all of a bridge, or what is behind one port.
fn flush(world: &World, id: BridgeId, port: Option<OfPort>, now: Msec) {
    let Some(bridge) = world.bridges.get(&id) else { return };
    match port {
        None => {
            bridge.macs.flush(now);
            if let Some(mcast) = &bridge.mcast {
                mcast.flush();
            }
        }
        Some(port) => {
            if let Some(bundle) = bridge.bundle_of(port) {
                bridge.macs.flush_bundle(bundle.id, now);
                if let Some(mcast) = &bridge.mcast {
                    mcast.forget_bundle(bundle.id);
                }
            }
        }
    }
}

/// The bond has changed: its rules follow, and whoever asked it asks again.
fn refresh_bond(world: &World, id: BridgeId, bundle: BundleId) {
    let Some(bridge) = world.bridges.get(&id) else { return };
    if let Some(entry) = bridge.protocols.lock().bonds.get_mut(&bundle) {
        refresh_rules(world, id, entry);
        refresh_table(world, bridge, entry);
    }
    world.changed(Object::Bundle(id, bundle));
    world.wake.note_news();
}

/// Matches packets that a bond's datapath hash has put into a bucket.
fn bucket_match(recirc_id: u32, bucket: u8) -> Match {
    let key = Key { recirc_id: recirc_id.to_be_bytes(), dp_hash: u32::from(bucket).to_be_bytes(), ..Key::ZERO };
    let mask = Key { recirc_id: [0xff; 4], dp_hash: [0, 0, 0, 0xff], ..Key::ZERO };
    Match::new(&key, &mask)
}

fn refresh_rules(world: &World, id: BridgeId, entry: &mut BondEntry) {
    let Some((recirc_id, false)) = entry.bond.recirculation() else {
        drop_entry_rules(world, id, entry);
        return;
    };
    for (bucket, member) in (0u8..=255).zip(entry.bond.table()) {
        let Some(member) = member.filter(|m| entry.rules.get(&bucket).is_none_or(|(old, ..)| old != m)) else { continue };
        let accounted = entry.rules.get(&bucket).map_or(0, |(.., bytes)| *bytes);
        let actions = vec![OfAction::Output { port: member, max_len: 0 }];
        let rule = flow_mod::put_own_match(world, id, INTERNAL, RECIRC_PRIORITY, &bucket_match(recirc_id, bucket), actions);
        if let Some(rule) = rule {
            entry.rules.insert(bucket, (member, rule, accounted));
        }
    }
}

/// Gives the datapath the table of a bond whose members it chooses among itself, or takes it away.
pub(super) fn refresh_table(world: &World, bridge: &Bridge, entry: &mut BondEntry) {
    let Some(dp) = world.backend(bridge.id).map(|b| &b.dp) else { return };
    let Some(recirc_id) = entry.recirc.as_ref().map(|r| r.id) else { return };
    let table = entry.table_wanted(bridge);
    if entry.table == table {
        return;
    }
    match &table {
        Some(table) => {
            if let Err(error) = dp.bond_set(recirc_id, table) {
                tracing::warn!(target: "ofproto_dpif", "bond {}: {error}", entry.bond.name());
                return;
            }
        }
        None => dp.bond_del(recirc_id),
    }
    if table.is_none() || entry.table.is_none() {
        entry.accounted = None;
    }
    entry.table = table;
}

fn drop_entry_rules(world: &World, id: BridgeId, entry: &mut BondEntry) {
    let recirc_id = entry.recirc.as_ref().map_or(0, |r| r.id);
    for bucket in std::mem::take(&mut entry.rules).into_keys() {
        flow_mod::take_own_match(world, id, INTERNAL, RECIRC_PRIORITY, &bucket_match(recirc_id, bucket));
    }
}

/// A bond has gone.
pub(super) fn drop_rules(world: &World, id: BridgeId, mut entry: BondEntry) {
    drop_entry_rules(world, id, &mut entry);
    if let (Some(_), Some(recirc), Some(backend)) = (&entry.table, &entry.recirc, world.backend(id)) {
        backend.dp.bond_del(recirc.id);
    }
}

impl BondEntry {
    /// The table that the datapath is to have.
    fn table_wanted(&self, bridge: &Bridge) -> Option<Box<BondTable>> {
        self.bond.recirculation().filter(|(_, lb_output)| *lb_output)?;
        let members = self.bond.table();
        let port = |member: OfPort| bridge.ports.get(&member).and_then(|p| p.dp_port);
        Some(Box::new(std::array::from_fn(|i| members.get(i).copied().flatten().and_then(port))))
    }

    /// Takes up what the datapath has counted by bucket since the last time.
    pub(super) fn account_table(&mut self, dp: &dyn Datapath) {
        let (Some(_), Some(recirc)) = (&self.table, &self.recirc) else { return };
        let Some(bytes) = dp.bond_bytes(recirc.id) else { return };
        let before = self.accounted.replace(Box::new(bytes)).unwrap_or_else(|| Box::new([0; BOND_BUCKETS]));
        for (bucket, (now, before)) in (0u8..=255).zip(bytes.iter().zip(before.iter())) {
            self.bond.account(bucket, now.saturating_sub(*before));
        }
    }

    /// Takes up what the rules have counted since the last time.
    pub(super) fn account_rules(&mut self) {
        for (bucket, (_, rule, accounted)) in &mut self.rules {
            let (_, bytes) = rule.life.tally.read();
            self.bond.account(*bucket, bytes.saturating_sub(*accounted));
            *accounted = bytes;
        }
    }

    /// Whether the rules, or the datapath's table, lead to other members than the buckets.
    pub(super) fn is_outdated(&self, bridge: &Bridge) -> bool {
        match self.bond.recirculation() {
            Some((_, false)) => (0u8..=255)
                .zip(self.bond.table())
                .any(|(bucket, member)| member.is_some() && self.rules.get(&bucket).map(|(m, ..)| *m) != member),
            Some((_, true)) | None => !self.rules.is_empty() || self.table != self.table_wanted(bridge),
        }
    }
}

/// A packet from each MAC that is not behind the bond itself, so that the neighbours learn where it is to be found now: a reverse ARP, which
/// nobody answers (RFC 903).
fn lessons(world: &World, id: BridgeId, bundle: BundleId) -> Vec<Frame> {
    let Some(bridge) = world.bridges.get(&id) else { return Vec::new() };
    let entries = bridge.macs.entries();
    let mut machines = bridge.protocols.lock();
    let strangers = entries.iter().filter(|e| e.bundle != bundle).take(TEACH_MAX);
    strangers.filter_map(|e| lesson(bridge, &mut machines, bundle, e.mac, e.vlan)).collect()
}

fn lesson(bridge: &Bridge, machines: &mut Machines, bundle: BundleId, mac: [u8; 6], vlan: u16) -> Option<Frame> {
    let key = Key { eth_src: mac, ..Key::ZERO };
    let (port, _) = machines.bonds.get_mut(&bundle)?.bond.output(&key, None, vlan)?;
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(&[0xff; 6]);
    bytes.extend_from_slice(&mac);
    if vlan != 0 {
        bytes.extend_from_slice(&[0x81, 0]);
        bytes.extend_from_slice(&vlan.to_be_bytes());
    }
    // Ethernet, IPv4, request reverse: our own MAC, addresses unknown.
    bytes.extend_from_slice(&[0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
    for _ in 0..2 {
        bytes.extend_from_slice(&mac);
        bytes.extend_from_slice(&[0; 4]);
    }
    bytes.resize(bytes.len().max(60), 0);
    Some(Frame { bridge: bridge.id, port, bytes, oam: false })
}

impl Slowpath {
    /// How often something has changed that the database tells of.
    #[must_use]
    pub fn news(&self) -> u64 {
        self.world_wake().news()
    }

    /// Returns when there is something new to be told since the last call did. For one caller.
    pub async fn wait_for_news(&self) {
        self.world_wake().wait_for_news().await;
    }

    pub(crate) fn world_wake(&self) -> Arc<super::Wake> {
        Arc::clone(&self.read_world().wake)
    }
}

#[cfg(test)]
mod tests {
    use super::{Gate, rstp, said_of, stp};

    #[test]
    fn what_is_said_of_a_port_that_joins_or_leaves_a_tree() {
        let (blocking, forwarding) = (Gate::Stp(stp::State::Blocking), Gate::Rstp(rstp::State::Forwarding));
        assert_eq!(said_of(Gate::Open, blocking), Some(("STP", stp::State::Disabled.name(), stp::State::Blocking.name())));
        assert_eq!(said_of(forwarding, Gate::Open), Some(("RSTP", rstp::State::Forwarding.name(), rstp::State::Disabled.name())));
        for without_link in [Gate::Stp(stp::State::Disabled), Gate::Rstp(rstp::State::Disabled)] {
            assert_eq!([said_of(Gate::Open, without_link), said_of(without_link, Gate::Open)], [None; 2]);
        }
    }
}
