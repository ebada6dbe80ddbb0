//! The world: every bridge, every datapath, and the history of what changed.
//!
//! What enters: `slowpath` (configuration), `conn` (OpenFlow messages), both under the write lock. What leaves: everything that a
//! translation looks at, under the read lock. Neighbours: all rooms of this crate.
//!
//! One `RwLock<World>` guards it; what packets themselves change (rules by `learn`, MAC tables, counters) has locks or atomics of
//! its own inside, so that a translation needs no more than the read lock. Readers are upcall handlers and revalidators, in slices of a batch; writers are configuration
//! and OpenFlow. Nobody waits for the datapath's workers (`Datapath::quiesce`) while holding the lock for writing.

use crate::bridge::{Bridge, Port};
use crate::config::{Timeouts, TrackingConfig, UpcallConfig};
use crate::deps::{ChangeLog, Object};
use crate::drops::DropRing;
use crate::effects::Notices;
use crate::monitor::Watchers;
use crate::neigh::Neighbours;
use crate::protocols::Wake;
use crate::recirc::Recircs;
use crate::router::Router;
use crate::tunnel::{Listening, TunnelPorts, came_by_tunnel};
use flow::Key;
use flow::extract::VLANS_MAX;
use flow::hash::Map;
use flow::seam::{Datapath, DpError, DpFeatures, DpPort};
use openflow::OfPort;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Names a bridge for as long as it exists; never used again. It also stands in cookies of datapath actions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct BridgeId(pub u64);

/// Opens the datapath of a type ("netdev", "dummy", "system") that bridges stand on, or another one, "TYPE@NAME" (for
/// `dpctl/add-dp`); the daemon supplies it. A type that there is not is `DpError::Unsupported`.
pub type DatapathFactory = dyn Fn(&str) -> Result<Arc<dyn Datapath>, DpError> + Send + Sync;

/// A datapath and who owns its ports.
#[derive(Debug)]
pub struct DatapathBackend {
    pub dp: Arc<dyn Datapath>,
    pub features: DpFeatures,
    /// Names of features that `dpif/set-dp-features` keeps translation from using, of those that `features` has no field for.
    pub withheld: BTreeSet<&'static str>,
    /// Which bridge's port a datapath port is. Not tunnels: several of them share a datapath port.
    pub ports: Map<DpPort, (BridgeId, OfPort)>,
    pub tunnels: TunnelPorts,
    /// Tunnel ports that take packets which come to our own addresses.
    pub listening: Listening,
    /// Zones and their timeout policies.
    pub tracking: Tracking,
}

/// What was configured of connection tracking.
#[derive(Debug, Default)]
pub struct Tracking {
    pub applied: TrackingConfig,
    /// Timeout policies by their number less one; `None` is free. Number 0 is the datapath's default.
    pub policies: Vec<Option<Timeouts>>,
    /// The policy that new connections of a zone have.
    pub zones: BTreeMap<u16, u32>,
}

impl DatapathBackend {
    /// A datapath without ports of ours.
    #[must_use]
    pub fn new(dp: Arc<dyn Datapath>) -> Self {
        Self {
            features: dp.features(),
            dp,
            withheld: BTreeSet::new(),
            ports: Map::default(),
            tunnels: TunnelPorts::default(),
            listening: Listening::default(),
            tracking: Tracking::default(),
        }
    }
}

/// Everything.
#[derive(Debug)]
pub struct World {
    /// By type.
    pub backends: BTreeMap<String, DatapathBackend>,
    pub bridges: BTreeMap<BridgeId, Bridge>,
    pub changes: Arc<ChangeLog>,
    pub notices: Arc<Notices>,
    pub watchers: Arc<Watchers>,
    pub wake: Arc<Wake>,
    pub recircs: Recircs,
    /// The last packets that translation dropped.
    pub drops: Arc<DropRing>,
    pub router: Router,
    /// Routes or devices have changed since it was last seen to which tunnels need the host's stack.
    pub(crate) hosts_due: AtomicBool,
    pub neighbours: Neighbours,
    pub upcalls: UpcallConfig,
    /// VLAN headers that translation and the datapath look at (1 or 2).
    pub vlan_limit: u32,
    /// A drop is said also after a copy that went to a collector, so that the datapath counts it.
    pub explicit_sampled_drops: bool,
    /// Datapath ports, by type and number, that have changed while no bridge had them.
    pub(crate) strangers: BTreeSet<(String, DpPort)>,
    /// Datapath meters in use.
    pub meters_taken: BTreeSet<u32>,
    last_bridge: u64,
}

