//! Flows: modification, removal, statistics.

use super::oxs;
use crate::error::OfError;
use crate::message::{
    Body, FlowMod, FlowModCommand, FlowRemoved, FlowStatsEntry, FlowStatsRequest, MultipartBody, flow_mod_flags,
};
use crate::types::{GroupId, NO_BUFFER, OfPort, TableId, Version};
use crate::wire::actions::check::{Against, check};
use crate::wire::actions::{instructions, put_flow};
use crate::wire::bytes::{Put, Reader, round8};
use crate::wire::matches::{self, STRICT, STRICT_WITH_COOKIE, fits_openflow10, fixed};
use crate::wire::{Codec, In, Out};
use flow::matching::Match;

/// Removal reasons that came with 1.4.
const REASON_DELETE: u8 = 2;
const REASON_METER_DELETE: u8 = 4;
/// OFPFF10_EMERG, which 1.2 gave to RESET_COUNTS.
const EMERG10: u16 = 4;

fn command(number: u8) -> Result<FlowModCommand, OfError> {
    use FlowModCommand::{Add, Delete, DeleteStrict, Modify, ModifyStrict};
    [Add, Modify, ModifyStrict, Delete, DeleteStrict].get(usize::from(number)).copied().ok_or(OfError::OfpfmfcBadCommand)
}

fn deletes(command: u8) -> bool {
    matches!(command, 3 | 4)
}

/// The flags that a version has, in its own numbering, which is 1.3's but for 1.0's emergency flag.
fn flags_of(version: Version) -> u16 {
    match version {
        Version::V10 | Version::V11 => flow_mod_flags::SEND_FLOW_REM | flow_mod_flags::CHECK_OVERLAP,
        Version::V12 => 7,
        Version::V13 | Version::V14 | Version::V15 => 0x1f,
    }
}

fn pull_flags(version: Version, wire: u16) -> Result<u16, OfError> {
    let emerg = if version == Version::V10 { wire & EMERG10 } else { 0 };
    if wire & !(flags_of(version) | emerg) != 0 {
        return Err(OfError::OfpfmfcBadFlags);
    }
    Ok(wire & flags_of(version) | if emerg != 0 { flow_mod_flags::EMERG } else { 0 })
}

fn put_flags(version: Version, flags: u16) -> u16 {
    flags & flags_of(version) | if version == Version::V10 && flags & flow_mod_flags::EMERG != 0 { EMERG10 } else { 0 }
}

pub(super) fn flow_mod(i: &In<'_>, r: &mut Reader<'_>) -> Result<Body, OfError> {
    // Where it stays: with its match it is long to copy.
    let mut fm = Box::new(empty());
    let (raw_flags, raw_command) = match (i.extension(), i.version) {
        (true, _) => flow_mod_nx(i, r, &mut fm)?,
        (false, Version::V10) => flow_mod10(i, r, &mut fm)?,
        (false, _) => flow_mod11(i, r, &mut fm)?,
    };
    let mask = &fm.matching.mask;
    // A connection's addresses are only there with the packet's own version of IP.
    let ct4 = mask.ct_nw_src != [0; 4] || mask.ct_nw_dst != [0; 4];
    let ct6 = mask.ct_ipv6_src != [0; 16] || mask.ct_ipv6_dst != [0; 16];
    let eth_type = fm.matching.eth_type();
    if ct4 && eth_type != [0x08, 0] || ct6 && eth_type != [0x86, 0xdd] {
        return Err(OfError::OfpbacMatchInconsistent);
    }
    fm.command = raw_command?;
    fm.actions = instructions::pull(Reader::new(r.rest(), OfError::OfpbicBadLen), i.codec, i.version)?;
    fm.flags = pull_flags(i.version, raw_flags)?;
    if fm.command == FlowModCommand::Add && i.version <= Version::V11 {
        fm.flags |= flow_mod_flags::RESET_COUNTS;
    }
    if fm.flags & flow_mod_flags::EMERG != 0 {
        let timeout = fm.idle_timeout != 0 || fm.hard_timeout != 0;
        return Err(if timeout { OfError::OfpfmfcBadEmergTimeout } else { OfError::OfpfmfcTableFull });
    }
    let against = Against { codec: i.codec, version: i.version, key: &fm.matching.key, mask: &fm.matching.mask, table: fm.table };
    check(against, &fm.actions)?;
    Ok(Body::FlowMod(fm))
}

