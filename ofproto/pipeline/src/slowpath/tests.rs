//! Configuration, live: what comes, what goes, what stays, and what is told of it.

use super::*;
use crate::bridge::{port_config, port_state};
use crate::config::VlanMode;
use crate::effects::{Notice, Translation};
use crate::memory_dp::{Hook, MemoryDp};
use crate::scenario::config;
use crate::udpif::Request;
use flow::Datapath;
use flow::seam::Upcall;
use openflow::message::PortMod;

#[derive(Debug)]
struct Mute;

impl Translator for Mute {
    fn translate(&self, _: Request<'_>) -> Translation {
        Translation::default()
    }

    fn controller(&self, _: &World, _: &Upcall, _: Msec) -> Option<Notice> {
        None
    }
}

struct Bench {
    dp: Arc<MemoryDp>,
    slowpath: Arc<Slowpath>,
}

fn bench() -> Bench {
    let dp = MemoryDp::new("dummy");
    let the_one = Arc::clone(&dp);
    let factory = move |kind: &str| match kind {
        "dummy" => Ok(Arc::clone(&the_one) as Arc<dyn Datapath>),
        other => Err(DpError::Unsupported(format!("datapath type {other}"))),
    };
    Bench { dp, slowpath: Slowpath::with_translator(Box::new(factory), Arc::new(Mute)) }
}

impl Bench {
    fn numbers(&self, bridge: &str) -> String {
        let world = self.slowpath.read_world();
        let ports = world.bridge_named(bridge).unwrap().ports.values();
        ports.map(|p| format!("{}={}", p.name, p.number.0 & 0xffff)).collect::<Vec<_>>().join(" ")
    }

    fn notices(&self) -> Vec<String> {
        let notices = self.slowpath.read_world().notices.take();
        let text = |n: &Notice| match n {
            Notice::PortStatus { reason, port, .. } => {
                format!(
                    "{} {} config={} state={}",
                    ["add", "delete", "modify"][usize::from(*reason)],
                    port.name,
                    port.config,
                    port.state
                )
            }
            Notice::PacketIn(_) | Notice::FlowRemoved { .. } | Notice::TableStatus { .. } => panic!("{n:?}"),
        };
        notices.iter().map(text).collect()
    }

    fn dp_ports(&self) -> Vec<String> {
        self.dp.ports().into_iter().map(|p| p.name).collect()
    }
}

#[test]
fn ports_come_stay_and_go() {
    let b = bench();
    b.slowpath.configure(&config(&["br0 p1 p7@7 p2"]));
    assert_eq!(b.numbers("br0"), "p1=1 p2=2 p7=7 br0=65534");
    assert_eq!(b.notices().len(), 9, "four new ports, each live once it is configured, and the local one takes the bridge's MAC");
    b.slowpath.configure(&config(&["br0 p1 p7@7 p2"]));
    assert_eq!(b.notices(), [""; 0], "nothing differs");
    b.slowpath.configure(&config(&["br0 p2 p3 p7@7"]));
    assert_eq!(b.numbers("br0"), "p2=2 p3=3 p7=7 br0=65534");
    assert_eq!(b.notices(), ["delete p1 config=0 state=4", "add p3 config=0 state=0", "modify p3 config=0 state=4"]);
    let mut names = b.dp_ports();
    names.sort();
    assert_eq!(names, ["br0", "p2", "p3", "p7"]);
    b.slowpath.configure(&SwitchConfig::default());
    assert!(b.dp_ports().is_empty() && b.slowpath.udpifs().is_empty());
}

#[test]
fn what_fails_says_so_and_is_tried_again() {
    let b = bench();
    b.slowpath.configure(&config(&["br0 missing1 p1 a>a"]));
    let status = b.slowpath.status(true);
    let error = |name: &str| status.interfaces.iter().find(|i| i.name == name).unwrap().error.clone();
    assert_eq!(error("missing1").unwrap(), "could not open network device missing1 (No such device)");
    assert_eq!(error("a").unwrap(), "a: patch peer must not be self");
    assert_eq!(error("p1"), None);
    assert_eq!(status.interfaces.iter().find(|i| i.name == "p1").unwrap().ofport, Some(1));
    b.slowpath.configure(&config(&["br0 p1"]));
    assert!(b.slowpath.status(false).interfaces.iter().all(|i| i.error.is_none()));
    let mut odd = config(&["br0 p1", "br1 p2"]);
    odd.bridges[1].datapath_type = "odd".into();
    b.slowpath.configure(&odd);
    let status = b.slowpath.status(false);
    assert_eq!(status.bridges[1].error.as_deref(), Some("datapath type odd not supported"));
    assert!(status.interfaces.iter().all(|i| i.bridge == "br0"), "its ports are not tried");
}

