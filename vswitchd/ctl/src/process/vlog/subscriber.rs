//! The bridge from `tracing` to `Log`: which call sites are awake, and how an event's fields become a message. Spans are not used.

use super::Log;
use super::levels::Level;
use super::modules::Module;
use std::fmt::{Debug, Write as _};
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata};

#[derive(Debug)]
pub(super) struct Subscriber(pub(super) Arc<Log>);

fn level_of(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Err,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG | tracing::Level::TRACE => Level::Dbg,
    }
}

impl Subscriber {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        // Traces of libraries are too many even for DBG.
        *metadata.level() != tracing::Level::TRACE
            && self.0.max_level(Module::of_target(metadata.target())) >= level_of(*metadata.level())
    }
}

impl tracing::Subscriber for Subscriber {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if !metadata.is_span() && self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    // Asked of hints (`tracing::enabled!`), too, which are no events.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !metadata.is_span() && self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let max = Module::all().map(|m| self.0.max_level(m)).max().unwrap_or(Level::Off);
        Some(match max {
            Level::Off => LevelFilter::OFF,
            Level::Emer | Level::Err => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Dbg => LevelFilter::DEBUG,
        })
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let module = Module::of_target(event.metadata().target());
        let mut steering = Steering::default();
        event.record(&mut steering);
        let level = if steering.emer { Level::Emer } else { level_of(*event.metadata().level()) };
        let admitted = steering
            .rate
            .is_none_or(|rate| self.0.admit(event.metadata().callsite(), module, level, (rate, steering.burst.unwrap_or(rate))));
        if admitted {
            // Only now: what is not written need not be put into words.
            let mut words = Words::default();
            event.record(&mut words);
            words.message.push_str(&words.rest);
            self.0.write(module, level, &words.message);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The fields of an event that steer the log.
#[derive(Default)]
struct Steering {
    rate: Option<u64>,
    burst: Option<u64>,
    emer: bool,
}

impl Visit for Steering {
    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "rl" => self.rate = Some(value),
            "burst" => self.burst = Some(value),
            _ => {}
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        if let Ok(value) = u64::try_from(value) {
            self.record_u64(field, value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "emer" {
            self.emer = value;
        }
    }
}

/// The fields of an event that are written: the message, and the rest as ` name=value`.
#[derive(Default)]
struct Words {
    message: String,
    rest: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "rl" | "burst" | "emer" => Ok(()),
            // The `log` crate's own fields, when a library's records are carried over.
            name if name.starts_with("log.") => Ok(()),
            name => write!(self.rest, " {name}={value:?}"),
        };
        written.expect("writing to a String cannot fail");
    }
}
