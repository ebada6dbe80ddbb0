//! Column types: base types with their constraints, and `<type>` of RFC 7047 section 3.2.

use crate::atom::{Atom, AtomicType};
use crate::datum::Datum;
use crate::error::{Error, Result};
use crate::json;
use crate::parser::{Kind, Parser};
use serde_json::Value;
use std::sync::Arc;

/// `max` of a set or map without limit.
pub const UNLIMITED: u32 = u32::MAX;

/// What a reference does to the row that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefType {
    /// Keeps the row alive and forbids its deletion.
    Strong,
    /// Vanishes with the row.
    Weak,
}

/// What values of a base type are limited to.
#[derive(Clone, Debug, PartialEq)]
pub enum Bounds {
    /// Nothing.
    None,
    /// `minInteger`, `maxInteger`.
    Integer {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// `minReal`, `maxReal`.
    Real {
        /// Smallest.
        min: f64,
        /// Largest.
        max: f64,
    },
    /// `minLength`, `maxLength`, in characters.
    Length {
        /// Shortest.
        min: u32,
        /// Longest.
        max: u32,
    },
    /// `refTable`, `refType`.
    Ref {
        /// The table referred to.
        table: Arc<str>,
        /// Strong or weak.
        kind: RefType,
    },
}

/// The type of a key or a value.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseType {
    /// The scalar type.
    pub atomic: AtomicType,
    /// The values allowed, if only some are.
    pub choices: Option<Datum>,
    /// Limits.
    pub bounds: Bounds,
}

/// The type of a column.
#[derive(Clone, Debug, PartialEq)]
pub struct Type {
    /// Type of the key, or of the only member.
    pub key: BaseType,
    /// Type of the value: present for maps.
    pub value: Option<BaseType>,
    /// Fewest members: 0 or 1.
    pub min: u32,
    /// Most members; [`UNLIMITED`].
    pub max: u32,
}

impl From<AtomicType> for BaseType {
    fn from(atomic: AtomicType) -> Self {
        Self { atomic, choices: None, bounds: Bounds::None }
    }
}

impl From<AtomicType> for Type {
    fn from(atomic: AtomicType) -> Self {
        Self { key: atomic.into(), value: None, min: 1, max: 1 }
    }
}

impl BaseType {
    /// Table and kind, if it is a reference.
    #[must_use]
    pub fn reference(&self) -> Option<(&Arc<str>, RefType)> {
        match &self.bounds {
            Bounds::Ref { table, kind } => Some((table, *kind)),
            Bounds::None | Bounds::Integer { .. } | Bounds::Real { .. } | Bounds::Length { .. } => None,
        }
    }

    /// Parses `<base-type>`.
    pub fn from_json(json: &Value) -> Result<Self> {
        if json.is_string() {
            return atomic_from_json(json).map(Self::from);
        }
        let mut p = Parser::new(json, "ovsdb type");
        let Some(atomic) = p.member("type", &[Kind::Str]) else {
            p.finish()?;
            return Err(never(json));
        };
        let atomic = atomic_from_json(atomic)?;
        let choices = match p.optional("enum", &[Kind::Any]) {
            Some(choices) => {
                let of = Type { key: atomic.into(), value: None, min: 1, max: UNLIMITED };
                Some(Datum::from_json(&of, choices, None)?)
            }
            None => None,
        };
        let bounds = if choices.is_some() { Bounds::None } else { bounds_from_json(atomic, &mut p)? };
        p.finish()?;
        Ok(Self { atomic, choices, bounds })
    }

    /// `<base-type>`, the short form where nothing is constrained.
    #[must_use]
    pub fn to_json(&self) -> Value {
        if self.is_unconstrained() {
            return Value::from(self.atomic.as_str());
        }
        let mut object = serde_json::Map::new();
        object.insert("type".into(), self.atomic.as_str().into());
        if let Some(choices) = &self.choices {
            object.insert("enum".into(), choices.to_json());
        }
        match &self.bounds {
            Bounds::None => {}
            Bounds::Integer { min, max } => {
                put_unless(&mut object, "minInteger", *min, i64::MIN);
                put_unless(&mut object, "maxInteger", *max, i64::MAX);
            }
            Bounds::Real { min, max } => {
                if *min > f64::MIN {
                    object.insert("minReal".into(), json::real_value(*min));
                }
                if *max < f64::MAX {
                    object.insert("maxReal".into(), json::real_value(*max));
                }
            }
            Bounds::Length { min, max } => {
                put_unless(&mut object, "minLength", *min, 0);
                put_unless(&mut object, "maxLength", *max, UNLIMITED);
            }
            Bounds::Ref { table, kind } => {
                object.insert("refTable".into(), Value::from(&**table));
                if *kind == RefType::Weak {
                    object.insert("refType".into(), Value::from("weak"));
                }
            }
        }
        Value::Object(object)
    }

