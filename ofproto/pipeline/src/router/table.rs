//! A routing table: the longest prefix wins, per packet mark.

use crate::tunnel::Addr;
use flow::hash::Map;
use std::collections::BTreeMap;
use std::fmt;

/// How many bits longer the prefix of a cached route must be to beat a user's (OVS).
const USER_BONUS: u16 = 32;

/// An address and how many of its bits count, of 128.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Prefix {
    pub address: Addr,
    pub plen: u8,
}

impl Prefix {
    /// Bits beyond `plen` become zero.
    #[must_use]
    pub fn new(address: Addr, plen: u8) -> Self {
        Self { address: Addr(address.0 & mask(plen)), plen: plen.min(128) }
    }

    /// Whether an address begins with it.
    #[must_use]
    pub fn covers(self, address: Addr) -> bool {
        address.0 & mask(self.plen) == self.address.0
    }

    /// Reads `ADDRESS[/LEN]`; without a length the whole address counts.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, plen) = match text.split_once('/') {
            Some((address, plen)) => (Addr::parse(address)?, Some(plen.parse::<u8>().ok()?)),
            None => (Addr::parse(text)?, None),
        };
        let (bits, base) = if address.is_v4() && !text.contains(':') { (32, 96) } else { (128, 0) };
        let plen = plen.unwrap_or(bits);
        (plen <= bits).then(|| Self::new(address, plen + base))
    }

    /// Whether it is one of IPv4.
    #[must_use]
    pub fn is_v4(self) -> bool {
        self.plen >= 96 && self.address.is_v4()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, if self.is_v4() { self.plen - 96 } else { self.plen })
    }
}

fn mask(plen: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(plen.min(128))).unwrap_or(0)
}

/// A route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    pub prefix: Prefix,
    pub mark: u32,
    pub device: String,
    /// `Addr(0)`: on the link.
    pub gateway: Addr,
    /// The source address that it prefers.
    pub source: Option<Addr>,
    /// The destination is this host.
    pub local: bool,
    /// Added by command, not by the kernel or a device.
    pub user: bool,
    /// Smaller wins among routes of the same prefix.
    pub metric: u32,
}

impl Route {
    fn rank(&self) -> u16 {
        u16::from(self.prefix.plen) + if self.user { USER_BONUS } else { 0 }
    }
}

/// Routes of a table. Per mark and length, routes by address, the best first.
#[derive(Debug, Default)]
pub struct Table {
    routes: BTreeMap<(u32, u8), Map<Addr, Vec<Route>>>,
    len: usize,
}

impl Table {
    /// Routes in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The route of a destination, for packets of a mark.
    #[must_use]
    pub fn find(&self, dst: Addr, mark: u32) -> Option<&Route> {
        let lengths = self.routes.range((mark, 0)..=(mark, u8::MAX)).rev();
        let found = lengths.filter_map(|((_, plen), routes)| routes.get(&Prefix::new(dst, *plen).address)?.first());
        // IPv4 destinations go by IPv4 routes only: `::/0` is not a default route for them.
        found.filter(|r| r.prefix.is_v4() == dst.is_v4()).fold(None, |best: Option<&Route>, route| match best {
            Some(best) if best.rank() >= route.rank() => Some(best),
            Some(_) | None => Some(route),
        })
    }

    /// Adds a route in the place of the one with the same prefix, mark, metric and origin.
    pub fn insert(&mut self, route: Route) {
        let of_length = self.routes.entry((route.mark, route.prefix.plen)).or_default();
        let same = of_length.entry(route.prefix.address).or_default();
        let before = same.len();
        same.retain(|r| (r.user, r.metric) != (route.user, route.metric));
        let at = same.partition_point(|r| (!r.user, r.metric) <= (!route.user, route.metric));
        same.insert(at, route);
        self.len = self.len + same.len() - before;
    }

    /// Removes routes of a prefix and mark for which `which` says so; whether there were any.
    pub fn remove(&mut self, prefix: Prefix, mark: u32, which: impl Fn(&Route) -> bool) -> bool {
        let Some(of_length) = self.routes.get_mut(&(mark, prefix.plen)) else { return false };
        let Some(same) = of_length.get_mut(&prefix.address) else { return false };
        let before = same.len();
        same.retain(|r| !which(r));
        let removed = before - same.len();
        self.len -= removed;
        if same.is_empty() {
            of_length.remove(&prefix.address);
        }
        if of_length.is_empty() {
            self.routes.remove(&(mark, prefix.plen));
        }
        removed > 0
    }

    /// Keeps the routes for which `keep` says so.
    pub fn retain(&mut self, keep: impl Fn(&Route) -> bool) {
        for of_length in self.routes.values_mut() {
            of_length.retain(|_, same| {
                same.retain(|r| keep(r));
                !same.is_empty()
            });
        }
        self.routes.retain(|_, of_length| !of_length.is_empty());
        self.len = self.routes.values().flat_map(Map::values).map(Vec::len).sum();
    }

    /// Every route, sorted by mark, length and address.
    #[must_use]
    pub fn sorted(&self) -> Vec<&Route> {
        let mut all: Vec<&Route> = self.routes.values().flat_map(Map::values).flatten().collect();
        all.sort_by_key(|r| (r.mark, std::cmp::Reverse(r.prefix.plen), r.prefix.address, r.metric));
        all
    }
}
