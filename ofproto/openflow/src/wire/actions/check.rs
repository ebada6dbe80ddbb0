//! Whether actions fit the flow they stand in: ports and tables that exist, fields that the match makes present
//! (`ofpacts_check_consistency`).
//!
//! A list of actions and a match enter; OVS's error leaves, or nothing. OpenFlow 1.0 has no error for a set that finds no header
//! and lets it pass; 1.1 and later refuse it (OpenFlow 1.1, 4.9: OFPBAC_MATCH_INCONSISTENT).

use super::decode::{check_enqueue_port, check_output_port};
use super::fields::{check_bundle_ports, check_dst, check_src};
use super::seen::{ETH_IPV4, ETH_IPV6, ETH_NSH, ETH_PBB, PROTO_TCP, PROTO_UDP, PT_NSH, Seen};
use crate::action::{CtAction, Learn, LearnDst, LearnSrc, NatAction, OfAction, Subfield};
use crate::error::OfError;
use crate::types::{TableId, Version};
use crate::wire::Codec;
use flow::fields::{Field, Need, Value};
use flow::key::{Key, Mask, VLAN_CFI};

const INCONSISTENT: OfError = OfError::OfpbacMatchInconsistent;
/// OFPM13_MAX
const METER_MAX: u32 = 0xffff_0000;
const PORT_FTP: u16 = 21;
const PORT_TFTP: u16 = 69;
const CS_INVALID: u8 = 0x10;

/// What the actions are checked against.
#[derive(Clone, Copy, Debug)]
pub struct Against<'a> {
    pub codec: &'a Codec<'a>,
    pub version: Version,
    /// The match, its wildcarded bits zero.
    pub key: &'a Key,
    pub mask: &'a Mask,
    /// The flow's table, 255 when it has none.
    pub table: TableId,
}

/// Checks a list of actions.
///
/// # Errors
/// `OFPBAC_MATCH_INCONSISTENT`, `OFPBAC_BAD_OUT_PORT`, `OFPBAC_BAD_TAG`, `OFPBAC_BAD_SET_LEN`, `OFPBIC_BAD_TABLE_ID`,
/// `OFPMMFC_INVALID_METER` and others, by action.
pub fn check(against: Against<'_>, actions: &[OfAction]) -> Result<(), OfError> {
    Checker { a: against, seen: Seen::of(against.key), before: Seen::of(against.key), in_set: false }.list(actions)
}

#[derive(Clone, Copy)]
struct Checker<'a> {
    a: Against<'a>,
    seen: Seen,
    before: Seen,
    /// In `write_actions`: what packets look like when an action set runs, nobody knows.
    in_set: bool,
}

