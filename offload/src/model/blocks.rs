//! Queueing disciplines in the model, as far as they tell which ports share a block.
//!
//! What enters: requests about them. What leaves: answers; which block a port has, and how many ports share one. Every port has a clsact from the
//! start; it takes a block as long as nothing hangs from it.

use super::{State, Stored, sequence};
use crate::tc::attributes::{Writer, seek};
use crate::tc::numbers::errno::{EEXIST, EOPNOTSUPP};
use crate::tc::numbers::{RTM_NEWQDISC, TCA_INGRESS_BLOCK};
use crate::tc::write::{HEADER, TCMSG, close, open};
use std::collections::BTreeMap;

/// The block of each port that shares one.
#[derive(Debug, Default)]
pub(super) struct Blocks(BTreeMap<u32, u32>);

impl Blocks {
    pub(super) fn of(&self, ifindex: u32) -> Option<u32> {
        self.0.get(&ifindex).copied()
    }

    /// How many ports share a block; `None` if nobody does.
    pub(super) fn width(&self, block: u32) -> Option<u32> {
        let ports = self.0.values().filter(|b| **b == block).count();
        u32::try_from(ports).ok().filter(|n| *n > 0)
    }
}

type Answer = Result<(), (i32, &'static str)>;

/// The interface and the block of a request.
fn read(request: &[u8]) -> (u32, Option<u32>) {
    let ifindex = request.get(HEADER + 4..).and_then(|b| b.first_chunk::<4>()).map_or(0, |b| u32::from_ne_bytes(*b));
    let block = request.get(HEADER + TCMSG..).and_then(|list| seek(list, TCA_INGRESS_BLOCK)).and_then(|a| a.u32().ok());
    (ifindex, block)
}

fn hangs(state: &State, ifindex: u32) -> bool {
    state.filters.range((ifindex, 0, 0, 0)..=(ifindex, u32::MAX, u16::MAX, u32::MAX)).next().is_some()
}

pub(super) fn join(state: &mut State, shares: bool, request: &[u8]) -> Answer {
    let (ifindex, block) = read(request);
    let there = (EEXIST, "Exclusivity flag on, cannot modify");
    let block = block.ok_or(there)?;
    if !shares {
        return Err((EOPNOTSUPP, "ports share no blocks"));
    }
    if state.blocks.of(ifindex).is_some() || hangs(state, ifindex) {
        return Err(there);
    }
    state.blocks.0.insert(ifindex, block);
    recount(state, block);
    Ok(())
}

pub(super) fn leave(state: &mut State, request: &[u8]) -> Answer {
    let (ifindex, _) = read(request);
    match state.blocks.0.remove(&ifindex) {
        Some(block) => recount(state, block),
        None => state.filters.retain(|at, _| at.0 != ifindex),
    }
    Ok(())
}

/// The rules of a block are in as many devices as share it; without any they are gone.
fn recount(state: &mut State, block: u32) {
    let Some(width) = state.blocks.width(block) else {
        state.filters.retain(|at, _| at.0 != block);
        return;
    };
    for (_, stored) in state.filters.range_mut((block, 0, 0, 0)..=(block, u32::MAX, u16::MAX, u32::MAX)) {
        let mut filter = stored.filter.clone();
        filter.in_hw_count = width;
        let (packets, bytes_counted, told) = (stored.packets, stored.bytes_counted, stored.told);
        *stored = Stored { packets, bytes_counted, told, ..Stored::new(filter) };
    }
}

pub(super) fn tell(state: &State, request: &[u8], out: &mut Writer) -> Answer {
    let (ifindex, _) = read(request);
    let start = open(out, RTM_NEWQDISC, 0, sequence(request));
    out.bytes.extend_from_slice(request.get(HEADER..HEADER + TCMSG).unwrap_or(&[0; TCMSG]));
    if let Some(block) = state.blocks.of(ifindex) {
        out.put_u32(TCA_INGRESS_BLOCK, block);
    }
    close(out, start);
    Ok(())
}