/// Flags and command of a flow-mod as they came.
type Partial = (u16, Result<FlowModCommand, OfError>);

/// Adds a flow that matches everything and does nothing; no table, priority or packet is named.
impl Default for FlowMod {
    fn default() -> Self {
        Self {
            command: FlowModCommand::Add,
            table: TableId::ALL,
            matching: Match::default(),
            priority: 0,
            cookie: 0,
            cookie_mask: 0,
            new_cookie: 0,
            modify_cookie: false,
            idle_timeout: 0,
            hard_timeout: 0,
            buffer_id: NO_BUFFER,
            out_port: OfPort::ANY,
            out_group: GroupId::ANY,
            flags: 0,
            importance: 0,
            actions: Vec::new(),
        }
    }
}

fn empty() -> FlowMod {
    FlowMod { buffer_id: 0, ..FlowMod::default() }
}

fn flow_mod11(i: &In<'_>, r: &mut Reader<'_>, fm: &mut FlowMod) -> Result<Partial, OfError> {
    let (cookie, cookie_mask) = (r.u64()?, r.u64()?);
    fm.table = TableId(r.u8()?);
    let number = r.u8()?;
    fm.idle_timeout = r.u16()?;
    fm.hard_timeout = r.u16()?;
    fm.priority = r.u16()?;
    fm.buffer_id = r.u32()?;
    let (out_port, out_group, flags, importance) = (r.u32()?, r.u32()?, r.u16()?, r.u16()?);
    matches::pull11_into(&mut fm.matching, r, i.codec)?;
    let modifies = matches!(number, 1 | 2);
    if number == 0 || i.version == Version::V11 && modifies && cookie_mask == 0 {
        fm.new_cookie = cookie;
    } else {
        (fm.cookie, fm.cookie_mask, fm.new_cookie) = (cookie, cookie_mask, u64::MAX);
    }
    if fm.table == TableId::ALL && (i.version == Version::V11 || !deletes(number)) {
        return Err(OfError::OfpfmfcBadTableId);
    }
    if i.version >= Version::V14 && number == 0 {
        fm.importance = importance;
    }
    fm.out_port = OfPort::from_wire32(out_port)?;
    if deletes(number) {
        fm.out_group = GroupId(out_group);
    }
    Ok((flags, command(number)))
}

/// The command of 1.0, whose high byte is the table when that has been agreed on.
fn command10(i: &In<'_>, fm: &mut FlowMod, wire: u16) -> Result<FlowModCommand, OfError> {
    let [table, number] = wire.to_be_bytes();
    if i.codec.table_id {
        fm.table = TableId(table);
    } else if table != 0 {
        return Err(OfError::OfpfmfcBadCommand);
    }
    command(number)
}

fn flow_mod10(i: &In<'_>, r: &mut Reader<'_>, fm: &mut FlowMod) -> Result<Partial, OfError> {
    let (matching, wildcards) = fixed::pull10(r)?;
    fm.matching = matching;
    fm.matching.normalize();
    fm.new_cookie = r.u64()?;
    let wire = r.u16()?;
    fm.idle_timeout = r.u16()?;
    fm.hard_timeout = r.u16()?;
    let priority = r.u16()?;
    // OpenFlow 1.0, 3.4: a match without wildcards has the highest priority.
    fm.priority = if wildcards == 0 { u16::MAX } else { priority };
    fm.buffer_id = r.u32()?;
    fm.out_port = OfPort::from_wire16(r.u16()?);
    let flags = r.u16()?;
    fm.modify_cookie = fm.new_cookie != u64::MAX;
    let command = command10(i, fm, wire);
    Ok((flags, command))
}

