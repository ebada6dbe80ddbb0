//! Bridge protocol data units of 802.1D-1998 (section 9), in IEEE 802.2 frames.

/// Group address of bridges.
pub const ETH_DST: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0];
/// LLC header: bridge spanning tree protocol, unnumbered information.
const LLC: [u8; 3] = [0x42, 0x42, 0x03];
const CONFIG: u8 = 0x00;
const TOPOLOGY_CHANGE: u8 = 0x80;
const CONFIG_LEN: usize = 35;
const TCN_LEN: usize = 4;
const FLAG_CHANGE: u8 = 0x01;
const FLAG_ACK: u8 = 0x80;

/// A configuration: who the root is and how far away. Times in 1/256 s.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Config {
    pub topology_change: bool,
    pub acknowledges: bool,
    pub root: u64,
    pub cost: u32,
    pub bridge: u64,
    pub port: u16,
    pub message_age: u16,
    pub max_age: u16,
    pub hello: u16,
    pub forward_delay: u16,
}

/// A data unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bpdu {
    Config(Config),
    TopologyChange,
}

/// Why a data unit is not understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    #[error("received BPDU that is too short")]
    TooShort,
    #[error("received BPDU with unexpected protocol ID {0}")]
    Protocol(u16),
    #[error("received BPDU of unexpected type {0}")]
    Kind(u8),
}

/// What an IEEE 802.2 frame carries behind its LLC header, without padding; `None` if it is not spanning tree's.
#[must_use]
pub fn payload(frame: &[u8]) -> Option<&[u8]> {
    let len = usize::from(u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]));
    let llc = &frame[14..frame.len().min(14 + len)];
    llc.get(..3).filter(|header| *header == LLC).map(|_| &llc[3..])
}

/// A frame with a data unit.
#[must_use]
pub fn frame(eth_src: [u8; 6], bpdu: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(17 + bpdu.len());
    frame.extend_from_slice(&ETH_DST);
    frame.extend_from_slice(&eth_src);
    let len = u16::try_from(LLC.len() + bpdu.len()).expect("data units are short");
    frame.extend_from_slice(&len.to_be_bytes());
    frame.extend_from_slice(&LLC);
    frame.extend_from_slice(bpdu);
    frame
}

impl Bpdu {
    /// Reads what follows the LLC header. A newer version's unit of an old type is read as the old (section 9.3.4).
    /// # Errors
    /// It is none of ours.
    pub fn parse(b: &[u8]) -> Result<Self, Malformed> {
        let half = |at: usize| u16::from_be_bytes([b[at], b[at + 1]]);
        if b.len() < TCN_LEN {
            return Err(Malformed::TooShort);
        }
        if half(0) != 0 {
            return Err(Malformed::Protocol(half(0)));
        }
        match b[3] {
            TOPOLOGY_CHANGE => Ok(Self::TopologyChange),
            CONFIG if b.len() < CONFIG_LEN => Err(Malformed::TooShort),
            CONFIG => {
                let id = |at: usize| b[at..at + 8].iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
                Ok(Self::Config(Config {
                    topology_change: b[4] & FLAG_CHANGE != 0,
                    acknowledges: b[4] & FLAG_ACK != 0,
                    root: id(5),
                    cost: u32::from(half(13)) << 16 | u32::from(half(15)),
                    bridge: id(17),
                    port: half(25),
                    message_age: half(27),
                    max_age: half(29),
                    hello: half(31),
                    forward_delay: half(33),
                }))
            }
            other => Err(Malformed::Kind(other)),
        }
    }

    /// What follows the LLC header.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let config = match self {
            Self::TopologyChange => return vec![0, 0, 0, TOPOLOGY_CHANGE],
            Self::Config(config) => config,
        };
        let flags = u8::from(config.topology_change) | if config.acknowledges { FLAG_ACK } else { 0 };
        let mut b = vec![0, 0, 0, CONFIG, flags];
        b.extend_from_slice(&config.root.to_be_bytes());
        b.extend_from_slice(&config.cost.to_be_bytes());
        b.extend_from_slice(&config.bridge.to_be_bytes());
        for half in [config.port, config.message_age, config.max_age, config.hello, config.forward_delay] {
            b.extend_from_slice(&half.to_be_bytes());
        }
        b
    }
}
