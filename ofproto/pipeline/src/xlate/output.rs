//! Output: to one port, to many, to a register's port, to controllers.

use super::Ctx;
use super::frozen::FrozenState;
use super::trace::Kind;
use crate::bridge::port_config;
use crate::deps::Object;
use crate::effects::XlateError;
use flow::Action;
use flow::action::{Cookie, Userspace};
use openflow::OfPort;
use openflow::action::{Controller, OfAction, Subfield};
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
        match port {
            OfPort::IN_PORT => self.compose_output(self.in_port(), last),
            OfPort::TABLE => self.lookup_and_run(self.in_port(), openflow::TableId(0), true, true, last),
            OfPort::NORMAL => self.normal(),
            OfPort::FLOOD => self.flood(false),
            OfPort::ALL => self.flood(true),
            OfPort::CONTROLLER => {
                let reason = self.output_reason();
                self.to_controller(&Controller {
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
                self.report(Kind::Detail, format_args!("skipping output to input port"));
            }
            _ => self.compose_output(port, last),
        }
    }

    /// OFPR_* for a packet that `output:CONTROLLER` sends.
    fn output_reason(&self) -> u8 {
        if self.in_packet_out {
            PACKET_OUT
        } else if self.in_group {
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
        match u32::try_from(port) {
            Ok(port) if port <= 0xffff => {
                self.report(Kind::Detail, format_args!("output port is {port}"));
                self.output(OfPort::from_key(port.to_be_bytes()), max_len, last);
            }
            _ => {
                self.report(Kind::Warn, format_args!("output port {port} is out of range"));
            }
        }
    }

    /// output(port=PORT,max_len=N)
    pub(super) fn output_truncated(&mut self, port: OfPort, max_len: u32, last: bool) {
        let port = if port == OfPort::IN_PORT { self.in_port() } else { port };
        match port {
            OfPort::TABLE | OfPort::NORMAL | OfPort::FLOOD | OfPort::ALL | OfPort::CONTROLLER | OfPort::ANY => {
                self.report(Kind::Error, format_args!("output_trunc does not support port {:#x}", port.0));
            }
            _ => {
                self.truncate = Some(max_len);
                self.compose_output(port, last);
                self.truncate = None;
            }
        }
    }

    /// To every port but the one the packet came in by; with `all` also to those that are not to be flooded to.
    pub(super) fn flood(&mut self, all: bool) {
        self.deps.object(Object::Ports(self.bridge.id));
        let in_port = self.in_port();
        let ports: Vec<OfPort> = self
            .bridge
            .ports
            .values()
            .filter(|p| p.number != in_port && (all || p.config & port_config::NO_FLOOD == 0))
            .map(|p| p.number)
            .collect();
        for port in ports {
            self.compose_output(port, false);
        }
    }

    /// A packet-in because a TTL ran out.
    pub(super) fn packet_in_with_reason(&mut self, reason: u8, controller_id: u16) {
        self.to_controller(&Controller {
            max_len: openflow::types::MAX_LEN_ALL,
            controller_id,
            reason,
            userdata: Vec::new(),
            pause: false,
            meter_id: u32::MAX,
        });
    }

    /// controller(...): the datapath sends the packet up, with the way to what the pipeline knows of it.
    pub(super) fn to_controller(&mut self, controller: &Controller) {
        self.commit();
        let miss_rule = self.rule.as_ref().is_some_and(|r| r.priority == 0 && r.mini.mask().expand() == flow::Key::ZERO);
        let reason = if controller.reason == ACTION && miss_rule { EXPLICIT_MISS } else { controller.reason };
        let mut state = self.frozen_state(Vec::new());
        state.actions.push(OfAction::Controller(Box::new(Controller { reason, ..controller.clone() })));
        if !controller.pause {
            // Nothing goes on from here: only what a packet-in tells is kept.
            state.stack.clear();
            state.action_set.clear();
        }
        let Some(held) = self.hold(state) else { return };
        let cookie = Cookie::Controller {
            reason,
            dont_send: false,
            continuation: controller.pause,
            recirc_id: held,
            rule_cookie: self.rule_cookie,
            controller_id: controller.controller_id,
            max_len: controller.max_len,
            bridge: self.bridge.id.0,
            ofp_in_port: self.in_port().0,
        };
        if let Some(meter) = self.bridge.meters.controller_meter(controller.meter_id) {
            self.emit(Action::Meter(meter));
        }
        self.emit(Action::Userspace(Box::new(Userspace { pid: 0, cookie, actions: false, tunnel_out_port: None })));
        if controller.pause {
            self.exit = true;
        }
    }

    // ---- freezing ----

    /// From here on actions are gathered, not run.
    pub(super) fn start_freezing(&mut self) {
        self.freezing = true;
    }

    /// Ends the frozen translation with `recirc`.
    pub(super) fn freeze_now(&mut self) {
        if self.error.is_some() {
            return;
        }
        self.commit();
        let actions = std::mem::take(&mut self.frozen_actions);
        let state = self.frozen_state(actions);
        if let Some(id) = self.hold(state) {
            self.emit(Action::Recirc(id));
        }
        self.freezing = false;
        self.was_mpls = false;
        self.exit = true;
    }

    /// The pipeline's state, to go on with `actions`.
    pub(super) fn frozen_state(&self, actions: Vec<OfAction>) -> FrozenState {
        FrozenState {
            bridge: self.bridge.id,
            table: self.table,
            metadata: FrozenState::metadata_of(&self.key),
            conntracked: self.conntracked,
            stack: self.stack.clone(),
            mirrors: self.mirrors_done,
            actions,
            action_set: self.action_set.clone(),
            rule_cookie: self.rule.as_ref().map_or(self.rule_cookie, |r| r.cookie.load(Ordering::Relaxed)),
        }
    }

    /// An id for a frozen state, held by this translation.
    pub(super) fn hold(&mut self, state: FrozenState) -> Option<u32> {
        let Some(held) = self.world.recircs.allocate(Arc::new(state)) else {
            self.fail(XlateError::OutOfRecircIds, format_args!("Failed to allocate recirculation id"));
            return None;
        };
        let id = held.id;
        self.recircs.push(held);
        Some(id)
    }
}
