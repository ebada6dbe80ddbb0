//! sFlow version 5 (sflow.org, "sFlow Version 5"): samples of packets, and the counters of ports at intervals.
//!
//! What enters: packets that the datapath has sampled, counters, time. What leaves: datagrams of up to 1400 bytes; what has been
//! gathered is sent each second. Pure.

use super::write::{Writer, low32, uptime};
use crate::config::SflowConfig;
use crate::lacp;
use flow::Msec;
use flow::key::{Key, VLAN_CFI};
use flow::seam::{DpStats, PortStats};
use std::net::IpAddr;

/// Where collectors listen (IANA).
pub const COLLECTOR_PORT: u16 = 6343;
/// A datagram is not made longer than this.
const DATAGRAM_MAX: usize = 1400;
/// The longest header of a packet that a sample carries.
const HEADER_MAX: usize = 1000;
/// Data source of the bridge as a whole: class 2 (physical entity), from 1000 up.
const BRIDGE_SOURCE: u32 = 2 << 24 | 1000;
const SECOND_MS: Msec = 1000;

// Formats of samples and records.
const FLOW_SAMPLE: u32 = 1;
const COUNTERS_SAMPLE: u32 = 2;
const RAW_HEADER: u32 = 1;
const EXTENDED_SWITCH: u32 = 1001;
const EXTENDED_MPLS: u32 = 1006;
const TUNNEL4_EGRESS: u32 = 1023;
const TUNNEL4_INGRESS: u32 = 1024;
const VNI_EGRESS: u32 = 1029;
const VNI_INGRESS: u32 = 1030;
const IF_COUNTERS: u32 = 1;
const ETHERNET_COUNTERS: u32 = 2;
const LAG_COUNTERS: u32 = 7;
const OPENFLOW_PORT: u32 = 1004;
const PORT_NAME: u32 = 1005;
const APP_RESOURCES: u32 = 2203;
const OVS_DATAPATH: u32 = 2207;
/// A counter that is not kept.
const UNKNOWN: u32 = u32::MAX;

/// A sampled packet.
#[derive(Clone, Copy, Debug)]
pub struct Sampled<'a> {
    pub packet: &'a [u8],
    pub full_len: u32,
    pub key: &'a Key,
    /// Interface index of the input port, 0 if it has none.
    pub input: u32,
    /// As in the datapath's cookie: interface index, or how many outputs there are.
    pub output: u32,
    /// The tag that it leaves with.
    pub vlan_tci: u16,
    /// IP protocol of the tunnel that it came by; 0 if unknown.
    pub in_tunnel_proto: u8,
    pub out: Option<&'a Leaving>,
}

/// With what the one copy of a sampled packet leaves.
#[derive(Clone, Debug, Default)]
pub struct Leaving {
    /// The tunnel, as it stands in a key, and its IP protocol.
    pub tunnel: Option<(Box<Key>, u8)>,
    /// Labels, the top first.
    pub labels: Vec<u32>,
}

/// A port whose counters are told.
#[derive(Clone, Debug, Default)]
pub struct PortCounters {
    pub ifindex: u32,
    pub name: String,
    pub number: u32,
    pub speed_bps: u64,
    pub full_duplex: Option<bool>,
    pub admin_up: bool,
    pub link_up: bool,
    pub stats: PortStats,
    /// Of a member of an aggregate.
    pub lacp: Option<lacp::Figures>,
}

/// Everything that is told at intervals.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub datapath_id: u64,
    pub datapath: DpStats,
    pub ports: Vec<PortCounters>,
}

/// Data that waits for a datagram.
#[derive(Debug, Default)]
struct Waiting {
    samples: Writer,
    count: u32,
    ready: Vec<Vec<u8>>,
}

/// The agent of one bridge.
#[derive(Debug)]
pub struct SFlow {
    config: SflowConfig,
    /// `None` until a collector is reached; what is gathered before has nowhere to go.
    agent: Option<IpAddr>,
    start_ms: Msec,
    /// The full second of the clock in which it last ticked.
    ticked_ms: Msec,
    sequence: u32,
    flow_sequence: u32,
    pool: u32,
    /// Seconds until counters are due.
    countdown: u32,
    /// Sequences of counter samples, by data source.
    counter_sequences: flow::hash::Map<u32, u32>,
    waiting: Waiting,
}

