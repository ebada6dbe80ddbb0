//! Where a packet leaves the bridge: a datapath port, or a patch port's peer.

use super::tables::Lookup;
use super::trace::Kind;
use super::{Ctx, freeze, mask};
use crate::bridge::{Bridge, Bundle, Port, port_config};
use crate::deps::Object;
use crate::effects::Credit;
use crate::protocols::{Spanning, is_bpdu};
use crate::tunnel::PacketTypes;
use crate::world::BridgeId;
use flow::Action;
use flow::key::Key;
use openflow::{OfPort, TableId};
use std::sync::Arc;

/// Bits of `flow::action::SLOW_REASONS`.
pub(super) const SLOW_ACTION: u32 = 64;

/// What an output may change of a key, and the outputs after it must not see.
struct Layers {
    eth_src: [u8; 6],
    eth_dst: [u8; 6],
    eth_type: [u8; 2],
    packet_type: [u8; 4],
    nw_tos: u8,
}

impl Layers {
    fn of(key: &Key) -> Self {
        Self {
            eth_src: key.eth_src,
            eth_dst: key.eth_dst,
            eth_type: key.eth_type,
            packet_type: key.packet_type,
            nw_tos: key.nw_tos,
        }
    }

    fn restore(&self, key: &mut Key) {
        (key.eth_src, key.eth_dst) = (self.eth_src, self.eth_dst);
        (key.eth_type, key.packet_type, key.nw_tos) = (self.eth_type, self.packet_type, self.nw_tos);
    }
}

impl<'a> Ctx<'a> {
    /// Sends the packet out of a port of the bridge, as it is now. `last`: nothing needs the packet afterwards.
    pub(super) fn compose_output(&mut self, number: OfPort, last: bool) {
        let truncate = self.truncate.take();
        let hashed = self.hashed.take();
        let Some(port) = self.port(number) else {
            self.report(Kind::Warn, format_args!("Nonexistent output port"));
            return;
        };
        if !self.may_send(port) {
            return;
        }
        if port.peer.is_some() || port.tunnel.is_some() {
            // Into another packet or another bridge.
            self.spoil_alike();
        }
        let layers = self.strip_for(port);
        if let Some((bridge, peer)) = port.peer {
            if truncate.is_some() {
                self.report_error(format_args!("Cannot truncate output to patch port"));
            }
            self.through_patch(port, bridge, peer, last);
        } else if let Some(config) = &port.tunnel {
            self.output_to_tunnel(port, config, truncate, last);
            self.mirror_output(port);
        } else {
            self.output_to_device(port, truncate, hashed);
        }
        layers.restore(&mut self.key);
    }

    /// Sends the packet out of a port that the datapath has, or round by the tunnel that ends there.
    fn output_to_device(&mut self, port: &Port, truncate: Option<u32>, hashed: Option<super::members::Hashed>) {
        let Some(dp_port) = port.dp_port else {
            self.report(Kind::Warn, format_args!("Nonexistent output port"));
            return;
        };
        if let Some(max_len) = truncate {
            self.emit(Action::Trunc(max_len));
        }
        self.mark_by_queue(port);
        self.commit();
        if let Some(tunnel) = self.terminate(port) {
            self.emit(Action::TunnelPop(tunnel));
        } else {
            self.sample_ipfix(dp_port);
            if let Some(snaplen) = self.snaplen {
                self.emit(Action::Trunc(u32::from(snaplen)));
            }
            match hashed {
                Some(hashed) => self.output_hashed(hashed),
                None => self.emit(Action::Output(dp_port)),
            }
        }
        self.note_output(port);
        self.mirror_output(port);
    }

