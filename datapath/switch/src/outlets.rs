//! A worker's ways out: for every port a transmit handle of its own and a batch that gathers what goes there.
//!
//! What enters: packets from the actions. What leaves: batches to `port`, full ones at once and the others at the end of each round.
//! Order on a port is the order of `send`.

use crate::counters::DROP_INVALID_PORT;
use crate::too_long::TooLongs;
use crate::tunnel_pop::Decap;
use crate::upcall::PortQueue;
use flow::DpPort;
use port::{Batch, Packet, Transmit, TxQueue};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Port numbers are below this (OVS: MAX_PORTS).
pub const PORTS_MAX: u32 = 65_535;

/// What a worker has of a port.
#[derive(Debug)]
pub struct Outlet {
    /// `None`: nothing can leave by this port (a tunnel's, or one whose device is gone).
    pub tx: Option<TxQueue>,
    /// Where packets that came in by this port go up.
    pub upcalls: Arc<PortQueue>,
    /// What a tunnel port takes off packets.
    pub decap: Option<Decap>,
    /// What was too long for a tunnel port.
    pub too_long: Option<Arc<TooLongs>>,
    /// The device's MTU.
    mtu: Option<Arc<AtomicU32>>,
    waiting: Batch,
}

impl Outlet {
    /// A port as a worker sees it.
    #[must_use]
    pub fn new(tx: Option<TxQueue>, upcalls: Arc<PortQueue>) -> Box<Self> {
        Box::new(Self { tx, upcalls, decap: None, too_long: None, mtu: None, waiting: Batch::new() })
    }

    /// The same for a tunnel port.
    #[must_use]
    pub fn decapsulating(mut self: Box<Self>, decap: Option<Decap>, too_long: Option<Arc<TooLongs>>) -> Box<Self> {
        (self.decap, self.too_long) = (decap, too_long);
        self
    }

    /// The same for a device with an MTU.
    #[must_use]
    pub fn limited(mut self: Box<Self>, mtu: Option<Arc<AtomicU32>>) -> Box<Self> {
        self.mtu = mtu;
        self
    }

    /// Bytes that a packet which leaves here may have behind its Ethernet header.
    #[must_use]
    pub fn mtu(&self) -> usize {
        self.mtu.as_ref().map_or(usize::MAX, |mtu| mtu.load(Ordering::Relaxed) as usize)
    }
}

/// By port number.
#[derive(Debug, Default)]
pub struct Outlets {
    ports: Vec<Option<Box<Outlet>>>,
    /// Ports that packets wait at, or whose handle has not been flushed since it sent.
    dirty: Vec<u32>,
    sent: Sent,
}

/// How much went out so far.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    packets: u64,
    batches: u64,
}

impl Sent {
    #[inline]
    fn send(&mut self, tx: &mut TxQueue, batch: &mut Batch) {
        if !batch.is_empty() {
            self.packets += batch.len() as u64;
            self.batches += 1;
            tx.send(batch);
        }
    }
}

impl Outlets {
    /// Adds or replaces a port; what waited at the old one is sent first.
    pub fn set(&mut self, port: DpPort, outlet: Box<Outlet>) {
        self.remove(port);
        let at = port.0 as usize;
        if at >= self.ports.len() {
            self.ports.resize_with(at + 1, || None);
        }
        self.ports[at] = Some(outlet);
    }

    /// Removes a port; what waited there is sent.
    pub fn remove(&mut self, port: DpPort) -> Option<Box<Outlet>> {
        self.flush();
        self.ports.get_mut(port.0 as usize)?.take()
    }

    /// The port's part, if it is there.
    #[inline]
    pub fn outlet(&self, port: u32) -> Option<&Outlet> {
        self.ports.get(port as usize)?.as_deref()
    }

    #[inline]
    fn ready(&mut self, port: u32) -> Option<(&mut TxQueue, &mut Batch, &mut Vec<u32>, &mut Sent)> {
        let outlet = self.ports.get_mut(port as usize)?.as_deref_mut()?;
        Some((outlet.tx.as_mut()?, &mut outlet.waiting, &mut self.dirty, &mut self.sent))
    }

    /// Packets and batches that were sent so far.
    #[must_use]
    pub fn sent(&self) -> (u64, u64) {
        (self.sent.packets, self.sent.batches)
    }

    /// Sends one packet, soon.
    #[inline]
    pub fn send(&mut self, port: u32, packet: Packet) {
        let Some((tx, waiting, dirty, sent)) = self.ready(port) else {
            DROP_INVALID_PORT.inc();
            return;
        };
        if waiting.is_empty() {
            dirty.push(port);
        }
        if waiting.push(packet).is_ok() && waiting.is_full() {
            sent.send(tx, waiting);
            // It stays dirty, for the flush; an empty batch may put it there a second time, which does no harm.
        }
    }

    /// Sends a whole batch, and leaves it empty.
    #[inline]
    pub fn send_all(&mut self, port: u32, packets: &mut Batch) {
        let Some((tx, waiting, dirty, sent)) = self.ready(port) else {
            DROP_INVALID_PORT.add(packets.len() as u64);
            packets.clear();
            return;
        };
        if waiting.is_empty() {
            dirty.push(port);
        } else {
            sent.send(tx, waiting);
        }
        sent.send(tx, packets);
    }

    /// Sends what waits and pushes it out of the rings. Once per round.
    #[inline]
    pub fn flush(&mut self) {
        while let Some(port) = self.dirty.pop() {
            if let Some(outlet) = self.ports.get_mut(port as usize).and_then(Option::as_deref_mut)
                && let Some(tx) = &mut outlet.tx
            {
                self.sent.send(tx, &mut outlet.waiting);
                tx.flush();
            }
        }
    }
}
