//! Bodies of messages: dispatch from a kind to the room that decodes it, and from a body to the room that encodes it.

pub(crate) mod bundles;
mod flows;
mod groups;
mod meters;
mod monitors;
mod nicira;
mod oxs;
mod packets;
mod ports;
mod queues;
mod roles;
mod session;
mod tables;

use super::bytes::{Put, Reader};
use super::formats::Kind;
use super::{Codec, In, Out, Unencodable};
use crate::error::OfError;
use crate::message::{Body, FlowUpdate, Message, Multipart, MultipartBody, PacketInFormat};
use crate::types::{GroupId, OfPort, Version};

/// Decodes the body of a message; `more` is the flag of a multipart.
#[allow(clippy::wildcard_enum_match_arm, reason = "`multipart` has the others")]
pub(super) fn decode(i: &In<'_>, mut r: Reader<'_>, more: bool) -> Result<Body, OfError> {
    let r = &mut r;
    Ok(match i.format.kind {
        Kind::Hello => Body::Hello(session::hello(i, r)),
        Kind::Error => session::error(i, r)?,
        Kind::EchoRequest => Body::EchoRequest(r.rest().to_vec()),
        Kind::EchoReply => Body::EchoReply(r.rest().to_vec()),
        Kind::FeaturesRequest => Body::FeaturesRequest,
        Kind::FeaturesReply => session::features(i, r)?,
        Kind::GetConfigRequest => Body::GetConfigRequest,
        Kind::GetConfigReply => Body::GetConfigReply(session::config(r)?),
        Kind::SetConfig => Body::SetConfig(session::set_config(i, r)?),
        Kind::PacketIn => packets::packet_in(i, r)?,
        Kind::PacketIn2 => Body::PacketIn(Box::new(packets::packet_in2(i, r)?)),
        Kind::FlowRemoved => flows::flow_removed(i, r)?,
        Kind::PortStatus => ports::port_status(i, r)?,
        Kind::PacketOut => packets::packet_out(i, r)?,
        Kind::FlowMod => flows::flow_mod(i, r)?,
        Kind::GroupMod => groups::group_mod(i, r)?,
        Kind::PortMod => ports::port_mod(i, r)?,
        Kind::TableMod => tables::table_mod(i, r)?,
        Kind::MeterMod => meters::meter_mod(r)?,
        Kind::BarrierRequest => Body::BarrierRequest,
        Kind::BarrierReply => Body::BarrierReply,
        Kind::QueueGetConfigRequest => queues::config_request(i, r)?,
        Kind::QueueGetConfigReply => queues::config_reply(i, r)?,
        Kind::RoleRequest => Body::RoleRequest(roles::role(i, r, true)?),
        Kind::RoleReply => Body::RoleReply(roles::role(i, r, false)?),
        Kind::RoleStatus => roles::role_status(r)?,
        Kind::GetAsyncRequest => Body::GetAsyncRequest,
        Kind::GetAsyncReply => Body::GetAsyncReply(roles::asynchronous(i, r, true)?),
        Kind::SetAsync | Kind::SetAsync2 => Body::SetAsync(roles::asynchronous(i, r, false)?),
        Kind::RequestForward => bundles::request_forward(i, r)?,
        Kind::TableStatus => tables::table_status(r)?,
        Kind::BundleControl => bundles::control(r)?,
        Kind::BundleAdd => bundles::add(i, r)?,
        Kind::SetFlowFormat => nicira::set_flow_format(r)?,
        Kind::FlowModTableId => nicira::flow_mod_table_id(r)?,
        Kind::SetPacketInFormat => nicira::set_packet_in_format(r)?,
        Kind::FlowAge => Body::FlowAge,
        Kind::SetControllerId => nicira::set_controller_id(r)?,
        Kind::TlvTableMod => nicira::tlv_table_mod(r)?,
        Kind::TlvTableRequest => Body::TlvTableRequest,
        Kind::TlvTableReply => nicira::tlv_table_reply(r)?,
        Kind::Resume => packets::resume(i, r)?,
        Kind::CtFlushZone => nicira::ct_flush_zone(r)?,
        Kind::CtFlush => nicira::ct_flush(r)?,
        Kind::FlowMonitorCancel => Body::FlowMonitorCancel(r.u32()?),
        Kind::FlowMonitorPaused => Body::FlowMonitorPaused,
        Kind::FlowMonitorResumed => Body::FlowMonitorResumed,
        _ => {
            let nxm = i.version == Version::V10 && i.extension() && flow_statistics(i.format.kind);
            return Ok(Body::Stats(Box::new(Multipart { more, nxm, body: multipart(i, r)? })));
        }
    })
}

