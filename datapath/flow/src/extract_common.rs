//! Extraction of the packets that make up nearly all traffic: TCP and UDP over IPv4 or IPv6, untagged or with one VLAN tag.
//!
//! What enters: a frame that came straight from a port, and what all frames of its batch have in common (`Arrival`). What leaves: the key's
//! first line or two, written word by word, or the answer that the frame is none of these. Neighbours: `extract`, which goes the long
//! way for everything else, and whose results these are, bit by bit (its property tests hold this form, too, to `extract_slow`).
//!
//! A few loads of whole words take the place of a header-by-header walk, and what is checked is checked with arithmetic: whether a tag
//! is there and whether it is TCP or UDP chooses offsets and masks, not branches, so that mixed traffic costs no mispredictions.
//! The safe direction: whatever is unusual (options, fragments, lengths that disagree, short frames) is not common.

use crate::extract::{Extracted, NO_OFFSET, NetworkLayer, PacketMeta};
use crate::key::{Key, LINE_BYTES, Lines};
use crate::wire::{eth_type, ip_proto};

const LINE_WORDS: usize = LINE_BYTES / 8;
/// Shorter frames go the long way; the least frame of Ethernet, without FCS, is just long enough.
const HEAD: usize = 60;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const TCP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;

/// What the packets of a batch have in common: the metadata words of their keys.
#[derive(Clone, Debug)]
pub struct Arrival<'a> {
    meta: PacketMeta<'a>,
    /// `in_port`, behind the TCP flags and the VLAN's TPID.
    port: u64,
    round: u64,
    plain: bool,
}

impl<'a> Arrival<'a> {
    /// For packets with this metadata.
    #[inline]
    #[must_use]
    pub fn new(meta: PacketMeta<'a>) -> Self {
        let port = u64::from(meta.in_port.0.swap_bytes()) << 32;
        let round = u64::from(meta.recirc_id.swap_bytes()) | u64::from(meta.dp_hash.swap_bytes()) << 32;
        let marked = meta.skb_priority | meta.pkt_mark | meta.packet_type;
        let plain = marked == 0 && meta.ct_state == 0 && meta.vlan_limit > 0 && meta.rare.is_none();
        Self { meta, port, round, plain }
    }

    /// The words of the key that hold the port and the round, for forms of extraction that take common packets only; `None` if there is
    /// metadata that a common packet has not.
    #[inline]
    #[must_use]
    pub fn plain_words(&self) -> Option<[u64; 2]> {
        self.plain.then_some([self.port, self.round])
    }

    /// Extracts the key of `packet` into `key`, writing only the lines named in `found`.
    // The result goes where it is to be, since a copy of fields just written would wait for each of them.
    #[inline(always)]
    pub fn extract(&self, packet: &[u8], key: &mut Key, found: &mut Extracted) {
        if !self.common(packet, key, found) {
            *found = crate::extract::extract_any(packet, &self.meta, key);
        }
    }

    /// The same, if the packet is a common one; otherwise false, and anything may have been written.
    #[inline(always)]
    fn common(&self, frame: &[u8], key: &mut Key, found: &mut Extracted) -> bool {
        let Some(head) = frame.first_chunk::<HEAD>() else {
            return false;
        };
        let tagged = bytes(head, 12) == eth_type::VLAN.to_be_bytes();
        let shift = usize::from(tagged) * 4;
        let ty = le16(head, 12 + shift);
        // All ones or nothing: a mask where an `if` would become a branch, which mixed traffic mispredicts.
        let if_tagged = u64::from(tagged).wrapping_neg();
        let tci = u64::from(le16(head, 14) | VLAN_CFI_LE) << 48 & if_tagged;
        let ethernet =
            Ethernet { l3: 14 + shift, type_tci: u64::from(ty) << 32 | tci, tpid: u64::from(le16(head, 12)) << 16 & if_tagged };
        if !self.plain {
            return false;
        }
        match u16::from_be_bytes(ty.to_le_bytes()) {
            eth_type::IPV4 => self.ipv4(frame.len(), head, &ethernet, (key, found)),
            eth_type::IPV6 => self.ipv6(frame, head, &ethernet, (key, found)).is_some(),
            _ => false,
        }
    }

