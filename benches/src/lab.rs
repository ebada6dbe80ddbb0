//! Where the measurements happen: a network and mount namespace of our own, two cores, a folder, and huge pages that are given back.

use crate::BenchError;
use crate::process::{self, run};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

const PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
/// Pages beyond what was asked for: DPDK takes some for itself, and other programs that start meanwhile take what is free.
const PAGES_SPARE: u64 = 256;

/// Which core does what.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    /// The forwarding core.
    pub forward: usize,
    /// Everything else.
    pub rest: usize,
}

/// What all measurements of a run share. Dropping it gives the huge pages back and removes the folder.
#[derive(Debug)]
pub struct Lab {
    pub cores: Cores,
    /// Daemon, tools of ours: the release build's folder.
    pub build: PathBuf,
    dir: tempfile::TempDir,
    pages_before: u64,
    hugetlbfs: bool,
}

impl Lab {
    /// Enters namespaces of our own, on the core that does not forward.
    pub fn enter(build: PathBuf, cores: Cores) -> Result<Self, BenchError> {
        for program in ["ovs-vswitchd", "ferrule"] {
            let path = build.join(program);
            if !path.exists() {
                return Err(BenchError::Missing { path, hint: "build it: make build" });
            }
        }
        let system = |what: &'static str| move |e: nix::Error| BenchError::Io { what: what.to_owned(), source: e.into() };
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).map_err(system("namespaces (root is needed)"))?;
        run(Command::new("mount").args(["--make-rprivate", "/"]))?;
        run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        let mut set = CpuSet::new();
        set.set(cores.rest).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)).map_err(system("the core for the rest"))?;
        let dir = tempfile::Builder::new().prefix("ferrule-bench.").tempdir().map_err(BenchError::io("a temporary folder"))?;
        Ok(Self { cores, build, dir, pages_before: pages("nr_hugepages") - pages("surplus_hugepages"), hugetlbfs: false })
    }

    /// The folder for everything of this run.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Makes sure that so much memory in huge pages is free; the folder of their file system.
    pub fn huge_pages(&mut self, mib: u64) -> Result<PathBuf, BenchError> {
        let mount = self.dir().join("huge");
        if !self.hugetlbfs {
            fs::create_dir_all(&mount).map_err(BenchError::io("the huge pages' folder"))?;
            run(Command::new("mount").args(["-t", "hugetlbfs", "-o", "pagesize=2M", "hugetlbfs"]).arg(&mount))?;
            self.hugetlbfs = true;
        }
        let want = mib.div_ceil(2) + PAGES_SPARE;
        let free = pages("free_hugepages");
        if free < want {
            set_pages(pages("nr_hugepages") + want - free)?;
        }
        let got = pages("free_hugepages");
        if got < want {
            return Err(BenchError::Wrong(format!("{mib} MiB of huge pages are needed, {} are to be had", got * 2)));
        }
        Ok(mount)
    }

    /// Gives a thread real-time priority, so that nothing takes the forwarding core away from it.
    pub fn hold_core(&self, tid: u32) -> Result<(), BenchError> {
        run(Command::new("chrt").args(["-f", "-p", "50", &tid.to_string()])).map(drop)
    }
}

const RT_RUNTIME: &str = "/proc/sys/kernel/sched_rt_runtime_us";

/// While it lives, threads of real-time priority may have all of their core: the kernel takes nothing back (sched(7)). Dropping it, also in a
/// panic or when a signal ends the run, sets the limit as it was.
#[derive(Debug)]
pub struct Unthrottled {
    before: String,
}

impl Unthrottled {
    /// Lifts the limit; where we may not, measuring goes on with it, and that is said.
    #[must_use]
    pub fn lift() -> Option<Self> {
        let before = fs::read_to_string(RT_RUNTIME).ok()?;
        if before.trim() == "-1" {
            eprintln!("bench: {RT_RUNTIME} is -1 already, and stays so");
            return None;
        }
        match fs::write(RT_RUNTIME, "-1") {
            Ok(()) => Some(Self { before }),
            Err(error) => {
                eprintln!("bench: the kernel keeps its share of the forwarding core: {RT_RUNTIME}: {error}");
                None
            }
        }
    }
}

impl Drop for Unthrottled {
    fn drop(&mut self) {
        if let Err(error) = fs::write(RT_RUNTIME, self.before.trim()) {
            eprintln!("bench: {RT_RUNTIME} is not back at {}: {error}", self.before.trim());
        }
    }
}

fn pages(name: &str) -> u64 {
    fs::read_to_string(format!("{PAGES}/{name}")).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0)
}

fn set_pages(n: u64) -> Result<(), BenchError> {
    fs::write(format!("{PAGES}/nr_hugepages"), n.to_string()).map_err(BenchError::io("the number of huge pages"))
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.hugetlbfs {
            let _ = run(Command::new("umount").arg(self.dir().join("huge")));
            // Pages in use become surplus and go when their user has gone: they are back only after that.
            for _ in 0..100 {
                if pages("nr_hugepages") == self.pages_before || set_pages(self.pages_before).is_err() {
                    break;
                }
                sleep(Duration::from_millis(100));
            }
            if pages("nr_hugepages") != self.pages_before {
                eprintln!("bench: huge pages are not back at {}", self.pages_before);
            }
        }
    }
}

/// Cycles per second of the time stamp counter: half the kernel's BogoMIPS where that is made from it (every x86-64 with an invariant
/// one); 0 where nobody says.
#[must_use]
pub fn tsc_hz() -> f64 {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of = |line: &str| line.strip_prefix("bogomips")?.split(':').nth(1)?.trim().parse::<f64>().ok();
    text.lines().find_map(of).unwrap_or(0.0) / 2.0 * 1e6
}

/// A command that may use every core, whatever we are bound to.
#[must_use]
pub fn any_core(program: &str) -> Command {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = text.lines().filter(|l| l.starts_with("processor")).count().max(1);
    let mut command = Command::new("taskset");
    command.args(["-c", &format!("0-{}", cores - 1), program]);
    command
}

/// A namespace held by a sleeping process: a host of the veth scenarios.
#[derive(Debug)]
pub struct Host {
    holder: process::Process,
}

impl Host {
    /// A new one.
    pub fn new() -> Result<Self, BenchError> {
        let holder = process::Process::start(Command::new("unshare").args(["--net", "sleep", "3600"]))?;
        let own = fs::read_link("/proc/self/ns/net").map_err(BenchError::io("/proc/self/ns/net"))?;
        let entered = format!("/proc/{}/ns/net", holder.pid());
        process::wait_until("a namespace", Duration::from_secs(5), || fs::read_link(&entered).is_ok_and(|ns| ns != own))?;
        Ok(Self { holder })
    }

    /// A command that runs there, on any core: containers are not bound to one elsewhere either.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = any_core("nsenter");
        command.args(["-t", &self.pid(), "-n", program]);
        command
    }

    /// The process that holds it.
    #[must_use]
    pub fn pid(&self) -> String {
        self.holder.pid().to_string()
    }
}
