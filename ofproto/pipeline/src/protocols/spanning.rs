//! Spanning trees of bridges: which protocol a bridge runs, what it lets ports do, its configuration and its time.

use super::Machines;
use super::run::{Frame, Todo};
use crate::bridge::{Bridge, Port};
use crate::config::{BridgeConfig, PortConfig};
use crate::rstp::{self, Rstp};
use crate::stp::{self, Stp};
use flow::Msec;
use openflow::OfPort;

/// Which spanning tree protocol a bridge runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Spanning {
    #[default]
    None,
    Stp,
    Rstp,
}

/// What spanning tree lets a port do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Gate {
    /// No spanning tree: all.
    #[default]
    Open,
    Stp(stp::State),
    Rstp(rstp::State),
}

impl Gate {
    /// Whether packets may pass. A port of STP whose link is down takes part and forwards nothing.
    #[must_use]
    pub fn forwards(self) -> bool {
        match self {
            Self::Open => true,
            Self::Stp(state) => state == stp::State::Forwarding,
            Self::Rstp(state) => matches!(state, rstp::State::Disabled | rstp::State::Forwarding),
        }
    }

    /// Whether addresses may be learned.
    #[must_use]
    pub fn learns(self) -> bool {
        match self {
            Self::Open => true,
            Self::Stp(state) => matches!(state, stp::State::Disabled | stp::State::Learning | stp::State::Forwarding),
            Self::Rstp(state) => matches!(state, rstp::State::Disabled | rstp::State::Learning | rstp::State::Forwarding),
        }
    }

    /// Whether data units of the protocol leave by the port.
    #[must_use]
    pub fn sends_bpdus(self) -> bool {
        match self {
            Self::Stp(state) => state != stp::State::Blocking,
            Self::Open | Self::Rstp(_) => true,
        }
    }

    /// OFPPS10_STP_* of OpenFlow 1.0: listening 0, learning, forwarding, blocking from bit 8 on.
    #[must_use]
    pub fn openflow_state(self) -> u32 {
        let state = match self {
            Self::Open | Self::Stp(stp::State::Disabled | stp::State::Listening) => 0,
            Self::Rstp(rstp::State::Disabled | rstp::State::Discarding) => 0,
            Self::Stp(stp::State::Learning) | Self::Rstp(rstp::State::Learning) => 1,
            Self::Stp(stp::State::Forwarding) | Self::Rstp(rstp::State::Forwarding) => 2,
            Self::Stp(stp::State::Blocking) => 3,
        };
        state << 8
    }

    /// Protocol and state, as the log has them.
    #[must_use]
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Open => ("STP", stp::State::Disabled.name()),
            Self::Stp(state) => ("STP", state.name()),
            Self::Rstp(state) => ("RSTP", state.name()),
        }
    }
}

/// The ports of a bridge that may take part, with their rows.
fn candidates<'a>(
    bridge: &'a Bridge,
    wanted: &'a BridgeConfig,
    prefix: &'a str,
    protocol: &'a str,
) -> impl Iterator<Item = (&'a Port, &'a PortConfig)> {
    let named = |name: &str| bridge.bundles.values().find(|b| b.name == name);
    wanted.ports.iter().filter_map(move |row| {
        let bundle = named(&row.name)?;
        if !stp::takes_part(row, prefix, protocol, bundle.mirror_out) {
            return None;
        }
        bridge.ports.get(bundle.ports.first()?).map(|port| (port, row))
    })
}

/// Makes the trees those of the configuration. Both at once means the rapid one.
pub(super) fn configure(bridge: &Bridge, wanted: &BridgeConfig, machines: &mut Machines, now: Msec) -> Spanning {
    if wanted.stp && wanted.rstp {
        let name = &wanted.name;
        tracing::warn!(
            target: "bridge", "{name}: RSTP and STP are mutually exclusive but both are configured; enabling RSTP"
        );
    }
    let stp = if wanted.stp && !wanted.rstp { configure_stp(bridge, wanted, machines.stp.take(), now) } else { None };
    let rstp = wanted.rstp.then(|| configure_rstp(bridge, wanted, machines.rstp.take(), now));
    (machines.stp, machines.rstp) = (stp, rstp);
    match (&machines.stp, &machines.rstp) {
        (_, Some(_)) => Spanning::Rstp,
        (Some(_), None) => Spanning::Stp,
        (None, None) => Spanning::None,
    }
}

