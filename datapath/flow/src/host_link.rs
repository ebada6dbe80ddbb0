//! What stands in the place of the Ethernet header of an outer packet that goes out by the host's own stack.
//!
//! What enters: what translation knows of the way (`xlate::native`). What leaves: what the datapath has to know of it, packet by packet
//! (`datapath::tunnel_mtu`, `port::host`). The host's stack puts a link-layer header on itself, so that these twelve bytes are free; who
//! sends takes them off. In text they look like addresses: `eth(dst=00:00:00:00:05:dc,src=00:00:00:00:00:07,...)` has an MTU of 1,500 bytes
//! and mark 7.

/// Bytes of the two addresses.
const BYTES: usize = 12;

/// What the host's stack is told with a packet, and what the datapath heeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostLink {
    /// Bytes that a packet may have from its IP header on; 0: it is not known.
    pub mtu: u32,
    /// The packet's mark (`SO_MARK`), by which the host's rules may choose a route.
    pub mark: u32,
}

impl HostLink {
    /// The form of a destination and a source address.
    #[must_use]
    pub const fn to_addresses(self) -> ([u8; 6], [u8; 6]) {
        (spread(self.mtu), spread(self.mark))
    }

    /// Reads it off a header; `None` if that has no room for it.
    #[must_use]
    pub fn of(header: &[u8]) -> Option<Self> {
        let [_, _, m0, m1, m2, m3, _, _, k0, k1, k2, k3] = *header.first_chunk::<BYTES>()?;
        Some(Self { mtu: u32::from_be_bytes([m0, m1, m2, m3]), mark: u32::from_be_bytes([k0, k1, k2, k3]) })
    }
}

const fn spread(value: u32) -> [u8; 6] {
    let [a, b, c, d] = value.to_be_bytes();
    [0, 0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let link = HostLink { mtu: 1500, mark: 0xdead_beef };
        let (dst, src) = link.to_addresses();
        assert_eq!((dst, src), ([0, 0, 0, 0, 5, 0xdc], [0, 0, 0xde, 0xad, 0xbe, 0xef]));
        assert_eq!(HostLink::of(&[dst, src].concat()), Some(link));
        assert_eq!(HostLink::of(&[0; 11]), None);
    }
}
