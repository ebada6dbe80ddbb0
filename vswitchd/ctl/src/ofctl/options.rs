//! ofctl's options.

use super::bundle;
use crate::console::Io;
use crate::fault::Fault;
use crate::getopt::{self, Row, Value, Word, row};
use crate::process::{self, ProcessId, ProcessOptions};
use openflow::text::Protocols;
use openflow::{Version, Versions};
use std::io::IsTerminal as _;

/// A key to sort flows by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SortKey {
    /// `None`: the priority.
    pub field: Option<flow::fields::Field>,
    pub ascending: bool,
}

/// What the options decide.
#[derive(Clone, Debug)]
pub struct Options {
    pub versions: Versions,
    /// Flow formats that `-F` allows.
    pub formats: Protocols,
    pub strict: bool,
    pub read_only: bool,
    pub readd: bool,
    pub bundle: bool,
    /// `mod-group` makes the group if it is not there.
    pub may_create: bool,
    pub stats: bool,
    /// `--names`, `--no-names`, or neither.
    pub names: Option<bool>,
    pub verbosity: u8,
    pub timestamp: bool,
    pub sort: Vec<SortKey>,
    /// `-P`
    pub packet_in_format: Option<String>,
    pub timeout: Option<String>,
    /// Of `monitor` and `snoop`, which run on; and the certificates.
    pub process: ProcessOptions,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Id {
    Timeout,
    Strict,
    ReadOnly,
    Readd,
    FlowFormat,
    PacketInFormat,
    More,
    Timestamp,
    Sort,
    Rsort,
    Names,
    NoNames,
    NoStats,
    Bundle,
    MayCreate,
    Color,
    Protocols,
    Process(ProcessId),
    Ignored,
    Help,
    Version,
}

const ROWS: &[Row<Id>] = &[
    row("timeout", Some('t'), Value::Required, Id::Timeout),
    row("strict", None, Value::None, Id::Strict),
    row("read-only", None, Value::None, Id::ReadOnly),
    row("readd", None, Value::None, Id::Readd),
    row("flow-format", Some('F'), Value::Required, Id::FlowFormat),
    row("packet-in-format", Some('P'), Value::Required, Id::PacketInFormat),
    row("more", Some('m'), Value::None, Id::More),
    row("timestamp", None, Value::None, Id::Timestamp),
    row("sort", None, Value::Optional, Id::Sort),
    row("rsort", None, Value::Optional, Id::Rsort),
    row("names", None, Value::None, Id::Names),
    row("no-names", None, Value::None, Id::NoNames),
    row("no-stats", None, Value::None, Id::NoStats),
    row("stats", None, Value::None, Id::Ignored),
    row("may-create", None, Value::None, Id::MayCreate),
    row("bundle", None, Value::None, Id::Bundle),
    row("color", None, Value::Optional, Id::Color),
    row("protocols", Some('O'), Value::Required, Id::Protocols),
    row("help", Some('h'), Value::None, Id::Help),
    row("option", Some('o'), Value::None, Id::Help),
    row("version", Some('V'), Value::None, Id::Version),
];

/// What the words ask for.
#[derive(Debug)]
pub enum Asked {
    Run(Box<Options>, Vec<String>),
    Help,
    Version,
}

/// Reads all words: options may stand anywhere.
///
/// # Errors
/// A word that is no option, or a value that is none.
pub fn parse(io: &mut Io<'_>, words: &[String]) -> Result<Asked, Fault> {
    let mut options = Options {
        versions: Versions(1 << (Version::V10 as u8)),
        formats: Protocols::ANY,
        strict: false,
        read_only: false,
        readd: false,
        bundle: false,
        may_create: false,
        stats: true,
        names: None,
        verbosity: 0,
        timestamp: false,
        sort: Vec::new(),
        packet_in_format: None,
        timeout: None,
        process: ProcessOptions { keep_output: true, ..ProcessOptions::new(io.program) },
    };
    let mut operands = Vec::new();
    let own = ROWS.iter().map(|r| row(r.long, r.short, r.value, r.id));
    let rows: Vec<Row<Id>> = own.chain(process::options::rows(Id::Process)).collect();
    for word in getopt::parse(&rows, words)? {
        match word {
            Word::Operand(operand) => operands.push(operand),
            Word::Option(Id::Help, _) => return Ok(Asked::Help),
            Word::Option(Id::Version, _) => return Ok(Asked::Version),
            Word::Option(id, value) => {
                if id == Id::Process(ProcessId::Verbose) {
                    io.log_spec(value.as_deref());
                }
                options.set(id, value)?;
            }
        }
    }
    options.settle()?;
    Ok(Asked::Run(Box::new(options), operands))
}

impl Options {
    fn set(&mut self, id: Id, value: Option<String>) -> Result<(), Fault> {
        let text = value.as_deref().unwrap_or_default();
        match id {
            Id::Timeout => self.timeout = value,
            Id::Strict => self.strict = true,
            Id::ReadOnly => self.read_only = true,
            Id::Readd => self.readd = true,
            Id::FlowFormat => self.formats = formats(text)?,
            Id::PacketInFormat => self.packet_in_format = Some(packet_in_format(text)?),
            Id::More => self.verbosity = self.verbosity.saturating_add(1),
            Id::Timestamp => self.timestamp = true,
            Id::Sort => self.sort.push(sort_key(value.as_deref(), true)?),
            Id::Rsort => self.sort.push(sort_key(value.as_deref(), false)?),
            Id::Names => self.names = Some(true),
            Id::NoNames => self.names = Some(false),
            Id::NoStats => self.stats = false,
            Id::Bundle => self.bundle = true,
            Id::MayCreate => self.may_create = true,
            Id::Color => check_color(value.as_deref())?,
            Id::Protocols => self.versions = versions(text)?,
            Id::Process(id) => self.process.set(id, value).map_err(|e| Fault::say(e.to_string()))?,
            Id::Ignored | Id::Help | Id::Version => {}
        }
        Ok(())
    }

