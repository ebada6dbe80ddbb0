//! The simplest switch: whatever enters one port leaves the other. `forward PORT PORT [SECONDS]`, where a port is
//! `NAME[,TYPE[,OPTION=VALUE]...]`; prints figures at the end. For measuring this crate alone.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use port::{Batch, Device, PortConfig, Receive, RxQueue, Transmit, TxQueue};
use std::error::Error;
use std::os::fd::BorrowedFd;

fn open(text: &str) -> Result<Device, Box<dyn Error>> {
    let mut parts = text.split(',');
    let name = parts.next().unwrap_or_default();
    let mut config = PortConfig::new(name, parts.next().unwrap_or("system"))?;
    for part in parts {
        let (key, value) = part.split_once('=').ok_or("expected option=value")?;
        config = config.with(key, value);
    }
    Ok(Device::open(&config)?)
}

/// Rounds of nothing before sleeping.
const IDLE_MAX: u32 = 200;

#[allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a measuring program prints and reads the clock")]
fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let (mut a, mut b) = (open(args.get(1).ok_or("two ports, please")?)?, open(args.get(2).ok_or("two ports, please")?)?);
    let seconds: f64 = args.get(3).map_or(Ok(1e9), |s| s.parse())?;
    println!("{} {} <-> {} {}", a.name(), a.io(), b.name(), b.io());
    let mut ways: Vec<(Vec<RxQueue>, TxQueue)> = vec![(a.take_rx(), b.tx()?), (b.take_rx(), a.tx()?)];
    let mut batch = Batch::new();
    let start = std::time::Instant::now();
    let mut idle = 0;
    while start.elapsed().as_secs_f64() < seconds {
        let mut n = 0;
        for (queues, tx) in &mut ways {
            for rx in queues {
                n += rx.recv(&mut batch);
                tx.send(&mut batch);
            }
            tx.flush();
        }
        idle = if n == 0 { idle + 1 } else { 0 };
        if idle > IDLE_MAX && ways.iter_mut().all(|(queues, _)| queues.iter_mut().all(Receive::prepare_sleep)) {
            sleep(&ways);
        }
    }
    for device in [&a, &b] {
        println!("{} {:?} {:?}", device.name(), device.link(), device.stats());
        println!("  {:?}", device.queue_stats());
    }
    Ok(())
}

fn sleep(ways: &[(Vec<RxQueue>, TxQueue)]) {
    let fds = ways.iter().flat_map(|(queues, _)| queues).filter_map(Receive::poll_fd);
    // SAFETY: the queues, which own the descriptors, outlive this call.
    let mut fds: Vec<_> = fds.map(|fd| PollFd::new(unsafe { BorrowedFd::borrow_raw(fd) }, PollFlags::POLLIN)).collect();
    let _ = poll(&mut fds, PollTimeout::from(100u8));
}
