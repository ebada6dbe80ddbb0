//! One of a bridge's 255 tables: its rules and its settings.
//!
//! What enters: rules (through `flow_mod`), keys to look up. What leaves: the rule that wins, and the bits that decided it.
//! Neighbours: `classifier` (the search), `flow_mod`, `xlate`.

use crate::classifier::Classifier;
use crate::config::TableConfig;
use crate::rule::Rule;
use flow::key::{Key, Mask};
use openflow::TableId;
use openflow::message::TableDesc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

/// Tables of a bridge: 0..=253 for users, 254 for the switch itself.
pub const TABLES: usize = 255;
/// The internal table.
pub const INTERNAL: TableId = TableId(254);

/// What a table does with packets that match no rule (OFPTC11_TABLE_MISS_*).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Miss {
    /// As the OpenFlow version of the controllers says: to the controller up to 1.2, drop from 1.3 on.
    #[default]
    Default,
    Controller,
    /// On to the next table.
    Continue,
    Drop,
}

/// What decides which rules are evicted, as OpenFlow says it: OTHER, IMPORTANCE and LIFETIME (OFPTMPEF14_*).
pub const EVICTION_FLAGS: u32 = 0x7;

/// Reasons of OFPT_TABLE_STATUS.
mod vacancy {
    pub(super) const DOWN: u8 = 3;
    pub(super) const UP: u8 = 4;
}

/// How full a table is watched to be (OpenFlow 1.4 section 6.2.6): thresholds in percent, and the event that comes next.
#[derive(Clone, Copy, Debug, Default)]
struct Vacancy {
    down: u8,
    up: u8,
    /// `None`: it is not watched.
    awaited: Option<u8>,
}

/// A table.
#[derive(Debug)]
pub struct Table {
    pub id: TableId,
    /// As the database has it.
    pub config: TableConfig,
    /// As controllers call it; the database's name goes before.
    pub name: Option<String>,
    /// Controllers have it evict rules when it is full (OFPTC_EVICTION), as the database may as well.
    pub evicts: bool,
    vacancy: Mutex<Vacancy>,
    /// What a packet that matches no rule does.
    pub miss: Miss,
    /// The rules. Locked for each lookup alone, never while actions run: `learn` adds rules in the middle of a translation.
    pub rules: RwLock<Classifier<Arc<Rule>>>,
    /// Lookups since the start, and those that found a rule.
    pub lookups: AtomicU64,
    pub matched: AtomicU64,
    /// Rules of the switch itself, which controllers do not see.
    pub hidden: AtomicUsize,
    /// Some rule may have a timeout. Set after the rule is there, taken back before the rules are gone over.
    timed: AtomicBool,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(id: TableId) -> Self {
        Self {
            id,
            config: TableConfig::default(),
            name: None,
            evicts: false,
            vacancy: Mutex::default(),
            miss: Miss::Default,
            rules: RwLock::default(),
            lookups: AtomicU64::new(0),
            matched: AtomicU64::new(0),
            hidden: AtomicUsize::new(0),
            timed: AtomicBool::new(false),
        }
    }

