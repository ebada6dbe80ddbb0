//! The log in OVS's layout: every `tracing` event of the house comes in here, and leaves as lines for the console, a file and syslog,
//! each with its own level per module and its own pattern.
//!
//! `tracing` targets are OVS's module names (`modules`). Levels can change at any time (`vlog/set`); call sites learn it through
//! tracing's interest cache, so that a debug line nobody wants costs one load. Two fields are read and not shown: `rl` and `burst`
//! (see `limit`), and `emer = true` makes an error an EMER. Threads name themselves by their thread name: the main thread and the
//! runtime's own count as "main", all others print as `module(thread)` and number their lines on their own, as OVS's do.

pub mod levels;
pub mod limit;
pub mod modules;
pub mod pattern;
pub mod sinks;
mod subscriber;

use crate::fault::errno_text;
use flow::hash::Map;
use jiff::Timestamp;
use levels::{Change, Destination, Level};
use limit::{Bucket, Verdict};
use modules::{MODULES, Module};
use pattern::{Facility, Line, Pattern};
use sinks::{LogFile, Syslog};
use std::cell::Cell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tracing::callsite::Identifier;

const PATTERN_CONSOLE: &str = "%D{%Y-%m-%dT%H:%M:%SZ}|%05N|%c%T|%p|%m";
const PATTERN_FILE: &str = "%D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c%T|%p|%m";
const PATTERN_SYSLOG: &str = "ovs|%05N|%c%T|%p|%m";
/// What stands before the pattern in a syslog message that libc does not frame.
const PREFIX_SYSLOG: &str = "<%B> %D{%h %e %T} %E %A:";
/// `--syslog-target`: RFC 5424 section 6, with the byte order mark it asks for.
const PATTERN_RFC5424: &str = "<%B>1 %D{%Y-%m-%dT%H:%M:%S.###Z} %E %A %P %c - \u{feff}%m";

/// Call sites with a rate limit; each is a place in the program, so the number is bounded by the program.
type Buckets = Map<Identifier, Bucket>;

/// The log of the process. One is made by `start`; clones of the `Arc` change it.
#[derive(Debug)]
pub struct Log {
    application: String,
    host: String,
    started: Instant,
    serial: AtomicU32,
    levels: Vec<[AtomicU8; 3]>,
    unlimited: Vec<AtomicBool>,
    sinks: Mutex<Sinks>,
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Sinks {
    patterns: [Pattern; 3],
    prefix: Pattern,
    rfc5424: Pattern,
    facility: Option<Facility>,
    console: bool,
    file: Option<LogFile>,
    syslog: Syslog,
    target: Option<UdpSocket>,
}

thread_local! {
    static SERIAL: Cell<u32> = const { Cell::new(0) };
}

impl Log {
    /// Makes the log of a program of that name, with OVS's default levels, and routes `tracing` into it.
    pub fn start(application: &str) -> Arc<Self> {
        let log = Arc::new(Self::new(application));
        // A second log in one process (tests) keeps the first one's routing.
        drop(tracing::subscriber::set_global_default(subscriber::Subscriber(Arc::clone(&log))));
        log
    }

    #[allow(clippy::disallowed_methods, reason = "%r counts from the start of the program in real time")]
    fn new(application: &str) -> Self {
        let info = || AtomicU8::new(Level::Info as u8);
        Self {
            application: application.to_owned(),
            host: nix::unistd::gethostname().map_or_else(|_| "-".into(), |h| h.to_string_lossy().into_owned()),
            started: Instant::now(),
            serial: AtomicU32::new(0),
            levels: MODULES.iter().map(|_| [info(), info(), info()]).collect(),
            unlimited: MODULES.iter().map(|_| AtomicBool::new(false)).collect(),
            sinks: Mutex::new(Sinks {
                patterns: [PATTERN_SYSLOG, PATTERN_CONSOLE, PATTERN_FILE].map(Pattern::new),
                prefix: Pattern::new(PREFIX_SYSLOG),
                rfc5424: Pattern::new(PATTERN_RFC5424),
                facility: None,
                console: true,
                file: None,
                syslog: Syslog::Null,
                target: None,
            }),
            buckets: Mutex::new(Buckets::default()),
        }
    }

