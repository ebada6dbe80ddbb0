//! Many datagrams in one system call (sendmmsg(2), recvmmsg(2)), with their addresses and control messages as bytes.
//!
//! What enters: borrowed bytes, sockets. What leaves: how many went; what came. Neighbours: `host`.

use crate::batch::BATCH_MAX;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const NO_PART: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

fn no_messages() -> [libc::mmsghdr; BATCH_MAX] {
    // SAFETY: msghdr is plain data, for which all zeros (no name, no buffers, no control data) is valid.
    let empty: libc::msghdr = unsafe { std::mem::zeroed() };
    [libc::mmsghdr { msg_hdr: empty, msg_len: 0 }; BATCH_MAX]
}

/// A datagram to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram<'a> {
    /// A socket address.
    pub(crate) to: &'a [u8],
    pub(crate) control: &'a [u8],
    pub(crate) bytes: &'a [u8],
}

impl Datagram<'_> {
    pub(crate) const EMPTY: Self = Self { to: &[], control: &[], bytes: &[] };
}

/// Sends datagrams, [`BATCH_MAX`] at most, without blocking; how many went (at least one).
pub(crate) fn send(fd: BorrowedFd<'_>, datagrams: &[Datagram<'_>]) -> io::Result<usize> {
    let mut parts = [NO_PART; BATCH_MAX];
    let mut messages = no_messages();
    let n = datagrams.len().min(BATCH_MAX);
    for ((datagram, part), message) in datagrams.iter().zip(&mut parts).zip(&mut messages) {
        *part = libc::iovec { iov_base: datagram.bytes.as_ptr().cast_mut().cast(), iov_len: datagram.bytes.len() };
        let header = &mut message.msg_hdr;
        header.msg_name = datagram.to.as_ptr().cast_mut().cast();
        header.msg_namelen = libc::socklen_t::try_from(datagram.to.len()).expect("addresses are small");
        header.msg_iov = part;
        header.msg_iovlen = 1;
        if !datagram.control.is_empty() {
            header.msg_control = datagram.control.as_ptr().cast_mut().cast();
            header.msg_controllen = datagram.control.len() as _;
        }
    }
    let count = libc::c_uint::try_from(n).expect("at most a batch");
    // SAFETY: each of the first `count` messages points to a part in `parts`, and that to bytes which are borrowed for the time of the call, as
    // names and control data are; the call only reads all of them.
    let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Room for [`BATCH_MAX`] datagrams; the system gives memory to what is used of it.
#[derive(Debug)]
pub(crate) struct Slots {
    names: Vec<u8>,
    controls: Vec<u8>,
    bytes: Vec<u8>,
    /// Of each datagram that came: bytes of name, control messages and data, and whether it was too long.
    came: Vec<Came>,
    /// Bytes that there are for each of a slot's parts.
    name: usize,
    control: usize,
    data: usize,
}

#[derive(Clone, Copy, Debug)]
struct Came {
    name: usize,
    control: usize,
    data: usize,
    cut: bool,
}

/// A datagram that came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot<'a> {
    /// Who sent it: a socket address.
    pub(crate) name: &'a [u8],
    pub(crate) control: &'a [u8],
    pub(crate) bytes: &'a [u8],
    /// It was longer than there was room for.
    pub(crate) cut: bool,
}

impl Slots {
    /// Room for so many bytes of name, control messages and data.
    pub(crate) fn new(name: usize, control: usize, data: usize) -> Self {
        let room = |each: usize| vec![0; each * BATCH_MAX];
        Self {
            names: room(name),
            controls: room(control),
            bytes: room(data),
            came: Vec::with_capacity(BATCH_MAX),
            name,
            control,
            data,
        }
    }

    /// Receives up to `max` datagrams, without blocking; how many.
    pub(crate) fn receive(&mut self, fd: BorrowedFd<'_>, max: usize) -> io::Result<usize> {
        let mut parts = [NO_PART; BATCH_MAX];
        let mut messages = no_messages();
        let names = self.names.chunks_exact_mut(self.name);
        let rooms = names.zip(self.controls.chunks_exact_mut(self.control)).zip(self.bytes.chunks_exact_mut(self.data));
        for ((((name, control), data), part), message) in rooms.zip(&mut parts).zip(&mut messages) {
            *part = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
            let header = &mut message.msg_hdr;
            header.msg_name = name.as_mut_ptr().cast();
            header.msg_namelen = libc::socklen_t::try_from(name.len()).expect("addresses are small");
            header.msg_iov = part;
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = control.len() as _;
        }
        self.came.clear();
        let count = libc::c_uint::try_from(max.min(BATCH_MAX)).expect("at most a batch");
        let (flags, forever) = (libc::MSG_DONTWAIT, std::ptr::null_mut());
        // SAFETY: each of the first `count` messages points to a part in `parts`, and that to bytes of a slot of its own, as names and control
        // data do; all of them are ours alone until the call returns.
        let n = unsafe { libc::recvmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), count, flags, forever) };
        let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
        self.came.extend(messages[..n].iter().map(|message| Came {
            name: message.msg_hdr.msg_namelen as usize,
            control: message.msg_hdr.msg_controllen as _,
            data: message.msg_len as usize,
            cut: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        }));
        Ok(n)
    }

    /// Datagram `i` of those that came last.
    ///
    /// # Panics
    /// If there were not so many.
    pub(crate) fn slot(&self, i: usize) -> Slot<'_> {
        let came = self.came[i];
        let part = |each: usize, len: usize| i * each..i * each + len.min(each);
        Slot {
            name: &self.names[part(self.name, came.name)],
            control: &self.controls[part(self.control, came.control)],
            bytes: &self.bytes[part(self.data, came.data)],
            cut: came.cut,
        }
    }
}
