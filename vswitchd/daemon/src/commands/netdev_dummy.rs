//! `netdev-dummy/*` and `dpif-dummy/*`: the hands of a test on ports that have no device.

use crate::daemon::Daemon;
use crate::unixctl::registry::ANY;
use crate::unixctl::{Answer, Command};
use flow::compose::{DEFAULT_PAYLOAD, Payload, compose};
use flow::dptext::parse_flow;
use flow::forms::NoNames;
use port::dummy::{Control, LinkStatus};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The rows.
pub const COMMANDS: &[Command<Daemon>] = &[
    Command::now("dpif-dummy/change-port-number", Some("dp port new-number"), (3, 3), change_port_number),
    Command::now("netdev-dummy/receive", Some("name [--qid queue_id] packet|flow [--len packet_len]"), (2, ANY), receive),
    Command::now("netdev-dummy/set-admin-state", Some("[netdev] up|down"), (1, 2), set_admin_state),
    Command::now("netdev-dummy/conn-state", Some("[netdev]"), (0, 1), conn_state),
    Command::now("netdev-dummy/ip4addr", Some("[netdev] ipaddr/mask-prefix-len"), (2, 2), ip4addr),
    Command::now("netdev-dummy/ip6addr", Some("[netdev] ip6addr"), (2, 2), ip6addr),
];

/// The least frame that is taken as hexadecimal digits: an Ethernet header.
const FRAME_BYTES_MIN: usize = 14;
const FRAME_BYTES_MAX: usize = 65_535 + 18;

const UNKNOWN: &str = "Unknown Dummy Interface";
const TOO_MANY: &str = "too many addresses";

fn named(daemon: &Daemon, name: &str) -> Result<Control, String> {
    daemon.switch.dummy(name).ok_or_else(|| UNKNOWN.to_owned())
}

fn change_port_number(daemon: &mut Daemon, args: &[String]) -> Answer {
    // What is no number is 0, which no port can have.
    let number = args[2].parse().unwrap_or(0);
    daemon.switch.slowpath.change_port_number(&args[0], &args[1], number).map(|()| String::new())
}

/// Lets a port receive packets, and answers when the switch has dealt with them.
fn receive(daemon: &mut Daemon, args: &[String]) -> Answer {
    let name = &args[0];
    daemon.switch.dummy(name).ok_or("no such dummy netdev")?;
    let mut words = args[1..].iter().peekable();
    let mut queue = 0;
    if words.next_if(|w| *w == "--qid").is_some() {
        queue = words.next().and_then(|n| n.parse().ok()).ok_or("bad rx queue id.")?;
    }
    while let Some(word) = words.next() {
        let mut len = None;
        if words.next_if(|w| *w == "--len").is_some() {
            let text = words.next().map_or("", String::as_str);
            len = Some(
                text.parse()
                    .ok()
                    .filter(|n| (1..=FRAME_BYTES_MAX).contains(n))
                    .ok_or_else(|| format!("{text}: bad packet length"))?,
            );
        }
        daemon.switch.inject(name, queue, &frame(word, len)?).map_err(|e| e.to_string())?;
    }
    Ok(String::new())
}

/// Hexadecimal digits as they are, or a flow as a packet that has it.
fn frame(text: &str, len: Option<usize>) -> Result<Vec<u8>, String> {
    if let Some(bytes) = hex(text).filter(|b| b.len() >= FRAME_BYTES_MIN) {
        return Ok(bytes);
    }
    let mut flow = parse_flow(text, &NoNames).map_err(|e| e.to_string())?;
    if !text.contains("eth_type(") {
        // The headers that are there say it.
        let implied = [("ipv4(", [0x08, 0x00]), ("ipv6(", [0x86, 0xdd]), ("arp(", [0x08, 0x06])];
        if let Some((_, eth_type)) = implied.iter().find(|(attribute, _)| text.contains(attribute)) {
            flow.key.eth_type = *eth_type;
        }
    }
    // A device receives frames, whether or not their addresses are said.
    if !text.contains("packet_type(") {
        flow.key.packet_type = [0; 4];
    }
    let bytes = compose(&flow.key, len.map_or(DEFAULT_PAYLOAD, Payload::FrameLen));
    match len {
        Some(len) if bytes.len() > len => Err(format!("{len}: packet length is less than that of its headers")),
        Some(_) | None => Ok(bytes),
    }
}

