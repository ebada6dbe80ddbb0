//! The lists of actions, instructions and group types (data/listed.txt), walked from end to end: each goes both ways in each version that has
//! it, on the wire and in text, and nothing else is spoken.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is the test's")]

mod common;

use common::{bytes, hex, vendor, versions};
use flow::matching::Match;
use flow::oftext::parse_match;
use openflow::message::{Body, Bucket, FlowMod, GroupCommand, GroupMod, GroupType, PacketOut, SelectionMethod, bucket_id};
use openflow::text::{Names, Protocols, format_actions, parse_instructions};
use openflow::types::NO_BUFFER;
use openflow::{GroupId, Message, OfAction, OfError, OfPort, TableId, Version, Xid, decode};
use std::collections::BTreeSet;
use std::panic::catch_unwind;

const APPLY: u16 = 4;
const METER: u16 = 6;

fn rows(what: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let lines = include_str!("data/listed.txt").lines().map(|l| l.split(' ').collect::<Vec<_>>());
    lines.filter(move |l| l[0] == what).map(|l| l[1..].to_vec())
}

/// Type or subtype with what follows it, padded, with its length.
fn action(vendor: u32, number: u16, body: &[u8]) -> Vec<u8> {
    let mut out = match vendor {
        0 => [number.to_be_bytes(), [0; 2]].concat(),
        _ => [&[0xff, 0xff, 0, 0][..], &vendor.to_be_bytes(), &number.to_be_bytes()].concat(),
    };
    out.extend(body);
    out.resize(out.len().next_multiple_of(8), 0);
    let len = u16::try_from(out.len()).unwrap();
    out[2..4].copy_from_slice(&len.to_be_bytes());
    out
}

fn instruction(number: u16, body: &[u8]) -> Vec<u8> {
    action(0, number, body)
}

/// The message with `more` behind it.
fn appended(message: &Message, more: &[u8]) -> Vec<u8> {
    let mut out = message.encode().unwrap();
    out.extend(more);
    let len = u16::try_from(out.len()).unwrap();
    out[2..4].copy_from_slice(&len.to_be_bytes());
    out
}

fn flow_mod(version: Version, matching: Match) -> Message {
    let flow = FlowMod { table: TableId(0), matching, priority: 5, new_cookie: 1, ..FlowMod::default() };
    let body = Body::FlowMod(Box::new(flow));
    Message { version, xid: Xid(1), body }
}

/// A flow-mod, or a packet-out, with an action.
fn message_with(version: Version, matching: &str, action: &[u8]) -> Vec<u8> {
    if matching == "packet-out" {
        let mut metadata = Match::default();
        metadata.set(flow::Field::InPort, 3);
        let out = PacketOut { buffer_id: NO_BUFFER, packet: Vec::new(), metadata, actions: Vec::new() };
        let mut out = appended(&Message { version, xid: Xid(1), body: Body::PacketOut(Box::new(out)) }, action);
        let at = if version == Version::V10 { 14 } else { 16 };
        out[at..at + 2].copy_from_slice(&u16::try_from(action.len()).unwrap().to_be_bytes());
        return out;
    }
    let matching = if matching == "-" { Match::default() } else { parse_match(matching).unwrap() };
    let message = flow_mod(version, matching);
    if version == Version::V10 {
        appended(&message, action)
    } else {
        appended(&message, &instruction(APPLY, &[&[0; 4], action].concat()))
    }
}

fn actions_of(message: &Message) -> Vec<OfAction> {
    if let Body::FlowMod(fm) = &message.body {
        return fm.actions.clone();
    }
    let Body::PacketOut(po) = &message.body else { panic!("{message:?}") };
    po.actions.clone()
}

