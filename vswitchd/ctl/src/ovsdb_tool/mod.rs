//! `ovsdb-tool`: works on a database file without a server. The file's lock keeps it away from one that a server has open, but for
//! commands that only read. Clustered files belong to OVS's own tool; they are recognised and refused.

mod show_log;

use crate::console::Io;
use crate::fault::Fault;
use crate::getopt::{self, Row, Value, Word, row};
use crate::{OVS_VERSION, dirs, suggest};
use ovsdb::Schema;
use ovsdb::db::{Actor, Database, Executed, Request, execute};
use ovsdb::store::Store;
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Id {
    More,
    RbacRole,
    /// For clustered databases.
    Cluster,
    Verbose,
    Ignored,
    Help,
    Version,
}

const ROWS: &[Row<Id>] = &[
    row("more", Some('m'), Value::None, Id::More),
    row("rbac-role", None, Value::Required, Id::RbacRole),
    row("cid", None, Value::Required, Id::Cluster),
    row("election-timer", None, Value::Required, Id::Cluster),
    row("verbose", Some('v'), Value::Optional, Id::Verbose),
    row("log-file", None, Value::Optional, Id::Ignored),
    row("syslog-method", None, Value::Required, Id::Ignored),
    row("syslog-target", None, Value::Required, Id::Ignored),
    row("help", Some('h'), Value::None, Id::Help),
    row("option", Some('o'), Value::None, Id::Help),
    row("version", Some('V'), Value::None, Id::Version),
];

/// What a command is given.
struct Call<'a> {
    words: &'a [String],
    /// How often `-m` was said.
    more: u32,
    /// For transactions.
    role: Option<String>,
}

impl Call<'_> {
    fn word(&self, at: usize) -> Option<&str> {
        self.words.get(at).map(String::as_str)
    }

    fn database(&self, at: usize) -> PathBuf {
        self.word(at).map_or_else(|| dirs::database().join("conf.db"), PathBuf::from)
    }
}

type Run = fn(&mut Io<'_>, &Call<'_>) -> Result<u8, Fault>;

/// Name, least and greatest number of arguments, arguments, what it does, how.
struct Command(&'static str, usize, usize, &'static str, &'static str, Run);

const COMMANDS: &[Command] = &[
    Command("create", 0, 2, "[DB [SCHEMA]]", "create DB with the given SCHEMA", create),
    Command("compact", 0, 2, "[DB [DST]]", "compact DB in-place (or to DST)", compact),
    Command("convert", 0, 3, "[DB [SCHEMA [DST]]]", "convert DB to SCHEMA (to DST)", convert),
    Command("needs-conversion", 0, 2, "[DB [SCHEMA]]", "report whether convert would change DB", needs_conversion),
    Command("db-name", 0, 1, "[DB]", "report name of schema used by DB", |io, call| of_database(io, call, |s| s.name.clone())),
    Command("db-version", 0, 1, "[DB]", "report version of schema used by DB", |io, c| of_database(io, c, |s| s.version.clone())),
    Command("db-cksum", 0, 1, "[DB]", "report checksum of schema used by DB", |io, c| of_database(io, c, |s| s.cksum.clone())),
    Command("db-cid", 1, 1, "DB", "report cluster ID of clustered DB", of_cluster),
    Command("db-sid", 1, 1, "DB", "report server ID of clustered DB", of_cluster),
    Command("db-local-address", 1, 1, "DB", "report local address of clustered DB", of_cluster),
    Command("db-is-clustered", 1, 1, "DB", "test whether DB is clustered", |_, call| is(call, "OVSDB CLUSTER ")),
    Command("db-is-standalone", 1, 1, "DB", "test whether DB is standalone", |_, call| is(call, "OVSDB JSON ")),
    Command("schema-name", 0, 1, "[SCHEMA]", "report SCHEMA's name", |io, call| of_schema(io, call, |s| s.name.clone())),
    Command("schema-version", 0, 1, "[SCHEMA]", "report SCHEMA's schema version", |io, c| {
        of_schema(io, c, |s| s.version.clone())
    }),
    Command("schema-cksum", 0, 1, "[SCHEMA]", "report SCHEMA's checksum", |io, c| of_schema(io, c, |s| s.cksum.clone())),
    Command("compare-versions", 3, 3, "A OP B", "compare OVSDB schema version numbers", compare_versions),
    Command("query", 1, 2, "[DB] TRNS", "execute read-only transaction on DB", query),
    Command("transact", 1, 2, "[DB] TRNS", "execute read/write transaction on DB", transact),
    Command("show-log", 0, 1, "[DB]", "print DB's log entries (-m, -mm: what they say)", show_log::run),
    Command("create-cluster", 3, 3, "DB CONTENTS LOCAL", "(OVS's own ovsdb-tool only)", no_cluster),
    Command("join-cluster", 4, usize::MAX, "DB NAME LOCAL REMOTE...", "(OVS's own ovsdb-tool only)", no_cluster),
    Command("cluster-to-standalone", 2, 2, "DB CLUSTERDB", "(OVS's own ovsdb-tool only)", no_cluster),
    Command("check-cluster", 1, usize::MAX, "DB...", "(OVS's own ovsdb-tool only)", no_cluster),
    Command("list-commands", 0, 0, "", "list the commands", |io, _| list(io)),
    Command("help", 0, usize::MAX, "", "display this help message", |io, _| help(io)),
];

/// Names of the commands.
#[must_use]
pub fn commands() -> Vec<&'static str> {
    COMMANDS.iter().map(|c| c.0).collect()
}

