//! What has to be done to get from what was applied to what is wanted. Pure.

use super::{Applied, Key};
use crate::bridge::OFPORT_MAX;
use crate::config::{BridgeConfig, InterfaceConfig, SwitchConfig};
use flow::hash::{Map, Set};

/// The steps, in the order in which they are taken.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Interfaces to take out: no longer wanted, or wanted otherwise than can be changed live.
    pub remove: Vec<Key>,
    pub remove_bridges: Vec<String>,
    /// Interfaces to open: those with a number to ask for first.
    pub add: Vec<(String, InterfaceConfig)>,
    /// Interfaces that stay, with something to change live or something that was refused before.
    pub adjust: Vec<(Key, InterfaceConfig)>,
}

/// Compares.
pub(super) fn plan(applied: &Applied, want: &SwitchConfig) -> Plan {
    let mut plan = Plan::default();
    let usable = |b: &&BridgeConfig| !applied.bridge_errors.contains_key(&b.name);
    let wanted = Wanted::new(want.bridges.iter().filter(usable));
    let mut gone = Set::default();
    for old in &applied.config.bridges {
        if !want.bridges.iter().filter(usable).any(|b| b.name == old.name && b.datapath_type == old.datapath_type) {
            plan.remove_bridges.push(old.name.clone());
            gone.insert(&old.name);
        }
    }
    let mut staying = Set::default();
    for (key, interface) in &applied.interfaces {
        match wanted.interface(key) {
            Some(want)
                if !gone.contains(&key.0)
                    && interface.can_become(want)
                    && !wanted.claims(key, interface.number.0)
                    && !may_have_its_wish(applied, &wanted, (key, interface), want) =>
            {
                staying.insert(key.clone());
                // What was refused is tried again.
                if interface.request != want.device || applied.errors.contains_key(key) {
                    plan.adjust.push((key.clone(), want.clone()));
                }
            }
            Some(_) | None => plan.remove.push(key.clone()),
        }
    }
    let fresh = wanted.all.iter().filter(|(b, i)| !staying.contains(&(b.name.clone(), i.name.clone())));
    plan.add.extend(fresh.map(|(b, i)| (b.name.clone(), (*i).clone())));
    // The local port first, then those that insist on a number, then those that had one, so that no other takes it.
    plan.add.sort_by_key(|(bridge, i)| (i.name != *bridge, i.ofport_request.is_none(), i.ofport_before.is_none()));
    plan
}

/// Whether an interface that could not have the number it asks for can have it now: whoever had it no longer asks for it.
fn may_have_its_wish(
    applied: &Applied,
    wanted: &Wanted<'_>,
    (key, interface): (&Key, &super::Interface),
    want: &InterfaceConfig,
) -> bool {
    let possible = |n: &u16| (1..OFPORT_MAX).contains(&u32::from(*n)) && u32::from(*n) != interface.number.0;
    let Some(wish) = want.ofport_request.filter(possible) else { return false };
    let holds = |k: &Key, i: &super::Interface| k.0 == key.0 && k.1 != key.1 && i.number.0 == u32::from(wish);
    let asks = |k: &Key| wanted.asks(k, wish.into());
    !applied.interfaces.iter().any(|(k, i)| holds(k, i) && asks(k))
}

/// The interfaces that are wanted: in order, by name, and those that ask for a number, by bridge and number.
struct Wanted<'a> {
    all: Vec<(&'a BridgeConfig, &'a InterfaceConfig)>,
    named: Map<(&'a str, &'a str), &'a InterfaceConfig>,
    asking: Map<(&'a str, u32), Vec<&'a str>>,
}

impl<'a> Wanted<'a> {
    fn new(bridges: impl Iterator<Item = &'a BridgeConfig>) -> Self {
        let all: Vec<_> = bridges.flat_map(interfaces).collect();
        let (mut named, mut asking) = (Map::default(), Map::default());
        for &(bridge, interface) in &all {
            let bridge = bridge.name.as_str();
            named.entry((bridge, interface.name.as_str())).or_insert(interface);
            if let Some(number) = interface.ofport_request {
                asking.entry((bridge, u32::from(number))).or_insert_with(Vec::new).push(interface.name.as_str());
            }
        }
        Self { all, named, asking }
    }

    fn interface(&self, (bridge, name): &Key) -> Option<&'a InterfaceConfig> {
        self.named.get(&(bridge.as_str(), name.as_str())).copied()
    }

    /// Names of the bridge's interfaces that ask for a number.
    fn askers<'b>(&'b self, bridge: &'b str, number: u32) -> &'b [&'a str] {
        self.asking.get(&(bridge, number)).map_or(&[], Vec::as_slice)
    }

    fn asks(&self, (bridge, name): &Key, number: u32) -> bool {
        self.askers(bridge, number).contains(&name.as_str())
    }

    /// Whether another interface of the bridge asks for the number that this one has and does not ask for.
    fn claims(&self, key: &Key, number: u32) -> bool {
        !self.askers(&key.0, number).is_empty() && !self.asks(key, number)
    }
}

/// What is wrong with a patch port's options.
pub(super) fn check_patch(interface: &InterfaceConfig) -> Result<(), String> {
    if interface.device.kind != "patch" {
        return Ok(());
    }
    let fault = match interface.peer.as_deref() {
        None | Some("") => "patch type requires valid 'peer' argument",
        Some(_) if interface.device.options.len() > 1 => "patch type takes only a 'peer' argument",
        Some(peer) if peer == interface.name => "patch peer must not be self",
        Some(_) => return Ok(()),
    };
    Err(format!("{}: {fault}", interface.name))
}

