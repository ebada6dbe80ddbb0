//! Carrying out actions, on all packets of a bundle at a time.
//!
//! What enters: a bundle of packets that share a list of actions. What leaves: packets to `outlets` and `upcall`, or round again through
//! `forward`. Neighbours: `edit` (headers), `tunnel`, `meter`.
//!
//! `run` owns its bundle: whatever is in it at the end of the list is freed. Therefore the last action takes the packets themselves,
//! and any other that gives packets away (output, clone, recirculation) takes copies. Lists are nested at most `NESTING_MAX` deep
//! (checked when they are put), packets go round at most `RECIRC_MAX` times (checked here).

use crate::after_ct::Sure;
use crate::bundle::{BUNDLE_MAX, Bundle};
use crate::counters::{
    self, DROP_INVALID_BOND, DROP_INVALID_PORT, DROP_METER, DROP_NO_BUFFER, DROP_RECIRC, DROP_TTL, DROP_UNSUPPORTED,
    DROP_USERSPACE_ACTION,
};
use crate::ct::fragments::Taken;
use crate::edit;
use crate::forward::{Core, Scope};
use crate::meter::Judged;
use crate::parsed::Parsed;
use crate::slots::Entry;
use crate::stats::add;
use crate::tunnel_pop::Decap;
use crate::{tunnel, tunnel_common, tunnel_pop};
use flow::DpPort;
use flow::action::{Action, Ct, HashAlg, TunnelPush, Userspace};
use flow::extract::PacketMeta;
use flow::flow_hash::{hash_5tuple, hash_sym_l4};
use flow::key::Lines;
use flow::seam::{Upcall, UpcallKind};
use port::{GsoKind, Packet};
use std::sync::Arc;

/// How often a packet may go round (OVS: MAX_RECIRC_DEPTH).
pub const RECIRC_MAX: u32 = 8;

impl Core {
    /// Carries out `actions` on the packets of `bundle`, and frees what is left of them.
    pub fn run(&mut self, scope: Scope<'_>, mut bundle: Box<Bundle>, actions: &[Action]) {
        if actions.is_empty() {
            counters::DROP_PIPELINE.add(bundle.packets.len() as u64);
        }
        for (i, action) in actions.iter().enumerate() {
            if bundle.packets.is_empty() {
                break;
            }
            let rest = &actions[i + 1..];
            bundle = match self.step(scope, bundle, action, rest) {
                Some(bundle) => bundle,
                None => return,
            };
        }
        self.spares.give(bundle);
    }

