//! Writes actions as `ovs-ofctl dump-flows` does.

use super::{NO_METER, PACKET_IN_REASONS, REASON_ACTION};
use crate::action::{Controller, FieldValue, OfAction, SetForm, Subfield};
use crate::text::Names;
use crate::types::{OfPort, TableId};
use flow::Field;
use flow::oftext::format_value;
use std::fmt::{self, Display, Formatter};
use std::net::Ipv4Addr;

/// A thing with the names to show it by.
#[derive(Clone, Copy, Debug)]
pub struct Show<'a, T: ?Sized>(pub &'a T, pub &'a Names<'a>);

/// One action or instruction.
#[must_use]
pub fn format_action(action: &OfAction, names: &Names<'_>) -> String {
    Show(action, names).to_string()
}

/// A list, `drop` when there is none.
#[must_use]
pub fn format_actions(actions: &[OfAction], names: &Names<'_>) -> String {
    Show(actions, names).to_string()
}

impl Display for Show<'_, [OfAction]> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("drop");
        }
        for (n, action) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            Show(action, self.1).fmt(f)?;
        }
        Ok(())
    }
}

impl Display for Show<'_, OfAction> {
    #[allow(clippy::too_many_lines, reason = "one arm per action")]
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let names = self.1;
        match self.0 {
            OfAction::Output { port, max_len } => output(f, *port, *max_len, names),
            OfAction::OutputReg { src, .. } => write!(f, "output:{src}"),
            OfAction::OutputTrunc { port, max_len } => write!(f, "output(port={},max_len={max_len})", names.port(*port)),
            OfAction::Controller(c) => controller(f, c),
            OfAction::Enqueue { port, queue } => write!(f, "enqueue:{}:{queue}", names.port(*port)),
            OfAction::Group(id) => write!(f, "group:{}", id.0),
            OfAction::Bundle(bundle) => Show(&**bundle, names).fmt(f),
            OfAction::SetField { field, value, mask, form } => set_field(f, (*field, value, mask), *form, names),
            OfAction::RegMove { src, dst, .. } => write!(f, "move:{src}->{dst}"),
            OfAction::StackPush(src) => write!(f, "push:{src}"),
            OfAction::StackPop(dst) => write!(f, "pop:{dst}"),
            OfAction::DecTtl { controllers } => dec_ttl(f, controllers.as_deref()),
            OfAction::SetTunnel { id, wide } => {
                write!(f, "set_tunnel{}:{}", if *wide || *id > u32::MAX.into() { "64" } else { "" }, Alternate(*id))
            }
            OfAction::FinTimeout { idle, hard } => fin_timeout(f, *idle, *hard),
            OfAction::Resubmit { port, table, with_ct, .. } => resubmit(f, *port, *table, *with_ct, names),
            OfAction::Learn(learn) => Show(&**learn, names).fmt(f),
            OfAction::Conjunction { id, clause, n_clauses } => {
                write!(f, "conjunction({id},{}/{n_clauses})", u16::from(*clause) + 1)
            }
            OfAction::Multipath(multipath) => multipath.fmt(f),
            OfAction::Note(bytes) => write!(f, "note:{}", Dotted(bytes)),
            OfAction::Sample(sample) => Show(&**sample, names).fmt(f),
            OfAction::Clone(list) => write!(f, "clone({})", Show(&list[..], names)),
            OfAction::Ct(ct) => Show(&**ct, names).fmt(f),
            OfAction::Nat(nat) => nat.fmt(f),
            OfAction::Encap(encap) => encap.fmt(f),
            OfAction::Decap { new_packet_type } => decap(f, *new_packet_type),
            OfAction::CheckPktLarger { len, dst } => write!(f, "check_pkt_larger({len})->{dst}"),
            OfAction::DeleteField(field) => write!(f, "delete_field:{field}"),
            OfAction::WriteActions(list) => write!(f, "write_actions({})", Show(&list[..], names)),
            OfAction::WriteMetadata { value, mask } if *mask == u64::MAX => write!(f, "write_metadata:{}", Alternate(*value)),
            OfAction::WriteMetadata { value, mask } => write!(f, "write_metadata:{}/{}", Alternate(*value), Alternate(*mask)),
            OfAction::GotoTable(table) => write!(f, "goto_table:{}", names.table(*table)),
            OfAction::SetVlanVid { vid, push_if_needed } => write!(f, "{}_vlan_vid:{vid}", vlan_verb(*push_if_needed)),
            OfAction::SetVlanPcp { pcp, push_if_needed } => write!(f, "{}_vlan_pcp:{pcp}", vlan_verb(*push_if_needed)),
            OfAction::StripVlan { pop } => f.write_str(if *pop { "pop_vlan" } else { "strip_vlan" }),
            OfAction::PushVlan { ethertype } => write!(f, "push_vlan:{ethertype:#x}"),
            OfAction::SetEthSrc(mac) => write!(f, "mod_dl_src:{}", Mac(*mac)),
            OfAction::SetEthDst(mac) => write!(f, "mod_dl_dst:{}", Mac(*mac)),
            OfAction::SetIpv4Src(ip) => write!(f, "mod_nw_src:{}", Ipv4Addr::from(*ip)),
            OfAction::SetIpv4Dst(ip) => write!(f, "mod_nw_dst:{}", Ipv4Addr::from(*ip)),
            OfAction::SetIpDscp(n) => write!(f, "mod_nw_tos:{n}"),
            OfAction::SetIpEcn(n) => write!(f, "mod_nw_ecn:{n}"),
            OfAction::SetIpTtl(n) => write!(f, "mod_nw_ttl:{n}"),
            OfAction::SetL4Src(n) => write!(f, "mod_tp_src:{n}"),
            OfAction::SetL4Dst(n) => write!(f, "mod_tp_dst:{n}"),
            OfAction::SetMplsLabel(n) => write!(f, "set_mpls_label({n})"),
            OfAction::SetMplsTc(n) => write!(f, "set_mpls_tc({n})"),
            OfAction::SetMplsTtl(n) => write!(f, "set_mpls_ttl({n})"),
            OfAction::DecMplsTtl => f.write_str("dec_mpls_ttl"),
            OfAction::PushMpls { ethertype } => write!(f, "push_mpls:0x{ethertype:04x}"),
            OfAction::PopMpls { ethertype } => write!(f, "pop_mpls:0x{ethertype:04x}"),
            OfAction::CopyTtlOut => f.write_str("copy_ttl_out"),
            OfAction::CopyTtlIn => f.write_str("copy_ttl_in"),
            OfAction::PushPbb => f.write_str("push_pbb:0x88e7"),
            OfAction::PopPbb => f.write_str("pop_pbb"),
            OfAction::SetQueue(n) => write!(f, "set_queue:{n}"),
            OfAction::PopQueue => f.write_str("pop_queue"),
            OfAction::Exit => f.write_str("exit"),
            OfAction::CtClear => f.write_str("ct_clear"),
            OfAction::DecNshTtl => f.write_str("dec_nsh_ttl"),
            OfAction::DebugRecirc => f.write_str("debug_recirc"),
            OfAction::DebugSlow => f.write_str("debug_slow"),
            OfAction::Meter(n) => write!(f, "meter:{n}"),
            OfAction::ClearActions => f.write_str("clear_actions"),
        }
    }
}

