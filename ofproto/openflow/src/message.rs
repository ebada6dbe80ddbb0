//! Messages in one form for all versions. `codec` turns them into bytes and back, `print` into ovs-ofctl's text.

use crate::action::OfAction;
use crate::error::OfError;
use crate::types::{GroupId, OfPort, TableId, Version, Versions, Xid};
use flow::matching::Match;

/// A decoded message with its header.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub version: Version,
    pub xid: Xid,
    pub body: Body,
}

/// What a message says. Requests and replies of one kind stand side by side.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Hello(Versions),
    Error(ErrorMessage),
    EchoRequest(Vec<u8>),
    EchoReply(Vec<u8>),
    FeaturesRequest,
    FeaturesReply(Box<Features>),
    GetConfigRequest,
    GetConfigReply(SwitchConfig),
    SetConfig(SwitchConfig),
    PacketIn(Box<PacketIn>),
    FlowRemoved(Box<FlowRemoved>),
    PortStatus(Box<PortStatus>),
    PacketOut(Box<PacketOut>),
    FlowMod(Box<FlowMod>),
    GroupMod(Box<GroupMod>),
    PortMod(Box<PortMod>),
    TableMod(TableMod),
    MeterMod(Box<MeterMod>),
    BarrierRequest,
    BarrierReply,
    QueueGetConfigRequest {
        port: OfPort,
        queue: u32,
    },
    QueueGetConfigReply {
        port: OfPort,
        queues: Vec<QueueConfig>,
    },
    RoleRequest(RoleRequest),
    RoleReply(RoleRequest),
    RoleStatus {
        role: Role,
        reason: u8,
        generation_id: Option<u64>,
    },
    GetAsyncRequest,
    GetAsyncReply(AsyncConfig),
    SetAsync(AsyncConfig),
    RequestForward(Box<Message>),
    TableStatus {
        reason: u8,
        desc: TableDesc,
    },
    BundleControl(BundleControl),
    BundleAdd {
        id: u32,
        flags: u16,
        message: Box<Message>,
        /** the inner message's own bytes, as it is written and printed */
        raw: Vec<u8>,
    },
    // Nicira
    SetFlowFormat(u32),
    FlowModTableId(bool),
    SetPacketInFormat(u32),
    FlowAge,
    SetControllerId(u16),
    TlvTableMod(TlvTableMod),
    TlvTableRequest,
    TlvTableReply(TlvTableReply),
    Resume(Box<PacketInPrivate>),
    CtFlushZone(u16),
    CtFlush(Box<CtFlush>),
    FlowMonitorCancel(u32),
    FlowMonitorPaused,
    FlowMonitorResumed,
    // Multipart
    Stats(Box<Multipart>),
}

/// A multipart request or reply; `more` is OFPMPF_*_MORE.
#[derive(Clone, Debug, PartialEq)]
pub struct Multipart {
    pub more: bool,
    /// OpenFlow 1.0 only: Nicira's form (NXST_FLOW, NXST_AGGREGATE) and not the standard one; a reply takes its request's.
    pub nxm: bool,
    pub body: MultipartBody,
}

/// The parts.
#[derive(Clone, Debug, PartialEq)]
pub enum MultipartBody {
    DescRequest,
    DescReply(SwitchDesc),
    FlowRequest(FlowStatsRequest),
    FlowReply(Vec<FlowStatsEntry>),
    AggregateRequest(FlowStatsRequest),
    AggregateReply {
        packets: u64,
        bytes: u64,
        flows: u32,
    },
    TableRequest,
    TableReply(Vec<TableStats>),
    PortRequest(OfPort),
    PortReply(Vec<PortStatsEntry>),
    QueueRequest {
        port: OfPort,
        queue: u32,
    },
    QueueReply(Vec<QueueStatsEntry>),
    GroupRequest(GroupId),
    GroupReply(Vec<GroupStatsEntry>),
    GroupDescRequest(GroupId),
    GroupDescReply(Vec<GroupDesc>),
    GroupFeaturesRequest,
    GroupFeaturesReply(GroupFeatures),
    MeterRequest(u32),
    MeterReply(Vec<MeterStatsEntry>),
    MeterConfigRequest(u32),
    MeterConfigReply(Vec<MeterConfigEntry>),
    MeterFeaturesRequest,
    MeterFeaturesReply(MeterFeatures),
    /// Empty: ask; otherwise set.
    TableFeaturesRequest(Vec<TableFeatures>),
    TableFeaturesReply(Vec<TableFeatures>),
    TableDescRequest,
    TableDescReply(Vec<TableDesc>),
    PortDescRequest(OfPort),
    PortDescReply(Vec<PortDesc>),
    FlowMonitorRequest(Vec<FlowMonitorRequest>),
    FlowMonitorReply(Vec<FlowUpdate>),
    IpfixBridgeRequest,
    IpfixBridgeReply(IpfixStats),
    IpfixFlowRequest,
    IpfixFlowReply(Vec<IpfixStats>),
}

