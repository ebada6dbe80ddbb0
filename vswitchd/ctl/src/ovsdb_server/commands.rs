//! The control commands of a database server (ovsdb-server(1), "Runtime management commands").

use super::state::{State, Sync};
use crate::process::commands::{self, Owner};
use crate::process::unixctl::{Answer, Command, Registry};
use crate::process::vlog::Log;
use ovsdb::server::Admin;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What the commands work on.
#[derive(Debug)]
pub(super) struct Console {
    admin: Admin,
    log: Arc<Log>,
    program: String,
    state: State,
    /// Files served, each with the name of its database.
    databases: Vec<(String, PathBuf)>,
    /// It is to follow another server from the start.
    follows: bool,
    pub(super) exit: bool,
}

impl Console {
    pub(super) fn new(
        admin: Admin,
        log: Arc<Log>,
        program: String,
        (state, files): (State, Vec<PathBuf>),
        follows: bool,
    ) -> Self {
        let name = |path: &PathBuf| admin.name_of(path).unwrap_or_default();
        let databases = files.into_iter().map(|path| (name(&path), path)).collect();
        Self { admin, log, program, state, databases, follows, exit: false }
    }

    /// Takes up its role, once nobody waits at the terminal for the start any more.
    pub(super) fn begin(&self) {
        if self.follows
            && let Err(text) = self.admin.follow_active()
        {
            tracing::error!(target: "ovsdb_server", "{text}");
        }
        self.remember();
    }

    /// Notes what is served for a successor.
    fn remember(&self) {
        let files: Vec<PathBuf> = self.databases.iter().map(|(_, path)| path.clone()).collect();
        let sync = Sync { active: self.admin.active(), excluded: self.admin.excluded(), is_backup: self.admin.is_backup() };
        self.state.write(&self.admin.remotes(), &files, &sync);
    }
}

impl Owner for Console {
    fn log(&self) -> &Log {
        &self.log
    }

    fn program(&self) -> &str {
        &self.program
    }
}

pub(super) fn registry() -> Registry<Console> {
    let own = [
        Command::now("exit", Some(""), (0, 1), |c: &mut Console, _| {
            c.exit = true;
            Ok(String::new())
        }),
        Command::now("memory/show", Some(""), (0, 0), |c: &mut Console, _| Ok(memory(c))),
        Command::now("ovsdb-server/add-db", Some("DB"), (1, 1), add_db),
        Command::now("ovsdb-server/add-remote", Some("REMOTE"), (1, 1), add_remote),
        Command::now("ovsdb-server/compact", Some("[DB]"), (0, 1), compact),
        Command::now("ovsdb-server/list-dbs", Some(""), (0, 0), |c: &mut Console, _| Ok(lines(&c.admin.databases()))),
        Command::now("ovsdb-server/list-remotes", Some(""), (0, 0), |c: &mut Console, _| Ok(lines(&c.admin.remotes()))),
        Command::now("ovsdb-server/memory-trim-on-compaction", Some("on|off"), (1, 1), trim),
        Command::now("ovsdb-server/reconnect", Some(""), (0, 0), |c: &mut Console, _| {
            c.admin.reconnect();
            Ok(String::new())
        }),
        Command::now("ovsdb-server/remove-db", Some("DB"), (1, 1), remove_db),
        Command::now("ovsdb-server/remove-remote", Some("REMOTE"), (1, 1), remove_remote),
        Command::now("ovsdb-server/set-active-ovsdb-server", Some(""), (1, 1), set_active),
        Command::now("ovsdb-server/get-active-ovsdb-server", Some(""), (0, 0), |c: &mut Console, _| {
            Ok(c.admin.active().map_or_else(String::new, |active| format!("{active}\n")))
        }),
        Command::now("ovsdb-server/connect-active-ovsdb-server", Some(""), (0, 0), connect_active),
        Command::now("ovsdb-server/disconnect-active-ovsdb-server", Some(""), (0, 0), disconnect_active),
        Command::now("ovsdb-server/set-active-ovsdb-server-probe-interval", Some(""), (1, 1), set_active_probe),
        Command::now("ovsdb-server/set-sync-exclude-tables", Some(""), (0, 1), set_excluded),
        Command::now("ovsdb-server/get-sync-exclude-tables", Some(""), (0, 0), |c: &mut Console, _| {
            Ok(format!("{}\n", c.admin.excluded()))
        }),
        Command::now("ovsdb-server/sync-status", Some(""), (0, 0), |c: &mut Console, _| Ok(c.admin.sync_status())),
        Command::now("ovsdb-server/get-db-storage-status", Some("DB"), (1, 1), |c: &mut Console, args| {
            if c.admin.databases().contains(&args[0]) {
                Ok("status: ok\n".to_owned())
            } else {
                Err("no such database".to_owned())
            }
        }),
    ];
    Registry::new(commands::rows().into_iter().chain(own))
}

