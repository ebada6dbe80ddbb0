//! Big-endian writing, as all export protocols have it.

/// Bytes under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn u8(&mut self, v: u8) -> &mut Self {
        self.0.push(v);
        self
    }

    pub(super) fn u16(&mut self, v: u16) -> &mut Self {
        self.bytes(&v.to_be_bytes())
    }

    pub(super) fn u32(&mut self, v: u32) -> &mut Self {
        self.bytes(&v.to_be_bytes())
    }

    pub(super) fn u64(&mut self, v: u64) -> &mut Self {
        self.bytes(&v.to_be_bytes())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Bytes and zeroes up to a multiple of four.
    pub(super) fn padded(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes(bytes);
        let padded = self.0.len() + (4 - bytes.len() % 4) % 4;
        self.0.resize(padded, 0);
        self
    }

    /// Writes over two bytes.
    pub(super) fn set_u16(&mut self, at: usize, v: u16) {
        self.0[at..at + 2].copy_from_slice(&v.to_be_bytes());
    }

    /// Writes over four bytes.
    pub(super) fn set_u32(&mut self, at: usize, v: u32) {
        self.0[at..at + 4].copy_from_slice(&v.to_be_bytes());
    }

    /// As many as fit into 32 bits.
    pub(super) fn clamped(&mut self, v: u64) -> &mut Self {
        self.u32(u32::try_from(v).unwrap_or(u32::MAX))
    }
}

/// The low 32 bits, as counters and clocks of these protocols wrap.
pub(super) fn low32(v: u64) -> u32 {
    u32::try_from(v & 0xffff_ffff).expect("masked to 32 bits")
}

/// Milliseconds since `start`, wrapping.
pub(super) fn uptime(now: flow::Msec, start: flow::Msec) -> u32 {
    low32(u64::try_from(now - start).unwrap_or(0))
}
