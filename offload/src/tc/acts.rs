//! Actions of tc, both ways.
//!
//! Each is a nest of its order: kind, options, and (on the first) the cookie. Every kind's parameters begin with `tc_gen`: index,
//! capabilities, verdict, two counts. A verdict other than `pipe` ends the list, or jumps in it.

use super::Devices;
use super::attributes::{Attribute, NESTED, ReadError, Writer, find, seek};
use super::matches::{geneve_lengths, put_geneve, read_geneve};
use super::numbers::{
    act as a, csum, ct, flower as f, gact, mirred, mpls, pedit, police, sample, skbedit, tunnel_key as t, verdict, vlan,
};
use super::write::no_device;
use crate::hardware::MeterCounts;
use crate::meters::{Limit, TICK_NS, Unit};
use crate::refusal::Refusal;
use crate::rule::{Act, CtAct, CtNat, Header, Skbedit, TunnelSet, Word};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of `tc_gen`.
const GEN: usize = 20;

/// The parameters of an action: `tc_gen` with a verdict, and more.
fn put_parms(out: &mut Writer, kind: u16, verdict: i32, more: &[u8]) {
    let len = u16::try_from(4 + GEN + more.len()).expect("parameters are short");
    for part in [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 8], &verdict.to_ne_bytes(), &[0; 8], more] {
        out.bytes.extend_from_slice(part);
    }
}

/// Appends an action.
///
/// # Errors
/// If a port has no device.
pub fn put(out: &mut Writer, order: u16, act: &Act, cookie: &[u8], devices: &dyn Devices) -> Result<(), Refusal> {
    let nest = out.nest(order);
    out.put_text(a::KIND, kind(act));
    // Kinds of later kernels insist on the flag.
    let options = out.nest(a::OPTIONS | NESTED);
    match act {
        Act::Output { port, ingress, last } => {
            let ifindex = devices.ifindex(*port).ok_or_else(|| no_device(*port))?;
            let (then, how) = match (*ingress, *last) {
                (false, true) => (verdict::STOLEN, mirred::EGRESS_REDIR),
                (false, false) => (verdict::PIPE, mirred::EGRESS_MIRROR),
                (true, true) => (verdict::STOLEN, mirred::INGRESS_REDIR),
                (true, false) => (verdict::PIPE, mirred::INGRESS_MIRROR),
            };
            let more = [how.to_ne_bytes(), ifindex.to_ne_bytes()];
            put_parms(out, mirred::PARMS, then, more.as_flattened());
        }
        Act::Drop => put_parms(out, gact::PARMS, verdict::SHOT, &[]),
        Act::Goto(chain) => {
            let chain = i32::try_from(*chain).expect("plan keeps chains below CHAIN_MAX");
            put_parms(out, gact::PARMS, verdict::GOTO_CHAIN | chain, &[]);
        }
        Act::VlanPush { tpid, vid, pcp } => {
            put_parms(out, vlan::PARMS, verdict::PIPE, &vlan::PUSH.to_ne_bytes());
            out.put_u16(vlan::ID, *vid);
            out.put_be16(vlan::PROTOCOL, *tpid);
            out.put_u8(vlan::PRIORITY, *pcp);
        }
        Act::VlanPop => put_parms(out, vlan::PARMS, verdict::PIPE, &vlan::POP.to_ne_bytes()),
        Act::EthPush { src, dst } => {
            put_parms(out, vlan::PARMS, verdict::PIPE, &vlan::PUSH_ETH.to_ne_bytes());
            out.put(vlan::ETH_DST, dst);
            out.put(vlan::ETH_SRC, src);
        }
        Act::EthPop => put_parms(out, vlan::PARMS, verdict::PIPE, &vlan::POP_ETH.to_ne_bytes()),
        Act::MplsPush { lse, proto } => put_mpls_push(out, *lse, *proto),
        Act::MplsPop { proto } => {
            put_parms(out, mpls::PARMS, verdict::PIPE, &mpls::POP.to_ne_bytes());
            out.put_be16(mpls::PROTO, *proto);
        }
        Act::MplsSet { label, tc, bos, ttl } => {
            put_parms(out, mpls::PARMS, verdict::PIPE, &mpls::MODIFY.to_ne_bytes());
            put_lse(out, *label, *tc, *bos, *ttl);
        }
        Act::Pedit { header, words } => put_pedit(out, *header, words),
        Act::Csum(flags) => put_parms(out, csum::PARMS, verdict::PIPE, &flags.to_ne_bytes()),
        Act::TunnelSet(set) => put_tunnel(out, set),
        Act::TunnelRelease => put_parms(out, t::PARMS, verdict::PIPE, &t::RELEASE.to_ne_bytes()),
        Act::Ct(act) => put_ct(out, act),
        Act::CtClear => {
            put_parms(out, ct::PARMS, verdict::PIPE, &[]);
            out.put_u16(ct::ACTION, ct::CLEAR);
        }
        Act::Skbedit(edit) => put_skbedit(out, edit),
        Act::Sample { rate, group, trunc } => put_sample(out, *rate, *group, *trunc),
        Act::Police { meter, limit } => put_meter(out, devices.police(*meter), limit, false),
        Act::Length { mtu, jump } => {
            let jump = i32::try_from(*jump).expect("a rule has few actions");
            put_police(out, 0, verdict::JUMP | jump, *mtu);
        }
    }
    out.end(options);
    if !cookie.is_empty() {
        out.put(a::COOKIE, cookie);
    }
    out.end(nest);
    Ok(())
}