/// To actions, to bytes again, to text and back. `same`: the bytes are those that there were.
fn goes_both_ways(name: &str, input: &[u8], same: bool) -> Vec<OfAction> {
    let once = decode(input).unwrap_or_else(|e| panic!("{name}: {}\n{}", e.name(), hex(input)));
    let actions = actions_of(&once);
    assert_eq!(actions.len(), 1, "{name} of {}: {actions:?}", once.version);
    let again = once.encode().unwrap();
    let twice = decode(&again).unwrap_or_else(|e| panic!("{name}: {}\n{}", e.name(), hex(&again)));
    assert_eq!(hex(&twice.encode().unwrap()), hex(&again), "{name} of {}", once.version);
    if same {
        assert_eq!(hex(&again), hex(input), "{name} of {}: {actions:?}", once.version);
    }
    let names = Names::default();
    let text = format_actions(&actions, &names);
    let (read, protocols) = parse_instructions(&text, &names).unwrap_or_else(|e| panic!("{name}: {text}: {e}"));
    assert_eq!(format_actions(&read, &names), text, "{name}");
    // OpenFlow 1.1 has no text for masked fields, though it takes the vendor's action that sets them.
    let writes = once.version == Version::V11 || !protocols.and(Protocols::of_version(once.version)).is_empty();
    assert!(writes, "{name} of {}: {text} {protocols}", once.version);
    actions
}

#[test]
fn every_action_of_the_list_goes_both_ways() {
    let mut listed = BTreeSet::new();
    let (mut names, mut failed) = (BTreeSet::new(), Vec::new());
    for row in rows("action") {
        let [name, class, number, from, to, matching, body, ref old @ ..] = row[..] else { panic!("{row:?}") };
        names.insert(name);
        let number: u16 = number.parse().unwrap();
        for version in versions(from, to) {
            assert!(listed.insert((version, vendor(class), number)), "{name} of {version} stands twice");
            let mut action = action(vendor(class), number, &bytes(body));
            if name == "NXAST_NAT" {
                // Only ct has one.
                let ct = [&bytes("0001000000000005ff0000000000"), &action[..]].concat();
                action = self::action(vendor("NX"), 35, &ct);
            }
            let message = message_with(version, matching, &action);
            // All that fail are shown at once.
            if catch_unwind(|| goes_both_ways(name, &message, old.is_empty())).is_err() {
                failed.push((name, version));
            }
        }
    }
    assert_eq!(failed, [], "what is wrong with each stands above");
    assert_eq!(names.len(), 75 + 4, "OVS's, and four of OpenFlow's own");
    let numbers = (0..64).map(|n| (0, n)).chain((0..300).map(|n| (vendor("NX"), n))).chain([(vendor("ONF"), 3200)]);
    for (version, (vendor, number)) in numbers.flat_map(|n| Version::ALL.map(|v| (v, n))) {
        let error = decode(&message_with(version, "-", &action(vendor, number, &[0; 6]))).err();
        let unknown = matches!(error, Some(OfError::OfpbacBadType | OfError::OfpbacBadVendorType));
        let is_listed = listed.contains(&(version, vendor, number));
        assert_eq!(is_listed, !unknown, "{vendor:#x} {number} of {version}: {error:?}");
    }
}

#[test]
fn every_instruction_of_the_list_goes_both_ways() {
    let mut listed = BTreeSet::new();
    for row in rows("instruction") {
        let [name, number, from, to, body] = row[..] else { panic!("{row:?}") };
        let number: u16 = number.parse().unwrap();
        for version in versions(from, to) {
            listed.insert((version, number));
            let input = appended(&flow_mod(version, Match::default()), &instruction(number, &bytes(body)));
            goes_both_ways(name, &input, true);
        }
    }
    for (version, number) in versions("1.1", "1.5").flat_map(|v| (0..300).map(move |n| (v, n))) {
        let error = decode(&appended(&flow_mod(version, Match::default()), &instruction(number, &[0; 4]))).err();
        // OVS takes the meter's in all versions before 1.5, where it is an action.
        let is_listed = listed.contains(&(version, number)) || (number == METER && version < Version::V15);
        assert_eq!(is_listed, error != Some(OfError::OfpbicUnknownInst), "{number} of {version}: {error:?}");
    }
}

fn bucket(kind: GroupType) -> Bucket {
    let weight = u16::from(kind == GroupType::Select);
    let watch_port = if kind == GroupType::FastFailover { OfPort(3) } else { OfPort::ANY };
    let actions = vec![OfAction::Output { port: OfPort(3), max_len: 0 }];
    Bucket { id: 0, weight, watch_port, watch_group: GroupId::ANY, actions }
}

