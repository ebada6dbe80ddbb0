//! Any netdev through packet sockets: a memory-mapped receive ring and batched sends, with virtio-net headers both ways.
//!
//! What enters: frames that the kernel puts into the ring; batches to send. What leaves: packets with their offload state; frames handed
//! to the device's queue discipline. Neighbours: `offload::vnet`, `device`.
//!
//! # Why TPACKET_V2, and how large frames come
//!
//! A TPACKET_V3 ring hands over whole blocks, at the latest after a timeout of at least a millisecond: too late for a switch, whose
//! packets are waited for. V2 hands over each frame at once, in slots of a fixed size. A slot takes 1,972 bytes of frame; a larger one
//! (a GSO frame of up to 64 KiB, or a jumbo MTU) leaves a truncated copy in its slot, marked TP_STATUS_COPY, and the whole frame
//! waits in the socket's own queue (PACKET_COPY_THRESH), from where one recvmsg brings it straight into a jumbo buffer: one copy, as
//! few as any way offers. Both queues are filled under one lock, so they stay in step: each slot marked so is followed by one recvmsg.
//!
//! With PACKET_VNET_HDR each frame is preceded by a virtio-net header: partial checksums and GSO frames of a container's TCP pass
//! through the switch whole, and back into the kernel whole. VLAN tags that the kernel keeps beside the frame are put back into it.
//! Our own sends do not come back (PACKET_IGNORE_OUTGOING).

use crate::batch::{BATCH_MAX, Batch};
use crate::class_sockets::ClassSockets;
use crate::counters::Counters;
use crate::netdev::Netdev;
use crate::netlink::qdisc;
use crate::offload::{settle, vnet};
use crate::packet::Packet;
use crate::pool::FRAME_MAX;
use crate::queue::{Capabilities, Receive, Transmit};
use crate::sys::{self, Mapping};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bytes of a slot: header, address, virtio-net header, frame.
const SLOT: usize = 2048;
/// Slots of a ring.
const SLOTS: usize = 2048;
/// Bytes of a block: what the kernel allocates in one piece.
const BLOCK: usize = 64 << 10;
/// Bytes of large frames that may wait in the socket's queue, and of frames on their way out.
const SOCKET_BUFFER: libc::c_int = 16 << 20;
/// PACKET_FANOUT_FLAG_IGNORE_OUTGOING, which libc lacks.
const FANOUT_IGNORE_OUTGOING: u32 = 0x4000;
const VLAN_TAG: usize = 4;
const TPID_DEFAULT: u16 = 0x8100;
#[allow(clippy::cast_possible_truncation, reason = "a constant of 1")]
const PROMISCUOUS: libc::c_ushort = libc::PACKET_MR_PROMISC as libc::c_ushort;
#[allow(clippy::cast_possible_truncation, reason = "a constant of 17")]
const FAMILY: libc::c_ushort = libc::AF_PACKET as libc::c_ushort;
const ETH_P_ALL_BE: u16 = 0x0003u16.to_be();

/// A receive queue: one socket with its ring.
#[derive(Debug)]
pub struct Rx {
    fd: OwnedFd,
    ring: Mapping,
    /// The slot that the kernel fills next.
    at: usize,
    netdev: Netdev,
    counters: Counters,
}

/// An opened device: what `Device` keeps.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) netdev: Netdev,
    tx: Tx,
    /// Duplicates of the receive sockets, to ask for drops.
    rx: Vec<OwnedFd>,
    dropped: AtomicU64,
}

impl Port {
    /// Opens a device with `n` receive queues.
    pub(crate) fn open(netdev: &Netdev, n: usize) -> io::Result<(Self, Vec<Rx>)> {
        let queues = open_rx(netdev, n)?;
        let rx = queues.iter().map(|queue| queue.fd.try_clone()).collect::<io::Result<_>>()?;
        let tx = Tx::open(netdev)?;
        Ok((Self { netdev: netdev.clone(), tx, rx, dropped: AtomicU64::new(0) }, queues))
    }

    /// A handle for one more worker.
    pub(crate) fn tx(&self) -> io::Result<Tx> {
        self.tx.duplicate()
    }

    /// Packets of these queues are given to the kernel with the priorities of their classes from now on; others with none.
    pub(crate) fn set_queues(&self, queues: &[u16]) -> io::Result<()> {
        self.tx.classes.set(queues, |queue| {
            let fd = tx_socket(&self.netdev)?;
            let priority = qdisc::priority(queue);
            sys::set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_PRIORITY, &priority)?;
            Ok(fd)
        })
    }

    /// Frames that found no room in a ring since the start.
    pub(crate) fn dropped(&self) -> u64 {
        // The kernel starts again at zero with each answer.
        let mut new = 0;
        for fd in &self.rx {
            let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
            if sys::option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, &mut stats).is_ok() {
                new += u64::from(stats.tp_drops);
            }
        }
        self.dropped.fetch_add(new, Ordering::Relaxed) + new
    }
}

