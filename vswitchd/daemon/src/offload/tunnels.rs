//! The kernel's tunnel devices, which tc wants for rules of tunnels: made, marked, found again, removed.
//!
//! What enters: which tunnels the datapaths have; what devices there are. What leaves: the devices, ready for rules. Neighbours: `ports`
//! (which counts them among the ports), `netlink`.
//!
//! # What holds
//!
//! - A device of ours has a name of our making (`frl_vxlan4789`) and a group that nobody else uses, both from the moment it is there. One
//!   with such a name and another group is somebody else's, and so is every other device: they are never touched.
//! - Packets never come into the machine by it: before it is up, a filter drops in software what comes out of the tunnel. Taking headers off in
//!   software is the switch's own affair (`tnl_pop`).
//! - A device that no datapath wants is removed, also one that an earlier life left. Its rules have gone before it.

use super::backend::Backend;
use super::netlink::{Requests, messages};
use flow::seam::PortInfo;
use offload::TunnelKind;
use offload::tc::attributes::{Writer, attributes, find};
use offload::tc::client::Netlink as _;
use offload::tc::numbers::errno::EEXIST;
use offload::tc::numbers::{INGRESS, RTM_NEWTFILTER, SKIP_HW, TCA_KIND, TCA_OPTIONS, act, flower, gact, verdict};
use offload::tc::write::clsact;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
/// `NLM_F_EXCL` and `NLM_F_CREATE`.
const NEW: u16 = 0x600;
const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_GROUP: u16 = 27;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VXLAN_LEARNING: u16 = 7;
const VXLAN_PORT: u16 = 15;
const VXLAN_ZERO_CSUM6_RX: u16 = 20;
const VXLAN_COLLECT_METADATA: u16 = 25;
const GENEVE_PORT: u16 = 5;
const GENEVE_COLLECT_METADATA: u16 = 6;
const GENEVE_ZERO_CSUM6_RX: u16 = 10;
/// "FRRL": the group of our devices.
const GROUP: u32 = 0x4652_524c;
/// Behind every preference that rules have.
const DROP_PREF: u32 = 0xc000;
/// `ETH_P_ALL`
const ALL: u16 = 3;

/// A tunnel that a datapath has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tunnel {
    pub(super) kind: TunnelKind,
    pub(super) port: u16,
}

/// A device of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) ifindex: u32,
    name: String,
    group: u32,
    up: bool,
}

impl Tunnel {
    /// The tunnel that a port of the datapath is, if it is one that tc can have. The datapath names such ports by their UDP port
    /// (`vxlan_sys_4789`); extensions would need a device of their own.
    pub(super) fn of(info: &PortInfo) -> Option<Self> {
        let kind = match info.kind.as_str() {
            "vxlan" => TunnelKind::Vxlan,
            "geneve" => TunnelKind::Geneve,
            _ => return None,
        };
        let extended = info.options.iter().any(|(key, value)| key == "exts" && !value.is_empty());
        let port = info.name.rsplit_once('_')?.1.parse().ok().filter(|_| !extended)?;
        Some(Self { kind, port })
    }

    fn name(self) -> String {
        match self.kind {
            TunnelKind::Vxlan => format!("frl_vxlan{}", self.port),
            TunnelKind::Geneve => format!("frl_genev{}", self.port),
            TunnelKind::Gre => format!("frl_gre{}", self.port),
        }
    }

    fn describe(self, out: &mut Writer) {
        out.put_text(IFLA_IFNAME, &self.name());
        out.put_u32(IFLA_GROUP, GROUP);
        let info = out.nest(IFLA_LINKINFO);
        match self.kind {
            TunnelKind::Vxlan => {
                out.put_text(INFO_KIND, "vxlan");
                let data = out.nest(INFO_DATA);
                out.put_u8(VXLAN_COLLECT_METADATA, 1);
                out.put_be16(VXLAN_PORT, self.port);
                out.put_u8(VXLAN_LEARNING, 0);
                out.put_u8(VXLAN_ZERO_CSUM6_RX, 1);
                out.end(data);
            }
            TunnelKind::Geneve => {
                out.put_text(INFO_KIND, "geneve");
                let data = out.nest(INFO_DATA);
                out.put(GENEVE_COLLECT_METADATA, &[]);
                out.put_be16(GENEVE_PORT, self.port);
                out.put_u8(GENEVE_ZERO_CSUM6_RX, 1);
                out.end(data);
            }
            TunnelKind::Gre => {}
        }
        out.end(info);
    }
}

