//! `fdb/*`: the MAC tables of bridges.

use super::dpif::NO_SUCH_BRIDGE;
use super::show::write;
use super::{JsonOutcome, Outcome};
use crate::bridge::{Bridge, BundleId};
use crate::mac::MacEntry;
use crate::slowpath::Slowpath;
use crate::world::World;
use flow::clock::now_ms;
use openflow::OfPort;
use serde_json::{Value, json};

/// Runs `act` on the bridge that the first argument names.
fn with_bridge(slowpath: &Slowpath, args: &[&str], act: impl FnOnce(&Bridge) -> Outcome) -> Outcome {
    let world = slowpath.read_world();
    act(world.bridge_named(args[0]).ok_or(NO_SUCH_BRIDGE)?)
}

/// Runs `act` on the bridge named, or on all of them.
fn with_bridges(slowpath: &Slowpath, args: &[&str], act: impl Fn(&Bridge)) -> Result<(), String> {
    let world = slowpath.read_world();
    match args.first() {
        Some(name) => act(world.bridge_named(name).ok_or(NO_SUCH_BRIDGE)?),
        None => world.bridges.values().for_each(act),
    }
    Ok(())
}

/// The number of a bundle's first port, as OpenFlow 1.0 has it.
pub(super) fn port_text(bridge: &Bridge, bundle: BundleId) -> String {
    match bridge.bundles.get(&bundle).and_then(|b| b.ports.first()) {
        Some(&OfPort::LOCAL) => "LOCAL".to_owned(),
        Some(port) => port.0.to_string(),
        None => "?".to_owned(),
    }
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn parse_mac(text: &str) -> Result<[u8; 6], String> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|p| (1..=2).contains(&p.len())).ok_or("bad MAC address")?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| "bad MAC address")?;
    }
    if parts.next().is_some() { Err("bad MAC address".to_owned()) } else { Ok(mac) }
}

/// As C's atoi: what is no number counts as 0.
fn parse_vlan(text: &str) -> u16 {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// The lines of a bridge's table, without their ends, after the first column.
fn lines(bridge: &Bridge) -> Vec<String> {
    let now = now_ms();
    let line = |entry: &MacEntry| {
        let (port, mac) = (port_text(bridge, entry.bundle), mac_text(entry.mac));
        let age = bridge.macs.age_s(entry, now).map_or_else(|| "static".to_owned(), |s| format!("{s:3}"));
        format!("{port:>5}  {:4}  {mac}  {age}", entry.vlan)
    };
    bridge.macs.entries().iter().map(line).collect()
}

/// One bridge's table, or those of several, each behind its name; of all when none is named.
pub(super) fn show(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    if let [_] = args {
        return with_bridge(slowpath, args, |bridge| {
            let lines: String = lines(bridge).into_iter().map(|line| line + "\n").collect();
            Ok(format!(" port  VLAN  MAC                Age\n{lines}"))
        });
    }
    let world = slowpath.read_world();
    let bridges = bridges(&world, args)?;
    let width = bridges.iter().map(|b| b.name.len()).max().unwrap_or(0).max("Bridge".len());
    let mut out = format!(" {:width$}  Port  VLAN  MAC                Age\n", "Bridge");
    for bridge in bridges {
        let lines = lines(bridge);
        if lines.is_empty() {
            write(&mut out, format_args!(" {}\n", bridge.name));
        }
        for (i, line) in lines.iter().enumerate() {
            let name = if i == 0 { bridge.name.as_str() } else { "" };
            write(&mut out, format_args!(" {name:width$} {line}\n"));
        }
    }
    Ok(out)
}

/// One bridge's entries in an array, or those of several by bridge.
pub(super) fn show_json(slowpath: &Slowpath, args: &[&str]) -> JsonOutcome {
    let world = slowpath.read_world();
    if let [name] = args {
        return Ok(entries_json(world.bridge_named(name).ok_or(NO_SUCH_BRIDGE)?));
    }
    Ok(bridges(&world, args)?.into_iter().map(|b| (b.name.clone(), entries_json(b))).collect())
}

fn entries_json(bridge: &Bridge) -> Value {
    let now = now_ms();
    let one = |entry: MacEntry| {
        let port = bridge.bundles.get(&entry.bundle).and_then(|b| b.ports.first()).map(|p| p.0 & 0xffff);
        let mut object = json!({"port": port, "vlan": entry.vlan, "mac": mac_text(entry.mac)});
        match bridge.macs.age_s(&entry, now) {
            Some(age) => object["age"] = age.into(),
            None => object["static"] = true.into(),
        }
        object
    };
    bridge.macs.entries().into_iter().map(one).collect()
}

/// The bridges named, or all, by name.
fn bridges<'w>(world: &'w World, names: &[&str]) -> Result<Vec<&'w Bridge>, String> {
    if names.is_empty() {
        let mut all: Vec<&Bridge> = world.bridges.values().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        return Ok(all);
    }
    names.iter().map(|name| world.bridge_named(name).ok_or_else(|| format!("{NO_SUCH_BRIDGE} {name}"))).collect()
}

