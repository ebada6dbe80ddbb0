//! `bench`: runs scenarios, shows the table, writes target/bench/latest.json and the curve.

use benches::lab::{Cores, Lab};
use benches::measure::{Bench, Plan, Row};
use benches::scenario::{ALL, Scenario, Size};
use benches::{BenchError, curve, parts, process, report};
use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// What one forwarding core does, beside the processor's limit and (with --peer) beside OVS-DPDK.
#[derive(Parser, Debug)]
#[command(name = "bench")]
struct Args {
    /// Scenarios to run: names, or their beginnings; all if none is given. bundle-stall lifts the kernel's limit on real-time
    /// threads (sched_rt_runtime_us) while it runs, and sets it as it was.
    scenarios: Vec<String>,
    /// Only what is done in a minute.
    #[arg(long)]
    quick: bool,
    /// OVS-DPDK takes turns with us (it has to be installed: make bench PEER=1 does it).
    #[arg(long)]
    peer: bool,
    /// Turns of each side.
    #[arg(long)]
    pairs: Option<usize>,
    /// Seconds of a turn.
    #[arg(long)]
    seconds: Option<f64>,
    /// Only sizes with so many flows.
    #[arg(long)]
    flows: Option<u32>,
    /// The forwarding core.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// The core for everything else.
    #[arg(long, default_value_t = 0)]
    rest: usize,
    /// Folder of the release build.
    #[arg(long, default_value = "target/release")]
    build: PathBuf,
    /// Folder for results.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Where to draw the curve.
    #[arg(long, default_value = "docs/bench/flows.svg")]
    curve: PathBuf,
    /// Show the scenarios.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tcp-sink"] => parts::veth::sink().map_err(BenchError::io("tcp-sink")).map(|()| true),
        ["tcp-source", address, ms] => {
            parts::veth::source(address, ms.parse().unwrap_or(1000)).map_err(BenchError::io("tcp-source")).map(|rate| {
                show(&format!("{rate:.3}"));
                true
            })
        }
        ["lookup-loop", ref numbers @ ..] if numbers.len() == 4 => {
            show(&parts::lookup::in_a_loop(std::array::from_fn(|i| numbers[i].parse().unwrap_or(1))));
            Ok(true)
        }
        _ => run(&Args::parse()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(2)
        }
    }
}

#[allow(clippy::print_stdout, reason = "the table is what the program is for")]
fn show(line: &str) {
    println!("{line}");
}

/// The scenarios and sizes that were asked for.
fn chosen(args: &Args) -> Vec<(&'static Scenario, Size)> {
    let named = |s: &Scenario| args.scenarios.is_empty() || args.scenarios.iter().any(|n| s.name == n || is_family(s.name, n));
    let sizes = |s: &'static Scenario| if args.quick { &s.sizes[..s.quick] } else { s.sizes };
    let sized = |size: &Size| args.flows.is_none_or(|f| f == size.flows);
    ALL.iter().filter(|s| named(s)).flat_map(|s| sizes(s).iter().filter(|size| sized(size)).map(move |size| (s, *size))).collect()
}

/// `vlan` stands for `vlan-push` and `vlan-pop`.
fn is_family(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| rest.starts_with('-'))
}

fn run(args: &Args) -> Result<bool, BenchError> {
    if args.list {
        ALL.iter().for_each(|s| show(&format!("{:<16} {}", s.name, s.about)));
        return Ok(true);
    }
    let out = std::path::absolute(&args.out).map_err(BenchError::io("--out"))?;
    let build = std::path::absolute(&args.build).map_err(BenchError::io("--build"))?;
    let pcaps = out.join("pcaps");
    std::fs::create_dir_all(&pcaps).map_err(BenchError::io(pcaps.display().to_string()))?;
    let plan = Plan {
        pairs: args.pairs.unwrap_or(if args.quick { 1 } else { 7 }),
        turn: Duration::from_secs_f64(args.seconds.unwrap_or(if args.quick { 0.5 } else { 1.0 })),
        peer: args.peer,
        quick: args.quick,
    };
    let chosen = chosen(args);
    if chosen.is_empty() {
        return Err(BenchError::Wrong("no such scenario; see --list".into()));
    }
    process::catch_signals().map_err(BenchError::io("signals"))?;
    let lab = Lab::enter(build, Cores { forward: args.core, rest: args.rest })?;
    let mut bench = Bench::new(lab, plan, pcaps);
    let (rows, whole) = all(&mut bench, &chosen, &out.join("latest.json"))?;
    drop(bench);
    draw(&args.curve, &rows);
    Ok(whole)
}

/// Measures everything; what failed is said, and the rest goes on.
fn all(bench: &mut Bench, chosen: &[(&Scenario, Size)], latest: &Path) -> Result<(Vec<Row>, bool), BenchError> {
    let (mut rows, mut whole) = (Vec::new(), true);
    show(&report::head());
    for (i, (scenario, size)) in chosen.iter().enumerate() {
        bench.progress(format_args!("[{} of {}] {}: {}", i + 1, chosen.len(), scenario.name, scenario.about));
        match scenario.measure(bench, *size) {
            Ok(measured) => {
                measured.iter().for_each(|row| show(&report::line(row)));
                rows.extend(measured);
            }
            Err(BenchError::Interrupted) => return Err(BenchError::Interrupted),
            Err(error) => {
                whole = false;
                eprintln!("bench: {} {}: {error}", scenario.name, size.flows);
                rows.push(Row { note: error.to_string(), ..Row::new(scenario.name, *size) });
            }
        }
        report::write(latest, &rows)?;
    }
    Ok((rows, whole))
}

fn draw(path: &Path, rows: &[Row]) {
    if rows.iter().filter(|r| r.scenario == "flows" && r.mpps.is_some()).count() < 4 {
        return;
    }
    if let Some(dir) = path.parent() {
        let _ = std::fs::create_dir_all(dir);
    }
    if let Err(error) = curve::draw(path, rows) {
        eprintln!("bench: {}: {error}", path.display());
    }
}
