//! Atoms and datums in the syntax of the command line (ovs-vsctl(8), "Database Values").
//!
//! What enters: an argument a person typed, or a datum. What leaves: the datum, or the text that ovs-vsctl prints.

use crate::atom::{Atom, AtomicType, UuidNames, parse_uuid};
use crate::datum::Datum;
use crate::json;
use crate::types::{BaseType, Type};
use std::sync::Arc;

/// Most integers that a range such as `1-100` may stand for.
pub const RANGE_MAX: i64 = 4096;

impl Atom {
    /// The text of the atom; strings are quoted where they could be taken for something else.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Integer(i) => i.to_string(),
            Self::Real(x) => json::format_g(*x, 15),
            Self::Boolean(b) => b.to_string(),
            Self::String(s) if needs_quotes(s) => serde_json::Value::from(&**s).to_string(),
            Self::String(s) => s.to_string(),
            Self::Uuid(u) => u.to_string(),
        }
    }

    /// The text of the atom without quotes, for scripts.
    #[must_use]
    pub fn to_bare(&self) -> String {
        match self {
            Self::String(s) => s.to_string(),
            Self::Integer(_) | Self::Real(_) | Self::Boolean(_) | Self::Uuid(_) => self.to_text(),
        }
    }

    /// Parses one atom as typed on a command line and checks it against `base`. `@name` stands for a row that the same
    /// command creates, if `names` is given. The error is the text for the user.
    pub fn from_text(base: &BaseType, s: &str, names: Option<&mut (dyn UuidNames + '_)>) -> Result<Self, String> {
        let atom = match base.atomic {
            AtomicType::Integer => {
                s.trim_ascii_start().parse().map(Self::Integer).map_err(|_| format!("\"{s}\" is not a valid integer or range"))?
            }
            AtomicType::Real => match s.trim_ascii_start().parse::<f64>() {
                Ok(x) if x.is_finite() => Self::Real(if x == 0.0 { 0.0 } else { x }),
                Ok(_) | Err(_) => return Err(format!("\"{s}\" is not a valid real number")),
            },
            AtomicType::Boolean => match s {
                "true" | "yes" | "on" | "1" => Self::Boolean(true),
                "false" | "no" | "off" | "0" => Self::Boolean(false),
                _ => {
                    return Err(format!("\"{s}\" is not a valid boolean (use \"true\" or \"false\")"));
                }
            },
            AtomicType::String => Self::String(Arc::from(string_from_text(s)?)),
            AtomicType::Uuid => match (s.starts_with('@'), names) {
                (true, Some(names)) => Self::Uuid(names.resolve(s)),
                _ => Self::Uuid(parse_uuid(s).ok_or_else(|| format!("\"{s}\" is not a valid UUID"))?),
            },
        };
        base.check(&atom).map_err(|e| e.to_string())?;
        Ok(atom)
    }
}

fn string_from_text(s: &str) -> Result<String, String> {
    if s.is_empty() {
        return Err("An empty string is not valid as input; use \"\" to represent the empty string".into());
    }
    if !s.starts_with('"') {
        return Ok(s.to_owned());
    }
    if s.len() < 2 || !s.ends_with('"') {
        return Err(format!("{s}: missing quote at end of quoted string"));
    }
    serde_json::from_str(s).map_err(|e| format!("{s}: {e}"))
}

fn needs_quotes(s: &str) -> bool {
    let mut bytes = s.bytes();
    let plain = bytes.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
        && bytes.all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.'));
    !plain || s == "true" || s == "false" || parse_uuid(s).is_some()
}

impl Datum {
    /// The text of the datum as ovs-vsctl prints it.
    #[must_use]
    pub fn to_text(&self, ty: &Type) -> String {
        let brackets = ty.max > 1 || self.is_empty();
        let (open, close) = if self.is_map() { ("{", "}") } else { ("[", "]") };
        let members: Vec<String> = self
            .keys()
            .iter()
            .enumerate()
            .map(|(i, k)| match self.values().get(i) {
                Some(v) => format!("{}={}", k.to_text(), v.to_text()),
                None => k.to_text(),
            })
            .collect();
        let members = members.join(", ");
        if brackets { format!("{open}{members}{close}") } else { members }
    }

