//! The spanning tree protocol of IEEE 802.1D-1998 (section 8; section numbers here are its).
//!
//! What enters: the bridge's and its ports' settings, data units, links, time. What leaves: data units to send, the state of each port,
//! whether what was learned is to be forgotten. Neighbours: `protocols` gives it packets and time and makes the ports what it says.
//!
//! Every port knows the best configuration heard on its segment (its *designated* vector: root, cost, bridge, port; less is better). The port that
//! leads to the best root is the root port; a port whose segment has nothing better than what we would say is designated; all others block.
//! A port on its way to forwarding listens and learns for a forward delay each.

mod settings;
mod show;
#[cfg(test)]
mod tests;
pub mod wire;

pub use settings::{Numbers, PORTS_MAX, PortSettings, Settings};
pub(crate) use settings::{system_id, takes_part};
pub use show::{BridgeStatus, PortStatus, id_text};

use flow::Msec;
use openflow::OfPort;
use std::collections::BTreeMap;
use wire::{Bpdu, Config};

/// Least time between two configurations by one port (table 8-5).
const HOLD_MS: Msec = 1000;
/// What a bridge adds to the age of what it passes on.
const AGE_STEP: u16 = 1;

/// State of a port (section 8.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    #[default]
    Disabled,
    Blocking,
    Listening,
    Learning,
    Forwarding,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Disabled, Self::Blocking, Self::Listening, Self::Learning, Self::Forwarding];

    /// As shown and written to the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Blocking => "blocking",
            Self::Listening => "listening",
            Self::Learning => "learning",
            Self::Forwarding => "forwarding",
        }
    }
}

/// What a port is to the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Root,
    Designated,
    Alternate,
    Disabled,
}

/// What happens to a port's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// It is root port or designated.
    Chosen,
    /// It is neither.
    NotChosen,
    /// The forward delay is over.
    DelayOver,
}

/// The states of a port that takes part (figure 8-3).
#[must_use]
pub fn next(state: State, event: Event) -> State {
    use State::{Blocking, Disabled, Forwarding, Learning, Listening};
    match (state, event) {
        (Disabled, Event::Chosen | Event::NotChosen | Event::DelayOver) => Disabled,
        (Blocking, Event::Chosen) => Listening,
        (Listening | Learning | Forwarding, Event::Chosen) => state,
        (Blocking | Listening | Learning | Forwarding, Event::NotChosen) | (Blocking, Event::DelayOver) => Blocking,
        (Listening, Event::DelayOver) => Learning,
        (Learning | Forwarding, Event::DelayOver) => Forwarding,
    }
}

/// The best configuration of a segment; less is better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct Vector {
    root: u64,
    cost: u32,
    bridge: u64,
    port: u16,
}

/// Times that the root decides, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    pub max_age_ms: Msec,
    pub hello_ms: Msec,
    pub forward_delay_ms: Msec,
}

#[derive(Clone, Debug)]
struct Port {
    settings: PortSettings,
    state: State,
    state_since_ms: Msec,
    designated: Vector,
    /// When what was heard was fresh at the root; `None`: nothing is heard.
    heard_ms: Option<Msec>,
    delay_ms: Option<Msec>,
    hold_ms: Option<Msec>,
    must_acknowledge: bool,
    pending: bool,
    tx: u64,
    rx: u64,
    errors: u64,
}

/// A bridge.
#[derive(Clone, Debug)]
pub struct Stp {
    name: String,
    settings: Settings,
    times: Times,
    root: u64,
    root_cost: u32,
    root_port: Option<OfPort>,
    change_detected: bool,
    change: bool,
    hello_ms: Option<Msec>,
    notify_ms: Option<Msec>,
    change_ms: Option<Msec>,
    ports: BTreeMap<OfPort, Port>,
    must_flush: bool,
    out: Vec<(OfPort, Vec<u8>)>,
}

impl Stp {
    /// A bridge that thinks itself the root.
    #[must_use]
    pub fn new(name: &str, settings: Settings, now: Msec) -> Self {
        Self {
            name: name.to_owned(),
            times: settings.times,
            root: settings.id,
            root_cost: 0,
            root_port: None,
            change_detected: false,
            change: false,
            hello_ms: Some(now),
            notify_ms: None,
            change_ms: None,
            ports: BTreeMap::new(),
            must_flush: false,
            out: Vec::new(),
            settings,
        }
    }

