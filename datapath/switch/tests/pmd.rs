//! Workers and receive queues: who polls what as masks, wishes and ports change, and that packets pass meanwhile.
#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod common;

use common::{Bench, frame, output, request};
use datapath::{Options, PerfView, Switch, Topology};
use flow::action::{Action, Cookie, Userspace};
use flow::seam::{Execute, FlowPut, PortRequest, PutMode, Upcall, UpcallKind};
use flow::{Datapath, DpPort};
use port::Device;
use std::sync::Arc;
use std::time::Duration;

const TCP: &str = "in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),ipv4(src=10.0.0.1,dst=10.0.0.2,proto=6,tos=0,ttl=64,frag=no),tcp(src=1,dst=2)";

fn switch(nodes: &[u32]) -> Switch {
    Switch::new("dummy", "ovs-dummy", &Options { topology: Topology::imaginary(nodes), ..Options::default() }).unwrap()
}

fn configure(dp: &Switch, config: &str) {
    let pair = |word: &str| word.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap();
    dp.set_config(&config.split_whitespace().map(pair).collect::<Vec<_>>());
}

fn pmd(name: &str, n_rxq: &str, affinity: &str) -> PortRequest {
    PortRequest {
        kind: "dummy-pmd".to_owned(),
        options: vec![("n_rxq".to_owned(), n_rxq.to_owned())],
        affinity: affinity.to_owned(),
        ..request(name)
    }
}

/// Port, queue and core of each queue.
fn places(dp: &Switch) -> String {
    let text = dp.pmd_rxq_show(None, 0);
    let (mut core, mut places) = ("", Vec::new());
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["pmd", "thread", "numa_id", _, "core_id", id] => core = id,
            ["port:", name, "queue-id:", number, ..] => places.push(format!("{name}.{number}@{core}")),
            _ => {}
        }
    }
    places.sort();
    places.join(" ").replace(':', "")
}

#[test]
fn queues_follow_masks_and_wishes() {
    let dp = switch(&[0, 0, 0, 0]);
    let port = dp.port_add(&pmd("p1", "4", "0:3,1:2")).unwrap();
    // Without a mask there is one worker on each node; those that were asked for are not there.
    assert_eq!(places(&dp), "p1.0@0 p1.1@0 p1.2@0 p1.3@0");
    configure(&dp, "pmd-cpu-mask=0xf pmd-rxq-assign=roundrobin");
    assert_eq!(places(&dp), "p1.0@3 p1.1@2 p1.2@0 p1.3@1");
    dp.port_set(port, &pmd("p1", "4", "")).unwrap();
    assert_eq!(places(&dp), "p1.0@0 p1.1@1 p1.2@2 p1.3@3");
    configure(&dp, "pmd-cpu-mask=0x6 pmd-rxq-assign=roundrobin");
    assert_eq!((places(&dp), dp.pmd_cores()), ("p1.0@1 p1.1@2 p1.2@1 p1.3@2".to_owned(), vec![1, 2]));
    dp.port_del(port).unwrap();
    assert_eq!((places(&dp), dp.pmd_cores()), (String::new(), vec![]));
}

#[test]
fn packets_pass_on_every_queue_whoever_polls_it() {
    let dp = switch(&[0, 0, 1]);
    for (i, port) in [pmd("p1", "3", ""), request("p2")].into_iter().enumerate() {
        assert_eq!(dp.port_add(&port).unwrap(), DpPort(u32::try_from(i).unwrap() + 1));
    }
    let out = dp.with_device(DpPort(2), Device::dummy).unwrap().unwrap();
    out.capture();
    let flow = common::megaflow(1, "recirc_id(0),in_port(1)", vec![output(2)]);
    dp.put(&[FlowPut { flow, mode: PutMode::Create, clear_stats: false }]).pop().unwrap().unwrap();
    for config in ["pmd-cpu-mask=1", "pmd-cpu-mask=7", "pmd-cpu-mask=6 pmd-rxq-assign=group", "pmd-cpu-mask=2"] {
        configure(&dp, config);
        for queue in 0..3 {
            dp.inject(DpPort(1), queue, &frame(TCP, 60)).unwrap();
            assert_eq!(out.captured().len(), 1, "{config} queue {queue}");
        }
    }
    // Port 2 is polled by the main thread's worker, which is in no display of queues.
    assert!(!dp.pmd_rxq_show(None, 0).contains("p2"));
    assert!(dp.pmd_stats_show(None).contains("main thread:\n  packets received: 0\n"));
    let core1 = dp.pmd_stats_show(Some(1));
    assert!(core1.starts_with("pmd thread numa_id 0 core_id 1:\n  packets received: "), "{core1}");
    assert!(core1.contains("  packets received: 3\n") || !core1.contains("  packets received: 0\n"), "{core1}");
    dp.pmd_stats_clear(Some(1));
    assert!(dp.pmd_stats_show(Some(1)).contains("  packets received: 0\n"));
}

