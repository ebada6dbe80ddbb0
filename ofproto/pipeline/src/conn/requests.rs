//! Requests: one message in, replies out.
//!
//! What enters: a decoded message of a connection. What leaves: replies, changed tables, ports, groups, meters. Neighbours:
//! `stream` reads and writes, `flow_mod` and `groups` change, `replies` tells, `bundles` gathers.
//!
//! A request that changes something takes the world's write lock for itself alone; what it did is told (flow-removed) when the lock
//! is about to be dropped. A barrier waits, without any lock, until no stale megaflow can forward (`Slowpath::settle`).

use super::{Conn, ct_flush, groups, queues, replies, tables, tlv};
use crate::flow_mod::{self, Journal, Ready};
use crate::slowpath::{PortModError, Prepared, Slowpath};
use crate::world::{BridgeId, World};
use crate::xlate::FragMode;
use flow::Msec;
use openflow::message::{
    Body, ErrorMessage, FlowMod, GroupCommand, GroupMod, Message, Multipart, MultipartBody, PacketInFormat, PacketOut, PortMod,
    Role, RoleRequest, SwitchConfig,
};
use openflow::wire::Kind;
use openflow::{OfError, OfPort, Version, Xid};

/// What a request came to: bodies to answer with, in the request's version and transaction.
type Answer = Result<Vec<Body>, OfError>;

/// OFPRFR_*
const GROUP_MOD: u8 = 0;
const METER_MOD: u8 = 1;
/// Frag handling in the low bits of OFPC flags.
const FRAG_MASK: u16 = 3;

impl Conn {
    /// Handles one message. `raw` is what an error reply quotes.
    #[must_use]
    pub(super) fn handle(&self, slowpath: &Slowpath, message: Message, raw: &[u8], now: Msec) -> Vec<Message> {
        let (version, xid) = (message.version, message.xid);
        let reply = |body| Message { version, xid, body };
        let refusal = |error| vec![reply(Body::Error(ErrorMessage::reply_to(error, raw)))];
        let sets_features =
            matches!(&message.body, Body::Stats(m) if matches!(&m.body, MultipartBody::TableFeaturesRequest(f) if !f.is_empty()));
        if sets_features && self.is_secondary() {
            return refusal(OfError::OfpbrcIsSecondary);
        }
        // By value: a bundle keeps it, a table its actions.
        let message = match message {
            Message { body: Body::BundleAdd { id, flags, message, .. }, .. } => {
                // As in OVS, an error at commit names the message that added, not what was in it.
                let added = self.bundle_add((id, flags), *message, raw.to_vec(), now);
                return added.err().map(refusal).unwrap_or_default();
            }
            Message { body: Body::FlowMod(fm), .. } => {
                return self.flow_mod(slowpath, xid, fm, now).err().map(refusal).unwrap_or_default();
            }
            other => other,
        };
        if let Body::BundleControl(request) = &message.body {
            return match self.bundle_control(slowpath, request, raw, now) {
                Ok(body) => vec![reply(body)],
                Err((member, error)) => {
                    let own = reply(Body::Error(ErrorMessage::reply_to(error, raw)));
                    member.map(|m| *m).into_iter().chain([own]).collect()
                }
            };
        }
        match self.answer(slowpath, &message, now) {
            Ok(bodies) => bodies.into_iter().map(reply).collect(),
            Err(error) => refusal(error),
        }
    }

    /// OFPT_BUNDLE_ADD_MESSAGE
    fn bundle_add(&self, bundle: (u32, u16), message: Message, raw: Vec<u8>, now: Msec) -> Result<(), OfError> {
        // As in OVS a message that is wrong by itself leaves its bundle as it is.
        if let Body::FlowMod(fm) = &message.body {
            flow_mod::check_table(fm)?;
        }
        if let Body::PacketOut(po) = &message.body
            && po.buffer_id != openflow::types::NO_BUFFER
        {
            return Err(OfError::OfpbrcBufferUnknown);
        }
        self.lock().bundles.add(bundle, message, raw, now)
    }