pub(super) fn add(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    with_bridge(slowpath, args, |bridge| {
        let mac = parse_mac(args[3])?;
        let vlan = parse_vlan(args[2]);
        let port = bridge.port_named(args[1]).and_then(|p| p.bundle);
        let bundle = port.ok_or("software error, odp port is present but no ofp port")?;
        let mut out = String::new();
        if let Some(old) = bridge.macs.lookup(vlan, mac)
            && (old.bundle != bundle || old.expires_ms.is_some())
        {
            let kind = if old.expires_ms.is_none() { "static" } else { "dynamic" };
            out = format!("Overriding already existing {kind} entry on {}\n", port_text(bridge, old.bundle));
        }
        if bridge.macs.add_static(vlan, mac, bundle) { Ok(out) } else { Err("could not add static mac entry\n".to_owned()) }
    })
}

pub(super) fn del(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    with_bridge(slowpath, args, |bridge| {
        let mac = parse_mac(args[2])?;
        let vlan = parse_vlan(args[1]);
        let is_static = bridge.macs.lookup(vlan, mac).is_some_and(|e| e.expires_ms.is_none());
        if is_static && bridge.macs.remove(vlan, mac) {
            Ok(String::new())
        } else {
            Err("could not find static mac entry\n".to_owned())
        }
    })
}

pub(super) fn flush(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let now = now_ms();
    with_bridges(slowpath, args, |b| b.macs.flush(now))?;
    Ok("table successfully flushed\n".to_owned())
}

pub(super) fn stats_clear(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    with_bridges(slowpath, args, |b| b.macs.clear_totals())?;
    Ok("statistics successfully cleared\n".to_owned())
}

pub(super) fn stats_show(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    with_bridge(slowpath, args, |bridge| {
        let (used, size, _) = bridge.macs.usage();
        let fixed = bridge.macs.entries().iter().filter(|e| e.expires_ms.is_none()).count();
        let totals = bridge.macs.totals();
        let mut out = format!("Statistics for bridge \"{}\":\n", bridge.name);
        write(&mut out, format_args!("  Current/maximum MAC entries in the table: {used}/{size}\n"));
        write(&mut out, format_args!("  Current static MAC entries in the table : {fixed}\n"));
        write(&mut out, format_args!("  Total number of learned MAC entries     : {}\n", totals.learned));
        write(&mut out, format_args!("  Total number of expired MAC entries     : {}\n", totals.expired));
        write(&mut out, format_args!("  Total number of evicted MAC entries     : {}\n", totals.evicted));
        write(&mut out, format_args!("  Total number of port moved MAC entries  : {}\n", totals.moved));
        Ok(out)
    })
}
