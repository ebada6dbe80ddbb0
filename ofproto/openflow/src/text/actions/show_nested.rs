//! Writes actions of many parts: learn, ct, nat, bundle, multipath, sample, encap.

use super::show::{Alternate, Show, hex};
use super::{BUNDLE_ALGORITHMS, ENCAPS, HASH_FIELDS, MULTIPATH_ALGORITHMS, flags};
use crate::action::{
    Bundle, CtAction, Encap, EncapProp, HashFields, Learn, LearnDst, LearnSpec, LearnSrc, Multipath, NatAction, OfAction, Sample,
    Subfield,
};
use crate::types::{DEFAULT_PRIORITY, OfPort};
use flow::forms::Ip6;
use flow::oftext::{self, format_value};
use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

fn hash_fields(fields: HashFields) -> &'static str {
    HASH_FIELDS.iter().find(|(f, _)| *f == fields).map_or("<unknown>", |(_, name)| name)
}

fn algorithm(names: &[&'static str], code: u16) -> &'static str {
    names.get(usize::from(code)).copied().unwrap_or("<unknown>")
}

impl Display for Show<'_, Bundle> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Show(b, names) = *self;
        let action = if b.dst.is_some() { "bundle_load" } else { "bundle" };
        let algorithm = algorithm(&BUNDLE_ALGORITHMS, b.algorithm);
        write!(f, "{action}({},{},{algorithm},ofport,", hash_fields(b.fields), b.basis)?;
        if let Some(dst) = b.dst {
            write!(f, "{dst},")?;
        }
        let members: Vec<String> = b.members.iter().map(|p| names.port(*p)).collect();
        write!(f, "members:{})", members.join(","))
    }
}

impl Display for Multipath {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let algorithm = algorithm(&MULTIPATH_ALGORITHMS, self.algorithm);
        let links = u32::from(self.max_link) + 1;
        write!(f, "multipath({},{},{algorithm},{links},{},{})", hash_fields(self.fields), self.basis, self.arg, self.dst)
    }
}

impl Display for Show<'_, Sample> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Show(s, names) = *self;
        let id = |src: Option<Subfield>, n: u32| src.map_or_else(|| n.to_string(), |s| s.to_string());
        write!(
            f,
            "sample(probability={},collector_set_id={},obs_domain_id={},obs_point_id={}",
            s.probability,
            s.collector_set_id,
            id(s.obs_domain_src, s.obs_domain_id),
            id(s.obs_point_src, s.obs_point_id)
        )?;
        if s.sampling_port != OfPort::ANY {
            write!(f, ",sampling_port={}", names.port(s.sampling_port))?;
        }
        f.write_str(match s.direction {
            1 => ",ingress)",
            2 => ",egress)",
            _ => ")",
        })
    }
}

impl Display for Show<'_, CtAction> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Show(ct, names) = *self;
        let mut parts = Vec::new();
        if ct.commit {
            parts.push("commit".to_owned());
        }
        if ct.force {
            parts.push("force".to_owned());
        }
        if let Some(table) = ct.table {
            parts.push(format!("table={}", names.table(table)));
        }
        match ct.zone_src {
            Some(src) => parts.push(format!("zone={src}")),
            None if ct.zone_imm != 0 => parts.push(format!("zone={}", ct.zone_imm)),
            None => {}
        }
        // A NAT that stands first is shown beside exec, not in it.
        let mut rest = &ct.actions[..];
        if let [OfAction::Nat(nat), others @ ..] = rest {
            parts.push(nat.to_string());
            rest = others;
        }
        if !rest.is_empty() {
            parts.push(format!("exec({})", Show(rest, names)));
        }
        match ct.alg {
            0 => {}
            21 => parts.push("alg=ftp".to_owned()),
            69 => parts.push("alg=tftp".to_owned()),
            port => parts.push(format!("alg={port}")),
        }
        write!(f, "ct({})", parts.join(","))
    }
}

