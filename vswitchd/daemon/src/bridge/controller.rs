//! `Controller` rows: targets, backoff and probes; and which local sockets a row may name (a remote client of the database must not be
//! able to make the switch overwrite files or reach into other programs).

use super::build::Builder;
use super::rows::Row;
use super::schema::{Bridge, Column, Controller, Integer, bridge, controller};
use ofproto::config::ControllerConfig;
use std::path::{Component, Path, PathBuf};

const BACKOFF_MS: i64 = 8_000;
const PROBE_MS: i64 = 5_000;
/// CS6, "internetwork control" (RFC 2474).
const DSCP: u8 = 48;

/// All controllers of a bridge, those with a refused target left out.
pub(super) fn read_all(builder: &mut Builder<'_>, name: &str, row: &Row<'_, Bridge>) -> Vec<ControllerConfig> {
    let default_queue = row.map(bridge::OTHER_CONFIG).number("controller-queue-size", 100usize).clamp(1, 512);
    let mut controllers = Vec::new();
    for row in row.refs(bridge::CONTROLLER) {
        let target = row.str(controller::TARGET).to_owned();
        if let Err(text) = check_socket(name, &target, &builder.environment.rundir) {
            builder.complaints.error(text);
            continue;
        }
        builder.built.controllers.insert((name.to_owned(), target.clone()), row.uuid);
        controllers.push(read(&row, target, default_queue));
    }
    controllers.sort_by(|a, b| a.target.cmp(&b.target));
    controllers
}

fn read(row: &Row<'_, Controller>, target: String, default_queue: usize) -> ControllerConfig {
    let passive = ["ptcp:", "pssl:", "punix:"].iter().any(|p| target.starts_with(p));
    let unsigned = |column: Column<Controller, Integer>| row.opt_int(column).and_then(|n| u32::try_from(n).ok());
    ControllerConfig {
        service: row.opt_str(controller::TYPE).map_or(passive, |t| t == "service"),
        max_backoff_ms: row.opt_int(controller::MAX_BACKOFF).map_or(BACKOFF_MS, |ms| ms.max(1_000)),
        // Whole seconds, as OVS counts them.
        inactivity_probe_ms: row.opt_int(controller::INACTIVITY_PROBE).map_or(PROBE_MS, |ms| ms.max(0) / 1000 * 1000),
        out_of_band: row.opt_str(controller::CONNECTION_MODE) == Some("out-of-band"),
        enable_async: row.datum(controller::ENABLE_ASYNC_MESSAGES).and_then(ovsdb::Datum::as_bool).unwrap_or(true),
        rate_limit: unsigned(controller::CONTROLLER_RATE_LIMIT).map(|rate| rate.max(100)),
        burst_limit: unsigned(controller::CONTROLLER_BURST_LIMIT),
        queue_size: unsigned(controller::CONTROLLER_QUEUE_SIZE).and_then(|n| usize::try_from(n).ok()).unwrap_or(default_queue),
        dscp: Some(row.map(controller::OTHER_CONFIG).number("dscp", DSCP)).filter(|d| *d < 64).unwrap_or(DSCP),
        target,
    }
}

/// A `unix:` target must lead to a socket in the run folder, a `punix:` one must be named `RUNDIR/BRIDGE.*`.
fn check_socket(bridge: &str, target: &str, rundir: &Path) -> Result<(), String> {
    let run = rundir.display();
    let escape = format!("or connect to \"unix:{run}/{bridge}.mgmt\" (which is always available without special configuration).");
    if let Some(path) = target.strip_prefix("punix:") {
        let permitted = format!("punix:{run}/{bridge}.");
        let normal = normalize(rundir, path);
        let named = normal.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if normal.parent() == Some(&normalize(rundir, "")) && named.starts_with(&format!("{bridge}.")) && !climbs(path) {
            return Ok(());
        }
        return Err(format!(
            "bridge {bridge}: Not adding Unix domain socket controller \"{target}\" due to possibility of overwriting local files. \
             Instead, specify path in permitted format \"{permitted}*\" {escape}"
        ));
    }
    if let Some(path) = target.strip_prefix("unix:")
        && path.contains('/')
        && (climbs(path) || normalize(rundir, path).parent() != Some(&normalize(rundir, "")))
    {
        return Err(format!(
            "bridge {bridge}: Not connecting to socket controller \"{target}\" due to possibility for remote exploit.  \
             Instead, specify socket in permitted directory \"{run}\" {escape}"
        ));
    }
    Ok(())
}

fn climbs(path: &str) -> bool {
    Path::new(path).components().any(|c| c == Component::ParentDir)
}

fn normalize(base: &Path, path: &str) -> PathBuf {
    base.join(path).components().filter(|c| *c != Component::CurDir).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_sockets_stay_in_their_places() {
        let check = |target: &str| check_socket("br0", target, Path::new("/run/ovs")).is_ok();
        assert!(check("punix:/run/ovs/br0.void"));
        assert!(check("punix:/run//ovs/./br0.void"));
        assert!(!check("punix:/run/ovs/br0.void/../overwrite.file"));
        assert!(!check("punix:/run/ovs/br1.void"));
        assert!(!check("punix:/etc/br0.void"));
        assert!(check("unix:controller"));
        assert!(check("unix:/run/ovs/controller"));
        assert!(!check("unix:/run/other/controller"));
        assert!(!check("unix:/run/ovs/../x"));
        assert!(check("tcp:1.2.3.4:6653"));
    }
}
