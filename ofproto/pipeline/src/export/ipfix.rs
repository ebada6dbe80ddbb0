//! IPFIX (RFC 7011): records of flows, made of sampled packets, with templates that say what stands in them.
//!
//! What enters: packets that the datapath has sampled, time. What leaves: messages, a record each, and templates at their interval; the
//! exporting process's own statistics at theirs (RFC 5101 section 4.3). Pure. What stands in a record is a table of elements: templates
//! and records are two loops over the same rows.

use super::collectors::Sent;
use super::write::{Writer, low32};
use crate::config::IpfixConfig;
use flow::Msec;
use flow::hash::Map;
use flow::key::{Key, VLAN_CFI};
use std::hash::{Hash, Hasher};

/// Where collectors listen (IANA).
pub const COLLECTOR_PORT: u16 = 4739;
/// Flows of a cache whatever the configuration says.
const FLOWS_MAX: usize = 1 << 18;
/// Records that wait for the next message to be sent; beyond it the oldest are lost.
const WAITING_MAX: usize = 10_000;
const VERSION: u16 = 10;
const TEMPLATE_SET: u16 = 2;
const OPTIONS_TEMPLATE_SET: u16 = 3;
/// Number of the first template.
const TEMPLATES: u16 = 256;
/// Elements of the statistics: exportingProcessId (the scope), notSentPacketTotalCount.
const EXPORTING_PROCESS: (u16, u16) = (144, 4);
const NOT_SENT_PACKETS: (u16, u16) = (167, 8);
/// Enterprise of the elements of tunnels and of 898, the name of a virtual observation point.
const VMWARE: u32 = 6876;
const VIRTUAL_OBS_ID: u16 = 898;
const VARIABLE: u16 = 65_535;
/// The bit of an element that has an enterprise.
const ENTERPRISE: u16 = 0x8000;

const ETH_IPV4: [u8; 2] = [0x08, 0x00];
const ETH_IPV6: [u8; 2] = [0x86, 0xdd];

/// Network layer of a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum L3 {
    Other,
    V4,
    V6,
}

/// Transport layer of a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum L4 {
    Other,
    Ports,
    Tcp,
    Icmp,
}

/// What a record has room for; each shape has a template.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Shape {
    vlan: bool,
    l3: L3,
    l4: L4,
    tunnel: bool,
    egress: bool,
}

impl Shape {
    const ALL_L3: [L3; 3] = [L3::Other, L3::V4, L3::V6];
    const ALL_L4: [L4; 4] = [L4::Other, L4::Ports, L4::Tcp, L4::Icmp];

    fn all() -> impl Iterator<Item = Self> {
        let l4 = |l3| if l3 == L3::Other { &Self::ALL_L4[..1] } else { &Self::ALL_L4[..] };
        [false, true].into_iter().flat_map(move |egress| {
            [false, true].into_iter().flat_map(move |tunnel| {
                [false, true].into_iter().flat_map(move |vlan| {
                    let of_l3 = move |l3| l4(l3).iter().map(move |l4| Self { vlan, l3, l4: *l4, tunnel, egress });
                    Self::ALL_L3.into_iter().flat_map(of_l3)
                })
            })
        })
    }

    fn template(self) -> u16 {
        let at = Self::all().position(|s| s == self).expect("every shape is in the list");
        TEMPLATES + u16::try_from(at).expect("few shapes")
    }

    /// Number of the template of statistics, behind those of the shapes.
    fn statistics_template() -> u16 {
        TEMPLATES + u16::try_from(Self::all().count()).expect("few shapes")
    }

    fn of(key: &Key, tunnel: bool, egress: bool) -> Self {
        let l3 = match key.eth_type {
            ETH_IPV4 => L3::V4,
            ETH_IPV6 => L3::V6,
            _ => L3::Other,
        };
        let l4 = match (l3, key.nw_proto) {
            (L3::Other, _) => L4::Other,
            (_, 6) => L4::Tcp,
            (_, 17 | 132) => L4::Ports,
            (L3::V4, 1) | (L3::V6, 58) => L4::Icmp,
            _ => L4::Other,
        };
        Self { vlan: u16::from_be_bytes(key.vlan_tci) & VLAN_CFI != 0, l3, l4, tunnel, egress }
    }
}

