//! Two switches that are fed alike: one whose megaflows go into the model's hardware, and one without hardware. What they send and count is held
//! equal at each step.
#![allow(clippy::panic, reason = "in a test, to panic is to speak")]

use datapath::Reference;
use flow::clock::now_ms;
use flow::seam::PortRequest;
use flow::{Datapath, DpPort};
use offload::model::{Model, Options, Outcome, SameNumbers};
use offload::tc::client::Tc;
use offload::{Capabilities, PortKind, Tiered};
use ofproto::config::{BridgeConfig, FailMode, InterfaceConfig, PortConfig, SwitchConfig};
use ofproto::conn::Agents;
use ofproto::slowpath::Slowpath;
use openflow::message::{Body, FlowModCommand};
use openflow::text::Names;
use openflow::text::flow::{FlowSyntax, parse_flow};
use openflow::types::Versions;
use openflow::wire::Splitter;
use openflow::{Message, Version, Xid, decode};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

pub(crate) type Tier = Tiered<Reference, Tc<Model, SameNumbers>>;
pub(crate) type Sent = Vec<(DpPort, Vec<u8>)>;

pub(crate) const PORTS: usize = 4;

/// Both, and what is between them.
pub(crate) struct Twins {
    pub(crate) with: Bench,
    pub(crate) alone: Bench,
    pub(crate) tier: Arc<Tier>,
    /// p1 to p4, all of one eSwitch.
    pub(crate) ports: Vec<DpPort>,
    _runtime: Runtime,
}

impl Twins {
    /// `adapt` changes the bridge that they have.
    pub(crate) fn new(options: Options, adapt: impl Fn(&mut BridgeConfig)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let tier = Arc::new(Tier::new(Reference::new(), Tc::new(Model::new(options), SameNumbers), capabilities(&[])));
        let with = Bench::new(Forwards::With(Arc::clone(&tier)), &runtime, &adapt);
        let reference = Arc::new(Reference::new());
        let alone = Bench::new(Forwards::Alone(Arc::clone(&reference)), &runtime, &adapt);
        let ports = ports_of(&*tier);
        assert_eq!(ports, ports_of(&*reference));
        tier.set_capabilities(capabilities(&ports), now_ms());
        Self { with, alone, tier, ports, _runtime: runtime }
    }

    /// Everything that was counted so far is paid to the rules of this time: a driver tells late, and a change does not wait for it.
    pub(crate) fn wait(&self) {
        (0..2).for_each(|_| self.tier.dump(&mut |_| true));
        for slowpath in [&self.with.slowpath, &self.alone.slowpath] {
            slowpath.command("revalidator/wait", &[]).unwrap().unwrap();
        }
    }

    /// Before the change both have counted alike: later the rule that counted otherwise may be gone.
    pub(crate) fn flow_mod(&mut self, text: &str, command: FlowModCommand, at: &str) {
        self.wait();
        assert_eq!(self.with.counters(), self.alone.counters(), "{at}: counters of rules");
        let errors = (self.with.flow_mod(text, command), self.alone.flow_mod(text, command));
        assert_eq!(errors.0, errors.1, "{at}: {text}");
    }

    /// A packet comes in; what leaves, and whether hardware forwarded it.
    pub(crate) fn receive(&self, port: DpPort, bytes: &[u8], at: &str) -> (Sent, bool) {
        let (sent, by_hardware) = self.with.receive(port, bytes);
        assert_eq!(sent, self.alone.receive(port, bytes).0, "{at}: {bytes:02x?} on {port:?}");
        (sent, by_hardware)
    }

    /// At the end, when no megaflow is left, too.
    pub(crate) fn end(&self, at: &str) {
        self.wait();
        let counters = [&self.with, &self.alone].map(|bench| {
            bench.slowpath.command("revalidator/purge", &[]).unwrap().unwrap();
            bench.counters()
        });
        assert_eq!(counters[0], counters[1], "{at}: counters of rules at the end");
    }
}

impl Drop for Twins {
    fn drop(&mut self) {
        self.with.slowpath.shutdown(false);
        self.alone.slowpath.shutdown(false);
    }
}

/// What forwards: hardware and software, or software alone.
pub(crate) enum Forwards {
    With(Arc<Tier>),
    Alone(Arc<Reference>),
}

/// A bridge br0 with four ports, and a controller's connection to it.
pub(crate) struct Bench {
    forwards: Forwards,
    pub(crate) slowpath: Arc<Slowpath>,
    stream: UnixStream,
    splitter: Splitter,
    _agents: Arc<Agents>,
    _dir: tempfile::TempDir,
}

