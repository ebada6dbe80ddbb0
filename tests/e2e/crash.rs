//! Ends without warning: what was committed is there again, and the switch works on.

use crate::rig::{Db, Host, Setup, assert_has, assert_lacks, is_stock, wait_until};
use std::time::Duration;

#[test]
fn committed_configuration_survives_kill_9_at_any_moment() {
    let host = Host::with(Setup { db: Db::Embedded, words: "" });
    host.bridge("br0", "");
    let mut committed: u32 = 0;
    for round in 0..6_u64 {
        // A client that commits one number after the other, until the daemon is shot from under it.
        let writer = {
            let mut commands: Vec<_> = (committed + 1..committed + 200)
                .map(|n| {
                    let mut command = host.command("ovs-vsctl");
                    command.args(["--no-wait", "--timeout=5", "set", "bridge", "br0", &format!("external_ids:n={n}")]);
                    (n, command)
                })
                .collect();
            std::thread::spawn(move || {
                let done = commands.iter_mut().map_while(|(n, c)| (crate::rig::run(c).code == 0).then_some(*n));
                done.last()
            })
        };
        std::thread::sleep(Duration::from_millis(150 + round * 37));
        host.kill_daemon();
        if is_stock() {
            // Its database is another process, which lives on.
            committed = writer.join().unwrap().unwrap_or(committed);
        } else {
            committed = writer.join().unwrap().unwrap_or(committed);
            assert!(round > 0 || committed > 0, "nothing was committed");
        }
        host.start_daemon();
        let found: u32 = host.column("bridge", "br0", "external_ids:n").parse().unwrap();
        // The one under way may have been committed without its client hearing of it.
        assert!(found == committed || found == committed + 1, "{found} after {committed} was committed");
        committed = found;
    }
    assert_eq!(host.vsctl("list-br"), "br0\n");
    // The file is one that OVS's own tool reads.
    let text = host.tool(
        "ovsdb-tool",
        "query conf.db [\"Open_vSwitch\",{\"op\":\"select\",\"table\":\"Bridge\",\"where\":[],\"columns\":[\"external_ids\"]}]",
    );
    assert_has(&text, &[&format!("[\"n\",\"{committed}\"]")]);
}

#[test]
fn a_shot_switch_comes_back_with_its_ports_and_forwards() {
    let host = Host::new();
    let (a, _b) = host.pair("");
    a.reaches("10.0.0.2");
    for _ in 0..3 {
        host.kill_daemon();
        host.start_daemon();
        wait_until("containers reach each other again", || a.ping("10.0.0.2", 1, "") == 1);
        a.reaches("10.0.0.2");
        assert_eq!(host.column("interface", "p1", "ofport"), "1");
    }
}

#[test]
fn a_restart_in_good_order_keeps_numbers_and_identity() {
    let host = Host::new();
    host.bridge("br0", "");
    for name in ["x1", "x2", "x3"] {
        host.ns.ip(&format!("link add {name} type veth peer name y{name}"));
        host.vsctl(&format!("add-port br0 {name}"));
    }
    host.vsctl("del-port x1");
    let before: Vec<_> = ["x2", "x3"].map(|p| host.column("interface", p, "ofport")).into();
    let id = host.column("bridge", "br0", "datapath_id");
    host.end_daemon("");
    host.start_daemon();
    let after: Vec<_> = ["x2", "x3"].map(|p| host.column("interface", p, "ofport")).into();
    assert_eq!(before, after);
    assert_eq!(host.column("bridge", "br0", "datapath_id"), id);
    assert_has(&host.ofctl("show br0"), &["(x2)", "(x3)"]);
    assert_lacks(&host.ofctl("show br0"), &["(x1)"]);
}

#[test]
fn a_second_daemon_on_the_same_folder_gives_way() {
    let host = Host::new();
    host.bridge("br0", "");
    let pid = host.pid();
    let program = if is_stock() { "/usr/sbin/ovs-vswitchd".into() } else { crate::rig::binary("ovs-vswitchd") };
    let mut command = host.command("timeout");
    command.arg("5").arg(program).args(["--detach", "--no-chdir", "--pidfile", "-vconsole:off"]);
    let ran = crate::rig::run(&mut command);
    assert_ne!(ran.code, 0, "{ran:?}");
    assert_eq!(host.pid(), pid);
    assert!(host.is_up());
    assert_eq!(host.vsctl("list-br"), "br0\n");
}

#[test]
fn a_monitor_writes_down_what_the_daemon_died_of() {
    // The database lives on: a daemon goes into the background once it has read its configuration.
    let host = Host::with(Setup { db: Db::External, words: "" });
    host.end_daemon("");
    let program = if is_stock() { "/usr/sbin/ovs-vswitchd".into() } else { crate::rig::binary("ovs-vswitchd") };
    let (log, pidfile) = (host.file("monitored.log"), host.file("monitored.pid"));
    let mut command = host.command(program.to_str().unwrap());
    command.args(["--detach", "--monitor", "--no-chdir", "-vconsole:off", "--unixctl=none"]);
    command.arg(format!("--log-file={}", log.display())).arg(format!("--pidfile={}", pidfile.display()));
    let ran = crate::rig::run(&mut command);
    assert_eq!(ran.code, 0, "{ran:?}");
    let pid = || std::fs::read_to_string(&pidfile).unwrap_or_default().trim().parse::<i32>().ok();
    let first = pid().unwrap();
    let signal = |pid: i32, signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    signal(first, nix::sys::signal::Signal::SIGSEGV);
    wait_until("another daemon is there", || pid().is_some_and(|pid| pid != first));
    signal(pid().unwrap(), nix::sys::signal::Signal::SIGTERM);
    let died = format!("|ERR|1 crashes: pid {first} died, killed (Segmentation fault)");
    wait_until("both ends are in the log", || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.contains(&died) && text.contains("died, killed (Terminated)")
    });
}
