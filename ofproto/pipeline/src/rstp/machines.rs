//! The state machines of sections 17.22 to 17.31. Each function looks at where its machine stands, takes the first transition whose condition
//! holds, does what the state entered says, and tells whether it moved.

use super::roles::Received;
use super::wire::Bpdu;
use super::{InfoIs, MIGRATE_TIME, Message, Port, Role, Rstp, TRANSITIONS_MAX};
use openflow::OfPort;

/// Port protocol migration (17.24).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Migration {
    #[default]
    Begin,
    CheckingRstp,
    SelectingStp,
    Sensing,
}

/// Port information (17.27); states that are left at once have no name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Information {
    #[default]
    Begin,
    Disabled,
    Aged,
    Current,
}

/// Port role transitions (17.29): the role whose part of the machine the port is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Transition {
    #[default]
    Begin,
    /// The port stops learning and forwarding for this role.
    Stopping,
    In,
}

/// Topology change (17.31).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Change {
    #[default]
    Begin,
    Inactive,
    Learning,
    Active,
}

/// Where the machines of a port stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Positions {
    begun: bool,
    migration: Migration,
    information: Information,
    transition: Transition,
    change: Change,
}

/// What all machines of a bridge look at beside the port itself.
#[derive(Clone, Copy, Debug)]
struct Around {
    rapid: bool,
    tx_hold_count: u16,
    all_synced: bool,
    re_rooted: bool,
    root_times: super::Times,
}

/// What a port's machine does to all ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tree {
    Nothing,
    /// setSyncTree()
    Sync,
    /// setReRootTree()
    ReRoot,
    /// setTcPropTree()
    TcProp,
}

impl Rstp {
    /// Runs all machines until none of them moves.
    pub(super) fn settle(&mut self) {
        let numbers: Vec<OfPort> = self.ports.keys().copied().collect();
        for _ in 0..TRANSITIONS_MAX {
            let mut moved = false;
            for number in &numbers {
                moved |= self.step(*number);
            }
            if self.ports.values().any(|p| p.reselect) {
                self.select_roles();
                moved = true;
            }
            if !moved {
                return;
            }
        }
        tracing::error!(target: "rstp", "{}: the state machines do not come to rest", self.name);
    }

    /// One round of a port's machines.
    fn step(&mut self, number: OfPort) -> bool {
        let around = Around {
            rapid: self.settings.is_rapid(),
            tx_hold_count: self.settings.tx_hold_count,
            all_synced: self.all_synced(),
            re_rooted: self.re_rooted(number),
            root_times: self.root_times,
        };
        let Some(port) = self.ports.get_mut(&number) else { return false };
        let mut moved = port.begin();
        moved |= port.receive_machine();
        moved |= port.migration_machine(&around);
        moved |= port.edge_machine();
        moved |= port.information_machine(&around);
        let (stepped, tree) = port.role_machine(&around);
        let (changed, tc) = port.change_machine(&around);
        moved |= stepped | changed;
        moved |= port.state_machine();
        let sent = port.transmit_machine(&around);
        moved |= sent.is_some();
        self.out.extend(sent.map(|bpdu| (number, bpdu.bytes())));
        match tree {
            Tree::Sync => self.ports.values_mut().for_each(|p| p.sync = true),
            Tree::ReRoot => self.ports.values_mut().for_each(|p| p.re_root = true),
            Tree::Nothing | Tree::TcProp => {}
        }
        if tc == Tree::TcProp {
            self.propagate_tc(number);
        }
        moved
    }
}

impl Port {
    /// BEGIN: what every machine does first.
    fn begin(&mut self) -> bool {
        if self.at.begun {
            return false;
        }
        self.at = Positions { begun: true, ..Positions::default() };
        self.oper_edge = self.settings.admin_edge;
        (self.rcvd_bpdu, self.rcvd_msg) = (None, None);
        (self.rcvd_rstp, self.rcvd_stp) = (false, false);
        self.edge_delay_while = MIGRATE_TIME;
        (self.new_info, self.tx_count) = (true, 0);
        (self.learning, self.forwarding) = (false, false);
        true
    }

    /// Port receive (17.23).
    fn receive_machine(&mut self) -> bool {
        if !self.port_enabled {
            if self.rcvd_bpdu.is_some() || self.edge_delay_while != MIGRATE_TIME {
                (self.rcvd_bpdu, self.rcvd_msg) = (None, None);
                (self.rcvd_rstp, self.rcvd_stp) = (false, false);
                self.edge_delay_while = MIGRATE_TIME;
                return true;
            }
            return false;
        }
        if self.rcvd_msg.is_some() {
            return false;
        }
        let Some(bpdu) = self.rcvd_bpdu.take() else { return false };
        self.oper_edge = false;
        self.edge_delay_while = MIGRATE_TIME;
        match bpdu {
            Bpdu::Rst(message) => {
                self.rcvd_rstp = true;
                self.rcvd_msg = Some(message);
            }
            Bpdu::Config(message) => {
                self.rcvd_stp = true;
                self.rcvd_msg = Some(message);
            }
            Bpdu::TopologyChange => {
                self.rcvd_stp = true;
                self.rcvd_tcn = true;
            }
        }
        true
    }

