//! What the kernel tells about devices, addresses, routes and their rules, and what we ask of it.
//!
//! What enters: rtnetlink messages. What leaves: [`Link`]s, [`Event`]s, and changes of devices (up, MTU, MAC). Neighbours: `device` (opens
//! by name, follows), the daemon (status columns, devices that come and go, routes for tunnels).
//!
//! Decoding is pure ([`decode`]): bytes in, events out, tested with captured bytes and with any bytes. [`Monitor`] is a non-blocking
//! socket for the daemon's loop; [`request`] holds the blocking questions.

pub mod ethtool;
pub mod mii;
pub mod qdisc;
pub(crate) mod qdisc_report;
pub mod raw;
pub mod request;
mod rule;
mod wire;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, setsockopt, socket, sockopt};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use wire::{Attributes, Message};

pub use rule::Rule;

use crate::device::Mac;
use crate::sys;

/// A netdev as RTM_NEWLINK describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The interface index.
    pub ifindex: u32,
    /// The name.
    pub name: String,
    /// The Ethernet address; None for devices without one.
    pub mac: Option<Mac>,
    /// Bytes without the Ethernet header.
    pub mtu: u32,
    /// The greatest MTU that the driver takes; 0 if it does not say.
    pub max_mtu: u32,
    /// IFF_UP.
    pub admin_up: bool,
    /// IFF_LOWER_UP.
    pub carrier: bool,
    /// IFF_LOOPBACK.
    pub loopback: bool,
    /// The rtnl kind ("veth", "tun", "bond"); None for devices of hardware drivers.
    pub kind: Option<String>,
    /// Receive and transmit queues.
    pub queues: (u32, u32),
    /// The port name and switch id of an eSwitch's representor.
    pub phys_port_name: Option<String>,
    /// See `phys_port_name`.
    pub phys_switch_id: Option<Vec<u8>>,
    /// The master device (bridge, bond), 0 if none.
    pub master: u32,
    /// Statistics.
    pub stats: LinkStats,
}

/// struct rtnl_link_stats64, the fields that Interface:statistics has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the kernel's names")]
pub struct LinkStats {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
    pub multicast: u64,
    pub collisions: u64,
    pub rx_length_errors: u64,
    pub rx_over_errors: u64,
    pub rx_crc_errors: u64,
    pub rx_frame_errors: u64,
    pub rx_fifo_errors: u64,
    pub rx_missed_errors: u64,
}

/// An address of a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// The device.
    pub ifindex: u32,
    /// The address.
    pub address: IpAddr,
    /// Bits of its prefix.
    pub prefix_len: u8,
}

/// A unicast route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// The destination's first address (0.0.0.0 or :: for a default route).
    pub destination: IpAddr,
    /// Bits of its prefix.
    pub prefix_len: u8,
    /// The next hop, if it is not directly connected.
    pub gateway: Option<IpAddr>,
    /// The device; 0 for multipath routes, of which the first hop is given in `gateway`.
    pub ifindex: u32,
    /// The source address that the kernel would choose.
    pub source: Option<IpAddr>,
    /// The priority (metric); smaller wins.
    pub priority: u32,
    /// The table (254 is main, 255 local).
    pub table: u32,
    /// RTN_LOCAL: the destination is this host.
    pub local: bool,
    /// The fwmark-independent type-of-service selector.
    pub tos: u8,
}

/// Something that happened, or one entry of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A device appeared or changed.
    Link(Box<Link>),
    /// A device vanished (or left this namespace).
    LinkGone {
        /// Its index.
        ifindex: u32,
        /// Its name.
        name: String,
    },
    /// An address was added or changed.
    Address(Address),
    /// An address was removed.
    AddressGone(Address),
    /// A route was added or replaced.
    Route(Route),
    /// A route was removed.
    RouteGone(Route),
    /// A rule that chooses a table was added.
    Rule(Rule),
    /// One was removed.
    RuleGone(Rule),
    /// Events were lost: everything has to be asked for again.
    Overrun,
}

