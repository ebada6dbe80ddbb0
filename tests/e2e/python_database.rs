//! Python's OVSDB libraries from PyPI, unmodified, against the switch's database: `ovs` (Open vSwitch's own) and `ovsdbapp` (OpenStack's), with ovsdbapp's own
//! tests.

use crate::python_controllers::program;
use crate::rig::{Db, Host, Setup, assert_has, binary, is_stock, must, number_after};
use std::os::unix::fs::symlink;

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

/// What ovsdbapp tests itself with: its own daemons for each class of tests, OVN's databases and northd among them.
#[test]
fn the_functional_tests_of_ovsdbapp() {
    let host = Host::bare(Setup { db: Db::Embedded, words: "" });
    let ours = host.file("ours");
    std::fs::create_dir(&ours).unwrap();
    if !is_stock() {
        for (name, program) in [("ovs-vswitchd", "ovs-vswitchd"), ("ovsdb-server", "ferrule"), ("ovsdb-tool", "ferrule")] {
            symlink(binary(program), ours.join(name)).unwrap();
        }
    }
    let mut command = host.command(program("python3").to_str().unwrap());
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/python/ovsdbapp_suite.py"));
    // Well above what it takes.
    command.arg("900");
    command.env("PATH", format!("{}:{}", ours.display(), std::env::var("PATH").unwrap())).env("TMPDIR", host.file(""));
    let said = must(&mut command);
    assert!(number_after(&said, "passed ").is_some_and(|n| n >= 400), "{said}");
}
