//! The wire, neighbours that come and go, mappings that are asked for and answered.

use super::wire::{ETH_TYPE, Malformed, frame};
use super::*;

fn local(assignments: &[Assignment]) -> Vec<u8> {
    let local =
        Local { mac: [2, 0, 0, 0, 0, 1], port: "p1", system_name: "sw", system_description: "d", ttl_s: 120, assignments };
    frame(&local)
}

#[test]
fn what_is_said_is_understood() {
    let asked = [Assignment { isid: 0x0a_0b0c, vlan: 0x123, status: 2 }];
    let bytes = local(&asked);
    assert_eq!(bytes[12..14], ETH_TYPE);
    assert_eq!(bytes[14..31], [2, 7, 4, 2, 0, 0, 0, 0, 1, 4, 3, 5, b'p', b'1', 6, 2, 0]);
    let heard = Neighbour::parse(&bytes[14..]).unwrap();
    assert_eq!((heard.chassis, heard.port, heard.ttl_s), (vec![4, 2, 0, 0, 0, 0, 1], vec![5, b'p', b'1'], 120));
    assert_eq!(heard.element, Some([2, 0, 0, 0, 0, 1, 0, 0, 0, 0]));
    assert_eq!(heard.assignments, asked);
    for len in 14..bytes.len() {
        assert!(Neighbour::parse(&bytes[14..len]).is_err(), "cut at {len}");
    }
}

#[test]
fn what_is_wrong_with_a_data_unit() {
    let head = [2, 2, 7, 1, 4, 2, 5, 1, 6, 2, 0, 120];
    let check = |rest: &[u8], expect: Malformed| {
        assert_eq!(Neighbour::parse(&[&head, rest].concat()), Err(expect));
    };
    assert!(Neighbour::parse(&[&head[..], &[0, 0]].concat()).is_ok());
    check(&[], Malformed::Missing);
    check(&[0], Malformed::Header);
    check(&[0, 1, 9], Malformed::End);
    check(&[4, 2, 5, 1], Malformed::Order);
    check(&[22, 0], Malformed::Unknown(11));
    check(&[14, 2, 0, 4], Malformed::Short("System capabilities"));
    check(&[16, 1, 5], Malformed::Short("Management address"));
    check(&[254, 3, 0, 4, 13], Malformed::Short("Organisational"));
    check(&[254, 5, 0, 4, 13, 11, 1], Malformed::Short("ELEMENT"));
    check(&[254, 5, 0, 4, 13, 12, 1], Malformed::Short("ISID_VLAN_ASGNS"));
    check(&[&[254, 37, 0, 4, 13, 12][..], &[0; 33]].concat(), Malformed::Assignments);
    assert_eq!(Neighbour::parse(&[2, 2, 8, 1, 0, 0]), Err(Malformed::Subtype));
    assert_eq!(Neighbour::parse(&[10, 0, 8, 0, 6, 2, 0, 1, 0, 0]), Err(Malformed::Missing), "nobody's");
    assert_eq!(Malformed::Short("ISID_VLAN_ASGNS").to_string(), "ISID_VLAN_ASGNS TLV too short");
}

#[test]
fn neighbours_age_and_mappings_are_answered() {
    let wants = AutoAttach { mappings: vec![(5, 10), (6, 11)], ..AutoAttach::default() };
    let mut s = Session::new("p1", wants, 0);
    assert_eq!(s.transmit([2; 6], 4999), None);
    let said = Neighbour::parse(&s.transmit([2; 6], 5000).unwrap()[14..]).unwrap();
    assert_eq!(said.assignments.iter().map(|a| (a.isid, a.vlan, a.status)).collect::<Vec<_>>(), [(5, 10, 1), (6, 11, 1)]);
    assert_eq!(said.system_description.as_deref(), Some("Open vSwitch"));
    s.receive(&local(&[Assignment { isid: 5, vlan: 10, status: 2 }, Assignment { isid: 9, vlan: 1, status: 2 }])[14..], 6000);
    s.receive(&[1, 2, 3], 6000);
    assert!(s.servers().contains("System Id: 02:00:00:00:00:01:00:00:00:00"), "{}", s.servers());
    let mappings = s.mappings();
    assert!(
        mappings.contains("5        10   Switch      Active") && mappings.contains("6        11   Switch      Pending"),
        "{mappings}"
    );
    let (none, ten) = (BTreeSet::new(), BTreeSet::from([10]));
    assert_eq!(s.vlans(6000), Vlans { granted: ten.clone(), withdrawn: none.clone() });
    assert_eq!(s.vlans(6000).change(&[1]), Some(BTreeSet::from([1, 10])));
    assert_eq!(s.vlans(6000).change(&[10, 1]), None);
    assert_eq!(s.wake_ms(), 10_000);
    s.transmit([2; 6], 126_000);
    assert_eq!(s.servers(), "LLDP: p1\n");
    let text = s.statistics();
    assert!(text.contains("  rx discarded cnt: 1\n") && text.contains("  ageout cnt: 1\n"), "{text}");
}

#[test]
fn a_vlan_goes_when_its_mapping_goes_or_is_refused() {
    let mapped = |mappings: &[(u32, u16)]| AutoAttach { mappings: mappings.to_vec(), ..AutoAttach::default() };
    let mut s = Session::new("p1", mapped(&[(5, 10), (6, 11)]), 0);
    let answer = |s: &mut Session, isid, vlan, status, now| s.receive(&local(&[Assignment { isid, vlan, status }])[14..], now);
    answer(&mut s, 5, 10, 2, 0);
    answer(&mut s, 6, 11, 2, 0);
    answer(&mut s, 6, 11, 4, 1000);
    assert_eq!(s.vlans(1000), Vlans { granted: BTreeSet::from([10]), withdrawn: BTreeSet::from([11]) });
    s.configure(mapped(&[(6, 11)]), 2000);
    assert_eq!(s.vlans(2000).change(&[1, 10, 11]), Some(BTreeSet::from([1])));
    assert_eq!(s.vlans(13_000).change(&[1, 10, 11]), None, "from then on they are the operator's");
    answer(&mut s, 6, 11, 2, 13_000);
    assert_eq!(s.vlans(13_000).change(&[1]), Some(BTreeSet::from([1, 11])));
}