    /// Takes up other settings (section 8.8.4 for the identifier).
    pub fn configure(&mut self, settings: Settings, now: Msec) {
        if settings == self.settings {
            return;
        }
        let was_root = self.is_root();
        let old = std::mem::replace(&mut self.settings, settings);
        if old.id != settings.id {
            for port in self.ports.values_mut().filter(|p| p.designated.bridge == old.id) {
                port.designated.bridge = settings.id;
            }
            self.reconsider(now);
            self.after_election(was_root, now);
        }
        if self.is_root() {
            self.times = settings.times;
        }
    }

    /// Makes the ports those named, each with whether its link is up.
    pub fn set_ports(&mut self, wanted: &[(OfPort, PortSettings, bool)], now: Msec) {
        let gone: Vec<OfPort> = self.ports.keys().filter(|p| !wanted.iter().any(|(q, ..)| q == *p)).copied().collect();
        for port in gone {
            self.set_link(port, false, now);
            self.ports.remove(&port);
        }
        for (number, settings, up) in wanted {
            let mine = self.own_vector(settings.id());
            let port = self.ports.entry(*number).or_insert_with(|| Port::new(settings.clone(), mine, now));
            if port.settings != *settings {
                let renumbered = port.settings.id() != settings.id();
                if renumbered && port.designated.bridge == self.settings.id {
                    port.designated.port = settings.id();
                }
                port.settings = settings.clone();
                self.reconsider(now);
            }
            self.set_link(*number, *up, now);
        }
    }

    /// The link of a port came up or went away (sections 8.8.2 and 8.8.3).
    pub fn set_link(&mut self, number: OfPort, up: bool, now: Msec) {
        let Some(port) = self.ports.get(&number) else { return };
        if up == (port.state != State::Disabled) {
            return;
        }
        let was_root = self.is_root();
        let mine = self.own_vector(port.settings.id());
        if let Some(port) = self.ports.get_mut(&number) {
            port.designated = mine;
            (port.heard_ms, port.delay_ms, port.hold_ms) = (None, None, None);
            (port.must_acknowledge, port.pending) = (false, false);
            port.enter(if up { State::Blocking } else { State::Disabled }, now);
        }
        self.reconsider(now);
        self.after_election(was_root, now);
    }

    /// A data unit came (what follows the LLC header).
    pub fn receive(&mut self, number: OfPort, bytes: &[u8], now: Msec) {
        let Some(port) = self.ports.get_mut(&number).filter(|p| p.state != State::Disabled) else { return };
        match Bpdu::parse(bytes) {
            Ok(Bpdu::Config(config)) => {
                port.rx += 1;
                self.receive_config(number, &config, now);
            }
            Ok(Bpdu::TopologyChange) => {
                port.rx += 1;
                if self.is_designated(number) {
                    self.detect_change(now);
                    if let Some(port) = self.ports.get_mut(&number) {
                        port.must_acknowledge = true;
                    }
                    self.send_config(number, now);
                }
            }
            Err(error) => {
                port.errors += 1;
                tracing::warn!(target: "stp", "{}: {error}", self.name);
            }
        }
    }

    /// Section 8.7.1.
    fn receive_config(&mut self, number: OfPort, config: &Config, now: Msec) {
        if config.message_age >= config.max_age {
            return;
        }
        let was_root = self.is_root();
        let Some(port) = self.ports.get_mut(&number) else { return };
        let told = Vector { root: config.root, cost: config.cost, bridge: config.bridge, port: config.port };
        // The same bridge may also correct itself for the worse.
        let same_sender = told.bridge != self.settings.id
            && (told.root, told.cost, told.bridge) == (port.designated.root, port.designated.cost, port.designated.bridge);
        if told > port.designated && !same_sender {
            if self.is_designated(number) {
                self.send_config(number, now);
            }
            return;
        }
        port.designated = told;
        port.heard_ms = Some(now - Msec::from(config.message_age) * 1000 / 256);
        self.reconsider(now);
        if was_root && !self.is_root() {
            self.hello_ms = None;
            if self.change_detected {
                self.change_ms = None;
                self.notify_root();
                self.notify_ms = Some(now);
            }
        }
        if self.root_port == Some(number) {
            let ms = |ticks: u16| Msec::from(ticks) * 1000 / 256;
            self.times =
                Times { max_age_ms: ms(config.max_age), hello_ms: ms(config.hello), forward_delay_ms: ms(config.forward_delay) };
            self.change = config.topology_change;
            self.send_configs(now);
            if config.acknowledges {
                self.change_detected = false;
                self.notify_ms = None;
            }
            self.must_flush |= config.topology_change;
        }
    }

