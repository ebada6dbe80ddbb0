//! One switch under measurement, ours or the peer, in a network namespace of its own: the same words mean the same on either side.
//!
//! What enters: configuration as an operator would give it. What leaves: rates of the forwarding core. Neighbours: `peer` (what is
//! different about OVS-DPDK), `scenario` (who builds), `measure` (who lets sides take turns).

use crate::lab::Lab;
use crate::process::{Process, rest, run, threads, wait_until, waited_ns};
use crate::unixctl::Unixctl;
use crate::{BenchError, lab, peer, rules};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Megaflows that are listed to count their masks.
const LISTED_MAX: u64 = 50_000;
/// How long a daemon may take to come up.
const START: Duration = Duration::from_secs(20);

/// Whose switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Ours,
    /// Debian's OVS-DPDK.
    Peer,
}

/// What a switch is started with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// `Open_vSwitch.other_config` of ours.
    pub ours: &'static [&'static str],
    /// `Open_vSwitch.other_config` of the peer.
    pub peer: &'static [&'static str],
    /// Packets of the largest file that is replayed: they lie in the peer's own buffers.
    pub replayed: u32,
    /// Forwarding threads do not hold their core by real-time priority.
    pub idle: bool,
    /// Its threads may run on any core, and its forwarding thread is not pinned.
    pub free: bool,
}

/// What the forwarding core did in one turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Millions of packets received per second.
    pub mpps: f64,
    /// Cycles of the forwarding core per packet.
    pub cycles: f64,
}

/// A running switch.
#[derive(Debug)]
pub struct Side {
    pub whose: Whose,
    pub dir: PathBuf,
    daemon: Process,
    /// The peer's database server.
    _database: Option<Process>,
    ctl: Unixctl,
    tools: Tools,
    /// The sources: name and port, by which their packets are counted.
    pub sources: Vec<String>,
    pmd: Vec<u32>,
    replayed: u32,
}

/// Which command-line tools are used.
#[derive(Clone, Debug)]
pub struct Tools {
    ferrule: Option<PathBuf>,
    dir: PathBuf,
}

impl Tools {
    /// Debian's where they are, for both sides; ours otherwise.
    pub(crate) fn new(lab: &Lab, dir: &Path) -> Self {
        if Self::debian_has_them() { Self::of(lab, dir, Whose::Peer) } else { Self::of(lab, dir, Whose::Ours) }
    }

    /// Those that come with a switch.
    pub(crate) fn of(lab: &Lab, dir: &Path, whose: Whose) -> Self {
        Self { ferrule: (whose == Whose::Ours).then(|| lab.build.join("ferrule")), dir: dir.to_owned() }
    }

    pub(crate) fn debian_has_them() -> bool {
        ["/usr/bin/ovs-vsctl", "/usr/bin/ovs-ofctl"].iter().all(|p| Path::new(p).exists())
    }

    /// One of them, pointed at this side's folder.
    #[must_use]
    pub fn command(&self, tool: &str) -> Command {
        let mut command = match &self.ferrule {
            Some(ferrule) => {
                let mut command = Command::new(ferrule);
                command.arg(tool);
                command
            }
            None => Command::new(format!("ovs-{tool}")),
        };
        environment(&mut command, &self.dir);
        command
    }

    /// `ovs-ofctl -O OpenFlow13`.
    pub(crate) fn ofctl(&self, args: &[&str]) -> Result<String, BenchError> {
        run(self.command("ofctl").args(["-O", "OpenFlow13"]).args(args))
    }
}

pub(crate) fn environment(command: &mut Command, dir: &Path) {
    for name in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
        command.env(name, dir);
    }
}

impl Side {
    /// Starts a switch with bridge br0, without ports.
    pub fn start(lab: &mut Lab, whose: Whose, setup: &Setup) -> Result<Self, BenchError> {
        let name = match whose {
            Whose::Ours => "ours",
            Whose::Peer => "peer",
        };
        Self::start_named(lab, whose, name, setup)
    }

