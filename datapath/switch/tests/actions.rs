//! Every action of the switch, on a dummy datapath: a megaflow in text, a frame in, frames out.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "a failure is the test's")]

mod common;

use common::{Bench, frame, megaflow, output, set};
use flow::action::{Action, Cookie, HashAlg, SetAttr, TunnelPush, Userspace};
use flow::seam::{
    BAND_DROP, BAND_DSCP_REMARK, DpError, Execute, FlowPut, METER_BURST, METER_PKTPS, MeterBand, MeterConfig, PutMode, UpcallKind,
};
use flow::{Datapath, DpPort, Key, Ufid};
use std::sync::Arc;
use std::time::Duration;

const UDP: &str = "in_port(1),packet_type(ns=0,id=0),eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02),eth_type(0x0800),\
ipv4(src=10.0.0.1,dst=10.0.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src=1,dst=2)";
const ALL_OF_1: &str = "recirc_id(0),in_port(1)";

fn one(actions: Vec<Action>) -> (Vec<u8>, Vec<(u32, Vec<u8>)>) {
    let bench = Bench::new(3, &[]);
    bench.put(1, ALL_OF_1, actions);
    let sent = frame(UDP, 100);
    let out = bench.send(1, &sent);
    assert_eq!(bench.dp.get(Ufid(1)).unwrap().stats.packets, 1);
    (sent, out)
}

#[test]
fn output_and_drop() {
    let (sent, out) = one(vec![output(2)]);
    assert_eq!(out, [(2, sent)]);
    let (sent, out) = one(vec![output(2), output(3)]);
    assert_eq!(out, [(2, sent.clone()), (3, sent)]);
    let before = datapath::counters::DROP_PIPELINE.count();
    assert_eq!(one(vec![]).1, []);
    assert!(datapath::counters::DROP_PIPELINE.count() > before);
    let before = datapath::counters::DROP_INVALID_PORT.count();
    assert_eq!(one(vec![output(77)]).1, []);
    assert!(datapath::counters::DROP_INVALID_PORT.count() > before);
    let before = datapath::counters::DROP_STACK.count();
    assert_eq!(one(vec![Action::Drop(4)]).1, []);
    assert!(datapath::counters::DROP_STACK.count() > before);
}

#[test]
fn trunc_concerns_the_next_output_only() {
    let (sent, out) = one(vec![Action::Trunc(20), output(2), output(3)]);
    assert_eq!(out, [(2, sent[..20].to_vec()), (3, sent)]);
}

#[test]
fn vlan_push_and_pop_and_set() {
    let (sent, out) = one(vec![Action::PushVlan { tpid: 0x8100, tci: 0x1000 | 100 }, output(2), Action::PopVlan, output(3)]);
    let mut tagged = sent.clone();
    tagged.splice(12..12, [0x81, 0, 0, 100]);
    assert_eq!(out, [(2, tagged), (3, sent)]);
    let eth = set(SetAttr::Eth, |v, m| (v.eth_dst, m.eth_dst) = ([1, 2, 3, 4, 5, 6], [0xff; 6]));
    let ip = set(SetAttr::Ipv4, |v, m| (v.nw_ttl, m.nw_ttl) = (9, 0xff));
    let udp = set(SetAttr::Udp, |v, m| (v.tp_dst, m.tp_dst) = ([0, 99], [0xff; 2]));
    let (_, out) = one(vec![eth, ip, udp, output(2)]);
    let got = &out[0].1;
    assert_eq!((&got[..6], got[22], &got[36..38]), (&[1u8, 2, 3, 4, 5, 6][..], 9, &[0u8, 99][..]));
    assert_eq!(port::offload::verify(got), (port::offload::Verdict::Good, port::offload::Verdict::Good));
}

