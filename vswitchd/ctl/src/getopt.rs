//! Option words as GNU `getopt_long` reads them, because OVS's users and scripts rely on its forms: `-vSPEC`, `--pidfile` with or
//! without `=FILE`, `--dummy-numa LIST` or `=LIST`, unambiguous abbreviations, options after operands. Pure.

/// Whether an option takes a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    None,
    /// Attached only: `--name=V`, `-nV`.
    Optional,
    /// Attached or in the next word.
    Required,
}

/// A row of the option table; `id` is what the caller gets back.
#[derive(Debug)]
pub struct Row<T> {
    pub long: &'static str,
    pub short: Option<char>,
    pub value: Value,
    pub id: T,
}

/// A row, as the tables of the commands write it.
#[must_use]
pub const fn row<T: Copy>(long: &'static str, short: Option<char>, value: Value, id: T) -> Row<T> {
    Row { long, short, value, id }
}

/// What the words say, in their order.
#[derive(PartialEq, Eq, Debug)]
pub enum Word<T> {
    Option(T, Option<String>),
    Operand(String),
}

/// Why the words cannot be read; the texts are getopt's.
#[derive(PartialEq, Eq, Debug, thiserror::Error)]
pub enum GetoptError {
    #[error("unrecognized option '--{0}'")]
    Unrecognized(String),
    #[error("option '--{0}' is ambiguous; possibilities: {1}")]
    Ambiguous(String, String),
    #[error("option '--{0}' doesn't allow an argument")]
    NoValue(String),
    #[error("option '--{0}' requires an argument")]
    NeedsValue(String),
    #[error("invalid option -- '{0}'")]
    Invalid(char),
    #[error("option requires an argument -- '{0}'")]
    ShortNeedsValue(char),
}

/// Reads the options up to the first operand or `--`; the words from there on are the second half (getopt's `+`).
///
/// # Errors
/// The first word that fits no row.
pub fn parse_leading<'a, T: Copy + PartialEq>(
    rows: &[Row<T>],
    words: &'a [String],
) -> Result<(Vec<Word<T>>, &'a [String]), GetoptError> {
    let mut out = Vec::new();
    let mut rest = words.iter();
    loop {
        let here = rest.as_slice();
        let Some(word) = rest.next() else {
            return Ok((out, here));
        };
        if word == "--" {
            return Ok((out, rest.as_slice()));
        }
        if let Some(long) = word.strip_prefix("--") {
            out.push(long_option(rows, long, &mut rest)?);
        } else if let Some(cluster) = word.strip_prefix('-').filter(|c| !c.is_empty()) {
            short_options(rows, cluster, &mut rest, &mut out)?;
        } else {
            return Ok((out, here));
        }
    }
}

/// Reads all words. Operands come out in place; `--` ends the options.
///
/// # Errors
/// The first word that fits no row.
pub fn parse<T: Copy + PartialEq>(rows: &[Row<T>], words: &[String]) -> Result<Vec<Word<T>>, GetoptError> {
    let mut out = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            out.extend(rest.map(|w| Word::Operand(w.clone())));
            return Ok(out);
        }
        if let Some(long) = word.strip_prefix("--") {
            out.push(long_option(rows, long, &mut rest)?);
        } else if let Some(cluster) = word.strip_prefix('-').filter(|c| !c.is_empty()) {
            short_options(rows, cluster, &mut rest, &mut out)?;
        } else {
            out.push(Word::Operand(word.clone()));
        }
    }
    Ok(out)
}

fn long_option<T: Copy + PartialEq>(
    rows: &[Row<T>],
    text: &str,
    rest: &mut std::slice::Iter<'_, String>,
) -> Result<Word<T>, GetoptError> {
    let (name, attached) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    let row = find(rows, name)?;
    let value = match (row.value, attached) {
        (Value::None, Some(_)) => return Err(GetoptError::NoValue(row.long.into())),
        (Value::None | Value::Optional, None) => None,
        (Value::Optional | Value::Required, Some(value)) => Some(value),
        (Value::Required, None) => Some(rest.next().cloned().ok_or_else(|| GetoptError::NeedsValue(row.long.into()))?),
    };
    Ok(Word::Option(row.id, value))
}

