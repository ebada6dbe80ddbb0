//! Packets that go the same way: which bits of a packet decided what became of it, and which were only carried along.
//!
//! What enters: the actions of a translation, before they run. What leaves: `Translation::decides`. Neighbours: `actions` (which asks),
//! `udpif` (which makes megaflows of packets that go the same way without translating each of them).
//!
//! # The property
//!
//! A pipeline that moves addresses and ports into registers gets a megaflow for each tuple although all of them may be forwarded alike:
//! what is moved is matched, since somebody might look at the register. Where nobody does, and all that comes of it is output, **every
//! packet that agrees with this one in `decides` is translated to the same actions, mask, credits and dependencies**. It holds because
//!
//! - a bit that is moved into a register goes into `Carried::from` and not into the mask. Whatever else decides by it puts it there,
//!   as always;
//! - the bits of registers that it went to are `Carried::to`. If one of them is in the mask in the end, somebody has looked, and nothing is said;
//! - only the few actions of `goes_along` leave the property standing. Any other spoils it before it runs: then what was carried goes
//!   into the mask, and from there on everything is as if this room did not exist. Others look at registers without a word in the
//!   mask (a frozen state keeps them), do something for this packet alone, or write bits of the mask into their actions;
//! - what kind of packet it is always decides, with its tunnel, labels and connection, since parts of translation go by it.
//!
//! The safe direction: nothing said is only slow.

use super::Ctx;
use super::subfield::unwildcard_in;
use crate::effects::Credit;
use flow::Action;
use flow::fields::{Field, Store};
use flow::key::{DATAPATH_LINES, Key, LINE_BYTES, Mask};
use openflow::OfPort;
use openflow::action::{OfAction, Subfield};
use std::mem::offset_of;
use std::sync::LazyLock;

/// What kind of packet it is, and all that is rare.
static KIND: LazyLock<Mask> = LazyLock::new(kind);

fn kind() -> Mask {
    const LINE_WORDS: usize = LINE_BYTES / 8;
    let mut mask = Key {
        eth_type: [0xff; 2],
        vlan_tci: [0xff; 2],
        vlan_tpid: [0xff; 2],
        vlan2_tci: [0xff; 2],
        vlan2_tpid: [0xff; 2],
        nw_proto: 0xff,
        nw_frag: 0xff,
        in_port: [0xff; 4],
        recirc_id: [0xff; 4],
        dp_hash: [0xff; 4],
        ct_state: 0xff,
        ct_nw_proto: 0xff,
        ct_zone: [0xff; 2],
        ct_mark: [0xff; 4],
        packet_type: [0xff; 4],
        mpls_lse0: [0xff; 4],
        ..Key::ZERO
    };
    // ND target, labels, NSH, original tuple, tunnel with its options.
    mask.words_mut()[2 * LINE_WORDS..DATAPATH_LINES * LINE_WORDS].fill(u64::MAX);
    mask
}

/// What is known of it so far.
#[derive(Debug)]
pub(super) struct Alike {
    spoilt: bool,
    carried: Option<Box<Carried>>,
}

/// Bits that were moved: where they came from, and where they are.
#[derive(Debug)]
struct Carried {
    from: Mask,
    to: Mask,
}

impl Alike {
    /// Nobody may ask: then what is moved is matched at once.
    pub(super) fn new(asked: bool) -> Self {
        Self { spoilt: !asked, carried: None }
    }
}

