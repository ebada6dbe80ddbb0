//! What the switch costs when nothing happens.

use crate::rig::{Host, number_after};
use std::time::Duration;

/// Processor time of a process so far, in ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name may have blanks; fields are counted behind its bracket. utime and stime are fields 14 and 15.
    let rest = stat.rsplit(") ").next().unwrap();
    let fields: Vec<u64> = rest.split(' ').skip(11).take(2).map(|f| f.parse().unwrap()).collect();
    fields.iter().sum()
}

#[test]
fn an_idle_switch_sleeps() {
    let host = Host::new();
    let (a, b) = host.pair("");
    for i in 3..8 {
        host.loose_port("br0", &format!("p{i}"), i);
    }
    a.reaches("10.0.0.2");
    b.reaches("fd00::1");
    std::thread::sleep(Duration::from_secs(1));
    let before = ticks(host.pid());
    std::thread::sleep(Duration::from_secs(5));
    let spent_ms = (ticks(host.pid()) - before) * 10;
    // One per cent of five seconds.
    assert!(spent_ms <= 50, "{spent_ms} ms of processor time in 5 s of idleness");
}

#[test]
fn memory_stays_where_it_is_under_churn() {
    let host = Host::new();
    host.bridge("br0", "fail_mode=secure");
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        number_after(&line.replace(['\t', ' '], ""), "VmRSS:").unwrap()
    };
    let text: String =
        (0..2_000).map(|i| format!("tcp,tp_dst={i},nw_src=10.{}.{}.0/24,actions=output:1\n", i / 250, i % 250)).collect();
    std::fs::write(host.file("many"), text).unwrap();
    let churn = || {
        host.ofctl("--bundle add-flows br0 many");
        host.ofctl("del-flows br0");
    };
    // What one round leaves swings by megabytes with the pools that the allocator keeps for each thread: the most of twenty is compared.
    let most = || {
        let rounds = (0..20).map(|_| {
            churn();
            resident()
        });
        rounds.max().unwrap()
    };
    // The pools are filled.
    most();
    let (before, after) = (most(), most());
    assert!(after < before + 15_000, "resident memory grew from {before} to {after} kB");
}
