//! Numbers that look random, for protocols whose packets shall not march in step. Seeded, so that a machine stays a function of what it is
//! given.

/// A small generator (xorshift, Marsaglia 2003).
#[derive(Clone, Debug)]
pub struct Jitter(u32);

impl Jitter {
    /// Any seed will do.
    #[must_use]
    pub fn new(seed: u32) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9) | 1)
    }

    /// The next 32 bits.
    pub fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: u32) -> u32 {
        self.bits() % n
    }
}
