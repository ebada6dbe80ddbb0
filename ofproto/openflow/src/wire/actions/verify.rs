//! The order and nesting of actions, which depend on no match: what may stand in what, and in which order (`ofpacts_verify`).

use crate::action::OfAction;
use crate::error::OfError;
use crate::types::Version;
use flow::fields::Field;

/// What a list of actions stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outer {
    /// A flow: instructions too.
    Flow,
    /// A packet-out, a bucket, a continuation: actions, and a meter.
    Actions,
    /// clone(...)
    Clone,
    /// ct(...)
    Ct,
    /// write_actions(...) of the text syntax
    WriteActions,
}

/// Instructions in the order in which they are executed (OpenFlow 1.3, 5.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Instruction {
    Meter,
    Apply,
    Clear,
    Write,
    Metadata,
    Goto,
}

impl Instruction {
    /// The instruction that an action is, or stands in.
    #[must_use]
    #[allow(clippy::wildcard_enum_match_arm, reason = "all that are not instructions themselves stand in apply_actions")]
    pub fn of(action: &OfAction, version: Version) -> Self {
        match action {
            OfAction::Meter(_) if version < Version::V15 => Self::Meter,
            OfAction::ClearActions => Self::Clear,
            OfAction::WriteActions(_) => Self::Write,
            OfAction::WriteMetadata { .. } => Self::Metadata,
            OfAction::GotoTable(_) => Self::Goto,
            _ => Self::Apply,
        }
    }
}

fn allowed(outer: Outer, instruction: Instruction) -> bool {
    match outer {
        Outer::Flow => true,
        Outer::Actions => matches!(instruction, Instruction::Apply | Instruction::Meter),
        Outer::Clone | Outer::Ct | Outer::WriteActions => instruction == Instruction::Apply,
    }
}

/// Verifies a list.
///
/// # Errors
/// `NXBAC_BAD_CONJUNCTION`, `OFPBAC_BAD_SET_ARGUMENT` (conntrack outside of ct), `OFPBAC_BAD_ARGUMENT` (nesting),
/// `OFPBAC_UNSUPPORTED_ORDER`, `OFPBIC_UNSUP_INST`, `OFPBAC_BAD_TYPE`.
pub fn verify(actions: &[OfAction], version: Version, outer: Outer) -> Result<(), OfError> {
    let mut last: Option<Instruction> = None;
    for action in actions {
        if matches!(action, OfAction::Conjunction { .. }) {
            let alone = actions.iter().all(|a| matches!(a, OfAction::Conjunction { .. } | OfAction::Note(_)));
            return if alone { Ok(()) } else { Err(OfError::NxbacBadConjunction) };
        }
        nesting(action, outer)?;
        let next = Instruction::of(action, version);
        let ordered = last.is_none_or(|last| if last == Instruction::Apply { next >= last } else { next > last });
        if !ordered {
            return Err(OfError::OfpbacUnsupportedOrder);
        }
        if !allowed(outer, next) {
            return Err(OfError::OfpbicUnsupInst);
        }
        last = Some(next);
    }
    Ok(())
}

/// Fields that belong to a connection.
fn of_connection(field: Field) -> bool {
    matches!(field, Field::CtMark | Field::CtLabel)
}

fn nesting(action: &OfAction, outer: Outer) -> Result<(), OfError> {
    let field = action.written();
    if outer != Outer::Ct && (field.is_some_and(of_connection) || matches!(action, OfAction::Nat(_))) {
        return Err(OfError::OfpbacBadSetArgument);
    }
    if outer == Outer::Ct && !matches!(action, OfAction::Nat(_)) && !field.is_some_and(of_connection) {
        return Err(OfError::OfpbacBadArgument);
    }
    if matches!(outer, Outer::Ct | Outer::WriteActions) && matches!(action, OfAction::Meter(_)) {
        return Err(OfError::OfpbacBadArgument);
    }
    Ok(())
}

/// Whether the action may stand in an action set (OpenFlow 1.3, 5.10).
#[must_use]
pub fn in_action_set(action: &OfAction) -> bool {
    action.traits().in_set.is_some()
}
