//! `dpif/*` and `ofproto/list`: datapaths as bridges see them.

use super::show::{DpPortNames, FlowStyle, device_kind, device_text, flow_line, told_options, write};
use super::{JsonOutcome, Outcome};
use crate::bridge::{Bridge, Port};
use crate::slowpath::Slowpath;
use crate::tunnel::came_by_tunnel;
use flow::Key;
use flow::hash::Set;
use flow::seam::{Datapath, DpPort};
use serde_json::{Value, json};

pub(super) const NO_SUCH_BRIDGE: &str = "no such bridge";

pub(super) fn list(slowpath: &Slowpath, _: &[&str]) -> Outcome {
    Ok(bridge_names(slowpath).into_iter().map(|(name, _)| format!("{name}\n")).collect())
}

pub(super) fn dump_dps(slowpath: &Slowpath, _: &[&str]) -> Outcome {
    Ok(bridge_names(slowpath).into_iter().map(|(name, kind)| format!("{kind}@{name}\n")).collect())
}

fn bridge_names(slowpath: &Slowpath) -> Vec<(String, String)> {
    let world = slowpath.read_world();
    let mut names: Vec<_> = world.bridges.values().map(|b| (b.name.clone(), b.kind.clone())).collect();
    names.sort();
    names
}

pub(super) fn show(slowpath: &Slowpath, _: &[&str]) -> Outcome {
    let world = slowpath.read_world();
    let mut out = String::new();
    for (kind, backend) in &world.backends {
        let stats = backend.dp.stats();
        write(&mut out, format_args!("{}: hit:{} missed:{}\n", full_name(backend.dp.as_ref()), stats.hit, stats.missed));
        let mut bridges: Vec<&Bridge> = world.bridges.values().filter(|b| b.kind == *kind).collect();
        bridges.sort_by(|a, b| a.name.cmp(&b.name));
        for bridge in bridges {
            write(&mut out, format_args!("  {}:\n", bridge.name));
            let mut ports: Vec<&Port> = bridge.ports.values().collect();
            ports.sort_by(|a, b| a.name.cmp(&b.name));
            for port in ports {
                let dp_port = port.dp_port.map_or_else(|| "none".to_owned(), |p| p.0.to_string());
                let device = device_text(kind, &port.info.kind, &port.info.config);
                write(&mut out, format_args!("    {} {}/{dp_port}: {device}\n", port.name, port.number.0 & 0xffff));
            }
        }
    }
    Ok(out)
}

/// Datapaths by name; numbers are strings.
pub(super) fn show_json(slowpath: &Slowpath, _: &[&str]) -> JsonOutcome {
    let world = slowpath.read_world();
    let mut out = json!({});
    for (kind, backend) in &world.backends {
        let stats = backend.dp.stats();
        let bridges = world.bridges.values().filter(|b| b.kind == *kind);
        let bridges: Value = bridges.map(|b| (b.name.clone(), ports_json(b, kind))).collect();
        let stats = json!({"hit": stats.hit.to_string(), "missed": stats.missed.to_string()});
        out[full_name(backend.dp.as_ref())] = json!({"bridges": bridges, "stats": stats});
    }
    Ok(out)
}

fn ports_json(bridge: &Bridge, kind: &str) -> Value {
    let one = |port: &Port| {
        let mut object = json!({
            "ofport": (port.number.0 & 0xffff).to_string(),
            "port_no": port.dp_port.map_or_else(|| "none".to_owned(), |p| p.0.to_string()),
            "type": device_kind(kind, &port.info.kind),
        });
        let options = told_options(&port.info.kind, &port.info.config);
        if !options.is_empty() {
            object["config"] = options.into_iter().map(|(key, value)| (key.clone(), Value::from(value.clone()))).collect();
        }
        (port.name.clone(), object)
    };
    bridge.ports.values().map(one).collect()
}

/// `KIND@NAME`
pub(super) fn full_name(dp: &dyn Datapath) -> String {
    format!("{}@{}", dp.kind(), dp.name())
}

pub(super) fn dump_flows(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let (name, options) = args.split_last().ok_or(NO_SUCH_BRIDGE)?;
    let verbose = options.contains(&"-m");
    let names = match (options.contains(&"--names"), options.contains(&"--no-names")) {
        (true, _) => true,
        (false, true) => false,
        (false, false) => verbose,
    };
    // The bridge's ports are noted first: a datapath may hold its own locks while it dumps, so the world's must not be taken then.
    let (dp, members) = {
        let world = slowpath.read_world();
        let bridge = world.bridge_named(name).ok_or(NO_SUCH_BRIDGE)?;
        let backend = world.backends.get(&bridge.kind).ok_or(NO_SUCH_BRIDGE)?;
        let members: Set<DpPort> = bridge.ports.values().filter_map(|p| p.dp_port).collect();
        (backend.dp.clone(), members)
    };
    let ports = DpPortNames::of(dp.as_ref(), names);
    let mut lines = Vec::new();
    dp.dump(&mut |dump| {
        if members.contains(&DpPort(u32::from_be_bytes(dump.flow.key.in_port))) {
            let tunnelled = came_by_tunnel(&dump.flow.key).then(|| dump.flow.key.clone());
            lines.push((tunnelled, flow_line(dump, FlowStyle { verbose, dpctl: false }, &ports)));
        }
        true
    });
    // Tunnels of several bridges share a datapath port.
    let world = slowpath.read_world();
    let is_here = |key: &Key| {
        let place = world.port_of_packet(dp.kind(), key);
        place.and_then(|(bridge, _)| world.bridges.get(&bridge)).is_some_and(|b| b.name == *name)
    };
    lines.retain(|(tunnelled, _)| tunnelled.as_ref().is_none_or(|key| is_here(key)));
    Ok(lines.into_iter().map(|(_, line)| line + "\n").collect())
}
