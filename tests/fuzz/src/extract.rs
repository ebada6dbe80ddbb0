//! Fuzzing extraction: any bytes as a frame make a key, and the same one whichever way it is made.
#![no_main]

use flow::Key;
use flow::extract::{PacketMeta, extract_whole};
use flow::extract_slow::extract_slow;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    for packet_type in [0, 0x1_0800, 0x1_86dd, 0x1_8847, 0x1_894f] {
        let meta = PacketMeta { packet_type, vlan_limit: 2, ..PacketMeta::default() };
        let mut key = Key::ZERO;
        extract_whole(input, &meta, &mut key);
        assert!(key == extract_slow(input, &meta).0, "fast and slow agree");
        let _ = flow::dptext::format_key(&key, &flow::NoNames);
    }
});
