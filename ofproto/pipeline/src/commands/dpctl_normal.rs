//! `dpctl/normalize-actions`, a test's helper: actions by the tags under which they happen, outputs in the order of their ports, so that
//! lists that come to the same read the same.

use super::Outcome;
use super::dpctl::error;
use super::show::write;
use crate::slowpath::Slowpath;
use flow::action_text::{format_actions, parse_actions};
use flow::dptext::{format_flow, parse_flow};
use flow::forms::PortNames;
use flow::hash::Map;
use flow::key::{Key, VLAN_CFI};
use flow::{Action, Actions, NoNames};
use std::collections::BTreeMap;

/// Tags outermost first: (TPID, TCI), zeros where there is none.
type Tags = [(u16, u16); 2];

const TPID_8021Q: u16 = 0x8100;

/// Ports as the arguments name them, `NAME=NUMBER`.
#[derive(Default)]
struct Named(Map<String, u32>);

impl PortNames for Named {
    fn name(&self, _port: u32) -> Option<String> {
        None
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.0.get(name).copied()
    }
}

fn names(args: &[&str]) -> Result<Named, String> {
    let mut names = Named::default();
    for arg in args {
        let pair = arg.split_once('=').and_then(|(name, number)| Some((name, number.parse().ok()?)));
        let (name, number) = pair.ok_or_else(|| error(format_args!("{arg}: expected NAME=NUMBER")))?;
        names.0.insert(name.to_owned(), number);
    }
    Ok(names)
}

pub(super) fn normalize(_: &Slowpath, args: &[&str]) -> Outcome {
    let names = names(&args[2..])?;
    let flow =
        parse_flow(args[0], &names).map_err(|e| error(format_args!("odp_flow_key_from_string ({e}) (Invalid argument)")))?;
    let actions = parse_actions(args[1], &names).map_err(|_| error("odp_actions_from_string (Invalid argument)"))?;
    let mut out = format!("input flow: {}\n", format_flow(&flow.key, &flow.mask, false, &NoNames));
    for (tags, mut actions) in by_tags(&flow.key, actions) {
        sort_outputs(&mut actions);
        write_tags(&mut out, tags);
        write_labels(&mut out, &flow.key);
        out += &format_actions(&actions, &NoNames);
        out.push('\n');
    }
    Ok(out)
}

fn tag(tpid: [u8; 2], tci: [u8; 2]) -> (u16, u16) {
    (u16::from_be_bytes(tpid), u16::from_be_bytes(tci))
}

/// The actions that happen under the same tags, in their order.
fn by_tags(key: &Key, actions: Actions) -> BTreeMap<Tags, Actions> {
    let mut tags: Tags = [tag(key.vlan_tpid, key.vlan_tci), tag(key.vlan2_tpid, key.vlan2_tci)];
    let mut groups = BTreeMap::<Tags, Actions>::new();
    for action in actions {
        if action == Action::PopVlan {
            tags = [tags[1], (0, 0)];
        } else if let Action::PushVlan { tpid, tci } = action {
            tags = [(tpid, tci), tags[0]];
        } else {
            groups.entry(tags).or_default().push(action);
        }
    }
    groups
}

/// Sorts each run of outputs that follow one another.
fn sort_outputs(actions: &mut [Action]) {
    let port = |action: &Action| if let Action::Output(port) = action { Some(port.0) } else { None };
    for run in actions.chunk_by_mut(|a, b| port(a).is_some() && port(b).is_some()) {
        run.sort_by_key(port);
    }
}

fn write_tags(out: &mut String, tags: Tags) {
    let there = tags.iter().take_while(|(_, tci)| *tci != 0);
    if tags[0].1 == 0 {
        out.push_str("no vlan: ");
    }
    for (tpid, tci) in there {
        out.push_str("vlan(");
        if *tpid != TPID_8021Q {
            write(out, format_args!("tpid={tpid:#06x},"));
        }
        write(out, format_args!("vid={},pcp={}): ", tci & (VLAN_CFI - 1), tci >> 13));
    }
}

fn write_labels(out: &mut String, key: &Key) {
    if !matches!(key.eth_type, [0x88, 0x47 | 0x48]) {
        out.push_str("no mpls: ");
        return;
    }
    // RFC 3032, 2.1: label, traffic class, bottom of stack, TTL.
    let lse = u32::from_be_bytes(key.mpls_lse0);
    write(out, format_args!("mpls(label={},tc={},ttl={}): ", lse >> 12, lse >> 9 & 7, lse & 0xff));
}
