//! Options of a tunnel port: from `Interface.options` to a `Config`, and back to what `dpif/show` prints.
//!
//! What enters: pairs of words. What leaves: a whole configuration with warnings, or the error that `Interface.error` shows.
//! Names, defaults and texts are those of ovs-vswitchd.conf.db(5), "Tunnel Options".

use super::kind::{Carries, Kind};
use flow::forms::Ip6;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// TTL of outer headers unless configured (RFC 1700).
const TTL_DEFAULT: u8 = 64;
const DSCP: u8 = 0xfc;
const ERSPAN_INDEX_MAX: u32 = 0xf_ffff;
const ERSPAN_HARDWARE_MAX: u32 = 0x3f;
/// Segments of a routing header.
pub const SEGMENTS_MAX: usize = 6;
const ETH_MPLS: u16 = 0x8847;
const ETH_IPV4: u16 = 0x0800;
/// ::ffff:0:0, beneath which IPv4 addresses stand (RFC 4291, 2.5.5.2).
const MAPPED: u128 = 0xffff_0000_0000;

/// An address as 128 bits: IPv4 ones mapped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Addr(pub u128);

impl Addr {
    /// IPv4, or IPv6 beneath which no IPv4 address is.
    #[must_use]
    pub fn is_v4(self) -> bool {
        self.0 >> 32 == MAPPED >> 32
    }

    /// The IPv4 address mapped.
    #[must_use]
    pub fn v4(address: [u8; 4]) -> Self {
        Self(MAPPED | u128::from(u32::from_be_bytes(address)))
    }

    /// The low four bytes if it is IPv4, else zero.
    #[must_use]
    pub fn to_v4(self) -> [u8; 4] {
        if self.is_v4() { u32::try_from(self.0 & 0xffff_ffff).unwrap_or(0).to_be_bytes() } else { [0; 4] }
    }

    /// All sixteen bytes if it is IPv6, else zero.
    #[must_use]
    pub fn to_v6(self) -> [u8; 16] {
        if self.is_v4() { [0; 16] } else { self.0.to_be_bytes() }
    }

    /// Of an IPv4 and an IPv6 field of which at most one is set.
    #[must_use]
    pub fn of_fields(v4: [u8; 4], v6: [u8; 16]) -> Self {
        if v4 == [0; 4] { Self(u128::from_be_bytes(v6)) } else { Self::v4(v4) }
    }

    /// Reads an address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.contains(':') {
            let unbracketed = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
            return unbracketed.parse::<Ipv6Addr>().ok().map(|a| Self(a.to_bits()));
        }
        text.parse::<Ipv4Addr>().ok().map(|a| Self::v4(a.octets()))
    }

    /// 224.0.0.0/4 and ff00::/8.
    #[must_use]
    pub fn is_multicast(self) -> bool {
        if self.is_v4() { self.to_v4()[0] >> 4 == 0xe } else { self.0 >> 120 == 0xff }
    }
}

impl From<IpAddr> for Addr {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(a) => Self::v4(a.octets()),
            IpAddr::V6(a) => Self(a.to_bits()),
        }
    }
}

impl std::fmt::Display for Addr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_v4() { Ipv4Addr::from(self.to_v4()).fmt(f) } else { Ip6(self.0).fmt(f) }
    }
}

impl std::fmt::Debug for Addr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// A value that is configured, or that flows set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ByFlow<T> {
    Fixed(T),
    Flow,
}

impl<T: Default> Default for ByFlow<T> {
    fn default() -> Self {
        Self::Fixed(T::default())
    }
}

impl<T: Copy> ByFlow<T> {
    /// The configured value, else the flow's.
    pub fn or(self, of_flow: T) -> T {
        match self {
            Self::Fixed(value) => value,
            Self::Flow => of_flow,
        }
    }
}

/// A value that is configured, or that the inner packet has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outer {
    Fixed(u8),
    Inherit,
}

/// `options:packet_type`
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PacketTypes {
    /// Frames only.
    #[default]
    LegacyL2,
    /// Packets only; the pipeline sees them as frames without addresses.
    LegacyL3,
    /// Both, as they are.
    Aware,
}

impl PacketTypes {
    const NAMES: [(Self, &str); 3] = [(Self::LegacyL2, "legacy_l2"), (Self::LegacyL3, "legacy_l3"), (Self::Aware, "ptap")];
}

