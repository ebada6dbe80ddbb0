//! Which implementations of a datapath's parts there are, and which is in use: `dpif-netdev/dpif-impl-*`, `miniflow-parser-*`,
//! `subtable-lookup-*` and `odp-execute/action-impl-*`.
//!
//! OVS lets an operator choose among scalar and vector forms. Here a vector form is taken at start if the processor has it, and checked
//! against its scalar twin by the tests, not in service; so each table has the one row that is in use, under the name of OVS's scalar form.
//! What is asked for by another name is refused in OVS's words.

use crate::daemon::Daemon;
use crate::unixctl::{Answer, Command};
use flow::Datapath;

const PARSER_SET: &str = "[-pmd core] miniflow_implementation_name [study_pkt_cnt]";
const DPIF: &str = "dpif_scalar";
const PARSER: &str = "scalar";
const LOOKUP: &str = "generic";
const ACTIONS: &str = "scalar";

/// The rows.
pub const COMMANDS: &[Command<Daemon>] = &[
    Command::now("dpif-netdev/dpif-impl-get", Some(""), (0, 0), |daemon, _| {
        Ok(format!("Available DPIF implementations:\n  {DPIF} (pmds: {})\n", cores(daemon)))
    }),
    Command::now("dpif-netdev/dpif-impl-set", Some("dpif_implementation_name"), (1, 1), |_, args| set_dpif(&args[0])),
    Command::now("dpif-netdev/miniflow-parser-get", Some(""), (0, 0), |daemon, _| {
        Ok(format!("Available MFEX implementations:\n  {PARSER} (available: True pmds: {})\n", cores(daemon)))
    }),
    Command::now("dpif-netdev/miniflow-parser-set", Some(PARSER_SET), (1, 5), set_parser),
    Command::now("dpif-netdev/subtable-lookup-info-get", Some(""), (0, 0), |daemon, _| Ok(lookups(daemon))),
    Command::now("dpif-netdev/subtable-lookup-prio-get", None, (0, 0), |daemon, _| Ok(lookups(daemon))),
    Command::now("dpif-netdev/subtable-lookup-prio-set", Some("[lookup_func] [prio]"), (2, 2), set_lookup),
    Command::now("odp-execute/action-impl-set", Some("name"), (1, 1), |_, args| set_actions(&args[0])),
    Command::now("odp-execute/action-impl-show", Some(""), (0, 0), |_, _| {
        Ok(format!("Available Actions implementations:\n  {ACTIONS} (available: Yes, active: Yes)\n"))
    }),
];

/// The cores of all workers, with commas.
fn cores(daemon: &Daemon) -> String {
    let cores: Vec<String> =
        daemon.switch.datapaths.all().iter().flat_map(|dp| dp.pmd_cores()).map(|core| core.to_string()).collect();
    if cores.is_empty() { "none".to_owned() } else { cores.join(",") }
}

fn refuse(text: String) -> Answer {
    tracing::error!(target: "dpif_netdev", "{}", text.trim_end());
    Err(text)
}

fn set_dpif(name: &str) -> Answer {
    if name != DPIF {
        return refuse(format!("DPIF implementation not available: Unknown DPIF implementation {name}.\n"));
    }
    Ok(format!("DPIF implementation set to {DPIF}.\n"))
}

fn set_parser(daemon: &mut Daemon, args: &[String]) -> Answer {
    let mut words = args.iter().map(String::as_str);
    let (mut core, mut name) = (None, None);
    while let Some(word) = words.next() {
        if word == "-pmd" && name.is_none() {
            let Some(id) = words.next() else {
                return refuse("Error: -pmd option requires a thread id argument.\n".to_owned());
            };
            core = id.parse::<u32>().ok();
            if core.is_none() {
                let why = format!("PMD thread passed is not valid: '{id}'. Pass a valid pmd thread ID.\n");
                return refuse(format!("Error: miniflow extract parser not changed, {why}"));
            }
        } else if name.is_none() {
            name = Some(word);
        } else {
            return refuse(format!("Error: unknown argument {word}.\n"));
        }
    }
    let Some(name) = name else {
        let hint = "Output of miniflow-parser-get shows implementation list.\n";
        return refuse(format!("Error: no miniflow extract name provided. {hint}"));
    };
    if name != PARSER {
        return refuse(format!("Error: unknown miniflow extract implementation {name}."));
    }
    let Some(core) = core else {
        return Ok(format!("Miniflow extract implementation set to {PARSER}.\n"));
    };
    if !daemon.switch.datapaths.all().iter().any(|dp| dp.pmd_cores().contains(&core)) {
        let why = format!("PMD thread {core} not in use, pass a valid pmd thread ID.\n");
        return refuse(format!("Error: miniflow extract parser not changed, {why}"));
    }
    Ok(format!("Miniflow extract implementation set to {PARSER}, on pmd thread {core}.\n"))
}

fn lookups(daemon: &Daemon) -> String {
    let used: u32 = daemon.switch.datapaths.all().iter().map(|dp| dp.stats().masks).sum();
    let priority = daemon.lookup_priority;
    format!("Available dpcls implementations:\n  {LOOKUP} (Use count: {used}, Priority: {priority})\n")
}

fn set_lookup(daemon: &mut Daemon, args: &[String]) -> Answer {
    let Ok(priority) = args[1].parse::<u8>() else {
        return Err("error converting priority, use integer in range 0-255\n".to_owned());
    };
    if args[0] != LOOKUP {
        return Err("error, subtable lookup function not found\n".to_owned());
    }
    daemon.lookup_priority = priority;
    Ok("Lookup priority change affected 0 dpcls ports and 0 subtables.\n".to_owned())
}

fn set_actions(name: &str) -> Answer {
    if name == ACTIONS {
        return Ok(format!("Action implementation set to {ACTIONS}."));
    }
    tracing::error!(target: "odp_execute", "Failed setting action implementation to {name}");
    Err(format!("Error: unknown action implementation, {name}, specified!"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_and_what_there_is_not() {
        assert_eq!(set_dpif(DPIF), Ok("DPIF implementation set to dpif_scalar.\n".to_owned()));
        let refused = "DPIF implementation not available: Unknown DPIF implementation dpif_avx512.\n";
        assert_eq!(set_dpif("dpif_avx512"), Err(refused.to_owned()));
        assert_eq!(set_actions("scalar"), Ok("Action implementation set to scalar.".to_owned()));
        assert_eq!(set_actions("x"), Err("Error: unknown action implementation, x, specified!".to_owned()));
    }
}
