//! The thread that gives sessions (BFD, CFM, LLDP) their time to the millisecond. It lives as long as there are sessions; everything else is
//! content with the slow path's own, slower, thread.

use crate::slowpath::Slowpath;
use flow::clock::{clock, now_ms};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// The longest sleep.
const PERIOD: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// The thread, if it runs.
#[derive(Debug, Default)]
pub(crate) struct Monitor(Mutex<Option<Running>>);

impl Monitor {
    /// Starts or ends the thread, as there is something to do for it or not.
    pub(crate) fn adjust(&self, slowpath: &Arc<Slowpath>, needed: bool) {
        let mut running = self.0.lock().expect("no holder of the monitor panics");
        if needed == running.is_some() {
            return;
        }
        if let Some(Running { stop, thread }) = running.take() {
            stop.store(true, Ordering::Release);
            thread.thread().unpark();
            thread.join().expect("the monitor does not panic");
            return;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, slowpath) = (Arc::clone(&stop), Arc::downgrade(slowpath));
        let body = move || {
            tracing::info!(target: "ofproto_dpif_monitor", "monitor thread created");
            while !stopped.load(Ordering::Acquire) {
                let Some(slowpath) = slowpath.upgrade() else { break };
                let pause = slowpath.run_monitor();
                drop(slowpath);
                std::thread::park_timeout(pause);
            }
            tracing::info!(target: "ofproto_dpif_monitor", "monitor thread terminated");
        };
        let thread = std::thread::Builder::new()
            .name("monitor1".into())
            .spawn(body)
            .expect("the system has a thread left for the monitor");
        *running = Some(Running { stop, thread });
    }
}

impl Slowpath {
    /// Gives all protocols their time; how long until they want more.
    fn run_monitor(&self) -> Duration {
        let now = now_ms();
        let wake = self.run_protocols(now);
        // A stopped clock does not get there by waiting.
        let left = if clock().is_stopped() { PERIOD } else { Duration::from_millis(u64::try_from(wake - now).unwrap_or(1)) };
        left.clamp(Duration::from_millis(1), PERIOD)
    }

    /// Starts or ends the monitor, as there are sessions or not.
    pub(crate) fn adjust_monitor(&self) {
        let needed = self.read_world().bridges.values().any(|b| !b.protocols.lock().sessions.is_empty());
        if let Some(this) = self.this.upgrade().filter(|_| self.has_threads()) {
            self.monitor.adjust(&this, needed);
        }
    }
}
