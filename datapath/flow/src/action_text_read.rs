//! Reads datapath actions. A table names each action's word and what reads the rest of it.
//!
//! What enters: text of any kind. What leaves: actions, or where the text stopped making sense. Neighbours: `action_text`.

use crate::action::{Action, Actions, Cookie, Ct, HashAlg, Nat, Nsh, SLOW_REASONS, SetAttr, Userspace};
use crate::action_text::{SETTABLE, set_field};
use crate::action_text_tunnel::read_tunnel_push;
use crate::dptext;
use crate::forms::PortNames;
use crate::key::VLAN_CFI;
use crate::scan::Scan;
use crate::seam::DpPort;
use crate::wire::{self, eth_type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How deep actions nest in text.
pub const NESTED_MAX: usize = 32;
/// Actions in one text, nested ones counted: as many of the smallest as a netlink attribute of 64 kB holds.
pub const ACTIONS_MAX: usize = 8191;
/// Opaque bytes of a `userspace` action: at least these (kernels before 3.10 took no fewer), with zeroes behind.
const USERDATA_BYTES_MIN: usize = 8;
/// Bytes that Open vSwitch shows for a `userspace` action without any cookie.
const COOKIE_BYTES: usize = 48;
/// Bytes of text that an opaque value may have.
const OPAQUE_BYTES_MAX: usize = 65000;
/// Bytes of NSH context headers (RFC 8300, 2.2: 63 words with 2 of base).
const NSH_METADATA_BYTES_MAX: usize = 244;
/// Bytes of a `psample` cookie.
const PSAMPLE_COOKIE_BYTES_MAX: usize = 16;

/// Why a text is no list of actions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActionsError {
    #[error("syntax error at {at}")]
    Syntax {
        /// The rest of the text, from the action that could not be read.
        at: String,
    },
    #[error("{0} cannot be set")]
    NotSettable(&'static str),
    #[error("actions nest deeper than {NESTED_MAX}")]
    TooDeep,
    /// Open vSwitch says "Argument list too long".
    #[error("more than {ACTIONS_MAX} actions")]
    TooMany,
}

/// Reads a list of actions. `drop` alone is an explicit drop without a reason, an empty text an empty list.
pub fn parse_actions(text: &str, ports: &dyn PortNames) -> Result<Actions, ActionsError> {
    if text.eq_ignore_ascii_case("drop") {
        return Ok(vec![Action::Drop(0)]);
    }
    let mut reader = Reader { scan: Scan::new(text), ports, depth: 0, count: 0, failed: None };
    let mut actions = Actions::new();
    loop {
        reader.scan.skip_delimiters();
        if reader.scan.done() {
            return Ok(actions);
        }
        let at = reader.scan.rest;
        let action = reader.action().filter(|_| reader.scan.peek().is_none_or(is_delimiter));
        let Some(action) = action else {
            return Err(reader.failed.unwrap_or_else(|| ActionsError::Syntax { at: at.to_owned() }));
        };
        actions.push(action);
    }
}

fn is_delimiter(c: char) -> bool {
    matches!(c, ',' | ' ' | '\t' | '\r' | '\n')
}

pub(crate) struct Reader<'a> {
    pub(crate) scan: Scan<'a>,
    ports: &'a dyn PortNames,
    depth: usize,
    count: usize,
    /// Set when the text fails for another reason than its syntax.
    failed: Option<ActionsError>,
}

