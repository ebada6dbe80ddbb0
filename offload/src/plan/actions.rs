//! The actions of a rule. Everything that changes packets stands in the order of the megaflow; the list ends with a verdict.
//!
//! In a megaflow an output sends a copy of the packet as it is then, and the list goes on; in tc the last output takes the packet itself
//! and the others mirror it. What stands behind the last output or recirculation has no effect and would be a fault of translation;
//! it refuses here, because it cannot be decoded again.

use super::rewrite::pedit;
use super::tunnel::tunnel_set;
use crate::capabilities::{ACTIONS_MAX, CHAIN_MAX, Capabilities, PortKind};
use crate::keys::Known;
use crate::refusal::{Reason, Refusal};
use crate::rule::{Act, CtAct, CtNat, Rule};
use flow::action::{Action, Ct, Nat, SetAttr, SetField};
use flow::key::Key;
use flow::wire::eth_type;
use flow::{DpPort, Megaflow};

/// The actions of a canonical megaflow whose match is `rule`.
pub(super) fn actions(flow: &Megaflow, rule: &Rule, can: &Capabilities) -> Result<Vec<Act>, Refusal> {
    let known = Known { key: &flow.key, mask: &flow.mask };
    let mut list = List { acts: Vec::new(), can, known, in_port: rule.port, tunnel: false, csum: 0, tags: tags(&flow.key) };
    // The outer header of a packet that came out of a tunnel stays with it until it is released, and would be matched again
    // in another chain: there it must stay.
    let leaves = flow.actions.iter().any(|a| matches!(a, Action::Output(_)));
    if rule.tunnel.is_some() && leaves {
        if flow.actions.iter().any(|a| matches!(a, Action::Recirc(_))) {
            return Err(Refusal::new(Reason::ActionOrder, "output and recirculation out of a tunnel"));
        }
        list.acts.push(Act::TunnelRelease);
    }
    list.all(&flow.actions)?;
    if list.acts.len() > ACTIONS_MAX {
        return Err(Refusal::new(Reason::ActionCount, format!("{} actions", list.acts.len())));
    }
    Ok(list.acts)
}

const fn tags(key: &Key) -> usize {
    (key.vlan_tci[0] as usize >> 4 & 1) + (key.vlan2_tci[0] as usize >> 4 & 1)
}

struct List<'a> {
    acts: Vec<Act>,
    can: &'a Capabilities,
    known: Known<'a>,
    in_port: DpPort,
    /// Whether the next output, which is to a tunnel device, has its parameters.
    tunnel: bool,
    /// Checksums that the rewrites so far have spoiled.
    csum: u32,
    /// VLAN tags of the packet at this point.
    tags: usize,
}

impl<'a> List<'a> {
    fn all(&mut self, actions: &'a [Action]) -> Result<(), Refusal> {
        self.each(actions)?;
        let ended = matches!(self.acts.last(), Some(Act::Output { last: true, .. } | Act::Goto(_) | Act::Length { .. }));
        let branches = self.acts.iter().any(|a| matches!(a, Act::Length { .. }));
        if !ended && !branches {
            self.acts.push(Act::Drop);
        }
        Ok(())
    }

    /// A list in its order; checksums are mended behind each run of rewrites.
    fn each(&mut self, actions: &'a [Action]) -> Result<(), Refusal> {
        for (i, action) in actions.iter().enumerate() {
            if !matches!(action, Action::Set(_)) {
                self.mend();
            }
            self.one(action, &actions[i + 1..])?;
        }
        self.mend();
        Ok(())
    }

    /// Makes the checksums that rewrites have spoiled.
    fn mend(&mut self) {
        if self.csum != 0 {
            self.acts.push(Act::Csum(self.csum));
            self.csum = 0;
        }
    }

