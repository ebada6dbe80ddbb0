//! The table of message formats: which (class, version, number) carries which kind of message, and how long it must be.
//!
//! A header enters, its row leaves; or a kind and a version enter and the header to write leaves. Every number of a message type
//! stands here once. Neighbours: `wire` dispatches on `Kind`, the rooms of `messages` know the bodies.
// tidy: long because it is a table.

use super::bytes::{Put, Reader};
use super::frame::{HEADER_BYTES, Header};
use crate::error::OfError;
use crate::types::{Version, Xid};

/// Nicira's vendor id.
pub const NICIRA: u32 = 0x2320;
/// The Open Networking Foundation's.
pub const ONF: u32 = 0x4f4e_4600;

/// How a message is told from others: by its own type, as a multipart, or as a vendor's extension of either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Of,
    OfStatsRequest,
    OfStatsReply,
    Nx,
    NxStatsRequest,
    NxStatsReply,
    Onf,
    OnfStatsRequest,
    OnfStatsReply,
}

/// One format. Versions and lengths are those of OVS (include/openvswitch/ofp-msgs.h states the same facts).
#[derive(Clone, Copy, Debug)]
pub struct Format {
    pub kind: Kind,
    pub class: Class,
    /// Message type, statistics type or vendor's subtype.
    pub number: u32,
    pub from: Version,
    pub to: Version,
    /// Least bytes behind the headers.
    pub min: u16,
    /// What is more than `min` is a multiple of this; 0: nothing is more.
    pub step: u16,
}

macro_rules! formats {
    ($( $kind:ident: $( $class:ident $number:literal $from:ident..$to:ident, $min:literal $(+ $step:literal)? )|+ ;)*) => {
        /// What a message is, whatever version and vendor carry it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind { $( $kind ),* }

        /// All formats.
        pub static FORMATS: &[Format] = &[ $( $( Format {
            kind: Kind::$kind, class: Class::$class, number: $number, from: Version::$from, to: Version::$to,
            min: $min, step: 0 $(+ $step)?,
        } ),+ ),* ];
    };
}