/// Every device in the answer to a request for all of them whose name is of our making.
pub(super) fn devices(links: &[u8]) -> Vec<Device> {
    let device = |body: &[u8]| {
        let word = |at: usize| body.get(at..)?.first_chunk().map(|w| u32::from_ne_bytes(*w));
        let list = attributes(body.get(16..)?).ok()?;
        let name = find(&list, IFLA_IFNAME)?.text().to_owned();
        let group = find(&list, IFLA_GROUP).and_then(|g| g.u32().ok()).unwrap_or(0);
        Some(Device { ifindex: word(4)?, name, group, up: word(8)? & IFF_UP != 0 })
    };
    let all = messages(links).filter(|m| m.kind == RTM_NEWLINK).filter_map(|m| device(m.body));
    all.filter(|d| d.name.starts_with("frl_")).collect()
}

/// The device of each tunnel that is ready for rules. One that is not there yet is made, and ready at the next call.
pub(super) fn ready(backend: &Backend, wanted: &[Tunnel], there: &[Device]) -> Vec<(Tunnel, u32)> {
    let mut out = Vec::new();
    for tunnel in wanted {
        match there.iter().find(|d| d.name == tunnel.name()) {
            Some(device) if device.group != GROUP => {
                tracing::debug!(target: "dpif_offload", "{} is somebody else's: no tunnel in hardware", device.name);
            }
            Some(device) if device.up => out.push((*tunnel, device.ifindex)),
            Some(device) => raise(backend, device),
            None => make(backend, *tunnel),
        }
    }
    out
}

/// Removes devices of ours that nobody wants.
pub(super) fn remove_unwanted(backend: &Backend, wanted: &[Tunnel], there: &[Device]) {
    let is_wanted = |device: &&Device| wanted.iter().any(|tunnel| tunnel.name() == device.name);
    let mut requests = Requests::default();
    for device in there.iter().filter(|d| d.group == GROUP && !is_wanted(d)) {
        requests.add(RTM_DELLINK, 0, &ifinfo(device.ifindex, 0, 0), |_| ());
        tracing::info!(target: "dpif_offload", "tunnel device {} removed", device.name);
    }
    if !requests.is_empty() {
        // What is left of it is found at the next turn.
        let _ = backend.talk(&requests.out.bytes);
    }
}

