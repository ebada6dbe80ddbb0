//! Connectivity fault management: continuity checks of IEEE 802.1ag, with OVS's extensions (64-bit maintenance points, any interval,
//! operational state, demand mode, health).
//!
//! What enters: settings, continuity check messages, counters of the port, time. What leaves: messages to send, faults, text. Neighbours:
//! `protocols` gives it packets and time.
//!
//! All maintenance points of an association send at the same interval; every three and a half of them a round of checks asks who has been
//! heard (section 20.1). A fault is raised and cleared by rounds only, so that one lost message is no fault.

mod show;
#[cfg(test)]
mod tests;
pub mod wire;

pub use show::Status;

use crate::options::Options;
use crate::protocols::jitter::Jitter;
use flow::Msec;
use flow::key::{Key, Mask};
use std::collections::BTreeMap;
use wire::Ccm;

/// Ethernet type of connectivity fault management.
pub const ETH_TYPE: [u8; 2] = [0x89, 0x02];
const ETH_DST: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x30];
/// Destination in extended mode.
const ETH_DST_EXTENDED: [u8; 6] = [0x01, 0x23, 0x20, 0x00, 0x00, 0x30];
/// The standard's intervals by number (table 21-16); 0 is none of them.
const INTERVALS_MS: [Msec; 8] = [0, 3, 10, 100, 1000, 10_000, 60_000, 600_000];
/// Rounds of checks over which health is measured.
const HEALTH_ROUNDS: u32 = 6;
/// Messages expected in that time.
const HEALTH_MESSAGES: u64 = HEALTH_ROUNDS as u64 * 7 / 2;
/// Remote maintenance points remembered.
pub const REMOTES_MAX: usize = 256;
/// In demand mode checks are made no more often than for this interval, because counters of ports come late.
const DEMAND_INTERVAL_MS: Msec = 500;
/// In demand mode a message has to come within this many intervals.
const DEMAND_INTERVALS: Msec = 100;

/// Fault bits, with the names that the database has for them.
pub mod fault {
    pub const RECV: u8 = 1;
    pub const RDI: u8 = 2;
    pub const MAID: u8 = 4;
    pub const LOOPBACK: u8 = 8;
    pub const OVERFLOW: u8 = 16;
    pub const OVERRIDE: u8 = 32;
    /// By bit, in order.
    pub const NAMES: [(u8, &str); 6] =
        [(RECV, "recv"), (RDI, "rdi"), (MAID, "maid"), (LOOPBACK, "loopback"), (OVERFLOW, "overflow"), (OVERRIDE, "override")];

    /// The names of the bits that are set.
    pub fn names(faults: u8) -> impl Iterator<Item = &'static str> {
        NAMES.iter().filter(move |(bit, _)| faults & bit != 0).map(|(_, name)| *name)
    }
}

/// VLAN of the messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vlan {
    /// 0: none
    Fixed(u16),
    Random,
}

/// `Interface.cfm_mpid` and its keys in `other_config`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    pub mpid: u64,
    pub interval_ms: Msec,
    pub vlan: Vlan,
    pub pcp: u8,
    pub extended: bool,
    pub demand: bool,
    pub opup: bool,
    pub check_tnl_key: bool,
}

impl Settings {
    /// `None`: no session, or a maintenance point out of range (1..=8191 unless extended). `options` are the device's: a tunnel that takes
    /// any key looks at the key.
    #[must_use]
    pub fn read(mpid: i64, other: &[(String, String)], options: &[(String, String)]) -> Option<Self> {
        let (other, options) = (Options(other), Options(options));
        let extended = other.bool("cfm_extended", false);
        let mpid = u64::try_from(mpid).ok().filter(|m| *m >= 1 && (extended || *m <= 8191))?;
        let vlan = match other.get("cfm_ccm_vlan") {
            Some(text) if text.eq_ignore_ascii_case("random") => Vlan::Random,
            Some(text) => Vlan::Fixed(text.parse().unwrap_or(0) & 0x0fff),
            None => Vlan::Fixed(0),
        };
        Some(Self {
            mpid,
            interval_ms: Some(other.int("cfm_interval", 0)).filter(|ms| *ms > 0).unwrap_or(1000),
            vlan,
            pcp: u8::try_from(other.int("cfm_ccm_pcp", 0) & 7).unwrap_or(0),
            extended,
            demand: extended && other.bool("cfm_demand", false),
            opup: other.get("cfm_opstate").is_none_or(|s| s.eq_ignore_ascii_case("up")),
            check_tnl_key: ["key", "in_key"].iter().any(|k| options.get(k) == Some("flow")),
        })
    }

