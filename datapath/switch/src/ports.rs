//! The datapath's ports as the control thread keeps them: numbers, devices, and who polls what.
//!
//! What enters: requests of the seam, link events of the kernel. What leaves: outlets and receive queues for workers, events and
//! figures for the slow path. Neighbours: `worker` (commands), `port` (devices), `switch` (which holds the lock).
//!
//! A change of one port touches that port's queues only: the others are polled on. A device that vanished leaves its port parked:
//! the number stays, nothing is polled, output to it is dropped and counted, and the device is opened again when one of its name appears.

use crate::counters::{PORT_RETURNED, PORT_VANISHED};
use crate::forward::{Core, Shared};
use crate::outlets::{Outlet, PORTS_MAX};
use crate::tunnel_pop::Decap;
use crate::upcall::PortQueue;
use crate::worker::{Command, Handle, Rx};
use flow::DpPort;
use flow::clock::Msec;
use flow::seam::{DpError, DpEvent, PortInfo, PortRequest, PortStats};
use port::netlink::{Event, Monitor};
use port::{Device, LinkState, PortConfig};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How often a vanished device is tried again without an event that tells of it.
const RETRY_MS: Msec = 1_000;
/// Events kept for the slow path; beyond that only the newest matter, because it then asks for everything.
const EVENTS_MAX: usize = 4096;

/// A port.
#[derive(Debug)]
struct Port {
    request: PortRequest,
    /// `None`: a tunnel port, which packets reach by tunnel actions, or the device is gone.
    device: Option<Device>,
    tunnel: Option<Decap>,
    upcalls: Arc<PortQueue>,
    /// By receive queue: the number of the worker in the list.
    owners: Vec<usize>,
    seen: LinkState,
    link_resets: u64,
    retry_ms: Msec,
}

/// All ports and all workers.
#[derive(Debug, Default)]
pub struct Ports {
    ports: BTreeMap<DpPort, Port>,
    pub workers: Vec<Handle>,
    events: Vec<DpEvent>,
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
    pub fn add(&mut self, request: &PortRequest, aux: &mut Core) -> Result<DpPort, DpError> {
        if self.ports.values().any(|p| p.request.name == request.name) {
            return Err(DpError::PortExists);
        }
        let number = self.number_for(request)?;
        let tunnel = Decap::of(request);
        let device = if tunnel.is_some() { None } else { Some(open(request)?) };
        let upcalls = PortQueue::new(number);
        let seen = device.as_ref().map(Device::link).unwrap_or_default();
        let request = request.clone();
        let port = Port { request, device, tunnel, upcalls, owners: Vec::new(), seen, link_resets: 0, retry_ms: 0 };
        self.ports.insert(number, port);
        if let Err(error) = self.connect(number, aux) {
            self.disconnect(number, aux);
            self.ports.remove(&number);
            return Err(error);
        }
        self.watch();
        Ok(number)
    }

    /// A subscription to the kernel's link events, from the first port with a netdev on.
    fn watch(&mut self) {
        let wanted = self.monitor.is_none() && self.ports.values().any(|p| p.device.as_ref().is_some_and(is_netdev));
        if wanted {
            match Monitor::new() {
                Ok(monitor) => self.monitor = Some(monitor),
                Err(error) => tracing::info!(target: "dpif_netdev", "no link events: {error}"),
            }
        }
    }

    fn number_for(&self, request: &PortRequest) -> Result<DpPort, DpError> {
        let free = |n: u32| n < PORTS_MAX && !self.ports.contains_key(&DpPort(n));
        if let Some(wished) = request.number
            && free(wished.0)
        {
            return Ok(wished);
        }
        if self.by_name
            && let Some(n) = number_in(&request.name)
            && n > 0
            && free(n)
        {
            return Ok(DpPort(n));
        }
        (1..PORTS_MAX).find(|n| free(*n)).map(DpPort).ok_or(DpError::Full("the port table"))
    }

    /// Gives every worker its way out by the port, and its receive queues to the workers that have the fewest.
    fn connect(&mut self, number: DpPort, aux: &mut Core) -> Result<(), DpError> {
        let port = self.ports.get_mut(&number).ok_or(DpError::NoPort)?;
        let tx =
            |device: &Option<Device>| device.as_ref().map(Device::tx).transpose().map_err(|e| DpError::Device(e.to_string()));
        aux.outlets.set(number, Outlet::new(tx(&port.device)?, Arc::clone(&port.upcalls)).decapsulating(port.tunnel));
        for worker in &self.workers {
            let outlet = Outlet::new(tx(&port.device)?, Arc::clone(&port.upcalls)).decapsulating(port.tunnel);
            worker.send(Command::SetOutlet(number, outlet));
        }
        let queues = port.device.as_mut().map(Device::take_rx).unwrap_or_default();
        self.spread(queues.into_iter().enumerate().map(|(i, queue)| Rx { port: number, number: i, queue }).collect());
        Ok(())
    }

