//! Questions to rtnetlink and changes of devices. They block for the time of a system call; not for forwarding threads.
//!
//! What enters: names, indices, values. What leaves: [`Link`]s, [`Address`]es, [`Route`]s, [`Rule`]s, or the kernel's error. Neighbours: `device`, the
//! daemon.

use super::wire::{Builder, Message, messages};
use super::{Address, Event, Link, READ_MAX, Route, Rule, decode_one, open};
use crate::device::Mac;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockFlag, recv, send};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// A socket for questions. It belongs to the network namespace in which it was made, whatever thread uses it later.
#[derive(Debug)]
pub struct Session {
    fd: OwnedFd,
    seq: u32,
}

impl Session {
    /// A session with the network namespace of the calling thread.
    pub fn new() -> io::Result<Self> {
        Ok(Self { fd: open(0, SockFlag::empty())?, seq: 0 })
    }

    /// The device called `name`; None if there is none.
    pub fn link_by_name(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut value = name.as_bytes().to_vec();
        value.push(0);
        let request = self.request(libc::RTM_GETLINK, 0, &ifinfo(0, 0, 0));
        self.one_link(request.attribute(libc::IFLA_IFNAME, &value))
    }

    /// The device with an index; None if there is none.
    pub fn link_by_index(&mut self, ifindex: u32) -> io::Result<Option<Link>> {
        let request = self.request(libc::RTM_GETLINK, 0, &ifinfo(ifindex, 0, 0));
        self.one_link(request)
    }

    fn one_link(&self, request: Builder) -> io::Result<Option<Link>> {
        let mut found = None;
        let answer = self.transact(request, &mut |event| {
            if let Event::Link(link) = event {
                found = Some(*link);
            }
        });
        match answer {
            Ok(()) => Ok(found),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every device.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut all = Vec::new();
        let request = self.request(libc::RTM_GETLINK, libc::NLM_F_DUMP, &ifinfo(0, 0, 0));
        self.transact(request, &mut |event| {
            if let Event::Link(link) = event {
                all.push(*link);
            }
        })?;
        Ok(all)
    }

    /// Every address.
    pub fn addresses(&mut self) -> io::Result<Vec<Address>> {
        let mut all = Vec::new();
        let request = self.request(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; 8]);
        self.transact(request, &mut |event| {
            if let Event::Address(address) = event {
                all.push(address);
            }
        })?;
        Ok(all)
    }

    /// Every unicast and local route of every table.
    pub fn routes(&mut self) -> io::Result<Vec<Route>> {
        let mut all = Vec::new();
        let request = self.request(libc::RTM_GETROUTE, libc::NLM_F_DUMP, &[0; 12]);
        self.transact(request, &mut |event| {
            if let Event::Route(route) = event {
                all.push(route);
            }
        })?;
        Ok(all)
    }

    /// Every rule that chooses a table by source, or for all.
    pub fn rules(&mut self) -> io::Result<Vec<Rule>> {
        let mut all = Vec::new();
        let request = self.request(libc::RTM_GETRULE, libc::NLM_F_DUMP, &[0; 12]);
        self.transact(request, &mut |event| {
            if let Event::Rule(rule) = event {
                all.push(rule);
            }
        })?;
        Ok(all)
    }

    /// Sets a device administratively up or down.
    pub fn set_up(&mut self, ifindex: u32, up: bool) -> io::Result<()> {
        let flag = libc::IFF_UP.unsigned_abs();
        let body = ifinfo(ifindex, if up { flag } else { 0 }, flag);
        let request = self.request(libc::RTM_NEWLINK, libc::NLM_F_ACK, &body);
        self.transact(request, &mut |_| ())
    }

    /// Sets a device's MTU.
    pub fn set_mtu(&mut self, ifindex: u32, mtu: u32) -> io::Result<()> {
        let request = self.request(libc::RTM_NEWLINK, libc::NLM_F_ACK, &ifinfo(ifindex, 0, 0));
        self.transact(request.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes()), &mut |_| ())
    }

    /// Sets a device's Ethernet address.
    pub fn set_mac(&mut self, ifindex: u32, mac: Mac) -> io::Result<()> {
        let request = self.request(libc::RTM_NEWLINK, libc::NLM_F_ACK, &ifinfo(ifindex, 0, 0));
        self.transact(request.attribute(libc::IFLA_ADDRESS, &mac), &mut |_| ())
    }

    pub(super) fn request(&mut self, kind: u16, flags: libc::c_int, body: &[u8]) -> Builder {
        self.seq = self.seq.wrapping_add(1);
        Builder::new(kind, flags, self.seq, body)
    }

    /// Sends the request just made and hands the answer's entries to `each`, up to the acknowledgement, the end of the dump, or (for
    /// a question about one thing) the only entry. What is left of an earlier answer is passed over.
    pub(super) fn transact(&self, request: Builder, each: &mut dyn FnMut(Event)) -> io::Result<()> {
        self.converse(request, &mut |message| {
            if let Some(event) = decode_one(message) {
                each(event);
            }
        })
    }

    /// The same with the entries as they come.
    pub(super) fn converse(&self, request: Builder, each: &mut dyn FnMut(&Message<'_>)) -> io::Result<()> {
        send(self.fd.as_raw_fd(), &request.finish(), MsgFlags::empty())?;
        let mut bytes = vec![0; READ_MAX];
        loop {
            let n = match recv(self.fd.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                Ok(n) => n,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for message in messages(&bytes[..n]).filter(|message| message.seq == self.seq) {
                match libc::c_int::from(message.kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => return acknowledged(message.payload),
                    _ => each(&message),
                }
                // Entries of a dump are marked as parts; a single answer is not, and nothing follows it.
                if !message.multi {
                    return Ok(());
                }
            }
        }
    }
}

/// struct nlmsgerr: a negated error number, 0 for success.
fn acknowledged(payload: &[u8]) -> io::Result<()> {
    match payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code)) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
    }
}

/// struct ifinfomsg.
pub(super) fn ifinfo(ifindex: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut body = [0; 16];
    body[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    body[8..12].copy_from_slice(&flags.to_ne_bytes());
    body[12..16].copy_from_slice(&change.to_ne_bytes());
    body
}

/// [`Session::link_by_name`] in the calling thread's namespace.
pub fn link_by_name(name: &str) -> io::Result<Option<Link>> {
    Session::new()?.link_by_name(name)
}

/// [`Session::links`] in the calling thread's namespace.
pub fn links() -> io::Result<Vec<Link>> {
    Session::new()?.links()
}

/// [`Session::addresses`] in the calling thread's namespace.
pub fn addresses() -> io::Result<Vec<Address>> {
    Session::new()?.addresses()
}

/// [`Session::routes`] in the calling thread's namespace.
pub fn routes() -> io::Result<Vec<Route>> {
    Session::new()?.routes()
}
