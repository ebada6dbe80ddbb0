//! Instructions of OpenFlow 1.1+ (OpenFlow 1.3, A.2.4): envelopes around the actions of a flow.
//!
//! They come in any order and are executed in one; `OfAction`s hold them in that one.

use super::decode::{At, actions};
use super::encode::Encoder;
use super::verify::{Instruction, Outer, in_action_set, verify};
use crate::action::OfAction;
use crate::error::OfError;
use crate::types::{TableId, Version};
use crate::wire::Codec;
use crate::wire::bytes::{Put, Reader};

const GOTO: u16 = 1;
const METADATA: u16 = 2;
const WRITE: u16 = 3;
const APPLY: u16 = 4;
const CLEAR: u16 = 5;
const METER: u16 = 6;
const EXPERIMENTER: u16 = 0xffff;
/// Type, length and padding, or a meter, or a table.
const HEADER: usize = 8;
const METADATA_BYTES: usize = 24;

/// Which instruction a type is in no particular version, and the length it has if it has a fixed one.
fn of_type(kind: u16) -> Result<(Instruction, Option<usize>), OfError> {
    Ok(match kind {
        GOTO => (Instruction::Goto, Some(HEADER)),
        METADATA => (Instruction::Metadata, Some(METADATA_BYTES)),
        WRITE => (Instruction::Write, None),
        APPLY => (Instruction::Apply, None),
        CLEAR => (Instruction::Clear, Some(HEADER)),
        METER => (Instruction::Meter, Some(HEADER)),
        EXPERIMENTER => return Err(OfError::OfpbicBadExperimenter),
        _ => return Err(OfError::OfpbicUnknownInst),
    })
}

/// Type of an instruction (for the bits of table features).
pub(crate) fn type_of(instruction: Instruction) -> u16 {
    match instruction {
        Instruction::Meter => METER,
        Instruction::Apply => APPLY,
        Instruction::Clear => CLEAR,
        Instruction::Write => WRITE,
        Instruction::Metadata => METADATA,
        Instruction::Goto => GOTO,
    }
}

/// The instruction of a type.
pub(crate) fn from_type(kind: u16) -> Option<Instruction> {
    of_type(kind).ok().map(|(i, _)| i)
}

/// Takes a flow's actions: all of `r`.
///
/// # Errors
/// `OFPBIC_BAD_LEN`, `_UNKNOWN_INST`, `_DUP_INST`, `_BAD_EXPERIMENTER`, those of the actions and of `verify`.
pub(crate) fn pull(mut r: Reader<'_>, codec: &Codec<'_>, version: Version) -> Result<Vec<OfAction>, OfError> {
    if version == Version::V10 {
        let len = r.len();
        return super::pull(&mut r, len, codec, version, Outer::Flow);
    }
    let found = find(r, version)?;
    let at = At { codec, version, depth: 0 };
    let mut out = Vec::new();
    if let Some(mut body) = found[Instruction::Meter as usize] {
        out.push(OfAction::Meter(body.u32()?));
    }
    if let Some(mut body) = found[Instruction::Apply as usize] {
        body.skip(4)?;
        actions(at, body, &mut out)?;
    }
    if found[Instruction::Clear as usize].is_some() {
        out.push(OfAction::ClearActions);
    }
    if let Some(mut body) = found[Instruction::Write as usize] {
        body.skip(4)?;
        let mut set = Vec::new();
        actions(at, body, &mut set)?;
        if !set.iter().all(in_action_set) {
            return Err(OfError::OfpbacBadType);
        }
        out.push(OfAction::WriteActions(set));
    }
    if let Some(mut body) = found[Instruction::Metadata as usize] {
        body.skip(4)?;
        out.push(OfAction::WriteMetadata { value: body.u64()?, mask: body.u64()? });
    }
    if let Some(mut body) = found[Instruction::Goto as usize] {
        out.push(OfAction::GotoTable(TableId(body.u8()?)));
    }
    verify(&out, version, Outer::Flow)?;
    Ok(out)
}

/// The instructions' bodies (behind type and length), each at most once.
fn find<'a>(mut r: Reader<'a>, version: Version) -> Result<[Option<Reader<'a>>; 6], OfError> {
    let bad_len = OfError::OfpbicBadLen;
    let mut found = [None; 6];
    r = r.or(bad_len);
    while !r.is_empty() {
        let mut head = r;
        let kind = head.u16()?;
        let len = usize::from(head.u16()?);
        if !len.is_multiple_of(8) || len < HEADER || len > r.len() {
            return Err(bad_len);
        }
        let (instruction, fixed) = of_type(kind)?;
        if fixed.is_some_and(|n| n != len) {
            return Err(bad_len);
        }
        if instruction == Instruction::Meter && version >= Version::V15 {
            return Err(OfError::OfpbicUnknownInst);
        }
        let mut body = r.sub(len)?;
        body.skip(4)?;
        if found[instruction as usize].replace(body).is_some() {
            return Err(OfError::OfpbicDupInst);
        }
    }
    Ok(found)
}

/// Appends a flow's actions.
pub(crate) fn put(mut encoder: Encoder<'_>, list: &[OfAction], out: &mut Vec<u8>) {
    let version = encoder.version;
    if version == Version::V10 {
        return encoder.list(list, out);
    }
    let mut rest = list;
    while let Some(first) = rest.first() {
        let applied = rest.iter().take_while(|a| Instruction::of(a, version) == Instruction::Apply).count();
        if applied > 0 {
            let start = begin(out, APPLY);
            for action in &rest[..applied] {
                encoder.next(action, out);
            }
            end_list(out, start);
            rest = &rest[applied..];
        } else {
            instruction(&encoder, first, out);
            rest = &rest[1..];
        }
    }
}

fn begin(out: &mut Vec<u8>, kind: u16) -> usize {
    let start = out.len();
    out.u16(kind);
    out.u16(8);
    out.zeros(4);
    start
}

/// An instruction with an empty list is none.
fn end_list(out: &mut Vec<u8>, start: usize) {
    if out.len() == start + HEADER {
        out.truncate(start);
    } else {
        out.close_len(start + 2, start);
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "`Instruction::of` says that the others are actions")]
fn instruction(encoder: &Encoder<'_>, action: &OfAction, out: &mut Vec<u8>) {
    match action {
        // OpenFlow 1.1 and 1.2 have no meters.
        OfAction::Meter(id) if encoder.version >= Version::V13 => {
            out.u16(METER);
            out.u16(8);
            out.u32(*id);
        }
        OfAction::ClearActions => {
            begin(out, CLEAR);
        }
        OfAction::WriteActions(list) => {
            let start = begin(out, WRITE);
            encoder.list(list, out);
            end_list(out, start);
        }
        OfAction::WriteMetadata { value, mask } => {
            let start = begin(out, METADATA);
            out.u64(*value);
            out.u64(*mask);
            out.close_len(start + 2, start);
        }
        OfAction::GotoTable(table) => {
            out.u16(GOTO);
            out.u16(8);
            out.u8(table.0);
            out.zeros(3);
        }
        _ => {}
    }
}
