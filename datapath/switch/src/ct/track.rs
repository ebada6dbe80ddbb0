//! A packet through a `ct` action.
//!
//! What enters: bundles and the action. What leaves: the packets with `ct_*` fields, translated if asked for; fragments that are held stay
//! here. Neighbours: `execute` (calls), `seek`, `common`, `packet`, `table`, `entry`, `tcp`, `stage`, `nat`, `helper`, `fragments`.
//!
//! # Rounds over a batch
//!
//! Tuples and hashes first, fetching buckets; then candidates, fetching entries (`seek`); then packets of established connections of UDP (`short`);
//! then the others, those of TCP among them, packet by packet, in order, so that a connection that one packet begins is known to the next. A packet that this batch has
//! tracked in the same zone already has its connection at hand (`Parsed::conn`) and is not counted twice. `track_common` (`common`) takes most
//! packets of known connections in few steps; `track_one` is the plain twin of both, and does the rest.

use super::entry::{ASSURED, Birth, CARRIED, CLOSING, Entry, NAT_DST, NAT_SRC, RELATED};
use super::expect::Expectation;
use super::fragments::Taken;
use super::helper::Side;
use super::packet;
use super::seek::{Lookup, Sought, Wanted, all};
use super::short::Short;
use super::stage;
use super::tcp::{Tcp, Verdict, flags_are_sound};
use super::tuple::Tuple;
use super::{Born, CT_ZONE_FULL, Ct, Local, helper, nat};
use crate::bundle::Bundle;
use crate::forward::{Core, Scope, Shared};
use crate::parsed::{MOVED, Parsed, UNTOLD};
use crate::search::bits;
use flow::DpPort;
use flow::action::{self, Action, Nat};
use flow::clock::Msec;
use flow::conntrack::CtStage;
use flow::key::{Key, Lines};
use flow::wire::ip_proto;
use port::Packet;
use std::sync::atomic::Ordering;

flow::counters! {
    TCP_BYPASS = "conntrack_tcp_seq_chk_bypass", "A TCP segment passed because sequence numbers are not checked.";
    TCP_WINDOW = "conntrack_tcp_seq_chk_failed", "A TCP segment was outside of its connection's windows.";
    TCP_FLAGS = "conntrack_invalid_tcp_flags", "A TCP segment had flags that no sound sender makes.";
    NAT_EXHAUSTED = "conntrack_nat_exhausted", "A connection was not kept: no tuple was free for its translation.";
    NAT_MISS = "conntrack_lookup_natted_miss", "A translated packet's connection had ended when it came again.";
}

/// `ct_state` bits (OVS_CS_F_*).
pub const NEW: u8 = 0x01;
pub const EST: u8 = 0x02;
pub const REL: u8 = 0x04;
pub const RPL: u8 = 0x08;
pub const INV: u8 = 0x10;
pub const TRK: u8 = 0x20;
pub const SNAT: u8 = 0x40;
pub const DNAT: u8 = 0x80;

/// Lines of the label and of the original tuple.
pub(super) const LABEL_AND_TUPLE: Lines = Lines(0b1100);
/// Other tuples that are tried when another thread took the one chosen.
const CLASHES_MAX: u32 = 8;

/// The action, as this room needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec<'a> {
    pub(super) zone: u16,
    commit: bool,
    pub(super) force: bool,
    mark: Option<(u32, u32)>,
    label: Option<(u128, u128)>,
    pub(super) nat: Option<&'a Nat>,
    helper: u8,
    policy: u16,
    /// The packet was joined from fragments, whose lengths must stay.
    joined: bool,
    /// Some megaflow looks at labels or original tuples.
    told: bool,
    pub(super) now_ms: Msec,
}

impl<'a> Spec<'a> {
    fn of(ct: &'a action::Ct, shared: &Shared, now_ms: Msec) -> Self {
        Self {
            zone: ct.zone,
            commit: ct.commit || ct.force,
            force: ct.force,
            mark: ct.mark,
            label: ct.label,
            nat: ct.nat.as_ref(),
            helper: ct.helper.as_deref().map_or(helper::NONE, helper::of_name),
            // Policies are named by their number; an unknown one is the default.
            policy: ct.timeout.as_deref().and_then(|t| t.parse().ok()).unwrap_or(0),
            joined: false,
            told: shared.ct_asked.load(Ordering::Acquire) != 0,
            now_ms,
        }
    }

