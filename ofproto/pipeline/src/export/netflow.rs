//! NetFlow version 5: a record for each flow of IPv4 packets that has ended, or lasted for longer than the active timeout.
//!
//! What enters: packets and bytes of flows as megaflows are paid for; the end of megaflows; time. What leaves: datagrams of up to 30
//! records. Pure.

use super::write::{Writer, low32, uptime};
use crate::config::NetflowConfig;
use crate::effects::Payment;
use flow::Msec;
use flow::hash::Map;
use flow::key::{Key, Mask};

flow::counters! {
    NETFLOW_FULL = "netflow_flows_full", "flows that NetFlow did not follow because it follows as many as it can";
}

/// Flows followed at once.
pub const FLOWS_MAX: usize = 1 << 18;
/// Records of a datagram.
const RECORDS_MAX: usize = 30;
/// Records that wait for the next datagram to be sent; beyond it the oldest are lost.
const WAITING_MAX: usize = 30_000;
/// Stands for "to many ports" as the output interface, and for "flooded".
pub const OUT_MULTI: u16 = u16::MAX - 1;
pub const OUT_FLOOD: u16 = u16::MAX;
/// Nowhere.
pub const OUT_DROP: u16 = 0;

const ICMP: u8 = 1;
const ETH_IPV4: [u8; 2] = [0x08, 0x00];

/// What makes a flow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowKey {
    pub in_port: u16,
    pub src: [u8; 4],
    pub dst: [u8; 4],
    pub proto: u8,
    pub tos: u8,
    pub tp_src: [u8; 2],
    pub tp_dst: [u8; 2],
}

impl FlowKey {
    /// The flow of a packet that came in by OpenFlow port `in_port`; `None` if it is not IPv4.
    #[must_use]
    pub fn of(key: &Key, in_port: u16) -> Option<Self> {
        (key.eth_type == ETH_IPV4).then_some(Self {
            in_port,
            src: key.nw_src,
            dst: key.nw_dst,
            proto: key.nw_proto,
            tos: key.nw_tos,
            tp_src: key.tp_src,
            tp_dst: key.tp_dst,
        })
    }

    /// The bits that tell flows apart.
    pub fn unwildcard(mask: &mut Mask) {
        mask.nw_proto = 0xff;
        mask.nw_src = [0xff; 4];
        mask.nw_dst = [0xff; 4];
        // The two bits of congestion do not tell flows apart.
        mask.nw_tos |= 0xfc;
        mask.tp_src = [0xff; 2];
        mask.tp_dst = [0xff; 2];
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    output: u16,
    packets: u64,
    bytes: u64,
    tcp_flags: u8,
    /// When the first and the last packet since the last record were seen.
    first_ms: Msec,
    last_ms: Msec,
    /// When the last record was made, or the flow began.
    recorded_ms: Msec,
}

/// A record that waits to be sent.
type Record = (FlowKey, Flow);

/// The exporter.
#[derive(Debug)]
pub struct NetFlow {
    config: NetflowConfig,
    start_ms: Msec,
    sequence: u32,
    flows: Map<FlowKey, Flow>,
    waiting: Vec<Record>,
}

impl NetFlow {
    /// Uptime is counted from `now`.
    #[must_use]
    pub fn new(config: NetflowConfig, now: Msec) -> Self {
        Self { config, start_ms: now, sequence: 0, flows: Map::default(), waiting: Vec::new() }
    }

    /// Packets of a flow went to `output`.
    pub fn update(&mut self, key: FlowKey, output: u16, payment: &Payment) {
        if !self.flows.contains_key(&key) && self.flows.len() >= FLOWS_MAX {
            NETFLOW_FULL.inc();
            return;
        }
        let used = payment.used_ms;
        let fresh = Flow { output, recorded_ms: used, ..Flow::default() };
        let flow = self.flows.entry(key).or_insert(fresh);
        if flow.output != output {
            let before = std::mem::replace(flow, fresh);
            record(&mut self.waiting, key, before);
        }
        let flow = self.flows.entry(key).or_insert(fresh);
        if flow.packets == 0 {
            flow.first_ms = used;
        }
        flow.packets += payment.packets;
        flow.bytes += payment.bytes;
        flow.tcp_flags |= u8::try_from(payment.tcp_flags & 0xff).expect("masked to 8 bits");
        flow.last_ms = used;
    }

    /// The megaflow that forwarded a flow is gone: the flow has ended.
    pub fn end(&mut self, key: &FlowKey) {
        if let Some(flow) = self.flows.remove(key) {
            record(&mut self.waiting, *key, flow);
        }
    }

    /// Records flows that have lasted; gives the datagrams that are ready. `wall_ms` is the time since the Unix epoch.
    pub fn run(&mut self, now: Msec, wall_ms: i64) -> Vec<Vec<u8>> {
        if let Some(timeout_s) = self.config.active_timeout_s {
            let limit = now - Msec::from(timeout_s) * 1000;
            let Self { flows, waiting, .. } = self;
            for (key, flow) in flows.iter_mut().filter(|(_, f)| f.packets > 0 && f.recorded_ms <= limit) {
                let next = Flow { output: flow.output, recorded_ms: now, ..Flow::default() };
                record(waiting, *key, std::mem::replace(flow, next));
            }
        }
        let waiting = std::mem::take(&mut self.waiting);
        waiting.chunks(RECORDS_MAX).map(|records| self.datagram(records, now, wall_ms)).collect()
    }

