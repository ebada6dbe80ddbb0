//! What becomes of the keys of map columns: a row for each place that uses some of them, and for each reason why some are left out.
//! `keys.txt` lists what OVS documents; tests hold the two together, and hold what is left out against docs/status.md. An administrator
//! who sets a key that is left out is told so in the log.

use super::complaints::Complaints;
use super::rows::Map;
use super::schema::{Column, Pairs, Table};

/// Who uses a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    /// This file names it.
    In(&'static str),
    /// Kept for the administrator and other programs.
    User,
    /// Left out, and why.
    Not(&'static str),
}

/// Keys of one column with one fate.
#[derive(Clone, Copy, Debug)]
struct Keys {
    table: &'static str,
    column: &'static str,
    how: How,
    keys: &'static [&'static str],
}

/// Tells the administrator of keys that this switch leaves out. `what` names the row.
pub(super) fn complain<T: Table>(complaints: &mut Complaints, what: &str, column: Column<T, Pairs>, map: &Map) {
    for row in KEYS.iter().filter(|row| row.table == T::NAME && row.column == column.name) {
        if let How::Not(why) = row.how {
            for key in row.keys.iter().filter(|key| map.get(key).is_some()) {
                complaints.info(format!("{what}: {}:{key} has no effect here: {why}", column.name));
            }
        }
    }
}

