//! A switch that keeps the priorities of the flows it was told, and refuses one of them: whatever way they come, what is in it afterwards and
//! what the client hears is as if they had come one by one.
#![allow(clippy::wildcard_enum_match_arm, reason = "the client says and parses only what is named")]

use super::*;
use crate::console::Io;
use crate::ofctl::Run;
use crate::ofctl::options::{self, Asked, Options};
use openflow::message::{ErrorMessage, FlowMod, Message};
use openflow::wire::{Codec, Splitter};
use openflow::{OfError, Version, Versions};
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

/// Of the kind of a bundle's control from request to reply.
const DONE: u16 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bundles {
    /// What is wrong with a part is told at once.
    Strict,
    /// It is told when the bundle is to be taken up.
    Late,
    No,
    /// There are none, and it does not say so; but it asks whether we are there, with the id of what it was told.
    Silent,
}

/// What is in the switch at the end, and how many bundles it has taken up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    priorities: Vec<u16>,
    bundles: usize,
}

struct Switch {
    version: Version,
    bundles: Bundles,
    refused: Option<u16>,
    held: Held,
    open: Vec<u16>,
}

impl Switch {
    fn serve(mut self, mut stream: UnixStream) -> Held {
        let version = self.version;
        let say = |stream: &mut UnixStream, xid, body| {
            stream.write_all(&Message { version, xid, body }.encode().unwrap()).unwrap();
        };
        say(&mut stream, Xid(0), Body::Hello(Versions(1 << version as u8)));
        let (mut splitter, mut buffer) = (Splitter::default(), vec![0; 1 << 16]);
        loop {
            let n = stream.read(&mut buffer).unwrap();
            if n == 0 {
                return self.held;
            }
            splitter.push(&buffer[..n]);
            while let Some(raw) = splitter.next_message().unwrap() {
                let message = Codec::default().decode(raw).unwrap();
                let xid = message.xid;
                if let Some(body) = self.answer(message, raw) {
                    say(&mut stream, xid, body);
                }
            }
        }
    }

    fn refusal(error: OfError, raw: &[u8]) -> Option<Body> {
        Some(Body::Error(ErrorMessage::reply_to(error, raw)))
    }

    fn answer(&mut self, message: Message, raw: &[u8]) -> Option<Body> {
        let is_refused = |switch: &Self, flow: &FlowMod| switch.refused == Some(flow.priority);
        match message.body {
            Body::BarrierRequest => Some(Body::BarrierReply),
            Body::FlowMod(flow) if is_refused(self, &flow) => Self::refusal(OfError::OfpbacBadOutGroup, raw),
            Body::FlowMod(flow) => {
                self.held.priorities.push(flow.priority);
                None
            }
            Body::BundleControl(_) | Body::BundleAdd { .. } if self.bundles == Bundles::No => {
                Self::refusal(OfError::OfpbrcBadType, raw)
            }
            Body::BundleControl(_) | Body::BundleAdd { .. } if self.bundles == Bundles::Silent => {
                Some(Body::EchoRequest(Vec::new()))
            }
            Body::BundleControl(control) => {
                let parts = std::mem::take(&mut self.open);
                if Body::BundleControl(control) == bundle::COMMIT {
                    if self.refused.is_some_and(|refused| parts.contains(&refused)) {
                        return Self::refusal(OfError::OfpbfcMsgFailed, raw);
                    }
                    self.held.priorities.extend(parts);
                    self.held.bundles += 1;
                }
                Some(Body::BundleControl(openflow::message::BundleControl { kind: control.kind + DONE, ..control }))
            }
            Body::BundleAdd { message, .. } => {
                let Body::FlowMod(flow) = message.body else { panic!("only flow-mods are sent") };
                if self.bundles == Bundles::Strict && is_refused(self, &flow) {
                    return Self::refusal(OfError::OfpbacBadOutGroup, raw);
                }
                self.open.push(flow.priority);
                None
            }
            _ => None,
        }
    }
}

fn options(version: Version) -> Options {
    let words: Vec<String> = vec![format!("-O{version}"), "add-flows".to_owned()];
    let (mut out, mut err) = (Vec::new(), Vec::new());
    match options::parse(&mut Io::new(&mut out, &mut err), &words).unwrap() {
        Asked::Run(options, _) => *options,
        other => panic!("{other:?}"),
    }
}

/// Sends `n` flow-mods to such a switch; the refusal's transaction id and error, counted from the first message, and what is held.
fn sent(n: u16, refused: Option<u16>, version: Version, bundles: Bundles) -> (Option<(u32, OfError)>, Held) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("switch");
    let listener = UnixListener::bind(&path).unwrap();
    let switch = Switch { version, bundles, refused, held: Held::default(), open: Vec::new() };
    let served = std::thread::spawn(move || switch.serve(listener.accept().unwrap().0));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut vconn =
        Vconn::open(&mut Io::new(&mut out, &mut err), &options(version), &format!("unix:{}", path.display())).unwrap();
    let first = next_xid();
    set_next_xid(first);
    let flow = |priority| Body::FlowMod(Box::new(FlowMod { priority, ..FlowMod::default() }));
    let mut requests = vconn.requests((0..n).map(flow)).unwrap();
    let refusal = vconn.transact_flow_mods(&mut requests).unwrap().map(|refusal| {
        let Body::Error(ErrorMessage { error, .. }) = vconn.decode(&refusal).unwrap().body else { panic!("{refusal:?}") };
        (refusal.header.xid.0 - first.0, error)
    });
    drop(vconn);
    (refusal, served.join().unwrap())
}

