//! Commands on groups, meters, tunnel options, and on connections being tracked.

use super::info::finish;
use super::names::SwitchNames;
use super::render::{dump, dump_one, told};
use super::vconn::Vconn;
use super::{Run, bundle, protocol, read_text};
use crate::console::Io;
use crate::fault::Fault;
use openflow::message::{Body, CtFlush, CtTuple, GroupCommand, MeterMod, MultipartBody, TlvTableMod};
use openflow::text::meter::{METER_ADD, METER_DELETE, METER_MODIFY};
use openflow::text::tlv::{TLV_ADD, TLV_CLEAR, TLV_DELETE};
use openflow::text::{ParsedGroup, Protocols, parse_group, parse_group_file, parse_meter, parse_tlv_table_mod};
use openflow::{GroupId, Version};
use std::net::IpAddr;

fn text_fault(error: impl std::fmt::Display) -> Fault {
    Fault::say(error.to_string())
}

// ---- groups --------------------------------------------------------------------------------------------------------------

/// `add-group SWITCH GROUP`
pub(super) fn add(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    change(io, run, GroupCommand::Add)
}

/// `mod-group SWITCH GROUP`
pub(super) fn modify(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    change(io, run, if run.options.may_create { GroupCommand::AddOrMod } else { GroupCommand::Modify })
}

/// `del-groups SWITCH [GROUP]`
pub(super) fn delete(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    change(io, run, GroupCommand::Delete)
}

/// `insert-buckets SWITCH GROUP`
pub(super) fn insert_buckets(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    change(io, run, GroupCommand::InsertBucket)
}

/// `remove-buckets SWITCH GROUP`
pub(super) fn remove_buckets(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    change(io, run, GroupCommand::RemoveBucket)
}

fn change(io: &mut Io<'_>, run: &Run<'_>, command: GroupCommand) -> Result<u8, Fault> {
    let names = SwitchNames::of(run.options, run.switch());
    let text = run.argument(2);
    if text == "-" {
        return change_file(io, run, &names, Some(command));
    }
    let parsed = parse_group(text, Some(command), &names.names()).map_err(text_fault)?;
    send(io, run, vec![parsed])
}

/// `add-groups SWITCH FILE`
pub(super) fn add_file(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let names = SwitchNames::of(run.options, run.switch());
    change_file(io, run, &names, None)
}

fn change_file(io: &mut Io<'_>, run: &Run<'_>, names: &SwitchNames, command: Option<GroupCommand>) -> Result<u8, Fault> {
    let file = run.argument(2);
    let text = read_text(file)?;
    send(io, run, parse_group_file(&text, file, command, &names.names()).map_err(text_fault)?)
}

fn send(io: &mut Io<'_>, run: &Run<'_>, parsed: Vec<ParsedGroup>) -> Result<u8, Fault> {
    let mut usable = Protocols::ANY;
    parsed.iter().for_each(|p| usable.narrow(p.protocols));
    let bodies: Vec<Body> = parsed.into_iter().map(|p| Body::GroupMod(Box::new(p.group))).collect();
    if run.options.bundle {
        usable.narrow(bundle::PROTOCOLS);
    }
    let mut vconn = protocol::open(io, run.options, run.switch(), usable)?;
    if run.options.bundle {
        let mut requests = vconn.requests(bodies)?;
        return bundle::send(io, run, &mut vconn, &mut requests);
    }
    match vconn.transact_quiet(bodies)? {
        None => Ok(0),
        Some(refusal) => Err(told(io, &refusal)?),
    }
}

fn group_argument(run: &Run<'_>) -> Result<GroupId, Fault> {
    match run.argument(2) {
        "" => Ok(GroupId::ALL),
        text if text.eq_ignore_ascii_case("all") => Ok(GroupId::ALL),
        text => {
            let number = text.strip_prefix("group_id=").unwrap_or(text);
            number.parse().map(GroupId).map_err(|_| Fault::say(format!("invalid group id: {text}")))
        }
    }
}

