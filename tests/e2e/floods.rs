//! A port of first packets and of fragments that never complete, a hundred times what may be kept, beside containers that speak to each other:
//! bounded, counted where operators look, and nobody else loses a packet.

use crate::rig::{Host, assert_has, is_stock, number_after, wait_until};

/// Connections and fragments that may be.
const MAX: u64 = 50;

/// Everything between ports 1 and 2 is a connection; port 3's packets are tracked in zone 9, and go nowhere if they cannot be.
const RULES: &str = "table=0,priority=9,arp,actions=normal\n\
    table=0,in_port=1,ip,actions=ct(table=1)\n\
    table=0,in_port=2,ip,actions=ct(table=1)\n\
    table=0,in_port=3,udp,actions=ct(commit,zone=9),output:2\n\
    table=1,ip,ct_state=+trk+new,actions=ct(commit),normal\n\
    table=1,ip,ct_state=+trk+est,actions=normal\n";

/// A UDP frame of 10.0.0.3 from a port, or with `id` a fragment of another datagram that has more to come.
fn frame(port: u16, id: u16, data: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 3, 8, 0];
    let mut ip = vec![0x45, 0];
    ip.extend(u16::try_from(28 + data).unwrap().to_be_bytes());
    ip.extend(id.to_be_bytes());
    ip.extend([if id == 0 { 0 } else { 0x20 }, 0, 64, 17, 0, 0, 10, 0, 0, 3, 10, 0, 0, 2]);
    let sum = ip.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c[1])).sum::<u32>();
    let sum = !u16::try_from(sum % 0xffff).unwrap();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 9]);
    frame.extend(u16::try_from(8 + data).unwrap().to_be_bytes());
    frame.extend([0, 0]); // RFC 768: zero is no checksum
    frame.resize(frame.len() + data, 0);
    frame
}

/// The count of a counter in `coverage/show`, 0 if it is not there.
fn counted(host: &Host, name: &str) -> u64 {
    let text = host.appctl("coverage/show");
    let line = text.lines().find(|l| l.split_whitespace().next() == Some(name));
    line.and_then(|l| number_after(l, "total: ")).unwrap_or(0)
}

#[test]
fn floods_of_connections_and_fragments_are_bounded_and_told_of() {
    let host = Host::new();
    let (a, _b) = host.pair("fail_mode=secure");
    let c = host.attach("br0", "p3", 3, &["10.0.0.3/24"], "");
    host.flows("br0", RULES);
    a.reaches("10.0.0.2");
    host.appctl(&format!("dpctl/ct-set-maxconns {MAX}"));
    host.appctl(&format!("dpctl/ipf-set-max-nfrags {MAX}"));
    let connections = || host.appctl("dpctl/ct-get-nconns").trim().parse::<u64>().unwrap();
    let (refused, pinging) = (|| counted(&host, "conntrack_full") + counted(&host, "conntrack_early_drop"), "10.0.0.2");

    c.ns.send_frames("eth0", (0..5000).map(|n| frame(1000 + n, 0, 18)).collect());
    wait_until("refused connections are counted", || refused() >= 1000);
    assert!(connections() <= MAX, "{}", connections());
    let stats = host.appctl("dpctl/ct-stats-show");
    assert!(number_after(&stats, "Total: ").is_some_and(|n| n <= MAX), "{stats}");
    assert_eq!(a.ping(pinging, 20, "-i 0.02"), 20, "established before, or new");

    c.ns.send_frames("eth0", (1..=5000).map(|n| frame(7, n, 1352)).collect());
    wait_until("fragments are held", || number_after(&host.appctl("dpctl/ipf-get-status"), "num frag: ") == Some(MAX));
    let status = host.appctl("dpctl/ipf-get-status");
    assert_has(&status, &["v4 frags accepted: 50"]);
    if !is_stock() {
        wait_until("refused fragments are counted", || counted(&host, "ipf_stuck_frag_list_purged") >= 1000);
    }
    assert_eq!(a.ping(pinging, 20, "-i 0.02"), 20);
    assert!(connections() <= MAX);
}
