//! Tunnel ports in translation: what a packet that came by one is matched on, and what one that leaves by one is told.
//!
//! Outer fields stand in the key as OpenFlow sees them. A port's configuration goes over what the pipeline has set, for the one output:
//! afterwards the pipeline's values are back. ECN follows RFC 6040 (normal mode; compatibility is not needed for what we send).

use super::trace::Kind;
use super::{Ctx, mask};
use crate::bridge::Port;
use crate::deps::Object;
use crate::effects::{Credit, XlateError};
use crate::tunnel::{self, Addr, ByFlow, Config, Outer, PacketTypes, came_by_tunnel};
use flow::Action;
use flow::action::{SetAttr, SetField};
use flow::key::{Key, Mask, TUN_CSUM, TUN_DF, TUN_KEY, TUN_OAM};
use std::sync::Arc;

const ECN: u8 = 0x03;
const ECN_CE: u8 = 0x03;
const ECN_ECT_0: u8 = 0x02;
const DSCP: u8 = 0xfc;

/// Adds what is always matched of a packet that came by a tunnel.
pub(super) fn begin(mask: &mut Mask, key: &Key) {
    if !came_by_tunnel(key) {
        return;
    }
    mask.tun_id = [0xff; 8];
    if key.tun_dst == [0; 4] {
        mask.tun_ipv6_src = [0xff; 16];
        mask.tun_ipv6_dst = [0xff; 16];
    } else {
        mask.tun_src = [0xff; 4];
        mask.tun_dst = [0xff; 4];
    }
    mask.tun_flags = (TUN_DF | TUN_CSUM | TUN_KEY).to_be_bytes();
    mask.tun_tos = 0xff;
    if is_ip(key) && key.tun_tos & ECN == ECN_CE {
        mask.nw_tos |= ECN;
    }
}

fn is_ip(key: &Key) -> bool {
    matches!(key.eth_type, [0x08, 0x00] | [0x86, 0xdd])
}

