//! What a port of an eSwitch stands for, by the name that the kernel gives it (`phys_port_name`, as devlink makes it of a port's flavour).
//!
//! What enters: `p0`, `p0s1`, `pf0vf3`, `c1pf0sf88` and the like. What leaves: the physical port or the function behind it. Neighbour: `ports`,
//! to which only the way to the network is not like the others.

use std::fmt;

/// What is on the other side of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// The network: a physical port, or one part of a port that was split.
    Uplink { port: u32, part: Option<u32> },
    /// A physical function: on a card with processors of its own the host's, whose controller has a number.
    Pf { controller: u32, pf: u32 },
    /// A virtual function.
    Vf { controller: u32, pf: u32, vf: u32 },
    /// A subfunction.
    Sf { controller: u32, pf: u32, sf: u32 },
}

impl Function {
    /// Of a port's name; `None` for names of other forms (drivers of old kernels gave a number alone).
    pub fn parse(name: &str) -> Option<Self> {
        if let Some((port, rest)) = numbered(name, "p") {
            let part = if rest.is_empty() { None } else { Some(last(rest, "s")?) };
            return Some(Self::Uplink { port, part });
        }
        // Controller 0, that of the card's own processors or the only one, is not said.
        let (controller, rest) = numbered(name, "c").unwrap_or((0, name));
        let (pf, rest) = numbered(rest, "pf")?;
        // As kernels before controllers had numbers called the host's.
        if rest.is_empty() || rest == "hpf" {
            return Some(Self::Pf { controller, pf });
        }
        if let Some(vf) = last(rest, "vf") {
            return Some(Self::Vf { controller, pf, vf });
        }
        last(rest, "sf").map(|sf| Self::Sf { controller, pf, sf })
    }

    /// Whether it is the way to the network.
    pub const fn is_uplink(self) -> bool {
        matches!(self, Self::Uplink { .. })
    }
}

/// The number behind a word at the beginning, and what follows.
fn numbered<'a>(text: &'a str, word: &str) -> Option<(u32, &'a str)> {
    let digits = text.strip_prefix(word)?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    Some((digits[..end].parse().ok()?, &digits[end..]))
}

/// The same, if nothing follows.
fn last(text: &str, word: &str) -> Option<u32> {
    numbered(text, word).filter(|(_, rest)| rest.is_empty()).map(|(number, _)| number)
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |f: &mut fmt::Formatter<'_>, controller, pf| match controller {
            0 => write!(f, "PF {pf}"),
            _ => write!(f, "PF {pf} of controller {controller}"),
        };
        match *self {
            Self::Uplink { port, part: None } => write!(f, "uplink {port}"),
            Self::Uplink { port, part: Some(part) } => write!(f, "uplink {port}, part {part}"),
            Self::Pf { controller, pf } => of(f, controller, pf),
            Self::Vf { controller, pf, vf } => write!(f, "VF {vf} of ").and_then(|()| of(f, controller, pf)),
            Self::Sf { controller, pf, sf } => write!(f, "SF {sf} of ").and_then(|()| of(f, controller, pf)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ports_are_read() {
        let cases = [
            ("p0", "uplink 0"),
            ("p12", "uplink 12"),
            ("p1s3", "uplink 1, part 3"),
            ("pf1", "PF 1"),
            ("pf0hpf", "PF 0"),
            ("c1pf0", "PF 0 of controller 1"),
            ("pf0vf0", "VF 0 of PF 0"),
            ("c1pf1vf127", "VF 127 of PF 1 of controller 1"),
            ("pf0sf1", "SF 1 of PF 0"),
            ("c1pf0sf88", "SF 88 of PF 0 of controller 1"),
        ];
        for (name, text) in cases {
            let function = Function::parse(name);
            assert_eq!(function.map(|f| f.to_string()).as_deref(), Some(text), "{name}");
            assert_eq!(function.is_some_and(Function::is_uplink), text.starts_with("uplink"), "{name}");
        }
        for name in [
            "", "p", "ps1", "p0s", "p0s1s2", "p0vf1", "pf", "pfvf0", "pf0vf", "pf0sf", "pf0vf0x", "c1", "c1p0", "cpf0vf1", "3",
            "eth0",
        ] {
            assert_eq!(Function::parse(name), None, "{name}");
        }
        assert_eq!(Function::parse("p99999999999"), None, "no number of 32 bits");
    }
}
