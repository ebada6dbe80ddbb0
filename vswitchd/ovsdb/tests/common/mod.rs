//! What the integration tests share: our server, Debian's tools and Debian's server.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "tests; each target uses its part")]

use ovsdb::Server;
use std::future::Future;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

/// Our server with a fresh file, its `unix:` remote, and the folder that both live in.
pub(crate) async fn serve(schema: &str) -> (Server, String, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("db.sock");
    let server = Server::builder()
        .database(dir.path().join("conf.db"), schema)
        .remote(format!("punix:{}", socket.display()))
        .remote("ptcp:0:127.0.0.1")
        .start()
        .await
        .unwrap();
    (server, format!("unix:{}", socket.display()), dir)
}

/// Bounds a wait.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("nothing happened for 10 s")
}

/// Runs a tool of Debian's package openvswitch-common; its standard output, its standard error, whether it succeeded.
pub(crate) fn tool(name: &str, args: &[&str]) -> (String, String, bool) {
    let output = tests::output(Command::new(name).args(args));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.success())
}

/// [`tool`], without blocking the runtime that our server runs on. It must succeed.
pub(crate) async fn run(name: &'static str, args: &[&str]) -> String {
    let (out, err, ok) = try_run(name, args).await;
    assert!(ok, "{name} {args:?} failed: {err}");
    out
}

/// [`tool`], without blocking the runtime that our server runs on.
pub(crate) async fn try_run(name: &'static str, args: &[&str]) -> (String, String, bool) {
    let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
    let call = move || tool(name, &args.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(call).await.unwrap()
}

/// Debian's ovsdb-server.
pub(crate) struct Oracle {
    pub(crate) remote: String,
    child: Child,
    dir: tempfile::TempDir,
}

impl Oracle {
    /// Starts it and gives it these control commands.
    pub(crate) fn start(commands: &[&str]) -> Self {
        Self::with_schema(ovsdb::schema::VSWITCH_SCHEMA, commands)
    }

    /// Starts it with another schema.
    pub(crate) fn with_schema(schema: &str, commands: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(path("schema"), schema).unwrap();
        let (_, err, ok) = tool("ovsdb-tool", &["create", &path("db"), &path("schema")]);
        assert!(ok, "{err}");
        let child = Command::new("ovsdb-server")
            .args([&path("db"), &format!("--remote=punix:{}", path("sock")), &format!("--unixctl={}", path("ctl"))])
            .arg("-vsyslog:off")
            .arg("-vconsole:off")
            .spawn()
            .expect("ovsdb-server; install the Debian package openvswitch-switch");
        for _ in 0..500 {
            if Path::new(&path("sock")).exists() && Path::new(&path("ctl")).exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let oracle = Self { remote: format!("unix:{}", path("sock")), child, dir };
        commands.iter().for_each(|command| oracle.control(&[command]));
        oracle
    }

    /// Gives it a control command.
    pub(crate) fn control(&self, words: &[&str]) {
        let ctl = self.dir.path().join("ctl").display().to_string();
        let (_, err, ok) = tool("ovs-appctl", &[&["-t", &ctl], words].concat());
        assert!(ok, "{words:?}: {err}");
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
