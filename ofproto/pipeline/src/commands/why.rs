//! `ofproto/why`: why were packets dropped? By port and packet, or by drop counter.
//!
//! `ofproto/why` tells the last drops; `ofproto/why COUNTER` those behind a counter of coverage; `ofproto/why BRIDGE PORT [FLOW]` those
//! of a port, of packets that the flow (in OpenFlow's syntax) matches, and what would become of such a packet now.

use super::Outcome;
use super::dpif::NO_SUCH_BRIDGE;
use super::show::write;
use crate::drops::{DropFact, Dropped};
use crate::effects::XlateError;
use crate::slowpath::Slowpath;
use crate::world::{BridgeId, World};
use crate::xlate::{XlateIn, translate_saying_why};
use flow::clock::now_ms;
use flow::matching::Match;
use flow::oftext::{format_match, parse_match};
use flow::{Key, Mask, Msec};
use openflow::OfPort;
use openflow::text::{Names, format_rule};
use std::sync::atomic::Ordering;

/// Drops told when nothing narrows them down.
const TOLD_MAX: usize = 20;

/// A drop counter of the datapath, and the error of translation that it counts (`None`: the rules said so).
const COUNTERS: &[(&str, Option<XlateError>)] = &[
    ("drop_action_of_pipeline", None),
    ("drop_action_bridge_not_found", Some(XlateError::BridgeNotFound)),
    ("drop_action_recursion_too_deep", Some(XlateError::RecursionTooDeep)),
    ("drop_action_too_many_resubmit", Some(XlateError::TooManyResubmits)),
    ("drop_action_stack_too_deep", Some(XlateError::StackTooDeep)),
    ("drop_action_no_recirculation_context", Some(XlateError::NoRecirculationContext)),
    ("drop_action_recirculation_conflict", Some(XlateError::RecirculationConflict)),
    ("drop_action_too_many_mpls_labels", Some(XlateError::TooManyMplsLabels)),
    ("drop_action_invalid_tunnel_metadata", Some(XlateError::InvalidTunnelMetadata)),
    ("drop_action_unsupported_packet_type", Some(XlateError::UnsupportedPacketType)),
    ("drop_action_congestion", Some(XlateError::Congestion)),
    ("drop_action_forwarding_disabled", Some(XlateError::ForwardingDisabled)),
    ("drop_action_tunnel_routing_failed", Some(XlateError::TunnelRouting)),
    ("drop_action_tunnel_output_no_ethernet", Some(XlateError::TunnelOutput)),
    ("drop_action_tunnel_neigh_cache_miss", Some(XlateError::TunnelNeighbour)),
    ("drop_action_tunnel_header_build_failed", Some(XlateError::TunnelHeader)),
];

pub(super) fn why(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let world = slowpath.read_world();
    let now = now_ms();
    match args {
        [] => Ok(tell(&world, |_| true, now)),
        [counter] => match COUNTERS.iter().find(|(name, _)| name == counter) {
            Some((_, error)) => Ok(tell(&world, |d| d.fact.code == error.map_or(0, XlateError::code), now)),
            None => {
                let bridge = world.bridge_named(counter).ok_or_else(|| format!("{counter}: no such bridge or drop counter"))?.id;
                Ok(tell(&world, |d| d.bridge == bridge, now))
            }
        },
        [bridge, port, rest @ ..] => {
            let bridge = world.bridge_named(bridge).ok_or(NO_SUCH_BRIDGE)?;
            let number = bridge.port_named(port).map(|p| p.number);
            let number = number.or_else(|| port.parse().ok().map(OfPort).filter(|p| bridge.ports.contains_key(p)));
            let port = number.ok_or_else(|| format!("{port}: no such port on {}", bridge.name))?;
            let matching = parse_match(rest.first().copied().unwrap_or_default()).map_err(|e| e.to_string())?;
            let (key, mask) = (matching.key, matching.mask);
            let of_port = |d: &Dropped| d.bridge == bridge.id && d.in_port == port && d.key.masked(&mask) == key.masked(&mask);
            let mut out = tell(&world, of_port, now);
            if !rest.is_empty() {
                out += &now_becomes(&world, bridge.id, port, &key, now);
            }
            Ok(out)
        }
    }
}

fn tell(world: &World, wanted: impl Fn(&Dropped) -> bool, now: Msec) -> String {
    let mut out = String::new();
    for dropped in world.drops.newest().iter().filter(|d| wanted(d)).take(TOLD_MAX) {
        let bridge = world.bridges.get(&dropped.bridge);
        let name = bridge.map_or("(deleted bridge)", |b| b.name.as_str());
        let port = bridge.and_then(|b| b.ports.get(&dropped.in_port)).map_or("(no port)", |p| p.name.as_str());
        let ago_ms = now - dropped.when_ms;
        write(&mut out, format_args!("{name} {port}, {}.{:03} s ago: ", ago_ms / 1000, ago_ms % 1000));
        put_fact(&mut out, world, &dropped.fact);
        write(&mut out, format_args!("  {}\n", packet_text(&dropped.key)));
    }
    if out.is_empty() { "no such drop is remembered\n".to_owned() } else { out }
}

fn put_fact(out: &mut String, world: &World, fact: &DropFact) {
    if let Some((bridge, table)) = fact.at {
        let name = world.bridges.get(&bridge).map_or("(deleted bridge)", |b| b.name.as_str());
        write(out, format_args!("{name} table {}", table.0));
        match fact.rule.as_ref().filter(|_| fact.matched) {
            Some(rule) => {
                let (key, mask) = rule.mini.expand();
                let priority = u16::try_from(rule.priority).unwrap_or(u16::MAX);
                let cookie = rule.cookie.load(Ordering::Relaxed);
                let text = format_rule(&Match::new(&key, &mask), priority, cookie, &Names::default());
                write(out, format_args!(", rule {text}: "));
            }
            None => write(out, format_args!(": ")),
        }
    }
    write(out, format_args!("{}\n", fact.reason));
}

/// The packet's own fields, those that are not zero.
fn packet_text(key: &Key) -> String {
    let mut mask: Mask = *key;
    mask.words_mut().iter_mut().filter(|w| **w != 0).for_each(|w| *w = u64::MAX);
    mask.actset_output = [0; 4];
    format_match(&Match::new(key, &mask))
}

/// What would become of such a packet now.
fn now_becomes(world: &World, bridge: BridgeId, port: OfPort, key: &Key, now: Msec) -> String {
    let key = Key { in_port: port.to_key(), ..*key };
    let (translation, said) = translate_saying_why(world, XlateIn::new(bridge, &key, now));
    let mut out = "now: ".to_owned();
    match DropFact::of(&translation, said) {
        Some(fact) => put_fact(&mut out, world, &fact),
        None => out += "it would be forwarded\n",
    }
    out
}
