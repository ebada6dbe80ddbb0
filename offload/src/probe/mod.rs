//! What a port's hardware takes, as the port itself has answered: what a rule asks for beside being there, and what a port was found to lack.
//!
//! What enters: rules; the answers to small rules that ask for one thing each (`rows`), put in and taken out again by a back end (`tc::probe`).
//! What leaves: refusals that name what is lacking. Neighbours: `plan` (which asks last of all), `capabilities` (which carries what ports
//! lack).
//!
//! The safe direction: what was not asked for, or not answered plainly, counts as taken. A rule that the driver refuses in the end costs a
//! try and a word of its own; a thing that is wrongly said to be lacking costs offload for good (decision 0092).

mod rows;

pub use rows::{Bench, questions};

use crate::capabilities::{Capabilities, PortKind, TunnelKind};
use crate::keys::FlowerKey;
use crate::refusal::{Reason, Refusal};
use crate::rule::{Act, Fragment, Header, IS_FIRST, Link, Rule, TunnelMatch};
use flow::hash::Map;
use std::fmt;

macro_rules! things {
    ($( $id:ident $name:literal; )*) => {
        /// What is no key by itself: forms of a match, and actions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Thing { $( $id ),* }

        impl Thing {
            /// All of them.
            pub const ALL: &'static [Self] = &[ $( Self::$id ),* ];

            /// As the operator reads it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$id => $name ),* }
            }
        }
    };
}

things! {
    Vlan "vlan";
    TwoVlans "vlan(two-tags)";
    Fragment "ip(frag)";
    FirstFragment "ip(frag=first)";
    CtState "ct_state";
    TunnelId "tunnel(tun_id)";
    TunnelFlags "tunnel(flags)";
    GeneveOptions "tunnel(geneve)";
    GroupPolicy "tunnel(vxlan(gbp))";
    Copy "several-outputs";
    ToHost "output-to-host";
    Drop "drop";
    Recirc "recirc";
    PushVlan "push_vlan";
    PopVlan "pop_vlan";
    PushEth "push_eth";
    PopEth "pop_eth";
    PushMpls "push_mpls";
    PopMpls "pop_mpls";
    SetMpls "set(mpls)";
    SetEth "set(eth)";
    SetIpv4 "set(ipv4)";
    SetIpv6 "set(ipv6)";
    SetTcp "set(tcp)";
    SetUdp "set(udp)";
    EncapVxlan "tunnel-push(vxlan)";
    EncapGeneve "tunnel-push(geneve)";
    EncapGre "tunnel-push(gre)";
    Decap "tunnel-pop";
    Ct "ct";
    CtClear "ct_clear";
    Meter "meter";
    CheckPktLen "check_pkt_len";
}

/// What a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feature {
    Key(FlowerKey),
    Thing(Thing),
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key(key) => key.row().name,
            Self::Thing(thing) => thing.name(),
        })
    }
}

/// What a port was found to lack, with the driver's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lacks {
    missing: Map<Feature, String>,
    /// Rules are taken at low preferences only.
    pub low: bool,
}

impl Lacks {
    /// The port does not take it.
    pub fn add(&mut self, feature: Feature, words: String) {
        self.missing.insert(feature, words);
    }

    /// Whether nothing is lacking.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }

    /// Whether this is lacking.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.missing.contains_key(&feature)
    }

    /// All of it, in the order of the tables.
    #[must_use]
    pub fn all(&self) -> Vec<(Feature, &str)> {
        let mut all: Vec<_> = self.missing.iter().map(|(f, words)| (*f, words.as_str())).collect();
        all.sort_unstable();
        all
    }
}

impl fmt::Display for Lacks {
    /// `takes all`, `lacks ip(ttl) pop_vlan`, `low preferences, takes all`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low {
            f.write_str("low preferences, ")?;
        }
        if self.is_empty() {
            return f.write_str("takes all");
        }
        f.write_str("lacks")?;
        self.all().iter().try_for_each(|(feature, _)| write!(f, " {feature}"))
    }
}

