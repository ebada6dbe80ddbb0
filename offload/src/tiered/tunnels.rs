//! Tunnels in hardware: which megaflows let packets in, which rules stand and fall with them, and which ways there have to be known.
//!
//! What enters: megaflows that come and go, plans. What leaves: the entry of a rule, or a refusal; the ends of tunnels. Neighbours: `state`,
//! `plan::outer` (the other direction, encapsulation).
//!
//! # What holds
//!
//! - Software takes a header off by a megaflow of an uplink (`tnl_pop`), and goes on with another whose port is the tunnel. Hardware does both
//!   by the second one's rule, on the tunnel's device. So that rule is there only while an entry is: a megaflow whose only action is `tnl_pop`
//!   into that tunnel, and of whose match nothing is left when the rule has said its part (outer addresses, ports, type of service, TTL).
//! - What an entry matched of the outer Ethernet header is taken for granted: tc has no key for it (decision 0081).
//! - When its entry changes or goes, a rule is out of hardware before the call returns.
//! - What a rule counts counts for its entry, too, with the bytes of the outer header.

use super::state::State;
use super::{Home, Tiered};
use crate::capabilities::{Capabilities, Ends, PortKind, TunnelKind};
use crate::hardware::{Hardware, HwStats};
use crate::plan::{Plan, outer};
use crate::refusal::{Reason, Refusal};
use crate::rule::Act;
use flow::action::Action;
use flow::hash::{Map, Set};
use flow::key::{Key, Mask, VLAN_CFI};
use flow::wire::{eth_type, ip_proto};
use flow::{Datapath, DpPort, Megaflow, Msec, Ufid};
use std::sync::Arc;

/// Ends of tunnels whose ways are asked for at most; megaflows to others stay in software.
const ENDS_MAX: usize = 16_384;
/// Bytes of Ethernet, UDP, and VXLAN or Geneve headers; of the IP headers.
const OUTER_BYTES: u64 = 14 + 8 + 8;
const IPV4_BYTES: u64 = 20;
const IPV6_BYTES: u64 = 40;

/// What is known of tunnels.
#[derive(Debug, Default)]
pub(super) struct Tunnels {
    entries: Map<DpPort, Map<Ufid, Arc<Megaflow>>>,
    at: Map<Ufid, DpPort>,
    /// The entry of each rule that is in hardware, and the bytes of its outer header.
    through: Map<Ufid, Entry>,
    riders: Map<Ufid, Set<Ufid>>,
    /// The other ends of encapsulating megaflows, and by how many each is wanted.
    ends: Map<Ufid, Vec<Ends>>,
    wanted: Map<Ends, usize>,
}

/// By which megaflow packets come into a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    ufid: Ufid,
    outer_bytes: u64,
}

impl Tunnels {
    /// Takes note of a megaflow; whether it lets packets into a tunnel.
    pub(super) fn put(&mut self, flow: &Megaflow) -> bool {
        self.del(flow.ufid);
        let mut ends = Vec::new();
        outer::ends_of(&flow.actions, &mut ends);
        if !ends.is_empty() {
            ends.retain(|end| self.wanted.contains_key(end) || self.wanted.len() < ENDS_MAX);
            ends.iter().for_each(|end| *self.wanted.entry(*end).or_default() += 1);
            self.ends.insert(flow.ufid, ends);
        }
        let [Action::TunnelPop(tunnel)] = flow.actions.as_slice() else { return false };
        self.at.insert(flow.ufid, *tunnel);
        self.entries.entry(*tunnel).or_default().insert(flow.ufid, Arc::new(flow.clone()));
        true
    }

    /// Forgets one. Its rules are out of hardware already.
    pub(super) fn del(&mut self, ufid: Ufid) {
        for end in self.ends.remove(&ufid).unwrap_or_default() {
            if let Some(users) = self.wanted.get_mut(&end) {
                *users -= 1;
                if *users == 0 {
                    self.wanted.remove(&end);
                }
            }
        }
        let Some(tunnel) = self.at.remove(&ufid) else { return };
        if let Some(entries) = self.entries.get_mut(&tunnel) {
            entries.remove(&ufid);
            if entries.is_empty() {
                self.entries.remove(&tunnel);
            }
        }
    }

