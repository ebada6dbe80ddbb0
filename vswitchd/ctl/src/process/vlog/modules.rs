//! The table of log modules: OVS's names, so that `vlog/set ofproto_dpif:dbg` and log readers work unchanged. A `tracing` target is
//! looked up here; what is foreign to the table (a library's target) is mapped to the module an operator would look under.

/// Every module, sorted by name as `vlog/list` shows it.
pub const MODULES: &[&str] = &[
    "backtrace",
    "bfd",
    "bond",
    "bridge",
    "bundle",
    "bundles",
    "cfm",
    "collectors",
    "command_line",
    "connmgr",
    "conntrack",
    "conntrack_tp",
    "cooperative_multitasking",
    "coverage",
    "ct_dpif",
    "daemon",
    "daemon_unix",
    "dns_resolve",
    "dpdk",
    "dpif",
    "dpif_lookup_autovalidator",
    "dpif_lookup_generic",
    "dpif_mfex_extract_study",
    "dpif_netdev",
    "dpif_netdev_extract",
    "dpif_netdev_impl",
    "dpif_netdev_lookup",
    "dpif_netlink",
    "dpif_netlink_rtnl",
    "dpif_offload",
    "dpif_offload_dummy",
    "dpif_offload_tc",
    "entropy",
    "fail_open",
    "fatal_signal",
    "flow",
    "hmap",
    "in_band",
    "ipf",
    "ipfix",
    "jsonrpc",
    "lacp",
    "lldp",
    "lldpd",
    "lldpd_structs",
    "lockfile",
    "mac_learning",
    "memory",
    "meta_flow",
    "native_tnl",
    "netdev",
    "netdev_afxdp",
    "netdev_dummy",
    "netdev_linux",
    "netdev_offload",
    "netdev_offload_tc",
    "netdev_vport",
    "netflow",
    "netlink",
    "netlink_conntrack",
    "netlink_notifier",
    "netlink_socket",
    "nx_match",
    "odp_execute",
    "odp_execute_impl",
    "odp_util",
    "ofp_actions",
    "ofp_bundle",
    "ofp_connection",
    "ofp_errors",
    "ofp_flow",
    "ofp_group",
    "ofp_match",
    "ofp_meter",
    "ofp_monitor",
    "ofp_msgs",
    "ofp_packet",
    "ofp_port",
    "ofp_protocol",
    "ofp_queue",
    "ofp_table",
    "ofp_util",
    "ofproto",
    "ofproto_dpif",
    "ofproto_dpif_mirror",
    "ofproto_dpif_monitor",
    "ofproto_dpif_rid",
    "ofproto_dpif_upcall",
    "ofproto_dpif_xlate",
    "ofproto_xlate_cache",
    "ovs_lldp",
    "ovs_numa",
    "ovs_rcu",
    "ovs_replay",
    "ovs_router",
    "ovs_thread",
    "ovsdb_cs",
    "ovsdb_error",
    "ovsdb_file",
    "ovsdb_idl",
    "ovsdb_jsonrpc_server",
    "ovsdb_server",
    "ox_stat",
    "pcap",
    "pmd_perf",
    "poll_loop",
    "process",
    "rconn",
    "reconnect",
    "replication",
    "route_table",
    "rstp",
    "rstp_sm",
    "sflow",
    "sha1",
    "signals",
    "socket_util",
    "socket_util_unix",
    "stp",
    "stream",
    "stream_fd",
    "stream_replay",
    "stream_ssl",
    "stream_tcp",
    "stream_unix",
    "svec",
    "system_stats",
    "tc",
    "timeval",
    "tunnel",
    "unixctl",
    "userspace_tso",
    "util",
    "uuid",
    "vconn",
    "vconn_stream",
    "vlog",
    "vswitchd",
];

/// Where the events of libraries go, by the first segment of their target.
const FOREIGN: &[(&str, &str)] = &[
    ("rustls", "stream_ssl"),
    ("tokio_rustls", "stream_ssl"),
    ("tokio", "poll_loop"),
    ("mio", "poll_loop"),
    ("neli", "netlink_socket"),
    ("ovsdb", "ovsdb_cs"),
    ("openflow", "ofp_msgs"),
    ("ofproto", "ofproto"),
    ("datapath", "dpif_netdev"),
    ("port", "netdev"),
    ("offload", "netdev_offload"),
    ("flow", "flow"),
];

/// An index into `MODULES`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Module(usize);

impl Module {
    /// The module of that name, in any case, as operators type it.
    pub fn named(name: &str) -> Option<Self> {
        Self::exact(name).or_else(|| MODULES.iter().position(|m| m.eq_ignore_ascii_case(name)).map(Self))
    }

    /// The module under which events of a `tracing` target are logged.
    pub fn of_target(target: &str) -> Self {
        if let Some(module) = Self::exact(target) {
            return module;
        }
        let head = target.split("::").next().unwrap_or(target);
        let name = FOREIGN.iter().find(|(prefix, _)| *prefix == head).map_or("vswitchd", |(_, module)| *module);
        Self::exact(name).expect("FOREIGN names modules of the table, a test holds it")
    }

    /// Each module in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..MODULES.len()).map(Self)
    }

    /// Its position in `MODULES`.
    pub fn index(self) -> usize {
        self.0
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        MODULES[self.0]
    }

    fn exact(name: &str) -> Option<Self> {
        MODULES.binary_search(&name).ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_foreign_targets_have_a_place_in_it() {
        assert!(MODULES.is_sorted(), "binary search needs order");
        for (prefix, module) in FOREIGN {
            assert!(MODULES.contains(module), "{prefix} -> {module}");
            assert_eq!(Module::of_target(&format!("{prefix}::x")).name(), *module);
        }
        assert_eq!(Module::of_target("bridge").name(), "bridge");
        assert_eq!(Module::of_target("who::knows").name(), "vswitchd");
        assert_eq!(Module::named("OFPROTO").map(Module::name), Some("ofproto"));
        assert_eq!(Module::named("ofproto-dpif"), None);
    }
}
