//! NXT_CT_FLUSH and NXT_CT_FLUSH_ZONE: a controller ends connections of its bridge's datapath.

use crate::bridge::Bridge;
use crate::world::World;
use flow::Datapath;
use flow::conntrack::{CtFilter, CtTuple};
use openflow::error::OfError;
use openflow::message::{self, CtFlush};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// The datapath of a bridge; what is done with it needs no hold of the world.
pub(super) fn datapath(world: &World, bridge: &Bridge) -> Result<Arc<dyn Datapath>, OfError> {
    world.backends.get(&bridge.kind).map(|b| Arc::clone(&b.dp)).ok_or(OfError::OfpbrcEperm)
}

/// Ends the connections that are meant. That there are none is no error.
pub(super) fn flush(dp: &dyn Datapath, filter: &CtFilter) -> Result<(), OfError> {
    let ct = dp.conntrack().ok_or(OfError::OfpbrcEperm)?;
    log(dp, filter);
    // Only a tuple that names no connection fails.
    let _ = ct.flush(filter);
    Ok(())
}

/// Says what is flushed, as OVS does.
pub(crate) fn log(dp: &dyn Datapath, filter: &CtFilter) {
    let what = match filter.zone {
        _ if !filter.is_any() => filter.text(),
        Some(zone) => format!("zone {zone}"),
        None => "<all>".to_owned(),
    };
    tracing::debug!(target: "ct_dpif", "{}@{}: ct_flush: {what}", dp.kind(), dp.name());
}

/// All of a zone.
pub(super) fn of_zone(zone: u16) -> CtFilter {
    CtFilter { zone: Some(zone), ..CtFilter::default() }
}

/// What a request says.
pub(super) fn of_request(request: &CtFlush) -> CtFilter {
    let family = match request.l3_family {
        AF_INET => 4,
        AF_INET6 => 6,
        _ => 0,
    };
    let tuple = |t: &Option<message::CtTuple>| t.as_ref().map_or_else(CtTuple::default, |t| tuple(t, request.ip_proto));
    let (orig, reply) = (tuple(&request.original), tuple(&request.reply));
    CtFilter { zone: request.zone, mark: request.mark, label: request.labels, family, proto: request.ip_proto, orig, reply }
}

fn tuple(t: &message::CtTuple, proto: u8) -> CtTuple {
    let icmp = matches!(proto, 1 | 58);
    let tuple = CtTuple {
        src: address(t.src),
        dst: address(t.dst),
        proto: 0,
        src_port: if icmp { t.icmp_id } else { t.src_port },
        dst_port: if icmp { 0 } else { t.dst_port },
        icmp_type: t.icmp_type,
        icmp_code: t.icmp_code,
    };
    CtTuple { proto: if tuple == CtTuple::default() { 0 } else { proto }, ..tuple }
}

/// IPv4 addresses come mapped; unset ones are all zero.
fn address(bytes: [u8; 16]) -> IpAddr {
    let six = Ipv6Addr::from(bytes);
    match six.to_ipv4_mapped() {
        Some(four) => four.into(),
        None if bytes == [0; 16] => CtTuple::default().src,
        None => six.into(),
    }
}
