//! Sockets by queue: the priority that the kernel's classes go by is that of a whole packet socket, so each queue of a device has one.
//!
//! What enters: the queues that are configured. What leaves: the socket that packets of a queue go by. Neighbours: `af_packet`, whose
//! transmit handles look here for packets that name a queue; `netlink::qdisc`, which numbers the classes.
//!
//! Workers look while control adds. Sockets are therefore only ever added, and closed with their port: a packet that goes by the socket
//! of a queue that there is no more names a class that there is not, and the kernel gives it to the default one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Queues of a device that packets may name; those beyond go by the default class.
pub(crate) const SOCKETS_MAX: usize = 256;

/// A queue's socket.
#[derive(Debug)]
struct Entry {
    queue: u16,
    fd: OwnedFd,
}

/// The sockets of one device.
#[derive(Debug)]
pub(crate) struct ClassSockets {
    /// Whether the device's discipline has classes at all.
    on: AtomicBool,
    entries: Box<[OnceLock<Entry>]>,
}

impl Default for ClassSockets {
    fn default() -> Self {
        Self { on: AtomicBool::new(false), entries: (0..SOCKETS_MAX).map(|_| OnceLock::new()).collect() }
    }
}

impl ClassSockets {
    /// The socket of a queue; `None` if it has none. Any thread, without a lock.
    pub(crate) fn find(&self, queue: u16) -> Option<BorrowedFd<'_>> {
        let mut entries = self.entries.iter().map_while(OnceLock::get);
        let on = self.on.load(Ordering::Acquire);
        on.then(|| entries.find(|e| e.queue == queue))?.map(|e| e.fd.as_fd())
    }

    /// Makes a socket, by `open`, for each queue that has none. Control only. No queues: all packets go by the device's one socket again.
    ///
    /// # Errors
    /// Those of `open`; `Other` when there are too many queues, whose packets then go by the default class.
    pub(crate) fn set(&self, queues: &[u16], open: impl Fn(u16) -> io::Result<OwnedFd>) -> io::Result<()> {
        self.on.store(!queues.is_empty(), Ordering::Release);
        for queue in queues {
            let known = self.entries.iter().map_while(OnceLock::get).any(|e| e.queue == *queue);
            if known {
                continue;
            }
            let free = self.entries.iter().find(|e| e.get().is_none());
            let free = free.ok_or_else(|| io::Error::other(format!("packets can name at most {SOCKETS_MAX} queues")))?;
            let fd = open(*queue)?;
            // Control is one thread, so the place is still free.
            drop(free.set(Entry { queue: *queue, fd }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn pipe(_: u16) -> io::Result<OwnedFd> {
        Ok(nix::unistd::pipe()?.0)
    }

    #[test]
    fn a_queue_keeps_its_socket_and_others_have_none() {
        let sockets = ClassSockets::default();
        assert!(sockets.find(1).is_none());
        sockets.set(&[0, 7], pipe).unwrap();
        let seven = sockets.find(7).unwrap().as_raw_fd();
        assert!(sockets.find(1).is_none());
        sockets.set(&[7, 9], pipe).unwrap();
        assert_eq!(sockets.find(7).unwrap().as_raw_fd(), seven);
        assert!(sockets.find(9).is_some());
        sockets.set(&[], pipe).unwrap();
        assert!(sockets.find(7).is_none(), "without classes there is nothing to name");
    }

    #[test]
    fn there_is_an_end_to_sockets() {
        let sockets = ClassSockets::default();
        let many: Vec<u16> = (0..=u16::try_from(SOCKETS_MAX).unwrap()).collect();
        assert!(sockets.set(&many, pipe).is_err());
        assert!(sockets.find(3).is_some() && sockets.find(256).is_none());
    }
}
