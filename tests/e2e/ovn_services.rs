//! What OVN makes of one switch: load balancers, filters that change under connections, and the answers that ovn-controller gives itself
//! (packet-ins with userdata and continuations): addresses, names, groups, refusals, logs.

use crate::rig::ovn::{Central, Chassis, ask, serve};
use crate::rig::{Container, Sniffer, assert_has, assert_lacks, number_after, udp_frame, wait_until};

/// A chassis with three containers on a logical switch, which has a port of a router.
struct Site {
    a: Container,
    b: Container,
    c: Container,
    chassis: Chassis,
    central: Central,
}

impl Site {
    fn new() -> Self {
        let central = Central::new();
        let chassis = Chassis::alone(&central);
        central.nb("lr-add lr0");
        central.switch("sw0", "10.0.0.254/24 fd00::fe/64");
        let [a, b, c] = [1, 2, 3].map(|n| chassis.container(&central, "sw0", &format!("p{n}"), &format!("10.0.0.{n} fd00::{n}")));
        central.sync();
        a.reaches("10.0.0.2");
        Self { a, b, c, chassis, central }
    }

    /// A change of the northbound database, and the switch has it.
    fn set(&self, words: &str) {
        self.central.nb(words);
        self.central.sync();
    }

    /// All that came of some connections, which each take a source port of their own.
    fn asked(&self, from: &Container, address: &str, times: u32) -> String {
        (0..times).map(|_| ask(from, address, 80)).collect()
    }
}

#[test]
fn ovn_balances_to_servers_that_are_alive() {
    let site = Site::new();
    let _two = serve(&site.b.ns, 80, "two");
    let three = serve(&site.c.ns, 80, "three from $SOCAT_PEERADDR");
    site.set(
        "lb-add lb0 30.0.0.100:80 10.0.0.2:80,10.0.0.3:80 tcp -- ls-lb-add sw0 lb0 \
         -- set load_balancer lb0 ip_port_mappings:10.0.0.2=p2:10.0.0.250 ip_port_mappings:10.0.0.3=p3:10.0.0.250 \
         -- lb-add lb1 30.0.0.101:80 10.0.0.2:80,10.0.0.3:80 tcp -- set load_balancer lb1 options:affinity_timeout=60 -- ls-lb-add sw0 lb1 \
         -- create load_balancer name=lb2 protocol=tcp vips:\"30.0.0.102:80\"=\"\" options:reject=true -- ls-lb-add sw0 lb2",
    );
    assert_has(&site.asked(&site.a, "30.0.0.100", 24), &["two", "three from 10.0.0.1"]);
    // A server that is given itself sees the service's address.
    assert_has(&site.asked(&site.c, "30.0.0.100", 24), &["two", "three from 30.0.0.100"]);
    // A rule that is learned holds a client to its server.
    let said = site.asked(&site.a, "30.0.0.101", 12);
    assert!(said.contains("two") != said.contains("three"), "{said}");
    assert_has(&site.asked(&site.a, "30.0.0.102", 1), &["refused"]);
    // ovn-controller asks the servers, and leaves out the one that is no more.
    site.set(
        "--id=@check create load_balancer_health_check vip=\"30.0.0.100:80\" options:interval=1 options:timeout=1 \
         options:success_count=1 options:failure_count=1 -- add load_balancer lb0 health_check @check",
    );
    let is = |status: &str| site.central.sb("--bare --columns=status find service_monitor logical_port=p3").trim() == status;
    wait_until("the server is online", || is("online"));
    drop(three);
    wait_until("the server is offline", || is("offline"));
    site.central.sync();
    let said = site.asked(&site.a, "30.0.0.100", 16);
    assert_eq!(said.matches("two").count(), 16, "{said}");
}