    fn one(&mut self, action: &'a Action, rest: &[Action]) -> Result<(), Refusal> {
        let last = rest.is_empty();
        let act = match action {
            Action::Output(port) => return self.output(*port, last),
            Action::Set(set) => return self.set(set, rest),
            Action::Recirc(id) if !last || *id > CHAIN_MAX => {
                return Err(Refusal::new(Reason::ActionOrder, format!("recirc({id:#x})")));
            }
            Action::Recirc(id) => Act::Goto(*id),
            Action::PushVlan { tpid, tci } => return self.push_vlan(*tpid, *tci),
            Action::PopVlan => return self.pop_vlan(),
            Action::PushMpls { lse, eth_type } => return self.push_mpls(*lse, *eth_type),
            Action::PopMpls { eth_type } => Act::MplsPop { proto: *eth_type },
            Action::PushEth { src, dst } if self.can.eth_push_pop => Act::EthPush { src: *src, dst: *dst },
            Action::PopEth if self.can.eth_push_pop => Act::EthPop,
            Action::PushEth { .. } => return Err(Refusal::new(Reason::Action, "push_eth")),
            Action::PopEth => return Err(Refusal::new(Reason::Action, "pop_eth")),
            Action::Ct(ct) => Act::Ct(Box::new(self.ct(ct)?)),
            Action::CtClear if self.can.ct => Act::CtClear,
            Action::CtClear => return Err(Refusal::new(Reason::Action, "ct_clear")),
            Action::Meter(id) => match self.can.meters.get(id) {
                Some(Ok(limit)) => Act::Police { meter: *id, limit: *limit },
                Some(Err(what)) => return Err(Refusal::new(Reason::Meter, format!("meter({id}:{what})"))),
                None => return Err(Refusal::new(Reason::Meter, format!("meter({id})"))),
            },
            Action::CheckPktLen { size, greater, less_equal } => return self.check_pkt_len(*size, greater, less_equal, last),
            Action::Userspace(_) => return Err(Refusal::new(Reason::Userspace, "userspace")),
            Action::Sample { .. } => return Err(Refusal::new(Reason::Sampling, "sample")),
            Action::Psample { .. } => return Err(Refusal::new(Reason::Sampling, "psample")),
            Action::Hash { .. } => return Err(Refusal::new(Reason::Action, "hash")),
            Action::Trunc(_) => return Err(Refusal::new(Reason::Action, "trunc")),
            Action::PushNsh(_) => return Err(Refusal::new(Reason::Action, "push_nsh")),
            Action::PopNsh => return Err(Refusal::new(Reason::Action, "pop_nsh")),
            Action::PushPbb { .. } => return Err(Refusal::new(Reason::Action, "push_pbb")),
            Action::CopyTtl { .. } => return Err(Refusal::new(Reason::Action, "copy_ttl")),
            Action::PopPbb => return Err(Refusal::new(Reason::Action, "pop_pbb")),
            Action::Clone(_) => return Err(Refusal::new(Reason::ActionOrder, "clone")),
            Action::AddMpls { .. } => return Err(Refusal::new(Reason::Action, "add_mpls")),
            Action::DecTtl { .. } => return Err(Refusal::new(Reason::Action, "dec_ttl")),
            Action::Drop(_) => return Err(Refusal::new(Reason::ActionOrder, "drop")),
            Action::TunnelPush(_) => return Err(Refusal::new(Reason::TunnelPort, "tnl_push")),
            Action::TunnelPop(_) => return Err(Refusal::new(Reason::TunnelPort, "tnl_pop")),
            Action::LbOutput(_) => return Err(Refusal::new(Reason::Action, "lb_output")),
        };
        self.acts.push(act);
        Ok(())
    }

