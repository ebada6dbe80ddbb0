//! Bonds: several interfaces that are one port.
//!
//! What enters: settings, members with their links, what LACP says, bytes sent per bucket, time. What leaves: the member that a packet
//! leaves by, whether a packet that came in is taken, when to tell the neighbours of a failover. Neighbours: `xlate` asks, `protocols`
//! gives it time and carries out what it wants, `lacp` decides who may be enabled.
//!
//! A member is *enabled* when it has been up (link, and whoever else has a say: LACP, BFD, CFM) for the updelay. One enabled member is
//! *active*: in mode active-backup it carries everything, in mode balance-slb it takes multicast. The balancing modes spread traffic over 256
//! *buckets* by a hash: of source MAC and VLAN (balance-slb), of addresses and ports (balance-tcp, which needs LACP). `balance` moves buckets
//! from loaded members to idle ones.

mod balance;
mod settings;
mod show;
#[cfg(test)]
mod tests;

pub use settings::{Mode, Settings};

use flow::Msec;
use flow::flow_hash::{self, HashFields};
use flow::key::{Key, Mask};
use openflow::OfPort;
use std::collections::{BTreeMap, VecDeque};

/// Buckets of a bond.
pub const BUCKETS: usize = 256;

/// How far LACP has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LacpStatus {
    #[default]
    Off,
    /// Configured, no partner.
    Configured,
    Negotiated,
}

impl LacpStatus {
    fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Configured => "configured",
            Self::Negotiated => "negotiated",
        }
    }
}

/// What becomes of a packet that came in by a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Accept,
    Drop,
    /// Dropped if its source was learned on another port: it is probably our own, come back.
    DropIfMoved,
}

/// A link, as a bond sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    pub name: String,
    pub mac: [u8; 6],
    pub carrier: bool,
    /// Nobody objects: LACP, BFD, CFM.
    pub may_enable: bool,
}

#[derive(Clone, Debug)]
struct Member {
    link: Link,
    enabled: bool,
    /// When `enabled` becomes what the link says; `None`: it already is.
    delay_until_ms: Option<Msec>,
}

/// A place of the hash.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    member: Option<OfPort>,
    tx_bytes: u64,
}

/// A bond.
#[derive(Clone, Debug)]
pub struct Bond {
    name: String,
    settings: Settings,
    members: BTreeMap<OfPort, Member>,
    active: Option<OfPort>,
    /// MAC of the active member, kept over restarts in the database; zero for none.
    active_mac: [u8; 6],
    lacp: LacpStatus,
    /// None in mode active-backup.
    buckets: Vec<Bucket>,
    /// Enabled members, the one that is to get the next bucket first.
    turn: VecDeque<OfPort>,
    next_rebalance_ms: Msec,
    /// Neighbours have to learn anew where we are.
    must_teach: bool,
    /// What translations may have looked at has changed.
    changed: bool,
    recirc_id: u32,
}

impl Bond {
    /// A bond without members. `recirc_id` names the pipeline behind the datapath's hash. `active_mac`: of the member that was last active.
    #[must_use]
    pub fn new(name: &str, settings: Settings, recirc_id: u32, active_mac: [u8; 6], now: Msec) -> Self {
        let mut bond = Self {
            name: name.to_owned(),
            settings,
            members: BTreeMap::new(),
            active: None,
            active_mac,
            lacp: LacpStatus::Off,
            buckets: Vec::new(),
            turn: VecDeque::new(),
            next_rebalance_ms: 0,
            must_teach: false,
            changed: true,
            recirc_id,
        };
        bond.reset_buckets(now);
        bond
    }

    /// Takes up other settings.
    pub fn configure(&mut self, settings: Settings, now: Msec) {
        if settings == self.settings {
            return;
        }
        let delays_only =
            Settings { updelay_ms: settings.updelay_ms, downdelay_ms: settings.downdelay_ms, ..self.settings.clone() };
        self.changed |= delays_only != settings;
        self.settings = settings;
        if self.changed {
            self.reset_buckets(now);
        }
    }

