//! Netdevs through AF_XDP: frames pass between device and switch in the pool's own chunks, without sk_buffs on the native path.
//!
//! What enters: frames that the redirect program sends to our sockets. What leaves: packets; descriptors of chunks to send. Neighbours:
//! `bpf` (program and map), `ring`, `pool` (whose small region is the UMEM), `device`.
//!
//! # Memory
//!
//! Every device registers the pool's small region as its UMEM; the queues of a device share that registration. A packet that came in on
//! one device goes out on another as the same chunk, uncopied. (The kernel would also let all devices share one registration,
//! but then they must all be zero-copy or all not.) A received address is the chunk's start + 256, the kernel's headroom, which
//! is the pool's too.
//! A chunk belongs to the kernel from `fill` to `rx` and from `tx` to `completion`. At the end a queue's socket is taken out of the map, all
//! softirqs are waited for (membarrier does synchronize_rcu), and what is left in the rings goes back to the pool. Chunks that a
//! zero-copy driver holds in its own rings cannot be listed; they are lost and counted ([`lost_chunks`]).
//!
//! # Queues
//!
//! A device has a socket for each of its receive queues: what comes by a queue without one goes to the host's stack. `options:n_rxq` says how many
//! queues the device is to have. The kernel sends what a socket sends by the transmit queue of the same number, and silently nothing if there is
//! none, so only sockets with a transmit queue send; workers beyond their number share them.
//!
//! # Checksums
//!
//! A veth peer hands over frames before their checksums are completed, and XDP is not told. Frames from virtual devices are therefore
//! looked at (`recognise_partial`). The other way, in copy mode, the request "complete this checksum" is carried in the metadata
//! before the frame (XDP_TXMD_FLAGS_CHECKSUM, Linux 6.8): to a veth it costs nothing. Zero-copy drivers ignore the request silently if
//! they do not know it, so there the switch completes checksums itself. TSO does not exist on this path; attaching to a veth
//! makes the kernel switch it off at the peer, and on devices with generic XDP we switch GRO off.
//!
//! # Limits
//!
//! A chunk takes 1,792 bytes of frame. Larger ones (a jumbo MTU) come and go in up to 17 chunks, if the kernel knows how (XDP_USE_SG, Linux
//! 6.6): received pieces are copied into one jumbo buffer, sent frames are cut into chunks. Under generic XDP, VLAN tags that stand beside the frame are lost; the native program puts them back
//! (see `bpf`).

mod bpf;
mod ring;
mod tx;

pub use tx::Tx;

use crate::batch::Batch;
use crate::counters::{CHUNKS_LOST, Counters};
use crate::device::{PortConfig, PortError};
use crate::netdev::Netdev;
use crate::netlink::Link;
use crate::netlink::ethtool::{self, Channels};
use crate::offload::recognise_partial;
use crate::packet::Packet;
use crate::pool::{self, Class, FRAME_MAX, HEADROOM, SMALL_CHUNK, SMALL_FRAME_MAX};
use crate::queue::Receive;
use crate::sys;
use bpf::{Mode, Program};
use ring::Ring;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tx::TxRings;

/// Entries of each ring.
const RING: u32 = 2048;
/// Chunks that wait in a fill ring.
const FILL: u32 = 1024;
/// struct xsk_tx_metadata without the launch time: flags, checksum start and offset, padding.
const METADATA: usize = 16;
/// The largest frame behind the headroom.
const FRAME: usize = SMALL_FRAME_MAX;
/// Chunks of one frame at most (the kernel's MAX_SKB_FRAGS).
const PIECES_MAX: usize = 17;
/// Ethernet header and two VLAN tags.
const ETH_MAX: u32 = 22;
/// The most packets that one system call sends, if the kernel lets us choose (XDP_MAX_TX_SKB_BUDGET).
const TX_BUDGET: libc::c_int = 256;
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
#[allow(clippy::cast_possible_truncation, reason = "a constant of 44")]
const FAMILY: u16 = libc::AF_XDP as u16;
const SOCKET_BUFFER: libc::c_int = 16 << 20;
/// How often somebody waits some milliseconds for the kernel to finish with what was closed.
const LINGER_MS: u32 = 20;
/// How often, and how long after the time before, an open is tried again that finds its queues taken.
const BUSY_TRIES: usize = 20;
const BUSY_WAIT: Duration = Duration::from_millis(5);