    /// By which megaflow the packets of a plan come into their tunnel; `None` if they come out of none.
    ///
    /// # Errors
    /// If there is no such megaflow.
    pub(super) fn entry(&self, plan: &Plan, can: &Capabilities) -> Result<Option<Entry>, Refusal> {
        if plan.rule.tunnel.is_none() {
            return Ok(None);
        }
        let port = plan.rule.port;
        let Some(PortKind::Tunnel(kind)) = can.ports.get(&port).copied() else {
            return Err(Refusal::of_port(Reason::InPort, port));
        };
        let mut entries = self.entries.get(&port).into_iter().flatten();
        let fits = |(_, entry): &(&Ufid, &Arc<Megaflow>)| enters(entry, plan, kind) && is_of_switch(entry, plan, can);
        let (ufid, _) = entries.find(fits).ok_or_else(|| Refusal::of_port(Reason::TunnelEntry, port))?;
        Ok(Some(Entry { ufid: *ufid, outer_bytes: outer_bytes(&plan.flow.key) }))
    }

    /// A rule is in hardware.
    pub(super) fn bind(&mut self, rule: Ufid, entry: Entry) {
        self.unbind(rule);
        self.through.insert(rule, entry);
        self.riders.entry(entry.ufid).or_default().insert(rule);
    }

    /// A rule is so no longer.
    pub(super) fn unbind(&mut self, rule: Ufid) {
        let Some(entry) = self.through.remove(&rule) else { return };
        if let Some(riders) = self.riders.get_mut(&entry.ufid) {
            riders.remove(&rule);
            if riders.is_empty() {
                self.riders.remove(&entry.ufid);
            }
        }
    }

    /// Rules whose packets come in by an entry.
    pub(super) fn riders(&self, ufid: Ufid) -> impl Iterator<Item = Ufid> {
        self.riders.get(&ufid).into_iter().flatten().copied()
    }

    /// What a rule has counted, as its entry would have.
    pub(super) fn outer(&self, rule: Ufid, counted: HwStats) -> Option<(Ufid, HwStats)> {
        let Entry { ufid, outer_bytes } = *self.through.get(&rule)?;
        Some((ufid, HwStats { packets: counted.packets, bytes: counted.bytes + counted.packets * outer_bytes }))
    }

    /// The ends whose ways have to be known, in order.
    pub(super) fn wanted(&self) -> Vec<Ends> {
        let mut all: Vec<Ends> = self.wanted.keys().copied().collect();
        all.sort_unstable();
        all
    }

