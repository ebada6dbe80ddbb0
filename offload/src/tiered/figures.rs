//! What a port has of hardware, as statistics that the database shows (`Interface.statistics`) and `dump-ports` of OpenFlow 1.4.
//!
//! What enters: the tier's state. What leaves: names and numbers, in the order of the table. Neighbour: `mod`, which answers the seam with them.

use super::Home;
use super::state::State;
use crate::hardware::HwStats;
use flow::hash::Map;
use flow::{DpPort, Msec};

/// So long counts of rules are good for another question: the database asks for all ports at once.
const FRESH_MS: Msec = 1_000;

/// Rules by port, as they were counted last.
#[derive(Debug, Default)]
pub(super) struct Figures {
    counted_ms: Option<Msec>,
    ports: Map<DpPort, Counts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    megaflows: u64,
    connections: u64,
    declined: u64,
}

impl State {
    /// Of a port that takes part; nothing of others.
    pub(super) fn figures(&mut self, port: DpPort, now: Msec) -> Vec<(String, u64)> {
        if !self.can.ports.contains_key(&port) {
            return Vec::new();
        }
        if self.figures.counted_ms.is_none_or(|then| now - then >= FRESH_MS) {
            self.figures = Figures { counted_ms: Some(now), ports: self.count() };
        }
        let Counts { megaflows, connections, declined } = self.figures.ports.get(&port).copied().unwrap_or_default();
        let HwStats { packets, bytes } = self.passed.get(&port).copied().unwrap_or_default();
        let rows = [
            ("offload_megaflows", megaflows),
            ("offload_connection_rules", connections),
            ("offload_declined", declined),
            ("offload_rx_packets", packets),
            ("offload_rx_bytes", bytes),
        ];
        rows.map(|(name, n)| (name.to_owned(), n)).into()
    }

    fn count(&self) -> Map<DpPort, Counts> {
        let mut ports: Map<DpPort, Counts> = Map::default();
        for (ufid, entry) in &self.entries {
            let counts = ports.entry(entry.port).or_default();
            match (&entry.home, self.connected.is_merged(*ufid)) {
                (Home::Hardware, false) => counts.megaflows += 1,
                (Home::Hardware, true) => counts.connections += 1,
                (Home::Software(_), false) => counts.declined += 1,
                (Home::Software(_), true) => {}
            }
        }
        ports
    }
}
