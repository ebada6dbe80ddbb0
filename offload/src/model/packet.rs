//! What rules do to packets in the model: matching by flower's own rules, changing bytes one by one.

use super::Sent;
use super::tunnels::Tunnels;
use crate::keys::Known;
use crate::rule::{
    Act, CSUM_ICMP, CSUM_IPV4, CSUM_TCP, CSUM_UDP, Header, IS_FIRST, IS_FRAGMENT, Tag, TunnelMatch, TunnelSet, Word,
};
use crate::tc::matches::Matches;
use flow::DpPort;
use flow::checksum::{checksum, pseudo4, pseudo6};
use flow::extract::{Extracted, NO_OFFSET, NetworkLayer, PacketMeta, VLANS_MAX, extract_whole};
use flow::key::{FRAG_ANY, FRAG_LATER, Key, TUN_KEY, VLAN_CFI};
use flow::wire::{eth_type, ip_proto};

/// A packet on its way.
pub(super) struct Frame {
    pub(super) bytes: Vec<u8>,
    /// What the outer header said that it came in; without one all nought.
    outer: Option<Box<Key>>,
    /// The parameters of the outer header that a tunnel device is to put on.
    to_put_on: Option<Box<TunnelSet>>,
}

impl Frame {
    pub(super) const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, outer: None, to_put_on: None }
    }

    /// One that came out of a tunnel.
    pub(super) const fn decapsulated(bytes: Vec<u8>, outer: Box<Key>) -> Self {
        Self { bytes, outer: Some(outer), to_put_on: None }
    }

    pub(super) fn key(&self, port: DpPort) -> Box<Key> {
        let mut key = self.parse(port).0;
        if let Some(outer) = &self.outer {
            key.or_with(outer);
        }
        key
    }

    fn parse(&self, port: DpPort) -> (Box<Key>, Extracted) {
        let mut key = Box::new(Key::ZERO);
        let meta = PacketMeta { in_port: port, vlan_limit: VLANS_MAX, ..PacketMeta::default() };
        let found = extract_whole(&self.bytes, &meta, &mut key);
        (key, found)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(slot) = self.bytes.get_mut(at..at + bytes.len()) {
            slot.copy_from_slice(bytes);
        }
    }

    fn insert(&mut self, at: usize, bytes: &[u8]) {
        let at = at.min(self.bytes.len());
        self.bytes.splice(at..at, bytes.iter().copied());
    }

    fn remove(&mut self, at: usize, n: usize) {
        if at + n <= self.bytes.len() {
            self.bytes.drain(at..at + n);
        }
    }
}

/// Whether a packet of `key` is matched.
pub(super) fn matches(m: &Matches, key: &Key) -> bool {
    let tags = [(key.vlan_tci, key.vlan_tpid), (key.vlan2_tci, key.vlan2_tpid)];
    let link = m.link.tags.iter().zip(tags).all(|(want, have)| tag_matches(*want, have.0, have.1));
    let tunnel = m.tunnel.as_ref().is_none_or(|t| tunnel_matches(t, key));
    if !link || m.link.eth_type != u16::from_be_bytes(key.eth_type) || !tunnel {
        return false;
    }
    if m.ct_state.is_some_and(|s| s.value & s.mask != 0) {
        return false;
    }
    if let Some(f) = m.fragment {
        let any = key.nw_frag & FRAG_ANY != 0;
        let first = any && key.nw_frag & FRAG_LATER == 0;
        let have = if any { IS_FRAGMENT } else { 0 } | if first { IS_FIRST } else { 0 };
        if have & f.mask != f.value & f.mask {
            return false;
        }
    }
    let whole = all();
    let known = Known { key, mask: &whole };
    m.items.iter().all(|i| {
        let row = i.key.row();
        known.is(row.when) && row.place.read(key) & i.mask == i.value & i.mask
    })
}

