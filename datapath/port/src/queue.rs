//! What a forwarding worker holds of a port: receive queues and transmit handles.
//!
//! What enters: batches from the wire, the kernel, a file or a test. What leaves: the same, the other way. Neighbours: the kinds of port
//! (`af_packet`, `af_xdp`, `tap`, `memory`, `dummy`, `host`), and the `datapath` crate, which polls and sends.
//!
//! # Who may call what from where
//!
//! A [`RxQueue`] is polled by one worker at a time, and moved between workers when queues are rebalanced. Every worker has a
//! [`TxQueue`] of its own for every port ([`Device::tx`](crate::Device::tx)); `send` takes no lock on `AF_PACKET`, tap and memory (each
//! handle has its own socket, or the kernel serialises). `AF_XDP` handles of one port share the rings of their hardware queue under
//! a spin lock that is held for one batch; `dummy` takes a mutex, being for tests.
//!
//! Dispatch is by an enum: the match predicts well, and the kinds' code is inlined into the worker's loop.

use crate::batch::Batch;
use crate::{af_packet, af_xdp, dummy, host, memory, tap};
use std::os::fd::RawFd;

/// What a transmit side carries out itself, so that nobody need do it in software.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Packets with a partial checksum are sent as they are.
    pub checksum: bool,
    /// TCP frames larger than the MTU are sent as they are.
    pub tso: bool,
    /// UDP frames that stand for several datagrams are sent as they are.
    pub uso: bool,
}

/// One receive queue of any kind of port.
pub trait Receive {
    /// Appends up to `batch.space()` packets; how many. Never blocks. 0 means that nothing is there now.
    fn recv(&mut self, batch: &mut Batch) -> usize;

    /// What becomes readable when packets are there. None: the queue cannot wake anyone (a memory source, or a device that is
    /// gone), so [`prepare_sleep`](Self::prepare_sleep) decides alone.
    fn poll_fd(&self) -> Option<RawFd>;

    /// To be called before sleeping on [`poll_fd`](Self::poll_fd). True if the worker may sleep; false if it has to call `recv`
    /// again first. Clears pending errors of the device, so that a level-triggered poll does not spin on them.
    fn prepare_sleep(&mut self) -> bool;
}

/// One worker's way into any kind of port.
pub trait Transmit {
    /// Sends every packet of `batch` and leaves it empty. What cannot be sent is freed and counted (`dropped`, `errors`). Checksums
    /// and segmentation that the port does not carry are done in software. May leave packets in a ring until
    /// [`flush`](Self::flush).
    fn send(&mut self, batch: &mut Batch);

    /// Makes sure that everything sent so far is on its way. To be called once per round of the worker's loop.
    fn flush(&mut self);

    /// What is sent without work in software.
    fn capabilities(&self) -> Capabilities;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident => $module:ident),+ $(,)?) => {
        /// A receive queue of one of the kinds; see [`Receive`].
        #[derive(Debug)]
        #[allow(missing_docs, reason = "the variants are the modules")]
        pub enum RxQueue { $($(#[$doc])* $name($module::Rx)),+ }

        /// A transmit handle of one of the kinds; see [`Transmit`].
        #[derive(Debug)]
        #[allow(missing_docs, reason = "the variants are the modules")]
        pub enum TxQueue { $($(#[$doc])* $name($module::Tx)),+ }

        impl RxQueue {
            /// Looking for packets in vain costs a system call, so it should not be done in every round.
            #[inline]
            pub fn polls_by_call(&self) -> bool {
                matches!(self, Self::Tap(_) | Self::Host(_))
            }

            /// What comes is for the tunnel port itself, its outer header still on.
            #[inline]
            pub fn is_outer(&self) -> bool {
                matches!(self, Self::Host(_))
            }
        }

        impl Receive for RxQueue {
            #[inline]
            fn recv(&mut self, batch: &mut Batch) -> usize {
                match self { $(Self::$name(queue) => queue.recv(batch)),+ }
            }
            #[inline]
            fn poll_fd(&self) -> Option<RawFd> {
                match self { $(Self::$name(queue) => queue.poll_fd()),+ }
            }
            #[inline]
            fn prepare_sleep(&mut self) -> bool {
                match self { $(Self::$name(queue) => queue.prepare_sleep()),+ }
            }
        }

        impl Transmit for TxQueue {
            #[inline]
            fn send(&mut self, batch: &mut Batch) {
                if !batch.is_empty() {
                    match self { $(Self::$name(queue) => queue.send(batch)),+ }
                }
            }
            #[inline]
            fn flush(&mut self) {
                match self { $(Self::$name(queue) => queue.flush()),+ }
            }
            #[inline]
            fn capabilities(&self) -> Capabilities {
                match self { $(Self::$name(queue) => queue.capabilities()),+ }
            }
        }
    };
}

kinds! {
    AfPacket => af_packet,
    AfXdp => af_xdp,
    Tap => tap,
    Memory => memory,
    Dummy => dummy,
    Host => host,
}

/// Sleeps until one of the queues may have packets, or for at most `timeout_ms`. For programs with threads of their own; the switch's workers
/// wait in their own way.
///
/// # Errors
/// The system's, but for interruptions.
pub fn wait(queues: &[RxQueue], timeout_ms: i32) -> std::io::Result<()> {
    let fd = |q: &RxQueue| q.poll_fd().map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let mut fds: Vec<libc::pollfd> = queues.iter().filter_map(fd).collect();
    let n = libc::nfds_t::try_from(fds.len()).expect("queues are few");
    // SAFETY: `fds` holds `n` records for the time of the call; the descriptors belong to the queues, which are borrowed.
    match crate::sys::check(unsafe { libc::poll(fds.as_mut_ptr(), n, timeout_ms) }) {
        Err(error) if error.kind() != std::io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}
