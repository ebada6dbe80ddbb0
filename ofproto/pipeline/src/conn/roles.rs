//! Roles: which controller of a bridge is primary, and the generation that guards against late requests (OpenFlow 1.2 section 6.3).

use super::{Conn, Registered};
use crate::world::BridgeId;
use flow::hash::Map;
use openflow::OfError;
use openflow::message::Role;
use std::sync::{Arc, Mutex};

/// The live connections and the generation ids of all bridges.
#[derive(Debug, Default)]
pub(crate) struct Roles {
    conns: Mutex<Vec<Registered>>,
    generations: Mutex<Map<BridgeId, u64>>,
}

impl Roles {
    /// Remembers a connection until its task drops it.
    pub(crate) fn register(&self, conn: &Arc<Conn>) {
        let mut conns = self.conns.lock().expect("no holder of the connection list panics");
        conns.retain(|c| c.strong_count() > 0);
        conns.push(Arc::downgrade(conn));
    }

    /// Live connections.
    #[must_use]
    pub(crate) fn conns(&self) -> Vec<Arc<Conn>> {
        let conns = self.conns.lock().expect("no holder of the connection list panics");
        conns.iter().filter_map(Registered::upgrade).collect()
    }

    /// The last generation id that a controller of the bridge used.
    #[must_use]
    pub(crate) fn generation(&self, bridge: BridgeId) -> Option<u64> {
        self.generations.lock().expect("no holder of the generations panics").get(&bridge).copied()
    }

    /// Takes a generation id that is not older than the last, in the circle of 64-bit numbers.
    pub(crate) fn advance(&self, bridge: BridgeId, generation: u64) -> Result<(), OfError> {
        let mut generations = self.generations.lock().expect("no holder of the generations panics");
        let last = generations.entry(bridge).or_insert(generation);
        if generation.wrapping_sub(*last) > u64::MAX / 2 {
            return Err(OfError::OfprrfcStale);
        }
        *last = generation;
        Ok(())
    }

    /// Makes every other primary of the bridge secondary; they are told (OFPT_ROLE_STATUS since 1.4, ONF's in 1.3).
    pub(crate) fn demote_others(&self, primary: &Conn) {
        use openflow::message::{Body, Message};
        const MASTER_REQUEST: u8 = 0;
        for conn in self.conns() {
            if std::ptr::eq(conn.as_ref(), primary) || conn.bridge != primary.bridge {
                continue;
            }
            let mut state = conn.lock();
            if state.role != Role::Primary {
                continue;
            }
            state.role = Role::Secondary;
            let version = state.version;
            drop(state);
            // Versions before 1.3 have no form for it, and it is not sent.
            let generation_id = self.generation(primary.bridge);
            let body = Body::RoleStatus { role: Role::Secondary, reason: MASTER_REQUEST, generation_id };
            conn.send(Message { version, xid: openflow::Xid(0), body });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_generation_is_stale_in_the_circle() {
        let roles = Roles::default();
        let b = BridgeId(1);
        assert_eq!(roles.advance(b, u64::MAX), Ok(()));
        assert_eq!(roles.advance(b, 3), Ok(()), "wraps");
        assert_eq!(roles.advance(b, 3), Ok(()));
        assert_eq!(roles.advance(b, 2), Err(OfError::OfprrfcStale));
        assert_eq!(roles.generation(b), Some(3));
    }
}
