//! Translation as `udpif` asks for it: packets, megaflows to check, and packets that a controller is to have.

use super::{XlateIn, match_vlan, translate};
use crate::effects::{Notice, PacketInNotice, Translation};
use crate::udpif::{Purpose, Request, Translator};
use crate::world::World;
use flow::Msec;
use flow::action::Cookie;
use flow::seam::{Upcall, UpcallKind};
use std::sync::Arc;

/// The real translator.
#[derive(Debug, Default)]
pub struct Xlate;

impl Translator for Xlate {
    fn translate(&self, request: Request<'_>) -> Translation {
        let input = XlateIn {
            packet: request.packet,
            side_effects: request.purpose == Purpose::Packet,
            asks_others: request.purpose == Purpose::Packet,
            ..XlateIn::new(request.bridge, request.key, request.now)
        };
        let mut translation = translate(request.world, input);
        match_vlan(&mut translation.mask, request.key);
        translation
    }

    /// The frozen state tells what the pipeline knew when the packet was sent up.
    fn controller(&self, world: &World, upcall: &Upcall, _now: Msec) -> Option<Notice> {
        let UpcallKind::Action(Cookie::Controller {
            recirc_id,
            reason,
            rule_cookie,
            controller_id,
            max_len,
            dont_send,
            continuation,
            ..
        }) = &upcall.kind
        else {
            return None;
        };
        if *dont_send {
            return None;
        }
        let held = world.recircs.find(*recirc_id)?;
        let state = &held.state;
        let mut key = *upcall.key;
        if let Some(bridge) = world.bridges.get(&state.bridge) {
            bridge.tunnel_options.from_wire(&mut key);
        }
        if !state.conntracked {
            // What `ct` said is for who goes on after it alone.
            super::freeze::forget_connection(&mut key);
        }
        state.restore(&mut key);
        Some(Notice::PacketIn(Box::new(PacketInNotice {
            bridge: state.bridge,
            packet: upcall.packet.clone(),
            full_len: upcall.full_len,
            reason: *reason,
            table: state.table,
            cookie: *rule_cookie,
            key: Box::new(key),
            controller_id: *controller_id,
            max_len: *max_len,
            userdata: state.userdata.clone(),
            continuation: continuation.then(|| Arc::clone(state)),
            odp_port: u32::from_be_bytes(upcall.key.in_port),
        })))
    }
}
