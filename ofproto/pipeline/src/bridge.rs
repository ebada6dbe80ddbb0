//! A bridge: its ports, bundles and tables, and which number a port gets.
//!
//! What enters: `slowpath` adds and removes ports as configured. What leaves: what translation looks at (ports by number, the
//! bundle of a port, its VLANs) and what OpenFlow tells of a port. Neighbours: `slowpath`, `xlate`, `conn`.
//!
//! A *port* is an OpenFlow port: one interface. A *bundle* is a row of Port: one interface, or several as a bond; VLANs and MAC
//! learning know bundles only.

use crate::config::{BridgeConfig, PortConfig, PriorityTags, VlanMode};
use crate::deps::ChangeLog;
use crate::export::Exporters;
use crate::group::Group;
use crate::internal::OwnRules;
use crate::mac::MacTable;
use crate::mcast::McastTable;
use crate::meter::Meters;
use crate::mirror::Mirror;
use crate::protocols::{Protocols, Spanning, Watch};
use crate::rule::Tally;
use crate::table::{TABLES, Table};
use crate::world::BridgeId;
use crate::xlate::FragMode;
use flow::Msec;
use flow::fields::TunnelOptions;
use flow::forms::PortNames;
use flow::hash::{Hasher, Map};
use flow::seam::{DpPort, LinkFeatures, PortInfo};
use openflow::{GroupId, OfPort, TableId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// First number that no port can have (OFPP_MAX of OpenFlow 1.0: numbers are kept within 16 bits).
pub const OFPORT_MAX: u32 = 0xff00;
/// Numbers from here on are given on request only.
const AUTOMATIC_MAX: u32 = 32_768;
/// A number that was freed is not given to another port before this time has passed, if there is another.
const REUSE_AFTER_MS: Msec = 60 * 60 * 1000;

/// OFPPC_* bits of `Port::config`, in the numbering of OpenFlow 1.1 and later.
pub mod port_config {
    pub const PORT_DOWN: u32 = 1;
    pub const NO_STP: u32 = 2;
    pub const NO_RECV: u32 = 4;
    pub const NO_RECV_STP: u32 = 8;
    pub const NO_FLOOD: u32 = 16;
    pub const NO_FWD: u32 = 32;
    pub const NO_PACKET_IN: u32 = 64;
}

/// OFPPS_* bits of `Port::state`.
pub mod port_state {
    pub const LINK_DOWN: u32 = 1;
    pub const BLOCKED: u32 = 2;
    pub const LIVE: u32 = 4;
}

/// Names a bundle within its bridge; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BundleId(pub u32);

/// A set of VLANs; the empty set stands for all of them in `trunks` and `cvlans`.
#[derive(Clone, PartialEq, Eq)]
pub struct VlanSet([u64; 64]);

impl VlanSet {
    /// Numbers of 4096 and more are ignored.
    #[must_use]
    pub fn new(vlans: &[u16]) -> Self {
        let mut bits = [0; 64];
        for v in vlans.iter().filter(|v| **v < 4096) {
            bits[usize::from(*v) / 64] |= 1 << (v % 64);
        }
        Self(bits)
    }

    /// Whether `vlan` (0..=4095) is in the set itself.
    #[must_use]
    pub fn contains(&self, vlan: u16) -> bool {
        self.0.get(usize::from(vlan) / 64).is_some_and(|word| word & 1 << (vlan % 64) != 0)
    }

    /// Whether no VLAN is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }

    /// `contains`, or the set is empty: the reading of `trunks` and `cvlans`.
    #[must_use]
    pub fn admits(&self, vlan: u16) -> bool {
        self.is_empty() || self.contains(vlan)
    }
}

impl std::fmt::Debug for VlanSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries((0..4096).filter(|v| self.contains(*v))).finish()
    }
}

/// A row of Port: what MAC learning and VLANs see.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub id: BundleId,
    pub name: String,
    /// Its interfaces, in order of number; one unless it is a bond.
    pub ports: Vec<OfPort>,
    pub vlan_mode: VlanMode,
    /// Access or native VLAN, 0 in a plain trunk.
    pub vlan: u16,
    pub trunks: VlanSet,
    pub cvlans: VlanSet,
    /// 0x88a8 or 0x8100
    pub qinq_ethtype: u16,
    pub priority_tags: PriorityTags,
    pub protected: bool,
    /// Whether NORMAL may flood through it (some member may be flooded to).
    pub floodable: bool,
    /// Learns MACs in the datapath's name but receives nothing else: a mirror's output.
    pub mirror_out: bool,
    /// Multicast snooping sends it all multicast data, and learns nothing from it.
    pub mcast_flood: bool,
    /// Multicast snooping sends it all reports.
    pub mcast_flood_reports: bool,
    /// Queues that mark packets: queue and DSCP.
    pub queue_dscp: Vec<(u32, u8)>,
}

