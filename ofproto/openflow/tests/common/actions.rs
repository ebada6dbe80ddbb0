//! Throws actions.

use super::Dice;
use flow::fields::{Field, Value};
use openflow::action::{
    Bundle, Controller, CtAction, Encap, EncapProp, HashFields, Learn, LearnDst, LearnSpec, LearnSrc, Multipath, NatAction,
    OfAction, Sample, SetForm, Subfield,
};
use openflow::{GroupId, OfPort, TableId};

const HASHES: [HashFields; 7] = [
    HashFields::EthSrc,
    HashFields::SymmetricL4,
    HashFields::SymmetricL3L4,
    HashFields::SymmetricL3L4Udp,
    HashFields::NwSrc,
    HashFields::NwDst,
    HashFields::SymmetricL3,
];

fn reg(d: &mut Dice) -> Field {
    Field::reg(d.below(16)).unwrap()
}

/// Bits of a register.
fn part(d: &mut Dice, least: u16) -> Subfield {
    let bits = least + u16::try_from(d.below(usize::from(33 - least))).unwrap();
    Subfield { field: reg(d), ofs: u16::try_from(d.below(usize::from(33 - bits))).unwrap(), bits }
}

fn part_of(d: &mut Dice, bits: u16) -> Subfield {
    Subfield { field: reg(d), ofs: u16::try_from(d.below(usize::from(33 - bits))).unwrap(), bits }
}

fn set(d: &mut Dice) -> OfAction {
    let at = part(d, 1);
    let mask = Value::ones(usize::from(at.bits)).shifted_left(usize::from(at.ofs));
    OfAction::SetField { field: at.field, value: d.bits(32).and(&mask), mask, form: SetForm::SetField }
}

/// One plain action, by number; `None` beyond the last.
pub(crate) fn plain(d: &mut Dice, n: usize) -> Option<OfAction> {
    use OfAction as A;
    Some(match n {
        0 => A::Output { port: d.port(), max_len: 0 },
        1 => A::Output { port: OfPort::CONTROLLER, max_len: d.u16() },
        2 => A::OutputReg { src: part(d, 16), max_len: d.u16() },
        3 => A::OutputTrunc { port: d.port(), max_len: 14 + u32::from(d.u16()) },
        4 => A::Output { port: OfPort::IN_PORT, max_len: 0 },
        5 => A::SetQueue(d.u32()),
        6 => A::PopQueue,
        7 => A::RegMove { src: part_of(d, 7), dst: part_of(d, 7), onf: false },
        8 => set(d),
        9 => A::StackPush(part(d, 1)),
        10 => A::StackPop(part(d, 1)),
        11 => A::Resubmit { port: OfPort::IN_PORT, table: TableId(d.u8() & 0x7f), with_ct: false, has_table: true },
        12 => A::Resubmit { port: d.port(), table: TableId::ALL, with_ct: false, has_table: false },
        13 => A::Multipath(Box::new(Multipath {
            fields: d.pick(&HASHES),
            basis: d.u16(),
            algorithm: d.pick(&[0, 1, 2, 3]),
            max_link: 7,
            arg: d.u32(),
            dst: part(d, 3),
        })),
        14 => A::Note(d.array::<6>().to_vec()),
        15 => A::Exit,
        16 => A::CtClear,
        17 => A::CheckPktLarger { len: d.u16(), dst: part_of(d, 1) },
        18 => A::DebugRecirc,
        19 => A::DebugSlow,
        20 => A::PushMpls { ethertype: d.pick(&[0x8847, 0x8848]) },
        21 => A::Group(GroupId(d.u32() & 0xffff)),
        22 => A::Sample(Box::new(sample(d))),
        _ => return None,
    })
}

/// One action that carries a list, by number; `None` beyond the last.
pub(crate) fn long(d: &mut Dice, n: usize) -> Option<OfAction> {
    use OfAction as A;
    Some(match n {
        0 => A::Controller(Box::new(Controller {
            max_len: d.u16(),
            controller_id: d.u16(),
            reason: d.pick(&[0, 1, 2]),
            userdata: d.bytes(9),
            pause: true,
            meter_id: u32::MAX,
        })),
        1 => A::Bundle(Box::new(bundle(d))),
        2 => A::Clone(list(d, 3, 2)),
        3 => A::Learn(Box::new(learn(d))),
        4 => A::Encap(encap(d)),
        5 => A::Decap { new_packet_type: d.maybe(|_| 0) },
        // Lists do without the packet types that these two change; the last three need a match on TCP.
        6 => A::Ct(Box::new(ct(d))),
        7 => A::DecTtl { controllers: Some(vec![d.u16(), d.u16()]) },
        8 => A::FinTimeout { idle: d.u16(), hard: d.u16() },
        _ => return None,
    })
}

