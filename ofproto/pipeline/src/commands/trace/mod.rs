//! `ofproto/trace` and `ofproto/trace-packet-out`: a packet's way through the tables, told step by step.
//!
//! What enters: a flow (datapath's or OpenFlow's syntax) or a packet, and options. What leaves: OVS's text. Without a packet nothing
//! is altered; with one (`-generate`, or its bytes) MACs and rules are learned and controllers get what the actions send them.
//! Neighbours: `args` reads the arguments, `connection` says what connections come to, `xlate` does the work and draws the tree.

mod args;
mod connection;

use super::Outcome;
use super::show::DpPortNames;
use crate::bridge::OfPortNames;
use crate::effects::Translation;
use crate::recirc::RecircRef;
use crate::rule::Rule;
use crate::slowpath::Slowpath;
use crate::world::{BridgeId, World};
use crate::xlate::trace::{Forked, Trace};
use crate::xlate::{XlateIn, translate};
use args::{Arguments, Flow};
use flow::action_text::format_actions;
use flow::clock::now_ms;
use flow::matching::{Match, TunnelLayout};
use flow::oftext::{format_match_with, format_packet, format_packet_with};
use flow::seam::Execute;
use flow::{Action, Actions, Key, Msec};
use openflow::action::OfAction;
use openflow::text::{Names, NoTableNames, format_actions as format_of_actions, format_match_priority, format_rule};
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Recirculations followed; each may fork others.
const ROUNDS_MAX: usize = 4096;

/// Reasons for the slow path (bits of `flow::action::SLOW_REASONS`), as a trace explains them.
const EXPLANATIONS: &[(u32, &str)] = &[
    (1, "Consists of CFM packets"),
    (2, "Consists of BFD packets"),
    (4, "Consists of LACP packets"),
    (8, "Consists of STP packets"),
    (16, "Consists of LLDP packets"),
    (32, "Sends \"packet-in\" messages to the OpenFlow controller"),
    (64, "Uses action(s) not supported by datapath"),
    (128, "Datapath can't match specifically enough"),
];

pub(super) fn trace(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let arguments = args::read(slowpath, args, false)?;
    Ok(Tracer::new(slowpath, &arguments).run(&arguments, None))
}

pub(super) fn trace_packet_out(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let (actions, args) = args.split_last().expect("the table asks for two arguments");
    let actions = args::read_actions(actions)?;
    let arguments = args::read(slowpath, args, true)?;
    args::check_actions(slowpath, &arguments, &actions)?;
    Ok(Tracer::new(slowpath, &arguments).run(&arguments, Some(&actions)))
}

/// A trace under way.
struct Tracer<'a> {
    slowpath: &'a Slowpath,
    bridge: BridgeId,
    /// For `--names`; empty otherwise.
    of_names: Arc<OfPortNames>,
    dp_names: DpPortNames,
    packet: Option<Vec<u8>>,
    ct_states: VecDeque<u8>,
    /// Keeps what recirculates findable until the trace is over.
    held: Vec<Arc<RecircRef>>,
    out: String,
}

impl<'a> Tracer<'a> {
    fn new(slowpath: &'a Slowpath, arguments: &Arguments) -> Self {
        let world = slowpath.read_world();
        let Flow { bridge, .. } = arguments.flow;
        let of_names = world.bridges.get(&bridge).filter(|_| arguments.names).map(OfPortNames::of).unwrap_or_default();
        let dp = world.backend(bridge).map(|b| Arc::clone(&b.dp));
        drop(world);
        Self {
            slowpath,
            bridge,
            of_names: Arc::new(of_names),
            dp_names: dp.map(|dp| DpPortNames::of(dp.as_ref(), arguments.names)).unwrap_or_default(),
            packet: arguments.packet.clone(),
            ct_states: arguments.ct_states.clone(),
            held: Vec::new(),
            out: String::new(),
        }
    }

    fn run(mut self, arguments: &Arguments, actions: Option<&[OfAction]>) -> String {
        let mut waiting: VecDeque<Forked> = self.round(&arguments.flow.key, actions).into();
        let mut rounds = 0;
        while let Some(mut forked) = waiting.pop_front() {
            rounds += 1;
            if rounds > ROUNDS_MAX {
                break;
            }
            self.recirculate(&mut forked);
            waiting.extend(self.round(&forked.key, None));
        }
        if let Some(udpif) = self.kind().and_then(|kind| self.slowpath.udpif(&kind)) {
            // Packets on their way to controllers, and those who trace what recirculates, still need the states that are named.
            udpif.let_go(std::mem::take(&mut self.held), now_ms());
        }
        self.out
    }

