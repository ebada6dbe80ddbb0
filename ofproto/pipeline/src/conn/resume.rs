//! Continuations: what a packet-in says of where the pipeline goes on, and NXT_RESUME, which gives the packet back.
//!
//! What enters: frozen states of paused packets; packets that controllers give back. What leaves: continuations for packet-ins; packets
//! that go on. Neighbours: `xlate::frozen`, `slowpath::packet_out`.
//!
//! A continuation is opaque to controllers and valid as long as its bridge is: the bridge is named by a random id that a restart or a
//! new bridge of that name does not have, so that a stale continuation is refused (NXR_STALE).

use super::Conn;
use crate::slowpath::Slowpath;
use crate::world::World;
use crate::xlate::frozen::{FrozenState, Step};
use flow::Msec;
use openflow::message::{Frame, PacketIn, PacketInPrivate};
use openflow::{OfError, TableId};

/// A frozen state as a packet-in carries it.
#[must_use]
pub(super) fn private(world: &World, public: PacketIn, state: &FrozenState, odp_port: u32) -> PacketInPrivate {
    let mut frames: Vec<Frame> = Vec::new();
    let mut at = (TableId(0), 0);
    let mut moved = true;
    for step in &state.steps {
        match step {
            Step::Unroll { table, cookie } => {
                at = (*table, *cookie);
                moved = true;
            }
            Step::Run(action) => {
                if std::mem::take(&mut moved) {
                    frames.push(Frame { table: at.0, cookie: at.1, actions: Vec::new() });
                }
                if let Some(frame) = frames.last_mut() {
                    frame.actions.push(action.clone());
                }
            }
        }
    }
    PacketInPrivate {
        public,
        bridge: world.bridges.get(&state.bridge).map_or([0; 16], |b| b.uuid),
        stack: state.stack.clone(),
        mirrors: state.mirrors,
        conntracked: state.conntracked,
        odp_port,
        frames,
        action_set: state.action_set.clone(),
    }
}

/// The frozen state that a packet which was given back goes on from.
fn thawed(world: &World, packet: &PacketInPrivate) -> Result<FrozenState, OfError> {
    let bridge = world.bridges.values().find(|b| b.uuid == packet.bridge).ok_or(OfError::NxrStale)?;
    let mut steps = Vec::new();
    for frame in &packet.frames {
        steps.push(Step::Unroll { table: frame.table, cookie: frame.cookie });
        steps.extend(frame.actions.iter().cloned().map(Step::Run));
    }
    if steps.is_empty() {
        // Without any step translation would look up the tables again; this one does nothing.
        steps.push(Step::Unroll { table: TableId(0), cookie: 0 });
    }
    let written = FrozenState::whole_tunnel();
    Ok(FrozenState {
        bridge: bridge.id,
        table: TableId(0),
        metadata: FrozenState::metadata_of(&packet.public.metadata.key, &written),
        written,
        conntracked: packet.conntracked,
        stack: packet.stack.clone(),
        mirrors: packet.mirrors,
        steps,
        action_set: packet.action_set.clone(),
        userdata: Vec::new(),
    })
}

impl Conn {
    /// NXT_RESUME.
    pub(super) fn resume(&self, slowpath: &Slowpath, packet: &PacketInPrivate, now: Msec) -> Result<(), OfError> {
        let world = slowpath.read_world();
        let state = thawed(&world, packet)?;
        let prepared = slowpath.prepare_resume(&world, &state, packet, now);
        drop(world);
        slowpath.send_packet_out(prepared, now);
        Ok(())
    }
}
