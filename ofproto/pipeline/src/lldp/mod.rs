//! Link layer discovery (IEEE 802.1AB), and what auto-attach says by it: which services (I-SIDs) the switch wants on which VLANs, and what the
//! server has made of that.
//!
//! What enters: settings, data units, time. What leaves: data units to send, VLANs for the port to carry, text. Neighbours: `protocols` gives it
//! packets and time; the daemon puts the VLANs into `Port.trunks`.

#[cfg(test)]
mod tests;
pub mod wire;

use crate::options::Options;
use flow::Msec;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use wire::{Assignment, Local, Neighbour};

/// Time between two data units.
const INTERVAL_MS: Msec = 5000;
/// How long a neighbour shall remember us.
const TTL_S: u16 = 120;
/// How long is told that a VLAN is not granted any more: whoever acts on it looks more often. Later it may be carried for other reasons.
const TOLD_MS: Msec = 10_000;
/// State of an assignment that the server has accepted.
const ACTIVE: u8 = 2;
const DESCRIPTION: &str = "Open vSwitch";
/// Neighbours remembered per port.
pub const NEIGHBOURS_MAX: usize = 32;

/// What the switch asks of auto-attach servers (the table `AutoAttach`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AutoAttach {
    pub system_name: String,
    pub system_description: String,
    /// I-SID and VLAN, by I-SID.
    pub mappings: Vec<(u32, u16)>,
}

/// VLANs of auto-attach.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Vlans {
    pub granted: BTreeSet<u16>,
    pub withdrawn: BTreeSet<u16>,
}

impl Vlans {
    /// What a port carries of `trunks` and these; `None` if it does already.
    #[must_use]
    pub fn change(&self, trunks: &[u16]) -> Option<BTreeSet<u16>> {
        let before: BTreeSet<u16> = trunks.iter().copied().collect();
        let kept = before.iter().filter(|vlan| !self.withdrawn.contains(vlan));
        let after: BTreeSet<u16> = kept.chain(&self.granted).copied().collect();
        (after != before).then_some(after)
    }
}

/// Whether `Interface.lldp` enables a port.
#[must_use]
pub fn is_enabled(pairs: &[(String, String)]) -> bool {
    Options(pairs).bool("enable", false)
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    tx: u64,
    rx: u64,
    discarded: u64,
    unrecognized: u64,
    aged_out: u64,
    inserted: u64,
    deleted: u64,
    dropped: u64,
}

/// A port that speaks LLDP.
#[derive(Clone, Debug)]
pub struct Session {
    name: String,
    wants: AutoAttach,
    /// What servers said of the mappings, by I-SID.
    answers: BTreeMap<u32, u8>,
    /// VLANs that were granted and are not any more, with until when that is told.
    withdrawn: BTreeMap<u16, Msec>,
    /// By chassis and port, with when they are to be forgotten.
    neighbours: BTreeMap<(Vec<u8>, Vec<u8>), (Neighbour, Msec)>,
    tx_ms: Msec,
    counts: Counts,
}

impl Session {
    /// A port that first speaks an interval from now.
    #[must_use]
    pub fn new(name: &str, wants: AutoAttach, now: Msec) -> Self {
        Self {
            name: name.to_owned(),
            wants,
            answers: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            tx_ms: now + INTERVAL_MS,
            counts: Counts::default(),
        }
    }

    /// Takes up other wishes; answers to those that stay are kept.
    pub fn configure(&mut self, wants: AutoAttach, now: Msec) {
        let before = self.granted();
        self.answers.retain(|isid, _| wants.mappings.iter().any(|(i, _)| i == isid));
        self.wants = wants;
        self.note_withdrawn(&before, now);
    }

    /// VLANs that a server has granted.
    fn granted(&self) -> BTreeSet<u16> {
        let granted = |isid: &u32| self.answers.get(isid) == Some(&ACTIVE);
        self.wants.mappings.iter().filter(|(isid, _)| granted(isid)).map(|(_, vlan)| *vlan).collect()
    }

    fn note_withdrawn(&mut self, before: &BTreeSet<u16>, now: Msec) {
        let granted = self.granted();
        self.withdrawn.retain(|vlan, until| !granted.contains(vlan) && now < *until);
        self.withdrawn.extend(before.difference(&granted).map(|vlan| (*vlan, now + TOLD_MS)));
    }

    /// VLANs that the port is to carry for auto-attach, and such as it is not to carry any longer.
    #[must_use]
    pub fn vlans(&self, now: Msec) -> Vlans {
        let lost = self.withdrawn.iter().filter(|(_, until)| now < **until);
        Vlans { granted: self.granted(), withdrawn: lost.map(|(vlan, _)| *vlan).collect() }
    }

