//! Frames: made by hand, sent through a packet socket, caught by tcpdump (which shows VLAN tags where a socket would hide them).

use super::{Namespace, run, wait_until};
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// An Ethernet frame with IPv4 and UDP in it, checksums right, between ports 7 and 9.
pub(crate) fn udp_frame(from: u8, to: u8, payload: &[u8]) -> Vec<u8> {
    udp_frame_of((from, to), 7, [0, 0x4000], payload)
}

/// The same from a port, with an identification and a word of flags and fragment offset.
pub(crate) fn udp_frame_of((from, to): (u8, u8), port: u16, identity: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 8, 0];
    let length = u16::try_from(28 + payload.len()).unwrap();
    let mut ip = vec![0x45, 0];
    ip.extend(length.to_be_bytes());
    ip.extend(identity.map(u16::to_be_bytes).as_flattened());
    ip.extend([64, 17, 0, 0, 10, 0, 0, from, 10, 0, 0, to]);
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 9]);
    frame.extend((length - 20).to_be_bytes());
    frame.extend([0, 0]); // RFC 768: zero is no checksum
    frame.extend(payload);
    frame
}

/// The frame with an 802.1Q tag.
pub(crate) fn vlan_tagged(frame: &[u8], vid: u16) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    tagged.extend([0x81, 0]);
    tagged.extend(vid.to_be_bytes());
    tagged.extend(&frame[12..]);
    tagged
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

impl Namespace {
    /// Sends frames as they are through one of its devices; the number that the kernel took.
    pub(crate) fn send_frames(&self, device: &str, frames: Vec<Vec<u8>>) -> usize {
        let device = device.to_owned();
        let work = move || {
            let fd = socket::socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll).unwrap();
            let all = nix::ifaddrs::getifaddrs().unwrap();
            let link = all
                .filter(|i| i.interface_name == device)
                .find_map(|i| i.address?.as_link_addr().copied())
                .unwrap_or_else(|| panic!("{device} has no link address"));
            socket::bind(fd.as_raw_fd(), &link).unwrap();
            let sent = |f: &Vec<u8>| socket::send(fd.as_raw_fd(), f, MsgFlags::empty()).is_ok();
            let mut count = 0;
            // In bursts that any receive buffer holds.
            for burst in frames.chunks(32) {
                count += burst.iter().filter(|f| sent(f)).count();
                std::thread::sleep(Duration::from_millis(2));
            }
            count
        };
        self.inside(work).join().unwrap()
    }
}

/// tcpdump on a device of a namespace.
#[derive(Debug)]
pub(crate) struct Sniffer {
    child: Child,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Sniffer {
    /// Starts it with a filter; returns when it listens.
    pub(crate) fn start(ns: &Namespace, device: &str, filter: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("caught.pcap");
        let errors = dir.path().join("errors");
        // Its usual buffer holds about 30 frames of a device that may hand over large ones: less than a burst.
        let child = ns
            .command("tcpdump")
            .args(["-Z", "root", "-i", device, "-U", "--immediate-mode", "-B", "16384", "-Q", "in", "-w"])
            .arg(&file)
            .args(filter.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&errors).unwrap())
            .spawn()
            .unwrap();
        wait_until("tcpdump listens", || std::fs::read_to_string(&errors).unwrap().contains("listening on"));
        Self { child, file, _dir: dir }
    }

    /// The lines of what it has caught so far, with link headers.
    pub(crate) fn lines(&self) -> Vec<String> {
        let ran = run(Command::new("tcpdump").args(["-e", "-nn", "-v", "-r"]).arg(&self.file));
        // With -v a packet takes a line and indented ones.
        let mut lines: Vec<String> = Vec::new();
        for line in ran.out.lines() {
            match lines.last_mut().filter(|_| line.starts_with(char::is_whitespace)) {
                Some(last) => last.push_str(line),
                None => lines.push(line.to_owned()),
            }
        }
        lines
    }

    /// Waits for a packet whose line has all of `parts`; its line.
    #[track_caller]
    pub(crate) fn expect(&self, parts: &[&str]) -> String {
        let mut found = None;
        let start = std::time::Instant::now();
        while found.is_none() && start.elapsed() < super::PATIENCE {
            let lines = self.lines();
            found = lines.into_iter().find(|l| parts.iter().all(|p| l.contains(p)));
            if found.is_none() {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        found.unwrap_or_else(|| panic!("no packet with {parts:?}, but:\n{}", self.lines().join("\n")))
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A packet-out's frame as hexadecimal digits.
pub(crate) fn hex(frame: &[u8]) -> String {
    use std::fmt::Write;
    frame.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