/// Opens `n` sockets on a device, which share its traffic by flow.
fn open_rx(netdev: &Netdev, n: usize) -> io::Result<Vec<Rx>> {
    let mut group = None;
    (0..n).map(|_| open_one(netdev, n, &mut group)).collect()
}

fn open_one(netdev: &Netdev, n: usize, group: &mut Option<u32>) -> io::Result<Rx> {
    let fd = packet_socket()?;
    let set = |name, value: &libc::c_int| sys::set_option(fd.as_fd(), libc::SOL_PACKET, name, value);
    let version = libc::c_int::try_from(libc::tpacket_versions::TPACKET_V2 as u32).expect("versions are small");
    set(libc::PACKET_VERSION, &version)?;
    set(libc::PACKET_VNET_HDR, &1)?;
    set(libc::PACKET_COPY_THRESH, &1)?;
    set(libc::PACKET_IGNORE_OUTGOING, &1)?;
    sys::set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &SOCKET_BUFFER)?;
    let word = |n: usize| libc::c_uint::try_from(n).expect("ring sizes are constants below 4 GiB");
    let request = libc::tpacket_req {
        tp_block_size: word(BLOCK),
        tp_block_nr: word(SLOTS * SLOT / BLOCK),
        tp_frame_size: word(SLOT),
        tp_frame_nr: word(SLOTS),
    };
    sys::set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
    let ring = Mapping::new(fd.as_fd(), SLOTS * SLOT, 0)?;
    let promiscuous =
        libc::packet_mreq { mr_ifindex: netdev.ifindex().cast_signed(), mr_type: PROMISCUOUS, mr_alen: 0, mr_address: [0; 8] };
    sys::set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &promiscuous)?;
    bind(fd.as_fd(), netdev.ifindex(), ETH_P_ALL_BE)?;
    if n > 1 {
        join(fd.as_fd(), group)?;
    }
    Ok(Rx { fd, ring, at: 0, netdev: netdev.clone(), counters: netdev.shared.new_rx_counters() })
}

fn packet_socket() -> io::Result<OwnedFd> {
    // Protocol 0: nothing arrives before `bind` says from which device.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Packet, SockType::Raw, flags, None)?)
}

fn bind(fd: BorrowedFd<'_>, ifindex: u32, protocol_be: u16) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: FAMILY,
        sll_protocol: protocol_be,
        sll_ifindex: ifindex.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = libc::socklen_t::try_from(size_of_val(&address)).expect("an address is small");
    // SAFETY: `address` is a valid sockaddr_ll of `len` bytes for the time of the call.
    sys::check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) }).map(drop)
}

/// Joins the fanout group of the device's queues; the first to come makes it under an id of the kernel's choice.
fn join(fd: BorrowedFd<'_>, group: &mut Option<u32>) -> io::Result<()> {
    // The group has a hook of its own, for which the sockets' PACKET_IGNORE_OUTGOING does not count.
    let mode = libc::PACKET_FANOUT_HASH | FANOUT_IGNORE_OUTGOING;
    if let Some(id) = group {
        return sys::set_option(fd, libc::SOL_PACKET, libc::PACKET_FANOUT, &(*id | mode << 16));
    }
    let unique = mode | libc::PACKET_FANOUT_FLAG_UNIQUEID;
    sys::set_option(fd, libc::SOL_PACKET, libc::PACKET_FANOUT, &(unique << 16))?;
    let mut made = 0u32;
    sys::option(fd, libc::SOL_PACKET, libc::PACKET_FANOUT, &mut made)?;
    *group = Some(made & 0xffff);
    Ok(())
}

/// One filled slot.
struct Slot<'r> {
    bytes: &'r [u8],
    status: u32,
    header: libc::tpacket2_hdr,
}

impl Slot<'_> {
    fn has(&self, flag: u32) -> bool {
        self.status & flag != 0
    }

    fn vnet(&self) -> Option<&[u8; vnet::LEN]> {
        self.bytes.get(usize::from(self.header.tp_mac).checked_sub(vnet::LEN)?..)?.first_chunk()
    }

    fn frame(&self) -> Option<&[u8]> {
        self.bytes.get(usize::from(self.header.tp_mac)..)?.get(..self.header.tp_snaplen as usize)
    }

    /// The VLAN tag that stands beside the frame, as it belongs into it.
    fn tag(&self) -> Option<[u8; VLAN_TAG]> {
        if !self.has(libc::TP_STATUS_VLAN_VALID) {
            return None;
        }
        let given = self.has(libc::TP_STATUS_VLAN_TPID_VALID);
        let [a, b] = if given { self.header.tp_vlan_tpid } else { TPID_DEFAULT }.to_be_bytes();
        let [c, d] = self.header.tp_vlan_tci.to_be_bytes();
        Some([a, b, c, d])
    }
}

