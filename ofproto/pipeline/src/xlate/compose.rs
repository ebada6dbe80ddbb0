//! Where a packet leaves the bridge: a datapath port, a patch port's peer, a mirror; and the actions that wrap others (clone, ct).

use super::trace::Kind;
use super::{Ctx, clear_tunnel};
use crate::bridge::{Port, port_config};
use crate::deps::Object;
use crate::effects::Credit;
use flow::action::{Action, Ct, Nat};
use flow::fields::Field;
use flow::key::Key;
use openflow::action::{CtAction, Encap, NatAction, OfAction, Subfield};
use openflow::{OfPort, TableId};
use std::sync::Arc;

/// Bits of `flow::action::SLOW_REASONS`.
pub(super) const SLOW_ACTION: u32 = 64;
/// Deepest chain of patch ports.
const ETH_TYPE_TEB: u32 = 0;

impl Ctx<'_> {
    /// Sends the packet out of a port of the bridge, as it is now.
    pub(super) fn compose_output(&mut self, number: OfPort, last: bool) {
        let Some(port) = self.port(number) else {
            self.report(Kind::Warn, format_args!("Nonexistent output port"));
            return;
        };
        if port.config & port_config::NO_FWD != 0 {
            self.report(Kind::Detail, format_args!("OFPPC_NO_FWD set, skipping output"));
            return;
        }
        if port.config & port_config::PORT_DOWN != 0 {
            self.report(Kind::Detail, format_args!("Port {} is down, skipping output", port.name));
            return;
        }
        if self.is_between_protected(port) {
            self.report(Kind::Warn, format_args!("Flow is between protected ports, skipping output."));
            return;
        }
        match (port.dp_port, port.peer) {
            (_, Some((bridge, peer))) => self.through_patch(port, bridge, peer, last),
            (Some(dp_port), None) => {
                self.commit();
                if let Some(max_len) = self.truncate {
                    self.emit(Action::Trunc(max_len));
                }
                self.emit(Action::Output(dp_port));
                self.mirror_output(port);
            }
            (None, None) => {
                self.report(Kind::Warn, format_args!("Nonexistent output port"));
            }
        }
    }

    fn is_between_protected(&self, to: &Port) -> bool {
        let protected = |bundle: Option<&crate::bridge::Bundle>| bundle.is_some_and(|b| b.protected);
        protected(self.bridge.bundle_of(self.in_port())) && protected(self.bridge.bundle_of(to.number))
    }

    /// Into the bridge at the other end of a patch port. What happens there is undone for what comes after here.
    fn through_patch(&mut self, port: &Port, to: crate::world::BridgeId, peer: OfPort, last: bool) {
        if self.truncate.is_some() {
            self.report(Kind::Error, format_args!("Cannot truncate output to patch port"));
        }
        let Some(bridge) = self.world.bridges.get(&to) else { return };
        let Some(peer_port) = bridge.ports.get(&peer) else { return };
        self.deps.object(Object::Port(to, peer));
        self.deps.object(Object::Bridge(to));
        if !self.may_resubmit_across() {
            return;
        }
        let node = self.report(Kind::Bridge, format_args!("bridge(\"{}\")", bridge.name));
        let before = self.enter(node);
        self.credits.push(Credit::Tally(Arc::clone(&port.patch.tx)));
        self.credits.push(Credit::Tally(Arc::clone(&peer_port.patch.rx)));
        let old = self.leave_bridge();
        let from = std::mem::replace(&mut self.bridge, bridge);
        self.key.in_port = peer.to_key();
        self.key.metadata = [0; 8];
        self.key.regs = Key::ZERO.regs;
        self.key.actset_output = OfPort::UNSET.to_key();
        clear_tunnel(&mut self.key);
        self.conntracked = false;
        self.depth += 1;
        if peer_port.config & port_config::NO_RECV != 0 {
            self.report(Kind::Detail, format_args!("OFPPC_NO_RECV set, dropping"));
        } else if !self.reserved_for_mirror(peer) {
            self.mirror_input(peer);
            self.table = TableId(0);
            self.in_clone(last, |ctx| ctx.lookup_and_run(peer, TableId(0), true, true, true));
        }
        self.depth -= 1;
        self.bridge = from;
        self.come_back(old);
        self.enter(before);
    }

    fn may_resubmit_across(&mut self) -> bool {
        if self.depth >= super::DEPTH_MAX {
            self.fail(
                crate::effects::XlateError::RecursionTooDeep,
                format_args!("over max translation depth {}", super::DEPTH_MAX),
            );
        }
        self.error.is_none()
    }

    /// Runs `body` so that nothing of the packet is changed for what comes after. Where the changes can be taken back in the
    /// keys alone no datapath `clone` is needed; it is where the datapath itself is led away (ct, MPLS, meters).
    pub(super) fn in_clone(&mut self, last: bool, body: impl FnOnce(&mut Self)) {
        let old_key = self.key;
        let old_base = self.base;
        let old_mpls = self.was_mpls;
        let old_ct = self.conntracked;
        let begin = self.actions.len();
        let outer_freeze = std::mem::take(&mut self.freezing);
        let outer_frozen = std::mem::take(&mut self.frozen_actions);
        let outer_exit = std::mem::take(&mut self.exit);
        body(self);
        if self.freezing {
            self.freeze_now();
        } else {
            self.run_action_set();
            if self.freezing {
                self.freeze_now();
            }
        }
        if self.error.is_none() {
            self.exit = outer_exit;
        }
        self.freezing = outer_freeze;
        self.frozen_actions = outer_frozen;
        self.was_mpls = old_mpls;
        self.conntracked = old_ct;
        self.key = old_key;
        let inner = &self.actions[begin..];
        if !last && inner.iter().any(cannot_be_undone) {
            let inner = self.actions.split_off(begin);
            self.actions.push(Action::Clone(inner));
            self.base = old_base;
        }
    }

    /// clone(...)
    pub(super) fn clone_packet(&mut self, actions: &[OfAction], last: bool) {
        let set = std::mem::take(&mut self.action_set);
        let stack = self.stack.clone();
        // What was set so far must be in the packet before it is copied, not in the copy alone.
        if !last {
            self.commit();
        }
        self.in_clone(last, |ctx| ctx.run_actions(actions, true));
        self.stack = stack;
        self.action_set = set;
    }

    fn leave_bridge(&mut self) -> Outer {
        Outer {
            key: self.key,
            table: self.table,
            stack: std::mem::take(&mut self.stack),
            action_set: std::mem::take(&mut self.action_set),
            rule: self.rule.take(),
            rule_cookie: self.rule_cookie,
            conntracked: self.conntracked,
            mirrors: std::mem::take(&mut self.mirrors_done),
            truncate: self.truncate.take(),
            in_group: std::mem::take(&mut self.in_group),
            in_action_set: std::mem::take(&mut self.in_action_set),
        }
    }

    fn come_back(&mut self, old: Outer) {
        self.key = old.key;
        self.table = old.table;
        self.stack = old.stack;
        self.action_set = old.action_set;
        self.rule = old.rule;
        self.rule_cookie = old.rule_cookie;
        self.conntracked = old.conntracked;
        self.mirrors_done = old.mirrors;
        self.truncate = old.truncate;
        self.in_group = old.in_group;
        self.in_action_set = old.in_action_set;
    }

    // ---- mirrors ----

    /// Mirrors that select packets received on a port.
    pub(super) fn mirror_input(&mut self, port: OfPort) {
        self.mirror(port, true);
    }

    fn mirror_output(&mut self, port: &Port) {
        self.mirror(port.number, false);
    }

    fn mirror(&mut self, port: OfPort, input: bool) {
        if self.bridge.mirrors.is_empty() {
            return;
        }
        let Some(bundle) = self.bridge.bundle_of(port) else { return };
        let vid = u16::from_be_bytes(self.key.vlan_tci) & 0x0fff;
        let bridge = self.bridge;
        for (i, mirror) in bridge.mirrors.iter().enumerate() {
            let bit = 1u32 << i;
            let selected = if input { mirror.selects_input(bundle.id) } else { mirror.selects_output(bundle.id) };
            if self.mirrors_done & bit != 0 || !selected {
                continue;
            }
            if !mirror.vlans.is_empty() {
                self.mask.vlan_tci = [0x1f | self.mask.vlan_tci[0], 0xff];
                if !mirror.vlans.contains(vid) {
                    continue;
                }
            }
            self.mirrors_done |= bit;
            self.credits.push(Credit::Tally(Arc::clone(&mirror.tally)));
            let Some(to) = mirror.output.and_then(|b| bridge.bundles.get(&b)) else { continue };
            for number in to.ports.clone() {
                let Some(dp_port) = self.port(number).and_then(|p| p.dp_port) else { continue };
                self.commit();
                if let Some(len) = mirror.snaplen {
                    self.emit(Action::Trunc(u32::from(len)));
                }
                self.emit(Action::Output(dp_port));
            }
        }
    }

    // ---- conntrack ----

    /// ct(...)
    pub(super) fn conntrack(&mut self, ct: &CtAction, last: bool) {
        // exec(...) sets mark and label of the connection, not of the packet as it is.
        let old = (self.key.ct_mark, self.key.ct_label, self.mask.ct_mark, self.mask.ct_label);
        self.key.ct_mark = [0; 4];
        self.key.ct_label = [0; 16];
        self.mask.ct_mark = [0; 4];
        self.mask.ct_label = [0; 16];
        self.commit();
        let nat = ct.actions.iter().find_map(|a| if let OfAction::Nat(nat) = a { Some(nat_of(nat)) } else { None });
        let sets: Vec<OfAction> = ct.actions.iter().filter(|a| !matches!(a, OfAction::Nat(_))).cloned().collect();
        self.run_actions_of_ct(&sets);
        let mark = u32::from_be_bytes(self.key.ct_mark);
        let mark_mask = u32::from_be_bytes(self.mask.ct_mark);
        let label = u128::from_be_bytes(self.key.ct_label);
        let label_mask = u128::from_be_bytes(self.mask.ct_label);
        (self.key.ct_mark, self.key.ct_label, self.mask.ct_mark, self.mask.ct_label) = old;
        let zone = match ct.zone_src {
            Some(src) => u16::try_from(self.read(src) & 0xffff).expect("masked to 16 bits"),
            None => ct.zone_imm,
        };
        let helper = match ct.alg {
            21 => Some("ftp".to_owned()),
            69 => Some("tftp".to_owned()),
            _ => None,
        };
        self.emit(Action::Ct(Box::new(Ct {
            commit: ct.commit,
            force: ct.force,
            zone,
            mark: (mark_mask != 0).then_some((mark, mark_mask)),
            label: (label_mask != 0).then_some((label, label_mask)),
            helper,
            timeout: None,
            nat,
            event_mask: None,
        })));
        self.conntracked = true;
        if let Some(table) = ct.table {
            self.report(
                Kind::Detail,
                format_args!("A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table {}.", table.0),
            );
            self.recirculate_copy(table, zone, last);
        }
    }

    fn run_actions_of_ct(&mut self, sets: &[OfAction]) {
        for set in sets {
            if let OfAction::SetField { field, value, mask, .. } = set {
                let (value, bits) = (value.low(), mask.low());
                let old = field.get(&self.key);
                field.set(&mut self.key, old & !bits | value & bits);
                let all = field.mask(&self.mask) | bits;
                field.set_mask(&mut self.mask, all);
            } else if let OfAction::RegMove { src, dst } = set {
                let value = self.read(*src);
                self.write(*dst, value);
            }
        }
    }

    /// After `ct(table=N)` the tracked packet goes on in table N as a copy; this one goes on untracked.
    fn recirculate_copy(&mut self, table: TableId, zone: u16, _last: bool) {
        let mut state = self.frozen_state(Vec::new());
        state.table = table;
        state.conntracked = true;
        state.stack.clear();
        let Some(id) = self.hold(state) else { return };
        self.emit(Action::Recirc(id));
        self.key.ct_zone = zone.to_be_bytes();
        self.key.ct_state = 0;
    }

    pub(super) fn conntrack_clear(&mut self) {
        if !self.conntracked && self.key.ct_state == 0 {
            self.mask.ct_state = 0xff;
            return;
        }
        self.conntracked = false;
        self.key.ct_state = 0;
        self.key.ct_zone = [0; 2];
        self.key.ct_mark = [0; 4];
        self.key.ct_label = [0; 16];
        self.emit(Action::CtClear);
    }

    /// Puts the original tuple of the connection in the place of the packet's addresses; the same call takes it back.
    pub(super) fn swap_ct_tuple(&mut self) -> bool {
        self.mask.ct_state = 0xff;
        if self.key.ct_state & 0x20 == 0 || self.key.ct_state & 0x10 != 0 {
            self.report(Kind::Detail, format_args!("resubmit(ct) with invalid or non-tracked packet!"));
            return false;
        }
        let k = &mut self.key;
        std::mem::swap(&mut k.nw_src, &mut k.ct_nw_src);
        std::mem::swap(&mut k.nw_dst, &mut k.ct_nw_dst);
        std::mem::swap(&mut k.ipv6_src, &mut k.ct_ipv6_src);
        std::mem::swap(&mut k.ipv6_dst, &mut k.ct_ipv6_dst);
        std::mem::swap(&mut k.nw_proto, &mut k.ct_nw_proto);
        std::mem::swap(&mut k.tp_src, &mut k.ct_tp_src);
        std::mem::swap(&mut k.tp_dst, &mut k.ct_tp_dst);
        true
    }

    // ---- packet type and length ----

    /// check_pkt_larger: the datapath measures; both ways go on from here.
    pub(super) fn check_larger(&mut self, len: u16, dst: Subfield) {
        self.commit();
        let rest = std::mem::take(&mut self.pending);
        let branch = |ctx: &mut Self, value: u128| {
            let begin = ctx.actions.len();
            let (key, base) = (ctx.key, ctx.base);
            ctx.write(dst, value);
            ctx.run_actions(&rest, true);
            if !ctx.freezing {
                ctx.run_action_set();
            }
            if ctx.freezing {
                ctx.freeze_now();
                ctx.exit = false;
            }
            (ctx.key, ctx.base) = (key, base);
            ctx.actions.split_off(begin)
        };
        let set = self.action_set.clone();
        let greater = branch(self, 1);
        self.action_set = set;
        let less_equal = branch(self, 0);
        self.action_set.clear();
        self.emit(Action::CheckPktLen { size: len, greater, less_equal });
        self.exit = true;
    }

    pub(super) fn encap(&mut self, encap: &Encap) {
        self.mask.packet_type = [0xff; 4];
        if encap.new_packet_type == ETH_TYPE_TEB && self.key.packet_type != [0; 4] {
            self.commit();
            self.emit(Action::PushEth { src: [0; 6], dst: [0; 6] });
            let eth_type = [self.key.packet_type[2], self.key.packet_type[3]];
            for key in [&mut self.key, &mut self.base] {
                key.packet_type = [0; 4];
                key.eth_type = eth_type;
                key.eth_src = [0; 6];
                key.eth_dst = [0; 6];
            }
            return;
        }
        self.fail(
            crate::effects::XlateError::UnsupportedPacketType,
            format_args!("encap to packet type {:#x} is not supported", encap.new_packet_type),
        );
    }

    pub(super) fn decap(&mut self, _new_packet_type: Option<u32>) {
        self.mask.packet_type = [0xff; 4];
        if self.key.packet_type != [0; 4] {
            self.fail(
                crate::effects::XlateError::UnsupportedPacketType,
                format_args!("decap of this packet type is not supported"),
            );
            return;
        }
        if self.key.vlan_tci[0] & 0x10 != 0 {
            self.fail(
                crate::effects::XlateError::UnsupportedPacketType,
                format_args!("Dropping packet, cannot decap Ethernet if VLAN is present."),
            );
            return;
        }
        self.commit();
        self.emit(Action::PopEth);
        for key in [&mut self.key, &mut self.base] {
            key.packet_type = [0, 1, key.eth_type[0], key.eth_type[1]];
            key.eth_src = [0; 6];
            key.eth_dst = [0; 6];
        }
        self.start_freezing();
    }

    pub(super) fn dec_nsh_ttl(&mut self) {
        if self.key.eth_type != [0x89, 0x4f] {
            return;
        }
        self.mask.nsh_ttl = 0xff;
        if self.key.nsh_ttl > 1 {
            self.key.nsh_ttl -= 1;
            return;
        }
        self.report(Kind::Warn, format_args!("NSH decrement TTL exception"));
        self.packet_in_with_reason(2, 0);
        self.stop_list = true;
    }
}