    /// Port protocol migration (17.24).
    fn migration_machine(&mut self, around: &Around) -> bool {
        let check = !self.port_enabled || self.mcheck || around.rapid && !self.send_rstp && self.rcvd_rstp;
        let next = match self.at.migration {
            Migration::Begin => Migration::CheckingRstp,
            Migration::CheckingRstp if self.mdelay_while == 0 => Migration::Sensing,
            Migration::CheckingRstp if self.mdelay_while != MIGRATE_TIME && !self.port_enabled => Migration::CheckingRstp,
            Migration::CheckingRstp => return false,
            Migration::Sensing if check => Migration::CheckingRstp,
            Migration::Sensing if self.send_rstp && self.rcvd_stp => Migration::SelectingStp,
            Migration::Sensing => return false,
            Migration::SelectingStp if self.mdelay_while == 0 || !self.port_enabled || self.mcheck => Migration::Sensing,
            Migration::SelectingStp => return false,
        };
        self.at.migration = next;
        match next {
            Migration::CheckingRstp => {
                self.mcheck = false;
                self.send_rstp = around.rapid;
                self.mdelay_while = MIGRATE_TIME;
            }
            Migration::SelectingStp => {
                self.send_rstp = false;
                self.mdelay_while = MIGRATE_TIME;
            }
            Migration::Sensing => (self.rcvd_rstp, self.rcvd_stp) = (false, false),
            Migration::Begin => {}
        }
        true
    }

    /// Bridge detection (17.25): a port where nobody answers proposals is at the edge.
    fn edge_machine(&mut self) -> bool {
        let admin = self.settings.admin_edge;
        let found = self.edge_delay_while == 0 && self.settings.auto_edge && self.send_rstp && self.proposing;
        let edge = match self.oper_edge {
            true => self.port_enabled || admin,
            false => !self.port_enabled && admin || self.port_enabled && found,
        };
        std::mem::replace(&mut self.oper_edge, edge) != edge
    }

    /// Port information (17.27).
    fn information_machine(&mut self, around: &Around) -> bool {
        if self.at.information == Information::Begin || !self.port_enabled && self.info_is != InfoIs::Disabled {
            self.disable_information();
            return true;
        }
        match self.at.information {
            Information::Begin => true,
            Information::Disabled if self.rcvd_msg.is_some() => {
                self.disable_information();
                true
            }
            Information::Disabled if self.port_enabled => {
                self.age();
                true
            }
            Information::Disabled => false,
            Information::Aged | Information::Current if self.selected && self.updt_info => {
                self.update();
                true
            }
            Information::Aged => false,
            Information::Current if self.updt_info => false,
            Information::Current => {
                if let Some(message) = self.rcvd_msg.take() {
                    self.take_message(&message, around);
                    return true;
                }
                if self.info_is == InfoIs::Received && self.rcvd_info_while == 0 {
                    self.age();
                    return true;
                }
                false
            }
        }
    }

    fn disable_information(&mut self) {
        self.at.information = Information::Disabled;
        self.rcvd_msg = None;
        (self.proposing, self.proposed, self.agree, self.agreed) = (false, false, false, false);
        self.rcvd_info_while = 0;
        self.info_is = InfoIs::Disabled;
        (self.reselect, self.selected) = (true, false);
    }

    fn age(&mut self) {
        self.at.information = Information::Aged;
        self.info_is = InfoIs::Aged;
        (self.reselect, self.selected) = (true, false);
    }

    /// UPDATE: the port says what we think.
    fn update(&mut self) {
        self.at.information = Information::Current;
        (self.proposing, self.proposed) = (false, false);
        self.agreed &= self.info_is == InfoIs::Mine && self.designated_priority <= self.port_priority;
        self.synced &= self.agreed;
        self.port_priority = self.designated_priority;
        self.port_times = self.designated_times;
        self.updt_info = false;
        self.info_is = InfoIs::Mine;
        self.new_info = true;
    }

