//! Upcalls: a packet that missed is translated, its megaflow installed, and the packet executed.
//!
//! What enters: batches of upcalls. What leaves: megaflows and packets for the datapath, payments, notices. Neighbours: `ukey`,
//! `Translator`; the argument why nothing stale is installed stands in the parent.

use super::common::{Form, Kept, Last, Trodden, WAYS_MAX, Way};
use super::ukey::{Inner, State, Ukey};
use super::{
    HANDLER_DUPLICATE_UPCALL, Purpose, Request, UPCALL_EXECUTE_FAILED, UPCALL_FLOW_LIMIT_HIT, UPCALL_MASKS_FULL, UPCALL_NO_PORT,
    UPCALL_OUTRUN, UPCALL_PUT_FAILED, UPCALL_UNHANDLED, UPCALL_XLATE_ERROR, Udpif,
};
use crate::deps::Revision;
use crate::drops::Dropped;
use crate::effects::{Credit, Payment, XlateError};
use crate::recirc::RecircRef;
use crate::world::{BridgeId, World};
use flow::action::{Action, Actions, Cookie, Userspace};
use flow::clock::now_ms;
use flow::fields::{DpAttr, Field, Store};
use flow::seam::{DpError, Execute, FlowStats, NewFlow, Upcall, UpcallKind};
use flow::{DpPort, Key, Mask, Msec, Ufid};
use openflow::OfPort;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A failed translation is explained in the log no more often than this.
const EXPLAIN_EVERY_MS: Msec = 12_000;

/// A megaflow to put: the ukey's first life.
struct Candidate {
    ukey: Arc<Ukey>,
    mask: Arc<Mask>,
    /// What it is to do.
    actions: Arc<Actions>,
    /// Which of the batch's packets has its key.
    of: usize,
}

/// A packet of the batch.
struct Waiting {
    packet: Vec<u8>,
    key: Box<Key>,
    /// What is to be done with it.
    actions: Arc<Actions>,
    rx_queue: u16,
}

/// As of when something was translated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub revision: Revision,
    pub now: Msec,
}

/// What a batch leaves to do once it is translated.
#[derive(Default)]
struct Work {
    candidates: Vec<Candidate>,
    packets: Vec<Waiting>,
    last: Last,
    /// Ways that packets of this batch went and others may go as well.
    trodden: Vec<Trodden>,
}

impl Work {
    /// A packet is to be executed; its place in the batch.
    fn wait(&mut self, upcall: Upcall, actions: Arc<Actions>) -> usize {
        let Upcall { packet, key, rx_queue, .. } = upcall;
        self.packets.push(Waiting { packet, key, actions, rx_queue });
        self.packets.len() - 1
    }
}

/// Where a packet is: its bridge, its port, its key in the pipeline's form.
pub(super) struct Located {
    pub bridge: BridgeId,
    pub in_port: OfPort,
    pub key: Box<Key>,
}

impl Udpif {
    /// Handles a batch under one read lock of the world, from the first revision read to the last put. `kept` is what the handler's batch before
    /// came to.
    pub(super) fn handle(&self, upcalls: Vec<Upcall>, kept: &mut Kept) {
        if upcalls.is_empty() {
            return;
        }
        let now = now_ms();
        let world = self.world.read().expect("no holder of the world panics");
        let mut work = Work { last: Last::of(kept), ..Work::default() };
        for upcall in upcalls {
            self.translate_upcall(&world, upcall, now, &mut work);
        }
        *kept = work.last.kept();
        work.trodden.iter().for_each(|way| way.pay(&world));
        self.install(&work.candidates, &work.packets, now);
        drop(work.candidates);
        let some = work.packets.into_iter().filter(|waiting| !waiting.actions.is_empty());
        let execute = some.map(|Waiting { packet, key, actions, rx_queue }| {
            let (mtu, probe) = (0, false);
            Execute { packet, key, actions, rx_queue, mtu, probe }
        });
        for result in self.dp.execute(execute.collect()) {
            if result.is_err() {
                UPCALL_EXECUTE_FAILED.inc();
            }
        }
        drop(world);
        self.send_asks(now);
    }

    /// The bridge and port of a packet or megaflow of this datapath, and its key as the pipeline sees it: tunnel options as fields.
    pub(super) fn locate(&self, world: &World, dp_key: &Key) -> Option<Located> {
        let (bridge, in_port) = world.port_of_packet(&self.kind, dp_key).or_else(|| port_before_recirculation(world, dp_key))?;
        let mut key = Box::new(*dp_key);
        key.in_port = in_port.to_key();
        if let Some(bridge) = world.bridges.get(&bridge) {
            bridge.tunnel_options.from_wire(&mut key);
        }
        Some(Located { bridge, in_port, key })
    }

