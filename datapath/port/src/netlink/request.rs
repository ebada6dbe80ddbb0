//! Questions to rtnetlink and changes of devices. They block for the time of a system call; not for forwarding threads.
//!
//! What enters: names, indices, values. What leaves: [`Link`]s, [`Address`]es, [`Route`]s, or the kernel's error. Neighbours: `device`, the
//! daemon.

use super::wire::{Builder, messages};
use super::{Address, Event, Link, READ_MAX, Route, decode_one, open};
use crate::device::Mac;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockFlag, recv, send};
use std::io;
use std::os::fd::AsRawFd;

const SEQ: u32 = 1;

/// The device called `name`; None if there is none.
pub fn link_by_name(name: &str) -> io::Result<Option<Link>> {
    let mut value = name.as_bytes().to_vec();
    value.push(0);
    one_link(
        Builder::new(libc::RTM_GETLINK, 0, SEQ, &ifinfo(0, 0, 0))
            .attribute(libc::IFLA_IFNAME, &value),
    )
}

/// The device with an index; None if there is none.
pub fn link_by_index(ifindex: u32) -> io::Result<Option<Link>> {
    one_link(Builder::new(
        libc::RTM_GETLINK,
        0,
        SEQ,
        &ifinfo(ifindex, 0, 0),
    ))
}

fn one_link(request: Builder) -> io::Result<Option<Link>> {
    let mut found = None;
    let answer = transact(request, &mut |event| {
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
pub fn links() -> io::Result<Vec<Link>> {
    let mut all = Vec::new();
    transact(
        Builder::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, SEQ, &ifinfo(0, 0, 0)),
        &mut |event| {
            if let Event::Link(link) = event {
                all.push(*link);
            }
        },
    )?;
    Ok(all)
}

/// Every address.
pub fn addresses() -> io::Result<Vec<Address>> {
    let mut all = Vec::new();
    transact(
        Builder::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, SEQ, &[0; 8]),
        &mut |event| {
            if let Event::Address(address) = event {
                all.push(address);
            }
        },
    )?;
    Ok(all)
}

/// Every unicast and local route of every table.
pub fn routes() -> io::Result<Vec<Route>> {
    let mut all = Vec::new();
    transact(
        Builder::new(libc::RTM_GETROUTE, libc::NLM_F_DUMP, SEQ, &[0; 12]),
        &mut |event| {
            if let Event::Route(route) = event {
                all.push(route);
            }
        },
    )?;
    Ok(all)
}

/// Sets a device administratively up or down.
pub fn set_up(ifindex: u32, up: bool) -> io::Result<()> {
    let flag = libc::IFF_UP.unsigned_abs();
    change(Builder::new(
        libc::RTM_NEWLINK,
        libc::NLM_F_ACK,
        SEQ,
        &ifinfo(ifindex, if up { flag } else { 0 }, flag),
    ))
}

/// Sets a device's MTU.
pub fn set_mtu(ifindex: u32, mtu: u32) -> io::Result<()> {
    let request = Builder::new(
        libc::RTM_NEWLINK,
        libc::NLM_F_ACK,
        SEQ,
        &ifinfo(ifindex, 0, 0),
    );
    change(request.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes()))
}

/// Sets a device's Ethernet address.
pub fn set_mac(ifindex: u32, mac: Mac) -> io::Result<()> {
    let request = Builder::new(
        libc::RTM_NEWLINK,
        libc::NLM_F_ACK,
        SEQ,
        &ifinfo(ifindex, 0, 0),
    );
    change(request.attribute(libc::IFLA_ADDRESS, &mac))
}

/// struct ifinfomsg.
fn ifinfo(ifindex: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut body = [0; 16];
    body[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    body[8..12].copy_from_slice(&flags.to_ne_bytes());
    body[12..16].copy_from_slice(&change.to_ne_bytes());
    body
}

fn change(request: Builder) -> io::Result<()> {
    transact(request, &mut |_| ())
}

/// Sends a request and hands the answer's entries to `each`, up to the acknowledgement, the end of the dump, or (for a question about
/// one thing) the first entry.
fn transact(request: Builder, each: &mut dyn FnMut(Event)) -> io::Result<()> {
    let fd = open(0, SockFlag::empty())?;
    send(fd.as_raw_fd(), &request.finish(), MsgFlags::empty())?;
    let mut bytes = vec![0; READ_MAX];
    loop {
        let n = match recv(fd.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            Ok(n) => n,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let mut entries = 0;
        for message in messages(&bytes[..n]).filter(|message| message.seq == SEQ) {
            match libc::c_int::from(message.kind) {
                libc::NLMSG_DONE => return Ok(()),
                libc::NLMSG_ERROR => {
                    let code = message
                        .payload
                        .first_chunk()
                        .map_or(0, |code| i32::from_ne_bytes(*code));
                    return if code == 0 {
                        Ok(())
                    } else {
                        Err(io::Error::from_raw_os_error(-code))
                    };
                }
                _ => {
                    entries += 1;
                    if let Some(event) = decode_one(&message) {
                        each(event);
                    }
                }
            }
            // Entries of a dump are marked as parts; a single answer is not, and nothing follows it.
            if !message.multi {
                return Ok(());
            }
        }
        if entries == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}