/// Kinds that OpenFlow 1.0 has in two forms.
fn flow_statistics(kind: Kind) -> bool {
    matches!(kind, Kind::FlowRequest | Kind::FlowReply | Kind::AggregateRequest | Kind::AggregateReply)
}

#[allow(clippy::wildcard_enum_match_arm, reason = "`decode` has the others; a round-trip test covers every row of the table")]
fn multipart(i: &In<'_>, r: &mut Reader<'_>) -> Result<MultipartBody, OfError> {
    use MultipartBody as M;
    Ok(match i.format.kind {
        Kind::DescRequest => M::DescRequest,
        Kind::DescReply => session::desc(r)?,
        Kind::FlowRequest => M::FlowRequest(flows::stats_request(i, r)?),
        Kind::FlowReply => flows::stats_reply(i, r)?,
        Kind::AggregateRequest => M::AggregateRequest(flows::stats_request(i, r)?),
        Kind::AggregateReply => flows::aggregate_reply(i, r)?,
        Kind::TableRequest => M::TableRequest,
        Kind::TableReply => tables::stats_reply(i, r)?,
        Kind::PortRequest => M::PortRequest(ports::pull_port(i, r)?),
        Kind::PortReply => ports::stats_reply(i, r)?,
        Kind::QueueRequest => queues::stats_request(i, r)?,
        Kind::QueueReply => queues::stats_reply(i, r)?,
        Kind::GroupRequest => M::GroupRequest(GroupId(r.u32()?)),
        Kind::GroupReply => groups::stats_reply(i, r)?,
        // Until 1.4 the request names no group.
        Kind::GroupDescRequest => M::GroupDescRequest(if r.is_empty() { GroupId::ALL } else { GroupId(r.u32()?) }),
        Kind::GroupDescReply => groups::desc_reply(i, r)?,
        Kind::GroupFeaturesRequest => M::GroupFeaturesRequest,
        Kind::GroupFeaturesReply => groups::features_reply(i, r)?,
        Kind::MeterRequest => M::MeterRequest(r.u32()?),
        Kind::MeterReply => meters::stats_reply(r)?,
        Kind::MeterConfigRequest => M::MeterConfigRequest(r.u32()?),
        Kind::MeterConfigReply => meters::config_reply(r)?,
        Kind::MeterFeaturesRequest => M::MeterFeaturesRequest,
        Kind::MeterFeaturesReply => meters::features_reply(r)?,
        Kind::TableFeaturesRequest => M::TableFeaturesRequest(tables::features(i, r, false)?),
        Kind::TableFeaturesReply => M::TableFeaturesReply(tables::features(i, r, true)?),
        Kind::TableDescRequest => M::TableDescRequest,
        Kind::TableDescReply => tables::desc_reply(r)?,
        Kind::PortDescRequest => M::PortDescRequest(if r.is_empty() { OfPort::ANY } else { OfPort::from_wire32(r.u32()?)? }),
        Kind::PortDescReply => M::PortDescReply(ports::pull_all(i.version, r)?),
        Kind::FlowMonitorRequest => monitors::request(i, r)?,
        Kind::FlowMonitorReply => monitors::reply(i, r)?,
        Kind::IpfixBridgeRequest => M::IpfixBridgeRequest,
        Kind::IpfixBridgeReply => M::IpfixBridgeReply(nicira::ipfix(r)?),
        Kind::IpfixFlowRequest => M::IpfixFlowRequest,
        Kind::IpfixFlowReply => nicira::ipfix_flows(r)?,
        _ => return Err(OfError::OfpbrcBadStat),
    })
}

