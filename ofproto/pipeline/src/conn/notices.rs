//! Spreading notices: packet-ins, port changes and removed rules to the connections that want them, in each one's form.

use super::{Shared, replies, resume};
use crate::effects::{Notice, PacketInNotice};
use crate::rule::Rule;
use crate::world::BridgeId;
use flow::clock::now_ms;
use flow::fields::{Field, TunnelOptions, Value};
use openflow::message::{Body, FlowRemoved, Message, PacketIn, PacketInFormat, PortDesc, PortStatus, TableDesc};
use openflow::{Codec, OfPort, Version, Xid};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// OFPR_NO_MATCH, and what OVS calls misses beside it.
const MISSES: [u8; 3] = [0, 6, 7];
/// OFPPR_MODIFY
const MODIFY: u8 = 2;

/// Takes notices for as long as the slow path lives.
pub(super) async fn spread(shared: Arc<Shared>) {
    let notices = Arc::clone(&shared.slowpath.read_world().notices);
    loop {
        notices.wait().await;
        tokio::task::block_in_place(|| spread_now(&shared));
    }
}

/// Spreads what there is; when it returns, every notice given before the call stands in the outboxes.
pub(super) fn spread_now(shared: &Shared) {
    let _one = shared.spreading.lock().expect("no spreader of notices panics");
    let notices = Arc::clone(&shared.slowpath.read_world().notices);
    for notice in notices.take() {
        match notice {
            Notice::PacketIn(notice) => packet_in(shared, &notice),
            Notice::PortStatus { bridge, reason, port, before, by } => {
                let told = Told { reason, desc: replies::port_desc(&port), before: before.map(|b| replies::port_desc(&b)) };
                port_status(shared, bridge, &told, by);
            }
            Notice::FlowRemoved { rule, reason } => flow_removed(shared, &rule, reason),
            Notice::TableStatus { bridge, reason, desc } => table_status(shared, bridge, reason, &desc),
        }
    }
}

/// A port's change.
struct Told {
    reason: u8,
    desc: PortDesc,
    before: Option<PortDesc>,
}

fn port_status(shared: &Shared, bridge: BridgeId, told: &Told, by: u64) {
    for conn in shared.conns().iter().filter(|c| c.bridge == bridge) {
        let state = conn.lock();
        let version = state.version;
        // Up to 1.4 who asked for a change is not told of it; since 1.5 all are (EXT-338).
        let asked = conn.serial == by && version < Version::V15;
        let wanted = state.wants_port_status(told.reason) && !asked;
        drop(state);
        if !wanted {
            continue;
        }
        let message = |desc: &PortDesc| {
            let body = Body::PortStatus(Box::new(PortStatus { reason: told.reason, desc: desc.clone() }));
            Message { version, xid: Xid(0), body }
        };
        let now = message(&told.desc);
        // What has changed may be nothing that this version knows.
        let unseen = told.reason == MODIFY
            && told
                .before
                .as_ref()
                .is_some_and(|before| matches!((message(before).encode(), now.encode()), (Ok(a), Ok(b)) if a == b));
        if !unseen {
            conn.send(now);
        }
    }
}

fn table_status(shared: &Shared, bridge: BridgeId, reason: u8, desc: &TableDesc) {
    for conn in shared.conns().iter().filter(|c| c.bridge == bridge) {
        let state = conn.lock();
        let (version, wanted) = (state.version, state.wants_table_status(reason) && state.version >= Version::V14);
        drop(state);
        if wanted {
            conn.send(Message { version, xid: Xid(0), body: Body::TableStatus { reason, desc: *desc } });
        }
    }
}

