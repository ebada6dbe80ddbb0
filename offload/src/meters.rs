//! Meters in hardware: what of a meter of the datapath can be a police action, and in which units.
//!
//! What enters: a meter's configuration. What leaves: its limit, or what it has that hardware has not. Pure. Neighbours: `plan` (rules name
//! meters with their limits), `tc::meters` (the actions), `tiered` (which meters are there).

use flow::seam::{BAND_DROP, METER_BURST, METER_PKTPS, MeterConfig};

/// The unit of bursts: so many nanoseconds at the rate (the kernel's `PSCHED_SHIFT`).
pub const TICK_NS: u64 = 64;
/// Bytes per second that one kbps is.
const BYTES_OF_KBPS: u64 = 125;
/// The unit of bursts in OpenFlow: kilobits, or packets.
const BYTES_OF_KBIT: u64 = 125;
const NS: u128 = 1_000_000_000;

/// What is counted against a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Packets,
}

/// One bucket. What exceeds it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub unit: Unit,
    /// Units per second, never nought.
    pub rate: u64,
    /// How long the bucket takes to fill, in ticks of `TICK_NS`.
    pub burst: u32,
}

impl Limit {
    /// Of a meter; or, in a word, what keeps it out of hardware.
    ///
    /// # Errors
    /// For bands that do not drop, for more of them than one, and for rates and bursts that tc has no number for.
    pub fn of(config: &MeterConfig) -> Result<Self, &'static str> {
        let [band] = config.bands.as_slice() else { return Err("bands") };
        if band.kind != BAND_DROP {
            return Err("dscp_remark");
        }
        if band.rate == 0 {
            // tc would take it for no limit at all.
            return Err("rate");
        }
        let size = if config.flags & METER_BURST == 0 { band.rate } else { band.burst_size };
        let (unit, rate, burst) = if config.flags & METER_PKTPS == 0 {
            (Unit::Bytes, u64::from(band.rate) * BYTES_OF_KBPS, u64::from(size) * BYTES_OF_KBIT)
        } else {
            (Unit::Packets, u64::from(band.rate), u64::from(size))
        };
        let ticks = (u128::from(burst) * NS).div_ceil(u128::from(rate) * u128::from(TICK_NS));
        let burst = u32::try_from(ticks).ok().filter(|ticks| *ticks > 0).ok_or("burst")?;
        Ok(Self { unit, rate, burst })
    }

    /// How long a packet of `len` bytes takes at the rate.
    #[must_use]
    pub fn cost_ns(&self, len: usize) -> u64 {
        let units = if self.unit == Unit::Bytes { len as u128 } else { 1 };
        u64::try_from(units * NS / u128::from(self.rate.max(1))).unwrap_or(u64::MAX)
    }

    /// How long the bucket takes to fill.
    #[must_use]
    pub const fn burst_ns(&self) -> u64 {
        self.burst as u64 * TICK_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::seam::{BAND_DSCP_REMARK, METER_KBPS, MeterBand};

    fn of(flags: u16, bands: &[(u16, u32, u32)]) -> Result<Limit, &'static str> {
        let band = |(kind, rate, burst_size): &(u16, u32, u32)| MeterBand {
            kind: *kind,
            rate: *rate,
            burst_size: *burst_size,
            prec_level: 0,
        };
        Limit::of(&MeterConfig { flags, bands: bands.iter().map(band).collect() })
    }

    #[test]
    fn meters_in_the_units_of_tc() {
        // 1 Mbit/s with 100 kbit: 12,500 bytes take a tenth of a second.
        let limit = Limit { unit: Unit::Bytes, rate: 125_000, burst: 1_562_500 };
        assert_eq!(of(METER_KBPS | METER_BURST, &[(BAND_DROP, 1_000, 100)]), Ok(limit));
        assert_eq!((limit.cost_ns(1_250), limit.burst_ns()), (10_000_000, 100_000_000));
        // Without a burst of its own: what a second lets through.
        assert_eq!(of(METER_KBPS, &[(BAND_DROP, 1_000, 9)]), Ok(Limit { burst: 15_625_000, ..limit }));
        let packets = Limit { unit: Unit::Packets, rate: 10, burst: 7_812_500 };
        assert_eq!(of(METER_PKTPS | METER_BURST, &[(BAND_DROP, 10, 5)]), Ok(packets));
        assert_eq!(packets.cost_ns(1_500), 100_000_000);
        assert_eq!(of(METER_KBPS, &[(BAND_DROP, u32::MAX, 0)]).map(|l| l.rate), Ok(536_870_911_875));
    }

    #[test]
    fn what_keeps_a_meter_out_of_hardware() {
        assert_eq!(of(METER_KBPS, &[]), Err("bands"));
        assert_eq!(of(METER_KBPS, &[(BAND_DROP, 5, 0), (BAND_DROP, 9, 0)]), Err("bands"));
        assert_eq!(of(METER_KBPS, &[(BAND_DSCP_REMARK, 5, 0)]), Err("dscp_remark"));
        assert_eq!(of(METER_KBPS, &[(BAND_DROP, 0, 0)]), Err("rate"));
        assert_eq!(of(METER_KBPS | METER_BURST, &[(BAND_DROP, 5, 0)]), Err("burst"));
        assert_eq!(of(METER_KBPS | METER_BURST, &[(BAND_DROP, 1, u32::MAX)]), Err("burst"), "more than four minutes");
    }
}
