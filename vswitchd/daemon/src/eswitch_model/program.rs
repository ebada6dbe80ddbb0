//! The program: devices, a thread that forwards, a thread for each who programs it, an end by signal.

use super::devices::{Function, Functions};
use super::options::{Command, Options};
use super::{Client, NEWS, SHOW, receive, send};
use crate::errno_text;
use clap::Parser;
use flow::DpPort;
use nix::sys::signal::{SigSet, Signal};
use offload::model::{Model, Outcome};
use offload::tc::attributes::Writer;
use port::{Batch, Packet, Receive as _, RxQueue, Transmit as _, TxQueue};
use std::io::{self, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long the forwarding thread sleeps before it looks whether it is to end.
const WAIT_MS: i32 = 500;
const HEADER: usize = 16;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWTFILTER: u16 = 44;
const IFLA_IFNAME: u16 = 3;
const IFLA_PHYS_SWITCH_ID: u16 = 36;
const IFLA_PHYS_PORT_NAME: u16 = 38;
/// Who it is: "ferrule".
const SWITCH_ID: &[u8] = b"\x66\x65\x72\x72\x75\x6c\x65";

/// All of it.
pub fn main(words: &[String]) -> ExitCode {
    let options = match Options::try_parse_from(std::iter::once("eswitch-model").chain(words.iter().map(String::as_str))) {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let done = if options.command == Some(Command::Show) { show(&options) } else { serve(&options) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "ferrule eswitch-model: {}", errno_text(&error));
            ExitCode::FAILURE
        }
    }
}

fn show(options: &Options) -> io::Result<()> {
    let text = Client::connect(&options.socket)?.talk(SHOW)?;
    io::stdout().write_all(&text)
}

/// A port as whoever programs the model is told of it.
#[derive(Clone, Debug)]
struct Told {
    ifindex: u32,
    name: String,
    port_name: String,
}

fn serve(options: &Options) -> io::Result<()> {
    // Signals are waited for by this thread alone; those that it starts inherit the mask.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    let mut functions = Functions::make(&options.prefix, options.vfs)?;
    let told: Vec<Told> = functions
        .all
        .iter()
        .enumerate()
        .map(|(i, f)| Told { ifindex: f.ifindex, name: f.representor.clone(), port_name: format!("pf0vf{i}") })
        .collect();
    let model = Arc::new(Model::new(options.model(told.iter().map(|t| t.ifindex).collect())));
    // One that an earlier life left; if somebody listens there, binding fails.
    if UnixStream::connect(&options.socket).is_err() {
        let _ = std::fs::remove_file(&options.socket);
    }
    let listener = UnixListener::bind(&options.socket)?;
    let stopping = Arc::new(AtomicBool::new(false));
    let plane = Plane::new(&mut functions.all, Arc::clone(&model))?;
    let stop = Arc::clone(&stopping);
    let forwarding = std::thread::Builder::new().name("eswitch".into()).spawn(move || plane.run(&stop))?;
    let pause = options.rate.checked_sub(1).map(|_| Duration::from_secs(1) / options.rate);
    std::thread::Builder::new().name("listener".into()).spawn(move || {
        for (who, stream) in (1..).zip(listener.incoming().flatten()) {
            let (model, told) = (Arc::clone(&model), told.clone());
            // Without a thread nobody answers, and the other side is told by the end of its stream.
            let _ = std::thread::Builder::new().name("client".into()).spawn(move || {
                model.join(who);
                attend(stream, who, &model, &told, pause);
                model.leave(who);
            });
        }
    })?;
    let _ = signals.wait();
    stopping.store(true, Ordering::Release);
    let _ = forwarding.join();
    let _ = std::fs::remove_file(&options.socket);
    Ok(())
}

