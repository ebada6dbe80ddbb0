//! `ferrule pki` (`ovs-pki`): keys and certificates for switches and controllers, made by openssl(1): two certificate authorities, one
//! that certifies switches and one that certifies controllers (ovs-pki(8)).
//!
//! What enters: a command line, the files of an authority. What leaves: `NAME-privkey.pem`, `NAME-req.pem` and `NAME-cert.pem` in the
//! present folder; the authorities in `--dir`. Private keys are readable by their owner only. RSA keys only: TLS 1.3 has no DSA.

use crate::console::Io;
use crate::fault::{Fault, errno_text};
use crate::getopt::{self, Row, Value, Word, row};
use crate::{OVS_VERSION, suggest};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fs::Permissions;
use std::io::BufRead as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Id {
    Key,
    Bits,
    Dsaparam,
    Batch,
    Force,
    Dir,
    Log,
    Unique,
    Help,
    Version,
}

const ROWS: &[Row<Id>] = &[
    row("key", Some('k'), Value::Required, Id::Key),
    row("bits", Some('B'), Value::Required, Id::Bits),
    row("dsaparam", Some('D'), Value::Required, Id::Dsaparam),
    row("batch", Some('b'), Value::None, Id::Batch),
    row("force", Some('f'), Value::None, Id::Force),
    row("dir", Some('d'), Value::Required, Id::Dir),
    row("log", Some('l'), Value::Required, Id::Log),
    row("unique", Some('u'), Value::None, Id::Unique),
    row("help", Some('h'), Value::None, Id::Help),
    row("version", Some('V'), Value::None, Id::Version),
];

const COMMANDS: &[(&str, usize, usize, &str, &str)] = &[
    ("init", 0, 0, "", "make the two certificate authorities"),
    ("req", 1, 1, "NAME", "make NAME-privkey.pem and NAME-req.pem"),
    ("sign", 1, 2, "NAME [TYPE]", "sign NAME-req.pem, making NAME-cert.pem"),
    ("req+sign", 1, 2, "NAME [TYPE]", "both of these"),
    ("verify", 1, 2, "NAME [TYPE]", "check NAME-cert.pem against its authority"),
    ("fingerprint", 1, 1, "FILE", "print the fingerprint of FILE"),
    ("self-sign", 1, 1, "NAME", "sign NAME-req.pem with NAME-privkey.pem"),
];

/// ovs-pki's validity, ten years.
const DAYS: &str = "3650";

struct Options {
    bits: u32,
    batch: bool,
    force: bool,
    dir: PathBuf,
    unique: bool,
}

/// Names of the commands.
#[must_use]
pub fn commands() -> Vec<&'static str> {
    COMMANDS.iter().map(|c| c.0).collect()
}

/// Runs it.
///
/// # Errors
/// Options, files that are there or not there, and what openssl says.
pub fn run(io: &mut Io<'_>, words: &[String]) -> Result<u8, Fault> {
    let Some((options, words)) = parse(io, words)? else {
        return Ok(0);
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some((&name, words)) = words.split_first() else {
        return Err(Fault::say("missing command name; use --help for help"));
    };
    let Some((_, least, most, usage, _)) = COMMANDS.iter().find(|c| c.0 == name) else {
        let hint = suggest::hint(name, COMMANDS.iter().map(|c| c.0));
        return Err(Fault::say(format!("{name}: unknown command; use --help for help{hint}")));
    };
    if words.len() < *least || words.len() > *most {
        return Err(Fault::say(format!("usage: {} [OPTIONS] {name} {usage}", io.program)));
    }
    let subject = words.first().copied().unwrap_or_default();
    let kind = kind_of(words.get(1).copied())?;
    match name {
        "init" => init(&options)?,
        "req" => request(io, &options, subject)?,
        "sign" => sign(io, &options, subject, (kind, options.batch))?,
        "req+sign" => {
            request(io, &options, subject)?;
            sign(io, &options, subject, (kind, true))?;
        }
        "verify" => verify(io, &options, subject, kind)?,
        "fingerprint" => fingerprint(io, Path::new(subject))?,
        _ => self_sign(&options, subject)?,
    }
    Ok(0)
}

fn kind_of(kind: Option<&str>) -> Result<&'static str, Fault> {
    match kind {
        None | Some("switch") => Ok("switch"),
        Some("controller") => Ok("controller"),
        Some(other) => Err(Fault::say(format!("{other}: type must be 'switch' or 'controller'"))),
    }
}

