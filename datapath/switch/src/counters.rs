//! The counters of the software switch, under OVS's coverage names where it has them (`coverage/show`).

flow::counters! {
    DROP_UPCALL_ERROR = "datapath_drop_upcall_error", "A packet for userspace was lost: the queue of those that came in as it did was full, or nobody listens.";
    DROP_METER = "datapath_drop_meter", "A meter's band dropped the packet.";
    DROP_USERSPACE_ACTION = "datapath_drop_userspace_action_error", "A packet that a userspace action sent up was lost.";
    DROP_TUNNEL_PUSH = "datapath_drop_tunnel_push_error", "A tunnel header could not be put before the packet.";
    DROP_TUNNEL_POP = "datapath_drop_tunnel_pop_error", "A tunnel header could not be removed.";
    DROP_TUNNEL_MTU = "datapath_drop_tunnel_mtu", "A packet was too long for the tunnel's way out, and no answer may be given to its sender.";
    TUNNEL_MTU_ANSWERED = "datapath_tunnel_mtu_answered", "The sender of a packet too long for a tunnel was told how long it may be.";
    TUNNEL_MTU_FRAGMENTED = "datapath_tunnel_mtu_fragmented", "A packet too long for a tunnel was cut into fragments.";
    DROP_TUNNEL_UNCUT = "datapath_drop_tunnel_uncut", "A tunnel brought UDP datagrams in one, which the kernel of this machine meant hardware to cut.";
    TUNNEL_MENDED = "datapath_tunnel_checksum_completed", "A packet that came out of a tunnel by the host's stack had no checksum yet.";
    DROP_RECIRC = "datapath_drop_recirc_error", "The packet went round too often.";
    DROP_INVALID_PORT = "datapath_drop_invalid_port", "The output port does not exist or is down.";
    DROP_INVALID_BOND = "datapath_drop_invalid_bond", "The bond of a lb_output action does not exist.";
    DROP_INVALID_TUNNEL_PORT = "datapath_drop_invalid_tnl_port", "The tunnel port of a tunnel action does not exist.";
    DROP_RX_INVALID = "datapath_drop_rx_invalid_packet", "A received packet was too short to be a frame.";
    DROP_POLICED = "datapath_drop_policed", "A port received more than its ingress policing lets in.";
    DROP_SAMPLE = "datapath_drop_sample_error", "A sample could not be taken.";
    DROP_NSH_DECAP = "datapath_drop_nsh_decap_error", "There was no NSH header to remove.";
    DROP_REWRITE = "datapath_drop_rewrite_error", "A header that an action changes was not there, or there was no room for one.";
    DROP_NO_BUFFER = "datapath_drop_no_buffer", "There was no buffer for a copy of the packet.";
    DROP_NESTING = "datapath_drop_nesting", "Actions were nested too deeply.";
    DROP_TTL = "datapath_drop_ttl_expired", "The TTL reached zero and the exception actions were none.";
    DROP_UNSUPPORTED = "datapath_drop_unsupported_action", "An action that this datapath cannot carry out was executed.";
    DROP_PIPELINE = "drop_action_of_pipeline", "The actions were to drop.";
    DROP_BRIDGE = "drop_action_bridge_not_found", "Translation: bridge not found.";
    DROP_RECURSION = "drop_action_recursion_too_deep", "Translation: recursion too deep.";
    DROP_RESUBMITS = "drop_action_too_many_resubmit", "Translation: too many resubmits.";
    DROP_STACK = "drop_action_stack_too_deep", "Translation: stack too deep.";
    DROP_NO_RECIRC_CONTEXT = "drop_action_no_recirculation_context", "Translation: no recirculation context.";
    DROP_RECIRC_CONFLICT = "drop_action_recirculation_conflict", "Translation: recirculation conflict.";
    DROP_MPLS_LABELS = "drop_action_too_many_mpls_labels", "Translation: too many MPLS labels.";
    DROP_TUNNEL_METADATA = "drop_action_invalid_tunnel_metadata", "Translation: invalid tunnel metadata.";
    DROP_PACKET_TYPE = "drop_action_unsupported_packet_type", "Translation: unsupported packet type.";
    DROP_CONGESTION = "drop_action_congestion", "Translation: congestion.";
    DROP_FORWARDING_DISABLED = "drop_action_forwarding_disabled", "Translation: forwarding disabled on the port.";
    DROP_TUNNEL_ROUTING = "drop_action_tunnel_routing_failed", "Translation: no route to the tunnel's end.";
    DROP_TUNNEL_OUTPUT = "drop_action_tunnel_output_no_ethernet", "Translation: the tunnel's output has no Ethernet.";
    DROP_TUNNEL_NEIGHBOUR = "drop_action_tunnel_neigh_cache_miss", "Translation: the neighbour's address is not known.";
    DROP_TUNNEL_HEADER = "drop_action_tunnel_header_build_failed", "Translation: the tunnel header could not be built.";
    CACHE_EVICTED = "datapath_cache_evicted", "A signature cache entry gave way to another flow's.";
    FLOW_TABLE_FULL = "datapath_flow_table_full", "A megaflow was refused: the datapath holds as many as it may.";
    PORT_VANISHED = "datapath_port_vanished", "A port's device went away.";
    PORT_RETURNED = "datapath_port_returned", "A port whose device had gone was taken up again.";
    WORKER_SLEEPS = "datapath_worker_sleep", "A worker found nothing to do and went to sleep.";
}

/// The counter of an explicit drop action with translation's reason (`enum xlate_error`; reference: actions.md, section 5).
#[must_use]
pub fn of_drop_reason(reason: u32) -> &'static flow::counter::Counter {
    const ROWS: [&flow::counter::Counter; 16] = [
        &DROP_PIPELINE,
        &DROP_BRIDGE,
        &DROP_RECURSION,
        &DROP_RESUBMITS,
        &DROP_STACK,
        &DROP_NO_RECIRC_CONTEXT,
        &DROP_RECIRC_CONFLICT,
        &DROP_MPLS_LABELS,
        &DROP_TUNNEL_METADATA,
        &DROP_PACKET_TYPE,
        &DROP_CONGESTION,
        &DROP_FORWARDING_DISABLED,
        &DROP_TUNNEL_ROUTING,
        &DROP_TUNNEL_OUTPUT,
        &DROP_TUNNEL_NEIGHBOUR,
        &DROP_TUNNEL_HEADER,
    ];
    usize::try_from(reason).ok().and_then(|i| ROWS.get(i)).copied().unwrap_or(&DROP_PIPELINE)
}
