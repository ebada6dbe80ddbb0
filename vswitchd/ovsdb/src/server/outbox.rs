//! A session's output: a queue with a limit, so that a client that does not read costs bounded memory.
//!
//! While anything waits in the queue, updates are not put behind it: the session falls behind, its monitors gather what they miss, and when
//! the queue is empty they tell it at once. Whoever of the two notices last does so: both sides look at `waiting` and `behind` in
//! opposite order, and sequential consistency says that one of them sees the other's mark.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::{Notify, mpsc};

/// Bytes that may wait for one client. A client that lets more pile up is dropped.
pub const OUTPUT_MAX: usize = 64 << 20;
/// Above this many waiting bytes no further requests are taken from the client.
pub(crate) const OUTPUT_HIGH: usize = 4 << 20;

/// The writing end, held by the core.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    queue: mpsc::UnboundedSender<Arc<str>>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: AtomicUsize,
    /// Monitors have something to tell when the queue is empty.
    behind: AtomicBool,
    closed: AtomicBool,
    /// Closed without regard to what still waits to be written.
    aborted: AtomicBool,
    close: Notify,
    drained: Notify,
}

/// The reading end, held by the session's writer.
#[derive(Debug)]
pub(crate) struct Output {
    queue: mpsc::UnboundedReceiver<Arc<str>>,
    state: Arc<State>,
}

pub(crate) fn outbox() -> (Outbox, Output) {
    let (tx, rx) = mpsc::unbounded_channel();
    let state = Arc::new(State::default());
    (Outbox { queue: tx, state: Arc::clone(&state) }, Output { queue: rx, state })
}

impl Outbox {
    /// Queues a message. Says false when the client has to be dropped.
    pub(crate) fn push(&self, message: Arc<str>) -> bool {
        let waiting = self.state.waiting.fetch_add(message.len(), Ordering::SeqCst) + message.len();
        // The session may be ending; its queue is gone then.
        let _ = self.queue.send(message);
        waiting <= OUTPUT_MAX
    }

    /// Whether updates have to be gathered instead of queued.
    pub(crate) fn is_busy(&self) -> bool {
        self.state.waiting.load(Ordering::SeqCst) > 0 || self.state.behind.load(Ordering::SeqCst)
    }

    /// Notes that updates were gathered. Says true if the queue has become empty meanwhile, so that they are to be told now.
    pub(crate) fn fall_behind(&self) -> bool {
        self.state.behind.store(true, Ordering::SeqCst);
        self.state.waiting.load(Ordering::SeqCst) == 0
    }

    /// Notes that what was gathered is being told. Says whether there was anything.
    pub(crate) fn catch_up(&self) -> bool {
        self.state.behind.swap(false, Ordering::SeqCst)
    }

    /// Ends the session at once.
    pub(crate) fn abort(&self) {
        self.state.aborted.store(true, Ordering::Relaxed);
        self.close();
    }

    /// Whether what waits may still be written after [`Outbox::closed`].
    pub(crate) fn may_flush(&self) -> bool {
        !self.state.aborted.load(Ordering::Relaxed)
    }

    /// Ends the session when what waits has been written.
    pub(crate) fn close(&self) {
        self.state.closed.store(true, Ordering::Relaxed);
        self.state.close.notify_waiters();
        self.state.close.notify_one();
    }

    /// Resolves when [`Outbox::close`] was called.
    pub(crate) async fn closed(&self) {
        while !self.state.closed.load(Ordering::Relaxed) {
            self.state.close.notified().await;
        }
    }

    /// Resolves when little enough waits that the client's next request may be taken.
    pub(crate) async fn drained(&self) {
        loop {
            let wait = self.state.drained.notified();
            if self.state.waiting.load(Ordering::Relaxed) < OUTPUT_HIGH {
                return;
            }
            wait.await;
        }
    }
}

impl Output {
    /// The next message; `None` when the session has ended.
    pub(crate) async fn next(&mut self) -> Option<Arc<str>> {
        self.queue.recv().await
    }

    /// A message of this length was written. Says true if nothing waits any more and the session is behind.
    pub(crate) fn written(&self, length: usize) -> bool {
        let before = self.state.waiting.fetch_sub(length, Ordering::SeqCst);
        if before >= OUTPUT_HIGH && before - length < OUTPUT_HIGH {
            self.state.drained.notify_one();
        }
        before == length && self.state.behind.load(Ordering::SeqCst)
    }
}
