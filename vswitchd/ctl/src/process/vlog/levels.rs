//! Levels, destinations, and the language of `-v` and `vlog/set`: text in, `Change` or a refusal in OVS's words out. Pure.

use super::modules::Module;
use super::pattern::Facility;

/// Severity of a message, and the threshold of a destination. The order is OVS's: `Off` lets nothing through.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    Off,
    Emer,
    Err,
    Warn,
    Info,
    Dbg,
}

impl Level {
    pub const ALL: [Self; 6] = [Self::Off, Self::Emer, Self::Err, Self::Warn, Self::Info, Self::Dbg];

    /// As it stands in log lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "OFF",
            Self::Emer => "EMER",
            Self::Err => "ERR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Dbg => "DBG",
        }
    }

    /// The syslog severity (RFC 5424 table 2) under which OVS sends it.
    pub fn severity(self) -> u8 {
        match self {
            Self::Emer => 1,
            Self::Err => 3,
            Self::Warn => 4,
            Self::Info => 5,
            Self::Dbg | Self::Off => 7,
        }
    }

    /// The inverse of `as u8`; anything out of range is `Dbg`.
    pub fn from_u8(value: u8) -> Self {
        Self::ALL.get(usize::from(value)).copied().unwrap_or(Self::Dbg)
    }

    /// The level of that name, in any case.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|l| l.name().eq_ignore_ascii_case(word))
    }
}

/// Where lines go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    Syslog,
    Console,
    File,
}

impl Destination {
    pub const ALL: [Self; 3] = [Self::Syslog, Self::Console, Self::File];

    /// Upper-case name as in `vlog/list-pattern`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Syslog => "SYSLOG",
            Self::Console => "CONSOLE",
            Self::File => "FILE",
        }
    }

    /// Slot in per-destination arrays.
    pub fn index(self) -> usize {
        match self {
            Self::Syslog => 0,
            Self::Console => 1,
            Self::File => 2,
        }
    }

    fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.name().eq_ignore_ascii_case(word))
    }
}

/// What a specification asks for. `None` means every module or every destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    Levels { module: Option<Module>, destination: Option<Destination>, level: Level },
    Pattern { destination: Option<Destination>, pattern: String },
    Facility(Facility),
}

/// Why a specification was refused; the texts are compared by OVS's tests.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SpecError {
    #[error("missing destination")]
    MissingDestination,
    #[error("unknown destination \"{0}\"")]
    UnknownDestination(String),
    #[error("invalid facility")]
    InvalidFacility,
    #[error("cannot specify multiple {0}")]
    Multiple(&'static str),
    #[error("no destination, level, or module \"{0}\"")]
    Unknown(String),
}

/// Parses one specification: `[module][:destination][:level]` in any order, `PATTERN:destination:pattern` or `FACILITY:name`.
/// # Errors
/// Names the word at fault.
pub fn parse(spec: &str) -> Result<Change, SpecError> {
    let (head, rest) = spec.split_once(':').unwrap_or((spec, ""));
    if head.eq_ignore_ascii_case("pattern") {
        return parse_pattern(rest);
    }
    if head.eq_ignore_ascii_case("facility") {
        return Facility::named(rest).map(Change::Facility).ok_or(SpecError::InvalidFacility);
    }
    let (mut module, mut destination, mut level) = (None, None, None);
    for word in spec.split([' ', ',', ':', '\t']).filter(|w| !w.is_empty()) {
        if word.eq_ignore_ascii_case("any") {
            continue;
        }
        if let Some(d) = Destination::named(word) {
            once(&mut destination, d, "destinations")?;
        } else if let Some(l) = Level::named(word) {
            once(&mut level, l, "levels")?;
        } else if let Some(m) = Module::named(word) {
            once(&mut module, m, "modules")?;
        } else {
            return Err(SpecError::Unknown(word.to_owned()));
        }
    }
    Ok(Change::Levels { module, destination, level: level.unwrap_or(Level::Dbg) })
}

fn parse_pattern(rest: &str) -> Result<Change, SpecError> {
    let (word, pattern) = rest.split_once(':').unwrap_or((rest, ""));
    if word.is_empty() {
        return Err(SpecError::MissingDestination);
    }
    let destination = if word.eq_ignore_ascii_case("any") {
        None
    } else {
        Some(Destination::named(word).ok_or_else(|| SpecError::UnknownDestination(word.to_owned()))?)
    };
    Ok(Change::Pattern { destination, pattern: pattern.to_owned() })
}

fn once<T>(slot: &mut Option<T>, value: T, what: &'static str) -> Result<(), SpecError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(SpecError::Multiple(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: &str, expect: &str) {
        let got = match parse(spec) {
            Ok(Change::Levels { module, destination, level }) => {
                format!("{} {} {}", module.map_or("*", Module::name), destination.map_or("*", Destination::name), level.name())
            }
            Ok(Change::Pattern { destination, pattern }) => {
                format!("pattern {} {pattern}", destination.map_or("*", Destination::name))
            }
            Ok(Change::Facility(f)) => format!("facility {}", f.code()),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expect, "{spec}");
    }

    #[test]
    fn specifications_as_ovs_reads_them() {
        check("", "* * DBG");
        check(":", "* * DBG");
        check("bridge", "bridge * DBG");
        check("ANY:file:DBG", "* FILE DBG");
        check("daemon:syslog:err", "daemon SYSLOG ERR");
        check("bridge,file,off", "bridge FILE OFF");
        check("file:syslog", "cannot specify multiple destinations");
        check("dbg:info", "cannot specify multiple levels");
        check("bridge:bond:dbg", "cannot specify multiple modules");
        check("nonexistent", "no destination, level, or module \"nonexistent\"");
        check("ofproto-dpif:dbg", "no destination, level, or module \"ofproto-dpif\"");
        check("pattern", "missing destination");
        check("pattern:nonexistent", "unknown destination \"nonexistent\"");
        check("PATTERN:file:I<3OVS|%m", "pattern FILE I<3OVS|%m");
        check("PATTERN:ANY:%c|%p|%m:x", "pattern * %c|%p|%m:x");
        check("FACILITY:LOCAL7", "facility 23");
        check("FACILITY:invalid", "invalid facility");
        check("FACILITY", "invalid facility");
    }
}
