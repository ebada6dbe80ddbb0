//! Where tunnel options (Geneve TLVs, RFC 8926 section 3.5) lie in a key, and their passage between the wire and the pipeline.
//!
//! A bridge maps (class, type) pairs to `tun_metadata0`..`tun_metadata63` (ovs-ofctl add-tlv-map); a match that was read from text
//! without such a map lays out its own. The 256 bytes of `Key::tun_metadata` are handed out in chunks of four bytes; an option
//! takes whichever are free, so that deletions cannot leave holes too small.

use super::{VALUE_BYTES_MAX, Value};
use crate::key::{Key, Mask, TUN_METADATA_BYTES};

/// How many options there are.
pub const TUN_OPTIONS_MAX: usize = 64;
/// RFC 8926 section 3.5: at most 31 words.
pub const TUN_OPTION_BYTES_MAX: usize = 124;
const CHUNK_BYTES: usize = 4;
const HEADER_BYTES: usize = 4;

/// Why an option has no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TunOptionError {
    #[error("no tun_metadata{0}")]
    BadIndex(usize),
    #[error("option length {0} is not a multiple of 4 up to 124")]
    BadLength(usize),
    #[error("tun_metadata{0} is mapped already")]
    AlreadyMapped(usize),
    #[error("class {class:#x} type {kind:#x} is mapped already")]
    Duplicate { class: u16, kind: u8 },
    #[error("no room for {0} bytes of tunnel metadata")]
    Full(usize),
}

/// One mapped option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunOption {
    pub class: u16,
    pub kind: u8,
    /// Bytes of its value.
    pub bytes: usize,
    /// Chunks it takes, lowest first.
    chunks: u64,
}

/// A layout of options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelOptions {
    options: [Option<TunOption>; TUN_OPTIONS_MAX],
    taken: u64,
}

impl Default for TunnelOptions {
    fn default() -> Self {
        Self { options: [None; TUN_OPTIONS_MAX], taken: 0 }
    }
}

impl TunnelOptions {
    /// Maps an option of a bridge. `bytes` is a multiple of four; an option without any is only there or not.
    pub fn add(&mut self, n: usize, class: u16, kind: u8, bytes: usize) -> Result<(), TunOptionError> {
        if bytes > TUN_OPTION_BYTES_MAX || !bytes.is_multiple_of(CHUNK_BYTES) {
            return Err(TunOptionError::BadLength(bytes));
        }
        if self.option(n).is_none() && self.find(class, kind).is_some() {
            return Err(TunOptionError::Duplicate { class, kind });
        }
        self.place(n, class, kind, bytes)
    }

    /// Makes room for an option of a lone match, which has no class and type.
    pub fn add_unmapped(&mut self, n: usize, bytes: usize) -> Result<(), TunOptionError> {
        self.place(n, 0, 0, bytes)
    }

    fn place(&mut self, n: usize, class: u16, kind: u8, bytes: usize) -> Result<(), TunOptionError> {
        let option = self.options.get(n).ok_or(TunOptionError::BadIndex(n))?;
        if option.is_some() {
            return Err(TunOptionError::AlreadyMapped(n));
        }
        let mut chunks = 0;
        for _ in 0..bytes.div_ceil(CHUNK_BYTES) {
            let free = (self.taken | chunks).trailing_ones();
            if free == u64::BITS {
                return Err(TunOptionError::Full(bytes));
            }
            chunks |= 1 << free;
        }
        self.taken |= chunks;
        self.options[n] = Some(TunOption { class, kind, bytes, chunks });
        Ok(())
    }

    /// Unmaps an option; whether it was mapped.
    pub fn remove(&mut self, n: usize) -> bool {
        let Some(option) = self.option(n).copied() else {
            return false;
        };
        self.taken &= !option.chunks;
        self.options[n] = None;
        true
    }

    /// The option of `tun_metadata` number `n`.
    #[must_use]
    pub fn option(&self, n: usize) -> Option<&TunOption> {
        self.options.get(n)?.as_ref()
    }

