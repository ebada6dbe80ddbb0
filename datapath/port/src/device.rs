//! An opened port: what the daemon configures, and where the workers' queues come from.
//!
//! What enters: a [`PortConfig`] (an Interface row, decoded). What leaves: [`RxQueue`]s, [`TxQueue`]s, figures. Neighbours: every kind
//! of port in this crate; the daemon, which keeps the `Device` while the workers keep the queues.

use crate::counters::{Counters, QueueStats};
use crate::netdev::{self, Netdev};
use crate::netlink::request::At;
use crate::netlink::{self, ethtool, mii, qdisc, qdisc_report};
use crate::pcap::{self, PcapError};
use crate::queue::{RxQueue, TxQueue};
use crate::{af_packet, af_xdp, dummy, host, memory, tap};
use flow::seam::{HostIntake, Qos, QosReport};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The most receive queues of one port.
pub(crate) const RXQ_MAX: usize = 64;

/// The interface types that move packets (Interface:type). Patch ports and tunnels have no device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Any netdev of the kernel, through `AF_XDP` or `AF_PACKET`.
    System,
    /// Any netdev, through `AF_XDP` only (types `afxdp` and `afxdp-nonpmd`).
    AfXdp,
    /// A tap that appears as the bridge's own netdev.
    Internal,
    /// A tap by the operator's wish.
    Tap,
    /// Replays `options:pcap` without end; frees what is sent to it.
    Memory,
    /// For tests: driven by [`dummy::Control`](crate::dummy::Control).
    Dummy,
    /// A dummy as a bridge's local port.
    DummyInternal,
    /// A dummy with several queues.
    DummyPmd,
    /// A tunnel port by the host's own stack; no interface type of its own.
    Host,
}

/// One row per interface type name.
const KINDS: &[(&str, Kind)] = &[
    ("system", Kind::System),
    ("afxdp", Kind::AfXdp),
    ("afxdp-nonpmd", Kind::AfXdp),
    ("internal", Kind::Internal),
    ("tap", Kind::Tap),
    ("memory", Kind::Memory),
    ("dummy", Kind::Dummy),
    ("dummy-internal", Kind::DummyInternal),
    ("dummy-pmd", Kind::DummyPmd),
];

impl Kind {
    /// The kind that an Interface's `type` names ("" is "system").
    pub fn from_type(name: &str) -> Option<Self> {
        let name = if name.is_empty() { "system" } else { name };
        KINDS.iter().find(|(n, _)| *n == name).map(|(_, kind)| *kind)
    }

    /// Every type name, for Open_vSwitch:iface_types.
    pub fn types() -> impl Iterator<Item = &'static str> {
        KINDS.iter().map(|(name, _)| *name)
    }
}

/// What to open.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// The Interface's name; for system devices the netdev's.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The Interface's `options`. Read here: `io`, `xdp-mode`, `n_rxq` (over AF_XDP: the queues that the device is to have), `pcap`, `rxq_pcap`, `tx_pcap`, `ifindex`.
    pub options: BTreeMap<String, String>,
    /// MTU to set (`mtu_request`); None leaves it.
    pub mtu: Option<u32>,
    /// MAC to set; None leaves it or chooses.
    pub mac: Option<Mac>,
    /// A packet leaves by the queue that its flow's hash names, not by that of its worker (`tx-steering=hash`).
    pub hash_tx: bool,
}

impl PortConfig {
    /// A port called `name` of the Interface type `kind`, without options.
    pub fn new(name: &str, kind: &str) -> Result<Self, PortError> {
        let kind = Kind::from_type(kind).ok_or_else(|| PortError::Type { kind: kind.to_owned() })?;
        Ok(Self { name: name.to_owned(), kind, options: BTreeMap::new(), mtu: None, mac: None, hash_tx: false })
    }

