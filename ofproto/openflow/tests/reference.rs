//! The list of what OVS speaks (data/reference.txt), walked from end to end: each message format goes both ways under its number, each
//! error has its numbers, and nothing else is spoken.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is the test's")]

mod common;

use common::{Dice, bodies, hex, vendor, versions};
use flow::matching::Match;
use openflow::message::{AsyncConfig, Body, ErrorMessage, PacketInFormat};
use openflow::wire::Codec;
use openflow::{Message, OfError, Version, Xid, decode};
use std::collections::{BTreeMap, BTreeSet};

/// OFPST_VENDOR of OpenFlow 1.0, OFPMP_EXPERIMENTER later.
const EXPERIMENTER: u16 = 0xffff;
/// How often each body is thrown.
const THROWS: u64 = 12;

/// What tells messages apart on the wire: version, whether a multipart (and if so whether a request), vendor, number.
type Identity = (Version, Option<bool>, u32, u32);

fn reference(what: &str) -> Vec<Vec<&'static str>> {
    let lines = include_str!("data/reference.txt").lines().map(|l| l.split(' ').collect::<Vec<_>>());
    lines.filter(|l| l[0] == what).map(|l| l[1..].to_vec()).collect()
}

/// Read off the bytes without the codec's table (OpenFlow 1.0, 5.1 and 5.3.5; 1.3, 7.3.5).
fn identity(bytes: &[u8]) -> Identity {
    let (u16_at, u32_at) = (
        |at: usize| u16::from_be_bytes(bytes[at..at + 2].try_into().unwrap()),
        |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()),
    );
    let version = Version::from_wire(bytes[0]).unwrap();
    let (request, body) = if version == Version::V10 { (16, 12) } else { (18, 16) };
    let kind = bytes[1];
    if kind == request || kind == request + 1 {
        let part = Some(kind == request);
        return match u16_at(8) {
            EXPERIMENTER => (version, part, u32_at(body), u32_at(body + 4)),
            number => (version, part, 0, u32::from(number)),
        };
    }
    if kind == 4 { (version, None, u32_at(8), u32_at(12)) } else { (version, None, 0, u32::from(kind)) }
}

/// The list's names are long forms of ours: `PORT_DESC_STATS_REQUEST` and `PortDescRequest`.
fn is_called(body: &Body, name: &str) -> bool {
    let debug = if let Body::Stats(stats) = body { format!("{:?}", stats.body) } else { format!("{body:?}") };
    let ours = debug.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap().to_lowercase();
    let theirs = name.replace("STATS_", "").replace("NXT_", "").replace('_', "").to_lowercase();
    theirs.starts_with(&ours)
}

/// In the form that the codec chooses, or with `extension` in a vendor's where there is one.
fn bytes_of(message: &Message, extension: bool) -> Option<Vec<u8>> {
    let (codec, mut bytes) = (Codec::default(), Vec::new());
    if extension { codec.encode_as(message, true, &mut bytes) } else { codec.encode(message, &mut bytes) }.ok()?;
    Some(bytes)
}

/// What the message is on the wire, once it is sure that it comes out of it as it went in.
fn there_and_back(message: &Message, extension: bool) -> Option<(Identity, Body)> {
    let bytes = bytes_of(message, extension)?;
    let once = decode(&bytes).unwrap_or_else(|e| panic!("{}: {message:?}\n{}", e.name(), hex(&bytes)));
    // A version that cannot say a detail may drop it; from then on nothing changes.
    let again = bytes_of(&once, extension).unwrap();
    let twice = decode(&again).unwrap_or_else(|e| panic!("{}: {once:?}\n{}", e.name(), hex(&again)));
    assert_eq!(twice, once, "{}\n{}", hex(&bytes), hex(&again));
    assert_eq!(identity(&again), identity(&bytes));
    Some((identity(&bytes), once.body))
}

/// Bodies beside those that each version keeps whole.
fn more(d: &mut Dice, n: usize) -> Option<Body> {
    let masks = AsyncConfig { packet_in: [6, 2], role_status: [3, 1], carried: 0xff, ..AsyncConfig::default() };
    Some(match n {
        0 => Body::SetAsync(masks),
        1 => {
            let Some(Body::FeaturesReply(mut features)) = bodies::body(d, 5) else { panic!("the fifth is another") };
            features.ports = d.some(3, bodies::port_desc);
            Body::FeaturesReply(features)
        }
        // One that OpenFlow 1.0 can say without Nicira.
        2 => {
            let Some(Body::FlowMod(mut fm)) = bodies::body(d, 29) else { panic!("the 29th is another") };
            (fm.matching, fm.cookie, fm.cookie_mask) = (Match::default(), 0, 0);
            Body::FlowMod(fm)
        }
        _ => return None,
    })
}

