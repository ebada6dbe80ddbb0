//! `ovs/route/*`: routes of tunnels, the kernel's and the user's, and the rules that choose tables.

use super::Outcome;
use super::show::write;
use crate::router::{Answer, Prefix, Query, Route, Rule, TABLE_DEFAULT, TABLE_LOCAL, TABLE_MAIN};
use crate::slowpath::Slowpath;
use crate::tunnel::Addr;

/// `ovs/route/add PREFIX DEVICE [GATEWAY] [pkt_mark=MARK] [src=ADDRESS] [table=ID]`
pub(super) fn add(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let [prefix, device, rest @ ..] = args else { return Err("Invalid parameters".to_owned()) };
    let prefix = Prefix::parse(prefix).ok_or("Invalid parameters")?;
    let mut options = Options::default();
    for (n, arg) in rest.iter().enumerate() {
        let gateway = Addr::parse(arg).filter(|a| n == 0 && a.is_v4() == prefix.is_v4());
        match gateway {
            Some(gateway) => options.gateway = gateway,
            None if options.take(arg, prefix.is_v4()) => {}
            None if n == 0 && prefix.is_v4() => return Err("Invalid pkt_mark or gateway".to_owned()),
            None if n == 0 => return Err("Invalid pkt_mark or IPv6 gateway".to_owned()),
            None => return Err("Invalid pkt_mark".to_owned()),
        }
    }
    let mut world = slowpath.write_world();
    let source = match options.src {
        Some(src) if world.router.addresses_of(device).iter().any(|a| a.address == src) => Some(src),
        Some(_) => None,
        None => world.router.source_for(device, prefix.address, options.gateway),
    };
    let source = source.ok_or("Error while inserting route.")?;
    let route = Route {
        prefix,
        mark: options.mark,
        device: (*device).to_owned(),
        gateway: options.gateway,
        source: Some(source),
        local: false,
        user: true,
        metric: 0,
    };
    world.router.insert(options.table.unwrap_or(TABLE_MAIN), route);
    world.routes_changed(None);
    drop(world);
    slowpath.settle();
    Ok("OK".to_owned())
}

/// `ovs/route/del PREFIX [pkt_mark=MARK] [table=ID]`
pub(super) fn del(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let [prefix, rest @ ..] = args else { return Err("Invalid parameters".to_owned()) };
    let prefix = Prefix::parse(prefix).ok_or("Invalid parameters")?;
    let options = Options::read(rest, prefix.is_v4())?;
    let mut world = slowpath.write_world();
    if !world.router.remove(options.table.unwrap_or(TABLE_MAIN), prefix, options.mark, |r| r.user) {
        return Err("Not found".to_owned());
    }
    world.routes_changed(None);
    drop(world);
    slowpath.settle();
    Ok("OK".to_owned())
}

/// `ovs/route/show [table=ID|all]`
pub(super) fn show(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let wanted = match args.first().map(|a| a.strip_prefix("table=").ok_or("Invalid param, expected 'table'")).transpose()? {
        None => None,
        Some("all") => Some(None),
        Some(id) => Some(Some(id.parse::<u32>().map_err(|_| "Invalid table id")?)),
    };
    let world = slowpath.read_world();
    let mut out = if wanted.is_none() { "Route Table:\n".to_owned() } else { String::new() };
    let standard = |id: u32| matches!(id, TABLE_DEFAULT | TABLE_MAIN | TABLE_LOCAL);
    for (id, table) in world.router.tables() {
        match wanted {
            None if !standard(id) => continue,
            Some(Some(only)) if only != id => continue,
            Some(_) => write(&mut out, format_args!("Route Table #{id}:\n")),
            None => {}
        }
        for route in table.sorted() {
            out.push_str(&line(&world.router, route));
        }
    }
    Ok(out)
}

fn line(router: &crate::router::Router, route: &Route) -> String {
    let mut line = format!("{}: {}", if route.user { "User" } else { "Cached" }, route.prefix);
    if route.mark != 0 {
        write(&mut line, format_args!(" MARK {}", route.mark));
    }
    write(&mut line, format_args!(" dev {}", route.device));
    if route.gateway != Addr(0) {
        write(&mut line, format_args!(" GW {}", route.gateway));
    }
    let source = route.source.or_else(|| router.source_for(&route.device, route.prefix.address, route.gateway));
    write(&mut line, format_args!(" SRC {}", source.unwrap_or_default()));
    if route.local {
        line.push_str(" local");
    }
    line.push('\n');
    line
}

/// `ovs/route/lookup ADDRESS [pkt_mark=MARK] [src=ADDRESS]`
pub(super) fn lookup(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let [address, rest @ ..] = args else { return Err("Invalid parameters".to_owned()) };
    let dst = Prefix::parse(address).filter(|p| p.plen == 128).ok_or("Invalid parameters")?;
    let options = Options::read(rest, dst.is_v4())?;
    let query = Query { dst: dst.address, src: options.src.unwrap_or_default(), mark: options.mark };
    let Answer { device, gateway, src, .. } = slowpath.read_world().router.find(query).ok_or("Not found")?;
    Ok(format!("src {src}\ngateway {gateway}\ndev {device}\n"))
}