    /// The same with `options:key=value`.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.options.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn option(&self, key: &str) -> Option<&str> {
        self.options.get(key).map(String::as_str)
    }

    /// `options:n_rxq`, at least 1.
    pub(crate) fn n_rxq(&self) -> Result<usize, PortError> {
        let Some(text) = self.option("n_rxq") else {
            return Ok(1);
        };
        match text.parse() {
            Ok(n @ 1..=RXQ_MAX) => Ok(n),
            _ => Err(self.bad_option("n_rxq", "1 to 64")),
        }
    }

    pub(crate) fn bad_option(&self, key: &'static str, expect: &'static str) -> PortError {
        let value = self.option(key).unwrap_or_default().to_owned();
        PortError::Option { name: self.name.clone(), key, value, expect }
    }
}

/// Why a port could not be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// No such interface type.
    #[error("unknown interface type '{kind}'")]
    Type {
        /// What was asked for.
        kind: String,
    },
    /// There is no such device (now). Worth another try when netlink tells of it.
    #[error("{name}: no such device")]
    NoDevice {
        /// The port's name.
        name: String,
    },
    /// An option's value makes no sense.
    #[error("{name}: options:{key}={value}: expected {expect}")]
    Option {
        /// The port's name.
        name: String,
        /// The option.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it should have been.
        expect: &'static str,
    },
    /// What it sends comes back to it.
    #[error("{name}: cannot add a loopback device")]
    Loopback {
        /// The port's name.
        name: String,
    },
    /// A UDP port that a tunnel needs is somebody else's.
    #[error("{name}: UDP port {port} is taken by another socket or by a tunnel device of the kernel")]
    Taken {
        /// The port's name.
        name: String,
        /// The UDP port.
        port: u16,
    },
    /// A system call failed.
    #[error("{name}: {what}: {source}")]
    Os {
        /// The port's name.
        name: String,
        /// What was being done.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A pcap file is no use.
    #[error("{name}: {path}: {source}")]
    Pcap {
        /// The port's name.
        name: String,
        /// The file.
        path: String,
        /// What is wrong with it.
        source: PcapError,
    },
    /// The netdev was moved into another network namespace, whose affair its settings are.
    #[error("{name}: it is in another network namespace, where {what} is not ours to set")]
    Elsewhere {
        /// The port's name.
        name: String,
        /// What was to be set.
        what: &'static str,
    },
    /// The kind of port cannot do that.
    #[error("{name}: {what} is not supported by this kind of port")]
    Unsupported {
        /// The port's name.
        name: String,
        /// What was asked for.
        what: &'static str,
    },
}

/// Whether packets can pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// The administrator wants it up (IFF_UP).
    pub admin_up: bool,
    /// There is a carrier (IFF_LOWER_UP).
    pub carrier: bool,
    /// The device has vanished; the port has to be closed and opened again when a device of its name appears.
    pub gone: bool,
}

/// A port's statistics, as Interface:statistics has them; None is what the kind of port does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the keys of Interface:statistics")]
pub struct PortStats {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_dropped: Option<u64>,
    pub tx_dropped: Option<u64>,
    pub rx_errors: Option<u64>,
    pub tx_errors: Option<u64>,
    pub multicast: Option<u64>,
    pub collisions: Option<u64>,
    pub rx_over_errors: Option<u64>,
    pub rx_crc_errors: Option<u64>,
    pub rx_frame_errors: Option<u64>,
    pub rx_missed_errors: Option<u64>,
}

/// What the workers' queues and the `Device` both look at.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) mtu: Arc<AtomicU32>,
    pub(crate) admin_up: AtomicBool,
    pub(crate) carrier: AtomicBool,
    pub(crate) gone: AtomicBool,
    /// What the PHY says of the link, where it is asked: [`MII_DOWN`], [`MII_UP`].
    mii: AtomicU8,
    mac: AtomicU64,
    rx_counters: Mutex<Vec<Counters>>,
    tx_counters: Mutex<Vec<Counters>>,
}

impl Shared {
    pub(crate) fn new_rx_counters(&self) -> Counters {
        let counters = Counters::default();
        self.rx_counters.lock().unwrap_or_else(PoisonError::into_inner).push(counters.clone());
        counters
    }

