//! Hashes of header fields that choose a port: by which fields, and which bits of the mask that costs.
//!
//! The numbers are our own. What holds is what users rely on: the same packet always chooses the same, both directions of a
//! connection do where the name says symmetric, and fields that are not named have no part.

use flow::key::{FRAG_LATER, Key, Mask};
use openflow::action::HashFields;

const ETH_IPV4: [u8; 2] = [0x08, 0x00];
const ETH_IPV6: [u8; 2] = [0x86, 0xdd];

/// A 32-bit mix with full avalanche (the finalizer of MurmurHash3, which is in the public domain).
pub(super) fn mix(mut h: u32) -> u32 {
    h ^= h >> 16;
    h = h.wrapping_mul(0x85eb_ca6b);
    h ^= h >> 13;
    h = h.wrapping_mul(0xc2b2_ae35);
    h ^ h >> 16
}

/// Goes on hashing with bytes.
pub(super) fn feed(mut h: u32, bytes: &[u8]) -> u32 {
    for chunk in bytes.chunks(4) {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        h = mix(h ^ u32::from_be_bytes(word)).wrapping_add(h.rotate_left(5));
    }
    mix(h)
}

/// Hashes the fields that `fields` names; adds them to `mask`.
pub(super) fn hash(fields: HashFields, key: &Key, mask: &mut Mask, basis: u32) -> u32 {
    match fields {
        HashFields::EthSrc => {
            mask.eth_src = [0xff; 6];
            feed(basis, &key.eth_src)
        }
        HashFields::NwSrc => {
            let ip = addresses(key, mask, true, false);
            feed(basis, &ip.0)
        }
        HashFields::NwDst => {
            let ip = addresses(key, mask, false, true);
            feed(basis, &ip.1)
        }
        HashFields::SymmetricL3 => symmetric_l3(key, mask, basis),
        HashFields::SymmetricL4 => {
            mask.eth_src = [0xff; 6];
            mask.eth_dst = [0xff; 6];
            mask.eth_type = [0xff; 2];
            mask.vlan_tci = [0x1f, 0xff];
            mask.vlan2_tci = [0x1f, 0xff];
            let mut h = feed(basis, &xor(&key.eth_src, &key.eth_dst));
            h = feed(h, &[(key.vlan_tci[0] ^ key.vlan2_tci[0]) & 0x1f, key.vlan_tci[1] ^ key.vlan2_tci[1]]);
            h = symmetric_l3(key, mask, feed(h, &key.eth_type));
            ports(key, mask, h, &[6, 132])
        }
        HashFields::SymmetricL3L4 => {
            let h = symmetric_l3(key, mask, basis);
            ports(key, mask, h, &[6, 132])
        }
        HashFields::SymmetricL3L4Udp => {
            let h = symmetric_l3(key, mask, basis);
            ports(key, mask, h, &[6, 17, 132])
        }
    }
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

/// Source and destination address, empty for what is no IP packet.
fn addresses(key: &Key, mask: &mut Mask, src: bool, dst: bool) -> (Vec<u8>, Vec<u8>) {
    match key.eth_type {
        ETH_IPV4 => {
            mask.nw_src = if src { [0xff; 4] } else { mask.nw_src };
            mask.nw_dst = if dst { [0xff; 4] } else { mask.nw_dst };
            (key.nw_src.to_vec(), key.nw_dst.to_vec())
        }
        ETH_IPV6 => {
            mask.ipv6_src = if src { [0xff; 16] } else { mask.ipv6_src };
            mask.ipv6_dst = if dst { [0xff; 16] } else { mask.ipv6_dst };
            (key.ipv6_src.to_vec(), key.ipv6_dst.to_vec())
        }
        _ => (Vec::new(), Vec::new()),
    }
}

fn symmetric_l3(key: &Key, mask: &mut Mask, basis: u32) -> u32 {
    let (src, dst) = addresses(key, mask, true, true);
    if src.is_empty() {
        return mix(basis);
    }
    mask.nw_proto = 0xff;
    feed(feed(basis, &xor(&src, &dst)), &[key.nw_proto])
}

fn ports(key: &Key, mask: &mut Mask, basis: u32, protocols: &[u8]) -> u32 {
    let ip = matches!(key.eth_type, ETH_IPV4 | ETH_IPV6);
    if !ip || !protocols.contains(&key.nw_proto) || key.nw_frag & FRAG_LATER != 0 {
        return basis;
    }
    mask.tp_src = [0xff; 2];
    mask.tp_dst = [0xff; 2];
    feed(basis, &xor(&key.tp_src, &key.tp_dst))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_hash_alike_and_the_mask_has_what_was_used() {
        let there = Key {
            eth_type: ETH_IPV4,
            eth_src: [2; 6],
            eth_dst: [4; 6],
            nw_src: [10, 0, 0, 1],
            nw_dst: [10, 0, 0, 2],
            nw_proto: 6,
            tp_src: [1, 1],
            tp_dst: [0, 80],
            ..Key::ZERO
        };
        let back = Key {
            eth_src: there.eth_dst,
            eth_dst: there.eth_src,
            nw_src: there.nw_dst,
            nw_dst: there.nw_src,
            tp_src: there.tp_dst,
            tp_dst: there.tp_src,
            ..there
        };
        for fields in [HashFields::SymmetricL4, HashFields::SymmetricL3L4, HashFields::SymmetricL3L4Udp, HashFields::SymmetricL3] {
            // Always matched: what kind of packet it is.
            let mut mask = Key { eth_type: [0xff; 2], nw_frag: 0xff, ..Key::ZERO };
            assert_eq!(hash(fields, &there, &mut mask, 7), hash(fields, &back, &mut Key::default(), 7));
            let mut other = there;
            for ((o, m), noise) in other.words_mut().iter_mut().zip(mask.words()).zip(0x55aa_1234u64..) {
                *o ^= noise.wrapping_mul(0x9e37_79b9) & !m;
            }
            assert_eq!(hash(fields, &there, &mut Key::default(), 7), hash(fields, &other, &mut Key::default(), 7), "{fields:?}");
        }
        assert_ne!(hash(HashFields::NwSrc, &there, &mut Key::default(), 7), hash(HashFields::NwSrc, &back, &mut Key::default(), 7));
    }
}
