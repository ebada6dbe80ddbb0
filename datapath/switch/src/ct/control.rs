//! What control asks of the tracker: the seam's `Conntrack`.
//!
//! What enters: calls from any thread. What leaves: answers. Nothing here holds up a forwarding thread.

use super::entry::CARRIED;
use super::reaper::SWEEP_MAX_MS;
use super::slab::CONNS_MAX;
use super::tuple::{Ends, Tuple};
use super::{Ct, packet};
use flow::clock::{self, Msec};
use flow::conntrack::{CT_STAGES, Conntrack, CtEntry, CtEvent, CtFilter, CtLimit, CtStage, CtTuple, FragStatus, protocol_name};
use flow::seam::DpError;
use flow::wire::ip_proto;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

impl Ct {
    fn shown(&self, number: u32, now_ms: i64) -> Option<CtEntry> {
        let entry = self.slab.at(number);
        let mut shown = entry.shown(now_ms)?;
        shown.bucket = self.table.bucket(self.hash(&entry.orig()));
        Some(shown)
    }

    /// The connection of a whole original tuple.
    fn named(&self, filter: &CtFilter) -> Option<u32> {
        let t = &filter.orig;
        let dport = if t.is_icmp() {
            u16::from_be_bytes([t.icmp_type, packet::answer_to(t.icmp_type, t.proto == 58)?])
        } else {
            t.dst_port
        };
        let ends = Ends { src: t.src, dst: t.dst, sport: t.src_port, dport };
        let tuple = Tuple::new(&ends, filter.proto, filter.zone.unwrap_or(0));
        self.find(self.hash(&tuple), &tuple, clock::now_ms()).map(|(number, _)| number)
    }

    /// The connection with this original tuple, not one whose answers have it.
    fn of_tuple(&self, zone: u16, orig: &CtTuple) -> Option<u32> {
        let filter = CtFilter { zone: Some(zone), proto: orig.proto, orig: *orig, ..CtFilter::default() };
        self.named(&filter).filter(|number| self.slab.at(*number).orig().shown() == *orig)
    }
}

/// Whether a filter names one connection: both addresses, and ports or ICMP's numbers.
fn is_whole(filter: &CtFilter) -> bool {
    let t = &filter.orig;
    let ports = t.is_icmp() || t.src_port != 0 && t.dst_port != 0;
    let only = CtFilter { zone: filter.zone, family: filter.family, proto: filter.proto, orig: *t, ..CtFilter::default() };
    filter.proto != 0 && !t.src.is_unspecified() && !t.dst.is_unspecified() && ports && *filter == only
}

impl Conntrack for Ct {
    fn dump(&self, zone: Option<u16>, each: &mut dyn FnMut(&CtEntry) -> bool) {
        let now_ms = clock::now_ms();
        for number in 1..self.slab.end() {
            if let Some(entry) = self.shown(number, now_ms)
                && zone.is_none_or(|z| z == entry.zone)
                && !each(&entry)
            {
                return;
            }
        }
    }

    fn expectations(&self, zone: Option<u16>) -> Vec<String> {
        let now_ms = clock::now_ms();
        let mut lines = Vec::new();
        for e in self.expectations.all() {
            if e.expires_ms <= now_ms || zone.is_some_and(|z| z != e.tuple.zone()) {
                continue;
            }
            let name = protocol_name(e.tuple.proto()).unwrap_or("ip");
            let zone = if e.tuple.zone() == 0 { String::new() } else { format!(",zone={}", e.tuple.zone()) };
            let seconds = (e.expires_ms - now_ms) / 1000;
            lines.push(format!("{name},orig=({}),parent=({}){zone},timeout={seconds}", e.tuple.shown(), e.parent.shown()));
        }
        lines.sort();
        lines
    }

