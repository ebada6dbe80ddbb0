//! One port as `ports` keeps it: what is asked for, the device that has it or not, and what was last seen of it.
//!
//! What enters: a request of the seam. What leaves: an open device with what it is to have, or the refusal in OVS's words; what the slow path is told
//! of the port. Neighbours: `ports`, which keeps all of them; `port` (devices).

use crate::crew::{self, Berth};
use crate::outlets::Outlet;
use crate::retry::Retry;
use crate::too_long::TooLongs;
use crate::topology::{CoreId, numa_of_netdev};
use crate::tunnel_pop::Decap;
use crate::upcall::PortQueue;
use flow::DpPort;
use flow::clock::Msec;
use flow::seam::{DpError, PortInfo, PortRequest, Qos};
use port::{Device, Kind, LinkState, Mac, PortConfig};
use std::sync::Arc;

/// A port.
#[derive(Debug)]
pub(crate) struct Port {
    pub request: PortRequest,
    /// `None`: a tunnel port, which packets reach by tunnel actions only, or the device is gone. A tunnel port's device is the host's stack.
    pub device: Option<Device>,
    pub tunnel: Option<Decap>,
    /// For a tunnel port.
    pub too_long: Option<Arc<TooLongs>>,
    pub upcalls: Arc<PortQueue>,
    pub seen: Seen,
    pub link_resets: u64,
    pub retry: Retry,
    /// When its PHY is to be asked again; `None`: it is not asked.
    pub mii_ms: Option<Msec>,
    /// The QoS that the device really has, and since when.
    pub queued: Option<(Qos, Msec)>,
}

/// What was last seen of a device. Workers find out some of it before the kernel's word has come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub link: LinkState,
    mtu: u32,
    mac: Mac,
}

impl Seen {
    pub(crate) fn of(device: &Device) -> Self {
        Self { link: device.link(), mtu: device.mtu(), mac: device.mac() }
    }

    /// Takes note of what the device is like now, and counts how often its carrier came and went; whether anything is different.
    pub(crate) fn follow(&mut self, device: &Device, link_resets: &mut u64) -> bool {
        let before = std::mem::replace(self, Self::of(device));
        *link_resets += u64::from(self.link.carrier != before.link.carrier);
        *self != before
    }
}

impl Port {
    /// Gives the device the MTU, the MAC and the QoS that are asked for, where it has others; the first refusal. One wish that is refused is no
    /// reason to leave the others.
    pub(crate) fn dress(&mut self, now_ms: Msec) -> Result<(), DpError> {
        let Some(device) = &self.device else { return Ok(()) };
        let mtu = self.request.mtu.filter(|m| u32::from(*m) != device.mtu()).map(|mtu| settled(device.set_mtu(mtu.into())));
        let mac = self.request.mac.filter(|m| *m != device.mac()).map(|mac| settled(device.set_mac(mac)));
        let refused = [mtu, mac, Some(self.queue(now_ms))].into_iter().flatten().find_map(Result::err);
        refused.map_or(Ok(()), |error| Err(DpError::Device(error.to_string())))
    }

    /// Gives the device the QoS that is asked for, if it has another. After a refusal it has none.
    pub(crate) fn queue(&mut self, now_ms: Msec) -> Result<(), port::PortError> {
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
    pub(crate) fn let_go(&mut self) {
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
    pub(crate) fn outlet(&self) -> Result<Box<Outlet>, DpError> {
        let tx = self.device.as_ref().map(Device::tx).transpose().map_err(|e| DpError::Device(e.to_string()))?;
        let mtu = self.device.as_ref().map(Device::mtu_cell);
        Ok(Outlet::new(tx, Arc::clone(&self.upcalls)).decapsulating(self.tunnel, self.too_long.clone()).limited(mtu))
    }

    pub(crate) fn berth(&self, port: DpPort) -> Berth {
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

    pub(crate) fn option(&self, key: &str) -> Option<&str> {
        self.request.options.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// What the device is configured with, as `dpif/show` prints it.
    pub(crate) fn config(&self) -> Vec<(String, String)> {
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

    pub(crate) fn info(&self, number: DpPort) -> PortInfo {
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
            info.link = settings.features;
        }
        if let Some(driver) = device.driver_info() {
            info.status = vec![
                ("driver_name".to_owned(), driver.driver),
                ("driver_version".to_owned(), driver.version),
                ("firmware_version".to_owned(), driver.firmware),
            ];
        }
        info.status.extend(device.xdp_mode().map(|mode| ("xdp-mode".to_owned(), mode.to_owned())));
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

pub(crate) fn affinity_of(request: &PortRequest) -> Vec<(usize, CoreId)> {
    crew::parse_affinity(&request.affinity).unwrap_or_else(|| {
        let (name, text) = (&request.name, &request.affinity);
        tracing::error!(target: "dpif_netdev", "Error parsing affinity list for port '{name}': '{text}'");
        Vec::new()
    })
}

pub(crate) fn open(request: &PortRequest) -> Result<Device, DpError> {
    let fault = |e| fault(&request.name, &e);
    let mut config = PortConfig::new(&request.name, &request.kind).map_err(fault)?;
    config.options = request.options.iter().cloned().collect();
    config.hash_tx = request.tx_steering == "hash";
    config.mtu = request.mtu.map(u32::from);
    config.mac = request.mac;
    Device::open(&config).map_err(fault)
}

/// The host's stack for a tunnel port that wants it.
pub(crate) fn open_host(request: &PortRequest) -> Result<Option<Device>, DpError> {
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
