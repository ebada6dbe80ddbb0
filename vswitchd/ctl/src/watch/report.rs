//! Two samples made into rates, and rates into text or JSON. Pure.

use super::sample::{Flow, Port, Sample};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A port of a bridge, as configured.
#[derive(Clone, Debug, Default)]
pub struct Configured {
    pub name: String,
    pub kind: String,
    pub ofport: Option<i64>,
    pub link: String,
    pub error: String,
}

/// A bridge, as configured.
#[derive(Clone, Debug, Default)]
pub struct Bridge {
    pub name: String,
    pub datapath_type: String,
    pub fail_mode: String,
    pub ports: Vec<Configured>,
}

/// What is shown.
#[derive(Debug)]
pub struct Report<'a> {
    pub bridges: &'a [Bridge],
    pub before: &'a Sample,
    pub after: &'a Sample,
    pub seconds: f64,
    /// Flows shown, the busiest first.
    pub flows_max: usize,
}

#[allow(clippy::cast_precision_loss, reason = "rates for people")]
fn rate(before: u64, after: u64, seconds: f64) -> f64 {
    after.saturating_sub(before) as f64 / seconds.max(0.001)
}

/// `1.2k`, `3.4M`: three digits, as a column has room for.
fn short(value: f64) -> String {
    let units = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.into_iter().find(|(size, _)| value >= *size) {
        Some((size, unit)) => format!("{:.1}{unit}", value / size),
        None => format!("{value:.0}"),
    }
}

/// Packets and bits per second, in and out.
struct Rates {
    rx_packets: f64,
    rx_bits: f64,
    tx_packets: f64,
    tx_bits: f64,
}

