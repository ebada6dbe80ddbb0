//! The block that the members of a bond share: rules that stand in it are in every member, and a packet meets them by whichever it comes.
//!
//! What enters: members and the block's number. What leaves: queueing disciplines with it; an error for a member that cannot have it. Neighbours:
//! `client` (the rules), whoever knows which members a bond has.
//!
//! A clsact gets its block when it is made, and never another. One that somebody else's filters hang from stays as it is, and keeps
//! the bond out of hardware; one that nothing hangs from is made anew. A kernel or driver that cannot bring the rules of the block into a
//! device that joins refuses the device, and with it the bond.

use super::Devices;
use super::attributes::{Attribute, Writer, seek};
use super::client::{Netlink, Tc, messages};
use super::numbers::errno::{EEXIST, EINVAL, ENODEV, ENOENT};
use super::numbers::{BLOCKS, BLOCKS_MASK, RTM_NEWQDISC, RTM_NEWTFILTER, TCA_INGRESS_BLOCK};
use super::write::{HEADER, TCMSG, clsact_with_block, dump, dump_egress, no_clsact, query_clsact};
use crate::hardware::HardwareError;
use crate::tc::Hook;

/// The number of the block of the bond with an interface index.
#[must_use]
pub const fn block_of_bond(ifindex: u32) -> u32 {
    BLOCKS | ifindex & !BLOCKS_MASK
}

impl<N: Netlink, D: Devices> Tc<N, D> {
    /// Makes a device share a block of ours. The rules that stand in the block are in it when this returns.
    ///
    /// # Errors
    /// The kernel's or the driver's; or that somebody else uses the device's clsact.
    pub fn join(&self, ifindex: u32, block: u32) -> Result<(), HardwareError> {
        let make = || self.qdisc(&|out, sequence| clsact_with_block(out, sequence, ifindex, block));
        match make()? {
            (0, ..) => return Ok(()),
            (EEXIST, ..) => {}
            (_, said) => return Err(HardwareError::Clsact(said)),
        }
        match self.shares(ifindex)? {
            Some(there) if there == block => return Ok(()),
            Some(_) => return Err(HardwareError::Clsact("the device shares another block".to_owned())),
            None if !self.is_bare(ifindex)? => {
                return Err(HardwareError::Clsact("others have filters on the device, which shares no block".to_owned()));
            }
            None => {}
        }
        self.qdisc(&|out, sequence| no_clsact(out, sequence, ifindex))?;
        match make()? {
            (0, _) => Ok(()),
            (_, said) => Err(HardwareError::Clsact(said)),
        }
    }

    /// Takes a device out of whatever block of ours it shares; whether it was in one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn leave(&self, ifindex: u32) -> Result<bool, HardwareError> {
        if self.shares(ifindex)?.is_none_or(|block| block & BLOCKS_MASK != BLOCKS) {
            return Ok(false);
        }
        match self.qdisc(&|out, sequence| no_clsact(out, sequence, ifindex))? {
            (0 | ENOENT | ENODEV, _) => Ok(true),
            (_, said) => Err(HardwareError::Clsact(said)),
        }
    }

    /// The block that a device shares; `None` if it shares none, has no clsact, or is gone.
    fn shares(&self, ifindex: u32) -> Result<Option<u32>, HardwareError> {
        let reply = self.send(self.sequence(), |out, n| query_clsact(out, n, ifindex));
        let reply = reply.map_err(|e| HardwareError::Clsact(e.to_string()))?;
        let answer = reply.answer();
        if matches!(answer.error, ENOENT | ENODEV | EINVAL) {
            return Ok(None);
        }
        if answer.error != 0 {
            return Err(HardwareError::Clsact(answer.said()));
        }
        let block = |message: &&[u8]| {
            let kind = message.get(4..6).map(|k| u16::from_ne_bytes([k[0], k[1]]));
            let attribute: Attribute<'_> = seek(message.get(HEADER + TCMSG..)?, TCA_INGRESS_BLOCK)?;
            attribute.u32().ok().filter(|block| kind == Some(RTM_NEWQDISC) && *block != 0)
        };
        Ok(answer.messages.iter().find_map(block))
    }

    /// Whether no filter hangs from a device's clsact, on neither side.
    fn is_bare(&self, ifindex: u32) -> Result<bool, HardwareError> {
        let none = |write: &dyn Fn(&mut Writer, u32)| {
            let bytes = self.list_by(self.sequence(), write)?;
            let is_filter = |m: &[u8]| m.get(4..6).is_some_and(|k| u16::from_ne_bytes([k[0], k[1]]) == RTM_NEWTFILTER);
            Ok(!messages(&bytes).any(is_filter))
        };
        Ok(none(&|out, sequence| dump(out, sequence, Hook::Ingress { ifindex }))?
            && none(&|out, sequence| dump_egress(out, sequence, ifindex))?)
    }

    /// Sends a request about a queueing discipline; its error and what is said of it.
    fn qdisc(&self, write: &dyn Fn(&mut Writer, u32)) -> Result<(i32, String), HardwareError> {
        let reply = self.send(self.sequence(), write).map_err(|e| HardwareError::Clsact(e.to_string()))?;
        let answer = reply.answer();
        Ok((answer.error, answer.said()))
    }
}