    fn is_unconstrained(&self) -> bool {
        self.choices.is_none()
            && match &self.bounds {
                Bounds::None => true,
                Bounds::Integer { min, max } => *min == i64::MIN && *max == i64::MAX,
                Bounds::Real { min, max } => *min <= f64::MIN && *max >= f64::MAX,
                Bounds::Length { min, max } => *min == 0 && *max == UNLIMITED,
                Bounds::Ref { .. } => false,
            }
    }

    /// Whether `atom` obeys the constraints. References are checked at commit, not here.
    pub fn check(&self, atom: &Atom) -> Result<()> {
        if let Some(choices) = &self.choices
            && !choices.contains(atom)
        {
            return Err(Error::constraint(format!(
                "{} is not one of the allowed values ([{}])",
                atom.to_text(),
                choices.keys().iter().map(Atom::to_text).collect::<Vec<_>>().join(", ")
            )));
        }
        match (&self.bounds, atom) {
            (Bounds::Integer { min, max }, Atom::Integer(i)) => {
                let (has_min, has_max) = (*min != i64::MIN, *max != i64::MAX);
                check_range(i, min, max, (has_min, has_max), ToString::to_string)
            }
            (Bounds::Real { min, max }, Atom::Real(x)) => {
                let (has_min, has_max) = (*min > f64::MIN, *max < f64::MAX);
                check_range(x, min, max, (has_min, has_max), |x| json::format_g(*x, 15))
            }
            (Bounds::Length { min, max }, Atom::String(s)) => check_length(s, *min, *max),
            (Bounds::None | Bounds::Ref { .. } | Bounds::Integer { .. } | Bounds::Real { .. } | Bounds::Length { .. }, _) => {
                Ok(())
            }
        }
    }
}

fn check_range<T: PartialOrd>(x: &T, min: &T, max: &T, has: (bool, bool), text: fn(&T) -> String) -> Result<()> {
    if x >= min && x <= max {
        return Ok(());
    }
    let (x, min, max) = (text(x), text(min), text(max));
    Err(Error::constraint(match has {
        (true, true) => format!("{x} is not in the valid range {min} to {max} (inclusive)"),
        (true, false) => format!("{x} is less than minimum allowed value {min}"),
        (false, _) => format!("{x} is greater than maximum allowed value {max}"),
    }))
}

fn check_length(s: &str, min: u32, max: u32) -> Result<()> {
    let n = s.chars().count();
    if n < min as usize {
        return Err(Error::constraint(format!("\"{s}\" length {n} is less than minimum allowed length {min}")));
    }
    if n > max as usize {
        return Err(Error::constraint(format!("\"{s}\" length {n} is greater than maximum allowed length {max}")));
    }
    Ok(())
}

fn put_unless<T: PartialEq + Into<Value>>(object: &mut serde_json::Map<String, Value>, name: &str, x: T, default: T) {
    if x != default {
        object.insert(name.into(), x.into());
    }
}

/// For places that an earlier error return makes unreachable: still an error, never a panic.
fn never(json: &Value) -> Error {
    Error::syntax(json, "ovsdb type expected")
}

fn atomic_from_json(json: &Value) -> Result<AtomicType> {
    let name = json.as_str().ok_or_else(|| Error::syntax(json, "atomic-type expected"))?;
    AtomicType::from_name(name).ok_or_else(|| Error::syntax(json, format!("\"{name}\" is not an atomic-type")))
}