/// `options:srv6_flowlabel`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FlowLabel {
    #[default]
    Copy,
    Zero,
    Compute,
}

/// A tunnel port's configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    pub kind: Kind,
    pub remote: ByFlow<Addr>,
    /// `Fixed(Addr(0))` is any.
    pub local: ByFlow<Addr>,
    /// `None`: packets have none.
    pub in_key: Option<ByFlow<u64>>,
    pub out_key: Option<ByFlow<u64>>,
    pub tos: Outer,
    pub ttl: Outer,
    pub dont_fragment: bool,
    /// `None`: as the outer protocol wants it.
    pub csum: Option<bool>,
    pub seq: bool,
    pub dst_port: u16,
    pub gbp: bool,
    pub gpe: bool,
    pub packet_types: PacketTypes,
    pub egress_pkt_mark: Option<u32>,
    pub erspan_ver: ByFlow<u8>,
    pub erspan_idx: ByFlow<u32>,
    pub erspan_dir: ByFlow<u8>,
    pub erspan_hwid: ByFlow<u8>,
    /// Ethernet type of what is inside a bare UDP tunnel.
    pub payload_type: u16,
    /// Related Ethernet types are carried as well (IPv6 with `ip`, multicast with `mpls`).
    pub multi_protocol: bool,
    /// In the order in which they are visited.
    pub segments: Vec<Addr>,
    pub flow_label: FlowLabel,
}

/// Why a configuration is refused; the text goes to `Interface.error`, all warnings before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub text: String,
}

/// Reads options. Gives the configuration with warnings, each a line.
pub fn parse(name: &str, kind: Kind, options: &[(String, String)]) -> Result<(Config, Vec<String>), Refused> {
    Parser { name, kind, warnings: Vec::new(), config: Config::new(kind) }.run(options)
}

impl Config {
    /// Nothing configured yet.
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            remote: ByFlow::default(),
            local: ByFlow::default(),
            in_key: None,
            out_key: None,
            tos: Outer::Fixed(0),
            ttl: Outer::Fixed(0),
            dont_fragment: true,
            csum: None,
            seq: false,
            dst_port: kind.row().dst_port.unwrap_or(0),
            gbp: false,
            gpe: false,
            packet_types: PacketTypes::default(),
            egress_pkt_mark: None,
            erspan_ver: ByFlow::default(),
            erspan_idx: ByFlow::default(),
            erspan_dir: ByFlow::default(),
            erspan_hwid: ByFlow::default(),
            payload_type: 0,
            multi_protocol: false,
            segments: Vec::new(),
            flow_label: FlowLabel::default(),
        }
    }

    /// The name of the datapath port that packets of this tunnel come and go by.
    #[must_use]
    pub fn backing(&self) -> String {
        let row = self.kind.row();
        if row.dst_port.is_some() { format!("{}_{}", row.backing, self.dst_port) } else { row.backing.to_owned() }
    }

    fn carries(&self) -> (bool, bool) {
        match self.kind.row().carries {
            Carries::Frames => (true, false),
            Carries::Packets => (false, true),
            Carries::Both => (true, true),
            Carries::BothIfGpe => (true, self.gpe),
        }
    }

    fn default_types(&self) -> PacketTypes {
        if self.carries() == (false, true) { PacketTypes::LegacyL3 } else { PacketTypes::LegacyL2 }
    }
}

struct Parser<'a> {
    name: &'a str,
    kind: Kind,
    warnings: Vec<String>,
    config: Config,
}