/// Every event in the bytes of one read. What is not understood or cut short is left out.
pub fn decode(bytes: &[u8]) -> Vec<Event> {
    wire::messages(bytes).filter_map(|message| decode_one(&message)).collect()
}

fn decode_one(message: &Message<'_>) -> Option<Event> {
    match message.kind {
        libc::RTM_NEWLINK => decode_link(message.payload).map(|link| Event::Link(Box::new(link))),
        libc::RTM_DELLINK => {
            let link = decode_link(message.payload)?;
            Some(Event::LinkGone { ifindex: link.ifindex, name: link.name })
        }
        libc::RTM_NEWADDR => decode_address(message.payload).map(Event::Address),
        libc::RTM_DELADDR => decode_address(message.payload).map(Event::AddressGone),
        libc::RTM_NEWROUTE => decode_route(message.payload).map(Event::Route),
        libc::RTM_DELROUTE => decode_route(message.payload).map(Event::RouteGone),
        libc::RTM_NEWRULE => rule::decode(message.payload).map(Event::Rule),
        libc::RTM_DELRULE => rule::decode(message.payload).map(Event::RuleGone),
        _ => None,
    }
}

/// struct ifinfomsg and its attributes.
fn decode_link(payload: &[u8]) -> Option<Link> {
    let head: &[u8; 16] = payload.first_chunk()?;
    // Messages of the bridge family speak of bridge ports, not of devices.
    if head[0] != 0 {
        return None;
    }
    let flags = wire::u32_at(head, 8)?;
    let on = |flag: libc::c_int| flags & flag.unsigned_abs() != 0;
    let mut link = Link {
        ifindex: wire::u32_at(head, 4)?,
        admin_up: on(libc::IFF_UP),
        carrier: on(libc::IFF_LOWER_UP),
        loopback: on(libc::IFF_LOOPBACK),
        ..Link::default()
    };
    for (kind, value) in Attributes::new(&payload[16..]) {
        match kind {
            libc::IFLA_IFNAME => link.name = wire::text(value),
            libc::IFLA_ADDRESS => link.mac = value.try_into().ok(),
            libc::IFLA_MTU => link.mtu = wire::u32_at(value, 0)?,
            wire::IFLA_MAX_MTU => link.max_mtu = wire::u32_at(value, 0)?,
            libc::IFLA_MASTER => link.master = wire::u32_at(value, 0)?,
            libc::IFLA_NUM_RX_QUEUES => link.queues.0 = wire::u32_at(value, 0)?,
            libc::IFLA_NUM_TX_QUEUES => link.queues.1 = wire::u32_at(value, 0)?,
            libc::IFLA_PHYS_PORT_NAME => link.phys_port_name = Some(wire::text(value)),
            libc::IFLA_PHYS_SWITCH_ID => link.phys_switch_id = Some(value.to_vec()),
            libc::IFLA_STATS64 => link.stats = decode_stats(value),
            libc::IFLA_LINKINFO => {
                let kind = Attributes::new(value).find(|(kind, _)| *kind == libc::IFLA_INFO_KIND);
                link.kind = kind.map(|(_, value)| wire::text(value));
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn decode_stats(value: &[u8]) -> LinkStats {
    let word = |i: usize| wire::u64_at(value, i * 8).unwrap_or(0);
    LinkStats {
        rx_packets: word(0),
        tx_packets: word(1),
        rx_bytes: word(2),
        tx_bytes: word(3),
        rx_errors: word(4),
        tx_errors: word(5),
        rx_dropped: word(6),
        tx_dropped: word(7),
        multicast: word(8),
        collisions: word(9),
        rx_length_errors: word(10),
        rx_over_errors: word(11),
        rx_crc_errors: word(12),
        rx_frame_errors: word(13),
        rx_fifo_errors: word(14),
        rx_missed_errors: word(15),
    }
}

fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match libc::c_int::from(family) {
        libc::AF_INET => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))),
        libc::AF_INET6 => Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?))),
        _ => None,
    }
}

