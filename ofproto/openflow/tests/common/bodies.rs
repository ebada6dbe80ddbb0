//! Throws messages of every kind but multiparts.

use super::actions::{instructions, list};
use super::{Dice, multiparts};
use flow::fields::Field;
use flow::matching::Match;
use flow::seam::{BAND_DROP, BAND_DSCP_REMARK, METER_BURST, METER_KBPS, METER_PKTPS, METER_STATS, MeterBand, MeterConfig};
use openflow::message::*;
use openflow::types::NO_BUFFER;
use openflow::wire::Codec;
use openflow::{GroupId, Message, OfError, OfPort, TableId, Version, Versions, Xid};

fn in_port(d: &mut Dice) -> Match {
    let mut m = Match::default();
    m.set(Field::InPort, u128::from(d.port().0));
    m
}

pub(crate) fn port_desc(d: &mut Dice) -> PortDesc {
    PortDesc {
        port: d.port(),
        hw_addr: d.array(),
        name: d.word(15),
        config: d.pick(&[0, 1, 1 | 4]),
        state: d.pick(&[0, 1, 4]),
        curr: d.u32() & 0x7ff,
        advertised: d.u32() & 0x7ff,
        supported: d.u32() & 0x7ff,
        peer: d.u32() & 0x7ff,
        curr_speed_kbps: d.u32(),
        max_speed_kbps: d.u32(),
    }
}

pub(crate) fn bucket(d: &mut Dice, id: u32, kind: GroupType) -> Bucket {
    let watch_port = if kind == GroupType::FastFailover { d.port() } else { OfPort::ANY };
    let weight = if kind == GroupType::Select { 1 + d.u16() / 2 } else { 0 };
    Bucket { id, weight, watch_port, watch_group: GroupId::ANY, actions: list(d, 3, 2) }
}

pub(crate) fn group(d: &mut Dice) -> (GroupType, Vec<Bucket>, SelectionMethod) {
    let kind = d.pick(&[GroupType::All, GroupType::Select, GroupType::FastFailover]);
    let n = u32::try_from(d.below(4)).unwrap();
    let buckets = (0..n).map(|id| bucket(d, id, kind)).collect();
    let mut selection = SelectionMethod::default();
    if kind == GroupType::Select && d.coin() {
        selection.method = "hash".to_owned();
        selection.param = d.next();
        selection.fields = vec![(Field::EthSrc, Codec::default().all_ones(Field::EthSrc))];
    }
    (kind, buckets, selection)
}

pub(crate) fn meter(d: &mut Dice) -> MeterConfigEntry {
    let flags = d.pick(&[METER_KBPS, METER_PKTPS, METER_KBPS | METER_BURST, METER_PKTPS | METER_STATS]);
    let bands = d.some(3, |d| {
        let kind = d.pick(&[BAND_DROP, BAND_DSCP_REMARK]);
        let burst_size = if flags & METER_BURST != 0 { d.u32() } else { 0 };
        MeterBand {
            kind,
            rate: 1 + d.u32() / 2,
            burst_size,
            prec_level: if kind == BAND_DSCP_REMARK { 1 + d.u8() % 3 } else { 0 },
        }
    });
    MeterConfigEntry { id: 1 + d.u32() % 0xffff, config: MeterConfig { flags, bands } }
}

fn flow_mod(d: &mut Dice) -> FlowMod {
    let command = d.pick(&[FlowModCommand::Add, FlowModCommand::Add, FlowModCommand::Modify, FlowModCommand::DeleteStrict]);
    let adds = command == FlowModCommand::Add;
    let deletes = command == FlowModCommand::DeleteStrict;
    FlowMod {
        command,
        table: TableId(d.u8() & 0x7f),
        matching: d.matching(),
        priority: d.u16(),
        cookie: if deletes { d.next() } else { 0 },
        cookie_mask: if deletes { u64::MAX } else { 0 },
        new_cookie: if adds { d.next() } else { u64::MAX },
        modify_cookie: false,
        idle_timeout: d.u16(),
        hard_timeout: d.u16(),
        buffer_id: NO_BUFFER,
        out_port: if deletes { d.port() } else { OfPort::ANY },
        out_group: GroupId::ANY,
        flags: d.u16() & 3,
        importance: if adds { d.u16() } else { 0 },
        actions: if deletes { Vec::new() } else { instructions(d) },
    }
}

