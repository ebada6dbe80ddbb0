//! The bridge room's memory between passes: what was built last, what was complained about, when statistics are due; and the two things it does, `reconfigure` and `refresh`. Each gives the transaction that writes back what came of it.

use super::build::{Built, Environment, build};
use super::complaints::Complaints;
use super::rows::{Replica, Row, open_vswitch};
use super::schema::{Column, OpenVswitch, Role, Table, columns, interface, open_vswitch as root};
use super::status::{self, Report, Write};
use flow::Msec;
use flow::hash::Set;
use ofproto::config::{InterfaceStatus, SwitchConfig};
use ovsdb::{Change, Datum, Txn};

/// Status is looked at this often while nothing else happens.
pub const REFRESH_MS: Msec = 500;
/// What is new is told at once, but no more often than this.
pub const NEWS_MS: Msec = 100;

/// The slow path as this room sees it.
pub trait Switch {
    /// Makes what is there equal to `config`.
    fn configure(&mut self, config: &SwitchConfig);
    /// What came of it, with the counters of the interfaces whose names `counted` says yes of.
    fn report(&mut self, counted: &dyn Fn(&str) -> bool) -> Report;
    /// How often something has changed that ought to be told soon.
    fn news(&self) -> u64;
    /// `Open_vSwitch.datapath_types`.
    fn datapath_types(&self) -> Vec<String>;
    /// `Open_vSwitch.iface_types`.
    fn interface_types(&self) -> Vec<String>;
    /// `Open_vSwitch.statistics`.
    fn host_statistics(&self) -> Vec<(String, String)>;
}

/// The memory.
#[derive(Debug, Default)]
pub struct Room {
    environment: Environment,
    built: Built,
    complaints: Complaints,
    /// Interfaces that could not be opened.
    failed: Set<String>,
    next_statistics_ms: Msec,
    next_refresh_ms: Msec,
    /// Not before this time what is new is told.
    quiet_until_ms: Msec,
    /// Something new waits for that time.
    has_news: bool,
    /// `Switch::news` as of the last refresh.
    told: u64,
}

/// Whether a change of the replica asks for a new configuration: it does where a column is configuration.
pub fn concerns(change: &Change) -> bool {
    let mut config = columns(&change.table).iter().filter(|column| column.role == Role::Config);
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => config.any(|column| old.get(column.name) != new.get(column.name)),
        // A table of which nothing is configuration (Manager) concerns only the server.
        (None, _) | (_, None) => config.next().is_some(),
    }
}

impl Room {
    /// A room that has configured nothing yet.
    pub fn new(environment: Environment) -> Self {
        Self { environment, ..Self::default() }
    }

    /// What was built last.
    pub fn built(&self) -> &Built {
        &self.built
    }

    /// Applies the database to the switch. The transaction holds port numbers, states and `cur_cfg`.
    pub fn reconfigure(&mut self, replica: &dyn Replica, switch: &mut dyn Switch, now: Msec) -> Txn {
        let report = self.apply(replica, switch);
        self.next_statistics_ms = self.next_statistics_ms.min(now + self.built.stats_interval_ms);
        let mut writes = status::writes(replica, &self.built, &report, false);
        // What is wrong with a port that is there all the same waits until it is looked at next: ovs-vsctl, which reads when it sees `cur_cfg`,
        // takes an error for a failure, and the one half of a pair of patch ports always comes first.
        let odd = |i: &&InterfaceStatus| i.error.is_some() && i.ofport.is_some();
        let odd: Set<_> = report.interfaces.iter().filter(odd).filter_map(|i| self.built.interfaces.get(&i.name)).collect();
        writes.retain(|w| w.column != interface::ERROR.name || !odd.contains(&w.row));
        if let Some(row) = open_vswitch(replica) {
            put_root(&mut writes, &row, root::CUR_CFG, Datum::from(row.int(root::NEXT_CFG)));
            put_root(&mut writes, &row, root::DATAPATH_TYPES, Datum::set(switch.datapath_types()));
            put_root(&mut writes, &row, root::IFACE_TYPES, Datum::set(switch.interface_types()));
            put_root(&mut writes, &row, root::DPDK_INITIALIZED, Datum::from(false));
            put_root(&mut writes, &row, root::DPDK_VERSION, Datum::from("none"));
        }
        transaction(writes)
    }

