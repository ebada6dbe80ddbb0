//! OpenFlow actions and instructions in one form for all versions (what OVS calls ofpacts).
//!
//! The order of variants is that of reference/actions.md. `wire` rooms encode and decode them, `text` prints and parses them.

use crate::types::{GroupId, OfPort, TableId};
use flow::fields::Field;
use std::net::IpAddr;

/// Part of a field: bits `ofs .. ofs + bits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subfield {
    pub field: Field,
    pub ofs: u16,
    pub bits: u16,
}

/// A value as wide as any field (tun_metadata: 124 bytes), right-aligned, big endian. Short ones are the common case.
pub type FieldValue = flow::fields::Value;

/// One action (or, for the last rows, an instruction), independent of the version that carried it.
#[derive(Clone, Debug, PartialEq)]
pub enum OfAction {
    Output {
        port: OfPort,
        max_len: u16,
    },
    /// output:NXM[a..b]
    OutputReg {
        src: Subfield,
        max_len: u16,
    },
    OutputTrunc {
        port: OfPort,
        max_len: u32,
    },
    Controller(Box<Controller>),
    Enqueue {
        port: OfPort,
        queue: u32,
    },
    Group(GroupId),
    Bundle(Box<Bundle>),
    /// `push_vlan_if_needed`: OpenFlow 1.0 semantics add a tag; `flow_has_vlan` is found by checking.
    SetVlanVid {
        vid: u16,
        push_if_needed: bool,
    },
    SetVlanPcp {
        pcp: u8,
        push_if_needed: bool,
    },
    /// strip_vlan, or pop_vlan of OpenFlow 1.1+: one meaning, two names
    StripVlan {
        pop: bool,
    },
    PushVlan {
        ethertype: u16,
    },
    SetEthSrc([u8; 6]),
    SetEthDst([u8; 6]),
    SetIpv4Src([u8; 4]),
    SetIpv4Dst([u8; 4]),
    /// mod_nw_tos: DSCP bits of the TOS byte
    SetIpDscp(u8),
    SetIpEcn(u8),
    SetIpTtl(u8),
    SetL4Src(u16),
    SetL4Dst(u16),
    RegMove {
        src: Subfield,
        dst: Subfield,
        /// Came to OpenFlow 1.3 as ONF's copy-field (extension 320), and goes back to it as that.
        onf: bool,
    },
    SetField {
        field: Field,
        value: FieldValue,
        mask: FieldValue,
        form: SetForm,
    },
    StackPush(Subfield),
    StackPop(Subfield),
    /// dec_ttl; `controllers` are the ids of those that are told of an expired packet, if the action names them: even none. Where it
    /// does not, controller 0 is told.
    DecTtl {
        controllers: Option<Vec<u16>>,
    },
    SetMplsLabel(u32),
    SetMplsTc(u8),
    SetMplsTtl(u8),
    DecMplsTtl,
    PushMpls {
        ethertype: u16,
    },
    PopMpls {
        ethertype: u16,
    },
    /// push_pbb:0x88e7, the only Ethernet type there is for an I-TAG
    PushPbb,
    PopPbb,
    /// copy_ttl_out: the TTL beneath the outermost header that has one into it
    CopyTtlOut,
    /// copy_ttl_in: the other way
    CopyTtlIn,
    SetTunnel {
        id: u64,
        wide: bool,
    },
    SetQueue(u32),
    PopQueue,
    FinTimeout {
        idle: u16,
        hard: u16,
    },
    Resubmit {
        port: OfPort,
        table: TableId,
        with_ct: bool,
        has_table: bool,
    },
    Learn(Box<Learn>),
    Conjunction {
        id: u32,
        clause: u8,
        n_clauses: u8,
    },
    Multipath(Box<Multipath>),
    Note(Vec<u8>),
    Exit,
    Sample(Box<Sample>),
    Clone(Vec<Self>),
    Ct(Box<CtAction>),
    Nat(Box<NatAction>),
    CtClear,
    Encap(Encap),
    Decap {
        new_packet_type: Option<u32>,
    },
    DecNshTtl,
    CheckPktLarger {
        len: u16,
        dst: Subfield,
    },
    DeleteField(Field),
    DebugRecirc,
    DebugSlow,
    /// Action form of OpenFlow 1.5, or instruction before.
    Meter(u32),
    ClearActions,
    WriteActions(Vec<Self>),
    WriteMetadata {
        value: u64,
        mask: u64,
    },
    GotoTable(TableId),
}

