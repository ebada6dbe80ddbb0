//! The seam: how the slow path sees a datapath. The software switch, the offload tier and a refusing datapath for tests
//! implement it; `ofproto` calls it and knows of no hardware.
//!
//! All calls may come from any thread. None of them waits for a packet; `quiesce` waits for the workers' current batches.

use crate::action::{Actions, Cookie};
use crate::clock::Msec;
use crate::conntrack::Conntrack;
use crate::key::{Key, Mask};
use std::fmt;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// A datapath port number. OpenFlow port numbers are `openflow::OfPort`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct DpPort(pub u32);

/// Unique flow identifier: 128 bits that name a megaflow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct Ufid(pub u128);

impl fmt::Display for Ufid {
    /// `ufid:xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` without the prefix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            v >> 96,
            v >> 80 & 0xffff,
            v >> 64 & 0xffff,
            v >> 48 & 0xffff,
            v & 0xffff_ffff_ffff
        )
    }
}

/// A wildcard flow of the datapath. Invariant: `key == key.masked(&mask)` does not have to hold on `put` (the datapath masks it),
/// it does in what is dumped.
#[derive(Clone, Debug, PartialEq)]
pub struct Megaflow {
    pub ufid: Ufid,
    pub key: Box<Key>,
    pub mask: Box<Mask>,
    pub actions: Arc<Actions>,
}

/// Counters of a megaflow since it was put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowStats {
    pub packets: u64,
    pub bytes: u64,
    /// When the last packet hit, 0 for never.
    pub used_ms: Msec,
    /// TCP flags seen, or-ed.
    pub tcp_flags: u16,
}

/// Where a megaflow's packets are handled, as `dump-flows` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Placement {
    #[default]
    Software,
    /// All in hardware; the provider's name ("tc").
    Hardware(&'static str),
    /// In software although offload is on; why, in a word (`in-port(3)`).
    Declined(String),
}

/// A flow with its state, as dumped.
#[derive(Clone, Debug)]
pub struct FlowDump {
    pub flow: Megaflow,
    /// The key as it was put, with what the mask leaves open: that of the first packet. `None`: the same as the flow's.
    pub unmasked: Option<Box<Key>>,
    pub stats: FlowStats,
    pub placement: Placement,
}

/// A put: creates, replaces, or either.
#[derive(Clone, Debug)]
pub struct FlowPut {
    pub flow: Megaflow,
    pub mode: PutMode,
    /// Zero the counters of an existing flow.
    pub clear_stats: bool,
}

/// A megaflow that is to come into being. Most of a batch have their mask and actions in common, and share them.
#[derive(Clone, Copy, Debug)]
pub struct NewFlow<'a> {
    pub ufid: Ufid,
    /// The packet's, whole.
    pub key: &'a Key,
    pub mask: &'a Arc<Mask>,
    pub actions: &'a Arc<Actions>,
}

impl NewFlow<'_> {
    /// The same as a put.
    #[must_use]
    pub fn to_put(&self) -> FlowPut {
        let (key, mask, actions) = (Box::new(*self.key), Box::new(**self.mask), Arc::clone(self.actions));
        FlowPut { flow: Megaflow { ufid: self.ufid, key, mask, actions }, mode: PutMode::Create, clear_stats: true }
    }
}

/// What a put may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// `DpError::Exists` when there is one.
    Create,
    /// `DpError::NoFlow` when there is none.
    Modify,
    CreateOrModify,
}

/// A packet for `execute`: runs actions on it as if it had been received.
#[derive(Clone, Debug)]
pub struct Execute {
    pub packet: Vec<u8>,
    /// Metadata (in_port, recirc_id, ct_*, tunnel, marks); header fields are read from the packet again.
    pub key: Box<Key>,
    pub actions: Arc<Actions>,
    /// The upcall's that it was: what is told of the packet now comes after what was told of it before.
    pub rx_queue: u16,
    /// Packets of this length need fragmenting (0: no).
    pub mtu: u16,
    /// Set when this is a probe that must not be counted.
    pub probe: bool,
}