fn bounds_from_json(atomic: AtomicType, p: &mut Parser<'_>) -> Result<Bounds> {
    let json = p.json();
    Ok(match atomic {
        AtomicType::Integer => {
            let min = p.optional("minInteger", &[Kind::Integer]).and_then(json::integer).unwrap_or(i64::MIN);
            let max = p.optional("maxInteger", &[Kind::Integer]).and_then(json::integer).unwrap_or(i64::MAX);
            if min > max {
                return Err(Error::syntax(json, "minInteger exceeds maxInteger"));
            }
            Bounds::Integer { min, max }
        }
        AtomicType::Real => {
            let min = p.optional("minReal", &[Kind::Number]).and_then(Value::as_f64).unwrap_or(f64::MIN);
            let max = p.optional("maxReal", &[Kind::Number]).and_then(Value::as_f64).unwrap_or(f64::MAX);
            if min > max {
                return Err(Error::syntax(json, "minReal exceeds maxReal"));
            }
            Bounds::Real { min, max }
        }
        AtomicType::Boolean => Bounds::None,
        AtomicType::String => {
            let min = length_from_json(p, "minLength", 0)?;
            let max = length_from_json(p, "maxLength", UNLIMITED)?;
            if min > max {
                return Err(Error::syntax(json, "minLength exceeds maxLength"));
            }
            Bounds::Length { min, max }
        }
        AtomicType::Uuid => {
            let table = p.optional("refTable", &[Kind::Id]).and_then(Value::as_str);
            // `refType` means something only beside `refTable`; OVS refuses it elsewhere as an unknown member.
            match table {
                Some(table) => {
                    let kind = match p.optional("refType", &[Kind::Id]).and_then(Value::as_str) {
                        None | Some("strong") => RefType::Strong,
                        Some("weak") => RefType::Weak,
                        Some(other) => {
                            let text = format!("refType must be \"strong\" or \"weak\" (not \"{other}\")");
                            return Err(Error::syntax(json, text));
                        }
                    };
                    Bounds::Ref { table: Arc::from(table), kind }
                }
                None => Bounds::None,
            }
        }
    })
}

fn length_from_json(p: &mut Parser<'_>, name: &'static str, default: u32) -> Result<u32> {
    match p.optional(name, &[Kind::Integer]).and_then(json::integer) {
        None => Ok(default),
        Some(n) => u32::try_from(n).map_err(|_| Error::syntax(p.json(), format!("{name} out of valid range 0 to {}", u32::MAX))),
    }
}

impl Type {
    /// Exactly one member, no map.
    #[must_use]
    pub fn is_scalar(&self) -> bool {
        self.value.is_none() && self.min == 1 && self.max == 1
    }

    /// Zero or one member, no map.
    #[must_use]
    pub fn is_optional(&self) -> bool {
        self.value.is_none() && self.min == 0 && self.max == 1
    }

    /// Anything but a scalar and a map.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.value.is_none() && (self.min != 1 || self.max != 1)
    }

    /// Has values beside keys.
    #[must_use]
    pub fn is_map(&self) -> bool {
        self.value.is_some()
    }

    /// More than one member is possible: changes to it travel as differences.
    #[must_use]
    pub fn is_composite(&self) -> bool {
        self.max > 1
    }

    /// The same type with no limits on the number of members.
    #[must_use]
    pub fn relaxed(&self) -> Self {
        Self { min: 0, max: UNLIMITED, ..self.clone() }
    }

    /// [`Type::relaxed`] for a composite type; any other type as it is, so that differences keep their meaning.
    #[must_use]
    pub fn relaxed_if_composite(&self) -> Self {
        if self.is_composite() { self.relaxed() } else { self.clone() }
    }

    /// What a column holds when nobody set it.
    #[must_use]
    pub fn default_datum(&self) -> Datum {
        match (self.min, &self.value) {
            (0, None) => Datum::empty_set(),
            (0, Some(_)) => Datum::empty_map(),
            (_, None) => Datum::from(self.key.atomic.default_atom()),
            (_, Some(value)) => Datum::map([(self.key.atomic.default_atom(), value.atomic.default_atom())]),
        }
    }

    /// The type in words, as OVS's error texts have it.
    #[must_use]
    pub fn to_english(&self) -> String {
        if self.is_scalar() {
            return self.key.atomic.as_str().to_owned();
        }
        let count = match (self.min, self.max) {
            (0, UNLIMITED) => " of".to_owned(),
            (min, UNLIMITED) => format!(" of {min} or more"),
            (0, max) => format!(" of up to {max}"),
            (min, max) => format!(" of {min} to {max}"),
        };
        let key = self.key.atomic.as_str();
        match &self.value {
            None => format!("set{count} {key}s"),
            Some(value) => format!("map{count} ({key}, {}) pairs", value.atomic.as_str()),
        }
    }

    /// Parses `<type>`.
    pub fn from_json(json: &Value) -> Result<Self> {
        if json.is_string() {
            return Ok(Self { key: BaseType::from_json(json)?, value: None, min: 1, max: 1 });
        }
        if !json.is_object() {
            return Err(Error::syntax(json, "ovsdb type expected"));
        }
        let mut p = Parser::new(json, "ovsdb type");
        let key = p.member("key", &[Kind::Str, Kind::Object]);
        let value = p.optional("value", &[Kind::Str, Kind::Object]);
        let min = p.optional("min", &[Kind::Integer]);
        let max = p.optional("max", &[Kind::Integer, Kind::Str]);
        p.finish()?;
        let key = BaseType::from_json(key.ok_or_else(|| never(json))?)?;
        let value = value.map(BaseType::from_json).transpose()?;
        let min = min.map_or(Ok(1), count_from_json)?;
        let max = match max {
            Some(text) if text.as_str() == Some("unlimited") => UNLIMITED,
            Some(n) => count_from_json(n)?,
            None => 1,
        };
        if min > 1 || max < 1 {
            return Err(Error::syntax(json, "ovsdb type fails constraint checks"));
        }
        Ok(Self { key, value, min, max })
    }

    /// `<type>`, the short form for an unconstrained scalar.
    #[must_use]
    pub fn to_json(&self) -> Value {
        if self.is_scalar() && self.key.is_unconstrained() {
            return self.key.to_json();
        }
        let mut object = serde_json::Map::new();
        object.insert("key".into(), self.key.to_json());
        if let Some(value) = &self.value {
            object.insert("value".into(), value.to_json());
        }
        put_unless(&mut object, "min", self.min, 1);
        if self.max == UNLIMITED {
            object.insert("max".into(), Value::from("unlimited"));
        } else {
            put_unless(&mut object, "max", self.max, 1);
        }
        Value::Object(object)
    }
}

