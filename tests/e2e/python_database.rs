//! Python's OVSDB libraries from PyPI, unmodified, against the switch's database: `ovs` (Open vSwitch's own) and `ovsdbapp` (OpenStack's).

use crate::python_controllers::program;
use crate::rig::{Host, assert_has, must};

#[test]
fn the_python_libraries_follow_and_change_the_database() {
    let host = Host::new();
    host.bridge("br0", "");
    let mut command = host.command(program("python3").to_str().unwrap());
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/python/database.py"));
    command.arg(format!("unix:{}", host.file("db.sock").display()));
    let said = must(&mut command);
    assert_has(
        &said,
        &[
            "library inserted idl ['OpenFlow13', 'OpenFlow15'] {'made': 'by the library'}",
            "library mutated ['made', 'more']",
            "library deleted",
            "library refused error",
            "constraint violation",
            "application ['app0', 'br0'] ['app0p']",
            "application owner ovsdbapp",
            "application left []",
            "done",
        ],
    );
    assert!(host.is_up());
}