impl Rx {
    fn status(&self, at: usize) -> &AtomicU32 {
        let slot = self.ring.as_ptr().wrapping_add(at * SLOT).cast::<u32>();
        // SAFETY: the status word is the first of a slot inside the mapping, aligned, and shared with the kernel as an atomic.
        unsafe { AtomicU32::from_ptr(slot) }
    }

    #[inline]
    fn ready(&self) -> bool {
        self.status(self.at).load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
    }

    fn slot(&self) -> Option<Slot<'_>> {
        let status = self.status(self.at).load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        let base = self.ring.as_ptr().wrapping_add(self.at * SLOT);
        // SAFETY: the kernel has given this slot to us (TP_STATUS_USER, read with Acquire) and leaves it alone until we give it back.
        let bytes = unsafe { std::slice::from_raw_parts(base, SLOT) };
        // SAFETY: every slot starts with this header; slots are aligned to 2 KiB.
        let header = unsafe { base.cast::<libc::tpacket2_hdr>().read() };
        Some(Slot { bytes, status, header })
    }

    fn release(&mut self) {
        self.status(self.at).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.at = (self.at + 1) % SLOTS;
    }

    /// The packet of a filled slot; None is counted here.
    fn take(&self, slot: &Slot<'_>) -> Option<Packet> {
        let (Some(vnet), Some(frame)) = (slot.vnet(), slot.frame()) else {
            self.counters.errors.add(1);
            return None;
        };
        let mut packet = if slot.has(libc::TP_STATUS_COPY) {
            self.fetch()?
        } else {
            if frame.len() < slot.header.tp_len as usize {
                // The socket's queue was full, so that there is no whole copy.
                self.counters.dropped.add(1);
                return None;
            }
            let Some(mut packet) = Packet::from_bytes(frame) else {
                self.counters.dropped.add(1);
                return None;
            };
            if vnet::apply(vnet, &mut packet).is_err() {
                self.counters.errors.add(1);
                return None;
            }
            packet
        };
        if let Some(tag) = slot.tag() {
            insert(&mut packet, tag);
        }
        Some(packet)
    }

    /// Brings the whole of a large frame from the socket's queue.
    #[cold]
    fn fetch(&self) -> Option<Packet> {
        let mut packet = Packet::with_capacity(FRAME_MAX);
        let mut header = [0; vnet::LEN];
        let mut nothing = [0; 0];
        let frame: &mut [u8] = match &mut packet {
            Some(packet) => {
                packet.set_len(FRAME_MAX);
                packet.data_mut()
            }
            // The frame must leave the queue also if there is no buffer for it.
            None => &mut nothing,
        };
        let mut parts = [io::IoSliceMut::new(&mut header), io::IoSliceMut::new(frame)];
        let room = vnet::LEN + parts[1].len();
        let received = sys::recv_vectored(self.fd.as_fd(), &mut parts);
        self.counters.syscalls.add(1);
        let len = match received {
            Ok(len) if (vnet::LEN..=room).contains(&len) => len - vnet::LEN,
            Ok(_) => {
                self.counters.dropped.add(1);
                return None;
            }
            Err(_) => {
                self.counters.errors.add(1);
                return None;
            }
        };
        let mut packet = packet?;
        packet.truncate(len);
        if vnet::apply(&header, &mut packet).is_err() {
            self.counters.errors.add(1);
            return None;
        }
        Some(packet)
    }
}

/// Puts a VLAN tag behind the addresses.
fn insert(packet: &mut Packet, tag: [u8; VLAN_TAG]) {
    if packet.len() < 12 || !packet.push_front(VLAN_TAG) {
        return;
    }
    let frame = packet.data_mut();
    frame.copy_within(VLAN_TAG..VLAN_TAG + 12, 0);
    frame[12..12 + VLAN_TAG].copy_from_slice(&tag);
}

impl Receive for Rx {
    fn recv(&mut self, batch: &mut Batch) -> usize {
        let (mut n, mut bytes) = (0, 0);
        while !batch.is_full() {
            let Some(slot) = self.slot() else { break };
            let packet = self.take(&slot);
            self.release();
            if let Some(packet) = packet {
                bytes += packet.len() as u64;
                n += 1;
                batch.push(packet).expect("the batch is not full");
            }
        }
        if n > 0 {
            self.counters.packets.add(n as u64);
            self.counters.bytes.add(bytes);
        }
        n
    }

    fn poll_fd(&self) -> Option<RawFd> {
        // A vanished device leaves its socket readable for ever.
        let gone = self.netdev.shared.gone.load(Ordering::Relaxed);
        (!gone).then(|| self.fd.as_raw_fd())
    }