fn parse(io: &mut Io<'_>, words: &[String]) -> Result<Option<(Options, Vec<String>)>, Fault> {
    let dir = PathBuf::from("/var/lib/openvswitch/pki");
    let mut options = Options { bits: 2_048, batch: false, force: false, dir, unique: false };
    let mut operands = Vec::new();
    for word in getopt::parse(ROWS, words)? {
        let (id, value) = match word {
            Word::Operand(operand) => {
                operands.push(operand);
                continue;
            }
            Word::Option(id, value) => (id, value.unwrap_or_default()),
        };
        match id {
            Id::Key if value == "rsa" => {}
            Id::Key => return Err(Fault::say(format!("--key={value}: only rsa is supported"))),
            Id::Bits => {
                let bits = value.parse::<u32>().ok().filter(|bits| *bits >= 1_024);
                options.bits = bits.ok_or_else(|| Fault::say(format!("--bits={value}: expected a number of at least 1024")))?;
            }
            // For DSA, and for openssl's talk, which is shown where it matters.
            Id::Dsaparam | Id::Log => {}
            Id::Batch => options.batch = true,
            Id::Force => options.force = true,
            Id::Dir => options.dir = value.into(),
            Id::Unique => options.unique = true,
            Id::Help => {
                help(io)?;
                return Ok(None);
            }
            Id::Version => {
                writeln!(io.out, "{} (Open vSwitch) {OVS_VERSION}", io.program)?;
                return Ok(None);
            }
        }
    }
    Ok(Some((options, operands)))
}