    /// RECEIVE and the states after it.
    fn take_message(&mut self, message: &Message, around: &Around) {
        match self.classify(message) {
            Received::SuperiorDesignated => {
                (self.agreed, self.proposing) = (false, false);
                self.record_proposal(message);
                self.set_tc_flags(message);
                self.agree &= self.is_better_or_same(message);
                self.port_priority = message.vector;
                self.port_times = super::Times { hello: message.times.hello.max(1), ..message.times };
                self.update_rcvd_info_while();
                self.info_is = InfoIs::Received;
                (self.reselect, self.selected) = (true, false);
            }
            Received::RepeatedDesignated => {
                self.record_proposal(message);
                self.set_tc_flags(message);
                self.update_rcvd_info_while();
            }
            Received::InferiorDesignated => self.record_dispute(message),
            Received::InferiorRootAlternate => {
                self.record_agreement(message, around.rapid);
                self.set_tc_flags(message);
            }
            Received::Other => {}
        }
    }

    /// Port role transitions (17.29).
    fn role_machine(&mut self, around: &Around) -> (bool, Tree) {
        if self.at.transition == Transition::Begin {
            self.at.transition = Transition::Stopping;
            self.role = Role::Disabled;
            (self.learn, self.forward, self.synced) = (false, false, false);
            (self.sync, self.re_root) = (true, true);
            (self.rr_while, self.fd_while, self.rb_while) = (self.fwd_delay(), self.designated_times.max_age, 0);
            return (true, Tree::Nothing);
        }
        if !self.selected || self.updt_info {
            return (false, Tree::Nothing);
        }
        if self.role != self.selected_role {
            self.role = self.selected_role;
            match self.role {
                Role::Root => {
                    self.at.transition = Transition::In;
                    self.rr_while = self.fwd_delay();
                }
                Role::Designated => self.at.transition = Transition::In,
                Role::Disabled | Role::Alternate | Role::Backup => {
                    self.at.transition = Transition::Stopping;
                    (self.learn, self.forward) = (false, false);
                }
            }
            return (true, Tree::Nothing);
        }
        match self.role {
            Role::Root => self.root_role(around),
            Role::Designated => (self.designated_role(), Tree::Nothing),
            Role::Disabled => (self.blocked_role(self.designated_times.max_age), Tree::Nothing),
            Role::Alternate | Role::Backup => self.alternate_role(around),
        }
    }

    /// DISABLED_PORT, ALTERNATE_PORT: what is not forwarding is in step with everybody.
    fn blocked_role(&mut self, delay: u16) -> bool {
        if self.at.transition == Transition::Stopping {
            if self.learning || self.forwarding {
                return false;
            }
            self.at.transition = Transition::In;
        } else if self.fd_while == delay && !self.sync && !self.re_root && self.synced {
            return false;
        }
        self.fd_while = delay;
        (self.synced, self.sync, self.re_root) = (true, false, false);
        self.rr_while = 0;
        true
    }

    fn alternate_role(&mut self, around: &Around) -> (bool, Tree) {
        if self.at.transition == Transition::In {
            if self.proposed && !self.agree {
                self.proposed = false;
                return (true, Tree::Sync);
            }
            if around.all_synced && !self.agree || self.proposed && self.agree {
                self.proposed = false;
                (self.agree, self.new_info) = (true, true);
                return (true, Tree::Nothing);
            }
            let recent = 2 * self.hello_time();
            if self.role == Role::Backup && self.rb_while != recent {
                self.rb_while = recent;
                return (true, Tree::Nothing);
            }
        }
        (self.blocked_role(self.forward_delay()), Tree::Nothing)
    }

    fn root_role(&mut self, around: &Around) -> (bool, Tree) {
        let may_go = self.fd_while == 0 || around.re_rooted && self.rb_while == 0 && around.rapid;
        if self.proposed && !self.agree {
            self.proposed = false;
            return (true, Tree::Sync);
        }
        if around.all_synced && !self.agree || self.proposed && self.agree {
            (self.proposed, self.sync) = (false, false);
            (self.agree, self.new_info) = (true, true);
        } else if !self.forward && !self.re_root {
            return (true, Tree::ReRoot);
        } else if may_go && self.learn && !self.forward {
            self.fd_while = 0;
            self.forward = true;
        } else if may_go && !self.learn {
            self.fd_while = self.forward_delay();
            self.learn = true;
        } else if self.re_root && self.forward {
            self.re_root = false;
        } else if self.rr_while != self.fwd_delay() {
            self.rr_while = self.fwd_delay();
        } else {
            return (false, Tree::Nothing);
        }
        (true, Tree::Nothing)
    }

