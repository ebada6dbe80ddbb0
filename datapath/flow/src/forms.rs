//! Writing text: how numbers, addresses, flags and ports look in OVS's output. Used by `oftext` and `dptext`.

use crate::scan::{Flags, ipv4_text, prefix_len};
use std::fmt;
use std::net::Ipv6Addr;

/// Translates between port numbers and names, in both directions.
pub trait PortNames {
    /// The name of a port.
    fn name(&self, port: u32) -> Option<String>;
    /// The port of a name.
    fn number(&self, name: &str) -> Option<u32>;
}

/// No port has a name.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl PortNames for NoNames {
    fn name(&self, _port: u32) -> Option<String> {
        None
    }

    fn number(&self, _name: &str) -> Option<u32> {
        None
    }
}

/// `OVS_CS_F_*`
pub(crate) const CT_STATE: Flags =
    &[(1, "new"), (2, "est"), (4, "rel"), (8, "rpl"), (0x10, "inv"), (0x20, "trk"), (0x40, "snat"), (0x80, "dnat")];
/// RFC 9293 section 3.1, and OVS's names for the reserved bits.
pub(crate) const TCP_FLAGS: Flags = &[
    (1, "fin"),
    (2, "syn"),
    (4, "rst"),
    (8, "psh"),
    (0x10, "ack"),
    (0x20, "urg"),
    (0x40, "ece"),
    (0x80, "cwr"),
    (0x100, "ns"),
    (0x200, "[200]"),
    (0x400, "[400]"),
    (0x800, "[800]"),
];
/// `TUN_*` of `key`, in OVS's order.
pub(crate) const TUN_FLAGS: Flags = &[(8, "oam"), (1, "df"), (2, "csum"), (4, "key")];

/// `%#x` of C: no prefix for zero.
pub(crate) struct Hex(pub(crate) u128);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("0") } else { write!(f, "{:#x}", self.0) }
    }
}

/// An Ethernet address.
pub(crate) struct Mac(pub(crate) u128);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = self.0.to_be_bytes();
        write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", b[10], b[11], b[12], b[13], b[14], b[15])
    }
}

/// An IPv6 address as glibc's `inet_ntop` writes it: a low IPv4-compatible address ends in dots.
#[derive(Clone, Copy, Debug)]
pub struct Ip6(pub u128);

impl fmt::Display for Ip6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if (0x1_0000..=0xffff_ffff).contains(&self.0) {
            return write!(f, "::{}", ipv4_text(self.0));
        }
        write!(f, "{}", Ipv6Addr::from(self.0))
    }
}

/// Address and mask as in OpenFlow text: `/len` when the mask is a prefix.
pub(crate) fn mac_masked(mac: u128, mask: u128) -> String {
    if mask == 0xffff_ffff_ffff { Mac(mac).to_string() } else { format!("{}/{}", Mac(mac), Mac(mask)) }
}

/// Address and mask as in OpenFlow text: `/len` when the mask is a prefix.
pub(crate) fn ipv4_masked(address: u128, mask: u128) -> String {
    let shown = ipv4_text(address);
    match prefix_len(mask, 32) {
        Some(32) => shown.to_string(),
        Some(len) => format!("{shown}/{len}"),
        None => format!("{shown}/{}", ipv4_text(mask)),
    }
}

/// Address and mask as in OpenFlow text: `/len` when the mask is a prefix.
pub(crate) fn ipv6_masked(address: u128, mask: u128) -> String {
    match prefix_len(mask, 128) {
        Some(128) => Ip6(address).to_string(),
        Some(len) => format!("{}/{len}", Ip6(address)),
        None => format!("{}/{}", Ip6(address), Ip6(mask)),
    }
}

/// `a|b`; bits without a name in hexadecimal, `0` for none.
pub(crate) fn flags(value: u32, names: Flags) -> String {
    let mut parts: Vec<String> = names.iter().filter(|(bit, _)| value & bit != 0).map(|(_, n)| (*n).to_owned()).collect();
    let rest = names.iter().fold(value, |rest, (bit, _)| rest & !bit);
    if rest != 0 {
        parts.push(format!("{rest:#x}"));
    }
    if parts.is_empty() { "0".to_owned() } else { parts.join("|") }
}

/// `+a-b` for each bit of the mask; `a|b` when the mask is `all`.
pub(crate) fn flags_masked(value: u32, mask: u32, names: Flags, all: u32) -> String {
    if mask == all {
        return flags(value, names);
    }
    if mask == 0 {
        return "0/0".to_owned();
    }
    names.iter().filter(|(bit, _)| mask & bit != 0).fold(String::new(), |mut text, (bit, name)| {
        text.push(if value & bit != 0 { '+' } else { '-' });
        text.push_str(name);
        text
    })
}
