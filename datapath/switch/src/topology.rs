//! The processor cores that workers may run on, and the NUMA node of each.
//!
//! What enters: `/sys/devices/system/node`, or the list of `--dummy-numa`. What leaves: cores by node, for `settings` and `crew`. Imaginary
//! cores have numbers and nodes like real ones; nobody is pinned to them.

use std::collections::BTreeMap;
use std::path::Path;

/// A core's number, as the kernel counts them.
pub type CoreId = u32;
/// A NUMA node's number.
pub type NumaId = u32;

/// Where the kernel lists nodes and their cores.
const NODES: &str = "/sys/devices/system/node";

/// Cores and their nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    cores: BTreeMap<CoreId, NumaId>,
    /// The cores are those of `--dummy-numa`, not the machine's.
    pub imaginary: bool,
}

impl Default for Topology {
    fn default() -> Self {
        Self::discover()
    }
}

impl Topology {
    /// The machine's, as the kernel tells; without sysfs all cores that the process may use, on node 0.
    #[must_use]
    pub fn discover() -> Self {
        let mut cores = BTreeMap::new();
        for (name, path) in entries(Path::new(NODES)) {
            let Some(node) = numbered(&name, "node") else { continue };
            for core in entries(&path).iter().filter_map(|(name, _)| numbered(name, "cpu")) {
                cores.insert(core, node);
            }
        }
        if cores.is_empty() {
            let n = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            cores = (0..u32::try_from(n).unwrap_or(1)).map(|core| (core, 0)).collect();
        }
        Self { cores, imaginary: false }
    }

    /// The cores of `--dummy-numa`: the node of core 0, of core 1, and so on.
    #[must_use]
    pub fn imaginary(nodes: &[NumaId]) -> Self {
        Self { cores: (0..).zip(nodes.iter().copied()).collect(), imaginary: true }
    }

    /// The node of a core; `None` if there is no such core.
    #[must_use]
    pub fn numa_of(&self, core: CoreId) -> Option<NumaId> {
        self.cores.get(&core).copied()
    }

    /// The first core of each node, in order of the nodes.
    #[must_use]
    pub fn first_of_each_node(&self) -> Vec<CoreId> {
        let mut first: BTreeMap<NumaId, CoreId> = BTreeMap::new();
        for (core, node) in &self.cores {
            first.entry(*node).or_insert(*core);
        }
        first.into_values().collect()
    }

    /// Says what was found, in OVS's words.
    pub fn announce(&self) {
        let mut per_node: BTreeMap<NumaId, usize> = BTreeMap::new();
        for node in self.cores.values() {
            *per_node.entry(*node).or_default() += 1;
        }
        for (node, n) in &per_node {
            tracing::info!(target: "ovs_numa", "Discovered {n} CPU cores on NUMA node {node}");
        }
        let (nodes, cores) = (per_node.len(), self.cores.len());
        tracing::info!(target: "ovs_numa", "Discovered {nodes} NUMA nodes and {cores} CPU cores");
    }
}

fn entries(dir: &Path) -> Vec<(String, std::path::PathBuf)> {
    let Ok(read) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    read.flatten().map(|e| (e.file_name().to_string_lossy().into_owned(), e.path())).collect()
}

/// `cpu7` is 7, `cpumap` is nothing.
fn numbered(name: &str, prefix: &str) -> Option<u32> {
    name.strip_prefix(prefix)?.parse().ok()
}

/// The node of a netdev's hardware; `None` for devices without any.
#[must_use]
pub fn numa_of_netdev(name: &str) -> Option<NumaId> {
    let path = format!("/sys/class/net/{name}/device/numa_node");
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imaginary_cores_have_the_nodes_of_the_list() {
        let t = Topology::imaginary(&[1, 1, 0, 8]);
        assert_eq!((t.numa_of(0), t.numa_of(2), t.numa_of(3), t.numa_of(4)), (Some(1), Some(0), Some(8), None));
        assert_eq!(t.first_of_each_node(), [2, 0, 3]);
    }

    #[test]
    fn the_machine_has_a_core() {
        let t = Topology::discover();
        assert!(!t.first_of_each_node().is_empty() && !t.imaginary);
        assert_eq!((numbered("cpu12", "cpu"), numbered("cpulist", "cpu"), numbered("node", "node")), (Some(12), None, None));
    }
}