impl Display for NatAction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("nat")?;
        if self.flags & (flags::NAT_SRC | flags::NAT_DST) == 0 {
            return Ok(());
        }
        f.write_str(if self.flags & flags::NAT_SRC != 0 { "(src" } else { "(dst" })?;
        if let Some((min, max)) = self.addr {
            let ports = self.ports.filter(|(min, _)| *min != 0);
            let shown = |addr: IpAddr| match addr {
                IpAddr::V6(a) if ports.is_some() => format!("[{}]", Ip6(a.into())),
                IpAddr::V6(a) => Ip6(a.into()).to_string(),
                IpAddr::V4(a) => a.to_string(),
            };
            write!(f, "={}", shown(min))?;
            if let Some(max) = max.filter(|max| *max != min && !max.is_unspecified()) {
                write!(f, "-{}", shown(max))?;
            }
            if let Some((min, max)) = ports {
                write!(f, ":{min}")?;
                if let Some(max) = max.filter(|max| *max != min && *max != 0) {
                    write!(f, "-{max}")?;
                }
            }
            let known = [(flags::NAT_PERSISTENT, ",persistent"), (flags::NAT_HASH, ",hash"), (flags::NAT_RANDOM, ",random")];
            for (_, name) in known.iter().filter(|(bit, _)| self.flags & bit != 0) {
                f.write_str(name)?;
            }
        }
        f.write_str(")")
    }
}

impl Display for Encap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = ENCAPS.iter().find(|(t, _)| *t == self.new_packet_type).map_or("UNKNOWN", |(_, name)| name);
        write!(f, "encap({name}")?;
        if !self.props.is_empty() {
            let props: Vec<String> = self.props.iter().map(EncapProp::to_string).collect();
            write!(f, "({})", props.join(","))?;
        }
        f.write_str(")")
    }
}

impl Display for EncapProp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NshMdType(n) => write!(f, "md_type={n}"),
            Self::NshTlv { class, kind, data } => {
                write!(f, "tlv(0x{class:04x},{kind},{})", hex_bytes(data))
            }
        }
    }
}

/// Bytes as one number without leading zeros; `0` for zero.
fn hex_bytes(bytes: &[u8]) -> String {
    let start = bytes.iter().position(|b| *b != 0);
    start.map_or_else(
        || "0".to_owned(),
        |at| bytes[at + 1..].iter().fold(format!("0x{:x}", bytes[at]), |text, b| text + &format!("{b:02x}")),
    )
}

impl Display for Show<'_, Learn> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Show(l, names) = *self;
        write!(f, "learn(table={}", names.table(l.table))?;
        let numbers = [
            ("idle_timeout", l.idle_timeout, 0),
            ("hard_timeout", l.hard_timeout, 0),
            ("fin_idle_timeout", l.fin_idle_timeout, 0),
            ("fin_hard_timeout", l.fin_hard_timeout, 0),
            ("priority", l.priority, DEFAULT_PRIORITY),
        ];
        for (name, value, _) in numbers.iter().filter(|(_, value, usual)| value != usual) {
            write!(f, ",{name}={value}")?;
        }
        if l.flags & flags::LEARN_SEND_FLOW_REM != 0 {
            f.write_str(",send_flow_rem")?;
        }
        if l.flags & flags::LEARN_DELETE_LEARNED != 0 {
            f.write_str(",delete_learned")?;
        }
        if l.cookie != 0 {
            write!(f, ",cookie={}", Alternate(l.cookie))?;
        }
        if l.limit != 0 {
            write!(f, ",limit={}", l.limit)?;
        }
        if let Some(dst) = l.result_dst.filter(|_| l.flags & flags::LEARN_WRITE_RESULT != 0) {
            write!(f, ",result_dst={dst}")?;
        }
        for spec in &l.specs {
            write!(f, ",{}", Show(spec, names))?;
        }
        f.write_str(")")
    }
}

impl Display for Show<'_, LearnSpec> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Show(spec, names) = *self;
        match (&spec.src, &spec.dst) {
            (LearnSrc::Immediate(value), LearnDst::Match(dst)) => {
                let whole = oftext::Subfield::whole(dst.field) == (*dst).into();
                match whole {
                    true => write!(f, "{}={}", dst.field, format_value(dst.field, value, None, names.ports)),
                    false => write!(f, "{dst}={}", hex(value)),
                }
            }
            (LearnSrc::Field(src), LearnDst::Match(dst)) if (src.field, src.ofs) == (dst.field, dst.ofs) => dst.fmt(f),
            (LearnSrc::Field(src), LearnDst::Match(dst)) => write!(f, "{dst}={src}"),
            (LearnSrc::Immediate(value), LearnDst::Load(dst)) => write!(f, "load:{}->{dst}", hex(value)),
            (LearnSrc::Field(src), LearnDst::Load(dst)) => write!(f, "load:{src}->{dst}"),
            (LearnSrc::Field(src), LearnDst::Output) => write!(f, "output:{src}"),
            (LearnSrc::Immediate(value), LearnDst::Output) => write!(f, "output:{}", hex(value)),
        }
    }
}