    fn prepare_sleep(&mut self) -> bool {
        if matches!(sys::take_error(self.fd.as_fd()), Ok(Some(_))) {
            self.netdev.suspect();
        }
        !self.ready()
    }
}

/// A socket to send from.
fn tx_socket(netdev: &Netdev) -> io::Result<OwnedFd> {
    let fd = packet_socket()?;
    let on: libc::c_int = 1;
    sys::set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_VNET_HDR, &on)?;
    sys::set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SOCKET_BUFFER)?;
    bind(fd.as_fd(), netdev.ifindex(), 0)?;
    Ok(fd)
}

/// A transmit handle. All handles of a port are duplicates of one socket: the kernel takes no lock for a send, and a duplicate
/// stays in the network namespace in which the port was opened. Packets that name a queue go by that queue's socket.
#[derive(Debug)]
pub struct Tx {
    fd: OwnedFd,
    classes: Arc<ClassSockets>,
    netdev: Netdev,
    counters: Counters,
}

impl Tx {
    /// The handle that others are made of; what it sends itself is not counted for the port.
    fn open(netdev: &Netdev) -> io::Result<Self> {
        let (fd, classes) = (tx_socket(netdev)?, Arc::default());
        Ok(Self { fd, classes, netdev: netdev.clone(), counters: Counters::default() })
    }

    /// A handle for one more worker.
    fn duplicate(&self) -> io::Result<Self> {
        let (fd, netdev) = (self.fd.try_clone()?, self.netdev.clone());
        Ok(Self { fd, classes: Arc::clone(&self.classes), counters: netdev.shared.new_tx_counters(), netdev })
    }

    /// Sends up to 32 packets that need no more work.
    fn send_ready(&self, ready: &[Packet]) {
        if ready.iter().all(|packet| packet.queue() == 0) {
            self.send_by(self.fd.as_fd(), ready);
        } else {
            self.send_by_queue(ready);
        }
    }

    /// The same where some name a queue; what stands together and goes by one queue goes in one call.
    #[cold]
    fn send_by_queue(&self, ready: &[Packet]) {
        for run in ready.chunk_by(|a, b| a.queue() == b.queue()) {
            let queue = run.first().map_or(0, Packet::queue);
            let own = if queue == 0 { None } else { self.classes.find(queue) };
            self.send_by(own.unwrap_or_else(|| self.fd.as_fd()), run);
        }
    }

    fn send_by(&self, fd: BorrowedFd<'_>, ready: &[Packet]) {
        let mut done = 0;
        while done < ready.len() {
            self.counters.syscalls.add(1);
            let sent = match &ready[done..] {
                // What somebody waits for often comes alone.
                [packet] => sys::send_one(fd, &vnet::header(packet), packet).map(|()| 1),
                several => send_several(fd, several),
            };
            match sent {
                Ok(sent) => {
                    self.counters.packets.add(sent as u64);
                    self.counters.bytes.add(ready[done..done + sent].iter().map(|p| p.len() as u64).sum());
                    done += sent;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => done += self.refused(&error, ready.len() - done),
            }
        }
    }

    /// Counts what could not be sent: the first of `left` packets, or all of them if the device is at fault. How many.
    #[cold]
    fn refused(&self, error: &io::Error, left: usize) -> usize {
        match error.raw_os_error() {
            // Too long for the MTU, or an offload state that the kernel does not take: the packet's fault.
            Some(libc::EMSGSIZE | libc::EINVAL) => {
                self.counters.errors.add(1);
                1
            }
            Some(libc::ENOBUFS | libc::EAGAIN | libc::ENOMEM) => {
                self.counters.dropped.add(1);
                1
            }
            _ => {
                self.netdev.suspect_once();
                self.counters.dropped.add(left as u64);
                left
            }
        }
    }
}

/// Sends up to a batch in one call; how many were sent.
fn send_several(fd: BorrowedFd<'_>, packets: &[Packet]) -> io::Result<usize> {
    let mut headers = [[0; vnet::LEN]; BATCH_MAX];
    for (header, packet) in headers.iter_mut().zip(packets) {
        *header = vnet::header(packet);
    }
    sys::send_many(fd, &headers, packets)
}

impl Transmit for Tx {
    #[inline]
    fn send(&mut self, batch: &mut Batch) {
        settle(batch, self.capabilities(), &self.counters, |ready| self.send_ready(ready));
    }

    #[inline]
    fn flush(&mut self) {}

    #[inline]
    fn capabilities(&self) -> Capabilities {
        // The kernel segments and completes what the device cannot.
        Capabilities { checksum: true, tso: true, uso: sys::kernel_takes_uso() }
    }
}
