//! Matches on the wire: NXM and OXM lists, the fixed forms of OpenFlow 1.0 and 1.1, and which of them a match needs.
//!
//! Bytes enter, `flow::matching::Match` leaves, and back. Strict decoding refuses what it does not know or what lacks its
//! prerequisites; loose decoding (packet-ins, a peer's statistics) passes over it, as OVS does.

pub(crate) mod fixed;
pub(crate) mod oxm;

pub use fixed::fits_openflow10;

use super::Codec;
use super::bytes::{Put, Reader, len16, round8};
use crate::error::OfError;
use crate::types::Version;
use flow::fields::{Field, MaskKind, Need, Value};
use flow::key::{DATAPATH_LINES, Key, Mask, VLAN_CFI};
use flow::matching::{Match, TunnelLayout};
use oxm::Said;
use std::sync::Arc;

const PT_ETHERNET: [u8; 4] = [0; 4];
const VID_MASK: u16 = 0xfff;

/// OFPMT_STANDARD and OFPMT_OXM.
const TYPE_STANDARD: u16 = 0;
const TYPE_OXM: u16 = 1;
/// Bytes of a type and length before a match of 1.1+.
pub(crate) const MATCH_HEADER: usize = 4;

/// How to read a list of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct How {
    /// Refuse unknown fields and missing prerequisites.
    pub(crate) strict: bool,
    /// OpenFlow 1.5 packet-out: only fields of the pipeline.
    pub(crate) pipeline_only: bool,
    /// Nicira's cookie may stand among the fields.
    pub(crate) cookie: bool,
}

pub(crate) const STRICT: How = How { strict: true, pipeline_only: false, cookie: false };
pub(crate) const LOOSE: How = How { strict: false, ..STRICT };
pub(crate) const STRICT_WITH_COOKIE: How = How { cookie: true, ..STRICT };

/// A match with the cookie that came in it: (value, mask), 0 and 0 for none.
pub(crate) type WithCookie = (Match, u64, u64);

/// Reads a list of entries to its end.
pub(crate) fn pull_entries(r: Reader<'_>, codec: &Codec<'_>, how: How) -> Result<WithCookie, OfError> {
    let mut m = Match::default();
    let (cookie, cookie_mask) = pull_entries_into(&mut m, r, codec, how)?;
    Ok((m, cookie, cookie_mask))
}

/// The same into a match that has nothing in it yet: a match is long to copy. Answers the cookie and its mask.
fn pull_entries_into(m: &mut Match, mut r: Reader<'_>, codec: &Codec<'_>, how: How) -> Result<(u64, u64), OfError> {
    if let Some(options) = codec.options {
        m.options = TunnelLayout::Bridge(Arc::clone(options));
    }
    let (mut cookie, mut cookie_mask) = (0, 0);
    while !r.is_empty() {
        match oxm::pull_match_entry(&mut r, codec, how)? {
            Said::Unknown if how.strict => return Err(OfError::OfpbmcBadField),
            Said::Unknown => {}
            Said::Cookie { .. } if cookie_mask != 0 => return Err(OfError::OfpbmcDupField),
            Said::Cookie { value, mask } => (cookie, cookie_mask) = (value, mask),
            Said::Field { field, value, mask } => add(m, how, (field, &value, mask.as_ref()))?,
        }
    }
    Ok((cookie, cookie_mask))
}

fn add(m: &mut Match, how: How, (field, value, mask): (Field, &Value, Option<&Value>)) -> Result<(), OfError> {
    let need = field.row().need;
    if how.strict && !need.holds_in_match(&m.key, &m.mask) {
        return Err(OfError::OfpbmcBadPrereq);
    }
    if m.has(field) {
        return Err(OfError::OfpbmcDupField);
    }
    if how.pipeline_only && !of_pipeline(field) {
        return Err(OfError::OfpbrcPipelineFieldsOnly);
    }
    set(m, field, value, mask)?;
    m.imply_ethernet(field);
    Ok(())
}

