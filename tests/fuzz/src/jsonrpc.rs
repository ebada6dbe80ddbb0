//! Fuzzing the database server: any bytes as what a client says to it. It answers or hangs up, and stands afterwards.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovsdb::Server;
use std::sync::LazyLock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));

const SCHEMA: &str = r#"{"name": "d", "version": "1.0.0", "tables": {
    "t": {"isRoot": true, "indexes": [["i"]], "columns": {
        "i": {"type": "integer"},
        "s": {"type": {"key": "string", "min": 0, "max": "unlimited"}},
        "m": {"type": {"key": "string", "value": "real", "min": 0, "max": 3}},
        "r": {"type": {"key": {"type": "uuid", "refTable": "u"}, "min": 0, "max": "unlimited"}}}},
    "u": {"columns": {
        "b": {"type": "boolean"},
        "w": {"type": {"key": {"type": "uuid", "refTable": "t", "refType": "weak"}, "min": 0, "max": 1}}}}}}"#;

fuzz_target!(|input: &[u8]| {
    RUNTIME.block_on(async {
        let server = Server::builder().memory_database(SCHEMA).start().await.expect("the schema is good");
        converse(&server, input).await;
        let answer = converse(&server, br#"{"id":1,"method":"list_dbs","params":[]}"#).await;
        assert!(answer.contains("\"result\""), "{answer}");
        server.stop().await;
    });
});

/// Says it all, then hears what comes until the server hangs up.
async fn converse(server: &Server, input: &[u8]) -> String {
    let (client, served) = tokio::io::duplex(1 << 16);
    server.serve(served);
    let (mut from, mut to) = tokio::io::split(client);
    let mut answer = Vec::new();
    let say = async {
        // A server that has hung up does not listen to the end.
        let _ = to.write_all(input).await;
        let _ = to.shutdown().await;
    };
    let (_, _) = tokio::join!(say, from.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}
