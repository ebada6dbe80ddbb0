//! Network namespaces: made under a unique name, removed when dropped, entered by a command or by a thread.

use super::{must, run};
use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A network namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    /// An empty one, loopback up. `what` is part of its name.
    pub(crate) fn new(what: &str) -> Self {
        let prefix = std::env::var("E2E_PREFIX").unwrap_or_else(|_| format!("fe{}", std::process::id()));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{prefix}-{number}-{what}");
        must(Command::new("ip").args(["netns", "add", &name]));
        let ns = Self { name };
        ns.ip("link set lo up");
        ns
    }

    /// A command that runs in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs words in it, which has to succeed.
    pub(crate) fn exec(&self, words: &str) -> String {
        let mut words = words.split_whitespace();
        must(self.command(words.next().unwrap()).args(words))
    }

    /// `ip` in it, which has to succeed.
    pub(crate) fn ip(&self, words: &str) -> String {
        must(Command::new("ip").args(["-n", &self.name]).args(words.split_whitespace()))
    }

    /// Calls `work` on a new thread that lives in this namespace; sockets made there belong to it.
    pub(crate) fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
        let file = File::open(format!("/var/run/netns/{}", self.name)).unwrap();
        std::thread::spawn(move || {
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        run(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

/// A namespace with one end of a veth pair in it, `eth0`; the other end is in the host's namespace.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) ns: Namespace,
    /// The name of the host's end.
    pub(crate) device: String,
    pub(crate) mac: String,
}

impl Container {
    /// Makes both; `device` names the host's end, and its last character makes the MAC address 02:00:00:00:00:0x (a = a, 1 = 1).
    pub(crate) fn new(host: &Namespace, device: &str, addresses: &[&str]) -> Self {
        let ns = Namespace::new(device);
        let last = device.chars().last().unwrap();
        let mac = format!("02:00:00:00:00:0{last}");
        must(Command::new("ip").args([
            "-n", &host.name, "link", "add", device, "type", "veth", "peer", "name", "eth0", "address", &mac, "netns", &ns.name,
        ]));
        // Nothing speaks unasked: no router solicitations, no duplicate address detection.
        for (ns, device) in [(host, device), (&ns, "eth0")] {
            ns.quiet(device);
            ns.ip(&format!("link set {device} up"));
        }
        for address in addresses {
            ns.ip(&format!("addr add {address} dev eth0 nodad"));
        }
        Self { ns, device: device.to_owned(), mac }
    }

    /// Pings; the number of answers out of `count`.
    pub(crate) fn ping(&self, target: &str, count: u32, more: &str) -> u64 {
        // Once an answer has come, ping waits for the others no longer than an interval, which few pings can have longer.
        let interval = (1.0 / f64::from(count)).clamp(0.02, 0.5).to_string();
        let ran = run(self
            .ns
            .command("ping")
            .args(["-q", "-c", &count.to_string(), "-i", &interval, "-W", "2"])
            .args(more.split_whitespace())
            .arg(target));
        let line = ran
            .out
            .lines()
            .find(|l| l.contains(" received"))
            .unwrap_or_else(|| panic!("ping {target} in {}: {}{}", self.ns.name, ran.out, ran.err));
        let field = line.split(", ").nth(1).unwrap();
        field.split(' ').next().unwrap().parse().unwrap()
    }

    /// Every one of a few pings is answered.
    #[track_caller]
    pub(crate) fn reaches(&self, target: &str) {
        // The first may be lost to a neighbour that is being resolved.
        assert!(self.ping(target, 1, "") == 1 || self.ping(target, 1, "") == 1, "{} does not reach {target}", self.device);
        assert_eq!(self.ping(target, 5, ""), 5, "{} loses pings to {target}", self.device);
    }

    /// No ping is answered.
    #[track_caller]
    pub(crate) fn does_not_reach(&self, target: &str) {
        let ran = run(self.ns.command("ping").args(["-q", "-c", "3", "-i", "0.05", "-W", "0.3", target]));
        assert!(
            ran.code != 0 && !ran.out.contains(" 0% packet loss"),
            "{} reaches {target}, and should not: {}",
            self.device,
            ran.out
        );
    }

    /// For Debian's daemon: its device makes checksums itself, which that daemon verifies and does not make.
    pub(crate) fn sums_for_stock(&self) {
        if super::is_stock() {
            self.ns.exec("ethtool -K eth0 tx off");
        }
    }

    /// A permanent neighbour entry.
    pub(crate) fn knows(&self, address: &str, mac: &str) {
        self.ns.ip(&format!("neigh replace {address} lladdr {mac} dev eth0 nud permanent"));
    }
}

impl Namespace {
    /// Keeps IPv6 of a device from sending anything by itself.
    pub(crate) fn quiet(&self, device: &str) {
        for (key, value) in [("router_solicitations", "0"), ("accept_dad", "0"), ("mldv2_unsolicited_report_interval", "0")] {
            let path = format!("/proc/sys/net/ipv6/conf/{device}/{key}");
            run(self.command("sh").args(["-c", &format!("echo {value} > {path}")]));
        }
    }
}
