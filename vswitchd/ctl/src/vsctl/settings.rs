//! Commands on controllers, fail modes, managers, TLS, auto attach, and `emer-reset`.

use super::bridges::add_reference;
use super::command::{Call, Wanted};
use super::context::Context;
use super::overlay::Key;
use crate::fault::Fault;
use ovsdb::{Atom, Datum, Schema};

/// `init`
pub(super) fn init(_: &mut Context<'_>, _: &Call) -> Result<(), Fault> {
    // Every run sets up a database that is not.
    Ok(())
}

// ---- emer-reset ----------------------------------------------------------------------------------------------------------

/// What a reset writes or deletes.
pub(super) fn prepare_reset(_: &Call, _: &Schema, wanted: &mut Wanted) -> Result<(), Fault> {
    for table in ["Open_vSwitch", "Bridge", "Port", "Interface"] {
        wanted.table(table);
    }
    DELETED.iter().for_each(|table| wanted.table(table));
    Ok(())
}

const DELETED: &[&str] = &["Mirror", "Controller", "Manager", "NetFlow", "SSL", "sFlow", "IPFIX", "Flow_Sample_Collector_Set"];

/// `emer-reset`: bridges, ports and their tags stay; whatever watches, limits or steers them goes.
pub(super) fn reset(context: &mut Context<'_>, _: &Call) -> Result<(), Fault> {
    let empty = Datum::empty_set;
    for row in context.overlay.rows_of("Open_vSwitch") {
        context.overlay.set(row, "manager_options", empty());
        context.overlay.set(row, "ssl", empty());
    }
    for row in context.overlay.rows_of("Bridge") {
        for column in ["controller", "fail_mode", "mirrors", "netflow", "sflow", "ipfix", "flood_vlans"] {
            context.overlay.set(row, column, empty());
        }
        let hwaddr = Atom::from("hwaddr");
        let kept = context.overlay.get(row, "other_config").retain(|k, _| *k == hwaddr);
        context.overlay.set(row, "other_config", kept);
    }
    for row in context.overlay.rows_of("Port") {
        context.overlay.set(row, "other_config", Datum::empty_map());
    }
    for row in context.overlay.rows_of("Interface") {
        context.overlay.set(row, "ingress_policing_rate", Datum::from(0));
        context.overlay.set(row, "ingress_policing_burst", Datum::from(0));
    }
    for table in DELETED {
        context.overlay.rows_of(table).into_iter().for_each(|row| context.overlay.delete(row));
    }
    context.forget_topology();
    Ok(())
}

// ---- controllers and fail modes ------------------------------------------------------------------------------------------

/// Controllers are read and replaced.
pub(super) fn prepare_controllers(_: &Call, _: &Schema, wanted: &mut Wanted) -> Result<(), Fault> {
    wanted.table("Controller");
    Ok(())
}

/// The real bridge of the first argument.
fn bridge(context: &mut Context<'_>, call: &Call) -> Result<Key, Fault> {
    context.topology()?.real_bridge(call.argument(1))
}

/// The targets of the rows that a column refers to, sorted.
fn targets(context: &Context<'_>, row: Key, column: &str) -> Vec<String> {
    let rows = context.overlay.refs(row, column);
    let mut targets: Vec<String> = rows.into_iter().map(|r| context.overlay.str(r, "target")).collect();
    targets.sort();
    targets
}

fn delete_referred(context: &mut Context<'_>, row: Key, column: &str) {
    context.overlay.verify_named(row, column);
    for target in context.overlay.refs(row, column) {
        context.overlay.delete(target);
    }
    context.overlay.set(row, column, Datum::empty_set());
}

