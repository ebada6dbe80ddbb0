//! The machinery of upcalls and revalidation with a translator of a few lines, so that only this room is on trial.

use super::*;
use crate::deps::{MacKey, Object};
use crate::effects::Credit;
use crate::memory_dp::{Hook, MemoryDp, is_slow};
use crate::rule::Tally;
use crate::scenario::{Scenario, config};
use crate::world::DatapathBackend;
use flow::action::Action;
use flow::seam::{DpPort, PortRequest};
use openflow::TableId;
use std::sync::atomic::AtomicU32;
use ukey::{State, Ukey};

const BR: BridgeId = BridgeId(7);
const P1: OfPort = OfPort(1);

/// Sends everything to one port, matching `bits`; consults one table and one MAC.
#[derive(Debug, Default)]
struct Toy {
    out: AtomicU32,
    exact_source: AtomicBool,
    slow: AtomicU32,
    tally: Arc<Tally>,
    /// The source is matched, and does not decide.
    moves_source: AtomicBool,
    translated: AtomicU32,
    /// Called in the middle of a translation, once.
    meanwhile: Mutex<Option<Meanwhile>>,
}

struct Meanwhile(Box<dyn FnOnce(&World) + Send>);

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meanwhile")
    }
}

fn mac() -> Object {
    Object::Mac(MacKey { bridge: BR, vlan: 0, mac: [1; 6] })
}

impl Translator for Toy {
    fn translate(&self, r: Request<'_>) -> Translation {
        assert_eq!((r.bridge, r.in_port, OfPort::from_key(r.key.in_port)), (BR, P1, P1));
        let mut t = Translation::default();
        t.mask.in_port = [0xff; 4];
        t.mask.eth_dst = [0xff; 6];
        if self.exact_source.load(Ordering::Relaxed) {
            t.mask.eth_src = [0xff; 6];
        }
        if self.moves_source.load(Ordering::Relaxed) {
            t.decides = Some(t.mask.clone());
            t.mask.eth_src = [0xff; 6];
        }
        self.translated.fetch_add(1, Ordering::Relaxed);
        t.deps.table(BR, TableId(0), Some(100), r.key, r.key);
        t.deps.object(mac());
        t.credits.push(Credit::Tally(Arc::clone(&self.tally)));
        t.actions = vec![Action::Output(DpPort(self.out.load(Ordering::Relaxed)))];
        t.slow = self.slow.load(Ordering::Relaxed);
        if let Some(Meanwhile(act)) = self.meanwhile.lock().unwrap().take() {
            act(r.world);
        }
        t
    }

    fn controller(&self, _: &World, _: &Upcall, _: Msec) -> Option<Notice> {
        None
    }
}

struct Bench {
    dp: Arc<MemoryDp>,
    toy: Arc<Toy>,
    udpif: Arc<Udpif>,
    changes: Arc<ChangeLog>,
}

fn bench() -> Bench {
    let dp = MemoryDp::new("dummy");
    dp.port_add(&PortRequest { name: "zero".into(), ..PortRequest::default() }).unwrap();
    let mut world = World::default();
    let changes = Arc::clone(&world.changes);
    let mut backend = DatapathBackend::new(dp.clone());
    backend.ports.insert(DpPort(5), (BR, P1));
    world.backends.insert("dummy".into(), backend);
    let toy = Arc::new(Toy::default());
    toy.out.store(2, Ordering::Relaxed);
    let udpif = Udpif::new(dp.clone(), Arc::new(RwLock::new(world)), toy.clone(), UpcallConfig::default());
    *udpif.gates.lock().unwrap() = vec![Arc::default()];
    Bench { dp, toy, udpif, changes }
}

fn packet(dst: u8, src: u8) -> Vec<u8> {
    let mut p = vec![dst; 6];
    p.extend([src; 6]);
    p.extend([0x12, 0x34]);
    p.resize(60, 0);
    p
}

impl Bench {
    fn send(&self, dst: u8, src: u8) -> Vec<u32> {
        self.dp.receive(DpPort(5), &packet(dst, src));
        self.udpif.drain();
        self.dp.take_outputs().into_iter().map(|(p, _)| p.0).collect()
    }

