//! Log patterns (`%c|%p|%m` and the rest, ovs-appctl(8)): compiled once when set, applied to each message. Also the RFC 5424
//! facilities. Pure: time, process and thread come in the `Line`.

use super::levels::Level;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt::Write as _;

/// Facility names as operators write them, and their codes (RFC 5424 table 1).
const FACILITIES: [(&str, u8); 23] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("clock", 9),
    ("ftp", 11),
    ("ntp", 12),
    ("audit", 13),
    ("alert", 14),
    ("clock2", 15),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// An RFC 5424 facility (section 6.2.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facility(u8);

impl Facility {
    pub const DAEMON: Self = Self(3);
    pub const LOCAL0: Self = Self(16);

    /// By name in any case.
    pub fn named(name: &str) -> Option<Self> {
        FACILITIES.iter().find(|(f, _)| f.eq_ignore_ascii_case(name)).map(|(_, code)| Self(*code))
    }

    /// The numeric code, 0..=23.
    pub fn code(self) -> u8 {
        self.0
    }
}

/// What a pattern is applied to.
#[derive(Debug)]
pub struct Line<'a> {
    pub application: &'a str,
    pub module: &'a str,
    pub level: Level,
    pub message: &'a str,
    pub serial: u32,
    pub when: Timestamp,
    pub facility: Facility,
    pub host: &'a str,
    pub pid: u32,
    /// Empty for the main thread.
    pub thread: &'a str,
    /// Milliseconds since the program began.
    pub running_ms: u128,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    items: Vec<Item>,
}

#[derive(Clone, Debug)]
enum Item {
    Literal(String),
    Escape { left: bool, zero: bool, width: usize, what: What },
}

#[derive(Clone, Debug)]
enum What {
    Application,
    Priority,
    Module,
    Local(String),
    Utc(String),
    Host,
    Message,
    Serial,
    NewLine,
    Level,
    Pid,
    Running,
    Thread,
    ThreadInParentheses,
    Literal(char),
}

const DEFAULT_DATE: &str = "%Y-%m-%d %H:%M:%S.###";

impl Pattern {
    /// Compiles any text: an escape that is not known stands for its own letter.
    pub fn new(text: &str) -> Self {
        let mut items = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c != '%' {
                literal.push(c);
                continue;
            }
            let left = chars.next_if_eq(&'-').is_some();
            let zero = chars.next_if_eq(&'0').is_some();
            let mut width = 0usize;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                chars.next();
                width = (width * 10 + digit as usize).min(1024);
            }
            let Some(letter) = chars.next() else { break };
            let what = Self::escape(letter, &mut chars);
            if !literal.is_empty() {
                items.push(Item::Literal(std::mem::take(&mut literal)));
            }
            items.push(Item::Escape { left, zero, width, what });
        }
        if !literal.is_empty() {
            items.push(Item::Literal(literal));
        }
        Self { text: text.to_owned(), items }
    }

    /// The text it was made of.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn escape(letter: char, chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> What {
        let mut braces = || {
            if chars.next_if_eq(&'{').is_none() {
                return DEFAULT_DATE.to_owned();
            }
            chars.by_ref().take_while(|c| *c != '}').collect()
        };
        match letter {
            'A' => What::Application,
            'B' => What::Priority,
            'c' => What::Module,
            'd' => What::Local(braces()),
            'D' => What::Utc(braces()),
            'E' => What::Host,
            'm' => What::Message,
            'N' => What::Serial,
            'n' => What::NewLine,
            'p' => What::Level,
            'P' => What::Pid,
            'r' => What::Running,
            't' => What::Thread,
            'T' => What::ThreadInParentheses,
            other => What::Literal(other),
        }
    }

    /// Appends the formatted line, without a line end, to `out`.
    pub fn apply(&self, line: &Line<'_>, out: &mut String) {
        for item in &self.items {
            match item {
                Item::Literal(text) => out.push_str(text),
                Item::Escape { left, zero, width, what } => {
                    let start = out.len();
                    what.expand(line, out);
                    let used = out[start..].chars().count();
                    let fill = if *zero && !*left { '0' } else { ' ' };
                    let padding: String = std::iter::repeat_n(fill, width.saturating_sub(used)).collect();
                    if *left {
                        out.push_str(&padding);
                    } else {
                        out.insert_str(start, &padding);
                    }
                }
            }
        }
    }
}

