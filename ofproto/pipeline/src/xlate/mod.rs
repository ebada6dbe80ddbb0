//! Translation: from a packet's key to datapath actions, with the mask of the bits that decided.
//!
//! What enters: the `World` (read), a bridge, a key with the OpenFlow port it came in by, perhaps the packet. What leaves: a
//! `Translation`: datapath actions, mask, credits, notices, dependencies. Neighbours: `udpif` installs it as a megaflow, `trace`
//! shows it, `conn` has packet-outs translated.
//!
//! # The property
//!
//! **Every packet whose key agrees with this one in the bits of the mask would be translated to the same actions**, as long as
//! nothing in the dependencies changes. So: each time a bit of the *original* packet decides anything - a rule matched or did not, a
//! value was copied, a TTL was compared - it must be in the mask. What an action itself wrote no longer depends on the packet, but
//! its bits are masked as well where OVS does so: extra bits are only slow.
//!
//! # How it goes
//!
//! `Ctx` holds three keys. `key` is the packet as the pipeline sees it now; `base` is the packet as it would be after the datapath
//! actions emitted so far; the difference is emitted as `set`, `push` and `pop` actions just before the packet leaves (`commit`). `mask`
//! gathers bits. Tables are searched by `tables`, actions run in `actions`, packets leave by `output`, `NORMAL` lives in `normal`,
//! groups in `group`. Where the datapath must look at the packet again (conntrack, MPLS beneath a popped label), translation
//! *freezes*: the rest of the actions goes into a `FrozenState` behind a recirculation id.
//!
//! It reads no clock and does no I/O. The one thing it changes is rules: `learn` adds them when `side_effects` says so, at the end.
//!
//! # Bounds
//!
//! Depth 64 of resubmits that go back, 4096 resubmits in all, 64 KiB on the stack and in actions. Beyond them the packet is dropped and the
//! megaflow says so (`Translation::error`). What is learned beyond 4096 rules fails, as where the limit of `learn` is reached.

mod action_set;
mod actions;
mod alike;
mod clone;
mod commit;
mod compose;
mod conntrack;
mod encap;
mod export;
mod freeze;
pub mod frozen;
mod group;
mod headers;
mod learn;
mod mask;
mod members;
mod mirrors;
mod native;
mod normal;
mod output;
mod pbb;
mod pending;
mod sample;
mod snoop;
mod subfield;
mod tables;
mod terminate;
#[cfg(test)]
mod tests;
pub mod trace;
mod translator;
mod tunnel;
mod vlan;

pub use learn::{COUNTERS, Learned};
pub use mask::match_vlan;
pub use tables::FragMode;
pub use translator::Xlate;

use crate::bridge::{Bridge, Port, port_config};
use crate::deps::{Deps, Object};
use crate::drops::DropFact;
use crate::effects::{Credit, Notice, Translation, XlateError};
use crate::recirc::RecircRef;
use crate::rule::Rule;
use crate::world::{BridgeId, DatapathBackend, World};
use flow::action::{Actions, HashAlg};
use flow::key::{Key, Mask};
use flow::{Action, Msec};
use freeze::Freeze;
use openflow::action::OfAction;
use openflow::{OfPort, TableId};
use pending::PendingRules;
use std::borrow::Cow;
use std::fmt::{self, Arguments};
use std::sync::Arc;
use tables::{Found, Lookup};
use trace::{Kind, Trace};

/// Deepest chain of resubmits to the same or an earlier table.
pub const DEPTH_MAX: u32 = 64;
/// Most resubmits of one translation.
pub const RESUBMITS_MAX: u32 = DEPTH_MAX * DEPTH_MAX;
/// Most bytes on the stack.
pub const STACK_BYTES_MAX: usize = 65_536;
/// Most datapath actions of one translation (OVS bounds their size by 64 KiB).
pub const ACTIONS_MAX: usize = 8192;
/// Most rules that one translation learns, of several in one place all.
pub const LEARNED_MAX: usize = 4096;
/// Most tags that a frame may carry through the pipeline.
pub const VLANS_MAX: usize = 2;

