//! Fragments: held until a datagram is complete, tracked as one, and sent on as they came.
//!
//! What enters: fragments on their way through a `ct` action. What leaves: the whole datagram for the tracker, then its fragments with
//! what the tracker did to it; or the fragment itself, untrackable. Neighbours: `track`, `reaper` (which drops what never completes).
//!
//! # What holds
//!
//! - No more than `max` fragments are held over all datagrams, each datagram for `LIFE_MS`, and of at most `PARTS_MAX` fragments.
//! - When as many are held, the datagram that has waited longest gives way to a fragment of another one, so that who sends fragments that never
//!   complete keeps nobody out: a datagram whose fragments come close together is whole before a flood has come round to it. Only a fragment of the
//!   datagram that has waited longest itself is refused then. Either is counted.
//! - Overlapping fragments are refused (RFC 5722, and RFC 8200, 4.5), and so are fragments smaller than the least size, except last ones.
//! - Lists stand behind `SHARDS` locks by the datagram's hash, which only fragments take, one at a time. Beside each lock stands when the oldest list
//!   behind it began, so that the oldest of all is found by looking at `SHARDS` numbers.

use super::{limits, packet};
use crate::hash::fold;
use crate::parsed::Parsed;
use flow::checksum::checksum;
use flow::clock::Msec;
use flow::conntrack::{FragFigures, FragStatus};
use flow::extract::{NetworkLayer, is_extension};
use flow::hash::Map;
use flow::wire::ip_proto;
use port::{Checksum, Packet};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

flow::counters! {
    FRAGMENTS_PURGED = "ipf_stuck_frag_list_purged", "A datagram that was not whole gave way to fragments of another: as many were held as may be.";
    FRAGMENTS_FULL = "ipf_frags_full", "A fragment was not held: there were as many as may be, and no other datagram that might give way.";
}

/// Fragments held, at first.
pub const HELD_DEFAULT: u32 = 1000;
/// Fragments held at most.
pub const HELD_MAX: u32 = 5000;
/// How long a datagram may take.
pub const LIFE_MS: Msec = 15_000;
/// Fragments of a datagram at most.
pub const PARTS_MAX: usize = 600;
const SHARDS: usize = 16;
/// Datagrams at most that give way to one fragment, where other threads take the places, or where the limit was lowered.
const GIVE_WAY_MAX: usize = 4;
/// The least size that may be set, for IPv4 and IPv6.
const MIN_FLOOR: [u32; 2] = [400, 400];
const MIN_DEFAULT: [u32; 2] = [1200, 1280];

/// Which datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Datagram {
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    proto: u8,
    zone: u16,
    recirc_id: u32,
}

/// A fragment.
#[derive(Debug)]
struct Part {
    packet: Packet,
    at: Place,
}

impl std::ops::Deref for Part {
    type Target = Place;
    fn deref(&self) -> &Place {
        &self.at
    }
}

/// Where a fragment's data stands, in the datagram and in the frame.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: usize,
    end: usize,
    /// Offset of the data in the frame.
    data_at: usize,
    l3: usize,
    /// Offset of the fragment header (IPv6).
    header_at: usize,
    last: bool,
}

#[derive(Debug)]
struct Parts {
    parts: Vec<Part>,
    /// Which in order, of all.
    began: u64,
    expires_ms: Msec,
}

impl Parts {
    /// What has come, in OVS's words.
    fn state(&self) -> &'static str {
        let first = self.parts.first().is_some_and(|p| p.start == 0);
        let last = self.parts.last().is_some_and(|p| p.last);
        match (first, last) {
            (true, true) => "first/last frag",
            (true, false) => "first frag",
            (false, true) => "last frag",
            (false, false) => "other frag",
        }
    }

    fn count(&self) -> u32 {
        u32::try_from(self.parts.len()).unwrap_or(u32::MAX)
    }

    fn is_complete(&self) -> bool {
        let sorted = self.parts.windows(2).all(|w| w[0].end == w[1].start);
        sorted && self.parts.first().is_some_and(|p| p.start == 0) && self.parts.last().is_some_and(|p| p.last)
    }
}

