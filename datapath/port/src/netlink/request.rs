//! Questions to rtnetlink and changes of devices. They block for the time of a system call; not for forwarding threads.
//!
//! What enters: names, indices, values. What leaves: [`Link`]s, [`Address`]es, [`Route`]s, [`Rule`]s, or the kernel's error. Neighbours: `device`, the
//! daemon.

use super::wire::{self, Attributes, Builder, Message, messages};
use super::{Address, Event, Link, READ_MAX, Route, Rule, decode_one, open};
use crate::device::Mac;
use crate::sys;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockFlag, recv, send};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Where a device is: its index, and its namespace by the id that ours has for it; None for ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct At {
    /// The interface index there.
    pub ifindex: u32,
    /// The namespace (RTM_GETNSID).
    pub nsid: Option<i32>,
}

impl From<u32> for At {
    fn from(ifindex: u32) -> Self {
        Self { ifindex, nsid: None }
    }
}

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

    /// Whether a namespace is the session's own.
    pub(crate) fn is_of(&self, namespace: BorrowedFd<'_>) -> io::Result<bool> {
        let own = sys::namespace_of(self.fd.as_fd())?;
        Ok(sys::identity(own.as_fd())? == sys::identity(namespace)?)
    }

    /// The id that the session's namespace has for itself, if it has one.
    pub(super) fn own_id(&mut self) -> io::Result<Option<i32>> {
        let own = sys::namespace_of(self.fd.as_fd())?;
        self.known_namespace_id(own.as_fd())
    }

    /// The device called `name`; None if there is none.
    pub fn link_by_name(&mut self, name: &str) -> io::Result<Option<Link>> {
        self.link_by_name_in(name, None)
    }

    /// The same in another namespace.
    pub fn link_by_name_in(&mut self, name: &str, nsid: Option<i32>) -> io::Result<Option<Link>> {
        let mut value = name.as_bytes().to_vec();
        value.push(0);
        let request = self.request(libc::RTM_GETLINK, 0, &ifinfo(0, 0, 0));
        self.one_link(within(request, nsid).attribute(libc::IFLA_IFNAME, &value))
    }

    /// The device with an index; None if there is none.
    pub fn link_by_index(&mut self, at: impl Into<At>) -> io::Result<Option<Link>> {
        let at = at.into();
        let request = self.request(libc::RTM_GETLINK, 0, &ifinfo(at.ifindex, 0, 0));
        self.one_link(within(request, at.nsid))
    }

    /// The id that this session's namespace has for another one, or for itself; it is given one if it has none.
    pub fn namespace_id(&mut self, namespace: BorrowedFd<'_>) -> io::Result<i32> {
        match self.known_namespace_id(namespace)? {
            Some(id) => Ok(id),
            None => {
                let request = self.request(libc::RTM_NEWNSID, libc::NLM_F_ACK, &[0; 4]).attribute(wire::NETNSA_NSID, &NO_NSID);
                self.transact(request.attribute(wire::NETNSA_FD, &namespace.as_raw_fd().to_ne_bytes()), &mut |_| ())?;
                self.known_namespace_id(namespace)?.ok_or_else(|| io::ErrorKind::NotFound.into())
            }
        }
    }

    /// The same; None if it has none.
    fn known_namespace_id(&mut self, namespace: BorrowedFd<'_>) -> io::Result<Option<i32>> {
        let mut id = None;
        let request = self.request(libc::RTM_GETNSID, 0, &[0; 4]);
        self.converse(request.attribute(wire::NETNSA_FD, &namespace.as_raw_fd().to_ne_bytes()), &mut |message| {
            let attributes = message.payload.get(4..).unwrap_or_default();
            let found = Attributes::new(attributes).find(|(kind, _)| *kind == wire::NETNSA_NSID);
            id = found.and_then(|(_, value)| value.first_chunk().map(|value| i32::from_ne_bytes(*value)));
        })?;
        Ok(id.filter(|id| *id >= 0))
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

/// "Of your choice", as the id of a namespace.
const NO_NSID: [u8; 4] = (-1i32).to_ne_bytes();

/// A question about a device in another namespace.
fn within(request: Builder, nsid: Option<i32>) -> Builder {
    match nsid {
        Some(nsid) => request.attribute(wire::IFLA_TARGET_NETNSID, &nsid.to_ne_bytes()),
        None => request,
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