fn vlan_verb(push_if_needed: bool) -> &'static str {
    if push_if_needed { "mod" } else { "set" }
}

fn output(f: &mut Formatter<'_>, port: OfPort, max_len: u16, names: &Names<'_>) -> fmt::Result {
    if port == OfPort::CONTROLLER {
        return write!(f, "CONTROLLER:{max_len}");
    }
    let prefix = if port.0 & 0xffff < OfPort::REAL_MAX { "output:" } else { "" };
    write!(f, "{prefix}{}", names.port(port))
}

fn controller(f: &mut Formatter<'_>, c: &Controller) -> fmt::Result {
    let plain = c.reason == REASON_ACTION && c.controller_id == 0 && c.userdata.is_empty() && !c.pause && c.meter_id == NO_METER;
    if plain {
        return write!(f, "CONTROLLER:{}", c.max_len);
    }
    let mut parts = Vec::new();
    if c.reason != REASON_ACTION {
        let name = PACKET_IN_REASONS.get(usize::from(c.reason));
        parts.push(format!("reason={}", name.map_or_else(|| c.reason.to_string(), |n| (*n).to_owned())));
    }
    if c.max_len != u16::MAX {
        parts.push(format!("max_len={}", c.max_len));
    }
    if c.controller_id != 0 {
        parts.push(format!("id={}", c.controller_id));
    }
    if !c.userdata.is_empty() {
        parts.push(format!("userdata={}", Dotted(&c.userdata)));
    }
    if c.pause {
        parts.push("pause".to_owned());
    }
    if c.meter_id != NO_METER {
        parts.push(format!("meter_id={}", c.meter_id));
    }
    write!(f, "controller({})", parts.join(","))
}

