//! Groups as text, both ways: `group_id=1,type=select,bucket=weight:100,actions=output:1`.

use super::actions::{Show, parse_actions};
use super::lines::{self, first_word};
use super::{Names, Protocols, TextError, number};
use crate::message::{Bucket, GroupCommand, GroupDesc, GroupMod, GroupType, SelectionMethod};
use crate::types::{GroupId, OfPort, Version};
use flow::Value;
use flow::oftext::{KeyValues, format_value, parse_value};
use std::fmt::Write;

/// OFPG15_BUCKET_MAX, FIRST, LAST and ALL.
pub const BUCKET_MAX: u32 = 0xffff_ff00;
pub const BUCKET_FIRST: u32 = 0xffff_fffd;
pub const BUCKET_LAST: u32 = 0xffff_fffe;
pub const BUCKET_ALL: u32 = 0xffff_ffff;
/// NTR_MAX_SELECTION_METHOD_LEN, with the zero byte at the end.
const METHOD_BYTES_MAX: usize = 16;

const TYPES: [(GroupType, &str); 5] = [
    (GroupType::All, "all"),
    (GroupType::Select, "select"),
    (GroupType::Indirect, "indirect"),
    (GroupType::FastFailover, "ff"),
    (GroupType::FastFailover, "fast_failover"),
];
const COMMANDS: &[(&str, GroupCommand)] = &[
    ("add", GroupCommand::Add),
    ("delete", GroupCommand::Delete),
    ("modify", GroupCommand::Modify),
    ("add_or_mod", GroupCommand::AddOrMod),
    ("insert_bucket", GroupCommand::InsertBucket),
    ("remove_bucket", GroupCommand::RemoveBucket),
];

/// A group-mod with the protocols that can carry it.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedGroup {
    pub group: GroupMod,
    pub protocols: Protocols,
}

/// A group type's name.
#[must_use]
pub fn type_name(kind: GroupType) -> &'static str {
    TYPES.iter().find(|(t, _)| *t == kind).map_or("unknown", |(_, name)| name)
}

/// A group's number as messages show it: `ANY` and `ALL` by name.
#[must_use]
pub fn format_group_id(group: GroupId) -> String {
    match group {
        GroupId::ANY => "ANY".to_owned(),
        GroupId::ALL => "ALL".to_owned(),
        GroupId(n) => n.to_string(),
    }
}

/// A group as `dump-groups` shows it; bucket ids where the version has them.
#[must_use]
pub fn format_group_desc(group: &GroupDesc, version: Version, names: &Names<'_>) -> String {
    let whole = Parts { group: group.group, kind: Some(group.kind), selection: &group.selection, buckets: &group.buckets };
    whole.text(group.kind, version, names)
}

/// A group-mod as the log and `ofp-print` show it: `ADD group_id=1,type=all,bucket=actions=output:1`.
#[must_use]
pub fn format_group_mod(group: &GroupMod, version: Version, names: &Names<'_>) -> String {
    let (word, of_bucket) = match group.command {
        GroupCommand::Add => ("ADD", false),
        GroupCommand::Modify => ("MOD", false),
        GroupCommand::AddOrMod => ("ADD_OR_MOD", false),
        GroupCommand::Delete => ("DEL", false),
        GroupCommand::InsertBucket => ("INSERT_BUCKET", true),
        GroupCommand::RemoveBucket => ("REMOVE_BUCKET", true),
    };
    let bucket = if of_bucket { bucket_id("command_bucket_id:", group.command_bucket_id, version) } else { String::new() };
    let kind = (!of_bucket).then_some(group.kind);
    let parts = Parts { group: group.group, kind, selection: &group.selection, buckets: &group.buckets };
    format!("{word} {bucket}{}", parts.text(group.kind, version, names))
}

fn bucket_id(label: &str, id: u32, version: Version) -> String {
    if !matches!(version, Version::V10 | Version::V15) {
        return String::new();
    }
    match id {
        BUCKET_FIRST => format!("{label}first,"),
        BUCKET_LAST => format!("{label}last,"),
        BUCKET_ALL => format!("{label}all,"),
        n => format!("{label}{n},"),
    }
}

