//! Header changes on packets of the pool: `flow::rewrite` with what a buffer here can and must do.
//!
//! What enters: packets and actions that change headers. What leaves: whether each could be done. Neighbours: `execute`.
//!
//! Checksums: a partial checksum (left to the port) concerns the transport header at `l4` only. If it concerns an inner header, because
//! the sender encapsulated by itself, then the outer checksums are finished ones and are updated as such. A GSO frame takes the same
//! changes as its pieces would: nothing here depends on the length except encapsulation, which cuts it first (`tunnel`).

use crate::bundle::Bundle;
use crate::parsed::Parsed;
use crate::straight::lost_by;
use flow::action::{Action, SetAttr, SetField};
use flow::extract::NO_OFFSET;
use flow::rewrite::{self, PacketBuf};
use flow::rewrite_compact::Compact;
use flow::rewrite_headers::{self as headers, Label, Refused};
use flow::rewrite_joint::Joint;
use port::{Checksum, Packet};

/// A packet as `flow::rewrite` sees it.
struct Buf<'p> {
    packet: &'p mut Packet,
    l4: u16,
}

impl PacketBuf for Buf<'_> {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.packet.data()
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.packet.data_mut()
    }

    #[inline]
    fn push_front(&mut self, n: usize) -> bool {
        self.packet.push_front(n)
    }

    #[inline]
    fn pull_front(&mut self, n: usize) -> bool {
        self.packet.pull_front(n)
    }

    #[inline]
    fn checksum_is_partial(&self) -> bool {
        match self.packet.checksum() {
            Checksum::Partial { start, .. } => self.l4 != NO_OFFSET && start == u32::from(self.l4),
            Checksum::Unknown | Checksum::Good => false,
        }
    }
}

/// Sets fields of all packets. A packet without such a header stays as it is (as in OVS, where the key says what is there).
pub fn set(bundle: &mut Bundle, field: &SetField) {
    match field.attr {
        SetAttr::Priority | SetAttr::Mark | SetAttr::Tunnel => {
            for (packet, parsed) in bundle.packets.iter_mut().zip(&mut bundle.parsed) {
                parsed.merge(&field.value, &field.mask);
                if field.attr == SetAttr::Priority {
                    packet.set_queue(queue_of(parsed.key.skb_priority));
                }
            }
        }
        SetAttr::Eth
        | SetAttr::Ipv4
        | SetAttr::Ipv6
        | SetAttr::Tcp
        | SetAttr::Udp
        | SetAttr::Sctp
        | SetAttr::Icmp
        | SetAttr::Icmpv6
        | SetAttr::Arp
        | SetAttr::Nd
        | SetAttr::NdExt
        | SetAttr::Mpls
        | SetAttr::Nsh
        | SetAttr::Pbb => {
            let compact = Compact::of(field);
            for (packet, parsed) in bundle.packets.iter_mut().zip(&bundle.parsed) {
                match &compact {
                    Some(change) => set_compact(packet, parsed, change),
                    None => set_one(packet, parsed, field),
                }
            }
            bundle.stale = true;
        }
    }
}

/// The queue that a priority names: our priorities are queue numbers.
pub fn queue_of(skb_priority: [u8; 4]) -> u16 {
    u16::try_from(u32::from_be_bytes(skb_priority)).unwrap_or(0)
}

/// Sets fields of one packet, by the short form.
#[inline]
pub fn set_compact(packet: &mut Packet, parsed: &Parsed, change: &Compact) {
    let _ = change.apply(&mut Buf { packet, l4: parsed.found.l4 }, &parsed.found);
}

/// Sets fields of several headers of one packet.
#[inline]
pub fn set_joint(packet: &mut Packet, parsed: &Parsed, joint: &Joint) {
    joint.apply(&mut Buf { packet, l4: parsed.found.l4 }, &parsed.found);
}

fn set_one(packet: &mut Packet, parsed: &Parsed, field: &SetField) {
    let _ = rewrite::set(&mut Buf { packet, l4: parsed.found.l4 }, &parsed.found, field);
}

/// Pushes a tag on one packet.
#[inline]
pub fn push_vlan(packet: &mut Packet, parsed: &mut Parsed, tpid: u16, tci: u16) -> Result<(), Refused> {
    headers::push_vlan(&mut Buf { packet, l4: parsed.found.l4 }, &mut parsed.found, tpid, tci)
}

