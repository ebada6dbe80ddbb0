//! Link aggregation control (IEEE 802.1AX): which links of a bond lead to the same partner, and whether it agrees.
//!
//! What enters: settings, data units, carrier, time. What leaves: data units to send, which members may carry traffic, text. Neighbours:
//! `bond` uses the verdict, `protocols` gives packets and time.
//!
//! A member hears its partner (*current*), has not heard it for three intervals (*expired*), or gave up (*defaulted*): `next`. From
//! what the partners say, `select` attaches to the aggregate those members that lead to the same system and key as the best one does.

mod show;
#[cfg(test)]
mod tests;
pub mod wire;

use crate::options::Options;
use flow::Msec;
use openflow::OfPort;
use std::collections::BTreeMap;
use wire::{Info, Pdu, state};

const FAST_MS: Msec = 1000;
const SLOW_MS: Msec = 30_000;
/// Intervals without a data unit after which the partner counts as gone.
const RX_INTERVALS: Msec = 3;

/// `Port.lacp` and its keys in `other_config`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    pub active: bool,
    pub fast: bool,
    pub sys_id: [u8; 6],
    pub sys_priority: u16,
    /// Without an answer, one member is used alone.
    pub fallback_ab: bool,
}

impl Settings {
    /// `None`: no LACP. `mac` is the bridge's, the system id unless one is set; `members` is how many the port has.
    #[must_use]
    pub fn read(port: &str, lacp: &str, other: &[(String, String)], mac: [u8; 6], members: usize) -> Option<Self> {
        let active = match lacp {
            "active" => true,
            "passive" => false,
            _ => return None,
        };
        let options = Options(other);
        let sys_id = match options.get("lacp-system-id") {
            None => mac,
            Some(text) => crate::options::parse_mac(text).or_else(|| {
                tracing::warn!(target: "bridge", "port {port}: LACP system ID ({text}) must be an Ethernet address.");
                None
            })?,
        };
        if sys_id == [0; 6] {
            tracing::warn!(target: "bridge", "port {port}: Invalid zero LACP system ID.");
            return None;
        }
        // Links that can be bundled come before single ones.
        let default = u16::MAX - u16::from(members > 1);
        Some(Self {
            active,
            fast: options.get("lacp-time").is_some_and(|t| t.eq_ignore_ascii_case("fast")),
            sys_id,
            sys_priority: number(options, "lacp-system-priority").unwrap_or(default),
            fallback_ab: options.bool("lacp-fallback-ab", false),
        })
    }
}

fn number(options: Options<'_>, key: &str) -> Option<u16> {
    options.within(key, 1..=65_535).and_then(|n| u16::try_from(n).ok())
}

/// A member's keys in `Interface.other_config`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberSettings {
    pub name: String,
    pub port_id: u16,
    pub port_priority: u16,
    /// 0: that of the member that gives the aggregate its key
    pub key: u16,
}

impl MemberSettings {
    /// `number` is the OpenFlow port, the port id unless one is set.
    #[must_use]
    pub fn read(name: &str, number: OfPort, other: &[(String, String)]) -> Self {
        let options = Options(other);
        let own = u16::try_from(number.0 & 0xffff).expect("masked to 16 bits");
        Self {
            name: name.to_owned(),
            port_id: self::number(options, "lacp-port-id").unwrap_or(own),
            port_priority: self::number(options, "lacp-port-priority").unwrap_or(u16::MAX),
            key: self::number(options, "lacp-aggregation-key").unwrap_or(0),
        }
    }
}

/// What a member knows of its partner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    Current,
    Expired,
    Defaulted,
}

/// What happens to a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A data unit came.
    Heard,
    /// The time for one has run out.
    Silent,
    /// The link went away or came back.
    Carrier,
    /// The member's numbers have changed.
    Renumbered,
}

/// What an event does. `eager`: we speak without being spoken to.
#[must_use]
pub fn next(status: Status, event: Event, eager: bool) -> Status {
    use Status::{Current, Defaulted, Expired};
    match (status, event) {
        (Current | Expired | Defaulted, Event::Heard) => Current,
        (Current, Event::Silent | Event::Carrier) => Expired,
        (Expired | Defaulted, Event::Silent) => Defaulted,
        (Expired | Defaulted, Event::Carrier) => {
            if eager {
                Expired
            } else {
                status
            }
        }
        (Current | Expired | Defaulted, Event::Renumbered) => {
            if eager {
                Expired
            } else {
                status
            }
        }
    }
}

