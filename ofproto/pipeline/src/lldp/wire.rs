//! LLDP data units (IEEE 802.1AB-2009 section 8), with the two elements of auto-attach (802.1Qcj's forerunner, organisation 00-04-0D).

/// Ethernet type of LLDP.
pub const ETH_TYPE: [u8; 2] = [0x88, 0xcc];
/// Group address of the nearest bridge.
pub const ETH_DST: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0x0e];
const ORGANISATION: [u8; 3] = [0x00, 0x04, 0x0d];
const SUBTYPE_ELEMENT: u8 = 11;
const SUBTYPE_ASSIGNMENTS: u8 = 12;
/// Message authentication, which is not used.
const DIGEST_LEN: usize = 32;
/// "Client virtual switch".
const ELEMENT_TYPE: u8 = 14;
/// Chassis id: a MAC; port id: an interface's name.
const CHASSIS_MAC: u8 = 4;
const PORT_NAME: u8 = 5;
const CAPABILITY_BRIDGE: u16 = 4;
/// Assignments in one element: what its length can say.
pub const ASSIGNMENTS_MAX: usize = (511 - 4 - DIGEST_LEN) / 5;

/// TLV types.
mod kind {
    pub(super) const END: u8 = 0;
    pub(super) const CHASSIS_ID: u8 = 1;
    pub(super) const PORT_ID: u8 = 2;
    pub(super) const TTL: u8 = 3;
    pub(super) const PORT_DESCRIPTION: u8 = 4;
    pub(super) const SYSTEM_NAME: u8 = 5;
    pub(super) const SYSTEM_DESCRIPTION: u8 = 6;
    pub(super) const CAPABILITIES: u8 = 7;
    pub(super) const MANAGEMENT: u8 = 8;
    pub(super) const ORGANISATION: u8 = 127;
}

/// A service that auto-attach asks for: I-SID on a VLAN, and what became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Assignment {
    pub isid: u32,
    pub vlan: u16,
    pub status: u8,
}

/// What a port says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Local<'a> {
    pub mac: [u8; 6],
    pub port: &'a str,
    pub system_name: &'a str,
    pub system_description: &'a str,
    pub ttl_s: u16,
    pub assignments: &'a [Assignment],
}

/// What a neighbour says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Neighbour {
    /// Subtype and value.
    pub chassis: Vec<u8>,
    pub port: Vec<u8>,
    pub ttl_s: u16,
    pub system_description: Option<String>,
    /// Auto-attach: the server's system id (10 bytes), if it is one.
    pub element: Option<[u8; 10]>,
    pub assignments: Vec<Assignment>,
    /// TLVs that were not understood.
    pub unrecognized: u64,
}

/// Why a data unit is discarded; the texts are OVS's, before "received on PORT".
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    #[error("tlv header too short")]
    Header,
    #[error("frame too short for tlv")]
    Frame,
    #[error("TLVs in wrong order")]
    Order,
    #[error("lldp end with size not null")]
    End,
    #[error("{0} TLV too short")]
    Short(&'static str),
    #[error("unknown subtype for tlv id")]
    Subtype,
    #[error("malformed vlan-isid mappings tlv")]
    Assignments,
    #[error("unknown tlv ({0})")]
    Unknown(u8),
    #[error("frame without some mandatory tlv")]
    Missing,
}

fn tlv(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|p| p.len()).sum::<usize>().min(511);
    let head = u16::from(kind) << 9 | u16::try_from(len).expect("at most 511");
    out.extend_from_slice(&head.to_be_bytes());
    out.extend(parts.iter().copied().flatten().take(len));
}

/// The frame that tells of a port.
#[must_use]
pub fn frame(local: &Local<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(&ETH_DST);
    out.extend_from_slice(&local.mac);
    out.extend_from_slice(&ETH_TYPE);
    tlv(&mut out, kind::CHASSIS_ID, &[&[CHASSIS_MAC], &local.mac]);
    tlv(&mut out, kind::PORT_ID, &[&[PORT_NAME], local.port.as_bytes()]);
    tlv(&mut out, kind::TTL, &[&local.ttl_s.to_be_bytes()]);
    if !local.system_name.is_empty() {
        tlv(&mut out, kind::SYSTEM_NAME, &[local.system_name.as_bytes()]);
    }
    if !local.system_description.is_empty() {
        tlv(&mut out, kind::SYSTEM_DESCRIPTION, &[local.system_description.as_bytes()]);
    }
    let capabilities = CAPABILITY_BRIDGE.to_be_bytes();
    tlv(&mut out, kind::CAPABILITIES, &[&capabilities, &capabilities]);
    tlv(&mut out, kind::PORT_DESCRIPTION, &[local.port.as_bytes()]);
    let digest = [0; DIGEST_LEN];
    // Element type (6 bits), state and management VLAN (none), then the system id: MAC and a single link.
    let element = [ELEMENT_TYPE << 2, 0, 0, 0];
    tlv(&mut out, kind::ORGANISATION, &[&ORGANISATION, &[SUBTYPE_ELEMENT], &digest, &element, &local.mac, &[0; 4]]);
    if !local.assignments.is_empty() {
        let mut asked = Vec::new();
        for a in local.assignments.iter().take(ASSIGNMENTS_MAX) {
            asked.extend_from_slice(&(u16::from(a.status) << 12 | a.vlan & 0xfff).to_be_bytes());
            asked.extend_from_slice(&a.isid.to_be_bytes()[1..]);
        }
        tlv(&mut out, kind::ORGANISATION, &[&ORGANISATION, &[SUBTYPE_ASSIGNMENTS], &digest, &asked]);
    }
    tlv(&mut out, kind::END, &[]);
    out
}

