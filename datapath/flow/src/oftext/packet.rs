//! A packet's key as OVS shows a flow: every field that the packet has, of metadata and registers what is not zero.

use super::write::format_match_with;
use crate::fields::need::{
    ETH_ARP, ETH_IPV4, ETH_IPV6, ETH_MPLS, ETH_MPLS_MULTICAST, ETH_NSH, ETH_PBB, ETH_RARP, PROTO_ICMPV6, PROTO_TCP,
};
use crate::fields::{DpAttr, Field, Need, Stage, TunnelOptions, Value};
use crate::forms::PortNames;
use crate::key::{FRAG_ANY, FRAG_LATER, Key, Mask};
use crate::matching::{Match, TunnelLayout};

/// The key as OpenFlow text.
#[must_use]
pub fn format_packet(key: &Key, ports: &dyn PortNames) -> String {
    format_packet_with(key, TunnelLayout::default(), ports)
}

/// The same with the tunnel options that the key has, which lie in it as `options` says.
#[must_use]
pub fn format_packet_with(key: &Key, options: TunnelLayout, ports: &dyn PortNames) -> String {
    let mut mask = packet_mask(key);
    if is_tunnelled(key)
        && let Some(named) = options.options()
    {
        for (n, option) in named.iter().filter(|(n, _)| TunnelOptions::is_present(key, *n)) {
            named.set(&mut mask, n, &Value::ones(8 * option.bytes));
        }
    }
    format_match_with(&Match { options, ..Match::new(key, &mask) }, ports)
}

fn is_tunnelled(key: &Key) -> bool {
    key.tun_dst != [0; 4] || key.tun_ipv6_dst != [0; 16]
}

/// All bits of what the packet has, and of metadata that is not zero.
fn packet_mask(key: &Key) -> Mask {
    let mut mask = metadata_mask(key);
    mask.packet_type = [0xff; 4];
    let mut eth_type = key.eth_type;
    if key.packet_type == [0; 4] {
        mask.eth_dst = [0xff; 6];
        mask.eth_src = [0xff; 6];
        mask.eth_type = [0xff; 2];
        // The first tag is always shown, a second one where there is one.
        (mask.vlan_tci, mask.vlan_tpid) = ([0xff; 2], [0xff; 2]);
        if key.vlan_tci != [0; 2] {
            (mask.vlan2_tci, mask.vlan2_tpid) = ([0xff; 2], [0xff; 2]);
        }
    } else {
        eth_type = [key.packet_type[2], key.packet_type[3]];
    }
    network_mask(key, eth_type, &mut mask);
    mask
}

fn metadata_mask(key: &Key) -> Mask {
    let tunnelled = is_tunnelled(key);
    let mut mask = Key::ZERO;
    for field in Field::ALL {
        let row = field.row();
        // Registers are shown one by one, not as the pairs and quadruples that overlay them.
        let overlay = row.name.starts_with("xreg") || row.name.starts_with("xxreg");
        if row.stage != Stage::Metadata || field.tun_metadata_number().is_some() || overlay {
            continue;
        }
        let of_tunnel = row.dp == Some(DpAttr::Tunnel);
        let of_tuple = row.need == Need::Ct;
        let hidden = matches!(field, Field::ActsetOutput | Field::ConjId | Field::PacketType) || of_tuple;
        // Whether a tunnel's packet has a key says a flag.
        let shown = if of_tunnel { tunnelled != (*field == Field::TunId) } else { !hidden };
        if shown && (field.get(key) != 0 || of_tunnel && tunnelled) {
            field.unwildcard(&mut mask);
        }
    }
    if tunnelled {
        // With the flags that have no field of their own.
        mask.tun_flags[1] |= 0xf;
        if key.tun_flags[1] & 4 != 0 {
            mask.tun_id = [0xff; 8];
        }
    }
    if key.ct_nw_proto != 0 {
        mask.ct_nw_proto = 0xff;
        (mask.ct_tp_src, mask.ct_tp_dst) = ([0xff; 2], [0xff; 2]);
        if key.eth_type == ETH_IPV4 {
            (mask.ct_nw_src, mask.ct_nw_dst) = ([0xff; 4], [0xff; 4]);
        } else {
            (mask.ct_ipv6_src, mask.ct_ipv6_dst) = ([0xff; 16], [0xff; 16]);
        }
    }
    mask
}

fn network_mask(key: &Key, eth_type: [u8; 2], mask: &mut Mask) {
    match eth_type {
        ETH_IPV4 => (mask.nw_src, mask.nw_dst) = ([0xff; 4], [0xff; 4]),
        ETH_IPV6 => {
            (mask.ipv6_src, mask.ipv6_dst) = ([0xff; 16], [0xff; 16]);
            Field::Ipv6Label.unwildcard(mask);
            // OVS does not show it.
            if Field::Ipv6Exthdr.get(key) != 0 {
                Field::Ipv6Exthdr.unwildcard(mask);
            }
            // OVS asks whether it is neighbour discovery by type and code, which are shown then even of a later fragment.
            if key.nw_proto == PROTO_ICMPV6 {
                mask.tp_dst = [0xff; 2];
                mask.tp_src = if key.tp_dst == [0; 2] { [0xff; 2] } else { [0; 2] };
            }
            if key.nw_proto == PROTO_ICMPV6 && matches!(key.tp_src, [0, 135 | 136]) && key.tp_dst == [0; 2] {
                (mask.arp_sha, mask.arp_tha, mask.nd_target) = ([0xff; 6], [0xff; 6], [0xff; 16]);
            }
        }
        ETH_ARP | ETH_RARP => {
            (mask.nw_src, mask.nw_dst, mask.nw_proto) = ([0xff; 4], [0xff; 4], 0xff);
            (mask.arp_sha, mask.arp_tha) = ([0xff; 6], [0xff; 6]);
            return;
        }
        ETH_MPLS | ETH_MPLS_MULTICAST => return labels_mask(key, mask),
        ETH_PBB => {
            mask.nw_src = [0xff; 4];
            return;
        }
        // As in OVS not of a flow that was written down with its packet type alone.
        ETH_NSH if key.eth_type == ETH_NSH => {
            (mask.nsh_flags, mask.nsh_ttl, mask.nsh_mdtype, mask.nsh_np, mask.nsh_path) = (0xff, 0xff, 0xff, 0xff, [0xff; 4]);
            (mask.nsh_c1, mask.nsh_c2, mask.nsh_c3, mask.nsh_c4) = ([0xff; 4], [0xff; 4], [0xff; 4], [0xff; 4]);
        }
        _ => return,
    }
    mask.nw_frag = FRAG_ANY | FRAG_LATER;
    (mask.nw_tos, mask.nw_ttl, mask.nw_proto) = (0xff, 0xff, 0xff);
    let transport = matches!(key.nw_proto, 1 | 2 | 6 | 17 | 58 | 132);
    if key.nw_frag & FRAG_LATER == 0 && transport {
        (mask.tp_src, mask.tp_dst) = ([0xff; 2], [0xff; 2]);
        if key.nw_proto == PROTO_TCP {
            mask.tcp_flags = [0xff; 2];
        }
    }
}

fn labels_mask(key: &Key, mask: &mut Mask) {
    let labels =
        [(key.mpls_lse0, &mut mask.mpls_lse0), (key.mpls_lse1, &mut mask.mpls_lse1), (key.mpls_lse2, &mut mask.mpls_lse2)];
    for (lse, bits) in labels {
        *bits = [0xff; 4];
        if lse[2] & 1 != 0 {
            break;
        }
    }
}