    /// A tunnel port that carries packets only takes the Ethernet header off. What that and the output itself change of the packet is
    /// put back afterwards.
    fn strip_for(&mut self, port: &Port) -> Layers {
        let layers = Layers::of(&self.key);
        let bare = port.tunnel.as_ref().is_some_and(|t| t.packet_types == PacketTypes::LegacyL3);
        if bare && self.key.packet_type == [0; 4] {
            self.key.packet_type = [0, 1, self.key.eth_type[0], self.key.eth_type[1]];
            if self.pending == super::Pending::Encap {
                // The header that it would take off was never put on.
                self.pending = super::Pending::Nothing;
            }
        }
        layers
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
        if !self.passes_gate(port) {
            return false;
        }
        let frames_only = match &port.tunnel {
            Some(tunnel) => tunnel.packet_types == PacketTypes::LegacyL2,
            None => port.dp_port.is_some(),
        };
        if frames_only && self.key.packet_type != [0; 4] {
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
        self.go_on_in(bridge, peer_port, last);
        self.credits.push(Credit::Tally(Arc::clone(&port.patch.tx)));
        self.credits.push(Credit::Tally(Arc::clone(&peer_port.patch.rx)));
    }

    /// Goes on in another bridge, as if the packet had come in by `peer_port` there.
    pub(super) fn go_on_in(&mut self, bridge: &'a Bridge, peer_port: &Port, last: bool) {
        self.deps.object(Object::Bridge(bridge.id));
        let (to, peer) = (bridge.id, peer_port.number);
        let (saved, mark) = (self.save(), self.mark());
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
        if !self.intercept(bridge, peer_port) && self.may_receive(peer_port) {
            self.run_beyond_patch(peer_port, last);
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
        self.end_copy(mark, last);
        self.restore(saved);
        // What goes wrong over there is no reason to drop the packet here; if nothing else becomes of it, it is why.
        if let Some(error) = self.error.take() {
            self.drop_reason.get_or_insert(error);
        }
    }

    /// Runs the tables of the bridge that a patch port leads to. Where spanning tree lets nothing pass, NORMAL and `learn` see the packet and
    /// that is all.
    fn run_beyond_patch(&mut self, port: &Port, last: bool) {
        let first =
            Lookup { may_packet_in: true, honor_miss: true, last, on_a_copy: true, ..Lookup::new(port.number, TableId(0)) };
        if port.watch.gate.forwards() {
            self.look_up_and_run(&first);
            self.end_list();
            return;
        }
        let (length, mirrors, mark) = (self.actions.len(), self.mirrors_done, self.mark());
        self.look_up_and_run(&first);
        self.go_back(mark);
        self.actions.truncate(length);
        self.mirrors_done = mirrors;
        self.freeze = None;
    }

    /// Whether spanning tree lets the packet leave by a port. Its own packets and those that watch links pass where others do not.
    fn passes_gate(&mut self, port: &Port) -> bool {
        let (gate, protocol) = match self.bridge.spanning {
            Spanning::None => return true,
            Spanning::Stp => (port.watch.gate, "STP"),
            Spanning::Rstp => (port.watch.gate, "RSTP"),
        };
        if is_bpdu(&self.base) {
            if !gate.sends_bpdus() {
                self.report(Kind::Warn, format_args!("STP not in listening state, skipping bpdu output"));
            }
            return gate.sends_bpdus();
        }
        let Self { key, mask, .. } = self;
        let watches_link =
            port.watch.cfm.is_some_and(|f| f.takes(key, mask)) || port.watch.bfd.is_some_and(|f| f.takes(key, mask));
        if !watches_link && !gate.forwards() {
            self.report(Kind::Warn, format_args!("{protocol} not in forwarding state, skipping output"));
        }
        watches_link || gate.forwards()
    }

    /// What of a packet's state does not cross from bridge to bridge.
    fn arrive(&mut self, peer: OfPort) {
        self.key.in_port = peer.to_key();
        self.key.metadata = [0; 8];
        self.key.regs = Key::ZERO.regs;
        self.key.actset_output = OfPort::UNSET.to_key();
        mask::clear_tunnel(&mut self.key);
        mask::clear_tunnel(&mut self.mask);
        self.written = mask::whole_tunnel();
        freeze::forget_connection(&mut self.key);
        self.conntracked = false;
        self.stack.clear();
        self.action_set.clear();
    }
}