fn flow_mod_nx(i: &In<'_>, r: &mut Reader<'_>, fm: &mut FlowMod) -> Result<Partial, OfError> {
    fm.new_cookie = r.u64()?;
    let wire = r.u16()?;
    fm.idle_timeout = r.u16()?;
    fm.hard_timeout = r.u16()?;
    fm.priority = r.u16()?;
    fm.buffer_id = r.u32()?;
    fm.out_port = OfPort::from_wire16(r.u16()?);
    let (flags, match_len) = (r.u16()?, r.u16()?);
    r.skip(6)?;
    (fm.matching, fm.cookie, fm.cookie_mask) = matches::pull_nxm(r, match_len, i.codec, STRICT_WITH_COOKIE)?;
    if wire.to_be_bytes()[1] == 0 && fm.cookie_mask != 0 {
        return Err(OfError::NxbrcNxmInvalid);
    }
    fm.modify_cookie = fm.new_cookie != u64::MAX;
    let command = command10(i, fm, wire);
    Ok((flags, command))
}

/// Whether OpenFlow 1.0 needs Nicira's form for a flow-mod.
pub(super) fn needs_nxm(codec: &Codec<'_>, fm: &FlowMod) -> bool {
    codec.nxm || fm.cookie_mask != 0 || !fits_openflow10(&fm.matching)
}

pub(super) fn put_flow_mod(o: &mut Out<'_>, fm: &FlowMod) {
    let version = o.version;
    let number = fm.command as u8;
    if version > Version::V10 && !o.extension {
        put_flow_mod11(o, fm, number);
    } else {
        // The table stands in the command's high byte when that has been agreed on.
        let table = if o.codec.table_id { fm.table.0 } else { 0 };
        let wire = u16::from_be_bytes([table, number]);
        let extension = o.extension;
        if !extension {
            fixed::put10(o.bytes, &fm.matching);
        }
        o.bytes.u64(fm.new_cookie);
        o.bytes.u16(wire);
        o.bytes.u16(fm.idle_timeout);
        o.bytes.u16(fm.hard_timeout);
        o.bytes.u16(fm.priority);
        o.bytes.u32(fm.buffer_id);
        o.bytes.u16(fm.out_port.to_wire16());
        o.bytes.u16(put_flags(version, fm.flags));
        if extension {
            let len_at = o.bytes.len();
            o.bytes.zeros(8);
            let len = matches::put_nxm(o.bytes, o.codec, &fm.matching, fm.cookie, fm.cookie_mask);
            o.bytes.set_u16(len_at, len);
        }
    }
    put_flow(o.bytes, o.codec, version, &fm.matching, &fm.actions);
}

fn put_flow_mod11(o: &mut Out<'_>, fm: &FlowMod, number: u8) {
    let version = o.version;
    let modifies = matches!(fm.command, FlowModCommand::Modify | FlowModCommand::ModifyStrict);
    let carries_new = number == 0 || version == Version::V11 && modifies && fm.cookie_mask == 0;
    let any_table = fm.table == TableId::ALL && (version == Version::V11 || !deletes(number));
    o.bytes.u64(if carries_new { fm.new_cookie } else { fm.cookie & fm.cookie_mask });
    o.bytes.u64(fm.cookie_mask);
    o.bytes.u8(if any_table { 0 } else { fm.table.0 });
    o.bytes.u8(number);
    o.bytes.u16(fm.idle_timeout);
    o.bytes.u16(fm.hard_timeout);
    o.bytes.u16(fm.priority);
    o.bytes.u32(fm.buffer_id);
    o.bytes.u32(fm.out_port.0);
    o.bytes.u32(fm.out_group.0);
    o.bytes.u16(put_flags(version, fm.flags));
    o.bytes.u16(if version >= Version::V14 && number == 0 { fm.importance } else { 0 });
    matches::put11(o.bytes, o.codec, version, &fm.matching);
}

