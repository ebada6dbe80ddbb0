//! Where a packet leaves the bridge: a datapath port, or a patch port's peer.

use super::tables::Lookup;
use super::trace::Kind;
use super::{Ctx, freeze, mask};
use crate::bridge::{Bundle, Port, port_config};
use crate::deps::Object;
use crate::effects::Credit;
use crate::world::BridgeId;
use flow::Action;
use flow::key::Key;
use openflow::{OfPort, TableId};
use std::sync::Arc;

/// Bits of `flow::action::SLOW_REASONS`.
pub(super) const SLOW_ACTION: u32 = 64;

impl Ctx<'_> {
    /// Sends the packet out of a port of the bridge, as it is now. `last`: nothing needs the packet afterwards.
    pub(super) fn compose_output(&mut self, number: OfPort, last: bool) {
        let truncate = self.truncate.take();
        let Some(port) = self.port(number) else {
            self.report(Kind::Warn, format_args!("Nonexistent output port"));
            return;
        };
        if !self.may_send(port) {
            return;
        }
        if let Some((bridge, peer)) = port.peer {
            if truncate.is_some() {
                self.report_error(format_args!("Cannot truncate output to patch port"));
            }
            self.through_patch(port, bridge, peer, last);
            return;
        }
        let Some(dp_port) = port.dp_port else {
            self.report(Kind::Warn, format_args!("Nonexistent output port"));
            return;
        };
        if let Some(max_len) = truncate {
            self.emit(Action::Trunc(max_len));
        }
        let before = (self.key.eth_src, self.key.eth_dst, self.key.nw_tos);
        self.mark_by_queue(port);
        self.commit();
        self.sample_ipfix(dp_port);
        if let Some(snaplen) = self.snaplen {
            self.emit(Action::Trunc(u32::from(snaplen)));
        }
        self.emit(Action::Output(dp_port));
        self.note_output(port);
        (self.key.eth_src, self.key.eth_dst, self.key.nw_tos) = before;
        self.mirror_output(port);
    }

    /// `Queue.dscp`: packets of a queue leave with that mark.
    fn mark_by_queue(&mut self, port: &Port) {
        const DSCP: u8 = 0xfc;
        let Some(bundle) = self.bridge.bundle_of(port.number).filter(|b| !b.queue_dscp.is_empty()) else { return };
        self.mask.skb_priority = [0xff; 4];
        let queue = u32::from_be_bytes(self.key.skb_priority);
        let dscp = bundle.queue_dscp.iter().find(|(q, _)| *q == queue).map(|(_, dscp)| *dscp);
        if let Some(dscp) = dscp.filter(|_| matches!(self.key.eth_type, [0x08, 0x00] | [0x86, 0xdd])) {
            self.mask.nw_tos |= DSCP;
            self.key.nw_tos = self.key.nw_tos & !DSCP | dscp << 2;
        }
    }

    fn may_send(&mut self, port: &Port) -> bool {
        if port.config & port_config::NO_FWD != 0 {
            self.report(Kind::Detail, format_args!("OFPPC_NO_FWD set, skipping output"));
            return false;
        }
        if self.snaplen.is_some() && port.dp_port.is_none() {
            self.report(Kind::Warn, format_args!("Mirror truncate to ODPP_NONE, skipping output"));
            return false;
        }
        if self.is_between_protected(port) {
            self.report(Kind::Warn, format_args!("Flow is between protected ports, skipping output."));
            return false;
        }
        if self.key.packet_type != [0; 4] {
            self.report(Kind::Warn, format_args!("Trying to send non-Ethernet packet through legacy L2 port. Dropping packet."));
            return false;
        }
        true
    }

    fn is_between_protected(&mut self, to: &Port) -> bool {
        let in_port = self.in_port();
        self.deps.object(Object::Port(self.bridge.id, in_port));
        let protected = |bundle: Option<&Bundle>| bundle.is_some_and(|b| b.protected);
        protected(self.bridge.bundle_of(in_port)) && protected(self.bridge.bundle_of(to.number))
    }

    /// Into the bridge at the other end of a patch port. What happens there is undone for what comes after here.
    fn through_patch(&mut self, port: &Port, to: BridgeId, peer: OfPort, last: bool) {
        self.deps.object(Object::Port(to, peer));
        self.deps.object(Object::Bridge(to));
        let Some(bridge) = self.world.bridges.get(&to) else { return };
        let Some(peer_port) = bridge.ports.get(&peer) else { return };
        let saved = self.save();
        let tunnel_mask = self.mask;
        let (rule, cookie, table) = (self.rule.clone(), self.rule_cookie, self.table);
        let mirrors = self.mirrors_done;
        let snaplen = self.snaplen.take();
        let in_bucket = std::mem::take(&mut self.in_bucket);
        let in_action_set = std::mem::take(&mut self.in_action_set);
        self.arrive(peer);
        let name = bridge.name.as_str();
        let node = self.report(Kind::Bridge, format_args!("bridge(\"{name}\")"));
        let before = self.enter(node);
        let from = std::mem::replace(&mut self.bridge, bridge);
        let independent = from.id != to;
        if independent {
            self.mirrors_done = 0;
        }
        if self.may_receive(peer_port) {
            let first = Lookup { may_packet_in: true, honor_miss: true, last, on_a_copy: true, ..Lookup::new(peer, TableId(0)) };
            self.look_up_and_run(&first);
            self.end_list();
        }
        self.enter(before);
        self.bridge = from;
        if independent {
            self.mirrors_done = mirrors;
        }
        mask::copy_tunnel(&mut self.mask, &tunnel_mask);
        (self.rule, self.rule_cookie, self.table) = (rule, cookie, table);
        self.snaplen = snaplen;
        self.in_bucket = in_bucket;
        self.in_action_set = in_action_set;
        self.restore(saved);
        // What goes wrong over there is no reason to drop the packet here.
        self.error = None;
        self.credits.push(Credit::Tally(Arc::clone(&port.patch.tx)));
        self.credits.push(Credit::Tally(Arc::clone(&peer_port.patch.rx)));
    }

    /// What of a packet's state does not cross from bridge to bridge.
    fn arrive(&mut self, peer: OfPort) {
        self.key.in_port = peer.to_key();
        self.key.metadata = [0; 8];
        self.key.regs = Key::ZERO.regs;
        self.key.actset_output = OfPort::UNSET.to_key();
        mask::clear_tunnel(&mut self.key);
        mask::clear_tunnel(&mut self.mask);
        freeze::forget_connection(&mut self.key);
        self.conntracked = false;
        self.stack.clear();
        self.action_set.clear();
    }
}
