//! Actions to bytes: the dispatch over `OfAction`, in the form that the version has for each.
//!
//! An action that the version cannot say is written in Nicira's form, or as OVS does left out.

use super::decode::{PT_USE_NEXT_PROTO, REASON_ACTION};
use super::seen::{PROTO_SCTP, PROTO_TCP, PROTO_UDP, Seen};
use super::table::{Raw, begin, end};
use super::{fields, learn, nested};
use crate::action::{Controller, OfAction};
use crate::types::{OfPort, TableId, Version};
use crate::wire::Codec;
use crate::wire::bytes::{Put, len16};
use crate::wire::props;
use flow::fields::Field;
use flow::wire::eth_type;

const VLAN_8021Q: u16 = 0x8100;
const VID_PRESENT: u128 = 0x1000;

/// Encodes lists of actions for one peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoder<'a> {
    pub(crate) codec: &'a Codec<'a>,
    pub(crate) version: Version,
    /// What the actions find, as far as the flow's match says.
    pub(crate) seen: Seen,
}

impl Encoder<'_> {
    /// A list as it stands in a packet-out, a bucket or an OpenFlow 1.0 flow.
    pub(crate) fn list(mut self, actions: &[OfAction], out: &mut Vec<u8>) {
        for action in actions {
            self.next(action, out);
        }
    }

    /// A list inside of an action.
    pub(super) fn nested(&self, actions: &[OfAction], out: &mut Vec<u8>) {
        self.list(actions, out);
    }

    /// One action of a list.
    pub(super) fn next(&mut self, action: &OfAction, out: &mut Vec<u8>) {
        self.one(action, out);
        self.seen.after(action);
    }

    /// Writes `raw` with the body that `fill` appends.
    fn put(&self, raw: Raw, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
        if let Some(start) = begin(out, self.version, raw) {
            fill(out);
            end(out, start);
        }
    }

    /// An action whose only argument has 32 bits, aligned to them.
    fn put32(&self, raw: Raw, out: &mut Vec<u8>, v: u32) {
        if let Some(start) = begin(out, self.version, raw) {
            let header = out.len() - start;
            out.zeros(header.next_multiple_of(4) - header);
            out.u32(v);
            end(out, start);
        }
    }

    fn one(&self, action: &OfAction, out: &mut Vec<u8>) {
        let (codec, version) = (self.codec, self.version);
        match action {
            OfAction::Output { port, max_len } => self.output(*port, *max_len, out),
            OfAction::OutputReg { src, max_len } => fields::put_output_reg(out, codec, version, *src, *max_len),
            OfAction::OutputTrunc { port, max_len } => self.output_trunc(*port, *max_len, out),
            OfAction::Controller(c) => self.controller(c, out),
            OfAction::Enqueue { port, queue } => self.enqueue(*port, *queue, out),
            OfAction::Group(id) => self.put32(Raw::Group, out, id.0),
            OfAction::Bundle(b) => fields::put_bundle(out, codec, version, b),
            OfAction::SetVlanVid { vid, push_if_needed } => self.vlan(Some(*vid), None, *push_if_needed, out),
            OfAction::SetVlanPcp { pcp, push_if_needed } => self.vlan(None, Some(*pcp), *push_if_needed, out),
            OfAction::StripVlan { .. } if version == Version::V10 => self.put(Raw::StripVlan10, out, |_| ()),
            OfAction::StripVlan { .. } => self.put(Raw::PopVlan11, out, |_| ()),
            // OpenFlow 1.0 pushes by setting the tag's parts.
            OfAction::PushVlan { ethertype } => self.put(Raw::PushVlan11, out, |o| o.u16(*ethertype)),
            OfAction::SetEthSrc(mac) => self.header(Raw::SetDlSrc, Field::EthSrc, mac, out),
            OfAction::SetEthDst(mac) => self.header(Raw::SetDlDst, Field::EthDst, mac, out),
            OfAction::SetIpv4Src(ip) => self.header(Raw::SetNwSrc, Field::IpSrc, ip, out),
            OfAction::SetIpv4Dst(ip) => self.header(Raw::SetNwDst, Field::IpDst, ip, out),
            OfAction::SetIpDscp(tos) => self.dscp(*tos, out),
            OfAction::SetIpEcn(ecn) => self.ecn(*ecn, out),
            OfAction::SetIpTtl(ttl) if version == Version::V10 => self.load(Field::NwTtl, u64::from(*ttl), out),
            OfAction::SetIpTtl(ttl) => self.put(Raw::SetNwTtl, out, |o| o.u8(*ttl)),
            OfAction::SetL4Src(port) => self.l4(Raw::SetTpSrc, [Field::TcpSrc, Field::UdpSrc, Field::SctpSrc], *port, out),
            OfAction::SetL4Dst(port) => self.l4(Raw::SetTpDst, [Field::TcpDst, Field::UdpDst, Field::SctpDst], *port, out),
            OfAction::RegMove { src, dst, onf } => fields::put_move(out, codec, version, (*src, *dst), *onf),
            OfAction::SetField { field, value, mask, form } => {
                fields::put_set(out, codec, version, (*field, value, mask, *form), self.seen.has_vlan());
            }
            OfAction::StackPush(s) => fields::put_named(out, codec, (version, Raw::StackPush), &[s.ofs], s.field, &[s.bits]),
            OfAction::StackPop(s) => fields::put_named(out, codec, (version, Raw::StackPop), &[s.ofs], s.field, &[s.bits]),
            OfAction::DecTtl { controllers } => self.dec_ttl(controllers.as_deref(), out),
            OfAction::SetMplsLabel(label) => self.put32(Raw::SetMplsLabel, out, *label),
            OfAction::SetMplsTc(tc) => self.put(Raw::SetMplsTc, out, |o| o.u8(*tc)),
            OfAction::SetMplsTtl(ttl) => self.put(Raw::SetMplsTtl, out, |o| o.u8(*ttl)),
            OfAction::DecMplsTtl => self.put(Raw::DecMplsTtl, out, |_| ()),
            OfAction::PushMpls { ethertype } => self.put(Raw::PushMpls, out, |o| o.u16(*ethertype)),
            OfAction::PopMpls { ethertype } => self.put(Raw::PopMpls, out, |o| o.u16(*ethertype)),
            OfAction::CopyTtlOut => self.put(Raw::CopyTtlOut, out, |_| ()),
            OfAction::CopyTtlIn => self.put(Raw::CopyTtlIn, out, |_| ()),
            OfAction::PushPbb => self.put(Raw::PushPbb, out, |o| o.u16(eth_type::PBB)),
            OfAction::PopPbb => self.put(Raw::PopPbb, out, |_| ()),
            OfAction::SetTunnel { id, wide } => self.tunnel(*id, *wide, out),
            OfAction::SetQueue(queue) => self.put32(Raw::SetQueue, out, *queue),
            OfAction::PopQueue => self.put(Raw::PopQueue, out, |_| ()),
            OfAction::Meter(id) => self.put32(Raw::Meter15, out, *id),
            OfAction::GotoTable(table) => self.resubmit(OfPort::IN_PORT, *table, false, true, out),
            OfAction::WriteMetadata { value, mask } => self.write_metadata(*value, *mask, out),
            // Instructions where only actions may stand.
            OfAction::ClearActions | OfAction::WriteActions(_) => {}
            OfAction::FinTimeout { .. }
            | OfAction::Resubmit { .. }
            | OfAction::Learn(_)
            | OfAction::Conjunction { .. }
            | OfAction::Multipath(_)
            | OfAction::Note(_)
            | OfAction::Exit
            | OfAction::Sample(_)
            | OfAction::Clone(_)
            | OfAction::Ct(_)
            | OfAction::Nat(_)
            | OfAction::CtClear
            | OfAction::Encap(_)
            | OfAction::Decap { .. }
            | OfAction::DecNshTtl
            | OfAction::CheckPktLarger { .. }
            | OfAction::DeleteField(_)
            | OfAction::DebugRecirc
            | OfAction::DebugSlow => self.nicira(action, out),
        }
    }

    fn dec_ttl(&self, controllers: Option<&[u16]>, out: &mut Vec<u8>) {
        let Some(controllers) = controllers else { return self.put(Raw::DecNwTtl, out, |_| ()) };
        self.put(Raw::DecTtlCntIds, out, |o| {
            o.u16(len16(controllers.len()));
            o.zeros(4);
            controllers.iter().for_each(|id| o.u16(*id));
        });
    }

    fn dscp(&self, tos: u8, out: &mut Vec<u8>) {
        if self.version >= Version::V12 {
            fields::put_whole(out, self.codec, self.version, Field::IpDscp, u128::from(tos >> 2));
        } else {
            self.put(Raw::SetNwTos, out, |o| o.u8(tos));
        }
    }

    fn output_trunc(&self, port: OfPort, max_len: u32, out: &mut Vec<u8>) {
        self.put(Raw::OutputTrunc, out, |o| {
            o.u16(port.to_wire16());
            o.u32(max_len);
        });
    }

    /// Actions that only Nicira's extensions have.
    #[allow(clippy::wildcard_enum_match_arm, reason = "`one` has the others; a round-trip test covers every variant")]
    fn nicira(&self, action: &OfAction, out: &mut Vec<u8>) {
        let (codec, version) = (self.codec, self.version);
        match action {
            OfAction::FinTimeout { idle, hard } => self.put(Raw::FinTimeout, out, |o| {
                o.u16(*idle);
                o.u16(*hard);
            }),
            OfAction::Resubmit { port, table, with_ct, has_table } => self.resubmit(*port, *table, *with_ct, *has_table, out),
            OfAction::Learn(l) => learn::encode(out, codec, version, l),
            OfAction::Conjunction { id, clause, n_clauses } => self.put(Raw::Conjunction, out, |o| {
                o.bytes(&[*clause, *n_clauses]);
                o.u32(*id);
            }),
            OfAction::Multipath(m) => fields::put_multipath(out, codec, version, m),
            OfAction::Note(note) => self.put(Raw::Note, out, |o| o.bytes(note)),
            OfAction::Exit => self.put(Raw::Exit, out, |_| ()),
            OfAction::Sample(s) => nested::put_sample(out, self, s),
            OfAction::Clone(list) => self.put(Raw::Clone, out, |o| {
                o.zeros(6);
                self.nested(list, o);
            }),
            OfAction::Ct(ct) => nested::put_ct(out, self, ct),
            OfAction::Nat(nat) => nested::put_nat(out, version, nat),
            OfAction::CtClear => self.put(Raw::CtClear, out, |_| ()),
            OfAction::Encap(encap) => nested::put_encap(out, version, encap),
            OfAction::Decap { new_packet_type } => self.put(Raw::Decap, out, |o| {
                o.zeros(2);
                o.u32(new_packet_type.unwrap_or(PT_USE_NEXT_PROTO));
            }),
            OfAction::DecNshTtl => self.put(Raw::DecNshTtl, out, |_| ()),
            OfAction::CheckPktLarger { len, dst } => {
                fields::put_named(out, codec, (version, Raw::CheckPktLarger), &[*len, dst.ofs], dst.field, &[]);
            }
            OfAction::DeleteField(field) => fields::put_named(out, codec, (version, Raw::DeleteField), &[], *field, &[]),
            OfAction::DebugRecirc => self.put(Raw::DebugRecirc, out, |_| ()),
            OfAction::DebugSlow => self.put(Raw::DebugSlow, out, |_| ()),
            _ => {}
        }
    }

    fn write_metadata(&self, value: u64, mask: u64, out: &mut Vec<u8>) {
        self.put(Raw::WriteMetadata, out, |o| {
            o.zeros(6);
            o.u64(value);
            o.u64(mask);
        });
    }

    fn output(&self, port: OfPort, max_len: u16, out: &mut Vec<u8>) {
        if self.version == Version::V10 {
            self.put(Raw::Output10, out, |o| {
                o.u16(port.to_wire16());
                o.u16(max_len);
            });
        } else {
            self.put(Raw::Output11, out, |o| {
                o.u32(port.0);
                o.u16(max_len);
            });
        }
    }

    fn controller(&self, c: &Controller, out: &mut Vec<u8>) {
        if c.userdata.is_empty() && !c.pause && c.meter_id == u32::MAX {
            return self.put(Raw::Controller, out, |o| {
                o.u16(c.max_len);
                o.u16(c.controller_id);
                o.u8(c.reason);
            });
        }
        self.put(Raw::Controller2, out, |o| {
            o.zeros(6);
            if c.max_len != u16::MAX {
                props::put_u16(o, 0, c.max_len);
            }
            if c.controller_id != 0 {
                props::put_u16(o, 1, c.controller_id);
            }
            if c.reason != REASON_ACTION {
                props::put_u8(o, 2, c.reason);
            }
            if !c.userdata.is_empty() {
                props::put(o, 3, &c.userdata);
            }
            if c.pause {
                props::put_flag(o, 4);
            }
            if c.meter_id != u32::MAX {
                props::put_u32(o, 5, c.meter_id);
            }
        });
    }

    /// OpenFlow 1.1+ has no enqueue: set the queue, output, take it back.
    fn enqueue(&self, port: OfPort, queue: u32, out: &mut Vec<u8>) {
        if self.version == Version::V10 {
            return self.put(Raw::Enqueue10, out, |o| {
                o.u16(port.to_wire16());
                o.zeros(6);
                o.u32(queue);
            });
        }
        self.put32(Raw::SetQueue, out, queue);
        self.output(port, u16::MAX, out);
        self.put(Raw::PopQueue, out, |_| ());
    }

    /// OpenFlow 1.0 adds a tag where there is none; later versions must be told to.
    fn vlan(&self, vid: Option<u16>, pcp: Option<u8>, push_if_needed: bool, out: &mut Vec<u8>) {
        let version = self.version;
        if version != Version::V10 && push_if_needed && !self.seen.has_vlan() {
            self.put(Raw::PushVlan11, out, |o| o.u16(VLAN_8021Q));
        }
        if let Some(vid) = vid {
            match version {
                Version::V10 => self.put(Raw::SetVlanVid10, out, |o| o.u16(vid)),
                Version::V11 => self.put(Raw::SetVlanVid11, out, |o| o.u16(vid)),
                Version::V12 | Version::V13 | Version::V14 | Version::V15 => {
                    fields::put_whole(out, self.codec, version, Field::VlanVid, u128::from(vid) | VID_PRESENT);
                }
            }
        }
        if let Some(pcp) = pcp {
            match version {
                Version::V10 => self.put(Raw::SetVlanPcp10, out, |o| o.u8(pcp)),
                Version::V11 => self.put(Raw::SetVlanPcp11, out, |o| o.u8(pcp)),
                Version::V12 | Version::V13 | Version::V14 | Version::V15 => {
                    fields::put_whole(out, self.codec, version, Field::VlanPcp, u128::from(pcp));
                }
            }
        }
    }

    /// A set action of 1.0 and 1.1 that is a set-field later.
    fn header(&self, raw: Raw, field: Field, bytes: &[u8], out: &mut Vec<u8>) {
        if self.version >= Version::V12 {
            let value = bytes.iter().fold(0, |sum, b| sum << 8 | u128::from(*b));
            fields::put_whole(out, self.codec, self.version, field, value);
        } else {
            self.put(raw, out, |o| o.bytes(bytes));
        }
    }

    fn load(&self, field: Field, value: u64, out: &mut Vec<u8>) {
        let dst = crate::action::Subfield { field, ofs: 0, bits: field.row().bits };
        fields::put_load(out, self.codec, self.version, dst, value);
    }

    fn ecn(&self, ecn: u8, out: &mut Vec<u8>) {
        match self.version {
            Version::V10 => self.load(Field::NwEcn, u64::from(ecn), out),
            Version::V11 => self.put(Raw::SetNwEcn, out, |o| o.u8(ecn)),
            Version::V12 | Version::V13 | Version::V14 | Version::V15 => {
                fields::put_whole(out, self.codec, self.version, Field::NwEcn, u128::from(ecn));
            }
        }
    }

    fn l4(&self, raw: Raw, by_proto: [Field; 3], port: u16, out: &mut Vec<u8>) {
        let field = match self.seen.nw_proto {
            PROTO_TCP => Some(by_proto[0]),
            PROTO_UDP => Some(by_proto[1]),
            PROTO_SCTP => Some(by_proto[2]),
            _ => None,
        };
        match field {
            Some(field) if self.version >= Version::V12 => {
                fields::put_whole(out, self.codec, self.version, field, u128::from(port))
            }
            _ => self.put(raw, out, |o| o.u16(port)),
        }
    }

    /// 1.2 and later set the tunnel id as a field.
    fn tunnel(&self, id: u64, wide: bool, out: &mut Vec<u8>) {
        if self.version >= Version::V12 {
            return fields::put_whole(out, self.codec, self.version, Field::TunId, u128::from(id));
        }
        match u32::try_from(id) {
            Ok(id) if !wide => self.put32(Raw::SetTunnel, out, id),
            _ => self.put(Raw::SetTunnel64, out, |o| {
                o.zeros(6);
                o.u64(id);
            }),
        }
    }

    fn resubmit(&self, port: OfPort, table: TableId, with_ct: bool, has_table: bool, out: &mut Vec<u8>) {
        let raw = match (with_ct, has_table || table != TableId::ALL) {
            (true, _) => Raw::ResubmitTableCt,
            (false, true) => Raw::ResubmitTable,
            (false, false) => Raw::Resubmit,
        };
        self.put(raw, out, |o| {
            o.u16(port.to_wire16());
            o.u8(if raw == Raw::Resubmit { 0 } else { table.0 });
        });
    }
}
