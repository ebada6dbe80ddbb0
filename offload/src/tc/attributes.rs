//! Netlink attributes, written and read: length, type, payload, padded to four bytes (RFC 3549 section 2.3; linux/netlink.h).
//!
//! What enters: payloads; or bytes of a socket. What leaves: messages; or attributes one by one, and errors for what is cut short.
//! Writing allocates nothing but the buffer's growth: nests are closed by going back to their length.

/// `NLA_F_NESTED`
pub const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;
/// Bytes of an attribute's header.
const HEADER: usize = 4;

/// A message being written.
#[derive(Debug, Default)]
pub struct Writer {
    pub bytes: Vec<u8>,
}

/// An attribute that is open for others inside it.
#[derive(Debug)]
#[must_use]
pub struct Nest(usize);

impl Writer {
    /// An attribute with a payload of bytes.
    pub fn put(&mut self, kind: u16, payload: &[u8]) {
        let len = u16::try_from(HEADER + payload.len()).expect("payloads are short");
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.pad();
    }

    pub fn put_u8(&mut self, kind: u16, value: u8) {
        self.put(kind, &[value]);
    }

    pub fn put_u16(&mut self, kind: u16, value: u16) {
        self.put(kind, &value.to_ne_bytes());
    }

    pub fn put_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    pub fn put_be16(&mut self, kind: u16, value: u16) {
        self.put(kind, &value.to_be_bytes());
    }

    pub fn put_be32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// A text with the nought that ends it in C.
    pub fn put_text(&mut self, kind: u16, text: &str) {
        let len = u16::try_from(HEADER + text.len() + 1).expect("texts are short");
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    /// Opens an attribute for others inside it.
    pub fn nest(&mut self, kind: u16) -> Nest {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        Nest(at)
    }

    /// Closes it.
    pub fn end(&mut self, nest: Nest) {
        let len = u16::try_from(self.bytes.len() - nest.0).expect("a rule is shorter than 64 KiB");
        self.bytes[nest.0..nest.0 + 2].copy_from_slice(&len.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// What is wrong with bytes read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("attribute at byte {at} has length {len} where {left} bytes are left")]
    Length { at: usize, len: usize, left: usize },
    #[error("attribute {kind} has {len} bytes where {expected} were expected")]
    Size { kind: u16, len: usize, expected: usize },
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{what} {value:#x} is not known")]
    Unknown { what: &'static str, value: u32 },
    #[error("{0}")]
    Invalid(&'static str),
}

/// An attribute.
#[derive(Clone, Copy, Debug)]
pub struct Attribute<'a> {
    pub kind: u16,
    pub payload: &'a [u8],
}

/// The attribute of a kind in a payload, if there is one before anything that is cut short; nothing is allocated.
#[must_use]
pub fn seek(bytes: &[u8], kind: u16) -> Option<Attribute<'_>> {
    let mut rest = bytes;
    while let Some(head) = rest.first_chunk::<HEADER>() {
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let payload = rest.get(HEADER..len)?;
        if u16::from_ne_bytes([head[2], head[3]]) & TYPE_MASK == kind {
            return Some(Attribute { kind, payload });
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    None
}

/// Most payloads have no more attributes.
const FEW: usize = 12;

/// The attributes of a payload, in order.
///
/// # Errors
/// For one whose length leads beyond the end.
pub fn attributes(bytes: &[u8]) -> Result<Vec<Attribute<'_>>, ReadError> {
    let mut out = Vec::with_capacity((bytes.len() / HEADER).min(FEW));
    let mut at = 0;
    while bytes.len() - at >= HEADER {
        let len = usize::from(u16::from_ne_bytes([bytes[at], bytes[at + 1]]));
        let left = bytes.len() - at;
        if len < HEADER || len > left {
            return Err(ReadError::Length { at, len, left });
        }
        let kind = u16::from_ne_bytes([bytes[at + 2], bytes[at + 3]]) & TYPE_MASK;
        out.push(Attribute { kind, payload: &bytes[at + HEADER..at + len] });
        at = (at + len.next_multiple_of(4)).min(bytes.len());
    }
    Ok(out)
}

impl<'a> Attribute<'a> {
    /// Exactly `N` bytes.
    ///
    /// # Errors
    /// If there are more or fewer.
    pub fn array<const N: usize>(self) -> Result<[u8; N], ReadError> {
        let size = ReadError::Size { kind: self.kind, len: self.payload.len(), expected: N };
        self.payload.try_into().map_err(|_| size)
    }

    /// A number of this processor's order.
    ///
    /// # Errors
    /// If it has not four bytes.
    pub fn u32(self) -> Result<u32, ReadError> {
        self.array().map(u32::from_ne_bytes)
    }

    /// A number of this processor's order.
    ///
    /// # Errors
    /// If it has not two bytes.
    pub fn u16(self) -> Result<u16, ReadError> {
        self.array().map(u16::from_ne_bytes)
    }

    /// One byte.
    ///
    /// # Errors
    /// If it has not one byte.
    pub fn u8(self) -> Result<u8, ReadError> {
        self.array().map(|[b]| b)
    }

    /// The attributes inside.
    ///
    /// # Errors
    /// As `attributes`.
    pub fn nested(self) -> Result<Vec<Self>, ReadError> {
        attributes(self.payload)
    }

    /// A text without the nought that ends it.
    #[must_use]
    pub fn text(self) -> &'a str {
        let end = self.payload.iter().position(|b| *b == 0).unwrap_or(self.payload.len());
        std::str::from_utf8(&self.payload[..end]).unwrap_or("")
    }
}

/// The attribute of a kind, if there is one.
#[must_use]
pub fn find<'a>(list: &[Attribute<'a>], kind: u16) -> Option<Attribute<'a>> {
    list.iter().copied().find(|a| a.kind == kind)
}
