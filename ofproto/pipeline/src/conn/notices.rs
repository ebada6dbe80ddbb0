//! Spreading notices: packet-ins, port changes and removed rules to the connections that want them, in each one's form.

use super::Shared;
use super::replies;
use crate::effects::{Notice, PacketInNotice};
use crate::rule::Rule;
use flow::clock::now_ms;
use flow::fields::TunnelOptions;
use openflow::Xid;
use openflow::message::{Body, FlowRemoved, Message, PacketIn, PortStatus};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A controller action or a miss that OpenFlow 1.x limits to `miss_send_len`.
const NO_MATCH: u8 = 0;

/// Takes notices for as long as the slow path lives.
pub(super) async fn spread(shared: Arc<Shared>) {
    let notices = Arc::clone(&shared.slowpath.read_world().notices);
    loop {
        notices.wait().await;
        tokio::task::block_in_place(|| {
            for notice in notices.take() {
                match notice {
                    Notice::PacketIn(notice) => packet_in(&shared, &notice),
                    Notice::PortStatus { bridge, reason, port } => {
                        for conn in shared.conns().iter().filter(|c| c.bridge == bridge) {
                            let state = conn.lock();
                            if state.wants_port_status(reason) {
                                let version = state.version;
                                drop(state);
                                let body = Body::PortStatus(Box::new(PortStatus { reason, desc: replies::port_desc(&port) }));
                                conn.send(Message { version, xid: Xid(0), body });
                            }
                        }
                    }
                    Notice::FlowRemoved { rule, reason } => flow_removed(&shared, &rule, reason),
                }
            }
        });
    }
}

fn packet_in(shared: &Shared, notice: &PacketInNotice) {
    for conn in shared.conns().iter().filter(|c| c.bridge == notice.bridge) {
        let state = conn.lock();
        if !state.wants_packet_in(notice.reason, notice.controller_id) {
            continue;
        }
        let (version, reason, format) = (state.version, state.reason(notice.reason), state.packet_in_format);
        let max_len = if notice.reason == NO_MATCH { state.config.miss_send_len } else { notice.max_len };
        drop(state);
        let mut packet = notice.packet.clone();
        if max_len != openflow::types::MAX_LEN_ALL {
            packet.truncate(usize::from(max_len));
        }
        let options = shared.tunnel_options(notice.bridge);
        let mut metadata = flow::Match::with_options(Arc::clone(&options));
        metadata.set(flow::Field::InPort, u128::from(u32::from_be_bytes(notice.key.in_port)));
        add_pipeline_fields(&mut metadata, &notice.key);
        add_tunnel_options(&mut metadata, &notice.key, &options);
        let body = Body::PacketIn(Box::new(PacketIn {
            packet,
            full_len: notice.full_len,
            buffer_id: openflow::types::NO_BUFFER,
            reason,
            table: notice.table,
            cookie: notice.cookie,
            metadata,
            userdata: notice.userdata.clone(),
            continuation: Vec::new(),
            format,
        }));
        conn.send(Message { version, xid: Xid(0), body });
    }
}

/// The tunnel options that the packet has.
fn add_tunnel_options(metadata: &mut flow::Match, key: &flow::Key, options: &TunnelOptions) {
    for (n, option) in options.iter().filter(|(n, _)| TunnelOptions::is_present(key, *n)) {
        options.set(&mut metadata.key, n, &options.get(key, n));
        options.set(&mut metadata.mask, n, &flow::Value::ones(8 * option.bytes));
    }
}

/// Registers, metadata, tunnel and conntrack fields that are not zero.
fn add_pipeline_fields(metadata: &mut flow::Match, key: &flow::Key) {
    use flow::Field;
    let mut fields = vec![
        Field::Metadata,
        Field::TunId,
        Field::TunSrc,
        Field::TunDst,
        Field::TunIpv6Src,
        Field::TunIpv6Dst,
        Field::TunGbpId,
        Field::TunGbpFlags,
        Field::PktMark,
        Field::CtState,
        Field::CtZone,
        Field::CtMark,
        Field::CtLabel,
    ];
    fields.extend((0..32).filter_map(Field::reg));
    for field in fields {
        let value = field.get(key);
        if value != 0 {
            metadata.set(field, value);
        }
    }
}

fn flow_removed(shared: &Shared, rule: &Rule, reason: u8) {
    let now = now_ms();
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
        let (key, mask) = rule.mini.expand();
        let body = Body::FlowRemoved(Box::new(FlowRemoved {
            matching: flow::Match::new(&key, &mask),
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