    /// Makes versions, flow formats and `--bundle` agree.
    ///
    /// # Errors
    /// None of the versions goes with any of the formats.
    fn settle(&mut self) -> Result<(), Fault> {
        if self.bundle {
            self.versions = with_bundles(self.versions);
        }
        let of_versions = protocols_of(self.versions);
        if self.formats.and(of_versions).is_empty() {
            return Err(Fault::say(format!(
                "None of the enabled OpenFlow versions ({}) supports any of the enabled flow formats ({}).  (Use -O to enable additional OpenFlow versions or -F to enable additional flow formats.)",
                names_of(self.versions),
                self.formats
            )));
        }
        // Versions that none of the flow formats goes with are not offered.
        let fitting = Version::ALL.into_iter().filter(|v| !self.formats.and(Protocols::of_version(*v)).is_empty());
        self.versions.0 &= fitting.fold(0, |bits, v| bits | 1 << (v as u8));
        self.formats = self.formats.and(of_versions);
        Ok(())
    }

    /// Whether ports and tables are shown by name.
    #[must_use]
    pub fn show_names(&self) -> bool {
        self.names.unwrap_or_else(|| std::io::stdout().is_terminal())
    }
}

/// The versions that are asked for, if one of them has bundles; else the first of the standard that has.
#[must_use]
pub fn with_bundles(asked: Versions) -> Versions {
    let has_bundles = |v: &Version| asked.0 & 1 << (*v as u8) != 0 && bundle::is_in(*v);
    if Version::ALL.iter().any(has_bundles) { asked } else { Versions(1 << (Version::V14 as u8)) }
}

/// The protocols of several versions.
#[must_use]
pub fn protocols_of(versions: Versions) -> Protocols {
    let of = Version::ALL.into_iter().filter(|v| versions.0 & 1 << (*v as u8) != 0);
    of.fold(Protocols::NONE, |all, v| Protocols(all.0 | Protocols::of_version(v).0))
}

fn names_of(versions: Versions) -> String {
    let of = Version::ALL.into_iter().filter(|v| versions.0 & 1 << (*v as u8) != 0);
    of.map(|v| v.to_string()).collect::<Vec<_>>().join(", ")
}

/// `OpenFlow10,OpenFlow13`
fn versions(text: &str) -> Result<Versions, Fault> {
    let mut bits = 0;
    for name in text.split([',', ' ', ';']).filter(|n| !n.is_empty()) {
        let version = Version::ALL.into_iter().find(|v| {
            v.to_string().eq_ignore_ascii_case(name) || format!("OpenFlow1.{}", *v as u8 - 1).eq_ignore_ascii_case(name)
        });
        match version {
            Some(version) => bits |= 1 << (version as u8),
            None => return Err(Fault::say(format!("Unknown OpenFlow version: \"{name}\""))),
        }
    }
    Ok(Versions(bits))
}

/// `-F`: names of [`Protocols`], and some for more than one.
fn formats(text: &str) -> Result<Protocols, Fault> {
    const NAMES: [(&str, Protocols); 13] = [
        ("any", Protocols::ANY),
        ("OpenFlow10", Protocols::OF10_STD_ANY),
        ("NXM", Protocols::NXM_ANY),
        ("OXM", Protocols::OXM_ANY),
        ("OpenFlow10-table_id", Protocols::OF10_STD),
        ("OpenFlow10+table_id", Protocols::OF10_STD_TID),
        ("NXM-table_id", Protocols::OF10_NXM),
        ("NXM+table_id", Protocols::OF10_NXM_TID),
        ("OpenFlow11", Protocols::OF11),
        ("OXM-OpenFlow12", Protocols::OF12),
        ("OXM-OpenFlow13", Protocols::OF13),
        ("OXM-OpenFlow14", Protocols::OF14),
        ("OXM-OpenFlow15", Protocols::OF15),
    ];
    let mut all = Protocols::NONE;
    for name in text.split(',').map(str::trim).filter(|n| !n.is_empty()) {
        match NAMES.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            Some((_, protocols)) => all.0 |= protocols.0,
            None => return Err(Fault::say(format!("{name}: unknown flow protocol"))),
        }
    }
    if all.is_empty() { Err(Fault::say(format!("{text}: no flow protocol specified"))) } else { Ok(all) }
}

fn packet_in_format(text: &str) -> Result<String, Fault> {
    match text {
        "standard" | "openflow10" | "nxt_packet_in" | "nxm" | "nxt_packet_in2" => Ok(text.to_owned()),
        _ => Err(Fault::say(format!("unknown packet-in format `{text}'"))),
    }
}

fn sort_key(field: Option<&str>, ascending: bool) -> Result<SortKey, Fault> {
    match field {
        None => Ok(SortKey { field: None, ascending }),
        Some(name) if name.eq_ignore_ascii_case("priority") => Ok(SortKey { field: None, ascending }),
        Some(name) => match flow::fields::Field::by_name(name) {
            Some(field) => Ok(SortKey { field: Some(field), ascending }),
            None => Err(Fault::say(format!("{name}: unknown field name"))),
        },
    }
}

fn check_color(value: Option<&str>) -> Result<(), Fault> {
    match value {
        None | Some("always" | "never" | "auto") => Ok(()),
        Some(other) => Err(Fault::say(format!("incorrect value `{other}'"))),
    }
}