#[test]
fn ovn_filters_by_sets_that_change() {
    let site = Site::new();
    let _servers = [serve(&site.b.ns, 80, "two"), serve(&site.b.ns, 81, "two")];
    site.set(
        "meter-add few drop 2 pktps 2 -- pg-add pg0 p2 -- create address_set name=as0 addresses=10.0.0.1,10.0.0.9 \
         -- acl-add pg0 to-lport 1000 outport==@pg0&&ip drop \
         -- acl-add pg0 to-lport 1001 outport==@pg0&&ip4.src==$as0&&tcp.dst=={80,82} allow-related \
         -- acl-add pg0 to-lport 1001 outport==@pg0&&tcp.dst==81 reject \
         -- --log --name=told --meter=few acl-add pg0 to-lport 1002 outport==@pg0&&udp.dst==9 drop",
    );
    let answers = |from: &Container, port: u16| ask(from, "10.0.0.2", port);
    assert_has(&site.chassis.host.ofctl("dump-flows br-int"), &["conjunction("]);
    assert_has(&answers(&site.a, 80), &["two"]);
    assert_has(&answers(&site.a, 81), &["refused"]);
    assert_has(&answers(&site.c, 80), &["timed out"]);
    site.set("add address_set as0 addresses 10.0.0.3 -- remove address_set as0 addresses 10.0.0.1");
    assert_has(&answers(&site.c, 80), &["two"]);
    assert_has(&answers(&site.a, 80), &["timed out"]);
    // The meter lets a few through to the log, of each burst: what it has not dropped is all there.
    site.a.ns.send_frames("eth0", vec![udp_frame(1, 2, b"to be told"); 60]);
    let log = || std::fs::read_to_string(site.chassis.host.file("ovn-controller.log")).unwrap();
    let metered = || site.chassis.host.ofctl("meter-stats br-int");
    wait_until("the meter has counted", || number_after(&metered(), "packet_in_count:") == Some(60));
    let dropped = number_after(&metered(), "0: packet_count:").unwrap();
    assert!((1..60).contains(&dropped), "{}", metered());
    wait_until("refusals are told", || log().matches("name=\"told\", verdict=drop").count() as u64 == 60 - dropped);
    // Port security, a mark and the filter's end.
    site.set(
        "acl-del pg0 -- lsp-set-port-security p1 02:00:00:00:00:01~10.0.0.1 -- qos-add sw0 from-lport 100 inport==\"p1\"&&udp.dst==9 dscp=46",
    );
    let caught = Sniffer::start(&site.b.ns, "eth0", "udp port 9");
    site.a.ns.send_frames("eth0", vec![udp_frame(7, 2, b"of another"), udp_frame(1, 2, b"its own")]);
    caught.expect(&["10.0.0.1.7 > 10.0.0.2.9", "tos 0xb8"]);
    assert_lacks(&caught.lines().join("\n"), &["10.0.0.7"]);
}

#[test]
fn ovn_answers_in_place_of_servers() {
    let site = Site::new();
    site.set(
        "--id=@four create dhcp_options cidr=10.0.0.0/24 options:server_id=10.0.0.254 options:server_mac=02:00:00:00:ff:99 \
         options:lease_time=3600 options:router=10.0.0.254 -- set logical_switch_port p1 dhcpv4_options=@four \
         -- --id=@names create dns records:vm.example=10.0.0.77 -- set logical_switch sw0 dns_records=@names \
         -- set logical_switch sw0 other_config:mcast_snoop=true other_config:mcast_flood_unregistered=false \
         -- set logical_router_port lr0-sw0 ipv6_ra_configs:address_mode=slaac ipv6_ra_configs:mtu=1380",
    );
    let (a, b) = (&site.a, &site.b);
    let caught = Sniffer::start(&a.ns, "eth0", "udp port 67 or udp port 53 or icmp6");
    a.ns.send_frames("eth0", vec![discovery(), query(), solicitation()]);
    caught.expect(&["02:00:00:00:ff:99 > 02:00:00:00:00:01", "BOOTP/DHCP, Reply", "Your-IP 10.0.0.1", "Offer"]);
    caught.expect(&["10.0.0.254.53 > 10.0.0.1.5353", "10.0.0.77"]);
    caught.expect(&["router advertisement", "fd00::/64", "mtu option (5), length 8 (1):  1380"]);
    // A group goes to who has joined it.
    b.ns.send_frames("eth0", vec![joining()]);
    wait_until("the group is known", || site.central.sb("list igmp_group").contains("239.1.2.3"));
    site.central.sync();
    let sniffers = [b, &site.c].map(|container| Sniffer::start(&container.ns, "eth0", "udp port 9"));
    let mut frame = udp_frame(1, 2, b"to a group");
    frame[..6].copy_from_slice(&[1, 0, 0x5e, 1, 2, 3]);
    a.ns.send_frames("eth0", vec![with_destination(frame, [239, 1, 2, 3]), udp_frame(1, 3, b"after it")]);
    sniffers[0].expect(&["239.1.2.3.9"]);
    sniffers[1].expect(&["10.0.0.3.9"]);
    assert_lacks(&sniffers[1].lines().join("\n"), &["239.1.2.3"]);
}