/// struct ifaddrmsg and its attributes.
fn decode_address(payload: &[u8]) -> Option<Address> {
    let head: &[u8; 8] = payload.first_chunk()?;
    let (mut address, mut local) = (None, None);
    for (kind, value) in Attributes::new(&payload[8..]) {
        match kind {
            libc::IFA_ADDRESS => address = ip(head[0], value),
            // On a point-to-point device IFA_ADDRESS is the peer's and this one ours.
            libc::IFA_LOCAL => local = ip(head[0], value),
            _ => {}
        }
    }
    Some(Address { ifindex: wire::u32_at(head, 4)?, address: local.or(address)?, prefix_len: head[1] })
}

/// struct rtmsg and its attributes.
fn decode_route(payload: &[u8]) -> Option<Route> {
    let head: &[u8; 12] = payload.first_chunk()?;
    let family = head[0];
    let local = head[7] == libc::RTN_LOCAL;
    if !local && head[7] != libc::RTN_UNICAST {
        return None;
    }
    let destination = match libc::c_int::from(family) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let mut route = Route {
        destination,
        prefix_len: head[1],
        gateway: None,
        ifindex: 0,
        source: None,
        priority: 0,
        table: head[4].into(),
        local,
        tos: head[3],
    };
    for (kind, value) in Attributes::new(&payload[12..]) {
        match kind {
            libc::RTA_DST => route.destination = ip(family, value)?,
            libc::RTA_GATEWAY => route.gateway = ip(family, value),
            libc::RTA_OIF => route.ifindex = wire::u32_at(value, 0)?,
            libc::RTA_PREFSRC => route.source = ip(family, value),
            libc::RTA_PRIORITY => route.priority = wire::u32_at(value, 0)?,
            libc::RTA_TABLE => route.table = wire::u32_at(value, 0)?,
            libc::RTA_MULTIPATH => first_hop(family, value, &mut route)?,
            // RTA_VIA: a next hop of the other family.
            wire::RTA_VIA => {
                let (family, address) = value.split_first_chunk::<2>()?;
                route.gateway = ip(u8::try_from(u16::from_ne_bytes(*family)).ok()?, address);
            }
            _ => {}
        }
    }
    Some(route)
}

/// struct rtnexthop: length, flags, hops, ifindex, attributes.
fn first_hop(family: u8, value: &[u8], route: &mut Route) -> Option<()> {
    let len = usize::from(u16::from_ne_bytes(*value.first_chunk()?));
    let hop = value.get(..len)?;
    route.ifindex = wire::u32_at(hop, 4)?;
    for (kind, value) in Attributes::new(hop.get(8..)?) {
        if kind == libc::RTA_GATEWAY {
            route.gateway = ip(family, value);
        }
    }
    Some(())
}

/// Bytes of one read: the kernel's dumps use up to 32 KiB per message block.
const READ_MAX: usize = 64 << 10;

fn open(groups: u32, flags: SockFlag) -> io::Result<OwnedFd> {
    let flags = flags | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(fd)
}

/// `RTNLGRP_IPV4_RULE` and `RTNLGRP_IPV6_RULE`, as bits.
const RULES: u32 = 1 << 7 | 1 << 18;

/// Events taken at a time: who has taken so many finds the socket readable still, and may do other things first.
pub const TOLD_MAX: usize = 4096;

/// A subscription to changes of links, addresses, routes and rules in the network namespace of the thread that makes it.
#[derive(Debug)]
pub struct Monitor {
    fd: Arc<OwnedFd>,
    bytes: Vec<u8>,
    /// The kernel drops what it has no room for, and says so once, before what is older; it goes on dropping, without a word, until all of that is taken.
    losing: bool,
    /// With the monitor's own namespace, where others are listened to as well.
    own: Option<request::Session>,
}

