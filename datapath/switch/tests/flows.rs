//! The flow table through the seam: put, modify, delete, dump, statistics, reclamation under traffic.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "a failure is the test's")]

mod common;

use common::{Bench, frame, megaflow, output, request};
use datapath::failing::{Failing, Failure, Step};
use datapath::{Options, Reference, Switch};
use flow::seam::{DpError, DpEvent, FlowPut, NewFlow, Policing, PortRequest, PutMode};
use flow::{Datapath, DpPort, Ufid};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const TCP: &str = "in_port(1),packet_type(ns=0,id=0),eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02),eth_type(0x0800),\
ipv4(src=10.0.0.1,dst=10.0.0.2,proto=6,tos=0,ttl=64,frag=no),tcp(src=1,dst=2),tcp_flags(syn|ack)";

fn put(ufid: u128, text: &str, port: u32, mode: PutMode) -> FlowPut {
    FlowPut { flow: megaflow(ufid, text, vec![output(port)]), mode, clear_stats: false }
}

#[test]
fn put_modes() {
    let b = Bench::new(3, &[]);
    let one = |p: FlowPut| b.dp.put(&[p]).remove(0);
    let text = "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800)";
    assert_eq!(one(put(1, text, 2, PutMode::Modify)), Err(DpError::NoFlow));
    assert_eq!(one(put(1, text, 2, PutMode::Create)), Ok(()));
    assert_eq!(one(put(1, text, 2, PutMode::Create)), Err(DpError::Exists));
    let inside = "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(proto=6,frag=no)";
    assert_eq!(one(put(2, inside, 2, PutMode::Create)), Err(DpError::Exists));
    assert_eq!(one(put(2, inside, 3, PutMode::Create)), Err(DpError::Overlap));
    assert_eq!(one(put(3, "recirc_id(0)", 3, PutMode::Create)), Err(DpError::Invalid("in_port must be matched exactly".into())));
    assert_eq!(b.send(1, &frame(TCP, 60)).len(), 1);
    assert_eq!(one(put(1, text, 3, PutMode::Modify)), Ok(()));
    assert_eq!(b.send(1, &frame(TCP, 60))[0].0, 3);
    let stats = b.dp.get(Ufid(1)).unwrap().stats;
    assert_eq!((stats.packets, stats.bytes, stats.tcp_flags), (2, 120, 0x12));
    // Another mask under the same name: the flow moves, the counters stay.
    assert_eq!(one(put(1, inside, 2, PutMode::CreateOrModify)), Ok(()));
    assert_eq!(b.send(1, &frame(TCP, 60))[0].0, 2);
    assert_eq!(b.dp.get(Ufid(1)).unwrap().stats.packets, 3);
    // The mask that nothing uses any more goes with the next change after the workers have finished with it.
    let settled = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert_eq!(one(put(1, inside, 2, PutMode::Modify)), Ok(()));
        b.dp.stats().masks == 1
    });
    assert!(settled, "{} masks", b.dp.stats().masks);
    let clear = FlowPut { clear_stats: true, ..put(1, inside, 2, PutMode::Modify) };
    assert_eq!(one(clear), Ok(()));
    assert_eq!(b.dp.get(Ufid(1)).unwrap().stats, Default::default());
    let mut all = Vec::new();
    b.dp.dump(&mut |d| {
        all.push(d.flow.clone());
        true
    });
    assert_eq!(
        all,
        [{
            let mut flow = megaflow(1, inside, vec![output(2)]);
            *flow.key = flow.key.masked(&flow.mask);
            flow
        }]
    );
    assert_eq!(b.send(1, &frame(TCP, 60)).len(), 1);
    let gone = b.dp.del(&[Ufid(1), Ufid(9)]);
    assert_eq!((gone[0].as_ref().unwrap().packets, &gone[1]), (1, &Err(DpError::NoFlow)));
    assert_eq!(b.send(1, &frame(TCP, 60)), []);
    let s = b.dp.stats();
    assert_eq!((s.hit, s.missed, s.flows), (4, 1, 0));
}

