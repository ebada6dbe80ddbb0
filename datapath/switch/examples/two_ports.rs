//! Forwards between two netdevs through the whole switch, for measuring by hand: `two_ports A B [SECONDS] [key=value options...]`.
//!
//! Two megaflows are put, one per direction; every second the counters are printed. An idle run should take no CPU.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program to look at")]

use datapath::{Options, Switch};
use flow::action::Action;
use flow::seam::{FlowPut, PortRequest, PutMode};
use flow::{Datapath, DpPort, Key, Megaflow, Ufid};
use std::sync::Arc;
use std::time::Duration;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let seconds = args.get(2).and_then(|s| s.parse().ok()).unwrap_or(10u64);
    let options: Vec<_> = args.iter().filter_map(|a| a.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let dp = Switch::new("netdev", "ovs-netdev", &Options { config: options.clone(), ..Options::default() }).unwrap();
    for (i, name) in args[..2].iter().enumerate() {
        let number = Some(DpPort(u32::try_from(i).unwrap() + 1));
        let request =
            PortRequest { name: name.clone(), kind: "system".into(), number, options: options.clone(), ..PortRequest::default() };
        println!("{name} is port {:?}", dp.port_add(&request).unwrap());
    }
    for (from, to) in [(1u32, 2u32), (2, 1)] {
        let (mut key, mut mask) = (Box::new(Key::ZERO), Box::new(Key::ZERO));
        (key.in_port, mask.in_port) = (from.to_be_bytes(), [0xff; 4]);
        let flow = Megaflow { ufid: Ufid(from.into()), key, mask, actions: Arc::new(vec![Action::Output(DpPort(to))]) };
        dp.put(&[FlowPut { flow, mode: PutMode::Create, clear_stats: false }]).remove(0).unwrap();
    }
    for _ in 0..seconds {
        std::thread::sleep(Duration::from_secs(1));
        for event in dp.heard().into_iter().chain(dp.events()) {
            println!("{event:?}");
        }
        let packets = [1, 2].map(|u| dp.get(Ufid(u)).unwrap().stats.packets);
        println!("{packets:?} {:?}", dp.stats());
    }
    for port in [1, 2] {
        println!("{:?}", dp.port_stats(DpPort(port)));
    }
    for counter in datapath::COUNTERS.iter().filter(|c| c.count() > 0) {
        println!("{} {}", counter.name, counter.count());
    }
}
