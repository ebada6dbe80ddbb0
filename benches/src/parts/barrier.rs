//! What a flow-mod and its barrier cost when there are many megaflows, and what translating all of them again costs.
//!
//! The client speaks OpenFlow itself: no start of a program is in the figures. While it does, the forwarding core goes on with all of the
//! traffic. How many megaflows were translated again says the daemon's own counter; the processor time is that of all its threads but
//! the forwarding ones.

use crate::BenchError;
use crate::measure::{Bench, Row, median};
use crate::process::{ran_ns, rest, threads, wait_until};
use crate::rules;
use crate::scenario::{Scenario, Size};
use crate::side::{Setup, Side, Whose};
use crate::traffic::Traffic;
use openflow::message::{Body, FlowMod, FlowModCommand, Message};
use openflow::text::Names;
use openflow::text::flow::{FlowSyntax, parse_flow};
use openflow::types::Versions;
use openflow::wire::{Codec, Splitter};
use openflow::{Version, Xid};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

const SETUP: Setup = Setup {
    ours: &["other_config:flow-limit=2000000", "other_config:max-idle=1000000"],
    peer: &[],
    replayed: 0,
    // A barrier waits until the forwarding core is through with its batch. From a thread of real-time priority the kernel takes 50 ms in each
    // second, in the middle of a batch as well.
    idle: true,
    free: false,
};
const LIMIT: &str = "2000000";
/// Sixteen flows of the traffic.
const FEW: &str = "priority=10,in_port=1,udp,nw_dst=11.0.0.1,tp_src=2048/0xfff0,actions=drop";
/// All of them, which are forwarded as before.
const ALL: &str = "priority=20,in_port=1,udp,actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],move:NXM_OF_IP_DST[]->NXM_NX_REG1[],\
    move:NXM_OF_UDP_SRC[]->NXM_NX_REG2[0..15],move:NXM_OF_UDP_DST[]->NXM_NX_REG2[16..31],output:2";
const TURNS: usize = 50;
const TURNS_OF_ALL: usize = 5;
/// How long the megaflows may take to be set up, and an answer to come.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long is watched what it costs that nothing changes.
const IDLE: Duration = Duration::from_secs(3);

/// Figures of one kind of change.
#[derive(Debug, Default)]
struct Figures {
    wall_ms: Vec<f64>,
    cpu_ms: Vec<f64>,
    translated: Vec<f64>,
}

/// Ours only: Open vSwitch translates everything again, whatever changed.
pub fn run(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    let pcap = Traffic::Udp { flows: size.flows }.write(&bench.pcaps)?;
    let rules = format!("priority=1,{}", rules::SETUP);
    let mut side = Side::with_rules(&mut bench.lab, Whose::Ours, &SETUP, 2, ("barrier", &rules))?;
    side.appctl("upcall/set-flow-limit", &[LIMIT])?;
    side.source(&bench.lab, "br0", 1, &pcap)?;
    let start = Instant::now();
    while side.n_megaflows()? < u64::from(size.flows) {
        if start.elapsed() > PATIENCE {
            return Err(BenchError::Late(format!("{} megaflows", size.flows)));
        }
        rest(Duration::from_millis(100))?;
    }
    let mut client = Client::connect(&side.dir.join("br0.mgmt"))?;
    rest(Duration::from_secs(1))?;
    let mut rows = Vec::new();
    let idle_ms = idle(&side)?;
    rows.push(Row { mpps: Some(idle_ms), unit: "ms of a core per second", ..Row::new("barrier-idle", size) });
    for (name, rule, turns) in [("barrier-few", FEW, TURNS), ("barrier-all", ALL, TURNS_OF_ALL)] {
        let figures = measure(&mut side, &mut client, rule, turns)?;
        let slowest = figures.wall_ms.iter().copied().fold(0.0, f64::max);
        let (wall, cpu) = (median(figures.wall_ms.iter().copied()), median(figures.cpu_ms.iter().copied()));
        let translated = median(figures.translated.iter().copied()).unwrap_or_default();
        let note = format!(
            "{translated:.0} megaflows translated again; slowest {slowest:.2} ms; processor time {:.2} ms",
            cpu.unwrap_or_default()
        );
        bench.progress(format_args!("{} {name}: {:.2} ms, {note}", scenario.name, wall.unwrap_or_default()));
        rows.push(Row { mpps: wall, unit: "ms, flow-mod and barrier", note, ..Row::new(name, size) });
    }
    Ok(rows)
}