    #[inline(always)]
    fn ipv4(&self, len: usize, head: &[u8; HEAD], ethernet: &Ethernet, (key, found): (&mut Key, &mut Extracted)) -> bool {
        let l3 = ethernet.l3;
        let l4 = l3 + IPV4_BYTES;
        let proto = head[l3 + 9];
        let transport = Transport::of(proto, bytes(head, l4 + 12));
        let total = usize::from(u16::from_be_bytes(bytes(head, l3 + 2)));
        let whole = head[l3] & 15 == 5 && le16(head, l3 + 6) & u16::from_le_bytes([0x3f, 0xff]) == 0;
        let fits = total >= IPV4_BYTES + transport.bytes && total + l3 <= len && len <= usize::from(u16::MAX);
        if !(whole & fits & transport.sound) {
            return false;
        }
        let l4_word =
            u64::from(le32(head, l4)) | u64::from(proto) << 32 | u64::from(head[l3 + 1]) << 40 | u64::from(head[l3 + 8]) << 48;
        let words = [le64(head, l3 + 12), l4_word];
        self.first_line(head, ethernet, words, &transport, key);
        *found = Extracted {
            lines: Lines(1),
            l2_5: NO_OFFSET,
            l3: narrow(l3),
            l4: narrow(l4),
            l2_pad: narrow(len - l3 - total),
            network: NetworkLayer::Ipv4,
            transport: proto,
        };
        true
    }

    #[inline]
    fn ipv6(&self, frame: &[u8], head: &[u8; HEAD], ethernet: &Ethernet, (key, found): (&mut Key, &mut Extracted)) -> Option<()> {
        let (l3, len) = (ethernet.l3, frame.len());
        let l4 = l3 + IPV6_BYTES;
        let ip: &[u8; IPV6_BYTES + UDP_BYTES] = frame.get(l3..)?.first_chunk()?;
        let proto = ip[6];
        // Of UDP its ports, which are not looked at: no branch on the protocol.
        let offset_flags = *frame.get(l4 + usize::from(proto == ip_proto::TCP) * 12..)?.first_chunk()?;
        let transport = Transport::of(proto, offset_flags);
        let payload = usize::from(u16::from_be_bytes(bytes(ip, 4)));
        let fits = payload >= transport.bytes && payload + l4 <= len && len <= usize::from(u16::MAX);
        if !(fits & transport.sound) {
            return None;
        }
        let [a, b, c, d] = bytes(ip, 0);
        let l4_word =
            u64::from(le32(ip, IPV6_BYTES)) | u64::from(proto) << 32 | u64::from(a << 4 | b >> 4) << 40 | u64::from(ip[7]) << 48;
        self.first_line(head, ethernet, [0, l4_word], &transport, key);
        let label = u64::from(u32::from_le_bytes([0, b & 15, c, d]));
        let addresses = [le64(ip, 8), le64(ip, 16), le64(ip, 24), le64(ip, 32), label, 0, 0, 0];
        for (to, from) in key.words_mut()[LINE_WORDS..2 * LINE_WORDS].iter_mut().zip(addresses) {
            *to = from.to_le();
        }
        *found = Extracted {
            lines: Lines(3),
            l2_5: NO_OFFSET,
            l3: narrow(l3),
            l4: narrow(l4),
            l2_pad: narrow(len - l4 - payload),
            network: NetworkLayer::Ipv6,
            transport: proto,
        };
        Some(())
    }

    /// Line 0, every word of it: `network` are the IPv4 addresses, and what follows them up to the fragment bits.
    #[inline(always)]
    fn first_line(&self, head: &[u8; HEAD], ethernet: &Ethernet, network: [u64; 2], transport: &Transport, key: &mut Key) {
        let line = [
            le64(head, 0),
            u64::from(le32(head, 8)) | ethernet.type_tci,
            network[0],
            network[1],
            self.port | ethernet.tpid | transport.flags,
            self.round,
            0,
            0,
        ];
        for (to, from) in key.words_mut()[..LINE_WORDS].iter_mut().zip(line) {
            *to = from.to_le();
        }
    }
}