impl SFlow {
    /// Uptime is counted from `now`.
    #[must_use]
    pub fn new(config: SflowConfig, now: Msec) -> Self {
        Self {
            countdown: config.polling_s.min(1),
            agent: config.agent,
            config,
            start_ms: now,
            ticked_ms: full_second(now),
            sequence: 0,
            flow_sequence: 0,
            pool: 0,
            counter_sequences: flow::hash::Map::default(),
            waiting: Waiting::default(),
        }
    }

    /// As configured.
    #[must_use]
    pub fn config(&self) -> &SflowConfig {
        &self.config
    }

    /// Takes the address by which collectors are reached for the agent's, where none is configured.
    pub fn reached_by(&mut self, address: Option<IpAddr>) {
        self.agent = self.agent.or(address);
    }

    /// Takes up a sampled packet.
    pub fn sample(&mut self, s: &Sampled<'_>, now: Msec) {
        // The datapath's dice are trusted to come to the mean.
        self.pool = self.pool.wrapping_add(self.config.sampling);
        self.flow_sequence = self.flow_sequence.wrapping_add(1);
        let (count, records) = self.flow_records(s);
        let mut w = Writer::default();
        w.u32(FLOW_SAMPLE).u32(0).u32(self.flow_sequence).u32(BRIDGE_SOURCE + self.config.sub_id);
        w.u32(self.config.sampling).u32(self.pool).u32(0).u32(s.input).u32(s.output).u32(count);
        w.bytes(&records.0);
        self.add(w, now);
    }

    fn flow_records(&self, s: &Sampled<'_>) -> (u32, Writer) {
        let mut w = Writer::default();
        let mut count = 2;
        if s.key.tun_dst != [0; 4] {
            count += put_tunnel(&mut w, s.key, s.in_tunnel_proto, (TUNNEL4_INGRESS, VNI_INGRESS));
        }
        if let Some((tunnel, proto)) = s.out.and_then(|o| o.tunnel.as_ref()) {
            count += put_tunnel(&mut w, tunnel, *proto, (TUNNEL4_EGRESS, VNI_EGRESS));
        }
        if let Some(labels) = s.out.map(|o| &o.labels).filter(|l| !l.is_empty()) {
            count += 1;
            put_labels(&mut w, labels);
        }
        let len = s.packet.len().min(usize::try_from(self.config.header).unwrap_or(HEADER_MAX)).min(HEADER_MAX);
        let len_word = u32::try_from(len).expect("at most HEADER_MAX");
        w.u32(RAW_HEADER).u32(16 + len_word.next_multiple_of(4));
        // Ethernet; the frame check sequence of four bytes has been on the wire and is stripped.
        w.u32(1).u32(s.full_len + 4).u32(4).u32(len_word).padded(&s.packet[..len]);
        let tag = |tci: u16| if tci & VLAN_CFI == 0 { (0, 0) } else { (u32::from(tci & 0x0fff), u32::from(tci >> 13)) };
        let (source, leaving) = (tag(u16::from_be_bytes(s.key.vlan_tci)), tag(s.vlan_tci));
        w.u32(EXTENDED_SWITCH).u32(16).u32(source.0).u32(source.1).u32(leaving.0).u32(leaving.1);
        (count, w)
    }

    /// Whether the clock has come to another full second.
    #[must_use]
    pub fn is_due(&self, now: Msec) -> bool {
        now - self.ticked_ms >= SECOND_MS
    }

    /// Another second, or several: counters if they are due, and what has been gathered. Gives datagrams.
    pub fn tick(&mut self, now: Msec, counters: &Counters) -> Vec<Vec<u8>> {
        self.ticked_ms = full_second(now);
        if self.countdown > 0 {
            self.countdown -= 1;
            if self.countdown == 0 {
                self.countdown = self.config.polling_s;
                self.put_counters(counters, now);
            }
        }
        self.close(now);
        std::mem::take(&mut self.waiting.ready)
    }

