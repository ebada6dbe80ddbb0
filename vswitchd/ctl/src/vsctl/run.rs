//! A run against the database: connect, run the commands, commit, print, wait.

use super::command::{Call, Need, Wanted};
use super::context::{Context, Output};
use super::options::Options;
use super::overlay::{Overlay, Plan};
use crate::console::Io;
use crate::dirs;
use crate::fault::{Fault, without_number};
use crate::table::Table;
use ovsdb::client::ClientError;
use ovsdb::client::blocking::BlockingIdl;
use ovsdb::client::txn::{Committed, Outcome};
use ovsdb::{Event, IdlConfig, Replica, Schema, Txn};
use std::time::Duration;
use uuid::Uuid;

const DATABASE: &str = "Open_vSwitch";
const TABLE: &str = "Open_vSwitch";
/// Exit code when the switch could not set up an interface (EX_DATAERR, since OVS 3.6).
const RECONFIGURATION_FAILED: u8 = 65;

/// What the commands left behind.
struct Finished {
    outputs: Vec<Output>,
    new_interfaces: Vec<Uuid>,
    /// UUIDs that rows of the run have in the database.
    uuids: Vec<(Uuid, Uuid)>,
    /// The configuration's number, to be waited for.
    next: Option<i64>,
}

/// The schema that comes with this program.
pub(super) fn embedded_schema() -> Result<Schema, Fault> {
    Schema::from_text(ovsdb::schema::VSWITCH_SCHEMA).map_err(|e| Fault::say(e.to_string()))
}

/// Runs the commands; the exit code.
pub(super) fn run(io: &mut Io<'_>, options: &Options, calls: &[Call], words: &[String]) -> Result<u8, Fault> {
    let schema = embedded_schema()?;
    let mut wanted = Wanted::default();
    wanted.columns(TABLE, &["next_cfg", "cur_cfg"]);
    for call in calls {
        if call.command.need == Need::Topology {
            wanted.topology();
        }
        (call.command.prepare)(call, &schema, &mut wanted)?;
    }
    let mut idl = connect(options, &wanted)?;
    let finished = loop {
        if let Some(finished) = attempt(io, options, calls, (&mut idl, words))? {
            break finished;
        }
        await_change(options, &mut idl)?;
    };
    print(io, options, &finished)?;
    match finished.next {
        Some(next) if options.wait && !options.dry_run => wait(io, options, &mut idl, (next, &finished)),
        Some(_) | None => Ok(0),
    }
}

// ---- the connection ------------------------------------------------------------------------------------------------------

fn connect(options: &Options, wanted: &Wanted) -> Result<BlockingIdl, Fault> {
    let mut config = IdlConfig::new(&options.database, DATABASE).tls(options.tls.source());
    for (table, columns) in &wanted.0 {
        config = match columns {
            None => config.table(table),
            Some(columns) => config.columns(table, columns),
        };
    }
    let mut idl = BlockingIdl::start(config).map_err(|e| failed(options, &e.to_string()))?;
    // Of several servers each gets a chance.
    let mut left = options.database.split(',').count();
    while !idl.replica().has_table(TABLE) || !synced(&mut idl) {
        match idl.next(None) {
            Some(Event::Disconnected(reason)) if !retries(options) => {
                left -= 1;
                if left == 0 {
                    return Err(failed(options, &reason));
                }
            }
            Some(Event::Synced(_)) => break,
            Some(Event::Disconnected(_) | Event::Changed(_) | Event::Done(..) | Event::Lock(_)) | None => {}
        }
    }
    Ok(idl)
}

/// Whether the replica is there already; asking costs nothing.
fn synced(idl: &mut BlockingIdl) -> bool {
    idl.wait_synced(true, Some(Duration::ZERO)).is_ok()
}

/// A passive connection waits for its server anyway.
fn retries(options: &Options) -> bool {
    options.retry || options.database.starts_with('p')
}

