//! Freezing: leaving the pipeline in the middle, to go on when the packet comes back from the datapath or from a controller.
//!
//! `freeze_here` says that the rest of the actions shall wait. Each list of actions under way then gathers what remains of it,
//! inner lists first, until the outermost calls `finish_freezing`, which names the state and emits `recirc` (or sends the packet
//! up). What comes back starts in `thaw`. `Step::Unroll` stands between the remains of two lists, so that packet-ins name the right
//! table and cookie.

use super::frozen::{FrozenState, Step};
use super::tables::Lookup;
use super::trace::Kind;
use super::{Ctx, HashAlg, mask};
use crate::effects::XlateError;
use crate::tunnel::came_by_tunnel;
use flow::Action;
use flow::fields::{Field, Value};
use flow::key::Key;
use openflow::action::{Controller, OfAction, SetForm};
use openflow::{OfPort, TableId};
use std::sync::Arc;

/// What is gathered while freezing.
#[derive(Debug, Default)]
pub(super) struct Freeze {
    steps: Vec<Step>,
    /// Table and cookie that the last step runs with.
    unrolled: Option<(TableId, u64)>,
    /// The packet goes to a controller, not round the datapath.
    pub(super) pause: Option<Box<Controller>>,
    /// The datapath hashes the packet first.
    pub(super) hash: Option<(HashAlg, u32)>,
}

impl Ctx<'_> {
    /// From here on actions are gathered, not run.
    pub(super) fn freeze_here(&mut self) -> &mut Freeze {
        self.exit = true;
        self.freeze.get_or_insert_default()
    }

    /// Gathers what remains of a list.
    pub(super) fn unroll(&mut self, rest: impl Iterator<Item = Step>) {
        let at = (self.table, self.rule_cookie);
        let Some(freeze) = &mut self.freeze else { return };
        for step in rest {
            let Some(step) = thawable(step) else { continue };
            if tells_where_it_stands(&step) && freeze.unrolled != Some(at) {
                freeze.steps.push(Step::Unroll { table: at.0, cookie: at.1 });
                freeze.unrolled = Some(at);
            }
            freeze.steps.push(step);
        }
    }

    /// Ends freezing: the pipeline goes on with what was gathered, in this place.
    pub(super) fn finish_freezing(&mut self) {
        self.commit();
        self.freeze_into(TableId(0));
    }

    /// Names the state and leads the packet to it. Gives the recirculation id.
    fn freeze_into(&mut self, table: TableId) -> Option<u32> {
        let freeze = self.freeze.take().unwrap_or_default();
        let state = FrozenState {
            table,
            steps: freeze.steps,
            action_set: self.action_set.clone(),
            userdata: freeze.pause.as_ref().map(|c| c.userdata.clone()).unwrap_or_default(),
            ..self.frozen_state()
        };
        let id = self.hold(state)?;
        match freeze.pause {
            Some(controller) => {
                if !self.is_dry() {
                    self.emit_to_controller(&controller, id);
                }
            }
            None => {
                if let Some((alg, basis)) = freeze.hash {
                    self.emit(Action::Hash { alg, basis });
                }
                self.emit(Action::Recirc(id));
            }
        }
        Some(id)
    }

    /// A copy of the packet goes on in `table` after recirculation; this one goes on here.
    pub(super) fn fork_into(&mut self, table: TableId) -> Option<u32> {
        let outer = self.freeze.take();
        let id = self.freeze_into(table);
        self.freeze = outer;
        id
    }

    /// The pipeline's state, without anything to do.
    pub(super) fn frozen_state(&mut self) -> FrozenState {
        if came_by_tunnel(&self.base) {
            // The datapath has been told a tunnel to send by: the one that the packet came by does not come back with it.
            self.written = mask::whole_tunnel();
            mask::copy_tunnel(&mut self.mask, &self.written);
        }
        let mut written = Key::ZERO;
        mask::copy_tunnel(&mut written, &self.written);
        FrozenState {
            bridge: self.bridge.id,
            table: self.table,
            metadata: FrozenState::metadata_of(&self.key, &written),
            written,
            conntracked: self.conntracked,
            stack: self.stack.clone(),
            mirrors: self.mirrors_done,
            steps: Vec::new(),
            action_set: Vec::new(),
            userdata: Vec::new(),
        }
    }

    /// An id for a frozen state, held by this translation.
    pub(super) fn hold(&mut self, state: FrozenState) -> Option<u32> {
        let Some(held) = self.world.recircs.allocate(Arc::new(state)) else {
            self.fail(XlateError::NoRecirculationContext, format_args!("Failed to allocate recirculation id"));
            return None;
        };
        let id = held.id;
        self.recircs.push(held);
        Some(id)
    }

    // ---- thawing ----

    /// The state to go on with, if the packet has been here before.
    pub(super) fn find_frozen(&mut self) -> Result<Option<Arc<FrozenState>>, XlateError> {
        if let Some(state) = self.resume {
            return Ok(Some(Arc::new(state.clone())));
        }
        let id = u32::from_be_bytes(self.initial.recirc_id);
        if id == 0 {
            return Ok(None);
        }
        let Some(held) = self.world.recircs.find(id) else {
            self.report_error(format_args!("Recirculation context not found for ID {id:x}"));
            return Err(XlateError::NoRecirculationContext);
        };
        if self.start_actions.is_some() {
            let node = self.report(Kind::Thaw, format_args!("thaw"));
            let before = self.enter(node);
            self.report_error(format_args!("Recirculation conflict (actions)!"));
            self.enter(before);
            return Err(XlateError::RecirculationConflict);
        }
        let state = Arc::clone(&held.state);
        self.recircs.push(held);
        self.find_bridge_of(&state)?;
        Ok(Some(state))
    }

    fn find_bridge_of(&mut self, state: &FrozenState) -> Result<(), XlateError> {
        let Some(bridge) = self.world.bridges.get(&state.bridge) else {
            let node = self.report(Kind::Thaw, format_args!("thaw"));
            let before = self.enter(node);
            self.report_error(format_args!("Frozen bridge no longer exists."));
            self.enter(before);
            return Err(XlateError::BridgeNotFound);
        };
        self.bridge = bridge;
        self.deps.object(crate::deps::Object::Bridge(bridge.id));
        Ok(())
    }

    /// Takes up a frozen state; gives what remains to do. Nothing: a lookup in `self.table`.
    pub(super) fn thaw(&mut self, state: &FrozenState) -> Vec<Step> {
        let node = self.report(Kind::Thaw, format_args!("thaw"));
        let before = self.enter(node);
        self.table = state.table;
        self.report(Kind::Thaw, format_args!("Resuming from table {}", state.table.0));
        self.conntracked = state.conntracked;
        if !state.conntracked {
            forget_connection(&mut self.key);
        }
        state.restore(&mut self.key);
        self.written = state.written;
        self.base = self.key;
        mask::clear_tunnel(&mut self.base);
        self.stack.clone_from(&state.stack);
        self.mirrors_done = state.mirrors;
        if !state.action_set.is_empty() {
            self.report_list("Restoring action set", state.action_set.iter());
            self.key.actset_output = OfPort::UNSET.to_key();
            self.extend_action_set(&state.action_set);
        }
        if !state.steps.is_empty() {
            self.report_steps("Restoring actions", &state.steps);
        }
        self.enter(before);
        state.steps.clone()
    }

    fn report_steps(&mut self, title: &str, steps: &[Step]) {
        let Some(trace) = &mut self.trace else { return };
        let text: Vec<String> = steps
            .iter()
            .map(|step| match step {
                Step::Unroll { table, cookie } => format!("unroll_xlate(table={}, cookie={cookie})", table.0),
                Step::Run(action) => (trace.action_text)(std::slice::from_ref(action)),
            })
            .collect();
        trace.add(Kind::Thaw, format!("{title}: {}", text.join(",")));
    }

    pub(super) fn report_list<'b>(&mut self, title: &str, actions: impl Iterator<Item = &'b OfAction>) {
        let Some(trace) = &mut self.trace else { return };
        let text: Vec<String> = actions.map(|a| (trace.action_text)(std::slice::from_ref(a))).collect();
        trace.add(Kind::Thaw, format!("{title}: {}", text.join(",")));
    }

    /// A packet-out or a packet that a controller gives back stands in no table.
    pub(super) fn run_unroll(&mut self, table: TableId, cookie: u64) {
        self.table = table;
        self.rule_cookie = cookie;
        self.report(Kind::Thaw, format_args!("restored state: table={}, cookie={cookie:x}", table.0));
    }

    /// Output to OFPP_TABLE, and resubmit: whether the lookup has to wait until what is beneath popped labels has been parsed.
    pub(super) fn must_parse_first(&mut self, lookup: &Lookup) -> bool {
        if !self.was_mpls {
            return false;
        }
        self.freeze_here();
        if !lookup.on_a_copy {
            let again =
                OfAction::Resubmit { port: lookup.in_port, table: lookup.table, with_ct: lookup.with_ct, has_table: true };
            self.unroll(std::iter::once(Step::Run(again)));
        }
        true
    }
}

