//! Bidirectional Forwarding Detection (RFC 5880) over single hops and tunnels (RFC 5881), asynchronous mode, with what OVS adds:
//! decay of the receive interval on idle links, forwarding by mere traffic, a flap count.
//!
//! What enters: settings, control packets, counters of the port, time. What leaves: control packets to send, whether the port may
//! forward, text. Neighbours: `protocols` gives it packets and time; nothing here reads a clock or sends anything.
//!
//! The session's state follows a table (`next`); everything else is timers. A change of intervals while the session is up is
//! negotiated by a poll sequence (section 6.5): P is sent until F comes back, then the new intervals hold.

mod settings;
mod show;
#[cfg(test)]
mod tests;
pub mod wire;

pub use settings::{Filter, Settings};

use crate::protocols::jitter::Jitter;
use flow::Msec;
use wire::{Addresses, Message, flags};

/// Control packets are sent no faster than this unless the session is up (section 6.8.3).
const SLOW_TX_MS: Msec = 1000;
/// Least time over which traffic is watched, for decay and for `forwarding_if_rx`.
const WATCH_MS: Msec = 2000;
/// A control packet has to come within this many receive intervals for traffic to count as a sign of life.
const DEMAND_INTERVALS: Msec = 100;

/// Session state, in the order of the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum State {
    AdminDown,
    Down,
    Init,
    Up,
}

impl State {
    /// All of them, by number on the wire.
    pub const ALL: [Self; 4] = [Self::AdminDown, Self::Down, Self::Init, Self::Up];

    fn from_bits(bits: u8) -> Self {
        Self::ALL[usize::from(bits & 3)]
    }

    fn bits(self) -> u8 {
        self as u8
    }

    /// As shown and written to the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AdminDown => "admin_down",
            Self::Down => "down",
            Self::Init => "init",
            Self::Up => "up",
        }
    }

    /// More than down: something is heard.
    fn is_alive(self) -> bool {
        self >= Self::Init
    }
}

/// A diagnostic code (section 4.1): why the session was last not up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Diag(pub u8);

impl Diag {
    pub const NONE: Self = Self(0);
    pub const EXPIRED: Self = Self(1);
    pub const NEIGHBOR_DOWN: Self = Self(3);
    pub const PATH_DOWN: Self = Self(5);
    pub const CONCATENATED_PATH_DOWN: Self = Self(6);
    pub const REVERSE_CONCATENATED_PATH_DOWN: Self = Self(8);

    /// The standard's words.
    #[must_use]
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 9] = [
            "No Diagnostic",
            "Control Detection Time Expired",
            "Echo Function Failed",
            "Neighbor Signaled Session Down",
            "Forwarding Plane Reset",
            "Path Down",
            "Concatenated Path Down",
            "Administratively Down",
            "Reverse Concatenated Path Down",
        ];
        NAMES.get(usize::from(self.0)).copied().unwrap_or("Invalid Diagnostic")
    }
}

/// What a received state does to ours (section 6.8.6): the new state, with the diagnostic if it has one of its own.
#[must_use]
pub fn next(local: State, remote: State) -> (State, Option<Diag>) {
    use State::{AdminDown, Down, Init, Up};
    match (local, remote) {
        (AdminDown, AdminDown | Down | Init | Up) => (AdminDown, None),
        (Down, AdminDown | Up) => (Down, None),
        (Down, Down) => (Init, None),
        (Down | Init, Init) | (Init, Up) | (Up, Init | Up) => (Up, None),
        (Init, Down) => (Init, None),
        (Init | Up, AdminDown) | (Up, Down) => (Down, Some(Diag::NEIGHBOR_DOWN)),
    }
}

/// What the other end last said.
#[derive(Clone, Copy, Debug)]
struct Remote {
    state: State,
    diag: Diag,
    flags: u8,
    disc: u32,
    min_rx_ms: Msec,
    min_tx_ms: Msec,
}

impl Remote {
    /// Nothing heard (section 6.8.1).
    const SILENT: Self = Self { state: State::Down, diag: Diag::NONE, flags: 0, disc: 0, min_rx_ms: 1, min_tx_ms: 0 };
}

