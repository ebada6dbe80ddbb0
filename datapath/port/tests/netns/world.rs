//! Namespaces, veths, a two-port forwarder, and a TCP transfer with its content checked.
//!
//! What enters: names. What leaves: a small network: namespace `a` with e0 -- swa in namespace `sw`, swb -- e0 in namespace `b`.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use port::{Batch, Device, PortConfig, PortStats, Receive, Transmit};
use std::fs::File;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) fn config(name: &str, kind: &str) -> PortConfig {
    PortConfig::new(name, kind).unwrap()
}

/// Tries until it is true or the time is up.
pub(crate) fn soon(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let tries = limit.as_micros() / 200;
    (0..tries).any(|_| {
        let done = done();
        if !done {
            std::thread::sleep(Duration::from_micros(200));
        }
        done
    })
}

fn run(command: &str) -> Output {
    let out = Command::new("sh").arg("-c").arg(command).output().unwrap();
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
    out
}

pub(crate) struct World {
    prefix: String,
}

impl World {
    /// The network of the module's description.
    pub(crate) fn veths() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let world = Self { prefix: format!("fport{}x{number}", std::process::id()) };
        for name in ["a", "b", "sw"] {
            run(&format!("ip netns add {}", world.name(name)));
            world.ip(name, "link set lo up");
        }
        world.veth("a", "swa");
        world.veth("b", "swb");
        world.ip("a", "addr add 10.9.0.1/24 dev e0");
        world.ip("b", "addr add 10.9.0.2/24 dev e0");
        world
    }

    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(crate) fn veth(&self, name: &str, outer: &str) {
        self.ip("sw", &format!("link add {outer} type veth peer name e0 netns {}", self.name(name)));
        self.ip("sw", &format!("link set {outer} up"));
        self.ip(name, "link set e0 up");
    }

    /// A pair with receive and transmit queues: `outer` in namespace `sw`, `inner` in `name`.
    pub(crate) fn veth_with_queues(&self, name: &str, [(outer, rx, tx), (inner, inner_rx, inner_tx)]: [(&str, u8, u8); 2]) {
        let peer = format!("peer name {inner} numrxqueues {inner_rx} numtxqueues {inner_tx} netns {}", self.name(name));
        self.ip("sw", &format!("link add {outer} numrxqueues {rx} numtxqueues {tx} type veth {peer}"));
        self.ip("sw", &format!("link set {outer} up"));
        self.ip(name, &format!("link set {inner} up"));
    }

    /// What `ip` says in a namespace.
    pub(crate) fn ip(&self, name: &str, arguments: &str) -> String {
        String::from_utf8(run(&format!("ip -n {} {arguments}", self.name(name))).stdout).unwrap()
    }

    /// Runs `f` on a thread in a namespace.
    pub(crate) fn within<R: Send>(&self, name: &str, f: impl FnOnce() -> R + Send) -> R {
        let path = format!("/run/netns/{}", self.name(name));
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
                f()
            });
            thread.join().unwrap()
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in ["a", "b", "sw"] {
            let _ = Command::new("ip").args(["netns", "del", &self.name(name)]).status();
        }
    }
}

/// Two ports, each of whose packets leave the other.
pub(crate) struct Forwarder {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<[PortStats; 2]>>,
}

