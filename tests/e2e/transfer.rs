//! A gigabyte of TCP between two containers with the offloads that devices have by default, every byte compared, over `AF_PACKET`
//! and over `AF_XDP`.

use crate::rig::{Container, Host, assert_has, is_stock};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

const GIGABYTE: u64 = 1 << 30;
const CHUNK: usize = 1 << 16;

/// The stream's bytes: a generator that both ends run (xorshift64*), so that a byte in the wrong place shows.
struct Stream(u64);

impl Stream {
    fn fill(&mut self, into: &mut [u8; CHUNK]) {
        for word in into.chunks_exact_mut(8) {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            word.copy_from_slice(&self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
    }
}

/// Sends `bytes` from one container to the other and compares what arrives; megabits per second.
pub(crate) fn transfer(from: &Container, to: &Container, address: &'static str, bytes: u64) -> u64 {
    let (ready, is_ready) = std::sync::mpsc::channel();
    let receiver = to.ns.inside(move || {
        let listener = TcpListener::bind((address, 5001)).unwrap();
        ready.send(()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (mut expected, mut got) = (Box::new([0; CHUNK]), Box::new([0; CHUNK]));
        let mut source = Stream(0x1234_5678_9abc_def1);
        for offset in (0..bytes).step_by(CHUNK) {
            source.fill(&mut expected);
            stream.read_exact(&mut got[..]).unwrap_or_else(|e| panic!("at byte {offset}: {e}"));
            assert!(got == expected, "what arrived differs somewhere after byte {offset}");
        }
        assert_eq!(stream.read(&mut got[..]).unwrap(), 0, "more than was sent");
    });
    is_ready.recv().unwrap();
    let start = Instant::now();
    let sender = from.ns.inside(move || {
        let mut stream = TcpStream::connect((address, 5001)).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut chunk = Box::new([0; CHUNK]);
        let mut source = Stream(0x1234_5678_9abc_def1);
        for _ in (0..bytes).step_by(CHUNK) {
            source.fill(&mut chunk);
            stream.write_all(&chunk[..]).unwrap();
        }
    });
    sender.join().expect("the sender ends well");
    receiver.join().expect("the receiver got what was sent");
    let elapsed = start.elapsed();
    bytes * 8 / u64::try_from(elapsed.as_micros()).unwrap()
}

/// Segmentation and checksum offload are as the kernel sets them for a veth: on.
fn has_default_offloads(container: &Container) {
    let text = container.ns.exec("ethtool -k eth0");
    assert_has(&text, &["tx-checksumming: on", "tcp-segmentation-offload: on", "generic-segmentation-offload: on"]);
}

fn through(io: &str, columns: &str, bytes: u64) {
    let host = Host::new();
    let (a, b) = host.pair(columns);
    // Before the switch attaches anything to the other end: XDP there has the kernel take segmentation from this one.
    has_default_offloads(&a);
    has_default_offloads(&b);
    if !is_stock() {
        for port in ["p1", "p2"] {
            host.vsctl(&format!("set interface {port} options:io={io}"));
            assert_eq!(host.column("interface", port, "error"), "[]");
        }
    }
    a.reaches("10.0.0.2");
    let rate = transfer(&a, &b, "10.0.0.2", bytes);
    assert!(rate > 0, "{io}: {} MB took for ever", bytes >> 20);
    // And the other way, over IPv6.
    transfer(&b, &a, "fd00::1", bytes / 64);
    assert!(host.is_up());
}

#[test]
fn a_gigabyte_through_af_packet() {
    through("af_packet", "", GIGABYTE);
}

#[test]
fn a_gigabyte_through_af_xdp() {
    through("af_xdp", "", GIGABYTE);
}

#[test]
fn tcp_survives_rewriting_tags_and_mixed_ports() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    if !is_stock() {
        host.vsctl("set interface p1 options:io=af_xdp -- set interface p2 options:io=af_packet");
    }
    // Addresses are rewritten under way, so that checksums have to be kept right.
    host.flows(
        "br0",
        "arp,actions=NORMAL\n\
         icmp,actions=NORMAL\n\
         in_port=1,tcp,nw_dst=10.0.0.99,actions=mod_nw_dst:10.0.0.2,dec_ttl,output:2\n\
         in_port=2,tcp,nw_src=10.0.0.2,actions=mod_nw_src:10.0.0.99,dec_ttl,output:1\n",
    );
    a.knows("10.0.0.99", &b.mac);
    let (ready, is_ready) = std::sync::mpsc::channel();
    let receiver = b.ns.inside(move || {
        let listener = TcpListener::bind(("10.0.0.2", 5001)).unwrap();
        ready.send(()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    });
    is_ready.recv().unwrap();
    let text: Vec<u8> = (0..20_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let sent = text.clone();
    let sender = a.ns.inside(move || {
        let mut stream = TcpStream::connect(("10.0.0.99", 5001)).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&sent).unwrap();
    });
    sender.join().unwrap();
    assert!(receiver.join().unwrap() == text, "what arrived differs");
}

#[test]
fn tcp_through_the_bridges_own_port_and_a_patch() {
    let host = Host::new();
    host.bridge("br0", "");
    host.bridge("br1", "");
    let a = host.attach("br0", "p1", 1, &["10.0.0.1/24"], "");
    host.vsctl(
        "add-port br0 to1 -- set interface to1 type=patch options:peer=to0 \
         -- add-port br1 to0 -- set interface to0 type=patch options:peer=to1",
    );
    host.ns.ip("addr add 10.0.0.254/24 dev br1");
    host.ns.ip("link set br1 up");
    a.reaches("10.0.0.254");
    let (ready, is_ready) = std::sync::mpsc::channel();
    let receiver = host.ns.inside(move || {
        let listener = TcpListener::bind(("10.0.0.254", 5001)).unwrap();
        ready.send(()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        // And back again, through the tap's other direction.
        stream.write_all(&all).unwrap();
        all
    });
    is_ready.recv().unwrap();
    let text: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let sent = text.clone();
    let sender = a.ns.inside(move || {
        let mut stream = TcpStream::connect(("10.0.0.254", 5001)).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&sent).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        back
    });
    assert!(receiver.join().unwrap() == text, "what arrived at the tap differs");
    assert!(sender.join().unwrap() == text, "what the tap sent differs");
}
