//! What the database is told of the protocols.

use crate::bridge::Bundle;
use crate::bridge::{Bridge, Port};
use crate::{bfd, cfm, lldp, rstp, stp};
use flow::Msec;
use openflow::OfPort;

/// What came of a port (a row of Port) that the database shows.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct PortStatus {
    pub bridge: String,
    pub name: String,
    /// `bond_active_slave`: of a bond, the MAC of the active member, zero for none.
    pub bond_active_mac: Option<[u8; 6]>,
    pub stp: Option<stp::PortStatus>,
    pub rstp: Option<rstp::PortStatus>,
    /// What auto-attach wants of its trunks.
    pub auto_attach: lldp::Vlans,
}

/// What came of an interface's protocols.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct LinkStatus {
    pub bfd: Vec<(String, String)>,
    pub cfm: Option<cfm::Status>,
    pub lacp_current: Option<bool>,
}

/// The protocols of an interface.
pub(crate) fn link_status(bridge: &Bridge, port: &Port, now: Msec) -> LinkStatus {
    let mut machines = bridge.protocols.lock();
    let lacp = port.bundle.and_then(|b| machines.lacps.get(&b));
    let lacp_current = lacp.map(|l| l.is_current(port.number));
    let sessions = machines.sessions.get_mut(&port.number);
    let (bfd, cfm) = sessions.map_or((None, None), |s| (s.bfd.as_mut(), s.cfm.as_ref()));
    LinkStatus {
        bfd: bfd.map(|b: &mut bfd::Session| b.status(now)).unwrap_or_default(),
        cfm: cfm.map(cfm::Session::status),
        lacp_current,
    }
}

/// What a tree says of a port that is no bond.
fn of_only<T, S>(bundle: &Bundle, tree: Option<&T>, status: impl Fn(&T, OfPort) -> Option<S>) -> Option<S> {
    match bundle.ports[..] {
        [only] => status(tree?, only),
        [] | [_, ..] => None,
    }
}

/// The trees of a bridge.
pub(crate) fn tree_status(bridge: &Bridge) -> (Option<stp::BridgeStatus>, Option<rstp::BridgeStatus>) {
    let machines = bridge.protocols.lock();
    (machines.stp.as_ref().map(stp::Stp::status), machines.rstp.as_ref().map(rstp::Rstp::status))
}

/// The ports of a bridge.
pub(crate) fn port_status(bridge: &Bridge, now: Msec) -> Vec<PortStatus> {
    let machines = bridge.protocols.lock();
    let vlans = |bundle: &Bundle| {
        let sessions = bundle.ports.iter().filter_map(|port| machines.sessions.get(port)?.lldp.as_ref());
        sessions.map(|session| session.vlans(now)).fold(lldp::Vlans::default(), |mut all, of_one| {
            all.granted.extend(of_one.granted);
            all.withdrawn.extend(of_one.withdrawn);
            all
        })
    };
    let of = |bundle: &Bundle| PortStatus {
        bridge: bridge.name.clone(),
        name: bundle.name.clone(),
        bond_active_mac: machines.bonds.get(&bundle.id).map(|b| b.bond.active_mac()),
        stp: of_only(bundle, machines.stp.as_ref(), |stp, port| stp.port_status(port, now)),
        rstp: of_only(bundle, machines.rstp.as_ref(), |rstp, port| rstp.port_status(port, now)),
        auto_attach: vlans(bundle),
    };
    bridge.bundles.values().map(of).collect()
}