impl Ctx<'_> {
    /// An action is about to run.
    pub(super) fn notice(&mut self, action: &OfAction) {
        if !goes_along(action) {
            self.spoil_alike();
        }
    }

    /// From now on nothing is said of other packets, and what was carried is matched.
    pub(super) fn spoil_alike(&mut self) {
        self.alike.spoilt = true;
        if let Some(carried) = self.alike.carried.take() {
            self.mask.or_with(&carried.from);
            self.mask.or_with(&carried.to);
        }
    }

    /// Carries a part of the packet, which has it, into a register; false if that is a move like any other.
    pub(super) fn carry(&mut self, src: Subfield, dst: Subfield) -> bool {
        if self.alike.spoilt || !is_register(dst.field) || is_register(src.field) || src.field.row().place.store == Store::Option
        {
            return false;
        }
        let value = self.value(src);
        self.write_unseen(dst, value);
        let carried = self.alike.carried.get_or_insert_with(|| Box::new(Carried { from: Key::ZERO, to: Key::ZERO }));
        unwildcard_in(&self.bridge.tunnel_options, &mut carried.from, src);
        unwildcard_in(&self.bridge.tunnel_options, &mut carried.to, dst);
        true
    }

    /// The end: the bits that decide, if others go the same way. What was carried is matched from now on.
    pub(super) fn decides(&mut self) -> Option<Box<Mask>> {
        let carried = self.alike.carried.take()?;
        let looked_at = self.mask.words().iter().zip(carried.to.words()).any(|(seen, to)| seen & to != 0);
        let decides = (!looked_at && self.is_plain()).then(|| {
            let mut decides = Box::new(self.mask);
            decides.or_with(&KIND);
            decides
        });
        self.mask.or_with(&carried.from);
        self.mask.or_with(&carried.to);
        decides
    }

    /// Whether all that came of it is output, and nothing was done for this packet alone.
    fn is_plain(&self) -> bool {
        let sent = !self.actions.is_empty() && self.actions.iter().all(|action| matches!(action, Action::Output(_)));
        let usual = self.error.is_none() && self.drop_reason.is_none() && !self.once && self.slow == 0;
        let began_here = self.start_actions.is_none() && self.resume.is_none() && self.initial.recirc_id == [0; 4];
        let leaves_nothing = self.recircs.is_empty() && self.notices.is_empty() && self.credits.iter().all(Credit::is_common);
        // In-band control looks at packets without a word in the mask, as Open vSwitch does.
        sent && usual && began_here && leaves_nothing && !self.bridge.in_band
    }
}

/// Actions after which others still go the same way. What is not named does not: the safe direction for new ones.
fn goes_along(action: &OfAction) -> bool {
    if let OfAction::Output { port, .. } = action {
        *port < OfPort::MAX
    } else if let OfAction::SetField { field, .. } = action {
        is_register(*field)
    } else {
        matches!(action, OfAction::RegMove { .. } | OfAction::Resubmit { with_ct: false, .. } | OfAction::GotoTable(_))
    }
}