/// Digits in pairs, with blanks between bytes or none.
fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let nibble = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect()
}

fn set_admin_state(daemon: &mut Daemon, args: &[String]) -> Answer {
    let up = match args.last().map(String::as_str) {
        Some("up") => true,
        Some("down") => false,
        Some(_) | None => return Err("Invalid Admin State".into()),
    };
    match args {
        [name, _] => named(daemon, name)?.set_admin_up(up),
        [..] => daemon.switch.datapaths.dummies().iter().for_each(|(_, port)| port.set_admin_up(up)),
    }
    daemon.touch_ports();
    Ok("OK".into())
}

fn conn_state(daemon: &mut Daemon, args: &[String]) -> Answer {
    let text = |status| match status {
        LinkStatus::Unknown => "unknown",
        LinkStatus::Disconnected => "disconnected",
        LinkStatus::Connected => "connected",
    };
    let ports = match args.first() {
        Some(name) => vec![(name.clone(), named(daemon, name)?)],
        // Only those that have a link at all.
        None => daemon.switch.datapaths.dummies().into_iter().filter(|(_, p)| p.link_status() != LinkStatus::Unknown).collect(),
    };
    let mut out = String::new();
    for (name, port) in ports {
        writeln!(out, "{name}: {}", text(port.link_status())).expect("writing to a String cannot fail");
    }
    Ok(out)
}

fn ip4addr(daemon: &mut Daemon, args: &[String]) -> Answer {
    let port = named(daemon, &args[0])?;
    let (address, mask) = parse_ip4(&args[1]).ok_or_else(|| format!("{}: invalid IP address", args[1]))?;
    if !port.add_ip4(address, mask) {
        return Err(TOO_MANY.into());
    }
    daemon.switch.tell_addresses(&args[0], &port);
    daemon.touch_ports();
    Ok("OK".into())
}

fn parse_ip4(text: &str) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let (address, mask) = text.split_once('/').unwrap_or((text, "32"));
    let mask = match mask.parse::<u32>() {
        Ok(bits @ 0..=32) => Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - bits).unwrap_or(0)),
        Ok(_) => return None,
        Err(_) => mask.parse().ok()?,
    };
    Some((address.parse().ok()?, mask))
}

fn ip6addr(daemon: &mut Daemon, args: &[String]) -> Answer {
    let port = named(daemon, &args[0])?;
    let (address, bits) = args[1].split_once('/').unwrap_or((&args[1], "128"));
    let parsed = address.parse::<Ipv6Addr>().ok().zip(bits.parse::<u32>().ok().filter(|b| *b <= 128));
    let (address, bits) = parsed.ok_or_else(|| format!("{}: invalid IPv6 address", args[1]))?;
    if !port.add_ip6(address, Ipv6Addr::from_bits(u128::MAX.checked_shl(128 - bits).unwrap_or(0))) {
        return Err(TOO_MANY.into());
    }
    daemon.switch.tell_addresses(&args[0], &port);
    daemon.touch_ports();
    Ok("OK".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_from_digits_and_from_flows() {
        assert_eq!(hex("00 0aFF"), Some(vec![0, 10, 255]));
        assert_eq!(hex("0"), None);
        assert_eq!(frame("000102030405060708090a0b0c0d", None).unwrap().len(), 14);
        assert_eq!(frame("00zz", None).unwrap_err(), "syntax error at 00zz");
        let icmp = "in_port(1),eth(src=50:54:00:00:00:09,dst=50:54:00:00:00:0a),eth_type(0x0800),ipv4(src=10.0.0.2,dst=10.0.0.1,proto=1,tos=0,ttl=64,frag=no),icmp(type=8,code=0)";
        assert_eq!(frame(icmp, None).unwrap().len(), 106);
        assert_eq!(frame(icmp, Some(200)).unwrap().len(), 200);
    }

    #[test]
    fn addresses_with_masks() {
        let mask = Ipv4Addr::new(255, 255, 255, 0);
        let address = Ipv4Addr::new(1, 2, 3, 4);
        assert_eq!(parse_ip4("1.2.3.4/24"), Some((address, mask)));
        assert_eq!(parse_ip4("1.2.3.4/255.255.255.0"), Some((address, mask)));
        assert_eq!(parse_ip4("foo"), None);
        assert_eq!(parse_ip4("1.2.3.4/33"), None);
    }
}
