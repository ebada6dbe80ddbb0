//! The life of an active connection as a state machine: connect, back off, probe. It reads no clock and does no I/O.
//!
//! Backoff doubles from one second to the configured maximum and begins anew once a connection has been up for that long. A
//! connection that is silent for the probe interval is asked with an echo; silent for as long again, it is given up.

use super::endpoint::Endpoint;
use super::pinsched::Stats;
use crate::config::ControllerStatus;
use flow::Msec;

/// First wait after a failure.
const BACKOFF_MIN_MS: Msec = 1000;
/// Longest a connection attempt may take.
pub(super) const CONNECT_TIMEOUT_MS: Msec = 10_000;

/// Where the connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Stage {
    #[default]
    Void,
    Backoff,
    Connecting,
    Active,
    /// Active, and an echo waits for its answer.
    Idle,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Void => "VOID",
            Self::Backoff => "BACKOFF",
            Self::Connecting => "CONNECTING",
            Self::Active => "ACTIVE",
            Self::Idle => "IDLE",
        }
    }
}

/// What happens to it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    Connect,
    Connected,
    /// Something was received.
    Received,
    /// A timer fired.
    Tick,
    Failed(String),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    /// Send an echo request.
    Probe,
    /// No answer came: close.
    GiveUp,
    /// Wait this long, then connect.
    Wait(Msec),
}

/// State and memory of one endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Status {
    pub(super) stage: Stage,
    backoff_ms: Msec,
    max_backoff_ms: Msec,
    probe_ms: Msec,
    received_ms: Msec,
    pub(super) connected_ms: Option<Msec>,
    pub(super) disconnected_ms: Option<Msec>,
    last_error: Option<String>,
    pub(super) role: Option<&'static str>,
    /// What the rate limit has done with packet-ins for actions [0] and misses [1].
    pub(super) packet_ins: Option<[Stats; 2]>,
}

impl Status {
    pub(super) fn new(max_backoff_ms: Msec, probe_ms: Msec) -> Self {
        Self { max_backoff_ms: max_backoff_ms.max(BACKOFF_MIN_MS), probe_ms, ..Self::default() }
    }

    /// Takes up limits, which may be others than before.
    pub(super) fn take_up(&mut self, max_backoff_ms: Msec, probe_ms: Msec) {
        self.max_backoff_ms = max_backoff_ms.max(BACKOFF_MIN_MS);
        self.backoff_ms = self.backoff_ms.min(self.max_backoff_ms);
        self.probe_ms = probe_ms;
    }

