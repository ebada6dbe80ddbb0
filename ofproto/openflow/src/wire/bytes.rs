//! Cursors over the wire's bytes: `Reader` takes, `Put` appends. Numbers are in network byte order.
//!
//! A reader that runs short answers with the error its room chose, so that no caller has to ask for lengths first.

use crate::error::OfError;

/// Rounds up to the eight bytes that OpenFlow aligns to.
pub(crate) const fn round8(n: usize) -> usize {
    n.next_multiple_of(8)
}

/// A cursor over bytes of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    data: &'a [u8],
    short: OfError,
}

impl<'a> Reader<'a> {
    /// Reads `data`; `short` is the answer when it ends too early.
    pub(crate) fn new(data: &'a [u8], short: OfError) -> Self {
        Self { data, short }
    }

    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// What has not been read, without reading it.
    pub(crate) fn peek(&self) -> &'a [u8] {
        self.data
    }

    /// The next 16 bits, without taking them: the length before an entry of a list.
    pub(crate) fn peek_u16(&self) -> Result<u16, OfError> {
        Self::new(self.data, self.short).u16()
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.data)
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], OfError> {
        let (head, tail) = self.data.split_at_checked(n).ok_or(self.short)?;
        self.data = tail;
        Ok(head)
    }

    pub(crate) fn skip(&mut self, n: usize) -> Result<(), OfError> {
        self.take(n).map(|_| ())
    }

    /// Skips `n` bytes that must be zero, or answers `error`.
    pub(crate) fn zeros(&mut self, n: usize, error: OfError) -> Result<(), OfError> {
        if self.take(n)?.iter().all(|b| *b == 0) { Ok(()) } else { Err(error) }
    }

    /// A reader over the next `n` bytes.
    pub(crate) fn sub(&mut self, n: usize) -> Result<Self, OfError> {
        Ok(Self { data: self.take(n)?, short: self.short })
    }

    /// The same bytes with another answer for a short read.
    pub(crate) fn or(self, short: OfError) -> Self {
        Self { short, ..self }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], OfError> {
        let (head, tail) = self.data.split_first_chunk::<N>().ok_or(self.short)?;
        self.data = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, OfError> {
        self.array::<1>().map(|b| b[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, OfError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, OfError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, OfError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A fixed field of `n` bytes that holds a string ended by NUL.
    pub(crate) fn name(&mut self, n: usize) -> Result<String, OfError> {
        let raw = self.take(n)?;
        let end = raw.iter().position(|b| *b == 0).unwrap_or_else(|| n.saturating_sub(1));
        Ok(String::from_utf8_lossy(&raw[..end]).into_owned())
    }
}

/// Whether all bytes are zero.
pub(crate) fn all_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| *b == 0)
}

/// Lengths and offsets inside one message: it is at most 65535 bytes long, and what is longer saturates (and is refused or split
/// by the caller before it is sent).
pub(crate) fn len16(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

/// Appends to a message.
pub(crate) trait Put {
    fn u8(&mut self, v: u8);
    fn u16(&mut self, v: u16);
    fn u32(&mut self, v: u32);
    fn u64(&mut self, v: u64);
    fn bytes(&mut self, v: &[u8]);
    fn zeros(&mut self, n: usize);
    /// Zeros up to a multiple of eight, counted from `start`.
    fn pad8(&mut self, start: usize);
    /// Writes over two bytes at `at`.
    fn set_u16(&mut self, at: usize, v: u16);
    /// The distance from `start` to the end, written at `at`.
    fn close_len(&mut self, at: usize, start: usize);
    /// A string in `n` bytes, cut to leave a NUL.
    fn name(&mut self, s: &str, n: usize);
}

impl Put for Vec<u8> {
    fn u8(&mut self, v: u8) {
        self.push(v);
    }

    fn u16(&mut self, v: u16) {
        self.extend_from_slice(&v.to_be_bytes());
    }

    fn u32(&mut self, v: u32) {
        self.extend_from_slice(&v.to_be_bytes());
    }

    fn u64(&mut self, v: u64) {
        self.extend_from_slice(&v.to_be_bytes());
    }

    fn bytes(&mut self, v: &[u8]) {
        self.extend_from_slice(v);
    }

    fn zeros(&mut self, n: usize) {
        self.resize(self.len() + n, 0);
    }

    fn pad8(&mut self, start: usize) {
        let n = self.len() - start;
        self.zeros(round8(n) - n);
    }

    fn set_u16(&mut self, at: usize, v: u16) {
        self[at..at + 2].copy_from_slice(&v.to_be_bytes());
    }

    fn close_len(&mut self, at: usize, start: usize) {
        let n = len16(self.len() - start);
        self.set_u16(at, n);
    }

    fn name(&mut self, s: &str, n: usize) {
        let cut = s.len().min(n - 1);
        self.bytes(&s.as_bytes()[..cut]);
        self.zeros(n - cut);
    }
}