    /// OFPT_FLOW_MOD
    fn flow_mod(&self, slowpath: &Slowpath, xid: Xid, mut fm: Box<FlowMod>, now: Msec) -> Result<(), OfError> {
        let actions = std::mem::take(&mut fm.actions);
        self.changing(slowpath, xid, |world, journal| {
            let bridge = world.bridges.get(&self.bridge).ok_or(OfError::OfpbrcEperm)?;
            let ready = Ready::for_bridge(bridge, &fm, actions);
            if fm.buffer_id != openflow::types::NO_BUFFER && !fm.command.is_delete() {
                // Packets are never buffered here, so none can be meant; as in OVS nothing is changed then, and the rule's place is judged before.
                flow_mod::check_place(&ready)?;
                return Err(OfError::OfpbrcBufferUnknown);
            }
            flow_mod::apply_ready(world, bridge, ready, now, journal)
        })?;
        self.lock().flow_mods.note(fm.command, now);
        Ok(())
    }

    /// What can be said of a message before its body is looked at: that it is none for a switch, or that a secondary, which may look and not
    /// touch (OpenFlow 1.2 section 6.3), has sent it.
    pub(super) fn may(&self, kind: Option<Kind>) -> Result<(), OfError> {
        let changes = matches!(
            kind,
            Some(
                Kind::FlowMod
                    | Kind::GroupMod
                    | Kind::PortMod
                    | Kind::TableMod
                    | Kind::MeterMod
                    | Kind::PacketOut
                    | Kind::BundleControl
                    | Kind::BundleAdd
                    | Kind::TlvTableMod
            )
        );
        if kind.is_some_and(Kind::is_for_controllers) {
            Err(OfError::OfpbrcBadType)
        } else if changes && self.is_secondary() {
            Err(OfError::OfpbrcIsSecondary)
        } else {
            Ok(())
        }
    }

    fn is_secondary(&self) -> bool {
        self.lock().role == Role::Secondary
    }

    #[allow(clippy::too_many_lines, reason = "one arm per message")]
    fn answer(&self, slowpath: &Slowpath, message: &Message, now: Msec) -> Answer {
        let id = self.bridge;
        match &message.body {
            Body::EchoRequest(data) => Ok(vec![Body::EchoReply(data.clone())]),
            Body::EchoReply(_) | Body::FlowAge => Ok(vec![]),
            Body::FeaturesRequest => {
                self.with_bridge(slowpath, |_, b| Ok(vec![Body::FeaturesReply(Box::new(replies::features(b, message.version)))]))
            }
            Body::GetConfigRequest => {
                let frag = self.with_bridge(slowpath, |_, b| Ok(frag_bits(b.frag_mode)))?;
                let config = self.lock().config();
                Ok(vec![Body::GetConfigReply(SwitchConfig { flags: config.flags | frag, ..config })])
            }
            Body::SetConfig(config) => self.set_config(slowpath, *config),
            Body::GroupMod(gm) => {
                let existed = self.with_bridge(slowpath, |_, b| Ok(b.groups.contains_key(&gm.group)))?;
                self.changing(slowpath, message.xid, |world, journal| groups::group_mod(world, id, gm, now, journal))?;
                self.forward_group_mod(message.xid, gm, existed);
                Ok(vec![])
            }
            Body::MeterMod(mm) => {
                self.changing(slowpath, message.xid, |world, journal| groups::meter_mod(world, id, mm, now, journal))?;
                self.forward_request(message.xid, METER_MOD, &message.body);
                Ok(vec![])
            }
            Body::PortMod(pm) => port_mod(&mut slowpath.write_world(), id, pm, self).map(none),
            Body::TableMod(tm) => tables::table_mod(&mut slowpath.write_world(), id, tm).map(none),
            Body::PacketOut(po) => packet_out(slowpath, id, po, now).map(none),
            Body::BarrierRequest => {
                slowpath.settle();
                Ok(vec![Body::BarrierReply])
            }
            Body::RoleRequest(request) => self.role_request(request),
            Body::GetAsyncRequest => Ok(vec![Body::GetAsyncReply(self.lock().asynchronous())]),
            Body::SetAsync(new) => {
                self.lock().set_async(new);
                Ok(vec![])
            }
            Body::SetFlowFormat(format) => {
                self.lock().nxm = *format != 0;
                Ok(vec![])
            }
            Body::FlowModTableId(on) => {
                self.lock().table_id = *on;
                Ok(vec![])
            }
            Body::SetPacketInFormat(format) => {
                self.lock().packet_in_format = match format {
                    0 => PacketInFormat::Standard,
                    1 => PacketInFormat::Nxt,
                    2 => PacketInFormat::Nxt2,
                    _ => return Err(OfError::OfpbrcEperm),
                };
                Ok(vec![])
            }
            Body::SetControllerId(controller) => {
                self.lock().controller_id = *controller;
                Ok(vec![])
            }
            Body::TlvTableMod(tm) => tlv::table_mod(&mut slowpath.write_world(), id, tm).map(none),
            Body::TlvTableRequest => self.with_bridge(slowpath, |_, b| Ok(vec![Body::TlvTableReply(tlv::table(b))])),
            Body::CtFlushZone(zone) => {
                let dp = self.with_bridge(slowpath, ct_flush::datapath)?;
                ct_flush::flush(dp.as_ref(), &ct_flush::of_zone(*zone)).map(none)
            }
            Body::CtFlush(request) => {
                let dp = self.with_bridge(slowpath, ct_flush::datapath)?;
                ct_flush::flush(dp.as_ref(), &ct_flush::of_request(request)).map(none)
            }
            Body::QueueGetConfigRequest { port, queue } => self.with_bridge(slowpath, |world, b| {
                let queues = queues::configured(world, b, *port, *queue)?;
                Ok(vec![Body::QueueGetConfigReply { port: *port, queues }])
            }),
            Body::Stats(request) => self.multipart(slowpath, request, now),
            Body::Resume(packet) => self.resume(slowpath, packet, now).map(none),
            Body::FlowMonitorCancel(monitor) => self.watcher.cancel(*monitor).map(none),
            // `handle` has dealt with flow-mods and bundles.
            Body::FlowMod(_)
            | Body::BundleControl(_)
            | Body::BundleAdd { .. }
            | Body::FeaturesReply(_)
            | Body::GetConfigReply(_)
            | Body::Hello(_)
            | Body::Error(_)
            | Body::PacketIn(_)
            | Body::FlowRemoved(_)
            | Body::PortStatus(_)
            | Body::BarrierReply
            | Body::QueueGetConfigReply { .. }
            | Body::RoleReply(_)
            | Body::RoleStatus { .. }
            | Body::GetAsyncReply(_)
            | Body::RequestForward(_)
            | Body::TableStatus { .. }
            | Body::TlvTableReply(_)
            | Body::FlowMonitorPaused
            | Body::FlowMonitorResumed => Err(OfError::OfpbrcBadType),
        }
    }