/// OpenFlow 1.3 section 7.2.5, byte for byte: in the long form with several outputs and in the short one.
#[test]
fn i_tags_are_pushed_set_and_popped() {
    let tag = set(SetAttr::Pbb, |v, m| (v.nw_src, m.nw_src) = ([8, 0, 1, 2], [0x08, 0xff, 0xff, 0xff]));
    let eth = set(SetAttr::Eth, |v, m| (v.eth_dst, m.eth_dst) = ([9; 6], [0xff; 6]));
    let push = || Action::PushPbb { isid: 0x12_3456, pcp: 5 };
    let header = |sent: &[u8], tci: [u8; 4]| [&sent[..12], &[0x88, 0xe7], &tci, sent].concat();
    let (sent, out) = one(vec![push(), output(2), tag.clone(), eth.clone(), output(3), Action::PopPbb, output(2)]);
    let mut changed = header(&sent, [0xa8, 0, 1, 2]);
    changed[..6].fill(9);
    assert_eq!(out, [(2, header(&sent, [0xa0, 0x12, 0x34, 0x56])), (2, sent.clone()), (3, changed.clone())]);
    assert_eq!(one(vec![push(), tag, eth, output(3)]).1, [(3, changed)]);
    // Behind a tag of the backbone, which goes with its header; and the inner of two.
    let tagged = vec![push(), Action::PushVlan { tpid: 0x88a8, tci: 0x1064 }, Action::PopPbb, output(2)];
    assert_eq!(one(tagged).1, [(2, sent.clone())]);
    assert_eq!(one(vec![push(), push(), Action::PopPbb, Action::Recirc(5)]).1, []);
    let before = datapath::counters::DROP_REWRITE.count();
    assert_eq!(one(vec![Action::PopPbb, output(2)]).1, [], "there is none");
    assert!(datapath::counters::DROP_REWRITE.count() > before);
}

#[test]
fn ttls_are_copied_beneath_labels() {
    let push = Action::PushMpls { lse: 0x1_0109, eth_type: 0x8847 };
    let pop = Action::PopMpls { eth_type: 0x0800 };
    let copy = |inwards| Action::CopyTtl { inwards };
    let (_, out) = one(vec![push.clone(), copy(true), output(2), pop.clone(), output(3)]);
    assert_eq!((out[0].1[17], out[0].1[26], out[1].1[22]), (9, 9, 9));
    assert_eq!(port::offload::verify(&out[1].1).0, port::offload::Verdict::Good);
    let (sent, out) = one(vec![push, copy(false), output(2), pop, output(3)]);
    assert_eq!((out[0].1[17], &out[1].1), (64, &sent));
}

#[test]
fn a_clone_changes_only_itself() {
    let eth = set(SetAttr::Eth, |v, m| (v.eth_dst, m.eth_dst) = ([9; 6], [0xff; 6]));
    let (sent, out) = one(vec![Action::Clone(vec![eth, output(2)]), output(3)]);
    assert_eq!(out[0].1[..6], [9; 6]);
    assert_eq!(out[1], (3, sent));
    let (_, out) = one(vec![Action::Sample { probability: u32::MAX, actions: vec![output(2)] }, output(3)]);
    assert_eq!(out.len(), 2);
    let (_, out) = one(vec![Action::Sample { probability: 0, actions: vec![output(2)] }, output(3)]);
    assert_eq!(out.len(), 1);
}

#[test]
fn check_pkt_len_chooses_by_length() {
    for (size, port) in [(99, 2), (100, 3)] {
        let check = Action::CheckPktLen { size, greater: vec![output(2)], less_equal: vec![output(3)] };
        assert_eq!(one(vec![check]).1.iter().map(|o| o.0).collect::<Vec<_>>(), [port]);
    }
}

#[test]
fn dec_ttl_and_its_exception() {
    let (_, out) = one(vec![Action::DecTtl { exceeded: vec![] }, output(2)]);
    assert_eq!(out[0].1[22], 63);
    let last = set(SetAttr::Ipv4, |v, m| (v.nw_ttl, m.nw_ttl) = (1, 0xff));
    let (_, out) = one(vec![last, Action::DecTtl { exceeded: vec![output(3)] }, output(2)]);
    assert_eq!(out.iter().map(|o| o.0).collect::<Vec<_>>(), [3]);
}