    /// One action. `None` when the bundle was given away, which only the last action does.
    fn step(&mut self, scope: Scope<'_>, mut bundle: Box<Bundle>, action: &Action, rest: &[Action]) -> Option<Box<Bundle>> {
        if bundle.fresh.is_some() && !matches!(action, Action::Output(_) | Action::Trunc(_)) {
            bundle.refresh(scope.shared.live.vlan_limit());
        }
        match action {
            Action::Output(port) => self.output(&mut bundle, port.0, rest.is_empty()),
            Action::Userspace(to) => self.userspace(scope, &mut bundle, to, rest),
            Action::Set(field) => edit::set(&mut bundle, field),
            Action::PushVlan { .. }
            | Action::PopVlan
            | Action::PushMpls { .. }
            | Action::AddMpls { .. }
            | Action::PopMpls { .. }
            | Action::PushEth { .. }
            | Action::PopEth
            | Action::PushNsh(_)
            | Action::PopNsh
            | Action::PushPbb { .. }
            | Action::PopPbb
            | Action::CopyTtl { .. } => edit::change(&mut bundle, action),
            Action::Hash { alg, basis } => hash(&mut bundle, *alg, *basis, scope.shared.live.vlan_limit()),
            Action::Trunc(max_len) => bundle.cut = *max_len,
            Action::Meter(id) => self.meter(scope, &mut bundle, *id),
            Action::DecTtl { exceeded } => self.dec_ttl(scope, &mut bundle, exceeded),
            Action::Drop(reason) => {
                counters::of_drop_reason(*reason).add(bundle.packets.len() as u64);
                bundle.packets.clear();
            }
            Action::TunnelPush(push) => self.tunnel_push(scope, &mut bundle, push, rest),
            Action::Recirc(id) => {
                let own = self.own_or_copy(bundle, rest.is_empty());
                self.recirculate(scope, own.0, *id, None);
                return own.1;
            }
            Action::TunnelPop(port) => {
                let own = self.own_or_copy(bundle, rest.is_empty());
                self.tunnel_pop(scope, own.0, *port);
                return own.1;
            }
            Action::Clone(actions) => {
                let own = self.own_or_copy(bundle, rest.is_empty());
                self.run(scope, own.0, actions);
                return own.1;
            }
            Action::Sample { probability, actions } => {
                let mut own = self.own_or_copy(bundle, rest.is_empty());
                if *probability != u32::MAX {
                    own.0.split(|_, _| self.chance(*probability), None);
                }
                self.run(scope, own.0, actions);
                return own.1;
            }
            Action::CheckPktLen { size, greater, less_equal } => {
                let mut own = self.own_or_copy(bundle, rest.is_empty());
                let mut long = self.spares.take_like(&own.0);
                own.0.split(|_, packet| wire_len(packet) <= usize::from(*size), Some(&mut long));
                self.run_some(scope, long, greater);
                self.run_some(scope, own.0, less_equal);
                return own.1;
            }
            Action::Ct(ct) => return Some(self.track(scope, bundle, ct, rest)),
            Action::CtClear => crate::ct::track::clear(&mut bundle),
            // Refused when put; they can only come here through `execute`, which checks as well.
            Action::LbOutput(bond) => self.output_balanced(scope, &mut bundle, *bond, rest.is_empty()),
            Action::Psample { .. } => {
                DROP_UNSUPPORTED.add(bundle.packets.len() as u64);
                bundle.packets.clear();
            }
        }
        Some(bundle)
    }

    fn run_some(&mut self, scope: Scope<'_>, bundle: Box<Bundle>, actions: &[Action]) {
        if bundle.packets.is_empty() {
            self.spares.give(bundle);
        } else {
            self.run(scope, bundle, actions);
        }
    }

    /// The bundle itself if nobody needs it afterwards, otherwise a copy and the bundle.
    fn own_or_copy(&mut self, bundle: Box<Bundle>, last: bool) -> (Box<Bundle>, Option<Box<Bundle>>) {
        if last {
            return (bundle, None);
        }
        let mut copy = self.spares.take_like(&bundle);
        for (packet, parsed) in bundle.packets.iter().zip(&bundle.parsed) {
            match packet.duplicate() {
                Some(packet) => copy.push(packet, parsed),
                None => DROP_NO_BUFFER.inc(),
            }
        }
        (copy, Some(bundle))
    }

    fn output(&mut self, bundle: &mut Bundle, port: u32, last: bool) {
        let cut = std::mem::replace(&mut bundle.cut, u32::MAX) as usize;
        if last {
            for packet in bundle.packets.iter_mut() {
                truncate(packet, cut);
            }
            return self.outlets.send_all(port, &mut bundle.packets);
        }
        for packet in bundle.packets.iter() {
            match packet.duplicate() {
                Some(mut packet) => {
                    truncate(&mut packet, cut);
                    self.outlets.send(port, packet);
                }
                None => DROP_NO_BUFFER.inc(),
            }
        }
    }

    /// Sends each packet by the member of a bond that its hash leads to.
    fn output_balanced(&mut self, scope: Scope<'_>, bundle: &mut Bundle, id: u32, last: bool) {
        let cut = std::mem::replace(&mut bundle.cut, u32::MAX) as usize;
        let Some(bond) = scope.shared.bonds.bond(id, scope.guard) else {
            DROP_INVALID_BOND.add(bundle.packets.len() as u64);
            return;
        };
        bundle.refresh(scope.shared.live.vlan_limit());
        let mut ports = [None; BUNDLE_MAX];
        for ((port, parsed), packet) in ports.iter_mut().zip(&mut bundle.parsed).zip(bundle.packets.iter()) {
            *port = bond.choose(l4_hash(parsed, 0), packet.len().min(cut));
        }
        let mut send = |packet: Option<Packet>, port: Option<u32>| match (packet, port) {
            (Some(mut packet), Some(port)) => {
                truncate(&mut packet, cut);
                self.outlets.send(port, packet);
            }
            (None, _) => DROP_NO_BUFFER.inc(),
            (Some(_), None) => DROP_INVALID_PORT.inc(),
        };
        if last {
            bundle.packets.drain().zip(ports).for_each(|(packet, port)| send(Some(packet), port));
        } else {
            bundle.packets.iter().zip(ports).for_each(|(packet, port)| send(packet.duplicate(), port));
        }
    }

