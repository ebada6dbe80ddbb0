//! Commands on datapaths: timeouts and limits of connection tracking zones, capabilities.

use super::command::{Call, Wanted};
use super::context::Context;
use super::overlay::Key;
use crate::fault::Fault;
use ovsdb::{Atom, Datum, Schema};

/// Datapaths and their zones.
pub(super) fn prepare(_: &Call, _: &Schema, wanted: &mut Wanted) -> Result<(), Fault> {
    wanted.columns("Open_vSwitch", &["datapaths"]);
    ["Datapath", "CT_Zone", "CT_Timeout_Policy"].iter().for_each(|table| wanted.table(table));
    Ok(())
}

fn find(context: &mut Context<'_>, name: &str) -> Result<Option<Key>, Fault> {
    let root = context.root()?;
    let datapaths = context.overlay.get(root, "datapaths");
    let found = datapaths.value_of(&Atom::from(name)).and_then(Atom::as_uuid);
    Ok(found.zip(context.overlay.table("Datapath")).map(|(uuid, table)| (table, uuid)))
}

fn datapath(context: &mut Context<'_>, call: &Call) -> Result<Key, Fault> {
    let name = call.argument(1);
    find(context, name)?.ok_or_else(|| Fault::say(format!("datapath {name} does not exist")))
}

fn zone_id(text: &str) -> Result<i64, Fault> {
    let number = text.strip_prefix("zone=").unwrap_or(text);
    number.parse().map_err(|_| Fault::say(format!("Invalid argument {text}")))
}

fn zone_row(context: &Context<'_>, datapath: Key, zone: i64) -> Option<Key> {
    let uuid = context.overlay.get(datapath, "ct_zones").value_of(&Atom::from(zone)).and_then(Atom::as_uuid)?;
    context.overlay.table("CT_Zone").map(|table| (table, uuid))
}

fn insert_zone(context: &mut Context<'_>, datapath: Key, zone: i64) -> Result<Key, Fault> {
    let row = context.insert("CT_Zone", [])?;
    context.overlay.verify_named(datapath, "ct_zones");
    let zones = context.overlay.get(datapath, "ct_zones").union(&Datum::map([(zone, row.1)]));
    context.overlay.set(datapath, "ct_zones", zones);
    Ok(row)
}

fn remove_zone(context: &mut Context<'_>, datapath: Key, zone: i64) {
    context.overlay.verify_named(datapath, "ct_zones");
    let id = Atom::from(zone);
    let zones = context.overlay.get(datapath, "ct_zones").retain(|k, _| *k != id);
    context.overlay.set(datapath, "ct_zones", zones);
}

/// `add-zone-tp DATAPATH zone=ZONE POLICY=SECONDS...`
pub(super) fn add_policy(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    if call.words.len() < 4 {
        return Err(Fault::say(format!("'{}' command requires at least 3 arguments", call.argument(0))));
    }
    let datapath = datapath(context, call)?;
    let zone = zone_id(call.argument(2))?;
    let row = zone_row(context, datapath, zone);
    if row.is_some_and(|r| !context.overlay.get(r, "timeout_policy").is_empty()) {
        return if call.has("--may-exist") { Ok(()) } else { Err(Fault::say(format!("zone id {zone} already exists"))) };
    }
    let timeouts = call.arguments(3).iter().map(|policy| {
        let (key, value) = policy.split_once('=').unwrap_or((policy, "0"));
        (key, value.parse::<i64>().unwrap_or(0))
    });
    let policy = context.insert("CT_Timeout_Policy", [("timeouts", Datum::map(timeouts))])?;
    let row = match row {
        Some(row) => row,
        None => insert_zone(context, datapath, zone)?,
    };
    context.overlay.set(row, "timeout_policy", Datum::from(policy.1));
    Ok(())
}

/// `del-zone-tp DATAPATH zone=ZONE`
pub(super) fn delete_policy(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let datapath = datapath(context, call)?;
    let zone = zone_id(call.argument(2))?;
    let Some(row) = zone_row(context, datapath, zone) else {
        return if call.has("--if-exists") { Ok(()) } else { Err(Fault::say(format!("zone id {zone} does not exist"))) };
    };
    if context.overlay.get(row, "limit").is_empty() {
        remove_zone(context, datapath, zone);
    } else {
        context.overlay.set(row, "timeout_policy", Datum::empty_set());
    }
    Ok(())
}

