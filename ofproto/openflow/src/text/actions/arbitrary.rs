//! Random actions for property tests: every kind, in the form that text gives them.

use super::*;
use crate::action::*;
use crate::types::{GroupId, OfPort, TableId};
use flow::fields::{Class, Field, MaskKind, Value};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::net::IpAddr;

pub(crate) fn port() -> impl Strategy<Value = OfPort> {
    prop_oneof![
        (1u32..0xff00).prop_map(OfPort),
        prop::sample::select(vec![OfPort::IN_PORT, OfPort::NORMAL, OfPort::FLOOD, OfPort::ALL, OfPort::LOCAL]),
    ]
}

fn table() -> impl Strategy<Value = TableId> {
    (0u8..255).prop_map(TableId)
}

fn of_fields(wanted: impl Fn(Field) -> bool) -> Vec<Field> {
    Field::ALL.iter().copied().filter(|f| f.tun_metadata_number().is_none() && wanted(*f)).collect()
}

fn short(field: Field) -> bool {
    field.row().codes.first().is_some_and(|c| c.class != Class::EXPERIMENTER)
}

/// Parts of fields, `writable` ones or all.
fn part(writable: bool, bits_max: u16) -> impl Strategy<Value = Subfield> {
    let fields = of_fields(|f| short(f) && (!writable || f.row().writable));
    (prop::sample::select(fields), any::<(u16, u16)>()).prop_map(move |(field, (a, b))| {
        let width = field.row().bits;
        let ofs = a % width;
        Subfield { field, ofs, bits: 1 + b % (width - ofs).min(bits_max) }
    })
}

fn registers(bits: u16) -> impl Strategy<Value = (Subfield, Subfield)> {
    (0usize..16, 0usize..16, 0u16..32).prop_map(move |(a, b, ofs)| {
        let (a, b) = (Field::reg(a).unwrap(), Field::reg(b).unwrap());
        let bits = bits.min(32 - ofs);
        (Subfield { field: a, ofs, bits }, Subfield { field: b, ofs, bits })
    })
}

/// A value of a field with a mask that it takes.
fn set_field() -> impl Strategy<Value = OfAction> {
    let fields = of_fields(|f| f.row().writable && !matches!(f, Field::InPort | Field::InPortOxm | Field::ActsetOutput));
    let fields = fields.into_iter().filter(|f| !matches!(f, Field::CtMark | Field::CtLabel)).collect::<Vec<_>>();
    (prop::sample::select(fields), any::<u128>(), any::<u128>(), any::<bool>()).prop_filter_map(
        "a value that the field takes",
        |(field, value, mask, masked)| {
            let whole = field.exact();
            let masked = masked && field.row().mask == MaskKind::Bits && field != Field::TunFlags;
            let mask = if masked && mask & whole != 0 { mask & whole } else { whole };
            let value = Value::from(value & mask);
            field.check(&value).ok()?;
            Some(OfAction::SetField { field, value, mask: mask.into(), form: SetForm::SetField })
        },
    )
}

fn load() -> impl Strategy<Value = OfAction> {
    let parts = part(true, 64).prop_filter("OpenFlow 1.5 sets the field, with a mask", |s| s.field.row().mask == MaskKind::Bits);
    (parts, any::<u128>())
        .prop_map(|(dst, value)| {
            let ones = Value::ones(dst.bits.into());
            let ofs = usize::from(dst.ofs);
            let value = Value::from(value).and(&ones).shifted_left(ofs);
            OfAction::SetField { field: dst.field, value, mask: ones.shifted_left(ofs), form: SetForm::Load }
        })
        .prop_filter("connection fields stand in ct", |a| {
            !matches!(a, OfAction::SetField { field: Field::CtMark | Field::CtLabel, .. })
        })
}

fn controller() -> impl Strategy<Value = OfAction> {
    let parts = (any::<u16>(), 0u16..3, 0u8..6, vec(any::<u8>(), 0..9), any::<bool>(), option::of(0u32..9));
    parts.prop_map(|(max_len, controller_id, reason, userdata, pause, meter)| {
        let meter_id = meter.unwrap_or(NO_METER);
        if reason == REASON_ACTION && controller_id == 0 && userdata.is_empty() && !pause && meter_id == NO_METER {
            return OfAction::Output { port: OfPort::CONTROLLER, max_len };
        }
        OfAction::Controller(Box::new(Controller { max_len, controller_id, reason, userdata, pause, meter_id }))
    })
}

