//! `tunnel(...)`: the outer header of a packet, with the options of Geneve, VXLAN group policy, ERSPAN and GTP-U.
//!
//! A member is there when its value is not zero (TTL and flags always); a mask can only narrow what is shown.

use super::attrs::{ERSPAN_1, ERSPAN_2, GBP, GTPU, Member, TUNNEL};
use super::read::Reader;
use super::write::value_text;
use crate::Value;
use crate::forms::{Hex, NoNames, TUN_FLAGS, flags, flags_masked};
use crate::key::{Key, Mask, TUN_KEY, TUN_METADATA_BYTES};
use crate::scan;

const ALL_FLAGS: u32 = 0xf;
/// Bytes of the header of a Geneve option (RFC 8926 section 3.5).
const OPTION_HEADER_BYTES: usize = 4;
/// RFC 8926 section 3.5: the length is a multiple of four bytes, at most 31 of them.
const OPTION_DATA_MAX: usize = 124;

/// Members that fit into a netlink attribute of 64 KiB, each with four bytes and a header of four.
const MEMBERS_MAX: usize = 65_531 / 8;

/// Whether the packet came through a tunnel.
pub(super) fn is_set(key: &Key) -> bool {
    key.tun_src != [0; 4] || key.tun_dst != [0; 4] || key.tun_ipv6_src != [0; 16] || key.tun_ipv6_dst != [0; 16]
}

/// Bytes of Geneve options in a datapath key.
fn options_len(key: &Key) -> usize {
    usize::try_from(u64::from_be_bytes(key.tun_metadata_present)).map_or(0, |len| len.min(TUN_METADATA_BYTES))
}

/// The text between the brackets.
pub(super) fn write(key: &Key, mask: Option<&Mask>, verbose: bool) -> String {
    let key_flags = u16::from_be_bytes(key.tun_flags);
    let mut parts = Vec::new();
    for member in TUNNEL {
        let there = member.place().read(key) != 0 || member.name == "ttl" || member.name == "tun_id" && key_flags & TUN_KEY != 0;
        if there {
            parts.extend(part(member, key, mask, verbose));
        }
    }
    let list = |members: &[Member]| members.iter().filter_map(|m| part(m, key, mask, verbose)).collect::<Vec<_>>().join(",");
    if key.tun_gbp_id != [0; 2] || key.tun_gbp_flags != 0 {
        parts.push(format!("vxlan(gbp({}))", list(GBP)));
    }
    let length = options_len(key);
    if length > 0 {
        parts.push(format!("geneve({})", geneve(&key.tun_metadata[..length], mask.map(|m| &m.tun_metadata[..length]), verbose)));
    }
    match key.tun_erspan_ver {
        1 => parts.push(format!("erspan({})", list(ERSPAN_1))),
        2 => parts.push(format!("erspan({})", list(ERSPAN_2))),
        _ => {}
    }
    if key.tun_gtpu_flags != 0 && key.tun_gtpu_msgtype != 0 {
        parts.push(format!("gtpu({})", list(GTPU)));
    }
    let shown = u32::from(key_flags) & ALL_FLAGS;
    // A key is matched with its value: without one there is nothing to say of it.
    let told = if shown & u32::from(TUN_KEY) == 0 { ALL_FLAGS & !u32::from(TUN_KEY) } else { ALL_FLAGS };
    match mask.map(|m| u32::from(u16::from_be_bytes(m.tun_flags)) & told) {
        None => parts.push(format!("flags({})", flags(shown, TUN_FLAGS))),
        Some(0) if !verbose => {}
        Some(bits) => parts.push(format!("flags({})", flags_masked(shown, bits, TUN_FLAGS, ALL_FLAGS))),
    }
    parts.join(",")
}

fn part(member: &Member, key: &Key, mask: Option<&Mask>, verbose: bool) -> Option<String> {
    let place = member.place();
    let bits = mask.map_or_else(|| place.all(), |m| place.read(m));
    let text = || value_text(member.look, place.read(key), bits, place.all(), verbose, &NoNames);
    (bits != 0 || verbose).then(|| format!("{}={}", member.name, text()))
}

/// Geneve options in wire form, with a mask in the same form.
fn geneve(mut options: &[u8], mut mask: Option<&[u8]>, verbose: bool) -> String {
    let mut text = String::new();
    while !options.is_empty() {
        if options.len() < OPTION_HEADER_BYTES {
            return text + &format!("opt len {} less than minimum 4", options.len());
        }
        let data_len = usize::from(options[3] & 0x1f) * 4;
        let len = OPTION_HEADER_BYTES + data_len;
        if len > options.len() {
            return text + &format!("opt len {len} greater than remaining {}", options.len());
        }
        let (option, rest) = options.split_at(len);
        let split = mask.map(|m| m.split_at(len));
        text.push_str(&format!("{{{}}}", geneve_option(option, split.map(|s| s.0), verbose)));
        options = rest;
        mask = split.map(|s| s.1);
    }
    text
}

