//! Flow export in translation: samples for sFlow and IPFIX among the datapath's actions, and the bits and credits of NetFlow.
//!
//! The sFlow sample stands first, but says where the packet goes; so it is written with a cookie that `finish_sflow` corrects.

use super::Ctx;
use crate::bridge::Port;
use crate::effects::Credit;
use crate::export::netflow::{self, FlowKey};
use crate::meter;
use flow::action::{Action, Cookie, Userspace};
use flow::seam::DpPort;
use openflow::OfPort;

/// No datapath port.
pub(super) const NO_PORT: DpPort = DpPort(u32::MAX);
/// sFlow: the packet was dropped, for a reason unknown.
const DROPPED: u32 = 0x4000_0000 | 256;
/// sFlow: so many outputs as the other bits say.
const SEVERAL: u32 = 0x8000_0000;

/// What translation notes for exporters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exports {
    /// Where the sFlow sample stands among the actions.
    sflow_at: Option<usize>,
    /// Outputs so far, and the interface index of the last.
    outputs: u32,
    ifindex: u32,
    /// NetFlow's output interface.
    netflow: u16,
}

impl Ctx<'_> {
    /// Samples of the packet as it came in. Packets that come again have been sampled.
    pub(super) fn sample_input(&mut self) {
        if self.in_port() == OfPort::ANY {
            return;
        }
        if let Some(sflow) = &self.bridge.exporters.sflow {
            let probability = (u32::MAX / sflow.lock().config().sampling.max(1)).max(1);
            let sample = self.sampling(probability, Cookie::SFlow { vlan_tci: 0, output: 0 }, true);
            self.exports.sflow_at = Some(self.actions.len());
            self.emit(sample);
        }
        self.sample_ipfix(NO_PORT);
    }

    /// A sample for the bridge's IPFIX exporter: of what comes in, or of what leaves by `output`.
    pub(super) fn sample_ipfix(&mut self, output: DpPort) {
        let Some(ipfix) = &self.bridge.exporters.ipfix else { return };
        let (wanted, sampling) = {
            let encoder = ipfix.lock();
            let config = encoder.config();
            (if output == NO_PORT { config.input_sampling } else { config.output_sampling }, config.sampling.max(1))
        };
        if wanted {
            let sample = self.sampling(u32::MAX / sampling, Cookie::Ipfix { output_port: output }, false);
            self.emit(sample);
        }
    }

    /// A sample for the bridge's IPFIX exporter of what leaves by a tunnel. It comes before the outer header, and has the actions that
    /// make it along where the datapath makes it.
    pub(super) fn sample_ipfix_tunnel(&mut self, output: DpPort, natively: bool) {
        let Some(ipfix) = &self.bridge.exporters.ipfix else { return };
        let (wanted, tunnels, sampling) = {
            let encoder = ipfix.lock();
            let config = encoder.config();
            (config.output_sampling, config.tunnel_sampling, config.sampling.max(1))
        };
        if wanted {
            let mut sample = self.sampling(u32::MAX / sampling, Cookie::Ipfix { output_port: output }, natively && tunnels);
            if tunnels {
                tell_tunnel(&mut sample, output);
            }
            self.emit(sample);
        }
    }

    /// Sends a share of the packets up, limited by the bridge's meter for the slow path if it has one.
    pub(super) fn sampling(&mut self, probability: u32, cookie: Cookie, actions: bool) -> Action {
        self.deps.object(crate::deps::Object::Meters(self.bridge.id));
        let up = Action::Userspace(Box::new(Userspace { pid: 0, cookie, actions, tunnel_out_port: None }));
        match self.bridge.meters.datapath_id(meter::SLOWPATH) {
            Some(meter) => Action::Sample { probability, actions: vec![Action::Meter(meter), up] },
            None if probability == u32::MAX => up,
            None => Action::Sample { probability, actions: vec![up] },
        }
    }

    /// A packet leaves by a port.
    pub(super) fn note_output(&mut self, port: &Port) {
        self.exports.outputs += 1;
        self.exports.ifindex = port.info.ifindex;
        self.exports.netflow = OfPort::to_key(port.number)[2..].try_into().map_or(0, u16::from_be_bytes);
    }

    /// Runs `output`, and works out NetFlow's output interface from what was known before and what it did.
    pub(super) fn with_netflow_output(&mut self, output: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.exports.netflow, netflow::OUT_DROP);
        output(self);
        self.exports.netflow = match (before, self.exports.netflow) {
            (netflow::OUT_FLOOD, _) => netflow::OUT_FLOOD,
            (_, netflow::OUT_DROP) => before,
            (netflow::OUT_DROP, now) | (_, now @ netflow::OUT_FLOOD) => now,
            (_, _) => netflow::OUT_MULTI,
        };
    }

    /// The packet was flooded.
    pub(super) fn note_flood(&mut self) {
        self.exports.netflow = netflow::OUT_FLOOD;
    }

    /// What is only known at the end.
    pub(super) fn finish_exports(&mut self, origin: &crate::bridge::Bridge) {
        if let Some(at) = self.exports.sflow_at {
            let Exports { outputs, ifindex, .. } = self.exports;
            let output = match (outputs, ifindex) {
                (0, _) => DROPPED,
                (1, index) if index != 0 => index,
                (n, _) => SEVERAL | n,
            };
            let vlan_tci = u16::from_be_bytes(self.base.vlan_tci);
            if let Some(action) = self.actions.get_mut(at) {
                set_cookie(action, &Cookie::SFlow { vlan_tci, output });
            }
        }
        if origin.exporters.netflow.is_some()
            && let Some(key) = FlowKey::of(&self.initial, low16(self.initial.in_port))
        {
            FlowKey::unwildcard(&mut self.mask);
            let key = Box::new(key);
            self.credits.push(Credit::Netflow { bridge: origin.id, key, output: self.exports.netflow });
        }
    }
}

/// The packet goes up with the tunnel that it is about to leave by.
pub(super) fn tell_tunnel(action: &mut Action, port: DpPort) {
    if let Action::Sample { actions, .. } = action {
        actions.iter_mut().for_each(|a| tell_tunnel(a, port));
    } else if let Action::Userspace(up) = action {
        up.tunnel_out_port = Some(port);
    }
}

fn low16([.., a, b]: [u8; 4]) -> u16 {
    u16::from_be_bytes([a, b])
}

fn set_cookie(action: &mut Action, cookie: &Cookie) {
    if let Action::Sample { actions, .. } = action {
        actions.iter_mut().for_each(|a| set_cookie(a, cookie));
    } else if let Action::Userspace(up) = action {
        up.cookie = cookie.clone();
    }
}