formats! {
    Hello: Of 0 V10..V15, 0 + 1;
    Error: Of 1 V10..V15, 4 + 1;
    EchoRequest: Of 2 V10..V15, 0 + 1;
    EchoReply: Of 3 V10..V15, 0 + 1;
    FeaturesRequest: Of 5 V10..V15, 0;
    FeaturesReply: Of 6 V10..V10, 24 + 48 | Of 6 V11..V12, 24 + 64 | Of 6 V13..V15, 24;
    GetConfigRequest: Of 7 V10..V15, 0;
    GetConfigReply: Of 8 V10..V15, 4;
    SetConfig: Of 9 V10..V15, 4;
    PacketIn: Of 10 V10..V10, 10 + 1 | Of 10 V11..V11, 16 + 1 | Of 10 V12..V12, 8 + 1 | Of 10 V13..V15, 16 + 1 | Nx 17 V10..V15, 24 + 1;
    PacketIn2: Nx 30 V10..V15, 0 + 8;
    FlowRemoved: Of 11 V10..V10, 80 | Of 11 V11..V14, 40 + 8 | Of 11 V15..V15, 16 + 8 | Nx 14 V10..V15, 40 + 8;
    PortStatus: Of 12 V10..V10, 56 | Of 12 V11..V13, 72 | Of 12 V14..V15, 48 + 8;
    PacketOut: Of 13 V10..V10, 8 + 1 | Of 13 V11..V14, 16 + 1 | Of 13 V15..V15, 8 + 1;
    FlowMod: Of 14 V10..V10, 64 + 8 | Of 14 V11..V15, 40 + 8 | Nx 13 V10..V15, 32 + 8;
    GroupMod: Of 15 V11..V14, 8 + 8 | Of 15 V15..V15, 16 + 8 | Nx 31 V10..V10, 16 + 8;
    PortMod: Of 15 V10..V10, 24 | Of 16 V11..V13, 32 | Of 16 V14..V15, 24 + 8;
    TableMod: Of 17 V11..V13, 8 | Of 17 V14..V15, 8 + 8;
    BarrierRequest: Of 18 V10..V10, 0 | Of 20 V11..V15, 0;
    BarrierReply: Of 19 V10..V10, 0 | Of 21 V11..V15, 0;
    QueueGetConfigRequest: Of 20 V10..V10, 4 | Of 22 V11..V13, 8 | OfStatsRequest 15 V14..V15, 8;
    QueueGetConfigReply: Of 21 V10..V10, 8 + 8 | Of 23 V11..V13, 8 + 8 | OfStatsReply 15 V14..V15, 0 + 8;
    RoleRequest: Of 24 V12..V15, 16 | Nx 10 V10..V15, 4;
    RoleReply: Of 25 V12..V15, 16 | Nx 11 V10..V15, 4;
    GetAsyncRequest: Of 26 V13..V15, 0;
    GetAsyncReply: Of 27 V13..V13, 24 | Of 27 V14..V15, 0 + 8;
    SetAsync: Of 28 V13..V13, 24 | Of 28 V14..V15, 0 + 8 | Nx 19 V10..V15, 24;
    SetAsync2: Nx 27 V10..V13, 0 + 8;
    MeterMod: Of 29 V13..V15, 8 + 8;
    RoleStatus: Onf 1911 V13..V13, 16 + 8 | Of 30 V14..V15, 16 + 8;
    TableStatus: Of 31 V14..V15, 8 + 8;
    RequestForward: Nx 132 V10..V12, 8 + 8 | Onf 2350 V13..V13, 8 + 8 | Of 32 V14..V15, 8 + 8;
    BundleControl: Onf 2300 V13..V13, 8 + 8 | Of 33 V14..V15, 8 + 8;
    BundleAdd: Onf 2301 V13..V13, 8 + 1 | Of 34 V14..V15, 8 + 1;

    DescRequest: OfStatsRequest 0 V10..V15, 0;
    DescReply: OfStatsReply 0 V10..V15, 1056;
    FlowRequest: OfStatsRequest 1 V10..V10, 44 | OfStatsRequest 1 V11..V15, 32 + 8 | NxStatsRequest 0 V10..V10, 8 + 8;
    FlowReply: OfStatsReply 1 V10..V15, 0 + 1 | NxStatsReply 0 V10..V10, 0 + 1;
    AggregateRequest: OfStatsRequest 2 V10..V10, 44 | OfStatsRequest 2 V11..V15, 32 + 8 | NxStatsRequest 1 V10..V10, 8 + 8;
    AggregateReply: OfStatsReply 2 V10..V14, 24 | OfStatsReply 2 V15..V15, 0 + 1 | NxStatsReply 1 V10..V10, 24;
    TableRequest: OfStatsRequest 3 V10..V15, 0;
    TableReply: OfStatsReply 3 V10..V10, 0 + 64 | OfStatsReply 3 V11..V11, 0 + 88 | OfStatsReply 3 V12..V12, 0 + 128 | OfStatsReply 3 V13..V15, 0 + 24;
    PortRequest: OfStatsRequest 4 V10..V15, 8;
    PortReply: OfStatsReply 4 V10..V12, 0 + 104 | OfStatsReply 4 V13..V13, 0 + 112 | OfStatsReply 4 V14..V15, 0 + 8;
    QueueRequest: OfStatsRequest 5 V10..V15, 8;
    QueueReply: OfStatsReply 5 V10..V12, 0 + 32 | OfStatsReply 5 V13..V13, 0 + 40 | OfStatsReply 5 V14..V15, 0 + 8;
    GroupRequest: NxStatsRequest 7 V10..V10, 8 | OfStatsRequest 6 V11..V15, 8;
    GroupReply: NxStatsReply 7 V10..V10, 0 + 8 | OfStatsReply 6 V11..V15, 0 + 8;
    GroupDescRequest: NxStatsRequest 8 V10..V10, 8 | OfStatsRequest 7 V11..V14, 0 | OfStatsRequest 7 V15..V15, 8;
    GroupDescReply: NxStatsReply 8 V10..V10, 0 + 8 | OfStatsReply 7 V11..V15, 0 + 8;
    GroupFeaturesRequest: NxStatsRequest 9 V10..V11, 0 | OfStatsRequest 8 V12..V15, 0;
    GroupFeaturesReply: NxStatsReply 9 V10..V11, 40 | OfStatsReply 8 V12..V15, 40;
    MeterRequest: OfStatsRequest 9 V13..V15, 8;
    MeterReply: OfStatsReply 9 V13..V15, 0 + 8;
    MeterConfigRequest: OfStatsRequest 10 V13..V15, 8;
    MeterConfigReply: OfStatsReply 10 V13..V15, 0 + 8;
    MeterFeaturesRequest: OfStatsRequest 11 V13..V15, 0;
    MeterFeaturesReply: OfStatsReply 11 V13..V15, 16;
    TableFeaturesRequest: OfStatsRequest 12 V13..V15, 0 + 8;
    TableFeaturesReply: OfStatsReply 12 V13..V15, 64 + 8;
    PortDescRequest: OfStatsRequest 13 V10..V14, 0 | OfStatsRequest 13 V15..V15, 8;
    PortDescReply: OfStatsReply 13 V10..V10, 0 + 48 | OfStatsReply 13 V11..V13, 0 + 64 | OfStatsReply 13 V14..V15, 0 + 8;
    TableDescRequest: OfStatsRequest 14 V14..V15, 0;
    TableDescReply: OfStatsReply 14 V14..V15, 8 + 8;
    FlowMonitorRequest: NxStatsRequest 2 V10..V12, 0 + 8 | OnfStatsRequest 1870 V13..V13, 0 + 8 | OfStatsRequest 16 V14..V15, 0 + 8;
    FlowMonitorReply: NxStatsReply 2 V10..V12, 0 + 8 | OnfStatsReply 1870 V13..V13, 0 + 8 | OfStatsReply 16 V14..V15, 0 + 8;
    IpfixBridgeRequest: NxStatsRequest 3 V10..V15, 0;
    IpfixBridgeReply: NxStatsReply 3 V10..V15, 88;
    IpfixFlowRequest: NxStatsRequest 4 V10..V15, 0;
    IpfixFlowReply: NxStatsReply 4 V10..V15, 0 + 88;

    FlowMonitorCancel: Nx 21 V10..V12, 4 | Onf 1870 V13..V13, 4;
    FlowMonitorPaused: Nx 22 V10..V12, 0 | Onf 1871 V13..V13, 0;
    FlowMonitorResumed: Nx 23 V10..V12, 0 | Onf 1872 V13..V13, 0;
    SetFlowFormat: Nx 12 V10..V10, 4;
    FlowModTableId: Nx 15 V10..V15, 8;
    SetPacketInFormat: Nx 16 V10..V15, 4;
    FlowAge: Nx 18 V10..V15, 0;
    SetControllerId: Nx 20 V10..V15, 8;
    TlvTableMod: Nx 24 V10..V15, 8 + 8;
    TlvTableRequest: Nx 25 V10..V15, 0;
    TlvTableReply: Nx 26 V10..V15, 16 + 8;
    Resume: Nx 28 V10..V15, 0 + 8;
    CtFlushZone: Nx 29 V10..V15, 8;
    CtFlush: Nx 32 V10..V15, 8 + 8;
}