/// Decay: on a link without traffic the receive interval is stretched.
#[derive(Clone, Copy, Debug, Default)]
struct Decay {
    active: bool,
    /// Control packets since the last check.
    control_packets: u64,
    /// The port's packets at the last check.
    rx_packets: u64,
    check_ms: Msec,
}

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    name: String,
    settings: Settings,
    disc: u32,
    udp_src: u16,
    state: State,
    diag: Diag,
    flags: u8,
    remote: Remote,
    remote_mult: u8,
    min_tx_ms: Msec,
    min_rx_ms: Msec,
    /// Intervals that the poll sequence under way negotiates.
    poll_ms: (Msec, Msec),
    last_tx_ms: Msec,
    next_tx_ms: Msec,
    detect_ms: Msec,
    decay: Decay,
    /// Until when traffic that was received counts as forwarding, and until when that may be believed.
    traffic_until_ms: Msec,
    demand_until_ms: Msec,
    /// As of when `forwarding` is right.
    judged_ms: Msec,
    forwarding: bool,
    forwarding_override: Option<bool>,
    flap_count: u64,
    changed: bool,
    jitter: Jitter,
}

impl Session {
    /// A session that is down. `disc` is not 0 and no other session's; `udp_src` is within 49152..=65535 (RFC 5881 section 4).
    #[must_use]
    pub fn new(name: &str, settings: Settings, disc: u32, udp_src: u16) -> Self {
        let session = Self {
            name: name.to_owned(),
            disc,
            udp_src,
            state: State::Down,
            diag: if settings.cpath_down { Diag::CONCATENATED_PATH_DOWN } else { Diag::NONE },
            flags: 0,
            remote: Remote::SILENT,
            remote_mult: 0,
            min_tx_ms: settings.min_tx_ms,
            min_rx_ms: settings.min_rx_ms,
            poll_ms: (0, 0),
            last_tx_ms: 0,
            next_tx_ms: 0,
            detect_ms: 0,
            decay: Decay::default(),
            traffic_until_ms: 0,
            demand_until_ms: 0,
            judged_ms: 0,
            forwarding: false,
            forwarding_override: None,
            flap_count: 0,
            changed: true,
            jitter: Jitter::new(disc),
            settings,
        };
        session.warn_of_decay();
        session
    }

    fn warn_of_decay(&self) {
        if self.settings.is_decay_refused() {
            let (name, min_rx_ms) = (&self.name, self.settings.min_rx_ms);
            tracing::warn!(target: "bfd", "{name}: decay_min_rx cannot be less than {min_rx_ms} ms");
        }
    }

    /// Takes up other settings. `rx_packets`: what the port has received so far.
    pub fn configure(&mut self, settings: Settings, rx_packets: u64, now: Msec) {
        if settings == self.settings {
            return;
        }
        let old = std::mem::replace(&mut self.settings, settings);
        let new = self.settings.clone();
        let (up, polling) = (self.state == State::Up, self.is_polling());
        let mut poll = false;
        if old.min_tx_ms != new.min_tx_ms {
            // Faster at once; slower only when the other end knows (section 6.8.3).
            if !up || !polling && new.min_tx_ms < self.min_tx_ms {
                self.min_tx_ms = new.min_tx_ms;
            }
            poll = true;
        }
        if old.min_rx_ms != new.min_rx_ms {
            if !up || !polling && new.min_rx_ms > self.min_rx_ms {
                self.min_rx_ms = new.min_rx_ms;
            }
            poll = true;
        }
        if old.decay_min_rx_ms != new.decay_min_rx_ms || old.min_rx_ms != new.min_rx_ms {
            self.warn_of_decay();
        }
        if old.decay_ms() != new.decay_ms() || old.min_rx_ms != new.min_rx_ms {
            self.decay.active = false;
            self.watch_for_decay(rx_packets, now);
            poll = true;
        }
        if old.cpath_down != new.cpath_down {
            self.set_state(self.state, Diag::NONE, rx_packets, now);
            poll = true;
        }
        if old.forwarding_if_rx != new.forwarding_if_rx || up && new.forwarding_if_rx && old.mult != new.mult {
            self.traffic_until_ms = 0;
            if up && new.forwarding_if_rx {
                self.extend_traffic(now);
            }
        }
        if poll {
            self.start_poll();
        }
        self.judge(now);
    }

    /// A control packet came. `rx_packets` as above.
    pub fn receive(&mut self, message: &Message, rx_packets: u64, now: Msec) {
        self.judge(now);
        if message.your_disc != 0 && message.your_disc != self.disc {
            tracing::debug!(target: "bfd", "{}: Incorrect your_disc.", self.name);
            return;
        }
        self.note(message, now);
        let (state, diag) = next(self.state, message.state);
        self.set_state(state, diag.unwrap_or(self.diag), rx_packets, now);
        if self.settings.forwarding_if_rx {
            self.demand_until_ms = now + DEMAND_INTERVALS * self.settings.min_rx_ms;
        }
        self.judge(now);
    }

