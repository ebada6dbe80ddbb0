//! `offload/*`: what is in hardware, why not the rest, whether all is as we believe; and its cleaning.

use crate::daemon::Daemon;
use crate::unixctl::{Answer, Command};
use flow::Ufid;

/// The rows.
pub const COMMANDS: &[Command<Daemon>] = &[
    Command::now("dpif/offload/classes", None, (0, 0), |_, _| Ok(classes())),
    Command::now("dpif/offload/show", Some(""), (0, 0), |daemon, _| Ok(daemon.switch.datapaths.offload.status())),
    Command::now("offload/audit", Some(""), (0, 0), audit),
    Command::now("offload/show", Some(""), (0, 0), |daemon, _| Ok(daemon.switch.datapaths.offload.show())),
    Command::now("offload/sweep", Some(""), (0, 0), sweep),
    Command::now("offload/why", Some("[ufid]"), (0, 1), why),
];

/// The ways to offload, and the types of datapaths that have them.
const CLASSES: [(&str, &[&str]); 1] = [("tc", &["netdev", "system"])];

fn classes() -> String {
    let mut text = format!("{:16}  Supported dpif class(es)\n{:-<16}  {:-<24}\n", "Offload Class", "", "");
    for (class, datapaths) in CLASSES {
        for (i, datapath) in datapaths.iter().enumerate() {
            text += &format!("{:16}  {datapath}\n", if i == 0 { class } else { "" });
        }
    }
    text
}

fn why(daemon: &mut Daemon, args: &[String]) -> Answer {
    let Some(text) = args.first() else {
        return Ok(daemon.switch.datapaths.offload.why(None).unwrap_or_default());
    };
    let ufid = parse_ufid(text).ok_or_else(|| format!("{text}: not a ufid"))?;
    daemon.switch.datapaths.offload.why(Some(ufid)).ok_or_else(|| format!("{text}: offload knows of no such megaflow"))
}

/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, with `ufid:` before it or not.
fn parse_ufid(text: &str) -> Option<Ufid> {
    let digits: String = text.strip_prefix("ufid:").unwrap_or(text).chars().filter(|c| *c != '-').collect();
    (digits.len() == 32).then(|| u128::from_str_radix(&digits, 16).ok()).flatten().map(Ufid)
}

fn audit(daemon: &mut Daemon, _: &[String]) -> Answer {
    let mut text = String::new();
    for tier in daemon.switch.datapaths.offload.tiers() {
        text += &tier.audit().map_err(|e| e.to_string())?.1;
    }
    Ok(text)
}

fn sweep(daemon: &mut Daemon, _: &[String]) -> Answer {
    let mut swept = 0;
    for tier in daemon.switch.datapaths.offload.tiers() {
        swept += tier.sweep().map_err(|e| e.to_string())?;
    }
    Ok(format!("{swept} stray rules removed\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_of_several_datapaths_is_named_once() {
        let [title, line, first, second] = [
            "Offload Class     Supported dpif class(es)\n",
            "----------------  ------------------------\n",
            "tc                netdev\n",
            "                  system\n",
        ];
        assert_eq!(classes(), [title, line, first, second].concat());
    }

    #[test]
    fn ufids_are_read_as_they_are_printed() {
        let ufid = Ufid(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(parse_ufid(&ufid.to_string()), Some(ufid));
        assert_eq!(parse_ufid(&format!("ufid:{ufid}")), Some(ufid));
        assert_eq!(parse_ufid("ufid:12"), None);
    }
}