/// Puts a field into the match. The room's own form of `Match::set_masked`: the value has no bits outside of its mask.
fn set(m: &mut Match, field: Field, value: &Value, mask: Option<&Value>) -> Result<(), OfError> {
    if field.tun_metadata_number().is_some() {
        let whole = Value::ones(usize::from(field.row().bits));
        return m.set_long(field, value, mask.unwrap_or(&whole)).map_err(|_| OfError::OfpbmcBadValue);
    }
    let mask = mask.map_or_else(|| field.exact(), Value::low);
    field.set_mask(&mut m.mask, mask);
    if mask != 0 {
        field.set(&mut m.key, value.low());
    }
    Ok(())
}

/// A match on a header is one on Ethernet packets, unless it says otherwise.
pub(crate) fn default_packet_type(m: &mut Match) {
    if m.mask.packet_type == [0; 4] {
        m.key.packet_type = PT_ETHERNET;
        m.mask.packet_type = [0xff; 4];
    }
}

fn has_default_packet_type(key: &Key, mask: &Mask) -> bool {
    key.packet_type == PT_ETHERNET && mask.packet_type == [0xff; 4]
}

/// Fields that a packet carries through the pipeline beside its headers (OpenFlow 1.5, 7.2.3.9).
fn of_pipeline(field: Field) -> bool {
    let tunnel = (Field::TunId..=Field::TunMetadata63).contains(&field) && !matches!(field, Field::TunTtl | Field::TunTos);
    let registers = (Field::Reg0..=Field::Xxreg7).contains(&field);
    tunnel || registers || matches!(field, Field::Metadata | Field::InPort | Field::InPortOxm | Field::PacketType)
}

/// Reads Nicira's match of `len` bytes with its padding to eight.
pub(crate) fn pull_nxm(r: &mut Reader<'_>, len: u16, codec: &Codec<'_>, how: How) -> Result<WithCookie, OfError> {
    let len = usize::from(len);
    let padded = r.or(OfError::OfpbmcBadLen).sub(round8(len))?;
    r.skip(round8(len))?;
    pull_entries(Reader::new(&padded.peek()[..len], OfError::OfpbmcBadLen), codec, how)
}

/// Reads a match of OpenFlow 1.1+, either form.
pub(crate) fn pull11(r: &mut Reader<'_>, codec: &Codec<'_>) -> Result<Match, OfError> {
    let mut m = Match::default();
    pull11_into(&mut m, r, codec)?;
    Ok(m)
}

/// The same into a match that has nothing in it yet.
pub(crate) fn pull11_into(m: &mut Match, r: &mut Reader<'_>, codec: &Codec<'_>) -> Result<(), OfError> {
    let mut head = r.or(OfError::OfpbmcBadLen);
    match head.u16()? {
        TYPE_STANDARD => {
            let length = head.u16()?;
            *m = fixed::pull11(r, length)?;
            Ok(())
        }
        TYPE_OXM => pull_oxm_into(m, r, codec, STRICT),
        _ => Err(OfError::OfpbmcBadType),
    }
}

/// Reads an OXM match with its header and padding.
pub(crate) fn pull_oxm(r: &mut Reader<'_>, codec: &Codec<'_>, how: How) -> Result<Match, OfError> {
    let mut m = Match::default();
    pull_oxm_into(&mut m, r, codec, how)?;
    Ok(m)
}

fn pull_oxm_into(m: &mut Match, r: &mut Reader<'_>, codec: &Codec<'_>, how: How) -> Result<(), OfError> {
    let mut head = r.or(OfError::OfpbmcBadLen);
    let kind = head.u16()?;
    let len = usize::from(head.u16()?);
    // In this order, as in OVS: a match may be wrong in both.
    if len < MATCH_HEADER {
        return Err(OfError::OfpbmcBadLen);
    }
    if kind != TYPE_OXM {
        return Err(OfError::OfpbmcBadType);
    }
    let padded = r.or(OfError::OfpbmcBadLen).sub(round8(len))?;
    r.skip(round8(len))?;
    pull_entries_into(m, Reader::new(&padded.peek()[MATCH_HEADER..len], OfError::OfpbmcBadLen), codec, how).map(|_| ())
}

/// Appends a match as flow-mods and flow-removed of 1.1+ carry it: fixed in 1.1, OXM later.
pub(crate) fn put11(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, m: &Match) {
    if version == Version::V11 { fixed::put11(out, m) } else { put_oxm(out, codec, version, m) }
}

