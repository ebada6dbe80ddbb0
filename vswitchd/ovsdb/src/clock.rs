//! The wall clock, for the dates in the journal. Nothing is decided by it.

/// Milliseconds since 1970.
#[allow(clippy::disallowed_methods, reason = "journal records carry the date; no decision depends on it")]
pub(crate) fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
