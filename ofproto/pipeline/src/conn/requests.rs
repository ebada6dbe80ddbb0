//! Requests: one message in, replies out.
//!
//! What enters: a decoded message of a connection. What leaves: replies, changed tables, ports, groups, meters. Neighbours:
//! `stream` reads and writes, `flow_mod` and `groups` change, `replies` tells, `bundles` gathers.
//!
//! A request that changes something takes the world's write lock for itself alone; what it did is told (flow-removed) when the lock
//! is about to be dropped. A barrier waits, without any lock, until no stale megaflow can forward (`Slowpath::settle`).

use super::bundles::{Member, Outcome};
use super::state::merge_async;
use super::{Conn, groups, replies};
use crate::flow_mod::{self, Journal};
use crate::slowpath::{PortModError, Prepared, Slowpath};
use crate::table::{INTERNAL, Miss};
use crate::world::{BridgeId, World};
use crate::xlate::FragMode;
use flow::Msec;
use openflow::message::{
    Body, BundleControl, ErrorMessage, Message, Multipart, MultipartBody, PacketInFormat, PacketOut, PortMod, Role, RoleRequest,
    SwitchConfig, TableMod, TlvMap, TlvTableMod, TlvTableReply,
};
use openflow::{OfError, OfPort, TableId};
use std::sync::Arc;

/// What a request came to: bodies to answer with, in the request's version and transaction.
type Answer = Result<Vec<Body>, OfError>;

/// Why a bundle request failed, with the error message for the member at fault.
type BundleFault = (Option<Box<Message>>, OfError);

/// Frag handling in the low bits of OFPC flags.
const FRAG_MASK: u16 = 3;

impl Conn {
    /// Handles one message. `raw` is what an error reply quotes.
    #[must_use]
    pub(super) fn handle(&self, slowpath: &Slowpath, message: &Message, raw: &[u8], now: Msec) -> Vec<Message> {
        let reply = |body| Message { version: message.version, xid: message.xid, body };
        if let Err(error) = self.may(&message.body) {
            return vec![reply(Body::Error(ErrorMessage::reply_to(error, raw)))];
        }
        if let Body::BundleControl(request) = &message.body {
            return match self.bundle_control(slowpath, request, now) {
                Ok(body) => vec![reply(body)],
                Err((member, error)) => {
                    let own = reply(Body::Error(ErrorMessage::reply_to(error, raw)));
                    member.map(|m| *m).into_iter().chain([own]).collect()
                }
            };
        }
        match self.answer(slowpath, message, now) {
            Ok(bodies) => bodies.into_iter().map(reply).collect(),
            Err(error) => vec![reply(Body::Error(ErrorMessage::reply_to(error, raw)))],
        }
    }

    /// A secondary may look, not touch (OpenFlow 1.2 section 6.3).
    fn may(&self, body: &Body) -> Result<(), OfError> {
        let sets_features =
            matches!(body, Body::Stats(m) if matches!(&m.body, MultipartBody::TableFeaturesRequest(f) if !f.is_empty()));
        let changes = sets_features
            || matches!(
                body,
                Body::FlowMod(_)
                    | Body::GroupMod(_)
                    | Body::PortMod(_)
                    | Body::TableMod(_)
                    | Body::MeterMod(_)
                    | Body::PacketOut(_)
                    | Body::BundleControl(_)
                    | Body::BundleAdd { .. }
                    | Body::TlvTableMod(_)
                    | Body::SetConfig(_)
            );
        if changes && self.lock().role == Role::Secondary {
            return Err(OfError::OfpbrcIsSecondary);
        }
        Ok(())
    }