/// A batch of few megaflows is compared with them first the next time; once one has gone, or another stands in its place, packets are looked up
/// as ever.
#[test]
fn megaflows_that_were_remembered_may_go() {
    let b = Bench::new(3, &[]);
    let one = |p: FlowPut| b.dp.put(&[p]).remove(0).unwrap();
    let ip = |n: u32| format!("recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(src=10.0.0.{n},frag=no)");
    let from = |n: u32| frame(&TCP.replace("src=10.0.0.1", &format!("src=10.0.0.{n}")), 60);
    let out = |n: u32| b.send(1, &from(n)).iter().map(|s| s.0).collect::<Vec<_>>();
    // A second mask at the port: with one, nothing is remembered.
    one(put(99, "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0806)", 3, PutMode::Create));
    one(put(1, &ip(1), 2, PutMode::Create));
    for _ in 0..3 {
        assert_eq!((out(1), out(7)), (vec![2], vec![]), "another packet is not its own");
    }
    one(put(1, &ip(1), 3, PutMode::Modify));
    assert_eq!(out(1), [3]);
    for round in 0..50 {
        assert_eq!(out(1), [3]);
        b.dp.del(&[Ufid(1)]).remove(0).unwrap();
        assert_eq!(out(1), [], "{round}");
        one(put(2, &ip(2), 2, PutMode::Create));
        assert_eq!((out(1), out(2), out(2)), (vec![], vec![2], vec![2]));
        b.dp.del(&[Ufid(2)]).remove(0).unwrap();
        one(put(1, &ip(1), 3, PutMode::Create));
    }
    // Several in a batch: few, more than are remembered, and with packets that are of none.
    let batch = |sources: &[u32]| {
        for n in sources {
            b.ports[0].receive(0, &from(*n)).unwrap();
        }
        b.dp.drain(DpPort(1));
        let ports = b.sent();
        [2, 3].map(|port| ports.iter().filter(|s| s.0 == port).count())
    };
    for n in 2..=9 {
        one(put(u128::from(n), &ip(n), 2, PutMode::Create));
    }
    for _ in 0..3 {
        assert_eq!(batch(&[1, 1, 1, 2, 1, 2, 17, 2]), [3, 4]);
        assert_eq!(batch(&[2, 1, 2, 1]), [2, 2]);
        assert_eq!(batch(&[1, 2, 3, 4, 1]), [3, 2]);
        assert_eq!(batch(&[9, 8, 7, 6, 5, 4, 3, 2, 1]), [8, 1]);
        assert_eq!(batch(&[3, 3]), [2, 0]);
        assert_eq!(batch(&[1, 3]), [1, 1]);
    }
    b.dp.del(&[Ufid(3)]).remove(0).unwrap();
    assert_eq!(batch(&[1, 3, 1, 2]), [1, 2]);
    one(put(1, &ip(1), 2, PutMode::Modify));
    assert_eq!(batch(&[1, 3, 1, 2]), [3, 0]);
}

#[test]
fn dummy_ports_are_numbered_by_name() {
    let dp = Switch::new("dummy", "ovs-dummy", &Options::default()).unwrap();
    for (name, number) in [("br0", 100), ("p1", 1), ("br1", 101), ("x", 2), ("p3", 3), ("y1", 4)] {
        assert_eq!(dp.port_add(&request(name)).unwrap(), DpPort(number), "{name}");
    }
    assert_eq!(dp.port_add(&request("x")), Err(DpError::PortExists));
    let wished = PortRequest { number: Some(DpPort(50)), ..request("z") };
    assert_eq!(dp.port_add(&wished).unwrap(), DpPort(50));
    dp.port_del(DpPort(50)).unwrap();
    assert_eq!(dp.port_del(DpPort(50)), Err(DpError::NoPort));
    assert!(matches!(dp.port_add(&PortRequest { kind: "nonesuch".into(), ..request("q") }), Err(DpError::Device(_))));
    let vxlan = PortRequest { kind: "vxlan".into(), ..request("vxlan_sys_4789") };
    assert_eq!(dp.port_add(&vxlan).unwrap(), DpPort(4789));
    assert!(!dp.port(DpPort(4789)).unwrap().vanished);
}