#[test]
fn every_group_type_of_the_list_goes_both_ways() {
    let kinds = [GroupType::All, GroupType::Select, GroupType::Indirect, GroupType::FastFailover];
    let mut listed = BTreeSet::new();
    for row in rows("group") {
        let [name, number, from, to] = row[..] else { panic!("{row:?}") };
        let number: u8 = number.parse().unwrap();
        for (version, kind) in versions(from, to).map(|v| (v, kinds[usize::from(number)])) {
            listed.insert((version, number));
            let body = Body::GroupMod(Box::new(GroupMod {
                command: GroupCommand::Add,
                kind,
                group: GroupId(7),
                command_bucket_id: bucket_id::ALL,
                buckets: vec![bucket(kind)],
                selection: SelectionMethod::default(),
            }));
            let message = Message { version, xid: Xid(1), body };
            let mut encoded = message.encode().unwrap();
            // Behind the command, which follows the header; in 1.0 Nicira's.
            let at = if version == Version::V10 { 18 } else { 10 };
            assert_eq!(encoded[at], number, "{name} of {version}");
            assert_eq!(decode(&encoded).as_ref(), Ok(&message), "{name} of {version}");
            for other in 0..=u8::MAX {
                encoded[at] = other;
                let unknown = decode(&encoded) == Err(OfError::OfpgmfcBadType);
                assert_eq!(unknown, usize::from(other) >= kinds.len(), "{other} of {version}");
            }
        }
    }
    assert_eq!(listed.len(), 4 * Version::ALL.len());
}

/// A flow-mod of OpenFlow 1.3 that matches these entries.
fn matching_entries(entries: &str) -> Vec<u8> {
    const HEAD: usize = 48;
    let entries = bytes(&entries.replace(' ', ""));
    let len = u16::try_from(4 + entries.len()).unwrap();
    let mut out = flow_mod(Version::V13, Match::default()).encode().unwrap();
    out.truncate(HEAD);
    out.extend([[0, 1], len.to_be_bytes()].concat());
    out.extend(entries);
    out.resize(out.len().next_multiple_of(8), 0);
    let len = u16::try_from(out.len()).unwrap();
    out[2..4].copy_from_slice(&len.to_be_bytes());
    out
}

/// OXM field 39, which OVS does not have (OpenFlow 1.3.5 section 7.2.3.7 and 7.2.3.8).
#[test]
fn extension_headers_are_matched_with_masks() {
    for (entries, text) in [
        ("80000a0286dd 80004e020044", "ipv6,ipv6_exthdr=0x44"),
        ("80000a0286dd 80004e020000", "ipv6,ipv6_exthdr=0"),
        ("80000a0286dd 80004f04004401f4", "ipv6,ipv6_exthdr=0x44/0x1f4"),
    ] {
        let input = matching_entries(entries);
        let message = decode(&input).unwrap_or_else(|e| panic!("{entries}: {}", e.name()));
        let Body::FlowMod(fm) = &message.body else { panic!("{message:?}") };
        assert_eq!(flow::oftext::format_match(&fm.matching), text);
        assert_eq!(fm.matching, parse_match(text).unwrap());
        assert_eq!(hex(&message.encode().unwrap()), hex(&input), "{text}");
    }
    for (entries, error) in [
        ("80004e020044", OfError::OfpbmcBadPrereq),
        ("80000a020800 80004e020044", OfError::OfpbmcBadPrereq),
        ("80000a0286dd 80004e020200", OfError::OfpbmcBadValue),
        ("80000a0286dd 80004f0401440044", OfError::OfpbmcBadWildcards),
        ("80000a0286dd 80004e020044 80004e020044", OfError::OfpbmcDupField),
    ] {
        assert_eq!(decode(&matching_entries(entries)).err(), Some(error), "{entries}");
    }
}

#[test]
fn extension_headers_are_not_set() {
    let set = action(0, 25, &bytes("80004e020044"));
    let load = action(vendor("NX"), 7, &bytes("000880004e020000000000000044"));
    let moved = action(vendor("NX"), 6, &bytes("00090000000080004e0200010004"));
    for (name, action) in [("set_field", set), ("load", load)] {
        let error = decode(&message_with(Version::V13, "ipv6", &action)).err();
        assert_eq!(error, Some(OfError::OfpbacBadSetArgument), "{name}");
    }
    let names = Names::default();
    let message = decode(&message_with(Version::V13, "ipv6", &moved)).unwrap();
    assert_eq!(format_actions(&actions_of(&message), &names), "move:OXM_OF_IPV6_EXTHDR[]->NXM_NX_REG0[0..8]");
    assert_eq!(decode(&message_with(Version::V13, "ip", &moved)).err(), Some(OfError::OfpbacMatchInconsistent));
}
