//! What a tunnel interface tells of packets that were too long for it: `Interface.status:tunnel_mtu`, and counters. Pure.
//!
//! What enters: the datapath's figures of the tunnel port, by other end; tunnels of one kind share a port. What leaves: those of the interface's own
//! other end, or of all if flows choose it.

use crate::config::InterfaceStatus;
use crate::tunnel::{Addr, ByFlow, Config};
use flow::clock::Msec;
use flow::seam::TooLong;
use std::fmt::Write as _;

/// What happened so long ago is no trouble any more (RFC 1191, 6.3: how long a sender believes in an MTU).
const FRESH_MS: Msec = 600_000;

/// Adds to an interface's status, and to its statistics if they are wanted, what there is to tell.
pub(super) fn tell(interface: &mut InterfaceStatus, tunnel: &Config, all: &[TooLong], stats: bool, now_ms: Msec) {
    let is_own = |t: &&TooLong| match tunnel.remote {
        ByFlow::Fixed(remote) => remote == Addr::from(t.remote),
        ByFlow::Flow => true,
    };
    let own: Vec<&TooLong> = all.iter().filter(is_own).collect();
    if stats && !own.is_empty() {
        let sum = |of: fn(&TooLong) -> u64| own.iter().map(|t| of(t)).sum();
        let counts = [
            ("tunnel_mtu_answered", sum(|t| t.answered)),
            ("tunnel_mtu_fragmented", sum(|t| t.fragmented)),
            ("tunnel_mtu_dropped", sum(|t| t.dropped)),
        ];
        interface.custom_stats.extend(counts.map(|(name, n)| (name.to_owned(), n)));
    }
    let text = text(own.into_iter().filter(|t| now_ms - t.last_ms < FRESH_MS));
    if let Some(info) = &mut interface.info
        && !text.is_empty()
    {
        info.status.push(("tunnel_mtu".to_owned(), text));
    }
}

/// `REMOTE: packets of up to N bytes, M fit; ...`
fn text<'t>(all: impl Iterator<Item = &'t TooLong>) -> String {
    let mut out = String::new();
    for t in all {
        let between = if out.is_empty() { "" } else { "; " };
        write!(out, "{between}{}: packets of up to {} bytes, {} fit", Addr::from(t.remote), t.longest, t.mtu)
            .expect("a String takes all");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::seam::PortInfo;

    fn config(remote: &str) -> Config {
        let options = vec![("remote_ip".to_owned(), remote.to_owned())];
        crate::tunnel::options::parse("vx0", crate::tunnel::Kind::Vxlan, &options).expect("the options are right").0
    }

    fn told(remote: &str, now_ms: Msec) -> InterfaceStatus {
        let one = |remote: &str, last_ms| TooLong {
            remote: remote.parse().unwrap(),
            mtu: 1450,
            longest: 1500,
            answered: 1,
            fragmented: 2,
            dropped: 3,
            last_ms,
        };
        let all = [one("10.0.0.1", 0), one("10.0.0.2", 100_000), one("fd00::2", 100_000)];
        let mut interface = InterfaceStatus { info: Some(PortInfo::default()), ..InterfaceStatus::default() };
        tell(&mut interface, &config(remote), &all, true, now_ms);
        interface
    }

    fn status(interface: InterfaceStatus) -> Vec<(String, String)> {
        interface.info.unwrap().status
    }

    #[test]
    fn an_interface_tells_of_its_own_other_end() {
        let shown = |text: &str| vec![("tunnel_mtu".to_owned(), text.to_owned())];
        let one = told("10.0.0.2", 200_000);
        let counts = [("tunnel_mtu_answered", 1), ("tunnel_mtu_fragmented", 2), ("tunnel_mtu_dropped", 3)];
        assert_eq!(one.custom_stats, counts.map(|(name, n)| (name.to_owned(), n)));
        assert_eq!(status(one), shown("10.0.0.2: packets of up to 1500 bytes, 1450 fit"));
        assert_eq!(status(told("fd00::2", 200_000)), shown("fd00::2: packets of up to 1500 bytes, 1450 fit"));
        let other = told("10.0.0.9", 200_000);
        assert_eq!((other.custom_stats.len(), status(other)), (0, vec![]));
        // Long ago: counted, but no trouble any more.
        let old = told("10.0.0.1", 600_000);
        assert_eq!((old.custom_stats.len(), status(old)), (3, vec![]));
        // Flows choose: all that is fresh.
        let text = "10.0.0.2: packets of up to 1500 bytes, 1450 fit; fd00::2: packets of up to 1500 bytes, 1450 fit";
        let all = told("flow", 650_000);
        assert_eq!((all.custom_stats[1].1, status(all)), (6, shown(text)));
    }
}
