//! The schema Open_vSwitch as this daemon uses it: each table and column declared once, with its type and its direction. Readers and
//! writers name a column by the constant that its row makes, so that a column is read as what it holds and of the table that has it;
//! change tracking asks the same rows whether a change matters. What the keys of map columns mean to whom stands in `keys`.
//!
//! A column that is declared as read or written and that nobody reads or writes is an unused constant, and fails the build. Tests hold
//! these rows against the schema that the embedded server serves, and what is left out against docs/status.md.

use std::marker::PhantomData;

/// Who uses a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// Configuration: the daemon reads it, and a change asks for a new configuration.
    Config,
    /// The daemon writes it (and may read back what it wrote); a change asks for nothing.
    Status,
    /// The database server reads and writes it, for its own connections (`ovsdb::server`).
    Server,
    /// Kept for the administrator and other programs.
    User,
    /// Left out, and why; docs/status.md lists it.
    Not(&'static str),
}

/// What a column holds, as its schema has to agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Text,
    Integer,
    Boolean,
    Texts,
    Integers,
    /// String to string.
    Pairs,
    /// String to integer.
    Counts,
    /// Integer to integer.
    Numbers,
    /// References to rows of a table.
    Refs(&'static str),
    /// String to reference.
    Named(&'static str),
    /// Integer to reference.
    Numbered(&'static str),
}

/// One column, as the schema's rows are read by tests and by change tracking.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Declared {
    pub(crate) name: &'static str,

    pub(crate) form: Form,
    pub(crate) role: Role,
}

/// A table, as a type: rows and columns of it go together.
pub(crate) trait Table {
    const NAME: &'static str;
}

/// The type of a column.
pub(crate) trait Kind {
    const FORM: Form;
}

/// A column of table `T` that holds a `K`.
pub(crate) struct Column<T, K> {
    pub(crate) name: &'static str,
    of: PhantomData<fn() -> (T, K)>,
}

impl<T, K> Column<T, K> {
    const fn new(name: &'static str) -> Self {
        Self { name, of: PhantomData }
    }
}

impl<T, K> Clone for Column<T, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, K> Copy for Column<T, K> {}

impl<T: Table, K> std::fmt::Debug for Column<T, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", T::NAME, self.name)
    }
}

macro_rules! kinds {
    ($( $kind:ident; )*) => { $(
        #[derive(Clone, Copy, Debug)]
        pub(crate) enum $kind {}
        impl Kind for $kind {
            const FORM: Form = Form::$kind;
        }
    )* };
}

macro_rules! reference_kinds {
    ($( $kind:ident; )*) => { $(
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $kind<T>(PhantomData<fn() -> T>);
        impl<T: Table> Kind for $kind<T> {
            const FORM: Form = Form::$kind(T::NAME);
        }
    )* };
}

kinds! { Text; Integer; Boolean; Texts; Integers; Pairs; Counts; Numbers; }
reference_kinds! { Refs; Named; Numbered; }

/// The columns of a table in the order of ovs-vswitchd.conf.db(5); none if there is no such table.
pub(crate) fn columns(table: &str) -> &'static [Declared] {
    TABLES.iter().find(|(name, _)| *name == table).map_or(&[], |(_, columns)| columns)
}

macro_rules! tables {
    ($( $table:ident = $name:literal as $module:ident { $( $column:ident: $kind:ty = $text:literal, $role:ident $(($why:literal))?; )* } )*) => {
        $(
            #[derive(Clone, Copy, Debug)]
            pub(crate) enum $table {}
            impl Table for $table {
                const NAME: &'static str = $name;
            }
            pub(crate) mod $module {
                #[allow(unused_imports, reason = "each table needs some of them")]
                use super::*;
                $( tables!(@column $role $table, $column: $kind = $text); )*
            }
        )*
        /// Every table with its columns.
        pub(crate) const TABLES: &[(&str, &[Declared])] = &[ $( ($name, &[ $(
            Declared { name: $text, form: <$kind as Kind>::FORM, role: Role::$role $(($why))? },
        )* ]), )* ];
    };
    (@column Config $table:ident, $column:ident: $kind:ty = $text:literal) => {
        pub(crate) const $column: Column<$table, $kind> = Column::new($text);
    };
    (@column Status $table:ident, $column:ident: $kind:ty = $text:literal) => {
        pub(crate) const $column: Column<$table, $kind> = Column::new($text);
    };
    // Nobody here reads or writes those.
    (@column $role:ident $table:ident, $column:ident: $kind:ty = $text:literal) => {};
}

