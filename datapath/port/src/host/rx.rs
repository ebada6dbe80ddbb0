//! What the host's stack has received for a tunnel port: datagrams, made frames again.
//!
//! What enters: datagrams with what the kernel says of their outer header. What leaves: frames with an outer header that says the same, to be taken
//! off by `datapath::tunnel_pop` like any other. Their checksums are the kernel's affair: they are marked as good.
//!
//! A kernel that encapsulates on the same machine (containers on veth) hands over what it would have let hardware finish: frames longer than the link
//! takes, to be cut, and transport checksums that are not there yet. Nobody tells a socket of that. A frame that is too long for its link is given as
//! one to be cut, its size that of the link; what is inside, and whether its checksum is there, `datapath::tunnel_host` finds.

use super::Family;
use super::control::{self, ADDRESS_MAX, RECEIVED_MAX, Said};
use crate::batch::Batch;
use crate::counters::Counters;
use crate::datagrams::{Slot, Slots};
use crate::packet::{Checksum, Gso, GsoKind, Packet};
use crate::queue::Receive;
use crate::sys;
use flow::clock::{self, Msec};
use flow::wire::{Ethernet, Ipv4, Ipv6, Udp, eth_type, ip_proto};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use zerocopy::IntoBytes;

/// The longest datagram: what IP's length field can say.
const DATAGRAM_MAX: usize = 65_536;
/// A link that says it takes more has no limit, which says nothing of what may come by it.
const MTU_MAX: u32 = 9_216;
/// IEEE 802.3
const MTU_DEFAULT: u16 = 1_500;
/// How long an MTU is believed.
const MTU_AGE_MS: Msec = 1_000;
/// Types of GRE that are ERSPAN (draft-foschiano-erspan).
const ERSPAN: [[u8; 2]; 2] = [[0x88, 0xbe], [0x22, 0xeb]];

/// What a socket gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// What follows the UDP header of datagrams to `port`.
    Udp { family: Family, port: u16 },
    /// GRE packets, over IPv4 with their IP header.
    Gre { family: Family, erspan: bool },
    /// A routing header and what follows, without the IPv6 header.
    Routing,
}

/// The receive queue of one family.
#[derive(Debug)]
pub struct Rx {
    fd: OwnedFd,
    form: Form,
    slots: Slots,
    /// The last MTU that was needed: of which interface, how many bytes, known when.
    mtu: (u32, u16, Msec),
    counters: Counters,
}

/// An outer header, at most: Ethernet, IPv6, UDP.
struct Header {
    bytes: [u8; 62],
    len: usize,
}

impl Rx {
    pub(super) fn new(fd: OwnedFd, form: Form, counters: Counters) -> Self {
        Self { fd, form, slots: Slots::new(ADDRESS_MAX, RECEIVED_MAX, DATAGRAM_MAX), mtu: (0, MTU_DEFAULT, 0), counters }
    }

    /// The frame of datagram `i`; `None` if it is no tunnel's, or there is no buffer.
    fn frame(&mut self, i: usize) -> Option<Packet> {
        let slot = self.slots.slot(i);
        let said = Said::read(slot.control);
        let header = match self.form.header(&slot, &said) {
            Ok(header) => header,
            Err(Unfit::NotOurs) => return None,
            Err(Unfit::Bad) => {
                self.counters.errors.add(1);
                return None;
            }
        };
        let len = header.len + slot.bytes.len();
        let Some(mut packet) = Packet::with_capacity(len) else {
            self.counters.dropped.add(1);
            return None;
        };
        packet.set_len(len);
        let (front, rest) = packet.data_mut().split_at_mut(header.len);
        front.copy_from_slice(&header.bytes[..header.len]);
        rest.copy_from_slice(slot.bytes);
        packet.set_checksum(Checksum::Good);
        let ip_len = len - size_of::<Ethernet>();
        if ip_len > MTU_DEFAULT.into() {
            let mtu = self.mtu_of(said.ifindex);
            if ip_len > mtu.into() {
                packet.set_gso(Gso { kind: GsoKind::Udp, size: mtu, ecn: false });
            }
        }
        Some(packet)
    }

    fn mtu_of(&mut self, ifindex: u32) -> u16 {
        let now = clock::now_ms();
        let (known, mtu, at) = self.mtu;
        if known == ifindex && now - at < MTU_AGE_MS {
            return mtu;
        }
        // An interface that is gone has sent its last packet.
        let said = sys::mtu_of(self.fd.as_fd(), ifindex).ok().filter(|mtu| *mtu <= MTU_MAX);
        let mtu = said.and_then(|mtu| u16::try_from(mtu).ok()).unwrap_or(MTU_DEFAULT);
        self.mtu = (ifindex, mtu, now);
        mtu
    }
}

