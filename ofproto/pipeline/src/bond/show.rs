//! `bond/show` and `bond/list`.

use super::{Bond, Mode};
use crate::options::mac_text;
use flow::Msec;
use openflow::OfPort;
use std::fmt::Write;

impl Bond {
    /// The lines of `bond/show`.
    #[must_use]
    pub fn details(&self, now: Msec) -> String {
        let settings = &self.settings;
        let id = |shown: bool| if shown { i64::from(self.recirc_id) } else { -1 };
        let recirculates = self.may_recirculate();
        let mut out = format!("---- {} ----\n", self.name);
        let mut put = |text: String| writeln!(out, "{text}").expect("a String takes everything");
        put(format!("bond_mode: {}", settings.mode.name()));
        let may = if recirculates { "yes" } else { "no" };
        put(format!("bond may use recirculation: {may}, Recirc-ID : {}", id(recirculates)));
        put(format!("bond-hash-basis: {}", settings.basis));
        let lb = if settings.lb_output { "enabled" } else { "disabled" };
        put(format!("lb_output action: {lb}, bond-id: {}", id(settings.lb_output)));
        if settings.mode == Mode::BalanceSlb {
            put(format!("all members active: {}", settings.all_members_active));
        }
        put(format!("updelay: {} ms", settings.updelay_ms));
        put(format!("downdelay: {} ms", settings.downdelay_ms));
        if self.is_balanced() {
            put(format!("next rebalance: {} ms", self.next_rebalance_ms - now));
        }
        put(format!("lacp_status: {}", self.lacp.name()));
        put(format!("lacp_fallback_ab: {}", settings.lacp_fallback_ab));
        let primary = settings.primary.as_deref();
        let missing = primary.is_some_and(|name| self.member_named(name).is_none());
        let note = if missing { " (no such member)" } else { "" };
        put(format!("active-backup primary: {}{note}", primary.unwrap_or("<none>")));
        let active = self.members.values().find(|m| m.link.mac == self.active_mac).map_or("none", |m| &m.link.name);
        put(format!("active member mac: {}({active})", mac_text(self.active_mac)));
        for port in self.by_name() {
            put(self.member_details(port, now));
        }
        out.push('\n');
        out
    }

    fn by_name(&self) -> Vec<OfPort> {
        let mut ports: Vec<OfPort> = self.members.keys().copied().collect();
        ports.sort_by(|a, b| self.members[a].link.name.cmp(&self.members[b].link.name));
        ports
    }

    fn member_details(&self, port: OfPort, now: Msec) -> String {
        let member = &self.members[&port];
        let state = if member.enabled { "enabled" } else { "disabled" };
        let mut lines = vec![format!("\nmember {}: {state}", member.link.name)];
        if self.active == Some(port) {
            lines.push("  active member".to_owned());
        }
        if let Some(at) = member.delay_until_ms {
            let delay = if member.enabled { "downdelay" } else { "updelay" };
            lines.push(format!("  {delay} expires in {} ms", at - now));
        }
        lines.push(format!("  may_enable: {}", member.link.may_enable));
        if self.is_balanced() {
            for (hash, bucket) in self.buckets.iter().enumerate().filter(|(_, b)| b.member == Some(port)) {
                if bucket.tx_bytes >= 1024 {
                    lines.push(format!("  hash {hash}: {} kB load", bucket.tx_bytes / 1024));
                }
            }
        }
        lines.join("\n")
    }

    /// The line of `bond/list`.
    #[must_use]
    pub fn line(&self) -> String {
        let members: Vec<&str> = self.by_name().iter().map(|p| self.members[p].link.name.as_str()).collect();
        let id = if self.settings.mode == Mode::ActiveBackup { 0 } else { self.recirc_id };
        format!("{}\t{}\t{id}\t{}\n", self.name, self.settings.mode.name(), members.join(", "))
    }
}