impl Ctx<'_> {
    /// A packet of a port that has only packets: the tables see it as a frame without addresses.
    pub(super) fn dress(&mut self, port: Option<&Port>) {
        let legacy = port.and_then(|p| p.tunnel.as_ref()).is_some_and(|t| t.packet_types == PacketTypes::LegacyL3);
        if legacy && self.key.packet_type != [0; 4] && self.table.0 == 0 {
            self.key.packet_type = [0; 4];
            (self.key.eth_src, self.key.eth_dst) = ([0; 6], [0; 6]);
            self.pending = super::Pending::Encap;
        }
    }

    /// What a packet that came by a tunnel depends on and is counted for; `thawed`: it has been counted before.
    pub(super) fn arrived_by(&mut self, port: Option<&Port>, thawed: bool) {
        let Some(port) = port.filter(|p| p.tunnel.is_some()) else { return };
        if let Some(dp_port) = port.dp_port {
            self.deps.object(Object::Tunnels(dp_port));
        }
        if !thawed {
            self.credits.push(Credit::Tally(Arc::clone(&port.patch.rx)));
        }
    }

    /// RFC 6040 section 4.2: congestion that the tunnel has seen is passed on, or the packet is dropped if it cannot be told.
    pub(super) fn decapsulate_ecn(&mut self) -> bool {
        if !came_by_tunnel(&self.key) || !is_ip(&self.key) || self.key.tun_tos & ECN != ECN_CE {
            return true;
        }
        if self.key.nw_tos & ECN == 0 {
            if self.side_effects {
                let text = "dropping tunnel packet marked ECN CE but is not ECN capable";
                tracing::warn!(target: "tunnel", rl = 1, burst = 5, "{text}");
            }
            self.drop_reason.get_or_insert(XlateError::Congestion);
            return false;
        }
        self.key.nw_tos |= ECN_CE;
        true
    }

    /// Puts a port's configuration over the tunnel fields of the key.
    pub(super) fn address_tunnel(&mut self, config: &Config) {
        let ip = is_ip(&self.key);
        let key = &mut self.key;
        if let ByFlow::Fixed(local) = config.local {
            (key.tun_src, key.tun_ipv6_src) = (local.to_v4(), local.to_v6());
        }
        if let ByFlow::Fixed(remote) = config.remote {
            (key.tun_dst, key.tun_ipv6_dst) = (remote.to_v4(), remote.to_v6());
        }
        key.tun_tp_src = [0; 2];
        key.tun_tp_dst = if config.kind.row().dst_port.is_some() { config.dst_port.to_be_bytes() } else { [0; 2] };
        match config.out_key {
            None => key.tun_id = [0; 8],
            Some(ByFlow::Fixed(id)) => key.tun_id = id.to_be_bytes(),
            Some(ByFlow::Flow) => {}
        }
        key.tun_ttl = match config.ttl {
            Outer::Inherit if ip => {
                self.mask.nw_ttl = 0xff;
                key.nw_ttl
            }
            Outer::Inherit => 64,
            Outer::Fixed(ttl) => ttl,
        };
        key.tun_tos = match config.tos {
            Outer::Inherit if ip => {
                self.mask.nw_tos |= DSCP;
                key.nw_tos & DSCP
            }
            Outer::Inherit => 0,
            Outer::Fixed(tos) => tos,
        };
        if ip {
            self.mask.nw_tos |= ECN;
            // A congestion mark stays inside (RFC 3168 section 9.1.1, full functionality).
            key.tun_tos |= if key.nw_tos & ECN == ECN_CE { ECN_ECT_0 } else { key.nw_tos & ECN };
        }
        let oam = u16::from_be_bytes(key.tun_flags) & TUN_OAM;
        let flag = |on: bool, bit: u16| if on { bit } else { 0 };
        let flags = oam
            | flag(config.dont_fragment, TUN_DF)
            | flag(config.csum == Some(true), TUN_CSUM)
            | flag(config.out_key.is_some(), TUN_KEY);
        key.tun_flags = flags.to_be_bytes();
        if let Some(mark) = config.egress_pkt_mark {
            key.pkt_mark = mark.to_be_bytes();
            self.mask.pkt_mark = [0xff; 4];
        }
        key.tun_erspan_ver = config.erspan_ver.or(key.tun_erspan_ver);
        key.tun_erspan_idx = config.erspan_idx.or(u32::from_be_bytes(key.tun_erspan_idx)).to_be_bytes();
        key.tun_erspan_dir = config.erspan_dir.or(key.tun_erspan_dir);
        key.tun_erspan_hwid = config.erspan_hwid.or(key.tun_erspan_hwid);
    }

    /// Sends the packet, as it is now, by a tunnel port.
    pub(super) fn output_to_tunnel(&mut self, port: &Port, config: &Arc<Config>, truncate: Option<u32>, last: bool) {
        let mut before = Key::ZERO;
        mask::copy_tunnel(&mut before, &self.key);
        self.address_tunnel(config);
        let dst = Addr::of_fields(self.key.tun_dst, self.key.tun_ipv6_dst);
        if dst == Addr::of_fields(self.initial.tun_dst, self.initial.tun_ipv6_dst) {
            self.report(Kind::Warn, format_args!("Not tunneling to our own address"));
            mask::copy_tunnel(&mut self.key, &before);
            return;
        }
        self.credits.push(Credit::Tally(Arc::clone(&port.patch.tx)));
        let Some(dp_port) = port.dp_port else { return };
        if self.tunnels_natively() {
            if let Some(max_len) = truncate {
                self.emit(Action::Trunc(max_len));
            }
            self.commit();
            self.sample_ipfix_tunnel(dp_port, true);
            self.output_natively(config, dp_port, truncate.is_some(), last);
            mask::copy_tunnel(&mut self.key, &before);
        } else {
            self.report(Kind::Detail, format_args!("output to kernel tunnel"));
            if let Some(max_len) = truncate {
                self.emit(Action::Trunc(max_len));
            }
            self.commit_tunnel(config);
            mask::copy_tunnel(&mut self.key, &before);
            self.commit();
            self.sample_ipfix_tunnel(dp_port, false);
            if let Some(snaplen) = self.snaplen {
                self.emit(Action::Trunc(u32::from(snaplen)));
            }
            self.emit(Action::Output(dp_port));
            self.note_output(port);
        }
    }

    /// Tells the datapath the tunnel of a port ahead of the output to it, for a sample of what leaves there. Where the datapath puts outer
    /// headers on itself they are among the actions that follow.
    pub(super) fn announce_tunnel(&mut self, config: &Config) {
        if self.tunnels_natively() {
            return;
        }
        let mut before = Key::ZERO;
        mask::copy_tunnel(&mut before, &self.key);
        self.address_tunnel(config);
        self.commit_tunnel(config);
        mask::copy_tunnel(&mut self.key, &before);
    }

    /// Whether the datapath puts outer headers on itself.
    pub(super) fn tunnels_natively(&self) -> bool {
        self.world.backend(self.origin).is_some_and(|b| b.features.tunnel_push_pop)
    }

    /// Tells the datapath the tunnel that the packet is to be sent by.
    fn commit_tunnel(&mut self, config: &Config) {
        let mut value = Key::ZERO;
        mask::copy_tunnel(&mut value, &self.key);
        let mut known = Key::ZERO;
        mask::copy_tunnel(&mut known, &self.base);
        if value == known {
            return;
        }
        mask::copy_tunnel(&mut self.base, &self.key);
        keep_fields_of(&mut value, config.kind);
        self.bridge.tunnel_options.to_wire(&mut value);
        self.emit(Action::Set(Box::new(SetField { attr: SetAttr::Tunnel, value, mask: mask::whole_tunnel() })));
    }
}

/// Takes out what other kinds of tunnels have.
fn keep_fields_of(key: &mut Key, kind: tunnel::Kind) {
    use tunnel::Kind::{Erspan, Geneve, Gtpu, Ip6erspan, Vxlan};
    if kind != Vxlan {
        (key.tun_gbp_id, key.tun_gbp_flags) = ([0; 2], 0);
    }
    if kind != Geneve {
        (key.tun_metadata_present, key.tun_metadata) = ([0; 8], Key::ZERO.tun_metadata);
    }
    if !matches!(kind, Erspan | Ip6erspan) {
        (key.tun_erspan_ver, key.tun_erspan_idx, key.tun_erspan_dir, key.tun_erspan_hwid) = (0, [0; 4], 0, 0);
    }
    if kind != Gtpu {
        (key.tun_gtpu_flags, key.tun_gtpu_msgtype) = (0, 0);
    }
}