fn configure_stp(bridge: &Bridge, wanted: &BridgeConfig, old: Option<Stp>, now: Msec) -> Option<Stp> {
    let settings = stp::Settings::read(wanted, bridge.mac);
    let mut numbers = stp::Numbers::default();
    let ports: Vec<(OfPort, stp::PortSettings, bool)> = candidates(bridge, wanted, "stp", "STP")
        .filter_map(|(port, row)| Some((port.number, numbers.read(row, port.info.speed_bps)?, port.is_up())))
        .collect();
    if numbers.are_mixed() {
        let name = &wanted.name;
        tracing::error!(target: "bridge", "bridge {name}: must manually configure all STP port IDs or none, disabling");
        return None;
    }
    let mut stp = old.unwrap_or_else(|| Stp::new(&bridge.name, settings, now));
    stp.configure(settings, now);
    stp.set_ports(&ports, now);
    Some(stp)
}

fn configure_rstp(bridge: &Bridge, wanted: &BridgeConfig, old: Option<Rstp>, now: Msec) -> Rstp {
    let settings = rstp::Settings::read(wanted, bridge.mac);
    let ports: Vec<(OfPort, rstp::PortSettings, bool)> = candidates(bridge, wanted, "rstp", "RSTP")
        .take(usize::from(rstp::PORT_NUMBER_MAX))
        .filter_map(|(port, row)| {
            let settings = rstp::PortSettings::read(row, port.info.speed_bps)?;
            Some((port.number, settings, port.is_up() && port.watch.may_enable))
        })
        .collect();
    let mut rstp = old.unwrap_or_else(|| Rstp::new(&bridge.name, settings, now));
    rstp.configure(settings);
    rstp.set_ports(&ports, now);
    rstp
}

/// What the tree says of a port.
pub(super) fn gate(machines: &Machines, port: OfPort) -> Gate {
    let rapid = machines.rstp.as_ref().and_then(|r| r.state(port)).map(Gate::Rstp);
    let old = || machines.stp.as_ref().and_then(|s| s.state(port)).map(Gate::Stp);
    rapid.or_else(old).unwrap_or_default()
}

/// What links and time bring to the tree of a bridge.
pub(super) fn run(bridge: &Bridge, machines: &mut Machines, now: Msec, todo: &mut Todo) {
    let mut units = Vec::new();
    if let Some(stp) = &mut machines.stp {
        for port in bridge.ports.values() {
            stp.set_link(port.number, port.is_up(), now);
        }
        stp.run(now);
        units = stp.take_output();
        if stp.take_must_flush() {
            todo.flushes.push((bridge.id, None));
        }
    }
    if let Some(rstp) = &mut machines.rstp {
        for port in bridge.ports.values() {
            rstp.set_enabled(port.number, port.is_up() && port.watch.may_enable);
        }
        rstp.run(now);
        let flushes = rstp.take_flushes();
        todo.flushes.extend(flushes.into_iter().map(|port| (bridge.id, Some(port))));
        units = rstp.take_output();
    }
    for (number, bpdu) in units {
        let Some(port) = bridge.ports.get(&number) else { continue };
        let bytes = stp::wire::frame(port.info.mac, &bpdu);
        todo.frames.push(Frame { bridge: bridge.id, port: number, bytes, oam: false });
    }
    for port in bridge.ports.values() {
        let gate = gate(machines, port.number);
        if gate != port.watch.gate {
            todo.gates.push((bridge.id, port.number, gate));
        }
    }
}