/// The tunnel that a packet came by or leaves by. Addresses are zero where the outer packet is IPv6, for which there are no elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Tunnel {
    kind: u8,
    proto: u8,
    /// Bytes that the id has on the wire.
    id_len: u8,
    id: u64,
    src: [u8; 4],
    dst: [u8; 4],
    tp_src: [u8; 2],
    tp_dst: [u8; 2],
}

/// Kinds of tunnels that records tell of: `Interface.type`, number, IP protocol, bytes of the id.
const TUNNELS: &[(&str, u8, u8, u8)] =
    &[("vxlan", 1, 17, 3), ("gre", 2, 47, 4), ("ip6gre", 2, 47, 4), ("lisp", 3, 17, 3), ("stt", 4, 6, 8), ("geneve", 7, 17, 3)];

impl Tunnel {
    /// That of a port of type `kind`, with the outer header as the tunnel fields of `key` tell it; `None` if it is no tunnel, or a kind
    /// without a number.
    #[must_use]
    pub fn of(kind: &str, key: &Key) -> Option<Self> {
        let (_, kind, proto, id_len) = *TUNNELS.iter().find(|(name, ..)| *name == kind)?;
        let id = u64::from_be_bytes(key.tun_id);
        Some(Self { kind, proto, id_len, id, src: key.tun_src, dst: key.tun_dst, tp_src: key.tun_tp_src, tp_dst: key.tun_tp_dst })
    }

    fn id_bytes(&self) -> Vec<u8> {
        self.id.to_be_bytes()[8 - usize::from(self.id_len).min(8)..].to_vec()
    }
}

/// What tells flows of a cache apart.
#[derive(Clone, PartialEq, Eq, Debug)]
struct FlowKey {
    shape: Shape,
    key: Box<Key>,
    tunnel: Tunnel,
    input: u32,
    output: u32,
    domain: u32,
    point: u32,
    direction: u8,
}

impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.words().hash(state);
        (self.shape, self.tunnel, self.input, self.output, self.domain, self.point, self.direction).hash(state);
    }
}

/// What a cache adds up.
#[derive(Clone, Debug, Default)]
struct Sums {
    first_ms: Msec,
    last_ms: Msec,
    packets: u64,
    l2_bytes: u64,
    ip_bytes: u64,
    ip_min: u64,
    ip_max: u64,
    /// FIN, SYN, RST, PSH, ACK, URG
    flags: [u64; 6],
    /// RFC 5102: 1 idle, 2 active timeout, 4 forced, 5 lack of resources
    end_reason: u8,
    sent_ms: Msec,
}

/// An element: number, bytes, whether a shape has it, and its value.
struct Element {
    id: u16,
    len: u16,
    /// Whose number it is, where it is not IANA's.
    enterprise: Option<u32>,
    has: fn(Shape) -> bool,
    put: Put,
}

/// Writes an element's value.
type Put = for<'w> fn(&'w mut Writer, &FlowKey, &Sums) -> &'w mut Writer;

const fn always(_: Shape) -> bool {
    true
}
fn is_ip(s: Shape) -> bool {
    s.l3 != L3::Other
}
fn is_v4(s: Shape) -> bool {
    s.l3 == L3::V4
}
fn is_v6(s: Shape) -> bool {
    s.l3 == L3::V6
}
fn has_vlan(s: Shape) -> bool {
    s.vlan
}
fn has_ports(s: Shape) -> bool {
    matches!(s.l4, L4::Ports | L4::Tcp)
}
fn is_icmp4(s: Shape) -> bool {
    s.l4 == L4::Icmp && is_v4(s)
}
fn is_icmp6(s: Shape) -> bool {
    s.l4 == L4::Icmp && is_v6(s)
}
fn is_tcp(s: Shape) -> bool {
    s.l4 == L4::Tcp
}
fn is_tunneled(s: Shape) -> bool {
    s.tunnel
}

