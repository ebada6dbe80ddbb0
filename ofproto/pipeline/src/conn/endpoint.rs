//! Endpoints: where connections of a bridge come from or go to, and the task behind each.

use super::outbox::Limits;
use super::reconnect::Status;
use super::state::Kind;
use super::{Shared, sockets, stream};
use crate::config::{ControllerConfig, SwitchConfig};
use crate::slowpath::Slowpath;
use crate::world::BridgeId;
use openflow::types::Versions;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Names an endpoint.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Endpoint {
    pub(super) bridge: BridgeId,
    pub(super) bridge_name: String,
    pub(super) target: String,
    role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Role {
    Management,
    Snoop,
    Controller,
}

impl Endpoint {
    pub(super) fn is_controller(&self) -> bool {
        self.role == Role::Controller
    }

    pub(super) fn is_snoop(&self) -> bool {
        self.role == Role::Snoop
    }
}

/// What both ends rely on from the first byte: when it changes, connections end.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Agreed {
    pub(super) versions: Versions,
    /// The mark of its packets.
    pub(super) dscp: u8,
    /// Whom the peer takes the bridge for: there is no message to say that it is another.
    datapath_id: u64,
}

/// How connections of an endpoint are treated: what may change while they last.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Terms {
    /// What those are that come from now on, and what the endpoint is for the bridge's fail mode.
    pub(super) kind: Kind,
    pub(super) max_backoff_ms: i64,
    pub(super) probe_ms: i64,
    pub(super) asynchronous: bool,
    pub(super) limits: Limits,
}

/// All endpoints of a configuration.
pub(super) fn wanted(config: &SwitchConfig, slowpath: &Slowpath) -> Vec<(Endpoint, Agreed, Terms)> {
    let world = slowpath.read_world();
    let mut wanted = Vec::new();
    for bridge in &config.bridges {
        let Some((id, datapath_id)) = world.bridge_named(&bridge.name).map(|b| (b.id, b.datapath_id)) else { continue };
        let endpoint = |target: String, role| Endpoint { bridge: id, bridge_name: bridge.name.clone(), target, role };
        let agreed = |dscp| Agreed { versions: bridge.protocols, dscp, datapath_id };
        let service = Terms {
            kind: Kind::Service,
            max_backoff_ms: 0,
            probe_ms: LOCAL_PROBE_MS,
            asynchronous: true,
            limits: Limits { rate: None, queue: bridge.controller_queue_size },
        };
        // A name with a slash would lead out of the run folder.
        if let Some(rundir) = config.rundir.as_ref().filter(|_| !bridge.name.contains('/')) {
            let socket = |suffix: &str| format!("punix:{}", rundir.join(format!("{}.{suffix}", bridge.name)).display());
            wanted.push((endpoint(socket("mgmt"), Role::Management), agreed(0), service.clone()));
            wanted.push((endpoint(socket("snoop"), Role::Snoop), agreed(0), service.clone()));
        }
        for controller in &bridge.controllers {
            let endpoint = endpoint(controller.target.clone(), Role::Controller);
            // Of rows with one target the first counts.
            if wanted.iter().all(|(e, ..)| *e != endpoint) {
                wanted.push((endpoint, agreed(controller.dscp), terms_of(controller)));
            }
        }
    }
    wanted
}

/// Whether controllers come to it.
pub(super) fn is_passive(target: &str) -> bool {
    ["ptcp:", "pssl:", "punix:"].iter().any(|p| target.starts_with(p))
}

fn terms_of(controller: &ControllerConfig) -> Terms {
    Terms {
        kind: if controller.service { Kind::Service } else { Kind::Primary },
        max_backoff_ms: controller.max_backoff_ms,
        probe_ms: if controller.inactivity_probe_ms > 0 { controller.inactivity_probe_ms.max(PROBE_MIN_MS) } else { 0 },
        asynchronous: controller.enable_async,
        limits: Limits {
            rate: controller.rate_limit.map(|rate| (rate, controller.burst_limit.unwrap_or(0))),
            queue: controller.queue_size,
        },
    }
}

/// Where a target leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Target {
    Tcp(String, u16),
    Ssl(String, u16),
    Unix(PathBuf),
    ListenTcp(String, u16),
    ListenSsl(String, u16),
    ListenUnix(PathBuf),
}

/// Least silence after which a peer is asked, whatever is configured.
pub(super) const PROBE_MIN_MS: i64 = 5_000;
/// Silence after which a client of a bridge's own socket is asked whether it is there, as OVS does.
const LOCAL_PROBE_MS: i64 = 60_000;
/// IANA's port for OpenFlow.
const PORT: u16 = 6653;

