//! What routes and neighbours that flap do to traffic that needs neither, and what a tunnel does that leads into itself: established flows on port 1,
//! and on port 3 flows that leave by a VXLAN tunnel. The one forwarding core polls both ports in turn.
//!
//! The measure is the same switch in the turns between, with the route as it stands and the tunnel leading out.

use super::{neighbours, tunnels};
use crate::BenchError;
use crate::measure::{Bench, Row, median};
use crate::process::rest;
use crate::rules;
use crate::scenario::{Scenario, Size};
use crate::side::{Setup, Side, Whose};
use crate::traffic::Traffic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Where the tunnel ends, and the gateways on the way.
const END: &str = "198.51.100.9";
const ENDS: &str = "198.51.100.0/24";
const GATEWAYS: [&str; 2] = ["172.31.0.2", "172.31.0.3"];
/// The end of the tunnel on the underlay itself.
const INNER: &str = "172.31.0.4";
const OVERLAY: &str = "in_port=1,udp,tp_dst=1000,actions=output:2\nin_port=3,udp,tp_dst=1000,actions=output:9\n";
/// Between two changes.
const PAUSE: Duration = Duration::from_millis(1);

/// What happens in every other turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Flaps,
    Loop,
}

/// Routes and neighbours flap.
pub fn flap(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    run(bench, scenario, size, Trouble::Flaps)
}

/// The tunnel's outer packets enter a tunnel whose outer packets enter it again.
pub fn looped(bench: &mut Bench, scenario: &Scenario, size: Size) -> Result<Vec<Row>, BenchError> {
    run(bench, scenario, size, Trouble::Loop)
}

fn run(bench: &mut Bench, scenario: &Scenario, size: Size, trouble: Trouble) -> Result<Vec<Row>, BenchError> {
    let mut side = build(bench, size)?;
    let turn = bench.plan.turn;
    let (mut troubled, mut calm, mut changes) = (Vec::new(), Vec::new(), 0);
    for pair in 0..bench.plan.pairs {
        if trouble == Trouble::Flaps {
            let (rate, flaps) = while_flapping(&mut side, |side| sample(side, turn))?;
            troubled.push(rate);
            changes += flaps;
            lead_by(&mut side, 0)?;
        } else {
            lead(&side, "output:9")?;
            troubled.push(sample(&mut side, turn)?);
            lead(&side, "output:3")?;
        }
        calm.push(sample(&mut side, turn)?);
        let (now, then) = (troubled[pair], calm[pair]);
        bench.progress(format_args!("{}: {} of {}: {now:.2}, {then:.2} without", scenario.name, pair + 1, bench.plan.pairs));
    }
    let mut row = Row::new(scenario.name, size);
    (row.mpps, row.peer) = (median(troubled.iter().copied()), median(calm.iter().copied()));
    row.compare(troubled.iter().zip(&calm).map(|(a, b)| a / b).collect());
    let (masks, megaflows) = side.megaflows()?;
    row.masks = masks;
    row.note = format!("the peer is ourselves without; {changes} changes of routes and neighbours; {megaflows} megaflows");
    Ok(vec![row])
}

fn sample(side: &mut Side, turn: Duration) -> Result<f64, BenchError> {
    rest(Duration::from_millis(300))?;
    neighbours::rate(side, turn)
}

fn build(bench: &mut Bench, size: Size) -> Result<Side, BenchError> {
    let pcap = Traffic::Udp { flows: size.flows }.write(&bench.pcaps)?;
    let mut side = Side::start_named(&mut bench.lab, Whose::Ours, "flapping.d", &Setup::default())?;
    tunnels::underlay(&mut side)?;
    tunnels::port(&side, "br0", "vx0", 9, END)?;
    tunnels::port(&side, "br-phy", "vx1", 9, INNER)?;
    for (n, neighbour) in GATEWAYS.into_iter().chain([INNER]).enumerate() {
        side.appctl("tnl/arp/set", &["br-phy", neighbour, &format!("02:00:00:00:bb:{n:02x}")])?;
    }
    lead_by(&mut side, 0)?;
    side.sink("br0", 2)?;
    side.sink("br-phy", 3)?;
    lead(&side, "output:3")?;
    side.add_flows("br0", &rules::write(bench.lab.dir(), "flapping", OVERLAY)?)?;
    side.source(&bench.lab, "br0", 1, &pcap)?;
    side.source(&bench.lab, "br0", 3, &pcap)?;
    Ok(side)
}

/// Where the underlay sends what the tunnel has put its header on.
fn lead(side: &Side, actions: &str) -> Result<(), BenchError> {
    side.ofctl(&["add-flow", "br-phy", &format!("in_port=LOCAL,actions={actions}")]).map(drop)
}

fn lead_by(side: &mut Side, gateway: usize) -> Result<(), BenchError> {
    side.appctl("ovs/route/add", &[ENDS, "br-phy", GATEWAYS[gateway]]).map(drop)
}

/// Does `work` while the route changes between the gateways, is gone for a moment now and then, and they change their MAC; what it gave, and how many
/// changes there were.
fn while_flapping<T>(side: &mut Side, work: impl FnOnce(&mut Side) -> Result<T, BenchError>) -> Result<(T, u64), BenchError> {
    let (mut ctl, stop) = (side.another_ctl()?, AtomicBool::new(false));
    thread::scope(|scope| {
        let flapper = scope.spawn(|| {
            let mut changes = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let gateway = GATEWAYS[usize::from(changes.is_multiple_of(4))];
                let [.., high, low] = changes.to_be_bytes();
                ctl.call("tnl/arp/set", &["br-phy", gateway, &format!("02:00:00:01:{high:02x}:{low:02x}")])?;
                if changes.is_multiple_of(16) {
                    ctl.call("ovs/route/del", &[ENDS])?;
                }
                ctl.call("ovs/route/add", &[ENDS, "br-phy", gateway])?;
                changes += 2;
                thread::sleep(PAUSE);
            }
            Ok(changes)
        });
        let done = work(side);
        stop.store(true, Ordering::Relaxed);
        let changes = flapper.join().expect("the thread does not panic")?;
        Ok((done?, changes))
    })
}
