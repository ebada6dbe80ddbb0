//! `Bridge.rstp_enable` and the `rstp-*` keys of Bridge and Port.

use super::Times;
use crate::config::{BridgeConfig, PortConfig};
use crate::options::Options;
use crate::stp::system_id;

/// Seconds, unless configured.
const MAX_AGE: u16 = 20;
const FORWARD_DELAY: u16 = 15;

/// Port numbers of a bridge: 1 to this.
pub const PORT_NUMBER_MAX: u16 = 4095;

/// A bridge as configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Priority (16 bits, a multiple of 4096) and MAC; less is better.
    pub id: u64,
    /// 0: the old protocol; 2: this one
    pub force_version: u8,
    pub tx_hold_count: u16,
    /// As root.
    pub(super) times: Times,
}

impl Settings {
    /// Reads a bridge's keys. A hello time is 2 seconds by the standard (table 17-1).
    #[must_use]
    pub fn read(config: &BridgeConfig, mac: [u8; 6]) -> Self {
        let options = Options(&config.other_config);
        let number = |key: &str, range: std::ops::RangeInclusive<i64>, default: u16| {
            options.within(key, range).and_then(|n| u16::try_from(n).ok()).unwrap_or(default)
        };
        let priority = number("rstp-priority", 0..=61_440, 32_768) & 0xf000;
        let (mut max_age, mut forward_delay) =
            (number("rstp-max-age", 6..=40, MAX_AGE), number("rstp-forward-delay", 4..=30, FORWARD_DELAY));
        // 802.1D-2004, 17.14: a bridge shall enforce this; with a hello time of two seconds the other bound is that of the key.
        let fits = |max_age: u16, forward_delay: u16| 2 * (forward_delay - 1) >= max_age;
        if !fits(max_age, forward_delay) {
            tracing::warn!(
                target: "rstp", rl = 5, burst = 5,
                "{}: a max age of {max_age} s is too long for a forward delay of {forward_delay} s", config.name
            );
            // One of them takes its default: the max age, unless it fits the other's.
            if fits(max_age, FORWARD_DELAY) {
                forward_delay = FORWARD_DELAY;
            } else {
                max_age = MAX_AGE;
                forward_delay = if fits(MAX_AGE, forward_delay) { forward_delay } else { FORWARD_DELAY };
            }
        }
        Self {
            id: u64::from(priority) << 48 | system_id(config, "rstp-address", mac),
            force_version: if options.within("rstp-force-protocol-version", 0..=0).is_some() { 0 } else { 2 },
            tx_hold_count: number("rstp-transmit-hold-count", 1..=10, 6),
            times: Times { message_age: 0, max_age, hello: 2, forward_delay },
        }
    }

    /// rstpVersion
    #[must_use]
    pub fn is_rapid(&self) -> bool {
        self.force_version >= 2
    }
}

/// A port as configured.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PortSettings {
    pub name: String,
    /// `None`: the first that is free
    pub number: Option<u16>,
    /// A multiple of 16.
    pub priority: u8,
    pub path_cost: u32,
    pub admin_edge: bool,
    pub auto_edge: bool,
    pub mcheck: bool,
    pub admin_state: bool,
    pub point_to_point: bool,
}

impl PortSettings {
    /// `speed_bps` decides the cost unless that is set. `None` when the port cannot take part.
    #[must_use]
    pub fn read(port: &PortConfig, speed_bps: u64) -> Option<Self> {
        let options = Options(&port.other_config);
        let number = match options.get("rstp-port-num") {
            None => None,
            Some(_) => {
                let number = options.within("rstp-port-num", 1..=PORT_NUMBER_MAX.into()).and_then(|n| u16::try_from(n).ok());
                if number.is_none() {
                    tracing::error!(target: "bridge", "port {}: invalid rstp-port-num", port.name);
                    return None;
                }
                number
            }
        };
        let cost = options.within("rstp-path-cost", 1..=200_000_000).and_then(|c| u32::try_from(c).ok());
        let priority = options.within("rstp-port-priority", 0..=240).unwrap_or(128) & 0xf0;
        Some(Self {
            name: port.name.clone(),
            number,
            priority: u8::try_from(priority).expect("within 0..=240"),
            path_cost: cost.unwrap_or_else(|| cost_of(speed_bps)),
            admin_edge: options.bool("rstp-port-admin-edge", false),
            auto_edge: options.bool("rstp-port-auto-edge", true),
            mcheck: options.bool("rstp-port-mcheck", false),
            admin_state: options.bool("rstp-admin-port-state", true),
            // 0 forces a shared medium; 1 forces, and 2 detects, a link to one other bridge, which is what a full-duplex link is.
            point_to_point: options.int("rstp-admin-p2p-mac", 1) != 0,
        })
    }

    pub(super) fn priority_bits(&self) -> u16 {
        u16::from(self.priority) << 8
    }
}

/// The cost of a link (table 17-3).
pub(super) fn cost_of(speed_bps: u64) -> u32 {
    const DEFAULT: u32 = 2000;
    let mbps = speed_bps / 1_000_000;
    if mbps == 0 {
        return DEFAULT;
    }
    // A decade of speed is a decade of cost, from 1 Mbit/s at 20,000,000 to 10 Tbit/s at 2.
    let mut cost = 20_000_000;
    let mut speed = 1;
    while speed * 10 <= mbps && cost > 2 {
        (speed, cost) = (speed * 10, cost / 10);
    }
    cost
}
