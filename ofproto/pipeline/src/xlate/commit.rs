//! Commit: emits the datapath actions that turn the packet as it is (`base`) into the packet as it should be (`key`).
//!
//! For each datapath key attribute, the fields that differ become one `set` action, with the mask bits gathered for them: bits that
//! nothing touched are left alone. Order matters: Ethernet, then MPLS away if the packet stops being MPLS, then L3, L4, MPLS, VLAN,
//! then packet metadata.

use super::Ctx;
use super::compose::SLOW_ACTION;
use flow::action::{Action, SetAttr, SetField};
use flow::key::Key;
use std::mem::offset_of;

/// Bytes of a key that are one field of an attribute.
#[derive(Clone, Copy)]
struct Span {
    at: usize,
    len: usize,
}

macro_rules! spans {
    ($($field:ident: $len:literal),*) => { &[$(Span { at: offset_of!(Key, $field), len: $len }),*] };
}

const ETH: &[Span] = spans![eth_src: 6, eth_dst: 6];
const IPV4: &[Span] = spans![nw_src: 4, nw_dst: 4, nw_tos: 1, nw_ttl: 1];
const IPV6: &[Span] = spans![ipv6_src: 16, ipv6_dst: 16, ipv6_label: 4, nw_tos: 1, nw_ttl: 1];
const ARP: &[Span] = spans![nw_src: 4, nw_dst: 4, nw_proto: 1, arp_sha: 6, arp_tha: 6];
const ND: &[Span] = spans![nd_target: 16, arp_sha: 6, arp_tha: 6];
const ND_EXT: &[Span] = spans![nd_reserved: 4, tcp_flags: 2];
const PORTS: &[Span] = spans![tp_src: 2, tp_dst: 2];
const NSH: &[Span] = spans![nsh_flags: 1, nsh_ttl: 1, nsh_path: 4, nsh_c1: 4, nsh_c2: 4, nsh_c3: 4, nsh_c4: 4];
const PRIORITY: &[Span] = spans![skb_priority: 4];
const MARK: &[Span] = spans![pkt_mark: 4];

const ETH_IPV4: [u8; 2] = [0x08, 0x00];
const ETH_IPV6: [u8; 2] = [0x86, 0xdd];
const ETH_ARP: [u8; 2] = [0x08, 0x06];
const ETH_RARP: [u8; 2] = [0x80, 0x35];
const ETH_NSH: [u8; 2] = [0x89, 0x4f];
const ND_SOLICIT: [u8; 2] = [0, 135];
const ND_ADVERT: [u8; 2] = [0, 136];