/// Chunks that the kernel did not give back when queues were closed.
pub fn lost_chunks() -> u64 {
    CHUNKS_LOST.count()
}

/// Whether frames of this MTU fit into one chunk (with two VLAN tags).
pub(crate) fn mtu_fits(mtu: u32) -> bool {
    mtu.saturating_add(ETH_MAX) as usize <= FRAME
}

/// The largest MTU at all.
const MTU_MAX: u32 = crate::packet::u32_of(PIECES_MAX * FRAME) - ETH_MAX;
const _: () = assert!(MTU_MAX == 30_442);

/// One socket: bound to one queue of a device.
#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    /// Start of the UMEM.
    base: NonNull<u8>,
    queue: u32,
    program: Arc<Program>,
    netdev: Netdev,
    zero_copy: bool,
    /// The kernel knows metadata before a frame to be sent.
    metadata: bool,
    /// Frames may come and go in several chunks.
    pieces: bool,
}

// SAFETY: `base` is only the start of the pool's region, which lives as long as the process.
unsafe impl Send for Socket {}
// SAFETY: as above; the rest is descriptors.
unsafe impl Sync for Socket {}

impl Socket {
    /// The chunk that a UMEM address lies in, and the offset in it.
    #[inline]
    fn chunk(&self, address: u64) -> (NonNull<u8>, usize) {
        let address = usize::try_from(address).expect("the UMEM is smaller than the address space");
        let start = address & !(SMALL_CHUNK - 1);
        debug_assert!(start < pool::global().umem().1);
        let chunk = self.base.as_ptr().wrapping_add(start);
        (NonNull::new(chunk).expect("inside a mapping"), address - start)
    }

    fn address(&self, pointer: *mut u8) -> u64 {
        (pointer.addr() - self.base.addr().get()) as u64
    }

    fn free(&self, address: u64) {
        let (chunk, _) = self.chunk(address);
        // SAFETY: the kernel has given the chunk back; it was the pool's small chunk when it was given away.
        unsafe { pool::free(Class::Small, chunk) };
    }

