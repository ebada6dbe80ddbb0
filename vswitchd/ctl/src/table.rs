//! Tables of database values, in the five forms of OVS's tools (`--format`): rows of cells in, text out. Used by vsctl and
//! ovsdb-client.

use crate::fault::Fault;
use ovsdb::{Atom, Datum, Type, json};
use serde_json::{Value, json};
use std::io::{self, Write};

/// How a table is laid out (`--format`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Table,
    List,
    Html,
    Csv,
    Json,
}

/// How a value is written (`--data`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Data {
    String,
    Bare,
    Json,
}

/// What the options of a tool decide about its tables.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub format: Format,
    pub data: Data,
    pub headings: bool,
    /// Indent JSON.
    pub pretty: bool,
    /// Widest column of format table; 0: any.
    pub width_max: usize,
}

impl Style {
    /// The style of a tool that prints in `format` unless told otherwise.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format, data: Data::String, headings: true, pretty: false, width_max: 0 }
    }

    /// Obeys `--format`.
    ///
    /// # Errors
    /// The name is none of a format.
    pub fn set_format(&mut self, name: &str) -> Result<(), Fault> {
        self.format = match name {
            "table" => Format::Table,
            "list" => Format::List,
            "html" => Format::Html,
            "csv" => Format::Csv,
            "json" => Format::Json,
            _ => return Err(Fault::say(format!("unknown output format \"{name}\""))),
        };
        Ok(())
    }

    /// Obeys `--data`.
    ///
    /// # Errors
    /// The name is none of a form.
    pub fn set_data(&mut self, name: &str) -> Result<(), Fault> {
        self.data = match name {
            "string" => Data::String,
            "bare" => Data::Bare,
            "json" => Data::Json,
            _ => return Err(Fault::say(format!("unknown data format \"{name}\""))),
        };
        Ok(())
    }

    /// Obeys `--bare`.
    pub fn set_bare(&mut self) {
        (self.format, self.data, self.headings) = (Format::List, Data::Bare, false);
    }
}

/// What stands in a row and a column.
#[derive(Clone, Debug)]
pub enum Cell {
    Text(String),
    Datum(Datum, Type),
    Json(Value),
}

impl Cell {
    fn text(&self, style: &Style) -> String {
        match (self, style.data) {
            (Self::Text(text), Data::String | Data::Bare | Data::Json) => text.clone(),
            (Self::Datum(datum, ty), Data::String) => datum.to_text(ty),
            (Self::Datum(datum, _), Data::Bare) => datum.to_bare(),
            (Self::Datum(datum, _), Data::Json) => json::to_sorted(&datum.to_json()),
            (Self::Json(value), Data::String | Data::Bare | Data::Json) => json::to_sorted(value),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::Datum(datum, _) => datum.to_json(),
            Self::Json(value) => value.clone(),
        }
    }

    fn html(&self, style: &Style, element: &str, out: &mut dyn Write) -> io::Result<()> {
        let text = self.text(style);
        write!(out, "    <{element}>")?;
        match self {
            Self::Datum(datum, _) => match datum.as_uuid().filter(|_| text.len() == 36) {
                Some(_) => write!(out, "<a name=\"{text}\">{}</a>", &text[..8])?,
                None => write!(out, "{}", links(datum, &text))?,
            },
            Self::Text(_) | Self::Json(_) => write!(out, "{}", escape_html(&text))?,
        }
        writeln!(out, "</{element}>")
    }
}

/// The text with each UUID in it a link to the row of that name.
fn links(datum: &Datum, text: &str) -> String {
    let mut out = escape_html(text);
    for uuid in datum.keys().iter().chain(datum.values()).filter_map(Atom::as_uuid) {
        let full = uuid.to_string();
        out = out.replace(&full, &format!("<a href=\"#{full}\">{}</a>", &full[..8]));
    }
    out
}

fn escape_html(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(c),
        }
        out
    })
}

/// A table.
#[derive(Clone, Default, Debug)]
pub struct Table {
    pub caption: Option<String>,
    pub headings: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
    /// When it was made, if that is to be told.
    pub time: Option<String>,
}

impl Table {
    /// Prints the table. `printed` counts the tables of this run: a blank line parts one from the next.
    ///
    /// # Errors
    /// Writing.
    pub fn print(&self, style: &Style, printed: &mut usize, out: &mut dyn Write) -> io::Result<()> {
        if *printed > 0 && style.format != Format::Json {
            writeln!(out)?;
        }
        *printed += 1;
        match style.format {
            Format::Table => self.print_table(style, out),
            Format::List => self.print_list(style, out),
            Format::Html => self.print_html(style, out),
            Format::Csv => self.print_csv(style, out),
            Format::Json => self.print_json(style, out),
        }
    }

    fn title(&self) -> Option<String> {
        match (&self.time, &self.caption) {
            (Some(time), Some(caption)) => Some(format!("{time}: {caption}")),
            (Some(time), None) => Some(time.clone()),
            (None, caption) => caption.clone(),
        }
    }

