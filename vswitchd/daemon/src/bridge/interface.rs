//! `Interface` rows: which device, of which type, with which wishes. A device that cannot be had is refused by the datapath later; what
//! is refused here never gets that far.

use super::build::Builder;
use super::keys;
use super::rows::{Row, parse_mac};
use super::schema::{Column, Integer, Interface, interface};
use crate::options::Dummy;
use flow::seam::{Policing, PortRequest};
use ofproto::config::InterfaceConfig;

/// Names that belong to datapaths.
const RESERVED: [&str; 3] = ["ovs-netdev", "ovs-dummy", "ovs-system"];
/// What names of tunnels' own devices begin with.
const RESERVED_PREFIXES: [&str; 11] = [
    "genev_sys",
    "gre_sys",
    "gtpu_sys",
    "erspan_sys",
    "ip6erspan_sys",
    "ip6gre_sys",
    "lisp_sys",
    "srv6_sys",
    "stt_sys",
    "udp_sys",
    "vxlan_sys",
];

/// Reads an interface; `None` if it is refused here.
pub(super) fn read(
    builder: &mut Builder<'_>,
    bridge: &str,
    datapath_type: &str,
    row: &Row<'_, Interface>,
) -> Option<InterfaceConfig> {
    let name = row.str(interface::NAME);
    if builder.built.interfaces.contains_key(name) {
        builder.complaints.warn(format!("bridge {bridge}: interface {name} is already in another port"));
        return None;
    }
    if RESERVED.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        builder.complaints.warn(format!("could not create interface {name}, name is reserved"));
        builder.built.refused.push((row.uuid, None));
        return None;
    }
    builder.built.interfaces.insert(name.to_owned(), row.uuid);
    let kind = configured_type(bridge, name, row.str(interface::TYPE));
    let options = row.map(interface::OPTIONS);
    let other = row.map(interface::OTHER_CONFIG);
    let is_local = name == bridge;
    keys::complain(builder.complaints, &format!("interface {name}"), interface::OPTIONS, &options);
    keys::complain(builder.complaints, &format!("interface {name}"), interface::OTHER_CONFIG, &other);
    Some(InterfaceConfig {
        name: name.to_owned(),
        device: PortRequest {
            name: name.to_owned(),
            kind: device_type(kind, datapath_type, builder.environment.dummy).to_owned(),
            options: options.pairs(),
            affinity: other.get("pmd-rxq-affinity").unwrap_or_default().to_owned(),
            tx_steering: other.get("tx-steering").unwrap_or_default().to_owned(),
            number: None,
            mac: mac(builder, name, is_local, row),
            // More than can be is refused like any other that the device does not take.
            mtu: row.opt_int(interface::MTU_REQUEST).map(|m| u16::try_from(m).unwrap_or(u16::MAX)).filter(|m| *m > 0),
            // Of the port's row.
            miimon_ms: 0,
            qos: None,
            policing: Policing {
                rate_kbps: policing(row, interface::INGRESS_POLICING_RATE),
                burst_kb: policing(row, interface::INGRESS_POLICING_BURST),
                rate_kpkts: policing(row, interface::INGRESS_POLICING_KPKTS_RATE),
                burst_kpkts: policing(row, interface::INGRESS_POLICING_KPKTS_BURST),
            },
            // The slow path's to say, by the routes.
            host: None,
        },
        ofport_request: row.opt_int(interface::OFPORT_REQUEST).and_then(|n| u16::try_from(n).ok()).filter(|_| !is_local),
        ofport_before: row.opt_int(interface::OFPORT).and_then(|n| u16::try_from(n).ok()).filter(|_| !is_local),
        peer: (kind == "patch").then(|| options.get("peer").map(str::to_owned)).flatten(),
        bfd: row.map(interface::BFD).pairs(),
        cfm_mpid: row.opt_int(interface::CFM_MPID),
        lldp: row.map(interface::LLDP).pairs(),
        other_config: other.pairs(),
    })
}

/// The interface of a synthesized local port.
pub(super) fn local(builder: &Builder<'_>, bridge: &str, datapath_type: &str) -> InterfaceConfig {
    InterfaceConfig {
        name: bridge.to_owned(),
        device: PortRequest {
            name: bridge.to_owned(),
            kind: device_type("internal", datapath_type, builder.environment.dummy).to_owned(),
            ..PortRequest::default()
        },
        ..InterfaceConfig::default()
    }
}

/// The type as configured: the local port is internal whatever the row says, and no type means `system`.
pub fn configured_type<'a>(bridge: &str, name: &str, kind: &'a str) -> &'a str {
    match kind {
        _ if name == bridge => "internal",
        "" => "system",
        kind => kind,
    }
}

/// The type that the datapath opens. Internal ports of a dummy datapath are dummies; so are system devices, or all but patch ports,
/// if `--enable-dummy` said so.
pub fn device_type<'a>(kind: &'a str, datapath_type: &str, dummy: Option<Dummy>) -> &'a str {
    match (kind, dummy) {
        ("internal", _) if is_dummy_datapath(datapath_type, dummy) => "dummy-internal",
        ("system", Some(Dummy::System | Dummy::Override))
        | ("internal" | "tap" | "afxdp" | "afxdp-nonpmd", Some(Dummy::Override)) => "dummy",
        (kind, _) => kind,
    }
}

/// Whether a datapath of that type is one without a machine under it.
pub fn is_dummy_datapath(datapath_type: &str, dummy: Option<Dummy>) -> bool {
    match (datapath_type, dummy) {
        (_, None) => false,
        ("dummy", Some(_)) | ("system", Some(Dummy::System)) | (_, Some(Dummy::Override)) => true,
        (_, Some(Dummy::Plain | Dummy::System)) => false,
    }
}

fn mac(builder: &mut Builder<'_>, name: &str, is_local: bool, row: &Row<'_, Interface>) -> Option<[u8; 6]> {
    let wish = row.opt_str(interface::MAC).and_then(parse_mac)?;
    if is_local {
        let text = format!("interface {name}: ignoring mac in Interface record (use Bridge record to set local port's mac)");
        builder.complaints.warn(text);
        return None;
    }
    if wish[0] & 1 != 0 {
        builder.complaints.error(format!("interface {name}: cannot set MAC to multicast address"));
        return None;
    }
    if wish == [0; 6] {
        builder.complaints.error(format!("interface {name}: cannot set MAC to all zero address"));
        return None;
    }
    Some(wish)
}

fn policing(row: &Row<'_, Interface>, column: Column<Interface, Integer>) -> u32 {
    u32::try_from(row.int(column)).unwrap_or(0)
}
