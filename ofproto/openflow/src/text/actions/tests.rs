//! Cases in OVS's notation (from its own tests and from ovs-ofctl 3.1), and properties.

use super::*;
use crate::action::OfAction;
use crate::error::OfError;
use crate::text::Names;
use crate::types::Version;
use crate::wire::Codec;
use crate::wire::actions::verify::Outer;
use crate::wire::actions::{instructions, pull};
use crate::wire::bytes::Reader;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect()
}

fn decode(version: &str, kind: &str, hex: &str) -> Result<Vec<OfAction>, OfError> {
    let version = Version::ALL[version[2..].parse::<usize>().unwrap()];
    let bytes = bytes(hex);
    let codec = Codec::default();
    match kind {
        "actions" => pull(&mut Reader::new(&bytes, OfError::OfpbrcBadLen), bytes.len(), &codec, version, Outer::Actions),
        _ if version == Version::V10 => pull(&mut Reader::new(&bytes, OfError::OfpbrcBadLen), bytes.len(), &codec, version, Outer::Flow),
        _ => instructions::pull(Reader::new(&bytes, OfError::OfpbrcBadLen), &codec, version),
    }
}

#[test]
fn actions_from_the_wire_as_ovs_writes_them() {
    let lines: Vec<&str> = include_str!("cases/wire.txt").lines().skip(1).collect();
    let mut faults = Vec::new();
    for pair in lines.chunks(2) {
        let [version, kind, hex] = pair[0].split(' ').collect::<Vec<_>>()[..] else { panic!("{}", pair[0]) };
        let got = match decode(version, kind, hex) {
            Ok(list) => format!("actions={}", format_actions(&list, &Names::default())),
            Err(e) => format!("bad OpenFlow{} {kind}: {}", &version[1..], e.name()),
        };
        if got != pair[1].trim() {
            faults.push(format!("{}\n  want {}\n  got  {got}", pair[0], pair[1].trim()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn text_comes_back_as_it_went() {
    let mut faults = Vec::new();
    for want in include_str!("cases/wire.txt").lines().filter_map(|l| l.trim().strip_prefix("actions=")) {
        let got = parse_instructions(want, &Names::default()).map(|(list, _)| format_actions(&list, &Names::default()));
        if got.as_deref() != Ok(want) {
            faults.push(format!("{want}\n  got {got:?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn errors_as_ovs_words_them() {
    let lines: Vec<&str> = include_str!("cases/errors.txt").lines().skip(1).collect();
    let mut faults = Vec::new();
    for pair in lines.chunks(2) {
        let got = match parse_instructions(pair[0], &Names::default()) {
            Ok((list, _)) => format!("actions={}", format_actions(&list, &Names::default())),
            Err(e) => e.to_string(),
        };
        if got != pair[1].trim() {
            faults.push(format!("{}\n  want {}\n  got  {got}", pair[0], pair[1].trim()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn lists_are_bounded() {
    let deep = "write_actions(".repeat(100);
    assert_eq!(parse_instructions(&deep, &Names::default()).unwrap_err().to_string(), "Action nested too deeply");
    assert_eq!(parse_instructions(&"1,".repeat(4096), &Names::default()).unwrap_err().to_string(), "input too big");
}
