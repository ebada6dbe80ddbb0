//! Commands about packets in files: `ofp-parse-pcap` shows the OpenFlow messages of a capture, `parse-pcap` and `parse-packet` the flows that
//! packets belong to, `compose-packet` makes a packet of a flow.
//!
//! What enters: a capture's frames. What leaves: for each direction of each TCP connection the bytes in order (`Stream`), cut into messages
//! (`openflow::wire::Splitter`), as text. Neighbours: `port::pcap` reads files, `render` shows messages.

use super::Run;
use super::names::SwitchNames;
use super::offline::bytes_of;
use super::render::render;
use crate::console::Io;
use crate::fault::{Fault, errno_text};
use flow::compose::{DEFAULT_PAYLOAD, Payload, compose};
use flow::extract::{NetworkLayer, PacketMeta, extract_whole};
use flow::forms::NoNames;
use flow::hash::Map;
use flow::key::Key;
use flow::oftext::format_packet;
use flow::wire::ip_proto;
use openflow::OfPort;
use openflow::print::hex_lines;
use openflow::text::parse_exact_flow;
use openflow::wire::Splitter;
use port::pcap::{PcapError, Records, bytes_of as file_bytes};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Ports of controllers: the old one and IANA's.
const PORTS: [u16; 2] = [6633, 6653];
/// Segments that wait for one that is missing, before that one counts as lost.
const EARLY_MAX: usize = 1024;
/// Where a TCP header has its sequence number and the length of itself in words (RFC 9293, 3.1), and its shortest length.
const SEQUENCE: usize = 4;
const WORDS: usize = 12;
const TCP_BYTES: usize = 20;
const SYN: u8 = 2;

/// A segment of TCP with its payload.
#[derive(Debug)]
struct Segment<'a> {
    source: SocketAddr,
    destination: SocketAddr,
    sequence: u32,
    syn: bool,
    payload: &'a [u8],
}