    /// Its name, "" for none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.config.name.as_deref().or(self.name.as_deref()).unwrap_or_default()
    }

    /// Takes up what the database says; a name there drops the one that a controller gave.
    pub fn configure(&mut self, config: &TableConfig) {
        if config.name.is_some() {
            self.name = None;
        }
        self.config = config.clone();
    }

    /// Whether rules are evicted when it is full.
    #[must_use]
    pub fn is_evicting(&self) -> bool {
        self.evicts || self.config.evict
    }

    /// Rules in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.read().expect("no holder of a table's rules panics").len()
    }

    /// Whether it has no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Room left, in percent.
    fn vacancy_percent(&self) -> u8 {
        let Some(limit) = self.config.flow_limit.filter(|l| *l > 0) else { return 100 };
        let left = limit.saturating_sub(self.len());
        u8::try_from(left * 100 / limit).unwrap_or(100)
    }

    /// Watches the room left, between thresholds in percent (down, up), or no longer. Which event comes next depends on the room that
    /// there is when watching begins.
    pub fn watch_vacancy(&self, thresholds: Option<(u8, u8)>) {
        let now = self.vacancy_percent();
        let mut vacancy = self.vacancy.lock().expect("no holder of a vacancy panics");
        match thresholds {
            None => *vacancy = Vacancy::default(),
            Some((down, up)) => {
                let first = if now < up { vacancy::UP } else { vacancy::DOWN };
                *vacancy = Vacancy { down, up, awaited: vacancy.awaited.or(Some(first)) };
            }
        }
    }

    /// The event that the number of rules has brought about, if one was awaited: its reason and what it tells.
    #[must_use]
    pub fn vacancy_event(&self) -> Option<(u8, TableDesc)> {
        self.config.flow_limit?;
        let now = self.vacancy_percent();
        let mut vacancy = self.vacancy.lock().expect("no holder of a vacancy panics");
        let awaited = vacancy.awaited?;
        let come = match awaited {
            vacancy::DOWN => now < vacancy.down,
            _ => now > vacancy.up,
        };
        if !come {
            return None;
        }
        vacancy.awaited = Some(if awaited == vacancy::DOWN { vacancy::UP } else { vacancy::DOWN });
        drop(vacancy);
        Some((awaited, self.desc()))
    }

    /// What OpenFlow 1.4 tells of its settings.
    #[must_use]
    pub fn desc(&self) -> TableDesc {
        let vacancy_now = self.vacancy_percent();
        let vacancy = *self.vacancy.lock().expect("no holder of a vacancy panics");
        TableDesc {
            table: self.id,
            eviction: self.evicts,
            eviction_flags: EVICTION_FLAGS,
            vacancy: vacancy.awaited.is_some(),
            vacancy_down: vacancy.down,
            vacancy_up: vacancy.up,
            vacancy_now,
        }
    }

    /// Rules that controllers see.
    #[must_use]
    pub fn visible_rules(&self) -> usize {
        let all = self.rules.read().expect("no holder of a table's rules panics").len();
        all.saturating_sub(self.hidden.load(Ordering::Relaxed))
    }

    /// A rule in it may have a timeout now.
    pub fn note_timed(&self) {
        self.timed.store(true, Ordering::Release);
    }

    /// Whether a rule may have a timeout. Whoever asks goes over the rules next and says again if there is one.
    #[must_use]
    pub fn take_timed(&self) -> bool {
        self.timed.load(Ordering::Relaxed) && self.timed.swap(false, Ordering::AcqRel)
    }

    /// The rule of highest priority that `key` matches; adds the bits that decided to `wildcards`.
    #[must_use]
    pub fn lookup(&self, key: &Key, wildcards: Option<&mut Mask>) -> Option<Arc<Rule>> {
        self.rules.read().expect("no holder of a table's rules panics").lookup(key, wildcards).cloned()
    }

    /// The rules by whose conjunction `key` matches `found`; none if that matches by itself.
    #[must_use]
    pub fn conjunctive(&self, key: &Key, found: &Rule) -> Vec<Arc<Rule>> {
        if !found.mini.mask().has_conj_id() {
            return Vec::new();
        }
        let id = u32::from_be_bytes(found.mini.expand().0.conj_id);
        let rules = self.rules.read().expect("no holder of a table's rules panics");
        rules.conjunctive(key, id).into_iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_database_goes_before() {
        let mut t = Table::new(TableId(0));
        t.name = Some("xyzzy".into());
        assert_eq!(t.name(), "xyzzy");
        t.configure(&TableConfig { name: Some("zero".into()), ..TableConfig::default() });
        assert_eq!(t.name(), "zero");
        t.configure(&TableConfig::default());
        assert_eq!(t.name(), "", "the controller's name is forgotten");
    }

    #[test]
    fn that_a_rule_may_expire_is_said_until_it_is_asked() {
        let t = Table::new(TableId(0));
        assert!(!t.take_timed());
        t.note_timed();
        assert!(t.take_timed() && !t.take_timed());
    }

    #[test]
    fn a_table_without_limit_is_never_full() {
        let t = Table::new(TableId(0));
        t.watch_vacancy(Some((20, 80)));
        assert!(t.vacancy_event().is_none());
        let desc = t.desc();
        assert_eq!((desc.vacancy, desc.vacancy_down, desc.vacancy_up, desc.vacancy_now), (true, 20, 80, 100));
        t.watch_vacancy(None);
        assert!(!t.desc().vacancy);
    }
}