    /// What time brings.
    pub fn run(&mut self, now: Msec) {
        let over = |since: Option<Msec>, ms: Msec| since.is_some_and(|s| now >= s + ms);
        if over(self.hello_ms, self.times.hello_ms) {
            self.hello_ms = Some(now);
            self.send_configs(now);
        }
        if over(self.notify_ms, self.settings.times.hello_ms) {
            self.notify_ms = Some(now);
            self.notify_root();
        }
        if over(self.change_ms, self.times.max_age_ms + self.times.forward_delay_ms) {
            self.change_ms = None;
            (self.change_detected, self.change) = (false, false);
        }
        let numbers: Vec<OfPort> = self.ports.keys().copied().collect();
        for number in &numbers {
            if over(self.ports[number].heard_ms, self.times.max_age_ms) {
                self.forget(*number, now);
            }
        }
        for number in numbers {
            if over(self.ports[&number].delay_ms, self.times.forward_delay_ms) {
                self.end_delay(number, now);
            }
            let Some(port) = self.ports.get_mut(&number) else { continue };
            if over(port.hold_ms, HOLD_MS) {
                port.hold_ms = None;
                if port.pending {
                    self.send_config(number, now);
                }
            }
        }
    }

    /// When `run` has something to do.
    #[must_use]
    pub fn wake_ms(&self) -> Msec {
        let after = |since: Option<Msec>, ms: Msec| since.map(|s| s + ms);
        let Times { max_age_ms, hello_ms, forward_delay_ms } = self.times;
        let bridge = [
            after(self.hello_ms, hello_ms),
            after(self.notify_ms, self.settings.times.hello_ms),
            after(self.change_ms, max_age_ms + forward_delay_ms),
        ];
        let ports = self
            .ports
            .values()
            .flat_map(|p| [after(p.heard_ms, max_age_ms), after(p.delay_ms, forward_delay_ms), after(p.hold_ms, HOLD_MS)]);
        bridge.into_iter().chain(ports).flatten().min().unwrap_or(Msec::MAX)
    }

    /// Data units to send (what follows the LLC header).
    pub fn take_output(&mut self) -> Vec<(OfPort, Vec<u8>)> {
        std::mem::take(&mut self.out)
    }

    /// Whether what was learned is to be forgotten; asked once.
    pub fn take_must_flush(&mut self) -> bool {
        std::mem::take(&mut self.must_flush)
    }

    /// The state of a port; `None` if it takes no part.
    #[must_use]
    pub fn state(&self, port: OfPort) -> Option<State> {
        self.ports.get(&port).map(|p| p.state)
    }

    /// `stp/tcn`, and what the tree finds by itself (section 8.6.14).
    pub fn detect_change(&mut self, now: Msec) {
        if self.is_root() {
            self.change = true;
            self.change_ms = Some(now);
        } else if !self.change_detected {
            self.notify_root();
            self.notify_ms = Some(now);
        }
        self.must_flush = true;
        self.change_detected = true;
        tracing::info!(target: "stp", "{}: detected topology change.", self.name);
    }

    fn is_root(&self) -> bool {
        self.root == self.settings.id
    }

    fn is_designated(&self, number: OfPort) -> bool {
        self.ports.get(&number).is_some_and(|p| (p.designated.bridge, p.designated.port) == (self.settings.id, p.settings.id()))
    }

    /// What we would say on a segment.
    fn own_vector(&self, port: u16) -> Vector {
        Vector { root: self.root, cost: self.root_cost, bridge: self.settings.id, port }
    }

    /// What was heard on a port has grown too old (section 8.7.5): it is ours until somebody says better.
    fn forget(&mut self, number: OfPort, now: Msec) {
        let was_root = self.is_root();
        let Some(port) = self.ports.get(&number) else { return };
        let mine = self.own_vector(port.settings.id());
        if let Some(port) = self.ports.get_mut(&number) {
            port.designated = mine;
            port.heard_ms = None;
        }
        self.reconsider(now);
        self.after_election(was_root, now);
    }

    fn end_delay(&mut self, number: OfPort, now: Msec) {
        let Some(port) = self.ports.get_mut(&number) else { return };
        port.delay_ms = None;
        let state = next(port.state, Event::DelayOver);
        port.enter(state, now);
        match state {
            State::Learning => port.delay_ms = Some(now),
            State::Forwarding if self.ports.values().any(|p| p.designated.bridge == self.settings.id) => {
                self.detect_change(now);
            }
            State::Forwarding | State::Disabled | State::Blocking | State::Listening => {}
        }
    }