/// Appends an OXM match with its header and padding; answers its length without the padding.
pub(crate) fn put_oxm_len(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, m: &Match) -> u16 {
    let start = out.len();
    out.u16(TYPE_OXM);
    out.u16(0);
    put_entries(out, codec, Some(version), m);
    out.close_len(start + 2, start);
    let len = len16(out.len() - start);
    out.pad8(start);
    len
}

/// Appends an OXM match with its header and padding.
pub(crate) fn put_oxm(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, m: &Match) {
    put_oxm_len(out, codec, version, m);
}

/// Appends Nicira's match with its padding; answers its length without it.
pub(crate) fn put_nxm(out: &mut Vec<u8>, codec: &Codec<'_>, m: &Match, cookie: u64, cookie_mask: u64) -> u16 {
    let start = out.len();
    put_entries(out, codec, None, m);
    if cookie_mask != 0 {
        let masked = cookie_mask != u64::MAX;
        out.u16(1);
        out.u8(30 << 1 | u8::from(masked));
        out.u8(if masked { 16 } else { 8 });
        out.u64(cookie & cookie_mask);
        if masked {
            out.u64(cookie_mask);
        }
    }
    let len = len16(out.len() - start);
    out.pad8(start);
    len
}

/// Appends the entries of a match in OVS's order; `version` `None` is Nicira's form.
pub(crate) fn put_entries(out: &mut Vec<u8>, codec: &Codec<'_>, version: Option<Version>, m: &Match) {
    let start = out.len();
    let mut w = Writer { out, codec, version, m, ethernet_implied: false };
    w.all();
    if has_default_packet_type(&m.key, &m.mask) && !w.ethernet_implied {
        let mut entry = Vec::new();
        oxm::put_entry(&mut entry, codec, Field::PacketType, version, &Value::ZERO, None);
        out.splice(start..start, entry);
    }
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    codec: &'a Codec<'a>,
    version: Option<Version>,
    m: &'a Match,
    ethernet_implied: bool,
}

