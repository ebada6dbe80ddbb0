//! What `Open_vSwitch.other_config` says about the datapath.
//!
//! What enters: keys and values as text. What leaves: `Settings` for the control thread, and `Live`, what forwarding threads look at. A value
//! that makes no sense is logged and leaves the default, as in OVS.

use std::sync::atomic::{AtomicU8, Ordering};

/// Settings that need the control thread's work when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Worker threads.
    pub workers: usize,
    /// CPUs to pin them to, in order; empty: not pinned.
    pub cpus: Vec<usize>,
    /// Flows that each worker's signature cache is made for.
    pub cache_flows: usize,
    /// VLAN tags that a key holds.
    pub vlan_limit: u8,
}

/// Workers at most: new ones take their seats before the old ones leave, and one seat is that of `execute`.
pub const WORKERS_MAX: usize = crate::qsbr::MEMBERS_MAX / 2 - 1;

impl Default for Settings {
    fn default() -> Self {
        Self { workers: 1, cpus: Vec::new(), cache_flows: crate::cache::FLOWS_DEFAULT, vlan_limit: 1 }
    }
}

impl Settings {
    /// Reads `pmd-cpu-mask`, `n-workers`, `signature-cache-flows` and `vlan-limit`; other keys are others' affair.
    #[must_use]
    pub fn of(config: &[(String, String)]) -> Self {
        let mut settings = Self::default();
        for (key, value) in config {
            match key.as_str() {
                "pmd-cpu-mask" => match cpus_of(value) {
                    Some(cpus) if !cpus.is_empty() => {
                        settings.workers = cpus.len().min(WORKERS_MAX);
                        settings.cpus = cpus;
                    }
                    Some(_) => (),
                    None => {
                        tracing::warn!(target: "dpif_netdev", "invalid value '{value}' for pmd-cpu-mask")
                    }
                },
                "n-workers" => number(key, value, 1..=WORKERS_MAX, &mut settings.workers),
                "signature-cache-flows" => number(key, value, 1..=crate::cache::FLOWS_MAX, &mut settings.cache_flows),
                "vlan-limit" => {
                    let mut limit = 1;
                    number(key, value, 0..=usize::from(u8::MAX), &mut limit);
                    // 0 is "as many as there can be".
                    settings.vlan_limit = if limit == 1 { 1 } else { flow::extract::VLANS_MAX };
                }
                _ => (),
            }
        }
        settings
    }
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
fn cpus_of(mask: &str) -> Option<Vec<usize>> {
    let digits = mask.strip_prefix("0x").or_else(|| mask.strip_prefix("0X")).unwrap_or(mask);
    if digits.is_empty() || digits.len() > 1024 {
        return None;
    }
    let mut cpus = Vec::new();
    for (i, digit) in digits.chars().rev().enumerate() {
        let value = digit.to_digit(16)?;
        cpus.extend((0..4).filter(|b| value & 1 << b != 0).map(|b| i * 4 + b));
    }
    Some(cpus)
}

/// What forwarding threads look at.
#[derive(Debug)]
pub struct Live {
    vlan_limit: AtomicU8,
}

impl Default for Live {
    fn default() -> Self {
        Self { vlan_limit: AtomicU8::new(Settings::default().vlan_limit) }
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
        assert_eq!((s.workers, s.cpus, s.vlan_limit), (3, vec![1, 2, 4], 2));
        assert_eq!(of(&[("pmd-cpu-mask", "xyz"), ("n-workers", "0")]), Settings::default());
        assert_eq!(of(&[("n-workers", "3")]).workers, 3);
    }
}
