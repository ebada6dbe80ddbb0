//! Route netlink by bytes: whoever writes its own messages (tc-flower) sends them here and gets the kernel's answers, texts included.
//!
//! What enters: requests, one message after another. What leaves: all messages of their answers. Neighbours: the daemon's offload room.
//! It blocks for the time of the system calls; not for forwarding threads.

use super::wire::messages;
use super::{READ_MAX, open};
use crate::sys;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockFlag, recv, send, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

/// Errors come with the kernel's (or driver's) own words.
const NETLINK_EXT_ACK: libc::c_int = 11;
/// Bytes of answers that may wait: those of a batch, while it is still being carried out.
const WAITING_MAX: usize = 8 << 20;
/// A kernel that does not answer for so long does not answer.
const PATIENCE_S: i64 = 10;

/// A socket. It belongs to the network namespace in which it was made.
#[derive(Debug)]
pub struct Raw {
    fd: OwnedFd,
    /// One conversation at a time.
    talking: Mutex<()>,
}

impl Raw {
    /// A socket in the network namespace of the calling thread.
    pub fn new() -> io::Result<Self> {
        let fd = open(0, SockFlag::empty())?;
        sys::set_option(fd.as_fd(), libc::SOL_NETLINK, NETLINK_EXT_ACK, &1)?;
        // Without the privilege the default remains, and batches may overrun it: an error like any other.
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &WAITING_MAX);
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_S))?;
        Ok(Self { fd, talking: Mutex::default() })
    }

    /// Sends requests and gathers their answers, each up to its acknowledgement or the end of its dump.
    pub fn talk(&self, requests: &[u8]) -> io::Result<Vec<u8>> {
        let _one = self.talking.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open: Vec<u32> = messages(requests).map(|m| m.seq).collect();
        send(self.fd.as_raw_fd(), requests, MsgFlags::empty())?;
        let mut out = Vec::new();
        let mut bytes = vec![0; READ_MAX];
        while !open.is_empty() {
            let n = match recv(self.fd.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                Ok(n) => n,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut ours = false;
            for message in messages(&bytes[..n]) {
                // What is left of a conversation that was given up is passed over.
                ours |= open.contains(&message.seq);
                let kind = libc::c_int::from(message.kind);
                if kind == libc::NLMSG_DONE || kind == libc::NLMSG_ERROR {
                    open.retain(|seq| *seq != message.seq);
                }
            }
            if ours {
                out.extend_from_slice(&bytes[..n]);
            }
        }
        Ok(out)
    }
}

/// A request for every device of the namespace, to be decoded with [`super::decode`].
pub fn all_links() -> Vec<u8> {
    let request = super::wire::Builder::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, 1, &super::request::ifinfo(0, 0, 0));
    request.finish()
}
