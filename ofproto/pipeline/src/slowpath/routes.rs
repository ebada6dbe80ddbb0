//! Routes and addresses that others follow for the slow path: the kernel's, and those of dummy devices.
//!
//! What enters: changes, from the daemon. What leaves: the world's router, and a record of what has another answer now. Neighbours:
//! `router`, `commands::route`.

use super::Slowpath;
use super::apply::port_changed;
use crate::deps::Object;
use crate::router::{Device, DeviceAddr, Prefix, Route, Rule, TABLE_LOCAL, TABLE_MAIN};
use crate::tunnel::Addr;
use crate::world::World;
use flow::Msec;
use flow::clock::now_ms;
use std::net::IpAddr;

/// A change of the kernel's routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteChange {
    /// All of them are to be forgotten; what there is follows.
    Reset,
    Add {
        table: u32,
        route: Route,
    },
    Remove {
        table: u32,
        route: Route,
    },
    /// The rules of a family, all of them, in the place of those before that are not the user's.
    Rules {
        v6: bool,
        rules: Vec<Rule>,
    },
    AddRule(Rule),
    RemoveRule(Rule),
}

impl Slowpath {
    /// Takes up changes of the kernel's routes, all at once.
    pub fn change_routes(&self, changes: Vec<RouteChange>) {
        if changes.is_empty() {
            return;
        }
        let mut world = self.write_world();
        for change in changes {
            match change {
                RouteChange::Reset => world.router.retain(|_, route| route.user),
                RouteChange::Add { table, route } => world.router.insert(table, route),
                RouteChange::Remove { table, route } => {
                    world.router.remove(table, route.prefix, route.mark, |r| {
                        !r.user && r.metric == route.metric && r.device == route.device
                    });
                }
                RouteChange::Rules { v6, rules } => {
                    world.router.remove_rules(|r| !r.user && r.v6 == v6);
                    for rule in rules {
                        world.router.add_rule(rule);
                    }
                }
                RouteChange::AddRule(rule) => {
                    world.router.add_rule(rule);
                }
                RouteChange::RemoveRule(rule) => {
                    world.router.remove_rules(|r| *r == rule);
                }
            }
        }
        world.routes_changed(None);
    }

    /// Sets the addresses of a device. `connect`: the device is a dummy, of which no kernel says how its addresses are reached.
    pub fn set_device_addresses(&self, device: &str, addresses: Vec<DeviceAddr>, connect: bool) {
        let mut world = self.write_world();
        if !world.router.set_addresses(device, addresses.clone()) {
            return;
        }
        if connect {
            connect_device(&mut world, device, &addresses);
        }
        let named = world.bridges.values().flat_map(|b| b.ports.values().filter(|p| p.name == device).map(|p| (b.id, p.number)));
        for (bridge, port) in named.collect::<Vec<_>>() {
            port_changed(&world, bridge, port);
        }
        world.changed(Object::Listening);
        world.routes_changed(None);
    }

    /// Sets what there is to know of devices; `None`: the device is gone.
    pub fn set_devices(&self, devices: &[(String, Option<Device>)]) {
        let mut world = self.write_world();
        let mut differs = false;
        for (name, device) in devices {
            differs |= world.router.set_device(name, *device);
        }
        if differs {
            world.routes_changed(None);
        }
    }

    /// The way to an address takes less than its device does.
    pub(super) fn note_path_mtu(&self, to: IpAddr, mtu: u32) {
        let mut world = self.write_world();
        if world.router.set_path_mtu(Addr::from(to), mtu, now_ms()) {
            world.routes_changed(None);
        }
    }

    /// Forgets what ways took, when it is time to try again.
    pub(super) fn age_paths(&self, now: Msec) {
        if self.read_world().router.has_old_paths(now) {
            let mut world = self.write_world();
            world.router.forget_old_paths(now);
            world.routes_changed(None);
        }
    }

    /// Devices with addresses.
    #[must_use]
    pub fn devices_with_addresses(&self) -> Vec<String> {
        let world = self.read_world();
        let mut devices: Vec<String> = world.router.addresses().map(|(device, _)| device.to_owned()).collect();
        devices.dedup();
        devices
    }
}

/// The routes that a kernel would add by itself: to the link, and to the address.
fn connect_device(world: &mut World, device: &str, addresses: &[DeviceAddr]) {
    world.router.retain(|_, route| route.user || route.device != device);
    for a in addresses {
        let route = |plen, local| Route {
            prefix: Prefix::new(a.address, plen),
            mark: 0,
            device: device.to_owned(),
            gateway: Addr(0),
            source: Some(a.address),
            local,
            user: false,
            metric: 0,
        };
        world.router.insert(TABLE_MAIN, route(a.plen, false));
        world.router.insert(TABLE_LOCAL, route(128, true));
    }
}