/// Datagrams that are being put together, by name and by when they began.
#[derive(Debug, Default)]
struct Lists {
    by_name: Map<Datagram, Parts>,
    by_age: BTreeMap<u64, Datagram>,
}

impl Lists {
    fn remove(&mut self, of: &Datagram) -> Option<Parts> {
        let list = self.by_name.remove(of)?;
        self.by_age.remove(&list.began);
        Some(list)
    }

    /// The one that has waited longest.
    fn oldest(&self) -> Option<Datagram> {
        self.by_age.first_key_value().map(|(_, of)| *of)
    }
}

/// Some of them.
#[derive(Debug)]
struct Shard {
    lists: Mutex<Lists>,
    /// When the oldest of them began; `NEVER` without one. Written under the lock.
    oldest: AtomicU64,
}

const NEVER: u64 = u64::MAX;

/// A shard's lists, under its lock.
struct Locked<'s> {
    lists: MutexGuard<'s, Lists>,
    oldest: &'s AtomicU64,
}

impl Shard {
    fn lock(&self) -> Locked<'_> {
        Locked { lists: self.lists.lock().unwrap_or_else(PoisonError::into_inner), oldest: &self.oldest }
    }

    fn is_empty(&self) -> bool {
        self.oldest.load(Ordering::Relaxed) == NEVER
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let oldest = self.lists.by_age.first_key_value().map_or(NEVER, |(began, _)| *began);
        self.oldest.store(oldest, Ordering::Relaxed);
    }
}

/// Figures of one family.
#[derive(Debug)]
struct Family {
    enabled: AtomicBool,
    min: AtomicU32,
    accepted: AtomicU64,
    completed: AtomicU64,
    expired: AtomicU64,
    too_small: AtomicU64,
    overlapped: AtomicU64,
    purged: AtomicU64,
}

impl Family {
    fn new(min: u32) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            enabled: AtomicBool::new(true),
            min: AtomicU32::new(min),
            accepted: zero(),
            completed: zero(),
            expired: zero(),
            too_small: zero(),
            overlapped: zero(),
            purged: zero(),
        }
    }

    fn figures(&self) -> FragFigures {
        let of = |n: &AtomicU64| n.load(Ordering::Relaxed);
        FragFigures {
            enabled: self.enabled.load(Ordering::Relaxed),
            min_size: self.min.load(Ordering::Relaxed),
            accepted: of(&self.accepted),
            completed: of(&self.completed),
            expired: of(&self.expired),
            too_small: of(&self.too_small),
            overlapped: of(&self.overlapped),
            purged: of(&self.purged),
        }
    }
}

/// All datagrams that are being put together.
#[derive(Debug)]
pub struct Fragments {
    shards: Box<[Shard]>,
    /// Datagrams that have begun.
    begun: AtomicU64,
    held: AtomicU32,
    max: AtomicU32,
    families: [Family; 2],
}

impl Default for Fragments {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard { lists: Mutex::default(), oldest: AtomicU64::new(NEVER) }).collect(),
            begun: AtomicU64::new(0),
            held: AtomicU32::new(0),
            max: AtomicU32::new(HELD_DEFAULT),
            families: MIN_DEFAULT.map(Family::new),
        }
    }
}

/// What became of a fragment.
#[derive(Debug)]
pub enum Taken {
    /// It is held.
    Held,
    /// It was the last that was missing.
    Whole(Box<Whole>),
    /// It cannot be tracked.
    Refused(Packet),
}

/// A datagram that was put together.
#[derive(Debug)]
pub struct Whole {
    pub packet: Packet,
    parts: Vec<Part>,
    l3: usize,
    /// Bytes before the data, in `packet`.
    data_at: usize,
}

impl Whole {
    /// Its fragments, with the addresses, ports and checksums that the whole has now.
    #[must_use]
    pub fn into_fragments(self) -> Vec<Packet> {
        let whole = self.packet.data();
        let data = &whole[self.data_at..];
        let mut out = Vec::with_capacity(self.parts.len());
        for Part { mut packet, at: part } in self.parts {
            let four = whole[self.l3] >> 4 == 4;
            let frame = packet.data_mut();
            let (at, len) = if four { (12, 8) } else { (8, 32) };
            frame[part.l3 + at..part.l3 + at + len].copy_from_slice(&whole[self.l3 + at..self.l3 + at + len]);
            if four {
                let header = usize::from(frame[part.l3] & 0xf) * 4;
                frame[part.l3 + 10..part.l3 + 12].fill(0);
                let sum = checksum(&frame[part.l3..part.l3 + header]);
                frame[part.l3 + 10..part.l3 + 12].copy_from_slice(&sum);
            }
            let len = part.end - part.start;
            frame[part.data_at..part.data_at + len].copy_from_slice(&data[part.start..part.end]);
            out.push(packet);
        }
        out
    }
}