    /// Makes the members those named; what they were goes on.
    pub fn set_members(&mut self, links: Vec<(OfPort, Link)>) {
        let gone: Vec<OfPort> = self.members.keys().filter(|p| !links.iter().any(|(q, _)| q == *p)).copied().collect();
        for port in gone {
            self.enable(port, false);
            self.members.remove(&port);
            self.changed = true;
            self.buckets.iter_mut().filter(|b| b.member == Some(port)).for_each(|b| b.member = None);
            if self.active == Some(port) {
                self.active = None;
                self.must_teach = true;
            }
        }
        for (port, link) in links {
            if let Some(member) = self.members.get_mut(&port) {
                member.link = link;
                continue;
            }
            let carrier = link.carrier;
            self.members.insert(port, Member { link, enabled: false, delay_until_ms: None });
            self.changed = true;
            self.enable(port, carrier);
        }
    }

    /// Whether LACP has enabled a member ahead of `run`: nothing of what the partner sends from now on is lost.
    pub fn set_may_enable(&mut self, port: OfPort, may: bool) {
        if let Some(member) = self.members.get_mut(&port) {
            member.link.may_enable = may;
        }
    }

    /// What time and links bring.
    pub fn run(&mut self, lacp: LacpStatus, now: Msec) {
        if self.lacp != lacp {
            self.lacp = lacp;
            self.changed = true;
            if self.falls_back() || self.buckets.is_empty() {
                self.reset_buckets(now);
            }
        }
        let ports: Vec<OfPort> = self.members.keys().copied().collect();
        for port in &ports {
            self.follow_link(*port, now);
        }
        let is_enabled = |p: &OfPort| self.members.get(p).is_some_and(|m| m.enabled);
        let primary = ports.iter().copied().find(|p| self.is_primary(*p) && is_enabled(p));
        let primary = primary.filter(|_| self.settings.mode == Mode::ActiveBackup);
        if !self.active.as_ref().is_some_and(is_enabled) || primary.is_some() && self.active != primary {
            self.choose_active();
        }
        if self.may_recirculate() {
            self.populate();
        }
    }

    /// A member follows its link, after the delay for that.
    fn follow_link(&mut self, port: OfPort, now: Msec) {
        let Settings { updelay_ms, downdelay_ms, .. } = self.settings;
        let Some(member) = self.members.get_mut(&port) else { return };
        let up = member.link.carrier && member.link.may_enable;
        let name = &member.link.name;
        let word = if up { "up" } else { "down" };
        match (up == member.enabled, member.delay_until_ms) {
            (true, None) | (false, Some(_)) => {}
            (true, Some(_)) => {
                tracing::info!(target: "bond", "member {name}: link state {word}");
                member.delay_until_ms = None;
                tracing::info!(target: "bond", "member {name}: will not be {}", if up { "disabled" } else { "enabled" });
            }
            (false, None) => {
                tracing::info!(target: "bond", "member {name}: link state {word}");
                let delay = if up { updelay_ms } else { downdelay_ms };
                member.delay_until_ms = Some(now + delay);
                if delay != 0 {
                    let becomes = if up { "enabled" } else { "disabled" };
                    tracing::info!(target: "bond", "member {name}: will be {becomes} if it stays {word} for {delay} ms");
                }
            }
        }
        if member.delay_until_ms.is_some_and(|at| now >= at) {
            self.enable(port, up);
        }
    }

    /// `bond/enable-member`, and what delays end in.
    pub fn enable(&mut self, port: OfPort, enable: bool) {
        let Some(member) = self.members.get_mut(&port) else { return };
        member.delay_until_ms = None;
        if member.enabled == enable {
            return;
        }
        member.enabled = enable;
        self.changed = true;
        if enable {
            self.turn.push_front(port);
            if self.buckets.iter().all(|b| b.tx_bytes == 0) {
                // No traffic has been counted, so none is torn: the newcomer gets its share at once.
                self.buckets.iter_mut().for_each(|b| b.member = None);
            }
        } else {
            self.turn.retain(|p| *p != port);
            self.must_teach = true;
        }
        tracing::info!(target: "bond", "member {}: {}", member.link.name, if enable { "enabled" } else { "disabled" });
    }

    /// `bond/set-active-member`. Gives false when it was active already.
    pub fn set_active(&mut self, port: OfPort) -> bool {
        if self.active == Some(port) {
            return false;
        }
        self.become_active(Some(port));
        true
    }

    fn become_active(&mut self, port: Option<OfPort>) {
        let member = port.and_then(|p| self.members.get(&p));
        self.active_mac = member.map_or([0; 6], |m| m.link.mac);
        match member {
            Some(member) => {
                tracing::info!(target: "bond", "bond {}: active member is now {}", self.name, member.link.name);
                self.must_teach = true;
            }
            None => tracing::info!(target: "bond", "bond {}: all members disabled", self.name),
        }
        self.active = port;
        self.changed = true;
    }

