//! A forwarding thread's core: from a batch received to megaflows, and on to their actions.
//!
//! What enters: batches from `worker` (received) and `switch` (executed). What leaves: packets to `outlets`, misses to `upcall`, figures to
//! `stats`. Neighbours: `parse` (keys), `cache`, `classifier`, `slots` (lookup), `execute` (actions).
//!
//! # One round
//!
//! Each stage goes over the whole batch before the next begins, and asks for the memory that the next will need: extract keys; find
//! megaflows (`lookup`), fetch their cells and programs; count; carry out. Packets stay where they were received for as long as
//! possible:
//!
//! - A batch of one megaflow goes through its actions, or out, as it is; so does one of a few (`groups`) that all leave by one port.
//! - Packets of several megaflows whose programs are straight (`straight`) are changed in place, and leave together if they leave by one
//!   port, as nearly all do.
//! - Only packets of other programs are moved, into one bundle per megaflow.
//! - A batch of one megaflow that goes through `ct` and round again is mostly of one megaflow then, too, which is found without looking at each
//!   packet's key (`after_ct`).
//!
//! A batch comes in through `inbox`, which the receive queue fills in place.

use crate::bonds::Bonds;
use crate::bundle::{Bundle, Spares};
use crate::cache::Cache;
use crate::classifier::{BATCH, Classifier};
use crate::config::Live;
use crate::counters::{DROP_POLICED, DROP_RX_INVALID};
use crate::ct::seek::Wanted;
use crate::ct::{Ct, Local};
use crate::groups::{Found, Groups};
use crate::hash::LineHash;
use crate::memo::Memo;
use crate::meter::Meters;
use crate::outlets::{Outlets, PORTS_MAX};
use crate::parcel::Group;
use crate::parse::{FRAME_MIN, Parser, parse};
use crate::parsed::Parsed;
use crate::perf::{Laps, Stage};
use crate::qsbr::{Epochs, Guard, MEMBERS_MAX};
use crate::search::{all_of, bits};
use crate::slots::{Entry, NOT_QUICK, Slots};
use crate::stats::{Cell, Shard, Work, add};
use crate::tunnel::Sequences;
use crate::tunnel_host;
use crate::tunnel_mtu::Answers;
use crate::upcall::{PortQueue, Upcalls};
use crossbeam_utils::CachePadded;
use flow::DpPort;
use flow::action::Action;
use flow::clock::Msec;
use flow::extract::{Arrival, PacketMeta};
use port::Batch;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Under load the time is about as old as this at most, in cycles, and a batch more: some ten microseconds.
const TICK_CYCLES: u64 = 1 << 15;

/// What all forwarding threads and the control thread share.
#[derive(Debug)]
pub struct Shared {
    pub slots: Arc<Slots>,
    pub classifier: Arc<Classifier>,
    pub epochs: Arc<Epochs>,
    pub meters: Meters,
    pub bonds: Bonds,
    pub upcalls: Upcalls,
    pub live: Live,
    pub sequences: Sequences,
    pub ct: Arc<Ct>,
    /// Megaflows that look at a connection's label or original tuple. Raised before the first of them can be found.
    pub ct_asked: AtomicU32,
    /// For packets whose input port is not one of ours.
    pub strangers: Arc<PortQueue>,
    /// By seat.
    pub shards: Box<[OnceLock<Shard>]>,
    pub work: Box<[CachePadded<Work>]>,
    pub(crate) hash: LineHash,
}

impl Shared {
    /// Nothing in it yet.
    #[must_use]
    pub fn new(slots: Arc<Slots>, classifier: Arc<Classifier>) -> Self {
        Self {
            slots,
            classifier,
            epochs: Epochs::new(),
            meters: Meters::default(),
            bonds: Bonds::default(),
            upcalls: Upcalls::default(),
            live: Live::default(),
            sequences: Sequences::default(),
            ct: Arc::new(Ct::new()),
            ct_asked: AtomicU32::new(0),
            strangers: PortQueue::new(DpPort(u32::MAX)),
            shards: (0..MEMBERS_MAX).map(|_| OnceLock::new()).collect(),
            work: (0..MEMBERS_MAX).map(|_| CachePadded::default()).collect(),
            hash: LineHash::new(),
        }
    }
}

