//! `Datapath`, `CT_Zone` and `CT_Timeout_Policy` in, connection tracking's configuration out. Pure.

use super::rows::Row;
use flow::conntrack::CT_STAGES;
use ofproto::config::{Timeouts, TrackingConfig, ZoneConfig};

/// Of the datapaths of an `Open_vSwitch` row.
pub(super) fn read(row: &Row<'_>) -> Vec<TrackingConfig> {
    let datapath = |(kind, row): (String, Row<'_>)| TrackingConfig {
        datapath_type: kind,
        default_limit: row.opt_int("ct_zone_default_limit").map(limit),
        zones: row.numbered_refs("ct_zones", "CT_Zone").into_iter().filter_map(|(n, row)| zone(n, &row)).collect(),
    };
    row.named_refs("datapaths", "Datapath").into_iter().map(datapath).collect()
}

fn limit(limit: i64) -> u32 {
    u32::try_from(limit).unwrap_or(if limit < 0 { 0 } else { u32::MAX })
}

fn zone(number: i64, row: &Row<'_>) -> Option<ZoneConfig> {
    let policy = row.refs("timeout_policy", "CT_Timeout_Policy").into_iter().next();
    let zone = u16::try_from(number).ok()?;
    Some(ZoneConfig { zone, limit: row.opt_int("limit").map(limit), timeouts: policy.map(|p| timeouts(&p)) })
}

/// Keys that this tracker has no stage for (`tcp_close_wait` and others of the kernel's) are left out.
fn timeouts(row: &Row<'_>) -> Timeouts {
    let mut timeouts = [None; CT_STAGES.len()];
    for (key, value) in row.datum("timeouts").into_iter().flat_map(ovsdb::Datum::pairs) {
        let stage = CT_STAGES.iter().find(|(_, name, _)| key.as_str() == Some(name));
        if let (Some((stage, _, _)), Some(seconds)) = (stage, value.as_int()) {
            timeouts[*stage as usize] = u32::try_from(seconds).ok();
        }
    }
    timeouts
}