    fn datagram(&mut self, records: &[Record], now: Msec, wall_ms: i64) -> Vec<u8> {
        let mut w = Writer::default();
        let wall_ms = u64::try_from(wall_ms).unwrap_or(0);
        let nanoseconds = low32(wall_ms % 1000 * 1_000_000);
        w.u16(5).u16(u16::try_from(records.len()).expect("at most RECORDS_MAX"));
        w.u32(uptime(now, self.start_ms)).u32(low32(wall_ms / 1000)).u32(nanoseconds).u32(self.sequence);
        w.u8(self.config.engine_type).u8(self.config.engine_id).u16(0);
        for (key, flow) in records {
            self.put_record(&mut w, key, flow);
        }
        self.sequence = self.sequence.wrapping_add(u32::try_from(records.len()).expect("at most RECORDS_MAX"));
        w.0
    }

    fn put_record(&self, w: &mut Writer, key: &FlowKey, flow: &Flow) {
        // ICMP has type and code where the destination port stands.
        let (src, dst) = match key.proto {
            ICMP => ([0; 2], [key.tp_src[1], key.tp_dst[1]]),
            _ => (key.tp_src, key.tp_dst),
        };
        w.bytes(&key.src).bytes(&key.dst).u32(0);
        w.u16(self.interface(key.in_port)).u16(self.interface(flow.output));
        w.clamped(flow.packets).clamped(flow.bytes);
        w.u32(uptime(flow.first_ms, self.start_ms)).u32(uptime(flow.last_ms, self.start_ms));
        w.bytes(&src).bytes(&dst);
        w.u8(0).u8(flow.tcp_flags).u8(key.proto).u8(key.tos);
        // Autonomous systems and prefix lengths, which a switch does not know.
        w.u16(0).u16(0).u8(0).u8(0).u16(0);
    }

    /// `add-id-to-interface`: the engine stands in the upper seven bits.
    fn interface(&self, port: u16) -> u16 {
        if self.config.add_id_to_interface { u16::from(self.config.engine_id & 0x7f) << 9 | port & 0x1ff } else { port }
    }
}

fn record(waiting: &mut Vec<Record>, key: FlowKey, flow: Flow) {
    if flow.packets == 0 {
        return;
    }
    if waiting.len() >= WAITING_MAX {
        waiting.drain(..RECORDS_MAX);
    }
    waiting.push((key, flow));
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: FlowKey =
        FlowKey { in_port: 1, src: [10, 0, 0, 1], dst: [10, 0, 0, 2], proto: 6, tos: 0x10, tp_src: [0, 80], tp_dst: [1, 0] };

    fn netflow(add_id: bool) -> NetFlow {
        let config = NetflowConfig {
            targets: Vec::new(),
            engine_type: 2,
            engine_id: 1,
            add_id_to_interface: add_id,
            active_timeout_s: Some(10),
        };
        NetFlow::new(config, 1000)
    }

    fn pay(packets: u64, used_ms: Msec) -> Payment {
        Payment { packets, bytes: packets * 100, used_ms, tcp_flags: 0x12 }
    }

    #[test]
    fn a_record_looks_like_this() {
        let mut n = netflow(false);
        n.update(KEY, 2, &pay(3, 2000));
        n.update(KEY, 2, &pay(1, 2500));
        n.end(&KEY);
        let got = n.run(3000, 1_700_000_000_250);
        let expect = [
            &[0, 5, 0, 1, 0, 0, 0x07, 0xd0, 0x65, 0x53, 0xf1, 0x00, 0x0e, 0xe6, 0xb2, 0x80, 0, 0, 0, 0, 2, 1, 0, 0][..],
            &[10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 4, 0, 0, 0x01, 0x90],
            &[0, 0, 0x03, 0xe8, 0, 0, 0x05, 0xdc, 0, 80, 1, 0, 0, 0x12, 6, 0x10, 0, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(got, [expect]);
        assert!(n.run(3000, 0).is_empty(), "told once");
    }

    #[test]
    fn another_output_or_the_timeout_makes_a_record() {
        let mut n = netflow(true);
        n.update(KEY, OUT_FLOOD, &pay(1, 2000));
        n.update(KEY, 2, &pay(5, 2000));
        let first = &n.run(3000, 0)[0];
        assert_eq!(&first[24 + 12..24 + 20], [2, 1, 3, 0xff, 0, 0, 0, 1], "engine 1 in the upper bits");
        assert!(n.run(11_999, 0).is_empty());
        let second = &n.run(12_000, 0)[0];
        assert_eq!((&second[16..20], second[24 + 19]), (&[0, 0, 0, 1][..], 5), "the sequence counts records");
        assert!(n.run(30_000, 0).is_empty(), "nothing since");
    }

    #[test]
    fn thirty_records_to_a_datagram() {
        let mut n = netflow(false);
        for i in 0..31 {
            let key = FlowKey { tp_src: [9, i], ..KEY };
            n.update(key, 2, &pay(1, 0));
            n.end(&key);
        }
        let sizes: Vec<usize> = n.run(0, 0).iter().map(Vec::len).collect();
        assert_eq!(sizes, [24 + 30 * 48, 24 + 48]);
    }
}