impl Writer<'_> {
    fn all(&mut self) {
        let lines = self.m.mask.lines().0;
        let any = |from: usize, to: usize| lines >> from & ((1 << (to - from)) - 1) != 0;
        if !has_default_packet_type(&self.m.key, &self.m.mask) {
            self.put(Field::PacketType);
        }
        self.each(&[Field::DpHash, Field::RecircId]);
        if any(4, 5) {
            self.put(Field::ConjId);
        }
        self.put(if self.version.is_some() { Field::InPortOxm } else { Field::InPort });
        if any(4, 5) {
            self.put(Field::ActsetOutput);
        }
        self.each(&[Field::EthSrc, Field::EthDst, Field::EthType]);
        self.vlan();
        self.network();
        if any(3, DATAPATH_LINES) {
            self.tunnel();
        }
        if any(2, 3) {
            self.each(&[Field::NshFlags, Field::NshTtl, Field::NshMdtype, Field::NshNp, Field::NshSpi, Field::NshSi]);
            self.each(&[Field::NshC1, Field::NshC2, Field::NshC3, Field::NshC4]);
        }
        if any(DATAPATH_LINES, DATAPATH_LINES + 2) {
            self.registers();
        }
        self.each(&[Field::PktMark, Field::CtState, Field::CtZone, Field::CtMark]);
        if any(2, 4) {
            self.each(&[Field::CtLabel, Field::CtNwSrc, Field::CtIpv6Src, Field::CtNwDst, Field::CtIpv6Dst]);
        }
        if self.m.key.ct_nw_proto != 0 {
            self.each(&[Field::CtNwProto, Field::CtTpSrc, Field::CtTpDst]);
        }
        if any(DATAPATH_LINES + 2, DATAPATH_LINES + 3) {
            self.put(Field::Metadata);
        }
    }

    fn each(&mut self, fields: &[Field]) {
        fields.iter().for_each(|f| self.put(*f));
    }

    /// The field, if the match has it.
    fn put(&mut self, field: Field) {
        let mask = field.mask(&self.m.mask);
        if mask == 0 {
            return;
        }
        let row = field.row();
        // OVS says these with their masks even when they are whole.
        let masked = matches!(field, Field::TunFlags | Field::CtState);
        let whole = (mask == field.exact() && !masked) || matches!(row.mask, MaskKind::Exact);
        let value = Value::from(field.get(&self.m.key) & if whole { u128::MAX } else { mask });
        let mask = (!whole).then(|| Value::from(mask));
        self.entry(field, &value, mask.as_ref());
    }

    fn entry(&mut self, field: Field, value: &Value, mask: Option<&Value>) {
        oxm::put_entry(self.out, self.codec, field, self.version, value, mask);
        self.ethernet_implied |= field.row().need != Need::Nothing;
    }

    fn vlan(&mut self) {
        if self.version.is_none() {
            return self.put(Field::VlanTci);
        }
        self.put(Field::VlanVid);
        let tag = u16::from_be_bytes(self.m.key.vlan_tci) & (VID_MASK | VLAN_CFI);
        if tag != 0 {
            self.put(Field::VlanPcp);
        }
    }

    /// The headers behind Ethernet: those that the match's own Ethernet type and protocol make present.
    fn network(&mut self) {
        let key = &self.m.key;
        let holds = |need: Need| need.holds_in_match(key, &self.m.mask);
        if holds(Need::Mpls) {
            return self.each(&[Field::MplsTc, Field::MplsBos, Field::MplsTtl, Field::MplsLabel]);
        }
        if holds(Need::Pbb) {
            return self.each(&[Field::PbbIsid, Field::PbbUca]);
        }
        if holds(Need::Arp) {
            return self.each(&[Field::ArpOp, Field::ArpSpa, Field::ArpTpa, Field::ArpSha, Field::ArpTha]);
        }
        if !holds(Need::Ip) {
            return;
        }
        let transport: &[Field] = match (holds(Need::Icmpv4), holds(Need::Icmpv6), key.nw_proto) {
            (true, ..) => &[Field::IcmpType, Field::IcmpCode],
            (_, true, _) => &[Field::Icmpv6Type, Field::Icmpv6Code],
            (.., 6) => &[Field::TcpSrc, Field::TcpDst, Field::TcpFlags],
            (.., 17) => &[Field::UdpSrc, Field::UdpDst],
            (.., 132) => &[Field::SctpSrc, Field::SctpDst],
            _ => &[],
        };
        let nd: &[Field] = match (holds(Need::NdSolicit), holds(Need::NdAdvert)) {
            (true, _) => &[Field::NdReserved, Field::NdTarget, Field::NdOptionsType, Field::NdSll],
            (_, true) => &[Field::NdReserved, Field::NdTarget, Field::NdOptionsType, Field::NdTll],
            _ => &[],
        };
        if holds(Need::Ipv4) {
            self.each(&[Field::IpSrc, Field::IpDst]);
        } else {
            self.each(&[Field::Ipv6Src, Field::Ipv6Dst]);
        }
        self.put(Field::IpFrag);
        self.put(if self.version.is_some() { Field::IpDscp } else { Field::NwTos });
        self.each(&[Field::NwEcn, Field::NwTtl, Field::Ipv6Label, Field::Ipv6Exthdr, Field::NwProto]);
        self.each(transport);
        self.each(nd);
    }

    fn tunnel(&mut self) {
        self.each(&[Field::TunId, Field::TunFlags, Field::TunSrc, Field::TunDst, Field::TunIpv6Src, Field::TunIpv6Dst]);
        self.each(&[Field::TunGbpId, Field::TunGbpFlags]);
        let options = self.m.options.options();
        for (n, option) in options.iter().flat_map(|o| o.iter()) {
            let Some(field) = Field::tun_metadata(n).filter(|f| self.m.has(*f)) else { continue };
            let (value, mask) = self.m.get_long(field);
            // Of an option without a value only its presence is said, as of one whose value is not asked for.
            let mask = (option.bytes == 0 || mask != Value::ones(8 * option.bytes)).then_some(mask);
            oxm::put_sized(self.out, field, self.version, (&value, mask.as_ref()), option.bytes);
        }
        self.each(&[Field::TunErspanIdx, Field::TunErspanVer, Field::TunErspanDir, Field::TunErspanHwid]);
        self.each(&[Field::TunGtpuFlags, Field::TunGtpuMsgtype]);
    }

    /// OpenFlow 1.5 has no code for single registers: pairs of them.
    fn registers(&mut self) {
        let (first, count) = if self.version >= Some(Version::V15) { (Field::Xreg0, 16) } else { (Field::Reg0, 32) };
        for n in 0..count {
            self.put(Field::ALL[first as usize + n]);
        }
    }
}
