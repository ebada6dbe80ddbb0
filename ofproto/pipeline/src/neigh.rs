//! Neighbours of tunnels: which MAC has an address on a device, learned from ARP and neighbour discovery that pass through bridges.
//!
//! What enters: addresses seen (`xlate::terminate`, `Credit`), commands, time. What leaves: MACs for outer headers, and requests to send
//! for those that are not known. Neighbours: `xlate::native`, `slowpath` (ageing, sending), `commands::tunnel`.
//!
//! Packets change the table under the world's read lock, so it has a lock of its own. An entry lives as long as packets use it, and for
//! the idle time after that. What changed is recorded in the change log: only megaflows that asked for that very address look again.
//!
//! Counters of megaflows are read later than their packets came, so `touch` and `tell` come with times that have passed. Whether somebody was told
//! in the meantime that a neighbour is unknown is no matter of time, therefore: `find` forgets what has run out, and what is in the table nobody
//! has missed.

use crate::deps::{ChangeLog, Object};
use crate::tunnel::Addr;
use crate::world::BridgeId;
use flow::Msec;
use flow::hash::Map;
use openflow::OfPort;
use std::sync::{Arc, Mutex, MutexGuard};

flow::counters! {
    NEIGHBOURS_FULL = "tunnel_neighbours_full", "neighbours of tunnels not remembered because the table was full";
    NEIGHBOUR_REQUESTS = "tunnel_neighbour_requests", "ARP and neighbour discovery requests sent for tunnels";
}

/// Entries at most.
pub const NEIGHBOURS_MAX: usize = 65_536;
/// Requests waiting to be sent, at most.
pub const REQUESTS_MAX: usize = 256;
/// Devices at most whose flushes are remembered each by itself.
pub const FLUSHES_MAX: usize = 65_536;
/// So long at least a flush concerns its device alone. Counters are read much sooner.
const FLUSH_KEPT_MS: Msec = 10_000;
/// An address is asked for at most once in this time (RFC 1122 section 2.3.2.1).
const ASK_EVERY_MS: Msec = 1000;
const IDLE_DEFAULT_MS: Msec = 15 * 60 * 1000;
/// The longest idle time that may be set, in seconds.
pub const IDLE_MAX_S: u32 = 3600;

/// A neighbour's name: the device (bridge) that it is behind, and its address.
pub type Name = (String, Addr);

#[derive(Clone, Copy, Debug)]
struct Entry {
    mac: [u8; 6],
    /// When it was told, by a command or by a packet.
    told_ms: Msec,
    expires_ms: Msec,
}

/// A request to send: an ARP request or a neighbour solicitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub bridge: BridgeId,
    /// The port by which it enters the bridge.
    pub port: OfPort,
    pub src_mac: [u8; 6],
    pub src: Addr,
    pub target: Addr,
}

/// When neighbours were last forgotten on purpose: packets from before tell nothing. The safe direction is to hear less: whoever is not heard is
/// asked again.
#[derive(Debug, Default)]
struct Flushes {
    /// Of all devices, and of each that is not in `devices`; 0 for never.
    all_ms: Msec,
    devices: Map<String, Msec>,
}

impl Flushes {
    fn note(&mut self, device: Option<&str>, now: Msec) {
        let Some(device) = device else {
            self.all_ms = self.all_ms.max(now);
            return;
        };
        if self.devices.len() >= FLUSHES_MAX {
            self.join(now);
        }
        self.devices.insert(device.to_owned(), now);
    }

    fn is_news(&self, device: &str, told_ms: Msec) -> bool {
        told_ms > self.all_ms && self.devices.get(device).is_none_or(|at| *at < told_ms)
    }

    /// Those up to a time count as flushes of all devices.
    fn join(&mut self, until: Msec) {
        let Self { all_ms, devices } = self;
        devices.retain(|_, at| {
            let stays = *at > until;
            if !stays {
                *all_ms = (*all_ms).max(*at);
            }
            stays
        });
    }
}

#[derive(Debug, Default)]
struct Table {
    /// By device, as ports come and go whose neighbours are few among many.
    devices: Map<String, Map<Addr, Entry>>,
    /// Of all devices.
    count: usize,
    idle_ms: Option<Msec>,
    flushes: Flushes,
    asked: Map<(BridgeId, Addr), Msec>,
    asks: Vec<Ask>,
}

impl Table {
    fn idle(&self) -> Msec {
        self.idle_ms.unwrap_or(IDLE_DEFAULT_MS)
    }

    fn entry(&self, device: &str, address: Addr) -> Option<&Entry> {
        self.devices.get(device)?.get(&address)
    }

