//! `Datapath`, `CT_Zone` and `CT_Timeout_Policy` in, connection tracking's configuration out. Pure.

use super::rows::Row;
use super::schema::{CtTimeoutPolicy, CtZone, Datapath, OpenVswitch, ct_timeout_policy, ct_zone, datapath, open_vswitch};
use flow::conntrack::CT_STAGES;
use ofproto::config::{Timeouts, TrackingConfig, ZoneConfig};

/// Of the datapaths of an `Open_vSwitch` row.
pub(super) fn read(row: &Row<'_, OpenVswitch>) -> Vec<TrackingConfig> {
    let tracking = |(kind, row): (String, Row<'_, Datapath>)| TrackingConfig {
        datapath_type: kind,
        default_limit: row.opt_int(datapath::CT_ZONE_DEFAULT_LIMIT).map(limit),
        zones: row.numbered_refs(datapath::CT_ZONES).into_iter().filter_map(|(n, row)| zone(n, &row)).collect(),
    };
    row.named_refs(open_vswitch::DATAPATHS).into_iter().map(tracking).collect()
}

fn limit(limit: i64) -> u32 {
    u32::try_from(limit).unwrap_or(if limit < 0 { 0 } else { u32::MAX })
}

fn zone(number: i64, row: &Row<'_, CtZone>) -> Option<ZoneConfig> {
    let policy = row.refs(ct_zone::TIMEOUT_POLICY).into_iter().next();
    let zone = u16::try_from(number).ok()?;
    Some(ZoneConfig { zone, limit: row.opt_int(ct_zone::LIMIT).map(limit), timeouts: policy.map(|p| timeouts(&p)) })
}

/// Keys that this tracker has no stage for (`tcp_close_wait` and others of the kernel's) are left out.
fn timeouts(row: &Row<'_, CtTimeoutPolicy>) -> Timeouts {
    let mut timeouts = [None; CT_STAGES.len()];
    for (key, value) in row.datum(ct_timeout_policy::TIMEOUTS).into_iter().flat_map(ovsdb::Datum::pairs) {
        let stage = CT_STAGES.iter().find(|(_, name, _)| key.as_str() == Some(name));
        if let (Some((stage, _, _)), Some(seconds)) = (stage, value.as_int()) {
            timeouts[*stage as usize] = u32::try_from(seconds).ok();
        }
    }
    timeouts
}
