//! What is to be known of each action beside its form: one row each, for the codec's checks and for the translation.

use crate::action::OfAction;
use flow::fields::Field;

/// Where an action stands in the order in which an action set is executed (OpenFlow 1.3 section 5.10, with OVS's additions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetPlace {
    CopyTtlIn,
    PopVlan,
    PopMpls,
    PopPbb,
    Decap,
    Encap,
    PushMpls,
    PushPbb,
    PushVlan,
    CopyTtlOut,
    DecTtl,
    DecMplsTtl,
    DecNshTtl,
    /// Field sets: they keep the order in which they were written.
    Set,
    Queue,
    /// What ends the set: group, output, resubmit, ct.
    Last,
}

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// Its place in an action set; `None`: it may not stand in one.
    pub in_set: Option<SetPlace>,
    /// Whether the datapath can set back what the action makes it do to the packet.
    pub reversible: bool,
    /// Whether it may look at what stands beneath MPLS labels or a tunnel's header.
    pub looks_beneath: bool,
}

const fn row(in_set: Option<SetPlace>, reversible: bool, looks_beneath: bool) -> Traits {
    Traits { in_set, reversible, looks_beneath }
}

const LASTING: bool = false;
const REVERSIBLE: bool = true;
const OUTSIDE: bool = false;
const BENEATH: bool = true;

impl OfAction {
    /// The action's row.
    #[must_use]
    pub fn traits(&self) -> Traits {
        use SetPlace as Place;
        match self {
            // What they look at depends on their arguments: here is the most of it.
            Self::Output { .. } => row(Some(Place::Last), REVERSIBLE, BENEATH),
            Self::SetField { .. } => row(Some(Place::Set), REVERSIBLE, BENEATH),

            Self::StripVlan { .. } => row(Some(Place::PopVlan), REVERSIBLE, BENEATH),
            Self::PopMpls { .. } => row(Some(Place::PopMpls), REVERSIBLE, BENEATH),
            Self::CopyTtlIn => row(Some(Place::CopyTtlIn), LASTING, BENEATH),
            Self::CopyTtlOut => row(Some(Place::CopyTtlOut), LASTING, BENEATH),
            Self::PopPbb => row(Some(Place::PopPbb), LASTING, BENEATH),
            Self::Decap { .. } => row(Some(Place::Decap), LASTING, BENEATH),
            Self::Encap(_) => row(Some(Place::Encap), LASTING, BENEATH),
            Self::PushMpls { .. } => row(Some(Place::PushMpls), REVERSIBLE, BENEATH),
            Self::PushPbb => row(Some(Place::PushPbb), LASTING, BENEATH),
            Self::PushVlan { .. } => row(Some(Place::PushVlan), REVERSIBLE, BENEATH),
            Self::DecTtl { .. } => row(Some(Place::DecTtl), REVERSIBLE, BENEATH),
            Self::DecMplsTtl => row(Some(Place::DecMplsTtl), REVERSIBLE, BENEATH),
            Self::DecNshTtl => row(Some(Place::DecNshTtl), LASTING, BENEATH),
            Self::SetQueue(_) => row(Some(Place::Queue), REVERSIBLE, OUTSIDE),
            Self::Group(_) => row(Some(Place::Last), REVERSIBLE, OUTSIDE),
            Self::Resubmit { .. } | Self::CtClear => row(Some(Place::Last), REVERSIBLE, BENEATH),
            Self::Ct(_) => row(Some(Place::Last), LASTING, BENEATH),
            Self::SetVlanVid { .. }
            | Self::SetVlanPcp { .. }
            | Self::SetEthSrc(_)
            | Self::SetEthDst(_)
            | Self::SetTunnel { .. } => row(Some(Place::Set), REVERSIBLE, OUTSIDE),
            Self::SetIpv4Src(_)
            | Self::SetIpv4Dst(_)
            | Self::SetIpDscp(_)
            | Self::SetIpEcn(_)
            | Self::SetIpTtl(_)
            | Self::SetL4Src(_)
            | Self::SetL4Dst(_)
            | Self::RegMove { .. }
            | Self::SetMplsLabel(_)
            | Self::SetMplsTc(_)
            | Self::SetMplsTtl(_) => row(Some(Place::Set), REVERSIBLE, BENEATH),

            Self::OutputTrunc { .. } => row(None, LASTING, OUTSIDE),
            Self::Nat(_) | Self::Meter(_) => row(None, LASTING, BENEATH),
            Self::OutputReg { .. } | Self::Enqueue { .. } => row(None, REVERSIBLE, OUTSIDE),
            Self::Controller(_)
            | Self::Bundle(_)
            | Self::StackPush(_)
            | Self::StackPop(_)
            | Self::PopQueue
            | Self::FinTimeout { .. }
            | Self::Learn(_)
            | Self::Conjunction { .. }
            | Self::Multipath(_)
            | Self::Note(_)
            | Self::Exit
            | Self::Sample(_)
            | Self::Clone(_)
            | Self::CheckPktLarger { .. }
            | Self::DeleteField(_)
            | Self::DebugRecirc
            | Self::DebugSlow
            | Self::ClearActions
            | Self::WriteActions(_)
            | Self::WriteMetadata { .. }
            | Self::GotoTable(_) => row(None, REVERSIBLE, BENEATH),
        }
    }

    /// The actions within: of clone, write_actions and ct.
    #[must_use]
    pub fn inner(&self) -> &[Self] {
        if let Self::Clone(list) | Self::WriteActions(list) = self {
            list
        } else if let Self::Ct(ct) = self {
            &ct.actions
        } else {
            &[]
        }
    }

    /// Calls `each` with every action of a list and with those within them, until one fails.
    ///
    /// # Errors
    /// The first that `each` gives.
    pub fn try_each<E>(list: &[Self], each: &mut impl FnMut(&Self) -> Result<(), E>) -> Result<(), E> {
        for action in list {
            each(action)?;
            Self::try_each(action.inner(), each)?;
        }
        Ok(())
    }

    /// Whether `test` holds for an action of a list, or for one within.
    pub fn any(list: &[Self], test: impl Fn(&Self) -> bool) -> bool {
        Self::try_each(list, &mut |action| if test(action) { Err(()) } else { Ok(()) }).is_err()
    }

    /// The field that set_field, load or move writes.
    #[must_use]
    pub const fn written(&self) -> Option<Field> {
        if let Self::SetField { field, .. } = self {
            Some(*field)
        } else if let Self::RegMove { dst, .. } = self {
            Some(dst.field)
        } else {
            None
        }
    }
}
