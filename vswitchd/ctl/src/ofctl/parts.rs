//! Commands that decode parts of messages from standard input, show them, and say where encoding them again gives other bytes: `parse-actions`,
//! `parse-instructions`, `parse-nxm`, `parse-oxm`, `parse-ofp10-match`, `parse-ofp11-match`; and `check-vlan`, which says what each
//! protocol makes of a match on a VLAN's tag. OVS's tests call them. Neighbours: `offline`, which has whole messages.

use super::names::SwitchNames;
use super::offline::bytes_of;
use super::{Run, read_text};
use crate::console::Io;
use crate::fault::Fault;
use flow::fields::Field;
use flow::matching::Match;
use flow::oftext::format_match;
use openflow::print::hex_lines;
use openflow::text::entries::{format_entries, parse_entries};
use openflow::text::format_actions;
use openflow::wire::parts::{MATCH10_BYTES, decode_match10, decode_match11, encode_match10, encode_match11};
use openflow::{Codec, OfAction, OfError, TableId, Version};
use std::fmt::Write as _;

/// Bytes of a match of OpenFlow 1.1.
const MATCH11_BYTES: usize = 88;

/// `parse-actions VERSION`
pub(super) fn parse_actions(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let codec = Codec::default();
    let (decode, encode) = (|v, b: &[u8]| codec.decode_actions(v, b), |v, l: &[OfAction]| codec.encode_actions(v, l));
    lists(io, run, "actions", decode, encode)
}

/// `parse-instructions VERSION`
pub(super) fn parse_instructions(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let codec = Codec::default();
    let (decode, encode) = (|v, b: &[u8]| codec.decode_instructions(v, b), |v, l: &[OfAction]| codec.encode_instructions(v, l));
    lists(io, run, "instructions", decode, encode)
}

fn lists(
    io: &mut Io<'_>,
    run: &Run<'_>,
    what: &str,
    decode: impl Fn(Version, &[u8]) -> Result<Vec<OfAction>, OfError>,
    encode: impl Fn(Version, &[OfAction]) -> Vec<u8>,
) -> Result<u8, Fault> {
    let version = version(run.argument(1))?;
    for line in read_text("-")?.lines().map(without_comment).filter(|line| !line.trim().is_empty()) {
        // The number of the table that they stand in may come first.
        let (table, digits) = line.split_once(',').map_or((None, line), |(table, digits)| (table.trim().parse().ok(), digits));
        let bytes = bytes_of(digits).ok_or_else(|| Fault::say("Trailing garbage in hex data"))?;
        let back = |list: &Vec<OfAction>| {
            let to = |a: &OfAction| if let OfAction::GotoTable(TableId(to)) = a { Some(*to) } else { None };
            table.is_some_and(|table: u8| list.iter().filter_map(to).any(|to| to <= table))
        };
        let list = decode(version, &bytes).and_then(|list| if back(&list) { Err(OfError::OfpbicBadTableId) } else { Ok(list) });
        match list {
            Err(e) => writeln!(io.out, "bad {version} {what}: {}\n", e.name())?,
            Ok(list) => {
                writeln!(io.out, "actions={}", format_actions(&list, &SwitchNames::none().names()))?;
                writeln!(io.out, "{}", differences("", &bytes, &encode(version, &list)))?;
            }
        }
    }
    Ok(0)
}

fn version(text: &str) -> Result<Version, Fault> {
    let version = Version::ALL.into_iter().find(|v| v.to_string() == text);
    version.ok_or_else(|| Fault::say(format!("{text}: not a valid OpenFlow version")))
}

fn without_comment(line: &str) -> &str {
    line.split_once('#').map_or(line, |(before, _)| before)
}

/// A line for each byte that differs.
fn differences(prefix: &str, a: &[u8], b: &[u8]) -> String {
    let mut out = String::new();
    let show = |byte: Option<&u8>| byte.map_or_else(|| "(none)".to_owned(), |b| format!("{b:02x}"));
    for at in (0..a.len().max(b.len())).filter(|at| a.get(*at) != b.get(*at)) {
        let _ = writeln!(out, "{prefix}{at:2}: {} -> {}", show(a.get(at)), show(b.get(at)));
    }
    out
}

/// `parse-nxm`
pub(super) fn parse_nxm(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    entries(io, run, None)
}

/// `parse-oxm VERSION`
pub(super) fn parse_oxm(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let version = version(run.argument(1))?;
    if version < Version::V12 {
        return Err(Fault::say(format!("{version}: not a valid version for OXM")));
    }
    entries(io, run, Some(version))
}

fn entries(io: &mut Io<'_>, run: &Run<'_>, version: Option<Version>) -> Result<u8, Fault> {
    let codec = Codec::default();
    for line in read_text("-")?.lines() {
        let list = without_comment(line).trim_end();
        if list.is_empty() {
            writeln!(io.out, "{line}")?;
            continue;
        }
        let bytes = parse_entries(list).map_err(|e| Fault::say(e.to_string()))?;
        match codec.decode_entries(version, &bytes, run.options.strict) {
            Err(e) => writeln!(io.out, "nx_pull_match() returned error {}", e.name())?,
            Ok((m, cookie, mask)) => {
                let made = codec.encode_entries(version, &m, (cookie, mask));
                writeln!(io.out, "{}", format_entries(&made.bytes[made.entries]))?;
                if run.options.verbosity > 0 {
                    write!(io.out, "{}", hex_lines(&made.bytes))?;
                }
            }
        }
    }
    Ok(0)
}