/// OFPT_ERROR: `data` is the beginning of the offending message (or text for HELLO_FAILED).
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorMessage {
    pub error: OfError,
    pub data: Vec<u8>,
}

/// OFPC_STP of OpenFlow 1.0.
pub const CAPABILITY_STP: u32 = 1 << 31;

/// OFPT_FEATURES_REPLY.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Features {
    pub datapath_id: u64,
    pub n_buffers: u32,
    pub n_tables: u8,
    pub auxiliary_id: u8,
    /// OFPC_* in the newest version's numbering; `CAPABILITY_STP` is 1.0's STP, whose bit means group statistics later
    pub capabilities: u32,
    /// OpenFlow 1.0 action bitmap
    pub actions: u32,
    /// up to 1.2
    pub ports: Vec<PortDesc>,
}

/// OFPT_SET_CONFIG and GET_CONFIG_REPLY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SwitchConfig {
    /// OFPC_FRAG_*: normal 0, drop 1, reasm 2, nx-match 3; invalid-ttl-to-controller is bit 2 (1.1, 1.2)
    pub flags: u16,
    pub miss_send_len: u16,
}

/// A port: OFPT_PORT_STATUS, features, port description.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct PortDesc {
    pub port: OfPort,
    pub hw_addr: [u8; 6],
    pub name: String,
    /// OFPPC_* in 1.1+ numbering (PORT_DOWN 1, NO_STP 2, NO_RECV 4, NO_RECV_STP 8, NO_FLOOD 16, NO_FWD 32, NO_PACKET_IN 64)
    pub config: u32,
    /// OFPPS_*: LINK_DOWN 1, BLOCKED 2, LIVE 4; 1.0's STP state in bits 8-9
    pub state: u32,
    /// OFPPF_* in 1.1+ numbering
    pub curr: u32,
    pub advertised: u32,
    pub supported: u32,
    pub peer: u32,
    pub curr_speed_kbps: u32,
    pub max_speed_kbps: u32,
}

/// OFPT_PORT_STATUS: reason ADD 0, DELETE 1, MODIFY 2.
#[derive(Clone, Debug, PartialEq)]
pub struct PortStatus {
    pub reason: u8,
    pub desc: PortDesc,
}

/// OFPT_PORT_MOD: `mask` says which bits of `config` change.
#[derive(Clone, Debug, PartialEq)]
pub struct PortMod {
    pub port: OfPort,
    pub hw_addr: [u8; 6],
    pub config: u32,
    pub mask: u32,
    /// 0: leave
    pub advertise: u32,
}

/// The command of a flow-mod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FlowModCommand {
    Add = 0,
    Modify = 1,
    ModifyStrict = 2,
    Delete = 3,
    DeleteStrict = 4,
}

impl FlowModCommand {
    /// Whether it takes rules away.
    #[must_use]
    pub const fn is_delete(self) -> bool {
        matches!(self, Self::Delete | Self::DeleteStrict)
    }
}

/// Flags of flow-mods, in 1.3 numbering: SEND_FLOW_REM 1, CHECK_OVERLAP 2, RESET_COUNTS 4, NO_PKT_COUNTS 8, NO_BYT_COUNTS 16.
pub mod flow_mod_flags {
    pub const SEND_FLOW_REM: u16 = 1;
    pub const CHECK_OVERLAP: u16 = 2;
    pub const RESET_COUNTS: u16 = 4;
    pub const NO_PKT_COUNTS: u16 = 8;
    pub const NO_BYT_COUNTS: u16 = 16;
    /// OpenFlow 1.0's emergency flag: refused.
    pub const EMERG: u16 = 1 << 15;
}

/// A flow-mod of any version.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowMod {
    pub command: FlowModCommand,
    pub table: TableId,
    pub matching: Match,
    pub priority: u16,
    /// Cookie that MODIFY and DELETE select by: (value, mask)
    pub cookie: u64,
    pub cookie_mask: u64,
    pub new_cookie: u64,
    /// MODIFY changes the cookie
    pub modify_cookie: bool,
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    pub buffer_id: u32,
    pub out_port: OfPort,
    pub out_group: GroupId,
    pub flags: u16,
    pub importance: u16,
    /// Actions and instructions in order of execution.
    pub actions: Vec<OfAction>,
}

