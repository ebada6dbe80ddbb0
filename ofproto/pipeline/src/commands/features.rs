//! `dpif/show-dp-features` and `dpif/set-dp-features`: what a datapath can do, and what translation is kept from using.

use super::Outcome;
use super::dpif::NO_SUCH_BRIDGE;
use super::show::write;
use crate::deps::Object;
use crate::slowpath::Slowpath;
use crate::world::DatapathBackend;
use flow::seam::DpFeatures;

/// A value: yes or no, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Bool(bool),
    Number(u32),
}

impl Value {
    fn text(self) -> String {
        match self {
            Self::Bool(b) => b.to_string(),
            Self::Number(n) => n.to_string(),
        }
    }
}

/// A row: names, and where the datapath says it. A feature that `DpFeatures` has no field of its own for is kept by name among
/// those withheld.
struct Feature {
    name: &'static str,
    title: &'static str,
    read: fn(&DpFeatures) -> Value,
    write: Option<fn(&mut DpFeatures, Value)>,
}

macro_rules! features {
    ($( $name:literal, $title:literal, $kind:ident $field:ident $($own:ident)?; )*) => {
        &[ $( Feature {
            name: $name,
            title: $title,
            read: |f| features!(@read $kind f.$field),
            write: features!(@write $kind $field $($own)?),
        } ),* ]
    };
    (@read flag $v:expr) => { Value::Bool($v) };
    (@read count $v:expr) => { Value::Number($v) };
    (@read has $v:expr) => { Value::Number(u32::from($v)) };
    (@write flag $field:ident own) => { Some(|f: &mut DpFeatures, v| if let Value::Bool(b) = v { f.$field = b }) };
    (@write count $field:ident own) => { Some(|f: &mut DpFeatures, v| if let Value::Number(n) = v { f.$field = n }) };
    (@write $kind:ident $field:ident) => { None };
}

const FEATURES: &[Feature] = features![
    "masked_set_action", "Masked set action", flag masked_set own;
    "tnl_push_pop", "Tunnel push pop", flag tunnel_push_pop own;
    "ufid", "Ufid", flag ufid own;
    "trunc", "Truncate action", flag trunc own;
    "clone", "Clone action", flag clone own;
    "sample_nesting", "Sample nesting", count sample_nesting own;
    "ct_eventmask", "Conntrack eventmask", flag ct;
    "ct_clear", "Conntrack clear", flag ct;
    "max_hash_alg", "Max dp_hash algorithm", has recirc;
    "check_pkt_len", "Check pkt length action", flag check_pkt_len own;
    "ct_timeout", "Conntrack timeout policy", flag ct;
    "explicit_drop_action", "Explicit Drop action", flag explicit_drop own;
    "lb_output_action", "Optimized Balance TCP mode", flag lb_output own;
    "ct_zero_snat", "Conntrack all-zero IP SNAT", flag ct_nat;
    "add_mpls", "MPLS Label add", flag add_mpls own;
    "max_vlan_headers", "Max VLAN headers", count max_vlan_headers own;
    "max_mpls_depth", "Max MPLS depth", count max_mpls_depth own;
    "recirc", "Recirc", flag recirc own;
    "ct_state", "CT state", flag ct own;
    "ct_zone", "CT zone", flag ct;
    "ct_mark", "CT mark", flag ct;
    "ct_label", "CT label", flag ct;
    "ct_state_nat", "CT state NAT", flag ct_nat own;
    "ct_orig_tuple", "CT orig tuple", flag ct;
    "ct_orig_tuple6", "CT orig tuple for IPv6", flag ct;
    "nd_ext", "IPv6 ND Extension", flag nd_extensions own;
];

/// Features that the database's documentation does not name.
const UNDOCUMENTED: [&str; 2] = ["add_mpls", "max_mpls_depth"];

