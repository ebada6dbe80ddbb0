//! What came of the configuration, as columns to write back: only those that differ from what the database has, and only those that
//! its schema knows. Pure.

use super::build::Built;
use super::rows::{Replica, Row, mac_text};
use super::schema::{Column, Form, Interface, Role, Table, bridge, columns, controller, datapath, interface, mirror, port};
use flow::seam::{PortInfo, PortStats};
use ofproto::config::{BridgeStatus, ControllerStatus, InterfaceStatus};
use ofproto::lldp::Vlans;
use ofproto::protocols::{LinkStatus, PortStatus};
use ofproto::{rstp, stp};
use ovsdb::{Atom, Datum};
use uuid::Uuid;

/// A column to write.
#[derive(Clone, PartialEq, Debug)]
pub struct Write {
    pub table: &'static str,
    pub row: Uuid,
    pub column: &'static str,
    pub value: Datum,
}

/// What the slow path reports.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub interfaces: Vec<InterfaceStatus>,
    pub controllers: Vec<ControllerStatus>,
    pub bridges: Vec<BridgeStatus>,
    pub ports: Vec<PortStatus>,
    /// Types of datapaths that are open, and `Datapath.capabilities` of each.
    pub datapaths: Vec<(String, Vec<(String, String)>)>,
}

/// Everything that is to be written. `statistics` says whether counters are due.
pub fn writes(replica: &dyn Replica, built: &Built, report: &Report, statistics: bool) -> Vec<Write> {
    let mut writer = Writer { replica, writes: Vec::new() };
    for status in &report.interfaces {
        if let Some(row) = built.interfaces.get(&status.name) {
            writer.interface(*row, status);
        }
    }
    for (row, error) in &built.refused {
        writer.failed_interface(*row, error.as_deref());
    }
    for status in &report.bridges {
        if let Some(row) = built.bridges.get(&status.name) {
            writer.bridge(*row, status);
        }
        if statistics {
            writer.mirrors(built, status);
        }
    }
    for status in &report.ports {
        if let Some(row) = built.ports.get(&status.name) {
            writer.port(*row, status, statistics);
        }
    }
    for status in &report.controllers {
        if let Some(row) = built.controllers.get(&(status.bridge.clone(), status.target.clone())) {
            writer.controller(*row, status);
        }
    }
    for (kind, capabilities) in &report.datapaths {
        if let Some(row) = built.datapaths.get(kind) {
            writer.put(*row, datapath::CAPABILITIES, pairs(capabilities));
        }
    }
    writer.writes
}

struct Writer<'a> {
    replica: &'a dyn Replica,
    writes: Vec<Write>,
}

