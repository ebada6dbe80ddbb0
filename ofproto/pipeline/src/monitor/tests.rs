//! Flow monitors by text: what was done to the rules, what a watcher tells of it.

use super::*;
use crate::flow_mod::{self, Journal};
use crate::scenario::{Scenario, config};
use flow::matching::Match;
use openflow::text::Names;
use openflow::text::flow::{FlowSyntax, parse_flow};
use openflow::wire::Splitter;
use openflow::{GroupId, OfPort, print};

struct Bench {
    scenario: Scenario,
    watcher: Arc<Watcher>,
}

/// A bridge with a watcher that has one monitor (flags as in OpenFlow 1.4).
fn bench(version: Version, flags: u16) -> Bench {
    let scenario = Scenario::new(&config(&["br0 p1@1 p2@2"]));
    let (id, watchers) = {
        let world = scenario.slowpath.read_world();
        (world.bridge_named("br0").unwrap().id, Arc::clone(&world.watchers))
    };
    let watcher = watchers.watcher(id, version);
    let bench = Bench { scenario, watcher };
    bench.request(&[request(1, flags)]).unwrap();
    bench
}

fn request(id: u32, flags: u16) -> FlowMonitorRequest {
    let matching = Match::default();
    FlowMonitorRequest { id, command: 0, flags, out_port: OfPort::ANY, out_group: GroupId::ANY, table: TableId::ALL, matching }
}

const ALL: u16 = 0x1f;

impl Bench {
    fn request(&self, requests: &[FlowMonitorRequest]) -> Result<Vec<FlowUpdate>, OfError> {
        let world = self.scenario.slowpath.write_world();
        self.watcher.request(world.bridge_named("br0").unwrap(), requests)
    }

    fn flow_mod(&self, text: &str) {
        self.scenario.flow_mod("br0", text).unwrap();
    }

    /// A flow-mod of the watcher's own connection.
    fn own(&self, text: &str, xid: u32) {
        let fm = parse_flow(text, FlowSyntax::Any, &Names::default()).unwrap().flow;
        let world = self.scenario.slowpath.write_world();
        let mut journal = Journal::default();
        flow_mod::apply(&world, self.watcher.bridge, &fm, 0, &mut journal).unwrap();
        journal.commit_by(&world, Some(Origin { watcher: &self.watcher, xid: Xid(xid) }));
    }

    /// What waits, in ovs-ofctl's text, a line per event or message.
    fn told(&self) -> Vec<String> {
        let mut splitter = Splitter::default();
        splitter.push(&self.watcher.take());
        let mut lines = Vec::new();
        while let Some(message) = splitter.next_message().unwrap() {
            let text = print::format_bytes(message, &Names::default(), 0);
            let events = text.lines().filter(|l| l.contains("event=") || l.contains("FLOW_MONITOR_")).map(str::trim);
            lines.extend(events.map(|l| l.replace(" (xid=0x0)", "")));
        }
        lines
    }

    fn drained(&self) {
        let world = self.scenario.slowpath.read_world();
        self.watcher.drained(world.bridge_named("br0").unwrap());
    }
}

#[test]
fn each_change_is_told_as_what_it_is() {
    let b = bench(Version::V10, ALL);
    b.flow_mod("in_port=1,actions=output:2");
    b.flow_mod("in_port=1,cookie=5,actions=drop");
    b.flow_mod("modify in_port=1,actions=drop");
    b.flow_mod("modify in_port=1,actions=output:1");
    b.flow_mod("delete");
    assert_eq!(
        b.told(),
        [
            "event=ADDED table=0 cookie=0 in_port=1 actions=output:2",
            "event=ADDED table=0 cookie=0x5 in_port=1",
            "event=MODIFIED table=0 cookie=0x5 in_port=1 actions=output:1",
            "event=DELETED reason=delete table=0 cookie=0x5 in_port=1 actions=output:1",
        ],
        "replacing is adding, and a modification that modifies nothing is none"
    );
}

#[test]
fn own_changes_are_abbreviated_unless_asked_for() {
    let b = bench(Version::V14, ALL);
    b.own("in_port=1,actions=output:2", 7);
    b.own("delete", 8);
    assert_eq!(b.told(), ["event=ABBREV xid=0x7", "event=ABBREV xid=0x8"]);
    let b = bench(Version::V14, ALL | flags::OWN);
    b.own("in_port=1,actions=output:2", 7);
    assert_eq!(b.told(), ["event=ADDED table=0 cookie=0 in_port=1 actions=output:2"]);
}