/// An event, and the namespace that it is from, by the id that ours has for it; None for ours.
pub type Told = (Option<i32>, Event);

impl Monitor {
    /// Subscribes. Ask for the present state ([`request::links`] and so on) after this, so that nothing falls between.
    pub fn new() -> io::Result<Self> {
        let groups = libc::RTMGRP_LINK
            | libc::RTMGRP_IPV4_IFADDR
            | libc::RTMGRP_IPV6_IFADDR
            | libc::RTMGRP_IPV4_ROUTE
            | libc::RTMGRP_IPV6_ROUTE;
        Self::of(groups.unsigned_abs() | RULES)
    }

    fn of(groups: u32) -> io::Result<Self> {
        let fd = open(groups, SockFlag::SOCK_NONBLOCK)?;
        // More room makes overruns rarer; without the privilege the default remains.
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &(1 << 20));
        Ok(Self { fd: Arc::new(fd), bytes: vec![0; READ_MAX], losing: false, own: None })
    }

    /// Of links alone.
    pub fn links() -> io::Result<Self> {
        Self::of(libc::RTMGRP_LINK.unsigned_abs())
    }

    /// Of links alone, but of every namespace that has an id in the thread's own, as those have into which devices were moved. Without the privilege
    /// (CAP_NET_BROADCAST) of the thread's own alone.
    pub fn links_everywhere() -> io::Result<Self> {
        let monitor = Self::links()?;
        let on: libc::c_int = 1;
        if let Err(error) = sys::set_option(monitor.fd.as_fd(), libc::SOL_NETLINK, sys::NETLINK_LISTEN_ALL_NSID, &on) {
            tracing::debug!(target: "netlink_notifier", "devices in other namespaces are not followed ({error})");
            return Ok(monitor);
        }
        Ok(Self { own: Some(request::Session::new()?), ..monitor })
    }

    /// The socket, for who waits until there is something to take.
    #[must_use]
    pub fn ear(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    /// What has happened since the last call, no more than [`TOLD_MAX`] events (and those that came with the last of them); empty if nothing has.
    /// Never blocks.
    pub fn events(&mut self) -> io::Result<Vec<Event>> {
        Ok(self.told()?.into_iter().filter(|(nsid, _)| nsid.is_none()).map(|(_, event)| event).collect())
    }

    /// The same with what other namespaces tell.
    pub fn told(&mut self) -> io::Result<Vec<Told>> {
        self.told_up_to(TOLD_MAX)
    }

    /// The same with another limit. Where events were lost, every call says so until nothing is left to take.
    pub fn told_up_to(&mut self, limit: usize) -> io::Result<Vec<Told>> {
        let (mut told, mut is_all) = (Vec::new(), false);
        while told.len() < limit {
            match sys::recv_told(self.fd.as_fd(), &mut self.bytes) {
                Ok((n, nsid)) => told.extend(decode(&self.bytes[..n]).into_iter().map(|event| (nsid, event))),
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => {
                        is_all = true;
                        break;
                    }
                    Some(Errno::EINTR) => {}
                    Some(Errno::ENOBUFS) => self.losing = true,
                    _ => return Err(error),
                },
            }
        }
        if self.losing {
            told.push((None, Event::Overrun));
            self.losing = !is_all;
        }
        if self.know_ours(&mut told).is_err() {
            // Whose they are is not known, and they will not be told again.
            told.push((None, Event::Overrun));
        }
        Ok(told)
    }

    /// A namespace may have an id for itself, which then stands at its own events, too.
    fn know_ours(&mut self, told: &mut [Told]) -> io::Result<()> {
        let Some(session) = self.own.as_mut().filter(|_| told.iter().any(|(nsid, _)| nsid.is_some())) else {
            return Ok(());
        };
        let id = session.own_id()?;
        told.iter_mut().filter(|(nsid, _)| nsid.is_some() && *nsid == id).for_each(|(nsid, _)| *nsid = None);
        Ok(())
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests;
