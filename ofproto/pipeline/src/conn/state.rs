//! What one connection has agreed on: version, role, which asynchronous messages it wants, in which form.
//!
//! What enters: its own requests. What leaves: whether a notice is for it. Neighbours: `requests` changes it, `notices` asks it.

use super::bundles::Bundles;
use super::flow_mods::FlowModTally;
use openflow::Version;
use openflow::message::{AsyncConfig, PacketInFormat, Role, SwitchConfig};

/// Bits of reasons.
const fn bits(reasons: &[u32]) -> u32 {
    let mut all = 0;
    let mut i = 0;
    while i < reasons.len() {
        all |= 1 << reasons[i];
        i += 1;
    }
    all
}

/// OFPR_*: NO_MATCH 0, ACTION 1, INVALID_TTL 2, ACTION_SET 3, GROUP 4, PACKET_OUT 5, and OVS's explicit and implicit miss. The
/// newer ones are refinements of ACTION, which older versions call them, so all versions want them.
const PACKET_IN_DEFAULT: u32 = bits(&[0, 1, 3, 4, 5, 6, 7]);
const INVALID_TTL: u32 = bits(&[2]);
const THREE_REASONS: u32 = bits(&[0, 1, 2]);
/// OFPC_INVALID_TTL_TO_CONTROLLER of OpenFlow 1.1 and 1.2 (and of OVS in 1.0).
const INVALID_TTL_TO_CONTROLLER: u16 = 1 << 2;
/// `miss_send_len` of a controller that has not said otherwise (OpenFlow 1.0, A.3.2).
pub const MISS_SEND_LEN_DEFAULT: u16 = 128;

/// How a connection came to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A configured controller.
    Primary,
    /// `BRIDGE.mgmt` and service controllers, which passive ones are unless configured otherwise: no asynchronous messages unless asked for.
    Service,
}

/// The state of a connection.
#[derive(Debug)]
pub struct State {
    pub version: Version,
    pub kind: Kind,
    pub role: Role,
    /// What it has said that it wants to hear.
    asked: Option<AsyncConfig>,
    /// Whether it hears what its version has by default while it has not said (`Controller.enable_async_messages`).
    pub hears_unasked: bool,
    pub packet_in_format: PacketInFormat,
    pub controller_id: u16,
    pub config: SwitchConfig,
    /// OpenFlow 1.0: NXT_SET_FLOW_FORMAT and NXT_FLOW_MOD_TABLE_ID.
    pub nxm: bool,
    pub table_id: bool,
    pub(super) bundles: Bundles,
    pub flow_mods: FlowModTally,
}

impl State {
    /// Right after the hellos.
    #[must_use]
    pub fn new(version: Version, kind: Kind) -> Self {
        Self {
            version,
            kind,
            role: Role::Equal,
            asked: None,
            hears_unasked: true,
            packet_in_format: PacketInFormat::Standard,
            controller_id: 0,
            config: SwitchConfig { flags: 0, miss_send_len: if kind == Kind::Primary { MISS_SEND_LEN_DEFAULT } else { 0 } },
            nxm: false,
            table_id: false,
            bundles: Bundles::default(),
            flow_mods: FlowModTally::default(),
        }
    }

    /// What it wants to hear.
    #[must_use]
    pub fn asynchronous(&self) -> AsyncConfig {
        match self.asked {
            Some(asked) => asked,
            None if self.hears_unasked => default_async(self.version),
            None => AsyncConfig::default(),
        }
    }

    fn side(&self) -> usize {
        usize::from(self.role == Role::Secondary)
    }

    /// A service connection gets nothing unasked until it has set a miss length.
    fn listens(&self) -> bool {
        self.kind == Kind::Primary || self.config.miss_send_len != 0
    }

    /// Takes up OFPT_SET_CONFIG, apart from fragments, which are the bridge's.
    pub fn set_config(&mut self, config: SwitchConfig) {
        if self.version < Version::V13 {
            let mut asked = self.asynchronous();
            let wanted = if config.flags & INVALID_TTL_TO_CONTROLLER != 0 { INVALID_TTL } else { 0 };
            if asked.packet_in[0] & INVALID_TTL != wanted {
                asked.packet_in[0] ^= INVALID_TTL;
                self.asked = Some(asked);
            }
        }
        self.config = config;
    }

    /// OFPT_GET_CONFIG_REPLY, without the bits for fragments.
    #[must_use]
    pub fn config(&self) -> SwitchConfig {
        let wants = self.version < Version::V13 && self.asynchronous().packet_in[0] & INVALID_TTL != 0;
        let flags = if wants { INVALID_TTL_TO_CONTROLLER } else { 0 };
        SwitchConfig { flags, miss_send_len: self.config.miss_send_len }
    }

    /// Takes up OFPT_SET_ASYNC: who says what it wants to hear listens from then on.
    pub fn set_async(&mut self, new: &AsyncConfig) {
        let mut asked = self.asynchronous();
        merge_async(&mut asked, new);
        self.asked = Some(asked);
        if self.kind == Kind::Service && self.config.miss_send_len == 0 {
            self.config.miss_send_len = MISS_SEND_LEN_DEFAULT;
        }
    }

