//! Routes and neighbours that flap, and tunnels that lead into themselves: what has nothing to do with them is not looked at again and loses no
//! packet, and nothing grows.

use super::barrier_tests::Counting;
use crate::neigh::Ask;
use crate::router::{DeviceAddr, Prefix, Route, TABLE_MAIN};
use crate::scenario::{Scenario, config, port};
use crate::slowpath::RouteChange;
use crate::tunnel::Addr;
use flow::DpPort;
use flow::clock::now_ms;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Megaflows of traffic that needs no tunnel.
const OTHERS: u32 = 60;
const FLAPS: u32 = 300;
/// How often a packet may go through a tunnel.
const ROUNDS_MAX: usize = 64;

/// An overlay `br0` with tunnels 8 (to 10.8.0.1) and 9 (to 10.9.0.1), an underlay `br101` with an address and an uplink `p1`. What comes in by p3
/// leaves by p4, without a tunnel.
struct Bench {
    s: Scenario,
    counting: Arc<Counting>,
    lost: Cell<u64>,
    passed: Cell<u64>,
}

fn bench(overlay: &str, underlay: &str) -> Bench {
    let mut config = config(&["br0 p2@2 p3@3 p4@4", "br101 p1@1"]);
    for (bridge, number) in [(0, 9), (1, 8)] {
        let mut tunnel = port(&format!("vx{number}"), "vxlan", Some(number));
        let remote = ("remote_ip".to_owned(), format!("10.{number}.0.1"));
        tunnel.interfaces[0].device.options = vec![("key".to_owned(), number.to_string()), remote];
        config.bridges[bridge].ports.push(tunnel);
    }
    let counting = Arc::new(Counting::default());
    let s = Scenario::with_translator(&config, counting.clone());
    s.slowpath.write_world().backends.get_mut("dummy").unwrap().features.tunnel_push_pop = true;
    let address = DeviceAddr { address: Addr::v4([10, 0, 0, 1]), plen: 96 + 24 };
    s.slowpath.set_device_addresses("br101", vec![address], true);
    s.flow_mod("br0", &format!("in_port=2,actions={overlay}")).unwrap();
    s.flow_mod("br0", "in_port=3,ip,actions=move:NXM_OF_IP_DST[]->NXM_NX_REG0[],output:4").unwrap();
    s.flow_mod("br101", &format!("in_port=LOCAL,actions={underlay}")).unwrap();
    for n in 2..=3 {
        s.run_command("tnl/neigh/set", &["br101", &format!("10.0.0.{n}"), &mac(n)]).unwrap();
    }
    let b = Bench { s, counting, lost: Cell::new(0), passed: Cell::new(0) };
    for n in 0..OTHERS {
        b.other(n);
    }
    b.settle();
    b
}

fn mac(n: u32) -> String {
    let [_, _, high, low] = n.to_be_bytes();
    format!("02:00:00:00:{high:02x}:{low:02x}")
}

/// The route to the tunnels' other ends, by one of the neighbours.
fn via(n: u32) -> Route {
    Route {
        prefix: Prefix::parse("10.0.0.0/8").unwrap(),
        mark: 0,
        device: "br101".to_owned(),
        gateway: Addr::v4([10, 0, 0, n.to_be_bytes()[3]]),
        source: None,
        local: false,
        user: false,
        metric: 0,
    }
}

fn add(n: u32) -> RouteChange {
    RouteChange::Add { table: TABLE_MAIN, route: via(n) }
}

impl Bench {
    /// How many megaflows are translated again until a barrier can be answered.
    fn settle(&self) -> usize {
        self.s.slowpath.settle();
        self.counting.again.swap(0, Ordering::Relaxed)
    }

    /// A packet of traffic that needs no tunnel.
    fn other(&self, n: u32) {
        let out = self.s.send(&format!(
            "in_port(3),eth(src=02:00:00:00:00:aa,dst=02:00:00:00:00:bb),eth_type(0x0800),\
             ipv4(src=10.200.0.1,dst=10.201.0.{},proto=17,ttl=64),udp(src=1,dst=2)",
            n % OTHERS
        ));
        let right = out.starts_with("4: eth(src=02:00:00:00:00:aa,dst=02:00:00:00:00:bb)") && out.lines().count() == 1;
        let counter = if right { &self.passed } else { &self.lost };
        counter.set(counter.get() + 1);
    }

