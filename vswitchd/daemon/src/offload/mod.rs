//! Offload as the daemon runs it: a tier over each datapath, `other_config:hw-offload` switching it while packets pass, and a thread that
//! follows ports and gives the tiers their time.
//!
//! Tunnels have devices of the kernel beside them (`tunnels`), and ways that the kernel knows (`ways`).
//!
//! What enters: keys of `Open_vSwitch.other_config`; commands. What leaves: rules in hardware, by the tiers; texts. Neighbours: `datapaths`
//! (opens), `switch` (configures), `commands::offload`.

mod backend;
mod functions;
mod netlink;
mod ports;
mod probes;
mod tunnels;
mod ways;

pub use backend::{Backend, Choice};
pub use ports::Ports;

use datapath::Switch;
use flow::clock::now_ms;
use flow::hash::Map;
use flow::seam::PortInfo;
use flow::{Datapath as _, DpPort, Msec, Ufid};
use offload::tc::Devices;
use offload::tc::client::{Netlink as _, Tc};
use offload::tiered::LAG_MS;
use offload::{Capabilities, PortKind, Tiered};
use port::netlink::{Event, Link, decode, ethtool, raw};
use ports::{Hardware, capabilities, discover};
use probes::Probes;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use tunnels::Tunnel;
use ways::Ways;

/// A datapath with hardware beside it.
pub type Tier = Tiered<Switch, Tc<Backend, Ports>>;

/// How often the thread looks at ports, rules and counters, and how often at what connections and others did.
const TURN_MS: Msec = 500;
const CONNECTIONS: Duration = Duration::from_millis(100);

/// What the configuration wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `hw-offload`, unless `tc-policy` is `skip_hw`.
    pub on: bool,
    /// `offload-backend`
    pub choice: Choice,
    /// `offload-rebalance`
    pub rebalance: bool,
    /// `hw-offload-meters`, a key of ours: whether meters may be in hardware, which are second buckets there (decision 0100).
    pub meters: bool,
    /// `offloaded-stats-delay`
    pub lag_ms: Msec,
}

impl Settings {
    /// Of `Open_vSwitch.other_config`. `tc-policy` has OVS's words: `none` and `skip_sw` are the same here, since no rule is ever left where
    /// only the kernel's software runs it; with `skip_hw` nothing is put into hardware.
    pub fn read(pairs: &[(String, String)]) -> Self {
        let get = |key: &str| pairs.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v.as_str());
        let choice = Choice::parse(get("offload-backend"));
        if choice.is_none() {
            tracing::warn!(target: "dpif_offload", "offload-backend \"{}\" is neither tc nor model:PATH", get("offload-backend"));
        }
        Self {
            on: get("hw-offload") == "true" && get("tc-policy") != "skip_hw" && choice.is_some(),
            choice: choice.unwrap_or_default(),
            rebalance: get("offload-rebalance") != "false",
            meters: get("hw-offload-meters") == "true",
            lag_ms: get("offloaded-stats-delay").parse().ok().filter(|ms| *ms >= 0).unwrap_or(LAG_MS),
        }
    }
}

#[derive(Debug)]
struct Shared {
    tiers: Vec<Weak<Tier>>,
    /// Datapaths that have been opened.
    opened: u32,
    settings: Settings,
    stopping: bool,
    /// Hardware ports of each datapath, by name.
    ports: Map<String, Vec<Hardware>>,
    /// How the kernel sends to the ends of each datapath's tunnels, and what each tier was told of its hardware last.
    ways: Map<String, Ways>,
    told: Map<String, Capabilities>,
    /// What the hardware of each datapath's ports takes.
    probes: Map<String, Probes>,
    /// Back ends that have been swept of what an earlier life left.
    swept: Vec<Choice>,
}

