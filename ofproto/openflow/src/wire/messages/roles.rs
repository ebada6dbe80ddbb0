//! Roles of controllers and which asynchronous messages each gets.

use crate::error::OfError;
use crate::message::{AsyncConfig, Body, Role, RoleRequest};
use crate::types::Version;
use crate::wire::bytes::{Put, Reader};
use crate::wire::props::{self, Property};
use crate::wire::{In, Out};

/// Reasons of packet-ins up to 1.3 and from 1.4; of ports, flows, roles, tables, forwarded requests (the same in all versions).
const PACKET_IN10: u32 = 0x07;
const PACKET_IN14: u32 = 0x3f;
const ALLOWED: [u32; 5] = [0x07, 0x3f, 0x07, 0x18, 0x03];
/// Rows that the fixed form of 1.3 has.
const FIXED_ROWS: usize = 3;
const ROWS: usize = 6;
/// OFPR_NO_MATCH stands for both of its refinements, which have no number on the wire.
const NO_MATCH: u32 = 1;
const EXPLICIT_MISS: u32 = 1 << 6;
const IMPLICIT_MISS: u32 = 1 << 7;

fn role_of(number: u32) -> Result<Role, OfError> {
    Ok(match number {
        0 => Role::NoChange,
        1 => Role::Equal,
        2 => Role::Primary,
        3 => Role::Secondary,
        _ => return Err(OfError::OfprrfcBadRole),
    })
}

pub(super) fn role(i: &In<'_>, r: &mut Reader<'_>, request: bool) -> Result<RoleRequest, OfError> {
    let number = r.u32()?;
    if i.extension() {
        // Nicira's numbers begin with "other", which is equal.
        let role = role_of(number.checked_add(1).ok_or(OfError::OfprrfcBadRole)?)?;
        return Ok(RoleRequest { role, nicira: true, generation_id: None });
    }
    let role = role_of(number)?;
    r.skip(4)?;
    let id = r.u64()?;
    let absent = if request { role == Role::NoChange } else { id == u64::MAX };
    Ok(RoleRequest { role, nicira: false, generation_id: (!absent).then_some(id) })
}

pub(super) fn put_role(o: &mut Out<'_>, role: RoleRequest) {
    let number = u32::from(role.role as u8);
    if o.extension {
        return o.bytes.u32(number.saturating_sub(1));
    }
    o.bytes.u32(number);
    o.bytes.zeros(4);
    o.bytes.u64(role.generation_id.unwrap_or(u64::MAX));
}

pub(super) fn role_status(r: &mut Reader<'_>) -> Result<Body, OfError> {
    let role = role_of(r.u32()?)?;
    let reason = r.u8()?;
    r.skip(3)?;
    let id = r.u64()?;
    Ok(Body::RoleStatus { role, reason, generation_id: (id != u64::MAX).then_some(id) })
}

pub(super) fn put_role_status(o: &mut Out<'_>, role: Role, reason: u8, generation_id: Option<u64>) {
    o.bytes.u32(u32::from(role as u8));
    o.bytes.bytes(&[reason, 0, 0, 0]);
    o.bytes.u64(generation_id.unwrap_or(u64::MAX));
}

/// The rows in the order of their properties.
fn rows(c: &mut AsyncConfig) -> [&mut [u32; 2]; ROWS] {
    [&mut c.packet_in, &mut c.port_status, &mut c.flow_removed, &mut c.role_status, &mut c.table_status, &mut c.request_forward]
}

fn allowed(row: usize, version: Version) -> u32 {
    match row.checked_sub(1) {
        None if version >= Version::V14 => PACKET_IN14,
        None => PACKET_IN10,
        Some(n) => ALLOWED[n],
    }
}

fn refine(row: usize, mask: u32, version: Version) -> u32 {
    let both = EXPLICIT_MISS | if version < Version::V13 { IMPLICIT_MISS } else { 0 };
    if row == 0 && mask & NO_MATCH != 0 { mask | both } else { mask }
}

/// Whether up to 1.3 the configuration needs Nicira's properties: it is not just the three rows of the fixed form.
pub(super) fn needs_properties(c: &AsyncConfig) -> bool {
    c.carried != (1 << (2 * FIXED_ROWS)) - 1
}

pub(super) fn asynchronous(i: &In<'_>, r: &mut Reader<'_>, loose: bool) -> Result<AsyncConfig, OfError> {
    let mut c = AsyncConfig::default();
    if i.format.min > 0 {
        for (row, masks) in rows(&mut c).into_iter().enumerate().take(FIXED_ROWS) {
            for mask in masks {
                *mask = refine(row, r.u32()? & allowed(row, i.version), i.version);
            }
        }
        c.carried = (1 << (2 * FIXED_ROWS)) - 1;
        return Ok(c);
    }
    while !r.is_empty() {
        let property = Property::pull_as(r, 8, 0xfffe)?;
        let Some(kind) = usize::try_from(property.kind).ok().filter(|k| *k < 2 * ROWS) else {
            property.unknown(loose).map_err(|e| if e == OfError::OfpbpcBadType { OfError::OfpacfcUnsupported } else { e })?;
            continue;
        };
        // Even types are the secondary's, odd ones the primary's and equals'.
        let (row, side) = (kind / 2, 1 - kind % 2);
        let mask = property.u32()?;
        if mask & !allowed(row, i.version) != 0 && !loose {
            return Err(OfError::OfpacfcInvalid);
        }
        rows(&mut c)[row][side] = refine(row, mask & allowed(row, i.version), i.version);
        c.carried |= 1 << (2 * row + side);
    }
    Ok(c)
}

pub(super) fn put_async(o: &mut Out<'_>, config: &AsyncConfig, set: bool) {
    let version = o.version;
    let mut c = *config;
    // A format whose length is fixed has no properties.
    let as_properties = o.format.min == 0;
    for (row, masks) in rows(&mut c).into_iter().enumerate() {
        let bits = |side: usize| masks[side] & allowed(row, version);
        if as_properties {
            for kind in 0..2usize {
                let side = 1 - kind;
                if !set || config.carried >> (2 * row + side) & 1 != 0 {
                    props::put_u32(o.bytes, u64::try_from(2 * row + kind).unwrap_or(0), bits(side));
                }
            }
        } else if row < FIXED_ROWS {
            o.bytes.u32(bits(0));
            o.bytes.u32(bits(1));
        }
    }
}
