//! Who is at the other end of a session, and what the remote that brought it allows.

use std::sync::Arc;
use std::time::Duration;

/// The other end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// The remote that brought the session, as it prints; empty for a stream that the caller made.
    pub(crate) remote: Arc<str>,
    /// Silence after which it is probed.
    pub(crate) probe: Option<Duration>,
    /// It may change nothing.
    pub(crate) read_only: bool,
    /// The role of the remote, if it has one.
    pub(crate) role: Option<Arc<str>>,
    /// The common name in its certificate.
    pub(crate) id: Option<Arc<str>>,
}

/// What a row says about its remote (ovsdb-server(1), "Database-configured remotes").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RemoteOptions {
    /// `Some(0)` is never.
    pub(crate) probe_ms: Option<u64>,
    pub(crate) backoff_max_ms: Option<u64>,
    pub(crate) read_only: bool,
    pub(crate) role: Option<String>,
}