    fn output(&mut self, port: DpPort, last: bool) -> Result<(), Refusal> {
        let ports = &self.can.ports;
        let kind = *ports.get(&port).ok_or_else(|| Refusal::of_port(Reason::OutPort, port))?;
        if let (Some(PortKind::Switch(from)), PortKind::Switch(to)) = (ports.get(&self.in_port), kind)
            && *from != to
        {
            return Err(Refusal::of_port(Reason::OtherSwitch, port));
        }
        let encapsulated = matches!(kind, PortKind::Tunnel(_));
        if encapsulated != std::mem::take(&mut self.tunnel) {
            return Err(Refusal::of_port(Reason::TunnelPort, port));
        }
        self.acts.push(Act::Output { port, ingress: kind == PortKind::Internal, last });
        if encapsulated && !last {
            self.acts.push(Act::TunnelRelease);
        }
        Ok(())
    }

    fn set(&mut self, set: &SetField, rest: &[Action]) -> Result<(), Refusal> {
        match set.attr {
            SetAttr::Mpls => self.set_mpls(set),
            SetAttr::Tunnel => self.set_tunnel(set, rest),
            SetAttr::Priority
            | SetAttr::Mark
            | SetAttr::Eth
            | SetAttr::Ipv4
            | SetAttr::Ipv6
            | SetAttr::Tcp
            | SetAttr::Udp
            | SetAttr::Sctp
            | SetAttr::Icmp
            | SetAttr::Icmpv6
            | SetAttr::Arp
            | SetAttr::Nd
            | SetAttr::NdExt
            | SetAttr::Nsh
            | SetAttr::Pbb => {
                let (act, spoiled) = pedit(set, self.known)?;
                self.acts.push(act);
                self.csum |= spoiled;
                Ok(())
            }
        }
    }

    /// The parameters belong to the next output, whose device says what they may be.
    fn set_tunnel(&mut self, set: &SetField, rest: &[Action]) -> Result<(), Refusal> {
        self.mend();
        let next = rest.iter().find_map(|a| if let Action::Output(port) = a { Some(*port) } else { None });
        let Some(PortKind::Tunnel(kind)) = next.and_then(|port| self.can.ports.get(&port)) else {
            return Err(Refusal::new(Reason::ActionOrder, "set(tunnel())"));
        };
        if std::mem::replace(&mut self.tunnel, true) {
            return Err(Refusal::new(Reason::ActionOrder, "set(tunnel()) twice"));
        }
        self.acts.push(Act::TunnelSet(Box::new(tunnel_set(set, *kind, self.can)?)));
        Ok(())
    }

    /// Label, class, bottom and TTL, each whole.
    fn set_mpls(&mut self, set: &SetField) -> Result<(), Refusal> {
        self.mend();
        let (value, mask) = (u32::from_be_bytes(set.value.mpls_lse0), u32::from_be_bytes(set.mask.mpls_lse0));
        let part = |lo: u32, bits: u32| -> Result<Option<u32>, Refusal> {
            let all = (1 << bits) - 1;
            match mask >> lo & all {
                0 => Ok(None),
                m if m == all => Ok(Some(value >> lo & all)),
                _ => Err(Refusal::new(Reason::ActionOption, "set(mpls)")),
            }
        };
        let byte = |v: u32| u8::try_from(v).expect("at most eight bits");
        let (label, tc, bos, ttl) = (part(12, 20)?, part(9, 3)?.map(byte), part(8, 1)?.map(byte), part(0, 8)?.map(byte));
        self.acts.push(Act::MplsSet { label, tc, bos, ttl });
        Ok(())
    }

    fn push_vlan(&mut self, tpid: u16, tci: u16) -> Result<(), Refusal> {
        if tpid != eth_type::VLAN && tpid != eth_type::QINQ {
            return Err(Refusal::new(Reason::ActionOption, format!("push_vlan(tpid={tpid:#06x})")));
        }
        self.tags += 1;
        self.acts.push(Act::VlanPush { tpid, vid: tci & 0x0fff, pcp: tci.to_be_bytes()[0] >> 5 });
        Ok(())
    }