impl OfAction {
    /// Calls `each` with every field that the action, or one inside of it, names.
    #[allow(clippy::too_many_lines, reason = "one arm per action")]
    pub fn each_field(&self, each: &mut dyn FnMut(Field)) {
        match self {
            Self::OutputReg { src: part, .. } | Self::StackPush(part) | Self::StackPop(part) => each(part.field),
            Self::CheckPktLarger { dst: part, .. } => each(part.field),
            Self::RegMove { src, dst, .. } => [src, dst].into_iter().for_each(|part| each(part.field)),
            Self::SetField { field, .. } | Self::DeleteField(field) => each(*field),
            Self::Bundle(bundle) => bundle.dst.iter().for_each(|part| each(part.field)),
            Self::Multipath(multipath) => each(multipath.dst.field),
            Self::Sample(sample) => {
                [sample.obs_domain_src, sample.obs_point_src].iter().flatten().for_each(|part| each(part.field));
            }
            Self::Learn(learn) => learn.each_field(each),
            Self::Ct(ct) => {
                ct.zone_src.iter().for_each(|part| each(part.field));
                ct.actions.iter().for_each(|a| a.each_field(each));
            }
            Self::Clone(actions) | Self::WriteActions(actions) => actions.iter().for_each(|a| a.each_field(each)),
            Self::Output { .. }
            | Self::OutputTrunc { .. }
            | Self::Controller(_)
            | Self::Enqueue { .. }
            | Self::Group(_)
            | Self::SetVlanVid { .. }
            | Self::SetVlanPcp { .. }
            | Self::StripVlan { .. }
            | Self::PushVlan { .. }
            | Self::SetEthSrc(_)
            | Self::SetEthDst(_)
            | Self::SetIpv4Src(_)
            | Self::SetIpv4Dst(_)
            | Self::SetIpDscp(_)
            | Self::SetIpEcn(_)
            | Self::SetIpTtl(_)
            | Self::SetL4Src(_)
            | Self::SetL4Dst(_)
            | Self::DecTtl { .. }
            | Self::SetMplsLabel(_)
            | Self::SetMplsTc(_)
            | Self::SetMplsTtl(_)
            | Self::DecMplsTtl
            | Self::PushMpls { .. }
            | Self::PopMpls { .. }
            | Self::PushPbb
            | Self::PopPbb
            | Self::CopyTtlOut
            | Self::CopyTtlIn
            | Self::SetTunnel { .. }
            | Self::SetQueue(_)
            | Self::PopQueue
            | Self::FinTimeout { .. }
            | Self::Resubmit { .. }
            | Self::Conjunction { .. }
            | Self::Note(_)
            | Self::Exit
            | Self::Nat(_)
            | Self::CtClear
            | Self::Encap(_)
            | Self::Decap { .. }
            | Self::DecNshTtl
            | Self::DebugRecirc
            | Self::DebugSlow
            | Self::Meter(_)
            | Self::ClearActions
            | Self::WriteMetadata { .. }
            | Self::GotoTable(_) => {}
        }
    }
}

impl Learn {
    fn each_field(&self, each: &mut dyn FnMut(Field)) {
        self.result_dst.iter().for_each(|part| each(part.field));
        for spec in &self.specs {
            if let LearnSrc::Field(part) = &spec.src {
                each(part.field);
            }
            match &spec.dst {
                LearnDst::Match(part) | LearnDst::Load(part) => each(part.field),
                LearnDst::Output => {}
            }
        }
    }
}

/// The text and wire form that a set-field came in and goes out in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SetForm {
    /// set_field
    #[default]
    SetField,
    /// load (NXAST_REG_LOAD)
    Load,
    /// NXAST_REG_LOAD2: printed as set_field
    Load2,
}

/// controller(...)
#[derive(Clone, Debug, PartialEq)]
pub struct Controller {
    pub max_len: u16,
    pub controller_id: u16,
    pub reason: u8,
    pub userdata: Vec<u8>,
    pub pause: bool,
    /// u32::MAX: none given
    pub meter_id: u32,
}

