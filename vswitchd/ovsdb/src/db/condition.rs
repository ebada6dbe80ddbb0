//! Conditions: the `where` of operations and of conditional monitors (RFC 7047 section 5.1, ovsdb-server(7) 4.1.12).

use super::Row;
use crate::atom::AtomicType;
use crate::atom::UuidNames;
use crate::datum::Datum;
use crate::error::{Error, Result, Tag};
use crate::schema::{COL_UUID, TableSchema};
use crate::types::{Type, UNLIMITED};
use serde_json::Value;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Function {
    Lt,
    Le,
    Eq,
    Ne,
    Ge,
    Gt,
    Includes,
    Excludes,
}

impl Function {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "<" => Self::Lt,
            "<=" => Self::Le,
            "==" => Self::Eq,
            "!=" => Self::Ne,
            ">=" => Self::Ge,
            ">" => Self::Gt,
            "includes" => Self::Includes,
            "excludes" => Self::Excludes,
            _ => return None,
        })
    }
}

#[derive(Clone, Debug)]
enum Clause {
    Const(bool),
    Test { column: usize, function: Function, arg: Datum },
}

/// A list of clauses. Operations need all of them to hold, monitors any of them; an empty list always holds.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    clauses: Vec<Clause>,
}

impl Condition {
    /// Parses an array of clauses; `true` and `false` are clauses too.
    pub fn from_json(schema: &TableSchema, json: &Value, names: Option<&mut (dyn UuidNames + '_)>) -> Result<Self> {
        let array = json.as_array().ok_or_else(|| Error::syntax(json, "array expected"))?;
        let mut clauses = Vec::with_capacity(array.len());
        let mut names = names;
        for clause in array {
            clauses.push(match &mut names {
                Some(names) => clause_from_json(schema, clause, Some(&mut **names))?,
                None => clause_from_json(schema, clause, None)?,
            });
        }
        Ok(Self { clauses })
    }

    /// Whether it holds for every row.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.clauses.iter().all(|c| matches!(c, Clause::Const(true)))
    }

    /// Whether all clauses hold.
    #[must_use]
    pub fn matches_all(&self, schema: &TableSchema, row: &Row) -> bool {
        self.clauses.iter().all(|c| c.matches(schema, row))
    }

    /// Whether any clause holds, or there is none.
    #[must_use]
    pub fn matches_any(&self, schema: &TableSchema, row: &Row) -> bool {
        self.clauses.is_empty() || self.clauses.iter().any(|c| c.matches(schema, row))
    }

    /// The row that a clause `_uuid == X` names: no other can match all clauses.
    #[must_use]
    pub fn only_row(&self) -> Option<Uuid> {
        self.clauses.iter().find_map(|c| match c {
            Clause::Test { column: COL_UUID, function: Function::Eq | Function::Includes, arg } => arg.as_uuid(),
            Clause::Test { .. } | Clause::Const(_) => None,
        })
    }
}

fn clause_from_json(schema: &TableSchema, json: &Value, names: Option<&mut (dyn UuidNames + '_)>) -> Result<Clause> {
    if let Some(constant) = json.as_bool() {
        return Ok(Clause::Const(constant));
    }
    let Some([Value::String(column_name), Value::String(function_name), arg]) = json.as_array().map(Vec::as_slice) else {
        return Err(Error::syntax(json, "Parse error in condition."));
    };
    let column = schema
        .column(column_name)
        .ok_or_else(|| Error::at(json, Tag::UnknownColumn, format!("No column {column_name} in table {}.", schema.name)))?;
    let function = Function::from_name(function_name)
        .ok_or_else(|| Error::new(Tag::UnknownFunction, format!("No function named {function_name}.")))?;
    let column_type = &schema.columns[column].ty;
    let mut ty = column_type.clone();
    match function {
        Function::Lt | Function::Le | Function::Gt | Function::Ge => {
            let number = matches!(ty.key.atomic, AtomicType::Integer | AtomicType::Real);
            if !(ty.is_scalar() || ty.is_optional()) || !number {
                let text = format!(
                    "Type mismatch: \"{function_name}\" operator may not be applied to column {column_name} of type {}.",
                    ty.to_english()
                );
                return Err(Error::syntax(json, text));
            }
            ty.min = 1;
        }
        Function::Eq | Function::Ne => {}
        Function::Excludes if ty.is_scalar() => {}
        Function::Excludes => (ty.min, ty.max) = (0, UNLIMITED),
        Function::Includes if ty.is_scalar() => {}
        Function::Includes => ty.min = 0,
    }
    let arg = Datum::from_json(&ty, arg, names)?;
    Ok(Clause::Test { column, function, arg })
}

impl Clause {
    fn matches(&self, schema: &TableSchema, row: &Row) -> bool {
        match self {
            Self::Const(constant) => *constant,
            Self::Test { column, function, arg } => evaluate(&schema.columns[*column].ty, &row.fields[*column], *function, arg),
        }
    }
}

fn evaluate(ty: &Type, field: &Datum, function: Function, arg: &Datum) -> bool {
    if let (false, Some(a), Some(b)) = (ty.max > 1 || ty.is_map(), field.as_atom(), arg.as_atom()) {
        return match function {
            Function::Lt => a < b,
            Function::Le => a <= b,
            Function::Eq | Function::Includes => a == b,
            Function::Ne | Function::Excludes => a != b,
            Function::Ge => a >= b,
            Function::Gt => a > b,
        };
    }
    match function {
        Function::Eq => field == arg,
        Function::Ne => field != arg,
        Function::Includes => field.includes(arg),
        Function::Excludes => field.excludes(arg),
        // An absent number is in no relation to another.
        Function::Lt | Function::Le | Function::Ge | Function::Gt => false,
    }
}
