//! `Interface.bfd`, and which packets a session takes.

use super::wire;
use crate::options::Options;
use flow::Msec;
use flow::key::{FRAG_LATER, Key, Mask};

/// Multiplier unless set, or when out of range.
const MULT: u8 = 3;
const SRC_IP: [u8; 4] = [169, 254, 1, 1];
const DST_IP: [u8; 4] = [169, 254, 1, 0];
/// Destination MAC unless set (a Nicira address).
const ETH_DST: [u8; 6] = [0x00, 0x23, 0x20, 0x00, 0x00, 0x01];

/// A session as configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    pub mult: u8,
    pub min_tx_ms: Msec,
    pub min_rx_ms: Msec,
    /// As configured; `decay_ms` is what comes of it.
    pub decay_min_rx_ms: Msec,
    pub cpath_down: bool,
    pub forwarding_if_rx: bool,
    pub check_tnl_key: bool,
    /// Says OAM in tunnels that can.
    pub oam: bool,
    /// `None`: the port's
    pub local_src_mac: Option<[u8; 6]>,
    pub local_dst_mac: [u8; 6],
    /// Only packets to it are taken.
    pub remote_dst_mac: Option<[u8; 6]>,
    pub src_ip: [u8; 4],
    pub dst_ip: [u8; 4],
}

impl Settings {
    /// `None`: no session.
    #[must_use]
    pub fn read(pairs: &[(String, String)]) -> Option<Self> {
        let options = Options(pairs);
        if !options.bool("enable", false) {
            return None;
        }
        let ip = |key: &str, default: [u8; 4]| {
            let Some(text) = options.get(key).filter(|t| !t.is_empty()) else { return default };
            text.parse::<std::net::Ipv4Addr>().map_or_else(
                |_| {
                    tracing::error!(target: "bfd", "\"{text}\" is not a valid IP address");
                    default
                },
                |ip| ip.octets(),
            )
        };
        Some(Self {
            mult: options.within("mult", 1..=255).and_then(|m| u8::try_from(m).ok()).unwrap_or(MULT),
            min_tx_ms: options.int("min_tx", 100).max(1),
            min_rx_ms: options.int("min_rx", 1000).max(1),
            decay_min_rx_ms: options.int("decay_min_rx", 0),
            cpath_down: options.bool("cpath_down", false),
            forwarding_if_rx: options.bool("forwarding_if_rx", false),
            check_tnl_key: options.bool("check_tnl_key", false),
            oam: options.bool("oam", false),
            local_src_mac: options.mac("bfd_local_src_mac"),
            local_dst_mac: options.mac("bfd_local_dst_mac").unwrap_or(ETH_DST),
            remote_dst_mac: options.mac("bfd_remote_dst_mac"),
            src_ip: ip("bfd_src_ip", SRC_IP),
            dst_ip: ip("bfd_dst_ip", DST_IP),
        })
    }

    /// The receive interval of an idle link; 0: it never decays.
    #[must_use]
    pub fn decay_ms(&self) -> Msec {
        if self.decay_min_rx_ms < self.min_rx_ms { 0 } else { self.decay_min_rx_ms }
    }

    /// Whether a decay is asked for that cannot be.
    pub(super) fn is_decay_refused(&self) -> bool {
        self.decay_min_rx_ms > 0 && self.decay_ms() == 0
    }

    /// What translation has to know.
    #[must_use]
    pub fn filter(&self) -> Filter {
        Filter {
            eth_dst: self.remote_dst_mac,
            ip: (self.src_ip != SRC_IP).then_some(self.src_ip),
            check_tnl_key: self.check_tnl_key,
        }
    }
}

/// Which packets a session takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filter {
    pub eth_dst: Option<[u8; 6]>,
    /// Only those to this address: `bfd_src_ip`, if one is set.
    pub ip: Option<[u8; 4]>,
    pub check_tnl_key: bool,
}

impl Filter {
    /// Whether the packet is the session's; each bit that decided goes into the mask. `eth_type` and `nw_frag` always are in it.
    pub fn takes(&self, key: &Key, mask: &mut Mask) -> bool {
        if let Some(mac) = self.eth_dst {
            mask.eth_dst = [0xff; 6];
            if key.eth_dst != mac {
                return false;
            }
        }
        if key.eth_type != [8, 0] {
            return false;
        }
        mask.nw_proto = 0xff;
        if key.nw_proto != 17 || key.nw_frag & FRAG_LATER != 0 {
            return false;
        }
        mask.tp_dst = [0xff; 2];
        if key.tp_dst != wire::PORT.to_be_bytes() {
            return false;
        }
        if let Some(ip) = self.ip {
            mask.nw_dst = [0xff; 4];
            if key.nw_dst != ip {
                return false;
            }
        }
        if self.check_tnl_key {
            mask.tun_id = [0xff; 8];
            return key.tun_id == [0; 8];
        }
        true
    }
}