impl Fragments {
    /// Takes fragments of every size.
    #[must_use]
    pub fn of_any_size() -> Self {
        Self { families: [0; 2].map(Family::new), ..Self::default() }
    }

    fn family(&self, of: &Datagram) -> &Family {
        &self.families[usize::from(of.src.is_ipv6())]
    }

    fn shard(&self, of: &Datagram) -> &Shard {
        let word = |a: IpAddr| match a {
            IpAddr::V4(a) => u64::from(u32::from(a)),
            IpAddr::V6(a) => a
                .to_bits()
                .to_ne_bytes()
                .as_chunks::<8>()
                .0
                .iter()
                .fold(0, |h, c| fold(h ^ u64::from_ne_bytes(*c), 0x9e37_79b9_7f4a_7c15)),
        };
        let hash = fold(word(of.src) ^ u64::from(of.id), word(of.dst) | 1);
        let place = usize::try_from(hash % SHARDS as u64).expect("below SHARDS");
        &self.shards[place]
    }

    /// Counts one more fragment as held; if there are as many as may be, another datagram gives way.
    fn reserve(&self, of: &Datagram) -> bool {
        let admit = || limits::admit(&self.held, self.max.load(Ordering::Relaxed));
        admit() || (0..GIVE_WAY_MAX).any(|_| self.drop_oldest(of) && admit())
    }

    /// Drops the datagram that has waited longest, unless it is this one.
    #[cold]
    fn drop_oldest(&self, but: &Datagram) -> bool {
        let shard = self.shards.iter().min_by_key(|shard| shard.oldest.load(Ordering::Relaxed)).expect("there are shards");
        let mut locked = shard.lock();
        let Some(of) = locked.lists.oldest() else {
            // Another thread was faster, or none may be held at all.
            return true;
        };
        if of == *but {
            return false;
        }
        let n = self.let_go(&mut locked, &of);
        self.family(&of).purged.fetch_add(n, Ordering::Relaxed);
        FRAGMENTS_PURGED.inc();
        true
    }

    /// Drops a datagram; how many fragments it had.
    fn let_go(&self, locked: &mut Locked<'_>, of: &Datagram) -> u64 {
        let n = locked.lists.remove(of).map_or(0, |list| list.count());
        self.held.fetch_sub(n, Ordering::Relaxed);
        n.into()
    }

    /// A fragment on its way to the tracker.
    pub fn take(&self, packet: Packet, parsed: &Parsed, zone: u16, now_ms: Msec) -> Taken {
        let Some((of, at)) = describe(&packet, parsed, zone) else {
            return Taken::Refused(packet);
        };
        let part = Part { packet, at };
        let family = self.family(&of);
        if !family.enabled.load(Ordering::Relaxed) {
            return Taken::Refused(part.packet);
        }
        let size = part.packet.len() - usize::from(parsed.found.l2_pad) - part.l3;
        if !part.last && size < family.min.load(Ordering::Relaxed) as usize {
            family.too_small.fetch_add(1, Ordering::Relaxed);
            return Taken::Refused(part.packet);
        }
        if !self.reserve(&of) {
            FRAGMENTS_FULL.inc();
            return Taken::Refused(part.packet);
        }
        let mut locked = self.shard(&of).lock();
        let Lists { by_name, by_age } = &mut *locked.lists;
        let list = by_name.entry(of).or_insert_with(|| {
            let began = self.begun.fetch_add(1, Ordering::Relaxed);
            by_age.insert(began, of);
            Parts { parts: Vec::new(), began, expires_ms: now_ms + LIFE_MS }
        });
        let at = list.parts.partition_point(|p| p.start < part.start);
        let overlaps = at > 0 && list.parts[at - 1].end > part.start || list.parts.get(at).is_some_and(|p| p.start < part.end);
        if overlaps || list.parts.len() >= PARTS_MAX {
            drop(locked);
            self.held.fetch_sub(1, Ordering::Relaxed);
            family.overlapped.fetch_add(1, Ordering::Relaxed);
            return Taken::Refused(part.packet);
        }
        family.accepted.fetch_add(1, Ordering::Relaxed);
        list.parts.insert(at, part);
        if !list.is_complete() {
            return Taken::Held;
        }
        let parts = locked.lists.remove(&of).map(|l| l.parts).unwrap_or_default();
        drop(locked);
        let n = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        self.held.fetch_sub(n, Ordering::Relaxed);
        match join(parts) {
            Some(whole) => {
                family.completed.fetch_add(n.into(), Ordering::Relaxed);
                Taken::Whole(Box::new(whole))
            }
            None => {
                family.purged.fetch_add(n.into(), Ordering::Relaxed);
                Taken::Held
            }
        }
    }