impl What {
    fn expand(&self, line: &Line<'_>, out: &mut String) {
        let written = match self {
            Self::Application => write!(out, "{}", line.application),
            Self::Priority => write!(out, "{}", line.facility.code() * 8 + line.level.severity()),
            Self::Module => write!(out, "{}", line.module),
            Self::Local(format) => {
                date(format, line.when, TimeZone::system(), out);
                Ok(())
            }
            Self::Utc(format) => {
                date(format, line.when, TimeZone::UTC, out);
                Ok(())
            }
            Self::Host => write!(out, "{}", line.host),
            Self::Message => write!(out, "{}", line.message),
            Self::Serial => write!(out, "{}", line.serial),
            Self::NewLine => writeln!(out),
            Self::Level => write!(out, "{}", line.level.name()),
            Self::Pid => write!(out, "{}", line.pid),
            Self::Running => write!(out, "{}", line.running_ms),
            Self::Thread => write!(out, "{}", if line.thread.is_empty() { "main" } else { line.thread }),
            Self::ThreadInParentheses if line.thread.is_empty() => Ok(()),
            Self::ThreadInParentheses => write!(out, "({})", line.thread),
            Self::Literal(c) => write!(out, "{c}"),
        };
        written.expect("writing to a String cannot fail");
    }
}

/// strftime with OVS's `#` for digits of the fraction of a second; what strftime does not know stays as it was written.
fn date(format: &str, when: Timestamp, zone: TimeZone, out: &mut String) {
    let shown = if format == "%Y-%m-%dT%H:%M:%S.###Z" {
        // The form of nearly every line: no detour through a general formatter.
        let t = zone.to_datetime(when);
        let (y, mo, d, h, mi, s) = (t.year(), t.month(), t.day(), t.hour(), t.minute(), t.second());
        format!("{y:04}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}.###Z")
    } else {
        let zoned = when.to_zoned(zone);
        jiff::fmt::strtime::format(format, &zoned).unwrap_or_else(|_| format.to_owned())
    };
    let fraction = format!("{:09}", when.subsec_nanosecond().unsigned_abs());
    let mut digits = fraction.chars().chain(std::iter::repeat('0'));
    out.extend(shown.chars().map(|c| if c == '#' { digits.next().unwrap_or('0') } else { c }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, expect: &str) {
        let line = Line {
            application: "ovs-vswitchd",
            module: "bridge",
            level: Level::Info,
            message: "hello",
            serial: 42,
            when: "2026-01-31T12:00:00.123456Z".parse().unwrap(),
            facility: Facility::LOCAL0,
            host: "vm",
            pid: 7,
            thread: "handler1",
            running_ms: 143,
        };
        let mut out = String::new();
        Pattern::new(pattern).apply(&line, &mut out);
        assert_eq!(out, expect, "{pattern}");
    }

    #[test]
    fn every_escape() {
        check("%D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c%T|%p|%m", "2026-01-31T12:00:00.123Z|00042|bridge(handler1)|INFO|hello");
        check("%D{%Y-%m-%dT%H:%M:%SZ}|%05N|%c|%p|%m", "2026-01-31T12:00:00Z|00042|bridge|INFO|hello");
        check("%c|%p|%m", "bridge|INFO|hello");
        check("<%B>1 %A %E %P %r %t", "<133>1 ovs-vswitchd vm 7 143 handler1");
        check("%D", "2026-01-31 12:00:00.123");
        check("%D{%H:%M:%S.######}", "12:00:00.123456");
        check("[%8p][%-8p][%-08p][%03N][%1N]", "[    INFO][INFO    ][INFO    ][042][42]");
        check("%% %q %n|", "% q \n|");
        check("end%", "end");
        check("end%05", "end");
    }

    #[test]
    fn facilities_have_their_codes() {
        for (name, code) in [("kern", 0), ("daemon", 3), ("alert", 14), ("clock2", 15), ("LOCAL0", 16), ("local7", 23)] {
            assert_eq!(Facility::named(name).map(Facility::code), Some(code), "{name}");
        }
        assert_eq!(Facility::named(""), None);
    }
}