fn hash_fields() -> impl Strategy<Value = HashFields> {
    (0usize..7).prop_map(|n| HASH_FIELDS[n].0)
}

fn bundle() -> impl Strategy<Value = OfAction> {
    let dst = option::of(registers(16).prop_map(|(a, _)| a));
    (hash_fields(), any::<u16>(), 0u16..2, vec(port(), 0..5), dst).prop_map(|(fields, basis, algorithm, members, dst)| {
        OfAction::Bundle(Box::new(Bundle { fields, basis, algorithm, members, dst }))
    })
}

fn multipath() -> impl Strategy<Value = OfAction> {
    (hash_fields(), any::<u16>(), 0u16..4, any::<u16>(), 0u32..0x7fff_ffff).prop_map(
        |(fields, basis, algorithm, max_link, arg)| {
            let dst = Subfield { field: Field::Reg0, ofs: 0, bits: 32 };
            OfAction::Multipath(Box::new(Multipath { fields, basis, algorithm, max_link, arg, dst }))
        },
    )
}

fn sample() -> impl Strategy<Value = OfAction> {
    let id = || prop_oneof![any::<u32>().prop_map(|n| (n, None)), registers(32).prop_map(|(s, _)| (0, Some(s)))];
    (1u16.., any::<u32>(), id(), id(), option::of(port()), 0u8..3).prop_map(|(probability, set, domain, point, to, direction)| {
        let form = match (domain.1.is_some() || point.1.is_some(), direction, to) {
            (true, ..) => 4,
            (_, 1.., _) => 3,
            (_, _, Some(_)) => 2,
            _ => 1,
        };
        OfAction::Sample(Box::new(Sample {
            probability,
            collector_set_id: set,
            obs_domain_id: domain.0,
            obs_point_id: point.0,
            obs_domain_src: domain.1,
            obs_point_src: point.1,
            sampling_port: to.unwrap_or(OfPort::ANY),
            direction,
            form,
        }))
    })
}

fn learn_spec() -> impl Strategy<Value = LearnSpec> {
    let pair = || (1u16..33).prop_flat_map(registers);
    prop_oneof![
        pair().prop_map(|(src, dst)| LearnSpec { src: LearnSrc::Field(src), dst: LearnDst::Match(dst), bits: dst.bits }),
        pair().prop_map(|(src, dst)| LearnSpec { src: LearnSrc::Field(src), dst: LearnDst::Load(dst), bits: dst.bits }),
        pair().prop_map(|(src, _)| LearnSpec { src: LearnSrc::Field(src), dst: LearnDst::Output, bits: src.bits }),
        (pair(), any::<u128>(), any::<bool>()).prop_map(|((dst, _), value, load)| {
            let value = Value::from(value).and(&Value::ones(dst.bits.into()));
            let to = if load { LearnDst::Load(dst) } else { LearnDst::Match(dst) };
            LearnSpec { src: LearnSrc::Immediate(value), dst: to, bits: dst.bits }
        }),
    ]
}

fn learn() -> impl Strategy<Value = OfAction> {
    let dst = option::of(registers(1).prop_map(|(a, _)| a));
    let numbers = (any::<[u16; 5]>(), any::<u64>(), 0u16..4, 0u32..9);
    (numbers, table(), dst, vec(learn_spec(), 0..4)).prop_map(|((times, cookie, flags, limit), table, result_dst, specs)| {
        let [idle_timeout, hard_timeout, priority, fin_idle_timeout, fin_hard_timeout] = times;
        OfAction::Learn(Box::new(Learn {
            idle_timeout,
            hard_timeout,
            priority,
            table,
            cookie,
            flags: flags | if result_dst.is_some() { flags::LEARN_WRITE_RESULT } else { 0 },
            fin_idle_timeout,
            fin_hard_timeout,
            limit,
            second: limit != 0 || result_dst.is_some(),
            result_dst,
            specs,
        }))
    })
}

