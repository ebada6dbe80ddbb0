//! Which MAC a bridge has when nobody says: the least of its ports' globally administered addresses, so that it is stable and real;
//! a random one, kept for the life of the daemon, if no port has such an address.

use flow::hash::Map;
use flow::seam::PortInfo;

/// Random MACs already given, by bridge name.
#[derive(Debug, Default)]
pub struct Macs(Map<String, [u8; 6]>);

impl Macs {
    /// The MAC for a bridge with these ports (the local port does not count).
    pub fn choose<'a>(&mut self, bridge: &str, ports: impl Iterator<Item = &'a PortInfo>) -> [u8; 6] {
        let real = ports.filter(|p| p.name != bridge && !is_internal(&p.kind)).map(|p| p.mac).filter(|m| is_usable(*m)).min();
        real.unwrap_or_else(|| *self.0.entry(bridge.to_owned()).or_insert_with(random))
    }

    /// Forgets bridges that are no more.
    pub fn keep(&mut self, exists: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| exists(name));
    }
}

fn is_internal(kind: &str) -> bool {
    matches!(kind, "internal" | "tap" | "dummy-internal" | "patch")
}

/// Unicast, globally administered (IEEE 802: the second bit of the first byte is clear), not a reserved bridge group address.
fn is_usable(mac: [u8; 6]) -> bool {
    mac[0] & 3 == 0 && mac != [0; 6]
}

/// Locally administered unicast.
fn random() -> [u8; 6] {
    let mut mac = [0; 6];
    mac.copy_from_slice(&uuid::Uuid::new_v4().as_bytes()[..6]);
    mac[0] = mac[0] & 0xfc | 2;
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_real_address_else_a_random_one_that_stays() {
        let port = |name: &str, kind: &str, mac| PortInfo { name: name.into(), kind: kind.into(), mac, ..PortInfo::default() };
        let ports = [
            port("br0", "internal", [0, 0, 0, 0, 0, 1]),
            port("tap0", "tap", [0, 0, 0, 0, 0, 2]),
            port("veth", "system", [0xaa, 0x55, 0, 0, 0, 1]),
            port("eth1", "system", [0, 0x50, 0, 0, 0, 9]),
            port("eth0", "system", [0, 0x50, 0, 0, 0, 3]),
        ];
        let mut macs = Macs::default();
        assert_eq!(macs.choose("br0", ports.iter()), [0, 0x50, 0, 0, 0, 3]);
        let random = macs.choose("br0", ports[..3].iter());
        assert_eq!(random[0] & 3, 2);
        assert_eq!(macs.choose("br0", [].iter()), random);
    }
}
