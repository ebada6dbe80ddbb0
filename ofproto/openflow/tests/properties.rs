//! The list of properties (data/listed.txt), walked from end to end: each goes both ways in each version that has it, and no other is written.
//! Where properties stand in a message is read off its bytes here, without the codec's tables.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is the test's")]

mod common;

use common::{Dice, bodies, hex, versions};
use flow::fields::Field;
use flow::matching::Match;
use flow::seam::{BAND_DROP, BAND_DSCP_REMARK, METER_KBPS, MeterBand, MeterConfig};
use openflow::action::{Controller, OfAction};
use openflow::message::*;
use openflow::types::NO_BUFFER;
use openflow::wire::Codec;
use openflow::{GroupId, Message, OfPort, TableId, Version, Versions, Xid, decode};
use std::collections::BTreeSet;

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

/// The types of a list of properties: type, length, value, padded to eight bytes; 0xffff is an experimenter's.
fn kinds(mut area: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    while area.len() >= 4 {
        let word = |at: usize| u32::from_be_bytes(area[at..at + 4].try_into().unwrap());
        let kind = u16_at(area, 0);
        out.push(if kind == 0xffff { format!("{:x}:{}", word(4), word(8)) } else { kind.to_string() });
        area = area.get(u16_at(area, 2).next_multiple_of(8)..).unwrap_or(&[]);
    }
    out
}

/// The property areas of entries that follow each other from `from` on: their length stands `len_at`, properties behind `head`.
fn entries(bytes: &[u8], from: usize, len_at: usize, head: usize) -> Vec<&[u8]> {
    let (mut at, mut out) = (from, Vec::new());
    while at < bytes.len() {
        let end = at + u16_at(bytes, at + len_at);
        out.push(&bytes[at + head..end]);
        at = end;
    }
    out
}

/// Where the properties of `place` stand (OpenFlow 1.0 to 1.5, section 7.3 and A.3; nicira-ext.h).
fn areas<'b>(place: &str, version: Version, bytes: &'b [u8]) -> Vec<&'b [u8]> {
    let (old, newest) = (version == Version::V10, version == Version::V15);
    // A vendor's header is twice as long.
    let group_mod = if old { 16 } else { 8 };
    let controller = || match version {
        Version::V10 => 16,
        Version::V15 => 16 + u16_at(bytes, 18).next_multiple_of(8),
        Version::V11 | Version::V12 | Version::V13 | Version::V14 => 24,
    };
    match place {
        "hello" => vec![&bytes[8..]],
        "port" => vec![&bytes[16 + 40..16 + u16_at(bytes, 20)]],
        "port-mod" => vec![&bytes[32..]],
        "port-stats" => entries(bytes, 16, 0, 80),
        "queue" if version >= Version::V12 => entries(bytes, 16, 8, 16),
        "queue" => entries(bytes, 16, 4, 8),
        "table-mod" | "meter" => vec![&bytes[16..]],
        "table-desc" => entries(bytes, 16, 0, 8),
        "table-features" => entries(bytes, 16, 0, 64),
        "async" => vec![&bytes[if version >= Version::V14 { 8 } else { 16 }..]],
        "bucket" if old || newest => {
            let (from, to) = (group_mod + 16, group_mod + 16 + u16_at(bytes, group_mod + 8));
            let whole = entries(&bytes[..to], from, 0, 0);
            whole.into_iter().map(|bucket| &bucket[8 + u16_at(bucket, 2)..]).collect()
        }
        "group" if old || newest => vec![&bytes[group_mod + 16 + u16_at(bytes, group_mod + 8)..]],
        "bucket" | "group" => Vec::new(),
        "controller" => vec![&bytes[controller() + 16..]],
        "ct-flush" => vec![&bytes[24..]],
        // Within the first, behind its header and padding.
        "ct-tuple" => vec![&bytes[32..24 + u16_at(bytes, 26)]],
        "resume" | "packet-in2" => vec![&bytes[16..]],
        "continuation" => {
            let mut at = 16;
            while u16_at(bytes, at) != 8 {
                at += u16_at(bytes, at + 2).next_multiple_of(8);
            }
            vec![&bytes[at + 8..at + u16_at(bytes, at + 2)]]
        }
        other => panic!("where is {other}?"),
    }
}

fn multipart(body: MultipartBody) -> Body {
    Body::Stats(Box::new(Multipart { more: false, nxm: false, body }))
}

