//! Actions and instructions on the wire, and what may be said of them without executing them.
//!
//! `table` lists the raw actions, `decode` and `encode` dispatch over them, `fields`, `learn` and `nested` hold the long ones,
//! `instructions` the envelopes of 1.1+, `verify` order and nesting, `check` fitness for a flow's match.

pub mod bitmap;
pub(crate) mod check;
pub(crate) mod decode;
pub(crate) mod encode;
mod fields;
pub(crate) mod instructions;
mod learn;
mod nested;
pub(crate) mod seen;
mod table;
pub(crate) mod verify;

use super::Codec;
use super::bytes::Reader;
use crate::action::OfAction;
use crate::error::OfError;
use crate::types::Version;
use decode::At;
use encode::Encoder;
use flow::matching::Match;
use seen::Seen;
use verify::{Outer, verify};

/// Takes `len` bytes of actions (of a packet-out, a bucket, a continuation), and verifies them.
///
/// # Errors
/// `OFPBRC_BAD_LEN` for a length that is no multiple of eight or too long, and those of the actions.
pub(crate) fn pull(
    r: &mut Reader<'_>,
    len: usize,
    codec: &Codec<'_>,
    version: Version,
    outer: Outer,
) -> Result<Vec<OfAction>, OfError> {
    if !len.is_multiple_of(8) {
        return Err(OfError::OfpbrcBadLen);
    }
    let list = r.or(OfError::OfpbrcBadLen).sub(len)?;
    r.skip(len)?;
    let mut out = Vec::new();
    decode::actions(At { codec, version, depth: 0 }, list, &mut out)?;
    verify(&out, version, outer)?;
    Ok(out)
}

/// Appends actions that stand in no flow.
pub(crate) fn put(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, actions: &[OfAction]) {
    Encoder { codec, version, seen: Seen::default() }.list(actions, out);
}

/// Appends a flow's actions: instructions in 1.1+, a plain list in 1.0.
pub(crate) fn put_flow(out: &mut Vec<u8>, codec: &Codec<'_>, version: Version, m: &Match, actions: &[OfAction]) {
    instructions::put(Encoder { codec, version, seen: Seen::of(&m.key) }, actions, out);
}