/// Fields that bundle, multipath and groups hash (codes 0..6 of reference/actions.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum HashFields {
    EthSrc = 0,
    SymmetricL4 = 1,
    SymmetricL3L4 = 2,
    SymmetricL3L4Udp = 3,
    NwSrc = 4,
    NwDst = 5,
    SymmetricL3 = 6,
}

/// bundle(...) and bundle_load(...)
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    pub fields: HashFields,
    pub basis: u16,
    /// 0 active_backup, 1 hrw
    pub algorithm: u16,
    pub members: Vec<OfPort>,
    pub dst: Option<Subfield>,
}

/// multipath(...)
#[derive(Clone, Debug, PartialEq)]
pub struct Multipath {
    pub fields: HashFields,
    pub basis: u16,
    /// 0 modulo_n, 1 hash_threshold, 2 hrw, 3 iter_hash
    pub algorithm: u16,
    /// number of links - 1
    pub max_link: u16,
    pub arg: u32,
    pub dst: Subfield,
}

/// learn(...)
#[derive(Clone, Debug, PartialEq)]
pub struct Learn {
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    pub priority: u16,
    pub table: TableId,
    pub cookie: u64,
    /// NX_LEARN_F_*: send_flow_rem 1, delete_learned 2, write_result 4
    pub flags: u16,
    pub fin_idle_timeout: u16,
    pub fin_hard_timeout: u16,
    pub limit: u32,
    pub result_dst: Option<Subfield>,
    pub specs: Vec<LearnSpec>,
    /// NXAST_LEARN2: what has a limit or a result, and what came as that, though NXAST_LEARN could say it.
    pub second: bool,
}

/// One step of learn.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnSpec {
    pub src: LearnSrc,
    pub dst: LearnDst,
    pub bits: u16,
}

/// Where the bits come from.
#[derive(Clone, Debug, PartialEq)]
pub enum LearnSrc {
    Field(Subfield),
    Immediate(FieldValue),
}

/// What they become in the learned flow.
#[derive(Clone, Debug, PartialEq)]
pub enum LearnDst {
    Match(Subfield),
    Load(Subfield),
    Output,
}

/// sample(...)
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub probability: u16,
    pub collector_set_id: u32,
    pub obs_domain_id: u32,
    pub obs_point_id: u32,
    /// instead of the numbers, bits of a field (NXAST_SAMPLE4)
    pub obs_domain_src: Option<Subfield>,
    pub obs_point_src: Option<Subfield>,
    /// `OfPort::ANY` (none) unless given
    pub sampling_port: OfPort,
    /// 0 default, 1 ingress, 2 egress
    pub direction: u8,
    /// which raw form (NXAST_SAMPLE 1, 2, 3, 4)
    pub form: u8,
}

/// ct(...)
#[derive(Clone, Debug, PartialEq)]
pub struct CtAction {
    pub commit: bool,
    pub force: bool,
    pub zone_imm: u16,
    /// zone=FIELD[..] instead of a number
    pub zone_src: Option<Subfield>,
    /// `None`: no recirculation
    pub table: Option<TableId>,
    /// 21 ftp, 69 tftp, 0 none
    pub alg: u16,
    /// exec(...) and nat(...)
    pub actions: Vec<OfAction>,
}

/// nat(...) inside ct
#[derive(Clone, Debug, PartialEq, Default)]
pub struct NatAction {
    /// NX_NAT_F_*: SRC 1 DST 2 PERSISTENT 4 HASH 8 RANDOM 16
    pub flags: u16,
    pub addr: Option<(IpAddr, Option<IpAddr>)>,
    pub ports: Option<(u16, Option<u16>)>,
}

/// encap(...)
#[derive(Clone, Debug, PartialEq)]
pub struct Encap {
    /// packet_type: ethernet (0,0), nsh (1,0x894f), mpls (1,0x8847), ...
    pub new_packet_type: u32,
    pub hdr_size: u16,
    pub props: Vec<EncapProp>,
}

/// A property of encap.
#[derive(Clone, Debug, PartialEq)]
pub enum EncapProp {
    NshMdType(u8),
    NshTlv { class: u16, kind: u8, data: Vec<u8> },
}
