//! The life of a daemon process, seen from outside: detaching, the pidfile, the monitor, signals, the control socket and the log, with
//! OVS's own ovs-appctl as the client.

#![allow(clippy::unwrap_used, reason = "in a test, to panic is to speak")]

mod common;

use common::{Sandbox, alive, signal, wait_until};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

#[test]
fn detach_returns_when_everything_stands_and_exit_removes_it() {
    let sandbox = Sandbox::new();
    let pid = sandbox.start("--embedded-db=own.db -vconsole:off");
    assert!(alive(pid));
    assert!(sandbox.file(&format!("ovs-vswitchd.{pid}.ctl")).exists());
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "ovs-vswitchd\n");
    assert_eq!(sandbox.appctl(&["version"]).unwrap(), "ovs-vswitchd (Open vSwitch) 3.7.1\n");
    let again = sandbox.run(sandbox.daemon("--pidfile"));
    let expect =
        format!("ovs-vswitchd: {}: already running as pid {pid}, aborting\n", sandbox.file("ovs-vswitchd.pid").display());
    assert_eq!((again.0, again.2), (1, expect));
    assert_eq!(sandbox.appctl(&["exit"]).unwrap(), "");
    wait_until("the daemon ends", || !alive(pid));
    let left: Vec<String> =
        fs::read_dir(sandbox.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    let mut left = left;
    left.sort();
    assert_eq!(left, [".own.db.~lock~", "ovs-vswitchd.log", "own.db"]);
}

#[test]
fn startup_errors_reach_the_one_who_asked() {
    let sandbox = Sandbox::new();
    for words in [
        "--detach --no-chdir --pidfile --unixctl=nonexistent/unixctl",
        "--detach --monitor --no-chdir --pidfile --unixctl=nonexistent/unixctl",
    ] {
        let (code, _, err) = sandbox.run(sandbox.daemon(words));
        assert_eq!(code, 1, "{words}");
        assert!(err.contains("could not initialize control socket"), "{err}");
        assert!(!sandbox.file("ovs-vswitchd.pid").exists());
    }
    let (code, _, err) = sandbox.run(sandbox.daemon("--detach --foo"));
    assert_eq!((code, err.as_str()), (1, "ovs-vswitchd: unrecognized option '--foo'\n"));
}

#[test]
fn the_monitor_restarts_after_a_crash_and_ends_with_the_daemon() {
    let sandbox = Sandbox::new();
    let first = sandbox.start("--embedded-db=own.db --monitor -vconsole:off");
    let monitor = parent(first);
    // Not SEGV: Rust's runtime takes the first one that comes from outside for a false alarm.
    signal(first, "ABRT");
    wait_until("another daemon", || sandbox.pid().is_some_and(|pid| pid != first && alive(pid)));
    let second = sandbox.pid().unwrap();
    assert_eq!(parent(second), monitor);
    wait_until("it answers", || sandbox.appctl(&["version"]).is_ok());
    signal(second, "TERM");
    wait_until("all end", || !alive(second) && !alive(monitor) && sandbox.pid().is_none());
}

fn parent(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|l| l.strip_prefix("PPid:\t")).unwrap().parse().unwrap()
}

#[test]
fn termination_signals_clean_up() {
    for name in ["TERM", "INT", "HUP"] {
        let sandbox = Sandbox::new();
        let pid = sandbox.start("--embedded-db=own.db -vconsole:off");
        signal(pid, name);
        wait_until("the daemon ends", || !alive(pid));
        assert!(sandbox.pid().is_none());
        assert!(!sandbox.file(&format!("ovs-vswitchd.{pid}.ctl")).exists());
        assert!(sandbox.log().contains("|fatal_signal|WARN|terminating with signal"), "{}", sandbox.log());
    }
}

#[test]
fn a_foreground_daemon_with_a_named_socket() {
    let sandbox = Sandbox::new();
    let mut child = sandbox.spawn(sandbox.daemon("--unixctl=ctl2 --pidfile=second.pid -vconsole:off"));
    let target = sandbox.file("ctl2").display().to_string();
    wait_until("it answers", || sandbox.appctl(&["--target", &target, "version"]).is_ok());
    assert_eq!(fs::read_to_string(sandbox.file("second.pid")).unwrap(), format!("{}\n", child.0.id()));
    sandbox.appctl(&["--target", &target, "exit"]).unwrap();
    assert!(child.0.wait().unwrap().success());
}

