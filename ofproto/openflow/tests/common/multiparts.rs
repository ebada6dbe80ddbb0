//! Throws multiparts.

use super::Dice;
use super::actions::{instructions, list};
use super::bodies::{group, meter, port_desc};
use flow::fields::Field;
use openflow::message::*;
use openflow::{GroupId, OfPort, TableId};

fn selection(d: &mut Dice) -> FlowStatsRequest {
    FlowStatsRequest {
        matching: d.matching(),
        table: TableId(d.u8()),
        out_port: d.port(),
        out_group: GroupId::ANY,
        cookie: d.next(),
        cookie_mask: u64::MAX,
    }
}

fn flow(d: &mut Dice) -> FlowStatsEntry {
    FlowStatsEntry {
        matching: d.matching(),
        cookie: d.next(),
        table: TableId(d.u8()),
        priority: d.u16(),
        duration_sec: d.u32(),
        duration_nsec: d.u32(),
        idle_timeout: d.u16(),
        hard_timeout: d.u16(),
        idle_age: -1,
        hard_age: -1,
        flags: d.u16() & 3,
        importance: d.u16(),
        packets: d.next(),
        bytes: d.next(),
        actions: instructions(d),
    }
}

fn port_stats(d: &mut Dice) -> PortStatsEntry {
    let stats = PortCounters { rx_packets: d.next(), tx_bytes: d.next(), collisions: d.next(), ..PortCounters::default() };
    let mut counters = [0; 21];
    counters.fill_with(|| d.next());
    PortStatsEntry {
        port: d.port(),
        stats,
        duration_sec: d.u32(),
        duration_nsec: d.u32(),
        rfc2819: Some(Box::new(counters)),
        custom: d.some(3, |d| (format!("c{}", d.word(6)), d.next())),
    }
}

fn table_features(d: &mut Dice) -> TableFeatures {
    let set = TableFeatureSet { next: [2, 0, 0, 0], instructions: 0x3e, ..TableFeatureSet::default() };
    TableFeatures {
        table: TableId(d.u8() & 0x7f),
        command: 0,
        name: d.word(20),
        metadata_match: d.next(),
        metadata_write: d.next(),
        max_entries: d.u32(),
        flows: [set.clone(), set],
        matchable: vec![Field::EthSrc, Field::EthDst],
        maskable: vec![Field::EthDst],
        wildcard: vec![Field::EthSrc, Field::EthDst],
        any_properties: true,
        ..TableFeatures::default()
    }
}

fn update(d: &mut Dice) -> FlowUpdate {
    if d.coin() {
        return FlowUpdate::Abbrev { xid: d.u32() };
    }
    FlowUpdate::Full {
        event: d.u8() % 4,
        reason: 0,
        priority: d.u16(),
        idle_timeout: d.u16(),
        hard_timeout: d.u16(),
        table: TableId(d.u8()),
        cookie: d.next(),
        matching: d.matching(),
        actions: list(d, 4, 2),
    }
}

fn ipfix(d: &mut Dice) -> IpfixStats {
    IpfixStats { collector_set_id: d.u32(), total_flows: d.next(), tx_errors: d.next(), ..IpfixStats::default() }
}

fn group_stats(d: &mut Dice) -> GroupStatsEntry {
    GroupStatsEntry {
        group: GroupId(d.u32() & 0xffff),
        ref_count: d.u32(),
        packets: d.next(),
        bytes: d.next(),
        duration_sec: d.u32(),
        duration_nsec: d.u32(),
        buckets: d.some(3, |d| (d.next(), d.next())),
    }
}

fn meter_stats(d: &mut Dice) -> MeterStatsEntry {
    MeterStatsEntry {
        id: d.u32(),
        flow_count: d.u32(),
        packets_in: d.next(),
        bytes_in: d.next(),
        duration_sec: d.u32(),
        duration_nsec: d.u32(),
        bands: d.some(3, |d| (d.next(), d.next())),
    }
}