    /// Whether a packet missed, or belongs to a megaflow that sends each up to be translated; `None`: it was for somebody else, who has it.
    fn is_miss(&self, world: &World, upcall: &Upcall, now: Msec) -> Option<bool> {
        match &upcall.kind {
            UpcallKind::Miss => return Some(true),
            UpcallKind::Action(Cookie::SlowPath { .. }) => return Some(false),
            UpcallKind::Action(Cookie::Controller { .. }) => match self.translator.controller(world, upcall, now) {
                Some(notice) => world.notices.push(notice),
                None => UPCALL_UNHANDLED.inc(),
            },
            UpcallKind::Action(cookie @ (Cookie::SFlow { .. } | Cookie::FlowSample { .. } | Cookie::Ipfix { .. })) => {
                self.take_sample(world, upcall, cookie, now);
            }
            // dpctl invented it: nobody listens.
            UpcallKind::Action(Cookie::Raw(_)) => UPCALL_UNHANDLED.inc(),
        }
        None
    }

    fn translate_upcall(&self, world: &World, upcall: Upcall, now: Msec, work: &mut Work) {
        let Some(miss) = self.is_miss(world, &upcall, now) else { return };
        let revision = self.changes.now();
        if miss && let Some(way) = work.trodden.iter().rposition(|way| way.is_for(&upcall.key, revision)) {
            self.follow(way, upcall, work);
            return;
        }
        let Some(at) = self.locate(world, &upcall.key) else {
            UPCALL_NO_PORT.inc();
            return;
        };
        let mut t = self.translator.translate(Request {
            world,
            bridge: at.bridge,
            in_port: at.in_port,
            key: &at.key,
            packet: Some(&upcall.packet),
            now,
            purpose: Purpose::Packet,
        });
        if let Some(error) = t.error {
            UPCALL_XLATE_ERROR.inc();
            tracing::debug!(target: "ofproto_dpif_upcall", "upcall on port {}: {error}", at.in_port.0);
            // Tables that run away are a fault of whoever wrote them, as in OVS; other errors come of packets.
            if matches!(error, XlateError::RecursionTooDeep | XlateError::TooManyResubmits) {
                self.explain(world, &at, now);
            }
        }
        if let Some(fact) = t.dropped.take() {
            let (bridge, in_port, key) = (at.bridge, at.in_port, at.key.clone());
            world.drops.push(Dropped { when_ms: now, bridge, in_port, key, fact: *fact });
        }
        if miss {
            // The datapath counts the packets of a megaflow from the next one on; this one is paid for here.
            let payment = Payment {
                packets: 1,
                bytes: u64::from(upcall.full_len),
                used_ms: now,
                tcp_flags: u16::from_be_bytes(upcall.key.tcp_flags),
            };
            pay(&t.credits, &payment, world);
        }
        for notice in t.notices.drain(..) {
            world.notices.push(notice);
        }
        let actions = work.last.actions(std::mem::take(&mut t.actions));
        if miss && !t.once {
            mask_to_datapath(world, &at, &upcall.key, &mut t.mask);
            let way = Way {
                bridge: at.bridge,
                in_port: at.in_port,
                slow: t.slow,
                crowded: !self.dp.has_mask_room(&t.mask, DpPort(u32::from_be_bytes(upcall.key.in_port))),
                actions: Arc::clone(&actions),
                deps: work.last.deps(t.deps),
                credits: work.last.credits(t.credits),
                stamp: Stamp { revision, now },
            };
            if let Some(decides) = t.decides.take().filter(|_| work.trodden.len() < WAYS_MAX) {
                let form = work.last.form(t.mask.clone());
                work.trodden.push(Trodden::new(&upcall.key, decides, form, &way));
            }
            let of = work.wait(upcall, actions);
            let refused = self.candidate(of, t.mask, &way, t.recircs, work);
            refused.into_iter().for_each(|recircs| self.linger(recircs, now));
        } else {
            self.linger(t.recircs, now);
            work.wait(upcall, actions);
        }
    }