/// As tc names it.
pub(crate) const fn kind(act: &Act) -> &'static str {
    match act {
        Act::Output { .. } => "mirred",
        Act::Drop | Act::Goto(_) => "gact",
        Act::VlanPush { .. } | Act::VlanPop | Act::EthPush { .. } | Act::EthPop => "vlan",
        Act::MplsPush { .. } | Act::MplsPop { .. } | Act::MplsSet { .. } => "mpls",
        Act::Pedit { .. } => "pedit",
        Act::Csum(_) => "csum",
        Act::TunnelSet(_) | Act::TunnelRelease => "tunnel_key",
        Act::Ct(_) | Act::CtClear => "ct",
        Act::Skbedit(_) => "skbedit",
        Act::Sample { .. } => "sample",
        Act::Police { .. } | Act::Length { .. } => "police",
    }
}

fn put_lse(out: &mut Writer, label: Option<u32>, tc: Option<u8>, bos: Option<u8>, ttl: Option<u8>) {
    if let Some(label) = label {
        out.put_u32(mpls::LABEL, label);
    }
    for (kind, value) in [(mpls::TC, tc), (mpls::TTL, ttl), (mpls::BOS, bos)] {
        if let Some(value) = value {
            out.put_u8(kind, value);
        }
    }
}

/// `struct tc_pedit_sel`, its keys, and which header each is of. The kernel's mask has the bits that stay.
fn put_pedit(out: &mut Writer, header: Header, words: &[Word]) {
    let n = u8::try_from(words.len()).expect("a header has few words");
    let mut sel = Vec::with_capacity(4 + 24 * words.len());
    sel.extend_from_slice(&[n, 0, 0, 0]);
    for word in words {
        sel.extend_from_slice(&(!word.mask).to_be_bytes());
        sel.extend_from_slice(&(word.value & word.mask).to_be_bytes());
        sel.extend_from_slice(&word.at.to_ne_bytes());
        sel.extend_from_slice(&[0; 12]);
    }
    put_parms(out, pedit::PARMS_EX, verdict::PIPE, &sel);
    let keys = out.nest(pedit::KEYS_EX | NESTED);
    for _ in words {
        let key = out.nest(pedit::KEY_EX | NESTED);
        out.put_u16(pedit::HTYPE, header as u16);
        out.put_u16(pedit::CMD, pedit::CMD_SET);
        out.end(key);
    }
    out.end(keys);
}

fn put_tunnel(out: &mut Writer, set: &TunnelSet) {
    put_parms(out, t::PARMS, verdict::PIPE, &t::SET.to_ne_bytes());
    // The kernel wants both addresses; the source that is nought is its choice.
    let none: IpAddr = if set.dst.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    for (address, v4, v6) in
        [(Some(set.src.unwrap_or(none)), t::IPV4_SRC, t::IPV6_SRC), (Some(set.dst), t::IPV4_DST, t::IPV6_DST)]
    {
        match address {
            Some(IpAddr::V4(a)) => out.put(v4, &a.octets()),
            Some(IpAddr::V6(a)) => out.put(v6, &a.octets()),
            None => {}
        }
    }
    if let Some(id) = set.id {
        out.put_be32(t::KEY_ID, id);
    }
    out.put_be16(t::DST_PORT, set.dst_port);
    out.put_u8(t::TOS, set.tos);
    out.put_u8(t::TTL, set.ttl);
    out.put_u8(t::NO_CSUM, u8::from(!set.csum));
    if set.df {
        out.put(t::NO_FRAG, &[]);
    }
    if !set.geneve.is_empty() {
        put_geneve(out, t::OPTS, &set.geneve, &geneve_lengths(&set.geneve));
    }
    if let Some(gbp) = set.gbp {
        let opts = out.nest(t::OPTS);
        let vxlan = out.nest(f::OPTS_VXLAN);
        out.put_u32(f::VXLAN_GBP, gbp);
        out.end(vxlan);
        out.end(opts);
    }
}

