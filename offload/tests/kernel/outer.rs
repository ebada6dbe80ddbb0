//! What the kernel's tunnel devices make of our rules: the headers that they put on are those of the megaflows, to the byte, and what they take off
//! is what was put on. The kernel runs the rules itself; the other end of the underlay is looked at, and sends everything back.

use super::{ByName, Host, Kernel, PORTS, Tally, create, delete, hardware, hex, megaflow, sh};
use flow::action::Action;
use flow::action_text::parse_actions;
use flow::compose::{Payload, compose};
use flow::{DpPort, Key};
use offload::capabilities::Capabilities;
use offload::{Ends, Way, plan};
use std::time::{Duration, Instant};

/// The device of a tunnel, its megaflows' key, and the header: IP and what follows.
struct Case {
    name: &'static str,
    device: &'static str,
    inner_ecn: u8,
    flags: &'static str,
    size: u32,
    rest: &'static str,
}

const V4: &str = "dl_type=0x0800),ipv4(src=10.8.0.1,dst=10.8.0.2,proto=17,tos=0,ttl=64,frag=0x4000)";
const CASES: &[Case] = &[
    Case {
        name: "vxlan",
        device: "vxlan_sys_4789",
        inner_ecn: 0,
        flags: "-csum+key",
        size: 50,
        rest: "V4,udp(src=0,dst=4789,csum=0x0),vxlan(flags=0x8000000,vni=0x2a)",
    },
    Case {
        name: "vxlan with a checksum",
        device: "vxlan_sys_4789",
        inner_ecn: 0,
        flags: "+csum+key",
        size: 50,
        rest: "V4,udp(src=0,dst=4789,csum=0xffff),vxlan(flags=0x8000000,vni=0x2a)",
    },
    Case {
        name: "vxlan that may be fragmented, with a class",
        device: "vxlan_sys_4789",
        inner_ecn: 1,
        flags: "-csum+key",
        size: 50,
        rest: "dl_type=0x0800),ipv4(src=10.8.0.1,dst=10.8.0.2,proto=17,tos=0x29,ttl=9,frag=0x0),udp(src=0,dst=4789,csum=0x0),vxlan(flags=0x8000000,vni=0xabcdef)",
    },
    Case {
        name: "vxlan of a congested packet",
        device: "vxlan_sys_4789",
        inner_ecn: 3,
        flags: "-csum+key",
        size: 50,
        rest: "dl_type=0x0800),ipv4(src=10.8.0.1,dst=10.8.0.2,proto=17,tos=0x2,ttl=64,frag=0x4000),udp(src=0,dst=4789,csum=0x0),vxlan(flags=0x8000000,vni=0x2a)",
    },
    Case {
        name: "vxlan over IPv6",
        device: "vxlan_sys_4789",
        inner_ecn: 0,
        flags: "+csum+key",
        size: 70,
        rest: "dl_type=0x86dd),ipv6(src=2001:db8::1,dst=2001:db8::2,label=0,proto=17,tclass=0x28,hlimit=64),udp(src=0,dst=4789,csum=0xffff),vxlan(flags=0x8000000,vni=0x2a)",
    },
    Case {
        name: "vxlan over IPv6 without a checksum",
        device: "vxlan_sys_4789",
        inner_ecn: 0,
        flags: "-csum+key",
        size: 70,
        rest: "dl_type=0x86dd),ipv6(src=2001:db8::1,dst=2001:db8::2,label=0,proto=17,tclass=0x0,hlimit=64),udp(src=0,dst=4789,csum=0x0),vxlan(flags=0x8000000,vni=0x2a)",
    },
    Case {
        name: "geneve",
        device: "genev_sys_6081",
        inner_ecn: 0,
        flags: "-csum+key",
        size: 58,
        rest: "V4,udp(src=0,dst=6081,csum=0x0),geneve(vni=0x2a,options({class=0x102,type=0x2,len=4,0x800022}))",
    },
    Case {
        name: "geneve over IPv6",
        device: "genev_sys_6081",
        inner_ecn: 0,
        flags: "+csum+key",
        size: 78,
        rest: "dl_type=0x86dd),ipv6(src=2001:db8::1,dst=2001:db8::2,label=0,proto=17,tclass=0x0,hlimit=64),udp(src=0,dst=6081,csum=0xffff),geneve(vni=0x2a,options({class=0x102,type=0x2,len=4,0x800022}))",
    },
];

fn capabilities() -> Capabilities {
    let mut can = hardware(false);
    can.uplinks.insert(DpPort(4));
    can.mtus.extend([(DpPort(1), 1400), (DpPort(4), 1500)]);
    for (src, dst) in [("10.8.0.1", "10.8.0.2"), ("2001:db8::1", "2001:db8::2")] {
        let ends = Ends { src: src.parse().unwrap(), dst: dst.parse().unwrap() };
        can.ways.insert(ends, Way { src_mac: [2, 0, 0, 0, 0, 0xf1], dst_mac: [2, 0, 0, 0, 0, 0xf2] });
    }
    can
}