fn interfaces(bridge: &BridgeConfig) -> impl Iterator<Item = (&BridgeConfig, &InterfaceConfig)> {
    bridge.ports.iter().flat_map(|p| &p.interfaces).map(move |i| (bridge, i))
}

impl super::Interface {
    /// Whether the port may stay while its settings become those wanted. A patch port has none that could be refused but its peer.
    fn can_become(&self, want: &InterfaceConfig) -> bool {
        self.request.kind == want.device.kind && check_patch(want).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Interface;
    use super::*;
    use crate::config::PortConfig;
    use crate::world::BridgeId;
    use flow::seam::{DpPort, PortRequest};
    use openflow::OfPort;

    fn interface(name: &str, request: Option<u16>) -> InterfaceConfig {
        let device = PortRequest { name: name.into(), kind: "dummy".into(), ..PortRequest::default() };
        InterfaceConfig { name: name.into(), device, ofport_request: request, ..InterfaceConfig::default() }
    }

    fn config(bridges: &[(&str, Vec<InterfaceConfig>)]) -> SwitchConfig {
        let bridge = |(name, interfaces): &(&str, Vec<InterfaceConfig>)| BridgeConfig {
            name: (*name).into(),
            datapath_type: "dummy".into(),
            ports: interfaces
                .iter()
                .map(|i| PortConfig { name: i.name.clone(), interfaces: vec![i.clone()], ..PortConfig::default() })
                .collect(),
            ..BridgeConfig::default()
        };
        SwitchConfig { bridges: bridges.iter().map(bridge).collect(), ..SwitchConfig::default() }
    }

    fn applied(config: &SwitchConfig) -> Applied {
        let mut applied = Applied { config: config.clone(), ..Applied::default() };
        for (n, (bridge, i)) in config.bridges.iter().flat_map(interfaces).enumerate() {
            let n = u32::try_from(n).unwrap() + 1;
            let interface = Interface {
                bridge: BridgeId(1),
                number: OfPort(i.ofport_request.map_or(n, u32::from)),
                dp_port: Some(DpPort(n)),
                request: i.device.clone(),
                mtu_refused: None,
            };
            applied.interfaces.insert((bridge.name.clone(), i.name.clone()), interface);
        }
        applied
    }

    fn key(bridge: &str, name: &str) -> Key {
        (bridge.into(), name.into())
    }

    #[test]
    fn what_does_not_differ_is_left_alone() {
        let c = config(&[("br0", vec![interface("br0", None), interface("p1", Some(2))])]);
        assert_eq!(plan(&applied(&c), &c), Plan::default());
    }

    #[test]
    fn a_port_moves_a_bridge_goes_a_setting_changes() {
        let old = config(&[("br0", vec![interface("p1", None), interface("p2", None)]), ("br1", vec![interface("p3", None)])]);
        let mut p2 = interface("p2", None);
        p2.device.mtu = Some(9000);
        let new = config(&[("br0", vec![p2.clone(), interface("p3", None), interface("p4", Some(9))])]);
        let plan = plan(&applied(&old), &new);
        assert_eq!(plan.remove_bridges, ["br1"]);
        assert_eq!(plan.remove, [key("br0", "p1"), key("br1", "p3")]);
        let added: Vec<_> = plan.add.iter().map(|(_, i)| i.name.as_str()).collect();
        assert_eq!(added, ["p4", "p3"], "who insists on a number comes first");
        assert_eq!(plan.adjust, [(key("br0", "p2"), p2)]);
    }

    #[test]
    fn what_was_refused_is_tried_again() {
        let c = config(&[("br0", vec![interface("p1", None), interface("p2", None)])]);
        let mut applied = applied(&c);
        applied.errors.insert(key("br0", "p2"), "refused".into());
        assert_eq!(plan(&applied, &c).adjust, [(key("br0", "p2"), interface("p2", None))]);
    }

    #[test]
    fn another_kind_or_number_means_a_new_port() {
        let old = config(&[("br0", vec![interface("p1", Some(1)), interface("p2", None)])]);
        let mut p2 = interface("p2", None);
        p2.device.kind = "internal".into();
        let new = config(&[("br0", vec![interface("p1", Some(5)), p2])]);
        let made = plan(&applied(&old), &new);
        assert_eq!((made.remove.len(), made.add.len()), (2, 2));
        // Who asked in vain has another chance when the number comes free, and only then.
        let vain = applied(&config(&[("br0", vec![interface("p1", None), interface("p2", Some(7))])]));
        let still = config(&[("br0", vec![interface("p1", Some(1)), interface("p2", Some(1))])]);
        assert_eq!(plan(&vain, &still), Plan::default());
        let free = config(&[("br0", vec![interface("p1", Some(3)), interface("p2", Some(1))])]);
        assert_eq!(plan(&vain, &free).remove.len(), 2);
        // Nor does who asks for another's number lose its own.
        let first = config(&[("br0", vec![interface("p1", Some(1)), interface("p2", None)])]);
        let second = config(&[("br0", vec![interface("p1", Some(1)), interface("p2", Some(1))])]);
        assert_eq!(plan(&applied(&first), &second), Plan::default());
        // Who has a number without asking gives it up to who asks.
        let claimed = config(&[("br0", vec![interface("p1", None), interface("p2", Some(1))])]);
        let had = config(&[("br0", vec![interface("p1", None), interface("p2", None)])]);
        assert_eq!(plan(&applied(&had), &claimed).remove.len(), 2);
        let unasked = config(&[("br0", vec![interface("p1", None), interface("p2", Some(2))])]);
        assert_eq!(plan(&applied(&old), &unasked), Plan::default(), "no wish, or the number that it has");
    }
}