const fn row(id: u16, len: u16, has: fn(Shape) -> bool, put: Put) -> Element {
    Element { id, len, enterprise: None, has, put }
}

/// An element of a tunnel.
const fn outer(id: u16, len: u16, put: Put) -> Element {
    Element { id, len, enterprise: Some(VMWARE), has: is_tunneled, put }
}

/// Everything that records are made of (IANA, "IPFIX Information Elements").
const ELEMENTS: &[Element] = &[
    row(138, 4, always, |w, f, _| w.u32(f.point)),
    row(61, 1, always, |w, f, _| w.u8(f.direction)),
    row(56, 6, always, |w, f, _| w.bytes(&f.key.eth_src)),
    row(80, 6, always, |w, f, _| w.bytes(&f.key.eth_dst)),
    row(256, 2, always, |w, f, _| w.bytes(&f.key.eth_type)),
    row(240, 1, always, |w, f, _| w.u8(if f.shape.vlan { 18 } else { 14 })),
    row(10, 4, always, |w, f, _| w.u32(f.input)),
    row(14, 4, |s| s.egress, |w, f, _| w.u32(f.output)),
    row(58, 2, has_vlan, |w, f, _| w.u16(u16::from_be_bytes(f.key.vlan_tci) & 0x0fff)),
    row(243, 2, has_vlan, |w, f, _| w.u16(u16::from_be_bytes(f.key.vlan_tci) & 0x0fff)),
    row(245, 1, has_vlan, |w, f, _| w.u8(f.key.vlan_tci[0] >> 5)),
    row(60, 1, is_ip, |w, f, _| w.u8(if f.shape.l3 == L3::V4 { 4 } else { 6 })),
    row(192, 1, is_ip, |w, f, _| w.u8(f.key.nw_ttl)),
    row(4, 1, is_ip, |w, f, _| w.u8(f.key.nw_proto)),
    row(195, 1, is_ip, |w, f, _| w.u8(f.key.nw_tos >> 2)),
    row(196, 1, is_ip, |w, f, _| w.u8(f.key.nw_tos >> 5)),
    row(5, 1, is_ip, |w, f, _| w.u8(f.key.nw_tos)),
    row(8, 4, is_v4, |w, f, _| w.bytes(&f.key.nw_src)),
    row(12, 4, is_v4, |w, f, _| w.bytes(&f.key.nw_dst)),
    row(27, 16, is_v6, |w, f, _| w.bytes(&f.key.ipv6_src)),
    row(28, 16, is_v6, |w, f, _| w.bytes(&f.key.ipv6_dst)),
    row(31, 4, is_v6, |w, f, _| w.bytes(&f.key.flow_label())),
    row(7, 2, has_ports, |w, f, _| w.bytes(&f.key.tp_src)),
    row(11, 2, has_ports, |w, f, _| w.bytes(&f.key.tp_dst)),
    row(176, 1, is_icmp4, |w, f, _| w.u8(f.key.tp_src[1])),
    row(177, 1, is_icmp4, |w, f, _| w.u8(f.key.tp_dst[1])),
    row(178, 1, is_icmp6, |w, f, _| w.u8(f.key.tp_src[1])),
    row(179, 1, is_icmp6, |w, f, _| w.u8(f.key.tp_dst[1])),
    outer(893, 4, |w, f, _| w.bytes(&f.tunnel.src)),
    outer(894, 4, |w, f, _| w.bytes(&f.tunnel.dst)),
    outer(895, 1, |w, f, _| w.u8(f.tunnel.proto)),
    outer(896, 2, |w, f, _| w.bytes(&f.tunnel.tp_src)),
    outer(897, 2, |w, f, _| w.bytes(&f.tunnel.tp_dst)),
    outer(891, 1, |w, f, _| w.u8(f.tunnel.kind)),
    outer(892, VARIABLE, |w, f, _| w.u8(f.tunnel.id_len).bytes(&f.tunnel.id_bytes())),
    row(158, 4, always, |w, _, s| w.u32(ago_us(s, s.first_ms))),
    row(159, 4, always, |w, _, s| w.u32(ago_us(s, s.last_ms))),
    row(2, 8, always, |w, _, s| w.u64(s.packets)),
    row(352, 8, always, |w, _, s| w.u64(s.l2_bytes)),
    row(136, 1, always, |w, _, s| w.u8(s.end_reason)),
    row(1, 8, is_ip, |w, _, s| w.u64(s.ip_bytes)),
    row(25, 8, is_ip, |w, _, s| w.u64(s.ip_min)),
    row(26, 8, is_ip, |w, _, s| w.u64(s.ip_max)),
    row(219, 8, is_tcp, |w, _, s| w.u64(s.flags[0])),
    row(218, 8, is_tcp, |w, _, s| w.u64(s.flags[1])),
    row(220, 8, is_tcp, |w, _, s| w.u64(s.flags[2])),
    row(221, 8, is_tcp, |w, _, s| w.u64(s.flags[3])),
    row(222, 8, is_tcp, |w, _, s| w.u64(s.flags[4])),
    row(223, 8, is_tcp, |w, _, s| w.u64(s.flags[5])),
];

