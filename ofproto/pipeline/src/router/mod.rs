//! Routes for tunnels: by which device, to which next hop and from which address an outer packet goes.
//!
//! What enters: routes and addresses of the kernel (the daemon follows them), routes and rules of commands, addresses of dummy devices.
//! What leaves: answers to lookups, and which of the answers given before have changed. Neighbours: `xlate::native`, `commands::route`,
//! `slowpath`.
//!
//! Rules name tables in order; a table finds the route with the longest prefix. Addresses are 128 bits, IPv4 ones mapped, with prefixes
//! of 96 bits more. A user's route beats a cached one whose prefix is not more than 32 bits longer, as in OVS.
//!
//! Each question that a translation asked is remembered with its answer. After a change all of them are answered again, and
//! those whose answer differs are named: only megaflows that asked them are translated again.

mod table;

pub use table::{Prefix, Route, Table};

use crate::deps::Object;
use crate::tunnel::Addr;
use flow::Msec;
use flow::hash::Map;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Numbers of the kernel's tables.
pub const TABLE_DEFAULT: u32 = 253;
pub const TABLE_MAIN: u32 = 254;
pub const TABLE_LOCAL: u32 = 255;
/// Questions remembered one by one; what is asked beyond them depends on all routes.
pub const ASKED_MAX: usize = 16_384;
/// Rules at most.
pub const RULES_MAX: usize = 1024;
/// Routes at most, the kernel's included.
pub const ROUTES_MAX: usize = 4_000_000;
/// Addresses at most of whose ways it is known what they take.
pub const PATHS_MAX: usize = 4_096;
/// How long that is believed (RFC 1191, 6.3).
const PATH_MS: Msec = 600_000;

flow::counters! {
    ROUTES_FULL = "tunnel_routes_full", "routes not taken up because there were too many";
    RULES_FULL = "tunnel_rules_full", "rules of routes not taken up because there were too many";
}

/// A question.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Query {
    pub dst: Addr,
    /// `Addr(0)`: any.
    pub src: Addr,
    pub mark: u32,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub device: String,
    /// `Addr(0)`: the destination is on the link.
    pub gateway: Addr,
    pub src: Addr,
    /// What the device takes, or the way if that is less; 0 if it is not known.
    pub mtu: u32,
}

/// An address of a device with its prefix length (of 128 bits).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DeviceAddr {
    pub address: Addr,
    pub plen: u8,
}

/// Which packets look into which table.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rule {
    pub priority: u32,
    /// Whether it is for IPv6.
    pub v6: bool,
    pub invert: bool,
    /// Sources; `None` is all.
    pub from: Option<Prefix>,
    pub table: u32,
    pub user: bool,
}

/// A device of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Bytes without the Ethernet header.
    pub mtu: u32,
    /// Whether it is up and its link too.
    pub carrier: bool,
}

/// Routes, rules and addresses.
#[derive(Debug)]
pub struct Router {
    tables: BTreeMap<u32, Table>,
    rules: Vec<Rule>,
    addresses: BTreeMap<String, Vec<DeviceAddr>>,
    /// As far as the kernel has told of them.
    devices: BTreeMap<String, Device>,
    /// What ways to addresses take, where that is less, and until when it is believed.
    paths: BTreeMap<Addr, (u32, Msec)>,
    asked: Mutex<Asked>,
}

/// Questions with their numbers and answers.
#[derive(Debug, Default)]
struct Asked {
    last: u32,
    answers: Map<Query, (u32, Option<Answer>)>,
}

impl Default for Router {
    fn default() -> Self {
        let rule = |priority, v6, table| Rule { priority, v6, invert: false, from: None, table, user: false };
        // Linux has no rule for the default table of IPv6.
        let of_both = |v6| [rule(0, v6, TABLE_LOCAL), rule(32_766, v6, TABLE_MAIN)];
        let mut rules: Vec<Rule> = [of_both(false), of_both(true)].concat();
        rules.push(rule(32_767, false, TABLE_DEFAULT));
        rules.sort();
        Self {
            tables: BTreeMap::new(),
            rules,
            addresses: BTreeMap::new(),
            devices: BTreeMap::new(),
            paths: BTreeMap::new(),
            asked: Mutex::default(),
        }
    }
}

