//! Flow export: what a bridge tells collectors of its traffic, by NetFlow version 5, sFlow version 5 and IPFIX (RFC 7011).
//!
//! What enters: configuration; credits of megaflows (NetFlow), sampled packets (sFlow, IPFIX), time. What leaves: datagrams for the
//! collectors. Neighbours: `xlate::export` puts samples into the datapath's actions, `udpif` hands on what comes up, `slowpath` gives time.
//!
//! The encoders are pure: they take `now` and give datagrams. Only `collectors` and `resolve` know of sockets.

pub mod collectors;
pub mod ipfix;
pub mod netflow;
mod resolve;
pub mod sflow;
mod write;

use crate::config::{BridgeConfig, IpfixConfig};
use collectors::{Collectors, Sent};
use flow::Msec;
use openflow::message::IpfixStats;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

/// An exporter with its collectors.
#[derive(Debug)]
pub struct Exporter<E> {
    collectors: Collectors,
    encoder: Mutex<E>,
}

impl<E> Exporter<E> {
    fn new(targets: &[String], default_port: Option<u16>, encoder: E) -> Self {
        Self { collectors: Collectors::open(targets, default_port), encoder: Mutex::new(encoder) }
    }

    /// The encoder; lock it last, and for a moment.
    pub fn lock(&self) -> MutexGuard<'_, E> {
        self.encoder.lock().expect("no holder of an exporter panics")
    }

    /// Sends what `give` gives to each collector. Says how that went, datagram by datagram.
    fn send(&self, give: impl FnOnce(&mut E) -> Vec<Vec<u8>>) -> Sent {
        let datagrams = give(&mut self.lock());
        datagrams.iter().fold(Sent::default(), |sent, d| sent + self.collectors.send(d))
    }
}

/// The exporters of a bridge.
#[derive(Debug, Default)]
pub struct Exporters {
    pub netflow: Option<Exporter<netflow::NetFlow>>,
    pub sflow: Option<Exporter<sflow::SFlow>>,
    /// Of the bridge's traffic as a whole.
    pub ipfix: Option<Exporter<ipfix::Ipfix>>,
    /// Of what `sample` actions choose, by collector set.
    pub flow_ipfix: BTreeMap<u32, Exporter<ipfix::Ipfix>>,
}

impl Exporters {
    /// Makes the exporters those of the configuration; what has not changed goes on.
    pub fn configure(&mut self, old: &BridgeConfig, new: &BridgeConfig, now: Msec) {
        if old.netflow != new.netflow || new.netflow.is_some() != self.netflow.is_some() {
            self.netflow = new.netflow.as_ref().map(|c| Exporter::new(&c.targets, None, netflow::NetFlow::new(c.clone(), now)));
        }
        if old.sflow != new.sflow || new.sflow.is_some() != self.sflow.is_some() {
            self.sflow = new
                .sflow
                .as_ref()
                .map(|c| Exporter::new(&c.targets, Some(sflow::COLLECTOR_PORT), sflow::SFlow::new(c.clone(), now)));
        }
        if old.ipfix != new.ipfix || new.ipfix.is_some() != self.ipfix.is_some() {
            self.ipfix = new.ipfix.as_ref().map(|c| ipfix_exporter(c, now));
        }
        self.flow_ipfix.retain(|id, _| {
            let of = |c: &BridgeConfig| c.flow_ipfix.iter().find(|(i, _)| i == id).map(|(_, c)| c.clone());
            of(new).is_some() && of(old) == of(new)
        });
        for (id, config) in &new.flow_ipfix {
            self.flow_ipfix.entry(*id).or_insert_with(|| ipfix_exporter(config, now));
        }
    }

    /// What NXST_IPFIX_BRIDGE tells; `None` without an exporter.
    #[must_use]
    pub fn bridge_totals(&self) -> Option<IpfixStats> {
        self.ipfix.as_ref().map(|e| told(0, &e.lock().totals()))
    }

    /// What NXST_IPFIX_FLOW tells, by collector set.
    #[must_use]
    pub fn flow_totals(&self) -> Vec<IpfixStats> {
        self.flow_ipfix.iter().map(|(id, e)| told(*id, &e.lock().totals())).collect()
    }

    /// What time brings: counters, records of flows that have ended or lasted, datagrams. `ports` supplies counters when they are due.
    pub fn run(&self, now: Msec, wall_ms: i64, ports: &dyn Fn() -> sflow::Counters) {
        if let Some(netflow) = &self.netflow {
            netflow.send(|e| e.run(now, wall_ms));
        }
        if let Some(sflow) = &self.sflow {
            sflow.send(|e| {
                if !e.is_due(now) {
                    return Vec::new();
                }
                e.reached_by(sflow.collectors.source());
                e.tick(now, &ports())
            });
        }
        for ipfix in self.ipfix.iter().chain(self.flow_ipfix.values()) {
            let sent = ipfix.send(|e| e.run(now, wall_ms));
            ipfix.lock().sent(sent);
        }
    }
}

fn told(collector_set_id: u32, t: &ipfix::Totals) -> IpfixStats {
    IpfixStats {
        collector_set_id,
        total_flows: t.flows,
        current_flows: t.current_flows,
        packets: t.packets,
        ipv4_packets: t.ipv4,
        ipv6_packets: t.ipv6,
        error_packets: t.errors,
        ipv4_error_packets: t.ipv4_errors,
        ipv6_error_packets: t.ipv6_errors,
        tx_packets: t.sent,
        tx_errors: t.send_errors,
    }
}

fn ipfix_exporter(config: &IpfixConfig, now: Msec) -> Exporter<ipfix::Ipfix> {
    Exporter::new(&config.targets, Some(ipfix::COLLECTOR_PORT), ipfix::Ipfix::new(config.clone(), now))
}
