//! The unix socket of control commands: bound under any path, however deep its folder, and removed with its owner.

use ovsdb::remote::socket_path;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

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
    let (short, _folder) = socket_path(path)?;
    let listener = UnixListener::bind(short)?;
    listener.set_nonblocking(true)?;
    let name = SocketName(path.to_owned());
    fs::set_permissions(path, fs::Permissions::from_mode(0o750))?;
    Ok(BoundSocket { listener, name })
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
        let (short, _folder) = socket_path(&path).unwrap();
        UnixStream::connect(short).unwrap();
        drop(bound);
        assert!(!path.exists());
        assert_eq!(bind(&dir.path().join("no/x")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
