//! What a connection is about: hello, errors, features, configuration, roles, asynchronous messages, bundles.

use super::{end_line, format_bytes, hex, hex_dump, ports, put};
use crate::error::OfError;
use crate::message::{AsyncConfig, BundleControl, CAPABILITY_STP, ErrorMessage, Features, Role, SwitchConfig, SwitchDesc};
use crate::text::Names;
use crate::text::actions::{Alternate, PACKET_IN_REASONS};
use crate::types::Versions;
use crate::wire::HEADER_BYTES;
use crate::wire::actions::bitmap;

/// OFPBF_*
pub(super) const BUNDLE_FLAGS: [(u32, &str); 2] = [(1, "atomic"), (2, "ordered")];
/// OFPC_*
const CAPABILITIES: [(u32, &str); 11] = [
    (1, "FLOW_STATS"),
    (1 << 1, "TABLE_STATS"),
    (1 << 2, "PORT_STATS"),
    (1 << 3, "GROUP_STATS"),
    (1 << 5, "IP_REASM"),
    (1 << 6, "QUEUE_STATS"),
    (1 << 7, "ARP_MATCH_IP"),
    (1 << 8, "PORT_BLOCKED"),
    (1 << 9, "BUNDLES"),
    (1 << 10, "FLOW_MONITORING"),
    (CAPABILITY_STP, "STP"),
];
/// OFPHET_VERSIONBITMAP
const HELLO_BITMAP: u16 = 1;

pub(super) fn hello(out: &mut String, versions: Versions, message: &[u8]) {
    let shown: Vec<String> = (0..32).filter(|n| versions.0 >> n & 1 != 0).map(|n| format!("0x{n:02x}")).collect();
    put(out, format_args!("\n version bitmap: {}", shown.join(", ")));
    if !understood(&message[HEADER_BYTES..]) {
        out.push_str("\n unknown data in hello:\n");
        out.push_str(&hex_dump(message));
    }
}

/// Whether a hello's elements are bitmaps of versions and nothing else (OpenFlow 1.3.1, A.5.1).
fn understood(mut elements: &[u8]) -> bool {
    while !elements.is_empty() {
        let [a, b, c, d, ref body @ ..] = *elements else { return false };
        let (kind, len) = (u16::from_be_bytes([a, b]), usize::from(u16::from_be_bytes([c, d])));
        let Some(rest) = elements.get(len.next_multiple_of(8)..) else { return false };
        // Of the bitmap the first word counts, and its bit 0 is no version.
        let word = body.first_chunk().map_or(0, |word| u32::from_be_bytes(*word));
        if kind != HELLO_BITMAP || len < 8 || len % 4 != 0 || word & !1 == 0 {
            return false;
        }
        elements = rest;
    }
    true
}

pub(super) fn error(out: &mut String, error: &ErrorMessage, names: &Names<'_>) {
    put(out, format_args!(" {}\n", error.error.name()));
    if !matches!(error.error, OfError::OfphfcIncompatible | OfError::OfphfcEperm) {
        out.push_str(&format_bytes(&error.data, names, 1));
        return;
    }
    for byte in &error.data {
        match byte {
            0x20..=0x7e if !b"\\\"".contains(byte) => out.push(char::from(*byte)),
            _ => put(out, format_args!("\\{byte:03o}")),
        }
    }
}

pub(super) fn echo(out: &mut String, data: &[u8], verbosity: u8) {
    put(out, format_args!(" {} bytes of payload\n", data.len()));
    if verbosity > 1 {
        out.push_str(&hex_dump(data));
    }
}

pub(super) fn features(out: &mut String, f: &Features) {
    put(out, format_args!(" dpid:{:016x}\nn_tables:{}, n_buffers:{}", f.datapath_id, f.n_tables, f.n_buffers));
    if f.auxiliary_id != 0 {
        put(out, format_args!(", auxiliary_id:{}", f.auxiliary_id));
    }
    put(out, format_args!("\ncapabilities: {}\n", hex::bits(f.capabilities, &CAPABILITIES, " ")));
    let actions = bitmap::from_wire(f.actions, crate::types::Version::V10);
    if actions != 0 {
        put(out, format_args!("actions: {}\n", action_names(actions)));
    }
    ports::list(out, &f.ports);
}

