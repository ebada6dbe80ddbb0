//! Commands on bridges.

use super::command::{Call, Wanted};
use super::context::Context;
use super::overlay::Key;
use super::ports;
use crate::fault::Fault;
use ovsdb::{Atom, Datum, Schema};

/// Ends a command with exit code 2 and no word.
const NO: u8 = 2;
/// What marks the external ids of a fake bridge in those of its port.
const FAKE: &str = "fake-bridge-";

/// `add-br BRIDGE [PARENT VLAN]`
pub(super) fn add(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let name = call.argument(1);
    if name.is_empty() {
        return Err(Fault::say("bridge name must not be empty string"));
    }
    let parent = match call.words.len() - 1 {
        1 => None,
        3 => Some((call.argument(2), vlan(call.argument(3))?)),
        _ => {
            return Err(Fault::say(format!("'{}' command takes exactly 1 or 3 arguments", call.argument(0))));
        }
    };
    if call.has("--may-exist") && already_there(context, name, parent)? {
        return Ok(());
    }
    context.topology()?.check_free(name, &format!("cannot create a bridge named {name}"))?;
    match parent {
        None => add_real(context, name),
        Some((parent, vlan)) => add_fake(context, name, parent, vlan),
    }
}

fn vlan(text: &str) -> Result<i64, Fault> {
    // As atoi(3): what is no number is 0.
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '-').map_or(text, |end| &text[..end]);
    let vlan = digits.parse().unwrap_or(0);
    if (0..=4095).contains(&vlan) { Ok(vlan) } else { Err(Fault::say("add-br: vlan must be between 0 and 4095")) }
}

fn already_there(context: &mut Context<'_>, name: &str, wanted: Option<(&str, i64)>) -> Result<bool, Fault> {
    let Some(bridge) = context.topology()?.bridges.get(name) else {
        return Ok(false);
    };
    let Some((parent, vlan)) = wanted else {
        return match bridge.fake {
            Some((_, vlan)) => {
                Err(Fault::say(format!("\"--may-exist add-br {name}\" but {name} is a VLAN bridge for VLAN {vlan}")))
            }
            None => Ok(true),
        };
    };
    let command = format!("\"--may-exist add-br {name} {parent} {vlan}\" but {name}");
    match &bridge.fake {
        None => Err(Fault::say(format!("{command} is not a VLAN bridge"))),
        Some((real, _)) if real != parent => Err(Fault::say(format!("{command} has the wrong parent {real}"))),
        Some((_, real)) if *real != vlan => Err(Fault::say(format!("{command} is a VLAN bridge for the wrong VLAN {real}"))),
        Some(_) => Ok(true),
    }
}

fn add_real(context: &mut Context<'_>, name: &str) -> Result<(), Fault> {
    let root = context.root()?;
    let port = local_port(context, name)?;
    let bridge = context.insert("Bridge", [("name", Datum::from(name)), ("ports", Datum::set([Atom::from(port.1)]))])?;
    add_reference(context, root, "bridges", bridge);
    let topology = context.topology()?;
    topology.bridges.insert(name.to_owned(), super::topology::Bridge { row: bridge, fake: None });
    topology.insert_port(name, port, name, None);
    Ok(())
}

fn add_fake(context: &mut Context<'_>, name: &str, parent: &str, vlan: i64) -> Result<(), Fault> {
    let topology = context.topology()?;
    let conflict = topology.fake_on(parent, vlan).map(str::to_owned);
    let found = topology.bridges.get(parent);
    if found.is_some_and(|b| b.fake.is_some()) {
        return Err(Fault::say("cannot create bridge with fake bridge as parent"));
    }
    let Some(row) = found.map(|b| b.row) else {
        return Err(Fault::say(format!("parent bridge {parent} does not exist")));
    };
    if let Some(conflict) = conflict {
        return Err(Fault::say(format!("bridge {parent} already has a child VLAN bridge {conflict} on VLAN {vlan}")));
    }
    let port = local_port(context, name)?;
    context.overlay.set(port, "fake_bridge", Datum::from(true));
    context.overlay.set(port, "tag", Datum::from(vlan));
    add_reference(context, row, "ports", port);
    let topology = context.topology()?;
    topology.insert_fake(name, row, parent, vlan);
    topology.insert_port(name, port, parent, Some(vlan));
    Ok(())
}

/// The port of a bridge's own name, with its interface.
fn local_port(context: &mut Context<'_>, name: &str) -> Result<Key, Fault> {
    let interface = context.insert("Interface", [("name", Datum::from(name)), ("type", Datum::from("internal"))])?;
    context.new_interfaces.push(interface.1);
    let interfaces = Datum::set([Atom::from(interface.1)]);
    let port = context.insert("Port", [("name", Datum::from(name)), ("interfaces", interfaces)])?;
    context.topology()?.insert_interface(name, interface, name);
    Ok(port)
}

