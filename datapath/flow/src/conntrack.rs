//! The connection tracker's side of the seam: what control asks of it, in terms that any datapath's tracker has.
//!
//! What enters: filters, limits, timeouts. What leaves: connections as dumped, figures, events for who offloads connections.
//! Neighbours: `seam` (a datapath gives its tracker, if it has one), the slow path's `dpctl/*` commands, the daemon's configuration.

use crate::clock::Msec;
use crate::forms::Ip6;
use crate::seam::{DpError, DpPort};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CtTuple {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub proto: u8,
    /// Source port; identifier of ICMP; 0 for protocols without ports.
    pub src_port: u16,
    pub dst_port: u16,
    pub icmp_type: u8,
    pub icmp_code: u8,
}

impl Default for CtTuple {
    fn default() -> Self {
        let none = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self { src: none, dst: none, proto: 0, src_port: 0, dst_port: 0, icmp_type: 0, icmp_code: 0 }
    }
}

impl CtTuple {
    /// ICMP and ICMPv6 have an identifier, type and code in the place of ports.
    #[must_use]
    pub fn is_icmp(&self) -> bool {
        matches!(self.proto, 1 | 58)
    }
}

impl fmt::Display for CtTuple {
    /// `src=A,dst=A,sport=P,dport=P`, or `id=I,type=T,code=C` for ICMP.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.src, self.dst) {
            (IpAddr::V6(src), IpAddr::V6(dst)) => write!(f, "src={},dst={}", Ip6(u128::from(src)), Ip6(u128::from(dst)))?,
            (src, dst) => write!(f, "src={src},dst={dst}")?,
        }
        if self.is_icmp() {
            return write!(f, ",id={},type={},code={}", self.src_port, self.icmp_type, self.icmp_code);
        }
        write!(f, ",sport={},dport={}", self.src_port, self.dst_port)
    }
}

/// What an end of a TCP connection does, as the tracker believes. Numbers and names are OVS's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TcpState {
    #[default]
    Closed = 0,
    Listen = 1,
    SynSent = 2,
    SynRecv = 3,
    Established = 4,
    CloseWait = 5,
    FinWait1 = 6,
    Closing = 7,
    LastAck = 8,
    FinWait2 = 9,
    TimeWait = 10,
}

impl TcpState {
    /// In order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Closed,
        Self::Listen,
        Self::SynSent,
        Self::SynRecv,
        Self::Established,
        Self::CloseWait,
        Self::FinWait1,
        Self::Closing,
        Self::LastAck,
        Self::FinWait2,
        Self::TimeWait,
    ];

    /// As OVS prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        const NAMES: [&str; 11] = [
            "CLOSED",
            "LISTEN",
            "SYN_SENT",
            "SYN_RECV",
            "ESTABLISHED",
            "CLOSE_WAIT",
            "FIN_WAIT_1",
            "CLOSING",
            "LAST_ACK",
            "FIN_WAIT_2",
            "TIME_WAIT",
        ];
        NAMES[self as usize]
    }
}

/// TCP as the tracker sees it, both ends: the original direction's sender first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CtTcp {
    pub states: [TcpState; 2],
    /// Window scale, `None` if the end offered none.
    pub scales: [Option<u8>; 2],
    /// The connection was picked up after its beginning: the windows are not known.
    pub liberal: [bool; 2],
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CtEntry {
    pub orig: CtTuple,
    pub reply: CtTuple,
    /// Of the connection that this one is related to.
    pub parent: Option<CtTuple>,
    pub zone: u16,
    pub mark: u32,
    pub label: u128,
    /// Until it expires.
    pub timeout_ms: Msec,
    pub tcp: Option<CtTcp>,
    pub helper: Option<&'static str>,
    /// Both sides have spoken, and neither has closed: its packets need no decision any more.
    pub established: bool,
    /// Source and destination of the original direction are translated, be it to what they were.
    pub translated: [bool; 2],
    /// Where packets of the original direction and answers came in, before it was established.
    pub ports: [Option<DpPort>; 2],
    /// Of the hash table's buckets.
    pub bucket: u32,
}

