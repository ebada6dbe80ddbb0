//! What the switch tells of itself: features, ports, tables, flows, statistics.
//!
//! What enters: the world to read, a request. What leaves: the parts of a reply, in one form for all versions.

use crate::bridge::{Bridge, Port, PortView};
use crate::classifier::MiniMatch;
use crate::flow_mod::Criteria;
use crate::internal::Own;
use crate::rule::Rule;
use crate::slowpath::patch_stats;
use crate::table::{INTERNAL, Miss, Table};
use crate::world::World;
use flow::Msec;
use flow::fields::{Field, MaskKind};
use flow::seam::PortStats;
use openflow::message::{
    ActionFeatures, Features, FlowStatsEntry, FlowStatsRequest, PortCounters, PortDesc, PortStatsEntry, SwitchDesc, TableDesc,
    TableFeatureSet, TableFeatures, TableStats,
};
use openflow::{OfError, OfPort, TableId, Version};
use std::sync::atomic::Ordering;

/// OFPC_* in the newest numbering; 1.0's ARP_MATCH_IP stands where it does there.
mod capability {
    pub(super) const FLOW_STATS: u32 = 1;
    pub(super) const TABLE_STATS: u32 = 1 << 1;
    pub(super) const PORT_STATS: u32 = 1 << 2;
    pub(super) const GROUP_STATS: u32 = 1 << 3;
    pub(super) const QUEUE_STATS: u32 = 1 << 6;
    pub(super) const ARP_MATCH_IP: u32 = 1 << 7;
    pub(super) const BUNDLES: u32 = 1 << 9;
}

/// All twelve actions of OpenFlow 1.0.
const ACTIONS_OF10: u32 = 0xfff;
/// Tables that controllers see.
const TABLES_VISIBLE: u8 = 254;
const MAX_ENTRIES: u32 = 1_000_000;
const INSTRUCTIONS_ALL: u32 = 0x3f;
const GOTO: u32 = 1 << 5;

/// Seconds and nanoseconds since `since`.
#[must_use]
pub(super) fn duration(since: Msec, now: Msec) -> (u32, u32) {
    let ms = (now - since).max(0);
    let sec = u32::try_from(ms / 1000).unwrap_or(u32::MAX);
    let nsec = u32::try_from(ms % 1000 * 1_000_000).unwrap_or(0);
    (sec, nsec)
}

/// OFPT_FEATURES_REPLY.
#[must_use]
pub(super) fn features(bridge: &Bridge, version: Version) -> Features {
    use capability::{ARP_MATCH_IP, BUNDLES, FLOW_STATS, GROUP_STATS, PORT_STATS, QUEUE_STATS, TABLE_STATS};
    Features {
        datapath_id: bridge.datapath_id,
        n_buffers: 0,
        n_tables: TABLES_VISIBLE,
        auxiliary_id: 0,
        capabilities: FLOW_STATS | TABLE_STATS | PORT_STATS | GROUP_STATS | QUEUE_STATS | ARP_MATCH_IP | BUNDLES,
        actions: ACTIONS_OF10,
        ports: if version < Version::V13 { port_descs(bridge, OfPort::ANY) } else { Vec::new() },
    }
}

/// OFPMP_DESC.
#[must_use]
pub(super) fn desc(bridge: &Bridge) -> SwitchDesc {
    let none = || "None".to_owned();
    SwitchDesc {
        manufacturer: "Nicira, Inc.".to_owned(),
        hardware: "Open vSwitch".to_owned(),
        software: crate::OVS_VERSION.to_owned(),
        serial: bridge.config.serial.clone().unwrap_or_else(none),
        datapath: bridge.config.dp_desc.clone().unwrap_or_else(none),
    }
}

/// A port as messages describe it.
#[must_use]
pub(super) fn port_desc(view: &PortView) -> PortDesc {
    let curr = features_of_speed(view.speed_bps, view.full_duplex) | view.link.current;
    let kbps = u32::try_from(view.speed_bps / 1000).unwrap_or(u32::MAX);
    PortDesc {
        port: view.number,
        hw_addr: view.mac,
        name: view.name.clone(),
        config: view.config,
        state: view.state,
        curr,
        advertised: view.link.advertised,
        supported: view.link.supported,
        peer: 0,
        curr_speed_kbps: kbps,
        max_speed_kbps: PortDesc::fastest_kbps(view.link.supported),
    }
}

/// OFPPF_* of a link's speed; 0 when it is not known.
fn features_of_speed(bps: u64, full_duplex: Option<bool>) -> u32 {
    let full = full_duplex.unwrap_or(true);
    match (bps / 1_000_000, full) {
        (10, half_or_full) => 1 << u32::from(half_or_full),
        (100, half_or_full) => 4 << u32::from(half_or_full),
        (1000, half_or_full) => 16 << u32::from(half_or_full),
        (10_000, _) => 1 << 6,
        (40_000, _) => 1 << 7,
        (100_000, _) => 1 << 8,
        (1_000_000, _) => 1 << 9,
        _ => 0,
    }
}

