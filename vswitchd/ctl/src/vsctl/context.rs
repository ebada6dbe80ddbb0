//! What a run of commands shares: the database with its changes, `@id`s, the bridges at a glance; and what each command leaves
//! behind to be printed when all is committed.

use super::names::Symbols;
use super::overlay::{Key, Overlay};
use super::topology::Topology;
use crate::fault::Fault;
use crate::table::Table;
use ovsdb::Datum;
use uuid::Uuid;

/// What one command prints.
#[derive(Debug)]
pub enum Output {
    Text(String),
    Table(Table),
    /// The UUID of a row that the run made: known once it is committed.
    NewRow(Uuid),
}

/// A run of commands.
#[derive(Debug)]
pub struct Context<'a> {
    pub overlay: &'a mut Overlay,
    pub symbols: Symbols,
    /// Of the command that runs.
    pub output: Output,
    /// Log lines of level WARN: module and text.
    pub warnings: Vec<(&'static str, String)>,
    /// A condition does not hold yet: forget everything, and run again when the database has changed.
    pub try_again: bool,
    /// The command that runs is the last one: nothing will read what it writes.
    pub last: bool,
    /// Interfaces made by this run, whose fate is looked at when the switch has taken them up.
    pub new_interfaces: Vec<Uuid>,
    topology: Option<Topology>,
}

impl<'a> Context<'a> {
    /// A run on `overlay`.
    pub fn new(overlay: &'a mut Overlay) -> Self {
        Self {
            overlay,
            symbols: Symbols::default(),
            output: Output::Text(String::new()),
            warnings: Vec::new(),
            try_again: false,
            last: false,
            new_interfaces: Vec::new(),
            topology: None,
        }
    }

    /// Prints a line.
    pub fn say(&mut self, line: &str) {
        self.print(line);
        self.print("\n");
    }

    /// Prints text.
    pub fn print(&mut self, text: &str) {
        match &mut self.output {
            Output::Text(held) => held.push_str(text),
            Output::Table(_) | Output::NewRow(_) => self.output = Output::Text(text.to_owned()),
        }
    }

    /// Logs a warning.
    pub fn warn(&mut self, module: &'static str, text: String) {
        self.warnings.push((module, text));
    }

    /// The bridges, ports and interfaces.
    pub fn topology(&mut self) -> Result<&mut Topology, Fault> {
        if self.topology.is_none() {
            let (topology, warnings) = Topology::of(self.overlay);
            self.warnings.extend(warnings.into_iter().map(|w| ("vsctl", w)));
            self.topology = Some(topology);
        }
        self.topology.as_mut().ok_or_else(|| Fault::say("no topology"))
    }

    /// Someone wrote rows or columns that bridges are made of.
    pub fn forget_topology(&mut self) {
        self.topology = None;
    }

    /// The only row of table Open_vSwitch.
    ///
    /// # Errors
    /// There is none: the database was never set up.
    pub fn root(&mut self) -> Result<Key, Fault> {
        self.overlay
            .rows_of("Open_vSwitch")
            .first()
            .copied()
            .ok_or_else(|| Fault::say("the database has no row in table Open_vSwitch; run \"ovs-vsctl init\""))
    }

    /// A new row of the table called `table`.
    ///
    /// # Errors
    /// The server has no such table.
    pub fn insert(&mut self, table: &str, columns: impl IntoIterator<Item = (&'static str, Datum)>) -> Result<Key, Fault> {
        let number = self.overlay.table(table).ok_or_else(|| Fault::say(format!("unknown table \"{table}\"")))?;
        let key = self.overlay.insert(number, Uuid::new_v4());
        for (column, datum) in columns {
            self.overlay.set(key, column, datum);
        }
        Ok(key)
    }
}
