//! Command lines that make no sense: each is refused with the place, the value and what was expected.

use ctl::{Io, dispatch};

/// What `ferrule LINE` is refused with.
fn refusal(line: &str) -> String {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    dispatch(&mut Io::new(&mut out, &mut err), "ferrule", &words).expect_err(line).to_string()
}

#[test]
fn refusals_name_place_value_and_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (empty, other) = (file("empty.db", ""), file("other.db", "root:x:0:0\n"));
    for (line, expect) in [
        ("show --interval=0", "--interval=0: expected seconds, 0.05 to 86400"),
        ("top --once --flows=x", "--flows=x: expected a number"),
        ("offload frob", "unknown command 'frob'; use --help for help"),
        ("offload show a b", "show: unexpected arguments 'a b'; use --help for help"),
        ("offload mode pci/0000:03:00.0 on", "mode on: expected legacy or switchdev"),
        ("pki --bits=512 req a", "--bits=512: expected a number of at least 1024"),
        (&format!("ovsdb-tool db-name {empty}"), &format!("{empty}: file holds no schema: it is empty")),
        (
            &format!("ovsdb-tool db-version {other}"),
            &format!("{other}: file holds no schema: parse error at offset 0 in header line \"root:x:0:0\""),
        ),
        ("ovsdb-client list-dbs ptcp:x", "failed to connect to \"ptcp:x\" (ptcp:x: expected ptcp:[PORT][:IP])"),
    ] {
        assert_eq!(refusal(line), expect, "{line}");
    }
}
