//! What `Open_vSwitch.other_config` says about the datapath.
//!
//! What enters: keys and values as text. What leaves: `Settings` for the control thread, and `Live`, what forwarding threads look at. A value
//! that makes no sense is logged and leaves the default, as in OVS.

use crate::schedule::Assignment;
use crate::topology::CoreId;
use flow::clock::Msec;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// Settings that need the control thread's work when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The cores of `pmd-cpu-mask`, a worker each; `None` without a mask.
    pub cores: Option<Vec<CoreId>>,
    /// `n-workers`: so many workers, pinned nowhere. `None`: one for each NUMA node. Counts only without a mask.
    pub workers: Option<usize>,
    /// Flows that each worker's signature cache is made for; 0 turns it off.
    pub cache_flows: usize,
    /// VLAN tags that a key holds.
    pub vlan_limit: u8,
    /// How receive queues are dealt out to workers.
    pub way: Assignment,
    /// A worker with a pinned queue takes no others.
    pub isolate: bool,
    pub balance: AutoBalance,
    pub sleep: Sleep,
    /// Histograms and histories of the workers' rounds are kept.
    pub perf_metrics: bool,
}

/// `pmd-auto-lb` and what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoBalance {
    pub enabled: bool,
    pub interval_min: u32,
    /// Percent by which the loads' variance has to shrink.
    pub improvement: u8,
    /// Percent of load from which a worker counts as overloaded.
    pub load: u8,
}

impl Default for AutoBalance {
    fn default() -> Self {
        Self { enabled: false, interval_min: 1, improvement: 25, load: 95 }
    }
}

impl AutoBalance {
    /// Milliseconds between two checks.
    #[must_use]
    pub fn interval_ms(&self) -> Msec {
        Msec::from(self.interval_min) * 60_000
    }

    fn announce(&self, before: Option<&Self>) {
        let differs = |f: fn(&Self) -> u32| before.is_none_or(|b| f(b) != f(self));
        let mut changed = false;
        if differs(|s| s.interval_min) {
            tracing::info!(target: "dpif_netdev", "PMD auto load balance interval set to {} mins", self.interval_min);
            changed = true;
        }
        if differs(|s| s.improvement.into()) {
            tracing::info!(target: "dpif_netdev", "PMD auto load balance improvement threshold set to {}%", self.improvement);
            changed = true;
        }
        if differs(|s| s.load.into()) {
            tracing::info!(target: "dpif_netdev", "PMD auto load balance load threshold set to {}%", self.load);
            changed = true;
        }
        if !changed && !differs(|s| s.enabled.into()) {
            return;
        }
        if self.enabled {
            let Self { interval_min, improvement, load, .. } = self;
            tracing::info!(target: "dpif_netdev", "PMD auto load balance is enabled, interval {interval_min} mins, pmd load threshold {load}%, improvement threshold {improvement}%.");
        } else {
            tracing::info!(target: "dpif_netdev", "PMD auto load balance is disabled.");
        }
    }
}

/// How long a lightly loaded worker may nap between two rounds (`pmd-sleep-max`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sleep {
    pub default_us: u32,
    /// Workers with a limit of their own, by core.
    pub by_core: Vec<(CoreId, u32)>,
    /// Said with the older key, `pmd-maxsleep`.
    pub old_key: bool,
}

/// The longest nap (OVS: PMD_RCU_QUIESCE_INTERVAL).
const SLEEP_MAX_US: u32 = 10_000;

impl Sleep {
    /// The limit of the worker on that core.
    #[must_use]
    pub fn of_core(&self, core: Option<CoreId>) -> u32 {
        let own = self.by_core.iter().find(|(c, _)| Some(*c) == core);
        own.map_or(self.default_us, |(_, us)| *us)
    }

    /// `100`, `1:100,3:0` or `50,1:100`; parts that make no sense are left out, with a warning.
    fn parse(text: &str) -> Self {
        let mut sleep = Self::default();
        let us = |text: &str| text.parse::<u32>().ok().map(|us| us.min(SLEEP_MAX_US));
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let read = match part.split_once(':') {
                None => us(part).map(|us| sleep.default_us = us),
                Some((core, limit)) => core.parse().ok().zip(us(limit)).map(|(core, us)| sleep.by_core.push((core, us))),
            };
            if read.is_none() {
                tracing::warn!(target: "dpif_netdev", "invalid value '{part}' in pmd-sleep-max: expected microseconds or core:microseconds");
            }
        }
        sleep
    }

    fn announce(&self, before: Option<&Self>) {
        if before == Some(self) {
            return;
        }
        if self.old_key || before.is_none() {
            tracing::info!(target: "dpif_netdev", "PMD max sleep request is {} usecs.", self.default_us);
            let state = if self.default_us > 0 { "enabled" } else { "disabled" };
            tracing::info!(target: "dpif_netdev", "PMD load based sleeps are {state}.");
        } else {
            tracing::info!(target: "dpif_netdev", "Default PMD thread max sleep: {:4} us.", self.default_us);
            for (core, us) in &self.by_core {
                tracing::info!(target: "dpif_netdev", "PMD thread on core id: {core:2} max sleep: {us:4} us.");
            }
        }
    }
}