    /// Drops datagrams that took too long.
    pub fn expire(&self, now_ms: Msec) {
        for shard in self.shards.iter().filter(|shard| !shard.is_empty()) {
            let mut locked = shard.lock();
            let expired = |of: &Datagram, lists: &Lists| lists.by_name.get(of).is_some_and(|list| list.expires_ms <= now_ms);
            while let Some(of) = locked.lists.oldest().filter(|of| expired(of, &locked.lists)) {
                let n = self.let_go(&mut locked, &of);
                self.family(&of).expired.fetch_add(n, Ordering::Relaxed);
            }
        }
    }

    /// Fragments that wait.
    #[must_use]
    pub fn held(&self) -> u32 {
        self.held.load(Ordering::Relaxed)
    }

    /// Figures and settings.
    #[must_use]
    pub fn status(&self) -> FragStatus {
        let line = |of: &Datagram, list: &Parts| {
            format!(
                "(src={},dst={},recirc_id={},ip_id={},dl_type=0x{:x},zone={},nw_proto={},num_fragments={},state={})",
                of.src,
                of.dst,
                of.recirc_id,
                of.id,
                if of.src.is_ipv4() { 0x0800 } else { 0x86dd },
                of.zone,
                of.proto,
                list.parts.len(),
                list.state()
            )
        };
        let mut lists = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            lists.extend(shard.lists.by_name.iter().map(|(of, list)| line(of, list)));
        }
        FragStatus {
            max: self.max.load(Ordering::Relaxed),
            held: self.held.load(Ordering::Relaxed),
            v4: self.families[0].figures(),
            v6: self.families[1].figures(),
            lists,
        }
    }

    pub fn set_enabled(&self, v6: bool, on: bool) {
        self.families[usize::from(v6)].enabled.store(on, Ordering::Relaxed);
    }

    /// Sets the least size of fragments; false if it is smaller than may be.
    #[must_use]
    pub fn set_min(&self, v6: bool, bytes: u32) -> bool {
        let fits = bytes >= MIN_FLOOR[usize::from(v6)] && bytes <= 65_535;
        if fits {
            self.families[usize::from(v6)].min.store(bytes, Ordering::Relaxed);
        }
        fits
    }

    /// Sets how many may be held; false if those are more than may be.
    #[must_use]
    pub fn set_max(&self, max: u32) -> bool {
        let fits = max <= HELD_MAX;
        if fits {
            self.max.store(max, Ordering::Relaxed);
        }
        fits
    }
}

