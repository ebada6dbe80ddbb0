//! Tunnel ports by the host's own stack: what the kernel receives for them, and what it routes and sends (decision 0097).
//!
//! What enters: packets of other hosts that the kernel has taken for one of its own addresses, whole and checked; outer packets without a
//! link layer. What leaves: frames as a wire would have brought them, for `datapath` to take the outer header off; IP packets to the kernel, which
//! finds the route, the neighbour and the device. Neighbours: `rx`, `tx`; `device`.
//!
//! A UDP port is bound, once per family, so that no sender is told that nobody listens; the other protocols have raw sockets, of which each has a
//! copy of what comes. All stay in the network namespace of the thread that opened them.

mod control;
mod rx;
#[cfg(test)]
mod tests;
mod tx;

pub use rx::Rx;
pub use tx::Tx;

use crate::device::{LinkState, PortError, Shared};
use crate::sys;
use flow::seam::HostIntake;
use flow::wire::ip_proto;
use rx::Form;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tx::Senders;

/// What the kernel may keep for a socket: some milliseconds at line rate.
const SOCKET_BUFFER: libc::c_int = 4 << 20;
const ON: libc::c_int = 1;

/// The families that IP has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    const fn number(self) -> libc::c_int {
        match self {
            Self::V4 => libc::AF_INET,
            Self::V6 => libc::AF_INET6,
        }
    }
}

/// The host's ear and mouth for a tunnel port: what `Device` keeps.
#[derive(Debug)]
pub(crate) struct Port {
    senders: Arc<Senders>,
    shared: Arc<Shared>,
}

impl Port {
    /// Opens the sockets of the port called `name`. A family that the host does not have is left out.
    pub(crate) fn open(name: &str, intake: HostIntake, shared: &Arc<Shared>) -> Result<(Self, Vec<Rx>), PortError> {
        let fault = |what, source| PortError::Os { name: name.to_owned(), what, source };
        let senders = Senders::open().map_err(|e| fault("opening a raw socket", e))?;
        let mut all = Vec::new();
        for family in [Family::V4, Family::V6] {
            let opened = match receiver(intake, family) {
                Ok(opened) => opened,
                Err(error) if family == Family::V6 && is_unknown_family(&error) => None,
                Err(error) => return Err(refusal(name, intake, error)),
            };
            all.extend(opened.map(|(fd, form)| Rx::new(fd, form, shared.new_rx_counters())));
        }
        shared.mtu.store(u32::MAX, Ordering::Relaxed);
        shared.set_link(LinkState { admin_up: true, carrier: true, gone: false });
        Ok((Self { senders: Arc::new(senders), shared: Arc::clone(shared) }, all))
    }

    /// Ways that take less than their devices, found out since the last call: address and MTU.
    pub(crate) fn take_paths(&self) -> Vec<(IpAddr, u32)> {
        self.senders.take_paths()
    }

    pub(crate) fn tx(&self) -> Tx {
        Tx::new(Arc::clone(&self.senders), self.shared.new_tx_counters())
    }
}

/// Why a receiver is not there: that the port is taken says more than the system's words for it.
fn refusal(name: &str, intake: HostIntake, source: io::Error) -> PortError {
    match intake {
        HostIntake::Udp(port) if source.raw_os_error() == Some(libc::EADDRINUSE) => {
            PortError::Taken { name: name.to_owned(), port }
        }
        HostIntake::Udp(_) | HostIntake::Gre | HostIntake::Erspan | HostIntake::Routing => {
            PortError::Os { name: name.to_owned(), what: "opening a socket for the tunnel", source }
        }
    }
}

fn is_unknown_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT | libc::EADDRNOTAVAIL))
}

/// The socket of one family, and what it gives; `None` if nothing of that family can come.
fn receiver(intake: HostIntake, family: Family) -> io::Result<Option<(OwnedFd, Form)>> {
    let raw = |proto: u8| sys::open_protocol_socket(family.number(), libc::SOCK_RAW, proto.into());
    let (fd, form) = match (intake, family) {
        (HostIntake::Udp(port), _) => (udp(family, port)?, Form::Udp { family, port }),
        (HostIntake::Gre, _) => (raw(ip_proto::GRE)?, Form::Gre { family, erspan: false }),
        (HostIntake::Erspan, _) => (raw(ip_proto::GRE)?, Form::Gre { family, erspan: true }),
        (HostIntake::Routing, Family::V6) => (raw(ip_proto::ROUTING)?, Form::Routing),
        (HostIntake::Routing, Family::V4) => return Ok(None),
    };
    let set = |level, name| sys::set_option(fd.as_fd(), level, name, &ON);
    match family {
        Family::V4 => {
            for name in [libc::IP_PKTINFO, libc::IP_RECVTOS, libc::IP_RECVTTL] {
                set(libc::IPPROTO_IP, name)?;
            }
        }
        Family::V6 => {
            for name in [libc::IPV6_RECVPKTINFO, libc::IPV6_RECVTCLASS, libc::IPV6_RECVHOPLIMIT] {
                set(libc::IPPROTO_IPV6, name)?;
            }
        }
    }
    enlarge(&fd, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF);
    Ok(Some((fd, form)))
}

fn udp(family: Family, port: u16) -> io::Result<OwnedFd> {
    let fd = sys::open_protocol_socket(family.number(), libc::SOCK_DGRAM, 0)?;
    if family == Family::V6 {
        sys::set_option(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &ON)?;
    }
    sys::bind_bytes(fd.as_fd(), &control::any_address(family, port))?;
    if family == Family::V6 {
        // RFC 6935: encapsulated packets may come without a checksum.
        sys::set_option(fd.as_fd(), libc::IPPROTO_UDP, UDP_NO_CHECK6_RX, &ON)?;
    }
    Ok(fd)
}

/// linux/udp.h
const UDP_NO_CHECK6_RX: libc::c_int = 102;

/// As large a buffer as we may have.
fn enlarge(fd: &OwnedFd, force: libc::c_int, ask: libc::c_int) {
    let set = |name| sys::set_option(fd.as_fd(), libc::SOL_SOCKET, name, &SOCKET_BUFFER);
    // Less than that is only less.
    let _ = set(force).or_else(|_| set(ask));
}