/// Workers at most: new ones take their seats before the old ones leave, and one seat is that of `execute`.
pub const WORKERS_MAX: usize = crate::qsbr::MEMBERS_MAX / 2 - 1;

impl Default for Settings {
    fn default() -> Self {
        Self {
            cores: None,
            workers: None,
            cache_flows: crate::cache::FLOWS_DEFAULT,
            vlan_limit: 1,
            way: Assignment::default(),
            isolate: true,
            balance: AutoBalance::default(),
            sleep: Sleep::default(),
            perf_metrics: false,
        }
    }
}

impl Settings {
    /// Reads what concerns the datapath (`pmd-*`, `n-workers`, `signature-cache-flows`, `vlan-limit`, and what turns OVS's caches off);
    /// other keys are others' affair.
    #[must_use]
    pub fn of(config: &[(String, String)]) -> Self {
        let mut settings = Self::default();
        let (mut exact_match_cache, mut signature_cache) = (true, false);
        for (key, value) in config {
            match key.as_str() {
                "emc-insert-inv-prob" => exact_match_cache = value != "0",
                "smc-enable" => signature_cache = value == "true",
                _ => settings.take(key, value),
            }
        }
        if settings.way != Assignment::Group && !settings.isolate {
            tracing::warn!(target: "dpif_netdev", "pmd-rxq-isolate can only be set false when using pmd-rxq-assign=group");
            settings.isolate = true;
        }
        // Without either of OVS's caches there is to be none here: what there is takes the place of both.
        if !exact_match_cache && !signature_cache {
            settings.cache_flows = 0;
        }
        settings
    }

    fn take(&mut self, key: &str, value: &str) {
        match key {
            "pmd-cpu-mask" => match cpus_of(value) {
                Some(cpus) if !cpus.is_empty() => self.cores = Some(cpus),
                Some(_) => (),
                None => tracing::warn!(target: "dpif_netdev", "invalid value '{value}' for pmd-cpu-mask"),
            },
            "n-workers" => {
                let mut workers = 0;
                number(key, value, 1..=WORKERS_MAX, &mut workers);
                self.workers = Some(workers).filter(|n| *n > 0);
            }
            "signature-cache-flows" => number(key, value, 0..=crate::cache::FLOWS_MAX, &mut self.cache_flows),
            "vlan-limit" => {
                let mut limit = 1;
                number(key, value, 0..=usize::from(u8::MAX), &mut limit);
                // 0 is "as many as there can be".
                self.vlan_limit = if limit == 1 { 1 } else { flow::extract::VLANS_MAX };
            }
            "pmd-rxq-assign" => match Assignment::of(value) {
                Some(way) => self.way = way,
                None => {
                    tracing::warn!(target: "dpif_netdev", "Unsupported rx queue to PMD assignment mode in pmd-rxq-assign. Defaulting to 'cycles'.")
                }
            },
            "pmd-rxq-isolate" => self.isolate = value != "false",
            "pmd-perf-metrics" => self.perf_metrics = value == "true",
            "pmd-sleep-max" => self.sleep = Sleep::parse(value),
            "pmd-maxsleep" => {
                self.sleep = Sleep { old_key: true, ..Sleep::parse(value) };
            }
            "pmd-auto-lb" => self.balance.enabled = value == "true",
            "pmd-auto-lb-rebal-interval" => {
                // Zero is the shortest there is; what is no number of the range is the default.
                let minutes = value.parse().ok().filter(|n: &u32| *n <= INTERVAL_MAX_MIN);
                let default = AutoBalance::default().interval_min;
                self.balance.interval_min = minutes.map_or(default, |n| n.max(1));
            }
            "pmd-auto-lb-improvement-threshold" => self.balance.improvement = percent(value, AutoBalance::default().improvement),
            "pmd-auto-lb-load-threshold" => self.balance.load = percent(value, AutoBalance::default().load),
            _ => (),
        }
    }

