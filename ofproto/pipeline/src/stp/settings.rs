//! `Bridge.stp_enable` and the `stp-*` keys of Bridge and Port.

use super::Times;
use crate::config::{BridgeConfig, PortConfig};
use crate::options::{Options, parse_mac};
use flow::Msec;
use std::collections::BTreeSet;

/// Port numbers of a bridge: 1 to this.
pub const PORTS_MAX: u8 = 255;
const PRIORITY: i64 = 0x8000;
const PORT_PRIORITY: i64 = 0x80;

/// A bridge as configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Priority (16 bits) and MAC; less is better.
    pub id: u64,
    /// As root.
    pub times: Times,
}

/// A port as configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortSettings {
    pub name: String,
    pub number: u8,
    pub priority: u8,
    pub path_cost: u16,
}

impl PortSettings {
    /// Priority and number; less is better.
    #[must_use]
    pub fn id(&self) -> u16 {
        u16::from(self.priority) << 8 | u16::from(self.number)
    }
}

/// A bridge's identifier: the MAC of the key `key`, else `mac`.
pub(crate) fn system_id(config: &BridgeConfig, key: &str, mac: [u8; 6]) -> u64 {
    let own = Options(&config.other_config).get(key).and_then(|text| {
        let parsed = parse_mac(text);
        if parsed.is_none() {
            let default = crate::options::mac_text(mac);
            tracing::error!(target: "bridge", "bridge {}: invalid {key}, defaulting to {default}", config.name);
        }
        parsed
    });
    own.unwrap_or(mac).iter().fold(0, |id, byte| id << 8 | u64::from(*byte))
}

impl Settings {
    /// Times are kept in the standard's proportions (section 8.10.2).
    #[must_use]
    pub fn read(config: &BridgeConfig, mac: [u8; 6]) -> Self {
        let options = Options(&config.other_config);
        let priority = u64::try_from(options.within("stp-priority", 0..=0xffff).unwrap_or(PRIORITY)).unwrap_or(0);
        let ms = |key: &str, default: Msec| options.within(key, 0..=1_000_000).unwrap_or(default) * 1000;
        let hello_ms = ms("stp-hello-time", 2).clamp(1000, 10_000);
        let max_age_ms = ms("stp-max-age", 20).clamp((2 * (hello_ms + 1000)).max(6000), 40_000);
        let forward_delay_ms = ms("stp-forward-delay", 15).clamp(max_age_ms / 2 + 1000, 30_000);
        let id = priority << 48 | system_id(config, "stp-system-id", mac);
        Self { id, times: Times { max_age_ms, hello_ms, forward_delay_ms } }
    }
}

/// Whether a port takes part in a spanning tree; the keys begin with `prefix`, the protocol's name in texts is `protocol`.
pub(crate) fn takes_part(port: &PortConfig, prefix: &str, protocol: &str, mirror_out: bool) -> bool {
    if !Options(&port.other_config).bool(&format!("{prefix}-enable"), true) {
        return false;
    }
    let name = &port.name;
    match &port.interfaces[..] {
        [only] if matches!(only.device.kind.as_str(), "internal" | "dummy-internal") => false,
        [_] if mirror_out => false,
        [_] => true,
        [] | [_, ..] => {
            tracing::error!(target: "bridge", "port {name}: cannot enable {protocol} on bonds, disabling");
            false
        }
    }
}

/// Numbers for ports: those that ask for one, else in turn. `None` for one whose wish cannot be met.
#[derive(Debug, Default)]
pub struct Numbers {
    taken: BTreeSet<u8>,
    next: u8,
}

impl Numbers {
    /// Whether numbers were both asked for and given, which is refused.
    #[must_use]
    pub fn are_mixed(&self) -> bool {
        !self.taken.is_empty() && self.next > 0
    }

    /// The settings of a port that takes part; `speed_bps` decides its cost unless that is set.
    pub fn read(&mut self, port: &PortConfig, speed_bps: u64) -> Option<PortSettings> {
        let options = Options(&port.other_config);
        let name = &port.name;
        let number = match options.get("stp-port-num") {
            Some(text) => {
                let number = text.parse().ok().filter(|n| *n != 0);
                if number.is_none() {
                    tracing::error!(target: "bridge", "port {name}: invalid stp-port-num");
                }
                let number = number?;
                if !self.taken.insert(number) {
                    tracing::error!(target: "bridge", "port {name}: duplicate stp-port-num {number}, disabling");
                    return None;
                }
                number
            }
            None if self.next == PORTS_MAX => {
                tracing::error!(target: "bridge", "port {name}: too many STP ports, disabling");
                return None;
            }
            None => {
                self.next += 1;
                self.next
            }
        };
        let cost = options.within("stp-path-cost", 0..=0xffff).and_then(|c| u16::try_from(c).ok());
        let priority = options.within("stp-port-priority", 0..=255).unwrap_or(PORT_PRIORITY);
        Some(PortSettings {
            name: name.clone(),
            number,
            priority: u8::try_from(priority).expect("within 0..=255"),
            path_cost: cost.unwrap_or_else(|| cost_of(speed_bps)),
        })
    }
}

/// The cost of a link (table 8-5 of 802.1D-1998, with the usual value for 10 Gbit/s).
pub(super) fn cost_of(speed_bps: u64) -> u16 {
    // By speed in Mbit/s.
    const COSTS: [(u64, u16); 6] = [(10_000, 2), (1000, 4), (100, 19), (16, 62), (10, 100), (4, 250)];
    let mbps = speed_bps / 1_000_000;
    COSTS.iter().find(|(least, _)| mbps >= *least).map_or(2, |(_, cost)| *cost)
}
