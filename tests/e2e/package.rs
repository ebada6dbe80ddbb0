//! The Debian packages: they hold what `packaging/*.files` declares (`deb.sh` sees to that), and their programs run where they are
//! unpacked.

use crate::rig::{binary, must};
use std::path::Path;
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// The programs that stand beside `ferrule` under OVS's names.
const PROGRAMS: [&str; 9] = [
    "bin/ovs-vsctl",
    "bin/ovs-ofctl",
    "bin/ovs-appctl",
    "bin/ovs-dpctl",
    "bin/ovs-pki",
    "bin/ovsdb-client",
    "bin/ovsdb-tool",
    "sbin/ovsdb-server",
    "sbin/ovs-vswitchd",
];

#[test]
fn packages_are_whole_and_their_programs_run() {
    let dir = tempfile::tempdir().unwrap();
    let programs = binary("ferrule");
    let mut make = Command::new(format!("{ROOT}/packaging/deb.sh"));
    make.arg(dir.path()).env("FERRULE_BIN", programs.parent().unwrap()).env("DEB_COMPRESSION", "none");
    must(&mut make);
    let unpacked = dir.path().join("root");
    for package in std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()) {
        must(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&unpacked));
    }
    let says = |program: &Path, word: &str| must(Command::new(program).arg(word));
    for program in PROGRAMS {
        let help = says(&unpacked.join("usr").join(program), "--help");
        let name = program.split_once('/').unwrap().1;
        assert!(help.contains(name), "{name} --help: {help}");
    }
    assert!(says(&unpacked.join("usr/bin/ferrule"), "--help").contains("daemon"));
    let control = |name: &str, field: &str| {
        let package = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let package = package.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(name)).unwrap();
        must(Command::new("dpkg-deb").arg("-f").arg(package).arg(field))
    };
    assert_eq!(control("ferrule-ovs_", "Conflicts").trim(), "openvswitch-switch, openvswitch-common");
    assert_eq!(control("ferrule_", "Conflicts").trim(), "");
}
