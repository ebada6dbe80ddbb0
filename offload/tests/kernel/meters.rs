//! Police actions of meters in a real kernel: made, changed, counted and removed by our messages. The kernel runs them itself here: a driver
//! that takes actions which stand by themselves is nowhere simulated, and their refusal is tested with one that does not.

use super::{ByName, Host, Kernel, LIMIT, Tally, create, delete, hex, megaflow, plan, sh, unhex};
use offload::Reason;
use offload::capabilities::Capabilities;
use offload::meters::{Limit, Unit};
use offload::tc::attributes::Writer;
use offload::tc::client::{Netlink, Tc};
use offload::tc::meters::{Police, list, make, read, remove};
use offload::tc::numbers::act;
use offload::tc::numbers::police::METERS;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const FEW: Limit = Limit { unit: Unit::Packets, rate: 1, burst: 31_250_000 };

/// What the answer to a request shows; or the kernel's words.
fn ask(link: &Kernel, write: impl FnOnce(&mut Writer)) -> Result<Vec<Police>, String> {
    let mut out = Writer::default();
    write(&mut out);
    let mut bytes = &link.talk(&out.bytes).map_err(|e| e.to_string())?[..];
    let mut all = Vec::new();
    while let Some(len) = bytes.first_chunk::<4>().map(|l| u32::from_ne_bytes(*l) as usize) {
        let (one, rest) = bytes.split_at(len.next_multiple_of(4).min(bytes.len()));
        bytes = rest;
        match u16::from_ne_bytes([one[4], one[5]]) {
            2 if one[16..20] != [0; 4] => {
                return Err(one.iter().map(|b| char::from(*b)).filter(|c| c.is_ascii_graphic() || *c == ' ').collect());
            }
            2 | 3 => {}
            _ => all.extend(read(&one[..len]).map_err(|e| e.to_string())?),
        }
    }
    Ok(all)
}

fn put(link: &Kernel, limit: Limit, change: bool) -> Result<(), String> {
    let shown = ask(link, |out| make(out, 1, METERS, &limit, act::SKIP_HW, change))?;
    let right = |p: &&Police| p.index == METERS && p.limit == limit && p.cookie.starts_with(b"FRRL");
    shown.iter().find(right).map(|_| ()).ok_or_else(|| format!("shown as {shown:?}"))
}

/// Removes the action. The kernel lets go of it a moment after the last rule has gone.
fn gone(link: &Kernel) -> Result<Vec<Police>, String> {
    let started = Instant::now();
    loop {
        let last = ask(link, |out| remove(out, 1, METERS));
        if last.is_ok() || started.elapsed() > Duration::from_secs(2) {
            return last;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn counted(link: &Kernel) -> Option<Police> {
    ask(link, |out| list(out, 1)).unwrap_or_default().into_iter().find(|p| p.index == METERS)
}

/// The action that the golden megaflows name, and others.
pub(super) fn made(tally: &Tally, link: &Kernel) {
    sh("tc actions add action police rate 8mbit burst 10k conform-exceed drop/pipe index 7 skip_hw");
    tally.check("the kernel makes a meter by packets and shows it", put(link, FEW, false));
    tally.equal("not over one that is there", &put(link, LIMIT, false).is_err(), &true);
    let fast = Limit { unit: Unit::Bytes, rate: 5_000_000_000, burst: 15_625 };
    tally.check("and changes it into one by bytes, of more than 32 bits", put(link, fast, true));
    tally.check("and again", put(link, LIMIT, true));
    let all: BTreeSet<u32> = ask(link, |out| list(out, 1)).unwrap_or_default().iter().map(|p| p.index).collect();
    tally.equal("and lists it beside others", &all, &BTreeSet::from([7, METERS]));
}

/// A meter that drops, between two ports, then the end of it.
pub(super) fn exceeded(tally: &Tally, link: &Kernel, devices: &ByName) {
    let mut hosts = [Host::open("h1"), Host::open("h2")];
    tally.check("a meter changes while nobody uses it", put(link, FEW, true));
    // The kernel fills a bucket of packets from nought.
    std::thread::sleep(Duration::from_millis(2_200));
    let mut can = super::hardware(false);
    can.meters.insert(0, Ok(FEW));
    let rule = metered(&can);
    let made = create(link, &rule, 0, devices);
    let shown = made.as_ref().map(|(_, back)| *back == rule);
    tally.equal("a rule shows its meter's limit", &shown, &Ok(true));
    let before = counted(link).map_or_else(Default::default, |p| p.counts);
    let frame = unhex(
        "02000000000202000000000108004500003600010000401166a20a0900010a09000203e807d000226a0566657272756c652d7061796c6f61642d30313233343536373839",
    );
    (0..10).for_each(|_| hosts[0].send(&frame));
    let (began, mut passed) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_millis(300) {
        passed += hosts[1].received().iter().filter(|f| hex(f) == hex(&frame)).count() as u64;
        std::thread::sleep(Duration::from_millis(5));
    }
    let after = counted(link).map_or_else(Default::default, |p| p.counts);
    tally.equal("two of ten packets pass, or three", &(2..=3).contains(&passed), &true);
    let more = (after.packets - before.packets, after.dropped - before.dropped);
    tally.equal("its counters add up", &more, &(10, 10 - passed));
    tally.equal("a meter that a rule names cannot be removed", &ask(link, |out| remove(out, 1, METERS)).is_err(), &true);
    tally.check("it changes while a rule names it", put(link, LIMIT, true));
    if let Ok((id, _)) = made {
        delete(link, id);
    }
    let last = gone(link).map(|all| all.iter().map(|p| p.counts.packets).collect::<Vec<_>>());
    tally.equal("removed, it tells its last counters", &last, &Ok(vec![after.packets]));
    let all: Vec<u32> = ask(link, |out| list(out, 1)).unwrap_or_default().iter().map(|p| p.index).collect();
    tally.equal("and somebody else's is still there", &all, &vec![7]);
    let none = create(link, &rule, 0, devices).map(|(id, back)| {
        delete(link, id);
        back
    });
    // By bytes the kernel misses the table of rates; by packets it makes what was asked for.
    tally.equal("a rule makes no other meter than its own", &none.is_ok_and(|back| back != rule), &false);
}

fn metered(can: &Capabilities) -> offload::Rule {
    let flow = "recirc_id(0),in_port(p1),eth_type(0x0800),ipv4(proto=17,frag=no)";
    plan(&megaflow(flow, "meter(0),p2"), can).unwrap().rule
}

/// The simulated driver takes no actions that stand by themselves.
pub(super) fn without_a_driver(tally: &Tally, tc: &Tc<Kernel, ByName>) {
    let why = tc.put_meter(3, LIMIT).err().map(|why| (why.reason, why.what.starts_with("meter(3): ")));
    tally.equal("a meter that no driver takes is refused", &why, &Some((Reason::Driver, true)));
    tally.equal("and nothing of it is left", &tc.sweep_meters(), &Ok(0));
}
