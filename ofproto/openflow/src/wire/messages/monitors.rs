//! Flow monitors: Nicira's until 1.2, ONF's in 1.3 (EXT-187), the standard's from 1.4.

use crate::error::OfError;
use crate::message::{FlowMonitorRequest, FlowUpdate, MultipartBody};
use crate::types::{GroupId, OfPort, TableId, Version};
use crate::wire::actions::{self, instructions, put_flow, verify::Outer};
use crate::wire::bytes::{Put, Reader, round8};
use crate::wire::matches::{self, STRICT};
use crate::wire::{In, Out};
use flow::matching::Match;

/// OFPFMF_*: of 1.4 ONLY_OWN is one bit higher, for NO_ABBREV stands before it.
const EVENTS: u16 = 0x0e;
const BOTH: u16 = 0x1f;
const OWN_OLD: u16 = 1 << 5;
const OWN: u16 = 1 << 6;
/// Commands: ADD 0, MODIFY 1, DELETE 2.
const DELETE: u8 = 2;
/// Events of 1.4.
const INITIAL: u16 = 0;
const ADDED: u16 = 1;
const MODIFIED: u16 = 3;
const ABBREV: u16 = 4;
const PAUSED: u16 = 5;
const RESUMED: u16 = 6;
/// Events before: ADDED 0, DELETED 1, MODIFIED 2, ABBREV 3.
const ABBREV_OLD: u16 = 3;

pub(super) fn request(i: &In<'_>, r: &mut Reader<'_>) -> Result<MultipartBody, OfError> {
    let mut requests = Vec::new();
    while !r.is_empty() {
        requests.push(if i.version >= Version::V14 { request14(i, r)? } else { request_old(i, r)? });
    }
    Ok(MultipartBody::FlowMonitorRequest(requests))
}

fn request14(i: &In<'_>, r: &mut Reader<'_>) -> Result<FlowMonitorRequest, OfError> {
    let mut m = FlowMonitorRequest {
        id: r.u32()?,
        command: 0,
        flags: 0,
        out_port: OfPort::ANY,
        out_group: GroupId::ANY,
        table: TableId::ALL,
        matching: Match::default(),
    };
    let (out_port, out_group, flags, table) = (r.u32()?, r.u32()?, r.u16()?, r.u8()?);
    m.command = r.u8()?;
    if m.command == DELETE {
        // Only the id counts; ovs-ofctl sends no match with it.
        if !r.is_empty() {
            m.matching = matches::pull11(r, i.codec)?;
        }
        return Ok(m);
    }
    if flags & EVENTS == 0 || flags & !(BOTH | OWN) != 0 {
        return Err(OfError::OfpmofcBadFlags);
    }
    m.flags = flags;
    m.out_port = OfPort::from_wire32(out_port)?;
    m.out_group = GroupId(out_group);
    m.table = TableId(table);
    m.matching = matches::pull11(r, i.codec)?;
    Ok(m)
}

fn request_old(i: &In<'_>, r: &mut Reader<'_>) -> Result<FlowMonitorRequest, OfError> {
    let onf = i.version == Version::V13;
    let (id, flags) = (r.u32()?, r.u16()?);
    let (mut match_len, mut out_port) = (0, Ok(OfPort::ANY));
    if onf {
        r.skip(2)?;
        out_port = OfPort::from_wire32(r.u32()?);
    } else {
        out_port = out_port.and(Ok(OfPort::from_wire16(r.u16()?)));
        match_len = r.u16()?;
    }
    let table = TableId(r.u8()?);
    let zeros = r.take(if onf { 3 } else { 5 })?;
    if flags & EVENTS == 0 || flags & !(BOTH | OWN_OLD) != 0 {
        return Err(OfError::OfpmofcBadFlags);
    }
    if zeros.iter().any(|b| *b != 0) {
        return Err(OfError::NxbrcMustBeZero);
    }
    let out_port = out_port?;
    let matching = if onf { matches::pull11(r, i.codec)? } else { matches::pull_nxm(r, match_len, i.codec, STRICT)?.0 };
    let flags = flags & BOTH | if flags & OWN_OLD != 0 { OWN } else { 0 };
    Ok(FlowMonitorRequest { id, command: 0, flags, out_port, out_group: GroupId::ANY, table, matching })
}