/// Counters of a member (IEEE 802.1AX section 7.3.3).
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    rx: u32,
    rx_bad: u32,
    rx_marker: u32,
    tx: u32,
    expired: u32,
    defaulted: u32,
    carrier_changed: u32,
}

/// A member's state and counters, as monitors are told them (IEEE 802.1AX section 7.3.2 and 7.3.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    pub actor: [u8; 6],
    pub partner: [u8; 6],
    pub key: u16,
    pub actor_admin: u8,
    pub actor_oper: u8,
    pub partner_oper: u8,
    pub rx: u32,
    pub rx_bad: u32,
    pub tx: u32,
}

#[derive(Clone, Debug)]
struct Member {
    settings: MemberSettings,
    status: Status,
    attached: bool,
    carrier: bool,
    /// The link's changes as last seen.
    carrier_resets: u64,
    partner: Info,
    /// What the partner last said of us.
    told: Info,
    tx_ms: Msec,
    rx_ms: Msec,
    counts: Counts,
}

/// The aggregate of a port.
#[derive(Clone, Debug)]
pub struct Lacp {
    name: String,
    settings: Settings,
    members: BTreeMap<OfPort, Member>,
    /// The member that gives the aggregate its key: the one that came first.
    key_member: Option<OfPort>,
    negotiated: bool,
    stale: bool,
}

impl Lacp {
    /// An aggregate without members.
    #[must_use]
    pub fn new(name: &str, settings: Settings) -> Self {
        Self { name: name.to_owned(), settings, members: BTreeMap::new(), key_member: None, negotiated: false, stale: true }
    }

    /// Takes up other settings.
    pub fn configure(&mut self, settings: Settings) {
        let told = |s: &Settings| (s.sys_id, s.sys_priority, s.fallback_ab);
        self.stale |= told(&self.settings) != told(&settings);
        self.settings = settings;
    }

    /// Makes the members those named.
    pub fn set_members(&mut self, wanted: &[(OfPort, MemberSettings)], now: Msec) {
        let before = self.members.len();
        self.members.retain(|port, _| wanted.iter().any(|(p, _)| p == port));
        self.stale |= before != self.members.len();
        if self.key_member.is_some_and(|p| !self.members.contains_key(&p)) {
            self.key_member = self.members.keys().next().copied();
        }
        let eager = self.settings.active || self.negotiated;
        for (port, settings) in wanted {
            let fresh = !self.members.contains_key(port);
            let member = self.members.entry(*port).or_insert_with(|| Member::new(settings.clone()));
            self.key_member.get_or_insert(*port);
            if fresh || member.settings != *settings {
                let numbers = |s: &MemberSettings| (s.port_id, s.port_priority, s.key);
                let renumbered = fresh || numbers(&member.settings) != numbers(settings);
                member.settings = settings.clone();
                if renumbered {
                    self.stale = true;
                    member.meet(Event::Renumbered, eager, now);
                }
            }
        }
    }

    /// A frame of a slow protocol came (what follows the Ethernet type). Gives true when the member may carry traffic now.
    pub fn receive(&mut self, port: OfPort, bytes: &[u8], now: Msec) -> bool {
        let Some(member) = self.members.get_mut(&port) else { return false };
        member.counts.rx += 1;
        let (actor, partner) = match Pdu::parse(bytes) {
            Pdu::Lacp { actor, partner } => (actor, partner),
            Pdu::Marker => {
                member.counts.rx_marker += 1;
                return false;
            }
            Pdu::Bad => {
                member.counts.rx_bad += 1;
                tracing::warn!(target: "lacp", "{}: received an unparsable LACP PDU.", self.name);
                return false;
            }
        };
        if !member.carrier {
            // Some devices tell of the link later than its packets come.
            tracing::info!(target: "lacp", "{}: carrier state is DOWN, dropping received LACP PDU.", member.settings.name);
            return false;
        }
        member.meet(Event::Heard, self.settings.active, now);
        member.rx_ms = now + RX_INTERVALS * if self.settings.fast { FAST_MS } else { SLOW_MS };
        member.told = partner;
        if member.partner != actor {
            member.partner = actor;
            self.stale = true;
        }
        self.may_enable(port)
    }

