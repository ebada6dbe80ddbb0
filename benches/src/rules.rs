//! The OpenFlow rules of the scenarios, as `ovs-ofctl add-flows` reads them (OpenFlow 1.3; port 1 is the source, port 2 the sink).

use crate::BenchError;
use crate::traffic::{PER_MASK, class_mac};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

macro_rules! connections {
    ($proto:literal) => {
        concat!(
            "table=0,in_port=1,",
            $proto,
            ",actions=ct(table=1)\n",
            "table=1,in_port=1,",
            $proto,
            ",ct_state=+trk+new,actions=ct(commit),output:2\n",
            "table=1,in_port=1,",
            $proto,
            ",ct_state=+trk+est,actions=output:2\n",
        )
    };
}

macro_rules! translated {
    ($proto:literal) => {
        concat!(
            "table=0,in_port=1,",
            $proto,
            ",actions=ct(table=1,nat)\n",
            "table=1,in_port=1,",
            $proto,
            ",ct_state=+trk+new,nw_src=10.0.0.0/8,actions=ct(commit,nat(src=192.0.2.1)),output:2\n",
            "table=1,in_port=1,",
            $proto,
            ",ct_state=+trk+est,actions=output:2\n",
        )
    };
}

/// One megaflow, not what OVS calls a simple match.
pub const FLOWS: &str = "in_port=1,udp,tp_dst=1000,actions=output:2\n";
/// OVS's shortest path: it does not even make the key.
pub const WIRE: &str = "in_port=1,actions=output:2\n";
/// Every kind of the mixed traffic with the same question.
pub const MIXED: &str = "in_port=1,udp,tp_dst=1000,actions=output:2\n\
    in_port=1,tcp,tp_dst=1000,actions=output:2\n\
    in_port=1,udp6,tp_dst=1000,actions=output:2\n\
    in_port=1,tcp6,tp_dst=1000,actions=output:2\n";
pub const VLAN_PUSH: &str = "in_port=1,udp,tp_dst=1000,actions=push_vlan:0x8100,set_field:4196->vlan_vid,output:2\n";
pub const VLAN_POP: &str = "in_port=1,dl_vlan=100,udp,tp_dst=1000,actions=strip_vlan,output:2\n";
pub const REWRITE: &str = "in_port=1,udp,tp_dst=1000,actions=set_field:02:00:00:00:00:03->eth_src,\
    set_field:02:00:00:00:00:04->eth_dst,set_field:10.9.9.9->ip_src,set_field:11.9.9.9->ip_dst,\
    set_field:5000->udp_src,set_field:6000->udp_dst,output:2\n";
/// Connections: what is new is committed, what is established goes out.
pub const CT: &str = connections!("udp");
pub const CT_TCP: &str = connections!("tcp");
pub const CT6: &str = connections!("udp6");
pub const CT_TCP6: &str = connections!("tcp6");
/// The same with the source translated to one address.
pub const NAT: &str = translated!("udp");
pub const NAT_TCP: &str = translated!("tcp");
/// Nothing goes on.
pub const DROP: &str = "actions=drop\n";
/// Every packet begins a connection.
pub const CT_NEW: &str = "in_port=1,udp,actions=ct(commit),output:2\n";
/// Addresses and ports move into registers, so that every tuple needs its own megaflow.
pub const SETUP: &str = "in_port=1,udp,actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],move:NXM_OF_IP_DST[]->NXM_NX_REG1[],\
    move:NXM_OF_UDP_SRC[]->NXM_NX_REG2[0..15],move:NXM_OF_UDP_DST[]->NXM_NX_REG2[16..31],output:2\n";

/// N classes found by the exact source MAC; each class's table has one rule on a bit pattern that no other table has, so that N masks
/// are needed and no order of lookup avoids the search.
#[must_use]
pub fn masks(classes: u32) -> String {
    let mut text = String::new();
    for class in 0..classes {
        let table = class + 1;
        for member in 0..PER_MASK {
            let mac = class_mac(class, member).map(|b| format!("{b:02x}")).join(":");
            line(&mut text, format_args!("table=0,in_port=1,dl_src={mac},actions=resubmit(,{table})"));
        }
        let pattern = format!("00:00:00:00:00:00/02:00:00:00:{table:02x}:00");
        line(&mut text, format_args!("table={table},priority=10,dl_dst={pattern},actions=drop"));
        line(&mut text, format_args!("table={table},priority=1,actions=output:2"));
    }
    text
}

/// 100 priorities, one mask, tcp + nw_src + nw_dst + tp_dst.
#[must_use]
pub fn flow_mods(n: u32) -> String {
    let mut text = String::new();
    for i in 0..n {
        line(
            &mut text,
            format_args!(
                "table=0,priority={},in_port=1,tcp,nw_src=10.{}.{}.{},nw_dst=11.0.0.{},tp_dst={},actions=output:2",
                i % 100 + 1,
                i >> 16 & 255,
                i >> 8 & 255,
                i & 255,
                i % 200 + 1,
                i % 60_000 + 1
            ),
        );
    }
    text
}

/// An ACL whose rules ask for prefixes of both addresses and both ports of port 3's packets; what it does not name is dropped.
#[must_use]
pub fn explosion() -> String {
    let mut text = String::new();
    line(&mut text, format_args!("table=0,in_port=3,priority=40,udp,nw_src=10.1.2.3,actions=resubmit(,1)"));
    line(&mut text, format_args!("table=0,in_port=3,priority=1,udp,actions=resubmit(,1)"));
    line(&mut text, format_args!("table=1,priority=40,udp,nw_dst=11.1.2.3,actions=resubmit(,2)"));
    line(&mut text, format_args!("table=1,priority=1,actions=resubmit(,2)"));
    line(&mut text, format_args!("table=2,priority=40,udp,tp_src=12345,actions=resubmit(,3)"));
    line(&mut text, format_args!("table=2,priority=1,actions=resubmit(,3)"));
    line(&mut text, format_args!("table=3,priority=40,udp,tp_dst=23456,actions=output:2"));
    line(&mut text, format_args!("table=3,priority=1,actions=output:2"));
    text
}

fn line(text: &mut String, rule: std::fmt::Arguments<'_>) {
    writeln!(text, "{rule}").expect("a String takes everything");
}

/// Puts rules into a file of `dir` under a name.
pub fn write(dir: &Path, name: &str, rules: &str) -> Result<PathBuf, BenchError> {
    let path = dir.join(format!("{name}.flows"));
    fs::write(&path, rules).map_err(BenchError::io(path.display().to_string()))?;
    Ok(path)
}
