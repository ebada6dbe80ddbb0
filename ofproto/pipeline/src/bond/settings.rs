//! The `bond_*` columns of Port and their keys in `other_config`.

use crate::config::BondConfig;
use crate::options::Options;
use flow::Msec;

/// How a bond uses its members.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    #[default]
    ActiveBackup,
    BalanceSlb,
    BalanceTcp,
}

impl Mode {
    /// As configured and shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ActiveBackup => "active-backup",
            Self::BalanceSlb => "balance-slb",
            Self::BalanceTcp => "balance-tcp",
        }
    }

    fn by_name(name: &str) -> Self {
        match name {
            "balance-slb" => Self::BalanceSlb,
            "balance-tcp" => Self::BalanceTcp,
            _ => Self::ActiveBackup,
        }
    }
}

/// A bond as configured.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    pub mode: Mode,
    pub updelay_ms: Msec,
    pub downdelay_ms: Msec,
    pub basis: u32,
    /// 0: never
    pub rebalance_ms: Msec,
    pub lacp_fallback_ab: bool,
    pub primary: Option<String>,
    pub lb_output: bool,
    /// Secondary members of a balance-slb bond take multicast too.
    pub all_members_active: bool,
}

impl Settings {
    /// Reads a port's configuration. `lb_output` also needs a datapath that can.
    #[must_use]
    pub fn read(bond: &BondConfig, other: &[(String, String)], can_lb_output: bool) -> Self {
        let options = Options(other);
        let mode = Mode::by_name(&bond.mode);
        let lacp_fallback_ab = options.bool("lacp-fallback-ab", false);
        let rebalance_ms = match options.int("bond-rebalance-interval", 10_000) {
            0 => 0,
            ms => ms.max(1000),
        };
        let has_primary = mode == Mode::ActiveBackup || lacp_fallback_ab;
        Self {
            mode,
            updelay_ms: bond.updelay_ms,
            downdelay_ms: bond.downdelay_ms,
            basis: u32::try_from(options.int("bond-hash-basis", 0)).unwrap_or(0),
            rebalance_ms,
            lacp_fallback_ab,
            primary: options.get("bond-primary").filter(|_| has_primary).map(str::to_owned),
            lb_output: mode == Mode::BalanceTcp && can_lb_output && options.bool("lb-output-action", false),
            all_members_active: mode == Mode::BalanceSlb && options.bool("all-members-active", false),
        }
    }
}