/// What a thread may read until its next quiescent point.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'g> {
    pub shared: &'g Shared,
    pub guard: Guard<'g>,
}

/// A forwarding thread's own state.
#[derive(Debug)]
pub struct Core {
    pub outlets: Outlets,
    pub spares: Spares,
    pub ct: Local,
    pub(crate) wanted: Box<Wanted>,
    pub(crate) cache: Cache,
    pub(crate) memo: Memo,
    parser: Parser,
    /// The same of packets that came out of tunnels.
    pub(crate) inner_parser: Parser,
    /// Where the next batch is received.
    inbox: Option<Box<Bundle>>,
    pub seat: usize,
    pub now_ms: Msec,
    /// The receive queue by which the packets at hand came in.
    pub rx_queue: u16,
    /// How deep in recirculation the current round is.
    pub depth: u32,
    pub random: u64,
    pub laps: Laps,
    pub(crate) answers: Answers,
    /// Empty, for upcalls.
    pub(crate) parcels: Group,
    /// The cycle counter when `now_ms` was read.
    ticked: u64,
    /// The loops over a batch run in their wide form (`wide`).
    pub(crate) wide: bool,
    pub(crate) hashes: [u64; BATCH],
}

impl Core {
    /// For the member in `seat`, with a cache for `flows` flows.
    #[must_use]
    pub fn new(seat: usize, flows: usize) -> Self {
        Self {
            outlets: Outlets::default(),
            spares: Spares::default(),
            ct: Local::new(seat),
            wanted: Wanted::new(),
            cache: Cache::new(flows),
            memo: Memo::new(),
            parser: Parser::default(),
            inner_parser: Parser::default(),
            inbox: None,
            seat,
            now_ms: 0,
            rx_queue: 0,
            depth: 0,
            random: crate::hash::random() | 1,
            laps: Laps::default(),
            answers: Answers::default(),
            parcels: Vec::new(),
            ticked: 0,
            wide: crate::wide::on(),
            hashes: [0; BATCH],
        }
    }

    /// Replaces the cache by an empty one for `flows` flows.
    pub fn resize_cache(&mut self, flows: usize) {
        self.cache = Cache::new(flows);
    }

    /// Where the packets of the next batch are to be put; then `received` forwards them.
    #[inline]
    pub fn inbox(&mut self) -> &mut Batch {
        let spares = &mut self.spares;
        &mut self.inbox.get_or_insert_with(|| spares.take()).packets
    }

    /// Forwards the batch in the inbox, which came from `in_port`.
    pub fn received(&mut self, scope: Scope<'_>, in_port: DpPort) {
        let Some(mut bundle) = self.inbox.take() else {
            return;
        };
        let meta = PacketMeta { in_port, vlan_limit: scope.shared.live.vlan_limit(), ..PacketMeta::default() };
        let arrival = Arrival::new(meta);
        let mut looked = parse(&mut bundle, &arrival, self.wide, &mut self.parser);
        if looked.short {
            looked.measured = false;
            let before = bundle.packets.len();
            bundle.split(|_, packet| packet.len() >= FRAME_MIN, None);
            DROP_RX_INVALID.add((before - bundle.packets.len()) as u64);
        }
        if let Some(policer) = self.outlets.outlet(in_port.0).and_then(|outlet| outlet.upcalls.policer.load(scope.guard)) {
            looked.measured = false;
            let drop = policer.judge(&bundle, self.now_ms);
            DROP_POLICED.add(drop.count_ones().into());
            bundle.split(|i, _| drop & 1 << i == 0, None);
        }
        add(&self.work(scope.shared).received, bundle.packets.len() as u64);
        self.laps.count(bundle.packets.len(), &self.work(scope.shared).cycles);
        self.lap(scope.shared, Stage::Parse);
        self.round_as(scope, bundle, looked.measured);
        self.lap(scope.shared, Stage::Act);
    }

    /// Forwards the batch in the inbox, which the host's stack has received for the tunnel port `port`: outer headers are still on.
    pub fn received_outer(&mut self, scope: Scope<'_>, port: DpPort) {
        let Some(mut bundle) = self.inbox.take() else {
            return;
        };
        add(&self.work(scope.shared).received, bundle.packets.len() as u64);
        self.laps.count(bundle.packets.len(), &self.work(scope.shared).cycles);
        bundle.fresh = Some(port);
        if let Some(mut bundle) = self.decapsulate(scope, bundle, port) {
            tunnel_host::mend(&mut bundle);
            self.lap(scope.shared, Stage::Parse);
            self.enter_tunnel(scope, bundle);
        }
        self.lap(scope.shared, Stage::Act);
    }

