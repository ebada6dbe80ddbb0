//! The software switch.

pub mod bundle;
pub mod cache;
pub mod classifier;
pub mod config;
pub mod counters;
pub mod edit;
pub mod execute;
pub mod flows;
pub mod forward;
pub mod hash;
pub mod memory;
pub mod meter;
pub mod outlets;
pub mod parsed;
pub mod program;
pub mod qsbr;
pub mod shape;
pub mod slots;
pub mod stats;
pub mod tags;
pub mod tunnel;
pub mod upcall;
pub mod worker;

/// Asks for a cache line that will be read soon. Never faults, whatever the address.
#[inline]
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it does not access memory in the sense of the language.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
