//! A forwarding worker: a thread that polls receive queues while there is work, and sleeps while there is none.
//!
//! What enters: packets of its receive queues; commands of the control thread, taken between batches. What leaves: whatever `forward`
//! does with them. Neighbours: `forward` (the core), `ports` (which hands queues out), `port`.
//!
//! # Life
//!
//! Busy: every queue is polled in turn, a batch each (one that has used more than its share of the time is passed over, `fair`), and what was
//! sent is flushed once per round. Without packets it polls on for a
//! window, asks each queue whether it may sleep, goes offline (nobody waits for it then) and sleeps in epoll on the queues' descriptors
//! and on its own eventfd, through which commands wake it. An idle worker makes no system call and takes no CPU.
//!
//! How long the window is, the load decides. A packet is often answered by another (a ping, a TCP acknowledgement) sooner than a
//! sleeping thread wakes up, so polling on for `SPIN_MAX_US` saves the wake; a poll in vain costs CPU. So a window is paid from a credit
//! that sleep earns (`SLEEP_PER_SPIN`) and windows in vain use up, while one that ends with a packet costs nothing. A switch with little
//! traffic spends a few percent at most, an idle one nothing. While it polls in vain a worker yields to whoever else wants its CPU. What
//! comes by a clock is waited for awake (`beat`), at the same cost: a window from before it is due until after that.
//!
//! A queue can make its descriptor readable without giving packets (a dying device). Wakes that bring nothing are counted, and after
//! `FUTILE_MAX` in a row the worker naps before it sleeps again, so that such a device costs little until control takes the queue away.

use crate::account::{Account, LogSettings, Metrics, Sample, Suspicion, Totals};
use crate::beat::{Beat, Vigil};
use crate::counters::WORKER_SLEEPS;
use crate::cycles;
use crate::fair::{self, Share};
use crate::forward::{Core, Scope, Shared};
use crate::outlets::Outlet;
use crate::perf::Stage;
use crate::qsbr::Member;
use crate::stats::add;
use crate::topology::CoreId;
use crossbeam_channel::{Receiver, Sender};
use flow::DpPort;
use flow::clock;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use port::{BATCH_MAX, Receive, RxQueue};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The longest window of polling in vain before a sleep.
const SPIN_MAX_US: u64 = 100;
/// The window that costs nothing: shorter than going to sleep and waking up.
const SPIN_MIN_US: u64 = 3;
/// So much sleep earns one part of polling in vain.
const SLEEP_PER_SPIN: u64 = 32;
/// The largest credit, in windows.
const CREDIT_MAX: u64 = 8;
/// Wakes without a packet before a worker naps.
const FUTILE_MAX: u32 = 16;
/// The shortest and the longest pause of an empty queue that is polled by a system call, while others give packets.
const PAUSE_US: std::ops::Range<u64> = 8..128;
const NAP: Duration = Duration::from_millis(1);
/// Commands that wait for a worker.
pub const COMMANDS_MAX: usize = 64;

/// A receive queue with its place.
#[derive(Debug)]
pub struct Rx {
    pub port: DpPort,
    /// Number of the queue on its port.
    pub number: usize,
    pub queue: RxQueue,
    /// Cycles spent on its packets; only the worker that polls it adds to it.
    pub load: Arc<AtomicU64>,
    pub pause: Pause,
    pub share: Share,
}

impl Rx {
    /// What its descriptor's events are called.
    fn event(&self) -> u64 {
        u64::from(self.port.0) << 32 | self.number as u64
    }
}

/// When a queue that is polled by a system call is polled again: the longer it was empty, the later. Times in cycles.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pause {
    until: u64,
    length: u64,
}

impl Pause {
    fn is_over(&self, now: u64) -> bool {
        // Also true if nothing was ever set.
        now.wrapping_sub(self.until) < u64::MAX / 2
    }

    fn after(&mut self, packets: usize, now: u64, cycles_per_us: u64) {
        self.length =
            if packets > 0 { 0 } else { (self.length * 2).clamp(PAUSE_US.start * cycles_per_us, PAUSE_US.end * cycles_per_us) };
        self.until = now.wrapping_add(self.length);
    }
}

