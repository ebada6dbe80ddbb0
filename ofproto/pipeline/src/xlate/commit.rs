//! Commit: emits the datapath actions that turn the packet as it is (`base`) into the packet as it should be (`key`).
//!
//! For each datapath key attribute, the fields that differ become one `set` action, with the mask bits gathered for them: bits that
//! nothing touched are left alone. Order matters: Ethernet, then MPLS away if the packet stops being MPLS, then L3, L4, MPLS, VLAN,
//! then packet metadata.

use super::compose::SLOW_ACTION;
use super::encap::PT_NSH;
use super::{Ctx, Pending};
use flow::action::{Action, Nsh, SetAttr, SetField};
use flow::key::{Key, MPLS_LABELS_MAX};
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
const PBB: &[Span] = spans![nw_src: 4];
const PRIORITY: &[Span] = spans![skb_priority: 4];
const MARK: &[Span] = spans![pkt_mark: 4];

const ETH_IPV4: [u8; 2] = [0x08, 0x00];
const ETH_IPV6: [u8; 2] = [0x86, 0xdd];
const ETH_ARP: [u8; 2] = [0x08, 0x06];
const ETH_MPLS: [u8; 2] = [0x88, 0x47];
const ETH_NSH: [u8; 2] = [0x89, 0x4f];
const ETH_PBB: [u8; 2] = [0x88, 0xe7];
const PT_ETHERNET: u32 = 0;

