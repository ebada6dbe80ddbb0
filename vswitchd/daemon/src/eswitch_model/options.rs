//! The model's command line.

use clap::Parser;
use offload::model;
use std::path::PathBuf;

/// An eSwitch in software: VFs and representors as veth pairs, programmed like a NIC's.
///
/// With `show` as its only word it asks a model that runs for its table and counters.
#[derive(Debug, Parser)]
#[command(name = "ferrule eswitch-model", disable_version_flag = true)]
pub(super) struct Options {
    /// `show`: print the table of the model that listens on the socket
    pub(super) command: Option<Command>,
    /// Where the daemon programs it (other_config:offload-backend=model:PATH)
    #[arg(long, default_value = "/run/ferrule-eswitch-model.sock")]
    pub(super) socket: PathBuf,
    /// Virtual functions
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) vfs: u16,
    /// Names of devices: PREFIXvf0, PREFIXrep0 and so on
    #[arg(long, default_value = "fm", value_parser = prefix)]
    pub(super) prefix: String,
    /// Rules that fit
    #[arg(long, default_value_t = 65_536)]
    pub(super) capacity: usize,
    /// The highest preference of a filter
    #[arg(long, default_value_t = u16::MAX)]
    pub(super) preference_max: u16,
    /// Meters that fit (other_config:hw-offload-meters)
    #[arg(long, default_value_t = 4_096)]
    pub(super) meters: usize,
    /// Rules that can be put in per second (0: as many as come)
    #[arg(long, default_value_t = 0)]
    pub(super) rate: u32,
    /// Counters are told as they were at the question before
    #[arg(long)]
    pub(super) lag: bool,
    /// Actions that it does not have (vlan, mpls, pedit, csum, mirred, police)
    #[arg(long, value_delimiter = ',', value_name = "KIND")]
    pub(super) without: Vec<String>,
    /// Creations to refuse, counted from 0
    #[arg(long, value_delimiter = ',', value_name = "NTH")]
    pub(super) refuse: Vec<u64>,
    /// Creations to take without putting them into hardware
    #[arg(long, value_delimiter = ',', value_name = "NTH")]
    pub(super) not_in_hw: Vec<u64>,
    /// Creations to change: the last action becomes a drop
    #[arg(long, value_delimiter = ',', value_name = "NTH")]
    pub(super) corrupt: Vec<u64>,
    /// Deletions that fail
    #[arg(long, value_delimiter = ',', value_name = "NTH")]
    pub(super) keep: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Command {
    Show,
}

/// Names of devices have at most 15 characters, of which eight go to what stands behind the prefix.
fn prefix(text: &str) -> Result<String, String> {
    let fits = (1..=7).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if fits { Ok(text.to_owned()) } else { Err("one to seven letters or digits".to_owned()) }
}

impl Options {
    /// What the table is told, with the interface indexes of the representors.
    pub(super) fn model(&self, ports: Vec<u32>) -> model::Options {
        model::Options {
            capacity: self.capacity,
            meters: self.meters,
            preference_max: self.preference_max,
            refuse: self.refuse.clone(),
            not_in_hw: self.not_in_hw.clone(),
            corrupt: self.corrupt.clone(),
            // Its ports are in no bond.
            partial: Vec::new(),
            shares: true,
            keep: self.keep.clone(),
            lag: self.lag,
            without: self.without.clone(),
            ports,
            tunnels: model::Tunnels::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line() {
        let read = |line: &str| Options::try_parse_from(line.split(' '));
        let options = read("x --vfs 3 --capacity 5 --refuse 1,2 --without vlan,mpls").expect("sound");
        assert_eq!((options.vfs, options.capacity, options.refuse.len(), options.without.len()), (3, 5, 2, 2));
        assert_eq!(read("x show --socket /a").expect("sound").command, Some(Command::Show));
        assert!(read("x --prefix far-too-long").is_err() && read("x --vfs 0").is_err());
    }
}
