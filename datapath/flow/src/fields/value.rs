//! Values of fields: unsigned numbers of up to 1024 bits. All but tunnel metadata fit into 128.

use std::fmt;

/// Bytes of the longest value.
pub const VALUE_BYTES_MAX: usize = 128;

/// A number of up to 1024 bits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Value(Repr);

// Invariant: `Long` only when the number does not fit into `Short`, so that equality is that of numbers.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    Short(Low),
    Long(Box<[u8; VALUE_BYTES_MAX]>),
}

/// A number of 128 bits that needs the alignment of a word only: with its own, the actions of a rule would be half as long again.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(Rust, packed(8))]
struct Low(u128);

const _: () = assert!(size_of::<Value>() == 24);

impl Value {
    pub const ZERO: Self = Self(Repr::Short(Low(0)));

    /// The number in the last `VALUE_BYTES_MAX` of these big-endian bytes.
    #[must_use]
    pub fn from_be_bytes(bytes: &[u8]) -> Self {
        let bytes = &bytes[bytes.len().saturating_sub(VALUE_BYTES_MAX)..];
        let cut = bytes.len().saturating_sub(16);
        if bytes[..cut].iter().all(|b| *b == 0) {
            let mut low = [0; 16];
            low[16 + cut - bytes.len()..].copy_from_slice(&bytes[cut..]);
            return Self::from(u128::from_be_bytes(low));
        }
        let mut long = Box::new([0; VALUE_BYTES_MAX]);
        long[VALUE_BYTES_MAX - bytes.len()..].copy_from_slice(bytes);
        Self(Repr::Long(long))
    }

    /// All bytes, big-endian.
    #[must_use]
    pub fn to_be_bytes(&self) -> [u8; VALUE_BYTES_MAX] {
        match &self.0 {
            Repr::Short(low) => {
                let low = low.0;
                let mut bytes = [0; VALUE_BYTES_MAX];
                bytes[VALUE_BYTES_MAX - 16..].copy_from_slice(&low.to_be_bytes());
                bytes
            }
            Repr::Long(bytes) => **bytes,
        }
    }

    /// The low 128 bits.
    #[must_use]
    pub fn low(&self) -> u128 {
        match &self.0 {
            Repr::Short(low) => low.0,
            Repr::Long(bytes) => bytes[VALUE_BYTES_MAX - 16..].iter().fold(0, |sum, b| sum << 8 | u128::from(*b)),
        }
    }

    /// The number with `bits` ones at the right.
    #[must_use]
    pub fn ones(bits: usize) -> Self {
        if bits <= 128 {
            return Self::from(if bits == 128 { u128::MAX } else { (1 << bits) - 1 });
        }
        let bits = bits.min(VALUE_BYTES_MAX * 8);
        let mut bytes = [0u8; VALUE_BYTES_MAX];
        for bit in 0..bits {
            bytes[VALUE_BYTES_MAX - 1 - bit / 8] |= 1 << (bit % 8);
        }
        Self::from_be_bytes(&bytes)
    }

    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// Position of the highest 1-bit plus one; 0 for zero.
    #[must_use]
    pub fn bit_len(&self) -> usize {
        match &self.0 {
            Repr::Short(low) => (u128::BITS - { low.0 }.leading_zeros()) as usize,
            Repr::Long(bytes) => {
                bytes.iter().position(|b| *b != 0).map_or(0, |at| (VALUE_BYTES_MAX - at) * 8 - bytes[at].leading_zeros() as usize)
            }
        }
    }

    /// `self & other`, bit by bit.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    /// `self & !other`, bit by bit.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    /// `self | other`, bit by bit.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    /// `self << bits`; what leaves the longest value is lost.
    #[must_use]
    pub fn shifted_left(&self, bits: usize) -> Self {
        let (bytes, bits) = (bits / 8, bits % 8);
        let old = self.to_be_bytes();
        let mut new = [0; VALUE_BYTES_MAX];
        for (at, to) in new.iter_mut().enumerate() {
            let byte = |n: usize| u16::from(old.get(n).copied().unwrap_or(0));
            let pair = byte(at + bytes) << 8 | byte(at + bytes + 1);
            *to = (pair << bits).to_be_bytes()[0];
        }
        Self::from_be_bytes(&new)
    }

    /// `self >> bits`
    #[must_use]
    pub fn shifted_right(&self, bits: usize) -> Self {
        let (bytes, bits) = (bits / 8, bits % 8);
        let old = self.to_be_bytes();
        let mut new = [0; VALUE_BYTES_MAX];
        for (at, to) in new.iter_mut().enumerate() {
            let byte = |n: Option<usize>| n.map_or(0, |n| u16::from(old[n]));
            let pair = byte(at.checked_sub(bytes + 1)) << 8 | byte(at.checked_sub(bytes));
            *to = (pair >> bits).to_be_bytes()[1];
        }
        Self::from_be_bytes(&new)
    }

    fn zip(&self, other: &Self, f: impl Fn(u128, u128) -> u128) -> Self {
        if let (Repr::Short(a), Repr::Short(b)) = (&self.0, &other.0) {
            return Self::from(f(a.0, b.0));
        }
        let (mut a, b) = (self.to_be_bytes(), other.to_be_bytes());
        for (a, b) in a.iter_mut().zip(b) {
            *a = f(u128::from(*a), u128::from(b)).to_be_bytes()[15];
        }
        Self::from_be_bytes(&a)
    }
}

impl From<u128> for Value {
    fn from(low: u128) -> Self {
        Self(Repr::Short(Low(low)))
    }
}

impl fmt::LowerHex for Value {
    /// Without leading zeros; `{:#x}` puts `0x` in front.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Short(low) => fmt::LowerHex::fmt(&{ low.0 }, f),
            Repr::Long(bytes) => {
                let start = bytes.iter().position(|b| *b != 0).unwrap_or(VALUE_BYTES_MAX - 1);
                if f.alternate() {
                    f.write_str("0x")?;
                }
                write!(f, "{:x}", bytes[start])?;
                bytes[start + 1..].iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#x}")
    }
}
