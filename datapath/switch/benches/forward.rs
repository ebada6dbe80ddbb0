//! How many packets one worker forwards, by number of flows and of masks: memory port to memory port.
//!
//! `cargo bench -p datapath --bench forward [SECONDS]`. Frames of 60 bytes, UDP, flows in turn. Medians of five. Rows: `direct` has one
//! megaflow (the classifier is asked at once), `masks` has 20 masks with 64 megaflows each (the signature cache decides).
//! The machine must be otherwise idle; the worker is pinned to CPU 1.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss, clippy::print_stdout, reason = "a measuring program")]
#![allow(clippy::disallowed_methods, reason = "it measures the wall clock")]

use datapath::{Options, Switch};
use flow::action::Action;
use flow::compose::{Payload, compose};
use flow::seam::{FlowPut, PortRequest, PutMode};
use flow::{Datapath, DpPort, Key, Megaflow, Ufid};
use std::sync::Arc;
use std::time::{Duration, Instant};

const MASKS: u32 = 20;

fn key_of(flow: u32) -> Box<Key> {
    let mut key = Box::new(Key::ZERO);
    key.eth_src = [2, 0, 0, 0, 1, 1];
    key.eth_dst = [2, 0, 0, 0, 0, 1];
    key.eth_type = [8, 0];
    key.nw_src = (0x0a00_0000 + flow / 60_000).to_be_bytes();
    key.nw_dst = (0x0b00_0000 | ((flow % MASKS) << 16) | (flow % 64)).to_be_bytes();
    key.nw_proto = 17;
    key.nw_ttl = 64;
    let port = u16::try_from(1024 + flow % 60_000).unwrap();
    key.tp_src = port.to_be_bytes();
    key.tp_dst = 1000u16.to_be_bytes();
    key
}

fn pcap(path: &std::path::Path, flows: u32) {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for flow in 0..flows.max(64) {
        let frame = compose(&key_of(flow % flows), Payload::FrameLen(60));
        for word in [0, 0, 60u32, 60] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(&frame[..60]);
    }
    std::fs::write(path, bytes).unwrap();
}

fn put(dp: &Switch, ufid: u128, key: &Key, mask: &Key) {
    let mut key = Box::new(*key);
    key.in_port = 1u32.to_be_bytes();
    let flow = Megaflow { ufid: Ufid(ufid), key, mask: Box::new(*mask), actions: Arc::new(vec![Action::Output(DpPort(2))]) };
    let result = dp.put(&[FlowPut { flow, mode: PutMode::Create, clear_stats: false }]).remove(0);
    assert!(result.is_ok(), "{result:?}");
}

fn base_mask() -> Key {
    let mut mask = Key::ZERO;
    mask.in_port = [0xff; 4];
    mask.recirc_id = [0xff; 4];
    mask.packet_type = [0xff; 4];
    mask.eth_type = [0xff; 2];
    mask.nw_frag = 3;
    mask
}

fn one_megaflow(dp: &Switch) {
    let mut mask = base_mask();
    mask.nw_proto = 0xff;
    mask.tp_dst = [0xff; 2];
    put(dp, 1, &key_of(0), &mask);
}

fn many_masks(dp: &Switch) {
    for class in 0..MASKS {
        let mut mask = base_mask();
        mask.nw_dst = [0xff; 4];
        // A different set of exact fields for each class, all of which every packet has alike.
        let bits = class + 1;
        mask.nw_tos = if bits & 1 != 0 { 0xff } else { 0 };
        mask.nw_ttl = if bits & 2 != 0 { 0xff } else { 0 };
        mask.nw_proto = if bits & 4 != 0 { 0xff } else { 0 };
        mask.tp_dst = if bits & 8 != 0 { [0xff; 2] } else { [0; 2] };
        mask.vlan_tci = if bits & 16 != 0 { [0xff; 2] } else { [0; 2] };
        for low in 0..64 {
            let mut key = key_of(0);
            key.nw_dst = (0x0b00_0000 | class << 16 | low).to_be_bytes();
            put(dp, u128::from(class * 64 + low + 1), &key, &mask);
        }
    }
}

fn measure(flows: u32, fill: fn(&Switch), seconds: f64) -> (f64, f64) {
    let dir = std::env::temp_dir().join(format!("ferrule-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("flows.pcap");
    pcap(&path, flows);
    let config = vec![("pmd-cpu-mask".to_owned(), "0x2".to_owned())];
    let dp = Switch::new("netdev", "ovs-netdev", &Options { config, ..Options::default() }).unwrap();
    fill(&dp);
    let sink = PortRequest { name: "sink".into(), kind: "memory".into(), number: Some(DpPort(2)), ..PortRequest::default() };
    dp.port_add(&sink).unwrap();
    let options = vec![("pcap".to_owned(), path.to_str().unwrap().to_owned())];
    let source =
        PortRequest { name: "source".into(), kind: "memory".into(), number: Some(DpPort(1)), options, ..PortRequest::default() };
    dp.port_add(&source).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let mut rates: Vec<f64> = (0..5)
        .map(|_| {
            let (before, start) = (dp.work().1, Instant::now());
            std::thread::sleep(Duration::from_secs_f64(seconds));
            (dp.work().1 - before) as f64 / start.elapsed().as_secs_f64() / 1e6
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    let stats = dp.stats();
    assert_eq!(stats.missed, 0);
    drop(dp);
    std::fs::remove_dir_all(&dir).unwrap();
    (rates[2], stats.cache_hits as f64 / stats.hit as f64)
}

fn main() {
    let seconds = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(0.5);
    println!("{:8} {:>9} {:>8} {:>8}", "row", "flows", "Mpps", "cached");
    for (row, fill) in [("direct", one_megaflow as fn(&Switch)), ("masks", many_masks)] {
        for flows in [1, 4_000, 60_000, 1_000_000] {
            let (mpps, cached) = measure(flows, fill, seconds);
            println!("{row:8} {flows:9} {mpps:8.1} {cached:8.2}");
        }
    }
}