/// Which datagram a fragment is of, and which part.
fn describe(held: &Packet, parsed: &Parsed, zone: u16) -> Option<(Datagram, Place)> {
    let frame = packet::payload(held, parsed);
    let l3 = usize::from(parsed.found.l3);
    let recirc_id = u32::from_be_bytes(parsed.key.recirc_id);
    match parsed.found.network {
        NetworkLayer::Ipv4 => {
            let ip: &[u8; 20] = frame.get(l3..)?.first_chunk()?;
            if held.checksum() == Checksum::Unknown && checksum(frame.get(l3..l3 + usize::from(ip[0] & 0xf) * 4)?) != [0, 0] {
                packet::L3_CHECKSUM.inc();
                return None;
            }
            let word = u16::from_be_bytes([ip[6], ip[7]]);
            let (start, more) = (usize::from(word & 0x1fff) * 8, word & 0x2000 != 0);
            let data_at = l3 + usize::from(ip[0] & 0xf) * 4;
            let [src, dst] = [12, 16].map(|i| IpAddr::from([ip[i], ip[i + 1], ip[i + 2], ip[i + 3]]));
            let of = Datagram { src, dst, id: u16::from_be_bytes([ip[4], ip[5]]).into(), proto: ip[9], zone, recirc_id };
            place_of(frame, (start, more), data_at, l3, 0).map(|at| (of, at))
        }
        NetworkLayer::Ipv6 => {
            let ip: &[u8; 40] = frame.get(l3..)?.first_chunk()?;
            let (mut next, mut at) = (ip[6], l3 + 40);
            while next != ip_proto::FRAGMENT {
                let ext: &[u8; 2] = frame.get(at..).filter(|_| is_extension(next))?.first_chunk()?;
                (next, at) = (ext[0], at + (usize::from(ext[1]) + 1) * 8);
            }
            let header: &[u8; 8] = frame.get(at..)?.first_chunk()?;
            let word = u16::from_be_bytes([header[2], header[3]]);
            let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            let of = Datagram {
                src: parsed.key.ipv6_src.into(),
                dst: parsed.key.ipv6_dst.into(),
                id,
                proto: header[0],
                zone,
                recirc_id,
            };
            let (start, more) = (usize::from(word & 0xfff8), word & 1 != 0);
            place_of(frame, (start, more), at + 8, l3, at).map(|at| (of, at))
        }
        NetworkLayer::None | NetworkLayer::Arp | NetworkLayer::Nsh | NetworkLayer::Pbb => None,
    }
}

fn place_of(frame: &[u8], (start, more): (usize, bool), data_at: usize, l3: usize, header_at: usize) -> Option<Place> {
    let len = frame.len().checked_sub(data_at)?;
    // All but the last carry multiples of 8 bytes, and none reaches beyond the longest datagram.
    let sound = len > 0 && (!more || len % 8 == 0) && start + len <= 65_535;
    sound.then_some(Place { start, end: start + len, data_at, l3, header_at, last: !more })
}

/// The datagram of parts that are complete and in order; `None` if there is no buffer of its size.
fn join(parts: Vec<Part>) -> Option<Whole> {
    let (first, last) = (parts.first()?, parts.last()?);
    let four = first.packet.data()[first.l3] >> 4 == 4;
    // IPv6: the fragment header is left out.
    let head = if four { first.data_at } else { first.header_at };
    let mut packet = Packet::with_capacity(head + last.end)?;
    packet.set_len(head + last.end);
    let frame = packet.data_mut();
    frame[..head].copy_from_slice(&first.packet.data()[..head]);
    for part in &parts {
        let len = part.end - part.start;
        let data = &part.packet.data()[part.data_at..part.data_at + len];
        frame[head + part.start..head + part.end].copy_from_slice(data);
    }
    let l3 = first.l3;
    if four {
        let total = u16::try_from(head - l3 + last.end).ok()?;
        frame[l3 + 2..l3 + 4].copy_from_slice(&total.to_be_bytes());
        // "Don't fragment" alone stays.
        frame[l3 + 6] &= 0x40;
        frame[l3 + 7] = 0;
        frame[l3 + 10..l3 + 12].fill(0);
        let sum = checksum(&frame[l3..head]);
        frame[l3 + 10..l3 + 12].copy_from_slice(&sum);
    } else {
        let len = u16::try_from(head - l3 - 40 + last.end).ok()?;
        frame[l3 + 4..l3 + 6].copy_from_slice(&len.to_be_bytes());
        let next = first.packet.data()[first.header_at];
        let mut place = l3 + 6;
        let mut at = l3 + 40;
        while at < head {
            (place, at) = (at, at + (usize::from(frame[at + 1]) + 1) * 8);
        }
        frame[place] = next;
    }
    Some(Whole { packet, l3, data_at: head, parts })
}

#[cfg(test)]
#[path = "fragments_tests.rs"]
mod tests;