    fn sinks(&self) -> MutexGuard<'_, Sinks> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The threshold of a module at a destination.
    pub fn level(&self, module: Module, destination: Destination) -> Level {
        Level::from_u8(self.levels[module.index()][destination.index()].load(Ordering::Relaxed))
    }

    /// The most verbose threshold of a module at any destination that exists.
    fn max_level(&self, module: Module) -> Level {
        Destination::ALL.into_iter().map(|d| self.level(module, d)).max().unwrap_or(Level::Off)
    }

    /// Applies a parsed specification.
    pub fn change(&self, change: &Change) {
        match change {
            Change::Levels { module, destination, level } => {
                for m in Module::all().filter(|m| module.is_none_or(|only| only == *m)) {
                    for d in Destination::ALL.into_iter().filter(|d| destination.is_none_or(|only| only == *d)) {
                        self.levels[m.index()][d.index()].store(*level as u8, Ordering::Relaxed);
                    }
                }
                tracing::callsite::rebuild_interest_cache();
            }
            Change::Pattern { destination, pattern } => {
                let mut sinks = self.sinks();
                for d in Destination::ALL.into_iter().filter(|d| destination.is_none_or(|only| only == *d)) {
                    sinks.patterns[d.index()] = Pattern::new(pattern);
                }
            }
            Change::Facility(facility) => self.sinks().facility = Some(*facility),
        }
    }

    /// Turns the rate limits of a module (or of all) on or off.
    pub fn set_rate_limits(&self, module: Option<Module>, on: bool) {
        for m in Module::all().filter(|m| module.is_none_or(|only| only == *m)) {
            self.unlimited[m.index()].store(!on, Ordering::Relaxed);
        }
    }

    /// Opens the log file; the refusal is logged to the console, and the program goes on without.
    pub fn open_file(&self, path: &Path) {
        let opened = LogFile::open(path);
        match opened {
            Ok(file) => {
                self.sinks().file = Some(file);
                tracing::info!(target: "vlog", "opened log file {}", path.display());
            }
            Err(error) => {
                tracing::warn!(target: "vlog", "failed to open {} for logging: {}", path.display(), errno_text(&error));
            }
        }
    }

    /// Closes the file if it is not the one its name leads to any longer, and opens that.
    /// # Errors
    /// There is no log file configured, or it cannot be opened.
    pub fn reopen_file(&self) -> Result<(), String> {
        let path = match &self.sinks().file {
            None => return Err("Logging to file not configured".into()),
            Some(file) if file.is_current() => return Ok(()),
            Some(file) => file.path().to_owned(),
        };
        let file = LogFile::open(&path).map_err(|e| errno_text(&e))?;
        tracing::info!(target: "vlog", "closing log file");
        self.sinks().file = Some(file);
        tracing::info!(target: "vlog", "opened log file {}", path.display());
        Ok(())
    }

    /// Closes the file until `reopen_file`.
    pub fn close_file(&self) {
        if let Some(file) = &mut self.sinks().file {
            file.close();
        }
    }

    /// Chooses how syslog is reached.
    pub fn set_syslog(&self, syslog: Syslog) {
        self.sinks().syslog = syslog;
    }

    /// Sends a copy of what goes to syslog to a UDP collector.
    pub fn set_syslog_target(&self, target: UdpSocket) {
        self.sinks().target = Some(target);
    }

    /// Silences the console for good: standard error is about to be closed.
    pub fn detach_console(&self) {
        self.sinks().console = false;
        self.change(&Change::Levels { module: None, destination: Some(Destination::Console), level: Level::Off });
    }

    /// The table of `vlog/list`.
    pub fn list(&self) -> String {
        let mut out = String::from("                 console    syslog    file\n                 -------    ------    ------\n");
        for module in Module::all() {
            let [console, syslog, file] =
                [Destination::Console, Destination::Syslog, Destination::File].map(|d| self.level(module, d).name());
            let note = if self.unlimited[module.index()].load(Ordering::Relaxed) { "    (rate limiting disabled)" } else { "" };
            writeln!(out, "{:<16}  {console:>4}       {syslog:>4}       {file:>4}{note}", module.name())
                .expect("writing to a String cannot fail");
        }
        out
    }

