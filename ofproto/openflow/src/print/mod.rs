//! Whole messages as text: what `ovs-ofctl ofp-print` shows, and what the log says at `vconn|DBG`.
//!
//! What enters: the bytes of a message, names of ports and tables, and how much to tell. What leaves: lines of text, the last one
//! ended. Bytes that cannot be decoded are told of and dumped in hexadecimal; nothing here fails. Neighbours: `wire` decodes, `text`
//! writes flows, groups and meters.
//!
//! Rooms: `name` names formats, `hex` dumps bytes and names bits, `session`, `ports`, `tables`, `packets`, `lists` write bodies.

mod hex;
mod lists;
mod name;
mod packets;
mod ports;
mod session;
mod tables;

pub use hex::{hex_dump, hex_lines};
pub use packets::packet_summary;

use crate::error::OfError;
use crate::message::{Body, Message, MultipartBody, TableFeatures};
use crate::text::actions::Alternate;
use crate::text::flow::{format_flow_mod, format_flow_stats};
use crate::text::group::{format_group_desc, format_group_mod};
use crate::text::meter::{format_meter, format_meter_id, format_meter_mod, format_meter_stats};
use crate::text::{Names, format_tlv_table_mod, format_tlv_table_reply};
use crate::types::Version;
use crate::wire::formats::{self, Opened};
use crate::wire::{Codec, HEADER_BYTES, Header};
use std::fmt::Write;

/// How much is told: 0 the least, 1 packets and lists of ports, 2 payloads of echoes, 3 packets in hexadecimal, 5 every message in
/// hexadecimal, too.
pub type Verbosity = u8;

/// A message's bytes as text.
#[must_use]
pub fn format_bytes(message: &[u8], names: &Names<'_>, verbosity: Verbosity) -> String {
    let Some(header) = Header::peek(message) else {
        return match message.len() {
            0 => "OpenFlow message is empty\n".to_owned(),
            n => format!("OpenFlow packet too short (only {n} bytes):\n{}", hex_dump(message)),
        };
    };
    let length = usize::from(header.length);
    if length > message.len() {
        let shown = header_text(header, message).map_or_else(|_| String::new(), |t| t + "\n");
        return format!("{shown}(***truncated to {} bytes from {length}***)\n{}", message.len(), hex_dump(message));
    }
    if length < message.len() {
        return format!("(***only uses {length} bytes out of {}***)\n{}", message.len(), hex_dump(message));
    }
    let mut out = String::new();
    let error = whole(&mut out, header, (message, names), verbosity).err();
    if let Some(error) = error {
        put(&mut out, format_args!("***decode error: {}***\n", error.name()));
    }
    if verbosity >= 5 || error.is_some() {
        end_line(&mut out);
        out.push_str(&hex_dump(message));
    }
    end_line(&mut out);
    out
}

/// Header and body of a whole message, as far as it can be decoded.
fn whole(out: &mut String, header: Header, (message, names): (&[u8], &Names<'_>), verbosity: Verbosity) -> Result<(), OfError> {
    let (version, opened) = open(header, message)?;
    out.push_str(&header_text(header, message)?);
    let start = out.len();
    let printer = Printer { names, verbosity, version, message, flags: opened.flags };
    let shown = printer.print(out, opened.format.class.multipart().is_some());
    if shown.is_err() && out.len() == start {
        out.push(' ');
        return shown;
    }
    chomp(out, ' ');
    if shown.is_err() {
        end_line(out);
    }
    shown
}

/// A message as text. What its version cannot say is told by name.
#[must_use]
pub fn format_message(message: &Message, names: &Names<'_>, verbosity: Verbosity) -> String {
    let bytes = match message.encode() {
        Ok(bytes) => bytes,
        Err(error) => return format!("(***{error}***)\n"),
    };
    let mut out = String::new();
    let mut rest = &bytes[..];
    while let Some(header) = Header::peek(rest) {
        let (one, more) = rest.split_at(usize::from(header.length).clamp(HEADER_BYTES, rest.len()));
        out.push_str(&format_bytes(one, names, verbosity));
        rest = more;
    }
    out
}

/// The features of all of a switch's tables, put together from the messages of a reply; ends its last line.
#[must_use]
pub fn format_table_features(tables: &[TableFeatures], version: Version) -> String {
    let mut out = String::new();
    tables::features(&mut out, tables, version);
    end_line(&mut out);
    out
}

fn version_of(header: Header) -> Result<Version, OfError> {
    // A hello of a version to come is one, too.
    let newer = header.kind == 0 && header.version > Version::V15 as u8;
    Version::from_wire(header.version).or_else(|| newer.then_some(Version::V15)).ok_or(OfError::OfpbrcBadType)
}

fn open(header: Header, message: &[u8]) -> Result<(Version, Opened<'_>), OfError> {
    let version = version_of(header)?;
    Ok((version, formats::open(version, header, message)?))
}

/// `OFPT_HELLO (OF1.3) (xid=0x1):`
fn header_text(header: Header, message: &[u8]) -> Result<String, OfError> {
    let opened = formats::identify(version_of(header)?, header, message)?;
    let shown = match header.version {
        1 => String::new(),
        v @ 2..=6 => format!(" (OF1.{})", v - 1),
        v => format!(" (OF 0x{v:02x})"),
    };
    Ok(format!("{}{shown} (xid={:#x}):", name::of(opened.format), header.xid.0))
}

/// `format!` into a string.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string cannot fail");
}