/// Selects flows for flow and aggregate statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowStatsRequest {
    pub matching: Match,
    pub table: TableId,
    pub out_port: OfPort,
    pub out_group: GroupId,
    pub cookie: u64,
    pub cookie_mask: u64,
}

/// One flow in a flow statistics reply.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowStatsEntry {
    pub matching: Match,
    pub cookie: u64,
    pub table: TableId,
    pub priority: u16,
    pub duration_sec: u32,
    pub duration_nsec: u32,
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    /// seconds since last used and modified, -1 when not carried
    pub idle_age: i32,
    pub hard_age: i32,
    pub flags: u16,
    pub importance: u16,
    /// u64::MAX: unknown
    pub packets: u64,
    pub bytes: u64,
    pub actions: Vec<OfAction>,
}

/// OFPT_FLOW_REMOVED.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowRemoved {
    pub matching: Match,
    pub cookie: u64,
    pub priority: u16,
    /// IDLE 0, HARD 1, DELETE 2, GROUP_DELETE 3, METER_DELETE 4, EVICTION 5
    pub reason: u8,
    pub table: TableId,
    pub duration_sec: u32,
    pub duration_nsec: u32,
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    pub packets: u64,
    pub bytes: u64,
}

/// The public part of a packet-in.
#[derive(Clone, Debug, PartialEq)]
pub struct PacketIn {
    pub packet: Vec<u8>,
    pub full_len: u32,
    pub buffer_id: u32,
    /// NO_MATCH 0, ACTION 1, INVALID_TTL 2, ACTION_SET 3, GROUP 4, PACKET_OUT 5, EXPLICIT_MISS and IMPLICIT_MISS internal
    pub reason: u8,
    pub table: TableId,
    pub cookie: u64,
    /// in_port and other pipeline fields
    pub metadata: Match,
    pub userdata: Vec<u8>,
    /// NXPINT_CONTINUATION, opaque
    pub continuation: Vec<u8>,
    /// which encoding: standard, NXT_PACKET_IN, NXT_PACKET_IN2
    pub format: PacketInFormat,
}

/// NXT_SET_PACKET_IN_FORMAT values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum PacketInFormat {
    #[default]
    Standard = 0,
    Nxt = 1,
    Nxt2 = 2,
}

/// A packet-in with its continuation (NXT_RESUME): where translation goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct PacketInPrivate {
    pub public: PacketIn,
    pub bridge: [u8; 16],
    pub stack: Vec<Vec<u8>>,
    pub mirrors: u32,
    pub conntracked: bool,
    pub odp_port: u32,
    /// What remains to be done, in the order in which it would be done.
    pub frames: Vec<Frame>,
    pub action_set: Vec<OfAction>,
}

/// Actions that remain in one table's flow when a packet is paused.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Frame {
    pub table: TableId,
    pub cookie: u64,
    pub actions: Vec<OfAction>,
}

/// OFPT_PACKET_OUT.
#[derive(Clone, Debug, PartialEq)]
pub struct PacketOut {
    pub buffer_id: u32,
    pub packet: Vec<u8>,
    /// in_port and, in 1.5, other pipeline fields
    pub metadata: Match,
    pub actions: Vec<OfAction>,
}

/// Group types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GroupType {
    All = 0,
    Select = 1,
    Indirect = 2,
    FastFailover = 3,
}

/// Group commands (1.5 numbering, with OVS's ADD_OR_MOD).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum GroupCommand {
    Add = 0,
    Modify = 1,
    Delete = 2,
    InsertBucket = 3,
    RemoveBucket = 5,
    AddOrMod = 0x8000,
}

/// Bucket ids of their own meaning (OFPG15_BUCKET_*).
pub mod bucket_id {
    /// Highest real one.
    pub const MAX: u32 = 0xffff_ff00;
    pub const FIRST: u32 = 0xffff_fffd;
    pub const LAST: u32 = 0xffff_fffe;
    pub const ALL: u32 = 0xffff_ffff;
}

/// A bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    pub id: u32,
    pub weight: u16,
    pub watch_port: OfPort,
    pub watch_group: GroupId,
    pub actions: Vec<OfAction>,
}

/// NTR selection method.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SelectionMethod {
    /// "", "hash", "dp_hash"
    pub method: String,
    pub param: u64,
    /// fields to hash, each with the bits of it that count, in the order of `Field`
    pub fields: Vec<(flow::fields::Field, flow::fields::Value)>,
}