#[test]
fn a_wish_that_is_refused_keeps_no_other_from_being_done() {
    let b = Bench::new(2, &[]);
    let (dp, port) = (&b.dp, DpPort(1));
    b.put(1, "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800)", vec![output(2)]);
    let (mac, mtu) = (Some([2, 0, 0, 0, 0, 9]), dp.port(port).unwrap().mtu);
    let policing = Policing { rate_kbps: 1, burst_kb: 1, ..Policing::default() };
    let passes = || b.send(1, &frame(TCP, 1000)).len();
    assert_eq!(passes(), 1);
    let wish = PortRequest { mtu: Some(9), mac, policing, ..request("p1") };
    let refused = dp.port_set(port, &wish);
    assert!(matches!(&refused, Err(DpError::Device(text)) if text.contains("setting the MTU")), "{refused:?}");
    let info = dp.port(port).unwrap();
    assert_eq!((Some(info.mac), info.mtu, passes()), (mac, mtu, 0), "a frame that is longer than the burst is too many");
    assert_eq!(dp.events(), [DpEvent::PortChanged(port)]);
    assert_eq!(dp.port_set(port, &wish), refused, "it is refused again, and nothing has changed");
    assert_eq!(dp.events(), []);
    assert_eq!(dp.port_set(port, &PortRequest { mtu: Some(9000), mac, ..request("p1") }), Ok(()));
    assert_eq!((dp.port(port).unwrap().mtu, passes()), (9000, 1));
}

/// Megaflows come, change and go while workers forward: every frame is forwarded by one of the megaflows that were there.
#[test]
fn changes_under_traffic() {
    const FRAMES: usize = 300;
    let b = Bench::new(4, &[("n-workers", "2")]);
    let dp = &b.dp;
    let text = "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800)";
    dp.put(&[put(1, text, 2, PutMode::Create)])[0].as_ref().unwrap();
    let stop = AtomicBool::new(false);
    let counted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0u32;
            while !stop.load(Ordering::Relaxed) {
                // Always one that matches: replaced in place, or by another mask under the same name.
                let port = 2 + n % 2;
                let narrow = "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(proto=6,frag=no)";
                dp.put(&[put(1, if n.is_multiple_of(3) { narrow } else { text }, port, PutMode::Modify)])[0].as_ref().unwrap();
                let other = format!(
                    "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0806),arp(sip=10.0.{}.{})",
                    n / 256 % 256,
                    n % 256
                );
                dp.put(&[put(u128::from(n) + 10, &other, 3, PutMode::CreateOrModify)])[0].as_ref().unwrap();
                if n > 50 {
                    dp.del(&[Ufid(u128::from(n - 50) + 10)])[0].as_ref().unwrap();
                }
                n += 1;
            }
        });
        let frame = frame(TCP, 60);
        for _ in 0..FRAMES {
            let out = b.send(1, &frame);
            counted.fetch_add(out.len() as u64, Ordering::Relaxed);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(counted.load(Ordering::Relaxed), FRAMES as u64);
    assert_eq!(dp.get(Ufid(1)).unwrap().stats.packets, FRAMES as u64);
    dp.flush();
    let s = dp.stats();
    assert_eq!((s.flows, s.missed), (0, 0));
}

/// After `quiesce` nothing goes by what was deleted before it.
#[test]
fn quiesce_is_a_barrier() {
    let b = Bench::new(3, &[]);
    let text = "recirc_id(0),in_port(1)";
    let frame = frame(TCP, 60);
    for round in 0..50u128 {
        b.put(round + 1, text, vec![output(2)]);
        b.ports[0].receive(0, &frame).unwrap();
        b.dp.del(&[Ufid(round + 1)])[0].as_ref().unwrap();
        b.dp.quiesce();
        b.sent();
        b.ports[0].receive(0, &frame).unwrap();
        b.dp.drain(DpPort(1));
        // At most the first frame, if it came late: and then as a miss.
        assert_eq!(b.sent(), []);
    }
}