#[test]
fn a_refused_change_leaves_the_port_as_it_was() {
    let dp = switch(&[0]);
    let memory = |n_rxq: &str| PortRequest { kind: "memory".to_owned(), ..pmd("m1", n_rxq, "") };
    let port = dp.port_add(&memory("2")).unwrap();
    assert!(dp.port_set(port, &memory("none")).is_err());
    assert_eq!(places(&dp), "m1.0@0 m1.1@0");
    dp.port_set(port, &memory("1")).unwrap();
    assert_eq!(places(&dp), "m1.0@0");
}

#[test]
fn metrics_are_kept_when_asked_for() {
    let dp = switch(&[0]);
    dp.port_add(&pmd("p1", "1", "")).unwrap();
    let view = PerfView { histograms: true, rounds: 3, milliseconds: 3 };
    assert!(!dp.pmd_perf_show(None, view).contains("Histograms"));
    configure(&dp, "pmd-perf-metrics=true pmd-sleep-max=20,0:30");
    dp.inject(DpPort(1), 0, &frame(TCP, 60)).unwrap();
    let text = dp.pmd_perf_show(None, view);
    assert!(text.contains("pmd thread numa_id 0 core_id 0:\n\n  Iterations: "), "{text}");
    assert!(text.contains("\nHistograms\n") && text.contains("\n   iter ") && text.contains("\n   ms "), "{text}");
    assert!(text.contains("  Rx packets:                    1  ("), "{text}");
    assert!(!text.contains("stage"), "{text}");
    dp.account_stages(true);
    dp.inject(DpPort(1), 0, &frame(TCP, 60)).unwrap();
    let text = dp.pmd_perf_show(None, PerfView { histograms: false, ..view });
    assert!(text.contains("\n\n  stage receive: ") && text.contains("\n  stage send: "), "{text}");
    let sleep = "Default max sleep:   20 us\npmd thread numa_id 0 core_id 0:\n  max sleep:   30 us\n";
    assert_eq!(dp.pmd_sleep_show(), sleep);
}

/// Whatever is told of a packet goes up in the lane of the receive queue that it came in by, also what a handler's part of its way tells.
#[test]
fn a_packet_stays_in_the_lane_of_its_receive_queue() {
    let dp = switch(&[0]);
    dp.port_add(&pmd("p1", "2", "")).unwrap();
    let up = || {
        let mut out = Vec::new();
        dp.upcalls(0, 64, Duration::ZERO, &mut out);
        out
    };
    for queue in 0..2 {
        dp.inject(DpPort(1), usize::from(queue), &frame(TCP, 60)).unwrap();
        let missed = up().remove(0);
        assert_eq!((missed.rx_queue, &missed.kind), (queue, &UpcallKind::Miss));
        let cookie = Cookie::SlowPath { reasons: 1, ofp_in_port: 1, bridge: 1 };
        let told = Action::Userspace(Box::new(Userspace { pid: 0, cookie, actions: false, tunnel_out_port: None }));
        let actions = Arc::new(vec![told, Action::Recirc(5)]);
        let Upcall { packet, key, rx_queue, .. } = missed;
        let results = dp.execute(vec![Execute { packet, key, actions, rx_queue, mtu: 0, probe: false }]);
        assert_eq!(results, [Ok(())]);
        assert_eq!(up().iter().map(|upcall| upcall.rx_queue).collect::<Vec<_>>(), [queue; 2]);
    }
}

/// A worker in the middle of a round has been told of a new port, and has not listened yet. Whoever was answered that the port is there may have
/// packets sent to it all the same.
#[test]
fn a_port_that_was_added_is_sent_to_at_once() {
    let bench = Bench::new(1, &[]);
    let (forwarded, mut sent) = (frame(TCP, 80), 1);
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let bench = &bench;
        let add = move || {
            let port = bench.dp.port_add(&request("p9")).unwrap();
            bench.dp.with_device(port, Device::dummy).unwrap().unwrap().capture();
            bench.put(1, "in_port(1)", vec![output(9)]);
            // Nobody listens if the round has ended first.
            let _ = tell.send(());
        };
        // The first frame wakes the worker, which then waits in its round for the rest of them.
        let first = std::iter::once(&[0; 60][..]);
        let second = std::iter::once_with(|| {
            std::thread::sleep(Duration::from_millis(20));
            scope.spawn(add);
            let frame = told.recv_timeout(Duration::from_millis(100)).ok().map(|()| &forwarded[..]);
            sent += usize::from(frame.is_some());
            frame
        });
        bench.ports[0].receive_all(0, first.chain(second.flatten())).unwrap();
    });
    let control = bench.dp.with_device(DpPort(9), Device::dummy).unwrap().unwrap();
    bench.dp.drain(DpPort(1));
    bench.dp.inject(DpPort(1), 0, &forwarded).unwrap();
    assert_eq!(control.captured(), vec![forwarded; sent]);
}
