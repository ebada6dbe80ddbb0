//! Lookups by rule, table, prefix, mark; and which answers a change reaches.

use super::*;

fn addr(text: &str) -> Addr {
    Addr::parse(text).unwrap()
}

fn route(prefix: &str, device: &str) -> Route {
    Route {
        prefix: Prefix::parse(prefix).unwrap(),
        mark: 0,
        device: device.to_owned(),
        gateway: Addr(0),
        source: None,
        local: false,
        user: false,
        metric: 0,
    }
}

fn query(dst: &str) -> Query {
    Query { dst: addr(dst), src: Addr(0), mark: 0 }
}

fn router() -> Router {
    let mut r = Router::default();
    r.set_addresses("br0", vec![DeviceAddr { address: addr("10.0.0.1"), plen: 96 + 24 }]);
    r.set_addresses("br1", vec![DeviceAddr { address: addr("2001:db8::1"), plen: 64 }]);
    r.insert(TABLE_MAIN, route("10.0.0.0/24", "br0"));
    r.insert(TABLE_MAIN, Route { gateway: addr("10.0.0.254"), ..route("0.0.0.0/0", "br0") });
    r.insert(TABLE_MAIN, route("2001:db8::/64", "br1"));
    r.insert(TABLE_MAIN, Route { gateway: addr("2001:db8::ff"), ..route("::/0", "br1") });
    r
}

#[test]
fn the_longest_prefix_of_the_family_wins() {
    let r = router();
    let found = |dst: &str| r.find(query(dst)).map(|a| format!("{} {} {}", a.device, a.gateway, a.src));
    assert_eq!(found("10.0.0.9").as_deref(), Some("br0 :: 10.0.0.1"));
    assert_eq!(found("8.8.8.8").as_deref(), Some("br0 10.0.0.254 10.0.0.1"));
    assert_eq!(found("2001:db8::7").as_deref(), Some("br1 :: 2001:db8::1"));
    assert_eq!(found("2600::1").as_deref(), Some("br1 2001:db8::ff 2001:db8::1"));
}

#[test]
fn what_a_way_takes_is_believed_for_a_time() {
    let mut r = router();
    let mtu = |r: &Router, dst: &str| r.find(query(dst)).unwrap().mtu;
    assert_eq!(mtu(&r, "10.0.0.9"), 0);
    let device = |carrier| Some(Device { mtu: 1500, carrier });
    assert!(r.set_device("br0", device(false)) && !r.set_device("br0", device(true)));
    assert!(r.set_path_mtu(addr("10.0.0.9"), 1300, 5) && !r.set_path_mtu(addr("10.0.0.9"), 1300, 6));
    assert_eq!((mtu(&r, "10.0.0.9"), mtu(&r, "10.0.0.8")), (1300, 1500));
    assert!(!r.has_old_paths(600_005) && r.has_old_paths(600_006));
    r.forget_old_paths(600_006);
    assert_eq!(mtu(&r, "10.0.0.9"), 1500);
}

#[test]
fn a_users_route_beats_one_that_is_not_much_longer() {
    let mut r = router();
    r.insert(TABLE_MAIN, Route { user: true, ..route("10.0.0.0/16", "br7") });
    assert_eq!(r.find(query("10.0.0.9")).unwrap().device, "br7");
    r.insert(TABLE_MAIN, Route { metric: 5, ..route("10.0.0.0/24", "br8") });
    assert!(r.remove(TABLE_MAIN, Prefix::parse("10.0.0.0/16").unwrap(), 0, |r| r.user));
    assert_eq!(r.find(query("10.0.0.9")).unwrap().device, "br0", "the smaller metric");
    assert!(r.remove(TABLE_MAIN, Prefix::parse("10.0.0.0/24").unwrap(), 0, |r| r.metric == 0));
    assert_eq!(r.find(query("10.0.0.9")).unwrap().device, "br8");
}

#[test]
fn marks_sources_and_rules() {
    let mut r = router();
    r.insert(TABLE_MAIN, Route { mark: 7, ..route("10.0.0.0/24", "br9") });
    assert_eq!(r.find(Query { mark: 7, ..query("10.0.0.9") }).unwrap().device, "br9");
    assert_eq!(r.find(Query { mark: 8, ..query("10.0.0.9") }), None);
    assert_eq!(r.find(Query { src: addr("10.0.0.2"), ..query("10.0.0.9") }), None, "not ours");
    assert_eq!(r.find(Query { src: addr("10.0.0.1"), ..query("10.0.0.9") }).unwrap().src, addr("10.0.0.1"));
    r.insert(100, route("10.0.0.0/8", "br5"));
    let rule = Rule { priority: 5, v6: false, invert: false, from: Prefix::parse("10.0.0.1"), table: 100, user: true };
    assert!(r.add_rule(rule.clone()) && !r.add_rule(rule));
    assert_eq!(r.find(Query { src: addr("10.0.0.1"), ..query("10.0.0.9") }).unwrap().device, "br5");
    assert_eq!(r.find(query("10.0.0.9")).unwrap().device, "br0");
}

#[test]
fn a_change_reaches_what_asked_for_it() {
    let mut r = router();
    let (near, far) = (query("10.0.0.9"), query("8.8.8.8"));
    let (near_object, far_object) = (r.ask(near).1, r.ask(far).1);
    assert_eq!(r.ask(near).1, near_object);
    r.insert(TABLE_MAIN, route("8.8.0.0/16", "br3"));
    assert_eq!(r.differing(None), [far_object]);
    assert_eq!(r.ask(far).0.unwrap().device, "br3");
    assert!(r.differing(None).is_empty());
    assert_eq!(r.differing(Some("br0")), [near_object]);
    for i in 0..ASKED_MAX as u128 {
        let _ = r.ask(Query { dst: Addr(i), ..near });
    }
    assert_eq!(r.ask(Query { dst: Addr(1 << 100), ..near }).1, Object::Routes);
}
