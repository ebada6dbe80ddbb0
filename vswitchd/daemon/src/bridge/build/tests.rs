//! Configurations as text rows in, what the slow path is told out.

use super::*;
use crate::bridge::rows::test_replica::Text;
use crate::options::Dummy;
use ofproto::config::VlanMode;

fn build_text(text: &str) -> (Built, Vec<String>) {
    let mut complaints = Complaints::default();
    let environment = Environment { rundir: "/run/ovs".into(), dummy: Some(Dummy::Plain), ..Environment::default() };
    let built = build(&Text::new(text), &environment, &mut complaints);
    let texts = complaints.texts().into_iter().map(str::to_owned).collect();
    (built, texts)
}

#[test]
fn an_empty_database_asks_for_nothing() {
    let (built, complaints) = build_text("");
    assert!(built.config.bridges.is_empty() && complaints.is_empty());
}

#[test]
fn the_first_bridge_of_the_suite() {
    let (built, complaints) = build_text(
        "Open_vSwitch . bridges={@br0} other_config={flow-limit=50,max-idle=100,n-handler-threads=2}
         Bridge br0 ports={@br0p,@p1p} datapath_type=dummy fail_mode=secure protocols={OpenFlow10,OpenFlow15} controller={@c} other_config={datapath-id=fedcba9876543210,hwaddr=aa:55:aa:55:00:00}
         Port br0p name=br0 interfaces={@br0i}
         Interface br0i name=br0 type=internal
         Port p1p name=p1 interfaces={@p1i} tag=10 trunks={1,2}
         Interface p1i name=p1 type=internal ofport_request=7 options={a=b}
         Controller c target=tcp:1.2.3.4 max_backoff=50 inactivity_probe=1500",
    );
    assert_eq!(complaints, ["port p1: ignoring trunks in favor of implicit vlan"]);
    let config = &built.config;
    assert_eq!((config.upcalls.flow_limit, config.upcalls.max_idle_ms, config.upcalls.handlers), (50, 500, Some(2)));
    let bridge = &config.bridges[0];
    assert_eq!(bridge.datapath_id, Some(0xfedc_ba98_7654_3210));
    assert_eq!(bridge.hwaddr, Some([0xaa, 0x55, 0xaa, 0x55, 0, 0]));
    assert_eq!((bridge.fail_mode, bridge.protocols), (FailMode::Secure, Versions(1 << 1 | 1 << 6)));
    let p1 = &bridge.ports[1];
    assert_eq!((p1.vlan_mode, p1.tag), (VlanMode::Access, Some(10)));
    let device = &p1.interfaces[0].device;
    assert_eq!((device.kind.as_str(), p1.interfaces[0].ofport_request), ("dummy-internal", Some(7)));
    assert_eq!(device.options, [("a".to_owned(), "b".to_owned())]);
    let controller = &bridge.controllers[0];
    assert_eq!((controller.max_backoff_ms, controller.inactivity_probe_ms, controller.service), (1000, 1000, false));
}

#[test]
fn what_is_wrong_is_named_and_left_out() {
    let (built, complaints) = build_text(
        "Open_vSwitch . bridges={@a,@b}
         Bridge a name=b/c ports={}
         Bridge b ports={@p} mirrors={@m1,@m2,@m3} controller={@c} other_config={hwaddr=01:00:00:00:00:00,datapath-id=0x00} flow_tables={1=@t}
         Port p interfaces={@i1,@i2} vlan_mode=odd
         Interface i1 name=ovs-dummy
         Interface i2 name=p mac=01:00:00:00:00:00
         Mirror m1
         Mirror m2 output_port=@p output_vlan=3 select_src_port={@p} filter=tcp
         Mirror m3 output_port=@p filter=in_port=nosuch
         Controller c target=punix:/etc/passwd
         Flow_Table t",
    );
    assert_eq!(
        complaints,
        [
            "bridge b: Not adding Unix domain socket controller \"punix:/etc/passwd\" due to possibility of overwriting local files. Instead, specify path in permitted format \"punix:/run/ovs/b.*\" or connect to \"unix:/run/ovs/b.mgmt\" (which is always available without special configuration).",
            "bridge b: cannot set MAC address to multicast address 01:00:00:00:00:00",
            "bridge b: mirror m1 does not specify output; ignoring",
            "bridge b: mirror m2 specifies both output port and output vlan; ignoring output vlan",
            "bridge b: mirror m3: filter is invalid: nosuch: invalid or unknown port for in_port; ignoring",
            "interface p: cannot set MAC to multicast address",
            "port p: unknown VLAN mode odd, falling back to trunk mode",
            "bridge b: no port named b, synthesizing one",
            "could not create interface ovs-dummy, name is reserved",
            "ignoring bridge with invalid name \"b/c\"",
        ]
    );
    assert_eq!(built.config.bridges.len(), 1);
    let bridge = &built.config.bridges[0];
    assert_eq!((bridge.datapath_id, bridge.mirrors.len(), bridge.ports.len()), (None, 1, 2));
    assert_eq!(
        (bridge.mirrors[0].src_ports.as_slice(), bridge.mirrors[0].filter.as_deref()),
        (&["p".to_owned()][..], Some("tcp"))
    );
    assert_eq!(built.refused.len(), 1);
}