fn tunnel_matches(want: &TunnelMatch, key: &Key) -> bool {
    let flags = u16::from_be_bytes(key.tun_flags);
    let has_id = |id: u32| flags & TUN_KEY != 0 && u64::from_be_bytes(key.tun_id) == u64::from(id);
    let options = |(want, mask): &(Vec<u8>, Vec<u8>)| {
        let have = &key.tun_metadata[..usize::from(key.tun_metadata_present[7])];
        have.len() == want.len() && have.iter().zip(want).zip(mask).all(|((h, w), m)| (h ^ w) & m == 0)
    };
    // Group policies are not modelled: a packet that has one is not decapsulated.
    want.id.is_none_or(has_id)
        && (flags ^ want.flags) & want.flags_mask == 0
        && want.geneve.as_ref().is_none_or(options)
        && want.gbp.is_none()
}

fn tag_matches(want: Option<Tag>, tci: [u8; 2], tpid: [u8; 2]) -> bool {
    let (tci, tpid) = (u16::from_be_bytes(tci), u16::from_be_bytes(tpid));
    let Some(want) = want else {
        return tci & VLAN_CFI == 0;
    };
    let vid = want.vid.is_none_or(|v| v == tci & 0x0fff);
    let pcp = want.pcp.is_none_or(|p| u16::from(p) == tci >> 13);
    tci & VLAN_CFI != 0 && tpid == want.tpid && vid && pcp
}

/// Carries out a list; gives the chain to go on in. `admit` asks a meter whether a packet of so many bytes goes on.
pub(super) fn run(
    frame: &mut Frame,
    acts: &[Act],
    tunnels: &Tunnels,
    admit: &mut dyn FnMut(u32, usize) -> bool,
    sent: &mut Vec<Sent>,
) -> Option<u32> {
    let mut at = 0;
    while let Some(act) = acts.get(at) {
        at += 1;
        match act {
            Act::Output { port, ingress, last } => {
                sent.extend(send(frame, *port, *ingress, tunnels));
                if *last {
                    return None;
                }
            }
            Act::Drop => return None,
            Act::Goto(chain) => return Some(*chain),
            Act::Length { mtu, jump } => {
                if frame.bytes.len() > *mtu as usize {
                    at += (*jump as usize).saturating_sub(1);
                }
            }
            Act::VlanPush { tpid, vid, pcp } => {
                let tci = vid & 0x0fff | u16::from(*pcp) << 13;
                let tag = [tpid.to_be_bytes(), tci.to_be_bytes()].concat();
                frame.insert(12, &tag);
            }
            Act::VlanPop => frame.remove(12, 4),
            Act::MplsPush { lse, proto } => {
                let l3 = l2_len(&frame.bytes);
                frame.put(l3 - 2, &proto.to_be_bytes());
                frame.insert(l3, &lse.to_be_bytes());
            }
            Act::MplsPop { proto } => {
                let l3 = l2_len(&frame.bytes);
                frame.put(l3 - 2, &proto.to_be_bytes());
                frame.remove(l3, 4);
            }
            Act::MplsSet { label, tc, bos, ttl } => {
                set_lse(frame, [*label, tc.map(u32::from), bos.map(u32::from), ttl.map(u32::from)])
            }
            Act::Pedit { header, words } => pedit(frame, *header, words),
            Act::Csum(flags) => csum(frame, *flags),
            Act::TunnelSet(set) => frame.to_put_on = Some(set.clone()),
            Act::TunnelRelease => (frame.outer, frame.to_put_on) = (None, None),
            Act::Police { meter, limit: _ } => {
                if !admit(*meter, frame.bytes.len()) {
                    return None;
                }
            }
            Act::EthPush { .. } | Act::EthPop | Act::Ct(_) | Act::CtClear | Act::Skbedit(_) | Act::Sample { .. } => return None,
        }
    }
    None
}

/// The packet as it leaves; by a tunnel device, with its outer header and by the device's uplink.
fn send(frame: &Frame, port: DpPort, ingress: bool, tunnels: &Tunnels) -> Option<Sent> {
    let Some(tunnel) = tunnels.at(port.0) else {
        return Some(Sent { port, ingress, bytes: frame.bytes.clone() });
    };
    let bytes = tunnels.encapsulate(tunnel, frame.to_put_on.as_ref()?, &frame.bytes)?;
    Some(Sent { port: DpPort(tunnel.uplink), ingress, bytes })
}

