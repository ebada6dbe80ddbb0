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
        _ if version == Version::V10 => {
            pull(&mut Reader::new(&bytes, OfError::OfpbrcBadLen), bytes.len(), &codec, version, Outer::Flow)
        }
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

/// ovn-controller sends it; ovs-ofctl shows it so, and reads it as `dec_ttl`, which tells controller 0.
#[test]
fn dec_ttl_may_name_no_controller_at_all() {
    let list = decode("V15", "actions", "ffff0010000023200015000000000000").unwrap();
    assert_eq!(list, [OfAction::DecTtl { controllers: Some(Vec::new()) }]);
    assert_eq!(format_actions(&list, &Names::default()), "dec_ttl()");
    let (list, _) = parse_instructions("dec_ttl()", &Names::default()).unwrap();
    assert_eq!(list, [OfAction::DecTtl { controllers: None }]);
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

use proptest::prelude::*;

/// Whether text says the whole of it: what the wire's forms tell beyond that is not compared.
fn as_text_has_it(mut list: Vec<OfAction>) -> Vec<OfAction> {
    for action in &mut list {
        #[allow(clippy::wildcard_enum_match_arm, reason = "the others are as they are")]
        match action {
            OfAction::Resubmit { has_table, .. } => *has_table = true,
            OfAction::Output { port, max_len } if *port != crate::types::OfPort::CONTROLLER => *max_len = 0,
            OfAction::Clone(list) | OfAction::WriteActions(list) => *list = as_text_has_it(std::mem::take(list)),
            _ => {}
        }
    }
    list
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(list in arbitrary::instructions()) {
        let text = format_actions(&list, &Names::default());
        let (read, _) = parse_instructions(&text, &Names::default()).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        prop_assert_eq!(as_text_has_it(read), as_text_has_it(list), "{}", text);
    }

    #[test]
    fn what_comes_by_wire_is_read_again(list in proptest::collection::vec(arbitrary::action(), 0..4), version in 0usize..6) {
        let version = Version::ALL[version];
        let mut bytes = Vec::new();
        crate::wire::actions::put(&mut bytes, &Codec::default(), version, &list);
        let mut reader = Reader::new(&bytes, OfError::OfpbrcBadLen);
        // What a version cannot say is another matter; what it says must come back.
        if let Ok(came) = pull(&mut reader, bytes.len(), &Codec::default(), version, Outer::Actions) {
            let text = format_actions(&came, &Names::default());
            let (read, _) = parse_actions(&text, &Names::default()).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
            prop_assert_eq!(format_actions(&read, &Names::default()), text);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
        let _ = parse_instructions(&text, &Names::default());
    }

    #[test]
    fn almost_actions_are_read_or_refused(list in proptest::collection::vec(arbitrary::action(), 1..3), at in any::<usize>(), with in "[-0-9a-z(),:>\\[\\]=./ ]{0,3}", cut in 0usize..4) {
        let text = format_actions(&list, &Names::default());
        let at = at % (text.len() + 1);
        let end = (at + cut).min(text.len());
        let _ = parse_actions(&format!("{}{with}{}", &text[..at], &text[end..]), &Names::default());
    }

    #[test]
    fn both_verifications_agree(list in proptest::collection::vec(arbitrary::instructions(), 1..3)) {
        let list = list.concat();
        let wire = crate::wire::verify(&list, Version::V11, Outer::Flow);
        prop_assert_eq!(verify::verify(&list, Outer::Flow).is_ok(), wire.is_ok());
    }
}
