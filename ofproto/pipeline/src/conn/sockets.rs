//! Sockets of OpenFlow connections: unix ones wherever their path fits or not, TCP ones with the mark that their packets bear.
//!
//! What enters: paths, hosts, ports, a DSCP. What leaves: listeners and streams for `stream`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, lookup_host};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes that a socket address can hold.
const SUN_PATH_MAX: usize = 107;
/// How often it is tried to listen at an address that somebody else has.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);
/// Peers that wait to be accepted.
const BACKLOG_MAX: u32 = 1024;

/// Binds a unix socket, also where the path is longer than an address can hold; a stale one is replaced.
pub(super) fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if path.as_os_str().len() <= SUN_PATH_MAX {
        return UnixListener::bind(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = std::fs::File::open(folder)?;
    UnixListener::bind(Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}

/// Listens; those who come get the mark of the listener.
pub(super) async fn listen(host: &str, port: u16, dscp: u8) -> io::Result<TcpListener> {
    let mut refused = None;
    for address in lookup_host((host, port)).await? {
        let listen = || {
            let socket = marked(address, dscp)?;
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG_MAX)
        };
        match listen() {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

/// Tasks that are about to end, how many: an address that one of them listens at is free only when it has.
#[derive(Clone, Debug, Default)]
pub(super) struct Ending(Arc<watch::Sender<usize>>);

impl Ending {
    /// One more; needs the runtime.
    pub(super) fn add(&self, task: JoinHandle<()>) {
        self.0.send_modify(|n| *n += 1);
        let all = self.clone();
        tokio::spawn(async move {
            // How it has ended does not matter.
            let _ = task.await;
            all.0.send_modify(|n| *n -= 1);
        });
    }

    /// Listens once those are gone that end. Who finds the address taken tries again when others have ended, and from time to time.
    pub(super) async fn listen(&self, host: &str, port: u16, dscp: u8, refused: impl Fn(io::Error)) -> TcpListener {
        let mut ending = self.0.subscribe();
        loop {
            // It cannot fail: the sender is `self`.
            let _ = ending.wait_for(|n| *n == 0).await;
            match listen(host, port, dscp).await {
                Ok(listener) => return listener,
                Err(error) => refused(error),
            }
            let _ = tokio::time::timeout(LISTEN_AGAIN, ending.changed()).await;
        }
    }
}

/// Connects to the first address that answers. Small messages leave at once.
pub(super) async fn connect(host: &str, port: u16, dscp: u8) -> io::Result<TcpStream> {
    let mut refused = None;
    for address in lookup_host((host, port)).await? {
        match marked(address, dscp)?.connect(address).await {
            Ok(stream) => {
                // Without it replies would wait for more to send.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

/// A socket whose packets bear the mark (the upper six bits of the field, RFC 2474). That it can be had is no condition for talking.
fn marked(address: SocketAddr, dscp: u8) -> io::Result<TcpSocket> {
    let field = u32::from(dscp) << 2;
    if address.is_ipv4() {
        let socket = TcpSocket::new_v4()?;
        let _ = socket.set_tos_v4(field);
        Ok(socket)
    } else {
        let socket = TcpSocket::new_v6()?;
        let _ = socket.set_tclass_v6(field);
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{GetSockOpt, getsockopt, sockopt};

    /// The mark of the one who connects, and of the one who is connected to.
    async fn marks<O: GetSockOpt<Val = i32> + Copy>(host: &str, option: O) -> [i32; 2] {
        let listener = listen(host, 0, 10).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let ours = connect(host, port, 48).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        [getsockopt(&ours, option).unwrap(), getsockopt(&theirs, option).unwrap()]
    }

    #[tokio::test]
    async fn both_ends_bear_the_mark() {
        assert_eq!(marks("127.0.0.1", sockopt::Ipv4Tos).await, [0xc0, 0x28]);
        assert_eq!(marks("::1", sockopt::Ipv6TClass).await, [0xc0, 0x28]);
    }

    /// A listener's port, and the task that has it until it ends.
    async fn listening() -> (u16, JoinHandle<()>) {
        let listener = listen("127.0.0.1", 0, 0).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let _ = (std::future::pending::<()>().await, listener);
        });
        tokio::task::yield_now().await;
        (port, task)
    }

    #[tokio::test]
    async fn who_listened_before_has_gone() {
        let (ending, (port, before)) = (Ending::default(), listening().await);
        before.abort();
        ending.add(before);
        ending.listen("127.0.0.1", port, 0, |error| panic!("{error}")).await;
    }

    #[tokio::test]
    async fn who_waits_for_an_address_gets_it_at_once() {
        let (ending, (port, has)) = (Ending::default(), listening().await);
        let (all, refused) = (ending.clone(), Arc::new(tokio::sync::Notify::new()));
        let told = Arc::clone(&refused);
        let waits = tokio::spawn(async move { all.listen("127.0.0.1", port, 0, |_| told.notify_one()).await });
        refused.notified().await;
        has.abort();
        ending.add(has);
        tokio::time::timeout(LISTEN_AGAIN / 2, waits).await.expect("long before it would try again by itself").unwrap();
    }
}