/// Refuses a rule for the first thing that its port was found to lack.
pub(crate) fn check(rule: &Rule, can: &Capabilities) -> Result<(), Refusal> {
    let Some(lacks) = can.lacks.get(&rule.port).filter(|lacks| !lacks.is_empty()) else { return Ok(()) };
    match features(rule, can).into_iter().find(|f| lacks.has(*f)) {
        Some(feature) => Err(Refusal::new(Reason::Probe, feature.to_string())),
        None => Ok(()),
    }
}

/// All that a rule asks for. Every part of it is named, so that a new one is judged here.
#[must_use]
pub fn features(rule: &Rule, can: &Capabilities) -> Vec<Feature> {
    let Rule { port: _, chain: _, link, items, fragment, ct_state, tunnel, acts, nought: _ } = rule;
    let mut out: Vec<Feature> = items.iter().map(|i| Feature::Key(i.key)).collect();
    let mut see = |thing: Thing| out.push(Feature::Thing(thing));
    match link {
        Link { tags: [None, _], .. } => {}
        Link { tags: [Some(_), None], .. } => see(Thing::Vlan),
        Link { tags: [Some(_), Some(_)], .. } => see(Thing::TwoVlans),
    }
    if let Some(Fragment { value: _, mask }) = fragment {
        see(if mask & IS_FIRST == 0 { Thing::Fragment } else { Thing::FirstFragment });
    }
    if ct_state.is_some() {
        see(Thing::CtState);
    }
    if let Some(TunnelMatch { id, flags: _, flags_mask, geneve, gbp }) = tunnel {
        see(Thing::Decap);
        let parts = [
            (id.is_some(), Thing::TunnelId),
            (*flags_mask != 0, Thing::TunnelFlags),
            (geneve.is_some(), Thing::GeneveOptions),
            (gbp.is_some(), Thing::GroupPolicy),
        ];
        parts.into_iter().filter(|(there, _)| *there).for_each(|(_, thing)| see(thing));
    }
    acts.iter().for_each(|act| act_asks(act, can, &mut see));
    out
}

fn act_asks(act: &Act, can: &Capabilities, see: &mut impl FnMut(Thing)) {
    match act {
        Act::Output { port, ingress, last } => {
            match can.ports.get(port) {
                Some(PortKind::Tunnel(TunnelKind::Vxlan)) => see(Thing::EncapVxlan),
                Some(PortKind::Tunnel(TunnelKind::Geneve)) => see(Thing::EncapGeneve),
                Some(PortKind::Tunnel(TunnelKind::Gre)) => see(Thing::EncapGre),
                Some(PortKind::Switch(_) | PortKind::Internal) | None => {}
            }
            if *ingress {
                see(Thing::ToHost);
            }
            if !last {
                see(Thing::Copy);
            }
        }
        Act::Drop => see(Thing::Drop),
        Act::Goto(_) => see(Thing::Recirc),
        Act::VlanPush { .. } => see(Thing::PushVlan),
        Act::VlanPop => see(Thing::PopVlan),
        Act::EthPush { .. } => see(Thing::PushEth),
        Act::EthPop => see(Thing::PopEth),
        Act::MplsPush { .. } => see(Thing::PushMpls),
        Act::MplsPop { .. } => see(Thing::PopMpls),
        Act::MplsSet { .. } => see(Thing::SetMpls),
        Act::Pedit { header, words: _ } => see(match header {
            Header::Eth => Thing::SetEth,
            Header::Ipv4 => Thing::SetIpv4,
            Header::Ipv6 => Thing::SetIpv6,
            Header::Tcp => Thing::SetTcp,
            Header::Udp => Thing::SetUdp,
        }),
        // Checksums belong to the rewrite before them; the release of a tunnel to what was matched or set of it.
        Act::Csum(_) | Act::TunnelSet(_) | Act::TunnelRelease => {}
        // No megaflow asks for these.
        Act::Skbedit(_) | Act::Sample { .. } => {}
        Act::Ct(_) => see(Thing::Ct),
        Act::CtClear => see(Thing::CtClear),
        Act::Police { .. } => see(Thing::Meter),
        Act::Length { .. } => see(Thing::CheckPktLen),
    }
}
