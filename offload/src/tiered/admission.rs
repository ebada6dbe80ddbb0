//! Who is in a table that is full: those whose packets are most, with hysteresis so that equals do not take turns.
//!
//! What enters: packets per second of megaflows in hardware and of those that found the table full. What leaves: which of many to look at; pairs
//! to exchange.
//! Pure. Neighbour: `tiered`, which measures and exchanges.

use flow::{Msec, Ufid};

/// Exchanges of one turn.
pub(super) const SWAPS_MAX: usize = 64;
/// A megaflow that is to come in must have so many times the packets of the one that goes.
const FACTOR: u64 = 2;
/// Fewer packets per second than this are not worth a rule that is taken from another.
const WORTH_PPS: u64 = 10;
/// So long a rule stays at least.
pub(super) const STAY_MS: Msec = 5_000;

/// Megaflows outside whose packets are counted in a turn; and for so many turns, as a rate takes two looks, before others are.
const RATED_MAX: usize = 4_096;
const TURNS: u32 = 4;

/// Which of many that are outside are looked at: a part, in the order of their names, from the one that was not reached before.
#[derive(Debug, Default)]
pub(super) struct Window {
    from: u128,
    turns: u32,
}

impl Window {
    /// The part for this turn.
    pub(super) fn of(&mut self, mut outside: Vec<Ufid>) -> Vec<Ufid> {
        if outside.len() > RATED_MAX {
            let from = self.from;
            let (_, next, _) = outside.select_nth_unstable_by_key(RATED_MAX, |ufid| ufid.0.wrapping_sub(from));
            self.turns += 1;
            if self.turns == TURNS {
                *self = Self { from: next.0, turns: 0 };
            }
            outside.truncate(RATED_MAX);
        }
        outside
    }
}

/// A megaflow with its packets per second.
pub(super) type Rated = (Ufid, u64);

/// Pairs of one that goes out and one that comes in, the most worth first.
pub(super) fn exchanges(mut inside: Vec<Rated>, mut outside: Vec<Rated>) -> Vec<(Ufid, Ufid)> {
    inside.sort_unstable_by_key(|(ufid, pps)| (*pps, *ufid));
    outside.sort_unstable_by_key(|(ufid, pps)| (std::cmp::Reverse(*pps), *ufid));
    let worth = |(out, new): &(Rated, Rated)| new.1 >= WORTH_PPS && new.1 > out.1.saturating_mul(FACTOR);
    inside.into_iter().zip(outside).take_while(worth).take(SWAPS_MAX).map(|(out, new)| (out.0, new.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rated(all: &[(u128, u64)]) -> Vec<Rated> {
        all.iter().map(|(n, pps)| (Ufid(*n), *pps)).collect()
    }

    #[test]
    fn the_busiest_outside_takes_the_place_of_the_idlest_inside() {
        let pairs = exchanges(rated(&[(1, 500), (2, 0), (3, 40)]), rated(&[(8, 30), (9, 1_000), (7, 100)]));
        assert_eq!(pairs, [(Ufid(2), Ufid(9)), (Ufid(3), Ufid(7))]);
    }

    #[test]
    fn of_many_outside_each_has_its_turn() {
        let outside: Vec<Ufid> = (0..3 * RATED_MAX as u128 - 7).map(|n| Ufid(n << 100)).collect();
        let mut window = Window::default();
        let mut seen: Vec<Vec<u32>> = vec![Vec::new(); outside.len()];
        for turn in 0..3 * TURNS {
            let part = window.of(outside.clone());
            assert_eq!(part.len(), RATED_MAX);
            part.iter().for_each(|ufid| seen[usize::try_from(ufid.0 >> 100).expect("few")].push(turn));
        }
        let in_a_row = |turns: &Vec<u32>| turns.windows(2).any(|two| two[0] + 1 == two[1]);
        assert!(seen.iter().all(in_a_row), "each is looked at twice in a row");
        assert_eq!(window.of(outside[..9].to_vec()), outside[..9], "few are all looked at");
    }

    #[test]
    fn equals_do_not_take_turns_and_a_trickle_takes_nothing() {
        assert!(exchanges(rated(&[(1, 100)]), rated(&[(2, 200)])).is_empty());
        assert!(exchanges(rated(&[(1, 0)]), rated(&[(2, 9)])).is_empty());
        let many = |pps| (0..1_000).map(|n| (Ufid(n), pps)).collect::<Vec<_>>();
        assert_eq!(exchanges(many(0), many(1_000)).len(), SWAPS_MAX);
    }
}
