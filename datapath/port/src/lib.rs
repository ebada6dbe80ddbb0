//! Where packets enter and leave the switch.
//!
//! This crate turns devices into receive queues and transmit handles that move batches of up to 32 packets:
//!
//! ```no_run
//! use port::{Batch, Device, PortConfig, Receive, Transmit};
//! # fn main() -> Result<(), port::PortError> {
//! let mut a = Device::open(&PortConfig::new("veth0", "system")?)?;
//! let b = Device::open(&PortConfig::new("veth1", "system")?)?;
//! let mut rx = a.take_rx().remove(0);
//! let mut tx = b.tx()?;
//! let mut batch = Batch::new();
//! loop {
//!     if rx.recv(&mut batch) > 0 {
//!         tx.send(&mut batch);
//!         tx.flush();
//!     } else if rx.prepare_sleep() {
//!         // poll rx.poll_fd()
//!     }
//! }
//! # }
//! ```
//!
//! What enters: [`PortConfig`] from the daemon, frames from devices. What leaves: [`Batch`]es for the `datapath` crate, link events
//! and statistics for the daemon. Neighbours: `datapath` (workers), `vswitchd` (opens and configures).
//!
//! - [`pool`]: the one bounded store of buffers, which is also every `AF_XDP` socket's UMEM; per-thread caches, no atomics per packet.
//! - [`Packet`], [`Batch`]: owned handles of 32 bytes; headers are contiguous; checksum and segmentation state travel along.
//! - [`Receive`], [`Transmit`] and the enums [`RxQueue`], [`TxQueue`] over the kinds of port.
//! - [`Device`]: an opened port: queues, MTU, MAC, link state, statistics, whether it is gone.
//!
//! Offloads: a received packet may bear a partial checksum or be a GSO frame of 64 KiB. `Transmit::send` carries that on, or makes it good
//! in software. Code between that changes headers must keep [`Checksum::Partial`] true (see there), and has to segment GSO frames
//! before it encapsulates them ([`offload::segment`]).

pub mod af_packet;
pub mod af_xdp;
mod batch;
mod class_sockets;
mod counters;
mod datagrams;
mod device;
pub mod dummy;
pub mod host;
pub mod memory;
mod netdev;
pub mod netlink;
pub mod offload;
mod packet;
pub mod pcap;
pub mod pool;
mod queue;
mod sys;
pub mod tap;

pub use batch::{BATCH_MAX, Batch, Drain};
pub use counters::{COUNTERS, Cell, Counters, QueueCells, QueueStats};
pub use device::{Device, Kind, LinkState, Mac, PortConfig, PortError, PortStats};
pub use packet::{CSUM_OFFSET_MAX, Checksum, Gso, GsoKind, Packet};
pub use queue::{Capabilities, Receive, RxQueue, Transmit, TxQueue, wait};

/// Asks for a cache line that will be read soon. Never faults, whatever the address.
#[inline(always)]
pub fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it does not access memory in the sense of the language.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
