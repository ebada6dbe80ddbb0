//! The table of tunnel options (NXT_TLV_TABLE_MOD): which option of which class is called tun_metadata0, 1 and so on.
//!
//! What enters: decoded requests, the world for writing. What leaves: the bridge's mapping, or the error. An option that a rule matches
//! or an action names stays mapped: where its bytes lie in keys is where the rule looks for them.

use crate::bridge::Bridge;
use crate::deps::Object;
use crate::rule::Rule;
use crate::world::{BridgeId, World};
use flow::fields::{Field, TunOptionError, TunnelOptions};
use openflow::OfError;
use openflow::message::{TlvMap, TlvTableMod, TlvTableReply};
use std::sync::Arc;

/// Bytes and options that a table has room for.
const SPACE_MAX: u32 = 256;
const FIELDS_MAX: u16 = 64;

mod command {
    pub(super) const ADD: u16 = 0;
    pub(super) const DELETE: u16 = 1;
    pub(super) const CLEAR: u16 = 2;
}

/// NXT_TLV_TABLE_REPLY.
pub(super) fn table(bridge: &Bridge) -> TlvTableReply {
    let maps = bridge.tunnel_options.iter().map(|(n, o)| TlvMap {
        class: o.class,
        kind: o.kind,
        len: u8::try_from(o.bytes).unwrap_or(u8::MAX),
        index: u16::try_from(n).unwrap_or(u16::MAX),
    });
    TlvTableReply { max_space: SPACE_MAX, max_fields: FIELDS_MAX, maps: maps.collect() }
}

/// NXT_TLV_TABLE_MOD: nothing is changed unless all of it can be.
pub(super) fn table_mod(world: &mut World, bridge: BridgeId, tm: &TlvTableMod) -> Result<(), OfError> {
    let b = world.bridges.get_mut(&bridge).ok_or(OfError::OfpbrcEperm)?;
    let mut options = (*b.tunnel_options).clone();
    match tm.command {
        command::ADD => add(&mut options, &tm.maps)?,
        command::DELETE => {
            for map in &tm.maps {
                let index = usize::from(map.index);
                check_unused(b, &options, index)?;
                options.remove(index);
            }
        }
        command::CLEAR => {
            let mapped: Vec<usize> = options.iter().map(|(n, _)| n).collect();
            for index in mapped {
                check_unused(b, &options, index)?;
            }
            options = TunnelOptions::default();
        }
        _ => return Err(OfError::NxttmfcBadCommand),
    }
    b.tunnel_options = Arc::new(options);
    world.changed(Object::Bridge(bridge));
    Ok(())
}

fn add(options: &mut TunnelOptions, maps: &[TlvMap]) -> Result<(), OfError> {
    for map in maps {
        let added = options.add(usize::from(map.index), map.class, map.kind, usize::from(map.len));
        added.map_err(|e| match e {
            TunOptionError::BadIndex(_) => OfError::NxttmfcBadFieldIdx,
            TunOptionError::BadLength(_) => OfError::NxttmfcBadOptLen,
            TunOptionError::AlreadyMapped(_) => OfError::NxttmfcAlreadyMapped,
            TunOptionError::Duplicate { .. } => OfError::NxttmfcDupEntry,
            TunOptionError::Full(_) => OfError::NxttmfcTableFull,
        })?;
    }
    Ok(())
}

/// Whether no rule of the bridge matches or names an option that is mapped.
fn check_unused(bridge: &Bridge, options: &TunnelOptions, index: usize) -> Result<(), OfError> {
    if options.option(index).is_none() {
        return Ok(());
    }
    let uses = |rule: &Rule| {
        let mut named = false;
        rule.actions.iter().for_each(|a| a.each_field(&mut |field| named |= is_option(field, index)));
        named || Field::tun_metadata(index).is_some_and(|field| rule.matching(bridge).has(field))
    };
    let used = bridge.tables.iter().any(|t| !crate::flow_mod::rules_of(t, uses).is_empty());
    if used { Err(OfError::NxttmfcInvalidTlvDel) } else { Ok(()) }
}

fn is_option(field: Field, index: usize) -> bool {
    field.tun_metadata_number() == Some(index)
}
