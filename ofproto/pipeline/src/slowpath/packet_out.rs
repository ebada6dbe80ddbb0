//! Packet-outs: packets that controllers send, translated with the actions they bring and executed at once.

use super::Slowpath;
use crate::effects::Payment;
use crate::world::BridgeId;
use crate::xlate::{XlateIn, translate};
use flow::extract::{PacketMeta, extract_whole};
use flow::seam::{DpPort, Execute};
use flow::{Key, Msec};
use openflow::OfPort;
use openflow::message::PacketOut;
use std::sync::Arc;

flow::counters! {
    PACKET_OUT_FAILED = "packet_out_failed", "packet-outs that the datapath refused to execute";
}

/// Stands for "no datapath port".
const NO_DP_PORT: DpPort = DpPort(u32::MAX);

impl Slowpath {
    /// Runs the actions of a packet-out on its packet, as if it had come in by `in_port`.
    pub fn packet_out(&self, bridge: BridgeId, in_port: OfPort, po: &PacketOut, now: Msec) {
        let world = self.read_world();
        let Some(b) = world.bridges.get(&bridge) else { return };
        let Some(backend) = world.backend(bridge) else { return };
        let dp_port = b.ports.get(&in_port).and_then(|p| p.dp_port).unwrap_or(NO_DP_PORT);
        let mut key = Key::ZERO;
        extract_whole(&po.packet, &PacketMeta::default(), &mut key);
        // What the message says beside the packet: registers, metadata, tunnel (OpenFlow 1.5 section 7.3.6).
        key.or_with(&Key { in_port: [0; 4], ..po.metadata.key });
        key.in_port = in_port.to_key();
        let input = XlateIn { actions: Some(&po.actions), side_effects: true, in_packet_out: true, ..XlateIn::new(bridge, &key, now) };
        let translation = translate(&world, input);
        let bytes = u64::try_from(po.packet.len()).unwrap_or(0);
        let tcp_flags = u16::from_be_bytes(key.tcp_flags);
        let payment = Payment { packets: 1, bytes, used_ms: now, tcp_flags };
        for credit in &translation.credits {
            credit.pay(&payment, &world);
        }
        for notice in translation.notices {
            world.notices.push(notice);
        }
        if translation.actions.is_empty() {
            return;
        }
        key.in_port = dp_port.0.to_be_bytes();
        let packet = Execute {
            packet: po.packet.clone(),
            key: Box::new(key),
            actions: Arc::new(translation.actions),
            mtu: 0,
            probe: false,
        };
        let dp = Arc::clone(&backend.dp);
        let kind = b.kind.clone();
        drop(world);
        if dp.execute(vec![packet]).iter().any(Result::is_err) {
            PACKET_OUT_FAILED.inc();
        }
        if let Some(udpif) = self.udpif(&kind) {
            udpif.linger(translation.recircs, now);
        }
    }
}
