//! Looking tables up: what table 0 says of the packet, and where resubmit, goto_table and OFPP_TABLE lead.

use super::trace::Kind;
use super::{ACTIONS_MAX, Ctx, DEPTH_MAX, RESUBMITS_MAX, STACK_BYTES_MAX};
use crate::bridge::port_config;
use crate::effects::{Credit, XlateError};
use crate::internal::Own;
use crate::rule::Rule;
use crate::table::{INTERNAL, Miss, TABLES};
use flow::key::{FRAG_ANY, Key};
use openflow::{OfPort, TableId};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A lookup to make.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lookup {
    pub(super) in_port: OfPort,
    pub(super) table: TableId,
    /// A miss may become a packet-in.
    pub(super) may_packet_in: bool,
    /// What the table says of misses counts.
    pub(super) honor_miss: bool,
    /// Match on the original tuple of the connection instead of the packet's addresses and ports.
    pub(super) with_ct: bool,
    /// Nothing runs after what is found.
    pub(super) last: bool,
    /// What is found works on a copy of the packet.
    pub(super) on_a_copy: bool,
}

impl Lookup {
    /// As `resubmit` does: a miss does nothing.
    pub(super) fn new(in_port: OfPort, table: TableId) -> Self {
        Self { in_port, table, may_packet_in: false, honor_miss: false, with_ct: false, last: false, on_a_copy: false }
    }
}

/// What a lookup came to.
pub(super) enum Found {
    Rule(Arc<Rule>),
    /// No rule, and controllers want to see such packets.
    PacketIn,
    /// No rule.
    Miss,
    /// A fragment, and the bridge drops those.
    DroppedFragment,
}

