//! The way of one connection's packets through megaflows: what is known of the packet at each point, what had to be so from the start,
//! and what was done to it.
//!
//! What enters: the tuple that the packets come with; megaflows, one after another. What leaves: the composed megaflow, or nothing if such
//! a packet does not come this way or the way cannot be composed. Pure.

use super::{ConnId, Connections, Merged, named};
use flow::action::{Action, Actions, Ct, SetAttr, SetField};
use flow::conntrack::{CtEntry, CtTuple};
use flow::key::{FRAG_ANY, FRAG_LATER, Key, Mask};
use flow::wire::{eth_type, ip_proto};
use flow::{Megaflow, Ufid};
use std::net::IpAddr;
use std::sync::Arc;

/// `ct_state` bits.
const EST: u8 = 0x02;
const RPL: u8 = 0x08;
const TRK: u8 = 0x20;
const SNAT: u8 = 0x40;
const DNAT: u8 = 0x80;
/// TCP flags that are matched, and how they are: ACK there, FIN, SYN and RST not.
const FLAGS_MASK: u16 = 0x17;
const ACK: u16 = 0x10;

/// What comes behind a megaflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    End,
    Recirc(u32),
}

/// A packet on its way.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    /// What the packet must be when it comes.
    key: Box<Key>,
    mask: Box<Mask>,
    /// What it is now, as far as `known` says.
    now: Box<Key>,
    known: Box<Mask>,
    /// Bits that are no longer the packet's own.
    moved: Box<Mask>,
    /// Headers were added, taken away, or changed to something unknown: nothing more can be looked at.
    opaque: bool,
    /// The tuple at the first `ct`, which the packet may have come with or been given by an action before.
    tuple: CtTuple,
    /// Addresses or ports were set after the last `ct`.
    readdressed: bool,
    actions: Actions,
    parts: Vec<Ufid>,
    conns: Vec<ConnId>,
}

fn blank() -> Box<Key> {
    Box::new(Key::ZERO)
}

impl Walk {
    /// A packet that has that tuple at its first `ct`, fresh from a port. `None` for protocols that are not TCP or UDP.
    pub(super) fn begin(tuple: &CtTuple) -> Option<Self> {
        let mut walk = Self {
            key: blank(),
            mask: blank(),
            now: blank(),
            known: blank(),
            moved: blank(),
            opaque: false,
            tuple: *tuple,
            readdressed: false,
            actions: Actions::new(),
            parts: Vec::new(),
            conns: Vec::new(),
        };
        // A packet that has not been tracked yet has nought in all that tracking tells, and comes to the start of the way.
        let mut untold = tracked_fields();
        untold.recirc_id = [0xff; 4];
        walk.write(&Key::ZERO, &untold);
        (walk.mask.recirc_id, walk.known.recirc_id) = ([0xff; 4], [0xff; 4]);
        let (mut key, mut mask) = (Key::ZERO, Key::ZERO);
        (mask.eth_type, mask.nw_proto, mask.nw_frag) = ([0xff; 2], 0xff, FRAG_ANY | FRAG_LATER);
        key.eth_type = if tuple.src.is_ipv4() { eth_type::IPV4 } else { eth_type::IPV6 }.to_be_bytes();
        key.nw_proto = tuple.proto;
        match tuple.proto {
            ip_proto::TCP => (key.tcp_flags, mask.tcp_flags) = (ACK.to_be_bytes(), FLAGS_MASK.to_be_bytes()),
            ip_proto::UDP => {}
            _ => return None,
        }
        walk.require(&key, &mask).then_some(walk)
    }

    /// Megaflows passed.
    pub(super) const fn steps(&self) -> usize {
        self.parts.len()
    }

