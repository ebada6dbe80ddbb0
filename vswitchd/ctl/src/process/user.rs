//! Rights of the process: `--mlockall`, and `--user`.

use crate::fault::errno_text;
use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::unistd::{Gid, Group, Uid, User, setresgid, setresuid};

/// Keeps memory, present and future, in RAM once it has been touched; a refusal is logged and the daemon goes on. What is only set aside
/// (the allocator's arenas, the tracker's slab) stays unreal: made present at once, it was two gigabytes in an idle switch.
pub fn lock_memory() {
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    if let Err(errno) = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault) {
        tracing::error!(target: "vswitchd", "mlockall failed: {}", errno.desc());
    }
}

/// Why the user could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("{0} failed: {1}")]
    Unknown(&'static str, String),
    #[error("only root can use --user option")]
    NotRoot,
    #[error("--user: cannot {0} ({1})")]
    Refused(&'static str, String),
}

/// Becomes `USER`, `USER:GROUP` or `:GROUP`. The capabilities that a switch needs are kept by `capabilities`.
/// # Errors
/// The name is not known, or the process is not root.
pub fn become_user(spec: &str) -> Result<(), UserError> {
    if !Uid::effective().is_root() {
        return Err(UserError::NotRoot);
    }
    let (uid, gid) = resolve(spec)?;
    let refused = |what| move |errno: nix::errno::Errno| UserError::Refused(what, errno_text(&errno.into()));
    capabilities::keep_across_change().map_err(refused("keep capabilities"))?;
    setresgid(gid, gid, gid).map_err(refused("set group"))?;
    if let Ok(Some(user)) = User::from_uid(uid)
        && let Ok(name) = std::ffi::CString::new(user.name)
    {
        nix::unistd::initgroups(&name, gid).map_err(refused("set groups"))?;
    }
    setresuid(uid, uid, uid).map_err(refused("set user"))?;
    capabilities::raise().map_err(|e| UserError::Refused("raise capabilities", e))
}

fn resolve(spec: &str) -> Result<(Uid, Gid), UserError> {
    let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
    let unknown = |what, name: &str| UserError::Unknown(what, name.to_owned());
    let (uid, primary) = if user.is_empty() {
        (Uid::current(), Gid::current())
    } else {
        let found = User::from_name(user).ok().flatten().ok_or_else(|| unknown("unknown user", user))?;
        (found.uid, found.gid)
    };
    let gid = if group.is_empty() {
        primary
    } else {
        Group::from_name(group).ok().flatten().ok_or_else(|| unknown("unknown group", group))?.gid
    };
    Ok((uid, gid))
}

/// The capabilities a switch keeps when it is not root: ovs-vswitchd(8), --user.
mod capabilities {
    use caps::{CapSet, Capability};

    const KEPT: [Capability; 5] = [
        Capability::CAP_IPC_LOCK,
        Capability::CAP_NET_BIND_SERVICE,
        Capability::CAP_NET_ADMIN,
        Capability::CAP_NET_BROADCAST,
        Capability::CAP_NET_RAW,
    ];

    pub(super) fn keep_across_change() -> Result<(), nix::errno::Errno> {
        nix::sys::prctl::set_keepcaps(true)
    }

    pub(super) fn raise() -> Result<(), String> {
        let kept = KEPT.into_iter().collect();
        caps::set(None, CapSet::Permitted, &kept).map_err(|e| e.to_string())?;
        caps::set(None, CapSet::Effective, &kept).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_resolve() {
        let (uid, gid) = resolve("root").unwrap();
        assert!(uid.is_root() && gid.as_raw() == 0);
        assert!(resolve("no-such-user-here").is_err());
        assert!(resolve(":no-such-group-here").is_err());
    }
}
