//! Tables: modification, description, status, statistics, and what they can do.

use crate::error::OfError;
use crate::message::{ActionFeatures, Body, MultipartBody, TableDesc, TableFeatureSet, TableFeatures, TableMod, TableStats};
use crate::types::{TableId, Version};
use crate::wire::actions::{bitmap, instructions, verify::Instruction};
use crate::wire::bytes::{Put, Reader};
use crate::wire::matches::oxm;
use crate::wire::props::{self, Property};
use crate::wire::{Codec, In, Out};
use flow::fields::{Class, Field};

const NAME_LEN: usize = 32;
const FEATURES: usize = 64;
const DESC: usize = 8;
/// OFPTC11_TABLE_MISS_MASK, OFPTC14_*
const MISS_MASK: u32 = 3;
const EVICTION: u32 = 1 << 2;
const VACANCY: u32 = 1 << 3;
/// OFPTMPT14_*
const P_EVICTION: u64 = 2;
const P_VACANCY: u64 = 3;
/// OFPTR_*
const VACANCY_DOWN: u8 = 3;
const VACANCY_UP: u8 = 4;
/// OFPTFPT13_*; the odd ones beside the first six and the last four are for the table miss.
const P_INSTRUCTIONS: u64 = 0;
const P_NEXT_TABLES: u64 = 2;
const P_WRITE_ACTIONS: u64 = 4;
const P_APPLY_ACTIONS: u64 = 6;
const P_MATCH: u64 = 8;
const P_WILDCARDS: u64 = 10;
const P_WRITE_SETFIELD: u64 = 12;
const P_APPLY_SETFIELD: u64 = 14;
/// Those that must be there (OpenFlow 1.3, A.3.5.5.2).
const REQUIRED: u32 = 1 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 12 | 1 << 14;

const INSTRUCTIONS: [Instruction; 6] =
    [Instruction::Meter, Instruction::Apply, Instruction::Clear, Instruction::Write, Instruction::Metadata, Instruction::Goto];

/// Fields by their wildcard bits in 1.0 and their match bits in 1.1.
const OF10: [(u32, Field); 12] = [
    (1, Field::InPort),
    (1 << 1, Field::VlanVid),
    (1 << 2, Field::EthSrc),
    (1 << 3, Field::EthDst),
    (1 << 4, Field::EthType),
    (1 << 5, Field::NwProto),
    (1 << 6, Field::TcpSrc),
    (1 << 7, Field::TcpDst),
    (0x3f << 8, Field::IpSrc),
    (0x3f << 14, Field::IpDst),
    (1 << 20, Field::VlanPcp),
    (1 << 21, Field::NwTos),
];
const OF11: [(u32, Field); 15] = [
    (1, Field::InPort),
    (1 << 1, Field::VlanVid),
    (1 << 2, Field::VlanPcp),
    (1 << 3, Field::EthType),
    (1 << 4, Field::NwTos),
    (1 << 5, Field::NwProto),
    (1 << 6, Field::TcpSrc),
    (1 << 7, Field::TcpDst),
    (1 << 8, Field::MplsLabel),
    (1 << 9, Field::MplsTc),
    (1 << 11, Field::EthSrc),
    (1 << 12, Field::EthDst),
    (1 << 13, Field::IpSrc),
    (1 << 14, Field::IpDst),
    (1 << 15, Field::Metadata),
];

fn from_bits(map: &[(u32, Field)], bits: u32) -> Vec<Field> {
    let mut fields: Vec<Field> = map.iter().filter(|(b, _)| bits & b != 0).map(|(_, f)| *f).collect();
    fields.sort();
    fields
}

fn to_bits(map: &[(u32, Field)], has: impl Fn(Field) -> bool) -> u32 {
    map.iter().filter(|(_, f)| has(*f)).fold(0, |bits, (b, _)| bits | b)
}

/// The bit of a field in the 64-bit maps of 1.2.
fn oxm_bit(field: Field) -> Option<u64> {
    let code = field.code(Version::V12 as u8)?;
    let basic = code.class == Class::OPENFLOW && code.version <= Version::V12 as u8 && code.number < 64;
    basic.then(|| 1 << code.number)
}

fn from_oxm_bits(bits: u64) -> Vec<Field> {
    Field::ALL.iter().copied().filter(|f| oxm_bit(*f).is_some_and(|b| bits & b != 0)).collect()
}

