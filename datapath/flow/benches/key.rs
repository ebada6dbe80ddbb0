//! What a packet costs before any action: extracting its key, and comparing it with a megaflow under a mask.
//!
//! `cargo bench -p flow --bench key`. A batch of 32 different packets of one kind; times are per packet. The twin shows what
//! writing it plainly would cost, and the comparison over the whole key what the lines save.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flow::compose::{Payload, compose};
use flow::extract::{Extracted, PacketMeta, extract};
use flow::extract_slow::extract_slow;
use flow::key::{Key, LINE_BYTES, Lines, Mask};
use std::hint::black_box;

const BATCH: usize = 32;
const LINE_WORDS: usize = LINE_BYTES / 8;

fn base(proto: u8) -> Key {
    Key { eth_dst: [2, 0, 0, 0, 0, 1], eth_src: [2, 0, 0, 0, 0, 2], nw_proto: proto, nw_ttl: 64, tp_dst: [0, 53], ..Key::ZERO }
}

fn kinds() -> Vec<(&'static str, Key)> {
    let udp4 = Key { eth_type: [8, 0], nw_src: [10, 0, 0, 1], nw_dst: [10, 0, 0, 2], ..base(17) };
    let tcp6 = Key { eth_type: [0x86, 0xdd], ipv6_src: [1; 16], ipv6_dst: [2; 16], tcp_flags: [0, 0x10], ..base(6) };
    let arp = Key { eth_type: [8, 6], nw_proto: 1, nw_ttl: 0, tp_dst: [0, 0], nw_src: [10, 0, 0, 1], ..base(1) };
    vec![
        ("udp4", udp4),
        ("vlan udp4", Key { vlan_tci: [0x10, 7], vlan_tpid: [0x81, 0], ..udp4 }),
        ("tcp4", Key { tcp_flags: [0, 0x10], nw_proto: 6, ..udp4 }),
        ("tcp6", tcp6),
        ("arp", arp),
    ]
}

/// Packets that differ in their ports and addresses.
fn batch(key: &Key) -> Vec<Vec<u8>> {
    (0..u8::try_from(BATCH).expect("small"))
        .map(|i| {
            let mut k = *key;
            (k.tp_src, k.nw_src[3], k.ipv6_src[15]) = ([i, i], i, i);
            compose(&k, Payload::Len(18))
        })
        .collect()
}

/// Equality in each bit of `mask`, which is zero outside `lines`.
#[inline]
fn equal_in(a: &Key, b: &Key, mask: &Mask, lines: Lines) -> bool {
    let mut left = lines.0;
    let mut differ = 0;
    while left != 0 {
        let at = left.trailing_zeros() as usize * LINE_WORDS;
        for i in at..at + LINE_WORDS {
            differ |= (a.words()[i] ^ b.words()[i]) & mask.words()[i];
        }
        left &= left - 1;
    }
    differ == 0
}

fn extraction(c: &mut Criterion) {
    let mut group = c.benchmark_group("key");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, kind) in kinds() {
        let packets = batch(&kind);
        let meta = PacketMeta::default();
        let mut keys = vec![Key::ZERO; BATCH];
        let mut found = [Extracted::NOTHING; BATCH];
        group.bench_function(BenchmarkId::new("extract", name), |b| {
            b.iter(|| {
                for ((p, key), out) in packets.iter().zip(&mut keys).zip(&mut found) {
                    *out = extract(black_box(p), &meta, key);
                }
            });
        });
        let mut mask = Key::ZERO;
        (mask.in_port, mask.eth_type, mask.nw_dst, mask.nw_proto, mask.tp_dst) =
            ([0xff; 4], [0xff; 2], [0xff; 4], 0xff, [0xff; 2]);
        if kind.ipv6_dst != [0; 16] {
            mask.ipv6_dst = [0xff; 16];
        }
        let lines = mask.lines();
        let flow = keys[0].masked(&mask);
        group.bench_function(BenchmarkId::new("extract and compare", name), |b| {
            b.iter(|| {
                let mut hits = 0;
                for ((p, key), out) in packets.iter().zip(&mut keys).zip(&mut found) {
                    *out = extract(black_box(p), &meta, key);
                }
                for key in &keys {
                    hits += u32::from(equal_in(key, black_box(&flow), &mask, lines));
                }
                assert_eq!(hits as usize, BATCH);
            });
        });
        group.bench_function(BenchmarkId::new("compare whole keys", name), |b| {
            b.iter(|| keys.iter().filter(|key| key.equal_under(black_box(&flow), &mask)).count());
        });
        group.bench_function(BenchmarkId::new("extract, slow twin", name), |b| {
            b.iter(|| packets.iter().filter(|p| extract_slow(black_box(p), &meta).0.eth_type != [0; 2]).count());
        });
    }
    group.finish();
}

criterion_group!(benches, extraction);
criterion_main!(benches);