impl Forwarder {
    pub(crate) fn start(world: &World, a: PortConfig, b: PortConfig) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&ended);
        let open = |config: PortConfig| world.within("sw", move || Device::open(&config).unwrap());
        let (a, b) = (open(a), open(b));
        let path = format!("/run/netns/{}", world.name("sw"));
        let thread = std::thread::spawn(move || {
            setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            forward(a, b, &theirs)
        });
        Self { ended, thread: Some(thread) }
    }

    pub(crate) fn stop(mut self) -> [PortStats; 2] {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn forward(mut a: Device, mut b: Device, ended: &AtomicBool) -> [PortStats; 2] {
    let mut ways = [(a.take_rx(), b.tx().unwrap()), (b.take_rx(), a.tx().unwrap())];
    let mut batch = Batch::new();
    while !ended.load(Ordering::Relaxed) {
        let mut n = 0;
        for (queues, tx) in &mut ways {
            for rx in queues {
                n += rx.recv(&mut batch);
                tx.send(&mut batch);
            }
            tx.flush();
        }
        let mut queues = ways.iter_mut().flat_map(|(queues, _)| queues);
        if n > 0 || !queues.all(Receive::prepare_sleep) {
            continue;
        }
        let fds = ways.iter().flat_map(|(queues, _)| queues).filter_map(Receive::poll_fd);
        // SAFETY: the queues, which own the descriptors, outlive the wait.
        let borrow = |fd| PollFd::new(unsafe { BorrowedFd::borrow_raw(fd) }, PollFlags::POLLIN);
        let _ = poll(&mut fds.map(borrow).collect::<Vec<_>>(), PollTimeout::from(20u8));
    }
    [a.stats().unwrap(), b.stats().unwrap()]
}

/// Sends `bytes` of generated content by TCP and compares its digest on the other side.
pub(crate) fn transfer(world: &World, from: &str, to: &str, bytes: usize) {
    const SERVER: &str = "import socket,hashlib,sys
s=socket.create_server(('',5201)); s.settimeout(20); print('up',flush=True)
c,_=s.accept(); c.settimeout(20); h=hashlib.blake2b(); n=0
while d:=c.recv(1<<20): h.update(d); n+=len(d)
print(n,h.hexdigest())";
    const CLIENT: &str = "import socket,hashlib,sys,random
n=int(sys.argv[2]); d=random.Random(n).randbytes(1<<20); h=hashlib.blake2b(); left=n
c=socket.create_connection((sys.argv[1],5201),timeout=20)
while left>0:
    p=d[:left]; c.sendall(p); h.update(p); left-=len(p); d=d[1:]+d[:1]
c.shutdown(socket.SHUT_WR); print(n,h.hexdigest())";
    let python = |name: &str, script: &str, arguments: &[String]| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &world.name(name), "timeout", "40", "python3", "-c", script]).args(arguments);
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let mut server = python(to, SERVER, &[]);
    let mut up = [0; 3];
    std::io::Read::read_exact(server.stdout.as_mut().unwrap(), &mut up).unwrap();
    // The address of the receiving side: each side has the one that its name stands for.
    let address = if to == "b" { "10.9.0.2" } else { "10.9.0.1" };
    let client = python(from, CLIENT, &[address.to_owned(), bytes.to_string()]);
    let (sent, received) = (client.wait_with_output().unwrap(), server.wait_with_output().unwrap());
    let text = |out: &Output| String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text(&sent).starts_with(&bytes.to_string()), "nothing was sent");
    assert_eq!(text(&sent), text(&received));
}

/// Makes the kernel put a VLAN tag (5) beside every frame that leaves a device, as a VLAN device on it would, until the result is
/// dropped: a tcx program of five instructions that calls bpf_skb_vlan_push.
pub(crate) fn tag_egress(device: &str) -> OwnedFd {
    const CODE: [u64; 5] = [
        // r2 = htons(0x8100); r3 = 5; call 18; r0 = 0; exit
        0x0000_0081_0000_02b7,
        0x0000_0005_0000_03b7,
        0x0000_0012_0000_0085,
        0x0000_0000_0000_00b7,
        0x0000_0000_0000_0095,
    ];
    let license = c"Apache-2.0";
    let bpf = |command: i32, words: &[u64]| {
        let mut attr = [0u64; 16];
        attr[..words.len()].copy_from_slice(words);
        // SAFETY: `attr` is a bpf_attr of 128 bytes whose pointers are to constants.
        let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_ptr(), 128) };
        assert!(fd >= 0, "bpf: {}", std::io::Error::last_os_error());
        // SAFETY: the kernel has just opened this descriptor for us.
        unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }
    };
    let program = bpf(5, &[3 | 5 << 32, CODE.as_ptr().addr() as u64, license.as_ptr().addr() as u64]);
    let link = port::netlink::request::link_by_name(device).unwrap().unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&program).cast_unsigned();
    bpf(28, &[u64::from(fd) | u64::from(link.ifindex) << 32, 47])
}