struct Parts<'a> {
    group: GroupId,
    /// `None`: not shown
    kind: Option<GroupType>,
    selection: &'a SelectionMethod,
    buckets: &'a [Bucket],
}

impl Parts<'_> {
    fn text(&self, kind: GroupType, version: Version, names: &Names<'_>) -> String {
        let mut out = format!("group_id={}", self.group.0);
        if let Some(kind) = self.kind {
            put(&mut out, format_args!(",type={}", type_name(kind)));
        }
        let selection = self.selection;
        if !selection.method.is_empty() {
            put(&mut out, format_args!(",selection_method={}", selection.method));
            if selection.param != 0 {
                put(&mut out, format_args!(",selection_method_param={}", selection.param));
            }
            let fields: Vec<String> = selection
                .fields
                .iter()
                .map(|(field, mask)| {
                    let whole = mask.and(&field.whole()) == field.whole();
                    if whole {
                        field.to_string()
                    } else {
                        format!("{field}={}", format_value(*field, mask, None, Names::default().ports))
                    }
                })
                .collect();
            match fields.len() {
                0 => {}
                1 => put(&mut out, format_args!(",fields={}", fields[0])),
                _ => put(&mut out, format_args!(",fields({})", fields.join(","))),
            }
        }
        for bucket in self.buckets {
            put(&mut out, format_args!(",bucket={}", bucket_id("bucket_id:", bucket.id, version)));
            if bucket.weight != default_weight(kind) {
                put(&mut out, format_args!("weight:{},", bucket.weight));
            }
            if bucket.watch_port != OfPort::ANY {
                put(&mut out, format_args!("watch_port:{},", names.port(bucket.watch_port)));
            }
            if bucket.watch_group != GroupId::ANY {
                put(&mut out, format_args!("watch_group:{},", bucket.watch_group.0));
            }
            put(&mut out, format_args!("actions={}", Show(&bucket.actions[..], names)));
        }
        out
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string cannot fail");
}

fn default_weight(kind: GroupType) -> u16 {
    u16::from(kind == GroupType::Select)
}

/// What a command's text may say.
#[derive(Clone, Copy)]
struct May {
    kind: bool,
    buckets: bool,
    command_bucket: bool,
    command_bucket_all: bool,
}

fn may(command: GroupCommand) -> May {
    let kind = matches!(command, GroupCommand::Add | GroupCommand::Modify | GroupCommand::AddOrMod);
    May {
        kind,
        buckets: kind || command == GroupCommand::InsertBucket,
        command_bucket: matches!(command, GroupCommand::InsertBucket | GroupCommand::RemoveBucket),
        command_bucket_all: command == GroupCommand::RemoveBucket,
    }
}

/// Reads a group-mod; without a command the first word may name it ("add" if it does not).
///
/// # Errors
/// As ovs-ofctl words them.
pub fn parse_group(text: &str, command: Option<GroupCommand>, names: &Names<'_>) -> Result<ParsedGroup, TextError> {
    let (command, text) = match command {
        Some(command) => (command, text),
        None => first_word(text, COMMANDS).unwrap_or((GroupCommand::Add, text)),
    };
    let mut group = GroupMod {
        command,
        kind: GroupType::All,
        group: GroupId::ANY,
        command_bucket_id: BUCKET_ALL,
        buckets: Vec::new(),
        selection: SelectionMethod::default(),
    };
    let may = may(command);
    let with_ids = Protocols(Protocols::OF10_ANY.0 | Protocols::OF15.0);
    let protocols = if may.command_bucket { with_ids } else { Protocols::ANY };
    if command == GroupCommand::Delete && text.is_empty() {
        group.group = GroupId::ALL;
        return Ok(ParsedGroup { group, protocols });
    }
    let (head, buckets) = match text.find("bucket=").filter(|at| !text[..*at].ends_with("command_")) {
        Some(_) if !may.buckets => return Err(TextError::NotNeeded("bucket is")),
        Some(at) => (&text[..at], Some(&text[at..])),
        None => (text, None),
    };
    let mut reader = Reader { group: &mut group, may, names, protocols, with_ids, typed: false, bucket_named: false };
    for (key, value) in KeyValues::new(head) {
        reader.pair(key, value)?;
    }
    reader.complete()?;
    let mut protocols = reader.protocols;
    for text in buckets.unwrap_or("").split("bucket=").skip(1) {
        let bucket = parse_bucket(text, group.kind, names, &mut protocols)?;
        if command != GroupCommand::InsertBucket && group.kind != GroupType::Select && bucket.weight != 0 {
            return Err(TextError::BucketWeight);
        }
        group.buckets.push(bucket);
    }
    if group.kind == GroupType::Indirect && group.buckets.len() > 1 {
        return Err(TextError::IndirectBuckets);
    }
    Ok(ParsedGroup { group, protocols })
}