/// Pops the tag of one packet. OVS pops what is there: a packet without a tag goes on as it is.
#[inline]
pub fn pop_vlan(packet: &mut Packet, parsed: &mut Parsed) -> Result<(), Refused> {
    match headers::pop_vlan(&mut Buf { packet, l4: parsed.found.l4 }, &mut parsed.found) {
        Err(Refused::NoHeader) => Ok(()),
        other => other,
    }
}

/// Pushes or pops a header of all packets; those that cannot are dropped and counted.
pub fn change(bundle: &mut Bundle, action: &Action) {
    bundle.stale = true;
    let mut refused = 0u32;
    for (i, (packet, parsed)) in bundle.packets.iter_mut().zip(&mut bundle.parsed).enumerate() {
        if one(packet, parsed, action).is_err() {
            refused |= 1 << i;
        }
    }
    if refused != 0 {
        lost_by(action).add(refused.count_ones().into());
        bundle.split(|i, _| refused & 1 << i == 0, None);
    }
}

/// Changes headers of one packet.
pub fn one(packet: &mut Packet, parsed: &mut Parsed, action: &Action) -> Result<(), Refused> {
    let mut ty = u32::from_be_bytes(parsed.key.packet_type);
    let at = &mut parsed.found;
    let buf = &mut Buf { packet, l4: at.l4 };
    match action {
        Action::PushVlan { tpid, tci } => return push_vlan(packet, parsed, *tpid, *tci),
        Action::PopVlan => return pop_vlan(packet, parsed),
        Action::Set(field) => {
            set_one(packet, parsed, field);
            return Ok(());
        }
        Action::PushMpls { lse, eth_type } => {
            headers::push_mpls(buf, at, &mut ty, Label { lse: *lse, eth_type: *eth_type, l3: true })?;
        }
        Action::AddMpls { lse, eth_type, l3 } => {
            headers::push_mpls(buf, at, &mut ty, Label { lse: *lse, eth_type: *eth_type, l3: *l3 })?;
        }
        Action::PopMpls { eth_type } => headers::pop_mpls(buf, at, &mut ty, *eth_type)?,
        Action::PushEth { src, dst } => headers::push_eth(buf, at, &mut ty, *src, *dst)?,
        Action::PopEth => headers::pop_eth(buf, at, &mut ty)?,
        Action::PushNsh(nsh) => headers::push_nsh(buf, at, &mut ty, nsh)?,
        Action::PopNsh => headers::pop_nsh(buf, at, &mut ty)?,
        Action::PushPbb { isid, pcp } => headers::push_pbb(buf, at, ty, *isid, *pcp)?,
        Action::PopPbb => headers::pop_pbb(buf, at, ty)?,
        Action::CopyTtl { inwards } => headers::copy_ttl(buf, at, *inwards)?,
        Action::Output(_)
        | Action::Userspace(_)
        | Action::Sample { .. }
        | Action::Recirc(_)
        | Action::Hash { .. }
        | Action::Ct(_)
        | Action::Trunc(_)
        | Action::CtClear
        | Action::Meter(_)
        | Action::Clone(_)
        | Action::CheckPktLen { .. }
        | Action::DecTtl { .. }
        | Action::Drop(_)
        | Action::Psample { .. }
        | Action::TunnelPush(_)
        | Action::TunnelPop(_)
        | Action::LbOutput(_) => return Err(Refused::Malformed),
    }
    parsed.key.packet_type = ty.to_be_bytes();
    Ok(())
}

/// Raises the drop precedence of the packets whose bits are set.
pub fn raise_drop_precedence(bundle: &mut Bundle, packets: u32, levels: u8) {
    bundle.stale = true;
    for (i, (packet, parsed)) in bundle.packets.iter_mut().zip(&bundle.parsed).enumerate() {
        if packets & 1 << i != 0 {
            let mut buf = Buf { packet, l4: parsed.found.l4 };
            rewrite::raise_drop_precedence(&mut buf, &parsed.found, levels);
        }
    }
}

/// Decrements the TTL of all packets: a bit for each whose TTL is used up.
pub fn dec_ttl(bundle: &mut Bundle) -> u32 {
    bundle.stale = true;
    let mut expired = 0;
    for (i, (packet, parsed)) in bundle.packets.iter_mut().zip(&bundle.parsed).enumerate() {
        let mut buf = Buf { packet, l4: parsed.found.l4 };
        if rewrite::dec_ttl(&mut buf, &parsed.found) == Some(false) {
            expired |= 1 << i;
        }
    }
    expired
}
