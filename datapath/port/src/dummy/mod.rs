//! Ports for tests: frames come from a control handle, a socket or nowhere, and go to a pcap file, a socket or a capture list.
//!
//! What enters: frames by [`Control::receive`] (`netdev-dummy/receive`), by stream links between dummies (`wire`). What leaves: the frames
//! that the switch sends. Neighbours: the daemon's `netdev-dummy/*` commands, the `datapath` crate's tests.
//!
//! The behaviour is OVS's netdev-dummy: 100 packets per receive queue, the rest is dropped; a MAC of aa:55:aa:55:xx:xx counted up from the
//! process's start; MTU 1500, frames above it (plus a VLAN tag) refused; ARP requests for the address that was given to the port
//! answered by the port itself; pcap files appended to. A port that is down still receives what is injected.

mod wire;

pub use wire::LinkStatus;

use crate::batch::Batch;
use crate::counters::{Counters, DUMMY_OVERFLOW, QueueStats};
use crate::device::{Kind, LinkState, Mac, PortConfig, PortError, RXQ_MAX, Shared};
use crate::offload::settle;
use crate::packet::Packet;
use crate::pcap;
use crate::queue::{Capabilities, Receive, Transmit};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::VecDeque;
use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most packets that wait in one receive queue.
pub const QUEUE_MAX: usize = 100;
/// The most frames that [`Control::captured`] holds for the test to fetch.
pub const CAPTURE_MAX: usize = 4096;
/// Addresses of a family that a port may have.
const ADDRESSES_MAX: usize = 64;

/// The least and greatest MTU.
const MTU: std::ops::RangeInclusive<u32> = 68..=65535;
const ETH_HEADER: usize = 14;
const VLAN_TAG: usize = 4;

static NEXT_MAC: AtomicU32 = AtomicU32::new(0xaa55_0000);

/// Why a control command was refused. The texts are those of OVS's commands.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ControlError {
    /// There is no such receive queue.
    #[error("bad rx queue id.")]
    Queue,
}

#[derive(Debug)]
struct State {
    name: String,
    shared: Arc<Shared>,
    ifindex: Option<u32>,
    inner: Mutex<Inner>,
    /// One per receive queue: readable while packets wait.
    wake: Vec<EventFd>,
    wire: Option<wire::Wire>,
    rx_counters: Vec<Counters>,
    /// By transmit queue.
    tx_counters: Vec<Counters>,
    hash_tx: bool,
    /// Handles so far: each has the next queue.
    n_handles: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    queues: Vec<VecDeque<Packet>>,
    overflows: u64,
    rxq_pcap: Option<Arc<Mutex<pcap::Writer<File>>>>,
    tx_pcap: Option<Arc<Mutex<pcap::Writer<File>>>>,
    ip4: Vec<(Ipv4Addr, Ipv4Addr)>,
    ip6: Vec<(Ipv6Addr, Ipv6Addr)>,
    capture: Option<VecDeque<Vec<u8>>>,
}

impl State {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a frame into a receive queue, or drops it if the queue is full.
    fn inject(&self, inner: &mut Inner, queue: usize, frame: &[u8]) {
        record(inner.rxq_pcap.as_ref(), frame);
        if inner.queues[queue].len() >= QUEUE_MAX {
            inner.overflows += 1;
            DUMMY_OVERFLOW.inc();
            return;
        }
        match Packet::from_bytes(frame) {
            Some(packet) => inner.queues[queue].push_back(packet),
            None => inner.overflows += 1, // counted by the pool
        }
        // Fails only if the count would overflow, and then it is readable already.
        let _ = self.wake[queue].write(1);
    }
}

fn record(writer: Option<&Arc<Mutex<pcap::Writer<File>>>>, frame: &[u8]) {
    let Some(writer) = writer else { return };
    let time_us = u64::try_from(flow::clock::clock().wall_ms()).unwrap_or(0) * 1000;
    let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = writer.write(time_us, frame) {
        tracing::debug!(target: "netdev_dummy", "pcap: {error}");
    }
}

/// The test's end of a dummy port. Clones lead to the same port.
#[derive(Clone, Debug)]
pub struct Control {
    state: Arc<State>,
}

impl Control {
    /// Lets the port receive `frame` on a queue. A full queue drops it silently, as OVS does (counted in `overflows`).
    pub fn receive(&self, queue: usize, frame: &[u8]) -> Result<(), ControlError> {
        self.receive_all(queue, [frame])
    }

