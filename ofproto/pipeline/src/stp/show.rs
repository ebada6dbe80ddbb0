//! `stp/show`, and what the database is told.

use super::{Role, State, Stp, Times};
use crate::options::mac_text;
use flow::Msec;
use openflow::OfPort;
use std::fmt::Write;

/// `Bridge.status`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BridgeStatus {
    pub bridge_id: u64,
    pub designated_root: u64,
    pub root_path_cost: u32,
}

/// `Port.status` and `Port.statistics`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PortStatus {
    pub port_id: u16,
    pub state: State,
    pub seconds_in_state: u64,
    pub role: &'static str,
    pub tx: u64,
    pub rx: u64,
    pub errors: u64,
}

/// `PPPP.MMMMMMMMMMMM`
#[must_use]
pub fn id_text(id: u64) -> String {
    format!("{:04x}.{:012x}", id >> 48, id & 0xffff_ffff_ffff)
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Designated => "designated",
            Self::Alternate => "alternate",
            Self::Disabled => "disabled",
        }
    }
}

impl Stp {
    /// What a port is to the tree.
    #[must_use]
    pub fn role(&self, number: OfPort) -> Role {
        match self.ports.get(&number) {
            _ if self.root_port == Some(number) => Role::Root,
            Some(port) if port.state == State::Disabled => Role::Disabled,
            None => Role::Disabled,
            Some(_) if self.is_designated(number) => Role::Designated,
            Some(_) => Role::Alternate,
        }
    }

    /// The bridge's status.
    #[must_use]
    pub fn status(&self) -> BridgeStatus {
        BridgeStatus { bridge_id: self.settings.id, designated_root: self.root, root_path_cost: self.root_cost }
    }

    /// A port's status; `None` if it takes no part.
    #[must_use]
    pub fn port_status(&self, number: OfPort, now: Msec) -> Option<PortStatus> {
        let port = self.ports.get(&number)?;
        Some(PortStatus {
            port_id: port.settings.id(),
            state: port.state,
            seconds_in_state: u64::try_from((now - port.state_since_ms) / 1000).unwrap_or(0),
            role: self.role(number).name(),
            tx: port.tx,
            rx: port.rx,
            errors: port.errors,
        })
    }

    /// The lines of `stp/show`.
    #[must_use]
    pub fn details(&self) -> String {
        let mut out = format!("---- {} ----\nRoot ID:\n", self.name);
        out += &bridge_lines(self.root, &self.settings.times);
        match self.root_port.and_then(|p| self.ports.get(&p)) {
            None => out += "  This bridge is the root\n",
            Some(port) => {
                out += &format!("  root-port       {}\n", port.settings.name);
                out += &format!("  root-path-cost  {}\n", self.root_cost);
            }
        }
        out += "\nBridge ID:\n";
        out += &bridge_lines(self.settings.id, &self.times);
        out.push('\n');
        writeln!(out, "  {:<11}{:<11}{:<11}{:<6}{:<8}", "Interface", "Role", "State", "Cost", "Pri.Nbr")
            .expect("a String takes everything");
        out += "  ---------- ---------- ---------- ----- -------\n";
        let mut ports: Vec<_> = self.ports.iter().filter(|(_, p)| p.state != State::Disabled).collect();
        ports.sort_by_key(|(_, p)| p.settings.number);
        for (number, port) in ports {
            let settings = &port.settings;
            let (role, state) = (self.role(*number).name(), port.state.name());
            let (cost, priority, index) = (settings.path_cost, settings.priority, settings.number);
            writeln!(out, "  {:<11.10}{role:<11.10}{state:<11.10}{cost:<6}{priority}.{index}", settings.name)
                .expect("a String takes everything");
        }
        out.push('\n');
        out
    }
}

fn bridge_lines(id: u64, times: &Times) -> String {
    let [_, _, mac @ ..] = id.to_be_bytes();
    [
        format!("  stp-priority  {}\n", id >> 48),
        format!("  stp-system-id   {}\n", mac_text(mac)),
        format!("  stp-hello-time  {}s\n", times.hello_ms / 1000),
        format!("  stp-max-age     {}s\n", times.max_age_ms / 1000),
        format!("  stp-fwd-delay   {}s\n", times.forward_delay_ms / 1000),
    ]
    .concat()
}
