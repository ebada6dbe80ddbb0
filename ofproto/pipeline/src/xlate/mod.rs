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
//! It reads no clock and does no I/O. The one thing it changes is rules: `learn` adds them when `side_effects` says so, because the
//! actions after it may already look them up.
//!
//! # Bounds
//!
//! Depth 64 of resubmits that go back, 4096 resubmits in all, 64 KiB on the stack and in actions. Beyond them the packet is dropped and the
//! megaflow says so (`Translation::error`).

mod action_set;
mod actions;
mod commit;
mod compose;
pub mod frozen;
mod group;
mod hash;
mod learn;
mod normal;
mod output;
mod subfield;
mod tables;
pub mod trace;
mod translator;

pub use tables::FragMode;
pub use translator::Xlate;

use crate::bridge::{Bridge, Port};
use crate::deps::{Deps, Object};
use crate::effects::{Credit, Notice, Translation, XlateError};
use crate::recirc::RecircRef;
use crate::rule::Rule;
use crate::world::{BridgeId, World};
use flow::action::Actions;
use flow::key::{FRAG_ANY, FRAG_LATER, Key, Mask, VLAN_CFI};
use flow::{Action, Msec};
use openflow::action::OfAction;
use openflow::{OfPort, TableId};
use std::fmt::Arguments;
use std::sync::Arc;
use trace::{Kind, Trace};

/// Deepest chain of resubmits to the same or an earlier table.
pub const DEPTH_MAX: u32 = 64;
/// Most resubmits of one translation.
pub const RESUBMITS_MAX: u32 = DEPTH_MAX * DEPTH_MAX;
/// Most bytes on the stack.
pub const STACK_BYTES_MAX: usize = 65_536;
/// Most datapath actions of one translation (OVS bounds their size by 64 KiB).
pub const ACTIONS_MAX: usize = 8192;
/// Most tags that a frame may carry through the pipeline.
pub const VLANS_MAX: usize = 2;

/// What to translate.
#[derive(Debug)]
pub struct XlateIn<'a> {
    pub bridge: BridgeId,
    /// The packet's key; `in_port` is the bridge's OpenFlow port (`OfPort::to_key`). A recirculated packet has its `recirc_id`.
    pub key: &'a Key,
    /// Actions to run instead of looking up table 0 (packet-out).
    pub actions: Option<&'a [OfAction]>,
    /// TCP flags of the packets so far, for `fin_timeout`.
    pub tcp_flags: u16,
    pub now: Msec,
    /// Whether `learn` may add rules and MACs may be learned: a real packet, not a revalidation or a trace without `-generate`.
    pub side_effects: bool,
    /// Where a packet that comes back from a controller goes on (NXT_RESUME).
    pub resume: Option<&'a frozen::FrozenState>,
    /// A packet-out: says so in packet-ins that it causes.
    pub in_packet_out: bool,
    pub trace: Option<&'a mut Trace>,
}

impl<'a> XlateIn<'a> {
    /// A packet that came in by the datapath.
    #[must_use]
    pub fn new(bridge: BridgeId, key: &'a Key, now: Msec) -> Self {
        Self {
            bridge,
            key,
            actions: None,
            tcp_flags: 0,
            now,
            side_effects: false,
            resume: None,
            in_packet_out: false,
            trace: None,
        }
    }
}

/// Translates. Never fails: what cannot be translated is dropped, with the reason in `Translation::error`.
#[must_use]
pub fn translate(world: &World, input: XlateIn<'_>) -> Translation {
    let original = *input.key;
    let tags = [original.vlan_tci, original.vlan2_tci].map(|t| t[0] & VLAN_CFI.to_be_bytes()[0] != 0);
    let mut ctx = Ctx::new(world, input);
    ctx.run();
    let mut mask = ctx.mask;
    finish_mask(&mut mask, &original, tags);
    let mut actions = if ctx.error.is_some() { Actions::new() } else { ctx.actions };
    trim_clone(&mut actions);
    Translation {
        actions,
        mask: Box::new(mask),
        slow: ctx.slow,
        credits: ctx.credits,
        notices: ctx.notices,
        deps: ctx.deps,
        recircs: ctx.recircs,
        error: ctx.error,
    }
}