impl CtEntry {
    /// A line of `dpctl/dump-conntrack`, without the newline.
    #[must_use]
    pub fn text(&self, verbose: bool, statistics: bool) -> String {
        use fmt::Write as _;
        let mut out = String::with_capacity(160);
        self.write(&mut out, verbose, statistics).expect("a String takes all");
        if verbose && let Some(parent) = &self.parent {
            write!(out, ",parent=({parent})").expect("a String takes all");
        }
        out
    }

    fn write(&self, out: &mut dyn fmt::Write, verbose: bool, statistics: bool) -> fmt::Result {
        match protocol_name(self.orig.proto) {
            Some(name) => out.write_str(name)?,
            None => write!(out, "{}", self.orig.proto)?,
        }
        write!(out, ",orig=({}),reply=({})", self.orig, self.reply)?;
        if verbose {
            out.write_str(",id=0")?;
        }
        if self.zone != 0 {
            write!(out, ",zone={}", self.zone)?;
        }
        if verbose {
            out.write_str(",status=0")?;
        }
        if statistics {
            write!(out, ",timeout={}", self.timeout_ms / 1000)?;
        }
        if self.mark != 0 {
            write!(out, ",mark={}", self.mark)?;
        }
        if self.label != 0 {
            write!(out, ",labels={:#x}", self.label)?;
        }
        if let Some(tcp) = &self.tcp {
            tcp.write(out, verbose)?;
        }
        if let Some(helper) = self.helper {
            write!(out, ",helper={helper}")?;
        }
        Ok(())
    }
}

impl CtTcp {
    /// The one state that stands for both ends, as the kernel would have it.
    #[must_use]
    pub fn joint_state(&self) -> TcpState {
        match self.states[0].max(self.states[1]) {
            TcpState::FinWait2 | TcpState::TimeWait => TcpState::TimeWait,
            TcpState::SynRecv | TcpState::Established => TcpState::Established,
            other @ (TcpState::Closed
            | TcpState::Listen
            | TcpState::SynSent
            | TcpState::CloseWait
            | TcpState::FinWait1
            | TcpState::Closing
            | TcpState::LastAck) => other,
        }
    }

    fn write(&self, out: &mut dyn fmt::Write, verbose: bool) -> fmt::Result {
        if !verbose {
            return write!(out, ",protoinfo=(state={})", self.joint_state().name());
        }
        write!(out, ",protoinfo=(state_orig={},state_reply={}", self.states[0].name(), self.states[1].name())?;
        let scale = |i: usize| self.scales[i].unwrap_or(0);
        if scale(0) != 0 || scale(1) != 0 {
            write!(out, ",wscale_orig={},wscale_reply={}", scale(0), scale(1))?;
        }
        for (i, name) in ["orig", "reply"].into_iter().enumerate() {
            let flags = match (self.scales[i].is_some(), self.liberal[i]) {
                (true, true) => "WINDOW_SCALE|BE_LIBERAL",
                (true, false) => "WINDOW_SCALE",
                (false, true) => "BE_LIBERAL",
                (false, false) => "0",
            };
            write!(out, ",flags_{name}={flags}")?;
        }
        out.write_char(')')
    }
}

/// The protocols that have a name in dumps.
const PROTOCOLS: [(u8, &str); 8] =
    [(1, "icmp"), (58, "icmpv6"), (6, "tcp"), (17, "udp"), (132, "sctp"), (136, "udplite"), (33, "dccp"), (2, "igmp")];

/// As dumps call it.
#[must_use]
pub fn protocol_name(proto: u8) -> Option<&'static str> {
    PROTOCOLS.iter().find(|p| p.0 == proto).map(|p| p.1)
}