#[test]
fn an_mtu_that_an_internal_port_cannot_follow_is_tried_once() {
    let b = bench();
    b.dp.mtu_max.store(9000, Ordering::Relaxed);
    b.slowpath.configure(&config(&["br0 p1"]));
    let refused_after = |mtu: u16| {
        b.dp.change_mtu(DpPort(1), mtu);
        (0..10).for_each(|_| b.slowpath.tick(0));
        b.dp.mtus_refused.load(Ordering::Relaxed)
    };
    let local = || b.dp.ports().iter().find(|p| p.name == "br0").unwrap().mtu;
    assert_eq!((refused_after(65530), local()), (1, 1500));
    assert_eq!((refused_after(65531), local()), (2, 1500));
    assert_eq!((refused_after(9000), local()), (2, 9000));
}

#[test]
fn what_is_refused_of_a_port_is_told_and_tried_again_until_it_is_undone() {
    let b = bench();
    let with = |mac: Option<[u8; 6]>, mtu: Option<u16>| {
        let mut config = config(&["br0 p1"]);
        let device = &mut config.bridges[0].ports[1].interfaces[0].device;
        (device.mac, device.mtu) = (mac, mtu);
        b.slowpath.configure(&config);
        let p1 = b.slowpath.status(false).interfaces.into_iter().find(|i| i.name == "p1").unwrap();
        let info = p1.info.unwrap();
        (p1.ofport, p1.error.is_some(), info.mac, info.mtu, b.dp.mtus_refused.load(Ordering::Relaxed))
    };
    let (one, other) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    b.dp.mtu_max.store(9000, Ordering::Relaxed);
    assert_eq!(with(Some(one), Some(9001)), (Some(1), true, one, 1500, 1), "as it is opened");
    assert_eq!(with(Some(one), Some(9001)), (Some(1), true, one, 1500, 2), "again, though nothing differs");
    assert_eq!(with(Some(one), Some(1500)), (Some(1), false, one, 1500, 2));
    assert_eq!(with(Some(one), Some(1500)), (Some(1), false, one, 1500, 2));
    assert_eq!(with(Some(other), Some(9001)), (Some(1), true, other, 1500, 3), "one is done, the other is not");
    assert_eq!(with(Some(one), Some(1500)), (Some(1), false, one, 1500, 3), "back to what was before");
    b.dp.mtu_max.store(0, Ordering::Relaxed);
    assert_eq!(with(Some(one), Some(9001)), (Some(1), false, one, 9001, 3));
}

#[test]
fn patches_pair_when_both_name_each_other() {
    let b = bench();
    let peers = || {
        let world = b.slowpath.read_world();
        let ports = world.bridges.values().flat_map(|b| b.ports.values());
        ports.filter_map(|p| p.peer.map(|(b, o)| format!("{}>{}.{}", p.name, b.0, o.0))).collect::<Vec<_>>()
    };
    b.slowpath.configure(&config(&["br0 x>y p1", "br1 p2 y>x"]));
    assert_eq!(peers(), ["x>2.2", "y>1.1"]);
    b.slowpath.configure(&config(&["br0 x>y p1", "br1 p2 y>z"]));
    assert_eq!(peers(), [""; 0]);
    b.slowpath.configure(&config(&["br0 x>y p1", "br1 p2 y>x"]));
    assert_eq!(peers().len(), 2);
    b.slowpath.configure(&config(&["br0 x>y p1", "br1 p2"]));
    assert_eq!(peers(), [""; 0]);
    assert_eq!(b.dp_ports().len(), 4, "patch ports are unknown to the datapath");
}