/// A packet that missed, or was sent up by an action.
#[derive(Clone, Debug)]
pub struct Upcall {
    pub kind: UpcallKind,
    pub packet: Vec<u8>,
    /// Full key of the packet, `in_port` a datapath port.
    pub key: Box<Key>,
    /// For a clipped packet, its length before.
    pub full_len: u32,
    /// The remaining actions when the `userspace` action asked for them.
    pub actions: Option<Arc<Actions>>,
    /// The output tunnel's key when asked for.
    pub out_tunnel: Option<Box<Key>>,
    /// When it entered the queue.
    pub queued_ms: Msec,
    /// The receive queue by which the packet came in. Upcalls of one receive queue of one port keep their order.
    pub rx_queue: u16,
}

/// Why it came up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpcallKind {
    Miss,
    Action(Cookie),
}

/// A port to add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortRequest {
    /// Device name; for `internal` the name of the netdev to make.
    pub name: String,
    /// "system", "internal", "tap", "dummy", "dummy-internal", "dummy-pmd", "afxdp", "memory", tunnel types...
    pub kind: String,
    /// `Interface.options`
    pub options: Vec<(String, String)>,
    /// `Interface.other_config:pmd-rxq-affinity`: which core polls which queue (`0:3,1:7`); empty: no wish.
    pub affinity: String,
    /// `Interface.other_config:tx-steering`: "thread" (also if empty) or "hash".
    pub tx_steering: String,
    /// Number wished for.
    pub number: Option<DpPort>,
    pub mac: Option<[u8; 6]>,
    pub mtu: Option<u16>,
    /// How often the PHY is asked for the link; 0: never, the driver tells.
    pub miimon_ms: u32,
    /// How the kernel is to queue what leaves.
    pub qos: Option<Qos>,
    pub policing: Policing,
    /// Of a tunnel port: what the host's own stack is to hand over. Only then packets can leave by the port, too.
    pub host: Option<HostIntake>,
}

/// Which packets that come to the host are a tunnel port's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostIntake {
    /// Those to a UDP port.
    Udp(u16),
    /// GRE without ERSPAN.
    Gre,
    /// GRE with ERSPAN.
    Erspan,
    /// IPv6 with a routing header that has been followed to its end.
    Routing,
}

/// What `Port.qos` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Qos {
    /// `QoS.type`: "linux-htb", "linux-hfsc", ...
    pub kind: String,
    /// `QoS.other_config`
    pub options: Vec<(String, String)>,
    /// Queues by number, with `Queue.other_config`.
    pub queues: Vec<(u32, Vec<(String, String)>)>,
}

/// What a port's QoS has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QosReport {
    /// `QoS.type`
    pub kind: String,
    /// Options of the whole, with their defaults, in the database's words and units.
    pub details: Vec<(String, String)>,
    pub queues: Vec<QueueReport>,
    /// When it was set up.
    pub since_ms: Msec,
}

/// A queue of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueReport {
    pub queue: u32,
    pub details: Vec<(String, String)>,
    /// `None`: the kernel does not tell.
    pub counters: Option<QueueCounters>,
}

/// What has left by a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounters {
    pub tx_packets: u64,
    pub tx_bytes: u64,
    /// Packets that found no room.
    pub tx_errors: u64,
}

/// How much a port takes in: `Interface.ingress_policing_*`; a rate of 0 is no limit, a burst of 0 the usual one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policing {
    /// 1000 bits per second
    pub rate_kbps: u32,
    /// 1000 bits
    pub burst_kb: u32,
    /// 1000 packets per second
    pub rate_kpkts: u32,
    /// 1000 packets
    pub burst_kpkts: u32,
}