/// Which connections: everything given must agree. In a tuple, what is zero (or an unspecified address) is not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtFilter {
    pub zone: Option<u16>,
    /// value, mask
    pub mark: Option<(u32, u32)>,
    pub label: Option<(u128, u128)>,
    /// 4 or 6; 0 is either.
    pub family: u8,
    /// 0 is any.
    pub proto: u8,
    pub orig: CtTuple,
    pub reply: CtTuple,
}

impl CtFilter {
    /// Whether everything but the zone is left open.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self == Self { zone: self.zone, ..Self::default() }
    }

    /// As OVS logs it: `zone=Z 'TUPLE,ct_nw_proto=P' 'TUPLE'`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("zone={}", self.zone.unwrap_or(0));
        if let Some((value, mask)) = self.mark {
            text += &format!(" mark={value:#x}/{mask:#x}");
        }
        if let Some((value, mask)) = self.label {
            text += &format!(" labels={value:#x}/{mask:#x}");
        }
        let name = if self.family == 4 { "ct_nw" } else { "ct_ipv6" };
        let shown = |a: IpAddr| if a.is_unspecified() { "::".to_owned() } else { a.to_string() };
        let tuple = |t: &CtTuple| {
            let ends = format!("{name}_src={},{name}_dst={}", shown(t.src), shown(t.dst));
            if matches!(self.proto, 1 | 58) {
                return format!("{ends},icmp_id={},icmp_type={},icmp_code={}", t.src_port, t.icmp_type, t.icmp_code);
            }
            format!("{ends},ct_tp_src={},ct_tp_dst={}", t.src_port, t.dst_port)
        };
        text + &format!(" '{},ct_nw_proto={}' '{}'", tuple(&self.orig), self.proto, tuple(&self.reply))
    }

    /// Whether a connection is meant.
    #[must_use]
    pub fn matches(&self, entry: &CtEntry) -> bool {
        let family = if entry.orig.src.is_ipv4() { 4 } else { 6 };
        self.zone.is_none_or(|z| z == entry.zone)
            && (self.family == 0 || self.family == family)
            && (self.proto == 0 || self.proto == entry.orig.proto)
            && self.mark.is_none_or(|(value, mask)| (entry.mark ^ value) & mask == 0)
            && self.label.is_none_or(|(value, mask)| (entry.label ^ value) & mask == 0)
            && tuple_matches(&self.orig, &entry.orig, self.proto)
            && tuple_matches(&self.reply, &entry.reply, self.proto)
    }
}

fn tuple_matches(want: &CtTuple, have: &CtTuple, proto: u8) -> bool {
    let address = |want: IpAddr, have: IpAddr| want.is_unspecified() || want == have;
    let number = |want: u16, have: u16| want == 0 || want == have;
    address(want.src, have.src)
        && address(want.dst, have.dst)
        && number(want.src_port, have.src_port)
        && if matches!(proto, 1 | 58) {
            number(want.icmp_type.into(), have.icmp_type.into()) && number(want.icmp_code.into(), have.icmp_code.into())
        } else {
            number(want.dst_port, have.dst_port)
        }
}

/// A zone's limit, and how many connections it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CtLimit {
    pub zone: u16,
    pub limit: u32,
    pub count: u32,
}

/// The stages of connections that have timeouts of their own; `CT_Timeout_Policy` names them so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CtStage {
    TcpSynSent = 0,
    TcpSynRecv = 1,
    TcpEstablished = 2,
    TcpFinWait = 3,
    TcpTimeWait = 4,
    TcpClose = 5,
    UdpFirst = 6,
    UdpSingle = 7,
    UdpMultiple = 8,
    IcmpFirst = 9,
    IcmpReply = 10,
}