/// Runs it.
///
/// # Errors
/// Options, an unknown command, files that cannot be read, written or understood.
pub fn run(io: &mut Io<'_>, words: &[String]) -> Result<u8, Fault> {
    let (mut operands, mut more, mut role) = (Vec::new(), 0, None);
    for word in getopt::parse(ROWS, words)? {
        match word {
            Word::Operand(operand) => operands.push(operand),
            Word::Option(Id::More, _) => more += 1,
            Word::Option(Id::RbacRole, value) => role = value,
            Word::Option(Id::Cluster | Id::Ignored, _) => {}
            Word::Option(Id::Verbose, value) => io.log_spec(value.as_deref()),
            Word::Option(Id::Help, _) => return help(io),
            Word::Option(Id::Version, _) => {
                writeln!(io.out, "{} (Open vSwitch) {OVS_VERSION}", io.program)?;
                return Ok(0);
            }
        }
    }
    let Some((name, words)) = operands.split_first() else {
        return Err(Fault::say("missing command name; use --help for help"));
    };
    let Some(Command(_, least, most, _, _, run)) = COMMANDS.iter().find(|c| c.0 == name) else {
        let hint = suggest::hint(name, COMMANDS.iter().map(|c| c.0));
        return Err(Fault::say(format!("unknown command '{name}'; use --help for help{hint}")));
    };
    if words.len() < *least {
        return Err(Fault::say(format!("'{name}' command requires at least {least} arguments")));
    }
    if words.len() > *most {
        return Err(Fault::say(format!("'{name}' command takes at most {most} arguments")));
    }
    run(io, &Call { words, more, role })
}

fn refused(error: ovsdb::Error) -> Fault {
    Fault::say(error.to_string())
}

#[allow(clippy::disallowed_methods, reason = "journal records carry the date; no decision depends on it")]
pub(crate) fn date_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

// ---- schemas -------------------------------------------------------------------------------------------------------------

/// Reads a schema file; the one of the switch comes with this program.
pub(crate) fn schema_file(path: Option<&str>) -> Result<Schema, Fault> {
    let default = dirs::data().join("vswitch.ovsschema");
    let path = match path {
        Some(path) => Path::new(path),
        None if !default.exists() => return Schema::from_text(ovsdb::schema::VSWITCH_SCHEMA).map_err(refused),
        None => &default,
    };
    let shown = path.display();
    let bad = |why: String| Fault::say(format!("failed to read schema: \"{shown}\" could not be read as JSON ({why})"));
    let text =
        std::fs::read_to_string(path).map_err(|e| bad(format!("error opening \"{shown}\": {}", crate::fault::errno_text(&e))))?;
    let json: Json = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    Schema::from_json(&json).map_err(refused)
}

fn of_schema(io: &mut Io<'_>, call: &Call<'_>, what: fn(&Schema) -> String) -> Result<u8, Fault> {
    let schema = schema_file(call.word(0))?;
    writeln!(io.out, "{}", what(&schema))?;
    Ok(0)
}

