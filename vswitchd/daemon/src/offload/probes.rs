//! What the ports of eSwitches take, asked of the hardware itself when ports come: once for all ports of a kind, not for each.
//!
//! What enters: ports that are ready for rules; time. What leaves: what each lacks. Neighbours: `offload::probe` (the questions), `ports`.
//!
//! # What holds
//!
//! - Ports of one switch and one driver that are alike (uplinks, functions) share an answer: a hundred functions are asked once. A tunnel's
//!   device is asked for itself.
//! - An answer holds as long as the devices are there that gave the answers for their switch. A reload of the driver or a change of the
//!   switch's mode makes its representors anew; then everything of that switch is asked again.
//! - Without an answer (a driver with offload switched off, a full table, no second port to send to) the question comes again after
//!   `AGAIN_MS`, and until then everything counts as taken.

use super::ports::Hardware;
use flow::hash::Map;
use flow::{DpPort, Msec};
use offload::hardware::HardwareError;
use offload::probe::{Bench, Lacks};
use offload::{PortKind, TunnelKind};
use std::sync::Arc;

const AGAIN_MS: Msec = 10_000;
/// Kinds of ports that answers are kept of.
const KNOWN_MAX: usize = 1_024;

/// Which ports are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Alike {
    switch: u64,
    driver: String,
    uplink: bool,
    bench: Bench,
}

#[derive(Debug)]
struct Known {
    of: Alike,
    /// Who was asked.
    ifindex: u32,
    answer: Option<Arc<Lacks>>,
    at_ms: Msec,
}

/// The answers.
#[derive(Debug, Default)]
pub(super) struct Probes {
    known: Vec<Known>,
    /// Names of drivers, by interface.
    drivers: Map<u32, String>,
}

impl Probes {
    /// What each of the ports lacks, and those that could not be asked because a rule is left on them. `ask` asks a device; `driver` names
    /// a device's driver.
    pub(super) fn of(
        &mut self,
        ports: &[Hardware],
        now: Msec,
        driver: &dyn Fn(&str) -> String,
        ask: &mut dyn FnMut(&Bench) -> Result<Option<Lacks>, HardwareError>,
    ) -> (Map<DpPort, Arc<Lacks>>, Vec<DpPort>) {
        self.forget(ports);
        let tunnel = |kind: TunnelKind| ports.iter().find(|p| p.kind == PortKind::Tunnel(kind)).map(|p| p.ifindex);
        let tunnels = [tunnel(TunnelKind::Vxlan), tunnel(TunnelKind::Geneve)];
        let (mut lacks, mut unclean) = (Map::default(), Vec::new());
        for port in ports {
            let driver = self.drivers.entry(port.ifindex).or_insert_with(|| driver(&port.name));
            let Some((bench, of)) = alike(port, ports, tunnels, driver) else { continue };
            let at = self.known.iter().position(|k| k.of == of);
            let fresh = at.is_some_and(|at| self.known[at].answer.is_some() || now - self.known[at].at_ms < AGAIN_MS);
            let answer = match at.filter(|_| fresh) {
                Some(at) => self.known[at].answer.clone(),
                None => match ask(&bench) {
                    Ok(answer) => {
                        let answer = answer.map(Arc::new);
                        tell(port, answer.as_deref());
                        self.keep(Known { of, ifindex: port.ifindex, answer: answer.clone(), at_ms: now });
                        answer
                    }
                    Err(error) => {
                        tracing::warn!(target: "dpif_offload", "{} was not probed: {error}", port.name);
                        unclean.push(port.port);
                        None
                    }
                },
            };
            lacks.extend(answer.map(|answer| (port.port, answer)));
        }
        (lacks, unclean)
    }

    fn keep(&mut self, new: Known) {
        self.known.retain(|k| k.of != new.of);
        if self.known.len() < KNOWN_MAX {
            self.known.push(new);
        }
    }

    /// Forgets switches of which a device is gone that has answered.
    fn forget(&mut self, ports: &[Hardware]) {
        let is_there = |k: &Known| ports.iter().any(|p| p.ifindex == k.ifindex);
        let gone: Vec<u64> = self.known.iter().filter(|k| !is_there(k)).map(|k| k.of.switch).collect();
        self.known.retain(|k| !gone.contains(&k.of.switch));
        if self.drivers.len() > ports.len() {
            self.drivers.retain(|ifindex, _| ports.iter().any(|p| p.ifindex == *ifindex));
        }
    }
}