#[test]
fn the_log_follows_vlog_commands() {
    let sandbox = Sandbox::new();
    sandbox.start("--embedded-db=own.db -vconsole:off -vunixctl -vPATTERN:file:%c|%p|%m");
    assert!(sandbox.log().starts_with("vlog|INFO|opened log file"), "{}", sandbox.log());
    sandbox.appctl(&["version"]).unwrap();
    assert!(sandbox.log().contains("\nunixctl|DBG|received request version[], id=0\n"));
    sandbox.appctl(&["vlog/set", "unixctl:file:info"]).unwrap();
    fs::rename(sandbox.file("ovs-vswitchd.log"), sandbox.file("old")).unwrap();
    sandbox.appctl(&["vlog/reopen"]).unwrap();
    assert!(fs::read_to_string(sandbox.file("old")).unwrap().ends_with("vlog|INFO|closing log file\n"));
    assert!(sandbox.log().starts_with("vlog|INFO|opened log file"));
    sandbox.appctl(&["vlog/set", "pattern:file:I<3OVS|%m"]).unwrap();
    assert_eq!(
        sandbox.appctl(&["vlog/set", "nonexistent"]).unwrap_err(),
        "no destination, level, or module \"nonexistent\"\novs-appctl: ovs-vswitchd: server returned an error\n"
    );
    sandbox.appctl(&["vlog/set", "pattern:file:%c|%p|%m"]).unwrap();
    sandbox.appctl(&["vlog/message", "maintenance", "begins"]).unwrap();
    assert!(sandbox.log().ends_with("\nvlog|INFO|maintenance begins\n"), "{}", sandbox.log());
    sandbox.appctl(&["vlog/set", "vlog:file:warn"]).unwrap();
    sandbox.appctl(&["vlog/message", "not wanted"]).unwrap();
    assert!(!sandbox.log().contains("not wanted"));
    let list = sandbox.appctl(&["vlog/list"]).unwrap();
    assert!(list.contains("\nunixctl            OFF        DBG       INFO\n"), "{list}");
}

#[test]
fn the_test_clock_and_its_refusals() {
    let sandbox = Sandbox::new();
    sandbox.start("--embedded-db=own.db -vconsole:off --enable-dummy");
    assert_eq!(sandbox.appctl(&["time/stop"]).unwrap(), "");
    assert_eq!(sandbox.appctl(&["time/warp", "1000", "100"]).unwrap(), "warped\n");
    assert_eq!(sandbox.appctl(&["time/warp", "1000"]).unwrap(), "warped\n");
    for words in [&["time/warp", "0"][..], &["time/warp", "x"], &["time/warp", "100", "-1"]] {
        assert!(sandbox.appctl(words).unwrap_err().starts_with("invalid MSECS\n"));
    }
    assert!(sandbox.appctl(&["time/warp"]).unwrap_err().starts_with("\"time/warp\" command requires at least 1 arguments\n"));
    assert!(sandbox.appctl(&["nosuch"]).unwrap_err().starts_with("\"nosuch\" is not a valid command (use \"list-commands\""));
}

#[test]
fn a_silent_client_is_asked_whether_it_is_there_and_then_given_up() {
    let sandbox = Sandbox::new();
    sandbox.start("--embedded-db=own.db -vconsole:off --enable-dummy");
    sandbox.vsctl("add-br br0 -- set Bridge br0 datapath_type=dummy");
    sandbox.appctl(&["time/stop"]).unwrap();
    let mut client = UnixStream::connect(sandbox.file("br0.mgmt")).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.write_all(&[1, 0, 0, 8, 0, 0, 0, 1]).unwrap();
    assert_eq!(message_type(&mut client), Some(0), "hello");
    // A barrier's reply shows that the conversation is under way.
    client.write_all(&[1, 18, 0, 8, 0, 0, 0, 2]).unwrap();
    assert_eq!(message_type(&mut client), Some(19), "barrier reply");
    sandbox.appctl(&["time/warp", "59000"]).unwrap();
    client.write_all(&[1, 18, 0, 8, 0, 0, 0, 3]).unwrap();
    assert_eq!(message_type(&mut client), Some(19), "nothing was asked before a minute was over");
    sandbox.appctl(&["time/warp", "61000"]).unwrap();
    assert_eq!(message_type(&mut client), Some(2), "echo request");
    sandbox.appctl(&["time/warp", "61000"]).unwrap();
    assert_eq!(message_type(&mut client), None);
    assert!(sandbox.log().contains("no response to inactivity probe after 60 seconds, disconnecting"), "{}", sandbox.log());
}

/// The type of the next OpenFlow message; `None` at the end.
fn message_type(stream: &mut UnixStream) -> Option<u8> {
    let mut header = [0; 8];
    stream.read_exact(&mut header).ok()?;
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]])) - 8];
    stream.read_exact(&mut body).unwrap();
    Some(header[1])
}

#[test]
fn a_deep_run_folder() {
    let sandbox = Sandbox::new();
    let deep = sandbox.file(&"d".repeat(120));
    fs::create_dir(&deep).unwrap();
    let mut daemon = sandbox.daemon("--detach --no-chdir --pidfile -vconsole:off --embedded-db=own.db");
    daemon.env("OVS_RUNDIR", &deep);
    assert_eq!(sandbox.run(daemon).0, 0);
    let mut appctl = sandbox.command("ovs-appctl");
    appctl.env("OVS_RUNDIR", &deep).arg("exit");
    assert_eq!(sandbox.run(appctl), (0, String::new(), String::new()));
}