    /// Whether the action asks for nothing but the state, and a translation that is known.
    #[inline]
    pub(super) const fn is_plain(&self) -> bool {
        !self.force && self.mark.is_none() && self.label.is_none() && !self.told
    }

    const fn side(&self, reply: bool, nat: bool) -> Side {
        Side { reply, nat: nat && !self.joined }
    }
}

/// What `Parsed::conn` holds: 0 for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle {
    pub(super) number: u32,
    pub(super) reply: bool,
    pub(super) related: bool,
}

impl Handle {
    pub(super) const fn pack(self) -> u32 {
        const { assert!(super::slab::CONNS_MAX < MOVED >> 3) };
        self.number << 2 | (self.related as u32) << 1 | self.reply as u32
    }

    pub(super) const fn unpack(word: u32) -> Self {
        Self { number: (word & !(UNTOLD | MOVED)) >> 2, reply: word & 1 != 0, related: word & 2 != 0 }
    }
}

/// What a packet was found to be.
#[derive(Clone, Copy, Debug)]
struct Judged {
    state: u8,
    conn: Option<Handle>,
    /// A tuple to show where there is no connection.
    tuple: Option<Tuple>,
    /// Mark and label to show where there is no connection: those of the one that announced it.
    inherited: (u32, u128),
}

impl Judged {
    const INVALID: Self = Self { state: INV, conn: None, tuple: None, inherited: (0, 0) };

    const fn of(state: u8, conn: Handle) -> Self {
        Self { state, conn: Some(conn), ..Self::INVALID }
    }
}

impl Core {
    /// Carries out `ct` on a bundle: what goes on is given back.
    pub fn track(&mut self, scope: Scope<'_>, mut bundle: Box<Bundle>, ct: &action::Ct, rest: &[Action]) -> Box<Bundle> {
        bundle.refresh(scope.shared.live.vlan_limit());
        let spec = Spec::of(ct, scope.shared, self.now_ms);
        let n = bundle.packets.len();
        let tracker = &*scope.shared.ct;
        let (packets, parsed, wanted) = (&mut bundle.packets[..], &mut bundle.parsed[..n], &mut *self.wanted);
        let short = tracker.seek_short(packets, parsed, &spec, wanted, self.wide);
        if bits(all(n) & !short.all()).any(|i| parsed[i].key.nw_frag != 0) {
            return self.track_fragments(scope, bundle, &spec, rest);
        }
        let unknown = tracker.seek((&*packets, &mut *parsed), short, &spec, wanted, self.wide);
        if spec.commit && unknown > 0 {
            tracker.prepare_births(&mut self.ct, unknown);
        }
        tracker.pass(&mut self.ct, (packets, parsed), &spec, wanted, self.wide);
        bundle
    }

    /// A bundle with fragments: packet by packet, since what is held goes on later, and one may release many.
    #[cold]
    fn track_fragments(&mut self, scope: Scope<'_>, mut bundle: Box<Bundle>, spec: &Spec<'_>, rest: &[Action]) -> Box<Bundle> {
        let tracker = &*scope.shared.ct;
        let vlan_limit = scope.shared.live.vlan_limit();
        let mut out = self.spares.take_like(&bundle);
        let mut packets = std::mem::take(&mut bundle.packets);
        for (packet, parsed) in packets.drain().zip(&mut bundle.parsed) {
            if parsed.key.nw_frag == 0 {
                let mut packet = packet;
                tracker.track_alone(&mut self.ct, &mut self.wanted, (&mut packet, &mut *parsed), spec);
                out = self.add_tracked(scope, out, packet, parsed, rest);
                continue;
            }
            match tracker.fragments.take(packet, parsed, spec.zone, spec.now_ms) {
                Taken::Held => {}
                Taken::Refused(packet) => {
                    write(parsed, (INV, spec.zone, 0), 0, None);
                    out = self.add_tracked(scope, out, packet, parsed, rest);
                }
                Taken::Whole(mut whole) => {
                    let mut joined = Box::new(Parsed::new());
                    joined.read(whole.packet.data(), &parsed.meta(vlan_limit));
                    let spec = &Spec { joined: true, ..*spec };
                    tracker.track_alone(&mut self.ct, &mut self.wanted, (&mut whole.packet, &mut *joined), spec);
                    for packet in whole.into_fragments() {
                        parsed.read(packet.data(), &joined.meta(vlan_limit));
                        out = self.add_tracked(scope, out, packet, parsed, rest);
                    }
                }
            }
        }
        self.spares.give(bundle);
        out
    }

