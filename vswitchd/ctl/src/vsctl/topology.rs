//! Bridges, ports and interfaces by name, as ovs-vsctl sees them: a port with `fake_bridge` set is a *fake* bridge, a VLAN of its
//! parent, and the parent's ports on that VLAN are its ports.

use super::overlay::{Key, Overlay};
use crate::fault::Fault;
use std::collections::BTreeMap;

/// A bridge, real or fake.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// Its row; of a fake bridge its parent's.
    pub row: Key,
    /// Parent and VLAN of a fake bridge.
    pub fake: Option<(String, i64)>,
}

impl Bridge {
    /// The VLAN, 0 for a real bridge.
    #[must_use]
    pub fn vlan(&self) -> i64 {
        self.fake.as_ref().map_or(0, |(_, vlan)| *vlan)
    }
}

/// A port.
#[derive(Clone, Debug)]
pub struct Port {
    pub row: Key,
    /// The bridge, fake or real, that it belongs to.
    pub bridge: String,
}

/// An interface.
#[derive(Clone, Debug)]
pub struct Interface {
    pub row: Key,
    pub port: String,
}

/// All of them by name.
#[derive(Clone, Default, Debug)]
pub struct Topology {
    pub bridges: BTreeMap<String, Bridge>,
    pub ports: BTreeMap<String, Port>,
    pub interfaces: BTreeMap<String, Interface>,
    /// Fake bridges by parent and VLAN.
    fakes: BTreeMap<(String, i64), String>,
}

impl Topology {
    /// Reads it from the database; also what to warn of.
    #[must_use]
    pub fn of(overlay: &Overlay) -> (Self, Vec<String>) {
        let mut topology = Self::default();
        let mut warnings = Vec::new();
        let roots = overlay.rows_of("Open_vSwitch");
        let rows = roots.first().map(|root| overlay.refs(*root, "bridges")).unwrap_or_default();
        let mut real = Vec::new();
        for row in rows {
            let name = overlay.str(row, "name");
            if topology.bridges.contains_key(&name) {
                warnings.push(format!("{name}: database contains duplicate bridge name"));
                continue;
            }
            topology.bridges.insert(name.clone(), Bridge { row, fake: None });
            let ports = overlay.refs(row, "ports");
            for port in &ports {
                if let Some(vlan) = fake_vlan(overlay, *port) {
                    topology.add_fake(overlay, (&name, row), (*port, vlan), &mut warnings);
                }
            }
            real.push((name, ports));
        }
        for (bridge, ports) in &real {
            ports.iter().for_each(|port| topology.take_port(overlay, bridge, *port, &mut warnings));
        }
        (topology, warnings)
    }

    fn add_fake(&mut self, overlay: &Overlay, (parent, row): (&str, Key), (port, vlan): (Key, i64), warnings: &mut Vec<String>) {
        let name = overlay.str(port, "name");
        if let Some(other) = self.fakes.get(&(parent.to_owned(), vlan)) {
            warnings.push(format!(
                "{parent}: bridge has multiple VLAN bridges ({other} and {name}) for VLAN {vlan}, but only one is allowed"
            ));
            return;
        }
        self.insert_fake(&name, row, parent, vlan);
    }

    /// Adds a fake bridge.
    pub fn insert_fake(&mut self, name: &str, row: Key, parent: &str, vlan: i64) {
        self.fakes.insert((parent.to_owned(), vlan), name.to_owned());
        self.bridges.insert(name.to_owned(), Bridge { row, fake: Some((parent.to_owned(), vlan)) });
    }

    fn take_port(&mut self, overlay: &Overlay, bridge: &str, row: Key, warnings: &mut Vec<String>) {
        let name = overlay.str(row, "name");
        if let Some(held) = self.ports.get(&name) {
            warnings.push(if held.row == row {
                format!("{name}: port is in multiple bridges ({} and {bridge})", held.bridge)
            } else {
                format!("{name}: database contains duplicate port name")
            });
            return;
        }
        let tag = overlay.get(row, "tag").as_int();
        self.insert_port(&name, row, bridge, tag);
        for interface in overlay.refs(row, "interfaces") {
            let interface_name = overlay.str(interface, "name");
            match self.interfaces.get(&interface_name) {
                None => self.insert_interface(&interface_name, interface, &name),
                Some(held) if held.row == interface => {
                    warnings.push(format!("{interface_name}: interface is in multiple ports ({} and {name})", held.port));
                }
                Some(_) => warnings.push(format!("{interface_name}: database contains duplicate interface name")),
            }
        }
    }

