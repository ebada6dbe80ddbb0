//! Control commands of the slow path, with OVS's names and text: what `ovs-appctl` can ask of bridges, datapaths and upcalls.
//!
//! What enters: a command's name and arguments. What leaves: the reply, or the error as ovs-appctl shows it. `COMMANDS` is the
//! table; the daemon lists its rows beside its own. Neighbours: the daemon's control socket; `slowpath`.

mod bridge;
mod dpctl;
mod dpctl_flows;
mod dpif;
mod fdb;
mod features;
mod route;
mod show;
#[cfg(test)]
mod tests;
mod trace;
mod tunnel;
mod upcall;

use crate::slowpath::Slowpath;

/// What a command says: the reply, or the text of an error.
pub type Outcome = Result<String, String>;

/// A row: name, usage (as `list-commands` prints it; `None` hides the command), least and most arguments, and what it does.
pub struct Command {
    pub name: &'static str,
    pub usage: Option<&'static str>,
    pub min: usize,
    pub max: usize,
    pub run: fn(&Slowpath, &[&str]) -> Outcome,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Command({})", self.name)
    }
}

const fn row(name: &'static str, usage: &'static str, args: (usize, usize), run: fn(&Slowpath, &[&str]) -> Outcome) -> Command {
    Command { name, usage: Some(usage), min: args.0, max: args.1, run }
}

const fn hidden(name: &'static str, args: (usize, usize), run: fn(&Slowpath, &[&str]) -> Outcome) -> Command {
    Command { name, usage: None, min: args.0, max: args.1, run }
}

const MANY: usize = usize::MAX;

