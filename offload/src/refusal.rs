//! Why a megaflow stays in software: one row per reason, each with the sentence an operator reads.
//!
//! What enters: a reason and what it is about. What leaves: text for `dump-flows` and `offload show`, and a counter per reason.

use flow::DpPort;
use std::fmt;

macro_rules! reasons {
    ($( $id:ident $name:literal : $sentence:literal; )*) => {
        /// A kind of refusal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $( $id ),* }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Self] = &[ $( Self::$id ),* ];

            /// The short name, as in `reason:NAME` and in counters.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$id => $name ),* }
            }

            /// What it means.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $( Self::$id => $sentence ),* }
            }
        }
    };
}

reasons! {
    MatchField "match-field": "the hardware has no key for this field";
    MatchValue "match-value": "the hardware cannot match this value";
    MatchContext "match-context": "the field is matched although the packet's protocol is not";
    InPort "in-port": "the input port has no hardware";
    OutPort "out-port": "an output port has no hardware";
    OtherSwitch "other-switch": "the output port is on another eSwitch than the input port";
    TunnelPort "tunnel-port": "the tunnel cannot be said to the hardware";
    TunnelWay "tunnel-way": "hardware would send the tunnel's packets another way, or the kernel does not know the way";
    TunnelMtu "tunnel-mtu": "packets of the input port may be too long for the tunnel's way out, which is software's to answer";
    TunnelEntry "tunnel-entry": "no megaflow of an uplink lets packets with this outer header into the tunnel";
    Chain "chain": "the recirculation id is above what the hardware numbers";
    Action "action": "the hardware has no such action";
    ActionOption "action-option": "the hardware has the action, but not with this option";
    ActionOrder "action-order": "the hardware cannot do these actions in this order";
    ActionCount "action-count": "the actions are more than one rule may have";
    Fragment "fragment": "headers behind a possible fragment would be rewritten";
    Protocol "protocol": "a checksum would have to be updated of a protocol that the rule does not fix";
    Sampling "sampling": "packets are sampled, which software does";
    Userspace "userspace": "packets go to the slow path";
    Meter "meter": "the meter is not in hardware";
    Parent "parent": "the megaflow that recirculates to this one is in software";
    Connection "connection": "the connection is none whose packets hardware can have";
    TableFull "table-full": "the hardware's table is full";
    Probe "probe": "the port's hardware was asked for this, and does not take it";
    Driver "driver": "the driver refused the rule";
    NotInHardware "not-in-hw": "the driver took the rule without putting it into hardware";
    Echo "echo": "the rule that was read back is another than the one that was asked for";
    Lost "lost": "the hardware has lost the rule";
    PortDirty "port-dirty": "an earlier rule of this port could not be removed; it waits for an audit";
    Disabled "disabled": "offload is switched off";
}

impl Reason {
    /// Whether another try may succeed, without a change of the megaflow.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        match self {
            Self::TableFull
            | Self::Driver
            | Self::NotInHardware
            | Self::Echo
            | Self::Lost
            | Self::PortDirty
            | Self::TunnelWay => true,
            // Ports that come are an event; the rest is a matter of the megaflow itself.
            Self::InPort
            | Self::OutPort
            | Self::OtherSwitch
            | Self::TunnelPort
            // A megaflow that lets packets in is an event, too; so is another MTU.
            | Self::TunnelEntry
            | Self::TunnelMtu
            // Ports are asked again when their eSwitch has changed.
            | Self::Probe
            | Self::MatchField
            | Self::MatchValue
            | Self::MatchContext
            | Self::Chain
            | Self::Action
            | Self::ActionOption
            | Self::ActionOrder
            | Self::ActionCount
            | Self::Fragment
            | Self::Protocol
            | Self::Sampling
            | Self::Userspace
            | Self::Meter
            | Self::Parent
            | Self::Connection
            | Self::Disabled => false,
        }
    }
}

/// A reason with what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// The field, action or option, in OVS's words; the driver's own text; empty where the reason says all.
    pub what: String,
    pub port: Option<DpPort>,
}

impl Refusal {
    /// `reason`, about `what`.
    #[must_use]
    pub fn new(reason: Reason, what: impl Into<String>) -> Self {
        Self { reason, what: what.into(), port: None }
    }

    /// `match-field(ct_nw_src)`, `in-port(3)`, `table-full`: without blanks or commas, for a line of other things.
    #[must_use]
    pub fn short(&self) -> String {
        let name = self.reason.name();
        // A driver's text is a sentence; whoever wants it asks why.
        let word = !self.what.is_empty() && !self.what.contains([' ', ',']);
        match self.port {
            Some(port) => format!("{name}({})", port.0),
            None if word => format!("{name}({})", self.what),
            None => name.to_owned(),
        }
    }

    /// `reason`, about a port.
    #[must_use]
    pub const fn of_port(reason: Reason, port: DpPort) -> Self {
        Self { reason, what: String::new(), port: Some(port) }
    }
}

impl fmt::Display for Refusal {
    /// `field ct_nw_src: the hardware has no key for this field`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.what.is_empty() {
            write!(f, "{}: ", self.what)?;
        }
        if let Some(port) = self.port {
            write!(f, "port {}: ", port.0)?;
        }
        f.write_str(self.reason.sentence())
    }
}

impl std::error::Error for Refusal {}