fn failed(options: &Options, reason: &str) -> Fault {
    let reason = reason.strip_prefix("connection attempt failed (").and_then(|r| r.strip_suffix(')')).unwrap_or(reason);
    let reason = match reason {
        "connection closed by peer" => "End of file".to_owned(),
        other => without_number(other),
    };
    Fault::say(format!("{}: database connection failed ({reason})", options.database))
}

fn await_change(options: &Options, idl: &mut BlockingIdl) -> Result<(), Fault> {
    loop {
        match idl.next(None) {
            Some(Event::Changed(_) | Event::Synced(_)) => return Ok(()),
            Some(Event::Disconnected(reason)) if !retries(options) => {
                return Err(failed(options, &reason));
            }
            Some(Event::Disconnected(_) | Event::Done(..) | Event::Lock(_)) | None => {}
        }
    }
}

// ---- the transaction -----------------------------------------------------------------------------------------------------

/// Runs the commands once; nothing if they must be run again when the database has changed.
fn attempt(
    io: &mut Io<'_>,
    options: &Options,
    calls: &[Call],
    (idl, words): (&mut BlockingIdl, &[String]),
) -> Result<Option<Finished>, Fault> {
    let mut overlay = Overlay::new(idl.replica());
    let root = set_up(&mut overlay)?;
    if options.dry_run || calls.iter().any(|c| !reads_only(c)) {
        overlay.comment(format!("ovs-vsctl: {}", escaped(words)));
    }
    let mut context = Context::new(&mut overlay);
    let mut outputs = Vec::with_capacity(calls.len());
    for (n, call) in calls.iter().enumerate() {
        context.last = n + 1 == calls.len();
        let ended = (call.command.run)(&mut context, call);
        for (module, text) in std::mem::take(&mut context.warnings) {
            io.warn(module, &text)?;
        }
        ended?;
        outputs.push(std::mem::replace(&mut context.output, Output::Text(String::new())));
        if context.try_again {
            return Ok(None);
        }
    }
    check_symbols(io, &context)?;
    let new_interfaces = std::mem::take(&mut context.new_interfaces);
    let plan = overlay.plan(options.wait.then_some((root, "next_cfg")));
    let mut finished = Finished { outputs, new_interfaces, uuids: Vec::new(), next: None };
    if plan.operations.is_empty() || options.dry_run {
        return Ok(Some(finished));
    }
    let Some(committed) = commit(io, idl, &plan)? else {
        return Ok(None);
    };
    finished.uuids = plan
        .inserts
        .iter()
        .filter_map(|(at, mine)| {
            let given = committed.results.get(*at)?.get("uuid")?.get(1)?.as_str()?;
            Some((*mine, ovsdb::atom::parse_uuid(given)?))
        })
        .collect();
    finished.next = plan.counter.and_then(|at| committed.results.get(at)?.get("rows")?.get(0)?.get("next_cfg")?.as_i64());
    Ok(Some(finished))
}

/// The only row of the root table, made if it is not there yet.
fn set_up(overlay: &mut Overlay) -> Result<super::overlay::Key, Fault> {
    if let Some(root) = overlay.rows_of(TABLE).first() {
        return Ok(*root);
    }
    let table = overlay.table(TABLE).ok_or_else(|| Fault::say(format!("{DATABASE} database lacks {TABLE} table")))?;
    Ok(overlay.insert(table, Uuid::new_v4()))
}

fn reads_only(call: &Call) -> bool {
    matches!(call.command.name, "show" | "list" | "find" | "get" | "wait-until")
}

/// The words as a shell would need them.
fn escaped(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+%".contains(c);
    let quote = |w: &String| {
        if !w.is_empty() && w.chars().all(plain) { w.clone() } else { ovsdb::json::to_sorted(&w.as_str().into()) }
    };
    std::iter::once("ovs-vsctl".to_owned()).chain(words.iter().map(quote)).collect::<Vec<_>>().join(" ")
}

