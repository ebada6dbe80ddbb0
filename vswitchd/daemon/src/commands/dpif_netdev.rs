//! `dpif-netdev/*`: the forwarding workers (OVS: pmd threads) of the datapaths in this process, shown and controlled.
//!
//! What enters: options and the name of a datapath. What leaves: the datapath's own text. A datapath need not be named where there is one.

use crate::daemon::Daemon;
use crate::unixctl::{Answer, Command};
use datapath::{LogSettings, PerfView, Switch};
use std::sync::Arc;

const PERF_USAGE: &str = "[-nh] [-it iter-history-len] [-ms ms-history-len] [-pmd core] [dp]";
const LOG_USAGE: &str = "on|off [-b before] [-a after] [-e|-ne] [-us usec] [-q qlen]";
const NO_DATAPATH: &str = "please specify an existing datapath";
/// Entries of a history.
const HISTORY_MAX: usize = 1000;

/// The rows.
pub const COMMANDS: &[Command<Daemon>] = &[
    Command::now("dpif-netdev/bond-show", Some("[dp]"), (0, 1), bond_show),
    Command::now("dpif-netdev/pmd-perf-log-set", Some(LOG_USAGE), (0, 10), perf_log_set),
    Command::now("dpif-netdev/pmd-perf-show", Some(PERF_USAGE), (0, 8), perf_show),
    Command::now("dpif-netdev/pmd-rxq-rebalance", Some("[dp]"), (0, 1), rebalance),
    Command::now("dpif-netdev/pmd-rxq-show", Some("[-pmd core] [-secs secs] [dp]"), (0, 5), rxq_show),
    Command::now("dpif-netdev/pmd-sleep-show", Some("[dp]"), (0, 1), sleep_show),
    Command::now("dpif-netdev/pmd-stage-show", Some("[on|off] [dp]"), (0, 2), stage_show),
    Command::now("dpif-netdev/pmd-stats-clear", Some("[-pmd core] [dp]"), (0, 3), stats_clear),
    Command::now("dpif-netdev/pmd-stats-show", Some("[-pmd core] [dp]"), (0, 3), stats_show),
];

/// The options that these commands share.
#[derive(Debug, PartialEq, Eq)]
struct Wish<'a> {
    core: Option<u32>,
    seconds: usize,
    view: PerfView,
    datapath: Option<&'a str>,
}

impl<'a> Wish<'a> {
    /// Reads the arguments as OVS does: what is no option names the datapath, and a number that is none counts as not given.
    fn read(args: &'a [String], options: &[&str]) -> Self {
        let mut wish =
            Self { core: None, seconds: 0, view: PerfView { histograms: true, rounds: 0, milliseconds: 0 }, datapath: None };
        let mut args = args.iter().map(String::as_str);
        while let Some(arg) = args.next() {
            if !options.contains(&arg) {
                wish.datapath = Some(arg);
                continue;
            }
            if arg == "-nh" {
                wish.view.histograms = false;
                continue;
            }
            let value = args.next().unwrap_or_default();
            let number = value.parse::<u32>().ok();
            let count = number.map_or(0, |n| n as usize).min(HISTORY_MAX);
            match arg {
                "-pmd" => wish.core = number,
                "-secs" => wish.seconds = number.map_or(0, |n| n as usize),
                "-it" => wish.view.rounds = count,
                _ => wish.view.milliseconds = count,
            }
        }
        wish
    }

    /// The datapath of that name, or the only one if none is named.
    fn exactly(&self, daemon: &Daemon) -> Result<Arc<Switch>, String> {
        use flow::Datapath;
        let dp = self.datapath(daemon)?;
        if self.datapath.is_some_and(|name| name != dp.name()) {
            return Err(NO_DATAPATH.to_owned());
        }
        Ok(dp)
    }

    /// The datapath of that name, or the only one.
    fn datapath(&self, daemon: &Daemon) -> Result<Arc<Switch>, String> {
        use flow::Datapath;
        let mut all = daemon.switch.datapaths.all();
        let named = |dp: &Arc<Switch>| self.datapath.is_some_and(|name| name == dp.name());
        if let Some(at) = all.iter().position(named) {
            return Ok(all.swap_remove(at));
        }
        match all.pop() {
            Some(only) if all.is_empty() => Ok(only),
            Some(_) | None => Err(NO_DATAPATH.to_owned()),
        }
    }
}

fn rxq_show(daemon: &mut Daemon, args: &[String]) -> Answer {
    let wish = Wish::read(args, &["-pmd", "-secs"]);
    Ok(wish.datapath(daemon)?.pmd_rxq_show(wish.core, wish.seconds))
}

fn stats_show(daemon: &mut Daemon, args: &[String]) -> Answer {
    let wish = Wish::read(args, &["-pmd"]);
    Ok(wish.datapath(daemon)?.pmd_stats_show(wish.core))
}