/// Microseconds from a moment to the export (RFC 5102 section 5.9.10).
fn ago_us(s: &Sums, at: Msec) -> u32 {
    low32(u64::try_from(s.sent_ms - at).unwrap_or(0) * 1000)
}

/// A sampled packet.
#[derive(Clone, Copy, Debug)]
pub struct Sampled<'a> {
    pub key: &'a Key,
    pub len: u32,
    /// The IP header is sound and what follows it known (of a packet whose Ethernet type promises one).
    pub sound: bool,
    pub input: u32,
    /// `None`: sampled as it came in.
    pub output: Option<u32>,
    /// Observation domain and point that a `sample` action names.
    pub observed: Option<(u32, u32)>,
    /// What the packet came by, or leaves by.
    pub tunnel: Option<Tunnel>,
}

/// What NXST_IPFIX_BRIDGE and NXST_IPFIX_FLOW tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub flows: u64,
    pub current_flows: u64,
    pub packets: u64,
    pub ipv4: u64,
    pub ipv6: u64,
    pub errors: u64,
    pub ipv4_errors: u64,
    pub ipv6_errors: u64,
    pub sent: u64,
    pub send_errors: u64,
}

/// An exporter.
#[derive(Debug)]
pub struct Ipfix {
    config: IpfixConfig,
    /// Data records sent, as sequence numbers count them.
    sequence: u32,
    templates_at: Map<u32, Msec>,
    cache: Map<FlowKey, Sums>,
    waiting: Vec<(FlowKey, Sums)>,
    totals: Totals,
    /// Packets of records that were lost before they could be sent.
    lost_packets: u64,
    /// When the statistics were last sent.
    told_ms: Msec,
}

impl Ipfix {
    /// With an empty cache.
    #[must_use]
    pub fn new(config: IpfixConfig, now: Msec) -> Self {
        Self {
            config,
            sequence: 0,
            templates_at: Map::default(),
            cache: Map::default(),
            waiting: Vec::new(),
            totals: Totals::default(),
            lost_packets: 0,
            told_ms: now,
        }
    }

    /// As configured.
    #[must_use]
    pub fn config(&self) -> &IpfixConfig {
        &self.config
    }