impl Writer<'_> {
    fn put<T: Table, K>(&mut self, row: Uuid, column: Column<T, K>, value: Datum) {
        self.put_named(T::NAME, row, column.name, value);
    }

    fn put_named(&mut self, table: &'static str, row: Uuid, column: &'static str, value: Datum) {
        let row_now = self.replica.row(table, row);
        if row_now.is_some_and(|r| r.get(column).is_some_and(|current| *current != value)) {
            self.writes.push(Write { table, row, column, value });
        }
    }

    fn interface(&mut self, row: Uuid, status: &InterfaceStatus) {
        let Some(ofport) = status.ofport else {
            if status.error.is_some() {
                self.failed_interface(row, status.error.as_deref());
            }
            return;
        };
        self.put(row, interface::OFPORT, Datum::from(ofport));
        self.put(row, interface::ERROR, Datum::optional(status.error.as_deref()));
        match &status.info {
            Some(info) => self.device(row, info),
            None => self.device(row, &PortInfo { admin_up: true, link_up: true, ..PortInfo::default() }),
        }
        self.link(row, &status.link);
        if let Some(stats) = &status.stats {
            let kind = status.info.as_ref().map_or("patch", |i| i.kind.as_str());
            self.put(row, interface::STATISTICS, statistics_datum(kind, stats, &status.custom_stats));
        }
    }

    fn device(&mut self, row: Uuid, info: &PortInfo) {
        let state = |up| Datum::from(if up { "up" } else { "down" });
        let optional = |value: u64| Datum::optional(i64::try_from(value).ok().filter(|v| *v != 0));
        self.put(row, interface::ADMIN_STATE, state(info.admin_up));
        // A device that was taken down carries nothing, whatever its cable says.
        self.put(row, interface::LINK_STATE, state(info.admin_up && info.link_up));
        self.put(row, interface::LINK_RESETS, Datum::from(i64::try_from(info.link_resets).unwrap_or(i64::MAX)));
        self.put(row, interface::LINK_SPEED, optional(info.speed_bps));
        self.put(row, interface::DUPLEX, Datum::optional(info.full_duplex.map(|full| if full { "full" } else { "half" })));
        self.put(row, interface::MTU, optional(info.mtu.into()));
        self.put(row, interface::IFINDEX, Datum::from(info.ifindex));
        self.put(row, interface::MAC_IN_USE, Datum::optional((info.mac != [0; 6]).then(|| mac_text(info.mac))));
        self.put(row, interface::STATUS, pairs(&info.status));
    }

    /// What the link protocols say.
    fn link(&mut self, row: Uuid, link: &LinkStatus) {
        self.put(row, interface::BFD_STATUS, pairs(&link.bfd));
        self.put(row, interface::LACP_CURRENT, Datum::optional(link.lacp_current));
        let cfm = link.cfm.as_ref();
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.put(row, interface::CFM_FAULT, Datum::optional(cfm.map(|c| !c.faults.is_empty())));
        self.put(row, interface::CFM_FAULT_STATUS, Datum::set(cfm.map(|c| c.faults.clone()).unwrap_or_default()));
        self.put(row, interface::CFM_FLAP_COUNT, Datum::optional(cfm.map(|c| number(c.flap_count))));
        self.put(row, interface::CFM_HEALTH, Datum::optional(cfm.and_then(|c| c.health).map(i64::from)));
        self.put(
            row,
            interface::CFM_REMOTE_MPIDS,
            Datum::set(cfm.map(|c| &c.remote_mpids[..]).unwrap_or_default().iter().map(|m| number(*m))),
        );
        let opstate = cfm.and_then(|c| c.remote_opup).map(|up| if up { "up" } else { "down" });
        self.put(row, interface::CFM_REMOTE_OPSTATE, Datum::optional(opstate));
    }

    /// VLANs that auto-attach has been granted are carried, and such as it has lost no longer. A trunk port without trunks would carry all.
    fn trunks(&mut self, row: Uuid, vlans: &Vlans) {
        let own = Row::new(self.replica, row);
        let Some(trunks) = own.and_then(|own| vlans.change(&own.vlans(port::TRUNKS))) else { return };
        let mode = match trunks.len() {
            0 => Some("access"),
            1 => Some("trunk"),
            _ => None,
        };
        self.put(row, port::TRUNKS, Datum::set(trunks.into_iter().map(i64::from)));
        if mode.is_some() {
            self.put(row, port::VLAN_MODE, Datum::optional(mode));
        }
    }

    fn port(&mut self, row: Uuid, status: &PortStatus, statistics: bool) {
        if let Some(mac) = status.bond_active_mac {
            self.put(row, port::BOND_ACTIVE_SLAVE, Datum::from(mac_text(mac)));
        }
        self.trunks(row, &status.auto_attach);
        let stp = status.stp.as_ref().map(stp_port).unwrap_or_default();
        self.put(row, port::STATUS, pairs(&stp));
        let rstp = status.rstp.as_ref().map(rstp_port).unwrap_or_default();
        self.put(row, port::RSTP_STATUS, pairs(&rstp));
        if statistics {
            let counts =
                status.stp.as_ref().map(|s| vec![("stp_tx_count", s.tx), ("stp_rx_count", s.rx), ("stp_error_count", s.errors)]);
            self.put(row, port::STATISTICS, counters(&counts.unwrap_or_default()));
            let counts = status.rstp.as_ref().map(|r| {
                let traffic = [("rstp_tx_count", r.tx), ("rstp_rx_count", r.rx), ("rstp_error_count", r.errors)];
                traffic.into_iter().chain([("rstp_uptime", r.uptime_s)]).collect::<Vec<_>>()
            });
            self.put(row, port::RSTP_STATISTICS, counters(&counts.unwrap_or_default()));
        }
    }

    fn failed_interface(&mut self, row: Uuid, error: Option<&str>) {
        self.put(row, interface::OFPORT, Datum::from(-1i64));
        self.put(row, interface::ERROR, Datum::optional(error));
        let told = [interface::OFPORT.name, interface::ERROR.name];
        for column in columns(Interface::NAME).iter().filter(|c| c.role == Role::Status && !told.contains(&c.name)) {
            let empty = if matches!(column.form, Form::Pairs | Form::Counts) { Datum::empty_map() } else { Datum::empty_set() };
            self.put_named(Interface::NAME, row, column.name, empty);
        }
    }

    fn bridge(&mut self, row: Uuid, status: &BridgeStatus) {
        if status.error.is_some() {
            self.put(row, bridge::DATAPATH_ID, Datum::empty_set());
            return;
        }
        self.put(row, bridge::DATAPATH_ID, Datum::from(format!("{:016x}", status.datapath_id)));
        self.put(row, bridge::DATAPATH_VERSION, Datum::from(&status.datapath_version));
        let mut told = status.status.clone();
        if let Some(stp) = &status.stp {
            told.push(("stp_bridge_id".to_owned(), stp::id_text(stp.bridge_id)));
            told.push(("stp_designated_root".to_owned(), stp::id_text(stp.designated_root)));
            told.push(("stp_root_path_cost".to_owned(), stp.root_path_cost.to_string()));
        }
        self.put(row, bridge::STATUS, pairs(&told));
        let rstp = status.rstp.as_ref().map(rstp_bridge).unwrap_or_default();
        self.put(row, bridge::RSTP_STATUS, pairs(&rstp));
    }

    /// A mirror that the slow path did not take has no counters.
    fn mirrors(&mut self, built: &Built, status: &BridgeStatus) {
        for ((_, name), row) in built.mirrors.iter().filter(|((bridge, _), _)| *bridge == status.name) {
            let counted = status.mirrors.iter().find(|(n, ..)| n == name);
            let counts = counted.map(|(_, packets, bytes)| vec![("tx_packets", *packets), ("tx_bytes", *bytes)]);
            self.put(*row, mirror::STATISTICS, counters(&counts.unwrap_or_default()));
        }
    }

    fn controller(&mut self, row: Uuid, status: &ControllerStatus) {
        self.put(row, controller::IS_CONNECTED, Datum::from(status.is_connected));
        self.put(row, controller::ROLE, Datum::optional(status.role.as_deref()));
        self.put(row, controller::STATUS, pairs(&status.status));
    }
}