#[test]
fn packets_go_round_with_their_metadata_but_not_for_ever() {
    let bench = Bench::new(3, &[]);
    let mark = set(SetAttr::Mark, |v, m| (v.pkt_mark, m.pkt_mark) = ([0, 0, 0, 7], [0xff; 4]));
    let eth = set(SetAttr::Eth, |v, m| (v.eth_src, m.eth_src) = ([2; 6], [0xff; 6]));
    bench.put(1, ALL_OF_1, vec![mark, eth, Action::Hash { alg: HashAlg::L4, basis: 0 }, Action::Recirc(5)]);
    bench.put(2, "skb_mark(0x7),recirc_id(0x5),in_port(1),eth(src=02:02:02:02:02:02)", vec![output(2)]);
    let out = bench.send(1, &frame(UDP, 60));
    assert_eq!(out.iter().map(|o| o.0).collect::<Vec<_>>(), [2]);
    bench.put(3, "recirc_id(0),in_port(2)", vec![Action::Recirc(9)]);
    bench.put(4, "recirc_id(0x9),in_port(2)", vec![output(1), Action::Recirc(9)]);
    let before = datapath::counters::DROP_RECIRC.count();
    assert_eq!(bench.send(2, &frame(UDP, 60)).len(), 8);
    assert!(datapath::counters::DROP_RECIRC.count() > before);
}

#[test]
fn meters_drop_and_count() {
    let bench = Bench::new(2, &[]);
    let bands = vec![MeterBand { kind: BAND_DROP, rate: 1, burst_size: 2, prec_level: 0 }];
    bench.dp.meter_set(3, &MeterConfig { flags: METER_PKTPS | METER_BURST, bands }).unwrap();
    bench.put(1, ALL_OF_1, vec![Action::Meter(3), output(2)]);
    let passed: usize = (0..5).map(|_| bench.send(1, &frame(UDP, 60)).len()).sum();
    assert!((2..=3).contains(&passed), "{passed} (a second may have passed)");
    assert_eq!(bench.dp.meter_get(3).unwrap().packets, 5);
    assert_eq!(bench.dp.meter_del(3).unwrap().bands[0].0, 5 - passed as u64);
    assert_eq!(bench.dp.meter_del(3), Err(DpError::NoMeter));
    assert_eq!(bench.send(1, &frame(UDP, 60)).len(), 1, "without its meter everything passes");
}

#[test]
fn a_meter_that_remarks_lets_everything_pass() {
    let bench = Bench::new(2, &[]);
    let bands = vec![MeterBand { kind: BAND_DSCP_REMARK, rate: 1, burst_size: 1, prec_level: 1 }];
    bench.dp.meter_set(3, &MeterConfig { flags: METER_PKTPS | METER_BURST, bands }).unwrap();
    // AF11 becomes AF12.
    let af11 = set(SetAttr::Ipv4, |v, m| (v.nw_tos, m.nw_tos) = (10 << 2, 0xfc));
    bench.put(1, ALL_OF_1, vec![af11, Action::Meter(3), output(2)]);
    let out: Vec<_> = (0..6).flat_map(|_| bench.send(1, &frame(UDP, 60))).collect();
    assert_eq!(out.len(), 6);
    let marked = out.iter().filter(|(_, packet)| packet[15] >> 2 == 12).count();
    assert!((4..=5).contains(&marked), "{marked} (a second may have passed)");
    assert!(out.iter().all(|(_, packet)| port::offload::verify(packet).0 == port::offload::Verdict::Good));
    assert_eq!(bench.dp.meter_get(3).unwrap().bands[0].0, marked as u64);
}

