//! Changes of several headers of one packet, made in one go.
//!
//! What enters: the compact changes of a megaflow that follow each other. What leaves: the packet with all of them made, as one after the other
//! would have made them; addresses, which count in two checksums, are summed once, and where the headers are is looked at once. Neighbours:
//! `rewrite_compact` (one header's changes, and the way of packets that are not as usual), `checksum`.

use crate::checksum::{Sum, updated_by};
use crate::extract::{Extracted, NetworkLayer};
use crate::rewrite::{PacketBuf, has_ethernet, nonzero_if};
use crate::rewrite_compact::{Bits, Compact};
use crate::wire::{Ipv4, Tcp, Udp, ip_proto};
use core::mem::offset_of;

/// Changes of Ethernet, IPv4 and TCP or UDP. A header that none concerns has a mask of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joint {
    macs: Option<Bits<12>>,
    addresses: Bits<8>,
    tos_ttl: Bits<2>,
    ports: Bits<4>,
    transport: Transport,
}

/// Whose ports are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    None,
    Tcp,
    Udp,
}

const _: () = assert!(size_of::<Joint>() <= 54);

/// The bytes of an IPv4 header without options.
type Ipv4Bytes = [u8; size_of::<Ipv4>()];

impl Joint {
    /// All of `changes`; `None` if they are of a kind that is changed twice, or do not concern IPv4 (one change by itself is as good).
    #[must_use]
    pub fn of(changes: &[Compact]) -> Option<Self> {
        let mut joint = Self {
            macs: None,
            addresses: Bits::NOTHING,
            tos_ttl: Bits::NOTHING,
            ports: Bits::NOTHING,
            transport: Transport::None,
        };
        let (mut ip, mut l4) = (false, false);
        for change in changes {
            let again = match *change {
                Compact::Macs(macs) => joint.macs.replace(macs).is_some(),
                Compact::Ipv4 { addresses, tos_ttl } => {
                    (joint.addresses, joint.tos_ttl) = (addresses, tos_ttl);
                    std::mem::replace(&mut ip, true)
                }
                Compact::Ports { tcp, ports } => {
                    (joint.ports, joint.transport) = (ports, if tcp { Transport::Tcp } else { Transport::Udp });
                    std::mem::replace(&mut l4, true)
                }
            };
            if again {
                return None;
            }
        }
        ip.then_some(joint)
    }

    /// Makes the changes. A header that the packet does not have is left out, as by [`Compact::apply`].
    #[inline]
    pub fn apply(&self, packet: &mut impl PacketBuf, at: &Extracted) {
        if self.apply_at_once(packet, at).is_none() {
            self.apply_in_turn(packet, at);
        }
    }

    /// The same for packets as most are. `None`, and no change, for others: of another protocol, without a transport header, or with a checksum that
    /// is left to the port.
    #[inline]
    pub(crate) fn apply_at_once(&self, packet: &mut impl PacketBuf, at: &Extracted) -> Option<()> {
        let (proto, udp, sum_at) = match at.transport {
            ip_proto::UDP => (Transport::Udp, true, offset_of!(Udp, checksum)),
            ip_proto::TCP => (Transport::Tcp, false, offset_of!(Tcp, checksum)),
            _ => return None,
        };
        let usual = at.network == NetworkLayer::Ipv4 && (self.transport == proto || self.transport == Transport::None);
        let (l3, l4) = (usize::from(at.l3), usize::from(at.l4));
        if !usual || !has_ethernet(at) || packet.checksum_is_partial() {
            return None;
        }
        let bytes = packet.bytes_mut();
        let end = bytes.len().checked_sub(usize::from(at.l2_pad))?;
        let (before, l4) = bytes.get_mut(..end)?.split_at_mut_checked(l4)?;
        let (l2, ip) = before.split_at_mut_checked(l3)?;
        let ip: &mut Ipv4Bytes = ip.first_chunk_mut()?;
        let l4: &mut [u8] =
            if udp { l4.first_chunk_mut::<{ size_of::<Udp>() }>()? } else { l4.first_chunk_mut::<{ size_of::<Tcp>() }>()? };
        if let (Some(macs), Some(both)) = (&self.macs, l2.first_chunk_mut()) {
            *both = macs.over(*both);
        }

        let (addresses, ports) = (change(&mut ip[offset_of!(Ipv4, src)..], &self.addresses), change(l4, &self.ports));
        let header = addresses.and(self.set_tos_ttl(ip));
        if let Some(sum) = ip[offset_of!(Ipv4, checksum)..].first_chunk_mut() {
            *sum = updated_by(*sum, header.fold());
        }
        // A UDP checksum of 0 is none.
        if let Some(sum) = l4[sum_at..].first_chunk_mut()
            && (!udp || *sum != [0; 2])
        {
            *sum = nonzero_if(udp, updated_by(*sum, addresses.and(ports).fold()));
        }
        Some(())
    }

    /// Type of service and time to live, which stand apart: what the header's sum changes by.
    #[inline(always)]
    fn set_tos_ttl(&self, ip: &mut Ipv4Bytes) -> Sum {
        const TOS: usize = offset_of!(Ipv4, tos);
        const TTL: usize = offset_of!(Ipv4, ttl);
        const { assert!(TOS % 2 == 1 && TTL.is_multiple_of(2)) };
        let mut both = [ip[TOS], ip[TTL]];
        let from = both;
        change(&mut both, &self.tos_ttl);
        [ip[TOS], ip[TTL]] = both;
        let word = |[tos, ttl]: [u8; 2]| [0, tos, ttl, 0];
        difference(&word(from), &word(both))
    }

    /// One header after the other.
    #[cold]
    fn apply_in_turn(&self, packet: &mut impl PacketBuf, at: &Extracted) {
        let ports = |tcp| Compact::Ports { tcp, ports: self.ports };
        let l4 = match self.transport {
            Transport::None => None,
            Transport::Tcp => Some(ports(true)),
            Transport::Udp => Some(ports(false)),
        };
        let l3 = Compact::Ipv4 { addresses: self.addresses, tos_ttl: self.tos_ttl };
        for change in self.macs.map(Compact::Macs).into_iter().chain([l3]).chain(l4) {
            change.apply(packet, at);
        }
    }
}

/// Sets bits of the first bytes: what their sum changes by.
#[inline(always)]
fn change<const N: usize>(bytes: &mut [u8], bits: &Bits<N>) -> Sum {
    let Some(own) = bytes.first_chunk_mut::<N>() else { return Sum::default() };
    let from = *own;
    *own = bits.over(from);
    difference(&from, own)
}

/// What the sum of bytes changes by, nothing if they are the same.
#[inline(always)]
fn difference<const N: usize>(from: &[u8; N], to: &[u8; N]) -> Sum {
    let word = |bytes: &[u8; N]| {
        let mut word = [0; 8];
        word[..N].copy_from_slice(bytes);
        u64::from_ne_bytes(word)
    };
    let (from, to) = (word(from), word(to));
    if from == to { Sum::default() } else { Sum::of_change(from, to) }
}
