//! What `system` and tap ports share: a netdev of the kernel behind the port, and the account of its state.
//!
//! What enters: a name; link events. What leaves: MTU, MAC and flags in `Shared`, statistics, changes. Neighbours: `netlink`, `device`.

use crate::device::{LinkState, Mac, PortError, PortStats, Shared};
use crate::netlink::request::Session;
use crate::netlink::{Event, Link, LinkStats, qdisc, qdisc_report};
use flow::seam::{Qos, QosReport};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A netdev that was found.
#[derive(Clone, Debug)]
pub(crate) struct Netdev {
    pub(crate) name: String,
    pub(crate) ifindex: u32,
    pub(crate) shared: Arc<Shared>,
    /// Bound to the network namespace in which the device was found.
    session: Arc<Mutex<Session>>,
}

impl Netdev {
    /// Finds a device in the calling thread's network namespace.
    pub(crate) fn find(name: &str, shared: &Arc<Shared>) -> Result<(Self, Link), PortError> {
        let fault = |source| PortError::Os { name: name.to_owned(), what: "asking for the device", source };
        let mut session = Session::new().map_err(fault)?;
        let link = session.link_by_name(name).map_err(fault)?;
        let link = link.ok_or_else(|| PortError::NoDevice { name: name.to_owned() })?;
        let (name, session) = (name.to_owned(), Arc::new(Mutex::new(session)));
        let netdev = Self { name, ifindex: link.ifindex, shared: Arc::clone(shared), session };
        netdev.note(&link);
        Ok((netdev, link))
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
    pub(crate) fn follow(&self, event: &Event) -> bool {
        match event {
            Event::Link(link) if link.ifindex == self.ifindex => {
                let before = self.shared.fingerprint();
                self.note(link);
                before != self.shared.fingerprint()
            }
            Event::LinkGone { ifindex, .. } if *ifindex == self.ifindex => !self.shared.gone.swap(true, Ordering::Relaxed),
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
        let before = self.shared.fingerprint();
        match self.session().link_by_index(self.ifindex) {
            Ok(Some(link)) => self.note(&link),
            Ok(None) => self.shared.gone.store(true, Ordering::Relaxed),
            Err(_) => {}
        }
        before != self.shared.fingerprint()
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
        self.session().set_mtu(self.ifindex, mtu).map_err(|e| self.fault("setting the MTU", e))?;
        self.shared.mtu.store(mtu, Ordering::Relaxed);
        Ok(())
    }

    /// Makes the root queueing discipline the one asked for; `None` takes it away.
    pub(crate) fn set_qos(&self, qos: Option<&Qos>, speed_bps: u64) -> Result<(), PortError> {
        let mut session = self.session();
        let line = qdisc::Line { speed: speed_bps / 8, mtu: self.shared.mtu.load(Ordering::Relaxed) };
        let set = match qos {
            Some(qos) => qdisc::set(&mut session, self.ifindex, qos, line),
            None => qdisc::clear(&mut session, self.ifindex),
        };
        drop(session);
        set.map_err(|e| self.fault("setting the queueing discipline", e))
    }

    /// What the QoS that was set has come to, with what its classes have sent.
    pub(crate) fn qos_report(&self, qos: &Qos, speed_bps: u64) -> Result<QosReport, PortError> {
        let line = qdisc::Line { speed: speed_bps / 8, mtu: self.shared.mtu.load(Ordering::Relaxed) };
        let told = qdisc_report::report(&mut self.session(), self.ifindex, qos, line);
        told.map_err(|e| self.fault("asking for the queues", e))
    }

    pub(crate) fn set_mac(&self, mac: Mac) -> Result<(), PortError> {
        self.session().set_mac(self.ifindex, mac).map_err(|e| self.fault("setting the MAC", e))?;
        self.shared.set_mac(mac);
        Ok(())
    }

    pub(crate) fn set_up(&self, up: bool) -> Result<(), PortError> {
        self.session().set_up(self.ifindex, up).map_err(|e| self.fault("setting the state", e))?;
        self.refresh();
        Ok(())
    }

    pub(crate) fn stats(&self) -> Result<LinkStats, PortError> {
        match self.session().link_by_index(self.ifindex) {
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
