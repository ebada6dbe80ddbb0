//! OpenFlow bundles: messages gathered under an id and applied at once, all or nothing (OpenFlow 1.4 section 7.3.9).
//!
//! What enters: OFPT_BUNDLE_CONTROL and OFPT_BUNDLE_ADD_MESSAGE of one connection. What leaves: replies; and at commit the messages,
//! for `requests` to apply under one lock with one journal.

use crate::udpif::ukey::Compact;
use flow::Msec;
use flow::matching::{Match, TunnelLayout};
use openflow::action::OfAction;
use openflow::message::{Body, BundleControl, FlowMod, FlowModCommand, Message};
use openflow::{GroupId, OfError, OfPort, TableId, Version, Xid};
use std::collections::BTreeMap;

/// Messages in one bundle.
pub const MESSAGES_MAX: usize = 2_000_000;
/// Bundles of one connection.
pub const BUNDLES_MAX: usize = 64;

mod control {
    pub(super) const OPEN_REQUEST: u16 = 0;
    pub(super) const CLOSE_REQUEST: u16 = 2;
    pub(super) const COMMIT_REQUEST: u16 = 4;
    pub(super) const DISCARD_REQUEST: u16 = 6;
}

/// A message of a bundle, with the bytes it came in (for an error that names it).
#[derive(Debug)]
pub struct Member {
    pub message: Message,
    pub raw: Vec<u8>,
}

/// A member while it waits. Most are flow-mods, whose matches are two keys of 768 bytes: only the lines that they use are kept, so that a bundle
/// of a million costs hundreds of bytes each, not thousands.
#[derive(Debug)]
enum Stored {
    FlowMod { version: Version, xid: Xid, rest: Box<FlowModRest>, key: Compact, mask: Compact, raw: Vec<u8> },
    Other(Box<Member>),
}

/// A flow-mod without its match; the fields are `FlowMod`'s.
#[derive(Debug)]
struct FlowModRest {
    command: FlowModCommand,
    table: TableId,
    options: TunnelLayout,
    priority: u16,
    cookie: u64,
    cookie_mask: u64,
    new_cookie: u64,
    modify_cookie: bool,
    idle_timeout: u16,
    hard_timeout: u16,
    buffer_id: u32,
    out_port: OfPort,
    out_group: GroupId,
    flags: u16,
    importance: u16,
    actions: Vec<OfAction>,
}

impl Stored {
    fn of(member: Member) -> Self {
        let Body::FlowMod(fm) = member.message.body else { return Self::Other(Box::new(member)) };
        let Message { version, xid, .. } = member.message;
        let lines = fm.matching.mask.lines();
        let (key, mask) = (Compact::new(&fm.matching.key, lines), Compact::new(&fm.matching.mask, lines));
        let FlowMod {
            command,
            table,
            matching,
            priority,
            cookie,
            cookie_mask,
            new_cookie,
            modify_cookie,
            idle_timeout,
            hard_timeout,
            buffer_id,
            out_port,
            out_group,
            flags,
            importance,
            actions,
        } = *fm;
        let options = matching.options;
        let rest = Box::new(FlowModRest {
            command,
            table,
            options,
            priority,
            cookie,
            cookie_mask,
            new_cookie,
            modify_cookie,
            idle_timeout,
            hard_timeout,
            buffer_id,
            out_port,
            out_group,
            flags,
            importance,
            actions,
        });
        Self::FlowMod { version, xid, rest, key, mask, raw: member.raw }
    }

    fn whole(self) -> Member {
        match self {
            Self::Other(member) => *member,
            Self::FlowMod { version, xid, rest, key, mask, raw } => {
                let fm = FlowMod {
                    command: rest.command,
                    table: rest.table,
                    matching: Match { key: key.expand(), mask: mask.expand(), options: rest.options },
                    priority: rest.priority,
                    cookie: rest.cookie,
                    cookie_mask: rest.cookie_mask,
                    new_cookie: rest.new_cookie,
                    modify_cookie: rest.modify_cookie,
                    idle_timeout: rest.idle_timeout,
                    hard_timeout: rest.hard_timeout,
                    buffer_id: rest.buffer_id,
                    out_port: rest.out_port,
                    out_group: rest.out_group,
                    flags: rest.flags,
                    importance: rest.importance,
                    actions: rest.actions,
                };
                Member { message: Message { version, xid, body: Body::FlowMod(Box::new(fm)) }, raw }
            }
        }
    }
}

