//! Packets on their way through the actions, each with its key.
//!
//! What enters: packets of a batch that do the same. What leaves: the same packets, changed. `packets[i]` and `parsed[i]` belong together.
//! Bundles are kept and used again (`Spares`), so that neither clone nor recirculation allocates.

use crate::parsed::Parsed;
use flow::DpPort;
use flow::extract::PacketMeta;
use port::{Batch, Packet};

/// Packets at most.
pub const BUNDLE_MAX: usize = 32;
/// Bundles kept for use again: as many as actions nest and packets go round, and some.
pub const SPARES_MAX: usize = 32;

/// Packets and their keys.
#[derive(Debug)]
pub struct Bundle {
    pub packets: Batch,
    pub parsed: [Parsed; BUNDLE_MAX],
    /// An action has changed headers since the keys were extracted.
    pub stale: bool,
    /// The packets are new ones, come from this port: nothing in the keys is theirs yet.
    pub fresh: Option<DpPort>,
    /// At most so many bytes go to the next output; `u32::MAX` is all.
    pub cut: u32,
}

impl Bundle {
    /// An empty one. Not inlined: it is made on the stack, of which a caller would touch each page whenever it is called, whether it makes one or not.
    #[cold]
    #[inline(never)]
    pub(crate) fn new() -> Box<Self> {
        Box::new(Self {
            packets: Batch::new(),
            parsed: std::array::from_fn(|_| Parsed::new()),
            stale: false,
            fresh: None,
            cut: u32::MAX,
        })
    }

    /// Adds a packet with a copy of its key. Bundles are never filled further than the batch they come from, so there is room.
    pub fn push(&mut self, packet: Packet, parsed: &Parsed) {
        let at = self.packets.len();
        if self.packets.push(packet).is_ok() {
            self.parsed[at].copy_from(parsed);
        }
    }

    /// Extracts the keys again if an action has changed headers.
    pub fn refresh(&mut self, vlan_limit: u8) {
        if let Some(in_port) = self.fresh.take() {
            let meta = PacketMeta { in_port, vlan_limit, ..PacketMeta::default() };
            for (packet, parsed) in self.packets.iter().zip(&mut self.parsed) {
                parsed.read(packet.data(), &meta);
            }
            self.stale = false;
        }
        if std::mem::take(&mut self.stale) {
            for (packet, parsed) in self.packets.iter().zip(&mut self.parsed) {
                parsed.read_again(packet.data(), vlan_limit);
            }
        }
    }

    /// Says under which id the packets go round.
    pub fn set_recirc_id(&mut self, id: u32) {
        let n = self.packets.len();
        for parsed in &mut self.parsed[..n] {
            parsed.key.recirc_id = id.to_be_bytes();
        }
    }

    /// Bytes of all packets.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.packets.iter().map(|p| p.len() as u64).sum()
    }

    /// Keeps the packets for which `keep` says so, and gives the others to `out`, or frees them.
    pub fn split(&mut self, mut keep: impl FnMut(usize, &Packet) -> bool, mut out: Option<&mut Self>) {
        let mut all = std::mem::take(&mut self.packets);
        let (mut kept, mut at) = (0, 0);
        for packet in all.drain() {
            if keep(at, &packet) {
                if kept != at {
                    let (front, back) = self.parsed.split_at_mut(at);
                    front[kept].copy_from(&back[0]);
                }
                kept += 1;
                // It came from a batch of the same size.
                let _ = self.packets.push(packet);
            } else if let Some(out) = &mut out {
                out.push(packet, &self.parsed[at]);
            }
            at += 1;
        }
    }
}

/// Bundles not in use.
#[derive(Debug, Default)]
pub struct Spares(Vec<Box<Bundle>>);

impl Spares {
    /// An empty bundle.
    pub fn take(&mut self) -> Box<Bundle> {
        self.0.pop().unwrap_or_else(Bundle::new)
    }

    /// An empty bundle that goes on as `like` is.
    pub fn take_like(&mut self, like: &Bundle) -> Box<Bundle> {
        let mut bundle = self.take();
        (bundle.stale, bundle.fresh, bundle.cut) = (like.stale, like.fresh, like.cut);
        bundle
    }

    /// Frees what is left in a bundle and keeps it.
    pub fn give(&mut self, mut bundle: Box<Bundle>) {
        bundle.packets.clear();
        (bundle.stale, bundle.fresh, bundle.cut) = (false, None, u32::MAX);
        if self.0.len() < SPARES_MAX {
            self.0.push(bundle);
        }
    }
}
