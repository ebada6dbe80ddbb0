//! What `system` and tap ports share: a netdev of the kernel behind the port, and the account of its state.
//!
//! What enters: a name; link events. What leaves: MTU, MAC and flags in `Shared`, statistics, changes. Neighbours: `netlink`, `device`, `tap`.
//!
//! A tap stays the port's wherever its netdev is: moved into a container's network namespace, it is asked for there and followed (decision 0148).
//! Any other netdev that leaves the namespace is gone.

use crate::device::{LinkState, Mac, PortError, PortStats, Shared};
use crate::netlink::request::{At, Session};
use crate::netlink::{Event, Link, LinkStats, Told, qdisc, qdisc_report};
use crate::{sys, tap};
use flow::seam::{Qos, QosReport};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A netdev that was found.
#[derive(Clone, Debug)]
pub(crate) struct Netdev {
    pub(crate) name: String,
    pub(crate) shared: Arc<Shared>,
    /// Bound to that namespace.
    session: Arc<Mutex<Session>>,
    /// Where it is now.
    place: Arc<Mutex<At>>,
    /// The other end of a tap, which knows where its netdev is.
    tap: Option<Arc<File>>,
}

impl Netdev {
    /// Finds a device in the calling thread's network namespace.
    pub(crate) fn find(name: &str, shared: &Arc<Shared>) -> Result<(Self, Link), PortError> {
        let fault = |source| PortError::Os { name: name.to_owned(), what: "asking for the device", source };
        let mut session = Session::new().map_err(fault)?;
        let link = session.link_by_name(name).map_err(fault)?;
        let link = link.ok_or_else(|| PortError::NoDevice { name: name.to_owned() })?;
        let (name, session) = (name.to_owned(), Arc::new(Mutex::new(session)));
        let place = Arc::new(Mutex::new(At::from(link.ifindex)));
        let netdev = Self { name, shared: Arc::clone(shared), session, place, tap: None };
        netdev.note(&link);
        Ok((netdev, link))
    }

    /// The same of the netdev of a tap.
    pub(crate) fn of_tap(self, tap: &Arc<File>) -> Self {
        Self { tap: Some(Arc::clone(tap)), ..self }
    }

    /// It is somewhere, but could not be found: `refresh` looks again.
    pub(crate) fn is_lost(&self) -> bool {
        self.place() == NOWHERE
    }

