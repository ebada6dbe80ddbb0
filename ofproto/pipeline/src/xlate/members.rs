//! Bonds and the link protocols' own packets, as far as translation meets them.
//!
//! A packet of a protocol goes to its machine and nowhere else. A packet for a bond leaves by one member; with balance-tcp the datapath hashes
//! it and comes back to a lookup in the internal table, or has a table of its own.

use super::Ctx;
use super::trace::Kind;
use super::vlan::Tags;
use crate::bond::Verdict;
use crate::bridge::{Bridge, Bundle, Port};
use crate::deps::{MacKey, Object};
use crate::effects::Credit;
use crate::protocols::{Arrival, Special};
use flow::Action;
use flow::action::HashAlg;
use openflow::OfPort;

/// How a packet gets to the members of a bond whose packets the datapath hashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hashed {
    recirc_id: u32,
    basis: u32,
    lb_output: bool,
}

impl Ctx<'_> {
    /// Whether a packet that came in by a port is one of a link protocol's, which then has had it.
    pub(super) fn intercept(&mut self, bridge: &Bridge, port: &Port) -> bool {
        self.deps.object(Object::Port(bridge.id, port.number));
        if port.watch.bfd.is_some() {
            self.credits.push(Credit::Traffic { bridge: bridge.id, port: port.number });
        }
        let Some(special) = Special::of(&port.watch, bridge.spanning, &self.key, &mut self.mask) else { return false };
        self.slow |= special.slow_bit();
        if let Some(packet) = self.packet.filter(|_| self.side_effects) {
            let Self { world, key, now, .. } = self;
            special.receive(&Arrival { world, bridge, port, packet, key, now: *now });
        }
        true
    }

    /// Whether a bond takes a packet that came in by one of its members.
    pub(super) fn is_admitted_by_bond(&mut self, bundle: &Bundle, in_port: OfPort, vlan: u16) -> bool {
        if bundle.ports.len() < 2 {
            return true;
        }
        self.deps.object(Object::Bundle(self.bridge.id, bundle.id));
        let verdict = {
            let machines = self.bridge.protocols.lock();
            machines.bonds.get(&bundle.id).map(|b| b.bond.admits(in_port, self.key.eth_dst))
        };
        match verdict {
            None | Some(Verdict::Accept) => true,
            Some(Verdict::Drop) => {
                self.report(Kind::Detail, format_args!("bonding refused admissibility, dropping"));
                false
            }
            Some(Verdict::DropIfMoved) => !self.has_moved(bundle, vlan),
        }
    }

    /// Whether the source was learned on another port, and not because a host has announced that it moved.
    fn has_moved(&mut self, bundle: &Bundle, vlan: u16) -> bool {
        let mac = self.key.eth_src;
        self.deps.object(Object::Mac(MacKey { bridge: self.bridge.id, vlan, mac }));
        let Some(entry) = self.bridge.macs.lookup(vlan, mac).filter(|e| e.bundle != bundle.id) else { return false };
        let moved = !self.is_gratuitous_arp() || entry.locked_until_ms > self.now;
        if moved {
            self.report(Kind::Detail, format_args!("SLB bond thinks this packet looped back, dropping"));
        }
        moved
    }

    /// The interface of a bundle that the packet leaves by. Of a bond `hashed` says whether the datapath chooses instead.
    pub(super) fn member_for(&mut self, to: &Bundle, tags: &Tags) -> Option<(OfPort, Option<Hashed>)> {
        match to.ports[..] {
            [] => return None,
            [only] => {
                self.deps.object(Object::Port(self.bridge.id, only));
                return Some((only, None));
            }
            [_, _, ..] => self.deps.object(Object::Bundle(self.bridge.id, to.id)),
        }
        let mut machines = self.bridge.protocols.lock();
        let bond = &mut machines.bonds.get_mut(&to.id)?.bond;
        let hashed = bond.recirculation();
        let hashed = hashed.map(|(recirc_id, lb_output)| Hashed { recirc_id, basis: bond.basis(), lb_output });
        // What the datapath hashes need not be matched.
        let mask = if hashed.is_some() { None } else { Some(&mut self.mask) };
        let chosen = bond.output(&self.key, mask, tags[0].vid);
        drop(machines);
        let Some((port, bucket)) = chosen else {
            self.report(Kind::Detail, format_args!("no member of {} is enabled, dropping", to.name));
            return None;
        };
        self.deps.object(Object::Port(self.bridge.id, port));
        if let (None, Some(bucket)) = (hashed, bucket) {
            self.credits.push(Credit::Bond { bridge: self.bridge.id, bundle: to.id, bucket });
        }
        Some((port, hashed))
    }

    /// Leaves the choice of the member to the datapath.
    pub(super) fn output_hashed(&mut self, hashed: Hashed) {
        let Hashed { recirc_id, basis, lb_output } = hashed;
        if lb_output {
            self.emit(Action::LbOutput(recirc_id));
            return;
        }
        if let Some(held) = self.world.recircs.find(recirc_id) {
            self.recircs.push(held);
        }
        self.emit(Action::Hash { alg: HashAlg::L4, basis });
        self.emit(Action::Recirc(recirc_id));
    }
}