#[test]
fn many_flow_mods_end_as_if_they_came_one_by_one() {
    // The first bundle holds 16 of them, a full one some eight hundred.
    for refused in [0, 3, 15, 16, 17, 900, 1000, 1999] {
        let told = Some((2 * u32::from(refused), OfError::OfpbacBadOutGroup));
        let before: Vec<u16> = (0..refused).collect();
        for (version, bundles) in [
            (Version::V10, Bundles::No),
            (Version::V13, Bundles::No),
            (Version::V13, Bundles::Silent),
            (Version::V13, Bundles::Strict),
            (Version::V14, Bundles::Late),
            (Version::V15, Bundles::Strict),
        ] {
            let (refusal, held) = sent(2000, Some(refused), version, bundles);
            assert_eq!((refusal, &held.priorities), (told, &before), "{version}, {bundles:?}");
            let has_bundles = !matches!(bundles, Bundles::No | Bundles::Silent);
            assert_eq!(held.bundles > 0, has_bundles && refused >= 16, "{version}, {bundles:?}, {refused}");
        }
    }
}

#[test]
fn what_is_not_refused_is_all_there_however_it_comes() {
    for n in [0, 1, 15, 16, 17, 2000] {
        let all: Vec<u16> = (0..n).collect();
        for bundles in [Bundles::No, Bundles::Late] {
            let (refusal, held) = sent(n, None, Version::V14, bundles);
            assert_eq!((refusal, &held.priorities), (None, &all), "{n}, {bundles:?}");
            assert_eq!(held.bundles > 0, bundles != Bundles::No && n >= 16, "{n}, {bundles:?}");
        }
    }
}

/// What `--bundle` says of `n` flow-mods to such a switch: whether it ends well, what goes to standard error, and what is held.
fn bundled(n: u16, refused: Option<u16>, version: Version, bundles: Bundles) -> (Result<u8, String>, String, Held) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("switch");
    let listener = UnixListener::bind(&path).unwrap();
    let switch = Switch { version, bundles, refused, held: Held::default(), open: Vec::new() };
    let served = std::thread::spawn(move || switch.serve(listener.accept().unwrap().0));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = Io::new(&mut out, &mut err);
    let options = options(version);
    let mut vconn = Vconn::open(&mut io, &options, &format!("unix:{}", path.display())).unwrap();
    set_next_xid(Xid(0x10));
    // Two in three thousand are refused.
    let flow = |n| Body::FlowMod(Box::new(FlowMod { priority: n % 1500, ..FlowMod::default() }));
    let mut requests = vconn.requests((0..n).map(flow)).unwrap();
    let ended = bundle::send(&mut io, &Run { options: &options, words: &[] }, &mut vconn, &mut requests);
    drop(vconn);
    let ended = ended.map_err(|e| e.to_string().replace(&path.display().to_string(), "PATH"));
    (ended, String::from_utf8(err).unwrap(), served.join().unwrap())
}

#[test]
fn a_bundle_with_nothing_wrong_is_taken_up_whole() {
    for version in [Version::V13, Version::V14, Version::V15] {
        let held = Held { priorities: (0..1500).collect(), bundles: 1 };
        assert_eq!(bundled(1500, None, version, Bundles::Strict), (Ok(0), String::new(), held));
    }
}

#[test]
fn all_parts_that_are_refused_are_told_and_nothing_is_held() {
    let line =
        |xid| format!("Error OFPBAC_BAD_OUT_GROUP for: OFPT_FLOW_MOD (OF1.3) (xid={xid:#x}): ADD priority=1400 actions=drop\n");
    let said = line(0x10 + 1400) + &line(0x10 + 2900);
    let end = Err("talking to unix:PATH (Protocol error)".to_owned());
    assert_eq!(bundled(3000, Some(1400), Version::V13, Bundles::Strict), (end, said, Held::default()));
}

#[test]
fn a_commit_or_an_opening_that_is_refused_is_told_as_well() {
    let end = Err("talking to unix:PATH (Protocol error)".to_owned());
    let control = |error, xid, kind| {
        format!("Error {error} for: OFPT_BUNDLE_CONTROL (OF1.4) (xid={xid:#x}):\n bundle_id=0 type={kind} flags=atomic ordered\n")
    };
    // Three parts, the opening, the barrier, the end.
    let said = control("OFPBFC_MSG_FAILED", 0x15, "COMMIT_REQUEST");
    assert_eq!(bundled(3, Some(1), Version::V14, Bundles::Late), (end.clone(), said, Held::default()));
    let said = control("OFPBRC_BAD_TYPE", 0x13, "OPEN_REQUEST");
    assert_eq!(bundled(3, None, Version::V14, Bundles::No), (end, said, Held::default()));
}

#[test]
fn a_bundle_speaks_what_was_asked_for_where_that_has_bundles() {
    let versions = |all: &[Version]| Versions(all.iter().fold(0, |bits, v| bits | 1 << (*v as u8)));
    for (asked, allowed) in [
        (&[Version::V13][..], &[Version::V13][..]),
        (&[Version::V10, Version::V13], &[Version::V10, Version::V13]),
        (&[Version::V10, Version::V12], &[Version::V14]),
        (&[], &[Version::V14]),
    ] {
        assert_eq!(options::with_bundles(versions(asked)), versions(allowed), "{asked:?}");
    }
}
