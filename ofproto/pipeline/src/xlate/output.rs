//! Output: to one port, to many, to a register's port, to controllers.

use super::Ctx;
use super::frozen::FrozenState;
use super::tables::Lookup;
use super::trace::Kind;
use crate::bridge::port_config;
use crate::deps::Object;
use flow::Action;
use flow::action::{Cookie, Userspace};
use openflow::OfPort;
use openflow::TableId;
use openflow::action::{Controller, Subfield};

/// OFPR_ACTION and its kin.
const ACTION: u8 = 1;
const ACTION_SET: u8 = 3;
const GROUP: u8 = 4;
const PACKET_OUT: u8 = 5;
/// OVS's own: sent by an action of a table-miss rule (priority 0, matches all); OpenFlow 1.3+ calls it NO_MATCH.
const EXPLICIT_MISS: u8 = 6;

impl Ctx<'_> {
    /// output:PORT
    pub(super) fn output(&mut self, port: OfPort, max_len: u16, last: bool) {
        self.with_netflow_output(|ctx| ctx.output_to(port, max_len, last));
    }

    fn output_to(&mut self, port: OfPort, max_len: u16, last: bool) {
        match port {
            OfPort::IN_PORT => self.compose_output(self.in_port(), last),
            OfPort::TABLE => {
                let in_port = self.in_port();
                let lookup = Lookup { may_packet_in: true, honor_miss: true, ..Lookup::new(in_port, TableId(0)) };
                self.look_up_and_run(&lookup);
            }
            OfPort::NORMAL => self.normal(),
            OfPort::FLOOD => self.flood(false, last),
            OfPort::ALL => self.flood(true, last),
            OfPort::CONTROLLER => {
                let reason = self.output_reason();
                self.send_to_controller(&Controller {
                    max_len,
                    controller_id: 0,
                    reason,
                    userdata: Vec::new(),
                    pause: false,
                    meter_id: u32::MAX,
                });
            }
            OfPort::ANY | OfPort::UNSET => {}
            _ if port == self.in_port() => {
                self.report_info(format_args!("skipping output to input port"));
            }
            _ => self.compose_output(port, last),
        }
    }

    /// OFPR_* for a packet that `output:CONTROLLER` sends.
    fn output_reason(&self) -> u8 {
        if self.in_packet_out {
            PACKET_OUT
        } else if self.in_bucket {
            GROUP
        } else if self.in_action_set {
            ACTION_SET
        } else {
            ACTION
        }
    }

    /// output:FIELD[a..b]
    pub(super) fn output_register(&mut self, src: Subfield, max_len: u16, last: bool) {
        let port = self.read(src);
        match u16::try_from(port) {
            Ok(port) => {
                self.report(Kind::Detail, format_args!("output port is {port}"));
                self.output(OfPort::from_key(u32::from(port).to_be_bytes()), max_len, last);
            }
            Err(_) => {
                self.report(Kind::Warn, format_args!("output port {port} is out of range"));
            }
        }
    }

    /// output(port=PORT,max_len=N)
    pub(super) fn output_truncated(&mut self, port: OfPort, max_len: u32, last: bool) {
        let name = flow::oftext::format_port(u32::from_be_bytes(port.to_key()), &flow::forms::NoNames);
        match port {
            OfPort::TABLE | OfPort::NORMAL | OfPort::FLOOD | OfPort::ALL | OfPort::CONTROLLER | OfPort::ANY => {
                self.report(Kind::Warn, format_args!("output_trunc does not support port: {name}"));
            }
            _ if port == self.in_port() => {
                self.report_info(format_args!("skipping output to input port"));
            }
            _ => {
                let to = if port == OfPort::IN_PORT { self.in_port() } else { port };
                if self.port(to).is_none_or(|p| p.dp_port.is_none()) {
                    self.report_error(format_args!("output_trunc does not support patch port {name}"));
                    return;
                }
                self.truncate = Some(max_len);
                self.compose_output(to, last);
                self.truncate = None;
            }
        }
    }

    /// To every port but the one the packet came in by; with `all` also to those that are not to be flooded to.
    fn flood(&mut self, all: bool, last: bool) {
        self.deps.object(Object::Ports(self.bridge.id));
        let in_port = self.in_port();
        let flooded = |p: &&crate::bridge::Port| p.number != in_port && (all || p.config & port_config::NO_FLOOD == 0);
        // The local port first, then by number.
        let (local, others): (Vec<OfPort>, Vec<OfPort>) =
            self.bridge.ports.values().filter(flooded).map(|p| p.number).partition(|p| *p == OfPort::LOCAL);
        let mut ports = local.into_iter().chain(others).peekable();
        while let Some(port) = ports.next() {
            self.compose_output(port, last && ports.peek().is_none());
        }
        self.note_flood();
    }

    /// A packet-in because a TTL ran out.
    pub(super) fn packet_in_with_reason(&mut self, reason: u8, controller_id: u16) {
        self.send_to_controller(&Controller {
            max_len: openflow::types::MAX_LEN_ALL,
            controller_id,
            reason,
            userdata: Vec::new(),
            pause: false,
            meter_id: u32::MAX,
        });
    }

    /// controller(...): the datapath sends the packet up, with the way to what the pipeline knows of it.
    pub(super) fn send_to_controller(&mut self, controller: &Controller) {
        self.commit();
        let state = FrozenState { userdata: controller.userdata.clone(), ..self.frozen_state() };
        let Some(id) = self.hold(state) else { return };
        let miss_rule = self.rule.as_ref().is_some_and(|r| r.priority == 0 && r.mini.mask().expand() == flow::Key::ZERO);
        let reason = if controller.reason == ACTION && miss_rule { EXPLICIT_MISS } else { controller.reason };
        self.emit_to_controller(&Controller { reason, ..controller.clone() }, id);
    }

    /// The datapath action that sends the packet up, limited by a meter if there is one for it.
    pub(super) fn emit_to_controller(&mut self, controller: &Controller, recirc_id: u32) {
        let cookie = Cookie::Controller {
            reason: controller.reason,
            dont_send: !controller.pause && self.is_dry(),
            continuation: controller.pause,
            recirc_id,
            rule_cookie: self.rule_cookie,
            controller_id: controller.controller_id,
            max_len: controller.max_len,
            bridge: self.bridge.id.0,
            ofp_in_port: self.in_port().0,
        };
        let up = Action::Userspace(Box::new(Userspace { pid: 0, cookie, actions: false, tunnel_out_port: None }));
        self.deps.object(Object::Meters(self.bridge.id));
        match self.bridge.meters.controller_meter(controller.meter_id) {
            Some(meter) => self.emit(Action::Sample { probability: u32::MAX, actions: vec![Action::Meter(meter), up] }),
            None => self.emit(up),
        }
    }
}