    /// The interval's number (0: none of the standard's) and length: the longest of the standard's that is not longer, in extended mode
    /// any up to 65535 ms.
    fn interval(&self) -> (u8, Msec) {
        let (number, ms) =
            (1u8..).zip(INTERVALS_MS[1..].iter().copied()).take_while(|(_, ms)| *ms <= self.interval_ms).last().unwrap_or((1, 3));
        if self.extended && ms != self.interval_ms { (0, self.interval_ms.min(65_535)) } else { (number, ms) }
    }

    fn eth_dst(&self) -> [u8; 6] {
        if self.extended { ETH_DST_EXTENDED } else { ETH_DST }
    }

    /// What translation has to know.
    #[must_use]
    pub fn filter(&self) -> Filter {
        Filter { eth_dst: self.eth_dst(), check_tnl_key: self.check_tnl_key }
    }
}

/// Which packets a session takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filter {
    pub eth_dst: [u8; 6],
    pub check_tnl_key: bool,
}

impl Filter {
    /// Whether the packet is the session's; each bit that decided goes into the mask. `eth_type` always is in it.
    pub fn takes(&self, key: &Key, mask: &mut Mask) -> bool {
        if key.eth_type != ETH_TYPE {
            return false;
        }
        mask.eth_dst = [0xff; 6];
        if key.eth_dst != self.eth_dst {
            return false;
        }
        if self.check_tnl_key {
            mask.tun_id = [0xff; 8];
            return key.tun_id == [0; 8];
        }
        true
    }
}

/// A maintenance point that has been heard.
#[derive(Clone, Copy, Debug)]
struct Remote {
    /// Since the last round of checks.
    heard: bool,
    opup: bool,
    seq: u32,
    /// Messages without fault since health was last computed.
    messages: u64,
}

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    name: String,
    settings: Settings,
    interval: u8,
    interval_ms: Msec,
    /// A full round of checks has passed.
    booted: bool,
    faults: u8,
    /// Faults since the last round.
    received_faults: u8,
    fault_override: Option<bool>,
    remote_opup: bool,
    seq: u32,
    remotes: BTreeMap<u64, Remote>,
    /// Those heard in the last round, as the database tells of them.
    heard: Vec<u64>,
    /// Percent; `None` when several are heard, or before it is known.
    health: Option<u8>,
    health_rounds: u32,
    rx_packets: u64,
    tx_ms: Msec,
    check_ms: Msec,
    demand_until_ms: Msec,
    flap_count: u64,
    changed: bool,
    jitter: Jitter,
}

impl Session {
    /// A session that begins to send. `rx_packets`: what the port has received so far.
    #[must_use]
    pub fn new(name: &str, settings: Settings, rx_packets: u64, seed: u32, now: Msec) -> Self {
        let (interval, interval_ms) = settings.interval();
        let mut session = Self {
            name: name.to_owned(),
            settings,
            interval,
            interval_ms,
            booted: false,
            faults: 0,
            received_faults: 0,
            fault_override: None,
            remote_opup: true,
            seq: 0,
            remotes: BTreeMap::new(),
            heard: Vec::new(),
            health: None,
            health_rounds: 0,
            rx_packets,
            tx_ms: 0,
            check_ms: 0,
            demand_until_ms: 0,
            flap_count: 0,
            changed: true,
            jitter: Jitter::new(seed),
        };
        session.check_ms = now + session.check_interval_ms();
        session
    }