    /// The primary, else the one that was active last, else any that is enabled, else the one that will be first.
    fn choose_active(&mut self) {
        let enabled = || self.members.iter().filter(|(_, m)| m.enabled);
        let waiting = || {
            let coming = self.members.iter().filter(|(_, m)| m.link.may_enable && m.delay_until_ms.is_some());
            coming.min_by_key(|(_, m)| m.delay_until_ms)
        };
        let best = enabled()
            .find(|(p, _)| self.is_primary(**p))
            .or_else(|| enabled().find(|(_, m)| m.link.mac == self.active_mac))
            .or_else(|| enabled().next())
            .or_else(waiting)
            .map(|(port, member)| (*port, member.enabled));
        if let Some((port, false)) = best {
            // Nobody else is there: the rest of the updelay would only lose packets.
            self.enable(port, true);
        }
        let best = best.map(|(port, _)| port);
        if best != self.active {
            self.become_active(best);
        }
        self.must_teach |= best.is_some();
    }

    fn is_primary(&self, port: OfPort) -> bool {
        let name = self.members.get(&port).map(|m| m.link.name.as_str());
        name.is_some() && self.settings.primary.as_deref() == name
    }

    /// Balancing is off because LACP found no partner and one member shall do.
    fn falls_back(&self) -> bool {
        self.settings.lacp_fallback_ab && self.settings.mode != Mode::ActiveBackup && self.lacp == LacpStatus::Configured
    }

    fn reset_buckets(&mut self, now: Msec) {
        self.buckets.clear();
        if self.settings.mode != Mode::ActiveBackup && !self.falls_back() {
            self.buckets.resize(BUCKETS, Bucket::default());
            self.next_rebalance_ms = now + self.settings.rebalance_ms;
        }
    }

    // ---- packets ----

    /// Whether a packet to `eth_dst` that came in by a member is taken.
    #[must_use]
    pub fn admits(&self, port: OfPort, eth_dst: [u8; 6]) -> Verdict {
        let Some(member) = self.members.get(&port) else { return Verdict::Drop };
        let Settings { mode, lacp_fallback_ab, all_members_active, .. } = self.settings;
        match self.lacp {
            // The partner knows of the bond: it sends nothing twice.
            LacpStatus::Negotiated if member.enabled || member.link.may_enable => return Verdict::Accept,
            LacpStatus::Negotiated => return Verdict::Drop,
            LacpStatus::Configured if !lacp_fallback_ab => return Verdict::Drop,
            LacpStatus::Off if mode == Mode::BalanceTcp => return Verdict::Drop,
            LacpStatus::Configured | LacpStatus::Off => {}
        }
        let active = self.active == Some(port);
        if eth_dst[0] & 1 != 0 && !active && !all_members_active {
            return Verdict::Drop;
        }
        match mode {
            Mode::ActiveBackup | Mode::BalanceTcp if active => Verdict::Accept,
            Mode::ActiveBackup | Mode::BalanceTcp => Verdict::Drop,
            Mode::BalanceSlb => Verdict::DropIfMoved,
        }
    }

    /// The member that a packet leaves by, with its bucket if there are buckets; what decided goes into the mask, if there is one. `vlan` is
    /// that of the packet inside the switch.
    pub fn output(&mut self, key: &Key, mask: Option<&mut Mask>, vlan: u16) -> Option<(OfPort, Option<u8>)> {
        let mode = match self.lacp {
            LacpStatus::Configured if !self.settings.lacp_fallback_ab => return None,
            LacpStatus::Configured => Mode::ActiveBackup,
            LacpStatus::Off | LacpStatus::Negotiated => self.settings.mode,
        };
        let fields = match mode {
            Mode::ActiveBackup => return self.active.map(|port| (port, None)),
            Mode::BalanceTcp if self.lacp != LacpStatus::Negotiated => return None,
            Mode::BalanceTcp => HashFields::SymmetricL3L4Udp,
            Mode::BalanceSlb => HashFields::EthSrc,
        };
        if let Some(mask) = mask {
            fields.unwildcard(key, mask);
        }
        let bucket = self.bucket_of(key, vlan);
        self.member_of(bucket).map(|port| (port, u8::try_from(bucket).ok()))
    }