    fn kind(&self) -> Option<String> {
        self.slowpath.read_world().bridges.get(&self.bridge).map(|b| b.kind.clone())
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.out.write_fmt(text).expect("writing to a string cannot fail");
    }

    /// One translation; gives what recirculates.
    fn round(&mut self, key: &Key, actions: Option<&[OfAction]>) -> Vec<Forked> {
        let slowpath = self.slowpath;
        let mut trace = empty_trace(&self.of_names);
        let world = slowpath.read_world();
        if !world.bridges.contains_key(&self.bridge) {
            return Vec::new();
        }
        let packet = self.packet.clone();
        let input = XlateIn {
            packet: packet.as_deref(),
            actions,
            side_effects: packet.is_some(),
            trace: Some(&mut trace),
            ..XlateIn::new(self.bridge, key, now_ms())
        };
        let translation = translate(&world, input);
        let layout = layout(&world, self.bridge);
        drop(world);
        tell(&mut self.out, (&*self.of_names, &self.dp_names, layout), key, &trace, &translation);
        if translation.error.is_none() && packet.is_some() {
            self.execute(key, &translation.actions);
        }
        self.held.extend(translation.recircs);
        trace.forked
    }

    /// Runs the actions but those that send the packet on: controllers and collectors get theirs.
    fn execute(&mut self, key: &Key, actions: &Actions) {
        let actions = without_outputs(actions);
        let (Some(packet), false) = (self.packet.clone(), actions.is_empty()) else { return };
        let world = self.slowpath.read_world();
        let Some(backend) = world.backend(self.bridge) else { return };
        let in_port = openflow::OfPort::from_key(key.in_port);
        let dp_port = world.bridges.get(&self.bridge).and_then(|b| b.ports.get(&in_port)).and_then(|p| p.dp_port);
        let mut key = Box::new(*key);
        key.in_port = dp_port.map_or(flow::key::DP_PORT_NONE, |p| p.0.to_be_bytes());
        key.actset_output = [0; 4];
        let execute = Execute { packet, key, actions: Arc::new(actions), rx_queue: 0, mtu: 0, probe: false };
        let dp = Arc::clone(&backend.dp);
        drop(world);
        if let Some(Err(error)) = dp.execute(vec![execute]).pop() {
            self.put(format_args!("\nAction execution failed ({error})\n."));
        }
    }

    /// What stands between two rounds; gives the packet what conntrack would give it.
    fn recirculate(&mut self, forked: &mut Forked) {
        let line = "=".repeat(79);
        self.put(format_args!("\n\n{line}\nrecirc({:#x})", forked.recirc_id));
        match self.ct_states.pop_front() {
            Some(state) => {
                forked.key.ct_state = state;
                let state = connection::ct_state(state);
                self.put(format_args!(" - resume conntrack with ct_state={state}"));
            }
            None => {
                forked.key.ct_state = connection::TRACKED_NEW;
                self.put(format_args!(" - resume conntrack with default ct_state=trk|new (use --ct-next to customize)"));
            }
        }
        self.put(format_args!("\n"));
        if let Some(nat) = &forked.nat {
            let before = connection::addresses(&forked.key, nat);
            connection::translate(&mut forked.key, nat);
            let after = connection::addresses(&forked.key, nat);
            self.put(format_args!(
                "Replacing src/dst IP/ports to simulate NAT:\n Initial flow: {before}\n Modified flow: {after}\n"
            ));
        }
        self.put(format_args!("{line}\n\n"));
    }
}

fn empty_trace(of_names: &Arc<OfPortNames>) -> Trace {
    let names = Arc::clone(of_names);
    let action_text = move |actions: &[OfAction]| format_of_actions(actions, &Names { ports: &*names, tables: &NoTableNames });
    let names = Arc::clone(of_names);
    let rule_text = move |rule: &Rule, matching: &Match| {
        let priority = u16::try_from(rule.priority).unwrap_or(u16::MAX);
        let cookie = rule.cookie.load(Ordering::Relaxed);
        let text = format_rule(matching, priority, cookie, &Names { ports: &*names, tables: &NoTableNames });
        if rule.priority > crate::rule::PRIORITY_MAX {
            return text.replace(&format!("priority {priority}"), &format!("priority {}", rule.priority));
        }
        text
    };
    let names = Arc::clone(of_names);
    let match_text = move |rule: &Rule, matching: &Match| {
        let priority = u16::try_from(rule.priority).unwrap_or(u16::MAX);
        format_match_priority(matching, priority, &Names { ports: &*names, tables: &NoTableNames })
    };
    Trace::new(Box::new(action_text), Box::new(rule_text), Box::new(match_text))
}