/// OFPMP_PORT_DESC.
#[must_use]
pub(super) fn port_descs(bridge: &Bridge, port: OfPort) -> Vec<PortDesc> {
    bridge.ports.values().filter(|p| port == OfPort::ANY || p.number == port).map(|p| port_desc(&p.view())).collect()
}

/// OFPMP_PORT_STATS.
pub(super) fn port_stats(world: &World, bridge: &Bridge, port: OfPort, now: Msec) -> Result<Vec<PortStatsEntry>, OfError> {
    if port == OfPort::ANY {
        return Ok(bridge.ports.values().map(|p| port_entry(world, bridge, p, now)).collect());
    }
    // OpenFlow says nothing of a port that is not there; OVS answers with no entry.
    Ok(bridge.ports.get(&port).map(|p| port_entry(world, bridge, p, now)).into_iter().collect())
}

fn port_entry(world: &World, bridge: &Bridge, port: &Port, now: Msec) -> PortStatsEntry {
    let counted = match port.own_dp_port() {
        Some(number) => world.backend(bridge.id).and_then(|b| b.dp.port_stats(number).ok()),
        None => Some(patch_stats(port)),
    };
    let custom = port.dp_port.and_then(|number| Some(world.backend(bridge.id)?.dp.port_custom_stats(number)));
    let (duration_sec, duration_nsec) = duration(port.created_ms, now);
    PortStatsEntry {
        port: port.number,
        stats: counted.as_ref().map_or_else(unknown_counters, counters),
        duration_sec,
        duration_nsec,
        custom: custom.unwrap_or_default(),
        ..PortStatsEntry::default()
    }
}

fn counters(s: &PortStats) -> PortCounters {
    PortCounters {
        rx_packets: s.rx_packets,
        tx_packets: s.tx_packets,
        rx_bytes: s.rx_bytes,
        tx_bytes: s.tx_bytes,
        rx_dropped: s.rx_dropped,
        tx_dropped: s.tx_dropped,
        rx_errors: s.rx_errors,
        tx_errors: s.tx_errors,
        rx_frame_err: s.rx_frame_err,
        rx_over_err: s.rx_over_err,
        rx_crc_err: s.rx_crc_err,
        collisions: s.collisions,
    }
}

fn unknown_counters() -> PortCounters {
    const UNKNOWN: u64 = u64::MAX;
    PortCounters {
        rx_packets: UNKNOWN,
        tx_packets: UNKNOWN,
        rx_bytes: UNKNOWN,
        tx_bytes: UNKNOWN,
        rx_dropped: UNKNOWN,
        tx_dropped: UNKNOWN,
        rx_errors: UNKNOWN,
        tx_errors: UNKNOWN,
        rx_frame_err: UNKNOWN,
        rx_over_err: UNKNOWN,
        rx_crc_err: UNKNOWN,
        collisions: UNKNOWN,
    }
}

/// OFPMP_FLOW: the rules that a request selects, by table and falling priority.
pub(super) fn flows(bridge: &Bridge, request: &FlowStatsRequest, now: Msec) -> Result<Vec<FlowStatsEntry>, OfError> {
    let criteria = criteria(request);
    let internal = request.table == INTERNAL;
    let mut rules = if internal { criteria.select_internal(bridge) } else { criteria.select(bridge)? };
    rules.sort_by_key(|r| (r.table, std::cmp::Reverse(r.priority), r.life.serial));
    let mut entries: Vec<_> = rules.iter().map(|rule| flow_entry(bridge, rule, now)).collect();
    entries.extend(criteria.select_own().map(|own| own_entry(bridge, own, now)));
    Ok(entries)
}

/// OFPMP_AGGREGATE: (packets, bytes, flows).
pub(super) fn aggregate(bridge: &Bridge, request: &FlowStatsRequest) -> Result<(u64, u64, u32), OfError> {
    let criteria = criteria(request);
    let counted = |(sum, n): ((u64, u64), u32), one: (u64, u64)| ((sum.0 + one.0, sum.1 + one.1), n.saturating_add(1));
    let internal = request.table == INTERNAL;
    let rules = if internal { criteria.select_internal(bridge) } else { criteria.select(bridge)? };
    let own = criteria.select_own().map(|own| bridge.own_rules.tally(own).read());
    let ((packets, bytes), flows) = rules.iter().map(|rule| rule.life.tally.read()).chain(own).fold(((0, 0), 0), counted);
    Ok((packets, bytes, flows))
}

fn criteria(request: &FlowStatsRequest) -> Criteria {
    Criteria {
        table: request.table,
        within: MiniMatch::new(&request.matching.key, &request.matching.mask),
        strict_priority: None,
        cookie: request.cookie,
        cookie_mask: request.cookie_mask,
        out_port: request.out_port,
        out_group: request.out_group,
    }
}