    /// Takes up other settings.
    pub fn configure(&mut self, settings: Settings, rx_packets: u64, now: Msec) {
        if settings == self.settings {
            return;
        }
        if settings.demand && !self.settings.demand {
            self.rx_packets = rx_packets;
        }
        let before = (self.interval, self.interval_ms);
        self.settings = settings;
        (self.interval, self.interval_ms) = self.settings.interval();
        if before != (self.interval, self.interval_ms) {
            self.tx_ms = 0;
            self.check_ms = now + self.check_interval_ms();
        }
    }

    /// A message came.
    pub fn receive(&mut self, ccm: &Ccm, now: Msec) {
        if ccm.maid != wire::MAID {
            self.received_faults |= fault::MAID;
            tracing::warn!(target: "cfm", "{}: Received unexpected remote MAID", self.name);
            return;
        }
        let extended = self.settings.extended;
        let mpid = if extended { ccm.mpid64 } else { u64::from(ccm.mpid) };
        let mut faults = if ccm.rdi { fault::RDI } else { 0 };
        let other_interval =
            ccm.interval != self.interval || extended && ccm.interval == 0 && Msec::from(ccm.interval_ms) != self.interval_ms;
        if other_interval {
            // The standard calls it a fault; it is more likely a setting that is being changed.
            tracing::debug!(target: "cfm", "{}: received a CCM with an unexpected interval from RMP {mpid}", self.name);
        }
        if !self.remotes.contains_key(&mpid) && self.remotes.len() >= REMOTES_MAX {
            tracing::warn!(target: "cfm", "{}: dropped CCM with MPID {mpid}", self.name);
            self.received_faults |= fault::OVERFLOW;
            return;
        }
        if mpid == self.settings.mpid {
            faults |= fault::LOOPBACK;
        }
        let fresh = Remote { heard: false, opup: true, seq: 0, messages: 0 };
        let remote = self.remotes.entry(mpid).or_insert(fresh);
        if faults == 0 {
            remote.messages += 1;
            if self.settings.demand {
                self.demand_until_ms = now + DEMAND_INTERVALS * self.interval_ms;
            }
        }
        remote.heard = true;
        remote.seq = ccm.seq;
        remote.opup = !(extended && ccm.opdown);
        self.received_faults |= faults;
    }

    /// The message that is due, as a frame; `eth_src` is the port's MAC.
    pub fn transmit(&mut self, eth_src: [u8; 6], now: Msec) -> Option<Vec<u8>> {
        if now < self.tx_ms {
            return None;
        }
        self.tx_ms = now + self.interval_ms;
        self.seq = self.seq.wrapping_add(1);
        let Settings { mpid, extended, opup, pcp, vlan, .. } = self.settings;
        let ccm = Ccm {
            rdi: self.booted && self.remotes.is_empty(),
            interval: self.interval,
            seq: self.seq,
            mpid: if extended { folded(mpid) } else { u16::try_from(mpid).unwrap_or(0) },
            maid: wire::MAID,
            interval_ms: if self.interval == 0 { u16::try_from(self.interval_ms).unwrap_or(u16::MAX) } else { 0 },
            mpid64: if extended { mpid } else { 0 },
            opdown: extended && !opup,
        };
        let vid = match vlan {
            Vlan::Fixed(vid) => vid,
            Vlan::Random => u16::try_from(self.jitter.below(4096)).unwrap_or(0),
        };
        Some(wire::frame(eth_src, self.settings.eth_dst(), vid | u16::from(pcp) << 13, &ccm))
    }