    /// Makes the kernel look at the rings.
    fn kick_tx(&self) -> io::Result<()> {
        // SAFETY: no bytes are passed.
        let n = unsafe { libc::sendto(self.fd.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
        if n < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn kick_rx(&self) {
        let nothing = std::ptr::null_mut();
        // Any error would show again; the kick is only a hint.
        // SAFETY: no bytes are passed.
        unsafe {
            libc::recvfrom(self.fd.as_raw_fd(), nothing, 0, libc::MSG_DONTWAIT, std::ptr::null_mut(), std::ptr::null_mut())
        };
    }
}

/// What a mode of `options:xdp-mode` allows, best first.
const MODES: &[(&str, &[(Mode, u16)])] = &[
    ("best-effort", &[(Mode::Native, 0), (Mode::Generic, libc::XDP_COPY)]),
    ("native-with-zerocopy", &[(Mode::Native, libc::XDP_ZEROCOPY)]),
    ("native", &[(Mode::Native, libc::XDP_COPY)]),
    ("generic", &[(Mode::Generic, libc::XDP_COPY)]),
];

/// An opened device: what `Device` keeps.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) netdev: Netdev,
    /// By queue.
    tx: Vec<Arc<Mutex<TxRings>>>,
    /// The first so many of them can send.
    senders: usize,
    next_tx: AtomicUsize,
    mode: Mode,
    zero_copy: bool,
    checksum: bool,
    pieces: bool,
}

impl Port {
    /// Attaches to a device, in the best mode that the option allows and the driver has.
    pub(crate) fn open(config: &PortConfig, netdev: &Netdev, link: &Link) -> Result<(Self, Vec<Rx>), PortError> {
        let wanted = config.option("xdp-mode").unwrap_or("best-effort");
        let expect = "best-effort, native-with-zerocopy, native or generic";
        let row = MODES.iter().find(|(name, _)| *name == wanted);
        let (_, modes) = row.ok_or_else(|| config.bad_option("xdp-mode", expect))?;
        let unsupported = |what| Err(PortError::Unsupported { name: config.name.clone(), what });
        if link.mtu > MTU_MAX {
            return unsupported("AF_XDP with an MTU above 30442");
        }
        let queues = channels(config, netdev)?;
        let mut last = io::Error::from(io::ErrorKind::Unsupported);
        for (mode, flags) in *modes {
            match Self::open_when_free(netdev, link, queues, *mode, *flags) {
                Ok((port, _)) if !mtu_fits(link.mtu) && !port.pieces => {
                    return unsupported("AF_XDP with an MTU above 1770 before Linux 6.6");
                }
                Ok(opened) => return Ok(opened),
                Err(error) => last = error,
            }
        }
        Err(netdev.fault("opening an AF_XDP socket", last))
    }

    /// The kernel lets go of the queues of a socket some time after it was closed: a port that is opened anew at once finds them taken.
    fn open_when_free(netdev: &Netdev, link: &Link, queues: Channels, mode: Mode, flags: u16) -> io::Result<(Self, Vec<Rx>)> {
        for _ in 0..BUSY_TRIES {
            match Self::open_mode(netdev, link, queues, mode, flags) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(BUSY_WAIT),
                opened => return opened,
            }
        }
        Self::open_mode(netdev, link, queues, mode, flags)
    }

    fn open_mode(netdev: &Netdev, link: &Link, queues: Channels, mode: Mode, flags: u16) -> io::Result<(Self, Vec<Rx>)> {
        if mode == Mode::Generic {
            // Frames that GRO has joined fit no chunk. If it cannot be switched off, they are dropped and counted.
            let _ = ethtool::set_feature(&netdev.name, ethtool::Feature::Gro, false);
        }
        let program = Arc::new(Program::attach(netdev.ifindex(), queues.rx, mode)?);
        let virtual_device = link.kind.is_some();
        let (mut rx, mut tx) = (Vec::new(), Vec::new());
        let mut first = None;
        for queue in 0..queues.rx {
            let (socket, rings) = open_socket(netdev, &program, queue, flags, first)?;
            first = first.or_else(|| Some(First { fd: socket.fd.as_raw_fd(), metadata: socket.metadata, pieces: socket.pieces }));
            let socket = Arc::new(socket);
            rx.push(Rx::new(&socket, rings.fill, rings.rx, virtual_device));
            tx.push(Arc::new(Mutex::new(TxRings::new(&socket, rings.tx, rings.completion))));
        }
        for queue in &rx {
            program.insert(queue.socket.queue, queue.socket.fd.as_fd())?;
        }
        let zero_copy = rx.iter().all(|queue| queue.socket.zero_copy);
        let checksum = rx.iter().all(|queue| queue.socket.metadata && !queue.socket.zero_copy);
        let pieces = rx.iter().all(|queue| queue.socket.pieces);
        let senders = queues.tx.min(queues.rx) as usize;
        Ok((Self { netdev: netdev.clone(), tx, senders, next_tx: AtomicUsize::new(0), mode, zero_copy, checksum, pieces }, rx))
    }

    /// The mode in use, in the words of `options:xdp-mode`.
    pub(crate) fn mode(&self) -> &'static str {
        match (self.mode, self.zero_copy) {
            (Mode::Native, true) => "native-with-zerocopy",
            (Mode::Native, false) => "native",
            (Mode::Generic, _) => "generic",
        }
    }

