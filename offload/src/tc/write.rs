//! A filter as a message: `RTM_NEWTFILTER`, `RTM_DELTFILTER`, `RTM_GETTFILTER`.

use super::attributes::Writer;
use super::numbers::{
    BLOCK, CLSACT, CLSACT_HANDLE, EGRESS, INGRESS, RTM_DELQDISC, RTM_DELTFILTER, RTM_GETQDISC, RTM_GETTFILTER, RTM_NEWQDISC,
    RTM_NEWTFILTER, SKIP_SW, TCA_CHAIN, TCA_INGRESS_BLOCK, TCA_KIND, TCA_OPTIONS, flower,
};
use super::{Devices, FilterId, Hook, acts, matches};
use crate::refusal::{Reason, Refusal};
use crate::rule::Rule;

/// Bytes of `struct nlmsghdr`.
pub const HEADER: usize = 16;
/// Bytes of `struct tcmsg`.
pub const TCMSG: usize = 20;
/// Bytes of `struct tcamsg`.
pub const TCAMSG: usize = 4;
/// `NLM_F_*`
pub const F_REQUEST: u16 = 1;
pub const F_ACK: u16 = 4;
pub const F_ECHO: u16 = 8;
pub const F_REPLACE: u16 = 0x100;
pub const F_DUMP: u16 = 0x300;
pub const F_CREATE: u16 = 0x400;
pub const F_EXCL: u16 = 0x200;

/// Appends a message that creates the filter `id`, only in hardware (`skip_sw`), with `cookie` on the first action that is its
/// own; the kernel echoes it.
///
/// # Errors
/// If a port has no device.
pub fn create(
    out: &mut Writer,
    sequence: u32,
    id: FilterId,
    rule: &Rule,
    cookie: &[u8],
    devices: &dyn Devices,
) -> Result<(), Refusal> {
    let start = out.bytes.len();
    let flags = F_REQUEST | F_ACK | F_ECHO | F_CREATE | F_EXCL;
    head(out, RTM_NEWTFILTER, flags, sequence, id);
    out.put_text(TCA_KIND, "flower");
    let options = out.nest(TCA_OPTIONS);
    matches::put(out, rule);
    let list = out.nest(flower::ACT);
    let own = rule.acts.iter().position(|act| !act.is_shared());
    for (order, act) in rule.acts.iter().enumerate() {
        let cookie = if Some(order) == own { cookie } else { &[] };
        let order = u16::try_from(order + 1).expect("a rule has at most ACTIONS_MAX actions");
        if let Err(refusal) = acts::put(out, order, act, cookie, devices) {
            out.bytes.truncate(start);
            return Err(refusal);
        }
    }
    out.end(list);
    out.put_u32(flower::FLAGS, SKIP_SW);
    out.end(options);
    close(out, start);
    Ok(())
}

/// Appends a message that deletes a filter; the kernel echoes it, with its last counters.
pub fn delete(out: &mut Writer, sequence: u32, id: FilterId) {
    one(out, RTM_DELTFILTER, F_REQUEST | F_ACK | F_ECHO, sequence, id);
}

/// Appends a message that gives a device the queueing discipline that filters hang from, if it has none (else: `EEXIST`).
pub fn clsact(out: &mut Writer, sequence: u32, ifindex: u32) {
    qdisc(out, RTM_NEWQDISC, F_CREATE | F_EXCL, sequence, ifindex, None);
}

/// The same, with an ingress side that it shares with all devices that have the same block.
pub fn clsact_with_block(out: &mut Writer, sequence: u32, ifindex: u32, block: u32) {
    qdisc(out, RTM_NEWQDISC, F_CREATE | F_EXCL, sequence, ifindex, Some(block));
}

/// Appends a message that removes it, with all filters that hang from this device alone.
pub fn no_clsact(out: &mut Writer, sequence: u32, ifindex: u32) {
    qdisc(out, RTM_DELQDISC, 0, sequence, ifindex, None);
}

/// Appends a message that asks for it.
pub fn query_clsact(out: &mut Writer, sequence: u32, ifindex: u32) {
    qdisc(out, RTM_GETQDISC, F_ECHO, sequence, ifindex, None);
}

