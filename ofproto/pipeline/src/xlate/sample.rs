//! sample(...): copies of packets for IPFIX collectors.

use super::Ctx;
use super::export::{NO_PORT, tell_tunnel};
use flow::Action;
use flow::action::Cookie;
use openflow::OfPort;
use openflow::action::Sample;

impl Ctx<'_> {
    /// Sends a copy up with the given probability, if the bridge exports flows at all.
    pub(super) fn sample(&mut self, sample: &Sample) {
        if !self.exports_flows() {
            return;
        }
        let mut output_port = NO_PORT;
        let mut tunnel = None;
        if sample.sampling_port != OfPort::ANY && sample.sampling_port != self.in_port() {
            match self.port(sample.sampling_port).and_then(|p| Some((p.dp_port?, p.tunnel.clone()))) {
                Some((port, config)) => {
                    output_port = port;
                    tunnel = config.filter(|_| self.samples_tunnels());
                }
                None => {
                    let port = sample.sampling_port.0 & 0xffff;
                    self.report_error(format_args!("can't use unknown port {port} in flow sample action"));
                    return;
                }
            }
        }
        self.commit();
        if let Some(config) = &tunnel {
            self.announce_tunnel(config);
        }
        let cookie = Cookie::FlowSample {
            probability: sample.probability,
            collector_set_id: sample.collector_set_id,
            obs_domain_id: sample.obs_domain_id,
            obs_point_id: sample.obs_point_id,
            output_port,
            direction: sample.direction,
        };
        // The same share of 2^32 as the action's is of 2^16.
        let probability = u32::from(sample.probability) << 16 | u32::from(sample.probability);
        let natively = tunnel.is_some() && self.tunnels_natively();
        let mut sample = self.sampling(probability, cookie, natively);
        if tunnel.is_some() {
            tell_tunnel(&mut sample, output_port);
        }
        self.emit(sample);
    }

    fn samples_tunnels(&self) -> bool {
        let exporters = &self.bridge.exporters;
        exporters.ipfix.iter().chain(exporters.flow_ipfix.values()).any(|e| e.lock().config().tunnel_sampling)
    }

    fn exports_flows(&self) -> bool {
        self.bridge.exporters.ipfix.is_some() || !self.bridge.exporters.flow_ipfix.is_empty()
    }
}

/// Whether a datapath action only shows a collector the packet.
pub(super) fn observes(action: &Action) -> bool {
    if let Action::Sample { actions, .. } = action {
        !actions.is_empty() && actions.iter().all(observes)
    } else if let Action::Userspace(up) = action {
        matches!(up.cookie, Cookie::SFlow { .. } | Cookie::FlowSample { .. } | Cookie::Ipfix { .. })
    } else {
        matches!(action, Action::Psample { .. })
    }
}
