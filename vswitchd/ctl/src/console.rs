//! Where a tool writes: standard output and standard error, or a test's buffers; and the few log lines that OVS's tools show on the
//! console by default.

use crate::fault::{Fault, errno_text};
use crate::process::vlog::levels::{self, Change, Destination, Level};
use crate::process::vlog::modules::Module;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

/// vlog's default pattern for the console.
pub const PATTERN: &str = "%D{%Y-%m-%dT%H:%M:%SZ}|%05N|%c%T|%p|%m";

/// The streams of a tool.
pub struct Io<'a> {
    /// What the tool calls itself in messages.
    pub program: &'static str,
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
    /// Which lines of which module are shown, or of all; the latest word last.
    levels: Vec<(Option<Module>, Level)>,
    lines: u32,
    /// What a log line looks like.
    pub pattern: String,
}

impl std::fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Io").field("program", &self.program).finish_non_exhaustive()
    }
}

impl<'a> Io<'a> {
    /// Streams for a tool.
    pub fn new(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        Self { program: "ferrule", out, err, levels: Vec::new(), lines: 0, pattern: PATTERN.to_owned() }
    }

    /// `PROGRAM: TEXT` on standard error.
    ///
    /// # Errors
    /// Standard error cannot be written.
    pub fn complain(&mut self, text: &str) -> io::Result<()> {
        self.out.flush()?;
        writeln!(self.err, "{}: {text}", self.program)
    }

    /// A log line of level WARN in OVS's console form, unless `-v` has silenced the module.
    ///
    /// # Errors
    /// Standard error cannot be written.
    pub fn warn(&mut self, module: &str, text: &str) -> io::Result<()> {
        self.log(Level::Warn, module, text)
    }

    /// The same of level INFO.
    ///
    /// # Errors
    /// Standard error cannot be written.
    pub fn info(&mut self, module: &str, text: &str) -> io::Result<()> {
        self.log(Level::Info, module, text)
    }

    fn log(&mut self, level: Level, module: &str, text: &str) -> io::Result<()> {
        let of_module = self.levels.iter().rfind(|(of, _)| of.is_none_or(|of| of.name() == module));
        if of_module.map_or(Level::Info, |(_, most)| *most) < level {
            return Ok(());
        }
        self.lines += 1;
        let line = log_line(&self.pattern, self.lines, (level, module), text);
        writeln!(self.err, "{line}")
    }

    /// Obeys `-vSPEC` as far as it concerns the console. What is no specification is told by whoever reads the options.
    pub fn log_spec(&mut self, spec: Option<&str>) {
        let of_console = |destination: Option<Destination>| destination.is_none_or(|d| d == Destination::Console);
        match levels::parse(spec.unwrap_or_default()) {
            Ok(Change::Pattern { destination, pattern }) if of_console(destination) => self.pattern = pattern,
            Ok(Change::Levels { module, destination, level }) if of_console(destination) => self.levels.push((module, level)),
            Ok(_) | Err(_) => {}
        }
    }
}

/// A line after `pattern`; of vlog's escapes those that name what a tool has.
#[must_use]
pub fn log_line(pattern: &str, serial: u32, (level, module): (Level, &str), text: &str) -> String {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some((before, escape)) = rest.split_once('%') {
        out.push_str(before);
        let escape = escape.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
        let Some(letter) = escape.chars().next() else {
            break;
        };
        rest = &escape[letter.len_utf8()..];
        match letter {
            'c' => out.push_str(module),
            'm' => out.push_str(text),
            'p' => out.push_str(level.name()),
            'N' => out.push_str(&format!("{serial:05}")),
            'P' => out.push_str(&std::process::id().to_string()),
            'D' | 'd' => {
                rest = rest.strip_prefix('{').and_then(|r| r.split_once('}')).map_or(rest, |(_, after)| after);
                out.push_str(&jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
            }
            '%' => out.push('%'),
            _ => {}
        }
    }
    out.push_str(rest);
    out
}

/// Runs a tool on the process's own streams and makes an exit code of its end. A reader that has gone away is no fault of ours:
/// the tool ends quietly.
pub fn on_standard_streams(run: impl FnOnce(&mut Io<'_>) -> Result<u8, Fault>) -> ExitCode {
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let mut err = io::stderr();
    let mut io = Io::new(&mut out, &mut err);
    let ended = run(&mut io);
    let flushed = io.out.flush();
    let code = match ended.and_then(|code| flushed.map(|()| code).map_err(Fault::Output)) {
        Ok(code) | Err(Fault::Said(code)) => code,
        Err(Fault::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(Fault::Output(error)) => {
            // Nobody is left to hear that standard error fails as well.
            drop(io.complain(&format!("write failed ({})", errno_text(&error))));
            1
        }
        Err(Fault::Text { text, code }) => {
            drop(io.complain(&text));
            code
        }
    };
    ExitCode::from(code)
}
