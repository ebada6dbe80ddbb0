//! Datapath actions as text, as `dpctl/dump-flows` writes them and `dpctl/add-flow` reads them (reference: actions.md, section 5).
//!
//! What enters: a list of actions, or text. What leaves: the other of the two. Neighbours: `dptext` has the attributes inside
//! `set(...)`, `action_text_read` the reader, `action_text_tunnel` both directions of `tnl_push`.
//!
//! Text says a little less than an action: an explicit drop has no reason in it, a probability one decimal, `add_mpls` not
//! whether it goes behind layer 2, a cookie not its bridge. What Open vSwitch prints and does not read (`hash`, `push_mpls`,
//! `pop_mpls`, `push_eth`, `pop_eth`, `dec_ttl`, `set(nsh())`, hexadecimal `recirc`) is read here.

use crate::action::{Action, Cookie, Ct, HashAlg, Nat, Nsh, SLOW_REASONS, SetAttr, SetField, Userspace};
use crate::action_text_tunnel::write_tunnel_push;
use crate::dptext;
use crate::fields::DpAttr;
use crate::forms::{Hex, Ip6, Mac, PortNames};
use crate::key::Key;
use crate::seam::DpPort;
use crate::wire::{self, eth_type};
use std::fmt::Write;
use std::net::IpAddr;

pub use crate::action_text_read::{ACTIONS_MAX, ActionsError, NESTED_MAX, parse_actions};
pub use crate::action_text_tunnel::vport;

/// The attributes that can be set, as their datapath key attribute and its name. One row each; text and parse loop over it.
pub(crate) const SETTABLE: &[(SetAttr, DpAttr, &str)] = &[
    (SetAttr::Priority, DpAttr::Priority, "skb_priority"),
    (SetAttr::Mark, DpAttr::SkbMark, "skb_mark"),
    (SetAttr::Eth, DpAttr::Ethernet, "eth"),
    (SetAttr::Ipv4, DpAttr::Ipv4, "ipv4"),
    (SetAttr::Ipv6, DpAttr::Ipv6, "ipv6"),
    (SetAttr::Tcp, DpAttr::Tcp, "tcp"),
    (SetAttr::Udp, DpAttr::Udp, "udp"),
    (SetAttr::Sctp, DpAttr::Sctp, "sctp"),
    (SetAttr::Icmp, DpAttr::Icmp, "icmp"),
    (SetAttr::Icmpv6, DpAttr::Icmpv6, "icmpv6"),
    (SetAttr::Arp, DpAttr::Arp, "arp"),
    (SetAttr::Nd, DpAttr::Nd, "nd"),
    (SetAttr::NdExt, DpAttr::NdExt, "nd_ext"),
    (SetAttr::Mpls, DpAttr::Mpls, "mpls"),
    (SetAttr::Nsh, DpAttr::Nsh, "nsh"),
    (SetAttr::Pbb, DpAttr::Pbb, "pbb"),
    (SetAttr::Tunnel, DpAttr::Tunnel, "tunnel"),
];

/// A list of actions; an empty one is `drop`. Ports appear by name where `ports` knows one.
#[must_use]
pub fn format_actions(actions: &[Action], ports: &dyn PortNames) -> String {
    let mut w = Writer { out: String::new(), ports };
    w.list(actions);
    w.out
}

pub(crate) struct Writer<'a> {
    pub(crate) out: String,
    ports: &'a dyn PortNames,
}

/// Writing into a `String` cannot fail.
macro_rules! put {
    ($w:expr, $($arg:tt)*) => { $w.out.write_fmt(format_args!($($arg)*)).expect("a String takes all") };
}

