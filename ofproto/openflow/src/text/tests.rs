//! Groups, meters, packet-outs and TLV maps, against ovs-ofctl 3.1; flows that come back as they went.

use super::*;
use crate::message::{Body, FlowModCommand, FlowStatsEntry, Message};
use crate::types::{Version, Xid};
use crate::wire::Codec;
use proptest::prelude::*;

fn group(text: &str) -> Result<String, TextError> {
    let parsed = parse_group(text, Some(crate::message::GroupCommand::Add), &Names::default())?;
    let version = Version::ALL.into_iter().find(|v| !parsed.protocols.and(Protocols::of_version(*v)).is_empty()).unwrap();
    let message = Message { version, xid: Xid(1), body: Body::GroupMod(Box::new(parsed.group)) };
    let bytes = message.encode().unwrap();
    let Ok(Body::GroupMod(group)) = Codec::default().decode(&bytes).map(|m| m.body) else { panic!("{text}") };
    let shown = format_group_mod(&group, version, &Names::default());
    Ok(format!("{} | {version} | {shown}", parsed.protocols))
}

#[test]
fn texts_as_ovs_reads_them() {
    let lines: Vec<&str> = include_str!("cases.txt").lines().skip(1).collect();
    let mut faults = Vec::new();
    for pair in lines.chunks(2) {
        let (kind, text) = pair[0].split_once(' ').unwrap();
        let ok = || "ok".to_owned();
        let got = match kind {
            "group" => group(text),
            "meter" => parse_meter(text, Some(meter::METER_ADD)).map(|_| ok()),
            "packet-out" => parse_packet_out(text, &Names::default()).map(|_| ok()),
            _ => parse_tlv_table_mod(text, tlv::TLV_ADD).map(|_| ok()),
        };
        let got = got.unwrap_or_else(|e| format!("error: {e}"));
        if got != pair[1].trim() {
            faults.push(format!("{}\n  want {}\n  got  {got}", pair[0], pair[1].trim()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn dumped_flows_can_be_fed_back() {
    let names = Names::default();
    for line in include_str!("flow/cases/flows.txt").lines().skip(1).step_by(2) {
        let syntax = FlowSyntax::Command(FlowModCommand::Add);
        // Two fields of GTP-U are shown by names that cannot be read, here as in OVS.
        let readable = !line.contains("gtpu");
        let Some(ParsedFlow { flow, .. }) = parse_flow(line, syntax, &names).ok().filter(|_| readable) else { continue };
        let dumped = FlowStatsEntry {
            matching: flow.matching.clone(),
            cookie: flow.new_cookie,
            table: flow.table,
            priority: flow.priority,
            duration_sec: 5,
            duration_nsec: 123_000_000,
            idle_timeout: flow.idle_timeout,
            hard_timeout: flow.hard_timeout,
            idle_age: 3,
            hard_age: 4,
            flags: flow.flags,
            importance: flow.importance,
            packets: 7,
            bytes: 8,
            actions: flow.actions.clone(),
        };
        let text = format_flow_stats(&dumped, true, &names);
        let again = parse_flow(&text, syntax, &names).unwrap_or_else(|e| panic!("{text}: {e}")).flow;
        assert_eq!(format_flow_stats(&dumped, false, &names), {
            let entry =
                FlowStatsEntry { matching: again.matching, actions: again.actions, priority: again.priority, ..dumped.clone() };
            format_flow_stats(&entry, false, &names)
        });
        assert_eq!(
            (again.flags, again.idle_timeout, again.new_cookie),
            (flow.flags, flow.idle_timeout, flow.new_cookie),
            "{text}"
        );
    }
}

#[test]
fn meters_come_back() {
    let text =
        "meter=7 kbps burst stats bands=type=drop rate=100 burst_size=10,type=dscp_remark rate=50 burst_size=3 prec_level=1";
    let (meter, _) = parse_meter(text, Some(meter::METER_ADD)).unwrap();
    let shown = format_meter(&meter.meter);
    assert_eq!(
        shown,
        "meter=7 kbps burst stats bands=\ntype=drop rate=100 burst_size=10\ntype=dscp_remark rate=50 burst_size=3 prec_level=1\n"
    );
    assert_eq!(parse_meter(&shown, Some(meter::METER_ADD)).unwrap().0, meter);
}

#[test]
fn files_have_comments_and_line_numbers() {
    let names = Names::default();
    let text = "# all\nactions=1\n\n  \t\ndelete tcp # some\nmodify_strict,priority=5,actions=drop\n";
    let flows = parse_flow_file(text, "f", FlowSyntax::Any, &names).unwrap();
    let commands: Vec<_> = flows.iter().map(|f| f.flow.command).collect();
    assert_eq!(commands, [FlowModCommand::Add, FlowModCommand::Delete, FlowModCommand::ModifyStrict]);
    let error = parse_flow_file("\nactions=foo\n", "f", FlowSyntax::Any, &names).unwrap_err();
    assert_eq!(error.to_string(), "f:2: unknown action foo");
}

#[test]
fn rules_of_a_trace() {
    let m = ::flow::oftext::parse_match("in_port=1,ip").unwrap();
    assert_eq!(format_rule(&m, 5, 0, &Names::default()), "ip,in_port=1, priority 5");
    assert_eq!(format_rule(&::flow::Match::default(), 0, 0x10, &Names::default()), "priority 0, cookie 0x10");
}

#[test]
fn a_flow_of_fields_is_exact() {
    let read = |text| {
        parse_exact_flow(text, &Names::default())
            .map(|(key, mask)| ::flow::oftext::format_match(&::flow::Match::new(&key, &mask)))
    };
    assert_eq!(read("in_port=1,tcp,nw_src=1.2.3.4,tp_dst=80").unwrap(), "tcp,in_port=1,nw_src=1.2.3.4,tp_dst=80");
    let error = |text| read(text).unwrap_err().to_string();
    assert_eq!(error("foo=1"), "foo=1: unknown field foo");
    assert_eq!(error("nw_src=1.2.3.4"), "nw_src=1.2.3.4: prerequisites not met for setting nw_src");
    assert_eq!(error("ip,arp"), "ip,arp: Ethernet type set multiple times");
    assert_eq!(error("in_port=1,in_port=2"), "in_port=1,in_port=2: field in_port set multiple times");
    assert_eq!(
        error("ip,nw_src=1.2.3.0/24"),
        "ip,nw_src=1.2.3.0/24: bad value for nw_src (1.2.3.0/24: wildcards not allowed here)"
    );
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[-a-z0-9_=:,.()\\[\\]{}>/ #\"é]{0,80}") {
        let names = Names::default();
        let _ = parse_flow(&text, FlowSyntax::Any, &names);
        let _ = parse_flow(&format!("{text} actions={text}"), FlowSyntax::Any, &names);
        let _ = parse_group(&format!("group_id=1,type=select,{text},bucket={text}"), None, &names);
        let _ = parse_group(&text, None, &names);
        let _ = parse_meter(&format!("meter=1 kbps {text} band={text}"), Some(meter::METER_ADD));
        let _ = parse_packet_out(&text, &names);
        let _ = parse_tlv_table_mod(&text, tlv::TLV_ADD);
        let _ = parse_exact_flow(&text, &names);
    }
}
