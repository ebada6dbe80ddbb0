//! The range of UDP source ports of tunnels: one for the process, set by command, read per packet.
//!
//! RFC 7348 section 5 and RFC 8926 section 3.3: the port comes from a hash of the inner flow, so that the underlay can spread flows.

use std::sync::atomic::{AtomicU32, Ordering};

/// OVS's default: the kernel's ephemeral ports.
const DEFAULT: (u16, u16) = (32_768, 61_000);

/// The least in the low half, the greatest in the high half: both change at once.
static RANGE: AtomicU32 = AtomicU32::new((DEFAULT.1 as u32) << 16 | DEFAULT.0 as u32);

/// The least and the greatest.
#[inline]
#[must_use]
pub fn range() -> (u16, u16) {
    let [high, low] = [16, 0].map(|shift| u16::try_from(RANGE.load(Ordering::Relaxed) >> shift & 0xffff).unwrap_or(0));
    (low, high)
}

/// Sets them.
pub fn set(least: u16, greatest: u16) {
    RANGE.store(u32::from(greatest) << 16 | u32::from(least), Ordering::Relaxed);
}

/// The port of a flow with this hash.
#[inline]
#[must_use]
pub fn port_of(hash: u32) -> u16 {
    let (least, greatest) = range();
    let span = u64::from(greatest.saturating_sub(least)).max(1);
    // A hash scaled to the range, as OVS does it.
    let offset = u16::try_from((u64::from(hash) * span) >> 32).unwrap_or(0);
    least + offset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_fill_the_range() {
        assert_eq!((port_of(0), port_of(u32::MAX)), (32_768, 60_999));
        assert_eq!(port_of(0x8000_0000), 32_768 + 14_116);
    }
}
