//! The action set: what write_actions gathers and the end of the pipeline executes, in OpenFlow's order (1.3 section 5.10).

use super::Ctx;
use super::trace::Kind;
use openflow::OfPort;
use openflow::action::OfAction;
use openflow::action_traits::SetPlace;

/// Of those that end the set, the one that wins: group, then output, resubmit, `ct_clear` and ct.
fn rank_of_last(action: &OfAction) -> u8 {
    if matches!(action, OfAction::Group(_)) {
        5
    } else if matches!(action, OfAction::Output { .. }) {
        4
    } else if matches!(action, OfAction::Resubmit { .. }) {
        3
    } else if matches!(action, OfAction::CtClear) {
        2
    } else {
        u8::from(matches!(action, OfAction::Ct(_)))
    }
}

/// The set in order of execution.
pub(super) fn in_order(set: &[OfAction]) -> Vec<OfAction> {
    let mut ordered: Vec<(SetPlace, OfAction)> = Vec::new();
    for action in set {
        // The codec has refused what no set may hold.
        let Some(at) = action.traits().in_set else { continue };
        match at {
            SetPlace::Set => {}
            SetPlace::Last if rank_of_last(action) == 0 => {}
            SetPlace::Last => {
                let better = |(p, a): &(SetPlace, OfAction)| *p == SetPlace::Last && rank_of_last(a) > rank_of_last(action);
                if ordered.iter().any(better) {
                    continue;
                }
                ordered.retain(|(p, a)| *p != SetPlace::Last || rank_of_last(a) == 0);
            }
            SetPlace::PopVlan
            | SetPlace::PopMpls
            | SetPlace::PopPbb
            | SetPlace::CopyTtlIn
            | SetPlace::CopyTtlOut
            | SetPlace::Decap
            | SetPlace::Encap
            | SetPlace::PushMpls
            | SetPlace::PushPbb
            | SetPlace::PushVlan
            | SetPlace::DecTtl
            | SetPlace::DecMplsTtl
            | SetPlace::DecNshTtl
            | SetPlace::Queue => ordered.retain(|(p, _)| *p != at),
        }
        ordered.push((at, action.clone()));
    }
    ordered.sort_by_key(|(at, _)| *at);
    let leads_on = ordered.iter().any(|(p, a)| *p == SetPlace::Last && rank_of_last(a) > 0);
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

#[cfg(test)]
mod tests {
    use super::*;
    use openflow::text::{Names, format_actions, parse_actions};

    /// As OVS 3.1 orders them.
    #[test]
    fn one_action_ends_a_set() {
        let order = |text: &str| {
            let (set, _) = parse_actions(text, &Names::default()).unwrap();
            format_actions(&in_order(&set), &Names::default())
        };
        assert_eq!(order("dec_ttl"), "drop");
        assert_eq!(order("ct_clear,dec_ttl"), "dec_ttl,ct_clear");
        assert_eq!(order("ct_clear,output:1"), "output:1");
        assert_eq!(order("resubmit(,1),ct_clear"), "resubmit(,1)");
        assert_eq!(order("ct_clear,ct(commit)"), "ct_clear");
        assert_eq!(order("group:5,output:1"), "group:5");
    }
}
