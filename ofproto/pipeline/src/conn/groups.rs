//! Group-mods and meter-mods, and what is asked about groups and meters.
//!
//! What enters: decoded messages, the world for writing. What leaves: changed groups and meters, or the error; statistics.

use crate::bridge::Bridge;
use crate::deps::Object;
use crate::flow_mod::{self, Journal};
use crate::group::{Bucket, Group, Method};
use crate::meter::Meter;
use crate::rule::Tally;
use crate::world::{BridgeId, World};
use flow::Msec;
use flow::seam::{BAND_DROP, BAND_DSCP_REMARK, DpError, METER_BURST, METER_KBPS, METER_PKTPS, METER_STATS};
use openflow::message::{
    Bucket as WireBucket, GroupCommand, GroupDesc, GroupFeatures, GroupMod, GroupStatsEntry, GroupType, MeterConfigEntry,
    MeterFeatures, MeterMod, MeterStatsEntry,
};
use openflow::{GroupId, OfError};
use std::sync::Arc;

/// Command bucket ids.
const FIRST: u32 = 0xffff_fffd;
const LAST: u32 = 0xffff_fffe;
const ALL: u32 = 0xffff_ffff;
/// OFPM13_ALL
pub(super) const METER_ALL: u32 = 0xffff_ffff;
const METER_MAX: u32 = 0xffff_0000;

/// Applies a group-mod. `journal` gets the rules that go with a deleted group.
pub(crate) fn group_mod(
    world: &mut World,
    bridge: BridgeId,
    gm: &GroupMod,
    now: Msec,
    journal: &mut Journal,
) -> Result<(), OfError> {
    let b = world.bridges.get(&bridge).ok_or(OfError::OfpbrcEperm)?;
    let exists = b.groups.get(&gm.group).cloned();
    match gm.command {
        GroupCommand::Add if exists.is_some() => Err(OfError::OfpgmfcGroupExists),
        GroupCommand::Modify if exists.is_none() => Err(OfError::OfpgmfcUnknownGroup),
        GroupCommand::Add | GroupCommand::Modify | GroupCommand::AddOrMod => {
            let group = build(gm, exists.as_deref(), now)?;
            put(world, bridge, group);
            Ok(())
        }
        GroupCommand::Delete => {
            delete(world, bridge, gm.group, journal);
            Ok(())
        }
        GroupCommand::InsertBucket => {
            let old = exists.ok_or(OfError::OfpgmfcUnknownGroup)?;
            let group = insert_buckets(gm, &old)?;
            put(world, bridge, group);
            Ok(())
        }
        GroupCommand::RemoveBucket => {
            let old = exists.ok_or(OfError::OfpgmfcUnknownGroup)?;
            let group = remove_buckets(gm, &old)?;
            put(world, bridge, group);
            Ok(())
        }
    }
}

fn put(world: &mut World, bridge: BridgeId, group: Group) {
    let id = group.id;
    if let Some(b) = world.bridges.get_mut(&bridge) {
        b.groups.insert(id, Arc::new(group.with_method()));
    }
    world.changed(Object::Group(bridge, id));
}

/// Deletes one group or all, and the rules that use them.
pub(super) fn delete(world: &mut World, bridge: BridgeId, group: GroupId, journal: &mut Journal) {
    let Some(b) = world.bridges.get_mut(&bridge) else { return };
    let gone: Vec<GroupId> = b.groups.keys().copied().filter(|id| group == GroupId::ALL || *id == group).collect();
    for id in &gone {
        b.groups.remove(id);
    }
    for id in gone {
        world.changed(Object::Group(bridge, id));
        if let Some(b) = world.bridges.get(&bridge) {
            flow_mod::remove_users_of_group(world, b, id, journal);
        }
    }
}