fn packet_in(d: &mut Dice) -> PacketIn {
    let packet = [d.bytes(70), vec![1]].concat();
    let format = d.pick(&[PacketInFormat::Standard, PacketInFormat::Nxt, PacketInFormat::Nxt2]);
    let nxt2 = format == PacketInFormat::Nxt2;
    PacketIn {
        full_len: u32::try_from(packet.len()).unwrap(),
        packet,
        buffer_id: NO_BUFFER,
        reason: d.pick(&[0, 1, 2]),
        table: TableId(d.u8()),
        cookie: d.next(),
        metadata: in_port(d),
        userdata: if nxt2 { d.bytes(9) } else { Vec::new() },
        continuation: Vec::new(),
        format,
    }
}

fn resume(d: &mut Dice) -> PacketInPrivate {
    let public = PacketIn { format: PacketInFormat::Nxt2, userdata: Vec::new(), ..packet_in(d) };
    PacketInPrivate {
        public,
        bridge: d.array(),
        stack: d.some(3, |d| d.array::<4>().to_vec()),
        mirrors: d.u32(),
        conntracked: d.coin(),
        odp_port: d.u32(),
        frames: d.some(3, |d| Frame { table: TableId(d.u8()), cookie: d.next(), actions: list(d, 3, 2) }),
        action_set: Vec::new(),
    }
}

fn tuple(d: &mut Dice) -> CtTuple {
    let mut tuple = CtTuple { src_port: d.u16() | 1, dst_port: d.u16() | 1, ..CtTuple::default() };
    tuple.src = d.array();
    tuple.dst = d.array();
    tuple
}

fn tables(d: &mut Dice) -> TableDesc {
    TableDesc { table: TableId(d.u8()), eviction: d.coin(), eviction_flags: 2, ..TableDesc::default() }
}

fn asynchronous(d: &mut Dice, carried: u16) -> AsyncConfig {
    let mut row = || [d.u32() & 6, d.u32() & 6];
    AsyncConfig { packet_in: row(), port_status: row(), flow_removed: row(), carried, ..AsyncConfig::default() }
}

fn tlv(d: &mut Dice) -> TlvMap {
    TlvMap { class: d.u16(), kind: d.u8(), len: 4 * (1 + d.u8() % 31), index: d.u16() % 64 }
}

/// One of the session's and the switch's messages, by number; `None` beyond the last.
fn session(d: &mut Dice, n: usize) -> Option<Body> {
    Some(match n {
        0 => Body::Hello(Versions(0x7e)),
        1 => Body::Error(ErrorMessage { error: d.pick(&[OfError::OfpbrcBadLen, OfError::NxfmfcHardware]), data: d.bytes(80) }),
        2 => Body::EchoRequest(d.bytes(20)),
        3 => Body::EchoReply(d.bytes(20)),
        4 => Body::FeaturesRequest,
        5 => Body::FeaturesReply(Box::new(Features {
            datapath_id: d.next(),
            n_buffers: d.u32(),
            n_tables: d.u8(),
            auxiliary_id: d.u8(),
            capabilities: 0x47,
            actions: 0,
            ports: Vec::new(),
        })),
        6 => Body::GetConfigRequest,
        7 => Body::GetConfigReply(SwitchConfig { flags: d.u16() & 3, miss_send_len: d.u16() }),
        8 => Body::SetConfig(SwitchConfig { flags: d.u16() & 3, miss_send_len: d.u16() }),
        9 => Body::BarrierRequest,
        10 => Body::BarrierReply,
        11 => Body::SetFlowFormat(d.pick(&[0, 2])),
        12 => Body::FlowModTableId(d.coin()),
        13 => Body::SetPacketInFormat(d.pick(&[0, 1, 2])),
        14 => Body::FlowAge,
        15 => Body::SetControllerId(d.u16()),
        16 => Body::RoleRequest(role(d)),
        17 => Body::RoleReply(role(d)),
        18 => Body::RoleStatus { role: Role::Primary, reason: d.u8() % 3, generation_id: Some(d.next()) },
        19 => Body::GetAsyncRequest,
        20 => Body::GetAsyncReply(asynchronous(d, 0xfff)),
        21 => Body::SetAsync(asynchronous(d, 0x3f)),
        22 => Body::FlowMonitorCancel(d.u32()),
        23 => Body::FlowMonitorPaused,
        24 => Body::FlowMonitorResumed,
        _ => return None,
    })
}

fn role(d: &mut Dice) -> RoleRequest {
    let nicira = d.coin();
    let generation_id = if nicira { None } else { Some(d.next()) };
    RoleRequest { role: d.pick(&[Role::Equal, Role::Primary, Role::Secondary]), nicira, generation_id }
}

