//! The kernel's routes, rules and addresses, followed for tunnels on a thread of its own.
//!
//! What enters: rtnetlink events of the network namespace that the daemon runs in. What leaves: changes for the slow path's router, a batch of
//! events at a time. With `--disable-system-route` nothing is followed. Events that were lost are made good by asking for everything.

use flow::hash::Map;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ofproto::router::{Device, DeviceAddr, Prefix, Route as RouterRoute, Rule as RouterRule};
use ofproto::slowpath::{RouteChange, Slowpath};
use ofproto::tunnel::Addr;
use port::netlink::request::Session;
use port::netlink::{Address, Event, Monitor, Route, Rule};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// How long the thread may sleep before it looks whether it is to end.
const WAIT_MS: u16 = 500;
/// IPv4 prefixes stand behind this many bits.
const MAPPED_BITS: u8 = 96;

/// The thread.
#[derive(Debug)]
pub struct Routes {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Routes {
    /// Starts following. Where the kernel does not let us, tunnels have the routes that commands add.
    #[must_use]
    pub fn follow(slowpath: &Arc<Slowpath>) -> Option<Self> {
        let start = || -> io::Result<Follower> {
            Ok(Follower { monitor: Monitor::new()?, session: Session::new()?, kernel: Kernel::default() })
        };
        let follower = start().inspect_err(|error| tracing::warn!(target: "route_table", "no routes of the kernel: {error}"));
        let mut follower = follower.ok()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let (stop, slowpath) = (Arc::clone(&stopping), Arc::clone(slowpath));
        let body = move || follower.run(&slowpath, &stop);
        let thread = std::thread::Builder::new().name("routes".into()).spawn(body).ok()?;
        Some(Self { stopping, thread: Some(thread) })
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, there is nothing to do about it here.
            let _ = thread.join();
        }
    }
}

struct Follower {
    monitor: Monitor,
    session: Session,
    kernel: Kernel,
}

impl Follower {
    fn run(&mut self, slowpath: &Slowpath, stop: &AtomicBool) {
        let mut events = vec![Event::Overrun];
        while !stop.load(Ordering::Acquire) {
            let lost = events.contains(&Event::Overrun);
            let batch = if lost { self.everything() } else { Ok(std::mem::take(&mut events)) };
            match batch {
                Ok(batch) => self.kernel.take(batch, lost).tell(slowpath),
                Err(error) => tracing::warn!(target: "route_table", "cannot read routes: {error}"),
            }
            let mut fds = [PollFd::new(self.monitor.as_fd(), PollFlags::POLLIN)];
            // An interrupted wait is one that was shorter.
            let _ = poll(&mut fds, PollTimeout::from(WAIT_MS));
            events = self.monitor.events().unwrap_or_else(|_| vec![Event::Overrun]);
        }
    }

    fn everything(&mut self) -> io::Result<Vec<Event>> {
        let mut all: Vec<Event> = self.session.links()?.into_iter().map(|l| Event::Link(Box::new(l))).collect();
        all.extend(self.session.addresses()?.into_iter().map(Event::Address));
        all.extend(self.session.routes()?.into_iter().map(Event::Route));
        // A kernel without rules has the three tables that everybody begins with.
        all.extend(self.session.rules().unwrap_or_default().into_iter().map(Event::Rule));
        Ok(all)
    }
}

/// What is known of the kernel's devices.
#[derive(Debug, Default)]
struct Kernel {
    names: Map<u32, String>,
    devices: Map<u32, Device>,
    addresses: Map<u32, Vec<DeviceAddr>>,
}

/// What the slow path is to be told.
#[derive(Debug, Default, PartialEq)]
struct News {
    addresses: Vec<(String, Vec<DeviceAddr>)>,
    /// `None` for those that are gone.
    devices: Vec<(String, Option<Device>)>,
    routes: Vec<RouteChange>,
}

impl News {
    fn tell(self, slowpath: &Slowpath) {
        if self == Self::default() {
            return;
        }
        for (device, addresses) in self.addresses {
            slowpath.set_device_addresses(&device, addresses, false);
        }
        slowpath.set_devices(&self.devices);
        slowpath.change_routes(self.routes);
        slowpath.settle();
    }
}