fn build(gm: &GroupMod, old: Option<&Group>, now: Msec) -> Result<Group, OfError> {
    if gm.group.0 > GroupId::MAX.0 {
        return Err(OfError::OfpgmfcInvalidGroup);
    }
    if gm.kind == GroupType::Indirect && gm.buckets.len() != 1 {
        return Err(OfError::OfpgmfcInvalidGroup);
    }
    let kept = |id: u32| old.and_then(|g| g.buckets.iter().find(|b| b.id == id)).map(|b| Arc::clone(&b.tally));
    let buckets = gm.buckets.iter().map(|b| bucket_of(b, kept(b.id))).collect();
    Ok(Group {
        id: gm.group,
        kind: gm.kind,
        buckets,
        selection: gm.selection.clone(),
        tally: old.map_or_else(Arc::<Tally>::default, |g| Arc::clone(&g.tally)),
        created_ms: old.map_or(now, |g| g.created_ms),
        method: Method::Default,
    })
}

fn bucket_of(bucket: &WireBucket, tally: Option<Arc<Tally>>) -> Bucket {
    Bucket {
        id: bucket.id,
        weight: bucket.weight,
        watch_port: bucket.watch_port,
        watch_group: bucket.watch_group,
        actions: bucket.actions.clone(),
        tally: tally.unwrap_or_default(),
    }
}

fn insert_buckets(gm: &GroupMod, old: &Group) -> Result<Group, OfError> {
    let mut group = old.clone();
    for bucket in &gm.buckets {
        if group.buckets.iter().any(|b| b.id == bucket.id) {
            return Err(OfError::OfpgmfcBucketExists);
        }
    }
    let at = match gm.command_bucket_id {
        FIRST => 0,
        LAST => group.buckets.len(),
        id => group.buckets.iter().position(|b| b.id == id).ok_or(OfError::OfpgmfcUnknownBucket)? + 1,
    };
    group.buckets.splice(at..at, gm.buckets.iter().map(|b| bucket_of(b, None)));
    if group.kind == GroupType::Indirect && group.buckets.len() != 1 {
        return Err(OfError::OfpgmfcInvalidGroup);
    }
    Ok(group)
}

fn remove_buckets(gm: &GroupMod, old: &Group) -> Result<Group, OfError> {
    let mut group = old.clone();
    match gm.command_bucket_id {
        ALL => group.buckets.clear(),
        FIRST if !group.buckets.is_empty() => {
            group.buckets.remove(0);
        }
        LAST => {
            group.buckets.pop();
        }
        FIRST => {}
        id => {
            let at = group.buckets.iter().position(|b| b.id == id).ok_or(OfError::OfpgmfcUnknownBucket)?;
            group.buckets.remove(at);
        }
    }
    if group.kind == GroupType::Indirect && group.buckets.len() != 1 {
        return Err(OfError::OfpgmfcInvalidGroup);
    }
    Ok(group)
}

/// OFPMP_GROUP_DESC.
#[must_use]
pub(super) fn group_descs(bridge: &Bridge, group: GroupId) -> Vec<GroupDesc> {
    chosen(bridge, group)
        .map(|g| GroupDesc {
            group: g.id,
            kind: g.kind,
            buckets: g
                .buckets
                .iter()
                .map(|b| WireBucket {
                    id: b.id,
                    weight: b.weight,
                    watch_port: b.watch_port,
                    watch_group: b.watch_group,
                    actions: b.actions.clone(),
                })
                .collect(),
            selection: g.selection.clone(),
        })
        .collect()
}