    /// Section 8.6.7 (root and designated ports) and 8.6.11 (states).
    fn reconsider(&mut self, now: Msec) {
        self.elect_root();
        self.elect_designated();
        let numbers: Vec<OfPort> = self.ports.keys().copied().collect();
        let mut lost_path = false;
        for number in numbers {
            let (designated, root) = (self.is_designated(number), self.root_port == Some(number));
            let Some(port) = self.ports.get_mut(&number) else { continue };
            if designated && !root {
                port.heard_ms = None;
            } else {
                (port.pending, port.must_acknowledge) = (false, false);
            }
            let before = port.state;
            let state = next(before, if root || designated { Event::Chosen } else { Event::NotChosen });
            if state != before {
                port.enter(state, now);
                port.delay_ms = (state == State::Listening).then_some(now);
                lost_path |= matches!(before, State::Learning | State::Forwarding);
            }
        }
        if lost_path {
            self.detect_change(now);
        }
    }

    fn elect_root(&mut self) {
        let offers = self.ports.iter().filter(|(number, p)| {
            p.state != State::Disabled && !self.is_designated(**number) && p.designated.root < self.settings.id
        });
        let cost = |p: &Port| p.designated.cost.saturating_add(p.settings.path_cost.into());
        let best =
            offers.min_by_key(|(_, p)| (p.designated.root, cost(p), p.designated.bridge, p.designated.port, p.settings.id()));
        let elected = best.map(|(number, p)| (*number, p.designated.root, cost(p)));
        self.root_port = elected.map(|(number, ..)| number);
        (self.root, self.root_cost) = elected.map_or((self.settings.id, 0), |(_, root, cost)| (root, cost));
    }

    fn elect_designated(&mut self) {
        let numbers: Vec<OfPort> = self.ports.keys().copied().collect();
        for number in numbers {
            let mine = self.own_vector(self.ports[&number].settings.id());
            let designated = self.is_designated(number);
            let Some(port) = self.ports.get_mut(&number).filter(|p| p.state != State::Disabled) else { continue };
            let theirs = port.designated;
            if designated || theirs.root != mine.root || mine <= theirs {
                port.designated = mine;
            }
        }
    }

    /// The root has gone and we are it (section 8.7.5, 8.8.3).
    fn after_election(&mut self, was_root: bool, now: Msec) {
        if was_root || !self.is_root() {
            return;
        }
        self.times = self.settings.times;
        self.detect_change(now);
        self.notify_ms = None;
        self.send_configs(now);
        self.hello_ms = Some(now);
    }

    fn send_configs(&mut self, now: Msec) {
        let numbers: Vec<OfPort> = self.ports.keys().copied().filter(|n| self.is_designated(*n)).collect();
        for number in numbers {
            self.send_config(number, now);
        }
    }

    /// Section 8.6.1.
    fn send_config(&mut self, number: OfPort, now: Msec) {
        let ticks = |ms: Msec| u16::try_from(ms * 256 / 1000).unwrap_or(u16::MAX);
        let age = match self.root_port {
            None => 0,
            Some(root) => {
                let heard = self.ports.get(&root).and_then(|p| p.heard_ms);
                ticks(heard.map_or(0, |h| now - h)).saturating_add(AGE_STEP)
            }
        };
        let Some(port) = self.ports.get_mut(&number).filter(|p| p.state != State::Disabled) else { return };
        if port.hold_ms.is_some() {
            port.pending = true;
            return;
        }
        if age >= ticks(self.times.max_age_ms) {
            return;
        }
        let config = Config {
            topology_change: self.change,
            acknowledges: std::mem::take(&mut port.must_acknowledge),
            root: self.root,
            cost: self.root_cost,
            bridge: self.settings.id,
            port: port.settings.id(),
            message_age: age,
            max_age: ticks(self.times.max_age_ms),
            hello: ticks(self.times.hello_ms),
            forward_delay: ticks(self.times.forward_delay_ms),
        };
        port.pending = false;
        port.hold_ms = Some(now);
        port.tx += 1;
        self.out.push((number, Bpdu::Config(config).bytes()));
    }

    /// Tells the bridge towards the root (section 8.6.6).
    fn notify_root(&mut self) {
        if let Some(number) = self.root_port
            && let Some(port) = self.ports.get_mut(&number)
        {
            port.tx += 1;
            self.out.push((number, Bpdu::TopologyChange.bytes()));
        }
    }
}

impl Port {
    fn new(settings: PortSettings, designated: Vector, now: Msec) -> Self {
        Self {
            settings,
            state: State::Disabled,
            state_since_ms: now,
            designated,
            heard_ms: None,
            delay_ms: None,
            hold_ms: None,
            must_acknowledge: false,
            pending: false,
            tx: 0,
            rx: 0,
            errors: 0,
        }
    }

    fn enter(&mut self, state: State, now: Msec) {
        if state != self.state {
            self.state = state;
            self.state_since_ms = now;
        }
    }
}
