//! Kinds of tunnels: one row each, with what configuration, translation and the datapath ask about it.

use flow::action_text::vport;
use flow::wire::ip_proto;

/// A kind of tunnel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    Vxlan,
    Geneve,
    Gre,
    Ip6gre,
    Erspan,
    Ip6erspan,
    Gtpu,
    Bareudp,
    Srv6,
    Lisp,
    Stt,
}

/// What a kind can carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carries {
    Frames,
    Packets,
    Both,
    /// Both with `exts=gpe`, frames without.
    BothIfGpe,
}

/// Facts of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub kind: Kind,
    /// `Interface.type`
    pub name: &'static str,
    /// Name of the datapath port that all tunnels of the kind share; the UDP port follows where there is one.
    pub backing: &'static str,
    /// Whether `dst_port` is an option, and what it is by default (0: nothing).
    pub dst_port: Option<u16>,
    pub carries: Carries,
    pub has_csum: bool,
    pub has_seq: bool,
    /// IP protocol by which packets arrive; `None` when the datapath cannot take the header off.
    pub arrives_by: Option<u8>,
    /// Number of the kind in `tnl_push`; `None` when there is no header to build.
    pub vport: Option<u32>,
}

const TCP: u8 = ip_proto::TCP;
const UDP: Option<u8> = Some(ip_proto::UDP);
const GRE: Option<u8> = Some(ip_proto::GRE);
/// By the IP protocol of what is inside; the routing header stands before it (RFC 8754, 2).
const ROUTING: Option<u8> = Some(ip_proto::ROUTING);

/// Every kind.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    Row { kind: Kind::Vxlan, name: "vxlan", backing: "vxlan_sys", dst_port: Some(4789), carries: Carries::BothIfGpe, has_csum: true, has_seq: false, arrives_by: UDP, vport: Some(vport::VXLAN) },
    Row { kind: Kind::Geneve, name: "geneve", backing: "genev_sys", dst_port: Some(6081), carries: Carries::Frames, has_csum: true, has_seq: false, arrives_by: UDP, vport: Some(vport::GENEVE) },
    Row { kind: Kind::Gre, name: "gre", backing: "gre_sys", dst_port: None, carries: Carries::Both, has_csum: true, has_seq: true, arrives_by: GRE, vport: Some(vport::GRE) },
    Row { kind: Kind::Ip6gre, name: "ip6gre", backing: "ip6gre_sys", dst_port: None, carries: Carries::Frames, has_csum: true, has_seq: true, arrives_by: GRE, vport: Some(vport::IP6GRE) },
    Row { kind: Kind::Erspan, name: "erspan", backing: "erspan_sys", dst_port: None, carries: Carries::Frames, has_csum: false, has_seq: false, arrives_by: GRE, vport: Some(vport::ERSPAN) },
    Row { kind: Kind::Ip6erspan, name: "ip6erspan", backing: "ip6erspan_sys", dst_port: None, carries: Carries::Frames, has_csum: false, has_seq: false, arrives_by: GRE, vport: Some(vport::IP6ERSPAN) },
    Row { kind: Kind::Gtpu, name: "gtpu", backing: "gtpu_sys", dst_port: Some(2152), carries: Carries::Packets, has_csum: false, has_seq: true, arrives_by: UDP, vport: Some(vport::GTPU) },
    Row { kind: Kind::Bareudp, name: "bareudp", backing: "bareudp_sys", dst_port: Some(0), carries: Carries::Packets, has_csum: false, has_seq: false, arrives_by: UDP, vport: Some(vport::BAREUDP) },
    Row { kind: Kind::Srv6, name: "srv6", backing: "srv6_sys", dst_port: None, carries: Carries::Packets, has_csum: false, has_seq: false, arrives_by: ROUTING, vport: Some(vport::SRV6) },
    Row { kind: Kind::Lisp, name: "lisp", backing: "lisp_sys", dst_port: Some(4341), carries: Carries::Packets, has_csum: false, has_seq: false, arrives_by: None, vport: None },
    Row { kind: Kind::Stt, name: "stt", backing: "stt_sys", dst_port: Some(7471), carries: Carries::Frames, has_csum: true, has_seq: false, arrives_by: Some(TCP), vport: None },
];

impl Kind {
    /// The kind of an `Interface.type`; `None` for what is no tunnel.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        ROWS.iter().find(|r| r.name == name).map(|r| r.kind)
    }

    /// Its facts.
    #[must_use]
    pub fn row(self) -> &'static Row {
        ROWS.iter().find(|r| r.kind == self).expect("every kind has a row")
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.row().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_kinds_and_back() {
        for row in ROWS {
            assert_eq!(Kind::by_name(row.name), Some(row.kind));
            assert_eq!(row.kind.to_string(), row.name);
        }
        assert_eq!(Kind::by_name("dummy"), None);
    }
}
