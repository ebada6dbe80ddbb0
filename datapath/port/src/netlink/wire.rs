//! The frame of netlink: message headers, attributes, and a builder for requests.
//!
//! What enters: bytes of the kernel; values to send. What leaves: message bodies, attributes; bytes. Neighbours: the rest of `netlink`. The
//! kernel speaks the machine's byte order and aligns to four bytes (RFC 3549 section 2.2).

/// Attribute kinds that libc lacks.
pub(super) const IFLA_MAX_MTU: u16 = 51;
pub(super) const RTA_VIA: u16 = 18;
/// Attributes of RTM_NEWNSID and RTM_GETNSID (linux/net_namespace.h).
pub(super) const NETNSA_NSID: u16 = 1;
pub(super) const NETNSA_FD: u16 = 3;
/// The namespace in which a device is asked for, by its id in ours.
pub(super) const IFLA_TARGET_NETNSID: u16 = 46;

const HEADER: usize = 16;
const ALIGN: usize = 4;
/// Flags in an attribute's kind: nested, byte order.
const KIND_MASK: u16 = 0x3fff;

/// One message.
#[derive(Debug)]
pub(super) struct Message<'b> {
    pub(super) kind: u16,
    pub(super) seq: u32,
    /// NLM_F_MULTI: a part of a dump.
    pub(super) multi: bool,
    pub(super) payload: &'b [u8],
}

/// The messages in a datagram, up to the first that is cut short.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let head: &[u8; HEADER] = bytes.first_chunk()?;
        let len = u32_at(head, 0)? as usize;
        let payload = bytes.get(HEADER..len)?;
        bytes = bytes.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
        let flags = libc::c_int::from(u16::from_ne_bytes([head[6], head[7]]));
        let kind = u16::from_ne_bytes([head[4], head[5]]);
        Some(Message { kind, seq: u32_at(head, 8)?, multi: flags & libc::NLM_F_MULTI != 0, payload })
    })
}

/// The attributes in a body: kind and value.
#[derive(Debug)]
pub(super) struct Attributes<'b> {
    bytes: &'b [u8],
}

impl<'b> Attributes<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes }
    }
}

impl<'b> Iterator for Attributes<'b> {
    type Item = (u16, &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let head: &[u8; 4] = self.bytes.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & KIND_MASK;
        let value = self.bytes.get(4..len)?;
        self.bytes = self.bytes.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some((kind, value))
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A string that ends at its first zero byte.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// A request in the making.
#[derive(Debug)]
pub(super) struct Builder {
    bytes: Vec<u8>,
}

/// Attributes inside of an attribute.
#[derive(Debug, Default)]
pub(super) struct Nested {
    pub(super) bytes: Vec<u8>,
}

impl Nested {
    /// Appends an attribute.
    pub(super) fn add(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(4 + value.len()).expect("our attributes are short");
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
    }
}

impl Builder {
    /// A message of `kind` with the fixed part `body`.
    pub(super) fn new(kind: u16, flags: libc::c_int, seq: u32, body: &[u8]) -> Self {
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST).expect("netlink flags have 16 bits");
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&seq.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
        Self { bytes }
    }

    /// Appends an attribute.
    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let len = u16::try_from(4 + value.len()).expect("our attributes are short");
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
        self
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.bytes.len()).expect("our messages are short");
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes
    }
}
