//! Taps: a netdev of the host whose other end is the switch. The bridge's own port and every `internal` port is one.
//!
//! What enters: frames that the host sends; batches. What leaves: packets with their offload state; frames that the host receives.
//! Neighbours: `offload::vnet`, `device`.
//!
//! The netdev lives as long as its port, and outlives a daemon that ends or is killed: the next one finds it with its addresses (decision
//! 0083), unless it was moved into another network namespace, where the next one would not look for it (0148). One queue; the kernel serialises writers, so each
//! worker's handle is the same descriptor. A frame is read into a small buffer and, what is beyond its end, into a jumbo one, so that
//! small frames are not copied and large ones need no second read: their first 1,792 bytes are moved over.

use crate::batch::Batch;
use crate::counters::Counters;
use crate::device::{PortError, Shared};
use crate::netdev::Netdev;
use crate::offload::{settle, vnet};
use crate::packet::Packet;
use crate::pool::{FRAME_MAX, SMALL_FRAME_MAX};
use crate::queue::{Capabilities, Receive, Transmit};
use crate::sys;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const TUN_F_CSUM: libc::c_uint = 0x01;
const TUN_F_TSO4: libc::c_uint = 0x02;
const TUN_F_TSO6: libc::c_uint = 0x04;
const TUN_F_TSO_ECN: libc::c_uint = 0x08;
const TUN_F_USO4: libc::c_uint = 0x20;
const TUN_F_USO6: libc::c_uint = 0x40;

/// Whether netdevs outlive their ports.
static KEEP: AtomicBool = AtomicBool::new(false);

/// From now on closed taps leave their netdevs, with addresses and routes, to the next daemon: this one is about to end.
pub fn keep_netdevs() {
    KEEP.store(true, Ordering::Relaxed);
}

/// An opened tap: what `Device` keeps.
#[derive(Debug)]
pub(crate) struct Port {
    file: Arc<File>,
    pub(crate) netdev: Netdev,
}

impl Port {
    /// Makes the netdev `name` (down), or takes over a persistent one of that name.
    pub(crate) fn open(name: &str, shared: &Arc<Shared>) -> Result<(Self, Rx), PortError> {
        let fault = |what, source| PortError::Os { name: name.to_owned(), what, source };
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .map_err(|e| fault("opening /dev/net/tun", e))?;
        let mut request = sys::ifreq(name).map_err(|e| fault("naming the tap", e))?;
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).expect("tap flags have 16 bits");
        let size = libc::c_int::try_from(vnet::LEN).expect("a header is small");
        // SAFETY: TUNSETIFF reads and writes a valid ifreq.
        sys::check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
            .map_err(|e| fault("making the tap", e))?;
        // SAFETY: TUNSETVNETHDRSZ reads an int.
        sys::check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const size) })
            .map_err(|e| fault("setting the header's size", e))?;
        offer_offloads(&file).map_err(|e| fault("offering offloads", e))?;
        let (netdev, _) = Netdev::find(name, shared)?;
        persist(&file, true).map_err(|e| fault("keeping the tap", e))?;
        let file = Arc::new(file);
        let netdev = netdev.of_tap(&file);
        let counters = shared.new_rx_counters();
        let rx = Rx { file: Arc::clone(&file), netdev: netdev.clone(), small: None, jumbo: None, counters };
        Ok((Self { file, netdev }, rx))
    }

    pub(crate) fn tx(&self) -> Tx {
        let counters = self.netdev.shared.new_tx_counters();
        Tx { file: Arc::clone(&self.file), netdev: self.netdev.clone(), counters }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if !KEEP.load(Ordering::Relaxed) {
            // A netdev that somebody has deleted needs it no more.
            let _ = persist(&self.file, false);
        }
    }
}

/// Whether the netdev stays when its last descriptor is closed.
pub(crate) fn persist(file: &File, wanted: bool) -> io::Result<()> {
    // SAFETY: TUNSETPERSIST takes its flag by value.
    sys::check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETPERSIST, libc::c_ulong::from(wanted)) }).map(drop)
}

/// Tells the kernel what the switch takes: all but the cutting into IP fragments.
fn offer_offloads(file: &File) -> io::Result<()> {
    let tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
    let set = |flags: libc::c_uint| {
        // SAFETY: TUNSETOFFLOAD takes its flags by value.
        sys::check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) })
    };
    // Kernels before 6.2 do not know the UDP flags.
    set(tcp | TUN_F_USO4 | TUN_F_USO6).or_else(|_| set(tcp)).map(drop)
}

/// The receive queue.
#[derive(Debug)]
pub struct Rx {
    file: Arc<File>,
    netdev: Netdev,
    /// Buffers for the next frame.
    small: Option<Packet>,
    jumbo: Option<Packet>,
    counters: Counters,
}

/// What a read brought.
enum Read1 {
    Packet(Packet),
    Lost,
    Nothing,
}

