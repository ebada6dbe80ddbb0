//! Meters (OpenFlow 1.3+): modification, configuration, statistics, features.

use crate::error::OfError;
use crate::message::{Body, MeterConfigEntry, MeterFeatures, MeterMod, MeterStatsEntry, MultipartBody};
use crate::wire::Out;
use crate::wire::bytes::{Put, Reader};
use flow::seam::{BAND_DROP, BAND_DSCP_REMARK, METER_KBPS, METER_PKTPS, MeterBand, MeterConfig};

/// OFPMC13_*
const DELETE: u16 = 2;
/// A rate has one unit.
const KBPS_AND_PKTPS: u16 = METER_KBPS | METER_PKTPS;
const BAND: usize = 16;
const CONFIG: usize = 8;
const STATS: usize = 40;

fn bands(r: &mut Reader<'_>) -> Result<Vec<MeterBand>, OfError> {
    let mut bands = Vec::new();
    while r.len() >= BAND {
        let (kind, len) = (r.u16()?, usize::from(r.u16()?));
        if len != BAND {
            return Err(OfError::OfpbrcBadLen);
        }
        if !matches!(kind, BAND_DROP | BAND_DSCP_REMARK) {
            return Err(OfError::OfpmmfcBadBand);
        }
        let (rate, burst_size, prec_level) = (r.u32()?, r.u32()?, r.u8()?);
        r.skip(3)?;
        bands.push(MeterBand { kind, rate, burst_size, prec_level: if kind == BAND_DSCP_REMARK { prec_level } else { 0 } });
    }
    if r.is_empty() { Ok(bands) } else { Err(OfError::OfpbrcBadLen) }
}

fn put_bands(out: &mut Vec<u8>, bands: &[MeterBand]) {
    for band in bands {
        out.u16(band.kind);
        out.u16(16);
        out.u32(band.rate);
        out.u32(band.burst_size);
        out.bytes(&[band.prec_level, 0, 0, 0]);
    }
}

pub(super) fn meter_mod(r: &mut Reader<'_>) -> Result<Body, OfError> {
    let (command, flags, id) = (r.u16()?, r.u16()?, r.u32()?);
    if command > DELETE {
        return Err(OfError::OfpmmfcBadCommand);
    }
    let mut meter = MeterConfigEntry { id, config: MeterConfig::default() };
    if command != DELETE {
        if flags & KBPS_AND_PKTPS == KBPS_AND_PKTPS {
            return Err(OfError::OfpmmfcBadFlags);
        }
        meter.config = MeterConfig { flags, bands: bands(r)? };
    }
    Ok(Body::MeterMod(Box::new(MeterMod { command, meter })))
}

pub(super) fn put_meter_mod(o: &mut Out<'_>, mm: &MeterMod) {
    o.bytes.u16(mm.command);
    o.bytes.u16(if mm.command == DELETE { 0 } else { mm.meter.config.flags });
    o.bytes.u32(mm.meter.id);
    put_bands(o.bytes, &mm.meter.config.bands);
}

pub(super) fn config_reply(r: &mut Reader<'_>) -> Result<MultipartBody, OfError> {
    let mut meters = Vec::new();
    while !r.is_empty() {
        let len = usize::from(r.peek_u16()?);
        if len < CONFIG {
            return Err(OfError::OfpbrcBadLen);
        }
        let mut body = r.sub(len)?;
        body.skip(2)?;
        let (flags, id) = (body.u16()?, body.u32()?);
        meters.push(MeterConfigEntry { id, config: MeterConfig { flags, bands: bands(&mut body)? } });
    }
    Ok(MultipartBody::MeterConfigReply(meters))
}

pub(super) fn put_config_reply(o: &mut Out<'_>, meters: &[MeterConfigEntry]) {
    for m in meters {
        o.entry(|out| {
            let start = out.len();
            out.u16(0);
            out.u16(m.config.flags);
            out.u32(m.id);
            put_bands(out, &m.config.bands);
            out.close_len(start, start);
        });
    }
}

pub(super) fn stats_reply(r: &mut Reader<'_>) -> Result<MultipartBody, OfError> {
    let mut meters = Vec::new();
    while !r.is_empty() {
        let mut head = *r;
        head.skip(4)?;
        let len = usize::from(head.u16()?);
        if len < STATS || !(len - STATS).is_multiple_of(16) {
            return Err(OfError::OfpbrcBadLen);
        }
        let mut body = r.sub(len)?;
        let mut m = MeterStatsEntry { id: body.u32()?, ..MeterStatsEntry::default() };
        body.skip(8)?;
        m.flow_count = body.u32()?;
        (m.packets_in, m.bytes_in) = (body.u64()?, body.u64()?);
        (m.duration_sec, m.duration_nsec) = (body.u32()?, body.u32()?);
        while !body.is_empty() {
            m.bands.push((body.u64()?, body.u64()?));
        }
        meters.push(m);
    }
    Ok(MultipartBody::MeterReply(meters))
}

pub(super) fn put_stats_reply(o: &mut Out<'_>, meters: &[MeterStatsEntry]) {
    for m in meters {
        o.entry(|out| {
            let start = out.len();
            out.u32(m.id);
            out.zeros(8);
            out.u32(m.flow_count);
            out.u64(m.packets_in);
            out.u64(m.bytes_in);
            out.u32(m.duration_sec);
            out.u32(m.duration_nsec);
            for (packets, bytes) in &m.bands {
                out.u64(*packets);
                out.u64(*bytes);
            }
            out.close_len(start + 4, start);
        });
    }
}

pub(super) fn features_reply(r: &mut Reader<'_>) -> Result<MultipartBody, OfError> {
    Ok(MultipartBody::MeterFeaturesReply(MeterFeatures {
        max_meters: r.u32()?,
        band_types: r.u32()?,
        capabilities: r.u32()?,
        max_bands: r.u8()?,
        max_color: r.u8()?,
    }))
}

pub(super) fn put_features_reply(o: &mut Out<'_>, f: &MeterFeatures) {
    o.bytes.u32(f.max_meters);
    o.bytes.u32(f.band_types);
    o.bytes.u32(f.capabilities);
    o.bytes.bytes(&[f.max_bands, f.max_color, 0, 0]);
}