#[test]
fn datapath_ids_have_sixteen_digits_or_a_prefix() {
    for (text, expect) in [
        ("0123456789abcdef", Some(0x0123_4567_89ab_cdef)),
        ("0x5ad515c0", Some(0x5ad5_15c0)),
        ("0x00", None),
        ("123", None),
        ("0x", None),
        ("0123456789abcdeg", None),
        ("+123456789abcdef", None),
    ] {
        assert_eq!(parse_datapath_id(text), expect, "{text}");
    }
}

#[test]
fn only_members_of_bonds_with_miimon_have_their_phys_asked() {
    let (built, _) = build_text(
        "Open_vSwitch . bridges={@b}
         Bridge b name=b ports={@m,@c,@s} datapath_type=dummy
         Port m name=m interfaces={@m1,@m2} bond_mode=active-backup other_config={bond-detect-mode=miimon,bond-miimon-interval=50}
         Port c name=c interfaces={@c1,@c2} bond_mode=active-backup other_config={bond-miimon-interval=50}
         Port s name=s1 interfaces={@s1} other_config={bond-detect-mode=miimon}
         Interface m1 name=m1
         Interface m2 name=m2
         Interface c1 name=c1
         Interface c2 name=c2
         Interface s1 name=s1",
    );
    let of = |name: &str| {
        let mut all = built.config.bridges[0].ports.iter().flat_map(|p| &p.interfaces);
        all.find(|i| i.name == name).map(|i| i.device.miimon_ms)
    };
    assert_eq!(["m1", "m2", "c1", "s1"].map(of), [Some(50), Some(50), Some(0), Some(0)]);
}

#[test]
fn who_can_tell_nobody_does_not_sample() {
    let (built, complaints) = build_text(
        "Open_vSwitch . bridges={@a,@b,@c}
         Bridge a name=a ports={} sflow=@s ipfix=@i flow_tables={0=@t}
         Bridge b name=b ports={} sflow=@name ipfix=@none other_config={mac-table-size=0}
         Bridge c name=c ports={} other_config={mac-table-size=2000000}
         sFlow s targets={1.2.3.4:99999} agent=lo
         sFlow name targets={collector.example.org} agent=lo
         IPFIX i targets={xyzzy}
         IPFIX none targets={}
         Flow_Table t prefixes={nw_src,in_port,xyzzy}",
    );
    let no = |text: &str| complaints.iter().filter(|c| !c.contains("no port named")).any(|c| c == text);
    assert!(
        no("bridge a: no collectors could be initialized, sFlow disabled (1.2.3.4:99999: expected IP[:PORT] or NAME[:PORT])"),
        "{complaints:?}"
    );
    assert!(no("bridge a: 'prefixes' with incompatible field: in_port"), "{complaints:?}");
    assert!(no("bridge a: 'prefixes' with unknown field: xyzzy"), "{complaints:?}");
    let told = |b: &BridgeConfig| (b.sflow.is_some(), b.ipfix.is_some(), b.mac_table_size);
    let all: Vec<_> = built.config.bridges.iter().map(told).collect();
    assert_eq!(all, [(false, true, 8192), (true, false, 8192), (false, false, 1_000_000)], "a name may be resolved yet");
}

/// OVN's ovn-controller names all 255 tables of its bridge, and its tests read the log for warnings.
#[test]
fn every_table_the_schema_allows_is_configured() {
    let (built, complaints) = build_text(
        "Open_vSwitch . bridges={@a}
         Bridge a name=a ports={@p} flow_tables={0=@t,253=@t,254=@t}
         Port p name=a interfaces={@i}
         Interface i name=a type=internal
         Flow_Table t prefixes={ip_src}",
    );
    assert_eq!(complaints, [""; 0]);
    let numbers: Vec<_> = built.config.bridges[0].tables.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [0, 253, 254]);
}