    /// To whom a packet goes that is for the tunnel: `None` if nothing leaves.
    fn tunnelled(&self) -> Option<String> {
        let out = self.s.send(
            "in_port(2),eth(src=02:00:00:00:00:cc,dst=02:00:00:00:00:dd),eth_type(0x0800),\
             ipv4(src=192.168.0.1,dst=192.168.0.2,proto=17,ttl=64),udp(src=1,dst=2)",
        );
        // Beside questions.
        let sent: Vec<&str> = out.lines().filter(|line| !line.contains("eth_type(0x0806)")).collect();
        let line = sent.first()?;
        assert!(line.starts_with("1: eth(src=") && sent.len() == 1, "{out}");
        let (_, rest) = line.split_once("dst=").unwrap();
        Some(rest[..17].to_owned())
    }

    fn megaflows(&self) -> usize {
        self.s.dp.all_flows().len()
    }

    fn asks(&self) -> Vec<Ask> {
        self.s.slowpath.read_world().neighbours.take_asks(|_| true)
    }

    /// All traffic without a tunnel has arrived as ever.
    fn check_others(&self, at_least: u64) {
        let (passed, lost) = (self.passed.get(), self.lost.get());
        assert!(lost == 0 && passed >= at_least, "{passed} passed, {lost} lost");
    }
}

#[test]
fn routes_that_flap_concern_only_what_goes_by_them() {
    let b = bench("output:9", "output:1");
    let asked = now_ms();
    b.s.slowpath.change_routes(vec![add(2)]);
    b.settle();
    assert_eq!(b.tunnelled(), Some(mac(2)));
    let megaflows = b.megaflows();
    for round in 0..FLAPS {
        let n = 2 + round % 2;
        if round % 3 == 0 {
            b.s.slowpath.change_routes(vec![RouteChange::Remove { table: TABLE_MAIN, route: via(2 + (round + 1) % 2) }]);
            b.other(round);
            assert_eq!((b.settle(), b.tunnelled()), (1, None), "{round}: nowhere to go");
        }
        b.s.slowpath.change_routes(vec![add(n)]);
        b.other(round);
        assert_eq!((b.settle(), b.tunnelled()), (1, Some(mac(n))), "{round}");
    }
    // Faster than anybody looks: what stands in the end counts, once.
    for round in 0..10_000u32 {
        b.s.slowpath.change_routes(vec![add(2 + round % 2)]);
    }
    b.other(0);
    assert_eq!((b.settle(), b.tunnelled()), (1, Some(mac(3))));
    // To a neighbour that nobody knows: asked for once a second, however often the route changes.
    for round in 0..100u32 {
        b.s.slowpath.change_routes(vec![add(4 + round % 2)]);
        b.other(round);
        assert_eq!((b.settle(), b.tunnelled()), (1, None));
    }
    let seconds = usize::try_from((now_ms() - asked) / 1000).unwrap() + 1;
    assert!((1..=2 * seconds).contains(&b.asks().len()));
    assert_eq!(b.megaflows(), megaflows);
    assert_eq!(b.s.slowpath.read_world().neighbours.all(now_ms()).len(), 2);
    assert_eq!(
        b.s.slowpath.read_world().router.tables().map(|(_, t)| t.len()).sum::<usize>(),
        3,
        "two of the device, one of ours"
    );
    b.check_others(u64::from(OTHERS + FLAPS));
}