fn geneve_option(option: &[u8], mask: Option<&[u8]>, verbose: bool) -> String {
    let class = |o: &[u8]| u128::from(u16::from_be_bytes([o[0], o[1]]));
    let full = |bits: u128, all: u128| if bits == all { String::new() } else { format!("/{}", Hex(bits)) };
    let mut parts = Vec::new();
    let mut push = |text: String, bits: u128, all: u128| {
        if bits != 0 || verbose {
            parts.push(text + &full(bits, all));
        }
    };
    let bits = |at: fn(&[u8]) -> u128, all| mask.map_or(all, at);
    push(format!("class={}", Hex(class(option))), bits(|m| u128::from(u16::from_be_bytes([m[0], m[1]])), 0xffff), 0xffff);
    push(format!("type={}", Hex(u128::from(option[2]))), bits(|m| u128::from(m[2]), 0xff), 0xff);
    push(format!("len={}", option.len() - OPTION_HEADER_BYTES), bits(|m| u128::from(m[3] & 0x1f), 0x1f), 0x1f);
    let data = &option[OPTION_HEADER_BYTES..];
    let data_mask = mask.map(|m| &m[OPTION_HEADER_BYTES..]);
    if !data.is_empty() && (verbose || data_mask.is_none_or(|m| m.iter().any(|b| *b != 0))) {
        let partial = data_mask.filter(|m| m.iter().any(|b| *b != 0xff));
        parts.push(hex(data) + &partial.map_or_else(String::new, |m| format!("/{}", hex(m))));
    }
    parts.join(",")
}

fn hex(bytes: &[u8]) -> String {
    let value = Value::from_be_bytes(bytes);
    if value.is_zero() { "0".to_owned() } else { format!("{value:#x}") }
}

/// Reads what follows `tunnel(`, with the closing bracket.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<()> {
    let mut members = 0;
    loop {
        members += 1;
        if members > MEMBERS_MAX {
            reader.too_long = true;
            return None;
        }
        if reader.scan.eat("erspan(") {
            list(reader, ERSPAN_2, ERSPAN_1)?;
        } else if reader.scan.eat("vxlan(gbp(") {
            list(reader, GBP, GBP)?;
            reader.scan.eat(")").then_some(())?;
        } else if reader.scan.eat("gtpu(") {
            list(reader, GTPU, GTPU)?;
        } else if reader.scan.eat("geneve(") {
            read_geneve(reader)?;
        } else if reader.scan.eat("flags(") {
            let text = reader.scan.take(|c| c != ')');
            let (value, mask) = scan::flags(text, TUN_FLAGS, ALL_FLAGS).ok()?;
            reader.scan.eat(")").then_some(())?;
            add_flags(&mut reader.key, value);
            add_flags(&mut reader.mask, mask.unwrap_or(ALL_FLAGS) & ALL_FLAGS);
        } else if let Some(member) = TUNNEL.iter().find(|m| eat_name(reader, m)) {
            reader.value(member)?;
            if member.name == "tun_id" {
                add_flags(&mut reader.key, u32::from(TUN_KEY));
                add_flags(&mut reader.mask, u32::from(TUN_KEY));
            }
        } else {
            // An empty list, or a comma before the bracket.
            return reader.scan.eat(")").then_some(());
        }
        if !reader.scan.eat(",") {
            return reader.scan.eat(")").then_some(());
        }
    }
}

fn add_flags(key: &mut Key, bits: u32) {
    let old = u16::from_be_bytes(key.tun_flags);
    key.tun_flags = (old | u16::try_from(bits).unwrap_or(0)).to_be_bytes();
}

fn eat_name(reader: &mut Reader<'_>, member: &Member) -> bool {
    let mut ahead = reader.scan;
    let found = ahead.eat(member.name) && ahead.eat("=");
    if found {
        reader.scan = ahead;
    }
    found
}

fn list(reader: &mut Reader<'_>, members: &'static [Member], more: &'static [Member]) -> Option<()> {
    while let Some(member) = members.iter().chain(more).find(|m| eat_name(reader, m)) {
        reader.value(member)?;
        if !reader.scan.eat(",") {
            break;
        }
    }
    reader.scan.eat(")").then_some(())
}

/// `{class=,type=,len=,data/mask}...` up to and with the bracket. What is not given is not matched.
fn read_geneve(reader: &mut Reader<'_>) -> Option<()> {
    let (mut options, mut masks) = (Vec::new(), Vec::new());
    while reader.scan.eat("{") {
        let (class, class_mask) = geneve_member(reader, "class=", 16)?;
        let (kind, kind_mask) = geneve_member(reader, "type=", 8)?;
        let (len, len_mask) = geneve_member(reader, "len=", 8)?;
        let len = usize::try_from(len).ok().filter(|len| *len <= OPTION_DATA_MAX && len.is_multiple_of(4))?;
        let data = reader.scan.long_int(len * 8).unwrap_or(Value::ZERO);
        let data_mask = if reader.scan.eat("/") { reader.scan.long_int(len * 8)? } else { Value::ones(len * 8) };
        reader.scan.eat("}").then_some(())?;
        let byte = |v: u128| u8::try_from(v & 0xff).unwrap_or(0);
        options.extend([byte(class >> 8), byte(class), byte(kind), byte((len / 4) as u128)]);
        options.extend(&data.to_be_bytes()[crate::fields::VALUE_BYTES_MAX - len..]);
        masks.extend([byte(class_mask >> 8), byte(class_mask), byte(kind_mask), byte(len_mask & 0x1f)]);
        masks.extend(&data_mask.to_be_bytes()[crate::fields::VALUE_BYTES_MAX - len..]);
        if options.len() > TUN_METADATA_BYTES {
            return None;
        }
    }
    reader.key.tun_metadata[..options.len()].copy_from_slice(&options);
    reader.mask.tun_metadata[..masks.len()].copy_from_slice(&masks);
    reader.key.tun_metadata_present = (options.len() as u64).to_be_bytes();
    reader.mask.tun_metadata_present = [0xff; 8];
    reader.scan.eat(")").then_some(())
}

fn geneve_member(reader: &mut Reader<'_>, name: &str, bits: u32) -> Option<(u128, u128)> {
    if !reader.scan.eat(name) {
        return Some((0, 0));
    }
    let value = reader.scan.int(bits)?;
    let mask = if reader.scan.eat("/") { reader.scan.int(bits)? } else { (1 << bits) - 1 };
    reader.scan.eat(",");
    Some((value, mask))
}