/// The kind that a message is written as, and whether in a vendor's format where there are two.
pub(super) fn kind(codec: &Codec<'_>, message: &Message) -> (Kind, bool) {
    let v10 = message.version == Version::V10;
    let kind = match &message.body {
        Body::Hello(_) => Kind::Hello,
        Body::Error(_) => Kind::Error,
        Body::EchoRequest(_) => Kind::EchoRequest,
        Body::EchoReply(_) => Kind::EchoReply,
        Body::FeaturesRequest => Kind::FeaturesRequest,
        Body::FeaturesReply(_) => Kind::FeaturesReply,
        Body::GetConfigRequest => Kind::GetConfigRequest,
        Body::GetConfigReply(_) => Kind::GetConfigReply,
        Body::SetConfig(_) => Kind::SetConfig,
        Body::PacketIn(p) if p.format == PacketInFormat::Nxt2 => Kind::PacketIn2,
        Body::PacketIn(p) => return (Kind::PacketIn, p.format == PacketInFormat::Nxt),
        Body::FlowRemoved(_) => return (Kind::FlowRemoved, v10 && codec.nxm),
        Body::PortStatus(_) => Kind::PortStatus,
        Body::PacketOut(_) => Kind::PacketOut,
        Body::FlowMod(fm) => return (Kind::FlowMod, v10 && flows::needs_nxm(codec, fm)),
        Body::GroupMod(_) => Kind::GroupMod,
        Body::PortMod(_) => Kind::PortMod,
        Body::TableMod(_) => Kind::TableMod,
        Body::MeterMod(_) => Kind::MeterMod,
        Body::BarrierRequest => Kind::BarrierRequest,
        Body::BarrierReply => Kind::BarrierReply,
        Body::QueueGetConfigRequest { .. } => Kind::QueueGetConfigRequest,
        Body::QueueGetConfigReply { .. } => Kind::QueueGetConfigReply,
        Body::RoleRequest(role) => return (Kind::RoleRequest, role.nicira),
        Body::RoleReply(role) => return (Kind::RoleReply, role.nicira),
        Body::RoleStatus { .. } => Kind::RoleStatus,
        Body::GetAsyncRequest => Kind::GetAsyncRequest,
        Body::GetAsyncReply(_) => Kind::GetAsyncReply,
        Body::SetAsync(config) if message.version < Version::V14 && roles::needs_properties(config) => Kind::SetAsync2,
        Body::SetAsync(_) => Kind::SetAsync,
        Body::RequestForward(_) => Kind::RequestForward,
        Body::TableStatus { .. } => Kind::TableStatus,
        Body::BundleControl(_) => Kind::BundleControl,
        Body::BundleAdd { .. } => Kind::BundleAdd,
        Body::SetFlowFormat(_) => Kind::SetFlowFormat,
        Body::FlowModTableId(_) => Kind::FlowModTableId,
        Body::SetPacketInFormat(_) => Kind::SetPacketInFormat,
        Body::FlowAge => Kind::FlowAge,
        Body::SetControllerId(_) => Kind::SetControllerId,
        Body::TlvTableMod(_) => Kind::TlvTableMod,
        Body::TlvTableRequest => Kind::TlvTableRequest,
        Body::TlvTableReply(_) => Kind::TlvTableReply,
        Body::Resume(_) => Kind::Resume,
        Body::CtFlushZone(_) => Kind::CtFlushZone,
        Body::CtFlush(_) => Kind::CtFlush,
        // From 1.4 they are said within the multipart.
        Body::FlowMonitorCancel(_) if message.version >= Version::V14 => Kind::FlowMonitorRequest,
        Body::FlowMonitorPaused | Body::FlowMonitorResumed if message.version >= Version::V14 => Kind::FlowMonitorReply,
        Body::FlowMonitorCancel(_) => Kind::FlowMonitorCancel,
        Body::FlowMonitorPaused => Kind::FlowMonitorPaused,
        Body::FlowMonitorResumed => Kind::FlowMonitorResumed,
        Body::Stats(m) => return (multipart_kind(&m.body), m.nxm),
    };
    (kind, false)
}

