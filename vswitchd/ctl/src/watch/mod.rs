//! `ferrule show` and `ferrule top`: what a person wants to see of a running switch. Bridges with their ports and the ports' rates, the
//! busiest flows, how the caches and the slow path fare, what is in hardware.
//!
//! What enters: the database, and two looks at the daemon's control socket an interval apart (`sample`). What leaves: a text for people or
//! JSON for programs (`report`); `top` draws it again and again (`screen`), or prints it where its output is no terminal.

pub mod report;
pub mod sample;
mod screen;

use crate::console::Io;
use crate::fault::Fault;
use crate::getopt::{self, Row, Value, Word, row};
use crate::unixctl::{self, Answer};
use crate::{OVS_VERSION, dirs};
use ovsdb::client::blocking::BlockingIdl;
use ovsdb::{IdlConfig, Replica};
use report::{Bridge, Configured, Report};
use sample::Sample;
use screen::Screen;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Id {
    Database,
    Target,
    Interval,
    Flows,
    Once,
    Json,
    Verbose,
    Help,
    Version,
}

const ROWS: &[Row<Id>] = &[
    row("db", None, Value::Required, Id::Database),
    row("target", Some('t'), Value::Required, Id::Target),
    row("interval", Some('i'), Value::Required, Id::Interval),
    row("flows", Some('n'), Value::Required, Id::Flows),
    row("once", Some('1'), Value::None, Id::Once),
    row("json", Some('j'), Value::None, Id::Json),
    row("verbose", Some('v'), Value::Optional, Id::Verbose),
    row("help", Some('h'), Value::None, Id::Help),
    row("version", Some('V'), Value::None, Id::Version),
];

/// How long the database may take to answer.
const DATABASE_MAX: Duration = Duration::from_secs(5);
/// How long a key waits to be seen.
const KEYS: Duration = Duration::from_millis(100);

struct Options {
    database: String,
    target: String,
    interval: Duration,
    flows: usize,
    once: bool,
    json: bool,
}

/// One report.
///
/// # Errors
/// Options; the daemon or its database is not there.
pub fn show(io: &mut Io<'_>, words: &[String]) -> Result<u8, Fault> {
    run(io, words, true)
}

/// A report again and again, until it is interrupted.
///
/// # Errors
/// Options; the daemon or its database is not there.
pub fn top(io: &mut Io<'_>, words: &[String]) -> Result<u8, Fault> {
    run(io, words, false)
}

#[allow(clippy::disallowed_methods, reason = "rates of a running switch are over real time")]
fn run(io: &mut Io<'_>, words: &[String], once: bool) -> Result<u8, Fault> {
    let Some(options) = parse(io, words, once)? else {
        return Ok(0);
    };
    let mut idl = follow(&options)?;
    let mut client = unixctl::connect(io, &options.target)?;
    let (mut before, mut then) = (look(&mut client, &options)?, Instant::now());
    let drawn = !options.once && !options.json && std::io::stdout().is_terminal();
    let mut screen = if drawn { Some(Screen::open()?) } else { None };
    loop {
        // The database is served meanwhile, so that what changes there is known.
        let until = then + options.interval;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            let _ = idl.next(Some(left.min(KEYS)));
            if let Some(screen) = &screen
                && screen.is_left()?
            {
                return Ok(0);
            }
        }
        let (after, now) = (look(&mut client, &options)?, Instant::now());
        let bridges = bridges(idl.replica());
        let seconds = now.duration_since(then).as_secs_f64();
        let report = Report { bridges: &bridges, before: &before, after: &after, seconds, flows_max: options.flows };
        match &mut screen {
            Some(screen) => screen.draw(&format!("ferrule top - {} - q: leave", options.target), &report.text())?,
            None if options.json => writeln!(io.out, "{}", report.json())?,
            None => write!(io.out, "{}", report.text())?,
        }
        io.out.flush()?;
        if options.once {
            return Ok(0);
        }
        (before, then) = (after, now);
    }
}

fn follow(options: &Options) -> Result<BlockingIdl, Fault> {
    let config = IdlConfig::new(&options.database, "Open_vSwitch")
        .columns("Bridge", &["name", "datapath_type", "fail_mode", "ports"])
        .columns("Port", &["name", "interfaces"])
        .columns("Interface", &["name", "type", "ofport", "link_state", "error"]);
    let failed = |e: &dyn std::fmt::Display| Fault::say(format!("{}: database connection failed ({e})", options.database));
    let mut idl = BlockingIdl::start(config).map_err(|e| failed(&e))?;
    idl.wait_synced(false, Some(DATABASE_MAX)).map_err(|e| failed(&e))?;
    Ok(idl)
}