    /// Totals since the exporter began.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals { current_flows: self.cache.len() as u64, ..self.totals }
    }

    /// Messages have gone out, or not.
    pub fn sent(&mut self, sent: Sent) {
        self.totals.sent += sent.ok;
        self.totals.send_errors += sent.failed;
    }

    /// Takes up a sampled packet.
    pub fn sample(&mut self, s: &Sampled<'_>, now: Msec) {
        self.count(s);
        let (domain, point) = s.observed.unwrap_or((self.config.obs_domain_id, self.config.obs_point_id));
        let tunnel = s.tunnel.filter(|_| self.config.tunnel_sampling);
        let shape = Shape::of(s.key, tunnel.is_some(), s.output.is_some());
        let key = FlowKey {
            shape,
            key: Box::new(told_of(s.key)),
            tunnel: tunnel.unwrap_or_default(),
            input: s.input,
            output: s.output.unwrap_or(0),
            domain,
            point,
            direction: u8::from(s.output.is_some()),
        };
        let known = self.cache.contains_key(&key);
        if !known && self.cache.len() >= self.config.cache_max_flows.clamp(1, FLOWS_MAX) {
            self.expire_oldest();
        }
        if !known {
            self.totals.flows += 1;
        }
        let sums = self.cache.entry(key.clone()).or_insert_with(|| Sums { first_ms: now, ..Sums::default() });
        add(sums, s, shape, now);
        if self.config.cache_active_timeout_s == 0 || self.config.cache_max_flows == 0 {
            self.finish(&key, 4);
        }
    }

    fn count(&mut self, s: &Sampled<'_>) {
        let t = &mut self.totals;
        t.packets += 1;
        let (ok, bad) = match s.key.eth_type {
            ETH_IPV4 => (&mut t.ipv4, &mut t.ipv4_errors),
            ETH_IPV6 => (&mut t.ipv6, &mut t.ipv6_errors),
            _ => return,
        };
        if s.sound {
            *ok += 1;
        } else {
            *bad += 1;
            t.errors += 1;
        }
    }

    fn expire_oldest(&mut self) {
        if let Some(key) = self.cache.iter().min_by_key(|(_, s)| s.first_ms).map(|(k, _)| k.clone()) {
            self.finish(&key, 5);
        }
    }

    fn finish(&mut self, key: &FlowKey, end_reason: u8) {
        let Some((key, sums)) = self.cache.remove_entry(key) else { return };
        if self.waiting.len() >= WAITING_MAX {
            self.lost_packets += self.waiting.remove(0).1.packets;
        }
        self.waiting.push((key, Sums { end_reason, ..sums }));
    }

    /// Records of flows that have lasted, templates that are due; gives messages. `wall_ms` is the time since the Unix epoch.
    pub fn run(&mut self, now: Msec, wall_ms: i64) -> Vec<Vec<u8>> {
        let limit = now - Msec::from(self.config.cache_active_timeout_s) * 1000;
        let lasted: Vec<FlowKey> = self.cache.iter().filter(|(_, s)| s.first_ms <= limit).map(|(k, _)| k.clone()).collect();
        lasted.iter().for_each(|key| self.finish(key, 2));
        let mut messages = Vec::new();
        for (key, sums) in std::mem::take(&mut self.waiting) {
            self.templates_if_due(key.domain, now, wall_ms, &mut messages);
            messages.push(self.message(&key, Sums { sent_ms: now, ..sums }, wall_ms));
        }
        if now - self.told_ms >= Msec::from(self.config.stats_interval_s) * 1000 {
            self.told_ms = now;
            let domain = self.config.obs_domain_id;
            self.templates_if_due(domain, now, wall_ms, &mut messages);
            messages.push(self.statistics(domain, wall_ms));
        }
        messages
    }

    fn templates_if_due(&mut self, domain: u32, now: Msec, wall_ms: i64, messages: &mut Vec<Vec<u8>>) {
        let again = now - Msec::from(self.config.template_interval_s) * 1000;
        if self.templates_at.get(&domain).is_none_or(|at| *at <= again) {
            self.templates_at.insert(domain, now);
            messages.extend(self.templates(domain, wall_ms));
            messages.push(self.options_template(domain, wall_ms));
        }
    }

    /// The template of statistics: one field, within the scope of the exporting process (RFC 7011 section 3.4.2.2).
    fn options_template(&self, domain: u32, wall_ms: i64) -> Vec<u8> {
        let mut w = self.header(domain, wall_ms);
        w.u16(OPTIONS_TEMPLATE_SET).u16(0).u16(Shape::statistics_template()).u16(2).u16(1);
        for (id, len) in [EXPORTING_PROCESS, NOT_SENT_PACKETS] {
            w.u16(id).u16(len);
        }
        closed(w)
    }

    /// The exporting process's statistics: what could not be sent, in messages and in packets that were never told of.
    fn statistics(&mut self, domain: u32, wall_ms: i64) -> Vec<u8> {
        let mut w = self.header(domain, wall_ms);
        w.u16(Shape::statistics_template()).u16(0).u32(std::process::id()).u64(self.totals.send_errors + self.lost_packets);
        self.sequence = self.sequence.wrapping_add(1);
        closed(w)
    }

    fn header(&self, domain: u32, wall_ms: i64) -> Writer {
        let mut w = Writer::default();
        w.u16(VERSION).u16(0).u32(low32(u64::try_from(wall_ms / 1000).unwrap_or(0))).u32(self.sequence).u32(domain);
        w
    }

    /// All templates, in messages of up to about a kilobyte.
    fn templates(&self, domain: u32, wall_ms: i64) -> Vec<Vec<u8>> {
        const PER_MESSAGE: usize = 6;
        let shapes: Vec<Shape> = Shape::all().collect();
        let message = |shapes: &[Shape]| {
            let mut w = self.header(domain, wall_ms);
            w.u16(TEMPLATE_SET).u16(0);
            shapes.iter().for_each(|s| self.put_template(&mut w, *s));
            closed(w)
        };
        shapes.chunks(PER_MESSAGE).map(message).collect()
    }

    fn put_template(&self, w: &mut Writer, shape: Shape) {
        let elements: Vec<&Element> = ELEMENTS.iter().filter(|e| (e.has)(shape)).collect();
        let named = self.config.virtual_obs_id.is_some();
        let count = u16::try_from(elements.len()).expect("few elements") + u16::from(named);
        w.u16(shape.template()).u16(count);
        for element in elements {
            match element.enterprise {
                None => w.u16(element.id).u16(element.len),
                Some(number) => w.u16(element.id | ENTERPRISE).u16(element.len).u32(number),
            };
        }
        if named {
            w.u16(VIRTUAL_OBS_ID | ENTERPRISE).u16(VARIABLE).u32(VMWARE);
        }
    }

    fn message(&mut self, key: &FlowKey, sums: Sums, wall_ms: i64) -> Vec<u8> {
        let mut w = self.header(key.domain, wall_ms);
        w.u16(key.shape.template()).u16(0);
        for element in ELEMENTS.iter().filter(|e| (e.has)(key.shape)) {
            (element.put)(&mut w, key, &sums);
        }
        if let Some(name) = &self.config.virtual_obs_id {
            let name = &name.as_bytes()[..name.len().min(254)];
            w.u8(u8::try_from(name.len()).expect("at most 254")).bytes(name);
        }
        self.sequence = self.sequence.wrapping_add(1);
        closed(w)
    }
}

