//! Real messages, broken ones, and bytes that are none.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is the test's")]

mod common;

use common::{Dice, bytes, corpus, hex};
use openflow::wire::{MESSAGE_BYTES_MAX, Splitter};
use openflow::{Message, OfError, Version, Xid, decode};
use proptest::prelude::*;

fn outcome(input: &[u8]) -> String {
    let message = match decode(input) {
        Ok(message) => message,
        Err(e) => return e.name().to_owned(),
    };
    let out = message.encode().unwrap();
    let word = match decode(&out) {
        _ if out == input => "same",
        Ok(again) if again == message => "equal",
        Ok(_) => "other",
        Err(e) => e.name(),
    };
    word.to_owned()
}

#[test]
fn messages_survive() {
    let wrong: Vec<_> = corpus()
        .map(|(hex, expected)| (hex, expected, outcome(&bytes(hex))))
        .filter(|(_, expected, got)| expected != got)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Decodes; what is accepted must be sayable again, in one message or more that decode.
fn survive(input: &[u8]) {
    let Ok(message) = decode(input) else { return };
    let Ok(out) = message.encode() else { return };
    let mut splitter = Splitter::default();
    splitter.push(&out);
    while let Some(part) = splitter.next_message().unwrap() {
        match decode(part) {
            // OpenFlow 1.1 accepts OXM and answers with its own, poorer match; of old actions less is asked than of set_field.
            Ok(_) | Err(OfError::OfpbacMatchInconsistent) => {}
            Err(e) => panic!("{} became {}: {}", hex(input), hex(part), e.name()),
        }
    }
}

#[test]
fn every_cut_and_flipped_byte() {
    let mut d = Dice(1);
    for (line, _) in corpus() {
        let whole = bytes(line);
        for _ in 0..60 {
            let mut broken = whole.clone();
            for _ in 0..=d.below(3) {
                let at = d.below(broken.len());
                broken[at] = if d.coin() { d.u8() } else { broken[at] ^ 1 << d.below(8) };
            }
            if d.below(4) == 0 {
                broken.truncate(d.below(broken.len()));
            }
            // Most damage to the length is refused at once; mend it so that the damage behind is seen.
            if let (Ok(len), true) = (u16::try_from(broken.len()), broken.len() >= 8 && d.below(8) != 0) {
                broken[2..4].copy_from_slice(&len.to_be_bytes());
            }
            survive(&broken);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(version in 1u8..7, kind in 0u8..36, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let len = u16::try_from(body.len() + 8).unwrap().to_be_bytes();
        let mut message = vec![version, kind, len[0], len[1], 0, 0, 0, 0];
        message.extend_from_slice(&body);
        survive(&message);
        let _ = decode(&body);
    }

    /// However a stream is cut, the same messages come out of it.
    #[test]
    fn streams(cuts in prop::collection::vec(1usize..600, 1..50)) {
        let all: Vec<Vec<u8>> = corpus().map(|(hex, _)| bytes(hex)).filter(|m| m.len() == usize::from(u16::from_be_bytes([m[2], m[3]]))).collect();
        let stream = all.concat();
        let mut splitter = Splitter::default();
        let (mut at, mut got) = (0, Vec::new());
        for cut in cuts.iter().cycle() {
            let end = (at + cut).min(stream.len());
            splitter.push(&stream[at..end]);
            at = end;
            while let Some(message) = splitter.next_message().unwrap() {
                got.push(message.to_vec());
            }
            if at == stream.len() {
                break;
            }
        }
        prop_assert_eq!(got, all);
    }
}

/// A reply longer than a message is several, each but the last with MORE.
#[test]
fn long_replies_are_split() {
    use openflow::message::{Body, Multipart, MultipartBody};
    let flows = |message: Message| {
        let Body::Stats(stats) = message.body else { panic!("{message:?}") };
        let Multipart { more, body: MultipartBody::FlowReply(flows), .. } = *stats else { panic!("{stats:?}") };
        (more, flows)
    };
    let line = corpus().find(|(hex, _)| hex.starts_with("0111") && hex[16..20] == *"0001" && hex.len() > 200).unwrap().0;
    let one = flows(decode(&bytes(line)).unwrap()).1[0].clone();
    let body = MultipartBody::FlowReply(vec![one; 5000]);
    let body = Body::Stats(Box::new(Multipart { more: false, nxm: false, body }));
    let message = Message { version: Version::V14, xid: Xid(1), body };
    let mut splitter = Splitter::default();
    splitter.push(&message.encode().unwrap());
    let (mut count, mut more) = (0, true);
    while let Some(part) = splitter.next_message().unwrap() {
        assert!(more && part.len() <= MESSAGE_BYTES_MAX);
        let (again, part) = flows(decode(part).unwrap());
        more = again;
        count += part.len();
    }
    assert_eq!((count, more), (5000, false));
}