    /// The bridge first, then the ports, that of the highest index first.
    fn put_counters(&mut self, counters: &Counters, now: Msec) {
        let mut w = Writer::default();
        w.u32(APP_RESOURCES).u32(40);
        for _ in 0..10 {
            w.u32(0);
        }
        let d = &counters.datapath;
        w.u32(OVS_DATAPATH).u32(24).u32(low32(d.hit)).u32(low32(d.missed)).u32(low32(d.lost)).u32(low32(d.mask_hit));
        w.u32(low32(d.flows)).u32(d.masks);
        self.counter_sample(BRIDGE_SOURCE + self.config.sub_id, 2, &w.0, now);
        let mut ports: Vec<&PortCounters> = counters.ports.iter().filter(|p| p.ifindex != 0).collect();
        ports.sort_by_key(|p| std::cmp::Reverse(p.ifindex));
        for port in ports {
            let mut w = Writer::default();
            put_interface(&mut w, port);
            let name = port.name.as_bytes();
            let len = u32::try_from(name.len()).expect("a device's name is short");
            w.u32(PORT_NAME).u32(4 + len.next_multiple_of(4)).u32(len).padded(name);
            w.u32(OPENFLOW_PORT).u32(12).u64(counters.datapath_id).u32(port.number);
            put_ethernet(&mut w, &port.stats);
            if let Some(lacp) = &port.lacp {
                put_lacp(&mut w, lacp);
            }
            self.counter_sample(port.ifindex & 0x00ff_ffff, 4 + u32::from(port.lacp.is_some()), &w.0, now);
        }
    }

    fn counter_sample(&mut self, source: u32, records: u32, body: &[u8], now: Msec) {
        let sequence = self.counter_sequences.entry(source).or_default();
        *sequence = sequence.wrapping_add(1);
        let mut w = Writer::default();
        w.u32(COUNTERS_SAMPLE).u32(0).u32(*sequence).u32(source).u32(records).bytes(body);
        self.add(w, now);
    }

    /// Puts a sample into the datagram, or into the next one if it is full.
    fn add(&mut self, mut sample: Writer, now: Msec) {
        let len = u32::try_from(sample.0.len() - 8).expect("a sample is short");
        sample.set_u32(4, len);
        if self.header_len() + self.waiting.samples.0.len() + sample.0.len() > DATAGRAM_MAX {
            self.close(now);
        }
        self.waiting.samples.bytes(&sample.0);
        self.waiting.count += 1;
    }

    fn header_len(&self) -> usize {
        if self.agent.is_some_and(|a| a.is_ipv4()) { 28 } else { 40 }
    }

    fn close(&mut self, now: Msec) {
        if self.waiting.count == 0 {
            return;
        }
        let Some(agent) = self.agent else {
            self.waiting = Waiting::default();
            return;
        };
        self.sequence = self.sequence.wrapping_add(1);
        let mut w = Writer::default();
        w.u32(5);
        match agent {
            IpAddr::V4(ip) => w.u32(1).bytes(&ip.octets()),
            IpAddr::V6(ip) => w.u32(2).bytes(&ip.octets()),
        };
        w.u32(self.config.sub_id).u32(self.sequence).u32(uptime(now, self.start_ms)).u32(self.waiting.count);
        w.bytes(&std::mem::take(&mut self.waiting.samples).0);
        self.waiting.count = 0;
        self.waiting.ready.push(w.0);
    }
}

/// The tunnel of a key; gives how many records that took.
fn put_tunnel(w: &mut Writer, key: &Key, proto: u8, (tunnel, vni): (u32, u32)) -> u32 {
    w.u32(tunnel).u32(32).u32(0).u32(u32::from(proto)).bytes(&key.tun_src).bytes(&key.tun_dst);
    let port = |p: [u8; 2]| u32::from(u16::from_be_bytes(p));
    w.u32(port(key.tun_tp_src)).u32(port(key.tun_tp_dst)).u32(0).u32(u32::from(key.tun_tos));
    let id = u64::from_be_bytes(key.tun_id);
    if id == 0 {
        return 1;
    }
    w.u32(vni).u32(4).u32(low32(id));
    2
}