pub(super) fn flow_removed(i: &In<'_>, r: &mut Reader<'_>) -> Result<Body, OfError> {
    let mut fr = FlowRemoved {
        matching: Match::default(),
        cookie: 0,
        priority: 0,
        reason: 0,
        table: TableId::ALL,
        duration_sec: 0,
        duration_nsec: 0,
        idle_timeout: 0,
        hard_timeout: 0,
        packets: 0,
        bytes: 0,
    };
    if i.version == Version::V15 && !i.extension() {
        fr.table = TableId(r.u8()?);
        fr.reason = r.u8()?;
        fr.priority = r.u16()?;
        fr.idle_timeout = r.u16()?;
        fr.hard_timeout = r.u16()?;
        fr.cookie = r.u64()?;
        fr.matching = matches::pull11(r, i.codec)?;
        let stats = oxs::pull(r)?;
        (fr.duration_sec, fr.duration_nsec) = (stats.duration_sec, stats.duration_nsec);
        (fr.packets, fr.bytes) = (stats.packets, stats.bytes);
        return Ok(Body::FlowRemoved(Box::new(fr)));
    }
    let v10 = i.version == Version::V10 && !i.extension();
    if v10 {
        fr.matching = fixed::pull10(r)?.0;
    }
    fr.cookie = r.u64()?;
    fr.priority = r.u16()?;
    fr.reason = r.u8()?;
    let table = r.u8()?;
    (fr.duration_sec, fr.duration_nsec) = (r.u32()?, r.u32()?);
    fr.idle_timeout = r.u16()?;
    let last = r.u16()?;
    (fr.packets, fr.bytes) = (r.u64()?, r.u64()?);
    if i.extension() {
        fr.table = table.checked_sub(1).map_or(TableId::ALL, TableId);
        fr.matching = matches::pull_nxm(r, last, i.codec, STRICT)?.0;
        if !r.is_empty() {
            return Err(OfError::OfpbrcBadLen);
        }
    } else if !v10 {
        fr.table = TableId(table);
        fr.hard_timeout = last;
        fr.matching = matches::pull11(r, i.codec)?;
    }
    Ok(Body::FlowRemoved(Box::new(fr)))
}

pub(super) fn put_flow_removed(o: &mut Out<'_>, fr: &FlowRemoved) {
    let version = o.version;
    let reason = if fr.reason == REASON_METER_DELETE && version < Version::V14 { REASON_DELETE } else { fr.reason };
    if version == Version::V15 && !o.extension {
        o.bytes.bytes(&[fr.table.0, reason]);
        o.bytes.u16(fr.priority);
        o.bytes.u16(fr.idle_timeout);
        o.bytes.u16(fr.hard_timeout);
        o.bytes.u64(fr.cookie);
        matches::put11(o.bytes, o.codec, version, &fr.matching);
        let (duration_sec, duration_nsec) = (fr.duration_sec, fr.duration_nsec);
        oxs::put(o.bytes, &oxs::Oxs { duration_sec, duration_nsec, packets: fr.packets, bytes: fr.bytes, ..oxs::NOTHING });
        return;
    }
    let v10 = version == Version::V10 && !o.extension;
    if v10 {
        fixed::put10(o.bytes, &fr.matching);
    }
    let unknown_to_zero = |n: u64| if v10 && n == u64::MAX { 0 } else { n };
    o.bytes.u64(fr.cookie);
    o.bytes.u16(fr.priority);
    o.bytes.u8(reason);
    o.bytes.u8(if o.extension {
        fr.table.0.wrapping_add(1)
    } else if v10 {
        0
    } else {
        fr.table.0
    });
    o.bytes.u32(fr.duration_sec);
    o.bytes.u32(fr.duration_nsec);
    o.bytes.u16(fr.idle_timeout);
    let last_at = o.bytes.len();
    o.bytes.u16(if v10 { 0 } else { fr.hard_timeout });
    o.bytes.u64(unknown_to_zero(fr.packets));
    o.bytes.u64(unknown_to_zero(fr.bytes));
    if o.extension {
        let len = matches::put_nxm(o.bytes, o.codec, &fr.matching, 0, 0);
        o.bytes.set_u16(last_at, len);
    } else if !v10 {
        matches::put11(o.bytes, o.codec, version, &fr.matching);
    }
}

