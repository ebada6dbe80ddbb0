//! TCP as a tracker between the two ends sees it: states of both and the windows that each may send in.
//!
//! What enters: a segment and its direction. What leaves: the new state, and whether the segment belongs to the connection. Pure.
//! Neighbours: `track` (which keeps the state in an entry), `stage` (timeouts).
//!
//! # How
//!
//! The four bounds of Guido van Rooij ("Real Stateful TCP Packet Filtering in IP Filter", 2001), which say what a receiver that follows
//! RFC 9293, 3.10.7.4 can accept. For the end that sends a segment, and the other:
//!
//! 1. its data end at most where the other's window ended when it last told (`limit`);
//! 2. they begin at most one (largest) window of the other before what was sent already (`sent`): older ones are no retransmission;
//! 3. its acknowledgment is at most `ACK_SLACK` beyond what the other has sent,
//! 4. and at most so much (scaled) before it.
//!
//! RST must stand exactly at the sender's edge, give or take one, since a blind attacker must not close connections (RFC 9293, 3.10.7.4).
//! The first segment of an end teaches its numbers. A connection that is picked up in the middle has unknown window scales, which are taken
//! for the largest. Around the beginning and the end of a connection a segment that is near enough passes without refreshing anything
//! (simultaneous SYNs; late FINs). In liberal mode bounds are not looked at, the states still move.

use flow::conntrack::{CtStage, CtTcp, TcpState};

pub const FIN: u16 = 1;
pub const SYN: u16 = 2;
pub const RST: u16 = 4;
pub const PSH: u16 = 8;
pub const ACK: u16 = 16;
pub const URG: u16 = 32;

/// Largest window without scale, and a frame more.
const ACK_SLACK: i32 = 0xffff + 1500;
/// RFC 7323, 2.3.
const SCALE_MAX: u8 = 14;
/// `limit` of an end that has not been told any window yet.
const NO_LIMIT: u32 = 1;

/// What is known of an end's window scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Its SYN offered none.
    #[default]
    None,
    Shift(u8),
    /// Its SYN was not seen.
    Unknown,
}

/// What a segment says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    /// Bytes of payload.
    pub len: u32,
    pub flags: u16,
    /// The window scale option.
    pub scale: Option<u8>,
}

/// One end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// One past the highest sequence number that it has sent.
    pub sent: u32,
    /// One past the highest that it may send.
    pub limit: u32,
    /// Its largest window, not scaled.
    pub window: u16,
    pub scale: Scale,
    pub state: TcpState,
}

/// Both ends: the one that began first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    pub ends: [End; 2],
}

/// What a segment was to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to it; the timeout starts again at a stage, or goes on.
    Valid(Option<CtStage>),
    /// Its first SYN, once more.
    Opening(CtStage),
    /// A SYN after the end: a new connection on the same ports.
    Restart,
    Invalid,
}

const fn after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

const fn at_or_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() >= 0
}

/// Flag combinations that no sound sender makes.
#[must_use]
pub fn flags_are_sound(flags: u16) -> bool {
    let has = |f| flags & f != 0;
    if has(SYN) && has(RST | FIN) || !has(SYN) && !has(ACK | RST) {
        return false;
    }
    has(ACK) || !has(FIN | PSH | URG)
}

impl Segment {
    const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Sequence numbers that it takes.
    fn takes(&self) -> u32 {
        self.len + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }

    fn offered(&self) -> Scale {
        self.scale.map_or(Scale::None, |s| Scale::Shift(s.min(SCALE_MAX)))
    }

    /// Whether it may begin a connection: a SYN, or a segment of one that is under way. Not the answer to a SYN.
    #[must_use]
    pub fn may_begin(&self) -> bool {
        flags_are_sound(self.flags) && !(self.has(SYN) && self.has(ACK))
    }
}

/// The window of a SYN is never scaled (RFC 7323, 2.2): in units of the scale that counts later.
fn in_units(window: u16, scale: Scale) -> u16 {
    match scale {
        Scale::Shift(s) => u16::try_from(u32::from(window).div_ceil(1 << s)).unwrap_or(u16::MAX),
        Scale::None | Scale::Unknown => window,
    }
}