/// OFPMP_GROUP.
#[must_use]
pub(super) fn group_stats(bridge: &Bridge, group: GroupId, now: Msec) -> Vec<GroupStatsEntry> {
    chosen(bridge, group)
        .map(|g| {
            let (packets, bytes) = g.tally.read();
            let (duration_sec, duration_nsec) = super::replies::duration(g.created_ms, now);
            let users = bridge.tables.iter().map(|t| {
                let rules = t.rules.read().expect("no holder of a table's rules panics");
                rules.iter().map(|r| flow_mod::places_of_group(&r.actions, g.id)).sum::<usize>()
            });
            GroupStatsEntry {
                group: g.id,
                ref_count: u32::try_from(users.sum::<usize>()).unwrap_or(u32::MAX),
                packets,
                bytes,
                duration_sec,
                duration_nsec,
                buckets: g.buckets.iter().map(|b| b.tally.read()).collect(),
            }
        })
        .collect()
}

fn chosen(bridge: &Bridge, group: GroupId) -> impl Iterator<Item = &Arc<Group>> {
    bridge.groups.values().filter(move |g| group == GroupId::ALL || g.id == group)
}

/// OFPMP_GROUP_FEATURES: all four types with weights, liveness, chaining and loop checks.
#[must_use]
pub(super) fn group_features() -> GroupFeatures {
    const SELECT_WEIGHT: u32 = 1;
    const SELECT_LIVENESS: u32 = 2;
    const CHAINING: u32 = 4;
    GroupFeatures {
        types: 0xf,
        capabilities: SELECT_WEIGHT | SELECT_LIVENESS | CHAINING,
        max_groups: [GroupId::MAX.0; 4],
        actions: [openflow::wire::actions::bitmap::ALL; 4],
    }
}

/// Applies a meter-mod.
pub(crate) fn meter_mod(
    world: &mut World,
    bridge: BridgeId,
    mm: &MeterMod,
    now: Msec,
    journal: &mut Journal,
) -> Result<(), OfError> {
    const ADD: u16 = 0;
    const MODIFY: u16 = 1;
    const DELETE: u16 = 2;
    let dp = Arc::clone(&world.backend(bridge).ok_or(OfError::OfpbrcEperm)?.dp);
    let features = dp.features();
    let id = mm.meter.id;
    let special = matches!(id, crate::meter::CONTROLLER | crate::meter::SLOWPATH);
    let b = world.bridges.get_mut(&bridge).ok_or(OfError::OfpbrcEperm)?;
    if mm.command == DELETE {
        delete_meters(world, bridge, id, journal);
        return Ok(());
    }
    if id == 0 || (id > METER_MAX && !special) {
        return Err(OfError::OfpmmfcInvalidMeter);
    }
    let bands = mm.meter.config.bands.len();
    if bands > usize::from(features.bands_max) {
        return Err(OfError::OfpmmfcOutOfBands);
    }
    let known = b.meters.0.get(&id).map(|m| (m.dp_meter, m.created_ms));
    let (dp_meter, created_ms) = match (mm.command, known) {
        (ADD, Some(_)) => return Err(OfError::OfpmmfcMeterExists),
        (MODIFY, None) => return Err(OfError::OfpmmfcUnknownMeter),
        (ADD, None) => {
            let free = (0..features.meters_max).find(|n| !world.meters_taken.contains(n));
            (free.ok_or(OfError::OfpmmfcOutOfMeters)?, now)
        }
        (MODIFY, Some(known)) => known,
        _ => return Err(OfError::OfpmmfcBadCommand),
    };
    // What a datapath of OVS does not take: a rate must have a unit. OpenFlow 1.3 section 5.7.1: "one or more meter bands".
    if mm.meter.config.flags & (METER_KBPS | METER_PKTPS) == 0 {
        return Err(OfError::OfpmmfcBadFlags);
    }
    if bands == 0 {
        return Err(OfError::OfpmmfcOutOfBands);
    }
    if mm.meter.config.bands.iter().any(|band| band.rate == 0) {
        return Err(OfError::OfpmmfcBadRate);
    }
    dp.meter_set(dp_meter, &mm.meter.config).map_err(|error| refusal(&error))?;
    world.meters_taken.insert(dp_meter);
    if let Some(b) = world.bridges.get_mut(&bridge) {
        b.meters.0.insert(id, Meter { config: mm.meter.config.clone(), dp_meter, created_ms });
    }
    world.changed(Object::Meters(bridge));
    Ok(())
}