/// Bytes up to what follows the Ethernet type.
fn l2_len(bytes: &[u8]) -> usize {
    let mut at = 14;
    while let Some(ty) = bytes.get(at - 2..at) {
        let ty = u16::from_be_bytes([ty[0], ty[1]]);
        if ty != eth_type::VLAN && ty != eth_type::QINQ {
            break;
        }
        at += 4;
    }
    at
}

fn set_lse(frame: &mut Frame, parts: [Option<u32>; 4]) {
    let at = l2_len(&frame.bytes);
    let Some(old) = frame.bytes.get(at..).and_then(|b| b.first_chunk::<4>()) else {
        return;
    };
    let mut lse = u32::from_be_bytes(*old);
    for (part, (lo, bits)) in parts.into_iter().zip([(12, 20), (9, 3), (8, 1), (0, 8)]) {
        if let Some(value) = part {
            let all = ((1u32 << bits) - 1) << lo;
            lse = lse & !all | value << lo & all;
        }
    }
    frame.put(at, &lse.to_be_bytes());
}

fn pedit(frame: &mut Frame, header: Header, words: &[Word]) {
    let (_, found) = frame.parse(DpPort(0));
    let start = match header {
        Header::Eth => 0,
        Header::Ipv4 | Header::Ipv6 => found.l3,
        Header::Tcp | Header::Udp => found.l4,
    };
    if start == NO_OFFSET {
        return;
    }
    for word in words {
        let at = usize::from(start) + word.at as usize;
        let Some(old) = frame.bytes.get(at..).and_then(|b| b.first_chunk::<4>()) else {
            continue;
        };
        let new = u32::from_be_bytes(*old) & !word.mask | word.value & word.mask;
        frame.put(at, &new.to_be_bytes());
    }
}

/// Sums everything anew.
fn csum(frame: &mut Frame, flags: u32) {
    let (key, found) = frame.parse(DpPort(0));
    if found.l3 == NO_OFFSET {
        return;
    }
    let (l3, l4) = (usize::from(found.l3), usize::from(found.l4));
    if flags & CSUM_IPV4 != 0 && found.network == NetworkLayer::Ipv4 {
        let len = usize::from(frame.bytes[l3] & 0xf) * 4;
        frame.put(l3 + 10, &[0; 2]);
        let sum = frame.bytes.get(l3..l3 + len).map_or([0; 2], checksum);
        frame.put(l3 + 10, &sum);
    }
    if found.l4 == NO_OFFSET {
        return;
    }
    let end = frame.bytes.len() - usize::from(found.l2_pad);
    let (field, wanted) = match key.nw_proto {
        ip_proto::TCP => (16, CSUM_TCP),
        ip_proto::UDP => (6, CSUM_UDP),
        ip_proto::ICMPV6 => (2, CSUM_ICMP),
        _ => return,
    };
    let none = key.nw_proto == ip_proto::UDP && frame.bytes.get(l4 + 6..l4 + 8) == Some(&[0; 2]);
    if flags & wanted == 0 || none || l4 + field + 2 > end {
        return;
    }
    frame.put(l4 + field, &[0; 2]);
    let body = &frame.bytes[l4..end];
    let pseudo = if found.network == NetworkLayer::Ipv4 {
        pseudo4(key.nw_src, key.nw_dst, key.nw_proto, body.len())
    } else {
        pseudo6(&key.ipv6_src, &key.ipv6_dst, key.nw_proto, body.len())
    };
    let sum = pseudo.plus(body);
    let sum = if key.nw_proto == ip_proto::UDP { sum.finish_udp() } else { sum.finish() };
    frame.put(l4 + field, &sum);
}

/// A mask of everything.
fn all() -> Key {
    let mut key = Key::ZERO;
    key.words_mut().fill(u64::MAX);
    key
}
