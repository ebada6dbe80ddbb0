//! Requests as bytes: encoded one behind the other as they are made, and sent later. A file of a hundred thousand flows is read to its end
//! before the switch hears of the first; as bytes they take a tenth of the memory that they take as messages.
//!
//! What enters: messages, in a dialect. What leaves: their bytes, each with the transaction id that it is sent with. Neighbours: `vconn`
//! and `quiet`, which send them.

use openflow::message::{Body, Message};
use openflow::wire::HEADER_BYTES;
use openflow::wire::Unencodable;
use openflow::{Codec, Version, Xid};

/// How a connection writes: its version, and of OpenFlow 1.0 the form of flow-mods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    pub version: Version,
    /// Flow messages of OpenFlow 1.0 go out in Nicira's form.
    pub nxm: bool,
    /// Flow-mods of OpenFlow 1.0 name a table.
    pub table_id: bool,
}

impl Dialect {
    /// Appends a message.
    ///
    /// # Errors
    /// The version has no form for it.
    pub fn encode(self, body: Body, xid: Xid, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        let codec = Codec { nxm: self.nxm, table_id: self.table_id, ..Codec::default() };
        codec.encode(&Message { version: self.version, xid, body }, out)
    }
}

/// Requests of one dialect, in order.
#[derive(Debug)]
pub struct Requests {
    pub dialect: Dialect,
    bytes: Vec<u8>,
    /// Where each one ends.
    ends: Vec<usize>,
}

impl Requests {
    /// None yet.
    #[must_use]
    pub const fn new(dialect: Dialect) -> Self {
        Self { dialect, bytes: Vec::new(), ends: Vec::new() }
    }

    /// Adds one.
    ///
    /// # Errors
    /// The dialect has no form for it.
    pub fn push(&mut self, body: Body) -> Result<(), Unencodable> {
        self.dialect.encode(body, Xid(0), &mut self.bytes)?;
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.ends.len()
    }

    /// Request `n` with its transaction id.
    pub fn with_xid(&mut self, n: usize, xid: Xid) -> &[u8] {
        let from = if n == 0 { 0 } else { self.ends[n - 1] };
        let bytes = &mut self.bytes[from..self.ends[n]];
        bytes[XID_AT..HEADER_BYTES].copy_from_slice(&xid.0.to_be_bytes());
        bytes
    }

    /// Request `n` as it was sent last, if there is one.
    #[must_use]
    pub fn get(&self, n: usize) -> Option<&[u8]> {
        let to = *self.ends.get(n)?;
        let from = if n == 0 { 0 } else { self.ends[n - 1] };
        self.bytes.get(from..to)
    }

    /// How many requests from `n` on have no more than `most` bytes together: one at least, where there is one.
    #[must_use]
    pub fn within(&self, n: usize, most: usize) -> usize {
        let from = if n == 0 { 0 } else { self.ends[n - 1] };
        let fit = self.ends[n..].partition_point(|end| end - from <= most);
        fit.max(1).min(self.count() - n)
    }
}

/// Where the transaction id stands in a message (OpenFlow 1.5 section 7.1.1).
const XID_AT: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const DIALECT: Dialect = Dialect { version: Version::V13, nxm: false, table_id: true };

    #[test]
    fn each_is_cut_out_with_its_own_id() {
        let mut requests = Requests::new(DIALECT);
        for payload in [vec![], vec![1; 5], vec![2; 100]] {
            requests.push(Body::EchoRequest(payload)).expect("every version has it");
        }
        assert_eq!(requests.with_xid(1, Xid(0x0102_0304)), [4, 2, 0, 13, 1, 2, 3, 4, 1, 1, 1, 1, 1]);
        assert_eq!(requests.with_xid(0, Xid(7)), [4, 2, 0, 8, 0, 0, 0, 7]);
        assert_eq!(requests.with_xid(2, Xid(8)).len(), 108);
        assert_eq!([requests.within(0, 20), requests.within(0, 21), requests.within(2, 5), requests.within(3, 5)], [1, 2, 1, 0]);
    }

    #[test]
    fn what_a_version_cannot_say_leaves_nothing_behind() {
        let mut requests = Requests::new(Dialect { version: Version::V10, ..DIALECT });
        let control = openflow::message::BundleControl { id: 0, kind: 0, flags: 0 };
        assert!(requests.push(Body::BundleControl(control)).is_err());
        assert_eq!((requests.count(), requests.bytes.len()), (0, 0));
    }
}