/// What a controller is told when the datapath does not take a meter.
fn refusal(error: &DpError) -> OfError {
    if matches!(error, DpError::Full(_)) {
        OfError::OfpmmfcOutOfMeters
    } else if matches!(error, DpError::Unsupported(_)) {
        OfError::OfpmmfcBadBand
    } else if matches!(error, DpError::Invalid(_)) {
        OfError::OfpmmfcBadFlags
    } else {
        OfError::OfpmmfcUnknown
    }
}

/// Deletes one meter or all, and the rules that use them.
pub(super) fn delete_meters(world: &mut World, bridge: BridgeId, id: u32, journal: &mut Journal) {
    let Some(b) = world.bridges.get(&bridge) else { return };
    let gone: Vec<u32> = b.meters.0.keys().copied().filter(|m| id == METER_ALL || *m == id).collect();
    for id in gone {
        delete_meter(world, bridge, id, journal);
    }
}

fn delete_meter(world: &mut World, bridge: BridgeId, id: u32, journal: &mut Journal) {
    let Some(meter) = world.bridges.get_mut(&bridge).and_then(|b| b.meters.0.remove(&id)) else { return };
    world.meters_taken.remove(&meter.dp_meter);
    if let Some(backend) = world.backend(bridge) {
        // A meter that the datapath has lost is gone all the same.
        let _ = backend.dp.meter_del(meter.dp_meter);
    }
    world.changed(Object::Meters(bridge));
    if let Some(b) = world.bridges.get(&bridge) {
        flow_mod::remove_users_of_meter(world, b, id, journal);
    }
}

/// A bridge goes: the datapath's meters that it has are free again.
pub(crate) fn free_meters(world: &mut World, bridge: BridgeId) {
    let Some(meters) = world.bridges.get_mut(&bridge).map(|b| std::mem::take(&mut b.meters)) else { return };
    for meter in meters.0.values() {
        world.meters_taken.remove(&meter.dp_meter);
        if let Some(backend) = world.backend(bridge) {
            // A meter that the datapath has lost is gone all the same.
            let _ = backend.dp.meter_del(meter.dp_meter);
        }
    }
}

/// OFPMP_METER_CONFIG.
pub(super) fn meter_configs(bridge: &Bridge, id: u32) -> Result<Vec<MeterConfigEntry>, OfError> {
    let meters: Vec<_> = meters(bridge, id)?;
    Ok(meters.into_iter().map(|(id, m)| MeterConfigEntry { id, config: m.config.clone() }).collect())
}

/// OFPMP_METER.
pub(super) fn meter_stats(world: &World, bridge: &Bridge, id: u32, now: Msec) -> Result<Vec<MeterStatsEntry>, OfError> {
    let dp = world.backend(bridge.id).map(|b| &b.dp);
    let entries = meters(bridge, id)?.into_iter().map(|(id, m)| {
        let counted = dp.and_then(|dp| dp.meter_get(m.dp_meter).ok()).unwrap_or_default();
        let (duration_sec, duration_nsec) = super::replies::duration(m.created_ms, now);
        let users = bridge.tables.iter().map(|t| {
            let rules = t.rules.read().expect("no holder of a table's rules panics");
            rules.iter().filter(|r| r.actions.iter().any(|a| matches!(a, openflow::OfAction::Meter(m) if *m == id))).count()
        });
        MeterStatsEntry {
            id,
            flow_count: u32::try_from(users.sum::<usize>()).unwrap_or(u32::MAX),
            packets_in: counted.packets,
            bytes_in: counted.bytes,
            duration_sec,
            duration_nsec,
            bands: counted.bands,
        }
    });
    Ok(entries.collect())
}

