//! BFD control packets: 24 bytes after a UDP header to port 3784 (RFC 5880 section 4.1, RFC 5881 section 4).

use super::{Diag, State};
use flow::Key;
use flow::compose::{Payload, compose};

/// UDP destination port of control packets.
pub const PORT: u16 = 3784;
/// Length of a control packet without authentication.
pub const LEN: usize = 24;

/// Flag bits.
pub mod flags {
    pub const MULTIPOINT: u8 = 1;
    pub const DEMAND: u8 = 2;
    pub const AUTH: u8 = 4;
    pub const CTL: u8 = 8;
    pub const FINAL: u8 = 16;
    pub const POLL: u8 = 32;
}

/// A control packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    pub diag: Diag,
    pub state: State,
    /// `flags` bits
    pub flags: u8,
    pub mult: u8,
    pub my_disc: u32,
    pub your_disc: u32,
    pub min_tx_us: u32,
    pub min_rx_us: u32,
}

/// Why a control packet is discarded (RFC 5880 section 6.8.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    #[error("Received too-short BFD control message")]
    TooShort,
    #[error("Incorrect version")]
    Version,
    #[error("Authenticated control message with authentication disabled")]
    Authenticated,
    #[error("Unexpected length")]
    Length,
    #[error("Zero multiplier")]
    ZeroMultiplier,
    #[error("Unsupported multipoint flag")]
    Multipoint,
    #[error("NULL my_disc")]
    NoDiscriminator,
    #[error("Null your_disc")]
    NoYourDiscriminator,
}

impl Message {
    /// Reads a UDP payload; what may not be answered is an error.
    /// # Errors
    /// The packet must be discarded.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let bytes: &[u8; LEN] = bytes.get(..LEN).and_then(|b| b.try_into().ok()).ok_or(Malformed::TooShort)?;
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if bytes[0] >> 5 != 1 {
            return Err(Malformed::Version);
        }
        let message = Self {
            diag: Diag(bytes[0] & 0x1f),
            state: State::from_bits(bytes[1] >> 6),
            flags: bytes[1] & 0x3f,
            mult: bytes[2],
            my_disc: word(4),
            your_disc: word(8),
            min_tx_us: word(12),
            min_rx_us: word(16),
        };
        if message.flags & flags::AUTH != 0 {
            return Err(Malformed::Authenticated);
        }
        if usize::from(bytes[3]) < LEN {
            return Err(Malformed::Length);
        }
        if message.mult == 0 {
            return Err(Malformed::ZeroMultiplier);
        }
        if message.flags & flags::MULTIPOINT != 0 {
            return Err(Malformed::Multipoint);
        }
        if message.my_disc == 0 {
            return Err(Malformed::NoDiscriminator);
        }
        if message.your_disc == 0 && matches!(message.state, State::Init | State::Up) {
            return Err(Malformed::NoYourDiscriminator);
        }
        Ok(message)
    }

    /// The UDP payload.
    #[must_use]
    pub fn bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[0] = 1 << 5 | self.diag.0;
        bytes[1] = self.state.bits() << 6 | self.flags;
        bytes[2] = self.mult;
        bytes[3] = 24;
        let words = [self.my_disc, self.your_disc, self.min_tx_us, self.min_rx_us];
        for (place, word) in bytes[4..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }
}

/// Addresses of a session's packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    pub eth_src: [u8; 6],
    pub eth_dst: [u8; 6],
    pub ip_src: [u8; 4],
    pub ip_dst: [u8; 4],
    pub udp_src: u16,
}

/// The whole frame: TTL 255 (RFC 5881 section 5), precedence "internetwork control".
#[must_use]
pub fn frame(addresses: &Addresses, message: &Message) -> Vec<u8> {
    let key = Key {
        eth_src: addresses.eth_src,
        eth_dst: addresses.eth_dst,
        eth_type: [8, 0],
        nw_proto: 17,
        nw_ttl: 255,
        nw_tos: 0xc0,
        nw_src: addresses.ip_src,
        nw_dst: addresses.ip_dst,
        tp_src: addresses.udp_src.to_be_bytes(),
        tp_dst: PORT.to_be_bytes(),
        ..Key::ZERO
    };
    compose(&key, Payload::Bytes(&message.bytes()))
}
