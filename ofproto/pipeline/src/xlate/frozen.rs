//! Frozen state: what a translation needs to go on after the datapath has recirculated the packet, or after a controller has had it.
//!
//! Equal states share one recirculation id, so that translating a megaflow again gives the same actions.

use super::mask::copy_tunnel;
use crate::world::BridgeId;
use flow::key::{Key, Mask};
use openflow::action::OfAction;
use openflow::{OfPort, TableId};

/// Where and with what to go on.
#[derive(Clone, Debug, PartialEq)]
pub struct FrozenState {
    pub bridge: BridgeId,
    /// Table to look up in when no steps are left.
    pub table: TableId,
    /// Pipeline fields: in_port (OpenFlow), registers, metadata, of the tunnel what is in `written`; all else zero.
    pub metadata: Key,
    /// Bits of tunnel fields that the pipeline has written. The others are the packet's own when it comes back: many packets share this
    /// state that do not share what nothing has looked at.
    pub written: Mask,
    pub conntracked: bool,
    /// Values pushed, the last on top.
    pub stack: Vec<Vec<u8>>,
    /// Mirrors that have had the packet.
    pub mirrors: u32,
    /// What remains to do.
    pub steps: Vec<Step>,
    pub action_set: Vec<OfAction>,
    /// Of the `controller` action that sent the packet up.
    pub userdata: Vec<u8>,
}

/// Something that remains to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The next steps stand in a rule of this table and with this cookie.
    Unroll {
        table: TableId,
        cookie: u64,
    },
    Run(OfAction),
}

impl FrozenState {
    /// All bits of the tunnel fields: of a packet that does not come back by a tunnel, or not by that which the pipeline sees.
    #[must_use]
    pub fn whole_tunnel() -> Mask {
        super::mask::whole_tunnel()
    }

    /// The fields of a key that a frozen state carries over.
    #[must_use]
    pub fn metadata_of(key: &Key, written: &Mask) -> Key {
        let mut kept = Key { in_port: key.in_port, regs: key.regs, metadata: key.metadata, ..Key::ZERO };
        copy_tunnel(&mut kept, &key.masked(written));
        kept
    }

    /// Puts the pipeline fields back into the key of a packet that came again.
    pub fn restore(&self, key: &mut Key) {
        key.in_port = self.metadata.in_port;
        key.regs = self.metadata.regs;
        key.metadata = self.metadata.metadata;
        let mut tunnel = *key;
        for ((own, kept), written) in tunnel.words_mut().iter_mut().zip(self.metadata.words()).zip(self.written.words()) {
            *own = *own & !written | kept & written;
        }
        copy_tunnel(key, &tunnel);
    }

    /// The actions among the steps.
    pub fn actions(&self) -> impl Iterator<Item = &OfAction> {
        self.steps.iter().filter_map(|step| match step {
            Step::Run(action) => Some(action),
            Step::Unroll { .. } => None,
        })
    }