fn underlay() -> Host {
    sh("ip link add under type veth peer name far");
    for device in ["under", "far"] {
        sh(&format!("ethtool -K {device} tx off rxvlan off txvlan off gro off >/dev/null 2>&1 || true"));
    }
    sh(
        "echo 1 >/proc/sys/net/ipv6/conf/far/disable_ipv6; ip link set under address 02:00:00:00:00:f1; ip link set under up; ip link set far up",
    );
    sh("ip addr add 10.8.0.1/24 dev under; ip addr add 2001:db8::1/64 dev under nodad");
    for end in ["10.8.0.2", "2001:db8::2"] {
        sh(&format!("ip neigh replace {end} lladdr 02:00:00:00:00:f2 dev under nud permanent"));
    }
    Host::open("far")
}

pub(super) fn tunnels(tally: &Tally, link: &Kernel, devices: &ByName) {
    let (mut far, mut host) = (underlay(), Host::open("h1"));
    for (n, case) in (0..).zip(CASES) {
        let result = one(link, devices, (&mut far, &mut host), case, n);
        tally.check(&format!("the kernel puts on and takes off {}", case.name), result);
    }
}

fn one(link: &Kernel, devices: &ByName, (far, host): (&mut Host, &mut Host), case: &Case, n: u32) -> Result<(), String> {
    let number = PORTS.iter().position(|p| p.0 == case.device).unwrap();
    let rest = case.rest.replace("V4", V4);
    let kind = if case.device.starts_with("vxlan") { 4 } else { 5 };
    let push = format!(
        "tnl_push(tnl_port({number}),header(size={},type={kind},eth(dst=02:00:00:00:00:f2,src=02:00:00:00:00:f1,{rest}),out_port(4)),4",
        case.size
    );
    let Action::TunnelPush(parsed) = parse_actions(&push, &super::Names).unwrap().remove(0) else { panic!("{push}") };
    let header = parsed.header;
    let flow = format!("recirc_id(0),in_port(p1),eth_type(0x0800),ipv4(tos={}/0x3,frag=no)", case.inner_ecn);
    let out = plan(&megaflow(&flow, &push), &capabilities()).map_err(|e| e.to_string())?.rule;
    let v6 = rest.contains("ipv6(");
    let ends = if v6 { "ipv6_src=2001:db8::2,ipv6_dst=2001:db8::1" } else { "src=10.8.0.2,dst=10.8.0.1" };
    let vni = if rest.contains("abcdef") { 0x00ab_cdef } else { 0x2a };
    let (options, port) = if kind == 5 { ("geneve({class=0x102,type=0x2,len=4,0x800022}),", 6081) } else { ("", 4789) };
    let flow = format!(
        "tunnel(tun_id={vni:#x},{ends},tp_dst={port},{options}flags({})),recirc_id(0),in_port({number}),eth_type(0x0800),ipv4(frag=no)",
        case.flags
    );
    let back = plan(&megaflow(&flow, "p1"), &capabilities()).map_err(|e| e.to_string())?.rule;
    let made = [create(link, &out, 2 * n, devices)?.0, create(link, &back, 2 * n + 1, devices)?.0];
    let mut key = Key { eth_type: [8, 0], nw_proto: 17, nw_ttl: 64, nw_src: [10, 9, 0, 1], nw_dst: [10, 9, 0, 2], ..Key::ZERO };
    (key.eth_src, key.eth_dst, key.nw_tos) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], case.inner_ecn);
    let inner = compose(&key, Payload::Len(30));
    host.send(&inner);
    let sent = wait(far, is_tunnel);
    let result = sent.ok_or_else(|| "nothing was sent".to_owned()).and_then(|frame| {
        let expected = plain([header, inner.clone()].concat());
        if plain(frame.clone()) != expected {
            return Err(format!("{} where {} was expected", hex(&plain(frame)), hex(&expected)));
        }
        far.send(&turned(frame));
        let got = wait(host, |frame| *frame == inner[..]);
        got.map(|_| ()).ok_or_else(|| "what was sent back did not come out".to_owned())
    });
    made.into_iter().for_each(|id| delete(link, id));
    result
}

fn l4(frame: &[u8]) -> usize {
    if frame[12..14] == [8, 0] { 34 } else { 54 }
}

fn is_tunnel(frame: &[u8]) -> bool {
    let at = l4(frame);
    frame.len() > at + 16 && matches!(u16::from_be_bytes([frame[at + 2], frame[at + 3]]), 4789 | 6081)
}

fn wait(host: &mut Host, such: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        if let Some(frame) = host.received().into_iter().find(|f| such(f)) {
            return Some(frame);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

/// Without what a header leaves open: lengths, identification, checksums, source port.
fn plain(mut frame: Vec<u8>) -> Vec<u8> {
    let at = l4(&frame);
    if at == 34 {
        frame[16..20].fill(0);
        frame[24..26].fill(0);
    } else {
        frame[18..20].fill(0);
    }
    frame[at..at + 2].fill(0);
    frame[at + 4..at + 6].fill(0);
    if frame[at + 6..at + 8] != [0; 2] {
        frame[at + 6..at + 8].fill(0xff);
    }
    frame
}

/// The same frame from the other end: checksums stay right.
fn turned(mut frame: Vec<u8>) -> Vec<u8> {
    let (ip, len) = if l4(&frame) == 34 { (26, 4) } else { (22, 16) };
    let (head, tail) = frame.split_at_mut(6);
    head.swap_with_slice(&mut tail[..6]);
    let (src, dst) = frame[ip..ip + 2 * len].split_at_mut(len);
    src.swap_with_slice(dst);
    frame
}
