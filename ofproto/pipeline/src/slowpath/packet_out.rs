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
        extract_whole(&po.packet, &PacketMeta::default(), &mut key);
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
        extract_whole(
            bytes,
            &PacketMeta { packet_type: u32::from_be_bytes(pipeline.packet_type), ..PacketMeta::default() },
            &mut key,
        );
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