    /// Passes a megaflow. `None` if such a packet does not match it, or its actions cannot be composed.
    pub(super) fn pass(&mut self, flow: &Megaflow, conns: &Connections) -> Option<Next> {
        if self.opaque || !self.require(&flow.key, &flow.mask) {
            return None;
        }
        if self.parts.is_empty() {
            // Bits that nobody looks at are as the first packet had them: `canonical` may have to narrow to them.
            for (i, word) in flow.key.words().iter().enumerate() {
                self.key.words_mut()[i] |= word & !self.mask.words()[i];
            }
        }
        self.parts.push(flow.ufid);
        for (i, action) in flow.actions.iter().enumerate() {
            let last = i + 1 == flow.actions.len();
            match action {
                Action::Ct(ct) => self.track(ct, conns)?,
                Action::CtClear => self.write(&Key::ZERO, &tracked_fields()),
                Action::Recirc(id) if last => {
                    let (mut key, mut mask) = (Key::ZERO, Key::ZERO);
                    (key.recirc_id, mask.recirc_id) = (id.to_be_bytes(), [0xff; 4]);
                    self.write(&key, &mask);
                    return Some(Next::Recirc(*id));
                }
                Action::Recirc(_) => return None,
                Action::Set(set) => self.set(set),
                Action::Output(_) => self.actions.push(action.clone()),
                Action::PushVlan { .. }
                | Action::PopVlan
                | Action::PushMpls { .. }
                | Action::PopMpls { .. }
                | Action::Trunc(_)
                | Action::PushEth { .. }
                | Action::PopEth
                | Action::PushNsh(_)
                | Action::PopNsh
                | Action::PushPbb { .. }
                | Action::PopPbb
                | Action::CopyTtl { .. }
                | Action::Meter(_)
                | Action::AddMpls { .. }
                | Action::Drop(_)
                | Action::Psample { .. }
                | Action::TunnelPush(_)
                | Action::TunnelPop(_)
                | Action::LbOutput(_)
                | Action::Hash { .. }
                | Action::Userspace(_) => {
                    self.opaque = true;
                    self.actions.push(action.clone());
                }
                Action::Sample { .. } | Action::Clone(_) | Action::DecTtl { .. } | Action::CheckPktLen { .. } => {
                    self.nested(action)?;
                }
            }
        }
        Some(Next::End)
    }

    /// The composed megaflow, if a connection was met.
    pub(super) fn end(self) -> Option<Merged> {
        if self.conns.is_empty() {
            return None;
        }
        let flow = Megaflow { ufid: Ufid(0), key: self.key, mask: self.mask, actions: Arc::new(self.actions) };
        Some(Merged { flow: named(flow), parts: self.parts, conns: self.conns })
    }

    /// Lists within actions are carried out as they are, if no connection is met there.
    fn nested(&mut self, action: &Action) -> Option<()> {
        if Action::any(std::slice::from_ref(action), |a| a.traits().tracks) {
            return None;
        }
        self.opaque = true;
        self.actions.push(action.clone());
        Some(())
    }

    /// Makes it so that the packet has the bits of `key` that `mask` says; false if it has others, or nobody can know.
    fn require(&mut self, key: &Key, mask: &Mask) -> bool {
        let words = key.words().iter().zip(mask.words()).enumerate();
        for (i, (key, mask)) in words {
            let (known, now) = (self.known.words()[i], self.now.words()[i]);
            let fresh = mask & !known;
            if (now ^ key) & mask & known != 0 || fresh & self.moved.words()[i] != 0 {
                return false;
            }
            for (bits, masks) in [(&mut self.key, &mut self.mask), (&mut self.now, &mut self.known)] {
                bits.words_mut()[i] = bits.words()[i] & !fresh | key & fresh;
                masks.words_mut()[i] |= fresh;
            }
        }
        true
    }

    /// The packet has these bits from now on.
    fn write(&mut self, key: &Key, mask: &Mask) {
        for (i, (key, mask)) in key.words().iter().zip(mask.words()).enumerate() {
            self.now.words_mut()[i] = self.now.words()[i] & !mask | key & mask;
            self.known.words_mut()[i] |= mask;
            self.moved.words_mut()[i] |= mask;
        }
    }

    fn set(&mut self, set: &SetField) {
        self.actions.push(Action::Set(Box::new(set.clone())));
        match set.attr {
            // The outer header of an output, or fields that stand in other places of the key for other packets.
            SetAttr::Tunnel | SetAttr::Nsh | SetAttr::Pbb | SetAttr::Mpls => self.opaque = true,
            SetAttr::Priority
            | SetAttr::Mark
            | SetAttr::Eth
            | SetAttr::Ipv4
            | SetAttr::Ipv6
            | SetAttr::Tcp
            | SetAttr::Udp
            | SetAttr::Sctp
            | SetAttr::Icmp
            | SetAttr::Icmpv6
            | SetAttr::Arp
            | SetAttr::Nd
            | SetAttr::NdExt => {
                let (_, tuple) = all_tuple_fields();
                self.readdressed |= set.mask.masked(&tuple) != Key::ZERO;
                self.write(&set.value, &set.mask);
            }
        }
    }

