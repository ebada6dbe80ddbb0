//! Flow-mods as tables take them: the match in the form in which rules have it, the actions ready to be moved into one.
//!
//! What enters: flow-mods as they were decoded. What leaves: what a bundle keeps until it is committed, in a tenth of the bytes (a match
//! at full size is two keys of 768), and what `apply` works with, without another copy.

use crate::bridge::Bridge;
use crate::classifier::{Masks, MiniMatch};
use flow::fields::Field;
use flow::key::Mask;
use flow::matching::Match;
use openflow::action::OfAction;
use openflow::message::{FlowMod, FlowModCommand};
use openflow::{GroupId, OfPort, TableId};

/// A flow-mod with its match in compact form; the other fields are `FlowMod`'s.
#[derive(Debug)]
pub struct Ready {
    pub command: FlowModCommand,
    pub table: TableId,
    pub mini: MiniMatch,
    pub priority: u16,
    pub cookie: u64,
    pub cookie_mask: u64,
    pub new_cookie: u64,
    pub modify_cookie: bool,
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    pub out_port: OfPort,
    pub out_group: GroupId,
    pub flags: u16,
    pub importance: u16,
    /// As a rule keeps them: no longer than they are.
    pub actions: Box<[OfAction]>,
}

impl Ready {
    /// With its actions taken out of it, and its mask shared with those that `masks` knows.
    #[must_use]
    pub fn of(mut fm: Box<FlowMod>, masks: &mut Masks) -> Self {
        let mini = match partial_port(&fm.matching) {
            None => masks.mini(&fm.matching.key, &fm.matching.mask),
            Some(mask) => masks.mini(&fm.matching.key, &mask),
        };
        let actions = std::mem::take(&mut fm.actions);
        Self::with(&fm, mini, actions)
    }

    /// With a mask that its table has already, if it has.
    #[must_use]
    pub fn for_bridge(bridge: &Bridge, fm: &FlowMod, actions: Vec<OfAction>) -> Self {
        let table = bridge.tables.get(usize::from(fm.table.0)).or_else(|| bridge.tables.first());
        let mini = match table {
            Some(table) => super::mini_of(table, &fm.matching),
            None => MiniMatch::new(&fm.matching.key, &fm.matching.mask),
        };
        Self::with(fm, mini, actions)
    }

    fn with(fm: &FlowMod, mini: MiniMatch, actions: Vec<OfAction>) -> Self {
        Self {
            command: fm.command,
            table: fm.table,
            mini,
            priority: fm.priority,
            cookie: fm.cookie,
            cookie_mask: fm.cookie_mask,
            new_cookie: fm.new_cookie,
            modify_cookie: fm.modify_cookie,
            idle_timeout: fm.idle_timeout,
            hard_timeout: fm.hard_timeout,
            out_port: fm.out_port,
            out_group: fm.out_group,
            flags: fm.flags,
            importance: fm.importance,
            actions: actions.into_boxed_slice(),
        }
    }
}

/// The mask as tables keep it, if that is another: `in_port` stands as a 16-bit number in keys, so all 32 bits of it are matched or none.
pub(super) fn partial_port(matching: &Match) -> Option<Mask> {
    if matches!(matching.mask.in_port, [0, 0, 0, 0] | [0xff, 0xff, 0xff, 0xff]) {
        return None;
    }
    let mut mask = matching.mask;
    Field::InPortOxm.unwildcard(&mut mask);
    Some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::Key;
    use openflow::types::NO_BUFFER;
    use std::sync::Arc;

    #[test]
    fn nothing_of_a_flow_mod_is_lost_and_masks_are_shared() {
        let key = Key { eth_type: [8, 0], nw_dst: [10, 1, 2, 3], tun_id: [7; 8], in_port: [0, 0, 0, 5], ..Key::ZERO };
        let mask = Key { eth_type: [255; 2], nw_dst: [255, 255, 0, 0], tun_id: [255; 8], in_port: [0, 0, 255, 255], ..Key::ZERO };
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
            buffer_id: NO_BUFFER,
            out_port: OfPort(11),
            out_group: GroupId(12),
            flags: 13,
            importance: 14,
            actions: vec![OfAction::Output { port: OfPort(15), max_len: 16 }],
        };
        let mut masks = Masks::default();
        let ready = Ready::of(Box::new(fm.clone()), &mut masks);
        let whole_port = Key { in_port: [255; 4], ..mask };
        assert_eq!(ready.mini.expand(), (key.masked(&whole_port), whole_port));
        let told = (ready.command, ready.table, ready.priority, ready.cookie, ready.cookie_mask, ready.new_cookie);
        assert_eq!(told, (fm.command, fm.table, fm.priority, fm.cookie, fm.cookie_mask, fm.new_cookie));
        let told = (ready.modify_cookie, ready.idle_timeout, ready.hard_timeout, ready.out_port, ready.out_group);
        assert_eq!(told, (fm.modify_cookie, fm.idle_timeout, fm.hard_timeout, fm.out_port, fm.out_group));
        assert_eq!((ready.flags, ready.importance, &*ready.actions), (fm.flags, fm.importance, &*fm.actions));
        let other = FlowMod { matching: Match::new(&Key { nw_dst: [10, 2, 2, 3], ..key }, &mask), ..fm };
        assert!(Arc::ptr_eq(ready.mini.mask(), Ready::of(Box::new(other), &mut masks).mini.mask()));
    }
}
