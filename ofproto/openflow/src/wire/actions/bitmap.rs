//! Sets of actions, as features and table features carry them: abstract bits, and the standard types of each version.
//!
//! An abstract bit is a position in `ACTIONS`; texts print the names in that order.

use crate::types::Version;

/// Standard actions: name as ovs-ofctl prints it, and type in 1.0, 1.1 and 1.2+ (`None`: not a standard action there).
pub const ACTIONS: &[(&str, [Option<u8>; 3])] = &[
    ("output", [Some(0), Some(0), Some(0)]),
    ("group", [None, Some(22), Some(22)]),
    ("enqueue", [Some(11), None, None]),
    ("set_field", [None, None, Some(25)]),
    ("set_vlan_vid", [Some(1), Some(1), None]),
    ("set_vlan_pcp", [Some(2), Some(2), None]),
    ("strip_vlan", [Some(3), Some(18), Some(18)]),
    ("push_vlan", [None, Some(17), Some(17)]),
    ("mod_dl_src", [Some(4), Some(3), None]),
    ("mod_dl_dst", [Some(5), Some(4), None]),
    ("mod_nw_src", [Some(6), Some(5), None]),
    ("mod_nw_dst", [Some(7), Some(6), None]),
    ("mod_nw_tos", [Some(8), Some(7), None]),
    ("mod_nw_ecn", [None, Some(8), None]),
    ("mod_nw_ttl", [None, Some(23), Some(23)]),
    ("mod_tp_src", [Some(9), Some(9), None]),
    ("mod_tp_dst", [Some(10), Some(10), None]),
    ("dec_ttl", [None, Some(24), Some(24)]),
    ("set_mpls_label", [None, Some(13), None]),
    ("set_mpls_tc", [None, Some(14), None]),
    ("set_mpls_ttl", [None, Some(15), Some(15)]),
    ("dec_mpls_ttl", [None, Some(16), Some(16)]),
    ("push_mpls", [None, Some(19), Some(19)]),
    ("pop_mpls", [None, Some(20), Some(20)]),
    ("set_queue", [None, Some(21), Some(21)]),
    ("copy_ttl_out", [None, Some(11), Some(11)]),
    ("copy_ttl_in", [None, Some(12), Some(12)]),
    ("push_pbb", [None, None, Some(26)]),
    ("pop_pbb", [None, None, Some(27)]),
];

/// How many of them OVS has; those behind are OpenFlow's alone.
pub const OF_OVS: usize = 25;
const _: () = assert!(OF_OVS + 4 == ACTIONS.len());

/// All of them.
pub const ALL: u64 = (1 << ACTIONS.len()) - 1;

fn column(version: Version) -> usize {
    match version {
        Version::V10 => 0,
        Version::V11 => 1,
        Version::V12 | Version::V13 | Version::V14 | Version::V15 => 2,
    }
}

/// Abstract bits to the version's bitmap of types; what it does not have is left out.
#[must_use]
pub fn to_wire(bits: u64, version: Version) -> u32 {
    let types = ACTIONS.iter().enumerate().filter(|(n, _)| bits >> n & 1 != 0).filter_map(|(_, row)| row.1[column(version)]);
    types.fold(0, |map, kind| map | 1 << kind)
}

/// The version's bitmap of types to abstract bits; what we do not know is left out.
#[must_use]
pub fn from_wire(map: u32, version: Version) -> u64 {
    let has = |row: &[Option<u8>; 3]| row[column(version)].is_some_and(|kind| map >> kind & 1 != 0);
    ACTIONS.iter().enumerate().filter(|(_, row)| has(&row.1)).fold(0, |bits, (n, _)| bits | 1 << n)
}