    /// Adds a packet to what goes on; a full bundle goes on at once.
    fn add_tracked(
        &mut self,
        scope: Scope<'_>,
        out: Box<Bundle>,
        packet: Packet,
        parsed: &Parsed,
        rest: &[Action],
    ) -> Box<Bundle> {
        let mut out = out;
        if out.packets.is_full() {
            let next = self.spares.take_like(&out);
            if rest.is_empty() {
                self.spares.give(out)
            } else {
                self.run(scope, out, rest)
            }
            out = next;
        }
        out.push(packet, parsed);
        out
    }
}

/// Forgets what was tracked: `ct_clear`.
pub fn clear(bundle: &mut Bundle) {
    let n = bundle.packets.len();
    for parsed in &mut bundle.parsed[..n] {
        let valid = parsed.found.lines.0;
        let key = &mut parsed.key;
        (key.ct_state, key.ct_nw_proto, key.ct_zone, key.ct_mark) = (0, 0, [0; 2], [0; 4]);
        if valid & 1 << 2 != 0 {
            key.ct_label = [0; 16];
        }
        if valid & 1 << 3 != 0 {
            (key.ct_nw_src, key.ct_nw_dst, key.ct_tp_src, key.ct_tp_dst) = Default::default();
            (key.ct_ipv6_src, key.ct_ipv6_dst) = Default::default();
        }
        parsed.conn = 0;
    }
}

/// Writes the fields that rules see: state, zone and mark; label; original tuple.
fn write(parsed: &mut Parsed, (state, zone, mark): (u8, u16, u32), label: u128, tuple: Option<&Tuple>) {
    write_first(parsed, (state, zone, mark), 0);
    parsed.ensure(LABEL_AND_TUPLE);
    let key = &mut parsed.key;
    key.ct_label = label.to_be_bytes();
    match tuple {
        Some(tuple) => tuple.write_original(key),
        None => {
            (key.ct_nw_src, key.ct_nw_dst, key.ct_tp_src, key.ct_tp_dst) = Default::default();
            (key.ct_ipv6_src, key.ct_ipv6_dst) = Default::default();
        }
    }
}

/// The word of the key that these fields and the original tuple's protocol make up.
pub(crate) const FIRST: usize = core::mem::offset_of!(Key, ct_state) / 8;
const _: () = assert!(core::mem::offset_of!(Key, ct_nw_proto) == FIRST * 8 + 1);
const _: () = assert!(core::mem::offset_of!(Key, ct_zone) == FIRST * 8 + 2);
const _: () = assert!(core::mem::offset_of!(Key, ct_mark) == FIRST * 8 + 4);

/// Those that stand in the first line, as the one word that they are: who compares lines soon afterwards would have to wait for four stores.
#[inline]
pub(super) fn write_first(parsed: &mut Parsed, (state, zone, mark): (u8, u16, u32), proto: u8) {
    let ([z0, z1], [m0, m1, m2, m3]) = (zone.to_be_bytes(), mark.to_be_bytes());
    parsed.key.words_mut()[FIRST] = u64::from_ne_bytes([state | TRK, proto, z0, z1, m0, m1, m2, m3]);
}

impl Ct {
    /// A packet that comes alone.
    fn track_alone(&self, local: &mut Local, wanted: &mut Wanted, (packet, parsed): (&mut Packet, &mut Parsed), spec: &Spec<'_>) {
        self.seek((std::slice::from_ref(packet), std::slice::from_mut(parsed)), Short::default(), spec, wanted, false);
        self.track_one(local, packet, parsed, spec, wanted.lookup(0));
    }