fn config(rundir: &std::path::Path, adapt: &dyn Fn(&mut BridgeConfig)) -> SwitchConfig {
    let port = |name: &str, kind: &str, number| {
        let device = PortRequest { name: name.into(), kind: kind.into(), ..PortRequest::default() };
        let interface = InterfaceConfig { name: name.into(), device, ofport_request: number, ..InterfaceConfig::default() };
        PortConfig { name: name.into(), interfaces: vec![interface], ..PortConfig::default() }
    };
    let mut ports = vec![port("br0", "dummy-internal", None)];
    ports.extend((1..=4).map(|n| port(&format!("p{n}"), "dummy", Some(n))));
    let mut bridge = BridgeConfig {
        name: "br0".into(),
        datapath_type: "reference".into(),
        fail_mode: FailMode::Secure,
        protocols: Versions::ALL,
        ports,
        ..BridgeConfig::default()
    };
    adapt(&mut bridge);
    SwitchConfig { bridges: vec![bridge], rundir: Some(rundir.to_owned()), ..SwitchConfig::default() }
}

impl Bench {
    fn new(forwards: Forwards, runtime: &Runtime, adapt: &dyn Fn(&mut BridgeConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let dp: Arc<dyn Datapath> = match &forwards {
            Forwards::With(tier) => Arc::clone(tier) as Arc<dyn Datapath>,
            Forwards::Alone(alone) => Arc::clone(alone) as Arc<dyn Datapath>,
        };
        let slowpath = Slowpath::new(Box::new(move |_: &str| Ok(Arc::clone(&dp))));
        let config = config(dir.path(), adapt);
        slowpath.configure(&config);
        let agents = Agents::new(Arc::clone(&slowpath), runtime.handle().clone());
        agents.configure(&config);
        let stream = UnixStream::connect(dir.path().join("br0.mgmt")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut this = Self { forwards, slowpath, stream, splitter: Splitter::default(), _agents: agents, _dir: dir };
        this.write(Body::Hello(Versions(1 << 4)));
        this
    }

    fn write(&mut self, body: Body) {
        let message = Message { version: Version::V13, xid: Xid(1), body }.encode().unwrap();
        self.stream.write_all(&message).unwrap();
    }

    /// A flow-mod and a barrier; the errors that come for them.
    fn flow_mod(&mut self, text: &str, command: FlowModCommand) -> Vec<&'static str> {
        let mut fm = parse_flow(text, FlowSyntax::Any, &Names::default()).unwrap_or_else(|e| panic!("{text}: {e}")).flow;
        fm.command = command;
        self.write(Body::FlowMod(Box::new(fm)));
        self.write(Body::BarrierRequest);
        let (mut buffer, mut errors) = ([0; 4096], Vec::new());
        loop {
            while let Some(raw) = self.splitter.next_message().unwrap() {
                let body = decode(raw).unwrap().body;
                if let Body::Error(e) = &body {
                    errors.push(e.error.name());
                } else if matches!(body, Body::BarrierReply) {
                    return errors;
                }
            }
            let read = self.stream.read(&mut buffer).expect("an answer within twenty seconds");
            assert_ne!(read, 0, "the switch hung up");
            self.splitter.push(&buffer[..read]);
        }
    }

    /// A packet comes in by a port; what leaves, and whether it was hardware that forwarded it.
    fn receive(&self, port: DpPort, bytes: &[u8]) -> (Sent, bool) {
        let software = match &self.forwards {
            Forwards::Alone(alone) => alone,
            Forwards::With(tier) => match tier.hardware().link().receive(port, bytes) {
                Outcome::Done(sent) => return (sent.into_iter().map(|s| (s.port, s.bytes)).collect(), true),
                Outcome::Missed => tier.inner(),
                Outcome::MissedInChain(chain) => panic!("a packet came up in the middle, in chain {chain}"),
            },
        };
        software.inject(port, bytes);
        self.slowpath.run_until_idle(now_ms());
        (software.sent(), false)
    }

    /// The rules with their counters.
    fn counters(&self) -> String {
        let text = self.slowpath.command("bridge/dump-flows", &["br0"]).unwrap().unwrap();
        let without_age = |line: &str| line.split(", ").filter(|part| !part.contains("duration=")).collect::<Vec<_>>().join(", ");
        let mut lines: Vec<String> = text.lines().map(without_age).collect();
        lines.sort();
        lines.join("\n")
    }
}

fn ports_of(dp: &dyn Datapath) -> Vec<DpPort> {
    let ports = dp.ports();
    (1..=PORTS).map(|n| ports.iter().find(|p| p.name == format!("p{n}")).unwrap().number).collect()
}

pub(crate) fn capabilities(ports: &[DpPort]) -> Capabilities {
    let mut can = Capabilities::all();
    // The model has no such actions; it would refuse them itself.
    (can.ct, can.eth_push_pop) = (false, false);
    can.ports.extend(ports.iter().map(|port| (*port, PortKind::Switch(1))));
    can
}
