//! Rebalancing: buckets move from the most loaded member to the least loaded one, as few as will do, so that flows keep their links.
//!
//! A move must pay: it happens only where the difference is more than about 3 % and 100,000 bytes per interval, and where it brings the
//! lighter member closer to the middle by at least a tenth of what it lacks. History counts half in each interval.

use super::{BUCKETS, Bond};
use flow::Msec;
use openflow::OfPort;

/// Differences below it are not worth a move (about 1 Mbit/s at the shortest interval).
const WORTHWHILE_BYTES: u64 = 100_000;

/// What a member carries.
#[derive(Clone, Debug)]
struct Load {
    port: OfPort,
    bytes: u64,
    /// Its buckets that carried something, the heaviest first; those that came by a move are not among them.
    buckets: Vec<(usize, u64)>,
}

impl Bond {
    /// Moves buckets if the time has come. Gives true when some moved.
    pub fn rebalance(&mut self, now: Msec) -> bool {
        if !self.is_balanced() || now < self.next_rebalance_ms {
            return false;
        }
        self.next_rebalance_ms = now + self.settings.rebalance_ms;
        let mut loads = self.loads();
        let moves = moves(&mut loads);
        for (bucket, to) in &moves {
            let from = self.buckets[*bucket].member.replace(*to);
            let name = |port: Option<OfPort>| port.and_then(|p| self.members.get(&p)).map_or("?", |m| m.link.name.as_str());
            let kilobytes = self.buckets[*bucket].tx_bytes / 1024;
            tracing::info!(
                target: "bond",
                "bond {}: shift {kilobytes}kB of load (with hash {bucket}) from {} to {}",
                self.name,
                name(from),
                name(Some(*to)),
            );
        }
        for bucket in &mut self.buckets {
            bucket.tx_bytes /= 2;
        }
        self.changed |= !moves.is_empty();
        !moves.is_empty()
    }

    fn loads(&self) -> Vec<Load> {
        let enabled = self.members.iter().filter(|(_, m)| m.enabled);
        let mut loads: Vec<Load> = enabled.map(|(port, _)| Load { port: *port, bytes: 0, buckets: Vec::new() }).collect();
        let mut buckets: Vec<usize> = (0..BUCKETS.min(self.buckets.len())).collect();
        buckets.sort_by_key(|i| std::cmp::Reverse(self.buckets[*i].tx_bytes));
        for i in buckets {
            let bucket = self.buckets[i];
            if let Some(load) = loads.iter_mut().find(|l| Some(l.port) == bucket.member && bucket.tx_bytes > 0) {
                load.bytes += bucket.tx_bytes;
                load.buckets.push((i, bucket.tx_bytes));
            }
        }
        loads
    }
}

/// Which buckets go where. A member that can give nothing useful leaves the list.
fn moves(loads: &mut Vec<Load>) -> Vec<(usize, OfPort)> {
    let mut moves = Vec::new();
    while loads.len() > 1 {
        loads.sort_by_key(|l| std::cmp::Reverse(l.bytes));
        let lightest = loads[loads.len() - 1].bytes;
        let overload = loads[0].bytes - lightest;
        if overload < WORTHWHILE_BYTES || overload < lightest >> 5 {
            break;
        }
        let chosen = choose(&loads[0], lightest);
        if chosen.is_empty() {
            loads.remove(0);
            continue;
        }
        let last = loads.len() - 1;
        for (bucket, bytes) in chosen {
            moves.push((bucket, loads[last].port));
            loads[0].buckets.retain(|(b, _)| *b != bucket);
            loads[0].bytes -= bytes;
            loads[last].bytes += bytes;
        }
    }
    moves
}

/// The buckets of `from` that bring a member with `to_bytes` closest to the middle of both without passing it; the lightest one if each
/// would pass it and yet improve matters.
fn choose(from: &Load, to_bytes: u64) -> Vec<(usize, u64)> {
    if from.buckets.len() < 2 {
        return Vec::new();
    }
    let lacks = (from.bytes + to_bytes) / 2 - to_bytes;
    let threshold = lacks / 10;
    let mut chosen = Vec::new();
    let mut moved = 0;
    for (bucket, bytes) in &from.buckets {
        if moved + bytes <= lacks {
            chosen.push((*bucket, *bytes));
            moved += bytes;
        }
        if lacks - moved < threshold {
            break;
        }
    }
    if chosen.is_empty() {
        chosen.extend(from.buckets.last().copied());
        moved = chosen.iter().map(|(_, bytes)| bytes).sum();
    }
    let lower = (from.bytes - moved).min(to_bytes + moved);
    if lower > to_bytes && lower - to_bytes >= threshold { chosen } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(port: u32, buckets: &[u64]) -> Load {
        let mut buckets: Vec<(usize, u64)> = buckets.iter().copied().enumerate().collect();
        buckets.sort_by_key(|(_, b)| std::cmp::Reverse(*b));
        Load { port: OfPort(port), bytes: buckets.iter().map(|(_, b)| b).sum(), buckets }
    }

    fn check(loads: &[Load], expect: &[(usize, u32)]) {
        let got: Vec<(usize, u32)> = moves(&mut loads.to_vec()).into_iter().map(|(b, p)| (b, p.0)).collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn only_moves_that_pay() {
        check(&[load(1, &[50_000, 40_000]), load(2, &[])], &[]);
        check(&[load(1, &[500_000]), load(2, &[])], &[]);
        check(&[load(1, &[300_000, 200_000]), load(2, &[])], &[(1, 2)]);
        check(&[load(1, &[300_000, 200_000]), load(2, &[490_000])], &[]);
        // One elephant and mice: the mice leave.
        check(&[load(1, &[900_000, 100_000, 100_000]), load(2, &[])], &[(1, 2), (2, 2)]);
        // Three members: the heaviest gives to the lightest.
        check(&[load(1, &[400_000, 400_000]), load(2, &[400_000]), load(3, &[])], &[(0, 3)]);
    }
}
