//! Bridge protocol data units of 802.1D-2004 (section 9.3): RST, and those of the old protocol.

use super::{Role, Times, Vector};
use crate::stp::wire::{Bpdu as OldBpdu, Config, Malformed};

const RST: u8 = 0x02;
const RST_LEN: usize = 36;

/// Flags of an RST data unit.
mod flag {
    pub(super) const TOPOLOGY_CHANGE: u8 = 0x01;
    pub(super) const PROPOSAL: u8 = 0x02;
    pub(super) const LEARNING: u8 = 0x10;
    pub(super) const FORWARDING: u8 = 0x20;
    pub(super) const AGREEMENT: u8 = 0x40;
}

/// What a data unit says of the root, and of the port that sent it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Message {
    pub vector: Vector,
    pub times: Times,
    /// Alternate and backup are one on the wire.
    pub role: Role,
    pub topology_change: bool,
    /// Of an old configuration only.
    pub topology_change_ack: bool,
    pub proposal: bool,
    pub learning: bool,
    pub forwarding: bool,
    pub agreement: bool,
}

/// A data unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bpdu {
    Rst(Message),
    Config(Message),
    TopologyChange,
}

impl Bpdu {
    /// Reads what follows the LLC header.
    pub(super) fn parse(b: &[u8]) -> Result<Self, Malformed> {
        let is_rst = b.get(3) == Some(&RST) && b[2] >= 2;
        if is_rst && b.len() < RST_LEN {
            return Err(Malformed::TooShort);
        }
        let mut as_config = b.to_vec();
        if is_rst {
            as_config[3] = 0;
        }
        let config = match OldBpdu::parse(&as_config)? {
            OldBpdu::TopologyChange => return Ok(Self::TopologyChange),
            OldBpdu::Config(config) => config,
        };
        let flags = b[4];
        let seconds = |ticks: u16| ticks / 256;
        let mut message = Message {
            vector: Vector { root: config.root, cost: config.cost, bridge: config.bridge, port: config.port },
            times: Times {
                message_age: seconds(config.message_age),
                max_age: seconds(config.max_age),
                hello: seconds(config.hello),
                forward_delay: seconds(config.forward_delay),
            },
            role: Role::Designated,
            topology_change: config.topology_change,
            topology_change_ack: config.acknowledges,
            proposal: false,
            learning: false,
            forwarding: false,
            agreement: false,
        };
        if !is_rst {
            return Ok(Self::Config(message));
        }
        message.role = match flags >> 2 & 3 {
            1 => Role::Alternate,
            2 => Role::Root,
            3 => Role::Designated,
            // Unknown: as an old configuration (section 9.2.9).
            _ => return Ok(Self::Config(message)),
        };
        message.topology_change_ack = false;
        message.proposal = flags & flag::PROPOSAL != 0;
        message.learning = flags & flag::LEARNING != 0;
        message.forwarding = flags & flag::FORWARDING != 0;
        message.agreement = flags & flag::AGREEMENT != 0;
        Ok(Self::Rst(message))
    }

    /// What follows the LLC header.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let ticks = |seconds: u16| seconds.saturating_mul(256);
        let old = |m: &Message| {
            OldBpdu::Config(Config {
                topology_change: m.topology_change,
                acknowledges: m.topology_change_ack,
                root: m.vector.root,
                cost: m.vector.cost,
                bridge: m.vector.bridge,
                port: m.vector.port,
                message_age: ticks(m.times.message_age),
                max_age: ticks(m.times.max_age),
                hello: ticks(m.times.hello),
                forward_delay: ticks(m.times.forward_delay),
            })
            .bytes()
        };
        match self {
            Self::TopologyChange => OldBpdu::TopologyChange.bytes(),
            Self::Config(message) => old(message),
            Self::Rst(message) => {
                let mut b = old(message);
                (b[2], b[3]) = (2, RST);
                let role = match message.role {
                    Role::Disabled => 0,
                    Role::Alternate | Role::Backup => 1,
                    Role::Root => 2,
                    Role::Designated => 3,
                };
                let flags = [
                    (message.topology_change, flag::TOPOLOGY_CHANGE),
                    (message.proposal, flag::PROPOSAL),
                    (message.learning, flag::LEARNING),
                    (message.forwarding, flag::FORWARDING),
                    (message.agreement, flag::AGREEMENT),
                ];
                b[4] = flags.iter().filter(|(set, _)| *set).fold(role << 2, |all, (_, bit)| all | bit);
                // Version 1 length: there is no version 1 information.
                b.push(0);
                b
            }
        }
    }
}