/// A frame of UDP with another IPv4 destination, its header's checksum corrected (RFC 1624, equation 3).
fn with_destination(mut frame: Vec<u8>, destination: [u8; 4]) -> Vec<u8> {
    let word = |f: &[u8], at: usize| u32::from(f[at]) << 8 | u32::from(f[at + 1]);
    let old = [30, 32].map(|at| word(&frame, at));
    frame[30..34].copy_from_slice(&destination);
    let new = [30, 32].map(|at| word(&frame, at));
    let mut sum = 0xffff - word(&frame, 24) + old.map(|w| 0xffff - w).iter().sum::<u32>() + new.iter().sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[24..26].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
    frame
}

/// A UDP frame of container 1, between other ports and to other addresses.
fn datagram(to: ([u8; 6], [u8; 4]), from: [u8; 4], ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let mut frame = udp_frame(1, 2, payload);
    frame[..6].copy_from_slice(&to.0);
    let mut swapped = with_destination(frame, from);
    // The sum does not mind which address stands where.
    swapped.copy_within(30..34, 26);
    let old_source = [10, 0, 0, 1];
    swapped[30..34].copy_from_slice(&old_source);
    let mut frame = with_destination(swapped, to.1);
    frame[34..36].copy_from_slice(&ports[0].to_be_bytes());
    frame[36..38].copy_from_slice(&ports[1].to_be_bytes());
    frame
}

/// DHCPDISCOVER of container 1 (RFC 2131, section 2; RFC 2132).
fn discovery() -> Vec<u8> {
    let mut payload = vec![1, 1, 6, 0, 0, 0, 0, 7];
    payload.extend([0; 20]);
    payload.extend([2, 0, 0, 0, 0, 1]);
    payload.extend([0; 202]);
    payload.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255]);
    datagram(([0xff; 6], [255; 4]), [0; 4], [68, 67], &payload)
}

/// A question for the address of `vm.example` (RFC 1035, section 4).
fn query() -> Vec<u8> {
    let payload = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x02vm\x07example\0\0\x01\0\x01";
    datagram(([2, 0, 0, 0, 0xff, 0], [10, 0, 0, 254]), [10, 0, 0, 1], [5353, 53], payload)
}

/// A router solicitation (RFC 4861, section 4.1), from fd00::1.
fn solicitation() -> Vec<u8> {
    let mut frame = vec![0x33, 0x33, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 58, 255];
    let (source, all_routers) = (u128::from(0xfd00_u16) << 112 | 1, u128::from(0xff02_u16) << 112 | 2);
    frame.extend(source.to_be_bytes());
    frame.extend(all_routers.to_be_bytes());
    // The sum of fd00, 1, ff02, 2, the length 8, the protocol 58 and the type 0x8500.
    let sum: u32 = 0xfd00 + 1 + 0xff02 + 2 + 8 + 58 + 0x8500;
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    frame.extend([133, 0]);
    frame.extend(sum.to_be_bytes());
    frame.extend([0; 4]);
    frame
}

/// An IGMPv2 report of container 2 for 239.1.2.3 (RFC 2236, section 2).
fn joining() -> Vec<u8> {
    let mut frame = vec![1, 0, 0x5e, 1, 2, 3, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0xc0, 0, 28, 0, 0, 0, 0, 1, 2]);
    let sum: u32 = 0x45c0 + 28 + 0x0102 + 0x0a00 + 2 + 0xef01 + 0x0203;
    frame.extend((!u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()).to_be_bytes());
    frame.extend([10, 0, 0, 2, 239, 1, 2, 3]);
    let sum: u32 = 0x1600 + 0xef01 + 0x0203;
    frame.extend([0x16, 0]);
    frame.extend((!u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()).to_be_bytes());
    frame.extend([239, 1, 2, 3]);
    frame
}