fn bridges(replica: &Replica) -> Vec<Bridge> {
    let mut all = Vec::new();
    for row in replica.rows("Bridge") {
        let interfaces = replica.refs(&row, "ports").into_iter().flat_map(|port| replica.refs(&port, "interfaces"));
        let mut ports: Vec<Configured> = interfaces
            .map(|i| Configured {
                name: i.str("name").to_owned(),
                kind: i.str("type").to_owned(),
                ofport: i.int("ofport"),
                link: i.opt_str("link_state").unwrap_or_default().to_owned(),
                error: i.opt_str("error").unwrap_or_default().to_owned(),
            })
            .collect();
        ports.sort_by_key(|p| (p.ofport, p.name.clone()));
        let text = |column: &str| row.opt_str(column).unwrap_or_default().to_owned();
        let datapath_type = Some(text("datapath_type")).filter(|t| !t.is_empty()).unwrap_or_else(|| "system".to_owned());
        all.push(Bridge { name: text("name"), datapath_type, fail_mode: text("fail_mode"), ports });
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn look(client: &mut unixctl::Client, options: &Options) -> Result<Sample, Fault> {
    let mut ask = |command: &str, words: &[&str]| -> Result<String, Fault> {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        let failed = |e: &std::io::Error| Fault::because(format!("{}: transaction error", options.target), e);
        match client.transact(command, &words).map_err(|e| failed(&e))? {
            Answer::Result(result) => Ok(result.as_str().unwrap_or_default().to_owned()),
            // A switch without datapaths has nothing to say.
            Answer::Error(_) => Ok(String::new()),
        }
    };
    let mut sample = Sample { datapaths: sample::datapaths(&ask("dpctl/show", &["-s"])?), ..Sample::default() };
    for name in sample.datapaths.iter().map(|d| d.name.clone()) {
        sample.flows.extend(sample::flows(&ask("dpctl/dump-flows", &["-m", &name])?));
    }
    sample.upcalls = sample::upcalls(&ask("upcall/show", &[])?);
    Ok(sample)
}

fn parse(io: &mut Io<'_>, words: &[String], once: bool) -> Result<Option<Options>, Fault> {
    let mut options = Options {
        database: format!("unix:{}", dirs::in_run("db.sock").display()),
        target: "ovs-vswitchd".to_owned(),
        interval: Duration::from_secs(if once { 1 } else { 2 }),
        flows: 10,
        once,
        json: false,
    };
    for word in getopt::parse(ROWS, words)? {
        let (id, value) = match word {
            Word::Operand(operand) => {
                return Err(Fault::say(format!("{operand}: no arguments are expected; use --help for help")));
            }
            Word::Option(id, value) => (id, value.unwrap_or_default()),
        };
        let bad = |what: &str, expected: &str| Fault::say(format!("--{what}={value}: expected {expected}"));
        match id {
            Id::Database => options.database.clone_from(&value),
            Id::Target => options.target.clone_from(&value),
            Id::Interval => {
                let seconds = value.parse::<f64>().ok().filter(|s| (0.05..=86_400.0).contains(s));
                options.interval = Duration::from_secs_f64(seconds.ok_or_else(|| bad("interval", "seconds, 0.05 to 86400"))?);
            }
            Id::Flows => options.flows = value.parse().map_err(|_| bad("flows", "a number"))?,
            Id::Once => options.once = true,
            Id::Json => options.json = true,
            Id::Verbose => io.log_spec(Some(value.as_str())),
            Id::Help => {
                help(io)?;
                return Ok(None);
            }
            Id::Version => {
                writeln!(io.out, "{} (Open vSwitch) {OVS_VERSION}", io.program)?;
                return Ok(None);
            }
        }
    }
    Ok(Some(options))
}

fn help(io: &mut Io<'_>) -> Result<(), Fault> {
    Ok(write!(
        io.out,
        "\
usage: ferrule show [OPTIONS]   bridges, ports with their rates, the busiest flows, caches and slow path
       ferrule top [OPTIONS]    the same, again and again
Options:
  -i, --interval=SECS   over which rates are taken (show: 1, top: 2)
  -n, --flows=N         flows shown (default: 10)
  -1, --once            once
  -j, --json            one line of JSON for each report
  --db=DATABASE         default: unix:{run}/db.sock
  -t, --target=TARGET   pidfile's name or control socket of the daemon (default: ovs-vswitchd)
  -h, --help            display this help message
  -V, --version         display version information
",
        run = dirs::run().display()
    )?)
}