/// Rows: stage, its key in the database, the default in seconds.
pub const CT_STAGES: [(CtStage, &str, u32); 11] = [
    (CtStage::TcpSynSent, "tcp_syn_sent", 30),
    (CtStage::TcpSynRecv, "tcp_syn_recv", 30),
    (CtStage::TcpEstablished, "tcp_established", 86_400),
    (CtStage::TcpFinWait, "tcp_fin_wait", 900),
    (CtStage::TcpTimeWait, "tcp_time_wait", 45),
    (CtStage::TcpClose, "tcp_close", 30),
    (CtStage::UdpFirst, "udp_first", 60),
    (CtStage::UdpSingle, "udp_single", 60),
    (CtStage::UdpMultiple, "udp_multiple", 30),
    (CtStage::IcmpFirst, "icmp_first", 60),
    (CtStage::IcmpReply, "icmp_reply", 30),
];

/// Reassembly of fragments of one address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragFigures {
    pub enabled: bool,
    pub min_size: u32,
    pub accepted: u64,
    pub completed: u64,
    pub expired: u64,
    pub too_small: u64,
    pub overlapped: u64,
    pub purged: u64,
}

/// Reassembly of fragments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FragStatus {
    pub max: u32,
    pub held: u32,
    pub v4: FragFigures,
    pub v6: FragFigures,
    /// A line for each datagram that is being put together.
    pub lists: Vec<String>,
}

/// What happened to a connection, for who offloads connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CtEvent {
    /// Both sides have spoken: its packets need no decision any more.
    Established(Box<CtEntry>),
    /// An established one has another mark or label now.
    Changed(Box<CtEntry>),
    /// A FIN or RST has been seen, or it has gone.
    Closing(Box<CtEntry>),
    /// There were more events than are kept: a dump tells what is there.
    Lost,
}

/// A datapath's connection tracker.
pub trait Conntrack: Send + Sync + fmt::Debug {
    /// Calls `each` for every connection (of `zone`) until it says false; those made or ended meanwhile may be missed.
    fn dump(&self, zone: Option<u16>, each: &mut dyn FnMut(&CtEntry) -> bool);
    /// How many connections are expected, as lines.
    fn expectations(&self, zone: Option<u16>) -> Vec<String>;
    /// Ends connections; how many.
    /// # Errors
    /// A whole tuple was named and there is no such connection.
    fn flush(&self, filter: &CtFilter) -> Result<usize, DpError>;
    fn buckets(&self) -> u32;
    fn connections(&self) -> u32;
    fn max_connections(&self) -> u32;
    /// # Errors
    /// More than the tracker can hold.
    fn set_max_connections(&self, max: u32) -> Result<(), DpError>;
    fn checks_tcp_sequence(&self) -> bool;
    fn check_tcp_sequence(&self, on: bool);
    fn sweep_interval_ms(&self) -> u32;
    fn set_sweep_interval_ms(&self, ms: u32);
    /// The default limit and those of zones (all that have one, if none are named).
    fn limits(&self, zones: &[u16]) -> (u32, Vec<CtLimit>);
    fn set_default_limit(&self, limit: Option<u32>);
    fn set_limit(&self, zone: u16, limit: u32);
    /// # Errors
    /// The zone has none.
    fn delete_limit(&self, zone: u16) -> Result<(), DpError>;
    /// Sets a timeout policy: seconds by stage, `None` for the default. `ct(timeout=ID)` names it.
    /// # Errors
    /// Too many policies.
    fn set_timeouts(&self, id: u32, seconds: &[Option<u32>; CT_STAGES.len()]) -> Result<(), DpError>;
    fn fragments(&self) -> FragStatus;
    fn set_fragments_enabled(&self, v6: bool, on: bool);
    /// # Errors
    /// Smaller than any sound sender makes them.
    fn set_fragment_min(&self, v6: bool, bytes: u32) -> Result<(), DpError>;
    /// # Errors
    /// More than the tracker can hold.
    fn set_fragments_max(&self, max: u32) -> Result<(), DpError>;
    /// From now on events are kept (a bounded number) for `events`.
    fn watch(&self, on: bool);
    /// Others forward packets of this connection (TCP or UDP, named by its original tuple) from now on: its windows are not looked at any
    /// more, as nobody tells them. False if there is none.
    fn carry(&self, zone: u16, orig: &CtTuple) -> bool;
    /// How long a connection has still to live (ms), from now on if others have seen packets of it (`used`). `None` if there is none.
    fn lifetime(&self, zone: u16, orig: &CtTuple, used: bool) -> Option<Msec>;
    /// Takes pending events; returns at once.
    fn events(&self) -> Vec<CtEvent>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> CtEntry {
        let orig = CtTuple {
            src: "10.1.1.1".parse().unwrap(),
            dst: "10.1.1.2".parse().unwrap(),
            proto: 6,
            src_port: 1,
            dst_port: 2,
            ..CtTuple::default()
        };
        CtEntry {
            orig,
            reply: CtTuple { src: orig.dst, dst: orig.src, src_port: 2, dst_port: 1, ..orig },
            parent: None,
            zone: 5,
            mark: 7,
            label: 0x1_0000,
            timeout_ms: 86_399_500,
            tcp: Some(CtTcp { states: [TcpState::Established, TcpState::SynRecv], scales: [Some(7), None], liberal: [false; 2] }),
            helper: Some("ftp"),
            established: false,
            translated: [false; 2],
            ports: [None; 2],
            bucket: 0,
        }
    }