impl Router {
    /// The way to a destination, for a translation: the question is remembered. Gives the object that the answer depends on, too.
    pub fn ask(&self, query: Query) -> (Option<Answer>, Object) {
        let mut asked = self.asked.lock().expect("no holder of the questions panics");
        if let Some((number, answer)) = asked.answers.get(&query) {
            return (answer.clone(), Object::Route(*number));
        }
        let answer = self.find(query);
        if asked.answers.len() >= ASKED_MAX {
            return (answer, Object::Routes);
        }
        asked.last = asked.last.wrapping_add(1);
        let number = asked.last;
        asked.answers.insert(query, (number, answer.clone()));
        (answer, Object::Route(number))
    }

    /// The way to a destination.
    #[must_use]
    pub fn find(&self, query: Query) -> Option<Answer> {
        if query.src != Addr(0) && !self.is_local(query.src) {
            return None;
        }
        let rules = self.rules.iter().filter(|r| r.v6 != query.dst.is_v4() && r.matches(query.src));
        let route = rules.filter_map(|r| self.tables.get(&r.table)?.find(query.dst, query.mark)).next()?;
        let src = match (query.src, route.source) {
            (Addr(0), Some(source)) => source,
            (Addr(0), None) => self.source_for(&route.device, query.dst, route.gateway).unwrap_or_default(),
            (given, _) => given,
        };
        let of_device = self.device(&route.device).map_or(0, |d| d.mtu);
        let mtu =
            self.paths.get(&query.dst).map_or(of_device, |(mtu, _)| if of_device == 0 { *mtu } else { of_device.min(*mtu) });
        Some(Answer { device: route.device.clone(), gateway: route.gateway, src, mtu })
    }

    /// Whether an address is one of ours.
    #[must_use]
    pub fn is_local(&self, address: Addr) -> bool {
        self.addresses.values().flatten().any(|a| a.address == address)
    }

    /// Whether an address is one of the device, on the link of a destination or of the gateway.
    #[must_use]
    pub fn reaches(&self, device: &str, src: Addr, dst: Addr, gateway: Addr) -> bool {
        let on_link = |a: &DeviceAddr, to: Addr| to != Addr(0) && Prefix::new(a.address, a.plen).covers(to);
        self.addresses_of(device).iter().any(|a| a.address == src && (on_link(a, dst) || on_link(a, gateway)))
    }

    /// The address that a device has on the link of a destination: the one with the longest prefix.
    #[must_use]
    pub fn source_for(&self, device: &str, dst: Addr, gateway: Addr) -> Option<Addr> {
        let on_link = |to: Addr| {
            let addresses = self.addresses.get(device)?;
            let fitting = addresses.iter().filter(|a| a.address.is_v4() == to.is_v4());
            fitting.filter(|a| Prefix::new(a.address, a.plen).covers(to)).max_by_key(|a| a.plen).map(|a| a.address)
        };
        on_link(dst).or_else(|| if gateway == Addr(0) { None } else { on_link(gateway) })
    }

    /// The addresses of a device.
    #[must_use]
    pub fn addresses_of(&self, device: &str) -> &[DeviceAddr] {
        self.addresses.get(device).map_or(&[], Vec::as_slice)
    }