    fn userspace(&self, scope: Scope<'_>, bundle: &mut Bundle, to: &Userspace, rest: &[Action]) {
        let cut = std::mem::replace(&mut bundle.cut, u32::MAX) as usize;
        bundle.refresh(scope.shared.live.vlan_limit());
        let actions = to.actions.then(|| Arc::new(rest.to_vec()));
        for (packet, parsed) in bundle.packets.iter().zip(&bundle.parsed) {
            let Some(copy) = packet.duplicate() else {
                DROP_NO_BUFFER.inc();
                continue;
            };
            let fill = |upcall: &mut Upcall| {
                upcall.kind = UpcallKind::Action(to.cookie.clone());
                upcall.packet.truncate(cut);
                upcall.actions.clone_from(&actions);
                upcall.out_tunnel = to.tunnel_out_port.map(|_| upcall.key.clone());
            };
            if !self.hand_up(scope.shared, copy, parsed, fill) {
                DROP_USERSPACE_ACTION.inc();
            }
        }
    }

    /// `ct` and a recirculation, and nothing else, of packets that are all of `entry`. On its own, so that its code is not in the way of others'.
    #[inline(never)]
    pub(crate) fn track_and_recirculate(
        &mut self,
        scope: Scope<'_>,
        bundle: Box<Bundle>,
        entry: Entry<'_>,
        (ct, id, rest): (&Ct, u32, &[Action]),
    ) {
        let bundle = self.track(scope, bundle, ct, rest);
        let parsed = &bundle.parsed[..bundle.packets.len()];
        let known = parsed.first().filter(|_| !self.cache.is_off()).and_then(|first| {
            let sure = Sure::after(entry, ct, id, parsed)?;
            self.memo.known(scope, first.key.in_port, id).find(|entry| sure.is_of(*entry))
        });
        self.recirculate(scope, bundle, id, known);
    }

    /// `known` is the megaflow that all packets are of then, if that is known already.
    fn recirculate(&mut self, scope: Scope<'_>, mut bundle: Box<Bundle>, id: u32, known: Option<Entry<'_>>) {
        if self.depth >= RECIRC_MAX {
            DROP_RECIRC.add(bundle.packets.len() as u64);
            return self.spares.give(bundle);
        }
        let n = bundle.packets.len();
        bundle.refresh(scope.shared.live.vlan_limit());
        // What another megaflow does with the packet knows nothing of this one's `trunc`.
        bundle.cut = u32::MAX;
        add(&self.work(scope.shared).recirculated, n as u64);
        self.depth += 1;
        match known {
            Some(entry) => self.round_of(scope, bundle, entry, id),
            None => {
                bundle.set_recirc_id(id);
                self.round(scope, bundle);
            }
        }
        self.depth -= 1;
    }

    fn meter(&self, scope: Scope<'_>, bundle: &mut Bundle, id: u32) {
        // A meter that is gone lets everything pass, as in OVS.
        let Some(meter) = scope.shared.meters.meter(id, scope.guard) else {
            return;
        };
        let Judged { drop, remark } = meter.judge(bundle.packets.iter().map(|p| p.len()), self.now_ms);
        for (packets, levels) in remark.into_iter().filter(|(packets, _)| *packets != 0) {
            bundle.refresh(scope.shared.live.vlan_limit());
            edit::raise_drop_precedence(bundle, packets, levels);
        }
        if drop != 0 {
            DROP_METER.add(drop.count_ones().into());
            bundle.split(|i, _| drop & 1 << i == 0, None);
        }
    }