    /// Frames that found no room in a ring or no chunk since the start.
    pub(crate) fn dropped(&self) -> u64 {
        let dropped = |rings: &Arc<Mutex<TxRings>>| {
            // SAFETY: the struct is made of integers, for which all zeros is valid.
            let mut stats: libc::xdp_statistics = unsafe { std::mem::zeroed() };
            let rings = rings.lock().unwrap_or_else(PoisonError::into_inner);
            let fd = rings.socket.fd.as_fd();
            match sys::option(fd, libc::SOL_XDP, libc::XDP_STATISTICS, &mut stats) {
                Ok(_) => stats.rx_dropped + stats.rx_ring_full,
                Err(_) => 0,
            }
        };
        self.tx.iter().map(dropped).sum()
    }

    pub(crate) fn n_txq(&self) -> usize {
        self.senders
    }

    pub(crate) fn tx(&self) -> Tx {
        let i = self.next_tx.fetch_add(1, Ordering::Relaxed) % self.senders;
        Tx::new(&self.tx[i], self.checksum, self.netdev.shared.new_tx_counters())
    }
}

/// The device's queues, of which there are as many for receiving as `options:n_rxq` says; at least one of each kind.
fn channels(config: &PortConfig, netdev: &Netdev) -> Result<Channels, PortError> {
    let ask = || {
        // A driver that does not say has one.
        let told = ethtool::channels(&netdev.name).unwrap_or(Channels { rx: 1, rx_max: 1, tx: 1 });
        Channels { rx: told.rx.max(1), rx_max: told.rx_max, tx: told.tx.max(1) }
    };
    let now = ask();
    if config.option("n_rxq").is_none() {
        return Ok(now);
    }
    let wanted = u32::try_from(config.n_rxq()?).expect("RXQ_MAX is small");
    if wanted == now.rx {
        return Ok(now);
    }
    if wanted > now.rx_max {
        return Err(config.bad_option("n_rxq", "a number of queues that the device can have"));
    }
    set_channels(&netdev.name, wanted).map_err(|error| netdev.fault("setting the number of queues", error))?;
    Ok(ask())
}

/// The kernel lets no queue go that has a socket, and takes closed ones (those that the port had before) apart in its own time.
fn set_channels(name: &str, wanted: u32) -> io::Result<()> {
    for _ in 0..LINGER_MS {
        match ethtool::set_rx_channels(name, wanted) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => std::thread::sleep(Duration::from_millis(5)),
            result => return result,
        }
    }
    ethtool::set_rx_channels(name, wanted)
}

struct Rings {
    fill: Ring<u64>,
    completion: Ring<u64>,
    rx: Ring<libc::xdp_desc>,
    tx: Ring<libc::xdp_desc>,
}

/// The device's first socket, whose UMEM and mode the others share.
#[derive(Clone, Copy, Debug)]
struct First {
    fd: RawFd,
    metadata: bool,
    pieces: bool,
}

fn open_socket(
    netdev: &Netdev,
    program: &Arc<Program>,
    queue: u32,
    flags: u16,
    first: Option<First>,
) -> io::Result<(Socket, Rings)> {
    let fd = sys::open_socket(libc::AF_XDP, libc::SOCK_RAW)?;
    let (base, len) = pool::global().umem();
    let metadata = match first {
        Some(first) => first.metadata,
        None => register(&fd, base, len)?,
    };
    for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_RX_RING, libc::XDP_TX_RING] {
        sys::set_option(fd.as_fd(), libc::SOL_XDP, ring, &RING)?;
    }
    // Both are for speed only; old kernels lack the second.
    let _ = sys::set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SOCKET_BUFFER);
    let _ = sys::set_option(fd.as_fd(), libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &TX_BUDGET);
    // SAFETY: the struct is made of integers, for which all zeros is valid.
    let mut at: libc::xdp_mmap_offsets = unsafe { std::mem::zeroed() };
    sys::option(fd.as_fd(), libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, &mut at)?;
    let page = |page: u64| libc::off_t::try_from(page).expect("page offsets are below 2^33");
    let rings = Rings {
        fill: Ring::map(fd.as_fd(), &at.fr, RING, page(libc::XDP_UMEM_PGOFF_FILL_RING))?,
        completion: Ring::map(fd.as_fd(), &at.cr, RING, page(libc::XDP_UMEM_PGOFF_COMPLETION_RING))?,
        rx: Ring::map(fd.as_fd(), &at.rx, RING, libc::XDP_PGOFF_RX_RING)?,
        tx: Ring::map(fd.as_fd(), &at.tx, RING, libc::XDP_PGOFF_TX_RING)?,
    };
    let pieces = match first {
        Some(first) => {
            bind(&fd, netdev.ifindex(), queue, libc::XDP_SHARED_UMEM, Some(first.fd))?;
            first.pieces
        }
        None => {
            let flags = flags | libc::XDP_USE_NEED_WAKEUP;
            let with_pieces = bind(&fd, netdev.ifindex(), queue, flags | libc::XDP_USE_SG, None).is_ok();
            if !with_pieces {
                bind(&fd, netdev.ifindex(), queue, flags, None)?;
            }
            with_pieces
        }
    };
    let mut options = libc::xdp_options { flags: 0 };
    sys::option(fd.as_fd(), libc::SOL_XDP, libc::XDP_OPTIONS, &mut options)?;
    let zero_copy = options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0;
    let (program, netdev) = (Arc::clone(program), netdev.clone());
    Ok((Socket { fd, base, queue, program, netdev, zero_copy, metadata, pieces }, rings))
}

