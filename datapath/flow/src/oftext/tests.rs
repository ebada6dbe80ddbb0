//! Cases in OVS's notation, gathered from `ovs-ofctl -F nxm parse-flow` of OVS 3.1, and properties.

use super::*;
use crate::fields::{Field, MaskKind, Value};
use crate::forms::{NoNames, PortNames};
use crate::matching::{Match, TunnelLayout};
use proptest::prelude::*;

#[test]
fn matches_as_ovs_writes_them() {
    let text = include_str!("cases/matches.txt");
    let lines: Vec<&str> = text.lines().skip(1).collect();
    let mut faults = Vec::new();
    let mut n = 0;
    while n < lines.len() {
        let (input, mut want) = (lines[n], "");
        n += 1;
        if n < lines.len() && lines[n].starts_with("    ") {
            want = lines[n].trim();
            n += 1;
        }
        let got = match parse_match(input) {
            Ok(mut m) => {
                m.normalize();
                format_match(&m)
            }
            Err(e) => format!("error: {e}"),
        };
        if got != want {
            faults.push(format!("{input}\n  want {want}\n  got  {got}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// (field, text, as `set_field` shows it)
const VALUES: &[(&str, &str, &str)] = &[
    ("reg0", "5", "0x5"),
    ("reg0", "0", "0"),
    ("reg0", "5/0xff", "0x5/0xff"),
    ("metadata", "0x10/0xf0", "0x10/0xf0"),
    ("tun_id", "16", "0x10"),
    ("tun_src", "1.2.3.4", "1.2.3.4"),
    ("tun_ipv6_dst", "::1", "::1"),
    ("tun_ipv6_dst", "2001::/16", "2001::/16"),
    ("tun_gbp_id", "5", "5"),
    ("tun_gbp_flags", "8", "0x8"),
    ("tun_gbp_id", "5/0xf", "5/0xf"),
    ("tun_flags", "oam", "oam"),
    ("tun_flags", "0", "0"),
    ("tun_erspan_idx", "7", "0x7"),
    ("tun_metadata0", "0x1234", "0x1234"),
    ("in_port", "1", "1"),
    ("in_port", "LOCAL", "LOCAL"),
    ("pkt_mark", "1", "0x1"),
    ("xreg0", "0x100000001", "0x100000001"),
    ("xxreg0", "0x1/0xf", "0x1/0xf"),
    ("eth_src", "1:2:3:4:5:6", "01:02:03:04:05:06"),
    ("vlan_pcp", "5", "5"),
    ("mpls_label", "5", "5"),
    ("mpls_tc", "1", "1"),
    ("mpls_ttl", "1", "1"),
    ("ip_src", "1.2.3.4", "1.2.3.4"),
    ("ipv6_src", "::1/::ff", "::1/::ff"),
    ("ipv6_label", "5", "0x5"),
    ("ipv6_exthdr", "0x44/0x1f0", "0x44/0x1f0"),
    ("ipv6_exthdr", "68", "0x44"),
    ("ipv6_exthdr", "0/1", "0/0x1"),
    ("nw_tos", "4", "4"),
    ("ip_dscp", "5", "5"),
    ("nw_ecn", "1", "1"),
    ("nw_ttl", "5", "5"),
    ("arp_op", "1", "1"),
    ("arp_spa", "1.2.3.4", "1.2.3.4"),
    ("arp_sha", "1:2:3:4:5:6", "01:02:03:04:05:06"),
    ("tcp_src", "80", "80"),
    ("tcp_src", "80/0xff", "80/0xff"),
    ("udp_dst", "53", "53"),
    ("icmp_type", "8", "8"),
    ("nd_target", "::1", "::1"),
    ("nd_reserved", "5", "5"),
    ("nsh_flags", "1/0x1", "1/0x1"),
    ("nsh_spi", "0x1", "0x1"),
    ("nsh_c1", "5", "0x5"),
    ("nsh_ttl", "5", "5"),
    ("pbb_isid", "0x10/0xf0", "16/0xf0"),
    ("pbb_isid", "16777215", "16777215"),
    ("pbb_uca", "1", "1"),
    ("vlan_tci", "5", "0x5"),
];

#[test]
fn values_as_ovs_writes_them() {
    for (name, text, want) in VALUES {
        let field = Field::by_name(name).unwrap();
        let (value, mask) = parse_value(field, text, &NoNames).unwrap_or_else(|e| panic!("{name} {text}: {e}"));
        assert_eq!(format_value(field, &value, Some(&mask), &NoNames), *want, "{name} {text}");
    }
}

struct Eth0;

impl PortNames for Eth0 {
    fn name(&self, port: u32) -> Option<String> {
        [(1, "eth0"), (2, "7up"), (3, "a\"b")].iter().find(|(n, _)| *n == port).map(|(_, name)| (*name).to_owned())
    }

    fn number(&self, name: &str) -> Option<u32> {
        (1..4).find(|n| self.name(*n).as_deref() == Some(name))
    }
}

#[test]
fn ports_have_names() {
    assert_eq!(format_port(1, &Eth0), "eth0");
    assert_eq!(format_port(2, &Eth0), "\"7up\"");
    assert_eq!(format_port(3, &Eth0), "\"a\\\"b\"");
    assert_eq!(format_port(0xfffe, &Eth0), "LOCAL");
    assert_eq!(format_port(5, &Eth0), "5");
    assert_eq!(parse_port("eth0", &Eth0), Some(1));
    assert_eq!(parse_port("\"7up\"", &Eth0), Some(2));
    assert_eq!(parse_port("local", &Eth0), Some(0xfffe));
    assert_eq!(parse_port("4294967294", &Eth0), Some(0xfffe));
    assert_eq!(parse_port("65536", &Eth0), None);
    assert_eq!(parse_port("eth1", &Eth0), None);
    let mut m = Match::default();
    assert!(parse_into(&mut m, "in_port", "eth0", &Eth0).unwrap());
    assert_eq!(format_match_with(&m, &Eth0), "in_port=eth0");
}

#[test]
fn pairs_nest() {
    let pairs: Vec<_> = KeyValues::new("a=1, b(2,(3)) c:x,,d e=f(g,h),i(1)->j ").collect();
    assert_eq!(pairs, [("a", "1"), ("b", "2,(3)"), ("c", "x"), ("d", ""), ("e", "f(g,h)"), ("i", "1)->j")]);
}

#[test]
fn parts_of_fields() {
    let part = |text| Subfield::parse(text).map(|(s, rest)| (s.to_string(), rest.to_owned())).unwrap();
    assert_eq!(part("NXM_NX_REG0[]"), ("NXM_NX_REG0[]".to_owned(), String::new()));
    assert_eq!(part("reg0[0..15]->x"), ("NXM_NX_REG0[0..15]".to_owned(), "->x".to_owned()));
    assert_eq!(part("eth_src[40]"), ("NXM_OF_ETH_SRC[40]".to_owned(), String::new()));
}

#[test]
fn tunnel_options_come_and_go() {
    let mut m = parse_match("tun_metadata0=0x1/0xf,tun_metadata3").unwrap();
    assert!(matches!(m.options, TunnelLayout::Own(_)));
    assert!(m.has(Field::TunMetadata3) && !m.has(Field::TunMetadata1));
    m.set_absent(Field::TunMetadata5).unwrap();
    assert_eq!(format_match(&m), "tun_metadata0=0x1/0xf,tun_metadata3,tun_metadata5=NP");
    assert_eq!(m.get_long(Field::TunMetadata0), (Value::from(1), Value::from(0xf)));
    let full = parse_match("tun_metadata0=1,tun_metadata1=0x1/0xffffffff").unwrap();
    assert_eq!(format_match(&full), "tun_metadata0=0x1,tun_metadata1=0x1");
}

#[test]
fn a_packets_tunnel_options_are_told_also_when_they_are_zero() {
    let told = |text: &str| {
        let m = parse_match(text).unwrap();
        format_packet_with(&m.key, m.options.clone(), &NoNames)
            .split(',')
            .filter(|w| w.starts_with("tun_m"))
            .collect::<Vec<_>>()
            .join(",")
    };
    assert_eq!(told("tun_dst=10.0.0.1,tun_metadata0=0,tun_metadata1=5"), "tun_metadata0=0,tun_metadata1=0x5");
    assert_eq!(told("tun_metadata0=0"), "", "it did not come by a tunnel");
}

proptest! {
    /// Each value of each field survives its text form.
    #[test]
    fn every_value_survives(n in 0..Field::ALL.len(), bits: u128, mask: u128) {
        let field = Field::ALL[n];
        let row = field.row();
        let mut value = Value::from(bits & field.exact());
        let mut mask = Value::from(if row.mask == MaskKind::Bits && mask & field.exact() != 0 { mask & field.exact() } else { field.exact() });
        let exact = mask.low() == field.exact();
        if field.check(&value).is_err() || field == Field::TunFlags {
            value = Value::from(1);
        }
        if field == Field::IpFrag {
            (value, mask) = (Value::from(3), Value::from(3));
        }
        if matches!(field, Field::CtState | Field::TunFlags | Field::TcpFlags) {
            value = value.and(&mask);
        }
        let text = format_value(field, &value, (!exact).then_some(&mask), &NoNames);
        let text = text.strip_prefix("packet_type=").unwrap_or(&text).to_owned();
        let (back, back_mask) = parse_value(field, &text, &NoNames).map_err(|e| TestCaseError::fail(format!("{row:?}: {e}")))?;
        prop_assert_eq!(&back, &value, "{} {}", field, text);
        let whole = field.whole();
        if exact && field.tun_metadata_number().is_none() {
            prop_assert_eq!(back_mask.and(&whole), whole, "{} {}", field, text);
        } else if !exact {
            prop_assert_eq!(back_mask.and(&whole), mask, "{} {}", field, text);
        }
    }

    /// A match with the protocol that a field needs prints a text that reads as the same match.
    #[test]
    fn every_match_survives(
        n in 0..Field::ALL.len(), m in 0..Field::ALL.len(), bits: [u128; 2], masks: [u128; 2],
        word in prop::sample::select(vec!["ip", "tcp", "udp6", "icmp6", "arp", "mpls", "dl_type=0x894f", "icmp", "sctp", ""]),
    ) {
        let mut made = parse_match(word).unwrap();
        for (n, (bits, mask)) in [n, m].into_iter().zip(bits.into_iter().zip(masks)) {
            let field = Field::ALL[n];
            // What text cannot tell apart, or shows in part only.
            let lossy = field.tun_metadata_number().is_some() || field.row().writable && field.row().stage == crate::fields::Stage::L4
                || matches!(field, Field::TunGbpFlags | Field::TunTos | Field::TunErspanIdx | Field::TunErspanDir | Field::TunErspanHwid
                    | Field::TunErspanVer | Field::TunGtpuFlags | Field::TunGtpuMsgtype | Field::EthType | Field::NwProto | Field::IpFrag
                    | Field::PacketType | Field::RecircId | Field::TunFlags | Field::CtTpSrc | Field::CtTpDst | Field::ArpOp | Field::TcpFlags
                    | Field::NshMdtype);
            if !lossy && made.meets(field.row().need) && field.check(&Value::from(bits & field.exact())).is_ok() {
                let bits = bits & field.exact();
                made.set_masked(field, bits, if field.row().mask == MaskKind::Bits { mask } else { field.exact() });
            }
        }
        let text = format_match(&made);
        let back = parse_match(&text).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        prop_assert_eq!(format_match(&back), text);
        // A priority alone brings CFI along and back; everything else is bit for bit the same.
        let mut want = made.clone();
        want.mask.packet_type = back.mask.packet_type;
        prop_assert!(want.key == back.key && want.mask == back.mask, "{:?}\n{:?}", want, back);
    }

    #[test]
    fn never_panics(text in "[a-z0-9_(){}\\[\\],=/|+:.* -]{0,60}") {
        let _ = parse_match(&text);
        let _ = Subfield::parse(&text);
        for field in Field::ALL {
            let _ = parse_value(*field, &text, &NoNames);
        }
    }

    #[test]
    fn never_panics_nearby(n: usize, at: usize, with: char) {
        let lines: Vec<&str> = include_str!("cases/matches.txt").lines().collect();
        let mut line: Vec<char> = lines[n % lines.len()].chars().collect();
        if !line.is_empty() {
            let at = at % line.len();
            line[at] = with;
        }
        if let Ok(mut m) = parse_match(&line.into_iter().collect::<String>()) {
            m.normalize();
            let _ = format_match(&m);
        }
    }
}