/// What a bridge keeps while a packet is in another.
struct Outer {
    key: Key,
    table: TableId,
    stack: Vec<Vec<u8>>,
    action_set: Vec<OfAction>,
    rule: Option<Arc<crate::rule::Rule>>,
    rule_cookie: u64,
    conntracked: bool,
    mirrors: u32,
    truncate: Option<u32>,
    in_group: bool,
    in_action_set: bool,
}

/// Whether the datapath could not simply set back what the action did.
fn cannot_be_undone(action: &Action) -> bool {
    match action {
        Action::Ct(_)
        | Action::CtClear
        | Action::Recirc(_)
        | Action::Meter(_)
        | Action::PushMpls { .. }
        | Action::PopMpls { .. }
        | Action::AddMpls { .. }
        | Action::PushEth { .. }
        | Action::PopEth
        | Action::PushNsh(_)
        | Action::PopNsh
        | Action::CheckPktLen { .. }
        | Action::DecTtl { .. }
        | Action::TunnelPop(_)
        | Action::Hash { .. } => true,
        Action::Output(_)
        | Action::Userspace(_)
        | Action::Set(_)
        | Action::PushVlan { .. }
        | Action::PopVlan
        | Action::Sample { .. }
        | Action::Trunc(_)
        | Action::Clone(_)
        | Action::Drop(_)
        | Action::Psample { .. }
        | Action::TunnelPush(_)
        | Action::LbOutput(_) => false,
    }
}

