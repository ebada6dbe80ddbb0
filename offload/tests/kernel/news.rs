//! What others do to our rules, as the kernel tells it: iproute2 removes and changes them, and we know which.

use crate::{ByName, Kernel, Tally, ifindex, sh, udp_to};
use flow::{DpPort, Ufid};
use offload::hardware::{HwStats, Overheard};
use offload::tc::client::Tc;

/// So many changes are more than wait for one who does not read.
const MANY: u32 = 8_000;

fn set_counters(packets: u32) {
    sh(&format!("echo {packets} >/sys/module/netdevsim/parameters/flower_stat_pkts"));
}

/// Three rules in the hardware of `one`, one in that of `two`; whoever else is asked to do things to them.
pub(crate) fn told(tally: &Tally, tc: &Tc<Kernel, ByName>, [one, two]: [&str; 2]) {
    let _ = tc.overheard();
    (1..=3).for_each(|n| tc.install(Ufid(n), &udp_to(u32::try_from(n).unwrap())).unwrap());
    tally.equal("our own doings are not told", &tc.overheard(), &Overheard::default());
    let right = |ufid: Ufid| Some(udp_to(u32::try_from(ufid.0).unwrap()));
    let places: Vec<(Option<Ufid>, u32)> = tc.audit(DpPort(1), &right).unwrap().iter().map(|s| (s.ufid, s.handle)).collect();
    let flower = |n: u128| {
        let handle = places.iter().find(|(ufid, _)| *ufid == Some(Ufid(n))).unwrap().1;
        format!("pref 16384 protocol ip handle {handle} flower")
    };
    set_counters(7);
    sh(&format!("tc filter del dev {one} ingress {}", flower(2)));
    let last = HwStats { packets: 7, bytes: 700 };
    tally.equal(
        "a rule that somebody removed is told, with its last counters",
        &tc.overheard().lost,
        &vec![(Ufid(2), Some(last))],
    );
    set_counters(0);
    sh(&format!(
        "tc filter replace dev {one} ingress {} skip_sw ip_proto udp dst_ip 10.0.0.1 ip_flags nofrag action drop",
        flower(1)
    ));
    tally.equal("one that somebody changed is told", &tc.overheard().lost, &vec![(Ufid(1), None)]);
    let lost: Vec<Ufid> = tc.counters().iter().filter(|(_, s)| s.is_none()).map(|(u, _)| *u).collect();
    tally.equal("and is not taken for ours by who was not told", &lost.contains(&Ufid(1)), &true);
    sh(&format!("tc filter add dev {one} ingress pref 9 protocol ip flower skip_sw dst_ip 9.9.9.7 action drop"));
    sh(&format!("tc filter del dev {one} ingress pref 9"));
    let heard = tc.overheard();
    tally.equal("what is somebody else's is told, and not ours", &(heard.told >= 2, heard.lost), &(true, vec![]));
    tally.equal(
        "what was changed and what is gone can be removed",
        &tc.remove_all(&[Ufid(1), Ufid(2)]).iter().all(Result::is_ok),
        &true,
    );
    sh(&format!("tc filter del dev {one} ingress pref 16384"));
    tally.equal("a preference that somebody removed is told", &tc.overheard().lost, &vec![(Ufid(3), None)]);
    let _ = tc.remove(Ufid(3));
    qdisc(tally, tc, two);
    sh("tc actions add action police index 5 rate 1mbit burst 100k conform-exceed drop/pipe");
    sh("tc actions change action police index 5 rate 2mbit burst 100k conform-exceed drop/pipe");
    sh("tc actions del action police index 5");
    sh("tc actions add action police index 6 rate 1mbit burst 100k conform-exceed drop/pipe; tc actions flush action police");
    let heard = tc.overheard();
    tally.equal("so are police actions, of which none is a meter here", &(heard.told, heard.meters), &(5, vec![]));
    sh("ip link add going type dummy");
    let going = ifindex("going");
    sh("ip link del going");
    tally.equal("a device that went is told", &tc.overheard().interfaces, &vec![going]);
    sh("ip link add busy type dummy");
    sh(&format!("for n in $(seq {MANY}); do echo qdisc replace dev busy root pfifo limit $n; done | tc -batch -"));
    tally.equal("who does not read in time is told so", &(tc.overheard().missed, tc.overheard()), &(true, Overheard::default()));
    sh("ip link del busy");
    let _ = tc.overheard();
}

fn qdisc(tally: &Tally, tc: &Tc<Kernel, ByName>, two: &str) {
    let mut rule = udp_to(4);
    rule.port = DpPort(3);
    tc.install(Ufid(4), &rule).unwrap();
    sh(&format!("tc qdisc del dev {two} clsact"));
    let heard = tc.overheard();
    tally.equal(
        "so is a queueing discipline, with its rules",
        &(heard.lost, heard.interfaces),
        &(vec![(Ufid(4), None)], vec![tc.devices().0[&DpPort(3)]]),
    );
    let again = tc.remove(Ufid(4)).is_ok() && tc.install(Ufid(4), &rule).is_ok();
    tally.equal("the rule goes in again at once", &(again, tc.usage().2, tc.remove(Ufid(4)).is_ok()), &(true, vec![], true));
}