/// The state of a translation.
#[allow(clippy::struct_excessive_bools, reason = "each says one thing about where the pipeline is")]
struct Ctx<'a> {
    world: &'a World,
    bridge: &'a Bridge,
    now: Msec,
    tcp_flags: u16,
    side_effects: bool,
    in_packet_out: bool,
    trace: Option<&'a mut Trace>,
    start_actions: Option<&'a [OfAction]>,
    resume: Option<&'a frozen::FrozenState>,

    /// The key that translation began with, with OpenFlow's `in_port`.
    initial: Key,
    key: Key,
    base: Key,
    mask: Mask,
    actions: Actions,
    slow: u32,
    credits: Vec<Credit>,
    notices: Vec<Notice>,
    deps: Deps,
    recircs: Vec<Arc<RecircRef>>,
    error: Option<XlateError>,

    rule: Option<Arc<Rule>>,
    rule_cookie: u64,
    table: TableId,
    depth: u32,
    resubmits: u32,
    /// Groups under way, so that a loop of them ends.
    group_depth: u32,
    stack: Vec<Vec<u8>>,
    action_set: Vec<OfAction>,
    in_group: bool,
    in_action_set: bool,
    exit: bool,
    /// Ends the current list of actions only.
    stop_list: bool,
    /// Frozen: no more actions run, what remains is gathered.
    freezing: bool,
    frozen_actions: Vec<OfAction>,
    /// Actions after `check_pkt_larger`, which runs them itself, once for each outcome.
    pending: Vec<OfAction>,
    /// Says a `ct` or `hash` action what to do before `recirc`.
    conntracked: bool,
    /// The packet had MPLS labels that are popped: what is beneath them has not been seen.
    was_mpls: bool,
    /// NORMAL or an output happened; `None` at first. For statistics of mirrors and NetFlow.
    mirrors_done: u32,
    /// Truncates the next output (`output(port=,max_len=)`).
    truncate: Option<u32>,
}

impl<'a> Ctx<'a> {
    fn new(world: &'a World, input: XlateIn<'a>) -> Self {
        let bridge = world.bridges.get(&input.bridge).expect("callers name a bridge of this world");
        let key = *input.key;
        Self {
            world,
            bridge,
            now: input.now,
            tcp_flags: input.tcp_flags,
            side_effects: input.side_effects,
            in_packet_out: input.in_packet_out,
            trace: input.trace,
            start_actions: input.actions,
            resume: input.resume,
            initial: key,
            key,
            base: key,
            mask: begin_mask(&key),
            actions: Actions::new(),
            slow: 0,
            credits: Vec::new(),
            notices: Vec::new(),
            deps: Deps::default(),
            recircs: Vec::new(),
            error: None,
            rule: None,
            rule_cookie: u64::MAX,
            table: TableId(0),
            depth: 0,
            resubmits: 0,
            group_depth: 0,
            stack: Vec::new(),
            action_set: Vec::new(),
            in_group: false,
            in_action_set: false,
            exit: false,
            stop_list: false,
            freezing: false,
            frozen_actions: Vec::new(),
            pending: Vec::new(),
            conntracked: false,
            was_mpls: false,
            mirrors_done: 0,
            truncate: None,
        }
    }

    fn run(&mut self) {
        self.key.actset_output = OfPort::UNSET.to_key();
        let name = self.bridge.name.clone();
        let node = self.report(Kind::Bridge, format_args!("bridge(\"{name}\")"));
        self.enter(node);
        if let Some(state) = self.resume {
            self.thaw(state);
            return self.finish();
        }
        if self.initial.recirc_id != [0; 4] {
            return self.recirculated();
        }
        self.deps.object(Object::Bridge(self.bridge.id));
        let in_port = self.in_port();
        self.deps.object(Object::Port(self.bridge.id, in_port));
        if self.reserved_for_mirror(in_port) {
            return;
        }
        self.mirror_input(in_port);
        match self.start_actions {
            Some(actions) => self.run_actions(actions, true),
            None => self.first_lookup(),
        }
        self.finish();
    }

