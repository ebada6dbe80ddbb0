//! Fuzzing the OpenFlow decoder: any bytes as a message, as a controller's switch and as a switch's controller see them.
//!
//! What is accepted must be sayable again, and what is said must be understood.
#![no_main]

use flow::fields::TunnelOptions;
use libfuzzer_sys::fuzz_target;
use openflow::print::Verbosity;
use openflow::text::Names;
use openflow::wire::{Assembler, Codec, Splitter};
use openflow::{OfError, decode};
use std::sync::Arc;

fuzz_target!(|input: &[u8]| {
    as_client(input);
    as_switch(input);
    as_stream(input);
});

/// The type of an experimenter's (vendor's) message in every version.
const EXPERIMENTER: u8 = 4;

fn as_client(input: &[u8]) {
    let Ok(message) = decode(input) else { return };
    let _ = openflow::print::format_message(&message, &Names::default(), Verbosity::default());
    let Ok(out) = message.encode() else { return };
    let mut splitter = Splitter::default();
    splitter.push(&out);
    while let Some(part) = splitter.next_message().expect("our own messages have headers") {
        match decode(part) {
            // OpenFlow 1.1 accepts OXM and answers with its own, poorer match; of old actions less is asked than of set_field.
            Ok(_) | Err(OfError::OfpbacMatchInconsistent) => {}
            // NXM says a VLAN's priority without asking for the tag; OXM_OF_VLAN_PCP asks for the tag's present bit.
            Err(OfError::OfpbmcBadPrereq) if input[1] == EXPERIMENTER => {}
            Err(e) => panic!("{part:02x?}: {}", e.name()),
        }
    }
}

fn as_switch(input: &[u8]) {
    let mut options = TunnelOptions::default();
    options.add(0, 0xffff, 0, 4).expect("an empty table has room");
    options.add(1, 0x0102, 0x80, 124).expect("a table with one option has room");
    let options = Arc::new(options);
    let codec = Codec { table_id: false, n_tables: 254, debug_actions: false, options: Some(&options), ..Codec::default() };
    if let Ok(message) = codec.decode(input) {
        let mut out = Vec::new();
        let _ = codec.encode(&message, &mut out);
    }
}

/// A connection: bytes in pieces, messages out of them, multiparts put together.
fn as_stream(input: &[u8]) {
    let mut splitter = Splitter::default();
    let mut assembler = Assembler::default();
    for (n, piece) in input.chunks(7).enumerate() {
        splitter.push(piece);
        while let Ok(Some(message)) = splitter.next_message() {
            let message = message.to_vec();
            let _ = assembler.take(&message, i64::try_from(n).unwrap_or(0));
        }
    }
}