fn to_oxm_bits(fields: &[Field]) -> u64 {
    fields.iter().filter_map(|f| oxm_bit(*f)).fold(0, |bits, b| bits | b)
}

fn instructions_from_bits(bits: u32) -> u32 {
    let has = |i: Instruction| bits >> instructions::type_of(i) & 1 != 0;
    INSTRUCTIONS.into_iter().filter(|i| has(*i)).fold(0, |set, i| set | 1 << i as u32)
}

fn instructions_to_bits(set: u32, version: Version) -> u32 {
    let meters = matches!(version, Version::V13 | Version::V14);
    let has = |i: &Instruction| set >> (*i as u32) & 1 != 0 && (meters || *i != Instruction::Meter);
    INSTRUCTIONS.into_iter().filter(has).fold(0, |bits, i| bits | 1 << instructions::type_of(i))
}

/// Vacancy thresholds: down, up, and how vacant the table is now.
fn vacancy(property: &Property<'_>) -> Result<[u8; 3], OfError> {
    let [down, up, now, _] = property.exact()?;
    Ok([down, up, now])
}

pub(super) fn table_mod(i: &In<'_>, r: &mut Reader<'_>) -> Result<Body, OfError> {
    let mut tm = TableMod { table: TableId(r.u8()?), ..TableMod::default() };
    r.skip(3)?;
    let config = r.u32()?;
    if matches!(i.version, Version::V11 | Version::V12) {
        // 3 is no kind of miss; it is taken as the first.
        tm.miss = Some(match config & MISS_MASK {
            1 => 1,
            2 => 2,
            _ => 0,
        });
    }
    if i.version >= Version::V14 {
        tm.eviction = Some(config & EVICTION != 0);
        tm.vacancy = Some(config & VACANCY != 0);
    }
    while !r.is_empty() {
        let property = Property::pull(r)?;
        match property.kind {
            P_EVICTION => tm.eviction_flags = Some(property.u32()?),
            P_VACANCY => {
                let [down, up, now] = vacancy(&property)?;
                if down > up || up > 100 || now != 0 {
                    return Err(OfError::OfpbpcBadValue);
                }
                (tm.vacancy_down, tm.vacancy_up) = (down, up);
            }
            _ => return Err(OfError::OfpbrcBadType),
        }
    }
    Ok(Body::TableMod(tm))
}

pub(super) fn put_table_mod(o: &mut Out<'_>, tm: TableMod) {
    let bit = |on: Option<bool>, bit: u32| if on == Some(true) { bit } else { 0 };
    let config = match o.version {
        Version::V10 | Version::V13 => 0,
        Version::V11 | Version::V12 => u32::from(tm.miss.unwrap_or(0)) & MISS_MASK,
        Version::V14 | Version::V15 => bit(tm.eviction, EVICTION) | bit(tm.vacancy, VACANCY),
    };
    o.bytes.bytes(&[tm.table.0, 0, 0, 0]);
    o.bytes.u32(config);
    if o.version >= Version::V14 {
        if let Some(flags) = tm.eviction_flags {
            props::put_u32(o.bytes, P_EVICTION, flags);
        }
        if tm.vacancy == Some(true) {
            props::put(o.bytes, P_VACANCY, &[tm.vacancy_down, tm.vacancy_up, 0, 0]);
        }
    }
}

fn desc(r: &mut Reader<'_>) -> Result<TableDesc, OfError> {
    let len = usize::from(r.peek_u16()?);
    if len < DESC {
        return Err(OfError::OfpbrcBadLen);
    }
    let mut body = r.sub(len)?;
    body.skip(2)?;
    let mut d = TableDesc { table: TableId(body.u8()?), eviction_flags: u32::MAX, ..TableDesc::default() };
    body.skip(1)?;
    let config = body.u32()?;
    d.eviction = config & EVICTION != 0;
    d.vacancy = config & VACANCY != 0;
    while !body.is_empty() {
        let property = Property::pull(&mut body)?;
        match property.kind {
            P_EVICTION => d.eviction_flags = property.u32()?,
            P_VACANCY => [d.vacancy_down, d.vacancy_up, d.vacancy_now] = vacancy(&property)?,
            _ => {}
        }
    }
    Ok(d)
}