    /// The link of a member: whether it is up, and how often it has changed.
    pub fn observe_carrier(&mut self, port: OfPort, up: bool, resets: u64, now: Msec) {
        let active = self.settings.active;
        let Some(member) = self.members.get_mut(&port) else { return };
        if member.carrier_resets != resets {
            member.carrier_resets = resets;
            member.meet(Event::Carrier, active, now);
            if member.carrier != up {
                member.carrier = up;
                member.counts.carrier_changed += 1;
            }
            self.stale = true;
        } else if up {
            member.carrier = true;
        }
    }

    /// What time brings. Gives the data units to send: member, what to say of ourselves and of the partner.
    pub fn run(&mut self, now: Msec) -> Vec<(OfPort, Info, Info)> {
        for member in self.members.values_mut().filter(|m| now >= m.rx_ms) {
            match member.status {
                Status::Current => member.counts.expired += 1,
                Status::Expired => member.counts.defaulted += 1,
                Status::Defaulted => continue,
            }
            member.meet(Event::Silent, self.settings.active, now);
            self.stale = true;
        }
        if std::mem::take(&mut self.stale) {
            self.select();
        }
        let due: Vec<(OfPort, Info)> = self
            .members
            .iter()
            .filter(|(_, m)| self.may_speak(m))
            .map(|(port, m)| (*port, self.actor(m)))
            .filter(|(port, actor)| now >= self.members[port].tx_ms || !said_alike(actor, &self.members[port].told))
            .collect();
        let mut said = Vec::new();
        for (port, actor) in due {
            let Some(member) = self.members.get_mut(&port) else { continue };
            member.told = actor;
            member.counts.tx += 1;
            member.tx_ms = now + if member.partner.state & state::TIMEOUT != 0 { FAST_MS } else { SLOW_MS };
            said.push((port, actor, member.partner));
        }
        said
    }

    /// When `run` has something to do.
    #[must_use]
    pub fn wake_ms(&self) -> Msec {
        if self.stale {
            return 0;
        }
        let speak = self.members.values().filter(|m| self.may_speak(m)).map(|m| m.tx_ms);
        let hear = self.members.values().filter(|m| m.status != Status::Defaulted).map(|m| m.rx_ms);
        speak.chain(hear).min().unwrap_or(Msec::MAX)
    }

    /// Whether a member may carry traffic.
    #[must_use]
    pub fn may_enable(&self, port: OfPort) -> bool {
        self.members.get(&port).is_some_and(|m| self.is_usable(m))
    }

    /// `Interface.lacp_current`: whether there is anything known of the partner.
    #[must_use]
    pub fn is_current(&self, port: OfPort) -> bool {
        self.members.get(&port).is_some_and(|m| m.status != Status::Defaulted)
    }

    /// Whether some member has a partner.
    #[must_use]
    pub fn is_negotiated(&self) -> bool {
        self.negotiated
    }

    /// What sFlow tells of a member.
    #[must_use]
    pub fn figures(&self, port: OfPort) -> Option<Figures> {
        let member = self.members.get(&port)?;
        let own = self.actor(member);
        Some(Figures {
            actor: own.sys_id,
            partner: member.partner.sys_id,
            key: own.key,
            actor_admin: own.state & (state::ACTIVITY | state::TIMEOUT | state::AGGREGATION),
            actor_oper: own.state,
            partner_oper: member.partner.state,
            rx: member.counts.rx,
            rx_bad: member.counts.rx_bad,
            tx: member.counts.tx,
        })
    }

