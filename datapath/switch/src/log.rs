//! The datapath's debug log, in the lines that OVS's module `dpif_netdev` writes and its tests read.
//!
//! What enters: puts and upcalls, on control and handler threads (never on a worker). What leaves: `tracing` events.

use crate::flows::Done;
use flow::dptext;
use flow::forms::NoNames;
use flow::seam::{FlowPut, Upcall, UpcallKind};

/// `flow_add: ufid:U mega_ufid:U KEY, actions:A`, or `flow_mod:` with the actions before.
pub(crate) fn put(put: &FlowPut, done: &Done) {
    if !tracing::enabled!(target: "dpif_netdev", tracing::Level::DEBUG) {
        return;
    }
    let flow = &put.flow;
    let text = dptext::format_flow(&flow.key, &flow.mask, false, &NoNames);
    let ufid = flow.ufid;
    match done {
        Done::Added => {
            let actions = format!("{:?}", flow.actions);
            tracing::debug!(target: "dpif_netdev", "flow_add: ufid:{ufid} mega_ufid:{ufid} {text}, actions:{actions}");
        }
        Done::Modified(old) => {
            let actions = format!("{old:?}");
            tracing::debug!(target: "dpif_netdev", "flow_mod: ufid:{ufid} mega_ufid:{ufid} {text}, actions:{actions}");
        }
    }
}

/// `NAME: miss upcall:`, then the whole key, for each miss.
pub(crate) fn upcalls(datapath: &str, upcalls: &[Upcall]) {
    if upcalls.is_empty() || !tracing::enabled!(target: "dpif_netdev", tracing::Level::DEBUG) {
        return;
    }
    for upcall in upcalls {
        match upcall.kind {
            UpcallKind::Miss => {
                let key = dptext::format_key(&upcall.key, &NoNames);
                tracing::debug!(target: "dpif_netdev", "{datapath}: miss upcall:\n{key}");
            }
            UpcallKind::Action(_) => (),
        }
    }
}
