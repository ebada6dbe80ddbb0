//! The Debian packages: they hold what `packaging/*.files` declares (`deb.sh` sees to that), and their programs run where they are
//! unpacked.

use crate::rig::{Db, Host, Setup, assert_has, assert_lacks, binary, must, run, wait_until};
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
    // ovn-host asks for a version.
    assert_has(&control("ferrule-ovs_", "Provides"), &["openvswitch-switch (= 3.", "openvswitch-common (= 3."]);
    start_scripts_start_the_switch_and_ovns_find_it(&unpacked);
}

/// The whole of ovs-ctl, and OVN's own script on top of it, in a namespace with folders of its own.
fn start_scripts_start_the_switch_and_ovns_find_it(unpacked: &Path) {
    let host = Host::bare(Setup { db: Db::At("unix:db.sock"), words: "" });
    let usr = unpacked.join("usr");
    let script = |path: &Path, words: &str| {
        let mut command = host.command(path.to_str().unwrap());
        for (variable, folder) in [("OVS_BINDIR", "bin"), ("OVS_SBINDIR", "sbin"), ("OVS_PKGDATADIR", "share/openvswitch")] {
            command.env(variable, usr.join(folder));
        }
        for variable in ["OVN_RUNDIR", "OVN_LOGDIR", "OVN_DBDIR", "OVN_SYSCONFDIR"] {
            command.env(variable, host.file("ovn"));
        }
        run(command.args(words.split_whitespace()))
    };
    let ctl = |words: &str| script(&usr.join("share/openvswitch/scripts/ovs-ctl"), words);
    let done = |words: &str| {
        let ran = ctl(words);
        assert_eq!(ran.code, 0, "{words}: {}{}", ran.out, ran.err);
        ran.out
    };
    assert_eq!(ctl("status").code, 1);
    assert_has(&done("start --system-id=random --external-id=place=here"), &["Starting ovsdb-server", "Starting ovs-vswitchd"]);
    assert_has(&done("status"), &["ovsdb-server is running with pid", "ovs-vswitchd is running with pid"]);
    assert_has(&done("start"), &["ovs-vswitchd is already running"]);
    let ids = host.vsctl("get open_vswitch . external_ids");
    assert_has(&ids, &["hostname=", "place=here", "rundir=", "system-id="]);
    host.bridge("br0", "fail_mode=secure");
    host.ofctl("add-flow br0 cookie=0x77,priority=5,ip,actions=drop");
    done("restart --system-id=random");
    assert_has(&host.ofctl("dump-flows br0"), &["cookie=0x77", "priority=5,ip actions=drop"]);
    assert_eq!(host.vsctl("get open_vswitch . external_ids"), ids, "a restart changes no name");
    let scripts = usr.join("share/ovn/scripts");
    std::fs::create_dir_all(&scripts).unwrap();
    for name in ["ovn-ctl", "ovn-lib"] {
        std::fs::copy(Path::new("/usr/share/ovn/scripts").join(name), scripts.join(name)).unwrap();
    }
    let ovn = |words: &str| script(&scripts.join("ovn-ctl"), words);
    let started = ovn("start_controller --ovn-manage-ovsdb=no --no-monitor");
    assert_eq!(started.code, 0, "{}{}", started.out, started.err);
    wait_until("ovn-controller has made its bridge", || host.vsctl("list-br").contains("br-int"));
    assert_eq!(ovn("status_controller").code, 0);
    assert_eq!(ovn("stop_controller --no-monitor").code, 0);
    assert_has(&done("stop"), &["Exiting ovs-vswitchd", "Exiting ovsdb-server"]);
    assert_lacks(&ctl("status").out, &["is running with pid"]);
}