    /// The same of several frames: whoever polls the queue finds all of them or none.
    pub fn receive_all<'f>(&self, queue: usize, frames: impl IntoIterator<Item = &'f [u8]>) -> Result<(), ControlError> {
        let mut inner = self.state.inner();
        if queue >= inner.queues.len() {
            return Err(ControlError::Queue);
        }
        frames.into_iter().for_each(|frame| self.state.inject(&mut inner, queue, frame));
        Ok(())
    }

    /// Puts the port administratively up or down.
    pub fn set_admin_up(&self, up: bool) {
        self.state.shared.admin_up.store(up, Ordering::Relaxed);
    }

    /// Gives the port one more IPv4 address with its mask; it answers ARP requests for the address. False: it has too many.
    #[must_use]
    pub fn add_ip4(&self, address: Ipv4Addr, mask: Ipv4Addr) -> bool {
        add_address(&mut self.state.inner().ip4, (address, mask))
    }

    /// Gives the port one more IPv6 address with its mask. False: it has too many.
    #[must_use]
    pub fn add_ip6(&self, address: Ipv6Addr, mask: Ipv6Addr) -> bool {
        add_address(&mut self.state.inner().ip6, (address, mask))
    }

    /// The port's IPv4 addresses and masks.
    pub fn ip4(&self) -> Vec<(Ipv4Addr, Ipv4Addr)> {
        self.state.inner().ip4.clone()
    }

    /// The port's IPv6 addresses and masks.
    pub fn ip6(&self) -> Vec<(Ipv6Addr, Ipv6Addr)> {
        self.state.inner().ip6.clone()
    }

    /// How the port's stream link is (`netdev-dummy/conn-state`).
    pub fn link_status(&self) -> LinkStatus {
        self.state.wire.as_ref().map_or(LinkStatus::Unknown, wire::Wire::status)
    }

    /// Packets dropped because a receive queue was full.
    pub fn overflows(&self) -> u64 {
        self.state.inner().overflows
    }

    /// From now on frames that the switch sends are kept (up to [`CAPTURE_MAX`], then the oldest go) for [`captured`](Self::captured).
    pub fn capture(&self) {
        self.state.inner().capture.get_or_insert_default();
    }

    /// The frames sent since the last call.
    pub fn captured(&self) -> Vec<Vec<u8>> {
        self.state.inner().capture.as_mut().map(|c| c.drain(..).collect()).unwrap_or_default()
    }
}

/// A receive queue.
#[derive(Debug)]
pub struct Rx {
    state: Arc<State>,
    queue: usize,
}

impl Receive for Rx {
    fn recv(&mut self, batch: &mut Batch) -> usize {
        let mut inner = self.state.inner();
        let queue = &mut inner.queues[self.queue];
        let n = queue.len().min(batch.space());
        let mut bytes = 0;
        for packet in queue.drain(..n) {
            bytes += packet.len() as u64;
            batch.push(packet).expect("no more than space was asked for");
        }
        if n > 0 {
            let counters = &self.state.rx_counters[self.queue];
            counters.packets.add(n as u64);
            counters.bytes.add(bytes);
        }
        n
    }

    fn poll_fd(&self) -> Option<RawFd> {
        Some(self.state.wake[self.queue].as_fd().as_raw_fd())
    }

    fn prepare_sleep(&mut self) -> bool {
        let inner = self.state.inner();
        // Reading resets it; EAGAIN means that it was not set.
        let _ = self.state.wake[self.queue].read();
        inner.queues[self.queue].is_empty()
    }
}

/// A transmit handle.
#[derive(Debug)]
pub struct Tx {
    state: Arc<State>,
    /// The queue of this handle.
    queue: usize,
}