fn find<'a, T: PartialEq>(rows: &'a [Row<T>], name: &str) -> Result<&'a Row<T>, GetoptError> {
    if let Some(row) = rows.iter().find(|r| r.long == name) {
        return Ok(row);
    }
    let mut candidates = rows.iter().filter(|r| r.long.starts_with(name));
    let first = candidates.next().ok_or_else(|| GetoptError::Unrecognized(name.into()))?;
    if candidates.all(|r| r.id == first.id && r.value == first.value) {
        return Ok(first);
    }
    let all: Vec<String> = rows.iter().filter(|r| r.long.starts_with(name)).map(|r| format!("'--{}'", r.long)).collect();
    Err(GetoptError::Ambiguous(name.into(), all.join(" ")))
}

fn short_options<T: Copy>(
    rows: &[Row<T>],
    cluster: &str,
    rest: &mut std::slice::Iter<'_, String>,
    out: &mut Vec<Word<T>>,
) -> Result<(), GetoptError> {
    let mut letters = cluster.chars();
    while let Some(letter) = letters.next() {
        let row = rows.iter().find(|r| r.short == Some(letter)).ok_or(GetoptError::Invalid(letter))?;
        let attached = Some(letters.as_str().to_owned()).filter(|a| !a.is_empty());
        match row.value {
            Value::None => {
                out.push(Word::Option(row.id, None));
                continue;
            }
            Value::Optional => out.push(Word::Option(row.id, attached)),
            Value::Required => {
                let value = attached.or_else(|| rest.next().cloned()).ok_or(GetoptError::ShortNeedsValue(letter))?;
                out.push(Word::Option(row.id, Some(value)));
            }
        }
        return Ok(());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &[Row<u8>] = &[
        Row { long: "verbose", short: Some('v'), value: Value::Optional, id: 1 },
        Row { long: "pidfile", short: None, value: Value::Optional, id: 2 },
        Row { long: "disable-system", short: None, value: Value::None, id: 3 },
        Row { long: "disable-system-route", short: None, value: Value::None, id: 4 },
        Row { long: "dummy-numa", short: None, value: Value::Required, id: 5 },
        Row { long: "private-key", short: Some('p'), value: Value::Required, id: 6 },
        Row { long: "help", short: Some('h'), value: Value::None, id: 7 },
    ];

    fn check(line: &str, expect: &str) {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let got = match parse(ROWS, &words) {
            Ok(words) => words
                .into_iter()
                .map(|w| match w {
                    Word::Option(id, None) => format!("{id}"),
                    Word::Option(id, Some(v)) => format!("{id}={v}"),
                    Word::Operand(o) => o,
                })
                .collect::<Vec<_>>()
                .join(" "),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expect, "{line}");
    }

    #[test]
    fn the_forms_of_getopt_long() {
        check("--pidfile x -vfoo -v --verbose=y", "2 x 1=foo 1 1=y");
        check("--dummy-numa 0,1 --dummy-numa=2", "5=0,1 5=2");
        check("--disable-system --disable-system-route", "3 4");
        check("--pid=a --h", "2=a 7");
        check("-hpkey -p key -hv", "7 6=key 6=key 7 1");
        check("a -- --pidfile -v", "a --pidfile -v");
        check("-", "-");
        check("--disable-sys", "option '--disable-sys' is ambiguous; possibilities: '--disable-system' '--disable-system-route'");
        check("--foo=1", "unrecognized option '--foo'");
        check("--help=1", "option '--help' doesn't allow an argument");
        check("--dummy-numa", "option '--dummy-numa' requires an argument");
        check("-Q", "invalid option -- 'Q'");
        check("-hp", "option requires an argument -- 'p'");
    }
}
