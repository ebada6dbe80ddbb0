//! Requests for the addresses of tunnels' neighbours, sent through the bridge that the neighbour is behind.
//!
//! What enters: requests that translation or a credit has queued (`neigh`). What leaves: frames for the datapath. They enter the bridge as
//! if its port had received them, so its tables decide where they go.

use super::Udpif;
use crate::effects::Payment;
use crate::neigh::Ask;
use crate::world::World;
use crate::xlate::{XlateIn, translate};
use flow::extract::{PacketMeta, extract_whole};
use flow::key::DP_PORT_NONE;
use flow::seam::Execute;
use flow::{Key, Msec};
use openflow::OfPort;
use openflow::action::OfAction;
use std::sync::Arc;

impl Udpif {
    /// Sends the requests that wait for bridges of this datapath. Call it without any lock.
    pub(crate) fn send_asks(&self, now: Msec) {
        let world = self.world.read().expect("no holder of the world panics");
        let ours = |ask: &Ask| world.bridges.get(&ask.bridge).is_none_or(|b| b.kind == self.kind);
        let asks = world.neighbours.take_asks(ours);
        let packets: Vec<Execute> = asks.iter().filter_map(|ask| self.prepare_ask(&world, ask, now)).collect();
        drop(world);
        if !packets.is_empty() {
            for error in self.dp.execute(packets).into_iter().filter_map(Result::err) {
                tracing::debug!(target: "tnl_neigh_cache", "request not sent: {error}");
            }
        }
    }

    fn prepare_ask(&self, world: &World, ask: &Ask, now: Msec) -> Option<Execute> {
        let port = world.bridges.get(&ask.bridge)?.ports.get(&ask.port)?;
        let frame = ask.frame();
        let mut key = Key::ZERO;
        extract_whole(&frame, &PacketMeta::default(), &mut key);
        key.in_port = ask.port.to_key();
        let actions = [OfAction::Output { port: OfPort::TABLE, max_len: 0 }];
        let input =
            XlateIn { actions: Some(&actions), side_effects: true, in_packet_out: true, ..XlateIn::new(ask.bridge, &key, now) };
        let mut translation = translate(world, input);
        std::mem::take(&mut translation.learned).commit(world);
        let bytes = u64::try_from(frame.len()).unwrap_or(0);
        let payment = Payment { packets: 1, bytes, used_ms: now, tcp_flags: 0 };
        super::upcall::pay(&translation.credits, &payment, world);
        for notice in translation.notices.drain(..) {
            world.notices.push(notice);
        }
        self.linger(std::mem::take(&mut translation.recircs), now);
        key.in_port = port.dp_port.map_or(DP_PORT_NONE, |p| p.0.to_be_bytes());
        (!translation.actions.is_empty()).then(|| Execute {
            packet: frame,
            key: Box::new(key),
            actions: Arc::new(translation.actions),
            rx_queue: 0,
            mtu: 0,
            probe: false,
        })
    }
}
