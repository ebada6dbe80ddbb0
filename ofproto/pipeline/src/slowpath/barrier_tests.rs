//! What a barrier costs: the megaflows that a change concerns are translated again, and no others.

use crate::effects::{Notice, Translation};
use crate::scenario::{Scenario, config};
use crate::udpif::{Purpose, Request, Translator};
use crate::world::World;
use crate::xlate::Xlate;
use flow::Msec;
use flow::seam::Upcall;
use openflow::message::GroupCommand;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const MEGAFLOWS: usize = 400;

/// Counts what is translated again.
#[derive(Debug, Default)]
pub(super) struct Counting {
    pub(super) again: AtomicUsize,
}

impl Translator for Counting {
    fn translate(&self, request: Request<'_>) -> Translation {
        if request.purpose == Purpose::Revalidation {
            self.again.fetch_add(1, Ordering::Relaxed);
        }
        Xlate.translate(request)
    }

    fn controller(&self, world: &World, upcall: &Upcall, now: Msec) -> Option<Notice> {
        Xlate.controller(world, upcall, now)
    }
}

struct Bench {
    s: Scenario,
    counting: Arc<Counting>,
}

/// A megaflow for each destination 10.0.X.Y.
fn bench(rules: &[&str]) -> Bench {
    let counting = Arc::new(Counting::default());
    let s = Scenario::with_translator(&config(&["br0 p1@1 p2@2 p3@3"]), counting.clone());
    s.add_group("br0", "group_id=1,type=all,bucket=actions=output:2").unwrap();
    s.meter_mod("br0", 0, 1, 100).unwrap();
    for rule in rules {
        s.flow_mod("br0", rule).unwrap();
    }
    for n in 0..MEGAFLOWS {
        let (x, y) = (n / 100, n % 100);
        s.send(&format!(
            "in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),\
             ipv4(src=10.9.9.9,dst=10.0.{x}.{y},proto=17,ttl=64)"
        ));
    }
    assert_eq!(s.dp.all_flows().len(), MEGAFLOWS);
    s.slowpath.settle();
    counting.again.store(0, Ordering::Relaxed);
    Bench { s, counting }
}

impl Bench {
    /// How many megaflows are translated again until a barrier can be answered.
    fn settle(&self) -> usize {
        self.s.slowpath.settle();
        self.counting.again.swap(0, Ordering::Relaxed)
    }
}

/// Copies the destination, so that each has a megaflow of its own.
const EXACT: &str = "priority=1,ip,actions=move:NXM_OF_IP_DST[]->NXM_NX_REG0[],";

#[test]
fn a_flow_mod_reaches_only_what_it_can_concern() {
    let b = bench(&[&format!("{EXACT}output:2")]);
    b.s.flow_mod("br0", "priority=9,ip,nw_dst=10.0.1.0/29,actions=output:3").unwrap();
    assert_eq!(b.settle(), 8);
    b.s.flow_mod("br0", "priority=9,ip,nw_dst=10.7.0.0/16,actions=output:3").unwrap();
    assert_eq!(b.settle(), 0, "no megaflow has such packets");
    b.s.flow_mod("br0", "priority=9,in_port=2,actions=output:3").unwrap();
    assert_eq!(b.settle(), 0, "another port");
    b.s.flow_mod("br0", "table=5,priority=9,actions=output:3").unwrap();
    assert_eq!(b.settle(), 0, "a table that nothing consulted");
    b.s.flow_mod("br0", "priority=0,actions=output:3").unwrap();
    assert_eq!(b.settle(), 0, "beaten by the rule that won");
    b.s.flow_mod("br0", &format!("{EXACT}output:3").replace("priority=1", "priority=2")).unwrap();
    assert_eq!(b.settle(), MEGAFLOWS - 8, "those under the rule of priority 9 stay");
}

#[test]
fn a_group_or_meter_reaches_only_its_users() {
    let exact = "move:NXM_OF_IP_DST[]->NXM_NX_REG0[]";
    let b = bench(&[
        &format!("{EXACT}output:2"),
        &format!("priority=5,ip,nw_dst=10.0.1.0/29,actions={exact},group:1"),
        &format!("priority=5,ip,nw_dst=10.0.2.0/29,actions=meter:1,{exact},output:2"),
    ]);
    b.s.group_mod("br0", GroupCommand::Modify, "group_id=1,type=all,bucket=actions=output:3").unwrap();
    assert_eq!(b.settle(), 8);
    b.s.add_group("br0", "group_id=2,type=all,bucket=actions=output:3").unwrap();
    assert_eq!(b.settle(), 0);
    b.s.meter_mod("br0", 1, 1, 200).unwrap();
    assert_eq!(b.settle(), 8);
    let after = b.s.dp.all_flows().iter().filter(|f| format!("{:?}", f.actions).contains("Output(DpPort(3))")).count();
    assert_eq!(after, 8, "the group sends to another port");
}
