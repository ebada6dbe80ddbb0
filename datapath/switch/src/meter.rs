//! Meters: token buckets that packets of many megaflows and workers share.
//!
//! What enters: packets of a batch, with the time. What leaves: which of them pass. Neighbours: `execute`, `switch` (configuration).
//!
//! A band's bucket is one atomic number, moved by compare-and-swap, so that no worker ever waits for another: the point in (virtual)
//! time up to which tokens are spent (a generic cell rate algorithm, equivalent to a bucket that fills continuously). A packet
//! passes when its cost fits before `now + burst`. Units: for kbps one bit, and rate times milliseconds is bits; for pktps a
//! thousandth of a packet. Packets are judged one by one, as OpenFlow 1.5.1 section 5.7 has it: of several bands exceeded the one
//! with the highest rate counts the packet and drops it, or raises its drop precedence (decision 0040).

use crate::qsbr::{Guard, Rcu, Unlinked};
use flow::clock::Msec;
use flow::seam::{
    BAND_DROP, BAND_DSCP_REMARK, DpError, METER_BURST, METER_KBPS, METER_PKTPS, METER_STATS, MeterConfig, MeterStats,
};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Meters at most (OVS: MAX_METERS).
pub const METERS_MAX: u32 = 1 << 18;
/// Bands of a meter at most (OVS: MAX_BANDS).
pub const BANDS_MAX: usize = 8;

const CHUNK: usize = 512;

/// A configured meter.
#[derive(Debug)]
pub struct Meter {
    by_packets: bool,
    bands: Vec<Band>,
    packets: AtomicU64,
    bytes: AtomicU64,
}

/// What becomes of the packets of a batch: a bit for each, from the lowest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Judged {
    pub drop: u32,
    /// By how many levels drop precedences are raised, for the packets of each band.
    pub remark: [(u32, u8); BANDS_MAX],
}

