//! The datapaths of this process, opened when the slow path asks for them. What enters: types
//! and names. What leaves: the same objects as the seam, and as what they are, for commands that reach below it.

use crate::bridge::interface::is_dummy_datapath;
use crate::offload::Offload;
use crate::options::Dummy;
use datapath::{Options, Switch, Topology};
use flow::seam::{Datapath, DpError, DpPort, PortRequest};
use port::Device;
use port::dummy::Control;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Which there are. A datapath lives as long as the slow path keeps it.
#[derive(Debug)]
pub struct Datapaths {
    dummy: Option<Dummy>,
    /// The datapath type `system` exists.
    system: bool,
    topology: Topology,
    open: Mutex<Vec<Weak<Switch>>>,
    /// Hardware beside them.
    pub offload: Offload,
}

impl Datapaths {
    /// None open yet.
    pub fn new(dummy: Option<Dummy>, system: bool, topology: Topology) -> Self {
        Self { dummy, system, topology, open: Mutex::default(), offload: Offload::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Switch>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The types of datapath that can be opened, sorted.
    pub fn types(&self) -> Vec<&'static str> {
        let has_system = self.system || matches!(self.dummy, Some(Dummy::System | Dummy::Override));
        [("dummy", self.dummy.is_some()), ("netdev", true), ("system", has_system)]
            .into_iter()
            .filter_map(|(kind, there)| there.then_some(kind))
            .collect()
    }

    /// All that are open.
    pub fn all(&self) -> Vec<Arc<Switch>> {
        let mut open = self.lock();
        open.retain(|weak| weak.strong_count() > 0);
        open.iter().filter_map(Weak::upgrade).collect()
    }

    /// Opens a datapath: `TYPE@NAME`, or the one that bridges of `TYPE` share.
    /// # Errors
    /// There is no such type, or its threads cannot be started.
    pub fn open(&self, what: &str) -> Result<Arc<dyn Datapath>, DpError> {
        let shared = format!("ovs-{what}");
        let (kind, name) = what.split_once('@').unwrap_or((what, &shared));
        if !self.types().contains(&kind) {
            tracing::warn!(target: "dpif", "could not create datapath {name} of unknown type {kind}");
            return Err(DpError::Unsupported(format!("datapath type {kind}")));
        }
        let is_dummy = is_dummy_datapath(kind, self.dummy);
        let options = Options { topology: self.topology.clone(), host_tunnels: !is_dummy, ..Options::default() };
        let dp = Arc::new(Switch::new(kind, name, &options)?);
        if is_dummy {
            // The datapath's own port: with a machine under it this would be one more tap that nobody uses.
            let number = Some(DpPort(0));
            dp.port_add(&PortRequest { name: name.to_owned(), kind: "dummy-internal".into(), number, ..PortRequest::default() })?;
        }
        self.lock().push(Arc::downgrade(&dp));
        Ok(self.offload.over(dp))
    }

    /// Every dummy port with its name.
    pub fn dummies(&self) -> Vec<(String, Control)> {
        let mut dummies = Vec::new();
        for dp in self.all() {
            for port in dp.ports() {
                if let Ok(Some(control)) = dp.with_device(port.number, Device::dummy) {
                    dummies.push((port.name, control));
                }
            }
        }
        dummies
    }

    /// The datapath and port of that name.
    pub fn port_named(&self, name: &str) -> Option<(Arc<Switch>, DpPort)> {
        self.all().into_iter().find_map(|dp| dp.port_by_name(name).map(|port| (Arc::clone(&dp), port)))
    }
}
