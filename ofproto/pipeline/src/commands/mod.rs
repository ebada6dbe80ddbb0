//! Control commands of the slow path, with OVS's names and text: what `ovs-appctl` can ask of bridges, datapaths and upcalls.
//!
//! What enters: a command's name and arguments. What leaves: the reply, or the error as ovs-appctl shows it. `COMMANDS` is the
//! table; the daemon lists its rows beside its own. Neighbours: the daemon's control socket; `slowpath`.

mod bond;
mod bridge;
mod detrace;
mod dpctl;
mod dpctl_ct;
mod dpctl_flows;
mod dpctl_normal;
mod dpif;
mod fdb;
pub(crate) mod features;
#[cfg(test)]
mod later_tests;
mod links;
mod mdb;
mod qos;
mod route;
mod route_rules;
mod show;
#[cfg(test)]
mod tests;
pub(crate) mod trace;
mod tunnel;
mod upcall;
mod why;

use crate::slowpath::Slowpath;
use serde_json::Value;

/// What a command says: the reply, or the text of an error.
pub type Outcome = Result<String, String>;
/// What it says to a program, or the text of an error.
pub type JsonOutcome = Result<Value, String>;
type Run = fn(&Slowpath, &[&str]) -> Outcome;
type Json = fn(&Slowpath, &[&str]) -> JsonOutcome;

/// A row: name, usage (as `list-commands` prints it; `None` hides the command), least and most arguments, and what it does.
pub struct Command {
    pub name: &'static str,
    pub usage: Option<&'static str>,
    pub min: usize,
    pub max: usize,
    pub run: Run,
    /// The same as JSON, where a program has more of that than of the text.
    pub json: Option<Json>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Command({})", self.name)
    }
}

impl Command {
    const fn with_json(mut self, json: Json) -> Self {
        self.json = Some(json);
        self
    }
}

const fn row(name: &'static str, usage: &'static str, args: (usize, usize), run: Run) -> Command {
    Command { name, usage: Some(usage), min: args.0, max: args.1, run, json: None }
}

const fn hidden(name: &'static str, args: (usize, usize), run: Run) -> Command {
    Command { name, usage: None, min: args.0, max: args.1, run, json: None }
}

const MANY: usize = usize::MAX;