    /// Adds a port of `bridge`; on the VLAN of one of its fake bridges it belongs to that.
    pub fn insert_port(&mut self, name: &str, row: Key, bridge: &str, tag: Option<i64>) {
        let fake = tag.and_then(|tag| self.fakes.get(&(bridge.to_owned(), tag)));
        let bridge = fake.cloned().unwrap_or_else(|| bridge.to_owned());
        self.ports.insert(name.to_owned(), Port { row, bridge });
    }

    /// Adds an interface.
    pub fn insert_interface(&mut self, name: &str, row: Key, port: &str) {
        self.interfaces.insert(name.to_owned(), Interface { row, port: port.to_owned() });
    }

    /// Takes a bridge away that has no ports any more.
    pub fn remove_bridge(&mut self, name: &str) {
        if let Some(Bridge { fake: Some(place), .. }) = self.bridges.remove(name) {
            self.fakes.remove(&place);
        }
    }

    /// Takes a port away with its interfaces.
    pub fn remove_port(&mut self, name: &str) {
        self.ports.remove(name);
        self.interfaces.retain(|_, i| i.port != name);
    }

    /// The bridge called `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn bridge(&self, name: &str) -> Result<&Bridge, Fault> {
        self.bridges.get(name).ok_or_else(|| Fault::say(format!("no bridge named {name}")))
    }

    /// The real bridge called `name`.
    ///
    /// # Errors
    /// There is none, or it is fake.
    pub fn real_bridge(&self, name: &str) -> Result<Key, Fault> {
        let bridge = self.bridge(name)?;
        if bridge.fake.is_some() { Err(Fault::say(format!("{name} is a fake bridge"))) } else { Ok(bridge.row) }
    }

    /// The port called `name`, unless it is its bridge's own.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports.get(name).filter(|p| p.bridge != name)
    }

    /// The interface called `name`, unless it is its bridge's own.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.get(name).filter(|i| self.ports.get(&i.port).is_none_or(|p| p.bridge != name))
    }

    /// The name of the fake bridge on a VLAN of `parent`.
    #[must_use]
    pub fn fake_on(&self, parent: &str, vlan: i64) -> Option<&str> {
        self.fakes.get(&(parent.to_owned(), vlan)).map(String::as_str)
    }

    /// The fake bridges of a bridge.
    #[must_use]
    pub fn children(&self, parent: &str) -> Vec<String> {
        self.fakes.iter().filter(|((p, _), _)| p == parent).map(|(_, name)| name.clone()).collect()
    }

    /// The names of the ports of a bridge, its own among them.
    #[must_use]
    pub fn ports_of(&self, bridge: &str) -> Vec<String> {
        self.ports.iter().filter(|(_, p)| p.bridge == bridge).map(|(name, _)| name.clone()).collect()
    }

    /// The names of the interfaces of a port.
    #[must_use]
    pub fn interfaces_of(&self, port: &str) -> Vec<String> {
        self.interfaces.iter().filter(|(_, i)| i.port == port).map(|(name, _)| name.clone()).collect()
    }

    /// Refuses a name that a bridge, port or interface has already; `what` says what the name is wanted for.
    ///
    /// # Errors
    /// It is taken.
    pub fn check_free(&self, name: &str, what: &str) -> Result<(), Fault> {
        if self.bridges.contains_key(name) {
            return Err(Fault::say(format!("{what} because a bridge named {name} already exists")));
        }
        if let Some(port) = self.ports.get(name) {
            let bridge = &port.bridge;
            return Err(Fault::say(format!("{what} because a port named {name} already exists on bridge {bridge}")));
        }
        if let Some(interface) = self.interfaces.get(name) {
            let bridge = self.ports.get(&interface.port).map_or("", |p| p.bridge.as_str());
            let taken = format!("an interface named {name} already exists on bridge {bridge}");
            return Err(Fault::say(format!("{what} because {taken}")));
        }
        Ok(())
    }
}

/// The VLAN of the fake bridge that a port makes, if it makes one.
fn fake_vlan(overlay: &Overlay, port: Key) -> Option<i64> {
    if overlay.get(port, "fake_bridge").as_bool() != Some(true) {
        return None;
    }
    overlay.get(port, "tag").as_int().filter(|tag| (0..=4095).contains(tag))
}