/// How a worker works; control sets it, also while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// The longest nap between two rounds under light load, in microseconds; 0: none.
    pub nap_max_us: u32,
    /// Histograms and histories are kept.
    pub metrics: bool,
    pub log: LogSettings,
}

/// What control asks of a worker. Everything with a `Sender` is answered when it is done.
#[derive(Debug)]
pub enum Command {
    SetOutlet(DpPort, Box<Outlet>, Sender<()>),
    /// Gives back the port's outlet and receive queues; nothing of the port is used after the answer.
    RemovePort(DpPort, Sender<(Option<Box<Outlet>>, Vec<Rx>)>),
    AddRx(Rx),
    /// Gives back one receive queue, or (`None`) all, for another worker.
    TakeRx(Option<(DpPort, usize)>, Sender<Vec<Rx>>),
    /// Polls a port's queues until they are empty.
    Drain(DpPort, Sender<()>),
    ResizeCache(usize),
    Tune(Tuning),
    /// Gives a copy of the histograms and histories; `None` if there are none.
    Metrics(Sender<Option<Box<Metrics>>>),
    ClearMetrics,
    /// Ends the thread; the queues come back.
    Stop(Sender<Vec<Rx>>),
}

/// The control thread's hold on a worker.
#[derive(Debug)]
pub struct Handle {
    commands: Sender<Command>,
    wake: Arc<EventFd>,
    /// `None` once the worker was stopped.
    thread: Option<std::thread::JoinHandle<()>>,
    pub seat: usize,
    pub account: Arc<Account>,
    /// What those who sat on its seat before it have counted there.
    pub inherited: Totals,
}

/// What a worker is to be.
#[derive(Clone, Debug)]
pub struct Post {
    pub name: String,
    /// The CPU to pin it to.
    pub cpu: Option<CoreId>,
    pub cache_flows: usize,
    pub tuning: Tuning,
}

impl Handle {
    /// Starts a worker.
    pub fn start(shared: Arc<Shared>, member: Member, post: Post) -> io::Result<Self> {
        let (sender, commands) = crossbeam_channel::bounded(COMMANDS_MAX);
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&*wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let seat = member.seat();
        let core = Core::new(seat, post.cache_flows);
        let account = Arc::new(Account::default());
        let inherited = Totals::of_work(&shared.work[seat]);
        let patience = Patience::new();
        let worker = Worker {
            shared,
            member,
            core,
            rx: Vec::new(),
            commands,
            wake: Arc::clone(&wake),
            epoll,
            futile: 0,
            account: Arc::clone(&account),
            last: cycles::now(),
            beat: Beat::new(patience.cycles_per_us),
            patience,
            vigil: None,
            slept: false,
            nap_us: 0,
            tuning: post.tuning,
            metrics: post.tuning.metrics.then(Box::default),
        };
        let thread = std::thread::Builder::new().name(post.name).spawn(move || {
            pin(post.cpu);
            punctual();
            worker.run();
        })?;
        Ok(Self { commands: sender, wake, thread: Some(thread), seat, account, inherited })
    }

    /// Sends a command. Waits while `COMMANDS_MAX` are ahead of it.
    pub fn send(&self, command: Command) {
        // A worker only ends after `Stop`, which is the last command.
        let _ = self.commands.send(command);
        // Fails only when the count would overflow, and then the worker is awake.
        let _ = self.wake.write(1);
    }

    /// Sends a command and waits for the answer; `None` if the worker has died (of a panic, a bug of ours).
    pub fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> Option<T> {
        let (sender, answer) = crossbeam_channel::bounded(1);
        self.send(command(sender));
        answer.recv().ok()
    }

    /// Ends the worker; its receive queues.
    #[must_use]
    pub fn stop(mut self) -> Vec<Rx> {
        let rx = self.ask(Command::Stop).unwrap_or_default();
        if let Some(thread) = self.thread.take() {
            // A worker that panicked has said so itself.
            let _ = thread.join();
        }
        rx
    }
}