    /// Looks at what changed by itself: links, controllers, counters. Empty if it is not time yet or nothing did.
    pub fn refresh(&mut self, replica: &dyn Replica, switch: &mut dyn Switch, now: Msec) -> Txn {
        let news = switch.news();
        self.has_news = news != self.told;
        if now < self.next_ms() {
            return Txn::new();
        }
        (self.told, self.has_news) = (news, false);
        self.next_refresh_ms = now + REFRESH_MS;
        self.quiet_until_ms = now + NEWS_MS;
        let statistics = now >= self.next_statistics_ms;
        if statistics {
            self.next_statistics_ms = now + self.built.stats_interval_ms;
        }
        let report = switch.report(&|_| statistics);
        let mut writes = status::writes(replica, &self.built, &report, statistics);
        if statistics && let Some(row) = open_vswitch(replica) {
            let host = if self.built.host_statistics { switch.host_statistics() } else { Vec::new() };
            put_root(&mut writes, &row, root::STATISTICS, status::pairs(&host));
        }
        transaction(writes)
    }

    /// Something happened to a port: look at once.
    pub fn refresh_soon(&mut self) {
        self.next_refresh_ms = 0;
    }

    /// Whether a device of that name is wanted but could not be had.
    pub fn awaits(&self, name: &str) -> bool {
        self.failed.contains(name)
    }

    /// When `refresh` is due.
    pub fn next_ms(&self) -> Msec {
        if self.has_news { self.next_refresh_ms.min(self.quiet_until_ms) } else { self.next_refresh_ms }
    }

    /// Gives up all bridges: another process has taken over.
    pub fn disband(&mut self, switch: &mut dyn Switch) {
        let config = SwitchConfig { rundir: Some(self.environment.rundir.clone()), ..SwitchConfig::default() };
        switch.configure(&config);
        self.built = Built::default();
    }

    fn apply(&mut self, replica: &dyn Replica, switch: &mut dyn Switch) -> Report {
        let mut complaints = Complaints::default();
        let before = std::mem::replace(&mut self.built, build(replica, &self.environment, &mut complaints));
        complaints.log(&self.complaints);
        self.complaints = complaints;
        switch.configure(&self.built.config);
        // All that is new by now is in the report.
        self.told = switch.news();
        // Who adds an interface finds its counters there at once, or whoever brings the device that there was not.
        let is_new = |name: &str| self.built.interfaces.get(name) != before.interfaces.get(name) || self.failed.contains(name);
        let report = switch.report(&is_new);
        self.failed =
            report.interfaces.iter().filter(|i| i.error.is_some() && i.ofport.is_none()).map(|i| i.name.clone()).collect();
        report
    }
}

fn put_root<K>(writes: &mut Vec<Write>, row: &Row<'_, OpenVswitch>, column: Column<OpenVswitch, K>, value: Datum) {
    if row.datum(column).is_some_and(|current| *current != value) {
        writes.push(Write { table: OpenVswitch::NAME, row: row.uuid, column: column.name, value });
    }
}