    fn flows(&self) -> usize {
        assert_eq!(self.udpif.flow_count(), self.udpif.ukeys.len());
        usize::try_from(self.dp.stats().flows).unwrap()
    }

    /// The only megaflow.
    fn ukey(&self) -> Arc<Ukey> {
        let flows = self.dp.all_flows();
        assert_eq!(flows.len(), 1);
        self.udpif.ukeys.find(flows[0].ufid).unwrap()
    }

    /// As a thread does that has found them doomed.
    fn delete(&self, ukey: &Arc<Ukey>) {
        let world = self.udpif.world.read().unwrap();
        self.udpif.delete(std::slice::from_ref(ukey), &world, now_ms());
    }

    fn change(&self, priority: i32) {
        self.changes.rule(BR, TableId(0), priority, &Key::ZERO, &Key::ZERO);
    }
}

#[test]
fn packets_that_go_the_same_way_are_translated_once() {
    let b = bench();
    b.toy.moves_source.store(true, Ordering::Relaxed);
    let receive = |dst: u8, sources: std::ops::Range<u8>| sources.for_each(|src| b.dp.receive(DpPort(5), &packet(dst, src)));
    receive(1, 0..9);
    receive(2, 0..1);
    receive(1, 8..10);
    b.udpif.drain();
    assert_eq!(b.toy.translated.load(Ordering::Relaxed), 2, "one for each destination");
    assert_eq!((b.flows(), b.dp.take_outputs().len()), (11, 12), "a flow for each source, but none twice");
    assert_eq!(b.toy.tally.read(), (12, 720), "every packet is paid for");
    // What changes in the middle ends the way.
    *b.toy.meanwhile.lock().unwrap() = Some(Meanwhile(Box::new(|w: &World| w.changed(mac()))));
    receive(3, 0..3);
    b.udpif.drain();
    assert_eq!((b.toy.translated.load(Ordering::Relaxed), b.dp.take_outputs().len()), (4, 3));
    b.udpif.settle();
    b.udpif.round(now_ms());
    b.toy.out.store(3, Ordering::Relaxed);
    b.change(100);
    b.udpif.settle();
    assert_eq!(b.send(1, 4), [3], "and what it came to is kept true");
}

/// Eight input ports, or destinations, of a batch: none of them is translated twice.
#[test]
fn a_batch_has_as_many_ways_as_ports() {
    let b = bench();
    b.toy.moves_source.store(true, Ordering::Relaxed);
    for src in 0..2 {
        (0..8).for_each(|dst| b.dp.receive(DpPort(5), &packet(dst, src)));
    }
    b.udpif.drain();
    assert_eq!((b.toy.translated.load(Ordering::Relaxed), b.flows()), (8, 16));
}

/// Handlers that had it from one another would write the same counts of references for each megaflow.
#[test]
fn what_megaflows_have_in_common_is_shared_by_those_of_one_handler() {
    let b = bench();
    let gates: Vec<Arc<Gate>> = vec![Arc::default(), Arc::default()];
    b.udpif.gates.lock().unwrap().clone_from(&gates);
    for dst in 1..=6 {
        b.dp.receive(DpPort(5), &packet(dst, 1));
        let handler = usize::from(dst) % 2;
        assert!(b.udpif.handle_once(handler, &gates[handler], &mut Vec::new()));
    }
    let of_handler = |handler: usize| {
        let flows = b.dp.all_flows();
        let some = flows.iter().filter(|flow| usize::from(flow.key.eth_dst[0]) % 2 == handler);
        some.map(|flow| b.udpif.ukeys.find(flow.ufid).unwrap()).collect::<Vec<_>>()
    };
    let (even, odd) = (of_handler(0), of_handler(1));
    assert_eq!((even.len(), odd.len()), (3, 3));
    let shares = |a: &Arc<Ukey>, b: &Arc<Ukey>| {
        (Arc::ptr_eq(a.shared_mask(), b.shared_mask()), Arc::ptr_eq(&a.lock().actions, &b.lock().actions))
    };
    for own in [&even, &odd] {
        assert!(own.windows(2).all(|two| shares(&two[0], &two[1]) == (true, true)));
    }
    assert_eq!(shares(&even[0], &odd[0]), (false, false));
}

