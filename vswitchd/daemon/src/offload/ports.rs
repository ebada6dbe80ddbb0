//! Which of a datapath's ports an eSwitch has: found by what the back end says of its devices (`phys_switch_id`), followed while they come
//! and go, move to another namespace, or are replaced. A bond of the kernel whose members are all of one eSwitch is a port of it; its rules
//! stand in a block that the members share.
//!
//! What enters: ports of the datapath, devices of the back end. What leaves: `Devices` for the codec, `Capabilities` for the plan. Pure but
//! for the shared map.

use super::functions::Function;
use super::tunnels::Tunnel;
use flow::DpPort;
use flow::hash::{Map, Set};
use flow::seam::PortInfo;
use offload::tc::numbers::police::METERS;
use offload::tc::preferences::{HIGH, LOW};
use offload::tc::{Devices, Hook, block_of_bond};
use offload::{Capabilities, Ends, PortKind, Way};
use port::netlink::Link;
use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError, RwLock};

/// Ports and interface indexes, both ways; and which of the host's police actions are the datapath's meters.
#[derive(Clone, Debug, Default)]
pub struct Ports(Arc<RwLock<Both>>, u32);

/// The datapath's number stands above the meter's in the index of a police action, and below it the kernel's `police::METERS`.
const METER_BITS: u32 = 18;
const DATAPATHS: u32 = 1 << (28 - METER_BITS);

#[derive(Debug, Default)]
struct Both {
    /// Ports whose drivers take rules at low preferences only.
    low: Set<DpPort>,
    by_port: Map<DpPort, Place>,
    by_index: Map<u32, DpPort>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    ifindex: u32,
    hook: Hook,
    width: u32,
}

impl Ports {
    /// Those of the datapath of that number.
    pub fn numbered(datapath: u32) -> Self {
        Self(Arc::default(), datapath % DATAPATHS)
    }

    /// They are these now.
    pub fn set(&self, all: &[Hardware]) {
        let mut both = self.0.write().unwrap_or_else(PoisonError::into_inner);
        both.by_port = all.iter().map(|h| (h.port, h.place())).collect();
        both.by_index = all.iter().map(|h| (h.ifindex, h.port)).collect();
    }

    /// The drivers of these take rules at low preferences only.
    pub fn set_low(&self, low: Set<DpPort>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).low = low;
    }

    fn place(&self, port: DpPort) -> Option<Place> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_port.get(&port).copied()
    }
}

impl Devices for Ports {
    fn ifindex(&self, port: DpPort) -> Option<u32> {
        self.place(port).map(|place| place.ifindex)
    }

    fn port(&self, ifindex: u32) -> Option<DpPort> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_index.get(&ifindex).copied()
    }

    fn hook(&self, port: DpPort) -> Option<Hook> {
        self.place(port).map(|place| place.hook)
    }

    fn police(&self, meter: u32) -> u32 {
        METERS | self.1 << METER_BITS | meter & ((1 << METER_BITS) - 1)
    }

    fn meter(&self, index: u32) -> Option<u32> {
        (index >> METER_BITS == self.police(0) >> METER_BITS).then_some(index & ((1 << METER_BITS) - 1))
    }

    fn preferences(&self, port: DpPort) -> RangeInclusive<u16> {
        let low = self.0.read().unwrap_or_else(PoisonError::into_inner).low.contains(&port);
        if low { LOW } else { HIGH }
    }

    fn width(&self, port: DpPort) -> u32 {
        self.place(port).map_or(1, |place| place.width)
    }
}

/// A port that can take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hardware {
    pub port: DpPort,
    pub ifindex: u32,
    pub name: String,
    pub kind: PortKind,
    /// The eSwitch's port to the network.
    pub uplink: bool,
    /// What the port stands for, where its name says it.
    pub function: Option<Function>,
    pub mtu: u32,
    /// The members of a bond, by interface index; none of any other port.
    pub members: Vec<u32>,
}

impl Hardware {
    /// Whether its device, or that of a member, is one of those.
    pub(super) fn is_of(&self, interfaces: &[u32]) -> bool {
        interfaces.contains(&self.ifindex) || self.members.iter().any(|member| interfaces.contains(member))
    }

