//! Reads datapath flows: key and mask from one text. What is not mentioned is not matched.

use super::attrs::{self, ATTRS, Attr, Look, Member};
use super::tunnel;
use crate::forms::{CT_STATE, PortNames, TCP_FLAGS};
use crate::key::{DP_PORT_NONE, FRAG_ANY, FRAG_LATER, Key, MPLS_LABELS_MAX, Mask, VLAN_CFI};
use crate::scan::{self, Scan};
use crate::seam::Ufid;

/// How deep `encap(` may nest: two tags.
const ENCAP_MAX: usize = 2;
/// OVS's `eth_type` of a frame that has none (IEEE 802.2).
const ETH_TYPE_NONE: [u8; 2] = [0x05, 0xff];

/// Where a text stopped making sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error at {at}")]
pub struct SyntaxError {
    /// The rest of the text, from the attribute that could not be read.
    pub at: String,
    /// It is no syntax error: there is more than a datapath's message can hold.
    pub too_long: bool,
}

/// What a text said.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedFlow {
    pub key: Box<Key>,
    pub mask: Box<Mask>,
    pub ufid: Option<Ufid>,
}

pub(super) struct Reader<'a> {
    pub(super) scan: Scan<'a>,
    pub(super) key: Box<Key>,
    pub(super) mask: Box<Mask>,
    ports: &'a dyn PortNames,
    ufid: Option<Ufid>,
    /// Names of attributes read so far, and the Ethernet types in their order.
    seen: Vec<&'static str>,
    eth_types: Vec<(u128, u128)>,
    tags: usize,
    depth: usize,
    /// An attribute was longer than a message can hold.
    pub(super) too_long: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, ports: &'a dyn PortNames) -> Self {
        let (key, mask) = (Box::new(Key::ZERO), Box::new(Key::ZERO));
        Self {
            scan: Scan::new(text),
            key,
            mask,
            ports,
            ufid: None,
            seen: Vec::new(),
            eth_types: Vec::new(),
            tags: 0,
            depth: 0,
            too_long: false,
        }
    }

    /// The whole text as a flow.
    pub(super) fn flow(mut self) -> Result<ParsedFlow, SyntaxError> {
        self.scan.skip_delimiters();
        while !self.scan.done() {
            let start = self.scan.rest;
            if self.item().is_none() {
                return Err(SyntaxError { at: start.to_owned(), too_long: self.too_long });
            }
            self.scan.skip_delimiters();
        }
        self.settle();
        Ok(ParsedFlow { key: self.key, mask: self.mask, ufid: self.ufid })
    }

    fn item(&mut self) -> Option<()> {
        if self.scan.eat("ufid:") {
            self.ufid = Some(read_ufid(&mut self.scan)?);
            return Some(());
        }
        self.attr().map(|_| ())
    }

    /// One attribute; its name.
    pub(super) fn attr(&mut self) -> Option<&'static str> {
        if self.scan.eat("encap(") {
            return self.encap().map(|()| "encap");
        }
        if self.scan.eat("tunnel(") {
            self.once("tunnel")?;
            return tunnel::read(self).map(|()| "tunnel");
        }
        if self.scan.eat("vlan(") {
            return self.vlan().map(|()| "vlan");
        }
        if self.scan.eat("mpls(") {
            self.once("mpls")?;
            return self.mpls().map(|()| "mpls");
        }
        let row = ATTRS.iter().find(|row| self.starts(row.name))?;
        if row.name == "eth_type" {
            return self.eth_type().map(|()| row.name);
        }
        self.once(row.name)?;
        self.members(row)?;
        Some(row.name)
    }

    fn starts(&mut self, name: &str) -> bool {
        let mut ahead = self.scan;
        let found = ahead.eat(name) && ahead.eat("(");
        if found {
            self.scan = ahead;
        }
        found
    }

    fn once(&mut self, name: &'static str) -> Option<()> {
        let new = !self.seen.contains(&name);
        self.seen.push(name);
        new.then_some(())
    }

    fn members(&mut self, row: &'static Attr) -> Option<()> {
        if let [member] = row.members
            && member.name.is_empty()
        {
            self.value(member)?;
            return self.scan.eat(")").then_some(());
        }
        while let Some(member) = row.members.iter().find(|m| self.starts_member(m)) {
            self.value(member)?;
            if !self.scan.eat(",") {
                break;
            }
        }
        self.scan.eat(")").then_some(())
    }

    fn starts_member(&mut self, member: &Member) -> bool {
        [member.name, member.alias].iter().any(|name| {
            let mut ahead = self.scan;
            let found = !name.is_empty() && ahead.eat(name) && ahead.eat("=");
            if found {
                self.scan = ahead;
            }
            found
        })
    }

    /// `value` or `value/mask`, put into key and mask.
    pub(super) fn value(&mut self, member: &Member) -> Option<()> {
        let place = member.place();
        let (value, mask) = read_value(&mut self.scan, member, self.ports)?;
        place.write(&mut self.key, value);
        place.write(&mut self.mask, mask);
        Some(())
    }

    fn eth_type(&mut self) -> Option<()> {
        let member = &attrs::attr(crate::fields::DpAttr::Ethertype)?.members[0];
        let pair = read_value(&mut self.scan, member, self.ports)?;
        self.eth_types.push(pair);
        self.scan.eat(")").then_some(())
    }

    fn encap(&mut self) -> Option<()> {
        self.depth += 1;
        (self.depth <= ENCAP_MAX).then_some(())?;
        loop {
            self.scan.skip_delimiters();
            if self.scan.eat(")") {
                self.depth -= 1;
                return Some(());
            }
            self.attr()?;
        }
    }

    /// `vid=,pcp=,cfi=`; the bit for "there is a tag" is set unless `cfi=0`.
    fn vlan(&mut self) -> Option<()> {
        let (mut tci, mut mask) = (u128::from(VLAN_CFI), u128::from(VLAN_CFI));
        loop {
            let (bits, shift) = if self.scan.eat("vid=") {
                (12, 0)
            } else if self.scan.eat("pcp=") {
                (3, 13)
            } else if self.scan.eat("cfi=") {
                (1, 12)
            } else {
                break;
            };
            bit_field(&mut self.scan, bits, shift, &mut tci, &mut mask)?;
            if !self.scan.eat(",") {
                break;
            }
        }
        self.scan.eat(")").then_some(())?;
        let bytes = |v: u128| [v.to_be_bytes()[14], v.to_be_bytes()[15]];
        match self.tags {
            0 => (self.key.vlan_tci, self.mask.vlan_tci) = (bytes(tci), bytes(mask)),
            1 => (self.key.vlan2_tci, self.mask.vlan2_tci) = (bytes(tci), bytes(mask)),
            _ => return None,
        }
        self.tags += 1;
        Some(())
    }

    /// `label=,tc=,ttl=,bos=` for one or more labels; a member that comes again begins the next label.
    fn mpls(&mut self) -> Option<()> {
        let mut lses = [(0u128, 0u128); MPLS_LABELS_MAX];
        let (mut at, mut given) = (0, 0u8);
        let names = [("label=", 20, 12), ("tc=", 3, 9), ("ttl=", 8, 0), ("bos=", 1, 8)];
        while let Some(n) = names.iter().position(|(name, ..)| self.scan.eat(name)) {
            if given & (1 << n) != 0 {
                given = 0;
                at += 1;
            }
            given |= 1 << n;
            let (value, mask) = lses.get_mut(at)?;
            bit_field(&mut self.scan, names[n].1, names[n].2, value, mask)?;
            if !self.scan.eat(",") {
                break;
            }
        }
        self.scan.eat(")").then_some(())?;
        let word = |v: u128| u32::try_from(v).unwrap_or(0).to_be_bytes();
        let key = [&mut self.key.mpls_lse0, &mut self.key.mpls_lse1, &mut self.key.mpls_lse2];
        for (place, (value, _)) in key.into_iter().zip(lses) {
            *place = word(value);
        }
        let mask = [&mut self.mask.mpls_lse0, &mut self.mask.mpls_lse1, &mut self.mask.mpls_lse2];
        for (place, (_, bits)) in mask.into_iter().zip(lses) {
            *place = word(bits);
        }
        Some(())
    }

    /// Key and mask of an attribute that stands alone.
    pub(super) fn attr_only(mut self) -> (Box<Key>, Box<Mask>) {
        if let Some((eth_type, mask)) = self.eth_types.first() {
            let bytes = |v: &u128| [v.to_be_bytes()[14], v.to_be_bytes()[15]];
            (self.key.eth_type, self.mask.eth_type) = (bytes(eth_type), bytes(mask));
        }
        (self.key, self.mask)
    }

    /// What the attributes mean together: Ethernet types of tags, absent port and packet type.
    fn settle(&mut self) {
        let bytes = |v: u128| [v.to_be_bytes()[14], v.to_be_bytes()[15]];
        let mut types = self.eth_types.iter().copied();
        for n in 0..self.tags {
            let Some((tpid, mask)) = types.next() else {
                break;
            };
            match n {
                0 => (self.key.vlan_tpid, self.mask.vlan_tpid) = (bytes(tpid), bytes(mask)),
                _ => (self.key.vlan2_tpid, self.mask.vlan2_tpid) = (bytes(tpid), bytes(mask)),
            }
        }
        let ethernet = self.seen.contains(&"eth");
        match types.next() {
            // `eth_type(0/0xffff)` is how a frame without one is written.
            Some((0, 0xffff)) | None => (self.key.eth_type, self.mask.eth_type) = (ETH_TYPE_NONE, [0xff; 2]),
            Some((eth_type, mask)) => (self.key.eth_type, self.mask.eth_type) = (bytes(eth_type), bytes(mask)),
        }
        if !self.seen.contains(&"in_port") {
            self.key.in_port = DP_PORT_NONE;
        }
        if !self.seen.contains(&"recirc_id") {
            // The round of recirculation is always matched.
            self.mask.recirc_id = [0xff; 4];
        }
        if !self.seen.contains(&"packet_type") && !ethernet {
            self.mask.packet_type = [0xff; 4];
            if !self.eth_types.is_empty() {
                self.key.packet_type = [0, 1, self.key.eth_type[0], self.key.eth_type[1]];
            }
        }
    }
}

