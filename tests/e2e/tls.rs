//! TLS between switch and controllers: certificates of ovs-pki, both directions, bootstrapping a CA, and peers that are refused.

use crate::python_controllers::{START, learning_switch};
use crate::rig::{Host, Running, assert_has, assert_lacks, is_stock, wait_for, wait_until};

/// A host with a PKI: switch `sc` (certified by the switches' CA), controller `ctl` (by the controllers' CA), and `stranger` (by
/// another one).
fn host() -> Host {
    let host = Host::new();
    for (dir, log) in [("pki", "pki.log"), ("other", "other.log")] {
        host.tool("ovs-pki", &format!("--dir={} --log={} init", host.file(dir).display(), host.file(log).display()));
    }
    let sign = |dir: &str, log: &str, name: &str, kind: &str| {
        let (dir, log) = (host.file(dir), host.file(log));
        host.tool("ovs-pki", &format!("--dir={} --log={} req+sign {name} {kind}", dir.display(), log.display()));
    };
    sign("pki", "pki.log", "sc", "switch");
    sign("pki", "pki.log", "ctl", "controller");
    sign("other", "other.log", "stranger", "controller");
    host
}

fn set_ssl(host: &Host, more: &str, ca: &str) {
    let (key, cert, ca) = (host.file("sc-privkey.pem"), host.file("sc-cert.pem"), host.file(ca));
    host.vsctl(&format!("{more} set-ssl {} {} {}", key.display(), cert.display(), ca.display()));
}

fn is_connected(host: &Host) -> bool {
    host.vsctl("--columns=is_connected list controller").contains("true")
}

/// os-ken's learning switch with the key of `who` and a file of certificates. (Debian's ovs-testcontroller dies of the first packet-in that comes
/// to it over TLS, also from OVS's own switch.)
fn controller(host: &Host, who: &str, certificates: &str) -> Running {
    let mut command = learning_switch(host, "said");
    command.args(["--ofp-listen-host=127.0.0.1", "--ofp-ssl-listen-port=6653"]);
    let file = |name: &str| host.file(name).display().to_string();
    command.arg(format!("--ctl-privkey={}", file(&format!("{who}-privkey.pem"))));
    command.arg(format!("--ctl-cert={}", file(certificates)));
    command.arg(format!("--ca-certs={}", file("pki/switchca/cacert.pem")));
    Running::start(&mut command)
}

#[test]
fn a_controller_with_a_certificate_is_believed_and_another_not() {
    let host = host();
    let (a, _b) = host.pair("fail_mode=secure");
    set_ssl(&host, "", "pki/controllerca/cacert.pem");
    let stranger = controller(&host, "stranger", "stranger-cert.pem");
    host.vsctl("set-controller br0 ssl:127.0.0.1:6653");
    wait_for("the stranger is refused", START, || host.log().contains("SSL_connect"));
    assert!(!is_connected(&host));
    drop(stranger);
    let _running = controller(&host, "ctl", "ctl-cert.pem");
    wait_for("the controller is connected", START, || is_connected(&host));
    wait_until("the controller carries traffic", || a.ping("10.0.0.2", 1, "") == 1);
    a.reaches("10.0.0.2");
    assert_lacks(&host.log(), &["panicked"]);
}

#[test]
fn a_listener_takes_those_with_certificates() {
    let host = host();
    host.pair("fail_mode=secure");
    set_ssl(&host, "", "pki/controllerca/cacert.pem");
    host.vsctl("set-controller br0 pssl:6640:127.0.0.1");
    wait_until("the switch listens", || host.ns.exec("ss -Hltn sport = :6640").contains("6640"));
    let ofctl = |who: &str| {
        let files = format!("-p {who}-privkey.pem -c {who}-cert.pem -C pki/switchca/cacert.pem");
        host.try_tool("ovs-ofctl", &format!("--timeout=10 {files} -OOpenFlow14 show ssl:127.0.0.1:6640"))
    };
    let ran = ofctl("ctl");
    assert_has(&ran.out, &["OFPT_FEATURES_REPLY (OF1.4)", "1(p1)"]);
    assert_ne!(ofctl("stranger").code, 0);
    // Without TLS nobody is understood, and nothing breaks.
    assert_ne!(host.try_tool("ovs-ofctl", "--timeout=5 show tcp:127.0.0.1:6640").code, 0);
    assert_has(&ofctl("ctl").out, &["1(p1)"]);
    if !is_stock() {
        // Our own ofctl, by the same files.
        let ours = crate::rig::binary("ferrule");
        let files = "-p ctl-privkey.pem -c ctl-cert.pem -C pki/switchca/cacert.pem";
        let ran =
            host.try_tool(ours.to_str().unwrap(), &format!("ofctl --timeout=10 {files} -OOpenFlow14 show ssl:127.0.0.1:6640"));
        assert_has(&ran.out, &["OFPT_FEATURES_REPLY (OF1.4)", "1(p1)"]);
    }
}

#[test]
fn the_first_controller_brings_its_ca() {
    let host = host();
    let (a, _b) = host.pair("fail_mode=secure");
    // The controller sends its CA's certificate along.
    let ca = "pki/controllerca/cacert.pem";
    let chain = ["ctl-cert.pem", ca].map(|name| std::fs::read_to_string(host.file(name)).unwrap()).concat();
    std::fs::write(host.file("ctl-chain.pem"), chain).unwrap();
    let _running = controller(&host, "ctl", "ctl-chain.pem");
    set_ssl(&host, "-- --bootstrap", "fresh.pem");
    host.vsctl("set-controller br0 ssl:127.0.0.1:6653");
    wait_for("the controller is connected", START, || is_connected(&host));
    let body = |name: &str| {
        let text = std::fs::read_to_string(host.file(name)).unwrap();
        let from = text.find("-----BEGIN CERTIFICATE-----").unwrap();
        text[from..].split_whitespace().collect::<String>()
    };
    assert_eq!(body("fresh.pem"), body(ca), "written as it was sent");
    wait_until("the controller carries traffic", || a.ping("10.0.0.2", 1, "") == 1);
    a.reaches("10.0.0.2");
}
