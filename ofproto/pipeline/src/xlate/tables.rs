//! Looking tables up: what table 0 says of the packet, and where resubmit, goto_table and OFPP_TABLE lead.

use super::trace::Kind;
use super::{Ctx, DEPTH_MAX, RESUBMITS_MAX, STACK_BYTES_MAX};
use crate::bridge::port_config;
use crate::effects::{Credit, XlateError};
use crate::rule::Rule;
use crate::table::{INTERNAL, Miss, TABLES};
use flow::key::{FRAG_ANY, Key};
use openflow::action::OfAction;
use openflow::{OfPort, TableId};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a lookup came to.
enum Lookup {
    Rule(Arc<Rule>),
    /// No rule, and controllers want to see such packets.
    PacketIn,
    /// No rule.
    Miss,
    /// A fragment, and the bridge drops those.
    DroppedFragment,
}

/// Reason of a packet-in for a table miss (OFPR_NO_MATCH).
const NO_MATCH: u8 = 0;

impl Ctx<'_> {
    /// What table 0 says of a packet that has just come in.
    pub(super) fn first_lookup(&mut self) {
        let in_port = self.in_port();
        self.look_up_then_run(in_port, TableId(0), true, true, true, false);
    }

    /// As the actions resubmit, goto_table and output:TABLE do. `last`: nothing runs after it.
    pub(super) fn lookup_and_run(&mut self, in_port: OfPort, table: TableId, may_packet_in: bool, honor_miss: bool, last: bool) {
        if self.was_mpls {
            // What is beneath the popped labels has to be parsed before it can be matched.
            self.start_freezing();
            return;
        }
        if self.may_resubmit() {
            self.look_up_then_run(in_port, table, may_packet_in, honor_miss, last, table <= self.table);
        }
    }

    fn look_up_then_run(
        &mut self,
        in_port: OfPort,
        table: TableId,
        may_packet_in: bool,
        honor_miss: bool,
        last: bool,
        deepens: bool,
    ) {
        let old_table = self.table;
        let (found, at) = self.look_up(in_port, table, may_packet_in, honor_miss);
        self.table = at;
        let before = self.report_lookup(&found, at);
        match found {
            Lookup::Rule(rule) => self.run_rule(&rule, deepens, last),
            Lookup::PacketIn => self.table_miss_packet_in(),
            Lookup::Miss | Lookup::DroppedFragment => {
                self.report(Kind::Action, format_args!("drop"));
            }
        }
        self.enter(before);
        self.table = old_table;
    }

    fn run_rule(&mut self, rule: &Arc<Rule>, deepens: bool, last: bool) {
        self.resubmits += 1;
        self.depth += u32::from(deepens);
        let old_rule = self.rule.replace(Arc::clone(rule));
        let old_cookie = std::mem::replace(&mut self.rule_cookie, rule.cookie.load(Ordering::Relaxed));
        self.credits.push(Credit::Rule(Arc::clone(rule)));
        self.run_actions(&rule.actions, last);
        self.rule_cookie = old_cookie;
        self.rule = old_rule;
        self.depth -= u32::from(deepens);
    }

    fn table_miss_packet_in(&mut self) {
        let controller = openflow::action::Controller {
            max_len: openflow::types::MAX_LEN_ALL,
            controller_id: 0,
            reason: NO_MATCH,
            userdata: Vec::new(),
            pause: false,
            meter_id: u32::MAX,
        };
        self.run_actions(&[OfAction::Controller(Box::new(controller))], true);
    }

    /// Whether the bounds allow one more resubmit.
    fn may_resubmit(&mut self) -> bool {
        let stack: usize = self.stack.iter().map(Vec::len).sum();
        if self.depth >= DEPTH_MAX {
            self.fail(XlateError::RecursionTooDeep, format_args!("over max translation depth {DEPTH_MAX}"));
        } else if self.resubmits >= RESUBMITS_MAX {
            self.fail(XlateError::TooManyResubmits, format_args!("over {RESUBMITS_MAX} resubmit actions"));
        } else if stack >= STACK_BYTES_MAX {
            self.fail(XlateError::StackTooDeep, format_args!("resubmits yielded over 64 kB of stack"));
        }
        self.error.is_none()
    }

    /// Searches `table`, and those after it as long as their miss setting says "continue". Gives the table it ended in.
    fn look_up(&mut self, in_port: OfPort, table: TableId, may_packet_in: bool, honor_miss: bool) -> (Lookup, TableId) {
        let mut key = Key { in_port: in_port.to_key(), ..self.key };
        if key.nw_frag & FRAG_ANY != 0 {
            match self.bridge.frag_mode {
                FragMode::NxMatch => {}
                FragMode::Normal => {
                    key.tp_src = [0; 2];
                    key.tp_dst = [0; 2];
                }
                FragMode::Drop => return (Lookup::DroppedFragment, table),
            }
        }
        let mut at = table;
        loop {
            let t = &self.bridge.tables[usize::from(at.0)];
            let found = t.lookup(&key, Some(&mut self.mask));
            // A conjunction is decided by several rules; the lowest of their priorities is not known here.
            let priority = found.as_ref().filter(|r| r.mini.mask().expand().conj_id == [0; 4]).map(|r| r.priority);
            self.deps.table(self.bridge.id, at, priority, &key, &self.initial);
            self.credits.push(Credit::Lookup { bridge: self.bridge.id, table: at, matched: found.is_some() });
            if let Some(rule) = found {
                return (Lookup::Rule(rule), at);
            }
            if !honor_miss || t.miss != Miss::Continue {
                break;
            }
            let next = TableId(at.0 + 1);
            if next == INTERNAL || usize::from(next.0) >= TABLES {
                break;
            }
            at = next;
        }
        let wanted = may_packet_in
            && match self.bridge.tables[usize::from(at.0)].miss {
                Miss::Default => self.bridge.wants_packet_in_on_miss,
                Miss::Controller | Miss::Continue => true,
                Miss::Drop => false,
            };
        let allowed = self.port(in_port).is_none_or(|p| p.config & port_config::NO_PACKET_IN == 0);
        (if wanted && allowed { Lookup::PacketIn } else { Lookup::Miss }, at)
    }

    /// Shows the table in the trace and enters it; gives the node to return to.
    fn report_lookup(&mut self, found: &Lookup, table: TableId) -> usize {
        let Some(trace) = &mut self.trace else { return 0 };
        let what = match found {
            Lookup::Rule(rule) => (trace.rule_text)(rule),
            Lookup::PacketIn => "No match, and a \"packet-in\" is called for.".to_owned(),
            Lookup::Miss => "No match.".to_owned(),
            Lookup::DroppedFragment => "Packets are IP fragments and the fragment handling mode is \"drop\".".to_owned(),
        };
        let node = trace.add(Kind::Table, format!("{:2}. {what}", table.0));
        trace.enter(node)
    }
}

/// How a bridge treats IP fragments (OFPC_FRAG_*).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FragMode {
    /// Transport ports of fragments are zero.
    #[default]
    Normal,
    Drop,
    /// First fragments have their ports (OVS's extension).
    NxMatch,
}
