//! The model's devices: for each VF a veth pair, and one for its representor. The model has one end of each; the machine has the others.
//!
//! What enters: a prefix and a number. What leaves: devices that exist as long as the model does. They are made by `ip` and `ethtool`, and
//! checksums and large frames are made whole on the machine's side, so that the model forwards plain frames.

use port::netlink::request::links;
use port::{Device, PortConfig};
use std::io;
use std::process::{Command, Stdio};

/// Devices of one VF.
#[derive(Debug)]
pub(super) struct Function {
    /// The machine's end of the representor; rules name it by this index.
    pub(super) representor: String,
    pub(super) ifindex: u32,
    /// The model's ends.
    pub(super) vf_end: Device,
    pub(super) representor_end: Device,
}

/// All of them; gone when dropped.
#[derive(Debug, Default)]
pub(super) struct Functions {
    pub(super) all: Vec<Function>,
    made: Vec<String>,
}

fn run(program: &str, words: &[&str]) -> io::Result<()> {
    let output = Command::new(program).args(words).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{program} {}: {said}", words.join(" "))))
}

fn pair(made: &mut Vec<String>, ours: &str, theirs: &str) -> io::Result<()> {
    run("ip", &["link", "add", ours, "type", "veth", "peer", "name", theirs])?;
    made.push(ours.to_owned());
    for device in [ours, theirs] {
        run("ethtool", &["-K", device, "tx", "off", "rxvlan", "off", "txvlan", "off"])?;
    }
    // The model's end has no addresses, and says nothing by itself.
    run("ip", &["link", "set", ours, "addrgenmode", "none"])?;
    run("ip", &["link", "set", ours, "up"])?;
    run("ip", &["link", "set", theirs, "up"])
}

impl Functions {
    /// Makes `n` of them.
    ///
    /// # Errors
    /// Of the programs, with their words; names that are taken.
    pub(super) fn make(prefix: &str, n: u16) -> io::Result<Self> {
        let mut this = Self::default();
        for i in 0..n {
            let (vf, representor) = (format!("{prefix}vf{i}"), format!("{prefix}rep{i}"));
            let (vf_end, representor_end) = (format!("{vf}m"), format!("{representor}m"));
            pair(&mut this.made, &vf_end, &vf)?;
            pair(&mut this.made, &representor_end, &representor)?;
            let ifindex = links()?.into_iter().find(|l| l.name == representor).map(|l| l.ifindex);
            let ifindex = ifindex.ok_or(io::ErrorKind::NotFound)?;
            let open = |name: &str| {
                let config = PortConfig::new(name, "system").map_err(io::Error::other)?;
                Device::open(&config.with("io", "af_packet")).map_err(io::Error::other)
            };
            let (vf_end, representor_end) = (open(&vf_end)?, open(&representor_end)?);
            this.all.push(Function { representor, ifindex, vf_end, representor_end });
        }
        Ok(this)
    }
}

impl Drop for Functions {
    fn drop(&mut self) {
        self.all.clear();
        for device in &self.made {
            // Gone already, if the namespace that had its other end is.
            let _ = run("ip", &["link", "del", device]);
        }
    }
}