impl Ctx<'_> {
    /// Makes `base` equal to `key`, in actions.
    pub(super) fn commit(&mut self) {
        self.commit_encapsulation();
        if self.key.packet_type == [0; 4] && self.base.packet_type == [0; 4] {
            self.commit_fields(SetAttr::Eth, ETH);
        }
        // What a label hides can only be set once it is gone.
        let leaves_mpls = is_mpls(self.base.eth_type) && !is_mpls(self.key.eth_type);
        if leaves_mpls {
            self.commit_mpls(false);
        }
        if self.key.eth_type == ETH_NSH && self.base.eth_type == ETH_NSH {
            self.commit_nsh();
        }
        if self.key.eth_type == ETH_PBB && self.base.eth_type == ETH_PBB {
            self.commit_fields(SetAttr::Pbb, PBB);
        }
        // Without a protocol there is no L3 header, or it lies beneath labels.
        if self.key.nw_proto != 0 {
            self.commit_l3();
            self.commit_l4();
        }
        if !leaves_mpls {
            self.commit_mpls(false);
        }
        self.commit_vlan();
        self.commit_fields(SetAttr::Priority, PRIORITY);
        self.commit_fields(SetAttr::Mark, MARK);
    }

    /// Headers that `encap` and `decap` have put around the packet or taken away.
    fn commit_encapsulation(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        self.commits += 1;
        let (old, new) = (packet_type(&self.base), packet_type(&self.key));
        match pending {
            Pending::Encap if new == PT_ETHERNET => {
                let (src, dst) = (self.key.eth_src, self.key.eth_dst);
                self.emit(Action::PushEth { src, dst });
                self.base.packet_type = self.key.packet_type;
                self.base.eth_src = src;
                self.base.eth_dst = dst;
            }
            Pending::Encap if new == PT_NSH => {
                let nsh = self.nsh_to_push();
                self.emit(Action::PushNsh(Box::new(nsh)));
                self.base = self.key;
                super::mask::clear_tunnel(&mut self.base);
            }
            Pending::Encap if is_label(new) => {
                self.commit_mpls(true);
                self.base.packet_type = self.key.packet_type;
                self.base.eth_src = self.key.eth_src;
                self.base.eth_dst = self.key.eth_dst;
            }
            Pending::Encap => {}
            // Of two NSH headers, one within the other, the outer goes.
            Pending::Decap if old == PT_NSH && new == PT_NSH => self.emit(Action::PopNsh),
            Pending::Nothing | Pending::Decap if old == new => {}
            Pending::Nothing | Pending::Decap if old == PT_ETHERNET && new >> 16 == 1 => {
                self.emit(Action::PopEth);
                self.base.packet_type = self.key.packet_type;
                self.base.eth_src = [0; 6];
                self.base.eth_dst = [0; 6];
            }
            // A packet whose header was taken off for one output has it again for the next.
            Pending::Nothing if new == PT_ETHERNET && old >> 16 == 1 && !is_label(old) && old != PT_NSH => {
                let (src, dst) = (self.key.eth_src, self.key.eth_dst);
                self.mask.eth_src = [0xff; 6];
                self.mask.eth_dst = [0xff; 6];
                self.emit(Action::PushEth { src, dst });
                self.base.packet_type = self.key.packet_type;
                (self.base.eth_src, self.base.eth_dst) = (src, dst);
            }
            Pending::Nothing | Pending::Decap if is_label(old) => self.commit_mpls(false),
            // What is beneath is parsed after recirculation.
            Pending::Nothing | Pending::Decap if old == PT_NSH => self.emit(Action::PopNsh),
            Pending::Nothing | Pending::Decap => {}
        }
    }

    fn nsh_to_push(&self) -> Nsh {
        let k = &self.key;
        let metadata =
            if k.nsh_mdtype == 1 { [k.nsh_c1, k.nsh_c2, k.nsh_c3, k.nsh_c4].concat() } else { self.nsh_metadata.clone() };
        Nsh {
            flags: k.nsh_flags,
            ttl: k.nsh_ttl,
            mdtype: k.nsh_mdtype,
            np: k.nsh_np,
            path: u32::from_be_bytes(k.nsh_path),
            metadata,
        }
    }

    fn commit_l3(&mut self) {
        match self.base.eth_type {
            ETH_IPV4 => {
                self.commit_fields(SetAttr::Ipv4, IPV4);
            }
            ETH_IPV6 => {
                self.commit_fields(SetAttr::Ipv6, IPV6);
                if self.base.nw_proto == 58 {
                    let ext = self.commit_fields(SetAttr::NdExt, ND_EXT);
                    let nd = self.commit_fields(SetAttr::Nd, ND);
                    self.slow_if(nd | ext);
                }
            }
            ETH_ARP => {
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
        let attr = match (self.key.eth_type, self.key.nw_proto) {
            (_, 6) => SetAttr::Tcp,
            (_, 17) => SetAttr::Udp,
            (_, 132) => SetAttr::Sctp,
            (ETH_IPV4, 1) => SetAttr::Icmp,
            (ETH_IPV6, 58) => SetAttr::Icmpv6,
            _ => return,
        };
        let icmp = matches!(attr, SetAttr::Icmp | SetAttr::Icmpv6);
        if icmp {
            // Type and code are set together, whole.
            for span in PORTS
                .iter()
                .filter(|_| bytes(&self.key, PORTS[0]) != bytes(&self.base, PORTS[0]) || self.key.tp_dst != self.base.tp_dst)
            {
                bytes_mut(&mut self.mask, *span).fill(0xff);
            }
        }
        let changed = self.commit_fields(attr, PORTS);
        self.slow_if(changed && icmp);
    }

    /// OVS's datapaths set these in the slow path only; so do we, so that a dump reads the same.
    fn slow_if(&mut self, changed: bool) {
        if changed {
            self.slow |= SLOW_ACTION;
        }
    }

    /// NSH is set with all that was matched of it, as OVS does: what is the same is written again.
    fn commit_nsh(&mut self) {
        if NSH.iter().all(|span| bytes(&self.key, *span) == bytes(&self.base, *span)) {
            return;
        }
        let (mut value, mut mask) = (Key::ZERO, Key::ZERO);
        for span in NSH {
            bytes_mut(&mut mask, *span).copy_from_slice(bytes(&self.mask, *span));
            bytes_mut(&mut value, *span).copy_from_slice(bytes(&self.key, *span));
            bytes_mut(&mut self.base, *span).copy_from_slice(bytes(&self.key, *span));
        }
        let value = value.masked(&mask);
        self.emit(Action::Set(Box::new(SetField { attr: SetAttr::Nsh, value, mask })));
    }

    /// Emits one `set` for the fields of an attribute that differ. Gives whether any did.
    fn commit_fields(&mut self, attr: SetAttr, spans: &[Span]) -> bool {
        // Most do not, and a key is large.
        let changed = spans.iter().any(|span| bytes(&self.key, *span) != bytes(&self.base, *span));
        if changed {
            self.commit_changed(attr, spans);
        }
        changed
    }

    fn commit_changed(&mut self, attr: SetAttr, spans: &[Span]) {
        // Bits of the mask go into the action.
        self.spoil_alike();
        let (mut value, mut mask) = (Key::ZERO, Key::ZERO);
        for span in spans {
            if bytes(&self.key, *span) == bytes(&self.base, *span) {
                continue;
            }
            bytes_mut(&mut mask, *span).copy_from_slice(bytes(&self.mask, *span));
            bytes_mut(&mut value, *span).copy_from_slice(bytes(&self.key, *span));
            bytes_mut(&mut self.base, *span).copy_from_slice(bytes(&self.key, *span));
        }
        // What was matched beside the flow label is nothing that can be set.
        mask.ipv6_label = mask.flow_label();
        let value = value.masked(&mask);
        self.emit(Action::Set(Box::new(SetField { attr, value, mask })));
    }

    /// Pops tags of `base` that `key` does not have, and pushes what `key` has above those in common.
    fn commit_vlan(&mut self) {
        let have = tags(&self.base);
        let want = tags(&self.key);
        let common = have.iter().rev().zip(want.iter().rev()).take_while(|(a, b)| a == b).count();
        for i in (0..have.len() - common).rev() {
            // What takes its place was made from it.
            if i == 0 {
                (self.mask.vlan_tci, self.mask.vlan_tpid) = ([0xff; 2], [0xff; 2]);
            } else {
                (self.mask.vlan2_tci, self.mask.vlan2_tpid) = ([0xff; 2], [0xff; 2]);
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

    /// Pops, sets and pushes labels. What `base` knows of the headers beneath stays: they are needed again when a copy of the
    /// packet is done with.
    fn commit_mpls(&mut self, encap: bool) {
        let mut have = labels(&self.base);
        let want = labels(&self.key);
        // Labels in common, from the bottom of the stack; the one above them may be set in place.
        let mut common = have.iter().rev().zip(want.iter().rev()).take_while(|(a, b)| a == b).count();
        while have.len() > common {
            if have.len() - 1 == common && want.len() > common {
                let lse = want[want.len() - have.len()];
                // All of the label is set, so all of it must be known: that on top, or all if some were popped or pushed.
                self.match_labels(if want.len() == have.len() { 0..1 } else { 0..MPLS_LABELS_MAX });
                self.emit_label(lse);
                have[0] = lse;
                common += 1;
            } else {
                let eth_type = if want.is_empty() && have.len() > 1 { ETH_MPLS } else { self.key.eth_type };
                self.emit(Action::PopMpls { eth_type: u16::from_be_bytes(eth_type) });
                have.remove(0);
            }
        }
        for lse in want.iter().rev().skip(have.len()) {
            let lse = u32::from_be_bytes(*lse);
            let eth_type = u16::from_be_bytes(self.key.eth_type);
            if encap {
                // Before all of the packet: what was a frame is payload now.
                self.emit(Action::AddMpls { lse, eth_type, l3: false });
                self.slow_if(self.world.backend(self.origin).is_some_and(|b| !b.features.add_mpls));
            } else {
                self.emit(Action::PushMpls { lse, eth_type });
            }
        }
        self.base.mpls_lse0 = self.key.mpls_lse0;
        self.base.mpls_lse1 = self.key.mpls_lse1;
        self.base.mpls_lse2 = self.key.mpls_lse2;
        if is_mpls(self.base.eth_type) || is_mpls(self.key.eth_type) {
            self.base.eth_type = self.key.eth_type;
        }
    }

    fn emit_label(&mut self, lse: [u8; 4]) {
        let value = Key { mpls_lse0: lse, ..Key::ZERO };
        let mask = Key { mpls_lse0: [0xff; 4], ..Key::ZERO };
        self.emit(Action::Set(Box::new(SetField { attr: SetAttr::Mpls, value, mask })));
    }
}

fn packet_type(key: &Key) -> u32 {
    u32::from_be_bytes(key.packet_type)
}

fn is_label(packet_type: u32) -> bool {
    matches!(packet_type, 0x0001_8847 | 0x0001_8848)
}

fn is_mpls(eth_type: [u8; 2]) -> bool {
    matches!(eth_type, [0x88, 0x47 | 0x48])
}

/// (tpid, tci) of the tags, the outer first.
pub(super) fn tags(key: &Key) -> Vec<([u8; 2], [u8; 2])> {
    [(key.vlan_tpid, key.vlan_tci), (key.vlan2_tpid, key.vlan2_tci)]
        .into_iter()
        .take_while(|(_, tci)| tci[0] & 0x10 != 0)
        .collect()
}

/// Labels, the top first.
fn labels(key: &Key) -> Vec<[u8; 4]> {
    if !is_mpls(key.eth_type) {
        return Vec::new();
    }
    let stack = [key.mpls_lse0, key.mpls_lse1, key.mpls_lse2];
    stack[..Ctx::mpls_depth(key)].to_vec()
}

/// Zeroes what is beneath a pushed label: it is not parsed any more. So is the hash, which was that of another packet.
pub(super) fn forget_l3(key: &mut Key) {
    key.dp_hash = [0; 4];
    key.nw_proto = 0;
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
