//! (in the making)
use crate::batch::Batch;
use crate::queue::{Capabilities, Receive, Transmit};
use std::os::fd::RawFd;

/// Receive queue.
#[derive(Debug)]
pub struct Rx {}

impl Receive for Rx {
    fn recv(&mut self, _batch: &mut Batch) -> usize {
        0
    }
    fn poll_fd(&self) -> Option<RawFd> {
        None
    }
    fn prepare_sleep(&mut self) -> bool {
        true
    }
}

/// Transmit handle.
#[derive(Debug)]
pub struct Tx {}

impl Transmit for Tx {
    fn send(&mut self, batch: &mut Batch) {
        batch.clear();
    }
    fn flush(&mut self) {}
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
}