    /// Whether packet-ins for this reason and controller id are for it.
    #[must_use]
    pub fn wants_packet_in(&self, reason: u8, controller_id: u16) -> bool {
        self.listens()
            && self.controller_id == controller_id
            && self.asynchronous().packet_in[self.side()] & 1 << self.asked_by(reason) != 0
    }

    /// The bit by which the version asks for a reason: the finer ones of 1.4 are actions to those before.
    fn asked_by(&self, reason: u8) -> u8 {
        match reason {
            3..=5 => self.reason(reason),
            _ => reason,
        }
    }

    /// Whether it wants to know of a port's change.
    #[must_use]
    pub fn wants_port_status(&self, reason: u8) -> bool {
        self.listens() && self.asynchronous().port_status[self.side()] & 1 << reason != 0
    }

    /// Whether it wants to know of a removed rule.
    #[must_use]
    pub fn wants_flow_removed(&self, reason: u8) -> bool {
        self.listens() && self.asynchronous().flow_removed[self.side()] & 1 << reason != 0
    }

    /// Whether it wants to know how full tables are.
    #[must_use]
    pub fn wants_table_status(&self, reason: u8) -> bool {
        self.listens() && self.asynchronous().table_status[self.side()] & 1 << reason != 0
    }

    /// Whether it wants requests of other controllers forwarded (GROUP_MOD 0, METER_MOD 1).
    #[must_use]
    pub fn wants_request_forward(&self, reason: u8) -> bool {
        self.listens() && self.asynchronous().request_forward[self.side()] & 1 << reason != 0
    }

    /// A packet-in's reason as this version has it.
    #[must_use]
    pub fn reason(&self, reason: u8) -> u8 {
        const ACTION: u8 = 1;
        match reason {
            3..=5 if self.version < Version::V14 => ACTION,
            // The table-miss rule's own `controller`: a miss, since OpenFlow 1.3.
            6 if self.version < Version::V13 => ACTION,
            6 | 7 => 0,
            _ => reason,
        }
    }
}

/// What a controller gets that has not said what it wants.
#[must_use]
pub fn default_async(version: Version) -> AsyncConfig {
    let removed = match version {
        Version::V10 | Version::V11 | Version::V12 => THREE_REASONS,
        Version::V13 => THREE_REASONS | bits(&[3]),
        Version::V14 | Version::V15 => THREE_REASONS | bits(&[3, 4, 5]),
    };
    AsyncConfig {
        packet_in: [PACKET_IN_DEFAULT, 0],
        port_status: [THREE_REASONS, THREE_REASONS],
        flow_removed: [removed, 0],
        role_status: [0, 0],
        table_status: [0, 0],
        request_forward: [0, 0],
        carried: 0,
    }
}

/// Takes up those of the twelve masks that a request carried (bit 2n + side of `carried`).
fn merge_async(have: &mut AsyncConfig, new: &AsyncConfig) {
    let carried = new.carried;
    let rows = [
        (&mut have.packet_in, new.packet_in),
        (&mut have.port_status, new.port_status),
        (&mut have.flow_removed, new.flow_removed),
        (&mut have.role_status, new.role_status),
        (&mut have.table_status, new.table_status),
        (&mut have.request_forward, new.request_forward),
    ];
    for (row, (have, new)) in rows.into_iter().enumerate() {
        for side in 0..2 {
            if carried >> (2 * row + side) & 1 != 0 {
                have[side] = new[side];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_connection_must_ask_first() {
        let mut s = State::new(Version::V10, Kind::Service);
        assert!(!s.wants_packet_in(1, 0) && !s.wants_port_status(0));
        s.config.miss_send_len = 65_535;
        assert!(s.wants_packet_in(1, 0) && s.wants_port_status(0));
        assert!(!s.wants_packet_in(2, 0), "invalid TTL only when asked for");
        assert!(!s.wants_packet_in(1, 5), "another controller id");
    }

    #[test]
    fn what_was_asked_for_does_not_depend_on_what_is_heard_unasked() {
        let mut s = State::new(Version::V13, Kind::Primary);
        s.hears_unasked = false;
        assert!(!s.wants_port_status(0));
        s.hears_unasked = true;
        assert!(s.wants_port_status(0));
        s.set_async(&AsyncConfig { port_status: [1, 0], carried: 0b11_1111, ..AsyncConfig::default() });
        for unasked in [false, true] {
            s.hears_unasked = unasked;
            assert!(s.wants_port_status(0) && !s.wants_port_status(1) && !s.wants_packet_in(1, 0));
        }
    }

    #[test]
    fn a_secondary_hears_of_ports_only() {
        let mut s = State::new(Version::V13, Kind::Primary);
        s.role = Role::Secondary;
        assert!(!s.wants_packet_in(0, 0) && !s.wants_flow_removed(0) && s.wants_port_status(2));
    }

    #[test]
    fn reasons_of_newer_versions_are_actions_before() {
        assert_eq!(State::new(Version::V10, Kind::Primary).reason(6), 1);
        assert_eq!(State::new(Version::V13, Kind::Primary).reason(6), 0);
        assert_eq!(State::new(Version::V13, Kind::Primary).reason(4), 1);
        assert_eq!(State::new(Version::V14, Kind::Primary).reason(4), 4);
    }
}
