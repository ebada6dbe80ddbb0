//! Parts of messages by themselves: actions, instructions and matches, for tools that are given their bytes.
//!
//! Bytes enter, abstract forms leave, and back; nothing is done here that the bodies of messages do not do with the same functions.

use super::bytes::Reader;
use super::matches::{self, How, fixed};
use super::{Codec, Outer, actions};
use crate::action::OfAction;
use crate::error::OfError;
use crate::types::Version;
use flow::matching::Match;

/// Bytes of a match of OpenFlow 1.0.
pub const MATCH10_BYTES: usize = 40;

/// A list of NXM or OXM entries, written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries {
    /// Header (OXM), entries, padding to eight bytes.
    pub bytes: Vec<u8>,
    /// Where the entries stand in them.
    pub entries: std::ops::Range<usize>,
}

impl Codec<'_> {
    /// Decodes a list of actions.
    ///
    /// # Errors
    /// Those of the actions (OpenFlow 1.5, 7.5.4.3); `OFPBRC_BAD_LEN`.
    pub fn decode_actions(&self, version: Version, bytes: &[u8]) -> Result<Vec<OfAction>, OfError> {
        actions::pull(&mut Reader::new(bytes, OfError::OfpbrcBadLen), bytes.len(), self, version, Outer::Actions)
    }

    /// Encodes a list of actions.
    #[must_use]
    pub fn encode_actions(&self, version: Version, list: &[OfAction]) -> Vec<u8> {
        let mut out = Vec::new();
        actions::put(&mut out, self, version, list);
        out
    }

    /// Decodes the instructions of a flow; in OpenFlow 1.0 its actions.
    ///
    /// # Errors
    /// Those of the instructions (OpenFlow 1.5, 7.5.4.4) and of the actions in them.
    pub fn decode_instructions(&self, version: Version, bytes: &[u8]) -> Result<Vec<OfAction>, OfError> {
        actions::instructions::pull(Reader::new(bytes, OfError::OfpbicBadLen), self, version)
    }

    /// Encodes the instructions of a flow; in OpenFlow 1.0 its actions.
    #[must_use]
    pub fn encode_instructions(&self, version: Version, list: &[OfAction]) -> Vec<u8> {
        let mut out = Vec::new();
        actions::put_flow(&mut out, self, version, &Match::default(), list);
        out
    }

    /// Decodes NXM or OXM entries: the match, and the cookie with its mask. `version` `None` is Nicira's form, in which a cookie may stand;
    /// `strict` refuses what is not known and what lacks its prerequisites.
    ///
    /// # Errors
    /// `OFPBMC_*` (OpenFlow 1.5, 7.5.4.5).
    pub fn decode_entries(&self, version: Option<Version>, bytes: &[u8], strict: bool) -> Result<(Match, u64, u64), OfError> {
        let how = How { strict, cookie: version.is_none(), pipeline_only: false };
        matches::pull_entries(Reader::new(bytes, OfError::OfpbmcBadLen), self, how)
    }

    /// Encodes a match as flow-mods of `version` have it, or with `None` in Nicira's form, with a cookie where its mask is not zero.
    #[must_use]
    pub fn encode_entries(&self, version: Option<Version>, m: &Match, (cookie, mask): (u64, u64)) -> Entries {
        let mut bytes = Vec::new();
        let entries = match version {
            Some(version) => matches::MATCH_HEADER..usize::from(matches::put_oxm_len(&mut bytes, self, version, m)),
            None => 0..usize::from(matches::put_nxm(&mut bytes, self, m, cookie, mask)),
        };
        Entries { bytes, entries }
    }
}

/// Decodes a match of OpenFlow 1.0 (5.2.3), and the wildcards that it has. Any bits are a match.
#[must_use]
pub fn decode_match10(bytes: &[u8; MATCH10_BYTES]) -> Match {
    fixed::pull10(&mut Reader::new(bytes, OfError::OfpbmcBadLen)).map(|(m, _)| m).unwrap_or_default()
}

/// Encodes a match in OpenFlow 1.0's form; what that cannot say is left out.
#[must_use]
pub fn encode_match10(m: &Match) -> Vec<u8> {
    let mut out = Vec::new();
    fixed::put10(&mut out, m);
    out
}

/// Decodes a match of OpenFlow 1.1 (A.2.3.1), type and length included.
///
/// # Errors
/// `OFPBMC_*`.
pub fn decode_match11(bytes: &[u8]) -> Result<Match, OfError> {
    matches::pull11(&mut Reader::new(bytes, OfError::OfpbmcBadLen), &Codec::default())
}

/// Encodes a match in OpenFlow 1.1's form; what that cannot say is left out.
#[must_use]
pub fn encode_match11(m: &Match) -> Vec<u8> {
    let mut out = Vec::new();
    fixed::put11(&mut out, m);
    out
}