    /// The table of `vlog/list-pattern`.
    pub fn list_patterns(&self) -> String {
        let sinks = self.sinks();
        let mut out = String::from(
            "         prefix                            format\n         ------                            ------\n",
        );
        for d in Destination::ALL {
            let prefix = if d == Destination::Syslog { sinks.prefix.text() } else { "none" };
            writeln!(out, "{:<7}  {prefix:<32}  {}", d.name(), sinks.patterns[d.index()].text())
                .expect("writing to a String cannot fail");
        }
        out
    }

    /// Logs one message, past any rate limit.
    pub fn write(&self, module: Module, level: Level, message: &str) {
        let wanted = Destination::ALL.map(|d| self.level(module, d) >= level);
        if !wanted.contains(&true) {
            return;
        }
        let thread = subprogram();
        let mut sinks = self.sinks();
        let line = Line {
            application: &self.application,
            module: module.name(),
            level,
            message,
            serial: self.next_serial(&thread),
            when: Timestamp::now(),
            facility: sinks.facility.unwrap_or(Facility::LOCAL0),
            host: &self.host,
            pid: std::process::id(),
            thread: &thread,
            running_ms: self.started.elapsed().as_millis(),
        };
        sinks.write(&line, wanted);
    }

    fn next_serial(&self, thread: &str) -> u32 {
        if thread.is_empty() {
            return self.serial.fetch_add(1, Ordering::Relaxed) + 1;
        }
        SERIAL.with(|s| {
            s.set(s.get() + 1);
            s.get()
        })
    }

    /// Whether a limited call site may log now; confesses what it dropped before.
    fn admit(&self, site: Identifier, module: Module, level: Level, (rate, burst): (u64, u64)) -> bool {
        if self.unlimited[module.index()].load(Ordering::Relaxed) {
            return true;
        }
        let now = flow::clock::now_ms();
        let verdict = {
            let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
            buckets.entry(site).or_insert_with(|| Bucket::new(rate, burst, now)).ask(now)
        };
        match verdict {
            Verdict::Drop => false,
            Verdict::Pass(None) => true,
            Verdict::Pass(Some(confession)) => {
                self.write(module, level, &confession);
                true
            }
        }
    }
}

impl Sinks {
    fn write(&mut self, line: &Line<'_>, wanted: [bool; 3]) {
        let mut text = String::with_capacity(64 + line.message.len());
        if wanted[Destination::Console.index()] && self.console {
            self.patterns[Destination::Console.index()].apply(line, &mut text);
            text.push('\n');
            drop(std::io::stderr().write_all(text.as_bytes()));
        }
        if wanted[Destination::File.index()]
            && let Some(file) = &mut self.file
        {
            text.clear();
            self.patterns[Destination::File.index()].apply(line, &mut text);
            text.push('\n');
            file.write(&text);
        }
        if wanted[Destination::Syslog.index()] && (self.target.is_some() || !matches!(self.syslog, Syslog::Null)) {
            self.write_syslog(line);
        }
    }

    /// A syslog message is one line: a message of several becomes several.
    fn write_syslog(&mut self, whole: &Line<'_>) {
        let daemon = Line { facility: self.facility.unwrap_or(Facility::DAEMON), ..*whole };
        for part in whole.message.lines() {
            let line = Line { message: part, ..daemon };
            let mut text = String::new();
            if self.syslog.is_libc() {
                // syslog(3) without LOG_PID: "<PRI>Mmm dd hh:mm:ss tag: ".
                Pattern::new("<%B>%d{%b %e %T} %A: ").apply(&line, &mut text);
            } else {
                self.prefix.apply(&line, &mut text);
                text.push(' ');
            }
            self.patterns[Destination::Syslog.index()].apply(&line, &mut text);
            self.syslog.send(&text);
            if let Some(target) = &self.target {
                let line = Line { facility: self.facility.unwrap_or(Facility::LOCAL0), ..line };
                let mut text = String::new();
                self.rfc5424.apply(&line, &mut text);
                drop(target.send(text.as_bytes()));
            }
        }
    }
}

/// The name under which this thread logs; empty for the main thread and the runtime's, which do its work.
fn subprogram() -> String {
    match std::thread::current().name() {
        // The slow path's own thread does what is the main thread's work elsewhere; handlers' work is, with a datapath in the process.
        None | Some("main" | "ofproto") => String::new(),
        Some(name) if name.starts_with("tokio") || name.starts_with(super::RUNTIME_THREAD) => String::new(),
        Some(name) if name.starts_with("handler") => String::new(),
        Some(name) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