impl Checker<'_> {
    fn list(mut self, actions: &[OfAction]) -> Result<(), OfError> {
        for action in actions {
            self.one(action)?;
            self.seen.after(action);
        }
        Ok(())
    }

    /// Refuses what finds no header, except in OpenFlow 1.0.
    fn sensible(&self, ok: bool) -> Result<(), OfError> {
        if ok || self.in_set || self.a.version == Version::V10 { Ok(()) } else { Err(INCONSISTENT) }
    }

    fn holds(&self, need: Need) -> bool {
        if need == Need::Nothing {
            true
        } else if self.seen == self.before {
            need.holds_in_match(self.a.key, self.a.mask)
        } else {
            need.holds_in_match(&self.seen.into_key(self.a.key), self.a.mask)
        }
    }

    fn src(&self, s: Subfield) -> Result<(), OfError> {
        check_src(self.a.codec, s)?;
        if self.holds(s.field.row().need) { Ok(()) } else { Err(INCONSISTENT) }
    }

    fn dst(&self, s: Subfield) -> Result<(), OfError> {
        self.src(s)?;
        check_dst(self.a.codec, s)
    }

    fn one(&self, action: &OfAction) -> Result<(), OfError> {
        let max_ports = self.a.codec.max_ports;
        match action {
            OfAction::Output { port, .. } | OfAction::OutputTrunc { port, .. } => check_output_port(*port, max_ports),
            OfAction::Enqueue { port, .. } => check_enqueue_port(*port, max_ports),
            OfAction::Bundle(bundle) => {
                bundle.dst.map_or(Ok(()), |dst| self.dst(dst))?;
                check_bundle_ports(bundle, max_ports)
            }
            OfAction::OutputReg { src, .. } | OfAction::StackPush(src) => self.src(*src),
            OfAction::StackPop(dst) => self.dst(*dst),
            OfAction::Multipath(m) => self.dst(m.dst),
            OfAction::RegMove { src, dst, .. } => self.src(*src).and_then(|()| self.dst(*dst)),
            OfAction::SetField { field, .. } => {
                let tagged = *field != Field::VlanVid || self.seen.has_vlan();
                if self.holds(field.row().need) && tagged { Ok(()) } else { Err(INCONSISTENT) }
            }
            OfAction::DeleteField(field) if field.tun_metadata_number().is_none() => Err(OfError::OfpbacBadArgument),
            OfAction::SetVlanVid { push_if_needed, .. } | OfAction::SetVlanPcp { push_if_needed, .. } => {
                self.sensible(self.seen.has_vlan() || *push_if_needed)
            }
            OfAction::StripVlan { .. } => self.sensible(self.seen.has_vlan()),
            OfAction::PushVlan { .. } if self.seen.vlan2_tci & VLAN_CFI != 0 => Err(OfError::OfpbacBadTag),
            OfAction::SetIpv4Src(_) | OfAction::SetIpv4Dst(_) => self.sensible(self.seen.dl_type() == ETH_IPV4),
            OfAction::SetIpDscp(_) | OfAction::SetIpEcn(_) | OfAction::SetIpTtl(_) | OfAction::DecTtl { .. } => {
                self.sensible(self.seen.is_ip())
            }
            OfAction::SetL4Src(_) | OfAction::SetL4Dst(_) => self.sensible(self.seen.has_ports()),
            OfAction::SetMplsLabel(_) | OfAction::SetMplsTc(_) | OfAction::SetMplsTtl(_) | OfAction::DecMplsTtl => {
                self.sensible(self.seen.is_mpls())
            }
            OfAction::PushMpls { .. } => self.sensible(self.seen.packet_type == 0),
            OfAction::PopMpls { .. } => self.sensible(self.seen.packet_type == 0 && self.seen.is_mpls()),
            OfAction::CopyTtlOut | OfAction::CopyTtlIn => self.sensible(self.seen.is_mpls() || self.seen.is_ip()),
            OfAction::PushPbb => self.sensible(self.seen.packet_type == 0),
            OfAction::PopPbb => self.sensible(self.seen.packet_type == 0 && self.seen.eth_type == ETH_PBB),
            OfAction::DecNshTtl => self.sensible(self.seen.packet_type == PT_NSH || self.seen.eth_type == ETH_NSH),
            OfAction::FinTimeout { .. } => self.sensible(self.seen.nw_proto == PROTO_TCP),
            OfAction::Resubmit { with_ct: true, .. } if !self.holds(Need::Ct) => Err(INCONSISTENT),
            OfAction::Learn(learn) => self.learn(learn),
            OfAction::Clone(list) => Checker { before: self.before, ..*self }.list(list),
            OfAction::WriteActions(list) => Checker { before: self.before, in_set: true, ..*self }.list(list),
            OfAction::Ct(ct) => self.ct(ct),
            OfAction::Nat(nat) => self.nat(nat),
            OfAction::Meter(id) if *id == 0 || *id > METER_MAX => Err(OfError::OfpmmfcInvalidMeter),
            OfAction::GotoTable(to) => self.goto(*to),
            OfAction::PushVlan { .. }
            | OfAction::DeleteField(_)
            | OfAction::Resubmit { .. }
            | OfAction::Meter(_)
            | OfAction::Controller(_)
            | OfAction::Group(_)
            | OfAction::SetEthSrc(_)
            | OfAction::SetEthDst(_)
            | OfAction::SetTunnel { .. }
            | OfAction::SetQueue(_)
            | OfAction::PopQueue
            | OfAction::Conjunction { .. }
            | OfAction::Note(_)
            | OfAction::Exit
            | OfAction::Sample(_)
            | OfAction::CtClear
            | OfAction::Encap(_)
            | OfAction::Decap { .. }
            | OfAction::CheckPktLarger { .. }
            | OfAction::DebugRecirc
            | OfAction::DebugSlow
            | OfAction::ClearActions
            | OfAction::WriteMetadata { .. } => Ok(()),
        }
    }

    /// Only forward, and only to tables that exist.
    fn goto(&self, to: TableId) -> Result<(), OfError> {
        let n_tables = self.a.codec.n_tables;
        let backward = self.a.table != TableId::ALL && to <= self.a.table;
        if backward || n_tables != 255 && to.0 >= n_tables { Err(OfError::OfpbicBadTableId) } else { Ok(()) }
    }

    fn ct(&self, ct: &CtAction) -> Result<(), OfError> {
        let invalid = self.a.key.ct_state & CS_INVALID != 0;
        let proto = self.seen.nw_proto;
        if !self.seen.is_ip()
            || invalid && ct.commit
            || ct.alg == PORT_FTP && proto != PROTO_TCP
            || ct.alg == PORT_TFTP && proto != PROTO_UDP
        {
            return Err(INCONSISTENT);
        }
        match ct.zone_src {
            Some(src) => self.src(src),
            None => self.list(&ct.actions),
        }
    }

    fn nat(&self, nat: &NatAction) -> Result<(), OfError> {
        let fits = match nat.addr {
            None => self.seen.is_ip(),
            Some((addr, _)) if addr.is_ipv4() => self.seen.dl_type() == ETH_IPV4,
            Some(_) => self.seen.dl_type() == ETH_IPV6,
        };
        if fits { Ok(()) } else { Err(INCONSISTENT) }
    }

    /// The learned flow's match grows step by step; each step must find its prerequisites in it.
    fn learn(&self, learn: &Learn) -> Result<(), OfError> {
        let mut key = Key::ZERO;
        let mut mask = Mask::ZERO;
        for spec in &learn.specs {
            if let LearnSrc::Field(src) = &spec.src {
                self.src(*src)?;
            }
            let (dst, load) = match &spec.dst {
                LearnDst::Match(dst) => (*dst, false),
                LearnDst::Load(dst) => (*dst, true),
                LearnDst::Output => continue,
            };
            check_src(self.a.codec, dst)?;
            if !dst.field.row().need.holds_in_match(&key, &mask) {
                return Err(INCONSISTENT);
            }
            if load {
                check_dst(self.a.codec, dst)?;
            } else if let LearnSrc::Immediate(value) = &spec.src {
                write(dst, value, &mut key, &mut mask);
            }
        }
        Ok(())
    }
}

/// Writes bits of a field into a match. (Tunnel options lie elsewhere, and nothing needs them.)
fn write(dst: Subfield, value: &Value, key: &mut Key, mask: &mut Mask) {
    if dst.field.tun_metadata_number().is_some() {
        return;
    }
    let ones = Value::ones(usize::from(dst.bits)).low() << dst.ofs;
    let old = dst.field.get(key);
    dst.field.set(key, old & !ones | (value.low() << dst.ofs & ones));
    let had = dst.field.mask(mask);
    dst.field.set_mask(mask, had | ones);
}