impl Writer<'_> {
    fn list(&mut self, actions: &[Action]) {
        if actions.is_empty() {
            self.out.push_str("drop");
        }
        for (i, action) in actions.iter().enumerate() {
            if i > 0 {
                self.out.push(',');
            }
            self.action(action);
        }
    }

    pub(crate) fn port(&mut self, port: DpPort) {
        match self.ports.name(port.0) {
            Some(name) => self.out.push_str(&name),
            None => put!(self, "{}", port.0),
        }
    }

    fn nested(&mut self, before: &str, actions: &[Action], after: &str) {
        self.out.push_str(before);
        self.list(actions);
        self.out.push_str(after);
    }

    fn action(&mut self, action: &Action) {
        match action {
            Action::Output(port) => self.port(*port),
            Action::Userspace(u) => self.userspace(u),
            Action::Set(field) => self.set(field),
            Action::PushVlan { tpid, tci } => self.push_vlan(*tpid, *tci),
            Action::PopVlan => self.out.push_str("pop_vlan"),
            Action::Sample { probability, actions } => {
                put!(self, "sample(sample={:.1}%,", 100.0 * f64::from(*probability) / f64::from(u32::MAX));
                self.nested("actions(", actions, "))");
            }
            Action::Recirc(id) => put!(self, "recirc({})", Hex(u128::from(*id))),
            Action::Hash { alg: HashAlg::L4, basis } => put!(self, "hash(l4({basis}))"),
            Action::Hash { alg: HashAlg::SymL4, basis } => put!(self, "hash(sym_l4({basis}))"),
            Action::PushMpls { lse, eth_type } => self.label("push_mpls", *lse, *eth_type),
            Action::AddMpls { lse, eth_type, l3: _ } => self.label("add_mpls", *lse, *eth_type),
            Action::PopMpls { eth_type } => put!(self, "pop_mpls(eth_type=0x{eth_type:x})"),
            Action::Ct(ct) => self.ct(ct),
            Action::Trunc(max_len) => put!(self, "trunc({max_len})"),
            Action::PushEth { src, dst } => put!(self, "push_eth(src={},dst={})", mac(src), mac(dst)),
            Action::PopEth => self.out.push_str("pop_eth"),
            Action::CtClear => self.out.push_str("ct_clear"),
            Action::PushNsh(nsh) => self.push_nsh(nsh),
            Action::PopNsh => self.out.push_str("pop_nsh()"),
            Action::PushPbb { isid, pcp } => put!(self, "push_pbb(isid={isid},pcp={pcp})"),
            Action::CopyTtl { inwards } => put!(self, "copy_ttl({})", if *inwards { "in" } else { "out" }),
            Action::PopPbb => self.out.push_str("pop_pbb"),
            Action::Meter(id) => put!(self, "meter({id})"),
            Action::Clone(actions) => self.nested("clone(", actions, ")"),
            Action::CheckPktLen { size, greater, less_equal } => {
                put!(self, "check_pkt_len(size={size},");
                self.nested("gt(", greater, "),");
                self.nested("le(", less_equal, "))");
            }
            Action::DecTtl { exceeded } => self.nested("dec_ttl(le_1(", exceeded, "))"),
            Action::Drop(_) => self.out.push_str("drop"),
            Action::Psample { group, cookie } => {
                put!(self, "psample(group={group}");
                if !cookie.is_empty() {
                    self.out.push_str(",cookie=0x");
                    self.hex(cookie);
                }
                self.out.push(')');
            }
            Action::TunnelPush(push) => {
                self.out.push_str("tnl_push(tnl_port(");
                self.port(push.tunnel_port);
                self.out.push_str("),");
                write_tunnel_push(self, push);
                self.out.push_str(",out_port(");
                self.port(push.out_port);
                self.out.push_str("))");
            }
            Action::TunnelPop(port) => {
                self.out.push_str("tnl_pop(");
                self.port(*port);
                self.out.push(')');
            }
            Action::LbOutput(bond) => put!(self, "lb_output({bond})"),
        }
    }

    fn hex(&mut self, bytes: &[u8]) {
        for b in bytes {
            put!(self, "{b:02x}");
        }
    }

    fn set(&mut self, field: &SetField) {
        let attr = SETTABLE.iter().find(|row| row.0 == field.attr).expect("a row for each SetAttr").1;
        // The outer header is set as a whole; a label is shown with masks of each part or with none.
        let whole = field.attr == SetAttr::Tunnel || field.attr == SetAttr::Mpls && field.mask.mpls_lse0 == [0xff; 4];
        let mut value = field.value;
        if field.attr == SetAttr::Nsh && value.nsh_mdtype != wire::NSH_MD2 {
            // Which context headers there are to show follows from the MD type, which is not itself set.
            value.nsh_mdtype = wire::NSH_MD1;
        }
        let mask = (!whole).then_some(&field.mask);
        put!(self, "set({})", dptext::format_attr(attr, &value, mask, self.ports));
    }

    /// CFI is shown when it is missing; it stands for "there is a tag".
    fn push_vlan(&mut self, tpid: u16, tci: u16) {
        self.out.push_str("push_vlan(");
        if tpid != eth_type::VLAN {
            put!(self, "tpid=0x{tpid:04x},");
        }
        let cfi = if tci & crate::key::VLAN_CFI == 0 { ",cfi=0" } else { "" };
        put!(self, "vid={},pcp={}{cfi})", tci & 0xfff, tci >> 13);
    }

    fn label(&mut self, name: &str, lse: u32, eth_type: u16) {
        let (label, tc, bos, ttl) = (lse >> 12, lse >> 9 & 7, lse >> 8 & 1, lse & 0xff);
        put!(self, "{name}(label={label},tc={tc},ttl={ttl},bos={bos},eth_type=0x{eth_type:x})");
    }

    fn ct(&mut self, ct: &Ct) {
        let mut parts: Vec<String> = Vec::new();
        let flags = [(ct.commit, "commit"), (ct.force, "force_commit")];
        parts.extend(flags.iter().filter(|f| f.0).map(|f| f.1.to_owned()));
        if ct.zone != 0 {
            parts.push(format!("zone={}", ct.zone));
        }
        if let Some((value, mask)) = ct.mark {
            parts.push(format!("mark={}/{}", Hex(u128::from(value)), Hex(u128::from(mask))));
        }
        if let Some((value, mask)) = ct.label {
            let masked = if mask == u128::MAX { String::new() } else { format!("/{}", Hex(mask)) };
            parts.push(format!("label={}{masked}", Hex(value)));
        }
        parts.extend(ct.helper.iter().map(|h| format!("helper={h}")));
        parts.extend(ct.timeout.iter().map(|t| format!("timeout={t}")));
        parts.extend(ct.nat.iter().map(nat_text));
        self.out.push_str("ct");
        if !parts.is_empty() {
            put!(self, "({})", parts.join(","));
        }
    }

    fn push_nsh(&mut self, nsh: &Nsh) {
        let Nsh { flags, ttl, mdtype, np, path, metadata } = nsh;
        put!(self, "push_nsh(flags={flags},ttl={ttl},mdtype={mdtype},np={np},spi=0x{:x},si={}", path >> 8, path & 0xff);
        match *mdtype {
            wire::NSH_MD1 => {
                for (i, word) in metadata.as_chunks::<4>().0.iter().enumerate() {
                    put!(self, ",c{}=0x{:x}", i + 1, u32::from_be_bytes(*word));
                }
            }
            wire::NSH_MD2 if metadata.is_empty() => self.out.push_str(",md2=0"),
            wire::NSH_MD2 => {
                self.out.push_str(",md2=0x");
                self.hex(metadata);
            }
            _ => self.out.push_str(",<error: unknown mdtype>"),
        }
        self.out.push(')');
    }

    fn userspace(&mut self, u: &Userspace) {
        put!(self, "userspace(pid={}", u.pid);
        self.cookie(&u.cookie);
        if u.actions {
            self.out.push_str(",actions");
        }
        if let Some(port) = u.tunnel_out_port {
            self.out.push_str(",tunnel_out_port=");
            self.port(port);
        }
        self.out.push(')');
    }

    fn cookie(&mut self, cookie: &Cookie) {
        match cookie {
            Cookie::SlowPath { reasons, ofp_in_port: _, bridge: _ } => put!(self, ",slow_path({})", reasons_text(*reasons)),
            Cookie::SFlow { vlan_tci, output } => {
                put!(self, ",sFlow(vid={},pcp={},output={output})", vlan_tci & 0xfff, vlan_tci >> 13);
            }
            Cookie::FlowSample { probability, collector_set_id, obs_domain_id, obs_point_id, output_port, direction } => {
                put!(self, ",flow_sample(probability={probability},collector_set_id={collector_set_id}");
                put!(self, ",obs_domain_id={obs_domain_id},obs_point_id={obs_point_id},output_port=");
                self.port(*output_port);
                self.out.push_str(match direction {
                    1 => ",ingress)",
                    2 => ",egress)",
                    _ => ")",
                });
            }
            Cookie::Ipfix { output_port } => {
                self.out.push_str(",ipfix(output_port=");
                self.port(*output_port);
                self.out.push(')');
            }
            Cookie::Controller { reason, dont_send, continuation, recirc_id, rule_cookie, controller_id, max_len, .. } => {
                let (dont_send, continuation) = (u8::from(*dont_send), u8::from(*continuation));
                put!(self, ",controller(reason={reason},dont_send={dont_send},continuation={continuation},recirc_id={recirc_id}");
                let cookie = Hex(u128::from(*rule_cookie));
                put!(self, ",rule_cookie={cookie},controller_id={controller_id},max_len={max_len})");
            }
            Cookie::Raw(bytes) => {
                self.out.push_str(",userdata(");
                self.hex(bytes);
                self.out.push(')');
            }
        }
    }
}