impl Ctx<'_> {
    /// Looks up and runs what is found.
    pub(super) fn look_up_and_run(&mut self, lookup: &Lookup) {
        if self.must_parse_first(lookup) || !self.may_resubmit() {
            return;
        }
        let swapped = lookup.with_ct;
        if swapped && !self.has_connection_tuple() {
            return;
        }
        let old_table = self.table;
        if swapped {
            self.swap_connection_tuple();
        }
        let (found, ended) = self.look_up(lookup);
        if swapped {
            self.swap_connection_tuple();
        }
        self.table = ended;
        let before = self.report_lookup(&found, lookup.table);
        self.resubmits += 1;
        let deepens = u32::from(lookup.table <= old_table);
        self.depth += deepens;
        self.credit(&found);
        match &found {
            Found::Rule(rule) => self.run_rule(rule, lookup),
            Found::PacketIn | Found::Miss | Found::DroppedFragment => self.run_miss(&found),
        }
        self.depth -= deepens;
        self.enter(before);
        self.table = old_table;
    }

    fn run_rule(&mut self, rule: &Arc<Rule>, lookup: &Lookup) {
        let old_rule = self.rule.replace(Arc::clone(rule));
        let old_cookie = std::mem::replace(&mut self.rule_cookie, rule.cookie.load(Ordering::Relaxed));
        // What a rule sends up is not what a bucket sends up, wherever the rule was reached from.
        let was_in_bucket = std::mem::take(&mut self.in_bucket);
        if lookup.on_a_copy {
            self.run_on_a_copy(&rule.actions, lookup.last);
        } else {
            self.run_actions(&rule.actions, lookup.last);
        }
        self.in_bucket = was_in_bucket;
        self.rule_cookie = old_cookie;
        self.rule = old_rule;
    }

    /// Does what is done where no rule was found.
    pub(super) fn run_miss(&mut self, found: &Found) {
        let own = self.own_rule(found);
        self.credits.push(Credit::Tally(Arc::clone(self.bridge.own_rules.tally(own))));
        if own != Own::PacketIn {
            self.report(Kind::Action, format_args!("drop"));
            return;
        }
        let old_rule = self.rule.take();
        let old_cookie = std::mem::replace(&mut self.rule_cookie, 0);
        self.run_actions(&own.actions(), true);
        self.rule_cookie = old_cookie;
        self.rule = old_rule;
    }

    /// A rule that was found counts the packet, whatever becomes of it. A rule of our own counts what it is carried out for (`run_miss`): before a
    /// bridge has its first rule, links speak already.
    pub(super) fn credit(&mut self, found: &Found) {
        if let Found::Rule(rule) = found {
            self.credits.push(Credit::Rule(Arc::clone(rule)));
        }
    }

    /// The rule of table 254 that stands for it.
    fn own_rule(&self, found: &Found) -> Own {
        match found {
            Found::DroppedFragment => Own::Fragment,
            Found::PacketIn => Own::PacketIn,
            Found::Rule(_) | Found::Miss if self.table == INTERNAL && self.key.recirc_id == [0; 4] => Own::NotRound,
            Found::Rule(_) | Found::Miss => Own::Miss,
        }
    }

    /// Whether the bounds allow one more resubmit.
    pub(super) fn may_resubmit(&mut self) -> bool {
        let stack: usize = self.stack.iter().map(Vec::len).sum();
        if self.depth >= DEPTH_MAX {
            self.fail(XlateError::RecursionTooDeep, format_args!("over max translation depth {DEPTH_MAX}"));
        } else if self.resubmits >= RESUBMITS_MAX {
            self.fail(XlateError::TooManyResubmits, format_args!("over {RESUBMITS_MAX} resubmit actions"));
        } else if self.actions.len() > ACTIONS_MAX {
            self.report_error(format_args!("resubmits yielded over 64 kB of actions"));
            self.exit = true;
            return false;
        } else if stack >= STACK_BYTES_MAX {
            self.fail(XlateError::StackTooDeep, format_args!("resubmits yielded over 64 kB of stack"));
        }
        self.error.is_none()
    }

    /// Searches the table, and those after it as long as their miss setting says "continue". Gives the table it ended in.
    pub(super) fn look_up(&mut self, lookup: &Lookup) -> (Found, TableId) {
        let mut key = Key { in_port: lookup.in_port.to_key(), ..self.key };
        if key.nw_frag & FRAG_ANY != 0 {
            match self.bridge.frag_mode {
                FragMode::NxMatch => {}
                FragMode::Normal => {
                    key.tp_src = [0; 2];
                    key.tp_dst = [0; 2];
                }
                FragMode::Drop => return (Found::DroppedFragment, lookup.table),
            }
        }
        let mut at = lookup.table;
        // Without a table's say the miss setting counts as "continue", as after the last table.
        let mut miss = Miss::Continue;
        while let Some(table) = self.bridge.tables.get(usize::from(at.0)) {
            let found = table.lookup(&key, Some(&mut self.mask));
            // A conjunction is decided by several rules; the lowest of their priorities is not known here.
            let priority = found.as_ref().filter(|r| !r.mini.mask().has_conj_id()).map(|r| r.priority);
            self.deps.table(self.bridge.id, at, priority, &key, &self.initial);
            self.credits.push(Credit::Lookup { bridge: self.bridge.id, table: at, matched: found.is_some() });
            if let Some(rule) = found {
                if self.trace.is_some() {
                    self.conjunctive = table.conjunctive(&key, &rule);
                }
                return (Found::Rule(rule), at);
            }
            if lookup.honor_miss {
                miss = table.miss;
            }
            let next = TableId(at.0.saturating_add(1));
            if !lookup.honor_miss || miss != Miss::Continue || next == INTERNAL || usize::from(next.0) >= TABLES {
                break;
            }
            at = next;
        }
        let wanted = lookup.may_packet_in && self.wants_packet_in(miss);
        (if wanted { Found::PacketIn } else { Found::Miss }, at)
    }

    fn wants_packet_in(&mut self, miss: Miss) -> bool {
        match miss {
            Miss::Default => self.bridge.wants_packet_in_on_miss,
            Miss::Controller | Miss::Continue => {
                let in_port = self.in_port();
                self.port(in_port).is_some_and(|p| p.config & port_config::NO_PACKET_IN == 0)
            }
            Miss::Drop => false,
        }
    }

    /// Shows the table in the trace and enters it; gives the node to return to.
    pub(super) fn report_lookup(&mut self, found: &Found, table: TableId) -> usize {
        let Some(trace) = &mut self.trace else { return 0 };
        let what = match found {
            Found::Rule(rule) => (trace.rule_text)(rule, &rule.matching(self.bridge)),
            // The rules of the internal table that stand for these; a trace in OVS knows them only in the bridge it began in.
            Found::PacketIn if self.origin != self.bridge.id => "reg0=0x1, priority 0".to_owned(),
            Found::Miss if self.origin != self.bridge.id => "reg0=0x2, priority 0".to_owned(),
            Found::DroppedFragment if self.origin != self.bridge.id => "reg0=0x3, priority 0".to_owned(),
            // The internal table's rule for packets that have not been round.
            Found::Miss if table == INTERNAL => "recirc_id=0, priority 2".to_owned(),
            Found::PacketIn => "No match, and a \"packet-in\" is called for.".to_owned(),
            Found::Miss => "No match.".to_owned(),
            Found::DroppedFragment => "Packets are IP fragments and the fragment handling mode is \"drop\".".to_owned(),
        };
        let node = trace.add(Kind::Table, format!("{:2}. {what}", table.0));
        let before = trace.enter(node);
        for rule in std::mem::take(&mut self.conjunctive) {
            let text = format!("conj. {}", (trace.match_text)(&rule, &rule.matching(self.bridge)));
            trace.add(Kind::Detail, text);
        }
        before
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