impl Parser<'_> {
    fn run(mut self, options: &[(String, String)]) -> Result<(Config, Vec<String>), Refused> {
        let mut options: Vec<(&str, &str)> = options.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        options.sort_unstable();
        for (key, value) in &options {
            self.option(key, value).map_err(|text| self.refuse(text))?;
        }
        let get = |key: &str| options.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        self.packet_types(get("packet_type")).map_err(|text| self.refuse(text))?;
        self.addresses().map_err(|text| self.refuse(text))?;
        if self.config.ttl == Outer::Fixed(0) {
            self.config.ttl = Outer::Fixed(TTL_DEFAULT);
        }
        self.config.in_key = get("in_key").or_else(|| get("key")).map(parse_key);
        self.config.out_key = get("out_key").or_else(|| get("key")).map(parse_key);
        Ok((self.config, self.warnings))
    }

    fn refuse(&self, text: String) -> Refused {
        let lines: Vec<String> = self.warnings.iter().cloned().chain([text]).collect();
        Refused { text: lines.join("\n") }
    }

    fn warn(&mut self, text: String) {
        self.warnings.push(format!("{}: {text}", self.name));
    }

    /// One option; an error ends it.
    fn option(&mut self, key: &str, value: &str) -> Result<(), String> {
        let row = self.kind.row();
        let config = &mut self.config;
        match key {
            "remote_ip" | "local_ip" => return self.address(key, value),
            "tos" => self.tos(value),
            "ttl" if value == "inherit" => config.ttl = Outer::Inherit,
            "ttl" => config.ttl = Outer::Fixed(u8::try_from(number(value) & 0xff).unwrap_or(0)),
            "dst_port" if row.dst_port.is_some() => config.dst_port = u16::try_from(number(value) & 0xffff).unwrap_or(0),
            "csum" if row.has_csum => config.csum = boolean(value),
            "seq" if row.has_seq => config.seq = value == "true",
            "df_default" => config.dont_fragment = value != "false",
            "key" | "in_key" | "out_key" | "packet_type" => {}
            "exts" if self.kind == Kind::Vxlan => self.extensions(value),
            "egress_pkt_mark" => config.egress_pkt_mark = Some(u32::try_from(number(value) & 0xffff_ffff).unwrap_or(0)),
            "erspan_ver" | "erspan_idx" | "erspan_dir" | "erspan_hwid" => return self.erspan(key, value),
            "payload_type" => return self.payload(value),
            "srv6_segs" if self.kind == Kind::Srv6 => return self.segments(value),
            "srv6_flowlabel" if self.kind == Kind::Srv6 => return self.flow_label(value),
            // For ovs-monitor-ipsec.
            "remote_cert" | "remote_name" | "psk" => {}
            _ => self.warn(format!("unknown {} argument '{key}'", self.kind)),
        }
        Ok(())
    }

    fn address(&mut self, key: &str, value: &str) -> Result<(), String> {
        let remote = key == "remote_ip";
        let parsed = match (value, Addr::parse(value)) {
            ("flow", _) => ByFlow::Flow,
            (_, Some(address)) if remote && address.is_multicast() => {
                return Err(format!("{}: multicast remote_ip={value} not allowed", self.name));
            }
            (_, Some(address)) => ByFlow::Fixed(address),
            (_, None) => {
                self.warn(format!("bad {} '{key}'", self.kind));
                return Ok(());
            }
        };
        if remote {
            self.config.remote = parsed;
        } else {
            self.config.local = parsed;
        }
        Ok(())
    }

    fn tos(&mut self, value: &str) {
        let parsed = parse_int(value).and_then(|v| u8::try_from(v).ok()).filter(|v| v & !DSCP == 0);
        match (value, parsed) {
            ("inherit", _) => self.config.tos = Outer::Inherit,
            (_, Some(tos)) => self.config.tos = Outer::Fixed(tos),
            (_, None) => self.warn(format!("invalid TOS {value}")),
        }
    }

    fn extensions(&mut self, value: &str) {
        for extension in value.split(',').filter(|e| !e.is_empty()) {
            match extension {
                "gbp" => self.config.gbp = true,
                "gpe" => self.config.gpe = true,
                _ => self.warn(format!("unknown extension '{extension}'")),
            }
        }
    }

    fn erspan(&mut self, key: &str, value: &str) -> Result<(), String> {
        let flow = value == "flow";
        let fixed = match key {
            "erspan_idx" | "erspan_hwid" => hexadecimal(value),
            _ => number(value),
        };
        let (what, fits) = match key {
            "erspan_ver" => ("version", fixed == 1 || fixed == 2),
            "erspan_idx" => ("index", fixed <= u64::from(ERSPAN_INDEX_MAX)),
            "erspan_dir" => ("direction", fixed <= 1),
            _ => ("hardware ID", fixed <= u64::from(ERSPAN_HARDWARE_MAX)),
        };
        if !flow && !fits {
            return Err(format!("{}: invalid erspan {what}: {value}", self.name));
        }
        let byte = if flow { ByFlow::Flow } else { ByFlow::Fixed(u8::try_from(fixed & 0xff).unwrap_or(0)) };
        let config = &mut self.config;
        match key {
            "erspan_ver" => {
                config.erspan_ver = byte;
                if flow {
                    (config.erspan_idx, config.erspan_dir, config.erspan_hwid) = (ByFlow::Flow, ByFlow::Flow, ByFlow::Flow);
                }
            }
            "erspan_idx" if flow => config.erspan_idx = ByFlow::Flow,
            "erspan_idx" => config.erspan_idx = ByFlow::Fixed(u32::try_from(fixed).unwrap_or(0)),
            "erspan_dir" => config.erspan_dir = byte,
            _ => config.erspan_hwid = byte,
        }
        Ok(())
    }

    fn payload(&mut self, value: &str) -> Result<(), String> {
        let (eth_type, multi) = match value {
            "mpls" => (ETH_MPLS, true),
            "ip" => (ETH_IPV4, true),
            _ => {
                let parsed = parse_int(value).and_then(|v| u16::try_from(v).ok());
                (parsed.ok_or_else(|| format!("{}: invalid payload_type {value}", self.name))?, false)
            }
        };
        (self.config.payload_type, self.config.multi_protocol) = (eth_type, multi);
        Ok(())
    }

    fn segments(&mut self, value: &str) -> Result<(), String> {
        let parsed: Option<Vec<Addr>> = value.split(',').map(|s| Addr::parse(s.trim()).filter(|a| !a.is_v4())).collect();
        match parsed {
            Some(segments) if segments.len() <= SEGMENTS_MAX => {
                self.config.segments = segments;
                Ok(())
            }
            Some(_) | None => Err(format!("{}: bad srv6 'srv6_segs'", self.name)),
        }
    }

    fn flow_label(&mut self, value: &str) -> Result<(), String> {
        self.config.flow_label = match value {
            "zero" => FlowLabel::Zero,
            "compute" => FlowLabel::Compute,
            "copy" => FlowLabel::Copy,
            _ => return Err(format!("{}: invalid srv6 flow label: {value}", self.name)),
        };
        Ok(())
    }

    fn packet_types(&mut self, value: Option<&str>) -> Result<(), String> {
        let (frames, packets) = self.config.carries();
        let Some(value) = value else {
            self.config.packet_types = self.config.default_types();
            return Ok(());
        };
        let Some((types, _)) = PacketTypes::NAMES.iter().find(|(_, n)| *n == value) else {
            return Err(format!("{}: unknown packet_type '{value}'", self.name));
        };
        let kind = match (self.kind, self.config.gpe) {
            (Kind::Vxlan, true) => "VXLAN-GPE",
            (Kind::Vxlan, false) => "VXLAN (without GPE)",
            (kind, _) => kind.row().name,
        };
        let layer = match types {
            PacketTypes::LegacyL2 if !frames => "L2",
            PacketTypes::LegacyL3 if !packets => "L3",
            PacketTypes::LegacyL2 | PacketTypes::LegacyL3 | PacketTypes::Aware => {
                self.config.packet_types = *types;
                return Ok(());
            }
        };
        Err(format!("{}: {value} configured on {kind} tunnel that cannot carry {layer} traffic", self.name))
    }

    fn addresses(&mut self) -> Result<(), String> {
        let (name, kind) = (self.name, self.kind);
        let config = &mut self.config;
        if kind == Kind::Srv6 && !config.segments.is_empty() {
            match config.remote {
                ByFlow::Fixed(Addr(0)) => config.remote = ByFlow::Fixed(config.segments[0]),
                ByFlow::Fixed(remote) if remote != config.segments[0] => {
                    return Err(format!("{name}: {kind} type requires 'remote_ip' to be the first of 'srv6_segs'"));
                }
                ByFlow::Fixed(_) | ByFlow::Flow => {}
            }
        }
        match (config.local, config.remote) {
            (_, ByFlow::Fixed(Addr(0))) => Err(format!("{name}: {kind} type requires valid 'remote_ip' argument")),
            (ByFlow::Flow, ByFlow::Fixed(_)) => {
                Err(format!("{name}: {kind} type requires 'remote_ip=flow' with 'local_ip=flow'"))
            }
            (ByFlow::Fixed(local), ByFlow::Fixed(remote)) if local != Addr(0) && local.is_v4() != remote.is_v4() => {
                Err(format!("{name}: 'remote_ip' and 'local_ip' has to be of the same address family"))
            }
            (ByFlow::Fixed(_) | ByFlow::Flow, ByFlow::Fixed(_) | ByFlow::Flow) => Ok(()),
        }
    }
}

