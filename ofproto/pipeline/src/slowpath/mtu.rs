//! MTUs of internal ports: who asks for none follows the least of the bridge's other ports, so that whatever it sends can leave by any, unless the
//! netdev was moved into another network namespace.
//!
//! What enters: ports as the datapaths tell of them. What leaves: settings of internal ports. Neighbours: `apply`, `ports`.

use super::apply::key_of;
use super::{Applied, Interface, Key, Slowpath};
use crate::bridge::{Bridge, Port};
use flow::seam::{DpPort, PortRequest};
use std::sync::atomic::Ordering;

/// Of a bridge without other ports (IEEE 802.3).
const MTU_DEFAULT: u16 = 1500;
/// IEEE 802.3 has no longer frames; devices that tell more have no limit.
const MTU_MAX: u16 = u16::MAX;

fn is_internal(port: &Port) -> bool {
    matches!(port.info.kind.as_str(), "internal" | "dummy-internal")
}

/// The least MTU of the ports that have one of their own.
fn least(bridge: &Bridge) -> u16 {
    let others = bridge.ports.values().filter(|p| !is_internal(p) && p.tunnel.is_none() && p.dp_port.is_some());
    others.map(|p| p.info.mtu).filter(|mtu| (1..MTU_MAX).contains(mtu)).min().unwrap_or(MTU_DEFAULT)
}

impl Slowpath {
    /// Lets internal ports without an `mtu_request` follow.
    pub(super) fn follow_mtus(&self) {
        self.set_mtus(&mut self.lock_applied());
    }

    /// The same if ports have changed. While the configuration changes it waits: that ends with it, too.
    pub(super) fn follow_mtus_if_due(&self) {
        if self.mtus_due.load(Ordering::Acquire)
            && let Ok(mut applied) = self.applied.try_lock()
        {
            self.mtus_due.store(false, Ordering::Release);
            self.set_mtus(&mut applied);
        }
    }

    fn set_mtus(&self, applied: &mut Applied) {
        for (kind, key, port, request) in self.mtus_to_set(applied) {
            let Some(udpif) = self.udpif(&kind) else { continue };
            let name = request.name.clone();
            if let Err(error) = udpif.dp.port_set(port, &request) {
                tracing::warn!(target: "ofproto", rl = 5, burst = 5, "Unable to set MTU for internal port {name}: {error}");
                // Whoever follows a change that a refusal brought about would otherwise do nothing else any more.
                if let Some(interface) = applied.interfaces.get_mut(&key) {
                    interface.mtu_refused = request.mtu;
                }
            }
            self.follow_port(&udpif, port);
        }
    }

    fn mtus_to_set(&self, applied: &Applied) -> Vec<(String, Key, DpPort, PortRequest)> {
        let world = self.read_world();
        let mut found = Vec::new();
        for bridge in world.bridges.values() {
            let mtu = least(bridge);
            let concerns = |p: &&Port| is_internal(p) && p.info.mtu != mtu && !p.info.vanished && !p.info.elsewhere;
            for port in bridge.ports.values().filter(concerns) {
                let key = key_of(bridge, port);
                let follows = |i: &&Interface| i.request.mtu.is_none() && i.mtu_refused != Some(mtu);
                if let (Some(dp_port), Some(interface)) = (port.dp_port, applied.interfaces.get(&key).filter(follows)) {
                    let mac = Some(port.info.mac);
                    let request = PortRequest { mtu: Some(mtu), mac, ..interface.request.clone() };
                    found.push((bridge.kind.clone(), key, dp_port, request));
                }
            }
        }
        found
    }
}