    /// A packet to the session's port that is none of its control packets, or a broken one; it counts towards decay.
    pub fn count_control_packet(&mut self) {
        self.decay.control_packets += 1;
    }

    /// Takes down what the other end says of itself.
    fn note(&mut self, message: &Message, now: Msec) {
        self.changed |= self.remote.state != message.state;
        if message.flags & flags::FINAL != 0 && self.is_polling() {
            (self.min_tx_ms, self.min_rx_ms) = self.poll_ms;
            self.flags &= !flags::POLL;
        }
        if message.flags & flags::POLL != 0 {
            // Answered at once; P and F never stand together (section 6.5).
            self.flags = self.flags & !flags::POLL | flags::FINAL;
        }
        if self.remote_mult != message.mult {
            let (name, old, new) = (&self.name, self.remote_mult, message.mult);
            tracing::info!(target: "bfd", "Interface {name} remote mult value {old} changed to {new}");
            self.remote_mult = new;
        }
        let min_rx_ms = Msec::from(message.min_rx_us / 1000).max(1);
        let slower = self.remote.min_rx_ms != min_rx_ms;
        self.remote = Remote {
            state: message.state,
            diag: message.diag,
            flags: message.flags,
            disc: message.my_disc,
            min_rx_ms,
            min_tx_ms: Msec::from(message.min_tx_us / 1000).max(1),
        };
        if slower && self.next_tx_ms != 0 {
            self.schedule_tx();
        }
        self.detect_ms = now + self.rx_interval_ms() * Msec::from(self.remote_mult);
    }

    /// Traffic came in by the port.
    pub fn account_rx(&mut self, now: Msec) {
        if self.settings.forwarding_if_rx {
            self.judge(now);
            self.extend_traffic(now);
            self.judge(now);
        }
    }

    /// What time brings. `rx_packets` is asked for only when it matters.
    pub fn run(&mut self, rx_packets: impl Fn() -> u64, now: Msec) {
        let was_decayed = self.decay.active;
        if self.state.is_alive() && now >= self.detect_ms {
            self.set_state(State::Down, Diag::EXPIRED, 0, now);
        }
        self.judge(now);
        if self.state == State::Up && self.settings.decay_ms() > 0 && now >= self.decay.check_ms {
            let packets = rx_packets();
            // Counters come late: the session's own packets are allowed for twice.
            let own = 2 * self.decay.control_packets.max(1);
            self.decay.active = packets.saturating_sub(self.decay.rx_packets) <= own;
            self.watch_for_decay(packets, now);
        }
        let wanted_rx = [self.settings.min_rx_ms, self.settings.decay_ms()].contains(&self.min_rx_ms);
        if self.min_tx_ms != self.settings.min_tx_ms || !wanted_rx || self.decay.active != was_decayed {
            self.start_poll();
        }
    }

    /// The control packet that is due, as a frame; `eth_src` is the port's MAC.
    pub fn transmit(&mut self, eth_src: [u8; 6], now: Msec) -> Option<Vec<u8>> {
        if self.flags & flags::FINAL == 0 && now < self.next_tx_ms {
            return None;
        }
        let (min_tx, min_rx) = if self.is_polling() { self.poll_ms } else { (self.tx_floor_ms(), self.min_rx_ms) };
        let micros = |ms: Msec| u32::try_from(ms.saturating_mul(1000)).unwrap_or(u32::MAX);
        let message = Message {
            diag: self.diag,
            state: self.state,
            flags: self.flags,
            mult: self.settings.mult,
            my_disc: self.disc,
            your_disc: self.remote.disc,
            min_tx_us: micros(min_tx),
            min_rx_us: micros(min_rx),
        };
        let addresses = Addresses {
            eth_src: self.settings.local_src_mac.unwrap_or(eth_src),
            eth_dst: self.settings.local_dst_mac,
            ip_src: self.settings.src_ip,
            ip_dst: self.settings.dst_ip,
            udp_src: self.udp_src,
        };
        self.flags &= !flags::FINAL;
        self.last_tx_ms = now;
        self.schedule_tx();
        Some(wire::frame(&addresses, &message))
    }

