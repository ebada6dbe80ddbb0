//! `Port` rows: VLAN mode and sets, bond parameters, and the interfaces below.

use super::build::Builder;
use super::interface;
use super::keys;
use super::rows::{Map, Row, parse_mac};
use super::schema::{Port, Queue, port, qos, queue};
use flow::seam::Qos;
use ofproto::config::{BondConfig, PortConfig, PriorityTags, VlanMode};

/// Reads a port; `None` if nothing of it is left after its interfaces were checked.
pub(super) fn read(builder: &mut Builder<'_>, bridge: &str, datapath_type: &str, row: &Row<'_, Port>) -> Option<PortConfig> {
    let name = row.str(port::NAME).to_owned();
    let mut interfaces: Vec<_> = row
        .refs(port::INTERFACES)
        .iter()
        .filter_map(|interface| interface::read(builder, bridge, datapath_type, interface))
        .collect();
    interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    if interfaces.is_empty() {
        return None;
    }
    let qos = qos(row);
    interfaces.iter_mut().filter(|i| i.peer.is_none()).for_each(|i| i.device.qos.clone_from(&qos));
    let other = row.map(port::OTHER_CONFIG);
    keys::complain(builder.complaints, &format!("port {name}"), port::OTHER_CONFIG, &other);
    if let Some(mode) = other.get("bond-detect-mode").filter(|mode| !matches!(*mode, "carrier" | "miimon")) {
        let text = format!("port {name}: unsupported bond-detect-mode {mode}, defaulting to carrier");
        builder.complaints.warn(text);
    }
    if interfaces.len() > 1 {
        interfaces.iter_mut().for_each(|i| i.device.miimon_ms = miimon_ms(&other));
    }
    let tag = row.opt_int(port::TAG).and_then(|t| u16::try_from(t).ok()).filter(|t| *t < 4096);
    let trunks = row.vlans(port::TRUNKS);
    let vlan_mode = vlan_mode(builder, &name, row.opt_str(port::VLAN_MODE), tag, &trunks);
    let tag = match vlan_mode {
        VlanMode::Trunk => None,
        VlanMode::Access | VlanMode::NativeTagged | VlanMode::NativeUntagged | VlanMode::Dot1qTunnel => Some(tag.unwrap_or(0)),
    };
    Some(PortConfig {
        lacp: lacp(builder, row),
        bond: (interfaces.len() > 1).then(|| bond(builder, &name, row)),
        interfaces,
        vlan_mode,
        tag,
        trunks,
        cvlans: row.vlans(port::CVLANS),
        qinq_ethtype: if other.get("qinq-ethtype") == Some("802.1q") { 0x8100 } else { 0x88a8 },
        priority_tags: match other.get("priority-tags") {
            Some("always") => PriorityTags::Always,
            // "true" is how versions before 2.13 said it.
            Some("if-nonzero" | "true") => PriorityTags::IfNonzero,
            Some(_) | None => PriorityTags::Never,
        },
        protected: row.bool(port::PROTECTED),
        queue_dscp: queue_dscp(row),
        other_config: other.pairs(),
        name,
    })
}

/// How often the PHYs of a bond's members are asked for their links; 0: the drivers tell.
fn miimon_ms(other: &Map) -> u32 {
    const DEFAULT_MS: u32 = 200;
    if other.get("bond-detect-mode") != Some("miimon") {
        return 0;
    }
    let asked = other.get("bond-miimon-interval").and_then(|ms| ms.parse().ok());
    asked.filter(|ms| *ms > 0).unwrap_or(DEFAULT_MS)
}

/// The port that every bridge has, when the database has none.
pub(super) fn local(builder: &Builder<'_>, bridge: &str, datapath_type: &str) -> PortConfig {
    PortConfig {
        name: bridge.to_owned(),
        interfaces: vec![interface::local(builder, bridge, datapath_type)],
        qinq_ethtype: 0x88a8,
        ..PortConfig::default()
    }
}

/// How the kernel is to queue what leaves.
fn qos(row: &Row<'_, Port>) -> Option<Qos> {
    let qos = row.refs(port::QOS).into_iter().find(|qos| !qos.str(qos::TYPE).is_empty())?;
    let queues = qos.numbered_refs(qos::QUEUES).into_iter();
    let queue =
        |(number, queue): (i64, Row<'_, Queue>)| Some((u32::try_from(number).ok()?, queue.map(queue::OTHER_CONFIG).pairs()));
    Some(Qos {
        kind: qos.str(qos::TYPE).to_owned(),
        options: qos.map(qos::OTHER_CONFIG).pairs(),
        queues: queues.filter_map(queue).collect(),
    })
}

/// Queues with a DSCP of their own.
fn queue_dscp(row: &Row<'_, Port>) -> Vec<(u32, u8)> {
    let qos = row.refs(port::QOS).into_iter().find(|qos| !qos.str(qos::TYPE).is_empty());
    let queues = qos.map(|qos| qos.numbered_refs(qos::QUEUES)).unwrap_or_default();
    let marks = queues.into_iter().filter_map(|(number, queue)| {
        let dscp = u8::try_from(queue.opt_int(queue::DSCP)?).ok().filter(|d| *d < 64)?;
        Some((u32::try_from(number).ok()?, dscp))
    });
    marks.collect()
}

fn vlan_mode(builder: &mut Builder<'_>, port: &str, mode: Option<&str>, tag: Option<u16>, trunks: &[u16]) -> VlanMode {
    match mode {
        None if tag.is_some() => {
            if !trunks.is_empty() {
                builder.complaints.warn(format!("port {port}: ignoring trunks in favor of implicit vlan"));
            }
            VlanMode::Access
        }
        None | Some("trunk") => VlanMode::Trunk,
        Some("access") => VlanMode::Access,
        Some("native-tagged") => VlanMode::NativeTagged,
        Some("native-untagged") => VlanMode::NativeUntagged,
        Some("dot1q-tunnel") => VlanMode::Dot1qTunnel,
        Some(other) => {
            builder.complaints.error(format!("port {port}: unknown VLAN mode {other}, falling back to trunk mode"));
            VlanMode::Trunk
        }
    }
}

/// "active", "passive" or "off".
fn lacp(builder: &mut Builder<'_>, row: &Row<'_, Port>) -> String {
    match row.opt_str(port::LACP) {
        Some(mode @ ("active" | "passive" | "off")) => mode.to_owned(),
        Some(other) => {
            let text = format!("port {}: unknown LACP mode {other}", row.str(port::NAME));
            builder.complaints.warn(text);
            "off".to_owned()
        }
        None => "off".to_owned(),
    }
}

fn bond(builder: &mut Builder<'_>, port: &str, row: &Row<'_, Port>) -> BondConfig {
    let default = "active-backup";
    let mode = match row.opt_str(port::BOND_MODE) {
        Some(mode @ ("active-backup" | "balance-slb" | "balance-tcp")) => mode,
        Some(other) => {
            builder.complaints.warn(format!("port {port}: unknown bond_mode {other}, defaulting to {default}"));
            default
        }
        None => {
            let text = format!(
                "port {port}: Using the default bond_mode {default}. Note that in previous versions, the default bond_mode was balance-slb"
            );
            builder.complaints.warn(text);
            default
        }
    };
    BondConfig {
        mode: mode.to_owned(),
        updelay_ms: row.int(port::BOND_UPDELAY).max(0),
        downdelay_ms: row.int(port::BOND_DOWNDELAY).max(0),
        active_mac: row.opt_str(port::BOND_ACTIVE_SLAVE).and_then(parse_mac),
    }
}