    /// A `ct`: the packet's connection must be known, and the action must change nothing of it.
    fn track(&mut self, ct: &Ct, conns: &Connections) -> Option<()> {
        let Ct { commit: _, force, zone, mark, label, helper: _, timeout: _, nat, event_mask: _ } = ct;
        // A commit, with whatever helper or timeout, does nothing to a connection that is there; a forced one ends those that answer.
        if self.opaque || *force {
            return None;
        }
        let told = self.now.ct_state & TRK != 0 && self.now.ct_zone == zone.to_be_bytes();
        if told && self.readdressed {
            return None;
        }
        let before = if told { self.now.ct_state } else { 0 };
        let (entry, reply) = if told {
            let id = self.conns.last().copied()?;
            (conns.get(&id)?, before & RPL != 0)
        } else {
            self.find(*zone, conns)?
        };
        let stays = |have: u128, want: Option<(u128, u128)>| want.is_none_or(|(value, mask)| value | have & !mask == have);
        if super::admissible(entry).is_err()
            || !stays(entry.mark.into(), mark.map(|(v, m)| (v.into(), m.into())))
            || !stays(entry.label, *label)
        {
            return None;
        }
        let mut state = before | EST | TRK | if reply { RPL } else { 0 };
        if nat.is_some() && state & (SNAT | DNAT) == 0 {
            state |= self.translate(entry, reply);
        }
        self.tell(entry, state);
        self.readdressed = false;
        if !told {
            self.conns.push(ConnId::of(entry));
        }
        Some(())
    }

    /// The connection of the packet as it is now. What of its tuple was not looked at yet is matched from now on.
    fn find<'c>(&mut self, zone: u16, conns: &'c Connections) -> Option<(&'c CtEntry, bool)> {
        if self.conns.is_empty() {
            let (key, mask) = tuple_fields(&self.tuple);
            if !self.require(&key, &mask) {
                return None;
            }
        }
        conns.find(zone, &self.tuple()?)
    }

    /// The packet's tuple.
    fn tuple(&self) -> Option<CtTuple> {
        let (_, mut mask) = all_tuple_fields();
        let four = self.now.eth_type == eth_type::IPV4.to_be_bytes();
        if four {
            (mask.ipv6_src, mask.ipv6_dst) = ([0; 16], [0; 16]);
        } else {
            (mask.nw_src, mask.nw_dst) = ([0; 4], [0; 4]);
        }
        let now = &self.now;
        let (src, dst): (IpAddr, IpAddr) =
            if four { (now.nw_src.into(), now.nw_dst.into()) } else { (now.ipv6_src.into(), now.ipv6_dst.into()) };
        let ports = (u16::from_be_bytes(now.tp_src), u16::from_be_bytes(now.tp_dst));
        let tuple = CtTuple { src, dst, proto: now.nw_proto, src_port: ports.0, dst_port: ports.1, ..CtTuple::default() };
        mask.is_subset_of(&self.known).then_some(tuple)
    }

    /// Translates as the connection says, by rewrites of what differs; the bits of `ct_state` that tell of it.
    fn translate(&mut self, entry: &CtEntry, reply: bool) -> u8 {
        let [source, destination] = entry.translated;
        if !source && !destination {
            return 0;
        }
        let (from, to) = if reply { (entry.reply, reversed(&entry.orig)) } else { (entry.orig, reversed(&entry.reply)) };
        let (was, all) = tuple_fields(&from);
        let (value, _) = tuple_fields(&to);
        let mut differ = blank();
        for (i, mask) in all.words().iter().enumerate() {
            // Fields are rewritten whole; a bit that differs stands for its field.
            differ.words_mut()[i] = (was.words()[i] ^ value.words()[i]) & mask;
        }
        let four = from.src.is_ipv4();
        let transport = if from.proto == ip_proto::TCP { SetAttr::Tcp } else { SetAttr::Udp };
        for attr in [if four { SetAttr::Ipv4 } else { SetAttr::Ipv6 }, transport] {
            let mut mask = Key::ZERO;
            let whole = |bits: &[u8]| if bits.iter().all(|b| *b == 0) { 0 } else { 0xff };
            if attr == transport {
                (mask.tp_src, mask.tp_dst) = ([whole(&differ.tp_src); 2], [whole(&differ.tp_dst); 2]);
            } else {
                (mask.nw_src, mask.nw_dst) = ([whole(&differ.nw_src); 4], [whole(&differ.nw_dst); 4]);
                (mask.ipv6_src, mask.ipv6_dst) = ([whole(&differ.ipv6_src); 16], [whole(&differ.ipv6_dst); 16]);
            }
            if mask != Key::ZERO {
                self.set(&SetField { attr, value: value.masked(&mask), mask });
            }
        }
        // An answer's source is what was the original direction's destination.
        let (source, destination) = if reply { (destination, source) } else { (source, destination) };
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        bit(source, SNAT) | bit(destination, DNAT)
    }

    /// What rules see of a connection.
    fn tell(&mut self, entry: &CtEntry, state: u8) {
        let mut key = Key::ZERO;
        (key.ct_state, key.ct_zone, key.ct_nw_proto) = (state, entry.zone.to_be_bytes(), entry.orig.proto);
        (key.ct_mark, key.ct_label) = (entry.mark.to_be_bytes(), entry.label.to_be_bytes());
        match (entry.orig.src, entry.orig.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => (key.ct_nw_src, key.ct_nw_dst) = (src.octets(), dst.octets()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => (key.ct_ipv6_src, key.ct_ipv6_dst) = (src.octets(), dst.octets()),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
        }
        (key.ct_tp_src, key.ct_tp_dst) = (entry.orig.src_port.to_be_bytes(), entry.orig.dst_port.to_be_bytes());
        self.write(&key, &tracked_fields());
    }
}

