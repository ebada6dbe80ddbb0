//! Fuzzing ovs-ofctl's text: any text as a flow, actions, a group, a meter, a packet-out, TLV mappings; what is understood is written
//! again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openflow::text::{FlowSyntax, Names};
use openflow::{Version, text};

fuzz_target!(|input: &[u8]| {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let Some((kind, input)) = input.split_at_checked(1) else { return };
    parse(kind, input);
});

fn parse(kind: &str, input: &str) {
    let names = Names::default();
    match kind {
        "f" => {
            if let Ok(parsed) = text::parse_flow(input, FlowSyntax::Any, &names) {
                let _ = text::format_flow_mod(&parsed.flow, Version::V15, &names);
            }
        }
        "m" => drop(flow::oftext::parse_match(input)),
        "a" => {
            if let Ok((actions, _)) = text::parse_actions(input, &names) {
                let _ = text::format_actions(&actions, &names);
            }
        }
        "i" => drop(text::parse_instructions(input, &names)),
        "g" => drop(text::parse_group(input, None, &names)),
        "t" => drop(text::parse_meter(input, Some(0))),
        "p" => drop(text::parse_packet_out(input, &names)),
        _ => drop(text::parse_tlv_table_mod(input, 0)),
    }
}
