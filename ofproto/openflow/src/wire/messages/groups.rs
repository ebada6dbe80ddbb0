//! Groups: modification, description, statistics, features.

use crate::error::OfError;
use crate::message::{
    Body, Bucket, GroupCommand, GroupDesc, GroupFeatures, GroupMod, GroupStatsEntry, GroupType, MultipartBody, SelectionMethod,
    bucket_id,
};
use crate::types::{GroupId, OfPort, Version};
use crate::wire::actions::{self, bitmap, verify::Outer};
use crate::wire::bytes::{Put, Reader, len16};
use crate::wire::matches::oxm;
use crate::wire::props::{self, Property, experimenter};
use crate::wire::{Codec, In, Out};
use flow::fields::{Field, MaskKind, Value};
use flow::hash::Map;

/// Netronome's selection method, under its own id and the one that OVS used before.
const SELECTION: u64 = experimenter(0x0000_154d, 1);
const SELECTION_OLD: u64 = experimenter(0x0000_1540, 1);
const METHOD_LEN: usize = 16;
/// Property types of a bucket.
const WEIGHT: u64 = 0;
const WATCH_PORT: u64 = 1;
const WATCH_GROUP: u64 = 2;
const BUCKET11: usize = 16;
const BUCKET15: usize = 8;

/// Whether the version has 1.5's form, which 1.0 borrows in Nicira's message.
fn new_form(version: Version) -> bool {
    matches!(version, Version::V10 | Version::V15)
}

fn kind_of(number: u8) -> Result<GroupType, OfError> {
    use GroupType::{All, FastFailover, Indirect, Select};
    [All, Select, Indirect, FastFailover].get(usize::from(number)).copied().ok_or(OfError::OfpgmfcBadType)
}

fn command_of(number: u16) -> Result<GroupCommand, OfError> {
    use GroupCommand::{Add, AddOrMod, Delete, InsertBucket, Modify, RemoveBucket};
    let all = [Add, Modify, Delete, InsertBucket, RemoveBucket, AddOrMod];
    all.into_iter().find(|c| *c as u16 == number).ok_or(OfError::OfpgmfcBadCommand)
}

pub(super) fn group_mod(i: &In<'_>, r: &mut Reader<'_>) -> Result<Body, OfError> {
    let (number, kind_number) = (r.u16()?, r.u8()?);
    r.skip(1)?;
    let group = GroupId(r.u32()?);
    let kind = kind_of(kind_number);
    let command = command_of(number);
    let mut selection = SelectionMethod::default();
    let mut command_bucket_id = bucket_id::ALL;
    let buckets;
    if new_form(i.version) {
        let len = usize::from(r.u16()?);
        r.skip(2)?;
        command_bucket_id = r.u32()?;
        let one = command_bucket_id <= bucket_id::MAX || matches!(command_bucket_id, bucket_id::FIRST | bucket_id::LAST);
        let fits = match command {
            Ok(GroupCommand::RemoveBucket) => one || command_bucket_id == bucket_id::ALL,
            Ok(GroupCommand::InsertBucket) => one,
            _ => command_bucket_id == bucket_id::ALL,
        };
        if !fits {
            return Err(OfError::OfpgmfcBadBucket);
        }
        let mut list = r.sub(len)?;
        buckets = buckets15(i, &mut list, kind_number)?;
        selection = properties(i, r, kind, command)?;
    } else {
        buckets = buckets11(i, r)?;
        if i.version >= Version::V13 && command == Ok(GroupCommand::Delete) && !buckets.is_empty() {
            return Err(OfError::OfpgmfcInvalidGroup);
        }
    }
    let gm = GroupMod { command: GroupCommand::Add, kind: kind?, group, command_bucket_id, buckets, selection };
    check_group_mod(gm, command).map(|gm| Body::GroupMod(Box::new(gm)))
}

fn check_group_mod(gm: GroupMod, command: Result<GroupCommand, OfError>) -> Result<GroupMod, OfError> {
    let invalid = Err(OfError::OfpgmfcInvalidGroup);
    if gm.kind == GroupType::Indirect && command != Ok(GroupCommand::Delete) && gm.buckets.len() != 1 {
        return invalid;
    }
    let command = command?;
    if command == GroupCommand::RemoveBucket && !gm.buckets.is_empty() {
        return Err(OfError::OfpgmfcBadBucket);
    }
    for bucket in &gm.buckets {
        let watches = bucket.watch_port != OfPort::ANY || bucket.watch_group != GroupId::ANY;
        if bucket.weight != 0 && gm.kind != GroupType::Select && command != GroupCommand::InsertBucket {
            return invalid;
        }
        match gm.kind {
            GroupType::All | GroupType::Indirect if watches => return Err(OfError::OfpgmfcWatchUnsupported),
            GroupType::FastFailover if !watches => return invalid,
            GroupType::All | GroupType::Indirect | GroupType::Select | GroupType::FastFailover => {}
        }
    }
    Ok(GroupMod { command, ..gm })
}

