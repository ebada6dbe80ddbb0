//! Where files live: OVS's run, log and database folders, each overridable by its environment variable, and names relative to them.

use std::path::{Path, PathBuf};

fn folder(variable: &str, default: &str) -> PathBuf {
    std::env::var_os(variable).filter(|v| !v.is_empty()).map_or_else(|| default.into(), PathBuf::from)
}

/// Pidfiles and sockets: `OVS_RUNDIR`.
pub fn run() -> PathBuf {
    ovsdb::remote::run_folder()
}

/// Log files: `OVS_LOGDIR`.
pub fn log() -> PathBuf {
    folder("OVS_LOGDIR", "/var/log/openvswitch")
}

/// The database: `OVS_DBDIR`, else `OVS_SYSCONFDIR/openvswitch`.
pub fn database() -> PathBuf {
    match std::env::var_os("OVS_DBDIR").filter(|v| !v.is_empty()) {
        Some(dir) => dir.into(),
        None => folder("OVS_SYSCONFDIR", "/etc").join("openvswitch"),
    }
}

/// Schemas and scripts: `OVS_PKGDATADIR`.
pub fn data() -> PathBuf {
    folder("OVS_PKGDATADIR", "/usr/share/openvswitch")
}

/// `name` seen from the run folder; absolute names stay.
pub fn in_run(name: impl AsRef<Path>) -> PathBuf {
    run().join(name)
}

/// `name` seen from the folder the program was started in; absolute names stay.
pub fn in_cwd(name: impl AsRef<Path>) -> PathBuf {
    std::env::current_dir().unwrap_or_default().join(name)
}