/// Registers, single, in pairs and in fours.
fn is_register(field: Field) -> bool {
    let place = field.row().place;
    let (from, to) = (offset_of!(Key, regs), offset_of!(Key, metadata));
    place.store != Store::Option && (from..to).contains(&usize::from(place.byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, config};
    use crate::xlate::{XlateIn, match_vlan, translate};
    use flow::extract::{PacketMeta, extract_whole};
    use flow::extract_gen::PacketGen;

    const MOVES: &str = "table=0,udp,actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],move:NXM_OF_UDP_DST[]->NXM_NX_REG2[0..15]";

    fn switch(rules: &[&str]) -> Scenario {
        let s = Scenario::new(&config(&["br0 p1@1 p2@2 x@9>y", "br1 y@9>x p5@5"]));
        rules.iter().for_each(|rule| s.flow_mod("br0", rule).unwrap());
        s
    }

    /// A packet of few values, or any at all.
    fn packet(random: &mut PacketGen) -> Key {
        let (mut packet, mut key) = (Vec::new(), Key::ZERO);
        if random.below(4) == 0 {
            let _ = random.packet(&mut packet);
            extract_whole(&packet, &PacketMeta::default(), &mut key);
        } else {
            let mut byte = || u8::try_from(random.below(3)).unwrap();
            (key.eth_type, key.nw_proto, key.nw_ttl) = ([8, 0], 17, 64);
            (key.eth_src, key.eth_dst) = ([2, 0, 0, 0, 0, byte()], [2, 0, 0, 0, 1, byte()]);
            (key.nw_src, key.nw_dst) = ([10, 0, byte(), byte()], [10, 0, 0, byte()]);
            (key.tp_src, key.tp_dst) = ([0, byte()], [0, 80 + byte()]);
        }
        key.in_port = OfPort(1).to_key();
        key
    }

    /// What is said of others holds for all of them; how many were told alike.
    fn check(rules: &[&str]) -> usize {
        let s = switch(rules);
        let world = s.slowpath.read_world();
        let bridge = world.bridge_named("br0").unwrap().id;
        let ask = |key: &Key| {
            let mut t = translate(&world, XlateIn { asks_others: true, ..XlateIn::new(bridge, key, 0) });
            match_vlan(&mut t.mask, key);
            t
        };
        let mut random = PacketGen::new(11);
        let keys: Vec<Key> = (0..60).map(|_| packet(&mut random)).collect();
        let mut told = 0;
        for key in &keys {
            let first = ask(key);
            let Some(decides) = &first.decides else { continue };
            for other in &keys {
                let mut mixed = *other;
                for ((m, k), bits) in mixed.words_mut().iter_mut().zip(key.words()).zip(decides.words()) {
                    *m = *m & !bits | k & bits;
                }
                told += usize::from(!mixed.equal_under(key, &first.mask));
                let second = ask(&mixed);
                assert_eq!(
                    (&first.actions, &first.mask, &first.deps),
                    (&second.actions, &second.mask, &second.deps),
                    "{rules:?}"
                );
                assert!(first.credits.iter().zip(&second.credits).all(|(a, b)| a.is_same(b)), "{rules:?}");
                assert_eq!((first.credits.len(), second.slow, second.error), (second.credits.len(), 0, None));
            }
        }
        told
    }

    #[test]
    fn what_is_only_moved_tells_nobody_apart() {
        assert!(check(&[&format!("{MOVES},output:2")]) > 100);
        let later = [
            "table=1,priority=1,actions=output:2",
            "table=1,priority=2,udp,nw_dst=10.0.0.1,actions=load:7->NXM_NX_REG5[],output:2",
        ];
        assert!(check(&[&format!("{MOVES},resubmit(,1)"), later[0], later[1]]) > 100);
        // A port that somebody looks at decides, and the address that nobody looks at does not.
        let port = "table=1,priority=3,udp,tp_dst=81,actions=output:2,output:9";
        assert!(check(&[&format!("{MOVES},resubmit(,1)"), later[0], port]) > 50);
    }

    #[test]
    fn who_looks_at_a_register_or_does_more_spoils_it() {
        let all = format!("{MOVES},resubmit(,1)");
        for rule in [
            "reg0=0x0a000001,actions=output:2",
            "priority=1,reg2=0x50/0xff,actions=output:2",
            "actions=output:NXM_NX_REG2[0..7]",
            "ip,actions=mod_nw_dst:1.2.3.4,output:2",
            "actions=NORMAL",
            "actions=output:9",
            "actions=CONTROLLER",
            "actions=clone(output:2)",
            "actions=push:NXM_NX_REG0[],output:2",
            "ip,actions=learn(table=3,eth_type=0x800,NXM_OF_IP_SRC[]),output:2",
            "actions=drop",
        ] {
            assert_eq!(check(&[&all, &format!("table=1,{rule}"), "table=1,priority=0,actions=output:2"]), 0, "{rule}");
        }
        assert_eq!(check(&["actions=output:2"]), 0, "nothing is moved, and nothing said");
    }

    #[test]
    fn what_was_carried_is_matched() {
        for rest in ["output:2", "NORMAL", "mod_nw_dst:1.2.3.4,output:2"] {
            let s = switch(&[&format!("{MOVES},{rest}")]);
            let world = s.slowpath.read_world();
            let key = Key {
                eth_type: [8, 0],
                nw_proto: 17,
                nw_src: [10, 0, 0, 1],
                tp_dst: [0, 80],
                in_port: OfPort(1).to_key(),
                ..Key::ZERO
            };
            let bridge = world.bridge_named("br0").unwrap().id;
            let t = translate(&world, XlateIn { asks_others: true, ..XlateIn::new(bridge, &key, 0) });
            assert_eq!((t.mask.nw_src, t.mask.tp_dst, t.mask.regs), ([255; 4], [255; 2], Key::ZERO.regs), "{rest}");
            assert_eq!(t.decides.map(|d| (d.nw_src, d.tp_dst)), (rest == "output:2").then_some(([0; 4], [0; 2])), "{rest}");
        }
    }
}