/// All tiers, and the thread.
#[derive(Debug)]
pub struct Offload {
    shared: Arc<(Mutex<Shared>, Condvar)>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Default for Offload {
    fn default() -> Self {
        let settings = Settings { on: false, choice: Choice::Tc, rebalance: true, meters: false, lag_ms: LAG_MS };
        let (tiers, swept) = (Vec::new(), Vec::new());
        let (ports, ways, told, probes) = (Map::default(), Map::default(), Map::default(), Map::default());
        let shared = Shared { tiers, opened: 0, settings, stopping: false, ports, ways, told, probes, swept };
        Self { shared: Arc::new((Mutex::new(shared), Condvar::new())), thread: Mutex::default() }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // A panic elsewhere leaves it as it was between two steps.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Offload {
    /// A tier over a datapath just opened.
    pub fn over(&self, dp: Arc<Switch>) -> Arc<Tier> {
        let mut shared = lock(&self.shared.0);
        let tier = Arc::new(Tier::idle(dp, Tc::new(Backend::default(), Ports::numbered(shared.opened))));
        shared.opened = shared.opened.wrapping_add(1);
        shared.tiers.retain(|weak| weak.strong_count() > 0);
        shared.tiers.push(Arc::downgrade(&tier));
        if shared.settings.on {
            self.shared.1.notify_all();
        }
        tier
    }

    /// Every tier.
    pub fn tiers(&self) -> Vec<Arc<Tier>> {
        lock(&self.shared.0).tiers.iter().filter_map(Weak::upgrade).collect()
    }

    /// Makes it as the configuration wants it. Rules are gone when this returns, if they are to go.
    pub fn configure(&self, settings: &Settings) {
        let mut shared = lock(&self.shared.0);
        if shared.swept.is_empty() && !settings.on {
            // The life before this one may have had offload on, and ended without a word.
            shared.swept.push(Choice::Tc);
            sweep_leftovers(&Choice::Tc);
        }
        if shared.settings == *settings {
            return;
        }
        let (was, other) = (shared.settings.on, shared.settings.choice != settings.choice);
        if was && (!settings.on || other) {
            stop_all(&mut shared);
        }
        shared.settings = settings.clone();
        if settings.on {
            tracing::info!(target: "dpif_offload", "hardware offload is on");
            if !shared.swept.contains(&settings.choice) {
                shared.swept.push(settings.choice.clone());
                sweep_leftovers(&settings.choice);
            }
            drop(shared);
            self.start_thread();
            self.shared.1.notify_all();
        } else if was {
            tracing::info!(target: "dpif_offload", "hardware offload is off");
        }
    }

    fn start_thread(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let body = move || run(&shared);
            match std::thread::Builder::new().name("offload".into()).spawn(body) {
                Ok(handle) => *thread = Some(handle),
                Err(error) => tracing::error!(target: "dpif_offload", "no thread for offload: {error}"),
            }
        }
    }

    /// Takes every rule out and ends the thread.
    pub fn close(&self) {
        {
            let mut shared = lock(&self.shared.0);
            shared.stopping = true;
            stop_all(&mut shared);
            self.shared.1.notify_all();
        }
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It does not panic; if it did, there is nothing to do about it here.
            let _ = thread.join();
        }
    }

    /// `offload/show`
    pub fn show(&self) -> String {
        self.tiers().iter().map(|tier| tier.show()).collect()
    }

    /// `dpif/offload/show`: whether it is on, and which ports take part.
    pub fn status(&self) -> String {
        let shared = lock(&self.shared.0);
        let mut out = format!("Globally enabled: {}\nDatapaths:\n", shared.settings.on);
        for tier in shared.tiers.iter().filter_map(Weak::upgrade) {
            out += &format!("{}@{}:\n", tier.kind(), tier.name());
            let ports = shared.ports.get(tier.name()).map_or(&[][..], Vec::as_slice);
            if !ports.is_empty() {
                out += "    tc\n";
            }
            for Hardware { port, ifindex, name, function, .. } in ports {
                let stands_for = function.map_or_else(String::new, |function| format!(", {function}"));
                out += &format!("     - {name}: port_no: {}, ifindex: {ifindex}{stands_for}\n", port.0);
            }
        }
        out
    }

