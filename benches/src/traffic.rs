//! The traffic: classic pcap files, the same for every switch.
//!
//! Flow k has source 10.0.0.0 + k/60000, destination 11.0.0.1 + k/60000, source port 1024 + k mod 60000, destination port 1000. Frames
//! have 60 bytes (64 with the FCS) if the headers let them, and right checksums. Packets take the flows in turn; a file holds
//! at least 64 packets.

use crate::BenchError;
use flow::Key;
use flow::compose::{Payload, compose};
use flow::key::{FRAG_ANY, VLAN_CFI};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// The least packets of a file, so that a batch of 32 never meets its own copy half-way.
const PACKETS_MIN: u32 = 64;
/// Megaflows per mask in the mask scenarios.
pub const PER_MASK: u32 = 64;
/// Flows of the mask scenarios.
pub const MASK_FLOWS: u32 = 6400;
/// The VLAN of tagged traffic.
pub const VLAN: u16 = 100;

/// The ends of the VXLAN tunnel: the far one, ours.
pub const OUTER_SRC: [u8; 4] = [172, 31, 0, 2];
pub const OUTER_DST: [u8; 4] = [172, 31, 0, 1];
pub const OUTER_SRC_MAC: [u8; 6] = [2, 0, 0, 0, 0xbb, 2];
pub const OUTER_DST_MAC: [u8; 6] = [2, 0, 0, 0, 0xbb, 1];
pub const VNI: u8 = 7;

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// UDP over IPv4.
    Udp { flows: u32 },
    /// UDP over IPv4, VLAN 100, 64 bytes.
    Tagged { flows: u32 },
    /// TCP over IPv4.
    Tcp { flows: u32 },
    /// UDP over IPv6, 62 bytes: the headers need them.
    Udp6 { flows: u32 },
    /// TCP over IPv6, 74 bytes.
    Tcp6 { flows: u32 },
    /// UDP, TCP, tagged UDP and UDP over IPv6 in turn.
    Mixed { flows: u32 },
    /// UDP over IPv4 (60 bytes) in VXLAN, 110 bytes; the outer source port follows the flow, the outer checksum is none.
    Vxlan { flows: u32 },
    /// [`MASK_FLOWS`] flows whose source MAC tells the class; neighbouring packets are of different classes.
    Masks { classes: u32 },
    /// UDP with destination addresses that differ in one bit from 12.0.0.1 and so on: each prefix length is asked for (an attack on a list of
    /// ACL rules).
    Explosion { flows: u32 },
    /// Request and reply of each connection in turn; segments of TCP are acknowledgments, always of the same numbers. With `nat` (over IPv4) replies go to
    /// 192.0.2.1, the address that requests are translated to.
    Connections { flows: u32, of: Over, nat: bool },
    /// First fragments of as many datagrams, which never complete, over IPv4 and IPv6.
    Fragments { datagrams: u32 },
}

/// What the packets of connections are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Udp,
    Tcp,
    Udp6,
    Tcp6,
}

impl Over {
    /// What it adds to names, of files and of scenarios.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Udp => "",
            Self::Tcp => "-tcp",
            Self::Udp6 => "6",
            Self::Tcp6 => "-tcp6",
        }
    }

    fn key(self, k: u32) -> Key {
        match self {
            Self::Udp => udp(k),
            Self::Tcp => tcp(k),
            Self::Udp6 => over_ipv6(k, UDP),
            Self::Tcp6 => over_ipv6(k, TCP),
        }
    }
}

impl Traffic {
    /// The file's name.
    #[must_use]
    pub fn file_name(self) -> String {
        match self {
            Self::Udp { flows } => format!("flows-{flows}.pcap"),
            Self::Tagged { flows } => format!("vlan-{flows}.pcap"),
            Self::Tcp { flows } => format!("tcp-{flows}.pcap"),
            Self::Udp6 { flows } => format!("udp6-{flows}.pcap"),
            Self::Tcp6 { flows } => format!("tcp6-{flows}.pcap"),
            Self::Mixed { flows } => format!("mixed-{flows}.pcap"),
            Self::Vxlan { flows } => format!("vxlan-{flows}.pcap"),
            Self::Masks { classes } => format!("masks-{classes}.pcap"),
            Self::Explosion { flows } => format!("explosion-{flows}.pcap"),
            Self::Connections { flows, of, nat } => format!("{}{}-{flows}.pcap", if nat { "nat" } else { "ct" }, of.suffix()),
            Self::Fragments { datagrams } => format!("fragments-{datagrams}.pcap"),
        }
    }