    /// All that are mapped, by number.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &TunOption)> {
        self.options.iter().enumerate().filter_map(|(n, o)| Some((n, o.as_ref()?)))
    }

    /// Bytes that are taken.
    #[must_use]
    pub const fn used(&self) -> usize {
        self.taken.count_ones() as usize * CHUNK_BYTES
    }

    /// The number that a class and type are mapped to.
    #[must_use]
    pub fn find(&self, class: u16, kind: u8) -> Option<usize> {
        self.iter().find(|(_, o)| o.class == class && o.kind == kind).map(|(n, _)| n)
    }

    /// Whether the packet has the option (in a mask: whether that is matched).
    #[must_use]
    pub fn is_present(key: &Key, n: usize) -> bool {
        n < TUN_OPTIONS_MAX && u64::from_be_bytes(key.tun_metadata_present) >> n & 1 != 0
    }

    fn set_present(key: &mut Key, n: usize, present: bool) {
        let map = u64::from_be_bytes(key.tun_metadata_present);
        let bit = 1 << n;
        key.tun_metadata_present = if present { map | bit } else { map & !bit }.to_be_bytes();
    }

    /// The option's value; zero when it has no place.
    #[must_use]
    pub fn get(&self, key: &Key, n: usize) -> Value {
        let Some(option) = self.option(n) else {
            return Value::ZERO;
        };
        Value::from_be_bytes(&option.read(key)[..option.bytes])
    }

    /// Sets the option's value and marks it as present; false when it has no place.
    pub fn set(&self, key: &mut Key, n: usize, value: &Value) -> bool {
        let Some(option) = self.option(n) else {
            return false;
        };
        let bytes = value.to_be_bytes();
        option.write(key, &bytes[VALUE_BYTES_MAX - option.bytes..]);
        Self::set_present(key, n, true);
        true
    }

    /// Removes the option from the packet.
    pub fn clear(&self, key: &mut Key, n: usize) {
        if let Some(option) = self.option(n) {
            option.write(key, &[0; TUN_OPTION_BYTES_MAX][..option.bytes]);
            Self::set_present(key, n, false);
        }
    }

    /// Datapath form to pipeline form: options as on the wire become fields; those not mapped are left out.
    pub fn from_wire(&self, key: &mut Key) {
        if key.tun_metadata_present == [0; 8] {
            return;
        }
        let wire = wire_of(key);
        key.tun_metadata = [0; TUN_METADATA_BYTES];
        key.tun_metadata_present = [0; 8];
        for (class, kind, data) in split(&wire) {
            if let Some(n) = self.find(class, kind)
                && self.option(n).is_some_and(|o| o.bytes == data.len())
            {
                self.set(key, n, &Value::from_be_bytes(data));
            }
        }
    }

    /// Pipeline form to datapath form: the options that are present, as on the wire, by number.
    pub fn to_wire(&self, key: &mut Key) {
        let mut wire = Vec::with_capacity(TUN_METADATA_BYTES);
        for (n, option) in self.iter().filter(|(n, _)| Self::is_present(key, *n)) {
            let [high, low] = option.class.to_be_bytes();
            debug_assert!(n < TUN_OPTIONS_MAX);
            if wire.len() + HEADER_BYTES + option.bytes <= TUN_METADATA_BYTES {
                wire.extend([high, low, option.kind, words(option.bytes)]);
                wire.extend(&option.read(key)[..option.bytes]);
            }
        }
        put_wire(key, &wire);
    }

    /// The mask of a packet's options in datapath form (`wire_key`), from a mask in pipeline form: which options there are, in which
    /// order (a datapath matches by their place), and the bits matched of their values.
    pub fn mask_to_wire(&self, wire_key: &Key, mask: &mut Mask) {
        let wire = wire_of(wire_key);
        let mut bits = Vec::with_capacity(wire.len());
        for (class, kind, data) in split(&wire) {
            let n = self.find(class, kind).filter(|n| Self::is_present(mask, *n));
            bits.extend([0xff, 0xff, 0xff, 0x1f]);
            match n.and_then(|n| self.option(n)).filter(|o| o.bytes == data.len()) {
                Some(option) => bits.extend(&option.read(mask)[..option.bytes]),
                None => bits.resize(bits.len() + data.len(), 0),
            }
        }
        let any = mask.tun_metadata_present != [0; 8] || !wire.is_empty();
        put_wire(mask, &bits);
        mask.tun_metadata_present = if any { [0xff; 8] } else { [0; 8] };
    }
}

impl TunOption {
    fn chunk_starts(&self) -> impl Iterator<Item = usize> {
        let chunks = self.chunks;
        (0..64usize).filter(move |n| chunks >> n & 1 != 0).map(|n| n * CHUNK_BYTES)
    }