    /// The text of the datum without quotes and brackets.
    #[must_use]
    pub fn to_bare(&self) -> String {
        let members: Vec<String> = self
            .keys()
            .iter()
            .enumerate()
            .map(|(i, k)| match self.values().get(i) {
                Some(v) => format!("{}={}", k.to_bare(), v.to_bare()),
                None => k.to_bare(),
            })
            .collect();
        members.join(" ")
    }

    /// Parses a value as typed on a command line (`[1, 2]`, `a=b,c=d`, `"x y"`) and checks it against `ty`. The error is
    /// the text for the user.
    pub fn from_text(ty: &Type, s: &str, mut names: Option<&mut (dyn UuidNames + '_)>) -> Result<Self, String> {
        let map = ty.is_map();
        let (open, close) = if map { ('{', '}') } else { ('[', ']') };
        let mut rest = s.trim_ascii_start();
        let end = match rest.chars().next() {
            Some(c) if c == open => {
                rest = rest[1..].trim_ascii_start();
                Some(close)
            }
            Some(_) => None,
            None if map => return Err("use \"{}\" to specify the empty map".into()),
            None => return Err("use \"[]\" to specify the empty set".into()),
        };
        let mut keys = Vec::new();
        let mut values = Vec::new();
        while let Some(c) = rest.chars().next().filter(|c| Some(*c) != end) {
            if is_delimiter(c) {
                return Err(format!("{s}: unexpected \"{c}\" parsing {}", ty.to_english()));
            }
            rest = member_from_text(ty, rest, &mut names, (&mut keys, &mut values))?;
            rest = rest.trim_ascii_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_ascii_start();
        }
        if let Some(close) = end {
            rest = rest.strip_prefix(close).ok_or_else(|| format!("{s}: missing \"{close}\" at end of data"))?;
            if !rest.trim_ascii_start().is_empty() {
                return Err(format!("{s}: trailing garbage after \"{close}\""));
            }
        }
        finish(ty, s, keys, values)
    }
}

fn finish(ty: &Type, s: &str, keys: Vec<Atom>, values: Vec<Atom>) -> Result<Datum, String> {
    let n = keys.len();
    let what = if ty.is_map() { "pair(s)" } else { "value(s)" };
    if n < ty.min as usize {
        return Err(format!("{s}: {n} {what} specified but the minimum number is {}", ty.min));
    }
    if n > ty.max as usize {
        return Err(format!("{s}: {n} {what} specified but the maximum number is {}", ty.max));
    }
    let datum = if ty.is_map() { Datum::map(keys.into_iter().zip(values)) } else { Datum::set(keys) };
    match (datum.len() == n, ty.is_map()) {
        (true, _) => Ok(datum),
        (false, true) => Err(format!("{s}: map contains duplicate key")),
        (false, false) => Err(format!("{s}: set contains duplicate value")),
    }
}

/// The characters that end a bare word.
fn is_delimiter(c: char) -> bool {
    matches!(c, ':' | '=' | ',' | '[' | ']' | '{' | '}' | '!' | '<' | '>')
}

fn member_from_text<'a>(
    ty: &Type,
    rest: &'a str,
    names: &mut Option<&mut (dyn UuidNames + '_)>,
    (keys, values): (&mut Vec<Atom>, &mut Vec<Atom>),
) -> Result<&'a str, String> {
    let (token, mut rest) = take_token(rest)?;
    let key = atom_from_token(&ty.key, token, names);
    if let (None, Err(_), Some((from, to))) = (&ty.value, &key, range_of(token)) {
        keys.extend(expand_range(&ty.key, token, from, to)?);
        return Ok(rest);
    }
    let key = key?;
    if let Some(value_type) = &ty.value {
        let Some(after) = rest.strip_prefix('=') else {
            return Err(format!("{}: missing \"=\" in \"key=value\"", key.to_text()));
        };
        let (token, after) = take_token(after)?;
        values.push(atom_from_token(value_type, token, names)?);
        rest = after;
    }
    keys.push(key);
    Ok(rest)
}

