//! Order and nesting of actions in text: `wire::verify`'s rules, with what to tell the one who typed it.

use crate::action::OfAction;
use crate::text::TextError;
use crate::types::Version;
use crate::wire::{Instruction, Outer};
use flow::fields::Field;

/// Verifies a list as OpenFlow 1.1 has it.
pub(super) fn verify(actions: &[OfAction], outer: Outer) -> Result<(), TextError> {
    let mut last: Option<Instruction> = None;
    for action in actions {
        if matches!(action, OfAction::Conjunction { .. }) {
            let other = actions.iter().find(|a| !matches!(a, OfAction::Conjunction { .. } | OfAction::Note(_)));
            return other.map_or(Ok(()), |a| Err(TextError::ConjunctionNotAlone(name(a))));
        }
        nesting(action, outer)?;
        let next = Instruction::of(action, Version::V11);
        match last {
            Some(last) if next == last && last != Instruction::Apply => {
                return Err(TextError::DuplicateInstruction(instruction_name(last)));
            }
            Some(last) if next < last => {
                return Err(TextError::InstructionOrder { first: instruction_name(next), then: instruction_name(last) });
            }
            _ => {}
        }
        let allowed = outer == Outer::Flow || matches!(next, Instruction::Apply | Instruction::Meter);
        if !allowed {
            return Err(TextError::InstructionHere(instruction_name(next)));
        }
        last = Some(next);
    }
    Ok(())
}

fn nesting(action: &OfAction, outer: Outer) -> Result<(), TextError> {
    let field = action.written();
    let of_connection = field.is_some_and(|f| matches!(f, Field::CtMark | Field::CtLabel));
    if of_connection && outer != Outer::Ct {
        return Err(TextError::CtFieldOutside);
    }
    if matches!(action, OfAction::Nat(_)) {
        return if outer == Outer::Ct { Ok(()) } else { Err(TextError::NatOutside) };
    }
    let outer_name = match outer {
        Outer::Flow | Outer::Actions => return Ok(()),
        Outer::Clone => "clone",
        Outer::Ct => "ct",
        Outer::WriteActions => "write_actions",
    };
    if outer == Outer::Ct && !of_connection {
        return Err(match field {
            Some(field) => TextError::NestedField { outer: outer_name, field: field.row().name },
            None => TextError::Nesting { outer: outer_name, inner: name(action) },
        });
    }
    if matches!(action, OfAction::Meter(_)) {
        return Err(TextError::Nesting { outer: outer_name, inner: "meter" });
    }
    Ok(())
}

fn instruction_name(instruction: Instruction) -> &'static str {
    match instruction {
        Instruction::Meter => "meter",
        Instruction::Apply => "apply_actions",
        Instruction::Clear => "clear_actions",
        Instruction::Write => "write_actions",
        Instruction::Metadata => "write_metadata",
        Instruction::Goto => "goto_table",
    }
}

/// What OVS calls an action, whatever word it came by.
#[allow(clippy::too_many_lines, reason = "one line per action")]
pub(crate) fn name(action: &OfAction) -> &'static str {
    match action {
        OfAction::Output { .. } => "output",
        OfAction::OutputReg { .. } => "output_reg",
        OfAction::OutputTrunc { .. } => "output_trunc",
        OfAction::Controller(_) => "controller",
        OfAction::Enqueue { .. } => "enqueue",
        OfAction::Group(_) => "group",
        OfAction::Bundle(_) => "bundle",
        OfAction::SetVlanVid { .. } => "set_vlan_vid",
        OfAction::SetVlanPcp { .. } => "set_vlan_pcp",
        OfAction::StripVlan { .. } => "strip_vlan",
        OfAction::PushVlan { .. } => "push_vlan",
        OfAction::SetEthSrc(_) => "mod_dl_src",
        OfAction::SetEthDst(_) => "mod_dl_dst",
        OfAction::SetIpv4Src(_) => "mod_nw_src",
        OfAction::SetIpv4Dst(_) => "mod_nw_dst",
        OfAction::SetIpDscp(_) => "mod_nw_tos",
        OfAction::SetIpEcn(_) => "mod_nw_ecn",
        OfAction::SetIpTtl(_) => "mod_nw_ttl",
        OfAction::SetL4Src(_) => "mod_tp_src",
        OfAction::SetL4Dst(_) => "mod_tp_dst",
        OfAction::RegMove { .. } => "move",
        OfAction::SetField { .. } => "set_field",
        OfAction::StackPush(_) => "push",
        OfAction::StackPop(_) => "pop",
        OfAction::DecTtl { .. } => "dec_ttl",
        OfAction::SetMplsLabel(_) => "set_mpls_label",
        OfAction::SetMplsTc(_) => "set_mpls_tc",
        OfAction::SetMplsTtl(_) => "set_mpls_ttl",
        OfAction::DecMplsTtl => "dec_mpls_ttl",
        OfAction::PushMpls { .. } => "push_mpls",
        OfAction::PopMpls { .. } => "pop_mpls",
        OfAction::CopyTtlOut => "copy_ttl_out",
        OfAction::CopyTtlIn => "copy_ttl_in",
        OfAction::PushPbb => "push_pbb",
        OfAction::PopPbb => "pop_pbb",
        OfAction::SetTunnel { .. } => "set_tunnel",
        OfAction::SetQueue(_) => "set_queue",
        OfAction::PopQueue => "pop_queue",
        OfAction::FinTimeout { .. } => "fin_timeout",
        OfAction::Resubmit { .. } => "resubmit",
        OfAction::Learn(_) => "learn",
        OfAction::Conjunction { .. } => "conjunction",
        OfAction::Multipath(_) => "multipath",
        OfAction::Note(_) => "note",
        OfAction::Exit => "exit",
        OfAction::Sample(_) => "sample",
        OfAction::Clone(_) => "clone",
        OfAction::Ct(_) => "ct",
        OfAction::Nat(_) => "nat",
        OfAction::CtClear => "ct_clear",
        OfAction::Encap(_) => "encap",
        OfAction::Decap { .. } => "decap",
        OfAction::DecNshTtl => "dec_nsh_ttl",
        OfAction::CheckPktLarger { .. } => "check_pkt_larger",
        OfAction::DeleteField(_) => "delete_field",
        OfAction::DebugRecirc => "debug_recirc",
        OfAction::DebugSlow => "debug_slow",
        OfAction::Meter(_) => "meter",
        OfAction::ClearActions => "clear_actions",
        OfAction::WriteActions(_) => "write_actions",
        OfAction::WriteMetadata { .. } => "write_metadata",
        OfAction::GotoTable(_) => "goto_table",
    }
}
