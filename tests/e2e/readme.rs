//! What README.md tells a newcomer to type, typed.

use crate::rig::{Db, Host, Setup, assert_has, binary, is_stock, must};

/// The commands under a heading of README.md, from the first that contains `from`.
fn commands(heading: &str, from: &str) -> String {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let commands = section.lines().filter_map(|line| line.strip_prefix("    "));
    commands.skip_while(|command| !command.contains(from)).flat_map(|command| [command, "\n"]).collect()
}

#[test]
fn the_readme_runs_as_it_stands() {
    if is_stock() {
        return; // It speaks of Ferrule alone.
    }
    let host = Host::bare(Setup { db: Db::Embedded, words: "" });
    host.ns.ip("link add eth1 type veth peer name other");
    // Its folders are this machine's.
    let mut script = commands("Run it", "export OVS_RUNDIR");
    for folder in ["/run/ferrule", "/var/log/ferrule", "/var/lib/ferrule"] {
        assert!(script.contains(folder), "{script}");
        script = script.replace(folder, host.file("").to_str().unwrap());
    }
    let programs = binary("ferrule").parent().unwrap().display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    let shown = must(host.command("sh").args(["-exc", &script]).env("PATH", path));
    assert_has(&shown, &["Bridge br0", "eth1"]);
}
