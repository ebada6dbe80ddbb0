//! Mirrors out of their configuration: names made bundles, filters read, counters kept.

use crate::bridge::{Bridge, OfPortNames, VlanSet};
use crate::config::{BridgeConfig, MirrorConfig};
use crate::mirror::{MIRRORS_MAX, Mirror, read_filter};
use std::sync::Arc;

/// The mirrors as configured. One without an output mirrors nothing, nor does one whose filter cannot be read (which was told where
/// the row was read).
pub(super) fn make(bridge: &Bridge, wanted: &BridgeConfig) -> Vec<Mirror> {
    let bundle = |name: &String| bridge.bundles.values().find(|b| b.name == *name).map(|b| b.id);
    let names = OfPortNames::of(bridge);
    let make = |config: &MirrorConfig| {
        Some(Mirror {
            name: config.name.clone(),
            all: config.select_all,
            src: config.src_ports.iter().filter_map(bundle).collect(),
            dst: config.dst_ports.iter().filter_map(bundle).collect(),
            vlans: VlanSet::new(&config.vlans),
            output: config.output_port.as_ref().and_then(bundle),
            output_vlan: config.output_vlan,
            // The largest says that nothing is cut off.
            snaplen: config.snaplen.filter(|len| *len < u16::MAX),
            filter: config.filter.as_ref().map(|text| read_filter(text, &names)).transpose().ok()?,
            tally: Arc::default(),
        })
    };
    let usable = |m: &Mirror| m.output.is_some() || m.output_vlan.is_some();
    wanted.mirrors.iter().filter_map(make).filter(usable).take(MIRRORS_MAX).collect()
}

/// Whether they do the same, whatever they have counted.
pub(super) fn same(old: &[Mirror], new: &[Mirror]) -> bool {
    let told = |m: &Mirror| {
        let selected = (m.all, m.src.clone(), m.dst.clone(), m.vlans.clone(), m.filter.clone());
        (m.name.clone(), selected, m.output, m.output_vlan, m.snaplen)
    };
    old.iter().map(told).eq(new.iter().map(told))
}

/// Takes up mirrors; those that were there keep their counters.
pub(super) fn set(bridge: &mut Bridge, mut mirrors: Vec<Mirror>) {
    for mirror in &mut mirrors {
        if let Some(old) = bridge.mirrors.iter().find(|m| m.name == mirror.name) {
            mirror.tally = Arc::clone(&old.tally);
        }
    }
    bridge.mirrors = mirrors;
    for bundle in bridge.bundles.values_mut() {
        bundle.mirror_out = bridge.mirrors.iter().any(|m| m.output == Some(bundle.id));
    }
}