    /// The block that stands for a bond.
    pub(super) fn block(&self) -> Option<u32> {
        (!self.members.is_empty()).then(|| block_of_bond(self.ifindex))
    }

    /// In how many devices its rules have to be.
    pub(super) fn width(&self) -> u32 {
        u32::try_from(self.members.len().max(1)).unwrap_or(u32::MAX)
    }

    fn place(&self) -> Place {
        let ifindex = self.ifindex;
        let hook = self.block().map_or(Hook::Ingress { ifindex }, |number| Hook::Block { number });
        Place { ifindex, hook, width: self.width() }
    }
}

/// Those of `ports` that can take part, by the devices that the back end has; `tunnels` are the kernel's devices for tunnels. A device that is elsewhere now (gone, renamed, in another
/// namespace) is not among them.
pub(super) fn discover(ports: &[PortInfo], links: &[Link], tunnels: &[(Tunnel, u32)]) -> Vec<Hardware> {
    let by_index: Map<u32, &Link> = links.iter().map(|l| (l.ifindex, l)).collect();
    let one = |info: &PortInfo| {
        let link = by_index.get(&info.ifindex).filter(|l| l.name == info.name && !info.vanished)?;
        let (port, ifindex, name, mtu) = (info.number, info.ifindex, info.name.clone(), link.mtu);
        if let Some((switch, uplink, members)) = bond(link, links) {
            return Some(Hardware { port, ifindex, name, kind: PortKind::Switch(switch), uplink, function: None, mtu, members });
        }
        let kind = match &link.phys_switch_id {
            Some(id) if !id.is_empty() => PortKind::Switch(number(id)),
            _ if info.kind == "internal" || info.kind == "tap" => PortKind::Internal,
            _ => return None,
        };
        let function = function(link).filter(|_| matches!(kind, PortKind::Switch(_)));
        let uplink = function.is_some_and(Function::is_uplink);
        Some(Hardware { port, ifindex, name, kind, uplink, function, mtu, members: Vec::new() })
    };
    let tunnel = |info: &PortInfo| {
        let tunnel = Tunnel::of(info)?;
        let (_, ifindex) = tunnels.iter().find(|(t, _)| *t == tunnel)?;
        let kind = PortKind::Tunnel(tunnel.kind);
        Some(Hardware {
            port: info.number,
            ifindex: *ifindex,
            name: info.name.clone(),
            kind,
            uplink: false,
            function: None,
            mtu: 0,
            members: Vec::new(),
        })
    };
    let mut found: Vec<Hardware> = ports.iter().filter(|p| p.ifindex != 0).filter_map(one).collect();
    found.extend(ports.iter().filter_map(tunnel));
    // Without a switch there is nothing that internal ports could be a part of.
    if !found.iter().any(|h| matches!(h.kind, PortKind::Switch(_))) {
        found.clear();
    }
    found.sort_unstable_by_key(|h| h.port);
    found
}

/// What can be said of megaflows of these ports. Connection tracking is the datapath's own: the kernel's knows nothing of it.
///
/// No driver says whether it makes outer UDP checksums, and the devices of tunnels are made without group policies.
pub(super) fn capabilities(all: &[Hardware], ways: Map<Ends, Way>) -> Capabilities {
    let no = Capabilities { ct: false, enc_csum: false, vxlan_gbp: false, ..Capabilities::all() };
    let mut can = Capabilities { outer_df_unread: true, ways, ..no };
    can.mtus.extend(all.iter().filter(|h| h.mtu != 0).map(|h| (h.port, h.mtu)));
    can.uplinks.extend(all.iter().filter(|h| h.uplink).map(|h| h.port));
    can.ports.extend(all.iter().map(|h| (h.port, h.kind)));
    can
}

/// What a bond is to hardware: its members' switch, whether all are uplinks, and they. `None` for what is no bond, for one without members, and
/// for one whose members are not all of one switch.
fn bond(link: &Link, links: &[Link]) -> Option<(u64, bool, Vec<u32>)> {
    if !matches!(link.kind.as_deref(), Some("bond" | "team")) {
        return None;
    }
    let members: Vec<&Link> = links.iter().filter(|l| l.master == link.ifindex).collect();
    let id = members.first()?.phys_switch_id.as_ref().filter(|id| !id.is_empty())?;
    let alike = members.iter().all(|m| m.phys_switch_id.as_ref() == Some(id));
    let uplink = members.iter().all(|m| function(m).is_some_and(Function::is_uplink));
    alike.then(|| (number(id), uplink, members.iter().map(|m| m.ifindex).collect()))
}