impl Tcp {
    /// The connection that a segment begins.
    #[must_use]
    pub fn begin(seg: &Segment) -> Self {
        let (own, other) = if seg.has(SYN) { (seg.offered(), Scale::None) } else { (Scale::Unknown, Scale::Unknown) };
        let first = End {
            sent: seg.seq,
            limit: seg.seq.wrapping_add(seg.takes()).wrapping_add(1),
            window: in_units(seg.window.max(1), own),
            scale: own,
            state: TcpState::SynSent,
        };
        let second = End { sent: 0, limit: NO_LIMIT, window: 1, scale: other, state: TcpState::Closed };
        Self { ends: [first, second] }
    }

    /// A segment arrives, of the answering end if `reply`.
    #[must_use]
    pub fn step(self, seg: &Segment, reply: bool, liberal: bool) -> (Self, Verdict) {
        let (i, o) = if reply { (1, 0) } else { (0, 1) };
        if !flags_are_sound(seg.flags) {
            return (self, Verdict::Invalid);
        }
        let mut next = self;
        if seg.has(SYN) && !seg.has(ACK) {
            if self.ends.iter().all(|e| e.state >= TcpState::FinWait2) {
                return (self, Verdict::Restart);
            }
            if self.ends[i].state <= TcpState::SynSent {
                next.ends[i].state = TcpState::SynSent;
                return (next, Verdict::Opening(CtStage::TcpSynSent));
            }
        }
        let [mut own, mut other] = [self.ends[i], self.ends[o]];
        let view = View::of(seg, &mut own, &mut other);
        let verdict = if view.is_within(seg, &own, &other) || liberal {
            view.account(&mut own, &mut other);
            follow(seg, &mut own, &mut other);
            Verdict::Valid(Some(stage(own.state, other.state)))
        } else if view.is_near(&own, &other) {
            view.account(&mut own, &mut other);
            closes(seg, &mut own, &mut other);
            Verdict::Valid(None)
        } else {
            return (self, Verdict::Invalid);
        };
        (next.ends[i], next.ends[o]) = (own, other);
        (next, verdict)
    }

    /// `step` of what nearly all segments are: data and acknowledgments, within the windows, of a connection in which both ends are established.
    /// `None` says nothing of others.
    #[inline(always)]
    #[must_use]
    pub fn go_on(&self, seg: &Segment, reply: bool) -> Option<Self> {
        let ordinary = seg.flags & (FIN | SYN | RST | ACK) == ACK;
        if !ordinary || self.ends.iter().any(|e| e.state != TcpState::Established) {
            return None;
        }
        let [mut own, mut other] = if reply { [self.ends[1], self.ends[0]] } else { self.ends };
        let view = View::of(seg, &mut own, &mut other);
        if !view.is_within(seg, &own, &other) {
            return None;
        }
        view.account(&mut own, &mut other);
        Some(Self { ends: if reply { [other, own] } else { [own, other] } })
    }

    /// Whether both ends have spoken and neither has closed.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.ends.iter().all(|e| e.state >= TcpState::Established)
    }

    /// Whether an end has closed.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.ends.iter().any(|e| e.state >= TcpState::Closing)
    }

    /// For dumps.
    #[must_use]
    pub fn shown(&self) -> CtTcp {
        CtTcp {
            states: self.ends.map(|e| e.state),
            scales: self.ends.map(|e| if let Scale::Shift(s) = e.scale { Some(s) } else { None }),
            liberal: self.ends.map(|e| e.scale == Scale::Unknown),
        }
    }
}

/// A segment's numbers, as they are judged.
#[derive(Debug)]
struct View {
    seq: u32,
    end: u32,
    ack: u32,
    /// Shifts of the sender's and of the other's windows.
    own_shift: u8,
    other_shift: u8,
    /// The window as far as it counts.
    window: u16,
    /// The sender's first segment: its acknowledgment cannot be judged.
    learned: bool,
}

impl View {
    #[inline(always)]
    fn of(seg: &Segment, own: &mut End, other: &mut End) -> Self {
        let (own_shift, other_shift) = match (own.scale, other.scale) {
            (Scale::Shift(a), Scale::Shift(b)) if !seg.has(SYN) => (a, b),
            (Scale::Unknown, Scale::Unknown) if !seg.has(SYN) => (SCALE_MAX, SCALE_MAX),
            _ => (0, 0),
        };
        let end = seg.seq.wrapping_add(seg.takes());
        let mut view = Self { seq: seg.seq, end, ack: seg.ack, own_shift, other_shift, window: seg.window, learned: false };
        if own.state < TcpState::SynSent {
            view.learn(seg, own, other);
        }
        // Without an acknowledgment, or with the zero that some stacks put into their RST, there is nothing to judge.
        if !seg.has(ACK) || seg.has(RST) && seg.ack == 0 {
            view.ack = other.sent;
        }
        // A segment that takes no numbers may stand anywhere: keep-alives, late acknowledgments.
        if view.seq == view.end {
            (view.seq, view.end) = (own.sent, own.sent);
        }
        view
    }