/// With which devices a port is asked, and which others its answer is for; `None` for a port that has no hardware of its own.
fn alike(port: &Hardware, all: &[Hardware], tunnels: [Option<u32>; 2], driver: &str) -> Option<(Bench, Alike)> {
    let of_switch = |number: u64| all.iter().filter(move |p| p.kind == PortKind::Switch(number) && p.ifindex != port.ifindex);
    match port.kind {
        PortKind::Switch(switch) => {
            let mut others = of_switch(switch).map(|p| p.ifindex);
            let peers = [others.next(), others.next()];
            let [vxlan, geneve] = tunnels;
            let block = port.block().map(|number| (number, port.width()));
            let bench = Bench { port: Some(port.ifindex), peers, block, vxlan, geneve };
            // Not who is asked and sent to, but whether there is somebody.
            let rough = Bench { port: None, peers: peers.map(|p| p.map(|_| 0)), ..bench };
            Some((bench, Alike { switch, driver: driver.to_owned(), uplink: port.uplink, bench: rough }))
        }
        PortKind::Tunnel(kind) => {
            let first = all.iter().find_map(|p| if let PortKind::Switch(n) = p.kind { Some(n) } else { None })?;
            let peer = of_switch(first).find(|p| !p.uplink).map(|p| p.ifindex)?;
            let mut bench = Bench { peers: [Some(peer), None], ..Bench::default() };
            match kind {
                TunnelKind::Vxlan => bench.vxlan = Some(port.ifindex),
                TunnelKind::Geneve => bench.geneve = Some(port.ifindex),
                TunnelKind::Gre => return None,
            }
            let rough = Bench { peers: [Some(0), None], ..bench };
            Some((bench, Alike { switch: first, driver: String::new(), uplink: false, bench: rough }))
        }
        PortKind::Internal => None,
    }
}

fn tell(port: &Hardware, answer: Option<&Lacks>) {
    let Some(lacks) = answer else {
        tracing::debug!(target: "dpif_offload", "{} could not be probed", port.name);
        return;
    };
    tracing::info!(target: "dpif_offload", "{} was probed: {lacks}", port.name);
    for (feature, words) in lacks.all() {
        tracing::info!(target: "dpif_offload", "{} does not take {feature}: {words}", port.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offload::probe::{Feature, Thing};

    fn port(number: u32, ifindex: u32, kind: PortKind, uplink: bool) -> Hardware {
        Hardware {
            port: DpPort(number),
            ifindex,
            name: format!("p{number}"),
            kind,
            uplink,
            function: None,
            mtu: 1500,
            members: Vec::new(),
        }
    }

    fn functions(n: u32, first: u32) -> Vec<Hardware> {
        (1..=n).map(|i| port(i, first + i, PortKind::Switch(7), false)).collect()
    }

    /// Who is asked, with answers by turns.
    fn asked(probes: &mut Probes, ports: &[Hardware], now: Msec, answer: Option<Lacks>) -> (Vec<u32>, usize) {
        let mut who = Vec::new();
        let mut ask = |bench: &Bench| {
            who.extend(bench.port.or(bench.vxlan).or(bench.geneve));
            Ok(answer.clone())
        };
        let (lacks, _) = probes.of(ports, now, &|_| "driver".to_owned(), &mut ask);
        (who, lacks.len())
    }

    fn no_vlan() -> Option<Lacks> {
        let mut lacks = Lacks::default();
        lacks.add(Feature::Thing(Thing::PushVlan), "no".to_owned());
        Some(lacks)
    }

    #[test]
    fn a_hundred_functions_are_asked_once() {
        let mut probes = Probes::default();
        let mut ports = functions(100, 10);
        ports.push(port(101, 5, PortKind::Switch(7), true));
        assert_eq!(asked(&mut probes, &ports, 0, no_vlan()), (vec![11, 5], 101), "one function and the uplink");
        assert_eq!(asked(&mut probes, &ports, 99_000, no_vlan()), (vec![], 101));
        ports.pop();
        ports.push(port(102, 120, PortKind::Switch(7), false));
        assert_eq!(asked(&mut probes, &ports[50..], 99_500, no_vlan()).0.len(), 1, "those that answered are gone");
    }

    #[test]
    fn a_switch_whose_devices_are_new_is_asked_again() {
        let mut probes = Probes::default();
        assert_eq!(asked(&mut probes, &functions(2, 10), 0, no_vlan()).0, [11]);
        assert_eq!(asked(&mut probes, &functions(2, 20), 1, no_vlan()).0, [21], "its driver was reloaded");
        let vxlan = [functions(2, 20), vec![port(3, 30, PortKind::Tunnel(TunnelKind::Vxlan), false)]].concat();
        assert_eq!(asked(&mut probes, &vxlan, 2, no_vlan()).0, [21, 30], "the tunnel's device, and the others about it");
        assert_eq!(asked(&mut probes, &vxlan, 3, no_vlan()).0, [0; 0]);
    }

    #[test]
    fn who_gave_no_answer_is_asked_again_later_and_who_was_left_unclean_is_named() {
        let mut probes = Probes::default();
        assert_eq!(asked(&mut probes, &functions(2, 10), 0, None), (vec![11], 0));
        assert_eq!(asked(&mut probes, &functions(2, 10), AGAIN_MS - 1, None).0, [0; 0]);
        assert_eq!(asked(&mut probes, &functions(2, 10), AGAIN_MS, no_vlan()), (vec![11], 2));
        let mut fails = |_: &Bench| Err(HardwareError::Remove(String::new()));
        let (lacks, unclean) = Probes::default().of(&functions(1, 1), 0, &|_| String::new(), &mut fails);
        assert_eq!((lacks.len(), unclean), (0, vec![DpPort(1)]));
    }
}
