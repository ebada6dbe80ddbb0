//! Packets at random, for tests, simulators and benches: mostly valid, of every kind that extraction knows, then broken.
//!
//! What enters: a seed. What leaves: the same packets with their metadata for the same seed. Neighbours: the property tests of
//! `extract` here and of its SIMD form in `datapath`.

use crate::extract::PacketMeta;
use crate::key::Key;
use crate::seam::DpPort;
use crate::wire::{self, eth_type, ip_proto};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes that a generated packet has at most, padding included.
pub const PACKET_BYTES_MAX: usize = 400;

/// A seeded source of packets (splitmix64; nothing secret).
#[derive(Clone, Debug)]
pub struct PacketGen {
    state: u64,
    rare: Box<Key>,
}

impl PacketGen {
    /// Starts the sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed, rare: Box::new(Key::ZERO) }
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.bits() % n as u64).expect("below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.bits().to_be_bytes()[0]
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let b = self.bits().to_ne_bytes();
            chunk.copy_from_slice(&b[..chunk.len()]);
        }
    }

    fn header<T: FromBytes + IntoBytes>(&mut self) -> T {
        let mut h = T::new_zeroed();
        self.fill(h.as_mut_bytes());
        h
    }

    /// Puts the next packet into `out` and gives its metadata.
    pub fn packet(&mut self, out: &mut Vec<u8>) -> PacketMeta<'_> {
        let packet_type = self.sound_packet(out);
        if self.below(2) == 0 {
            self.mutate(out);
        }
        self.meta(packet_type)
    }

    /// Puts a packet with no broken header into `out` (checksums and the lengths of UDP are random); gives its packet type.
    pub fn sound_packet(&mut self, out: &mut Vec<u8>) -> u32 {
        out.clear();
        let packet_type = match self.below(40) {
            0 => 0x1_0800,
            1 => 0x1_86dd,
            2 => 0x1_8847,
            3 => 0x1_894f,
            4 => 0x1_0000 | u32::from(self.byte()),
            _ => 0,
        };
        let ty = match packet_type {
            0 => self.ethernet(out),
            other => other.to_be_bytes().last_chunk().map_or(0, |b| u16::from_be_bytes(*b)),
        };
        self.network(ty, out);
        if self.below(4) == 0 {
            let pad = self.below(24);
            out.extend(std::iter::repeat_n(0, pad));
        }
        packet_type
    }

    /// Metadata, plain three times out of four.
    pub fn meta(&mut self, packet_type: u32) -> PacketMeta<'_> {
        let mut meta = PacketMeta { in_port: DpPort(u32::from(self.byte())), packet_type, ..PacketMeta::default() };
        if self.below(4) != 0 {
            return meta;
        }
        let bits = self.bits();
        meta.recirc_id = u32::from(self.byte());
        meta.dp_hash = u32::from(self.byte()) << 8;
        meta.ct_state = if bits & 1 == 0 { 0x21 } else { 0 };
        meta.ct_zone = 7;
        meta.ct_mark = u32::from(self.byte());
        meta.pkt_mark = if bits & 2 == 0 { 9 } else { 0 };
        meta.skb_priority = if bits & 4 == 0 { 3 } else { 0 };
        meta.vlan_limit = self.pick(&[0, 1, 2, 3]);
        if bits & 8 != 0 {
            return meta;
        }
        let mut rare = self.header::<Key>();
        if bits & 0x10 == 0 {
            (rare.tun_dst, rare.tun_ipv6_dst) = ([0; 4], [0; 16]);
        }
        if bits & 0x20 == 0 {
            rare.tun_metadata_present = [0; 8];
        }
        if bits & 0x40 == 0 {
            (rare.ct_ipv6_src, rare.ct_ipv6_dst) = ([0; 16], [0; 16]);
        }
        if bits & 0x80 == 0 {
            rare.ct_nw_proto = 0;
        }
        if bits & 0x100 == 0 {
            rare.ct_label = [0; 16];
        }
        *self.rare = rare;
        meta.rare = Some(&self.rare);
        meta
    }

    fn ethernet(&mut self, out: &mut Vec<u8>) -> u16 {
        let mut addresses = [0; 12];
        self.fill(&mut addresses);
        out.extend(addresses);
        let tags = self.pick(&[0, 0, 0, 0, 1, 1, 2, 3]);
        for _ in 0..tags {
            let tpid: u16 = self.pick(&[eth_type::VLAN, eth_type::VLAN, eth_type::QINQ]);
            out.extend(tpid.to_be_bytes());
            out.extend([self.byte(), self.byte()]);
        }
        let ty = self.pick(&[
            eth_type::IPV4,
            eth_type::IPV4,
            eth_type::IPV4,
            eth_type::IPV6,
            eth_type::IPV6,
            eth_type::ARP,
            eth_type::RARP,
            eth_type::MPLS,
            eth_type::MPLS_MULTICAST,
            eth_type::NSH,
            eth_type::PBB,
            0x88cc,
        ]);
        if self.below(12) == 0 {
            out.extend([0, self.byte()]);
            out.extend([0xaa, 0xaa, 3, 0, 0, if self.below(8) == 0 { 0xf8 } else { 0 }]);
        }
        out.extend(ty.to_be_bytes());
        ty
    }

    fn network(&mut self, ty: u16, out: &mut Vec<u8>) {
        match ty {
            eth_type::IPV4 => self.ipv4(out),
            eth_type::IPV6 => self.ipv6(out),
            eth_type::ARP | eth_type::RARP => {
                let mut arp: wire::Arp = self.header();
                (arp.hardware, arp.protocol, arp.hardware_len, arp.protocol_len) = ([0, 1], [8, 0], 6, 4);
                arp.op = [u8::from(self.below(4) == 0), self.byte()];
                out.extend(arp.as_bytes());
            }
            eth_type::MPLS | eth_type::MPLS_MULTICAST => {
                let labels = self.below(5);
                for i in 0..=labels {
                    let mut lse: wire::MplsLse = self.header();
                    lse.lse[2] = lse.lse[2] & 0xfe | u8::from(i == labels);
                    out.extend(lse.as_bytes());
                }
                self.ipv4(out);
            }
            eth_type::NSH => self.nsh(out),
            eth_type::PBB => {
                out.extend(self.header::<wire::ITag>().as_bytes());
                self.payload(64, out);
            }
            _ => self.payload(64, out),
        }
    }

    fn nsh(&mut self, out: &mut Vec<u8>) {
        let mut nsh: wire::Nsh = self.header();
        nsh.mdtype = self.pick(&[1, 1, 2, 2, 3]);
        let words = if nsh.mdtype == 1 { 6 } else { 2 + self.pick(&[0, 1, 5]) };
        nsh.version_ttl_len[0] &= 0x3f;
        nsh.version_ttl_len[1] = nsh.version_ttl_len[1] & 0xc0 | words;
        out.extend(nsh.as_bytes());
        let mut rest = [0; 28];
        self.fill(&mut rest);
        out.extend(&rest[..usize::from(words) * 4 - 8]);
        self.ipv4(out);
    }

    fn payload(&mut self, below: usize, out: &mut Vec<u8>) {
        let mut bytes = [0; 64];
        self.fill(&mut bytes);
        out.extend(&bytes[..self.below(below)]);
    }

    fn ipv4(&mut self, out: &mut Vec<u8>) {
        let start = out.len();
        let mut ip: wire::Ipv4 = self.header();
        let words = self.pick(&[5, 5, 5, 6, 15]);
        ip.version_ihl = 0x40 | words;
        ip.frag = self.pick(&[[0, 0], [0, 0], [0x40, 0], [0x20, 0], [0, 9], [0x20, 7], [0x80, 0]]);
        ip.proto = self.protocol();
        out.extend(ip.as_bytes());
        out.extend(std::iter::repeat_n(1, usize::from(words) * 4 - 20));
        self.transport(ip.proto, out);
        let total = u16::try_from(out.len() - start).expect("a short packet");
        out[start + 2..start + 4].copy_from_slice(&total.to_be_bytes());
    }

    fn ipv6(&mut self, out: &mut Vec<u8>) {
        let start = out.len();
        let mut ip: wire::Ipv6 = self.header();
        ip.version_class_label[0] = ip.version_class_label[0] & 15 | 0x60;
        let headers = self.pick(&[0, 0, 0, 1, 2, 3, 5]);
        let mut chain: Vec<u8> = (0..headers).map(|_| self.pick(&[0, 43, 44, 51, 60, 135])).collect();
        chain.push(self.protocol());
        ip.next = chain[0];
        out.extend(ip.as_bytes());
        for pair in chain.windows(2) {
            let [this, next] = [pair[0], pair[1]];
            let len = if this == ip_proto::FRAGMENT { 0 } else { self.pick(&[0, 0, 1, 2]) };
            let mut body = [0; 32];
            self.fill(&mut body);
            (body[0], body[1]) = (next, len);
            if this == ip_proto::FRAGMENT {
                [body[2], body[3]] = self.pick(&[[0, 0], [0, 1], [0, 8], [1, 1], [0, 6]]);
            }
            let bytes = if this == ip_proto::AH { usize::from(len) * 4 + 8 } else { usize::from(len) * 8 + 8 };
            out.extend(&body[..bytes]);
        }
        self.transport(chain[headers], out);
        let payload = u16::try_from(out.len() - start - 40).expect("a short packet");
        out[start + 4..start + 6].copy_from_slice(&payload.to_be_bytes());
    }

    fn protocol(&mut self) -> u8 {
        self.pick(&[
            ip_proto::TCP,
            ip_proto::TCP,
            ip_proto::UDP,
            ip_proto::UDP,
            ip_proto::SCTP,
            ip_proto::ICMP,
            ip_proto::IGMP,
            ip_proto::ICMPV6,
            ip_proto::ICMPV6,
            ip_proto::NONE,
            ip_proto::GRE,
            ip_proto::ESP,
        ])
    }

    fn transport(&mut self, proto: u8, out: &mut Vec<u8>) {
        match proto {
            ip_proto::TCP => {
                let mut tcp: wire::Tcp = self.header();
                let words = self.pick(&[5, 5, 8, 15]);
                tcp.offset_flags[0] = tcp.offset_flags[0] & 15 | words << 4;
                out.extend(tcp.as_bytes());
                out.extend(std::iter::repeat_n(1, usize::from(words) * 4 - 20));
            }
            ip_proto::UDP => out.extend(self.header::<wire::Udp>().as_bytes()),
            ip_proto::SCTP => out.extend(self.header::<wire::Sctp>().as_bytes()),
            ip_proto::ICMPV6 => return self.icmpv6(out),
            _ => out.extend(self.header::<wire::Icmp>().as_bytes()),
        }
        self.payload(20, out);
    }

    fn icmpv6(&mut self, out: &mut Vec<u8>) {
        let mut icmp: wire::Icmpv6 = self.header();
        icmp.kind = self.pick(&[wire::ND_SOLICIT, wire::ND_ADVERT, 128]);
        icmp.code = self.pick(&[0, 0, 0, 1]);
        out.extend(icmp.as_bytes());
        out.extend(self.header::<wire::NdTarget>().as_bytes());
        for _ in 0..self.below(4) {
            let mut option: wire::NdOption = self.header();
            option.kind = self.pick(&[1, 2, 1, 2, 5]);
            option.len = self.pick(&[1, 1, 1, 1, 2, 0]);
            if self.below(8) == 0 {
                option.mac = [0; 6];
            }
            out.extend(option.as_bytes());
            out.extend(std::iter::repeat_n(0, 8 * usize::from(option.len.saturating_sub(1))));
        }
    }

    /// Breaks the packet: cuts it, or changes bytes, the early ones more often.
    fn mutate(&mut self, out: &mut Vec<u8>) {
        if self.below(3) == 0 {
            out.truncate(self.below(out.len() + 1));
            return;
        }
        for _ in 0..=self.below(4) {
            if out.is_empty() {
                return;
            }
            let near = out.len().min(64);
            let at = if self.below(2) == 0 { self.below(near) } else { self.below(out.len()) };
            out[at] = match self.below(3) {
                0 => self.byte(),
                1 => out[at] ^ 1 << self.below(8),
                _ => self.pick(&[0, 1, 2, 5, 0x45, 0xff, 6, 17, 58]),
            };
        }
    }
}
