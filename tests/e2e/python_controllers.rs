//! Controllers from elsewhere, unmodified, from PyPI: os-ken with a learning switch. It forwards between containers, and says what the
//! switch answered.

use crate::rig::{Host, Running, assert_has, assert_lacks, wait_for, wait_until};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Python takes its time to begin.
const START: Duration = Duration::from_secs(40);

/// A program of the environment that `python/setup.sh` makes.
fn program(name: &str) -> PathBuf {
    let dir = std::env::var("FERRULE_CONTROLLERS").expect("run.sh names the environment of the controllers");
    Path::new(&dir).join("bin").join(name)
}

fn is_connected(host: &Host) -> bool {
    host.vsctl("--columns=is_connected list controller").contains("true")
}

#[test]
fn a_learning_switch_of_os_ken() {
    let host = Host::new();
    let (a, b) = host.pair("fail_mode=secure other_config:datapath-id=00000000000000ab");
    let app = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/python/learning.py");
    let said = host.file("said");
    let mut command = host.command(program("osken-manager").to_str().unwrap());
    command.args(["--ofp-listen-host=127.0.0.1", "--ofp-tcp-listen-port=6653", app]);
    command.stdout(File::create(&said).unwrap()).stderr(File::create(host.file("errors")).unwrap());
    let _running = Running::start(&mut command);
    host.vsctl("set-controller br0 tcp:127.0.0.1:6653");
    wait_for("the controller is connected", START, || is_connected(&host));
    let text = || std::fs::read_to_string(&said).unwrap();
    wait_for("the controller has its answers", START, || {
        ["barrier", "ports", "tables", "role"].iter().all(|w| text().contains(w))
    });
    assert_has(&text(), &["features 00000000000000ab 254", "ports br0 p1 p2", "tables ", "role 2 1"]);
    // The database's column follows every five seconds.
    wait_for("the role is known", START, || host.vsctl("--columns=role list controller").contains("master"));
    wait_until("the controller carries traffic", || a.ping("10.0.0.2", 1, "") == 1);
    a.reaches("10.0.0.2");
    b.reaches("10.0.0.1");
    wait_until("both ways are learned", || text().matches("learned").count() >= 2);
    assert_has(
        &host.ofctl("dump-flows br0"),
        &["idle_timeout=30, send_flow_rem priority=1", "actions=output:2", "actions=CONTROLLER"],
    );
    // Packets of a learned flow are the switch's own affair.
    let before = text().matches("learned").count();
    assert_eq!(a.ping("10.0.0.2", 20, "-i 0.05"), 20);
    assert!(text().matches("learned").count() <= before + 2, "{}", text());
    host.ofctl("--strict del-flows br0 priority=0");
    wait_until("the controller hears of it", || text().contains("removed 0 2"));
    assert_lacks(&text(), &["error"]);
}
