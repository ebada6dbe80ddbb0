//! Why a measurement could not be made.

use std::path::PathBuf;

/// Why a scenario gives no figure. The harness prints it, leaves the row empty and goes on.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The system refused something.
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    /// A command did not succeed.
    #[error("{command}: {said}")]
    Command { command: String, said: String },
    /// A daemon did not come up, or something else did not happen in time.
    #[error("waited in vain for {0}")]
    Late(String),
    /// An answer that should contain a figure does not.
    #[error("{from}: no {what} in: {text}")]
    Answer { from: &'static str, what: &'static str, text: String },
    /// A program that has to be built or installed first.
    #[error("{} is missing; {hint}", path.display())]
    Missing { path: PathBuf, hint: &'static str },
    /// SIGINT or SIGTERM came.
    #[error("interrupted")]
    Interrupted,
    /// The switch did something else than the scenario is about.
    #[error("{0}")]
    Wrong(String),
}

impl BenchError {
    /// Says what was being done when the system refused.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