    pub(super) fn track_one(&self, local: &mut Local, packet: &mut Packet, parsed: &mut Parsed, spec: &Spec<'_>, lookup: Lookup) {
        let judged = match lookup {
            Lookup::Known(handle) => self.again(packet, parsed, spec, handle),
            Lookup::Tuple(sought) => self.judge(local, packet, parsed, spec, &sought),
            Lookup::Nothing => Judged::INVALID,
        };
        let Some(conn) = judged.conn else {
            parsed.conn = 0;
            let (mark, label) = judged.inherited;
            return write(parsed, (judged.state, spec.zone, mark), label, judged.tuple.as_ref());
        };
        let entry = self.slab.at(conn.number);
        parsed.conn = conn.pack();
        let (mark, label, changed) = settle(entry, spec);
        if changed && entry.has(ASSURED) && self.watched.load(Ordering::Relaxed) {
            self.note_change(entry, spec.now_ms);
        }
        if spec.told || parsed.found.lines.0 & LABEL_AND_TUPLE.0 != 0 {
            let tuple = entry.parent().unwrap_or_else(|| entry.orig());
            return write(parsed, (judged.state, spec.zone, mark), label, Some(&tuple));
        }
        // Two lines less to clear, to write and to hash.
        write_first(parsed, (judged.state, spec.zone, mark), entry.proto());
        parsed.conn |= UNTOLD;
    }

    /// Writes label and original tuple into a packet's key, if that was put off.
    #[inline]
    pub fn tell(&self, parsed: &mut Parsed) {
        if parsed.conn & UNTOLD != 0 {
            parsed.ensure(LABEL_AND_TUPLE);
            self.tell_rest(parsed.conn, &mut parsed.key);
            parsed.conn &= !UNTOLD;
        }
    }

    /// The same for a copy of the key in which every line is valid.
    pub fn tell_key(&self, parsed: &Parsed, key: &mut Key) {
        if parsed.conn & UNTOLD != 0 {
            self.tell_rest(parsed.conn, key);
        }
    }

    /// The batch that the packet is of began when the connection could still be found, so its entry still says what it said.
    fn tell_rest(&self, conn: u32, key: &mut Key) {
        let entry = self.slab.at(Handle::unpack(conn).number);
        key.ct_label = entry.label().to_be_bytes();
        entry.parent().unwrap_or_else(|| entry.orig()).write_original(key);
    }

    /// A packet that this batch has tracked already.
    fn again(&self, packet: &mut Packet, parsed: &mut Parsed, spec: &Spec<'_>, handle: Handle) -> Judged {
        let mut state = parsed.key.ct_state;
        let entry = self.slab.at(handle.number);
        let nat = spec.nat.is_some() && is_to_translate(entry, state);
        let helped = nat && !handle.related && entry.helper.load(Ordering::Relaxed) != helper::NONE;
        if helped {
            helper::before(packet, parsed, entry, handle.reply);
        }
        if nat {
            translate(packet, parsed, entry, handle, &mut state);
        }
        if helped {
            helper::after(self, packet, parsed, entry, spec.side(handle.reply, nat), spec.now_ms);
        }
        Judged::of(state, handle)
    }

    fn judge(&self, local: &mut Local, packet: &mut Packet, parsed: &mut Parsed, spec: &Spec<'_>, sought: &Sought) -> Judged {
        let Sought { seen, hash } = *sought;
        let was = parsed.key.ct_state;
        let mut found = self.look(&seen, hash, was, spec.now_ms);
        if let Some(handle) = found
            && spec.force
            && handle.reply
        {
            // A forced commit makes the sender the one that began.
            self.end(handle.number);
            found = None;
        }
        if let Some(handle) = found {
            match self.known(packet, parsed, spec, handle, was & (SNAT | DNAT)) {
                Some(judged) => return judged,
                // A new connection on the same ports.
                None => {
                    self.end(handle.number);
                }
            }
        } else if seen.related {
            return Judged { tuple: Some(seen.tuple), ..Judged::INVALID };
        }
        self.unknown(local, packet, parsed, spec, sought)
    }