impl<'a> Segment<'a> {
    fn of(frame: &'a [u8]) -> Option<Self> {
        let mut key = Key::ZERO;
        let found = extract_whole(frame, &PacketMeta::default(), &mut key);
        let (source, destination) = match found.network {
            NetworkLayer::Ipv4 => (IpAddr::from(key.nw_src), IpAddr::from(key.nw_dst)),
            NetworkLayer::Ipv6 => (IpAddr::from(key.ipv6_src), IpAddr::from(key.ipv6_dst)),
            NetworkLayer::None | NetworkLayer::Arp | NetworkLayer::Nsh | NetworkLayer::Pbb => return None,
        };
        if found.transport != ip_proto::TCP {
            return None;
        }
        let end = frame.len().checked_sub(usize::from(found.l2_pad))?;
        let segment = frame.get(usize::from(found.l4)..end)?;
        let header = segment.first_chunk::<TCP_BYTES>()?;
        let header_bytes = Some(usize::from(header[WORDS] >> 4) * 4).filter(|n| *n >= TCP_BYTES)?;
        let payload = segment.get(header_bytes..)?;
        let sequence = u32::from_be_bytes(*header[SEQUENCE..].first_chunk()?);
        Some(Self {
            source: SocketAddr::new(source, u16::from_be_bytes(key.tp_src)),
            destination: SocketAddr::new(destination, u16::from_be_bytes(key.tp_dst)),
            sequence,
            syn: key.tcp_flags[1] & SYN != 0,
            payload,
        })
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Stream {
    /// The sequence number that comes next; none before the first segment.
    next: Option<u32>,
    /// Segments from beyond a gap, by how far they lay from where the connection was seen first.
    early: BTreeMap<u32, Vec<u8>>,
    first: u32,
    messages: Splitter,
}

impl Stream {
    /// Takes a segment; how many bytes are given up as lost.
    fn take(&mut self, segment: &Segment<'_>) -> u32 {
        if segment.syn {
            *self = Self { next: Some(segment.sequence.wrapping_add(1)), first: segment.sequence, ..Self::default() };
            return 0;
        }
        let next = *self.next.get_or_insert(segment.sequence);
        if self.early.is_empty() && self.first == 0 {
            self.first = next;
        }
        let ahead = segment.sequence.wrapping_sub(next);
        // More than half of the numbers ahead lies behind.
        if ahead == 0 || ahead > u32::MAX / 2 {
            self.append(segment.sequence, segment.payload);
        } else if !segment.payload.is_empty() {
            self.early.insert(segment.sequence.wrapping_sub(self.first), segment.payload.to_vec());
        }
        let lost = if self.early.len() > EARLY_MAX { self.give_up() } else { 0 };
        self.follow();
        lost
    }

    /// Appends what is new of a payload that begins at or before the next byte.
    fn append(&mut self, sequence: u32, payload: &[u8]) {
        let Some(next) = self.next else { return };
        let known = next.wrapping_sub(sequence) as usize;
        let Some(fresh) = payload.get(known..) else { return };
        self.messages.push(fresh);
        self.next = Some(sequence.wrapping_add(u32::try_from(payload.len()).unwrap_or(u32::MAX)));
    }

    /// Appends the segments that a gap kept back and keeps back no longer.
    fn follow(&mut self) {
        while let Some((at, _)) = self.early.first_key_value() {
            let sequence = at.wrapping_add(self.first);
            let ahead = self.next.map_or(0, |next| sequence.wrapping_sub(next));
            if ahead != 0 && ahead <= u32::MAX / 2 {
                return;
            }
            if let Some((_, payload)) = self.early.pop_first() {
                self.append(sequence, &payload);
            }
        }
    }

    /// Goes on behind the gap: what was begun before it is no message.
    fn give_up(&mut self) -> u32 {
        let (Some(next), Some((at, _))) = (self.next, self.early.first_key_value()) else { return 0 };
        let behind = at.wrapping_add(self.first);
        self.messages = Splitter::default();
        self.next = Some(behind);
        behind.wrapping_sub(next)
    }
}

/// `ofp-parse-pcap FILE [PORT...]`
pub(super) fn print_capture(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let file = run.argument(1);
    let mut ports = Vec::new();
    for port in run.words.iter().skip(2) {
        ports.push(port.parse().map_err(|_| Fault::say(format!("{port}: invalid port number")))?);
    }
    if ports.is_empty() {
        ports.extend(PORTS);
    }
    let mut streams: Map<(SocketAddr, SocketAddr), Stream> = Map::default();
    let mut last = Duration::ZERO;
    frames(io, file, &mut |io, time, frame| {
        last = time;
        let Some(segment) = Segment::of(frame) else { return Ok(()) };
        if !ports.contains(&segment.source.port()) && !ports.contains(&segment.destination.port()) {
            return Ok(());
        }
        let way = (segment.source, segment.destination);
        let stream = streams.entry(way).or_default();
        let lost = stream.take(&segment);
        show(io, run, (way, time), lost, stream)
    })?;
    // What waits for segments that do not come.
    for (way, mut stream) in streams {
        while !stream.early.is_empty() {
            let lost = stream.give_up();
            stream.follow();
            show(io, run, (way, last), lost, &mut stream)?;
        }
    }
    Ok(0)
}

/// Shows the messages that have come one way of a connection, and that bytes before them are lost.
fn show(
    io: &mut Io<'_>,
    run: &Run<'_>,
    ((source, destination), time): ((SocketAddr, SocketAddr), Duration),
    lost: u32,
    stream: &mut Stream,
) -> Result<(), Fault> {
    let file = run.argument(1);
    let shown = |end: SocketAddr| format!("{}.{}", end.ip(), end.port());
    let named = format!("{} > {}", shown(source), shown(destination));
    if lost != 0 {
        writeln!(io.err, "{file}: {named}: {lost} bytes are not in the file")?;
    }
    loop {
        match stream.messages.next_message() {
            Ok(None) => return Ok(()),
            Ok(Some(message)) => {
                let when = if run.options.timestamp { format!("{} ", time_of_day(time)) } else { String::new() };
                let text = render(message, &SwitchNames::none(), run.options.verbosity + 1);
                writeln!(io.out, "{when}{named}:\n{text}")?;
            }
            Err(e) => {
                writeln!(io.err, "{file}: {named}: {e}")?;
                // Out of step: what follows may begin with a message.
                stream.messages = Splitter::default();
            }
        }
    }
}

/// `00:07:42.782`, in UTC.
fn time_of_day(time: Duration) -> String {
    let seconds = time.as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60, time.subsec_millis())
}

/// What is done with a frame and its time.
type Each<'e> = dyn FnMut(&mut Io<'_>, Duration, &[u8]) -> Result<(), Fault> + 'e;

/// Calls `each` with the frames of a file. One that is cut short is told of after its whole frames.
fn frames(io: &mut Io<'_>, file: &str, each: &mut Each<'_>) -> Result<u8, Fault> {
    let mut no = |e: PcapError| match e {
        PcapError::Io(e) => {
            let warning = format!("{file}: failed to open pcap file for reading ({})", errno_text(&e));
            io.warn("pcap", &warning).map_or_else(Fault::from, |()| Fault::because(format!("{file}: open failed"), &e))
        }
        PcapError::Magic(_) | PcapError::Pcapng | PcapError::LinkType(_) | PcapError::Truncated(_) | PcapError::TooLarge => {
            Fault::say(format!("{file}: {e}"))
        }
    };
    let bytes = file_bytes(Path::new(file)).map_err(&mut no)?;
    for record in Records::of(&bytes).map_err(&mut no)? {
        match record {
            Ok(record) => each(io, record.time, record.frame)?,
            Err(e) => writeln!(io.err, "{file}: {e}")?,
        }
    }
    Ok(0)
}

/// `parse-pcap FILE...`
pub(super) fn print_flows(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    for file in run.words.iter().skip(1) {
        frames(io, file, &mut |io, _, frame| {
            let mut key = Key::ZERO;
            extract_whole(frame, &PacketMeta::default(), &mut key);
            key.in_port = OfPort::ANY.to_key();
            writeln!(io.out, "{}", format_packet(&key, &NoNames))?;
            Ok(())
        })?;
    }
    Ok(0)
}