impl Drop for Handle {
    /// A worker whose handle is lost on the way of an error ends, too.
    fn drop(&mut self) {
        if self.thread.is_some() {
            let (done, _) = crossbeam_channel::bounded(1);
            let _ = self.commands.try_send(Command::Stop(done));
            let _ = self.wake.write(1);
        }
    }
}

/// Has the calling thread woken when it is time, not when it suits.
fn punctual() {
    const SLACK_NS: libc::c_ulong = 1000;
    // SAFETY: the option takes a number and no pointer. A refusal only costs time.
    let _ = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, SLACK_NS) };
}

/// Waits for events, no longer than `limit`; how many there are. An interrupted or failed wait is a wake like any other; a kernel
/// that knows no such limit (before Linux 5.11) waits without.
fn wait(epoll: &Epoll, events: &mut [EpollEvent; EVENTS_MAX], limit: Option<Duration>) -> usize {
    let endless = |events: &mut [EpollEvent; EVENTS_MAX]| epoll.wait(events, EpollTimeout::NONE).unwrap_or(0);
    let Some(limit) = limit else { return endless(events) };
    let seconds = libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX);
    let limit = libc::timespec { tv_sec: seconds, tv_nsec: limit.subsec_nanos().into() };
    let none = std::ptr::null::<libc::sigset_t>();
    // SAFETY: `EpollEvent` is `epoll_event` (`repr(transparent)`); there are EVENTS_MAX of them, and `limit` lives for the time of the call.
    let n = unsafe {
        libc::syscall(libc::SYS_epoll_pwait2, epoll.0.as_raw_fd(), events.as_mut_ptr(), EVENTS_MAX, &raw const limit, none, 0)
    };
    usize::try_from(n).unwrap_or_else(|_| if Errno::last() == Errno::ENOSYS { endless(events) } else { 0 })
}

/// Until the time is over, or until somebody has sent a command: control waits for its answer.
fn doze(wake: &EventFd, limit: Duration) {
    let mut waker = [PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
    if nix::poll::ppoll(&mut waker, Some(TimeSpec::from_duration(limit)), None).is_ok_and(|n| n > 0) {
        let _ = wake.read();
    }
}

fn pin(cpu: Option<CoreId>) {
    let Some(cpu) = cpu else { return };
    let mut set = nix::sched::CpuSet::new();
    let pinned = set.set(cpu as usize).and_then(|()| nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set));
    if let Err(error) = pinned {
        tracing::info!(target: "dpif_netdev", "cannot pin a forwarding thread to CPU {cpu}: {error}");
    }
}

/// What the eventfd's events are called; those of a queue have its `Rx::event`.
const WAKE: u64 = u64::MAX;
/// Events taken after a sleep. If there are so many there may be more.
const EVENTS_MAX: usize = 8;

/// How long to poll in vain, in cycles.
#[derive(Debug)]
struct Patience {
    cycles_per_us: u64,
    credit: u64,
}

impl Patience {
    fn new() -> Self {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is positive and far below 2^63")]
        let cycles_per_us = (cycles::hz() / 1e6) as u64;
        Self { cycles_per_us, credit: CREDIT_MAX * SPIN_MAX_US * cycles_per_us }
    }

    /// The window that may be spent now.
    #[inline]
    fn window(&self) -> u64 {
        self.credit.min(SPIN_MAX_US * self.cycles_per_us).max(SPIN_MIN_US * self.cycles_per_us)
    }

    /// Whether the credit is good for a whole window.
    fn is_rich(&self) -> bool {
        self.credit >= SPIN_MAX_US * self.cycles_per_us
    }

    /// So much polling was in vain.
    fn spent(&mut self, cycles: u64) {
        self.credit = self.credit.saturating_sub(cycles);
    }

    /// So much was slept.
    fn slept(&mut self, cycles: u64) {
        let most = CREDIT_MAX * SPIN_MAX_US * self.cycles_per_us;
        self.credit = (self.credit + cycles / SLEEP_PER_SPIN).min(most);
    }
}

