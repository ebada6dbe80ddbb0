//! A switch that keeps nothing: it answers what a client waits for and forgets the rest. What `ovs-ofctl` takes with it is the client's own
//! time and the kernel's between the two: no switch is faster.
//!
//! What enters: the client's command. What leaves: how long it took. Neighbour: `flow_mods`, which puts it beside the switches.

use crate::BenchError;
use crate::lab::Lab;
use crate::process::run;
use crate::side::Tools;
use openflow::message::{Body, BundleControl, Message};
use openflow::types::Versions;
use openflow::wire::{Codec, Header, Kind, Splitter, kind_of};
use openflow::{Version, Xid};
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

const READ_BYTES: usize = 1 << 16;

/// How long a client takes to tell a file's rules to nobody.
pub(super) fn add(lab: &Lab, client: impl FnOnce(&Path) -> Tools, args: &[&str], file: &Path) -> Result<Duration, BenchError> {
    let dir = lab.dir().join("nobody");
    let path = dir.join("br0.mgmt");
    std::fs::create_dir_all(&dir).map_err(BenchError::io("the folder of a switch that keeps nothing"))?;
    let _ = std::fs::remove_file(&path);
    let fault = || BenchError::io(path.display().to_string());
    let listener = UnixListener::bind(&path).map_err(fault())?;
    let switch = std::thread::spawn(move || serve(&listener.accept()?.0));
    let mut ofctl = client(&dir).command("ofctl");
    // Without names it has nothing to ask about tables and ports first.
    ofctl.args(["-O", "OpenFlow13", "--no-names"]).args(args).args(["br0", &file.display().to_string()]);
    let start = Instant::now();
    let said = run(&mut ofctl);
    let took = start.elapsed();
    // If the client never came, this one does.
    drop(UnixStream::connect(&path));
    let served = switch.join().expect("a switch that keeps nothing has nothing to panic about");
    // What the client says goes before what the switch saw of it.
    said?;
    served.map_err(fault())?;
    Ok(took)
}

/// A conversation in OpenFlow 1.3 or 1.4, as the client likes, to its end.
fn serve(mut stream: &UnixStream) -> io::Result<()> {
    let versions = Versions(1 << Version::V13 as u32 | 1 << Version::V14 as u32);
    let hello = Message { version: Version::V14, xid: Xid(1), body: Body::Hello(versions) };
    stream.write_all(&hello.encode().map_err(io::Error::other)?)?;
    let (mut splitter, mut buffer, mut out) = (Splitter::default(), vec![0; READ_BYTES], Vec::new());
    loop {
        let read = match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error),
        };
        splitter.push(&buffer[..read]);
        while let Some(raw) = splitter.next_message().map_err(io::Error::other)? {
            if let Some(reply) = reply(raw) {
                Codec::default().encode(&reply, &mut out).map_err(io::Error::other)?;
            }
        }
        if !out.is_empty() {
            stream.write_all(&out)?;
            out.clear();
        }
    }
}

/// What a client waits for.
fn reply(raw: &[u8]) -> Option<Message> {
    /// From a request of a bundle's control to its reply.
    const DONE: u16 = 1;
    let (header, kind) = (Header::peek(raw)?, kind_of(raw)?);
    let body = if kind == Kind::BarrierRequest {
        Body::BarrierReply
    } else if kind == Kind::EchoRequest {
        Body::EchoReply(Vec::new())
    } else if kind == Kind::BundleControl
        && let Body::BundleControl(control) = Codec::default().decode(raw).ok()?.body
    {
        Body::BundleControl(BundleControl { kind: control.kind + DONE, ..control })
    } else {
        return None;
    };
    Some(Message { version: Version::from_wire(header.version)?, xid: header.xid, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: Body) -> Option<Body> {
        let raw = Message { version: Version::V13, xid: Xid(7), body }.encode().expect("1.3 has it");
        reply(&raw).map(|m| {
            assert_eq!((m.version, m.xid), (Version::V13, Xid(7)));
            m.body
        })
    }

    #[test]
    fn only_what_is_waited_for_is_answered() {
        assert_eq!(answer(Body::BarrierRequest), Some(Body::BarrierReply));
        let commit = BundleControl { id: 3, kind: 4, flags: 1 };
        assert_eq!(answer(Body::BundleControl(commit)), Some(Body::BundleControl(BundleControl { kind: 5, ..commit })));
        assert_eq!(answer(Body::FeaturesRequest), None);
        assert_eq!(reply(&[4, 14]), None);
    }
}