impl Bundle {
    /// A bundle as configured, still without ports.
    #[must_use]
    pub fn new(id: BundleId, config: &PortConfig) -> Self {
        let vlan_mode = config.vlan_mode;
        let vlan = match vlan_mode {
            VlanMode::Trunk => 0,
            VlanMode::Access | VlanMode::NativeTagged | VlanMode::NativeUntagged | VlanMode::Dot1qTunnel => {
                config.tag.unwrap_or(0)
            }
        };
        // A native VLAN is carried whether or not `trunks` names it.
        let mut trunks = config.trunks.clone();
        match vlan_mode {
            // VLAN 0 is not: what comes untagged is in the native VLAN.
            VlanMode::NativeTagged | VlanMode::NativeUntagged if vlan != 0 => {
                if trunks.is_empty() {
                    trunks.extend(1..4096);
                }
                trunks.retain(|v| *v != 0);
                trunks.push(vlan);
            }
            VlanMode::NativeTagged | VlanMode::NativeUntagged | VlanMode::Trunk => {}
            VlanMode::Access | VlanMode::Dot1qTunnel => trunks.clear(),
        }
        Self {
            id,
            name: config.name.clone(),
            ports: Vec::new(),
            vlan_mode,
            vlan,
            trunks: VlanSet::new(&trunks),
            cvlans: VlanSet::new(&config.cvlans),
            qinq_ethtype: if config.qinq_ethtype == 0 { 0x88a8 } else { config.qinq_ethtype },
            priority_tags: config.priority_tags,
            protected: config.protected,
            floodable: true,
            mirror_out: false,
            mcast_flood: config.is_on("mcast-snooping-flood"),
            mcast_flood_reports: config.is_on("mcast-snooping-flood-reports"),
            queue_dscp: config.queue_dscp.clone(),
        }
    }

    /// Whether the configuration says the same of both.
    #[must_use]
    pub fn is_configured_as(&self, other: &Self) -> bool {
        let told = |b: &Self| {
            let vlans = (b.vlan_mode, b.vlan, b.trunks.clone(), b.cvlans.clone(), b.qinq_ethtype);
            let marks = (b.queue_dscp.clone(), b.mcast_flood, b.mcast_flood_reports);
            (b.ports.clone(), vlans, b.priority_tags, b.protected, marks)
        };
        told(self) == told(other)
    }
}

/// Packets that went through a port which no datapath counts by itself: one of a patch pair, or a tunnel's.
#[derive(Debug, Default)]
pub struct PatchTally {
    pub rx: Arc<Tally>,
    pub tx: Arc<Tally>,
}

/// An OpenFlow port.
#[derive(Debug)]
pub struct Port {
    pub number: OfPort,
    pub name: String,
    /// Interface type as configured ("" is "system").
    pub kind: String,
    /// `None` for a patch port.
    pub dp_port: Option<DpPort>,
    /// As the datapath last told; for a patch port made up.
    pub info: PortInfo,
    /// `port_config` bits.
    pub config: u32,
    /// `port_state` bits.
    pub state: u32,
    pub bundle: Option<BundleId>,
    /// The other end of a patch pair, once both exist.
    pub peer: Option<(BridgeId, OfPort)>,
    /// How packets are encapsulated, for a tunnel port. Its datapath port is shared with other tunnels.
    pub tunnel: Option<Arc<crate::tunnel::Config>>,
    pub patch: PatchTally,
    /// What the link protocols make of it.
    pub watch: Watch,
    pub created_ms: Msec,
}

impl Port {
    /// Whether the port may be sent to and received from (its link is up and nobody put it down).
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.config & port_config::PORT_DOWN == 0 && self.state & port_state::LINK_DOWN == 0
    }

    /// Works out `config` and `state` anew, as far as the device and the link protocols decide them.
    pub fn refresh_state(&mut self) {
        let carrier = self.info.admin_up && self.info.link_up && !self.info.vanished;
        let down = if self.info.admin_up { 0 } else { port_config::PORT_DOWN };
        self.config = self.config & !port_config::PORT_DOWN | down;
        let live = if carrier && self.watch.may_enable { port_state::LIVE } else { 0 };
        self.state = live | self.watch.gate.openflow_state() | if carrier { 0 } else { port_state::LINK_DOWN };
    }

    /// The datapath port that is this port alone, which counts for it. A tunnel's is shared, a patch port has none.
    #[must_use]
    pub fn own_dp_port(&self) -> Option<DpPort> {
        self.dp_port.filter(|_| self.tunnel.is_none())
    }

    /// Whether it counts as live for groups (`watch_port`).
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state & port_state::LIVE != 0
    }

    /// A copy of what OpenFlow tells of it.
    #[must_use]
    pub fn view(&self) -> PortView {
        PortView {
            number: self.number,
            name: self.name.clone(),
            mac: self.info.mac,
            config: self.config,
            state: self.state,
            speed_bps: self.info.speed_bps,
            full_duplex: self.info.full_duplex,
            link: self.info.link,
            kind: self.kind.clone(),
        }
    }
}