    /// Every megaflow is gone.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Bytes that the outer header of a packet with these tunnel fields has.
fn outer_bytes(key: &Key) -> u64 {
    let ip = if key.tun_ipv6_dst == [0; 16] { IPV4_BYTES } else { IPV6_BYTES };
    OUTER_BYTES + ip + u64::from(key.tun_metadata_present[7])
}

/// Whether every packet that a rule takes out of its tunnel would have come in by this megaflow, as far as tc can tell packets apart.
fn enters(entry: &Megaflow, plan: &Plan, kind: TunnelKind) -> bool {
    let (key, mut left) = (&*entry.key, entry.mask.clone());
    let (inner, said) = (&*plan.flow.key, &*plan.flow.mask);
    macro_rules! says {
        ($($outer:ident as $tunnel:ident),*) => { $(
            let same = |((k, m), (ik, im)): ((&u8, &u8), (&u8, &u8))| m & !im == 0 && (k ^ ik) & m == 0;
            if key.$outer.iter().zip(&left.$outer).zip(inner.$tunnel.iter().zip(&said.$tunnel)).all(same) {
                left.$outer.fill(0);
            }
        )* };
    }
    says!(nw_src as tun_src, nw_dst as tun_dst, ipv6_src as tun_ipv6_src, ipv6_dst as tun_ipv6_dst);
    says!(tp_src as tun_tp_src, tp_dst as tun_tp_dst);
    let byte = |(k, m): (u8, u8), (ik, im): (u8, u8)| m & !im == 0 && (k ^ ik) & m == 0;
    if byte((key.nw_tos, left.nw_tos), (inner.tun_tos, said.tun_tos)) {
        left.nw_tos = 0;
    }
    if byte((key.nw_ttl, left.nw_ttl), (inner.tun_ttl, said.tun_ttl)) {
        left.nw_ttl = 0;
    }
    is_tunnelled(key, &left, inner, kind) && strike_rest(key, &mut left)
}

/// Whether the entry's packets are of the tunnel's protocol, and none that hardware would not look into.
fn is_tunnelled(key: &Key, mask: &Mask, inner: &Key, kind: TunnelKind) -> bool {
    let ty = if inner.tun_ipv6_dst == [0; 16] { eth_type::IPV4 } else { eth_type::IPV6 };
    let proto = match kind {
        TunnelKind::Vxlan | TunnelKind::Geneve => ip_proto::UDP,
        TunnelKind::Gre => ip_proto::GRE,
    };
    let untagged = u16::from_be_bytes(key.vlan_tci) & u16::from_be_bytes(mask.vlan_tci) & VLAN_CFI == 0;
    key.eth_type == ty.to_be_bytes() && key.nw_proto == proto && key.nw_frag & mask.nw_frag == 0 && untagged
}

/// Strikes out what is true of every packet of a tunnel that comes by an uplink, and the outer Ethernet addresses; whether that was all.
fn strike_rest(key: &Key, left: &mut Mask) -> bool {
    (left.in_port, left.recirc_id, left.packet_type, left.eth_type) = ([0; 4], [0; 4], [0; 4], [0; 2]);
    (left.eth_src, left.eth_dst, left.vlan_tci, left.vlan_tpid) = ([0; 6], [0; 6], [0; 2], [0; 2]);
    (left.vlan2_tci, left.vlan2_tpid, left.nw_proto, left.nw_frag) = ([0; 2], [0; 2], 0, 0);
    crate::plan::matching::nought(key, left);
    *left == Key::ZERO
}

/// Whether an entry stands on an uplink of the eSwitch that a rule's outputs are on.
fn is_of_switch(entry: &Megaflow, plan: &Plan, can: &Capabilities) -> bool {
    let port = super::in_port(entry);
    let Some(PortKind::Switch(switch)) = can.ports.get(&port).filter(|_| can.uplinks.contains(&port)) else { return false };
    plan.rule.acts.iter().all(|act| {
        let Act::Output { port, .. } = act else { return true };
        match can.ports.get(port) {
            Some(PortKind::Switch(other)) => other == switch,
            Some(PortKind::Internal) => true,
            Some(PortKind::Tunnel(_)) | None => false,
        }
    })
}

impl<D: Datapath, H: Hardware> Tiered<D, H> {
    /// The ends of tunnels whose ways (`Capabilities::ways`) would let megaflows into hardware.
    pub fn tunnel_ends(&self) -> Vec<Ends> {
        self.state().tunnels.wanted()
    }

    /// Entries change or go: so do the rules whose packets come in by them.
    pub(super) fn close_entries(&self, state: &mut State, entries: &[Ufid], now: Msec) {
        let rules: Vec<Ufid> = entries.iter().flat_map(|entry| state.tunnels.riders(*entry)).collect();
        if rules.is_empty() {
            return;
        }
        self.take_out(state, &rules, &Refusal::new(Reason::TunnelEntry, ""), now);
        self.drop_refused(state, &rules, now);
    }

    /// An entry has come: those that waited for one are due.
    pub(super) fn open_entries(state: &mut State, now: Msec) {
        state.hasten(now, usize::MAX, |reason| reason == Reason::TunnelEntry);
        state.connected.stale = true;
    }

    /// The rules of a connection or a tunnel that a megaflow's packets pass, as `dump-flows` tells it.
    pub(super) fn beside(state: &State, ufid: Ufid) -> String {
        let there = |rule: &Ufid| state.entries.get(rule).is_some_and(|e| e.home == Home::Hardware);
        let connections = state.connected.riders(ufid).filter(there).count();
        let tunnelled = state.tunnels.riders(ufid).filter(there).count();
        let mut out = String::new();
        for (n, word) in [(connections, "connections"), (tunnelled, "tunnelled")].into_iter().filter(|(n, _)| *n > 0) {
            out += &format!("+{word}({n})");
        }
        out
    }
}
