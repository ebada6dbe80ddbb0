//! The procedures of section 17.21: what a message means, which role each port gets.

use super::{InfoIs, MIGRATE_TIME, Message, Port, Role, Rstp, Times, Vector};
use openflow::OfPort;

/// The MAC part of a bridge's identifier.
const MAC_BITS: u64 = 0xffff_ffff_ffff;

/// What a message is compared with what a port knows (17.21.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Received {
    SuperiorDesignated,
    RepeatedDesignated,
    InferiorDesignated,
    InferiorRootAlternate,
    Other,
}

/// Whether `message` replaces `known` (17.6): it is better, or the same sender says something else.
fn is_superior(message: &Vector, known: &Vector) -> bool {
    let same_sender = message.bridge & MAC_BITS == known.bridge & MAC_BITS && message.port & 0xfff == known.port & 0xfff;
    message < known || same_sender
}

impl Port {
    /// rcvInfo()
    pub(super) fn classify(&self, message: &Message) -> Received {
        let (new, known) = (&message.vector, &self.port_priority);
        match message.role {
            Role::Designated if new == known && message.times == self.port_times => Received::RepeatedDesignated,
            Role::Designated if new == known || is_superior(new, known) => Received::SuperiorDesignated,
            Role::Designated => Received::InferiorDesignated,
            Role::Root | Role::Alternate | Role::Backup if new >= known => Received::InferiorRootAlternate,
            Role::Root | Role::Alternate | Role::Backup | Role::Disabled => Received::Other,
        }
    }

    /// betterorsameinfo(Received)
    pub(super) fn is_better_or_same(&self, message: &Message) -> bool {
        self.info_is == InfoIs::Received && message.vector <= self.port_priority
    }

    /// recordAgreement()
    pub(super) fn record_agreement(&mut self, message: &Message, rapid: bool) {
        self.agreed = rapid && self.is_point_to_point() && message.agreement;
        if self.agreed {
            self.proposing = false;
        }
    }

    /// recordDispute()
    pub(super) fn record_dispute(&mut self, message: &Message) {
        if message.learning {
            self.disputed = true;
            self.agreed = false;
        }
    }

    /// recordProposal()
    pub(super) fn record_proposal(&mut self, message: &Message) {
        self.proposed |= message.role == Role::Designated && message.proposal;
    }

    /// setTcFlags()
    pub(super) fn set_tc_flags(&mut self, message: &Message) {
        self.rcvd_tc |= message.topology_change;
        self.rcvd_tc_ack |= message.topology_change_ack;
    }

    /// updtRcvdInfoWhile()
    pub(super) fn update_rcvd_info_while(&mut self) {
        let fresh = self.port_times.message_age < self.port_times.max_age;
        self.rcvd_info_while = if fresh { self.port_times.hello * 3 } else { 0 };
    }

    /// newTcWhile()
    pub(super) fn start_tc_while(&mut self, root_times: &Times) {
        if self.tc_while == 0 {
            if self.send_rstp {
                self.tc_while = self.hello_time() + 1;
                self.new_info = true;
            } else {
                self.tc_while = root_times.max_age + root_times.forward_delay;
            }
        }
    }

    /// Whether nothing but one other bridge can be at the other end (operPointToPointMAC).
    pub(super) fn is_point_to_point(&self) -> bool {
        self.settings.point_to_point
    }

    pub(super) fn hello_time(&self) -> u16 {
        self.designated_times.hello
    }

    /// FwdDelay
    pub(super) fn fwd_delay(&self) -> u16 {
        self.designated_times.forward_delay
    }

    /// forwardDelay (17.20.5): among rapid bridges a hello time is long enough.
    pub(super) fn forward_delay(&self) -> u16 {
        if self.send_rstp { self.hello_time() } else { self.fwd_delay() }
    }

    /// EdgeDelay
    pub(super) fn edge_delay(&self) -> u16 {
        if self.is_point_to_point() { MIGRATE_TIME } else { self.designated_times.max_age }
    }
}

impl Rstp {
    /// allSynced: every port agrees with its role, so that a root port may say "agreed". The root port itself does not count.
    pub(super) fn all_synced(&self) -> bool {
        self.ports.values().all(|p| p.selected && p.role == p.selected_role && !p.updt_info && (p.synced || p.role == Role::Root))
    }

    /// reRooted: no other port has been root port lately.
    pub(super) fn re_rooted(&self, number: OfPort) -> bool {
        self.ports.iter().all(|(n, p)| *n == number || p.rr_while == 0)
    }

    /// setTcPropTree()
    pub(super) fn propagate_tc(&mut self, from: OfPort) {
        self.ports.iter_mut().filter(|(n, _)| **n != from).for_each(|(_, p)| p.tc_prop = true);
    }

    /// What we would say of ourselves.
    fn bridge_vector(&self) -> Vector {
        Vector { root: self.settings.id, cost: 0, bridge: self.settings.id, port: 0 }
    }

    /// updtRolesTree() with what goes before and after it (17.28): the root, then each port's role.
    pub(super) fn select_roles(&mut self) {
        let mine = self.bridge_vector();
        let own_mac = self.settings.id & MAC_BITS;
        let offers =
            self.ports.iter().filter(|(_, p)| p.info_is == InfoIs::Received && p.port_priority.bridge & MAC_BITS != own_mac);
        let path = |p: &Port| Vector { cost: p.port_priority.cost.saturating_add(p.settings.path_cost), ..p.port_priority };
        let best = offers.map(|(n, p)| (path(p), p.id(), *n)).min().filter(|(vector, ..)| *vector < mine);
        (self.root_priority, self.root_port) = best.map_or((mine, None), |(vector, _, port)| (vector, Some(port)));
        self.root_times = match self.root_port.and_then(|p| self.ports.get(&p)) {
            Some(root) => Times { message_age: root.port_times.message_age + 1, ..root.port_times },
            None => self.settings.times,
        };
        let root_port = self.root_port;
        for (number, port) in &mut self.ports {
            port.designated_priority = Vector {
                root: self.root_priority.root,
                cost: self.root_priority.cost,
                bridge: self.settings.id,
                port: port.id(),
            };
            port.designated_times = Times { hello: self.settings.times.hello, ..self.root_times };
            port.choose_role(root_port == Some(*number), own_mac);
            port.reselect = false;
        }
        // setSelectedTree()
        self.ports.values_mut().for_each(|p| p.selected = true);
    }
}

impl Port {
    /// The end of updtRolesTree() for one port.
    fn choose_role(&mut self, is_root: bool, own_mac: u64) {
        let outdated = self.port_priority != self.designated_priority || self.port_times != self.designated_times;
        let better = self.designated_priority < self.port_priority;
        let backup = self.port_priority.bridge & MAC_BITS == own_mac;
        (self.selected_role, self.updt_info) = match self.info_is {
            InfoIs::Disabled => (Role::Disabled, self.updt_info),
            InfoIs::Aged => (Role::Designated, true),
            InfoIs::Mine => (Role::Designated, self.updt_info || outdated),
            InfoIs::Received if is_root => (Role::Root, false),
            InfoIs::Received if better => (Role::Designated, true),
            InfoIs::Received if backup => (Role::Backup, false),
            InfoIs::Received => (Role::Alternate, false),
        };
    }
}