impl Report<'_> {
    fn ports(sample: &Sample) -> BTreeMap<&str, &Port> {
        sample.datapaths.iter().flat_map(|d| d.ports.iter()).map(|(name, port)| (name.as_str(), port)).collect()
    }

    fn rates(&self, name: &str) -> Option<Rates> {
        let after = *Self::ports(self.after).get(name)?;
        let none = Port::default();
        let before = Self::ports(self.before).get(name).copied().unwrap_or(&none);
        let per_second = |before, after| rate(before, after, self.seconds);
        Some(Rates {
            rx_packets: per_second(before.rx_packets, after.rx_packets),
            rx_bits: 8.0 * per_second(before.rx_bytes, after.rx_bytes),
            tx_packets: per_second(before.tx_packets, after.tx_packets),
            tx_bits: 8.0 * per_second(before.tx_bytes, after.tx_bytes),
        })
    }

    /// Flows with packets and bits per second, the busiest first.
    fn flows(&self) -> Vec<(f64, f64, &Flow)> {
        let mut all: Vec<(f64, f64, &Flow)> = Vec::new();
        for (id, flow) in &self.after.flows {
            let (packets, bytes) = self.before.flows.get(id).map_or((0, 0), |f| (f.packets, f.bytes));
            let per_second = |before, after| rate(before, after, self.seconds);
            all.push((per_second(packets, flow.packets), 8.0 * per_second(bytes, flow.bytes), flow));
        }
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.2.packets.cmp(&a.2.packets)));
        all.truncate(self.flows_max);
        all
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).expect("writing to a String cannot fail");
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        for bridge in self.bridges {
            let fail_mode = if bridge.fail_mode.is_empty() { "standalone" } else { &bridge.fail_mode };
            writeln!(out, "Bridge {} ({}, {fail_mode})", bridge.name, bridge.datapath_type)?;
            writeln!(
                out,
                "  {:<16}{:>7} {:<6}{:>9}{:>9}{:>9}{:>9}",
                "PORT", "OFPORT", "LINK", "RX pkt/s", "RX bit/s", "TX pkt/s", "TX bit/s"
            )?;
            for port in &bridge.ports {
                let number = port.ofport.map_or_else(|| "-".to_owned(), |n| n.to_string());
                write!(out, "  {:<16}{number:>7} {:<6}", port.name, port.link)?;
                if let Some(r) = self.rates(&port.name) {
                    let cells = [r.rx_packets, r.rx_bits, r.tx_packets, r.tx_bits].map(short);
                    cells.iter().try_for_each(|cell| write!(out, "{cell:>9}"))?;
                }
                writeln!(out, "{}{}", if port.error.is_empty() { "" } else { "  " }, port.error)?;
            }
        }
        self.write_flows(out)
    }

    fn write_flows(&self, out: &mut String) -> std::fmt::Result {
        for datapath in &self.after.datapaths {
            let before = self.before.datapaths.iter().find(|d| d.name == datapath.name).cloned().unwrap_or_default();
            let [hit, missed, lost] =
                [(before.hit, datapath.hit), (before.missed, datapath.missed), (before.lost, datapath.lost)]
                    .map(|(before, after)| short(rate(before, after, self.seconds)));
            writeln!(
                out,
                "Datapath {}: {} megaflows; hit {hit}/s, missed {missed}/s, lost {lost}/s",
                datapath.name, datapath.flows
            )?;
        }
        let offloaded = self.after.flows.values().filter(|f| f.offloaded).count();
        let upcalls = &self.after.upcalls;
        writeln!(
            out,
            "Slow path: {} megaflows of at most {}, looked through in {} ms; {offloaded} in hardware",
            upcalls.flows, upcalls.limit, upcalls.dump_ms
        )?;
        let flows = self.flows();
        if !flows.is_empty() {
            writeln!(out, "{:>9}{:>9}  FLOW", "pkt/s", "bit/s")?;
        }
        for (packets, bits, flow) in flows {
            let place = if flow.offloaded { " (hardware)" } else { "" };
            writeln!(out, "{:>9}{:>9}  {}{place} -> {}", short(packets), short(bits), flow.matches, flow.actions)?;
        }
        Ok(())
    }

    /// For programs: numbers per second are not rounded.
    #[must_use]
    pub fn json(&self) -> Value {
        let port = |p: &Configured| {
            let mut object = json!({"name": p.name, "type": p.kind, "ofport": p.ofport, "link_state": p.link, "error": p.error});
            if let Some(r) = self.rates(&p.name) {
                object["rx_packets_per_s"] = json!(r.rx_packets);
                object["rx_bits_per_s"] = json!(r.rx_bits);
                object["tx_packets_per_s"] = json!(r.tx_packets);
                object["tx_bits_per_s"] = json!(r.tx_bits);
            }
            object
        };
        let bridge = |b: &Bridge| {
            let ports: Vec<Value> = b.ports.iter().map(port).collect();
            json!({"name": b.name, "datapath_type": b.datapath_type, "fail_mode": b.fail_mode, "ports": ports})
        };
        let flow = |(packets, bits, f): (f64, f64, &Flow)| {
            json!({"match": f.matches, "actions": f.actions, "packets": f.packets, "bytes": f.bytes, "offloaded": f.offloaded,
                   "packets_per_s": packets, "bits_per_s": bits})
        };
        let datapaths: Vec<Value> = self
            .after
            .datapaths
            .iter()
            .map(|d| json!({"name": d.name, "hit": d.hit, "missed": d.missed, "lost": d.lost, "flows": d.flows}))
            .collect();
        let upcalls = &self.after.upcalls;
        json!({
            "seconds": self.seconds,
            "bridges": self.bridges.iter().map(bridge).collect::<Vec<_>>(),
            "datapaths": datapaths,
            "flows": self.flows().into_iter().map(flow).collect::<Vec<_>>(),
            "upcalls": {"flows": upcalls.flows, "limit": upcalls.limit, "dump_ms": upcalls.dump_ms},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_the_busiest_flow_first() {
        let flow = |packets| Flow {
            matches: format!("m{packets}"),
            actions: "a".into(),
            packets,
            bytes: packets * 100,
            offloaded: false,
        };
        let sample =
            |n: u64| Sample { flows: [("a".to_owned(), flow(n)), ("b".to_owned(), flow(3 * n))].into(), ..Sample::default() };
        let (before, after) = (sample(1_000), sample(3_000));
        let report = Report { bridges: &[], before: &before, after: &after, seconds: 2.0, flows_max: 1 };
        let text = report.text();
        assert!(text.contains("     3.0k     2.4M  m9000 -> a\n"), "{text}");
        assert!(!text.contains("m3000"), "{text}");
        assert_eq!(report.json()["flows"][0]["packets_per_s"], 3_000.0);
    }

    #[test]
    fn three_digits() {
        for (value, expect) in [(0.0, "0"), (999.0, "999"), (1_000.0, "1.0k"), (12_345_678.0, "12.3M"), (2e9, "2.0G")] {
            assert_eq!(short(value), expect);
        }
    }
}