#[test]
fn a_patch_port_says_what_keeps_it_from_its_peer() {
    let b = bench();
    let told = |config: &SwitchConfig, name: &str| {
        b.slowpath.configure(config);
        let status = b.slowpath.status(false);
        let interface = status.interfaces.iter().find(|i| i.name == name).unwrap();
        (interface.ofport, interface.error.clone().unwrap_or_default())
    };
    assert_eq!(told(&config(&["br0 x>y"]), "x"), (Some(1), "No usable peer 'y' exists in 'dummy' datapath.".into()));
    assert_eq!(told(&config(&["br0 x>y", "br1 y>x"]), "x"), (Some(1), String::new()));
    assert_eq!(
        told(&config(&["br0 x>x", "br1 y>x"]), "x"),
        (None, "x: patch peer must not be self".into()),
        "also of a port that is there"
    );
    let mut two = config(&["br0 x>y", "br1 y>x"]);
    let x = two.bridges[0].ports.iter_mut().flat_map(|p| &mut p.interfaces).find(|i| i.name == "x").unwrap();
    x.device.options = [("peer", "y"), ("z", "1")].map(|(k, v)| (k.into(), v.into())).into();
    assert_eq!(told(&two, "x"), (None, "x: patch type takes only a 'peer' argument".into()));
}

#[test]
fn the_bridge_has_a_mac_and_from_it_a_datapath_id() {
    let b = bench();
    let mut c = config(&["br0 p1"]);
    c.bridges[0].hwaddr = Some([0xaa, 0x55, 0xaa, 0x55, 0, 0]);
    b.slowpath.configure(&c);
    let local = || b.slowpath.status(false).interfaces.iter().find(|i| i.name == "br0").unwrap().info.clone().unwrap().mac;
    assert_eq!(b.slowpath.status(false).bridges[0].datapath_id, 0xaa55_aa55_0000);
    assert_eq!(local(), [0xaa, 0x55, 0xaa, 0x55, 0, 0]);
    c.bridges[0].datapath_id = Some(0xfedc_ba98_7654_3210);
    c.bridges[0].hwaddr = None;
    c.bridges[0].ports[1].interfaces[0].device.mac = Some([0, 0x50, 1, 2, 3, 4]);
    b.slowpath.configure(&c);
    assert_eq!(local(), [0, 0x50, 1, 2, 3, 4]);
    assert_eq!(b.slowpath.status(false).bridges[0].datapath_id, 0xfedc_ba98_7654_3210);
}

#[test]
fn links_and_port_mods_are_told() {
    let b = bench();
    b.slowpath.configure(&config(&["br0 p1"]));
    b.notices();
    b.dp.set_link(DpPort(1), false);
    b.slowpath.tick(0);
    b.slowpath.tick(0);
    assert_eq!(b.notices(), [format!("modify p1 config=0 state={}", port_state::LINK_DOWN)]);
    b.dp.set_link(DpPort(1), true);
    b.slowpath.tick(0);
    assert_eq!(b.notices(), [format!("modify p1 config=0 state={}", port_state::LIVE)]);
    let (id, mac) = {
        let world = b.slowpath.read_world();
        let bridge = world.bridge_named("br0").unwrap();
        (bridge.id, bridge.ports[&OfPort(1)].info.mac)
    };
    let port_mod = |hw_addr, config, mask| {
        let pm = PortMod { port: OfPort(1), hw_addr, config, mask, advertise: 0 };
        b.slowpath.write_world().port_mod(id, &pm, 0)
    };
    assert_eq!(port_mod([9; 6], 0, 0), Err(PortModError::BadHwAddr));
    port_mod(mac, port_config::NO_FLOOD, port_config::NO_FLOOD | port_config::NO_FWD).unwrap();
    assert_eq!(b.notices(), ["modify p1 config=16 state=4"]);
    assert!(!b.slowpath.read_world().bridges[&id].bundle_of(OfPort(1)).unwrap().floodable);
    port_mod(mac, port_config::PORT_DOWN, port_config::PORT_DOWN).unwrap();
    assert_eq!(b.notices(), ["modify p1 config=17 state=0", "modify p1 config=17 state=1"], "what was asked, and what it led to");
    assert!(!b.dp.port(DpPort(1)).unwrap().admin_up);
    port_mod(mac, 0, port_config::PORT_DOWN).unwrap();
    assert_eq!(b.notices(), ["modify p1 config=16 state=1", "modify p1 config=16 state=4"]);
}

#[test]
fn a_vlan_changes_without_touching_the_port() {
    let b = bench();
    b.slowpath.configure(&config(&["br0 p1 p2"]));
    let changes = Arc::clone(&b.slowpath.read_world().changes);
    let before = changes.now();
    b.slowpath.configure(&config(&["br0 p1 p2"]));
    assert_eq!(changes.now(), before, "the same again changes nothing");
    b.slowpath.configure(&config(&["br0 p1:tag=5 p2"]));
    assert!(changes.now() > before);
    let world = b.slowpath.read_world();
    let bundle = world.bridge_named("br0").unwrap().bundle_of(OfPort(1)).unwrap();
    assert_eq!((bundle.vlan, bundle.vlan_mode), (5, VlanMode::Access));
    drop(world);
    assert_eq!(b.dp_ports().len(), 3);
}