/// What to translate.
#[derive(Debug)]
pub struct XlateIn<'a> {
    pub bridge: BridgeId,
    /// The packet's key; `in_port` is the bridge's OpenFlow port (`OfPort::to_key`). A recirculated packet has its `recirc_id`.
    pub key: &'a Key,
    /// The packet itself, where there is one.
    pub packet: Option<&'a [u8]>,
    /// Actions to run instead of looking up table 0 (packet-out).
    pub actions: Option<&'a [OfAction]>,
    pub now: Msec,
    /// Whether `learn` may add rules and MACs may be learned: a real packet, not a revalidation or a trace without `-generate`.
    pub side_effects: bool,
    /// Where a packet that comes back from a controller goes on (NXT_RESUME).
    pub resume: Option<&'a frozen::FrozenState>,
    /// A packet-out: says so in packet-ins that it causes.
    pub in_packet_out: bool,
    /// Whether it is asked who else goes the same way (`Translation::decides`).
    pub asks_others: bool,
    pub trace: Option<&'a mut Trace>,
}

impl<'a> XlateIn<'a> {
    /// A packet that came in by the datapath.
    #[must_use]
    pub fn new(bridge: BridgeId, key: &'a Key, now: Msec) -> Self {
        Self {
            bridge,
            key,
            packet: None,
            actions: None,
            now,
            side_effects: false,
            resume: None,
            in_packet_out: false,
            asks_others: false,
            trace: None,
        }
    }
}

/// Translates. Never fails: what cannot be translated is dropped, with the reason in `Translation::error`.
#[must_use]
pub fn translate(world: &World, input: XlateIn<'_>) -> Translation {
    // Only drops of packets are remembered, not those that a question about a flow comes to.
    let is_packet = input.packet.is_some() && input.side_effects;
    let (mut translation, said) = translate_with(world, input, is_packet);
    if is_packet {
        translation.dropped = DropFact::of(&translation, said).map(Box::new);
    }
    translation
}

/// Translates a flow and tells what was said last, which is why it is dropped if it is.
#[must_use]
pub fn translate_saying_why(world: &World, input: XlateIn<'_>) -> (Translation, Option<Cow<'static, str>>) {
    translate_with(world, input, true)
}

fn translate_with(world: &World, input: XlateIn<'_>, says_why: bool) -> (Translation, Option<Cow<'static, str>>) {
    let original = input.key;
    let mut ctx = Ctx::new(world, input);
    ctx.says_why = says_why;
    ctx.run();
    // What goes wrong from here on drops no packet.
    let said = ctx.said.take();
    let learned = ctx.make_learned();
    ctx.take_back_mask();
    let decides = ctx.decides();
    let mut mask = ctx.mask;
    // As in OVS a trace of what failed tells every bit that decided, those of registers, too.
    if ctx.trace.is_none() || ctx.error.is_none() {
        mask::finish(&mut mask, original);
    }
    if let Some(trace) = &mut ctx.trace {
        *trace.final_key = ctx.key;
    }
    let failed = ctx.error.is_some();
    // What is too long to be installed is done packet by packet.
    let slow = if ctx.actions.len() > ACTIONS_MAX { ctx.slow | compose::SLOW_ACTION } else { ctx.slow };
    let mut actions = if failed { Actions::new() } else { ctx.actions };
    trim_clone(&mut actions);
    let slow = if failed { 0 } else { slow };
    let has_reasons = world.backend(ctx.origin).is_some_and(|b| b.features.explicit_drop);
    if actions.is_empty() && slow == 0 && has_reasons {
        // The datapath counts drops by reason.
        actions.push(Action::Drop(ctx.error.or(ctx.drop_reason).map_or(0, XlateError::code)));
    } else if world.explicit_sampled_drops && has_reasons && actions.last().is_some_and(sample::observes) {
        actions.push(Action::Drop(0));
    }
    let translation = Translation {
        actions,
        mask: Box::new(mask),
        decides,
        slow,
        credits: ctx.credits,
        notices: ctx.notices,
        learned,
        deps: ctx.deps,
        recircs: ctx.recircs,
        error: ctx.error,
        once: ctx.once,
        dropped: None,
    };
    (translation, said)
}