/// Every key that is documented.
#[rustfmt::skip]
const KEYS: &[Keys] = &[
    Keys { table: "Open_vSwitch", column: "external_ids", how: How::User, keys: &["system-id", "hostname", "rundir"] },
    Keys { table: "Open_vSwitch", column: "other_config", how: How::In("vswitchd/daemon/src/bridge/build.rs"), keys: &["stats-update-interval", "flow-restore-wait", "flow-limit", "max-idle", "max-revalidator", "min-revalidate-pps", "n-handler-threads", "n-revalidator-threads", "vlan-limit", "explicit-sampled-drops", "bundle-idle-timeout", "enable-statistics"] },
    Keys { table: "Open_vSwitch", column: "other_config", how: How::In("vswitchd/daemon/src/offload/mod.rs"), keys: &["offloaded-stats-delay", "hw-offload", "tc-policy", "offload-rebalance"] },
    Keys { table: "Open_vSwitch", column: "other_config", how: How::Not("there is one way to offload, tc"), keys: &["hw-offload-priority"] },
    Keys { table: "Open_vSwitch", column: "other_config", how: How::Not("DPDK ports and its libraries are not used"), keys: &["n-offload-threads", "dpdk-init", "dpdk-lcore-mask", "dpdk-alloc-mem", "dpdk-socket-mem", "dpdk-socket-limit", "dpdk-hugepage-dir", "dpdk-extra", "vhost-sock-dir", "vhost-iommu-support", "vhost-postcopy-support", "per-port-memory", "shared-mempool-config", "userspace-tso-enable"] },
    Keys { table: "Open_vSwitch", column: "other_config", how: How::In("datapath/switch/src/config.rs"), keys: &["pmd-cpu-mask", "pmd-perf-metrics", "smc-enable", "pmd-rxq-assign", "pmd-rxq-isolate", "emc-insert-inv-prob", "pmd-auto-lb", "pmd-auto-lb-rebal-interval", "pmd-auto-lb-load-threshold", "pmd-auto-lb-improvement-threshold", "pmd-sleep-max"] },
    Keys { table: "Open_vSwitch", column: "other_config", how: How::Not("what a batch sends leaves at the end of the batch"), keys: &["tx-flush-interval"] },
    Keys { table: "Open_vSwitch", column: "statistics", how: How::In("vswitchd/daemon/src/host.rs"), keys: &["cpu", "load_average", "memory", "process_NAME", "file_systems"] },
    Keys { table: "Open_vSwitch", column: "other_config", how: How::Not("IPsec of tunnels"), keys: &["private_key", "certificate", "ca_cert", "ipsec_skb_mark"] },
    Keys { table: "Bridge", column: "other_config", how: How::In("vswitchd/daemon/src/bridge/build.rs"), keys: &["datapath-id", "dp-desc", "dp-sn", "disable-in-band", "in-band-queue", "controller-queue-size", "mcast-snooping-aging-time", "mcast-snooping-table-size", "mcast-snooping-disable-flood-unregistered", "hwaddr", "forward-bpdu", "mac-aging-time", "mac-table-size"] },
    Keys { table: "Bridge", column: "other_config", how: How::In("ofproto/pipeline/src/stp/settings.rs"), keys: &["stp-system-id", "stp-priority", "stp-hello-time", "stp-max-age", "stp-forward-delay"] },
    Keys { table: "Bridge", column: "status", how: How::In("vswitchd/daemon/src/bridge/status.rs"), keys: &["stp_bridge_id", "stp_designated_root", "stp_root_path_cost"] },
    Keys { table: "Bridge", column: "other_config", how: How::In("ofproto/pipeline/src/rstp/settings.rs"), keys: &["rstp-address", "rstp-priority", "rstp-force-protocol-version", "rstp-max-age", "rstp-forward-delay", "rstp-transmit-hold-count"] },
    Keys { table: "Bridge", column: "other_config", how: How::Not("the bridge's own mac-aging-time stands"), keys: &["rstp-ageing-time"] },
    Keys { table: "Bridge", column: "rstp_status", how: How::In("vswitchd/daemon/src/bridge/status.rs"), keys: &["rstp_bridge_id", "rstp_root_id", "rstp_root_path_cost", "rstp_designated_id", "rstp_designated_port_id", "rstp_bridge_port_id"] },
    Keys { table: "Bridge", column: "external_ids", how: How::User, keys: &["bridge-id"] },
    Keys { table: "Port", column: "other_config", how: How::In("vswitchd/daemon/src/bridge/port.rs"), keys: &["qinq-ethtype", "priority-tags"] },
    Keys { table: "Port", column: "other_config", how: How::In("ofproto/pipeline/src/bond/settings.rs"), keys: &["bond-hash-basis", "lb-output-action", "bond-primary", "all-members-active", "lacp-fallback-ab", "bond-rebalance-interval"] },
    Keys { table: "Port", column: "other_config", how: How::In("vswitchd/daemon/src/bridge/port.rs"), keys: &["bond-detect-mode", "bond-miimon-interval"] },
    Keys { table: "Port", column: "other_config", how: How::In("ofproto/pipeline/src/lacp/mod.rs"), keys: &["lacp-system-id", "lacp-system-priority", "lacp-time"] },
    Keys { table: "Port", column: "other_config", how: How::In("ofproto/pipeline/src/stp/settings.rs"), keys: &["stp-enable", "stp-port-num", "stp-port-priority", "stp-path-cost", "rstp-enable"] },
    Keys { table: "Port", column: "status", how: How::In("vswitchd/daemon/src/bridge/status.rs"), keys: &["stp_port_id", "stp_state", "stp_sec_in_state", "stp_role"] },
    Keys { table: "Port", column: "other_config", how: How::In("ofproto/pipeline/src/rstp/settings.rs"), keys: &["rstp-port-priority", "rstp-port-num", "rstp-path-cost", "rstp-port-admin-edge", "rstp-port-auto-edge", "rstp-port-mcheck"] },
    Keys { table: "Port", column: "rstp_status", how: How::In("vswitchd/daemon/src/bridge/status.rs"), keys: &["rstp_port_id", "rstp_port_role", "rstp_port_state", "rstp_designated_bridge_id", "rstp_designated_port_id", "rstp_designated_path_cost"] },
    Keys { table: "Port", column: "rstp_statistics", how: How::In("vswitchd/daemon/src/bridge/status.rs"), keys: &["rstp_tx_count", "rstp_rx_count", "rstp_error_count", "rstp_uptime"] },
    Keys { table: "Port", column: "other_config", how: How::In("ofproto/pipeline/src/bridge.rs"), keys: &["mcast-snooping-flood", "mcast-snooping-flood-reports"] },
    Keys { table: "Port", column: "external_ids", how: How::User, keys: &["fake-bridge-*"] },
    Keys { table: "Port", column: "other_config", how: How::User, keys: &["transient"] },
    Keys { table: "Port", column: "statistics", how: How::In("vswitchd/daemon/src/bridge/status.rs"), keys: &["stp_tx_count", "stp_rx_count", "stp_error_count"] },
    Keys { table: "Interface", column: "options", how: How::In("ofproto/pipeline/src/tunnel/options.rs"), keys: &["remote_ip", "local_ip", "in_key", "out_key", "dst_port", "key", "tos", "ttl", "df_default", "egress_pkt_mark", "exts", "packet_type", "seq", "csum", "erspan_idx", "erspan_ver", "erspan_dir", "erspan_hwid", "payload_type", "srv6_segs", "srv6_flowlabel"] },
    Keys { table: "Interface", column: "options", how: How::Not("IPsec of tunnels"), keys: &["psk", "remote_cert", "remote_name"] },
    Keys { table: "Interface", column: "options", how: How::In("vswitchd/daemon/src/bridge/interface.rs"), keys: &["peer"] },
    Keys { table: "Interface", column: "options", how: How::In("datapath/port/src/device.rs"), keys: &["n_rxq"] },
    Keys { table: "Interface", column: "options", how: How::Not("DPDK ports and its libraries are not used"), keys: &["dpdk-devargs", "vhost-server-path", "vhost-max-queue-pairs", "tx-retries-max", "n_rxq_desc", "n_txq_desc", "dpdk-vf-mac", "rx-steering", "rx-flow-ctrl", "tx-flow-ctrl", "flow-ctrl-autoneg", "dpdk-lsc-interrupt"] },
    Keys { table: "Interface", column: "other_config", how: How::In("vswitchd/daemon/src/bridge/interface.rs"), keys: &["pmd-rxq-affinity", "tx-steering"] },
    Keys { table: "Interface", column: "options", how: How::In("datapath/port/src/af_xdp/mod.rs"), keys: &["xdp-mode"] },
    Keys { table: "Interface", column: "other_config", how: How::Not("the cache of whole packets belongs to a worker, not to a port"), keys: &["emc-enable"] },
    Keys { table: "Interface", column: "status", how: How::In("datapath/switch/src/one_port.rs"), keys: &["driver_name", "driver_version", "firmware_version", "xdp-mode"] },
    Keys { table: "Interface", column: "status", how: How::In("ofproto/pipeline/src/slowpath/tunnels.rs"), keys: &["tunnel_egress_iface", "tunnel_egress_iface_carrier"] },
    Keys { table: "Interface", column: "status", how: How::Not("OVS documents it and never says it"), keys: &["source_ip"] },
    Keys { table: "Interface", column: "status", how: How::Not("DPDK ports and its libraries are not used"), keys: &["port_no", "numa_id", "min_rx_bufsize", "max_rx_pktlen", "max_rx_queues", "max_tx_queues", "max_mac_addrs", "max_hash_mac_addrs", "max_vfs", "max_vmdq_pools", "n_rxq", "n_txq", "rx_csum_offload", "if_type", "if_descr", "bus_info", "dpdk-vf-mac", "rx-steering", "rx_steering_queue", "rss_queues", "mode", "features", "num_of_vrings", "numa", "socket", "status", "vring_n_size", "userspace-tso"] },
    Keys { table: "Interface", column: "statistics", how: How::In("vswitchd/daemon/src/bridge/status.rs"), keys: &["rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "rx_dropped", "rx_frame_err", "rx_over_err", "rx_crc_err", "rx_errors", "tx_dropped", "collisions", "tx_errors"] },
    Keys { table: "Interface", column: "bfd", how: How::In("ofproto/pipeline/src/bfd/settings.rs"), keys: &["enable", "min_rx", "min_tx", "decay_min_rx", "forwarding_if_rx", "cpath_down", "check_tnl_key", "bfd_local_src_mac", "bfd_local_dst_mac", "bfd_remote_dst_mac", "bfd_src_ip", "bfd_dst_ip", "oam", "mult"] },
    Keys { table: "Interface", column: "bfd_status", how: How::In("ofproto/pipeline/src/bfd/show.rs"), keys: &["state", "forwarding", "diagnostic", "remote_state", "remote_diagnostic", "flap_count"] },
    Keys { table: "Interface", column: "cfm_fault_status", how: How::In("ofproto/pipeline/src/cfm/mod.rs"), keys: &["recv", "rdi", "maid", "loopback", "overflow", "override"] },
    Keys { table: "Interface", column: "cfm_fault_status", how: How::Not("OVS documents it and never says it"), keys: &["interval"] },
    Keys { table: "Interface", column: "other_config", how: How::In("ofproto/pipeline/src/cfm/mod.rs"), keys: &["cfm_interval", "cfm_extended", "cfm_demand", "cfm_opstate", "cfm_ccm_vlan", "cfm_ccm_pcp"] },
    Keys { table: "Interface", column: "other_config", how: How::In("ofproto/pipeline/src/lacp/mod.rs"), keys: &["lacp-port-id", "lacp-port-priority", "lacp-aggregation-key"] },
    Keys { table: "Interface", column: "external_ids", how: How::User, keys: &["attached-mac", "iface-id", "iface-status", "vm-id"] },
    Keys { table: "Interface", column: "lldp", how: How::In("ofproto/pipeline/src/lldp/mod.rs"), keys: &["enable"] },
    Keys { table: "Interface", column: "other_config", how: How::Not("there is one way to offload, tc"), keys: &["hw-offload-priority"] },
    Keys { table: "QoS", column: "other_config", how: How::In("datapath/port/src/netlink/qdisc.rs"), keys: &["max-rate", "perturb", "quantum", "latency", "limit", "loss", "jitter"] },
    Keys { table: "QoS", column: "other_config", how: How::Not("DPDK's policers"), keys: &["cir", "cbs", "eir", "ebs"] },
    Keys { table: "Queue", column: "other_config", how: How::In("datapath/port/src/netlink/qdisc.rs"), keys: &["min-rate", "max-rate", "burst", "priority"] },
    Keys { table: "Mirror", column: "statistics", how: How::In("vswitchd/daemon/src/bridge/status.rs"), keys: &["tx_packets", "tx_bytes"] },
    Keys { table: "IPFIX", column: "other_config", how: How::In("vswitchd/daemon/src/bridge/export.rs"), keys: &["enable-tunnel-sampling", "virtual_obs_id", "enable-input-sampling", "enable-output-sampling"] },
    Keys { table: "Controller", column: "status", how: How::In("ofproto/pipeline/src/conn/reconnect.rs"), keys: &["packet-in-TYPE-bypassed", "packet-in-TYPE-queued", "packet-in-TYPE-dropped", "packet-in-TYPE-backlog", "last_error", "state", "sec_since_connect", "sec_since_disconnect"] },
    Keys { table: "Controller", column: "other_config", how: How::In("vswitchd/daemon/src/bridge/controller.rs"), keys: &["dscp"] },
    Keys { table: "Manager", column: "status", how: How::In("vswitchd/ovsdb/src/server/status.rs"), keys: &["last_error", "state", "sec_since_connect", "sec_since_disconnect", "locks_held", "locks_waiting", "locks_lost", "n_connections", "bound_port"] },
    Keys { table: "Manager", column: "other_config", how: How::Not("connections of the database are not marked"), keys: &["dscp"] },
    Keys { table: "Datapath", column: "capabilities", how: How::In("ofproto/pipeline/src/commands/features.rs"), keys: &["max_vlan_headers", "recirc", "lb_output_action", "ct_state", "ct_state_nat", "ct_zone", "ct_mark", "ct_label", "ct_orig_tuple", "ct_orig_tuple6", "masked_set_action", "tnl_push_pop", "ufid", "trunc", "nd_ext", "clone", "sample_nesting", "ct_eventmask", "ct_clear", "max_hash_alg", "check_pkt_len", "ct_timeout", "explicit_drop_action", "ct_zero_snat", "ct_flush", "psample"] },
    Keys { table: "CT_Timeout_Policy", column: "timeouts", how: How::In("datapath/flow/src/conntrack.rs"), keys: &["tcp_syn_sent", "tcp_syn_recv", "tcp_established", "tcp_fin_wait", "tcp_time_wait", "tcp_close", "udp_first", "udp_single", "udp_multiple", "icmp_first", "icmp_reply"] },
    Keys { table: "CT_Timeout_Policy", column: "timeouts", how: How::Not("states of the kernel's tracker"), keys: &["tcp_close_wait", "tcp_last_ack", "tcp_syn_sent2", "tcp_retransmit", "tcp_unack"] },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::schema::{Role, TABLES, open_vswitch};
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    const DOCUMENTED: &str = include_str!("keys.txt");
    const STATUS: &str = include_str!("../../../../docs/status.md");

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    #[test]
    fn every_documented_key_has_one_row() {
        let documented: BTreeSet<String> = DOCUMENTED.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect();
        let all: Vec<String> =
            KEYS.iter().flat_map(|row| row.keys.iter().map(|key| format!("{} {} {key}", row.table, row.column))).collect();
        let declared: BTreeSet<String> = all.iter().cloned().collect();
        assert_eq!(all.len(), declared.len(), "a key stands twice");
        assert_eq!(documented.difference(&declared).collect::<Vec<_>>(), Vec::<&String>::new(), "keys without a row");
        assert_eq!(declared.difference(&documented).collect::<Vec<_>>(), Vec::<&String>::new(), "keys that nobody documents");
        for row in KEYS {
            let columns = crate::bridge::schema::columns(row.table);
            assert!(columns.iter().any(|c| c.name == row.column), "{}.{}", row.table, row.column);
        }
    }

    /// What a file does, without its comments and its tests.
    fn code(file: &str) -> String {
        let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let code = text.split("#[cfg(test)]\nmod tests {").next().expect("a split has a first part");
        code.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
    }

    /// The file that is said to use a key names it in its code; keys made of parts are named by their longest part.
    #[test]
    fn files_name_the_keys_that_they_use() {
        for row in KEYS {
            let How::In(file) = row.how else { continue };
            let text = code(file);
            for key in row.keys {
                let spelled = match *key {
                    "stp-enable" | "rstp-enable" => "-enable\"".to_owned(),
                    "process_NAME" => "\"process_{".to_owned(),
                    key if key.starts_with("packet-in-TYPE-") => key.replace("packet-in-TYPE-", "\""),
                    key => format!("\"{key}\""),
                };
                assert!(text.contains(&spelled), "{file} does not name {}.{}:{key}", row.table, row.column);
            }
        }
    }

    /// The lines of docs/status.md between the marks, by reason.
    #[test]
    fn the_status_lists_what_is_left_out() {
        let mut left_out: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (table, columns) in TABLES {
            for column in *columns {
                if let Role::Not(why) = column.role {
                    left_out.entry(why).or_default().insert(format!("{table}.{}", column.name));
                }
            }
        }
        for row in KEYS {
            if let How::Not(why) = row.how {
                let keys = row.keys.iter().map(|key| format!("{}.{}:{key}", row.table, row.column));
                left_out.entry(why).or_default().extend(keys);
            }
        }
        let line = |(why, names): (&str, BTreeSet<String>)| {
            let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            format!("- {why}: {}\n", names.join(", "))
        };
        let expect: String = left_out.into_iter().map(line).collect();
        let section = STATUS.split_once("## Columns and keys left out\n").expect("docs/status.md has the section").1;
        let section = section.split("\n## ").next().expect("a split has a first part");
        let listed: String = section.lines().filter(|l| l.starts_with("- ")).map(|l| format!("{l}\n")).collect();
        assert_eq!(listed, expect, "docs/status.md, \"Columns and keys left out\"");
    }

    #[test]
    fn an_administrator_is_told() {
        let mut complaints = Complaints::default();
        let map = Map([("dpdk-init", "true"), ("flow-limit", "5")].map(|(k, v)| (k.into(), v.into())).into());
        complain(&mut complaints, "Open_vSwitch", open_vswitch::OTHER_CONFIG, &map);
        let texts = complaints.texts();
        assert_eq!(texts.len(), 1, "{texts:?}");
        assert!(texts[0].starts_with("Open_vSwitch: other_config:dpdk-init has no effect here: "), "{texts:?}");
    }
}