    #[inline(never)]
    fn learn(&mut self, seg: &Segment, own: &mut End, other: &mut End) {
        if seg.has(SYN)
            && let Scale::Shift(other_shift) = other.scale
        {
            own.scale = seg.offered();
            if let Scale::Shift(own_shift) = own.scale {
                (self.own_shift, self.other_shift) = (own_shift, other_shift);
                self.window = in_units(self.window, own.scale);
            } else {
                // Scaling needs both (RFC 7323, 1.3): the window told in the SYN counts as it stood there.
                other.window = u16::try_from(u32::from(other.window) << other_shift).unwrap_or(u16::MAX);
                other.scale = Scale::None;
            }
        }
        own.sent = seg.seq;
        own.state = TcpState::SynSent;
        let limit = self.end.wrapping_add((u32::from(other.window) << self.other_shift).max(1));
        if own.limit == NO_LIMIT || at_or_after(limit, own.limit) {
            own.limit = limit;
            self.learned = true;
        }
        own.window = own.window.max(self.window);
    }

    #[inline(always)]
    fn is_within(&self, seg: &Segment, own: &End, other: &End) -> bool {
        let oldest = own.sent.wrapping_sub(u32::from(other.window) << self.other_shift);
        let skew = if self.learned { 0 } else { other.sent.wrapping_sub(self.ack).cast_signed() };
        at_or_after(own.limit, self.end)
            && at_or_after(self.seq, oldest)
            && skew >= -ACK_SLACK
            && skew <= ACK_SLACK << self.own_shift
            && (!seg.has(RST) || seg.seq.wrapping_sub(own.sent).wrapping_add(1) <= 2)
    }

    /// Near enough for the beginning or the end of a connection.
    fn is_near(&self, own: &End, other: &End) -> bool {
        const SLACK: u32 = ACK_SLACK.cast_unsigned();
        let loose = other.state < TcpState::SynSent || own.state >= TcpState::FinWait2 || other.state >= TcpState::FinWait2;
        loose && at_or_after(own.limit.wrapping_add(SLACK), self.end) && at_or_after(self.seq, own.sent.wrapping_sub(SLACK))
    }

    /// Moves the edges.
    #[inline(always)]
    fn account(&self, own: &mut End, other: &mut End) {
        own.window = own.window.max(self.window);
        if after(self.end, own.sent) {
            own.sent = self.end;
        }
        let window = u32::from(self.window) << self.own_shift;
        if at_or_after(self.ack.wrapping_add(window), other.limit) {
            other.limit = self.ack.wrapping_add(window.max(1));
        }
    }
}

/// Moves the states.
fn follow(seg: &Segment, own: &mut End, other: &mut End) {
    if seg.has(ACK) {
        if other.state == TcpState::SynSent {
            other.state = TcpState::Established;
        } else if other.state == TcpState::Closing {
            other.state = TcpState::FinWait2;
        }
    }
    closes(seg, own, other);
}

fn closes(seg: &Segment, own: &mut End, other: &mut End) {
    if seg.has(FIN) && own.state < TcpState::Closing {
        own.state = TcpState::Closing;
    }
    if seg.has(RST) {
        (own.state, other.state) = (TcpState::TimeWait, TcpState::TimeWait);
    }
}

fn stage(a: TcpState, b: TcpState) -> CtStage {
    let (less, more) = (a.min(b), a.max(b));
    match (less, more) {
        (less, _) if less >= TcpState::FinWait2 => CtStage::TcpClose,
        (less, _) if less >= TcpState::Closing => CtStage::TcpTimeWait,
        (less, _) if less < TcpState::Established => CtStage::TcpSynRecv,
        (_, more) if more >= TcpState::Closing => CtStage::TcpFinWait,
        _ => CtStage::TcpEstablished,
    }
}

#[cfg(test)]
#[path = "tcp_tests.rs"]
mod tests;