fn multipart_kind(body: &MultipartBody) -> Kind {
    use MultipartBody as M;
    match body {
        M::DescRequest => Kind::DescRequest,
        M::DescReply(_) => Kind::DescReply,
        M::FlowRequest(_) => Kind::FlowRequest,
        M::FlowReply(_) => Kind::FlowReply,
        M::AggregateRequest(_) => Kind::AggregateRequest,
        M::AggregateReply { .. } => Kind::AggregateReply,
        M::TableRequest => Kind::TableRequest,
        M::TableReply(_) => Kind::TableReply,
        M::PortRequest(_) => Kind::PortRequest,
        M::PortReply(_) => Kind::PortReply,
        M::QueueRequest { .. } => Kind::QueueRequest,
        M::QueueReply(_) => Kind::QueueReply,
        M::GroupRequest(_) => Kind::GroupRequest,
        M::GroupReply(_) => Kind::GroupReply,
        M::GroupDescRequest(_) => Kind::GroupDescRequest,
        M::GroupDescReply(_) => Kind::GroupDescReply,
        M::GroupFeaturesRequest => Kind::GroupFeaturesRequest,
        M::GroupFeaturesReply(_) => Kind::GroupFeaturesReply,
        M::MeterRequest(_) => Kind::MeterRequest,
        M::MeterReply(_) => Kind::MeterReply,
        M::MeterConfigRequest(_) => Kind::MeterConfigRequest,
        M::MeterConfigReply(_) => Kind::MeterConfigReply,
        M::MeterFeaturesRequest => Kind::MeterFeaturesRequest,
        M::MeterFeaturesReply(_) => Kind::MeterFeaturesReply,
        M::TableFeaturesRequest(_) => Kind::TableFeaturesRequest,
        M::TableFeaturesReply(_) => Kind::TableFeaturesReply,
        M::TableDescRequest => Kind::TableDescRequest,
        M::TableDescReply(_) => Kind::TableDescReply,
        M::PortDescRequest(_) => Kind::PortDescRequest,
        M::PortDescReply(_) => Kind::PortDescReply,
        M::FlowMonitorRequest(_) => Kind::FlowMonitorRequest,
        M::FlowMonitorReply(_) => Kind::FlowMonitorReply,
        M::IpfixBridgeRequest => Kind::IpfixBridgeRequest,
        M::IpfixBridgeReply(_) => Kind::IpfixBridgeReply,
        M::IpfixFlowRequest => Kind::IpfixFlowRequest,
        M::IpfixFlowReply(_) => Kind::IpfixFlowReply,
    }
}

/// Appends a body behind its headers.
pub(super) fn encode(o: &mut Out<'_>, body: &Body) -> Result<(), Unencodable> {
    match body {
        Body::Hello(versions) => session::put_hello(o, *versions),
        Body::Error(e) => session::put_error(o, e),
        Body::EchoRequest(data) | Body::EchoReply(data) => o.bytes.bytes(data),
        Body::FeaturesReply(f) => session::put_features(o, f),
        Body::GetConfigReply(c) | Body::SetConfig(c) => session::put_config(o, *c),
        Body::PacketIn(p) => packets::put_packet_in(o, p),
        Body::FlowRemoved(f) => flows::put_flow_removed(o, f),
        Body::PortStatus(s) => ports::put_port_status(o, s),
        Body::PacketOut(p) => packets::put_packet_out(o, p),
        Body::FlowMod(fm) => flows::put_flow_mod(o, fm),
        Body::GroupMod(gm) => groups::put_group_mod(o, gm),
        Body::PortMod(pm) => ports::put_port_mod(o, pm),
        Body::TableMod(tm) => tables::put_table_mod(o, *tm),
        Body::MeterMod(mm) => meters::put_meter_mod(o, mm),
        Body::QueueGetConfigRequest { port, queue } => queues::put_config_request(o, *port, *queue),
        Body::QueueGetConfigReply { port, queues } => queues::put_config_reply(o, *port, queues),
        Body::RoleRequest(role) => roles::put_role(o, *role),
        Body::RoleReply(role) => roles::put_role(o, *role),
        Body::RoleStatus { role, reason, generation_id } => roles::put_role_status(o, *role, *reason, *generation_id),
        Body::GetAsyncReply(config) | Body::SetAsync(config) => roles::put_async(o, config, matches!(body, Body::SetAsync(_))),
        Body::RequestForward(message) => bundles::put_request_forward(o, message)?,
        Body::TableStatus { reason, desc } => tables::put_table_status(o, *reason, desc),
        Body::BundleControl(control) => bundles::put_control(o, *control),
        Body::BundleAdd { id, flags, message, raw } => bundles::put_add(o, (*id, *flags), message, raw)?,
        Body::SetFlowFormat(format) | Body::SetPacketInFormat(format) => o.bytes.u32(*format),
        Body::FlowModTableId(on) => o.bytes.bytes(&[u8::from(*on), 0, 0, 0, 0, 0, 0, 0]),
        Body::SetControllerId(n) | Body::CtFlushZone(n) => nicira::put_last_u16(o, *n),
        Body::TlvTableMod(m) => nicira::put_tlv_table_mod(o, m),
        Body::TlvTableReply(reply) => nicira::put_tlv_table_reply(o, reply),
        Body::Resume(p) => packets::put_resume(o, p),
        Body::CtFlush(f) => nicira::put_ct_flush(o, f),
        Body::FlowMonitorCancel(id) if o.version >= Version::V14 => monitors::put_cancel(o, *id),
        Body::FlowMonitorCancel(id) => o.bytes.u32(*id),
        Body::FlowMonitorPaused if o.version >= Version::V14 => monitors::put_reply(o, &[FlowUpdate::Paused]),
        Body::FlowMonitorResumed if o.version >= Version::V14 => monitors::put_reply(o, &[FlowUpdate::Resumed]),
        Body::Stats(m) => encode_multipart(o, &m.body),
        Body::FeaturesRequest
        | Body::GetConfigRequest
        | Body::BarrierRequest
        | Body::BarrierReply
        | Body::GetAsyncRequest
        | Body::FlowAge
        | Body::TlvTableRequest
        | Body::FlowMonitorPaused
        | Body::FlowMonitorResumed => {}
    }
    Ok(())
}

