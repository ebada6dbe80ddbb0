//! What the daemon's control commands say of a moment, taken out of their texts: `dpctl/show -s`, `dpctl/dump-flows -m`, `upcall/show`.
//! Pure.

use std::collections::BTreeMap;

/// A port's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub rx_dropped: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub tx_dropped: u64,
}

/// A datapath's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Datapath {
    pub name: String,
    pub hit: u64,
    pub missed: u64,
    pub lost: u64,
    pub flows: u64,
    pub ports: BTreeMap<String, Port>,
}

/// A megaflow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// What it matches, without what it leaves open.
    pub matches: String,
    pub actions: String,
    pub packets: u64,
    pub bytes: u64,
    pub offloaded: bool,
}

/// How the slow path fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upcalls {
    pub flows: u64,
    pub limit: u64,
    pub dump_ms: u64,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub datapaths: Vec<Datapath>,
    /// By their unique id.
    pub flows: BTreeMap<String, Flow>,
    pub upcalls: Upcalls,
}

/// The number behind `label`; 0 for one that is not known (`?`).
fn number(line: &str, label: &str) -> u64 {
    let rest = line.split_once(label).map_or("", |(_, rest)| rest).trim_start();
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

/// Reads `dpctl/show -s`.
#[must_use]
pub fn datapaths(text: &str) -> Vec<Datapath> {
    let mut all: Vec<Datapath> = Vec::new();
    let mut port = String::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let words = line.trim_start();
        if words.len() == line.len() {
            all.push(Datapath { name: words.trim_end_matches(':').to_owned(), ..Datapath::default() });
            continue;
        }
        let Some(datapath) = all.last_mut() else { continue };
        if words.starts_with("lookups:") {
            (datapath.hit, datapath.missed) = (number(words, "hit:"), number(words, "missed:"));
            datapath.lost = number(words, "lost:");
        } else if words.starts_with("flows:") {
            datapath.flows = number(words, "flows:");
        } else if let Some((_, rest)) = words.strip_prefix("port ").and_then(|rest| rest.split_once(": ")) {
            port = rest.split(" (").next().unwrap_or_default().to_owned();
            datapath.ports.insert(port.clone(), Port::default());
        } else if let Some(counters) = datapath.ports.get_mut(&port) {
            if words.starts_with("RX packets:") {
                (counters.rx_packets, counters.rx_dropped) = (number(words, "packets:"), number(words, "dropped:"));
            } else if words.starts_with("TX packets:") {
                (counters.tx_packets, counters.tx_dropped) = (number(words, "packets:"), number(words, "dropped:"));
            } else if words.starts_with("RX bytes:") {
                (counters.rx_bytes, counters.tx_bytes) = (number(words, "RX bytes:"), number(words, "TX bytes:"));
            }
        }
    }
    all
}

/// Cuts at the commas that stand outside of brackets.
fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0_i32, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                found.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(text[start..].trim());
    found
}

/// Masks that leave everything open, as they print.
const OPEN: [&str; 4] = ["/0", "/0.0.0.0", "/::", "/00:00:00:00:00:00"];

/// A field of a match without what it leaves open; nothing if that is all of it.
fn tightened(field: &str) -> Option<String> {
    let Some((name, inner)) = field.strip_suffix(')').and_then(|f| f.split_once('(')) else {
        return Some(field.to_owned()).filter(|f| !f.is_empty());
    };
    let kept: Vec<&str> = parts(inner).into_iter().filter(|item| !OPEN.iter().any(|mask| item.ends_with(mask))).collect();
    (!kept.is_empty()).then(|| format!("{name}({})", kept.join(",")))
}

/// Reads `dpctl/dump-flows -m`.
#[must_use]
pub fn flows(text: &str) -> BTreeMap<String, Flow> {
    let mut all = BTreeMap::new();
    for line in text.lines().filter(|l| l.starts_with("ufid:")) {
        let (body, actions) = line.split_once("actions:").unwrap_or((line, ""));
        let mut flow = Flow { actions: actions.trim().to_owned(), ..Flow::default() };
        let (mut id, mut matches) = (String::new(), Vec::new());
        for part in parts(body) {
            match part.split_once(':') {
                Some(("ufid", rest)) => id = rest.to_owned(),
                Some(("packets", rest)) => flow.packets = rest.parse().unwrap_or(0),
                Some(("bytes", rest)) => flow.bytes = rest.parse().unwrap_or(0),
                Some(("offloaded", rest)) => flow.offloaded = rest.starts_with("yes"),
                Some(("used" | "dp" | "flags", _)) => {}
                Some(_) | None => matches.extend(tightened(part)),
            }
        }
        flow.matches = matches.join(",");
        all.insert(id, flow);
    }
    all
}

/// Reads `upcall/show`, of all datapaths together.
#[must_use]
pub fn upcalls(text: &str) -> Upcalls {
    let mut sum = Upcalls::default();
    for line in text.lines() {
        if line.contains("(current ") {
            sum.flows += number(line, "(current ");
            sum.limit = sum.limit.max(number(line, "(limit "));
        } else if line.contains("dump duration") {
            sum.dump_ms = sum.dump_ms.max(number(line, ":"));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_ports_and_datapaths() {
        let text = "netdev@ovs-netdev:\n  lookups: hit:7 missed:1 lost:0\n  flows: 3\n  port 1: p1 (system)\n    \
                    RX packets:5 errors:? dropped:2 overruns:? frame:?\n    TX packets:6 errors:? dropped:? aborted:? carrier:?\n    \
                    collisions:?\n    RX bytes:70 (7.0 KiB)  TX bytes:84\n";
        let port = Port { rx_packets: 5, rx_bytes: 70, rx_dropped: 2, tx_packets: 6, tx_bytes: 84, tx_dropped: 0 };
        let expect = Datapath {
            name: "netdev@ovs-netdev".into(),
            hit: 7,
            missed: 1,
            lost: 0,
            flows: 3,
            ports: [("p1".to_owned(), port)].into(),
        };
        assert_eq!(datapaths(text), [expect]);
    }

    #[test]
    fn flows_without_what_they_leave_open() {
        let text = "flow-dump from the main thread:\nufid:10-2, skb_priority(0/0),recirc_id(0),in_port(p1),eth(src=1:2/00:00:00:00:00:00,dst=3:4), \
                    packets:9, bytes:90, used:0.1s, offloaded:yes, dp:tc, actions:push_vlan(vid=1,pcp=0),p2\n";
        let flow = Flow {
            matches: "recirc_id(0),in_port(p1),eth(dst=3:4)".into(),
            actions: "push_vlan(vid=1,pcp=0),p2".into(),
            packets: 9,
            bytes: 90,
            offloaded: true,
        };
        assert_eq!(flows(text), [("10-2".to_owned(), flow)].into());
    }

    #[test]
    fn the_slow_paths_health() {
        let text = "d@x:\n  flows         : (current 12) (avg 0) (max 0) (limit 10000)\n  dump duration : 3ms\n";
        assert_eq!(upcalls(text), Upcalls { flows: 12, limit: 10_000, dump_ms: 3 });
    }
}