/// A description; in a status it tells its vacancy even when that is not watched.
fn put_desc(out: &mut Vec<u8>, d: &TableDesc, status: bool) {
    let start = out.len();
    out.u16(0);
    out.bytes(&[d.table.0, 0]);
    out.u32(if d.eviction { EVICTION } else { 0 } | if d.vacancy { VACANCY } else { 0 });
    if d.eviction_flags != u32::MAX || status {
        props::put_u32(out, P_EVICTION, d.eviction_flags);
    }
    if d.vacancy || status {
        props::put(out, P_VACANCY, &[d.vacancy_down, d.vacancy_up, d.vacancy_now, 0]);
    }
    out.close_len(start, start);
}

pub(super) fn desc_reply(r: &mut Reader<'_>) -> Result<MultipartBody, OfError> {
    let mut tables = Vec::new();
    while !r.is_empty() {
        tables.push(desc(r)?);
    }
    Ok(MultipartBody::TableDescReply(tables))
}

pub(super) fn put_desc_reply(o: &mut Out<'_>, tables: &[TableDesc]) {
    tables.iter().for_each(|d| o.entry(|out| put_desc(out, d, false)));
}

pub(super) fn table_status(r: &mut Reader<'_>) -> Result<Body, OfError> {
    let reason = r.u8()?;
    r.skip(7)?;
    if !matches!(reason, VACANCY_DOWN | VACANCY_UP) {
        return Err(OfError::OfpbpcBadValue);
    }
    Ok(Body::TableStatus { reason, desc: desc(r)? })
}

pub(super) fn put_table_status(o: &mut Out<'_>, reason: u8, desc: &TableDesc) {
    o.bytes.u8(reason);
    o.bytes.zeros(7);
    put_desc(o.bytes, desc, true);
}

pub(super) fn stats_reply(i: &In<'_>, r: &mut Reader<'_>) -> Result<MultipartBody, OfError> {
    let mut tables = Vec::new();
    while !r.is_empty() {
        let table = TableId(r.u8()?);
        let mut s = TableStats { table, ..TableStats::default() };
        s.features.table = table;
        match i.version {
            Version::V10 => stats10(r, &mut s)?,
            Version::V11 => stats11(r, &mut s)?,
            Version::V12 => stats12(r, &mut s)?,
            Version::V13 | Version::V14 | Version::V15 => {
                r.skip(3)?;
                s.active = r.u32()?;
            }
        }
        (s.lookups, s.matched) = (r.u64()?, r.u64()?);
        tables.push(s);
    }
    Ok(MultipartBody::TableReply(tables))
}

fn stats10(r: &mut Reader<'_>, s: &mut TableStats) -> Result<(), OfError> {
    r.skip(3)?;
    s.features.name = r.name(NAME_LEN)?;
    s.features.wildcard = from_bits(&OF10, r.u32()?);
    s.features.matchable = s.features.wildcard.clone();
    s.features.max_entries = r.u32()?;
    s.active = r.u32()?;
    Ok(())
}

fn union(a: &[Field], b: &[Field]) -> Vec<Field> {
    let mut all = [a, b].concat();
    all.sort();
    all.dedup();
    all
}

fn stats11(r: &mut Reader<'_>, s: &mut TableStats) -> Result<(), OfError> {
    r.skip(7)?;
    let f = &mut s.features;
    f.name = r.name(NAME_LEN)?;
    f.wildcard = from_bits(&OF11, r.u32()?);
    f.matchable = union(&from_bits(&OF11, r.u32()?), &f.wildcard);
    let set = TableFeatureSet {
        instructions: instructions_from_bits(r.u32()?),
        write: ActionFeatures { actions: bitmap::from_wire(r.u32()?, Version::V11), set_fields: Vec::new() },
        apply: ActionFeatures { actions: bitmap::from_wire(r.u32()?, Version::V11), set_fields: Vec::new() },
        next: [0; 4],
    };
    f.flows = [set.clone(), set];
    f.miss = (r.u32()? & MISS_MASK).to_be_bytes()[3];
    f.max_entries = r.u32()?;
    s.active = r.u32()?;
    Ok(())
}

