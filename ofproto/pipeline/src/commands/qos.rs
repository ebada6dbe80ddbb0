//! `qos/*`: how the kernel queues what leaves by an interface, as it has come to be.

use super::Outcome;
use crate::slowpath::Slowpath;
use flow::seam::{Datapath, DpPort, QosReport, QueueReport};
use std::fmt::Write as _;

/// Runs `act` on the interface that the first argument names: its datapath and its port there.
fn with_interface(slowpath: &Slowpath, args: &[&str], act: impl FnOnce(&dyn Datapath, Option<DpPort>) -> Outcome) -> Outcome {
    let world = slowpath.read_world();
    for bridge in world.bridges.values() {
        if let Some(port) = bridge.ports.values().find(|p| p.name == args[0])
            && let Some(backend) = world.backends.get(&bridge.kind)
        {
            return act(backend.dp.as_ref(), port.dp_port);
        }
    }
    Err("no such interface".to_owned())
}

pub(super) fn show(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    with_interface(slowpath, args, |dp, port| {
        let report = port.map_or(Ok(None), |port| dp.port_qos(port)).map_err(|e| e.to_string())?;
        Ok(report.map_or_else(|| format!("QoS not configured on {}\n", args[0]), |report| text(args[0], &report)))
    })
}

fn text(name: &str, report: &QosReport) -> String {
    let mut out = format!("QoS: {name} {}\n", report.kind);
    for (key, value) in &report.details {
        let _ = writeln!(out, "{key}: {value}");
    }
    report.queues.iter().for_each(|queue| put_queue(&mut out, queue));
    out
}

fn put_queue(out: &mut String, queue: &QueueReport) {
    let _ = match queue.queue {
        0 => writeln!(out, "\nDefault:"),
        n => writeln!(out, "\nQueue {n}:"),
    };
    for (key, value) in &queue.details {
        let _ = writeln!(out, "  {key}: {value}");
    }
    let Some(counters) = queue.counters else { return };
    for (name, n) in [("tx_packets", counters.tx_packets), ("tx_bytes", counters.tx_bytes), ("tx_errors", counters.tx_errors)] {
        let _ = writeln!(out, "  {name}: {n}");
    }
}

pub(super) fn show_types(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    with_interface(slowpath, args, |dp, port| {
        let kinds = port.map(|port| dp.port_qos_kinds(port)).unwrap_or_default();
        if kinds.is_empty() {
            return Ok(format!("No QoS types supported for interface: {}\n", args[0]));
        }
        Ok(kinds.iter().map(|kind| format!("QoS type: {kind}\n")).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::seam::QueueCounters;

    #[test]
    fn queues_are_told_with_what_they_have_sent() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let counters = Some(QueueCounters { tx_packets: 3, tx_bytes: 180, tx_errors: 1 });
        let report = QosReport {
            kind: "linux-htb".into(),
            details: vec![pair("max-rate", "3000000")],
            queues: vec![
                QueueReport { queue: 0, details: vec![pair("min-rate", "12000")], counters },
                QueueReport { queue: 5, ..QueueReport::default() },
            ],
            since_ms: 0,
        };
        let expect = "QoS: p2 linux-htb\nmax-rate: 3000000\n\nDefault:\n  min-rate: 12000\n  tx_packets: 3\n  tx_bytes: 180\n  \
                      tx_errors: 1\n\nQueue 5:\n";
        assert_eq!(text("p2", &report), expect);
    }
}
