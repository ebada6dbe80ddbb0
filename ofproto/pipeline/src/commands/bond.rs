//! `bond/`: bonds shown, members chosen by hand.

use super::Outcome;
use crate::bond::{self, Bond};
use crate::options::parse_mac;
use crate::slowpath::Slowpath;
use flow::clock::now_ms;
use openflow::OfPort;

/// Calls `act` with the bond of that name.
fn with_bond<T>(slowpath: &Slowpath, name: &str, act: impl FnOnce(&mut Bond) -> Result<T, String>) -> Result<T, String> {
    let world = slowpath.read_world();
    for bridge in world.bridges.values() {
        let mut machines = bridge.protocols.lock();
        if let Some(entry) = machines.bonds.values_mut().find(|e| e.bond.name() == name) {
            return act(&mut entry.bond);
        }
    }
    Err("no such bond".into())
}

fn each(slowpath: &Slowpath, mut act: impl FnMut(&Bond)) {
    for bridge in slowpath.read_world().bridges.values() {
        bridge.protocols.lock().bonds.values().for_each(|entry| act(&entry.bond));
    }
}

pub(super) fn list(slowpath: &Slowpath, _: &[&str]) -> Outcome {
    let mut out = String::from("bond\ttype\trecircID\tmembers\n");
    each(slowpath, |bond| out += &bond.line());
    Ok(out)
}

pub(super) fn show(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let now = now_ms();
    match args.first() {
        Some(name) => with_bond(slowpath, name, |bond| Ok(bond.details(now))),
        None => {
            let mut out = String::new();
            each(slowpath, |bond| out += &bond.details(now));
            Ok(out)
        }
    }
}

fn member(bond: &Bond, name: &str) -> Result<(OfPort, bool), String> {
    bond.member_named(name).ok_or_else(|| "no such member".to_owned())
}

pub(super) fn migrate(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    with_bond(slowpath, args[0], |bond| {
        if !bond.is_slb() {
            return Err("not an SLB bond".into());
        }
        let digits = !args[1].is_empty() && args[1].bytes().all(|b| b.is_ascii_digit());
        let hash: u32 = args[1].parse().ok().filter(|_| digits).ok_or("bad hash")?;
        let (port, enabled) = member(bond, args[2])?;
        if !enabled {
            return Err("cannot migrate to disabled member".into());
        }
        bond.migrate(u8::try_from(hash & 0xff).expect("masked to 8 bits"), port)?;
        Ok(())
    })?;
    slowpath.run_protocols(now_ms());
    Ok("migrated".into())
}

pub(super) fn set_active_member(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let changed = with_bond(slowpath, args[0], |bond| {
        let (port, enabled) = member(bond, args[1])?;
        if !enabled {
            return Err("cannot make disabled member active".into());
        }
        Ok(bond.set_active(port))
    })?;
    slowpath.run_protocols(now_ms());
    Ok(if changed { "done" } else { "no change" }.into())
}

fn set_enabled(slowpath: &Slowpath, args: &[&str], enable: bool) -> Result<(), String> {
    with_bond(slowpath, args[0], |bond| {
        let (port, _) = member(bond, args[1])?;
        bond.enable(port, enable);
        Ok(())
    })?;
    slowpath.run_protocols(now_ms());
    Ok(())
}

pub(super) fn enable_member(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    set_enabled(slowpath, args, true).map(|()| "enabled".into())
}

pub(super) fn disable_member(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    set_enabled(slowpath, args, false).map(|()| "disabled".into())
}

pub(super) fn hash(_: &Slowpath, args: &[&str]) -> Outcome {
    let number = |at: usize| args.get(at).map_or(Some(0), |text| text.parse::<u32>().ok());
    let vlan = number(1).ok_or("invalid vlan")?;
    let basis = number(2).ok_or("invalid basis")?;
    let mac = parse_mac(args[0]).ok_or("invalid mac")?;
    let vlan = u16::try_from(vlan & 0xffff).expect("masked to 16 bits");
    Ok((bond::hash_mac(mac, vlan, basis) as usize % bond::BUCKETS).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, config};

    #[test]
    fn arguments_of_hash() {
        let s = Scenario::new(&config(&["br0 p1"]));
        let check = |line: &str, expect: Result<&str, &str>| {
            let args: Vec<&str> = line.split(' ').collect();
            assert_eq!(hash(&s.slowpath, &args), expect.map(str::to_owned).map_err(str::to_owned), "{line}");
        };
        check("00:11:22:33:44:55", Ok("226"));
        check("00:11:22:33:44:55 10", Ok("69"));
        check("aa:bb:cc:dd:ee:ff 4095 77", Ok("57"));
        check("aa:bb:cc:dd:ee:ff 5000", Ok("189"));
        check("mac", Err("invalid mac"));
        check("mac vlan", Err("invalid vlan"));
        check("mac vlan basis", Err("invalid vlan"));
        check("aa:bb:cc:dd:ee:ff 1 x", Err("invalid basis"));
        assert_eq!(show(&s.slowpath, &["bond0"]), Err("no such bond".into()));
        assert_eq!(list(&s.slowpath, &[]).unwrap(), "bond\ttype\trecircID\tmembers\n");
    }
}