fn table_features() -> TableFeatures {
    let set = |n: u64, field| {
        let actions = ActionFeatures { actions: n, set_fields: vec![field] };
        TableFeatureSet { next: [n, 0, 0, 0], instructions: 0x3e, write: actions.clone(), apply: actions }
    };
    TableFeatures {
        table: TableId(3),
        name: "three".to_owned(),
        max_entries: 9,
        flows: [set(1, Field::EthSrc), TableFeatureSet { instructions: 2, ..set(3, Field::EthDst) }],
        matchable: vec![Field::EthSrc, Field::EthDst],
        maskable: vec![Field::EthDst],
        wildcard: vec![Field::EthSrc, Field::EthDst],
        any_properties: true,
        ..TableFeatures::default()
    }
}

fn packet_out(action: OfAction) -> Body {
    let mut metadata = Match::default();
    metadata.set(Field::InPort, 3);
    let out = PacketOut { buffer_id: NO_BUFFER, packet: Vec::new(), metadata, actions: vec![action] };
    Body::PacketOut(Box::new(out))
}

fn group_mod(d: &mut Dice) -> Body {
    let watched = Bucket { watch_port: OfPort(3), watch_group: GroupId(5), ..bodies::bucket(d, 1, GroupType::FastFailover) };
    let (kind, buckets) = if d.coin() { (GroupType::FastFailover, vec![watched]) } else { (GroupType::Select, Vec::new()) };
    let mut selection = SelectionMethod::default();
    let mut buckets = buckets;
    if kind == GroupType::Select {
        buckets.push(bodies::bucket(d, 2, kind));
        selection.method = "hash".to_owned();
        selection.fields = vec![(Field::EthSrc, Codec::default().all_ones(Field::EthSrc))];
    }
    let (command, group, command_bucket_id) = (GroupCommand::Add, GroupId(7), bucket_id::ALL);
    Body::GroupMod(Box::new(GroupMod { command, kind, group, command_bucket_id, buckets, selection }))
}

fn ct_flush(ip_proto: u8) -> Body {
    let mut tuple = CtTuple { src: [0x20; 16], dst: [0x21; 16], ..CtTuple::default() };
    if ip_proto == 58 {
        (tuple.icmp_id, tuple.icmp_type, tuple.icmp_code) = (7, 8, 9);
    } else {
        (tuple.src_port, tuple.dst_port) = (1, 2);
    }
    let (mark, labels) = (Some((5, 7)), Some((9, 0xff)));
    let (original, reply) = (Some(tuple), Some(tuple));
    Body::CtFlush(Box::new(CtFlush { zone: Some(3), mark, labels, l3_family: 10, ip_proto, original, reply }))
}

fn resume(d: &mut Dice) -> Body {
    let Some(Body::Resume(mut p)) = bodies::body(d, 43) else { panic!("the 43rd is another") };
    p.public.userdata = vec![1, 2, 3];
    p.public.full_len += 100;
    p.public.buffer_id = 7;
    (p.bridge, p.stack, p.mirrors, p.conntracked, p.odp_port) = ([1; 16], vec![vec![1, 2, 3, 4]], 5, true, 6);
    p.frames = vec![Frame { table: TableId(4), cookie: 9, actions: vec![OfAction::Exit] }];
    p.action_set = vec![OfAction::Output { port: OfPort(3), max_len: 0 }];
    Body::Resume(p)
}

