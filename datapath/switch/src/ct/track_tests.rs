//! The short cut of common packets beside `track_one`, its plain twin: the same packets through two trackers.

use super::*;
use crate::ct::packet;
use crate::ct::seek::Wanted;
use crate::ct::version::{Four, Six};
use crate::hash::Rng;
use flow::checksum::updated;
use flow::compose::{Payload, compose};
use flow::extract::PacketMeta;
use port::Checksum;
use proptest::prelude::*;

/// A packet of a small world, mostly of a connection that began before; `outside` is an address that sources are translated to.
/// With `mostly` a protocol nearly all are of it, over IPv6 or IPv4.
fn frame(rng: &mut Rng, mostly: Mostly) -> Vec<u8> {
    let mut key = Key::ZERO;
    let six = match mostly {
        Some((_, six)) => six ^ rng.one_in(40),
        None => rng.one_in(5),
    };
    let proto = if let Some((proto, _)) = mostly.filter(|_| !rng.one_in(20)) {
        proto
    } else {
        [6, 6, 17, 17, 17, 132, 1][usize::from(rng.byte(7))]
    };
    (key.nw_proto, key.nw_ttl) = (if proto == 1 && six { 58 } else { proto }, 64);
    let (mut src, mut dst) = (1 + rng.byte(2), 3 + rng.byte(2));
    let (mut sport, mut dport) = (1000 + u16::from(rng.byte(2)), 2000u16);
    let outside = rng.one_in(3);
    if rng.one_in(2) {
        (src, dst, sport, dport) = (dst, if outside { 9 } else { src }, dport, sport);
    }
    if six {
        key.eth_type = [0x86, 0xdd];
        (key.ipv6_src[15], key.ipv6_dst[15]) = (src, dst);
        (key.ipv6_src[0], key.ipv6_dst[0]) = (0xfc, 0xfc);
    } else {
        key.eth_type = [8, 0];
        (key.nw_src, key.nw_dst) = ([10, 0, 0, src], [10, 0, 0, dst]);
    }
    (key.tp_src, key.tp_dst) = (sport.to_be_bytes(), dport.to_be_bytes());
    if proto == 1 {
        let (request, answer) = if six { (128, 129) } else { (8, 0) };
        (key.tp_src, key.tp_dst) = ([0, if src > 2 { answer } else { request }], [0, 0]);
    }
    if proto == 6 {
        // Mostly what a connection consists of.
        let flags = if rng.one_in(5) { [0x02, 0x12, 0x10, 0x10, 0x18, 0x11, 0x04, 0x00][usize::from(rng.byte(8))] } else { 0x10 };
        key.tcp_flags = [0, flags];
    }
    let mut bytes = compose(&key, Payload::Len(20));
    let l4 = l4(six);
    if proto == 17 && rng.one_in(30) {
        // No checksum, which over IPv6 is a wrong one.
        bytes[l4 + 6..l4 + 8].fill(0);
    }
    if proto == 17 && rng.one_in(30) {
        // A length that is none, or of more than there is, or of less; without a checksum, which would be as wrong over IPv4.
        bytes[l4 + 5] = [7, 29, 27][usize::from(rng.byte(3))];
        bytes[l4 + 6..l4 + 8].fill(0);
    }
    if proto == 6 {
        let composed: [u8; 12] = std::array::from_fn(|i| bytes[l4 + 4 + i]);
        bytes[l4 + 7] = rng.byte(4);
        bytes[l4 + 11] = rng.byte(4);
        bytes[l4 + 14] = 0x20;
        let sum = updated([bytes[l4 + 16], bytes[l4 + 17]], &composed, &bytes[l4 + 4..l4 + 16]);
        bytes[l4 + 16..l4 + 18].copy_from_slice(&sum);
    }
    if six && rng.one_in(8) {
        packet::extend_ipv6(&mut bytes, 14);
    }
    bytes
}

/// What is known of a packet's checksum.
#[derive(Clone, Copy)]
enum Known {
    Nothing,
    Good,
    Partial,
}

fn known(rng: &mut Rng) -> Known {
    [Known::Good, Known::Good, Known::Good, Known::Good, Known::Nothing, Known::Nothing, Known::Partial, Known::Partial]
        [usize::from(rng.byte(8))]
}

fn packet_of(bytes: &[u8], known: Known) -> (Packet, Parsed) {
    let mut packet = Packet::from_bytes(bytes).unwrap();
    let mut parsed = Parsed::new();
    parsed.read(packet.data(), &PacketMeta::default());
    match known {
        Known::Nothing => {}
        Known::Good => packet.set_checksum(Checksum::Good),
        Known::Partial => packet::leave_checksum(&mut packet, &parsed),
    }
    (packet, parsed)
}