#[test]
fn many_megaflows_and_masks() {
    const N: u32 = 20_000;
    let b = Bench::new(2, &[]);
    let flow = |i: u32| {
        let mask = std::net::Ipv4Addr::from(u32::MAX << (24 - i % 20));
        format!(
            "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0806),arp(sip=10.{}.{}.1,tip=1.0.0.0/{mask},tha=00:00:00:00:00:{:02x}/00:00:00:00:00:ff)",
            i / 256,
            i % 256,
            i % 20
        )
    };
    let puts: Vec<_> = (0..N).map(|i| put(u128::from(i) + 1, &flow(i), 2, PutMode::Create)).collect();
    assert!(b.dp.put(&puts).iter().all(Result::is_ok));
    let s = b.dp.stats();
    assert_eq!((s.flows, s.masks), (u64::from(N), 20));
    for i in (0..N).step_by(997) {
        let packet = frame(
            &format!(
                "in_port(1),eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02),eth_type(0x0806),arp(sip=10.{}.{}.1,tip=1.0.0.0,op=1,sha=00:00:00:00:00:01,tha=00:00:00:00:00:{:02x})",
                i / 256,
                i % 256,
                i % 20
            ),
            60,
        );
        assert_eq!(b.send(1, &packet).len(), 1, "flow {i}");
        assert_eq!(b.send(1, &packet).len(), 1, "flow {i}, from the cache");
        assert_eq!(b.dp.get(Ufid(u128::from(i) + 1)).unwrap().stats.packets, 2);
    }
    let mut out = Vec::new();
    b.dp.stats_of(&[Ufid(1), Ufid(0)], &mut out);
    assert_eq!((out[0].unwrap().packets, out[1]), (2, None));
    let all: Vec<_> = (0..N).map(|i| Ufid(u128::from(i) + 1)).collect();
    assert!(b.dp.del(&all).iter().all(Result::is_ok));
    assert_eq!((b.dp.stats().flows, b.dp.stats().masks), (0, 0));
}

#[test]
fn workers_can_be_changed_while_ports_stay() {
    let b = Bench::new(2, &[]);
    b.put(1, "recirc_id(0),in_port(1)", vec![output(2)]);
    for n in ["3", "1", "2"] {
        b.dp.set_config(&[("n-workers".into(), n.into()), ("signature-cache-flows".into(), "1000".into())]);
        assert_eq!(b.send(1, &frame(TCP, 60)).len(), 1);
    }
    assert_eq!(b.dp.get(Ufid(1)).unwrap().stats.packets, 3);
}

#[test]
fn failures_come_as_planned() {
    let plan = vec![Failure { step: Step::Put, from: 1, count: 1, error: DpError::Full("the flow table") }];
    let dp = Failing::new(Reference::new(), plan);
    let puts: Vec<_> = (0..3).map(|i| put(i, &format!("recirc_id(0x{i}),in_port(1)"), 2, PutMode::Create)).collect();
    let results = dp.put(&puts);
    assert_eq!(results, [Ok(()), Err(DpError::Full("the flow table")), Ok(())]);
    assert_eq!(dp.inner().stats().flows, 2);
}