    pub(crate) fn new_tx_counters(&self) -> Counters {
        let counters = Counters::default();
        self.tx_counters.lock().unwrap_or_else(PoisonError::into_inner).push(counters.clone());
        counters
    }

    pub(crate) fn set_link(&self, link: LinkState) {
        self.admin_up.store(link.admin_up, Ordering::Relaxed);
        self.carrier.store(link.carrier, Ordering::Relaxed);
        self.gone.store(link.gone, Ordering::Relaxed);
    }

    pub(crate) fn set_mac(&self, mac: Mac) {
        let [a, b, c, d, e, f] = mac;
        self.mac.store(u64::from_be_bytes([0, 0, a, b, c, d, e, f]), Ordering::Relaxed);
    }

    /// Whether there is a carrier: the PHY's word where it is asked, the driver's otherwise.
    pub(crate) fn carrier(&self) -> bool {
        match self.mii.load(Ordering::Relaxed) {
            MII_DOWN => false,
            MII_UP => true,
            _ => self.carrier.load(Ordering::Relaxed),
        }
    }

    /// Everything that an operator would see change.
    pub(crate) fn fingerprint(&self) -> (u32, u64, bool, bool, bool) {
        let flag = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        let mac = self.mac.load(Ordering::Relaxed);
        (self.mtu.load(Ordering::Relaxed), mac, flag(&self.admin_up), self.carrier(), flag(&self.gone))
    }

    pub(crate) fn mac(&self) -> Mac {
        let [_, _, a, b, c, d, e, f] = self.mac.load(Ordering::Relaxed).to_be_bytes();
        [a, b, c, d, e, f]
    }
}

/// `Shared::mii`: nobody asks the PHY.
const MII_UNASKED: u8 = 0;
const MII_DOWN: u8 = 1;
const MII_UP: u8 = 2;

/// An opened port. Dropping it closes the device once the queues are dropped too.
#[derive(Debug)]
pub struct Device {
    name: String,
    kind: Kind,
    n_rxq: usize,
    shared: Arc<Shared>,
    rx: Vec<RxQueue>,
    driver: Driver,
}

/// What differs from kind to kind after opening.
#[derive(Debug)]
enum Driver {
    Memory,
    Dummy(dummy::Port),
    Tap(tap::Port),
    AfPacket(af_packet::Port),
    AfXdp(af_xdp::Port),
    Host(host::Port),
}

impl Device {
    /// Opens the host's own stack, in the calling thread's network namespace, for a tunnel port.
    pub fn open_host(name: &str, intake: HostIntake) -> Result<Self, PortError> {
        let shared = Arc::new(Shared::default());
        let (port, rx) = host::Port::open(name, intake, &shared)?;
        let rx: Vec<RxQueue> = rx.into_iter().map(RxQueue::Host).collect();
        Ok(Self { name: name.to_owned(), kind: Kind::Host, n_rxq: rx.len(), shared, rx, driver: Driver::Host(port) })
    }

    /// Opens a port in the calling thread's network namespace. Blocks for some system calls; not for forwarding threads.
    pub fn open(config: &PortConfig) -> Result<Self, PortError> {
        let shared = Arc::new(Shared::default());
        let (rx, driver) = match config.kind {
            Kind::Memory => (open_memory(config, &shared)?, Driver::Memory),
            Kind::Dummy | Kind::DummyInternal | Kind::DummyPmd => {
                let (port, rx) = dummy::Port::open(config, &shared)?;
                (rx.into_iter().map(RxQueue::Dummy).collect(), Driver::Dummy(port))
            }
            Kind::Internal | Kind::Tap => {
                let (port, rx) = tap::Port::open(&config.name, &shared)?;
                (vec![RxQueue::Tap(rx)], Driver::Tap(port))
            }
            Kind::System | Kind::AfXdp => open_system(config, &shared)?,
            Kind::Host => return Err(PortError::Type { kind: "host".to_owned() }),
        };
        let device = Self { name: config.name.clone(), kind: config.kind, n_rxq: rx.len(), shared, rx, driver };
        device.dress(config);
        Ok(device)
    }