/// Message types of the vendor's and the multipart envelopes.
const OFPT_VENDOR: u8 = 4;
const OFPST_VENDOR: u16 = 0xffff;

/// (request, reply) types of statistics or multiparts.
const fn stats_types(version: Version) -> (u8, u8) {
    match version {
        Version::V10 => (16, 17),
        Version::V11 | Version::V12 | Version::V13 | Version::V14 | Version::V15 => (18, 19),
    }
}

/// Rows of plain types by version and type byte, so that the common messages need no search.
const PLAIN_TYPES: usize = 40;
static PLAIN: [[u8; PLAIN_TYPES]; 7] = {
    let mut index = [[u8::MAX; PLAIN_TYPES]; 7];
    let mut row = 0;
    while row < FORMATS.len() {
        let f = FORMATS[row];
        if matches!(f.class, Class::Of) {
            let mut v = f.from as usize;
            while v <= f.to as usize {
                assert!(index[v][f.number as usize] == u8::MAX, "two formats for one type");
                #[allow(clippy::cast_possible_truncation, reason = "asserted below")]
                {
                    index[v][f.number as usize] = row as u8;
                }
                v += 1;
            }
        }
        row += 1;
    }
    assert!(FORMATS.len() < u8::MAX as usize);
    index
};

impl Class {
    fn vendor(self) -> u32 {
        match self {
            Self::Of | Self::OfStatsRequest | Self::OfStatsReply => 0,
            Self::Nx | Self::NxStatsRequest | Self::NxStatsReply => NICIRA,
            Self::Onf | Self::OnfStatsRequest | Self::OnfStatsReply => ONF,
        }
    }

