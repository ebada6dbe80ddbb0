//! Collectors by name: the system's resolver is asked on a thread of its own, for an answer may take half a minute and nothing that
//! forwards or configures may wait for it.
//!
//! What enters: names, as long as somebody holds them. What leaves: for each a socket to the first of its addresses, looked up again at
//! times, and the old one while there is no new answer. Neighbour: `collectors`.

use super::collectors::open;
use flow::Msec;
use flow::clock::now_ms;
use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;

/// Names that are looked up; more are told in the log and reach nobody.
const NAMES_MAX: usize = 256;
/// After an answer, and after none.
const AGAIN_MS: Msec = 300_000;
const RETRY_MS: Msec = 10_000;

/// A collector whose address its name tells.
#[derive(Debug)]
pub(super) struct Named {
    host: String,
    port: u16,
    reached: Mutex<Option<(SocketAddr, UdpSocket)>>,
}

impl Named {
    /// Asks for the name. Nothing is reached until the answer is there.
    pub(super) fn ask(host: String, port: u16) -> Arc<Self> {
        let this = Arc::new(Self { host, port, reached: Mutex::default() });
        static ASKED: OnceLock<Option<SyncSender<Weak<Named>>>> = OnceLock::new();
        let told = ASKED.get_or_init(start).as_ref().is_some_and(|asked| asked.try_send(Arc::downgrade(&this)).is_ok());
        if !told {
            tracing::warn!(target: "collectors", "{}: too many names of collectors, it is not looked up", this.host);
        }
        this
    }

    fn lock(&self) -> MutexGuard<'_, Option<(SocketAddr, UdpSocket)>> {
        self.reached.lock().expect("no holder of a collector's socket panics")
    }

    /// `None`: its address is not known.
    pub(super) fn send(&self, datagram: &[u8]) -> Option<Result<usize>> {
        self.lock().as_ref().map(|(_, socket)| socket.send(datagram))
    }

    /// The address from which it is reached.
    pub(super) fn source(&self) -> Option<IpAddr> {
        self.lock().as_ref().and_then(|(_, socket)| socket.local_addr().ok()).map(|a| a.ip())
    }

    /// Looks the name up and takes the first address that a socket opens to; one that is in use already stays in use.
    fn look_up(&self, resolve: fn(&str, u16) -> Result<Vec<SocketAddr>>) -> bool {
        let found = resolve(&self.host, self.port).and_then(|addresses| {
            let mut error = Error::from(ErrorKind::NotFound);
            for address in addresses {
                if self.lock().as_ref().is_some_and(|(now, _)| *now == address) {
                    return Ok(None);
                }
                match open(address) {
                    Ok(socket) => return Ok(Some((address, socket))),
                    Err(e) => error = e,
                }
            }
            Err(error)
        });
        match found {
            Ok(None) => true,
            Ok(Some((address, socket))) => {
                tracing::info!(target: "collectors", "{} is {address}", self.host);
                *self.lock() = Some((address, socket));
                true
            }
            Err(error) => {
                tracing::warn!(target: "collectors", "{}: could not be resolved: {error}", self.host);
                false
            }
        }
    }
}

fn ask_the_system(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    (host, port).to_socket_addrs().map(Iterator::collect)
}

fn start() -> Option<SyncSender<Weak<Named>>> {
    let (asked, asks) = sync_channel(NAMES_MAX);
    std::thread::Builder::new().name("resolver".into()).spawn(move || serve(&asks)).ok().map(|_| asked)
}

/// Looks up what is asked and what is due; a name that nobody holds any more is forgotten.
fn serve(asks: &Receiver<Weak<Named>>) {
    let mut names: Vec<(Msec, Weak<Named>)> = Vec::new();
    loop {
        let next = names.iter().map(|(due_ms, _)| *due_ms).min();
        let wait = next.map(|due_ms| Duration::from_millis(u64::try_from(due_ms - now_ms()).unwrap_or(0)));
        let ask = match wait {
            Some(wait) => asks.recv_timeout(wait),
            None => asks.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match ask {
            Ok(name) if names.len() < NAMES_MAX => names.push((now_ms(), name)),
            Ok(_) => tracing::warn!(target: "collectors", "too many names of collectors, one is not looked up"),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        look_up_due(&mut names, now_ms(), ask_the_system);
    }
}

fn look_up_due(names: &mut Vec<(Msec, Weak<Named>)>, now: Msec, resolve: fn(&str, u16) -> Result<Vec<SocketAddr>>) {
    names.retain_mut(|(due_ms, name)| {
        let Some(name) = name.upgrade() else { return false };
        if *due_ms <= now {
            *due_ms = now + if name.look_up(resolve) { AGAIN_MS } else { RETRY_MS };
        }
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(_: &str, port: u16) -> Result<Vec<SocketAddr>> {
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
    }

    fn elsewhere(_: &str, port: u16) -> Result<Vec<SocketAddr>> {
        Ok(vec![SocketAddr::from(([127, 0, 0, 2], port))])
    }

    fn nowhere(_: &str, _: u16) -> Result<Vec<SocketAddr>> {
        Err(ErrorKind::NotFound.into())
    }

    fn received(socket: &UdpSocket) -> usize {
        let mut bytes = [0; 9];
        socket.recv(&mut bytes).unwrap_or(0)
    }

    #[test]
    fn a_name_is_asked_again_and_its_old_address_stays_until_there_is_another() {
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let second = UdpSocket::bind(("127.0.0.2", port)).unwrap();
        second.set_nonblocking(true).unwrap();
        let name = Arc::new(Named { host: "a".into(), port, reached: Mutex::default() });
        let mut names = vec![(0, Arc::downgrade(&name))];
        look_up_due(&mut names, 0, nowhere);
        assert!(name.send(b"x").is_none() && name.source().is_none());
        assert_eq!(names[0].0, RETRY_MS);
        look_up_due(&mut names, RETRY_MS - 1, here);
        assert!(name.send(b"x").is_none(), "it is not due");
        look_up_due(&mut names, RETRY_MS, here);
        assert_eq!((name.send(b"abc").unwrap().unwrap(), received(&first)), (3, 3));
        assert_eq!(name.source(), Some(IpAddr::from([127, 0, 0, 1])));
        assert_eq!(names[0].0, RETRY_MS + AGAIN_MS);
        look_up_due(&mut names, RETRY_MS + AGAIN_MS, nowhere);
        assert_eq!((name.send(b"abcd").unwrap().unwrap(), received(&first)), (4, 4));
        look_up_due(&mut names, 2 * RETRY_MS + AGAIN_MS, elsewhere);
        assert_eq!((name.send(b"abcde").unwrap().unwrap(), received(&second)), (5, 5));
        drop(name);
        look_up_due(&mut names, 0, here);
        assert!(names.is_empty());
    }
}