fn put_ct(out: &mut Writer, act: &CtAct) {
    let CtAct { commit, force, zone, mark, label, nat } = act;
    put_parms(out, ct::PARMS, verdict::PIPE, &[]);
    let mut flags = if *commit { ct::COMMIT } else { 0 } | if *force { ct::FORCE } else { 0 };
    if let Some(nat) = nat {
        flags |= ct::NAT | if nat.src { ct::NAT_SRC } else { 0 } | if nat.dst { ct::NAT_DST } else { 0 };
    }
    out.put_u16(ct::ACTION, flags);
    out.put_u16(ct::ZONE, *zone);
    if let Some((value, mask)) = mark {
        out.put_u32(ct::MARK, *value);
        out.put_u32(ct::MARK_MASK, *mask);
    }
    if let Some((value, mask)) = label {
        out.put(ct::LABELS, &value.to_le_bytes());
        out.put(ct::LABELS_MASK, &mask.to_le_bytes());
    }
    let Some(CtNat { addr, ports, .. }) = nat else {
        return;
    };
    match addr {
        Some((IpAddr::V4(min), IpAddr::V4(max))) => {
            out.put(ct::NAT_IPV4_MIN, &min.octets());
            out.put(ct::NAT_IPV4_MAX, &max.octets());
        }
        Some((IpAddr::V6(min), IpAddr::V6(max))) => {
            out.put(ct::NAT_IPV6_MIN, &min.octets());
            out.put(ct::NAT_IPV6_MAX, &max.octets());
        }
        Some((IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_))) | None => {}
    }
    if let Some((min, max)) = ports {
        out.put_be16(ct::NAT_PORT_MIN, *min);
        out.put_be16(ct::NAT_PORT_MAX, *max);
    }
}

fn put_mpls_push(out: &mut Writer, lse: u32, proto: u16) {
    put_parms(out, mpls::PARMS, verdict::PIPE, &mpls::PUSH.to_ne_bytes());
    out.put_be16(mpls::PROTO, proto);
    let byte = |n: u32| u8::try_from(n & 0xff).expect("eight bits");
    put_lse(out, Some(lse >> 12), Some(byte(lse >> 9 & 7)), Some(byte(lse >> 8 & 1)), Some(byte(lse)));
}

fn put_sample(out: &mut Writer, rate: u32, group: u32, trunc: Option<u32>) {
    put_parms(out, sample::PARMS, verdict::PIPE, &[]);
    out.put_u32(sample::RATE, rate);
    out.put_u32(sample::GROUP, group);
    if let Some(trunc) = trunc {
        out.put_u32(sample::TRUNC, trunc);
    }
}

fn put_skbedit(out: &mut Writer, edit: &Skbedit) {
    let Skbedit { priority, queue, mark, mark_mask, packet_type } = edit;
    put_parms(out, skbedit::PARMS, verdict::PIPE, &[]);
    for (kind, value) in [(skbedit::QUEUE, queue), (skbedit::PACKET_TYPE, packet_type)] {
        if let Some(value) = value {
            out.put_u16(kind, *value);
        }
    }
    for (kind, value) in [(skbedit::PRIORITY, priority), (skbedit::MARK, mark), (skbedit::MARK_MASK, mark_mask)] {
        if let Some(value) = value {
            out.put_u32(kind, *value);
        }
    }
}

/// `struct tc_police`: index, what happens above the limit, limit, burst, mtu, rates. What happens below: on with the list.
fn put_police(out: &mut Writer, index: u32, exceed: i32, mtu: u32) {
    let mut parms = index.to_ne_bytes().to_vec();
    parms.extend_from_slice(&exceed.to_ne_bytes());
    parms.extend_from_slice(&[0; 8]);
    parms.extend_from_slice(&mtu.to_ne_bytes());
    parms.resize(police::LEN, 0);
    out.put(police::TBF, &parms);
    out.put_u32(police::RESULT, u32::try_from(verdict::PIPE).expect("a small number"));
}