/// The members of a bundle that is committed, one after the other.
#[derive(Debug)]
pub struct Members(std::vec::IntoIter<Stored>);

impl Iterator for Members {
    type Item = Member;

    fn next(&mut self) -> Option<Member> {
        self.0.next().map(Stored::whole)
    }
}

#[derive(Debug)]
struct Bundle {
    flags: u16,
    closed: bool,
    used_ms: Msec,
    members: Vec<Stored>,
    /// The message that opened it, which an error after a timeout quotes.
    opened_by: Vec<u8>,
}

/// The bundles of a connection.
#[derive(Debug, Default)]
pub struct Bundles(BTreeMap<u32, Bundle>);

/// What a control message came to.
#[derive(Debug)]
pub enum Outcome {
    /// Answer with the reply of this kind.
    Done,
    /// Apply these, then answer.
    Commit(Members),
}

impl Bundles {
    /// OFPT_BUNDLE_CONTROL.
    pub fn control(&mut self, request: &BundleControl, raw: &[u8], now: Msec) -> Result<Outcome, OfError> {
        match request.kind {
            control::OPEN_REQUEST => self.open(request, raw, now).map(|()| Outcome::Done),
            control::CLOSE_REQUEST => self.close(request, now).map(|()| Outcome::Done),
            control::COMMIT_REQUEST => self.commit(request).map(Outcome::Commit),
            control::DISCARD_REQUEST => self.discard(request).map(|()| Outcome::Done),
            _ => Err(OfError::OfpbfcBadType),
        }
    }

    /// OFPT_BUNDLE_ADD_MESSAGE; opens the bundle if it is not (as OVS and the standard allow).
    pub fn add(&mut self, id: u32, flags: u16, member: Member, now: Msec) -> Result<(), OfError> {
        if !matches!(member.message.body, Body::FlowMod(_) | Body::GroupMod(_) | Body::PortMod(_) | Body::PacketOut(_)) {
            return Err(OfError::OfpbfcMsgUnsup);
        }
        if !self.0.contains_key(&id) {
            self.open(&BundleControl { id, kind: control::OPEN_REQUEST, flags }, &member.raw, now)?;
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
        bundle.members.push(Stored::of(member));
        Ok(())
    }

    /// Drops bundles that nothing was said of for `idle_ms`; gives the messages that opened them.
    pub fn expire(&mut self, idle_ms: Msec, now: Msec) -> Vec<Vec<u8>> {
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
        self.0.insert(request.id, Bundle { flags: request.flags, closed: false, used_ms: now, members: Vec::new(), opened_by });
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

    fn commit(&mut self, request: &BundleControl) -> Result<Members, OfError> {
        let bundle = self.0.remove(&request.id).ok_or(OfError::OfpbfcBadId)?;
        if bundle.flags != request.flags {
            return Err(OfError::OfpbfcBadFlags);
        }
        Ok(Members(bundle.members.into_iter()))
    }

    fn discard(&mut self, request: &BundleControl) -> Result<(), OfError> {
        self.0.remove(&request.id).map(|_| ()).ok_or(OfError::OfpbfcBadId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::Key;

    #[test]
    fn a_flow_mod_comes_out_of_a_bundle_as_it_went_in() {
        let key = Key { eth_type: [8, 0], nw_dst: [10, 1, 2, 3], tun_id: [7; 8], ..Key::ZERO };
        let mask = Key { eth_type: [255; 2], nw_dst: [255, 255, 0, 0], tun_id: [255; 8], ..Key::ZERO };
        let fm = FlowMod {
            command: FlowModCommand::DeleteStrict,
            table: TableId(3),
            matching: Match::new(&key, &mask),
            priority: 4,
            cookie: 5,
            cookie_mask: 6,
            new_cookie: 7,
            modify_cookie: true,
            idle_timeout: 8,
            hard_timeout: 9,
            buffer_id: 10,
            out_port: OfPort(11),
            out_group: GroupId(12),
            flags: 13,
            importance: 14,
            actions: vec![OfAction::Output { port: OfPort(15), max_len: 16 }],
        };
        let message = Message { version: Version::V14, xid: Xid(17), body: Body::FlowMod(Box::new(fm.clone())) };
        let member = Stored::of(Member { message, raw: vec![18] }).whole();
        let Body::FlowMod(out) = member.message.body else { panic!("another body") };
        assert_eq!((*out, member.message.version, member.message.xid, member.raw), (fm, Version::V14, Xid(17), vec![18]));
    }
}