/// Registers the pool's small region as the UMEM, with room for metadata if the kernel knows it; whether it does.
fn register(fd: &OwnedFd, base: NonNull<u8>, len: usize) -> io::Result<bool> {
    let mut register = libc::xdp_umem_reg {
        addr: base.addr().get() as u64,
        len: len as u64,
        chunk_size: crate::packet::u32_of(SMALL_CHUNK),
        headroom: 0,
        flags: libc::XDP_UMEM_TX_METADATA_LEN,
        tx_metadata_len: crate::packet::u32_of(METADATA),
    };
    if sys::set_option(fd.as_fd(), libc::SOL_XDP, libc::XDP_UMEM_REG, &register).is_ok() {
        return Ok(true);
    }
    (register.flags, register.tx_metadata_len) = (0, 0);
    sys::set_option(fd.as_fd(), libc::SOL_XDP, libc::XDP_UMEM_REG, &register)?;
    Ok(false)
}

fn bind(fd: &OwnedFd, ifindex: u32, queue: u32, flags: u16, first: Option<RawFd>) -> io::Result<()> {
    let shared = first.map_or(0, RawFd::cast_unsigned);
    let address = libc::sockaddr_xdp {
        sxdp_family: FAMILY,
        sxdp_flags: flags,
        sxdp_ifindex: ifindex,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: shared,
    };
    let len = libc::socklen_t::try_from(size_of_val(&address)).expect("an address is small");
    // SAFETY: `address` is a valid sockaddr_xdp of `len` bytes for the time of the call.
    sys::check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) }).map(drop)
}

/// A receive queue.
#[derive(Debug)]
pub struct Rx {
    socket: Arc<Socket>,
    fill: Ring<u64>,
    rx: Ring<libc::xdp_desc>,
    /// Chunks that the kernel holds for this queue.
    given: u32,
    virtual_device: bool,
    /// A frame of which pieces are still to come.
    partial: Option<Partial>,
    counters: Counters,
}

/// Pieces of a frame that have come.
#[derive(Debug)]
struct Partial {
    /// `None`: there was no buffer, and the rest of the frame is lost as well.
    packet: Option<Packet>,
    len: usize,
}

impl Partial {
    fn new() -> Self {
        let mut packet = Packet::with_capacity(FRAME_MAX);
        if let Some(packet) = &mut packet {
            packet.set_len(FRAME_MAX);
        }
        Self { packet, len: 0 }
    }

    fn append(&mut self, piece: &[u8]) {
        let end = self.len + piece.len();
        match self.packet.as_mut().and_then(|p| p.data_mut().get_mut(self.len..end)) {
            Some(room) => room.copy_from_slice(piece),
            None => self.packet = None,
        }
        self.len = end;
    }

    fn finish(mut self) -> Option<Packet> {
        if let Some(packet) = &mut self.packet {
            packet.truncate(self.len);
        }
        self.packet
    }
}

