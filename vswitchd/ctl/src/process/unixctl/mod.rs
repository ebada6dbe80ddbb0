//! The control socket that `ovs-appctl` speaks to: JSON-RPC 1.0 requests come in over a unix socket (`server`), and one row of the
//! command table (`registry`) answers each. Commands run one after the other in the main loop, between two passes of it, so that they
//! see and change a settled switch; a command that must wait answers later through its `Reply`.

pub mod registry;
pub mod server;

pub use registry::{Command, Registry, Run};
pub use server::{Request, Server};

use tokio::sync::oneshot;

/// A command's answer: text for standard output, or an error text. The line end is added where it is missing.
pub type Answer = Result<String, String>;

/// The duty to answer one request. Dropping it closes the connection.
#[derive(Debug)]
pub struct Reply(oneshot::Sender<Answer>);

impl Reply {
    /// Answers. A client that has gone away is no concern of the command's.
    pub fn send(self, answer: Answer) {
        drop(self.0.send(answer));
    }
}

flow::counters! {
    UNIXCTL_REFUSED = "unixctl_refused", "Control commands that were unknown or had wrong arguments";
    UNIXCTL_BAD_MESSAGE = "unixctl_bad_message", "Control connections closed because of a message that is no JSON-RPC request";
    UNIXCTL_FULL = "unixctl_full", "Control connections refused because too many were open";
}