/// Runs openssl; what it prints.
fn openssl(words: &[&str]) -> Result<String, Fault> {
    let ran = Command::new("openssl").args(words).stdin(Stdio::null()).output();
    let ran = ran.map_err(|e| Fault::say(format!("openssl: {} (it has to be installed)", errno_text(&e))))?;
    if ran.status.success() {
        return Ok(String::from_utf8_lossy(&ran.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    Err(Fault::say(format!("openssl {}: {}", words.first().unwrap_or(&""), said.trim())))
}

fn absent(options: &Options, path: &str) -> Result<(), Fault> {
    if Path::new(path).exists() && !options.force {
        return Err(Fault::say(format!("{path} already exists and --force not specified")));
    }
    Ok(())
}

fn present(path: &str) -> Result<(), Fault> {
    if Path::new(path).is_file() { Ok(()) } else { Err(Fault::say(format!("{path} does not exist"))) }
}

fn only_for_owner(path: &str) -> Result<(), Fault> {
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(|e| Fault::because(path, &e))
}

fn now() -> String {
    Timestamp::now().to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn init(options: &Options) -> Result<(), Fault> {
    let dir = options.dir.display().to_string();
    absent(options, &dir)?;
    for kind in ["controller", "switch"] {
        let authority = format!("{dir}/{kind}ca");
        let private = format!("{authority}/private");
        std::fs::create_dir_all(&private).map_err(|e| Fault::because(format!("{private}: mkdir failed"), &e))?;
        std::fs::set_permissions(&private, Permissions::from_mode(0o700)).map_err(|e| Fault::because(&private, &e))?;
        let (key, certificate) = (format!("{private}/cakey.pem"), format!("{authority}/cacert.pem"));
        let subject = format!("/C=US/ST=CA/O=Open vSwitch/OU={kind}ca/CN=OVS {kind}ca CA Certificate ({})", now());
        let bits = format!("rsa:{}", options.bits);
        openssl(&[
            "req",
            "-x509",
            "-new",
            "-nodes",
            "-sha512",
            "-days",
            DAYS,
            "-newkey",
            &bits,
            "-keyout",
            &key,
            "-out",
            &certificate,
            "-subj",
            &subject,
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        ])?;
        only_for_owner(&key)?;
    }
    Ok(())
}

fn request(io: &mut Io<'_>, options: &Options, name: &str) -> Result<(), Fault> {
    let (key, request) = (format!("{name}-privkey.pem"), format!("{name}-req.pem"));
    absent(options, &key)?;
    absent(options, &request)?;
    let common = if options.unique { name.to_owned() } else { format!("{name} id:{}", uuid::Uuid::new_v4()) };
    let subject = format!("/C=US/ST=CA/O=Open vSwitch/OU=Open vSwitch certifier/CN={common}");
    let bits = format!("rsa:{}", options.bits);
    openssl(&["req", "-new", "-nodes", "-sha512", "-newkey", &bits, "-keyout", &key, "-out", &request, "-subj", &subject])?;
    only_for_owner(&key)?;
    fingerprint(io, Path::new(&request))
}

fn sign(io: &mut Io<'_>, options: &Options, name: &str, (kind, batch): (&str, bool)) -> Result<(), Fault> {
    let (request, certificate) = (format!("{name}-req.pem"), format!("{name}-cert.pem"));
    let authority = format!("{}/{kind}ca", options.dir.display());
    let (ca, key) = (format!("{authority}/cacert.pem"), format!("{authority}/private/cakey.pem"));
    present(&ca)?;
    present(&request)?;
    absent(options, &certificate)?;
    if !batch {
        fingerprint(io, Path::new(&request))?;
        confirm(io)?;
    }
    // A serial number of its own for each, so that no two certificates of one authority share one (RFC 5280, 4.1.2.2).
    let serial = format!("0x{}", uuid::Uuid::new_v4().simple());
    let extensions = format!("{certificate}.ext");
    let text = "basicConstraints=CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
    std::fs::write(&extensions, text).map_err(|e| Fault::because(format!("{extensions}: write failed"), &e))?;
    let signed = openssl(&[
        "x509",
        "-req",
        "-sha512",
        "-days",
        DAYS,
        "-in",
        &request,
        "-CA",
        &ca,
        "-CAkey",
        &key,
        "-set_serial",
        &serial,
        "-extfile",
        &extensions,
        "-out",
        &certificate,
    ]);
    // It has served; a file that cannot be removed is no reason to fail.
    drop(std::fs::remove_file(&extensions));
    signed.map(drop)
}

fn confirm(io: &mut Io<'_>) -> Result<(), Fault> {
    write!(io.out, "Does fingerprint match? (yes/no) ")?;
    io.out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim().eq_ignore_ascii_case("yes") { Ok(()) } else { Err(Fault::say("fingerprint does not match, not signing")) }
}

fn verify(io: &mut Io<'_>, options: &Options, name: &str, kind: &str) -> Result<(), Fault> {
    let certificate = format!("{name}-cert.pem");
    let ca = format!("{}/{kind}ca/cacert.pem", options.dir.display());
    present(&certificate)?;
    present(&ca)?;
    Ok(write!(io.out, "{}", openssl(&["verify", "-CAfile", &ca, &certificate])?)?)
}

fn self_sign(options: &Options, name: &str) -> Result<(), Fault> {
    let (key, request, certificate) = (format!("{name}-privkey.pem"), format!("{name}-req.pem"), format!("{name}-cert.pem"));
    present(&key)?;
    present(&request)?;
    absent(options, &certificate)?;
    openssl(&["x509", "-req", "-sha512", "-days", DAYS, "-in", &request, "-signkey", &key, "-out", &certificate]).map(drop)
}

fn fingerprint(io: &mut Io<'_>, path: &Path) -> Result<(), Fault> {
    let shown = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| Fault::because(format!("{shown}: open failed"), &e))?;
    let date = std::fs::metadata(path).and_then(|m| m.modified()).map_err(|e| Fault::because(&shown, &e))?;
    let date = Timestamp::try_from(date).unwrap_or_default().to_zoned(TimeZone::UTC).strftime("%a %b %e %H:%M:%S UTC %Y");
    let digest = if String::from_utf8_lossy(&bytes).contains("-BEGIN CERTIFICATE-") {
        let said = openssl(&["x509", "-noout", "-fingerprint", "-sha1", "-in", &shown])?;
        said.rsplit('=').next().unwrap_or_default().trim().replace(':', "").to_lowercase()
    } else {
        use sha1::Digest as _;
        sha1::Sha1::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect()
    };
    Ok(writeln!(io.out, "{shown}\t{date}\n\tfingerprint {digest}")?)
}

fn help(io: &mut Io<'_>) -> Result<(), Fault> {
    let p = io.program;
    writeln!(io.out, "{p}, for managing a simple OpenFlow public key infrastructure\nusage: {p} [OPTION...] COMMAND [ARG...]\n")?;
    for (name, _, _, usage, about) in COMMANDS {
        writeln!(io.out, "  {:<24}{about}", format!("{name} {usage}"))?;
    }
    write!(
        io.out,
        "
TYPE is 'switch' (default) or 'controller'.
Options:
  -k, --key=rsa            type of keys (only rsa)
  -B, --bits=NBITS         size of keys (default: 2048)
  -b, --batch              do not ask whether the fingerprint matches
  -f, --force              overwrite what exists
  -d, --dir=DIR            where the authorities are (default: /var/lib/openvswitch/pki)
  -u, --unique             NAME is the whole common name, without a number added
  -h, --help               display this help message
  -V, --version            display version information
"
    )?;
    Ok(())
}
