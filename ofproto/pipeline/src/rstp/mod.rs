//! The rapid spanning tree protocol of IEEE 802.1D-2004 (section 17; section numbers here are its), which talks to bridges of the old protocol too.
//!
//! What enters: settings of the bridge and its ports, data units, links, seconds. What leaves: data units to send, the state of each port, ports
//! whose learned addresses are to be forgotten. Neighbours: `protocols` gives it packets and time and makes the ports what it says; `stp::wire`
//! for what both protocols have in common.
//!
//! The standard describes a port by seven state machines over some forty shared variables (`Port`, with the standard's names). `machines` has one
//! function per machine, each a total match over its states that takes at most one transition; `settle` runs them until none of them moves. `roles`
//! has the procedures: what was received, which role each port gets.

mod machines;
mod roles;
mod settings;
mod show;
#[cfg(test)]
mod tests;
mod wire;

pub use settings::{PORT_NUMBER_MAX, PortSettings, Settings};
pub use show::{BridgeStatus, PortStatus, id_text};

use flow::Msec;
use openflow::OfPort;
use std::collections::BTreeMap;
use wire::{Bpdu, Message};

/// Seconds for which a change of protocol is waited for (section 17.13.9).
const MIGRATE_TIME: u16 = 3;
/// Transitions of one event: far more than any takes.
const TRANSITIONS_MAX: usize = 100_000;

/// State of a port, as others see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// It takes no part.
    #[default]
    Disabled,
    Discarding,
    Learning,
    Forwarding,
}

impl State {
    /// As shown and written to the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disabled => "Disabled",
            Self::Discarding => "Discarding",
            Self::Learning => "Learning",
            Self::Forwarding => "Forwarding",
        }
    }
}

/// What a port is to the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Role {
    #[default]
    Disabled,
    Root,
    Designated,
    Alternate,
    Backup,
}

impl Role {
    /// As shown and written to the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disabled => "Disabled",
            Self::Root => "Root",
            Self::Designated => "Designated",
            Self::Alternate => "Alternate",
            Self::Backup => "Backup",
        }
    }
}

/// A priority vector (section 17.6); less is better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Vector {
    pub(crate) root: u64,
    pub(crate) cost: u32,
    pub(crate) bridge: u64,
    pub(crate) port: u16,
}

/// Times in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Times {
    pub(crate) message_age: u16,
    pub(crate) max_age: u16,
    pub(crate) hello: u16,
    pub(crate) forward_delay: u16,
}

/// Where a port's priority comes from (17.19.10).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum InfoIs {
    #[default]
    Disabled,
    Aged,
    Mine,
    Received,
}

/// A port: the standard's variables (17.19) under their own names, timers in seconds (17.17).
#[derive(Clone, Debug, Default)]
struct Port {
    settings: PortSettings,
    number: u16,
    port_enabled: bool,
    // Where each machine stands.
    at: machines::Positions,
    agree: bool,
    agreed: bool,
    designated_priority: Vector,
    designated_times: Times,
    disputed: bool,
    fdb_flush: bool,
    forward: bool,
    forwarding: bool,
    info_is: InfoIs,
    learn: bool,
    learning: bool,
    mcheck: bool,
    new_info: bool,
    oper_edge: bool,
    port_priority: Vector,
    port_times: Times,
    proposed: bool,
    proposing: bool,
    rcvd_bpdu: Option<Bpdu>,
    rcvd_msg: Option<Message>,
    rcvd_rstp: bool,
    rcvd_stp: bool,
    rcvd_tc: bool,
    rcvd_tc_ack: bool,
    rcvd_tcn: bool,
    re_root: bool,
    reselect: bool,
    role: Role,
    selected: bool,
    selected_role: Role,
    send_rstp: bool,
    sync: bool,
    synced: bool,
    tc_ack: bool,
    tc_prop: bool,
    tx_count: u16,
    updt_info: bool,
    edge_delay_while: u16,
    fd_while: u16,
    hello_when: u16,
    mdelay_while: u16,
    rb_while: u16,
    rcvd_info_while: u16,
    rr_while: u16,
    tc_while: u16,
    tx: u64,
    rx: u64,
    errors: u64,
    since_ms: Msec,
}

impl Port {
    fn id(&self) -> u16 {
        self.settings.priority_bits() | self.number
    }

    fn state(&self) -> State {
        match (self.learning, self.forwarding) {
            (true, true) => State::Forwarding,
            (true, false) => State::Learning,
            (false, true | false) => State::Discarding,
        }
    }
}

/// A bridge.
#[derive(Clone, Debug)]
pub struct Rstp {
    name: String,
    settings: Settings,
    root_priority: Vector,
    root_times: Times,
    root_port: Option<OfPort>,
    ports: BTreeMap<OfPort, Port>,
    out: Vec<(OfPort, Vec<u8>)>,
    second_ms: Msec,
}

impl Rstp {
    /// A bridge that thinks itself the root.
    #[must_use]
    pub fn new(name: &str, settings: Settings, now: Msec) -> Self {
        let mut bridge = Self {
            name: name.to_owned(),
            settings,
            root_priority: Vector::default(),
            root_times: Times::default(),
            root_port: None,
            ports: BTreeMap::new(),
            out: Vec::new(),
            second_ms: now,
        };
        bridge.select_roles();
        bridge
    }

