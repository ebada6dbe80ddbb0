//! What bundles hold back, undo, refuse and tell, over a socket.

use super::*;

/// What a packet-out has taught goes with the rest of a bundle that fails; one whose actions cannot be carried out fails, as in OVS.
#[test]
fn what_a_packet_out_teaches_belongs_to_its_bundle() {
    let b = bench();
    let file = b.rundir.join("bundle");
    let bundle = |lines: &str| {
        std::fs::write(&file, lines).unwrap();
        b.ofctl(&["-O", "OpenFlow14", "bundle", "BR", file.to_str().unwrap()])
    };
    let teach =
        "packet-out in_port=1,packet=505400000007505400000001080000,actions=learn(table=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]),2";
    let rules = || b.ofctl(&["--no-stats", "dump-flows", "BR"]).lines().filter(|line| line.contains("actions")).count();
    let said = bundle(&format!("flow add table=2,actions=drop\n{teach}\nflow add actions=group:99\n"));
    assert!(said.contains("OFPBAC_BAD_OUT_GROUP") && said.contains("OFPBFC_MSG_FAILED"), "{said}");
    assert_eq!(rules(), 0);
    assert_eq!(bundle(&format!("flow add table=2,actions=drop\n{teach}\n")), "");
    assert_eq!(rules(), 2);
    b.ofctl(&["del-flows", "BR"]);
    let endless = "table=3,actions=learn(table=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]),resubmit(,3)";
    let said =
        bundle(&format!("flow add {endless}\npacket-out in_port=1,packet=505400000007505400000001080000,actions=resubmit(,3)\n"));
    assert!(said.contains("OFPFMFC_UNKNOWN") && said.contains("OFPBFC_MSG_FAILED"), "{said}");
    assert_eq!(rules(), 0);
}

/// As in OVS a message that is refused by itself is refused before its flags are compared with the bundle's, which end it.
#[test]
fn a_message_that_is_wrong_leaves_its_bundle() {
    let b = bench();
    let mut wire = b.wire();
    let control = |kind| Body::BundleControl(BundleControl { id: 1, kind, flags: 3 });
    wire.send(control(0));
    let po = parse_packet_out("in_port=1,packet=505400000007505400000001080000,actions=2", &Names::default()).unwrap().0;
    for (buffer_id, error) in [(5, OfError::OfpbrcBufferUnknown), (u32::MAX, OfError::OfpbfcBadFlags)] {
        let body = Body::PacketOut(Box::new(PacketOut { buffer_id, ..po.clone() }));
        let message = Message { version: Version::V13, xid: Xid(1), body };
        wire.send(Body::BundleAdd { id: 1, flags: 1, raw: message.encode().unwrap(), message: Box::new(message) });
        let told = wire.until(|body| matches!(body, Body::Error(_))).body;
        assert!(matches!(&told, Body::Error(told) if told.error == error), "{told:?}");
    }
}

/// An error of a bundle's member carries the message that has added it.
#[test]
fn a_member_that_fails_is_named_by_what_added_it() {
    let b = bench();
    let mut wire = b.wire();
    let control = |kind: u8| [4, 4, 0, 24, 0, 0, 0, 7, 0x4f, 0x4e, 0x46, 0, 0, 0, 8, 0xfc, 0, 0, 0, 1, 0, kind, 0, 3];
    // A group-mod that modifies what is not there.
    let group_mod = [4, 15, 0, 16, 0, 0, 0, 7, 0, 1, 0, 0, 0, 0, 0, 9];
    let mut add = [&control(0)[..], &group_mod].concat();
    (add[3], add[15], add[21]) = (40, 0xfd, 0);
    for message in [&control(0)[..], &add, &control(4)] {
        wire.stream.write_all(message).unwrap();
    }
    let heard = wire.until(|body| matches!(body, Body::Error(_)));
    assert!(matches!(heard.body, Body::Error(error) if error.data == add), "the member's own error");
}

/// What a packet-out has taught is done with: later members of its bundle have the last word on it.
#[test]
fn a_packet_out_teaches_once() {
    let b = bench();
    let file = b.rundir.join("bundle");
    let rules_after = |later: &str| {
        let learn = "learn(table=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),2";
        let teach = format!("packet-out in_port=2,packet=505400000007505400000001080000,actions={learn}");
        std::fs::write(&file, format!("{teach}\n{later}\n")).unwrap();
        assert_eq!(b.ofctl(&["-O", "OpenFlow14", "bundle", "BR", file.to_str().unwrap()]), "");
        let rules = b.ofctl(&["--no-stats", "dump-flows", "BR"]);
        rules.lines().filter(|line| line.contains("actions")).map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(rules_after("flow delete table=1"), [""; 0]);
    let modify = "flow modify_strict table=1,priority=32768,dl_dst=50:54:00:00:00:01,actions=drop";
    assert_eq!(rules_after(modify), ["table=1, dl_dst=50:54:00:00:00:01 actions=drop"]);
}

/// Monitors hear that a rule is there before they hear that it is gone, whoever takes it away when.
#[test]
fn what_a_packet_out_teaches_is_told_at_once() {
    let b = bench();
    let (id, watchers) = {
        let world = b.scenario.slowpath.read_world();
        (world.bridge_named("br0").unwrap().id, Arc::clone(&world.watchers))
    };
    let watcher = watchers.watcher(id, Version::V14);
    let (flags, matching) = (0x1f, flow::matching::Match::default());
    let (out_port, out_group) = (OfPort::ANY, openflow::GroupId::ANY);
    let request = FlowMonitorRequest { id: 1, command: 0, flags, out_port, out_group, table: TableId(1), matching };
    watcher.request(b.scenario.slowpath.read_world().bridge_named("br0").unwrap(), &[request]).unwrap();
    let teach = "in_port=1,packet=505400000007505400000001080000,actions=learn(table=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[])";
    let po = parse_packet_out(teach, &Names::default()).unwrap().0;
    let mut splitter = Splitter::default();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    b.scenario.flow_mod("br0", "delete table=1").unwrap();
                }
            });
        }
        for _ in 0..2000 {
            packet_out(&b.scenario.slowpath, id, &po, 0).unwrap();
            splitter.push(&watcher.take());
        }
        done.store(true, Ordering::Relaxed);
    });
    splitter.push(&watcher.take());
    let mut told = Vec::new();
    while let Some(raw) = splitter.next_message().unwrap() {
        let text = openflow::print::format_bytes(raw, &Names::default(), 0);
        told.extend(text.lines().filter(|l| l.contains("event=")).map(|l| l.contains("event=ADDED")));
    }
    assert!(told.len() > 1 && told[0] && told.windows(2).all(|pair| pair[0] != pair[1]), "{told:?}");
}