impl Rx {
    fn new(socket: &Arc<Socket>, fill: Ring<u64>, rx: Ring<libc::xdp_desc>, virtual_device: bool) -> Self {
        let counters = socket.netdev.shared.new_rx_counters();
        let mut made = Self { socket: Arc::clone(socket), fill, rx, given: 0, virtual_device, partial: None, counters };
        made.refill();
        made
    }

    /// Gives the kernel chunks, so that it holds `FILL` of them.
    #[inline]
    fn refill(&mut self) {
        let want = FILL.saturating_sub(self.given);
        let want = want.min(self.fill.room(want));
        if want == 0 {
            return;
        }
        let (socket, fill) = (&*self.socket, &mut self.fill);
        let got = pool::alloc_bulk(Class::Small, want as usize, |chunk| fill.put(socket.address(chunk.as_ptr())));
        self.fill.submit();
        self.given += crate::packet::u32_of(got);
        if self.fill.needs_wakeup() {
            self.socket.kick_rx();
            self.counters.syscalls.add(1);
        }
    }
}

impl Rx {
    /// Takes a piece of a frame; the frame when it is complete. Frames for which there is no buffer are counted.
    #[cold]
    fn gather(&mut self, piece: &Packet, more: bool) -> Option<Packet> {
        let mut partial = self.partial.take().unwrap_or_else(Partial::new);
        partial.append(piece.data());
        if more {
            self.partial = Some(partial);
            return None;
        }
        let packet = partial.finish();
        if packet.is_none() {
            self.counters.dropped.add(1);
        }
        packet
    }
}

impl Receive for Rx {
    #[inline]
    fn recv(&mut self, batch: &mut Batch) -> usize {
        let n = (self.rx.available() as usize).min(batch.space());
        if n == 0 {
            return 0;
        }
        let (mut bytes, mut whole) = (0, 0);
        for _ in 0..n {
            let descriptor = self.rx.take();
            let (chunk, offset) = self.socket.chunk(descriptor.addr);
            let mut packet = Packet::at(chunk, Class::Small, offset, descriptor.len as usize);
            if descriptor.options & libc::XDP_PKT_CONTD != 0 || self.partial.is_some() {
                match self.gather(&packet, descriptor.options & libc::XDP_PKT_CONTD != 0) {
                    Some(gathered) => packet = gathered,
                    None => continue,
                }
            }
            bytes += packet.len() as u64;
            whole += 1;
            if self.virtual_device {
                recognise_partial(&mut packet);
            }
            batch.push(packet).expect("no more than space was asked for");
        }
        self.rx.release();
        self.given -= crate::packet::u32_of(n);
        self.counters.packets.add(whole as u64);
        self.counters.bytes.add(bytes);
        // In lumps: the pool's cache and the ring's index are touched once for many packets.
        if self.given < FILL - 256 {
            self.refill();
        }
        whole
    }

    fn poll_fd(&self) -> Option<RawFd> {
        let gone = self.socket.netdev.shared.gone.load(Ordering::Relaxed);
        (!gone).then(|| self.socket.fd.as_raw_fd())
    }

    fn prepare_sleep(&mut self) -> bool {
        if self.rx.available() > 0 {
            return false;
        }
        self.refill();
        if matches!(sys::take_error(self.socket.fd.as_fd()), Ok(Some(_))) {
            self.socket.netdev.suspect();
        }
        true
    }
}

impl Drop for Rx {
    fn drop(&mut self) {
        // Absent already if the device is gone.
        let _ = self.socket.program.remove(self.socket.queue);
        sys::wait_for_softirqs();
        while self.rx.available() > 0 {
            let descriptor = self.rx.take();
            self.socket.free(descriptor.addr);
            self.given -= 1;
        }
        self.rx.release();
        for address in self.fill.leftovers() {
            self.socket.free(address);
            self.given = self.given.saturating_sub(1);
        }
        CHUNKS_LOST.add(self.given.into());
    }
}

const _: () = assert!(HEADROOM >= METADATA);
