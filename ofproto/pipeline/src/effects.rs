//! What a translation does besides saying the actions: credits, repeated for each batch of packets that a megaflow forwards, and
//! notices, given once for the packet that was translated.
//!
//! What enters: translation writes both. What leaves: `udpif` pays the credits when the datapath's counters have grown; `conn`
//! takes the notices. Neighbours: `xlate`, `udpif`, `conn`, `rule`.

use crate::bridge::BundleId;
use crate::deps::Deps;
use crate::export::netflow::FlowKey;
use crate::flow_mod::Journal;
use crate::neigh::Ask;
use crate::rule::{Rule, Tally};
use crate::tunnel::Addr;
use crate::world::{BridgeId, World};
use flow::{Actions, Key, Mask, Msec};
use openflow::{OfPort, TableId};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

flow::counters! {
    NOTICES_DROPPED = "ofproto_notices_dropped", "asynchronous OpenFlow messages dropped because their queue was full";
}

const TCP_FIN: u16 = 0x001;
const TCP_RST: u16 = 0x004;
/// Packet-ins kept until the connections take them.
pub const PACKET_INS_MAX: usize = 4096;
/// All notices kept: a table of a million rules may be emptied at once, and each of them may be told.
pub const NOTICES_MAX: usize = 1 << 20;

/// Something that counts, learns or ages with each packet of a megaflow. Paid for the translated packet itself, and later for
/// those that the datapath forwarded by the megaflow.
#[derive(Clone, Debug)]
pub enum Credit {
    /// The rule was hit.
    Rule(Arc<Rule>),
    /// A table was looked into (`matched`: and had a rule), for table statistics.
    Lookup { bridge: BridgeId, table: TableId, matched: bool },
    /// A bucket, a group, a mirror, a patch port's direction.
    Tally(Arc<Tally>),
    /// A source MAC seen behind a port.
    Learn { bridge: BridgeId, in_port: OfPort, vlan: u16, mac: [u8; 6], gratuitous_arp: bool },
    /// Bytes that left by a bucket of a bond.
    Bond { bridge: BridgeId, bundle: BundleId, bucket: u8 },
    /// A packet came in by a port that BFD watches.
    Traffic { bridge: BridgeId, port: OfPort },
    /// A rule that `learn` made: kept alive, or made again.
    Relearn(Arc<crate::xlate::Learned>),
    /// A flow that NetFlow follows, and by which interface it leaves.
    Netflow { bridge: BridgeId, key: Box<FlowKey>, output: u16 },
    /// `fin_timeout`: shortens the rule's timeouts (seconds, 0 leaves) once FIN or RST has been seen.
    FinTimeout { rule: Arc<Rule>, idle_s: u16, hard_s: u16 },
    /// A neighbour that tunnelled packets go to: it is in use.
    Neighbour { device: String, address: Addr },
    /// A neighbour that is not known: asked for again.
    Ask(Ask),
    /// A neighbour that an ARP packet or an advertisement told: the datapath forwards the next ones, which tell it again.
    Told { device: String, address: Addr, mac: [u8; 6] },
    /// Credits of the outer packet, which is longer by its header.
    Encapsulated { header_bytes: usize, credits: Vec<Self> },
}

impl Credit {
    /// Pays for packets. Under the world's read lock.
    pub fn pay(&self, payment: &Payment, world: &World) {
        match self {
            Self::Rule(rule) => rule.credit(payment.packets, payment.bytes, payment.used_ms),
            Self::Lookup { bridge, table, matched } => {
                if let Some(table) = world.bridges.get(bridge).and_then(|b| b.tables.get(usize::from(table.0))) {
                    table.lookups.fetch_add(payment.packets, Ordering::Relaxed);
                    if *matched {
                        table.matched.fetch_add(payment.packets, Ordering::Relaxed);
                    }
                }
            }
            Self::Tally(tally) => tally.add(payment.packets, payment.bytes),
            Self::Learn { bridge, in_port, vlan, mac, gratuitous_arp } => {
                let Some(bridge) = world.bridges.get(bridge) else { return };
                let Some(bundle) = bridge.bundle_of(*in_port) else { return };
                let pins = *gratuitous_arp && bundle.ports.len() > 1;
                bridge.macs.learn(*vlan, *mac, bundle.id, pins, payment.used_ms);
            }
            Self::Bond { bridge, bundle, bucket } => {
                let Some(bridge) = world.bridges.get(bridge) else { return };
                if let Some(entry) = bridge.protocols.lock().bonds.get_mut(bundle) {
                    entry.bond.account(*bucket, payment.bytes);
                }
            }
            Self::Traffic { bridge, port } => {
                let Some(bridge) = world.bridges.get(bridge).filter(|_| payment.packets > 0) else { return };
                let mut machines = bridge.protocols.lock();
                if let Some(bfd) = machines.sessions.get_mut(port).and_then(|s| s.bfd.as_mut()) {
                    bfd.account_rx(payment.used_ms);
                }
            }
            Self::Relearn(learned) => {
                // A full table, or a limit that others have used up, is no fault of the packets.
                let mut journal = Journal::default();
                let _ = learned.apply(world, payment.used_ms, &mut journal);
                journal.commit(world);
            }
            Self::Netflow { bridge, key, output } => {
                if let Some(netflow) = world.bridges.get(bridge).and_then(|b| b.exporters.netflow.as_ref()) {
                    netflow.lock().update(**key, *output, payment);
                }
            }
            Self::FinTimeout { rule, idle_s, hard_s } => {
                if payment.tcp_flags & (TCP_FIN | TCP_RST) != 0 {
                    rule.shorten_timeouts(*idle_s, *hard_s);
                    if let Some(table) = world.bridges.get(&rule.bridge).and_then(|b| b.tables.get(usize::from(rule.table.0))) {
                        table.note_timed();
                    }
                }
            }
            Self::Neighbour { device, address } => world.neighbours.touch(device, *address, payment.used_ms),
            Self::Ask(ask) => world.neighbours.ask(ask, payment.used_ms),
            Self::Told { device, address, mac } => world.neighbours.tell(device, *address, *mac, payment.used_ms),
            Self::Encapsulated { header_bytes, credits } => {
                let more = payment.packets * u64::try_from(*header_bytes).unwrap_or(0);
                let outer = Payment { bytes: payment.bytes + more, ..*payment };
                credits.iter().for_each(|credit| credit.pay(&outer, world));
            }
        }
    }
}

