//! The main loop: one task that owns the switch's configuration side. Everything that happens to it (a control command, a change of
//! the database, a signal, a device that was waited for, news of the slow path, a point in time) is one event; after each, `run` brings the switch to rest.

use crate::bridge::room::{self, Room};
use crate::commands;
use crate::coverage::{self, Coverage};
use crate::database::{Database, News};
use crate::links::Links;
use crate::options::Options;
use crate::signals::Signals;
use crate::switch::SlowSwitch;
use crate::unixctl::{Registry, Reply, Request, Server};
use crate::usage;
use crate::vlog::Log;
use flow::Msec;
use flow::clock::clock;
use nix::sys::signal::Signal;
use std::sync::Arc;
use std::time::Duration;

/// The longest sleep of an idle loop; nothing depends on it.
const IDLE_MS: Msec = 60_000;
/// How long a point of warped time waits for the database to take what belongs to it.
const WARP_WRITE_MAX: Duration = Duration::from_millis(500);

/// The state that control commands see and change.
#[derive(Debug)]
pub struct Daemon {
    pub options: Options,
    pub log: Arc<Log>,
    pub coverage: Coverage,
    pub room: Room,
    pub switch: SlowSwitch,
    /// Asked to end; with it whether to remove what outlives the process.
    pub exit: Option<Exit>,
    pub warp: Option<Warp>,
    /// `dpif-netdev/subtable-lookup-prio-set`
    pub lookup_priority: u8,
    /// The database says something that has not been applied.
    pub dirty: bool,
    /// The first configuration has been applied and written back.
    configured: bool,
    /// Whoever started the daemon has been told that it stands.
    announced: bool,
    contended: bool,
}

/// How to end.
#[derive(Default, Debug)]
pub struct Exit {
    /// Remove datapath ports and flows that would otherwise outlive the process.
    pub cleanup: bool,
    pub signal: Option<Signal>,
    /// Who asked for it, and is answered when it has been done.
    pub asked: Vec<Reply>,
}

/// What a daemon that has ended still has to say.
#[derive(Debug)]
pub struct Farewell {
    pub signal: Option<Signal>,
    asked: Vec<Reply>,
    control: Option<Server>,
}

impl Farewell {
    /// Answers those who asked for the end.
    pub async fn say(self) {
        for reply in self.asked {
            reply.send(Ok(String::new()));
        }
        if let Some(control) = self.control {
            control.finish().await;
        }
    }
}

/// A `time/warp` under way: the clock leaps by `step_ms` at a time, with a pass of the loop after each leap.
#[derive(Debug)]
pub struct Warp {
    pub left_ms: Msec,
    pub step_ms: Msec,
    pub reply: Reply,
}

/// What the main loop listens to.
#[derive(Debug)]
pub struct Sources {
    pub control: Option<Server>,
    pub signals: Signals,
    pub database: Database,
    pub links: Links,
}

impl Daemon {
    /// A daemon that has configured nothing yet.
    pub fn new(options: Options, log: Arc<Log>, room: Room, switch: SlowSwitch) -> Self {
        Self {
            options,
            log,
            coverage: Coverage::default(),
            room,
            switch,
            exit: None,
            warp: None,
            lookup_priority: 1,
            dirty: false,
            configured: false,
            announced: false,
            contended: false,
        }
    }

    /// One pass: everything that is due is done. Returns when the next thing is due.
    fn run(&mut self, database: &mut Database, now: Msec) -> Msec {
        let mut next = self.coverage.run(now, &coverage::counts()).min(now + IDLE_MS);
        if !database.is_ready() {
            return next;
        }
        if self.dirty && !database.is_writing() {
            self.dirty = false;
            let txn = self.room.reconfigure(database.replica(), &mut self.switch, now);
            database.write(&txn);
            self.configured = true;
        }
        if self.configured && !database.is_writing() {
            let txn = self.room.refresh(database.replica(), &mut self.switch, now);
            database.write(&txn);
            next = next.min(self.room.next_ms());
        }
        next
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Changed(changes) => self.dirty |= changes.iter().any(room::concerns) || !self.configured,
            News::Written(done) => self.dirty |= !done,
            News::Granted => {
                self.dirty = true;
                self.contended = false;
            }
            News::Contended => {
                if !self.contended {
                    let pid = std::process::id();
                    tracing::error!(target: "bridge", "another ovs-vswitchd process is running, disabling this process (pid {pid}) until it goes away");
                }
                self.contended = true;
                self.room.disband(&mut self.switch);
            }
            News::Away => {}
        }
    }

    /// A command changed ports behind the slow path's back: what follows from it follows now.
    pub fn touch_ports(&mut self) {
        self.switch.settle();
        self.room.refresh_soon();
    }

    /// The text of `memory/show`: how many there are of each kind of object that there are any of.
    pub fn memory(&self) -> String {
        let mut objects = self.switch.slowpath.objects();
        objects.push(("ofconns", self.switch.agents.connections()));
        objects.retain(|(_, n)| *n > 0);
        objects.sort_unstable();
        objects.iter().map(|(name, n)| format!("{name}:{n}")).collect::<Vec<_>>().join(" ")
    }

    /// One leap of a warp.
    fn leap(&mut self) {
        let Some(warp) = &mut self.warp else { return };
        let step = warp.step_ms.min(warp.left_ms);
        clock().warp(step);
        warp.left_ms -= step;
    }

    /// Answers a warp that has come to its end.
    fn end_warp(&mut self) {
        if let Some(warp) = self.warp.take_if(|w| w.left_ms <= 0) {
            warp.reply.send(Ok("warped".into()));
        }
    }
}

