//! How a tool ends badly: the text for standard error and the exit code. The texts are OVS's, which scripts compare, so the place that
//! finds the fault words it, and there is nothing left to distinguish by variant further up but these few.

use std::fmt;
use std::io;

/// Why a tool stopped.
#[derive(Debug)]
pub enum Fault {
    /// To be printed as `PROGRAM: TEXT`; then exit with the code.
    Text { text: String, code: u8 },
    /// Everything has been said; exit with the code.
    Said(u8),
    /// Our output has no reader any more, or no room.
    Output(io::Error),
}

impl Fault {
    /// `PROGRAM: TEXT`, exit code 1.
    pub fn say(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), code: 1 }
    }

    /// `PROGRAM: TEXT (ERROR)`, exit code 1.
    pub fn because(text: impl fmt::Display, error: &io::Error) -> Self {
        Self::say(format!("{text} ({})", errno_text(error)))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { text, .. } => f.write_str(text),
            Self::Said(code) => write!(f, "exit code {code}"),
            Self::Output(error) => write!(f, "writing output: {error}"),
        }
    }
}

impl std::error::Error for Fault {}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<crate::getopt::GetoptError> for Fault {
    fn from(error: crate::getopt::GetoptError) -> Self {
        Self::say(error.to_string())
    }
}

/// The text of a system error, as strerror(3) and all of OVS's messages have it.
#[must_use]
pub fn errno_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => ovsdb::error::errno_text(code),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "End of file".to_owned(),
        None => error.to_string(),
    }
}

/// The text of an error that has been turned into words already, without Rust's `(os error 2)`.
#[must_use]
pub fn without_number(text: &str) -> String {
    match text.find(" (os error ") {
        Some(at) => {
            let tail = text[at + 1..].find(')').map_or("", |end| &text[at + 2 + end..]);
            format!("{}{tail}", &text[..at])
        }
        None => text.to_owned(),
    }
}