/// Where a bridge's tunnel options lie.
fn layout(world: &World, bridge: BridgeId) -> TunnelLayout {
    world.bridges.get(&bridge).map(|b| TunnelLayout::Bridge(Arc::clone(&b.tunnel_options))).unwrap_or_default()
}

/// What a round's tree and outcome look like.
fn tell(
    out: &mut String,
    (names, dp_names, options): (&OfPortNames, &DpPortNames, TunnelLayout),
    key: &Key,
    trace: &Trace,
    translation: &Translation,
) {
    let mut put = |text: std::fmt::Arguments<'_>| out.write_fmt(text).expect("writing to a string cannot fail");
    let initial = format_packet_with(key, options.clone(), names);
    put(format_args!("Flow: {initial}\n{}", trace.text()));
    let unset = Key { actset_output: trace.final_key.actset_output, ..*key };
    let unchanged = unset == *trace.final_key && trace.final_key.actset_output == openflow::OfPort::UNSET.to_key();
    let last = if unchanged { "unchanged".to_owned() } else { format_packet_with(&trace.final_key, options.clone(), names) };
    let megaflow = with_byte_masks(format_match_with(&Match { options, ..Match::new(key, &translation.mask) }, names));
    let actions = format_actions(&translation.actions, dp_names);
    put(format_args!("\nFinal flow: {last}\nMegaflow: {megaflow}\nDatapath actions: {actions}"));
    if let Some(error) = translation.error {
        put(format_args!("\nTranslation failed ({error}), packet is dropped.\n"));
    } else if translation.slow != 0 {
        put(format_args!("\nThis flow is handled by the userspace slow path because it:"));
        for (_, why) in EXPLANATIONS.iter().filter(|(bit, _)| translation.slow & bit != 0) {
            put(format_args!("\n  - {why}."));
        }
    }
}

/// OVS keeps ICMP's type and code in 16 bits, of which a datapath's flow has the lower half: there they never seem to be matched whole.
fn with_byte_masks(text: String) -> String {
    let byte_mask = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let value: u8 = value.parse().ok().filter(|_| matches!(name, "icmp_type" | "icmp_code"))?;
        Some(format!("{name}=0x{value:x}/0xff"))
    };
    if !text.contains("icmp_") {
        return text;
    }
    text.split(',').map(|part| byte_mask(part).unwrap_or_else(|| part.to_owned())).collect::<Vec<_>>().join(",")
}

/// A flow as traces and the log tell it.
pub(crate) fn flow_said(key: &Key) -> String {
    let unset = Key { actset_output: [0; 4], ..*key };
    format_packet(&unset, &OfPortNames::default())
}

/// A flow's trace, for the log: why its packets are dropped.
pub(crate) fn explain(world: &World, bridge: BridgeId, key: &Key, now: Msec) -> String {
    let names = Arc::new(OfPortNames::default());
    let mut trace = empty_trace(&names);
    let translation = translate(world, XlateIn { trace: Some(&mut trace), ..XlateIn::new(bridge, key, now) });
    let mut out = String::new();
    tell(&mut out, (&*names, &DpPortNames::default(), layout(world, bridge)), key, &trace, &translation);
    out
}

fn without_outputs(actions: &[Action]) -> Actions {
    let mut kept = Actions::new();
    for action in actions {
        if let Action::Clone(inner) = action {
            kept.push(Action::Clone(without_outputs(inner)));
        } else if let Action::TunnelPush(_) = action {
            // All that follows is about the outer packet.
            break;
        } else if !matches!(action, Action::Output(_) | Action::Recirc(_) | Action::TunnelPop(_)) {
            kept.push(action.clone());
        }
    }
    kept
}

/// The world knows the bridge of a name.
fn bridge_named(world: &World, name: &str) -> Option<BridgeId> {
    world.bridge_named(name).map(|b| b.id)
}
