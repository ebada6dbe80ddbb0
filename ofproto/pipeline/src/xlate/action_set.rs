//! The action set: what write_actions gathers and the end of the pipeline executes, in OpenFlow's order (1.3 section 5.10).

use super::Ctx;
use super::trace::Kind;
use openflow::OfPort;
use openflow::action::OfAction;

/// Where an action stands in the order of execution; equal ones replace each other, except field sets, which keep their own order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    PopVlan,
    PopMpls,
    Decap,
    Encap,
    PushMpls,
    PushVlan,
    DecTtl,
    DecMplsTtl,
    DecNshTtl,
    Set,
    Queue,
    Last,
}

/// Of those that end the set, the one that wins: group, then output, then resubmit, with ct before it.
fn rank_of_last(action: &OfAction) -> u8 {
    if matches!(action, OfAction::Group(_)) {
        4
    } else if matches!(
        action,
        OfAction::Output { .. } | OfAction::OutputReg { .. } | OfAction::OutputTrunc { .. } | OfAction::Controller(_)
    ) {
        3
    } else if matches!(action, OfAction::Resubmit { .. }) {
        2
    } else {
        u8::from(matches!(action, OfAction::Ct(_)))
    }
}

/// The place of an action, `None` for what no set may hold (the codec has refused it).
fn place(action: &OfAction) -> Option<Place> {
    Some(match action {
        OfAction::StripVlan { .. } => Place::PopVlan,
        OfAction::PopMpls { .. } => Place::PopMpls,
        OfAction::Decap { .. } => Place::Decap,
        OfAction::Encap(_) => Place::Encap,
        OfAction::PushMpls { .. } => Place::PushMpls,
        OfAction::PushVlan { .. } => Place::PushVlan,
        OfAction::DecTtl { .. } => Place::DecTtl,
        OfAction::DecMplsTtl => Place::DecMplsTtl,
        OfAction::DecNshTtl => Place::DecNshTtl,
        OfAction::SetEthSrc(_)
        | OfAction::SetEthDst(_)
        | OfAction::SetField { .. }
        | OfAction::SetIpDscp(_)
        | OfAction::SetIpEcn(_)
        | OfAction::SetIpTtl(_)
        | OfAction::SetIpv4Src(_)
        | OfAction::SetIpv4Dst(_)
        | OfAction::SetL4Src(_)
        | OfAction::SetL4Dst(_)
        | OfAction::SetMplsLabel(_)
        | OfAction::SetMplsTc(_)
        | OfAction::SetMplsTtl(_)
        | OfAction::SetTunnel { .. }
        | OfAction::SetVlanVid { .. }
        | OfAction::SetVlanPcp { .. }
        | OfAction::RegMove { .. }
        | OfAction::DeleteField(_) => Place::Set,
        OfAction::SetQueue(_) => Place::Queue,
        OfAction::Group(_)
        | OfAction::Output { .. }
        | OfAction::OutputReg { .. }
        | OfAction::OutputTrunc { .. }
        | OfAction::Controller(_)
        | OfAction::Resubmit { .. }
        | OfAction::Ct(_)
        | OfAction::CtClear => Place::Last,
        OfAction::Enqueue { .. }
        | OfAction::Bundle(_)
        | OfAction::StackPush(_)
        | OfAction::StackPop(_)
        | OfAction::PopQueue
        | OfAction::FinTimeout { .. }
        | OfAction::Learn(_)
        | OfAction::Conjunction { .. }
        | OfAction::Multipath(_)
        | OfAction::Note(_)
        | OfAction::Exit
        | OfAction::Sample(_)
        | OfAction::Clone(_)
        | OfAction::Nat(_)
        | OfAction::CheckPktLarger { .. }
        | OfAction::DebugRecirc
        | OfAction::DebugSlow
        | OfAction::Meter(_)
        | OfAction::ClearActions
        | OfAction::WriteActions(_)
        | OfAction::WriteMetadata { .. }
        | OfAction::GotoTable(_) => return None,
    })
}

/// The set in order of execution.
pub(super) fn in_order(set: &[OfAction]) -> Vec<OfAction> {
    let mut ordered: Vec<(Place, OfAction)> = Vec::new();
    for action in set {
        let Some(at) = place(action) else { continue };
        match at {
            Place::Set => {}
            Place::Last if rank_of_last(action) == 0 => {}
            Place::Last => {
                let better = |(p, a): &(Place, OfAction)| *p == Place::Last && rank_of_last(a) > rank_of_last(action);
                if ordered.iter().any(better) {
                    continue;
                }
                ordered.retain(|(p, a)| *p != Place::Last || rank_of_last(a) == 0);
            }
            Place::PopVlan
            | Place::PopMpls
            | Place::Decap
            | Place::Encap
            | Place::PushMpls
            | Place::PushVlan
            | Place::DecTtl
            | Place::DecMplsTtl
            | Place::DecNshTtl
            | Place::Queue => ordered.retain(|(p, _)| *p != at),
        }
        ordered.push((at, action.clone()));
    }
    ordered.sort_by_key(|(at, _)| *at);
    let leads_on = ordered.iter().any(|(p, a)| *p == Place::Last && rank_of_last(a) > 0);
    // A set without output, group or resubmit drops the packet, so nothing of it need run (OpenFlow 1.3 section 5.10).
    if leads_on { ordered.into_iter().map(|(_, a)| a).collect() } else { Vec::new() }
}

impl Ctx<'_> {
    /// write_actions.
    pub(super) fn write_actions(&mut self, actions: &[OfAction]) {
        self.extend_action_set(actions);
        self.report_action_set("is");
    }

    /// clear_actions.
    pub(super) fn clear_action_set(&mut self) {
        self.report_action_set("was");
        self.action_set.clear();
        self.key.actset_output = OfPort::UNSET.to_key();
    }

    /// Adds actions, and keeps the field actset_output: the port the set outputs to, unset when a group will be used.
    pub(super) fn extend_action_set(&mut self, actions: &[OfAction]) {
        let is_group = |a: &OfAction| matches!(a, OfAction::Group(_));
        let mut grouped = self.action_set.iter().any(is_group);
        for action in actions {
            if grouped {
                break;
            }
            if let OfAction::Output { port, .. } = action {
                self.key.actset_output = port.to_key();
            } else if is_group(action) {
                self.key.actset_output = OfPort::UNSET.to_key();
                grouped = true;
            }
        }
        self.action_set.extend_from_slice(actions);
    }

    /// Executes the set at the end of the pipeline.
    pub(super) fn run_action_set(&mut self) {
        if self.error.is_some() {
            return;
        }
        let ordered = in_order(&self.action_set);
        self.action_set.clear();
        if ordered.is_empty() {
            return;
        }
        // Whatever has ended the actions before it, the set is executed.
        let exit = std::mem::take(&mut self.exit);
        self.in_action_set = true;
        let node = self.report(Kind::Table, format_args!("--. Executing action set:"));
        let before = self.enter(node);
        self.run_actions(&ordered, true);
        self.enter(before);
        self.in_action_set = false;
        self.exit |= exit;
    }

    fn report_action_set(&mut self, verb: &str) {
        let Some(trace) = &mut self.trace else { return };
        let ordered = in_order(&self.action_set);
        let text = if ordered.is_empty() {
            format!("action set {verb} empty")
        } else {
            format!("action set {verb}: {}", (trace.action_text)(&ordered))
        };
        trace.add(Kind::Detail, text);
    }
}