    fn bucket_of(&self, key: &Key, vlan: u16) -> usize {
        let hash = match self.settings.mode {
            Mode::BalanceTcp => flow_hash::hash_5tuple(key, self.settings.basis),
            Mode::BalanceSlb | Mode::ActiveBackup => hash_mac(key.eth_src, vlan, self.settings.basis),
        };
        hash as usize % BUCKETS
    }

    /// The member of a bucket; one that has none, or whose member is disabled, gets the next in turn.
    fn member_of(&mut self, bucket: usize) -> Option<OfPort> {
        let assigned = self.buckets.get(bucket)?.member.filter(|p| self.members.get(p).is_some_and(|m| m.enabled));
        if assigned.is_some() {
            return assigned;
        }
        let next = self.turn.pop_front();
        self.turn.extend(next);
        self.buckets[bucket].member = next;
        next
    }

    /// Whether the datapath hashes the packets: the recirculation id, and whether its own table of buckets is used.
    #[must_use]
    pub fn recirculation(&self) -> Option<(u32, bool)> {
        self.may_recirculate().then_some((self.recirc_id, self.settings.lb_output))
    }

    fn may_recirculate(&self) -> bool {
        self.settings.mode == Mode::BalanceTcp && !self.falls_back()
    }

    /// Gives every bucket a member that works.
    fn populate(&mut self) {
        for bucket in 0..self.buckets.len() {
            self.member_of(bucket);
        }
    }

    /// The member of each bucket.
    #[must_use]
    pub fn table(&self) -> Vec<Option<OfPort>> {
        self.buckets.iter().map(|b| b.member).collect()
    }

    /// Bytes went out by a bucket.
    pub fn account(&mut self, bucket: u8, bytes: u64) {
        if self.is_balanced()
            && let Some(bucket) = self.buckets.get_mut(usize::from(bucket))
        {
            bucket.tx_bytes += bytes;
        }
    }

    fn is_balanced(&self) -> bool {
        self.settings.rebalance_ms != 0 && !self.buckets.is_empty()
    }

    /// Whether neighbours have to be told by packets from the MACs behind us that those are to be reached by another member now; asked
    /// once. With LACP the partner knows by itself.
    pub fn take_must_teach(&mut self) -> bool {
        let silent = match self.lacp {
            LacpStatus::Off => self.settings.mode == Mode::BalanceTcp,
            LacpStatus::Configured => !self.settings.lacp_fallback_ab,
            LacpStatus::Negotiated => true,
        };
        std::mem::take(&mut self.must_teach) && !silent && self.active.is_some()
    }

    /// Whether translations have to be made again; asked once.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// When a delay ends.
    #[must_use]
    pub fn wake_ms(&self) -> Msec {
        self.members.values().filter_map(|m| m.delay_until_ms).min().unwrap_or(Msec::MAX)
    }

    /// MAC of the active member; zero for none.
    #[must_use]
    pub fn active_mac(&self) -> [u8; 6] {
        self.active_mac
    }

    /// Basis of the datapath's hash.
    #[must_use]
    pub fn basis(&self) -> u32 {
        self.settings.basis
    }

    /// The port's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The member of that name, and whether it is enabled.
    #[must_use]
    pub fn member_named(&self, name: &str) -> Option<(OfPort, bool)> {
        self.members.iter().find(|(_, m)| m.link.name == name).map(|(port, m)| (*port, m.enabled))
    }

    /// Whether it balances by source.
    #[must_use]
    pub fn is_slb(&self) -> bool {
        self.settings.mode == Mode::BalanceSlb
    }

    /// `bond/migrate`
    /// # Errors
    /// The bond does not balance by source.
    pub fn migrate(&mut self, bucket: u8, port: OfPort) -> Result<(), &'static str> {
        if self.settings.mode != Mode::BalanceSlb || self.buckets.is_empty() {
            return Err("not an SLB bond");
        }
        self.buckets[usize::from(bucket)].member = Some(port);
        self.changed = true;
        Ok(())
    }
}

/// The hash of balance-slb and `bond/hash`: MurmurHash3 (x86, 32 bits) over MAC and VLAN as one 64-bit number, as OVS hashes them where
/// the machine is asked for nothing better.
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "the halves of a 64-bit number")]
pub fn hash_mac(mac: [u8; 6], vlan: u16, basis: u32) -> u32 {
    let mac = mac.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    let both = mac | u64::from(vlan) << 48;
    let add = |hash: u32, data: u32| {
        let data = data.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
        (hash ^ data).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
    };
    let mut hash = add(add(basis, both as u32), (both >> 32) as u32) ^ 8;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}
