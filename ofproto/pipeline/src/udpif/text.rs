//! What the control commands say and do: upcall/show and its switches.

use super::Udpif;
use crate::effects::Credit;
use crate::rule::Rule;
use flow::Ufid;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Udpif {
    /// This datapath's part of `upcall/show`.
    #[must_use]
    pub fn show(&self) -> String {
        let rounds = *self.rounds.lock().expect("no holder of the figures panics");
        let mut out = format!("{}@{}:\n", self.kind, self.dp.name());
        let limit = self.limit.load(Ordering::Relaxed);
        let (avg, max) = (rounds.avg_flows, rounds.max_flows);
        write_line(
            &mut out,
            format_args!("  flows         : (current {}) (avg {avg}) (max {max}) (limit {limit})", self.flow_count()),
        );
        write_line(&mut out, format_args!("  dump duration : {}ms", rounds.took_ms));
        write_line(&mut out, format_args!("  ufid enabled : {}\n", self.switches.ufid.load(Ordering::Relaxed)));
        let keys = self.ukeys.len();
        write_line(&mut out, format_args!("  1: (keys {keys})"));
        out
    }

    /// The rules that a megaflow came of, in the order in which they were hit; `None` if it is not ours.
    #[must_use]
    pub fn rules_behind(&self, ufid: Ufid) -> Option<Vec<Arc<Rule>>> {
        let ukey = self.ukeys.find(ufid)?;
        let inner = ukey.lock();
        Some(
            inner.credits.iter().filter_map(|c| if let Credit::Rule(rule) = c { Some(Arc::clone(rule)) } else { None }).collect(),
        )
    }

    /// `upcall/enable-megaflows`, `upcall/disable-megaflows`: existing megaflows go.
    pub fn set_megaflows(&self, on: bool) {
        self.switches.megaflows.store(on, Ordering::Relaxed);
        self.purge();
    }

    /// `upcall/enable-ufid`, `upcall/disable-ufid`: only told, flows always have one here.
    pub fn set_ufid(&self, on: bool) {
        self.switches.ufid.store(on, Ordering::Relaxed);
    }

    /// `upcall/set-flow-limit`
    pub fn set_flow_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// `revalidator/pause`, `revalidator/resume`: rounds stop; `settle` goes on.
    pub fn set_paused(&self, paused: bool) {
        self.switches.paused.store(paused, Ordering::Release);
        // Whoever pauses wants to find no round under way afterwards.
        drop(self.round.lock().expect("no round panics"));
    }
}

fn write_line(out: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(out, "{line}").expect("writing to a string does not fail");
}
