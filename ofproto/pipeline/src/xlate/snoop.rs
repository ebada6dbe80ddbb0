//! NORMAL's way with multicast when the bridge snoops on IGMP and MLD (RFC 4541): reports to routers, data to whom it may concern.

use super::trace::Kind;
use super::vlan::Tags;
use super::{Ctx, compose};
use crate::bridge::{Bundle, BundleId};
use crate::deps::Object;
use crate::mcast::parse::{self, GroupAddr};
use crate::mcast::{McastTable, Source};
use flow::extract::{PacketMeta, extract_whole};
use flow::key::Key;

const ETH_IPV4: [u8; 2] = [0x08, 0x00];
const ETH_IPV6: [u8; 2] = [0x86, 0xdd];
const BROADCAST: [u8; 6] = [0xff; 6];
const IGMP: u8 = 2;
const ICMPV6: u8 = 58;

/// Where a packet goes besides the bundles that are known to want it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    /// `mcast-snooping-flood-reports`
    Reports,
    /// `mcast-snooping-flood`
    Data,
}

impl<'a> Ctx<'a> {
    /// Forwards multicast by the table, if that is how this packet is to be forwarded. Gives false if it is not.
    pub(super) fn forward_multicast(&mut self, from: Option<&'a Bundle>, inside: Tags) -> bool {
        let Some(table) = &self.bridge.mcast else { return false };
        let is_ip = matches!(self.key.eth_type, ETH_IPV4 | ETH_IPV6);
        if !is_ip || self.key.eth_dst[0] & 1 == 0 || self.key.eth_dst == BROADCAST {
            return false;
        }
        self.mask.nw_proto = 0xff;
        let kind = self.key.tp_src[1];
        match (self.key.eth_type, self.key.nw_proto) {
            (ETH_IPV4, IGMP) => self.forward_igmp(table, from, inside),
            (ETH_IPV6, ICMPV6) if self.is_mld(kind) => {
                self.slow |= compose::SLOW_ACTION;
                self.snoop(table, from, inside);
                if parse::is_mld_report(kind) {
                    self.forward_report(table, from, inside);
                } else {
                    self.report(Kind::Detail, format_args!("MLD query, flooding"));
                    self.flood_vlan(from, inside);
                }
            }
            _ => self.forward_data(table, from, inside),
        }
        true
    }

    fn is_mld(&mut self, kind: u8) -> bool {
        self.mask.tp_src = [0xff; 2];
        parse::is_mld(kind)
    }

    /// Each IGMP packet comes up: a megaflow would keep the table from being refreshed.
    fn forward_igmp(&mut self, table: &McastTable, from: Option<&'a Bundle>, inside: Tags) {
        self.slow |= compose::SLOW_ACTION;
        self.mask.tp_src = [0xff; 2];
        let kind = self.key.tp_src[1];
        self.snoop(table, from, inside);
        if parse::is_igmp_membership(kind) {
            self.forward_report(table, from, inside);
        } else {
            self.report(Kind::Detail, format_args!("multicast traffic, flooding"));
            self.flood_vlan(from, inside);
        }
    }

    /// RFC 4541 section 2.1.1 (1): reports go to routers only, and to ports that are configured to have them.
    fn forward_report(&mut self, table: &McastTable, from: Option<&'a Bundle>, inside: Tags) {
        let mut to = self.router_bundles(table, from, inside);
        self.add_configured(&mut to, from, Beside::Reports);
        self.send_to_all(to, inside);
    }

