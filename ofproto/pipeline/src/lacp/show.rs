//! `lacp/show` and `lacp/show-stats`.

use super::wire::{Info, state};
use super::{Lacp, Member, Status};
use crate::options::mac_text;
use std::fmt::Write;

impl Lacp {
    /// The lines of `lacp/show`.
    #[must_use]
    pub fn details(&self) -> String {
        let mut out = format!("---- {} ----\n", self.name);
        let mut put = |text: String| writeln!(out, "{text}").expect("a String takes everything");
        let mode = if self.settings.active { "active" } else { "passive" };
        let negotiated = if self.negotiated { " negotiated" } else { "" };
        put(format!("  status: {mode}{negotiated}"));
        put(format!("  sys_id: {}", mac_text(self.settings.sys_id)));
        put(format!("  sys_priority: {}", self.settings.sys_priority));
        put(format!("  aggregation key: {}", self.key().map_or_else(|| "none".to_owned(), |k| k.to_string())));
        put(format!("  lacp_time: {}", if self.settings.fast { "fast" } else { "slow" }));
        for member in self.by_name() {
            put(self.member_details(member));
        }
        out
    }

    fn by_name(&self) -> Vec<&Member> {
        let mut members: Vec<&Member> = self.members.values().collect();
        members.sort_by(|a, b| a.settings.name.cmp(&b.settings.name));
        members
    }

    fn member_details(&self, member: &Member) -> String {
        let status = match member.status {
            Status::Current => "current",
            Status::Expired => "expired",
            Status::Defaulted => "defaulted",
        };
        let attached = if member.attached { "attached" } else { "detached" };
        let settings = &member.settings;
        let mut out = format!("\nmember: {}: {status} {attached}\n", settings.name);
        let mut put = |text: String| writeln!(out, "{text}").expect("a String takes everything");
        put(format!("  port_id: {}", settings.port_id));
        put(format!("  port_priority: {}", settings.port_priority));
        put(format!("  may_enable: {}", self.is_usable(member)));
        put(format!("\n{}", side("actor", &self.actor(member))));
        put(format!("\n{}", side("partner", &member.partner)));
        out.pop();
        out
    }

    /// The lines of `lacp/show-stats`.
    #[must_use]
    pub fn statistics(&self) -> String {
        let mut out = format!("---- {} statistics ----\n", self.name);
        for member in self.by_name() {
            let c = &member.counts;
            let rows = [
                ("TX PDUs", c.tx),
                ("RX PDUs", c.rx),
                ("RX Bad PDUs", c.rx_bad),
                ("RX Marker Request PDUs", c.rx_marker),
                ("Link Expired", c.expired),
                ("Link Defaulted", c.defaulted),
                ("Carrier Status Changed", c.carrier_changed),
            ];
            writeln!(out, "\nmember: {}:", member.settings.name).expect("a String takes everything");
            for (name, count) in rows {
                writeln!(out, "  {name}: {count}").expect("a String takes everything");
            }
        }
        out
    }
}

fn side(who: &str, info: &Info) -> String {
    let set = state::NAMES.iter().filter(|(bit, _)| info.state & bit != 0);
    let state: String = set.map(|(_, name)| format!(" {name}")).collect();
    let Info { sys_priority, port_id, port_priority, key, .. } = info;
    let sys_id = mac_text(info.sys_id);
    [
        format!("  {who} sys_id: {sys_id}"),
        format!("  {who} sys_priority: {sys_priority}"),
        format!("  {who} port_id: {port_id}"),
        format!("  {who} port_priority: {port_priority}"),
        format!("  {who} key: {key}"),
        format!("  {who} state:{state}"),
    ]
    .join("\n")
}
