//! Packet-outs: packets that controllers send, translated with the actions they bring and executed at once.

use super::Slowpath;
use crate::effects::{Payment, Translation};
use crate::flow_mod::Journal;
use crate::recirc::RecircRef;
use crate::udpif::Udpif;
use crate::world::{BridgeId, World};
use crate::xlate::frozen::FrozenState;
use crate::xlate::{XlateIn, translate};
use flow::action::Action;
use flow::extract::{PacketMeta, extract_whole};
use flow::seam::{DpPort, Execute};
use flow::{Key, Msec};
use openflow::OfPort;
use openflow::message::{PacketInPrivate, PacketOut};
use std::sync::Arc;

flow::counters! {
    PACKET_OUT_FAILED = "packet_out_failed", "packet-outs that the datapath refused to execute";
}

/// Stands for "no datapath port".
const NO_DP_PORT: DpPort = DpPort(u32::MAX);

/// A packet-out that has been translated and waits to be sent.
#[derive(Debug)]
pub struct Prepared {
    udpif: Arc<Udpif>,
    packet: Execute,
    recircs: Vec<Arc<RecircRef>>,
    translation: Translation,
    payment: Payment,
}

impl Prepared {
    /// Rules that the packet has taught already, to be told under the world's lock that they were made under, or undone.
    pub(crate) fn take_learned(&mut self) -> Journal {
        std::mem::take(&mut self.translation.learned)
    }

    /// Whether the actions could not be carried out: then nothing is sent.
    pub(crate) fn has_failed(&self) -> bool {
        self.translation.error.is_some()
    }
}

impl Slowpath {
    /// Translates the actions of a packet-out for its packet, as if it had come in by `in_port`, by the rules as they are now.
    /// `None` when the bridge is gone.
    pub(crate) fn prepare_packet_out(
        &self,
        world: &World,
        bridge: BridgeId,
        in_port: OfPort,
        po: &PacketOut,
        now: Msec,
    ) -> Option<Prepared> {
        let b = world.bridges.get(&bridge)?;
        let udpif = self.udpif(&b.kind)?;
        let mut key = Key::ZERO;
        extract_whole(&po.packet, &PacketMeta { vlan_limit: world.tags_seen(), ..PacketMeta::default() }, &mut key);
        // What the message says beside the packet: registers, metadata, tunnel (OpenFlow 1.5 section 7.3.6).
        key.or_with(&Key { in_port: [0; 4], ..po.metadata.key });
        key.in_port = in_port.to_key();
        let input =
            XlateIn { actions: Some(&po.actions), side_effects: true, in_packet_out: true, ..XlateIn::new(bridge, &key, now) };
        let mut translation = translate(world, input);
        let payment = Payment {
            packets: 1,
            bytes: u64::try_from(po.packet.len()).unwrap_or(0),
            used_ms: now,
            tcp_flags: u16::from_be_bytes(key.tcp_flags),
        };
        let dp_port = b.ports.get(&in_port).and_then(|p| p.dp_port).unwrap_or(NO_DP_PORT);
        key.in_port = dp_port.0.to_be_bytes();
        let packet = Execute {
            packet: po.packet.clone(),
            key: Box::new(key),
            actions: Arc::new(std::mem::take(&mut translation.actions)),
            rx_queue: 0,
            mtu: 0,
            probe: false,
        };
        let recircs = std::mem::take(&mut translation.recircs);
        Some(Prepared { udpif, packet, recircs, translation, payment })
    }