    /// Gives a netdev that was opened the MAC and the MTU that are asked for. A refusal keeps nobody from using the port: it is told in the log.
    fn dress(&self, config: &PortConfig) {
        let Some(netdev) = self.netdev() else { return };
        let done = [config.mac.map(|mac| netdev.set_mac(mac)), config.mtu.map(|mtu| netdev.set_mtu(mtu))];
        for error in done.into_iter().flatten().filter_map(Result::err) {
            tracing::warn!(target: "netdev", "{error}");
        }
    }

    fn netdev(&self) -> Option<&Netdev> {
        match &self.driver {
            Driver::Memory | Driver::Dummy(_) | Driver::Host(_) => None,
            Driver::Tap(port) => Some(&port.netdev),
            Driver::AfPacket(port) => Some(&port.netdev),
            Driver::AfXdp(port) => Some(&port.netdev),
        }
    }

    /// The same, unless it is in another network namespace, where neither its name nor its index says anything here.
    fn netdev_here(&self) -> Option<&Netdev> {
        self.netdev().filter(|netdev| netdev.place().nsid.is_none())
    }

    /// The mode of AF_XDP in use, in the words of `options:xdp-mode`; `None` where frames pass in another way.
    pub fn xdp_mode(&self) -> Option<&'static str> {
        if let Driver::AfXdp(port) = &self.driver { Some(port.mode()) } else { None }
    }

    /// How frames pass, in a word.
    pub fn io(&self) -> &'static str {
        match &self.driver {
            Driver::Memory => "memory",
            Driver::Dummy(_) => "dummy",
            Driver::Tap(_) => "tap",
            Driver::AfPacket(_) => "af_packet",
            Driver::AfXdp(port) => port.mode(),
            Driver::Host(_) => "host",
        }
    }

    /// The port's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many receive queues it has.
    pub fn n_rxq(&self) -> usize {
        self.n_rxq
    }

    /// How many transmit queues it has.
    pub fn n_txq(&self) -> usize {
        match &self.driver {
            Driver::Memory | Driver::Tap(_) | Driver::AfPacket(_) | Driver::Host(_) => 1,
            Driver::Dummy(port) => port.n_txq(),
            Driver::AfXdp(port) => port.n_txq(),
        }
    }

    /// The receive queues, in order; once. Later calls give none.
    pub fn take_rx(&mut self) -> Vec<RxQueue> {
        std::mem::take(&mut self.rx)
    }

    /// A transmit handle for one more worker.
    pub fn tx(&self) -> Result<TxQueue, PortError> {
        match &self.driver {
            Driver::Memory => Ok(TxQueue::Memory(memory::Tx::new(self.shared.new_tx_counters()))),
            Driver::Dummy(port) => Ok(TxQueue::Dummy(port.tx())),
            Driver::Tap(port) => Ok(TxQueue::Tap(port.tx())),
            Driver::AfPacket(port) => {
                let tx = port.tx().map_err(|e| port.netdev.fault("duplicating a socket", e))?;
                Ok(TxQueue::AfPacket(tx))
            }
            Driver::AfXdp(port) => Ok(TxQueue::AfXdp(port.tx())),
            Driver::Host(port) => Ok(TxQueue::Host(port.tx())),
        }
    }

    /// Ways of the host's stack that take less than their devices, found out since the last call: address and MTU.
    pub fn take_paths(&self) -> Vec<(IpAddr, u32)> {
        if let Driver::Host(port) = &self.driver { port.take_paths() } else { Vec::new() }
    }

    /// The MTU in bytes, without the Ethernet header.
    pub fn mtu(&self) -> u32 {
        self.shared.mtu.load(Ordering::Relaxed)
    }

    /// The same, for who looks at it with every packet.
    pub fn mtu_cell(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.shared.mtu)
    }

    /// The Ethernet address.
    pub fn mac(&self) -> Mac {
        self.shared.mac()
    }

    /// The interface index of the kernel (for a dummy: the one that was set); None if there is none, or if the netdev is in another network namespace.
    pub fn ifindex(&self) -> Option<u32> {
        match &self.driver {
            Driver::Memory | Driver::Host(_) => None,
            Driver::Dummy(port) => port.ifindex(),
            Driver::Tap(_) | Driver::AfPacket(_) | Driver::AfXdp(_) => self.netdev_here().map(Netdev::ifindex),
        }
    }

    /// Whether packets can pass.
    pub fn link(&self) -> LinkState {
        LinkState {
            admin_up: self.shared.admin_up.load(Ordering::Relaxed),
            carrier: self.shared.carrier(),
            gone: self.shared.gone.load(Ordering::Relaxed),
        }
    }

    /// Asks the PHY whether there is a link (`on`), or goes by the driver's word again. Blocks for two system calls.
    pub fn poll_mii(&self, on: bool) {
        let said = match self.netdev_here().filter(|_| on) {
            None => MII_UNASKED,
            Some(netdev) if mii::has_link(&netdev.name) => MII_UP,
            Some(_) => MII_DOWN,
        };
        self.shared.mii.store(said, Ordering::Relaxed);
    }

    /// Where the netdev is, of whose namespace and index events speak; None if there is none.
    pub fn place(&self) -> Option<At> {
        self.netdev().map(Netdev::place)
    }

    /// The netdev is somewhere, but could not be found: to be looked for again now and then (`seek`).
    pub fn is_lost(&self) -> bool {
        self.netdev().is_some_and(Netdev::is_lost)
    }

    /// Looks where the netdev is; whether anything changed.
    pub fn seek(&self) -> bool {
        self.netdev().is_some_and(Netdev::refresh)
    }

    /// Takes over what a netlink event says about this port's device; whether MTU, MAC, link state or place changed.
    pub fn follow(&self, told: &netlink::Told) -> bool {
        self.netdev().is_some_and(|netdev| netdev.follow(told))
    }

    /// Sets the MTU.
    pub fn set_mtu(&self, mtu: u32) -> Result<(), PortError> {
        match (&self.driver, self.netdev()) {
            (Driver::Dummy(port), _) => port.set_mtu(mtu)?,
            (_, Some(netdev)) => netdev.set_mtu(mtu)?,
            (_, None) => self.shared.mtu.store(mtu, Ordering::Relaxed),
        }
        Ok(())
    }

    /// Sets the Ethernet address.
    pub fn set_mac(&self, mac: Mac) -> Result<(), PortError> {
        match self.netdev() {
            Some(netdev) => netdev.set_mac(mac)?,
            None => self.shared.set_mac(mac),
        }
        Ok(())
    }

    /// Makes the kernel queue what leaves by this port as asked; `None` takes away what was asked for before.
    pub fn set_qos(&self, qos: Option<&Qos>) -> Result<(), PortError> {
        let port = match &self.driver {
            Driver::AfPacket(port) => port,
            // What leaves by these is not queued.
            Driver::Memory | Driver::Dummy(_) | Driver::Host(_) => return Ok(()),
            // Frames over AF_XDP pass the kernel's queues by, and what is written to a tap has come in by it.
            Driver::Tap(_) | Driver::AfXdp(_) => {
                let refused = PortError::Unsupported { name: self.name.clone(), what: "QoS" };
                return if qos.is_some_and(|q| q.kind != "linux-noop") { Err(refused) } else { Ok(()) };
            }
        };
        port.netdev.set_qos(qos, self.speed_bps())?;
        let classful = qos.filter(|q| qdisc_report::has_classes(&q.kind));
        let queues: Vec<u16> = classful.iter().flat_map(|q| &q.queues).filter_map(|(n, _)| u16::try_from(*n).ok()).collect();
        port.set_queues(&queues).map_err(|e| port.netdev.fault("opening a socket for a queue", e))
    }

    /// What a QoS that was set has come to; `None` where nothing is queued.
    pub fn qos_report(&self, qos: &Qos) -> Result<Option<QosReport>, PortError> {
        let Driver::AfPacket(port) = &self.driver else { return Ok(None) };
        port.netdev.qos_report(qos, self.speed_bps()).map(Some)
    }

    /// The types of QoS that there are for this port.
    #[must_use]
    pub fn qos_kinds(&self) -> Vec<&'static str> {
        if matches!(self.driver, Driver::AfPacket(_)) { qdisc::kinds() } else { Vec::new() }
    }

    fn speed_bps(&self) -> u64 {
        self.link_settings().map_or(0, |link| u64::from(link.speed_mbps.unwrap_or(0)) * 1_000_000)
    }

    /// Sets the administrative state.
    pub fn set_admin_up(&self, up: bool) -> Result<(), PortError> {
        match self.netdev() {
            Some(netdev) => netdev.set_up(up)?,
            None => self.shared.admin_up.store(up, Ordering::Relaxed),
        }
        Ok(())
    }

    /// What the driver says about itself (Interface:status driver_name and so on); None if there is no driver.
    pub fn driver_info(&self) -> Option<ethtool::DriverInfo> {
        ethtool::driver_info(&self.netdev_here()?.name).ok()
    }

    /// Speed and duplex; None if the driver does not know.
    pub fn link_settings(&self) -> Option<ethtool::LinkSettings> {
        ethtool::link_settings(&self.netdev_here()?.name).ok()
    }

    /// Figures of the port as a whole, seen from the switch: those of the kernel where there is a netdev.
    pub fn stats(&self) -> Result<PortStats, PortError> {
        let counted = match &self.driver {
            Driver::Memory | Driver::Host(_) => true,
            // OVS's dummies do not count what they lose, and its tests know that.
            Driver::Dummy(_) => false,
            // The host's netdev sends what the port receives.
            Driver::Tap(port) => return Ok(netdev::port_stats(&port.netdev.stats()?, true)),
            Driver::AfPacket(port) => return kernel_stats(&port.netdev, port.dropped()),
            Driver::AfXdp(port) => return kernel_stats(&port.netdev, port.dropped()),
        };
        let (rx, tx) = self.queue_stats();
        let total = |queues: &[QueueStats]| {
            let mut total = QueueStats::default();
            queues.iter().for_each(|queue| total += *queue);
            total
        };
        let (rx, tx) = (total(&rx), total(&tx));
        Ok(PortStats {
            rx_packets: rx.packets,
            tx_packets: tx.packets,
            rx_bytes: rx.bytes,
            tx_bytes: tx.bytes,
            rx_dropped: counted.then_some(rx.dropped),
            tx_dropped: counted.then_some(tx.dropped),
            rx_errors: counted.then_some(rx.errors),
            tx_errors: counted.then_some(tx.errors),
            ..PortStats::default()
        })
    }

    /// Further statistics by name, for Interface:statistics.
    pub fn custom_stats(&self) -> Vec<(String, u64)> {
        match &self.driver {
            Driver::Memory | Driver::Tap(_) | Driver::AfPacket(_) | Driver::AfXdp(_) | Driver::Host(_) => Vec::new(),
            Driver::Dummy(port) => {
                let (rx, tx) = self.queue_stats();
                port.custom_stats(&rx, &tx)
            }
        }
    }

    /// The control handle of a dummy.
    pub fn dummy(&self) -> Option<dummy::Control> {
        match &self.driver {
            Driver::Memory | Driver::Tap(_) | Driver::AfPacket(_) | Driver::AfXdp(_) | Driver::Host(_) => None,
            Driver::Dummy(port) => Some(port.control.clone()),
        }
    }

    /// Figures per receive queue, and per transmit handle (of all workers that ever asked for one).
    pub fn queue_stats(&self) -> (Vec<QueueStats>, Vec<QueueStats>) {
        let all = |counters: &Mutex<Vec<Counters>>| {
            let counters = counters.lock().unwrap_or_else(PoisonError::into_inner);
            counters.iter().map(|c| c.snapshot()).collect()
        };
        (all(&self.shared.rx_counters), all(&self.shared.tx_counters))
    }
}

