//! Route netlink by bytes: whoever writes its own messages (tc-flower) sends them here and gets the kernel's answers, texts included.
//!
//! What enters: requests, one message after another. What leaves: all messages of their answers; what others did meanwhile ([`Watch`]).
//! Neighbours: the daemon's offload room. It blocks for the time of the system calls; not for forwarding threads.

use super::wire::messages;
use super::{READ_MAX, open};
use crate::sys;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, NetlinkAddr, SockFlag, getsockname, recv, send, setsockopt, sockopt};
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

/// `RTMGRP_LINK` and the bit of `RTNLGRP_TC`: filters, queueing disciplines and actions.
const CHANGES: u32 = 1 | 1 << 3;
/// Reads of one call; what is left waits for the next one.
const READS_MAX: usize = 4_096;
/// Bytes of changes that may wait.
const CHANGES_MAX: usize = 1 << 20;

/// What others do to filters, queueing disciplines and actions, and devices that go, in the network namespace of the thread that makes it. The kernel
/// keeps from it what a [`Raw`] socket asks for itself, and devices that only change.
#[derive(Debug)]
pub struct Watch {
    fd: OwnedFd,
    bytes: Mutex<Vec<u8>>,
}

/// What a [`Watch`] has heard: messages, one after another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The messages.
    pub bytes: Vec<u8>,
    /// Some were lost, because nobody read them in time.
    pub overrun: bool,
}

impl Watch {
    /// Begins to listen. What `own` does is not heard.
    pub fn beside(own: &Raw) -> io::Result<Self> {
        let own = getsockname::<NetlinkAddr>(own.fd.as_raw_fd())?.pid();
        let fd = open(CHANGES, SockFlag::SOCK_NONBLOCK)?;
        sys::attach_filter(fd.as_fd(), &without(own))?;
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &CHANGES_MAX);
        Ok(Self { fd, bytes: Mutex::new(vec![0; READ_MAX]) })
    }

    /// What has happened since the last call. Never blocks.
    pub fn heard(&self) -> io::Result<Heard> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut heard = Heard::default();
        for _ in 0..READS_MAX {
            match recv(self.fd.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                Ok(n) => heard.bytes.extend_from_slice(&bytes[..n]),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => heard.overrun = true,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(heard)
    }
}

/// A program that drops messages of a sender (`nlmsg_pid`), and devices that come or change. Messages are in the machine's order, loads in the
/// network's.
fn without(sender: u32) -> [libc::sock_filter; 6] {
    let part = |n: u32| u16::try_from(n & 0xffff).expect("sixteen bits");
    let load = |size: u32, at| libc::sock_filter { code: part(libc::BPF_LD | size | libc::BPF_ABS), jt: 0, jf: 0, k: at };
    let equal = |k, jt| libc::sock_filter { code: part(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K), jt, jf: 0, k };
    let end = |k| libc::sock_filter { code: part(libc::BPF_RET | libc::BPF_K), jt: 0, jf: 0, k };
    [
        load(libc::BPF_H, 4),
        equal(u32::from(libc::RTM_NEWLINK.to_be()), 3),
        load(libc::BPF_W, 12),
        equal(sender.to_be(), 1),
        end(u32::MAX),
        end(0),
    ]
}

/// A request for every device of the namespace, to be decoded with [`super::decode`].
pub fn all_links() -> Vec<u8> {
    let request = super::wire::Builder::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, 1, &super::request::ifinfo(0, 0, 0));
    request.finish()
}