    /// When `transmit` or `run` has something to do.
    #[must_use]
    pub fn wake_ms(&self) -> Msec {
        match () {
            () if self.flags & flags::FINAL != 0 => 0,
            () if self.state.is_alive() => self.next_tx_ms.min(self.detect_ms),
            () => self.next_tx_ms,
        }
    }

    /// Whether the port may forward.
    pub fn is_forwarding(&mut self, now: Msec) -> bool {
        self.judge(now);
        self.forwarding_override.unwrap_or(self.forwarding)
    }

    /// `bfd/set-forwarding`; `None` is "normal".
    pub fn override_forwarding(&mut self, forwarding: Option<bool>) {
        self.forwarding_override = forwarding;
        self.changed = true;
    }

    /// Whether anything that the database tells of has changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Whether anything has changed since the last `take_changed`.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.changed
    }

    /// The session's settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Works out anew whether the port forwards, and counts changes (not while it is overridden).
    fn judge(&mut self, now: Msec) {
        // Credits for traffic come late; what has run out by now stays so.
        self.judged_ms = self.judged_ms.max(now);
        let now = self.judged_ms;
        if self.forwarding_override.is_some() {
            return;
        }
        let by_traffic = self.settings.forwarding_if_rx && self.traffic_until_ms > now && self.demand_until_ms > now;
        let path_down = [Diag::PATH_DOWN, Diag::CONCATENATED_PATH_DOWN, Diag::REVERSE_CONCATENATED_PATH_DOWN];
        let forwarding = (self.state == State::Up || by_traffic) && !path_down.contains(&self.remote.diag);
        if forwarding != self.forwarding {
            self.forwarding = forwarding;
            self.flap_count += 1;
            self.changed = true;
        }
    }

    fn set_state(&mut self, state: State, diag: Diag, rx_packets: u64, now: Msec) {
        let diag = if self.settings.cpath_down { Diag::CONCATENATED_PATH_DOWN } else { diag };
        if (state, diag) == (self.state, self.diag) {
            return;
        }
        let (old, old_diag) = (self.state.name(), self.diag.name());
        tracing::info!(
            target: "bfd", "{}: BFD state change: {old}->{} \"{old_diag}\"->\"{}\".", self.name, state.name(), diag.name()
        );
        (self.state, self.diag) = (state, diag);
        if !state.is_alive() {
            self.remote = Remote::SILENT;
            if std::mem::take(&mut self.decay.active) {
                self.min_rx_ms = self.settings.min_rx_ms;
            }
        }
        if state == State::Up && self.settings.decay_ms() != 0 {
            self.watch_for_decay(rx_packets, now);
        }
        self.changed = true;
    }

    fn is_polling(&self) -> bool {
        self.flags & flags::POLL != 0
    }

    fn start_poll(&mut self) {
        if self.state.is_alive() && self.flags & (flags::POLL | flags::FINAL) == 0 {
            let min_rx = if self.decay.active { self.settings.decay_ms() } else { self.settings.min_rx_ms };
            self.poll_ms = (self.settings.min_tx_ms, min_rx);
            self.flags |= flags::POLL;
            self.next_tx_ms = 0;
        }
    }

    fn watch_for_decay(&mut self, rx_packets: u64, now: Msec) {
        let check_ms = now + self.settings.decay_ms().max(WATCH_MS);
        self.decay = Decay { control_packets: 0, rx_packets, check_ms, ..self.decay };
    }

    fn extend_traffic(&mut self, now: Msec) {
        let until = now + (self.rx_interval_ms() * Msec::from(self.settings.mult)).max(WATCH_MS);
        self.traffic_until_ms = self.traffic_until_ms.max(until);
    }

    /// bfd.DesiredMinTxInterval
    fn tx_floor_ms(&self) -> Msec {
        if self.state == State::Up { self.min_tx_ms } else { self.min_tx_ms.max(SLOW_TX_MS) }
    }

    fn tx_interval_ms(&self) -> Msec {
        self.tx_floor_ms().max(self.remote.min_rx_ms)
    }

    fn rx_interval_ms(&self) -> Msec {
        self.min_rx_ms.max(self.remote.min_tx_ms)
    }

    /// The interval is cut by up to a quarter; with a multiplier of 1 by at least a tenth (section 6.8.7).
    fn schedule_tx(&mut self) {
        let interval = self.tx_interval_ms();
        let percent = if self.settings.mult == 1 { 10 + self.jitter.below(16) } else { self.jitter.below(26) };
        self.next_tx_ms = self.last_tx_ms + interval - interval * Msec::from(percent) / 100;
    }
}
