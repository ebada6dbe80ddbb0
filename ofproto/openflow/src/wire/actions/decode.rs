//! Bytes to actions: the dispatch over raw actions, and those of them that are short. Long ones live in `fields`, `learn`, `nested`.
//!
//! A list of actions enters, `OfAction`s or OVS's error leave. What needs the flow's match to be judged is left to `check`.

use super::table::{Raw, Taken, take};
use super::{fields, learn, nested};
use crate::action::{Controller, OfAction, SetForm};
use crate::error::OfError;
use crate::types::{GroupId, OfPort, TableId, Version};
use crate::wire::Codec;
use crate::wire::bytes::Reader;
use crate::wire::props::Property;
use flow::wire::eth_type;

/// Nested lists deeper than this are refused: the least action that nests has 16 bytes, so that a message could ask for 4096.
const NESTING_MAX: usize = 100;

const BAD_ARGUMENT: OfError = OfError::OfpbacBadArgument;
const VLAN_8021Q: u16 = 0x8100;
const VLAN_8021AD: u16 = 0x88a8;
const MPLS: u16 = 0x8847;
const MPLS_MULTICAST: u16 = 0x8848;
/// Bytes of an Ethernet header: the least that output may be cut to.
const ETH_HEADER_LEN: u32 = 14;
/// `OFPR_ACTION`.
pub(super) const REASON_ACTION: u8 = 1;

/// Packet type of decap that leaves the inner type to the header's own protocol field.
pub(super) const PT_USE_NEXT_PROTO: u32 = 0xfffe;

/// Where the decoding stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    pub(crate) codec: &'a Codec<'a>,
    pub(crate) version: Version,
    pub(crate) depth: usize,
}

/// Appends the actions of a list to `out`.
pub(crate) fn actions(at: At<'_>, mut list: Reader<'_>, out: &mut Vec<OfAction>) -> Result<(), OfError> {
    if at.depth > NESTING_MAX {
        return Err(OfError::OfpbacTooMany);
    }
    while !list.is_empty() {
        let taken = take(&mut list, at.version)?;
        out.push(action(at, taken)?);
    }
    Ok(())
}

/// Whether a packet may be output to `port`: real ports below `max_ports` and reserved ones except "none".
pub(crate) fn check_output_port(port: OfPort, max_ports: u32) -> Result<(), OfError> {
    match port {
        OfPort::IN_PORT | OfPort::TABLE | OfPort::NORMAL | OfPort::FLOOD | OfPort::ALL | OfPort::CONTROLLER | OfPort::LOCAL => {
            Ok(())
        }
        OfPort(real) if real < max_ports => Ok(()),
        _ => Err(OfError::OfpbacBadOutPort),
    }
}

/// Whether a queue may be on `port`.
pub(crate) fn check_enqueue_port(port: OfPort, max_ports: u32) -> Result<(), OfError> {
    if port.0 < max_ports || matches!(port, OfPort::IN_PORT | OfPort::LOCAL) { Ok(()) } else { Err(OfError::OfpbacBadOutPort) }
}

