//! `set(tunnel(...))` before an output to a tunnel device: the parameters that the device makes the outer header of.

use crate::capabilities::{Capabilities, TunnelKind};
use crate::refusal::{Reason, Refusal};
use crate::rule::TunnelSet;
use flow::action::SetField;
use flow::key::{Key, TUN_CSUM, TUN_DF, TUN_KEY};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The parameters, if a device of `kind` has all of them.
pub(super) fn tunnel_set(set: &SetField, kind: TunnelKind, can: &Capabilities) -> Result<TunnelSet, Refusal> {
    let mut left = set.value;
    let said = TunnelSet {
        dst: address(left.tun_dst, left.tun_ipv6_dst).ok_or_else(|| option("dst"))?,
        src: address(left.tun_src, left.tun_ipv6_src),
        id: tunnel_id(&left)?,
        tos: left.tun_tos,
        ttl: left.tun_ttl,
        dst_port: u16::from_be_bytes(left.tun_tp_dst),
        csum: u16::from_be_bytes(left.tun_flags) & TUN_CSUM != 0,
        df: u16::from_be_bytes(left.tun_flags) & TUN_DF != 0,
        geneve: geneve(&mut left, kind)?,
        gbp: gbp(&mut left, kind, can)?,
    };
    if said.df && !can.enc_flags {
        return Err(option("flags(df)"));
    }
    if said.csum && !can.enc_csum {
        return Err(option("flags(csum)"));
    }
    left.tun_flags = (u16::from_be_bytes(left.tun_flags) & !(TUN_KEY | TUN_CSUM | TUN_DF)).to_be_bytes();
    (left.tun_id, left.tun_src, left.tun_dst) = ([0; 8], [0; 4], [0; 4]);
    (left.tun_ipv6_src, left.tun_ipv6_dst) = ([0; 16], [0; 16]);
    (left.tun_tos, left.tun_ttl, left.tun_tp_dst) = (0, 0, [0; 2]);
    // The source port is the device's choice (a hash); OAM, ERSPAN and GTP-U have no parameter in tc.
    if left == Key::ZERO { Ok(said) } else { Err(option("")) }
}

fn option(what: &str) -> Refusal {
    Refusal::new(Reason::ActionOption, format!("set(tunnel({what}))"))
}

fn address(v4: [u8; 4], v6: [u8; 16]) -> Option<IpAddr> {
    if v4 != [0; 4] {
        return Some(Ipv4Addr::from(v4).into());
    }
    (v6 != [0; 16]).then(|| Ipv6Addr::from(v6).into())
}

fn tunnel_id(key: &Key) -> Result<Option<u32>, Refusal> {
    let id = u32::try_from(u64::from_be_bytes(key.tun_id)).map_err(|_| option("tun_id"))?;
    let has_key = u16::from_be_bytes(key.tun_flags) & TUN_KEY != 0;
    if !has_key && id != 0 {
        return Err(option("tun_id"));
    }
    Ok(has_key.then_some(id))
}

fn geneve(key: &mut Key, kind: TunnelKind) -> Result<Vec<u8>, Refusal> {
    let len = usize::from(key.tun_metadata_present[7]);
    if len > 0 && kind != TunnelKind::Geneve {
        return Err(option("geneve()"));
    }
    let options = key.tun_metadata[..len].to_vec();
    key.tun_metadata[..len].fill(0);
    key.tun_metadata_present[7] = 0;
    Ok(options)
}

fn gbp(key: &mut Key, kind: TunnelKind, can: &Capabilities) -> Result<Option<u32>, Refusal> {
    let word = u32::from(key.tun_gbp_flags) << 16 | u32::from(u16::from_be_bytes(key.tun_gbp_id));
    if word == 0 {
        return Ok(None);
    }
    if kind != TunnelKind::Vxlan || !can.vxlan_gbp {
        return Err(option("vxlan(gbp())"));
    }
    (key.tun_gbp_flags, key.tun_gbp_id) = (0, [0; 2]);
    Ok(Some(word))
}