/// `dump-groups SWITCH [GROUP]`
pub(super) fn dump_descriptions(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let group = group_argument(run)?;
    let mut vconn = Vconn::open(io, run.options, run.switch())?;
    // Before OpenFlow 1.5 a request is for all groups.
    let group = if vconn.dialect.version >= Version::V15 || group == GroupId::ALL { group } else { GroupId::ALL };
    dump(io, &mut vconn, MultipartBody::GroupDescRequest(group), run)
}

/// `dump-group-stats SWITCH [GROUP]`
pub(super) fn dump_stats(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let group = group_argument(run)?;
    let mut vconn = Vconn::open(io, run.options, run.switch())?;
    dump(io, &mut vconn, MultipartBody::GroupRequest(group), run)
}

/// `dump-group-features SWITCH`
pub(super) fn dump_features(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let mut vconn = Vconn::open(io, run.options, run.switch())?;
    dump(io, &mut vconn, MultipartBody::GroupFeaturesRequest, run)
}

// ---- meters --------------------------------------------------------------------------------------------------------------

/// OFPM_ALL
const METER_ALL: u32 = 0xffff_ffff;

/// The meter of the second argument for a command, all of them if there is none.
fn meter(run: &Run<'_>, command: Option<u16>) -> Result<(MeterMod, Protocols), Fault> {
    let text = run.argument(2);
    if !text.is_empty() {
        return parse_meter(text, command).map_err(text_fault);
    }
    let mut all = MeterMod { command: command.unwrap_or(METER_DELETE), meter: openflow::message::MeterConfigEntry::default() };
    all.meter.id = METER_ALL;
    Ok((all, Protocols::OF13_UP))
}

fn change_meter(io: &mut Io<'_>, run: &Run<'_>, command: u16) -> Result<u8, Fault> {
    let (change, usable) = meter(run, Some(command))?;
    let mut vconn = protocol::open(io, run.options, run.switch(), usable)?;
    finish(io, &mut vconn, Body::MeterMod(Box::new(change)))
}

/// `add-meter SWITCH METER`
pub(super) fn add_meter(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    change_meter(io, run, METER_ADD)
}

/// `mod-meter SWITCH METER`
pub(super) fn modify_meter(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    change_meter(io, run, METER_MODIFY)
}

/// `del-meters SWITCH [METER]`
pub(super) fn delete_meters(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    change_meter(io, run, METER_DELETE)
}

fn dump_meter(io: &mut Io<'_>, run: &Run<'_>, request: fn(u32) -> MultipartBody) -> Result<u8, Fault> {
    let (named, usable) = meter(run, None)?;
    let mut vconn = protocol::open(io, run.options, run.switch(), usable)?;
    dump(io, &mut vconn, request(named.meter.id), run)
}

/// `dump-meters SWITCH [METER]`
pub(super) fn dump_meters(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    dump_meter(io, run, MultipartBody::MeterConfigRequest)
}

/// `meter-stats SWITCH [METER]`
pub(super) fn meter_stats(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    dump_meter(io, run, MultipartBody::MeterRequest)
}

/// `meter-features SWITCH`
pub(super) fn meter_features(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let mut vconn = protocol::open(io, run.options, run.switch(), Protocols::OF13_UP)?;
    dump(io, &mut vconn, MultipartBody::MeterFeaturesRequest, run)
}

// ---- tunnel options ------------------------------------------------------------------------------------------------------

fn change_map(io: &mut Io<'_>, run: &Run<'_>, command: u16) -> Result<u8, Fault> {
    let (change, usable) = parse_tlv_table_mod(run.argument(2), command).map_err(text_fault)?;
    send_map(io, run, change, usable)
}

fn send_map(io: &mut Io<'_>, run: &Run<'_>, change: TlvTableMod, usable: Protocols) -> Result<u8, Fault> {
    let mut vconn = protocol::open(io, run.options, run.switch(), usable)?;
    finish(io, &mut vconn, Body::TlvTableMod(change))
}

/// `add-tlv-map SWITCH MAP`
pub(super) fn add_map(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    change_map(io, run, TLV_ADD)
}

/// `del-tlv-map SWITCH [MAP]`
pub(super) fn delete_map(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    if run.words.len() > 2 {
        return change_map(io, run, TLV_DELETE);
    }
    send_map(io, run, TlvTableMod { command: TLV_CLEAR, maps: Vec::new() }, Protocols::ANY)
}

