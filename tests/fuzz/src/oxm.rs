//! Fuzzing matches and actions: any bytes where a message carries OXM or NXM fields, instructions or actions, with headers that are
//! right, so that nothing but the list itself is in the way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openflow::decode;
use openflow::print::Verbosity;
use openflow::text::Names;

/// Where a message takes the bytes: its version, its type, and what stands before them.
const PLACES: [(u8, u8, &[u8]); 5] = [
    // OFPT_FLOW_MOD of 1.3 and 1.5: the match.
    (4, 14, &FLOW_MOD),
    (6, 14, &FLOW_MOD),
    // The same, with an empty match: instructions.
    (4, 14, &FLOW_MOD_AND_EMPTY_MATCH),
    (6, 14, &FLOW_MOD_AND_EMPTY_MATCH),
    // Nicira's flow-mod of 1.0.
    (1, 4, &NX_FLOW_MOD),
];
const FLOW_MOD: [u8; 40] = {
    let mut bytes = [0; 40];
    bytes[22] = 0x80;
    let mut at = 24;
    while at < 36 {
        bytes[at] = 0xff;
        at += 1;
    }
    bytes
};
const FLOW_MOD_AND_EMPTY_MATCH: [u8; 48] = {
    let mut bytes = [0; 48];
    let mut at = 0;
    while at < 40 {
        bytes[at] = FLOW_MOD[at];
        at += 1;
    }
    bytes[41] = 1;
    bytes[43] = 4;
    bytes
};
const NX_FLOW_MOD: [u8; 40] = {
    let mut bytes = [0; 40];
    [bytes[2], bytes[3], bytes[7]] = [0x23, 0x20, 13];
    [bytes[24], bytes[25], bytes[26], bytes[27], bytes[28], bytes[29]] = [0xff; 6];
    bytes
};

fuzz_target!(|input: &[u8]| {
    for (place, (version, kind, before)) in PLACES.iter().enumerate() {
        let mut message = vec![*version, *kind, 0, 0, 0, 0, 0, 1];
        message.extend_from_slice(before);
        let len = u16::try_from(input.len()).unwrap_or(u16::MAX);
        match place {
            0 | 1 => {
                message.extend([0, 1]);
                message.extend(len.saturating_add(4).to_be_bytes());
                message.extend_from_slice(input);
                message.resize(message.len().next_multiple_of(8), 0);
            }
            4 => {
                message.extend(len.to_be_bytes());
                message.extend([0; 6]);
                message.extend_from_slice(input);
                message.resize(message.len().next_multiple_of(8), 0);
            }
            _ => message.extend_from_slice(input),
        }
        let Ok(whole) = u16::try_from(message.len()) else { return };
        message[2..4].copy_from_slice(&whole.to_be_bytes());
        if let Ok(decoded) = decode(&message) {
            let _ = openflow::print::format_message(&decoded, &Names::default(), Verbosity::default());
            let _ = decoded.encode();
        }
    }
});
