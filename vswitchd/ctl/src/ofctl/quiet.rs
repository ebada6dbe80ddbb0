//! Requests that are answered only when something is wrong with them: sent with barriers, whose replies tell that nothing was.
//!
//! What enters: requests. What leaves: the first refusal, if any. Neighbours: `requests`, which has them as bytes; `vconn`, which carries
//! them; `bundle`, whose words are used here.
//!
//! There are three ways. One by one: nothing behind a refused request is sent. As parts of a bundle that somebody has opened: as many at a
//! time as sockets hold. And flow-mods of which there are many, in short bundles: nobody can tell that from one by one, but by the
//! time that it takes. A bundle is taken up whole or not at all (OpenFlow 1.4 section 7.3.9), so that of one in which something was wrong
//! nothing is in the switch; its flow-mods are then sent one by one, up to the one that is refused, with the same transaction ids as if they
//! had been from the start. A switch without bundles refuses the first, or does not answer it, and gets everything one by one.

use super::bundle;
use super::requests::Requests;
use super::vconn::{Received, Vconn, next_xid, next_xids, set_next_xid};
use crate::fault::Fault;
use openflow::Xid;
use openflow::message::Body;
use std::io;

/// Bytes of requests that are under way at once: with their replies, should each be refused, they fit into the sockets while we still send.
const UNDER_WAY_BYTES: usize = 64 << 10;
/// Fewer flow-mods than these are not worth a bundle; so many are in the first, which may come back for want of bundles.
const TOGETHER_MIN: usize = 16;

impl Vconn {
    /// Sends requests one by one, with a barrier behind each. The first refusal, if any: what stands behind it is not sent.
    ///
    /// # Errors
    /// The connection's.
    pub fn transact_quiet(&mut self, bodies: impl IntoIterator<Item = Body>) -> Result<Option<Received>, Fault> {
        let mut requests = self.requests(bodies)?;
        let all = requests.count();
        self.one_by_one(&mut requests, 0..all)
    }

    /// Requests in this connection's dialect.
    ///
    /// # Errors
    /// It has no form for one of them.
    pub fn requests(&self, bodies: impl IntoIterator<Item = Body>) -> Result<Requests, Fault> {
        let mut requests = Requests::new(self.dialect);
        for body in bodies {
            let invalid = |e| self.broken("failed to send packet", &io::Error::new(io::ErrorKind::InvalidInput, e));
            requests.push(body).map_err(invalid)?;
        }
        Ok(requests)
    }

    fn one_by_one(&mut self, requests: &mut Requests, range: std::ops::Range<usize>) -> Result<Option<Received>, Fault> {
        let mut bytes = Vec::new();
        for n in range {
            let (xid, barrier) = (next_xid(), next_xid());
            bytes.clear();
            bytes.extend_from_slice(requests.with_xid(n, xid));
            self.append(Body::BarrierRequest, barrier, &mut bytes)?;
            if let Some(refusal) = self.send_up_to(&bytes, barrier, &[xid])? {
                return Ok(Some(refusal));
            }
        }
        Ok(None)
    }

    /// Sends flow-mods with the outcome of one by one, in short bundles where the switch takes them.
    ///
    /// # Errors
    /// The connection's.
    pub fn transact_flow_mods(&mut self, requests: &mut Requests) -> Result<Option<Received>, Fault> {
        let (mut sent, all) = (0, requests.count());
        let mut together = all >= TOGETHER_MIN && bundle::is_in(self.dialect.version);
        while together {
            let most = if sent == 0 { TOGETHER_MIN } else { requests.within(sent, UNDER_WAY_BYTES) };
            let range = sent..(sent + most).min(all);
            sent = range.end;
            let first = next_xid();
            if self.short_bundle(requests, range.clone())? {
                let ids = u32::try_from(2 * range.len()).unwrap_or(u32::MAX);
                set_next_xid(Xid(first.0.wrapping_add(ids)));
            } else {
                set_next_xid(first);
                if let Some(refusal) = self.one_by_one(requests, range)? {
                    return Ok(Some(refusal));
                }
                together = false;
            }
            together &= sent < all;
        }
        self.one_by_one(requests, sent..all)
    }

    /// Sends some requests as a bundle; whether the switch has taken it up.
    fn short_bundle(&mut self, requests: &mut Requests, range: std::ops::Range<usize>) -> Result<bool, Fault> {
        let mut bytes = Vec::new();
        let open = next_xid();
        self.append(bundle::OPEN, open, &mut bytes)?;
        let first = next_xids(range.len());
        let mut errors = Vec::new();
        self.add_to_bundle(requests, range, (first, next_xid()), bytes, &mut errors)?;
        let end = if errors.is_empty() { bundle::COMMIT } else { bundle::DISCARD };
        // A switch that has no bundles need not say so, but it does answer the barrier.
        let (xid, barrier) = (next_xid(), next_xid());
        let mut bytes = self.encode(end, xid)?;
        self.append(Body::BarrierRequest, barrier, &mut bytes)?;
        let reply = self.send_up_to(&bytes, barrier, &[xid])?;
        Ok(errors.is_empty() && reply.is_some_and(|reply| bundle::is_control(&reply)))
    }

    /// Sends requests as parts of the bundle that is open, all of them, with transaction ids from `first` on. Errors that come are put to
    /// the others.
    ///
    /// # Errors
    /// The connection's.
    pub(super) fn transact_in_bundle(
        &mut self,
        requests: &mut Requests,
        first: Xid,
        errors: &mut Vec<Received>,
    ) -> Result<(), Fault> {
        // Barriers come one after the other, so that one transaction id is enough, however many there are.
        let barrier = next_xid();
        let mut sent = 0;
        while sent < requests.count() {
            let range = sent..sent + requests.within(sent, UNDER_WAY_BYTES);
            let first = bundle::xid_of(first, sent);
            sent = range.end;
            self.add_to_bundle(requests, range, (first, barrier), Vec::new(), errors)?;
        }
        Ok(())
    }

    /// Sends `bytes`, some requests as parts of the bundle that is open then, and a barrier.
    fn add_to_bundle(
        &mut self,
        requests: &mut Requests,
        range: std::ops::Range<usize>,
        (first, barrier): (Xid, Xid),
        mut bytes: Vec<u8>,
        errors: &mut Vec<Received>,
    ) -> Result<(), Fault> {
        for (n, request) in range.enumerate() {
            let xid = bundle::xid_of(first, n);
            bundle::append(&mut bytes, self.dialect.version, xid, requests.with_xid(request, xid))?;
        }
        self.append(Body::BarrierRequest, barrier, &mut bytes)?;
        self.send_up_to_noting(&bytes, barrier, errors)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