pub(super) fn put_request(o: &mut Out<'_>, requests: &[FlowMonitorRequest]) {
    for m in requests {
        let old_flags = m.flags & BOTH | if m.flags & OWN != 0 { OWN_OLD } else { 0 };
        o.bytes.u32(m.id);
        match o.version {
            Version::V14 | Version::V15 => {
                o.bytes.u32(m.out_port.0);
                o.bytes.u32(m.out_group.0);
                o.bytes.u16(m.flags);
                o.bytes.bytes(&[m.table.0, m.command]);
                matches::put_oxm(o.bytes, o.codec, o.version, &m.matching);
            }
            Version::V13 => {
                o.bytes.u16(old_flags);
                let len_at = o.bytes.len();
                o.bytes.u16(0);
                o.bytes.u32(m.out_port.0);
                o.bytes.bytes(&[m.table.0, 0, 0, 0]);
                let len = matches::put_oxm_len(o.bytes, o.codec, o.version, &m.matching);
                o.bytes.set_u16(len_at, len);
            }
            Version::V10 | Version::V11 | Version::V12 => {
                o.bytes.u16(old_flags);
                o.bytes.u16(m.out_port.to_wire16());
                let len_at = o.bytes.len();
                o.bytes.u16(0);
                o.bytes.bytes(&[m.table.0, 0, 0, 0, 0, 0]);
                let len = matches::put_nxm(o.bytes, o.codec, &m.matching, 0, 0);
                o.bytes.set_u16(len_at, len);
            }
        }
    }
}

/// FLOW_MONITOR_CANCEL of 1.4+: a request to delete.
pub(super) fn put_cancel(o: &mut Out<'_>, id: u32) {
    let cancel = FlowMonitorRequest {
        id,
        command: DELETE,
        flags: 0,
        out_port: OfPort(0),
        out_group: GroupId(0),
        table: TableId(0),
        matching: Match::default(),
    };
    put_request(o, &[cancel]);
}

pub(super) fn reply(i: &In<'_>, r: &mut Reader<'_>) -> Result<MultipartBody, OfError> {
    let mut updates = Vec::new();
    while !r.is_empty() {
        let len = usize::from(r.peek_u16()?);
        if !len.is_multiple_of(8) || len < 8 {
            return Err(OfError::OfpbrcBadLen);
        }
        let mut body = r.sub(len)?;
        body.skip(2)?;
        updates.push(if i.version >= Version::V14 { update14(i, &mut body)? } else { update_old(i, &mut body)? });
    }
    Ok(MultipartBody::FlowMonitorReply(updates))
}

/// What has only a header must have nothing else.
fn short(r: &Reader<'_>, update: FlowUpdate) -> Result<FlowUpdate, OfError> {
    if r.is_empty() { Ok(update) } else { Err(OfError::OfpbrcBadLen) }
}

fn update14(i: &In<'_>, r: &mut Reader<'_>) -> Result<FlowUpdate, OfError> {
    let event = r.u16()?;
    match event {
        ABBREV => {
            let xid = r.u32()?;
            return short(r, FlowUpdate::Abbrev { xid });
        }
        PAUSED | RESUMED => {
            r.skip(4)?;
            return short(r, if event == PAUSED { FlowUpdate::Paused } else { FlowUpdate::Resumed });
        }
        INITIAL..=MODIFIED => {}
        _ => return Err(OfError::NxbrcFmBadEvent),
    }
    let (table, reason) = (TableId(r.u8()?), r.u8()?);
    let (idle_timeout, hard_timeout, priority) = (r.u16()?, r.u16()?, r.u16()?);
    r.skip(4)?;
    let cookie = r.u64()?;
    let matching = matches::pull11(r, i.codec)?;
    let actions = instructions::pull(*r, i.codec, i.version)?;
    let event = event.to_be_bytes()[1];
    Ok(FlowUpdate::Full { event, reason, priority, idle_timeout, hard_timeout, table, cookie, matching, actions })
}