    /// A data unit came (what follows the Ethernet type).
    pub fn receive(&mut self, bytes: &[u8], now: Msec) {
        self.counts.rx += 1;
        let neighbour = match Neighbour::parse(bytes) {
            Ok(neighbour) => neighbour,
            Err(error) => {
                self.counts.discarded += 1;
                tracing::warn!(target: "lldp", "{error} received on {}", self.name);
                return;
            }
        };
        self.counts.unrecognized += neighbour.unrecognized;
        let before = self.granted();
        for answer in &neighbour.assignments {
            if self.wants.mappings.iter().any(|(isid, _)| *isid == answer.isid) {
                self.answers.insert(answer.isid, answer.status);
            }
        }
        self.note_withdrawn(&before, now);
        let key = (neighbour.chassis.clone(), neighbour.port.clone());
        if neighbour.ttl_s == 0 {
            self.counts.deleted += u64::from(self.neighbours.remove(&key).is_some());
            return;
        }
        let known = self.neighbours.contains_key(&key);
        if !known && self.neighbours.len() >= NEIGHBOURS_MAX {
            self.counts.dropped += 1;
            return;
        }
        self.counts.inserted += u64::from(!known);
        let until = now + Msec::from(neighbour.ttl_s) * 1000;
        self.neighbours.insert(key, (neighbour, until));
    }

    /// The data unit that is due, as a frame; `mac` is the port's.
    pub fn transmit(&mut self, mac: [u8; 6], now: Msec) -> Option<Vec<u8>> {
        let before = self.neighbours.len();
        self.neighbours.retain(|_, (_, until)| now < *until);
        self.counts.aged_out += u64::try_from(before - self.neighbours.len()).unwrap_or(0);
        if now < self.tx_ms {
            return None;
        }
        self.tx_ms = now + INTERVAL_MS;
        self.counts.tx += 1;
        // 1 is "pending": asked for.
        let ask = |(isid, vlan): &(u32, u16)| Assignment { isid: *isid, vlan: *vlan, status: 1 };
        let assignments: Vec<Assignment> = self.wants.mappings.iter().map(ask).collect();
        let description = Some(self.wants.system_description.as_str()).filter(|d| !d.is_empty());
        Some(wire::frame(&Local {
            mac,
            port: &self.name,
            system_name: &self.wants.system_name,
            system_description: description.unwrap_or(DESCRIPTION),
            ttl_s: TTL_S,
            assignments: &assignments,
        }))
    }

    /// When `transmit` has something to do.
    #[must_use]
    pub fn wake_ms(&self) -> Msec {
        self.neighbours.values().map(|(_, until)| *until).min().unwrap_or(Msec::MAX).min(self.tx_ms)
    }

    /// The lines of `autoattach/statistics`.
    #[must_use]
    pub fn statistics(&self) -> String {
        let c = &self.counts;
        let rows = [
            ("tx cnt", c.tx),
            ("rx cnt", c.rx),
            ("rx discarded cnt", c.discarded),
            ("rx unrecognized cnt", c.unrecognized),
            ("ageout cnt", c.aged_out),
            ("insert cnt", c.inserted),
            ("delete cnt", c.deleted),
            ("drop cnt", c.dropped),
        ];
        let mut out = format!("Statistics: {}\n", self.name);
        for (name, count) in rows {
            writeln!(out, "  {name}: {count}").expect("a String takes everything");
        }
        out
    }

    /// The lines of `autoattach/status`: the servers that were found.
    #[must_use]
    pub fn servers(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":");
        let mut out = format!("LLDP: {}\n", self.name);
        for (neighbour, _) in self.neighbours.values() {
            let Some(element) = neighbour.element.filter(|e| *e != [0; 10]) else { continue };
            let description = neighbour.system_description.as_deref().unwrap_or("<None>");
            out += &format!("  Auto Attach Primary Server Id: {}\n", hex(&neighbour.chassis[1..]));
            out += &format!("  Auto Attach Primary Server Descr: {description}\n");
            out += &format!("  Auto Attach Primary Server System Id: {}\n", hex(&element));
        }
        out
    }

    /// The lines of `autoattach/show-isid`: what became of the mappings.
    #[must_use]
    pub fn mappings(&self) -> String {
        let mut out = format!("LLDP: {}\n", self.name);
        writeln!(out, "{:<8} {:<4} {:<11} {:<8}", "I-SID", "VLAN", "Source", "Status").expect("a String takes everything");
        out += "-------- ---- ----------- --------\n";
        for (isid, vlan) in &self.wants.mappings {
            let status = match self.answers.get(isid) {
                None | Some(1) => "Pending",
                Some(&ACTIVE) => "Active",
                Some(3..=8) => "Rejected",
                Some(_) => "Undefined",
            };
            writeln!(out, "{isid:<8} {vlan:<4} {:<11} {status:<11}", "Switch").expect("a String takes everything");
        }
        out
    }
}