    /// Reads the clock for a batch of `packets`, if it is not a full one of many that follow each other. `cycles` is the cycle counter, as read before
    /// the batch came.
    #[inline]
    pub fn tick(&mut self, packets: usize, cycles: u64) {
        if packets > 0 && (packets < BATCH || cycles.wrapping_sub(self.ticked) >= TICK_CYCLES) {
            self.now_ms = flow::clock::now_ms();
            self.ticked = cycles;
        }
    }

    /// Charges the time since the last lap to `stage`.
    #[inline]
    pub fn lap(&mut self, shared: &Shared, stage: Stage) {
        self.laps.lap(stage, &shared.work[self.seat].cycles);
    }

    /// This thread's figures.
    #[inline]
    pub fn work<'s>(&self, shared: &'s Shared) -> &'s Work {
        &shared.work[self.seat]
    }

    /// Finds the megaflow of each packet and carries it out. The keys are extracted already.
    pub fn round(&mut self, scope: Scope<'_>, bundle: Box<Bundle>) {
        self.round_as(scope, bundle, false);
    }

    /// The same. `measured`: the packets are those of the last parse, and as long as it has found them.
    #[inline]
    fn round_as(&mut self, scope: Scope<'_>, mut bundle: Box<Bundle>, measured: bool) {
        let n = bundle.packets.len();
        if n == 0 {
            return self.spares.give(bundle);
        }
        let mut found = Found::default();
        let missing = self.look_up_told(scope, (&mut bundle.parsed, n), &mut found);
        let work = self.work(scope.shared);
        add(&work.hit, n as u64 - u64::from(missing.count_ones()));
        if missing != 0 {
            add(&work.missed, missing.count_ones().into());
        }
        let grouped = found.groups.cover(all_of(n));
        let only = if grouped {
            found.groups.only()
        } else {
            found.each[0].filter(|first| found.each[..n].iter().all(|f| *f == Some(*first)))
        };
        match only {
            Some(entry) => self.count_all(scope.shared, &bundle, entry),
            None if grouped => self.count_groups(scope.shared, &bundle, &found.groups, measured),
            None => self.count_each(scope, &bundle, &found.each[..n]),
        }
        self.lap(scope.shared, Stage::Account);
        if let Some(entry) = only {
            return self.carry_out(scope, entry, bundle);
        }
        if grouped {
            if let Some(port) = found.groups.port() {
                self.outlets.send_all(port, &mut bundle.packets);
                return self.spares.give(bundle);
            }
            found.tell();
        }
        self.part(scope, bundle, &found.each[..n]);
    }

    /// `round` of packets that are all known to be `entry`'s, under a recirculation id that does not stand in their keys yet.
    pub(crate) fn round_of(&mut self, scope: Scope<'_>, mut bundle: Box<Bundle>, entry: Entry<'_>, id: u32) {
        let (n, work) = (bundle.packets.len() as u64, self.work(scope.shared));
        add(&work.hit, n);
        add(&work.cache_hits, n);
        add(&work.after_ct, n);
        self.lap(scope.shared, Stage::Cache);
        self.count_all(scope.shared, &bundle, entry);
        self.lap(scope.shared, Stage::Account);
        let quick = entry.quick();
        if quick != NOT_QUICK {
            // Nobody looks at their keys any more.
            self.outlets.send_all(quick, &mut bundle.packets);
            return self.spares.give(bundle);
        }
        bundle.set_recirc_id(id);
        self.carry_out(scope, entry, bundle);
    }

    /// Finds megaflows, of packets in whose keys everything stands that megaflows look at.
    #[inline]
    fn look_up_told<'g>(&mut self, scope: Scope<'g>, (parsed, n): (&mut [Parsed; BATCH], usize), found: &mut Found<'g>) -> u32 {
        // Only what goes round again has been tracked.
        let tracked = self.depth > 0;
        let asked = || scope.shared.ct_asked.load(Ordering::Acquire) != 0;
        if tracked && asked() {
            parsed[..n].iter_mut().for_each(|parsed| scope.shared.ct.tell(parsed));
            return self.look_up(scope, (parsed, n), found);
        }
        let looked = self.look_up(scope, (parsed, n), found);
        if !tracked || !asked() {
            return looked;
        }
        // The first megaflow that asks came meanwhile, and may have been found for packets that it is not for.
        parsed[..n].iter_mut().for_each(|parsed| scope.shared.ct.tell(parsed));
        *found = Found::default();
        self.look_up(scope, (parsed, n), found)
    }

    /// All packets of the bundle are `entry`'s.
    fn carry_out(&mut self, scope: Scope<'_>, entry: Entry<'_>, mut bundle: Box<Bundle>) {
        let quick = entry.quick();
        if quick != NOT_QUICK {
            self.outlets.send_all(quick, &mut bundle.packets);
            return self.spares.give(bundle);
        }
        let Some(program) = entry.head().program.load(scope.guard) else {
            return self.spares.give(bundle);
        };
        if let [Action::Ct(ct), rest @ ..] = program.actions.as_slice()
            && let [Action::Recirc(id)] = rest
        {
            return self.track_and_recirculate(scope, bundle, entry, (ct, *id, rest));
        }
        let Some(straight) = &program.straight else {
            return self.run(scope, bundle, &program.actions);
        };
        let mut lost = 0u32;
        for (i, (packet, parsed)) in bundle.packets.iter_mut().zip(&mut bundle.parsed).enumerate() {
            if let Err(counter) = straight.apply(packet, parsed) {
                counter.inc();
                lost |= 1 << i;
            }
        }
        if lost != 0 {
            bundle.split(|i, _| lost & 1 << i == 0, None);
        }
        self.outlets.send_all(straight.port(), &mut bundle.packets);
        self.spares.give(bundle);
    }

    /// A batch of several megaflows.
    fn part<'g>(&mut self, scope: Scope<'g>, mut bundle: Box<Bundle>, found: &[Option<Entry<'g>>]) {
        if let Some(port) = common_port(found) {
            self.outlets.send_all(port, &mut bundle.packets);
            return self.spares.give(bundle);
        }
        let mut ways = [Way(0); BATCH];
        let full = self.full_port(scope.shared, &bundle, found);
        let mut turned_away = 0;
        for (i, entry) in found.iter().enumerate() {
            ways[i] = match entry {
                Some(entry) => way(scope, *entry, &mut bundle, i),
                None if full == Some(bundle.parsed[i].key.in_port) => {
                    turned_away += 1;
                    Way::FREE
                }
                None => Way::UP,
            };
        }
        if let (Some(port), 1..) = (full, turned_away) {
            self.turn_away(scope.shared, port, turned_away);
        }
        let ways = &ways[..found.len()];
        if ways.iter().all(|way| *way == ways[0]) && (ways[0].is_port() || ways[0] == Way::FREE) {
            if ways[0].is_port() {
                self.outlets.send_all(ways[0].0, &mut bundle.packets);
            }
            return self.spares.give(bundle);
        }
        let mut groups: [Option<(Entry<'g>, Box<Bundle>)>; BATCH] = [const { None }; BATCH];
        let mut n_groups = 0;
        let mut packets = std::mem::take(&mut bundle.packets);
        for (i, packet) in packets.drain().enumerate() {
            match (ways[i], found[i]) {
                (Way::FREE, _) => drop(packet),
                (Way::GENERAL, Some(entry)) => {
                    let known = groups[..n_groups].iter_mut().flatten().find(|(e, _)| *e == entry);
                    let group = match known {
                        Some((_, group)) => group,
                        None => {
                            n_groups += 1;
                            &mut groups[n_groups - 1].insert((entry, self.spares.take())).1
                        }
                    };
                    group.push(packet, &bundle.parsed[i]);
                }
                (_, None) => self.miss(scope.shared, packet, &bundle.parsed[i]),
                (port, Some(_)) => self.outlets.send(port.0, packet),
            }
        }
        self.spares.give(bundle);
        for (entry, group) in groups[..n_groups].iter_mut().filter_map(Option::take) {
            self.carry_out(scope, entry, group);
        }
    }

    /// Counts the whole bundle on one megaflow.
    fn count_all(&self, shared: &Shared, bundle: &Bundle, entry: Entry<'_>) {
        let cell = shared.shards[self.seat].get().and_then(|shard| shard.cell(entry.number()));
        if let Some(cell) = cell {
            let n = bundle.packets.len();
            cell.count(n as u64, bundle.packets.bytes(), self.now_ms, tcp_flags(entry, bundle.parsed[..n].iter()));
        }
    }

    /// Counts the packets of each of a few megaflows.
    fn count_groups(&self, shared: &Shared, bundle: &Bundle, groups: &Groups<'_>, measured: bool) {
        let Some(shard) = shared.shards[self.seat].get() else {
            return;
        };
        for ((entry, own), bytes) in groups.each().zip(groups.bytes(&bundle.packets, measured.then_some(&self.parser.lengths))) {
            let flags = tcp_flags(entry, bits(own).map(|i| &bundle.parsed[i]));
            if let Some(cell) = shard.cell(entry.number()) {
                cell.count(own.count_ones().into(), bytes.into(), self.now_ms, flags);
            }
        }
    }

    /// Counts each packet on its megaflow, whose cell and program are fetched first, all of them at once.
    fn count_each(&self, scope: Scope<'_>, bundle: &Bundle, found: &[Option<Entry<'_>>]) {
        let Some(shard) = scope.shared.shards[self.seat].get() else {
            return;
        };
        let mut cells = [None; BATCH];
        for (cell, entry) in cells.iter_mut().zip(found) {
            let Some(entry) = entry else { continue };
            *cell = shard.cell(entry.number());
            if let Some(cell) = cell {
                crate::prefetch(std::ptr::from_ref::<Cell>(cell));
            }
            if entry.quick() == NOT_QUICK
                && let Some(program) = entry.head().program.load(scope.guard)
            {
                program.prefetch();
            }
        }
        for ((packet, parsed), cell) in bundle.packets.iter().zip(&bundle.parsed).zip(&cells) {
            if let Some(cell) = cell {
                cell.count(1, packet.len() as u64, self.now_ms, parsed.tcp_flags());
            }
        }
    }
}