fn buckets11(i: &In<'_>, r: &mut Reader<'_>) -> Result<Vec<Bucket>, OfError> {
    let bad = OfError::OfpgmfcBadBucket;
    let mut buckets = Vec::new();
    while !r.is_empty() {
        let mut list = r.or(bad);
        let len = usize::from(list.u16()?);
        if len < BUCKET11 {
            return Err(bad);
        }
        let mut body = r.or(bad).sub(len)?;
        r.skip(len)?;
        body.skip(2)?;
        let (weight, watch_port, watch_group) = (body.u16()?, body.u32()?, GroupId(body.u32()?));
        body.skip(4)?;
        let actions = actions::pull(&mut body, len - BUCKET11, i.codec, i.version, Outer::Actions)?;
        let watch_port = OfPort::from_wire32(watch_port).map_err(|_| OfError::OfpgmfcBadWatch)?;
        let id = u32::try_from(buckets.len()).unwrap_or(u32::MAX);
        buckets.push(Bucket { id, weight, watch_port, watch_group, actions });
    }
    Ok(buckets)
}

fn buckets15(i: &In<'_>, r: &mut Reader<'_>, kind: u8) -> Result<Vec<Bucket>, OfError> {
    let bad = OfError::OfpgmfcBadBucket;
    let mut buckets: Vec<Bucket> = Vec::new();
    let mut ids: Map<u32, ()> = Map::default();
    while !r.is_empty() {
        let mut head = r.or(bad);
        let (len, actions_len) = (usize::from(head.u16()?), usize::from(head.u16()?));
        let id = head.u32()?;
        if len < BUCKET15 || actions_len > len - BUCKET15 {
            return Err(bad);
        }
        let mut body = r.or(bad).sub(len)?;
        r.skip(len)?;
        body.skip(BUCKET15)?;
        let actions = actions::pull(&mut body, actions_len, i.codec, i.version, Outer::Actions)?;
        let weight = u16::from(kind == GroupType::Select as u8);
        let mut bucket = Bucket { id, weight, watch_port: OfPort::ANY, watch_group: GroupId::ANY, actions };
        let mut watch_port = OfPort::ANY.0;
        while !body.is_empty() {
            let property = Property::pull(&mut body)?;
            match property.kind {
                WEIGHT => bucket.weight = property.u16()?,
                WATCH_PORT => watch_port = property.u32()?,
                WATCH_GROUP => bucket.watch_group = GroupId(property.u32()?),
                _ => property.unknown(false)?,
            }
        }
        bucket.watch_port = OfPort::from_wire32(watch_port).map_err(|_| OfError::OfpgmfcBadWatch)?;
        if id > bucket_id::MAX || ids.insert(id, ()).is_some() {
            return Err(bad);
        }
        buckets.push(bucket);
    }
    Ok(buckets)
}

/// Properties of a group: its selection method.
fn properties(
    i: &In<'_>,
    r: &mut Reader<'_>,
    kind: Result<GroupType, OfError>,
    command: Result<GroupCommand, OfError>,
) -> Result<SelectionMethod, OfError> {
    let mut selection = SelectionMethod::default();
    while !r.is_empty() {
        let property = Property::pull(r)?;
        if !matches!(property.kind, SELECTION | SELECTION_OLD) {
            property.unknown(false)?;
        }
        let defines = |command| matches!(command, GroupCommand::Add | GroupCommand::Modify | GroupCommand::AddOrMod);
        if kind? != GroupType::Select || !defines(command?) {
            return Err(OfError::OfpbpcBadValue);
        }
        selection = selection_method(i.codec, Reader::new(property.value(), OfError::OfpbpcBadLen))?;
    }
    Ok(selection)
}