    fn forward_data(&mut self, table: &McastTable, from: Option<&'a Bundle>, inside: Tags) {
        let group = if self.key.eth_type == ETH_IPV4 {
            self.mask.nw_dst = [0xff; 4];
            GroupAddr::v4(self.key.nw_dst)
        } else {
            self.mask.ipv6_dst = [0xff; 16];
            GroupAddr(self.key.ipv6_dst)
        };
        if is_link_local(group) {
            self.report(Kind::Detail, format_args!("RFC4541: section 2.1.2, item 2, flooding"));
            return self.flood_vlan(from, inside);
        }
        self.deps.object(table.group_object(inside[0].vid, group));
        let to = match table.members(inside[0].vid, group) {
            Some(members) => {
                let mut to = self.member_bundles(&members, from);
                self.add_configured(&mut to, from, Beside::Data);
                to.extend(self.router_bundles(table, from, inside));
                to
            }
            None if table.floods_unregistered() => {
                self.report(Kind::Detail, format_args!("unregistered multicast, flooding"));
                return self.flood_vlan(from, inside);
            }
            None => {
                let mut to = self.router_bundles(table, from, inside);
                self.add_configured(&mut to, from, Beside::Data);
                to
            }
        };
        self.send_to_all(to, inside);
    }

    fn member_bundles(&mut self, members: &[BundleId], from: Option<&Bundle>) -> Vec<BundleId> {
        let mut to = Vec::new();
        for member in members {
            if from.is_some_and(|f| f.id == *member) {
                self.report(Kind::Detail, format_args!("mcast group port is input port, dropping"));
            } else if self.bridge.bundles.contains_key(member) {
                self.report(Kind::Detail, format_args!("forwarding to mcast group port"));
                to.push(*member);
            } else {
                self.report(Kind::Warn, format_args!("mcast group port is unknown, dropping"));
            }
        }
        to
    }

    fn router_bundles(&mut self, table: &McastTable, from: Option<&Bundle>, inside: Tags) -> Vec<BundleId> {
        self.deps.object(table.routers_object(inside[0].vid));
        let mut to = Vec::new();
        for (vlan, bundle) in table.routers() {
            if !self.bridge.bundles.contains_key(&bundle) {
                self.report(Kind::Warn, format_args!("mcast router port is unknown, dropping"));
            } else if vlan != inside[0].vid {
                self.report(Kind::Detail, format_args!("mcast router is on another vlan, dropping"));
            } else if from.is_some_and(|f| f.id == bundle) {
                self.report(Kind::Detail, format_args!("mcast router port is input port, dropping"));
            } else {
                self.report(Kind::Detail, format_args!("forwarding to mcast router port"));
                to.push(bundle);
            }
        }
        to
    }

    /// Bundles that are configured to have all reports, or all data.
    fn add_configured(&mut self, to: &mut Vec<BundleId>, from: Option<&Bundle>, what: Beside) {
        self.deps.object(Object::Ports(self.bridge.id));
        let (sends, is_input) = match what {
            Beside::Reports => ("forwarding report to mcast flagged port", "mcast port is input port, dropping the Report"),
            Beside::Data => ("forwarding to mcast flood port", "mcast flood port is input port, dropping"),
        };
        for bundle in self.bridge.bundles.values() {
            let wanted = if what == Beside::Reports { bundle.mcast_flood_reports } else { bundle.mcast_flood };
            if !wanted {
                continue;
            }
            if from.is_some_and(|f| f.id == bundle.id) {
                self.report(Kind::Detail, format_args!("{is_input}"));
            } else {
                self.report(Kind::Detail, format_args!("{sends}"));
                to.push(bundle.id);
            }
        }
    }

    fn send_to_all(&mut self, to: Vec<BundleId>, inside: Tags) {
        let bridge = self.bridge;
        let mut done = Vec::new();
        for id in to {
            if done.contains(&id) {
                continue;
            }
            done.push(id);
            if let Some(bundle) = bridge.bundles.get(&id) {
                self.output_to_bundle(bundle, inside);
            }
        }
    }