    /// The port's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn is_usable(&self, member: &Member) -> bool {
        let alone = self.settings.fallback_ab && member.status == Status::Defaulted;
        member.attached && (member.partner.state & state::SYNCHRONIZED != 0 || alone)
    }

    fn may_speak(&self, member: &Member) -> bool {
        member.carrier && (self.settings.active || member.status != Status::Defaulted)
    }

    /// Chooses the members that make up the aggregate: those that lead to the system and key that the best member leads to. A member
    /// that works already is preferred, so that a better priority elsewhere interrupts nothing.
    fn select(&mut self) {
        let working = |m: &&Member| m.status == Status::Current && m.attached;
        let incumbent = self.members.values().filter(working).min_by_key(|m| self.priority(m)).map(|m| m.partner.sys_id);
        let mut lead: Option<(bool, Info, Info)> = None;
        let mut attached = Vec::new();
        for (port, member) in &self.members {
            // With itself for a partner a member would carry the bond's own packets back.
            let looped = member.partner.sys_id == self.settings.sys_id;
            if looped {
                tracing::warn!(
                    target: "lacp", "member {}: Loopback detected. Interface is connected to its own bond", member.settings.name
                );
            }
            if looped || member.status == Status::Defaulted {
                continue;
            }
            if incumbent.is_some_and(|sys_id| sys_id != member.partner.sys_id) {
                continue;
            }
            attached.push(*port);
            let rank = (!self.is_usable(member), self.priority(member));
            if lead.is_none_or(|(unusable, priority, _)| rank < (unusable, priority)) {
                lead = Some((rank.0, rank.1, member.partner));
            }
        }
        self.negotiated = lead.is_some();
        let fallback = self.settings.fallback_ab;
        for (port, member) in &mut self.members {
            let looped = member.partner.sys_id == self.settings.sys_id;
            member.attached = match lead {
                Some((.., partner)) => {
                    attached.contains(port) && (partner.key, partner.sys_id) == (member.partner.key, member.partner.sys_id)
                }
                None => fallback && member.status == Status::Defaulted && !looped,
            };
        }
    }

    /// How good a link is, as the system with the better priority sees it (section 6.3.6); less is better.
    fn priority(&self, member: &Member) -> Info {
        let actor = self.actor(member);
        let ours = (actor.sys_priority, actor.sys_id) < (member.partner.sys_priority, member.partner.sys_id);
        Info { key: 0, state: 0, ..if ours { actor } else { member.partner } }
    }

    /// What we say of ourselves on a link.
    fn actor(&self, member: &Member) -> Info {
        let bits = [
            (self.settings.active, state::ACTIVITY),
            (self.settings.fast, state::TIMEOUT),
            (self.members.len() > 1, state::AGGREGATION),
            (member.attached, state::SYNCHRONIZED),
            (member.attached || !self.negotiated, state::COLLECTING | state::DISTRIBUTING),
            (member.status == Status::Defaulted, state::DEFAULTED),
            (member.status == Status::Expired, state::EXPIRED),
        ];
        Info {
            sys_priority: self.settings.sys_priority,
            sys_id: self.settings.sys_id,
            key: self.key().unwrap_or(0),
            port_priority: member.settings.port_priority,
            port_id: member.settings.port_id,
            state: bits.iter().filter(|(set, _)| *set).fold(0, |all, (_, bit)| all | bit),
        }
    }

    /// The aggregate's key.
    fn key(&self) -> Option<u16> {
        let settings = &self.members.get(&self.key_member?)?.settings;
        Some(if settings.key == 0 { settings.port_id } else { settings.key })
    }
}

impl Member {
    fn new(settings: MemberSettings) -> Self {
        Self {
            settings,
            status: Status::Defaulted,
            attached: false,
            carrier: false,
            carrier_resets: 0,
            partner: Info::default(),
            told: Info::default(),
            tx_ms: 0,
            rx_ms: 0,
            counts: Counts::default(),
        }
    }

    fn meet(&mut self, event: Event, eager: bool, now: Msec) {
        let before = self.status;
        self.status = next(self.status, event, eager);
        match self.status {
            Status::Current => {}
            // A partner that is not heard is asked for at the fast rate.
            Status::Expired => {
                self.partner.state = self.partner.state & !state::SYNCHRONIZED | state::TIMEOUT;
                self.rx_ms = now + RX_INTERVALS * FAST_MS;
            }
            Status::Defaulted if before != Status::Defaulted => self.partner = Info::default(),
            Status::Defaulted => {}
        }
    }
}

/// Whether the partner knows of us what it must (section 6.4.16: what else differs needs no data unit).
fn said_alike(actor: &Info, told: &Info) -> bool {
    const BITS: u8 = state::ACTIVITY | state::TIMEOUT | state::SYNCHRONIZED | state::AGGREGATION;
    Info { state: actor.state & BITS, ..*actor } == Info { state: told.state & BITS, ..*told }
}