fn packet_in(shared: &Shared, notice: &PacketInNotice) {
    let mut metadata = None;
    for conn in shared.conns().iter().filter(|c| c.bridge == notice.bridge) {
        let state = conn.lock();
        if !state.wants_packet_in(notice.reason, notice.controller_id) {
            continue;
        }
        let (version, reason, format) = (state.version, state.reason(notice.reason), state.packet_in_format);
        drop(state);
        // Nothing is buffered here, so that the whole packet goes out, whatever length was asked for.
        let mut packet_in = PacketIn {
            packet: notice.packet.clone(),
            full_len: notice.full_len,
            buffer_id: openflow::types::NO_BUFFER,
            reason,
            table: notice.table,
            cookie: notice.cookie,
            metadata: metadata.get_or_insert_with(|| pipeline_fields(shared, notice)).clone(),
            userdata: notice.userdata.clone(),
            continuation: Vec::new(),
            format,
        };
        if let Some(state) = notice.continuation.as_ref().filter(|_| format == PacketInFormat::Nxt2) {
            let world = shared.slowpath.read_world();
            let whole = resume::private(&world, packet_in, state, notice.odp_port);
            drop(world);
            let options = shared.tunnel_options(notice.bridge);
            let continuation = whole.continuation(&Codec { options: Some(&options), ..Codec::default() }, version);
            packet_in = PacketIn { continuation, ..whole.public };
        }
        let message = Message { version, xid: Xid(0), body: Body::PacketIn(Box::new(packet_in)) };
        let in_port = OfPort::from_key(notice.key.in_port);
        if !conn.outbox.put_packet_in(message, in_port, MISSES.contains(&notice.reason), now_ms()) {
            super::CONN_OVERFLOW.inc();
        }
    }
}

/// What the pipeline knows of the packet beside its bytes: the input port, and of all else what is not zero (OpenFlow 1.3 section
/// 7.4.1; `Field`s of the pipeline).
fn pipeline_fields(shared: &Shared, notice: &PacketInNotice) -> flow::Match {
    let key = &notice.key;
    let options = shared.tunnel_options(notice.bridge);
    let mut metadata = flow::Match::with_options(Arc::clone(&options));
    for (n, option) in options.iter().filter(|(n, _)| TunnelOptions::is_present(key, *n)) {
        if let Some(field) = Field::tun_metadata(n) {
            // It is mapped, so it has a place.
            let _ = metadata.set_long(field, &options.get(key, n), &Value::ones(8 * option.bytes));
        }
    }
    metadata.set(Field::InPort, u128::from(u32::from_be_bytes(key.in_port)));
    let mut fields = vec![
        Field::TunId,
        Field::TunSrc,
        Field::TunDst,
        Field::TunIpv6Src,
        Field::TunIpv6Dst,
        Field::TunFlags,
        Field::TunGbpId,
        Field::TunGbpFlags,
        Field::TunErspanVer,
        Field::TunErspanIdx,
        Field::TunErspanDir,
        Field::TunErspanHwid,
        Field::TunGtpuFlags,
        Field::TunGtpuMsgtype,
        Field::Metadata,
        Field::PktMark,
        Field::PacketType,
        Field::CtState,
        Field::CtZone,
        Field::CtMark,
        Field::CtLabel,
    ];
    if key.ct_state != 0 {
        // What the fields of connections mean depends on it.
        fields.push(Field::EthType);
    }
    // An invalid packet has no connection whose tuple could be told.
    if Field::CtNwProto.row().need.holds(key) && key.ct_nw_proto != 0 {
        fields.extend([Field::CtNwProto, Field::CtTpSrc, Field::CtTpDst]);
        match key.eth_type {
            [0x08, 0x00] => fields.extend([Field::CtNwSrc, Field::CtNwDst]),
            [0x86, 0xdd] => fields.extend([Field::CtIpv6Src, Field::CtIpv6Dst]),
            _ => {}
        }
    }
    fields.extend((0..16).filter_map(Field::reg));
    for field in fields {
        let value = field.get(key);
        if value != 0 {
            metadata.set(field, value);
        }
    }
    metadata
}

fn flow_removed(shared: &Shared, rule: &Rule, reason: u8) {
    let now = now_ms();
    let Some(matching) = shared.slowpath.read_world().bridges.get(&rule.bridge).map(|b| rule.matching(b)) else { return };
    for conn in shared.conns().iter().filter(|c| c.bridge == rule.bridge) {
        let state = conn.lock();
        if !state.wants_flow_removed(reason) {
            continue;
        }
        let version = state.version;
        drop(state);
        let (packets, bytes) = rule.life.tally.read();
        let (duration_sec, duration_nsec) = replies::duration(rule.life.created_ms, now);
        let (idle_timeout, hard_timeout) = rule.timeouts_s();
        let body = Body::FlowRemoved(Box::new(FlowRemoved {
            matching: matching.clone(),
            cookie: rule.cookie.load(Ordering::Relaxed),
            priority: u16::try_from(rule.priority).unwrap_or(u16::MAX),
            reason,
            table: rule.table,
            duration_sec,
            duration_nsec,
            idle_timeout,
            hard_timeout,
            packets,
            bytes,
        }));
        conn.send(Message { version, xid: Xid(0), body });
    }
}