    /// Says what has changed since `before` (`None`: all of it is new), in OVS's words.
    pub fn announce(&self, before: Option<&Self>) {
        let default = Self::default();
        let last = before.unwrap_or(&default);
        if self.perf_metrics != last.perf_metrics {
            let state = if self.perf_metrics { "enabled" } else { "disabled" };
            tracing::info!(target: "dpif_netdev", "PMD performance metrics collection {state}");
        }
        if self.way != last.way {
            tracing::info!(target: "dpif_netdev", "Rxq to PMD assignment mode changed to: '{}'.", self.way.name());
        }
        if self.isolate != last.isolate {
            let does = if self.isolate { "isolates" } else { "does not isolate" };
            tracing::info!(target: "dpif_netdev", "pmd-rxq-affinity {does} PMD core");
        }
        self.balance.announce(before.map(|b| &b.balance));
        self.sleep.announce(before.map(|b| &b.sleep));
    }
}

/// The longest `pmd-auto-lb-rebal-interval`.
const INTERVAL_MAX_MIN: u32 = 20_000;

fn percent(value: &str, default: u8) -> u8 {
    value.parse().ok().filter(|n: &u8| *n <= 100).unwrap_or(default)
}

fn number(key: &str, value: &str, range: std::ops::RangeInclusive<usize>, into: &mut usize) {
    match value.parse() {
        Ok(n) if range.contains(&n) => *into = n,
        Ok(_) | Err(_) => {
            tracing::warn!(target: "dpif_netdev", "{key}={value}: expected {} to {}", range.start(), range.end());
        }
    }
}

/// The CPUs of a hexadecimal mask, with or without 0x, lowest first.
fn cpus_of(mask: &str) -> Option<Vec<CoreId>> {
    let digits = mask.strip_prefix("0x").or_else(|| mask.strip_prefix("0X")).unwrap_or(mask);
    if digits.is_empty() || digits.len() > 1024 {
        return None;
    }
    let mut cpus = Vec::new();
    for (i, digit) in (0..).zip(digits.chars().rev()) {
        let value = digit.to_digit(16)?;
        cpus.extend((0..4).filter(|b| value & 1 << b != 0).map(|b| i * 4 + b));
    }
    Some(cpus)
}

/// What forwarding threads look at.
#[derive(Debug)]
pub struct Live {
    vlan_limit: AtomicU8,
    /// Whether forwarding threads account their cycles by stage (`perf`).
    pub stages: AtomicBool,
}

impl Default for Live {
    fn default() -> Self {
        Self { vlan_limit: AtomicU8::new(Settings::default().vlan_limit), stages: AtomicBool::new(false) }
    }
}

impl Live {
    /// VLAN tags that a key holds.
    #[inline]
    #[must_use]
    pub fn vlan_limit(&self) -> u8 {
        self.vlan_limit.load(Ordering::Relaxed)
    }

    /// Takes over what of `settings` needs no more than a store.
    pub fn set(&self, settings: &Settings) {
        self.vlan_limit.store(settings.vlan_limit, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_numbers() {
        let of = |pairs: &[(&str, &str)]| {
            let config: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Settings::of(&config)
        };
        let s = of(&[("pmd-cpu-mask", "0x16"), ("vlan-limit", "0")]);
        assert_eq!((s.cores, s.vlan_limit), (Some(vec![1, 2, 4]), 2));
        assert_eq!(of(&[("pmd-cpu-mask", "xyz"), ("n-workers", "0")]), Settings::default());
        assert_eq!(of(&[("n-workers", "3")]).workers, Some(3));
        assert_eq!(of(&[("emc-insert-inv-prob", "0"), ("signature-cache-flows", "5")]).cache_flows, 0);
        assert_ne!(of(&[("emc-insert-inv-prob", "0"), ("smc-enable", "true")]).cache_flows, 0);
        assert!(of(&[("pmd-rxq-isolate", "false")]).isolate);
        assert!(!of(&[("pmd-rxq-isolate", "false"), ("pmd-rxq-assign", "group")]).isolate);
        let minutes = |text| of(&[("pmd-auto-lb-rebal-interval", text)]).balance.interval_min;
        assert_eq!(["0", "20000", "20001", "-1"].map(minutes), [1, 20_000, 1, 1]);
        let load = |text| of(&[("pmd-auto-lb-load-threshold", text)]).balance.load;
        assert_eq!(["0", "100", "101", "-1"].map(load), [0, 100, 95, 95]);
    }

    #[test]
    fn sleeps_by_core() {
        let sleep = Sleep::parse("50, 1:100,x,2:99999");
        assert_eq!([Some(0), Some(1), Some(2), None].map(|c| sleep.of_core(c)), [50, 100, SLEEP_MAX_US, 50]);
    }
}
