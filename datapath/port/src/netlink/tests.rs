//! Decoding, with bytes that a kernel sent and with any bytes.

use super::*;
use proptest::prelude::*;

/// Bytes of a message with attributes, as the kernel lays them out.
fn message(kind: u16, body: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut builder = wire::Builder::new(kind, 0, 7, body);
    for (kind, value) in attributes {
        builder = builder.attribute(*kind, value);
    }
    builder.finish()
}

/// RTM_NEWLINK of a veth on Linux 6.18, shortened to the attributes that matter and some that do not.
fn veth() -> Vec<u8> {
    let mut body = [0u8; 16];
    body[4..8].copy_from_slice(&9u32.to_ne_bytes());
    body[8..12].copy_from_slice(&0x11043u32.to_ne_bytes());
    let stats: Vec<u8> = (1..=24u64).flat_map(u64::to_ne_bytes).collect();
    let info = [9, 0, 1, 0, b'v', b'e', b't', b'h', 0, 0, 0, 0];
    message(
        libc::RTM_NEWLINK,
        &body,
        &[
            (libc::IFLA_IFNAME, b"veth1\0"),
            (libc::IFLA_TXQLEN, &1000u32.to_ne_bytes()),
            (libc::IFLA_MTU, &1500u32.to_ne_bytes()),
            (51, &65535u32.to_ne_bytes()),
            (libc::IFLA_NUM_TX_QUEUES, &2u32.to_ne_bytes()),
            (libc::IFLA_NUM_RX_QUEUES, &2u32.to_ne_bytes()),
            (libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]),
            (libc::IFLA_STATS64, &stats),
            (libc::IFLA_LINKINFO | 0x8000, &info),
        ],
    )
}

#[test]
fn a_link_is_decoded() {
    let mut bytes = veth();
    bytes.extend(message(libc::RTM_DELLINK, &[0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[(libc::IFLA_IFNAME, b"x\0")]));
    let events = decode(&bytes);
    let [Event::Link(link), Event::LinkGone { ifindex: 3, name }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(name, "x");
    assert_eq!((link.name.as_str(), link.ifindex, link.mtu, link.max_mtu), ("veth1", 9, 1500, 65535));
    assert_eq!((link.admin_up, link.carrier, link.loopback), (true, true, false));
    assert_eq!((link.mac, link.kind.as_deref(), link.queues), (Some([2, 0, 0, 0, 0, 1]), Some("veth"), (2, 2)));
    assert_eq!((link.stats.rx_packets, link.stats.tx_bytes, link.stats.rx_missed_errors), (1, 4, 16));
}

#[test]
fn addresses_and_routes_are_decoded() {
    let mut bytes = message(
        libc::RTM_NEWADDR,
        &[2, 24, 0x80, 0, 9, 0, 0, 0],
        &[(libc::IFA_ADDRESS, &[10, 0, 0, 2]), (libc::IFA_LOCAL, &[10, 0, 0, 1])],
    );
    let head = |family, prefix, table, kind| [family, prefix, 0, 0, table, 3, 0, kind, 0, 0, 0, 0];
    bytes.extend(message(
        libc::RTM_NEWROUTE,
        &head(2, 24, 254, 1),
        &[
            (libc::RTA_TABLE, &254u32.to_ne_bytes()),
            (libc::RTA_DST, &[10, 1, 0, 0]),
            (libc::RTA_PRIORITY, &100u32.to_ne_bytes()),
            (libc::RTA_GATEWAY, &[10, 0, 0, 254]),
            (libc::RTA_OIF, &9u32.to_ne_bytes()),
        ],
    ));
    // A default route over two hops, of which the first counts.
    let hop = [&[16u8, 0, 0, 0, 7, 0, 0, 0, 8, 0, 5, 0][..], &[10, 0, 0, 9]].concat();
    let hops = [hop.clone(), hop].concat();
    bytes.extend(message(libc::RTM_DELROUTE, &head(2, 0, 254, 1), &[(libc::RTA_MULTIPATH, &hops)]));
    // A blackhole is not for us.
    bytes.extend(message(libc::RTM_NEWROUTE, &head(2, 0, 254, 6), &[]));
    let texts: Vec<String> = decode(&bytes).iter().map(|event| format!("{event:?}")).collect();
    assert_eq!(
        texts,
        [
            "Address(Address { ifindex: 9, address: 10.0.0.1, prefix_len: 24 })",
            "Route(Route { destination: 10.1.0.0, prefix_len: 24, gateway: Some(10.0.0.254), ifindex: 9, source: None, \
         priority: 100, table: 254, local: false, tos: 0 })",
            "RouteGone(Route { destination: 0.0.0.0, prefix_len: 0, gateway: Some(10.0.0.9), ifindex: 7, source: None, \
         priority: 0, table: 254, local: false, tos: 0 })",
        ]
    );
}

#[test]
fn the_loopback_device_is_found() {
    let lo = request::link_by_name("lo").unwrap().unwrap();
    assert!(lo.loopback);
    assert_eq!(request::Session::new().unwrap().link_by_index(lo.ifindex).unwrap().unwrap().name, "lo");
    assert!(request::links().unwrap().iter().any(|link| link.name == "lo"));
    assert_eq!(request::link_by_name("no-such-dev").unwrap(), None);
    assert!(request::routes().is_ok() && request::addresses().is_ok());
    assert!(Monitor::new().unwrap().events().unwrap().is_empty());
}

proptest! {
    #[test]
    fn any_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..300, at in 0usize..300, value: u8) {
        let _ = decode(&bytes);
        let mut real = veth();
        real.truncate(cut);
        if let Some(byte) = real.get_mut(at) {
            *byte = value;
        }
        let _ = decode(&real);
    }
}
