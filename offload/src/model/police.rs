//! Police actions that stand by themselves, in the model: made, changed, removed and told as the kernel does it.
//!
//! What enters: messages about actions. What leaves: echoes, dumps, errors with texts. Neighbours: `buckets`, `tc::meters` (the codec).

use super::{Options, State, Stored, sequence};
use crate::hardware::MeterCounts;
use crate::rule::Act;
use crate::tc::Devices as _;
use crate::tc::attributes::{Writer, attributes, find, seek};
use crate::tc::meters::{Police, read, show};
use crate::tc::numbers::errno::{EEXIST, EINVAL, ENOENT, ENOSPC, EOPNOTSUPP, EPERM};
use crate::tc::numbers::{RTM_DELACTION, RTM_GETACTION, RTM_NEWACTION, TCA_ACT_TAB, act};
use crate::tc::write::{F_EXCL, HEADER, TCAMSG};
use std::sync::Arc;

type Answer = Result<(), (i32, &'static str)>;

/// A meter in the model is the index of its action.
pub(super) fn make(state: &mut State, options: &Options, request: &[u8], out: &mut Writer) -> Answer {
    let police = read(request).ok().and_then(|mut all| all.pop()).ok_or((EINVAL, "the action cannot be read"))?;
    let meter = super::SameNumbers.meter(police.index).ok_or((EOPNOTSUPP, "only meters are modelled"))?;
    let flags = request.get(6..8).map_or(0, |f| u16::from_ne_bytes([f[0], f[1]]));
    let there = state.buckets.limit(meter).is_some();
    if there && flags & F_EXCL != 0 {
        return Err((EEXIST, "an action with this index is there"));
    }
    if options.without.iter().any(|kind| kind == "police") {
        return Err((EOPNOTSUPP, "the hardware has no such action"));
    }
    if !there && state.buckets.len() >= options.meters {
        return Err((ENOSPC, "no meter is left"));
    }
    state.buckets.put(meter, police.limit);
    state.marks.insert(meter, police.cookie.clone());
    // The kernel shows a shared action in each filter as it is now.
    for stored in state.filters.values_mut() {
        let mut filter = stored.filter.clone();
        for one in &mut filter.acts {
            if let Act::Police { meter: of, limit } = &mut one.act
                && *of == meter
            {
                *limit = police.limit;
            }
        }
        if filter != stored.filter {
            let (packets, bytes_counted, told) = (stored.packets, stored.bytes_counted, stored.told);
            *stored = Stored { packets, bytes_counted, told, ..Stored::new(filter) };
        }
    }
    tell(state, RTM_NEWACTION, sequence(request), &[meter], out);
    Ok(())
}

pub(super) fn remove(state: &mut State, request: &[u8], out: &mut Writer) -> Answer {
    let index = index_of(request).ok_or((EINVAL, "no action is named"))?;
    let meter = super::SameNumbers.meter(index).ok_or((ENOENT, "no such action"))?;
    let names = |acts: &Arc<[Act]>| acts.iter().any(|a| matches!(a, Act::Police { meter: of, .. } if *of == meter));
    if state.filters.values().any(|stored| names(&stored.acts)) {
        return Err((EPERM, "a filter names the action"));
    }
    if state.buckets.limit(meter).is_none() {
        return Err((ENOENT, "no such action"));
    }
    tell(state, RTM_DELACTION, sequence(request), &[meter], out);
    state.buckets.take(meter);
    state.marks.remove(&meter);
    Ok(())
}

pub(super) fn list(state: &State, request: &[u8], out: &mut Writer) -> Answer {
    let all: Vec<u32> = state.buckets.all().collect();
    for some in all.chunks(32) {
        tell(state, RTM_GETACTION, sequence(request), some, out);
    }
    Ok(())
}

fn index_of(request: &[u8]) -> Option<u32> {
    let table = seek(request.get(HEADER + TCAMSG..)?, TCA_ACT_TAB)?;
    let one = attributes(table.payload).ok()?.first()?.nested().ok()?;
    find(&one, act::INDEX)?.u32().ok()
}

fn tell(state: &State, kind: u16, sequence: u32, meters: &[u32], out: &mut Writer) {
    let police = |meter: &u32| {
        let counts: MeterCounts = state.buckets.counts(*meter)?;
        let cookie = state.marks.get(meter).cloned().unwrap_or_default();
        Some(Police {
            index: super::SameNumbers.police(*meter),
            limit: state.buckets.limit(*meter)?,
            cookie,
            in_hw_count: 1,
            counts,
        })
    };
    let all: Vec<Police> = meters.iter().filter_map(police).collect();
    show(out, kind, sequence, &all);
}
