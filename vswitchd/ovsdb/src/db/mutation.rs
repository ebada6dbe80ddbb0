//! Mutations: changing a column in place (RFC 7047 section 5.1, `<mutation>`).

use super::Row;
use crate::atom::{Atom, AtomicType, UuidNames};
use crate::datum::Datum;
use crate::error::{Error, Result, Tag};
use crate::schema::TableSchema;
use crate::types::{BaseType, Type, UNLIMITED};
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutator {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Insert,
    Delete,
}

impl Mutator {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "+=" => Self::Add,
            "-=" => Self::Sub,
            "*=" => Self::Mul,
            "/=" => Self::Div,
            "%=" => Self::Mod,
            "insert" => Self::Insert,
            "delete" => Self::Delete,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Add => "+=",
            Self::Sub => "-=",
            Self::Mul => "*=",
            Self::Div => "/=",
            Self::Mod => "%=",
            Self::Insert => "insert",
            Self::Delete => "delete",
        }
    }
}

/// One mutation of one column.
#[derive(Clone, Debug)]
pub struct Mutation {
    column: usize,
    mutator: Mutator,
    arg: Datum,
}

impl Mutation {
    /// Number of the column that it changes.
    pub(super) fn column(&self) -> usize {
        self.column
    }

    /// Parses `[column, mutator, value]`.
    pub fn from_json(schema: &TableSchema, json: &Value, names: &mut dyn UuidNames) -> Result<Self> {
        let Some([Value::String(column_name), Value::String(mutator_name), arg]) = json.as_array().map(Vec::as_slice) else {
            return Err(Error::syntax(json, "Parse error in mutation."));
        };
        let column = schema
            .column(column_name)
            .ok_or_else(|| Error::at(json, Tag::UnknownColumn, format!("No column {column_name} in table {}.", schema.name)))?;
        if !schema.columns[column].mutable {
            let text = format!("Cannot mutate immutable column {column_name} in table {}.", schema.name);
            return Err(Error::at(json, Tag::Constraint, text));
        }
        let mutator = Mutator::from_name(mutator_name)
            .ok_or_else(|| Error::new(Tag::UnknownMutator, format!("No mutator named {mutator_name}.")))?;
        let ty = &schema.columns[column].ty;
        let fits = match mutator {
            Mutator::Add | Mutator::Sub | Mutator::Mul | Mutator::Div => !ty.is_map() && is_number(ty, false),
            Mutator::Mod => !ty.is_map() && is_number(ty, true),
            Mutator::Insert | Mutator::Delete => ty.is_set() || ty.is_map(),
        };
        if !fits {
            let text = format!(
                "Type mismatch: \"{mutator_name}\" operator may not be applied to column {column_name} of type {}.",
                ty.to_english()
            );
            return Err(Error::syntax(json, text));
        }
        Ok(Self { column, mutator, arg: argument(ty, mutator, arg, names)? })
    }

    /// Changes `row`.
    pub fn execute(&self, schema: &TableSchema, row: &mut Row) -> Result<()> {
        let ty = &schema.columns[self.column].ty;
        let field = &mut row.fields[self.column];
        *field = match self.mutator {
            Mutator::Insert => field.union(&self.arg),
            Mutator::Delete => field.subtract(&self.arg),
            Mutator::Add | Mutator::Sub | Mutator::Mul | Mutator::Div | Mutator::Mod => {
                return self.calculate(ty, field);
            }
        };
        let n = field.len();
        if n < ty.min as usize || n > ty.max as usize {
            return Err(Error::constraint(format!("Attempted to store {n} elements in {}.", ty.to_english())));
        }
        Ok(())
    }

    fn calculate(&self, ty: &Type, field: &mut Datum) -> Result<()> {
        let Some(arg) = self.arg.as_atom() else {
            return Ok(());
        };
        let mut results = Vec::with_capacity(field.len());
        for atom in field.keys() {
            results.push(self.calculate_atom(atom, arg)?);
        }
        results.iter().try_for_each(|a| ty.key.check(a))?;
        let result = Datum::set(results);
        if result.len() != field.len() {
            let text = format!("Result of \"{}\" operation contains duplicates.", self.mutator.name());
            return Err(Error::constraint(text));
        }
        *field = result;
        Ok(())
    }

    fn calculate_atom(&self, x: &Atom, y: &Atom) -> Result<Atom> {
        let range = || Error::new(Tag::Range, format!("Result of \"{}\" operation is out of range.", self.mutator.name()));
        let domain = || Error::new(Tag::Domain, "Division by zero.");
        match (x, y) {
            (Atom::Integer(x), Atom::Integer(y)) => {
                if *y == 0 && matches!(self.mutator, Mutator::Div | Mutator::Mod) {
                    return Err(domain());
                }
                let result = match self.mutator {
                    Mutator::Add => x.checked_add(*y),
                    Mutator::Sub => x.checked_sub(*y),
                    Mutator::Mul => x.checked_mul(*y),
                    Mutator::Div => x.checked_div(*y),
                    Mutator::Mod => x.checked_rem(*y),
                    Mutator::Insert | Mutator::Delete => Some(*x),
                };
                result.map(Atom::Integer).ok_or_else(range)
            }
            (Atom::Real(x), Atom::Real(y)) => {
                let result = match self.mutator {
                    Mutator::Add => x + y,
                    Mutator::Sub => x - y,
                    Mutator::Mul => x * y,
                    Mutator::Div if *y == 0.0 => return Err(domain()),
                    Mutator::Div => x / y,
                    Mutator::Mod | Mutator::Insert | Mutator::Delete => *x,
                };
                if result.is_finite() { Ok(Atom::Real(result)) } else { Err(range()) }
            }
            (Atom::Integer(_) | Atom::Real(_) | Atom::Boolean(_) | Atom::String(_) | Atom::Uuid(_), _) => Ok(x.clone()),
        }
    }
}

fn is_number(ty: &Type, integer_only: bool) -> bool {
    match ty.key.atomic {
        AtomicType::Integer => true,
        AtomicType::Real => !integer_only,
        AtomicType::Boolean | AtomicType::String | AtomicType::Uuid => false,
    }
}

fn argument(ty: &Type, mutator: Mutator, arg: &Value, names: &mut dyn UuidNames) -> Result<Datum> {
    match mutator {
        Mutator::Add | Mutator::Sub | Mutator::Mul | Mutator::Div | Mutator::Mod => {
            let scalar = Type { key: BaseType::from(ty.key.atomic), value: None, min: 1, max: 1 };
            Datum::from_json(&scalar, arg, Some(names))
        }
        Mutator::Insert => Datum::from_json(&Type { min: 0, ..ty.clone() }, arg, Some(names)),
        Mutator::Delete => {
            let any = Type { min: 0, max: UNLIMITED, ..ty.clone() };
            match Datum::from_json(&any, arg, Some(names)) {
                // A set of keys deletes pairs whatever their values are.
                Err(_) if ty.is_map() => Datum::from_json(&Type { value: None, ..any }, arg, Some(names)),
                result => result,
            }
        }
    }
}
