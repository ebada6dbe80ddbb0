//! A switch in memory for tests of this room: interfaces get the number they wish for or the next one, those named `bad...` fail.

use super::room::Switch;
use super::status::Report;
use flow::seam::{PortInfo, PortStats};
use ofproto::config::{BridgeStatus, InterfaceStatus, SwitchConfig};

/// What was configured last, and how often.
#[derive(Debug, Default)]
pub struct MemorySwitch {
    pub config: SwitchConfig,
    pub configured: usize,
    /// How often it was asked what came of it, and what it has for `news`.
    pub reports: usize,
    pub news: u64,
}

impl Switch for MemorySwitch {
    fn configure(&mut self, config: &SwitchConfig) {
        self.config = config.clone();
        self.configured += 1;
    }

    fn report(&mut self, counted: &dyn Fn(&str) -> bool) -> Report {
        self.reports += 1;
        let mut report = Report::default();
        for bridge in &self.config.bridges {
            report.bridges.push(BridgeStatus {
                name: bridge.name.clone(),
                datapath_id: bridge.datapath_id.unwrap_or(7),
                datapath_version: "<built-in>".into(),
                ..BridgeStatus::default()
            });
            for (at, interface) in bridge.ports.iter().flat_map(|p| &p.interfaces).enumerate() {
                let error = interface.name.starts_with("bad").then(|| format!("could not open {}", interface.name));
                let next = u16::try_from(at + 1).unwrap_or(u16::MAX);
                let ofport = if interface.name == bridge.name { 65534 } else { interface.ofport_request.unwrap_or(next) };
                report.interfaces.push(InterfaceStatus {
                    bridge: bridge.name.clone(),
                    name: interface.name.clone(),
                    ofport: error.is_none().then_some(ofport),
                    error,
                    info: Some(PortInfo {
                        name: interface.name.clone(),
                        kind: interface.device.kind.clone(),
                        ..PortInfo::default()
                    }),
                    stats: counted(&interface.name).then(PortStats::default),
                    ..InterfaceStatus::default()
                });
            }
        }
        report
    }

    fn news(&self) -> u64 {
        self.news
    }

    fn datapath_types(&self) -> Vec<String> {
        vec!["netdev".into()]
    }

    fn interface_types(&self) -> Vec<String> {
        vec!["internal".into(), "system".into()]
    }

    fn host_statistics(&self) -> Vec<(String, String)> {
        vec![("load_average".into(), "0.50,0.40,0.30".into())]
    }
}
