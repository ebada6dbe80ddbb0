//! Action texts held to Open vSwitch's own (`action_text_cases.txt`), and every action to its way through text and back.

use super::*;
use crate::action::{Actions, TunnelPush};
use crate::extract_gen::PacketGen;
use crate::forms::NoNames;

/// Reads and writes again.
fn check(text: &str, expect: &str) {
    let actions = parse_actions(text, &NoNames).unwrap_or_else(|e| panic!("{text}\n{e}"));
    assert_eq!(format_actions(&actions, &NoNames), expect, "{text}");
    let again = parse_actions(expect, &NoNames).unwrap_or_else(|e| panic!("{expect}\n{e}"));
    assert_eq!(again, actions, "{expect}");
}

/// `ovstest test-odp parse-actions` of Open vSwitch gives each line back, but for the reasons of `slow_path` and GTP-U,
/// which it only writes.
#[test]
fn as_ovs_reads_and_writes_them() {
    for line in include_str!("action_text_cases.txt").lines() {
        check(line, line);
    }
}

/// What Open vSwitch writes and does not read, and what has several forms.
#[test]
fn forms_that_only_we_read() {
    for line in [
        "hash(l4(0)),recirc(0x9)",
        "hash(sym_l4(17))",
        "push_mpls(label=5,tc=3,ttl=64,bos=1,eth_type=0x8847)",
        "pop_mpls(eth_type=0x800)",
        "push_eth(src=00:01:02:03:04:05,dst=10:11:12:13:14:15),pop_eth",
        "dec_ttl(le_1(userspace(pid=1,slow_path(action)))),2",
        "dec_ttl(le_1(drop))",
        "psample(group=4)",
        "psample(group=4,cookie=0x0102)",
        "set(nsh(flags=1,ttl=5,spi=0x7,si=9))",
        "set(nsh(ttl=5,c1=0x1,c4=0xff00/0x0000ff00))",
        "set(nd_ext(nd_reserved=0x5,nd_options_type=2))",
        "clone(drop),1",
        "push_nsh(flags=0,ttl=63,mdtype=2,np=3,spi=0x0,si=255,md2=0)",
        "push_pbb(isid=16777215,pcp=7),set(pbb(isid=5,uca=1)),pop_pbb",
        "set(pbb(isid=16/0xff0))",
        "copy_ttl(out),copy_ttl(in)",
        "set(mpls(label=0/0x0,tc=0/0,ttl=9/0xff,bos=0/0))",
        "tnl_push(tnl_port(6),header(size=50,type=107,eth(dst=f8:bc:12:44:34:b6,src=f8:bc:12:46:58:e0,dl_type=0x0800),ipv4(src=192.0.2.88,dst=192.0.2.92,proto=47,tos=0,ttl=64,frag=0x4000),erspan(ver=1,sid=0x123,idx=0x7)),out_port(1))",
        "tnl_push(tnl_port(6),header(size=74,type=108,eth(dst=f8:bc:12:44:34:b6,src=f8:bc:12:46:58:e0,dl_type=0x86dd),ipv6(src=2001:db8::88,dst=2001:db8::92,label=0,proto=47,tclass=0x0,hlimit=64),erspan(ver=2,sid=0x3ff,dir=1,hwid=0x2f)),out_port(1))",
        "tnl_push(tnl_port(6),header(size=94,type=112,eth(dst=f8:bc:12:44:34:b6,src=f8:bc:12:46:58:e0,dl_type=0x86dd),ipv6(src=2001:db8::88,dst=2001:db8::92,label=0,proto=43,tclass=0x0,hlimit=64),srv6(segments_left=1,segs(2001:db8::92,2001:db8::93))),out_port(1))",
        "tnl_push(tnl_port(6),header(size=78,type=112,eth(dst=f8:bc:12:44:34:b6,src=f8:bc:12:46:58:e0,dl_type=0x86dd),ipv6(src=2001:db8::88,dst=2001:db8::92,label=compute,proto=43,tclass=0x0,hlimit=64),srv6(segments_left=0,segs(2001:db8::92))),out_port(1))",
    ] {
        check(line, line);
    }
    check("recirc(9)", "recirc(0x9)");
    check(" 1 2,\t3 ", "1,2,3");
    check("0x10", "16");
    check("ct(commit,mark=5)", "ct(commit,mark=0x5/0xffffffff)");
    check("ct(commit,label=0/0xff)", "ct(commit,label=0/0xff)");
    check("ct(commit,nat(src=1.2.3.4-1.2.3.4:7-7))", "ct(commit,nat(src=1.2.3.4:7))");
    check("userspace(pid=1,userdata(01))", "userspace(pid=1,userdata(0100000000000000))");
    check("userspace(pid=9,slow_path(cfm|bfd))", "userspace(pid=9,slow_path(cfm,bfd))");
    check(
        "push_nsh(mdtype=2,md2=0x10000a04123456)",
        "push_nsh(flags=0,ttl=63,mdtype=2,np=3,spi=0x0,si=255,md2=0x10000a0412345600)",
    );
    check("sample(sample=0%,actions(1))", "sample(sample=0.0%,actions(1))");
}