/// OFPT_GROUP_MOD.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupMod {
    pub command: GroupCommand,
    pub kind: GroupType,
    pub group: GroupId,
    /// FIRST 0xfffffffd, LAST 0xfffffffe, ALL 0xffffffff or a bucket id
    pub command_bucket_id: u32,
    pub buckets: Vec<Bucket>,
    pub selection: SelectionMethod,
}

/// One group in OFPMP_GROUP_DESC.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupDesc {
    pub group: GroupId,
    pub kind: GroupType,
    pub buckets: Vec<Bucket>,
    pub selection: SelectionMethod,
}

/// One group in OFPMP_GROUP.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct GroupStatsEntry {
    pub group: GroupId,
    pub ref_count: u32,
    pub packets: u64,
    pub bytes: u64,
    pub duration_sec: u32,
    pub duration_nsec: u32,
    pub buckets: Vec<(u64, u64)>,
}

/// OFPMP_GROUP_FEATURES.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct GroupFeatures {
    pub types: u32,
    pub capabilities: u32,
    pub max_groups: [u32; 4],
    /// bitmap of actions per type
    pub actions: [u64; 4],
}

/// Meter commands ADD 0, MODIFY 1, DELETE 2.
#[derive(Clone, Debug, PartialEq)]
pub struct MeterMod {
    pub command: u16,
    pub meter: MeterConfigEntry,
}

/// A meter's configuration.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct MeterConfigEntry {
    pub id: u32,
    pub config: flow::seam::MeterConfig,
}

/// OFPMP_METER.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct MeterStatsEntry {
    pub id: u32,
    pub flow_count: u32,
    pub packets_in: u64,
    pub bytes_in: u64,
    pub duration_sec: u32,
    pub duration_nsec: u32,
    pub bands: Vec<(u64, u64)>,
}

/// OFPMP_METER_FEATURES.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MeterFeatures {
    pub max_meters: u32,
    pub band_types: u32,
    pub capabilities: u32,
    pub max_bands: u8,
    pub max_color: u8,
}

/// OFPT_TABLE_MOD. `None`: leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TableMod {
    pub table: TableId,
    /// OFPTC11_*: miss controller 0, continue 1, drop 2
    pub miss: Option<u8>,
    pub eviction: Option<bool>,
    /// OFPTMPEF14_* as carried
    pub eviction_flags: Option<u32>,
    pub vacancy: Option<bool>,
    pub vacancy_down: u8,
    pub vacancy_up: u8,
}

/// OFPMP_TABLE_DESC and OFPT_TABLE_STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TableDesc {
    pub table: TableId,
    pub eviction: bool,
    pub eviction_flags: u32,
    pub vacancy: bool,
    pub vacancy_down: u8,
    pub vacancy_up: u8,
    pub vacancy_now: u8,
}

/// OFPMP_TABLE, wide enough for all versions.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TableStats {
    pub table: TableId,
    pub active: u32,
    pub lookups: u64,
    pub matched: u64,
    /// what 1.0 to 1.2 tell beyond that
    pub features: TableFeatures,
}

/// OFPMP_TABLE_FEATURES.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TableFeatures {
    pub table: TableId,
    /// 1.5: REPLACE 0, MODIFY 1, ENABLE 2, DISABLE 3
    pub command: u8,
    pub name: String,
    pub metadata_match: u64,
    pub metadata_write: u64,
    pub miss: u8,
    pub supports_eviction: bool,
    pub supports_vacancy: bool,
    pub max_entries: u32,
    /// [0] flows, [1] table miss
    pub flows: [TableFeatureSet; 2],
    /// fields matchable: (field, maskable); wildcard only
    pub matchable: Vec<flow::fields::Field>,
    pub maskable: Vec<flow::fields::Field>,
    pub wildcard: Vec<flow::fields::Field>,
    /// a property list was carried
    pub any_properties: bool,
}

/// What flows of a table may do.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TableFeatureSet {
    /// tables reachable: bit n for table n
    pub next: [u64; 4],
    /// bits of OVSINST_*: meter, apply, clear, write, metadata, goto
    pub instructions: u32,
    pub write: ActionFeatures,
    pub apply: ActionFeatures,
}

/// Actions and settable fields.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ActionFeatures {
    /// bits of the abstract action types, in the order of the table in `action_table`
    pub actions: u64,
    pub set_fields: Vec<flow::fields::Field>,
}

/// OFPMP_DESC.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SwitchDesc {
    pub manufacturer: String,
    pub hardware: String,
    pub software: String,
    pub serial: String,
    pub datapath: String,
}