fn of_database(io: &mut Io<'_>, call: &Call<'_>, what: fn(&Schema) -> String) -> Result<u8, Fault> {
    let contents = ovsdb::journal::read(&call.database(0)).map_err(refused)?;
    let schema = contents.records.first().ok_or_else(|| {
        let why = contents.damage.as_ref().map_or("it is empty", |damage| &damage.reason);
        Fault::say(format!("{}: file holds no schema: {why}", call.database(0).display()))
    })?;
    writeln!(io.out, "{}", what(&Schema::from_json(schema).map_err(refused)?))?;
    Ok(0)
}

fn needs_conversion(io: &mut Io<'_>, call: &Call<'_>) -> Result<u8, Fault> {
    let wanted = schema_file(call.word(1))?;
    let db = Store::read(&call.database(0)).map_err(refused)?;
    writeln!(io.out, "{}", if db.schema().to_json() == wanted.to_json() { "no" } else { "yes" })?;
    Ok(0)
}

fn compare_versions(_: &mut Io<'_>, call: &Call<'_>) -> Result<u8, Fault> {
    let version = |text: &str| -> Result<[u32; 3], Fault> {
        let bad = || Fault::say(format!("{text}: not an OVSDB version number in format x.y.z"));
        let parts: Vec<u32> = text.split('.').map(|p| p.parse().map_err(|_| bad())).collect::<Result<_, _>>()?;
        parts.try_into().map_err(|_| bad())
    };
    let words: Vec<&str> = call.words.iter().map(String::as_str).collect();
    let [a, operator, b] = words[..] else { return Err(Fault::say("three arguments expected")) };
    let order = version(a)?.cmp(&version(b)?);
    let holds = match operator {
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        "==" => order.is_eq(),
        ">=" => order.is_ge(),
        ">" => order.is_gt(),
        "!=" => order.is_ne(),
        other => return Err(Fault::say(format!("\"{other}\": not a relational operator"))),
    };
    Ok(if holds { 0 } else { 2 })
}

// ---- files ---------------------------------------------------------------------------------------------------------------

fn create(_: &mut Io<'_>, call: &Call<'_>) -> Result<u8, Fault> {
    let schema = schema_file(call.word(1))?;
    Store::create(&call.database(0), Arc::new(schema)).map_err(refused)?;
    Ok(0)
}

fn compact(_: &mut Io<'_>, call: &Call<'_>) -> Result<u8, Fault> {
    let comment = format!("compacted by ovsdb-tool {OVS_VERSION}");
    let mut store = Store::open(&call.database(0)).map_err(refused)?;
    match call.word(1) {
        None => store.compact(&comment, date_ms()).map_err(refused)?,
        Some(to) => store.export(Path::new(to), &comment, date_ms()).map_err(refused)?,
    }
    Ok(0)
}

fn convert(_: &mut Io<'_>, call: &Call<'_>) -> Result<u8, Fault> {
    let schema = Arc::new(schema_file(call.word(1))?);
    let comment = format!("converted by ovsdb-tool {OVS_VERSION}");
    let mut store = Store::open(&call.database(0)).map_err(refused)?;
    match call.word(2) {
        None => store.convert(schema, &comment, date_ms()).map_err(refused)?,
        Some(to) => store.export_as(schema, Path::new(to), &comment, date_ms()).map_err(refused)?,
    }
    Ok(0)
}

fn magic(path: &str) -> Result<Vec<u8>, Fault> {
    let mut head = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| {
        use std::io::Read as _;
        file.take(64).read_to_end(&mut head)
    });
    read.map_err(|e| Fault::because(format!("I/O error: {path}: open failed"), &e))?;
    Ok(head)
}

fn is(call: &Call<'_>, wanted: &str) -> Result<u8, Fault> {
    Ok(if magic(call.word(0).unwrap_or_default())?.starts_with(wanted.as_bytes()) { 0 } else { 2 })
}

fn of_cluster(_: &mut Io<'_>, call: &Call<'_>) -> Result<u8, Fault> {
    let path = call.word(0).unwrap_or_default();
    if magic(path)?.starts_with(b"OVSDB CLUSTER ") {
        return Err(Fault::say(format!("{path}: clustered databases are for OVS's own ovsdb-tool")));
    }
    Err(Fault::say(format!("{path}: not a clustered database")))
}