    fn read(&self, key: &Key) -> [u8; TUN_OPTION_BYTES_MAX + CHUNK_BYTES] {
        let mut out = [0; TUN_OPTION_BYTES_MAX + CHUNK_BYTES];
        for (to, at) in out.chunks_exact_mut(CHUNK_BYTES).zip(self.chunk_starts()) {
            to.copy_from_slice(&key.tun_metadata[at..at + CHUNK_BYTES]);
        }
        out
    }

    fn write(&self, key: &mut Key, value: &[u8]) {
        for (from, at) in value.chunks(CHUNK_BYTES).zip(self.chunk_starts()) {
            let mut chunk = [0; CHUNK_BYTES];
            chunk[..from.len()].copy_from_slice(from);
            key.tun_metadata[at..at + CHUNK_BYTES].copy_from_slice(&chunk);
        }
    }
}

fn words(bytes: usize) -> u8 {
    u8::try_from(bytes / CHUNK_BYTES).unwrap_or(0)
}

/// The options of a key in datapath form.
fn wire_of(key: &Key) -> Vec<u8> {
    let len = usize::try_from(u64::from_be_bytes(key.tun_metadata_present)).unwrap_or(0);
    key.tun_metadata[..len.min(TUN_METADATA_BYTES)].to_vec()
}

fn put_wire(key: &mut Key, wire: &[u8]) {
    key.tun_metadata = [0; TUN_METADATA_BYTES];
    key.tun_metadata[..wire.len()].copy_from_slice(wire);
    key.tun_metadata_present = (wire.len() as u64).to_be_bytes();
}

/// Class, type and data of each whole option.
fn split(mut wire: &[u8]) -> impl Iterator<Item = (u16, u8, &[u8])> {
    std::iter::from_fn(move || {
        let (header, rest) = wire.split_at_checked(HEADER_BYTES)?;
        let (data, rest) = rest.split_at_checked(usize::from(header[3] & 0x1f) * CHUNK_BYTES)?;
        wire = rest;
        Some((u16::from_be_bytes([header[0], header[1]]), header[2], data))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_go_to_the_wire_and_back() {
        let mut map = TunnelOptions::default();
        map.add(0, 0xffff, 1, 4).unwrap();
        map.add(1, 0xffff, 2, 124).unwrap();
        map.add(2, 0xffff, 3, 124).unwrap();
        assert_eq!(map.add(3, 0xffff, 4, 8), Err(TunOptionError::Full(8)));
        assert!(map.remove(1));
        map.add(5, 1, 1, 8).unwrap();
        assert_eq!(map.add(6, 1, 1, 8), Err(TunOptionError::Duplicate { class: 1, kind: 1 }));
        assert_eq!(map.add(5, 2, 1, 8), Err(TunOptionError::AlreadyMapped(5)));
        assert_eq!(map.add(5, 1, 1, 8), Err(TunOptionError::AlreadyMapped(5)), "the place counts before the option");
        assert_eq!(map.add(7, 2, 1, 3), Err(TunOptionError::BadLength(3)));
        let mut key = Key::ZERO;
        map.set(&mut key, 5, &Value::from(0x1122_3344_5566_7788));
        map.set(&mut key, 0, &Value::from(7));
        let mut wire = key;
        map.to_wire(&mut wire);
        assert_eq!(&wire.tun_metadata[..8], [0xff, 0xff, 1, 1, 0, 0, 0, 7]);
        assert_eq!(wire.tun_metadata_present, 20u64.to_be_bytes());
        let mut mask = Key::ZERO;
        map.set(&mut mask, 5, &Value::from(0xff));
        map.mask_to_wire(&wire, &mut mask);
        assert_eq!(
            &mask.tun_metadata[..20],
            [0xff, 0xff, 0xff, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0xff]
        );
        let mut back = wire;
        map.from_wire(&mut back);
        assert!(back == key);
        map.clear(&mut back, 5);
        assert_eq!(map.get(&back, 5), Value::ZERO);
        assert!(!TunnelOptions::is_present(&back, 5) && TunnelOptions::is_present(&back, 0));
    }

    #[test]
    fn odd_lengths_keep_their_bytes() {
        let mut map = TunnelOptions::default();
        map.add_unmapped(9, 7).unwrap();
        let mut key = Key::ZERO;
        let value = Value::from(0x01_0203_0405_0607);
        map.set(&mut key, 9, &value);
        assert_eq!(map.get(&key, 9), value);
        assert_eq!(map.used(), 8);
    }
}
