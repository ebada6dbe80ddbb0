//! Ingress policing: how much a port takes in (`Interface.ingress_policing_*`).
//!
//! What enters: received batches. What leaves: which of their packets go on. Neighbours: `meter` (the buckets), `forward`, `ports`.
//!
//! The kernel's policer would drop what the host sees, not what a packet socket is given before: so it is done here, for every kind of
//! port alike (decision 0041).

use crate::bundle::Bundle;
use crate::meter::Meter;
use flow::clock::Msec;
use flow::seam::{BAND_DROP, DpError, METER_BURST, METER_KBPS, METER_PKTPS, MeterBand, MeterConfig, Policing};

/// Bursts that a rate has unless told otherwise, as in OVS: 8000 kbit, 16000 packets.
const BURST_KB_DEFAULT: u32 = 8000;
const BURST_KPKTS_DEFAULT: u32 = 16;

/// The limits of a port.
#[derive(Debug)]
pub struct Policer {
    limits: Vec<Meter>,
}

impl Policer {
    /// `None` where nothing is limited.
    pub fn new(policing: Policing, now_ms: Msec) -> Result<Option<Self>, DpError> {
        let Policing { rate_kbps, burst_kb, rate_kpkts, burst_kpkts } = policing;
        let bits = (METER_KBPS | METER_BURST, rate_kbps, burst_kb, BURST_KB_DEFAULT, 1);
        let packets = (METER_PKTPS | METER_BURST, rate_kpkts, burst_kpkts, BURST_KPKTS_DEFAULT, 1000);
        let mut limits = Vec::new();
        for (flags, rate, burst, usual, unit) in [bits, packets] {
            if rate == 0 {
                continue;
            }
            let burst = if burst == 0 { usual } else { burst };
            let (rate, burst_size) = (rate.saturating_mul(unit), burst.saturating_mul(unit));
            let bands = vec![MeterBand { kind: BAND_DROP, rate, burst_size, prec_level: 0 }];
            limits.push(Meter::new(&MeterConfig { flags, bands }, now_ms)?);
        }
        Ok((!limits.is_empty()).then_some(Self { limits }))
    }

    /// Bits of the packets that are too many.
    pub fn judge(&self, bundle: &Bundle, now_ms: Msec) -> u32 {
        self.limits.iter().fold(0, |drop, limit| drop | limit.judge(bundle.packets.iter().map(|p| p.len()), now_ms).drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_nought_limit_nothing() {
        assert!(Policer::new(Policing::default(), 1000).unwrap().is_none());
        let both = Policing { rate_kbps: 100, rate_kpkts: 1, ..Policing::default() };
        assert_eq!(Policer::new(both, 1000).unwrap().unwrap().limits.len(), 2);
    }
}
