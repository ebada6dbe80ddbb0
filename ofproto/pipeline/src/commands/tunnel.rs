//! `tnl/*` and `ofproto/list-tunnels`: neighbours of tunnels, ports that take encapsulated packets, tunnel ports.

use super::Outcome;
use super::show::write;
use crate::neigh::IDLE_MAX_S;
use crate::slowpath::Slowpath;
use crate::tunnel::Addr;
use flow::clock::now_ms;
use flow::dptext::format_flow;
use flow::forms::NoNames;
use flow::{Key, Mask};

const HEADING: &str = "IP                                            MAC                 Bridge\n\
==========================================================================\n";
/// Width of the address column (INET6_ADDRSTRLEN).
const ADDRESS_WIDTH: usize = 46;

pub(super) fn neigh_show(slowpath: &Slowpath, _: &[&str]) -> Outcome {
    let mut out = HEADING.to_owned();
    slowpath.read_world().neighbours.age(now_ms());
    for ((device, address), [a, b, c, d, e, f], stale) in slowpath.read_world().neighbours.all(now_ms()) {
        let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        let stale = if stale { " STALE" } else { "" };
        write(&mut out, format_args!("{:ADDRESS_WIDTH$}{mac}   {device}{stale}\n", address.to_string()));
    }
    Ok(out)
}

pub(super) fn neigh_set(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let [device, address, mac] = args else { return Err("bad arguments".to_owned()) };
    let address = Addr::parse(address).ok_or("bad IP address")?;
    let mac = parse_mac(mac).ok_or("bad MAC address")?;
    slowpath.read_world().neighbours.set(device, address, mac, now_ms());
    slowpath.settle();
    Ok("OK".to_owned())
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    bytes?.try_into().ok()
}

pub(super) fn neigh_flush(slowpath: &Slowpath, _: &[&str]) -> Outcome {
    slowpath.read_world().neighbours.flush(None, now_ms());
    slowpath.settle();
    Ok("OK".to_owned())
}

pub(super) fn neigh_aging(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let world = slowpath.read_world();
    let Some(text) = args.first() else { return Ok(world.neighbours.idle_s().to_string()) };
    let seconds = text.parse().ok().filter(|s| (1..=IDLE_MAX_S).contains(s)).ok_or("bad aging value")?;
    world.neighbours.set_idle(seconds, now_ms());
    Ok("OK".to_owned())
}

pub(super) fn ports_show(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let verbose = args.first().is_some_and(|a| a.eq_ignore_ascii_case("-v"));
    let world = slowpath.read_world();
    let mut out = "Listening ports:\n".to_owned();
    for (kind, backend) in &world.backends {
        for listener in backend.listening.iter() {
            let (name, port) = (&listener.name, listener.port.0);
            if !verbose {
                write(&mut out, format_args!("{name} ({port}) ref_cnt={}\n", listener.references));
                continue;
            }
            for (device, a) in world.router.addresses() {
                let Some((_, at)) = world.port_of_device(kind, device) else { continue };
                if !(if a.address.is_v4() { listener.over.0 } else { listener.over.1 }) {
                    continue;
                }
                let (key, mask) = wanted(at.info.mac, a.address, listener.proto, listener.dst_port);
                write(&mut out, format_args!("{name} ({port}) : {}\n", format_flow(&key, &mask, false, &NoNames)));
            }
        }
    }
    Ok(out)
}

/// What a packet must have to be decapsulated, as a megaflow.
fn wanted(mac: [u8; 6], address: Addr, proto: u8, dst_port: u16) -> (Key, Mask) {
    let v4 = address.is_v4();
    let key = Key {
        eth_dst: mac,
        eth_type: if v4 { [0x08, 0x00] } else { [0x86, 0xdd] },
        nw_dst: address.to_v4(),
        ipv6_dst: address.to_v6(),
        nw_proto: proto,
        tp_dst: dst_port.to_be_bytes(),
        ..Key::ZERO
    };
    let mask = Key {
        eth_dst: [0xff; 6],
        eth_type: [0xff; 2],
        nw_dst: if v4 { [0xff; 4] } else { [0; 4] },
        ipv6_dst: if v4 { [0; 16] } else { [0xff; 16] },
        nw_proto: 0xff,
        nw_frag: 0x3,
        tp_dst: if dst_port == 0 { [0; 2] } else { [0xff; 2] },
        ..Key::ZERO
    };
    (key, mask)
}

/// `tnl/egress_port_range`: from which ports UDP tunnels send.
pub(super) fn egress_port_range(_: &Slowpath, args: &[&str]) -> Outcome {
    use flow::tunnel_ports;
    let number = |text: &str| text.parse::<u16>().ok().filter(|p| *p > 0);
    match args {
        [min, max] => {
            let Some(min) = number(min) else { return Ok("Invalid min.".to_owned()) };
            let Some(max) = number(max) else { return Ok("Invalid max.".to_owned()) };
            tunnel_ports::set(min.min(max), min.max(max));
            Ok("OK".to_owned())
        }
        _ => {
            let (min, max) = tunnel_ports::range();
            Ok(format!("Tunnel UDP source port range: {min}-{max}\n"))
        }
    }
}

/// `ofproto/list-tunnels`: `port N: NAME (KIND: ADDRESSES, key=KEY, dp port=N)`.
pub(super) fn list(slowpath: &Slowpath, _: &[&str]) -> Outcome {
    let world = slowpath.read_world();
    let mut lines = Vec::new();
    for backend in world.backends.values() {
        for ((bridge, number), dp_port) in backend.tunnels.iter() {
            let Some(port) = world.bridges.get(&bridge).and_then(|b| b.ports.get(&number)) else { continue };
            let Some(config) = &port.tunnel else { continue };
            let number = port.number.0 & 0xffff;
            lines.push(format!("port {number}: {} ({}: {})\n", port.name, config.kind, ends(config, dp_port.0)));
        }
    }
    lines.sort();
    Ok(lines.concat())
}

/// `LOCAL->REMOTE, key=KEY, ...dp port=N, ttl=N`, and what else is not as it usually is.
fn ends(config: &crate::tunnel::Config, dp_port: u32) -> String {
    use crate::tunnel::{ByFlow, Outer, PacketTypes};
    let address = |a: ByFlow<Addr>| match a {
        ByFlow::Flow => "flow".to_owned(),
        ByFlow::Fixed(address) => address.to_string(),
    };
    let number = |key: Option<ByFlow<u64>>| match key {
        Some(ByFlow::Flow) => "flow".to_owned(),
        Some(ByFlow::Fixed(key)) => format!("{key:#x}"),
        None => "0".to_owned(),
    };
    let key = number(config.in_key);
    let mut more = String::new();
    if config.out_key != config.in_key {
        more = format!(", out_key={}", number(config.out_key));
    }
    more += &match config.ttl {
        Outer::Inherit => ", ttl=inherit".to_owned(),
        Outer::Fixed(ttl) => format!(", ttl={ttl}"),
    };
    more += &match config.tos {
        Outer::Inherit => ", tos=inherit".to_owned(),
        Outer::Fixed(0) => String::new(),
        Outer::Fixed(tos) => format!(", tos={tos:#x}"),
    };
    if !config.dont_fragment {
        more += ", df=false";
    }
    if config.csum == Some(true) {
        more += ", csum=true";
    }
    let types = match config.packet_types {
        PacketTypes::LegacyL2 => "legacy_l2",
        PacketTypes::LegacyL3 => "legacy_l3",
        PacketTypes::Aware => "ptap",
    };
    format!("{}->{}, key={key}, {types}, dp port={dp_port}{more}", address(config.local), address(config.remote))
}
