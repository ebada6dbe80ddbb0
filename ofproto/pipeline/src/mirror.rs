//! Mirrors of a bridge, with the names of the configuration resolved to bundles.
//!
//! What enters: `slowpath` builds them. What leaves: `xlate` asks which mirrors select a packet. Bits of at most `MIRRORS_MAX`.

use crate::bridge::{BundleId, VlanSet};
use crate::rule::Tally;
use std::sync::Arc;

/// Mirrors per bridge.
pub const MIRRORS_MAX: usize = 32;

/// A mirror.
#[derive(Clone, Debug)]
pub struct Mirror {
    pub name: String,
    /// Every packet that enters or leaves.
    pub all: bool,
    pub src: Vec<BundleId>,
    pub dst: Vec<BundleId>,
    /// Empty: all VLANs.
    pub vlans: VlanSet,
    pub output: Option<BundleId>,
    pub output_vlan: Option<u16>,
    pub snaplen: Option<u16>,
    pub tally: Arc<Tally>,
}

impl Mirror {
    /// Whether packets received through a bundle are selected.
    #[must_use]
    pub fn selects_input(&self, bundle: BundleId) -> bool {
        self.all || self.src.contains(&bundle)
    }

    /// Whether packets sent through a bundle are selected.
    #[must_use]
    pub fn selects_output(&self, bundle: BundleId) -> bool {
        (self.all || self.dst.contains(&bundle)) && self.output != Some(bundle)
    }
}
