//! VXLAN: the outer header put on, and taken off. The underlay is a bridge of its own, `br-phy`, whose local port has the address.

use crate::BenchError;
use crate::process::run;
use crate::rules;
use crate::scenario::Case;
use crate::side::Side;
use crate::traffic::{OUTER_DST, OUTER_DST_MAC, OUTER_SRC, OUTER_SRC_MAC, VNI};

fn dotted(address: [u8; 4]) -> String {
    std::net::Ipv4Addr::from(address).to_string()
}

fn colons(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The underlay: `br-phy`, its local port with our address.
pub(super) fn underlay(side: &mut Side) -> Result<(), BenchError> {
    let own = dotted(OUTER_DST);
    side.bridge("br-phy", &[&format!("other_config:hwaddr={}", colons(OUTER_DST_MAC))])?;
    for words in [format!("addr add {own}/24 dev br-phy"), "link set br-phy up".to_owned()] {
        run(side.command_inside("ip").args(words.split_whitespace()))?;
    }
    side.appctl("ovs/route/add", &[&format!("{own}/24"), "br-phy"]).map(drop)
}

/// A tunnel port.
pub(super) fn port(side: &Side, bridge: &str, name: &str, number: u32, remote: &str) -> Result<(), BenchError> {
    let settings = ["type=vxlan".to_owned(), format!("options:remote_ip={remote}"), format!("options:key={VNI}")];
    side.port(bridge, name, number, &settings.each_ref().map(String::as_str))
}

/// Underlay and tunnel: `vx0` is port 2 of br0.
fn tunnel(side: &mut Side) -> Result<(), BenchError> {
    let peer = dotted(OUTER_SRC);
    underlay(side)?;
    port(side, "br0", "vx0", 2, &peer)?;
    side.appctl("tnl/arp/set", &["br-phy", &peer, &colons(OUTER_SRC_MAC)])?;
    Ok(())
}

/// From the source on br0 by the tunnel to the sink on br-phy.
pub fn encap(side: &mut Side, case: &Case<'_>) -> Result<(), BenchError> {
    tunnel(side)?;
    side.sink("br-phy", 2)?;
    side.add_flows("br-phy", &rules::write(case.lab.dir(), "underlay-out", "in_port=LOCAL,actions=output:2\n")?)?;
    side.add_flows("br0", &rules::write(case.lab.dir(), "overlay-out", "in_port=1,actions=output:2\n")?)?;
    side.source(case.lab, "br0", 1, case.pcap)
}

/// From the source on br-phy through the tunnel to the sink on br0.
pub fn decap(side: &mut Side, case: &Case<'_>) -> Result<(), BenchError> {
    tunnel(side)?;
    side.sink("br0", 3)?;
    side.add_flows("br0", &rules::write(case.lab.dir(), "overlay-in", "in_port=2,actions=output:3\n")?)?;
    side.add_flows("br-phy", &rules::write(case.lab.dir(), "underlay-in", "in_port=1,actions=LOCAL\n")?)?;
    side.source(case.lab, "br-phy", 1, case.pcap)
}