fn table_stats(d: &mut Dice) -> TableStats {
    let table = TableId(d.u8());
    let features = TableFeatures { table, ..TableFeatures::default() };
    TableStats { table, active: d.u32(), lookups: d.next(), matched: d.next(), features }
}

/// Requests that carry nothing, and the first replies.
fn requests(d: &mut Dice, n: usize) -> Option<MultipartBody> {
    use MultipartBody as M;
    Some(match n {
        0 => M::DescRequest,
        1 => M::TableRequest,
        2 => M::GroupFeaturesRequest,
        3 => M::MeterFeaturesRequest,
        4 => M::TableDescRequest,
        5 => M::IpfixBridgeRequest,
        6 => M::IpfixFlowRequest,
        7 => M::FlowRequest(selection(d)),
        8 => M::AggregateRequest(selection(d)),
        9 => M::PortRequest(d.port()),
        10 => M::QueueRequest { port: d.port(), queue: d.u32() },
        11 => M::GroupRequest(GroupId(d.u32())),
        12 => M::GroupDescRequest(GroupId(d.u32())),
        13 => M::MeterRequest(d.u32()),
        14 => M::MeterConfigRequest(d.u32()),
        15 => M::TableFeaturesRequest(d.some(3, table_features)),
        16 => M::PortDescRequest(d.port()),
        17 => M::FlowMonitorRequest(vec![FlowMonitorRequest {
            id: d.u32(),
            command: 0,
            flags: 0x7,
            out_port: OfPort::ANY,
            out_group: GroupId::ANY,
            table: TableId(d.u8()),
            matching: d.matching(),
        }]),
        _ => return None,
    })
}

fn replies(d: &mut Dice, n: usize) -> Option<MultipartBody> {
    use MultipartBody as M;
    Some(match n {
        0 => M::DescReply(SwitchDesc { manufacturer: d.word(99), serial: d.word(31), ..SwitchDesc::default() }),
        1 => M::FlowReply(d.some(4, flow)),
        2 => M::AggregateReply { packets: d.next(), bytes: d.next(), flows: d.u32() },
        3 => M::TableReply(d.some(3, table_stats)),
        4 => M::PortReply(d.some(3, port_stats)),
        5 => M::QueueReply(d.some(4, |d| QueueStatsEntry {
            port: d.port(),
            queue: d.u32(),
            tx_bytes: d.next(),
            tx_packets: d.next(),
            tx_errors: d.next(),
            duration_sec: d.u32(),
            duration_nsec: d.u32(),
        })),
        6 => M::GroupReply(d.some(3, group_stats)),
        7 => M::GroupDescReply(d.some(3, |d| {
            let (kind, buckets, selection) = group(d);
            GroupDesc { group: GroupId(d.u32() & 0xffff), kind, buckets, selection }
        })),
        8 => M::GroupFeaturesReply(GroupFeatures { types: 15, capabilities: 1, max_groups: [9, 8, 7, 6], actions: [0; 4] }),
        9 => M::MeterReply(d.some(3, meter_stats)),
        10 => M::MeterConfigReply(d.some(3, meter)),
        11 => M::MeterFeaturesReply(MeterFeatures {
            max_meters: d.u32(),
            band_types: 6,
            capabilities: 15,
            max_bands: d.u8(),
            max_color: d.u8(),
        }),
        12 => M::TableFeaturesReply(vec![table_features(d), table_features(d)]),
        13 => M::TableDescReply(vec![
            TableDesc {
                table: TableId(d.u8()),
                eviction: d.coin(),
                eviction_flags: 2,
                ..TableDesc::default()
            };
            3
        ]),
        14 => M::PortDescReply(d.some(4, port_desc)),
        15 => M::FlowMonitorReply(d.some(4, update)),
        16 => M::IpfixBridgeReply(ipfix(d)),
        17 => M::IpfixFlowReply(d.some(4, ipfix)),
        _ => return None,
    })
}

/// A multipart by number; `None` beyond the last.
pub(crate) fn body(d: &mut Dice, n: usize) -> Option<MultipartBody> {
    requests(d, n).or_else(|| replies(d, n.checked_sub(18)?))
}