/// A header that `encap` or `decap` has changed, which the next commit makes real.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Pending {
    #[default]
    Nothing,
    Encap,
    Decap,
}

/// The state of a translation.
struct Ctx<'a> {
    world: &'a World,
    bridge: &'a Bridge,
    now: Msec,
    packet: Option<&'a [u8]>,
    side_effects: bool,
    in_packet_out: bool,
    trace: Option<&'a mut Trace>,
    /// The soft rules that the last lookup has put together, for the trace.
    conjunctive: Vec<Arc<Rule>>,
    start_actions: Option<&'a [OfAction]>,
    resume: Option<&'a frozen::FrozenState>,

    /// The bridge that translation began in.
    origin: BridgeId,
    /// The key that translation began with, with OpenFlow's `in_port`.
    initial: Key,
    key: Key,
    base: Key,
    mask: Mask,
    /// Bits of fields that the pipeline has written; asked for by who freezes tunnel fields. All of those where the packet is not as it came.
    written: Mask,
    actions: Actions,
    slow: u32,
    credits: Vec<Credit>,
    /// Rules to make when all is done.
    learned: PendingRules,
    notices: Vec<Notice>,
    deps: Deps,
    recircs: Vec<Arc<RecircRef>>,
    error: Option<XlateError>,
    once: bool,
    /// Why an output came to nothing; counts if all did.
    drop_reason: Option<XlateError>,

    rule: Option<Arc<Rule>>,
    rule_cookie: u64,
    table: TableId,
    depth: u32,
    resubmits: u32,
    stack: Vec<Vec<u8>>,
    action_set: Vec<OfAction>,
    in_bucket: bool,
    in_action_set: bool,
    /// No further action of the pipeline runs.
    exit: bool,
    /// Present while the pipeline is being frozen: what remains to do is gathered, not done.
    freeze: Option<Freeze>,
    conntracked: bool,
    /// The packet had MPLS labels that are popped: what is beneath them has not been seen.
    was_mpls: bool,
    pending: Pending,
    /// How many commits there were.
    commits: u32,
    /// The mask of the packet's own `nw_src`, set aside while a pushed I-TAG stands in its place (`pbb`).
    aside: Option<[u8; 4]>,
    /// Metadata of the NSH header that `Pending::Encap` pushes (MD type 2).
    nsh_metadata: Vec<u8>,
    /// Mirrors that have had the packet.
    mirrors_done: u32,
    /// Truncates the outputs of a mirror.
    snaplen: Option<u16>,
    /// Truncates the next output (`output(port=,max_len=)`).
    truncate: Option<u32>,
    exports: export::Exports,
    /// Whether `said` is kept.
    says_why: bool,
    /// The last remark: the reason if the packet goes nowhere.
    said: Option<Cow<'static, str>>,
    /// The next output is to a bond whose members the datapath chooses among.
    hashed: Option<members::Hashed>,
    /// Who else goes the same way.
    alike: alike::Alike,
}