/// Bodies that have all the properties of `place` between them.
fn thrown(place: &str, d: &mut Dice) -> Vec<Body> {
    let table_desc = TableDesc {
        table: TableId(3),
        eviction: true,
        eviction_flags: 2,
        vacancy: true,
        vacancy_down: 10,
        vacancy_up: 90,
        vacancy_now: 50,
    };
    let bands =
        [(BAND_DROP, 0), (BAND_DSCP_REMARK, 1)].map(|(kind, prec_level)| MeterBand { kind, rate: 5, burst_size: 0, prec_level });
    let meter = MeterConfigEntry { id: 7, config: MeterConfig { flags: METER_KBPS, bands: bands.to_vec() } };
    let controller = Controller { max_len: 99, controller_id: 5, reason: 2, userdata: vec![1, 2], pause: true, meter_id: 6 };
    let mut masks = AsyncConfig { carried: 0xfff, ..AsyncConfig::default() };
    (masks.packet_in, masks.port_status, masks.flow_removed) = ([2, 6], [1, 2], [1, 2]);
    vec![match place {
        "hello" => Body::Hello(Versions(1 << 1 | 1 << 4)),
        "port" => Body::PortStatus(Box::new(PortStatus { reason: 2, desc: bodies::port_desc(d) })),
        "port-mod" => {
            let (port, hw_addr) = (OfPort(3), [2; 6]);
            Body::PortMod(Box::new(PortMod { port, hw_addr, config: 1, mask: 1, advertise: 0x40 }))
        }
        "port-stats" => {
            let (rfc2819, custom) = (Some(Box::new([7; 21])), vec![("own".to_owned(), 5)]);
            let stats = PortCounters { rx_packets: 1, ..PortCounters::default() };
            multipart(MultipartBody::PortReply(vec![PortStatsEntry {
                port: OfPort(3),
                stats,
                duration_sec: 1,
                duration_nsec: 2,
                rfc2819,
                custom,
            }]))
        }
        "queue" => {
            let queues = vec![QueueConfig { port: OfPort(4), queue: 2, min_rate: 5, max_rate: 700 }];
            Body::QueueGetConfigReply { port: OfPort(4), queues }
        }
        "table-mod" => Body::TableMod(TableMod {
            table: TableId(3),
            miss: None,
            eviction: Some(true),
            eviction_flags: Some(2),
            vacancy: Some(true),
            vacancy_down: 10,
            vacancy_up: 90,
        }),
        "table-desc" => multipart(MultipartBody::TableDescReply(vec![table_desc])),
        "table-features" => multipart(MultipartBody::TableFeaturesReply(vec![table_features()])),
        "async" => Body::SetAsync(masks),
        "bucket" | "group" => return (0..20).map(|_| group_mod(d)).collect(),
        "meter" => Body::MeterMod(Box::new(MeterMod { command: 0, meter })),
        "controller" => packet_out(OfAction::Controller(Box::new(controller))),
        "ct-flush" | "ct-tuple" => return vec![ct_flush(58), ct_flush(6)],
        "packet-in2" => {
            let Body::Resume(p) = resume(d) else { panic!("another") };
            Body::PacketIn(Box::new(PacketIn { continuation: vec![0; 8], ..p.public }))
        }
        // Userdata is the controller's: it does not come back.
        "resume" | "continuation" => resume(d),
        other => panic!("what is {other}?"),
    }]
}

/// The types that stand in `place` of messages of the version, once it is sure that they come out as they went in.
fn spoken(place: &str, version: Version) -> BTreeSet<String> {
    let mut d = Dice(7);
    let mut out = BTreeSet::new();
    for body in thrown(place, &mut d) {
        let message = bodies::in_version(version, body);
        let (codec, mut bytes) = (Codec::default(), Vec::new());
        // Before 1.4 the properties of asynchronous messages are Nicira's, so is all of 1.0's groups.
        if codec.encode(&message, &mut bytes).is_err() {
            continue;
        }
        let once = decode(&bytes).unwrap_or_else(|e| panic!("{place} of {version}: {}\n{}", e.name(), hex(&bytes)));
        assert_eq!(hex(&once.encode().unwrap()), hex(&bytes), "{place} of {version}: {once:?}");
        out.extend(areas(place, version, &bytes).into_iter().flat_map(kinds));
    }
    out
}

#[test]
fn every_property_of_the_list_goes_both_ways() {
    let lines = || include_str!("data/listed.txt").lines().filter_map(|l| l.strip_prefix("property "));
    let places: BTreeSet<&str> = lines().map(|l| l.split_once(' ').unwrap().0).collect();
    for place in places {
        for version in Version::ALL {
            let listed: BTreeSet<String> = lines()
                .map(|l| l.split(' ').collect::<Vec<_>>())
                .filter(|l| l[0] == place && versions(l[2], l[3]).any(|v| v == version))
                .map(|l| l[1].to_owned())
                .collect();
            if !listed.is_empty() {
                assert_eq!(spoken(place, version), listed, "{place} of {version}");
            }
        }
    }
}

/// Messages stand on their own: another experimenter's property is refused where a switch is asked to act on it.
#[test]
fn foreign_properties_are_refused() {
    let mut masks = AsyncConfig { carried: 1, ..AsyncConfig::default() };
    masks.packet_in = [2, 6];
    let message = Message { version: Version::V14, xid: Xid(1), body: Body::SetAsync(masks) };
    let mut bytes = message.encode().unwrap();
    bytes.extend([0xff, 0xff, 0, 12, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0]);
    bytes[3] = u8::try_from(bytes.len()).unwrap();
    assert_eq!(decode(&bytes).map_err(|e| e.name()), Err("OFPBPC_BAD_EXP_TYPE"));
}