/// Runs until told to end. `ready` is called once the first configuration stands.
pub async fn run(mut daemon: Daemon, mut sources: Sources, mut ready: impl FnMut()) -> Farewell {
    let registry = commands::registry(daemon.options.dummy.is_some());
    loop {
        let now = clock().now_ms();
        let next = daemon.run(&mut sources.database, now);
        if daemon.configured && !daemon.announced && !sources.database.is_writing() {
            daemon.announced = true;
            ready();
            // After the console has been left: who starts the daemon expects to read nothing.
            tracing::info!(target: "vswitchd", "{}", usage::version(&daemon.options.process.program));
        }
        if daemon.exit.is_some() {
            return end(daemon, sources, &registry).await;
        }
        if daemon.warp.is_some() {
            settle(&mut daemon, &mut sources.database).await;
            daemon.end_warp();
            daemon.leap();
            continue;
        }
        tokio::select! {
            biased;
            signal = sources.signals.next() => {
                let name = crate::daemonize::signal_name(signal as i32);
                tracing::warn!(target: "fatal_signal", "terminating with signal {} ({name})", signal as i32);
                daemon.exit = Some(Exit { signal: Some(signal), ..Exit::default() });
            }
            news = sources.database.next() => daemon.hear(news),
            () = sources.links.one_of_these_appeared(|name| daemon.room.awaits(name)) => daemon.dirty = true,
            // What it is, `run` sees.
            () = daemon.switch.slowpath.wait_for_news() => {}
            request = next_request(&mut sources.control) => answer(&registry, &mut daemon, request),
            () = until(now, next) => {}
        }
    }
}

/// Ends the switch and what it holds; what is to be said about it stays.
async fn end(mut daemon: Daemon, mut sources: Sources, registry: &Registry<Daemon>) -> Farewell {
    if let Some(control) = &mut sources.control {
        control.close();
        while let Some(request) = control.try_next() {
            registry.serve(&mut daemon, request);
        }
    }
    tracing::debug!(target: "vswitchd", "exiting: no more commands");
    let Exit { cleanup, signal, asked } = daemon.exit.take().unwrap_or_default();
    daemon.switch.close(cleanup);
    tracing::debug!(target: "vswitchd", "exiting: no more switch");
    sources.database.close().await;
    tracing::debug!(target: "vswitchd", "exiting: no more database");
    Farewell { signal, asked, control: sources.control }
}

/// Between two points of warped time: the slow path does what is due at the one, and the database takes what was written at it.
async fn settle(daemon: &mut Daemon, database: &mut Database) {
    daemon.switch.settle();
    while database.is_writing() {
        match tokio::time::timeout(WARP_WRITE_MAX, database.next()).await {
            Ok(news) => daemon.hear(news),
            Err(_) => return,
        }
    }
}

async fn next_request(control: &mut Option<Server>) -> Option<Request> {
    match control {
        Some(server) => server.next().await,
        None => std::future::pending().await,
    }
}

fn answer(registry: &Registry<Daemon>, daemon: &mut Daemon, request: Option<Request>) {
    if let Some(request) = request {
        registry.serve(daemon, request);
    }
}

/// Sleeps for as long as the clock needs to come to `next`; a stopped clock gets there by warps only, which end the sleep themselves.
async fn until(now: Msec, next: Msec) {
    if clock().is_stopped() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(Duration::from_millis(u64::try_from(next - now).unwrap_or(0))).await;
}
