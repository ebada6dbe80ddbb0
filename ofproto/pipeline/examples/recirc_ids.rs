//! Ten million recirculation ids given out and taken back, with 64 in use at a time: nothing stays behind.
//!
//! `cargo run --release -p ofproto --example recirc_ids [ALLOCATIONS]`
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods, reason = "a measuring program")]

use flow::Key;
use ofproto::recirc::Recircs;
use ofproto::world::BridgeId;
use ofproto::xlate::frozen::FrozenState;
use openflow::TableId;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

const IN_USE: usize = 64;

fn main() {
    let allocations = std::env::args().nth(1).map_or(10_000_000, |n| n.parse::<u64>().unwrap());
    let state = |n: u64| FrozenState {
        bridge: BridgeId(1),
        table: TableId(u8::try_from(n % 200).unwrap()),
        metadata: Key { metadata: n.to_be_bytes(), ..Key::ZERO },
        written: Key::ZERO,
        conntracked: n.is_multiple_of(2),
        stack: vec![],
        mirrors: 0,
        steps: vec![],
        action_set: vec![],
        userdata: vec![],
    };
    let (ids, start) = (Recircs::default(), Instant::now());
    let mut held = VecDeque::new();
    for n in 0..allocations {
        held.push_back(ids.allocate(Arc::new(state(n))).unwrap());
        if held.len() > IN_USE {
            held.pop_front();
        }
        assert!(ids.len() <= IN_USE + 1, "{n}: {} in use", ids.len());
    }
    let last = held.back().map_or(0, |last| last.id);
    held.clear();
    assert!(ids.is_empty(), "{} were left behind", ids.len());
    println!("{allocations} ids, the last of them {last}, in {:.1} s: none is left behind", start.elapsed().as_secs_f64());
}
