//! `ferrule eswitch-model`: an eSwitch where there is none. It makes VFs and their representors as veth pairs, holds their other ends, and
//! moves packets as the rules say that the daemon programs it with, over a socket of its own, by the same bytes that the kernel would get.
//!
//! What enters: frames of VFs and representors; netlink requests. What leaves: frames; answers. Neighbours: `offload::model` (the table),
//! `offload::backend` (the other end of the socket).
//!
//! On the socket each message has its length (four bytes, little-endian) before it. A request of the word `show` is answered by text; one of the word
//! `news` by what others did to the table since the last such request: a byte that is 1 if some was lost, and messages.

mod devices;
mod options;
mod program;

pub use program::main;

use offload::tc::client::News;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// What the program calls itself.
pub const NAME: &str = "ferrule-eswitch-model";
/// The requests that are none of netlink's.
const SHOW: &[u8] = b"show";
const NEWS: &[u8] = b"news";
/// Bytes of a message: a dump of a large table.
const MESSAGE_MAX: usize = 1 << 30;
const PATIENCE: Duration = Duration::from_secs(10);

fn send(stream: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    let len = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut bytes = Vec::with_capacity(message.len() + 4);
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(message);
    stream.write_all(&bytes)
}

fn receive(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len) as usize;
    if len > MESSAGE_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = Vec::new();
    stream.take(len as u64).read_to_end(&mut message)?;
    if message.len() < len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(message) }
}

/// The daemon's end.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects to a model.
    ///
    /// # Errors
    /// There is none.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream })
    }

    /// Sends requests and waits for the answers.
    ///
    /// # Errors
    /// The model went away, or does not answer.
    pub fn talk(&mut self, requests: &[u8]) -> io::Result<Vec<u8>> {
        send(&mut self.stream, requests)?;
        receive(&mut self.stream)
    }

    /// Asks what others did to the model's table meanwhile.
    ///
    /// # Errors
    /// As `talk`.
    pub fn news(&mut self) -> io::Result<News> {
        let mut bytes = self.talk(NEWS)?;
        let overrun = bytes.first().is_some_and(|first| *first != 0);
        bytes.drain(..bytes.len().min(1));
        Ok(News { bytes, overrun })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole_and_a_cut_one_is_an_error() {
        let (mut a, mut b) = UnixStream::pair().expect("a pair");
        send(&mut a, b"one").expect("sent");
        send(&mut a, b"").expect("sent");
        assert_eq!(receive(&mut b).expect("whole"), b"one");
        assert_eq!(receive(&mut b).expect("whole"), b"");
        a.write_all(&[9, 0, 0, 0, 1]).expect("sent");
        drop(a);
        assert_eq!(receive(&mut b).expect_err("cut").kind(), io::ErrorKind::UnexpectedEof);
    }
}
