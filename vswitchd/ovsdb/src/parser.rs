//! Takes a JSON object apart member by member and reports faults in OVS's words.
//!
//! The first fault wins. [`Parser::finish`] refuses members that nobody asked for. The parser only reports; the caller
//! decides what a fault means (in a transaction a parse error takes precedence over any other error).

use crate::error::{Error, Result};
use crate::json;
use serde_json::Value;

/// The JSON types that a member may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Integer,
    Number,
    Str,
    Id,
    Array,
    Object,
    Any,
}

impl Kind {
    fn accepts(self, value: &Value) -> bool {
        match self {
            Self::Bool => value.is_boolean(),
            Self::Integer => json::integer(value).is_some(),
            Self::Number => value.is_number(),
            Self::Str => value.is_string(),
            Self::Id => value.as_str().is_some_and(json::is_id),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
            Self::Any => true,
        }
    }
}

/// One object under examination.
pub(crate) struct Parser<'a> {
    name: String,
    object: Option<&'a serde_json::Map<String, Value>>,
    json: &'a Value,
    used: Vec<&'static str>,
    error: Option<Error>,
}

impl<'a> Parser<'a> {
    pub(crate) fn new(json: &'a Value, name: impl Into<String>) -> Self {
        let mut parser = Self { name: name.into(), object: json.as_object(), json, used: Vec::new(), error: None };
        if parser.object.is_none() {
            // OVS shows no offending text here, since there is no object to show.
            parser.error = Some(Error::new(crate::Tag::Syntax, format!("Parsing {} failed: Object expected.", parser.name)));
        }
        parser
    }

    /// A member that must be there.
    pub(crate) fn member(&mut self, name: &'static str, kinds: &[Kind]) -> Option<&'a Value> {
        self.object?;
        let found = self.optional(name, kinds);
        if found.is_none() && self.object.is_some_and(|o| !o.contains_key(name)) {
            self.raise(&format!("Required '{name}' member is missing."));
        }
        found
    }

    /// A member that may be there.
    pub(crate) fn optional(&mut self, name: &'static str, kinds: &[Kind]) -> Option<&'a Value> {
        let value = self.object?.get(name)?;
        if kinds.iter().any(|k| k.accepts(value)) {
            self.used.push(name);
            Some(value)
        } else {
            self.raise(&format!("Type mismatch for member '{name}'."));
            None
        }
    }

    /// Records a fault unless there is one already.
    pub(crate) fn raise(&mut self, message: &str) {
        if self.error.is_none() {
            self.error = Some(Error::syntax(self.json, format!("Parsing {} failed: {message}", self.name)));
        }
    }

    /// The fault recorded so far.
    pub(crate) fn check(&self) -> Result<()> {
        self.error.clone().map_or(Ok(()), Err)
    }

    /// The object itself.
    pub(crate) fn json(&self) -> &'a Value {
        self.json
    }

    /// Ends the examination: no fault and no unused member.
    pub(crate) fn finish(mut self) -> Result<()> {
        if let (None, Some(object)) = (&self.error, self.object) {
            let mut unused: Vec<&str> = object.keys().map(String::as_str).filter(|k| !self.used.contains(k)).collect();
            unused.sort_unstable();
            match unused.as_slice() {
                [] => {}
                [one] => self.raise(&format!("Member '{one}' is present but not allowed here.")),
                [first, rest @ ..] => {
                    let s = if rest.len() > 1 { "s" } else { "" };
                    let n = rest.len();
                    self.raise(&format!("Member '{first}' and {n} other member{s} are present but not allowed here."));
                }
            }
        }
        self.error.map_or(Ok(()), Err)
    }
}
