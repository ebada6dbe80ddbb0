//! The client side: raw JSON-RPC ([`rpc`]), a replica that follows a database ([`idl`]), and both without async
//! ([`blocking`]).

pub mod blocking;
pub mod idl;
mod leader;
pub(crate) mod link;
pub mod replica;
pub mod rpc;
pub mod txn;

use crate::remote::{Remote, RemoteError, run_folder, socket_path};
use crate::tls::{self, Tls};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Why a client could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The remote's name is malformed.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Connecting, reading or writing failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The server closed the connection.
    #[error("connection dropped by peer (End of file)")]
    Eof,
    /// The server sent what is no JSON-RPC.
    #[error("{0}")]
    Malformed(String),
    /// The server answered with an error: its JSON.
    #[error("{}", crate::json::to_sorted(.0))]
    Refused(serde_json::Value),
    /// The server's schema makes no sense.
    #[error(transparent)]
    Schema(#[from] crate::Error),
    /// It took too long.
    #[error("timed out")]
    Timeout,
}

/// A byte stream to a server.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to an active remote; of a passive one takes the first connection that comes in.
pub(crate) async fn open(remote: &Remote, tls: &Tls) -> std::io::Result<Box<dyn Stream>> {
    Ok(match remote {
        Remote::Unix(path) => {
            let (short, _folder) = socket_path(&run_folder().join(path))?;
            Box::new(UnixStream::connect(short).await?)
        }
        Remote::Tcp { host, port } => Box::new(low_latency(TcpStream::connect((host.as_str(), *port)).await?)),
        Remote::ListenUnix(path) => {
            let (short, _folder) = socket_path(&run_folder().join(path))?;
            Box::new(UnixListener::bind(short)?.accept().await?.0)
        }
        Remote::ListenTcp { ip, port } => Box::new(low_latency(TcpListener::bind((*ip, *port)).await?.accept().await?.0)),
        Remote::Ssl { host, port } => {
            let stream = low_latency(TcpStream::connect((host.as_str(), *port)).await?);
            Box::new(tls::connect(tls, host, stream).await?)
        }
        Remote::ListenSsl { ip, port } => {
            let stream = low_latency(TcpListener::bind((*ip, *port)).await?.accept().await?.0);
            Box::new(tls::accept(tls, stream).await?)
        }
        Remote::Column { .. } => return Err(std::io::Error::other("db: remotes are for servers")),
    })
}

fn low_latency(stream: TcpStream) -> TcpStream {
    // A socket that does not take the option still works.
    let _ = stream.set_nodelay(true);
    stream
}