    /// Every address of every device.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, DeviceAddr)> {
        self.addresses.iter().flat_map(|(device, all)| all.iter().map(|a| (device.as_str(), *a)))
    }

    /// Sets the addresses of a device; whether they differ from before.
    pub fn set_addresses(&mut self, device: &str, mut addresses: Vec<DeviceAddr>) -> bool {
        addresses.sort_unstable();
        addresses.dedup();
        if addresses == self.addresses_of(device) {
            return false;
        }
        if addresses.is_empty() {
            self.addresses.remove(device);
        } else {
            self.addresses.insert(device.to_owned(), addresses);
        }
        true
    }

    /// What the kernel has told of a device.
    #[must_use]
    pub fn device(&self, name: &str) -> Option<Device> {
        self.devices.get(name).copied()
    }

    /// Sets what there is to know of a device, `None` if it is gone; whether ways through it differ from before, which have its MTU.
    pub fn set_device(&mut self, name: &str, device: Option<Device>) -> bool {
        let before = match device {
            Some(device) => self.devices.insert(name.to_owned(), device),
            None => self.devices.remove(name),
        };
        before.map(|d| d.mtu) != device.map(|d| d.mtu)
    }

    /// The way to an address takes so many bytes; whether that was not known.
    pub fn set_path_mtu(&mut self, to: Addr, mtu: u32, now: Msec) -> bool {
        if self.paths.len() >= PATHS_MAX && !self.paths.contains_key(&to) {
            return false;
        }
        self.paths.insert(to, (mtu, now + PATH_MS)).is_none_or(|(before, _)| before != mtu)
    }

    /// Whether something is known of ways that is no longer to be believed.
    #[must_use]
    pub fn has_old_paths(&self, now: Msec) -> bool {
        self.paths.values().any(|(_, until)| *until <= now)
    }

    /// Forgets that.
    pub fn forget_old_paths(&mut self, now: Msec) {
        self.paths.retain(|_, (_, until)| *until > now);
    }

    /// Adds or replaces a route.
    pub fn insert(&mut self, table: u32, route: Route) {
        if self.tables.values().map(Table::len).sum::<usize>() >= ROUTES_MAX {
            ROUTES_FULL.inc();
            return;
        }
        self.tables.entry(table).or_default().insert(route);
    }

    /// Removes routes of a prefix for which `which` says so; whether there were any.
    pub fn remove(&mut self, table: u32, prefix: Prefix, mark: u32, which: impl Fn(&Route) -> bool) -> bool {
        let Some(of_table) = self.tables.get_mut(&table) else { return false };
        let removed = of_table.remove(prefix, mark, which);
        if of_table.is_empty() {
            self.tables.remove(&table);
        }
        removed
    }

    /// Removes every route for which `keep` says no.
    pub fn retain(&mut self, keep: impl Fn(u32, &Route) -> bool) {
        for (id, table) in &mut self.tables {
            table.retain(|route| keep(*id, route));
        }
        self.tables.retain(|_, t| !t.is_empty());
    }

    /// The tables with their numbers.
    pub fn tables(&self) -> impl Iterator<Item = (u32, &Table)> {
        self.tables.iter().map(|(id, table)| (*id, table))
    }

    /// The rules, in the order in which they are asked.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Adds a rule; false when it is there already or there are too many.
    pub fn add_rule(&mut self, rule: Rule) -> bool {
        if self.rules.len() >= RULES_MAX {
            RULES_FULL.inc();
            return false;
        }
        if self.rules.contains(&rule) {
            return false;
        }
        self.rules.push(rule);
        self.rules.sort();
        true
    }

    /// Removes rules for which `which` says so; whether there were any.
    pub fn remove_rules(&mut self, which: impl Fn(&Rule) -> bool) -> bool {
        let before = self.rules.len();
        self.rules.retain(|r| !which(r));
        self.rules.len() != before
    }

    /// Answers everything again that was asked, after a change: the questions whose answers differ. A device that came or
    /// went (`touched`) counts as well.
    pub fn differing(&self, touched: Option<&str>) -> Vec<Object> {
        let mut asked = self.asked.lock().expect("no holder of the questions panics");
        let mut differing = Vec::new();
        for (query, (number, answer)) in &mut asked.answers {
            let now = self.find(*query);
            let same_device = touched.is_some_and(|t| now.as_ref().is_some_and(|a| a.device == t));
            if now != *answer || same_device {
                *answer = now;
                differing.push(Object::Route(*number));
            }
        }
        if asked.answers.len() >= ASKED_MAX {
            // Nobody knows which of these are still wanted: all start anew, and so do those who could not be remembered.
            differing = asked.answers.drain().map(|(_, (number, _))| Object::Route(number)).collect();
            differing.push(Object::Routes);
        }
        differing
    }
}

impl Rule {
    fn matches(&self, src: Addr) -> bool {
        // A source that is not known matches rules that ask for none (Linux: fib_rules).
        self.from.is_none_or(|from| from.covers(src) != self.invert)
    }
}

#[cfg(test)]
mod tests;