/// Answers one who programs, until it goes.
fn attend(mut stream: UnixStream, who: u32, model: &Model, told: &[Told], pause: Option<Duration>) {
    while let Ok(requests) = receive(&mut stream) {
        let answer = if requests == SHOW {
            Ok(format!("{} rules\n{}", model.rules(), model.table()).into_bytes())
        } else if requests == NEWS {
            let news = model.news_of(who);
            Ok([&[u8::from(news.overrun)], &news.bytes[..]].concat())
        } else if kind(&requests) == RTM_GETLINK {
            Ok(links(&requests, told))
        } else {
            if let Some(pause) = pause {
                std::thread::sleep(pause * u32::try_from(creations(&requests)).unwrap_or(u32::MAX));
            }
            model.talk_as(who, &requests)
        };
        let Ok(answer) = answer else { return };
        if send(&mut stream, &answer).is_err() {
            return;
        }
    }
}

fn kind(request: &[u8]) -> u16 {
    request.get(4..6).map_or(0, |k| u16::from_ne_bytes([k[0], k[1]]))
}

fn creations(mut requests: &[u8]) -> usize {
    let mut n = 0;
    while let Some(len) = requests.first_chunk::<4>().map(|l| u32::from_ne_bytes(*l) as usize).filter(|l| *l >= HEADER) {
        n += usize::from(kind(requests) == RTM_NEWTFILTER);
        requests = requests.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    n
}

/// Every representor as `RTM_NEWLINK`, and the end of the dump.
fn links(request: &[u8], told: &[Told]) -> Vec<u8> {
    let mut out = Writer::default();
    let mut message = |kind: u16, body: &[u8], attributes: &dyn Fn(&mut Writer)| {
        let start = out.bytes.len();
        out.bytes.extend_from_slice(&[0; 4]);
        out.bytes.extend_from_slice(&kind.to_ne_bytes());
        // NLM_F_MULTI
        out.bytes.extend_from_slice(&2u16.to_ne_bytes());
        out.bytes.extend_from_slice(request.get(8..HEADER).unwrap_or(&[0; 8]));
        out.bytes.extend_from_slice(body);
        attributes(&mut out);
        let len = u32::try_from(out.bytes.len() - start).unwrap_or(u32::MAX);
        out.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
    };
    for one in told {
        let mut body = [0; 16];
        body[4..8].copy_from_slice(&one.ifindex.to_ne_bytes());
        message(RTM_NEWLINK, &body, &|out| {
            out.put_text(IFLA_IFNAME, &one.name);
            out.put_text(IFLA_PHYS_PORT_NAME, &one.port_name);
            out.put(IFLA_PHYS_SWITCH_ID, SWITCH_ID);
        });
    }
    // NLMSG_DONE
    message(3, &[0; 4], &|_| {});
    out.bytes
}

/// What forwards: queue 2n is of VF n, queue 2n + 1 of its representor.
struct Plane {
    rx: Vec<RxQueue>,
    tx: Vec<TxQueue>,
    ifindexes: Vec<u32>,
    model: Arc<Model>,
}

impl Plane {
    fn new(functions: &mut [Function], model: Arc<Model>) -> io::Result<Self> {
        let mut this = Self { rx: Vec::new(), tx: Vec::new(), ifindexes: Vec::new(), model };
        for function in functions {
            this.ifindexes.push(function.ifindex);
            for device in [&mut function.vf_end, &mut function.representor_end] {
                this.rx.push(device.take_rx().pop().ok_or(io::ErrorKind::NotFound)?);
                this.tx.push(device.tx().map_err(io::Error::other)?);
            }
        }
        Ok(this)
    }

    fn run(mut self, stopping: &AtomicBool) {
        let mut batch = Batch::new();
        while !stopping.load(Ordering::Acquire) {
            let mut idle = true;
            for n in 0..self.rx.len() {
                if self.rx[n].recv(&mut batch) > 0 {
                    idle = false;
                    self.forward(n, &mut batch);
                }
            }
            if idle && self.rx.iter_mut().all(|rx| rx.prepare_sleep()) {
                // An error here is one of a descriptor that is gone; the next look says which.
                let _ = port::wait(&self.rx, WAIT_MS);
            }
        }
    }

    fn forward(&mut self, n: usize, batch: &mut Batch) {
        let mut out: Vec<Batch> = self.tx.iter().map(|_| Batch::new()).collect();
        let mut put = |to: usize, packet: Packet| {
            // A full batch cannot be: each gets at most what came in, but for copies, which are dropped.
            let _ = out[to].push(packet);
        };
        for packet in batch.drain() {
            if n % 2 == 1 {
                put(n - 1, packet);
                continue;
            }
            match self.model.receive(DpPort(self.ifindexes[n / 2]), packet.data()) {
                Outcome::Missed => put(n + 1, packet),
                Outcome::MissedInChain(_) => {}
                Outcome::Done(sent) => {
                    for sent in sent {
                        let to = self.ifindexes.iter().position(|i| *i == sent.port.0);
                        if let (Some(to), Some(packet)) = (to, Packet::from_bytes(&sent.bytes)) {
                            put(2 * to, packet);
                        }
                    }
                }
            }
        }
        for (tx, batch) in self.tx.iter_mut().zip(&mut out).filter(|(_, batch)| !batch.is_empty()) {
            tx.send(batch);
            tx.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offload::model::SameNumbers;
    use offload::tc::client::News;
    use offload::tc::news::{Event, events};
    use offload::tc::{FilterId, Hook, write};
    use offload::{Rule, rule};
    use port::netlink::{decode, raw};

    /// One removes what another has put there, and that one is told; whoever has gone is not.
    #[test]
    fn who_programs_it_is_told_what_others_did() {
        let model = Model::default();
        let hook = Hook::Ingress { ifindex: 5 };
        let id = FilterId { hook, chain: 0, prio: 1, handle: 1, protocol: 0x0800 };
        let (mut make, mut take) = (Writer::default(), Writer::default());
        let rule = Rule {
            port: DpPort(5),
            chain: 0,
            link: rule::Link { tags: [None, None], eth_type: 0x0800 },
            items: Vec::new(),
            fragment: None,
            ct_state: None,
            tunnel: None,
            acts: vec![rule::Act::Drop],
            nought: Box::new(flow::Key::ZERO),
        };
        write::create(&mut make, 1, id, &rule, b"one", &SameNumbers).expect("a device");
        write::delete(&mut take, 1, id);
        let pairs = [1, 2].map(|who| (who, UnixStream::pair().expect("a pair")));
        std::thread::scope(|scope| {
            let [mut one, mut two] = pairs.map(|(who, (ours, theirs))| {
                model.join(who);
                let model = &model;
                scope.spawn(move || attend(theirs, who, model, &[], None));
                Client { stream: ours }
            });
            one.talk(&make.bytes).expect("answered");
            let news = two.news().expect("answered");
            assert!(matches!(events(&news.bytes)[..], [Event::Put(told)] if told == id), "{news:?}");
            two.talk(&take.bytes).expect("answered");
            let news = one.news().expect("answered");
            assert!(matches!(events(&news.bytes)[..], [Event::Gone(told, Some((b"one", _)))] if told == id), "{news:?}");
            assert_eq!((one.news().expect("answered"), two.news().expect("answered")), (News::default(), News::default()));
        });
    }

    #[test]
    fn the_daemon_reads_what_ports_there_are() {
        let told = |ifindex, name: &str| Told { ifindex, name: name.into(), port_name: "pf0vf0".into() };
        let events = decode(&links(&raw::all_links(), &[told(5, "rep0"), told(6, "rep1")]));
        let seen: Vec<_> = events
            .into_iter()
            .map(|e| if let port::netlink::Event::Link(l) = e { (l.ifindex, l.phys_switch_id) } else { (0, None) })
            .collect();
        assert_eq!(seen, [(5, Some(SWITCH_ID.to_vec())), (6, Some(SWITCH_ID.to_vec()))]);
    }
}
