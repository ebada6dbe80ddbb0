//! Commands on ports and interfaces.

use super::bridges::{add_reference, remove_reference};
use super::command::{Call, Wanted};
use super::context::Context;
use super::database;
use super::overlay::Key;
use crate::fault::Fault;
use ovsdb::{Atom, Datum, Schema};

/// Port settings may be of any column.
pub(super) fn prepare_add(call: &Call, schema: &Schema, wanted: &mut Wanted) -> Result<(), Fault> {
    let settings = call.arguments(3).iter().filter(|w| w.contains('='));
    database::check_settings(schema, "Port", settings)?;
    wanted.table("Port");
    Ok(())
}

/// `list-ports BRIDGE`
pub(super) fn list(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let bridge = call.argument(1);
    let topology = context.topology()?;
    topology.bridge(bridge)?;
    let ports = topology.ports_of(bridge);
    ports.iter().filter(|p| *p != bridge).for_each(|p| context.say(p));
    Ok(())
}

/// `list-ifaces BRIDGE`
pub(super) fn list_interfaces(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let bridge = call.argument(1);
    let topology = context.topology()?;
    topology.bridge(bridge)?;
    let of_bridge = |port: &str| topology.ports.get(port).is_some_and(|p| p.bridge == bridge);
    let names: Vec<String> = topology
        .interfaces
        .iter()
        .filter(|(name, i)| *name != bridge && of_bridge(&i.port))
        .map(|(name, _)| name.clone())
        .collect();
    names.iter().for_each(|name| context.say(name));
    Ok(())
}

/// `port-to-br PORT`
pub(super) fn to_bridge(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let name = call.argument(1);
    let port = context.topology()?.port(name).ok_or_else(|| no_port(name))?;
    let bridge = port.bridge.clone();
    context.say(&bridge);
    Ok(())
}

/// `iface-to-br IFACE`
pub(super) fn interface_to_bridge(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let name = call.argument(1);
    let topology = context.topology()?;
    let interface = topology.interface(name).ok_or_else(|| no_interface(name))?;
    let bridge = topology.ports.get(&interface.port).map(|p| p.bridge.clone()).unwrap_or_default();
    context.say(&bridge);
    Ok(())
}

fn no_port(name: &str) -> Fault {
    Fault::say(format!("no port named {name}"))
}

fn no_interface(name: &str) -> Fault {
    Fault::say(format!("no interface named {name}"))
}

// ---- adding --------------------------------------------------------------------------------------------------------------

struct NewPort<'a> {
    bridge: &'a str,
    name: &'a str,
    interfaces: &'a [String],
    settings: &'a [String],
    fake_interface: bool,
}

/// `add-port BRIDGE PORT [COLUMN[:KEY]=VALUE]...`
pub(super) fn add(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let new = NewPort {
        bridge: call.argument(1),
        name: call.argument(2),
        interfaces: call.words.get(2..3).unwrap_or(&[]),
        settings: call.arguments(3),
        fake_interface: false,
    };
    add_port(context, call, &new)
}

/// `add-bond BRIDGE PORT IFACE... [COLUMN[:KEY]=VALUE]...`
pub(super) fn add_bond(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let rest = call.arguments(3);
    let n = rest.iter().position(|w| w.contains('=')).unwrap_or(rest.len());
    if n < 2 {
        return Err(Fault::say(format!("add-bond requires at least 2 interfaces, but only {n} were specified")));
    }
    let (interfaces, settings) = rest.split_at(n);
    let (bridge, name, fake_interface) = (call.argument(1), call.argument(2), call.has("--fake-iface"));
    add_port(context, call, &NewPort { bridge, name, interfaces, settings, fake_interface })
}

fn add_port(context: &mut Context<'_>, call: &Call, new: &NewPort<'_>) -> Result<(), Fault> {
    let name = new.name;
    if name.is_empty() {
        return Err(Fault::say("port name must not be empty string"));
    }
    if new.interfaces.iter().any(String::is_empty) {
        return Err(Fault::say("interface name must not be empty string"));
    }
    if call.has("--may-exist") && already_there(context, call, new)? {
        return Ok(());
    }
    let topology = context.topology()?;
    topology.check_free(name, &format!("cannot create a port named {name}"))?;
    for interface in new.interfaces {
        topology.check_free(interface, &format!("cannot create an interface named {interface}"))?;
    }
    let bridge = topology.bridge(new.bridge)?.clone();
    let mut interfaces = Vec::new();
    for interface in new.interfaces {
        let row = context.insert("Interface", [("name", Datum::from(interface))])?;
        context.new_interfaces.push(row.1);
        interfaces.push(row);
    }
    let references = Datum::set(interfaces.iter().map(|i| Atom::from(i.1)));
    let row = context.insert("Port", [("name", Datum::from(name)), ("interfaces", references)])?;
    if new.fake_interface {
        context.overlay.set(row, "bond_fake_iface", Datum::from(true));
    }
    if let Some((_, vlan)) = &bridge.fake {
        context.overlay.set(row, "tag", Datum::from(*vlan));
    }
    for setting in new.settings {
        database::set_column(context, row, setting)?;
    }
    add_reference(context, bridge.row, "ports", row);
    let tag = context.overlay.get(row, "tag").as_int();
    let topology = context.topology()?;
    let parent = bridge.fake.as_ref().map_or(new.bridge, |(parent, _)| parent);
    topology.insert_port(name, row, parent, tag);
    for (interface, row) in new.interfaces.iter().zip(interfaces) {
        topology.insert_interface(interface, row, name);
    }
    Ok(())
}

