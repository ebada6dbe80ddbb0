//! Continuity check messages: 75 bytes after Ethernet type 0x8902 (IEEE 802.1ag-2007 section 21.6; ITU-T Y.1731 section 9.2). OVS's extended
//! mode puts its own fields where Y.1731 wants zeroes.

/// Length as sent; one byte less is accepted, without the end TLV.
pub const LEN: usize = 75;
const ACCEPT_LEN: usize = 74;
const CCM: u8 = 1;
const RDI: u8 = 0x80;
const INTERVAL_BITS: u8 = 7;
/// Offset of the first TLV, counted from after this field.
const TLV_OFFSET: u8 = 70;
pub const MAID_LEN: usize = 48;
/// Maintenance association of every OVS: domain "ovs" and association "ovs", both as strings.
pub const MAID: [u8; MAID_LEN] = {
    let mut maid = [0; MAID_LEN];
    let text = [4, 3, b'o', b'v', b's', 2, 3, b'o', b'v', b's'];
    let mut i = 0;
    while i < text.len() {
        maid[i] = text[i];
        i += 1;
    }
    maid
};

/// A continuity check message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ccm {
    /// Remote defect indication: the sender hears nobody.
    pub rdi: bool,
    /// The standard's number of the interval; 0 in extended mode for one that has none.
    pub interval: u8,
    pub seq: u32,
    pub mpid: u16,
    pub maid: [u8; 48],
    /// Extended mode: interval in milliseconds, maintenance point, operationally down.
    pub interval_ms: u16,
    pub mpid64: u64,
    pub opdown: bool,
}

/// Why a message is not counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    #[error("Received an unparseable 802.1ag CCM heartbeat.")]
    TooShort,
    #[error("Received an unsupported 802.1ag message. (opcode {0})")]
    Opcode(u8),
}

impl Ccm {
    /// Reads what follows the Ethernet type.
    /// # Errors
    /// It is no continuity check message.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let b: &[u8; ACCEPT_LEN] = bytes.get(..ACCEPT_LEN).and_then(|b| b.try_into().ok()).ok_or(Malformed::TooShort)?;
        if b[1] != CCM {
            return Err(Malformed::Opcode(b[1]));
        }
        let mut maid = [0; MAID_LEN];
        maid.copy_from_slice(&b[10..58]);
        let mut mpid64 = [0; 8];
        mpid64.copy_from_slice(&b[60..68]);
        Ok(Self {
            rdi: b[2] & RDI != 0,
            interval: b[2] & INTERVAL_BITS,
            seq: u32::from_be_bytes([b[4], b[5], b[6], b[7]]),
            mpid: u16::from_be_bytes([b[8], b[9]]),
            maid,
            interval_ms: u16::from_be_bytes([b[58], b[59]]),
            mpid64: u64::from_be_bytes(mpid64),
            opdown: b[68] != 0,
        })
    }

    /// What follows the Ethernet type.
    #[must_use]
    pub fn bytes(&self) -> [u8; LEN] {
        let mut b = [0; LEN];
        b[1] = CCM;
        b[2] = self.interval | if self.rdi { RDI } else { 0 };
        b[3] = TLV_OFFSET;
        b[4..8].copy_from_slice(&self.seq.to_be_bytes());
        b[8..10].copy_from_slice(&self.mpid.to_be_bytes());
        b[10..58].copy_from_slice(&self.maid);
        b[58..60].copy_from_slice(&self.interval_ms.to_be_bytes());
        b[60..68].copy_from_slice(&self.mpid64.to_be_bytes());
        b[68] = u8::from(self.opdown);
        b
    }
}

/// The frame; `tci` 0 means no tag.
#[must_use]
pub fn frame(eth_src: [u8; 6], eth_dst: [u8; 6], tci: u16, ccm: &Ccm) -> Vec<u8> {
    let mut frame = Vec::with_capacity(18 + LEN);
    frame.extend_from_slice(&eth_dst);
    frame.extend_from_slice(&eth_src);
    if tci != 0 {
        frame.extend_from_slice(&[0x81, 0]);
        frame.extend_from_slice(&tci.to_be_bytes());
    }
    frame.extend_from_slice(&super::ETH_TYPE);
    frame.extend_from_slice(&ccm.bytes());
    frame
}