    /// A packet's connection. One that was translated in this zone already has the tuple that answers to it will have, reversed.
    fn look(&self, seen: &packet::Seen, hash: u64, was: u8, now_ms: Msec) -> Option<Handle> {
        let handle = |number, reply| Handle { number, reply, related: seen.related };
        if was & (SNAT | DNAT) != 0 {
            if let Some((number, reply)) = self.find(hash, &seen.tuple.reversed(), now_ms) {
                return Some(handle(number, !reply));
            }
            NAT_MISS.inc();
        }
        self.find(hash, &seen.tuple, now_ms).map(|(number, reply)| handle(number, reply))
    }

    /// A packet of a known connection; `None` if it begins another one.
    fn known(&self, packet: &mut Packet, parsed: &mut Parsed, spec: &Spec<'_>, handle: Handle, was: u8) -> Option<Judged> {
        let entry = self.slab.at(handle.number);
        let mut state = was | if handle.reply { RPL } else { 0 };
        let nat = spec.nat.is_some() && is_to_translate(entry, was);
        let helped = !handle.related && entry.helper.load(Ordering::Relaxed) != helper::NONE;
        if helped && nat {
            helper::before(packet, parsed, entry, handle.reply);
        }
        if handle.related {
            state |= REL;
        } else {
            if !entry.has(ASSURED) {
                entry.came_by(handle.reply, in_port(parsed));
            }
            match self.advance(packet, parsed, entry, handle.reply, spec.now_ms) {
                Verdict::Valid(_) => state |= EST,
                // Not answered yet: neither established nor an answer.
                Verdict::Opening(_) => state = state & !RPL | NEW,
                Verdict::Restart => return None,
                Verdict::Invalid => return Some(Judged::of(INV, handle)),
            }
            if entry.has(RELATED) {
                state |= REL;
            }
        }
        if nat {
            translate(packet, parsed, entry, handle, &mut state);
        }
        if helped {
            helper::after(self, packet, parsed, entry, spec.side(handle.reply, nat), spec.now_ms);
        }
        Some(Judged::of(state, handle))
    }

    /// Moves a connection's state and expiry.
    #[inline]
    fn advance(&self, packet: &Packet, parsed: &Parsed, entry: Entry<'_>, reply: bool, now_ms: Msec) -> Verdict {
        let proto = parsed.key.nw_proto;
        if proto == ip_proto::TCP {
            return self.advance_tcp(packet, parsed, entry, reply, now_ms);
        }
        let icmp = matches!(proto, ip_proto::ICMP | ip_proto::ICMPV6);
        let step = stage::step(icmp, entry.flags.load(Ordering::Relaxed), reply);
        if step.flags & ASSURED != 0 {
            self.progress(entry, step.flags, now_ms);
        } else {
            entry.raise(step.flags);
        }
        self.extend(entry, step.stage, now_ms);
        if step.new { Verdict::Opening(step.stage) } else { Verdict::Valid(Some(step.stage)) }
    }

    pub(super) fn advance_tcp(&self, packet: &Packet, parsed: &Parsed, entry: Entry<'_>, reply: bool, now_ms: Msec) -> Verdict {
        let segment = packet::segment(packet, parsed);
        let liberal = self.liberal.load(Ordering::Relaxed) || entry.has(CARRIED);
        let held = entry.hold_tcp();
        let (next, verdict) = held.tcp().step(&segment, reply, liberal);
        match verdict {
            Verdict::Valid(stage) => {
                held.set(&next);
                if next.is_established() {
                    self.progress(entry, ASSURED, now_ms);
                }
                if next.is_closing() {
                    self.progress(entry, CLOSING, now_ms);
                }
                if let Some(stage) = stage {
                    self.extend(entry, stage, now_ms);
                }
                // What it lasts goes with its state: another thread may be about to close it.
                drop(held);
                if liberal {
                    TCP_BYPASS.inc();
                }
            }
            Verdict::Opening(stage) => {
                held.set(&next);
                drop(held);
                self.extend(entry, stage, now_ms);
            }
            Verdict::Restart => {}
            Verdict::Invalid => {
                if flags_are_sound(segment.flags) {
                    TCP_WINDOW.inc()
                } else {
                    TCP_FLAGS.inc()
                }
            }
        }
        verdict
    }

