//! Keeps two processes from opening one database file.
//!
//! The lock is OVS's: a POSIX record lock on `.NAME.~lock~` beside the file, so that ovsdb-tool and ovsdb-server respect
//! ours and we respect theirs. POSIX locks do not exclude the own process, hence the list of files locked here; and they
//! vanish when any descriptor of the file is closed, hence the list is consulted before the file is opened.

use crate::error::{Error, Result};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

static HELD: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A lock; dropping it unlocks.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    _file: File,
}

impl LockFile {
    /// Locks the file at `path` (which need not exist yet).
    pub fn lock(path: &Path) -> Result<Self> {
        let lock_path = lock_path(path);
        let fail = |e: &std::io::Error| Error::from_io(e, format!("{}: failed to lock lockfile", path.display()));
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains(&lock_path) {
            return Err(fail(&std::io::Error::from(nix::errno::Errno::EAGAIN)));
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&lock_path);
        let file = file.map_err(|e| fail(&e))?;
        let region = libc::flock {
            l_type: libc::c_short::try_from(libc::F_WRLCK).unwrap_or_default(),
            l_whence: libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default(),
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(&file, FcntlArg::F_SETLK(&region)).map_err(|e| fail(&e.into()))?;
        held.push(lock_path.clone());
        Ok(Self { path: lock_path, _file: file })
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        HELD.lock().unwrap_or_else(PoisonError::into_inner).retain(|p| *p != self.path);
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let path = &crate::journal::followed(path);
    let real = path.canonicalize().unwrap_or_else(|_| {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let parent = parent.canonicalize().unwrap_or_else(|_| parent.to_owned());
        parent.join(path.file_name().unwrap_or_default())
    });
    let name = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
    real.with_file_name(format!(".{name}.~lock~"))
}