    fn insert(&mut self, device: &str, address: Addr, entry: Entry) {
        if !self.devices.contains_key(device) {
            self.devices.insert(device.to_owned(), Map::default());
        }
        let new = self.devices.get_mut(device).is_some_and(|entries| entries.insert(address, entry).is_none());
        self.count += usize::from(new);
    }

    /// Forgets those of a device, or of all, that are not kept. Gives whose they were.
    fn retain(&mut self, device: Option<&str>, keep: impl Fn(&Entry) -> bool) -> Vec<Addr> {
        let mut gone = Vec::new();
        let mut thin = |entries: &mut Map<Addr, Entry>| {
            entries.retain(|address, entry| {
                let kept = keep(entry);
                if !kept {
                    gone.push(*address);
                }
                kept
            });
            !entries.is_empty()
        };
        match device {
            None => self.devices.retain(|_, entries| thin(entries)),
            Some(device) => {
                if self.devices.get_mut(device).is_some_and(|entries| !thin(entries)) {
                    self.devices.remove(device);
                }
            }
        }
        self.count -= gone.len();
        gone
    }
}

/// All neighbours.
#[derive(Debug)]
pub struct Neighbours {
    table: Mutex<Table>,
    changes: Arc<ChangeLog>,
}

impl Neighbours {
    /// None known.
    #[must_use]
    pub fn new(changes: Arc<ChangeLog>) -> Self {
        Self { table: Mutex::default(), changes }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no holder of the neighbours panics")
    }

    /// The MAC of a neighbour that has not expired; one that has is forgotten, so that it is news when it is told again.
    #[must_use]
    pub fn find(&self, device: &str, address: Addr, now: Msec) -> Option<[u8; 6]> {
        let mut table = self.lock();
        let entries = table.devices.get_mut(device)?;
        let entry = *entries.get(&address)?;
        if entry.expires_ms > now {
            return Some(entry.mac);
        }
        entries.remove(&address);
        table.count -= 1;
        self.changes.object(object(address));
        None
    }

    /// Packets use a neighbour, the last of them at `now`: it stays.
    pub fn touch(&self, device: &str, address: Addr, now: Msec) {
        let mut table = self.lock();
        let expires_ms = now + table.idle();
        let entry = table.devices.get_mut(device).and_then(|entries| entries.get_mut(&address));
        if let Some(entry) = entry.filter(|e| e.expires_ms > now) {
            entry.expires_ms = entry.expires_ms.max(expires_ms);
        }
    }

    /// Sets a neighbour, or keeps it alive if it is as it was.
    pub fn set(&self, device: &str, address: Addr, mac: [u8; 6], now: Msec) {
        self.put(self.lock(), device, address, mac, now);
    }

    /// The datapath forwarded packets that told a neighbour, the last of them at `told_ms`: what has been told or forgotten since is newer.
    pub fn tell(&self, device: &str, address: Addr, mac: [u8; 6], told_ms: Msec) {
        let table = self.lock();
        let entry = table.entry(device, address);
        if entry.is_none_or(|e| e.told_ms < told_ms) && table.flushes.is_news(device, told_ms) {
            self.put(table, device, address, mac, told_ms);
        }
    }

    fn put(&self, mut table: MutexGuard<'_, Table>, device: &str, address: Addr, mac: [u8; 6], told_ms: Msec) {
        let full = table.count >= NEIGHBOURS_MAX;
        let old = table.entry(device, address).copied();
        if old.is_none() && full {
            NEIGHBOURS_FULL.inc();
            return;
        }
        let same = old.filter(|old| old.mac == mac);
        // Packets that use it may be newer than the one that told it.
        let expires_ms = (told_ms + table.idle()).max(same.map_or(0, |old| old.expires_ms));
        table.insert(device, address, Entry { mac, told_ms, expires_ms });
        if same.is_none() {
            self.changes.object(object(address));
        }
    }

    /// Forgets all that are behind a device, or all.
    pub fn flush(&self, device: Option<&str>, now: Msec) {
        self.lock().flushes.note(device, now);
        self.retain(device, |_| false);
    }

    /// Forgets those that nothing has used for long.
    pub fn age(&self, now: Msec) {
        self.retain(None, |entry| entry.expires_ms > now);
        let mut table = self.lock();
        table.asked.retain(|_, at| now - *at < ASK_EVERY_MS);
        table.flushes.join(now - FLUSH_KEPT_MS);
    }

    fn retain(&self, device: Option<&str>, keep: impl Fn(&Entry) -> bool) {
        let mut table = self.lock();
        table.retain(device, keep).into_iter().for_each(|address| self.changes.object(object(address)));
    }

