//! Where the fields of `set(...)` actions lie in their headers: the table by which they become words of pedit and back.
//!
//! What enters: nothing. What leaves: rows for `plan::rewrite` and `decode`.

use crate::keys::{Place, place};
use crate::rule::Header;
use flow::action::SetAttr;

/// A field of a header.
#[derive(Debug)]
pub struct HeaderField {
    /// Bytes from the start of the header.
    pub at: usize,
    pub bytes: usize,
    /// Bits to the right of the field in its bytes.
    pub lo: u32,
    pub place: Place,
    /// Whether the transport checksum covers it.
    pub in_l4_sum: bool,
}

/// A header that pedit knows.
#[derive(Debug)]
pub struct HeaderRow {
    pub attr: SetAttr,
    pub header: Header,
    /// Bytes of the header, as far as fields lie there.
    pub len: usize,
    pub fields: &'static [HeaderField],
}

const fn field(at: usize, bytes: usize, lo: u32, place: Place, in_l4_sum: bool) -> HeaderField {
    HeaderField { at, bytes, lo, place, in_l4_sum }
}

/// The headers, by the attribute that sets them.
pub static HEADERS: &[HeaderRow] = &[
    HeaderRow {
        attr: SetAttr::Eth,
        header: Header::Eth,
        len: 12,
        fields: &[field(0, 6, 0, place!(eth_dst), false), field(6, 6, 0, place!(eth_src), false)],
    },
    HeaderRow {
        attr: SetAttr::Ipv4,
        header: Header::Ipv4,
        len: 20,
        fields: &[
            field(1, 1, 0, place!(nw_tos), false),
            field(8, 1, 0, place!(nw_ttl), false),
            field(12, 4, 0, place!(nw_src), true),
            field(16, 4, 0, place!(nw_dst), true),
        ],
    },
    HeaderRow {
        attr: SetAttr::Ipv6,
        header: Header::Ipv6,
        len: 40,
        fields: &[
            // RFC 8200 section 3: version 4 bits, traffic class 8, flow label 20.
            field(0, 4, 20, place!(nw_tos), false),
            field(0, 4, 0, place!(ipv6_label[0..20]), false),
            field(7, 1, 0, place!(nw_ttl), false),
            field(8, 16, 0, place!(ipv6_src), true),
            field(24, 16, 0, place!(ipv6_dst), true),
        ],
    },
    HeaderRow {
        attr: SetAttr::Tcp,
        header: Header::Tcp,
        len: 4,
        fields: &[field(0, 2, 0, place!(tp_src), true), field(2, 2, 0, place!(tp_dst), true)],
    },
    HeaderRow {
        attr: SetAttr::Udp,
        header: Header::Udp,
        len: 4,
        fields: &[field(0, 2, 0, place!(tp_src), true), field(2, 2, 0, place!(tp_dst), true)],
    },
];

impl HeaderField {
    /// Puts `value` where the field lies in an image of the header.
    pub fn write(&self, image: &mut [u8], value: u128) {
        let slice = &mut image[self.at..self.at + self.bytes];
        let old = slice.iter().fold(0u128, |n, b| n << 8 | u128::from(*b));
        let new = old | value << self.lo;
        slice.copy_from_slice(&new.to_be_bytes()[16 - self.bytes..]);
    }

    /// Takes the field out of an image of the header, and clears it there.
    pub fn take(&self, image: &mut [u8]) -> u128 {
        let slice = &mut image[self.at..self.at + self.bytes];
        let old = slice.iter().fold(0u128, |n, b| n << 8 | u128::from(*b));
        let all = if self.place.bits == 128 { u128::MAX } else { (1 << self.place.bits) - 1 };
        let new = old & !(all << self.lo);
        slice.copy_from_slice(&new.to_be_bytes()[16 - self.bytes..]);
        old >> self.lo & all
    }
}