#[allow(clippy::too_many_lines, reason = "one row for each raw action")]
fn action(at: At<'_>, t: Taken<'_>) -> Result<OfAction, OfError> {
    match t.raw {
        Raw::Output10
        | Raw::Output11
        | Raw::OutputTrunc
        | Raw::Enqueue10
        | Raw::Resubmit
        | Raw::ResubmitTable
        | Raw::ResubmitTableCt => ports(t),
        Raw::SetVlanVid10
        | Raw::SetVlanVid11
        | Raw::SetVlanPcp10
        | Raw::SetVlanPcp11
        | Raw::PushVlan11
        | Raw::StripVlan10
        | Raw::PopVlan11 => vlans(t),
        Raw::SetDlSrc
        | Raw::SetDlDst
        | Raw::SetNwSrc
        | Raw::SetNwDst
        | Raw::SetNwTos
        | Raw::SetNwEcn
        | Raw::SetNwTtl
        | Raw::SetTpSrc
        | Raw::SetTpDst => headers(t),
        Raw::SetMplsLabel | Raw::SetMplsTc | Raw::SetMplsTtl | Raw::PushMpls | Raw::PopMpls => mpls(t),
        Raw::DecMplsTtl => Ok(OfAction::DecMplsTtl),
        Raw::DecNwTtl => Ok(OfAction::DecTtl { controllers: None }),
        Raw::PopQueue => Ok(OfAction::PopQueue),
        Raw::Exit => Ok(OfAction::Exit),
        Raw::CtClear => Ok(OfAction::CtClear),
        Raw::CopyTtlOut => Ok(OfAction::CopyTtlOut),
        Raw::CopyTtlIn => Ok(OfAction::CopyTtlIn),
        Raw::PushPbb => pbb(t),
        Raw::PopPbb => Ok(OfAction::PopPbb),
        Raw::DecNshTtl => Ok(OfAction::DecNshTtl),
        Raw::DebugSlow | Raw::DebugRecirc if !at.codec.debug_actions => Err(OfError::OfpbacBadVendorType),
        Raw::DebugSlow => Ok(OfAction::DebugSlow),
        Raw::DebugRecirc => Ok(OfAction::DebugRecirc),
        Raw::SetQueue
        | Raw::Group
        | Raw::Meter15
        | Raw::SetTunnel
        | Raw::SetTunnel64
        | Raw::FinTimeout
        | Raw::Conjunction
        | Raw::WriteMetadata
        | Raw::DecTtlCntIds
        | Raw::Note
        | Raw::Decap
        | Raw::Controller => numbers(t),
        Raw::Controller2 => controller2(t),
        Raw::SetField12 => fields::set_field(at, t.body, false),
        Raw::SetField15 => fields::set_field(at, t.body, true),
        Raw::RegLoad => fields::reg_load(at, t.body),
        Raw::RegLoad2 => fields::reg_load2(at, t.body, SetForm::Load2),
        Raw::CopyField15 => fields::copy_field(at, t.body, false),
        Raw::CopyField13 => fields::copy_field(at, t.body, true),
        Raw::RegMove => fields::reg_move(at, t.body),
        Raw::OutputReg => fields::output_reg(at, t.body),
        Raw::OutputReg2 => fields::output_reg2(at, t.body),
        Raw::StackPush => fields::stack(at, t.body).and_then(|s| fields::check_src(at.codec, s).map(|()| OfAction::StackPush(s))),
        Raw::StackPop => fields::stack(at, t.body).and_then(|s| fields::check_dst(at.codec, s).map(|()| OfAction::StackPop(s))),
        Raw::CheckPktLarger => fields::check_pkt_larger(at, t.body),
        Raw::DeleteField => fields::delete_field(at, t.body),
        Raw::Multipath => fields::multipath(at, t.body),
        Raw::Bundle => fields::bundle(at, t.body, false),
        Raw::BundleLoad => fields::bundle(at, t.body, true),
        Raw::Learn => learn::decode(at, t.body, false),
        Raw::Learn2 => learn::decode(at, t.body, true),
        Raw::Sample => nested::sample(at, t.body, 1),
        Raw::Sample2 => nested::sample(at, t.body, 2),
        Raw::Sample3 => nested::sample(at, t.body, 3),
        Raw::Sample4 => nested::sample(at, t.body, 4),
        Raw::Ct => nested::ct(at, t.body),
        Raw::Nat => nested::nat(t.body),
        Raw::Clone => nested::clone(at, t.body),
        Raw::Encap => nested::encap(t.body),
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "`action` calls it for the raw actions that it names")]
fn ports(mut t: Taken<'_>) -> Result<OfAction, OfError> {
    let b = &mut t.body;
    let table_form = |b: &mut Reader<'_>, with_ct| {
        let port = OfPort::from_wire16(b.u16()?);
        let table = TableId(b.u8()?);
        b.zeros(3, BAD_ARGUMENT)?;
        Ok(OfAction::Resubmit { port, table, with_ct, has_table: true })
    };
    match t.raw {
        Raw::Output10 => {
            let port = OfPort::from_wire16(b.u16()?);
            let max_len = b.u16()?;
            check_output_port(port, OfPort::REAL_MAX)?;
            Ok(OfAction::Output { port, max_len })
        }
        Raw::OutputTrunc => {
            let port = OfPort::from_wire16(b.u16()?);
            let max_len = b.u32()?;
            if max_len < ETH_HEADER_LEN { Err(BAD_ARGUMENT) } else { Ok(OfAction::OutputTrunc { port, max_len }) }
        }
        Raw::Enqueue10 => {
            let port = OfPort::from_wire16(b.u16()?);
            b.skip(6)?;
            let queue = b.u32()?;
            check_enqueue_port(port, OfPort::REAL_MAX)?;
            Ok(OfAction::Enqueue { port, queue })
        }
        Raw::Resubmit => {
            let port = OfPort::from_wire16(b.u16()?);
            Ok(OfAction::Resubmit { port, table: TableId::ALL, with_ct: false, has_table: false })
        }
        Raw::ResubmitTable => table_form(b, false),
        Raw::ResubmitTableCt => table_form(b, true),
        _ => {
            let port = OfPort::from_wire32(b.u32()?)?;
            let max_len = b.u16()?;
            check_output_port(port, OfPort::REAL_MAX)?;
            Ok(OfAction::Output { port, max_len })
        }
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "`action` calls it for the raw actions that it names")]
fn vlans(mut t: Taken<'_>) -> Result<OfAction, OfError> {
    let b = &mut t.body;
    match t.raw {
        Raw::SetVlanVid10 | Raw::SetVlanVid11 => {
            let vid = b.u16()?;
            let push_if_needed = t.raw == Raw::SetVlanVid10;
            if vid > 0xfff { Err(BAD_ARGUMENT) } else { Ok(OfAction::SetVlanVid { vid, push_if_needed }) }
        }
        Raw::SetVlanPcp10 | Raw::SetVlanPcp11 => {
            let pcp = b.u8()?;
            let push_if_needed = t.raw == Raw::SetVlanPcp10;
            if pcp > 7 { Err(BAD_ARGUMENT) } else { Ok(OfAction::SetVlanPcp { pcp, push_if_needed }) }
        }
        Raw::PushVlan11 => {
            let ethertype = b.u16()?;
            if matches!(ethertype, VLAN_8021Q | VLAN_8021AD) { Ok(OfAction::PushVlan { ethertype }) } else { Err(BAD_ARGUMENT) }
        }
        Raw::StripVlan10 => Ok(OfAction::StripVlan { pop: false }),
        _ => Ok(OfAction::StripVlan { pop: true }),
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "`action` calls it for the raw actions that it names")]
fn headers(mut t: Taken<'_>) -> Result<OfAction, OfError> {
    let b = &mut t.body;
    Ok(match t.raw {
        Raw::SetDlSrc => OfAction::SetEthSrc(b.array()?),
        Raw::SetDlDst => OfAction::SetEthDst(b.array()?),
        Raw::SetNwSrc => OfAction::SetIpv4Src(b.array()?),
        Raw::SetNwDst => OfAction::SetIpv4Dst(b.array()?),
        Raw::SetNwTos => match b.u8()? {
            tos if tos & 3 == 0 => OfAction::SetIpDscp(tos),
            _ => return Err(BAD_ARGUMENT),
        },
        Raw::SetNwEcn => match b.u8()? {
            ecn if ecn <= 3 => OfAction::SetIpEcn(ecn),
            _ => return Err(BAD_ARGUMENT),
        },
        Raw::SetNwTtl => OfAction::SetIpTtl(b.u8()?),
        Raw::SetTpSrc => OfAction::SetL4Src(b.u16()?),
        _ => OfAction::SetL4Dst(b.u16()?),
    })
}