fn qdisc(out: &mut Writer, kind: u16, flags: u16, sequence: u32, ifindex: u32, block: Option<u32>) {
    let start = out.bytes.len();
    // A question is for whatever is there; the handle of an ingress is the same.
    let id = FilterId { hook: Hook::Ingress { ifindex }, chain: 0, prio: 0, handle: CLSACT_HANDLE, protocol: 0 };
    header(out, kind, flags | F_REQUEST | F_ACK, sequence, id);
    let parent = start + HEADER + 12;
    out.bytes[parent..parent + 4].copy_from_slice(&CLSACT.to_ne_bytes());
    out.put_text(TCA_KIND, "clsact");
    if let Some(block) = block {
        out.put_u32(TCA_INGRESS_BLOCK, block);
    }
    close(out, start);
}

/// Appends a message that asks for a filter with its counters.
pub fn query(out: &mut Writer, sequence: u32, id: FilterId) {
    one(out, RTM_GETTFILTER, F_REQUEST | F_ACK, sequence, id);
}

/// Appends a message that asks for all filters of a hook.
pub fn dump(out: &mut Writer, sequence: u32, hook: Hook) {
    let start = out.bytes.len();
    let id = FilterId { hook, chain: 0, prio: 0, handle: 0, protocol: 0 };
    header(out, RTM_GETTFILTER, F_REQUEST | F_DUMP, sequence, id);
    close(out, start);
}

/// Appends a message that asks for all filters of a device's egress side.
pub(super) fn dump_egress(out: &mut Writer, sequence: u32, ifindex: u32) {
    let start = out.bytes.len();
    dump(out, sequence, Hook::Ingress { ifindex });
    let parent = start + HEADER + 12;
    out.bytes[parent..parent + 4].copy_from_slice(&EGRESS.to_ne_bytes());
}

fn one(out: &mut Writer, kind: u16, flags: u16, sequence: u32, id: FilterId) {
    let start = out.bytes.len();
    head(out, kind, flags, sequence, id);
    out.put_text(TCA_KIND, "flower");
    close(out, start);
}

fn head(out: &mut Writer, kind: u16, flags: u16, sequence: u32, id: FilterId) {
    header(out, kind, flags, sequence, id);
    out.put_u32(TCA_CHAIN, id.chain);
}

/// Begins a message with its `struct nlmsghdr`, whose length `close` writes; where it starts.
pub(crate) fn open(out: &mut Writer, kind: u16, flags: u16, sequence: u32) -> usize {
    let start = out.bytes.len();
    out.bytes.extend_from_slice(&[0; 4]);
    out.bytes.extend_from_slice(&kind.to_ne_bytes());
    out.bytes.extend_from_slice(&flags.to_ne_bytes());
    out.bytes.extend_from_slice(&sequence.to_ne_bytes());
    out.bytes.extend_from_slice(&[0; 4]);
    start
}

fn header(out: &mut Writer, kind: u16, flags: u16, sequence: u32, id: FilterId) {
    open(out, kind, flags, sequence);
    let (ifindex, parent) = match id.hook {
        Hook::Ingress { ifindex } => (ifindex.to_ne_bytes(), INGRESS),
        Hook::Block { number } => (BLOCK.to_ne_bytes(), number),
    };
    out.bytes.extend_from_slice(&[0; 4]);
    out.bytes.extend_from_slice(&ifindex);
    out.bytes.extend_from_slice(&id.handle.to_ne_bytes());
    out.bytes.extend_from_slice(&parent.to_ne_bytes());
    let info = u32::from(id.prio) << 16 | u32::from(id.protocol.to_be());
    out.bytes.extend_from_slice(&info.to_ne_bytes());
}

/// The fixed part and chain of a message that shows a filter, at the start of `out`.
pub(crate) fn fixed(out: &mut Writer, kind: u16, sequence: u32, id: FilterId) {
    head(out, kind, 0, sequence, id);
}

/// Writes the length of the message that is all of `out`.
pub(crate) fn finish(out: &mut Writer) {
    close(out, 0);
}

/// Writes the length of the message that starts there and is the last of `out`.
pub(crate) fn close(out: &mut Writer, start: usize) {
    let len = u32::try_from(out.bytes.len() - start).expect("a message is shorter than 4 GiB");
    out.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
}

/// A refusal for a port without a device.
pub(super) const fn no_device(port: flow::DpPort) -> Refusal {
    Refusal::of_port(Reason::OutPort, port)
}