/// Reads a file of group-mods: one per line, `#` begins a comment. `name` stands in errors.
///
/// # Errors
/// The first line's that cannot be read, with its number.
pub fn parse_group_file(
    text: &str,
    name: &str,
    command: Option<GroupCommand>,
    names: &Names<'_>,
) -> Result<Vec<ParsedGroup>, TextError> {
    lines::parse(text, name, |line| parse_group(line, command, names))
}

struct Reader<'a> {
    group: &'a mut GroupMod,
    may: May,
    names: &'a Names<'a>,
    protocols: Protocols,
    with_ids: Protocols,
    typed: bool,
    bucket_named: bool,
}

impl Reader<'_> {
    fn pair(&mut self, key: &str, value: &str) -> Result<(), TextError> {
        let needed = |may: bool, what: &'static str| if may { Ok(()) } else { Err(TextError::NotNeeded(what)) };
        match key {
            "command_bucket_id" => {
                needed(self.may.command_bucket, "command bucket id is")?;
                self.command_bucket(value)?;
            }
            "group_id" => self.group.group = parse_id(value)?,
            "type" => {
                needed(self.may.kind, "type is")?;
                let kind = TYPES.iter().find(|(_, name)| *name == value).map(|(kind, _)| *kind);
                self.group.kind = kind.ok_or_else(|| TextError::GroupType(value.to_owned()))?;
                self.typed = true;
            }
            "selection_method" => {
                needed(self.may.kind, "selection method is")?;
                if value.len() >= METHOD_BYTES_MAX {
                    return Err(TextError::MethodLong);
                }
                self.group.selection.method = value.to_owned();
                self.protocols.narrow(self.with_ids);
            }
            "selection_method_param" => {
                needed(self.may.kind, "selection method param is")?;
                self.group.selection.param = number::u64(value)?;
                self.protocols.narrow(self.with_ids);
            }
            "fields" => {
                needed(self.may.kind, "fields are")?;
                self.fields(value)?;
                self.protocols.narrow(self.with_ids);
            }
            _ => return Err(TextError::Keyword(key.to_owned())),
        }
        Ok(())
    }

    fn command_bucket(&mut self, value: &str) -> Result<(), TextError> {
        let id = match value {
            "all" => BUCKET_ALL,
            "first" => BUCKET_FIRST,
            "last" => BUCKET_LAST,
            _ => number::u32(value)?,
        };
        if id > BUCKET_MAX && !matches!(id, BUCKET_ALL | BUCKET_FIRST | BUCKET_LAST) {
            return Err(TextError::CommandBucketId(id));
        }
        if id == BUCKET_ALL && !self.may.command_bucket_all {
            return Err(TextError::CommandBucketAll);
        }
        self.group.command_bucket_id = id;
        self.bucket_named = true;
        Ok(())
    }

    /// Fields to hash, with masks as values.
    fn fields(&mut self, text: &str) -> Result<(), TextError> {
        let fields = &mut self.group.selection.fields;
        let mut pairs = KeyValues::new(text);
        while let Some((name, value)) = pairs.next() {
            let rest = pairs.rest();
            let field = flow::Field::by_name(name).filter(|f| f.row().name == name || f.row().alias == Some(name));
            let field = field.ok_or_else(|| TextError::SelectField { text: rest.to_owned(), name: name.to_owned() })?;
            if fields.iter().any(|(f, _)| *f == field) {
                return Err(TextError::DuplicateField(name.to_owned()));
            }
            let whole = field.whole();
            let mask = if value.is_empty() {
                whole
            } else {
                let (bits, all) = parse_value(field, value, self.names.ports)?;
                if all.and(&whole) != whole {
                    return Err(TextError::Wildcards(value.to_owned()));
                }
                if bits == Value::ZERO && field.tun_metadata_number().is_none() {
                    return Err(TextError::ZeroMask(rest.to_owned()));
                }
                if bits != whole && field.row().mask == flow::fields::MaskKind::Exact {
                    return Err(TextError::FieldMask { value: value.to_owned(), field: field.row().name });
                }
                bits
            };
            self.protocols.narrow(Protocols::matching(field, &mask));
            fields.push((field, mask));
        }
        fields.sort_by_key(|(f, _)| *f);
        Ok(())
    }

    fn complete(&self) -> Result<(), TextError> {
        let selection = &self.group.selection;
        if self.group.group == GroupId::ANY {
            return Err(TextError::Must("group_id"));
        }
        if self.may.kind && !self.typed {
            return Err(TextError::Must("type"));
        }
        if selection.method != "hash" && !selection.fields.is_empty() {
            return Err(TextError::FieldsWithoutHash);
        }
        if selection.method.is_empty() && selection.param != 0 {
            return Err(TextError::ParamWithoutMethod);
        }
        if self.may.command_bucket && !self.may.command_bucket_all && !self.bucket_named {
            return Err(TextError::NoCommandBucket);
        }
        Ok(())
    }
}

