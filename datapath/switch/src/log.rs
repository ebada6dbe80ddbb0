//! The datapath's debug log, in the lines that OVS's module `dpif_netdev` writes and its tests read.
//!
//! What enters: puts and upcalls, on control and handler threads (never on a worker). What leaves: `tracing` events.

use crate::flows::Done;
use flow::action_text::format_actions;
use flow::dptext;
use flow::forms::NoNames;
use flow::seam::{FlowDump, FlowPut, Upcall, UpcallKind};
use flow::ufid::ufid_of;

/// `flow_add: ufid:U mega_ufid:U KEY, actions:A`, or `flow_mod: ..., old_actions:O, actions:A`.
pub(crate) fn put(put: &FlowPut, done: &Done) {
    if !tracing::enabled!(target: "dpif_netdev", tracing::Level::DEBUG) {
        return;
    }
    let flow = &put.flow;
    let text = dptext::format_flow(&flow.key, &flow.mask, false, &NoNames);
    let (ufid, mega) = (flow.ufid, ufid_of(&flow.key.masked(&flow.mask)));
    let actions = format_actions(&flow.actions, &NoNames);
    match done {
        Done::Added => {
            tracing::debug!(target: "dpif_netdev", "flow_add: ufid:{ufid} mega_ufid:{mega} {text}, actions:{actions}")
        }
        Done::Modified(old) => {
            let old = format_actions(old, &NoNames);
            tracing::debug!(target: "dpif_netdev", "flow_mod: ufid:{ufid} mega_ufid:{mega} {text}, old_actions:{old}, actions:{actions}");
        }
    }
}

/// `NAME: put[create] ufid:U KEY, actions:A`, or `put[modify]`: what was asked for, with what the flow does not match.
pub(crate) fn requested(datapath: &str, done: &Done, dump: &FlowDump) {
    let mode = match done {
        Done::Added => "create",
        Done::Modified(_) => "modify",
    };
    let key = dump.unmasked.as_ref().unwrap_or(&dump.flow.key);
    let text = dptext::format_flow(key, &dump.flow.mask, true, &NoNames);
    let (ufid, actions) = (dump.flow.ufid, format_actions(&dump.flow.actions, &NoNames));
    tracing::debug!(target: "dpif", "{datapath}: put[{mode}] ufid:{ufid} {text}, actions:{actions}");
}

/// `NAME: miss upcall:`, then the whole key, for each upcall.
pub(crate) fn upcalls(datapath: &str, upcalls: &[Upcall]) {
    if upcalls.is_empty() || !tracing::enabled!(target: "dpif_netdev", tracing::Level::DEBUG) {
        return;
    }
    for upcall in upcalls {
        let kind = match upcall.kind {
            UpcallKind::Miss => "miss",
            UpcallKind::Action(_) => "action",
        };
        let key = dptext::format_key(&upcall.key, &NoNames);
        tracing::debug!(target: "dpif_netdev", "{datapath}: {kind} upcall:\n{key}");
    }
}

/// Whether anybody reads what is said of puts.
pub(crate) fn wants_puts() -> bool {
    wants_dumps() || tracing::enabled!(target: "dpif_netdev", tracing::Level::DEBUG)
}

/// Whether anybody reads `dump`'s lines.
pub(crate) fn wants_dumps() -> bool {
    tracing::enabled!(target: "dpif", tracing::Level::DEBUG)
}

/// `NAME: flow_dump ufid:U KEY, packets:P, bytes:B, used:S, actions:A`: a megaflow whose figures were asked for.
pub(crate) fn dump(datapath: &str, dump: &FlowDump, now_ms: flow::Msec) {
    let key = dump.unmasked.as_ref().unwrap_or(&dump.flow.key);
    let text = dptext::format_flow(key, &dump.flow.mask, true, &NoNames);
    let ago = now_ms - dump.stats.used_ms;
    let used = if dump.stats.used_ms == 0 { "never".to_owned() } else { format!("{}.{:03}s", ago / 1000, ago % 1000) };
    let (ufid, packets, bytes) = (dump.flow.ufid, dump.stats.packets, dump.stats.bytes);
    let actions = format_actions(&dump.flow.actions, &NoNames);
    tracing::debug!(target: "dpif", "{datapath}: flow_dump ufid:{ufid} {text}, packets:{packets}, bytes:{bytes}, used:{used}, actions:{actions}");
}
