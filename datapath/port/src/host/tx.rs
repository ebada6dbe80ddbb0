//! Outer packets to the host's stack: raw sockets that take the IP header from us.
//!
//! What enters: frames whose link-layer header is a [`HostLink`]. What leaves: IP packets to the kernel, each with the mark and the source that its
//! route is to be chosen by. What the kernel refuses is counted: too long for the way as `errors`, no route, no room or a firewall's "no" as
//! `dropped`.

use super::control::{self, Label};
use super::{Family, ON, enlarge, is_unknown_family};
use crate::batch::{BATCH_MAX, Batch};
use crate::counters::{Counters, HOST_TOO_LONG};
use crate::datagrams::{self, Datagram};
use crate::offload::settle;
use crate::packet::Packet;
use crate::queue::{Capabilities, Transmit};
use crate::sys;
use flow::clock::{self, Msec};
use flow::host_link::HostLink;
use flow::wire::eth_type;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

const ETH_BYTES: usize = 14;

/// The sockets, which all handles of a port share: the kernel takes no lock for a raw send.
#[derive(Debug)]
pub(super) struct Senders {
    v4: OwnedFd,
    v6: Option<OwnedFd>,
    paths: Mutex<Paths>,
}

/// What was found out of ways that take less than their devices.
#[derive(Debug, Default)]
struct Paths {
    /// Since it was last asked.
    told: Vec<(IpAddr, u32)>,
    /// When the kernel was last asked.
    asked_ms: Msec,
}

/// Ways told at a time.
const PATHS_MAX: usize = 64;
/// The kernel is asked that seldom: packets that are too long keep coming until megaflows know.
const ASK_MS: Msec = 50;

impl Senders {
    pub(super) fn open() -> io::Result<Self> {
        let raw = |family: Family| -> io::Result<OwnedFd> {
            let fd = sys::open_protocol_socket(family.number(), libc::SOCK_RAW, libc::IPPROTO_RAW)?;
            let (level, name) = match family {
                Family::V4 => (libc::IPPROTO_IP, libc::IP_HDRINCL),
                Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_HDRINCL),
            };
            sys::set_option(fd.as_fd(), level, name, &ON)?;
            enlarge(&fd, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF);
            Ok(fd)
        };
        let v6 = match raw(Family::V6) {
            Ok(fd) => Some(fd),
            Err(error) if is_unknown_family(&error) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { v4: raw(Family::V4)?, v6, paths: Mutex::default() })
    }

    /// Finds out what the way to an address takes, which a packet was too long for.
    #[cold]
    fn ask_path(&self, family: Family, to: &[u8]) {
        // Somebody else is about to.
        let Ok(mut paths) = self.paths.try_lock() else { return };
        let now = clock::now_ms();
        if now - paths.asked_ms < ASK_MS || paths.told.len() >= PATHS_MAX {
            return;
        }
        paths.asked_ms = now;
        let mut to = to.to_vec();
        // A connected socket needs a port.
        to[3] = 9;
        let Some((_, address)) = control::peer(&to, family) else { return };
        let address = match family {
            Family::V4 => IpAddr::from([address[0], address[1], address[2], address[3]]),
            Family::V6 => IpAddr::from(address),
        };
        if let Ok(mtu) = sys::path_mtu(family.number(), &to) {
            paths.told.push((address, mtu));
        }
    }

    /// Takes what was found out of ways since the last time.
    pub(super) fn take_paths(&self) -> Vec<(IpAddr, u32)> {
        self.paths.try_lock().map(|mut paths| std::mem::take(&mut paths.told)).unwrap_or_default()
    }

    fn of(&self, family: Family) -> Option<BorrowedFd<'_>> {
        match family {
            Family::V4 => Some(self.v4.as_fd()),
            Family::V6 => self.v6.as_ref().map(AsFd::as_fd),
        }
    }
}

/// A transmit handle.
#[derive(Debug)]
pub struct Tx {
    senders: Arc<Senders>,
    counters: Counters,
}

/// The family of an outer packet, by the type behind its link-layer header.
fn family(packet: &Packet) -> Option<Family> {
    match u16::from_be_bytes(*packet.data().get(12..)?.first_chunk()?) {
        eth_type::IPV4 => Some(Family::V4),
        eth_type::IPV6 => Some(Family::V6),
        _ => None,
    }
}

impl Tx {
    pub(super) const fn new(senders: Arc<Senders>, counters: Counters) -> Self {
        Self { senders, counters }
    }

    /// Sends up to 32 packets that need no more work.
    fn send_ready(&self, ready: &[Packet]) {
        for run in ready.chunk_by(|a, b| family(a) == family(b)) {
            let family = run.first().and_then(family);
            match family.and_then(|f| Some((f, self.senders.of(f)?))) {
                Some((family, fd)) => self.send_run(fd, family, run),
                None => self.counters.errors.add(run.len() as u64),
            }
        }
    }

    /// Packets of one family.
    fn send_run(&self, fd: BorrowedFd<'_>, family: Family, run: &[Packet]) {
        let mut labels = [None; BATCH_MAX];
        for (label, packet) in labels.iter_mut().zip(run) {
            let mark = HostLink::of(packet.data()).map_or(0, |link| link.mark);
            *label = packet.data().get(ETH_BYTES..).and_then(|ip| Label::of(ip, family, mark));
        }
        let labelled = || labels.iter().zip(run).filter_map(|(label, packet)| Some((label.as_ref()?, packet)));
        let mut datagrams = [Datagram::EMPTY; BATCH_MAX];
        let mut n = 0;
        for (label, packet) in labelled() {
            datagrams[n] = Datagram { to: label.address(), control: label.control(), bytes: &packet.data()[ETH_BYTES..] };
            n += 1;
        }
        self.counters.errors.add((run.len() - n) as u64);
        let mut rest = &datagrams[..n];
        while !rest.is_empty() {
            self.counters.syscalls.add(1);
            let done = match datagrams::send(fd, rest) {
                Ok(sent) => {
                    self.counters.packets.add(sent as u64);
                    self.counters.bytes.add(rest[..sent].iter().map(|d| (d.bytes.len() + ETH_BYTES) as u64).sum());
                    sent
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => {
                    self.refused(&error, family, rest[0].to);
                    1
                }
            };
            rest = &rest[done..];
        }
    }

    /// Counts a packet that the kernel did not take.
    #[cold]
    fn refused(&self, error: &io::Error, family: Family, to: &[u8]) {
        match error.raw_os_error() {
            Some(libc::EMSGSIZE) => {
                HOST_TOO_LONG.inc();
                self.senders.ask_path(family, to);
                self.counters.errors.add(1);
            }
            Some(libc::EINVAL) => self.counters.errors.add(1),
            _ => self.counters.dropped.add(1),
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
        Capabilities::default()
    }
}