struct Worker {
    shared: Arc<Shared>,
    member: Member,
    core: Core,
    rx: Vec<Rx>,
    commands: Receiver<Command>,
    wake: Arc<EventFd>,
    epoll: Epoll,
    futile: u32,
    account: Arc<Account>,
    /// The cycle counter when it was last read.
    last: u64,
    patience: Patience,
    beat: Beat,
    /// A packet is due: the sleep before it was ended by that.
    vigil: Option<Vigil>,
    /// Nothing came since the last sleep.
    slept: bool,
    /// The length of the next nap.
    nap_us: u32,
    tuning: Tuning,
    metrics: Option<Box<Metrics>>,
}

impl Worker {
    fn run(mut self) {
        self.member.online();
        // When the last packet came, or the last sleep ended.
        let mut since = self.last;
        loop {
            while let Ok(command) = self.commands.try_recv() {
                if !self.obey(command) {
                    return;
                }
            }
            // Others may have had the core since the last look.
            let begin = if self.slept { cycles::now() } else { self.last };
            let received = self.timed_round();
            let idle = self.last.wrapping_sub(since);
            if received > 0 {
                self.futile = 0;
                if std::mem::take(&mut self.slept) {
                    if self.vigil.take().is_some() {
                        self.beat.waited(begin.wrapping_sub(since));
                    }
                    self.beat.came(begin);
                }
                since = self.last;
            } else if idle >= self.window(since) {
                self.patience.spent(idle);
                if self.vigil.take().is_some() {
                    self.beat.lost();
                }
                self.sleep();
                since = self.last;
            } else if idle >= SPIN_MIN_US * self.patience.cycles_per_us {
                std::thread::yield_now();
            }
            if received > 0 && self.tuning.nap_max_us > 0 {
                self.nap(received);
                since = self.last;
            }
        }
    }

    /// How long to poll in vain since then: until what is due can no longer come, or as long as it may take for an answer.
    fn window(&self, since: u64) -> u64 {
        self.vigil.map_or_else(|| self.patience.window(), |vigil| vigil.until.wrapping_sub(since))
    }

    /// A round, with its account.
    fn timed_round(&mut self) -> usize {
        let (begin, missed) = (self.last, self.missed());
        let received = self.round();
        self.last = cycles::now();
        let cycles = self.last.wrapping_sub(begin);
        self.account.count(cycles, received);
        if received > 0 {
            let (packets, batches) = self.core.outlets.sent();
            self.account.sent_packets.store(packets, Ordering::Relaxed);
            self.account.sent_batches.store(batches, Ordering::Relaxed);
        }
        if self.metrics.is_some() {
            let upcalls = self.missed() - missed;
            self.measure(Sample { cycles, packets: received as u64, upcalls, ..Sample::default() });
        }
        received
    }

    /// Packets without megaflow so far; read only for the metrics.
    fn missed(&self) -> u64 {
        if self.metrics.is_some() { self.core.work(&self.shared).missed.load(Ordering::Relaxed) } else { 0 }
    }