/// As of a packet-out that is sent alone: the connection asked for a packet, not for rules.
#[test]
fn what_packets_of_a_bundle_teach_is_told_in_full() {
    let b = bench(Version::V14, ALL);
    let world = b.scenario.slowpath.write_world();
    let done = |text: &str| {
        let fm = parse_flow(text, FlowSyntax::Any, &Names::default()).unwrap().flow;
        let mut journal = Journal::default();
        flow_mod::apply(&world, b.watcher.bridge, &fm, 0, &mut journal).unwrap();
        journal
    };
    let mut journal = done("reg1=1,actions=drop");
    journal.append_taught(done("reg1=2,actions=drop"));
    journal.append_taught(Journal::default());
    journal.changes.extend(done("reg1=3,actions=drop").changes);
    journal.append_taught(done("reg1=4,actions=drop"));
    journal.commit_by(&world, Some(Origin { watcher: &b.watcher, xid: Xid(7) }));
    let added = |n| format!("event=ADDED table=0 cookie=0 reg1=0x{n}");
    assert_eq!(b.told(), ["event=ABBREV xid=0x7".to_owned(), added(2), added(4)]);
}

#[test]
fn what_is_there_comes_first_and_once() {
    let b = bench(Version::V14, flags::ADD);
    b.flow_mod("in_port=1,actions=output:2");
    b.flow_mod("table=3,udp,actions=drop");
    let initial = b.request(&[request(2, ALL), request(3, flags::INITIAL)]).unwrap();
    assert_eq!(initial.len(), 2, "two monitors want them, and each comes once");
    assert_eq!(b.request(&[request(4, ALL), request(2, ALL)]), Err(OfError::OfpmofcMonitorExists));
    assert_eq!(b.watcher.cancel(4), Err(OfError::OfpmofcUnknownMonitor), "of a request that fails nothing stays");
    assert_eq!(b.watcher.cancel(2), Ok(()));
    let bad = FlowMonitorRequest { table: TableId(254), ..request(9, ALL) };
    assert!(b.request(&[bad]).is_ok_and(|initial| initial.is_empty()));
}

#[test]
fn a_peer_that_does_not_read_hears_what_it_missed() {
    let b = bench(Version::V10, ALL);
    b.flow_mod("in_port=2,actions=output:2");
    b.flow_mod("in_port=3,actions=output:2");
    let mut n = 0;
    while !b.watcher.is_paused() {
        b.flow_mod(&format!("reg1={n},cookie=1,actions=drop"));
        n += 1;
    }
    assert!(n > 100);
    b.flow_mod("reg2=1,cookie=1,actions=drop");
    b.flow_mod("in_port=1,cookie=3,actions=drop");
    b.flow_mod("modify in_port=2,cookie=2,actions=output:2");
    b.flow_mod("modify in_port=3,actions=output:1");
    b.flow_mod("delete in_port=3");
    b.flow_mod("delete cookie=1/-1");
    let told = b.told();
    let count = |lines: &[String], what: &str| lines.iter().filter(|l| l.contains(what)).count();
    assert_eq!(count(&told, "ADDED table=0 cookie=0x1"), n, "before the pause");
    assert_eq!(count(&told, "FLOW_MONITOR_PAUSED"), 1);
    assert_eq!(
        count(&told, "DELETED reason=delete table=0 cookie=0x1"),
        n,
        "rules that came and went during the pause are not told of"
    );
    assert_eq!(count(&told, "in_port=3"), 2, "added before, deleted during the pause");
    b.drained();
    let mut told = b.told();
    told.sort();
    assert_eq!(
        told,
        [
            "NXT_FLOW_MONITOR_RESUMED:",
            "event=ADDED table=0 cookie=0x3 in_port=1",
            "event=MODIFIED table=0 cookie=0x2 in_port=2 actions=output:2",
        ]
    );
    b.drained();
    assert!(b.told().is_empty() && !b.watcher.is_paused());
}

#[test]
fn nobody_is_told_what_nobody_asked_for() {
    let b = bench(Version::V13, flags::REMOVED);
    let watching = FlowMonitorRequest { out_port: OfPort(2), command: 1, ..request(1, ALL) };
    b.flow_mod("in_port=1,actions=output:2");
    assert!(b.told().is_empty());
    b.request(&[watching]).unwrap();
    b.flow_mod("modify in_port=1,actions=output:1");
    assert_eq!(b.told(), ["event=MODIFIED table=0 cookie=0 in_port=1 actions=output:1"], "it used to output to the port");
    b.flow_mod("modify in_port=1,actions=drop");
    assert!(b.told().is_empty());
    drop(b.watcher);
    assert_eq!(b.scenario.slowpath.read_world().watchers.active.load(Ordering::Acquire), 0);
}