/// What OpenFlow tells of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    pub number: OfPort,
    pub name: String,
    pub mac: [u8; 6],
    pub config: u32,
    pub state: u32,
    pub speed_bps: u64,
    pub full_duplex: Option<bool>,
    pub link: LinkFeatures,
    pub kind: String,
}

/// Which numbers are taken, and which were.
#[derive(Debug, Default)]
pub struct PortNumbers {
    last: u32,
    /// When a number was freed.
    freed_ms: Map<u32, Msec>,
}

impl PortNumbers {
    /// Picks a number: the one wished for if it is free, else the next one that has not been in use, else the one that has been
    /// free longest (for at least an hour). `None` when there is none.
    pub fn pick(&mut self, wish: Option<u32>, now: Msec, taken: impl Fn(OfPort) -> bool) -> Option<OfPort> {
        if let Some(wish) = wish.filter(|w| (1..OFPORT_MAX).contains(w) && !taken(OfPort(*w))) {
            self.freed_ms.remove(&wish);
            return Some(OfPort(wish));
        }
        let mut oldest: Option<(Msec, u32)> = None;
        for _ in 1..AUTOMATIC_MAX {
            self.last = if self.last + 1 >= AUTOMATIC_MAX { 1 } else { self.last + 1 };
            if taken(OfPort(self.last)) {
                continue;
            }
            match self.freed_ms.get(&self.last) {
                None => return Some(OfPort(self.last)),
                Some(freed) if oldest.is_none_or(|(at, _)| *freed < at) => oldest = Some((*freed, self.last)),
                Some(_) => {}
            }
        }
        let (_, number) = oldest.filter(|(at, _)| now - at >= REUSE_AFTER_MS)?;
        self.last = number;
        self.freed_ms.remove(&number);
        Some(OfPort(number))
    }

    /// Remembers that a number has become free.
    pub fn free(&mut self, number: OfPort, now: Msec) {
        if number.0 < OFPORT_MAX {
            self.freed_ms.insert(number.0, now);
        }
    }
}

/// A locally administered unicast address that nobody else is likely to have.
#[must_use]
pub fn random_mac() -> [u8; 6] {
    let bits = Hasher::new().hash_one(0).to_be_bytes();
    let mut mac = [0; 6];
    mac.copy_from_slice(&bits[..6]);
    mac[0] = mac[0] & 0xfc | 2;
    mac
}

/// 128 random bits, with the marks of a random UUID (RFC 9562 section 5.4).
fn random_uuid() -> [u8; 16] {
    let hasher = Hasher::new();
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&hasher.hash_one(0).to_be_bytes());
    uuid[8..].copy_from_slice(&hasher.hash_one(1).to_be_bytes());
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// A bridge.
#[derive(Debug)]
pub struct Bridge {
    pub id: BridgeId,
    pub name: String,
    /// A random name, in continuations: no other bridge, and no later one of this name, has it.
    pub uuid: [u8; 16],
    /// Datapath type.
    pub kind: String,
    pub datapath_id: u64,
    /// MAC of the local port.
    pub mac: [u8; 6],
    pub ports: BTreeMap<OfPort, Port>,
    pub bundles: BTreeMap<BundleId, Bundle>,
    pub numbers: PortNumbers,
    /// `TABLES` of them.
    pub tables: Vec<Table>,
    /// What the last of them always has.
    pub own_rules: OwnRules,
    pub groups: BTreeMap<GroupId, Arc<Group>>,
    pub meters: Meters,
    pub macs: MacTable,
    /// With multicast snooping on.
    pub mcast: Option<McastTable>,
    pub mirrors: Vec<Mirror>,
    pub exporters: Exporters,
    pub protocols: Protocols,
    pub spanning: Spanning,
    /// Controllers are reached through the switch itself.
    pub in_band: bool,
    /// Where tunnel options lie in keys.
    pub tunnel_options: Arc<TunnelOptions>,
    pub frag_mode: FragMode,
    /// Some controller wants packets that no table matched (OpenFlow 1.0 to 1.2).
    pub wants_packet_in_on_miss: bool,
    /// The datapath has connection tracking.
    pub tracks_connections: bool,
    /// As last configured.
    pub config: BridgeConfig,
    /// MAC for want of a better one, kept as long as the bridge.
    pub made_up_mac: [u8; 6],
    last_bundle: u32,
}