impl Target {
    /// Parses `tcp:HOST[:PORT]`, `ssl:HOST[:PORT]`, `unix:FILE`, `ptcp:[PORT][:HOST]`, `pssl:[PORT][:HOST]`, `punix:FILE`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text
            .split_once(':')
            .ok_or_else(|| format!("{text}: missing connection method, expected tcp:, ssl:, unix:, ptcp:, pssl: or punix:"))?;
        match scheme {
            "unix" => Ok(Self::Unix(rest.into())),
            "punix" => Ok(Self::ListenUnix(rest.into())),
            "tcp" | "ssl" => {
                let (host, port) = split_host(rest).ok_or_else(|| format!("{text}: bad peer name format"))?;
                if host.is_empty() {
                    return Err(format!("{text}: bad peer name format"));
                }
                let port = port.unwrap_or(PORT);
                Ok(if scheme == "tcp" { Self::Tcp(host, port) } else { Self::Ssl(host, port) })
            }
            "ptcp" | "pssl" => {
                let (port, host) = match rest.split_once(':') {
                    Some((port, host)) => (port, host.trim_matches(['[', ']'])),
                    None => (rest, ""),
                };
                let port = if port.is_empty() { Ok(PORT) } else { port.parse() };
                let port = port.map_err(|_| format!("{text}: bad port number {rest:?}, expected 0 to 65535"))?;
                let host = if host.is_empty() { "0.0.0.0" } else { host }.to_owned();
                Ok(if scheme == "ptcp" { Self::ListenTcp(host, port) } else { Self::ListenSsl(host, port) })
            }
            _ => Err(format!("{text}: unsupported connection method {scheme:?}, expected tcp, ssl, unix, ptcp, pssl or punix")),
        }
    }

    /// The same, the relative name of a unix socket seen from a folder.
    fn seen_from(self, folder: Option<&Path>) -> Self {
        let Some(folder) = folder else { return self };
        match self {
            Self::Unix(path) => Self::Unix(folder.join(path)),
            Self::ListenUnix(path) => Self::ListenUnix(folder.join(path)),
            Self::Tcp(..) | Self::Ssl(..) | Self::ListenTcp(..) | Self::ListenSsl(..) => self,
        }
    }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`.
fn split_host(text: &str) -> Option<(String, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port.parse().ok()?),
            None => None,
        };
        return Some((host.to_owned(), port));
    }
    match text.split_once(':') {
        Some((host, port)) => Some((host.to_owned(), Some(port.parse().ok()?))),
        None => Some((text.to_owned(), None)),
    }
}

/// A running endpoint.
#[derive(Debug)]
pub(super) struct Task {
    /// Conversations that rely on something else end; all, when there is nothing to rely on any more.
    agreed: watch::Sender<Option<Agreed>>,
    terms: watch::Sender<Terms>,
    status: Arc<Mutex<Status>>,
    again: Arc<Notify>,
    handle: JoinHandle<()>,
    listens: bool,
    socket: Option<PathBuf>,
}

impl Task {
    /// Starts an endpoint.
    pub(super) fn start(
        runtime: &Handle,
        shared: Arc<Shared>,
        endpoint: &Endpoint,
        (agreed, terms): (Agreed, Terms),
        rundir: Option<&Path>,
    ) -> Self {
        let status = Arc::new(Mutex::new(Status::new(terms.max_backoff_ms, terms.probe_ms)));
        let terms = watch::Sender::new(terms);
        let agreed = watch::Sender::new(Some(agreed));
        let again = Arc::new(Notify::new());
        let target = Target::parse(&endpoint.target).map(|target| target.seen_from(rundir));
        let listens = matches!(target, Ok(Target::ListenTcp(..) | Target::ListenSsl(..) | Target::ListenUnix(_)));
        let socket = match &target {
            Ok(Target::ListenUnix(path)) => Some(path.clone()),
            Ok(Target::Tcp(..) | Target::Ssl(..) | Target::Unix(_) | Target::ListenTcp(..) | Target::ListenSsl(..)) | Err(_) => {
                None
            }
        };
        let _guard = runtime.enter();
        let job = stream::Job {
            shared,
            endpoint: endpoint.clone(),
            agreed: agreed.subscribe(),
            terms: terms.subscribe(),
            status: Arc::clone(&status),
            again: Arc::clone(&again),
        };
        let handle = match target {
            Ok(Target::ListenUnix(path)) => match sockets::bind_unix(&path) {
                Ok(listener) => runtime.spawn(stream::serve_unix(job, listener)),
                Err(error) => {
                    tracing::error!(target: "connmgr", "failed to listen on {}: {error}", endpoint.target);
                    runtime.spawn(async {})
                }
            },
            Ok(Target::ListenTcp(host, port)) => runtime.spawn(stream::serve_tcp(job, (host, port), false)),
            Ok(Target::ListenSsl(host, port)) => runtime.spawn(stream::serve_tcp(job, (host, port), true)),
            Ok(active @ (Target::Tcp(..) | Target::Ssl(..) | Target::Unix(_))) => {
                runtime.spawn(stream::connect_forever(job, active))
            }
            Err(error) => {
                tracing::error!(target: "rconn", "{error}");
                runtime.spawn(async {})
            }
        };
        Self { agreed, terms, status, again, handle, listens, socket }
    }

    pub(super) fn status(&self) -> Status {
        self.status.lock().expect("no holder of a status panics").clone()
    }

    pub(super) fn reconnect(&self) {
        self.again.notify_waiters();
    }

    /// Whether it can go on with this: nothing has changed, or nothing but for those who come to a listener.
    pub(super) fn can_rely_on(&self, agreed: Agreed) -> bool {
        let listens = self.listens && !self.handle.is_finished();
        self.agreed.borrow().is_some_and(|have| have == agreed || (listens && have.dscp == agreed.dscp))
    }

    /// Takes up what may be other than before: conversations go on by other terms, and end when something else is agreed on.
    pub(super) fn take_up(&self, agreed: Agreed, terms: Terms) {
        self.agreed.send_if_modified(|have| have.replace(agreed) != Some(agreed));
        self.status.lock().expect("no holder of a status panics").take_up(terms.max_backoff_ms, terms.probe_ms);
        self.terms.send_if_modified(|have| {
            let changes = *have != terms;
            *have = terms;
            changes
        });
    }

    /// Ends the endpoint and every conversation. Gives what can be waited for until its listener is gone.
    pub(super) fn close(self) -> JoinHandle<()> {
        self.handle.abort();
        if let Some(path) = &self.socket {
            // It may be gone already.
            let _ = std::fs::remove_file(path);
        }
        self.agreed.send_replace(None);
        self.handle
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, config, controller};

    #[test]
    fn of_rows_with_one_target_the_first_counts() {
        let mut config = config(&["br0 p1@1", "br1 p2@1"]);
        for bridge in &mut config.bridges {
            bridge.controllers =
                vec![controller("tcp:127.0.0.1:1"), controller("tcp:127.0.0.1:2"), controller("tcp:127.0.0.1:1")];
            bridge.controllers[2].queue_size += 1;
            bridge.controllers[2].dscp += 1;
        }
        let scenario = Scenario::new(&config);
        let wanted = wanted(&config, &scenario.slowpath);
        let told: Vec<_> = wanted
            .iter()
            .filter(|(endpoint, ..)| endpoint.is_controller())
            .map(|(endpoint, agreed, terms)| (&*endpoint.bridge_name, &*endpoint.target, agreed.dscp, terms.limits.queue))
            .collect();
        let each = |bridge| [(bridge, "tcp:127.0.0.1:1", 48, 100), (bridge, "tcp:127.0.0.1:2", 48, 100)];
        assert_eq!(told, [each("br0"), each("br1")].concat());
    }

    #[test]
    fn targets() {
        let ok = |text: &str| Target::parse(text).unwrap();
        assert_eq!(ok("tcp:127.0.0.1"), Target::Tcp("127.0.0.1".into(), 6653));
        assert_eq!(ok("tcp:[::1]:6633"), Target::Tcp("::1".into(), 6633));
        assert_eq!(ok("ssl:10.0.0.1"), Target::Ssl("10.0.0.1".into(), 6653));
        assert_eq!(ok("pssl:6633:[::1]"), Target::ListenSsl("::1".into(), 6633));
        assert_eq!(ok("ptcp:"), Target::ListenTcp("0.0.0.0".into(), 6653));
        assert_eq!(ok("ptcp:6634:127.0.0.1"), Target::ListenTcp("127.0.0.1".into(), 6634));
        assert_eq!(ok("punix:/run/x.mgmt"), Target::ListenUnix("/run/x.mgmt".into()));
        let seen = |text: &str| ok(text).seen_from(Some(Path::new("/run/ovs")));
        assert_eq!(seen("unix:controller"), Target::Unix("/run/ovs/controller".into()));
        assert_eq!(seen("punix:br0.own"), Target::ListenUnix("/run/ovs/br0.own".into()));
        assert_eq!(seen("unix:/run/x"), ok("unix:/run/x"));
        for bad in ["", "tcp:", "tcp:a:b", "ptcp:99999", "smoke:signals", "tcp"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