fn no_cluster(_: &mut Io<'_>, _: &Call<'_>) -> Result<u8, Fault> {
    Err(Fault::say("clustered databases are for OVS's own ovsdb-tool"))
}

// ---- transactions --------------------------------------------------------------------------------------------------------

fn transaction<'a>(call: &'a Call<'_>) -> Result<(PathBuf, Json), Fault> {
    let (database, text): (PathBuf, &'a str) = match call.words {
        [text] => (call.database(1), text),
        [_, text] => (call.database(0), text),
        _ => return Err(Fault::say("a transaction is required")),
    };
    let json = serde_json::from_str(text).map_err(|e| Fault::say(format!("\"{text}\": {e}")))?;
    Ok((database, json))
}

fn query(io: &mut Io<'_>, call: &Call<'_>) -> Result<u8, Fault> {
    let (path, transaction) = transaction(call)?;
    let db = Store::read(&path).map_err(refused)?;
    let (reply, _) = answer(&db, &transaction, (true, call));
    writeln!(io.out, "{}", ovsdb::json::to_sorted(&reply))?;
    Ok(0)
}

fn transact(io: &mut Io<'_>, call: &Call<'_>) -> Result<u8, Fault> {
    let (path, transaction) = transaction(call)?;
    let mut store = Store::open(&path).map_err(refused)?;
    let (mut reply, commit) = answer(store.db(), &transaction, (false, call));
    if let Some(commit) = commit {
        let written = store.commit(&commit, date_ms()).and_then(|()| store.sync());
        if let (Err(error), Json::Array(results)) = (written, &mut reply) {
            results.push(error.to_json());
        }
    }
    writeln!(io.out, "{}", ovsdb::json::to_sorted(&reply))?;
    Ok(0)
}

/// Executes a transaction; the reply, and what is to be written.
fn answer(db: &Database, transaction: &Json, (read_only, call): (bool, &Call<'_>)) -> (Json, Option<ovsdb::db::Commit>) {
    let params = transaction.as_array().map_or(&[][..], Vec::as_slice);
    if params.first().and_then(Json::as_str) != Some(db.schema().name.as_str()) {
        let error = ovsdb::Error::syntax(transaction, "database name expected as first parameter");
        return (error.to_json(), None);
    }
    // Nobody else will change the file while we look: what is waited for now will never come.
    let actor = call.role.as_deref().map(|role| Actor { role, id: "ovsdb-tool" });
    let request = Request { params, owns_lock: &|_| false, elapsed_ms: 0, read_only, actor };
    match execute(db, &request) {
        Executed::Ready { results, commit, .. } => (Json::Array(results), Some(commit)),
        Executed::Failed(results) => (Json::Array(results), None),
        Executed::Wait(_) => (json!([ovsdb::Error::new(ovsdb::Tag::TimedOut, "\"wait\" timed out").to_json()]), None),
    }
}

// ---- help ----------------------------------------------------------------------------------------------------------------

fn list(io: &mut Io<'_>) -> Result<u8, Fault> {
    writeln!(io.out, "The available commands are:")?;
    for Command(name, _, _, arguments, _, _) in COMMANDS {
        writeln!(io.out, "  {name:<23} {}", arguments.to_lowercase())?;
    }
    Ok(0)
}

fn help(io: &mut Io<'_>) -> Result<u8, Fault> {
    writeln!(io.out, "{p}: Open vSwitch database management utility\nusage: {p} [OPTIONS] COMMAND [ARG...]", p = io.program)?;
    for Command(name, _, _, arguments, about, _) in COMMANDS {
        writeln!(io.out, "  {:<30}{about}", format!("{name} {arguments}"))?;
    }
    let (database, schema) = (dirs::database().join("conf.db"), dirs::data().join("vswitch.ovsschema"));
    writeln!(io.out, "The default DB is {}.\nThe default SCHEMA is {}.", database.display(), schema.display())?;
    write!(
        io.out,
        "
Logging options:
  -vSPEC, --verbose=SPEC      set logging levels

Other options:
  -m, --more                  increase show-log verbosity
  -h, --help                  display this help message
  -V, --version               display version information
"
    )?;
    Ok(0)
}