    /// A round of checks, if it is due. `rx_packets` is asked for only when it matters.
    pub fn run(&mut self, rx_packets: impl Fn() -> u64, now: Msec) {
        if now < self.check_ms {
            return;
        }
        self.check_ms = now + self.check_interval_ms();
        let before = (self.faults, self.health, self.remote_opup, self.heard.len());
        self.faults = std::mem::take(&mut self.received_faults);
        self.measure_health();
        let excused = self.is_excused(rx_packets, now);
        let lost = self.check_remotes(excused);
        if self.remotes.is_empty() {
            self.faults |= fault::RECV;
        }
        if before.0 != self.faults {
            let text = |faults| fault::names(faults).collect::<Vec<_>>().join(" ");
            let (old, new) = (text(before.0), text(self.faults));
            tracing::info!(target: "cfm", "{}: CFM faults changed from [{old}] to [{new}].", self.name);
            if before.0 == 0 || self.faults == 0 {
                self.flap_count += 1;
            }
        }
        self.changed |= lost || before != (self.faults, self.health, self.remote_opup, self.heard.len());
        self.booted = true;
    }

    /// In demand mode traffic from the only remote stands for its messages, as long as one of them came within 100 intervals.
    fn is_excused(&mut self, rx_packets: impl Fn() -> u64, now: Msec) -> bool {
        if !self.settings.demand {
            return false;
        }
        let packets = rx_packets();
        let grew = packets > std::mem::replace(&mut self.rx_packets, packets);
        self.remotes.len() == 1 && grew && now < self.demand_until_ms
    }

    /// Forgets remotes that were not heard, unless they are excused. Gives true when one was forgotten.
    fn check_remotes(&mut self, excused: bool) -> bool {
        let (mut up, mut down, mut lost) = (false, false, false);
        self.heard.clear();
        let heard = &mut self.heard;
        self.remotes.retain(|mpid, remote| {
            if !std::mem::take(&mut remote.heard) {
                lost |= !excused;
                return excused;
            }
            up |= remote.opup;
            down |= !remote.opup;
            heard.push(*mpid);
            true
        });
        if down {
            self.remote_opup = false;
        } else if up {
            self.remote_opup = true;
        }
        lost
    }

    /// Every sixth round: the share of the messages that came, if there is one remote.
    fn measure_health(&mut self) {
        if self.health_rounds == HEALTH_ROUNDS {
            self.health_rounds = 0;
            let alone = self.remotes.len() <= 1;
            let messages = self.remotes.values_mut().next().map_or(0, |r| std::mem::take(&mut r.messages));
            let percent = (messages * 100 / HEALTH_MESSAGES).min(100);
            self.health = alone.then(|| u8::try_from(percent).expect("at most 100"));
        }
        self.health_rounds += 1;
    }

    fn check_interval_ms(&self) -> Msec {
        let least = if self.settings.demand { DEMAND_INTERVAL_MS } else { 0 };
        self.interval_ms.max(least) * 7 / 2
    }

    /// When `transmit` or `run` has something to do.
    #[must_use]
    pub fn wake_ms(&self) -> Msec {
        self.tx_ms.min(self.check_ms)
    }

    /// `fault` bits
    #[must_use]
    pub fn faults(&self) -> u8 {
        match self.fault_override {
            Some(true) => fault::OVERRIDE,
            Some(false) => 0,
            None => self.faults,
        }
    }

    /// What the remotes say of their operational state; `None` unless extended.
    #[must_use]
    pub fn remote_opup(&self) -> Option<bool> {
        self.settings.extended.then_some(self.remote_opup)
    }

    /// Whether the port may forward.
    #[must_use]
    pub fn is_forwarding(&self) -> bool {
        self.faults() == 0 && self.remote_opup() != Some(false)
    }

    /// `cfm/set-fault`; `None` is "normal".
    pub fn override_fault(&mut self, fault: Option<bool>) {
        self.fault_override = fault;
        self.changed = true;
    }

    /// Whether anything that the database tells of has changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The session's settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// A 64-bit maintenance point for those who know 16 bits.
fn folded(mpid: u64) -> u16 {
    mpid.to_be_bytes().chunks_exact(2).fold(0, |sum, two| sum ^ u16::from_be_bytes([two[0], two[1]]))
}
