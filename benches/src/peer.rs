//! What is different about Debian's OVS-DPDK: how it is started, how frames are replayed, how its core is asked.
//!
//! A private ovsdb-server and ovs-vswitchd-dpdk, one PMD thread, all settings stock. Source: a `net_pcap` port with
//! `infinite_rx=1`: the frames lie in buffers of the pool from the start, and each receive allocates buffers and copies frames
//! into them. Sink: `net_null` with `no-rx=1`. The figure is `dpif-netdev/pmd-perf-show` after `pmd-stats-clear`.

use crate::BenchError;
use crate::lab::Lab;
use crate::process::{Process, rest, run, wait_until};
use crate::side::{Sample, Setup, Side, Tools, Whose, environment};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const DAEMON: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
/// Memory for small files, and for those that need `per-port-memory`.
const MEMORY_MIB: u64 = 1024;
const MEMORY_LARGE_MIB: u64 = 5120;
/// Frames that fit the shared pool.
const SHARED_POOL_MAX: u32 = 200_000;
const START: Duration = Duration::from_secs(30);

/// What the daemon's control socket is named after.
#[must_use]
pub fn program(whose: Whose) -> &'static str {
    match whose {
        Whose::Ours => "ovs-vswitchd",
        Whose::Peer => "ovs-vswitchd-dpdk",
    }
}

/// Whether its packages are installed.
#[must_use]
pub fn is_installed() -> bool {
    Path::new(DAEMON).exists()
}

/// Starts the database server and the daemon.
pub(crate) fn start(lab: &mut Lab, dir: &Path, setup: &Setup) -> Result<(Process, Process), BenchError> {
    if !is_installed() {
        return Err(BenchError::Missing { path: DAEMON.into(), hint: "install it: make bench PEER=1" });
    }
    let large = setup.replayed > SHARED_POOL_MAX;
    let mib = if large { MEMORY_LARGE_MIB } else { MEMORY_MIB };
    let huge = lab.huge_pages(mib)?;
    let (db, socket) = (dir.join("conf.db"), dir.join("db.sock"));
    run(Command::new("ovsdb-tool").arg("create").arg(&db).arg("/usr/share/openvswitch/vswitch.ovsschema"))?;
    let mut server = Command::new("ovsdb-server");
    environment(&mut server, dir);
    server.arg(&db).arg(format!("--remote=punix:{}", socket.display())).args(["-vconsole:off", "--no-chdir"]);
    server.arg(format!("--log-file={}", dir.join("ovsdb-server.log").display()));
    let server = Process::start(&mut server)?;
    wait_until("the peer's database", START, || socket.exists())?;
    let extra = format!(
        "other_config:dpdk-extra=\"--no-pci --iova-mode=va --huge-dir={} --file-prefix=peer{} --single-file-segments\"",
        huge.display(),
        std::process::id()
    );
    let core = |n: usize| format!("{:x}", 1u64 << n);
    let mut settings = vec![
        "other_config:dpdk-init=true".to_owned(),
        format!("other_config:dpdk-socket-mem={mib}"),
        format!("other_config:pmd-cpu-mask={}", core(lab.cores.forward)),
        format!("other_config:dpdk-lcore-mask={}", core(lab.cores.rest)),
        extra,
    ];
    if large {
        settings.push("other_config:per-port-memory=true".to_owned());
    }
    settings.extend(setup.peer.iter().map(|s| (*s).to_owned()));
    let remote = format!("unix:{}", socket.display());
    let mut vsctl = Tools::new(lab, dir).command("vsctl");
    vsctl.args([&format!("--db={remote}"), "--no-wait", "init", "--", "set", "Open_vSwitch", "."]).args(&settings);
    run(&mut vsctl)?;
    let mut daemon = Command::new("unshare");
    environment(&mut daemon, dir);
    daemon.args(["--net", DAEMON]).arg(&remote).args(["-vconsole:off", "--no-chdir", "--pidfile"]);
    daemon.arg(format!("--log-file={}", dir.join("ovs-vswitchd.log").display()));
    Ok((Process::start(&mut daemon)?, server))
}

/// Adds a port that replays a file for ever.
pub(crate) fn source(side: &Side, bridge: &str, name: &str, number: u32, pcap: &Path, replayed: u32) -> Result<(), BenchError> {
    let devargs = format!("options:dpdk-devargs=\"net_pcap{number},rx_pcap={},infinite_rx=1\"", pcap.display());
    let mut settings = vec!["type=dpdk", &devargs];
    if replayed > SHARED_POOL_MAX {
        // A port's own pool has n_rxq * n_rxq_desc buffers, before it learns that the driver has but one queue.
        settings.extend(["options:n_rxq=256", "options:n_rxq_desc=4096"]);
    }
    side.port(bridge, name, number, &settings)
}

/// Adds a port that frees what it is given.
pub(crate) fn sink(side: &Side, bridge: &str, name: &str, number: u32) -> Result<(), BenchError> {
    let devargs = format!("options:dpdk-devargs=\"net_null{number},no-rx=1\"");
    side.port(bridge, name, number, &["type=dpdk", &devargs])
}

/// One measurement.
pub(crate) fn sample(side: &mut Side, time: Duration) -> Result<Sample, BenchError> {
    side.appctl("dpif-netdev/pmd-stats-clear", &[])?;
    rest(time)?;
    let text = side.appctl("dpif-netdev/pmd-perf-show", &[])?;
    let line = text.lines().find(|l| l.trim_start().starts_with("Rx packets:"));
    let figures = line.and_then(|l| {
        let (kpps, rest) = l.split_once('(')?.1.split_once(" Kpps")?;
        let cycles = rest.trim_start_matches([',', ' ']).split(' ').next()?;
        Some((kpps.trim().parse::<f64>().ok()?, cycles.parse::<f64>().ok()?))
    });
    let (kpps, cycles) = figures.ok_or(BenchError::Answer { from: "pmd-perf-show", what: "Rx packets", text })?;
    Ok(Sample { mpps: kpps / 1000.0, cycles })
}
