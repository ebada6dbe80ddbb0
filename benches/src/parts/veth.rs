//! Two containers on veth, default ethtool settings: through our switch, and through the kernel's bridge in turn.

use crate::BenchError;
use crate::lab::Host;
use crate::measure::{Bench, Row, median};
use crate::process::{Process, run};
use crate::scenario::{Scenario, Size};
use crate::side::{Setup, Side, Whose};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

const SETUP: Setup = Setup { ours: &[], peer: &[], replayed: 0, idle: true, free: true };
const PORT: u16 = 5201;
/// Pings of a turn, and the pause between two.
const PINGS: &str = "200";
const INTERVAL: &str = "0.01";

/// Two hosts, and what connects them.
struct Pair {
    hosts: [Host; 2],
    _switch: Option<Side>,
    _bridge: Option<Host>,
}

/// Gbit/s, ours and the bridge in turn.
pub fn tcp(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    in_turn(bench, scenario, size, "Gbit/s", transfer)
}

/// Microseconds of a round trip, ours and the bridge in turn; the ratio is ours to the bridge's.
pub fn ping(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    in_turn(bench, scenario, size, "us", |pair, _| {
        let text = run(pair.hosts[0].command("ping").args(["-q", "-c", PINGS, "-i", INTERVAL, "10.1.0.2"]))?;
        let average = text.rsplit_once("= ").and_then(|(_, figures)| figures.split('/').nth(1)?.parse::<f64>().ok());
        average.map(|ms| ms * 1000.0).ok_or(BenchError::Answer { from: "ping", what: "average", text })
    })
}

fn in_turn(
    bench: &mut Bench,
    scenario: &Scenario,
    size: Size,
    unit: &'static str,
    measure: impl Fn(&Pair, Duration) -> Result<f64, BenchError>,
) -> Result<Vec<Row>, BenchError> {
    let (ours, bridge) = (through_ours(bench)?, through_bridge()?);
    let mut figures = [Vec::new(), Vec::new()];
    for turn in 0..bench.plan.pairs {
        for (pair, figures) in [&ours, &bridge].into_iter().zip(&mut figures) {
            figures.push(measure(pair, bench.plan.turn)?);
        }
        let last = |i: usize| figures[i].last().copied().unwrap_or_default();
        let (done, all) = (turn + 1, bench.plan.pairs);
        bench.progress(format_args!("{}: {done} of {all}: {:.1}, bridge {:.1} {unit}", scenario.name, last(0), last(1)));
    }
    let mut row = Row { unit, note: "the peer is the kernel's bridge".into(), ..Row::new(scenario.name, size) };
    let [ours, bridge] = &figures;
    (row.mpps, row.peer) = (median(ours.iter().copied()), median(bridge.iter().copied()));
    row.compare(ours.iter().zip(bridge).map(|(a, b)| a / b).collect());
    Ok(vec![row])
}

fn transfer(pair: &Pair, time: Duration) -> Result<f64, BenchError> {
    let program = std::env::current_exe().map_err(BenchError::io("our own path"))?;
    let program = program.display().to_string();
    let ms = time.as_millis().to_string();
    let mut sink = Process::start(pair.hosts[1].command(&program).arg("tcp-sink"))?;
    sleep(Duration::from_millis(200));
    let text = run(pair.hosts[0].command(&program).args(["tcp-source", &format!("10.1.0.2:{PORT}"), &ms]))?;
    sink.wait(Duration::from_secs(2));
    text.trim().parse().map_err(|_| BenchError::Answer { from: "tcp-source", what: "rate", text })
}

/// A host's end of a veth pair, the other end in the namespace of `switch`, where it is called `name`.
fn attach(switch: &str, name: &str, host: &Host, address: &str) -> Result<(), BenchError> {
    run(Command::new("nsenter").args(["-t", switch, "-n", "ip", "link", "add", name, "type", "veth"]).args([
        "peer",
        "name",
        "eth0",
        "netns",
        &host.pid(),
    ]))?;
    run(Command::new("nsenter").args(["-t", switch, "-n", "ip", "link", "set", name, "up"]))?;
    run(host.command("ip").args(["addr", "add", address, "dev", "eth0"]))?;
    run(host.command("ip").args(["link", "set", "eth0", "up"]))?;
    Ok(())
}

fn hosts(switch: &str) -> Result<[Host; 2], BenchError> {
    let hosts = [Host::new()?, Host::new()?];
    attach(switch, "v1", &hosts[0], "10.1.0.1/24")?;
    attach(switch, "v2", &hosts[1], "10.1.0.2/24")?;
    Ok(hosts)
}

fn through_ours(bench: &mut Bench) -> Result<Pair, BenchError> {
    let side = Side::start(&mut bench.lab, Whose::Ours, &SETUP)?;
    let hosts = hosts(&side.pid().to_string())?;
    for (number, name) in [(1, "v1"), (2, "v2")] {
        side.port("br0", name, number, &[])?;
    }
    side.ofctl(&["add-flow", "br0", "actions=NORMAL"])?;
    settle(&hosts)?;
    Ok(Pair { hosts, _switch: Some(side), _bridge: None })
}

fn through_bridge() -> Result<Pair, BenchError> {
    let bridge = Host::new()?;
    let hosts = hosts(&bridge.pid())?;
    run(bridge.command("ip").args(["link", "add", "bridge0", "type", "bridge"]))?;
    for args in [&["set", "bridge0", "up"][..], &["set", "v1", "master", "bridge0"], &["set", "v2", "master", "bridge0"]] {
        run(bridge.command("ip").arg("link").args(args))?;
    }
    settle(&hosts)?;
    Ok(Pair { hosts, _switch: None, _bridge: Some(bridge) })
}

/// Waits until they reach each other.
fn settle(hosts: &[Host; 2]) -> Result<(), BenchError> {
    crate::process::wait_until("the containers to reach each other", Duration::from_secs(20), || {
        run(hosts[0].command("ping").args(["-q", "-c", "1", "-W", "1", "10.1.0.2"])).is_ok()
    })
}

/// `bench tcp-sink`: takes one connection and reads it to its end.
pub fn sink() -> std::io::Result<()> {
    let (mut stream, _) = TcpListener::bind(("0.0.0.0", PORT))?.accept()?;
    let mut buffer = vec![0; 1 << 18];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// `bench tcp-source ADDRESS MS`: sends for so long; Gbit/s.
pub fn source(address: &str, ms: u64) -> std::io::Result<f64> {
    let mut stream = TcpStream::connect(address)?;
    let buffer = vec![0x5a; 1 << 17];
    let (start, mut sent) = (Instant::now(), 0u64);
    while start.elapsed() < Duration::from_millis(ms) {
        stream.write_all(&buffer)?;
        sent += buffer.len() as u64;
    }
    let seconds = start.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    Ok(sent as f64 * 8.0 / seconds / 1e9)
}