#[test]
fn a_miss_is_forwarded_and_installed_and_paid() {
    let b = bench();
    assert_eq!(b.send(1, 1), [2]);
    assert_eq!(b.flows(), 1);
    assert_eq!(b.toy.tally.read(), (1, 60), "the packet that missed");
    assert_eq!(b.send(1, 2), [2]);
    assert_eq!((b.flows(), b.dp.stats().missed), (1, 1), "the source is wildcarded");
    b.udpif.round(now_ms());
    b.udpif.round(now_ms());
    assert_eq!(b.toy.tally.read(), (2, 120), "paid once");
    b.send(2, 2);
    assert_eq!(b.flows(), 2);
    b.udpif.purge();
    assert_eq!(b.flows(), 0);
}

#[test]
fn settle_replaces_what_a_change_made_stale_and_nothing_else() {
    let b = bench();
    b.send(1, 1);
    b.toy.out.store(3, Ordering::Relaxed);
    b.change(99);
    b.udpif.settle();
    assert_eq!(b.send(1, 1), [2], "a lower priority cannot concern it: not translated again");
    assert_eq!(b.dp.quiesced.load(Ordering::Relaxed), 0, "nothing to wait for");
    b.change(100);
    b.udpif.settle();
    assert_eq!(b.dp.quiesced.load(Ordering::Relaxed), 1);
    assert_eq!(b.send(1, 1), [3]);
    assert_eq!(b.dp.stats().missed, 1, "replaced in place");
    assert_eq!(b.toy.tally.read(), (2, 120), "what it had carried was paid before it was replaced");
    b.udpif.settle();
    assert_eq!(b.dp.quiesced.load(Ordering::Relaxed), 1);
}

#[test]
fn a_megaflow_that_became_too_wide_is_deleted() {
    let b = bench();
    b.send(1, 1);
    b.toy.exact_source.store(true, Ordering::Relaxed);
    b.changes.object(Object::Everything);
    b.udpif.settle();
    assert_eq!(b.flows(), 0);
    b.send(1, 1);
    b.send(1, 2);
    assert_eq!(b.flows(), 2);
    b.toy.exact_source.store(false, Ordering::Relaxed);
    b.changes.object(mac());
    b.udpif.round(now_ms());
    assert_eq!(b.flows(), 2, "narrower than needed is only slow");
}

#[test]
fn a_translation_outrun_by_a_change_is_not_installed() {
    let b = bench();
    // Another handler learns the address while this one translates.
    let learn = |world: &World| world.changed(mac());
    *b.toy.meanwhile.lock().unwrap() = Some(Meanwhile(Box::new(learn)));
    assert_eq!(b.send(1, 1), [2], "the packet itself goes out");
    assert_eq!(b.flows(), 0);
    assert_eq!(b.send(1, 1), [2]);
    assert_eq!(b.flows(), 1);
}

#[test]
fn the_slow_path_sends_each_packet_up() {
    let b = bench();
    b.toy.slow.store(64, Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(b.send(1, 1), [2]);
    }
    assert_eq!((b.flows(), b.dp.stats().missed), (1, 1));
    let key = Key { in_port: 5u32.to_be_bytes(), eth_dst: [1; 6], ..Key::ZERO };
    assert!(is_slow(&b.dp.flows_for(&key)[0].actions));
    b.udpif.round(now_ms());
    assert_eq!(b.toy.tally.read(), (3, 180));
}

#[test]
fn idle_lost_and_strange_flows_go() {
    let b = bench();
    b.send(1, 1);
    b.send(2, 1);
    let ufid = flow::ufid::ufid_of_masked(
        &Key { in_port: 5u32.to_be_bytes(), eth_dst: [1; 6], ..Key::ZERO },
        &Key { in_port: [255; 4], eth_dst: [255; 6], ..Key::ZERO },
    );
    b.dp.lose_flow(ufid);
    b.udpif.round(now_ms());
    assert_eq!(b.flows(), 1, "lost by the datapath");
    b.udpif.round(now_ms() + UpcallConfig::default().max_idle_ms + 1000);
    assert_eq!(b.flows(), 0, "idle");
    let flow = flow::Megaflow { ufid: Ufid(9), key: Box::default(), mask: Box::default(), actions: Arc::default() };
    b.dp.put(&[flow::seam::FlowPut { flow, mode: flow::seam::PutMode::Create, clear_stats: true }]);
    b.udpif.round(now_ms());
    b.udpif.round(now_ms());
    assert_eq!(b.flows(), 0, "a stranger");
}