tables! {
    OpenVswitch = "Open_vSwitch" as open_vswitch {
        DATAPATHS: Named<Datapath> = "datapaths", Config;
        BRIDGES: Refs<Bridge> = "bridges", Config;
        MANAGER_OPTIONS: Refs<Manager> = "manager_options", Server;
        SSL: Refs<Ssl> = "ssl", Config;
        OTHER_CONFIG: Pairs = "other_config", Config;
        EXTERNAL_IDS: Pairs = "external_ids", User;
        NEXT_CFG: Integer = "next_cfg", Config;
        CUR_CFG: Integer = "cur_cfg", Status;
        STATISTICS: Pairs = "statistics", Status;
        OVS_VERSION: Text = "ovs_version", Status;
        DB_VERSION: Text = "db_version", Status;
        SYSTEM_TYPE: Text = "system_type", User;
        SYSTEM_VERSION: Text = "system_version", User;
        DATAPATH_TYPES: Texts = "datapath_types", Status;
        IFACE_TYPES: Texts = "iface_types", Status;
        DPDK_INITIALIZED: Boolean = "dpdk_initialized", Status;
        DPDK_VERSION: Text = "dpdk_version", Status;
    }
    Bridge = "Bridge" as bridge {
        NAME: Text = "name", Config;
        DATAPATH_TYPE: Text = "datapath_type", Config;
        DATAPATH_VERSION: Text = "datapath_version", Status;
        DATAPATH_ID: Text = "datapath_id", Status;
        STP_ENABLE: Boolean = "stp_enable", Config;
        RSTP_ENABLE: Boolean = "rstp_enable", Config;
        MCAST_SNOOPING_ENABLE: Boolean = "mcast_snooping_enable", Config;
        PORTS: Refs<Port> = "ports", Config;
        MIRRORS: Refs<Mirror> = "mirrors", Config;
        NETFLOW: Refs<Netflow> = "netflow", Config;
        SFLOW: Refs<Sflow> = "sflow", Config;
        IPFIX: Refs<Ipfix> = "ipfix", Config;
        CONTROLLER: Refs<Controller> = "controller", Config;
        PROTOCOLS: Texts = "protocols", Config;
        FAIL_MODE: Text = "fail_mode", Config;
        STATUS: Pairs = "status", Status;
        RSTP_STATUS: Pairs = "rstp_status", Status;
        OTHER_CONFIG: Pairs = "other_config", Config;
        EXTERNAL_IDS: Pairs = "external_ids", User;
        FLOOD_VLANS: Integers = "flood_vlans", Config;
        FLOW_TABLES: Numbered<FlowTable> = "flow_tables", Config;
        AUTO_ATTACH: Refs<AutoAttach> = "auto_attach", Config;
    }
    Port = "Port" as port {
        NAME: Text = "name", Config;
        INTERFACES: Refs<Interface> = "interfaces", Config;
        TRUNKS: Integers = "trunks", Config;
        CVLANS: Integers = "cvlans", Config;
        TAG: Integer = "tag", Config;
        VLAN_MODE: Text = "vlan_mode", Config;
        QOS: Refs<Qos> = "qos", Config;
        MAC: Text = "mac", Not("the bridge's MAC is chosen among those of devices");
        BOND_MODE: Text = "bond_mode", Config;
        LACP: Text = "lacp", Config;
        BOND_UPDELAY: Integer = "bond_updelay", Config;
        BOND_DOWNDELAY: Integer = "bond_downdelay", Config;
        BOND_ACTIVE_SLAVE: Text = "bond_active_slave", Status;
        BOND_FAKE_IFACE: Boolean = "bond_fake_iface", Not("a device of old programs, which later OVS does not need either");
        FAKE_BRIDGE: Boolean = "fake_bridge", User;
        STATUS: Pairs = "status", Status;
        RSTP_STATUS: Pairs = "rstp_status", Status;
        RSTP_STATISTICS: Counts = "rstp_statistics", Status;
        STATISTICS: Counts = "statistics", Status;
        PROTECTED: Boolean = "protected", Config;
        OTHER_CONFIG: Pairs = "other_config", Config;
        EXTERNAL_IDS: Pairs = "external_ids", User;
    }
    Interface = "Interface" as interface {
        NAME: Text = "name", Config;
        TYPE: Text = "type", Config;
        OPTIONS: Pairs = "options", Config;
        INGRESS_POLICING_RATE: Integer = "ingress_policing_rate", Config;
        INGRESS_POLICING_BURST: Integer = "ingress_policing_burst", Config;
        INGRESS_POLICING_KPKTS_RATE: Integer = "ingress_policing_kpkts_rate", Config;
        INGRESS_POLICING_KPKTS_BURST: Integer = "ingress_policing_kpkts_burst", Config;
        MAC_IN_USE: Text = "mac_in_use", Status;
        MAC: Text = "mac", Config;
        IFINDEX: Integer = "ifindex", Status;
        EXTERNAL_IDS: Pairs = "external_ids", User;
        OFPORT: Integer = "ofport", Status;
        OFPORT_REQUEST: Integer = "ofport_request", Config;
        BFD: Pairs = "bfd", Config;
        BFD_STATUS: Pairs = "bfd_status", Status;
        CFM_MPID: Integer = "cfm_mpid", Config;
        CFM_REMOTE_MPIDS: Integers = "cfm_remote_mpids", Status;
        CFM_FLAP_COUNT: Integer = "cfm_flap_count", Status;
        CFM_FAULT: Boolean = "cfm_fault", Status;
        CFM_FAULT_STATUS: Texts = "cfm_fault_status", Status;
        CFM_REMOTE_OPSTATE: Text = "cfm_remote_opstate", Status;
        CFM_HEALTH: Integer = "cfm_health", Status;
        LACP_CURRENT: Boolean = "lacp_current", Status;
        LLDP: Pairs = "lldp", Config;
        OTHER_CONFIG: Pairs = "other_config", Config;
        STATISTICS: Counts = "statistics", Status;
        STATUS: Pairs = "status", Status;
        ADMIN_STATE: Text = "admin_state", Status;
        LINK_STATE: Text = "link_state", Status;
        LINK_RESETS: Integer = "link_resets", Status;
        LINK_SPEED: Integer = "link_speed", Status;
        DUPLEX: Text = "duplex", Status;
        MTU: Integer = "mtu", Status;
        MTU_REQUEST: Integer = "mtu_request", Config;
        ERROR: Text = "error", Status;
    }
    FlowTable = "Flow_Table" as flow_table {
        NAME: Text = "name", Config;
        FLOW_LIMIT: Integer = "flow_limit", Config;
        OVERFLOW_POLICY: Text = "overflow_policy", Config;
        GROUPS: Texts = "groups", Config;
        PREFIXES: Texts = "prefixes", Config;
        EXTERNAL_IDS: Pairs = "external_ids", User;
    }
    Qos = "QoS" as qos {
        TYPE: Text = "type", Config;
        QUEUES: Numbered<Queue> = "queues", Config;
        OTHER_CONFIG: Pairs = "other_config", Config;
        EXTERNAL_IDS: Pairs = "external_ids", User;
    }
    Queue = "Queue" as queue {
        DSCP: Integer = "dscp", Config;
        OTHER_CONFIG: Pairs = "other_config", Config;
        EXTERNAL_IDS: Pairs = "external_ids", User;
    }
    Mirror = "Mirror" as mirror {
        NAME: Text = "name", Config;
        SELECT_ALL: Boolean = "select_all", Config;
        SELECT_SRC_PORT: Refs<Port> = "select_src_port", Config;
        SELECT_DST_PORT: Refs<Port> = "select_dst_port", Config;
        SELECT_VLAN: Integers = "select_vlan", Config;
        OUTPUT_PORT: Refs<Port> = "output_port", Config;
        OUTPUT_VLAN: Integer = "output_vlan", Config;
        SNAPLEN: Integer = "snaplen", Config;
        STATISTICS: Counts = "statistics", Status;
        FILTER: Text = "filter", Config;
        EXTERNAL_IDS: Pairs = "external_ids", User;
    }
    Netflow = "NetFlow" as netflow {
        TARGETS: Texts = "targets", Config;
        ENGINE_TYPE: Integer = "engine_type", Config;
        ENGINE_ID: Integer = "engine_id", Config;
        ADD_ID_TO_INTERFACE: Boolean = "add_id_to_interface", Config;
        ACTIVE_TIMEOUT: Integer = "active_timeout", Config;
        EXTERNAL_IDS: Pairs = "external_ids", User;
    }
    Sflow = "sFlow" as sflow {
        TARGETS: Texts = "targets", Config;
        SAMPLING: Integer = "sampling", Config;
        POLLING: Integer = "polling", Config;
        HEADER: Integer = "header", Config;
        AGENT: Text = "agent", Config;
        EXTERNAL_IDS: Pairs = "external_ids", User;
    }
    Ipfix = "IPFIX" as ipfix {
        TARGETS: Texts = "targets", Config;
        SAMPLING: Integer = "sampling", Config;
        OBS_DOMAIN_ID: Integer = "obs_domain_id", Config;
        OBS_POINT_ID: Integer = "obs_point_id", Config;
        CACHE_ACTIVE_TIMEOUT: Integer = "cache_active_timeout", Config;
        CACHE_MAX_FLOWS: Integer = "cache_max_flows", Config;
        STATS_INTERVAL: Integer = "stats_interval", Config;
        TEMPLATE_INTERVAL: Integer = "template_interval", Config;
        OTHER_CONFIG: Pairs = "other_config", Config;
        EXTERNAL_IDS: Pairs = "external_ids", User;
    }
    CollectorSet = "Flow_Sample_Collector_Set" as collector_set {
        ID: Integer = "id", Config;
        BRIDGE: Refs<Bridge> = "bridge", Config;
        IPFIX: Refs<Ipfix> = "ipfix", Config;
        LOCAL_GROUP_ID: Integer = "local_group_id", Not("psample is the kernel datapath's");
        EXTERNAL_IDS: Pairs = "external_ids", User;
    }
    Controller = "Controller" as controller {
        TYPE: Text = "type", Config;
        TARGET: Text = "target", Config;
        MAX_BACKOFF: Integer = "max_backoff", Config;
        INACTIVITY_PROBE: Integer = "inactivity_probe", Config;
        CONNECTION_MODE: Text = "connection_mode", Config;
        LOCAL_IP: Text = "local_ip", Not("the local port gets its address from the tools of the host");
        LOCAL_NETMASK: Text = "local_netmask", Not("the local port gets its address from the tools of the host");
        LOCAL_GATEWAY: Text = "local_gateway", Not("the local port gets its address from the tools of the host");
        ENABLE_ASYNC_MESSAGES: Boolean = "enable_async_messages", Config;
        CONTROLLER_QUEUE_SIZE: Integer = "controller_queue_size", Config;
        CONTROLLER_RATE_LIMIT: Integer = "controller_rate_limit", Config;
        CONTROLLER_BURST_LIMIT: Integer = "controller_burst_limit", Config;
        OTHER_CONFIG: Pairs = "other_config", Config;
        EXTERNAL_IDS: Pairs = "external_ids", User;
        IS_CONNECTED: Boolean = "is_connected", Status;
        ROLE: Text = "role", Status;
        STATUS: Pairs = "status", Status;
    }
    Manager = "Manager" as manager {
        TARGET: Text = "target", Server;
        MAX_BACKOFF: Integer = "max_backoff", Server;
        INACTIVITY_PROBE: Integer = "inactivity_probe", Server;
        CONNECTION_MODE: Text = "connection_mode", Server;
        OTHER_CONFIG: Pairs = "other_config", Server;
        EXTERNAL_IDS: Pairs = "external_ids", User;
        IS_CONNECTED: Boolean = "is_connected", Server;
        STATUS: Pairs = "status", Server;
    }
    Datapath = "Datapath" as datapath {
        DATAPATH_VERSION: Text = "datapath_version", Not("OVS does not fill it either");
        CT_ZONES: Numbered<CtZone> = "ct_zones", Config;
        CAPABILITIES: Pairs = "capabilities", Status;
        CT_ZONE_DEFAULT_LIMIT: Integer = "ct_zone_default_limit", Config;
        EXTERNAL_IDS: Pairs = "external_ids", User;
    }
    CtZone = "CT_Zone" as ct_zone {
        TIMEOUT_POLICY: Refs<CtTimeoutPolicy> = "timeout_policy", Config;
        LIMIT: Integer = "limit", Config;
        EXTERNAL_IDS: Pairs = "external_ids", User;
    }
    CtTimeoutPolicy = "CT_Timeout_Policy" as ct_timeout_policy {
        TIMEOUTS: Counts = "timeouts", Config;
        EXTERNAL_IDS: Pairs = "external_ids", User;
    }
    Ssl = "SSL" as ssl {
        PRIVATE_KEY: Text = "private_key", Config;
        CERTIFICATE: Text = "certificate", Config;
        CA_CERT: Text = "ca_cert", Config;
        BOOTSTRAP_CA_CERT: Boolean = "bootstrap_ca_cert", Config;
        EXTERNAL_IDS: Pairs = "external_ids", User;
    }
    AutoAttach = "AutoAttach" as auto_attach {
        SYSTEM_NAME: Text = "system_name", Config;
        SYSTEM_DESCRIPTION: Text = "system_description", Config;
        MAPPINGS: Numbers = "mappings", Config;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovsdb::atom::AtomicType;
    use ovsdb::schema::{COL_FIRST, Schema, VSWITCH_SCHEMA};
    use ovsdb::types::{BaseType, Bounds, Type};
    use std::collections::BTreeSet;

    fn target(base: &BaseType) -> Option<&'static str> {
        let Bounds::Ref { table, .. } = &base.bounds else { return None };
        TABLES.iter().map(|(name, _)| *name).find(|name| *name == &**table)
    }

    fn form(ty: &Type) -> Option<Form> {
        let (key, many) = (ty.key.atomic, ty.max > 1);
        match (key, &ty.value) {
            (AtomicType::String, None) => Some(if many { Form::Texts } else { Form::Text }),
            (AtomicType::Integer, None) => Some(if many { Form::Integers } else { Form::Integer }),
            (AtomicType::Boolean, None) => Some(Form::Boolean),
            (AtomicType::Uuid, None) => target(&ty.key).map(Form::Refs),
            (AtomicType::String, Some(value)) => match value.atomic {
                AtomicType::String => Some(Form::Pairs),
                AtomicType::Integer => Some(Form::Counts),
                AtomicType::Uuid => target(value).map(Form::Named),
                AtomicType::Boolean | AtomicType::Real => None,
            },
            (AtomicType::Integer, Some(value)) => match value.atomic {
                AtomicType::Integer => Some(Form::Numbers),
                AtomicType::Uuid => target(value).map(Form::Numbered),
                AtomicType::String | AtomicType::Boolean | AtomicType::Real => None,
            },
            (AtomicType::Boolean | AtomicType::Uuid, Some(_)) | (AtomicType::Real, _) => None,
        }
    }

    #[test]
    fn the_declaration_is_the_schema() {
        let schema = Schema::from_json(&serde_json::from_str(VSWITCH_SCHEMA).unwrap()).unwrap();
        let served: BTreeSet<&str> = schema.tables.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(served, TABLES.iter().map(|(name, _)| *name).collect());
        for table in &schema.tables {
            let declared: BTreeSet<_> =
                columns(&table.name).iter().map(|c| (c.name, Some(c.form))).map(|(n, f)| (n, format!("{f:?}"))).collect();
            let served: BTreeSet<_> =
                table.columns[COL_FIRST..].iter().map(|c| (c.name.as_str(), format!("{:?}", form(&c.ty)))).collect();
            assert_eq!(declared, served, "{}", table.name);
        }
    }

    #[test]
    fn names_are_unique_within_their_table() {
        for (table, columns) in TABLES {
            let names: BTreeSet<_> = columns.iter().map(|c| c.name).collect();
            assert_eq!(names.len(), columns.len(), "{table}");
        }
    }
}