/// Next hop (unknown: 0.0.0.0), no incoming labels, the outgoing ones.
fn put_labels(w: &mut Writer, labels: &[u32]) {
    let count = u32::try_from(labels.len()).expect("few labels");
    w.u32(EXTENDED_MPLS).u32(16 + 4 * count).u32(1).u32(0).u32(0).u32(count);
    for label in labels {
        w.u32(*label);
    }
}

fn put_interface(w: &mut Writer, p: &PortCounters) {
    let (speed, direction) = match p.full_duplex {
        Some(full) => (p.speed_bps, if full { 1 } else { 2 }),
        None => (100_000_000, 0),
    };
    let status = if p.admin_up { 1 | u32::from(p.link_up) << 1 } else { 0 };
    let s = &p.stats;
    w.u32(IF_COUNTERS).u32(88).u32(p.ifindex).u32(6).u64(speed).u32(direction).u32(status);
    w.u64(s.rx_bytes)
        .u32(low32(s.rx_packets))
        .u32(low32(s.rx_multicast_packets))
        .u32(UNKNOWN)
        .u32(low32(s.rx_dropped))
        .u32(low32(s.rx_errors));
    w.u32(UNKNOWN);
    w.u64(s.tx_bytes).u32(low32(s.tx_packets)).u32(UNKNOWN).u32(UNKNOWN).u32(low32(s.tx_dropped)).u32(low32(s.tx_errors));
    w.u32(0);
}

/// sFlow LAG Counters Structure; what nobody administers of the partner is zero.
fn put_lacp(w: &mut Writer, f: &lacp::Figures) {
    w.u32(LAG_COUNTERS).u32(56).padded(&f.actor).padded(&f.partner).u32(u32::from(f.key));
    w.bytes(&[f.actor_admin, f.actor_oper, 0, f.partner_oper]);
    w.u32(f.rx).u32(UNKNOWN).u32(UNKNOWN).u32(UNKNOWN).u32(f.rx_bad).u32(f.tx).u32(UNKNOWN).u32(UNKNOWN);
}

fn full_second(now: Msec) -> Msec {
    now - now % SECOND_MS
}

