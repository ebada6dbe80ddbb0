//! The datapath's ports as the control thread keeps them: numbers, devices, and who polls what.
//!
//! What enters: requests of the seam, link events of the kernel. What leaves: outlets and receive queues for workers, events and
//! figures for the slow path. Neighbours: `crew` (who polls), `worker` (commands), `port` (devices), `switch` (which holds the lock).
//!
//! What the kernel tells of devices is taken when there is something (`hear`), and concerns only the ports of those devices; what nobody tells of is
//! looked for at every port now and then (`look`).
//!
//! A change of one port touches that port's queues only: the others are polled on. A device that vanished leaves its port parked:
//! the number stays, nothing is polled, output to it is dropped and counted, and the device is opened again when one of its name appears.

use crate::config::Settings;
use crate::counters::{PORT_RETURNED, PORT_VANISHED};
use crate::crew::{Crew, Hire};
use crate::forward::{Core, Shared};
use crate::heard::Heard;
use crate::one_port::{Port, Seen, affinity_of, open, open_host};
use crate::outlets::Outlet;
use crate::policer::Policer;
use crate::qsbr::Unlinked;
use crate::register::Register;
use crate::retry::{RETRY_MS, Retry};
use crate::topology::Topology;
use crate::tunnel_pop::Decap;
use crate::upcall::PortQueue;
use crate::worker::Command;
use flow::DpPort;
use flow::clock::Msec;
use flow::seam::{DpError, DpEvent, PortInfo, PortRequest, PortStats, QosReport, TooLong};
use port::netlink::{Event, Monitor, Told};
use port::{Device, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Ways of the host's stack, with what they take, kept for the slow path. Which are left out are found again by the next packets that are too long.
const PATHS_MAX: usize = 4096;

/// What ports need to be connected: the core that carries `execute` out, and workers.
pub struct Means<'a> {
    pub aux: &'a mut Core,
    pub settings: &'a Settings,
    pub topology: &'a Topology,
    pub hire: &'a mut Hire<'a>,
    pub now_ms: Msec,
}

impl std::fmt::Debug for Means<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Means").finish_non_exhaustive()
    }
}

/// All ports and all workers.
#[derive(Debug, Default)]
pub struct Ports {
    ports: BTreeMap<DpPort, Port>,
    register: Register,
    pub crew: Crew,
    /// Ports that have changed.
    changed: BTreeSet<DpPort>,
    /// Of ways of the host's stack.
    paths: Vec<DpEvent>,
    monitor: Option<Monitor>,
    /// When a missing monitor may be made again; `None`: there never was need of one.
    listen_ms: Option<Msec>,
    /// Nothing was heard for a while.
    was_deaf: bool,
    /// Numbers by name, as the dummy datapath has them.
    by_name: bool,
}

impl Ports {
    /// No ports yet. `by_name`: numbers are taken from names, as the dummy datapath's are.
    #[must_use]
    pub fn new(by_name: bool) -> Self {
        Self { by_name, ..Self::default() }
    }

    /// Adds a port and starts polling it.
    pub fn add(&mut self, request: &PortRequest, means: &mut Means<'_>) -> Result<DpPort, DpError> {
        if self.register.find(&request.name).is_some() {
            return Err(DpError::PortExists);
        }
        let number = self.number_for(request)?;
        let tunnel = Decap::of(request);
        if tunnel.is_none() && Kind::from_type(&request.kind).is_some_and(is_netdev) {
            // Before its state is asked for, so that no change falls in between.
            self.watch(means.now_ms);
        }
        let device = if tunnel.is_some() { open_host(request)? } else { Some(open(request)?) };
        let upcalls = PortQueue::new(number);
        let seen = device.as_ref().map(Seen::of).unwrap_or_default();
        let request = request.clone();
        let too_long = tunnel.map(|_| Arc::default());
        let port = Port {
            request,
            device,
            tunnel,
            too_long,
            upcalls,
            seen,
            link_resets: 0,
            retry: Retry::default(),
            mii_ms: None,
            queued: None,
        };
        self.register.enter(&port.request.name, number);
        self.ports.insert(number, port);
        if let Err(error) = self.connect(number, means) {
            self.disconnect(number, means.aux);
            self.take_out(number);
            return Err(error);
        }
        self.queue_as_asked(number, means.now_ms);
        Ok(number)
    }

