//! Messages of OVS's tests, as `ovs-ofctl ofp-print` of OVS 3.1 shows them.

use super::*;
use proptest::prelude::*;

#[test]
fn messages_as_ovs_prints_them() {
    let mut cases: Vec<(&str, String)> = Vec::new();
    for line in include_str!("cases/messages.txt").lines().skip(1) {
        match (line.strip_prefix("    "), cases.last_mut()) {
            (Some(text), Some((_, want))) => {
                want.push_str(text);
                want.push('\n');
            }
            _ => cases.push((line, String::new())),
        }
    }
    let mut faults = Vec::new();
    for (input, want) in &cases {
        let (hex, verbosity) = input.split_once(' ').map_or((*input, 2), |(hex, v)| (hex, v.parse::<u8>().unwrap()));
        let hex: String = hex.chars().filter(|c| c.is_ascii_hexdigit()).collect();
        let bytes: Vec<u8> = (0..hex.len() / 2).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect();
        let got = format_bytes(&bytes, &Names::default(), verbosity);
        if got != *want {
            faults.push(format!("{input}\n--- want\n{want}--- got\n{got}"));
        }
    }
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), cases.len(), faults.join("\n"));
}

proptest! {
    #[test]
    fn any_bytes_are_printed(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 1u8..7, kind in 0u8..36) {
        let _ = format_bytes(&bytes, &Names::default(), 5);
        let mut framed = bytes;
        if framed.len() >= 8 {
            let len = u16::try_from(framed.len()).unwrap().to_be_bytes();
            framed[..4].copy_from_slice(&[version, kind, len[0], len[1]]);
        }
        let _ = format_bytes(&framed, &Names::default(), 5);
    }
}