/// Words of the log, and what a datapath has of what they name.
type Told = (&'static str, fn(&DpFeatures) -> Value);

/// What the log tells of a datapath, in OVS's words: scripts look for them.
const TOLD: &[Told] = &[
    ("recirculation", |f| Value::Bool(f.recirc)),
    ("VLAN header stack length", |f| Value::Number(f.max_vlan_headers)),
    ("MPLS label stack length", |f| Value::Number(f.max_mpls_depth)),
    ("truncate action", |f| Value::Bool(f.trunc)),
    ("unique flow ids", |f| Value::Bool(f.ufid)),
    ("clone action", |f| Value::Bool(f.clone)),
    ("eventmask in conntrack action", |f| Value::Bool(f.ct)),
    ("ct_clear action", |f| Value::Bool(f.ct)),
    ("check_pkt_len action", |f| Value::Bool(f.check_pkt_len)),
    ("timeout policy in conntrack action", |f| Value::Bool(f.ct)),
    ("ct_zero_snat", |f| Value::Bool(f.ct_nat)),
    ("add_mpls action", |f| Value::Bool(f.add_mpls)),
];

/// Tells the log what a datapath that was opened can do.
pub(crate) fn log(datapath: &str, features: &DpFeatures) {
    for (what, read) in TOLD {
        match read(features) {
            Value::Bool(true) => tracing::info!(target: "ofproto_dpif", "{datapath}: Datapath supports {what}"),
            Value::Bool(false) => tracing::info!(target: "ofproto_dpif", "{datapath}: Datapath does not support {what}"),
            Value::Number(n) => tracing::info!(target: "ofproto_dpif", "{datapath}: {what} probed as {n}"),
        }
    }
}

impl Feature {
    fn now(&self, backend: &DatapathBackend) -> Value {
        match (self.read)(&backend.features) {
            Value::Bool(b) => Value::Bool(b && !backend.withheld.contains(self.name)),
            number @ Value::Number(_) => number,
        }
    }

    fn line(&self, backend: &DatapathBackend) -> String {
        let boot = (self.read)(&backend.dp.features());
        format!("{} ({}) : [run time]:{}, [boot time]:{}\n", self.name, self.title, self.now(backend).text(), boot.text())
    }

    /// Sets it, with `force` also to what the datapath says that it cannot; an error is the text of a reply.
    fn set(&self, backend: &mut DatapathBackend, value: &str, force: bool) -> Result<(), &'static str> {
        let value = match (self.read)(&backend.dp.features()) {
            Value::Bool(can) => match value.to_ascii_lowercase().as_str() {
                "true" if can || force && self.write.is_some() => Value::Bool(true),
                "true" => return Err("Can not enable features not supported by the datapth"),
                "false" => Value::Bool(false),
                _ => return Err("Boolean value expected"),
            },
            Value::Number(most) => match value.parse::<i64>() {
                Err(_) => return Err("Integer number expected"),
                Ok(n) if n < 0 => return Err("Negative number not expected"),
                Ok(n) => match u32::try_from(n) {
                    Ok(n) if n <= most || force => Value::Number(n),
                    Ok(_) | Err(_) => return Err("Can not set value beyond the datapath capability"),
                },
            },
        };
        match (self.write, value) {
            (Some(write), value) => write(&mut backend.features, value),
            (None, Value::Bool(true)) => {
                backend.withheld.remove(self.name);
            }
            (None, Value::Bool(false) | Value::Number(_)) => {
                backend.withheld.insert(self.name);
            }
        }
        Ok(())
    }
}

impl Slowpath {
    /// The types of the open datapaths, and what each can do, as `Datapath.capabilities` has it.
    #[must_use]
    pub fn capabilities(&self) -> Vec<(String, Vec<(String, String)>)> {
        let world = self.read_world();
        let of = |backend: &DatapathBackend| {
            let row = |f: &Feature| (f.name.to_owned(), (f.read)(&backend.dp.features()).text());
            let own = backend.dp.features();
            // They have no title among the features that a command switches.
            let more = [("ct_flush", own.ct), ("psample", own.psample)].map(|(name, can)| (name.to_owned(), can.to_string()));
            FEATURES.iter().filter(|f| !UNDOCUMENTED.contains(&f.name)).map(row).chain(more).collect()
        };
        world.backends.iter().map(|(kind, backend)| (kind.clone(), of(backend))).collect()
    }
}

pub(super) fn show(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let world = slowpath.read_world();
    let bridge = world.bridge_named(args[0]).ok_or(NO_SUCH_BRIDGE)?;
    let backend = world.backends.get(&bridge.kind).ok_or(NO_SUCH_BRIDGE)?;
    let mut out = String::new();
    for feature in FEATURES {
        match feature.now(backend) {
            Value::Bool(b) => write(&mut out, format_args!("{}: {}\n", feature.title, if b { "Yes" } else { "No" })),
            Value::Number(n) => write(&mut out, format_args!("{}: {n}\n", feature.title)),
        }
    }
    Ok(out)
}

pub(super) fn set(slowpath: &Slowpath, args: &[&str]) -> Outcome {
    let (force, args) = match args {
        ["--force", rest @ ..] if !rest.is_empty() => (true, rest),
        args => (false, args),
    };
    let mut world = slowpath.write_world();
    let kind = world.bridge_named(args[0]).ok_or(NO_SUCH_BRIDGE)?.kind.clone();
    let backend = world.backends.get_mut(&kind).ok_or(NO_SUCH_BRIDGE)?;
    let Some(name) = args.get(1) else {
        return Ok(FEATURES.iter().map(|f| f.line(backend)).collect());
    };
    let Some(feature) = FEATURES.iter().find(|f| f.name == *name) else {
        return Ok("Unexpected support field\n".to_owned());
    };
    let Some(value) = args.get(2) else {
        return Ok(feature.line(backend));
    };
    if let Err(text) = feature.set(backend, value, force) {
        return Ok(format!("{text}\n"));
    }
    world.changed(Object::Everything);
    drop(world);
    slowpath.settle();
    if let Some(udpif) = slowpath.udpif(&kind) {
        udpif.purge();
    }
    Ok(String::new())
}
