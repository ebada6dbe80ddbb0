//! OXS, the statistics fields of OpenFlow 1.5 (section 7.2.4).

use crate::error::OfError;
use crate::wire::bytes::{Put, Reader, round8};

/// OFPXSC_OPENFLOW_BASIC
const CLASS: u16 = 0x8002;
const EXPERIMENTER: u16 = 0xffff;
const DURATION: u8 = 0;
const IDLE_TIME: u8 = 1;
const FLOW_COUNT: u8 = 3;
const PACKET_COUNT: u8 = 4;
const BYTE_COUNT: u8 = 5;

/// What a list says; all ones where it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Oxs {
    pub(super) duration_sec: u32,
    pub(super) duration_nsec: u32,
    pub(super) idle_sec: u32,
    pub(super) flows: u32,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

pub(super) const NOTHING: Oxs = Oxs {
    duration_sec: u32::MAX,
    duration_nsec: u32::MAX,
    idle_sec: u32::MAX,
    flows: u32::MAX,
    packets: u64::MAX,
    bytes: u64::MAX,
};

/// Takes a list with its padding.
pub(super) fn pull(r: &mut Reader<'_>) -> Result<Oxs, OfError> {
    let bad_len = OfError::OfpbmcBadLen;
    let mut head = r.or(bad_len);
    head.skip(2)?;
    let len = usize::from(head.u16()?);
    let padded = r.or(bad_len).sub(round8(len))?;
    r.skip(round8(len))?;
    let mut list = Reader::new(padded.peek().get(4..len).ok_or(bad_len)?, bad_len);
    let mut oxs = NOTHING;
    while !list.is_empty() {
        let class = list.u16()?;
        let [field, length] = list.array()?;
        let id = if class == EXPERIMENTER { 4 } else { 0 };
        list.skip(id)?;
        let mut value = list.sub(usize::from(length).checked_sub(id).ok_or(bad_len)?)?;
        if class != CLASS {
            continue;
        }
        match (field >> 1, value.len()) {
            (DURATION, 8) => (oxs.duration_sec, oxs.duration_nsec) = (value.u32()?, value.u32()?),
            (IDLE_TIME, 8) => oxs.idle_sec = value.u32()?,
            (FLOW_COUNT, 4) => oxs.flows = value.u32()?,
            (PACKET_COUNT, 8) => oxs.packets = value.u64()?,
            (BYTE_COUNT, 8) => oxs.bytes = value.u64()?,
            _ => {}
        }
    }
    Ok(oxs)
}

/// Appends a list with its padding.
pub(super) fn put(out: &mut Vec<u8>, oxs: &Oxs) {
    let start = out.len();
    out.zeros(4);
    let mut put = |field: u8, value: &[u8], said: bool| {
        if said {
            out.u16(CLASS);
            out.u8(field << 1);
            out.u8(u8::try_from(value.len()).unwrap_or(u8::MAX));
            out.bytes(value);
        }
    };
    let two = |sec: u32, nsec: u32| (u64::from(sec) << 32 | u64::from(nsec)).to_be_bytes();
    put(DURATION, &two(oxs.duration_sec, oxs.duration_nsec), oxs.duration_sec != u32::MAX);
    put(IDLE_TIME, &two(oxs.idle_sec, 0), oxs.idle_sec != u32::MAX);
    put(PACKET_COUNT, &oxs.packets.to_be_bytes(), oxs.packets != u64::MAX);
    put(BYTE_COUNT, &oxs.bytes.to_be_bytes(), oxs.bytes != u64::MAX);
    put(FLOW_COUNT, &oxs.flows.to_be_bytes(), oxs.flows != u32::MAX);
    out.close_len(start + 2, start);
    out.pad8(start);
}