/// Where the transport header begins.
const fn l4(six: bool) -> usize {
    if six { 54 } else { 34 }
}

/// A protocol, and whether over IPv6.
type Mostly = Option<(u8, bool)>;

/// What the packets of a world mostly are of.
fn mostly(rng: &mut Rng) -> Mostly {
    [None, Some((6, false)), Some((17, false)), Some((6, true)), Some((17, true))][usize::from(rng.byte(5))]
}

fn spec<'a>(rng: &mut Rng, nats: &'a [Nat; 2], now_ms: Msec) -> Spec<'a> {
    Spec {
        zone: u16::from(rng.one_in(4)),
        commit: !rng.one_in(3),
        force: rng.one_in(80),
        mark: rng.one_in(10).then_some((5, 0xff)),
        label: rng.one_in(20).then_some((7, 0xff)),
        nat: if rng.one_in(2) { None } else { nats.get(usize::from(rng.byte(2))) },
        helper: if rng.one_in(60) { helper::FTP } else { helper::NONE },
        policy: 0,
        joined: false,
        told: rng.one_in(20),
        now_ms,
    }
}

/// One tracker, its free entries, and how many packets went the short way.
struct Side {
    ct: Ct,
    local: Local,
    wanted: Box<Wanted>,
    short: Option<Taken>,
}

/// How many packets went which way.
#[derive(Clone, Copy, Default)]
struct Taken {
    /// Over IPv4, and over IPv6.
    udp: [u32; 2],
    tcp: [u32; 2],
    /// Those of them that were translated, and of TCP those of these whose checksums are not made yet.
    translated: [u32; 2],
    partial: [u32; 2],
    common: u32,
}

impl Side {
    fn track(&mut self, packet: &mut Packet, parsed: &mut Parsed, spec: &Spec<'_>) {
        // Both forms of the loops that look for candidates.
        let wide = self.short.is_some() && crate::wide::on();
        let (one, key) = (std::slice::from_mut(packet), std::slice::from_mut(parsed));
        let short = match &self.short {
            Some(_) => self.ct.seek_short(one, key, spec, &mut self.wanted, wide),
            None => Short::default(),
        };
        self.ct.seek((&*one, &mut *key), short, spec, &mut self.wanted, wide);
        if let Some(taken) = self.short.as_mut().filter(|_| spec.is_plain()) {
            let (passing, wanted) = (self.ct.passing(spec), &*self.wanted);
            let six = usize::from(short.six.all() != 0);
            let mut count = |of: fn(&mut Taken) -> &mut [u32; 2], state: u8| {
                of(taken)[six] += 1;
                taken.translated[six] += u32::from(state & (SNAT | DNAT) != 0);
            };
            if self.ct.pass_udp_as((&mut *one, &mut *key), spec, (&passing, wanted), wide) != 0 {
                return count(|taken| &mut taken.udp, key[0].key.ct_state);
            }
            let context = (spec, &passing);
            let (packet, parsed) = (&mut one[0], &mut key[0]);
            if short.four.tcp != 0 && self.ct.track_tcp::<Four>(packet, parsed, context, (wanted, 0))
                || short.six.tcp != 0 && self.ct.track_tcp::<Six>(packet, parsed, context, (wanted, 0))
            {
                count(|taken| &mut taken.tcp, parsed.key.ct_state);
                let partial = matches!(packet.checksum(), Checksum::Partial { .. });
                taken.partial[six] += u32::from(partial && parsed.key.ct_state & (SNAT | DNAT) != 0);
                return;
            }
            let common = wanted.seen & !(wanted.related | wanted.unknown) != 0;
            if common && self.ct.track_common(&mut one[0], &mut key[0], spec, (&self.wanted, 0)) {
                taken.common += 1;
                return;
            }
        }
        self.ct.track_one(&mut self.local, &mut one[0], &mut key[0], spec, self.wanted.lookup(0));
    }

    /// The same of a batch; in the short way all at once.
    fn track_all(&mut self, packets: &mut [Packet], parsed: &mut [Parsed], spec: &Spec<'_>) {
        if self.short.is_none() {
            return packets.iter_mut().zip(parsed).for_each(|(packet, parsed)| self.track(packet, parsed, spec));
        }
        let wide = crate::wide::on();
        let short = self.ct.seek_short(packets, parsed, spec, &mut self.wanted, wide);
        self.ct.seek((&*packets, &mut *parsed), short, spec, &mut self.wanted, wide);
        self.ct.pass(&mut self.local, (packets, parsed), spec, &self.wanted, wide);
    }