impl Credit {
    /// Whether whoever has this one may as well have that one. Only those that many megaflows have are compared; others count as different.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match self {
            Self::Rule(rule) => matches!(other, Self::Rule(other) if Arc::ptr_eq(rule, other)),
            Self::Lookup { bridge, table, matched } => {
                matches!(other, Self::Lookup { bridge: b, table: t, matched: m } if (bridge, table, matched) == (b, t, m))
            }
            Self::Tally(tally) => matches!(other, Self::Tally(other) if Arc::ptr_eq(tally, other)),
            Self::Learn { .. }
            | Self::Bond { .. }
            | Self::Traffic { .. }
            | Self::Relearn(_)
            | Self::Netflow { .. }
            | Self::FinTimeout { .. }
            | Self::Neighbour { .. }
            | Self::Ask(_)
            | Self::Told { .. }
            | Self::Encapsulated { .. } => false,
        }
    }

    /// Whether megaflows of different packets may have it: only those are compared by `is_same`.
    #[must_use]
    pub fn is_common(&self) -> bool {
        match self {
            Self::Rule(_) | Self::Lookup { .. } | Self::Tally(_) => true,
            Self::Learn { .. }
            | Self::Bond { .. }
            | Self::Traffic { .. }
            | Self::Relearn(_)
            | Self::Netflow { .. }
            | Self::FinTimeout { .. }
            | Self::Neighbour { .. }
            | Self::Ask(_)
            | Self::Told { .. }
            | Self::Encapsulated { .. } => false,
        }
    }

    /// The megaflow that the credit was for is gone, its last packets paid for.
    pub fn end(&self, world: &World) {
        if let Self::Netflow { bridge, key, .. } = self
            && let Some(netflow) = world.bridges.get(bridge).and_then(|b| b.exporters.netflow.as_ref())
        {
            netflow.lock().end(key);
        }
    }
}

/// What credits are paid with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Payment {
    pub packets: u64,
    pub bytes: u64,
    /// When the last of the packets was seen.
    pub used_ms: Msec,
    /// TCP flags of the packets, or-ed.
    pub tcp_flags: u16,
}

/// A packet for the controllers. Pipeline fields stand in `key`; each connection encodes it in its own form.
#[derive(Clone, Debug)]
pub struct PacketInNotice {
    pub bridge: BridgeId,
    pub packet: Vec<u8>,
    /// Length before it was clipped.
    pub full_len: u32,
    /// OFPR_* in the newest numbering, and OVS's explicit and implicit miss
    pub reason: u8,
    pub table: TableId,
    pub cookie: u64,
    /// The packet's key and pipeline fields when it was sent up (`in_port` an OpenFlow port).
    pub key: Box<Key>,
    /// 0 for every controller that asks for nothing else
    pub controller_id: u16,
    pub max_len: u16,
    pub userdata: Vec<u8>,
    /// Where the pipeline goes on when the controller gives the packet back (NXT_RESUME).
    pub continuation: Option<Arc<crate::xlate::frozen::FrozenState>>,
    /// The datapath port that the packet came in by.
    pub odp_port: u32,
}