    /// Forgets a port that nobody uses any more.
    fn take_out(&mut self, number: DpPort) -> Option<Port> {
        let port = self.ports.remove(&number)?;
        self.register.strike(&port.request.name);
        Some(port)
    }

    /// A subscription to the kernel's link events, from the first port with a netdev on.
    fn watch(&mut self, now_ms: Msec) {
        if self.monitor.is_none() {
            let before = self.listen_ms.replace(now_ms + RETRY_MS);
            match Monitor::links_everywhere() {
                Ok(monitor) => (self.monitor, self.was_deaf) = (Some(monitor), before.is_some()),
                Err(error) => tracing::info!(target: "dpif_netdev", rl = 60, burst = 5, "no link events: {error}"),
            }
        }
    }

    /// The same where one was wanted and is missing, unless that was tried just now.
    fn watch_again(&mut self, now_ms: Msec) {
        if self.listen_ms.is_some_and(|at| now_ms >= at) {
            self.watch(now_ms);
        }
    }

    fn number_for(&mut self, request: &PortRequest) -> Result<DpPort, DpError> {
        let wished = request.number.filter(|wished| self.register.is_free(wished.0));
        let named = || {
            let n = number_in(&request.name).filter(|n| self.by_name && *n > 0 && self.register.is_free(*n))?;
            Some(DpPort(n))
        };
        let asked = wished.or_else(named);
        asked.or_else(|| self.register.next_free()).ok_or(DpError::Full("the port table"))
    }

    /// Gives every worker its way out by the port, and sees to it that its receive queues are polled. Each worker sends by the port when this
    /// returns: one that was in the middle of a round would drop what a megaflow that is put now sends there.
    fn connect(&mut self, number: DpPort, means: &mut Means<'_>) -> Result<(), DpError> {
        let port = self.ports.get_mut(&number).ok_or(DpError::NoPort)?;
        self.register.locate(number, port.device.as_ref().and_then(Device::place));
        means.aux.outlets.set(number, port.outlet()?);
        let (done, taken_up) = crossbeam_channel::unbounded();
        for worker in &self.crew.workers {
            worker.handle.send(Command::SetOutlet(number, port.outlet()?, done.clone()));
        }
        drop(done);
        let queues = port.device.as_mut().map(Device::take_rx).unwrap_or_default();
        if !queues.is_empty() {
            (0..queues.len()).for_each(|rx_queue| port.upcalls.open(rx_queue));
            self.crew.board(&port.berth(number), queues);
            self.arrange(means)?;
        }
        // One answer from each, the end when nobody is left to answer.
        taken_up.iter().for_each(drop);
        Ok(())
    }

    /// Has the workers that the settings and the ports want, and deals the receive queues out to them.
    pub fn arrange(&mut self, means: &mut Means<'_>) -> Result<(), DpError> {
        let Means { settings, topology, hire, now_ms, .. } = means;
        let ports = &self.ports;
        let (done, _) = crossbeam_channel::unbounded();
        let mut equip = |id| {
            let handle = hire(id)?;
            for (number, port) in ports {
                let outlet = port.outlet().or_else(|error| {
                    tracing::warn!(target: "dpif_netdev", "{error}");
                    Ok::<_, DpError>(Outlet::new(None, Arc::clone(&port.upcalls)))
                })?;
                // It has no queue yet.
                handle.send(Command::SetOutlet(*number, outlet, done.clone()));
            }
            Ok(handle)
        };
        let mustered = self.crew.muster(settings, topology, *now_ms, &mut equip);
        self.crew.deal(settings, *now_ms);
        mustered
    }

    /// Takes a port's queues and handles away from all workers; nobody uses them when this returns.
    fn disconnect(&mut self, number: DpPort, aux: &mut Core) {
        drop(aux.outlets.remove(number));
        self.crew.leave(number);
    }