    fn shown(&self, now_ms: Msec) -> Vec<String> {
        (1..self.ct.slab.end()).filter_map(|n| self.ct.slab.at(n).shown(now_ms)).map(|e| format!("{e:?}")).collect()
    }
}

fn sides() -> [Side; 2] {
    let mut sides =
        [None, Some(Taken::default())].map(|short| Side { ct: Ct::new(), local: Local::new(0), wanted: Wanted::new(), short });
    sides[1].ct.keys = sides[0].ct.keys;
    sides
}

/// No translation of its own, and one to an address; over IPv4, and over IPv6.
fn nats() -> [[Nat; 2]; 2] {
    ["10.0.0.9", "fc00::9"].map(|outside| {
        let outside = outside.parse().unwrap();
        [Nat::default(), Nat { src: true, addr: Some((outside, outside)), ..Nat::default() }]
    })
}

fn is_over_ipv6(frame: &[u8]) -> bool {
    frame[12..14] == [0x86, 0xdd]
}

fn run(seed: u64) -> Taken {
    let mut rng = Rng(seed);
    let most = mostly(&mut rng);
    run_of(&mut rng, most)
}

fn run_of(rng: &mut Rng, most: Mostly) -> Taken {
    let (seed, nats, mut sides) = (rng.0, nats(), sides());
    if rng.one_in(2) {
        sides.iter().for_each(|side| side.ct.liberal.store(true, Ordering::Relaxed));
    }
    let mut now_ms = 1_000_000;
    for _ in 0..300 {
        now_ms += i64::try_from(rng.below(if rng.0.is_multiple_of(50) { 100_000 } else { 300 })).unwrap();
        let bytes = frame(rng, most);
        let known = known(rng);
        let nats = &nats[usize::from(is_over_ipv6(&bytes))];
        let specs: Vec<_> = (0..1 + rng.below(2)).map(|_| spec(rng, nats, now_ms)).collect();
        let seen = sides.each_mut().map(|side| {
            let (mut packet, mut parsed) = packet_of(&bytes, known);
            for spec in &specs {
                side.track(&mut packet, &mut parsed, spec);
            }
            (packet.data().to_vec(), parsed.whole(), parsed.found.lines.0, parsed.conn)
        });
        assert_eq!(seen[0], seen[1], "seed {seed}");
        assert_eq!(sides[0].shown(now_ms), sides[1].shown(now_ms), "seed {seed}");
        let counts = sides.each_ref().map(|side| side.ct.count.load(Ordering::Relaxed));
        assert_eq!(counts[0], counts[1]);
    }
    sides[1].short.unwrap()
}

/// Batches through both trackers: how many packets of established connections of TCP there were, over IPv4 and over IPv6.
fn run_batches(seed: u64) -> [u32; 2] {
    let mut rng = Rng(seed);
    let (nats, mut sides, most) = (nats(), sides(), mostly(&mut rng));
    let (mut now_ms, mut established) = (1_000_000, [0; 2]);
    for _ in 0..40 {
        let most_ms = if rng.one_in(8) { 100_000 } else { 300 };
        now_ms += i64::try_from(rng.below(most_ms)).unwrap();
        let frames: Vec<_> = (0..1 + rng.below(32)).map(|_| (frame(&mut rng, most), known(&mut rng))).collect();
        let nats = &nats[usize::from(is_over_ipv6(&frames[0].0))];
        let specs: Vec<_> = (0..1 + rng.below(2)).map(|_| spec(&mut rng, nats, now_ms)).collect();
        let seen = sides.each_mut().map(|side| {
            let (mut packets, mut parsed): (Vec<_>, Vec<_>) =
                frames.iter().map(|(bytes, known)| packet_of(bytes, *known)).unzip();
            specs.iter().for_each(|spec| side.track_all(&mut packets, &mut parsed, spec));
            let of =
                |(packet, parsed): (Packet, Parsed)| (packet.data().to_vec(), parsed.whole(), parsed.found.lines.0, parsed.conn);
            packets.into_iter().zip(parsed).map(of).collect::<Vec<_>>()
        });
        assert_eq!(seen[0], seen[1], "seed {seed}");
        assert_eq!(sides[0].shown(now_ms), sides[1].shown(now_ms), "seed {seed}");
        for (data, key, ..) in &seen[1] {
            let est = key.nw_proto == 6 && key.ct_state & EST != 0;
            established[usize::from(is_over_ipv6(data))] += u32::from(est);
        }
    }
    established
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn the_short_way_leads_to_the_same_place(seed: u64) {
        run(seed);
    }

    #[test]
    fn a_batch_is_tracked_as_its_packets_are(seed: u64) {
        run_batches(seed);
    }
}

