//! What the configuration wants of the slow path: declarative, whole, compared with what is there.
//!
//! The daemon builds a `SwitchConfig` from the database and gives it to `Slowpath::configure`; what differs is changed live, what
//! does not is left untouched. What came of it (port numbers, errors) is read back from `Slowpath::status`. Names and defaults are
//! those of ovs-vswitchd.conf.db(5); the daemon has already applied defaults and refused what is out of range.

use flow::conntrack::CT_STAGES;
use flow::seam::PortRequest;
use openflow::tls::TlsFiles;
use openflow::types::Versions;
use std::net::IpAddr;

/// Everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SwitchConfig {
    pub bridges: Vec<BridgeConfig>,
    pub upcalls: UpcallConfig,
    /// Keys of `Open_vSwitch.other_config` that the datapaths read themselves.
    pub datapath: Vec<(String, String)>,
    /// `other_config:vlan-limit`; 0 is "as many as the datapath can".
    pub vlan_limit: u32,
    /// `other_config:explicit-sampled-drops`
    pub explicit_sampled_drops: bool,
    pub bundle_idle_timeout_s: u32,
    /// `other_config:flow-restore-wait`
    pub flow_restore_wait: bool,
    /// Connection tracking, by datapath type.
    pub tracking: Vec<TrackingConfig>,
    /// Files of `ssl:` and `pssl:` controllers.
    pub tls: TlsFiles,
    /// Where `BRIDGE.mgmt` and `BRIDGE.snoop` are bound; `None` binds none.
    pub rundir: Option<std::path::PathBuf>,
}

/// Connection tracking of the datapath of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackingConfig {
    pub datapath_type: String,
    /// The limit of zones without one of their own.
    pub default_limit: Option<u32>,
    pub zones: Vec<ZoneConfig>,
}

/// A zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneConfig {
    pub zone: u16,
    pub limit: Option<u32>,
    /// Its timeout policy.
    pub timeouts: Option<Timeouts>,
}

/// Seconds by stage, `None` for the default.
pub type Timeouts = [Option<u32>; CT_STAGES.len()];

/// Upcall handling and revalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpcallConfig {
    pub flow_limit: usize,
    pub max_idle_ms: i64,
    pub max_revalidator_ms: i64,
    pub min_revalidate_pps: u32,
    pub handlers: Option<usize>,
    pub revalidators: Option<usize>,
}

impl Default for UpcallConfig {
    fn default() -> Self {
        Self {
            flow_limit: 200_000,
            max_idle_ms: 10_000,
            max_revalidator_ms: 500,
            min_revalidate_pps: 5,
            handlers: None,
            revalidators: None,
        }
    }
}

/// One bridge.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BridgeConfig {
    pub name: String,
    /// "system", "netdev", "dummy"
    pub datapath_type: String,
    /// `None`: made from the bridge's MAC.
    pub datapath_id: Option<u64>,
    /// other_config:hwaddr
    pub hwaddr: Option<[u8; 6]>,
    /// The MAC of a bridge without `hwaddr` whose ports have none that is fit, the same over restarts. `None`: a random one.
    pub default_mac: Option<[u8; 6]>,
    pub fail_mode: FailMode,
    pub protocols: Versions,
    pub controllers: Vec<ControllerConfig>,
    pub ports: Vec<PortConfig>,
    pub tables: Vec<(u8, TableConfig)>,
    pub mac_table_size: usize,
    pub mac_aging_s: u32,
    pub flood_vlans: Vec<u16>,
    pub forward_bpdu: bool,
    pub auto_attach: crate::lldp::AutoAttach,
    pub stp: bool,
    /// Wins over `stp`.
    pub rstp: bool,
    pub disable_in_band: bool,
    pub in_band_queue: Option<u32>,
    pub controller_queue_size: usize,
    pub dp_desc: Option<String>,
    pub serial: Option<String>,
    pub mirrors: Vec<MirrorConfig>,
    pub mcast_snooping: Option<McastConfig>,
    pub netflow: Option<NetflowConfig>,
    pub sflow: Option<SflowConfig>,
    pub ipfix: Option<IpfixConfig>,
    /// By collector set.
    pub flow_ipfix: Vec<(u32, IpfixConfig)>,
    /// Map keys of STP, RSTP, flow export that later rooms read.
    pub other_config: Vec<(String, String)>,
}

/// What a bridge does while no controller answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FailMode {
    #[default]
    Standalone,
    Secure,
}

/// One row of Controller.
#[derive(Clone, Debug, PartialEq)]
pub struct ControllerConfig {
    /// `tcp:IP:PORT`, `ptcp:`, `ssl:`, `pssl:`, `unix:`, `punix:`
    pub target: String,
    /// "service" controllers do not count for fail mode.
    pub service: bool,
    pub max_backoff_ms: i64,
    /// 0: never probe
    pub inactivity_probe_ms: i64,
    pub out_of_band: bool,
    pub enable_async: bool,
    pub rate_limit: Option<u32>,
    pub burst_limit: Option<u32>,
    pub queue_size: usize,
    pub dscp: u8,
}

/// One row of Port: one interface, or several as a bond.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PortConfig {
    pub name: String,
    pub interfaces: Vec<InterfaceConfig>,
    pub vlan_mode: VlanMode,
    /// access or native VLAN
    pub tag: Option<u16>,
    /// empty: all
    pub trunks: Vec<u16>,
    pub cvlans: Vec<u16>,
    /// 0x88a8 or 0x8100
    pub qinq_ethtype: u16,
    pub priority_tags: PriorityTags,
    pub protected: bool,
    pub bond: Option<BondConfig>,
    /// Queues of the port's QoS that mark packets: queue and DSCP (0..=63).
    pub queue_dscp: Vec<(u32, u8)>,
    /// "active", "passive", "off"
    pub lacp: String,
    /// other_config, for STP, multicast, LACP rooms
    pub other_config: Vec<(String, String)>,
}