/// Why a datagram is no frame.
enum Unfit {
    /// Another kind of tunnel's, which has a copy of its own.
    NotOurs,
    Bad,
}

impl Form {
    /// The header that the kernel took off a datagram.
    fn header(self, slot: &Slot<'_>, said: &Said) -> Result<Header, Unfit> {
        let from = |family| control::peer(slot.name, family).ok_or(Unfit::Bad);
        if slot.cut {
            return Err(Unfit::Bad);
        }
        let bytes = slot.bytes;
        match self {
            Self::Udp { family, port } => {
                let (src, address) = from(family)?;
                let len = u16::try_from(size_of::<Udp>() + bytes.len()).map_err(|_| Unfit::Bad)?;
                let mut header = Header::ip(family, (&address, said), ip_proto::UDP, len.into());
                header.add(Udp { src, dst: port.to_be_bytes(), len: len.to_be_bytes(), checksum: [0; 2] }.as_bytes());
                Ok(header)
            }
            Self::Gre { family, erspan } => {
                let start = match family {
                    Family::V4 => usize::from(bytes.first().ok_or(Unfit::Bad)? & 15) * 4,
                    Family::V6 => 0,
                };
                let ty = bytes.get(start + 2..).and_then(|b| b.first_chunk::<2>()).ok_or(Unfit::Bad)?;
                if ERSPAN.contains(ty) != erspan {
                    return Err(Unfit::NotOurs);
                }
                match family {
                    Family::V4 => Ok(Header::ethernet(Family::V4)),
                    Family::V6 => Ok(Header::ip(Family::V6, (&from(family)?.1, said), ip_proto::GRE, bytes.len())),
                }
            }
            Self::Routing => Ok(Header::ip(Family::V6, (&from(Family::V6)?.1, said), ip_proto::ROUTING, bytes.len())),
        }
    }
}

impl Header {
    fn ethernet(family: Family) -> Self {
        let ty = if family == Family::V4 { eth_type::IPV4 } else { eth_type::IPV6 };
        let mut header = Self { bytes: [0; 62], len: 0 };
        header.add(Ethernet { eth_type: ty.to_be_bytes(), ..Ethernet::default() }.as_bytes());
        header
    }

    /// Ethernet and IP; `rest` bytes follow.
    fn ip(family: Family, (from, said): (&[u8; 16], &Said), proto: u8, rest: usize) -> Self {
        let mut header = Self::ethernet(family);
        let length = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
        if family == Family::V4 {
            let four = |a: &[u8; 16]| [a[0], a[1], a[2], a[3]];
            let ip = Ipv4 {
                version_ihl: 0x45,
                tos: said.tos,
                total_len: length(size_of::<Ipv4>() + rest),
                ttl: said.ttl,
                proto,
                src: four(from),
                dst: four(&said.to),
                ..Ipv4::default()
            };
            header.add(ip.as_bytes());
        } else {
            let version_class_label = (6 << 28 | u32::from(said.tos) << 20).to_be_bytes();
            let (src, dst) = (*from, said.to);
            let ip = Ipv6 { version_class_label, payload_len: length(rest), next: proto, hop_limit: said.ttl, src, dst };
            header.add(ip.as_bytes());
        }
        header
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

impl Receive for Rx {
    fn recv(&mut self, batch: &mut Batch) -> usize {
        self.counters.syscalls.add(1);
        // Nothing there, or an error that the next call does not have.
        let came = self.slots.receive(self.fd.as_fd(), batch.space()).unwrap_or(0);
        let (mut n, mut bytes) = (0, 0);
        for i in 0..came {
            if let Some(packet) = self.frame(i) {
                n += 1;
                bytes += packet.len() as u64;
                batch.push(packet).expect("no more datagrams than space");
            }
        }
        self.counters.packets.add(n as u64);
        self.counters.bytes.add(bytes);
        n
    }

    fn poll_fd(&self) -> Option<RawFd> {
        Some(self.fd.as_raw_fd())
    }

    fn prepare_sleep(&mut self) -> bool {
        // A pending error would keep the descriptor readable.
        let _ = sys::take_error(self.fd.as_fd());
        true
    }
}
