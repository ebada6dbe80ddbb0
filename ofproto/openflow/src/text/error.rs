//! Why a text cannot be read; printed as ovs-ofctl words it.

use crate::error::OfError;
use flow::oftext::{FieldTextError, MatchTextError};

/// An error of any of the text readers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    #[error(transparent)]
    Match(#[from] MatchTextError),
    #[error(transparent)]
    Value(#[from] FieldTextError),
    // Numbers and addresses
    #[error("invalid {name} \"{text}\"")]
    Invalid { name: String, text: String },
    #[error("missing required numeric argument")]
    NoNumber,
    #[error("invalid numeric format {0}")]
    NumberFormat(String),
    #[error("invalid mac address {0}")]
    Mac(String),
    #[error("{0}: could not convert to IP address")]
    Ip(String),
    #[error("{text}: not a valid {what}")]
    NotValid { text: String, what: &'static str },
    // Lists of actions
    #[error("unknown action {0}")]
    UnknownAction(String),
    #[error("apply_actions is the default instruction")]
    ApplyActions,
    #[error("\"drop\" must not be accompanied by any other action or instruction")]
    DropNotAlone,
    #[error("Action nested too deeply")]
    TooDeep,
    #[error("input too big")]
    TooBig,
    #[error("UNROLL is an internal action that shouldn't be used via OpenFlow")]
    Unroll,
    // Order and nesting
    #[error(
        "\"conjunction\" actions may be used along with \"note\" but not any other kind of action (such as the \"{0}\" action \
         used here)"
    )]
    ConjunctionNotAlone(&'static str),
    #[error("cannot set CT fields outside of ct action")]
    CtFieldOutside,
    #[error("Cannot have NAT action outside of \"ct\" action")]
    NatOutside,
    #[error("{outer} action doesn't support nested action {inner}")]
    Nesting { outer: &'static str, inner: &'static str },
    #[error("{outer} action doesn't support nested modification of {field}")]
    NestedField { outer: &'static str, field: &'static str },
    #[error("duplicate {0} instruction not allowed, for OpenFlow 1.1+ compatibility")]
    DuplicateInstruction(&'static str),
    #[error("invalid instruction ordering: {first} must appear before {then}, for OpenFlow 1.1+ compatibility")]
    InstructionOrder { first: &'static str, then: &'static str },
    #[error("{0} instruction not allowed here")]
    InstructionHere(&'static str),
    // Ports and tables
    #[error("{0}: output to unknown port")]
    OutputPort(String),
    #[error("output to unknown truncate port: {0}")]
    TruncatePort(String),
    #[error("output to unsupported truncate port: {0}")]
    TruncateReserved(String),
    #[error("max_len {0} is less than the minimum value 14")]
    TruncateShort(u32),
    #[error("invalid key '{0}' in output_trunc argument")]
    TruncateKey(String),
    #[error("\"enqueue\" syntax is \"enqueue:PORT:QUEUE\" or \"enqueue(PORT,QUEUE)\"")]
    EnqueueSyntax,
    #[error("{0}: enqueue to unknown port")]
    EnqueuePort(String),
    #[error("{0}: resubmit to unknown port")]
    ResubmitPort(String),
    #[error("{0}: resubmit to unknown table")]
    ResubmitTable(String),
    #[error("{0}: unknown parameter")]
    ResubmitParameter(String),
    #[error("at least one \"in_port\" or \"table\" must be specified on resubmit")]
    ResubmitNowhere,
    #[error("unknown table \"{0}\"")]
    Table(String),
    #[error("{0}: bad port number")]
    BadPort(String),
    // controller, note
    #[error("unknown reason \"{0}\"")]
    Reason(String),
    #[error("unknown key \"{0}\" parsing controller action")]
    ControllerKey(String),
    #[error("bad hex digit in `controller' action `userdata'")]
    Userdata,
    #[error("bad hex digit in `note' argument")]
    Note,
    // Fields
    #[error("unexpected input following field syntax")]
    AfterField,
    #[error("{0}: missing `->'")]
    NoArrow(String),
    #[error("{0}: missing field name following `->'")]
    NoDestination(String),
    #[error("{0}: missing `->' following source")]
    NoArrowAfterSource(String),
    #[error("{0} is not a valid OXM field name")]
    FieldName(String),
    #[error("{0} is read-only")]
    ReadOnly(String),
    #[error("{value} is not a valid value for field {field}")]
    FieldValue { value: String, field: String },
    #[error("{0}: cannot parse integer value")]
    Integer(String),
    #[error("{text}: value {value} does not fit into {bits} bits")]
    NotFitting { text: String, value: String, bits: u16 },
    #[error("{text}: source field is {from} bits wide but destination is {to} bits wide")]
    Widths { text: String, from: u16, to: u16 },
    #[error("{0}: trailing garbage following push or pop")]
    StackGarbage(String),
    #[error("Only 1-bit destination field is allowed")]
    OneBit,
    // dec_ttl and MPLS
    #[error("dec_ttl_cnt_ids: expected at least one controller id.")]
    NoControllers,
    #[error("{action}: expected {what}.")]
    Expected { action: &'static str, what: &'static str },
    #[error("invalid key '{key}' in '{action}' argument")]
    Key { key: String, action: &'static str },
    // learn
    #[error("{text}: experimenter OXM field '{field}' not supported")]
    ExperimenterField { text: String, field: String },
    #[error("{text}: value does not fit into {bits} bits")]
    LearnNotFitting { text: String, bits: u16 },
    #[error("{text}: {name} value {value} cannot be parsed as a subfield ({subfield}) or an immediate value ({immediate})")]
    LearnValue { text: String, name: String, value: String, subfield: Box<Self>, immediate: Box<Self> },
    #[error("{0}: wildcards not allowed here")]
    Wildcards(String),
    #[error("{text}: bit widths of {name} ({bits}) and {other} ({other_bits}) differ")]
    LearnWidths { text: String, name: String, bits: u16, other: String, other_bits: u16 },
    #[error("load: missing source before `->' in `{0}'")]
    LearnNoSource(String),
    #[error("load: missing `->' in `{0}'")]
    LearnNoArrow(String),
    #[error("load: garbage before `->' in `{0}'")]
    LearnGarbage(String),
    #[error("{text}: unknown keyword {name}")]
    LearnKeyword { text: String, name: String },
    #[error("{0}: table id 255 not valid for `learn' action")]
    LearnTable(String),
    #[error("result_dst in 'learn' action must be a single bit")]
    LearnResult,
    // conjunction
    #[error("\"conjunction\" syntax is \"conjunction(id,i/n)\"")]
    ConjunctionSyntax,
    #[error("conjunction must have at least 2 clauses")]
    FewClauses,
    #[error("conjunction must have at most 64 clauses")]
    ManyClauses,
    #[error("clause index must be positive")]
    ClauseZero,
    #[error("clause index must be less than or equal to number of clauses")]
    ClauseHigh,
    // bundle and multipath
    #[error("{text}: not enough arguments to {action} action")]
    Arguments { text: String, action: &'static str },
    #[error("{text}: missing member delimiter, expected `members', got `{got}'")]
    Members { text: String, got: String },
    #[error("{text}: unknown fields `{fields}'")]
    HashFields { text: String, fields: String },
    #[error("{text}: unknown algorithm `{algorithm}'")]
    Algorithm { text: String, algorithm: String },
    #[error("{text}: unknown member_type `{kind}'")]
    MemberType { text: String, kind: String },
    #[error("{text}: n_links {n} is not in valid range 1 to 65536")]
    Links { text: String, n: i32 },
    #[error("{text}: {bits}-bit destination field has {values} possible values, less than specified n_links {n}")]
    LinksWide { text: String, bits: u16, values: u32, n: i32 },
    // sample
    #[error("invalid probability value \"{0}\"")]
    Probability(String),
    #[error("{0}: unknown port")]
    UnknownPort(String),
    #[error("invalid key \"{key}\" in \"{action}\" argument")]
    QuotedKey { key: String, action: &'static str },
    #[error("non-zero \"probability\" must be specified on sample")]
    NoProbability,
    #[error("size of {name} field ({bits}) exceeds maximum (32)")]
    ObservationWide { name: &'static str, bits: u16 },
    // ct and nat
    #[error("unknown table {0}")]
    CtTable(String),
    #[error("invalid table 0xff")]
    CtTableAll,
    #[error("invalid conntrack helper \"{0}\"")]
    Helper(String),
    #[error("invalid argument to \"ct\" action: `{0}'")]
    CtKey(String),
    #[error("\"force\" flag requires \"commit\" flag.")]
    ForceWithoutCommit,
    #[error("garbage ({rest}) after nat range \"{text}\" (pos: {at})")]
    NatGarbage { rest: String, text: String, at: usize },
    #[error("invalid nat range \"{0}\"")]
    NatRange(String),
    #[error("May only specify one of \"src\" or \"dst\".")]
    NatBoth,
    #[error("Flags allowed only with \"src\" or \"dst\".")]
    NatFlags,
    #[error("Both \"hash\" and \"random\" are not allowed.")]
    NatHashRandom,
    // encap and decap
    #[error("Missing encap hdr: {0}")]
    NoEncap(String),
    #[error("Encap hdr not supported: {0}")]
    Encap(String),
    #[error("Invalid property: {0}")]
    Property(String),
    #[error("Value missing for encap property")]
    NoPropertyValue,
    #[error("invalid md_type")]
    MdType,
    #[error("Invalid NSH TLV header: {0}")]
    NshTlv(String),
    #[error("Missing packet_type attribute {0}")]
    NoPacketType(&'static str),
    #[error("Unsupported ns value: {0}")]
    Namespace(u16),
    #[error("Invalid decap argument: {0}")]
    Decap(String),
    // Flows
    #[error("must specify an action")]
    NoActions,
    #[error("actions are invalid with specified match ({})", .0.name())]
    ActionsInvalid(OfError),
    #[error("{0} is not a valid OpenFlow port")]
    FlowPort(String),
    #[error("{0} is not a valid OpenFlow group")]
    FlowGroup(String),
    #[error("flow additions cannot use a cookie mask")]
    AddCookieMask,
    #[error("cannot set cookie (to match on a cookie, specify a mask, e.g. cookie={0}/-1)")]
    SetCookie(String),
    #[error("field {0} missing value")]
    NoValue(String),
    #[error("unknown keyword {0}")]
    Keyword(String),
    #[error("{text}: unknown field {name}")]
    ExactUnknown { text: String, name: String },
    #[error("{text}: {what} set multiple times")]
    ExactTwiceProtocol { text: String, what: &'static str },
    #[error("{text}: field {name} set multiple times")]
    ExactTwice { text: String, name: String },
    #[error("{text}: prerequisites not met for setting {name}")]
    ExactPrerequisites { text: String, name: String },
    #[error("{text}: bad value for {name} ({error})")]
    ExactValue { text: String, name: String, error: Box<Self> },
    // Groups, meters, packet-outs, TLV maps
    #[error("{0} not needed")]
    NotNeeded(&'static str),
    #[error("must specify {}", if *.0 == "group_id" || *.0 == "type" { format!("a {}", .0) } else { (*.0).to_owned() })]
    Must(&'static str),
    #[error("must specify a command bucket id")]
    NoCommandBucket,
    #[error("invalid command bucket id {0}")]
    CommandBucketId(u32),
    #[error("command_bucket_id=all is not permitted")]
    CommandBucketAll,
    #[error("invalid group id {0}")]
    GroupId(u32),
    #[error("invalid group type {0}")]
    GroupType(String),
    #[error("selection method is longer than 15 bytes long")]
    MethodLong,
    #[error("{text}: unknown field {name}")]
    SelectField { text: String, name: String },
    #[error("{0}: duplicate field")]
    DuplicateField(String),
    #[error("{0}: values are wildcards here and must not be all-zeros")]
    ZeroMask(String),
    #[error("{value}: invalid mask for field {field}")]
    FieldMask { value: String, field: &'static str },
    #[error("fields may only be specified with \"selection_method=hash\"")]
    FieldsWithoutHash,
    #[error("selection_method_param is only allowed with \"selection_method\"")]
    ParamWithoutMethod,
    #[error("Only select groups can have bucket weights.")]
    BucketWeight,
    #[error("Indirect groups can have at most one bucket.")]
    IndirectBuckets,
    #[error("{0}: invalid watch_port")]
    WatchPort(String),
    #[error("invalid watch_group id {0}")]
    WatchGroup(u32),
    #[error("invalid bucket_id id {0}")]
    BucketId(u32),
    #[error("bucket must specify actions")]
    NoBucketActions,
    #[error("fast failover bucket requires watch_port or watch_group")]
    NoLiveness,
    #[error("meter must specify either 'kbps' or 'pktps'")]
    MeterUnit,
    #[error("invalid value for {0}")]
    InvalidFor(&'static str),
    #[error("field {field} unknown value {value}")]
    UnknownValue { field: String, value: String },
    #[error("band must start with the 'type' keyword")]
    BandStart,
    #[error("meter must have bands")]
    NoBands,
    #[error("{0}")]
    Band(&'static str),
    #[error("{0} is not a valid OpenFlow port for PACKET_OUT")]
    PacketOutPort(String),
    #[error("packet_type({0}) can't be interpreted")]
    PacketType(String),
    #[error("packet: Trailing garbage in packet data")]
    PacketGarbage,
    #[error("packet: Packet data too short for Ethernet")]
    PacketShort,
    #[error("{0} is not a valid pipeline field for PACKET_OUT")]
    PipelineField(String),
    #[error("invalid tlv mapping")]
    Tlv,
    // Lists of NXM and OXM entries
    #[error("{0}: missing ( at end of nx_match")]
    EntryBracket(String),
    #[error("{text}: unknown field `{name}'")]
    EntryUnknown { text: String, name: String },
    #[error("expected to read {wanted} bytes but got {got}")]
    EntryShort { wanted: usize, got: usize },
    #[error("{text}: missing / in masked field {name}")]
    EntryMask { text: String, name: String },
    #[error("{0}: hex digits expected")]
    EntryDigits(String),
    #[error("{text}: missing ) following field {name}")]
    EntryEnd { text: String, name: String },
    #[error("{file}:{line}: {error}")]
    Line { file: String, line: usize, error: Box<Self> },
}