/// A port as the datapath knows it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PortInfo {
    pub number: DpPort,
    pub name: String,
    pub kind: String,
    pub mac: [u8; 6],
    pub mtu: u16,
    pub ifindex: u32,
    pub admin_up: bool,
    pub link_up: bool,
    /// Times the link changed.
    pub link_resets: u64,
    /// bits/s, 0 unknown
    pub speed_bps: u64,
    pub full_duplex: Option<bool>,
    pub link: LinkFeatures,
    /// driver_name, driver_version, firmware_version and others for `Interface.status`
    pub status: Vec<(String, String)>,
    pub options: Vec<(String, String)>,
    /// What the device is configured with, as `dpif/show` prints it.
    pub config: Vec<(String, String)>,
    /// The device is gone and is waited for.
    pub vanished: bool,
    /// The device was moved into another network namespace, whose affair its settings are.
    pub elsewhere: bool,
    /// The host's own stack has an open ear for this tunnel port, and sends for it.
    pub host: Option<HostIntake>,
}

/// What a device can do and does beside its speed: bits of OFPPF_* as OpenFlow 1.1 numbers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkFeatures {
    /// Medium and autonegotiation in use.
    pub current: u32,
    pub advertised: u32,
    pub supported: u32,
}

/// Counters of a port (names of `Interface.statistics`); `UNKNOWN` where the device does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_frame_err: u64,
    pub rx_over_err: u64,
    pub rx_crc_err: u64,
    pub rx_missed_errors: u64,
    pub rx_multicast_packets: u64,
    pub collisions: u64,
    pub upcall_packets: u64,
    pub upcall_errors: u64,
}

/// Packets for one of a tunnel port's other ends that were too long for the way there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    pub remote: IpAddr,
    /// Bytes that an inner packet may have behind its Ethernet header.
    pub mtu: u32,
    /// Bytes that the longest one had.
    pub longest: u32,
    /// Senders that were told.
    pub answered: u64,
    /// Packets that were cut.
    pub fragmented: u64,
    /// Packets that were lost, and nobody told.
    pub dropped: u64,
    /// When the last one came.
    pub last_ms: Msec,
}

impl PortStats {
    /// What a device that does not count something has for it (OpenFlow's "field not supported").
    pub const UNKNOWN: u64 = u64::MAX;
}

/// Counters of a datapath.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DpStats {
    pub hit: u64,
    pub missed: u64,
    pub lost: u64,
    pub flows: u64,
    pub mask_hit: u64,
    pub masks: u32,
    pub cache_hits: u64,
}

/// A change that the datapath reports by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum DpEvent {
    /// Link, MAC, MTU, presence changed.
    PortChanged(DpPort),
    PortRemoved(DpPort),
    /// The host's stack did not take a packet for this address: so many bytes is what the way there takes.
    PathMtu(IpAddr, u32),
}

/// Why the datapath refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DpError {
    #[error("no such flow")]
    NoFlow,
    #[error("flow exists")]
    Exists,
    #[error("flow overlaps an installed one with other actions")]
    Overlap,
    #[error("no such port")]
    NoPort,
    #[error("port exists")]
    PortExists,
    #[error("no such meter")]
    NoMeter,
    #[error("{0} is full")]
    Full(&'static str),
    #[error("{0} not supported")]
    Unsupported(String),
    #[error("{0}")]
    Invalid(String),
    /// Device could not be opened; the text goes to `Interface.error` as OVS prints it.
    #[error("{0}")]
    Device(String),
}

/// Flags of a meter (`OFPMF13_*`): its bands' rates are kilobits, or packets, per second; bands have bursts of their own; it counts.
pub const METER_KBPS: u16 = 1;
pub const METER_PKTPS: u16 = 2;
pub const METER_BURST: u16 = 4;
pub const METER_STATS: u16 = 8;
/// Kinds of bands (`OFPMBT13_*`): what is too much is dropped, or marked as the first to be dropped.
pub const BAND_DROP: u16 = 1;
pub const BAND_DSCP_REMARK: u16 = 2;

/// A meter of the datapath.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MeterConfig {
    /// `METER_*`
    pub flags: u16,
    pub bands: Vec<MeterBand>,
}

