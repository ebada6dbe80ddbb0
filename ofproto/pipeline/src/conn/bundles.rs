//! OpenFlow bundles: messages gathered under an id and applied at once, all or nothing (OpenFlow 1.4 section 7.3.9).
//!
//! What enters: OFPT_BUNDLE_CONTROL and OFPT_BUNDLE_ADD_MESSAGE of one connection. What leaves: replies; and at commit the messages,
//! for `requests` to apply under one lock with one journal.

use crate::classifier::Masks;
use crate::column::Column;
use crate::flow_mod::Ready;
use flow::Msec;
use openflow::message::{Body, BundleControl, Message};
use openflow::{OfError, Version, Xid};
use std::collections::BTreeMap;

/// Messages in one bundle.
pub(super) const MESSAGES_MAX: usize = 2_000_000;
/// Bundles of one connection.
pub(super) const BUNDLES_MAX: usize = 64;

mod control {
    pub(super) const OPEN_REQUEST: u16 = 0;
    pub(super) const CLOSE_REQUEST: u16 = 2;
    pub(super) const COMMIT_REQUEST: u16 = 4;
    pub(super) const DISCARD_REQUEST: u16 = 6;
}

/// A message of a bundle, with the bytes it came in (for an error that names it).
#[derive(Debug)]
pub(super) struct Member {
    pub(super) version: Version,
    pub(super) xid: Xid,
    pub(super) raw: Vec<u8>,
    pub(super) what: What,
}

/// What a member asks for. Most are flow-mods, whose matches at full size are long: they wait in the form in which they are applied.
#[derive(Debug)]
pub(super) enum What {
    FlowMod(Box<Ready>),
    Other(Box<Body>),
}

#[derive(Debug)]
struct Bundle {
    flags: u16,
    closed: bool,
    used_ms: Msec,
    members: Column<Member>,
    masks: Masks,
    /// The message that opened it, which an error after a timeout quotes.
    opened_by: Vec<u8>,
}

/// The bundles of a connection.
#[derive(Debug, Default)]
pub(super) struct Bundles(BTreeMap<u32, Bundle>);

/// What a control message came to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Answer with the reply of this kind.
    Done,
    /// Apply these, then answer.
    Commit(Column<Member>),
}

impl Bundles {
    /// OFPT_BUNDLE_CONTROL.
    pub(super) fn control(&mut self, request: &BundleControl, raw: &[u8], now: Msec) -> Result<Outcome, OfError> {
        match request.kind {
            control::OPEN_REQUEST => self.open(request, raw, now).map(|()| Outcome::Done),
            control::CLOSE_REQUEST => self.close(request, now).map(|()| Outcome::Done),
            control::COMMIT_REQUEST => self.commit(request).map(Outcome::Commit),
            control::DISCARD_REQUEST => self.discard(request).map(|()| Outcome::Done),
            _ => Err(OfError::OfpbfcBadType),
        }
    }

    /// OFPT_BUNDLE_ADD_MESSAGE; opens the bundle if it is not (as OVS and the standard allow).
    pub(super) fn add(&mut self, (id, flags): (u32, u16), message: Message, raw: Vec<u8>, now: Msec) -> Result<(), OfError> {
        if !matches!(message.body, Body::FlowMod(_) | Body::GroupMod(_) | Body::PortMod(_) | Body::PacketOut(_)) {
            return Err(OfError::OfpbfcMsgUnsup);
        }
        if !self.0.contains_key(&id) {
            self.open(&BundleControl { id, kind: control::OPEN_REQUEST, flags }, &raw, now)?;
        }
        let bundle = self.0.get_mut(&id).ok_or(OfError::OfpbfcBadId)?;
        if bundle.closed {
            self.0.remove(&id);
            return Err(OfError::OfpbfcBundleClosed);
        }
        if bundle.flags != flags {
            self.0.remove(&id);
            return Err(OfError::OfpbfcBadFlags);
        }
        if bundle.members.len() >= MESSAGES_MAX {
            return Err(OfError::OfpbfcMsgTooMany);
        }
        bundle.used_ms = now;
        let Message { version, xid, body } = message;
        let what = if let Body::FlowMod(fm) = body {
            What::FlowMod(Box::new(Ready::of(fm, &mut bundle.masks)))
        } else {
            What::Other(Box::new(body))
        };
        bundle.members.push(Member { version, xid, raw, what });
        Ok(())
    }

    /// Drops bundles that nothing was said of for `idle_ms`; gives the messages that opened them.
    pub(super) fn expire(&mut self, idle_ms: Msec, now: Msec) -> Vec<Vec<u8>> {
        let stale: Vec<u32> = self.0.iter().filter(|(_, b)| now - b.used_ms >= idle_ms).map(|(id, _)| *id).collect();
        stale.iter().filter_map(|id| self.0.remove(id)).map(|b| b.opened_by).collect()
    }

    fn open(&mut self, request: &BundleControl, raw: &[u8], now: Msec) -> Result<(), OfError> {
        if self.0.remove(&request.id).is_some() {
            return Err(OfError::OfpbfcBadId);
        }
        if self.0.len() >= BUNDLES_MAX {
            return Err(OfError::OfpbfcOutOfBundles);
        }
        let opened_by = raw.to_vec();
        let (members, masks) = (Column::default(), Masks::default());
        self.0.insert(request.id, Bundle { flags: request.flags, closed: false, used_ms: now, members, masks, opened_by });
        Ok(())
    }

    fn close(&mut self, request: &BundleControl, now: Msec) -> Result<(), OfError> {
        let bundle = self.0.get_mut(&request.id).ok_or(OfError::OfpbfcBadId)?;
        let fault = if bundle.closed {
            Some(OfError::OfpbfcBundleClosed)
        } else if bundle.flags != request.flags {
            Some(OfError::OfpbfcBadFlags)
        } else {
            None
        };
        if let Some(fault) = fault {
            self.0.remove(&request.id);
            return Err(fault);
        }
        bundle.closed = true;
        bundle.used_ms = now;
        Ok(())
    }

    fn commit(&mut self, request: &BundleControl) -> Result<Column<Member>, OfError> {
        let bundle = self.0.remove(&request.id).ok_or(OfError::OfpbfcBadId)?;
        if bundle.flags != request.flags {
            return Err(OfError::OfpbfcBadFlags);
        }
        Ok(bundle.members)
    }

    fn discard(&mut self, request: &BundleControl) -> Result<(), OfError> {
        self.0.remove(&request.id).map(|_| ()).ok_or(OfError::OfpbfcBadId)
    }
}
