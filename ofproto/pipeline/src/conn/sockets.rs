//! Sockets of OpenFlow connections: unix ones wherever their path fits or not, TCP ones with the mark that their packets bear.
//!
//! What enters: paths, hosts, ports, a DSCP. What leaves: listeners and streams for `stream`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, lookup_host};
use tokio::task::JoinHandle;

/// Bytes that a socket address can hold.
const SUN_PATH_MAX: usize = 107;
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

/// The same where a task has listened that is about to end: its socket goes first.
pub(super) async fn listen_after(before: Option<JoinHandle<()>>, host: &str, port: u16, dscp: u8) -> io::Result<TcpListener> {
    if let Some(before) = before {
        // How it has ended does not matter.
        let _ = before.await;
    }
    listen(host, port, dscp).await
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

    #[tokio::test]
    async fn who_listened_before_has_gone() {
        let listener = listen("127.0.0.1", 0, 0).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let before = tokio::spawn(async move {
            // It has the listener for as long as it is.
            let _ = (std::future::pending::<()>().await, listener);
        });
        tokio::task::yield_now().await;
        before.abort();
        listen_after(Some(before), "127.0.0.1", port, 0).await.unwrap();
    }
}