/// The options of a meter's police action, as iproute2 sends them. A filter that names an action that is there gets that one, whatever is said
/// here; where there is none, the kernel asks for the table of rates (`whole`), which filters do not give: they refuse then.
pub(super) fn put_meter(out: &mut Writer, index: u32, limit: &Limit, whole: bool) {
    let bytes = limit.unit == Unit::Bytes;
    let mut parms = index.to_ne_bytes().to_vec();
    parms.extend_from_slice(&verdict::SHOT.to_ne_bytes());
    parms.extend_from_slice(&[0; 4]);
    parms.extend_from_slice(&if bytes { limit.burst } else { 0 }.to_ne_bytes());
    parms.extend_from_slice(&police::MTU.to_ne_bytes());
    parms.resize(police::LEN, 0);
    let rate = u32::try_from(limit.rate);
    if bytes {
        (parms[police::RATESPEC], parms[police::RATESPEC + 1]) = (police::CELL_LOG, police::ETHERNET);
        parms[police::CELL_ALIGN..police::CELL_ALIGN + 2].copy_from_slice(&[0xff; 2]);
        parms[police::RATESPEC_RATE..police::RATESPEC_RATE + 4].copy_from_slice(&rate.unwrap_or(u32::MAX).to_ne_bytes());
    }
    out.put(police::TBF, &parms);
    if bytes && whole {
        out.put(police::RATE, rate_table(limit.rate).as_flattened());
    }
    if bytes && rate.is_err() {
        out.put(police::RATE64, &limit.rate.to_ne_bytes());
    }
    out.put_u32(police::RESULT, u32::try_from(verdict::PIPE).expect("a small number"));
    if !bytes {
        out.put(police::PKTRATE64, &limit.rate.to_ne_bytes());
        out.put(police::PKTBURST64, &u64::from(limit.burst).to_ne_bytes());
    }
}

/// For each cell's longest packet the ticks that it takes, in the arithmetic of iproute2: binary fractions, cut to microseconds and then to ticks;
/// nought where 32 bits do not hold them. The kernel insists on the table and does not read it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cut off on purpose; nothing here is below nought")]
fn rate_table(rate: u64) -> [[u8; 4]; police::CELLS] {
    const TICKS_IN_US: f64 = 1_000.0 / TICK_NS as f64;
    let ticks = |cell: usize| {
        let us = (1_000_000.0 * (((cell + 1) << police::CELL_LOG) as f64 / rate as f64)).floor();
        u32::try_from((us * TICKS_IN_US) as u64).unwrap_or(0)
    };
    std::array::from_fn(|cell| ticks(cell).to_ne_bytes())
}

/// An action with its cookie and the packets and bytes it has counted (those of hardware, if they are told apart).
#[derive(Clone, Debug, PartialEq)]
pub struct ReadAct {
    pub act: Act,
    pub cookie: Vec<u8>,
    pub packets: u64,
    pub bytes: u64,
}

/// Reads the list of actions.
///
/// # Errors
/// For an action, or an option of one, that this room does not write.
pub fn read(list: Attribute<'_>, devices: &dyn Devices) -> Result<Vec<ReadAct>, ReadError> {
    let mut orders = list.nested()?;
    orders.sort_by_key(|a| a.kind);
    orders.into_iter().map(|order| read_one(&order.nested()?, devices)).collect()
}

/// The counters and the cookie of the first action that is the filter's own (`Filter::counters`) in the payload of a list, without a look at what the
/// actions do. `None` for counters that are cut short.
#[must_use]
pub fn counters(list: &[u8]) -> Option<(u64, u64, &[u8])> {
    // The first has order 1 in all kernels that tell counters.
    for order in 1.. {
        let Some(one) = seek(list, order) else { break };
        if !is_shared(one.payload) {
            let (packets, bytes) = seek(one.payload, a::STATS).map_or(Some((0, 0)), |stats| read_stats(stats).ok())?;
            return Some((packets, bytes, seek(one.payload, a::COOKIE).map_or(&[], |cookie| cookie.payload)));
        }
    }
    Some((0, 0, &[]))
}

/// Whether an action is a meter's, whose counters and cookie are not those of one filter.
pub(super) fn is_shared(parts: &[u8]) -> bool {
    let index =
        || seek(seek(parts, a::OPTIONS)?.payload, police::TBF)?.payload.first_chunk::<4>().map(|i| u32::from_ne_bytes(*i));
    seek(parts, a::KIND).is_some_and(|kind| kind.text() == "police")
        && index().is_some_and(|index| index & police::METERS_MASK == police::METERS)
}

/// As tc names the kind of an action that was read.
pub(super) fn kind_of<'a>(parts: &[Attribute<'a>]) -> &'a str {
    find(parts, a::KIND).map_or("", Attribute::text)
}