/// A handler that puts a megaflow and executes the packet: `inject` returns when that is done.
#[test]
fn inject_waits_for_the_slow_path() {
    let b = Bench::new(2, &[]);
    let dp = Arc::new(b.dp);
    let stop = Arc::new(AtomicBool::new(false));
    dp.set_handlers(1);
    let handler = {
        let (dp, stop) = (Arc::clone(&dp), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut ups = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                ups.clear();
                dp.upcalls(0, 16, std::time::Duration::from_millis(20), &mut ups);
                for up in &ups {
                    std::thread::sleep(std::time::Duration::from_millis(3));
                    let flow = megaflow(flow::ufid::ufid_of(&up.key).0, "recirc_id(0),in_port(1)", vec![output(2)]);
                    let actions = Arc::clone(&flow.actions);
                    let _ = dp.put(&[FlowPut { flow, mode: PutMode::Create, clear_stats: false }]);
                    let (packet, key) = (up.packet.clone(), up.key.clone());
                    dp.execute(vec![flow::seam::Execute { packet, key, actions, rx_queue: 0, mtu: 0, probe: false }]);
                }
            }
        })
    };
    for expect_flow in [0, 1, 2] {
        dp.inject(DpPort(1), 0, &frame(TCP, 60)).unwrap();
        assert_eq!(b.ports[1].captured().len(), 1);
        let mut packets = 0;
        dp.dump(&mut |d| {
            packets += d.stats.packets;
            true
        });
        assert_eq!(packets, expect_flow);
    }
    stop.store(true, Ordering::Relaxed);
    handler.join().unwrap();
}

/// A megaflow with the mask of number `i`: no two are alike.
fn with_mask(i: u32) -> FlowPut {
    let mut put = put(u128::from(i) + 100, "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800)", 2, PutMode::Create);
    put.flow.key.eth_src = [2, 9, 0, 0, (i >> 8) as u8, i as u8];
    put.flow.mask.eth_src = [0xff; 6];
    put.flow.mask.eth_dst = u64::from(i + 1).to_be_bytes()[2..].try_into().unwrap();
    put
}

/// A tuple-space explosion at one port: its masks are bounded, other ports' are not concerned, and those that nothing hits are given up.
#[test]
fn masks_of_a_port_are_bounded_and_the_coldest_go() {
    let b = Bench::new(2, &[]);
    let max = u32::try_from(datapath::classifier::MASKS_PER_PORT_MAX).unwrap();
    let victim = "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth(src=50:54:00:00:00:01),eth_type(0x0800)";
    b.put(1, victim, vec![output(2)]);
    for i in 1..max {
        let put = with_mask(i);
        assert!(b.dp.has_mask_room(&put.flow.mask, DpPort(1)), "{i}");
        b.dp.put(&[put])[0].as_ref().unwrap();
    }
    assert!(!b.dp.has_mask_room(&with_mask(max).flow.mask, DpPort(1)));
    assert!(b.dp.has_mask_room(&with_mask(3).flow.mask, DpPort(1)), "it is there already");
    assert!(b.dp.has_mask_room(&with_mask(max).flow.mask, DpPort(2)));
    // The victim's flow is found by the cache, so that no search counts for it.
    for _ in 0..40 {
        assert_eq!(b.send(1, &frame(TCP, 60)).len(), 1);
    }
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let unwanted = b.dp.unwanted();
    assert!(!unwanted.is_empty() && !unwanted.contains(&Ufid(1)), "{unwanted:?}");
    b.dp.del(&unwanted);
    assert!(b.dp.has_mask_room(&with_mask(max).flow.mask, DpPort(1)));
    assert_eq!(b.send(1, &frame(TCP, 60)).len(), 1);
}

