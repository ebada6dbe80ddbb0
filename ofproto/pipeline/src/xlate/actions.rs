//! Running actions: one arm per OpenFlow action.
//!
//! An arm changes `key` (and the mask by what it looked at), sends the packet somewhere, or leads to another room. Datapath actions
//! come into being in `commit`, `compose` and the few rooms whose actions the datapath has itself.

use super::Ctx;
use super::frozen::Step;
use super::tables::Lookup;
use super::trace::Kind;
use crate::effects::Credit;
use flow::fields::{Field, Value};
use openflow::OfPort;
use openflow::action::{OfAction, Subfield};

const TOS_ECN: u8 = 0x03;
const ETH_IPV4: [u8; 2] = [0x08, 0x00];
const ETH_IPV6: [u8; 2] = [0x86, 0xdd];
const ETH_ARP: [u8; 2] = [0x08, 0x06];
const VID: u16 = 0x0fff;
const PCP: u16 = 0xe000;

/// Something that stands in a list to be run: an action of a rule, or a step of a frozen state.
pub(super) trait Runnable {
    /// `None`: `Step::Unroll`.
    fn action(&self) -> Option<&OfAction>;
    fn step(&self) -> Step;
}

impl Runnable for OfAction {
    fn action(&self) -> Option<&OfAction> {
        Some(self)
    }

    fn step(&self) -> Step {
        Step::Run(self.clone())
    }
}

impl Runnable for Step {
    fn action(&self) -> Option<&OfAction> {
        match self {
            Self::Run(action) => Some(action),
            Self::Unroll { .. } => None,
        }
    }

    fn step(&self) -> Step {
        self.clone()
    }
}

/// What an action says of those after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// They run (or are frozen, if the action has begun to freeze).
    On,
    /// The action has begun to freeze, and runs again itself when thawed.
    Again,
    /// This list ends here.
    Stop,
}

