//! An OpenFlow connection by bytes, so that no codec stands between a test and the switch. OpenFlow 1.0 (version 1), 1.3 (4) and 1.4 (5).

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// `OFPT_*` types that are the same in all versions.
pub(crate) const HELLO: u8 = 0;
pub(crate) const ERROR: u8 = 1;
pub(crate) const ECHO_REQUEST: u8 = 2;
pub(crate) const ECHO_REPLY: u8 = 3;
pub(crate) const FEATURES_REQUEST: u8 = 5;
pub(crate) const FEATURES_REPLY: u8 = 6;
pub(crate) const PACKET_IN: u8 = 10;
pub(crate) const FLOW_REMOVED: u8 = 11;
pub(crate) const PORT_STATUS: u8 = 12;
pub(crate) const FLOW_MOD: u8 = 14;

/// A received message.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) kind: u8,
    pub(crate) xid: u32,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// The 16 bits at byte `at` of the body.
    pub(crate) fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.body[at], self.body[at + 1]])
    }

    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.body[at..at + 4].try_into().unwrap())
    }

    /// Type and code of an error message.
    #[track_caller]
    pub(crate) fn error(&self) -> (u16, u16) {
        assert_eq!(self.kind, ERROR, "not an error: {self:?}");
        (self.u16(0), self.u16(2))
    }
}

/// The connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: UnixStream,
    version: u8,
    next_xid: u32,
}

impl Wire {
    /// Connects and shakes hands.
    pub(crate) fn connect(path: &Path, version: u8) -> Self {
        let mut wire = Self::raw(path, version);
        wire.send(HELLO, &[]);
        let hello = wire.receive().expect("the switch says hello");
        assert_eq!(hello.kind, HELLO);
        wire
    }

    /// Connects, and says nothing.
    pub(crate) fn raw(path: &Path, version: u8) -> Self {
        let stream = UnixStream::connect(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        Self { stream, version, next_xid: 100 }
    }

    /// Sends a message; its transaction id.
    pub(crate) fn send(&mut self, kind: u8, body: &[u8]) -> u32 {
        let xid = self.next_xid;
        self.next_xid += 1;
        let length = u16::try_from(body.len() + 8).unwrap();
        let mut bytes = vec![self.version, kind];
        bytes.extend(length.to_be_bytes());
        bytes.extend(xid.to_be_bytes());
        bytes.extend(body);
        self.send_bytes(&bytes);
        xid
    }

    /// Sends bytes as they are; a connection that the switch has closed is no fault here.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
    }

    /// The next message; `None` when the switch closes the connection, or has nothing to say for five seconds.
    pub(crate) fn receive(&mut self) -> Option<Message> {
        let mut header = [0; 8];
        self.fill(&mut header)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let mut body = vec![0; length.checked_sub(8).expect("a length of at least 8")];
        self.fill(&mut body)?;
        Some(Message { kind: header[1], xid: u32::from_be_bytes([header[4], header[5], header[6], header[7]]), body })
    }

    fn fill(&mut self, into: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(into) {
            Ok(()) => Some(()),
            Err(e) if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => None,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(e) => panic!("reading from the switch: {e}"),
        }
    }

    /// The answer to `xid`; what else arrives before it is dropped, but echo requests, which are answered.
    #[track_caller]
    pub(crate) fn answer_to(&mut self, xid: u32) -> Message {
        loop {
            let message = self.receive().expect("an answer");
            if message.xid == xid && message.kind != ECHO_REQUEST {
                return message;
            }
            self.keep_alive(&message);
        }
    }

    /// The next message of a kind.
    #[track_caller]
    pub(crate) fn next_of(&mut self, kind: u8) -> Message {
        loop {
            let message = self.receive().unwrap_or_else(|| panic!("waiting for a message of type {kind}"));
            if message.kind == kind {
                return message;
            }
            self.keep_alive(&message);
        }
    }

    fn keep_alive(&mut self, message: &Message) {
        if message.kind == ECHO_REQUEST {
            let body = message.body.clone();
            self.send(ECHO_REPLY, &body);
        }
    }

    /// Sends a barrier request and waits for its reply. Anything but the reply is a fault.
    #[track_caller]
    pub(crate) fn barrier(&mut self) {
        let (request, reply) = if self.version == 1 { (18, 19) } else { (20, 21) };
        let xid = self.send(request, &[]);
        loop {
            let answer = self.receive().expect("a barrier's reply");
            assert_ne!(answer.kind, ERROR, "before the barrier's reply: {answer:?}");
            if answer.xid == xid && answer.kind == reply {
                return;
            }
            self.keep_alive(&answer);
        }
    }