fn stats12(r: &mut Reader<'_>, s: &mut TableStats) -> Result<(), OfError> {
    r.skip(7)?;
    let f = &mut s.features;
    f.name = r.name(NAME_LEN)?;
    let matchable = from_oxm_bits(r.u64()?);
    f.wildcard = from_oxm_bits(r.u64()?);
    f.matchable = union(&matchable, &f.wildcard);
    let (write, apply) = (bitmap::from_wire(r.u32()?, Version::V12), bitmap::from_wire(r.u32()?, Version::V12));
    let (write_fields, apply_fields) = (from_oxm_bits(r.u64()?), from_oxm_bits(r.u64()?));
    (f.metadata_match, f.metadata_write) = (r.u64()?, r.u64()?);
    let set = TableFeatureSet {
        instructions: instructions_from_bits(r.u32()?),
        write: ActionFeatures { actions: write, set_fields: write_fields },
        apply: ActionFeatures { actions: apply, set_fields: apply_fields },
        next: [0; 4],
    };
    f.flows = [set.clone(), set];
    f.miss = (r.u32()? & MISS_MASK).to_be_bytes()[3];
    f.max_entries = r.u32()?;
    s.active = r.u32()?;
    Ok(())
}

pub(super) fn put_stats_reply(o: &mut Out<'_>, tables: &[TableStats]) {
    let version = o.version;
    for s in tables {
        o.entry(|out| {
            out.u8(s.table.0);
            put_stats_middle(out, version, s);
            out.u64(s.lookups);
            out.u64(s.matched);
        });
    }
}

fn put_stats_middle(out: &mut Vec<u8>, version: Version, s: &TableStats) {
    let f = &s.features;
    let set = &f.flows[0];
    let wild = |field: Field| !f.matchable.contains(&field) || f.wildcard.contains(&field);
    match version {
        Version::V10 => {
            out.zeros(3);
            out.name(&f.name, NAME_LEN);
            out.u32(to_bits(&OF10, wild));
            out.u32(f.max_entries);
        }
        Version::V11 => {
            out.zeros(7);
            out.name(&f.name, NAME_LEN);
            out.u32(to_bits(&OF11, wild));
            out.u32(to_bits(&OF11, |field| f.matchable.contains(&field)));
            out.u32(instructions_to_bits(set.instructions, version));
            out.u32(bitmap::to_wire(set.write.actions, version));
            out.u32(bitmap::to_wire(set.apply.actions, version));
            out.u32(u32::from(f.miss));
            out.u32(f.max_entries);
        }
        Version::V12 => {
            out.zeros(7);
            out.name(&f.name, NAME_LEN);
            out.u64(to_oxm_bits(&f.matchable));
            out.u64(to_oxm_bits(&f.wildcard));
            out.u32(bitmap::to_wire(set.write.actions, version));
            out.u32(bitmap::to_wire(set.apply.actions, version));
            out.u64(to_oxm_bits(&set.write.set_fields));
            out.u64(to_oxm_bits(&set.apply.set_fields));
            out.u64(f.metadata_match);
            out.u64(f.metadata_write);
            out.u32(instructions_to_bits(set.instructions, version));
            out.u32(u32::from(f.miss));
            out.u32(f.max_entries);
        }
        Version::V13 | Version::V14 | Version::V15 => out.zeros(3),
    }
    out.u32(s.active);
}

/// Table features to the end of the message; a client passes over what it does not know, a switch refuses it.
pub(super) fn features(i: &In<'_>, r: &mut Reader<'_>, loose: bool) -> Result<Vec<TableFeatures>, OfError> {
    let mut tables = Vec::new();
    while !r.is_empty() {
        let bad_len = OfError::OfpbpcBadLen;
        let mut body = r.or(bad_len);
        let len = usize::from(body.u16()?);
        if len < FEATURES || !len.is_multiple_of(8) || r.len() < FEATURES {
            return Err(bad_len);
        }
        let body = r.or(bad_len).sub(len)?;
        r.skip(len)?;
        tables.push(one_table(i, body, loose)?);
    }
    Ok(tables)
}