/// Writes the lengths of a message with one set.
fn closed(mut w: Writer) -> Vec<u8> {
    const HEADER: usize = 16;
    let len = u16::try_from(w.0.len()).expect("a message is short");
    w.set_u16(2, len);
    w.set_u16(HEADER + 2, len - 16);
    w.0
}

/// The fields of a key that records tell of; the rest must not tell flows apart.
fn told_of(key: &Key) -> Key {
    Key {
        eth_src: key.eth_src,
        eth_dst: key.eth_dst,
        eth_type: key.eth_type,
        vlan_tci: key.vlan_tci,
        nw_proto: key.nw_proto,
        nw_tos: key.nw_tos,
        nw_ttl: key.nw_ttl,
        nw_src: key.nw_src,
        nw_dst: key.nw_dst,
        ipv6_src: key.ipv6_src,
        ipv6_dst: key.ipv6_dst,
        ipv6_label: key.flow_label(),
        tp_src: key.tp_src,
        tp_dst: key.tp_dst,
        ..Key::ZERO
    }
}

fn add(sums: &mut Sums, s: &Sampled<'_>, shape: Shape, now: Msec) {
    let l2 = u64::from(s.len);
    let ip = l2.saturating_sub(if shape.vlan { 18 } else { 14 });
    sums.last_ms = now;
    sums.ip_min = if sums.packets == 0 { ip } else { sums.ip_min.min(ip) };
    sums.ip_max = sums.ip_max.max(ip);
    sums.packets += 1;
    sums.l2_bytes += l2;
    sums.ip_bytes += ip;
    let flags = u16::from_be_bytes(s.key.tcp_flags);
    for (bit, count) in sums.flags.iter_mut().enumerate() {
        *count += u64::from(flags >> bit & 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipfix(timeout_s: u32) -> Ipfix {
        let config = IpfixConfig {
            targets: Vec::new(),
            sampling: 1,
            obs_domain_id: 7,
            obs_point_id: 9,
            cache_active_timeout_s: timeout_s,
            cache_max_flows: 2,
            stats_interval_s: 600,
            template_interval_s: 600,
            input_sampling: true,
            output_sampling: true,
            tunnel_sampling: true,
            virtual_obs_id: Some("here".into()),
        };
        Ipfix::new(config, 0)
    }

    fn key(n: u8) -> Key {
        Key { eth_type: ETH_IPV4, nw_proto: 6, nw_src: [10, 0, 0, n], tcp_flags: [0, 2], ..Key::ZERO }
    }

    fn sample(e: &mut Ipfix, n: u8, now: Msec) {
        let key = key(n);
        e.sample(&Sampled { key: &key, len: 60, sound: true, input: 3, output: None, observed: None, tunnel: None }, now);
    }

    fn data(messages: &[Vec<u8>]) -> Vec<&Vec<u8>> {
        messages.iter().filter(|m| u16::from_be_bytes([m[16], m[17]]) >= TEMPLATES).collect()
    }

    /// A collector that knows nothing but templates reads every record to its end.
    #[test]
    fn records_are_as_long_as_their_templates_say() {
        let e = ipfix(0);
        let mut lengths = Map::default();
        for message in e.templates(7, 0) {
            assert_eq!(usize::from(u16::from_be_bytes([message[2], message[3]])), message.len());
            let mut at = &message[20..];
            while let [a, b, c, d, rest @ ..] = at {
                let count = u16::from_be_bytes([*c, *d]);
                let mut len = 0;
                at = rest;
                for _ in 0..count {
                    let (id, size) = (u16::from_be_bytes([at[0], at[1]]), u16::from_be_bytes([at[2], at[3]]));
                    let enterprise = id & 0x8000 != 0;
                    // The name "here", and the id of a tunnel of no kind.
                    len += match (id & !ENTERPRISE, size) {
                        (VIRTUAL_OBS_ID, _) => 1 + 4,
                        (_, VARIABLE) => 1,
                        (_, size) => usize::from(size),
                    };
                    at = &at[if enterprise { 8 } else { 4 }..];
                }
                lengths.insert(u16::from_be_bytes([*a, *b]), len);
            }
        }
        assert_eq!(lengths.len(), Shape::all().count());
        for shape in Shape::all() {
            let mut e = ipfix(0);
            let tunnel = Tunnel::default();
            let flow =
                FlowKey { shape, key: Box::new(Key::ZERO), tunnel, input: 1, output: 2, domain: 7, point: 9, direction: 0 };
            assert_eq!(e.message(&flow, Sums::default(), 0).len(), 20 + lengths[&shape.template()], "{shape:?}");
        }
    }

    #[test]
    fn without_a_cache_each_packet_is_a_record() {
        let mut e = ipfix(0);
        sample(&mut e, 1, 0);
        sample(&mut e, 1, 0);
        let first = e.run(0, 5000);
        assert_eq!((data(&first).len(), first.len() > 2), (2, true), "templates come first");
        assert_eq!(first.last().unwrap()[4..16], [0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 7], "time, sequence, domain");
        sample(&mut e, 1, 1);
        assert_eq!(e.run(1, 0).len(), 1, "templates are sent at their interval");
        sample(&mut e, 1, 600_000);
        assert!(e.run(600_000, 0).len() > 1);
        let t = e.totals();
        assert_eq!((t.packets, t.flows, t.current_flows, t.ipv4, t.errors), (4, 4, 0, 4, 0));
    }

    #[test]
    fn a_cache_adds_up_until_the_timeout_or_until_it_is_full() {
        let mut e = ipfix(10);
        for now in 0..5 {
            sample(&mut e, 1, now);
        }
        sample(&mut e, 2, 5);
        assert!(e.run(9_999, 0).is_empty());
        let lasted = e.run(10_000, 0);
        assert_eq!(data(&lasted).len(), 1);
        assert_eq!(e.totals().current_flows, 1);
        sample(&mut e, 3, 10_001);
        sample(&mut e, 4, 10_002);
        assert_eq!(data(&e.run(10_002, 0)).len(), 1, "the oldest makes room");
    }

    #[test]
    fn what_cannot_be_read_is_counted() {
        let mut e = ipfix(0);
        let key = key(1);
        e.sample(
            &Sampled { key: &key, len: 14, sound: false, input: 3, output: Some(4), observed: Some((1, 2)), tunnel: None },
            0,
        );
        let t = e.totals();
        assert_eq!((t.packets, t.ipv4, t.errors, t.ipv4_errors), (1, 0, 1, 1));
    }

    #[test]
    fn a_tunnel_is_told_with_its_id_as_long_as_on_the_wire() {
        let mut e = ipfix(0);
        let key = Key {
            tun_id: 0x0001_0203_u64.to_be_bytes(),
            tun_src: [1, 1, 1, 1],
            tun_dst: [2; 4],
            tun_tp_dst: [0x12, 0xb5],
            ..key(1)
        };
        assert_eq!(Tunnel::of("dummy", &key), None);
        let tunnel = Tunnel::of("vxlan", &key);
        e.sample(&Sampled { key: &key, len: 60, sound: true, input: 3, output: None, observed: None, tunnel }, 0);
        let messages = e.run(0, 0);
        let record = data(&messages)[0];
        let told = [1, 1, 1, 1, 2, 2, 2, 2, 17, 0, 0, 0x12, 0xb5, 1, 3, 1, 2, 3];
        assert!(record.windows(told.len()).any(|w| w == told), "{record:x?}");
        e.config.tunnel_sampling = false;
        e.sample(&Sampled { key: &key, len: 60, sound: true, input: 3, output: None, observed: None, tunnel }, 0);
        let messages = e.run(0, 0);
        assert!(!data(&messages)[0].windows(told.len()).any(|w| w == told));
    }

    #[test]
    fn the_exporter_tells_of_itself_at_its_interval() {
        let mut e = ipfix(10);
        assert!(e.run(599_999, 0).is_empty());
        e.sent(Sent { ok: 4, failed: 3 });
        let told = e.run(600_000, 0);
        let template = &told[told.len() - 2];
        assert_eq!(template[16..18], [0, 3], "an options template");
        assert_eq!(
            template[20..],
            [&Shape::statistics_template().to_be_bytes()[..], &[0, 2, 0, 1, 0, 144, 0, 4, 0, 167, 0, 8]].concat()
        );
        let record = told.last().unwrap();
        assert_eq!(record[16..18], Shape::statistics_template().to_be_bytes());
        assert_eq!(record[24..], 3u64.to_be_bytes());
        assert_eq!(e.run(600_001, 0).len(), 0);
        assert_eq!(e.run(1_200_000, 0).len(), told.len(), "templates are due again as well");
    }
}