    fn dec_ttl(&mut self, scope: Scope<'_>, bundle: &mut Bundle, exceeded: &[Action]) {
        let expired = edit::dec_ttl(bundle);
        if expired == 0 {
            return;
        }
        let mut out = self.spares.take_like(bundle);
        bundle.split(|i, _| expired & 1 << i == 0, Some(&mut out));
        if exceeded.is_empty() {
            DROP_TTL.add(out.packets.len() as u64);
            self.spares.give(out);
        } else {
            self.run(scope, out, exceeded);
        }
    }

    fn tunnel_push(&mut self, scope: Scope<'_>, bundle: &mut Bundle, push: &TunnelPush, rest: &[Action]) {
        bundle.refresh(scope.shared.live.vlan_limit());
        let cut = std::mem::replace(&mut bundle.cut, u32::MAX);
        if cut != u32::MAX {
            // What is encapsulated is the short packet.
            bundle.packets.iter_mut().for_each(|packet| truncate(packet, cut as usize));
        }
        let room = self.room_behind(push, rest);
        if bundle.packets.iter().any(|packet| packet.len() > room) {
            self.fit(scope, bundle, (push, room), rest);
        }
        self.encapsulate(scope, bundle, push, rest);
    }

    /// Puts the outer header on; what GSO frames are cut into beyond the bundle's room goes on by `rest` at once.
    pub(crate) fn encapsulate(&mut self, scope: Scope<'_>, bundle: &mut Bundle, push: &TunnelPush, rest: &[Action]) {
        let n = bundle.packets.len();
        let mut hashes = [0; BUNDLE_MAX];
        for (hash, parsed) in hashes.iter_mut().zip(&mut bundle.parsed[..n]) {
            *hash = tunnel::entropy(parsed);
        }
        let mut more = Vec::new();
        tunnel::push(&mut bundle.packets, &hashes[..n], push, &scope.shared.sequences, &mut more);
        for packets in more {
            let mut extra = self.spares.take();
            extra.packets = packets;
            extra.fresh = Some(push.out_port);
            self.run(scope, extra, rest);
        }
        // An encapsulated packet is a new one, come from the port that it will leave by, without the metadata of what is inside it. Most
        // are sent at once and need no key.
        bundle.fresh = Some(push.out_port);
    }

    /// Takes outer headers off; the inner packets go round as if they had come in by the tunnel port.
    pub(crate) fn tunnel_pop(&mut self, scope: Scope<'_>, bundle: Box<Bundle>, port: DpPort) {
        if let Some(bundle) = self.decapsulate(scope, bundle, port) {
            self.enter_tunnel(scope, bundle);
        }
    }

    /// Takes outer headers off; `None` if nothing is left.
    pub(crate) fn decapsulate(&mut self, scope: Scope<'_>, mut bundle: Box<Bundle>, port: DpPort) -> Option<Box<Bundle>> {
        let vlan_limit = scope.shared.live.vlan_limit();
        bundle.refresh(vlan_limit);
        if bundle.parsed[..bundle.packets.len()].iter().any(|parsed| parsed.key.nw_frag != 0) {
            bundle = self.join_outer(scope, bundle);
        }
        let Some(decap) = self.outlets.outlet(port.0).and_then(|o| o.decap) else {
            counters::DROP_INVALID_TUNNEL_PORT.add(bundle.packets.len() as u64);
            self.spares.give(bundle);
            return None;
        };
        if self.depth >= RECIRC_MAX {
            DROP_RECIRC.add(bundle.packets.len() as u64);
            self.spares.give(bundle);
            return None;
        }
        let meta = PacketMeta { in_port: port, vlan_limit, ..PacketMeta::default() };
        if !tunnel_common::strip(&mut bundle, decap, &meta, (self.wide, &mut self.inner_parser)) {
            pop_each(&mut bundle, decap, &meta);
        }
        Some(bundle)
    }

    /// Lets inner packets go round as if they had come in by their tunnel port.
    pub(crate) fn enter_tunnel(&mut self, scope: Scope<'_>, mut bundle: Box<Bundle>) {
        bundle.cut = u32::MAX;
        self.depth += 1;
        self.round(scope, bundle);
        self.depth -= 1;
    }