/// Every command of this room.
pub const COMMANDS: &[Command] = &[
    row("bridge/dump-flows", "[--offload-stats] bridge", (1, 2), bridge::dump_flows),
    row("dpctl/add-dp", "dp [iface...]", (1, MANY), dpctl::add_dp),
    row("dpctl/add-flow", "[dp] flow actions", (2, 3), dpctl_flows::add_flow),
    row("dpctl/add-flows", "[dp] file", (1, 2), dpctl_flows::add_flows),
    row("dpctl/add-if", "dp iface...", (2, MANY), dpctl::add_if),
    row("dpctl/cache-get-size", "[dp]", (0, 1), dpctl::cache_get_size),
    row("dpctl/del-dp", "dp", (1, 1), dpctl::del_dp),
    row("dpctl/del-flow", "[dp] flow", (1, 2), dpctl_flows::del_flow),
    row("dpctl/del-flows", "[dp] [file]", (0, 2), dpctl_flows::del_flows),
    row("dpctl/del-if", "dp iface...", (2, MANY), dpctl::del_if),
    row("dpctl/dump-dps", "", (0, 0), dpctl::dump_dps),
    row("dpctl/dump-flows", "[-m] [--names] [dp] [filter=..] [type=..] [pmd=..]", (0, 6), dpctl_flows::dump_flows),
    row("dpctl/get-flow", "[dp] ufid", (1, 2), dpctl_flows::get_flow),
    row("dpctl/mod-flow", "[dp] flow actions", (2, 3), dpctl_flows::mod_flow),
    row("dpctl/mod-flows", "[dp] file", (1, 2), dpctl_flows::mod_flows),
    row("dpctl/parse-actions", "actions", (1, MANY), dpctl_flows::parse_and_format),
    row("dpctl/set-if", "dp iface...", (2, MANY), dpctl::set_if),
    row("dpctl/show", "[-s] [dp...]", (0, MANY), dpctl::show),
    row("dpif/dump-dps", "", (0, 0), dpif::dump_dps),
    row("dpif/dump-flows", "[-m] [--names | --no-names] bridge", (1, 3), dpif::dump_flows),
    row("dpif/set-dp-features", "bridge", (1, 3), features::set),
    row("dpif/show", "", (0, 0), dpif::show),
    row("dpif/show-dp-features", "bridge", (1, 1), features::show),
    row("fdb/add", "bridge port vlan mac", (4, 4), fdb::add),
    row("fdb/del", "bridge vlan mac", (3, 3), fdb::del),
    row("fdb/flush", "[bridge]", (0, 1), fdb::flush),
    row("fdb/show", "bridge", (1, 1), fdb::show),
    row("fdb/stats-clear", "[bridge]", (0, 1), fdb::stats_clear),
    row("fdb/stats-show", "bridge", (1, 1), fdb::stats_show),
    row("ofproto/list", "", (0, 0), dpif::list),
    row("ofproto/list-tunnels", "", (0, 0), tunnel::list),
    row("ofproto/trace", "{[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate|packet]", (1, MANY), trace::trace),
    row(
        "ofproto/trace-packet-out",
        "[-consistent] {[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate|packet] actions",
        (2, MANY),
        trace::trace_packet_out,
    ),
    row("ovs/route/add", "ip/plen output_bridge [gw] [pkt_mark=mark] [src=src_ip] [table=id]", (2, 6), route::add),
    row("ovs/route/del", "ip/plen [pkt_mark=mark] [table=id]", (1, 3), route::del),
    row("ovs/route/lookup", "ip_addr [pkt_mark=mark] [src=src_ip]", (1, 3), route::lookup),
    row("ovs/route/rule/add", "[-6] [not] from=all|ip/plen [prio=num] table=local|main|default|id", (2, 5), route::rule_add),
    row("ovs/route/rule/del", "[-6] [not] from=all|ip/plen [prio=num] table=local|main|default|id", (2, 5), route::rule_del),
    row("ovs/route/rule/show", "[-6]", (0, 1), route::rule_show),
    row("ovs/route/show", "[table=all|id]", (0, 1), route::show),
    hidden("revalidator/pause", (0, 0), upcall::pause),
    row("revalidator/purge", "", (0, 0), upcall::purge),
    hidden("revalidator/resume", (0, 0), upcall::resume),
    row("revalidator/wait", "", (0, 0), upcall::wait),
    row("tnl/arp/aging", "[SECS]", (0, 1), tunnel::neigh_aging),
    row("tnl/arp/flush", "", (0, 0), tunnel::neigh_flush),
    row("tnl/arp/set", "BRIDGE IP MAC", (3, 3), tunnel::neigh_set),
    row("tnl/arp/show", "", (0, 0), tunnel::neigh_show),
    row("tnl/egress_port_range", "min max", (0, 2), tunnel::egress_port_range),
    row("tnl/neigh/aging", "[SECS]", (0, 1), tunnel::neigh_aging),
    row("tnl/neigh/flush", "", (0, 0), tunnel::neigh_flush),
    row("tnl/neigh/set", "BRIDGE IP MAC", (3, 3), tunnel::neigh_set),
    row("tnl/neigh/show", "", (0, 0), tunnel::neigh_show),
    row("tnl/ports/show", "-v", (0, 1), tunnel::ports_show),
    row("upcall/disable-megaflows", "", (0, 0), upcall::disable_megaflows),
    row("upcall/disable-ufid", "", (0, 0), upcall::disable_ufid),
    row("upcall/enable-megaflows", "", (0, 0), upcall::enable_megaflows),
    row("upcall/enable-ufid", "", (0, 0), upcall::enable_ufid),
    row("upcall/set-flow-limit", "flow-limit-number", (1, 1), upcall::set_flow_limit),
    row("upcall/show", "", (0, 0), upcall::show),
];

impl Slowpath {
    /// Runs a command of `COMMANDS`; `None` if there is none of that name. Blocks as long as the command does.
    pub fn command(&self, name: &str, args: &[&str]) -> Option<Outcome> {
        let command = COMMANDS.iter().find(|c| c.name == name)?;
        if args.len() < command.min {
            return Some(Err(format!("\"{name}\" command requires at least {} arguments", command.min)));
        }
        if args.len() > command.max {
            return Some(Err(format!("\"{name}\" command takes at most {} arguments", command.max)));
        }
        Some((command.run)(self, args))
    }
}