impl Tx {
    /// The queue that a frame leaves by.
    fn queue_of(&self, frame: &[u8]) -> usize {
        if !self.state.hash_tx {
            return self.queue;
        }
        // Addresses and ports of untagged IPv4; of other frames whatever stands there.
        let flow = frame.get(23..38).unwrap_or(frame);
        let hash = flow.iter().fold(0u32, |h, byte| (h ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        (hash ^ hash >> 15) as usize % self.state.tx_counters.len()
    }
}

impl Transmit for Tx {
    fn send(&mut self, batch: &mut Batch) {
        let state = &self.state;
        settle(batch, self.capabilities(), &state.tx_counters[self.queue], |ready| {
            let mut inner = state.inner();
            for packet in ready.iter() {
                let counters = &state.tx_counters[self.queue_of(packet.data())];
                send_one(state, &mut inner, counters, packet.data());
            }
        });
    }

    fn flush(&mut self) {}

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
}

fn send_one(state: &State, inner: &mut Inner, counters: &Counters, frame: &[u8]) {
    let mtu = state.shared.mtu.load(Ordering::Relaxed) as usize;
    let tagged = frame.get(12..14) == Some(&[0x81, 0]);
    let max = mtu + ETH_HEADER + if tagged { VLAN_TAG } else { 0 };
    if frame.len() < ETH_HEADER || frame.len() > max {
        counters.errors.add(1);
        return;
    }
    counters.packets.add(1);
    counters.bytes.add(frame.len() as u64);
    if let Some(wire) = &state.wire {
        wire.send(frame);
    }
    let reply = inner.ip4.iter().find_map(|(address, _)| arp_reply(frame, state.shared.mac(), *address));
    if let Some(reply) = reply {
        state.inject(inner, 0, &reply);
    }
    record(inner.tx_pcap.as_ref(), frame);
    if let Some(capture) = &mut inner.capture {
        if capture.len() == CAPTURE_MAX {
            capture.pop_front();
        }
        capture.push_back(frame.to_vec());
    }
}

/// An address that is there already gets the new mask.
fn add_address<A: PartialEq>(addresses: &mut Vec<(A, A)>, new: (A, A)) -> bool {
    addresses.retain(|(address, _)| *address != new.0);
    let fits = addresses.len() < ADDRESSES_MAX;
    if fits {
        addresses.push(new);
    }
    fits
}

/// The answer to an ARP request (RFC 826) for `address`; None if `frame` is none.
fn arp_reply(frame: &[u8], mac: Mac, address: Ipv4Addr) -> Option<Vec<u8>> {
    const REQUEST: [u8; 10] = [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1];
    let arp: &[u8; 42] = frame.first_chunk()?;
    if arp[12..22] != REQUEST || arp[38..42] != address.octets() {
        return None;
    }
    let mut reply = Vec::with_capacity(42);
    reply.extend_from_slice(&arp[6..12]);
    reply.extend_from_slice(&mac);
    reply.extend_from_slice(&REQUEST[..9]);
    reply.push(2);
    reply.extend_from_slice(&mac);
    reply.extend_from_slice(&arp[38..42]);
    reply.extend_from_slice(&arp[22..32]);
    Some(reply)
}

/// An opened dummy port: what `Device` keeps.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) control: Control,
    /// A dummy-pmd.
    pmd: bool,
}

impl Port {
    pub(crate) fn open(config: &PortConfig, shared: &Arc<Shared>) -> Result<(Self, Vec<Rx>), PortError> {
        let pmd = config.kind == Kind::DummyPmd;
        let n_rxq = if pmd { n_queues(config, "n_rxq") } else { 1 };
        let n_txq = if pmd { n_queues(config, "n_txq") } else { 1 };
        let number = NEXT_MAC.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let [a, b, c, d] = number;
        shared.set_mac(config.mac.unwrap_or([0xaa, 0x55, a, b, c, d]));
        shared.set_link(LinkState { admin_up: true, carrier: true, gone: false });
        shared.mtu.store(config.mtu.unwrap_or(1500), Ordering::Relaxed);
        let mut inner = Inner { queues: (0..n_rxq).map(|_| VecDeque::new()).collect(), ..Inner::default() };
        if let Some(path) = config.option("pcap") {
            inner.rxq_pcap = append(path);
            inner.tx_pcap.clone_from(&inner.rxq_pcap);
        } else {
            inner.rxq_pcap = config.option("rxq_pcap").and_then(append);
            inner.tx_pcap = config.option("tx_pcap").and_then(append);
        }
        let fault = |source| PortError::Os { name: config.name.clone(), what: "eventfd", source };
        let eventfd = || EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        let wake = (0..n_rxq).map(|_| eventfd().map_err(|e| fault(e.into()))).collect::<Result<_, _>>()?;
        let state = Arc::new_cyclic(|weak| State {
            name: config.name.clone(),
            shared: Arc::clone(shared),
            ifindex: config.option("ifindex").and_then(|text| text.parse().ok()),
            inner: Mutex::new(inner),
            wake,
            wire: wire::Wire::open(config, weak.clone()),
            rx_counters: (0..n_rxq).map(|_| shared.new_rx_counters()).collect(),
            tx_counters: (0..n_txq).map(|_| shared.new_tx_counters()).collect(),
            hash_tx: config.hash_tx,
            n_handles: AtomicUsize::new(0),
        });
        let queues = (0..n_rxq).map(|queue| Rx { state: Arc::clone(&state), queue }).collect();
        Ok((Self { control: Control { state }, pmd }, queues))
    }

