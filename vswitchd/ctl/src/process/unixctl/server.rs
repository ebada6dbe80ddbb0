//! The socket side of control commands: accepts connections, cuts JSON messages out of the byte stream (there is no separator between
//! them), passes each request to the main loop, and writes its answer. One request at a time per connection, any number in a row.

use super::{Answer, Reply, Said, UNIXCTL_BAD_MESSAGE, UNIXCTL_FULL};
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// The longest message taken.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Connections at a time.
const CONNECTIONS_MAX: usize = 512;
/// Requests that wait for the main loop.
const REQUESTS_MAX: usize = 64;

/// A request on its way to the command table.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    pub params: Vec<Value>,
    pub reply: Reply,
}

/// The listening end. Dropping it stops accepting; the socket's name is removed by its owner.
#[derive(Debug)]
pub struct Server {
    requests: mpsc::Receiver<Request>,
    /// Each connection's task holds one while an answer is on its way out.
    in_flight: Arc<Semaphore>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Serves a bound socket; needs the runtime.
    /// # Errors
    /// The socket cannot be registered with the runtime.
    pub fn start(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        let listener = UnixListener::from_std(listener)?;
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let in_flight = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let accepting = tokio::spawn(accept(listener, sender, Arc::clone(&in_flight)));
        Ok(Self { requests, in_flight, accepting })
    }

    /// The next request, in the order of arrival.
    pub async fn next(&mut self) -> Option<Request> {
        self.requests.recv().await
    }

    /// A request that is already there.
    pub fn try_next(&mut self) -> Option<Request> {
        self.requests.try_recv().ok()
    }

    /// Takes no more connections and requests. Those that have come can still be taken and answered.
    pub fn close(&mut self) {
        self.accepting.abort();
        self.requests.close();
    }

    /// Stops accepting and waits until the answers that were sent have been written.
    pub async fn finish(mut self) {
        self.close();
        drop(self.requests);
        let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
        let written = self.in_flight.acquire_many(all);
        drop(tokio::time::timeout(std::time::Duration::from_secs(1), written).await);
    }
}

async fn accept(listener: UnixListener, requests: mpsc::Sender<Request>, in_flight: Arc<Semaphore>) {
    static CONNECTION: AtomicU64 = AtomicU64::new(0);
    let open = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: give it a moment instead of spinning.
                tracing::warn!(target: "unixctl", rl = 5, burst = 5, "accept failed: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&open).try_acquire_owned() else {
            UNIXCTL_FULL.inc();
            continue;
        };
        let name = format!("unix#{}", CONNECTION.fetch_add(1, Ordering::Relaxed));
        let connection = Connection { name, stream, requests: requests.clone(), in_flight: Arc::clone(&in_flight), json: false };
        tokio::spawn(async move {
            connection.serve().await;
            drop(permit);
        });
    }
}

#[derive(Debug)]
struct Connection {
    name: String,
    stream: UnixStream,
    requests: mpsc::Sender<Request>,
    in_flight: Arc<Semaphore>,
    /// `set-options --format json` was asked for.
    json: bool,
}

/// One message cut out of the stream.
enum Cut {
    /// A value, and how many bytes it took.
    Whole(Value, usize),
    /// More bytes are needed.
    Part,
    Bad(String),
}

fn cut(bytes: &[u8]) -> Cut {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    match values.next() {
        Some(Ok(value)) => Cut::Whole(value, values.byte_offset()),
        None => Cut::Part,
        Some(Err(error)) if error.is_eof() => Cut::Part,
        Some(Err(error)) => Cut::Bad(format!("error parsing stream: {error}")),
    }
}

impl Connection {
    async fn serve(mut self) {
        let mut bytes = Vec::new();
        loop {
            match cut(&bytes) {
                Cut::Whole(message, used) => {
                    bytes.drain(..used);
                    if let Err(fault) = self.answer(&message).await {
                        self.complain(&fault);
                        return;
                    }
                }
                Cut::Part if bytes.len() >= MESSAGE_BYTES_MAX => {
                    self.complain("message too long");
                    return;
                }
                Cut::Part => match self.stream.read_buf(&mut bytes).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                },
                Cut::Bad(fault) => {
                    self.complain(&fault);
                    return;
                }
            }
        }
    }

    fn complain(&self, fault: &str) {
        if !fault.is_empty() {
            UNIXCTL_BAD_MESSAGE.inc();
            tracing::warn!(target: "jsonrpc", rl = 60, burst = 60, "{}: {fault}", self.name);
        }
    }

    /// Has one request answered. An error closes the connection; an empty one closes it silently.
    async fn answer(&mut self, message: &Value) -> Result<(), String> {
        let (id, method, params) = request(message)?;
        let shown = Value::Array(params.to_vec());
        tracing::debug!(target: "unixctl", "received request {method}{shown}, id={id}");
        let permit = Arc::clone(&self.in_flight).acquire_owned().await.map_err(|_| String::new())?;
        let answer = if method == "set-options" {
            self.set_options(params).map_or_else(Said::Error, Said::Text)
        } else {
            let (sender, receiver) = oneshot::channel();
            let reply = Reply { sender, json: self.json };
            let request = Request { method: method.to_owned(), params: params.to_vec(), reply };
            // A main loop that is gone, or a command that was dropped unanswered, ends the connection.
            self.requests.send(request).await.map_err(|_| String::new())?;
            receiver.await.map_err(|_| String::new())?
        };
        match &answer {
            Said::Text(text) => tracing::debug!(target: "unixctl", "replying with success, id={id}: \"{text}\""),
            Said::Json(value) => tracing::debug!(target: "unixctl", "replying with success, id={id}: {value}"),
            Said::Error(text) => tracing::debug!(target: "unixctl", "replying with error, id={id}: \"{text}\""),
        }
        let written = self.stream.write_all(self.encode(id, answer).as_bytes()).await;
        drop(permit);
        written.map_err(|_| String::new())
    }

    fn set_options(&mut self, params: &[Value]) -> Answer {
        let words: Vec<&str> = params.iter().filter_map(Value::as_str).collect();
        self.json = match words[..] {
            ["--format", "json"] => true,
            ["--format", "text"] => false,
            ["--format", other] => return Err(format!("unsupported format: {other}")),
            [] => return Err("\"set-options\" command requires at least 1 arguments".into()),
            [other, ..] => return Err(format!("unrecognized option: {other}")),
        };
        Ok(String::new())
    }

    fn encode(&self, id: &Value, answer: Said) -> String {
        match answer {
            Said::Json(value) => json!({"id": id, "result": value, "error": null}),
            Said::Text(text) if self.json => json!({"id": id, "result": {"reply-format": "plain", "reply": text}, "error": null}),
            Said::Text(text) => json!({"id": id, "result": with_line_end(text), "error": null}),
            Said::Error(text) => json!({"id": id, "error": with_line_end(text), "result": null}),
        }
        .to_string()
    }
}