type ReadRest = fn(&mut Reader<'_>) -> Option<Action>;

/// Each action's word, and what reads what follows it. Longer words stand before their beginnings.
const WORDS: &[(&str, ReadRest)] = &[
    ("lb_output(", |r| r.closed_number().map(Action::LbOutput)),
    ("trunc(", |r| r.closed_number().map(Action::Trunc)),
    ("recirc(", |r| r.closed_number().map(Action::Recirc)),
    ("userspace(pid=", |r| r.userspace()),
    ("set(", |r| r.set()),
    ("push_vlan(", |r| r.push_vlan()),
    ("pop_vlan", |_| Some(Action::PopVlan)),
    ("meter(", |r| r.closed_number().map(Action::Meter)),
    ("sample(sample=", |r| r.sample()),
    ("clone(", |r| r.list().map(Action::Clone)),
    ("push_nsh(", |r| r.push_nsh()),
    ("pop_nsh()", |_| Some(Action::PopNsh)),
    ("push_pbb(", |r| r.push_pbb()),
    ("copy_ttl(in)", |_| Some(Action::CopyTtl { inwards: true })),
    ("copy_ttl(out)", |_| Some(Action::CopyTtl { inwards: false })),
    ("pop_pbb", |_| Some(Action::PopPbb)),
    ("tnl_pop(", |r| r.closed_port().map(Action::TunnelPop)),
    ("tnl_push(tnl_port(", |r| read_tunnel_push(r).map(|push| Action::TunnelPush(Box::new(push)))),
    ("ct_clear", |_| Some(Action::CtClear)),
    ("check_pkt_len(size=", |r| r.check_pkt_len()),
    ("ct(", |r| r.ct().map(|ct| Action::Ct(Box::new(ct)))),
    ("ct", |_| Some(Action::Ct(Box::default()))),
    ("hash(l4(", |r| r.hash(HashAlg::L4)),
    ("hash(sym_l4(", |r| r.hash(HashAlg::SymL4)),
    ("push_mpls(", |r| r.label().map(|(lse, eth_type)| Action::PushMpls { lse, eth_type })),
    ("add_mpls(", |r| r.label().map(|(lse, eth_type)| Action::AddMpls { lse, eth_type, l3: false })),
    ("pop_mpls(eth_type=", |r| r.closed_number().map(|eth_type| Action::PopMpls { eth_type })),
    ("push_eth(src=", |r| r.push_eth()),
    ("pop_eth", |_| Some(Action::PopEth)),
    ("dec_ttl(le_1(", |r| r.dec_ttl()),
    ("psample(group=", |r| r.psample()),
];

/// Numbers of the width of `T`.
pub(crate) trait Number: TryFrom<u128> {
    const BITS: u32;
}

macro_rules! numbers { ($($t:ty),*) => { $( impl Number for $t { const BITS: u32 = <$t>::BITS; } )* }; }
numbers!(u8, u16, u32, u64);

impl<'a> Reader<'a> {
    pub(crate) fn eat(&mut self, word: &str) -> Option<()> {
        self.scan.eat(word).then_some(())
    }

    pub(crate) fn number<T: Number>(&mut self) -> Option<T> {
        self.scan.int(T::BITS).and_then(|v| T::try_from(v).ok())
    }

    /// A number and the closing bracket.
    fn closed_number<T: Number>(&mut self) -> Option<T> {
        let n = self.number()?;
        self.eat(")")?;
        Some(n)
    }

    /// `word` and a number behind it.
    pub(crate) fn after<T: Number>(&mut self, word: &str) -> Option<T> {
        self.eat(word)?;
        self.number()
    }

    /// `word` and a number behind it, which is less than `1 << bits`.
    fn part(&mut self, word: &str, bits: u32) -> Option<u32> {
        self.after::<u32>(word).filter(|v| v >> bits == 0)
    }

    pub(crate) fn mac(&mut self) -> Option<[u8; 6]> {
        let [.., a, b, c, d, e, f] = self.scan.mac()?.to_be_bytes();
        Some([a, b, c, d, e, f])
    }

    /// A port by number or name.
    fn port(&mut self) -> Option<DpPort> {
        if let Some(n) = self.number() {
            return Some(DpPort(n));
        }
        let start = self.scan;
        let name = self.scan.take(|c| !is_delimiter(c) && c != ')');
        let port = self.ports.number(name);
        if port.is_none() {
            self.scan = start;
        }
        port.map(DpPort)
    }

    pub(crate) fn closed_port(&mut self) -> Option<DpPort> {
        let port = self.port()?;
        self.eat(")")?;
        Some(port)
    }

    /// Hexadecimal digits without prefix, in pairs, at most `max` bytes.
    fn bytes(&mut self, max: usize) -> Option<Vec<u8>> {
        let digits = self.scan.take(|c| c.is_ascii_hexdigit());
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        if !rest.is_empty() || pairs.len() > max {
            return None;
        }
        let digit = |d: u8| char::from(d).to_digit(16).and_then(|v| u8::try_from(v).ok());
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
    }

    fn action(&mut self) -> Option<Action> {
        self.count += 1;
        if self.count > ACTIONS_MAX {
            self.failed = Some(ActionsError::TooMany);
            return None;
        }
        if let Some(n) = self.number() {
            return Some(Action::Output(DpPort(n)));
        }
        let start = self.scan;
        // A port may have the name of an action, or begin with one.
        if let Some(port) = self.port() {
            return Some(Action::Output(port));
        }
        self.scan = start;
        let row = WORDS.iter().find(|(word, _)| self.scan.eat(word))?;
        (row.1)(self)
    }

    /// Nested actions up to the closing bracket; `drop` alone is none.
    fn list(&mut self) -> Option<Actions> {
        self.depth += 1;
        if self.depth >= NESTED_MAX {
            self.failed = Some(ActionsError::TooDeep);
            return None;
        }
        let mut actions = Actions::new();
        if !self.scan.eat("drop)") {
            loop {
                self.scan.skip_delimiters();
                if self.scan.eat(")") {
                    break;
                }
                actions.push(self.action()?);
                self.scan.peek().filter(|c| is_delimiter(*c) || *c == ')')?;
            }
        }
        self.depth -= 1;
        Some(actions)
    }

    fn hash(&mut self, alg: HashAlg) -> Option<Action> {
        let basis = self.closed_number()?;
        self.eat(")")?;
        Some(Action::Hash { alg, basis })
    }

    fn set(&mut self) -> Option<Action> {
        let parsed = dptext::parse_attr(self.scan.rest, self.ports).ok()?;
        self.scan.rest = parsed.rest;
        self.eat(")")?;
        let Some((attr, ..)) = SETTABLE.iter().find(|(.., name)| *name == parsed.name) else {
            self.failed = Some(ActionsError::NotSettable(parsed.name));
            return None;
        };
        let mut field = set_field(*attr, &parsed.key, &parsed.mask);
        let context = field.mask.nsh_c1 != [0; 4]
            || field.mask.nsh_c2 != [0; 4]
            || field.mask.nsh_c3 != [0; 4]
            || field.mask.nsh_c4 != [0; 4];
        if *attr == SetAttr::Nsh && context {
            field.value.nsh_mdtype = wire::NSH_MD1;
        }
        Some(Action::Set(Box::new(field)))
    }

    fn push_vlan(&mut self) -> Option<Action> {
        let tpid = match self.after::<u16>("tpid=") {
            Some(tpid) => {
                self.eat(",")?;
                tpid
            }
            None => eth_type::VLAN,
        };
        let vid = self.part("vid=", 12)?;
        let pcp = self.part(",pcp=", 3)?;
        let cfi = match self.after::<u32>(",cfi=") {
            Some(0) => 0,
            Some(_) | None => VLAN_CFI,
        };
        self.eat(")")?;
        Some(Action::PushVlan { tpid, tci: u16::try_from(vid | pcp << 13).ok()? | cfi })
    }

    fn label(&mut self) -> Option<(u32, u16)> {
        let label = self.part("label=", 20)?;
        let tc = self.part(",tc=", 3)?;
        let ttl = self.part(",ttl=", 8)?;
        let bos = self.part(",bos=", 1)?;
        let eth_type = self.after(",eth_type=")?;
        self.eat(")")?;
        Some((label << 12 | tc << 9 | bos << 8 | ttl, eth_type))
    }

    fn push_eth(&mut self) -> Option<Action> {
        let src = self.mac()?;
        self.eat(",dst=")?;
        let dst = self.mac()?;
        if self.scan.eat(",type=") {
            self.number::<u16>()?;
        }
        self.eat(")")?;
        Some(Action::PushEth { src, dst })
    }

    fn push_pbb(&mut self) -> Option<Action> {
        let isid = self.part("isid=", 24)?;
        let pcp = self.part(",pcp=", 3)?;
        self.eat(")")?;
        Some(Action::PushPbb { isid, pcp: u8::try_from(pcp).ok()? })
    }

    fn dec_ttl(&mut self) -> Option<Action> {
        let exceeded = self.list()?;
        self.eat(")")?;
        Some(Action::DecTtl { exceeded })
    }

    fn sample(&mut self) -> Option<Action> {
        let percent: f64 = self.scan.take(|c| c.is_ascii_digit() || c == '.').parse().ok()?;
        self.eat("%,actions(")?;
        let actions = self.list()?;
        self.eat(")")?;
        if percent > 100.0 {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100 percent of u32::MAX")]
        let probability = (f64::from(u32::MAX) * (percent / 100.0) + 0.5).floor() as u32;
        Some(Action::Sample { probability, actions })
    }

    fn check_pkt_len(&mut self) -> Option<Action> {
        let size = self.number()?;
        self.eat(",gt(")?;
        let greater = self.list()?;
        self.eat(",le(")?;
        let less_equal = self.list()?;
        self.eat(")")?;
        Some(Action::CheckPktLen { size, greater, less_equal })
    }

    fn psample(&mut self) -> Option<Action> {
        let group = self.number()?;
        let cookie = if self.scan.eat(",cookie=0x") { self.bytes(PSAMPLE_COOKIE_BYTES_MAX)? } else { Vec::new() };
        self.eat(")")?;
        Some(Action::Psample { group, cookie })
    }

    fn push_nsh(&mut self) -> Option<Action> {
        // What is not mentioned is as Open vSwitch has it: Ethernet behind MD type 1.
        let (mut spi, mut si, mut context) = (0u32, 255u8, [0; 16]);
        let mut nsh = Nsh { ttl: 63, mdtype: wire::NSH_MD1, np: 3, ..Nsh::default() };
        loop {
            self.scan.skip_delimiters();
            if self.scan.eat(")") {
                break;
            }
            if let Some(flags) = self.after("flags=") {
                nsh.flags = flags;
            } else if let Some(ttl) = self.after("ttl=") {
                nsh.ttl = ttl;
            } else if let Some(mdtype) = self.after::<u8>("mdtype=") {
                nsh.mdtype = Some(mdtype).filter(|t| matches!(*t, wire::NSH_MD1 | wire::NSH_MD2))?;
            } else if let Some(np) = self.after("np=") {
                nsh.np = np;
            } else if let Some(v) = self.part("spi=", 24) {
                spi = v;
            } else if let Some(v) = self.after("si=") {
                si = v;
            } else if nsh.mdtype == wire::NSH_MD2 && self.scan.eat("md2=0x") {
                nsh.metadata = self.bytes(NSH_METADATA_BYTES_MAX)?;
                nsh.metadata.resize(nsh.metadata.len().next_multiple_of(4), 0);
            } else if nsh.mdtype == wire::NSH_MD2 && self.scan.eat("md2=0") {
                nsh.metadata.clear();
            } else {
                let at = ["c1=", "c2=", "c3=", "c4="].iter().position(|c| self.scan.eat(c))?;
                let word: u32 = self.number().filter(|_| nsh.mdtype == wire::NSH_MD1)?;
                context[at * 4..at * 4 + 4].copy_from_slice(&word.to_be_bytes());
            }
        }
        if nsh.mdtype == wire::NSH_MD1 {
            nsh.metadata = context.to_vec();
        }
        nsh.path = spi << 8 | u32::from(si);
        Some(Action::PushNsh(Box::new(nsh)))
    }

    fn ct(&mut self) -> Option<Ct> {
        let mut ct = Ct::default();
        let word = |r: &mut Self| r.scan.take(|c| !is_delimiter(c) && c != ')').to_owned();
        loop {
            self.scan.skip_delimiters();
            if self.scan.eat(")") {
                break;
            }
            if self.scan.eat("commit") {
                ct.commit = true;
            } else if self.scan.eat("force_commit") {
                ct.force = true;
            } else if let Some(zone) = self.after("zone=") {
                ct.zone = zone;
            } else if let Some(value) = self.after("mark=") {
                let mask = if self.scan.eat("/") { self.number()? } else { u32::MAX };
                ct.mark = Some((value, mask)).filter(|_| mask != 0);
            } else if self.scan.eat("label=") {
                let value = self.scan.int(128)?;
                let mask = if self.scan.eat("/") { self.scan.int(128)? } else { u128::MAX };
                ct.label = Some((value, mask)).filter(|_| mask != 0);
            } else if self.scan.eat("helper=") {
                ct.helper = Some(Some(word(self)).filter(|w| (1..=15).contains(&w.len()))?);
            } else if self.scan.eat("timeout=") {
                ct.timeout = Some(Some(word(self)).filter(|w| (1..=31).contains(&w.len()))?);
            } else {
                self.eat("nat")?;
                ct.nat = Some(if self.scan.eat("(") { self.nat()? } else { Nat::default() });
            }
        }
        (!(ct.commit && ct.force)).then_some(ct)
    }

    fn nat(&mut self) -> Option<Nat> {
        let mut nat = Nat::default();
        loop {
            self.scan.skip_delimiters();
            if self.scan.eat(")") {
                break;
            }
            if self.scan.eat("persistent") {
                nat.persistent = true;
            } else if self.scan.eat("hash") {
                nat.hash = true;
            } else if self.scan.eat("random") {
                nat.random = true;
            } else {
                if self.scan.eat("src") {
                    nat.src = true;
                } else {
                    self.eat("dst")?;
                    nat.dst = true;
                }
                self.nat_range(&mut nat)?;
            }
        }
        let in_order = nat.addr.is_none_or(|(min, max)| min <= max) && nat.ports.is_none_or(|(min, max)| min <= max);
        (in_order && !(nat.src && nat.dst) && !(nat.hash && nat.random)).then_some(nat)
    }

    /// `=A[-B][:p[-q]]`, or nothing.
    fn nat_range(&mut self, nat: &mut Nat) -> Option<()> {
        if !self.scan.eat("=") {
            return Some(());
        }
        let min = self.address()?;
        let max = if self.scan.eat("-") { self.address()? } else { min };
        if min.is_ipv4() != max.is_ipv4() {
            return None;
        }
        nat.addr = Some((min, max));
        if self.scan.eat(":") {
            let from: u16 = self.number()?;
            let to = if self.scan.eat("-") { self.number()? } else { from };
            nat.ports = Some((from, to)).filter(|_| from != 0);
        }
        Some(())
    }

    fn address(&mut self) -> Option<IpAddr> {
        if let Some(v4) = self.scan.ipv4() {
            return u32::try_from(v4).ok().map(|v4| IpAddr::V4(Ipv4Addr::from(v4)));
        }
        let bracketed = self.scan.eat("[");
        let v6 = self.scan.ipv6()?;
        if bracketed {
            self.eat("]")?;
        }
        Some(IpAddr::V6(Ipv6Addr::from(v6)))
    }

    fn userspace(&mut self) -> Option<Action> {
        let pid = self.number()?;
        let cookie = self.cookie()?;
        let actions = self.scan.eat(",actions");
        let tunnel_out_port = if self.scan.eat(",tunnel_out_port=") { Some(self.port()?) } else { None };
        self.eat(")")?;
        Some(Action::Userspace(Box::new(Userspace { pid, cookie, actions, tunnel_out_port })))
    }

    fn cookie(&mut self) -> Option<Cookie> {
        if self.scan.eat(",sFlow(vid=") {
            let vid = self.number::<u16>().filter(|v| *v < 4096)?;
            let tci = vid | u16::try_from(self.part(",pcp=", 3)? << 13).ok()?;
            let output = self.after(",output=")?;
            self.eat(")")?;
            return Some(Cookie::SFlow { vlan_tci: if tci == 0 { 0 } else { tci | VLAN_CFI }, output });
        }
        if self.scan.eat(",slow_path(") {
            return self.reasons().map(|reasons| Cookie::SlowPath { reasons, ofp_in_port: 0, bridge: 0 });
        }
        if self.scan.eat(",flow_sample(probability=") {
            return self.flow_sample();
        }
        if self.scan.eat(",ipfix(output_port=") {
            return self.closed_port().map(|output_port| Cookie::Ipfix { output_port });
        }
        if self.scan.eat(",controller(reason=") {
            return self.controller();
        }
        if self.scan.eat(",userdata(") {
            let mut bytes = self.bytes(OPAQUE_BYTES_MAX)?;
            self.eat(")")?;
            bytes.resize(bytes.len().max(USERDATA_BYTES_MIN), 0);
            return Some(Cookie::Raw(bytes));
        }
        Some(Cookie::Raw(vec![0; COOKIE_BYTES]))
    }

    /// Names or numbers, separated by commas or bars, up to the closing bracket.
    fn reasons(&mut self) -> Option<u32> {
        let known = SLOW_REASONS.iter().fold(0, |all, (bit, _)| all | bit);
        let mut reasons = 0;
        loop {
            if self.scan.eat(")") {
                return Some(reasons);
            }
            let bits = match self.number::<u32>() {
                Some(bits) => Some(bits).filter(|b| b & !known == 0)?,
                None => {
                    let name = self.scan.take(|c| c.is_ascii_lowercase());
                    SLOW_REASONS.iter().find(|(_, n)| *n == name)?.0
                }
            };
            reasons |= bits;
            self.scan.take(|c| c == ',' || c == '|');
        }
    }

    fn flow_sample(&mut self) -> Option<Cookie> {
        let probability = self.number()?;
        let collector_set_id = self.after(",collector_set_id=")?;
        let obs_domain_id = self.after(",obs_domain_id=")?;
        let obs_point_id = self.after(",obs_point_id=")?;
        self.eat(",output_port=")?;
        let output_port = self.port()?;
        let direction = if self.scan.eat(",ingress") {
            1
        } else if self.scan.eat(",egress") {
            2
        } else {
            0
        };
        self.eat(")")?;
        Some(Cookie::FlowSample { probability, collector_set_id, obs_domain_id, obs_point_id, output_port, direction })
    }

    fn controller(&mut self) -> Option<Cookie> {
        let reason = self.number()?;
        let dont_send = self.after::<u8>(",dont_send=")? != 0;
        let continuation = self.after::<u8>(",continuation=")? != 0;
        let recirc_id = self.after(",recirc_id=")?;
        let rule_cookie = self.after(",rule_cookie=")?;
        let controller_id = self.after(",controller_id=")?;
        let max_len = self.after(",max_len=")?;
        self.eat(")")?;
        let (bridge, ofp_in_port) = (0, 0);
        Some(Cookie::Controller {
            reason,
            dont_send,
            continuation,
            recirc_id,
            rule_cookie,
            controller_id,
            max_len,
            bridge,
            ofp_in_port,
        })
    }
}
