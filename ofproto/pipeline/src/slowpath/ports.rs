//! Ports while they live: what the datapath reports of them, and what OpenFlow changes (port-mod).

use super::Slowpath;
use super::apply::{changed_view, port_changed};
use crate::bridge::{Port, PortView, port_config, port_state};
use crate::effects::Notice;
use crate::udpif::Udpif;
use crate::world::{BridgeId, World};
use flow::seam::{Datapath, DpEvent, DpPort, PortInfo};
use openflow::message::PortMod;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const REASON_MODIFY: u8 = 2;
/// The bits that a port-mod may change.
const CHANGEABLE: u32 =
    port_config::PORT_DOWN | port_config::NO_RECV | port_config::NO_FLOOD | port_config::NO_FWD | port_config::NO_PACKET_IN;

impl Slowpath {
    /// Takes what the datapaths see when they look at all ports: what workers have found out, devices that come back.
    pub(super) fn look_at_ports(&self) {
        self.follow_ports(|dp| dp.events());
    }

    /// Takes what the kernel has told the datapaths of devices: links, MACs, MTUs, devices that go and come back.
    pub(super) fn hear_of_ports(&self) {
        self.follow_ports(|dp| dp.heard());
    }

    fn follow_ports(&self, events: impl Fn(&dyn Datapath) -> Vec<DpEvent>) {
        for udpif in self.udpifs() {
            for event in events(udpif.dp.as_ref()) {
                self.mtus_due.store(true, Ordering::Release);
                match event {
                    DpEvent::PortChanged(port) => self.follow_port(&udpif, port),
                    DpEvent::PathMtu(to, mtu) => self.note_path_mtu(to, mtu),
                    // The configuration still wants it: it stays, without a link, until it is taken out or comes back.
                    DpEvent::PortRemoved(port) => {
                        let info = PortInfo { vanished: true, ..self.last_info(udpif.kind(), port) };
                        refresh_port(&mut self.write_world(), udpif.kind(), port, info);
                    }
                }
            }
        }
        self.follow_mtus_if_due();
    }

    /// Takes up what the datapath says of a port now.
    pub(super) fn follow_port(&self, udpif: &Udpif, port: DpPort) {
        let _following = self.following.lock().expect("no holder panics");
        if let Ok(info) = udpif.dp.port(port) {
            refresh_port(&mut self.write_world(), udpif.kind(), port, info);
        }
    }

    /// The same for ports that were told of before they were in the world.
    pub(super) fn follow_strangers(&self) {
        let strangers = std::mem::take(&mut self.write_world().strangers);
        for (kind, port) in strangers {
            if let Some(udpif) = self.udpif(&kind) {
                self.follow_port(&udpif, port);
            }
        }
    }

    /// Opens a port of a dummy datapath anew under another number (`dpif-dummy/change-port-number`); its OpenFlow number stays.
    ///
    /// # Errors
    /// In OVS's words.
    pub fn change_port_number(&self, datapath: &str, name: &str, number: u32) -> Result<(), String> {
        let is_meant = |u: &Arc<Udpif>| u.kind() == "dummy" && u.dp.name() == datapath;
        let udpif = self.udpifs().into_iter().find(is_meant).ok_or("unknown datapath or not a dummy")?;
        let ports = udpif.dp.ports();
        let old = ports.iter().find(|p| p.name == name).map(|p| p.number).ok_or("unknown port")?;
        if number == 0 || number == u32::MAX {
            return Err("bad port number".to_owned());
        }
        if ports.iter().any(|p| p.number.0 == number) {
            return Err("port number already in use".to_owned());
        }
        let ofport = self.read_world().port_of(udpif.kind(), old).map(|(_, ofport)| ofport);
        let mut config = self.lock_applied().config.clone();
        let bridges = config.bridges.iter_mut().filter(|b| b.datapath_type == udpif.kind());
        let mut interfaces = bridges.flat_map(|b| &mut b.ports).flat_map(|p| &mut p.interfaces);
        let interface = interfaces.find(|i| i.name == name).ok_or("unknown port")?;
        interface.device.number = Some(DpPort(number));
        interface.ofport_before = ofport.and_then(|p| u16::try_from(p.0).ok());
        udpif.dp.port_del(old).map_err(|e| e.to_string())?;
        self.forget_port(udpif.dp.as_ref(), old);
        self.configure(&config);
        Ok(())
    }