impl Ctx<'_> {
    /// Runs a list of actions. `last`: nothing will run after it, so the packet need not be kept as it is.
    pub(super) fn run_actions<T: Runnable>(&mut self, list: &[T], last: bool) {
        if list.is_empty() {
            self.report(Kind::Action, format_args!("drop"));
        }
        for (i, item) in list.iter().enumerate() {
            if self.error.is_some() {
                return;
            }
            let action = item.action();
            if self.was_mpls && !self.exit && action.is_none_or(super::headers::needs_parsed_packet) {
                // After the last label was popped, what looks beneath waits until the datapath has parsed the packet again.
                self.freeze_here();
            }
            if self.exit {
                self.unroll(list[i..].iter().map(Runnable::step));
                return;
            }
            let Some(action) = action else {
                if let Step::Unroll { table, cookie } = item.step() {
                    self.report(Kind::Action, format_args!("unroll_xlate(table={}, cookie={cookie})", table.0));
                    self.run_unroll(table, cookie);
                }
                continue;
            };
            self.report_action(action);
            self.notice(action);
            if let OfAction::CheckPktLarger { len, dst } = action
                && self.datapath_measures()
            {
                let rest: Vec<OfAction> = list[i + 1..].iter().filter_map(|r| r.action().cloned()).collect();
                self.check_larger(*len, *dst, &rest);
                return;
            }
            let last = last && i + 1 == list.len() && self.action_set.is_empty();
            match self.run_action(action, last) {
                Next::On => {}
                Next::Again => {
                    self.unroll(list[i..].iter().map(Runnable::step));
                    return;
                }
                Next::Stop => return,
            }
        }
    }

    fn report_action(&mut self, action: &OfAction) {
        if let Some(trace) = &mut self.trace {
            let text = (trace.action_text)(std::slice::from_ref(action));
            trace.add(Kind::Action, text);
        }
    }

    #[allow(clippy::too_many_lines, reason = "one arm per action")]
    fn run_action(&mut self, action: &OfAction, last: bool) -> Next {
        match action {
            OfAction::Output { port, max_len } => self.output(*port, *max_len, last),
            OfAction::OutputReg { src, max_len } => self.output_register(*src, *max_len, last),
            OfAction::OutputTrunc { port, max_len } => self.output_truncated(*port, *max_len, last),
            OfAction::Controller(c) if c.pause => self.freeze_here().pause = Some(c.clone()),
            OfAction::Controller(c) => self.send_to_controller(c),
            OfAction::Enqueue { port, queue } => self.enqueue(*port, *queue, last),
            OfAction::Group(group) => return self.run_group(*group, last),
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
            OfAction::SetIpv4Src(ip) => self.set_ip(Field::IpSrc, u128::from(u32::from_be_bytes(*ip))),
            OfAction::SetIpv4Dst(ip) => self.set_ip(Field::IpDst, u128::from(u32::from_be_bytes(*ip))),
            OfAction::SetIpDscp(tos) => self.set_tos(*tos, !TOS_ECN),
            OfAction::SetIpEcn(ecn) => self.set_tos(*ecn, TOS_ECN),
            OfAction::SetIpTtl(ttl) => self.set_ip(Field::NwTtl, u128::from(*ttl)),
            OfAction::SetL4Src(port) => self.set_port(*port, true),
            OfAction::SetL4Dst(port) => self.set_port(*port, false),
            OfAction::RegMove { src, dst, .. } => self.register_move(*src, *dst),
            OfAction::SetField { field, value, mask, .. } => self.set_field(*field, value, mask),
            OfAction::StackPush(part) => self.stack_push(*part),
            OfAction::StackPop(part) => self.stack_pop(*part),
            OfAction::DecTtl { controllers } => return on_or_stop(self.dec_ttl(controllers.as_deref())),
            OfAction::SetMplsLabel(label) => self.set_mpls(0xffff_f000, label << 12),
            OfAction::SetMplsTc(tc) => self.set_mpls(0x0000_0e00, u32::from(*tc) << 9),
            OfAction::SetMplsTtl(ttl) => self.set_mpls(0x0000_00ff, u32::from(*ttl)),
            OfAction::DecMplsTtl => return on_or_stop(self.dec_mpls_ttl()),
            OfAction::PushMpls { ethertype } => self.push_mpls(*ethertype),
            OfAction::PopMpls { ethertype } => self.pop_mpls(*ethertype),
            OfAction::CopyTtlIn => self.copy_ttl_in(),
            OfAction::CopyTtlOut => {
                if self.copy_ttl_out() {
                    self.freeze_here();
                }
            }
            OfAction::PushPbb => self.push_pbb(),
            OfAction::PopPbb => {
                if self.pop_pbb() {
                    self.freeze_here();
                }
            }
            OfAction::SetTunnel { id, .. } => {
                self.key.tun_id = id.to_be_bytes();
                self.written.tun_id = [0xff; 8];
            }
            OfAction::SetQueue(queue) => self.set_queue(*queue),
            OfAction::PopQueue => self.pop_queue(),
            OfAction::FinTimeout { idle, hard } => self.fin_timeout(*idle, *hard),
            OfAction::Resubmit { port, table, with_ct, .. } => self.resubmit(*port, *table, *with_ct, last),
            OfAction::Learn(learn) => self.learn(learn),
            OfAction::Conjunction { .. } => {
                self.report(Kind::Error, format_args!("executing no-op conjunction action"));
            }
            OfAction::Multipath(multipath) => self.multipath(multipath),
            OfAction::Note(_) => {}
            OfAction::Exit => self.exit = true,
            OfAction::Sample(sample) => self.sample(sample),
            OfAction::Clone(actions) => self.run_on_a_copy(actions, last),
            OfAction::Ct(ct) => self.conntrack(ct),
            OfAction::Nat(_) => {}
            OfAction::CtClear => self.conntrack_clear(),
            OfAction::Encap(encap) => self.encap(encap),
            OfAction::Decap { new_packet_type } => {
                if self.decap(*new_packet_type) && self.error.is_none() {
                    self.freeze_here();
                }
            }
            OfAction::DecNshTtl => return on_or_stop(self.dec_nsh_ttl()),
            OfAction::CheckPktLarger { len, dst } => self.measure_here(*len, *dst),
            OfAction::DeleteField(field) => self.delete_field(*field),
            OfAction::DebugRecirc => {
                self.freeze_here();
            }
            OfAction::DebugSlow => self.slow |= super::compose::SLOW_ACTION,
            OfAction::Meter(id) => self.meter(*id),
            OfAction::ClearActions => self.clear_action_set(),
            OfAction::WriteActions(actions) => self.write_actions(actions),
            OfAction::WriteMetadata { value, mask } => {
                let old = u64::from_be_bytes(self.key.metadata);
                self.key.metadata = (old & !mask | value & mask).to_be_bytes();
            }
            OfAction::GotoTable(table) => {
                let goto = Lookup { may_packet_in: true, honor_miss: true, last, ..Lookup::new(self.in_port(), *table) };
                self.look_up_and_run(&goto);
            }
        }
        Next::On
    }

    // ---- fields ----

    fn is_ip(&self) -> bool {
        matches!(self.key.eth_type, ETH_IPV4 | ETH_IPV6)
    }

    /// Sets a whole field of an IP header, if the packet has it.
    fn set_ip(&mut self, field: Field, value: u128) {
        if self.has_field(field) {
            self.mask.nw_proto = 0xff;
            field.unwildcard(&mut self.mask);
            field.set(&mut self.key, value);
        }
    }

    fn set_tos(&mut self, value: u8, bits: u8) {
        if self.is_ip() {
            self.mask.nw_proto = 0xff;
            self.mask.nw_tos |= bits;
            self.key.nw_tos = self.key.nw_tos & !bits | value & bits;
        }
    }

    fn set_port(&mut self, port: u16, source: bool) {
        let later_fragment = self.key.nw_frag & flow::key::FRAG_LATER != 0;
        if !self.is_ip() || later_fragment {
            return;
        }
        self.mask.nw_proto = 0xff;
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
        self.match_proto_for(field);
        let (value, bits) = (value.low(), mask.low());
        for mask in [&mut self.mask, &mut self.written] {
            let all = field.mask(mask) | bits;
            field.set_mask(mask, all);
        }
        if bits == field.exact() {
            field.set(&mut self.key, value);
        } else {
            let old = field.get(&self.key);
            field.set(&mut self.key, old & !bits | value & bits);
        }
        super::vlan::complete_tag(&mut self.key);
    }

    /// A set of an address or the like is only made in packets with an L3 header, which is known by its protocol.
    fn match_proto_for(&mut self, field: Field) {
        use Field::{
            ArpOp, ArpSha, ArpSpa, ArpTha, ArpTpa, IpDscp, IpDst, IpSrc, Ipv6Dst, Ipv6Label, Ipv6Src, NwEcn, NwTos, NwTtl,
        };
        let of_ip = matches!(field, IpSrc | IpDst | Ipv6Src | Ipv6Dst | Ipv6Label | IpDscp | NwTos | NwEcn | NwTtl);
        let of_arp = matches!(field, ArpOp | ArpSha | ArpTha | ArpSpa | ArpTpa);
        if self.is_ip() && of_ip || self.key.eth_type == ETH_ARP && of_arp {
            self.mask.nw_proto = 0xff;
        }
    }

    fn register_move(&mut self, src: Subfield, dst: Subfield) {
        if self.has_field(dst.field) && self.has_field(src.field) {
            // Tunnel options are wider than a number.
            for at in (0..src.bits).step_by(128) {
                let bits = (src.bits - at).min(128);
                let (from, to) = (Subfield { ofs: src.ofs + at, bits, ..src }, Subfield { ofs: dst.ofs + at, bits, ..dst });
                if !self.carry(from, to) {
                    let value = self.read(from);
                    self.write(to, value);
                }
            }
        }
        self.report_value(dst);
    }

    fn stack_push(&mut self, part: Subfield) {
        self.unwildcard(part);
        let value = self.value(part);
        let bytes = usize::from(part.bits).div_ceil(8);
        self.stack.push(value.to_be_bytes()[16 - bytes.min(16)..].to_vec());
    }

    fn stack_pop(&mut self, part: Subfield) {
        match self.stack.pop() {
            Some(bytes) => {
                let value = Value::from_be_bytes(&bytes).low() & Value::ones(usize::from(part.bits)).low();
                self.unwildcard(part);
                self.write_unseen(part, value);
                self.report_value(part);
            }
            None => self.report_error(format_args!("stack underflow")),
        }
    }

    // ---- other ----

    fn resubmit(&mut self, port: OfPort, table: openflow::TableId, with_ct: bool, last: bool) {
        let in_port = if port == OfPort::IN_PORT { self.in_port() } else { port };
        let table = if table == openflow::TableId::ALL { self.table } else { table };
        // Packets that rules of the switch's own table resubmit are still news to controllers.
        let internal = self.rule.as_ref().is_some_and(|r| r.table == crate::table::INTERNAL);
        let lookup = Lookup { may_packet_in: internal, honor_miss: internal, with_ct, last, ..Lookup::new(in_port, table) };
        self.look_up_and_run(&lookup);
    }

    fn set_queue(&mut self, queue: u32) {
        // The userspace datapath takes the queue's number for its priority.
        self.key.skb_priority = queue.to_be_bytes();
        self.mask.skb_priority = [0xff; 4];
    }

    fn pop_queue(&mut self) {
        self.mask.skb_priority = [0xff; 4];
        if self.key.skb_priority != self.initial.skb_priority {
            self.key.skb_priority = self.initial.skb_priority;
            let queue = u32::from_be_bytes(self.key.skb_priority);
            let queue = if queue == 0 { "0".to_owned() } else { format!("{queue:#x}") };
            self.report(Kind::Detail, format_args!("queue = {queue}"));
        }
    }

    fn enqueue(&mut self, port: OfPort, queue: u32, last: bool) {
        self.mask.skb_priority = [0xff; 4];
        let port = match port {
            OfPort::IN_PORT => self.in_port(),
            _ if port == self.in_port() => return,
            _ => port,
        };
        let old = std::mem::replace(&mut self.key.skb_priority, queue.to_be_bytes());
        self.compose_output(port, last);
        self.key.skb_priority = old;
    }

    /// Timeouts are shortened when the credit is paid for packets with FIN or RST.
    fn fin_timeout(&mut self, idle_s: u16, hard_s: u16) {
        self.mask.nw_proto = 0xff;
        if let Some(rule) = self.rule.clone() {
            self.credits.push(Credit::FinTimeout { rule, idle_s, hard_s });
        }
    }

    fn meter(&mut self, id: u32) {
        self.deps.object(crate::deps::Object::Meters(self.bridge.id));
        if let Some(dp_meter) = self.bridge.meters.datapath_id(id) {
            self.emit(flow::Action::Meter(dp_meter));
        }
    }

    /// Whether the datapath has `check_pkt_len`.
    fn datapath_measures(&self) -> bool {
        self.world.backend(self.origin).is_none_or(|b| b.features.check_pkt_len)
    }

    fn delete_field(&mut self, field: Field) {
        if let Some(n) = field.tun_metadata_number() {
            let options = &self.bridge.tunnel_options;
            options.clear(&mut self.key, n);
            // That it is not there is what comes back after recirculation.
            if let Some(option) = options.option(n) {
                options.set(&mut self.written, n, &Value::ones(8 * option.bytes));
            }
        }
        self.report(Kind::Detail, format_args!("delete {field}"));
    }

    fn set_tunnel_option(&mut self, field: Field, value: &Value, mask: &Value) {
        let Some(n) = field.tun_metadata_number().filter(|n| self.bridge.tunnel_options.option(*n).is_some()) else {
            self.report(Kind::Warn, format_args!("{field} is not mapped to a tunnel option, set_field ignored"));
            return;
        };
        let options = &self.bridge.tunnel_options;
        let kept = options.get(&self.key, n).without(mask);
        options.set(&mut self.key, n, &kept.or(&value.and(mask)));
        // Whether the packet had it decides what it has afterwards, and so do the bits that stay.
        for bits in [&mut self.mask, &mut self.written] {
            let all = options.get(bits, n).or(mask);
            options.set(bits, n, &all);
        }
    }
}

fn on_or_stop(on: bool) -> Next {
    if on { Next::On } else { Next::Stop }
}
