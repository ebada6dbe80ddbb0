//! `upcall/*` and `revalidator/*`.

use super::Outcome;
use crate::slowpath::Slowpath;
use flow::clock::now_ms;

pub(super) fn show(slowpath: &Slowpath, _: &[&str]) -> Outcome {
    Ok(slowpath.udpifs().iter().map(|u| u.show()).collect())
}

pub(super) fn disable_megaflows(slowpath: &Slowpath, _: &[&str]) -> Outcome {
    slowpath.udpifs().iter().for_each(|u| u.set_megaflows(false));
    Ok("megaflows disabled\n".to_owned())
}

pub(super) fn enable_megaflows(slowpath: &Slowpath, _: &[&str]) -> Outcome {
    slowpath.udpifs().iter().for_each(|u| u.set_megaflows(true));
    Ok("megaflows enabled\n".to_owned())
}

pub(super) fn disable_ufid(slowpath: &Slowpath, _: &[&str]) -> Outcome {
    slowpath.udpifs().iter().for_each(|u| u.set_ufid(false));
    Ok("Datapath dumping tersely using UFID disabled\n".to_owned())
}

pub(super) fn enable_ufid(slowpath: &Slowpath, _: &[&str]) -> Outcome {
    slowpath.udpifs().iter().for_each(|u| u.set_ufid(true));
    Ok("Datapath dumping tersely using UFID enabled for supported datapaths\n".to_owned())
}

pub(super) fn set_flow_limit(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    // As C's atoi: what is no number counts as 0.
    let limit = args[0].parse().unwrap_or(0);
    slowpath.udpifs().iter().for_each(|u| u.set_flow_limit(limit));
    Ok(format!("set flow_limit to {limit}\n"))
}

/// Waits until everything that was under way has had its effect and statistics have reached the rules.
pub(super) fn wait(slowpath: &Slowpath, _: &[&str]) -> Outcome {
    for udpif in slowpath.udpifs() {
        udpif.drain();
        udpif.settle();
        udpif.round(now_ms());
    }
    Ok(String::new())
}

pub(super) fn purge(slowpath: &Slowpath, _: &[&str]) -> Outcome {
    slowpath.udpifs().iter().for_each(|u| u.purge());
    Ok(String::new())
}

pub(super) fn pause(slowpath: &Slowpath, _: &[&str]) -> Outcome {
    slowpath.udpifs().iter().for_each(|u| u.set_paused(true));
    Ok(String::new())
}

pub(super) fn resume(slowpath: &Slowpath, _: &[&str]) -> Outcome {
    slowpath.udpifs().iter().for_each(|u| u.set_paused(false));
    Ok(String::new())
}