    fn designated_role(&mut self) -> bool {
        let may_go = (self.fd_while == 0 || self.agreed || self.oper_edge) && (self.rr_while == 0 || !self.re_root) && !self.sync;
        let must_stop = (self.sync && !self.synced || self.re_root && self.rr_while != 0 || self.disputed) && !self.oper_edge;
        if !self.forward && !self.agreed && !self.proposing && !self.oper_edge {
            (self.proposing, self.new_info) = (true, true);
            self.edge_delay_while = self.edge_delay();
        } else if !self.synced && (!self.learning && !self.forwarding || self.agreed || self.oper_edge)
            || self.sync && self.synced
        {
            self.rr_while = 0;
            (self.synced, self.sync) = (true, false);
        } else if self.rr_while == 0 && self.re_root {
            self.re_root = false;
        } else if must_stop && (self.learn || self.forward) {
            (self.learn, self.forward, self.disputed) = (false, false, false);
            self.fd_while = self.forward_delay();
        } else if may_go && self.learn && !self.forward {
            self.forward = true;
            self.fd_while = 0;
            self.agreed = self.send_rstp;
        } else if may_go && !self.learn {
            self.learn = true;
            self.fd_while = self.forward_delay();
        } else {
            return false;
        }
        true
    }

    /// Port state transition (17.30).
    fn state_machine(&mut self) -> bool {
        let next = match (self.learning, self.forwarding) {
            (false, false | true) => (self.learn, false),
            (true, false) => (self.learn, self.learn && self.forward),
            (true, true) if self.forward => (true, true),
            (true, true) => (false, false),
        };
        let moved = next != (self.learning, self.forwarding);
        (self.learning, self.forwarding) = next;
        moved
    }

    /// Topology change (17.31).
    fn change_machine(&mut self, around: &Around) -> (bool, Tree) {
        let in_tree = matches!(self.role, Role::Root | Role::Designated);
        let told = self.rcvd_tc || self.rcvd_tcn || self.rcvd_tc_ack || self.tc_prop;
        match self.at.change {
            Change::Begin => self.deactivate(),
            Change::Inactive if self.learn && !self.fdb_flush => self.listen_for_change(),
            Change::Learning if in_tree && self.forward && !self.oper_edge => {
                self.at.change = Change::Active;
                self.start_tc_while(&around.root_times);
                self.new_info = true;
                return (true, Tree::TcProp);
            }
            Change::Learning if told => self.listen_for_change(),
            Change::Learning if !in_tree && !self.learn && !self.learning => self.deactivate(),
            Change::Active if !in_tree || self.oper_edge => self.listen_for_change(),
            Change::Active if self.rcvd_tcn || self.rcvd_tc => {
                if self.rcvd_tcn {
                    self.start_tc_while(&around.root_times);
                }
                (self.rcvd_tcn, self.rcvd_tc) = (false, false);
                self.tc_ack |= self.role == Role::Designated;
                return (true, Tree::TcProp);
            }
            Change::Active if self.tc_prop => {
                self.start_tc_while(&around.root_times);
                (self.fdb_flush, self.tc_prop) = (true, false);
            }
            Change::Active if self.rcvd_tc_ack => {
                self.tc_while = 0;
                self.rcvd_tc_ack = false;
            }
            Change::Inactive | Change::Learning | Change::Active => return (false, Tree::Nothing),
        }
        (true, Tree::Nothing)
    }

    fn deactivate(&mut self) {
        self.at.change = Change::Inactive;
        self.fdb_flush = true;
        self.tc_while = 0;
        self.tc_ack = false;
    }

    fn listen_for_change(&mut self) {
        self.at.change = Change::Learning;
        (self.rcvd_tc, self.rcvd_tcn, self.rcvd_tc_ack, self.tc_prop) = (false, false, false, false);
    }

    /// Port transmit (17.26). Gives what is to be sent.
    fn transmit_machine(&mut self, around: &Around) -> Option<Bpdu> {
        if !self.selected || self.updt_info {
            return None;
        }
        let (root, designated) = (self.role == Role::Root, self.role == Role::Designated);
        if self.hello_when == 0 {
            // TRANSMIT_PERIODIC
            self.new_info |= designated || root && self.tc_while != 0;
            self.hello_when = self.hello_time();
        }
        if !self.new_info || self.tx_count >= around.tx_hold_count || !self.port_enabled {
            return None;
        }
        let message = Message {
            vector: self.designated_priority,
            times: self.designated_times,
            role: self.role,
            topology_change: self.tc_while != 0,
            topology_change_ack: !self.send_rstp && self.tc_ack,
            proposal: self.proposing,
            learning: self.learning,
            forwarding: self.forwarding,
            agreement: self.agree,
        };
        let bpdu = match (self.send_rstp, root, designated) {
            (true, ..) => Bpdu::Rst(message),
            (false, true, _) => Bpdu::TopologyChange,
            (false, false, true) => Bpdu::Config(message),
            (false, false, false) => return None,
        };
        self.new_info = false;
        self.tx_count += 1;
        self.tx += 1;
        if !matches!(bpdu, Bpdu::TopologyChange) {
            self.tc_ack = false;
        }
        Some(bpdu)
    }
}
