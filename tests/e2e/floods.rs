//! A port of first packets and of fragments that never complete, a hundred times what may be kept, beside containers that speak to each other:
//! bounded, counted where operators look, and nobody else loses a packet.

use crate::rig::{Container, Host, PATIENCE, Pings, is_stock, number_after, udp_frame_of, wait_until};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// Connections and fragments that may be.
const MAX: u64 = 50;

/// Everything between ports 1 and 2 is a connection, which TCP begins with a SYN only; port 3's packets are tracked in zone 9, and go nowhere if they cannot be.
const RULES: &str = "table=0,priority=9,arp,actions=normal\n\
    table=0,in_port=1,ip,actions=ct(table=1)\n\
    table=0,in_port=2,ip,actions=ct(table=1)\n\
    table=0,in_port=3,udp,actions=ct(commit,zone=9),output:2\n\
    table=1,icmp,ct_state=+trk+new,actions=ct(commit),normal\n\
    table=1,tcp,ct_state=+trk+new,tcp_flags=+syn-ack,actions=ct(commit),normal\n\
    table=1,ip,ct_state=+trk+est,actions=normal\n";

/// A UDP frame of 10.0.0.3 from a port, or with `id` a fragment of another datagram that has more to come.
fn frame(port: u16, id: u16, data: usize) -> Vec<u8> {
    udp_frame_of((3, 2), port, [id, if id == 0 { 0 } else { 0x2000 }], &vec![0; data])
}

/// A TCP connection between two containers, whose other end (10.0.0.2's) says again what it hears.
fn connect(a: &Container, b: &Container) -> TcpStream {
    let listener = b.ns.inside(|| TcpListener::bind(("10.0.0.2", 5001)).unwrap()).join().unwrap();
    std::thread::spawn(move || {
        let (mut hears, _) = listener.accept().unwrap();
        std::io::copy(&mut hears.try_clone().unwrap(), &mut hears)
    });
    let address = "10.0.0.2:5001".parse().unwrap();
    let stream = a.ns.inside(move || TcpStream::connect_timeout(&address, PATIENCE).unwrap()).join().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A word goes there and back.
fn talk(stream: &mut TcpStream) {
    let mut heard = [0; 4];
    stream.write_all(b"word").unwrap();
    stream.read_exact(&mut heard).expect("the connection goes on");
    assert_eq!(&heard, b"word");
}

#[test]
fn floods_of_connections_and_fragments_are_bounded_and_told_of() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure");
    let c = host.attach("br0", "p3", 3, &["10.0.0.3/24"], "");
    host.flows("br0", RULES);
    a.reaches("10.0.0.2");
    a.sums_for_stock();
    b.sums_for_stock();
    let mut stream = connect(&a, &b);
    talk(&mut stream);
    host.appctl(&format!("dpctl/ct-set-maxconns {MAX}"));
    host.appctl(&format!("dpctl/ipf-set-max-nfrags {MAX}"));
    let connections = || host.appctl("dpctl/ct-get-nconns").trim().parse::<u64>().unwrap();
    let refused = || host.counted("conntrack_full") + host.counted("conntrack_early_drop");
    let flood = |frames: &[Vec<u8>]| assert_eq!(c.ns.send_frames("eth0", frames.to_vec()), frames.len());
    // Debian's tracker lets nothing give way to new connections.
    let make_room = || drop(is_stock().then(|| host.appctl("dpctl/flush-conntrack zone=9")));
    // Floods until the pings end, and what has to go on beside it.
    let mut others_go_on = |mut pings: Pings, frames: &[Vec<u8>]| {
        talk(&mut stream);
        while pings.go_on() {
            flood(frames);
            talk(&mut stream);
        }
        assert_eq!(pings.answered(), Pings::COUNT, "beside the flood");
        assert!(connections() <= MAX, "{}", connections());
        make_room();
        assert_eq!(a.ping("10.0.0.2", 20, "-i 0.02"), 20, "new, after the flood");
    };

    let pings = Pings::start(&a, "10.0.0.2");
    let frames: Vec<_> = (0..5000).map(|n| frame(1000 + n, 0, 18)).collect();
    flood(&frames);
    wait_until("refused connections are counted", || refused() >= 1000);
    assert!(connections() <= MAX, "{}", connections());
    let stats = host.appctl("dpctl/ct-stats-show");
    assert!(number_after(&stats, "Total: ").is_some_and(|n| n <= MAX), "{stats}");
    others_go_on(pings, &frames);

    let pings = Pings::start(&a, "10.0.0.2");
    let frames: Vec<_> = (1..=5000).map(|n| frame(7, n, 1352)).collect();
    flood(&frames);
    let status = || host.appctl("dpctl/ipf-get-status");
    wait_until("fragments are held", || number_after(&status(), "num frag: ") == Some(MAX));
    if is_stock() {
        // Debian's tracker refuses more.
        let status = status();
        assert_eq!(number_after(&status, "v4 frags accepted: "), Some(MAX), "{status}");
    } else {
        wait_until("fragments give way", || number_after(&status(), "v4 frags purged: ").is_some_and(|n| n >= 1000));
        assert!(host.counted("ipf_stuck_frag_list_purged") >= 1000);
    }
    others_go_on(pings, &frames);
    if !is_stock() {
        assert_eq!(a.ping("10.0.0.2", 20, "-i 0.02 -s 3000"), 20, "in fragments, while as many are held as may be");
    }
}
