//! LACP data units: 110 bytes after Ethernet type 0x8809 (IEEE 802.1AX-2014 section 6.4.2.3).

/// Ethernet type of the slow protocols.
pub const ETH_TYPE: [u8; 2] = [0x88, 0x09];
/// Group address of the slow protocols.
pub const ETH_DST: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 2];
/// Length of a data unit.
pub const LEN: usize = 110;
const INFO_LEN: usize = 15;
const SUBTYPE_LACP: u8 = 1;
const SUBTYPE_MARKER: u8 = 2;
/// Where actor's and partner's information begins, after type and length of each.
const ACTOR_AT: usize = 4;
const PARTNER_AT: usize = 24;

/// State bits (figure 6-9), with OVS's words for them.
pub mod state {
    pub const ACTIVITY: u8 = 0x01;
    pub const TIMEOUT: u8 = 0x02;
    pub const AGGREGATION: u8 = 0x04;
    pub const SYNCHRONIZED: u8 = 0x08;
    pub const COLLECTING: u8 = 0x10;
    pub const DISTRIBUTING: u8 = 0x20;
    pub const DEFAULTED: u8 = 0x40;
    pub const EXPIRED: u8 = 0x80;
    /// By bit, in order.
    pub const NAMES: [(u8, &str); 8] = [
        (ACTIVITY, "activity"),
        (TIMEOUT, "timeout"),
        (AGGREGATION, "aggregation"),
        (SYNCHRONIZED, "synchronized"),
        (COLLECTING, "collecting"),
        (DISTRIBUTING, "distributing"),
        (DEFAULTED, "defaulted"),
        (EXPIRED, "expired"),
    ];
}

/// What one end of a link says of itself. The order of the fields is that of the wire, and that of priority (lower is better).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Info {
    pub sys_priority: u16,
    pub sys_id: [u8; 6],
    pub key: u16,
    pub port_priority: u16,
    pub port_id: u16,
    /// `state` bits
    pub state: u8,
}

impl Info {
    fn read(bytes: &[u8; INFO_LEN]) -> Self {
        let half = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let mut sys_id = [0; 6];
        sys_id.copy_from_slice(&bytes[2..8]);
        Self { sys_priority: half(0), sys_id, key: half(8), port_priority: half(10), port_id: half(12), state: bytes[14] }
    }

    fn write(&self, bytes: &mut [u8]) {
        bytes[..2].copy_from_slice(&self.sys_priority.to_be_bytes());
        bytes[2..8].copy_from_slice(&self.sys_id);
        bytes[8..10].copy_from_slice(&self.key.to_be_bytes());
        bytes[10..12].copy_from_slice(&self.port_priority.to_be_bytes());
        bytes[12..14].copy_from_slice(&self.port_id.to_be_bytes());
        bytes[14] = self.state;
    }
}

/// A slow-protocol frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pdu {
    Lacp {
        actor: Info,
        partner: Info,
    },
    /// Of the marker protocol, which is not spoken.
    Marker,
    /// Too short, or of another form.
    Bad,
}

impl Pdu {
    /// Reads what follows the Ethernet type.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let Some(bytes) = bytes.get(..LEN) else { return Self::Bad };
        let info = |at: usize| {
            let bytes: &[u8; INFO_LEN] = bytes[at..at + INFO_LEN].try_into().expect("LEN holds both");
            Info::read(bytes)
        };
        match (bytes[0], &bytes[ACTOR_AT - 2..ACTOR_AT], &bytes[PARTNER_AT - 2..PARTNER_AT]) {
            (SUBTYPE_LACP, [1, 20], [2, 20]) => Self::Lacp { actor: info(ACTOR_AT), partner: info(PARTNER_AT) },
            (SUBTYPE_MARKER, ..) => Self::Marker,
            _ => Self::Bad,
        }
    }
}

/// The frame that tells of an actor and of its partner.
#[must_use]
pub fn frame(eth_src: [u8; 6], actor: &Info, partner: &Info) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + LEN);
    frame.extend_from_slice(&ETH_DST);
    frame.extend_from_slice(&eth_src);
    frame.extend_from_slice(&ETH_TYPE);
    let mut pdu = [0; LEN];
    pdu[..ACTOR_AT].copy_from_slice(&[SUBTYPE_LACP, 1, 1, 20]);
    actor.write(&mut pdu[ACTOR_AT..ACTOR_AT + INFO_LEN]);
    pdu[PARTNER_AT - 2..PARTNER_AT].copy_from_slice(&[2, 20]);
    partner.write(&mut pdu[PARTNER_AT..PARTNER_AT + INFO_LEN]);
    // Collector information: no delay.
    pdu[42..44].copy_from_slice(&[3, 16]);
    frame.extend_from_slice(&pdu);
    frame
}
