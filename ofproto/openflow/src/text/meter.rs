//! Meters as text, both ways: `meter=1 kbps burst stats bands=type=drop rate=1000 burst_size=100`.

use super::number::{self, Tokens};
use super::{Protocols, TextError};
use crate::message::{MeterConfigEntry, MeterMod, MeterStatsEntry};
use crate::text::flow::format_duration;
use flow::seam::{BAND_DROP, BAND_DSCP_REMARK, METER_BURST, METER_KBPS, METER_PKTPS, METER_STATS, MeterBand};
use std::fmt::Write;

/// OFPM13_MAX, and those above.
pub const METER_MAX: u32 = 0xffff_0000;
pub const METER_SLOWPATH: u32 = 0xffff_fffd;
pub const METER_CONTROLLER: u32 = 0xffff_fffe;
pub const METER_ALL: u32 = 0xffff_ffff;
const VIRTUAL: [(u32, &str); 3] = [(METER_SLOWPATH, "slowpath"), (METER_CONTROLLER, "controller"), (METER_ALL, "all")];
const FLAGS: [(u16, &str); 4] = [(METER_KBPS, "kbps"), (METER_PKTPS, "pktps"), (METER_BURST, "burst"), (METER_STATS, "stats")];
const KINDS: [(u16, &str); 2] = [(BAND_DROP, "drop"), (BAND_DSCP_REMARK, "dscp_remark")];

/// Commands of meter-mods.
pub const METER_ADD: u16 = 0;
pub const METER_MODIFY: u16 = 1;
pub const METER_DELETE: u16 = 2;

/// A meter's number behind `meter=` or `meter:`.
#[must_use]
pub fn format_meter_id(meter: u32, separator: char) -> String {
    let name = VIRTUAL.iter().find(|(id, _)| *id == meter).map(|(_, name)| (*name).to_owned());
    let name = if meter <= METER_MAX { meter.to_string() } else { name.unwrap_or_else(|| "unknown".to_owned()) };
    format!("meter{separator}{name}")
}

/// A meter as `dump-meters` shows it: the bands on lines of their own.
#[must_use]
pub fn format_meter(meter: &MeterConfigEntry) -> String {
    let mut out = format!("{} ", format_meter_id(meter.id, '='));
    let flags = meter.config.flags;
    for (_, name) in FLAGS.iter().filter(|(bit, _)| flags & bit != 0) {
        put(&mut out, format_args!("{name} "));
    }
    let unknown = FLAGS.iter().fold(flags, |rest, (bit, _)| rest & !bit);
    if unknown != 0 {
        put(&mut out, format_args!("flags:{unknown:#x} "));
    }
    out.push_str("bands=");
    for band in &meter.config.bands {
        let kind =
            KINDS.iter().find(|(kind, _)| *kind == band.kind).map_or_else(|| band.kind.to_string(), |(_, n)| (*n).to_owned());
        put(&mut out, format_args!("\ntype={kind} rate={}", band.rate));
        if flags & METER_BURST != 0 {
            put(&mut out, format_args!(" burst_size={}", band.burst_size));
        }
        if band.kind == BAND_DSCP_REMARK {
            put(&mut out, format_args!(" prec_level={}", band.prec_level));
        }
    }
    out.push('\n');
    out
}

/// A meter-mod as the log and `ofp-print` show it.
#[must_use]
pub fn format_meter_mod(meter: &MeterMod) -> String {
    let word = match meter.command {
        METER_ADD => "ADD".to_owned(),
        METER_MODIFY => "MOD".to_owned(),
        METER_DELETE => "DEL".to_owned(),
        n => format!("cmd:{n}"),
    };
    format!("{word} {}", format_meter(&meter.meter))
}

/// A meter's counters.
#[must_use]
pub fn format_meter_stats(stats: &MeterStatsEntry) -> String {
    let mut out = format!(
        "{} flow_count:{} packet_in_count:{} byte_in_count:{} duration:{} bands:\n",
        format_meter_id(stats.id, ':'),
        stats.flow_count,
        stats.packets_in,
        stats.bytes_in,
        format_duration(stats.duration_sec, stats.duration_nsec)
    );
    for (n, (packets, bytes)) in stats.bands.iter().enumerate() {
        put(&mut out, format_args!("{n}: packet_count:{packets} byte_count:{bytes}\n"));
    }
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string cannot fail");
}