/// Rows of `table`, one per target, in place of those that the column refers to.
fn replace_targets(
    context: &mut Context<'_>,
    call: &Call,
    place: (Key, &str),
    (table, from): (&str, usize),
) -> Result<(), Fault> {
    let (row, column) = place;
    let probe = call.value("--inactivity-probe").map(|text| {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(text.len());
        text[..end].parse::<i64>().unwrap_or(0)
    });
    delete_referred(context, row, column);
    for target in call.arguments(from) {
        warn_of_target(context, target, table);
        let new = context.insert(table, [("target", Datum::from(target))])?;
        if let Some(probe) = probe {
            context.overlay.set(new, "inactivity_probe", Datum::from(probe));
        }
        add_reference(context, row, column, new);
    }
    Ok(())
}

fn warn_of_target(context: &mut Context<'_>, target: &str, table: &str) {
    const METHODS: [&str; 7] = ["tcp:", "ssl:", "unix:", "ptcp:", "pssl:", "punix:", "none"];
    let manager = table == "Manager";
    if !METHODS.iter().any(|m| target.starts_with(m)) || (manager && target == "none") {
        context.warn("vsctl", format!("target type \"{target}\" is possibly erroneous"));
    }
}

/// `get-controller BRIDGE`
pub(super) fn list_controllers(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let row = bridge(context, call)?;
    targets(context, row, "controller").iter().for_each(|t| context.say(t));
    Ok(())
}

/// `del-controller BRIDGE`
pub(super) fn delete_controllers(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let row = bridge(context, call)?;
    delete_referred(context, row, "controller");
    Ok(())
}

/// `set-controller BRIDGE TARGET...`
pub(super) fn set_controllers(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let row = bridge(context, call)?;
    replace_targets(context, call, (row, "controller"), ("Controller", 2))
}

/// `get-fail-mode BRIDGE`
pub(super) fn show_fail_mode(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let row = bridge(context, call)?;
    let mode = context.overlay.str(row, "fail_mode");
    if !mode.is_empty() {
        context.say(&mode);
    }
    Ok(())
}

/// `del-fail-mode BRIDGE`
pub(super) fn delete_fail_mode(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let row = bridge(context, call)?;
    context.overlay.set(row, "fail_mode", Datum::empty_set());
    Ok(())
}

/// `set-fail-mode BRIDGE MODE`
pub(super) fn set_fail_mode(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let row = bridge(context, call)?;
    let mode = call.argument(2);
    if mode != "standalone" && mode != "secure" {
        return Err(Fault::say("fail-mode must be \"standalone\" or \"secure\""));
    }
    context.overlay.set(row, "fail_mode", Datum::from(mode));
    Ok(())
}

// ---- managers ------------------------------------------------------------------------------------------------------------

/// Managers are read and replaced.
pub(super) fn prepare_managers(_: &Call, _: &Schema, wanted: &mut Wanted) -> Result<(), Fault> {
    wanted.columns("Open_vSwitch", &["manager_options"]);
    wanted.table("Manager");
    Ok(())
}

/// `get-manager`
pub(super) fn list_managers(context: &mut Context<'_>, _: &Call) -> Result<(), Fault> {
    let root = context.root()?;
    targets(context, root, "manager_options").iter().for_each(|t| context.say(t));
    Ok(())
}

/// `del-manager`
pub(super) fn delete_managers(context: &mut Context<'_>, _: &Call) -> Result<(), Fault> {
    let root = context.root()?;
    delete_referred(context, root, "manager_options");
    Ok(())
}

/// `set-manager TARGET...`
pub(super) fn set_managers(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let root = context.root()?;
    replace_targets(context, call, (root, "manager_options"), ("Manager", 1))
}

// ---- TLS -----------------------------------------------------------------------------------------------------------------

/// The SSL row is read and replaced.
pub(super) fn prepare_ssl(_: &Call, _: &Schema, wanted: &mut Wanted) -> Result<(), Fault> {
    wanted.columns("Open_vSwitch", &["ssl"]);
    wanted.table("SSL");
    Ok(())
}

