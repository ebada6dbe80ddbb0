//! Ports while they live: what the datapath reports of them, and what OpenFlow changes (port-mod).

use super::Slowpath;
use super::apply::{changed_view, port_changed};
use crate::bridge::port_config;
use crate::effects::Notice;
use crate::udpif::Udpif;
use crate::world::{BridgeId, World};
use flow::seam::{DpEvent, DpPort, PortInfo};
use openflow::OfPort;

const REASON_MODIFY: u8 = 2;
/// The bits that a port-mod may change.
const CHANGEABLE: u32 =
    port_config::PORT_DOWN | port_config::NO_RECV | port_config::NO_FLOOD | port_config::NO_FWD | port_config::NO_PACKET_IN;

impl Slowpath {
    /// Takes the datapaths' events: links, MACs, devices that go and come back.
    pub(super) fn follow_ports(&self) {
        for udpif in self.udpifs() {
            for event in udpif.dp.events() {
                match event {
                    DpEvent::PortChanged(port) => self.follow_port(&udpif, port),
                    // The configuration still wants it: it stays, without a link, until it is taken out or comes back.
                    DpEvent::PortRemoved(port) => {
                        let info = PortInfo { vanished: true, ..self.last_info(udpif.kind(), port) };
                        refresh_port(&mut self.write_world(), udpif.kind(), port, info);
                    }
                }
            }
        }
    }

    /// Takes up what the datapath says of a port now.
    pub(super) fn follow_port(&self, udpif: &Udpif, port: DpPort) {
        if let Ok(info) = udpif.dp.port(port) {
            refresh_port(&mut self.write_world(), udpif.kind(), port, info);
        }
    }

    fn last_info(&self, kind: &str, port: DpPort) -> PortInfo {
        let world = self.read_world();
        let at = world.port_of(kind, port);
        at.and_then(|(bridge, number)| world.bridges.get(&bridge)?.ports.get(&number)).map(|p| p.info.clone()).unwrap_or_default()
    }
}

/// Takes up what a datapath says of a port, records the change and tells the connections.
fn refresh_port(world: &mut World, kind: &str, dp_port: DpPort, info: PortInfo) {
    let Some((id, number)) = world.port_of(kind, dp_port) else { return };
    let Some(port) = world.bridges.get_mut(&id).and_then(|b| b.ports.get_mut(&number)) else { return };
    let before = port.view();
    port.info = info;
    port.refresh_state();
    if let Some(view) = changed_view(&before, port) {
        port_changed(world, id, number);
        world.notices.push(Notice::PortStatus { bridge: id, reason: REASON_MODIFY, port: view });
    }
    world.wake.note_news();
    world.wake.wake();
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
    /// OFPT_PORT_MOD: changes the `mask` bits of a port's configuration (OpenFlow 1.3 section 7.3.4.3). The connections are told
    /// when something has changed. Administrative state goes through to the device.
    pub fn port_mod(
        &mut self,
        bridge: BridgeId,
        number: OfPort,
        mac: [u8; 6],
        config: u32,
        mask: u32,
    ) -> Result<(), PortModError> {
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
        port.config ^= toggled;
        port.refresh_state();
        let view = changed_view(&before, port);
        b.refresh_floodable();
        if let Some(view) = view {
            port_changed(self, bridge, number);
            self.notices.push(Notice::PortStatus { bridge, reason: REASON_MODIFY, port: view });
        }
        Ok(())
    }
}