impl<'a> Ctx<'a> {
    fn new(world: &'a World, input: XlateIn<'a>) -> Self {
        let bridge = world.bridges.get(&input.bridge).expect("callers name a bridge of this world");
        let mut key = *input.key;
        key.actset_output = OfPort::UNSET.to_key();
        // The datapath forgets the tunnel that a packet came by: to be sent by one it has to be told again.
        let mut base = key;
        mask::clear_tunnel(&mut base);
        Self {
            world,
            bridge,
            now: input.now,
            packet: input.packet,
            side_effects: input.side_effects,
            in_packet_out: input.in_packet_out,
            trace: input.trace,
            conjunctive: Vec::new(),
            start_actions: input.actions,
            resume: input.resume,
            origin: input.bridge,
            initial: key,
            key,
            base,
            mask: mask::begin(&key),
            written: if input.actions.is_some() { mask::whole_tunnel() } else { Key::ZERO },
            actions: Actions::new(),
            slow: 0,
            credits: Vec::new(),
            learned: PendingRules::default(),
            notices: Vec::new(),
            deps: Deps::default(),
            recircs: Vec::new(),
            error: None,
            once: false,
            drop_reason: None,
            rule: None,
            rule_cookie: u64::MAX,
            table: TableId(0),
            depth: 0,
            resubmits: 0,
            stack: Vec::new(),
            action_set: Vec::new(),
            in_bucket: false,
            in_action_set: false,
            exit: false,
            freeze: None,
            conntracked: key.ct_state & CT_TRACKED != 0,
            was_mpls: false,
            pending: Pending::Nothing,
            commits: 0,
            aside: None,
            nsh_metadata: Vec::new(),
            mirrors_done: 0,
            snaplen: None,
            truncate: None,
            exports: export::Exports::default(),
            says_why: false,
            said: None,
            hashed: None,
            alike: alike::Alike::new(input.asks_others),
        }
    }

    fn run(&mut self) {
        self.deps.object(Object::Bridge(self.bridge.id));
        // The port by which the packet came into the datapath; after recirculation the pipeline may see another.
        let arrived = (self.bridge, self.in_port());
        let name = self.bridge.name.as_str();
        let node = self.report(Kind::Bridge, format_args!("bridge(\"{name}\")"));
        self.enter(node);
        let thawed = match self.find_frozen() {
            Ok(thawed) => thawed,
            Err(error) => {
                self.error = Some(error);
                return;
            }
        };
        let is_thawed = thawed.is_some();
        let steps = thawed.as_deref().map(|state| self.thaw(state)).unwrap_or_default();
        let port = arrived.0.ports.get(&arrived.1);
        self.dress(port);
        self.arrived_by(port, is_thawed);
        let start = self.start_actions;
        let found = (steps.is_empty() && start.is_none()).then(|| {
            let lookup = Lookup { may_packet_in: true, honor_miss: true, ..Lookup::new(self.in_port(), self.table) };
            let (found, ended) = self.look_up(&lookup);
            self.table = ended;
            self.report_lookup(&found, ended);
            // The rule counts the packet, also one that its port does not take or that a protocol of the link keeps.
            self.credit(&found);
            found
        });
        if !self.decapsulate_ecn() {
            return;
        }
        // What was frozen has been looked at before.
        if thawed.is_none() {
            self.sample_input();
            if let Some(port) = arrived.0.ports.get(&arrived.1)
                && self.intercept(arrived.0, port)
            {
                self.mirror_input();
                return;
            }
        }
        if self.may_enter(arrived.0, arrived.1) {
            self.run_from(arrived, start, found.as_ref(), &steps);
        }
        self.finish_exports(arrived.0);
    }

    /// Runs what there is to run: a packet-out's actions, what the first lookup found, or what was frozen.
    fn run_from(
        &mut self,
        arrived: (&Bridge, OfPort),
        start: Option<&[OfAction]>,
        found: Option<&Found>,
        steps: &[frozen::Step],
    ) {
        self.mirror_input();
        match found {
            Some(found) => self.begin_with(found),
            None if steps.is_empty() => self.run_actions(start.unwrap_or_default(), true),
            None => self.run_actions(steps, true),
        }
        let blocked = arrived.0.ports.get(&arrived.1).is_some_and(|p| !p.watch.gate.forwards());
        if blocked && self.error.is_none() {
            // NORMAL and `learn` have seen the packet; that is all.
            self.freeze = None;
            self.error = Some(XlateError::ForwardingDisabled);
        }
        if self.error.is_none() {
            let frozen = self.freeze.is_some();
            self.end_list();
            if !frozen {
                self.deliver_dhcp(arrived.0);
            }
        }
    }