const fn reversed(t: &CtTuple) -> CtTuple {
    CtTuple { src: t.dst, dst: t.src, src_port: t.dst_port, dst_port: t.src_port, ..*t }
}

/// Every field that `ct` writes.
fn tracked_fields() -> Mask {
    let mut mask = Key::ZERO;
    (mask.ct_state, mask.ct_nw_proto, mask.ct_zone, mask.ct_mark) = (0xff, 0xff, [0xff; 2], [0xff; 4]);
    (mask.ct_label, mask.ct_tp_src, mask.ct_tp_dst) = ([0xff; 16], [0xff; 2], [0xff; 2]);
    (mask.ct_nw_src, mask.ct_nw_dst) = ([0xff; 4], [0xff; 4]);
    (mask.ct_ipv6_src, mask.ct_ipv6_dst) = ([0xff; 16], [0xff; 16]);
    mask
}

/// The fields of both families' tuples: nought, and their mask.
fn all_tuple_fields() -> (Key, Mask) {
    let mut mask = Key::ZERO;
    (mask.nw_src, mask.nw_dst, mask.tp_src, mask.tp_dst) = ([0xff; 4], [0xff; 4], [0xff; 2], [0xff; 2]);
    (mask.ipv6_src, mask.ipv6_dst) = ([0xff; 16], [0xff; 16]);
    (Key::ZERO, mask)
}

/// Addresses and ports of a tuple as fields, with their mask.
fn tuple_fields(t: &CtTuple) -> (Key, Mask) {
    let (mut key, mut mask) = all_tuple_fields();
    match (t.src, t.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            (key.nw_src, key.nw_dst) = (src.octets(), dst.octets());
            (mask.ipv6_src, mask.ipv6_dst) = ([0; 16], [0; 16]);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            (key.ipv6_src, key.ipv6_dst) = (src.octets(), dst.octets());
            (mask.nw_src, mask.nw_dst) = ([0; 4], [0; 4]);
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
    }
    (key.tp_src, key.tp_dst) = (t.src_port.to_be_bytes(), t.dst_port.to_be_bytes());
    (key, mask)
}