/// `parse-ofp10-match`: a digit `x` stands for what must not matter.
pub(super) fn parse_match10(io: &mut Io<'_>, _: &Run<'_>) -> Result<u8, Fault> {
    for line in read_text("-")?.lines().map(without_comment).filter(|line| !line.trim().is_empty()) {
        // Written as zeroes, read as ones: the text shows what depends on it.
        let of = |digit: &str| match_bytes::<MATCH10_BYTES>(&line.replace('x', digit));
        let expected = of("0")?;
        let mut m = decode_match10(&of("f")?);
        let made = encode_match10(&m);
        write!(io.out, "{}\n{}", format_match(&m), differences("", &expected, &made))?;
        m.normalize();
        writeln!(io.out, "{}", differences("normal: ", &made, &encode_match10(&m)))?;
    }
    Ok(0)
}

/// `parse-ofp11-match`
pub(super) fn parse_match11(io: &mut Io<'_>, _: &Run<'_>) -> Result<u8, Fault> {
    for line in read_text("-")?.lines().map(without_comment).filter(|line| !line.trim().is_empty()) {
        let bytes = match_bytes::<MATCH11_BYTES>(line)?;
        match decode_match11(&bytes) {
            Err(e) => writeln!(io.out, "bad ofp11_match: {}\n", e.name())?,
            Ok(m) => writeln!(io.out, "{}\n{}", format_match(&m), differences("", &bytes, &encode_match11(&m)))?,
        }
    }
    Ok(0)
}

fn match_bytes<const BYTES: usize>(line: &str) -> Result<[u8; BYTES], Fault> {
    let bytes = bytes_of(line).ok_or_else(|| Fault::say("Trailing garbage in hex data"))?;
    let got = bytes.len();
    bytes.try_into().map_err(|_| Fault::say(format!("Input is {got} bytes, expected {BYTES}")))
}

/// `check-vlan VLAN_TCI VLAN_TCI_MASK`
pub(super) fn check_vlan(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let (value, mask) = (hex16(run.argument(1)), hex16(run.argument(2)));
    let mut m = Match::default();
    m.key.vlan_tci = (value & mask).to_be_bytes();
    m.mask.vlan_tci = mask.to_be_bytes();
    // The tag alone: that the packet is a frame goes without saying.
    let text = format_match(&m);
    writeln!(io.out, "{text} -> {}", tci(&m))?;

    let codec = Codec::default();
    for (name, version) in [("NXM", None), ("OXM", Some(Version::V12))] {
        let made = codec.encode_entries(version, &m, (0, 0));
        let entries = &made.bytes[made.entries];
        let said = match codec.decode_entries(version, entries, true) {
            Err(e) => e.name().to_owned(),
            Ok((back, ..)) if version.is_none() => tci(&back),
            Ok((back, ..)) => vid_and_pcp(&back),
        };
        writeln!(io.out, "{name}: {} -> {said}", format_entries(entries))?;
    }

    let made = encode_match10(&m);
    let bytes: [u8; MATCH10_BYTES] = made.try_into().map_err(|_| Fault::say("a match of OpenFlow 1.0 has another length"))?;
    let wild = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let [vid, pcp] = [wild >> 1 & 1, wild >> 20 & 1];
    writeln!(
        io.out,
        "OF1.0: {:02x}{:02x}/{vid},{:02x}/{pcp} -> {}",
        bytes[18],
        bytes[19],
        bytes[20],
        tci(&decode_match10(&bytes))
    )?;

    let bytes = encode_match11(&m);
    let wild = bytes[11];
    let [vid, pcp] = [wild >> 1 & 1, wild >> 2 & 1];
    let back = decode_match11(&bytes).map_or_else(|e| e.name().to_owned(), |back| tci(&back));
    writeln!(io.out, "OF1.1: {:02x}{:02x}/{vid},{:02x}/{pcp} -> {back}", bytes[36], bytes[37], bytes[38])?;
    Ok(0)
}

/// As C reads hexadecimal digits: as many as there are, of which the last 16 bits count.
fn hex16(text: &str) -> u16 {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    digits.chars().map_while(|c| c.to_digit(16)).fold(0, |n: u16, digit| n << 4 | u16::try_from(digit).unwrap_or(0))
}

fn tci(m: &Match) -> String {
    format!("{:04x}/{:04x}", u16::from_be_bytes(m.key.vlan_tci), u16::from_be_bytes(m.mask.vlan_tci))
}

fn vid_and_pcp(m: &Match) -> String {
    let (vid, vid_mask) = (u16::from_be_bytes(m.key.vlan_tci) & 0x1fff, u16::from_be_bytes(m.mask.vlan_tci) & 0x1fff);
    let pcp = if m.has(Field::VlanPcp) { format!("{:02x}", Field::VlanPcp.get(&m.key)) } else { "--".to_owned() };
    format!("{vid:04x}/{vid_mask:04x},{pcp}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_differ() {
        assert_eq!(differences("x ", &[1, 2, 3], &[1, 5]), "x  1: 02 -> 05\nx  2: 03 -> (none)\n");
        assert_eq!(differences("", &[], &[1]), " 0: (none) -> 01\n");
    }

    #[test]
    fn digits_as_c_reads_them() {
        assert_eq!(["0xb000", "1abcd", "zz", "12z", ""].map(hex16), [0xb000, 0xabcd, 0, 0x12, 0]);
    }
}