    /// How many frames the file holds.
    #[must_use]
    pub fn packets(self) -> u32 {
        match self {
            Self::Udp { flows } | Self::Tagged { flows } | Self::Tcp { flows } | Self::Udp6 { flows } | Self::Tcp6 { flows } => {
                flows.max(PACKETS_MIN)
            }
            Self::Mixed { flows } | Self::Vxlan { flows } => flows.max(PACKETS_MIN),
            Self::Masks { .. } => MASK_FLOWS,
            Self::Explosion { flows } | Self::Fragments { datagrams: flows } => flows.max(PACKETS_MIN),
            Self::Connections { flows, .. } => (2 * flows).max(PACKETS_MIN),
        }
    }

    /// Frame number `i`.
    #[must_use]
    pub fn frame(self, i: u32) -> Vec<u8> {
        match self {
            Self::Udp { flows } => frame(&udp(i % flows), 60),
            Self::Tagged { flows } => frame(&tagged(i % flows), 64),
            Self::Tcp { flows } => frame(&tcp(i % flows), 60),
            Self::Udp6 { flows } => frame(&over_ipv6(i % flows, UDP), 60),
            Self::Tcp6 { flows } => frame(&over_ipv6(i % flows, TCP), 60),
            Self::Mixed { flows } => {
                let k = i % flows;
                match i % 4 {
                    0 => frame(&udp(k), 60),
                    1 => frame(&tcp(k), 60),
                    2 => frame(&tagged(k), 64),
                    _ => frame(&over_ipv6(k, UDP), 60),
                }
            }
            Self::Vxlan { flows } => vxlan(i % flows),
            Self::Masks { classes } => {
                let mut key = udp(i);
                key.eth_src = class_mac(i % classes, i / classes % PER_MASK);
                frame(&key, 60)
            }
            Self::Explosion { flows } => frame(&explosion(i % flows), 60),
            Self::Connections { flows, of, nat } => {
                let request = of.key(i / 2 % flows);
                frame(&if i.is_multiple_of(2) { request } else { reply(&request, nat) }, 60)
            }
            Self::Fragments { datagrams } => fragment(i % datagrams),
        }
    }

    /// Writes the file into `dir` unless it is there.
    pub fn write(self, dir: &Path) -> Result<PathBuf, BenchError> {
        let path = dir.join(self.file_name());
        if !path.exists() {
            let part = path.with_extension("part");
            let fault = || BenchError::io(path.display().to_string());
            let mut out = BufWriter::new(File::create(&part).map_err(fault())?);
            self.write_to(&mut out).and_then(|()| out.flush()).map_err(fault())?;
            fs::rename(&part, &path).map_err(fault())?;
        }
        Ok(path)
    }