fn encode_multipart(o: &mut Out<'_>, body: &MultipartBody) {
    use MultipartBody as M;
    match body {
        M::DescReply(d) => session::put_desc(o, d),
        M::FlowRequest(request) | M::AggregateRequest(request) => flows::put_stats_request(o, request),
        M::FlowReply(flows) => flows::put_stats_reply(o, flows),
        M::AggregateReply { packets, bytes, flows } => flows::put_aggregate_reply(o, *packets, *bytes, *flows),
        M::TableReply(tables) => tables::put_stats_reply(o, tables),
        M::PortRequest(port) => ports::put_port(o, *port),
        M::PortReply(ports) => ports::put_stats_reply(o, ports),
        M::QueueRequest { port, queue } => queues::put_stats_request(o, *port, *queue),
        M::QueueReply(queues) => queues::put_stats_reply(o, queues),
        M::GroupRequest(group) => put_word(o, group.0),
        M::GroupReply(groups) => groups::put_stats_reply(o, groups),
        M::GroupDescRequest(group) if matches!(o.version, Version::V10 | Version::V15) => put_word(o, group.0),
        M::GroupDescReply(groups) => groups::put_desc_reply(o, groups),
        M::GroupFeaturesReply(features) => groups::put_features_reply(o, features),
        M::MeterRequest(meter) | M::MeterConfigRequest(meter) => put_word(o, *meter),
        M::MeterReply(meters) => meters::put_stats_reply(o, meters),
        M::MeterConfigReply(meters) => meters::put_config_reply(o, meters),
        M::MeterFeaturesReply(features) => meters::put_features_reply(o, features),
        M::TableFeaturesRequest(tables) | M::TableFeaturesReply(tables) => tables::put_features(o, tables),
        M::TableDescReply(tables) => tables::put_desc_reply(o, tables),
        M::PortDescRequest(port) if o.version == Version::V15 => put_word(o, port.0),
        M::PortDescReply(ports) => ports::put_all(o, ports),
        M::FlowMonitorRequest(requests) => monitors::put_request(o, requests),
        M::FlowMonitorReply(updates) => monitors::put_reply(o, updates),
        M::IpfixBridgeReply(stats) => nicira::put_ipfix(o, stats),
        M::IpfixFlowReply(stats) => stats.iter().for_each(|s| nicira::put_ipfix(o, s)),
        M::DescRequest
        | M::TableRequest
        | M::GroupDescRequest(_)
        | M::GroupFeaturesRequest
        | M::MeterFeaturesRequest
        | M::TableDescRequest
        | M::PortDescRequest(_)
        | M::IpfixBridgeRequest
        | M::IpfixFlowRequest => {}
    }
}

/// 32 bits and as many of padding.
fn put_word(o: &mut Out<'_>, word: u32) {
    o.bytes.u32(word);
    o.bytes.u32(0);
}