fn meters(bridge: &Bridge, id: u32) -> Result<Vec<(u32, &Meter)>, OfError> {
    if id == METER_ALL {
        return Ok(bridge.meters.0.iter().map(|(id, m)| (*id, m)).collect());
    }
    let meter = bridge.meters.0.get(&id).ok_or(OfError::OfpmmfcUnknownMeter)?;
    Ok(vec![(id, meter)])
}

/// OFPMP_METER_FEATURES.
#[must_use]
pub(super) fn meter_features(world: &World, bridge: BridgeId) -> MeterFeatures {
    const CAPABILITIES: u16 = METER_KBPS | METER_PKTPS | METER_BURST | METER_STATS;
    const BANDS: u32 = 1 << BAND_DROP | 1 << BAND_DSCP_REMARK;
    let features = world.backend(bridge).map(|b| b.dp.features());
    features.map_or_else(MeterFeatures::default, |f| MeterFeatures {
        max_meters: f.meters_max,
        band_types: BANDS,
        capabilities: CAPABILITIES.into(),
        max_bands: f.bands_max,
        max_color: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, config};
    use flow::seam::MeterConfig;
    use openflow::message::MeterConfigEntry;

    /// OFPG_ANY is for those who ask for flows; of groups it names none.
    #[test]
    fn all_groups_are_asked_for_by_their_name() {
        let s = Scenario::new(&config(&["br0 p1@1"]));
        for id in [1, 7] {
            s.add_group("br0", &format!("group_id={id},type=all,bucket=output:1")).unwrap();
        }
        let world = s.slowpath.read_world();
        let asked = |group| chosen(world.bridge_named("br0").unwrap(), group).map(|g| g.id.0).collect::<Vec<_>>();
        assert_eq!(asked(GroupId::ALL).len(), 2);
        assert_eq!((asked(GroupId(7)), asked(GroupId::ANY)), (vec![7], vec![]));
    }

    #[test]
    fn a_meter_has_bands() {
        let s = Scenario::new(&config(&["br0 p1@1"]));
        let mut world = s.slowpath.write_world();
        let bridge = world.bridge_named("br0").unwrap().id;
        let config = MeterConfig { flags: METER_KBPS, bands: Vec::new() };
        let mut empty = MeterMod { command: 0, meter: MeterConfigEntry { id: 1, config } };
        let done = meter_mod(&mut world, bridge, &empty, 0, &mut Journal::default());
        assert!(matches!(done, Err(OfError::OfpmmfcOutOfBands)), "{done:?}");
        // There is no meter to be changed, whatever it would become.
        empty.command = 1;
        let done = meter_mod(&mut world, bridge, &empty, 0, &mut Journal::default());
        assert!(matches!(done, Err(OfError::OfpmmfcUnknownMeter)), "{done:?}");
        // Nor is there one whose bands count neither bits nor packets.
        let bands = vec![flow::seam::MeterBand { kind: BAND_DROP, rate: 5, ..flow::seam::MeterBand::default() }];
        let config = MeterConfig { flags: METER_STATS, bands };
        let vague = MeterMod { command: 0, meter: MeterConfigEntry { id: 1, config } };
        let done = meter_mod(&mut world, bridge, &vague, 0, &mut Journal::default());
        assert!(matches!(done, Err(OfError::OfpmmfcBadFlags)), "{done:?}");
    }

    #[test]
    fn a_group_counts_each_place_that_leads_to_it() {
        let s = Scenario::new(&config(&["br0 p1@1"]));
        s.add_group("br0", "group_id=2,type=all,bucket=output:1").unwrap();
        s.flow_mod("br0", "actions=group:2,write_actions(group:2)").unwrap();
        s.flow_mod("br0", "table=1,actions=clone(group:2)").unwrap();
        let world = s.slowpath.read_world();
        assert_eq!(group_stats(world.bridge_named("br0").unwrap(), GroupId(2), 0)[0].ref_count, 3);
    }
}