    #[allow(clippy::too_many_lines, reason = "one arm per message")]
    fn answer(&self, slowpath: &Slowpath, message: &Message, now: Msec) -> Answer {
        let id = self.bridge;
        match &message.body {
            Body::EchoRequest(data) => Ok(vec![Body::EchoReply(data.clone())]),
            Body::Hello(_) | Body::EchoReply(_) | Body::Error(_) | Body::FlowAge => Ok(vec![]),
            Body::FeaturesRequest => {
                self.with_bridge(slowpath, |_, b| Ok(vec![Body::FeaturesReply(Box::new(replies::features(b, message.version)))]))
            }
            Body::GetConfigRequest => {
                let frag = self.with_bridge(slowpath, |_, b| Ok(frag_bits(b.frag_mode)))?;
                let config = self.lock().config;
                let flags = config.flags & !FRAG_MASK | frag;
                Ok(vec![Body::GetConfigReply(SwitchConfig { flags, ..config })])
            }
            Body::SetConfig(config) => self.set_config(slowpath, *config),
            Body::FlowMod(fm) => {
                changing(slowpath, |world, journal| flow_mod::apply(world, id, fm, now, journal))?;
                if fm.buffer_id != openflow::types::NO_BUFFER && fm.command != openflow::message::FlowModCommand::Delete {
                    // Packets are never buffered here, so none can be meant.
                    return Err(OfError::OfpbrcBufferUnknown);
                }
                Ok(vec![])
            }
            Body::GroupMod(gm) => changing(slowpath, |world, journal| groups::group_mod(world, id, gm, now, journal)).map(none),
            Body::MeterMod(mm) => changing(slowpath, |world, journal| groups::meter_mod(world, id, mm, now, journal)).map(none),
            Body::PortMod(pm) => changing(slowpath, |world, _| port_mod(world, id, pm)).map(none),
            Body::TableMod(tm) => changing(slowpath, |world, _| table_mod(world, id, tm)).map(none),
            Body::PacketOut(po) => packet_out(slowpath, id, po, now).map(none),
            Body::BarrierRequest => {
                slowpath.settle();
                Ok(vec![Body::BarrierReply])
            }
            Body::RoleRequest(request) => self.role_request(request),
            Body::GetAsyncRequest => Ok(vec![Body::GetAsyncReply(self.lock().asynchronous)]),
            Body::SetAsync(new) => {
                merge_async(&mut self.lock().asynchronous, new);
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
            Body::BundleAdd { id, flags, message, raw } => {
                let member = Member { message: (**message).clone(), raw: raw.clone() };
                self.lock().bundles.add(*id, *flags, member, now).map(none)
            }
            Body::TlvTableMod(tm) => changing(slowpath, |world, _| tlv_table_mod(world, id, tm)).map(none),
            Body::TlvTableRequest => self.with_bridge(slowpath, |_, b| Ok(vec![Body::TlvTableReply(tlv_table(b))])),
            Body::CtFlushZone(_) | Body::CtFlush(_) => Err(OfError::NxrNotSupported),
            Body::QueueGetConfigRequest { port, .. } => self.with_bridge(slowpath, |_, b| {
                let queues = replies::queues(b, *port)?;
                Ok(vec![Body::QueueGetConfigReply { port: *port, queues }])
            }),
            Body::Stats(request) => self.multipart(slowpath, request, now),
            Body::Resume(_) => Err(OfError::NxrStale),
            Body::FlowMonitorCancel(_) => Err(OfError::OfpmofcUnknownMonitor),
            // `handle` has dealt with bundle control.
            Body::BundleControl(_)
            | Body::FeaturesReply(_)
            | Body::GetConfigReply(_)
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
        let mut world = slowpath.write_world();
        let changed = world.bridges.get_mut(&self.bridge).is_some_and(|b| std::mem::replace(&mut b.frag_mode, mode) != mode);
        if changed {
            world.changed(crate::deps::Object::Bridge(self.bridge));
        }
        drop(world);
        let mut state = self.lock();
        state.config = SwitchConfig { flags: config.flags, miss_send_len: config.miss_send_len };
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

    /// OFPT_BUNDLE_CONTROL. A commit that fails answers with the error of the member at fault as well.
    fn bundle_control(&self, slowpath: &Slowpath, request: &BundleControl, now: Msec) -> Result<Body, BundleFault> {
        let outcome = self.lock().bundles.control(request, now).map_err(|error| (None, error))?;
        if let Outcome::Commit(members) = outcome {
            self.commit(slowpath, members, now)?;
        }
        Ok(Body::BundleControl(BundleControl { kind: request.kind + 1, ..*request }))
    }

    /// Applies a bundle under one lock. The first that fails undoes all; its own error is sent before the bundle's.
    fn commit(&self, slowpath: &Slowpath, members: Vec<Member>, now: Msec) -> Result<(), BundleFault> {
        let mut packet_outs = Vec::new();
        let mut port_mods = Vec::new();
        let mut world = slowpath.write_world();
        let mut journal = Journal::default();
        let groups_before = world.bridges.get(&self.bridge).map(|b| b.groups.clone()).unwrap_or_default();
        for member in members {
            let done = if let Body::FlowMod(fm) = &member.message.body {
                flow_mod::apply(&world, self.bridge, fm, now, &mut journal)
            } else if let Body::GroupMod(gm) = &member.message.body {
                groups::group_mod(&mut world, self.bridge, gm, now, &mut journal)
            } else if let Body::PacketOut(po) = &member.message.body {
                // It meets the rules as they are at its place in the bundle.
                prepare_packet_out(slowpath, &world, self.bridge, po, now).map(|prepared| packet_outs.push(prepared))
            } else if let Body::PortMod(pm) = &member.message.body {
                port_mods.push(pm.clone());
                Ok(())
            } else {
                Err(OfError::OfpbfcMsgUnsup)
            };
            if let Err(error) = done {
                journal.revert(&world);
                if let Some(b) = world.bridges.get_mut(&self.bridge) {
                    b.groups = groups_before;
                }
                world.changed(crate::deps::Object::Bridge(self.bridge));
                drop(world);
                let body = Body::Error(ErrorMessage::reply_to(error, &member.raw));
                let of_member = Message { version: member.message.version, xid: member.message.xid, body };
                return Err((Some(Box::new(of_member)), OfError::OfpbfcMsgFailed));
            }
        }
        journal.commit(&world);
        drop(world);
        for pm in port_mods {
            port_mod(&mut slowpath.write_world(), self.bridge, &pm).map_err(|error| (None, error))?;
        }
        for prepared in packet_outs {
            slowpath.send_packet_out(prepared, now);
        }
        Ok(())
    }

    #[allow(clippy::too_many_lines, reason = "one arm per multipart")]
    fn multipart(&self, slowpath: &Slowpath, request: &Multipart, now: Msec) -> Answer {
        use MultipartBody as M;
        let bridge = self.bridge;
        self.with_bridge(slowpath, |world, b| {
            let body = match &request.body {
                M::DescRequest => M::DescReply(replies::desc(b)),
                M::FlowRequest(r) => {
                    M::FlowReply(replies::select(b, r)?.iter().map(|rule| replies::flow_entry(b, rule, now)).collect())
                }
                M::AggregateRequest(r) => {
                    let (packets, bytes, flows) = replies::aggregate(&replies::select(b, r)?);
                    M::AggregateReply { packets, bytes, flows }
                }
                M::TableRequest => M::TableReply(replies::table_stats(b)),
                M::PortRequest(port) => M::PortReply(replies::port_stats(world, b, *port, now)?),
                M::QueueRequest { port, queue } => M::QueueReply(replies::queue_stats(b, *port, *queue)?),
                M::GroupRequest(group) => M::GroupReply(groups::group_stats(b, *group, now)),
                M::GroupDescRequest(group) => M::GroupDescReply(groups::group_descs(b, *group)),
                M::GroupFeaturesRequest => M::GroupFeaturesReply(groups::group_features()),
                M::MeterRequest(id) => M::MeterReply(groups::meter_stats(world, b, *id, now)?),
                M::MeterConfigRequest(id) => M::MeterConfigReply(groups::meter_configs(b, *id)?),
                M::MeterFeaturesRequest => M::MeterFeaturesReply(groups::meter_features(world, bridge)),
                M::TableFeaturesRequest(set) if set.is_empty() => {
                    let tables = b.tables.iter().filter(|t| t.id != INTERNAL);
                    M::TableFeaturesReply(tables.map(|t| replies::table_features(b, t.id)).collect())
                }
                M::TableFeaturesRequest(_) => return Err(OfError::OfptffcEperm),
                M::TableDescRequest => M::TableDescReply(replies::table_descs(b)),
                M::PortDescRequest(port) => M::PortDescReply(replies::port_descs(b, *port)),
                M::FlowMonitorRequest(_) => return Err(OfError::OfpbrcBadStat),
                M::IpfixBridgeRequest | M::IpfixFlowRequest => return Err(OfError::NxstNotConfigured),
                M::DescReply(_)
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

/// Runs a change under the write lock, all or nothing, and tells what it did.
fn changing<T>(slowpath: &Slowpath, change: impl FnOnce(&mut World, &mut Journal) -> Result<T, OfError>) -> Result<T, OfError> {
    let mut world = slowpath.write_world();
    let mut journal = Journal::default();
    match change(&mut world, &mut journal) {
        Ok(done) => {
            journal.commit(&world);
            Ok(done)
        }
        Err(error) => {
            journal.revert(&world);
            Err(error)
        }
    }
}

fn port_mod(world: &mut World, bridge: BridgeId, pm: &PortMod) -> Result<(), OfError> {
    world.port_mod(bridge, pm.port, pm.hw_addr, pm.config, pm.mask).map_err(|e| match e {
        PortModError::BadPort => OfError::OfppmfcBadPort,
        PortModError::BadHwAddr => OfError::OfppmfcBadHwAddr,
    })
}

fn table_mod(world: &mut World, bridge: BridgeId, tm: &TableMod) -> Result<(), OfError> {
    let b = world.bridges.get_mut(&bridge).ok_or(OfError::OfpbrcEperm)?;
    let all = tm.table == TableId::ALL;
    if !all && tm.table >= INTERNAL {
        return Err(OfError::OfptmfcBadTable);
    }
    let tables = b.tables.iter_mut().filter(|t| t.id != INTERNAL && (all || t.id == tm.table));
    for t in tables {
        if let Some(miss) = tm.miss {
            t.miss = match miss {
                0 => Miss::Controller,
                1 => Miss::Continue,
                2 => Miss::Drop,
                _ => Miss::Default,
            };
        }
        if let Some(evict) = tm.eviction {
            t.config.evict = evict;
        }
    }
    world.changed(crate::deps::Object::Everything);
    Ok(())
}

/// OFPT_PACKET_OUT: the actions run on the packet as if it had come in by `in_port`.
fn packet_out(slowpath: &Slowpath, bridge: BridgeId, po: &PacketOut, now: Msec) -> Result<(), OfError> {
    let prepared = prepare_packet_out(slowpath, &slowpath.read_world(), bridge, po, now)?;
    slowpath.send_packet_out(prepared, now);
    Ok(())
}

fn prepare_packet_out(
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
    Ok(slowpath.prepare_packet_out(world, bridge, in_port, po, now))
}

fn tlv_table(bridge: &crate::bridge::Bridge) -> TlvTableReply {
    let maps = bridge.tunnel_options.iter().map(|(n, o)| TlvMap {
        class: o.class,
        kind: o.kind,
        len: u8::try_from(o.bytes).unwrap_or(u8::MAX),
        index: u16::try_from(n).unwrap_or(u16::MAX),
    });
    TlvTableReply { max_space: 256, max_fields: 64, maps: maps.collect() }
}

/// NXT_TLV_TABLE_MOD.
fn tlv_table_mod(world: &mut World, bridge: BridgeId, tm: &TlvTableMod) -> Result<(), OfError> {
    use flow::fields::TunOptionError as E;
    let b = world.bridges.get_mut(&bridge).ok_or(OfError::OfpbrcEperm)?;
    let mut options = (*b.tunnel_options).clone();
    match tm.command {
        0 => {
            for map in &tm.maps {
                let added = options.add(usize::from(map.index), map.class, map.kind, usize::from(map.len));
                added.map_err(|e| match e {
                    E::BadIndex(_) => OfError::NxttmfcBadFieldIdx,
                    E::BadLength(_) => OfError::NxttmfcBadOptLen,
                    E::AlreadyMapped(_) => OfError::NxttmfcAlreadyMapped,
                    E::Duplicate { .. } => OfError::NxttmfcDupEntry,
                    E::Full(_) => OfError::NxttmfcTableFull,
                })?;
            }
        }
        1 => {
            for map in &tm.maps {
                refuse_if_used(b, usize::from(map.index))?;
                options.remove(usize::from(map.index));
            }
        }
        2 => {
            options.iter().try_for_each(|(n, _)| refuse_if_used(b, n))?;
            options = flow::fields::TunnelOptions::default();
        }
        _ => return Err(OfError::NxttmfcBadCommand),
    }
    b.tunnel_options = Arc::new(options);
    world.changed(crate::deps::Object::Bridge(bridge));
    Ok(())
}

/// An option that a rule matches or its actions name stays mapped.
fn refuse_if_used(bridge: &crate::bridge::Bridge, n: usize) -> Result<(), OfError> {
    use openflow::text::{Names, format_actions};
    let name = format!("tun_metadata{n}");
    let names_it = |text: &str| {
        let mut rest = text;
        std::iter::from_fn(|| {
            let at = rest.find(&name)?;
            rest = &rest[at + name.len()..];
            Some(rest)
        })
        .any(|after| !after.starts_with(|c: char| c.is_ascii_digit()))
    };
    let uses = |rule: &crate::rule::Rule| {
        let matched = flow::fields::TunnelOptions::is_present(&rule.mini.mask().expand(), n);
        // Fields print as `tun_metadata0` or `NXM_NX_TUN_METADATA0`.
        matched || names_it(&format_actions(&rule.actions, &Names::default()).to_ascii_lowercase())
    };
    let used = bridge.tables.iter().any(|t| t.rules.read().expect("no holder of a table's rules panics").iter().any(|r| uses(r)));
    if used { Err(OfError::NxttmfcInvalidTlvDel) } else { Ok(()) }
}
