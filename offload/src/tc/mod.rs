//! tc-flower over netlink: rules as bytes that the kernel takes, and back.
//!
//! What enters: rules and where they go; bytes of a dump or an echo. What leaves: messages; or rules and what the kernel says of them.
//! Neighbours: `rule` (values), `keys` (the table that matches loop over), whoever owns a socket.
//!
//! | room | what for |
//! |---|---|
//! | [`attributes`], [`numbers`] | netlink attributes; the kernel's numbers |
//! | [`write`] | a filter as a message |
//! | [`matches`], [`acts`] | matches and actions, both ways |
//! | [`read`] | a message as a filter |
//! | `block` | the block that the members of a bond share |
//! | [`client`] | rules in a table, and what is known of them |
//! | [`news`] | what others did, as the kernel tells it unasked |
//! | [`meters`] | police actions that stand by themselves, one for each meter |
//! | `probe` | what a device takes, by asking it |

pub mod acts;
mod answer;
pub mod attributes;
mod block;
pub mod client;
mod hardware;
pub mod matches;
pub mod meters;
pub mod news;
pub mod numbers;
pub mod preferences;
mod probe;
pub mod read;
mod table;
pub mod write;

pub use block::block_of_bond;
use flow::DpPort;
use std::ops::RangeInclusive;

/// Translates between datapath ports and interface indexes.
pub trait Devices {
    /// The interface of a port.
    fn ifindex(&self, port: DpPort) -> Option<u32>;
    /// The port of an interface.
    fn port(&self, ifindex: u32) -> Option<DpPort>;

    /// Where the filters of a port hang: from its device, or from the block that the members of a bond share.
    fn hook(&self, port: DpPort) -> Option<Hook> {
        self.ifindex(port).map(|ifindex| Hook::Ingress { ifindex })
    }

    /// The index of a meter's police action. Datapaths of one host have indexes of their own.
    fn police(&self, meter: u32) -> u32 {
        numbers::police::METERS | meter & !numbers::police::METERS_MASK
    }

    /// The meter that a police action is of.
    fn meter(&self, index: u32) -> Option<u32> {
        (index & numbers::police::METERS_MASK == numbers::police::METERS).then_some(index & !numbers::police::METERS_MASK)
    }

    /// Which preferences filters of a port may have.
    fn preferences(&self, _port: DpPort) -> RangeInclusive<u16> {
        preferences::HIGH
    }

    /// In how many devices a filter of a port has to be.
    fn width(&self, _port: DpPort) -> u32 {
        1
    }
}

/// Where a filter hangs: a device's ingress, or a block that devices share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    Ingress { ifindex: u32 },
    Block { number: u32 },
}

/// What names a filter in the kernel, beside its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FilterId {
    pub hook: Hook,
    pub chain: u32,
    /// Preference: lower ones are asked first; one per set of masks and protocol.
    pub prio: u16,
    pub handle: u32,
    /// Ethernet protocol, `ETH_P_*`.
    pub protocol: u16,
}