fn one_table(i: &In<'_>, mut r: Reader<'_>, loose: bool) -> Result<TableFeatures, OfError> {
    r.skip(2)?;
    let mut f = TableFeatures { table: TableId(r.u8()?), ..TableFeatures::default() };
    let command = r.u8()?;
    if i.version >= Version::V15 {
        if command > 3 {
            return Err(OfError::OfptffcBadCommand);
        }
        f.command = command;
    }
    if f.table == TableId::ALL {
        return Err(OfError::OfptffcBadTable);
    }
    r.skip(4)?;
    f.name = r.name(NAME_LEN)?;
    (f.metadata_match, f.metadata_write) = (r.u64()?, r.u64()?);
    let capabilities = r.u32()?;
    if i.version >= Version::V14 {
        f.supports_eviction = capabilities & EVICTION != 0;
        f.supports_vacancy = capabilities & VACANCY != 0;
    }
    f.max_entries = r.u32()?;
    f.any_properties = !r.is_empty();
    let mut seen = 0u32;
    while !r.is_empty() {
        let property = Property::pull(&mut r)?;
        if property.kind < 32 {
            let bit = 1 << property.kind;
            if seen & bit != 0 {
                return Err(OfError::OfptffcBadFeatures);
            }
            seen |= bit;
        }
        one_property(i, &property, loose, &mut f)?;
    }
    if seen & REQUIRED != REQUIRED && (f.any_properties || i.version < Version::V15) {
        return Err(OfError::OfptffcBadFeatures);
    }
    complete(&mut f, seen);
    Ok(f)
}

fn one_property(i: &In<'_>, p: &Property<'_>, loose: bool, f: &mut TableFeatures) -> Result<(), OfError> {
    let value = Reader::new(p.value(), OfError::OfpbpcBadLen);
    let miss = usize::from(p.kind & 1 != 0);
    let set = &mut f.flows[miss];
    match p.kind & !1 {
        P_INSTRUCTIONS => set.instructions = instruction_ids(value, loose)?,
        P_NEXT_TABLES => set.next = next_tables(value.peek())?,
        P_WRITE_ACTIONS => set.write.actions = action_ids(value, i.version)?,
        P_APPLY_ACTIONS => set.apply.actions = action_ids(value, i.version)?,
        P_WRITE_SETFIELD => set.write.set_fields = plain_fields(i, value, loose)?,
        P_APPLY_SETFIELD => set.apply.set_fields = plain_fields(i, value, loose)?,
        P_MATCH if miss == 0 => {
            let (exact, masked) = fields(i, value, loose)?;
            f.matchable = union(&exact, &masked);
            f.maskable = masked;
        }
        P_WILDCARDS if miss == 0 => f.wildcard = plain_fields(i, value, loose)?,
        _ => p.unknown(loose)?,
    }
    Ok(())
}

/// What is not said of the table miss holds for it as for other flows; what may be masked may be wildcarded.
fn complete(f: &mut TableFeatures, seen: u32) {
    if f.any_properties {
        let said = |kind: u64| seen >> (kind + 1) & 1 != 0;
        let [flows, miss] = &mut f.flows;
        if !said(P_INSTRUCTIONS) {
            miss.instructions = flows.instructions;
        }
        if !said(P_NEXT_TABLES) {
            miss.next = flows.next;
        }
        for (actions, set_fields, from, to) in [
            (P_WRITE_ACTIONS, P_WRITE_SETFIELD, &flows.write, &mut miss.write),
            (P_APPLY_ACTIONS, P_APPLY_SETFIELD, &flows.apply, &mut miss.apply),
        ] {
            if !said(actions) {
                to.actions = from.actions;
            }
            if !said(set_fields) {
                to.set_fields.clone_from(&from.set_fields);
            }
        }
    }
    f.wildcard = union(&f.wildcard, &f.maskable);
    let matchable = &f.matchable;
    f.wildcard.retain(|w| matchable.contains(w));
}

fn ids(mut r: Reader<'_>) -> Result<Vec<u16>, OfError> {
    let mut ids = Vec::new();
    while !r.is_empty() {
        let len = usize::from(Reader::new(r.peek().get(2..).unwrap_or(&[]), OfError::OfpbpcBadLen).u16()?);
        let kind = r.u16()?;
        if len < 4 {
            return Err(OfError::OfpbpcBadLen);
        }
        r.skip(len - 2)?;
        ids.push(kind);
    }
    Ok(ids)
}

fn instruction_ids(r: Reader<'_>, loose: bool) -> Result<u32, OfError> {
    let mut set = 0;
    for kind in ids(r)? {
        match instructions::from_type(kind) {
            Some(instruction) => set |= 1 << instruction as u32,
            None if loose => {}
            None => return Err(OfError::OfpbicUnknownInst),
        }
    }
    Ok(set)
}

