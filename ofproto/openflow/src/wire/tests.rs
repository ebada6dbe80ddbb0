//! Bytes of actions and instructions against what OVS makes of them.

use super::actions::check::{Against, check};
use super::actions::{self, instructions};
use super::bytes::Reader;
use super::{Codec, Outer};
use crate::error::OfError;
use crate::types::{TableId, Version};
use flow::matching::Match;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() { "-".to_owned() } else { bytes.iter().map(|b| format!("{b:02x}")).collect() }
}

fn recode(version: Version, instructed: bool, table: Option<TableId>, input: &[u8]) -> Result<Vec<u8>, OfError> {
    let codec = Codec { n_tables: 254, ..Codec::default() };
    let m = Match::default();
    let mut r = Reader::new(input, OfError::OfpbrcBadLen);
    let mut out = Vec::new();
    if instructed {
        let list = instructions::pull(Reader::new(input, OfError::OfpbicBadLen), &codec, version)?;
        if let Some(table) = table {
            check(Against { codec: &codec, version, key: &m.key, mask: &m.mask, table }, &list)?;
        }
        actions::put_flow(&mut out, &codec, version, &m, &list);
    } else {
        let list = actions::pull(&mut r, input.len(), &codec, version, Outer::Actions)?;
        actions::put(&mut out, &codec, version, &list);
    }
    Ok(out)
}