/// Batches of UDP, most of established connections, packet by packet and in vectors: how many of them had eight that went together.
fn run_in_vectors(seed: u64, six: bool) -> u32 {
    let (mut rng, nats, mut sides, mut whole) = (Rng(seed), nats(), sides(), 0);
    let (nats, proto_at) = (&nats[usize::from(six)], if six { 20 } else { 23 });
    // Without translation, or with one that some connections began with.
    let translate = rng.one_in(2);
    for round in 0..40 {
        let now_ms = 1_000_000 + 100 * round;
        let odd = rng.one_in(2);
        let n = if odd { 1 + usize::from(rng.byte(32)) } else { 32 };
        let frames: Vec<_> =
            (0..n).map(|_| frame(&mut rng, Some((17, six)))).filter(|frame| odd || frame[proto_at] == 17).collect();
        let nat = translate.then(|| &nats[usize::from(rng.byte(2))]);
        let spec = Spec { zone: 0, commit: true, nat, helper: helper::NONE, ..spec(&mut rng, nats, now_ms) };
        let spec = Spec { force: false, mark: None, label: None, told: false, ..spec };
        let seen = sides.each_mut().map(|side| {
            let mut packets: Vec<_> = frames.iter().map(|bytes| Packet::from_bytes(bytes).unwrap()).collect();
            let mut parsed: Vec<_> = packets.iter().map(|_| Parsed::new()).collect();
            packets.iter().zip(&mut parsed).for_each(|(packet, parsed)| parsed.read(packet.data(), &PacketMeta::default()));
            // Of several connections under one hash both sides look at the same one.
            let wide = crate::wide::on();
            let short = side.ct.seek_short(&packets, &parsed, &spec, &mut side.wanted, wide);
            side.ct.seek((&packets, &mut parsed), short, &spec, &mut side.wanted, wide);
            let (passing, wide) = (side.ct.passing(&spec), wide && side.short.is_some());
            let done = side.ct.pass_udp_as((&mut packets, &mut parsed), &spec, (&passing, &side.wanted), wide);
            for i in bits(all(packets.len()) & !done) {
                side.ct.track_one(&mut side.local, &mut packets[i], &mut parsed[i], &spec, side.wanted.lookup(i));
            }
            let of = |(packet, parsed): (&Packet, &Parsed)| (packet.data().to_vec(), parsed.whole(), parsed.conn);
            (done, packets.iter().zip(&parsed).map(of).collect::<Vec<_>>())
        });
        assert_eq!(seen[0], seen[1], "seed {seed}");
        assert_eq!(sides[0].shown(now_ms), sides[1].shown(now_ms), "seed {seed}");
        whole += u32::from(seen[1].0.to_le_bytes().contains(&0xff));
    }
    whole
}

#[test]
fn vectors_of_packets_go_where_each_would() {
    for six in [false, true] {
        let whole: u32 = (0..20).map(|seed| run_in_vectors(seed, six)).sum();
        assert!(whole > 20, "{whole} of 800, over IPv6: {six}");
    }
}

/// The test above would show nothing if the short ways were never taken.
#[test]
fn the_short_ways_are_taken() {
    let taken: Vec<Taken> = (0..40).map(run).collect();
    let sum = |of: fn(&Taken) -> u32| taken.iter().map(of).sum::<u32>();
    let both = |of: fn(&Taken) -> [u32; 2]| [0, 1].map(|i| taken.iter().map(|t| of(t)[i]).sum::<u32>());
    let (udp, tcp, translated, common) = (both(|t| t.udp), both(|t| t.tcp), both(|t| t.translated), sum(|t| t.common));
    let enough = |counts: [u32; 2], least| counts.iter().all(|count| *count > least);
    let all = enough(udp, 50) && enough(tcp, 20) && enough(translated, 3) && common > 200;
    assert!(all, "{udp:?}, {tcp:?}, {translated:?} and {common} of 12000");
    let partial =
        [false, true].map(|six| (0..40).map(|seed| run_of(&mut Rng(seed), Some((6, six))).partial[usize::from(six)]).sum());
    assert!(enough(partial, 1), "{partial:?}");
    let batches = (0..40).map(run_batches).fold([0; 2], |[four, six], [f, s]| [four + f, six + s]);
    assert!(enough(batches, 100), "{batches:?}");
}