fn action_ids(r: Reader<'_>, version: Version) -> Result<u64, OfError> {
    let map = ids(r)?.into_iter().filter(|kind| *kind < 32).fold(0u32, |map, kind| map | 1 << kind);
    Ok(bitmap::from_wire(map, version))
}

fn next_tables(ids: &[u8]) -> Result<[u64; 4], OfError> {
    let mut next = [0; 4];
    for id in ids {
        if *id == TableId::ALL.0 {
            return Err(OfError::OfpbpcBadValue);
        }
        next[usize::from(*id / 64)] |= 1 << (id % 64);
    }
    Ok(next)
}

/// Fields named without and with a mask.
fn fields(i: &In<'_>, mut r: Reader<'_>, loose: bool) -> Result<(Vec<Field>, Vec<Field>), OfError> {
    let (mut exact, mut masked) = (Vec::new(), Vec::new());
    // What a table could do with a tunnel option does not depend on whether it is mapped.
    let codec = Codec { options: None, ..*i.codec };
    while !r.is_empty() {
        match oxm::pull_name(&mut r, &codec) {
            Ok((field, true)) => masked.push(field),
            Ok((field, false)) => exact.push(field),
            Err(OfError::OfpbmcBadField) if loose => {}
            Err(e) => return Err(e),
        }
    }
    Ok((union(&exact, &[]), union(&masked, &[])))
}

fn plain_fields(i: &In<'_>, r: Reader<'_>, loose: bool) -> Result<Vec<Field>, OfError> {
    match fields(i, r, loose)? {
        (exact, masked) if masked.is_empty() => Ok(exact),
        _ => Err(OfError::OfpbmcBadMask),
    }
}

pub(super) fn put_features(o: &mut Out<'_>, tables: &[TableFeatures]) {
    // A field that no option is mapped to is as long as an option can be.
    let (codec, version) = (&Codec { options: None, ..*o.codec }, o.version);
    for f in tables {
        o.entry(|out| {
            let start = out.len();
            out.u16(0);
            out.bytes(&[f.table.0, if version >= Version::V15 { f.command } else { 0 }]);
            out.zeros(4);
            out.name(&f.name, NAME_LEN);
            out.u64(f.metadata_match);
            out.u64(f.metadata_write);
            let capabilities = if f.supports_eviction { EVICTION } else { 0 } | if f.supports_vacancy { VACANCY } else { 0 };
            out.u32(if version >= Version::V14 { capabilities } else { 0 });
            out.u32(f.max_entries);
            if f.any_properties {
                for (miss, set) in (0u64..).zip(&f.flows) {
                    put_set(out, codec, version, miss, set);
                }
                put_fields(out, codec, version, P_MATCH, (&f.matchable, &f.maskable));
                put_fields(out, codec, version, P_WILDCARDS, (&f.wildcard, &[]));
            }
            out.close_len(start, start);
        });
    }
}

fn put_set(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, miss: u64, set: &TableFeatureSet) {
    put_ids(out, P_INSTRUCTIONS + miss, instructions_to_bits(set.instructions, version));
    let at = props::start(out, P_NEXT_TABLES + miss);
    let has = |id: &u8| set.next[usize::from(*id / 64)] >> (id % 64) & 1 != 0;
    (0..TableId::ALL.0).filter(has).for_each(|id| out.u8(id));
    props::end(out, at);
    for (actions, set_fields, features) in
        [(P_WRITE_ACTIONS, P_WRITE_SETFIELD, &set.write), (P_APPLY_ACTIONS, P_APPLY_SETFIELD, &set.apply)]
    {
        put_ids(out, actions + miss, bitmap::to_wire(features.actions, version));
        put_fields(out, codec, version, set_fields + miss, (&features.set_fields, &[]));
    }
}

fn put_ids(out: &mut Vec<u8>, kind: u64, bits: u32) {
    let at = props::start(out, kind);
    for id in (0..32u16).filter(|id| bits >> id & 1 != 0) {
        out.u16(id);
        out.u16(4);
    }
    props::end(out, at);
}

fn put_fields(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, kind: u64, (fields, masked): (&[Field], &[Field])) {
    let at = props::start(out, kind);
    for field in fields {
        oxm::put_header(out, *field, Some(version), masked.contains(field), codec.bytes_of(*field));
    }
    props::end(out, at);
}