    /// The idle time, in seconds.
    #[must_use]
    pub fn idle_s(&self) -> Msec {
        self.lock().idle() / 1000
    }

    /// Sets the idle time; entries live no longer than it from now on.
    pub fn set_idle(&self, seconds: u32, now: Msec) {
        let mut table = self.lock();
        let idle = Msec::from(seconds) * 1000;
        table.idle_ms = Some(idle);
        for entry in table.devices.values_mut().flat_map(Map::values_mut) {
            entry.expires_ms = entry.expires_ms.min(now + idle);
        }
    }

    /// Name, MAC and whether it has expired, sorted.
    #[must_use]
    pub fn all(&self, now: Msec) -> Vec<(Name, [u8; 6], bool)> {
        let table = self.lock();
        let entries = table.devices.iter().flat_map(|(device, entries)| entries.iter().map(move |entry| (device, entry)));
        let mut all: Vec<_> = entries.map(|(device, (a, e))| ((device.clone(), *a), e.mac, e.expires_ms <= now)).collect();
        all.sort();
        all
    }

    /// Asks who has an address, unless that was asked a moment ago.
    pub fn ask(&self, ask: &Ask, now: Msec) {
        let mut table = self.lock();
        let key = (ask.bridge, ask.target);
        let recently = table.asked.get(&key).is_some_and(|at| now - *at < ASK_EVERY_MS);
        if recently || table.asks.len() >= REQUESTS_MAX || table.asked.len() >= NEIGHBOURS_MAX {
            return;
        }
        table.asked.insert(key, now);
        table.asks.push(ask.clone());
        NEIGHBOUR_REQUESTS.inc();
    }

    /// Takes the requests that are to be sent, of those for which `which` says so.
    #[must_use]
    pub fn take_asks(&self, which: impl Fn(&Ask) -> bool) -> Vec<Ask> {
        let mut table = self.lock();
        let (taken, left) = std::mem::take(&mut table.asks).into_iter().partition(which);
        table.asks = left;
        taken
    }
}

/// What a megaflow depends on that asked for an address.
#[must_use]
pub fn object(address: Addr) -> Object {
    Object::Neighbour(address.0.to_be_bytes())
}