fn with_line_end(mut text: String) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// The parts of a JSON-RPC 1.0 request (specification of 2005, section 1.1).
fn request(message: &Value) -> Result<(&Value, &str, &[Value]), String> {
    let bad = |what: &str| format!("received bad JSON-RPC message: {what}");
    let object = message.as_object().ok_or_else(|| bad("message is not a JSON object"))?;
    let Some(method) = object.get("method") else {
        return Err("received unexpected reply message".into());
    };
    let method = method.as_str().ok_or_else(|| bad("method is not a JSON string"))?;
    let params = object.get("params").ok_or_else(|| bad("request must have \"params\""))?;
    let params = params.as_array().ok_or_else(|| bad("\"params\" must be JSON array"))?;
    match object.get("id") {
        None | Some(Value::Null) => Err("received unexpected notification message".into()),
        Some(id) => Ok((id, method, params)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_where_they_end() {
        let stream = br#"{"id":1,"method":"a","params":[]} {"id":2"#;
        let Cut::Whole(value, used) = cut(stream) else { panic!("a whole message") };
        assert_eq!(value["id"], 1);
        assert!(matches!(cut(&stream[used..]), Cut::Part));
        assert!(matches!(cut(b""), Cut::Part));
        assert!(matches!(cut(b"  "), Cut::Part));
        assert!(matches!(cut(b"{]"), Cut::Bad(_)));
    }

    #[test]
    fn what_is_no_request_is_named() {
        let check = |text: &str, expect: &str| {
            let message: Value = serde_json::from_str(text).unwrap();
            assert_eq!(request(&message).unwrap_err(), expect, "{text}");
        };
        check("[]", "received bad JSON-RPC message: message is not a JSON object");
        check(r#"{"id":1,"method":"version"}"#, "received bad JSON-RPC message: request must have \"params\"");
        check(r#"{"id":null,"method":"version","params":[]}"#, "received unexpected notification message");
        check(r#"{"id":1,"result":"x","error":null}"#, "received unexpected reply message");
    }

    /// Says all of a text to a server, and hears what it answers.
    async fn say(path: std::path::PathBuf, text: String) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut got = String::new();
        stream.read_to_string(&mut got).await.unwrap();
        got
    }

    #[tokio::test]
    async fn json_for_who_asked_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let bound = crate::process::socket::bind(&dir.path().join("ctl")).unwrap();
        let mut server = Server::start(bound.listener).unwrap();
        let set = r#"{"id":0,"method":"set-options","params":["--format","json"]}"#;
        let text = format!(r#"{set}{{"id":1,"method":"a","params":[]}}{{"id":2,"method":"b","params":[]}}"#);
        let client = tokio::spawn(say(bound.name.path().to_owned(), text));
        let first = server.next().await.unwrap();
        assert!(first.reply.wants_json());
        first.reply.send_json(Ok(json!({"br0": [1]})));
        server.next().await.unwrap().reply.send(Ok("fine".into()));
        server.finish().await;
        let plain = |text: &str| json!({"reply-format": "plain", "reply": text});
        let got = client.await.unwrap();
        let got: Vec<Value> = serde_json::Deserializer::from_str(&got).into_iter().map(Result::unwrap).collect();
        let results: Vec<&Value> = got.iter().map(|answer| &answer["result"]).collect();
        assert_eq!(results, [&plain(""), &json!({"br0": [1]}), &plain("fine")]);
    }

    #[tokio::test]
    async fn several_requests_on_one_connection() {
        let dir = tempfile::tempdir().unwrap();
        let bound = crate::process::socket::bind(&dir.path().join("ctl")).unwrap();
        let mut server = Server::start(bound.listener).unwrap();
        let text = r#"{"id":1,"method":"a","params":["x"]}{"id":"2","method":"b","params":[]}"#;
        let client = tokio::spawn(say(bound.name.path().to_owned(), text.to_owned()));
        let first = server.next().await.unwrap();
        assert_eq!((first.method.as_str(), first.params[0].as_str()), ("a", Some("x")));
        first.reply.send(Ok("fine".into()));
        let second = server.next().await.unwrap();
        second.reply.send(Err("not fine\n".into()));
        server.finish().await;
        let expect = r#"{"id":1,"result":"fine\n","error":null}{"id":"2","error":"not fine\n","result":null}"#;
        assert_eq!(client.await.unwrap(), expect);
    }
}
