//! The commands of vsctl as one table, and the parts of a command line that they make up: `OPTION... COMMAND ARG... [-- ...]`.

use super::context::Context;
use super::{bridges, database, ports, settings, show, zones};
use crate::fault::Fault;
use crate::suggest;
use ovsdb::Schema;
use std::collections::BTreeMap;

/// What of the database a command needs: tables, with all their columns or some.
#[derive(Clone, Default, Debug)]
pub struct Wanted(pub BTreeMap<String, Option<Vec<&'static str>>>);

impl Wanted {
    /// All columns of a table.
    pub fn table(&mut self, table: &str) {
        self.0.insert(table.to_owned(), None);
    }

    /// These columns of a table.
    pub fn columns(&mut self, table: &str, columns: &[&'static str]) {
        if let Some(held) = self.0.entry(table.to_owned()).or_insert_with(|| Some(Vec::new())) {
            held.extend(columns.iter().copied().filter(|c| !held.contains(c)).collect::<Vec<_>>());
        }
    }

    /// What bridges, ports and interfaces are made of.
    pub fn topology(&mut self) {
        self.columns("Open_vSwitch", &["bridges", "next_cfg", "cur_cfg"]);
        self.columns("Bridge", &["name", "ports", "controller", "fail_mode"]);
        self.columns("Port", &["name", "fake_bridge", "tag", "interfaces"]);
        self.columns("Interface", &["name", "ofport", "error"]);
    }
}

/// A command and how it is called.
#[derive(Debug)]
pub struct Command {
    pub name: &'static str,
    pub least: usize,
    pub most: usize,
    pub usage: &'static str,
    /// `--name` or, with a value, `--name=`; separated by commas.
    pub options: &'static str,
    pub need: Need,
    /// Checks words and adds what the command reads, before there is a connection.
    pub prepare: fn(&Call, &Schema, &mut Wanted) -> Result<(), Fault>,
    pub run: fn(&mut Context<'_>, &Call) -> Result<(), Fault>,
}

/// What a command works on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// `prepare` says it all.
    Own,
    /// Bridges, ports and interfaces.
    Topology,
}

/// A command as called.
#[derive(Clone, Debug)]
pub struct Call {
    pub command: &'static Command,
    pub options: BTreeMap<&'static str, Option<String>>,
    /// The command's name first.
    pub words: Vec<String>,
}

impl Call {
    /// Argument `n`, from 1.
    #[must_use]
    pub fn argument(&self, n: usize) -> &str {
        self.words.get(n).map_or("", String::as_str)
    }

    /// The arguments from number `n` on.
    #[must_use]
    pub fn arguments(&self, n: usize) -> &[String] {
        self.words.get(n..).unwrap_or(&[])
    }

    /// Whether the option is given.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.options.contains_key(option)
    }

    /// The option's value.
    #[must_use]
    pub fn value(&self, option: &str) -> Option<&str> {
        self.options.get(option).and_then(|v| v.as_deref())
    }

    /// The command as it would be typed again.
    #[must_use]
    pub fn text(&self) -> String {
        let options = self.options.iter().map(|(name, value)| match value {
            Some(value) => format!("{name}={value}"),
            None => (*name).to_owned(),
        });
        options.chain(self.words.iter().cloned()).collect::<Vec<_>>().join(" ")
    }
}

const ANY: usize = usize::MAX;

fn nothing(_: &Call, _: &Schema, _: &mut Wanted) -> Result<(), Fault> {
    Ok(())
}

type Run = fn(&mut Context<'_>, &Call) -> Result<(), Fault>;
type Prepare = fn(&Call, &Schema, &mut Wanted) -> Result<(), Fault>;

/// A command on bridges, ports and interfaces.
const fn on_topology(name: &'static str, range: (usize, usize), usage: &'static str, options: &'static str, run: Run) -> Command {
    Command { name, least: range.0, most: range.1, usage, options, need: Need::Topology, prepare: nothing, run }
}

const fn on_more(
    name: &'static str,
    range: (usize, usize),
    usage: &'static str,
    options: &'static str,
    (prepare, run): (Prepare, Run),
) -> Command {
    Command { name, least: range.0, most: range.1, usage, options, need: Need::Topology, prepare, run }
}

const fn on_own(
    name: &'static str,
    range: (usize, usize),
    usage: &'static str,
    options: &'static str,
    (prepare, run): (Prepare, Run),
) -> Command {
    Command { name, least: range.0, most: range.1, usage, options, need: Need::Own, prepare, run }
}

/// All commands.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    on_own("init", (0, 0), "", "", (nothing, settings::init)),
    on_own("show", (0, 0), "", "", (show::prepare, show::run)),
    on_own("emer-reset", (0, 0), "", "", (settings::prepare_reset, settings::reset)),

    on_topology("add-br", (1, 3), "NEW-BRIDGE [PARENT] [NEW-VLAN]", "--may-exist", bridges::add),
    on_topology("del-br", (1, 1), "BRIDGE", "--if-exists", bridges::delete),
    on_topology("list-br", (0, 0), "", "--real,--fake", bridges::list),
    on_topology("br-exists", (1, 1), "BRIDGE", "", bridges::exists),
    on_topology("br-to-vlan", (1, 1), "BRIDGE", "", bridges::to_vlan),
    on_topology("br-to-parent", (1, 1), "BRIDGE", "", bridges::to_parent),
    on_more("br-set-external-id", (2, 3), "BRIDGE KEY [VALUE]", "", (bridges::prepare_ids, bridges::set_id)),
    on_more("br-get-external-id", (1, 2), "BRIDGE [KEY]", "", (bridges::prepare_ids, bridges::show_id)),

    on_topology("list-ports", (1, 1), "BRIDGE", "", ports::list),
    on_more("add-port", (2, ANY), "BRIDGE NEW-PORT [COLUMN[:KEY]=VALUE]...", "--may-exist", (ports::prepare_add, ports::add)),
    on_more("add-bond", (4, ANY), "BRIDGE NEW-BOND-PORT SYSIFACE... [COLUMN[:KEY]=VALUE]...", "--may-exist,--fake-iface",
        (ports::prepare_add, ports::add_bond)),
    on_topology("add-bond-iface", (2, 2), "BOND IFACE", "--may-exist", ports::add_member),
    on_topology("del-bond-iface", (1, 2), "[BOND] IFACE", "--if-exists", ports::delete_member),
    on_topology("del-port", (1, 2), "[BRIDGE] PORT", "--if-exists,--with-iface", ports::delete),
    on_topology("port-to-br", (1, 1), "PORT", "", ports::to_bridge),
    on_topology("list-ifaces", (1, 1), "BRIDGE", "", ports::list_interfaces),
    on_topology("iface-to-br", (1, 1), "IFACE", "", ports::interface_to_bridge),

    on_more("get-controller", (1, 1), "BRIDGE", "", (settings::prepare_controllers, settings::list_controllers)),
    on_more("del-controller", (1, 1), "BRIDGE", "", (settings::prepare_controllers, settings::delete_controllers)),
    on_more("set-controller", (1, ANY), "BRIDGE TARGET...", "--inactivity-probe=", (settings::prepare_controllers, settings::set_controllers)),
    on_topology("get-fail-mode", (1, 1), "BRIDGE", "", settings::show_fail_mode),
    on_topology("del-fail-mode", (1, 1), "BRIDGE", "", settings::delete_fail_mode),
    on_topology("set-fail-mode", (2, 2), "BRIDGE MODE", "", settings::set_fail_mode),

    on_own("get-manager", (0, 0), "", "", (settings::prepare_managers, settings::list_managers)),
    on_own("del-manager", (0, 0), "", "", (settings::prepare_managers, settings::delete_managers)),
    on_own("set-manager", (1, ANY), "TARGET...", "--inactivity-probe=", (settings::prepare_managers, settings::set_managers)),

    on_own("get-ssl", (0, 0), "", "", (settings::prepare_ssl, settings::show_ssl)),
    on_own("del-ssl", (0, 0), "", "", (settings::prepare_ssl, settings::delete_ssl)),
    on_own("set-ssl", (3, 5), "PRIVATE-KEY CERTIFICATE CA-CERT [SSL-PROTOS [SSL-CIPHERS]]", "--bootstrap", (settings::prepare_ssl, settings::set_ssl)),

    on_more("add-aa-mapping", (3, 3), "BRIDGE I-SID VLAN", "", (settings::prepare_mappings, settings::add_mapping)),
    on_more("del-aa-mapping", (3, 3), "BRIDGE I-SID VLAN", "", (settings::prepare_mappings, settings::delete_mapping)),
    on_more("get-aa-mapping", (1, 1), "BRIDGE", "", (settings::prepare_mappings, settings::list_mappings)),

    on_own("add-zone-tp", (2, 18), "DATAPATH zone=ZONE POLICIES...", "--may-exist", (zones::prepare, zones::add_policy)),
    on_own("del-zone-tp", (2, 2), "DATAPATH zone=ZONE", "--if-exists", (zones::prepare, zones::delete_policy)),
    on_own("list-zone-tp", (1, 1), "DATAPATH", "", (zones::prepare, zones::list_policies)),
    on_own("set-zone-limit", (3, 3), "DATAPATH ZONE|default LIMIT", "", (zones::prepare, zones::set_limit)),
    on_own("del-zone-limit", (2, 2), "DATAPATH ZONE|default", "--if-exists", (zones::prepare, zones::delete_limit)),
    on_own("list-zone-limits", (1, 1), "DATAPATH", "", (zones::prepare, zones::list_limits)),
    on_own("list-dp-cap", (1, 1), "DATAPATH", "", (zones::prepare, zones::list_capabilities)),

    on_own("comment", (0, ANY), "[ARG]...", "", (nothing, database::comment)),
    on_own("get", (2, ANY), "TABLE RECORD [COLUMN[:KEY]]...", "--if-exists,--id=", (database::prepare_get, database::get)),
    on_own("list", (1, ANY), "TABLE [RECORD]...", "--if-exists,--columns=", (database::prepare_list, database::list)),
    on_own("find", (1, ANY), "TABLE [COLUMN[:KEY]=VALUE]...", "--columns=", (database::prepare_find, database::find)),
    on_own("set", (3, ANY), "TABLE RECORD COLUMN[:KEY]=VALUE...", "--if-exists", (database::prepare_set, database::set)),
    on_own("add", (4, ANY), "TABLE RECORD COLUMN [KEY=]VALUE...", "--if-exists", (database::prepare_column, database::add)),
    on_own("remove", (4, ANY), "TABLE RECORD COLUMN KEY|VALUE|KEY=VALUE...", "--if-exists", (database::prepare_column, database::remove)),
    on_own("clear", (3, ANY), "TABLE RECORD COLUMN...", "--if-exists", (database::prepare_clear, database::clear)),
    on_own("create", (2, ANY), "TABLE COLUMN[:KEY]=VALUE...", "--id=", (database::prepare_create, database::create)),
    on_own("destroy", (1, ANY), "TABLE [RECORD]...", "--if-exists,--all", (database::prepare_table, database::destroy)),
    on_own("wait-until", (2, ANY), "TABLE RECORD [COLUMN[:KEY]=VALUE]...", "", (database::prepare_wait, database::wait_until)),
];

/// Cuts the words at `--` and reads each command. `leading` are options of commands given among the program's own: they belong to the
/// first command.
///
/// # Errors
/// The first command at fault.
pub fn parse(words: &[String], leading: &[(String, Option<String>)]) -> Result<Vec<Call>, Fault> {
    let mut calls = Vec::new();
    let mut leading = leading;
    for words in words.split(|w| w == "--") {
        if words.is_empty() {
            continue;
        }
        calls.push(parse_call(words, leading)?);
        leading = &[];
    }
    if calls.is_empty() {
        return Err(missing());
    }
    Ok(calls)
}

fn missing() -> Fault {
    Fault::say("missing command name (use --help for help)")
}

fn parse_call(words: &[String], leading: &[(String, Option<String>)]) -> Result<Call, Fault> {
    let mut given: Vec<(String, Option<String>)> = leading.to_vec();
    let mut rest = words;
    while let Some((word, after)) = rest.split_first()
        && word.starts_with('-')
    {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        if given.iter().any(|(n, _)| n == name) {
            return Err(Fault::say(format!("'{word}' option specified multiple times")));
        }
        given.push((name.to_owned(), value));
        rest = after;
    }
    let Some(name) = rest.first() else {
        return Err(missing());
    };
    let Some(command) = COMMANDS.iter().find(|c| c.name == name) else {
        let hint = suggest::hint(name, COMMANDS.iter().map(|c| c.name));
        return Err(Fault::say(format!("unknown command '{name}'; use --help for help{hint}")));
    };
    let mut options = BTreeMap::new();
    for (option, value) in given {
        options.insert(known_option(command, &option, value.as_deref())?, value);
    }
    check_count(command, rest)?;
    Ok(Call { command, options, words: rest.to_vec() })
}

fn known_option(command: &'static Command, option: &str, value: Option<&str>) -> Result<&'static str, Fault> {
    let name = command.name;
    let known = command.options.split(',').find(|o| o.trim_end_matches('=') == option && !option.is_empty());
    match (known, known.is_some_and(|o| o.ends_with('=')), value) {
        (None, _, _) => Err(Fault::say(format!("'{name}' command has no '{option}' option"))),
        (Some(_), true, None) => Err(Fault::say(format!("missing argument to '{option}' option on '{name}' command"))),
        (Some(_), false, Some(_)) => Err(Fault::say(format!("'{option}' option on '{name}' does not accept an argument"))),
        (Some(known), _, _) => Ok(known.trim_end_matches('=')),
    }
}

fn check_count(command: &Command, words: &[String]) -> Result<(), Fault> {
    let (name, n) = (command.name, words.len() - 1);
    if n < command.least {
        return Err(Fault::say(format!("'{name}' command requires at least {} arguments", command.least)));
    }
    if n > command.most {
        let note = if words.iter().any(|w| w.starts_with('-')) {
            " (note that options must precede command names and follow a \"--\" argument)"
        } else {
            ""
        };
        return Err(Fault::say(format!("'{name}' command takes at most {} arguments{note}", command.most)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: &str) {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let got = parse(&words, &[])
            .map_or_else(|e| e.to_string(), |calls| calls.iter().map(Call::text).collect::<Vec<_>>().join(" ; "));
        assert_eq!(got, expect, "{line}");
    }

    #[test]
    fn command_lines() {
        check("add-br a -- --may-exist add-port a p tag=1", "add-br a ; --may-exist add-port a p tag=1");
        check("-- --id=@x create QoS type=y --", "--id=@x create QoS type=y");
        check("foo", "unknown command 'foo'; use --help for help");
        check("add-br", "'add-br' command requires at least 1 arguments");
        check("list-br foo", "'list-br' command takes at most 0 arguments");
        check(
            "list-br --real",
            "'list-br' command takes at most 0 arguments (note that options must precede command names and follow a \"--\" argument)",
        );
        check("-- --bar add-br x", "'add-br' command has no '--bar' option");
        check("-- --may-exist=1 add-br x", "'--may-exist' option on 'add-br' does not accept an argument");
        check("-- --id create QoS x", "missing argument to '--id' option on 'create' command");
        check("-- --may-exist --may-exist add-br x", "'--may-exist' option specified multiple times");
        check("-- --may-exist", "missing command name (use --help for help)");
    }
}
