//! `ovsdb-client monitor`, `monitor-cond`, `monitor-cond-since`: prints a database's contents, then each change of them, until the server
//! goes, the database goes, or the control socket says `exit`.

use super::commands::{columns_by_name, fetch_schema};
use super::server::{failed, reason};
use super::{Call, Work};
use crate::console::Io;
use crate::fault::Fault;
use crate::process::background::Background;
use crate::process::unixctl::{Command, Registry, Reply};
use crate::table::{Cell, Table};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ovsdb::message::Message;
use ovsdb::{Datum, RpcClient, Schema, TableSchema};
use serde_json::{Map, Value as Json, json};

/// What the control commands ask for.
#[derive(Default)]
struct Asked {
    exit: bool,
    /// Read nothing from the server for now.
    blocked: bool,
    /// Table and new condition.
    condition: Option<(String, String, Reply)>,
}

/// A table that is followed.
struct Followed<'a> {
    schema: &'a TableSchema,
    columns: Vec<usize>,
}

/// What is followed, and what of it was printed.
struct Monitor<'a> {
    tables: Vec<Followed<'a>>,
    printed: usize,
}

fn registry() -> Registry<Asked> {
    Registry::new([
        Command::now("exit", Some(""), (0, 0), |asked: &mut Asked, _| {
            asked.exit = true;
            Ok(String::new())
        }),
        Command::now("ovsdb-client/block", Some(""), (0, 0), |asked: &mut Asked, _| {
            asked.blocked = true;
            Ok(String::new())
        }),
        Command::now("ovsdb-client/unblock", Some(""), (0, 0), |asked: &mut Asked, _| {
            asked.blocked = false;
            Ok(String::new())
        }),
        Command::later("ovsdb-client/cond_change", Some("TABLE COND"), (2, 2), |asked: &mut Asked, args, reply| {
            asked.condition = Some((args[0].clone(), args[1].clone(), reply));
        }),
    ])
}

pub(super) async fn run(
    io: &mut Io<'_>,
    mut client: RpcClient,
    call: &Call<'_>,
    background: &mut Background,
) -> Result<u8, Fault> {
    let schema = fetch_schema(&mut client, call).await?;
    let mut words: Vec<&str> = call.words.iter().map(String::as_str).collect();
    let (method, since, condition) = request_of(call, &mut words)?;
    let (tables, requests) = requests(call, &schema, &words, condition.as_ref())?;
    let mut monitor = Monitor { tables, printed: 0 };
    let mut params = vec![call.database.as_str().into(), Json::Null, requests];
    params.extend(since.map(Json::from));
    let answer = client.request(method, params).await.map_err(|e| failed(call, &e))?;
    monitor.initial(io, call, &answer)?;
    io.out.flush()?;
    background.ready();
    let (registry, mut asked) = (registry(), Asked::default());
    loop {
        tokio::select! {
            request = background.next_request() => {
                let Some(request) = request else { continue };
                registry.serve(&mut asked, request);
                if let Some((table, condition, reply)) = asked.condition.take() {
                    reply.send(change_condition(&mut client, &table, &condition).await);
                }
                if asked.exit {
                    return Ok(0);
                }
            }
            message = client.recv(), if !asked.blocked => match message {
                Ok(message) => monitor.hear(io, call, message)?,
                Err(error) => return Err(Fault::say(format!("{}: receive failed ({})", call.server, reason(&error)))),
            },
        }
    }
}

async fn change_condition(client: &mut RpcClient, table: &str, condition: &str) -> Result<String, String> {
    let condition: Json = serde_json::from_str(condition).map_err(|e| e.to_string())?;
    let change = json!({table: [{"where": condition}]});
    let answer = client.request("monitor_cond_change", vec![Json::Null, Json::Null, change]).await;
    answer.map(|_| String::new()).map_err(|e| e.to_string())
}

