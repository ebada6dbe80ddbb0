//! Fragments in any order make the datagram, and go on as they came.

use super::*;
use flow::Key;
use flow::compose::{Payload, compose};
use flow::extract::PacketMeta;
use flow::key::FRAG_ANY;

/// Cuts an IPv4 UDP frame of `len` bytes of payload into fragments of `step` bytes.
fn cut(len: usize, step: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut key = Key::ZERO;
    (key.eth_type, key.nw_proto, key.nw_ttl) = ([8, 0], 17, 64);
    (key.nw_src, key.nw_dst) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    (key.tp_src, key.tp_dst) = ([0, 7], [0, 9]);
    let whole = compose(&key, Payload::Len(len));
    let data = &whole[34..];
    let mut pieces = Vec::new();
    for (i, part) in data.chunks(step).enumerate() {
        let mut frame = whole[..34].to_vec();
        let more = (i + 1) * step < data.len();
        frame[16..18].copy_from_slice(&u16::try_from(20 + part.len()).unwrap().to_be_bytes());
        let word = u16::try_from(i * step / 8).unwrap() | if more { 0x2000 } else { 0 };
        frame[20..22].copy_from_slice(&word.to_be_bytes());
        frame[24..26].fill(0);
        let sum = checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum);
        frame.extend(part);
        pieces.push(frame);
    }
    (whole, pieces)
}

fn give(fragments: &Fragments, frame: &[u8], now_ms: Msec) -> Taken {
    let packet = Packet::from_bytes(frame).unwrap();
    let mut parsed = Parsed::new();
    parsed.read(packet.data(), &PacketMeta::default());
    fragments.take(packet, &parsed, 0, now_ms)
}

#[test]
fn any_order() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let fragments = Fragments::default();
        let (whole, pieces) = cut(3000, 1208);
        assert_eq!(pieces.len(), 3);
        let mut done = None;
        for (i, n) in order.into_iter().enumerate() {
            match give(&fragments, &pieces[n], 0) {
                Taken::Whole(w) => done = Some(w),
                Taken::Held => assert_eq!(fragments.held() as usize, i + 1),
                Taken::Refused(_) => panic!("refused"),
            }
        }
        let done = done.expect("complete");
        assert_eq!(fragments.held(), 0);
        // The whole differs from what was cut in nothing but the identification of "don't fragment".
        assert_eq!(done.packet.data()[34..], whole[34..]);
        assert_eq!(port::offload::verify(done.packet.data()), (port::offload::Verdict::Good, port::offload::Verdict::Good));
        let again: Vec<Vec<u8>> = done.into_fragments().iter().map(|p| p.data().to_vec()).collect();
        assert_eq!(again, pieces);
        let v4 = fragments.status().v4;
        assert_eq!((v4.accepted, v4.completed), (3, 3));
    }
}

#[test]
fn bounds() {
    let fragments = Fragments::default();
    let (_, pieces) = cut(3000, 1208);
    // The same once more overlaps.
    assert!(matches!(give(&fragments, &pieces[0], 0), Taken::Held));
    assert!(matches!(give(&fragments, &pieces[0], 0), Taken::Refused(_)));
    assert_eq!(fragments.status().v4.overlapped, 1);
    assert_eq!(fragments.status().lists.len(), 1);
    fragments.expire(LIFE_MS - 1);
    assert_eq!(fragments.held(), 1);
    fragments.expire(LIFE_MS);
    assert_eq!((fragments.held(), fragments.status().v4.expired), (0, 1));
    let (_, small) = cut(3000, 400);
    assert!(matches!(give(&fragments, &small[0], 0), Taken::Refused(_)));
    assert_eq!(fragments.status().v4.too_small, 1);
    assert!(fragments.set_min(false, 400) && !fragments.set_min(true, 399));
    assert!(matches!(give(&fragments, &small[0], 0), Taken::Held));
    assert!(fragments.set_max(1) && !fragments.set_max(HELD_MAX + 1));
    assert!(matches!(give(&fragments, &small[1], 0), Taken::Refused(_)));
    fragments.set_enabled(false, false);
    assert!(fragments.set_max(5));
    assert!(matches!(give(&fragments, &small[1], 0), Taken::Refused(_)));
}

/// A first fragment over IPv6 whose datagram is told by its source.
fn lonely_v6(n: u8) -> Vec<u8> {
    let mut key = Key::ZERO;
    (key.eth_type, key.nw_proto, key.nw_ttl, key.nw_frag) = ([0x86, 0xdd], 17, 64, FRAG_ANY);
    (key.ipv6_src[15], key.ipv6_dst[15]) = (n, 1);
    compose(&key, Payload::Len(1352))
}

