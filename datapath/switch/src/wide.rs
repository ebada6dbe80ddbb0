//! Whether this processor runs the wide form of the stages that go over a batch: AVX2 and the bit instructions that came with it; and whether it
//! has vectors of a whole line besides, whose bytes it permutes: AVX-512 with VBMI, for the few stages that gain by it (`parse`, `few`, `groups`,
//! `ct::sums`), and products of 52 bits besides (`ct::eight`).
//!
//! What enters: nothing. What leaves: a yes or no, found once at start. Neighbours: `forward`, `lookup`, `search`, whose loops exist twice: made
//! of one source, compiled once for every x86-64 processor and once for those that have these features. Where the wide form
//! differs in more than the compiler's choice of instructions (`Line::equals_masked_avx2`, `LineHash`) a test holds it to its plain twin, and
//! `search` has a test that both find the same.

/// Whether forms that take a line at once may be called, where `on` says yes.
#[cfg(target_arch = "x86_64")]
#[inline]
#[must_use]
pub(crate) fn lines() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && has!("avx512vbmi")
}

/// Whether forms that multiply eight words at a time may be called, where `on` says yes.
#[cfg(target_arch = "x86_64")]
#[inline]
#[must_use]
pub(crate) fn products() -> bool {
    lines() && std::arch::is_x86_feature_detected!("avx512ifma")
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