fn selection_method(codec: &Codec<'_>, mut r: Reader<'_>) -> Result<SelectionMethod, OfError> {
    r.skip(4)?;
    let raw = r.take(METHOD_LEN)?;
    let param = r.u64()?;
    let bad = OfError::OfpbpcBadValue;
    let end = raw.iter().position(|b| *b == 0).ok_or(bad)?;
    let method = match &raw[..end] {
        b"hash" => "hash",
        b"dp_hash" => "dp_hash",
        _ => return Err(bad),
    };
    if !r.is_empty() && method != "hash" {
        return Err(bad);
    }
    Ok(SelectionMethod { method: method.to_owned(), param, fields: field_array(codec, r)? })
}

/// Fields with the bits of them that count, as values.
fn field_array(codec: &Codec<'_>, mut r: Reader<'_>) -> Result<Vec<(Field, Value)>, OfError> {
    let mut fields: Vec<(Field, Value)> = Vec::new();
    while !r.is_empty() {
        let (field, bits) = oxm::pull_bits(&mut r, codec)?;
        if fields.iter().any(|(f, _)| *f == field) {
            return Err(OfError::OfpbmcDupField);
        }
        let whole = bits == Value::ones(8 * usize::from(field.row().bytes));
        if matches!(field.row().mask, MaskKind::Exact) && !whole && !bits.is_zero() {
            return Err(OfError::OfpbmcBadMask);
        }
        fields.push((field, bits));
    }
    fields.sort_by_key(|(f, _)| *f);
    Ok(fields)
}

fn put_group(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, kind: GroupType, buckets: &[Bucket]) {
    for bucket in buckets {
        let start = out.len();
        if new_form(version) {
            out.zeros(4);
            out.u32(bucket.id);
            let actions_at = out.len();
            actions::put(out, codec, version, &bucket.actions);
            let len = len16(out.len() - actions_at);
            out.set_u16(start + 2, len);
            if kind == GroupType::Select || bucket.weight != 0 {
                props::put_u16(out, WEIGHT, bucket.weight);
            }
            if bucket.watch_port != OfPort::ANY {
                props::put_u32(out, WATCH_PORT, bucket.watch_port.0);
            }
            if bucket.watch_group != GroupId::ANY {
                props::put_u32(out, WATCH_GROUP, bucket.watch_group.0);
            }
        } else {
            out.u16(0);
            out.u16(bucket.weight);
            out.u32(bucket.watch_port.0);
            out.u32(bucket.watch_group.0);
            out.zeros(4);
            actions::put(out, codec, version, &bucket.actions);
        }
        out.close_len(start, start);
    }
}

fn put_selection(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, selection: &SelectionMethod) {
    if selection.method.is_empty() {
        return;
    }
    let at = props::start(out, SELECTION);
    out.zeros(4);
    out.name(&selection.method, METHOD_LEN);
    out.u64(selection.param);
    for (field, bits) in &selection.fields {
        oxm::put_entry(out, codec, *field, Some(version), bits, None);
    }
    props::end(out, at);
}

pub(super) fn put_group_mod(o: &mut Out<'_>, gm: &GroupMod) {
    let (codec, version) = (o.codec, o.version);
    o.bytes.u16(gm.command as u16);
    o.bytes.bytes(&[gm.kind as u8, 0]);
    o.bytes.u32(gm.group.0);
    if !new_form(version) {
        return put_group(o.bytes, codec, version, gm.kind, &gm.buckets);
    }
    let len_at = o.bytes.len();
    o.bytes.zeros(4);
    o.bytes.u32(gm.command_bucket_id);
    let start = o.bytes.len();
    put_group(o.bytes, codec, version, gm.kind, &numbered(&gm.buckets));
    let len = len16(o.bytes.len() - start);
    o.bytes.set_u16(len_at, len);
    put_selection(o.bytes, codec, version, &gm.selection);
}

/// The buckets with ids: those above `bucket_id::MAX` stand for "any", and get the lowest that is free.
fn numbered(buckets: &[Bucket]) -> Vec<Bucket> {
    let mut taken: Map<u32, ()> = buckets.iter().map(|b| (b.id, ())).collect();
    let mut next = 0;
    let mut out = buckets.to_vec();
    for bucket in out.iter_mut().filter(|b| b.id > bucket_id::MAX) {
        while taken.contains_key(&next) {
            next += 1;
        }
        taken.insert(next, ());
        bucket.id = next;
    }
    out
}