/// Method, transaction to start after, and condition, taken from the front of the words.
fn request_of(call: &Call<'_>, words: &mut Vec<&str>) -> Result<(&'static str, Option<String>, Option<Json>), Fault> {
    let mut since = None;
    if call.work == Work::Monitor {
        return Ok(("monitor", None, None));
    }
    let mut method = "monitor_cond";
    if call.work == Work::MonitorCondSince {
        method = "monitor_cond_since";
        let given = words.len() > 2 && ovsdb::atom::parse_uuid(words[0]).is_some();
        let nil = || "00000000-0000-0000-0000-000000000000".to_owned();
        since = Some(if given { words.remove(0).to_owned() } else { nil() });
    }
    let text = words.remove(0);
    let condition = serde_json::from_str(text).map_err(|e| Fault::say(format!("\"{text}\": {e}")))?;
    Ok((method, since, Some(condition)))
}

/// The tables to follow and the request for them.
fn requests<'a>(
    call: &Call<'_>,
    schema: &'a Schema,
    words: &[&str],
    condition: Option<&Json>,
) -> Result<(Vec<Followed<'a>>, Json), Fault> {
    let mut requests = Map::new();
    let mut followed = Vec::new();
    let mut add = |table: &'a TableSchema, columns: &[&str]| -> Result<(), Fault> {
        let (columns, request) = table_request(call, table, columns, condition)?;
        requests.insert(table.name.clone(), request);
        followed.push(Followed { schema: table, columns });
        Ok(())
    };
    match words {
        ["ALL"] if call.work == Work::Monitor => schema.tables.iter().try_for_each(|table| add(table, &[]))?,
        [name, columns @ ..] => {
            let missing = || Fault::say(format!("{}: {} does not have a table named \"{name}\"", call.server, call.database));
            add(schema.table_schema(name).ok_or_else(missing)?, columns)?;
        }
        [] => {}
    }
    Ok((followed, Json::Object(requests)))
}

fn table_request(
    call: &Call<'_>,
    table: &TableSchema,
    words: &[&str],
    condition: Option<&Json>,
) -> Result<(Vec<usize>, Json), Fault> {
    let (mut parts, mut all) = (Vec::new(), Vec::new());
    let everything = [""];
    for word in if words.is_empty() { &everything[..] } else { words } {
        let (mut columns, mut select) = (Vec::new(), Map::new());
        for name in word.split(',').filter(|n| !n.is_empty()) {
            if let Some(occasion) = name.strip_prefix('!').filter(|o| ["initial", "insert", "delete", "modify"].contains(o)) {
                select.insert(occasion.to_owned(), false.into());
                continue;
            }
            let number = table.column(name).ok_or_else(|| {
                let Call { server, database, .. } = call;
                Fault::say(format!("{server}: table \"{}\" in {database} does not have a column named \"{name}\"", table.name))
            })?;
            columns.push(number);
        }
        if columns.is_empty() {
            columns.extend(columns_by_name(table, true).into_iter().filter(|(n, _)| *n != "_uuid").map(|(_, c)| c));
        }
        if let Some(twice) = columns.iter().find(|c| all.contains(*c)) {
            let name = &table.columns[*twice].name;
            return Err(Fault::say(format!("{}: column \"{name}\" mentioned multiple times", call.server)));
        }
        let names: Vec<&str> = columns.iter().map(|c| table.columns[*c].name.as_str()).collect();
        let mut part = json!({"columns": names});
        if !select.is_empty() {
            part["select"] = Json::Object(select);
        }
        if let Some(condition) = condition {
            part["where"] = condition.clone();
        }
        parts.push(part);
        all.extend(columns);
    }
    Ok((all, Json::Array(parts)))
}

