//! The register of ports: which names and numbers are taken, which number is the next free one, and whose netdev is where.
//!
//! What enters: a name with its number, when a port comes or goes; where its netdev is. What leaves: the number of a name or a place; free numbers. Neighbour: `ports`, which keeps
//! the ports themselves. With ten thousand ports nothing here may look at all of them to add one more.

use crate::outlets::PORTS_MAX;
use flow::DpPort;
use flow::hash::Map;
use port::netlink::request::At;

const WORD: u32 = u64::BITS;
const WORDS: usize = PORTS_MAX.div_ceil(WORD) as usize;

/// Names and numbers in use. Numbers are below `PORTS_MAX`; 0 is given to who asks for it only.
#[derive(Debug)]
pub(crate) struct Register {
    by_name: Map<String, DpPort>,
    /// A bit for each number in use.
    taken: Box<[u64; WORDS]>,
    /// No word before this one has a number free (but for 0).
    first: usize,
    /// A netdev may have several names, and a port by each.
    by_place: Map<At, Vec<DpPort>>,
    places: Map<DpPort, At>,
}

impl Default for Register {
    fn default() -> Self {
        Self { by_name: Map::default(), taken: Box::new([0; WORDS]), first: 0, by_place: Map::default(), places: Map::default() }
    }
}

impl Register {
    /// The number of a name.
    pub(crate) fn find(&self, name: &str) -> Option<DpPort> {
        self.by_name.get(name).copied()
    }

    /// Whether a port may have the number.
    pub(crate) fn is_free(&self, number: u32) -> bool {
        number < PORTS_MAX && self.taken[(number / WORD) as usize] & 1 << (number % WORD) == 0
    }

    /// The lowest free number above 0.
    pub(crate) fn next_free(&mut self) -> Option<DpPort> {
        const ZERO: u64 = 1;
        while let Some(word) = self.taken.get(self.first) {
            let used = *word | if self.first == 0 { ZERO } else { 0 };
            if used != u64::MAX {
                let number = u32::try_from(self.first).expect("words are few") * WORD + used.trailing_ones();
                return (number < PORTS_MAX).then_some(DpPort(number));
            }
            self.first += 1;
        }
        None
    }

    /// A port has come.
    pub(crate) fn enter(&mut self, name: &str, number: DpPort) {
        self.by_name.insert(name.to_owned(), number);
        if let Some(word) = self.taken.get_mut((number.0 / WORD) as usize) {
            *word |= 1 << (number.0 % WORD);
        }
    }

    /// A port's netdev is there now; `None`: nowhere.
    pub(crate) fn locate(&mut self, number: DpPort, place: Option<At>) {
        let before = self.places.get(&number).copied();
        if before == place {
            return;
        }
        if let Some(at) = before
            && let Some(there) = self.by_place.get_mut(&at)
        {
            there.retain(|other| *other != number);
            if there.is_empty() {
                self.by_place.remove(&at);
            }
        }
        match place {
            Some(place) => {
                self.places.insert(number, place);
                self.by_place.entry(place).or_default().push(number);
            }
            None => drop(self.places.remove(&number)),
        }
    }

    /// The ports whose netdev is there.
    pub(crate) fn at(&self, place: At) -> &[DpPort] {
        self.by_place.get(&place).map(Vec::as_slice).unwrap_or_default()
    }

    /// A port has gone.
    pub(crate) fn strike(&mut self, name: &str) {
        let Some(number) = self.by_name.remove(name) else { return };
        self.locate(number, None);
        let at = (number.0 / WORD) as usize;
        if let Some(word) = self.taken.get_mut(at) {
            *word &= !(1 << (number.0 % WORD));
            self.first = self.first.min(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_number_is_given_first_and_again() {
        let mut register = Register::default();
        for n in 1..200 {
            assert_eq!(register.next_free(), Some(DpPort(n)));
            register.enter(&format!("p{n}"), DpPort(n));
        }
        register.enter("wished", DpPort(200));
        assert_eq!((register.find("p70"), register.find("p200")), (Some(DpPort(70)), None));
        assert_eq!(register.next_free(), Some(DpPort(201)));
        for n in [130, 70] {
            register.strike(&format!("p{n}"));
            assert!(register.is_free(n) && !register.is_free(n + 1));
            assert_eq!(register.next_free(), Some(DpPort(n)));
        }
        register.strike("p70");
        register.enter("again", DpPort(70));
        assert_eq!(register.next_free(), Some(DpPort(130)));
        assert_eq!((register.is_free(0), register.is_free(PORTS_MAX)), (true, false));
    }

    #[test]
    fn a_port_is_found_where_its_netdev_is_and_nowhere_else() {
        let mut register = Register::default();
        let (here, there) = (At::from(7), At { ifindex: 7, nsid: Some(3) });
        for n in 1..=2 {
            register.enter(&format!("p{n}"), DpPort(n));
        }
        register.locate(DpPort(1), Some(here));
        register.locate(DpPort(1), Some(there));
        assert_eq!((register.at(here), register.at(there)), (&[][..], &[DpPort(1)][..]));
        // A netdev may be two ports' by two names, and the index of one that is gone another's before anybody has seen that it is gone.
        register.locate(DpPort(2), Some(there));
        assert_eq!(register.at(there), [DpPort(1), DpPort(2)]);
        register.locate(DpPort(1), None);
        assert_eq!(register.at(there), [DpPort(2)]);
        register.locate(DpPort(1), Some(there));
        register.strike("p2");
        assert_eq!(register.at(there), [DpPort(1)]);
        register.strike("p1");
        assert_eq!((register.at(there).len(), register.places.len(), register.by_place.len()), (0, 0, 0));
    }

    #[test]
    fn all_numbers_are_given_but_zero() {
        let mut register = Register::default();
        for n in 1..PORTS_MAX {
            assert_eq!(register.next_free(), Some(DpPort(n)));
            register.enter(&n.to_string(), DpPort(n));
        }
        assert_eq!(register.next_free(), None);
        register.strike("64000");
        assert_eq!(register.next_free(), Some(DpPort(64_000)));
    }
}