/// `get-ssl`
pub(super) fn show_ssl(context: &mut Context<'_>, _: &Call) -> Result<(), Fault> {
    let root = context.root()?;
    if let Some(row) = context.overlay.refs(root, "ssl").first().copied() {
        for (title, column) in [("Private key", "private_key"), ("Certificate", "certificate"), ("CA Certificate", "ca_cert")] {
            let value = context.overlay.str(row, column);
            context.say(&format!("{title}: {value}"));
        }
        let bootstrap = context.overlay.get(row, "bootstrap_ca_cert").as_bool() == Some(true);
        context.say(&format!("Bootstrap: {bootstrap}"));
    }
    Ok(())
}

/// `del-ssl`
pub(super) fn delete_ssl(context: &mut Context<'_>, _: &Call) -> Result<(), Fault> {
    let root = context.root()?;
    delete_referred(context, root, "ssl");
    Ok(())
}

/// `set-ssl PRIVATE-KEY CERTIFICATE CA-CERT [PROTOCOLS [CIPHERS]]`
pub(super) fn set_ssl(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let root = context.root()?;
    delete_referred(context, root, "ssl");
    let text = |n: usize| Datum::from(call.argument(n));
    let columns = [("private_key", text(1)), ("certificate", text(2)), ("ca_cert", text(3))];
    let row = context.insert("SSL", columns)?;
    context.overlay.set(row, "bootstrap_ca_cert", Datum::from(call.has("--bootstrap")));
    for (n, column) in [(4, "ssl_protocols"), (5, "ssl_ciphers")] {
        if call.words.len() > n {
            context.overlay.set(row, column, text(n));
        }
    }
    context.overlay.set(root, "ssl", Datum::from(row.1));
    Ok(())
}

// ---- auto attach ---------------------------------------------------------------------------------------------------------

/// Mappings are read and changed.
pub(super) fn prepare_mappings(_: &Call, _: &Schema, wanted: &mut Wanted) -> Result<(), Fault> {
    wanted.columns("Bridge", &["auto_attach"]);
    wanted.table("AutoAttach");
    Ok(())
}

fn mapping(call: &Call) -> Result<(i64, i64), Fault> {
    let number = |n: usize, most: i64| {
        let text = call.argument(n);
        let bad = || Fault::say(format!("Invalid argument {text}"));
        text.parse::<i64>().map_err(|_| bad()).and_then(|v| if (0..=most).contains(&v) { Ok(v) } else { Err(bad()) })
    };
    Ok((number(2, 0xff_ffff)?, number(3, 4095)?))
}

/// `add-aa-mapping BRIDGE I-SID VLAN`
pub(super) fn add_mapping(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let (isid, vlan) = mapping(call)?;
    let bridge = bridge(context, call)?;
    let row = match context.overlay.refs(bridge, "auto_attach").first().copied() {
        Some(row) => row,
        None => {
            let row = context.insert("AutoAttach", [])?;
            context.overlay.set(bridge, "auto_attach", Datum::from(row.1));
            row
        }
    };
    context.overlay.verify_named(row, "mappings");
    let mappings = Datum::map([(isid, vlan)]).union(&context.overlay.get(row, "mappings"));
    context.overlay.set(row, "mappings", mappings);
    Ok(())
}

/// `del-aa-mapping BRIDGE I-SID VLAN`
pub(super) fn delete_mapping(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let (isid, vlan) = mapping(call)?;
    let bridge = bridge(context, call)?;
    if let Some(row) = context.overlay.refs(bridge, "auto_attach").first().copied() {
        context.overlay.verify_named(row, "mappings");
        let mappings = context.overlay.get(row, "mappings").subtract(&Datum::map([(isid, vlan)]));
        context.overlay.set(row, "mappings", mappings);
    }
    Ok(())
}

/// `get-aa-mapping BRIDGE`
pub(super) fn list_mappings(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let bridge = bridge(context, call)?;
    for row in context.overlay.refs(bridge, "auto_attach") {
        let mappings = context.overlay.get(row, "mappings");
        for (isid, vlan) in mappings.pairs() {
            context.say(&format!("{} {}", isid.to_text(), vlan.to_text()));
        }
    }
    Ok(())
}