fn update_old(i: &In<'_>, r: &mut Reader<'_>) -> Result<FlowUpdate, OfError> {
    let event = r.u16()?;
    if event == ABBREV_OLD {
        let xid = r.u32()?;
        return short(r, FlowUpdate::Abbrev { xid });
    }
    if event > ABBREV_OLD {
        return Err(OfError::NxbrcFmBadEvent);
    }
    let (reason, priority) = (r.u16()?.to_be_bytes()[1], r.u16()?);
    let (idle_timeout, hard_timeout, match_len) = (r.u16()?, r.u16()?, r.u16()?);
    let table = TableId(r.u8()?);
    r.skip(1)?;
    let cookie = r.u64()?;
    let (matching, actions);
    if i.version == Version::V13 {
        matching = matches::pull11(r, i.codec)?;
        actions = instructions::pull(*r, i.codec, i.version)?;
    } else {
        if round8(usize::from(match_len)) > r.len() {
            return Err(OfError::OfpbrcBadLen);
        }
        matching = matches::pull_nxm(r, match_len, i.codec, STRICT)?.0;
        let len = r.len();
        actions = actions::pull(r, len, i.codec, i.version, Outer::Actions)?;
    }
    let event = (event + ADDED).to_be_bytes()[1];
    Ok(FlowUpdate::Full { event, reason, priority, idle_timeout, hard_timeout, table, cookie, matching, actions })
}

pub(super) fn put_reply(o: &mut Out<'_>, updates: &[FlowUpdate]) {
    let (codec, version) = (o.codec, o.version);
    let old = version < Version::V14;
    for update in updates {
        o.entry(|out| {
            let start = out.len();
            out.u16(0);
            match update {
                FlowUpdate::Abbrev { xid } => {
                    out.u16(if old { ABBREV_OLD } else { ABBREV });
                    out.u32(*xid);
                }
                FlowUpdate::Paused | FlowUpdate::Resumed => {
                    out.u16(if *update == FlowUpdate::Paused { PAUSED } else { RESUMED });
                    out.u32(0);
                }
                FlowUpdate::Full { event, reason, priority, idle_timeout, hard_timeout, table, cookie, matching, actions }
                    if old =>
                {
                    // Before 1.4 an initial flow is an added one.
                    out.u16(u16::from(*event).saturating_sub(ADDED));
                    [u16::from(*reason), *priority, *idle_timeout, *hard_timeout].into_iter().for_each(|n| out.u16(n));
                    let len_at = out.len();
                    out.u16(0);
                    out.bytes(&[table.0, 0]);
                    out.u64(*cookie);
                    let len;
                    if version == Version::V13 {
                        len = matches::put_oxm_len(out, codec, version, matching);
                        put_flow(out, codec, version, matching, actions);
                    } else {
                        len = matches::put_nxm(out, codec, matching, 0, 0);
                        actions::put(out, codec, version, actions);
                    }
                    out.set_u16(len_at, len);
                }
                FlowUpdate::Full { event, reason, priority, idle_timeout, hard_timeout, table, cookie, matching, actions } => {
                    out.u16(u16::from(*event));
                    out.bytes(&[table.0, *reason]);
                    [*idle_timeout, *hard_timeout, *priority].into_iter().for_each(|n| out.u16(n));
                    out.zeros(4);
                    out.u64(*cookie);
                    matches::put_oxm(out, codec, version, matching);
                    put_flow(out, codec, version, matching, actions);
                }
            }
            out.close_len(start, start);
        });
    }
}