impl Bridge {
    /// A bridge without ports.
    #[must_use]
    pub fn new(id: BridgeId, config: &BridgeConfig, changes: Arc<ChangeLog>) -> Self {
        let tables = (0..TABLES).map(|t| Table::new(TableId(u8::try_from(t).expect("TABLES is 255")))).collect();
        Self {
            id,
            name: config.name.clone(),
            uuid: random_uuid(),
            kind: config.datapath_type.clone(),
            // Set, and told, when the bridge is set up.
            datapath_id: 0,
            mac: config.hwaddr.unwrap_or_default(),
            ports: BTreeMap::new(),
            bundles: BTreeMap::new(),
            numbers: PortNumbers::default(),
            tables,
            own_rules: OwnRules::new(flow::clock::now_ms()),
            groups: BTreeMap::new(),
            meters: Meters::default(),
            macs: MacTable::new(id, changes),
            mcast: None,
            mirrors: Vec::new(),
            exporters: Exporters::default(),
            protocols: Protocols::default(),
            spanning: Spanning::None,
            in_band: false,
            tunnel_options: Arc::default(),
            frag_mode: FragMode::default(),
            wants_packet_in_on_miss: false,
            tracks_connections: false,
            config: config.clone(),
            made_up_mac: config.default_mac.unwrap_or_else(random_mac),
            last_bundle: 0,
        }
    }

    /// The port of that name.
    #[must_use]
    pub fn port_named(&self, name: &str) -> Option<&Port> {
        self.ports.values().find(|p| p.name == name)
    }

    /// The bundle that a port belongs to.
    #[must_use]
    pub fn bundle_of(&self, port: OfPort) -> Option<&Bundle> {
        self.bundles.get(&self.ports.get(&port)?.bundle?)
    }

    /// Works out anew which bundles may be flooded to: those with a port that may be, and that spanning tree lets forward.
    pub fn refresh_floodable(&mut self) {
        let Self { ports, bundles, .. } = self;
        for bundle in bundles.values_mut() {
            bundle.floodable = bundle
                .ports
                .iter()
                .filter_map(|p| ports.get(p))
                .any(|p| p.config & port_config::NO_FLOOD == 0 && p.watch.gate.forwards());
        }
    }

    /// A name for a new bundle.
    pub fn new_bundle_id(&mut self) -> BundleId {
        self.last_bundle += 1;
        BundleId(self.last_bundle)
    }
}

/// Names of a bridge's ports by OpenFlow number.
#[derive(Debug, Default)]
pub(crate) struct OfPortNames(Map<u32, String>);

impl OfPortNames {
    pub(crate) fn of(bridge: &Bridge) -> Self {
        Self(bridge.ports.values().map(|p| (u32::from_be_bytes(p.number.to_key()), p.name.clone())).collect())
    }
}

impl PortNames for OfPortNames {
    fn name(&self, port: u32) -> Option<String> {
        self.0.get(&port).cloned()
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.0.iter().find(|(_, n)| *n == name).map(|(port, _)| *port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_wished_for_or_the_next_unused() {
        let mut numbers = PortNumbers::default();
        let mut taken = vec![];
        let mut pick = |wish, now, taken: &mut Vec<OfPort>| {
            let p = numbers.pick(wish, now, |p| taken.contains(&p)).unwrap();
            taken.push(p);
            p.0
        };
        assert_eq!(pick(None, 0, &mut taken), 1);
        assert_eq!(pick(Some(2), 0, &mut taken), 2);
        assert_eq!(pick(None, 0, &mut taken), 3);
        assert_eq!(pick(Some(2), 0, &mut taken), 4, "the wish is taken");
        assert_eq!(pick(Some(65_279), 0, &mut taken), 65_279);
        assert_eq!(pick(Some(65_280), 0, &mut taken), 5, "reserved");
        assert_eq!(pick(Some(0), 0, &mut taken), 6);
    }

    #[test]
    fn a_freed_number_rests() {
        let mut numbers = PortNumbers::default();
        assert_eq!(numbers.pick(None, 0, |_| false), Some(OfPort(1)));
        numbers.free(OfPort(1), 0);
        assert_eq!(numbers.pick(None, 1, |_| false), Some(OfPort(2)));
        // All others taken: only after an hour.
        assert_eq!(numbers.pick(None, 2, |p| p.0 != 1), None);
        assert_eq!(numbers.pick(None, REUSE_AFTER_MS, |p| p.0 != 1), Some(OfPort(1)));
    }

    #[test]
    fn an_empty_trunk_set_is_all_and_a_native_vlan_is_carried() {
        let config = PortConfig { vlan_mode: VlanMode::NativeTagged, tag: Some(5), trunks: vec![7], ..Default::default() };
        let b = Bundle::new(BundleId(1), &config);
        assert!(b.trunks.admits(5) && b.trunks.admits(7) && !b.trunks.admits(6));
        assert!(VlanSet::new(&[]).admits(4095));
        assert!(!VlanSet::new(&[1]).contains(9999));
    }
}