fn count_from_json(json: &Value) -> Result<u32> {
    json::integer(json)
        .and_then(|n| u32::try_from(n).ok())
        .filter(|n| *n < UNLIMITED)
        .ok_or_else(|| Error::syntax(json, "bad min or max value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OVS's ovsdb-types.at: a type in, the canonical type or the error out.
    #[test]
    fn types_read_and_print_as_in_ovs() {
        for (text, expect) in [
            (r#""integer""#, r#""integer""#),
            (r#"{"key":"real","min":1,"max":1}"#, r#""real""#),
            (r#"{"key":"boolean","min":0}"#, r#"{"key":"boolean","min":0}"#),
            (r#"{"key":"real","min":1,"max":"unlimited"}"#, r#"{"key":"real","max":"unlimited"}"#),
            (r#"{"key":"string","value":"uuid","min":0,"max":10}"#, r#"{"key":"string","max":10,"min":0,"value":"uuid"}"#),
            (
                r#"{"key":{"type":"string","enum":["set",["def","abc"]]}}"#,
                r#"{"key":{"enum":["set",["abc","def"]],"type":"string"}}"#,
            ),
            (r#"{"key":{"type":"real","maxReal":1e5}}"#, r#"{"key":{"maxReal":100000,"type":"real"}}"#),
            (r#"{"key":{"type":"integer","minInteger":5,"maxInteger":3}}"#, "minInteger exceeds maxInteger"),
            (r#"{"key":{"type":"string","maxLength":-1}}"#, "maxLength out of valid range 0 to 4294967295"),
            (r#"{"key":{"type":"uuid","refTable":"a-b-c"}}"#, "Parsing ovsdb type failed: Type mismatch for member 'refTable'."),
            (r#"{"key":{}}"#, "Parsing ovsdb type failed: Required 'type' member is missing."),
            (r#""void""#, "\"void\" is not an atomic-type"),
            (r#"{"key":"real","min":5,"max":3}"#, "ovsdb type fails constraint checks"),
            (r#"{"key":"real","max":-1}"#, "bad min or max value"),
            (r#"{"value":"integer"}"#, "Parsing ovsdb type failed: Required 'key' member is missing."),
        ] {
            let got = match Type::from_json(&serde_json::from_str(text).unwrap()) {
                Ok(t) => json::to_sorted(&t.to_json()),
                Err(e) => e.details,
            };
            assert_eq!(got, expect, "{text}");
        }
    }
}