    /// Whether it is a multipart, and if so whether a request.
    pub(crate) fn multipart(self) -> Option<bool> {
        match self {
            Self::Of | Self::Nx | Self::Onf => None,
            Self::OfStatsRequest | Self::NxStatsRequest | Self::OnfStatsRequest => Some(true),
            Self::OfStatsReply | Self::NxStatsReply | Self::OnfStatsReply => Some(false),
        }
    }
}

/// A message with its headers taken off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened<'a> {
    pub(crate) format: &'static Format,
    /// Flags of a multipart: bit 0 says that more parts follow.
    pub(crate) flags: u16,
    pub(crate) body: Reader<'a>,
}

/// Takes the headers off a whole message and finds its row.
///
/// # Errors
/// `OFPBRC_BAD_LEN`, `_BAD_TYPE`, `_BAD_STAT`, `_BAD_VENDOR`, `_BAD_SUBTYPE` as OVS answers.
pub(crate) fn open(version: Version, header: Header, message: &[u8]) -> Result<Opened<'_>, OfError> {
    let opened = identify(version, header, message)?;
    let (format, body) = (opened.format, opened.body);
    let extra = body.len().checked_sub(usize::from(format.min)).ok_or(OfError::OfpbrcBadLen)?;
    if extra != 0 && (format.step == 0 || !extra.is_multiple_of(usize::from(format.step))) {
        return Err(OfError::OfpbrcBadLen);
    }
    Ok(opened)
}

/// What a message is by its headers; `None` if they, or its length, are not those of any.
#[must_use]
pub fn kind_of(message: &[u8]) -> Option<Kind> {
    let header = Header::peek(message)?;
    let opened = open(Version::from_wire(header.version)?, header, message).ok()?;
    Some(opened.format.kind)
}