#[test]
fn actions_and_instructions() {
    let mut wrong = Vec::new();
    for line in include_str!("../../tests/data/actions.txt").lines().filter(|l| !l.starts_with('#')) {
        let [version, kind, table, input, expected] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let version = Version::ALL[version.parse::<usize>().unwrap() - 10];
        let got = match recode(version, kind == "instructions", table.parse().ok().map(TableId), &bytes(input)) {
            Ok(out) => hex(&out),
            Err(e) => e.name().to_owned(),
        };
        if got != expected.to_lowercase() && got != expected {
            wrong.push(format!("{line}\n  {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{} wrong", wrong.join("\n"), wrong.len());
}

/// A switch of 1.0 need not know Nicira's form.
#[test]
fn the_plain_form_is_used_where_it_can_say_all() {
    use crate::message::FlowModCommand;
    use crate::text::{FlowSyntax, Names, parse_flow};
    let fits = |text: &str| {
        let parsed = parse_flow(text, FlowSyntax::Command(FlowModCommand::Delete), &Names::default()).unwrap();
        super::fits_openflow10(&parsed.flow.matching)
    };
    for text in [
        "icmp,icmp_type=8,icmp_code=0",
        "ipv6",
        "vlan_tci=0",
        "vlan_tci=0/0x1fff",
        "dl_vlan=5",
        "tcp,nw_dst=10.0.0.0/8,tp_dst=80",
    ] {
        assert!(fits(text), "{text}");
    }
    for text in ["icmp6,icmp_type=8", "ipv6,nw_proto=6", "ipv6,ipv6_src=::1", "tcp,tp_src=1/1", "vlan_tci=5/0x1fff", "reg0=1"] {
        assert!(!fits(text), "{text}");
    }
}

/// A selection method in a group-mod of a type and a command that nobody knows: the type comes first, as in OVS.
#[test]
fn a_groups_type_is_looked_at_before_its_command() {
    let group = |command: u8, kind: u8| {
        let head = [6, 15, 0, 64, 0, 0, 0, 1, command, command, kind, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        let method = [0xff, 0xff, 0, 40, 0, 0, 0x15, 0x4d, 0, 0, 0, 1, 0, 0, 0, 0, b'h', b'a', b's', b'h'];
        super::decode(&[&head[..], &method, &[0; 20]].concat()).err()
    };
    assert_eq!(group(9, 9), Some(OfError::OfpgmfcBadType));
    assert_eq!(group(9, 1), Some(OfError::OfpgmfcBadCommand));
    assert_eq!(group(0, 0), Some(OfError::OfpbpcBadValue));
    assert_eq!(group(0, 1), None);
}

/// A table matches and sets a tunnel option of any length, whatever the bridge has mapped: OVS names the greatest.
#[test]
fn table_features_name_unmapped_options_at_their_greatest_length() {
    use crate::message::{Body, Message, Multipart, MultipartBody, TableFeatures};
    use crate::types::Xid;
    use flow::fields::{Field, TunnelOptions};
    use std::sync::Arc;
    let none = Arc::new(TunnelOptions::default());
    let features = TableFeatures {
        matchable: vec![Field::TunMetadata0],
        maskable: vec![Field::TunMetadata0],
        wildcard: vec![Field::TunMetadata0],
        any_properties: true,
        ..TableFeatures::default()
    };
    let body = MultipartBody::TableFeaturesReply(vec![features]);
    let body = Body::Stats(Box::new(Multipart { more: false, nxm: false, body }));
    let mut out = Vec::new();
    let codec = Codec { options: Some(&none), ..Codec::default() };
    codec.encode(&Message { version: Version::V13, xid: Xid(0), body }, &mut out).unwrap();
    // OFPTFPT_MATCH (8) with NXM_NX_TUN_METADATA0 and a mask, OFPTFPT_WILDCARDS (10) without.
    assert!(hex(&out).ends_with("00080008000151f8000a00080001507c"), "{}", hex(&out));
}

/// What is wrong with the match of a packet-out of 1.5, each as OVS 3.1 answers it.
#[test]
fn matches_of_packet_outs() {
    use flow::fields::TunnelOptions;
    const IN_PORT: &str = "8000000400000001";
    let options = std::sync::Arc::new(TunnelOptions::default());
    let codec = Codec { options: Some(&options), ..Codec::default() };
    let check = |kind: u16, length: Option<u16>, entries: &str, expected: Result<(), OfError>| {
        let mut matching = bytes(&format!("{kind:04x}0000{entries}"));
        let length = length.unwrap_or_else(|| u16::try_from(matching.len()).unwrap());
        matching[2..4].copy_from_slice(&length.to_be_bytes());
        matching.resize(matching.len().next_multiple_of(8), 0);
        let mut message = bytes("060d000000000001ffffffff00000000");
        message.extend(matching);
        let whole = u16::try_from(message.len()).unwrap();
        message[2..4].copy_from_slice(&whole.to_be_bytes());
        assert_eq!(codec.decode(&message).map(|_| ()), expected, "type {kind}, length {length}, {entries}");
    };
    check(1, None, IN_PORT, Ok(()));
    // A type that it cannot have, a length that none can have, and both.
    for kind in [0, 2] {
        check(kind, None, IN_PORT, Err(OfError::OfpbmcBadType));
        check(kind, Some(2000), IN_PORT, Err(OfError::OfpbmcBadType));
        check(kind, Some(3), IN_PORT, Err(OfError::OfpbmcBadLen));
    }
    check(1, Some(3), IN_PORT, Err(OfError::OfpbmcBadLen));
    check(1, Some(2000), IN_PORT, Err(OfError::OfpbmcBadLen));
    let with = |entry: &str| format!("{IN_PORT}{entry}");
    // eth_type, ct_mark, pkt_mark, actset_output.
    for entry in ["80000a020800", "0001d60400000000", "0001420400000000", "8000560400000000"] {
        check(1, None, &with(entry), Err(OfError::OfpbrcPipelineFieldsOnly));
    }
    check(1, None, "80000a020800", Err(OfError::OfpbrcPipelineFieldsOnly));
    check(1, None, "", Err(OfError::OfpbrcBadPort));
    check(1, None, &with(IN_PORT), Err(OfError::OfpbmcDupField));
    // metadata, reg0, packet_type; a field that nobody knows, a tunnel option that is not mapped.
    for entry in ["800004080000000000000000", "0001000400000000", "8000580400000000", "80009a0400000000", "00015a0400000000"] {
        check(1, None, &with(entry), Ok(()));
    }
}
