//! What was too long for a tunnel port, by its other ends, for who asks at the port.
//!
//! What enters: what forwarding threads did with packets that do not fit (`tunnel_mtu`). What leaves: figures by other end. Neighbours: `outlets`
//! (every thread has the port's), `ports`.
//!
//! No lock: a place is claimed by compare-and-swap, and its address stands before it says so. Two threads that meet a new address at once may
//! claim a place each; who reads adds them up.

use flow::clock::Msec;
use flow::seam::TooLong;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

/// Other ends that are told apart; packets to further ones are counted for the whole switch only.
pub const REMOTES_MAX: usize = 64;

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const READY: u32 = 2;

/// What was done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Answered = 0,
    Fragmented = 1,
    Dropped = 2,
}

#[derive(Debug, Default)]
struct Remote {
    state: AtomicU32,
    /// IPv4 addresses mapped.
    address: [AtomicU64; 2],
    mtu: AtomicU32,
    longest: AtomicU32,
    done: [AtomicU64; 3],
    last_ms: AtomicI64,
}

/// A tunnel port's.
#[derive(Debug)]
pub struct TooLongs([Remote; REMOTES_MAX]);

impl Default for TooLongs {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Remote::default()))
    }
}

const fn halves(address: IpAddr) -> [u64; 2] {
    let bits = match address {
        IpAddr::V4(a) => a.to_ipv6_mapped().to_bits(),
        IpAddr::V6(a) => a.to_bits(),
    };
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bits.to_be_bytes();
    [u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes([i, j, k, l, m, n, o, p])]
}

impl Remote {
    fn address(&self) -> [u64; 2] {
        [0, 1].map(|i| self.address[i].load(Ordering::Relaxed))
    }

    /// Whether it is the place of `address`, which it becomes if it is free.
    fn is_of(&self, address: [u64; 2]) -> bool {
        match self.state.load(Ordering::Acquire) {
            READY => self.address() == address,
            FREE if self.state.compare_exchange(FREE, CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_ok() => {
                for (to, half) in self.address.iter().zip(address) {
                    to.store(half, Ordering::Relaxed);
                }
                self.state.store(READY, Ordering::Release);
                true
            }
            _ => false,
        }
    }

    fn shown(&self) -> Option<TooLong> {
        if self.state.load(Ordering::Acquire) != READY {
            return None;
        }
        let [high, low] = self.address();
        let address = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
        let done = |what: Done| self.done[what as usize].load(Ordering::Relaxed);
        Some(TooLong {
            remote: address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4),
            mtu: self.mtu.load(Ordering::Relaxed),
            longest: self.longest.load(Ordering::Relaxed),
            answered: done(Done::Answered),
            fragmented: done(Done::Fragmented),
            dropped: done(Done::Dropped),
            last_ms: self.last_ms.load(Ordering::Relaxed),
        })
    }
}

impl TooLongs {
    /// A packet of `bytes` was for `remote`, where `mtu` fit.
    #[cold]
    pub fn note(&self, remote: IpAddr, (bytes, mtu): (usize, usize), done: Done, now_ms: Msec) {
        let address = halves(remote);
        let Some(of_remote) = self.0.iter().find(|r| r.is_of(address)) else { return };
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        of_remote.mtu.store(narrow(mtu), Ordering::Relaxed);
        of_remote.longest.fetch_max(narrow(bytes), Ordering::Relaxed);
        of_remote.done[done as usize].fetch_add(1, Ordering::Relaxed);
        of_remote.last_ms.store(now_ms, Ordering::Relaxed);
    }

    /// All of it, by address.
    #[must_use]
    pub fn all(&self) -> Vec<TooLong> {
        let mut all: Vec<TooLong> = self.0.iter().filter_map(Remote::shown).collect();
        all.sort_by_key(|t| t.remote);
        all.dedup_by(|b, a| {
            let same = a.remote == b.remote;
            if same {
                let newer = if b.last_ms > a.last_ms { *b } else { *a };
                *a = TooLong {
                    longest: a.longest.max(b.longest),
                    answered: a.answered + b.answered,
                    fragmented: a.fragmented + b.fragmented,
                    dropped: a.dropped + b.dropped,
                    ..newer
                };
            }
            same
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_under_their_address() {
        let all = TooLongs::default();
        let [four, six]: [IpAddr; 2] = ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        all.note(six, (1500, 1430), Done::Dropped, 5);
        all.note(four, (1500, 1450), Done::Answered, 6);
        all.note(four, (1400, 1350), Done::Fragmented, 7);
        let shown = all.all();
        let expected = TooLong { remote: four, mtu: 1350, longest: 1500, answered: 1, fragmented: 1, dropped: 0, last_ms: 7 };
        assert_eq!((shown.len(), shown[0], shown[1].remote, shown[1].dropped), (2, expected, six, 1));
        // As if two threads had claimed a place each.
        all.0[2].state.store(READY, Ordering::Relaxed);
        for (to, half) in all.0[2].address.iter().zip(halves(four)) {
            to.store(half, Ordering::Relaxed);
        }
        all.0[2].done[0].store(4, Ordering::Relaxed);
        assert_eq!(all.all()[0].answered, 5);
    }

    #[test]
    fn more_ends_than_places_are_left_out() {
        let all = TooLongs::default();
        for n in 0..2 * REMOTES_MAX {
            all.note(IpAddr::from([10, 0, 0, u8::try_from(n).unwrap()]), (1500, 1450), Done::Dropped, 1);
        }
        assert_eq!(all.all().len(), REMOTES_MAX);
        assert_eq!(all.all()[REMOTES_MAX - 1].remote, IpAddr::from([10, 0, 0, 63]));
    }
}