impl Kind {
    /// Whether only switches send it: replies to what controllers ask, and what they are told unasked.
    #[must_use]
    pub const fn is_for_controllers(self) -> bool {
        use Kind::{
            AggregateReply, BarrierReply, DescReply, FeaturesReply, FlowMonitorPaused, FlowMonitorReply, FlowMonitorResumed,
            FlowRemoved, FlowReply, GetAsyncReply, GetConfigReply, GroupDescReply, GroupFeaturesReply, GroupReply,
            IpfixBridgeReply, IpfixFlowReply, MeterConfigReply, MeterFeaturesReply, MeterReply, PacketIn, PacketIn2,
            PortDescReply, PortReply, PortStatus, QueueGetConfigReply, QueueReply, RequestForward, RoleReply, RoleStatus,
            TableDescReply, TableFeaturesReply, TableReply, TableStatus, TlvTableReply,
        };
        matches!(
            self,
            FeaturesReply
                | GetConfigReply
                | BarrierReply
                | QueueGetConfigReply
                | RoleReply
                | GetAsyncReply
                | TlvTableReply
                | PacketIn
                | PacketIn2
                | FlowRemoved
                | PortStatus
                | RoleStatus
                | TableStatus
                | RequestForward
                | FlowMonitorPaused
                | FlowMonitorResumed
                | FlowMonitorReply
                | DescReply
                | FlowReply
                | AggregateReply
                | TableReply
                | PortReply
                | QueueReply
                | GroupReply
                | GroupDescReply
                | GroupFeaturesReply
                | MeterReply
                | MeterConfigReply
                | MeterFeaturesReply
                | TableFeaturesReply
                | TableDescReply
                | PortDescReply
                | IpfixBridgeReply
                | IpfixFlowReply
        )
    }
}

/// Like `open`, of a message that may be cut short behind its headers.
///
/// # Errors
/// As `open`, but for the length of the body.
pub(crate) fn identify(version: Version, header: Header, message: &[u8]) -> Result<Opened<'_>, OfError> {
    let mut r = Reader::new(message, OfError::OfpbrcBadLen);
    r.skip(HEADER_BYTES)?;
    let (request, reply) = stats_types(version);
    let stats = match header.kind {
        k if k == request => Some(true),
        k if k == reply => Some(false),
        _ => None,
    };
    let mut flags = 0;
    let format = if let Some(is_request) = stats {
        let number = r.u16()?;
        flags = r.u16()?;
        r.skip(if version == Version::V10 { 0 } else { 4 })?;
        if number == OFPST_VENDOR {
            // As in OVS: since 1.1 both numbers are there, or nobody's vendor is looked at.
            if version > Version::V10 && r.len() < 8 {
                return Err(OfError::OfpbrcBadLen);
            }
            let vendor = r.u32()?;
            // OpenFlow 1.0 never knew ONF's multiparts.
            if vendor != NICIRA && (vendor != ONF || version == Version::V10) {
                return Err(OfError::OfpbrcBadVendor);
            }
            let subtype = r.u32()?;
            r.skip(if version == Version::V10 { 4 } else { 0 })?;
            search(version, vendor, stats, subtype).ok_or(OfError::OfpbrcBadSubtype)?
        } else {
            search(version, 0, Some(is_request), u32::from(number)).ok_or(OfError::OfpbrcBadStat)?
        }
    } else if header.kind == OFPT_VENDOR {
        let vendor = r.u32()?;
        let subtype = r.u32()?;
        if vendor != NICIRA && vendor != ONF {
            return Err(OfError::OfpbrcBadVendor);
        }
        search(version, vendor, None, subtype).ok_or(OfError::OfpbrcBadSubtype)?
    } else {
        let row = PLAIN[version as usize].get(usize::from(header.kind)).copied().unwrap_or(u8::MAX);
        FORMATS.get(usize::from(row)).ok_or(OfError::OfpbrcBadType)?
    };
    Ok(Opened { format, flags, body: r })
}

fn search(version: Version, vendor: u32, stats: Option<bool>, number: u32) -> Option<&'static Format> {
    FORMATS.iter().find(|f| {
        f.number == number && f.from <= version && version <= f.to && f.class.vendor() == vendor && f.class.multipart() == stats
    })
}

/// The row that carries `kind` in `version`: the standard one, or with `extension` (or where there is no standard) the vendor's.
#[must_use]
pub fn format_of(kind: Kind, version: Version, extension: bool) -> Option<&'static Format> {
    let of_version = || FORMATS.iter().filter(move |f| f.kind == kind && f.from <= version && version <= f.to);
    of_version().find(|f| (f.class.vendor() != 0) == extension).or_else(|| of_version().next())
}