/// Where the network layer begins; type and tag, if there is one, at their places in words 1 and 4 of the key.
struct Ethernet {
    l3: usize,
    type_tci: u64,
    tpid: u64,
}

/// What TCP and UDP differ in.
struct Transport {
    /// Bytes of the header.
    bytes: usize,
    /// TCP's flags, at their place in word 4 of the key.
    flags: u64,
    /// It is TCP with a possible header length, or UDP.
    sound: bool,
}

impl Transport {
    #[inline]
    fn of(proto: u8, offset_flags: [u8; 2]) -> Self {
        let tcp = proto == ip_proto::TCP;
        let header = usize::from(offset_flags[0] >> 4) * 4;
        let flags = u64::from(u16::from_le_bytes([offset_flags[0] & 15, offset_flags[1]]));
        // Masks where an `if` would become a branch.
        let if_tcp = usize::from(tcp).wrapping_neg();
        Self {
            bytes: header & if_tcp | UDP_BYTES & !if_tcp,
            flags: flags & u64::from(tcp).wrapping_neg(),
            sound: (tcp & (header >= TCP_BYTES)) | (proto == ip_proto::UDP),
        }
    }
}

/// `VLAN_CFI` in the low byte that is the tag's first.
const VLAN_CFI_LE: u16 = u16::from_le_bytes(crate::key::VLAN_CFI.to_be_bytes());

/// Bytes at a place that is inside `head` for every layout above; the check, which never fails, mostly folds away.
#[inline]
fn bytes<const N: usize>(head: &[u8], at: usize) -> [u8; N] {
    *head[at..].first_chunk().expect("the offsets above end before the head does")
}

#[inline]
fn le16(head: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes(head, at))
}

#[inline]
fn le32(head: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes(head, at))
}

#[inline]
fn le64(head: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes(head, at))
}

/// An offset or length that was checked to be at most `u16::MAX`.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "frames longer than u16::MAX are not common")]
const fn narrow(n: usize) -> u16 {
    n as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract_gen::PacketGen;
    use crate::seam::DpPort;

    /// The property tests of `extract` would show nothing here if common packets were rare among theirs.
    #[test]
    fn common_packets_are_taken_and_equal_to_the_long_way() {
        let mut random = PacketGen::new(11);
        let (mut taken, mut tagged, mut v6, mut tcp) = (0, 0, 0, 0);
        let mut packet = Vec::new();
        for _ in 0..200_000 {
            if random.sound_packet(&mut packet) != 0 {
                continue;
            }
            packet.resize(packet.len().max(HEAD), 0);
            let meta = PacketMeta { in_port: DpPort(7), recirc_id: 0x1234, dp_hash: 0x99, ..PacketMeta::default() };
            let (mut key, mut want) = (Key::ZERO, Key::ZERO);
            key.words_mut().fill(u64::MAX);
            let mut found = Extracted::NOTHING;
            if !Arrival::new(meta).common(&packet, &mut key, &mut found) {
                continue;
            }
            let expected = crate::extract::extract_any(&packet, &meta, &mut want);
            assert_eq!(found, expected);
            let words = usize::from(found.lines.0.count_ones().to_le_bytes()[0]) * LINE_WORDS;
            assert_eq!(key.words()[..words], want.words()[..words]);
            assert!(key.words()[words..].iter().all(|w| *w == u64::MAX), "only the lines named are written");
            taken += 1;
            tagged += u32::from(want.vlan_tci != [0; 2]);
            v6 += u32::from(want.eth_type == eth_type::IPV6.to_be_bytes());
            tcp += u32::from(want.nw_proto == ip_proto::TCP);
        }
        assert!(taken > 2_000 && tagged > 100 && v6 > 100 && tcp > 100, "{taken} {tagged} {v6} {tcp}");
    }
}