impl Default for World {
    fn default() -> Self {
        let changes = Arc::<ChangeLog>::default();
        Self {
            backends: BTreeMap::new(),
            bridges: BTreeMap::new(),
            notices: Arc::default(),
            watchers: Arc::default(),
            wake: Arc::default(),
            recircs: Recircs::default(),
            drops: Arc::default(),
            router: Router::default(),
            hosts_due: AtomicBool::new(false),
            neighbours: Neighbours::new(Arc::clone(&changes)),
            upcalls: UpcallConfig::default(),
            vlan_limit: 0,
            explicit_sampled_drops: false,
            strangers: BTreeSet::new(),
            meters_taken: BTreeSet::new(),
            last_bridge: 0,
            changes,
        }
    }
}

impl World {
    /// As `extract` takes it: how many VLAN tags of a packet are looked into.
    #[must_use]
    pub fn tags_seen(&self) -> u8 {
        match u8::try_from(self.vlan_limit) {
            Ok(limit @ 1..) => limit.min(VLANS_MAX),
            _ => VLANS_MAX,
        }
    }

    /// A number for a new bridge.
    pub fn new_bridge_id(&mut self) -> BridgeId {
        self.last_bridge += 1;
        BridgeId(self.last_bridge)
    }

    /// The bridge of that name.
    #[must_use]
    pub fn bridge_named(&self, name: &str) -> Option<&Bridge> {
        self.bridges.values().find(|b| b.name == name)
    }

    /// Which bridge and OpenFlow port a datapath port of the datapath of type `kind` is.
    #[must_use]
    pub fn port_of(&self, kind: &str, port: DpPort) -> Option<(BridgeId, OfPort)> {
        self.backends.get(kind)?.ports.get(&port).copied()
    }

    /// The same for a packet: one that came out of a tunnel belongs to the port whose configuration fits its outer header.
    #[must_use]
    pub fn port_of_packet(&self, kind: &str, key: &Key) -> Option<(BridgeId, OfPort)> {
        let dp_port = DpPort(u32::from_be_bytes(key.in_port));
        if !came_by_tunnel(key) {
            return self.port_of(kind, dp_port);
        }
        let tunnels = &self.backends.get(kind)?.tunnels;
        // What goes round again may have got an Ethernet header since it came in, or lost it.
        let changed = || (key.recirc_id != [0; 4]).then(|| tunnels.find_changed(dp_port, key)).flatten();
        tunnels.find(dp_port, key).or_else(changed)
    }

    /// The port that a device is, on a datapath: a bridge's own port of that name first, then any bridge's.
    #[must_use]
    pub fn port_of_device(&self, kind: &str, device: &str) -> Option<(&Bridge, &Port)> {
        let on_datapath = || self.bridges.values().filter(|b| b.kind == kind);
        let own = on_datapath().find(|b| b.name == device).and_then(|b| Some((b, b.ports.get(&OfPort::LOCAL)?)));
        own.or_else(|| on_datapath().find_map(|b| Some((b, b.port_named(device)?))))
    }

    /// Records which lookups of routes have another answer since something about routes or devices changed.
    pub fn routes_changed(&self, device: Option<&str>) {
        for object in self.router.differing(device) {
            self.changed(object);
        }
        self.hosts_due.store(true, Ordering::Release);
    }

    /// The datapath under a bridge.
    #[must_use]
    pub fn backend(&self, bridge: BridgeId) -> Option<&DatapathBackend> {
        self.backends.get(&self.bridges.get(&bridge)?.kind)
    }

    /// Packets that a port has received; 0 when nobody counts.
    #[must_use]
    pub fn rx_packets(&self, bridge: &Bridge, port: &Port) -> u64 {
        let Some(dp_port) = port.dp_port else { return port.patch.rx.read().0 };
        let stats = self.backends.get(&bridge.kind).and_then(|b| b.dp.port_stats(dp_port).ok());
        stats.map_or(0, |s| s.rx_packets)
    }

    /// Records a change; see `ChangeLog::object`.
    pub fn changed(&self, object: Object) {
        self.changes.object(object);
    }
}
