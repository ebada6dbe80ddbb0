//! Queues of ports, as OpenFlow asks for them: which there are, and what they have sent.
//!
//! What enters: the world to read, a port and a queue (or all). What leaves: entries of replies. Neighbours: `requests`; the datapath,
//! which knows what the kernel's classes have counted.

use super::replies::duration;
use crate::bridge::{Bridge, Port};
use crate::world::World;
use flow::Msec;
use flow::seam::{QueueCounters, QueueReport};
use openflow::message::{QueueConfig, QueueStatsEntry};
use openflow::{OfError, OfPort};

/// OFPQ_ALL
const ALL_QUEUES: u32 = 0xffff_ffff;

/// OFPMP_QUEUE. A port without configured queues has none to tell of.
pub(super) fn stats(
    world: &World,
    bridge: &Bridge,
    port: OfPort,
    queue: u32,
    now: Msec,
) -> Result<Vec<QueueStatsEntry>, OfError> {
    const UNKNOWN: u64 = u64::MAX;
    let found = all_queues(world, bridge, port)?.into_iter().filter(|q| queue == ALL_QUEUES || q.queue == queue);
    let entry = |q: Queue| {
        let lasted = q.since_ms.map(|since| duration(since, now));
        let (duration_sec, duration_nsec) = lasted.unwrap_or((u32::MAX, u32::MAX));
        let counters = q.counters.unwrap_or(QueueCounters { tx_packets: UNKNOWN, tx_bytes: UNKNOWN, tx_errors: UNKNOWN });
        let QueueCounters { tx_packets, tx_bytes, tx_errors } = counters;
        QueueStatsEntry { port: q.port, queue: q.queue, tx_bytes, tx_packets, tx_errors, duration_sec, duration_nsec }
    };
    let found: Vec<QueueStatsEntry> = found.map(entry).collect();
    if found.is_empty() && queue != ALL_QUEUES { Err(OfError::OfpqofcBadQueue) } else { Ok(found) }
}

/// The configured queues of a port, or of all.
pub(super) fn configured(world: &World, bridge: &Bridge, port: OfPort, queue: u32) -> Result<Vec<QueueConfig>, OfError> {
    const UNSET: u16 = u16::MAX;
    let found = all_queues(world, bridge, port)?.into_iter().filter(|q| queue == ALL_QUEUES || q.queue == queue);
    let config = |q: Queue| QueueConfig { port: q.port, queue: q.queue, min_rate: UNSET, max_rate: UNSET };
    let found: Vec<_> = found.map(config).collect();
    if found.is_empty() && queue != ALL_QUEUES { Err(OfError::OfpqofcBadQueue) } else { Ok(found) }
}

/// A queue of a port, and what it has sent, as far as anybody knows.
struct Queue {
    port: OfPort,
    queue: u32,
    counters: Option<QueueCounters>,
    since_ms: Option<Msec>,
}

fn all_queues(world: &World, bridge: &Bridge, port: OfPort) -> Result<Vec<Queue>, OfError> {
    if port != OfPort::ANY && !bridge.ports.contains_key(&port) {
        return Err(OfError::OfpqofcBadPort);
    }
    let of_bridge = bridge.ports.values().filter(|p| port == OfPort::ANY || p.number == port);
    Ok(of_bridge.flat_map(|p| queues_of(world, bridge, p)).collect())
}

fn queues_of(world: &World, bridge: &Bridge, port: &Port) -> Vec<Queue> {
    let number = port.number;
    if port.kind.starts_with("dummy") {
        // Dummy ports pretend to have one queue.
        return vec![Queue { port: number, queue: 0, counters: None, since_ms: None }];
    }
    let backend = world.backend(bridge.id);
    let report = backend.zip(port.own_dp_port()).and_then(|(backend, dp_port)| backend.dp.port_qos(dp_port).ok().flatten());
    let queues = report.into_iter().flat_map(|report| {
        let queue =
            move |q: QueueReport| Queue { port: number, queue: q.queue, counters: q.counters, since_ms: Some(report.since_ms) };
        report.queues.into_iter().map(queue)
    });
    queues.collect()
}
