//! What an eSwitch and its driver can do, as probed on the device itself; and which ports it has.
//!
//! What enters: probes, port events. What leaves: answers to `plan`. A capability that is missing refuses; nothing is ever left out.

use crate::meters::Limit;
use crate::probe::Lacks;
use flow::DpPort;
use flow::hash::{Map, Set};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The kind of a tunnel device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelKind {
    Vxlan,
    Geneve,
    Gre,
}

/// How a port takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// A representor or an uplink of eSwitch number so and so.
    Switch(u64),
    /// A tunnel device of the kernel, whose packets the eSwitch encapsulates.
    Tunnel(TunnelKind),
    /// The bridge's own port: packets go up to the host.
    Internal,
}

impl fmt::Display for PortKind {
    /// `switch 1`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(number) => write!(f, "switch {number:x}"),
            Self::Tunnel(kind) => write!(f, "tunnel {}", format!("{kind:?}").to_lowercase()),
            Self::Internal => f.write_str("internal"),
        }
    }
}

/// The two ends of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ends {
    pub src: IpAddr,
    pub dst: IpAddr,
}

/// The Ethernet addresses that the kernel gives to what it sends to a tunnel's other end; the driver asks it for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub src_mac: [u8; 6],
    pub dst_mac: [u8; 6],
}

/// The actions that a rule may have at most (the kernel's `TCA_ACT_MAX_PRIO`).
pub const ACTIONS_MAX: usize = 32;
/// The highest chain: the kernel keeps the upper four bits of `TCA_CHAIN` for itself.
pub const CHAIN_MAX: u32 = 0x0fff_ffff;

/// What can be said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Capabilities {
    pub ports: Map<DpPort, PortKind>,
    /// Those of the ports by which an eSwitch is connected to the network.
    pub uplinks: Set<DpPort>,
    /// What ports do not take, of those that were asked.
    pub lacks: Map<DpPort, Arc<Lacks>>,
    /// Bytes of the longest packets of ports, without their Ethernet headers.
    pub mtus: Map<DpPort, u32>,
    /// How the kernel sends to the other ends of tunnels, as far as it knows.
    pub ways: Map<Ends, Way>,
    /// Meters that may be in hardware, each with its limit or what keeps it out. Others may not.
    pub meters: Map<u32, Result<Limit, &'static str>>,
    /// `TCA_FLOWER_KEY_ENC_FLAGS`: DF, checksum and OAM of the outer header (Linux 6.12).
    pub enc_flags: bool,
    /// Software does not read the outer DF bit: that a megaflow has it as nought says nothing, and hardware need not look.
    pub outer_df_unread: bool,
    /// The outer UDP checksum is made where one is asked for.
    pub enc_csum: bool,
    /// ct_state inv and rpl.
    pub ct_state_inv_rpl: bool,
    /// vlan push_eth and pop_eth.
    pub eth_push_pop: bool,
    /// police by length.
    pub police_length: bool,
    /// VXLAN group policy in ENC_OPTS.
    pub vxlan_gbp: bool,
    /// ct of any form.
    pub ct: bool,
}

impl Capabilities {
    /// All that the kernel of today can say, without ports.
    #[must_use]
    pub fn all() -> Self {
        Self {
            ports: Map::default(),
            uplinks: Set::default(),
            lacks: Map::default(),
            mtus: Map::default(),
            ways: Map::default(),
            meters: Map::default(),
            enc_flags: true,
            outer_df_unread: false,
            enc_csum: true,
            ct_state_inv_rpl: true,
            eth_push_pop: true,
            police_length: true,
            vxlan_gbp: true,
            ct: true,
        }
    }
}