#[test]
fn objects_are_counted() {
    let s = crate::scenario::Scenario::new(&config(&["br0 p1@1 p2@2", "br1 p3@3"]));
    let of = |what: &str| s.slowpath.objects().into_iter().find(|(name, _)| *name == what).unwrap().1;
    let before = of("rules");
    s.flow_mod("br0", "in_port=1,actions=2").unwrap();
    assert_eq!((of("ports"), of("rules"), of("udpif keys")), (5, before + 1, 0));
    s.send("in_port(1),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x1234)");
    assert_eq!(of("udpif keys"), 1);
}

/// A bridge takes its meters along: of sixteen that the datapath has, each of twenty bridges in turn gets one.
#[test]
fn meters_go_with_their_bridge() {
    let with = config(&["br0 p1@1", "br1 p2@2"]);
    let s = crate::scenario::Scenario::new(&with);
    s.meter_mod("br0", 0, 1, 100).unwrap();
    for _ in 0..20 {
        s.slowpath.configure(&with);
        s.meter_mod("br1", 0, 7, 100).unwrap();
        s.slowpath.configure(&config(&["br0 p1@1"]));
        let world = s.slowpath.read_world();
        assert_eq!(world.meters_taken.iter().collect::<Vec<_>>(), [&0], "that of br0 stays");
        assert!(s.dp.meter_get(0).is_ok() && s.dp.meter_get(1).is_err());
    }
}

fn has_link(b: &Bench, port: &str) -> bool {
    b.slowpath.read_world().bridge_named("br0").unwrap().port_named(port).unwrap().info.link_up
}

#[test]
fn what_is_told_of_a_port_before_it_is_in_the_world_is_not_lost() {
    let b = bench();
    b.slowpath.configure(&config(&["br0 p1"]));
    let (dp, slowpath) = (Arc::clone(&b.dp), Arc::clone(&b.slowpath));
    *b.dp.after_port.lock().unwrap() = Some(Hook(Box::new(move || {
        let p2 = dp.ports().into_iter().find(|p| p.name == "p2").unwrap().number;
        dp.tell_link(p2, false);
        slowpath.hear_of_ports();
    })));
    b.slowpath.configure(&config(&["br0 p1 p2"]));
    assert!(has_link(&b, "p1") && !has_link(&b, "p2"));
    assert!(b.slowpath.read_world().strangers.is_empty());
}

#[test]
fn nothing_old_is_written_over_what_another_thread_has_just_read() {
    let b = bench();
    b.slowpath.configure(&config(&["br0 p1"]));
    let p1 = b.dp.ports().into_iter().find(|p| p.name == "p1").unwrap().number;
    let (dp, slowpath) = (Arc::clone(&b.dp), Arc::clone(&b.slowpath));
    let (done, ended) = std::sync::mpsc::channel();
    *b.dp.after_port.lock().unwrap() = Some(Hook(Box::new(move || {
        dp.tell_link(p1, false);
        let (read, has_read) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            slowpath.hear_of_ports();
            let _ = read.send(());
        });
        // It cannot be through before we are; if it could, it is now.
        let _ = has_read.recv_timeout(std::time::Duration::from_millis(200));
        done.send(other).unwrap();
    })));
    b.slowpath.follow_port(&b.slowpath.udpif("dummy").unwrap(), p1);
    ended.recv().unwrap().join().unwrap();
    assert!(!has_link(&b, "p1"));
}

#[test]
fn a_link_is_followed_while_the_configuration_is_being_changed() {
    let b = bench();
    b.slowpath.configure(&config(&["br0 p1 p2"]));
    let p1 = b.dp.ports().into_iter().find(|p| p.name == "p1").unwrap().number;
    let applied = b.slowpath.lock_applied();
    b.dp.tell_link(p1, false);
    b.slowpath.hear_of_ports();
    assert!(!has_link(&b, "p1"));
    assert!(b.slowpath.mtus_due.load(Ordering::Acquire), "what waits for it");
    drop(applied);
    b.slowpath.look_at_ports();
    assert!(!b.slowpath.mtus_due.load(Ordering::Acquire));
}
