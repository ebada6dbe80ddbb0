//! Atoms: the five scalar types of RFC 7047 section 3.2.

use crate::error::{Error, Result};
use crate::json;
use serde_json::Value;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use uuid::Uuid;

/// The type of an atom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtomicType {
    /// 64-bit signed.
    Integer,
    /// 64-bit IEEE 754, finite.
    Real,
    /// True or false.
    Boolean,
    /// UTF-8.
    String,
    /// A row's identity, or any other UUID.
    Uuid,
}

impl AtomicType {
    /// The schema's name of the type.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Uuid => "uuid",
        }
    }

    /// The type of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Integer, Self::Real, Self::Boolean, Self::String, Self::Uuid].into_iter().find(|t| t.as_str() == name)
    }

    /// The value that a column has when nobody set it (RFC 7047 section 5.2.1).
    #[must_use]
    pub fn default_atom(self) -> Atom {
        match self {
            Self::Integer => Atom::Integer(0),
            Self::Real => Atom::Real(0.0),
            Self::Boolean => Atom::Boolean(false),
            Self::String => Atom::String(Arc::from("")),
            Self::Uuid => Atom::Uuid(Uuid::nil()),
        }
    }
}

/// One scalar value.
#[derive(Clone, Debug)]
pub enum Atom {
    /// An integer.
    Integer(i64),
    /// A real; never NaN.
    Real(f64),
    /// A boolean.
    Boolean(bool),
    /// A string.
    String(Arc<str>),
    /// A UUID.
    Uuid(Uuid),
}

impl Atom {
    /// Its type.
    #[must_use]
    pub fn atomic_type(&self) -> AtomicType {
        match self {
            Self::Integer(_) => AtomicType::Integer,
            Self::Real(_) => AtomicType::Real,
            Self::Boolean(_) => AtomicType::Boolean,
            Self::String(_) => AtomicType::String,
            Self::Uuid(_) => AtomicType::Uuid,
        }
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            Self::Integer(_) | Self::Real(_) | Self::Boolean(_) | Self::Uuid(_) => None,
        }
    }

    /// The integer, if it is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Integer(i) => Some(*i),
            Self::String(_) | Self::Real(_) | Self::Boolean(_) | Self::Uuid(_) => None,
        }
    }

    /// The boolean, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Boolean(b) => Some(*b),
            Self::String(_) | Self::Real(_) | Self::Integer(_) | Self::Uuid(_) => None,
        }
    }

    /// The real, if it is one.
    #[must_use]
    pub fn as_real(&self) -> Option<f64> {
        match self {
            Self::Real(x) => Some(*x),
            Self::String(_) | Self::Boolean(_) | Self::Integer(_) | Self::Uuid(_) => None,
        }
    }

    /// The UUID, if it is one.
    #[must_use]
    pub fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Self::Uuid(u) => Some(*u),
            Self::String(_) | Self::Boolean(_) | Self::Integer(_) | Self::Real(_) => None,
        }
    }

    /// Whether it is its type's default.
    #[must_use]
    pub fn is_default(&self) -> bool {
        match self {
            Self::Integer(i) => *i == 0,
            Self::Real(x) => *x == 0.0,
            Self::Boolean(b) => !*b,
            Self::String(s) => s.is_empty(),
            Self::Uuid(u) => u.is_nil(),
        }
    }

    /// RFC 7047 `<atom>`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Integer(i) => Value::from(*i),
            Self::Real(x) => json::real_value(*x),
            Self::Boolean(b) => Value::from(*b),
            Self::String(s) => Value::from(&**s),
            Self::Uuid(u) => uuid_json(u),
        }
    }

    /// Parses `<atom>` without looking at constraints. `names` resolves `["named-uuid", id]`; without it that is refused.
    pub fn from_json(atomic: AtomicType, json: &Value, names: Option<&mut dyn UuidNames>) -> Result<Self> {
        let atom = match atomic {
            AtomicType::Integer => json::integer(json).map(Self::Integer),
            AtomicType::Real => json.as_f64().map(|x| Self::Real(if x == 0.0 { 0.0 } else { x })),
            AtomicType::Boolean => json.as_bool().map(Self::Boolean),
            AtomicType::String => json.as_str().map(|s| Self::String(Arc::from(s))),
            AtomicType::Uuid => return uuid_from_json(json, names).map(Self::Uuid),
        };
        atom.ok_or_else(|| Error::syntax(json, format!("expected {}", atomic.as_str())))
    }
}

