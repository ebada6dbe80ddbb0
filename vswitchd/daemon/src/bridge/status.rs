//! What came of the configuration, as columns to write back: only those that differ from what the database has, and only those that
//! its schema knows. Pure.

use super::build::Built;
use super::rows::{Replica, mac_text};
use flow::seam::{PortInfo, PortStats};
use ofproto::config::{BridgeStatus, ControllerStatus, InterfaceStatus};
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
}

/// Columns of `Interface` that a failure empties.
const CLEARED: [&str; 17] = [
    "admin_state",
    "duplex",
    "link_speed",
    "link_state",
    "link_resets",
    "mac_in_use",
    "mtu",
    "ifindex",
    "cfm_fault",
    "cfm_fault_status",
    "cfm_remote_mpids",
    "cfm_remote_opstate",
    "cfm_health",
    "lacp_current",
    "statistics",
    "status",
    "bfd_status",
];

/// Everything that is to be written. `statistics` says whether counters are due.
pub fn writes(replica: &dyn Replica, built: &Built, report: &Report, statistics: bool) -> Vec<Write> {
    let mut writer = Writer { replica, writes: Vec::new() };
    for status in &report.interfaces {
        if let Some(row) = built.interfaces.get(&status.name) {
            writer.interface(*row, status, statistics);
        }
    }
    for (row, error) in &built.refused {
        writer.failed_interface(*row, error.as_deref());
    }
    for status in &report.bridges {
        if let Some(row) = built.bridges.get(&status.name) {
            writer.bridge(*row, status);
        }
    }
    for status in &report.controllers {
        if let Some(row) = built.controllers.get(&(status.bridge.clone(), status.target.clone())) {
            writer.controller(*row, status);
        }
    }
    writer.writes
}

struct Writer<'a> {
    replica: &'a dyn Replica,
    writes: Vec<Write>,
}

impl Writer<'_> {
    fn put(&mut self, table: &'static str, row: Uuid, column: &'static str, value: Datum) {
        let row_now = self.replica.row(table, row);
        if row_now.is_some_and(|r| r.get(column).is_some_and(|current| *current != value)) {
            self.writes.push(Write { table, row, column, value });
        }
    }

    fn interface(&mut self, row: Uuid, status: &InterfaceStatus, statistics: bool) {
        if status.error.is_some() {
            self.failed_interface(row, status.error.as_deref());
            return;
        }
        let Some(ofport) = status.ofport else { return };
        self.put("Interface", row, "ofport", Datum::from(ofport));
        self.put("Interface", row, "error", Datum::empty_set());
        match &status.info {
            Some(info) => self.device(row, info),
            None => self.device(row, &PortInfo { admin_up: true, link_up: true, ..PortInfo::default() }),
        }
        if statistics && let Some(stats) = &status.stats {
            let kind = status.info.as_ref().map_or("patch", |i| i.kind.as_str());
            self.put("Interface", row, "statistics", statistics_datum(kind, stats));
        }
    }

    fn device(&mut self, row: Uuid, info: &PortInfo) {
        let state = |up| Datum::from(if up { "up" } else { "down" });
        let optional = |value: u64| Datum::optional(i64::try_from(value).ok().filter(|v| *v != 0));
        let mut put = |column, value| self.put("Interface", row, column, value);
        put("admin_state", state(info.admin_up));
        put("link_state", state(info.link_up));
        put("link_resets", Datum::from(i64::try_from(info.link_resets).unwrap_or(i64::MAX)));
        put("link_speed", optional(info.speed_bps));
        put("duplex", Datum::optional(info.full_duplex.map(|full| if full { "full" } else { "half" })));
        put("mtu", optional(info.mtu.into()));
        put("ifindex", Datum::from(info.ifindex));
        put("mac_in_use", Datum::optional((info.mac != [0; 6]).then(|| mac_text(info.mac))));
        put("status", pairs(&info.status));
    }

    fn failed_interface(&mut self, row: Uuid, error: Option<&str>) {
        self.put("Interface", row, "ofport", Datum::from(-1i64));
        self.put("Interface", row, "error", Datum::optional(error));
        for column in CLEARED {
            let is_map = self.replica.row("Interface", row).is_some_and(|r| r.get(column).is_some_and(Datum::is_map));
            self.put("Interface", row, column, if is_map { Datum::empty_map() } else { Datum::empty_set() });
        }
    }

    fn bridge(&mut self, row: Uuid, status: &BridgeStatus) {
        if status.error.is_some() {
            self.put("Bridge", row, "datapath_id", Datum::empty_set());
            return;
        }
        self.put("Bridge", row, "datapath_id", Datum::from(format!("{:016x}", status.datapath_id)));
        self.put("Bridge", row, "datapath_version", Datum::from(&status.datapath_version));
        self.put("Bridge", row, "status", pairs(&status.status));
    }

    fn controller(&mut self, row: Uuid, status: &ControllerStatus) {
        self.put("Controller", row, "is_connected", Datum::from(status.is_connected));
        self.put("Controller", row, "role", Datum::optional(status.role.as_deref()));
        self.put("Controller", row, "status", pairs(&status.status));
    }
}

fn pairs(pairs: &[(String, String)]) -> Datum {
    Datum::map(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())))
}

/// `Interface.statistics`: what devices of that kind count.
fn statistics_datum(kind: &str, s: &PortStats) -> Datum {
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
        ]);
    }
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
    }
}
