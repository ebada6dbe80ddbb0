//! What the tests of the switch share: a dummy datapath with capturing ports, megaflows from text, packets.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "a failure is the test's")]

use datapath::{Options, Switch};
use flow::action::{Action, SetAttr, SetField};
use flow::checksum::{checksum, pseudo4};
use flow::compose::{Payload, compose};
use flow::dptext;
use flow::forms::NoNames;
use flow::seam::{FlowPut, PortRequest, PutMode};
use flow::{Actions, Datapath, DpPort, Key, Megaflow, Ufid};
use port::dummy::Control;
use std::sync::Arc;

/// A dummy datapath with ports p1 to pN.
pub(crate) struct Bench {
    pub(crate) dp: Switch,
    pub(crate) ports: Vec<Control>,
}

pub(crate) fn request(name: &str) -> PortRequest {
    PortRequest { name: name.to_owned(), kind: "dummy".to_owned(), ..PortRequest::default() }
}

impl Bench {
    pub(crate) fn new(n: u32, config: &[(&str, &str)]) -> Self {
        let config = config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let dp = Switch::new("dummy", "ovs-dummy", &Options { config, ..Options::default() }).unwrap();
        let mut ports = Vec::new();
        for i in 1..=n {
            let port = dp.port_add(&request(&format!("p{i}"))).unwrap();
            assert_eq!(port, DpPort(i));
            let control = dp.with_device(port, port::Device::dummy).unwrap().unwrap();
            control.capture();
            ports.push(control);
        }
        Self { dp, ports }
    }

    pub(crate) fn put(&self, ufid: u128, flow: &str, actions: Actions) {
        let put = FlowPut { flow: megaflow(ufid, flow, actions), mode: PutMode::Create, clear_stats: false };
        for r in self.dp.put(&[put]) {
            r.unwrap();
        }
    }

    /// Receives a frame on port `n` and says what came out where.
    pub(crate) fn send(&self, n: u32, frame: &[u8]) -> Vec<(u32, Vec<u8>)> {
        self.dp.inject(DpPort(n), 0, frame).unwrap();
        self.sent()
    }

    pub(crate) fn sent(&self) -> Vec<(u32, Vec<u8>)> {
        let mut out = Vec::new();
        for (i, port) in self.ports.iter().enumerate() {
            for frame in port.captured() {
                out.push((u32::try_from(i).unwrap() + 1, frame));
            }
        }
        out
    }
}

pub(crate) fn parse(flow: &str) -> (Box<Key>, Box<Key>) {
    let mut parsed = dptext::parse_flow(flow, &NoNames).unwrap();
    if !flow.contains("eth_type") {
        // Text without an Ethernet type means "a frame without one"; here it means "whatever type".
        parsed.mask.eth_type = [0; 2];
    }
    (parsed.key, parsed.mask)
}

pub(crate) fn megaflow(ufid: u128, flow: &str, actions: Actions) -> Megaflow {
    let (key, mask) = parse(flow);
    Megaflow { ufid: Ufid(ufid), key, mask, actions: Arc::new(actions) }
}

/// A frame for a flow in text.
pub(crate) fn frame(flow: &str, len: usize) -> Vec<u8> {
    let (key, _) = parse(flow);
    compose(&key, Payload::FrameLen(len))
}

pub(crate) fn output(port: u32) -> Action {
    Action::Output(DpPort(port))
}

/// Sets fields of one attribute by a function that fills value and mask.
pub(crate) fn set(attr: SetAttr, fill: impl Fn(&mut Key, &mut Key)) -> Action {
    let (mut value, mut mask) = (Key::ZERO, Key::ZERO);
    fill(&mut value, &mut mask);
    Action::Set(Box::new(SetField { attr, value, mask }))
}

/// A frame's IP packet in two fragments, the second first.
pub(crate) fn fragments(frame: &[u8], at: usize) -> [Vec<u8>; 2] {
    let piece = |from: usize, to: usize, more: bool| {
        let mut piece = [&frame[..34], &frame[34 + from..34 + to]].concat();
        let word = (from / 8) as u16 | if more { 0x2000 } else { 0 };
        piece[16..18].copy_from_slice(&((to - from + 20) as u16).to_be_bytes());
        piece[20..22].copy_from_slice(&word.to_be_bytes());
        piece[24..26].fill(0);
        let sum = checksum(&piece[14..34]);
        piece[24..26].copy_from_slice(&sum);
        piece
    };
    [piece(at, frame.len() - 34, false), piece(0, at, true)]
}

/// The same frame with another IPv4 identification.
pub(crate) fn numbered(frame: &[u8], id: u16) -> Vec<u8> {
    let mut other = frame.to_vec();
    other[18..20].copy_from_slice(&id.to_be_bytes());
    other[24..26].fill(0);
    let sum = checksum(&other[14..34]);
    other[24..26].copy_from_slice(&sum);
    other
}

/// A TCP segment over IPv4.
#[allow(clippy::too_many_arguments, reason = "the fields of a segment, in their order")]
pub(crate) fn segment(src: &str, dst: &str, ports: (u16, u16), seq: u32, ack: u32, flags: u8, text: &str) -> Vec<u8> {
    let flow = format!(
        "eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x0800),\
         ipv4(src={src},dst={dst},proto=6,tos=0,ttl=64,frag=no),tcp(src={},dst={})",
        ports.0, ports.1
    );
    let mut bytes = compose(&parse(&flow).0, Payload::Bytes(text.as_bytes()));
    bytes[38..42].copy_from_slice(&seq.to_be_bytes());
    bytes[42..46].copy_from_slice(&ack.to_be_bytes());
    (bytes[47], bytes[48], bytes[49]) = (flags, 0x40, 0);
    bytes[50..52].fill(0);
    let l4 = &bytes[34..];
    let key = parse(&flow).0;
    let sum = pseudo4(key.nw_src, key.nw_dst, 6, l4.len()).plus(l4).finish();
    bytes[50..52].copy_from_slice(&sum);
    bytes
}

/// Numbers that look random and are the same each time (xorshift).
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(datapath::hash::fold(seed ^ 0x5555, 0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.word() >> 20) as usize % n
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}