/// Reads a meter for a command; `None` for a request, which names a meter only.
///
/// # Errors
/// As ovs-ofctl words them.
pub fn parse_meter(text: &str, command: Option<u16>) -> Result<(MeterMod, Protocols), TextError> {
    const WORD: &[char] = &['=', ',', ' ', '\t', '\r', '\n'];
    let whole = matches!(command, Some(METER_ADD | METER_MODIFY));
    let mut meter = MeterMod { command: command.unwrap_or(METER_DELETE), meter: MeterConfigEntry::default() };
    let (head, bands) = match text.find("band").filter(|_| whole) {
        Some(at) => (&text[..at], text[at + 1..].split_once('=').map(|(_, bands)| bands)),
        None => (text, None),
    };
    if whole && bands.is_none() {
        return Err(TextError::Must("bands"));
    }
    let mut tokens = Tokens::new(head);
    while let Some(name) = tokens.next(WORD) {
        if let Some((bit, _)) = FLAGS.iter().find(|(_, n)| whole && *n == name) {
            meter.meter.config.flags |= bit;
            continue;
        }
        let value = tokens.next(&WORD[1..]).ok_or_else(|| TextError::NoValue(name.to_owned()))?;
        if name != "meter" {
            return Err(TextError::Keyword(name.to_owned()));
        }
        meter.meter.id = parse_id(value)?;
    }
    if meter.meter.id == 0 {
        return Err(TextError::Must("'meter'"));
    }
    if whole && meter.meter.config.flags == 0 {
        return Err(TextError::MeterUnit);
    }
    if let Some(bands) = bands {
        meter.meter.config.bands = parse_bands(bands, meter.meter.config.flags & METER_BURST != 0)?;
    }
    Ok((meter, Protocols::OF13_UP))
}

fn parse_id(text: &str) -> Result<u32, TextError> {
    if let Some((id, _)) = VIRTUAL.iter().find(|(_, name)| *name == text) {
        return Ok(*id);
    }
    match number::u32(text)? {
        id @ 1..=METER_MAX => Ok(id),
        _ => Err(TextError::InvalidFor("meter")),
    }
}

fn parse_bands(text: &str, burst: bool) -> Result<Vec<MeterBand>, TextError> {
    const WORD: &[char] = &['=', ',', ' ', '\t', '\r', '\n'];
    let mut bands: Vec<MeterBand> = Vec::new();
    let mut tokens = Tokens::new(text);
    while let Some(name) = tokens.next(WORD) {
        let value = tokens.next(&WORD[1..]).ok_or_else(|| TextError::NoValue(name.to_owned()))?;
        if name == "type" {
            let kind = KINDS.iter().find(|(_, n)| *n == value).map(|(kind, _)| *kind);
            let kind = kind.ok_or_else(|| TextError::UnknownValue { field: name.to_owned(), value: value.to_owned() })?;
            bands.push(MeterBand { kind, ..MeterBand::default() });
            continue;
        }
        let band = bands.last_mut().ok_or(TextError::BandStart)?;
        match name {
            "rate" => band.rate = number::u32(value)?,
            "burst_size" => band.burst_size = number::u32(value)?,
            "prec_level" => band.prec_level = number::u8(value, "prec_level")?,
            _ => return Err(TextError::Keyword(name.to_owned())),
        }
    }
    if bands.is_empty() {
        return Err(TextError::NoBands);
    }
    for band in &bands {
        let remark = band.kind == BAND_DSCP_REMARK;
        let fault = match (remark, band.prec_level, band.rate, burst, band.burst_size) {
            (true, 0, ..) => Some("'dscp_remark' band must have 'prec_level'"),
            (false, 1.., ..) => Some("Only 'dscp_remark' band may have 'prec_level'"),
            (_, _, 0, ..) => Some("band must have 'rate'"),
            (.., true, 0) => Some("band must have 'burst_size' when 'burst' flag is set"),
            (.., false, 1..) => Some("band may have 'burst_size' only when 'burst' flag is set"),
            _ => None,
        };
        if let Some(fault) = fault {
            return Err(TextError::Band(fault));
        }
    }
    Ok(bands)
}