/// Writes the headers of `format`; `close` completes the length. Answers where the message begins.
pub(crate) fn begin(out: &mut Vec<u8>, format: &Format, version: Version, xid: Xid, flags: u16) -> usize {
    let start = out.len();
    let vendor = format.class.vendor();
    let v10 = version == Version::V10;
    let (request, reply) = stats_types(version);
    #[allow(clippy::cast_possible_truncation, reason = "rows of plain and statistics types have small numbers")]
    let number = format.number as u16;
    let kind = match format.class.multipart() {
        Some(true) => request,
        Some(false) => reply,
        None if vendor != 0 => OFPT_VENDOR,
        None => number.to_be_bytes()[1],
    };
    out.u8(version as u8);
    out.u8(kind);
    out.u16(0);
    out.u32(xid.0);
    if format.class.multipart().is_some() {
        out.u16(if vendor != 0 { OFPST_VENDOR } else { number });
        out.u16(flags);
        out.zeros(if v10 { 0 } else { 4 });
    }
    if vendor != 0 {
        out.u32(vendor);
        out.u32(format.number);
        out.zeros(if v10 && format.class.multipart().is_some() { 4 } else { 0 });
    }
    start
}

/// Completes the length of the message begun at `start`.
pub(crate) fn close(out: &mut Vec<u8>, start: usize) {
    out.close_len(start + 2, start);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reply is one, and every kind that begins like a reply.
    #[test]
    fn replies_are_for_controllers() {
        for format in FORMATS {
            let name = format!("{:?}", format.kind);
            let reply = name.ends_with("Reply") && name != "EchoReply";
            let told = ["PacketIn", "PacketIn2", "FlowRemoved", "PortStatus", "RoleStatus", "TableStatus", "RequestForward"];
            let expected = reply || told.contains(&&*name) || matches!(&*name, "FlowMonitorPaused" | "FlowMonitorResumed");
            assert_eq!(format.kind.is_for_controllers(), expected, "{name}");
        }
    }

    #[test]
    fn every_row_opens_what_it_begins() {
        for format in FORMATS {
            for version in Version::ALL.into_iter().filter(|v| format.from <= *v && *v <= format.to) {
                let mut out = Vec::new();
                let start = begin(&mut out, format, version, Xid(7), 1);
                out.zeros(usize::from(format.min));
                close(&mut out, start);
                let header = Header::peek(&out).unwrap();
                assert_eq!(usize::from(header.length), out.len());
                let opened = open(version, header, &out).unwrap();
                assert!(std::ptr::eq(opened.format, format), "{format:?} opened as {:?}", opened.format);
                assert_eq!(opened.body.len(), usize::from(format.min));
            }
        }
    }

    #[test]
    fn what_no_row_names_gets_the_error_of_its_class() {
        let error = |version, bytes: &[u8]| open(version, Header::peek(bytes).unwrap(), bytes).map(|_| ()).unwrap_err();
        assert_eq!(error(Version::V10, &[1, 99, 0, 8, 0, 0, 0, 0]), OfError::OfpbrcBadType);
        assert_eq!(error(Version::V10, &[1, 16, 0, 12, 0, 0, 0, 0, 0, 99, 0, 0]), OfError::OfpbrcBadStat);
        assert_eq!(error(Version::V13, &[4, 4, 0, 16, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]), OfError::OfpbrcBadVendor);
        let cut = [4, 18, 0, 20, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(error(Version::V13, &cut), OfError::OfpbrcBadLen);
        assert_eq!(error(Version::V13, &[4, 4, 0, 16, 0, 0, 0, 0, 0, 0, 0x23, 0x20, 0, 0, 99, 0]), OfError::OfpbrcBadSubtype);
        assert_eq!(error(Version::V13, &[4, 5, 0, 9, 0, 0, 0, 0, 0]), OfError::OfpbrcBadLen);
    }
}