    /// Takes up what the packet says, if this is the packet itself and not a question about one.
    fn snoop(&mut self, table: &McastTable, from: Option<&Bundle>, inside: Tags) {
        let (Some(packet), Some(from)) = (self.packet, from) else { return };
        if !self.side_effects || from.mcast_flood {
            return;
        }
        let (name, vlan) = (from.name.as_str(), inside[0].vid);
        let events = match read(packet, &self.key) {
            Ok(events) => events,
            Err(error) => {
                self.report(Kind::Detail, format_args!("multicast snooping received {error} on port {name} in VLAN {vlan}"));
                return;
            }
        };
        let source = Source { floods_reports: from.mcast_flood_reports };
        let news = events.into_iter().filter(|event| table.learn(*event, vlan, from.id, source, self.now)).collect::<Vec<_>>();
        // Of a message that may name several groups only their number is told.
        let names_one = self.key.eth_type == ETH_IPV4 && self.key.tp_src[1] != parse::IGMP_V3_REPORT;
        match news.first() {
            None => 0,
            Some(parse::Event::Query) => {
                self.report(Kind::Detail, format_args!("multicast snooping query on port {name} in VLAN {vlan}"))
            }
            Some(parse::Event::Join(group)) if names_one => self
                .report(Kind::Detail, format_args!("multicast snooping learned that {group} is on port {name} in VLAN {vlan}")),
            Some(parse::Event::Leave(group)) if names_one => {
                self.report(Kind::Detail, format_args!("multicast snooping leaving {group} is on port {name} in VLAN {vlan}"))
            }
            Some(_) => self.report(
                Kind::Detail,
                format_args!("multicast snooping processed {} addresses on port {name} in VLAN {vlan}", news.len()),
            ),
        };
    }
}

/// The message in a packet.
fn read(packet: &[u8], key: &Key) -> Result<Vec<parse::Event>, parse::Malformed> {
    let mut parsed = Key::ZERO;
    let at = extract_whole(packet, &PacketMeta::default(), &mut parsed);
    let end = packet.len().saturating_sub(usize::from(at.l2_pad));
    let message = packet.get(usize::from(at.l4)..end).unwrap_or_default();
    if key.eth_type == ETH_IPV4 {
        parse::igmp(message, parsed.nw_src)
    } else {
        parse::mld(message, &parsed.ipv6_src, &parsed.ipv6_dst)
    }
}

/// 224.0.0.0/24, and all hosts of the link (RFC 4541 sections 2.1.2 (2) and 3): nobody reports these groups, or not reliably.
fn is_link_local(group: GroupAddr) -> bool {
    const ALL_HOSTS: [u8; 16] = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    matches!(group.0, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 224, 0, 0, _]) || group.0 == ALL_HOSTS
}

#[cfg(test)]
mod tests {
    use crate::scenario::{Scenario, config};

    /// What a trace says of snooping, of a packet in hexadecimal into port 2.
    fn told(s: &Scenario, packet: &str) -> Vec<String> {
        let trace = s.run_command("ofproto/trace", &["br0", "in_port=2", packet]).unwrap();
        trace.lines().filter_map(|l| l.split_once("multicast snooping ")).map(|(_, rest)| rest.to_owned()).collect()
    }

    #[test]
    fn a_trace_names_one_group_or_tells_how_many() {
        let mut config = config(&["br0 p1@1 p2@2"]);
        config.bridges[0].mcast_snooping =
            Some(crate::config::McastConfig { table_size: 8, aging_s: 300, flood_unregistered: true });
        let s = Scenario::new(&config);
        s.flow_mod("br0", "actions=NORMAL").unwrap();
        let report = "01005e000001505400000001080046000020000140000102f9d40a000001e100000194040000160008fee1000001";
        assert_eq!(told(&s, report), ["learned that 225.0.0.1 is on port p2 in VLAN 0"]);
        assert_eq!(told(&s, report), [""; 0], "it is known");
        let leave = "01005e000002505400000001080046000020000140000102fad30a000001e000000294040000170007fee1000001";
        assert_eq!(told(&s, leave), ["leaving 225.0.0.1 is on port p2 in VLAN 0"]);
        let two = "01005e000016505400000001080046000030000140000102faad0a000003e000001694040000220013f90000000204000000e100000104000000e1000002";
        assert_eq!(told(&s, two), ["processed 2 addresses on port p2 in VLAN 0"]);
        let mld = "33330000000550540000000286dd6000000000200001fe800000000000000000000000000001ff0e00000000000000000000000000053a000502000001008300800300000000ff0e0000000000000000000000000005";
        assert_eq!(told(&s, mld), ["processed 1 addresses on port p2 in VLAN 0"]);
    }
}
