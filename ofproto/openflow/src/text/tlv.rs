//! Tunnel TLV maps as text: `{class=0xffff,type=0,len=4}->tun_metadata0`.

use super::{Protocols, TextError, number};
use crate::message::{TlvMap, TlvTableMod, TlvTableReply};
use std::fmt::Write;

/// Commands of TLV table mods.
pub const TLV_ADD: u16 = 0;
pub const TLV_DELETE: u16 = 1;
pub const TLV_CLEAR: u16 = 2;

/// Reads the mappings of a TLV table mod.
///
/// # Errors
/// `invalid tlv mapping`
pub fn parse_tlv_table_mod(text: &str, command: u16) -> Result<(TlvTableMod, Protocols), TextError> {
    let mut maps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        rest = rest.strip_prefix(',').unwrap_or(rest);
        let (map, after) = mapping(rest).ok_or(TextError::Tlv)?;
        maps.push(map);
        rest = after;
    }
    Ok((TlvTableMod { command, maps }, Protocols::NXM_OXM_ANY))
}

#[allow(clippy::cast_possible_truncation, reason = "C's scanning into narrow integers drops what is above them")]
fn mapping(text: &str) -> Option<(TlvMap, &str)> {
    let part = |text, name: &str| number::c_integer(str::strip_prefix(text, name)?);
    let (class, rest) = part(text, "{class=")?;
    let (kind, rest) = part(rest, ",type=")?;
    let (len, rest) = part(rest, ",len=")?;
    let (index, rest) = part(rest, "}->tun_metadata")?;
    Some((TlvMap { class: class as u16, kind: kind as u8, len: len as u8, index: index as u16 }, rest))
}

/// A TLV table mod as messages show it, from the line after the header on.
#[must_use]
pub fn format_tlv_table_mod(table: &TlvTableMod) -> String {
    let word = match table.command {
        TLV_ADD => "ADD",
        TLV_DELETE => "DEL",
        TLV_CLEAR => return "\n CLEAR".to_owned(),
        _ => "",
    };
    format!("\n {word}{}", mappings(&table.maps))
}

/// The TLV table as `dump-tlv-map` shows it.
#[must_use]
pub fn format_tlv_table_reply(table: &TlvTableReply) -> String {
    let allocated: u32 = table.maps.iter().map(|m| u32::from(m.len)).sum();
    format!(
        "\n max option space={} max fields={}\n allocated option space={allocated}\n\n{}",
        table.max_space,
        table.max_fields,
        mappings(&table.maps)
    )
}

fn mappings(maps: &[TlvMap]) -> String {
    let mut out = " mapping table:\n  class  type  length  match field\n ------  ----  ------  --------------".to_owned();
    // C's `%#x`: zero has no prefix.
    let hex = |n: u16| if n == 0 { "0".to_owned() } else { format!("{n:#x}") };
    for m in maps {
        let (class, kind) = (hex(m.class), hex(m.kind.into()));
        write!(out, "\n {class:>6}  {kind:>4}  {:>6}  tun_metadata{}", m.len, m.index).expect("writing to a string cannot fail");
    }
    out
}
