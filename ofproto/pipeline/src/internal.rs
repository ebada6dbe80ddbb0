//! The rules that every bridge has in table 254: what becomes of packets that match no rule.
//!
//! What enters: translations that came to one of them. What leaves: their counters, and how they look (`bridge/dump-flows`). Neighbours:
//! `xlate::tables` does what they say, without looking them up; rules that come and go in that table (those of bonds) are rules like others.

use crate::rule::Tally;
use flow::Msec;
use flow::fields::Field;
use flow::matching::Match;
use openflow::action::{Controller, OfAction};
use std::sync::Arc;

/// Reason of a packet-in for a table miss (OFPR_NO_MATCH).
const NO_MATCH: u8 = 0;
/// OVS's own for the same, which it has no word for.
const IMPLICIT_MISS: u8 = 7;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Own {
    /// The table was entered by a packet that has not been round.
    NotRound,
    /// No rule matched, and controllers want to see such packets.
    PacketIn,
    /// No rule matched, and they do not.
    Miss,
    /// A fragment, in a bridge that drops those.
    Fragment,
}

impl Own {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::NotRound, Self::PacketIn, Self::Miss, Self::Fragment];

    /// Its priority, and what it matches: register 0 says why the packet is there.
    #[must_use]
    pub fn matching(self) -> (u16, Match) {
        let (priority, field, value) = match self {
            Self::NotRound => (2, Field::RecircId, 0),
            Self::PacketIn => (0, Field::Reg0, 1),
            Self::Miss => (0, Field::Reg0, 2),
            Self::Fragment => (0, Field::Reg0, 3),
        };
        let mut matching = Match::default();
        matching.set(field, value);
        (priority, matching)
    }

    /// What it does, as controllers are told.
    #[must_use]
    pub fn actions(self) -> Vec<OfAction> {
        self.actions_saying(NO_MATCH)
    }

    /// What it does, as it is shown.
    #[must_use]
    pub fn actions_shown(self) -> Vec<OfAction> {
        self.actions_saying(IMPLICIT_MISS)
    }

    fn actions_saying(self, reason: u8) -> Vec<OfAction> {
        match self {
            Self::PacketIn => vec![OfAction::Controller(Box::new(Controller {
                max_len: openflow::types::MAX_LEN_ALL,
                controller_id: 0,
                reason,
                userdata: Vec::new(),
                pause: false,
                meter_id: u32::MAX,
            }))],
            Self::NotRound | Self::Miss | Self::Fragment => Vec::new(),
        }
    }
}

/// The counters of a bridge's.
#[derive(Debug)]
pub struct OwnRules {
    pub created_ms: Msec,
    tallies: [Arc<Tally>; Own::ALL.len()],
}

impl OwnRules {
    /// Those of a bridge that there is since `created_ms`.
    #[must_use]
    pub fn new(created_ms: Msec) -> Self {
        Self { created_ms, tallies: Default::default() }
    }

    /// Packets that came to one of them.
    #[must_use]
    pub fn tally(&self, own: Own) -> &Arc<Tally> {
        &self.tallies[own as usize]
    }
}