#[test]
fn every_message_of_the_list_goes_both_ways() {
    let mut spoken: BTreeMap<String, Vec<Body>> = BTreeMap::new();
    let mut identities = BTreeSet::new();
    for seed in 0..THROWS {
        let mut d = Dice(seed);
        for n in 0.. {
            let Some(body) = bodies::body(&mut d, n).or_else(|| more(&mut d, n.checked_sub(82)?)) else { break };
            for version in Version::ALL {
                let message = bodies::in_version(version, body.clone());
                for (id, body) in [false, true].iter().filter_map(|form| there_and_back(&message, *form)) {
                    identities.insert(format!("{id:?}"));
                    spoken.entry(format!("{id:?}")).or_default().push(body);
                }
            }
        }
    }
    let mut listed = BTreeSet::new();
    for line in reference("message") {
        let [name, class, number, from, to] = line[..] else { panic!("{line:?}") };
        for version in versions(from, to) {
            let part = class.ends_with("ST").then(|| name.ends_with("_REQUEST"));
            let id = format!("{:?}", (version, part, vendor(class), number.parse::<u32>().unwrap()));
            let bodies = spoken.get(&id).unwrap_or_else(|| panic!("{name} of {version} ({class} {number}) is not spoken"));
            assert!(bodies.iter().all(|b| is_called(b, name)), "{name} of {version} ({class} {number}): {:?}", bodies[0]);
            listed.insert(id);
        }
    }
    assert_eq!(identities.difference(&listed).collect::<Vec<_>>(), Vec::<&String>::new(), "spoken, and nobody else does");
}

#[test]
fn every_error_of_the_list_has_its_numbers() {
    let mut codes: BTreeMap<(&str, Version), (u32, u16, u16)> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for line in reference("error") {
        let [name, class, from, to, kind, code] = line[..] else { panic!("{line:?}") };
        names.insert(name);
        for version in versions(from, to) {
            let numbers = (vendor(class), kind.parse().unwrap(), code.parse().unwrap());
            assert_eq!(codes.insert((name, version), numbers), None, "{name} of {version} stands twice");
        }
    }
    assert_eq!(OfError::ALL.iter().map(|e| e.name()).collect::<BTreeSet<_>>(), names);
    for error in OfError::ALL {
        for version in Version::ALL {
            let listed = codes.get(&(error.name(), version)).copied();
            assert_eq!(error.code(version).map(|c| (c.vendor, c.kind, c.code)), listed, "{} of {version}", error.name());
            let Some((vendor, kind, code)) = listed else { continue };
            // Old versions give one number to two errors; the list's first is meant.
            let meant = OfError::from_code(version, vendor, kind, code).unwrap();
            assert_eq!(meant.code(version).map(|c| (c.vendor, c.kind, c.code)), listed);
            goes_both_ways(version, meant);
        }
    }
}

/// An error message carries these numbers where its version has them (Nicira's of 1.0 and 1.1: ofp-errors.h, `nx_vendor_error`).
fn goes_both_ways(version: Version, error: OfError) {
    let body = Body::Error(ErrorMessage { error, data: vec![1, 2, 3] });
    let message = Message { version, xid: Xid(9), body };
    let bytes = message.encode().unwrap();
    assert_eq!(decode(&bytes), Ok(message), "{} of {version}: {}", error.name(), hex(&bytes));
    let code = error.code(version).unwrap();
    let u16_at = |at: usize| u16::from_be_bytes(bytes[at..at + 2].try_into().unwrap());
    let vendor_at = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let carried = match (u16_at(8), version) {
        (0xb0c2, Version::V10 | Version::V11) => (vendor_at(12), u16_at(16), u16_at(18)),
        (0xffff, _) => (vendor_at(12), u16_at(10), 0),
        (kind, _) => (0, kind, u16_at(10)),
    };
    assert_eq!(carried, (code.vendor, code.kind, code.code), "{} of {version}: {}", error.name(), hex(&bytes));
}

/// NXPINT_* of NXT_PACKET_IN2 and NXT_RESUME: all nine properties go both ways.
#[test]
fn every_property_of_a_packet_in_goes_both_ways() {
    let mut d = Dice(1);
    let mut seen = BTreeSet::new();
    for n in 0..400_u32 {
        let Some(Body::PacketIn(mut packet)) = bodies::body(&mut d, 25) else { panic!("the 25th is another") };
        packet.format = PacketInFormat::Nxt2;
        packet.full_len += n % 2 * 100;
        packet.buffer_id = if n % 3 == 0 { n } else { packet.buffer_id };
        packet.userdata = vec![7; 1 + usize::try_from(n % 9).unwrap()];
        packet.continuation = if n % 2 == 0 { vec![0, 1, 0, 8, 0, 0, 0, 5] } else { Vec::new() };
        let message = Message { version: Version::V13, xid: Xid(1), body: Body::PacketIn(packet) };
        let bytes = message.encode().unwrap();
        assert_eq!(decode(&bytes).as_ref(), Ok(&message), "{}", hex(&bytes));
        let mut rest = &bytes[16..];
        while let [t0, t1, l0, l1, ..] = *rest {
            seen.insert(u16::from_be_bytes([t0, t1]));
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            rest = rest.get(length.next_multiple_of(8)..).unwrap_or(&[]);
        }
    }
    assert_eq!(seen, (0..=8).collect());
}
