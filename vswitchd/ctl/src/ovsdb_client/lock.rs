//! `ovsdb-client lock`, `steal` and `unlock`: asks, then tells what happens to the lock until the server goes or the control socket
//! says `exit`.

use super::commands::print_json;
use super::server::{failed, reason};
use super::{Call, Work};
use crate::console::Io;
use crate::fault::Fault;
use crate::process::background::Background;
use crate::process::unixctl::{Command, Registry, Reply};
use ovsdb::RpcClient;
use ovsdb::message::Message;
use serde_json::Value as Json;

/// What the control commands ask for.
#[derive(Default)]
struct Asked {
    exit: bool,
    /// Method and lock.
    request: Option<(&'static str, String, Reply)>,
}

fn registry() -> Registry<Asked> {
    Registry::new([
        Command::now("exit", Some(""), (0, 0), |asked: &mut Asked, _| {
            asked.exit = true;
            Ok(String::new())
        }),
        Command::later("lock", Some("LOCK"), (1, 1), |asked: &mut Asked, args, reply| {
            asked.request = Some(("lock", args[0].clone(), reply));
        }),
        Command::later("steal", Some("LOCK"), (1, 1), |asked: &mut Asked, args, reply| {
            asked.request = Some(("steal", args[0].clone(), reply));
        }),
        Command::later("unlock", Some("LOCK"), (1, 1), |asked: &mut Asked, args, reply| {
            asked.request = Some(("unlock", args[0].clone(), reply));
        }),
    ])
}

pub(super) async fn run(
    io: &mut Io<'_>,
    mut client: RpcClient,
    call: &Call<'_>,
    background: &mut Background,
) -> Result<u8, Fault> {
    let named = [(Work::Steal, "steal"), (Work::Unlock, "unlock")];
    let method = named.into_iter().find(|(work, _)| *work == call.work).map_or("lock", |(_, method)| method);
    let answer = client.request(method, vec![call.word(0).into()]).await.map_err(|e| failed(call, &e))?;
    print_json(io, call, &answer)?;
    background.ready();
    let (registry, mut asked) = (registry(), Asked::default());
    loop {
        tokio::select! {
            request = background.next_request() => {
                let Some(request) = request else { continue };
                registry.serve(&mut asked, request);
                if let Some((method, lock, reply)) = asked.request.take() {
                    let answer = client.request(method, vec![lock.into()]).await.map_err(|e| failed(call, &e))?;
                    print_json(io, call, &answer)?;
                    reply.send(Ok(String::new()));
                }
                if asked.exit {
                    return Ok(0);
                }
            }
            message = client.recv() => match message {
                Ok(Message::Notification { method, params }) => {
                    writeln!(io.out, "{method}")?;
                    print_json(io, call, &Json::Array(params))?;
                }
                Ok(Message::Request { .. } | Message::Reply { .. } | Message::Error { .. }) => {}
                Err(ovsdb::client::ClientError::Eof) => return Ok(0),
                Err(error) => return Err(Fault::say(format!("{}: receive failed ({})", call.server, reason(&error)))),
            },
        }
    }
}