/// One of the pipeline's messages, by number; `None` beyond the last.
fn pipeline(d: &mut Dice, n: usize) -> Option<Body> {
    Some(match n {
        0 => Body::PacketIn(Box::new(packet_in(d))),
        1 => Body::FlowRemoved(Box::new(FlowRemoved {
            matching: d.matching(),
            cookie: d.next(),
            priority: d.u16(),
            reason: d.u8() % 3,
            table: TableId(d.u8()),
            duration_sec: d.u32(),
            duration_nsec: d.u32(),
            idle_timeout: d.u16(),
            hard_timeout: d.u16(),
            packets: d.next(),
            bytes: d.next(),
        })),
        2 => Body::PortStatus(Box::new(PortStatus { reason: d.u8() % 3, desc: port_desc(d) })),
        3 => {
            let metadata = in_port(d);
            Body::PacketOut(Box::new(PacketOut { buffer_id: NO_BUFFER, packet: d.bytes(70), metadata, actions: list(d, 4, 2) }))
        }
        4 => Body::FlowMod(Box::new(flow_mod(d))),
        5 => Body::GroupMod(Box::new(group_mod(d))),
        6 => Body::PortMod(Box::new(PortMod {
            port: d.port(),
            hw_addr: d.array(),
            config: d.u32() & 1,
            mask: 1,
            advertise: d.u32() & 0x7ff,
        })),
        7 => Body::TableMod(TableMod {
            table: TableId(d.u8()),
            eviction: Some(d.coin()),
            vacancy: Some(false),
            ..TableMod::default()
        }),
        8 => Body::MeterMod(Box::new(MeterMod { command: d.u16() % 2, meter: meter(d) })),
        9 => Body::QueueGetConfigRequest { port: d.port(), queue: u32::MAX },
        10 => Body::QueueGetConfigReply { port: OfPort(4), queues: vec![queue(d, OfPort(4)); 3] },
        11 => Body::RequestForward(Box::new(nested(d, pipeline_mod))),
        12 => Body::TableStatus { reason: 3, desc: tables(d) },
        13 => Body::BundleControl(BundleControl { id: d.u32(), kind: d.u16() % 8, flags: d.u16() & 3 }),
        14 => Body::BundleAdd { id: d.u32(), flags: 3, message: Box::new(nested(d, bundled)), raw: Vec::new() },
        15 => Body::TlvTableMod(TlvTableMod { command: d.u16() % 3, maps: d.some(4, tlv) }),
        16 => Body::TlvTableRequest,
        17 => Body::TlvTableReply(TlvTableReply { max_space: d.u32(), max_fields: 64, maps: d.some(4, tlv) }),
        18 => Body::Resume(Box::new(resume(d))),
        19 => Body::CtFlushZone(d.u16()),
        20 => Body::CtFlush(Box::new(CtFlush {
            zone: d.maybe(Dice::u16),
            ip_proto: 6,
            l3_family: 10,
            original: Some(tuple(d)),
            reply: d.maybe(tuple),
            ..CtFlush::default()
        })),
        _ => return None,
    })
}

fn queue(d: &mut Dice, port: OfPort) -> QueueConfig {
    QueueConfig { port, queue: d.u32(), min_rate: d.pick(&[5, u16::MAX]), max_rate: d.pick(&[700, u16::MAX]) }
}

fn group_mod(d: &mut Dice) -> GroupMod {
    let (kind, buckets, selection) = group(d);
    let command = d.pick(&[GroupCommand::Add, GroupCommand::Modify, GroupCommand::AddOrMod]);
    GroupMod { command, kind, group: GroupId(d.u32() & 0xffff), command_bucket_id: bucket_id::ALL, buckets, selection }
}

fn pipeline_mod(d: &mut Dice) -> Body {
    pipeline(d, 5).unwrap()
}

fn bundled(d: &mut Dice) -> Body {
    pipeline(d, 4).unwrap()
}

/// A message that another carries, in the version that it will be given.
fn nested(d: &mut Dice, of: fn(&mut Dice) -> Body) -> Message {
    Message { version: Version::V15, xid: Xid(7), body: of(d) }
}

/// A body by number; `None` beyond the last.
pub(crate) fn body(d: &mut Dice, n: usize) -> Option<Body> {
    let multipart =
        |d: &mut Dice, n| multiparts::body(d, n).map(|body| Body::Stats(Box::new(Multipart { more: false, nxm: false, body })));
    session(d, n).or_else(|| pipeline(d, n.checked_sub(25)?)).or_else(|| multipart(d, n.checked_sub(46)?))
}

/// The same with the message that it carries in `version`.
pub(crate) fn in_version(version: Version, mut body: Body) -> Message {
    if let Body::RequestForward(inner) | Body::BundleAdd { message: inner, .. } = &mut body {
        inner.version = version;
    }
    Message { version, xid: Xid(7), body }
}