fn nat() -> impl Strategy<Value = NatAction> {
    let addr = prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)];
    let ports = option::of((1u16.., option::of(1u16..9)));
    (0u8..3, option::of(addr), ports, 0u16..3, any::<bool>()).prop_map(|(direction, addr, ports, how, persistent)| {
        if direction == 0 {
            return NatAction::default();
        }
        let ports = addr.and(ports).map(|(min, more)| (min, more.and_then(|n| min.checked_add(n))));
        // Without an address OVS does not show the flags.
        let how = addr.map_or(0, |_| [0, flags::NAT_HASH, flags::NAT_RANDOM][usize::from(how)]);
        let persistent = if persistent && addr.is_some() { flags::NAT_PERSISTENT } else { 0 };
        let direction = if direction == 1 { flags::NAT_SRC } else { flags::NAT_DST };
        NatAction { flags: direction | how | persistent, addr: addr.map(|a| (a, None)), ports }
    })
}

fn ct() -> impl Strategy<Value = OfAction> {
    let exec = (any::<u32>(), any::<u32>()).prop_map(|(value, mask)| {
        let mask = u128::from(if mask == 0 { u32::MAX } else { mask });
        OfAction::SetField {
            field: Field::CtMark,
            value: (u128::from(value) & mask).into(),
            mask: mask.into(),
            form: SetForm::SetField,
        }
    });
    let zone = prop_oneof![any::<u16>().prop_map(|n| (n, None)), registers(16).prop_map(|(s, _)| (0, Some(s)))];
    (
        any::<(bool, bool)>(),
        zone,
        option::of(table()),
        prop::sample::select(vec![0u16, 21, 69]),
        option::of(nat()),
        vec(exec, 0..2),
    )
        .prop_map(|((commit, force), (zone_imm, zone_src), table, alg, nat, exec)| {
            let actions = nat.map(|n| OfAction::Nat(Box::new(n))).into_iter().chain(exec).collect();
            OfAction::Ct(Box::new(CtAction { commit, force: force && commit, zone_imm, zone_src, table, alg, actions }))
        })
}

fn encap() -> impl Strategy<Value = OfAction> {
    let tlv = (any::<u16>(), any::<u8>(), vec(any::<u8>(), 1..9)).prop_map(|(class, kind, mut data)| {
        // Leading zeros do not show.
        data[0] |= 0x10;
        EncapProp::NshTlv { class, kind, data }
    });
    let nsh = vec(prop_oneof![(1u8..3).prop_map(EncapProp::NshMdType), tlv], 0..3);
    prop_oneof![
        (0usize..4).prop_map(|n| OfAction::Encap(Encap { new_packet_type: ENCAPS[n].0, hdr_size: 0, props: Vec::new() })),
        nsh.prop_map(|props| OfAction::Encap(Encap { new_packet_type: ENCAPS[1].0, hdr_size: 0, props })),
    ]
}

fn header_actions() -> impl Strategy<Value = OfAction> {
    prop_oneof![
        (0u16..4096, any::<bool>()).prop_map(|(vid, push_if_needed)| OfAction::SetVlanVid { vid, push_if_needed }),
        (0u8..8, any::<bool>()).prop_map(|(pcp, push_if_needed)| OfAction::SetVlanPcp { pcp, push_if_needed }),
        any::<bool>().prop_map(|pop| OfAction::StripVlan { pop }),
        prop::sample::select(vec![0x8100u16, 0x88a8]).prop_map(|ethertype| OfAction::PushVlan { ethertype }),
        any::<[u8; 6]>().prop_map(OfAction::SetEthSrc),
        any::<[u8; 6]>().prop_map(OfAction::SetEthDst),
        any::<[u8; 4]>().prop_map(OfAction::SetIpv4Src),
        any::<[u8; 4]>().prop_map(OfAction::SetIpv4Dst),
        any::<u8>().prop_map(|n| OfAction::SetIpDscp(n & 0xfc)),
        (0u8..4).prop_map(OfAction::SetIpEcn),
        any::<u8>().prop_map(OfAction::SetIpTtl),
        any::<u16>().prop_map(OfAction::SetL4Src),
        any::<u16>().prop_map(OfAction::SetL4Dst),
        (0u32..0x10_0000).prop_map(OfAction::SetMplsLabel),
        (0u8..8).prop_map(OfAction::SetMplsTc),
        any::<u8>().prop_map(OfAction::SetMplsTtl),
        Just(OfAction::DecMplsTtl),
        prop::sample::select(vec![0x8847u16, 0x8848]).prop_map(|ethertype| OfAction::PushMpls { ethertype }),
        any::<u16>().prop_map(|ethertype| OfAction::PopMpls { ethertype }),
        Just(OfAction::PushPbb),
        Just(OfAction::PopPbb),
        Just(OfAction::CopyTtlOut),
        Just(OfAction::CopyTtlIn),
        // None at all cannot be written: `dec_ttl()` reads as `dec_ttl`.
        option::of(vec(any::<u16>(), 1..4)).prop_map(|controllers| OfAction::DecTtl { controllers }),
        (any::<u64>(), any::<bool>()).prop_map(|(id, wide)| OfAction::SetTunnel { id, wide: wide || id > u32::MAX.into() }),
    ]
}