fn set_field(f: &mut Formatter<'_>, set: (Field, &FieldValue, &FieldValue), form: SetForm, names: &Names<'_>) -> fmt::Result {
    let (field, value, mask) = set;
    match form {
        SetForm::SetField | SetForm::Load2 => {
            write!(f, "set_field:{}->{field}", format_value(field, value, Some(mask), names.ports))
        }
        SetForm::Load => {
            for (n, (part, bits)) in load_segments(field, value, mask).into_iter().enumerate() {
                write!(f, "{}load:{}->{part}", if n > 0 { "," } else { "" }, Alternate(bits))?;
            }
            Ok(())
        }
    }
}

/// The loads that make up a masked set: runs of 1-bits of the mask, lowest first, of at most the 64 bits that one takes.
pub(crate) fn load_segments(field: Field, value: &FieldValue, mask: &FieldValue) -> Vec<(Subfield, u64)> {
    const LOAD_BITS_MAX: usize = 64;
    let bytes = mask.to_be_bytes();
    let bit = |n: usize| bytes[bytes.len() - 1 - n / 8] >> (n % 8) & 1 != 0;
    let width = usize::from(field.row().bits);
    let mut segments = Vec::new();
    let mut at = 0;
    while let Some(ofs) = (at..width).find(|n| bit(*n)) {
        let end = (ofs..width.min(ofs + LOAD_BITS_MAX)).find(|n| !bit(*n)).unwrap_or_else(|| width.min(ofs + LOAD_BITS_MAX));
        let ones = FieldValue::ones(end - ofs).low();
        let bits = u64::try_from(value.shifted_right(ofs).low() & ones).expect("a load has 64 bits at most");
        let small = |n: usize| u16::try_from(n).expect("fields have at most 1024 bits");
        segments.push((Subfield { field, ofs: small(ofs), bits: small(end - ofs) }, bits));
        at = end;
    }
    segments
}

fn dec_ttl(f: &mut Formatter<'_>, controllers: Option<&[u16]>) -> fmt::Result {
    let Some(controllers) = controllers else { return f.write_str("dec_ttl") };
    let ids: Vec<String> = controllers.iter().map(u16::to_string).collect();
    write!(f, "dec_ttl({})", ids.join(","))
}

fn fin_timeout(f: &mut Formatter<'_>, idle: u16, hard: u16) -> fmt::Result {
    let part = |name: &str, v: u16| (v != 0).then(|| format!("{name}={v}"));
    let parts: Vec<String> = [part("idle_timeout", idle), part("hard_timeout", hard)].into_iter().flatten().collect();
    write!(f, "fin_timeout({})", parts.join(","))
}

fn resubmit(f: &mut Formatter<'_>, port: OfPort, table: TableId, with_ct: bool, names: &Names<'_>) -> fmt::Result {
    let here = port == OfPort::IN_PORT;
    if !here && table == TableId::ALL {
        return write!(f, "resubmit:{}", names.port(port));
    }
    let port = if here { String::new() } else { names.port(port) };
    let table = if table == TableId::ALL { String::new() } else { names.table(table) };
    write!(f, "resubmit({port},{table}{})", if with_ct { ",ct" } else { "" })
}

fn decap(f: &mut Formatter<'_>, new_packet_type: Option<u32>) -> fmt::Result {
    match new_packet_type {
        None => f.write_str("decap()"),
        Some(t) => write!(f, "decap(packet_type(ns={},type={}))", t >> 16, Alternate((t & 0xffff).into())),
    }
}

/// C's `%#x`: hexadecimal, where zero has no prefix.
#[derive(Clone, Copy)]
pub(crate) struct Alternate(pub(crate) u64);

impl Display for Alternate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("0") } else { write!(f, "{:#x}", self.0) }
    }
}

/// A long number like `Alternate`.
pub(crate) fn hex(value: &FieldValue) -> String {
    if value.is_zero() { "0".to_owned() } else { format!("{value:#x}") }
}

/// Bytes as `01.ab.ff`.
#[derive(Clone, Copy)]
pub(crate) struct Dotted<'a>(pub(crate) &'a [u8]);

impl Display for Dotted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if n > 0 { "." } else { "" })?;
        }
        Ok(())
    }
}

/// An Ethernet address.
#[derive(Clone, Copy)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl Display for Mac {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