/// What may follow, by name.
#[derive(Debug, Default)]
struct Options {
    gateway: Addr,
    mark: u32,
    src: Option<Addr>,
    table: Option<u32>,
}

impl Options {
    fn read(args: &[&str], v4: bool) -> Result<Self, String> {
        let mut options = Self::default();
        for arg in args {
            if !options.take(arg, v4) {
                return Err("Invalid pkt_mark".to_owned());
            }
        }
        Ok(options)
    }

    fn take(&mut self, arg: &str, v4: bool) -> bool {
        let number = |text: &str| match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        let set = |slot: &mut Option<u32>, text: &str| {
            *slot = number(text);
            slot.is_some()
        };
        match arg.split_once('=') {
            Some(("pkt_mark", text)) => {
                let mut mark = None;
                let ok = set(&mut mark, text);
                self.mark = mark.unwrap_or(0);
                ok
            }
            Some(("table", text)) => set(&mut self.table, text),
            Some(("src", text)) => {
                self.src = Addr::parse(text).filter(|a| a.is_v4() == v4);
                self.src.is_some()
            }
            Some(_) | None => false,
        }
    }
}

/// Names of tables in rules.
const TABLES: [(&str, u32); 3] = [("local", TABLE_LOCAL), ("main", TABLE_MAIN), ("default", TABLE_DEFAULT)];

/// `ovs/route/rule/add [-6] [not] from=all|PREFIX [prio=NUM] table=local|main|default|ID`
pub(super) fn rule_add(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let mut world = slowpath.write_world();
    let mut rule = read_rule(args)?;
    if !args.iter().any(|a| a.starts_with("prio=")) {
        // Before the first of those that are not the local table's, as `ip rule` does it.
        let lowest = world.router.rules().iter().filter(|r| r.v6 == rule.v6 && r.priority > 0).map(|r| r.priority).min();
        rule.priority = lowest.unwrap_or(1).saturating_sub(1).max(1);
    }
    if !world.router.add_rule(rule) {
        return Err("File exists".to_owned());
    }
    world.routes_changed(None);
    drop(world);
    slowpath.settle();
    Ok("OK".to_owned())
}

pub(super) fn rule_del(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let wanted = read_rule(args)?;
    let by_priority = args.iter().any(|a| a.starts_with("prio="));
    let mut world = slowpath.write_world();
    let removed = world.router.remove_rules(|r| {
        let same = (r.v6, r.invert, r.from, r.table) == (wanted.v6, wanted.invert, wanted.from, wanted.table);
        r.user && same && (!by_priority || r.priority == wanted.priority)
    });
    if !removed {
        return Err("Not found".to_owned());
    }
    world.routes_changed(None);
    drop(world);
    slowpath.settle();
    Ok("OK".to_owned())
}

fn read_rule(args: &[&str]) -> Result<Rule, String> {
    let mut rule = Rule { priority: 0, v6: false, invert: false, from: None, table: 0, user: true };
    let (mut has_from, mut has_table) = (false, false);
    for arg in args {
        match (*arg, arg.split_once('=')) {
            ("-6", _) => rule.v6 = true,
            ("not", _) => rule.invert = true,
            (_, Some(("from", "all"))) => has_from = true,
            (_, Some(("from", text))) => {
                rule.from = Some(Prefix::parse(text).ok_or("Invalid source prefix")?);
                has_from = true;
            }
            (_, Some(("prio", text))) => rule.priority = text.parse().map_err(|_| "Invalid rule priority")?,
            (_, Some(("table", text))) => {
                let named = TABLES.iter().find(|(name, _)| *name == text).map(|(_, id)| *id);
                rule.table = named.or_else(|| text.parse().ok()).ok_or("Invalid table")?;
                has_table = true;
            }
            _ => return Err("Invalid parameters".to_owned()),
        }
    }
    rule.v6 |= rule.from.is_some_and(|f| !f.is_v4());
    if has_from && has_table { Ok(rule) } else { Err("Invalid parameters".to_owned()) }
}

/// `PRIORITY: [not] from X lookup T`
pub(super) fn rule_show(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let v6 = args.contains(&"-6");
    let world = slowpath.read_world();
    let mut out = String::new();
    for rule in world.router.rules().iter().filter(|r| r.v6 == v6) {
        let origin = if rule.user { "User" } else { "Cached" };
        let not = if rule.invert { "not " } else { "" };
        let from = rule.from.map_or_else(|| "all".to_owned(), |f| f.to_string());
        let table = TABLES.iter().find(|(_, id)| *id == rule.table).map_or_else(|| rule.table.to_string(), |(n, _)| (*n).into());
        write(&mut out, format_args!("{origin}: {}: {not}from {from} lookup {table}\n", rule.priority));
    }
    Ok(out)
}
