//! Unix sockets whose path is longer than a socket address holds (107 bytes): bound and reached through a short name that leads to
//! the same place, `/proc/self/fd/N/NAME`, as OVS's tools do.

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// sizeof(sun_path) less the closing nought.
const PATH_BYTES_MAX: usize = 107;

/// A listening socket; the name is removed when dropped.
#[derive(Debug)]
pub struct BoundSocket {
    pub listener: UnixListener,
    pub name: SocketName,
}

/// A socket's name in the file system, removed when dropped.
#[derive(Debug)]
pub struct SocketName(PathBuf);

impl SocketName {
    /// The whole path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SocketName {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// Binds and listens, in place of whatever stale socket has the name; readable and writable for owner and group, as OVS's are.
/// # Errors
/// As bind(2); nothing is left behind then.
pub fn bind(path: &Path) -> io::Result<BoundSocket> {
    drop(fs::remove_file(path));
    let (short, _folder) = shorten(path)?;
    let listener = UnixListener::bind(short)?;
    listener.set_nonblocking(true)?;
    let name = SocketName(path.to_owned());
    fs::set_permissions(path, fs::Permissions::from_mode(0o750))?;
    Ok(BoundSocket { listener, name })
}

/// A name for `path` that fits an address. The folder must stay open while it is used.
/// # Errors
/// The folder cannot be opened, or the last part alone is too long.
pub fn shorten(path: &Path) -> io::Result<(PathBuf, Option<OwnedFd>)> {
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return Ok((path.to_owned(), None));
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidFilename.into());
    };
    let folder = open(parent, OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    if short.as_os_str().len() > PATH_BYTES_MAX {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    Ok((short, Some(folder)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_deep_folder_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(100)).join("e".repeat(100));
        fs::create_dir_all(&deep).unwrap();
        let path = deep.join("x.ctl");
        let bound = bind(&path).unwrap();
        let (short, _folder) = shorten(&path).unwrap();
        UnixStream::connect(short).unwrap();
        drop(bound);
        assert!(!path.exists());
        assert_eq!(bind(&dir.path().join("no/x")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