/// Every command of this room.
pub const COMMANDS: &[Command] = &[
    row("autoattach/show-isid", "[bridge]", (0, 1), links::autoattach_show_isid),
    row("autoattach/statistics", "[bridge]", (0, 1), links::autoattach_statistics),
    row("autoattach/status", "[bridge]", (0, 1), links::autoattach_status),
    row("bfd/set-forwarding", "[interface] normal|false|true", (1, 2), links::bfd_set_forwarding),
    row("bfd/show", "[interface]", (0, 1), links::bfd_show),
    row("bond/disable-member", "port member", (2, 2), bond::disable_member),
    hidden("bond/disable-slave", (2, 2), bond::disable_member),
    row("bond/enable-member", "port member", (2, 2), bond::enable_member),
    hidden("bond/enable-slave", (2, 2), bond::enable_member),
    row("bond/hash", "mac [vlan] [basis]", (1, 3), bond::hash),
    row("bond/list", "", (0, 0), bond::list),
    row("bond/migrate", "port hash member", (3, 3), bond::migrate),
    row("bond/set-active-member", "port member", (2, 2), bond::set_active_member),
    hidden("bond/set-active-slave", (2, 2), bond::set_active_member),
    row("bond/show", "[port]", (0, 1), bond::show),
    row("bridge/dump-flows", "[--offload-stats] bridge", (1, 2), bridge::dump_flows),
    row("cfm/set-fault", "[interface] normal|false|true", (1, 2), links::cfm_set_fault),
    row("cfm/show", "[interface]", (0, 1), links::cfm_show),
    row("dpctl/add-dp", "dp [iface...]", (1, MANY), dpctl::add_dp),
    row("dpctl/add-flow", "[dp] flow actions", (2, 3), dpctl_flows::add_flow),
    row("dpctl/add-flows", "[dp] file", (1, 2), dpctl_flows::add_flows),
    row("dpctl/add-if", "dp iface...", (2, MANY), dpctl::add_if),
    row("dpctl/cache-get-size", "[dp]", (0, 1), dpctl::cache_get_size),
    row("dpctl/cache-set-size", "dp cache <size>", (3, 3), dpctl::cache_set_size),
    row("dpctl/ct-bkts", "[dp] [gt=N]", (0, 2), dpctl_ct::buckets),
    row("dpctl/ct-del-limits", "[dp] [default] [zone=N1[,N2]...]", (1, 3), dpctl_ct::delete_limits),
    row("dpctl/ct-disable-tcp-seq-chk", "[dp]", (0, 1), dpctl_ct::disable_sequence),
    row("dpctl/ct-enable-tcp-seq-chk", "[dp]", (0, 1), dpctl_ct::enable_sequence),
    row("dpctl/ct-get-limits", "[dp] [zone=N1[,N2]...]", (0, 2), dpctl_ct::limits),
    row("dpctl/ct-get-maxconns", "[dp]", (0, 1), dpctl_ct::max),
    row("dpctl/ct-get-nconns", "[dp]", (0, 1), dpctl_ct::connections),
    row("dpctl/ct-get-sweep-interval", "[dp]", (0, 1), dpctl_ct::sweep_interval),
    row("dpctl/ct-get-tcp-seq-chk", "[dp]", (0, 1), dpctl_ct::sequence),
    row("dpctl/ct-set-limits", "[dp] [default=L] [zone=N,limit=L]...", (1, MANY), dpctl_ct::set_limits),
    row("dpctl/ct-set-maxconns", "[dp] maxconns", (1, 2), dpctl_ct::set_max),
    row("dpctl/ct-set-sweep-interval", "[dp] ms", (1, 2), dpctl_ct::set_sweep_interval),
    row("dpctl/ct-stats-show", "[dp] [zone=zone]", (0, 3), dpctl_ct::stats),
    row("dpctl/del-dp", "dp", (1, 1), dpctl::del_dp),
    row("dpctl/del-flow", "[dp] flow", (1, 2), dpctl_flows::del_flow),
    row("dpctl/del-flows", "[dp] [file]", (0, 2), dpctl_flows::del_flows),
    row("dpctl/del-if", "dp iface...", (2, MANY), dpctl::del_if),
    row("dpctl/dump-conntrack", "[-m] [-s] [dp] [zone=zone]", (0, 4), dpctl_ct::dump),
    row("dpctl/dump-conntrack-exp", "[dp] [zone=zone]", (0, 2), dpctl_ct::dump_expectations),
    row("dpctl/dump-dps", "", (0, 0), dpctl::dump_dps),
    row("dpctl/dump-flows", "[-m] [--names] [dp] [filter=..] [type=..] [pmd=..]", (0, 6), dpctl_flows::dump_flows),
    row(
        "dpctl/flush-conntrack",
        "[dp] [zone=zone] [mark=X[/M]] [labels=Y[/N]] [ct-orig-tuple [ct-reply-tuple]]",
        (0, 6),
        dpctl_ct::flush,
    ),
    row("dpctl/get-flow", "[dp] ufid", (1, 2), dpctl_flows::get_flow),
    row("dpctl/ipf-get-status", "[dp]", (0, 2), dpctl_ct::fragments),
    row("dpctl/ipf-set-disabled", "[dp] v4|v6", (1, 2), dpctl_ct::fragments_off),
    row("dpctl/ipf-set-enabled", "[dp] v4|v6", (1, 2), dpctl_ct::fragments_on),
    row("dpctl/ipf-set-max-nfrags", "[dp] maxfrags", (1, 2), dpctl_ct::fragments_max),
    row("dpctl/ipf-set-min-frag", "[dp] v4|v6 minfragment", (2, 3), dpctl_ct::fragment_min),
    row("dpctl/list-commands", "", (0, 0), dpctl::list_commands),
    row("dpctl/mod-flow", "[dp] flow actions", (2, 3), dpctl_flows::mod_flow),
    row("dpctl/mod-flows", "[dp] file", (1, 2), dpctl_flows::mod_flows),
    row("dpctl/normalize-actions", "flow actions [name=number...]", (2, MANY), dpctl_normal::normalize),
    row("dpctl/offload-stats-show", "[dp]", (0, 1), dpctl::offload_stats_show),
    row("dpctl/parse-actions", "actions", (1, MANY), dpctl_flows::parse_and_format),
    row("dpctl/set-if", "dp iface...", (2, MANY), dpctl::set_if),
    row("dpctl/show", "[-s] [dp...]", (0, MANY), dpctl::show),
    row("dpif/dump-dps", "", (0, 0), dpif::dump_dps),
    row("dpif/dump-flows", "[-m] [--names | --no-names] bridge", (1, 3), dpif::dump_flows),
    row("dpif/set-dp-features", "[--force] bridge [feature [value]]", (1, 4), features::set),
    row("dpif/show", "", (0, 0), dpif::show).with_json(dpif::show_json),
    row("dpif/show-dp-features", "bridge", (1, 1), features::show),
    row("fdb/add", "bridge port vlan mac", (4, 4), fdb::add),
    row("fdb/del", "bridge vlan mac", (3, 3), fdb::del),
    row("fdb/flush", "[bridge]", (0, 1), fdb::flush),
    row("fdb/show", "[bridge]...", (0, MANY), fdb::show).with_json(fdb::show_json),
    row("fdb/stats-clear", "[bridge]", (0, 1), fdb::stats_clear),
    row("fdb/stats-show", "bridge", (1, 1), fdb::stats_show),
    row("lacp/show", "[port]", (0, 1), links::lacp_show),
    row("lacp/show-stats", "[port]", (0, 1), links::lacp_show_stats),
    row("mdb/flush", "[bridge]", (0, 1), mdb::flush),
    row("mdb/show", "bridge", (1, 1), mdb::show),
    row("ofproto/detrace", "UFID [pmd=PMD-ID]", (1, 2), detrace::detrace),
    row("ofproto/list", "", (0, 0), dpif::list),
    row("ofproto/list-tunnels", "", (0, 0), tunnel::list),
    row("ofproto/trace", "{[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate|packet]", (1, MANY), trace::trace),
    row(
        "ofproto/trace-packet-out",
        "[-consistent] {[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate|packet] actions",
        (2, MANY),
        trace::trace_packet_out,
    ),
    row("ofproto/why", "[counter | bridge [port [br_flow]]]", (0, 3), why::why),
    row("ovs/route/add", "ip/plen output_bridge [gw] [pkt_mark=mark] [src=src_ip] [table=id]", (2, 6), route::add),
    row("ovs/route/del", "ip/plen [pkt_mark=mark] [table=id]", (1, 3), route::del),
    row("ovs/route/lookup", "ip_addr [pkt_mark=mark] [src=src_ip]", (1, 3), route::lookup),
    row("ovs/route/rule/add", "[-6] [not] from=all|ip/plen [prio=num] table=local|main|default|id", (2, 5), route_rules::add),
    row("ovs/route/rule/del", "[-6] [not] from=all|ip/plen [prio=num] table=local|main|default|id", (2, 5), route_rules::del),
    row("ovs/route/rule/show", "[-6]", (0, 1), route_rules::show).with_json(route_rules::show_json),
    row("ovs/route/show", "[table=all|id]", (0, 1), route::show).with_json(route::show_json),
    row("qos/show", "interface", (1, 1), qos::show),
    row("qos/show-types", "interface", (1, 1), qos::show_types),
    hidden("revalidator/pause", (0, 0), upcall::pause),
    row("revalidator/purge", "", (0, 0), upcall::purge),
    hidden("revalidator/resume", (0, 0), upcall::resume),
    row("revalidator/wait", "", (0, 0), upcall::wait),
    row("rstp/show", "[bridge]", (0, 1), links::rstp_show),
    row("rstp/tcn", "[bridge]", (0, 1), links::rstp_tcn),
    row("stp/show", "[bridge]", (0, 1), links::stp_show),
    row("stp/tcn", "[bridge]", (0, 1), links::stp_tcn),
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
        Some(command.check(args).and_then(|()| (command.run)(self, args)))
    }

    /// The same for who wants JSON; `None` also where a command has none of its own.
    pub fn command_json(&self, name: &str, args: &[&str]) -> Option<JsonOutcome> {
        let command = COMMANDS.iter().find(|c| c.name == name)?;
        let json = command.json?;
        Some(command.check(args).and_then(|()| json(self, args)))
    }
}

impl Command {
    /// Whether there are as many arguments as it takes.
    fn check(&self, args: &[&str]) -> Result<(), String> {
        let (name, min, max) = (self.name, self.min, self.max);
        if args.len() < min {
            return Err(format!("\"{name}\" command requires at least {min} arguments"));
        }
        if args.len() > max {
            return Err(format!("\"{name}\" command takes at most {max} arguments"));
        }
        Ok(())
    }
}
