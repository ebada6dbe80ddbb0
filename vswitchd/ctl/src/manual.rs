//! `ferrule manual FOLDER`: a manual page for each tool, made of what the tool's own `--help` says, so that the two cannot differ.

use crate::console::Io;
use crate::fault::Fault;
use crate::{APPLETS, Applet, OVS_VERSION};
use std::path::Path;

/// Writes `FOLDER/LINK.8` for each tool, and `ferrule.8`.
///
/// # Errors
/// The folder cannot be written.
pub fn run(io: &mut Io<'_>, words: &[String]) -> Result<u8, Fault> {
    let [folder] = words else {
        return Err(Fault::say("usage: ferrule manual FOLDER"));
    };
    let write = |name: &str, text: String| {
        let path = Path::new(folder).join(format!("{name}.8"));
        std::fs::write(&path, text).map_err(|e| Fault::because(format!("{}: write failed", path.display()), &e))
    };
    // The help of these comes from another program, which `run` would turn this one into.
    let tools = || APPLETS.iter().filter(|a| !matches!(a.name, "daemon" | "eswitch-model"));
    for applet in tools() {
        write(applet.link, page(applet.link, applet.about, &help_of(applet)?))?;
    }
    let mut text = Vec::new();
    let mut errors = Vec::new();
    crate::dispatch(&mut Io::new(&mut text, &mut errors), "ferrule", &["--help".to_owned()])?;
    write("ferrule", page("ferrule", "an Open vSwitch-compatible virtual switch", &String::from_utf8_lossy(&text)))?;
    writeln!(io.out, "{} pages in {folder}", tools().count() + 1)?;
    Ok(0)
}

fn help_of(applet: &Applet) -> Result<String, Fault> {
    let (mut text, mut errors) = (Vec::new(), Vec::new());
    let mut io = Io::new(&mut text, &mut errors);
    io.program = applet.link;
    (applet.run)(&mut io, &["--help".to_owned()])?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A page in man(7)'s language: the help as it stands, in a section of its own.
fn page(name: &str, about: &str, help: &str) -> String {
    let body: Vec<String> = help.lines().map(escaped).collect();
    format!(
        ".TH \"{upper}\" 8 \"\" \"Ferrule {version} (Open vSwitch {OVS_VERSION})\" \"Ferrule\"\n.SH NAME\n{name} \\- {about}\n\
         .SH SYNOPSIS\n.B {name}\n[\\fIOPTIONS\\fR] [\\fICOMMAND\\fR [\\fIARG\\fR]...]\n.SH DESCRIPTION\n.nf\n{body}\n.fi\n\
         .SH \"SEE ALSO\"\n.BR ferrule (8)\n",
        upper = name.to_uppercase(),
        version = env!("CARGO_PKG_VERSION"),
        name = escaped(name),
        about = escaped(about),
        body = body.join("\n"),
    )
}

/// What roff would take for its own is said so that it does not.
fn escaped(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-");
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_say_what_the_help_says() {
        let dir = tempfile::tempdir().unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut io = Io::new(&mut out, &mut err);
        run(&mut io, &[dir.path().display().to_string()]).unwrap();
        let page = std::fs::read_to_string(dir.path().join("ovsdb-client.8")).unwrap();
        assert!(page.starts_with(".TH \"OVSDB-CLIENT\" 8") && page.contains("list\\-dbs"), "{page}");
        assert!(dir.path().join("ferrule.8").is_file());
        assert_eq!(escaped(".x-\\"), "\\&.x\\-\\e");
    }
}