    pub(super) fn extend(&self, entry: Entry<'_>, stage: CtStage, now_ms: Msec) {
        let policy = entry.policy.load(Ordering::Relaxed);
        entry.expire_at(now_ms + self.policies.timeout_ms(policy, stage));
    }

    /// A packet without connection: new or invalid, and the first of one if it is committed.
    #[inline(never)]
    fn unknown(&self, local: &mut Local, packet: &mut Packet, parsed: &mut Parsed, spec: &Spec<'_>, sought: &Sought) -> Judged {
        let (tuple, hash) = (&sought.seen.tuple, sought.hash);
        let proto = tuple.proto();
        let tcp = if proto == ip_proto::TCP {
            let segment = packet::segment(packet, parsed);
            if !segment.may_begin() {
                return Judged { tuple: Some(*tuple), ..Judged::INVALID };
            }
            Some(Tcp::begin(&segment))
        } else {
            None
        };
        if tuple.is_icmp() && !packet::is_query(tuple) {
            return Judged { tuple: Some(*tuple), ..Judged::INVALID };
        }
        let expected = self.expectations.find(tuple, spec.now_ms);
        let mut state = NEW | if expected.is_some() { REL } else { 0 };
        let shown = expected.map_or(*tuple, |e| e.parent);
        let inherited = expected.map_or((0, 0), |e| (e.mark, e.label));
        let new = Judged { state, conn: None, tuple: Some(shown), inherited };
        if !spec.commit {
            return new;
        }
        if !self.zones.admit(spec.zone) {
            CT_ZONE_FULL.inc();
            return new;
        }
        let birth = self.birth(spec, tuple, tcp, expected.as_ref());
        let born = self.bear_translated(local, spec, birth, expected.is_some(), hash);
        let Some(Born::New(number)) = born else {
            self.zones.release(spec.zone);
            return match born {
                // Another thread's packet began it; this one may go on as a first packet, too.
                Some(Born::Known(number, reply)) => {
                    let handle = Handle { number, reply, related: false };
                    Judged { conn: Some(handle), ..new }
                }
                Some(Born::New(_) | Born::Clash | Born::Full) => new,
                None => {
                    NAT_EXHAUSTED.inc();
                    Judged { state: INV, ..new }
                }
            };
        };
        if let Some(expected) = &expected {
            self.expectations.forget(|e| e.tuple == expected.tuple);
        }
        let handle = Handle { number, reply: false, related: false };
        let entry = self.slab.at(number);
        entry.came_by(false, in_port(parsed));
        let nat = spec.nat.is_some() && is_to_translate(entry, state);
        if nat {
            translate(packet, parsed, entry, handle, &mut state);
        }
        if entry.helper.load(Ordering::Relaxed) != helper::NONE {
            helper::after(self, packet, parsed, entry, spec.side(false, nat), spec.now_ms);
        }
        Judged::of(state, handle)
    }

    fn birth(&self, spec: &Spec<'_>, tuple: &Tuple, tcp: Option<Tcp>, expected: Option<&Expectation>) -> Birth {
        let stage = if tcp.is_some() { CtStage::TcpSynSent } else { stage::first(tuple.is_icmp()) };
        let helps = match spec.helper {
            helper::FTP => tuple.proto() == ip_proto::TCP,
            helper::TFTP => tuple.proto() == ip_proto::UDP,
            _ => false,
        };
        let mut birth = Birth {
            orig: *tuple,
            reply: tuple.reversed(),
            parent: None,
            flags: 0,
            mark: 0,
            label: 0,
            policy: spec.policy,
            helper: if helps { spec.helper } else { helper::NONE },
            tcp,
            expires_ms: spec.now_ms + self.policies.timeout_ms(spec.policy, stage),
        };
        if let Some(e) = expected {
            (birth.parent, birth.mark, birth.label) = (Some(e.parent), e.mark, e.label);
            if spec.nat.is_some() {
                birth.reply = e.reply;
                if e.reply.sport() == 0 {
                    birth.reply = birth.reply.with_ports(tuple.dport(), birth.reply.dport());
                }
                if e.reply.dport() == 0 {
                    birth.reply = birth.reply.with_ports(birth.reply.sport(), tuple.sport());
                }
                let plain = tuple.reversed();
                let source = (birth.reply.dst() != plain.dst()).then_some(NAT_SRC);
                let destination = (birth.reply.src() != plain.src()).then_some(NAT_DST);
                birth.flags |= source.unwrap_or(0) | destination.unwrap_or(0);
            }
        }
        birth
    }