    /// Runs what is left when the actions of the rules are through.
    fn finish(&mut self) {
        if !self.freezing {
            self.run_action_set();
        }
        if self.freezing {
            self.freeze_now();
        }
    }

    /// A packet that the datapath sent round again.
    fn recirculated(&mut self) {
        let id = u32::from_be_bytes(self.initial.recirc_id);
        let Some(held) = self.world.recircs.find(id) else {
            self.report(Kind::Error, format_args!("no recirculation data for recirc_id {id:#x}"));
            self.error = Some(XlateError::NoRecirculationContext);
            return;
        };
        let state = Arc::clone(&held.state);
        self.recircs.push(held);
        let Some(bridge) = self.world.bridges.get(&state.bridge) else {
            self.report(Kind::Error, format_args!("Frozen bridge no longer exists."));
            self.error = Some(XlateError::NoRecirculationContext);
            return;
        };
        self.bridge = bridge;
        self.deps.object(Object::Bridge(bridge.id));
        self.thaw(&state);
        self.finish();
    }

    /// Goes on with a frozen state.
    fn thaw(&mut self, state: &frozen::FrozenState) {
        let node = self.report(Kind::Thaw, format_args!("thaw"));
        self.enter(node);
        if let Some(bridge) = self.world.bridges.get(&state.bridge) {
            self.bridge = bridge;
        }
        state.restore(&mut self.key);
        // The datapath's port stays that of the first round; OpenFlow's is the frozen one. `initial` stays what the datapath has in
        // its key: what was restored beside it cannot be judged by the megaflow (`Deps::table`).
        self.base = self.key;
        self.conntracked = state.conntracked;
        self.mirrors_done = state.mirrors;
        self.stack.clone_from(&state.stack);
        self.action_set.clone_from(&state.action_set);
        self.table = state.table;
        self.rule_cookie = state.rule_cookie;
        if state.actions.is_empty() {
            let in_port = self.in_port();
            let table = state.table;
            self.report(Kind::Thaw, format_args!("Resuming from table {}", table.0));
            self.lookup_and_run(in_port, table, true, true, true);
        } else {
            self.run_actions(&state.actions, true);
        }
    }