    /// Where the device is now.
    pub(crate) fn place(&self) -> At {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index where it is now.
    pub(crate) fn ifindex(&self) -> u32 {
        self.place().ifindex
    }

    /// The index, for a change of `what`, which only those of its own namespace may make.
    fn settable(&self, what: &'static str) -> Result<u32, PortError> {
        match self.place() {
            At { ifindex, nsid: None } => Ok(ifindex),
            At { .. } => Err(PortError::Elsewhere { name: self.name.clone(), what }),
        }
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, link: &Link) {
        self.shared.mtu.store(link.mtu, Ordering::Relaxed);
        if let Some(mac) = link.mac {
            self.shared.set_mac(mac);
        }
        self.shared.set_link(LinkState { admin_up: link.admin_up, carrier: link.carrier, gone: false });
    }

    /// Takes over what an event tells about this device; whether anything changed.
    pub(crate) fn follow(&self, (nsid, event): &Told) -> bool {
        let place = self.place();
        let is_here = |ifindex: u32| place == At { ifindex, nsid: *nsid };
        match event {
            Event::Link(link) if is_here(link.ifindex) => {
                let before = self.shared.fingerprint();
                self.note(link);
                before != self.shared.fingerprint()
            }
            Event::LinkGone { ifindex, .. } if is_here(*ifindex) => self.refresh(),
            Event::Overrun => self.refresh(),
            Event::Link(_)
            | Event::LinkGone { .. }
            | Event::Address(_)
            | Event::AddressGone(_)
            | Event::Route(_)
            | Event::RouteGone(_)
            | Event::Rule(_)
            | Event::RuleGone(_) => false,
        }
    }

    /// Asks the kernel anew; whether anything changed.
    pub(crate) fn refresh(&self) -> bool {
        let mut session = self.session();
        let before = (self.shared.fingerprint(), self.place());
        match session.link_by_index(before.1) {
            Ok(Some(link)) => self.note(&link),
            Err(_) if before.1.nsid.is_none() => {}
            // An error is the answer for a namespace that has ended.
            Ok(None) | Err(_) => self.seek(&mut session),
        }
        drop(session);
        before != (self.shared.fingerprint(), self.place())
    }

    /// Looks for the device that is no longer where it was. A tap is somewhere until somebody deletes it.
    fn seek(&self, session: &mut Session) {
        let Some(tap) = &self.tap else {
            return self.shared.gone.store(true, Ordering::Relaxed);
        };
        // It may be given another name, or be moved on, between the questions.
        let first = find_tap(session, tap);
        let place = match (1..SEEKS).fold(first, |found, _| found.or_else(|_| find_tap(session, tap))) {
            Ok(Some((place, link))) => {
                self.note(&link);
                place
            }
            Ok(None) => return self.shared.gone.store(true, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!(target: "netdev_linux", rl = 60, burst = 5, "{}: in a network namespace that cannot be looked into ({error})", self.name);
                // Frames are refused if it is not so.
                self.shared.set_link(LinkState { admin_up: true, carrier: true, gone: false });
                NOWHERE
            }
        };
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
        // Only here the next daemon will find it.
        let _ = tap::persist(tap, place.nsid.is_none());
    }

    /// To be called when the device refused something: notes whether it is gone. Makes a system call.
    pub(crate) fn suspect(&self) -> bool {
        self.refresh();
        self.shared.gone.load(Ordering::Relaxed)
    }

    /// The same for senders, which may be refused at every batch: asks only while the device is thought to be up.
    pub(crate) fn suspect_once(&self) {
        let thought_up = self.shared.admin_up.load(Ordering::Relaxed);
        if thought_up && !self.shared.gone.load(Ordering::Relaxed) {
            self.suspect();
        }
    }

    pub(crate) fn set_mtu(&self, mtu: u32) -> Result<(), PortError> {
        self.session().set_mtu(self.settable("the MTU")?, mtu).map_err(|e| self.fault("setting the MTU", e))?;
        self.shared.mtu.store(mtu, Ordering::Relaxed);
        Ok(())
    }

    /// Makes the root queueing discipline the one asked for; `None` takes it away.
    pub(crate) fn set_qos(&self, qos: Option<&Qos>, speed_bps: u64) -> Result<(), PortError> {
        let mut session = self.session();
        let line = qdisc::Line { speed: speed_bps / 8, mtu: self.shared.mtu.load(Ordering::Relaxed) };
        let set = match qos {
            Some(qos) => qdisc::set(&mut session, self.ifindex(), qos, line),
            None => qdisc::clear(&mut session, self.ifindex()),
        };
        drop(session);
        set.map_err(|e| self.fault("setting the queueing discipline", e))
    }

    /// What the QoS that was set has come to, with what its classes have sent.
    pub(crate) fn qos_report(&self, qos: &Qos, speed_bps: u64) -> Result<QosReport, PortError> {
        let line = qdisc::Line { speed: speed_bps / 8, mtu: self.shared.mtu.load(Ordering::Relaxed) };
        let told = qdisc_report::report(&mut self.session(), self.ifindex(), qos, line);
        told.map_err(|e| self.fault("asking for the queues", e))
    }

    pub(crate) fn set_mac(&self, mac: Mac) -> Result<(), PortError> {
        self.session().set_mac(self.settable("the MAC")?, mac).map_err(|e| self.fault("setting the MAC", e))?;
        self.shared.set_mac(mac);
        Ok(())
    }

    pub(crate) fn set_up(&self, up: bool) -> Result<(), PortError> {
        self.session().set_up(self.settable("the state")?, up).map_err(|e| self.fault("setting the state", e))?;
        self.refresh();
        Ok(())
    }

    pub(crate) fn stats(&self) -> Result<LinkStats, PortError> {
        match self.session().link_by_index(self.place()) {
            Ok(Some(link)) => Ok(link.stats),
            Ok(None) => Err(PortError::NoDevice { name: self.name.clone() }),
            Err(source) => Err(self.fault("asking for statistics", source)),
        }
    }

    pub(crate) fn fault(&self, what: &'static str, source: io::Error) -> PortError {
        match source.raw_os_error() {
            Some(libc::ENODEV | libc::ENXIO) => PortError::NoDevice { name: self.name.clone() },
            _ => PortError::Os { name: self.name.clone(), what, source },
        }
    }
}

/// The place of a device that is somewhere.
const NOWHERE: At = At { ifindex: 0, nsid: Some(-1) };

/// How often a device is looked for before it counts as one that cannot be found.
const SEEKS: usize = 5;

/// Where the netdev of a tap is, and what there is to say of it; None if it has been deleted.
fn find_tap(session: &mut Session, tap: &File) -> io::Result<Option<(At, Link)>> {
    let Ok(name) = sys::tap_name(tap) else { return Ok(None) };
    let namespace = sys::tap_namespace(tap)?;
    let nsid = if session.is_of(namespace.as_fd())? { None } else { Some(session.namespace_id(namespace.as_fd())?) };
    let link = session.link_by_name_in(&name, nsid)?.ok_or(io::ErrorKind::NotFound)?;
    Ok(Some((At { ifindex: link.ifindex, nsid }, link)))
}

/// The kernel's figures as a port's. `swap` for taps, whose netdev sends what the port receives.
pub(crate) fn port_stats(stats: &LinkStats, swap: bool) -> PortStats {
    let straight = PortStats {
        rx_packets: stats.rx_packets,
        tx_packets: stats.tx_packets,
        rx_bytes: stats.rx_bytes,
        tx_bytes: stats.tx_bytes,
        rx_dropped: Some(stats.rx_dropped),
        tx_dropped: Some(stats.tx_dropped),
        rx_errors: Some(stats.rx_errors),
        tx_errors: Some(stats.tx_errors),
        multicast: Some(stats.multicast),
        collisions: Some(stats.collisions),
        rx_over_errors: Some(stats.rx_over_errors),
        rx_crc_errors: Some(stats.rx_crc_errors),
        rx_frame_errors: Some(stats.rx_frame_errors),
        rx_missed_errors: Some(stats.rx_missed_errors),
    };
    if !swap {
        return straight;
    }
    PortStats {
        rx_packets: straight.tx_packets,
        tx_packets: straight.rx_packets,
        rx_bytes: straight.tx_bytes,
        tx_bytes: straight.rx_bytes,
        rx_dropped: straight.tx_dropped,
        tx_dropped: straight.rx_dropped,
        rx_errors: straight.tx_errors,
        tx_errors: straight.rx_errors,
        ..straight
    }
}