/// Writes of one row become one update.
fn transaction(writes: Vec<Write>) -> Txn {
    let mut txn = Txn::new();
    let mut writes = writes.into_iter().peekable();
    while let Some(first) = writes.next() {
        let (table, row) = (first.table, first.row);
        let mut columns = vec![(first.column, first.value)];
        while let Some(next) = writes.next_if(|w| w.table == table && w.row == row) {
            columns.push((next.column, next.value));
        }
        txn.update(table, row, columns);
    }
    txn
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemorySwitch;
    use super::super::rows::test_replica::Text;
    use super::*;

    const BRIDGE: &str = "Open_vSwitch . bridges={@br0} next_cfg=5 cur_cfg=4 datapath_types={netdev} iface_types={}
         Bridge br0 ports={@br0p,@p1p,@p2p} datapath_id={}
         Port br0p name=br0 interfaces={@br0i}
         Interface br0i name=br0 type=internal ofport={} mac_in_use={}
         Port p1p name=p1 interfaces={@p1i}
         Interface p1i name=p1 ofport={} ofport_request=9
         Port p2p name=bad interfaces={@p2i}
         Interface p2i name=bad ofport={} error={}";

    #[test]
    fn what_is_new_is_told_soon_and_what_is_not_is_looked_for_in_peace() {
        let (mut room, mut switch) = (Room::default(), MemorySwitch::default());
        let replica = Text::new(BRIDGE);
        let refresh = |room: &mut Room, switch: &mut MemorySwitch, now| {
            let before = switch.reports;
            room.refresh(&replica, switch, now);
            (switch.reports > before, room.next_ms())
        };
        assert_eq!(refresh(&mut room, &mut switch, 1000), (true, 1500));
        assert_eq!(refresh(&mut room, &mut switch, 1010), (false, 1500));
        switch.news += 1;
        assert_eq!(refresh(&mut room, &mut switch, 1020), (false, 1100), "not more often than ten times a second");
        switch.news += 1;
        assert_eq!(refresh(&mut room, &mut switch, 1100), (true, 1600));
        switch.news += 1;
        assert_eq!(refresh(&mut room, &mut switch, 1201), (true, 1701), "at once when nothing was told for a while");
        assert_eq!(refresh(&mut room, &mut switch, 1701), (true, 2201), "links and counters are looked at all the same");
    }

    #[test]
    fn the_machine_is_measured_when_asked() {
        let (mut room, mut switch) = (Room::default(), MemorySwitch::default());
        let mut told = |text: &str| {
            let replica = Text::new(text);
            room.reconfigure(&replica, &mut switch, 1000);
            format!("{:?}", room.refresh(&replica, &mut switch, 1_000_000))
        };
        assert!(told("Open_vSwitch . statistics={} other_config={enable-statistics=true}").contains("load_average"));
        let mut room_off = Room::default();
        let replica = Text::new("Open_vSwitch . statistics={cpu=2} other_config={}");
        let mut switch = MemorySwitch::default();
        room_off.reconfigure(&replica, &mut switch, 1000);
        assert!(!room_off.refresh(&replica, &mut switch, 1_000_000).is_empty(), "what was told before goes");
    }

    #[test]
    fn a_new_interface_has_its_counters_at_once_and_the_others_wait() {
        let (mut room, mut switch) = (Room::default(), MemorySwitch::default());
        let with = |interfaces: &[&str]| {
            let ports = interfaces.iter().map(|name| format!("@{name}p")).collect::<Vec<_>>().join(",");
            let mut text = format!("Open_vSwitch . bridges={{@br0}}\nBridge br0 ports={{{ports}}}\n");
            for name in interfaces {
                text +=
                    &format!("Port {name}p name={name} interfaces={{@{name}i}}\nInterface {name}i name={name} statistics={{}}\n");
            }
            Text::new(&text)
        };
        let mut counted = |replica: &Text, again: bool| {
            let txn =
                if again { room.refresh(replica, &mut switch, 1_000_000) } else { room.reconfigure(replica, &mut switch, 1000) };
            format!("{txn:?}").matches("\"statistics\"").count()
        };
        assert_eq!(counted(&with(&["p1", "p2"]), false), 2);
        assert_eq!(counted(&with(&["p1", "p2"]), false), 0);
        assert_eq!(counted(&with(&["p1", "p2", "p3"]), false), 1);
        assert_eq!(counted(&with(&["p1", "p2", "p3"]), true), 3);
    }

    #[test]
    fn one_pass_configures_and_writes_back() {
        let (mut room, mut switch) = (Room::default(), MemorySwitch::default());
        let txn = room.reconfigure(&Text::new(BRIDGE), &mut switch, 1000);
        assert!(!txn.is_empty());
        assert_eq!((switch.configured, switch.config.bridges[0].ports.len()), (1, 3));
        let text = format!("{txn:?}");
        for column in ["\"cur_cfg\"", "\"ofport\"", "\"error\"", "\"datapath_id\"", "\"iface_types\""] {
            assert!(text.contains(column), "{column} in {text}");
        }
        assert!(!text.contains("\"datapath_types\""), "unchanged");
        room.disband(&mut switch);
        assert!(switch.config.bridges.is_empty());
    }
}