/// The TCP flags of a megaflow's packets.
#[inline]
fn tcp_flags<'p>(entry: Entry<'_>, parsed: impl Iterator<Item = &'p Parsed>) -> u16 {
    match entry.is_tcp() {
        Some(false) => 0,
        Some(true) => Parsed::flags_of(parsed.fold(0, |flags, parsed| flags | u16::from_ne_bytes(parsed.key.tcp_flags))),
        None => parsed.fold(0, |flags, parsed| flags | parsed.tcp_flags()),
    }
}

/// The port, if all megaflows are an output to the same one.
#[inline]
fn common_port(found: &[Option<Entry<'_>>]) -> Option<u32> {
    let port = found[0]?.quick();
    let same = found.iter().fold(true, |same, f| same & f.is_some_and(|entry| entry.quick() == port));
    (same && port != NOT_QUICK).then_some(port)
}

/// Where a packet goes next: a port's number, or one of the others.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Way(u32);

impl Way {
    /// There is no megaflow.
    const UP: Self = Self(u32::MAX);
    /// Its program has to be run.
    const GENERAL: Self = Self(u32::MAX - 1);
    /// It could not be changed as its program says.
    const FREE: Self = Self(u32::MAX - 2);

    fn is_port(self) -> bool {
        self.0 < PORTS_MAX
    }
}

/// Where packet `i` of the bundle goes, once the changes of a straight program are made.
#[inline]
fn way(scope: Scope<'_>, entry: Entry<'_>, bundle: &mut Bundle, i: usize) -> Way {
    let quick = entry.quick();
    if quick != NOT_QUICK {
        return Way(quick);
    }
    let program = entry.head().program.load(scope.guard);
    let Some(straight) = program.and_then(|program| program.straight.as_deref()) else {
        return Way::GENERAL;
    };
    match straight.apply(&mut bundle.packets[i], &mut bundle.parsed[i]) {
        Ok(()) => Way(straight.port()),
        Err(counter) => {
            counter.inc();
            Way::FREE
        }
    }
}

const _: () = assert!(PORTS_MAX < Way::FREE.0);
