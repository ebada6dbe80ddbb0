//! Table-mods and table features that are set (OpenFlow 1.3 section 7.3.5.5, 1.4 section 7.3.4.4).
//!
//! What enters: decoded requests, the world for writing. What leaves: changed tables, or the error. Every table can do everything, and
//! a controller may ask for less; so of the features only the name is taken up, as in OVS.

use super::replies;
use crate::bridge::Bridge;
use crate::deps::Object;
use crate::table::{EVICTION_FLAGS, INTERNAL, Miss, TABLES, Table};
use crate::world::{BridgeId, World};
use openflow::message::{ActionFeatures, TableFeatureSet, TableFeatures, TableMod};
use openflow::{OfError, TableId};

/// OFPTFC_*
mod command {
    pub(super) const REPLACE: u8 = 0;
    pub(super) const MODIFY: u8 = 1;
}

/// OFPT_TABLE_MOD.
pub(super) fn table_mod(world: &mut World, bridge: BridgeId, tm: &TableMod) -> Result<(), OfError> {
    let b = world.bridges.get_mut(&bridge).ok_or(OfError::OfpbrcEperm)?;
    let all = tm.table == TableId::ALL;
    if !all && tm.table > INTERNAL {
        return Err(OfError::OfptmfcBadTable);
    }
    // What is evicted first is the switch's own affair (OpenFlow 1.4, 7.3.4.4).
    if tm.eviction_flags.is_some_and(|flags| flags != EVICTION_FLAGS) {
        return Err(OfError::OfptmfcBadConfig);
    }
    if tm.table == INTERNAL {
        return Err(OfError::OfptmfcEperm);
    }
    let mut concerned = Vec::new();
    for table in b.tables.iter_mut().filter(|t| t.id != INTERNAL && (all || t.id == tm.table)) {
        if modify(table, tm) {
            concerned.push(table.id);
        }
    }
    for table in concerned {
        world.changed(Object::Table(bridge, table));
    }
    Ok(())
}

/// Takes up what a table-mod says; true when it changes how packets are treated.
fn modify(table: &mut Table, tm: &TableMod) -> bool {
    let before = table.miss;
    if let Some(miss) = tm.miss {
        table.miss = match miss {
            0 => Miss::Controller,
            1 => Miss::Continue,
            2 => Miss::Drop,
            _ => Miss::Default,
        };
    }
    if let Some(evicts) = tm.eviction {
        table.evicts = evicts;
    }
    if let Some(watched) = tm.vacancy {
        table.watch_vacancy(watched.then_some((tm.vacancy_down, tm.vacancy_up)));
    }
    table.miss != before
}

/// OFPMP_TABLE_FEATURES with a body: nothing is changed unless all of it can be.
pub(super) fn set_features(world: &mut World, bridge: BridgeId, asked: &[TableFeatures]) -> Result<(), OfError> {
    let b = world.bridges.get_mut(&bridge).ok_or(OfError::OfpbrcEperm)?;
    let names = check(b, asked)?;
    for (table, name) in b.tables.iter_mut().zip(names) {
        if let Some(name) = name.filter(|_| table.config.name.is_none()) {
            table.name = Some(name).filter(|n| !n.is_empty());
        }
    }
    Ok(())
}

/// The names that tables are to have.
fn check(bridge: &Bridge, asked: &[TableFeatures]) -> Result<Vec<Option<String>>, OfError> {
    let mut by_table: Vec<Option<&TableFeatures>> = vec![None; TABLES];
    for features in asked {
        let place = by_table.get_mut(usize::from(features.table.0)).ok_or(OfError::OfptffcTooMany)?;
        if place.replace(features).is_some() {
            return Err(OfError::NxtffcDupTable);
        }
    }
    if by_table[usize::from(INTERNAL.0)].is_some() {
        return Err(OfError::OfptffcEperm);
    }
    // Enabling and disabling tables means nothing where the pipeline is all tables, one behind the other.
    let command = asked.first().map_or(command::REPLACE, |f| f.command);
    let whole = match command {
        command::REPLACE => true,
        command::MODIFY => false,
        _ => return Err(OfError::OfptffcEperm),
    };
    let mut names = Vec::with_capacity(TABLES);
    for (table, features) in bridge.tables.iter().zip(by_table) {
        let Some(features) = features else {
            // A whole new pipeline with fewer tables would disable some.
            if whole && table.id != INTERNAL {
                return Err(OfError::OfptffcEperm);
            }
            names.push(None);
            continue;
        };
        check_table(bridge, table, features, whole || features.any_properties)?;
        names.push(Some(features.name.clone()));
    }
    Ok(names)
}

fn check_table(bridge: &Bridge, table: &Table, asked: &TableFeatures, with_properties: bool) -> Result<(), OfError> {
    let has = replies::table_features(bridge, table.id);
    // "All fields ... may be requested to be changed ... with the exception of the max_entries field" (OpenFlow 1.5.1, 7.3.5.18.1).
    let renamed = table.config.name.as_ref().is_some_and(|name| !name.starts_with(&asked.name));
    if has.max_entries != asked.max_entries || renamed {
        return Err(OfError::OfptffcEperm);
    }
    let more_metadata = asked.metadata_match & !has.metadata_match | asked.metadata_write & !has.metadata_write;
    let fits = more_metadata == 0 && (!with_properties || can_do(&has, asked));
    if fits { Ok(()) } else { Err(OfError::OfptffcEperm) }
}

/// Whether a table can do all that is asked of it.
fn can_do(has: &TableFeatures, asked: &TableFeatures) -> bool {
    let sets = has.flows.iter().zip(&asked.flows).all(|(has, asked)| set_can_do(has, asked));
    let fields = |has: &[_], asked: &[_]| asked.iter().all(|f| has.contains(f));
    sets && fields(&has.matchable, &asked.matchable)
        && fields(&has.wildcard, &asked.wildcard)
        && fields(&has.maskable, &asked.maskable)
}

fn set_can_do(has: &TableFeatureSet, asked: &TableFeatureSet) -> bool {
    let actions = |has: &ActionFeatures, asked: &ActionFeatures| {
        asked.actions & !has.actions == 0 && asked.set_fields.iter().all(|f| has.set_fields.contains(f))
    };
    let tables = has.next.iter().zip(&asked.next).all(|(has, asked)| asked & !has == 0);
    tables
        && asked.instructions & !has.instructions == 0
        && actions(&has.write, &asked.write)
        && actions(&has.apply, &asked.apply)
}