fn atom_from_token(base: &BaseType, token: &str, names: &mut Option<&mut (dyn UuidNames + '_)>) -> Result<Atom, String> {
    match names {
        Some(names) => Atom::from_text(base, token, Some(&mut **names)),
        None => Atom::from_text(base, token, None),
    }
}

/// `FROM-TO` of integers.
fn range_of(token: &str) -> Option<(i64, i64)> {
    let (from, to) = token.split_at_checked(1).and_then(|(_, tail)| {
        let dash = tail.find('-')? + 1;
        Some((&token[..dash], &token[dash + 1..]))
    })?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

fn expand_range(base: &BaseType, token: &str, from: i64, to: i64) -> Result<Vec<Atom>, String> {
    if base.atomic != AtomicType::Integer {
        return Err(format!("\"{token}\" is not a valid {}", base.atomic.as_str()));
    }
    if to < from {
        return Err(format!("\"{token}\" is not a valid range. Range end cannot be before start."));
    }
    if to.checked_sub(from).is_none_or(|n| n >= RANGE_MAX) {
        return Err(format!("constraint violation: Range \"{from}-{to}\" is too big. Maximum allowed size is {RANGE_MAX}."));
    }
    let atoms: Vec<Atom> = (from..=to).map(Atom::Integer).collect();
    atoms.iter().try_for_each(|a| base.check(a)).map_err(|e| e.to_string())?;
    Ok(atoms)
}

/// Takes a bare word or a quoted string off the front of `s`.
fn take_token(s: &str) -> Result<(&str, &str), String> {
    if let Some(body) = s.strip_prefix('"') {
        let mut escaped = false;
        for (i, c) in body.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => return Ok(s.split_at(i + 2)),
                _ => {}
            }
        }
        return Err(format!("{s}: missing quote at end of quoted string"));
    }
    let end = s.find(|c: char| is_delimiter(c) || c.is_ascii_whitespace()).unwrap_or(s.len());
    Ok(s.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(ty: serde_json::Value, text: &str, expect: &str) {
        let ty = Type::from_json(&ty).unwrap();
        let got = Datum::from_text(&ty, text, None).map_or_else(|e| e, |d| d.to_text(&ty));
        assert_eq!(got, expect, "{text}");
    }

    #[test]
    fn values_as_on_the_command_line() {
        let ints = json!({"key": "integer", "min": 0, "max": "unlimited"});
        let map = json!({"key": "string", "value": "string", "min": 0, "max": "unlimited"});
        check(ints.clone(), "[3, 1,2]", "[1, 2, 3]");
        check(ints.clone(), "1-4,7", "[1, 2, 3, 4, 7]");
        check(ints.clone(), "-1", "[-1]");
        check(ints.clone(), "[]", "[]");
        check(ints.clone(), "5-3", "\"5-3\" is not a valid range. Range end cannot be before start.");
        check(ints.clone(), "x", "\"x\" is not a valid integer or range");
        check(ints, "1,1", "1,1: set contains duplicate value");
        check(map.clone(), "a=b,\"c d\"=\"x=y\"", "{a=b, \"c d\"=\"x=y\"}");
        check(map.clone(), "{}", "{}");
        check(map, "a", "a: missing \"=\" in \"key=value\"");
        check(json!("string"), "\"br 0\"", "\"br 0\"");
        check(json!("boolean"), "on", "true");
        check(json!({"key": "string", "min": 0}), "[]", "[]");
        check(json!({"key": "string", "min": 0}), "br-int", "br-int");
    }
}