/// What is put as new, with masks shared, comes to what it comes to when it is put by itself.
#[test]
fn new_megaflows_are_put_as_others_are() {
    let (plain, shared) = (Bench::new(3, &[]), Bench::new(3, &[]));
    let texts = [
        "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(src=10.0.0.N,frag=no)",
        "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(dst=10.9.N.0/255.255.255.0,frag=no)",
        "recirc_id(0),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(src=10.7.0.N,frag=no)",
        "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(src=10.0.0.N,ttl=64,frag=no)",
    ];
    let masks = texts.map(|text| Arc::new(*megaflow(0, &text.replace('N', "1"), vec![]).mask));
    let actions = [2, 3].map(|port| Arc::new(vec![output(port)]));
    let flow = |i: usize| {
        // Some come under a name that there is, some are another's packets with the same actions or with others; of the last mask all are.
        let n = i % 50;
        let kind = match i {
            28 => 2,
            113.. => 3,
            _ => usize::from(i.is_multiple_of(7)),
        };
        let mut flow = megaflow(1 + (i % 90) as u128, &texts[kind].replace('N', &n.to_string()), vec![]);
        flow.key.nw_ttl = i as u8;
        flow.actions = Arc::clone(&actions[i / 60]);
        (flow, kind)
    };
    let flows: Vec<_> = (0..120).map(flow).collect();
    let puts = flows.iter().map(|(flow, _)| FlowPut { flow: flow.clone(), mode: PutMode::Create, clear_stats: true });
    let expect = plain.dp.put(&puts.collect::<Vec<_>>());
    let news =
        flows.iter().map(|(flow, kind)| NewFlow { ufid: flow.ufid, key: &flow.key, mask: &masks[*kind], actions: &flow.actions });
    assert_eq!(shared.dp.put_new(&news.collect::<Vec<_>>()), expect);
    assert!([&Ok(()), &Err(DpError::Exists), &Err(DpError::Overlap)].iter().all(|kind| expect.contains(kind)), "{expect:?}");
    assert!(expect[28].as_ref().is_err_and(|error| matches!(error, DpError::Invalid(_))));
    let dump = |b: &Bench| {
        let mut all = Vec::new();
        b.dp.dump(&mut |d| {
            all.push((d.flow.clone(), d.unmasked.clone()));
            true
        });
        all
    };
    assert_eq!(dump(&shared), dump(&plain));
    assert_eq!(shared.dp.stats().masks, 2, "of a mask that nothing came to use nothing is left");
    for (i, result) in expect.iter().enumerate().filter(|(i, _)| *i < 60) {
        let packet = frame(&TCP.replace("10.0.0.1", &format!("10.0.0.{}", i % 50)), 60);
        assert_eq!(shared.send(1, &packet), plain.send(1, &packet), "{i}: {result:?}");
    }
}

/// A key or mask with another source address.
fn from(key: &flow::Key, nw_src: u32) -> flow::Key {
    flow::Key { nw_src: nw_src.to_be_bytes(), ..*key }
}

/// Who puts megaflows makes room for more without the lock, beside others who fill it.
#[test]
fn room_is_made_beside_others_that_put() {
    const THREADS: u32 = 4;
    const EACH: u32 = 5_000;
    let b = Bench::new(3, &[]);
    let text = "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(src=0.0.0.0,frag=no)";
    let like = megaflow(0, text, vec![]);
    let (key, mask) = (like.key, Arc::new(from(&like.mask, u32::MAX)));
    let actions = Arc::new(vec![output(2)]);
    let put_all = &|thread: u32| {
        let numbers: Vec<u32> = (thread * EACH..(thread + 1) * EACH).collect();
        for some in numbers.chunks(64) {
            let keys: Vec<_> = some.iter().map(|n| from(&key, *n)).collect();
            let news = some.iter().zip(&keys);
            let news = news.map(|(n, key)| NewFlow { ufid: Ufid((*n).into()), key, mask: &mask, actions: &actions });
            assert!(b.dp.put_new(&news.collect::<Vec<_>>()).iter().all(Result::is_ok));
        }
    };
    // Again after all are gone: then there is room.
    for _ in 0..2 {
        std::thread::scope(|scope| (0..THREADS).for_each(|thread| drop(scope.spawn(move || put_all(thread)))));
        let mut seen = vec![false; (THREADS * EACH) as usize];
        b.dp.dump(&mut |dump| {
            let n = u32::from_be_bytes(dump.flow.key.nw_src);
            assert!(dump.flow.ufid == Ufid(n.into()) && !std::mem::replace(&mut seen[n as usize], true));
            true
        });
        assert!(seen.iter().all(|seen| *seen));
        b.dp.flush();
    }
}