    /// Reads the world with this connection's bridge.
    fn with_bridge<T>(
        &self,
        slowpath: &Slowpath,
        read: impl FnOnce(&World, &crate::bridge::Bridge) -> Result<T, OfError>,
    ) -> Result<T, OfError> {
        let world = slowpath.read_world();
        let bridge = world.bridges.get(&self.bridge).ok_or(OfError::OfpbrcEperm)?;
        read(&world, bridge)
    }

    fn set_config(&self, slowpath: &Slowpath, config: SwitchConfig) -> Answer {
        let mode = match config.flags & FRAG_MASK {
            0 => FragMode::Normal,
            1 => FragMode::Drop,
            3 => FragMode::NxMatch,
            // Reassembly is not for a switch without conntrack; OVS keeps what it has.
            _ => self.with_bridge(slowpath, |_, b| Ok(b.frag_mode))?,
        };
        // A secondary may say how it wants its own packet-ins, not how the bridge treats fragments.
        if self.lock().role != Role::Secondary && self.with_bridge(slowpath, |_, b| Ok(b.frag_mode != mode))? {
            let mut world = slowpath.write_world();
            if let Some(b) = world.bridges.get_mut(&self.bridge) {
                b.frag_mode = mode;
            }
            world.changed(crate::deps::Object::Bridge(self.bridge));
        }
        self.lock().set_config(config);
        Ok(vec![])
    }

    fn role_request(&self, request: &RoleRequest) -> Answer {
        if request.role != Role::NoChange {
            if let Some(generation) = request.generation_id.filter(|_| request.role != Role::Equal) {
                self.roles.advance(self.bridge, generation)?;
            }
            if request.role == Role::Primary {
                self.roles.demote_others(self);
            }
            self.lock().role = request.role;
        }
        let role = self.lock().role;
        let generation_id = self.roles.generation(self.bridge);
        Ok(vec![Body::RoleReply(RoleRequest { role, generation_id: Some(generation_id.unwrap_or(u64::MAX)), ..*request })])
    }