    /// Removes a port.
    pub fn remove(&mut self, number: DpPort, shared: &Shared, means: &mut Means<'_>) -> Result<(), DpError> {
        if !self.ports.contains_key(&number) {
            return Err(DpError::NoPort);
        }
        self.disconnect(number, means.aux);
        if let Some(port) = self.take_out(number) {
            shared.upcalls.purge(&port.upcalls);
        }
        self.arrange(means)
    }

    /// Applies what changed of a request: MTU and MAC at once; other options by opening the device again.
    pub fn set(&mut self, number: DpPort, request: &PortRequest, means: &mut Means<'_>) -> Result<(), DpError> {
        let port = self.ports.get_mut(&number).ok_or(DpError::NoPort)?;
        if port.tunnel.is_some() {
            return self.set_host(number, request, means);
        }
        let again = port.device.is_none() || !same_device(&port.request, request);
        let had_device = port.device.is_some();
        let wanted = PortRequest { name: port.request.name.clone(), kind: port.request.kind.clone(), ..request.clone() };
        let before = std::mem::replace(&mut port.request, wanted);
        if again {
            let reopened = self.reopen(number, means);
            if reopened.is_err() && had_device {
                // What is refused changes nothing: the port goes on as it was.
                self.restore(number, before, means);
                return reopened;
            }
            reopened?;
        }
        let port = self.ports.get_mut(&number).ok_or(DpError::NoPort)?;
        let dressed = port.dress(means.now_ms);
        // A refusal that is told of as a change would be asked for again because of it, and so for ever.
        let differs = again || port.request != before || port.device.as_ref().map(Seen::of) != Some(port.seen);
        if !again && before.affinity != request.affinity {
            let wishes = affinity_of(request);
            self.crew.pin(number, &wishes);
            self.arrange(means)?;
        }
        if differs {
            self.changed(number);
        }
        dressed
    }

    /// Lets a tunnel port receive and send by the host's stack, or no longer. What is refused changes nothing.
    fn set_host(&mut self, number: DpPort, request: &PortRequest, means: &mut Means<'_>) -> Result<(), DpError> {
        let port = self.ports.get(&number).ok_or(DpError::NoPort)?;
        if port.request.host == request.host {
            return Ok(());
        }
        if port.request.host.is_some() {
            // Its sockets may be in the way of the new ones.
            self.park(number, means);
        }
        let port = self.ports.get_mut(&number).ok_or(DpError::NoPort)?;
        port.request.host = None;
        let opened = open_host(&PortRequest { host: request.host, ..port.request.clone() })?;
        (port.device, port.request.host) = (opened, request.host);
        self.disconnect(number, means.aux);
        self.connect(number, means)?;
        self.arrange(means)?;
        self.changed(number);
        Ok(())
    }

    /// Gives a port that was opened its QoS. A refusal keeps nobody from using the port: it is told in the log.
    fn queue_as_asked(&mut self, number: DpPort, now_ms: Msec) {
        if let Some(Err(error)) = self.ports.get_mut(&number).map(|port| port.queue(now_ms)) {
            tracing::warn!(target: "netdev_linux", "{error}");
        }
    }

    /// What a port's QoS has come to; `None` if it has none.
    pub fn qos(&self, number: DpPort) -> Result<Option<QosReport>, DpError> {
        let port = self.ports.get(&number).ok_or(DpError::NoPort)?;
        let (Some(device), Some((qos, since_ms))) = (&port.device, &port.queued) else { return Ok(None) };
        let told = device.qos_report(qos).map_err(|e| DpError::Device(e.to_string()))?;
        Ok(told.map(|report| QosReport { since_ms: *since_ms, ..report }))
    }

    /// The policer of a port is to be the one asked for; the old one has to wait for the workers.
    pub fn police(&self, number: DpPort, now_ms: Msec) -> Result<Option<Unlinked<Policer>>, DpError> {
        let port = self.ports.get(&number).ok_or(DpError::NoPort)?;
        let policer = Policer::new(port.request.policing, now_ms)?;
        Ok(port.upcalls.policer.swap(policer.map(Box::new)))
    }

