//! What every session begins with: hello, error, features, configuration, description.

use super::ports;
use crate::error::OfError;
use crate::message::{Body, CAPABILITY_STP, ErrorMessage, Features, MultipartBody, SwitchConfig, SwitchDesc};
use crate::types::{Version, Versions};
use crate::wire::bytes::{Put, Reader, round8};
use crate::wire::{In, MESSAGE_BYTES_MAX, Out};

/// OFPHET_VERSIONBITMAP
const ELEMENT_VERSIONS: u16 = 1;
/// Error types that carry a vendor: Nicira's in 1.0 and 1.1, the standard's later.
const ERROR_NICIRA: u16 = 0xb0c2;
const ERROR_EXPERIMENTER: u16 = 0xffff;
const DESC_LEN: usize = 256;
const SERIAL_LEN: usize = 32;
/// OFPC_FRAG_MASK and OFPC_INVALID_TTL_TO_CONTROLLER
const FRAG_MASK: u16 = 3;
const INVALID_TTL: u16 = 4;
/// OFPC_* that all versions have, and those that came later.
const CAP_COMMON: u32 = 0x67;
const CAP_ARP_MATCH_IP: u32 = 1 << 7;
const CAP_GROUP_STATS: u32 = 1 << 3;
const CAP_STP10: u32 = 1 << 3;
const CAP_PORT_BLOCKED: u32 = 1 << 8;
const CAP_BUNDLES_MONITORS: u32 = 3 << 9;

/// The versions that a peer offers: its bitmap, or without one all up to the header's.
pub(super) fn hello(i: &In<'_>, r: &mut Reader<'_>) -> Versions {
    let mut versions = None;
    while let (Ok(kind), Ok(length)) = (r.u16(), r.u16()) {
        let Some(len) = usize::from(length).checked_sub(4) else { break };
        let Ok(mut element) = r.sub(len.min(r.len())) else { break };
        // Elements are padded to eight bytes with their header.
        let pad = round8(len + 4) - (len + 4);
        let _ = r.skip(pad.min(r.len()));
        if kind == ELEMENT_VERSIONS && element.len() >= 4 {
            versions = element.u32().ok();
        }
    }
    let upto = |version: u8| (1u32.checked_shl(u32::from(version) + 1).unwrap_or(0)).wrapping_sub(1) & !1;
    // Bit 0 is no version.
    Versions(versions.map(|v| v & !1).filter(|v| *v != 0).unwrap_or_else(|| upto(i.header.version)))
}

pub(super) fn put_hello(o: &mut Out<'_>, versions: Versions) {
    // Versions from 1.0 up without a gap need no bitmap.
    if !((versions.0 >> 1) + 1).is_power_of_two() {
        o.bytes.u16(ELEMENT_VERSIONS);
        o.bytes.u16(8);
        o.bytes.u32(versions.0);
    }
}

pub(super) fn error(i: &In<'_>, r: &mut Reader<'_>) -> Result<Body, OfError> {
    let (mut kind, mut code, mut vendor) = (r.u16()?, r.u16()?, 0);
    if kind == ERROR_NICIRA && code == 0 {
        (vendor, kind, code) = (r.u32()?, r.u16()?, r.u16()?);
    } else if kind == ERROR_EXPERIMENTER {
        (vendor, kind, code) = (r.u32()?, code, 0);
    }
    let error = OfError::from_code(i.version, vendor, kind, code).ok_or(OfError::NxbrcUnencodableError)?;
    Ok(Body::Error(ErrorMessage { error, data: r.rest().to_vec() }))
}

pub(super) fn put_error(o: &mut Out<'_>, e: &ErrorMessage) {
    let version = o.version;
    let unencodable = OfError::NxbrcUnencodableError.code(version);
    let Some(code) = e.error.code(version).or(unencodable) else { return };
    if code.vendor == 0 {
        o.bytes.u16(code.kind);
        o.bytes.u16(code.code);
    } else if version <= Version::V11 {
        o.bytes.u16(ERROR_NICIRA);
        o.bytes.u16(0);
        o.bytes.u32(code.vendor);
        o.bytes.u16(code.kind);
        o.bytes.u16(code.code);
    } else {
        o.bytes.u16(ERROR_EXPERIMENTER);
        o.bytes.u16(code.kind);
        o.bytes.u32(code.vendor);
    }
    // The request may have been as long as a message can be.
    let room = MESSAGE_BYTES_MAX - (8 + 12);
    o.bytes.bytes(&e.data[..e.data.len().min(room)]);
}

