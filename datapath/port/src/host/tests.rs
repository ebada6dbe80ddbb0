//! Control messages there and back.

use super::Family;
use super::control::{Label, Said};
use std::panic::catch_unwind;

/// An IPv4 header from 10.0.0.1 to 10.0.0.2.
const IP: [u8; 20] = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];

#[test]
fn control_messages_are_read_and_written() {
    let label = Label::of(&IP, Family::V4, 7).unwrap();
    assert_eq!((label.address().len(), &label.address()[4..8]), (16, &[10, 0, 0, 2][..]));
    // Source and mark: two messages, each at a multiple of eight.
    assert_eq!(label.control().len(), 32 + 24);
    assert_eq!(Label::of(&IP, Family::V4, 0).unwrap().control().len(), 32);
    let nobody = [&IP[..12], &[0; 4], &IP[16..]].concat();
    assert_eq!(Label::of(&nobody, Family::V4, 0).unwrap().control().len(), 0);
    assert!(Label::of(&IP[..19], Family::V4, 0).is_none());
    let six = [&[0x60, 0, 0, 0, 0, 0, 17, 64][..], &[1; 16], &[2; 16]].concat();
    let label = Label::of(&six, Family::V6, 1).unwrap();
    assert_eq!((label.address().len(), label.control().len()), (28, 40 + 24));
}

#[test]
fn what_the_kernel_says_is_found_and_nothing_else_harms() {
    let message = |level: i32, kind: i32, data: &[u8]| {
        let mut bytes = [&(16 + data.len()).to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes(), data].concat();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let info = [&3u32.to_ne_bytes()[..], &[10, 0, 0, 9], &[10, 0, 0, 2]].concat();
    let all = [
        message(libc::IPPROTO_IP, libc::IP_PKTINFO, &info),
        message(libc::SOL_SOCKET, 99, &[1, 2, 3]),
        message(libc::IPPROTO_IP, libc::IP_TOS, &[0xb8]),
        message(libc::IPPROTO_IP, libc::IP_TTL, &33i32.to_ne_bytes()),
    ]
    .concat();
    let said = Said::read(&all);
    assert_eq!((said.ifindex, &said.to[..4], said.tos, said.ttl), (3, &[10, 0, 0, 2][..], 0xb8, 33));
    let info = [&[7; 16][..], &5u32.to_ne_bytes()].concat();
    let all = [
        message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info),
        message(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &0x28i32.to_ne_bytes()),
        message(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, &255i32.to_ne_bytes()),
    ]
    .concat();
    assert_eq!(Said::read(&all), Said { to: [7; 16], ifindex: 5, tos: 0x28, ttl: 255 });
    for cut in 0..all.len() {
        let piece = all[..cut].to_vec();
        assert!(catch_unwind(|| Said::read(&piece)).is_ok());
    }
    for len in [0usize, 15, usize::MAX] {
        let mut wrong = all.clone();
        wrong[..8].copy_from_slice(&len.to_ne_bytes());
        let _ = Said::read(&wrong);
    }
}