fn already_there(context: &mut Context<'_>, call: &Call, new: &NewPort<'_>) -> Result<bool, Fault> {
    let topology = context.topology()?;
    topology.bridge(new.bridge)?;
    let name = new.name;
    let Some(port) = topology.port(name) else {
        return Ok(false);
    };
    if port.bridge != new.bridge {
        let other = &port.bridge;
        return Err(Fault::say(format!("\"{}\" but {name} is actually attached to bridge {other}", call.text())));
    }
    let mut wanted = new.interfaces.to_vec();
    wanted.sort();
    let held = topology.interfaces_of(name);
    if wanted != held {
        let held = held.join(", ");
        return Err(Fault::say(format!("\"{}\" but {name} actually has interface(s) {held}", call.text())));
    }
    Ok(true)
}

/// `add-bond-iface BOND IFACE`
pub(super) fn add_member(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let (bond, name) = (call.argument(1), call.argument(2));
    if name.is_empty() {
        return Err(Fault::say("interface name must not be empty string"));
    }
    let topology = context.topology()?;
    let port = topology.port(bond).ok_or_else(|| no_port(bond))?.row;
    if call.has("--may-exist")
        && let Some(held) = topology.interface(name)
    {
        if held.port == bond {
            return Ok(());
        }
        let other = &held.port;
        return Err(Fault::say(format!("\"{}\" but {name} is actually attached to port {other}", call.text())));
    }
    topology.check_free(name, &format!("cannot create an interface named {name}"))?;
    let row = context.insert("Interface", [("name", Datum::from(name))])?;
    context.new_interfaces.push(row.1);
    add_reference(context, port, "interfaces", row);
    context.topology()?.insert_interface(name, row, bond);
    Ok(())
}

// ---- deleting ------------------------------------------------------------------------------------------------------------

/// `del-bond-iface [BOND] IFACE`
pub(super) fn delete_member(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let name = call.words.last().map_or("", String::as_str);
    let bond = (call.words.len() == 3).then(|| call.argument(1));
    let topology = context.topology()?;
    if let Some(bond) = bond {
        topology.port(bond).ok_or_else(|| no_port(bond))?;
    }
    let Some(interface) = topology.interface(name) else {
        return if call.has("--if-exists") { Ok(()) } else { Err(no_interface(name)) };
    };
    if let Some(bond) = bond.filter(|b| *b != interface.port) {
        return Err(Fault::say(format!("port {bond} does not have an interface {name}")));
    }
    let (port_name, row) = (interface.port.clone(), interface.row);
    if topology.interfaces_of(&port_name).len() == 1 {
        return Err(Fault::say(format!("cannot delete last interface from port {port_name}")));
    }
    let port = topology.ports.get(&port_name).map(|p| p.row).ok_or_else(|| no_port(&port_name))?;
    topology.interfaces.remove(name);
    remove_reference(context, port, "interfaces", row);
    context.overlay.delete(row);
    Ok(())
}

/// `del-port [BRIDGE] PORT`
pub(super) fn delete(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let target = call.words.last().map_or("", String::as_str);
    let must_exist = !call.has("--if-exists");
    let Some(name) = find_target(context, target, must_exist, call.has("--with-iface"))? else {
        return Ok(());
    };
    if call.words.len() == 3 {
        let wanted = call.argument(1);
        let topology = context.topology()?;
        topology.bridge(wanted)?;
        let bridge = topology.ports.get(&name).map_or("", |p| p.bridge.as_str());
        if bridge != wanted {
            let child = topology.bridges.get(bridge).and_then(|b| b.fake.as_ref()).is_some_and(|(p, _)| p == wanted);
            let note = if child { format!(" (although its child bridge {bridge} does)") } else { String::new() };
            return Err(Fault::say(format!("bridge {wanted} does not have a port {target}{note}")));
        }
    }
    delete_row(context, &name)
}

/// The name of the port to delete; nothing if there is none and that is allowed.
fn find_target(context: &mut Context<'_>, target: &str, must_exist: bool, with_iface: bool) -> Result<Option<String>, Fault> {
    let topology = context.topology()?;
    if topology.port(target).is_some() {
        return Ok(Some(target.to_owned()));
    }
    if with_iface {
        let port = topology.interface(target).map(|i| i.port.clone());
        return match port {
            None if must_exist => Err(Fault::say(format!("no port or interface named {target}"))),
            found => Ok(found),
        };
    }
    if !must_exist {
        return Ok(None);
    }
    if topology.bridges.contains_key(target) {
        return Err(Fault::say(format!(
            "cannot delete port {target} because it is the local port for bridge {target} (deleting this port requires deleting the entire bridge)"
        )));
    }
    Err(no_port(target))
}

/// Deletes a port and its interfaces.
pub(super) fn delete_row(context: &mut Context<'_>, name: &str) -> Result<(), Fault> {
    let topology = context.topology()?;
    let Some(port) = topology.ports.get(name).cloned() else {
        return Ok(());
    };
    let bridge: Option<Key> = topology.bridges.get(&port.bridge).map(|b| b.row);
    let interfaces = topology.interfaces_of(name);
    let rows: Vec<Key> = interfaces.iter().filter_map(|i| topology.interfaces.get(i)).map(|i| i.row).collect();
    topology.remove_port(name);
    if let Some(bridge) = bridge {
        remove_reference(context, bridge, "ports", port.row);
    }
    context.overlay.delete(port.row);
    rows.into_iter().for_each(|row| context.overlay.delete(row));
    Ok(())
}