#[test]
fn drops() {
    assert_eq!(parse_actions("drop", &NoNames), Ok(vec![Action::Drop(0)]));
    assert_eq!(parse_actions("", &NoNames), Ok(vec![]));
    assert_eq!(format_actions(&[Action::Drop(14)], &NoNames), "drop");
}

#[derive(Debug)]
struct Named;

impl PortNames for Named {
    fn name(&self, port: u32) -> Option<String> {
        (port == 1).then(|| "p1".to_owned())
    }

    fn number(&self, name: &str) -> Option<u32> {
        (name == "p1").then_some(1)
    }
}

#[test]
fn ports_by_name() {
    for text in ["p1,2", "tnl_pop(p1)", "clone(p1),p1", "userspace(pid=0,ipfix(output_port=p1),tunnel_out_port=p1)"] {
        let actions = parse_actions(text, &Named).unwrap();
        assert_eq!(format_actions(&actions, &Named), text);
        assert_eq!(format_actions(&actions, &NoNames), text.replace("p1", "1"));
        assert!(parse_actions(text, &NoNames).is_err());
    }
}

#[test]
fn errors_show_the_rest() {
    let error = |text: &str| parse_actions(text, &NoNames).unwrap_err().to_string();
    assert_eq!(error("1,encap_nsh@:{@"), "syntax error at encap_nsh@:{@");
    assert_eq!(error("1,set(foo(1))"), "syntax error at set(foo(1))");
    assert_eq!(error("pop_vlanx"), "syntax error at pop_vlanx");
    assert_eq!(error("push_vlan(vid=4096,pcp=0)"), "syntax error at push_vlan(vid=4096,pcp=0)");
    assert_eq!(error("set(in_port(2))"), "in_port cannot be set");
    assert_eq!(error("ct(commit,force_commit)"), "syntax error at ct(commit,force_commit)");
    assert_eq!(error("ct(nat(src=2.2.2.2-1.1.1.1))"), "syntax error at ct(nat(src=2.2.2.2-1.1.1.1))");
    assert_eq!(error("sample(sample=101%,actions(1))"), "syntax error at sample(sample=101%,actions(1))");
    let wrong_size = "tnl_push(tnl_port(6),header(size=51,type=4,eth(dst=f8:bc:12:44:34:b6,src=f8:bc:12:46:58:e0,dl_type=0x0800),ipv4(src=192.0.2.88,dst=192.0.2.92,proto=17,tos=0,ttl=64,frag=0x4000),udp(src=0,dst=4789,csum=0x0),vxlan(flags=0x8000000,vni=0x1c7)),out_port(1))";
    assert_eq!(error(wrong_size), format!("syntax error at {wrong_size}"));
    let nested = |n: usize| "clone(".repeat(n) + "1" + &")".repeat(n);
    assert!(parse_actions(&nested(NESTED_MAX - 1), &NoNames).is_ok());
    assert_eq!(parse_actions(&nested(NESTED_MAX), &NoNames), Err(ActionsError::TooDeep));
    assert!(parse_actions(&"1,".repeat(ACTIONS_MAX), &NoNames).is_ok());
    assert_eq!(parse_actions(&"1,".repeat(ACTIONS_MAX + 1), &NoNames), Err(ActionsError::TooMany));
}