/// When the time of fragments that never complete is over that is counted, each family's by itself.
#[test]
fn what_never_completes_expires() {
    let fragments = Fragments::default();
    assert!(fragments.set_max(10));
    let (_, pieces) = cut(3000, 1208);
    let held = |taken: Taken| assert!(matches!(taken, Taken::Held));
    held(give(&fragments, &pieces[0], 5));
    (1..=9).for_each(|n| held(give(&fragments, &lonely_v6(n), 5 + i64::from(n))));
    // The oldest go, each when its own time is over.
    fragments.expire(5 + LIFE_MS + 4);
    let status = fragments.status();
    assert_eq!((status.held, status.lists.len(), status.v4.expired, status.v6.expired), (5, 5, 1, 4));
    held(give(&fragments, &lonely_v6(250), 5 + LIFE_MS + 4));
    fragments.expire(5 + LIFE_MS + 9);
    let status = fragments.status();
    assert_eq!((status.held, status.v4.expired, status.v6.expired), (1, 1, 9));
}

/// While a flood of fragments that never complete stands, a datagram that comes among them becomes whole; no more are held than may be.
#[test]
fn a_flood_keeps_no_datagram_out() {
    let fragments = Fragments::default();
    assert!(fragments.set_max(10));
    let (_, pieces) = cut(3000, 1208);
    let purged = FRAGMENTS_PURGED.count();
    let mut flood = (1..=255).cycle();
    let mut lonely = |count: usize| {
        for n in flood.by_ref().take(count) {
            assert!(matches!(give(&fragments, &lonely_v6(n), 0), Taken::Held), "{n}");
            assert!(fragments.held() <= 10);
        }
    };
    for round in 0..50 {
        lonely(100);
        for (i, piece) in pieces.iter().enumerate() {
            let taken = give(&fragments, piece, 0);
            assert_eq!(matches!(taken, Taken::Whole(_)), i + 1 == pieces.len(), "{round}: {taken:?}");
            lonely(if i + 1 < pieces.len() { 3 } else { 0 });
        }
    }
    let status = fragments.status();
    assert_eq!((status.v4.accepted, status.v4.completed, status.v4.purged), (150, 150, 0));
    assert_eq!(status.v6.accepted, status.v6.purged + u64::from(status.held));
    assert!(FRAGMENTS_PURGED.count() - purged >= status.v6.purged);
    // Those that came last are there.
    assert!(status.lists.iter().all(|line| line.contains("num_fragments=1,state=first frag")), "{:?}", status.lists);
    fragments.expire(LIFE_MS);
    assert_eq!(fragments.held(), 0);
    assert!(fragments.shards.iter().all(Shard::is_empty));
}

/// A datagram that alone has as many fragments as may be held takes no more, until another one comes.
#[test]
fn the_oldest_does_not_give_way_to_itself() {
    let fragments = Fragments::default();
    assert!(fragments.set_max(2));
    let (_, pieces) = cut(6000, 1208);
    let full = FRAGMENTS_FULL.count();
    let refused = |piece: &[u8]| matches!(give(&fragments, piece, 0), Taken::Refused(_));
    assert_eq!(pieces.iter().map(|piece| refused(piece)).collect::<Vec<_>>(), [false, false, true, true, true]);
    assert!(FRAGMENTS_FULL.count() - full >= 3);
    assert!(!refused(&lonely_v6(1)));
    assert_eq!((fragments.held(), fragments.status().v4.purged), (1, 2));
    assert!(fragments.set_max(0));
    assert!(matches!(give(&fragments, &lonely_v6(2), 0), Taken::Refused(_)));
    assert_eq!(fragments.held(), 0);
}

/// Threads that flood at once: no more are held than may be at any moment, and in the end all are accounted for.
#[test]
fn threads_that_flood_at_once_keep_the_limit() {
    const MAX: u32 = 4;
    let fragments = Fragments::default();
    assert!(fragments.set_max(MAX));
    let (_, pieces) = cut(3000, 1208);
    let flood = |thread: u8| {
        for n in 0..3000_u32 {
            let lonely = lonely_v6(thread << 6 | u8::try_from(n % 64).unwrap());
            let frame = if n % 5 == 0 { &pieces[n as usize / 5 % pieces.len()] } else { &lonely };
            give(&fragments, frame, 0);
            assert!(fragments.held() <= MAX);
        }
    };
    std::thread::scope(|s| (0..3).for_each(|thread| drop(s.spawn(move || flood(thread)))));
    let status = fragments.status();
    let sum = |of: fn(&FragFigures) -> u64| of(&status.v4) + of(&status.v6);
    assert_eq!(sum(|f| f.accepted), sum(|f| f.completed) + sum(|f| f.purged) + u64::from(status.held));
    assert!(sum(|f| f.purged) > 0);
    fragments.expire(LIFE_MS);
    assert_eq!(fragments.held(), 0);
    assert!(fragments.shards.iter().all(Shard::is_empty));
}