#[test]
fn a_bond_of_the_datapath_spreads_packets_by_their_hash() {
    let bench = Bench::new(4, &[]);
    bench.put(1, ALL_OF_1, vec![Action::LbOutput(9), output(4)]);
    assert_eq!(bench.send(1, &frame(UDP, 60)).len(), 1, "without the bond only the other output");
    let table = std::array::from_fn(|i| Some(DpPort(if i % 2 == 0 { 2 } else { 3 })));
    bench.dp.bond_set(9, &table).unwrap();
    let out = bench.send(1, &frame(UDP, 60));
    let ports: Vec<_> = out.iter().map(|o| o.0).collect();
    assert!(ports == [2, 4] || ports == [3, 4] || ports == [4, 2] || ports == [4, 3], "{ports:?}");
    assert_eq!(bench.dp.bond_bytes(9).unwrap().iter().sum::<u64>(), out[0].1.len() as u64);
    bench.dp.bond_set(9, &[Some(DpPort(3)); 256]).unwrap();
    assert!(bench.send(1, &frame(UDP, 60)).iter().any(|o| o.0 == 3));
    bench.dp.bond_del(9);
    assert_eq!(bench.send(1, &frame(UDP, 60)).len(), 1);
}

#[test]
fn mpls_nsh_and_eth_nest() {
    let mpls = Action::PushMpls { lse: 0x0001_0140, eth_type: 0x8847 };
    let (sent, out) = one(vec![mpls, output(2), Action::PopMpls { eth_type: 0x0800 }, output(3)]);
    assert_eq!((&out[0].1[12..14], &out[0].1[14..18]), (&[0x88u8, 0x47][..], &[0u8, 1, 1, 0x40][..]));
    assert_eq!(out[1], (3, sent));
    let (sent, out) = one(vec![Action::PopEth, Action::PushEth { src: [1; 6], dst: [2; 6] }, output(2)]);
    assert_eq!((&out[0].1[..12], &out[0].1[12..]), (&[[2u8; 6], [1; 6]].concat()[..], &sent[12..]));
    let nsh = flow::action::Nsh { mdtype: 1, np: 3, ttl: 63, path: 0x123, metadata: vec![0; 16], ..Default::default() };
    let (sent, out) = one(vec![Action::PushNsh(Box::new(nsh)), Action::PopNsh, output(2)]);
    assert_eq!(out, [(2, sent)]);
    let before = datapath::counters::DROP_NSH_DECAP.count();
    assert_eq!(one(vec![Action::PopNsh, output(2)]).1, []);
    assert!(datapath::counters::DROP_NSH_DECAP.count() > before);
}

#[test]
fn tunnel_push_encapsulates() {
    let mut header = vec![0u8; 50];
    header[12..14].copy_from_slice(&[8, 0]);
    header[14] = 0x45;
    header[23] = 17;
    header[36..38].copy_from_slice(&4789u16.to_be_bytes());
    let push = TunnelPush { tunnel_port: DpPort(9), out_port: DpPort(2), kind: 4, header, computes_label: false };
    let (sent, out) = one(vec![Action::TunnelPush(Box::new(push)), output(2)]);
    assert_eq!(out[0].1.len(), 150);
    assert_eq!(out[0].1[50..], sent);
}

#[test]
fn what_cannot_be_done_is_refused_when_put() {
    let bench = Bench::new(1, &[]);
    let mut deep = vec![output(1)];
    for _ in 0..12 {
        deep = vec![Action::Clone(deep)];
    }
    let psample = || Action::Psample { group: 1, cookie: vec![] };
    for actions in [vec![psample()], vec![Action::Clone(vec![psample()])], deep] {
        let flow = megaflow(1, ALL_OF_1, actions.clone());
        let put = FlowPut { flow, mode: PutMode::Create, clear_stats: false };
        assert!(matches!(bench.dp.put(&[put])[0], Err(DpError::Unsupported(_) | DpError::Invalid(_))));
        let execute = Execute {
            packet: frame(UDP, 60),
            key: Box::new(Key::ZERO),
            actions: Arc::new(actions),
            rx_queue: 0,
            mtu: 0,
            probe: false,
        };
        assert!(bench.dp.execute(vec![execute])[0].is_err());
    }
    assert_eq!(bench.dp.stats().flows, 0);
}