pub(super) fn stats_request(i: &In<'_>, r: &mut Reader<'_>) -> Result<FlowStatsRequest, OfError> {
    let mut request = FlowStatsRequest {
        matching: Match::default(),
        table: TableId::ALL,
        out_port: OfPort::ANY,
        out_group: GroupId::ANY,
        cookie: 0,
        cookie_mask: 0,
    };
    if i.extension() {
        request.out_port = OfPort::from_wire16(r.u16()?);
        let match_len = r.u16()?;
        request.table = TableId(r.u8()?);
        r.skip(3)?;
        (request.matching, request.cookie, request.cookie_mask) = matches::pull_nxm(r, match_len, i.codec, STRICT_WITH_COOKIE)?;
        if !r.is_empty() {
            return Err(OfError::OfpbrcBadLen);
        }
    } else if i.version == Version::V10 {
        request.matching = fixed::pull10(r)?.0;
        request.table = TableId(r.u8()?);
        r.skip(1)?;
        request.out_port = OfPort::from_wire16(r.u16()?);
    } else {
        request.table = TableId(r.u8()?);
        r.skip(3)?;
        request.out_port = OfPort::from_wire32(r.u32()?)?;
        request.out_group = GroupId(r.u32()?);
        r.skip(4)?;
        (request.cookie, request.cookie_mask) = (r.u64()?, r.u64()?);
        request.matching = matches::pull11(r, i.codec)?;
    }
    Ok(request)
}

pub(super) fn put_stats_request(o: &mut Out<'_>, request: &FlowStatsRequest) {
    if o.extension {
        o.bytes.u16(request.out_port.to_wire16());
        let len_at = o.bytes.len();
        o.bytes.u16(0);
        o.bytes.u8(request.table.0);
        o.bytes.zeros(3);
        let len = matches::put_nxm(o.bytes, o.codec, &request.matching, request.cookie, request.cookie_mask);
        o.bytes.set_u16(len_at, len);
    } else if o.version == Version::V10 {
        fixed::put10(o.bytes, &request.matching);
        o.bytes.u8(request.table.0);
        o.bytes.u8(0);
        o.bytes.u16(request.out_port.to_wire16());
    } else {
        o.bytes.u8(request.table.0);
        o.bytes.zeros(3);
        o.bytes.u32(request.out_port.0);
        o.bytes.u32(request.out_group.0);
        o.bytes.zeros(4);
        o.bytes.u64(request.cookie);
        o.bytes.u64(request.cookie_mask);
        matches::put11(o.bytes, o.codec, o.version, &request.matching);
    }
}

pub(super) fn stats_reply(i: &In<'_>, r: &mut Reader<'_>) -> Result<MultipartBody, OfError> {
    let mut flows = Vec::new();
    while !r.is_empty() {
        let len = usize::from(r.peek_u16()?);
        let mut entry = r.sub(len.max(2))?;
        entry.skip(2)?;
        flows.push(match (i.extension(), i.version) {
            (true, _) => stats_nx(i, &mut entry)?,
            (false, Version::V10) => stats10(i, &mut entry)?,
            (false, Version::V15) => stats15(i, &mut entry)?,
            (false, _) => stats11(i, &mut entry)?,
        });
    }
    Ok(MultipartBody::FlowReply(flows))
}

fn empty_stats() -> FlowStatsEntry {
    FlowStatsEntry {
        matching: Match::default(),
        cookie: 0,
        table: TableId(0),
        priority: 0,
        duration_sec: 0,
        duration_nsec: 0,
        idle_timeout: 0,
        hard_timeout: 0,
        idle_age: -1,
        hard_age: -1,
        flags: 0,
        importance: 0,
        packets: 0,
        bytes: 0,
        actions: Vec::new(),
    }
}

