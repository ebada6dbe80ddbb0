//! Cases in OVS's notation: flows of its tests, as `ovs-ofctl parse-flow` of OVS 3.1 sees them.

use super::*;
use crate::message::{Body, FlowModCommand, Message};
use crate::text::{Names, Protocols};
use crate::types::{Version, Xid};
use crate::wire::Codec;

/// The flow as `ovs-ofctl parse-flow` shows it: through the wire of the oldest protocol that has it.
fn through_the_wire(text: &str) -> String {
    let parsed = match parse_flow(text, FlowSyntax::Command(FlowModCommand::Add), &Names::default()) {
        Ok(parsed) => parsed,
        Err(e) => return format!("error: {e}"),
    };
    let chosen = Protocols(1 << parsed.protocols.0.trailing_zeros());
    let version = Version::ALL.into_iter().find(|v| !Protocols::of_version(*v).and(chosen).is_empty()).unwrap();
    let nxm = !chosen.and(Protocols::NXM_ANY).is_empty();
    let codec = Codec { nxm, table_id: !chosen.and(Protocols::WITH_TABLE).is_empty(), ..Codec::default() };
    let message = Message { version, xid: Xid(1), body: Body::FlowMod(Box::new(parsed.flow)) };
    let mut bytes = Vec::new();
    codec.encode(&message, &mut bytes).unwrap();
    let codec = Codec { table_id: true, ..codec };
    match codec.decode(&bytes).map(|m| m.body) {
        Ok(Body::FlowMod(flow)) => {
            let text = format_flow_mod(&flow, version, &Names::default());
            format!("{} | {chosen} | {text}", parsed.protocols)
        }
        other => format!("{} | {chosen} | {other:?}", parsed.protocols),
    }
}

#[test]
fn flows_as_ovs_reads_them() {
    let lines: Vec<&str> = include_str!("cases/flows.txt").lines().skip(1).collect();
    let mut faults = Vec::new();
    for pair in lines.chunks(2) {
        let got = through_the_wire(pair[0]);
        if got != pair[1].trim() {
            faults.push(format!("{}\n  want {}\n  got  {got}", pair[0], pair[1].trim()));
        }
    }
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), lines.len() / 2, faults.join("\n"));
}