#[derive(Debug)]
struct Band {
    /// Levels of drop precedence to add; `None`: the band drops.
    remark: Option<u8>,
    /// Units per millisecond.
    rate: u64,
    /// Units that may be spent at once.
    burst: u64,
    /// Up to where tokens are spent; wraps.
    spent_until: AtomicU64,
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Band {
    /// Whether `cost` units are there at `now_ms`, and takes them if so.
    #[allow(clippy::cast_sign_loss, reason = "the clock begins above 0; wrapping is allowed for")]
    fn take(&self, cost: u64, now_ms: Msec) -> bool {
        let now = (now_ms as u64).wrapping_mul(self.rate);
        let mut until = self.spent_until.load(Ordering::Relaxed);
        loop {
            // Never more than a burst ahead: anything else lies in the past (or so far that it wrapped).
            let ahead = until.wrapping_sub(now);
            let ahead = if ahead <= self.burst { ahead } else { 0 };
            if ahead + cost > self.burst {
                return false;
            }
            let next = now.wrapping_add(ahead + cost);
            match self.spent_until.compare_exchange_weak(until, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(actual) => until = actual,
            }
        }
    }
}

impl Meter {
    /// Checks a configuration.
    pub fn new(config: &MeterConfig, now_ms: Msec) -> Result<Self, DpError> {
        if config.flags & !(METER_KBPS | METER_PKTPS | METER_BURST | METER_STATS) != 0 {
            return Err(DpError::Invalid(format!("meter flags {:#x}", config.flags)));
        }
        if config.bands.len() > BANDS_MAX {
            return Err(DpError::Invalid(format!("{} bands, at most {BANDS_MAX}", config.bands.len())));
        }
        let band = |b: &flow::seam::MeterBand| {
            let remark = match b.kind {
                BAND_DROP => None,
                BAND_DSCP_REMARK => Some(b.prec_level),
                kind => return Err(DpError::Unsupported(format!("meter band type {kind}"))),
            };
            let burst = if config.flags & METER_BURST == 0 { b.rate } else { b.burst_size };
            let rate = u64::from(b.rate);
            #[allow(clippy::cast_sign_loss, reason = "the clock begins above 0")]
            let now = (now_ms as u64).wrapping_mul(rate);
            Ok(Band {
                remark,
                rate,
                burst: u64::from(burst) * 1000,
                spent_until: AtomicU64::new(now),
                packets: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
            })
        };
        Ok(Self {
            by_packets: config.flags & METER_PKTPS != 0,
            bands: config.bands.iter().map(band).collect::<Result<_, _>>()?,
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    /// Counts a batch of at most 32 packets and says what becomes of them.
    pub fn judge(&self, lens: impl Iterator<Item = usize>, now_ms: Msec) -> Judged {
        let (mut judged, mut packets, mut bytes) = (Judged::default(), 0u64, 0u64);
        for (i, len) in lens.enumerate() {
            let len = len as u64;
            packets += 1;
            bytes += len;
            let cost = if self.by_packets { 1000 } else { len * 8 };
            let mut exceeded: Option<(usize, &Band)> = None;
            for (n, band) in self.bands.iter().enumerate() {
                if !band.take(cost, now_ms) && exceeded.is_none_or(|(_, worst)| band.rate > worst.rate) {
                    exceeded = Some((n, band));
                }
            }
            let Some((n, band)) = exceeded else { continue };
            band.packets.fetch_add(1, Ordering::Relaxed);
            band.bytes.fetch_add(len, Ordering::Relaxed);
            match band.remark {
                None => judged.drop |= 1 << i,
                Some(levels) => judged.remark[n] = (judged.remark[n].0 | 1 << i, levels),
            }
        }
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        judged
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> MeterStats {
        let value = |c: &AtomicU64| c.load(Ordering::Relaxed);
        MeterStats {
            packets: value(&self.packets),
            bytes: value(&self.bytes),
            bands: self.bands.iter().map(|b| (value(&b.packets), value(&b.bytes))).collect(),
        }
    }
}

type Chunk = Box<[Rcu<Meter>]>;

/// All meters, by number.
#[derive(Debug)]
pub struct Meters {
    chunks: Box<[OnceLock<Chunk>]>,
}

impl Default for Meters {
    fn default() -> Self {
        Self { chunks: (0..METERS_MAX as usize / CHUNK).map(|_| OnceLock::new()).collect() }
    }
}

impl Meters {
    fn cell(&self, id: u32) -> Option<&Rcu<Meter>> {
        self.chunks.get(id as usize / CHUNK)?.get().map(|chunk| &chunk[id as usize % CHUNK])
    }

    /// The meter, if there is one.
    #[inline]
    pub fn meter<'g>(&'g self, id: u32, guard: Guard<'g>) -> Option<&'g Meter> {
        self.cell(id)?.load(guard)
    }

    /// Puts a meter in its place; the old one if there was one.
    pub fn set(&self, id: u32, meter: Meter) -> Result<Option<Unlinked<Meter>>, DpError> {
        if id >= METERS_MAX {
            return Err(DpError::Full("the meter table"));
        }
        let chunk = self.chunks[id as usize / CHUNK].get_or_init(|| (0..CHUNK).map(|_| Rcu::empty()).collect());
        Ok(chunk[id as usize % CHUNK].swap(Some(Box::new(meter))))
    }

    /// Takes a meter away; its last counters.
    pub fn remove(&self, id: u32) -> Result<(MeterStats, Option<Unlinked<Meter>>), DpError> {
        let cell = self.cell(id).ok_or(DpError::NoMeter)?;
        let stats = self.stats(id)?;
        Ok((stats, cell.swap(None)))
    }

    /// The counters of a meter. Only for the thread that may `set` and `remove`.
    pub fn stats(&self, id: u32) -> Result<MeterStats, DpError> {
        let cell = self.cell(id).ok_or(DpError::NoMeter)?;
        // SAFETY: `set` and `remove` are called under the switch's mutex only, which the caller holds.
        let meter = unsafe { cell.held() };
        Ok(meter.ok_or(DpError::NoMeter)?.stats())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::seam::MeterBand;

    fn meter(flags: u16, rate: u32, burst_size: u32) -> Meter {
        let bands = vec![MeterBand { kind: BAND_DROP, rate, burst_size, prec_level: 0 }];
        Meter::new(&MeterConfig { flags, bands }, 3_600_000).unwrap()
    }

    fn drops(meter: &Meter, n: usize, len: usize, now_ms: Msec) -> u32 {
        meter.judge(std::iter::repeat_n(len, n), now_ms).drop.count_ones()
    }

    /// The figures of OVS's own test of meters (dpif-netdev.at).
    #[test]
    fn buckets_fill_and_empty_as_in_ovs() {
        let t = 3_600_000;
        let m = meter(METER_PKTPS | METER_BURST | METER_STATS, 1, 1);
        assert_eq!(drops(&m, 5, 60, t + 5000), 4);
        assert_eq!(drops(&m, 5, 60, t + 5870), 5);
        let m = meter(METER_KBPS | METER_BURST | METER_STATS, 1, 2);
        assert_eq!(drops(&m, 7, 60, t + 5000), 3);
        assert_eq!(drops(&m, 5, 60, t + 5870), 4);
        assert_eq!(drops(&m, 5, 60, t + 5880), 4);
        assert_eq!(m.stats(), MeterStats { packets: 17, bytes: 1020, bands: vec![(11, 660)] });
    }

    #[test]
    fn the_clock_may_run_for_years() {
        let m = meter(METER_KBPS, u32::MAX, 0);
        for year in 1..200i64 {
            assert_eq!(drops(&m, 3, 1500, 3_600_000 + year * 365 * 86_400_000), 0);
        }
    }

    #[test]
    fn the_highest_band_exceeded_counts() {
        let bands =
            [(1000, 1), (2000, 1)].map(|(rate, burst_size)| MeterBand { kind: BAND_DROP, rate, burst_size, prec_level: 0 });
        let m = Meter::new(&MeterConfig { flags: METER_KBPS | METER_BURST, bands: bands.to_vec() }, 1).unwrap();
        assert_eq!(drops(&m, 2, 100, 1), 1);
        assert_eq!(m.stats().bands, vec![(0, 0), (1, 100)]);
    }

    #[test]
    fn a_band_that_remarks_drops_nothing() {
        let drop = MeterBand { kind: BAND_DROP, rate: 20, ..MeterBand::default() };
        let remark = MeterBand { kind: BAND_DSCP_REMARK, rate: 1, prec_level: 2, ..MeterBand::default() };
        let m = Meter::new(&MeterConfig { flags: METER_PKTPS, bands: vec![drop, remark] }, 1000).unwrap();
        let judged = m.judge(std::iter::repeat_n(60, 30), 1000);
        assert_eq!(judged.drop, 0x3ff0_0000, "beyond both rates the higher one counts");
        assert_eq!(judged.remark[0], (0, 0));
        assert_eq!(judged.remark[1], (0x000f_fffe, 2));
        assert_eq!(m.stats().bands, vec![(10, 600), (19, 1140)]);
    }

    #[test]
    fn bad_configurations_are_refused() {
        let bands = vec![MeterBand { kind: 3, ..MeterBand::default() }];
        assert!(matches!(Meter::new(&MeterConfig { flags: METER_KBPS, bands }, 1), Err(DpError::Unsupported(_))));
        let bands = vec![MeterBand { kind: BAND_DROP, ..MeterBand::default() }; 9];
        assert!(matches!(Meter::new(&MeterConfig { flags: METER_KBPS, bands }, 1), Err(DpError::Invalid(_))));
        assert!(matches!(Meter::new(&MeterConfig { flags: 16, bands: vec![] }, 1), Err(DpError::Invalid(_))));
    }
}