/// `["uuid", "..."]`.
#[must_use]
pub fn uuid_json(uuid: &Uuid) -> Value {
    Value::Array(vec![Value::from("uuid"), Value::from(uuid.to_string())])
}

/// The 36-character form and no other.
#[must_use]
pub fn parse_uuid(s: &str) -> Option<Uuid> {
    if s.len() == 36 { Uuid::try_parse(s).ok() } else { None }
}

/// Gives the UUIDs that a transaction's `uuid-name`s stand for.
pub trait UuidNames {
    /// The UUID for `name`, made up if this is the first time that `name` appears.
    fn resolve(&mut self, name: &str) -> Uuid;
}

/// `["TAG", value]`'s value if the tag is `tag` and `fits` accepts the value.
pub(crate) fn unwrap_tagged<'a>(json: &'a Value, tag: &str, fits: fn(&Value) -> bool) -> Option<&'a Value> {
    match json.as_array().map(Vec::as_slice) {
        Some([name, value]) if name.as_str() == Some(tag) && fits(value) => Some(value),
        Some(_) | None => None,
    }
}

fn uuid_from_json(json: &Value, names: Option<&mut dyn UuidNames>) -> Result<Uuid> {
    if let Some(text) = unwrap_tagged(json, "uuid", Value::is_string).and_then(Value::as_str) {
        return parse_uuid(text).ok_or_else(|| Error::syntax(json, format!("\"{text}\" is not a valid UUID")));
    }
    if let (Some(names), Some(name)) = (names, unwrap_tagged(json, "named-uuid", Value::is_string).and_then(Value::as_str)) {
        if !json::is_id(name) {
            return Err(Error::syntax(json, "named-uuid string is not a valid <id>"));
        }
        return Ok(names.resolve(name));
    }
    Err(Error::syntax(json, "expected [\"uuid\", <string>]"))
}

impl Ord for Atom {
    /// Order within one type; atoms of different types order by type (no column mixes them).
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Real(a), Self::Real(b)) => a.total_cmp(b),
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Uuid(a), Self::Uuid(b)) => a.cmp(b),
            (Self::Integer(_) | Self::Real(_) | Self::Boolean(_) | Self::String(_) | Self::Uuid(_), _) => {
                (self.atomic_type() as u8).cmp(&(other.atomic_type() as u8))
            }
        }
    }
}

impl PartialOrd for Atom {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Atom {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Atom {}

impl Hash for Atom {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Integer(i) => i.hash(state),
            Self::Real(x) => x.to_bits().hash(state),
            Self::Boolean(b) => b.hash(state),
            Self::String(s) => s.hash(state),
            Self::Uuid(u) => u.hash(state),
        }
    }
}

macro_rules! from {
    ($($ty:ty => |$v:ident| $e:expr),+ $(,)?) => {
        $(impl From<$ty> for Atom { fn from($v: $ty) -> Self { $e } })+
    };
}
from! {
    i64 => |v| Self::Integer(v),
    i32 => |v| Self::Integer(v.into()),
    u32 => |v| Self::Integer(v.into()),
    u16 => |v| Self::Integer(v.into()),
    f64 => |v| Self::Real(v),
    bool => |v| Self::Boolean(v),
    &str => |v| Self::String(Arc::from(v)),
    String => |v| Self::String(Arc::from(v)),
    &String => |v| Self::String(Arc::from(v.as_str())),
    Uuid => |v| Self::Uuid(v),
}