fn nat_of(nat: &NatAction) -> Nat {
    Nat {
        src: nat.flags & 1 != 0,
        dst: nat.flags & 2 != 0,
        persistent: nat.flags & 4 != 0,
        hash: nat.flags & 8 != 0,
        random: nat.flags & 16 != 0,
        addr: nat.addr.map(|(min, max)| (min, max.unwrap_or(min))),
        ports: nat.ports.map(|(min, max)| (min, max.unwrap_or(min))),
    }
}

/// Whether an action looks at headers that a popped MPLS stack has hidden so far.
pub(super) fn needs_parsed_packet(action: &OfAction) -> bool {
    let hidden = |field: Field| {
        use flow::fields::{Need, Stage};
        field.row().stage != Stage::Metadata && !matches!(field.row().need, Need::Nothing | Need::Ethernet | Need::Vlan)
    };
    match action {
        OfAction::SetIpv4Src(_)
        | OfAction::SetIpv4Dst(_)
        | OfAction::SetIpDscp(_)
        | OfAction::SetIpEcn(_)
        | OfAction::SetIpTtl(_)
        | OfAction::SetL4Src(_)
        | OfAction::SetL4Dst(_)
        | OfAction::DecTtl { .. }
        | OfAction::DecMplsTtl
        | OfAction::SetMplsLabel(_)
        | OfAction::SetMplsTc(_)
        | OfAction::SetMplsTtl(_)
        | OfAction::PushMpls { .. }
        | OfAction::PopMpls { .. }
        | OfAction::Resubmit { .. }
        | OfAction::GotoTable(_)
        | OfAction::Learn(_)
        | OfAction::Multipath(_)
        | OfAction::Bundle(_)
        | OfAction::Ct(_)
        | OfAction::Nat(_)
        | OfAction::Group(_)
        | OfAction::FinTimeout { .. }
        | OfAction::Encap(_)
        | OfAction::Decap { .. }
        | OfAction::DecNshTtl
        | OfAction::DebugRecirc => true,
        OfAction::SetField { field, .. } | OfAction::DeleteField(field) => hidden(*field),
        OfAction::RegMove { src, dst } => hidden(src.field) || hidden(dst.field),
        OfAction::StackPush(part) | OfAction::StackPop(part) => hidden(part.field),
        OfAction::OutputReg { src, .. } => hidden(src.field),
        OfAction::CheckPktLarger { dst, .. } => hidden(dst.field),
        OfAction::Output { port, .. } => *port == OfPort::TABLE,
        OfAction::OutputTrunc { .. }
        | OfAction::Controller(_)
        | OfAction::Enqueue { .. }
        | OfAction::SetVlanVid { .. }
        | OfAction::SetVlanPcp { .. }
        | OfAction::StripVlan { .. }
        | OfAction::PushVlan { .. }
        | OfAction::SetEthSrc(_)
        | OfAction::SetEthDst(_)
        | OfAction::SetTunnel { .. }
        | OfAction::SetQueue(_)
        | OfAction::PopQueue
        | OfAction::Conjunction { .. }
        | OfAction::Note(_)
        | OfAction::Exit
        | OfAction::Sample(_)
        | OfAction::Clone(_)
        | OfAction::CtClear
        | OfAction::DebugSlow
        | OfAction::Meter(_)
        | OfAction::ClearActions
        | OfAction::WriteActions(_)
        | OfAction::WriteMetadata { .. } => false,
    }
}