    /// The wait after the last failure.
    pub(super) fn backoff_ms(&self) -> Msec {
        self.backoff_ms
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.stage, Stage::Active | Stage::Idle)
    }

    /// One step.
    pub(super) fn step(&mut self, event: &Event, now: Msec) -> Effect {
        match (self.stage, event) {
            (_, Event::Connect) => {
                self.stage = Stage::Connecting;
                Effect::None
            }
            (_, Event::Connected) => {
                self.stage = Stage::Active;
                self.connected_ms = Some(now);
                self.received_ms = now;
                Effect::None
            }
            (Stage::Active | Stage::Idle, Event::Received) => {
                self.stage = Stage::Active;
                self.received_ms = now;
                Effect::None
            }
            (Stage::Active, Event::Tick) if self.probe_ms > 0 && now - self.received_ms >= self.probe_ms => {
                self.stage = Stage::Idle;
                self.received_ms = now;
                Effect::Probe
            }
            (Stage::Idle, Event::Tick) if self.probe_ms > 0 && now - self.received_ms >= self.probe_ms => Effect::GiveUp,
            (stage, Event::Failed(error)) => {
                self.last_error = Some(error.clone());
                let was_up = matches!(stage, Stage::Active | Stage::Idle);
                if was_up {
                    self.disconnected_ms = Some(now);
                }
                let stable = was_up && self.connected_ms.is_some_and(|at| now - at >= self.backoff_ms);
                self.backoff_ms =
                    if stable || self.backoff_ms == 0 { BACKOFF_MIN_MS } else { (self.backoff_ms * 2).min(self.max_backoff_ms) };
                self.stage = Stage::Backoff;
                self.role = None;
                self.packet_ins = None;
                Effect::Wait(self.backoff_ms)
            }
            (Stage::Void | Stage::Backoff | Stage::Connecting, Event::Received)
            | (Stage::Void | Stage::Backoff | Stage::Connecting | Stage::Active | Stage::Idle, Event::Tick) => Effect::None,
        }
    }

    /// When the next tick can matter.
    pub(super) fn next_tick_ms(&self) -> Option<Msec> {
        (self.is_connected() && self.probe_ms > 0).then(|| self.received_ms + self.probe_ms)
    }

    /// For the database.
    pub(super) fn tell(&self, endpoint: &Endpoint, now: Msec) -> ControllerStatus {
        let mut status = vec![("state".to_owned(), self.stage.name().to_owned())];
        if let Some(error) = &self.last_error {
            status.push(("last_error".to_owned(), error.clone()));
        }
        if let Some(at) = self.connected_ms {
            status.push(("sec_since_connect".to_owned(), ((now - at) / 1000).to_string()));
        }
        if let Some(at) = self.disconnected_ms {
            status.push(("sec_since_disconnect".to_owned(), ((now - at) / 1000).to_string()));
        }
        for (stats, name) in self.packet_ins.iter().flatten().zip(["action", "miss"]) {
            let mut add = |what: &str, n: u64| status.push((format!("packet-in-{name}-{what}"), n.to_string()));
            add("backlog", u64::try_from(stats.queued).unwrap_or(u64::MAX));
            add("bypassed", stats.normal);
            add("queued", stats.limited);
            add("dropped", stats.dropped);
        }
        ControllerStatus {
            bridge: endpoint.bridge_name.clone(),
            target: endpoint.target.clone(),
            is_connected: self.is_connected(),
            role: self.role.map(str::to_owned),
            status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backs_off_and_begins_anew_after_a_stable_connection() {
        let mut s = Status::new(8000, 5000);
        let waits: Vec<_> = (0..5).map(|_| s.step(&Event::Failed("x".into()), 0)).collect();
        assert_eq!(waits, [1000, 2000, 4000, 8000, 8000].map(Effect::Wait));
        s.step(&Event::Connected, 0);
        assert_eq!(s.step(&Event::Failed("x".into()), 1), Effect::Wait(8000), "not stable");
        s.step(&Event::Connected, 0);
        assert_eq!(s.step(&Event::Failed("x".into()), 9000), Effect::Wait(1000));
    }

    #[test]
    fn probes_then_gives_up() {
        let mut s = Status::new(8000, 5000);
        s.step(&Event::Connected, 0);
        assert_eq!(s.step(&Event::Tick, 4999), Effect::None);
        assert_eq!(s.step(&Event::Tick, 5000), Effect::Probe);
        assert_eq!(s.step(&Event::Tick, 9999), Effect::None);
        s.step(&Event::Received, 9999);
        assert_eq!(s.step(&Event::Tick, 10_000), Effect::None, "the answer came");
        assert_eq!(s.step(&Event::Tick, 14_999), Effect::Probe);
        assert_eq!(s.step(&Event::Tick, 19_999), Effect::GiveUp);
    }

    #[test]
    fn other_limits_at_any_time() {
        let mut s = Status::new(8000, 5000);
        let waits: Vec<_> = (0..4).map(|_| s.step(&Event::Failed("x".into()), 0)).collect();
        assert_eq!(waits[3], Effect::Wait(8000));
        s.take_up(2000, 7000);
        assert_eq!((s.backoff_ms(), s.step(&Event::Failed("x".into()), 0)), (2000, Effect::Wait(2000)));
        s.step(&Event::Connected, 0);
        assert_eq!([5000, 7000].map(|now| s.step(&Event::Tick, now)), [Effect::None, Effect::Probe]);
        s.take_up(2000, 0);
        assert_eq!(s.step(&Event::Tick, 99_000), Effect::None, "nobody waits for the answer any more");
        s.take_up(2000, 9000);
        assert_eq!(s.next_tick_ms(), Some(16_000));
        assert_eq!(s.step(&Event::Tick, 16_000), Effect::GiveUp);
    }

    #[test]
    fn every_state_takes_every_event() {
        for stage in [Stage::Void, Stage::Backoff, Stage::Connecting, Stage::Active, Stage::Idle] {
            for event in [Event::Connect, Event::Connected, Event::Received, Event::Tick, Event::Failed(String::new())] {
                let mut s = Status { stage, ..Status::new(8000, 0) };
                let effect = s.step(&event, 100_000);
                assert_eq!(matches!(effect, Effect::Wait(_)), matches!(event, Event::Failed(_)), "{stage:?} {event:?}");
            }
        }
    }
}
