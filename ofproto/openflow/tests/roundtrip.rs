//! What is encoded decodes to the same, for every body in every version that has it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is the test's")]

mod common;

use common::{Dice, actions, bodies, hex};
use flow::fields::Field;
use flow::matching::Match;
use openflow::action::SetForm;
use openflow::message::{Body, FlowMod, PacketOut};
use openflow::types::NO_BUFFER;
use openflow::wire::{Codec, Unencodable};
use openflow::{Message, OfAction, OfPort, TableId, Version, Xid, decode};
use proptest::prelude::*;
use std::mem::discriminant;

/// Once through the wire; the second time nothing changes any more. Versions that cannot say a detail may drop it the first time.
fn settles(message: &Message) -> Option<Message> {
    let bytes = match message.encode() {
        Ok(bytes) => bytes,
        Err(Unencodable { .. }) => return None,
    };
    let once = decode(&bytes).unwrap_or_else(|e| panic!("{}: {message:?}\n{}", e.name(), hex(&bytes)));
    // From 1.4 on a monitor is cancelled and paused within multiparts.
    let monitors = matches!(message.body, Body::FlowMonitorCancel(_) | Body::FlowMonitorPaused | Body::FlowMonitorResumed);
    if discriminant(&once.body) != discriminant(&message.body) {
        assert!(monitors && message.version >= Version::V14, "{message:?}\n{once:?}");
        return None;
    }
    let again = once.encode().unwrap();
    let twice = decode(&again).unwrap_or_else(|e| panic!("{}: {once:?}\n{}", e.name(), hex(&again)));
    assert_eq!(twice, once, "{}\n{}", hex(&bytes), hex(&again));
    Some(once)
}

/// Nothing of a body is lost in the newest version that has it.
fn keeps(body: &Body) {
    let mut newest = None;
    for version in Version::ALL {
        let message = bodies::in_version(version, body.clone());
        if let Some(once) = settles(&message) {
            newest = Some((message, once));
        }
    }
    let (message, mut once) = newest.unwrap_or_else(|| panic!("no version has {body:?}"));
    if let Body::BundleAdd { raw, .. } = &mut once.body {
        raw.clear();
    }
    assert_eq!(once, message);
}

const TCP: [(Field, u128); 2] = [(Field::EthType, 0x0800), (Field::NwProto, 6)];

fn flow_with(action: OfAction, fields: &[(Field, u128)]) -> Body {
    let mut matching = Match::default();
    for (field, value) in fields {
        matching.imply_ethernet(*field);
        matching.set(*field, *value);
    }
    Body::FlowMod(Box::new(FlowMod {
        table: TableId(0),
        matching,
        priority: 5,
        new_cookie: 1,
        actions: vec![action],
        ..FlowMod::default()
    }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_body(seed in any::<u64>()) {
        let mut d = Dice(seed);
        let mut n = 0;
        while let Some(body) = bodies::body(&mut d, n) {
            keeps(&body);
            n += 1;
        }
        prop_assert_eq!(n, 82);
    }

    #[test]
    fn every_action(seed in any::<u64>()) {
        let mut d = Dice(seed);
        for n in 0.. {
            let Some(action) = actions::plain(&mut d, n).or_else(|| actions::long(&mut d, n.checked_sub(23)?)) else { break };
            keeps(&flow_with(action, &TCP));
        }
    }
}

/// Actions that some versions say with others; each version settles on its own.
#[test]
fn old_actions() {
    use OfAction as A;
    let ip = [
        A::Enqueue { port: OfPort(3), queue: 7 },
        A::SetEthSrc([1; 6]),
        A::SetEthDst([1; 6]),
        A::PushVlan { ethertype: 0x8100 },
        A::PushVlan { ethertype: 0x88a8 },
        A::SetTunnel { id: 5, wide: false },
        A::SetTunnel { id: 5, wide: true },
        A::SetVlanVid { vid: 9, push_if_needed: true },
        A::SetVlanPcp { pcp: 3, push_if_needed: true },
        A::SetIpv4Src([1, 2, 3, 4]),
        A::SetIpv4Dst([1, 2, 3, 4]),
        A::SetIpDscp(0x20),
        A::SetIpEcn(1),
        A::SetIpTtl(9),
        A::SetL4Src(80),
        A::SetL4Dst(81),
        A::DecTtl { controllers: None },
        A::Meter(5),
        A::ClearActions,
        A::WriteActions(vec![A::Output { port: OfPort(3), max_len: 0 }]),
    ];
    let tagged = [A::StripVlan { pop: false }, A::StripVlan { pop: true }, A::SetVlanVid { vid: 9, push_if_needed: false }];
    let mpls = [A::SetMplsLabel(7), A::SetMplsTc(2), A::SetMplsTtl(3), A::DecMplsTtl, A::PopMpls { ethertype: 0x800 }];
    every_version(&ip, &TCP);
    every_version(&tagged, &[(Field::VlanTci, 0x1005)]);
    every_version(&[A::DecNshTtl], &[(Field::EthType, 0x894f)]);
    // OpenFlow 1.1 cannot match on the state that it needs.
    let resubmit = A::Resubmit { port: OfPort::IN_PORT, table: TableId(5), with_ct: true, has_table: true };
    let resubmit = flow_with(resubmit, &[(Field::EthType, 0x0800), (Field::CtState, 0x22)]);
    for version in [Version::V10, Version::V12, Version::V15] {
        settles(&Message { version, xid: Xid(1), body: resubmit.clone() }).unwrap();
    }
    let mask = flow::fields::Value::ones(4);
    every_version(&[A::SetField { field: Field::Reg0, value: mask.clone(), mask, form: SetForm::Load }], &[]);
    every_version(&mpls, &[(Field::EthType, 0x8847)]);
}

fn every_version(actions: &[OfAction], fields: &[(Field, u128)]) {
    for action in actions {
        for version in Version::ALL {
            let message = Message { version, xid: Xid(1), body: flow_with(action.clone(), fields) };
            settles(&message).unwrap();
        }
    }
}

/// A codec encodes behind what is there and leaves it.
#[test]
fn appends() {
    let out = PacketOut { buffer_id: NO_BUFFER, packet: vec![1, 2], metadata: Match::default(), actions: Vec::new() };
    let message = Message { version: Version::V13, xid: Xid(1), body: Body::PacketOut(Box::new(out)) };
    let mut bytes = vec![9; 3];
    Codec::default().encode(&message, &mut bytes).unwrap();
    assert_eq!(bytes[..3], [9; 3]);
    assert_eq!(bytes[3..], message.encode().unwrap());
}