    fn print_table(&self, style: &Style, out: &mut dyn Write) -> io::Result<()> {
        if let Some(title) = self.title() {
            writeln!(out, "{title}")?;
        }
        let rows: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(|c| c.text(style)).collect()).collect();
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(String::len);
            let heading = self.headings.get(column).filter(|_| style.headings).map_or(0, String::len);
            let widest = cells.chain([heading]).max().unwrap_or(0);
            if style.width_max == 0 { widest } else { widest.min(style.width_max) }
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let mut line = |cells: &[String]| {
            let padded: Vec<String> = cells.iter().zip(&widths).map(|(text, w)| format!("{:<w$}", cut(text, *w))).collect();
            writeln!(out, "{}", padded.join(" ").trim_end_matches(' '))
        };
        if style.headings {
            line(&self.headings)?;
            line(&widths.iter().map(|w| "-".repeat(*w)).collect::<Vec<_>>())?;
        }
        rows.iter().try_for_each(|row| line(row))
    }

    fn print_list(&self, style: &Style, out: &mut dyn Write) -> io::Result<()> {
        if let Some(title) = self.title() {
            writeln!(out, "{title}")?;
        }
        for (n, row) in self.rows.iter().enumerate() {
            if n > 0 {
                writeln!(out)?;
            }
            for (heading, cell) in self.headings.iter().zip(row) {
                if style.headings {
                    write!(out, "{heading:<20}: ")?;
                }
                writeln!(out, "{}", cell.text(style))?;
            }
        }
        Ok(())
    }

    fn print_html(&self, style: &Style, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "<table border=1>")?;
        if let Some(title) = self.title() {
            writeln!(out, "    <caption>{}</caption>", escape_html(&title))?;
        }
        if style.headings {
            writeln!(out, "  <tr>")?;
            for heading in &self.headings {
                writeln!(out, "    <th>{}</th>", escape_html(heading))?;
            }
            writeln!(out, "  </tr>")?;
        }
        for row in &self.rows {
            writeln!(out, "  <tr>")?;
            row.iter().try_for_each(|cell| cell.html(style, "td", out))?;
            writeln!(out, "  </tr>")?;
        }
        writeln!(out, "</table>")
    }

    fn print_csv(&self, style: &Style, out: &mut dyn Write) -> io::Result<()> {
        let mut line = |cells: Vec<String>| {
            let cells: Vec<String> = cells.into_iter().map(csv_cell).collect();
            writeln!(out, "{}", cells.join(","))
        };
        if let Some(title) = self.title() {
            line(vec![title])?;
        }
        if style.headings {
            line(self.headings.clone())?;
        }
        self.rows.iter().try_for_each(|row| line(row.iter().map(|c| c.text(style)).collect()))
    }

    fn print_json(&self, style: &Style, out: &mut dyn Write) -> io::Result<()> {
        let mut object = json!({
            "headings": self.headings,
            "data": self.rows.iter().map(|row| row.iter().map(Cell::json).collect()).collect::<Vec<Vec<Value>>>(),
        });
        if let Some(caption) = &self.caption {
            object["caption"] = caption.as_str().into();
        }
        if let Some(time) = &self.time {
            object["time"] = time.as_str().into();
        }
        writeln!(out, "{}", if style.pretty { pretty(&object) } else { json::to_sorted(&object) })
    }
}

fn cut(text: &str, width: usize) -> &str {
    let mut end = width.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn csv_cell(text: String) -> String {
    if text.contains(['\n', '"', ',']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// JSON as OVS indents it: members sorted, closing brackets at the end of the last line.
#[must_use]
pub fn pretty(value: &Value) -> String {
    let mut out = String::new();
    indent(value, 0, &mut out);
    out
}

fn indent(value: &Value, depth: usize, out: &mut String) {
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    match value {
        Value::Array(elements) if !elements.is_empty() => {
            out.push('[');
            for (n, element) in elements.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                newline(out, depth + 1);
                indent(element, depth + 1, out);
            }
            out.push(']');
        }
        Value::Object(members) if !members.is_empty() => {
            out.push('{');
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| name.as_str());
            for (n, (name, member)) in sorted.into_iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                newline(out, depth + 1);
                out.push_str(&json::to_sorted(&Value::from(name.as_str())));
                out.push_str(": ");
                indent(member, depth + 1, out);
            }
            out.push('}');
        }
        Value::Array(_) | Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&json::to_sorted(value))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(style: &Style, expect: &str) {
        let table = Table {
            headings: vec!["a".into(), "bcd".into()],
            rows: vec![
                vec![Cell::Text("x,y".into()), Cell::Json(json!([1, "<"]))],
                vec![Cell::Text(String::new()), Cell::Text("q\"".into())],
            ],
            ..Table::default()
        };
        let mut out = Vec::new();
        table.print(style, &mut 0, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }

    #[test]
    fn five_forms() {
        check(&Style::new(Format::Table), "a   bcd\n--- -------\nx,y [1,\"<\"]\n    q\"\n");
        check(
            &Style::new(Format::List),
            "a                   : x,y\nbcd                 : [1,\"<\"]\n\na                   : \nbcd                 : q\"\n",
        );
        check(&Style::new(Format::Csv), "a,bcd\n\"x,y\",\"[1,\"\"<\"\"]\"\n,\"q\"\"\"\n");
        check(&Style::new(Format::Json), "{\"data\":[[\"x,y\",[1,\"<\"]],[\"\",\"q\\\"\"]],\"headings\":[\"a\",\"bcd\"]}\n");
        let style = Style { pretty: true, ..Style::new(Format::Json) };
        check(
            &style,
            "{\n  \"data\": [\n    [\n      \"x,y\",\n      [\n        1,\n        \"<\"]],\n    [\n      \"\",\n      \"q\\\"\"]],\n  \"headings\": [\n    \"a\",\n    \"bcd\"]}\n",
        );
    }
}
