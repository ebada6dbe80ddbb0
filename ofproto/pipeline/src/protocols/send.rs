//! Sending: a protocol's frame leaves by a port as if a controller had sent it there, so that tunnels, patch ports and mirrors see it.

use super::PROTOCOL_SEND_FAILED;
use super::run::Frame;
use crate::effects::{Credit, Payment};
use crate::slowpath::Slowpath;
use crate::xlate::{XlateIn, translate};
use flow::extract::{PacketMeta, extract_whole};
use flow::key::TUN_OAM;
use flow::seam::{DpPort, Execute};
use flow::{Key, Msec};
use openflow::OfPort;
use openflow::action::OfAction;
use std::sync::Arc;

/// Stands for "no datapath port".
const NO_DP_PORT: DpPort = DpPort(u32::MAX);

impl Slowpath {
    /// Sends frames, in order. Call it without any lock.
    pub(super) fn send_frames(&self, frames: Vec<Frame>, now: Msec) {
        for frame in frames {
            self.send_frame(frame, now);
        }
    }

    fn send_frame(&self, frame: Frame, now: Msec) {
        let Frame { bridge, port, bytes, oam } = frame;
        let mut key = Key::ZERO;
        extract_whole(&bytes, &PacketMeta::default(), &mut key);
        key.in_port = OfPort::ANY.to_key();
        if oam {
            key.tun_flags = TUN_OAM.to_be_bytes();
        }
        let world = self.read_world();
        let Some(udpif) = world.bridges.get(&bridge).and_then(|b| self.udpif(&b.kind)) else { return };
        let actions = [OfAction::Output { port, max_len: 0 }];
        let input =
            XlateIn { packet: Some(&bytes), actions: Some(&actions), side_effects: true, ..XlateIn::new(bridge, &key, now) };
        let mut translation = translate(&world, input);
        let payment = Payment { packets: 1, bytes: u64::try_from(bytes.len()).unwrap_or(0), used_ms: now, tcp_flags: 0 };
        translation.credits.iter().for_each(|credit: &Credit| credit.pay(&payment, &world));
        for notice in translation.notices.drain(..) {
            world.notices.push(notice);
        }
        drop(world);
        if !translation.actions.is_empty() {
            key.in_port = NO_DP_PORT.0.to_be_bytes();
            let actions = Arc::new(translation.actions);
            let packet = Execute { packet: bytes, key: Box::new(key), actions, rx_queue: 0, mtu: 0, probe: false };
            if udpif.dp.execute(vec![packet]).iter().any(Result::is_err) {
                PROTOCOL_SEND_FAILED.inc();
            }
        }
        udpif.linger(translation.recircs, now);
    }
}