/// How a netdev's frames pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Io {
    AfPacket,
    AfXdp,
}

/// What a device of type `system` gets: AF_XDP where a driver of real hardware can do it natively and frames fit; AF_PACKET elsewhere. Between
/// containers AF_PACKET is the faster one as well, because TCP passes in frames of 64 KiB.
fn prefer(link: &netlink::Link) -> Io {
    let hardware = link.kind.is_none() && !link.loopback;
    if hardware && af_xdp::mtu_fits(link.mtu) { Io::AfXdp } else { Io::AfPacket }
}

/// Opens a netdev of the kernel.
fn open_system(config: &PortConfig, shared: &Arc<Shared>) -> Result<(Vec<RxQueue>, Driver), PortError> {
    let (netdev, link) = Netdev::find(&config.name, shared)?;
    if link.loopback {
        return Err(PortError::Loopback { name: config.name.clone() });
    }
    let wanted = match (config.kind, config.option("io")) {
        (Kind::AfXdp, _) | (_, Some("af_xdp")) => Some(Io::AfXdp),
        (_, Some("af_packet")) => Some(Io::AfPacket),
        (_, None) => None,
        (_, Some(_)) => return Err(config.bad_option("io", "af_xdp or af_packet")),
    };
    if wanted.unwrap_or_else(|| prefer(&link)) == Io::AfXdp {
        // By itself the switch takes AF_XDP only in the driver; by the operator's wish in any way.
        let native = config.clone().with("xdp-mode", "native");
        let asked = if wanted.is_some() { config } else { &native };
        match af_xdp::Port::open(asked, &netdev, &link) {
            Ok((port, rx)) => {
                return Ok((rx.into_iter().map(RxQueue::AfXdp).collect(), Driver::AfXdp(port)));
            }
            Err(error) if wanted.is_some() => return Err(error),
            Err(error) => tracing::debug!(target: "netdev_afxdp", "{error}; using AF_PACKET"),
        }
    }
    let fault = |e| netdev.fault("opening a packet socket", e);
    let (port, rx) = af_packet::Port::open(&netdev, config.n_rxq()?).map_err(fault)?;
    Ok((rx.into_iter().map(RxQueue::AfPacket).collect(), Driver::AfPacket(port)))
}

