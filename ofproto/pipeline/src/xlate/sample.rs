//! sample(...): copies of packets for IPFIX collectors.

use super::Ctx;
use super::export::{NO_PORT, tell_tunnel};
use flow::Action;
use flow::action::Cookie;
use openflow::OfPort;
use openflow::action::{Sample, Subfield};

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
            obs_domain_id: self.observed(sample.obs_domain_id, sample.obs_domain_src),
            obs_point_id: self.observed(sample.obs_point_id, sample.obs_point_src),
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

    /// A number of the action, or the bits of the field that stands for it.
    fn observed(&mut self, number: u32, source: Option<Subfield>) -> u32 {
        source.map_or(number, |part| u32::try_from(self.read(part) & u128::from(u32::MAX)).expect("masked to 32 bits"))
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

#[cfg(test)]
mod tests {
    use crate::config::IpfixConfig;
    use crate::scenario::{Scenario, config};

    const PACKET: &str = "in_port(2),ct_label(0x1234567890abcdef1234567890abcdef),eth(src=50:54:00:00:00:09,dst=50:54:00:00:00:0a),\
                          eth_type(0x0800),ipv4(src=10.10.10.2,dst=10.10.10.1,proto=1,tos=1,ttl=128,frag=no),icmp(type=8,code=0)";

    fn switch(explicit_drops: bool) -> Scenario {
        let collector = IpfixConfig {
            targets: Vec::new(),
            sampling: 1,
            obs_domain_id: 0,
            obs_point_id: 0,
            cache_active_timeout_s: 0,
            cache_max_flows: 2,
            stats_interval_s: 600,
            template_interval_s: 600,
            input_sampling: false,
            output_sampling: false,
            tunnel_sampling: false,
            virtual_obs_id: None,
        };
        let mut config = config(&["br0 p1@1 p2@2"]);
        config.bridges[0].flow_ipfix = vec![(1, collector)];
        config.explicit_sampled_drops = explicit_drops;
        Scenario::new(&config)
    }

    /// Mask and actions.
    fn trace(s: &Scenario, flow: &str) -> String {
        s.flow_mod("br0", flow).unwrap();
        let said = s.run_command("ofproto/trace", &["ovs-dummy", PACKET]).unwrap();
        said.lines().filter(|l| l.starts_with("Megaflow:") || l.starts_with("Datapath actions:")).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn bits_of_fields_name_the_point() {
        let flow = "in_port=2,ip,actions=sample(probability=65535,collector_set_id=1,obs_domain_id=NXM_OF_IN_PORT[],\
                    obs_point_id=NXM_NX_CT_LABEL[10..14]),output:1";
        assert_eq!(
            trace(&switch(false), flow),
            "Megaflow: recirc_id=0,ct_label=0x4c00/0x7c00,eth,ip,in_port=2,nw_frag=no\n\
             Datapath actions: userspace(pid=0,flow_sample(probability=65535,collector_set_id=1,obs_domain_id=2,obs_point_id=19,\
             output_port=4294967295)),1"
        );
    }

    #[test]
    fn a_drop_after_a_sample_is_said_where_that_is_wanted() {
        let sample = "userspace(pid=0,flow_sample(probability=65535,collector_set_id=1,obs_domain_id=0,obs_point_id=0,output_port=4294967295))";
        let flow = "in_port=2,ip,actions=sample(probability=65535,collector_set_id=1)";
        let actions = |s: &Scenario, flow| trace(s, flow).split_once("actions: ").unwrap().1.to_owned();
        assert_eq!(actions(&switch(false), flow), sample);
        assert_eq!(actions(&switch(true), flow), format!("{sample},drop"));
        assert_eq!(actions(&switch(true), &format!("{flow},output:1")), format!("{sample},1"));
    }
}
