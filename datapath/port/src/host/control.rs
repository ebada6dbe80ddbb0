//! Addresses and control messages of datagrams, byte by byte (socket(7), ip(7), ipv6(7), cmsg(3)).
//!
//! What enters: what the kernel says beside a datagram; ends and marks of one that goes. What leaves: the same in the other form.

use super::Family;
use std::ops::Range;

/// struct cmsghdr: length (with this header), level, type.
const HEADER: usize = size_of::<libc::cmsghdr>();
const _: () = assert!(HEADER == 16 && size_of::<usize>() == 8);
/// struct `sockaddr_in` and `sockaddr_in6`
const ADDRESS_V4: usize = size_of::<libc::sockaddr_in>();
const ADDRESS_V6: usize = size_of::<libc::sockaddr_in6>();
/// The larger.
pub(super) const ADDRESS_MAX: usize = ADDRESS_V6;
/// Bytes of control messages that are received, and sent, at most.
pub(super) const RECEIVED_MAX: usize = 128;
const SENT_MAX: usize = 64;

/// What the kernel said of a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// IPv4 in the first four.
    pub(super) to: [u8; 16],
    pub(super) ifindex: u32,
    pub(super) tos: u8,
    pub(super) ttl: u8,
}

impl Said {
    /// Reads the control messages of a datagram.
    pub(super) fn read(mut bytes: &[u8]) -> Self {
        let mut said = Self::default();
        while let Some((header, _)) = bytes.split_first_chunk::<HEADER>() {
            let [l0, l1, l2, l3, l4, l5, l6, l7, v0, v1, v2, v3, t0, t1, t2, t3] = *header;
            let len = usize::from_ne_bytes([l0, l1, l2, l3, l4, l5, l6, l7]);
            let (level, kind) = (i32::from_ne_bytes([v0, v1, v2, v3]), i32::from_ne_bytes([t0, t1, t2, t3]));
            let Some(data) = bytes.get(HEADER..len) else { break };
            said.take(level, kind, data);
            bytes = bytes.get(len.next_multiple_of(8)..).unwrap_or_default();
        }
        said
    }

    fn take(&mut self, level: i32, kind: i32, data: &[u8]) {
        let number = || data.first_chunk().map_or(0, |n| i32::from_ne_bytes(*n));
        let low = |n: i32| u8::try_from(n & 0xff).unwrap_or(0);
        match (level, kind) {
            // struct in_pktinfo: interface, the local address, the address in the header.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                if let (Some(index), Some(to)) = (data.first_chunk(), data.get(8..12)) {
                    self.ifindex = u32::from_ne_bytes(*index);
                    self.to[..4].copy_from_slice(to);
                }
            }
            // One byte.
            (libc::IPPROTO_IP, libc::IP_TOS) => self.tos = data.first().copied().unwrap_or(0),
            (libc::IPPROTO_IP, libc::IP_TTL) => self.ttl = low(number()),
            // struct in6_pktinfo: the address in the header, interface.
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                if let (Some(to), Some(index)) = (data.first_chunk(), data.get(16..).and_then(|d| d.first_chunk())) {
                    (self.to, self.ifindex) = (*to, u32::from_ne_bytes(*index));
                }
            }
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => self.tos = low(number()),
            (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => self.ttl = low(number()),
            _ => {}
        }
    }
}

/// Port and address of a peer; IPv4 in the first four bytes. `None` if it is not of the family.
pub(super) fn peer(name: &[u8], family: Family) -> Option<([u8; 2], [u8; 16])> {
    let port = *name.get(2..)?.first_chunk()?;
    let mut address = [0; 16];
    match family {
        Family::V4 => address[..4].copy_from_slice(name.get(4..8)?),
        Family::V6 => address.copy_from_slice(name.get(8..24)?),
    }
    Some((port, address))
}

/// A socket address: any local one with a port.
pub(super) fn any_address(family: Family, port: u16) -> Vec<u8> {
    let mut bytes = vec![0; if family == Family::V4 { ADDRESS_V4 } else { ADDRESS_V6 }];
    bytes[..2].copy_from_slice(&family_bytes(family));
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes
}

fn family_bytes(family: Family) -> [u8; 2] {
    u16::try_from(family.number()).expect("families are small").to_ne_bytes()
}

/// Where an IP packet is to go, and what the kernel is to know besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label {
    address: [u8; ADDRESS_MAX],
    address_len: usize,
    control: [u8; SENT_MAX],
    control_len: usize,
}

impl Label {
    /// Of a packet that begins with its IP header: to its destination, by the route of its source and mark. `None` if it is none.
    pub(super) fn of(ip: &[u8], family: Family, mark: u32) -> Option<Self> {
        const IPV4_ENDS: [Range<usize>; 2] = [12..16, 16..20];
        const IPV6_ENDS: [Range<usize>; 2] = [8..24, 24..40];
        let [src, dst] = if family == Family::V4 { IPV4_ENDS } else { IPV6_ENDS };
        let (src, dst) = (ip.get(src)?, ip.get(dst)?);
        let mut label = Self { address: [0; ADDRESS_MAX], address_len: 0, control: [0; SENT_MAX], control_len: 0 };
        label.address[..2].copy_from_slice(&family_bytes(family));
        let at = if family == Family::V4 { 4 } else { 8 };
        label.address[at..at + dst.len()].copy_from_slice(dst);
        label.address_len = if family == Family::V4 { ADDRESS_V4 } else { ADDRESS_V6 };
        // The kernel chooses a source where there is none.
        if src.iter().any(|byte| *byte != 0) {
            match family {
                // struct in_pktinfo
                Family::V4 => label.add(libc::IPPROTO_IP, libc::IP_PKTINFO, &[&[0; 4], src, &[0; 4]]),
                // struct in6_pktinfo
                Family::V6 => label.add(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &[src, &[0; 4]]),
            }
        }
        if mark != 0 {
            label.add(libc::SOL_SOCKET, libc::SO_MARK, &[&mark.to_ne_bytes()]);
        }
        Some(label)
    }

    fn add(&mut self, level: i32, kind: i32, parts: &[&[u8]]) {
        let data: usize = parts.iter().map(|p| p.len()).sum();
        let len = (HEADER + data).to_ne_bytes();
        let mut at = self.control_len;
        for part in [&len[..], &level.to_ne_bytes(), &kind.to_ne_bytes()].iter().chain(parts) {
            self.control[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.control_len = at.next_multiple_of(8);
    }

    /// The destination as a socket address.
    pub(super) fn address(&self) -> &[u8] {
        &self.address[..self.address_len]
    }

    /// The control messages.
    pub(super) fn control(&self) -> &[u8] {
        &self.control[..self.control_len]
    }
}
