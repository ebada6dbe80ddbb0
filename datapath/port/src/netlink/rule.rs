//! Rules that choose routing tables (`ip rule`).
//!
//! What enters: RTM_NEWRULE and RTM_DELRULE. What leaves: [`Rule`]s, those by which a packet of this host may choose a table: by its source, or any.
//! Neighbours: the rest of `netlink`.
//!
//! Rules that look at more (marks, devices, protocols, ports, users) or do something else than to look a table up are left out: what they are
//! for is not what tunnels send.

use super::{ip, wire};
use std::net::IpAddr;
use wire::Attributes;

// include/uapi/linux/fib_rules.h
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_FLOW: u16 = 11;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_PAD: u16 = 18;
const FRA_PROTOCOL: u16 = 21;
const FR_ACT_TO_TBL: u8 = 1;
const FIB_RULE_INVERT: u32 = 2;

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Smaller ones are asked first.
    pub priority: u32,
    /// Whether it is for IPv6.
    pub v6: bool,
    /// It is for packets that the rest does not match.
    pub invert: bool,
    /// Sources, with the bits of their prefix; `None` is all.
    pub source: Option<(IpAddr, u8)>,
    /// The table that is looked into.
    pub table: u32,
}

/// struct fib_rule_hdr and its attributes.
pub(super) fn decode(payload: &[u8]) -> Option<Rule> {
    let head: &[u8; 12] = payload.first_chunk()?;
    let [family, dst_len, src_len, tos, table, _, _, action, ..] = *head;
    let v6 = match libc::c_int::from(family) {
        libc::AF_INET => false,
        libc::AF_INET6 => true,
        _ => return None,
    };
    if action != FR_ACT_TO_TBL || dst_len != 0 || tos != 0 {
        return None;
    }
    let invert = wire::u32_at(head, 8)? & FIB_RULE_INVERT != 0;
    let mut rule = Rule { priority: 0, v6, invert, source: None, table: table.into() };
    for (kind, value) in Attributes::new(&payload[head.len()..]) {
        match kind {
            FRA_PRIORITY => rule.priority = wire::u32_at(value, 0)?,
            FRA_TABLE => rule.table = wire::u32_at(value, 0)?,
            FRA_SRC => rule.source = Some((ip(family, value)?, src_len)),
            // The kernel always says it; all ones is "does not suppress".
            FRA_SUPPRESS_PREFIXLEN if wire::u32_at(value, 0)? == u32::MAX => {}
            FRA_PROTOCOL | FRA_PAD | FRA_FLOW => {}
            _ => return None,
        }
    }
    Some(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(head: [u8; 12], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut builder = wire::Builder::new(libc::RTM_NEWRULE, 0, 0, &head);
        for (kind, value) in attributes {
            builder = builder.attribute(*kind, value);
        }
        builder.finish()[16..].to_vec()
    }

    #[test]
    fn rules_by_source_are_taken_and_others_left_out() {
        // As Linux 6.18 tells of `ip rule add not from 10.1.0.0/16 table 100 prio 5`.
        let word = |n: u32| n.to_ne_bytes();
        let always: &[(u16, &[u8])] = &[(FRA_SUPPRESS_PREFIXLEN, &word(u32::MAX)), (FRA_PROTOCOL, &[3])];
        let head = [2, 0, 16, 0, 100, 0, 0, FR_ACT_TO_TBL, 2, 0, 0, 0];
        let own: &[(u16, &[u8])] = &[(FRA_TABLE, &word(1000)), (FRA_PRIORITY, &word(5)), (FRA_SRC, &[10, 1, 0, 0])];
        let source = Some((IpAddr::from([10, 1, 0, 0]), 16));
        let expected = Rule { priority: 5, v6: false, invert: cfg!(target_endian = "little"), source, table: 1000 };
        assert_eq!(decode(&message(head, &[always, own].concat())), Some(expected));
        let plain = [10, 0, 0, 0, 254, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0];
        let expected = Rule { priority: 0, v6: true, invert: false, source: None, table: 254 };
        assert_eq!(decode(&message(plain, always)), Some(expected));
        const FRA_FWMARK: u16 = 10;
        for (head, more) in [
            ([128, 0, 0, 0, 254, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0], &[][..]),
            ([2, 8, 0, 0, 254, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0], &[]),
            ([2, 0, 0, 0, 254, 0, 0, 6, 0, 0, 0, 0], &[]),
            (plain, &[(FRA_FWMARK, &[1, 0, 0, 0][..])]),
            (plain, &[(FRA_SUPPRESS_PREFIXLEN, &[0; 4])]),
        ] {
            assert_eq!(decode(&message(head, more)), None, "{head:?} {more:?}");
        }
        assert_eq!(decode(&plain[..11]), None);
    }
}
