//! `ovs/route/*`: routes of tunnels, the kernel's and the user's. The rules that choose tables are `route_rules`.

use super::show::write;
use super::{JsonOutcome, Outcome};
use crate::router::{Answer, Prefix, Query, Route, Router, TABLE_DEFAULT, TABLE_LOCAL, TABLE_MAIN};
use crate::slowpath::Slowpath;
use crate::tunnel::Addr;
use serde_json::{Value, json};

const BAD_PREFIX: &str = "Invalid 'ip/plen' parameter";
const BAD_OPTION: &str = "Invalid pkt_mark, IP gateway or src_ip";

/// `ovs/route/add PREFIX DEVICE [GATEWAY] [pkt_mark=MARK] [src=ADDRESS] [table=ID]`
pub(super) fn add(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let [prefix, device, rest @ ..] = args else { return Err("Invalid parameters".to_owned()) };
    let prefix = Prefix::parse(prefix).ok_or(BAD_PREFIX)?;
    let mut options = Options::default();
    for arg in rest {
        match Addr::parse(arg).filter(|a| a.is_v4() == prefix.is_v4()) {
            Some(gateway) => options.gateway = gateway,
            None if options.take(arg, prefix.is_v4()) => {}
            None => return Err(BAD_OPTION.to_owned()),
        }
    }
    let mut world = slowpath.write_world();
    // The next hop must be on the link of an address of the device, and of this one, if the user names one.
    let source = match options.src {
        Some(src) => Some(src).filter(|src| world.router.reaches(device, *src, prefix.address, options.gateway)),
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
    let prefix = Prefix::parse(prefix).ok_or(BAD_PREFIX)?;
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

/// Which tables to show.
enum Wanted {
    Standard,
    All,
    One(u32),
}

impl Wanted {
    fn read(router: &Router, args: &[&str]) -> Result<Self, String> {
        let Some(arg) = args.first() else { return Ok(Self::Standard) };
        match arg.strip_prefix("table=").ok_or("Invalid table format")? {
            "all" => Ok(Self::All),
            id => match id.parse().map_err(|_| "Invalid table format")? {
                // As if none were named.
                0 => Ok(Self::Standard),
                id if is_standard(id) || router.tables().any(|(there, _)| there == id) => Ok(Self::One(id)),
                _ => Err(format!("Table '{arg}' not found")),
            },
        }
    }

    fn has(&self, id: u32) -> bool {
        match self {
            Self::Standard => is_standard(id),
            Self::All => true,
            Self::One(one) => *one == id,
        }
    }
}

fn is_standard(table: u32) -> bool {
    matches!(table, TABLE_DEFAULT | TABLE_MAIN | TABLE_LOCAL)
}

/// `ovs/route/show [table=ID|all]`
pub(super) fn show(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let world = slowpath.read_world();
    let wanted = Wanted::read(&world.router, args)?;
    let mut out = match wanted {
        Wanted::One(id) if !is_standard(id) => format!("Route Table #{id}:\n"),
        Wanted::Standard | Wanted::One(_) => "Route Table:\n".to_owned(),
        Wanted::All => String::new(),
    };
    for (id, table) in world.router.tables().filter(|(id, _)| wanted.has(*id)) {
        let suffix = if is_standard(id) || matches!(wanted, Wanted::One(_)) { String::new() } else { format!(" table {id}") };
        for route in table.sorted() {
            write(&mut out, format_args!("{}{suffix}\n", line(&world.router, route)));
        }
    }
    Ok(out)
}

/// An array of routes, each an object.
pub(super) fn show_json(slowpath: &Slowpath, args: &[&str]) -> JsonOutcome {
    let world = slowpath.read_world();
    let wanted = Wanted::read(&world.router, args)?;
    let tables = world.router.tables().filter(|(id, _)| wanted.has(*id));
    Ok(tables
        .flat_map(|(id, table)| table.sorted().into_iter().map(move |r| (id, r)))
        .map(|(id, r)| object(&world.router, id, r))
        .collect())
}

fn object(router: &Router, table: u32, route: &Route) -> Value {
    let mut hop = json!({"dev": route.device});
    if route.gateway != Addr(0) {
        hop["gateway"] = route.gateway.to_string().into();
    }
    let mut object = json!({
        "table": table,
        "user": route.user,
        "local": route.local,
        "dst": route.prefix.address.to_string(),
        "prefix": if route.prefix.is_v4() { route.prefix.plen - 96 } else { route.prefix.plen },
        "prefsrc": source(router, route).to_string(),
        "nexthops": [hop],
    });
    if route.mark != 0 {
        object["mark"] = route.mark.into();
    }
    object
}

fn source(router: &Router, route: &Route) -> Addr {
    route.source.or_else(|| router.source_for(&route.device, route.prefix.address, route.gateway)).unwrap_or_default()
}

fn line(router: &Router, route: &Route) -> String {
    let mut line = format!("{}: {}", if route.user { "User" } else { "Cached" }, route.prefix);
    if route.mark != 0 {
        write(&mut line, format_args!(" MARK {}", route.mark));
    }
    write(&mut line, format_args!(" dev {}", route.device));
    if route.gateway != Addr(0) {
        write(&mut line, format_args!(" GW {}", route.gateway));
    }
    write(&mut line, format_args!(" SRC {}", source(router, route)));
    if route.local {
        line.push_str(" local");
    }
    line
}

/// `ovs/route/lookup ADDRESS [pkt_mark=MARK] [src=ADDRESS]`
pub(super) fn lookup(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let [address, rest @ ..] = args else { return Err("Invalid parameters".to_owned()) };
    let dst = Prefix::parse(address).filter(|p| p.plen == 128).ok_or(BAD_PREFIX)?;
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
                return Err("Invalid pkt_mark or src".to_owned());
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
