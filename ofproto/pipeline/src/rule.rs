//! A rule of an OpenFlow table: what never changes about it, and its counters, which do all the time.
//!
//! What enters: flow-mods (through `flow_mod`). What leaves: the rule that a lookup found, credited by translation and by the
//! statistics of megaflows. Neighbours: `table`, `classifier`, `flow_mod`, `xlate`, `udpif`.
//!
//! A rule is shared as `Arc<Rule>`: a translation, the credits of a megaflow and the table may hold it at once. A modification
//! that changes actions makes a new rule, so that who holds the old one still sees what it acted upon; both share one `Life`, so that
//! packets credited to the old one are not lost.

use crate::bridge::Bridge;
use crate::classifier::{Classified, Conjunction, MiniMatch};
use crate::world::BridgeId;
use flow::Msec;
use flow::matching::Match;
use openflow::TableId;
use openflow::action::OfAction;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicU64, Ordering};

/// Packets and bytes that something has seen. Adding is relaxed: readers want totals, not order.
#[derive(Debug, Default)]
pub struct Tally {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Tally {
    /// Adds a megaflow's packets or a single one.
    pub fn add(&self, packets: u64, bytes: u64) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// (packets, bytes)
    #[must_use]
    pub fn read(&self) -> (u64, u64) {
        (self.packets.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// The same; from here on it counts anew (OFPFF_RESET_COUNTS).
    pub fn take(&self) -> (u64, u64) {
        (self.packets.swap(0, Ordering::Relaxed), self.bytes.swap(0, Ordering::Relaxed))
    }
}

/// What lives through modifications of a rule.
#[derive(Debug, Default)]
pub struct Life {
    pub tally: Tally,
    pub created_ms: Msec,
    /// When a packet last hit.
    pub used_ms: AtomicI64,
    /// When actions last changed.
    pub modified_ms: AtomicI64,
    /// Seconds, 0 for never. Atomic, because `fin_timeout` shortens them.
    pub idle_timeout_s: AtomicU16,
    pub hard_timeout_s: AtomicU16,
    /// In which order rules came: dumps tell older ones first. It takes the place of padding, and goes round after four milliards.
    pub serial: u32,
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    pub bridge: BridgeId,
    pub table: TableId,
    /// 0..=65535 for users; larger for rules of the switch itself (in-band 180000.., fail-open 0xf0f0f0).
    pub priority: i32,
    /// Its match.
    pub mini: MiniMatch,
    /// Actions and instructions, in order of execution.
    pub actions: Box<[OfAction]>,
    /// The `conjunction` actions among them; hardly any rule has some.
    #[allow(clippy::box_collection, reason = "a million rules have none: a pointer is all that they cost")]
    pub conjunctions: Option<Box<Vec<Conjunction>>>,
    pub cookie: AtomicU64,
    /// `flow_mod_flags`
    pub flags: u16,
    pub importance: u16,
    pub life: Arc<Life>,
}

const _: () = assert!(size_of::<Rule>() <= 112, "two lines with the counts of an Arc");

/// Priorities above are the switch's own: hidden from controllers.
pub const PRIORITY_MAX: i32 = 65_535;

impl Rule {
    /// Credits packets that hit the rule, the last of them at `used_ms`.
    pub fn credit(&self, packets: u64, bytes: u64, used_ms: Msec) {
        self.life.tally.add(packets, bytes);
        self.life.used_ms.fetch_max(used_ms, Ordering::Relaxed);
    }

    /// Whether controllers neither see nor touch it.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.priority > PRIORITY_MAX || self.table == crate::table::INTERNAL
    }

    /// Its match; tunnel options lie as the bridge has mapped them.
    #[must_use]
    pub fn matching(&self, bridge: &Bridge) -> Match {
        let (key, mask) = self.mini.expand();
        let mut matching = Match::with_options(Arc::clone(&bridge.tunnel_options));
        matching.key = key;
        matching.mask = mask;
        matching
    }

    /// Seconds, 0 for never.
    #[must_use]
    pub fn timeouts_s(&self) -> (u16, u16) {
        (self.life.idle_timeout_s.load(Ordering::Relaxed), self.life.hard_timeout_s.load(Ordering::Relaxed))
    }

    /// `fin_timeout`: shortens the timeouts; 0 leaves one as it is.
    pub fn shorten_timeouts(&self, idle_s: u16, hard_s: u16) {
        let shorten = |timeout: &AtomicU16, to: u16| {
            let old = timeout.load(Ordering::Relaxed);
            if to != 0 && (old == 0 || to < old) {
                timeout.store(to, Ordering::Relaxed);
            }
        };
        shorten(&self.life.idle_timeout_s, idle_s);
        shorten(&self.life.hard_timeout_s, hard_s);
    }
}

impl Classified for Arc<Rule> {
    fn mini(&self) -> &MiniMatch {
        &self.mini
    }

    fn priority(&self) -> u32 {
        u32::try_from(self.priority).unwrap_or(0)
    }

    fn conjunctions(&self) -> &[Conjunction] {
        self.conjunctions.as_ref().map_or(&[], |conjunctions| conjunctions.as_slice())
    }
}
