//! `ferrule offload`: what the switch has in hardware and why not the rest, asked of the daemon; and an eSwitch's mode, which is the operator's.
//!
//! What enters: a word and its arguments. What leaves: the daemon's text (`offload/show` and so on); for `mode`, what each step came to.

use crate::appctl::{print, refuse};
use crate::console::Io;
use crate::fault::{Fault, errno_text};
use crate::unixctl::{self, Answer};
use std::path::Path;
use std::process::Command;

const TARGET: &str = "ovs-vswitchd";
const HELP: &str = "ferrule offload: look at hardware offload
usage: ferrule offload COMMAND

  show          whether offload is on, what is in hardware, and why not the rest
  why [UFID]    where a megaflow is and why; without a name, all that are in software
  audit         compare the megaflows with what the hardware's tables have (exit code 1 if they differ)
  sweep         remove rules that bear our mark and belong to no megaflow
  mode DEVICE [legacy|switchdev]
                an eSwitch's mode (DEVICE as devlink names it: pci/0000:03:00.0); each step is checked
";

/// Its commands, for completion.
pub fn commands() -> Vec<&'static str> {
    vec!["show", "why", "audit", "sweep", "mode"]
}

/// Runs it.
///
/// # Errors
/// Words that are none of its own, no daemon, the daemon's refusal.
pub fn run(io: &mut Io<'_>, words: &[String]) -> Result<u8, Fault> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["-h" | "--help" | "help"] => {
            write!(io.out, "{HELP}")?;
            Ok(0)
        }
        ["show"] => ask(io, "offload/show", &[]).map(|_| 0),
        ["why"] => ask(io, "offload/why", &[]).map(|_| 0),
        ["why", ufid] => ask(io, "offload/why", &[ufid.to_owned()]).map(|_| 0),
        ["sweep"] => ask(io, "offload/sweep", &[]).map(|_| 0),
        ["audit"] => {
            Ok(u8::from(!ask(io, "offload/audit", &[])?.lines().all(|l| !is_summary(l) || l.ends_with(", 0 differences"))))
        }
        ["mode", device] => mode(io, device, None),
        ["mode", device, wanted @ ("legacy" | "switchdev")] => mode(io, device, Some(wanted)),
        ["mode", _, other] => Err(Fault::say(format!("mode {other}: expected legacy or switchdev"))),
        ["mode", ..] => Err(Fault::say("usage: ferrule offload mode DEVICE [legacy|switchdev]")),
        [] => Err(Fault::say("missing command name; use --help for help")),
        [known, ref arguments @ ..] if commands().contains(&known) => {
            Err(Fault::say(format!("{known}: unexpected arguments '{}'; use --help for help", arguments.join(" "))))
        }
        [other, ..] => Err(Fault::say(format!("unknown command '{other}'; use --help for help"))),
    }
}

/// The last line of a datapath's audit.
fn is_summary(line: &str) -> bool {
    line.ends_with(" differences")
}

fn ask(io: &mut Io<'_>, command: &str, arguments: &[String]) -> Result<String, Fault> {
    let mut client = unixctl::connect(io, TARGET)?;
    let fault = |error: std::io::Error| Fault::say(format!("{TARGET}: transaction error ({})", errno_text(&error)));
    let answer = client.transact(command, arguments).map_err(fault)?;
    refuse(io, TARGET, &answer)?;
    let Answer::Result(result) = answer else { return Ok(String::new()) };
    print(io, &result, false)?;
    Ok(result.as_str().unwrap_or_default().to_owned())
}