    fn last_info(&self, kind: &str, port: DpPort) -> PortInfo {
        let world = self.read_world();
        let at = world.port_of(kind, port);
        at.and_then(|(bridge, number)| world.bridges.get(&bridge)?.ports.get(&number)).map(|p| p.info.clone()).unwrap_or_default()
    }
}

/// Takes up what a datapath says of a port, records the change and tells the connections.
fn refresh_port(world: &mut World, kind: &str, dp_port: DpPort, info: PortInfo) {
    let Some((id, number)) = world.port_of(kind, dp_port) else {
        // It may be on its way into the world.
        world.strangers.insert((kind.to_owned(), dp_port));
        return;
    };
    let Some(port) = world.bridges.get_mut(&id).and_then(|b| b.ports.get_mut(&number)) else { return };
    let before = port.view();
    port.info = info;
    port.refresh_state();
    if let Some(notice) = modified(id, before, port, 0) {
        port_changed(world, id, number);
        world.notices.push(notice);
    }
    world.wake.note_news();
    world.wake.wake();
}

/// What is told of a port that was `before` and is now otherwise.
pub(crate) fn modified(bridge: BridgeId, before: PortView, port: &Port, by: u64) -> Option<Notice> {
    let port = changed_view(&before, port)?;
    Some(Notice::PortStatus { bridge, reason: REASON_MODIFY, port, before: Some(Box::new(before)), by })
}

/// Why a port-mod is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortModError {
    /// OFPPMFC_BAD_PORT
    #[error("no such port")]
    BadPort,
    /// OFPPMFC_BAD_HW_ADDR
    #[error("hardware address is not that of the port")]
    BadHwAddr,
}

impl World {
    /// OFPT_PORT_MOD: changes the `mask` bits of a port's configuration (OpenFlow 1.3 section 7.3.4.3). The connections are told of
    /// what it changed, apart from the one that asked (`by`), and then of what became of the link. Administrative state goes through
    /// to the device.
    pub fn port_mod(&mut self, bridge: BridgeId, pm: &PortMod, by: u64) -> Result<(), PortModError> {
        let PortMod { port: number, hw_addr: mac, config, mask, .. } = *pm;
        let b = self.bridges.get_mut(&bridge).ok_or(PortModError::BadPort)?;
        let kind = b.kind.clone();
        let port = b.ports.get_mut(&number).ok_or(PortModError::BadPort)?;
        if port.info.mac != mac {
            return Err(PortModError::BadHwAddr);
        }
        let before = port.view();
        let toggled = (port.config ^ config) & mask & CHANGEABLE;
        if toggled & port_config::PORT_DOWN != 0 {
            let up = config & port_config::PORT_DOWN == 0;
            if let (Some(dp_port), Some(backend)) = (port.dp_port, self.backends.get(&kind)) {
                match backend.dp.port_set_up(dp_port, up) {
                    Ok(()) => port.info.admin_up = up,
                    Err(error) => {
                        tracing::warn!(target: "ofproto", "{}: failed to change administrative state: {error}", port.name)
                    }
                }
            } else {
                port.info.admin_up = up;
            }
        }
        let state_before = port.state;
        port.config ^= toggled;
        port.refresh_state();
        // The connections hear of what was asked first, and then of what became of the link.
        let state = std::mem::replace(&mut port.state, state_before);
        if port.config & port_config::PORT_DOWN != 0 {
            port.state &= !port_state::LIVE;
        }
        let asked = modified(bridge, before, port, by);
        let between = port.view();
        port.state = state;
        let followed = modified(bridge, between, port, 0);
        b.refresh_floodable();
        if asked.is_some() || followed.is_some() {
            port_changed(self, bridge, number);
        }
        for notice in asked.into_iter().chain(followed) {
            self.notices.push(notice);
        }
        Ok(())
    }
}