pub(super) fn desc_reply(i: &In<'_>, r: &mut Reader<'_>) -> Result<MultipartBody, OfError> {
    let mut groups = Vec::new();
    while !r.is_empty() {
        let len = usize::from(r.peek_u16()?);
        let least = if new_form(i.version) { 16 } else { 8 };
        if len < least {
            return Err(OfError::OfpbrcBadLen);
        }
        let mut body = r.sub(len)?;
        body.skip(2)?;
        let kind_number = body.u8()?;
        body.skip(1)?;
        let group = GroupId(body.u32()?);
        let kind = kind_of(kind_number)?;
        let (mut selection, buckets);
        if new_form(i.version) {
            let buckets_len = usize::from(body.u16()?);
            body.skip(6)?;
            let mut list = body.sub(buckets_len)?;
            buckets = buckets15(i, &mut list, kind_number)?;
            selection = properties(i, &mut body, Ok(kind), Ok(GroupCommand::Add))?;
        } else {
            selection = SelectionMethod::default();
            buckets = buckets11(i, &mut body)?;
        }
        selection.method.shrink_to_fit();
        groups.push(GroupDesc { group, kind, buckets, selection });
    }
    Ok(MultipartBody::GroupDescReply(groups))
}

pub(super) fn put_desc_reply(o: &mut Out<'_>, groups: &[GroupDesc]) {
    let (codec, version) = (o.codec, o.version);
    for g in groups {
        o.entry(|out| {
            let start = out.len();
            out.u16(0);
            out.bytes(&[g.kind as u8, 0]);
            out.u32(g.group.0);
            if new_form(version) {
                let len_at = out.len();
                out.zeros(8);
                let list = out.len();
                put_group(out, codec, version, g.kind, &g.buckets);
                let len = len16(out.len() - list);
                out.set_u16(len_at, len);
                put_selection(out, codec, version, &g.selection);
            } else {
                put_group(out, codec, version, g.kind, &g.buckets);
            }
            out.close_len(start, start);
        });
    }
}

/// 1.1 and 1.2 do not tell for how long a group has been there.
fn has_duration(version: Version) -> bool {
    !matches!(version, Version::V11 | Version::V12)
}

pub(super) fn stats_reply(i: &In<'_>, r: &mut Reader<'_>) -> Result<MultipartBody, OfError> {
    let mut groups = Vec::new();
    while !r.is_empty() {
        let len = usize::from(r.peek_u16()?);
        let mut body = r.sub(len.max(2))?;
        body.skip(4)?;
        let mut g = GroupStatsEntry {
            group: GroupId(body.u32()?),
            ref_count: body.u32()?,
            duration_sec: u32::MAX,
            duration_nsec: u32::MAX,
            ..GroupStatsEntry::default()
        };
        body.skip(4)?;
        (g.packets, g.bytes) = (body.u64()?, body.u64()?);
        if has_duration(i.version) {
            (g.duration_sec, g.duration_nsec) = (body.u32()?, body.u32()?);
        }
        while body.len() >= 16 {
            g.buckets.push((body.u64()?, body.u64()?));
        }
        groups.push(g);
    }
    Ok(MultipartBody::GroupReply(groups))
}

pub(super) fn put_stats_reply(o: &mut Out<'_>, groups: &[GroupStatsEntry]) {
    let version = o.version;
    for g in groups {
        o.entry(|out| {
            let start = out.len();
            out.zeros(4);
            out.u32(g.group.0);
            out.u32(g.ref_count);
            out.zeros(4);
            out.u64(g.packets);
            out.u64(g.bytes);
            if has_duration(version) {
                out.u32(g.duration_sec);
                out.u32(g.duration_nsec);
            }
            for (packets, bytes) in &g.buckets {
                out.u64(*packets);
                out.u64(*bytes);
            }
            out.close_len(start, start);
        });
    }
}

pub(super) fn features_reply(i: &In<'_>, r: &mut Reader<'_>) -> Result<MultipartBody, OfError> {
    let mut f = GroupFeatures { types: r.u32()?, capabilities: r.u32()?, ..GroupFeatures::default() };
    for n in &mut f.max_groups {
        *n = r.u32()?;
    }
    for bits in &mut f.actions {
        *bits = bitmap::from_wire(r.u32()?, i.version);
    }
    Ok(MultipartBody::GroupFeaturesReply(f))
}

pub(super) fn put_features_reply(o: &mut Out<'_>, f: &GroupFeatures) {
    o.bytes.u32(f.types);
    o.bytes.u32(f.capabilities);
    f.max_groups.iter().for_each(|n| o.bytes.u32(*n));
    let version = o.version;
    f.actions.iter().for_each(|bits| o.bytes.u32(bitmap::to_wire(*bits, version)));
}