/// Lines with characters changed, cut and doubled.
#[test]
fn never_panics_nearby() {
    let lines: Vec<&str> = include_str!("action_text_cases.txt").lines().collect();
    let mut random = PacketGen::new(31);
    for _ in 0..100_000 {
        let mut line: Vec<u8> = lines[random.below(lines.len())].as_bytes().to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(line.len());
            match random.below(4) {
                0 => line.truncate(at + 1),
                1 => line[at] = b"0123456789abcdef(),=/x -[]:.%"[random.below(29)],
                2 => line.insert(at, b"09f(),"[random.below(6)]),
                _ => {
                    line.remove(at);
                    line.push(b'9');
                }
            }
        }
        let text = String::from_utf8(line).expect("ASCII");
        if let Ok(actions) = parse_actions(&text, &NoNames) {
            let written = format_actions(&actions, &NoNames);
            let again = parse_actions(&written, &NoNames).unwrap_or_else(|e| panic!("{text}\n{written}\n{e}"));
            assert_eq!(format_actions(&again, &NoNames), written, "{text}");
        }
    }
}

fn some<T>(random: &mut PacketGen, value: T) -> Option<T> {
    (random.below(2) == 0).then_some(value)
}

fn list(random: &mut PacketGen, depth: usize) -> Actions {
    (0..random.below(4)).map(|_| any_action(random, depth + 1)).collect()
}

fn word(random: &mut PacketGen) -> u32 {
    u32::try_from(random.bits() >> 32 >> random.below(32)).expect("32 bits")
}

fn short(random: &mut PacketGen) -> u16 {
    u16::try_from(word(random) & 0xffff).expect("16 bits")
}

fn flip(random: &mut PacketGen) -> bool {
    random.below(2) == 0
}

fn address6(random: &mut PacketGen) -> [u8; 6] {
    let [_, _, a, b, c, d, e, f] = random.bits().to_be_bytes();
    [a, b, c, d, e, f]
}

fn any_cookie(random: &mut PacketGen) -> Cookie {
    let output_port = DpPort(word(random));
    match random.below(6) {
        0 => Cookie::SlowPath { reasons: word(random) & 0xff, ofp_in_port: 0, bridge: 0 },
        1 => Cookie::SFlow { vlan_tci: short(random) | 0x1001, output: word(random) },
        2 => Cookie::FlowSample {
            probability: short(random),
            collector_set_id: word(random),
            obs_domain_id: word(random),
            obs_point_id: word(random),
            output_port,
            direction: u8::try_from(random.below(3)).unwrap(),
        },
        3 => Cookie::Ipfix { output_port },
        4 => Cookie::Controller {
            reason: u8::try_from(random.below(12)).unwrap(),
            dont_send: flip(random),
            continuation: flip(random),
            recirc_id: word(random),
            rule_cookie: random.bits(),
            controller_id: short(random),
            max_len: short(random),
            bridge: 0,
            ofp_in_port: 0,
        },
        _ => Cookie::Raw(random.bits().to_be_bytes().repeat(1 + random.below(3))),
    }
}

fn any_ct(random: &mut PacketGen) -> Ct {
    let addr = if flip(random) {
        let v4 = word(random);
        (IpAddr::V4((v4 & 0xffff).into()), IpAddr::V4((v4 | 0x7fff_0000).into()))
    } else {
        let v6 = u128::from(random.bits()) << 64 | 5;
        (IpAddr::V6(v6.into()), IpAddr::V6((v6 | 0xf0).into()))
    };
    let from = short(random) | 1;
    let ports = some(random, (from, from | 0x8000));
    let (mut nat, src) = (Nat { src: flip(random), persistent: flip(random), ..Nat::default() }, flip(random));
    if flip(random) {
        (nat.addr, nat.ports, nat.hash) = (Some(addr), ports, flip(random));
    }
    nat.dst = !nat.src && src;
    if !nat.src && !nat.dst {
        nat = Nat::default();
    }
    let mark = word(random) | 1;
    let label = u128::from(random.bits()) << 64 | u128::from(random.bits());
    Ct {
        commit: flip(random),
        force: false,
        zone: short(random),
        mark: some(random, (5, mark)),
        label: some(random, (label, if label & 1 == 0 { u128::MAX } else { label })),
        helper: some(random, "ftp".to_owned()),
        timeout: some(random, "t_1".to_owned()),
        nat: some(random, nat),
        event_mask: None,
    }
}

