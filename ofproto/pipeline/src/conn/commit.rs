//! Committing bundles: all members under one lock with one journal, so that no packet and no other connection sees only some of them
//! (OpenFlow 1.4 section 7.3.9).
//!
//! What enters: the members that `bundles` has gathered. What leaves: changed tables, groups, ports, packets sent; or one error for
//! the member at fault and one for the bundle. Neighbours: `bundles`, `requests`, `flow_mod`, `groups`.
//!
//! Flow-mods, group-mods and packet-outs are applied in the order of the bundle; a packet-out meets the rules as they are at its place,
//! and its packet leaves once the whole has succeeded. Port-mods act on devices, which cannot be undone: they come last, are checked
//! before anything is changed, and an atomic bundle does not take them.

use super::bundles::{Member, Outcome, What};
use super::requests::{port_mod, prepare_packet_out};
use super::{Conn, groups};
use crate::column::Column;
use crate::flow_mod::{self, Journal};
use crate::group::Group;
use crate::slowpath::{Prepared, Slowpath};
use crate::world::World;
use flow::Msec;
use openflow::message::{Body, BundleControl, ErrorMessage, GroupMod, Message, PortMod};
use openflow::{GroupId, OfError, Xid};
use std::collections::BTreeMap;
use std::sync::Arc;

/// OFPBF_ATOMIC
const ATOMIC: u16 = 1;

/// Why a bundle request failed, with the error message for the member at fault.
pub(super) type BundleFault = (Option<Box<Message>>, OfError);

/// How a bundle is committed.
struct Commit<'a> {
    slowpath: &'a Slowpath,
    atomic: bool,
    now: Msec,
}

/// What members have done, and what they leave.
#[derive(Default)]
struct Done {
    journal: Journal,
    rest: Rest,
}

/// What members leave to do once all have succeeded.
#[derive(Default)]
struct Rest {
    packet_outs: Vec<Option<Prepared>>,
    port_mods: Vec<PortMod>,
    /// Transaction, request, and whether its group was there before.
    group_mods: Vec<(Xid, GroupMod, bool)>,
}

impl Conn {
    /// OFPT_BUNDLE_CONTROL. A commit that fails answers with the error of the member at fault as well.
    pub(super) fn bundle_control(
        &self,
        slowpath: &Slowpath,
        request: &BundleControl,
        raw: &[u8],
        now: Msec,
    ) -> Result<Body, BundleFault> {
        let outcome = self.lock().bundles.control(request, raw, now).map_err(|error| (None, error))?;
        if let Outcome::Commit(members) = outcome {
            self.commit(slowpath, members, request.flags & ATOMIC != 0, now)?;
        }
        Ok(Body::BundleControl(BundleControl { kind: request.kind + 1, flags: 0, ..*request }))
    }

    /// Applies a bundle under one lock. The first that fails undoes all; its own error is sent before the bundle's.
    fn commit(&self, slowpath: &Slowpath, members: Column<Member>, atomic: bool, now: Msec) -> Result<(), BundleFault> {
        let at = Commit { slowpath, atomic, now };
        let mut done = Done::default();
        let first = members.get(0).map_or(Xid(0), |m| m.xid);
        done.journal.changes.reserve(members.len());
        let mut flow_mods = Vec::with_capacity(members.len());
        let mut world = slowpath.write_world();
        let groups_before = world.bridges.get(&self.bridge).map(|b| b.groups.clone()).unwrap_or_default();
        for Member { version, xid, raw, what } in members {
            let applied = match what {
                What::FlowMod(fm) => {
                    flow_mods.push(fm.command);
                    let bridge = world.bridges.get(&self.bridge).ok_or(OfError::OfpbrcEperm);
                    bridge.and_then(|b| flow_mod::apply_ready(&world, b, *fm, now, &mut done.journal))
                }
                What::Other(body) => self.apply(&at, &mut world, (xid, &body), &mut done),
            };
            if let Err(error) = applied {
                self.undo(&mut world, done.journal, groups_before);
                drop(world);
                let body = Body::Error(ErrorMessage::reply_to(error, &raw));
                return Err((Some(Box::new(Message { version, xid, body })), OfError::OfpbfcMsgFailed));
            }
        }
        let Done { journal, rest } = done;
        for pm in &rest.port_mods {
            port_mod(&mut world, self.bridge, pm, self).map_err(|error| (None, error))?;
        }
        journal.commit_by(&world, Some(self.origin(first)));
        drop(world);
        let mut state = self.lock();
        for command in flow_mods {
            state.flow_mods.note(command, now);
        }
        drop(state);
        for (xid, gm, existed) in &rest.group_mods {
            self.forward_group_mod(*xid, gm, *existed);
        }
        for prepared in rest.packet_outs {
            slowpath.send_packet_out(prepared, now);
        }
        Ok(())
    }

    /// Any member but a flow-mod.
    fn apply(&self, at: &Commit<'_>, world: &mut World, (xid, body): (Xid, &Body), done: &mut Done) -> Result<(), OfError> {
        let (journal, rest) = (&mut done.journal, &mut done.rest);
        let &Commit { slowpath, atomic, now } = at;
        if let Body::GroupMod(gm) = body {
            let existed = world.bridges.get(&self.bridge).is_some_and(|b| b.groups.contains_key(&gm.group));
            groups::group_mod(world, self.bridge, gm, now, journal)?;
            rest.group_mods.push((xid, (**gm).clone(), existed));
            Ok(())
        } else if let Body::PacketOut(po) = body {
            let mut prepared = prepare_packet_out(slowpath, world, self.bridge, po, now)?;
            if let Some(prepared) = &mut prepared {
                journal.append_taught(prepared.take_learned());
            }
            rest.packet_outs.push(prepared);
            Ok(())
        } else if let Body::PortMod(pm) = body {
            if atomic {
                return Err(OfError::OfpbfcMsgFailed);
            }
            let port = world.bridges.get(&self.bridge).and_then(|b| b.ports.get(&pm.port)).ok_or(OfError::OfppmfcBadPort)?;
            if port.info.mac != pm.hw_addr {
                return Err(OfError::OfppmfcBadHwAddr);
            }
            rest.port_mods.push((**pm).clone());
            Ok(())
        } else {
            Err(OfError::OfpbfcMsgUnsup)
        }
    }

    /// Puts everything back as it was before the bundle.
    fn undo(&self, world: &mut World, journal: Journal, groups: BTreeMap<GroupId, Arc<Group>>) {
        journal.revert(world);
        if let Some(b) = world.bridges.get_mut(&self.bridge) {
            b.groups = groups;
        }
        world.changed(crate::deps::Object::Bridge(self.bridge));
    }
}