/// Names of a set of actions: of those that OVS's programs know, whose text is read by scripts and tests.
pub(super) fn action_names(actions: u64) -> String {
    let names: Vec<&str> = bitmap::ACTIONS[..bitmap::OF_OVS]
        .iter()
        .enumerate()
        .filter(|(n, _)| actions >> n & 1 != 0)
        .map(|(_, row)| row.0)
        .collect();
    if names.is_empty() { "<none>".to_owned() } else { names.join(" ") }
}

pub(super) fn config(out: &mut String, config: SwitchConfig) {
    const INVALID_TTL: u16 = 4;
    let frags = ["normal", "drop", "reassemble", "nx-match"][usize::from(config.flags & 3)];
    let ttl = if config.flags & INVALID_TTL != 0 { " invalid_ttl_to_controller" } else { "" };
    put(out, format_args!(" frags={frags}{ttl} miss_send_len={}\n", config.miss_send_len));
}

pub(super) fn desc(out: &mut String, desc: &SwitchDesc) {
    put(
        out,
        format_args!(
            "\nManufacturer: {}\nHardware: {}\nSoftware: {}\nSerial Num: {}\nDP Description: {}\n",
            desc.manufacturer, desc.hardware, desc.software, desc.serial, desc.datapath
        ),
    );
}

pub(super) fn role(out: &mut String, role: Role, generation_id: Option<u64>) {
    let name = match role {
        Role::NoChange => "nochange",
        Role::Equal => "equal",
        Role::Primary => "primary",
        Role::Secondary => "secondary",
    };
    put(out, format_args!(" role={name}"));
    if let Some(id) = generation_id.filter(|id| *id != u64::MAX) {
        put(out, format_args!(" generation_id={id}"));
    }
}

const ROLE_REASONS: [&str; 3] = ["primary_request", "configuration_changed", "experimenter_data_changed"];

pub(super) fn role_status(out: &mut String, of: Role, reason: u8, generation_id: Option<u64>) {
    role(out, of, generation_id);
    put(out, format_args!(" reason={}", ROLE_REASONS.get(usize::from(reason)).unwrap_or(&"(unknown)")));
}

/// Why flows are removed, in the order of the codes.
pub(super) const REMOVED_REASONS: [&str; 6] = ["idle", "hard", "delete", "group_delete", "meter_delete", "eviction"];

pub(super) fn async_config(out: &mut String, config: &AsyncConfig) {
    type Row<'a> = (&'a str, [u32; 2], &'a [&'a str], usize);
    let rows: [Row<'_>; 6] = [
        ("PACKET_IN", config.packet_in, &PACKET_IN_REASONS[..6], 0),
        ("PORT_STATUS", config.port_status, &["add", "delete", "modify"], 0),
        ("FLOW_REMOVED", config.flow_removed, &REMOVED_REASONS, 0),
        ("ROLE_STATUS", config.role_status, &ROLE_REASONS, 0),
        ("TABLE_STATUS", config.table_status, &["vacancy_down", "vacancy_up"], 3),
        ("REQUESTFORWARD", config.request_forward, &["group_mod_request", "meter_mod_request"], 0),
    ];
    for (n, who) in ["primary", "secondary"].into_iter().enumerate() {
        put(out, format_args!("\n {who}:\n"));
        for (name, masks, reasons, first) in rows {
            put(out, format_args!("{name:>16}:"));
            let mask = masks[n];
            for bit in (0..32usize).filter(|bit| mask >> bit & 1 != 0) {
                let reason = bit.checked_sub(first).and_then(|n| reasons.get(n));
                match reason {
                    Some(reason) => put(out, format_args!(" {reason}")),
                    // OVS's own reasons of misses have no name.
                    None if name == "PACKET_IN" && (6..8).contains(&bit) => {}
                    None => put(out, format_args!(" {bit}")),
                }
            }
            out.push_str(if mask == 0 { " (off)\n" } else { "\n" });
        }
    }
    end_line(out);
}

pub(super) fn bundle_control(out: &mut String, control: &BundleControl) {
    const KINDS: [&str; 8] = [
        "OPEN_REQUEST",
        "OPEN_REPLY",
        "CLOSE_REQUEST",
        "CLOSE_REPLY",
        "COMMIT_REQUEST",
        "COMMIT_REPLY",
        "DISCARD_REQUEST",
        "DISCARD_REPLY",
    ];
    let kind = KINDS.get(usize::from(control.kind)).unwrap_or(&"");
    put(
        out,
        format_args!(
            "\n bundle_id={} type={kind} flags={}",
            Alternate(u64::from(control.id)),
            hex::bits(control.flags, &BUNDLE_FLAGS, " ")
        ),
    );
}