fn chomp(out: &mut String, end: char) {
    if out.ends_with(end) {
        out.pop();
    }
}

fn end_line(out: &mut String) {
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
}

/// One message being printed.
#[derive(Clone, Copy)]
struct Printer<'a> {
    names: &'a Names<'a>,
    verbosity: Verbosity,
    version: Version,
    message: &'a [u8],
    flags: u16,
}

impl Printer<'_> {
    fn print(&self, out: &mut String, multipart: bool) -> Result<(), OfError> {
        if multipart {
            self.multipart_flags(out);
        }
        let message = Codec::default().decode(self.message)?;
        self.body(out, &message.body);
        Ok(())
    }

    fn multipart_flags(&self, out: &mut String) {
        if self.flags == 0 {
            return;
        }
        out.push_str(" flags=");
        let reply = matches!((self.version, self.message[1]), (Version::V10, 17) | (_, 19));
        let more = u16::from(reply || self.version >= Version::V13);
        if self.flags & more != 0 {
            out.push_str("[more]");
        }
        let unknown = self.flags & !more;
        if unknown != 0 {
            put(out, format_args!("[***unknown flags 0x{unknown:04x}***]"));
        }
    }

    fn body(&self, out: &mut String, body: &Body) {
        match body {
            Body::Hello(versions) => session::hello(out, *versions, self.message),
            Body::Error(error) => session::error(out, error, self.names),
            Body::EchoRequest(data) | Body::EchoReply(data) => session::echo(out, data, self.verbosity),
            Body::FeaturesReply(features) => session::features(out, features),
            Body::GetConfigReply(config) | Body::SetConfig(config) => session::config(out, *config),
            Body::PacketIn(packet) => packets::packet_in(self, out, packet),
            Body::Resume(packet) => packets::resume(self, out, packet),
            Body::FlowRemoved(flow) => packets::flow_removed(self, out, flow),
            Body::PacketOut(packet) => packets::packet_out(self, out, packet),
            Body::PortStatus(status) => ports::status(out, status),
            Body::FlowMod(flow) => put(out, format_args!(" {}", format_flow_mod(flow, self.version, self.names))),
            Body::GroupMod(group) => put(out, format_args!("\n {}", format_group_mod(group, self.version, self.names))),
            Body::PortMod(port) => ports::port_mod(out, port, self.names),
            Body::TableMod(table) => tables::table_mod(out, table, self.names),
            Body::MeterMod(meter) => put(out, format_args!(" {}", format_meter_mod(meter))),
            Body::QueueGetConfigRequest { port, queue } => lists::queue_config_request(out, *port, *queue, self.names),
            Body::QueueGetConfigReply { queues, .. } => lists::queue_config(out, queues, self.names),
            Body::RoleRequest(role) | Body::RoleReply(role) => session::role(out, role.role, role.generation_id),
            Body::RoleStatus { role, reason, generation_id } => session::role_status(out, *role, *reason, *generation_id),
            Body::GetAsyncReply(config) | Body::SetAsync(config) => session::async_config(out, config),
            Body::RequestForward(inner) => self.request_forward(out, &inner.body),
            Body::TableStatus { reason, desc } => tables::status(out, *reason, desc, self.names),
            Body::BundleControl(control) => session::bundle_control(out, control),
            Body::BundleAdd { id, flags, raw, .. } => {
                put(
                    out,
                    format_args!(
                        "\n bundle_id={} flags={}\n",
                        Alternate(u64::from(*id)),
                        hex::bits(*flags, &session::BUNDLE_FLAGS, " ")
                    ),
                );
                out.push_str(&format_bytes(raw, self.names, self.verbosity));
            }
            Body::SetFlowFormat(format) => {
                let name = ["openflow10", "(unknown)", "nxm"].get(*format as usize).unwrap_or(&"(unknown)");
                put(out, format_args!(" format={name}"));
            }
            Body::FlowModTableId(on) => out.push_str(if *on { " enable" } else { " disable" }),
            Body::SetPacketInFormat(format) => {
                let name = ["standard", "nxt_packet_in", "nxt_packet_in2"].get(*format as usize).unwrap_or(&"(unknown)");
                put(out, format_args!(" format={name}"));
            }
            Body::SetControllerId(id) => put(out, format_args!(" id={id}")),
            Body::TlvTableMod(table) => out.push_str(&format_tlv_table_mod(table)),
            Body::TlvTableReply(table) => out.push_str(&format_tlv_table_reply(table)),
            Body::CtFlushZone(zone) => put(out, format_args!(" zone_id={zone}")),
            Body::CtFlush(flush) => lists::ct_flush(out, flush),
            Body::FlowMonitorCancel(id) => put(out, format_args!(" id={id}")),
            Body::Stats(multipart) => self.multipart(out, &multipart.body),
            Body::FeaturesRequest
            | Body::GetConfigRequest
            | Body::BarrierRequest
            | Body::BarrierReply
            | Body::GetAsyncRequest
            | Body::FlowAge
            | Body::TlvTableRequest
            | Body::FlowMonitorPaused
            | Body::FlowMonitorResumed => {}
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "OpenFlow forwards these two; the codec takes no others")]
    fn request_forward(&self, out: &mut String, inner: &Body) {
        match inner {
            Body::GroupMod(group) => {
                put(out, format_args!(" reason=group_mod\n {}", format_group_mod(group, self.version, self.names)))
            }
            Body::MeterMod(meter) => put(out, format_args!(" reason=meter_mod {}", format_meter_mod(meter))),
            _ => {}
        }
    }

    fn multipart(&self, out: &mut String, body: &MultipartBody) {
        let (names, version) = (self.names, self.version);
        match body {
            MultipartBody::DescReply(desc) => session::desc(out, desc),
            MultipartBody::FlowRequest(request) | MultipartBody::AggregateRequest(request) => {
                lists::flow_request(out, request, names)
            }
            MultipartBody::FlowReply(flows) => {
                flows.iter().for_each(|flow| put(out, format_args!("\n {}", format_flow_stats(flow, true, names))));
            }
            MultipartBody::AggregateReply { packets, bytes, flows } => {
                put(out, format_args!(" packet_count={packets} byte_count={bytes} flow_count={flows}"));
            }
            MultipartBody::TableReply(entries) => tables::stats(out, entries, version),
            MultipartBody::PortRequest(port) => put(out, format_args!(" port_no={}", names.port(*port))),
            MultipartBody::PortReply(entries) => ports::stats(out, entries, names, self.verbosity),
            MultipartBody::QueueRequest { port, queue } => {
                put(out, format_args!(" port={} queue={}", names.port(*port), lists::queue_name(*queue)));
            }
            MultipartBody::QueueReply(entries) => lists::queue_stats(out, entries, names, self.verbosity),
            MultipartBody::GroupRequest(group) | MultipartBody::GroupDescRequest(group) => {
                put(out, format_args!(" group_id={}", crate::text::group::format_group_id(*group)));
            }
            MultipartBody::GroupReply(entries) => lists::group_stats(out, entries),
            MultipartBody::GroupDescReply(groups) => {
                groups.iter().for_each(|group| put(out, format_args!("\n {}", format_group_desc(group, version, names))));
            }
            MultipartBody::GroupFeaturesReply(features) => lists::group_features(out, features),
            MultipartBody::MeterRequest(meter) | MultipartBody::MeterConfigRequest(meter) => {
                put(out, format_args!(" {}", format_meter_id(*meter, '=')));
            }
            MultipartBody::MeterReply(entries) => {
                entries.iter().for_each(|e| put(out, format_args!("\n{}", format_meter_stats(e))));
            }
            MultipartBody::MeterConfigReply(meters) => {
                meters.iter().for_each(|m| put(out, format_args!("\n{}", format_meter(m))));
            }
            MultipartBody::MeterFeaturesReply(features) => lists::meter_features(out, *features),
            MultipartBody::TableFeaturesRequest(tables) | MultipartBody::TableFeaturesReply(tables) => {
                tables::features(out, tables, version);
            }
            MultipartBody::TableDescReply(tables) => tables.iter().for_each(|t| tables::desc(out, t, names)),
            MultipartBody::PortDescRequest(port) => put(out, format_args!(" port={}", names.port(*port))),
            MultipartBody::PortDescReply(entries) => {
                out.push('\n');
                ports::list(out, entries);
            }
            MultipartBody::FlowMonitorRequest(requests) => requests.iter().for_each(|r| lists::monitor_request(out, r, names)),
            MultipartBody::FlowMonitorReply(updates) => updates.iter().for_each(|u| lists::monitor_update(out, u, names)),
            MultipartBody::IpfixBridgeReply(stats) => lists::ipfix_bridge(out, stats),
            MultipartBody::IpfixFlowReply(entries) => lists::ipfix_flows(out, entries),
            MultipartBody::DescRequest
            | MultipartBody::TableRequest
            | MultipartBody::GroupFeaturesRequest
            | MultipartBody::MeterFeaturesRequest
            | MultipartBody::TableDescRequest
            | MultipartBody::IpfixBridgeRequest
            | MultipartBody::IpfixFlowRequest => {}
        }
    }
}

#[cfg(test)]
mod tests;
