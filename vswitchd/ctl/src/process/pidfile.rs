//! The pidfile: `PID\n`, written beside its place and renamed into it, and write-locked by this very process for as long as it lives,
//! so that a reader can tell a running daemon from a stale file. Removed when dropped.
//!
//! POSIX record locks belong to the process, and closing any descriptor of the file gives them up (fcntl(2)): nothing else in this
//! process may open the pidfile.

use crate::fault::errno_text;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A pidfile that is ours.
#[derive(Debug)]
pub struct Pidfile {
    path: PathBuf,
    file: File,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum PidfileError {
    #[error("{}: already running as pid {pid}, aborting", .path.display())]
    Running { path: PathBuf, pid: i32 },
    #[error("{}: {what} failed ({})", .path.display(), errno_text(.error))]
    Io { path: PathBuf, what: &'static str, error: io::Error },
}

impl Pidfile {
    /// Creates and locks `path`; with `overwrite` even if a living process holds it.
    /// # Errors
    /// Another process runs under this name, or the file cannot be made.
    pub fn create(path: &Path, overwrite: bool) -> Result<Self, PidfileError> {
        if !overwrite && let Some(pid) = holder(path) {
            return Err(PidfileError::Running { path: path.to_owned(), pid });
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".tmp");
        let temporary = PathBuf::from(name);
        let fault = |what| {
            let path = temporary.clone();
            move |error| PidfileError::Io { path, what, error }
        };
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&temporary).map_err(fault("create"))?;
        fcntl(&file, FcntlArg::F_SETLK(&whole_file())).map_err(io::Error::from).map_err(fault("fcntl(F_SETLK)"))?;
        writeln!(file, "{}", std::process::id()).map_err(fault("write"))?;
        fs::rename(&temporary, path).map_err(fault("rename"))?;
        Ok(Self { path: path.to_owned(), file })
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        // A successor may have put its own file there (--overwrite-pidfile): that one is not ours to remove.
        let ours = self.file.metadata().ok().zip(fs::metadata(&self.path).ok());
        if ours.is_some_and(|(a, b)| a.dev() == b.dev() && a.ino() == b.ino()) {
            drop(fs::remove_file(&self.path));
        }
    }
}

fn whole_file() -> libc::flock {
    libc::flock { l_type: lock_type(libc::F_WRLCK), l_whence: lock_type(libc::SEEK_SET), l_start: 0, l_len: 0, l_pid: 0 }
}

#[allow(clippy::cast_possible_truncation, reason = "F_WRLCK and SEEK_SET are 0 or 1")]
fn lock_type(value: i32) -> i16 {
    value as i16
}

/// The process that holds the lock of a pidfile; `None` if nobody does or there is no such file.
fn holder(path: &Path) -> Option<i32> {
    let file = File::open(path).ok()?;
    let mut lock = whole_file();
    match fcntl(&file, FcntlArg::F_GETLK(&mut lock)) {
        Ok(_) if lock.l_type != lock_type(libc::F_UNLCK) => Some(lock.l_pid),
        Ok(_) | Err(Errno::EINTR) => None,
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_beside_and_removed_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        let pidfile = Pidfile::create(&path, false).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        assert!(!dir.path().join("x.pid.tmp").exists());
        drop(pidfile);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_file_is_replaced_and_a_foreign_one_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        fs::write(&path, "1\n").unwrap();
        let pidfile = Pidfile::create(&path, false).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "2\n").unwrap();
        drop(pidfile);
        assert_eq!(fs::read_to_string(&path).unwrap(), "2\n");
        let error = Pidfile::create(&dir.path().join("no/x.pid"), false).unwrap_err().to_string();
        assert!(error.ends_with("no/x.pid.tmp: create failed (No such file or directory)"), "{error}");
    }
}