    /// A packet that goes the way of one before it: what that came to is known, but for the key.
    fn follow(&self, way: usize, upcall: Upcall, work: &mut Work) {
        work.trodden[way].due(&upcall);
        let of = work.wait(upcall, Arc::clone(&work.trodden[way].way.actions));
        let Work { candidates, packets, trodden, .. } = work;
        let (way, form) = (&trodden[way].way, &trodden[way].form);
        if way.crowded || self.is_exact() || way.slow == 0 && self.dp.narrows() {
            let (mask, way) = (Box::new(*form.mask), way.clone());
            self.candidate(of, mask, &way, Vec::new(), work);
        } else if self.has_room() {
            let key: &Key = &packets[of].key;
            candidates.push(new_candidate((of, key), form.namer.name(key), form, way, Vec::new()));
        }
    }

    /// Says in the log how a translation failed, step by step. That is a lot of work: once in a while.
    fn explain(&self, world: &World, at: &Located, now: Msec) {
        let last = self.explained_ms.load(Ordering::Relaxed);
        let due = last == 0 || now - last >= EXPLAIN_EVERY_MS;
        if due && self.explained_ms.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let text = crate::commands::trace::explain(world, at.bridge, &at.key, now);
            tracing::warn!(target: "ofproto_dpif_upcall", "{text}");
        }
    }

    /// Whether megaflows are to have every bit of their packet (`upcall/disable-megaflows`).
    fn is_exact(&self) -> bool {
        !self.switches.megaflows.load(Ordering::Relaxed)
    }

    /// Whether there may be one more megaflow; counted if not.
    fn has_room(&self) -> bool {
        let room = self.flow_count() < self.limit.load(Ordering::Relaxed);
        if !room {
            UPCALL_FLOW_LIMIT_HIT.inc();
        }
        room
    }

    /// Makes a candidate of the packet `of` and its way; gives the recirculation ids back when there is to be none.
    fn candidate(
        &self,
        of: usize,
        decided: Box<Mask>,
        way: &Way,
        recircs: Vec<Arc<RecircRef>>,
        work: &mut Work,
    ) -> Option<Vec<Arc<RecircRef>>> {
        if !self.has_room() {
            return Some(recircs);
        }
        let key: &Key = &work.packets[of].key;
        let mut mask = if way.crowded || self.is_exact() { Box::new(exact_mask(key, &decided)) } else { decided };
        if way.slow == 0 {
            self.dp.narrow(key, &way.actions, &mut mask);
        }
        if way.crowded {
            UPCALL_MASKS_FULL.inc();
        }
        let form = work.last.form(mask);
        let ufid = form.namer.name(key);
        if self.ukeys.find(ufid).is_some() {
            HANDLER_DUPLICATE_UPCALL.inc();
            return Some(recircs);
        }
        work.candidates.push(new_candidate((of, key), ufid, &form, way, recircs));
        None
    }

    /// Puts new megaflows: map first, then the question whether anything changed, then the datapath.
    fn install(&self, candidates: &[Candidate], packets: &[Waiting], now: Msec) {
        if candidates.is_empty() {
            return;
        }
        let held: Vec<_> = candidates.iter().map(|candidate| candidate.ukey.lock()).collect();
        let admitted = self.ukeys.admit(&candidates.iter().map(|c| &c.ukey).collect::<Vec<_>>());
        let duplicates = admitted.iter().filter(|admitted| !**admitted).count();
        HANDLER_DUPLICATE_UPCALL.add(duplicates as u64);
        let mut held: Vec<_> =
            candidates.iter().zip(held).zip(&admitted).filter_map(|(one, there)| there.then_some(one)).collect();
        self.ukeys.file(held.iter().map(|(candidate, inner)| (&candidate.ukey, &**inner)));
        held.retain_mut(|(candidate, inner)| {
            let seen = self.changes.now();
            let is_stale = self.changes.concerns(inner.checked, &inner.deps, candidate.ukey.as_ref());
            if is_stale {
                UPCALL_OUTRUN.inc();
                self.forgo(&candidate.ukey, inner, now);
            } else {
                inner.checked = seen;
            }
            !is_stale
        });
        let puts = held.iter().map(|(candidate, _)| {
            let Candidate { ukey, mask, actions, of } = *candidate;
            NewFlow { ufid: ukey.ufid, key: &packets[*of].key, mask, actions }
        });
        let puts: Vec<_> = puts.collect();
        // Counted before they are put: nobody finds more in the datapath than are counted here (`sweep_strangers`).
        self.flows.fetch_add(puts.len(), Ordering::Relaxed);
        for ((candidate, inner), result) in held.iter_mut().zip(self.dp.put_new(&puts)) {
            match result {
                Ok(()) => inner.state = State::Operational,
                Err(error) => {
                    self.flows.fetch_sub(1, Ordering::Relaxed);
                    UPCALL_PUT_FAILED.inc();
                    log_refusal(&error);
                    self.forgo(&candidate.ukey, inner, now);
                }
            }
        }
    }

    /// There is to be no megaflow; the packet that asked for it is yet to bear its ids.
    fn forgo(&self, ukey: &Arc<Ukey>, inner: &mut Inner, now: Msec) {
        inner.state = State::Gone;
        self.ukeys.remove(ukey, inner);
        self.linger(std::mem::take(&mut inner.recircs), now);
    }
}

