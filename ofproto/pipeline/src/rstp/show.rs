//! `rstp/show`, and what the database is told.

use super::{Role, Rstp, State, Times};
use crate::options::mac_text;
use flow::Msec;
use openflow::OfPort;
use std::fmt::Write;

/// `Bridge.rstp_status`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BridgeStatus {
    pub bridge_id: u64,
    pub root_path_cost: u32,
    pub root_id: u64,
    pub designated_id: u64,
    pub designated_port_id: u16,
    pub bridge_port_id: u16,
}

/// `Port.rstp_status` and `Port.rstp_statistics`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PortStatus {
    pub port_id: u16,
    pub role: Role,
    pub state: State,
    pub designated_bridge_id: u64,
    pub designated_port_id: u16,
    pub designated_path_cost: u32,
    pub tx: u64,
    pub rx: u64,
    pub errors: u64,
    pub uptime_s: u64,
}

/// `P.SSS.MMMMMMMMMMMM`: priority, system id extension, MAC.
#[must_use]
pub fn id_text(id: u64) -> String {
    format!("{:x}.{:03x}.{:012x}", id >> 60, id >> 48 & 0xfff, id & 0xffff_ffff_ffff)
}

impl Rstp {
    /// The bridge's status.
    #[must_use]
    pub fn status(&self) -> BridgeStatus {
        BridgeStatus {
            bridge_id: self.settings.id,
            root_path_cost: self.root_priority.cost,
            root_id: self.root_priority.root,
            designated_id: self.root_priority.bridge,
            designated_port_id: self.root_priority.port,
            bridge_port_id: self.root_port.and_then(|p| self.ports.get(&p)).map_or(0, |p| p.id()),
        }
    }

    /// A port's status; `None` if it takes no part.
    #[must_use]
    pub fn port_status(&self, number: OfPort, now: Msec) -> Option<PortStatus> {
        let port = self.ports.get(&number)?;
        Some(PortStatus {
            port_id: port.id(),
            role: port.role,
            state: port.state(),
            designated_bridge_id: port.port_priority.bridge,
            designated_port_id: port.port_priority.port,
            designated_path_cost: port.port_priority.cost,
            tx: port.tx,
            rx: port.rx,
            errors: port.errors,
            uptime_s: u64::try_from((now - port.since_ms) / 1000).unwrap_or(0),
        })
    }

    /// The lines of `rstp/show`.
    #[must_use]
    pub fn details(&self) -> String {
        let mut out = format!("---- {} ----\nRoot ID:\n", self.name);
        match self.root_port.and_then(|p| self.ports.get(&p)) {
            None => {
                out += &bridge_lines(self.settings.id, &self.settings.times);
                out += "  This bridge is the root\n";
            }
            Some(port) => {
                out += &bridge_lines(self.root_priority.root, &port.designated_times);
                out += &format!("  root-port       {}\n", port.settings.name);
                out += &format!("  root-path-cost  {}\n", self.root_priority.cost);
            }
        }
        out += "\nBridge ID:\n";
        out += &bridge_lines(self.settings.id, &self.settings.times);
        out.push('\n');
        writeln!(out, "  {:<11}{:<11}{:<11}{:<9}{:<8}", "Interface", "Role", "State", "Cost", "Pri.Nbr")
            .expect("a String takes everything");
        out += "  ---------- ---------- ---------- -------- -------\n";
        let mut ports: Vec<_> = self.ports.values().collect();
        ports.sort_by_key(|p| p.number);
        for port in ports {
            let (role, state) = (port.role.name(), port.state().name());
            let (cost, priority, number) = (port.settings.path_cost, port.settings.priority, port.number);
            writeln!(out, "  {:<11.10}{role:<11.10}{state:<11.10}{cost:<9}{priority}.{number}", port.settings.name)
                .expect("a String takes everything");
        }
        out.push('\n');
        out
    }
}

fn bridge_lines(id: u64, times: &Times) -> String {
    let [_, _, mac @ ..] = id.to_be_bytes();
    [
        format!("  stp-priority    {}\n", id >> 48),
        format!("  stp-system-id   {}\n", mac_text(mac)),
        format!("  stp-hello-time  {}s\n", times.hello),
        format!("  stp-max-age     {}s\n", times.max_age),
        format!("  stp-fwd-delay   {}s\n", times.forward_delay),
    ]
    .concat()
}
