//! How long 100 000 flow-mods take to decode.
//!
//! `cargo bench -p openflow --bench flow_mods`. One OpenFlow 1.3 flow-mod of nine fields and one action; the best of five.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring program")]
#![allow(clippy::disallowed_methods, reason = "it measures the wall clock")]

use openflow::wire::Codec;
use std::hint::black_box;
use std::time::{Duration, Instant};

const FLOW_MODS: usize = 100_000;
const LINES: &str = include_str!("../tests/data/messages.txt");

fn main() {
    let hex = LINES.lines().find(|l| l.starts_with("040e") && l.len() > 240).unwrap().split(' ').next().unwrap();
    let bytes: Vec<u8> = (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
    let codec = Codec::default();
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let before = Instant::now();
        for _ in 0..FLOW_MODS {
            black_box(codec.decode(black_box(&bytes))).unwrap();
        }
        best = best.min(before.elapsed());
    }
    println!("{FLOW_MODS} flow-mods of {} bytes: {best:?}", bytes.len());
}
