//! Mirrors of a bridge, with the names of the configuration resolved to bundles.
//!
//! What enters: `slowpath` builds them. What leaves: `xlate` asks which mirrors select a packet. Bits of at most `MIRRORS_MAX`.

use crate::bridge::{BundleId, VlanSet};
use crate::rule::Tally;
use flow::forms::PortNames;
use flow::matching::Match;
use flow::oftext::{MatchTextError, parse_match_with};
use std::sync::Arc;

/// Mirrors per bridge.
pub const MIRRORS_MAX: usize = 32;

/// A mirror.
#[derive(Clone, Debug)]
pub struct Mirror {
    pub name: String,
    /// Every packet that enters or leaves.
    pub all: bool,
    pub src: Vec<BundleId>,
    pub dst: Vec<BundleId>,
    /// Empty: all VLANs.
    pub vlans: VlanSet,
    pub output: Option<BundleId>,
    pub output_vlan: Option<u16>,
    pub snaplen: Option<u16>,
    /// Of the packets selected only those that match are mirrored.
    pub filter: Option<Box<Match>>,
    pub tally: Arc<Tally>,
}

impl Mirror {
    /// Whether packets received through a bundle are selected.
    #[must_use]
    pub fn selects_input(&self, bundle: BundleId) -> bool {
        self.all || self.src.contains(&bundle)
    }

    /// Whether packets sent through a bundle are selected.
    #[must_use]
    pub fn selects_output(&self, bundle: BundleId) -> bool {
        (self.all || self.dst.contains(&bundle)) && self.output != Some(bundle)
    }
}

/// Reads `Mirror.filter`: a match as in flows, ports of the bridge by name or number.
///
/// # Errors
/// What is wrong with the text.
pub fn read_filter(text: &str, ports: &dyn PortNames) -> Result<Box<Match>, MatchTextError> {
    parse_match_with(text, ports).map(Box::new)
}

#[cfg(test)]
mod tests {
    use crate::config::MirrorConfig;
    use crate::scenario::{Scenario, config};

    /// A packet of 54 bytes and 20 of payload, to port `tp_dst`.
    fn tcp(in_port: u32, vlan: &str, tp_dst: u16) -> String {
        let ip = format!("eth_type(0x0800),ipv4(src=10.0.0.1,dst=10.0.0.2,proto=6,tos=0,ttl=64,frag=no),tcp(src=9,dst={tp_dst})");
        let inside = if vlan.is_empty() { ip } else { format!("eth_type(0x8100),vlan({vlan}),encap({ip})") };
        format!("in_port({in_port}),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),{inside}")
    }

    /// The ports that a packet left by, in order.
    fn ports(s: &Scenario, packet: &str) -> Vec<String> {
        s.send(packet).lines().map(|l| l.split(':').next().unwrap().to_owned()).collect()
    }

    fn mirror(name: &str, filter: Option<&str>) -> MirrorConfig {
        MirrorConfig {
            name: name.into(),
            select_all: true,
            output_port: Some("p3".into()),
            filter: filter.map(str::to_owned),
            ..MirrorConfig::default()
        }
    }

    fn switch(mirrors: Vec<MirrorConfig>, flow: &str) -> Scenario {
        let mut config = config(&["br0 p1@1 p2@2 p3@3 p4@4"]);
        config.bridges[0].mirrors = mirrors;
        let s = Scenario::new(&config);
        s.flow_mod("br0", flow).unwrap();
        s
    }

    #[test]
    fn only_what_the_filter_matches_is_mirrored() {
        let s = switch(vec![mirror("m", Some("tcp,tp_dst=80"))], "actions=output:2");
        // The megaflow of the first packet is not that of the second: it was made with the filter's bits.
        assert_eq!(ports(&s, &tcp(1, "", 81)), ["2"]);
        assert_eq!(ports(&s, &tcp(1, "", 80)), ["3", "2"]);
        assert_eq!(ports(&s, &tcp(1, "", 81)), ["2"]);
    }

    #[test]
    fn a_filter_sees_a_packet_as_it_came_and_as_it_leaves() {
        let by_name = switch(vec![mirror("m", Some("in_port=p1,tcp"))], "actions=output:2");
        assert_eq!(ports(&by_name, &tcp(1, "", 80)), ["3", "2"]);
        assert_eq!(ports(&by_name, &tcp(4, "", 80)), ["2"]);
        let mut outgoing = mirror("m", Some("tcp,tp_dst=99"));
        outgoing.select_all = false;
        outgoing.dst_ports = vec!["p2".into()];
        let s = switch(vec![outgoing], "tcp,actions=set_field:99->tcp_dst,output:2");
        assert_eq!(ports(&s, &tcp(1, "", 80)), ["2", "3"]);
        // Under a tag that the pipeline takes off: the tag's own bits decide.
        let tagged = switch(vec![mirror("m", Some("dl_vlan=7"))], "actions=strip_vlan,output:2");
        assert_eq!(ports(&tagged, &tcp(1, "vid=8,pcp=0", 80)), ["2"]);
        assert_eq!(ports(&tagged, &tcp(1, "vid=7,pcp=0", 80)), ["3", "2"]);
    }

    #[test]
    fn a_mirror_whose_filter_says_no_leaves_the_packet_to_another() {
        let s = switch(vec![mirror("a", Some("udp")), mirror("b", None)], "actions=output:2");
        assert_eq!(ports(&s, &tcp(1, "", 80)), ["3", "2"]);
        let counted = |s: &Scenario| {
            s.run_command("revalidator/wait", &[]).unwrap();
            s.slowpath.status(true).bridges[0].mirrors.clone()
        };
        assert_eq!(counted(&s), [("a".to_owned(), 0, 0), ("b".to_owned(), 1, 74)]);
        // Megaflows count what the datapath forwards by them.
        assert_eq!(ports(&s, &tcp(1, "", 80)), ["3", "2"]);
        assert_eq!(counted(&s), [("a".to_owned(), 0, 0), ("b".to_owned(), 2, 148)]);
    }

    #[test]
    fn a_filter_that_cannot_be_read_makes_no_mirror() {
        let s = switch(vec![mirror("m", Some("tcp,tp_dst=many"))], "actions=output:2");
        assert_eq!(ports(&s, &tcp(1, "", 80)), ["2"]);
        assert_eq!(s.slowpath.status(true).bridges[0].mirrors, []);
    }

    #[test]
    fn what_comes_in_by_a_mirrors_port_is_counted_and_goes_nowhere() {
        let s = switch(vec![mirror("m", None)], "actions=NORMAL");
        assert!(ports(&s, &tcp(3, "", 80)).is_empty());
        let flows = s.run_command("bridge/dump-flows", &["br0"]).unwrap();
        assert!(flows.contains("n_packets=1, n_bytes=74, ,actions=NORMAL"), "{flows}");
    }
}