/// The kernel's figures of a device, and what was lost between it and our sockets.
fn kernel_stats(netdev: &Netdev, dropped: u64) -> Result<PortStats, PortError> {
    let mut stats = netdev::port_stats(&netdev.stats()?, false);
    stats.rx_dropped = stats.rx_dropped.map(|before| before + dropped);
    Ok(stats)
}

fn open_memory(config: &PortConfig, shared: &Arc<Shared>) -> Result<Vec<RxQueue>, PortError> {
    let mut frames = Vec::new();
    if let Some(path) = config.option("pcap") {
        frames = pcap::read(Path::new(path)).map_err(|source| PortError::Pcap {
            name: config.name.clone(),
            path: path.to_owned(),
            source,
        })?;
    }
    let (frames, refused) = memory::Frames::new(&frames);
    if refused > 0 {
        tracing::warn!(target: "netdev", "{}: {refused} frames are too large to be replayed", config.name);
    }
    let frames = Arc::new(frames);
    shared.mtu.store(config.mtu.unwrap_or(1500), Ordering::Relaxed);
    shared.set_mac(config.mac.unwrap_or([0x02, 0, 0, 0, 0, 1]));
    let n_rxq = config.n_rxq()?;
    let queue = |i| {
        let counters = shared.new_rx_counters();
        RxQueue::Memory(memory::Rx::new(Arc::clone(&frames), i * 1021, Arc::clone(shared), counters))
    };
    shared.set_link(LinkState { admin_up: true, carrier: true, gone: false });
    Ok((0..n_rxq).map(queue).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_device_is_no_port() {
        let refused = Device::open(&PortConfig::new("lo", "system").unwrap()).unwrap_err();
        assert_eq!(refused.to_string(), "lo: cannot add a loopback device");
    }
}