fn put_ethernet(w: &mut Writer, s: &PortStats) {
    w.u32(ETHERNET_COUNTERS).u32(52).u32(low32(s.rx_frame_err)).u32(low32(s.rx_crc_err));
    for counter in 3..=13 {
        // dot3StatsFrameTooLongs
        w.u32(if counter == 11 { low32(s.rx_over_err) } else { UNKNOWN });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sflow(polling_s: u32) -> SFlow {
        let config = SflowConfig {
            targets: Vec::new(),
            sampling: 400,
            polling_s,
            header: 128,
            agent: "127.0.0.1".parse().ok(),
            sub_id: 0,
        };
        SFlow::new(config, 0)
    }

    fn words(datagram: &[u8]) -> Vec<u32> {
        datagram.chunks(4).map(|w| u32::from_be_bytes(w.try_into().unwrap())).collect()
    }

    #[test]
    fn a_sample_looks_like_this() {
        let mut s = sflow(0);
        let key = Key { vlan_tci: [0x30, 5], ..Key::ZERO };
        let sampled = Sampled {
            packet: &[7; 18],
            full_len: 18,
            key: &key,
            input: 3,
            output: 0x4000_0100,
            vlan_tci: 0,
            in_tunnel_proto: 0,
            out: None,
        };
        s.sample(&sampled, 0);
        let got = s.tick(1000, &Counters::default());
        let expect = [
            [5, 1, 0x7f00_0001, 0, 1, 1000, 1].as_slice(),
            &[1, 100, 1, 2 << 24 | 1000, 400, 400, 0, 3, 0x4000_0100, 2],
            &[1, 36, 1, 22, 4, 18, 0x0707_0707, 0x0707_0707, 0x0707_0707, 0x0707_0707, 0x0707_0000],
            &[1001, 16, 5, 1, 0, 0],
        ]
        .concat();
        assert_eq!(words(&got[0]), expect);
        assert!(s.tick(2000, &Counters::default()).is_empty());
    }

    #[test]
    fn an_agent_without_an_address_takes_that_by_which_a_collector_is_reached() {
        let mut s = sflow(1);
        s.agent = None;
        assert!(s.tick(1000, &Counters::default()).is_empty());
        s.reached_by(None);
        assert!(s.tick(2000, &Counters::default()).is_empty());
        s.reached_by("10.0.0.1".parse().ok());
        s.reached_by("10.0.0.2".parse().ok());
        // The first datagram that leaves is the first of the sequence.
        assert_eq!(words(&s.tick(3000, &Counters::default())[0])[..5], [5, 1, 0x0a00_0001, 0, 1]);
    }

    #[test]
    fn tunnels_and_labels_have_records_of_their_own() {
        let mut s = sflow(0);
        let key = Key { tun_dst: [1, 1, 1, 1], tun_tos: 4, ..Key::ZERO };
        let out = Key { tun_dst: [2, 2, 2, 2], tun_id: 456u64.to_be_bytes(), ..Key::ZERO };
        let leaving = Leaving { tunnel: Some((Box::new(out), 47)), labels: vec![0x0001_41ff] };
        let sampled = Sampled {
            packet: &[0; 4],
            full_len: 4,
            key: &key,
            input: 0,
            output: 1,
            vlan_tci: 0,
            in_tunnel_proto: 17,
            out: Some(&leaving),
        };
        s.sample(&sampled, 0);
        let got = words(&s.tick(1000, &Counters::default())[0]);
        assert_eq!(got[16], 6, "records");
        assert_eq!(got[17..27], [1024, 32, 0, 17, 0, 0x0101_0101, 0, 0, 0, 4]);
        assert_eq!(got[27..40], [1023, 32, 0, 47, 0, 0x0202_0202, 0, 0, 0, 0, 1029, 4, 456]);
        assert_eq!(got[40..47], [1006, 20, 1, 0, 0, 1, 0x0001_41ff]);
    }

    #[test]
    fn a_member_of_an_aggregate_tells_its_state() {
        let mut s = sflow(1);
        let figures =
            lacp::Figures { actor: [1, 2, 3, 4, 5, 6], key: 9, actor_admin: 7, actor_oper: 0xbf, tx: 3, ..Default::default() };
        let port = PortCounters { ifindex: 1, name: "p1".into(), lacp: Some(figures), ..PortCounters::default() };
        let counters = Counters { ports: vec![port], ..Counters::default() };
        let got = words(&s.tick(1000, &counters)[0]);
        let at = got.windows(2).position(|w| w == [7, 56]).unwrap();
        assert_eq!(got[at + 2..at + 8], [0x0102_0304, 0x0506_0000, 0, 0, 9, 0x07bf_0000]);
        assert_eq!(got[at + 8..], [0, UNKNOWN, UNKNOWN, UNKNOWN, 0, 3, UNKNOWN, UNKNOWN]);
    }

    #[test]
    fn it_ticks_at_full_seconds_of_the_clock() {
        let config = sflow(1).config;
        let mut s = SFlow::new(config, 7_900);
        assert!(!s.is_due(7_999) && s.is_due(8_000), "whenever it was configured");
        assert_eq!(s.tick(8_150, &Counters::default()).len(), 1, "counters come with the first one");
        assert!(!s.is_due(8_999) && s.is_due(9_000), "one that was late does not put off the next");
    }

    #[test]
    fn counters_come_at_their_interval_and_datagrams_are_bounded() {
        let mut s = sflow(2);
        let port = |ifindex| PortCounters { ifindex, name: format!("p{ifindex}"), ..PortCounters::default() };
        let counters = Counters { ports: (0..9).map(port).collect(), ..Counters::default() };
        let first = s.tick(1000, &counters);
        assert_eq!(first.len(), 2, "eight ports have an index, 212 bytes each");
        assert!(first.iter().all(|d| d.len() <= DATAGRAM_MAX));
        assert!(s.tick(2000, &counters).is_empty());
        assert_eq!(words(&s.tick(3000, &counters)[0])[4], 3, "the sequence of datagrams");
    }
}
