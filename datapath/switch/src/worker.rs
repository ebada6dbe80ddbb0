//! A forwarding worker: a thread that polls receive queues while there is work, and sleeps while there is none.
//!
//! What enters: packets of its receive queues; commands of the control thread, taken between batches. What leaves: whatever `forward`
//! does with them. Neighbours: `forward` (the core), `ports` (which hands queues out), `port`.
//!
//! # Life
//!
//! Busy: every queue is polled in turn, a batch each, and what was sent is flushed once per round. After `IDLE_ROUNDS` rounds without a
//! packet it asks each queue whether it may sleep, goes offline (nobody waits for it then) and sleeps in epoll on the queues'
//! descriptors and on its own eventfd, through which commands wake it. An idle worker makes no system call and takes no CPU.
//!
//! A queue can make its descriptor readable without giving packets (a dying device). Wakes that bring nothing are counted, and after
//! `FUTILE_MAX` in a row the worker naps before it sleeps again, so that such a device costs little until control takes the queue away.

use crate::counters::WORKER_SLEEPS;
use crate::forward::{Core, Scope, Shared};
use crate::outlets::Outlet;
use crate::qsbr::Member;
use crate::stats::add;
use crossbeam_channel::{Receiver, Sender};
use flow::DpPort;
use flow::clock;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use port::{Batch, Receive, RxQueue};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

/// Rounds without a packet before a worker thinks of sleeping.
const IDLE_ROUNDS: u32 = 64;
/// Wakes without a packet before a worker naps.
const FUTILE_MAX: u32 = 16;
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
}

/// What control asks of a worker. Everything with a `Sender` is answered when it is done.
#[derive(Debug)]
pub enum Command {
    SetOutlet(DpPort, Box<Outlet>),
    /// Gives back the port's outlet and receive queues; nothing of the port is used after the answer.
    RemovePort(DpPort, Sender<(Option<Box<Outlet>>, Vec<Rx>)>),
    AddRx(Rx),
    /// Gives back one receive queue, or (`None`) all, for another worker.
    TakeRx(Option<(DpPort, usize)>, Sender<Vec<Rx>>),
    /// Polls a port's queues until they are empty.
    Drain(DpPort, Sender<()>),
    ResizeCache(usize),
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
    pub cpu: Option<usize>,
}

impl Handle {
    /// Starts a worker.
    pub fn start(shared: Arc<Shared>, member: Member, cpu: Option<usize>, cache_flows: usize) -> io::Result<Self> {
        let (sender, commands) = crossbeam_channel::bounded(COMMANDS_MAX);
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&*wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let seat = member.seat();
        let core = Core::new(seat, cache_flows);
        let worker = Worker { shared, member, core, rx: Vec::new(), commands, wake: Arc::clone(&wake), epoll, futile: 0 };
        let name = format!("pmd-c{:02}/id:{seat}", cpu.unwrap_or(seat));
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            pin(cpu);
            worker.run();
        })?;
        Ok(Self { commands: sender, wake, thread: Some(thread), seat, cpu })
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

fn pin(cpu: Option<usize>) {
    let Some(cpu) = cpu else { return };
    let mut set = nix::sched::CpuSet::new();
    let pinned = set.set(cpu).and_then(|()| nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set));
    if let Err(error) = pinned {
        tracing::info!(target: "dpif_netdev", "cannot pin a forwarding thread to CPU {cpu}: {error}");
    }
}

/// What the eventfd's events are called.
const WAKE: u64 = u64::MAX;

struct Worker {
    shared: Arc<Shared>,
    member: Member,
    core: Core,
    rx: Vec<Rx>,
    commands: Receiver<Command>,
    wake: Arc<EventFd>,
    epoll: Epoll,
    futile: u32,
}

impl Worker {
    fn run(mut self) {
        let mut batch = Batch::new();
        let mut idle = 0;
        self.member.online();
        loop {
            while let Ok(command) = self.commands.try_recv() {
                if !self.obey(command, &mut batch) {
                    return;
                }
            }
            if self.round(&mut batch) > 0 {
                (idle, self.futile) = (0, 0);
                continue;
            }
            idle += 1;
            if idle >= IDLE_ROUNDS {
                idle = 0;
                self.sleep();
            }
        }
    }

    /// A batch from every queue; how many packets there were.
    fn round(&mut self, batch: &mut Batch) -> usize {
        let mut received = 0;
        for i in 0..self.rx.len() {
            received += self.poll(i, batch);
        }
        if received > 0 {
            self.core.outlets.flush();
        }
        self.member.quiescent();
        received
    }

    fn poll(&mut self, i: usize, batch: &mut Batch) -> usize {
        let rx = &mut self.rx[i];
        let n = rx.queue.recv(batch);
        if n > 0 {
            self.core.now_ms = clock::now_ms();
            add(&self.core.work(&self.shared).batches, 1);
            let scope = Scope { shared: &self.shared, guard: self.member.guard() };
            self.core.receive(scope, rx.port, batch);
            self.member.quiescent();
        }
        n
    }

    fn sleep(&mut self) {
        if !self.commands.is_empty() || !self.rx.iter_mut().all(|rx| rx.queue.prepare_sleep()) {
            return;
        }
        self.futile += 1;
        self.member.offline();
        if self.futile > FUTILE_MAX {
            std::thread::sleep(NAP);
        }
        WORKER_SLEEPS.inc();
        let mut events = [EpollEvent::empty(); 8];
        // An interrupted or failed wait is a wake like any other.
        let n = self.epoll.wait(&mut events, EpollTimeout::NONE).unwrap_or(0);
        if events[..n].iter().any(|e| e.data() == WAKE) {
            let _ = self.wake.read();
            self.futile = 0;
        }
        self.member.online();
    }

    /// Carries out a command; false after the last.
    fn obey(&mut self, command: Command, batch: &mut Batch) -> bool {
        // Whoever waits for an answer may have gone: then the answer, queues included, is dropped.
        match command {
            Command::SetOutlet(port, outlet) => self.core.outlets.set(port, outlet),
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
                self.drain(port, batch);
                let _ = done.send(());
            }
            Command::ResizeCache(flows) => self.core.resize_cache(flows),
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
    fn drain(&mut self, port: DpPort, batch: &mut Batch) {
        const ROUNDS_MAX: usize = 1024;
        for i in 0..self.rx.len() {
            if self.rx[i].port != port {
                continue;
            }
            for _ in 0..ROUNDS_MAX {
                if self.poll(i, batch) == 0 {
                    break;
                }
            }
        }
        self.core.outlets.flush();
    }

    fn add_rx(&mut self, rx: Rx) {
        if let Some(fd) = rx.queue.poll_fd() {
            // SAFETY: the queue owns the descriptor and keeps it open as long as it lives; it is borrowed for this call only.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            if let Err(error) = self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0)) {
                tracing::debug!(target: "dpif_netdev", "port {}: cannot wait for packets: {error}", rx.port.0);
            }
        }
        self.rx.push(rx);
    }

    fn take_rx(&mut self, which: impl Fn(&Rx) -> bool) -> Vec<Rx> {
        let (taken, kept) = std::mem::take(&mut self.rx).into_iter().partition::<Vec<_>, _>(|rx| which(rx));
        self.rx = kept;
        for fd in taken.iter().filter_map(|rx| rx.queue.poll_fd()) {
            // SAFETY: as in `add_rx`.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            // A descriptor that could not be added cannot be removed.
            let _ = self.epoll.delete(fd);
        }
        taken
    }
}
