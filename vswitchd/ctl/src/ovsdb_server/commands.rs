//! The control commands of a database server (ovsdb-server(1), "Runtime management commands").

use super::backup::{self, Wish};
use super::state::{Kept, State};
use crate::process::commands::{self, Owner};
use crate::process::unixctl::{Answer, Command, Registry, Request};
use crate::process::vlog::Log;
use ovsdb::server::{Admin, BackupState};
use std::path::PathBuf;
use std::sync::Arc;

/// What the commands work on.
#[derive(Debug)]
pub(super) struct Console {
    admin: Admin,
    log: Arc<Log>,
    program: String,
    state: State,
    /// Files served, each with the name of its database.
    databases: Vec<(String, PathBuf)>,
    /// Whose backup to be, and whether.
    wish: Wish,
    pub(super) exit: bool,
}

impl Console {
    pub(super) fn new(admin: Admin, log: Arc<Log>, program: String, (state, kept): (State, Kept)) -> Self {
        let name = |path: &PathBuf| admin.name_of(path).unwrap_or_default();
        let databases = kept.databases.into_iter().map(|path| (name(&path), path)).collect();
        Self { admin, log, program, state, databases, wish: kept.wish, exit: false }
    }

    /// Becomes the backup that is wished for, or none.
    pub(super) fn follow(&self) {
        match self.wish.wanted() {
            Some(of) => self.admin.start_backup(of),
            None => self.admin.stop_backup(),
        }
    }

    /// Notes a change of whose backup to be, and follows it.
    fn decide(&mut self, change: impl FnOnce(&mut Wish)) -> Answer {
        // It may have given up by itself.
        self.wish.backup &= self.admin.backup_state() != BackupState::Active;
        change(&mut self.wish);
        self.follow();
        self.remember();
        Ok(String::new())
    }

    /// Notes what is served for a successor.
    pub(super) fn remember(&self) {
        let files: Vec<PathBuf> = self.databases.iter().map(|(_, path)| path.clone()).collect();
        self.state.write(&Kept { remotes: self.admin.remotes(), databases: files, wish: self.wish.clone() });
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
        Command::now("ovsdb-server/sync-status", Some(""), (0, 0), |c: &mut Console, _| {
            Ok(backup::status(&c.admin.backup_state(), &c.wish))
        }),
        Command::now("ovsdb-server/set-active-ovsdb-server", Some("REMOTE"), (1, 1), set_active),
        Command::now("ovsdb-server/get-active-ovsdb-server", Some(""), (0, 0), |c: &mut Console, _| {
            Ok(c.wish.remote.clone().unwrap_or_default())
        }),
        Command::now("ovsdb-server/connect-active-ovsdb-server", Some(""), (0, 0), connect_active),
        Command::now("ovsdb-server/disconnect-active-ovsdb-server", Some(""), (0, 0), |c: &mut Console, _| {
            c.decide(|wish| wish.backup = false)
        }),
        Command::now("ovsdb-server/set-active-ovsdb-server-probe-interval", Some("MSECS"), (1, 1), set_probe),
        Command::now("ovsdb-server/set-sync-exclude-tables", Some("DB:TABLE,..."), (1, 1), set_excluded),
        Command::now("ovsdb-server/get-sync-exclude-tables", Some(""), (0, 0), |c: &mut Console, _| {
            Ok(backup::excluded_text(&c.wish.exclude))
        }),
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

/// Answers one request.
pub(super) fn answer(registry: &Registry<Console>, console: &mut Console, request: Request) {
    let Request { method, params, reply } = request;
    if method == "list-commands" && params.is_empty() {
        reply.send(Ok(registry.list()));
    } else {
        registry.dispatch(console, &method, &params, reply);
    }
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

fn set_active(console: &mut Console, args: &[String]) -> Answer {
    console.decide(|wish| wish.remote = Some(args[0].clone()))
}

fn connect_active(console: &mut Console, _: &[String]) -> Answer {
    if console.wish.remote.is_none() {
        return Ok("Unable to connect: active server is not specified.\n".to_owned());
    }
    console.decide(|wish| wish.backup = true)
}

fn set_probe(console: &mut Console, args: &[String]) -> Answer {
    let ms = args[0].parse::<u64>().ok().filter(|ms| *ms == 0 || *ms >= backup::PROBE_MIN_MS);
    let ms = ms.ok_or("Invalid probe interval, integer value expected")?;
    console.decide(|wish| wish.probe_ms = Some(ms))
}

fn set_excluded(console: &mut Console, args: &[String]) -> Answer {
    let exclude = backup::parse_excluded(&args[0])?;
    console.decide(|wish| wish.exclude = exclude)
}

fn compact(console: &mut Console, args: &[String]) -> Answer {
    match args.first().map(String::as_str) {
        Some("_Server") => Err("cannot compact built-in databases".to_owned()),
        Some(name) if !console.admin.databases().iter().any(|d| d == name) => Err("no database by that name".to_owned()),
        name => console.admin.compact(name).map(|()| String::new()).map_err(|e| e.to_string()),
    }
}

/// The allocator gives memory back by itself.
fn trim(_: &mut Console, args: &[String]) -> Answer {
    match args[0].as_str() {
        "on" | "off" => Ok(String::new()),
        _ => Err("invalid argument".to_owned()),
    }
}