/// The ukey of a packet, the one at a place of the batch with this key, and what is to be put for it. The datapath is given all of the
/// packet's key: its dumps show what the mask leaves open, as Open vSwitch's do.
fn new_candidate((of, key): (usize, &Key), ufid: Ufid, form: &Form, way: &Way, recircs: Vec<Arc<RecircRef>>) -> Candidate {
    let actions = installed(way.slow, &way.actions, way.bridge, way.in_port);
    let inner = Inner {
        state: State::Visible,
        actions: Arc::clone(&actions),
        deps: Arc::clone(&way.deps),
        checked: way.stamp.revision,
        credits: Arc::clone(&way.credits),
        recircs,
        paid: FlowStats::default(),
        slow: way.slow,
    };
    let mut ukey = Ukey::new(ufid, way.bridge, way.stamp.now, key, Arc::clone(&form.compact), inner);
    ukey.short_lived = way.crowded;
    Candidate { ukey: Arc::new(ukey), mask: Arc::clone(&form.mask), actions, of }
}

/// Where the pipeline goes on with a packet that came in by none of the ports: a controller sent it, and it has been round. Nowhere if
/// the bridge is gone since, whose port it may have come in by.
fn port_before_recirculation(world: &World, dp_key: &Key) -> Option<(BridgeId, OfPort)> {
    let recirc_id = u32::from_be_bytes(dp_key.recirc_id);
    let held = (recirc_id != 0).then(|| world.recircs.find(recirc_id)).flatten()?;
    let bridge = world.bridges.get(&held.state.bridge)?;
    Some((bridge.id, held.state.in_port()))
}

/// Puts the mask of a packet's tunnel options into the datapath's form, in which they lie as on the wire.
pub(super) fn mask_to_datapath(world: &World, at: &Located, dp_key: &Key, mask: &mut Mask) {
    if crate::tunnel::came_by_tunnel(dp_key)
        && let Some(bridge) = world.bridges.get(&at.bridge)
    {
        bridge.tunnel_options.mask_to_wire(dp_key, mask);
    }
}

fn log_refusal(error: &DpError) {
    tracing::debug!(target: "ofproto_dpif_upcall", "datapath refused a flow: {error}");
}

/// What the megaflow does: the translation itself, or sending each packet up when that needs the slow path.
pub(crate) fn installed(slow: u32, actions: &Arc<Actions>, bridge: BridgeId, in_port: OfPort) -> Arc<Actions> {
    if slow == 0 {
        return Arc::clone(actions);
    }
    let cookie = Cookie::SlowPath { reasons: slow, ofp_in_port: in_port.0, bridge: bridge.0 };
    Arc::new(vec![Action::Userspace(Box::new(Userspace { pid: 0, cookie, actions: false, tunnel_out_port: None }))])
}

/// Pays credits. Under the world's read lock.
pub(super) fn pay(credits: &[Credit], payment: &Payment, world: &World) {
    for credit in credits {
        credit.pay(payment, world);
    }
}

/// Every bit that the packet has (`upcall/disable-megaflows`).
fn exact_mask(key: &Key, decided: &Mask) -> Mask {
    let mut mask = *decided;
    let tunnelled = key.tun_dst != [0; 4] || key.tun_ipv6_dst != [0; 16];
    for field in Field::ALL {
        let row = field.row();
        let there = match row.dp {
            None => false,
            Some(DpAttr::Tunnel) => tunnelled,
            // That there are no extension headers is not said, as OVS does not say it.
            Some(DpAttr::Ipv6Exthdrs) => field.get(key) != 0 && row.need.holds(key),
            Some(_) => row.need.holds(key),
        };
        if there && row.place.store != Store::Option {
            field.unwildcard(&mut mask);
        }
    }
    mask
}