    #[cold]
    fn measure(&mut self, round: Sample) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is positive")]
        let threshold = self.tuning.log.threshold_us.saturating_mul(cycles::hz() as u64) / 1_000_000;
        let found = self.metrics.as_mut().and_then(|m| m.round(round, clock::now_ms(), &self.tuning.log, threshold));
        if let Some(Suspicion { round, around }) = found {
            crate::pmd_text::log_suspicion(&round, &around);
        }
    }

    /// After a round of few packets: a nap, each a little longer than the one before, so that packets gather and the CPU rests.
    fn nap(&mut self, received: usize) {
        if received >= BATCH_MAX / 2 {
            self.nap_us = 0;
            return;
        }
        self.nap_us = (self.nap_us + 1).min(self.tuning.nap_max_us);
        self.rest(|worker| doze(&worker.wake, Duration::from_micros(worker.nap_us.into())));
    }

    /// Goes offline for as long as `how` takes, and counts that as sleep.
    fn rest<T>(&mut self, how: impl FnOnce(&mut Self) -> T) -> T {
        self.member.offline();
        let begin = cycles::now();
        let result = how(self);
        self.last = cycles::now();
        add(&self.account.sleeps, 1);
        let slept = self.last.wrapping_sub(begin);
        add(&self.account.asleep_cycles, slept);
        self.patience.slept(slept);
        self.member.online();
        result
    }

    /// A batch from every queue; how many packets there were.
    fn round(&mut self) -> usize {
        let mut received = 0;
        let floor = fair::floor(self.rx.iter().map(|rx| &rx.share));
        for i in 0..self.rx.len() {
            if !self.rx[i].share.has_turn(floor) {
                continue;
            }
            let begin = self.last;
            let n = self.poll(i);
            self.rx[i].share.charge(n == BATCH_MAX, self.last.wrapping_sub(begin), floor);
            received += n;
        }
        if received > 0 {
            self.core.outlets.flush();
            self.core.lap(&self.shared, Stage::Send);
        }
        self.member.quiescent();
        received
    }

    fn poll(&mut self, i: usize) -> usize {
        let rx = &mut self.rx[i];
        let by_call = rx.queue.polls_by_call();
        if by_call && !rx.pause.is_over(self.last) {
            return 0;
        }
        self.core.laps.start(&self.shared.live.stages);
        let n = rx.queue.recv(self.core.inbox());
        self.core.tick(n, self.last);
        // What is due is looked for without a pause.
        if by_call && self.vigil.is_none() {
            self.rx[i].pause.after(n, self.last, self.patience.cycles_per_us);
        }
        if n > 0 {
            self.core.lap(&self.shared, Stage::Receive);
            add(&self.core.work(&self.shared).batches, 1);
            let scope = Scope { shared: &self.shared, guard: self.member.guard() };
            let (port, outer) = (self.rx[i].port, self.rx[i].queue.is_outer());
            self.core.rx_queue = u16::try_from(self.rx[i].number).unwrap_or(u16::MAX);
            if outer {
                self.core.received_outer(scope, port);
            } else {
                self.core.received(scope, port);
            }
            self.member.quiescent();
            let now = cycles::now();
            add(&self.rx[i].load, now.wrapping_sub(self.last));
            self.last = now;
            if let Some(metrics) = &mut self.metrics {
                metrics.batch(n);
            }
        }
        n
    }

    fn sleep(&mut self) {
        if !self.commands.is_empty() || !self.rx.iter_mut().all(|rx| rx.queue.prepare_sleep()) {
            return;
        }
        self.futile += 1;
        WORKER_SLEEPS.inc();
        // A window of it is paid in advance.
        let due = self.beat.next(self.last).filter(|_| self.patience.is_rich());
        let limit = due.map(|vigil| cycles::duration(vigil.from.wrapping_sub(self.last)));
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        let n = self.rest(|worker| {
            if worker.futile > FUTILE_MAX {
                std::thread::sleep(NAP);
            }
            wait(&worker.epoll, &mut events, limit)
        });
        self.slept = true;
        let events = &events[..n];
        let on = due.filter(|vigil| vigil.is_on(self.last));
        self.vigil = on.filter(|_| n == 0);
        if on.is_some() && events.iter().any(|event| event.data() != WAKE) {
            self.beat.overslept();
        }
        let woken_by = |name| events.iter().any(|e| e.data() == name);
        // A call for a queue that has nothing would keep those waiting for whom we were woken.
        for rx in &mut self.rx {
            rx.pause = Pause::default();
            if n < EVENTS_MAX && !woken_by(rx.event()) && self.vigil.is_none() {
                rx.pause.after(0, self.last, self.patience.cycles_per_us);
            }
        }
        if woken_by(WAKE) {
            let _ = self.wake.read();
            self.futile = 0;
        }
    }

    /// Carries out a command; false after the last.
    fn obey(&mut self, command: Command) -> bool {
        // Whoever waits for an answer may have gone: then the answer, queues included, is dropped.
        match command {
            Command::SetOutlet(port, outlet, done) => {
                self.core.outlets.set(port, outlet);
                let _ = done.send(());
            }
            Command::RemovePort(port, done) => {
                let rx = self.take_rx(|rx| rx.port == port);
                let _ = done.send((self.core.outlets.remove(port), rx));
            }
            Command::AddRx(rx) => self.add_rx(rx),
            Command::TakeRx(which, done) => {
                let rx = self.take_rx(|rx| which.is_none_or(|(port, number)| rx.port == port && rx.number == number));
                let _ = done.send(rx);
            }
            Command::Drain(port, done) => {
                self.drain(port);
                let _ = done.send(());
            }
            Command::ResizeCache(flows) => self.core.resize_cache(flows),
            Command::Tune(tuning) => {
                if tuning.metrics != self.tuning.metrics {
                    self.metrics = tuning.metrics.then(Box::default);
                }
                self.tuning = tuning;
            }
            Command::Metrics(done) => drop(done.send(self.metrics.clone())),
            Command::ClearMetrics => self.metrics = self.tuning.metrics.then(Box::default),
            Command::Stop(done) => {
                let rx = self.take_rx(|_| true);
                self.core.outlets.flush();
                self.shared.ct.leave(&mut self.core.ct);
                let _ = done.send(rx);
                return false;
            }
        }
        self.member.quiescent();
        true
    }

    /// Bounded, because a memory source never ends.
    fn drain(&mut self, port: DpPort) {
        const ROUNDS_MAX: usize = 1024;
        for i in 0..self.rx.len() {
            if self.rx[i].port != port {
                continue;
            }
            for _ in 0..ROUNDS_MAX {
                if self.poll(i) == 0 {
                    break;
                }
            }
        }
        self.core.outlets.flush();
    }

    fn add_rx(&mut self, mut rx: Rx) {
        // What it used elsewhere is nothing that the queues here could be compared with.
        rx.share = Share::default();
        if let Some(fd) = rx.queue.poll_fd() {
            // SAFETY: the queue owns the descriptor and keeps it open as long as it lives; it is borrowed for this call only.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            if let Err(error) = self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, rx.event())) {
                tracing::debug!(target: "dpif_netdev", "port {}: cannot wait for packets: {error}", rx.port.0);
            }
        }
        self.rx.push(rx);
    }

    fn take_rx(&mut self, which: impl Fn(&Rx) -> bool) -> Vec<Rx> {
        let taken: Vec<Rx> = self.rx.extract_if(.., |rx| which(rx)).collect();
        for fd in taken.iter().filter_map(|rx| rx.queue.poll_fd()) {
            // SAFETY: as in `add_rx`.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            // A descriptor that could not be added cannot be removed.
            let _ = self.epoll.delete(fd);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_queues_are_asked_less_and_less_often() {
        let mut p = Pause::default();
        assert!(p.is_over(5));
        let mut now = 1000;
        for length in [8, 16, 32, 64, 128, 128] {
            p.after(0, now, 1);
            assert!(!p.is_over(now + length - 1) && p.is_over(now + length));
            now += length;
        }
        p.after(3, now, 1);
        assert!(p.is_over(now));
    }

    /// A nap does not keep control waiting, and what has woken one does not shorten the next.
    #[test]
    fn a_command_ends_a_nap() {
        let wake = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK).unwrap();
        wake.write(1).unwrap();
        doze(&wake, Duration::from_secs(1_000_000));
        assert_eq!(wake.read(), Err(Errno::EAGAIN));
        doze(&wake, Duration::from_micros(1));
    }

    #[test]
    fn polling_in_vain_is_paid_by_sleep() {
        let mut p = Patience::new();
        let (max, min) = (SPIN_MAX_US * p.cycles_per_us, SPIN_MIN_US * p.cycles_per_us);
        for _ in 0..CREDIT_MAX {
            assert_eq!(p.window(), max);
            p.spent(max);
        }
        assert_eq!(p.window(), min);
        p.slept(max * SLEEP_PER_SPIN / 2);
        assert_eq!(p.window(), max / 2);
        p.slept(u64::MAX / 2);
        assert_eq!((p.window(), p.credit), (max, CREDIT_MAX * max));
    }
}
