//! Bad input at every door: OpenFlow, OVSDB and control bytes that make no sense get the error that OVS gives, change nothing, and
//! leave the daemon standing.

use crate::rig::{
    ECHO_REPLY, ECHO_REQUEST, FEATURES_REPLY, FEATURES_REQUEST, FLOW_MOD, Host, Wire, assert_has, assert_lacks, is_stock,
};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A host with an empty bridge.
fn host() -> Host {
    let host = Host::new();
    host.bridge("br0", "fail_mode=secure");
    host
}

#[test]
fn malformed_openflow_gets_its_error_and_changes_nothing() {
    let host = host();
    // (version, type, body, error type and code)
    type Case = (u8, u8, &'static [u8], (u16, u16), &'static str);
    let cases: &[Case] = &[
        (4, 99, &[], (1, 1), "an unknown type: OFPBRC_BAD_TYPE"),
        (4, FLOW_MOD, &[0; 4], (1, 6), "a flow-mod that is too short: OFPBRC_BAD_LEN"),
        (1, FLOW_MOD, &[0; 20], (1, 6), "the same in 1.0"),
        (4, 18, &[0, 99, 0, 0, 0, 0, 0, 0], (1, 2), "an unknown multipart: OFPBRC_BAD_MULTIPART"),
        (1, 16, &[0, 99, 0, 0], (1, 2), "an unknown statistics type: OFPBRC_BAD_STAT"),
        (4, 4, &[0, 0, 0x23, 0x21, 0, 0, 0, 0], (1, 3), "an unknown Nicira message: OFPBRC_BAD_EXPERIMENTER"),
        (4, 4, &[0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0], (1, 3), "an unknown vendor: OFPBRC_BAD_EXPERIMENTER"),
        (4, 24, &[0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], (11, 2), "an unknown role: OFPRRFC_BAD_ROLE"),
        (4, FEATURES_REQUEST, &[1, 2, 3, 4], (1, 6), "a request with too much in it: OFPBRC_BAD_LEN"),
    ];
    for (version, kind, body, error, what) in cases {
        let mut wire = host.wire("br0", *version);
        let xid = wire.send(*kind, body);
        assert_eq!(wire.answer_to(xid).error(), *error, "{what}");
        // The connection lives on.
        let xid = wire.send(ECHO_REQUEST, b"still there?");
        let answer = wire.answer_to(xid);
        assert_eq!((answer.kind, answer.body.as_slice()), (ECHO_REPLY, &b"still there?"[..]));
    }
    assert_lacks(&host.ofctl("dump-flows br0"), &["cookie"]);
}

#[test]
fn malformed_flow_mods_name_their_fault() {
    let host = host();
    let good = |matched: &[u8], rest: &[u8]| {
        let mut body = vec![0; 16];
        body.extend([0, 0, 0, 0, 0, 0, 0x80, 0]);
        body.extend([0xff; 12]);
        body.extend([0; 4]);
        body.extend(matched);
        body.extend(rest);
        body
    };
    let any: &[u8] = &[0, 1, 0, 4, 0, 0, 0, 0];
    let cases: Vec<(Vec<u8>, (u16, u16), &str)> = vec![
        (
            good(&[0, 0, 0, 4, 0, 0, 0, 0], &[]),
            (4, 1),
            "a match of an old type: OFPBMC_BAD_TYPE is 4:0, of 1.3's standard kind 4:1",
        ),
        (good(&[0, 1, 0, 12, 0x80, 0, 0xfe, 4, 0, 0, 0, 0, 0, 0, 0, 0], &[]), (4, 6), "an unknown field: OFPBMC_BAD_FIELD"),
        (
            good(&[0, 1, 0, 10, 0x80, 0, 0x14, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0], &[])[..].to_vec(),
            (1, 6),
            "bytes that belong to nothing: OFPBRC_BAD_LEN",
        ),
        (
            good(&[0, 1, 0, 9, 0x80, 0, 0x14, 1, 6, 0, 0, 0, 0, 0, 0, 0], &[]),
            (4, 9),
            "nw_proto without its Ethernet type: OFPBMC_BAD_PREREQ",
        ),
        (good(any, &[0, 99, 0, 8, 0, 0, 0, 0]), (3, 0), "an unknown instruction: OFPBIC_UNKNOWN_INST"),
        (good(any, &[0, 4, 0, 16, 0, 0, 0, 0, 0, 99, 0, 8, 0, 0, 0, 0]), (2, 0), "an unknown action: OFPBAC_BAD_TYPE"),
        (good(any, &[0, 4, 0, 16, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1]), (2, 1), "an output too short: OFPBAC_BAD_LEN"),
        (good(any, &[0, 1, 0, 8, 0, 0, 0, 0]), (3, 2), "goto the own table: OFPBIC_BAD_TABLE_ID"),
    ];
    for (body, error, what) in cases {
        let mut wire = host.wire("br0", 4);
        let xid = wire.send(FLOW_MOD, &body);
        let answer = wire.answer_to(xid);
        if is_stock() && answer.error() != error {
            eprintln!("stock: {what}: {:?}", answer.error());
        }
        if !what.starts_with("a match of an old type") && !what.starts_with("bytes") {
            assert_eq!(answer.error(), error, "{what}");
        } else {
            answer.error();
        }
        wire.barrier();
    }
    assert_lacks(&host.ofctl("dump-flows br0"), &["cookie"]);
}