    /// Runs a change under the write lock, all or nothing, and tells what it did.
    fn changing<T>(
        &self,
        slowpath: &Slowpath,
        xid: Xid,
        change: impl FnOnce(&mut World, &mut Journal) -> Result<T, OfError>,
    ) -> Result<T, OfError> {
        let mut world = slowpath.write_world();
        let mut journal = Journal::default();
        match change(&mut world, &mut journal) {
            Ok(done) => {
                journal.commit_by(&world, Some(self.origin(xid)));
                Ok(done)
            }
            Err(error) => {
                journal.revert(&world);
                Err(error)
            }
        }
    }

    /// Tells other controllers of a group-mod; which it was of "add or modify" depends on whether there was such a group.
    pub(super) fn forward_group_mod(&self, xid: Xid, gm: &GroupMod, existed: bool) {
        let command = match (gm.command == GroupCommand::AddOrMod, existed) {
            (true, true) => GroupCommand::Modify,
            (true, false) => GroupCommand::Add,
            (false, _) => gm.command,
        };
        self.forward_request(xid, GROUP_MOD, &Body::GroupMod(Box::new(GroupMod { command, ..gm.clone() })));
    }

    /// OFPT_REQUESTFORWARD to the other controllers of the bridge that want it (OpenFlow 1.4 section 7.4.6).
    fn forward_request(&self, xid: Xid, reason: u8, body: &Body) {
        for conn in self.roles.conns() {
            if conn.bridge != self.bridge || std::ptr::eq(conn.as_ref(), self) {
                continue;
            }
            let state = conn.lock();
            let version = state.version;
            let wanted = state.wants_request_forward(reason) && (reason == GROUP_MOD || version >= Version::V13);
            drop(state);
            if wanted {
                let inner = Message { version, xid, body: body.clone() };
                conn.send(Message { version, xid, body: Body::RequestForward(Box::new(inner)) });
            }
        }
    }

    /// Multiparts that change something.
    fn multipart(&self, slowpath: &Slowpath, request: &Multipart, now: Msec) -> Answer {
        let reply = |body| Ok(vec![Body::Stats(Box::new(Multipart { more: false, body, ..request.clone() }))]);
        if let MultipartBody::TableFeaturesRequest(set) = &request.body
            && !set.is_empty()
        {
            tables::set_features(&mut slowpath.write_world(), self.bridge, set)?;
            let all = self.with_bridge(slowpath, |_, b| Ok(replies::all_table_features(b)))?;
            return reply(MultipartBody::TableFeaturesReply(all));
        }
        if let MultipartBody::FlowMonitorRequest(requests) = &request.body {
            // No change may fall between the rules told now and the updates that follow.
            let world = slowpath.write_world();
            let bridge = world.bridges.get(&self.bridge).ok_or(OfError::OfpbrcEperm)?;
            return reply(MultipartBody::FlowMonitorReply(self.watcher.request(bridge, requests)?));
        }
        self.statistics(slowpath, request, now)
    }

    #[allow(clippy::too_many_lines, reason = "one arm per multipart")]
    fn statistics(&self, slowpath: &Slowpath, request: &Multipart, now: Msec) -> Answer {
        use MultipartBody as M;
        let bridge = self.bridge;
        self.with_bridge(slowpath, |world, b| {
            let body = match &request.body {
                M::DescRequest => M::DescReply(replies::desc(b)),
                M::FlowRequest(r) => M::FlowReply(replies::flows(b, r, now)?),
                M::AggregateRequest(r) => {
                    let (packets, bytes, flows) = replies::aggregate(b, r)?;
                    M::AggregateReply { packets, bytes, flows }
                }
                M::TableRequest => M::TableReply(replies::table_stats(b)),
                M::PortRequest(port) => M::PortReply(replies::port_stats(world, b, *port, now)?),
                M::QueueRequest { port, queue } => M::QueueReply(queues::stats(world, b, *port, *queue, now)?),
                M::GroupRequest(group) => M::GroupReply(groups::group_stats(b, *group, now)),
                M::GroupDescRequest(group) => M::GroupDescReply(groups::group_descs(b, *group)),
                M::GroupFeaturesRequest => M::GroupFeaturesReply(groups::group_features()),
                M::MeterRequest(id) => M::MeterReply(groups::meter_stats(world, b, *id, now)?),
                M::MeterConfigRequest(id) => M::MeterConfigReply(groups::meter_configs(b, *id)?),
                M::MeterFeaturesRequest => M::MeterFeaturesReply(groups::meter_features(world, bridge)),
                M::TableFeaturesRequest(_) => M::TableFeaturesReply(replies::all_table_features(b)),
                M::TableDescRequest => M::TableDescReply(replies::table_descs(b)),
                M::PortDescRequest(port) => M::PortDescReply(replies::port_descs(b, *port)),
                M::IpfixBridgeRequest => M::IpfixBridgeReply(b.exporters.bridge_totals().ok_or(OfError::NxstNotConfigured)?),
                M::IpfixFlowRequest if b.exporters.flow_ipfix.is_empty() => return Err(OfError::NxstNotConfigured),
                M::IpfixFlowRequest => M::IpfixFlowReply(b.exporters.flow_totals()),
                // `multipart` has dealt with flow monitors.
                M::FlowMonitorRequest(_)
                | M::DescReply(_)
                | M::FlowReply(_)
                | M::AggregateReply { .. }
                | M::TableReply(_)
                | M::PortReply(_)
                | M::QueueReply(_)
                | M::GroupReply(_)
                | M::GroupDescReply(_)
                | M::GroupFeaturesReply(_)
                | M::MeterReply(_)
                | M::MeterConfigReply(_)
                | M::MeterFeaturesReply(_)
                | M::TableFeaturesReply(_)
                | M::TableDescReply(_)
                | M::PortDescReply(_)
                | M::FlowMonitorReply(_)
                | M::IpfixBridgeReply(_)
                | M::IpfixFlowReply(_) => return Err(OfError::OfpbrcBadStat),
            };
            Ok(vec![Body::Stats(Box::new(Multipart { more: false, body, ..request.clone() }))])
        })
    }
}

