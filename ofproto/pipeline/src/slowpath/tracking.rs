//! Connection tracking as configured: limits and timeout policies of zones go to the datapath; which policy a zone has, to translation.
//!
//! What enters: `config::TrackingConfig`. What leaves: calls of the seam's `Conntrack`; `world::Tracking`, which `ct(commit)` reads.

use super::Slowpath;
use crate::config::{SwitchConfig, Timeouts, TrackingConfig};
use crate::deps::Object;
use crate::world::{DatapathBackend, Tracking};
use flow::conntrack::Conntrack;

impl Slowpath {
    /// Applies what has changed.
    pub(super) fn configure_tracking(&self, config: &SwitchConfig) {
        let mut world = self.write_world();
        let mut retranslate = false;
        for (kind, backend) in &mut world.backends {
            let wanted = config.tracking.iter().find(|t| t.datapath_type == *kind).cloned().unwrap_or_default();
            retranslate |= apply(backend, wanted);
        }
        if retranslate {
            world.changed(Object::Everything);
        }
    }
}

/// Applies one datapath's; whether translations may differ now.
fn apply(backend: &mut DatapathBackend, wanted: TrackingConfig) -> bool {
    if backend.tracking.applied == wanted {
        return false;
    }
    let dp = std::sync::Arc::clone(&backend.dp);
    let Some(ct) = dp.conntrack() else { return false };
    let tracking = &mut backend.tracking;
    limits(ct, &tracking.applied, &wanted);
    let before = std::mem::take(&mut tracking.zones);
    for zone in &wanted.zones {
        if let Some(timeouts) = &zone.timeouts
            && let Some(id) = policy(ct, tracking, timeouts)
        {
            tracking.zones.insert(zone.zone, id);
        }
    }
    for (slot, id) in tracking.policies.iter_mut().zip(1..) {
        if !tracking.zones.values().any(|used| *used == id) {
            *slot = None;
        }
    }
    tracking.applied = wanted;
    tracking.zones != before
}

/// The number of a policy with these timeouts; a new one if there is none.
fn policy(ct: &dyn Conntrack, tracking: &mut Tracking, timeouts: &Timeouts) -> Option<u32> {
    let policies = &mut tracking.policies;
    let place = policies.iter().position(|p| p.as_ref() == Some(timeouts));
    if let Some(place) = place {
        return u32::try_from(place + 1).ok();
    }
    let place = policies.iter().position(Option::is_none).unwrap_or(policies.len());
    let id = u32::try_from(place + 1).ok()?;
    if let Err(error) = ct.set_timeouts(id, timeouts) {
        tracing::warn!(target: "ofproto_dpif", "failed to add a timeout policy: {error}");
        return None;
    }
    if place == policies.len() {
        policies.push(None);
    }
    policies[place] = Some(*timeouts);
    Some(id)
}

fn limits(ct: &dyn Conntrack, before: &TrackingConfig, wanted: &TrackingConfig) {
    if before.default_limit != wanted.default_limit {
        ct.set_default_limit(wanted.default_limit);
    }
    let gone = |zone: u16| !wanted.zones.iter().any(|z| z.zone == zone && z.limit.is_some());
    for zone in before.zones.iter().filter(|z| z.limit.is_some() && gone(z.zone)) {
        // Somebody may have deleted it by command.
        let _ = ct.delete_limit(zone.zone);
    }
    for zone in &wanted.zones {
        if let Some(limit) = zone.limit {
            ct.set_limit(zone.zone, limit);
        }
    }
}