fn parse_key(value: &str) -> ByFlow<u64> {
    if value == "flow" { ByFlow::Flow } else { ByFlow::Fixed(number(value)) }
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// The number that a text begins with, as C reads it (hexadecimal after 0x, octal after 0); 0 for none.
fn number(text: &str) -> u64 {
    let text = text.trim_start();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => leading(digits, 16),
        None if text.starts_with('0') => leading(text, 8),
        None => leading(text, 10),
    }
}

fn hexadecimal(text: &str) -> u64 {
    leading(text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text), 16)
}

fn leading(text: &str, radix: u32) -> u64 {
    let end = text.find(|c: char| !c.is_digit(radix)).unwrap_or(text.len());
    u64::from_str_radix(&text[..end], radix).unwrap_or(if end == 0 { 0 } else { u64::MAX })
}

/// A number that is the whole text.
fn parse_int(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u64::from_str_radix(&text[1..], 8).ok(),
        None => text.parse().ok(),
    }
}

impl Config {
    /// What differs from the defaults, as options.
    #[must_use]
    pub fn to_options(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let mut put = |key: &str, value: String| out.push((key.to_owned(), value));
        let address = |a: ByFlow<Addr>| match a {
            ByFlow::Flow => Some("flow".to_owned()),
            ByFlow::Fixed(Addr(0)) => None,
            ByFlow::Fixed(address) => Some(address.to_string()),
        };
        if let Some(text) = address(self.remote) {
            put("remote_ip", text);
        }
        if let Some(text) = address(self.local) {
            put("local_ip", text);
        }
        let key = |k: ByFlow<u64>| match k {
            ByFlow::Flow => "flow".to_owned(),
            ByFlow::Fixed(value) => value.to_string(),
        };
        match (self.in_key, self.out_key) {
            (Some(a), Some(b)) if a == b => put("key", key(a)),
            (inward, outward) => {
                inward.into_iter().for_each(|k| put("in_key", key(k)));
                outward.into_iter().for_each(|k| put("out_key", key(k)));
            }
        }
        match self.ttl {
            Outer::Inherit => put("ttl", "inherit".to_owned()),
            Outer::Fixed(TTL_DEFAULT) => {}
            Outer::Fixed(ttl) => put("ttl", ttl.to_string()),
        }
        match self.tos {
            Outer::Inherit => put("tos", "inherit".to_owned()),
            Outer::Fixed(0) => {}
            Outer::Fixed(tos) => put("tos", format!("{tos:#x}")),
        }
        if self.kind.row().dst_port.is_some_and(|default| default != self.dst_port) {
            put("dst_port", self.dst_port.to_string());
        }
        self.csum.into_iter().for_each(|csum| put("csum", csum.to_string()));
        if self.seq {
            put("seq", "true".to_owned());
        }
        if self.packet_types != self.default_types() {
            let name = PacketTypes::NAMES.iter().find(|(t, _)| *t == self.packet_types).map_or("", |(_, n)| n);
            put("packet_type", name.to_owned());
        }
        if !self.dont_fragment {
            put("df_default", "false".to_owned());
        }
        self.egress_pkt_mark.into_iter().for_each(|mark| put("egress_pkt_mark", mark.to_string()));
        out.extend(self.erspan_options());
        if !self.segments.is_empty() {
            let list: Vec<String> = self.segments.iter().map(Addr::to_string).collect();
            out.push(("srv6_segs".to_owned(), list.join(",")));
        }
        out
    }