impl Ctx<'_> {
    /// Makes `base` equal to `key`, in actions.
    pub(super) fn commit(&mut self) {
        self.commit_fields(SetAttr::Eth, ETH);
        let was_mpls = is_mpls(self.base.eth_type);
        let leaves_mpls = was_mpls && !is_mpls(self.key.eth_type);
        if leaves_mpls {
            self.commit_mpls();
        }
        if self.key.eth_type == ETH_NSH && self.base.eth_type == ETH_NSH {
            self.commit_fields(SetAttr::Nsh, NSH);
        }
        self.commit_l3();
        self.commit_l4();
        if !leaves_mpls {
            self.commit_mpls();
        }
        self.commit_vlan();
        self.commit_fields(SetAttr::Priority, PRIORITY);
        self.commit_fields(SetAttr::Mark, MARK);
    }

    fn commit_l3(&mut self) {
        match self.base.eth_type {
            ETH_IPV4 => {
                self.commit_fields(SetAttr::Ipv4, IPV4);
            }
            ETH_IPV6 => {
                self.commit_fields(SetAttr::Ipv6, IPV6);
                if self.base.nw_proto == 58 && matches!(self.base.tp_src, ND_SOLICIT | ND_ADVERT) && self.base.tp_dst == [0; 2] {
                    let nd = self.commit_fields(SetAttr::Nd, ND);
                    let ext = self.commit_fields(SetAttr::NdExt, ND_EXT);
                    self.slow_if(nd | ext);
                }
            }
            ETH_ARP | ETH_RARP => {
                let arp = self.commit_fields(SetAttr::Arp, ARP);
                self.slow_if(arp);
            }
            _ => {}
        }
    }

    fn commit_l4(&mut self) {
        if !matches!(self.base.eth_type, ETH_IPV4 | ETH_IPV6) {
            return;
        }
        match (self.base.eth_type, self.base.nw_proto) {
            (_, 6) => {
                self.commit_fields(SetAttr::Tcp, PORTS);
            }
            (_, 17) => {
                self.commit_fields(SetAttr::Udp, PORTS);
            }
            (_, 132) => {
                self.commit_fields(SetAttr::Sctp, PORTS);
            }
            (ETH_IPV4, 1) => {
                let icmp = self.commit_fields(SetAttr::Icmp, PORTS);
                self.slow_if(icmp);
            }
            (ETH_IPV6, 58) => {
                let icmp = self.commit_fields(SetAttr::Icmpv6, PORTS);
                self.slow_if(icmp);
            }
            _ => {}
        }
    }

    /// OVS's datapaths set these in the slow path only; so do we, so that a dump reads the same.
    fn slow_if(&mut self, changed: bool) {
        if changed {
            self.slow |= SLOW_ACTION;
        }
    }

    /// Emits one `set` for the fields of an attribute that differ. Gives whether any did.
    fn commit_fields(&mut self, attr: SetAttr, spans: &[Span]) -> bool {
        let (mut value, mut mask) = (Key::ZERO, Key::ZERO);
        let mut changed = false;
        for span in spans {
            if bytes(&self.key, *span) == bytes(&self.base, *span) {
                continue;
            }
            changed = true;
            bytes_mut(&mut mask, *span).copy_from_slice(bytes(&self.mask, *span));
            bytes_mut(&mut value, *span).copy_from_slice(bytes(&self.key, *span));
            bytes_mut(&mut self.base, *span).copy_from_slice(bytes(&self.key, *span));
        }
        if changed {
            let value = value.masked(&mask);
            self.emit(Action::Set(Box::new(SetField { attr, value, mask })));
        }
        changed
    }

    /// Pops tags of `base` that `key` does not have, and pushes what `key` has above those in common.
    fn commit_vlan(&mut self) {
        let have = tags(&self.base);
        let want = tags(&self.key);
        let common = have.iter().rev().zip(want.iter().rev()).take_while(|(a, b)| a == b).count();
        for n in 0..have.len() - common {
            // All of a tag that is popped has decided: what is pushed in its place may repeat its priority.
            if n == 0 {
                self.mask.vlan_tci = [0xff; 2];
            } else {
                self.mask.vlan2_tci = [0xff; 2];
            }
            self.emit(Action::PopVlan);
        }
        for (tpid, tci) in want.iter().rev().skip(common) {
            self.emit(Action::PushVlan { tpid: u16::from_be_bytes(*tpid), tci: u16::from_be_bytes(*tci) });
        }
        self.base.vlan_tci = self.key.vlan_tci;
        self.base.vlan_tpid = self.key.vlan_tpid;
        self.base.vlan2_tci = self.key.vlan2_tci;
        self.base.vlan2_tpid = self.key.vlan2_tpid;
    }

    /// Pops, sets and pushes labels.
    fn commit_mpls(&mut self) {
        let mut have = labels(&self.base);
        let want = labels(&self.key);
        if have == want && self.base.eth_type == self.key.eth_type {
            return;
        }
        // Labels in common, from the bottom of the stack; the top of what remains may be set in place.
        let common = have.iter().rev().zip(want.iter().rev()).take_while(|(a, b)| a == b).count();
        while have.len() > common && have.len() > want.len() {
            have.remove(0);
            let eth_type = if have.is_empty() { self.key.eth_type } else { self.base.eth_type };
            self.emit(Action::PopMpls { eth_type: u16::from_be_bytes(eth_type) });
        }
        if have.len() == want.len() && have.first() != want.first() {
            self.set_top_label(&want);
            have.clone_from(&want);
        }
        if have.len() > common && have != want {
            // Deeper labels differ: only by popping down to them.
            while have.len() > common {
                have.remove(0);
                self.emit(Action::PopMpls { eth_type: 0x8847 });
            }
        }
        for lse in want.iter().rev().skip(have.len()) {
            let eth_type = u16::from_be_bytes(self.key.eth_type);
            self.emit(Action::PushMpls { lse: u32::from_be_bytes(*lse), eth_type });
        }
        self.base.mpls_lse0 = self.key.mpls_lse0;
        self.base.mpls_lse1 = self.key.mpls_lse1;
        self.base.mpls_lse2 = self.key.mpls_lse2;
        self.base.eth_type = self.key.eth_type;
    }

    fn set_top_label(&mut self, want: &[[u8; 4]]) {
        let Some(top) = want.first() else { return };
        let value = Key { mpls_lse0: *top, ..Key::ZERO };
        let mask = Key { mpls_lse0: [0xff; 4], ..Key::ZERO };
        self.emit(Action::Set(Box::new(SetField { attr: SetAttr::Mpls, value, mask })));
    }
}

fn is_mpls(eth_type: [u8; 2]) -> bool {
    matches!(eth_type, [0x88, 0x47 | 0x48])
}

/// (tpid, tci) of the tags, the outer first.
fn tags(key: &Key) -> Vec<([u8; 2], [u8; 2])> {
    [(key.vlan_tpid, key.vlan_tci), (key.vlan2_tpid, key.vlan2_tci)].into_iter().take_while(|(_, tci)| tci[0] & 0x10 != 0).collect()
}

/// Labels, the top first.
fn labels(key: &Key) -> Vec<[u8; 4]> {
    if !is_mpls(key.eth_type) {
        return Vec::new();
    }
    let stack = [key.mpls_lse0, key.mpls_lse1, key.mpls_lse2];
    let depth = stack.iter().position(|l| l[2] & 1 != 0).map_or(stack.len(), |b| b + 1);
    stack[..depth].to_vec()
}

/// Zeroes what is beneath a pushed label: it is not parsed any more.
pub(super) fn forget_l3(key: &mut Key) {
    for span in IPV4.iter().chain(IPV6).chain(ARP).chain(ND).chain(ND_EXT).chain(PORTS) {
        bytes_mut(key, *span).fill(0);
    }
    key.nw_frag = 0;
}

fn bytes(key: &Key, span: Span) -> &[u8] {
    use zerocopy::IntoBytes;
    &key.as_bytes()[span.at..span.at + span.len]
}

fn bytes_mut(key: &mut Key, span: Span) -> &mut [u8] {
    use zerocopy::IntoBytes;
    &mut key.as_mut_bytes()[span.at..span.at + span.len]
}