    /// `offload/why`: of one megaflow, or of all that are in software.
    pub fn why(&self, ufid: Option<Ufid>) -> Option<String> {
        let texts: Vec<String> = self.tiers().iter().filter_map(|tier| tier.why(ufid)).collect();
        (ufid.is_none() || !texts.is_empty()).then(|| texts.concat())
    }
}

/// Switches every tier off and forgets its ports.
fn stop_all(shared: &mut Shared) {
    for tier in shared.tiers.iter().filter_map(Weak::upgrade) {
        tier.set_enabled(false);
        tier.hardware().devices().set(&[]);
        tier.set_capabilities(capabilities(&[], Map::default()), now_ms());
        leave_blocks(&tier, shared.ports.get(tier.name()).map_or(&[][..], Vec::as_slice), &[]);
        if let Some(links) = ask_links(tier.hardware().link()) {
            tunnels::remove_unwanted(tier.hardware().link(), &[], &tunnels::devices(&links));
        }
    }
    shared.ports.clear();
    shared.ways.clear();
    shared.told.clear();
    shared.probes.clear();
}

fn run(shared: &(Mutex<Shared>, Condvar)) {
    let (mutex, woken) = shared;
    let mut state = lock(mutex);
    let mut turned_ms = None;
    while !state.stopping {
        if state.settings.on {
            let now = now_ms();
            let moved = listen(&state, now);
            if moved || turned_ms.is_none_or(|then| now - then >= TURN_MS) {
                turned_ms = Some(now);
                turn(&mut state);
            }
            state.tiers.iter().filter_map(Weak::upgrade).for_each(|tier| tier.follow(now));
        } else {
            turned_ms = None;
        }
        let wait = if state.settings.on { CONNECTIONS } else { Duration::from_secs(3600) };
        state = woken.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Lets every tier hear what others did; whether that concerns the devices of its ports, which are looked at then.
fn listen(shared: &Shared, now: Msec) -> bool {
    let mut moved = false;
    for tier in shared.tiers.iter().filter_map(Weak::upgrade) {
        let interfaces = tier.listen(now);
        let ports = shared.ports.get(tier.name()).map_or(&[][..], Vec::as_slice);
        moved |= ports.iter().any(|port| port.is_of(&interfaces));
    }
    moved
}

/// One look at every tier.
fn turn(shared: &mut Shared) {
    let tiers: Vec<Arc<Tier>> = shared.tiers.iter().filter_map(Weak::upgrade).collect();
    // A tunnel's device belongs to the first datapath that has the tunnel.
    let mut claimed: Vec<Tunnel> = Vec::new();
    let seen: Option<Vec<_>> = tiers.iter().map(|tier| turn_one(shared, tier, &mut claimed)).collect();
    // What one wants that could not be looked at is not known.
    if let (Some(tier), Some(seen)) = (tiers.first(), seen) {
        tunnels::remove_unwanted(tier.hardware().link(), &claimed, seen.last().map_or(&[], Vec::as_slice));
    }
}

/// One look at a tier. The tunnel devices that there were; `None` if nothing could be looked at.
fn turn_one(shared: &mut Shared, tier: &Tier, claimed: &mut Vec<Tunnel>) -> Option<Vec<tunnels::Device>> {
    let backend = tier.hardware().link();
    if !tier.is_enabled()
        && let Err(error) = backend.choose(&shared.settings.choice)
    {
        tracing::warn!(target: "dpif_offload", "no back end for offload: {error}");
        return None;
    }
    let bytes = ask_links(backend)?;
    let (links, ports, there) = (decode_links(&bytes), tier.inner().ports(), tunnels::devices(&bytes));
    let devices = tunnel_devices(backend, &ports, &links, &there, claimed);
    let discovered = discover(&ports, &links, &devices);
    let found = follow(tier, &discovered, shared.ports.get(tier.name()));
    let now = now_ms();
    let probes = shared.probes.entry(tier.name().to_owned()).or_default();
    let (lacks, unclean) = probes.of(&found, now, &driver, &mut |bench| tier.hardware().probe(bench));
    tier.hardware().devices().set_low(lacks.iter().filter(|(_, lacks)| lacks.low).map(|(port, _)| *port).collect());
    // Those are swept when they are found the next time.
    let found: Vec<Hardware> = found.into_iter().filter(|h| !unclean.contains(&h.port)).collect();
    let ways = shared.ways.entry(tier.name().to_owned()).or_default();
    let ways = if devices.is_empty() { Map::default() } else { ways.follow(backend, &tier.tunnel_ends(), &links) };
    let can = Capabilities { lacks, ..capabilities(&found, ways) };
    if shared.ports.get(tier.name()) != Some(&found) || shared.told.get(tier.name()) != Some(&can) {
        // New ports are known before rules name them, old ones until theirs are gone.
        let old = shared.ports.insert(tier.name().to_owned(), found.clone()).unwrap_or_default();
        let is_old = |o: &&Hardware| !found.iter().any(|f| f.port == o.port);
        let both: Vec<Hardware> = old.iter().filter(is_old).chain(&found).cloned().collect();
        tier.hardware().devices().set(&both);
        tier.set_capabilities(can.clone(), now);
        tier.hardware().devices().set(&found);
        leave_blocks(tier, &old, &found);
        shared.told.insert(tier.name().to_owned(), can);
    }
    // A bond of which one member could not join.
    leave_blocks(tier, &discovered, &found);
    tier.set_rebalance(shared.settings.rebalance);
    tier.set_lag(shared.settings.lag_ms);
    tier.set_meters(shared.settings.meters);
    tier.set_enabled(true);
    tier.tick(now);
    Some(there)
}

/// The name of a device's driver, empty if it does not say.
fn driver(device: &str) -> String {
    ethtool::driver_info(device).map(|info| info.driver).unwrap_or_default()
}

/// The devices of a datapath's tunnels, if it has an eSwitch that could encapsulate at all.
fn tunnel_devices(
    backend: &Backend,
    ports: &[PortInfo],
    links: &[Link],
    there: &[tunnels::Device],
    claimed: &mut Vec<Tunnel>,
) -> Vec<(Tunnel, u32)> {
    if !discover(ports, links, &[]).iter().any(|h| h.uplink && matches!(h.kind, PortKind::Switch(_))) {
        return Vec::new();
    }
    let mut wanted: Vec<Tunnel> = Vec::new();
    for tunnel in ports.iter().filter_map(Tunnel::of) {
        if !claimed.contains(&tunnel) {
            claimed.push(tunnel);
            wanted.push(tunnel);
        }
    }
    tunnels::ready(backend, &wanted, there)
}

/// Those of the ports that were found whose devices take filters. New ones are swept first.
fn follow(tier: &Tier, discovered: &[Hardware], known: Option<&Vec<Hardware>>) -> Vec<Hardware> {
    let tc = tier.hardware();
    let was = |one: &Hardware| known.and_then(|known| known.iter().find(|k| k.port == one.port && k.ifindex == one.ifindex));
    let ready = |one: &Hardware| {
        // What somebody did to a member of a bond is noticed here: a member that shares the block already stays as it is.
        let joined = one.block().map_or(Ok(()), |block| one.members.iter().try_for_each(|member| tc.join(*member, block)));
        let is_known = was(one).is_some_and(|was| was == one || was.block().is_some() && one.block().is_some());
        if joined.is_ok() && is_known {
            return true;
        }
        let done = joined.and_then(|()| match one.members.first() {
            Some(member) => tc.sweep_device(*member),
            None => tc.prepare(one.ifindex).and_then(|()| tc.sweep_device(one.ifindex)),
        });
        match done {
            Ok(swept) => {
                tracing::info!(target: "dpif_offload", "{} takes part in offload ({swept} old rules removed)", one.name);
                true
            }
            Err(error) => {
                tracing::debug!(target: "dpif_offload", "{} takes no part in offload: {error}", one.name);
                false
            }
        }
    };
    discovered.iter().filter(|one| ready(one)).cloned().collect()
}

/// Takes those members of bonds out of their blocks that are in none of `now`.
fn leave_blocks(tier: &Tier, before: &[Hardware], now: &[Hardware]) {
    let stays = |member: &u32| now.iter().any(|h| h.members.contains(member));
    for member in before.iter().flat_map(|h| &h.members).filter(|member| !stays(member)) {
        if let Err(error) = tier.hardware().leave(*member) {
            tracing::warn!(target: "dpif_offload", "interface {member} still shares the block of its bond: {error}");
        }
    }
}

/// What the back end says of all its devices.
fn ask_links(backend: &Backend) -> Option<Vec<u8>> {
    backend.talk(&raw::all_links()).ok()
}

fn decode_links(bytes: &[u8]) -> Vec<Link> {
    let link = |event| if let Event::Link(link) = event { Some(*link) } else { None };
    decode(bytes).into_iter().filter_map(link).collect()
}

/// Removes what bears our mark from every device of every eSwitch, and devices of ours: nothing of this life is there yet.
fn sweep_leftovers(choice: &Choice) {
    let backend = Backend::default();
    if backend.choose(choice).is_err() {
        return;
    }
    let bytes = ask_links(&backend).unwrap_or_default();
    tunnels::remove_unwanted(&backend, &[], &tunnels::devices(&bytes));
    let devices: Vec<Link> =
        decode_links(&bytes).into_iter().filter(|l| l.phys_switch_id.as_ref().is_some_and(|id| !id.is_empty())).collect();
    // Whatever datapath it was of.
    let tc = Tc::new(backend, AnyDatapath);
    for device in devices {
        match tc.sweep_device(device.ifindex) {
            Ok(0) => {}
            Ok(n) => tracing::info!(target: "dpif_offload", "{n} rules of an earlier life removed from {}", device.name),
            // A device without a queueing discipline has no filters either.
            Err(error) => tracing::debug!(target: "dpif_offload", "{}: {error}", device.name),
        }
        if let Err(error) = tc.leave(device.ifindex) {
            tracing::debug!(target: "dpif_offload", "{}: {error}", device.name);
        }
    }
    // Nobody names them any more.
    match tc.sweep_meters() {
        Ok(0) => {}
        Ok(n) => tracing::info!(target: "dpif_offload", "{n} meters of an earlier life removed"),
        Err(error) => tracing::debug!(target: "dpif_offload", "meters are not listed: {error}"),
    }
}

/// No ports, and the meters of all datapaths.
#[derive(Debug)]
struct AnyDatapath;

impl Devices for AnyDatapath {
    fn ifindex(&self, _port: DpPort) -> Option<u32> {
        None
    }

    fn port(&self, _ifindex: u32) -> Option<DpPort> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Settings {
        let pairs: Vec<(String, String)> =
            text.split_whitespace().filter_map(|p| p.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
        Settings::read(&pairs)
    }

    #[test]
    fn keys_keep_their_meaning() {
        assert!(!read("").on);
        assert!(read("hw-offload=true").on && read("hw-offload=true tc-policy=skip_sw").on);
        assert!(!read("hw-offload=true tc-policy=skip_hw").on, "nothing goes into hardware then");
        assert!(!read("hw-offload=true offload-backend=moon").on);
        assert_eq!(read("offload-backend=model:/m").choice, Choice::Model("/m".into()));
        assert!(!read("hw-offload=true").meters && read("hw-offload-meters=true").meters, "two buckets are asked for");
        assert!(read("").rebalance && !read("offload-rebalance=false").rebalance);
        assert_eq!((read("").lag_ms, read("offloaded-stats-delay=50").lag_ms), (2_000, 50));
    }
}