#[test]
fn misses_and_userspace_actions_go_up() {
    let bench = Bench::new(2, &[]);
    let sent = frame(UDP, 60);
    assert_eq!(bench.send(1, &sent), []);
    let mut ups = Vec::new();
    bench.dp.upcalls(0, 0, Duration::from_secs(1), &mut ups);
    assert_eq!(ups.len(), 0);
    bench.dp.upcalls(0, 10, Duration::ZERO, &mut ups);
    assert_eq!((ups.len(), &ups[0].kind, &ups[0].packet), (1, &UpcallKind::Miss, &sent));
    assert_eq!(u32::from_be_bytes(ups[0].key.in_port), 1);
    let cookie = Cookie::Raw(vec![1, 2, 3]);
    let to = Userspace { pid: 0, cookie: cookie.clone(), actions: true, tunnel_out_port: None };
    let eth = set(SetAttr::Eth, |v, m| (v.eth_dst, m.eth_dst) = ([9; 6], [0xff; 6]));
    bench.put(1, ALL_OF_1, vec![eth, Action::Trunc(30), Action::Userspace(Box::new(to)), output(2)]);
    assert_eq!(bench.send(1, &sent).len(), 1);
    ups.clear();
    bench.dp.upcalls(0, 10, Duration::ZERO, &mut ups);
    assert_eq!((&ups[0].kind, ups[0].packet.len(), ups[0].full_len), (&UpcallKind::Action(cookie), 30, 60));
    assert_eq!(ups[0].key.eth_dst, [9; 6], "the key is that of the packet as it went up");
    assert_eq!(ups[0].actions.as_deref(), Some(&vec![output(2)]));
    bench.dp.set_upcalls_enabled(false);
    bench.send(2, &sent);
    assert_eq!(bench.dp.port_stats(DpPort(2)).unwrap().upcall_errors, 1);
    assert_eq!(bench.dp.stats().lost, 1);
}

#[test]
fn executed_packets_find_what_was_put_before() {
    let bench = Bench::new(3, &[]);
    bench.put(1, "recirc_id(0x3),in_port(1)", vec![output(2)]);
    let mut key = Box::new(Key::ZERO);
    key.in_port = 1u32.to_be_bytes();
    let execute = |actions| Execute {
        packet: frame(UDP, 60),
        key: key.clone(),
        actions: Arc::new(actions),
        rx_queue: 0,
        mtu: 0,
        probe: false,
    };
    let results = bench.dp.execute(vec![execute(vec![output(3), Action::Recirc(3)]), execute(vec![output(2)])]);
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(bench.sent().iter().map(|s| s.0).collect::<Vec<_>>(), [2, 2, 3]);
    assert_eq!(bench.dp.get(Ufid(1)).unwrap().stats.packets, 1);
}

/// Handlers execute by the dozen what shares its actions: each packet has its own result, and they leave in order.
#[test]
fn packets_that_do_the_same_are_executed_together() {
    let bench = Bench::new(3, &[]);
    let actions = Arc::new(vec![output(2), output(3)]);
    let execute = |len: usize, in_port: u32| {
        let key = Box::new(Key { in_port: in_port.to_be_bytes(), ..Key::ZERO });
        Execute { packet: frame(UDP, len), key, actions: Arc::clone(&actions), rx_queue: 0, mtu: 0, probe: false }
    };
    let mut batch: Vec<_> = (60..160).map(|len| execute(len, if len == 90 { 3 } else { 1 })).collect();
    batch[40].packet = vec![0; 1 << 17];
    batch[50].probe = true;
    let results = bench.dp.execute(batch);
    assert_eq!(results.len(), 100);
    assert!(results.iter().enumerate().all(|(i, result)| result.is_err() == (i == 40)));
    let sent = bench.sent();
    for port in [2, 3] {
        let lengths: Vec<_> = sent.iter().filter(|s| s.0 == port).map(|s| s.1.len()).collect();
        assert_eq!(lengths, (60..160).filter(|len| ![100, 110].contains(len)).collect::<Vec<_>>());
    }
}