fn other_actions() -> impl Strategy<Value = OfAction> {
    prop_oneof![
        port().prop_map(|port| OfAction::Output { port, max_len: 0 }),
        part(false, 64).prop_map(|src| OfAction::OutputReg { src, max_len: u16::MAX }),
        ((1u32..0xff00).prop_map(OfPort), 14u32..).prop_map(|(port, max_len)| OfAction::OutputTrunc { port, max_len }),
        (port(), any::<u32>()).prop_map(|(port, queue)| OfAction::Enqueue { port, queue }),
        any::<u32>().prop_map(|n| OfAction::Group(GroupId(n))),
        (1u16..33).prop_flat_map(registers).prop_map(|(src, dst)| OfAction::RegMove { src, dst, onf: false }),
        part(false, 64).prop_map(OfAction::StackPush),
        part(true, 64).prop_map(OfAction::StackPop),
        any::<u32>().prop_map(OfAction::SetQueue),
        Just(OfAction::PopQueue),
        any::<(u16, u16)>().prop_map(|(idle, hard)| OfAction::FinTimeout { idle, hard }),
        (port(), table(), any::<bool>()).prop_map(|(port, table, with_ct)| OfAction::Resubmit {
            port,
            table,
            with_ct,
            has_table: true
        }),
        vec(any::<u8>(), 0..20).prop_map(OfAction::Note),
        Just(OfAction::Exit),
        Just(OfAction::CtClear),
        Just(OfAction::DecNshTtl),
        option::of((0u32..5, any::<u16>()))
            .prop_map(|t| OfAction::Decap { new_packet_type: t.map(|(ns, n)| ns << 16 | u32::from(n)) }),
        (any::<u16>(), registers(1)).prop_map(|(len, (dst, _))| OfAction::CheckPktLarger { len, dst }),
        (0usize..64).prop_map(|n| OfAction::DeleteField(Field::tun_metadata(n).unwrap())),
        Just(OfAction::DebugRecirc),
        Just(OfAction::DebugSlow),
    ]
}

/// Any action that may stand in a list of actions.
pub(crate) fn action() -> impl Strategy<Value = OfAction> {
    let leaf = prop_oneof![
        5 => header_actions(),
        5 => other_actions(),
        2 => set_field(),
        2 => load(),
        1 => controller(),
        1 => bundle(),
        1 => multipath(),
        1 => sample(),
        1 => learn(),
        1 => ct(),
        1 => encap(),
    ];
    leaf.boxed().prop_recursive(3, 12, 4, |inner| vec(inner, 0..4).prop_map(OfAction::Clone))
}

/// Actions and instructions of a flow, in order.
pub(crate) fn instructions() -> impl Strategy<Value = Vec<OfAction>> {
    let meter = option::of((1u32..9).prop_map(OfAction::Meter));
    let write = option::of(vec(header_actions(), 0..3).prop_map(OfAction::WriteActions));
    let metadata = option::of((any::<u64>(), any::<u64>()).prop_map(|(value, mask)| OfAction::WriteMetadata { value, mask }));
    let goto = option::of(table().prop_map(OfAction::GotoTable));
    let clear = option::of(Just(OfAction::ClearActions));
    (meter, vec(action(), 0..6), clear, write, metadata, goto).prop_map(|(meter, apply, clear, write, metadata, goto)| {
        meter.into_iter().chain(apply).chain(clear).chain(write).chain(metadata).chain(goto).collect()
    })
}