    /// The bridge's port that the packet came in by.
    #[must_use]
    pub fn in_port(&self) -> OfPort {
        OfPort::from_key(self.metadata.in_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::Translation;
    use crate::scenario::{Scenario, config};
    use crate::xlate::{XlateIn, translate};
    use flow::{Action, DpPort};

    /// A packet that came by a tunnel with this group policy.
    fn tunnelled(gbp_id: u8) -> Key {
        let mut key = Key { eth_type: [8, 0], nw_proto: 17, tun_ttl: 64, ..Key::ZERO };
        (key.tun_dst, key.tun_src, key.tun_gbp_id) = ([1, 1, 1, 1], [2, 2, 2, 2], [0, gbp_id]);
        key.in_port = OfPort(1).to_key();
        key
    }

    /// Translates the packet until it leaves; which ids it went by and where it came out.
    fn follow(s: &Scenario, mut key: Key, held: &mut Vec<Translation>) -> (Vec<u32>, Vec<DpPort>) {
        let world = s.slowpath.read_world();
        let bridge = world.bridge_named("br0").unwrap().id;
        let mut ids = Vec::new();
        loop {
            let t = translate(&world, XlateIn::new(bridge, &key, 0));
            let out = t.actions.iter().filter_map(|a| if let Action::Output(port) = a { Some(*port) } else { None }).collect();
            let next = t.actions.iter().find_map(|a| if let Action::Recirc(id) = a { Some(*id) } else { None });
            held.push(t);
            let Some(id) = next else { return (ids, out) };
            ids.push(id);
            key.recirc_id = id.to_be_bytes();
        }
    }

    fn switch(rules: &[&str]) -> Scenario {
        let s = Scenario::new(&config(&["br0 p1@1 p2@2 p3@3 x@9>y", "br1 y@9>x p5@5"]));
        s.slowpath.write_world().bridges.values_mut().for_each(|bridge| bridge.tracks_connections = true);
        rules.iter().for_each(|rule| {
            let (bridge, rule) = rule.split_once(' ').unwrap();
            s.flow_mod(bridge, rule).unwrap();
        });
        s
    }

    const LATER: [&str; 2] = ["br0 table=1,priority=1,actions=output:3", "br0 table=1,priority=2,tun_gbp_id=6,actions=output:2"];

    #[test]
    fn what_nothing_has_looked_at_is_that_of_the_packet_that_comes_back() {
        let (s, mut held) = (switch(&["br0 ip,actions=ct(table=1)", LATER[0], LATER[1]]), Vec::new());
        let [five, six] = [5, 6].map(|gbp| follow(&s, tunnelled(gbp), &mut held));
        assert_eq!(five.0, six.0, "one megaflow for both, one id");
        assert_ne!(five.1, six.1, "and then each goes its way");
        // A megaflow knows no more of its packets than what it matches.
        let known = tunnelled(5).masked(&held[0].mask);
        assert_eq!(known.tun_gbp_id, [0; 2]);
        assert_eq!(follow(&s, known, &mut held).0, five.0, "translated again it names the same");
    }

    #[test]
    fn what_was_written_comes_back() {
        let set = "br0 ip,actions=set_field:6->tun_gbp_id,ct(table=1)";
        let (s, mut held) = (switch(&[set, LATER[0], LATER[1]]), Vec::new());
        let whole = switch(&["br0 ip,actions=output:2"]);
        let second = follow(&whole, tunnelled(5), &mut held).1;
        assert_eq!(follow(&s, tunnelled(5), &mut held).1, second);
        // Of a packet that came by no tunnel, too.
        let plain = Key { tun_dst: [0; 4], tun_src: [0; 4], tun_ttl: 0, tun_gbp_id: [0; 2], ..tunnelled(5) };
        assert_eq!(follow(&s, plain, &mut held).1, second);
        let s =
            switch(&["br0 ip,actions=set_tunnel:7,ct(table=1)", LATER[0], "br0 table=1,priority=2,tun_id=7,actions=output:2"]);
        assert_eq!(follow(&s, plain, &mut held).1, second);
    }

    #[test]
    fn what_a_bucket_wrote_is_not_frozen_behind_its_group() {
        let (s, mut held) = (switch(&["br0 ip,actions=drop", LATER[0], LATER[1]]), Vec::new());
        s.add_group("br0", "group_id=1,type=all,bucket=multipath(eth_src,50,modulo_n,1,0,NXM_NX_TUN_GBP_ID[]),output:3").unwrap();
        s.flow_mod("br0", "ip,actions=group:1,ct(table=1)").unwrap();
        let five = follow(&s, tunnelled(5), &mut held);
        let known = tunnelled(5).masked(&held[0].mask);
        assert_eq!(follow(&s, known, &mut held).0, five.0, "translated again it names the same");
    }

    #[test]
    fn beyond_a_patch_port_there_is_no_tunnel_after_recirculation_either() {
        let rules = ["br0 ip,actions=output:9", "br1 ip,actions=ct(table=1)", "br1 table=1,priority=2,tun_gbp_id=6,actions=drop"];
        let (s, mut held) = (switch(&[rules[0], rules[1], rules[2], "br1 table=1,priority=1,actions=output:5"]), Vec::new());
        assert_eq!(follow(&s, tunnelled(6), &mut held).1.len(), 1);
    }
}