/// `parse-packet`: one packet on standard input.
pub(super) fn print_flow(io: &mut Io<'_>, _: &Run<'_>) -> Result<u8, Fault> {
    let mut packet = Vec::new();
    std::io::stdin().read_to_end(&mut packet).map_err(|e| Fault::because("-: read failed", &e))?;
    let mut key = Key::ZERO;
    extract_whole(&packet, &PacketMeta::default(), &mut key);
    writeln!(io.out, "{}", format_packet(&key, &NoNames))?;
    Ok(0)
}

/// `compose-packet FLOW [PAYLOAD]`
pub(super) fn compose_packet(io: &mut Io<'_>, run: &Run<'_>) -> Result<u8, Fault> {
    let none = SwitchNames::none();
    let (mut key, _) = parse_exact_flow(run.argument(1), &none.names()).map_err(|e| Fault::say(e.to_string()))?;
    if key.packet_type != [0; 4] {
        key.eth_type = [key.packet_type[2], key.packet_type[3]];
    }
    let given = match run.words.get(2) {
        Some(text) => Some(bytes_of(text).ok_or_else(|| Fault::say(format!("{text}: trailing garbage following hex bytes")))?),
        None => None,
    };
    let payload = given.as_deref().map_or(DEFAULT_PAYLOAD, Payload::Bytes);
    write!(io.out, "{}", hex_lines(&compose(&key, payload)))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use openflow::wire::HEADER_BYTES;

    fn segment(sequence: u32, syn: bool, payload: &[u8]) -> Segment<'_> {
        let end = SocketAddr::from(([127, 0, 0, 1], 6653));
        Segment { source: end, destination: end, sequence, syn, payload }
    }

    fn messages(stream: &mut Stream) -> usize {
        std::iter::from_fn(|| stream.messages.next_message().unwrap().map(<[u8]>::len)).count()
    }

    /// Ten echo requests.
    fn bytes() -> Vec<u8> {
        (0..10).flat_map(|n| [4, 2, 0, 8, 0, 0, 0, n]).collect()
    }

    #[test]
    fn segments_are_put_in_order() {
        let bytes = bytes();
        for start in [1u32, 0, u32::MAX - 20] {
            for step in [1, 3, 8, 13, 80] {
                let mut stream = Stream::default();
                stream.take(&segment(start.wrapping_sub(1), true, &[]));
                let mut parts: Vec<_> = bytes.chunks(step).enumerate().map(|(n, part)| (n * step, part)).collect();
                // Neighbours change places, and each comes twice.
                parts.chunks_mut(2).for_each(<[_]>::reverse);
                for (at, part) in parts.iter().flat_map(|part| [part, part]) {
                    assert_eq!(stream.take(&segment(start.wrapping_add(u32::try_from(*at).unwrap()), false, part)), 0);
                }
                assert_eq!(messages(&mut stream), 10, "{start} {step}");
            }
        }
    }

    #[test]
    fn overlapping_segments_count_once() {
        let bytes = bytes();
        let mut stream = Stream::default();
        stream.take(&segment(100, false, &bytes[..20]));
        stream.take(&segment(110, false, &bytes[10..50]));
        stream.take(&segment(100, false, &bytes[..20]));
        stream.take(&segment(140, false, &bytes[40..]));
        assert_eq!(messages(&mut stream), 10);
    }

    #[test]
    fn a_gap_is_given_up() {
        let message = [4, 2, 0, 8, 0, 0, 0, 1];
        let mut stream = Stream::default();
        stream.take(&segment(7, false, &message[..4]));
        let lost = (0..2000u32).map(|n| stream.take(&segment(100 + 8 * n, false, &message))).filter(|lost| *lost != 0);
        assert_eq!(lost.collect::<Vec<_>>(), [89]);
        assert_eq!(messages(&mut stream), 2000);
        // At the end of a file nothing more will come.
        stream.take(&segment(100_000, false, &message));
        assert_eq!((messages(&mut stream), stream.give_up()), (0, 100_000 - (100 + 8 * 2000)));
        stream.follow();
        assert_eq!((messages(&mut stream), stream.early.len()), (1, 0));
    }

    #[test]
    fn segments_of_both_families_without_their_padding() {
        for flow in [
            "tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2,tp_src=6653,tp_dst=4",
            "tcp6,ipv6_src=2001:db8::1,ipv6_dst=::2,tp_src=6653,tp_dst=4",
        ] {
            let (key, _) = parse_exact_flow(flow, &SwitchNames::none().names()).unwrap();
            let mut frame = compose(&key, Payload::Bytes(&[4, 2, 0, 8, 0, 0, 0, 1]));
            frame.extend([0; 7]);
            let segment = Segment::of(&frame).unwrap();
            assert_eq!((segment.payload.len(), segment.source.port(), segment.syn), (HEADER_BYTES, 6653, false), "{flow}");
            for cut in 0..frame.len() {
                let _ = Segment::of(&frame[..cut]);
            }
        }
    }

    #[test]
    fn times_of_day() {
        assert_eq!(time_of_day(Duration::from_millis(86_400_000 + 3_723_045)), "01:02:03.045");
    }
}