fn parse_id(text: &str) -> Result<GroupId, TextError> {
    if text == "all" {
        return Ok(GroupId::ALL);
    }
    match GroupId(number::u32(text)?) {
        id if id > GroupId::MAX && id != GroupId::ALL => Err(TextError::GroupId(id.0)),
        id => Ok(id),
    }
}

fn parse_bucket(text: &str, kind: GroupType, names: &Names<'_>, protocols: &mut Protocols) -> Result<Bucket, TextError> {
    let mut bucket = Bucket {
        id: BUCKET_ALL,
        weight: default_weight(kind),
        watch_port: OfPort::ANY,
        watch_group: GroupId::ANY,
        actions: Vec::new(),
    };
    let mut actions: Vec<String> = Vec::new();
    for (key, value) in KeyValues::new(text) {
        match key.to_ascii_lowercase().as_str() {
            "weight" => bucket.weight = number::u16(value, "weight")?,
            "watch_port" => {
                let port = names.parse_port(value);
                let watchable = |p: &OfPort| p.0 & 0xffff < OfPort::REAL_MAX || matches!(*p, OfPort::ANY | OfPort::CONTROLLER);
                bucket.watch_port = port.filter(watchable).ok_or_else(|| TextError::WatchPort(value.to_owned()))?;
            }
            "watch_group" => {
                bucket.watch_group = GroupId(number::u32(value)?);
                if bucket.watch_group > GroupId::MAX {
                    return Err(TextError::WatchGroup(bucket.watch_group.0));
                }
            }
            "bucket_id" => {
                bucket.id = number::u32(value)?;
                if bucket.id > BUCKET_MAX {
                    return Err(TextError::BucketId(bucket.id));
                }
            }
            "action" | "actions" => actions.push(value.to_owned()),
            _ => actions.push(format!("{key}({value})")),
        }
    }
    if actions.is_empty() {
        return Err(TextError::NoBucketActions);
    }
    if kind == GroupType::FastFailover && bucket.watch_port == OfPort::ANY && bucket.watch_group == GroupId::ANY {
        return Err(TextError::NoLiveness);
    }
    let (list, can) = parse_actions(&actions.join(","), names)?;
    // The last bucket's actions alone say which protocols have the group: bucket ids and selection methods are left out by those
    // that have none, as OVS leaves them out.
    *protocols = can;
    bucket.actions = list;
    Ok(bucket)
}