    fn restore(&mut self, number: DpPort, before: PortRequest, means: &mut Means<'_>) {
        if let Some(port) = self.ports.get_mut(&number) {
            port.request = before;
        }
        match self.reopen(number, means) {
            Ok(()) => self.queue_as_asked(number, means.now_ms),
            Err(error) => {
                tracing::warn!(target: "dpif_netdev", "{error}");
                self.park(number, means);
            }
        }
    }

    fn reopen(&mut self, number: DpPort, means: &mut Means<'_>) -> Result<(), DpError> {
        self.disconnect(number, means.aux);
        let port = self.ports.get_mut(&number).ok_or(DpError::NoPort)?;
        // The old device first: two cannot bind one netdev.
        port.let_go();
        port.device = Some(open(&port.request)?);
        self.connect(number, means)
    }

    /// The number of a port.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<DpPort> {
        self.register.find(name)
    }

    /// The device of a port.
    pub fn device(&self, number: DpPort) -> Result<&Device, DpError> {
        let port = self.ports.get(&number).ok_or(DpError::NoPort)?;
        port.device.as_ref().ok_or_else(|| DpError::Device(format!("{}: no device", port.request.name)))
    }

    /// What was too long for a tunnel port.
    pub fn too_long(&self, number: DpPort) -> Vec<TooLong> {
        self.ports.get(&number).and_then(|port| port.too_long.as_ref()).map(|all| all.all()).unwrap_or_default()
    }

    /// What is known of a port.
    pub fn info(&self, number: DpPort) -> Result<PortInfo, DpError> {
        self.ports.get(&number).map(|p| p.info(number)).ok_or(DpError::NoPort)
    }

    /// What is known of all ports.
    #[must_use]
    pub fn infos(&self) -> Vec<PortInfo> {
        self.ports.iter().map(|(n, p)| p.info(*n)).collect()
    }

    /// The figures of a port; `PortStats::UNKNOWN` where the device does not count.
    pub fn stats(&self, number: DpPort) -> Result<PortStats, DpError> {
        let port = self.ports.get(&number).ok_or(DpError::NoPort)?;
        let stats =
            port.device.as_ref().map(Device::stats).transpose().map_err(|e| DpError::Device(e.to_string()))?.unwrap_or_default();
        let (upcall_packets, upcall_errors) = port.upcalls.counts();
        let or_unknown = |count: Option<u64>| count.unwrap_or(PortStats::UNKNOWN);
        Ok(PortStats {
            rx_packets: stats.rx_packets,
            tx_packets: stats.tx_packets,
            rx_bytes: stats.rx_bytes,
            tx_bytes: stats.tx_bytes,
            rx_dropped: or_unknown(stats.rx_dropped),
            tx_dropped: or_unknown(stats.tx_dropped),
            rx_errors: or_unknown(stats.rx_errors),
            tx_errors: or_unknown(stats.tx_errors),
            rx_frame_err: or_unknown(stats.rx_frame_errors),
            rx_over_err: or_unknown(stats.rx_over_errors),
            rx_crc_err: or_unknown(stats.rx_crc_errors),
            rx_missed_errors: or_unknown(stats.rx_missed_errors),
            rx_multicast_packets: or_unknown(stats.multicast),
            collisions: or_unknown(stats.collisions),
            upcall_packets,
            upcall_errors,
        })
    }

    /// A port has changed, as the slow path is to be told.
    pub fn changed(&mut self, number: DpPort) {
        self.changed.insert(number);
    }

    /// The socket by which the kernel tells of devices.
    #[must_use]
    pub fn ear(&self) -> Option<Arc<OwnedFd>> {
        self.monitor.as_ref().map(Monitor::ear)
    }

    /// Takes what the kernel has told of devices: parks what vanished, takes up what came back; the events that are pending.
    pub fn hear(&mut self, means: &mut Means<'_>) -> Vec<DpEvent> {
        let told = self.told(means.now_ms);
        let heard = Heard::new(&told);
        for number in self.concerned(&heard) {
            self.follow(number, &heard, means);
        }
        self.take_events()
    }

    fn told(&mut self, now_ms: Msec) -> Vec<Told> {
        match self.monitor.as_mut().map(Monitor::told) {
            None => Vec::new(),
            Some(Ok(told)) => told,
            Some(Err(error)) => {
                // Such a socket would be readable for ever.
                tracing::warn!(target: "dpif_netdev", "link events are lost: {error}");
                self.monitor = None;
                self.watch_again(now_ms);
                self.was_deaf = false;
                vec![(None, Event::Overrun)]
            }
        }
    }

    /// That events were lost while there was no monitor, once there is one again.
    fn missed(&mut self, now_ms: Msec) -> Vec<Told> {
        self.watch_again(now_ms);
        let missed = std::mem::take(&mut self.was_deaf);
        missed.then_some((None, Event::Overrun)).into_iter().collect()
    }

    /// The ports that something is told of: all of them where events were lost.
    fn concerned(&self, heard: &Heard<'_>) -> BTreeSet<DpPort> {
        if heard.is_incomplete() {
            return self.ports.keys().copied().collect();
        }
        let by_name = heard.all_names().filter_map(|name| self.register.find(name));
        heard.places().flat_map(|place| self.register.at(place)).copied().chain(by_name).collect()
    }

    /// Looks at every port for what nobody tells of: what workers found out, PHYs, ways of the host's stack, devices that are to be tried
    /// again; the events that are pending.
    pub fn look(&mut self, means: &mut Means<'_>) -> Vec<DpEvent> {
        let missed = self.missed(means.now_ms);
        let heard = Heard::new(&missed);
        let numbers: Vec<DpPort> = self.ports.keys().copied().collect();
        for number in numbers {
            self.follow(number, &heard, means);
        }
        if self.crew.watch(means.settings, means.now_ms) {
            self.crew.deal(means.settings, means.now_ms);
        }
        self.take_events()
    }

    fn take_events(&mut self) -> Vec<DpEvent> {
        let changed = std::mem::take(&mut self.changed).into_iter().map(DpEvent::PortChanged);
        changed.chain(std::mem::take(&mut self.paths)).collect()
    }

    /// One port follows what was heard of its device, and what there is to be seen of it.
    fn follow(&mut self, number: DpPort, heard: &Heard<'_>, means: &mut Means<'_>) {
        let now_ms = means.now_ms;
        let Some(port) = self.ports.get_mut(&number) else {
            return;
        };
        let Some(device) = &port.device else {
            if heard.names(&port.request.name) {
                port.retry.heard();
            }
            if port.tunnel.is_none() && port.retry.take(now_ms) {
                self.take_up(number, means);
            }
            return;
        };
        if port.tunnel.is_some() {
            let room = PATHS_MAX.saturating_sub(self.paths.len());
            return self.paths.extend(device.take_paths().into_iter().take(room).map(|(to, mtu)| DpEvent::PathMtu(to, mtu)));
        }
        let mut changed = false;
        for told in device.place().into_iter().flat_map(|place| heard.of(place)) {
            changed |= device.follow(told);
            changed |= port.seen.follow(device, &mut port.link_resets);
        }
        if device.is_lost() && port.retry.take(now_ms) {
            changed |= device.seek();
        }
        let interval_ms = Msec::from(port.request.miimon_ms);
        if interval_ms > 0 && port.mii_ms.is_none_or(|at| now_ms >= at) {
            device.poll_mii(true);
            port.mii_ms = Some(now_ms + interval_ms);
        } else if interval_ms == 0 && port.mii_ms.take().is_some() {
            device.poll_mii(false);
        }
        changed |= port.seen.follow(device, &mut port.link_resets);
        self.register.locate(number, device.place());
        if port.seen.link.gone {
            PORT_VANISHED.inc();
            tracing::info!(target: "dpif_netdev", "port {}: the device has vanished", port.request.name);
            port.retry.later(now_ms);
            self.park(number, means);
            // It may be back.
            self.follow(number, heard, means);
            changed = true;
        }
        if changed {
            self.changed(number);
        }
    }

    fn park(&mut self, number: DpPort, means: &mut Means<'_>) {
        self.disconnect(number, means.aux);
        if let Some(port) = self.ports.get_mut(&number) {
            port.let_go();
        }
        // Without devices there is nothing to open, so this cannot fail.
        let _ = self.connect(number, means);
    }

    fn take_up(&mut self, number: DpPort, means: &mut Means<'_>) {
        match self.reopen(number, means) {
            Ok(()) => {
                PORT_RETURNED.inc();
                self.queue_as_asked(number, means.now_ms);
                if let Some(port) = self.ports.get_mut(&number) {
                    port.seen = port.device.as_ref().map(Seen::of).unwrap_or_default();
                    port.link_resets += 1;
                    tracing::info!(target: "dpif_netdev", "port {}: the device is back", port.request.name);
                }
                self.changed(number);
            }
            Err(error) => {
                tracing::debug!(target: "dpif_netdev", "{error}");
                self.park(number, means);
            }
        }
    }

    /// Ends everything.
    pub fn close(&mut self) {
        self.crew.close();
        self.ports.clear();
        self.register = Register::default();
    }
}