impl Ask {
    /// The frame: an ARP request (RFC 826) or a neighbour solicitation (RFC 4861 section 4.3).
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        if self.target.is_v4() { self.arp() } else { self.solicitation() }
    }

    fn arp(&self) -> Vec<u8> {
        let mut frame = [[0xff; 6], self.src_mac].concat();
        frame.extend([0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 1]);
        frame.extend(self.src_mac);
        frame.extend(self.src.to_v4());
        frame.extend([0; 6]);
        frame.extend(self.target.to_v4());
        frame
    }

    fn solicitation(&self) -> Vec<u8> {
        let target = self.target.to_v6();
        // RFC 4291 section 2.7.1: the solicited-node address, and RFC 2464 section 7 its MAC.
        let mut group = [0u8; 16];
        group[..2].copy_from_slice(&[0xff, 0x02]);
        group[11..14].copy_from_slice(&[0x01, 0xff, target[13]]);
        group[14..].copy_from_slice(&target[14..]);
        let mut icmp = vec![135, 0, 0, 0, 0, 0, 0, 0];
        icmp.extend(target);
        icmp.extend([1, 1]);
        icmp.extend(self.src_mac);
        let src = self.src.to_v6();
        let sum = flow::checksum::pseudo6(&src, &group, 58, icmp.len()).plus(&icmp).finish();
        icmp[2..4].copy_from_slice(&sum);
        let mut frame = vec![0x33, 0x33, group[12], group[13], group[14], group[15]];
        frame.extend(self.src_mac);
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0]);
        frame.push(u8::try_from(icmp.len()).expect("32 bytes"));
        frame.extend([58, 255]);
        frame.extend(src);
        frame.extend(group);
        frame.extend(icmp);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deps::Deps;
    use etherparse::{NetHeaders, PacketHeaders};
    use flow::Key;

    const A: Addr = Addr(0xffff_0a00_0001);

    fn concerns(changes: &ChangeLog, since: crate::deps::Revision) -> bool {
        let mut deps = Deps::default();
        deps.object(object(A));
        changes.concerns(since, &deps, &(&Key::ZERO, &Key::ZERO))
    }

    #[test]
    fn used_entries_stay_and_idle_ones_go() {
        let changes = Arc::new(ChangeLog::default());
        let n = Neighbours::new(Arc::clone(&changes));
        n.set("br0", A, [2; 6], 0);
        let seen = changes.now();
        n.set("br0", A, [2; 6], 500_000);
        assert!(!concerns(&changes, seen), "nothing is new");
        n.touch("br0", A, 800_000);
        n.age(1_500_000);
        assert_eq!(n.find("br0", A, 1_500_000), Some([2; 6]));
        assert_eq!(n.find("br1", A, 1_500_000), None);
        assert_eq!(n.find("br0", A, 1_700_001), None, "expired, though nobody has aged it yet");
        n.set("br0", A, [4; 6], 1_600_000);
        assert!(concerns(&changes, seen), "another MAC");
        n.set_idle(5, 1_600_000);
        let seen = changes.now();
        n.age(1_605_000);
        assert!(n.all(0).is_empty() && concerns(&changes, seen));
        assert_eq!(n.idle_s(), 5);
    }

    /// Packets of a megaflow are counted later than they came.
    #[test]
    fn what_was_told_last_stands() {
        let n = Neighbours::new(Arc::default());
        n.tell("br0", A, [2; 6], 100);
        n.set("br0", A, [4; 6], 200);
        n.tell("br0", A, [2; 6], 150);
        assert_eq!(n.find("br0", A, 200), Some([4; 6]), "told before");
        n.tell("br0", A, [2; 6], 250);
        assert_eq!(n.find("br0", A, 250), Some([2; 6]));
        n.flush(None, 300);
        n.tell("br0", A, [2; 6], 300);
        assert_eq!(n.find("br0", A, 300), None, "forgotten since");
        n.tell("br0", A, [2; 6], 301);
        assert_eq!(n.find("br0", A, 301), Some([2; 6]));
    }

    #[test]
    fn a_flush_makes_deaf_only_to_its_device() {
        for (device, heard) in [(Some("p7"), true), (Some("br0"), false), (None, false)] {
            let n = Neighbours::new(Arc::default());
            n.set("br0", A, [2; 6], 100);
            n.flush(device, 300);
            let tell_and_find = |at| {
                n.tell("br0", A, [4; 6], at);
                n.find("br0", A, at) == Some([4; 6])
            };
            assert_eq!(n.find("br0", A, 300).is_some(), heard, "{device:?}");
            assert_eq!(tell_and_find(250), heard, "{device:?}");
            assert!(tell_and_find(301), "{device:?}");
        }
    }

    /// However they come and go, they are counted, and no more are kept than may be.
    #[test]
    fn neighbours_are_bounded() {
        let n = Neighbours::new(Arc::default());
        n.set_idle(5, 0);
        let address = |i: usize| Addr(A.0 + i as u128);
        let fill = |device: &str, now| (0..=NEIGHBOURS_MAX / 2).for_each(|i| n.set(device, address(i), [2; 6], now));
        let count = || {
            let there = n.all(0).len();
            (n.lock().count, there)
        };
        let full = NEIGHBOURS_FULL.count();
        fill("br0", 0);
        fill("br0", 0);
        fill("br1", 1000);
        assert_eq!(count(), (NEIGHBOURS_MAX, NEIGHBOURS_MAX));
        assert!(NEIGHBOURS_FULL.count() - full >= 2);
        n.flush(Some("p7"), 1000);
        n.flush(Some("br0"), 1000);
        assert_eq!(count(), (NEIGHBOURS_MAX / 2 - 1, NEIGHBOURS_MAX / 2 - 1));
        assert_eq!(n.find("br1", A, 6000), None, "expired");
        assert_eq!(count().0, count().1);
        n.set("br2", A, [2; 6], 6000);
        n.age(6000);
        assert_eq!(count(), (1, 1));
        n.flush(None, 6000);
        assert_eq!((count(), n.lock().devices.len()), ((0, 0), 0));
    }

    /// What is not remembered by itself counts for all devices: hardly anything is told so late, and nobody has to be heard.
    #[test]
    fn flushes_of_many_devices_are_bounded() {
        let n = Neighbours::new(Arc::default());
        let find = |device, at| {
            n.tell(device, A, [2; 6], at);
            n.find(device, A, at).is_some()
        };
        n.flush(Some("br0"), 300);
        n.age(300 + FLUSH_KEPT_MS - 1);
        assert!(find("br1", 250) && !find("br0", 250));
        n.age(300 + FLUSH_KEPT_MS);
        assert_eq!(n.lock().flushes.devices.len(), 0);
        assert!(!find("br0", 250) && !find("br2", 250) && find("br2", 301));
        for i in 0..=FLUSHES_MAX {
            n.flush(Some(&format!("p{i}")), 400);
        }
        assert_eq!(n.lock().flushes.devices.len(), 1);
        assert!(!find("p0", 400) && !find("br3", 400) && find("br3", 401));
    }

    /// The entry ran out at 5000, and a packet that came then was sent nowhere, before anybody read the counters of what had come at 4900.
    #[test]
    fn what_ran_out_and_was_missed_is_news() {
        for touched in [false, true] {
            let changes = Arc::new(ChangeLog::default());
            let n = Neighbours::new(Arc::clone(&changes));
            n.set_idle(5, 0);
            n.set("br0", A, [2; 6], 0);
            let seen = changes.now();
            assert_eq!(n.find("br0", A, 5000), None);
            assert!(concerns(&changes, seen), "whoever uses it looks again");
            let missed = changes.now();
            if touched {
                n.touch("br0", A, 4900);
                assert_eq!(n.find("br0", A, 5000), None);
            }
            n.tell("br0", A, [2; 6], 4900);
            assert_eq!(n.find("br0", A, 5100), Some([2; 6]));
            assert!(concerns(&changes, missed));
        }
    }

    #[test]
    fn what_is_told_late_shortens_no_life() {
        let changes = Arc::new(ChangeLog::default());
        let n = Neighbours::new(Arc::clone(&changes));
        n.set_idle(5, 0);
        n.set("br0", A, [2; 6], 1000);
        n.touch("br0", A, 2000);
        let seen = changes.now();
        n.tell("br0", A, [2; 6], 1500);
        assert_eq!(n.find("br0", A, 6999), Some([2; 6]));
        assert!(!concerns(&changes, seen));
        n.tell("br0", A, [4; 6], 1800);
        assert_eq!(n.find("br0", A, 6800), None, "another one has a life of its own");
    }

    #[test]
    fn an_address_is_asked_for_once_a_second() {
        let n = Neighbours::new(Arc::default());
        let v4 = |a| Addr::v4([10, 0, 0, a]);
        let ask = Ask { bridge: BridgeId(1), port: OfPort::LOCAL, src_mac: [2; 6], src: v4(1), target: v4(2) };
        n.ask(&ask, 0);
        n.ask(&ask, 999);
        assert_eq!(n.take_asks(|_| true), std::slice::from_ref(&ask));
        n.ask(&ask, 1000);
        assert_eq!(n.take_asks(|_| true).len(), 1);
        for i in 0..1000 {
            n.ask(&Ask { target: Addr(i), ..ask.clone() }, 5000);
        }
        assert_eq!(n.take_asks(|_| true).len(), REQUESTS_MAX);
    }

    #[test]
    fn a_flood_is_refused_and_flapping_leaves_nothing() {
        let n = Neighbours::new(Arc::default());
        n.set("br0", A, [2; 6], 0);
        let refused = NEIGHBOURS_FULL.count();
        for i in 0..NEIGHBOURS_MAX as u128 + 99 {
            n.set("br0", Addr(i), [4; 6], 0);
        }
        assert_eq!(n.all(0).len(), NEIGHBOURS_MAX);
        // Others may count meanwhile.
        assert!(NEIGHBOURS_FULL.count() - refused >= 100);
        assert_eq!(n.find("br0", A, 0), Some([2; 6]), "who was known stays");
        for i in 0..10_000u16 {
            n.set("br0", A, [2, 0, 0, 0, i.to_be_bytes()[0], i.to_be_bytes()[1]], 0);
        }
        assert_eq!(n.find("br0", A, 0), Some([2, 0, 0, 0, 0x27, 0x0f]));
        assert_eq!(n.all(0).len(), NEIGHBOURS_MAX);
    }

    #[test]
    fn solicitations_are_sound() {
        let parse = |t| Addr::parse(t).unwrap();
        let (src, target) = (parse("2001:cafe::88"), parse("2001:cafe::92"));
        let frame = Ask { bridge: BridgeId(1), port: OfPort::LOCAL, src_mac: [2; 6], src, target }.frame();
        let parsed = PacketHeaders::from_ethernet_slice(&frame).unwrap();
        let Some(NetHeaders::Ipv6(ip, _)) = parsed.net else { panic!("no IPv6") };
        assert_eq!(std::net::Ipv6Addr::from(ip.destination).to_string(), "ff02::1:ff00:92");
        let icmp = parsed.transport.unwrap().icmpv6().unwrap();
        assert_eq!(icmp.icmp_type.calc_checksum(ip.source, ip.destination, parsed.payload.slice()).unwrap(), icmp.checksum);
    }
}