/// One of the rules that every bridge has.
fn own_entry(bridge: &Bridge, own: Own, now: Msec) -> FlowStatsEntry {
    let (priority, matching) = own.matching();
    let (packets, bytes) = bridge.own_rules.tally(own).read();
    let (duration_sec, duration_nsec) = duration(bridge.own_rules.created_ms, now);
    FlowStatsEntry {
        matching,
        cookie: 0,
        table: INTERNAL,
        priority,
        duration_sec,
        duration_nsec,
        idle_timeout: 0,
        hard_timeout: 0,
        idle_age: -1,
        hard_age: -1,
        flags: 0,
        importance: 0,
        packets,
        bytes,
        actions: own.actions_shown(),
    }
}

/// A rule in a flow statistics reply.
fn flow_entry(bridge: &Bridge, rule: &Rule, now: Msec) -> FlowStatsEntry {
    let (packets, bytes) = rule.life.tally.read();
    let (duration_sec, duration_nsec) = duration(rule.life.created_ms, now);
    let (idle_timeout, hard_timeout) = rule.timeouts_s();
    let age = |since: &std::sync::atomic::AtomicI64| {
        i32::try_from((now - since.load(Ordering::Relaxed)).max(0) / 1000).unwrap_or(i32::MAX)
    };
    FlowStatsEntry {
        matching: rule.matching(bridge),
        cookie: rule.cookie.load(Ordering::Relaxed),
        table: rule.table,
        priority: u16::try_from(rule.priority).unwrap_or(u16::MAX),
        duration_sec,
        duration_nsec,
        idle_timeout,
        hard_timeout,
        idle_age: age(&rule.life.used_ms),
        hard_age: age(&rule.life.modified_ms),
        flags: rule.flags,
        importance: rule.importance,
        packets,
        bytes,
        actions: rule.actions.to_vec(),
    }
}

/// OFPMP_TABLE.
#[must_use]
pub(super) fn table_stats(bridge: &Bridge) -> Vec<TableStats> {
    bridge
        .tables
        .iter()
        .filter(|t| t.id != INTERNAL)
        .map(|t| TableStats {
            table: t.id,
            active: u32::try_from(t.visible_rules()).unwrap_or(u32::MAX),
            lookups: t.lookups.load(Ordering::Relaxed),
            matched: t.matched.load(Ordering::Relaxed),
            features: table_features(bridge, t.id),
        })
        .collect()
}

/// OFPMP_TABLE_FEATURES.
#[must_use]
pub(super) fn all_table_features(bridge: &Bridge) -> Vec<TableFeatures> {
    bridge.tables.iter().filter(|t| t.id != INTERNAL).map(|t| table_features(bridge, t.id)).collect()
}

/// What a table can do: everything, in every table.
#[must_use]
pub(super) fn table_features(bridge: &Bridge, table: TableId) -> TableFeatures {
    let t = &bridge.tables[usize::from(table.0)];
    let mut next = [0u64; 4];
    for n in table.0 + 1..TABLES_VISIBLE {
        next[usize::from(n) / 64] |= 1 << (n % 64);
    }
    let usable: Vec<Field> = Field::ALL.iter().copied().filter(|f| !f.row().codes.is_empty()).collect();
    let actions = ActionFeatures {
        actions: openflow::wire::actions::bitmap::ALL,
        set_fields: usable.iter().copied().filter(|f| f.row().writable).collect(),
    };
    // From the last table no other can be reached.
    let instructions = if next == [0; 4] { INSTRUCTIONS_ALL & !GOTO } else { INSTRUCTIONS_ALL };
    let flows = TableFeatureSet { next, instructions, write: actions.clone(), apply: actions };
    TableFeatures {
        table,
        command: 0,
        name: t.name().to_owned(),
        metadata_match: u64::MAX,
        metadata_write: u64::MAX,
        miss: miss_code(t.miss),
        supports_eviction: true,
        supports_vacancy: true,
        max_entries: t.config.flow_limit.and_then(|n| u32::try_from(n).ok()).unwrap_or(MAX_ENTRIES),
        flows: [flows.clone(), flows],
        maskable: usable.iter().copied().filter(|f| f.row().mask == MaskKind::Bits).collect(),
        wildcard: usable.clone(),
        matchable: usable,
        any_properties: true,
    }
}

/// OFPTC11_TABLE_MISS_*. Versions that can ask send misses to the controller unless told otherwise.
fn miss_code(miss: Miss) -> u8 {
    match miss {
        Miss::Controller | Miss::Default => 0,
        Miss::Continue => 1,
        Miss::Drop => 2,
    }
}

/// OFPMP_TABLE_DESC.
#[must_use]
pub(super) fn table_descs(bridge: &Bridge) -> Vec<TableDesc> {
    let tables = bridge.tables.iter().filter(|t| t.id != INTERNAL);
    tables.map(Table::desc).collect()
}
