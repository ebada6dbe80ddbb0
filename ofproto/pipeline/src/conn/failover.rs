//! What a bridge does without controllers: fail mode (ovs-vswitchd.conf.db(5), Bridge.fail_mode).
//!
//! Service controllers do not count. A standalone bridge without a configured controller has one rule, NORMAL. With controllers that are all away for three probe
//! intervals, all rules are forgotten and a hidden NORMAL rule above all others takes over until one is back. A secure bridge has only what it is told.

use super::endpoint::{PROBE_MIN_MS, is_passive};
use super::groups;
use crate::bridge::Bridge;
use crate::config::{FailMode, SwitchConfig};
use crate::flow_mod::{self, Journal};
use crate::slowpath::Slowpath;
use crate::world::{BridgeId, World};
use flow::Msec;
use flow::hash::Map;
use openflow::action::OfAction;
use openflow::{GroupId, OfPort, TableId};

/// Priority of the hidden rule that fails open.
const FAIL_OPEN_PRIORITY: i32 = 0x00f0_f0f0;
/// Probe intervals without a controller before the bridge stands alone.
const PATIENCE: i64 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mode {
    controllers: bool,
    /// Whether the switch connects to one of them: as in OVS, nobody fails open for those alone that may come or not.
    active: bool,
    standalone: bool,
    patience_ms: Msec,
}

impl Mode {
    fn may_open(self) -> bool {
        self.standalone && self.active
    }
}

#[derive(Debug)]
struct Entry {
    mode: Mode,
    /// Of the controllers.
    targets: Vec<String>,
    /// Since when no controller has been connected.
    alone_since_ms: Option<Msec>,
    open: bool,
}

/// The fail modes of all bridges.
#[derive(Debug, Default)]
pub(super) struct Failover(Map<BridgeId, Entry>);

impl Failover {
    /// Takes up what is configured. A bridge that gains its first or loses its last controller forgets its rules.
    pub(super) fn configure(&mut self, config: &SwitchConfig, slowpath: &Slowpath) {
        let mut world = slowpath.write_world();
        let mut live = Vec::new();
        for bridge in &config.bridges {
            let Some(id) = world.bridge_named(&bridge.name).map(|b| b.id) else { continue };
            live.push(id);
            let primary: Vec<_> = bridge.controllers.iter().filter(|c| !c.service).collect();
            let probe_ms = primary.iter().map(|c| c.inactivity_probe_ms).max().unwrap_or(0).max(PROBE_MIN_MS);
            let mode = Mode {
                controllers: !primary.is_empty(),
                active: primary.iter().any(|c| !is_passive(&c.target)),
                standalone: bridge.fail_mode == FailMode::Standalone,
                patience_ms: probe_ms * PATIENCE,
            };
            let old = self.0.get(&id).map(|e| e.mode);
            let flush = match old {
                None => true,
                Some(old) => old.controllers != mode.controllers || (!mode.controllers && old.standalone != mode.standalone),
            };
            if flush {
                if old.is_some() {
                    forget_all(&mut world, id);
                }
                if mode.standalone && !mode.controllers {
                    flow_mod::put_own_rule(&world, id, TableId(0), 0, vec![normal()]);
                }
            }
            let targets: Vec<_> = primary.iter().map(|c| c.target.clone()).collect();
            let entry = self.0.entry(id).or_insert(Entry { mode, targets: Vec::new(), alone_since_ms: None, open: false });
            entry.mode = mode;
            if !targets.iter().all(|t| entry.targets.contains(t)) || targets.is_empty() {
                // A new one has all the time that the old ones had.
                entry.alone_since_ms = None;
            }
            entry.targets = targets;
            if entry.open && !mode.may_open() {
                entry.open = false;
                flow_mod::take_own_rule(&world, id, TableId(0), FAIL_OPEN_PRIORITY);
            }
        }
        self.0.retain(|id, _| live.contains(id));
        world.upcalls = config.upcalls;
    }

    /// Opens and closes bridges as their controllers go and come. `is_controlled` says whether a controller that counts is connected.
    pub(super) fn tick(&mut self, is_controlled: impl Fn(BridgeId) -> bool, slowpath: &Slowpath, now: Msec) {
        for (id, entry) in &mut self.0 {
            if !entry.mode.may_open() {
                continue;
            }
            if is_controlled(*id) {
                entry.alone_since_ms = None;
                if std::mem::take(&mut entry.open) {
                    flow_mod::take_own_rule(&slowpath.read_world(), *id, TableId(0), FAIL_OPEN_PRIORITY);
                }
                continue;
            }
            let since = *entry.alone_since_ms.get_or_insert(now);
            if !entry.open && now - since >= entry.mode.patience_ms {
                let mut world = slowpath.write_world();
                if is_controlled(*id) {
                    // It has come while the lock was waited for, and what there is may be its own.
                    entry.alone_since_ms = None;
                    continue;
                }
                entry.open = true;
                tracing::warn!(
                    target: "fail_open",
                    "Could not connect to controller (or switch failed controller's post-connection admission control policy) for {} seconds, failing open",
                    (now - since) / 1000
                );
                forget_all(&mut world, *id);
                flow_mod::put_own_rule(&world, *id, TableId(0), FAIL_OPEN_PRIORITY, vec![normal()]);
            }
        }
    }
}