    /// Hands receive queues out.
    fn spread(&mut self, queues: Vec<Rx>) {
        let mut load = vec![0usize; self.workers.len()];
        for owner in self.ports.values().flat_map(|p| &p.owners) {
            if let Some(n) = load.get_mut(*owner) {
                *n += 1;
            }
        }
        for rx in queues {
            let Some(least) = (0..load.len()).min_by_key(|i| load[*i]) else {
                return;
            };
            load[least] += 1;
            if let Some(port) = self.ports.get_mut(&rx.port) {
                if port.owners.len() <= rx.number {
                    port.owners.resize(rx.number + 1, usize::MAX);
                }
                port.owners[rx.number] = least;
            }
            self.workers[least].send(Command::AddRx(rx));
        }
    }

    /// Takes a port's queues and handles away from all workers; nobody uses them when this returns.
    fn disconnect(&mut self, number: DpPort, aux: &mut Core) {
        drop(aux.outlets.remove(number));
        for worker in &self.workers {
            drop(worker.ask(|done| Command::RemovePort(number, done)));
        }
        if let Some(port) = self.ports.get_mut(&number) {
            port.owners.clear();
        }
    }

    /// Removes a port.
    pub fn remove(&mut self, number: DpPort, shared: &Shared, aux: &mut Core) -> Result<(), DpError> {
        if !self.ports.contains_key(&number) {
            return Err(DpError::NoPort);
        }
        self.disconnect(number, aux);
        if let Some(port) = self.ports.remove(&number) {
            shared.upcalls.purge(&port.upcalls);
        }
        Ok(())
    }

    /// Applies what changed of a request: MTU and MAC at once; other options by opening the device again.
    pub fn set(&mut self, number: DpPort, request: &PortRequest, aux: &mut Core) -> Result<(), DpError> {
        let port = self.ports.get_mut(&number).ok_or(DpError::NoPort)?;
        let fault = |e: port::PortError| DpError::Device(e.to_string());
        let again = port.tunnel.is_none() && (port.device.is_none() || port.request.options != request.options);
        if !again && let Some(device) = &port.device {
            if let Some(mtu) = request.mtu.filter(|m| u32::from(*m) != device.mtu()) {
                device.set_mtu(mtu.into()).map_err(fault)?;
            }
            if let Some(mac) = request.mac.filter(|m| *m != device.mac()) {
                device.set_mac(mac).map_err(fault)?;
            }
        }
        port.request = PortRequest { name: port.request.name.clone(), kind: port.request.kind.clone(), ..request.clone() };
        if again {
            self.reopen(number, aux)?;
        }
        self.event(DpEvent::PortChanged(number));
        Ok(())
    }

    fn reopen(&mut self, number: DpPort, aux: &mut Core) -> Result<(), DpError> {
        self.disconnect(number, aux);
        let port = self.ports.get_mut(&number).ok_or(DpError::NoPort)?;
        // The old device first: two cannot bind one netdev.
        port.device = None;
        port.device = Some(open(&port.request)?);
        self.connect(number, aux)
    }