/// Looks at an eSwitch's mode, or sets it and looks whether that came about: the mode itself, then the representors.
fn mode(io: &mut Io<'_>, device: &str, wanted: Option<&str>) -> Result<u8, Fault> {
    let before = devlink(&["dev", "eswitch", "show", device])?;
    writeln!(io.out, "{}", before.trim())?;
    let Some(wanted) = wanted else { return Ok(0) };
    if !says_mode(&before, wanted) {
        devlink(&["dev", "eswitch", "set", device, "mode", wanted])?;
        let after = devlink(&["dev", "eswitch", "show", device])?;
        writeln!(io.out, "{}", after.trim())?;
        if !says_mode(&after, wanted) {
            return Err(Fault::say(format!("{device}: the mode did not become {wanted}")));
        }
    }
    let representors = representors(&devlink(&["port", "show"])?, device);
    for name in &representors {
        let id = std::fs::read_to_string(Path::new("/sys/class/net").join(name).join("phys_switch_id")).unwrap_or_default();
        writeln!(io.out, "representor {name}, switch {}", if id.trim().is_empty() { "none" } else { id.trim() })?;
    }
    if wanted == "switchdev" && representors.is_empty() {
        return Err(Fault::say(format!("{device}: no representor appeared")));
    }
    Ok(0)
}

fn devlink(words: &[&str]) -> Result<String, Fault> {
    let output = Command::new("devlink").args(words).output().map_err(|e| Fault::because("devlink", &e))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Fault::say(format!("devlink {}: {said}", words.join(" "))));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `pci/0000:03:00.0: mode switchdev inline-mode none`
fn says_mode(text: &str, mode: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.windows(2).any(|pair| pair == ["mode", mode])
}

/// The network devices of the functions' ports of `device`, as `devlink port show` lists them: virtual functions, subfunctions, and the host's
/// physical one where the card has processors of its own.
fn representors(ports: &str, device: &str) -> Vec<String> {
    let of_device = |line: &&str| line.strip_prefix(device).is_some_and(|rest| rest.starts_with('/'));
    let is_function = |line: &&str| match line.split_whitespace().skip_while(|w| *w != "flavour").nth(1) {
        Some("pcipf") => line.contains("external true"),
        flavour => matches!(flavour, Some("pcivf" | "pcisf")),
    };
    let netdev = |line: &str| line.split_whitespace().skip_while(|w| *w != "netdev").nth(1).map(str::to_owned);
    ports.lines().filter(of_device).filter(is_function).filter_map(netdev).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devlink_is_read() {
        assert!(says_mode("netdevsim/netdevsim0: mode switchdev", "switchdev"));
        assert!(!says_mode("netdevsim/netdevsim0: mode legacy", "switchdev"));
        let ports = "netdevsim/netdevsim0/0: type eth netdev eni0np1 flavour physical port 1 splittable false
netdevsim/netdevsim0/128: type eth netdev eth1 flavour pcivf controller 0 pfnum 0 vfnum 0
netdevsim/netdevsim01/128: type eth netdev eth9 flavour pcivf controller 0 pfnum 0 vfnum 0";
        assert_eq!(representors(ports, "netdevsim/netdevsim0"), ["eth1"]);
        let ports = "pci/0000:03:00.0/327679: type eth netdev p0 flavour physical port 0 splittable false
pci/0000:03:00.0/65535: type eth netdev pf0 flavour pcipf controller 0 pfnum 0 external false splittable false
pci/0000:03:00.0/262143: type eth netdev pf0hpf flavour pcipf controller 1 pfnum 0 external true splittable false
  function:
    hw_addr 02:00:00:00:00:01
pci/0000:03:00.0/262144: type eth netdev c1pf0vf0 flavour pcivf controller 1 pfnum 0 vfnum 0 external true splittable false
pci/0000:03:00.0/294912: type eth netdev en3f0pf0sf88 flavour pcisf controller 0 pfnum 0 sfnum 88 splittable false
pci/0000:03:00.0/294913: type notset flavour pcisf controller 0 pfnum 0 sfnum 89 splittable false";
        assert_eq!(representors(ports, "pci/0000:03:00.0"), ["pf0hpf", "c1pf0vf0", "en3f0pf0sf88"]);
    }
}