/// Puts a row into a column of references.
pub(super) fn add_reference(context: &mut Context<'_>, row: Key, column: &str, target: Key) {
    context.overlay.verify_named(row, column);
    let held = context.overlay.get(row, column).union(&Datum::from(target.1));
    context.overlay.set(row, column, held);
}

/// Takes a row out of a column of references.
pub(super) fn remove_reference(context: &mut Context<'_>, row: Key, column: &str, target: Key) {
    context.overlay.verify_named(row, column);
    let held = context.overlay.get(row, column).subtract(&Datum::from(target.1));
    context.overlay.set(row, column, held);
}

/// `del-br BRIDGE`
pub(super) fn delete(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let name = call.argument(1);
    let topology = context.topology()?;
    if call.has("--if-exists") && !topology.bridges.contains_key(name) {
        return Ok(());
    }
    let bridge = topology.bridge(name)?.clone();
    for child in topology.children(name) {
        delete_ports(context, &child)?;
        context.topology()?.remove_bridge(&child);
    }
    delete_ports(context, name)?;
    if bridge.fake.is_none() {
        let root = context.root()?;
        remove_reference(context, root, "bridges", bridge.row);
        context.overlay.delete(bridge.row);
    }
    context.topology()?.remove_bridge(name);
    Ok(())
}

fn delete_ports(context: &mut Context<'_>, bridge: &str) -> Result<(), Fault> {
    for port in context.topology()?.ports_of(bridge) {
        ports::delete_row(context, &port)?;
    }
    Ok(())
}

/// `list-br`
pub(super) fn list(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let (real, fake) = (call.has("--real"), call.has("--fake"));
    let wanted = |is_fake: bool| real == fake || is_fake == fake;
    let bridges = &context.topology()?.bridges;
    let names: Vec<String> = bridges.iter().filter(|(_, b)| wanted(b.fake.is_some())).map(|(n, _)| n.clone()).collect();
    names.iter().for_each(|name| context.say(name));
    Ok(())
}

/// `br-exists BRIDGE`
pub(super) fn exists(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    if context.topology()?.bridges.contains_key(call.argument(1)) { Ok(()) } else { Err(Fault::Said(NO)) }
}

/// `br-to-vlan BRIDGE`
pub(super) fn to_vlan(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let vlan = context.topology()?.bridge(call.argument(1))?.vlan();
    context.say(&vlan.to_string());
    Ok(())
}

/// `br-to-parent BRIDGE`
pub(super) fn to_parent(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let name = call.argument(1);
    let bridge = context.topology()?.bridge(name)?;
    let parent = bridge.fake.as_ref().map_or(name, |(parent, _)| parent).to_owned();
    context.say(&parent);
    Ok(())
}

/// External ids are read and written.
pub(super) fn prepare_ids(_: &Call, _: &Schema, wanted: &mut Wanted) -> Result<(), Fault> {
    wanted.columns("Bridge", &["external_ids"]);
    wanted.columns("Port", &["external_ids"]);
    Ok(())
}

/// Where the external ids of a bridge are: the row, and what their keys begin with.
fn ids_of(context: &mut Context<'_>, name: &str) -> Result<(Key, &'static str), Fault> {
    let topology = context.topology()?;
    let bridge = topology.bridge(name)?;
    match (&bridge.fake, topology.ports.get(name)) {
        (Some(_), Some(port)) => Ok((port.row, FAKE)),
        (None, _) | (_, None) => Ok((bridge.row, "")),
    }
}

/// `br-set-external-id BRIDGE KEY [VALUE]`
pub(super) fn set_id(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let (row, prefix) = ids_of(context, call.argument(1))?;
    let key = Atom::from(format!("{prefix}{}", call.argument(2)));
    context.overlay.verify_named(row, "external_ids");
    let held = context.overlay.get(row, "external_ids").retain(|k, _| *k != key);
    let ids = match call.words.get(3) {
        Some(value) => held.union(&Datum::map([(key, value.as_str())])),
        None => held,
    };
    context.overlay.set(row, "external_ids", ids);
    Ok(())
}

/// `br-get-external-id BRIDGE [KEY]`
pub(super) fn show_id(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let (row, prefix) = ids_of(context, call.argument(1))?;
    let ids = context.overlay.get(row, "external_ids").str_map();
    let own = ids.iter().filter_map(|(k, v)| Some((k.strip_prefix(prefix)?, v)));
    let lines: Vec<String> = match call.words.get(2) {
        Some(key) => own.filter(|(k, _)| k == key).map(|(_, v)| v.clone()).collect(),
        None => own.map(|(k, v)| format!("{k}={v}")).collect(),
    };
    lines.iter().for_each(|line| context.say(line));
    Ok(())
}