/// One band.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MeterBand {
    /// `BAND_*`
    pub kind: u16,
    pub rate: u32,
    pub burst_size: u32,
    pub prec_level: u8,
}

/// Counters of a meter.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MeterStats {
    pub packets: u64,
    pub bytes: u64,
    /// packets, bytes per band
    pub bands: Vec<(u64, u64)>,
}

/// Buckets of a bond.
pub const BOND_BUCKETS: usize = 256;
/// The member that each bucket of a bond leads to; packets of a bucket without one are dropped.
pub type BondTable = [Option<DpPort>; BOND_BUCKETS];

/// What a datapath can do; `show-dp-features` prints it, translation heeds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpFeatures {
    pub masked_set: bool,
    pub recirc: bool,
    pub tunnel_push_pop: bool,
    /// Tunnel ports can receive and send by the host's own stack (`PortRequest.host`).
    pub host_tunnels: bool,
    pub ufid: bool,
    pub trunc: bool,
    pub clone: bool,
    pub sample_nesting: u32,
    pub max_vlan_headers: u32,
    pub max_mpls_depth: u32,
    pub ct: bool,
    pub ct_nat: bool,
    pub meters_max: u32,
    pub bands_max: u8,
    pub check_pkt_len: bool,
    pub explicit_drop: bool,
    pub lb_output: bool,
    pub add_mpls: bool,
    pub nd_extensions: bool,
    pub psample: bool,
}

/// A datapath.
pub trait Datapath: Send + Sync + fmt::Debug {
    /// "netdev", "dummy", "system": the type as in `Bridge.datapath_type`.
    fn kind(&self) -> &str;
    /// "ovs-netdev", "ovs-dummy": `KIND@NAME` names it in text.
    fn name(&self) -> &str;
    fn features(&self) -> DpFeatures;