    /// Makes a connection, with the translation asked for; `None` when there is no tuple left for it.
    fn bear_translated(&self, local: &mut Local, spec: &Spec<'_>, birth: Birth, expected: bool, hash: u64) -> Option<Born> {
        let mut birth = birth;
        let nat = spec.nat.filter(|n| (n.src || n.dst) && !expected);
        let Some(nat) = nat else {
            return Some(self.bear(local, &birth, hash, spec.now_ms));
        };
        birth.flags |= if nat.src { NAT_SRC } else { NAT_DST };
        let is_free = |reply: &Tuple| self.find(self.hash(reply), reply, spec.now_ms).is_none();
        for _ in 0..CLASHES_MAX {
            birth.reply = nat::choose(nat, &birth.orig, hash, crate::hash::random(), &is_free)?;
            match self.bear(local, &birth, hash, spec.now_ms) {
                Born::Clash => {}
                born @ (Born::New(_) | Born::Known(..) | Born::Full) => return Some(born),
            }
        }
        None
    }
}

pub(super) const fn in_port(parsed: &Parsed) -> DpPort {
    DpPort(u32::from_be_bytes(parsed.key.in_port))
}

/// Whether a packet with that state is to be translated as its connection says: it was not yet, in this zone.
fn is_to_translate(entry: Entry<'_>, state: u8) -> bool {
    entry.has(NAT_SRC | NAT_DST) && state & (SNAT | DNAT) == 0
}

/// Translates a packet as its connection says.
#[inline]
pub(super) fn translate(packet: &mut Packet, parsed: &mut Parsed, entry: Entry<'_>, handle: Handle, state: &mut u8) {
    let flags = entry.flags.load(Ordering::Relaxed);
    *state |= translated(flags, handle.reply);
    retarget(packet, parsed, entry, handle, flags);
}

/// The state bits of a packet that is translated as a connection with `flags` says.
#[inline(always)]
pub(super) fn translated(flags: u32, reply: bool) -> u8 {
    let (source, destination) = if reply { (NAT_DST, NAT_SRC) } else { (NAT_SRC, NAT_DST) };
    (u8::from(flags & source != 0) * SNAT) | (u8::from(flags & destination != 0) * DNAT)
}

/// Changes a packet so that it has the tuple that its connection, whose `flags` are given, says.
#[inline]
pub(super) fn retarget(packet: &mut Packet, parsed: &mut Parsed, entry: Entry<'_>, handle: Handle, flags: u32) {
    let (orig, reply) = entry.both(flags);
    // Chosen by a mask: packets of both directions come mixed, and a branch would be mispredicted.
    let if_reply = u64::from(handle.reply).wrapping_neg();
    let choose = |a: &Tuple, b: &Tuple| Tuple(std::array::from_fn(|i| a.0[i] & if_reply | b.0[i] & !if_reply));
    let (from, to) = (choose(&reply, &orig), choose(&orig, &reply).reversed());
    if !from.is(&to) && (handle.related || !nat::apply_common(packet, parsed, &from, &to)) {
        nat::apply(packet, parsed, &from, &to, handle.related);
    }
}

/// Sets the connection's mark and label as the action says; what they are then, and whether they were something else.
#[inline]
fn settle(entry: Entry<'_>, spec: &Spec<'_>) -> (u32, u128, bool) {
    let was = (entry.mark.load(Ordering::Relaxed), entry.label());
    let (mut mark, mut label) = was;
    // A related connection has what its parent has.
    let own = !entry.has(RELATED);
    if let Some((value, bits)) = spec.mark
        && own
    {
        mark = value | mark & !bits;
        entry.mark.store(mark, Ordering::Relaxed);
    }
    if let Some((value, bits)) = spec.label
        && own
    {
        label = value | label & !bits;
        entry.set_label(label);
    }
    (mark, label, was != (mark, label))
}

#[cfg(test)]
#[path = "track_tests.rs"]
mod tests;