fn named<const N: usize>(pairs: [(&str, String); N]) -> Vec<(String, String)> {
    pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

fn stp_port(s: &stp::PortStatus) -> Vec<(String, String)> {
    named([
        ("stp_port_id", s.port_id.to_string()),
        ("stp_state", s.state.name().to_owned()),
        ("stp_sec_in_state", s.seconds_in_state.to_string()),
        ("stp_role", s.role.to_owned()),
    ])
}

fn rstp_bridge(r: &rstp::BridgeStatus) -> Vec<(String, String)> {
    named([
        ("rstp_bridge_id", rstp::id_text(r.bridge_id)),
        ("rstp_root_path_cost", r.root_path_cost.to_string()),
        ("rstp_root_id", rstp::id_text(r.root_id)),
        ("rstp_designated_id", rstp::id_text(r.designated_id)),
        ("rstp_designated_port_id", format!("{:04x}", r.designated_port_id)),
        ("rstp_bridge_port_id", format!("{:04x}", r.bridge_port_id)),
    ])
}

fn rstp_port(r: &rstp::PortStatus) -> Vec<(String, String)> {
    named([
        ("rstp_port_id", format!("{:04x}", r.port_id)),
        ("rstp_port_role", r.role.name().to_owned()),
        ("rstp_port_state", r.state.name().to_owned()),
        ("rstp_designated_bridge_id", rstp::id_text(r.designated_bridge_id)),
        ("rstp_designated_port_id", format!("{:04x}", r.designated_port_id)),
        ("rstp_designated_path_cost", r.designated_path_cost.to_string()),
    ])
}

fn counters(counts: &[(&str, u64)]) -> Datum {
    Datum::map(counts.iter().map(|(k, v)| (*k, Atom::from(i64::try_from(*v).unwrap_or(i64::MAX)))))
}

/// A map of strings.
pub(super) fn pairs(pairs: &[(String, String)]) -> Datum {
    Datum::map(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())))
}