    fn write_to(self, out: &mut impl Write) -> std::io::Result<()> {
        for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
            out.write_all(&word.to_le_bytes())?;
        }
        for i in 0..self.packets() {
            let frame = self.frame(i);
            let len = u32::try_from(frame.len()).expect("a frame is short").to_le_bytes();
            for word in [[0; 4], [0; 4], len, len] {
                out.write_all(&word)?;
            }
            out.write_all(&frame)?;
        }
        Ok(())
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;

fn frame(key: &Key, len: usize) -> Vec<u8> {
    compose(key, Payload::FrameLen(len))
}

/// The source MAC of a class's member.
#[must_use]
pub fn class_mac(class: u32, member: u32) -> [u8; 6] {
    let byte = |n: u32| u8::try_from(n).expect("at most 100 classes of 64 members");
    [2, 4, byte(class), byte(member), 0, 2]
}

fn base(k: u32, proto: u8) -> Key {
    let mut key = Key::ZERO;
    key.eth_src = [2, 0, 0, 0, 0, 2];
    key.eth_dst = [2, 0, 0, 0, 0, 1];
    key.nw_proto = proto;
    key.nw_ttl = 64;
    key.tp_src = u16::try_from(1024 + k % 60_000).expect("less than 65536").to_be_bytes();
    key.tp_dst = 1000u16.to_be_bytes();
    key
}

fn over_ipv4(k: u32, proto: u8) -> Key {
    let mut key = base(k, proto);
    key.eth_type = [8, 0];
    key.nw_src = (0x0a00_0000 + k / 60_000).to_be_bytes();
    key.nw_dst = (0x0b00_0001 + k / 60_000).to_be_bytes();
    key
}

fn udp(k: u32) -> Key {
    over_ipv4(k, UDP)
}

fn reply(to: &Key, nat: bool) -> Key {
    let mut key = *to;
    (key.eth_src, key.eth_dst) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    (key.nw_src, key.nw_dst) = (to.nw_dst, if nat { [192, 0, 2, 1] } else { to.nw_src });
    (key.ipv6_src, key.ipv6_dst) = (to.ipv6_dst, to.ipv6_src);
    (key.tp_src, key.tp_dst) = (to.tp_dst, to.tp_src);
    key
}

fn tcp(k: u32) -> Key {
    let mut key = over_ipv4(k, TCP);
    key.tcp_flags = [0, 0x10];
    key
}

fn tagged(k: u32) -> Key {
    let mut key = udp(k);
    key.vlan_tci = (VLAN | VLAN_CFI).to_be_bytes();
    key
}

/// The flow in VXLAN, on its way to us.
fn vxlan(k: u32) -> Vec<u8> {
    const HEADER: [u8; 8] = [8, 0, 0, 0, 0, 0, VNI, 0];
    const UDP_CHECKSUM: std::ops::Range<usize> = 40..42;
    let mut outer = udp(k);
    (outer.eth_src, outer.eth_dst) = (OUTER_SRC_MAC, OUTER_DST_MAC);
    (outer.nw_src, outer.nw_dst) = (OUTER_SRC, OUTER_DST);
    outer.tp_dst = 4789u16.to_be_bytes();
    let inner = [&HEADER[..], &frame(&udp(k), 60)].concat();
    let mut bytes = compose(&outer, Payload::Bytes(&inner));
    bytes[UDP_CHECKSUM].fill(0);
    bytes
}

fn over_ipv6(k: u32, proto: u8) -> Key {
    let mut key = base(k, proto);
    key.eth_type = [0x86, 0xdd];
    if proto == TCP {
        key.tcp_flags = [0, 0x10];
    }
    let address = |side: u8| {
        let [a, b, c, d] = (k / 60_000 + 1).to_be_bytes();
        [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, side, 0, 0, 0, 0, a, b, c, d]
    };
    key.ipv6_src = address(1);
    key.ipv6_dst = address(2);
    key
}

/// The first fragment of a datagram, larger than the least size that is held: of IPv4 and IPv6 in turn.
fn fragment(k: u32) -> Vec<u8> {
    let mut key = if k.is_multiple_of(2) { udp(k) } else { over_ipv6(k, UDP) };
    key.nw_src = (0x0a00_0000 + k).to_be_bytes();
    key.ipv6_src[12..].copy_from_slice(&k.to_be_bytes());
    key.nw_frag = FRAG_ANY;
    compose(&key, Payload::Len(1352))
}

/// Packets that leave a list of prefix rules at every depth of source address, destination address and both ports.
fn explosion(k: u32) -> Key {
    let mut key = udp(k);
    let (src, dst, sport, dport) = (k % 33, k / 33 % 33, k / 1089 % 17, k / 18_513 % 17);
    let flip32 = |value: u32, bits: u32| if bits == 32 { value } else { value ^ (1 << (31 - bits)) };
    let flip16 = |value: u16, bits: u32| if bits == 16 { value } else { value ^ (1 << (15 - bits)) };
    key.nw_src = flip32(0x0a01_0203, src).to_be_bytes();
    key.nw_dst = flip32(0x0b01_0203, dst).to_be_bytes();
    key.tp_src = flip16(12_345, sport).to_be_bytes();
    key.tp_dst = flip16(23_456, dport).to_be_bytes();
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte for byte what tools/ovs-dpdk-peer.sh writes (a digest of its own files).
    #[test]
    fn frames_are_those_of_the_peer_script() {
        let hex = |t: Traffic, i| t.frame(i).iter().map(|b| format!("{b:02x}")).collect::<String>();
        let first = "020000000001020000000002080045000 02e000000004011".replace(' ', "");
        assert!(hex(Traffic::Udp { flows: 4 }, 0).starts_with(&first));
        assert_eq!(Traffic::Udp { flows: 4 }.frame(1).len(), 60);
        assert_eq!(Traffic::Tagged { flows: 4 }.frame(1).len(), 64);
        assert_eq!(Traffic::Tcp6 { flows: 4 }.frame(1).len(), 74);
        assert_eq!(Traffic::Vxlan { flows: 4 }.frame(1).len(), 110);
    }
}