impl Rx {
    fn read(&mut self) -> Read1 {
        if self.small.is_none() {
            self.small = Packet::new();
        }
        if self.jumbo.is_none() {
            self.jumbo = Packet::with_capacity(FRAME_MAX);
        }
        let (Some(small), Some(jumbo)) = (&mut self.small, &mut self.jumbo) else {
            return self.discard();
        };
        small.set_len(SMALL_FRAME_MAX);
        jumbo.set_len(FRAME_MAX);
        let mut header = [0; vnet::LEN];
        let mut parts = [
            IoSliceMut::new(&mut header),
            IoSliceMut::new(small.data_mut()),
            IoSliceMut::new(&mut jumbo.data_mut()[SMALL_FRAME_MAX..]),
        ];
        self.counters.syscalls.add(1);
        let len = match (&*self.file).read_vectored(&mut parts) {
            Ok(len) if len >= vnet::LEN => len - vnet::LEN,
            Ok(_) => {
                self.counters.errors.add(1);
                return Read1::Lost;
            }
            Err(error) => return self.failed(&error),
        };
        let packet = if len <= SMALL_FRAME_MAX {
            self.small.take()
        } else {
            jumbo.data_mut()[..SMALL_FRAME_MAX].copy_from_slice(small.data());
            self.jumbo.take()
        };
        let mut packet = packet.expect("both buffers are there");
        packet.truncate(len);
        if vnet::apply(&header, &mut packet).is_err() {
            self.counters.errors.add(1);
            return Read1::Lost;
        }
        Read1::Packet(packet)
    }

    /// Reads a frame away for which there is no buffer, so that the descriptor does not stay readable.
    #[cold]
    fn discard(&self) -> Read1 {
        let mut bytes = [0; vnet::LEN + 64];
        // A read always takes the whole frame off the queue.
        match (&*self.file).read(&mut bytes) {
            Ok(1..) => {
                self.counters.dropped.add(1);
                Read1::Lost
            }
            Ok(0) => Read1::Nothing,
            Err(error) => self.failed(&error),
        }
    }

    #[cold]
    fn failed(&self, error: &io::Error) -> Read1 {
        match error.raw_os_error() {
            Some(libc::EAGAIN) => Read1::Nothing,
            Some(libc::EINTR) => Read1::Lost,
            _ => {
                self.netdev.suspect();
                Read1::Nothing
            }
        }
    }
}

impl Receive for Rx {
    fn recv(&mut self, batch: &mut Batch) -> usize {
        let (mut n, mut bytes) = (0, 0);
        for _ in 0..batch.space() {
            match self.read() {
                Read1::Packet(packet) => {
                    n += 1;
                    bytes += packet.len() as u64;
                    batch.push(packet).expect("no more reads than space");
                }
                Read1::Lost => {}
                Read1::Nothing => break,
            }
        }
        if n > 0 {
            self.counters.packets.add(n as u64);
            self.counters.bytes.add(bytes);
        }
        n
    }

    fn poll_fd(&self) -> Option<RawFd> {
        let gone = self.netdev.shared.gone.load(Ordering::Relaxed);
        (!gone).then(|| self.file.as_raw_fd())
    }

    fn prepare_sleep(&mut self) -> bool {
        // A frame that came meanwhile makes the descriptor readable.
        true
    }
}

/// A transmit handle.
#[derive(Debug)]
pub struct Tx {
    file: Arc<File>,
    netdev: Netdev,
    counters: Counters,
}

impl Tx {
    fn send_ready(&self, ready: &[Packet]) {
        let (mut n, mut bytes) = (0u64, 0);
        for packet in ready {
            let header = vnet::header(packet);
            let parts = [IoSlice::new(&header), IoSlice::new(packet.data())];
            self.counters.syscalls.add(1);
            match (&*self.file).write_vectored(&parts) {
                // A tap takes a frame whole or not at all.
                Ok(written) if written > 0 => {
                    n += 1;
                    bytes += packet.len() as u64;
                }
                Ok(_) => self.counters.errors.add(1),
                Err(error) => self.refused(&error),
            }
        }
        self.counters.packets.add(n);
        self.counters.bytes.add(bytes);
    }

    #[cold]
    fn refused(&self, error: &io::Error) {
        match error.raw_os_error() {
            Some(libc::EINVAL | libc::EMSGSIZE) => self.counters.errors.add(1),
            // EIO: the host has set its end down.
            Some(libc::EIO | libc::EAGAIN | libc::ENOMEM) => self.counters.dropped.add(1),
            _ => {
                self.counters.dropped.add(1);
                self.netdev.suspect_once();
            }
        }
    }
}

impl Transmit for Tx {
    fn send(&mut self, batch: &mut Batch) {
        settle(batch, self.capabilities(), &self.counters, |ready| self.send_ready(ready));
    }

    #[inline]
    fn flush(&mut self) {}

    #[inline]
    fn capabilities(&self) -> Capabilities {
        Capabilities { checksum: true, tso: true, uso: sys::kernel_takes_uso() }
    }
}
