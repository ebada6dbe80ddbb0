//! `mdb/*`: the multicast tables of bridges.

use super::Outcome;
use super::dpif::NO_SUCH_BRIDGE;
use super::fdb::port_text;
use super::show::write;
use crate::slowpath::Slowpath;
use flow::clock::now_ms;

pub(super) fn show(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let world = slowpath.read_world();
    let bridge = world.bridge_named(args[0]).ok_or(NO_SUCH_BRIDGE)?;
    let table = bridge.mcast.as_ref().ok_or("multicast snooping is disabled")?;
    let mut out = " port  VLAN  GROUP                Age\n".to_owned();
    for line in table.shown(now_ms()) {
        let port = port_text(bridge, line.bundle);
        let (vlan, age) = (line.vlan, line.age_s);
        match line.group {
            Some(group) => write(&mut out, format_args!("{port:>5}  {vlan:4}  {group}         {age:3}\n")),
            None => write(&mut out, format_args!("{port:>5}  {vlan:4}  querier             {age:3}\n")),
        }
    }
    Ok(out)
}

pub(super) fn flush(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let world = slowpath.read_world();
    match args.first() {
        Some(name) => {
            let bridge = world.bridge_named(name).ok_or(NO_SUCH_BRIDGE)?;
            bridge.mcast.as_ref().ok_or("multicast snooping is disabled")?.flush();
        }
        None => world.bridges.values().filter_map(|b| b.mcast.as_ref()).for_each(crate::mcast::McastTable::flush),
    }
    Ok("table successfully flushed\n".to_owned())
}
