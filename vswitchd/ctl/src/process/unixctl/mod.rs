//! The control socket that `ovs-appctl` speaks to: JSON-RPC 1.0 requests come in over a unix socket (`server`), and one row of the
//! command table (`registry`) answers each. Commands run one after the other in the main loop, between two passes of it, so that they
//! see and change a settled switch; a command that must wait answers later through its `Reply`.

pub mod registry;
pub mod server;

pub use registry::{Command, Registry, Run};
pub use server::{Request, Server};

use serde_json::Value;
use tokio::sync::oneshot;

/// A command's answer: text for standard output, or an error text. The line end is added where it is missing.
pub type Answer = Result<String, String>;

/// What a command says to a client that has asked for JSON, or an error text.
pub type JsonAnswer = Result<Value, String>;

/// What goes back over the connection.
#[derive(Debug, PartialEq)]
enum Said {
    Text(String),
    Json(Value),
    Error(String),
}

/// The duty to answer one request. Dropping it closes the connection.
#[derive(Debug)]
pub struct Reply {
    sender: oneshot::Sender<Said>,
    /// The client has asked for JSON.
    json: bool,
}

impl Reply {
    /// Whether the client would rather have JSON.
    #[must_use]
    pub fn wants_json(&self) -> bool {
        self.json
    }

    /// Answers. A client that has gone away is no concern of the command's.
    pub fn send(self, answer: Answer) {
        drop(self.sender.send(answer.map_or_else(Said::Error, Said::Text)));
    }

    /// Answers with JSON, for a client that wants it.
    pub fn send_json(self, answer: JsonAnswer) {
        drop(self.sender.send(answer.map_or_else(Said::Error, Said::Json)));
    }
}

flow::counters! {
    UNIXCTL_REFUSED = "unixctl_refused", "Control commands that were unknown or had wrong arguments";
    UNIXCTL_BAD_MESSAGE = "unixctl_bad_message", "Control connections closed because of a message that is no JSON-RPC request";
    UNIXCTL_FULL = "unixctl_full", "Control connections refused because too many were open";
}