impl PortConfig {
    /// Whether a key of `other_config` says "true".
    #[must_use]
    pub fn is_on(&self, key: &str) -> bool {
        self.other_config.iter().any(|(k, v)| k == key && v == "true")
    }
}

/// `Port.vlan_mode`, resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum VlanMode {
    Access,
    #[default]
    Trunk,
    NativeTagged,
    NativeUntagged,
    Dot1qTunnel,
}

/// `Port.other_config:priority-tags`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PriorityTags {
    #[default]
    Never,
    IfNonzero,
    Always,
}

/// One row of Interface.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InterfaceConfig {
    pub name: String,
    /// Device: type, options, MAC, MTU. `patch` never reaches the datapath.
    pub device: PortRequest,
    pub ofport_request: Option<u16>,
    /// The number that it had when it was last configured; a new port gets it again if nobody has asked for another and it is free.
    pub ofport_before: Option<u16>,
    /// `options:peer` of a patch port
    pub peer: Option<String>,
    pub bfd: Vec<(String, String)>,
    pub cfm_mpid: Option<i64>,
    pub lldp: Vec<(String, String)>,
    pub other_config: Vec<(String, String)>,
}

/// Bond parameters of Port.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct BondConfig {
    /// "active-backup", "balance-slb", "balance-tcp"
    pub mode: String,
    pub updelay_ms: i64,
    pub downdelay_ms: i64,
    /// `bond_active_slave`: MAC of the member that was active before a restart
    pub active_mac: Option<[u8; 6]>,
}

/// One row of Mirror, names resolved by the bridge.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct MirrorConfig {
    pub name: String,
    pub select_all: bool,
    pub src_ports: Vec<String>,
    pub dst_ports: Vec<String>,
    pub vlans: Vec<u16>,
    pub output_port: Option<String>,
    pub output_vlan: Option<u16>,
    pub snaplen: Option<u16>,
    /// A match as in flows; a mirror whose filter cannot be read mirrors nothing.
    pub filter: Option<String>,
}

/// Multicast snooping parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct McastConfig {
    pub table_size: usize,
    pub aging_s: u32,
    pub flood_unregistered: bool,
}

/// One row of NetFlow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetflowConfig {
    /// `IP:PORT`, `NAME:PORT`
    pub targets: Vec<String>,
    pub engine_type: u8,
    pub engine_id: u8,
    pub add_id_to_interface: bool,
    /// `None`: a flow is told of when it ends only.
    pub active_timeout_s: Option<u32>,
}

/// One row of sFlow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SflowConfig {
    /// `IP[:PORT]`, `NAME[:PORT]`
    pub targets: Vec<String>,
    /// One packet of so many; at least 1.
    pub sampling: u32,
    /// 0: no counters
    pub polling_s: u32,
    /// Bytes of a packet that a sample carries.
    pub header: u32,
    /// The agent's address, made out of the device or address that is configured. `None`: that by which a collector is reached.
    pub agent: Option<IpAddr>,
    /// Tells the agents of several bridges apart.
    pub sub_id: u32,
}

/// One row of IPFIX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpfixConfig {
    /// `IP[:PORT]`, `NAME[:PORT]`
    pub targets: Vec<String>,
    /// One packet of so many (of the bridge as a whole; `sample` says it itself).
    pub sampling: u32,
    pub obs_domain_id: u32,
    pub obs_point_id: u32,
    /// 0: each packet is a record of its own.
    pub cache_active_timeout_s: u32,
    pub cache_max_flows: usize,
    pub stats_interval_s: u32,
    pub template_interval_s: u32,
    pub input_sampling: bool,
    pub output_sampling: bool,
    pub tunnel_sampling: bool,
    pub virtual_obs_id: Option<String>,
}

/// One row of Flow_Table.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TableConfig {
    pub name: Option<String>,
    pub flow_limit: Option<usize>,
    /// overflow_policy=evict
    pub evict: bool,
    /// eviction groups
    pub groups: Vec<String>,
    pub prefixes: Vec<String>,
}

/// What came of an interface.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct InterfaceStatus {
    pub bridge: String,
    pub name: String,
    /// `None` before it was tried, and if it cannot be had: then `error` says why.
    pub ofport: Option<u16>,
    /// Of a port that is there, what else is wrong with it.
    pub error: Option<String>,
    /// The datapath's port, when it has one.
    pub info: Option<flow::seam::PortInfo>,
    pub stats: Option<flow::seam::PortStats>,
    pub link: crate::protocols::LinkStatus,
    /// Counters that the device has beside the usual ones.
    pub custom_stats: Vec<(String, u64)>,
}

/// What came of a controller.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ControllerStatus {
    pub bridge: String,
    pub target: String,
    pub is_connected: bool,
    /// "other", "master", "slave"
    pub role: Option<String>,
    /// last_error, state, sec_since_connect, sec_since_disconnect
    pub status: Vec<(String, String)>,
}

/// What came of a bridge.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct BridgeStatus {
    pub name: String,
    pub datapath_id: u64,
    pub datapath_version: String,
    pub status: Vec<(String, String)>,
    pub stp: Option<crate::stp::BridgeStatus>,
    pub rstp: Option<crate::rstp::BridgeStatus>,
    /// Name of each mirror, packets and bytes that it has copied.
    pub mirrors: Vec<(String, u64, u64)>,
    pub error: Option<String>,
}
