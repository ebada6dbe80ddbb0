//! The world: every bridge, every datapath, and the history of what changed.
//!
//! What enters: `slowpath` (configuration), `conn` (OpenFlow messages), both under the write lock. What leaves: everything that a
//! translation looks at, under the read lock. Neighbours: all rooms of this crate.
//!
//! One `RwLock<World>` guards it; what packets themselves change (rules by `learn`, MAC tables, counters) has locks or atomics of
//! its own inside, so that a translation needs no more than the read lock. Readers are upcall handlers and revalidators, in slices of a batch; writers are configuration
//! and OpenFlow. Nobody waits for the datapath's workers (`Datapath::quiesce`) while holding the lock for writing.

use crate::bridge::Bridge;
use crate::config::UpcallConfig;
use crate::deps::{ChangeLog, Object};
use crate::drops::DropRing;
use crate::effects::Notices;
use crate::recirc::Recircs;
use flow::hash::Map;
use flow::seam::{Datapath, DpError, DpFeatures, DpPort};
use openflow::OfPort;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
    /// Which bridge's port a datapath port is.
    pub ports: Map<DpPort, (BridgeId, OfPort)>,
}

impl DatapathBackend {
    /// A datapath without ports of ours.
    #[must_use]
    pub fn new(dp: Arc<dyn Datapath>) -> Self {
        Self { features: dp.features(), dp, withheld: BTreeSet::new(), ports: Map::default() }
    }
}

/// Everything.
#[derive(Debug, Default)]
pub struct World {
    /// By type.
    pub backends: BTreeMap<String, DatapathBackend>,
    pub bridges: BTreeMap<BridgeId, Bridge>,
    pub changes: Arc<ChangeLog>,
    pub notices: Arc<Notices>,
    pub recircs: Recircs,
    /// The last packets that translation dropped.
    pub drops: Arc<DropRing>,
    pub upcalls: UpcallConfig,
    /// VLAN headers that translation and the datapath look at (1 or 2).
    pub vlan_limit: u32,
    /// Datapath meters in use.
    pub meters_taken: BTreeSet<u32>,
    last_bridge: u64,
}

impl World {
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

    /// The datapath under a bridge.
    #[must_use]
    pub fn backend(&self, bridge: BridgeId) -> Option<&DatapathBackend> {
        self.backends.get(&self.bridges.get(&bridge)?.kind)
    }

    /// Records a change; see `ChangeLog::object`.
    pub fn changed(&self, object: Object) {
        self.changes.object(object);
    }
}