/// Whether the open device will do for the request.
fn same_device(now: &PortRequest, wanted: &PortRequest) -> bool {
    now.options == wanted.options && now.tx_steering == wanted.tx_steering
}

fn is_netdev(kind: Kind) -> bool {
    match kind {
        Kind::System | Kind::AfXdp | Kind::Internal | Kind::Tap => true,
        Kind::Memory | Kind::Dummy | Kind::DummyInternal | Kind::DummyPmd | Kind::Host => false,
    }
}

/// The number that a dummy datapath's port gets by its name: the first number in it, plus 100 if it begins with "br".
fn number_in(name: &str) -> Option<u32> {
    let from = name.find(|c: char| c.is_ascii_digit())?;
    let digits = &name[from..];
    let to = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let number: u32 = digits[..to].parse().ok()?;
    number.checked_add(if name.starts_with("br") { 100 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dummy_numbers_follow_names() {
        for (name, number) in [("p1", Some(1)), ("br0", Some(100)), ("br-x7y8", Some(107)), ("p", None), ("99999999999", None)] {
            assert_eq!(number_in(name), number, "{name}");
        }
    }

    #[test]
    fn a_socket_that_fails_is_replaced_and_everything_asked_for_anew() {
        let lost: [Told; 1] = [(None, Event::Overrun)];
        let mut ports = Ports::new(false);
        assert!(ports.missed(10).is_empty() && ports.monitor.is_none(), "without netdevs there is nothing to hear");
        ports.watch(10);
        assert!(ports.told(10).is_empty() && ports.missed(10).is_empty());
        let break_it = |ports: &Ports| {
            let no_socket = std::fs::File::open("/dev/null").unwrap();
            let ear = ports.ear().unwrap();
            // SAFETY: the descriptor stays one that the monitor owns; it is another file's now.
            let ear =
                unsafe { nix::unistd::dup3_raw(&no_socket, std::os::fd::AsRawFd::as_raw_fd(&ear), nix::fcntl::OFlag::O_CLOEXEC) };
            std::mem::forget(ear.unwrap());
        };
        break_it(&ports);
        assert_eq!(ports.told(10 + RETRY_MS), lost);
        assert!(ports.told(10 + RETRY_MS).is_empty() && ports.missed(10 + RETRY_MS).is_empty(), "there is another one");
        break_it(&ports);
        assert_eq!((ports.told(11 + RETRY_MS), ports.ear().is_some()), (lost.to_vec(), false), "but not at any pace");
        assert!(ports.missed(12 + RETRY_MS).is_empty());
        assert_eq!((ports.missed(10 + 2 * RETRY_MS), ports.ear().is_some()), (lost.to_vec(), true));
        assert!(ports.missed(10 + 2 * RETRY_MS).is_empty());
    }
}
