//! OVSDB errors: the `<error>` object of RFC 7047 section 3.1 with OVS's extra members.
//!
//! Every fault that a client may see is one [`Error`]: a [`Tag`] (the `error` member), the `details` sentence, and, for
//! faults in the text of a request, the offending JSON (`syntax`). Wording follows OVS, because tools and tests read it.

use serde_json::Value;
use std::fmt;

macro_rules! tags {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// The `error` member: what kind of fault it was.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Tag { $($(#[$doc])* $name),+ }

        impl Tag {
            /// The text on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

tags! {
    /// The request's text is malformed or names what is not there.
    Syntax = "syntax error",
    /// No database of that name is served here.
    UnknownDatabase = "unknown database",
    /// A row or condition names a column that the table lacks.
    UnknownColumn = "unknown column",
    /// A journal record names a table that the schema lacks.
    UnknownTable = "unknown table",
    /// A condition uses a function that does not exist.
    UnknownFunction = "unknown function",
    /// A mutation uses a mutator that does not exist.
    UnknownMutator = "unknown mutator",
    /// A file or a device failed.
    Io = "I/O error",
    /// A value, a row count, an index or an immutable column would be violated.
    Constraint = "constraint violation",
    /// A strong reference would dangle.
    Referential = "referential integrity violation",
    /// Division by zero.
    Domain = "domain error",
    /// An arithmetic result does not fit.
    Range = "range error",
    /// Two inserts of one transaction share a `uuid-name`.
    DuplicateUuidName = "duplicate uuid-name",
    /// An insert asks for a UUID that is taken.
    DuplicateUuid = "duplicate uuid",
    /// The transaction contained `abort`.
    Aborted = "aborted",
    /// An asserted lock is not held.
    NotOwner = "not owner",
    /// A `wait` was not satisfied in time.
    TimedOut = "timed out",
    /// Used inside the server for a `wait` that must be tried again.
    NotSupported = "not supported",
    /// Writing to a read-only database.
    NotAllowed = "not allowed",
    /// The client's role does not permit it.
    Permission = "permission error",
    /// A request was withdrawn.
    Canceled = "canceled",
    /// The request's parameters do not fit.
    InvalidParameters = "invalid parameters",
    /// The database's storage is inconsistent.
    Consistency = "consistency violation",
    /// A file is not what it should be.
    OvsdbError = "ovsdb error",
}

/// One OVSDB error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// The kind of fault.
    pub tag: Tag,
    /// A sentence for people.
    pub details: String,
    /// The offending JSON, with sorted members.
    pub syntax: Option<String>,
    /// The operating system's reason.
    pub io: Option<String>,
}

/// This crate's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A fault without offending text.
    pub fn new(tag: Tag, details: impl Into<String>) -> Self {
        Self { tag, details: details.into(), syntax: None, io: None }
    }

    /// A fault in the text `json` of a request.
    pub fn at(json: &Value, tag: Tag, details: impl Into<String>) -> Self {
        Self { syntax: Some(crate::json::to_sorted(json)), ..Self::new(tag, details) }
    }

    /// A syntax error in `json`.
    pub fn syntax(json: &Value, details: impl Into<String>) -> Self {
        Self::at(json, Tag::Syntax, details)
    }

    /// A constraint violation.
    pub fn constraint(details: impl Into<String>) -> Self {
        Self::new(Tag::Constraint, details)
    }

    /// A failed system call: `what` says on which file and what was tried.
    #[must_use]
    pub fn from_io(error: &std::io::Error, what: impl Into<String>) -> Self {
        let reason = match error.raw_os_error() {
            Some(code) => errno_text(code),
            None => error.to_string(),
        };
        Self { io: Some(reason), ..Self::new(Tag::Io, what) }
    }

    /// The `<error>` object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = serde_json::Map::new();
        object.insert("details".into(), Value::from(self.details.as_str()));
        object.insert("error".into(), Value::from(self.tag.as_str()));
        if let Some(io) = &self.io {
            object.insert("io-error".into(), Value::from(io.as_str()));
        }
        if let Some(syntax) = &self.syntax {
            object.insert("syntax".into(), Value::from(syntax.as_str()));
        }
        Value::Object(object)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(syntax) = &self.syntax {
            write!(f, "syntax \"{syntax}\": ")?;
        }
        write!(f, "{}: {}", self.tag.as_str(), self.details)?;
        match &self.io {
            Some(io) => write!(f, " ({io})"),
            None => Ok(()),
        }
    }
}

/// What the C library calls an error number (strerror(3)): what OVS's programs say.
#[must_use]
pub fn errno_text(code: i32) -> String {
    let text = std::io::Error::from_raw_os_error(code).to_string();
    text.strip_suffix(&format!(" (os error {code})")).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_named_as_the_c_library_names_them() {
        assert_eq!(errno_text(nix::errno::Errno::EAGAIN as i32), "Resource temporarily unavailable");
        assert_eq!(errno_text(nix::errno::Errno::ENOENT as i32), "No such file or directory");
    }
}