    /// In-band control: a DHCP reply reaches the local port, whatever the tables say.
    fn deliver_dhcp(&mut self, bridge: &Bridge) {
        if !bridge.in_band || !crate::in_band::is_for_local_port(&self.initial) {
            return;
        }
        let Some(local) = bridge.ports.get(&OfPort::LOCAL).and_then(|p| p.dp_port) else { return };
        self.mask.nw_proto = 0xff;
        self.mask.tp_src = [0xff; 2];
        self.mask.tp_dst = [0xff; 2];
        if !self.actions.contains(&Action::Output(local)) {
            self.report(Kind::Detail, format_args!("outputting DHCP packet to local port for in-band control"));
            self.compose_output(OfPort::LOCAL, false);
        }
    }

    /// Runs what the first lookup found.
    fn begin_with(&mut self, found: &Found) {
        match found {
            Found::Rule(rule) => {
                self.rule = Some(Arc::clone(rule));
                self.rule_cookie = rule.cookie.load(std::sync::atomic::Ordering::Relaxed);
                self.run_actions(&rule.actions, true);
            }
            Found::Miss | Found::PacketIn | Found::DroppedFragment => self.run_miss(found),
        }
    }

    /// Runs what is left when the actions are through: the action set, or the end of freezing.
    fn end_list(&mut self) {
        if self.freeze.is_none() {
            self.run_action_set();
        }
        if self.freeze.is_some() {
            self.finish_freezing();
        }
    }

    /// Whether packets may come in by a port: not by one that is for mirroring only, nor by one that takes none.
    fn may_enter(&mut self, bridge: &'a Bridge, port: OfPort) -> bool {
        self.deps.object(Object::Port(bridge.id, port));
        if let Some(bundle) = bridge.bundle_of(port).filter(|b| b.mirror_out) {
            let name = bundle.name.as_str();
            self.report_error(format_args!(
                "dropping packet received on port {name}, which is reserved exclusively for mirroring"
            ));
            return false;
        }
        bridge.ports.get(&port).is_none_or(|p| self.may_receive(p))
    }

    /// Whether a port takes the packet (OFPPC_NO_RECV, or OFPPC_NO_RECV_STP for spanning tree's own packets).
    fn may_receive(&mut self, port: &Port) -> bool {
        if !port.watch.gate.forwards() && !port.watch.gate.learns() {
            return false;
        }
        if port.config & (port_config::NO_RECV | port_config::NO_RECV_STP) == 0 {
            return true;
        }
        let without_type = self.key.eth_type == ETH_TYPE_NONE;
        if without_type {
            self.mask.eth_dst = [0xff; 6];
        }
        let spanning_tree = without_type && self.key.eth_dst == STP_ADDRESS;
        port.config & if spanning_tree { port_config::NO_RECV_STP } else { port_config::NO_RECV } == 0
    }

    // ---- small things that all rooms use ----

    /// The OpenFlow port that the pipeline sees the packet come from.
    fn in_port(&self) -> OfPort {
        OfPort::from_key(self.key.in_port)
    }