    fn flush(&self, filter: &CtFilter) -> Result<usize, DpError> {
        if is_whole(filter) {
            let number = self.named(filter).ok_or(DpError::NoFlow)?;
            return Ok(usize::from(self.end(number)));
        }
        let now_ms = clock::now_ms();
        let mut ended = 0;
        for number in 1..self.slab.end() {
            if self.shown(number, now_ms).is_some_and(|e| filter.matches(&e)) && self.end(number) {
                ended += 1;
            }
        }
        if filter.is_any() {
            self.expectations.forget(|e| filter.zone.is_none_or(|z| z == e.tuple.zone()));
            self.sweep_now.store(true, Ordering::Release);
        }
        Ok(ended)
    }

    fn buckets(&self) -> u32 {
        self.table.in_use()
    }

    fn connections(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    fn max_connections(&self) -> u32 {
        self.max.load(Ordering::Relaxed)
    }

    fn set_max_connections(&self, max: u32) -> Result<(), DpError> {
        if max > CONNS_MAX {
            return Err(DpError::Invalid(format!("{max} connections, at most {CONNS_MAX}")));
        }
        self.max.store(max, Ordering::Relaxed);
        Ok(())
    }

    fn checks_tcp_sequence(&self) -> bool {
        !self.liberal.load(Ordering::Relaxed)
    }

    fn check_tcp_sequence(&self, on: bool) {
        self.liberal.store(!on, Ordering::Relaxed);
    }

    fn sweep_interval_ms(&self) -> u32 {
        self.sweep_ms.load(Ordering::Relaxed)
    }

    fn set_sweep_interval_ms(&self, ms: u32) {
        self.sweep_ms.store(ms, Ordering::Relaxed);
        if ms < SWEEP_MAX_MS {
            self.sweep_now.store(true, Ordering::Release);
        }
    }

    fn limits(&self, zones: &[u16]) -> (u32, Vec<CtLimit>) {
        let limits = if zones.is_empty() { self.zones.limited() } else { zones.iter().map(|z| self.zones.of(*z)).collect() };
        (self.zones.default_limit(), limits)
    }

    fn set_default_limit(&self, limit: Option<u32>) {
        self.zones.set_default(limit);
    }

    fn set_limit(&self, zone: u16, limit: u32) {
        self.zones.set(zone, Some(limit));
    }

    fn delete_limit(&self, zone: u16) -> Result<(), DpError> {
        if self.zones.set(zone, None) { Ok(()) } else { Err(DpError::NoFlow) }
    }

    fn set_timeouts(&self, id: u32, seconds: &[Option<u32>; CT_STAGES.len()]) -> Result<(), DpError> {
        if self.policies.set(id, seconds) { Ok(()) } else { Err(DpError::Full("the table of timeout policies")) }
    }

    fn fragments(&self) -> FragStatus {
        self.fragments.status()
    }

    fn set_fragments_enabled(&self, v6: bool, on: bool) {
        self.fragments.set_enabled(v6, on);
    }

    fn set_fragment_min(&self, v6: bool, bytes: u32) -> Result<(), DpError> {
        let refused = || DpError::Invalid(format!("{bytes} bytes are less than a fragment has"));
        self.fragments.set_min(v6, bytes).then_some(()).ok_or_else(refused)
    }

    fn set_fragments_max(&self, max: u32) -> Result<(), DpError> {
        let refused = || DpError::Invalid(format!("{max} fragments are more than may be held"));
        self.fragments.set_max(max).then_some(()).ok_or_else(refused)
    }

    fn watch(&self, on: bool) {
        self.watched.store(on, Ordering::Relaxed);
        if !on {
            self.events.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    fn carry(&self, zone: u16, orig: &CtTuple) -> bool {
        let Some(number) = self.of_tuple(zone, orig) else { return false };
        self.slab.at(number).raise(CARRIED);
        true
    }

    fn lifetime(&self, zone: u16, orig: &CtTuple, used: bool) -> Option<Msec> {
        let entry = self.slab.at(self.of_tuple(zone, orig)?);
        let now_ms = clock::now_ms();
        if used {
            let tcp = orig.proto == ip_proto::TCP;
            self.extend(entry, if tcp { CtStage::TcpEstablished } else { CtStage::UdpMultiple }, now_ms);
        }
        Some(entry.expires_ms.load(Ordering::Relaxed) - now_ms)
    }

    fn events(&self) -> Vec<CtEvent> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.drain(..).collect()
    }
}
