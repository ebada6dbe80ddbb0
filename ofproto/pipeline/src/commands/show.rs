//! What several commands show: a megaflow as a line, names of datapath ports, counters.

use flow::action_text::format_actions;
use flow::clock::now_ms;
use flow::dptext::format_flow;
use flow::forms::PortNames;
use flow::hash::Map;
use flow::seam::{Datapath, FlowDump, FlowStats, Placement, PortInfo};
use std::fmt::Write;

/// Names of a datapath's ports, both ways.
#[derive(Debug, Default)]
pub(super) struct DpPortNames {
    names: Map<u32, String>,
    numbers: Map<String, u32>,
    /// Whether numbers print as names.
    print: bool,
}

impl DpPortNames {
    /// As the datapath has them now. Names are always understood; they are printed only if `print`.
    pub(super) fn of(dp: &dyn Datapath, print: bool) -> Self {
        let mut this = Self { print, ..Self::default() };
        for port in dp.ports() {
            this.numbers.insert(port.name.clone(), port.number.0);
            this.names.insert(port.number.0, port.name);
        }
        this
    }
}

impl PortNames for DpPortNames {
    fn name(&self, port: u32) -> Option<String> {
        self.names.get(&port).filter(|_| self.print).cloned()
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }
}

/// How a megaflow is shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FlowStyle {
    /// `-m`: the ufid, and what is not matched.
    pub verbose: bool,
    /// dpctl's form: a comma after the ufid, and where the flow lies.
    pub dpctl: bool,
}

/// One line, without its end.
pub(super) fn flow_line(dump: &FlowDump, style: FlowStyle, ports: &dyn PortNames) -> String {
    let mut line = String::new();
    if style.verbose {
        let comma = if style.dpctl { "," } else { "" };
        write(&mut line, format_args!("ufid:{}{comma} ", dump.flow.ufid));
    }
    let key = dump.unmasked.as_ref().unwrap_or(&dump.flow.key);
    line.push_str(&format_flow(key, &dump.flow.mask, style.verbose, ports));
    write(&mut line, format_args!(", {}", stats_text(&dump.stats)));
    if style.verbose && style.dpctl {
        match &dump.placement {
            Placement::Software => line.push_str(", dp:ovs"),
            Placement::Hardware(provider) => write(&mut line, format_args!(", offloaded:yes, dp:{provider}")),
            Placement::Declined(why) => write(&mut line, format_args!(", dp:ovs, offload-reason:{why}")),
        }
    }
    write(&mut line, format_args!(", actions:{}", format_actions(&dump.flow.actions, ports)));
    line
}

/// `packets:0, bytes:0, used:never`
pub(super) fn stats_text(stats: &FlowStats) -> String {
    let mut text = format!("packets:{}, bytes:{}, used:", stats.packets, stats.bytes);
    if stats.used_ms == 0 {
        text.push_str("never");
    } else {
        let ago = now_ms() - stats.used_ms;
        let sign = if ago < 0 { "-" } else { "" };
        let ago = ago.unsigned_abs();
        write(&mut text, format_args!("{sign}{}.{:03}s", ago / 1000, ago % 1000));
    }
    if stats.tcp_flags != 0 {
        write(&mut text, format_args!(", flags:{}", tcp_flags(stats.tcp_flags)));
    }
    text
}

/// As tcpdump writes them: `SF.`
fn tcp_flags(flags: u16) -> String {
    const LETTERS: [(u16, &str); 12] = [
        (0x002, "S"),
        (0x001, "F"),
        (0x008, "P"),
        (0x004, "R"),
        (0x020, "U"),
        (0x010, "."),
        (0x040, "E"),
        (0x080, "C"),
        (0x100, "N"),
        (0x200, "[200]"),
        (0x400, "[400]"),
        (0x800, "[800]"),
    ];
    LETTERS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, letter)| *letter).collect()
}

/// `(dummy: a=b, c=d)`: the type of a port and what its device is configured with.
pub(super) fn device_text(datapath: &str, kind: &str, options: &[(String, String)]) -> String {
    let mut text = format!("({}", device_kind(datapath, kind));
    for (n, (key, value)) in told_options(kind, options).into_iter().enumerate() {
        write(&mut text, format_args!("{} {key}={value}", if n == 0 { ':' } else { ',' }));
    }
    text.push(')');
    text
}

/// The type as the datapath has it: in userspace a bridge's own port is a tap.
pub(super) fn device_kind<'a>(datapath: &str, kind: &'a str) -> &'a str {
    if (datapath, kind) == ("netdev", "internal") { "tap" } else { kind }
}

/// The options that are shown, sorted. A dummy does not tell where it records (OVS has forgotten the names).
pub(super) fn told_options<'a>(kind: &str, options: &'a [(String, String)]) -> Vec<&'a (String, String)> {
    let told = |key: &str| !kind.starts_with("dummy") || !matches!(key, "pcap" | "rxq_pcap" | "tx_pcap");
    let mut options: Vec<_> = options.iter().filter(|(key, _)| told(key)).collect();
    options.sort();
    options
}

/// The ports in order of number.
pub(super) fn sorted_ports(dp: &dyn Datapath) -> Vec<PortInfo> {
    let mut ports = dp.ports();
    ports.sort_by_key(|p| p.number);
    ports
}

/// Writes to a string.
pub(super) fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string does not fail");
}