pub(crate) fn mac(address: &[u8; 6]) -> Mac {
    let [a, b, c, d, e, f] = *address;
    Mac(u128::from(u64::from_be_bytes([0, 0, a, b, c, d, e, f])))
}

/// Names with commas; bits without a name in hexadecimal, `0` for none.
fn reasons_text(reasons: u32) -> String {
    let mut parts: Vec<String> =
        SLOW_REASONS.iter().filter(|(bit, _)| reasons & bit != 0).map(|(_, name)| (*name).to_owned()).collect();
    let rest = SLOW_REASONS.iter().fold(reasons, |rest, (bit, _)| rest & !bit);
    if rest != 0 || parts.is_empty() {
        parts.push(Hex(u128::from(rest)).to_string());
    }
    parts.join(",")
}

fn nat_text(nat: &Nat) -> String {
    let mut text = String::from("nat");
    if !nat.src && !nat.dst {
        return text;
    }
    text.push_str(if nat.src { "(src" } else { "(dst" });
    if let Some((min, max)) = nat.addr {
        text.push('=');
        let bracketed = nat.ports.is_some();
        text.push_str(&address(min, bracketed));
        if max != min {
            text.push('-');
            text.push_str(&address(max, bracketed));
        }
        match nat.ports {
            Some((from, to)) if to != from && to != 0 => text.push_str(&format!(":{from}-{to}")),
            Some((from, _)) => text.push_str(&format!(":{from}")),
            None => {}
        }
    }
    for (on, word) in [(nat.persistent, ",persistent"), (nat.hash, ",hash"), (nat.random, ",random")] {
        text.push_str(if on { word } else { "" });
    }
    text.push(')');
    text
}

fn address(address: IpAddr, bracketed: bool) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) if bracketed => format!("[{}]", Ip6(u128::from(v6))),
        IpAddr::V6(v6) => Ip6(u128::from(v6)).to_string(),
    }
}

/// A set of one attribute, from what its text said.
pub(crate) fn set_field(attr: SetAttr, value: &Key, mask: &Key) -> SetField {
    SetField { attr, value: *value, mask: *mask }
}

#[cfg(test)]
#[path = "action_text_tests.rs"]
mod tests;