    /// Whether the packet came in by a port that only a mirror may use; then it is dropped.
    fn reserved_for_mirror(&mut self, in_port: OfPort) -> bool {
        let Some(bundle) = self.bridge.bundle_of(in_port).filter(|b| b.mirror_out) else { return false };
        let name = bundle.name.clone();
        self.report(
            Kind::Error,
            format_args!("dropping packet received on port {name}, which is reserved exclusively for mirroring"),
        );
        true
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

    /// Tells the trace something; costs nothing without one. Gives the node, to `enter`.
    fn report(&mut self, kind: Kind, text: Arguments<'_>) -> usize {
        match &mut self.trace {
            Some(trace) => trace.add(kind, text.to_string()),
            None => 0,
        }
    }

    /// Makes a trace node the current one; gives the one before.
    fn enter(&mut self, node: usize) -> usize {
        self.trace.as_mut().map_or(0, |t| t.enter(node))
    }

    /// Adds an action to what the datapath does.
    fn emit(&mut self, action: Action) {
        if self.actions.len() >= ACTIONS_MAX {
            self.fail(XlateError::TooManyResubmits, format_args!("resubmits yielded over 64 kB of actions"));
            return;
        }
        self.actions.push(action);
    }

    /// Ends the translation: the packet is dropped.
    fn fail(&mut self, error: XlateError, text: Arguments<'_>) {
        self.report(Kind::Error, text);
        self.error.get_or_insert(error);
        self.exit = true;
    }
}

/// Bits that are always matched.
fn begin_mask(key: &Key) -> Mask {
    let ip = matches!(key.eth_type, [0x08, 0x00] | [0x86, 0xdd]);
    Key {
        packet_type: [0xff; 4],
        in_port: [0xff; 4],
        eth_type: [0xff; 2],
        recirc_id: [0xff; 4],
        nw_frag: if ip { FRAG_ANY | FRAG_LATER } else { 0 },
        ..Key::ZERO
    }
}

/// Brings the gathered bits into the datapath's form: none for what the packet did not have, none of the pipeline's own.
fn finish_mask(mask: &mut Mask, key: &Key, tags: [bool; 2]) {
    mask.regs = Key::ZERO.regs;
    mask.metadata = [0; 8];
    mask.conj_id = [0; 4];
    mask.actset_output = [0; 4];
    if key.packet_type != [0; 4] {
        mask.eth_dst = [0; 6];
        mask.eth_src = [0; 6];
    }
    let icmp = matches!((key.eth_type, key.nw_proto), ([0x08, 0x00], 1) | ([0x86, 0xdd], 58));
    if icmp {
        mask.tp_src[0] = 0;
        mask.tp_dst[0] = 0;
    }
    if key.nw_frag & FRAG_LATER != 0 {
        mask.tp_src = [0; 2];
        mask.tp_dst = [0; 2];
    }
    if !matches!(key.eth_type, [0x88, 0x47 | 0x48]) {
        mask.mpls_lse0 = [0; 4];
        mask.mpls_lse1 = [0; 4];
        mask.mpls_lse2 = [0; 4];
    }
    // Whether there is a tag is always matched: a datapath key cannot leave it open, and nothing is lost by it.
    let cfi = VLAN_CFI.to_be_bytes();
    if !tags[0] {
        mask.vlan_tci = [0; 2];
        mask.vlan_tpid = [0; 2];
    }
    if !tags[1] {
        mask.vlan2_tci = [0; 2];
        mask.vlan2_tpid = [0; 2];
    }
    mask.vlan_tci[0] |= cfi[0];
    if tags[0] {
        // The tag's Ethernet type as well: a push that undoes a pop repeats it.
        mask.vlan_tpid = [0xff; 2];
        mask.vlan2_tci[0] |= cfi[0];
    }
    if tags[1] {
        mask.vlan2_tpid = [0xff; 2];
    }
    if key.tun_dst == [0; 4] && key.tun_ipv6_dst == [0; 16] {
        clear_tunnel(mask);
    }
}

/// Zeroes all tunnel fields.
fn clear_tunnel(key: &mut Key) {
    key.tun_id = [0; 8];
    key.tun_src = [0; 4];
    key.tun_dst = [0; 4];
    key.tun_flags = [0; 2];
    key.tun_tos = 0;
    key.tun_ttl = 0;
    key.tun_ipv6_src = [0; 16];
    key.tun_ipv6_dst = [0; 16];
    key.tun_tp_src = [0; 2];
    key.tun_tp_dst = [0; 2];
    key.tun_gbp_id = [0; 2];
    key.tun_gbp_flags = 0;
    key.tun_erspan_ver = 0;
    key.tun_erspan_idx = [0; 4];
    key.tun_erspan_dir = 0;
    key.tun_erspan_hwid = 0;
    key.tun_gtpu_flags = 0;
    key.tun_gtpu_msgtype = 0;
    key.tun_metadata_present = [0; 8];
    key.tun_metadata = Key::ZERO.tun_metadata;
}

/// A `clone` at the very end need not be one.
fn trim_clone(actions: &mut Actions) {
    if let Some(Action::Clone(inner)) = actions.last_mut() {
        let inner = std::mem::take(inner);
        actions.pop();
        actions.extend(inner);
    }
}