fn lines(names: &[String]) -> String {
    names.iter().map(|name| format!("{name}\n")).collect()
}

fn memory(console: &Console) -> String {
    let shown = console.admin.usage().into_iter().filter(|(name, n)| *n > 0 || ["atoms", "cells", "monitors"].contains(name));
    shown.map(|(name, n)| format!("{name}:{n}")).collect::<Vec<_>>().join(" ")
}

fn add_db(console: &mut Console, args: &[String]) -> Answer {
    let path = PathBuf::from(&args[0]);
    console.admin.add_database(&path).map_err(|e| e.to_string())?;
    let name = console.admin.name_of(&path).unwrap_or_default();
    console.databases.push((name, path));
    console.remember();
    Ok(String::new())
}

fn remove_db(console: &mut Console, args: &[String]) -> Answer {
    if !console.admin.remove_database(&args[0]).map_err(|e| e.to_string())? {
        return Err("Failed to find the database.".to_owned());
    }
    console.databases.retain(|(name, _)| *name != args[0]);
    console.remember();
    Ok(String::new())
}

fn add_remote(console: &mut Console, args: &[String]) -> Answer {
    console.admin.add_remote(&args[0])?;
    console.remember();
    Ok(String::new())
}

fn remove_remote(console: &mut Console, args: &[String]) -> Answer {
    if !console.admin.remove_remote(&args[0]) {
        return Err("no such remote".to_owned());
    }
    console.remember();
    Ok(String::new())
}

fn compact(console: &mut Console, args: &[String]) -> Answer {
    match args.first().map(String::as_str) {
        Some("_Server") => Err("cannot compact built-in databases".to_owned()),
        Some(name) if !console.admin.databases().iter().any(|d| d == name) => Err("no database by that name".to_owned()),
        name => console.admin.compact(name).map(|()| String::new()).map_err(|e| e.to_string()),
    }
}

fn set_active(console: &mut Console, args: &[String]) -> Answer {
    console.admin.set_active(&args[0]);
    console.remember();
    Ok(String::new())
}

/// What is wrong is no error of the command, as with OVS.
fn connect_active(console: &mut Console, _: &[String]) -> Answer {
    let outcome = console.admin.follow_active();
    console.remember();
    Ok(outcome.err().unwrap_or_default())
}

fn disconnect_active(console: &mut Console, _: &[String]) -> Answer {
    console.admin.leave_active();
    console.remember();
    Ok(String::new())
}

fn set_active_probe(console: &mut Console, args: &[String]) -> Answer {
    match args[0].parse() {
        Ok(ms) => {
            console.admin.set_active_probe(Duration::from_millis(ms));
            Ok(String::new())
        }
        Err(_) => Ok("Invalid probe interval, integer value expected\n".to_owned()),
    }
}

fn set_excluded(console: &mut Console, args: &[String]) -> Answer {
    let outcome = console.admin.set_excluded(args.first().map_or("", String::as_str));
    console.remember();
    Ok(outcome.err().map_or_else(String::new, |text| format!("{text}\n")))
}

/// The allocator gives memory back by itself.
fn trim(_: &mut Console, args: &[String]) -> Answer {
    match args[0].as_str() {
        "on" | "off" => Ok(String::new()),
        _ => Err("invalid argument".to_owned()),
    }
}