#[allow(clippy::wildcard_enum_match_arm, reason = "`action` calls it for the raw actions that it names")]
fn mpls(mut t: Taken<'_>) -> Result<OfAction, OfError> {
    match t.raw {
        Raw::SetMplsLabel => t.arg32().map(OfAction::SetMplsLabel),
        Raw::SetMplsTc => t.body.u8().map(OfAction::SetMplsTc),
        Raw::SetMplsTtl => t.body.u8().map(OfAction::SetMplsTtl),
        Raw::PushMpls => match t.body.u16()? {
            ethertype @ (MPLS | MPLS_MULTICAST) => Ok(OfAction::PushMpls { ethertype }),
            _ => Err(BAD_ARGUMENT),
        },
        _ => Ok(OfAction::PopMpls { ethertype: t.body.u16()? }),
    }
}

/// OpenFlow 1.3 section 7.2.5: only Ethernet type 0x88e7.
fn pbb(mut t: Taken<'_>) -> Result<OfAction, OfError> {
    if t.body.u16()? == eth_type::PBB { Ok(OfAction::PushPbb) } else { Err(BAD_ARGUMENT) }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "`action` calls it for the raw actions that it names")]
fn numbers(mut t: Taken<'_>) -> Result<OfAction, OfError> {
    Ok(match t.raw {
        Raw::SetQueue => OfAction::SetQueue(t.arg32()?),
        Raw::Group => OfAction::Group(GroupId(t.arg32()?)),
        Raw::Meter15 => OfAction::Meter(t.arg32()?),
        Raw::SetTunnel => OfAction::SetTunnel { id: u64::from(t.arg32()?), wide: false },
        Raw::SetTunnel64 => OfAction::SetTunnel { id: t.arg64()?, wide: true },
        Raw::FinTimeout => OfAction::FinTimeout { idle: t.body.u16()?, hard: t.body.u16()? },
        Raw::Conjunction => {
            let (clause, n_clauses, id) = (t.body.u8()?, t.body.u8()?, t.body.u32()?);
            if !(2..=64).contains(&n_clauses) || clause >= n_clauses {
                return Err(OfError::NxbacBadConjunction);
            }
            OfAction::Conjunction { id, clause, n_clauses }
        }
        Raw::WriteMetadata => {
            t.body.zeros(6, OfError::NxbrcMustBeZero)?;
            OfAction::WriteMetadata { value: t.body.u64()?, mask: t.body.u64()? }
        }
        Raw::DecTtlCntIds => {
            let n = usize::from(t.body.u16()?);
            t.body.zeros(4, OfError::NxbrcMustBeZero)?;
            let mut ids = t.body.sub(2 * n)?;
            let mut controllers = Vec::with_capacity(n);
            while !ids.is_empty() {
                controllers.push(ids.u16()?);
            }
            OfAction::DecTtl { controllers: Some(controllers) }
        }
        Raw::Note => OfAction::Note(t.body.rest().to_vec()),
        Raw::Decap => {
            if t.body.len() > 6 {
                return Err(OfError::NxbacUnknownEdProp);
            }
            t.body.skip(2)?;
            let kind = t.body.u32()?;
            OfAction::Decap { new_packet_type: (kind != PT_USE_NEXT_PROTO).then_some(kind) }
        }
        _ => {
            let (max_len, controller_id, reason) = (t.body.u16()?, t.body.u16()?, t.body.u8()?);
            let controller =
                Controller { max_len, controller_id, reason, userdata: Vec::new(), pause: false, meter_id: u32::MAX };
            OfAction::Controller(Box::new(controller))
        }
    })
}

fn controller2(mut t: Taken<'_>) -> Result<OfAction, OfError> {
    t.body.zeros(6, OfError::NxbrcMustBeZero)?;
    let mut c = Controller {
        max_len: u16::MAX,
        controller_id: 0,
        reason: REASON_ACTION,
        userdata: Vec::new(),
        pause: false,
        meter_id: u32::MAX,
    };
    while !t.body.is_empty() {
        let p = Property::pull(&mut t.body)?;
        match p.kind {
            0 => c.max_len = p.u16()?,
            1 => c.controller_id = p.u16()?,
            2 => c.reason = p.u8()?,
            3 => c.userdata = p.value().to_vec(),
            4 => c.pause = true,
            5 => c.meter_id = p.u32()?,
            _ => p.unknown(false)?,
        }
    }
    Ok(OfAction::Controller(Box::new(c)))
}