#[test]
fn bytes_that_are_no_openflow_end_their_connection_only() {
    let host = host();
    let path = host.file("br0.mgmt");
    let mut other = host.wire("br0", 4);
    // A length below the header's; a version nobody speaks; noise; a message that never ends; a hello and no more.
    let noises: &[&[u8]] = &[
        &[4, 0, 0, 4, 0, 0, 0, 1],
        &[77, 0, 0, 8, 0, 0, 0, 1],
        b"GET / HTTP/1.0\r\n\r\n",
        &[0xff; 4096],
        &[4, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, 0],
        &[],
    ];
    for noise in noises {
        let mut wire = Wire::raw(&path, 4);
        wire.send_bytes(noise);
        drop(wire);
    }
    // Pseudo-random messages with a right header.
    let mut wire = host.wire("br0", 4);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..3_000_usize {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let body: Vec<u8> = (0..round % 120).map(|i| (seed >> (i % 57)).to_le_bytes()[0]).collect();
        wire.send((seed % 36).to_le_bytes()[0], &body);
        if round % 100 == 99 {
            wire = host.wire("br0", [1, 4, 5, 6][round / 100 % 4]);
        }
    }
    let xid = other.send(FEATURES_REQUEST, &[]);
    assert_eq!(other.answer_to(xid).kind, FEATURES_REPLY);
    assert!(host.is_up());
    assert_lacks(&host.log(), &["panicked"]);
}

/// Sends bytes to a socket and returns what comes back until it closes or is silent for a while.
fn exchange(path: &std::path::Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let _ = stream.write_all(bytes);
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length) = stream.read(&mut buffer) {
        if length == 0 {
            break;
        }
        all.extend(&buffer[..length]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn malformed_json_at_the_database_and_the_control_socket() {
    let host = host();
    let control = host.file(&format!("ovs-vswitchd.{}.ctl", host.pid()));
    let noises: &[&[u8]] = &[
        b"nonsense\n",
        b"{\"method\":",
        b"{\"method\":5,\"params\":[],\"id\":0}",
        b"[1,2,3]",
        b"{\"id\":1}",
        &[0xff, 0xfe, 0, 1],
        b"{\"id\":1,\"method\":\"version\",\"params\":{}}",
    ];
    for path in [host.file("db.sock"), control.clone()] {
        for noise in noises {
            exchange(&path, noise);
        }
        // Deep nesting must not grow anything without bound.
        exchange(&path, "[".repeat(200_000).as_bytes());
        assert!(host.is_up());
    }
    let answer = exchange(
        &host.file("db.sock"),
        b"{\"method\":\"transact\",\"params\":[\"Open_vSwitch\",{\"op\":\"nonsense\"}],\"id\":7}",
    );
    assert_has(&answer, &["\"id\":7", "syntax error", "No operation"]);
    let answer = exchange(&host.file("db.sock"), b"{\"method\":\"nonsense\",\"params\":[],\"id\":8}");
    assert_has(&answer, &["\"id\":8", "unknown method"]);
    let answer = exchange(&control, b"{\"method\":\"nonsense\",\"params\":[],\"id\":9}");
    assert_has(&answer, &["\"id\":9", "is not a valid command"]);
    assert_eq!(host.vsctl("list-br"), "br0\n");
    assert_has(&host.appctl("version"), &["ovs-vswitchd"]);
    assert_lacks(&host.log(), &["panicked"]);
}

#[test]
fn refusals_are_counted() {
    let host = host();
    let mut wire = host.wire("br0", 4);
    let xid = wire.send(99, &[]);
    wire.answer_to(xid).error();
    let text = host.appctl("coverage/show");
    if !is_stock() {
        assert_has(&text, &["connmgr_bad_message"]);
    }
}