fn normal() -> OfAction {
    OfAction::Output { port: OfPort::NORMAL, max_len: 0 }
}

/// Forgets all that was put into the bridges that `config` has no longer; gives them.
pub(super) fn forget_gone(config: &SwitchConfig, slowpath: &Slowpath) -> Vec<BridgeId> {
    let stays = |b: &Bridge| config.bridges.iter().any(|c| c.name == b.name && c.datapath_type == b.kind);
    let gone: Vec<_> = slowpath.read_world().bridges.values().filter(|b| !stays(b)).map(|b| b.id).collect();
    if !gone.is_empty() {
        let mut world = slowpath.write_world();
        gone.iter().for_each(|id| forget_all(&mut world, *id));
    }
    gone
}

/// Forgets rules, groups and meters: who controls the bridge now has not asked for them.
fn forget_all(world: &mut World, bridge: BridgeId) {
    let mut journal = Journal::default();
    if let Some(b) = world.bridges.get(&bridge) {
        for table in &b.tables {
            for rule in flow_mod::rules_of(table, |r| !r.is_hidden()) {
                flow_mod::remove(world, b, &rule, flow_mod::removed::DELETE, &mut journal);
            }
        }
    }
    groups::delete(world, bridge, GroupId::ALL, &mut journal);
    groups::delete_meters(world, bridge, groups::METER_ALL, &mut journal);
    journal.commit(world);
}

#[cfg(test)]
mod tests {
    use super::{Failover, PATIENCE, PROBE_MIN_MS};
    use crate::config::FailMode;
    use crate::scenario::{Scenario, config, controller};
    use std::cell::Cell;

    #[test]
    fn a_new_controller_is_waited_for_as_long_as_the_first_was() {
        let mut config = config(&["br0 p1@1"]);
        config.bridges[0].fail_mode = FailMode::Standalone;
        let scenario = Scenario::new(&config);
        let patience = PROBE_MIN_MS * PATIENCE;
        let mut failover = Failover::default();
        let mut use_these = |failover: &mut Failover, targets: &[&str]| {
            config.bridges[0].controllers = targets.iter().map(|target| controller(target)).collect();
            failover.configure(&config, &scenario.slowpath);
        };
        let is_open = |failover: &mut Failover, now| {
            failover.tick(|_| false, &scenario.slowpath, now);
            failover.0.values().all(|entry| entry.open)
        };
        use_these(&mut failover, &["tcp:127.0.0.1:1"]);
        assert!(!is_open(&mut failover, 0));
        // The old one beside a new one: from now on.
        use_these(&mut failover, &["tcp:127.0.0.1:1", "tcp:127.0.0.1:2"]);
        assert!(!is_open(&mut failover, patience - 1));
        assert!(!is_open(&mut failover, patience));
        // One less, or the same again, changes nothing.
        use_these(&mut failover, &["tcp:127.0.0.1:2"]);
        scenario.flow_mod("br0", "in_port=1,actions=drop").unwrap();
        assert!(!is_open(&mut failover, 2 * patience - 2));
        let flows = || scenario.run_command("bridge/dump-flows", &["br0"]).unwrap();
        assert!(flows().contains("in_port=1,actions=drop"), "{}", flows());
        assert!(is_open(&mut failover, 2 * patience - 1));
        assert!(flows().contains("priority=15790320,actions=NORMAL") && !flows().contains("in_port=1"), "{}", flows());
        // Who is open stays so until a controller is there.
        use_these(&mut failover, &["tcp:127.0.0.1:3"]);
        assert!(is_open(&mut failover, 2 * patience));
    }

    #[test]
    fn who_comes_at_the_last_moment_keeps_what_it_puts() {
        let mut config = config(&["br0 p1@1"]);
        config.bridges[0].fail_mode = FailMode::Standalone;
        config.bridges[0].controllers = vec![controller("tcp:127.0.0.1:1")];
        let scenario = Scenario::new(&config);
        let mut failover = Failover::default();
        failover.configure(&config, &scenario.slowpath);
        failover.tick(|_| false, &scenario.slowpath, 0);
        scenario.flow_mod("br0", "in_port=1,actions=drop").unwrap();
        // Away when asked first, there when asked again.
        let asked = Cell::new(false);
        failover.tick(|_| asked.replace(true), &scenario.slowpath, PROBE_MIN_MS * PATIENCE);
        let flows = scenario.run_command("bridge/dump-flows", &["br0"]).unwrap();
        assert!(flows.contains("in_port=1,actions=drop") && !flows.contains("priority=15790320"), "{flows}");
    }
}
