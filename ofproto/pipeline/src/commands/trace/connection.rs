//! What a trace says of connections: their states, and what a translation would make of a packet.

use flow::fields::{Field, Value};
use flow::forms::NoNames;
use flow::key::Key;
use flow::oftext::format_value;
use openflow::action::NatAction;
use std::net::{IpAddr, Ipv6Addr};

/// `ct_state` of a new connection's first packet.
pub(super) const TRACKED_NEW: u8 = 0x21;
const NAT_SRC: u16 = 1;
const NAT_DST: u16 = 2;

/// `new|trk`
pub(super) fn ct_state(state: u8) -> String {
    format_value(Field::CtState, &Value::from(u128::from(state)), None, &NoNames)
}

/// Addresses and ports, of the family that the translation is of.
pub(super) fn addresses(key: &Key, nat: &NatAction) -> String {
    let port = u16::from_be_bytes;
    match nat.addr {
        Some((IpAddr::V4(_), _)) => {
            let ip = |b: [u8; 4]| std::net::Ipv4Addr::from(b);
            let (src, dst) = (ip(key.nw_src), ip(key.nw_dst));
            format!("nw_src={src},tp_src={},nw_dst={dst},tp_dst={}", port(key.tp_src), port(key.tp_dst))
        }
        Some((IpAddr::V6(_), _)) => {
            let (src, dst) = (Ipv6Addr::from(key.ipv6_src), Ipv6Addr::from(key.ipv6_dst));
            format!("ipv6_src=[{src}],tp_src={},ipv6_dst=[{dst}],tp_dst={}", port(key.tp_src), port(key.tp_dst))
        }
        None => String::new(),
    }
}

/// Does what the connection's translation would: always to the first address and port of its range.
pub(super) fn translate(key: &mut Key, nat: &NatAction) {
    let first_port = nat.ports.filter(|_| nat.addr.is_some()).map(|(min, _)| min).filter(|p| *p != 0);
    let address = nat.addr.map(|(min, _)| min);
    if nat.flags & NAT_SRC != 0 {
        match address {
            Some(IpAddr::V4(ip)) => key.nw_src = ip.octets(),
            Some(IpAddr::V6(ip)) => key.ipv6_src = ip.octets(),
            None => {}
        }
        key.tp_src = first_port.map_or(key.tp_src, u16::to_be_bytes);
    }
    if nat.flags & NAT_DST != 0 {
        match address {
            Some(IpAddr::V4(ip)) => key.nw_dst = ip.octets(),
            Some(IpAddr::V6(ip)) => key.ipv6_dst = ip.octets(),
            None => {}
        }
        key.tp_dst = first_port.map_or(key.tp_dst, u16::to_be_bytes);
    }
}