fn none<T>(_: T) -> Vec<Body> {
    Vec::new()
}

fn frag_bits(mode: FragMode) -> u16 {
    match mode {
        FragMode::Normal => 0,
        FragMode::Drop => 1,
        FragMode::NxMatch => 3,
    }
}

/// An error about a message that came earlier.
pub(super) fn error_about(error: OfError, raw: &[u8]) -> Message {
    let header = openflow::wire::Header::peek(raw);
    let version = header.and_then(|h| Version::from_wire(h.version)).unwrap_or(Version::V10);
    let xid = header.map_or(Xid(0), |h| h.xid);
    Message { version, xid, body: Body::Error(ErrorMessage::reply_to(error, raw)) }
}

/// OFPT_PORT_MOD; `by` is told of the change only if its version says so.
pub(super) fn port_mod(world: &mut World, bridge: BridgeId, pm: &PortMod, by: &Conn) -> Result<(), OfError> {
    world.port_mod(bridge, pm, by.serial).map_err(|e| match e {
        PortModError::BadPort => OfError::OfppmfcBadPort,
        PortModError::BadHwAddr => OfError::OfppmfcBadHwAddr,
    })
}

/// OFPT_PACKET_OUT: the actions run on the packet as if it had come in by `in_port`.
pub(super) fn packet_out(slowpath: &Slowpath, bridge: BridgeId, po: &PacketOut, now: Msec) -> Result<(), OfError> {
    let world = slowpath.read_world();
    let mut prepared = prepare_packet_out(slowpath, &world, bridge, po, now)?;
    // Told before anybody who writes can take it back: monitors hear of it in that order.
    if let Some(prepared) = &mut prepared {
        prepared.take_learned().commit(&world);
    }
    drop(world);
    slowpath.send_packet_out(prepared, now);
    Ok(())
}

pub(super) fn prepare_packet_out(
    slowpath: &Slowpath,
    world: &World,
    bridge: BridgeId,
    po: &PacketOut,
    now: Msec,
) -> Result<Option<Prepared>, OfError> {
    if po.buffer_id != openflow::types::NO_BUFFER {
        return Err(OfError::OfpbrcBufferUnknown);
    }
    let in_port = OfPort::from_key(po.metadata.key.in_port);
    let b = world.bridges.get(&bridge).ok_or(OfError::OfpbrcEperm)?;
    let sourced = matches!(in_port, OfPort::CONTROLLER | OfPort::ANY | OfPort::LOCAL);
    if !sourced && in_port.is_reserved() {
        return Err(OfError::OfpbrcBadPort);
    }
    flow_mod::check_actions(b, &po.actions)?;
    let prepared = slowpath.prepare_packet_out(world, bridge, in_port, po, now);
    if prepared.as_ref().is_some_and(Prepared::has_failed) {
        // As OVS answers.
        return Err(OfError::OfpfmfcUnknown);
    }
    Ok(prepared)
}
