//! The reference switch with four ports and the eSwitch model beside it, and megaflows that are told apart by their number.

use datapath::Reference;
use flow::action_text::parse_actions;
use flow::dptext::parse_flow;
use flow::forms::NoNames;
use flow::seam::{FlowPut, PortRequest, PutMode};
use flow::{Datapath, DpPort, Megaflow, Ufid};
use offload::capabilities::Capabilities;
use offload::model::{Model, Options, SameNumbers};
use offload::tc::client::Tc;
use offload::{PortKind, Tiered};
use std::sync::Arc;

pub(crate) type Switch = Tiered<Reference, Tc<Model, SameNumbers>>;

/// All that the model has, on these ports.
pub(crate) fn capabilities(ports: &[u32]) -> Capabilities {
    let mut can = Capabilities { ct: false, eth_push_pop: false, ..Capabilities::all() };
    can.ports.extend(ports.iter().map(|n| (DpPort(*n), PortKind::Switch(1))));
    can
}

/// Ports 1 to 4.
pub(crate) fn software() -> Reference {
    let dp = Reference::new();
    for n in 1..=4 {
        let request =
            PortRequest { name: format!("p{n}"), kind: "dummy".into(), number: Some(DpPort(n)), ..PortRequest::default() };
        dp.port_add(&request).unwrap();
    }
    dp
}

pub(crate) fn tiered(options: Options) -> Switch {
    Tiered::new(software(), Tc::new(Model::new(options), SameNumbers), capabilities(&[1, 2, 3, 4]))
}

/// UDP from port 1 to an address of its own.
pub(crate) fn megaflow(n: u32, actions: &str) -> Megaflow {
    let text = format!(
        "packet_type(ns=0,id=0),recirc_id(0),in_port(1),eth_type(0x0800),ipv4(dst=10.0.{}.{},proto=17,frag=no)",
        n / 256,
        n % 256
    );
    let parsed = parse_flow(&text, &NoNames).unwrap();
    let actions = Arc::new(parse_actions(actions, &NoNames).unwrap());
    Megaflow { ufid: Ufid(n.into()), key: parsed.key, mask: parsed.mask, actions }
}

pub(crate) fn put(dp: &Switch, n: u32, actions: &str) {
    let flow = megaflow(n, actions);
    dp.put(&[FlowPut { flow, mode: PutMode::CreateOrModify, clear_stats: false }])[0].clone().unwrap();
}