/// `struct ifinfomsg`
fn ifinfo(ifindex: u32, flags: u32, change: u32) -> Vec<u8> {
    let words = [0, ifindex, flags, change];
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// Makes a device, down.
fn make(backend: &Backend, tunnel: Tunnel) {
    let mut requests = Requests::default();
    requests.add(RTM_NEWLINK, NEW, &ifinfo(0, 0, 0), |out| tunnel.describe(out));
    match ended(backend, &requests).as_deref() {
        Some([0]) => tracing::info!(target: "dpif_offload", "tunnel device {} made", tunnel.name()),
        errors => tracing::debug!(target: "dpif_offload", "no tunnel device {}: {errors:?}", tunnel.name()),
    }
}

/// Sees to it that nothing comes in by a device, and takes it up.
fn raise(backend: &Backend, device: &Device) {
    let mut requests = Requests::default();
    let sequence = requests.next();
    clsact(&mut requests.out, sequence, device.ifindex);
    let info = DROP_PREF << 16 | u32::from(ALL.to_be());
    let fixed: Vec<u8> = [0, device.ifindex, 1, INGRESS, info].into_iter().flat_map(u32::to_ne_bytes).collect();
    requests.add(RTM_NEWTFILTER, NEW, &fixed, drop_all);
    let shut = |errors: &[i32]| errors.len() == 2 && errors.iter().all(|e| *e == 0 || *e == EEXIST);
    if !ended(backend, &requests).as_deref().is_some_and(shut) {
        tracing::debug!(target: "dpif_offload", "{} would let packets in: it stays down", device.name);
        return;
    }
    let mut requests = Requests::default();
    requests.add(RTM_NEWLINK, 0, &ifinfo(device.ifindex, IFF_UP, IFF_UP), |_| ());
    if let Some([error]) = ended(backend, &requests).as_deref()
        && *error != 0
    {
        let error = std::io::Error::from_raw_os_error(*error);
        tracing::warn!(target: "dpif_offload", "{} does not come up: {error}", device.name);
    }
}

/// A filter of flower without keys, only in software.
fn drop_all(out: &mut Writer) {
    out.put_text(TCA_KIND, "flower");
    let options = out.nest(TCA_OPTIONS);
    let list = out.nest(flower::ACT);
    let first = out.nest(1);
    out.put_text(act::KIND, "gact");
    let parameters = out.nest(act::OPTIONS);
    let words = [0, 0, verdict::SHOT.cast_unsigned(), 0, 0];
    out.put(gact::PARMS, &words.into_iter().flat_map(u32::to_ne_bytes).collect::<Vec<u8>>());
    out.end(parameters);
    out.end(first);
    out.end(list);
    out.put_u32(flower::FLAGS, SKIP_HW);
    out.end(options);
}

/// How each request ended, in order.
fn ended(backend: &Backend, requests: &Requests) -> Option<Vec<i32>> {
    let bytes = backend.talk(&requests.out.bytes).ok()?;
    let mut ends: Vec<(u32, i32)> = messages(&bytes).filter_map(|m| Some((m.sequence, m.error()?))).collect();
    ends.sort_unstable();
    Some(ends.into_iter().map(|(_, error)| error).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(ifindex: u32, name: &str, group: u32) -> Vec<u8> {
        let mut requests = Requests::default();
        requests.add(RTM_NEWLINK, 0, &ifinfo(ifindex, IFF_UP, 0), |out| {
            out.put_text(IFLA_IFNAME, name);
            out.put_u32(IFLA_GROUP, group);
        });
        requests.out.bytes
    }

    #[test]
    fn tunnels_are_ports_of_the_datapath() {
        let of = |name: &str, kind: &str, exts: &str| {
            let options = vec![("exts".to_owned(), exts.to_owned())];
            Tunnel::of(&PortInfo { name: name.into(), kind: kind.into(), options, ..PortInfo::default() })
        };
        let vxlan = Tunnel { kind: TunnelKind::Vxlan, port: 4789 };
        assert_eq!(of("vxlan_sys_4789", "vxlan", ""), Some(vxlan));
        assert_eq!(of("genev_sys_6081", "geneve", "").map(Tunnel::name).as_deref(), Some("frl_genev6081"));
        assert_eq!(of("vxlan_sys_4789", "vxlan", "gbp"), None, "the device would need the extension");
        assert_eq!((of("gre_sys", "gre", ""), of("p_1", "system", "")), (None, None));
        assert!(Tunnel { port: 65_535, ..vxlan }.name().len() < 16, "IFNAMSIZ");
    }

    /// Only what has the name and the group is ours.
    #[test]
    fn devices_of_others_are_not_touched() {
        let bytes = [link(7, "frl_vxlan4789", GROUP), link(8, "frl_genev6081", 0), link(9, "vxlan_sys_4789", GROUP)].concat();
        let there = devices(&bytes);
        assert_eq!(there.iter().map(|d| d.ifindex).collect::<Vec<_>>(), [7, 8]);
        let wanted = [Tunnel { kind: TunnelKind::Vxlan, port: 4789 }, Tunnel { kind: TunnelKind::Geneve, port: 6081 }];
        let backend = Backend::default();
        assert_eq!(ready(&backend, &wanted, &there), [(wanted[0], 7)]);
    }
}