/// OFPMP_PORT_STATS; u64::MAX where unknown.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct PortStatsEntry {
    pub port: OfPort,
    pub stats: PortCounters,
    pub duration_sec: u32,
    pub duration_nsec: u32,
    /// Counters of RFC 2819 (1.4+): rx of 64, 127, 255, 511, 1023, 1522 and more bytes, tx likewise, tx multicast,
    /// rx and tx broadcast, rx undersized, oversized, fragmented, jabbers; u64::MAX where unknown.
    pub rfc2819: Option<Box<[u64; 21]>>,
    /// custom counters (1.4+)
    pub custom: Vec<(String, u64)>,
}

/// Counters of OpenFlow ports; u64::MAX where unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PortCounters {
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
    pub collisions: u64,
}

/// A queue's configuration: rates in 1/10 %, u16::MAX unset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct QueueConfig {
    pub port: OfPort,
    pub queue: u32,
    pub min_rate: u16,
    pub max_rate: u16,
}

/// OFPMP_QUEUE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct QueueStatsEntry {
    pub port: OfPort,
    pub queue: u32,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub duration_sec: u32,
    pub duration_nsec: u32,
}

/// Roles in 1.2+ numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Role {
    NoChange = 0,
    #[default]
    Equal = 1,
    Primary = 2,
    Secondary = 3,
}

/// OFPT_ROLE_REQUEST and reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RoleRequest {
    pub role: Role,
    /// NXT_ROLE_REQUEST, the only form before 1.2; a reply takes its request's.
    pub nicira: bool,
    /// `None` when the version carries none (Nicira's form)
    pub generation_id: Option<u64>,
}

/// Which asynchronous messages: bit masks of reasons, [0] primary and equal, [1] secondary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AsyncConfig {
    pub packet_in: [u32; 2],
    pub port_status: [u32; 2],
    pub flow_removed: [u32; 2],
    pub role_status: [u32; 2],
    pub table_status: [u32; 2],
    pub request_forward: [u32; 2],
    /// which of the twelve a SET carried (1.4+ carries some); bit 2n is [0] of row n
    pub carried: u16,
}

/// OFPT_BUNDLE_CONTROL: type OPEN_REQUEST 0 .. DISCARD_REPLY 7; flags ATOMIC 1 ORDERED 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BundleControl {
    pub id: u32,
    pub kind: u16,
    pub flags: u16,
}

/// One tunnel TLV mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TlvMap {
    pub class: u16,
    pub kind: u8,
    pub len: u8,
    pub index: u16,
}

/// NXT_TLV_TABLE_MOD: ADD 0, DELETE 1, CLEAR 2.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TlvTableMod {
    pub command: u16,
    pub maps: Vec<TlvMap>,
}

/// NXT_TLV_TABLE_REPLY.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TlvTableReply {
    pub max_space: u32,
    pub max_fields: u16,
    pub maps: Vec<TlvMap>,
}

/// NXT_CT_FLUSH.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct CtFlush {
    pub zone: Option<u16>,
    pub mark: Option<(u32, u32)>,
    pub labels: Option<(u128, u128)>,
    pub l3_family: u16,
    pub ip_proto: u8,
    pub original: Option<CtTuple>,
    pub reply: Option<CtTuple>,
}

/// One direction of a connection; unset parts are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CtTuple {
    pub src: [u8; 16],
    pub dst: [u8; 16],
    pub src_port: u16,
    pub dst_port: u16,
    pub icmp_type: u8,
    pub icmp_code: u8,
    pub icmp_id: u16,
}

/// OFPMP_FLOW_MONITOR request; flags in OpenFlow 1.4 numbering.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowMonitorRequest {
    pub id: u32,
    /// ADD 0, MODIFY 1, DELETE 2 (1.4+)
    pub command: u8,
    pub flags: u16,
    pub out_port: OfPort,
    pub out_group: GroupId,
    pub table: TableId,
    pub matching: Match,
}

/// One update of a flow monitor.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all are full")]
pub enum FlowUpdate {
    /// event INITIAL 0, ADDED 1, REMOVED 2, MODIFIED 3 (1.4 numbering)
    Full {
        event: u8,
        reason: u8,
        priority: u16,
        idle_timeout: u16,
        hard_timeout: u16,
        table: TableId,
        cookie: u64,
        matching: Match,
        actions: Vec<OfAction>,
    },
    Abbrev {
        xid: u32,
    },
    /// 1.4+; before, messages of their own
    Paused,
    Resumed,
}

/// IPFIX statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct IpfixStats {
    pub collector_set_id: u32,
    pub total_flows: u64,
    pub current_flows: u64,
    pub packets: u64,
    pub ipv4_packets: u64,
    pub ipv6_packets: u64,
    pub error_packets: u64,
    pub ipv4_error_packets: u64,
    pub ipv6_error_packets: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
}
