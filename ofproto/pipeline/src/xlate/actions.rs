//! Running actions: one arm per OpenFlow action.
//!
//! An arm changes `key` (and the mask by what it looked at), sends the packet somewhere, or leads to another room. Datapath actions
//! come into being in `commit` and `compose` only.

use super::trace::Kind;
use super::{Ctx, VLANS_MAX};
use crate::effects::{Credit, XlateError};
use flow::fields::{Field, Value};
use flow::key::{Key, MPLS_LABELS_MAX, VLAN_CFI};
use openflow::OfPort;
use openflow::action::{OfAction, Subfield};

const TOS_ECN: u8 = 0x03;
const ETH_IPV4: [u8; 2] = [0x08, 0x00];
const ETH_IPV6: [u8; 2] = [0x86, 0xdd];
const VLAN_TPID: u16 = 0x8100;
const VID: u16 = 0x0fff;
const PCP: u16 = 0xe000;
/// OFPR_INVALID_TTL
const INVALID_TTL: u8 = 2;
const TCP_FIN_RST: u16 = 0x005;

impl Ctx<'_> {
    /// Runs a list of actions. `last`: nothing will run after it, so the packet need not be kept as it is.
    pub(super) fn run_actions(&mut self, actions: &[OfAction], last: bool) {
        if actions.is_empty() && self.trace.is_some() {
            self.report(Kind::Action, format_args!("drop"));
        }
        for (i, action) in actions.iter().enumerate() {
            if self.error.is_some() {
                return;
            }
            let rest = &actions[i + 1..];
            if !self.freezing {
                self.freeze_before_parsing_beneath_mpls(action);
            }
            if self.freezing {
                // This one and the rest run after recirculation.
                self.frozen_actions.extend_from_slice(&actions[i..]);
                return;
            }
            if self.exit {
                return;
            }
            self.report_action(action);
            if matches!(action, OfAction::CheckPktLarger { .. }) {
                self.pending = rest.to_vec();
            }
            self.run_action(action, last && rest.is_empty());
            if self.freezing {
                self.frozen_actions.extend_from_slice(rest);
                return;
            }
            if std::mem::take(&mut self.stop_list) {
                return;
            }
        }
    }

    fn report_action(&mut self, action: &OfAction) {
        if let Some(trace) = &mut self.trace {
            let text = (trace.action_text)(action);
            trace.add(Kind::Action, text);
        }
    }

    #[allow(clippy::too_many_lines, reason = "one arm per action")]
    fn run_action(&mut self, action: &OfAction, last: bool) {
        match action {
            OfAction::Output { port, max_len } => self.output(*port, *max_len, last),
            OfAction::OutputReg { src, max_len } => self.output_register(*src, *max_len, last),
            OfAction::OutputTrunc { port, max_len } => self.output_truncated(*port, *max_len, last),
            OfAction::Controller(c) => self.to_controller(c),
            OfAction::Enqueue { port, queue } => self.enqueue(*port, *queue, last),
            OfAction::Group(group) => self.run_group(*group, last),
            OfAction::Bundle(bundle) => self.bundle(bundle, last),
            OfAction::SetVlanVid { vid, push_if_needed } => self.set_vlan(*vid, VID, *push_if_needed),
            OfAction::SetVlanPcp { pcp, push_if_needed } => self.set_vlan(u16::from(*pcp) << 13, PCP, *push_if_needed),
            OfAction::StripVlan { .. } => self.pop_vlan(),
            OfAction::PushVlan { ethertype } => self.push_vlan(*ethertype),
            OfAction::SetEthSrc(mac) => {
                self.mask.eth_src = [0xff; 6];
                self.key.eth_src = *mac;
            }
            OfAction::SetEthDst(mac) => {
                self.mask.eth_dst = [0xff; 6];
                self.key.eth_dst = *mac;
            }
            OfAction::SetIpv4Src(ip) => self.set_if_present(Field::IpSrc, u128::from(u32::from_be_bytes(*ip))),
            OfAction::SetIpv4Dst(ip) => self.set_if_present(Field::IpDst, u128::from(u32::from_be_bytes(*ip))),
            OfAction::SetIpDscp(tos) => {
                if self.is_ip() {
                    self.mask.nw_tos |= !TOS_ECN;
                    self.key.nw_tos = self.key.nw_tos & TOS_ECN | tos & !TOS_ECN;
                }
            }
            OfAction::SetIpEcn(ecn) => {
                if self.is_ip() {
                    self.mask.nw_tos |= TOS_ECN;
                    self.key.nw_tos = self.key.nw_tos & !TOS_ECN | ecn & TOS_ECN;
                }
            }
            OfAction::SetIpTtl(ttl) => self.set_if_present(Field::NwTtl, u128::from(*ttl)),
            OfAction::SetL4Src(port) => self.set_port(*port, true),
            OfAction::SetL4Dst(port) => self.set_port(*port, false),
            OfAction::RegMove { src, dst } => self.register_move(*src, *dst),
            OfAction::SetField { field, value, mask, .. } => self.set_field(*field, value, mask),
            OfAction::StackPush(part) => self.stack_push(*part),
            OfAction::StackPop(part) => self.stack_pop(*part),
            OfAction::DecTtl { controllers } => self.dec_ttl(controllers),
            OfAction::SetMplsLabel(label) => self.set_mpls(0xffff_f000, label << 12),
            OfAction::SetMplsTc(tc) => self.set_mpls(0x0000_0e00, u32::from(*tc) << 9),
            OfAction::SetMplsTtl(ttl) => self.set_mpls(0x0000_00ff, u32::from(*ttl)),
            OfAction::DecMplsTtl => self.dec_mpls_ttl(),
            OfAction::PushMpls { ethertype } => self.push_mpls(*ethertype),
            OfAction::PopMpls { ethertype } => self.pop_mpls(*ethertype),
            OfAction::SetTunnel { id, .. } => self.key.tun_id = id.to_be_bytes(),
            OfAction::SetQueue(queue) => self.set_queue(*queue),
            OfAction::PopQueue => self.key.skb_priority = self.initial.skb_priority,
            OfAction::FinTimeout { idle, hard } => self.fin_timeout(*idle, *hard),
            OfAction::Resubmit { port, table, with_ct, .. } => self.resubmit(*port, *table, *with_ct, last),
            OfAction::Learn(learn) => self.learn(learn),
            OfAction::Conjunction { .. } => {
                self.report(Kind::Error, format_args!("executing no-op conjunction action"));
            }
            OfAction::Multipath(multipath) => self.multipath(multipath),
            OfAction::Note(_) => {}
            OfAction::Exit => self.exit = true,
            OfAction::Sample(_) => {}
            OfAction::Clone(actions) => self.clone_packet(actions, last),
            OfAction::Ct(ct) => self.conntrack(ct, last),
            OfAction::Nat(_) => {}
            OfAction::CtClear => self.conntrack_clear(),
            OfAction::Encap(encap) => self.encap(encap),
            OfAction::Decap { new_packet_type } => self.decap(*new_packet_type),
            OfAction::DecNshTtl => self.dec_nsh_ttl(),
            OfAction::CheckPktLarger { len, dst } => self.check_larger(*len, *dst),
            OfAction::DeleteField(field) => self.delete_field(*field),
            OfAction::DebugRecirc => self.start_freezing(),
            OfAction::DebugSlow => self.slow |= super::compose::SLOW_ACTION,
            OfAction::Meter(id) => self.meter(*id),
            OfAction::ClearActions => self.clear_action_set(),
            OfAction::WriteActions(actions) => self.write_actions(actions),
            OfAction::WriteMetadata { value, mask } => {
                let old = u64::from_be_bytes(self.key.metadata);
                self.key.metadata = (old & !mask | value & mask).to_be_bytes();
            }
            OfAction::GotoTable(table) => self.lookup_and_run(self.in_port(), *table, true, true, last),
        }
    }

    // ---- fields ----

    fn is_ip(&self) -> bool {
        matches!(self.key.eth_type, ETH_IPV4 | ETH_IPV6)
    }

    /// Sets a whole field, if the packet has it.
    fn set_if_present(&mut self, field: Field, value: u128) {
        self.write(Self::whole(field), value);
    }

    fn set_port(&mut self, port: u16, source: bool) {
        let proto = self.key.nw_proto;
        let later_fragment = self.key.nw_frag & flow::key::FRAG_LATER != 0;
        if !self.is_ip() || later_fragment {
            return;
        }
        self.mask.nw_proto = 0xff;
        if !matches!(proto, 6 | 17 | 132) {
            return;
        }
        if source {
            self.mask.tp_src = [0xff; 2];
            self.key.tp_src = port.to_be_bytes();
        } else {
            self.mask.tp_dst = [0xff; 2];
            self.key.tp_dst = port.to_be_bytes();
        }
    }

    /// set_field and load.
    fn set_field(&mut self, field: Field, value: &Value, mask: &Value) {
        if !self.has_field(field) {
            self.report(Kind::Warn, format_args!("unmet prerequisites for {field}, set_field ignored"));
            return;
        }
        if field.tun_metadata_number().is_some() {
            self.set_tunnel_option(field, value, mask);
            return;
        }
        let (value, bits) = (value.low(), mask.low());
        let all = field.mask(&self.mask) | bits;
        field.set_mask(&mut self.mask, all);
        if bits == field.exact() {
            field.set(&mut self.key, value);
        } else {
            let old = field.get(&self.key);
            field.set(&mut self.key, old & !bits | value & bits);
        }
    }

    fn register_move(&mut self, src: Subfield, dst: Subfield) {
        if !self.has_field(src.field) || !self.has_field(dst.field) {
            self.report(Kind::Warn, format_args!("unmet prerequisites for move, ignored"));
            return;
        }
        let value = self.read(src);
        self.write(dst, value);
        let now = self.value(Self::whole(dst.field));
        self.report(Kind::Detail, format_args!("{} is now {now:#x}", dst.field));
    }

    fn stack_push(&mut self, part: Subfield) {
        let value = self.read(part);
        let bytes = usize::from(part.bits).div_ceil(8);
        self.stack.push(value.to_be_bytes()[16 - bytes.min(16)..].to_vec());
    }

    fn stack_pop(&mut self, part: Subfield) {
        match self.stack.pop() {
            Some(bytes) => {
                let value = Value::from_be_bytes(&bytes).low() & Value::ones(usize::from(part.bits)).low();
                self.write(part, value);
            }
            None => {
                self.report(Kind::Error, format_args!("stack underflow"));
            }
        }
    }

    // ---- VLAN ----

    fn has_vlan(&self) -> bool {
        self.key.vlan_tci[0] & VLAN_CFI.to_be_bytes()[0] != 0
    }

    /// Sets part of the outer tag; adds one where there is none, if that is wanted.
    fn set_vlan(&mut self, value: u16, bits: u16, push: bool) {
        let masked = u16::from_be_bytes(self.mask.vlan_tci) | bits | VLAN_CFI;
        self.mask.vlan_tci = masked.to_be_bytes();
        if !self.has_vlan() {
            if !push {
                return;
            }
            self.key.vlan_tpid = VLAN_TPID.to_be_bytes();
        }
        let tci = u16::from_be_bytes(self.key.vlan_tci) & !bits | value & bits | VLAN_CFI;
        self.key.vlan_tci = tci.to_be_bytes();
    }

    fn pop_vlan(&mut self) {
        self.mask.vlan_tci[0] |= VLAN_CFI.to_be_bytes()[0];
        if !self.has_vlan() {
            return;
        }
        self.mask.vlan_tci = [0xff; 2];
        self.mask.vlan_tpid = [0xff; 2];
        self.mask.vlan2_tci = [0xff; 2];
        self.mask.vlan2_tpid = [0xff; 2];
        self.key.vlan_tci = self.key.vlan2_tci;
        self.key.vlan_tpid = self.key.vlan2_tpid;
        self.key.vlan2_tci = [0; 2];
        self.key.vlan2_tpid = [0; 2];
    }

    fn push_vlan(&mut self, ethertype: u16) {
        self.mask.vlan_tci = [0xff; 2];
        self.mask.vlan_tpid = [0xff; 2];
        self.mask.vlan2_tci[0] |= VLAN_CFI.to_be_bytes()[0];
        let tags = [self.key.vlan_tci, self.key.vlan2_tci].iter().filter(|t| t[0] & 0x10 != 0).count();
        if tags >= VLANS_MAX {
            // The innermost would be lost from view; the datapath still carries it.
            self.report(Kind::Warn, format_args!("more than {VLANS_MAX} VLAN headers, inner ones are not seen"));
        }
        self.key.vlan2_tci = self.key.vlan_tci;
        self.key.vlan2_tpid = self.key.vlan_tpid;
        self.key.vlan_tci = VLAN_CFI.to_be_bytes();
        self.key.vlan_tpid = ethertype.to_be_bytes();
    }

    // ---- MPLS ----

    fn is_mpls(&self) -> bool {
        matches!(self.key.eth_type, [0x88, 0x47 | 0x48])
    }

    /// Labels that the packet has now.
    fn mpls_depth(key: &Key) -> usize {
        if !matches!(key.eth_type, [0x88, 0x47 | 0x48]) {
            return 0;
        }
        let stack = [key.mpls_lse0, key.mpls_lse1, key.mpls_lse2];
        stack.iter().position(|lse| lse[2] & 1 != 0).map_or(MPLS_LABELS_MAX, |bottom| bottom + 1)
    }

    fn set_mpls(&mut self, bits: u32, value: u32) {
        if !self.is_mpls() {
            return;
        }
        self.mask.mpls_lse0 = (u32::from_be_bytes(self.mask.mpls_lse0) | bits).to_be_bytes();
        let lse = u32::from_be_bytes(self.key.mpls_lse0) & !bits | value & bits;
        self.key.mpls_lse0 = lse.to_be_bytes();
    }

    fn dec_mpls_ttl(&mut self) {
        if !self.is_mpls() {
            return;
        }
        self.mask.mpls_lse0[3] = 0xff;
        if self.key.mpls_lse0[3] > 1 {
            self.key.mpls_lse0[3] -= 1;
            return;
        }
        self.report(Kind::Warn, format_args!("MPLS decrement TTL exception"));
        self.packet_in_with_reason(INVALID_TTL, 0);
        self.exit_table();
    }

    fn push_mpls(&mut self, ethertype: u16) {
        let depth = Self::mpls_depth(&self.key);
        if depth >= MPLS_LABELS_MAX {
            let name = self.bridge.name.clone();
            self.fail(
                XlateError::TooManyMplsLabels,
                format_args!("dropping packet on which an MPLS push action can't be performed as it would have more MPLS LSEs than the {MPLS_LABELS_MAX} supported (bridge {name})"),
            );
            return;
        }
        if depth == 0 {
            // What lies beneath will not be parsed any more: headers set so far must reach the packet first.
            self.commit();
            self.mask.nw_tos |= if self.is_ip() { 0xfc } else { 0 };
            self.mask.nw_ttl |= if self.is_ip() { 0xff } else { 0 };
        } else {
            self.mask.mpls_lse0 = [0xff; 4];
        }
        let lse = if depth > 0 {
            let mut lse = self.key.mpls_lse0;
            lse[2] &= !1;
            lse
        } else {
            // Label 0 or 2 (IPv4 or IPv6 explicit null), class and TTL of the packet beneath (RFC 3032, RFC 3443).
            let label: u32 = if self.key.eth_type == ETH_IPV6 { 2 } else { 0 };
            let class = if self.is_ip() { u32::from(self.key.nw_tos >> 5) } else { 0 };
            let ttl = if self.is_ip() && self.key.nw_ttl != 0 { self.key.nw_ttl } else { 64 };
            (label << 12 | class << 9 | 1 << 8 | u32::from(ttl)).to_be_bytes()
        };
        self.key.mpls_lse2 = self.key.mpls_lse1;
        self.key.mpls_lse1 = if depth > 0 { self.key.mpls_lse0 } else { [0; 4] };
        self.key.mpls_lse0 = lse;
        self.key.eth_type = ethertype.to_be_bytes();
        if depth == 0 {
            super::commit::forget_l3(&mut self.key);
            super::commit::forget_l3(&mut self.base);
        }
    }

    fn pop_mpls(&mut self, ethertype: u16) {
        let depth = Self::mpls_depth(&self.key);
        if depth == 0 {
            return;
        }
        self.mask.mpls_lse0[2] |= 1;
        if depth >= MPLS_LABELS_MAX && self.key.mpls_lse2[2] & 1 == 0 {
            let name = self.bridge.name.clone();
            self.fail(
                XlateError::TooManyMplsLabels,
                format_args!("dropping packet on which an MPLS pop action can't be performed as it has more MPLS LSEs than the {MPLS_LABELS_MAX} supported (bridge {name})"),
            );
            return;
        }
        let beneath = !matches!(ethertype, 0x8847 | 0x8848);
        self.key.mpls_lse0 = self.key.mpls_lse1;
        self.key.mpls_lse1 = self.key.mpls_lse2;
        self.key.mpls_lse2 = [0; 4];
        self.key.eth_type = ethertype.to_be_bytes();
        if beneath {
            self.was_mpls = true;
        }
    }

    /// After the last label was popped, an action that looks beneath must wait until the datapath has parsed the packet again.
    fn freeze_before_parsing_beneath_mpls(&mut self, next: &OfAction) {
        if self.was_mpls && super::compose::needs_parsed_packet(next) {
            self.start_freezing();
        }
    }

    // ---- TTL ----

    fn dec_ttl(&mut self, controllers: &[u16]) {
        if !self.is_ip() {
            return;
        }
        self.mask.nw_ttl = 0xff;
        if self.key.nw_ttl > 1 {
            self.key.nw_ttl -= 1;
            return;
        }
        let version = if self.key.eth_type == ETH_IPV6 { 6 } else { 4 };
        self.report(Kind::Warn, format_args!("IPv{version} decrement TTL exception"));
        for id in controllers {
            self.packet_in_with_reason(INVALID_TTL, *id);
        }
        self.exit_table();
    }

    /// A TTL that ran out ends the list of actions it ran out in.
    fn exit_table(&mut self) {
        self.stop_list = true;
    }

    // ---- other ----

    fn resubmit(&mut self, port: OfPort, table: openflow::TableId, with_ct: bool, last: bool) {
        let in_port = if port == OfPort::IN_PORT { self.in_port() } else { port };
        let table = if table == openflow::TableId::ALL { self.table } else { table };
        if with_ct && !self.swap_ct_tuple() {
            return;
        }
        // Packets that rules of the switch's own table resubmit are still news to controllers.
        let internal = self.rule.as_ref().is_some_and(|r| r.table == crate::table::INTERNAL);
        self.lookup_and_run(in_port, table, internal, internal, last);
        if with_ct {
            self.swap_ct_tuple();
        }
    }

    fn set_queue(&mut self, queue: u32) {
        // The userspace datapath takes the queue's number for its priority.
        self.key.skb_priority = queue.to_be_bytes();
        self.mask.skb_priority = [0xff; 4];
    }

    fn enqueue(&mut self, port: OfPort, queue: u32, last: bool) {
        let old = self.key.skb_priority;
        self.set_queue(queue);
        if port == OfPort::IN_PORT || port != self.in_port() {
            let port = if port == OfPort::IN_PORT { self.in_port() } else { port };
            self.compose_output(port, last);
        } else {
            self.report(Kind::Detail, format_args!("skipping output to input port"));
        }
        self.key.skb_priority = old;
    }

    fn fin_timeout(&mut self, idle: u16, hard: u16) {
        if self.key.nw_proto != 6 || !self.is_ip() {
            return;
        }
        self.mask.nw_proto = 0xff;
        let Some(rule) = self.rule.clone() else { return };
        if self.tcp_flags & TCP_FIN_RST != 0 || self.side_effects {
            self.credits.push(Credit::FinTimeout { rule, idle_s: idle, hard_s: hard });
        }
    }

    fn meter(&mut self, id: u32) {
        self.deps.object(crate::deps::Object::Meters(self.bridge.id));
        if let Some(dp_meter) = self.bridge.meters.datapath_id(id) {
            self.commit();
            self.emit(flow::Action::Meter(dp_meter));
        }
    }

    fn delete_field(&mut self, field: Field) {
        if let Some(n) = field.tun_metadata_number() {
            let present = u64::from_be_bytes(self.key.tun_metadata_present) & !(1 << n);
            self.key.tun_metadata_present = present.to_be_bytes();
        }
    }

    fn set_tunnel_option(&mut self, field: Field, value: &Value, mask: &Value) {
        let Some(n) = field.tun_metadata_number().filter(|n| self.bridge.tunnel_options.option(*n).is_some()) else {
            self.report(Kind::Warn, format_args!("{field} is not mapped to a tunnel option, set_field ignored"));
            return;
        };
        let options = &self.bridge.tunnel_options;
        let kept = options.get(&self.key, n).without(mask);
        options.set(&mut self.key, n, &kept.or(&value.and(mask)));
    }
}