fn stats_clear(daemon: &mut Daemon, args: &[String]) -> Answer {
    let wish = Wish::read(args, &["-pmd"]);
    wish.datapath(daemon)?.pmd_stats_clear(wish.core);
    Ok(String::new())
}

fn perf_show(daemon: &mut Daemon, args: &[String]) -> Answer {
    let wish = Wish::read(args, &["-pmd", "-nh", "-it", "-ms"]);
    Ok(wish.datapath(daemon)?.pmd_perf_show(wish.core, wish.view))
}

fn sleep_show(daemon: &mut Daemon, args: &[String]) -> Answer {
    Ok(Wish::read(args, &[]).datapath(daemon)?.pmd_sleep_show())
}

/// Not one of OVS's: the cycles of each stage of the fast path, accounted from `on` to `off`.
fn stage_show(daemon: &mut Daemon, args: &[String]) -> Answer {
    use flow::Datapath;
    let (word, rest) = match args.split_first() {
        Some((word, rest)) if word == "on" || word == "off" => (Some(word == "on"), rest),
        Some(_) | None => (None, args),
    };
    let datapath = Wish::read(rest, &[]).datapath(daemon)?;
    if let Some(unknown) = rest.iter().find(|name| *name != datapath.name()) {
        return Err(format!("{unknown}: expected [on|off] [dp]"));
    }
    if let Some(on) = word {
        datapath.account_stages(on);
        return Ok(String::new());
    }
    Ok(datapath.pmd_stage_show())
}

fn rebalance(daemon: &mut Daemon, args: &[String]) -> Answer {
    Wish::read(args, &[]).exactly(daemon)?.pmd_rxq_rebalance();
    Ok("pmd rxq rebalance requested.\n".to_owned())
}

/// The tables of bonds that the datapath balances by itself (`lb_output`).
fn bond_show(daemon: &mut Daemon, args: &[String]) -> Answer {
    Ok(Wish::read(args, &[]).exactly(daemon)?.bonds_show())
}

fn perf_log_set(daemon: &mut Daemon, args: &[String]) -> Answer {
    let all = daemon.switch.datapaths.all();
    let mut settings = all.first().map(|dp| dp.perf_log()).unwrap_or_default();
    read_log(&mut settings, args).ok_or_else(|| {
        let usage = "[on|off] [-b before] [-a after] [-e|-ne] [-us usec] [-q qlen]";
        format!("Usage: ovs-appctl dpif-netdev/pmd-perf-log-set {usage}")
    })?;
    let LogSettings { on, before, after, extend, threshold_us, queue_length } = settings;
    let on = if on { "on" } else { "off" };
    tracing::info!(target: "pmd_perf", "pmd-perf-log-set: {on}, before={before}, after={after}, extend={extend}, us_thr={threshold_us}, q_thr={queue_length}");
    for dp in all {
        dp.set_perf_log(settings);
    }
    Ok(String::new())
}

/// Changes what the arguments say; `None`: they make no sense.
fn read_log(settings: &mut LogSettings, args: &[String]) -> Option<()> {
    let most = HISTORY_MAX - 2;
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        let mut number = || args.next()?.parse::<u32>().ok();
        match arg {
            "on" => settings.on = true,
            "off" => settings.on = false,
            "-e" => settings.extend = true,
            "-ne" => settings.extend = false,
            "-a" => settings.after = (number()? as usize).min(most),
            "-b" => settings.before = (number()? as usize).min(most),
            "-us" => settings.threshold_us = number()?.into(),
            "-q" => settings.queue_length = number()?.into(),
            _ => return None,
        }
    }
    settings.after = settings.after.min(most - settings.before);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_and_a_datapath() {
        let args = words("-pmd 3 -secs 7 dp0");
        let wish = Wish::read(&args, &["-pmd", "-secs"]);
        assert_eq!((wish.core, wish.seconds, wish.datapath), (Some(3), 7, Some("dp0")));
        let args = words("-nh -it 5 -ms 9999 -pmd x");
        let wish = Wish::read(&args, &["-pmd", "-nh", "-it", "-ms"]);
        assert_eq!((wish.core, wish.view), (None, PerfView { histograms: false, rounds: 5, milliseconds: 1000 }));
        let args = words("-secs -1");
        assert_eq!(Wish::read(&args, &["-pmd", "-secs"]).seconds, 0);
    }

    #[test]
    fn log_settings() {
        let mut settings = LogSettings::default();
        assert_eq!(read_log(&mut settings, &words("on -b 990 -a 50 -e -us 20")), Some(()));
        let expect = LogSettings { on: true, before: 990, after: 8, extend: true, threshold_us: 20, ..LogSettings::default() };
        assert_eq!(settings, expect);
        assert_eq!(read_log(&mut settings, &words("-b")), None);
        assert_eq!(read_log(&mut settings, &words("maybe")), None);
    }
}