/// Zeroes what conntrack has said of a packet.
pub(super) fn forget_connection(key: &mut Key) {
    key.ct_state = 0;
    key.ct_zone = [0; 2];
    key.ct_mark = [0; 4];
    key.ct_label = [0; 16];
    key.ct_nw_proto = 0;
    key.ct_tp_src = [0; 2];
    key.ct_tp_dst = [0; 2];
    key.ct_nw_src = [0; 4];
    key.ct_nw_dst = [0; 4];
    key.ct_ipv6_src = [0; 16];
    key.ct_ipv6_dst = [0; 16];
}

/// Instructions become the actions that do the same; what does nothing is left out.
fn thawable(step: Step) -> Option<Step> {
    let Step::Run(action) = step else { return Some(step) };
    if matches!(action, OfAction::Note(_) | OfAction::Conjunction { .. }) {
        return None;
    }
    if let OfAction::GotoTable(table) = action {
        return Some(Step::Run(OfAction::Resubmit { port: OfPort::IN_PORT, table, with_ct: false, has_table: true }));
    }
    if let OfAction::WriteMetadata { value, mask } = action {
        return Some(Step::Run(OfAction::SetField {
            field: Field::Metadata,
            value: Value::from(u128::from(value)),
            mask: Value::from(u128::from(mask)),
            form: SetForm::SetField,
        }));
    }
    Some(Step::Run(action))
}

/// Whether a packet-in that the action causes, or the action itself, tells of the table that it stands in.
fn tells_where_it_stands(step: &Step) -> bool {
    let Step::Run(action) = step else { return false };
    matches!(
        action,
        OfAction::OutputReg { .. }
            | OfAction::OutputTrunc { .. }
            | OfAction::Group(_)
            | OfAction::Output { .. }
            | OfAction::Controller(_)
            | OfAction::DecMplsTtl
            | OfAction::DecNshTtl
            | OfAction::DecTtl { .. }
            | OfAction::Resubmit { table: TableId::ALL, .. }
    )
}