    fn erspan_options(&self) -> Vec<(String, String)> {
        let flow = || "flow".to_owned();
        let decimal = |v: ByFlow<u8>| if let ByFlow::Fixed(v) = v { v.to_string() } else { flow() };
        let hex = |v: Option<u32>| v.map_or_else(flow, |v| format!("{v:#x}"));
        let index = hex(if let ByFlow::Fixed(v) = self.erspan_idx { Some(v) } else { None });
        let hardware = hex(if let ByFlow::Fixed(v) = self.erspan_hwid { Some(v.into()) } else { None });
        let direction = decimal(self.erspan_dir);
        let pairs = match (self.kind, self.erspan_ver) {
            (Kind::Erspan | Kind::Ip6erspan, ByFlow::Flow) => {
                vec![("erspan_ver", flow()), ("erspan_idx", flow()), ("erspan_dir", flow()), ("erspan_hwid", flow())]
            }
            (Kind::Erspan | Kind::Ip6erspan, ByFlow::Fixed(1)) => {
                vec![("erspan_ver", "1".to_owned()), ("erspan_idx", index)]
            }
            (Kind::Erspan | Kind::Ip6erspan, ByFlow::Fixed(2)) => {
                vec![("erspan_ver", "2".to_owned()), ("erspan_dir", direction), ("erspan_hwid", hardware)]
            }
            (Kind::Erspan | Kind::Ip6erspan, ByFlow::Fixed(version)) => vec![("erspan_ver", version.to_string())],
            _ => Vec::new(),
        };
        pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        text.split_whitespace().map(|w| w.split_once('=').unwrap()).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    fn check(kind: &str, given: &str, expect: &str) {
        let got = match parse("t", Kind::by_name(kind).unwrap(), &pairs(given)) {
            Ok((config, warnings)) => {
                let mut options: Vec<String> = config.to_options().iter().map(|(k, v)| format!("{k}={v}")).collect();
                options.sort();
                options.into_iter().chain(warnings).collect::<Vec<_>>().join(" ")
            }
            Err(refused) => refused.text,
        };
        assert_eq!(got, expect, "{kind} {given}");
    }

    #[test]
    fn options_there_and_back() {
        for (kind, text) in [
            ("gre", "csum=true df_default=false local_ip=2.2.2.3 remote_ip=1.1.1.1 ttl=1"),
            ("gre", "in_key=2 out_key=3 remote_ip=1.1.1.1"),
            ("gre", "key=flow packet_type=legacy_l3 remote_ip=flow seq=true"),
            ("gre", "local_ip=flow remote_ip=flow tos=inherit ttl=inherit"),
            ("vxlan", "dst_port=4341 remote_ip=2001:cafe::1"),
            ("geneve", "egress_pkt_mark=1234 out_key=flow remote_ip=1.1.2.93"),
            ("erspan", "erspan_dir=1 erspan_hwid=0x7 erspan_ver=2 key=567 remote_ip=1.1.2.92"),
            ("srv6", "remote_ip=fd00::1 srv6_segs=fd00::1,fd00::2"),
            ("bareudp", "dst_port=6635 remote_ip=1.1.1.1"),
        ] {
            check(kind, text, text);
        }
        check("vxlan", "remote_ip=1.1.1.1 dst_port=4789 exts=gpe key=0x10 ttl=64 tos=0x10", "key=16 remote_ip=1.1.1.1 tos=0x10");
        check("srv6", "srv6_segs=fd00::1", "remote_ip=fd00::1 srv6_segs=fd00::1");
    }

    #[test]
    fn refusals_and_warnings() {
        check("gre", "", "t: gre type requires valid 'remote_ip' argument");
        check("gre", "remote_ip=xx", "t: bad gre 'remote_ip'\nt: gre type requires valid 'remote_ip' argument");
        check("vxlan", "remote_ip=224.0.0.1", "t: multicast remote_ip=224.0.0.1 not allowed");
        check("vxlan", "remote_ip=1.1.1.1 local_ip=::1", "t: 'remote_ip' and 'local_ip' has to be of the same address family");
        check("vxlan", "remote_ip=1.1.1.1 local_ip=flow", "t: vxlan type requires 'remote_ip=flow' with 'local_ip=flow'");
        let layer = "t: legacy_l3 configured on VXLAN (without GPE) tunnel that cannot carry L3 traffic";
        check("vxlan", "remote_ip=flow packet_type=legacy_l3", layer);
        check("erspan", "remote_ip=flow erspan_ver=3", "t: invalid erspan version: 3");
        check("geneve", "remote_ip=flow foo=bar tos=3", "remote_ip=flow t: unknown geneve argument 'foo' t: invalid TOS 3");
    }
}