    fn pop_vlan(&mut self) -> Result<(), Refusal> {
        // OVS pops nothing of a packet without a tag; what tc does then is another matter.
        self.tags = self.tags.checked_sub(1).ok_or_else(|| Refusal::new(Reason::ActionOrder, "pop_vlan"))?;
        self.acts.push(Act::VlanPop);
        Ok(())
    }

    fn push_mpls(&mut self, lse: u32, proto: u16) -> Result<(), Refusal> {
        if proto != eth_type::MPLS && proto != eth_type::MPLS_MULTICAST {
            return Err(Refusal::new(Reason::ActionOption, format!("push_mpls(eth_type={proto:#06x})")));
        }
        self.acts.push(Act::MplsPush { lse, proto });
        Ok(())
    }

    /// Takes every option of the action apart: one that is not judged here does not compile.
    fn ct(&self, ct: &Ct) -> Result<CtAct, Refusal> {
        let Ct { commit, force, zone, mark, label, helper, timeout, nat, event_mask } = ct;
        let option = |what: &str| Err(Refusal::new(Reason::ActionOption, format!("ct({what})")));
        if !self.can.ct {
            return Err(Refusal::new(Reason::Action, "ct"));
        }
        if helper.is_some() {
            return option("helper");
        }
        if timeout.is_some() {
            return option("timeout");
        }
        if event_mask.is_some() {
            return option("eventmask");
        }
        // OVS says force_commit for both; tc has a flag for each.
        let commit = *commit || *force;
        if (mark.is_some() || label.is_some()) && !commit {
            return option("mark without commit");
        }
        // Fragments are reassembled by software before they are tracked.
        if !self.known.is_whole() {
            return Err(Refusal::new(Reason::Fragment, "ct"));
        }
        let nat = nat.as_ref().map(nat_of).transpose()?;
        Ok(CtAct { commit, force: *force, zone: *zone, mark: *mark, label: *label, nat })
    }

    /// Only at the end: each branch ends the packet's way. tc's order is: police, what shorter packets get, what longer ones get.
    fn check_pkt_len(&mut self, size: u16, greater: &'a [Action], less_equal: &'a [Action], last: bool) -> Result<(), Refusal> {
        if !self.can.police_length {
            return Err(Refusal::new(Reason::Action, "check_pkt_len"));
        }
        if !last || self.acts.iter().any(|a| matches!(a, Act::Length { .. })) {
            return Err(Refusal::new(Reason::ActionOrder, "check_pkt_len"));
        }
        let at = self.acts.len();
        let tags = self.tags;
        self.acts.push(Act::Length { mtu: size.into(), jump: 0 });
        self.branch(less_equal)?;
        let jump = u32::try_from(self.acts.len() - at).expect("a rule has few actions");
        self.acts[at] = Act::Length { mtu: size.into(), jump };
        self.tags = tags;
        self.branch(greater)
    }

    fn branch(&mut self, actions: &'a [Action]) -> Result<(), Refusal> {
        let from = self.acts.len();
        self.each(actions)?;
        if !matches!(self.acts[from..].last(), Some(Act::Output { last: true, .. } | Act::Goto(_))) {
            self.acts.push(Act::Drop);
        }
        Ok(())
    }
}

fn nat_of(nat: &Nat) -> Result<CtNat, Refusal> {
    let Nat { src, dst, addr, ports, persistent, hash, random } = nat;
    for (set, what) in [(persistent, "persistent"), (hash, "hash"), (random, "random")] {
        if *set {
            return Err(Refusal::new(Reason::ActionOption, format!("ct(nat({what}))")));
        }
    }
    if !(*src || *dst) && (addr.is_some() || ports.is_some()) || (*src || *dst) && addr.is_none() {
        return Err(Refusal::new(Reason::ActionOption, "ct(nat())"));
    }
    Ok(CtNat { src: *src, dst: *dst, addr: *addr, ports: *ports })
}