#[test]
fn neighbours_that_flap_concern_only_what_goes_to_them() {
    let b = bench("output:9", "output:1");
    let started = now_ms();
    b.s.slowpath.change_routes(vec![add(2)]);
    b.settle();
    assert_eq!(b.tunnelled(), Some(mac(2)));
    let megaflows = b.megaflows();
    let set = |n: u32| {
        b.s.slowpath.read_world().neighbours.set("br101", Addr::v4([10, 0, 0, 2]), parse(&mac(n)), now_ms());
    };
    for round in 0..FLAPS {
        if round % 3 == 0 {
            b.s.slowpath.read_world().neighbours.flush(None, now_ms());
            b.other(round);
            assert_eq!((b.settle(), b.tunnelled()), (1, None), "{round}: nobody knows it");
        }
        set(1000 + round);
        b.other(round);
        assert_eq!((b.settle(), b.tunnelled()), (1, Some(mac(1000 + round))), "{round}");
    }
    for round in 0..10_000 {
        set(round);
    }
    b.other(0);
    assert_eq!((b.settle(), b.tunnelled()), (1, Some(mac(9999))));
    let seconds = usize::try_from((now_ms() - started) / 1000).unwrap() + 1;
    assert!((1..=seconds).contains(&b.asks().len()));
    assert_eq!((b.megaflows(), b.s.slowpath.read_world().neighbours.all(now_ms()).len()), (megaflows, 1));
    b.check_others(u64::from(OTHERS + FLAPS));
}

/// The answer to a question that is asked again is forwarded by the megaflow of the first one.
#[test]
fn an_answer_that_does_not_come_up_is_heard() {
    let b = bench("output:9", "output:1");
    b.s.slowpath.change_routes(vec![add(2)]);
    b.s.flow_mod("br101", "in_port=1,actions=LOCAL").unwrap();
    b.settle();
    let find = || b.s.slowpath.read_world().neighbours.find("br101", Addr::v4([10, 0, 0, 2]), now_ms());
    let answer = |n: u32| {
        let mac = mac(n);
        b.s.send(&format!("in_port(1),eth(src={mac},dst=02:00:00:00:00:01),eth_type(0x0806),arp(sip=10.0.0.2,tip=10.0.0.1,op=2,sha={mac},tha=02:00:00:00:00:01)"));
    };
    answer(7);
    assert_eq!((find(), b.tunnelled()), (Some(parse(&mac(7))), Some(mac(7))));
    let megaflows = b.megaflows();
    b.s.slowpath.read_world().neighbours.flush(None, now_ms() - 1000);
    b.settle();
    assert_eq!((find(), b.tunnelled()), (None, None));
    answer(7);
    assert_eq!((find(), b.megaflows()), (None, megaflows), "it did not come up");
    // That another port goes before anybody has counted the answer changes nothing.
    let ports = || b.s.slowpath.read_world().bridges.values().map(|bridge| bridge.ports.len()).sum::<usize>();
    let before = ports();
    b.s.slowpath.forget_port(&*b.s.dp, DpPort(4));
    assert_eq!(ports(), before - 1);
    b.s.slowpath.udpifs().iter().for_each(|udpif| udpif.round(now_ms()));
    b.settle();
    assert_eq!((find(), b.tunnelled()), (Some(parse(&mac(7))), Some(mac(7))));
}

/// Packets of a tunnel that the underlay sends into a tunnel again, and by the uplink besides.
#[test]
fn a_tunnel_into_itself_ends_and_others_go_on() {
    for underlay in ["output:8", "output:1,output:8", "output:8,output:8,output:8"] {
        let b = bench("output:9", underlay);
        b.s.slowpath.change_routes(vec![add(2)]);
        b.settle();
        let out = b.s.send(
            "in_port(2),eth(src=02:00:00:00:00:cc,dst=02:00:00:00:00:dd),eth_type(0x0800),\
             ipv4(src=192.168.0.1,dst=192.168.0.2,proto=17,ttl=64),udp(src=1,dst=2)",
        );
        let left = out.lines().count();
        assert!(out.lines().all(|line| line.starts_with("1: ")), "{underlay}: {out}");
        assert_eq!(left > 0, underlay.contains("output:1"), "{underlay}: {out}");
        assert!(left <= ROUNDS_MAX, "{underlay}: {left}");
        let actions = b.s.dp.all_flows().iter().map(|f| format!("{:?}", f.actions).len()).max();
        assert!(actions < Some(4_000_000), "{underlay}: {actions:?} bytes of text");
        for n in 0..OTHERS {
            b.other(n);
        }
        b.check_others(u64::from(2 * OTHERS));
    }
}

fn parse(mac: &str) -> [u8; 6] {
    let bytes: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}
