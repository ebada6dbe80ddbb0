//! A session's output: a queue with a limit, so that a client that does not read costs bounded memory.
//!
//! While anything waits in the queue, updates are not put behind it: the session falls behind, and when the queue is empty it is told all
//! that it missed ([`super::feed`]). Whoever of the two notices last sees to that: both sides look at `waiting` and `behind` in
//! opposite order, and sequential consistency says that one of them sees the other's mark.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::{Notify, mpsc};

/// Bytes that may wait for one client. A client that lets more pile up is dropped.
pub const OUTPUT_MAX: usize = 64 << 20;
/// Above this many waiting bytes no further requests are taken from the client.
pub(crate) const OUTPUT_HIGH: usize = 4 << 20;

/// Messages that one write takes together.
const WRITE_MAX: usize = 64;

/// A message on its way out.
#[derive(Clone, Debug)]
pub(crate) enum Outgoing {
    /// For one session.
    Own(String),
    /// An update: the beginning that names the session's monitor, and the rows, which other sessions' messages share.
    Update { head: String, body: Arc<str> },
}

impl Outgoing {
    /// What follows the rows of an update.
    const UPDATE_END: &'static str = "]}";

    /// Its bytes, in order.
    pub(crate) fn parts(&self) -> [&[u8]; 3] {
        match self {
            Self::Own(text) => [text.as_bytes(), &[], &[]],
            Self::Update { head, body } => [head.as_bytes(), body.as_bytes(), Self::UPDATE_END.as_bytes()],
        }
    }

    fn len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }
}

/// The writing end, held by the core.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    queue: mpsc::UnboundedSender<Outgoing>,
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
    queue: mpsc::UnboundedReceiver<Outgoing>,
    state: Arc<State>,
}

pub(crate) fn outbox() -> (Outbox, Output) {
    let (tx, rx) = mpsc::unbounded_channel();
    let state = Arc::new(State::default());
    (Outbox { queue: tx, state: Arc::clone(&state) }, Output { queue: rx, state })
}

impl Outbox {
    /// Queues a message. Says false when the client has to be dropped: what waits is too much, and not because one message is large.
    pub(crate) fn push(&self, message: Outgoing) -> bool {
        let length = message.len();
        let before = self.state.waiting.fetch_add(length, Ordering::SeqCst);
        // The session may be ending; its queue is gone then.
        let _ = self.queue.send(message);
        before == 0 || before + length <= OUTPUT_MAX
    }

    /// Whether updates have to wait.
    pub(crate) fn is_busy(&self) -> bool {
        self.state.waiting.load(Ordering::SeqCst) > 0 || self.state.behind.load(Ordering::SeqCst)
    }

    /// Notes that updates wait. Says true if the queue has become empty meanwhile, so that they are to be told now.
    pub(crate) fn fall_behind(&self) -> bool {
        self.state.behind.store(true, Ordering::SeqCst);
        self.state.waiting.load(Ordering::SeqCst) == 0
    }

    /// Notes that the session is being told what it missed. Says whether it was behind.
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
    /// Puts the next messages into `batch`, at least one. Says false when the session has ended.
    pub(crate) async fn next(&mut self, batch: &mut Vec<Outgoing>) -> bool {
        self.queue.recv_many(batch, WRITE_MAX).await > 0
    }

    /// So many bytes were written. Says true if nothing waits any more and the session is behind.
    pub(crate) fn written(&self, length: usize) -> bool {
        let before = self.state.waiting.fetch_sub(length, Ordering::SeqCst);
        if before >= OUTPUT_HIGH && before - length < OUTPUT_HIGH {
            self.state.drained.notify_one();
        }
        before == length && self.state.behind.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(length: usize) -> Outgoing {
        Outgoing::Own("x".repeat(length))
    }

    #[tokio::test]
    async fn a_large_message_alone_may_pass_and_a_pile_may_not() {
        let (outbox, mut output) = outbox();
        assert!(outbox.push(own(OUTPUT_MAX + 1)));
        assert!(!outbox.push(own(1)));
        let mut batch = Vec::new();
        assert!(output.next(&mut batch).await);
        assert_eq!(batch.len(), 2);
        assert!(!output.written(OUTPUT_MAX + 1));
        assert!(outbox.is_busy());
        assert!(!outbox.fall_behind());
        assert!(output.written(1));
        assert!(outbox.catch_up() && !outbox.is_busy());
    }

    #[test]
    fn an_update_is_a_message_around_shared_rows() {
        let update = Outgoing::Update { head: "{[1,".into(), body: Arc::from("{}") };
        assert_eq!((update.parts().concat(), update.len()), (b"{[1,{}]}".to_vec(), 8));
    }
}