    pub(crate) fn tx(&self) -> Tx {
        let state = &self.control.state;
        let queue = state.n_handles.fetch_add(1, Ordering::Relaxed) % state.tx_counters.len();
        Tx { state: Arc::clone(state), queue }
    }

    pub(crate) fn n_txq(&self) -> usize {
        self.control.state.tx_counters.len()
    }

    pub(crate) fn ifindex(&self) -> Option<u32> {
        self.control.state.ifindex
    }

    pub(crate) fn set_mtu(&self, mtu: u32) -> Result<(), PortError> {
        if !MTU.contains(&mtu) {
            let name = self.control.state.name.clone();
            return Err(PortError::Os { name, what: "setting the MTU", source: std::io::Error::from_raw_os_error(libc::EINVAL) });
        }
        self.control.state.shared.mtu.store(mtu, Ordering::Relaxed);
        Ok(())
    }

    /// OVS's custom statistics of a dummy: two totals, then bytes and packets per queue.
    pub(crate) fn custom_stats(&self, rx: &[QueueStats], tx: &[QueueStats]) -> Vec<(String, u64)> {
        let total = rx.iter().map(|queue| queue.packets).sum();
        let mut all = vec![("rx_custom_packets_1".to_owned(), total), ("rx_custom_packets_2".to_owned(), total)];
        // A plain dummy has one queue to send by; ours, one for each thread that sends, count as that one.
        let sum = |count: fn(&QueueStats) -> u64| tx.iter().map(count).sum();
        let one = [QueueStats { packets: sum(|q| q.packets), bytes: sum(|q| q.bytes), ..QueueStats::default() }];
        let tx = if self.pmd { tx } else { &one[..] };
        for (way, queues) in [("rx", rx), ("tx", tx)] {
            for (i, queue) in queues.iter().enumerate() {
                all.push((format!("{way}_q{i}_bytes"), queue.bytes));
                all.push((format!("{way}_q{i}_packets"), queue.packets));
            }
        }
        all
    }
}

/// `options:n_rxq` and `n_txq` of a dummy-pmd: nonsense is 1, too many are cut, with OVS's warning.
fn n_queues(config: &PortConfig, key: &str) -> usize {
    let wanted = config.option(key).and_then(|text| text.parse().ok()).unwrap_or(1).max(1);
    if wanted > RXQ_MAX {
        tracing::warn!(target: "netdev_dummy", "{}: {wanted} queues are more than {RXQ_MAX}; taking {RXQ_MAX}", config.name);
    }
    wanted.min(RXQ_MAX)
}

fn append(path: &str) -> Option<Arc<Mutex<pcap::Writer<File>>>> {
    match pcap::Writer::append(Path::new(path)) {
        Ok(writer) => Some(Arc::new(Mutex::new(writer))),
        Err(error) => {
            tracing::warn!(target: "pcap", "{path}: failed to open pcap file for appending ({error})");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, RxQueue, TxQueue};

    fn open(config: &PortConfig) -> (Device, Control, Vec<RxQueue>, TxQueue) {
        let mut device = Device::open(config).unwrap();
        let control = device.dummy().unwrap();
        let rx = device.take_rx();
        let tx = device.tx().unwrap();
        (device, control, rx, tx)
    }

    fn send(tx: &mut TxQueue, frame: &[u8]) {
        let mut batch = Batch::new();
        batch.push(Packet::from_bytes(frame).unwrap()).unwrap();
        tx.send(&mut batch);
        assert!(batch.is_empty());
    }

    #[test]
    fn frames_go_in_and_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let config = PortConfig::new("p1", "dummy-pmd").unwrap().with("n_rxq", "2");
        let config = config.with("rxq_pcap", &path("rx")).with("tx_pcap", &path("tx"));
        let (device, control, mut rx, mut tx) = open(&config);
        control.capture();
        assert_eq!(control.receive(2, &[0; 60]), Err(ControlError::Queue));
        assert!(rx[1].prepare_sleep());
        for i in 0..101 {
            control.receive(1, &[i; 60]).unwrap();
        }
        assert!(!rx[1].prepare_sleep());
        assert_eq!(control.overflows(), 1);
        let mut batch = Batch::new();
        assert_eq!(rx[0].recv(&mut batch), 0);
        assert_eq!(rx[1].recv(&mut batch), 32);
        assert_eq!(batch[31].data(), [31; 60]);
        tx.send(&mut batch);
        send(&mut tx, &[9; 13]);
        send(&mut tx, &[9; 1515]);
        assert_eq!(control.captured().len(), 32);
        assert_eq!(pcap::read(Path::new(&path("rx"))).unwrap().len(), 101);
        assert_eq!(pcap::read(Path::new(&path("tx"))).unwrap().len(), 32);
        let stats = device.stats().unwrap();
        assert_eq!((stats.rx_packets, stats.rx_bytes, stats.tx_packets, stats.tx_bytes), (32, 1920, 32, 1920));
        assert_eq!(device.queue_stats().1[0].errors, 2);
        assert_eq!(device.custom_stats()[3], ("rx_q0_packets".to_owned(), 0));
        assert_eq!(device.custom_stats()[4], ("rx_q1_bytes".to_owned(), 1920));
        assert_eq!(device.mac()[..3], [0xaa, 0x55, 0xaa]);
    }

    #[test]
    fn packets_leave_by_their_handle_or_by_their_hash() {
        let spread = |hash_tx| {
            let config = PortConfig::new("p2", "dummy-pmd").unwrap().with("n_txq", "2");
            let (device, _control, _rx, mut tx) = open(&PortConfig { hash_tx, ..config });
            let mut frame = [0; 60];
            for port in 0..64 {
                frame[37] = port;
                send(&mut tx, &frame);
            }
            assert_eq!(device.n_txq(), 2);
            device.queue_stats().1.iter().map(|q| q.packets).collect::<Vec<_>>()
        };
        assert_eq!(spread(false), [64, 0]);
        let [a, b] = spread(true)[..] else { panic!("two queues") };
        assert!(a > 0 && b > 0 && a + b == 64, "{a} {b}");
    }

    #[test]
    fn arp_requests_are_answered() {
        let (device, control, mut rx, mut tx) = open(&PortConfig::new("br0", "dummy-internal").unwrap());
        let mask = Ipv4Addr::new(255, 255, 255, 0);
        assert!(control.add_ip4(Ipv4Addr::new(1, 1, 2, 88), mask) && control.add_ip4(Ipv4Addr::new(1, 1, 2, 89), mask));
        let mut request = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
        request.extend_from_slice(&[2, 0, 0, 0, 0, 9, 1, 1, 2, 92, 0, 0, 0, 0, 0, 0, 1, 1, 2, 88]);
        send(&mut tx, &request);
        let mut batch = Batch::new();
        assert_eq!(rx[0].recv(&mut batch), 1);
        let mac = device.mac();
        let reply =
            [&[2, 0, 0, 0, 0, 9][..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &mac, &[1, 1, 2, 88], &request[22..32]].concat();
        assert_eq!(batch[0].data(), reply);
        request[41] = 87;
        send(&mut tx, &request);
        assert_eq!(rx[0].recv(&mut batch), 0);
    }

    #[test]
    fn streams_join_two_ports() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("p0.sock").to_string_lossy().into_owned();
        let (_a, control_a, mut rx_a, mut tx_a) =
            open(&PortConfig::new("pa", "dummy").unwrap().with("pstream", &format!("punix:{socket}")));
        let (_b, control_b, mut rx_b, mut tx_b) =
            open(&PortConfig::new("pb", "dummy").unwrap().with("stream", &format!("unix:{socket}")));
        let soon = |f: &mut dyn FnMut() -> bool| {
            (0..2000).any(|_| {
                f() || {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    false
                }
            })
        };
        assert!(soon(&mut || control_b.link_status() == LinkStatus::Connected));
        assert_eq!(control_a.link_status(), LinkStatus::Unknown);
        send(&mut tx_b, &[3; 77]);
        let mut batch = Batch::new();
        assert!(soon(&mut || rx_a[0].recv(&mut batch) == 1));
        tx_a.send(&mut batch);
        assert!(soon(&mut || rx_b[0].recv(&mut batch) == 1));
        assert_eq!(batch[0].data(), [3; 77]);
        drop((_a, control_a, rx_a, tx_a));
        assert!(soon(&mut || control_b.link_status() == LinkStatus::Disconnected));
    }
}