/// `Interface.statistics`: what devices of that kind count, and what this one counts beside it.
fn statistics_datum(kind: &str, s: &PortStats, custom: &[(String, u64)]) -> Datum {
    let mut counters =
        vec![("rx_packets", s.rx_packets), ("tx_packets", s.tx_packets), ("rx_bytes", s.rx_bytes), ("tx_bytes", s.tx_bytes)];
    if counts_errors(kind) {
        counters.extend([
            ("rx_dropped", s.rx_dropped),
            ("tx_dropped", s.tx_dropped),
            ("rx_errors", s.rx_errors),
            ("tx_errors", s.tx_errors),
            ("collisions", s.collisions),
            ("rx_over_err", s.rx_over_err),
            ("rx_frame_err", s.rx_frame_err),
            ("rx_crc_err", s.rx_crc_err),
            ("rx_missed_errors", s.rx_missed_errors),
            ("rx_multicast_packets", s.rx_multicast_packets),
        ]);
    }
    counters.extend(custom.iter().map(|(name, n)| (name.as_str(), *n)));
    if s.upcall_packets != 0 || s.upcall_errors != 0 {
        // What went up to the slow path, and what found its port's queue full.
        counters.extend([("upcall_packets", s.upcall_packets), ("upcall_errors", s.upcall_errors)]);
    }
    counters.retain(|(_, v)| *v != PortStats::UNKNOWN);
    Datum::map(counters.into_iter().map(|(k, v)| (k, Atom::from(i64::try_from(v).unwrap_or(i64::MAX)))))
}