/// `dump-tlv-map SWITCH`
pub(super) fn dump_map(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let mut vconn = Vconn::open(io, run.options, run.switch())?;
    dump_one(io, &mut vconn, Body::TlvTableRequest, run)?;
    Ok(0)
}

// ---- connections ---------------------------------------------------------------------------------------------------------

/// `ct-flush-zone SWITCH ZONE`
pub(super) fn flush_zone(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let text = run.argument(2);
    let zone = text.parse().map_err(|_| Fault::say(format!("invalid zone \"{text}\"")))?;
    let mut vconn = Vconn::open(io, run.options, run.switch())?;
    finish(io, &mut vconn, Body::CtFlushZone(zone))
}

/// `ct-flush SWITCH [zone=N] [mark=X[/M]] [labels=Y[/N]] [TUPLE [TUPLE]]`
pub(super) fn flush(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let mut request = CtFlush::default();
    let mut tuples = Vec::new();
    for word in run.words.iter().skip(2) {
        let bad = || Fault::say(format!("Failed to parse ct-tuple: {word}"));
        if let Some(zone) = word.strip_prefix("zone=") {
            request.zone = Some(zone.parse().map_err(|_| bad())?);
        } else if let Some(mark) = word.strip_prefix("mark=") {
            let (value, mask) = masked(mark).ok_or_else(bad)?;
            let narrow = |n: u128| u32::try_from(n).map_err(|_| bad());
            request.mark = Some((narrow(value)?, narrow(mask.unwrap_or_else(|| u32::MAX.into()))?));
        } else if let Some(labels) = word.strip_prefix("labels=") {
            let (value, mask) = masked(labels).ok_or_else(bad)?;
            request.labels = Some((value, mask.unwrap_or(u128::MAX)));
        } else {
            tuples.push(word);
        }
    }
    for (n, text) in tuples.into_iter().enumerate() {
        let parsed = tuple(text, &mut request).ok_or_else(|| Fault::say(format!("Failed to parse ct-tuple: {text}")))?;
        match n {
            0 => request.original = parsed,
            1 => request.reply = parsed,
            _ => return Err(Fault::say(format!("Too many arguments ({})", run.words.len() - 1))),
        }
    }
    let mut vconn = Vconn::open(io, run.options, run.switch())?;
    finish(io, &mut vconn, Body::CtFlush(Box::new(request)))
}

fn number(text: &str) -> Option<u128> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u128::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn masked(text: &str) -> Option<(u128, Option<u128>)> {
    match text.split_once('/') {
        Some((value, mask)) => Some((number(value)?, Some(number(mask)?))),
        None => Some((number(text)?, None)),
    }
}

/// One direction of a connection: `ct_nw_src=10.0.0.1,ct_nw_proto=6,...`; nothing for an empty text.
fn tuple(text: &str, request: &mut CtFlush) -> Option<Option<CtTuple>> {
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    if text.is_empty() {
        return Some(None);
    }
    let mut tuple = CtTuple::default();
    for (key, value) in text.split(',').map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
        match key {
            "ct_nw_src" | "ct_nw_dst" | "ct_ipv6_src" | "ct_ipv6_dst" => {
                let (address, family) = match value.parse::<IpAddr>().ok()? {
                    IpAddr::V4(v4) if key.starts_with("ct_nw") => (v4.to_ipv6_mapped().octets(), AF_INET),
                    IpAddr::V6(v6) if key.starts_with("ct_ipv6") => (v6.octets(), AF_INET6),
                    IpAddr::V4(_) | IpAddr::V6(_) => return None,
                };
                if request.l3_family != 0 && request.l3_family != family {
                    return None;
                }
                request.l3_family = family;
                if key.ends_with("src") { tuple.src = address } else { tuple.dst = address }
            }
            "ct_nw_proto" => request.ip_proto = value.parse().ok()?,
            "ct_tp_src" => tuple.src_port = value.parse().ok()?,
            "ct_tp_dst" => tuple.dst_port = value.parse().ok()?,
            "icmp_type" => tuple.icmp_type = value.parse().ok()?,
            "icmp_code" => tuple.icmp_code = value.parse().ok()?,
            "icmp_id" => tuple.icmp_id = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(Some(tuple))
}