    /// An OpenFlow 1.0 flow-mod that matches everything and outputs to `port`. `command`: 0 adds, 1 modifies.
    pub(crate) fn output_all(&mut self, command: u16, priority: u16, port: u16) -> u32 {
        assert_eq!(self.version, 1);
        let mut body = Vec::new();
        // ofp_match: everything wildcarded (OFPFW_ALL).
        body.extend(((1u32 << 22) - 1).to_be_bytes());
        body.extend([0; 36]);
        body.extend([0; 8]); // cookie
        body.extend(command.to_be_bytes());
        body.extend([0; 4]); // idle, hard
        body.extend(priority.to_be_bytes());
        body.extend(u32::MAX.to_be_bytes()); // buffer_id
        body.extend(0xffff_u16.to_be_bytes()); // out_port
        body.extend([0; 2]); // flags
        // OFPAT_OUTPUT
        body.extend([0, 0, 0, 8]);
        body.extend(port.to_be_bytes());
        body.extend(0xffff_u16.to_be_bytes());
        self.send(FLOW_MOD, &body)
    }

    /// An OpenFlow 1.3 group-mod of group 1, of type indirect, that outputs to `port`. `command`: 0 adds, 1 modifies.
    pub(crate) fn indirect_group(&mut self, command: u16, port: u16) -> u32 {
        const GROUP_MOD: u8 = 15;
        const INDIRECT: u8 = 2;
        const BUCKET: u16 = 32;
        let mut body = command.to_be_bytes().to_vec();
        body.extend([INDIRECT, 0, 0, 0, 0, 1]);
        body.extend(BUCKET.to_be_bytes());
        body.extend([0; 2]); // weight
        body.extend([0xff; 8]); // watch_port, watch_group: any
        body.extend([0; 4]);
        body.extend(output_11(port));
        self.send(GROUP_MOD, &body)
    }

    /// An OpenFlow 1.3 meter-mod of meter 1, which drops what is more than `rate` packets a second. `command`: 0 adds,
    /// 1 modifies.
    pub(crate) fn packet_meter(&mut self, command: u16, rate: u32) -> u32 {
        const METER_MOD: u8 = 29;
        const PKTPS_BURST: u16 = 2 | 4;
        let mut body = [command.to_be_bytes(), PKTPS_BURST.to_be_bytes()].concat();
        body.extend([0, 0, 0, 1]);
        body.extend([0, 1, 0, 16]); // a band that drops
        body.extend(rate.to_be_bytes());
        body.extend(rate.to_be_bytes()); // burst
        body.extend([0; 4]);
        self.send(METER_MOD, &body)
    }

    /// An OpenFlow 1.4 bundle, atomic and ordered, of one flow-mod that modifies the rules of table 0 to output to `port`.
    pub(crate) fn output_all_by_bundle(&mut self, bundle: u32, port: u16) {
        const CONTROL: u8 = 33;
        const ADD_MESSAGE: u8 = 34;
        const ATOMIC_ORDERED: [u8; 2] = [0, 3];
        const MODIFY: u8 = 1;
        let control = |kind: u16| [&bundle.to_be_bytes()[..], &kind.to_be_bytes(), &ATOMIC_ORDERED].concat();
        let opened = self.send(CONTROL, &control(0));
        assert_eq!(self.answer_to(opened).kind, CONTROL);
        let mut flow_mod = vec![0; 16]; // cookie, mask
        flow_mod.extend([0, MODIFY, 0, 0, 0, 0, 0, 100]); // table, command, timeouts, priority
        flow_mod.extend([0xff; 12]); // buffer, out_port, out_group
        flow_mod.extend([0; 4]); // flags
        flow_mod.extend([0, 1, 0, 4, 0, 0, 0, 0]); // a match of nothing
        flow_mod.extend([0, 4, 0, 24, 0, 0, 0, 0]); // apply actions
        flow_mod.extend(output_11(port));
        let mut member = [&bundle.to_be_bytes()[..], &[0; 2], &ATOMIC_ORDERED].concat();
        member.extend([self.version, FLOW_MOD]);
        member.extend(u16::try_from(flow_mod.len() + 8).unwrap().to_be_bytes());
        // A member has the transaction id of the message that brings it.
        member.extend(self.next_xid.to_be_bytes());
        member.extend(flow_mod);
        self.send(ADD_MESSAGE, &member);
        let committed = self.send(CONTROL, &control(4));
        assert_eq!(self.answer_to(committed).kind, CONTROL);
    }
}

/// OFPAT_OUTPUT of OpenFlow 1.1 and later.
fn output_11(port: u16) -> Vec<u8> {
    [&[0, 0, 0, 16, 0, 0][..], &port.to_be_bytes(), &[0xff, 0xff], &[0; 6]].concat()
}