fn check_symbols(io: &mut Io<'_>, context: &Context<'_>) -> Result<(), Fault> {
    for (name, symbol) in context.symbols.iter() {
        if !symbol.created {
            return Err(Fault::say(format!(
                "row id \"{name}\" is referenced but never created (e.g. with \"-- --id={name} create ...\")"
            )));
        }
        if symbol.strong {
            continue;
        }
        let what = if symbol.weak { "only a weak reference to it" } else { "no reference to it" };
        let text =
            format!("row id \"{name}\" was created but {what} was inserted, so it will not actually appear in the database");
        io.warn("vsctl", &text)?;
    }
    Ok(())
}

/// Commits; nothing if the database has changed under the run.
fn commit(io: &mut Io<'_>, idl: &mut BlockingIdl, plan: &Plan) -> Result<Option<Committed>, Fault> {
    let mut txn = Txn::new();
    plan.operations.iter().for_each(|o| txn.raw(o.clone()));
    match idl.commit(&txn, None) {
        Ok(Outcome::Committed(committed)) => Ok(Some(committed)),
        Ok(Outcome::Unchanged) => Ok(Some(Committed::default())),
        Ok(Outcome::TryAgain | Outcome::NotLocked) => Ok(None),
        Ok(Outcome::Failed(text)) => {
            let text = format!("transaction error: {text}");
            io.warn("ovsdb_idl", &text)?;
            Err(Fault::say(text))
        }
        Err(error) => Err(Fault::say(format!("transaction error: {error}"))),
    }
}

// ---- afterwards ----------------------------------------------------------------------------------------------------------

fn print(io: &mut Io<'_>, options: &Options, finished: &Finished) -> Result<(), Fault> {
    let mut printed = 0;
    for output in &finished.outputs {
        let text = match output {
            Output::Table(table) => {
                Table::print(table, &options.style, &mut printed, io.out)?;
                continue;
            }
            Output::Text(text) => text.clone(),
            Output::NewRow(uuid) => {
                let given = finished.uuids.iter().find(|(mine, _)| mine == uuid).map_or(*uuid, |(_, given)| *given);
                format!("{given}\n")
            }
        };
        if options.oneline {
            let line = text.strip_suffix('\n').unwrap_or(&text).replace('\\', "\\\\").replace('\n', "\\n");
            writeln!(io.out, "{line}")?;
        } else {
            write!(io.out, "{text}")?;
        }
    }
    io.out.flush()?;
    Ok(())
}

/// Waits until the switch has taken up configuration `next`, and tells which new interfaces it could not set up.
fn wait(io: &mut Io<'_>, options: &Options, idl: &mut BlockingIdl, (next, finished): (i64, &Finished)) -> Result<u8, Fault> {
    let reached = |replica: &Replica| replica.rows(TABLE).any(|r| r.int("cur_cfg").is_some_and(|cur| cur >= next));
    idl.wait_until(reached, None).map_err(|e: ClientError| failed(options, &e.to_string()))?;
    let mut broken = false;
    for mine in &finished.new_interfaces {
        let given = finished.uuids.iter().find(|(m, _)| m == mine).map(|(_, given)| given);
        let Some(row) = given.and_then(|u| idl.replica().row("Interface", u)) else {
            continue;
        };
        if row.int("ofport").is_some_and(|port| port != -1) {
            continue;
        }
        broken = true;
        let (name, error) = (row.str("name"), row.str("error"));
        let why = if error.is_empty() { String::new() } else { format!(": {error}") };
        io.complain(&format!("Error detected while setting up '{name}'{why}.  See ovs-vswitchd log for details."))?;
    }
    if broken {
        io.complain(&format!("The default log directory is \"{}\".", dirs::log().display()))?;
        return Ok(RECONFIGURATION_FAILED);
    }
    Ok(0)
}