fn stats10(i: &In<'_>, r: &mut Reader<'_>) -> Result<FlowStatsEntry, OfError> {
    let mut s = empty_stats();
    s.table = TableId(r.u8()?);
    r.skip(1)?;
    s.matching = fixed::pull10(r)?.0;
    (s.duration_sec, s.duration_nsec) = (r.u32()?, r.u32()?);
    (s.priority, s.idle_timeout, s.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
    r.skip(6)?;
    (s.cookie, s.packets, s.bytes) = (r.u64()?, r.u64()?, r.u64()?);
    s.actions = instructions::pull(*r, i.codec, i.version)?;
    Ok(s)
}

fn stats_nx(i: &In<'_>, r: &mut Reader<'_>) -> Result<FlowStatsEntry, OfError> {
    let mut s = empty_stats();
    s.table = TableId(r.u8()?);
    r.skip(1)?;
    (s.duration_sec, s.duration_nsec) = (r.u32()?, r.u32()?);
    (s.priority, s.idle_timeout, s.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
    let match_len = r.u16()?;
    // An age is one more than told, so that none is zero.
    s.idle_age = i32::from(r.u16()?) - 1;
    s.hard_age = i32::from(r.u16()?) - 1;
    (s.cookie, s.packets, s.bytes) = (r.u64()?, r.u64()?, r.u64()?);
    if r.len() < round8(usize::from(match_len)) {
        return Err(OfError::OfpbrcBadLen);
    }
    s.matching = matches::pull_nxm(r, match_len, i.codec, STRICT)?.0;
    s.actions = instructions::pull(*r, i.codec, i.version)?;
    Ok(s)
}

fn stats11(i: &In<'_>, r: &mut Reader<'_>) -> Result<FlowStatsEntry, OfError> {
    let mut s = empty_stats();
    s.table = TableId(r.u8()?);
    r.skip(1)?;
    (s.duration_sec, s.duration_nsec) = (r.u32()?, r.u32()?);
    (s.priority, s.idle_timeout, s.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
    let (flags, importance) = (r.u16()?, r.u16()?);
    r.skip(2)?;
    (s.cookie, s.packets, s.bytes) = (r.u64()?, r.u64()?, r.u64()?);
    s.matching = matches::pull11(r, i.codec)?;
    if i.version >= Version::V13 {
        s.flags = pull_flags(i.version, flags)?;
    }
    if i.version >= Version::V14 {
        s.importance = importance;
    }
    s.actions = instructions::pull(*r, i.codec, i.version)?;
    Ok(s)
}

fn stats15(i: &In<'_>, r: &mut Reader<'_>) -> Result<FlowStatsEntry, OfError> {
    let mut s = empty_stats();
    r.skip(2)?;
    s.table = TableId(r.u8()?);
    r.skip(1)?;
    (s.priority, s.idle_timeout, s.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
    let flags = r.u16()?;
    s.importance = r.u16()?;
    s.cookie = r.u64()?;
    s.matching = matches::pull11(r, i.codec)?;
    s.flags = pull_flags(i.version, flags)?;
    let stats = oxs::pull(r)?;
    (s.duration_sec, s.duration_nsec) = (stats.duration_sec, stats.duration_nsec);
    (s.packets, s.bytes) = (stats.packets, stats.bytes);
    s.idle_age = i32::try_from(stats.idle_sec).unwrap_or(-1);
    s.actions = instructions::pull(*r, i.codec, i.version)?;
    Ok(s)
}

pub(super) fn put_stats_reply(o: &mut Out<'_>, flows: &[FlowStatsEntry]) {
    let (codec, version, extension) = (o.codec, o.version, o.extension);
    for flow in flows {
        o.entry(|out| {
            let start = out.len();
            out.u16(0);
            match (extension, version) {
                (true, _) => put_stats_nx(out, codec, flow),
                (false, Version::V10) => put_stats10(out, flow),
                (false, Version::V15) => put_stats15(out, codec, flow),
                (false, _) => put_stats11(out, codec, version, flow),
            }
            put_flow(out, codec, version, &flow.matching, &flow.actions);
            out.close_len(start, start);
        });
    }
}

fn unknown_to_zero(n: u64) -> u64 {
    if n == u64::MAX { 0 } else { n }
}

fn put_times(out: &mut Vec<u8>, s: &FlowStatsEntry) {
    out.u32(s.duration_sec);
    out.u32(s.duration_nsec);
    out.u16(s.priority);
    out.u16(s.idle_timeout);
    out.u16(s.hard_timeout);
}

fn put_stats10(out: &mut Vec<u8>, s: &FlowStatsEntry) {
    out.bytes(&[s.table.0, 0]);
    fixed::put10(out, &s.matching);
    put_times(out, s);
    out.zeros(6);
    out.u64(s.cookie);
    out.u64(unknown_to_zero(s.packets));
    out.u64(unknown_to_zero(s.bytes));
}

fn put_stats_nx(out: &mut Vec<u8>, codec: &Codec<'_>, s: &FlowStatsEntry) {
    let age = |age: i32| u16::try_from(age.saturating_add(1).max(0)).unwrap_or(u16::MAX);
    out.bytes(&[s.table.0, 0]);
    put_times(out, s);
    let len_at = out.len();
    out.u16(0);
    out.u16(age(s.idle_age));
    out.u16(age(s.hard_age));
    out.u64(s.cookie);
    out.u64(s.packets);
    out.u64(s.bytes);
    let len = matches::put_nxm(out, codec, &s.matching, 0, 0);
    out.set_u16(len_at, len);
}

fn put_stats11(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, s: &FlowStatsEntry) {
    out.bytes(&[s.table.0, 0]);
    put_times(out, s);
    out.u16(if version >= Version::V13 { put_flags(version, s.flags) } else { 0 });
    out.u16(if version >= Version::V14 { s.importance } else { 0 });
    out.zeros(2);
    out.u64(s.cookie);
    out.u64(unknown_to_zero(s.packets));
    out.u64(unknown_to_zero(s.bytes));
    // In 1.1 too: the fixed form could not say what the flows of others match.
    matches::put_oxm(out, codec, version, &s.matching);
}

fn put_stats15(out: &mut Vec<u8>, codec: &Codec<'_>, s: &FlowStatsEntry) {
    out.zeros(2);
    out.bytes(&[s.table.0, 0]);
    out.u16(s.priority);
    out.u16(s.idle_timeout);
    out.u16(s.hard_timeout);
    out.u16(put_flags(Version::V15, s.flags));
    out.u16(s.importance);
    out.u64(s.cookie);
    matches::put_oxm(out, codec, Version::V15, &s.matching);
    let idle_sec = u32::try_from(s.idle_age).unwrap_or(u32::MAX);
    let (duration_sec, duration_nsec) = (s.duration_sec, s.duration_nsec);
    oxs::put(out, &oxs::Oxs { duration_sec, duration_nsec, idle_sec, packets: s.packets, bytes: s.bytes, ..oxs::NOTHING });
}

pub(super) fn aggregate_reply(i: &In<'_>, r: &mut Reader<'_>) -> Result<MultipartBody, OfError> {
    if i.version == Version::V15 {
        let stats = oxs::pull(r)?;
        return Ok(MultipartBody::AggregateReply { packets: stats.packets, bytes: stats.bytes, flows: stats.flows });
    }
    Ok(MultipartBody::AggregateReply { packets: r.u64()?, bytes: r.u64()?, flows: r.u32()? })
}

pub(super) fn put_aggregate_reply(o: &mut Out<'_>, packets: u64, bytes: u64, flows: u32) {
    if o.version == Version::V15 {
        return oxs::put(o.bytes, &oxs::Oxs { packets, bytes, flows, ..oxs::NOTHING });
    }
    let known = |n: u64| if o.version == Version::V10 && !o.extension { unknown_to_zero(n) } else { n };
    let (packets, bytes) = (known(packets), known(bytes));
    o.bytes.u64(packets);
    o.bytes.u64(bytes);
    o.bytes.u32(flows);
    o.bytes.zeros(4);
}