    /// A port of the current bridge; whether it exists is a dependency.
    fn port(&mut self, port: OfPort) -> Option<&'a Port> {
        self.deps.object(Object::Port(self.bridge.id, port));
        self.bridge.ports.get(&port)
    }

    /// A trace of a flow without a packet: nothing may be altered, nobody will use the outcome.
    fn is_dry(&self) -> bool {
        self.trace.is_some() && !self.side_effects
    }

    /// Tells the trace something; costs nothing without one. Gives the node, to `enter`.
    fn report(&mut self, kind: Kind, text: Arguments<'_>) -> usize {
        if self.says_why {
            self.remark(kind, text);
        }
        match &mut self.trace {
            Some(trace) => trace.add(kind, text.to_string()),
            None => 0,
        }
    }

    /// Keeps what may turn out to be the reason of a drop. A detail is kept only if that costs nothing.
    fn remark(&mut self, kind: Kind, text: Arguments<'_>) {
        match (kind, text.as_str()) {
            (Kind::Detail | Kind::Warn | Kind::Error, Some(text)) => self.said = Some(Cow::Borrowed(text)),
            (Kind::Warn | Kind::Error, None) => self.said = Some(Cow::Owned(text.to_string())),
            (Kind::Detail | Kind::Bridge | Kind::Table | Kind::Bucket | Kind::Thaw | Kind::Action, _) => {}
        }
    }

    /// What went wrong: into the trace if there is one, else into the log.
    fn report_error(&mut self, text: Arguments<'_>) {
        self.report(Kind::Error, text);
        if self.is_logged() {
            let place = self.place();
            tracing::warn!(target: "ofproto_dpif_xlate", rl = 1, burst = 5, "{text}{place}");
        }
    }

    /// What is worth a line though nothing need be wrong: likewise.
    fn report_info(&mut self, text: Arguments<'_>) {
        self.report(Kind::Warn, text);
        if self.is_logged() {
            let place = self.place();
            tracing::info!(target: "ofproto_dpif_xlate", rl = 1, burst = 5, "{text}{place}");
        }
    }

    /// Whether the log hears of it: of a packet, as in OVS, not of a megaflow that is looked at again; who has a trace reads it there.
    fn is_logged(&self) -> bool {
        self.trace.is_none() && self.side_effects
    }

    /// Where the log says that it was. As in OVS: the packet as it came in, with what the datapath has done to it since.
    fn place(&self) -> Place<'a> {
        Place { bridge: &self.bridge.name, key: Key { in_port: self.initial.in_port, ..self.base } }
    }

    /// Makes a trace node the current one; gives the one before.
    fn enter(&mut self, node: usize) -> usize {
        self.trace.as_mut().map_or(0, |t| t.enter(node))
    }

    /// Adds an action to what the datapath does.
    fn emit(&mut self, action: Action) {
        self.slow |= self.slow_for(&action);
        self.actions.push(action);
    }

    /// An action that the datapath does not have, or is not to be used with (`dpif/set-dp-features`), is carried out in the slow path.
    fn slow_for(&self, action: &Action) -> u32 {
        let (cuts, labels) = (matches!(action, Action::Trunc(_)), matches!(action, Action::AddMpls { .. }));
        if !cuts && !labels {
            return 0;
        }
        let lacks = |backend: &DatapathBackend| cuts && !backend.features.trunc || labels && !backend.features.add_mpls;
        if self.world.backend(self.origin).is_some_and(lacks) { compose::SLOW_ACTION } else { 0 }
    }

    /// Ends the translation: the packet is dropped.
    fn fail(&mut self, error: XlateError, text: Arguments<'_>) {
        self.report_error(text);
        self.error.get_or_insert(error);
    }
}

/// What a key has for a frame without an Ethernet type (IEEE 802.2).
const ETH_TYPE_NONE: [u8; 2] = [0x05, 0xff];
/// IEEE 802.1D's group address of bridges.
const STP_ADDRESS: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0];
/// Put into words only when the line is written: the rate of these lines is limited.
struct Place<'a> {
    bridge: &'a str,
    key: Key,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " on bridge {} while processing {}", self.bridge, crate::commands::trace::flow_said(&self.key))
    }
}

/// `ct_state`: the packet has been through conntrack.
const CT_TRACKED: u8 = 0x20;

/// A `clone` at the very end need not be one.
fn trim_clone(actions: &mut Actions) {
    if let Some(Action::Clone(inner)) = actions.last_mut() {
        let inner = std::mem::take(inner);
        actions.pop();
        actions.extend(inner);
    }
}