    // Ports.
    fn port_add(&self, request: &PortRequest) -> Result<DpPort, DpError>;
    fn port_del(&self, port: DpPort) -> Result<(), DpError>;
    /// Applies changed options, MAC, MTU to a live port, without touching others.
    fn port_set(&self, port: DpPort, request: &PortRequest) -> Result<(), DpError>;
    /// Administrative state (OFPPC_PORT_DOWN).
    fn port_set_up(&self, port: DpPort, up: bool) -> Result<(), DpError>;
    fn port(&self, port: DpPort) -> Result<PortInfo, DpError>;
    fn ports(&self) -> Vec<PortInfo>;
    fn port_stats(&self, port: DpPort) -> Result<PortStats, DpError>;
    /// Further counters of a port's device beside the usual ones, by name.
    fn port_custom_stats(&self, _port: DpPort) -> Vec<(String, u64)> {
        Vec::new()
    }
    /// What was too long for a tunnel port, by other end.
    fn port_too_long(&self, _port: DpPort) -> Vec<TooLong> {
        Vec::new()
    }
    /// What a port's QoS has come to; `None` if there is none.
    fn port_qos(&self, _port: DpPort) -> Result<Option<QosReport>, DpError> {
        Ok(None)
    }
    /// The types of QoS that a port can have.
    fn port_qos_kinds(&self, _port: DpPort) -> Vec<&'static str> {
        Vec::new()
    }
    /// Looks at every port for what nobody tells of, and takes pending events; returns at once.
    fn events(&self) -> Vec<DpEvent>;
    /// What can be read as long as the kernel has told of devices what `heard` has not taken; `None`: it tells nothing here.
    fn ear(&self) -> Option<Arc<OwnedFd>> {
        None
    }
    /// Takes what the kernel has told of devices (some of it, if it is much), and the events that come of it; returns at once. Of ports, only
    /// those that it concerns are looked at.
    fn heard(&self) -> Vec<DpEvent> {
        Vec::new()
    }

    // Megaflows. Results stand in the order of the batch.
    fn put(&self, batch: &[FlowPut]) -> Vec<Result<(), DpError>>;
    /// Narrows the mask of a megaflow that is to be put, where only the narrower one can be in hardware. `key` is the packet's.
    fn narrow(&self, _key: &Key, _actions: &Arc<Actions>, _mask: &mut Box<Mask>) {}
    /// Whether `narrow` may do anything just now.
    fn narrows(&self) -> bool {
        false
    }
    /// Puts megaflows as `PutMode::Create` does. It is quickest where those that have the same mask share it, one after the other.
    fn put_new(&self, batch: &[NewFlow<'_>]) -> Vec<Result<(), DpError>> {
        self.put(&batch.iter().map(NewFlow::to_put).collect::<Vec<_>>())
    }
    /// Gives the last counters of what it removed.
    fn del(&self, batch: &[Ufid]) -> Vec<Result<FlowStats, DpError>>;
    fn get(&self, ufid: Ufid) -> Result<FlowDump, DpError>;
    /// Calls `each` for every megaflow until it returns false. Flows put or deleted meanwhile may be missed or seen.
    fn dump(&self, each: &mut dyn FnMut(&FlowDump) -> bool);
    /// Counters only, for the flows named, cheap: `None` for one that is not there.
    fn stats_of(&self, batch: &[Ufid], out: &mut Vec<Option<FlowStats>>);
    /// Whether a megaflow with this mask can be put at its input port. If not, the datapath searches as many masks there as it may
    /// already: then an exact megaflow, with a short life, does for this packet's flow.
    fn has_mask_room(&self, _mask: &Mask, _in_port: DpPort) -> bool {
        true
    }
    /// Takes the names of megaflows that the datapath asks to be rid of, since their masks are in the way of others that would be hit
    /// more. They stay until they are deleted.
    fn unwanted(&self) -> Vec<Ufid> {
        Vec::new()
    }
    /// Removes all.
    fn flush(&self);
    /// Returns when no packet can any longer be forwarded by a megaflow (or by the actions of a megaflow) that was deleted or
    /// replaced before the call: each worker has finished the batch it was in, and cache entries that name the old state are dead.
    /// A barrier is answered after this.
    fn quiesce(&self);

    /// Runs actions on packets now, on the caller's thread or a worker's.
    fn execute(&self, batch: Vec<Execute>) -> Vec<Result<(), DpError>>;

    // Upcalls.
    /// Takes up to `max` upcalls for this handler, waiting at most `timeout` for the first; fair among input ports. With `max` 0
    /// it only waits: it returns as soon as there is one to take, and leaves it there.
    fn upcalls(&self, handler: usize, max: usize, timeout: Duration, out: &mut Vec<Upcall>);
    /// How many handler threads will call `upcalls` (0..n).
    fn set_handlers(&self, n: usize);
    /// With it off, misses are dropped and counted (used while nothing can answer).
    fn set_upcalls_enabled(&self, on: bool);

    // Meters.
    fn meter_set(&self, id: u32, config: &MeterConfig) -> Result<(), DpError>;
    fn meter_get(&self, id: u32) -> Result<MeterStats, DpError>;
    fn meter_del(&self, id: u32) -> Result<MeterStats, DpError>;

    // Bonds whose members `lb_output` chooses among, by number. A datapath without them says so in its features.
    /// Gives a bond its members; it comes into being with the first.
    fn bond_set(&self, _bond: u32, _table: &BondTable) -> Result<(), DpError> {
        Err(DpError::Unsupported("lb_output".to_owned()))
    }
    fn bond_del(&self, _bond: u32) {}
    /// Bytes that went out by each bucket since the bond came.
    fn bond_bytes(&self, _bond: u32) -> Option<[u64; BOND_BUCKETS]> {
        None
    }

    /// The connection tracker, if the datapath has one.
    fn conntrack(&self) -> Option<&dyn Conntrack> {
        None
    }

    fn stats(&self) -> DpStats;
    /// `Open_vSwitch.other_config` keys that concern the datapath (pmd-cpu-mask, emc-insert-inv-prob, ...).
    fn set_config(&self, config: &[(String, String)]);
}
