//! What the control commands of a database server do (ovsdb-server(1), "Runtime management commands").

use super::core::Core;
use super::status::Place;
use super::{Shared, open_existing};
use crate::error::{Error, Result, Tag};
use crate::remote::Remote;
use std::path::Path;
use std::sync::{Arc, PoisonError, Weak};
use tokio::time::Instant;

/// A handle on a running server. It keeps the server's files open as long as it lives.
#[derive(Clone)]
pub struct Admin(pub(super) Arc<Shared>);

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// An [`Admin`] that keeps nothing open.
#[derive(Clone)]
pub struct WeakAdmin(Weak<Shared>);

impl std::fmt::Debug for WeakAdmin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WeakAdmin").finish_non_exhaustive()
    }
}

impl WeakAdmin {
    /// The handle, while the server lives.
    #[must_use]
    pub fn upgrade(&self) -> Option<Admin> {
        self.0.upgrade().map(Admin)
    }
}

impl Admin {
    /// A handle that keeps nothing open.
    #[must_use]
    pub fn downgrade(&self) -> WeakAdmin {
        WeakAdmin(Arc::downgrade(&self.0))
    }

    /// The name of the database in the file at `path`, as it was given.
    #[must_use]
    pub fn name_of(&self, path: &Path) -> Option<String> {
        self.0.core().name_of(path)
    }

    /// Changes the state, then does what follows from the change.
    fn change<T>(&self, change: impl FnOnce(&mut Core) -> T) -> T {
        let (made, effects) = {
            let mut core = self.0.core();
            let made = change(&mut core);
            (made, core.finish(Instant::now()))
        };
        self.0.perform(effects);
        made
    }

    /// Names of the databases, sorted, `_Server` among them.
    #[must_use]
    pub fn databases(&self) -> Vec<String> {
        self.0.core().database_names()
    }

    /// Serves the database in the file at `path`, too. Errors: it is served already, or cannot be opened.
    pub fn add_database(&self, path: &Path) -> Result<()> {
        if self.name_of(path).is_some() {
            return Err(Error::new(Tag::OvsdbError, format!("{}: already open", path.display())));
        }
        let store = open_existing(path)?;
        self.change(|core| core.add_database(store))
    }

    /// Serves a database no longer. Says false if there is none of that name.
    pub fn remove_database(&self, name: &str) -> Result<bool> {
        self.change(|core| core.remove_database(name))
    }

    /// Rewrites the journal of one database, or of all, with nothing but the present rows.
    pub fn compact(&self, name: Option<&str>) -> Result<()> {
        self.0.core().compact(name)
    }

    /// The remotes as they were given, sorted.
    #[must_use]
    pub fn remotes(&self) -> Vec<String> {
        self.0.remotes.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Adds a remote. The error is a text for the user: it makes no sense, or names a column that is not there.
    pub fn add_remote(&self, text: &str) -> std::result::Result<(), String> {
        let remote = Remote::parse(text).map_err(|e| e.to_string())?;
        if let Remote::Column { database, table, column } = &remote
            && let Some(fault) = self.0.core().fault_at(Place { database, table, column })
        {
            return Err(format!("\"{text}\": {fault}"));
        }
        self.0.remotes.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned(), remote);
        self.0.remotes_changed.notify_one();
        Ok(())
    }

    /// Takes a remote away, with its sessions. Says false if there is none of that name.
    pub fn remove_remote(&self, text: &str) -> bool {
        let gone = self.0.remotes.lock().unwrap_or_else(PoisonError::into_inner).remove(text).is_some();
        self.0.remotes_changed.notify_one();
        gone
    }

    /// Ends all sessions; clients come back and start anew.
    pub fn reconnect(&self) {
        self.change(|core| core.dismiss(|_, _| true));
    }

    /// What the server holds, by OVS's names (`memory/show`).
    #[must_use]
    pub fn usage(&self) -> Vec<(&'static str, usize)> {
        self.0.core().usage()
    }

    /// The first string in a column of any row.
    #[must_use]
    pub fn text_at(&self, database: &str, table: &str, column: &str) -> Option<String> {
        self.0.core().text_at(database, table, column)
    }
}