/// Two threads found a megaflow doomed, and the second was slow: a packet has brought it back meanwhile.
#[test]
fn who_deletes_late_leaves_what_came_back() {
    let b = bench();
    b.send(1, 1);
    let ukey = b.ukey();
    ukey.lock().state = State::Evicted;
    b.delete(&ukey);
    assert_eq!(b.flows(), 0);
    (0..3).for_each(|_| assert_eq!(b.send(1, 1), [2]));
    b.delete(&ukey);
    b.udpif.round(now_ms());
    assert_eq!((b.flows(), b.dp.stats().missed), (1, 2));
    assert_eq!(b.toy.tally.read(), (4, 240), "its packets are paid for");
}

/// Whoever is told that it is gone may look at the counters.
#[test]
fn who_deletes_late_waits_for_the_payment() {
    let b = Arc::new(bench());
    (0..4).for_each(|_| assert_eq!(b.send(1, 1), [2]));
    let (tell, told) = std::sync::mpsc::channel();
    let other = Arc::clone(&b);
    *b.dp.after_del.lock().unwrap() = Some(Hook(Box::new(move || {
        let (tell_first, told_first) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            other.udpif.purge();
            let tally = other.toy.tally.read();
            // Whoever listens no longer has waited long enough.
            let _ = (tell_first.send(()), tell.send(tally));
        });
        // A second who does not wait is given the time to be wrong.
        let _ = told_first.recv_timeout(Duration::from_millis(100));
    })));
    let ukey = b.ukey();
    ukey.lock().state = State::Evicted;
    b.delete(&ukey);
    assert_eq!((told.recv().unwrap(), b.flows()), ((4, 240), 0));
}

/// A round pays late for what it has written down as paid: until it has, a purge is not over.
#[test]
fn a_purge_waits_for_a_round() {
    let b = Arc::new(bench());
    let round = b.udpif.round.lock().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let other = Arc::clone(&b);
    std::thread::spawn(move || {
        other.udpif.purge();
        tell.send(()).unwrap();
    });
    assert!(told.recv_timeout(Duration::from_millis(50)).is_err());
    drop(round);
    told.recv().unwrap();
}

/// A round beside a handler at work takes no megaflow that is being put for a stranger, and walks over all that there are for nothing.
#[test]
fn what_is_being_put_is_no_stranger() {
    let b = bench();
    let udpif = Arc::clone(&b.udpif);
    *b.dp.after_put.lock().unwrap() = Some(Hook(Box::new(move || udpif.sweep_strangers())));
    b.send(1, 1);
    assert!(b.dp.after_put.lock().unwrap().is_none());
    assert_eq!((b.flows(), b.dp.dumps.load(Ordering::Relaxed)), (1, 0));
}

/// A round asks for figures while a megaflow is known and not yet there: it has not vanished.
#[test]
fn what_is_being_put_has_not_vanished() {
    let b = Arc::new(bench());
    let other = Arc::clone(&b);
    *b.dp.before_put.lock().unwrap() = Some(Hook(Box::new(move || {
        let udpif = Arc::clone(&other.udpif);
        std::thread::spawn(move || udpif.round(now_ms()));
        while other.dp.asked.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
    })));
    b.send(1, 1);
    // Ours begins when the other has ended.
    b.udpif.round(now_ms());
    assert_eq!(b.flows(), 1);
}