    /// Translates what remains to be done with a packet that a controller gives back (NXT_RESUME).
    pub(crate) fn prepare_resume(
        &self,
        world: &World,
        state: &FrozenState,
        packet: &PacketInPrivate,
        now: Msec,
    ) -> Option<Prepared> {
        let b = world.bridges.get(&state.bridge)?;
        let udpif = self.udpif(&b.kind)?;
        let bytes = &packet.public.packet;
        let mut key = Key::ZERO;
        let pipeline = &packet.public.metadata.key;
        let packet_type = u32::from_be_bytes(pipeline.packet_type);
        let meta = PacketMeta { packet_type, vlan_limit: world.tags_seen(), ..PacketMeta::default() };
        extract_whole(bytes, &meta, &mut key);
        key.or_with(&Key { in_port: [0; 4], packet_type: [0; 4], ..*pipeline });
        key.in_port = state.metadata.in_port;
        let input =
            XlateIn { packet: Some(bytes), side_effects: true, resume: Some(state), ..XlateIn::new(state.bridge, &key, now) };
        let mut translation = translate(world, input);
        let payment = Payment {
            packets: 1,
            bytes: u64::try_from(bytes.len()).unwrap_or(0),
            used_ms: now,
            tcp_flags: u16::from_be_bytes(key.tcp_flags),
        };
        key.in_port = packet.odp_port.to_be_bytes();
        let packet = Execute {
            packet: bytes.clone(),
            key: Box::new(key),
            actions: Arc::new(std::mem::take(&mut translation.actions)),
            rx_queue: 0,
            mtu: 0,
            probe: false,
        };
        let recircs = std::mem::take(&mut translation.recircs);
        Some(Prepared { udpif, packet, recircs, translation, payment })
    }

    /// Sends a packet-out and pays for it. Call it without any lock.
    pub(crate) fn send_packet_out(&self, prepared: Option<Prepared>, now: Msec) {
        let Some(Prepared { udpif, packet, recircs, translation, payment }) = prepared else { return };
        {
            let world = self.read_world();
            for credit in &translation.credits {
                credit.pay(&payment, &world);
            }
            for notice in translation.notices {
                world.notices.push(notice);
            }
        }
        let comes_up = Action::any(&packet.actions, |a| a.traits().comes_up);
        if !packet.actions.is_empty() && udpif.dp.execute(vec![packet]).iter().any(Result::is_err) {
            PACKET_OUT_FAILED.inc();
        }
        if comes_up {
            // Packet-ins that it causes are there before whatever is asked for later, by this connection or another.
            udpif.catch_up();
        }
        udpif.linger(recircs, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, config};
    use crate::xlate::frozen::Step;
    use flow::matching::Match;
    use openflow::TableId;
    use openflow::message::{PacketIn, PacketInFormat};
    use openflow::text::{Names, parse_packet_out};

    /// A packet of two tags of which one is looked at has the third in front of both, also when it comes back from a controller.
    #[test]
    fn tags_behind_the_limit_stay() {
        let s = Scenario::new(&crate::config::SwitchConfig { vlan_limit: 1, ..config(&["br0 p1@1"]) });
        let text = "in_port=controller,packet=50540000000350540000000481004014810060140800,actions=push_vlan:0x8100,set_field:4106->vlan_vid,1";
        let (po, _) = parse_packet_out(text, &Names::default()).unwrap();
        let world = s.slowpath.read_world();
        let bridge = world.bridge_named("br0").unwrap();
        let sent = s.slowpath.prepare_packet_out(&world, bridge.id, OfPort::CONTROLLER, &po, 0).unwrap().packet.actions;
        assert!(matches!(&sent[..], [Action::PushVlan { .. }, Action::Output(_)]), "{sent:?}");
        let public = PacketIn {
            packet: po.packet.clone(),
            full_len: 22,
            buffer_id: u32::MAX,
            reason: 1,
            table: TableId(0),
            cookie: 0,
            metadata: Match::default(),
            userdata: Vec::new(),
            continuation: Vec::new(),
            format: PacketInFormat::Nxt2,
        };
        let state = FrozenState {
            bridge: bridge.id,
            table: TableId(0),
            metadata: Key { in_port: OfPort::CONTROLLER.to_key(), ..Key::ZERO },
            written: FrozenState::whole_tunnel(),
            conntracked: false,
            stack: Vec::new(),
            mirrors: 0,
            steps: po.actions.iter().cloned().map(Step::Run).collect(),
            action_set: Vec::new(),
            userdata: Vec::new(),
        };
        let given_back = PacketInPrivate {
            public,
            bridge: bridge.uuid,
            stack: Vec::new(),
            mirrors: 0,
            conntracked: false,
            odp_port: u32::MAX,
            frames: Vec::new(),
            action_set: Vec::new(),
        };
        assert_eq!(s.slowpath.prepare_resume(&world, &state, &given_back, 0).unwrap().packet.actions, sent);
    }
}