/// A meter's police action: its index, limit and counters.
pub(super) fn read_meter(parts: &[Attribute<'_>]) -> Result<(u32, Limit, MeterCounts), ReadError> {
    let options = find(parts, a::OPTIONS).ok_or(ReadError::Missing("the options of an action"))?.nested()?;
    let parms = need(&options, police::TBF)?.payload;
    let (index, exceed) = (word(parms, 0)?, word(parms, 4)?.cast_signed());
    if !is_meter(&options, exceed)? {
        return Err(ReadError::Invalid("police of another form than offload writes"));
    }
    let stats = find(parts, a::STATS);
    // It is in one place only; what there is of it in all is in the counters of both.
    let (packets, bytes) = stats.map_or(Ok((0, 0)), |s| read_basic(s.payload, seek(s.payload, a::STATS_BASIC)))?;
    // struct gnet_stats_queue: the length and backlog of a queue, then what was dropped.
    let queue = stats.and_then(|stats| seek(stats.payload, a::STATS_QUEUE));
    let dropped = queue.map_or(Ok(0), |queue| word(queue.payload, 8))?;
    Ok((index, read_limit(&options, parms)?, MeterCounts { packets, bytes, dropped: dropped.into() }))
}

/// Whether police does what a meter does: what exceeds is dropped, the rest goes on.
fn is_meter(options: &[Attribute<'_>], exceed: i32) -> Result<bool, ReadError> {
    Ok(exceed == verdict::SHOT && conforming(options)? == verdict::PIPE)
}

/// What police does with what does not exceed: ends the list, if nothing is said.
fn conforming(options: &[Attribute<'_>]) -> Result<i32, ReadError> {
    find(options, police::RESULT).map_or(Ok(0), |result| result.u32().map(u32::cast_signed))
}

fn read_one(parts: &[Attribute<'_>], devices: &dyn Devices) -> Result<ReadAct, ReadError> {
    let kind = find(parts, a::KIND).ok_or(ReadError::Missing("the kind of an action"))?.text();
    let options = find(parts, a::OPTIONS).ok_or(ReadError::Missing("the options of an action"))?.nested()?;
    let act = match kind {
        "gact" => read_gact(&options)?,
        "mirred" => read_mirred(&options, devices)?,
        "vlan" => read_vlan(&options)?,
        "mpls" => read_mpls(&options)?,
        "pedit" => read_pedit(&options)?,
        "csum" => Act::Csum(word(&head(&options, csum::PARMS, verdict::PIPE)?, 0)?),
        "tunnel_key" => read_tunnel(&options)?,
        "ct" => read_ct(&options)?,
        "police" => read_police(&options, devices)?,
        "skbedit" => read_skbedit(&options)?,
        "sample" => read_sample(&options)?,
        _ => return Err(ReadError::Invalid("an action of a kind that offload does not use")),
    };
    let (packets, bytes) = find(parts, a::STATS).map_or(Ok((0, 0)), read_stats)?;
    Ok(ReadAct { act, cookie: find(parts, a::COOKIE).map_or_else(Vec::new, |c| c.payload.to_vec()), packets, bytes })
}

/// Those of hardware, if they are told apart.
fn read_stats(stats: Attribute<'_>) -> Result<(u64, u64), ReadError> {
    let parts = stats.payload;
    read_basic(parts, seek(parts, a::STATS_BASIC_HW).or_else(|| seek(parts, a::STATS_BASIC)))
}

fn read_basic(parts: &[u8], basic: Option<Attribute<'_>>) -> Result<(u64, u64), ReadError> {
    let Some(basic) = basic else { return Ok((0, 0)) };
    // struct gnet_stats_basic: bytes u64, packets u32.
    let short = ReadError::Size { kind: basic.kind, len: basic.payload.len(), expected: 12 };
    let bytes = basic.payload.first_chunk::<8>().ok_or_else(|| short.clone())?;
    let packets = basic.payload.get(8..).and_then(|p| p.first_chunk::<4>()).ok_or(short)?;
    // More packets than 32 bits hold come in an attribute of their own.
    let packets64 = seek(parts, a::STATS_PACKETS64).map(Attribute::array).transpose()?.map(u64::from_ne_bytes);
    Ok((packets64.unwrap_or_else(|| u32::from_ne_bytes(*packets).into()), u64::from_ne_bytes(*bytes)))
}

/// The parameters behind `tc_gen` and its verdict.
fn parameters(options: &[Attribute<'_>], kind: u16) -> Result<(i32, Vec<u8>), ReadError> {
    let p = find(options, kind).ok_or(ReadError::Missing("the parameters of an action"))?;
    let size = ReadError::Size { kind, len: p.payload.len(), expected: GEN };
    let head = p.payload.first_chunk::<GEN>().ok_or(size)?;
    let verdict = i32::from_ne_bytes([head[8], head[9], head[10], head[11]]);
    Ok((verdict, p.payload[GEN..].to_vec()))
}

/// The parameters behind `tc_gen`, whose verdict must be `expected`.
fn head(options: &[Attribute<'_>], kind: u16, expected: i32) -> Result<Vec<u8>, ReadError> {
    let (found, rest) = parameters(options, kind)?;
    if found == expected { Ok(rest) } else { Err(unknown("verdict", found)) }
}

fn unknown(what: &'static str, value: i32) -> ReadError {
    ReadError::Unknown { what, value: value.cast_unsigned() }
}

fn word(bytes: &[u8], at: usize) -> Result<u32, ReadError> {
    let four = bytes.get(at..).and_then(|b| b.first_chunk::<4>());
    four.map(|b| u32::from_ne_bytes(*b)).ok_or(ReadError::Invalid("the parameters of an action are cut short"))
}

fn read_gact(options: &[Attribute<'_>]) -> Result<Act, ReadError> {
    let (verdict, _) = parameters(options, gact::PARMS)?;
    if verdict == verdict::SHOT {
        return Ok(Act::Drop);
    }
    if verdict & !verdict::VALUE == verdict::GOTO_CHAIN {
        return Ok(Act::Goto((verdict & verdict::VALUE).cast_unsigned()));
    }
    Err(unknown("verdict", verdict))
}

fn read_mirred(options: &[Attribute<'_>], devices: &dyn Devices) -> Result<Act, ReadError> {
    let (verdict, rest) = parameters(options, mirred::PARMS)?;
    let how = word(&rest, 0)?.cast_signed();
    let (ingress, last) = match (how, verdict) {
        (mirred::EGRESS_REDIR, verdict::STOLEN) => (false, true),
        (mirred::EGRESS_MIRROR, verdict::PIPE) => (false, false),
        (mirred::INGRESS_REDIR, verdict::STOLEN) => (true, true),
        (mirred::INGRESS_MIRROR, verdict::PIPE) => (true, false),
        _ => return Err(unknown("mirred", how)),
    };
    let ifindex = word(&rest, 4)?;
    let port = devices.port(ifindex).ok_or(ReadError::Unknown { what: "device", value: ifindex })?;
    Ok(Act::Output { port, ingress, last })
}

fn need<'a>(options: &[Attribute<'a>], kind: u16) -> Result<Attribute<'a>, ReadError> {
    find(options, kind).ok_or(ReadError::Missing("an option of an action"))
}

fn read_vlan(options: &[Attribute<'_>]) -> Result<Act, ReadError> {
    let how = word(&head(options, vlan::PARMS, verdict::PIPE)?, 0)?.cast_signed();
    Ok(match how {
        vlan::POP => Act::VlanPop,
        vlan::POP_ETH => Act::EthPop,
        vlan::PUSH => Act::VlanPush {
            tpid: u16::from_be_bytes(need(options, vlan::PROTOCOL)?.array()?),
            vid: need(options, vlan::ID)?.u16()?,
            pcp: find(options, vlan::PRIORITY).map_or(Ok(0), Attribute::u8)?,
        },
        vlan::PUSH_ETH => {
            Act::EthPush { src: need(options, vlan::ETH_SRC)?.array()?, dst: need(options, vlan::ETH_DST)?.array()? }
        }
        _ => return Err(unknown("vlan", how)),
    })
}

fn read_mpls(options: &[Attribute<'_>]) -> Result<Act, ReadError> {
    let how = word(&head(options, mpls::PARMS, verdict::PIPE)?, 0)?.cast_signed();
    let byte = |kind: u16| find(options, kind).map(Attribute::u8).transpose();
    let label = find(options, mpls::LABEL).map(Attribute::u32).transpose()?;
    let (tc, ttl, bos) = (byte(mpls::TC)?, byte(mpls::TTL)?, byte(mpls::BOS)?);
    Ok(match how {
        mpls::POP => Act::MplsPop { proto: u16::from_be_bytes(need(options, mpls::PROTO)?.array()?) },
        mpls::MODIFY => Act::MplsSet { label, tc, bos, ttl },
        mpls::PUSH => {
            let part = |v: Option<u8>| v.map(u32::from).ok_or(ReadError::Missing("a part of an MPLS label"));
            let label = label.ok_or(ReadError::Missing("an MPLS label"))?;
            let lse = label << 12 | part(tc)? << 9 | part(bos)? << 8 | part(ttl)?;
            Act::MplsPush { lse, proto: u16::from_be_bytes(need(options, mpls::PROTO)?.array()?) }
        }
        _ => return Err(unknown("mpls", how)),
    })
}

fn read_pedit(options: &[Attribute<'_>]) -> Result<Act, ReadError> {
    let rest = head(options, pedit::PARMS_EX, verdict::PIPE)?;
    let n = usize::from(*rest.first().ok_or(ReadError::Missing("the number of pedit keys"))?);
    let keys = need(options, pedit::KEYS_EX)?.nested()?;
    if keys.len() != n || n == 0 {
        return Err(ReadError::Invalid("pedit without as many headers as keys"));
    }
    let mut header = None;
    for key in keys {
        let parts = key.nested()?;
        let (htype, cmd) = (need(&parts, pedit::HTYPE)?.u16()?, need(&parts, pedit::CMD)?.u16()?);
        let this = [Header::Eth, Header::Ipv4, Header::Ipv6, Header::Tcp, Header::Udp].into_iter().find(|h| *h as u16 == htype);
        if cmd != pedit::CMD_SET || this.is_none() || header.is_some_and(|h| Some(h) != this) {
            return Err(ReadError::Invalid("pedit of another form than offload writes"));
        }
        header = this;
    }
    let words = (0..n).map(|i| {
        let at = 4 + i * 24;
        let mask = !u32::from_be(word(&rest, at)?);
        Ok(Word { at: word(&rest, at + 8)?, value: u32::from_be(word(&rest, at + 4)?) & mask, mask })
    });
    Ok(Act::Pedit {
        header: header.ok_or(ReadError::Missing("the header of pedit"))?,
        words: words.collect::<Result<_, ReadError>>()?,
    })
}

fn read_address(options: &[Attribute<'_>], v4: u16, v6: u16) -> Result<Option<IpAddr>, ReadError> {
    if let Some(a) = find(options, v4) {
        return Ok(Some(IpAddr::from(a.array::<4>()?)));
    }
    find(options, v6).map(|a| a.array::<16>().map(IpAddr::from)).transpose()
}

fn read_tunnel(options: &[Attribute<'_>]) -> Result<Act, ReadError> {
    let how = word(&head(options, t::PARMS, verdict::PIPE)?, 0)?.cast_signed();
    if how == t::RELEASE {
        return Ok(Act::TunnelRelease);
    }
    if how != t::SET {
        return Err(unknown("tunnel_key", how));
    }
    let (mut geneve, mut gbp) = (Vec::new(), None);
    if let Some(opts) = find(options, t::OPTS) {
        let opts = opts.nested()?;
        geneve = read_geneve(&opts)?;
        if let Some(vxlan) = find(&opts, f::OPTS_VXLAN) {
            gbp = find(&vxlan.nested()?, f::VXLAN_GBP).map(Attribute::u32).transpose()?;
        }
    }
    Ok(Act::TunnelSet(Box::new(TunnelSet {
        src: read_address(options, t::IPV4_SRC, t::IPV6_SRC)?.filter(|a| !a.is_unspecified()),
        dst: read_address(options, t::IPV4_DST, t::IPV6_DST)?.ok_or(ReadError::Missing("a tunnel's destination"))?,
        id: find(options, t::KEY_ID).map(|a| a.array().map(u32::from_be_bytes)).transpose()?,
        tos: find(options, t::TOS).map_or(Ok(0), Attribute::u8)?,
        ttl: find(options, t::TTL).map_or(Ok(0), Attribute::u8)?,
        dst_port: find(options, t::DST_PORT).map_or(Ok(0), |a| a.array().map(u16::from_be_bytes))?,
        csum: find(options, t::NO_CSUM).map_or(Ok(0), Attribute::u8)? == 0,
        df: find(options, t::NO_FRAG).is_some(),
        geneve,
        gbp,
    })))
}

fn read_ct(options: &[Attribute<'_>]) -> Result<Act, ReadError> {
    head(options, ct::PARMS, verdict::PIPE)?;
    let flags = find(options, ct::ACTION).map_or(Ok(0), Attribute::u16)?;
    if flags & ct::CLEAR != 0 {
        return Ok(Act::CtClear);
    }
    let mark = match (find(options, ct::MARK), find(options, ct::MARK_MASK)) {
        (Some(v), Some(m)) => Some((v.u32()?, m.u32()?)),
        _ => None,
    };
    let label = match (find(options, ct::LABELS), find(options, ct::LABELS_MASK)) {
        (Some(v), Some(m)) => Some((u128::from_le_bytes(v.array()?), u128::from_le_bytes(m.array()?))),
        _ => None,
    };
    let nat = (flags & ct::NAT != 0).then(|| read_nat(options, flags)).transpose()?;
    let zone = find(options, ct::ZONE).map_or(Ok(0), Attribute::u16)?;
    // The kernel shows a commit's mark and label although they are nought and mask nothing.
    let (mark, label) = (mark.filter(|(_, m)| *m != 0), label.filter(|(_, m)| *m != 0));
    Ok(Act::Ct(Box::new(CtAct { commit: flags & ct::COMMIT != 0, force: flags & ct::FORCE != 0, zone, mark, label, nat })))
}

fn read_nat(options: &[Attribute<'_>], flags: u16) -> Result<CtNat, ReadError> {
    let min = read_address(options, ct::NAT_IPV4_MIN, ct::NAT_IPV6_MIN)?;
    let max = read_address(options, ct::NAT_IPV4_MAX, ct::NAT_IPV6_MAX)?;
    let port = |kind: u16| find(options, kind).map(|a| a.array().map(u16::from_be_bytes)).transpose();
    let ports =
        port(ct::NAT_PORT_MIN)?.map(|min| Ok::<_, ReadError>((min, port(ct::NAT_PORT_MAX)?.unwrap_or(min)))).transpose()?;
    let addr = min.map(|min| (min, max.unwrap_or(min)));
    Ok(CtNat { src: flags & ct::NAT_SRC != 0, dst: flags & ct::NAT_DST != 0, addr, ports })
}

fn read_skbedit(options: &[Attribute<'_>]) -> Result<Act, ReadError> {
    head(options, skbedit::PARMS, verdict::PIPE)?;
    let half = |kind: u16| find(options, kind).map(Attribute::u16).transpose();
    let word = |kind: u16| find(options, kind).map(Attribute::u32).transpose();
    let mark = word(skbedit::MARK)?;
    Ok(Act::Skbedit(Skbedit {
        priority: word(skbedit::PRIORITY)?,
        queue: half(skbedit::QUEUE)?,
        mark,
        // The kernel shows a mask of everything where none was asked for.
        mark_mask: word(skbedit::MARK_MASK)?.filter(|mask| mark.is_some() && *mask != u32::MAX),
        packet_type: half(skbedit::PACKET_TYPE)?,
    }))
}

fn read_sample(options: &[Attribute<'_>]) -> Result<Act, ReadError> {
    head(options, sample::PARMS, verdict::PIPE)?;
    let word = |kind: u16| find(options, kind).map(Attribute::u32).transpose();
    let missing = ReadError::Missing("an option of sample");
    Ok(Act::Sample {
        rate: word(sample::RATE)?.ok_or_else(|| missing.clone())?,
        group: word(sample::GROUP)?.ok_or(missing)?,
        trunc: word(sample::TRUNC)?,
    })
}

fn read_police(options: &[Attribute<'_>], devices: &dyn Devices) -> Result<Act, ReadError> {
    let parms = need(options, police::TBF)?.payload;
    let (index, exceed, mtu) = (word(parms, 0)?, word(parms, 4)?.cast_signed(), word(parms, 16)?);
    if exceed & !verdict::VALUE == verdict::JUMP && conforming(options)? == verdict::PIPE {
        return Ok(Act::Length { mtu, jump: (exceed & verdict::VALUE).cast_unsigned() });
    }
    let is_meter = is_meter(options, exceed)?;
    let meter =
        devices.meter(index).filter(|_| is_meter).ok_or(ReadError::Invalid("police of another form than offload writes"))?;
    Ok(Act::Police { meter, limit: read_limit(options, parms)? })
}

fn read_limit(options: &[Attribute<'_>], parms: &[u8]) -> Result<Limit, ReadError> {
    let long = |kind: u16| find(options, kind).map(|a| a.array().map(u64::from_ne_bytes)).transpose();
    if let Some(rate) = long(police::PKTRATE64)? {
        let burst = long(police::PKTBURST64)?.unwrap_or(0);
        let burst = u32::try_from(burst).map_err(|_| ReadError::Invalid("police with a burst that offload does not write"))?;
        return Ok(Limit { unit: Unit::Packets, rate, burst });
    }
    let rate = long(police::RATE64)?.map_or_else(|| word(parms, police::RATESPEC_RATE).map(u64::from), Ok)?;
    Ok(Limit { unit: Unit::Bytes, rate, burst: word(parms, 12)? })
}