#[test]
fn a_refusing_datapath_still_forwards() {
    let b = bench();
    b.dp.refuse_puts.store(true, Ordering::Relaxed);
    assert_eq!(b.send(1, 1), [2]);
    assert_eq!(b.send(1, 1), [2]);
    assert_eq!(b.flows(), 0);
    b.dp.refuse_puts.store(false, Ordering::Relaxed);
    b.send(1, 1);
    b.toy.out.store(3, Ordering::Relaxed);
    b.dp.refuse_puts.store(true, Ordering::Relaxed);
    b.change(100);
    b.udpif.settle();
    assert_eq!(b.flows(), 0, "what cannot be replaced is deleted");
}

#[test]
fn the_limit_keeps_new_flows_out_and_disabled_megaflows_are_exact() {
    let b = bench();
    b.udpif.set_flow_limit(1);
    b.send(1, 1);
    assert_eq!(b.send(2, 1), [2]);
    assert_eq!(b.flows(), 1);
    b.udpif.set_flow_limit(1000);
    b.udpif.set_megaflows(false);
    assert_eq!(b.flows(), 0);
    b.send(1, 1);
    b.send(1, 2);
    assert_eq!(b.flows(), 2);
}

#[test]
fn threads_forward_and_stop() {
    let b = bench();
    b.udpif.start();
    b.dp.receive(DpPort(5), &packet(1, 1));
    for _ in 0..500 {
        if b.udpif.flow_count() == 1 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(b.flows(), 1);
    b.toy.out.store(3, Ordering::Relaxed);
    b.change(100);
    b.udpif.settle();
    b.dp.take_outputs();
    b.dp.receive(DpPort(5), &packet(1, 1));
    assert_eq!(b.dp.take_outputs()[0].0, DpPort(3));
    b.udpif.stop();
}

/// A datapath that has as many masks as it may gets exact megaflows, which go when they have been idle for a second; and what it asks
/// to be rid of goes at once.
#[test]
fn masks_beyond_what_the_datapath_has_room_for() {
    let b = bench();
    b.send(1, 1);
    b.send(1, 2);
    assert_eq!(b.flows(), 1, "the source did not decide");
    b.dp.masks_full.store(true, Ordering::Relaxed);
    let before = UPCALL_MASKS_FULL.count();
    b.send(2, 1);
    b.send(2, 2);
    assert_eq!(b.flows(), 3, "one for each source");
    assert_eq!(UPCALL_MASKS_FULL.count(), before + 2);
    b.udpif.round(now_ms() + 500);
    assert_eq!(b.flows(), 3);
    b.udpif.round(now_ms() + 1500);
    assert_eq!(b.flows(), 1, "the wide one lives as long as any");
    let mut ufid = None;
    b.dp.dump(&mut |d| {
        ufid = Some(d.flow.ufid);
        true
    });
    b.dp.unwanted.lock().unwrap().extend(ufid);
    b.udpif.round(now_ms());
    assert_eq!(b.flows(), 0);
}

#[test]
fn changes_do_not_wake_the_revalidator_often_while_there_is_nothing_to_look_at() {
    let ms = Duration::from_millis;
    assert_eq!((breath(ms(0), 1), breath(ms(0), 0)), (BREATH_MIN, BREATH_EMPTY));
    assert_eq!((breath(ms(50), 1), breath(ms(50), 0)), (ms(50), ms(50)));
    assert_eq!(breath(ms(10_000), 1), BREATH_MAX);
}

/// A megaflow behind a recirculation has the bridge's name in its frozen state, and outlives the port that the packets came in by.
#[test]
fn what_recirculates_on_a_bridge_goes_with_it() {
    let s = Scenario::new(&config(&["br0 p1@1", "br1 q1@1"]));
    s.flow_mod("br0", "ip,actions=debug_recirc,in_port").unwrap();
    let port = s.slowpath.read_world().bridge_named("br0").unwrap().ports[&OfPort(1)].dp_port.unwrap();
    s.send(&format!(
        "in_port({}),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x0800),\
         ipv4(src=10.0.0.1,dst=10.0.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src=1,dst=2)",
        port.0
    ));
    assert_eq!(s.dp.all_flows().len(), 2);
    s.slowpath.configure(&config(&["br1 q1@1"]));
    s.slowpath.udpifs().iter().for_each(|udpif| udpif.settle());
    assert_eq!(s.dp.all_flows().len(), 0);
}