/// A part of a number at `shift`, with its mask.
fn bit_field(scan: &mut Scan<'_>, bits: u32, shift: u32, value: &mut u128, mask: &mut u128) -> Option<()> {
    let all = (1u128 << bits) - 1;
    let part = scan.int(bits)?;
    let part_mask = if scan.eat("/") { scan.int(bits)? } else { all };
    *value = *value & !(all << shift) | part << shift;
    *mask = *mask & !(all << shift) | part_mask << shift;
    Some(())
}

fn read_value(scan: &mut Scan<'_>, member: &Member, ports: &dyn PortNames) -> Option<(u128, u128)> {
    let place = member.place();
    let (bits, all) = (u32::from(place.bits), place.all());
    match member.look {
        Look::Dec | Look::Hex | Look::Hex0 | Look::Hex4 | Look::Word | Look::Reserved | Look::Byte => {
            let value = scan.int(bits)?;
            let mask = if scan.eat("/") { scan.int(128)? & all } else { all };
            Some((value, mask))
        }
        Look::Mac => masked(scan, all, |s| s.mac()),
        Look::Ip4 => masked(scan, all, |s| s.ipv4()),
        Look::Ip6 => masked(scan, all, |s| s.ipv6()),
        Look::Frag => frag(scan.take(|c| c.is_ascii_lowercase())).map(|v| (v, all)),
        Look::CtState => flag_list(scan, CT_STATE, 0xff),
        Look::TcpFlags => flag_list(scan, TCP_FLAGS, 0xfff),
        Look::Port => match scan.int(32) {
            Some(port) => {
                let mask = if scan.eat("/") { scan.int(32)? } else { all };
                Some((port, mask))
            }
            None => ports.number(scan.take(|c| c != ')')).map(|port| (u128::from(port), all)),
        },
    }
}