fn counts_errors(kind: &str) -> bool {
    !kind.starts_with("dummy") && kind != "patch"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::build::{Environment, build};
    use crate::bridge::complaints::Complaints;
    use crate::bridge::rows::test_replica::Text;

    fn check(status: InterfaceStatus, expect: &[&str]) {
        let replica = Text::new(
            "Open_vSwitch . bridges={@br0}
             Bridge br0 ports={@br0p,@p1p}
             Port br0p name=br0 interfaces={@br0i}
             Interface br0i name=br0 type=internal
             Port p1p name=p1 interfaces={@p1i}
             Interface p1i name=p1 ofport={} error={} admin_state={} link_state={} mtu={} ifindex={} statistics={a=1} mac_in_use={}",
        );
        let built = build(&replica, &Environment::default(), &mut Complaints::default());
        let report = Report { interfaces: vec![status], ..Report::default() };
        let got: Vec<String> =
            writes(&replica, &built, &report, true).iter().map(|w| format!("{}={}", w.column, w.value.to_json())).collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn a_working_interface_and_a_failed_one() {
        let info = PortInfo { kind: "dummy".into(), admin_up: true, mtu: 1500, mac: [2, 0, 0, 0, 0, 1], ..PortInfo::default() };
        let stats = PortStats { rx_packets: 3, ..PortStats::default() };
        let status =
            InterfaceStatus { name: "p1".into(), ofport: Some(7), info: Some(info), stats: Some(stats), ..Default::default() };
        let counters = "statistics=[\"map\",[[\"rx_bytes\",0],[\"rx_packets\",3],[\"tx_bytes\",0],[\"tx_packets\",0]]]";
        check(
            status,
            &[
                "ofport=7",
                "admin_state=\"up\"",
                "link_state=\"down\"",
                "mtu=1500",
                "ifindex=0",
                "mac_in_use=\"02:00:00:00:00:01\"",
                counters,
            ],
        );
        let failed = InterfaceStatus { name: "p1".into(), error: Some("could not".into()), ..Default::default() };
        check(failed, &["ofport=-1", "error=\"could not\"", "statistics=[\"map\",[]]"]);
        check(InterfaceStatus { name: "p1".into(), ..Default::default() }, &[]);
        // One that works, but not as it was asked to.
        let device = PortInfo { kind: "dummy".into(), link_up: true, ..PortInfo::default() };
        let odd = InterfaceStatus {
            name: "p1".into(),
            ofport: Some(7),
            error: Some("no such MTU".into()),
            info: Some(device),
            ..Default::default()
        };
        check(odd, &["ofport=7", "error=\"no such MTU\"", "admin_state=\"down\"", "link_state=\"down\"", "ifindex=0"]);
    }

    #[test]
    fn a_mirror_tells_what_it_copied_and_one_that_is_none_nothing() {
        let replica = Text::new(
            "Open_vSwitch . bridges={@br0}
             Bridge br0 name=br0 ports={@p1p} mirrors={@m,@n}
             Port p1p name=p1 interfaces={@p1i}
             Interface p1i name=p1
             Mirror m name=m output_port=@p1p statistics={tx_packets=1,tx_bytes=60}
             Mirror n name=n output_port=@p1p statistics={tx_packets=7,tx_bytes=7}",
        );
        let built = build(&replica, &Environment::default(), &mut Complaints::default());
        let status = BridgeStatus { name: "br0".into(), mirrors: vec![("m".into(), 2, 120)], ..BridgeStatus::default() };
        let report = Report { bridges: vec![status], ..Report::default() };
        let told = |statistics| -> Vec<String> {
            let mirrors = writes(&replica, &built, &report, statistics).into_iter().filter(|w| w.table == "Mirror");
            mirrors.map(|w| format!("{}={}", w.column, w.value.to_json())).collect()
        };
        let mut both = told(true);
        both.sort();
        assert_eq!(both, ["statistics=[\"map\",[[\"tx_bytes\",120],[\"tx_packets\",2]]]", "statistics=[\"map\",[]]"]);
        assert_eq!(told(false), Vec::<String>::new());
    }

    #[test]
    fn auto_attach_adds_trunks_and_takes_them_away() {
        let replica = Text::new(
            "Open_vSwitch . bridges={@br0}
             Bridge br0 ports={@p1p}
             Port p1p name=p1 interfaces={@p1i} trunks={7} vlan_mode={}
             Interface p1i name=p1",
        );
        let built = build(&replica, &Environment::default(), &mut Complaints::default());
        let wrote = |granted: &[u16], withdrawn: &[u16]| {
            let set = |vlans: &[u16]| vlans.iter().copied().collect();
            let auto_attach = Vlans { granted: set(granted), withdrawn: set(withdrawn) };
            let status = PortStatus { bridge: "br0".into(), name: "p1".into(), auto_attach, ..PortStatus::default() };
            let report = Report { ports: vec![status], ..Report::default() };
            let writes = writes(&replica, &built, &report, false);
            let ours = writes.iter().filter(|w| matches!(w.column, "trunks" | "vlan_mode"));
            ours.map(|w| format!("{}={}", w.column, w.value.to_json())).collect::<Vec<_>>()
        };
        assert_eq!(wrote(&[], &[]), Vec::<String>::new());
        assert_eq!(wrote(&[10], &[]), ["trunks=[\"set\",[7,10]]"]);
        assert_eq!(wrote(&[10], &[7]), ["trunks=10", "vlan_mode=\"trunk\""]);
        assert_eq!(wrote(&[], &[7]), ["trunks=[\"set\",[]]", "vlan_mode=\"access\""]);
    }
}
