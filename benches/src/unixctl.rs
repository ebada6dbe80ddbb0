//! A client of the daemons' control sockets: JSON-RPC over a Unix socket, one connection kept for many questions (ovs-appctl(8) takes
//! 5 ms to start, which is too coarse for counting).

use crate::BenchError;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection.
#[derive(Debug)]
pub struct Unixctl {
    stream: UnixStream,
}

impl Unixctl {
    /// Connects.
    pub fn connect(path: &Path) -> Result<Self, BenchError> {
        let fault = || BenchError::io(path.display().to_string());
        let stream = UnixStream::connect(path).map_err(fault())?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(fault())?;
        Ok(Self { stream })
    }

    /// Sends a command; its answer.
    pub fn call(&mut self, command: &str, args: &[&str]) -> Result<String, BenchError> {
        let request = json!({"id": 0, "method": command, "params": args}).to_string();
        self.stream.write_all(request.as_bytes()).map_err(BenchError::io(command))?;
        let (mut bytes, mut part) = (Vec::new(), [0; 1 << 16]);
        loop {
            let n = self.stream.read(&mut part).map_err(BenchError::io(command))?;
            if n == 0 {
                return Err(BenchError::Late(format!("the answer to {command}")));
            }
            bytes.extend_from_slice(&part[..n]);
            // An object ends with a brace; most reads that do not are not worth parsing.
            if bytes.trim_ascii_end().ends_with(b"}")
                && let Ok(reply) = serde_json::from_slice::<Value>(&bytes)
            {
                return answer(command, &reply);
            }
        }
    }
}

fn answer(command: &str, reply: &Value) -> Result<String, BenchError> {
    let error = &reply["error"];
    if error.is_null() {
        return Ok(reply["result"].as_str().unwrap_or_default().to_owned());
    }
    let said = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
    Err(BenchError::Command { command: command.to_owned(), said })
}