    #[test]
    fn dumped_as_ovs_does() {
        let head = "tcp,orig=(src=10.1.1.1,dst=10.1.1.2,sport=1,dport=2),reply=(src=10.1.1.2,dst=10.1.1.1,sport=2,dport=1)";
        let tail = ",mark=7,labels=0x10000,protoinfo=(state=ESTABLISHED),helper=ftp";
        assert_eq!(entry().text(false, false), format!("{head},zone=5{tail}"));
        assert_eq!(entry().text(false, true), format!("{head},zone=5,timeout=86399{tail}"));
        let tcp = "protoinfo=(state_orig=ESTABLISHED,state_reply=SYN_RECV,wscale_orig=7,wscale_reply=0,\
                   flags_orig=WINDOW_SCALE,flags_reply=0)";
        let want = format!("{head},id=0,zone=5,status=0,mark=7,labels=0x10000,{tcp},helper=ftp");
        assert_eq!(entry().text(true, false), want);
    }

    #[test]
    fn filters() {
        let e = entry();
        let yes = |f: CtFilter| f.matches(&e);
        assert!(yes(CtFilter::default()) && CtFilter::default().is_any());
        assert!(yes(CtFilter { zone: Some(5), mark: Some((7, 3)), proto: 6, family: 4, ..CtFilter::default() }));
        assert!(!yes(CtFilter { zone: Some(4), ..CtFilter::default() }));
        assert!(!yes(CtFilter { mark: Some((4, 3)), ..CtFilter::default() }));
        assert!(!yes(CtFilter { label: Some((0, 0x1_0000)), ..CtFilter::default() }));
        assert!(!yes(CtFilter { proto: 17, ..CtFilter::default() }));
        assert!(yes(CtFilter { orig: CtTuple { dst_port: 2, ..CtTuple::default() }, ..CtFilter::default() }));
        assert!(!yes(CtFilter { reply: CtTuple { dst_port: 2, ..CtTuple::default() }, ..CtFilter::default() }));
        let orig = CtTuple { src: e.orig.src, src_port: 1, ..CtTuple::default() };
        let text = CtFilter { zone: Some(5), family: 4, proto: 17, orig, ..CtFilter::default() }.text();
        let want = "zone=5 'ct_nw_src=10.1.1.1,ct_nw_dst=::,ct_tp_src=1,ct_tp_dst=0,ct_nw_proto=17' \
                    'ct_nw_src=::,ct_nw_dst=::,ct_tp_src=0,ct_tp_dst=0'";
        assert_eq!(text, want);
    }
}