    /// Puts fragments of encapsulated packets together: later ones do not say which tunnel they are for, so the whole packet is looked up
    /// again as if it had come so. What was no fragment is given back.
    #[cold]
    fn join_outer(&mut self, scope: Scope<'_>, mut bundle: Box<Bundle>) -> Box<Bundle> {
        let vlan_limit = scope.shared.live.vlan_limit();
        let mut plain = self.spares.take_like(&bundle);
        let mut joined = self.spares.take();
        let mut packets = std::mem::take(&mut bundle.packets);
        for (packet, parsed) in packets.drain().zip(&mut bundle.parsed) {
            if parsed.key.nw_frag == 0 {
                plain.push(packet, parsed);
                continue;
            }
            match scope.shared.ct.outer.take(packet, parsed, 0, self.now_ms) {
                Taken::Held => {}
                Taken::Refused(_) => counters::DROP_TUNNEL_POP.inc(),
                Taken::Whole(whole) => {
                    let mut again = Box::new(Parsed::new());
                    again.read(whole.packet.data(), &parsed.meta(vlan_limit));
                    joined.push(whole.packet, &again);
                }
            }
        }
        self.spares.give(bundle);
        if self.depth >= RECIRC_MAX {
            DROP_RECIRC.add(joined.packets.len() as u64);
            self.spares.give(joined);
        } else {
            self.depth += 1;
            self.round(scope, joined);
            self.depth -= 1;
        }
        plain
    }

    /// True `probability` times out of `u32::MAX`.
    fn chance(&mut self, probability: u32) -> bool {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let draw = u32::try_from(self.random >> 32).unwrap_or(0);
        draw < probability
    }
}

/// Takes the outer headers off packet by packet; what is wrong is counted and freed.
fn pop_each(bundle: &mut Bundle, decap: Decap, meta: &PacketMeta<'_>) {
    let mut bad = 0u32;
    for (i, (packet, parsed)) in bundle.packets.iter_mut().zip(&mut bundle.parsed).enumerate() {
        if tunnel_pop::pop(packet, parsed, decap, meta).is_none() {
            bad |= 1 << i;
        }
    }
    if bad != 0 {
        counters::DROP_TUNNEL_POP.add(bad.count_ones().into());
        bundle.split(|i, _| bad & 1 << i == 0, None);
    }
}

/// Cuts a packet; a cut GSO frame or one with a partial checksum over the missing part would be wrong, so it is completed first.
fn truncate(packet: &mut Packet, len: usize) {
    if len < packet.len() {
        let _ = port::offload::complete(packet);
        packet.set_gso(port::Gso::default());
        packet.truncate(len);
    }
}

/// The length of the longest frame that the packet will be on the wire.
pub(crate) fn wire_len(packet: &Packet) -> usize {
    let gso = packet.gso();
    match (gso.kind, packet.checksum()) {
        (GsoKind::None, _) => packet.len(),
        (_, port::Checksum::Partial { start, .. }) => {
            let start = start as usize;
            let tcp = matches!(gso.kind, GsoKind::Tcp4 | GsoKind::Tcp6);
            let header = if tcp { packet.data().get(start + 12).map_or(20, |b| usize::from(b >> 4) * 4) } else { 8 };
            start + header + usize::from(gso.size)
        }
        (_, port::Checksum::Good | port::Checksum::Unknown) => packet.len(),
    }
}

fn hash(bundle: &mut Bundle, alg: HashAlg, basis: u32, vlan_limit: u8) {
    bundle.refresh(vlan_limit);
    for parsed in &mut bundle.parsed[..bundle.packets.len()] {
        let hash = match alg {
            HashAlg::L4 => l4_hash(parsed, basis),
            HashAlg::SymL4 => {
                parsed.ensure(ADDRESSES);
                hash_sym_l4(&parsed.key, basis)
            }
        };
        // 0 says "not computed".
        parsed.key.dp_hash = hash.max(1).to_be_bytes();
    }
}

/// The line of IPv6 addresses.
const ADDRESSES: Lines = Lines(0b10);

/// Of addresses, protocol and ports.
fn l4_hash(parsed: &mut Parsed, basis: u32) -> u32 {
    parsed.ensure(ADDRESSES);
    hash_5tuple(&parsed.key, basis)
}