    /// Starts a switch whose br0 has a sink at a port, and rules in a file of that name.
    pub fn with_rules(
        lab: &mut Lab,
        whose: Whose,
        setup: &Setup,
        sink: u32,
        (name, rules): (&str, &str),
    ) -> Result<Self, BenchError> {
        let side = Self::start(lab, whose, setup)?;
        side.sink("br0", sink)?;
        side.add_flows("br0", &rules::write(lab.dir(), name, rules)?)?;
        Ok(side)
    }

    /// `start` in a folder of that name: two of ours at once need two.
    pub fn start_named(lab: &mut Lab, whose: Whose, name: &str, setup: &Setup) -> Result<Self, BenchError> {
        let dir = lab.dir().join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(BenchError::io("the last switch's folder"))?;
        }
        fs::create_dir_all(&dir).map_err(BenchError::io("a switch's folder"))?;
        let (daemon, database) = match whose {
            Whose::Ours => (start_ours(lab, &dir, setup.free)?, None),
            Whose::Peer => peer::start(lab, &dir, setup).map(|(daemon, database)| (daemon, Some(database)))?,
        };
        let path = dir.join(format!("{}.{}.ctl", peer::program(whose), daemon.pid()));
        // The path is there before its owner listens: only a connection tells.
        let mut ctl = None;
        wait_until("the switch's control socket", START, || {
            ctl = Unixctl::connect(&path).ok();
            ctl.is_some() && dir.join("db.sock").exists()
        })?;
        let (ctl, tools) = (ctl.expect("waited for"), Tools::new(lab, &dir));
        let mut side = Self {
            whose,
            dir,
            daemon,
            _database: database,
            ctl,
            tools,
            sources: Vec::new(),
            pmd: Vec::new(),
            replayed: setup.replayed,
        };
        side.configure(lab, setup)?;
        Ok(side)
    }

    fn configure(&mut self, lab: &Lab, setup: &Setup) -> Result<(), BenchError> {
        if self.whose == Whose::Ours && !setup.free {
            let mask = format!("other_config:pmd-cpu-mask={:x}", 1u64 << lab.cores.forward);
            let mut args = vec!["set", "Open_vSwitch", ".", &mask];
            args.extend(setup.ours);
            self.vsctl(&args)?;
        }
        self.bridge("br0", &[])?;
        let pid = self.daemon.pid();
        wait_until("the forwarding thread", START, || !threads(pid, "pmd-c").is_empty() || self.whose == Whose::Peer)?;
        if !setup.idle {
            self.hold_core(lab)?;
        }
        Ok(())
    }

    /// Gives the forwarding threads that there are now their core for themselves.
    fn hold_core(&mut self, lab: &Lab) -> Result<(), BenchError> {
        self.pmd = threads(self.daemon.pid(), "pmd-c");
        self.pmd.iter().try_for_each(|tid| lab.hold_core(*tid))
    }

    /// The daemon's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// A command that runs in this switch's network namespace.
    #[must_use]
    pub fn command_inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid().to_string(), "-n", program]);
        command
    }

    /// Which tools are used.
    #[must_use]
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// `ovs-vsctl`.
    pub fn vsctl(&self, args: &[&str]) -> Result<String, BenchError> {
        let db = format!("--db=unix:{}", self.dir.join("db.sock").display());
        run(self.tools.command("vsctl").args([&db, "--timeout=60"]).args(args))
    }

    /// `ovs-ofctl -O OpenFlow13`.
    pub fn ofctl(&self, args: &[&str]) -> Result<String, BenchError> {
        self.tools.ofctl(args)
    }

    /// Checks how many rules br0 has.
    pub(crate) fn expect_flows(&self, expect: u64) -> Result<(), BenchError> {
        let text = self.ofctl(&["dump-aggregate", "br0"])?;
        match number_after(&text, "flow_count=") {
            Some(n) if n == expect => Ok(()),
            n => Err(BenchError::Wrong(format!("{n:?} flows instead of {expect}"))),
        }
    }

    /// Another connection to the control socket, for a thread of its own.
    pub fn another_ctl(&self) -> Result<Unixctl, BenchError> {
        Unixctl::connect(&self.dir.join(format!("{}.{}.ctl", peer::program(self.whose), self.daemon.pid())))
    }

    /// `ovs-appctl`.
    pub fn appctl(&mut self, command: &str, args: &[&str]) -> Result<String, BenchError> {
        self.ctl.call(command, args)
    }

    /// Adds a bridge without rules.
    pub fn bridge(&self, name: &str, settings: &[&str]) -> Result<(), BenchError> {
        let mut args = vec!["add-br", name, "--", "set", "bridge", name, "datapath_type=netdev", "fail_mode=secure"];
        args.extend(settings);
        self.vsctl(&args).map(drop)
    }

    /// Adds a port with the OpenFlow number wished for.
    pub fn port(&self, bridge: &str, name: &str, number: u32, settings: &[&str]) -> Result<(), BenchError> {
        let number = format!("ofport_request={number}");
        let mut args = vec!["add-port", bridge, name, "--", "set", "interface", name, &number];
        args.extend(settings);
        self.vsctl(&args)?;
        let error = self.vsctl(&["get", "interface", name, "error"])?;
        match error.trim() {
            "[]" => Ok(()),
            error => Err(BenchError::Wrong(format!("port {name}: {error}"))),
        }
    }

    /// Adds a port that replays a file for ever.
    pub fn source(&mut self, lab: &Lab, bridge: &str, number: u32, pcap: &Path) -> Result<(), BenchError> {
        let name = format!("src{number}");
        match self.whose {
            Whose::Ours => {
                let file = format!("options:pcap={}", pcap.display());
                self.port(bridge, &name, number, &["type=memory", &file])?;
            }
            Whose::Peer => peer::source(self, bridge, &name, number, pcap, self.replayed)?,
        }
        self.sources.push(name);
        if !self.pmd.is_empty() || self.whose == Whose::Peer {
            self.hold_core(lab)?;
        }
        Ok(())
    }

    /// Adds a port that frees what it is given.
    pub fn sink(&self, bridge: &str, number: u32) -> Result<(), BenchError> {
        let name = format!("snk{number}");
        match self.whose {
            Whose::Ours => self.port(bridge, &name, number, &["type=memory"]),
            Whose::Peer => peer::sink(self, bridge, &name, number),
        }
    }

    /// Adds a file's rules.
    pub fn add_flows(&self, bridge: &str, file: &Path) -> Result<(), BenchError> {
        self.ofctl(&["add-flows", bridge, &file.display().to_string()]).map(drop)
    }

    /// Stops it, or lets it go on.
    pub fn pause(&self, pause: bool) {
        self.daemon.pause(pause);
    }

    /// What the forwarding core does for a while: the figures, and the share of the time that it had to wait for its core.
    pub fn sample(&mut self, time: Duration) -> Result<(Sample, f64), BenchError> {
        let (start, waited) = (Instant::now(), waited_ns(self.pid(), &self.pmd));
        let sample = match self.whose {
            Whose::Ours => self.sample_ours(time)?,
            Whose::Peer => peer::sample(self, time)?,
        };
        let waited = waited_ns(self.pid(), &self.pmd).saturating_sub(waited);
        Ok((sample, Duration::from_nanos(waited).as_secs_f64() / start.elapsed().as_secs_f64()))
    }

    fn sample_ours(&mut self, time: Duration) -> Result<Sample, BenchError> {
        let before = self.received()?;
        rest(time)?;
        let after = self.received()?;
        let mpps = (after.packets - before.packets) / (after.at - before.at).as_secs_f64() / 1e6;
        Ok(Sample { mpps, cycles: if mpps > 0.0 { lab::tsc_hz() / mpps / 1e6 } else { 0.0 } })
    }

    /// What all sources together have received.
    pub fn received(&mut self) -> Result<Count, BenchError> {
        let names = self.sources.clone();
        let asked = Instant::now();
        let text = self.appctl("dpctl/show", &["-s"])?;
        let at = asked + asked.elapsed() / 2;
        let packets = names.iter().map(|name| rx_packets(&text, name)).sum::<Option<u64>>();
        let packets = packets.ok_or(BenchError::Answer { from: "dpctl/show -s", what: "RX packets", text })?;
        #[allow(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
        Ok(Count { packets: packets as f64, at })
    }

    /// How many megaflows there are.
    pub fn n_megaflows(&mut self) -> Result<u64, BenchError> {
        let text = self.appctl("dpctl/show", &[])?;
        number_after(&text, "flows:").ok_or(BenchError::Answer { from: "dpctl/show", what: "flows", text })
    }

    /// How many distinct masks the megaflows have that took traffic (`None`: too many to list), and how many megaflows there are.
    pub fn megaflows(&mut self) -> Result<(Option<u64>, u64), BenchError> {
        let flows = self.n_megaflows()?;
        let masks = (flows <= LISTED_MAX).then(|| self.appctl("dpctl/dump-flows", &["-m"])).transpose()?;
        Ok((masks.map(|text| distinct_masks(&text)), flows))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // Ports and netdevs are taken down by the daemon itself; if it does not answer, the process's handle ends it.
        self.daemon.pause(false);
        let _ = self.ctl.call("exit", &["--cleanup"]);
        self.daemon.wait(Duration::from_secs(10));
    }
}