fn function(link: &Link) -> Option<Function> {
    link.phys_port_name.as_deref().and_then(Function::parse)
}

/// A switch's id as a number; ids are up to 32 bytes, of which the last are those that differ.
fn number(id: &[u8]) -> u64 {
    id.iter().fold(0, |n: u64, byte| n.rotate_left(8) ^ u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: u32, name: &str, kind: &str, ifindex: u32) -> PortInfo {
        PortInfo { number: DpPort(number), name: name.into(), kind: kind.into(), ifindex, ..PortInfo::default() }
    }

    fn link(ifindex: u32, name: &str, id: &[u8]) -> Link {
        Link { ifindex, name: name.into(), phys_switch_id: (!id.is_empty()).then(|| id.to_vec()), ..Link::default() }
    }

    #[test]
    fn representors_are_found_by_their_switch() {
        let ports =
            [port(0, "br0", "internal", 3), port(1, "rep0", "system", 7), port(2, "veth", "system", 8), port(3, "d", "dummy", 0)];
        let links = [link(3, "br0", &[]), link(7, "rep0", &[1, 2]), link(8, "veth", &[])];
        let found = discover(&ports, &links, &[]);
        let kinds: Vec<_> = found.iter().map(|h| (h.port.0, h.ifindex, h.kind)).collect();
        assert_eq!(kinds, [(0, 3, PortKind::Internal), (1, 7, PortKind::Switch(0x102))]);
        let shared = Ports::default();
        shared.set(&found);
        assert_eq!((shared.ifindex(DpPort(1)), shared.port(3), shared.ifindex(DpPort(2))), (Some(7), Some(DpPort(0)), None));
    }

    #[test]
    fn meters_of_two_datapaths_have_two_actions() {
        let [a, b] = [Ports::numbered(0), Ports::numbered(1)];
        let last = (1 << METER_BITS) - 1;
        assert_eq!((a.police(5), b.police(5)), (0x4000_0005, 0x4004_0005));
        assert_eq!((a.meter(a.police(5)), a.meter(b.police(5)), b.meter(b.police(last))), (Some(5), None, Some(last)));
        assert_eq!(a.meter(0x1000_0005), None, "stock's");
        assert_eq!(Ports::numbered(DATAPATHS).police(0), a.police(0), "numbers begin anew");
    }

    #[test]
    fn preferences_are_those_that_the_driver_takes() {
        let shared = Ports::default();
        shared.set_low([DpPort(2)].into_iter().collect());
        shared.set(&[]);
        assert_eq!((shared.preferences(DpPort(1)), shared.preferences(DpPort(2))), (HIGH, LOW));
    }

    #[test]
    fn a_bond_is_a_port_if_its_members_are_of_one_switch() {
        let ports = [port(1, "bond0", "system", 20), port(2, "rep0", "system", 8)];
        let member = |ifindex, id: &[u8], name: &str| Link {
            master: 20,
            phys_port_name: Some(name.to_owned()),
            ..link(ifindex, name, id)
        };
        let bond = Link { kind: Some("bond".to_owned()), ..link(20, "bond0", &[]) };
        let found = |members: &[Link]| discover(&ports, &[members, &[bond.clone(), link(8, "rep0", &[1])]].concat(), &[]);
        let both = found(&[member(11, &[1], "p0"), member(12, &[1], "p1")]);
        assert_eq!((both[0].members.as_slice(), both[0].uplink, both[0].kind), (&[11, 12][..], true, PortKind::Switch(1)));
        assert_eq!([&[12][..], &[20], &[8, 9], &[]].map(|of| both[0].is_of(of)), [true, true, false, false]);
        let shared = Ports::default();
        shared.set(&both);
        let block = Hook::Block { number: block_of_bond(20) };
        assert_eq!((shared.hook(DpPort(1)), shared.width(DpPort(1)), shared.ifindex(DpPort(1))), (Some(block), 2, Some(20)));
        assert_eq!((shared.hook(DpPort(2)), shared.width(DpPort(2))), (Some(Hook::Ingress { ifindex: 8 }), 1));
        assert!(!found(&[member(11, &[1], "pf0vf0")])[0].uplink, "functions in a bond are no way to the network");
        assert_eq!(found(&[member(11, &[1], "p0"), member(12, &[2], "p1")]).len(), 1, "two switches");
        assert_eq!(found(&[member(11, &[1], "p0"), member(12, &[], "eth")]).len(), 1, "one without hardware");
        assert_eq!(found(&[]).len(), 1, "no members");
    }

    #[test]
    fn uplinks_and_tunnels() {
        let ports = [port(1, "up", "system", 7), port(2, "rep0", "system", 8), port(3, "vxlan_sys_4789", "vxlan", 0)];
        let named = |ifindex, name, port: &str| Link { phys_port_name: Some(port.to_owned()), ..link(ifindex, name, &[1]) };
        let links = [named(7, "up", "p0"), named(8, "rep0", "pf0vf0")];
        let tunnel = Tunnel::of(&ports[2]).expect("a tunnel");
        let found = discover(&ports, &links, &[(tunnel, 12)]);
        assert_eq!(found.iter().map(|h| (h.ifindex, h.uplink)).collect::<Vec<_>>(), [(7, true), (8, false), (12, false)]);
        let can = capabilities(&found, Map::default());
        assert_eq!((can.uplinks.len(), can.ports.get(&DpPort(3))), (1, Some(&PortKind::Tunnel(tunnel.kind))));
        assert_eq!(discover(&ports, &links, &[]).len(), 2, "a tunnel without a device is no port of hardware");
        assert!(discover(&ports[2..], &links, &[(tunnel, 12)]).is_empty(), "nor is one without a switch");
    }

    /// A card with processors of its own has the host's functions under another controller's number; a port that was split has a name for each part.
    #[test]
    fn subfunctions_and_the_hosts_functions_take_part() {
        let names = ["p0", "p1s2", "pf0hpf", "pf0vf1", "pf0sf1", "c1pf0sf88", "7"];
        let numbered = || names.into_iter().zip(1..);
        let ports: Vec<PortInfo> = numbered().map(|(name, n)| port(n, name, "system", n + 10)).collect();
        let named = |(name, n): (&str, u32)| Link { phys_port_name: Some(name.to_owned()), ..link(n + 10, name, &[1]) };
        let mut links: Vec<Link> = numbered().map(named).collect();
        // The function itself, as its own host or container has it, is no port of the switch.
        links.push(link(30, "enp3s0f0s88", &[]));
        let found = discover(&ports, &links, &[]);
        let text = |h: &Hardware| h.function.map_or_else(|| "?".to_owned(), |f| f.to_string());
        let told: Vec<_> = found.iter().map(|h| (h.port.0, h.uplink, text(h))).collect();
        let expect = [
            (1, true, "uplink 0"),
            (2, true, "uplink 1, part 2"),
            (3, false, "PF 0"),
            (4, false, "VF 1 of PF 0"),
            (5, false, "SF 1 of PF 0"),
            (6, false, "SF 88 of PF 0 of controller 1"),
            (7, false, "?"),
        ];
        assert_eq!(told, expect.map(|(n, uplink, text)| (n, uplink, text.to_owned())));
        let can = capabilities(&found, Map::default());
        assert!((1..=7).all(|n| can.ports.get(&DpPort(n)) == Some(&PortKind::Switch(1))), "all are ports of one switch");
        assert_eq!(can.uplinks.len(), 2);
    }

    #[test]
    fn a_device_that_moved_is_none_and_without_a_switch_there_is_nothing() {
        let ports = [port(0, "br0", "internal", 3), port(1, "rep0", "system", 7)];
        assert!(discover(&ports, &[link(3, "br0", &[])], &[]).is_empty(), "the representor went to another namespace");
        assert!(discover(&ports, &[link(3, "br0", &[]), link(7, "other", &[1])], &[]).is_empty(), "its index is another's now");
    }
}