fn capabilities(version: Version) -> u32 {
    match version {
        Version::V10 => CAP_COMMON | CAP_ARP_MATCH_IP,
        Version::V11 => CAP_COMMON | CAP_ARP_MATCH_IP | CAP_GROUP_STATS,
        Version::V12 | Version::V13 => CAP_COMMON | CAP_PORT_BLOCKED | CAP_GROUP_STATS,
        Version::V14 | Version::V15 => CAP_COMMON | CAP_PORT_BLOCKED | CAP_GROUP_STATS | CAP_BUNDLES_MONITORS,
    }
}

pub(super) fn features(i: &In<'_>, r: &mut Reader<'_>) -> Result<Body, OfError> {
    let mut f = Features { datapath_id: r.u64()?, n_buffers: r.u32()?, n_tables: r.u8()?, ..Features::default() };
    let auxiliary_id = r.u8()?;
    r.skip(2)?;
    let wire = r.u32()?;
    let actions = r.u32()?;
    f.capabilities = wire & capabilities(i.version);
    if i.version == Version::V10 {
        f.actions = actions;
        f.capabilities |= if wire & CAP_STP10 != 0 { CAPABILITY_STP } else { 0 };
    }
    if i.version >= Version::V13 {
        f.auxiliary_id = auxiliary_id;
    } else {
        f.ports = ports::pull_all(i.version, r)?;
    }
    Ok(Body::FeaturesReply(Box::new(f)))
}

pub(super) fn put_features(o: &mut Out<'_>, f: &Features) {
    let v10 = o.version == Version::V10;
    let stp = if v10 && f.capabilities & CAPABILITY_STP != 0 { CAP_STP10 } else { 0 };
    o.bytes.u64(f.datapath_id);
    o.bytes.u32(f.n_buffers);
    o.bytes.u8(f.n_tables);
    o.bytes.u8(if o.version >= Version::V13 { f.auxiliary_id } else { 0 });
    o.bytes.u16(0);
    o.bytes.u32(f.capabilities & capabilities(o.version) | stp);
    o.bytes.u32(if v10 { f.actions } else { 0 });
    if o.version < Version::V13 {
        // When not all ports fit none is told, and the peer must ask for them.
        let one = if v10 { 48 } else { 64 };
        if 32 + one * f.ports.len() <= MESSAGE_BYTES_MAX {
            f.ports.iter().for_each(|p| ports::put_desc(o.bytes, o.version, p));
        }
    }
}

pub(super) fn config(r: &mut Reader<'_>) -> Result<SwitchConfig, OfError> {
    Ok(SwitchConfig { flags: r.u16()?, miss_send_len: r.u16()? })
}

pub(super) fn set_config(i: &In<'_>, r: &mut Reader<'_>) -> Result<SwitchConfig, OfError> {
    let config = config(r)?;
    let allowed = FRAG_MASK | if i.version < Version::V13 { INVALID_TTL } else { 0 };
    if config.flags & !allowed == 0 { Ok(config) } else { Err(OfError::OfpscfcBadFlags) }
}

pub(super) fn put_config(o: &mut Out<'_>, c: SwitchConfig) {
    let allowed = FRAG_MASK | if o.version < Version::V13 { INVALID_TTL } else { 0 };
    o.bytes.u16(c.flags & allowed);
    o.bytes.u16(c.miss_send_len);
}

pub(super) fn desc(r: &mut Reader<'_>) -> Result<MultipartBody, OfError> {
    Ok(MultipartBody::DescReply(SwitchDesc {
        manufacturer: r.name(DESC_LEN)?,
        hardware: r.name(DESC_LEN)?,
        software: r.name(DESC_LEN)?,
        serial: r.name(SERIAL_LEN)?,
        datapath: r.name(DESC_LEN)?,
    }))
}

pub(super) fn put_desc(o: &mut Out<'_>, d: &SwitchDesc) {
    o.bytes.name(&d.manufacturer, DESC_LEN);
    o.bytes.name(&d.hardware, DESC_LEN);
    o.bytes.name(&d.software, DESC_LEN);
    o.bytes.name(&d.serial, SERIAL_LEN);
    o.bytes.name(&d.datapath, DESC_LEN);
}