/// Zones in order of number.
fn zones(context: &Context<'_>, datapath: Key) -> Vec<(i64, Key)> {
    let Some(table) = context.overlay.table("CT_Zone") else {
        return Vec::new();
    };
    let zones = context.overlay.get(datapath, "ct_zones");
    zones.pairs().filter_map(|(k, v)| Some((k.as_int()?, (table, v.as_uuid()?)))).collect()
}

/// `list-zone-tp DATAPATH`
pub(super) fn list_policies(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let name = call.argument(1);
    let Some(datapath) = find(context, name)? else {
        return Err(Fault::say(format!("datapath: {name} record not found")));
    };
    for (zone, row) in zones(context, datapath) {
        let policy = context.overlay.refs(row, "timeout_policy").first().copied();
        let text = match policy {
            Some(policy) => {
                let timeouts = context.overlay.get(policy, "timeouts");
                let pairs = timeouts.pairs().map(|(k, v)| format!("{}={}", k.to_bare(), v.to_bare()));
                pairs.collect::<Vec<_>>().join(" ")
            }
            None => "system default".to_owned(),
        };
        context.say(&format!("Zone:{zone}, Timeout Policies: {text}"));
    }
    Ok(())
}

/// `set-zone-limit DATAPATH ZONE|default LIMIT`
pub(super) fn set_limit(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let datapath = datapath(context, call)?;
    let text = call.argument(3).strip_prefix("limit=").unwrap_or_else(|| call.argument(3));
    let limit = text.parse::<u32>().map_err(|_| Fault::say(format!("invalid limit {text}")))?;
    if call.argument(2) == "default" {
        context.overlay.set(datapath, "ct_zone_default_limit", Datum::from(limit));
        return Ok(());
    }
    let zone = zone_id(call.argument(2))?;
    let row = match zone_row(context, datapath, zone) {
        Some(row) => row,
        None => insert_zone(context, datapath, zone)?,
    };
    context.overlay.set(row, "limit", Datum::from(limit));
    Ok(())
}

/// `del-zone-limit DATAPATH ZONE|default`
pub(super) fn delete_limit(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let datapath = datapath(context, call)?;
    let must_exist = !call.has("--if-exists");
    if call.argument(2) == "default" {
        if must_exist && context.overlay.get(datapath, "ct_zone_default_limit").is_empty() {
            return Err(Fault::say(format!("datapath {} does not have a limit", call.argument(1))));
        }
        context.overlay.set(datapath, "ct_zone_default_limit", Datum::empty_set());
        return Ok(());
    }
    let zone = zone_id(call.argument(2))?;
    let row = zone_row(context, datapath, zone).filter(|r| !context.overlay.get(*r, "limit").is_empty());
    let Some(row) = row else {
        return if must_exist { Err(Fault::say(format!("zone_id {zone} does not have a limit"))) } else { Ok(()) };
    };
    if context.overlay.get(row, "timeout_policy").is_empty() {
        remove_zone(context, datapath, zone);
    } else {
        context.overlay.set(row, "limit", Datum::empty_set());
    }
    Ok(())
}

/// `list-zone-limits DATAPATH`
pub(super) fn list_limits(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let datapath = datapath(context, call)?;
    if let Some(limit) = context.overlay.get(datapath, "ct_zone_default_limit").as_int() {
        context.say(&format!("Default limit: {limit}"));
    }
    for (zone, row) in zones(context, datapath) {
        if let Some(limit) = context.overlay.get(row, "limit").as_int() {
            context.say(&format!("Zone: {zone}, Limit: {limit}"));
        }
    }
    Ok(())
}

/// `list-dp-cap DATAPATH`
pub(super) fn list_capabilities(context: &mut Context<'_>, call: &Call) -> Result<(), Fault> {
    let name = call.argument(1);
    let Some(datapath) = find(context, name)? else {
        return Err(Fault::say(format!("datapath \"{name}\" record not found")));
    };
    let capabilities = context.overlay.get(datapath, "capabilities").str_map();
    let text: Vec<String> = capabilities.iter().map(|(k, v)| format!("{k}={v}")).collect();
    context.say(&text.join(" "));
    Ok(())
}
