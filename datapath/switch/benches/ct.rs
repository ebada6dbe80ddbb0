//! What connection tracking costs one worker: memory port to memory port, request and reply of each connection in turn.
//!
//! `cargo bench -p datapath --bench ct [SECONDS] [ROW...]`. Frames of 60 bytes, UDP. Medians of five. Rows: `plain` forwards without tracking, `ct`
//! tracks (`ct,recirc`, new ones committed), `nat` also translates the source, `new` begins a million connections that are never seen again, and is the
//! rate from the hundred-thousandth to the nine-hundred-thousandth.
//! The machine must be otherwise idle; the worker is pinned to CPU 1.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss, clippy::print_stdout, reason = "a measuring program")]
#![allow(clippy::disallowed_methods, reason = "it measures the wall clock")]

use datapath::{Options, Switch};
use flow::compose::{Payload, compose};
use flow::conntrack::CtFilter;
use flow::seam::{FlowPut, PortRequest, PutMode};
use flow::{Datapath, DpPort, Key, Megaflow, NoNames, Ufid};
use std::sync::Arc;
use std::time::{Duration, Instant};

const IP: &str = "packet_type(ns=0,id=0),eth_type(0x0800),ipv4(frag=no)";

fn request(flow: u32) -> Key {
    let mut key = Key::ZERO;
    (key.eth_src, key.eth_dst, key.eth_type) = ([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1], [8, 0]);
    key.nw_src = (0x0a00_0000 + flow / 60_000).to_be_bytes();
    key.nw_dst = (0x0b00_0001 + flow / 60_000).to_be_bytes();
    (key.nw_proto, key.nw_ttl) = (17, 64);
    key.tp_src = u16::try_from(1024 + flow % 60_000).unwrap().to_be_bytes();
    key.tp_dst = 1000u16.to_be_bytes();
    key
}

fn reply(to: &Key, nat: bool) -> Key {
    let mut key = *to;
    (key.nw_src, key.nw_dst) = (to.nw_dst, if nat { [192, 0, 2, 1] } else { to.nw_src });
    (key.tp_src, key.tp_dst) = (to.tp_dst, to.tp_src);
    key
}

fn pcap(path: &std::path::Path, flows: u32, row: &str) {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    let mut add = |key: &Key| {
        for word in [0, 0, 60u32, 60] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(&compose(key, Payload::FrameLen(60))[..60]);
    };
    for flow in 0..flows.max(32) {
        let there = request(flow % flows);
        add(&there);
        if row != "new" {
            add(&reply(&there, row == "nat"));
        }
    }
    std::fs::write(path, bytes).unwrap();
}

fn fill(dp: &Switch, row: &str) {
    let flows: &[(&str, &str)] = match row {
        "plain" => &[("recirc_id(0),in_port(1)", "2")],
        "ct" => &[
            ("recirc_id(0),in_port(1)", "ct,recirc(0x1)"),
            ("ct_state(+new-est+trk),recirc_id(0x1),in_port(1)", "ct(commit),2"),
            ("ct_state(-new+est+trk),recirc_id(0x1),in_port(1)", "2"),
        ],
        "nat" => &[
            ("recirc_id(0),in_port(1)", "ct(nat),recirc(0x1)"),
            ("ct_state(+new-est+trk),recirc_id(0x1),in_port(1)", "ct(commit,nat(src=192.0.2.1)),2"),
            ("ct_state(-new+est+trk),recirc_id(0x1),in_port(1)", "2"),
        ],
        _ => &[("recirc_id(0),in_port(1)", "ct(commit),2")],
    };
    for (i, (flow, actions)) in flows.iter().enumerate() {
        let parsed = flow::dptext::parse_flow(&format!("{flow},{IP}"), &NoNames).unwrap();
        let actions = Arc::new(flow::action_text::parse_actions(actions, &NoNames).unwrap());
        let flow = Megaflow { ufid: Ufid(i as u128 + 1), key: parsed.key, mask: parsed.mask, actions };
        dp.put(&[FlowPut { flow, mode: PutMode::Create, clear_stats: false }]).remove(0).unwrap();
    }
}

fn measure(flows: u32, row: &str, seconds: f64) -> (f64, u32) {
    let dir = std::env::temp_dir().join(format!("ferrule-bench-ct-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("flows.pcap");
    pcap(&path, flows, row);
    let config = vec![("pmd-cpu-mask".to_owned(), "0x2".to_owned())];
    let dp = Switch::new("netdev", "ovs-netdev", &Options { config, ..Options::default() }).unwrap();
    fill(&dp, row);
    let sink = PortRequest { name: "sink".into(), kind: "memory".into(), number: Some(DpPort(2)), ..PortRequest::default() };
    dp.port_add(&sink).unwrap();
    let options = vec![("pcap".to_owned(), path.to_str().unwrap().to_owned())];
    let source =
        PortRequest { name: "source".into(), kind: "memory".into(), number: Some(DpPort(1)), options, ..PortRequest::default() };
    dp.port_add(&source).unwrap();
    let ct = dp.conntrack().unwrap();
    let mut rates = vec![if row == "new" { births(ct, flows) } else { 0.0 }];
    if row != "new" {
        std::thread::sleep(Duration::from_millis(700));
        let rate = |_| {
            let (before, start) = (dp.work().0, Instant::now());
            std::thread::sleep(Duration::from_secs_f64(seconds));
            (dp.work().0 - before) as f64 / start.elapsed().as_secs_f64() / 1e6
        };
        rates = (0..5).map(rate).collect();
    }
    rates.sort_by(f64::total_cmp);
    let connections = ct.connections();
    let _ = ct.flush(&CtFilter::default());
    assert_eq!(dp.stats().missed, 0);
    drop(dp);
    std::fs::remove_dir_all(&dir).unwrap();
    (rates[rates.len() / 2], connections)
}

/// Millions of connections begun per second, between a tenth and nine tenths of all.
fn births(ct: &dyn flow::conntrack::Conntrack, all: u32) -> f64 {
    let start = Instant::now();
    let mut first = None;
    while start.elapsed() < Duration::from_secs(20) {
        let n = ct.connections();
        if first.is_none() && n >= all / 10 {
            first = Some((n, Instant::now()));
        }
        if let Some((before, since)) = first
            && n >= all / 10 * 9
        {
            return f64::from(n - before) / since.elapsed().as_secs_f64() / 1e6;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    0.0
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-') && a.parse::<f64>().is_err()).collect();
    let wants = |row: &str| wanted.is_empty() || wanted.iter().any(|w| w == row);
    let seconds = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(0.5);
    println!("{:8} {:>9} {:>8} {:>12}", "row", "flows", "M/s", "connections");
    for row in ["plain", "ct", "nat"].into_iter().filter(|row| wants(row)) {
        for flows in [4, 4_000, 60_000] {
            let (rate, connections) = measure(flows, row, seconds);
            println!("{row:8} {flows:9} {rate:8.2} {connections:12}");
        }
    }
    if wants("new") {
        let (rate, connections) = measure(1_000_000, "new", seconds);
        println!("{:8} {:9} {rate:8.2} {connections:12}", "new", 1_000_000);
    }
}
