//! The link protocols of a bridge: what they remember, and how they are joined to the rest of the switch.
//!
//! What enters: configuration (`configure`), their packets (`intercept`, called by translation), time (`run`). What leaves: packets to send,
//! ports that may or may not carry traffic (`Watch`), members of bonds, text. Neighbours: the machines themselves (`bfd`, `cfm`, `lacp`, `bond`,
//! `stp`, `rstp`, `lldp`), which know of nothing here; `xlate`, `slowpath`.
//!
//! # Locks
//!
//! The machines of a bridge stand behind one mutex, taken after the world's lock and never across a translation or a call of the datapath
//! that could come back here: `run` gathers what is to be sent, lets go, and sends then. What a translation asks of each packet (may this port
//! forward, is this packet ours) stands in the world itself, in `Port::watch`, and changes under the world's write lock.

mod apply;
mod configure;
mod intercept;
pub mod jitter;
mod monitor;
mod run;
mod send;
mod spanning;
mod status;
#[cfg(test)]
mod tests;

pub use configure::configure;
pub use intercept::{Arrival, Special, is_bpdu};
pub(crate) use monitor::Monitor;
pub use spanning::{Gate, Spanning};
pub use status::{LinkStatus, PortStatus};
pub(crate) use status::{link_status, port_status, tree_status};

use crate::bond::Bond;
use crate::bridge::BundleId;
use crate::lacp::Lacp;
use crate::recirc::RecircRef;
use crate::rstp::Rstp;
use crate::rule::Rule;
use crate::stp::Stp;
use crate::{bfd, cfm, in_band, lldp};
use flow::Msec;
use flow::seam::{BOND_BUCKETS, BondTable};
use nix::sys::eventfd::{EfdFlags, EventFd};
use openflow::OfPort;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use tokio::sync::Notify;

flow::counters! {
    PROTOCOL_MALFORMED = "ofproto_protocol_malformed", "packets of link protocols that were not understood; dropped";
    PROTOCOL_SEND_FAILED = "ofproto_protocol_send_failed", "packets of link protocols that could not be sent";
}

/// What translation has to know of a port's protocols.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Watch {
    pub bfd: Option<bfd::Filter>,
    pub cfm: Option<cfm::Filter>,
    pub lacp: bool,
    pub lldp: bool,
    pub gate: Gate,
    /// None of BFD, CFM and LACP objects to traffic. Not before the port has been configured.
    pub may_enable: bool,
}

/// Sessions of a port.
#[derive(Debug, Default)]
pub struct Sessions {
    pub bfd: Option<bfd::Session>,
    pub cfm: Option<cfm::Session>,
    pub lldp: Option<lldp::Session>,
}

impl Sessions {
    /// When something is due.
    #[must_use]
    pub fn wake_ms(&self) -> Msec {
        let bfd = self.bfd.as_ref().map(bfd::Session::wake_ms);
        let cfm = self.cfm.as_ref().map(cfm::Session::wake_ms);
        let lldp = self.lldp.as_ref().map(lldp::Session::wake_ms);
        [bfd, cfm, lldp].into_iter().flatten().min().unwrap_or(Msec::MAX)
    }
}

/// A bond with what it holds of the bridge.
#[derive(Debug)]
pub struct BondEntry {
    pub bond: Bond,
    /// Names the lookup in the internal table behind the datapath's hash.
    pub recirc: Option<Arc<RecircRef>>,
    /// The rules of that lookup, one per bucket: the member they lead to, and the bytes that were accounted.
    pub rules: BTreeMap<u8, (OfPort, Arc<Rule>, u64)>,
    /// What the datapath has been given, if it chooses the member itself (`lb_output`).
    pub table: Option<Box<BondTable>>,
    /// Bytes of that table that were accounted.
    pub accounted: Option<Box<[u64; BOND_BUCKETS]>>,
}

/// Everything of one bridge.
#[derive(Debug, Default)]
pub struct Machines {
    pub sessions: BTreeMap<OfPort, Sessions>,
    pub lacps: BTreeMap<BundleId, Lacp>,
    pub bonds: BTreeMap<BundleId, BondEntry>,
    pub stp: Option<Stp>,
    pub rstp: Option<Rstp>,
    pub in_band: in_band::InBand,
}

impl Machines {
    /// When something is due.
    #[must_use]
    pub fn wake_ms(&self) -> Msec {
        let sessions = self.sessions.values().map(Sessions::wake_ms);
        let lacps = self.lacps.values().map(Lacp::wake_ms);
        let bonds = self.bonds.values().map(|b| b.bond.wake_ms());
        let trees = [self.stp.as_ref().map(Stp::wake_ms), self.rstp.as_ref().map(Rstp::wake_ms)];
        sessions
            .chain(trees.into_iter().flatten())
            .chain(lacps)
            .chain(bonds)
            .min()
            .unwrap_or(Msec::MAX)
            .min(self.in_band.wake_ms())
    }
}

/// The machines of a bridge, behind their lock.
#[derive(Debug, Default)]
pub struct Protocols(Mutex<Machines>);

impl Protocols {
    /// The machines. Translate nothing while holding them.
    pub fn lock(&self) -> MutexGuard<'_, Machines> {
        self.0.lock().expect("no holder of the protocols panics")
    }
}

/// Wakes whoever gives the protocols their time, and counts what has changed for those who tell others of it.
#[derive(Debug, Default)]
pub struct Wake {
    due: AtomicBool,
    /// Wakes the sleeper, once there is one.
    bell: OnceLock<EventFd>,
    news: AtomicU64,
    newsflash: Notify,
    /// Sessions made so far, for numbers that are to be unique.
    sessions: AtomicU64,
}

impl Wake {
    /// Something is due at once.
    pub fn wake(&self) {
        self.due.store(true, Ordering::Release);
        if let Some(bell) = self.bell.get() {
            // It is refused only to a bell that has rung 2^64 - 2 times and was never heard.
            let _ = bell.write(1);
        }
    }

    /// Whether `wake` was called since the last time.
    pub fn take_due(&self) -> bool {
        self.due.swap(false, Ordering::AcqRel)
    }

    /// What rings (can be read) from `wake` until `silence`, for the thread that sleeps until then.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub(crate) fn bell(&self) -> io::Result<&EventFd> {
        if self.bell.get().is_none() {
            let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
            // If somebody else was quicker, that one is as good.
            let _ = self.bell.set(EventFd::from_flags(flags)?);
        }
        Ok(self.bell.get().expect("it was made just now"))
    }

    /// Ends the ringing; whether there was any.
    pub(crate) fn silence(&self) -> bool {
        self.bell.get().is_some_and(|bell| bell.read().is_ok())
    }

    /// Something that the database tells of has changed.
    pub fn note_news(&self) {
        self.news.fetch_add(1, Ordering::Relaxed);
        self.newsflash.notify_one();
    }

    /// Returns when something has changed since the last call did. For one caller.
    pub async fn wait_for_news(&self) {
        self.newsflash.notified().await;
    }

    /// How often it has.
    #[must_use]
    pub fn news(&self) -> u64 {
        self.news.load(Ordering::Relaxed)
    }

    fn next_session(&self) -> u32 {
        u32::try_from(self.sessions.fetch_add(1, Ordering::Relaxed) & 0xffff_ffff).expect("masked to 32 bits")
    }
}