    /// The number of a port.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<DpPort> {
        self.ports.iter().find(|(_, p)| p.request.name == name).map(|(n, _)| *n)
    }

    /// The device of a port.
    pub fn device(&self, number: DpPort) -> Result<&Device, DpError> {
        let port = self.ports.get(&number).ok_or(DpError::NoPort)?;
        port.device.as_ref().ok_or_else(|| DpError::Device(format!("{}: no device", port.request.name)))
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
            collisions: or_unknown(stats.collisions),
            upcall_packets,
            upcall_errors,
        })
    }

    /// Notes an event for the slow path.
    pub fn event(&mut self, event: DpEvent) {
        if self.events.len() < EVENTS_MAX && !self.events.contains(&event) {
            self.events.push(event);
        }
    }

    /// Follows the kernel, parks what vanished, takes up what came back; the events since the last call.
    pub fn follow(&mut self, now_ms: Msec, aux: &mut Core) -> Vec<DpEvent> {
        let heard = self.monitor.as_mut().and_then(|m| m.events().ok()).unwrap_or_default();
        let numbers: Vec<DpPort> = self.ports.keys().copied().collect();
        for number in numbers {
            self.follow_one(number, &heard, now_ms, aux);
        }
        std::mem::take(&mut self.events)
    }

    fn follow_one(&mut self, number: DpPort, heard: &[Event], now_ms: Msec, aux: &mut Core) {
        let Some(port) = self.ports.get_mut(&number) else {
            return;
        };
        let named = |name: &str| heard.iter().any(|e| matches!(e, Event::Link(link) if link.name == name));
        let Some(device) = &port.device else {
            let due = named(&port.request.name) || now_ms >= port.retry_ms;
            if port.tunnel.is_none() && due {
                port.retry_ms = now_ms + RETRY_MS;
                self.take_up(number, aux);
            }
            return;
        };
        let mut changed = false;
        for event in heard {
            changed |= device.follow(event);
        }
        let link = device.link();
        if link != port.seen {
            port.link_resets += u64::from(link.carrier != port.seen.carrier);
            port.seen = link;
            changed = true;
        }
        if link.gone {
            PORT_VANISHED.inc();
            tracing::info!(target: "dpif_netdev", "port {}: the device has vanished", port.request.name);
            port.retry_ms = now_ms + RETRY_MS;
            self.park(number, aux);
            changed = true;
        }
        if changed {
            self.event(DpEvent::PortChanged(number));
        }
    }

    fn park(&mut self, number: DpPort, aux: &mut Core) {
        self.disconnect(number, aux);
        if let Some(port) = self.ports.get_mut(&number) {
            port.device = None;
        }
        // Without devices there is nothing to open, so this cannot fail.
        let _ = self.connect(number, aux);
    }

    fn take_up(&mut self, number: DpPort, aux: &mut Core) {
        match self.reopen(number, aux) {
            Ok(()) => {
                PORT_RETURNED.inc();
                if let Some(port) = self.ports.get_mut(&number) {
                    port.seen = port.device.as_ref().map(Device::link).unwrap_or_default();
                    port.link_resets += 1;
                    tracing::info!(target: "dpif_netdev", "port {}: the device is back", port.request.name);
                }
                self.event(DpEvent::PortChanged(number));
            }
            Err(error) => {
                tracing::debug!(target: "dpif_netdev", "{error}");
                self.park(number, aux);
            }
        }
    }

    /// Which worker polls a port's queue.
    #[must_use]
    pub fn owners(&self, number: DpPort) -> &[usize] {
        self.ports.get(&number).map_or(&[], |p| &p.owners)
    }

    /// Replaces the workers: the old ones end, their receive queues go to the new ones, and nothing else of a port changes.
    pub fn replace_workers(&mut self, new: Vec<Handle>) {
        let old = std::mem::replace(&mut self.workers, new);
        for (number, port) in &self.ports {
            for worker in &self.workers {
                let tx = port.device.as_ref().and_then(|device| match device.tx() {
                    Ok(tx) => Some(tx),
                    Err(error) => {
                        tracing::warn!(target: "dpif_netdev", "{error}");
                        None
                    }
                });
                worker.send(Command::SetOutlet(*number, Outlet::new(tx, Arc::clone(&port.upcalls)).decapsulating(port.tunnel)));
            }
        }
        for port in self.ports.values_mut() {
            port.owners.clear();
        }
        for worker in old {
            let queues = worker.stop();
            self.spread(queues);
        }
    }

    /// Ends everything.
    pub fn close(&mut self) {
        for worker in std::mem::take(&mut self.workers) {
            drop(worker.stop());
        }
        self.ports.clear();
    }
}

impl Port {
    fn info(&self, number: DpPort) -> PortInfo {
        let mut info = PortInfo {
            number,
            name: self.request.name.clone(),
            kind: self.request.kind.clone(),
            options: self.request.options.clone(),
            link_resets: self.link_resets,
            vanished: self.device.is_none() && self.tunnel.is_none(),
            ..PortInfo::default()
        };
        if self.tunnel.is_some() {
            (info.admin_up, info.link_up, info.mtu) = (true, true, u16::MAX);
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

fn is_netdev(device: &Device) -> bool {
    use port::Kind;
    match device.kind() {
        Kind::System | Kind::AfXdp | Kind::Internal | Kind::Tap => true,
        Kind::Memory | Kind::Dummy | Kind::DummyInternal | Kind::DummyPmd => false,
    }
}

fn open(request: &PortRequest) -> Result<Device, DpError> {
    let fault = |e| fault(&request.name, &e);
    let mut config = PortConfig::new(&request.name, &request.kind).map_err(fault)?;
    config.options = request.options.iter().cloned().collect();
    config.mtu = request.mtu.map(u32::from);
    config.mac = request.mac;
    Device::open(&config).map_err(fault)
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
        port::PortError::Os { source, .. } => match source.raw_os_error() {
            Some(code) => refused(nix::errno::Errno::from_raw(code).desc()),
            None => refused(&source.to_string()),
        },
        port::PortError::Option { .. } | port::PortError::Pcap { .. } | port::PortError::Unsupported { .. } => {
            DpError::Device(error.to_string())
        }
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