/// Something for the connections.
#[derive(Clone, Debug)]
pub enum Notice {
    PacketIn(Box<PacketInNotice>),
    /// reason ADD 0, DELETE 1, MODIFY 2; the description is that after the change (before it for DELETE).
    PortStatus {
        bridge: BridgeId,
        reason: u8,
        port: Box<crate::bridge::PortView>,
        /// What a MODIFY changed: versions that cannot say the difference are not told.
        before: Option<Box<crate::bridge::PortView>>,
        /// The connection that asked for it (`conn::Conn::serial`), 0 for none.
        by: u64,
    },
    /// A table has become full (reason VACANCY_DOWN 3) or free again (VACANCY_UP 4).
    TableStatus {
        bridge: BridgeId,
        reason: u8,
        desc: openflow::message::TableDesc,
    },
    /// reason IDLE 0, HARD 1, DELETE 2, GROUP_DELETE 3, METER_DELETE 4, EVICTION 5
    FlowRemoved {
        rule: Arc<Rule>,
        reason: u8,
    },
}

/// Why nothing could be translated; the text is what `ofproto/trace` and the log say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XlateError {
    #[error("Bridge not found")]
    BridgeNotFound,
    #[error("Recursion too deep")]
    RecursionTooDeep,
    #[error("Too many resubmits")]
    TooManyResubmits,
    #[error("Stack too deep")]
    StackTooDeep,
    #[error("No recirculation context")]
    NoRecirculationContext,
    #[error("Recirculation conflict")]
    RecirculationConflict,
    #[error("Too many MPLS labels")]
    TooManyMplsLabels,
    #[error("Invalid tunnel metadata")]
    InvalidTunnelMetadata,
    #[error("Unsupported packet type")]
    UnsupportedPacketType,
    #[error("ECN mismatch on tunnel decapsulation")]
    Congestion,
    #[error("Forwarding is disabled")]
    ForwardingDisabled,
    #[error("Native tunnel routing failed")]
    TunnelRouting,
    #[error("Tunnel output device lacks Ethernet")]
    TunnelOutput,
    #[error("Tunnel neighbor cache miss")]
    TunnelNeighbour,
    #[error("Native tunnel header build failed")]
    TunnelHeader,
}

impl XlateError {
    /// The number of the reason in a drop action (`enum xlate_error`; 0 is "no error").
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Self::BridgeNotFound => 1,
            Self::RecursionTooDeep => 2,
            Self::TooManyResubmits => 3,
            Self::StackTooDeep => 4,
            Self::NoRecirculationContext => 5,
            Self::RecirculationConflict => 6,
            Self::TooManyMplsLabels => 7,
            Self::InvalidTunnelMetadata => 8,
            Self::UnsupportedPacketType => 9,
            Self::Congestion => 10,
            Self::ForwardingDisabled => 11,
            Self::TunnelRouting => 12,
            Self::TunnelOutput => 13,
            Self::TunnelNeighbour => 14,
            Self::TunnelHeader => 15,
        }
    }
}

/// The outcome of a translation.
#[derive(Clone, Debug, Default)]
pub struct Translation {
    pub actions: Actions,
    /// Bits that decided, in the datapath's form (`in_port` and `recirc_id` exact, pipeline lines zero).
    pub mask: Box<Mask>,
    /// If there is one: every packet (in the datapath's form) that agrees with this one in these bits, and no less, is translated to the same
    /// actions, mask, credits and dependencies, as long as nothing changes.
    pub decides: Option<Box<Mask>>,
    /// Bits of `flow::action::SLOW_REASONS`; not 0: each packet has to come up.
    pub slow: u32,
    pub credits: Vec<Credit>,
    pub notices: Vec<Notice>,
    /// Of packet-outs: rules that were learned, to be told or undone.
    pub learned: Journal,
    pub deps: Deps,
    /// Recirculation ids that the actions name, kept alive as long as the megaflow.
    pub recircs: Vec<Arc<crate::recirc::RecircRef>>,
    pub error: Option<XlateError>,
    /// What was translated holds for this packet only: no megaflow comes of it, and one that is there goes.
    pub once: bool,
    /// Why the packet goes nowhere, if it does (of packets only).
    pub dropped: Option<Box<crate::drops::DropFact>>,
}

/// Notices on their way to the connections, bounded.
#[derive(Debug, Default)]
pub struct Notices {
    queue: Mutex<Queue>,
    wake: tokio::sync::Notify,
}

#[derive(Debug, Default)]
struct Queue {
    notices: VecDeque<Notice>,
    packet_ins: usize,
}

impl Notices {
    /// Queues one; counts and drops it when there are too many of its kind.
    pub fn push(&self, notice: Notice) {
        let mut queue = self.queue.lock().expect("no holder of the notice queue panics");
        let is_packet_in = matches!(notice, Notice::PacketIn(_));
        if queue.notices.len() >= NOTICES_MAX || is_packet_in && queue.packet_ins >= PACKET_INS_MAX {
            NOTICES_DROPPED.inc();
            return;
        }
        queue.packet_ins += usize::from(is_packet_in);
        queue.notices.push_back(notice);
        drop(queue);
        self.wake.notify_one();
    }

    /// Takes all that wait.
    #[must_use]
    pub fn take(&self) -> VecDeque<Notice> {
        std::mem::take(&mut *self.queue.lock().expect("no holder of the notice queue panics")).notices
    }

    /// Returns when there may be something to take.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }
}
