//! Our tools beside OVS's, and our daemon beside OVS's: the commands of `alike.txt` and `alike_daemons.txt` end alike and say the same, byte for
//! byte, but for names of the program, times, numbers of messages and UUIDs. Random tables, packets and messages come to the same in both daemons.

use crate::rig::{Db, Host, Ran, Setup, binary, is_stock, number_after, run};
use std::process::Command;
use std::time::Duration;

const COMMANDS: &str = include_str!("alike.txt");
const TO_DAEMONS: &str = include_str!("alike_daemons.txt");
/// How often a question is asked again whose answer may follow from a packet that is still under way.
const PATIENCE: usize = 50;
const TOOLS: [(&str, &str); 4] =
    [("vsctl", "ovs-vsctl"), ("ofctl", "ovs-ofctl"), ("appctl", "ovs-appctl"), ("dpctl", "ovs-dpctl")];

/// Words without what differs from run to run.
fn plain(text: &str) -> String {
    // After a failed negotiation, OVS's client says which of the two came first: its own word to the switch, or the switch's end.
    let text = text.replace("socket (Broken pipe)", "socket (Protocol error)");
    let word = |word: &str| {
        let is_uuid =
            |part: &str| part.len() == 36 && part.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()) && part.contains('-');
        let (time, rest) = word.split_once('|').unwrap_or(("", word));
        match rest.trim_matches(|c: char| !c.is_ascii_hexdigit() && c != '-') {
            part if is_uuid(part) => rest.replace(part, "UUID"),
            _ if rest.starts_with("duration=") => "duration".to_owned(),
            _ if rest.starts_with("(xid=") => "(xid)".to_owned(),
            _ if time.ends_with('Z') => format!("TIME|{rest}"),
            _ => word.to_owned(),
        }
    };
    let lines = text.split('\n').map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

/// OVS's program of a line, and its arguments.
fn command(line: &str) -> (&str, Vec<&str>) {
    let mut words = line.split(' ');
    let first = words.next().unwrap();
    let tool = TOOLS.iter().find(|(short, _)| *short == first).map_or(first, |(_, tool)| *tool);
    (tool, words.collect())
}

#[test]
fn our_tools_say_what_ovs_tools_say() {
    if is_stock() {
        return;
    }
    let host = Host::with(Setup { db: Db::Embedded, words: "--enable-dummy --disable-system" });
    for (_, tool) in TOOLS.into_iter().chain([("", "ovsdb-client"), ("", "ovsdb-tool")]) {
        std::os::unix::fs::symlink(binary("ferrule"), host.file(tool)).unwrap();
    }
    // More flows than are sent one by one, one of them refused: to a group that is not there.
    let flow = |n: u32| format!("table=9,ip,nw_dst=10.0.{n}.0/24,actions={}\n", if n == 30 { "group:77" } else { "drop" });
    std::fs::write(host.file("many"), (0..60).map(flow).collect::<String>()).unwrap();
    // Bundles: of the first, parts are refused as they come; of the second, one when it is taken up.
    for (name, text) in [
        ("hidden", "table=254,tcp,actions=drop\nudp,actions=drop\ntable=254,udp,actions=group:77\n"),
        ("overlap", "table=9,priority=9,tcp,actions=1\ncheck_overlap,table=9,priority=9,tcp,tp_dst=80,actions=1\n"),
        ("groups", "group_id=8,type=all,bucket=output:2\ngroup_id=8,type=all,bucket=output:1\n"),
        ("mixed", "group group_id=8,type=all,bucket=output:2\nflow tcp,actions=group:77\n"),
    ] {
        std::fs::write(host.file(name), text).unwrap();
    }
    let mut different = Vec::new();
    for line in COMMANDS.lines().filter(|line| !line.starts_with('#')) {
        let (once, line) = line.strip_prefix("once ").map_or((false, line), |line| (true, line));
        let (tool, words) = command(line);
        let of = |program: &str| {
            let Ran { code, out, err } = run(host.command(program).env("OVS_CTL_TIMEOUT", "10").args(&words));
            // Our tool names the path by which it was called.
            let own = |text: &str| plain(&text.replace(program, tool));
            (code, own(&out), own(&err))
        };
        let theirs = of(tool);
        if once {
            assert_eq!(theirs.0, 0, "{line}: {theirs:?}");
            continue;
        }
        let ours = of(host.file(tool).to_str().unwrap());
        if ours != theirs {
            different.push(format!("{line}\n  OVS:  {theirs:?}\n  ours: {ours:?}"));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

#[test]
fn our_daemon_says_what_ovs_daemon_says() {
    if is_stock() {
        return;
    }
    let words = "--enable-dummy --disable-system";
    let hosts = [Host::stock_with(words), Host::with(Setup { db: Db::Embedded, words })];
    let ask = |host: &Host, line: &str| {
        let (tool, words) = command(line);
        let Ran { code, out, err } = run(host.command(tool).env("OVS_CTL_TIMEOUT", "10").args(words));
        let dir = host.file("").display().to_string();
        let own = |text: &str| plain(&text.replace(dir.trim_end_matches('/'), "DIR"));
        (code, own(&out), own(&err))
    };
    let mut different = Vec::new();
    for line in TO_DAEMONS.lines().filter(|line| !line.starts_with('#')) {
        let both = || hosts.each_ref().map(|host| ask(host, line));
        let asks = ["dump", "show", "-get-"].iter().any(|word| line.contains(word));
        let mut answers = both();
        for _ in 0..if asks { PATIENCE } else { 0 } {
            if answers[0] == answers[1] {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            answers = both();
        }
        let [theirs, ours] = answers;
        if ours != theirs {
            different.push(format!("{line}\n  OVS:  {theirs:?}\n  ours: {ours:?}"));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

/// Runs a script of `tests/oracle`, and holds that nothing differed and that it compared as much as that.
fn oracle(script: &str, few: &[&str], compared: &[(&str, u64)]) {
    if is_stock() {
        return;
    }
    let script = format!("{}/oracle/{script}", env!("CARGO_MANIFEST_DIR"));
    let Ran { code, out, err } = run(Command::new("python3").arg(script).arg(binary("ovs-vswitchd")).args(few));
    assert_eq!(code, 0, "{out}{err}");
    for (what, least) in compared {
        assert!(number_after(&out, &format!("{what} ")).is_some_and(|n| n >= *least), "{what}: {out}{err}");
    }
}

/// Twelve cases of `tests/oracle/tables.py`, which says how to see more and other ones.
#[test]
fn our_pipeline_does_what_ovs_pipeline_does() {
    let few = ["--seed", "0", "--count", "12", "--traces", "15", "--packets", "6", "--messages", "60"];
    // Messages that both took, traces, packets in and out, changed messages.
    oracle("tables.py", &few, &[("accepted", 150), ("traces", 180), ("packets", 70), ("left", 30), ("messages", 700)]);
}

/// A scene of each theme of `tests/oracle/steps.py`, which says the same.
#[test]
fn our_switch_does_what_ovs_switch_does() {
    let few = ["--seed", "0", "--count", "16"];
    oracle("steps.py", &few, &[("scenes", 16), ("traces", 15), ("packets", 140), ("left", 90), ("looks", 70)]);
}