impl Kernel {
    /// Takes up events; `all`: they are everything that there is.
    fn take(&mut self, events: Vec<Event>, all: bool) -> News {
        let mut news = News::default();
        let mut touched: Vec<u32> = Vec::new();
        if all {
            // Devices that are no longer there have no addresses any more.
            let gone: Vec<String> = self.names.drain().map(|(_, name)| name).collect();
            news.devices = gone.iter().map(|name| (name.clone(), None)).collect();
            news.addresses = gone.into_iter().map(|name| (name, Vec::new())).collect();
            self.addresses.clear();
            self.devices.clear();
            news.routes.push(RouteChange::Reset);
            news.routes.extend(all_rules(&events));
        }
        for event in events {
            match event {
                Event::Link(link) => {
                    let device = Device { mtu: link.mtu, carrier: link.admin_up && link.carrier };
                    let known = self.devices.insert(link.ifindex, device);
                    let before = self.names.insert(link.ifindex, link.name.clone());
                    if all || known != Some(device) || before.as_ref() != Some(&link.name) {
                        news.devices.push((link.name.clone(), Some(device)));
                    }
                    if let Some(before) = before.filter(|b| *b != link.name) {
                        news.devices.push((before.clone(), None));
                        news.addresses.push((before, Vec::new()));
                        touched.push(link.ifindex);
                    }
                }
                Event::LinkGone { ifindex, name } => {
                    self.names.remove(&ifindex);
                    self.devices.remove(&ifindex);
                    self.addresses.remove(&ifindex);
                    news.devices.push((name.clone(), None));
                    news.addresses.push((name, Vec::new()));
                }
                Event::Address(address) => {
                    let (ifindex, address) = device_address(&address);
                    let known = self.addresses.entry(ifindex).or_default();
                    if !known.contains(&address) {
                        known.push(address);
                    }
                    touched.push(ifindex);
                }
                Event::AddressGone(address) => {
                    let (ifindex, address) = device_address(&address);
                    self.addresses.entry(ifindex).or_default().retain(|a| *a != address);
                    touched.push(ifindex);
                }
                Event::Route(route) => {
                    news.routes.extend(self.route(&route).map(|(table, route)| RouteChange::Add { table, route }))
                }
                Event::RouteGone(route) => {
                    news.routes.extend(self.route(&route).map(|(table, route)| RouteChange::Remove { table, route }));
                }
                // Those of a whole listing have been taken.
                Event::Rule(_) if all => {}
                Event::Rule(rule) => news.routes.push(RouteChange::AddRule(router_rule(&rule))),
                Event::RuleGone(rule) => news.routes.push(RouteChange::RemoveRule(router_rule(&rule))),
                Event::Overrun => {}
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for ifindex in touched {
            if let Some(name) = self.names.get(&ifindex) {
                news.addresses.retain(|(device, _)| device != name);
                news.addresses.push((name.clone(), self.addresses.get(&ifindex).cloned().unwrap_or_default()));
            }
        }
        news
    }

    /// A route as the router has it; `None` when its device is not known (it will come again with the device).
    fn route(&self, route: &Route) -> Option<(u32, RouterRoute)> {
        let device = self.names.get(&route.ifindex)?.clone();
        let bits = if route.destination.is_ipv4() { MAPPED_BITS } else { 0 };
        let prefix = Prefix::new(Addr::from(route.destination), route.prefix_len.saturating_add(bits));
        let router_route = RouterRoute {
            prefix,
            mark: 0,
            device,
            gateway: route.gateway.map(Addr::from).unwrap_or_default(),
            source: route.source.filter(|s| !s.is_unspecified()).map(Addr::from),
            local: route.local,
            user: false,
            metric: route.priority,
        };
        Some((route.table, router_route))
    }
}

/// The rules of each family of which there are any.
fn all_rules(events: &[Event]) -> impl Iterator<Item = RouteChange> {
    [false, true].into_iter().filter_map(|v6| {
        let of_family = |event: &Event| if let Event::Rule(rule) = event { Some(router_rule(rule)) } else { None };
        let rules: Vec<_> = events.iter().filter_map(of_family).filter(|rule| rule.v6 == v6).collect();
        (!rules.is_empty()).then_some(RouteChange::Rules { v6, rules })
    })
}

/// A rule as the router has it.
fn router_rule(rule: &Rule) -> RouterRule {
    let from = rule.source.map(|(address, plen)| {
        let bits = if address.is_ipv4() { MAPPED_BITS } else { 0 };
        Prefix::new(Addr::from(address), plen.saturating_add(bits))
    });
    RouterRule { priority: rule.priority, v6: rule.v6, invert: rule.invert, from, table: rule.table, user: false }
}

fn device_address(address: &Address) -> (u32, DeviceAddr) {
    let bits = if matches!(address.address, IpAddr::V4(_)) { MAPPED_BITS } else { 0 };
    let plen = address.prefix_len.saturating_add(bits).min(128);
    (address.ifindex, DeviceAddr { address: Addr::from(address.address), plen })
}

#[cfg(test)]
mod tests {
    use super::*;
    use port::netlink::Link;

    fn link(ifindex: u32, name: &str) -> Event {
        Event::Link(Box::new(Link { ifindex, name: name.to_owned(), ..Link::default() }))
    }

    fn address(ifindex: u32, text: &str, prefix_len: u8) -> Address {
        Address { ifindex, address: text.parse().unwrap(), prefix_len }
    }

    fn route(ifindex: u32, destination: &str, prefix_len: u8) -> Route {
        Route {
            destination: destination.parse().unwrap(),
            prefix_len,
            gateway: None,
            ifindex,
            source: None,
            priority: 0,
            table: 254,
            local: false,
            tos: 0,
        }
    }

    #[test]
    fn devices_are_known_by_name() {
        let mut kernel = Kernel::default();
        let first = vec![link(2, "eth0"), Event::Address(address(2, "10.0.0.1", 24)), Event::Route(route(2, "10.0.0.0", 24))];
        let news = kernel.take(first, true);
        assert_eq!(news.routes.len(), 2);
        let RouteChange::Add { table: 254, route: added } = &news.routes[1] else { panic!("{news:?}") };
        assert_eq!((added.prefix.to_string().as_str(), added.device.as_str()), ("10.0.0.0/24", "eth0"));
        let on_link = DeviceAddr { address: Addr::parse("10.0.0.1").unwrap(), plen: 120 };
        assert_eq!(news.addresses, [("eth0".to_owned(), vec![on_link])]);
        let news = kernel.take(vec![link(2, "up0")], false);
        assert_eq!(news.addresses, [("eth0".to_owned(), vec![]), ("up0".to_owned(), vec![on_link])]);
        let news =
            kernel.take(vec![Event::AddressGone(address(2, "10.0.0.1", 24)), Event::Route(route(9, "10.9.0.0", 24))], false);
        assert_eq!((news.addresses, news.routes.len()), (vec![("up0".to_owned(), vec![])], 0));
        let news = kernel.take(vec![link(3, "eth1")], true);
        let (addresses, down) = (vec![("up0".to_owned(), vec![])], Device { mtu: 0, carrier: false });
        let devices = vec![("up0".to_owned(), None), ("eth1".to_owned(), Some(down))];
        assert_eq!(news, News { addresses, devices, routes: vec![RouteChange::Reset] });
        // A link that comes is told, one that stays as it was is not.
        let up =
            || Event::Link(Box::new(Link { ifindex: 3, name: "eth1".into(), admin_up: true, carrier: true, ..Link::default() }));
        assert_eq!(kernel.take(vec![up()], false).devices, [("eth1".to_owned(), Some(Device { mtu: 0, carrier: true }))]);
        assert_eq!(kernel.take(vec![up()], false), News::default());
    }

    #[test]
    fn rules_are_replaced_by_family_and_followed_one_by_one() {
        let rule = |priority, source: Option<&str>| {
            let source = source.map(|text| (text.parse().unwrap(), 16));
            Rule { priority, v6: false, invert: false, source, table: 100 }
        };
        let mut kernel = Kernel::default();
        let all = vec![Event::Rule(rule(0, None)), Event::Rule(rule(5, Some("10.1.0.0")))];
        let news = kernel.take(all, true).routes;
        let [RouteChange::Reset, RouteChange::Rules { v6: false, rules }] = news.as_slice() else { panic!("{news:?}") };
        assert_eq!(
            rules.iter().map(|r| r.from.map(|f| f.to_string())).collect::<Vec<_>>(),
            [None, Some("10.1.0.0/16".to_owned())]
        );
        let news = kernel.take(vec![Event::Rule(rule(7, None)), Event::RuleGone(rule(5, Some("10.1.0.0")))], false).routes;
        assert_eq!(news, [RouteChange::AddRule(router_rule(&rule(7, None))), RouteChange::RemoveRule(rules[1].clone())]);
    }
}
