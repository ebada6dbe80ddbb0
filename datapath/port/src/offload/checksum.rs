//! The Internet checksum (RFC 1071), its incremental update (RFC 1624), and SCTP's CRC32c (RFC 9260 appendix A).
//!
//! What enters: bytes. What leaves: sums. Neighbours: the rest of `offload`.

/// The one's complement sum of `bytes` as big-endian 16-bit words (an odd last byte counts as the upper half), not complemented.
#[inline]
pub fn sum(bytes: &[u8]) -> u16 {
    // Summing is independent of byte order (RFC 1071 section 2 (B)), so native words are added, eight lanes at a time.
    let mut lanes = [0u64; 8];
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(4)) {
            *lane += u64::from(u32::from_ne_bytes(word.try_into().expect("chunks of four bytes")));
        }
    }
    let mut total: u64 = lanes.iter().sum();
    let mut pairs = blocks.remainder().chunks_exact(2);
    for pair in &mut pairs {
        total += u64::from(u16::from_ne_bytes(pair.try_into().expect("chunks of two bytes")));
    }
    if let [last] = pairs.remainder() {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    u16::from_be(fold(total))
}

/// Adds two one's complement sums.
#[inline]
pub(crate) fn add(a: u16, b: u16) -> u16 {
    fold(u64::from(a) + u64::from(b))
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "folded to 16 bits before")]
fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// The checksum field after `old` has been replaced by `new` (equally long, an even number of bytes, at an even position) in what
/// it covers. `partial`: the field holds an uncomplemented sum ([`Checksum::Partial`](crate::Checksum::Partial)); then only
/// changes of the pseudo header count.
pub fn update(field: u16, old: &[u8], new: &[u8], partial: bool) -> u16 {
    let change = add(!sum(old), sum(new));
    // RFC 1624 equation 3: HC' = ~(~HC + ~m + m').
    if partial { add(field, change) } else { !add(!field, change) }
}

/// CRC32c of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| (crc >> 8) ^ CRC_TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

static CRC_TABLE: [u32; 256] = crc_table();

#[allow(clippy::cast_possible_truncation, reason = "an index below 256")]
const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            // The Castagnoli polynomial, reflected.
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        // RFC 1071 section 3.
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        // The CRC catalogue's check value of CRC-32/ISCSI.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn fast_sum_equals_plain_sum(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut plain = 0u32;
            for pair in bytes.chunks(2) {
                plain += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
                plain = (plain & 0xffff) + (plain >> 16);
            }
            prop_assert_eq!(u32::from(sum(&bytes)), plain);
        }

        #[test]
        fn update_equals_anew(mut bytes in prop::collection::vec(any::<u8>(), 10..60), new in any::<[u8; 4]>()) {
            bytes[0] = 1; // neither sum may be plus or minus zero, which are equal but written differently
            let before = sum(&bytes);
            let old: [u8; 4] = bytes[4..8].try_into().unwrap();
            bytes[4..8].copy_from_slice(&new);
            prop_assert_eq!(update(!before, &old, &new, false), !sum(&bytes));
            prop_assert_eq!(update(before, &old, &new, true), sum(&bytes));
        }
    }
}
