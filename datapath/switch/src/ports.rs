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
use crate::crew::{self, Berth, Crew, Hire};
use crate::forward::{Core, Shared};
use crate::heard::Heard;
use crate::outlets::Outlet;
use crate::policer::Policer;
use crate::qsbr::Unlinked;
use crate::register::Register;
use crate::too_long::TooLongs;
use crate::topology::{CoreId, Topology, numa_of_netdev};
use crate::tunnel_pop::Decap;
use crate::upcall::PortQueue;
use crate::worker::Command;
use flow::DpPort;
use flow::clock::Msec;
use flow::seam::{DpError, DpEvent, PortInfo, PortRequest, PortStats, Qos, QosReport, TooLong};
use port::netlink::{Event, Monitor};
use port::{Device, Kind, LinkState, Mac, PortConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// How often a vanished device is tried again without an event that tells of it.
const RETRY_MS: Msec = 1_000;
/// Ways of the host's stack, with what they take, kept for the slow path. Which are left out are found again by the next packets that are too long.
const PATHS_MAX: usize = 4096;

/// A port.
#[derive(Debug)]
struct Port {
    request: PortRequest,
    /// `None`: a tunnel port, which packets reach by tunnel actions only, or the device is gone. A tunnel port's device is the host's stack.
    device: Option<Device>,
    tunnel: Option<Decap>,
    /// For a tunnel port.
    too_long: Option<Arc<TooLongs>>,
    upcalls: Arc<PortQueue>,
    seen: Seen,
    link_resets: u64,
    retry_ms: Msec,
    /// When its PHY is to be asked again; `None`: it is not asked.
    mii_ms: Option<Msec>,
    /// The QoS that the device really has, and since when.
    queued: Option<(Qos, Msec)>,
}

/// What was last seen of a device. Workers find out some of it before the kernel's word has come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    link: LinkState,
    mtu: u32,
    mac: Mac,
}

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
            self.watch();
        }
        let device = if tunnel.is_some() { open_host(request)? } else { Some(open(request)?) };
        let upcalls = PortQueue::new(number);
        let seen = device.as_ref().map(Seen::of).unwrap_or_default();
        let request = request.clone();
        let too_long = tunnel.map(|_| Arc::default());
        let port =
            Port { request, device, tunnel, too_long, upcalls, seen, link_resets: 0, retry_ms: 0, mii_ms: None, queued: None };
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
    fn watch(&mut self) {
        if self.monitor.is_none() {
            match Monitor::links_everywhere() {
                Ok(monitor) => self.monitor = Some(monitor),
                Err(error) => tracing::info!(target: "dpif_netdev", "no link events: {error}"),
            }
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
        let told = match self.monitor.as_mut().map(Monitor::told) {
            None => return self.take_events(),
            Some(Ok(told)) => told,
            Some(Err(error)) => {
                // Such a socket would be readable for ever. The next port makes another one.
                tracing::warn!(target: "dpif_netdev", "no more link events: {error}");
                self.monitor = None;
                vec![(None, Event::Overrun)]
            }
        };
        let heard = Heard::new(&told);
        for number in self.concerned(&heard) {
            self.follow(number, &heard, means);
        }
        self.take_events()
    }

    /// The ports that something is told of: all of them where events were lost.
    fn concerned(&self, heard: &Heard<'_>) -> BTreeSet<DpPort> {
        if heard.is_incomplete() {
            return self.ports.keys().copied().collect();
        }
        let by_name = heard.all_names().filter_map(|name| self.register.find(name));
        heard.places().filter_map(|place| self.register.at(place)).chain(by_name).collect()
    }

    /// Looks at every port for what nobody tells of: what workers found out, PHYs, ways of the host's stack, devices that are to be tried
    /// again; the events that are pending.
    pub fn look(&mut self, means: &mut Means<'_>) -> Vec<DpEvent> {
        let numbers: Vec<DpPort> = self.ports.keys().copied().collect();
        for number in numbers {
            self.follow(number, &Heard::default(), means);
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
            let due = heard.names(&port.request.name) || now_ms >= port.retry_ms;
            if port.tunnel.is_none() && due {
                port.retry_ms = now_ms + RETRY_MS;
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
        if device.is_lost() && now_ms >= port.retry_ms {
            port.retry_ms = now_ms + RETRY_MS;
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
            port.retry_ms = now_ms + RETRY_MS;
            let is_back = heard.names(&port.request.name);
            self.park(number, means);
            if is_back {
                self.take_up(number, means);
            }
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

impl Seen {
    fn of(device: &Device) -> Self {
        Self { link: device.link(), mtu: device.mtu(), mac: device.mac() }
    }

    /// Takes note of what the device is like now, and counts how often its carrier came and went; whether anything is different.
    fn follow(&mut self, device: &Device, link_resets: &mut u64) -> bool {
        let before = std::mem::replace(self, Self::of(device));
        *link_resets += u64::from(self.link.carrier != before.link.carrier);
        *self != before
    }
}

impl Port {
    /// Gives the device the MTU, the MAC and the QoS that are asked for, where it has others; the first refusal. One wish that is refused is no
    /// reason to leave the others.
    fn dress(&mut self, now_ms: Msec) -> Result<(), DpError> {
        let Some(device) = &self.device else { return Ok(()) };
        let mtu = self.request.mtu.filter(|m| u32::from(*m) != device.mtu()).map(|mtu| settled(device.set_mtu(mtu.into())));
        let mac = self.request.mac.filter(|m| *m != device.mac()).map(|mac| settled(device.set_mac(mac)));
        let refused = [mtu, mac, Some(self.queue(now_ms))].into_iter().flatten().find_map(Result::err);
        refused.map_or(Ok(()), |error| Err(DpError::Device(error.to_string())))
    }

    /// Gives the device the QoS that is asked for, if it has another. After a refusal it has none.
    fn queue(&mut self, now_ms: Msec) -> Result<(), port::PortError> {
        let Some(device) = &self.device else { return Ok(()) };
        let wanted = self.request.qos.as_ref();
        if self.queued.as_ref().map(|(qos, _)| qos) == wanted {
            return Ok(());
        }
        let had_one = self.queued.take().is_some();
        let set = device.set_qos(wanted);
        if set.is_ok() {
            self.queued = wanted.cloned().map(|qos| (qos, now_ms));
        } else if had_one {
            // The refusal is told; that the old one could not be taken away either would say nothing more.
            let _ = device.set_qos(None);
        }
        set
    }

    /// Closes the device. Its QoS goes with it, unless the device is gone already.
    fn let_go(&mut self) {
        let had_qos = self.queued.take().is_some();
        if let Some(device) = self.device.take()
            && had_qos
            && !device.link().gone
        {
            // The device is opened again at once, and asked for what it is to have then.
            let _ = device.set_qos(None);
        }
    }

    /// A worker's way out by this port.
    fn outlet(&self) -> Result<Box<Outlet>, DpError> {
        let tx = self.device.as_ref().map(Device::tx).transpose().map_err(|e| DpError::Device(e.to_string()))?;
        let mtu = self.device.as_ref().map(Device::mtu_cell);
        Ok(Outlet::new(tx, Arc::clone(&self.upcalls)).decapsulating(self.tunnel, self.too_long.clone()).limited(mtu))
    }

    fn berth(&self, port: DpPort) -> Berth {
        let kind = self.device.as_ref().map(Device::kind);
        let is_dummy = matches!(kind, Some(Kind::Dummy | Kind::DummyInternal | Kind::DummyPmd));
        let numa = if is_dummy {
            Some(self.option("numa_id").and_then(|text| text.parse().ok()).unwrap_or(0))
        } else {
            numa_of_netdev(&self.request.name)
        };
        Berth {
            port,
            name: self.request.name.clone(),
            numa,
            plain: matches!(kind, Some(Kind::Dummy | Kind::DummyInternal)),
            affinity: affinity_of(&self.request),
        }
    }

    fn option(&self, key: &str) -> Option<&str> {
        self.request.options.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// What the device is configured with, as `dpif/show` prints it.
    fn config(&self) -> Vec<(String, String)> {
        let Some(device) = &self.device else {
            return self.request.options.clone();
        };
        let mut config = match device.kind() {
            Kind::Dummy | Kind::DummyInternal | Kind::DummyPmd => {
                let shown = |(key, _): &&(String, String)| ["ifindex", "pstream", "stream"].contains(&key.as_str());
                self.request.options.iter().filter(shown).cloned().collect()
            }
            Kind::System | Kind::AfXdp | Kind::Internal | Kind::Tap | Kind::Memory | Kind::Host => self.request.options.clone(),
        };
        if device.kind() == Kind::DummyPmd {
            let (rx, tx) = (device.n_rxq().to_string(), device.n_txq().to_string());
            for (what, n) in [("rx", rx), ("tx", tx)] {
                config.push((format!("requested_{what}_queues"), n.clone()));
                config.push((format!("configured_{what}_queues"), n));
            }
        }
        config
    }

    fn info(&self, number: DpPort) -> PortInfo {
        let mut info = PortInfo {
            number,
            name: self.request.name.clone(),
            kind: self.request.kind.clone(),
            options: self.request.options.clone(),
            config: self.config(),
            link_resets: self.link_resets,
            vanished: self.device.is_none() && self.tunnel.is_none(),
            elsewhere: self.device.as_ref().and_then(Device::place).is_some_and(|place| place.nsid.is_some()),
            ..PortInfo::default()
        };
        if self.tunnel.is_some() {
            (info.admin_up, info.link_up, info.mtu) = (true, true, u16::MAX);
            info.host = self.request.host;
            return info;
        }
        let Some(device) = &self.device else {
            return info;
        };
        let link = device.link();
        info.mac = device.mac();
        info.mtu = u16::try_from(device.mtu()).unwrap_or(u16::MAX);
        info.ifindex = device.ifindex().unwrap_or(0);
        (info.admin_up, info.link_up) = (link.admin_up, link.carrier);
        if let Some(settings) = device.link_settings() {
            info.speed_bps = settings.speed_mbps.map_or(0, |m| u64::from(m) * 1_000_000);
            info.full_duplex = settings.full_duplex;
        }
        if let Some(driver) = device.driver_info() {
            info.status = vec![
                ("driver_name".to_owned(), driver.driver),
                ("driver_version".to_owned(), driver.version),
                ("firmware_version".to_owned(), driver.firmware),
            ];
        }
        info
    }
}

/// A device that was moved into another network namespace keeps what it has there, and all else that is asked for is done.
fn settled(set: Result<(), port::PortError>) -> Result<(), port::PortError> {
    if let Err(error @ port::PortError::Elsewhere { .. }) = &set {
        tracing::warn!(target: "dpif_netdev", rl = 5, burst = 5, "{error}");
        return Ok(());
    }
    set
}

/// Whether the open device will do for the request.
fn same_device(now: &PortRequest, wanted: &PortRequest) -> bool {
    now.options == wanted.options && now.tx_steering == wanted.tx_steering
}

fn affinity_of(request: &PortRequest) -> Vec<(usize, CoreId)> {
    crew::parse_affinity(&request.affinity).unwrap_or_else(|| {
        let (name, text) = (&request.name, &request.affinity);
        tracing::error!(target: "dpif_netdev", "Error parsing affinity list for port '{name}': '{text}'");
        Vec::new()
    })
}

fn is_netdev(kind: Kind) -> bool {
    match kind {
        Kind::System | Kind::AfXdp | Kind::Internal | Kind::Tap => true,
        Kind::Memory | Kind::Dummy | Kind::DummyInternal | Kind::DummyPmd | Kind::Host => false,
    }
}

fn open(request: &PortRequest) -> Result<Device, DpError> {
    let fault = |e| fault(&request.name, &e);
    let mut config = PortConfig::new(&request.name, &request.kind).map_err(fault)?;
    config.options = request.options.iter().cloned().collect();
    config.hash_tx = request.tx_steering == "hash";
    config.mtu = request.mtu.map(u32::from);
    config.mac = request.mac;
    Device::open(&config).map_err(fault)
}

/// The host's stack for a tunnel port that wants it.
fn open_host(request: &PortRequest) -> Result<Option<Device>, DpError> {
    let open = |intake| Device::open_host(&request.name, intake).map_err(|e| fault(&request.name, &e));
    request.host.map(open).transpose()
}

/// The refusal in the words that `Interface.error` has in OVS: the device, and why the system would not give it.
fn fault(name: &str, error: &port::PortError) -> DpError {
    let refused = |why: &str| DpError::Device(format!("could not open network device {name} ({why})"));
    match error {
        port::PortError::Type { kind } => {
            tracing::warn!(target: "netdev", rl = 60, burst = 20, "could not create netdev {name} of unknown type {kind}");
            refused(nix::errno::Errno::EAFNOSUPPORT.desc())
        }
        port::PortError::NoDevice { .. } => refused(nix::errno::Errno::ENODEV.desc()),
        port::PortError::Loopback { .. } => {
            tracing::error!(target: "dpif_netdev", rl = 60, burst = 20, "{error}");
            let why = nix::errno::Errno::EINVAL.desc();
            DpError::Device(format!("could not add network device {name} to ofproto ({why})"))
        }
        port::PortError::Taken { port, .. } => {
            let why = nix::errno::Errno::EADDRINUSE.desc();
            let whose = "a tunnel device of the kernel or another program has it";
            refused(&format!("{why}: UDP port {port}, {whose}"))
        }
        port::PortError::Os { source, .. } => match source.raw_os_error() {
            Some(code) => refused(nix::errno::Errno::from_raw(code).desc()),
            None => refused(&source.to_string()),
        },
        port::PortError::Option { .. }
        | port::PortError::Pcap { .. }
        | port::PortError::Elsewhere { .. }
        | port::PortError::Unsupported { .. } => DpError::Device(error.to_string()),
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
}