fn bundle(d: &mut Dice) -> Bundle {
    let dst = d.maybe(|d| part(d, 16));
    Bundle { fields: d.pick(&HASHES), basis: d.u16(), algorithm: d.pick(&[0, 1]), members: d.some(5, Dice::port), dst }
}

fn sample(d: &mut Dice) -> Sample {
    let form = d.pick(&[1, 2, 3]);
    Sample {
        probability: 1 + d.u16() / 2,
        collector_set_id: d.u32(),
        obs_domain_id: d.u32(),
        obs_point_id: d.u32(),
        obs_domain_src: None,
        obs_point_src: None,
        sampling_port: if form == 1 { OfPort::ANY } else { d.port() },
        direction: if form == 3 { d.pick(&[0, 1, 2]) } else { 0 },
        form,
    }
}

fn ct(d: &mut Dice) -> CtAction {
    let commit = d.coin();
    let zone_src = d.maybe(|d| part_of(d, 16));
    let nat = NatAction {
        flags: if commit { 1 } else { 0 },
        addr: commit.then(|| (std::net::Ipv4Addr::from(d.array::<4>()).into(), None)),
        ports: commit.then(|| (1 + d.u16() / 2, None)),
    };
    let mark = OfAction::SetField {
        field: Field::CtMark,
        value: d.bits(32),
        mask: Value::from(Field::CtMark.exact()),
        form: SetForm::SetField,
    };
    let mut actions = Vec::new();
    if d.coin() {
        actions.push(OfAction::Nat(Box::new(nat)));
    }
    if commit && d.coin() {
        actions.push(mark);
    }
    CtAction {
        commit,
        force: commit && d.coin(),
        zone_imm: if zone_src.is_some() { 0 } else { d.u16() },
        zone_src,
        table: d.maybe(|d| TableId(d.u8() & 0x7f)),
        alg: if commit { d.pick(&[0, 21]) } else { 0 },
        actions,
    }
}

fn learn(d: &mut Dice) -> Learn {
    let specs = d.some(4, |d| {
        let dst = part(d, 1);
        let bits = dst.bits;
        let src = if d.coin() { LearnSrc::Field(part_of(d, bits)) } else { LearnSrc::Immediate(d.bits(usize::from(bits))) };
        let dst = if d.coin() { LearnDst::Match(dst) } else { LearnDst::Load(dst) };
        LearnSpec { src, dst, bits }
    });
    let result_dst = d.maybe(|d| part_of(d, 1));
    let limit = d.pick(&[0, 9]);
    Learn {
        idle_timeout: d.u16(),
        hard_timeout: d.u16(),
        priority: d.u16(),
        table: TableId(d.u8() & 0x7f),
        cookie: d.next(),
        flags: if result_dst.is_some() { 4 } else { d.pick(&[0, 1, 2, 3]) },
        fin_idle_timeout: d.u16(),
        fin_hard_timeout: d.u16(),
        limit,
        result_dst,
        specs,
        second: result_dst.is_some() || limit != 0 || d.coin(),
    }
}

fn encap(d: &mut Dice) -> Encap {
    let nsh = d.coin();
    let tlv = |d: &mut Dice| EncapProp::NshTlv { class: d.u16(), kind: d.u8(), data: d.bytes(7) };
    let props = if nsh { vec![EncapProp::NshMdType(2), tlv(d), tlv(d)] } else { Vec::new() };
    Encap { new_packet_type: if nsh { 0x1894f } else { 0 }, hdr_size: 0, props }
}

/// Up to `most` actions, `depth` deep.
pub(crate) fn list(d: &mut Dice, most: usize, depth: usize) -> Vec<OfAction> {
    d.some(most, |d| {
        if depth > 1 && d.below(3) == 0 {
            let n = d.below(4);
            long(d, n).unwrap()
        } else {
            let n = d.below(23);
            plain(d, n).unwrap()
        }
    })
}

/// A flow's actions, with an instruction behind them; 1.0 would say goto_table as a resubmit, which may not follow write_metadata.
pub(crate) fn instructions(d: &mut Dice) -> Vec<OfAction> {
    let mut out = list(d, 5, 3);
    if d.coin() {
        out.push(OfAction::WriteMetadata { value: d.next(), mask: u64::MAX });
    } else if d.coin() {
        out.push(OfAction::GotoTable(TableId(200)));
    }
    out
}