fn translated(side: &mut Side) -> Result<u64, BenchError> {
    let text = side.appctl("coverage/read-counter", &["revalidate_translated"])?;
    text.trim().parse().map_err(|_| BenchError::Answer { from: "coverage/read-counter", what: "a number", text })
}

/// Processor time of all threads but the forwarding ones.
fn control_ms(side: &Side) -> f64 {
    let forwarding = threads(side.pid(), "pmd-c");
    let others: Vec<u32> = threads(side.pid(), "").into_iter().filter(|tid| !forwarding.contains(tid)).collect();
    Duration::from_nanos(ran_ns(side.pid(), &others)).as_secs_f64() * 1000.0
}

/// What it costs per second that nothing changes: statistics, and the question whether anything did.
fn idle(side: &Side) -> Result<f64, BenchError> {
    let (start, before) = (Instant::now(), control_ms(side));
    rest(IDLE)?;
    Ok((control_ms(side) - before) / start.elapsed().as_secs_f64())
}

/// The rule comes and goes, with a barrier each time.
fn measure(side: &mut Side, client: &mut Client, rule: &str, turns: usize) -> Result<Figures, BenchError> {
    let mut figures = Figures::default();
    for turn in 0..turns {
        let command = if turn % 2 == 0 { FlowModCommand::Add } else { FlowModCommand::DeleteStrict };
        let (again, cpu) = (translated(side)?, control_ms(side));
        let start = Instant::now();
        client.change(rule, command)?;
        figures.wall_ms.push(start.elapsed().as_secs_f64() * 1000.0);
        figures.cpu_ms.push(control_ms(side) - cpu);
        #[allow(clippy::cast_precision_loss, reason = "a count of megaflows is small")]
        figures.translated.push((translated(side)? - again) as f64);
        rest(Duration::from_millis(20))?;
    }
    Ok(figures)
}

/// An OpenFlow 1.3 connection to a bridge.
struct Client {
    stream: UnixStream,
    splitter: Splitter,
    xid: u32,
}

impl Client {
    fn connect(path: &Path) -> Result<Self, BenchError> {
        let fault = || BenchError::io(path.display().to_string());
        let mut stream = None;
        wait_until("the bridge's management socket", PATIENCE, || {
            stream = UnixStream::connect(path).ok();
            stream.is_some()
        })?;
        let stream = stream.ok_or_else(|| BenchError::Late(path.display().to_string()))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(fault())?;
        let mut client = Self { stream, splitter: Splitter::default(), xid: 1 };
        client.send(vec![Body::Hello(Versions(1 << Version::V13 as u32))])?;
        client.await_reply(|body| matches!(body, Body::Hello(_)))?;
        Ok(client)
    }

    fn send(&mut self, bodies: Vec<Body>) -> Result<(), BenchError> {
        let mut bytes = Vec::new();
        for body in bodies {
            self.xid += 1;
            let message = Message { version: Version::V13, xid: Xid(self.xid), body };
            bytes.extend(message.encode().map_err(|e| BenchError::Wrong(e.to_string()))?);
        }
        self.stream.write_all(&bytes).map_err(BenchError::io("the OpenFlow connection"))
    }

    fn await_reply(&mut self, wanted: impl Fn(&Body) -> bool) -> Result<(), BenchError> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            while let Some(raw) = self.splitter.next_message().map_err(|e| BenchError::Wrong(e.to_string()))? {
                match Codec::default().decode(raw) {
                    Ok(Message { body, .. }) if wanted(&body) => return Ok(()),
                    Ok(Message { body: Body::Error(error), .. }) => return Err(BenchError::Wrong(format!("{error:?}"))),
                    Ok(_) | Err(_) => {}
                }
            }
            let n = self.stream.read(&mut buffer).map_err(BenchError::io("the OpenFlow connection"))?;
            if n == 0 {
                return Err(BenchError::Wrong("the switch has closed the connection".to_owned()));
            }
            self.splitter.push(&buffer[..n]);
        }
    }

    /// A flow-mod and a barrier; returns with the barrier's reply.
    fn change(&mut self, rule: &str, command: FlowModCommand) -> Result<(), BenchError> {
        let parsed = parse_flow(rule, FlowSyntax::Any, &Names::default()).map_err(|e| BenchError::Wrong(e.to_string()))?;
        let fm = FlowMod { command, ..parsed.flow };
        self.send(vec![Body::FlowMod(Box::new(fm)), Body::BarrierRequest])?;
        self.await_reply(|body| matches!(body, Body::BarrierReply))
    }
}