/// A count and when it was true.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    pub packets: f64,
    pub at: Instant,
}

/// The received packets of a port in `dpctl/show -s`.
#[must_use]
pub fn rx_packets(text: &str, port: &str) -> Option<u64> {
    let from = text.find(&format!(": {port} ("))?;
    number_after(&text[from..], "RX packets:")
}

/// The number that follows a label.
#[must_use]
pub fn number_after(text: &str, label: &str) -> Option<u64> {
    let rest = text[text.find(label)? + label.len()..].trim_start();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// The distinct masks among the megaflows of `dpctl/dump-flows -m` that took traffic.
fn distinct_masks(text: &str) -> u64 {
    let taken = text.lines().filter(|l| l.contains("actions:") && !l.contains("packets:0,"));
    let masks = taken.map(|line| {
        let key = line.split(", packets:").next().unwrap_or(line);
        without_values(key.split_once(", ").map_or(key, |(_, key)| key))
    });
    masks.collect::<BTreeSet<_>>().len() as u64
}

/// A flow's text with every value replaced by its mask, or by nothing where it is exact.
fn without_values(key: &str) -> String {
    let mut out = String::new();
    for token in key.split_inclusive(['=', '(', ')', ',']) {
        let (value, end) = token.split_at(token.len() - usize::from(token.ends_with(['=', '(', ')', ','])));
        if end == "=" || end == "(" {
            out.push_str(value);
        } else if let Some((_, mask)) = value.split_once('/') {
            out.push('/');
            out.push_str(mask);
        }
        out.push_str(end);
    }
    out
}

fn start_ours(lab: &Lab, dir: &Path, free: bool) -> Result<Process, BenchError> {
    let mut command = if free { lab::any_core("unshare") } else { Command::new("unshare") };
    environment(&mut command, dir);
    command.arg("--net").arg(lab.build.join("ovs-vswitchd")).args(["--embedded-db", "--no-chdir", "-vconsole:off", "--pidfile"]);
    command.arg(format!("--log-file={}", dir.join("ovs-vswitchd.log").display()));
    Process::start(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_what_the_switch_says() {
        let text =
            "  port 2: snk2 (memory)\n    RX packets:7 errors:0\n  port 3: src1 (memory: pcap=x)\n    RX packets:885 errors:0\n";
        assert_eq!((rx_packets(text, "src1"), rx_packets(text, "src")), (Some(885), None));
        let flows = "ufid:1, in_port(a),eth(src=1/ff),ipv4(frag=no), packets:3, actions:b\n\
                     ufid:2, in_port(c),eth(src=2/ff),ipv4(frag=no), packets:3, actions:b\n\
                     ufid:3, in_port(c),eth(src=2/fe),ipv4(frag=no), packets:3, actions:b\n\
                     ufid:4, in_port(c),eth(src=2),ipv4(frag=no), packets:0, actions:b\n";
        assert_eq!(distinct_masks(flows), 2);
    }
}