    /// Takes up other settings. Another protocol version begins anew (17.13.4).
    pub fn configure(&mut self, settings: Settings) {
        if settings == self.settings {
            return;
        }
        let restart = settings.force_version != self.settings.force_version;
        self.settings = settings;
        for port in self.ports.values_mut() {
            if restart {
                port.at = machines::Positions::default();
            }
            (port.reselect, port.selected) = (true, false);
        }
        self.select_roles();
        self.settle();
    }

    /// Makes the ports those named, each with whether it is operational. A port without a number of its own gets the first that is free.
    pub fn set_ports(&mut self, wanted: &[(OfPort, PortSettings, bool)], now: Msec) {
        let gone: Vec<OfPort> = self.ports.keys().filter(|p| !wanted.iter().any(|(q, ..)| q == *p)).copied().collect();
        for port in gone {
            self.set_enabled(port, false);
            self.ports.remove(&port);
            self.reselect_all();
        }
        for (number, settings, enabled) in wanted {
            let known = self.ports.get(number).map(|p| &p.settings);
            if known != Some(settings) {
                self.set_port(*number, settings, now);
            }
            self.set_enabled(*number, *enabled);
        }
        self.settle();
    }

    fn set_port(&mut self, number: OfPort, settings: &PortSettings, now: Msec) {
        let taken = |n: u16| self.ports.iter().any(|(p, port)| *p != number && port.number == n);
        let wish = settings.number.filter(|n| !taken(*n));
        let before = self.ports.get(&number).map(|p| p.number).filter(|n| *n != 0 && settings.number.is_none());
        let free = || (1..=PORT_NUMBER_MAX).find(|n| !taken(*n)).unwrap_or(PORT_NUMBER_MAX);
        let id = wish.or(before).unwrap_or_else(free);
        let rstp = self.settings.is_rapid();
        let port = self.ports.entry(number).or_insert_with(|| Port { since_ms: now, send_rstp: rstp, ..Port::default() });
        port.mcheck |= settings.mcheck && !port.settings.mcheck;
        if port.designated_times == Times::default() {
            port.designated_times = self.settings.times;
        }
        port.settings = settings.clone();
        port.number = id;
        (port.reselect, port.selected) = (true, false);
    }

    /// The link of a port came up or went away (`MAC_Operational`).
    pub fn set_enabled(&mut self, number: OfPort, operational: bool) {
        let Some(port) = self.ports.get_mut(&number) else { return };
        let enabled = operational && port.settings.admin_state;
        if port.port_enabled != enabled {
            port.port_enabled = enabled;
            self.settle();
        }
    }

    /// A data unit came (what follows the LLC header).
    pub fn receive(&mut self, number: OfPort, bytes: &[u8]) {
        let Some(port) = self.ports.get_mut(&number) else { return };
        match Bpdu::parse(bytes) {
            Ok(bpdu) => {
                port.rx += 1;
                // A message of our own that came back says nothing (section 9.3.4).
                let own = |m: &Message| m.vector.bridge == self.settings.id && m.vector.port == port.id();
                let looped = matches!(&bpdu, Bpdu::Config(m) | Bpdu::Rst(m) if own(m));
                let old = matches!(&bpdu, Bpdu::Config(m) if m.times.message_age >= m.times.max_age);
                if !looped && !old {
                    port.rcvd_bpdu = Some(bpdu);
                    self.settle();
                }
            }
            Err(error) => {
                port.errors += 1;
                tracing::warn!(target: "rstp", "{}: {error}", self.name);
            }
        }
    }

    /// What time brings: a tick for each second that has passed, but no more than one for a leap of time.
    pub fn run(&mut self, now: Msec) {
        if now - self.second_ms < 1000 {
            return;
        }
        self.second_ms = now;
        for port in self.ports.values_mut() {
            let timers = [
                &mut port.edge_delay_while,
                &mut port.fd_while,
                &mut port.hello_when,
                &mut port.mdelay_while,
                &mut port.rb_while,
                &mut port.rcvd_info_while,
                &mut port.rr_while,
                &mut port.tc_while,
                &mut port.tx_count,
            ];
            for timer in timers {
                *timer = timer.saturating_sub(1);
            }
        }
        self.settle();
    }

    /// When `run` has something to do.
    #[must_use]
    pub fn wake_ms(&self) -> Msec {
        if self.ports.is_empty() { Msec::MAX } else { self.second_ms + 1000 }
    }

    /// Data units to send (what follows the LLC header).
    pub fn take_output(&mut self) -> Vec<(OfPort, Vec<u8>)> {
        std::mem::take(&mut self.out)
    }

    /// Ports whose learned addresses are to be forgotten; asked once.
    pub fn take_flushes(&mut self) -> Vec<OfPort> {
        let mut flushes = Vec::new();
        for (number, port) in &mut self.ports {
            if std::mem::take(&mut port.fdb_flush) {
                flushes.push(*number);
            }
        }
        if !flushes.is_empty() {
            self.settle();
        }
        flushes
    }

    /// The state of a port; `None` if it takes no part.
    #[must_use]
    pub fn state(&self, port: OfPort) -> Option<State> {
        self.ports.get(&port).map(Port::state)
    }

    /// `rstp/tcn`: every machine looks again.
    pub fn nudge(&mut self) {
        self.settle();
    }

    fn reselect_all(&mut self) {
        for port in self.ports.values_mut() {
            (port.reselect, port.selected) = (true, false);
        }
    }
}