impl Monitor<'_> {
    fn initial(&mut self, io: &mut Io<'_>, call: &Call<'_>, answer: &Json) -> Result<(), Fault> {
        let updates = match (call.work, answer.as_array().map(Vec::as_slice)) {
            (Work::MonitorCondSince, Some([found, last, updates])) => {
                writeln!(io.out, "found: {found}, last_id: {}", last.as_str().unwrap_or_default())?;
                updates
            }
            _ => answer,
        };
        self.print(io, call, updates, true)
    }

    fn hear(&mut self, io: &mut Io<'_>, call: &Call<'_>, message: Message) -> Result<(), Fault> {
        let Message::Notification { method, params } = message else {
            return Ok(());
        };
        match (method.as_str(), params.as_slice()) {
            ("update" | "update2", [_, updates]) => self.print(io, call, updates, false)?,
            ("update3", [_, last, updates]) => {
                writeln!(io.out, "\nlast_id: {}", last.as_str().unwrap_or_default())?;
                // The line stands in the place of the empty one between two tables.
                self.printed = 0;
                self.print(io, call, updates, false)?;
            }
            ("monitor_canceled", _) => return Err(Fault::say(format!("{} database was removed", call.database))),
            _ => {}
        }
        Ok(io.out.flush()?)
    }

    fn print(&mut self, io: &mut Io<'_>, call: &Call<'_>, updates: &Json, initial: bool) -> Result<(), Fault> {
        let several = self.tables.len() > 1;
        for Followed { schema, columns } in &self.tables {
            let Some(rows) = updates.get(&schema.name).and_then(Json::as_object) else { continue };
            let headings = ["row", "action"].map(str::to_owned).into_iter();
            let mut table = Table {
                headings: headings.chain(columns.iter().map(|c| schema.columns[*c].name.clone())).collect(),
                caption: several.then(|| schema.name.clone()),
                time: call.options.timestamp.then(now),
                ..Table::default()
            };
            for (uuid, update) in rows {
                if call.work == Work::Monitor {
                    put_update(&mut table, (schema, columns), (uuid, update), initial);
                } else {
                    put_update2(&mut table, (schema, columns), (uuid, update));
                }
            }
            if !table.rows.is_empty() {
                table.print(&call.options.style, &mut self.printed, io.out)?;
            }
        }
        Ok(())
    }
}

fn now() -> String {
    Timestamp::now().to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// A row of `update`: what was and what is (RFC 7047, 4.1.6).
fn put_update(table: &mut Table, shape: (&TableSchema, &[usize]), (uuid, update): (&str, &Json), initial: bool) {
    let (old, new) = (update.get("old"), update.get("new"));
    match (old, new) {
        (Some(old), Some(new)) => {
            table.rows.push(cells(shape, uuid, "old", old));
            table.rows.push(cells(shape, "", "new", new));
        }
        (Some(old), None) => table.rows.push(cells(shape, uuid, "delete", old)),
        (None, Some(new)) => table.rows.push(cells(shape, uuid, if initial { "initial" } else { "insert" }, new)),
        (None, None) => {}
    }
}

/// A row of `update2`: one member, whose name is the action.
fn put_update2(table: &mut Table, shape: (&TableSchema, &[usize]), (uuid, update): (&str, &Json)) {
    for (action, row) in update.as_object().into_iter().flatten() {
        table.rows.push(cells(shape, uuid, action, row));
    }
}

fn cells((schema, columns): (&TableSchema, &[usize]), uuid: &str, action: &str, row: &Json) -> Vec<Cell> {
    let cell = |c: &usize| {
        let column = &schema.columns[*c];
        // Differences may hold more or less than the column itself.
        let ty = column.ty.relaxed();
        let datum = row.get(&column.name).and_then(|value| Datum::from_json(&ty, value, None).ok());
        datum.map_or_else(|| Cell::Text(String::new()), |datum| Cell::Datum(datum, column.ty.clone()))
    };
    [uuid, action].map(|text| Cell::Text(text.to_owned())).into_iter().chain(columns.iter().map(cell)).collect()
}