fn any_set(random: &mut PacketGen) -> Action {
    let texts = [
        "set(eth(dst=10:11:12:13:14:15))",
        "set(ipv4(src=1.2.3.4/255.255.0.0,ttl=3))",
        "set(ipv6(dst=fe80::1,hlimit=7))",
        "set(udp(src=7))",
        "set(arp(op=2))",
        "set(nd(target=fe80::1))",
        "set(mpls(label=100,tc=3,ttl=64,bos=1))",
        "set(skb_mark(0x7))",
        "set(nsh(ttl=5,c2=0x1))",
        "set(pbb(isid=7,pcp=1))",
        "set(tunnel(tun_id=0x7,dst=192.0.2.2,ttl=64,flags(df|key)))",
    ];
    parse_actions(texts[random.below(texts.len())], &NoNames).unwrap().remove(0)
}

fn any_tunnel_push(random: &mut PacketGen) -> TunnelPush {
    let cases: Vec<&str> = include_str!("action_text_cases.txt").lines().filter(|l| l.starts_with("tnl_push")).collect();
    let parsed = parse_actions(cases[random.below(cases.len())], &NoNames).unwrap().remove(0);
    let Action::TunnelPush(mut push) = parsed else { panic!("{parsed:?}") };
    push.out_port = DpPort(word(random));
    // The addresses and what stands last in the header: VNI, key or sequence number.
    push.header[..12].copy_from_slice(&[address6(random), address6(random)].concat());
    *push
}

/// Any action that its text says whole.
fn any_action(random: &mut PacketGen, depth: usize) -> Action {
    let (lse, eth_type) = (u32::try_from(random.bits() >> 32).unwrap(), short(random));
    let kinds = if depth > 3 { 24 } else { 28 };
    match random.below(kinds) {
        0 => Action::Output(DpPort(word(random))),
        1 => {
            let (cookie, actions) = (any_cookie(random), flip(random));
            let port = DpPort(word(random));
            Action::Userspace(Box::new(Userspace { pid: word(random), cookie, actions, tunnel_out_port: some(random, port) }))
        }
        2 => any_set(random),
        3 => Action::PushVlan { tpid: eth_type, tci: short(random) },
        4 => Action::PopVlan,
        5 => Action::Recirc(word(random)),
        6 => Action::Hash { alg: if flip(random) { HashAlg::L4 } else { HashAlg::SymL4 }, basis: word(random) },
        7 => Action::PushMpls { lse, eth_type },
        8 => Action::PopMpls { eth_type },
        9 => Action::Ct(Box::new(any_ct(random))),
        10 => Action::Trunc(word(random)),
        11 => Action::PushEth { src: address6(random), dst: address6(random) },
        12 => Action::PopEth,
        13 => Action::CtClear,
        14 => {
            let mdtype = if flip(random) { wire::NSH_MD1 } else { wire::NSH_MD2 };
            let metadata = random.bits().to_be_bytes().repeat(2);
            Action::PushNsh(Box::new(Nsh { flags: 1, ttl: 9, mdtype, np: 3, path: word(random), metadata }))
        }
        15 => Action::PopNsh,
        16 => Action::Meter(word(random)),
        17 => Action::AddMpls { lse, eth_type, l3: false },
        18 => Action::Psample { group: word(random), cookie: random.bits().to_be_bytes()[..random.below(8)].to_vec() },
        19 => Action::TunnelPop(DpPort(word(random))),
        20 => Action::LbOutput(word(random)),
        21 => Action::TunnelPush(Box::new(any_tunnel_push(random))),
        22 => Action::PushPbb { isid: word(random) >> 8, pcp: short(random).to_be_bytes()[0] >> 5 },
        23 if flip(random) => Action::PopPbb,
        23 => Action::CopyTtl { inwards: flip(random) },
        24 => Action::Sample { probability: [0, 1 << 31, u32::MAX][random.below(3)], actions: list(random, depth) },
        25 => Action::Clone(list(random, depth)),
        26 => {
            let (greater, less_equal) = (list(random, depth), list(random, depth));
            Action::CheckPktLen { size: short(random), greater, less_equal }
        }
        _ => Action::DecTtl { exceeded: list(random, depth) },
    }
}

#[test]
fn every_action_survives() {
    let mut random = PacketGen::new(32);
    for _ in 0..30_000 {
        let actions = list(&mut random, 0);
        let text = format_actions(&actions, &NoNames);
        let back = parse_actions(&text, &NoNames).unwrap_or_else(|e| panic!("{text}\n{e}"));
        assert_eq!(if text == "drop" { Actions::new() } else { back }, actions, "{text}");
    }
}
