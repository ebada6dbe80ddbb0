//! The first line of a common packet's key as one permutation of the first line of its frame.
//!
//! What enters: a frame of which it is known where what stands, apart from what TCP has. What leaves: the first line of its key. Neighbour: `parse` (the
//! caller), which puts that line together of four parts where the processor has no such vectors (`wide::lines`).

use crate::parsed::Parsed;
use flow::key::{Key, LINE_BYTES, VLAN_CFI};
use flow::wire::eth_type;
use std::arch::x86_64::{
    __m512i, _mm_set_epi64x, _mm512_inserti32x4, _mm512_loadu_si512, _mm512_maskz_loadu_epi8, _mm512_maskz_permutexvar_epi8,
    _mm512_setzero_si512, _mm512_storeu_si512, _mm512_ternarylogic_epi64,
};
use std::mem::offset_of;

/// Bytes of a frame that are looked at, of a packet over IPv4 and of one over IPv6.
pub(crate) const FOUR_BYTES: usize = 60;
pub(crate) const SIX_BYTES: usize = 64;
const TAG: usize = 4;

/// What packets of one kind have in common.
#[repr(C, align(64))]
struct Kind {
    /// Which byte of the frame is which of the line; those of `keep` only.
    from: [u8; LINE_BYTES],
    /// What is the same in all of them.
    add: [u8; LINE_BYTES],
    keep: u64,
}

/// Untagged and tagged.
static FOUR: [Kind; 2] = [kind(false, false), kind(false, true)];
static SIX: [Kind; 2] = [kind(true, false), kind(true, true)];

const fn kind(six: bool, tagged: bool) -> Kind {
    let ip = if tagged { 14 + TAG } else { 14 };
    let (proto, ttl, transport) = if six { (ip + 6, ip + 7, ip + 40) } else { (ip + 9, ip + 8, ip + 20) };
    let mut kind = Kind { from: [0; LINE_BYTES], add: [0; LINE_BYTES], keep: 0 }
        .with(offset_of!(Key, eth_dst), 0, 12)
        .with(offset_of!(Key, eth_type), ip - 2, 2)
        .with(offset_of!(Key, tp_src), transport, 4)
        .with(offset_of!(Key, nw_proto), proto, 1)
        .with(offset_of!(Key, nw_ttl), ttl, 1);
    if !six {
        kind = kind.with(offset_of!(Key, nw_tos), ip + 1, 1).with(offset_of!(Key, nw_src), ip + 12, 8);
    }
    if tagged {
        kind = kind.with(offset_of!(Key, vlan_tci), 14, 2);
        [kind.add[offset_of!(Key, vlan_tci)], _] = VLAN_CFI.to_be_bytes();
        let tpid = offset_of!(Key, vlan_tpid);
        [kind.add[tpid], kind.add[tpid + 1]] = eth_type::VLAN.to_be_bytes();
    }
    assert!(transport + 4 <= if six { SIX_BYTES } else { FOUR_BYTES });
    kind
}

impl Kind {
    /// The same with `n` bytes of the key that stand at `from` in the frame.
    const fn with(mut self, to: usize, from: usize, n: usize) -> Self {
        let mut i = 0;
        while i < n {
            #[allow(clippy::cast_possible_truncation, reason = "an offset in a line")]
            let at = (from + i) as u8;
            self.from[to + i] = at;
            self.keep |= 1 << (to + i);
            i += 1;
        }
        self
    }
}

/// Writes the line, of a packet over IPv6 without its traffic class. `common` are words 4 and 5, apart from what is the packet's own; `flags` are
/// TCP's, in the order of the frame.
///
/// # Safety
/// The processor is one that `wide::lines` says yes of, and of `frame` as many bytes may be read as are looked at.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(crate) unsafe fn write<const IS_SIX: bool>(
    frame: *const u8,
    tagged: bool,
    flags: u16,
    common: [u64; 2],
    parsed: &mut Parsed,
) {
    let kind = if IS_SIX { &SIX[usize::from(tagged)] } else { &FOUR[usize::from(tagged)] };
    let all = _mm512_inserti32x4::<2>(_mm512_setzero_si512(), _mm_set_epi64x(common[1].cast_signed(), common[0].cast_signed()));
    let bytes = u64::MAX >> (LINE_BYTES - if IS_SIX { SIX_BYTES } else { FOUR_BYTES });
    // SAFETY: so many bytes may be read, as the caller says.
    let frame = unsafe { _mm512_maskz_loadu_epi8(bytes, frame.cast()) };
    let own = _mm512_maskz_permutexvar_epi8(kind.keep, load(&kind.from), frame);
    let line = _mm512_ternarylogic_epi64::<ANY>(own, all, load(&kind.add));
    // SAFETY: a key is longer than a line.
    unsafe { _mm512_storeu_si512(parsed.key.words_mut().as_mut_ptr().cast(), line) };
    parsed.key.tcp_flags = flags.to_ne_bytes();
}

/// The truth table of "one of the three".
const ANY: i32 = 0xfe;

#[inline]
#[target_feature(enable = "avx512f")]
fn load(line: &[u8; LINE_BYTES]) -> __m512i {
    // SAFETY: a line is a vector.
    unsafe { _mm512_loadu_si512(line.as_ptr().cast()) }
}
