//! What the configuration room has to say about a configuration. A pass builds the whole configuration anew, so the same fault is
//! found again in each pass: it is logged when it appears, and again only after it had gone.

use std::collections::BTreeSet;

/// How bad.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    Error,
    Warning,
    Information,
    Debug,
}

/// What one pass found.
#[derive(Debug, Default)]
pub struct Complaints(BTreeSet<(Severity, String)>);

impl Complaints {
    /// ERR in the log.
    pub fn error(&mut self, text: String) {
        self.0.insert((Severity::Error, text));
    }

    /// WARN in the log.
    pub fn warn(&mut self, text: String) {
        self.0.insert((Severity::Warning, text));
    }

    /// INFO in the log.
    pub fn info(&mut self, text: String) {
        self.0.insert((Severity::Information, text));
    }

    /// DBG in the log.
    pub fn debug(&mut self, text: String) {
        self.0.insert((Severity::Debug, text));
    }

    /// Logs what was not there in the pass before.
    pub fn log(&self, before: &Self) {
        for (severity, text) in self.0.difference(&before.0) {
            match severity {
                Severity::Error => tracing::error!(target: "bridge", "{text}"),
                Severity::Warning => tracing::warn!(target: "bridge", "{text}"),
                Severity::Information => tracing::info!(target: "bridge", "{text}"),
                Severity::Debug => tracing::debug!(target: "bridge", "{text}"),
            }
        }
    }

    /// The texts, for tests.
    pub fn texts(&self) -> Vec<&str> {
        self.0.iter().map(|(_, text)| text.as_str()).collect()
    }
}