fn masked(scan: &mut Scan<'_>, all: u128, take: impl Fn(&mut Scan<'_>) -> Option<u128>) -> Option<(u128, u128)> {
    let value = take(scan)?;
    let mask = if scan.eat("/") { take(scan)? } else { all };
    Some((value, mask))
}

fn flag_list(scan: &mut Scan<'_>, names: scan::Flags, all: u32) -> Option<(u128, u128)> {
    let text = scan.take(|c| c != ')');
    let (value, mask) = scan::flags(text, names, all).ok()?;
    Some((u128::from(value), u128::from(mask.unwrap_or(all))))
}

fn frag(word: &str) -> Option<u128> {
    match word {
        "no" => Some(0),
        "first" => Some(u128::from(FRAG_ANY)),
        "later" => Some(u128::from(FRAG_ANY | FRAG_LATER)),
        _ => None,
    }
}

/// The 32 digits after `ufid:`, with or without dashes.
pub(super) fn read_ufid(scan: &mut Scan<'_>) -> Option<Ufid> {
    scan.eat("0x");
    let text = scan.take(|c| c.is_ascii_hexdigit() || c == '-');
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let full = digits.len() == 32 || text.len() == digits.len() && !digits.is_empty() && digits.len() < 32;
    full.then(|| u128::from_str_radix(&digits, 16).ok()).flatten().map(Ufid)
}
