//! Serves a database file: `cargo run -p ovsdb --example serve -- FILE SCHEMA REMOTE...`

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(file), Some(schema)) = (args.next(), args.next()) else {
        return Err("usage: serve FILE SCHEMA REMOTE...".into());
    };
    let schema = std::fs::read_to_string(schema)?;
    let builder = ovsdb::Server::builder().database(file, &schema);
    let server = args.fold(builder, |b, remote| b.remote(remote)).start().await?;
    tokio::signal::ctrl_c().await?;
    server.stop().await;
    Ok(())
}