impl Neighbour {
    /// Reads what follows the Ethernet type.
    /// # Errors
    /// It must be discarded.
    pub fn parse(mut rest: &[u8]) -> Result<Self, Malformed> {
        let mut neighbour = Self::default();
        let mut count = 0;
        let mut ttl = None;
        loop {
            let Some((head, after)) = rest.split_at_checked(2) else {
                return Err(if rest.is_empty() { Malformed::Missing } else { Malformed::Header });
            };
            let head = u16::from_be_bytes([head[0], head[1]]);
            let kind = u8::try_from(head >> 9).expect("seven bits");
            let (value, after) = after.split_at_checked(usize::from(head & 0x1ff)).ok_or(Malformed::Frame)?;
            rest = after;
            count += 1;
            // The first three have their places, and nowhere else.
            if (kind::CHASSIS_ID..=kind::TTL).contains(&kind) && kind != count {
                return Err(Malformed::Order);
            }
            match kind {
                kind::END if !value.is_empty() => return Err(Malformed::End),
                kind::END => break,
                kind::CHASSIS_ID => neighbour.chassis = id(value)?,
                kind::PORT_ID => neighbour.port = id(value)?,
                kind::TTL => {
                    let bytes = value.first_chunk().ok_or(Malformed::Short("TTL"))?;
                    ttl = Some(u16::from_be_bytes(*bytes));
                }
                kind::SYSTEM_DESCRIPTION => neighbour.system_description = Some(String::from_utf8_lossy(value).into_owned()),
                kind::PORT_DESCRIPTION | kind::SYSTEM_NAME => {}
                kind::CAPABILITIES if value.len() < 4 => return Err(Malformed::Short("System capabilities")),
                kind::MANAGEMENT if value.len() < 6 + value.first().map_or(0, |l| usize::from(*l)) => {
                    return Err(Malformed::Short("Management address"));
                }
                kind::CAPABILITIES | kind::MANAGEMENT => {}
                kind::ORGANISATION => neighbour.organisation(value)?,
                other => return Err(Malformed::Unknown(other)),
            }
            count = count.min(100);
        }
        neighbour.ttl_s = ttl.ok_or(Malformed::Missing)?;
        let named = !neighbour.chassis.is_empty() && !neighbour.port.is_empty();
        if named { Ok(neighbour) } else { Err(Malformed::Missing) }
    }

    fn organisation(&mut self, value: &[u8]) -> Result<(), Malformed> {
        let (organisation, rest) = value.split_at_checked(3).ok_or(Malformed::Short("Organisational"))?;
        let (subtype, rest) = rest.split_first().ok_or(Malformed::Short("Organisational"))?;
        match (organisation == ORGANISATION, *subtype) {
            (true, SUBTYPE_ELEMENT) => {
                let id = rest.get(DIGEST_LEN + 4..).and_then(|r| r.first_chunk::<10>());
                self.element = Some(*id.ok_or(Malformed::Short("ELEMENT"))?);
            }
            (true, SUBTYPE_ASSIGNMENTS) => {
                let list = rest.get(DIGEST_LEN..).ok_or(Malformed::Short("ISID_VLAN_ASGNS"))?;
                if list.len() % 5 != 0 {
                    return Err(Malformed::Assignments);
                }
                self.assignments.extend(list.chunks_exact(5).map(|a| Assignment {
                    status: a[0] >> 4,
                    vlan: u16::from_be_bytes([a[0] & 0xf, a[1]]),
                    isid: u32::from_be_bytes([0, a[2], a[3], a[4]]),
                }));
            }
            (true | false, _) => self.unrecognized += 1,
        }
        Ok(())
    }
}

fn id(value: &[u8]) -> Result<Vec<u8>, Malformed> {
    match value {
        [] | [_] => Err(Malformed::Short("Port/Chassis Id")),
        [1..=7, ..] => Ok(value.to_vec()),
        [_, ..] => Err(Malformed::Subtype),
    }
}
