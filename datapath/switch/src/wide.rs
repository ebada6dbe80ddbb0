//! Whether this processor runs the wide form of the stages that go over a batch: AVX2 and the bit instructions that came with it; and whether it
//! has vectors of a whole line besides, whose bytes it permutes: AVX-512 with VBMI, for the few stages that gain by it (`parse`, `few`, `groups`,
//! `ct::sums`), and products of 52 bits besides (`ct::eight`).
//!
//! What enters: nothing. What leaves: a yes or no, found once at start. Neighbours: `forward`, `lookup`, `search`, whose loops exist twice: made
//! of one source, compiled once for every x86-64 processor and once for those that have these features. Where the wide form
//! differs in more than the compiler's choice of instructions (`Line::equals_masked_avx2`, `LineHash`) a test holds it to its plain twin, and
//! `search` has a test that both find the same.

#[cfg(target_arch = "x86_64")]
use std::sync::atomic::{AtomicU8, Ordering};

/// Whether forms that take a line at once may be called, where `on` says yes.
#[cfg(target_arch = "x86_64")]
#[inline]
#[must_use]
pub(crate) fn lines() -> bool {
    found() & LINES != 0
}

/// Whether forms that multiply eight words at a time may be called, where `on` says yes.
#[cfg(target_arch = "x86_64")]
#[inline]
#[must_use]
pub(crate) fn products() -> bool {
    found() & PRODUCTS != 0
}

#[cfg(target_arch = "x86_64")]
const FOUND: u8 = 1;
#[cfg(target_arch = "x86_64")]
const LINES: u8 = 1 << 1;
#[cfg(target_arch = "x86_64")]
const PRODUCTS: u8 = 1 << 2;

/// What the processor has, in one load: several rooms ask in each batch, and each feature asked for by itself is a load and a branch.
#[cfg(target_arch = "x86_64")]
#[inline]
fn found() -> u8 {
    match ANSWER.load(Ordering::Relaxed) {
        0 => find(),
        found => found,
    }
}

/// What `find` has said, 0 before.
#[cfg(target_arch = "x86_64")]
static ANSWER: AtomicU8 = AtomicU8::new(0);

#[cfg(target_arch = "x86_64")]
#[cold]
fn find() -> u8 {
    use std::arch::is_x86_feature_detected as has;
    let lines = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && has!("avx512vbmi");
    let products = lines && has!("avx512ifma");
    let found = FOUND | (u8::from(lines) * LINES) | (u8::from(products) * PRODUCTS);
    ANSWER.store(found, Ordering::Relaxed);
    found
}

/// Whether the wide forms may be called.
#[inline]
#[must_use]
pub fn on() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        has!("avx2") && has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("popcnt") && has!("aes")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}
