//! The journal: an append-only file of JSON records, in the format of OVS's standalone databases (ovsdb(5)).
//!
//! ```text
//! OVSDB JSON <length> <sha1>\n
//! <length bytes of JSON, the last of which is \n>
//! ```
//!
//! The first record is the schema, each further one a transaction. What this room guarantees:
//! - A record is complete and has the right hash, or it and all that follows is not read.
//! - A record is appended with one write; a failed write is taken back by truncation. After that fails too, the journal
//!   refuses to grow, since anything behind a torn record would be lost at the next start.
//! - A tail that a crash tore is cut off when the file is opened for writing, with a log line that names the record, the
//!   offset and the reason. If complete records follow the damage, so that it is no torn tail, what is cut off is kept
//!   beside the file.
//! - Compaction writes a new file, syncs it and renames it over the old one, so that at every moment the name leads to a
//!   complete file.
//!
//! [`Syncer`] puts records on disk in its own thread and tells those who wait; several waiters share one `fdatasync`.

use crate::error::{Error, Result, Tag};
use crate::lockfile::LockFile;
use serde_json::Value;
use sha1::{Digest, Sha1};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use tokio::sync::oneshot;

/// What every header begins with.
const MAGIC: &str = "OVSDB JSON ";
/// Longest header line: magic, 20 digits, blank, 40 hex digits, newline.
const HEADER_MAX: usize = 80;
/// A journal smaller than this is not worth compacting.
pub const COMPACT_MIN: u64 = 10 << 20;

/// Where and why reading stopped before the end of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Number of the bad record; the schema is record 0.
    pub record: usize,
    /// Its offset in the file.
    pub offset: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// What a journal file holds.
#[derive(Debug)]
pub struct Contents {
    /// The good records.
    pub records: Vec<Value>,
    /// Where each begins.
    pub offsets: Vec<u64>,
    /// Where the good records end.
    pub end: u64,
    /// Present if something follows that is no good record.
    pub damage: Option<Damage>,
}

/// The bytes of one record.
#[must_use]
pub fn encode(record: &Value) -> Vec<u8> {
    let mut body = record.to_string();
    body.push('\n');
    let mut out = format!("{MAGIC}{} {}\n", body.len(), hex(&Sha1::digest(body.as_bytes()))).into_bytes();
    out.extend_from_slice(body.as_bytes());
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Reads the records in `bytes`.
#[must_use]
pub fn decode(bytes: &[u8]) -> Contents {
    let (mut records, mut offsets) = (Vec::new(), Vec::new());
    let mut end = 0;
    let mut damage = None;
    while end < bytes.len() && damage.is_none() {
        match decode_one(&bytes[end..], end) {
            Ok((record, length)) => {
                records.push(record);
                offsets.push(end as u64);
                end += length;
            }
            Err(reason) => damage = Some(Damage { record: records.len(), offset: end as u64, reason }),
        }
    }
    Contents { records, offsets, end: end as u64, damage }
}

fn decode_one(bytes: &[u8], offset: usize) -> std::result::Result<(Value, usize), String> {
    let line_end = bytes.iter().take(HEADER_MAX).position(|b| *b == b'\n').ok_or(if bytes.len() < HEADER_MAX {
        "incomplete header line"
    } else {
        "no header line"
    })?;
    let line = String::from_utf8_lossy(&bytes[..line_end]);
    let bad = || format!("parse error at offset {offset} in header line \"{}\"", line.escape_debug());
    let (length, hash) = line.strip_prefix(MAGIC).and_then(|rest| rest.split_once(' ')).ok_or_else(bad)?;
    let length: usize = length.parse().map_err(|_| bad())?;
    if hash.len() != 40 {
        return Err(bad());
    }
    let start = line_end + 1;
    let body = start
        .checked_add(length)
        .and_then(|end| bytes.get(start..end))
        .ok_or_else(|| format!("record of {length} bytes ends after {}", bytes.len() - start))?;
    let actual = hex(&Sha1::digest(body));
    if !hash.eq_ignore_ascii_case(&actual) {
        return Err(format!("{length} bytes have SHA-1 hash {actual} but should have hash {hash}"));
    }
    let record: Value = serde_json::from_slice(body).map_err(|e| format!("{length} bytes are not valid JSON ({e})"))?;
    if !record.is_object() {
        return Err(format!("{length} bytes are not a JSON object"));
    }
    Ok((record, start + length))
}

/// Reads a journal without locking or changing it.
pub fn read(path: &Path) -> Result<Contents> {
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(|e| Error::from_io(&e, format!("{}: open failed", path.display())))?;
    file.read_to_end(&mut bytes).map_err(|e| Error::from_io(&e, format!("{}: read failed", path.display())))?;
    if bytes.starts_with(b"OVSDB CLUSTER ") {
        let text = format!("{}: cannot apply this operation to clustered database file", path.display());
        return Err(Error::new(Tag::OvsdbError, text));
    }
    Ok(decode(&bytes))
}

/// A journal open for appending.
#[derive(Debug)]
pub struct Journal {
    /// As it was given, for messages.
    name: PathBuf,
    /// Absolute: the process may leave the folder that it was started in.
    path: PathBuf,
    file: Arc<File>,
    end: u64,
    /// Size after the last compaction.
    base: u64,
    broken: bool,
    _lock: LockFile,
}

impl Journal {
    /// Creates a journal whose first record is `schema`. Fails if the file exists.
    pub fn create(path: &Path, schema: &Value) -> Result<Self> {
        let lock = LockFile::lock(path)?;
        let fail = |e: &std::io::Error| Error::from_io(e, format!("{}: create failed", path.display()));
        if path.exists() {
            return Err(fail(&std::io::Error::from(nix::errno::Errno::EEXIST)));
        }
        // Complete under a temporary name first: a crash must not leave an empty file under the real one. A link that leads nowhere yet
        // stays a link.
        let file = write_new(&followed(path), &[encode(schema)]).map_err(|e| fail(&e))?;
        let end = file.metadata().map_err(|e| fail(&e))?.len();
        Self::new(path, file, end, lock)
    }

    /// Opens a journal and has `replay` make sense of what it holds, up to a record that makes none. What is torn or makes no sense is cut
    /// off, with all that follows it.
    pub fn open_with<T>(path: &Path, replay: impl FnOnce(Contents) -> Result<(T, Option<Damage>)>) -> Result<(Self, T)> {
        let lock = LockFile::lock(path)?;
        let contents = read(path)?;
        let fail = |what: &str| {
            let what = format!("{}: {what} failed", path.display());
            move |e: std::io::Error| Error::from_io(&e, what.clone())
        };
        if contents.records.is_empty() {
            let reason = contents.damage.as_ref().map_or("file is empty", |d| d.reason.as_str());
            let text = format!("{}: unexpected file format: {reason}", path.display());
            return Err(Error::new(Tag::OvsdbError, text));
        }
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(fail("open"))?;
        let (mut end, torn) = (contents.end, contents.damage.clone());
        let (made, senseless) = replay(contents)?;
        let torn = torn.map(|d| Damage { reason: format!("syntax error: {}: {}", path.display(), d.reason), ..d });
        if let Some(damage) = senseless.or(torn) {
            cut_tail(path, &mut file, &damage).map_err(fail("truncate"))?;
            end = damage.offset;
        }
        file.seek(SeekFrom::Start(end)).map_err(fail("seek"))?;
        Ok((Self::new(path, file, end, lock)?, made))
    }

    fn new(name: &Path, file: File, end: u64, lock: LockFile) -> Result<Self> {
        let absolute = std::path::absolute(name).map_err(|e| Error::from_io(&e, format!("{}: no such place", name.display())))?;
        Ok(Self { name: name.to_owned(), path: absolute, file: Arc::new(file), end, base: end, broken: false, _lock: lock })
    }

    /// Appends a record. When this returns, the record survives the process; to survive the machine it needs
    /// [`Syncer::sync`].
    pub fn append(&mut self, record: &Value) -> Result<()> {
        let fail = |e: &std::io::Error| Error::from_io(e, format!("{}: write failed", self.name.display()));
        if self.broken {
            return Err(fail(&std::io::Error::other("an earlier write failed and could not be taken back")));
        }
        let bytes = encode(record);
        if let Err(e) = (&*self.file).write_all(&bytes) {
            let undone = self.file.set_len(self.end).and_then(|()| (&*self.file).seek(SeekFrom::Start(self.end)));
            self.broken = undone.is_err();
            return Err(fail(&e));
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// The file, for [`Syncer::sync`].
    #[must_use]
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Where the file is, as it was given.
    #[must_use]
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.end
    }

    /// Whether so much was appended since the last compaction that another one pays.
    #[must_use]
    pub fn wants_compaction(&self) -> bool {
        self.end > COMPACT_MIN && self.end / 2 > self.base
    }

    /// Puts `records` in the place of all that the journal holds.
    pub fn replace(&mut self, records: &[Value]) -> Result<()> {
        let fail = |e: &std::io::Error| Error::from_io(e, format!("{}: compaction failed", self.name.display()));
        let encoded: Vec<Vec<u8>> = records.iter().map(encode).collect();
        // A database may be reached through a symbolic link, which must stay one.
        let real = self.path.canonicalize().map_err(|e| fail(&e))?;
        let file = write_new(&real, &encoded).map_err(|e| fail(&e))?;
        self.end = encoded.iter().map(|r| r.len() as u64).sum();
        self.base = self.end;
        self.file = Arc::new(file);
        self.broken = false;
        Ok(())
    }
}

/// Links followed by one path before it is given up as going round.
const LINKS_MAX: usize = 40;

/// Where a path leads, through links whose ends need not exist.
pub(crate) fn followed(path: &Path) -> PathBuf {
    let mut at = path.to_owned();
    for _ in 0..LINKS_MAX {
        match std::fs::read_link(&at) {
            Ok(target) => at = at.parent().map_or_else(|| target.clone(), |folder| folder.join(&target)),
            Err(_) => break,
        }
    }
    at
}

/// Writes a file under a temporary name, syncs it, gives it its name, syncs the directory.
fn write_new(path: &Path, records: &[Vec<u8>]) -> std::io::Result<File> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let mode = std::fs::metadata(path).map_or(0o640, |m| std::os::unix::fs::PermissionsExt::mode(&m.permissions()));
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(true).mode(mode & 0o777).open(&temporary)?;
    for record in records {
        file.write_all(record)?;
    }
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(parent)?.sync_all()?;
    Ok(file)
}

fn cut_tail(path: &Path, file: &mut File, damage: &Damage) -> std::io::Result<()> {
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(damage.offset))?;
    file.read_to_end(&mut tail)?;
    let more = tail.windows(MAGIC.len()).skip(1).any(|w| w == MAGIC.as_bytes());
    let mut kept = String::new();
    if more {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".damaged-at-{}", damage.offset));
        let aside = path.with_file_name(name);
        std::fs::write(&aside, &tail)?;
        kept = format!(" (kept in {})", aside.display());
    }
    tracing::warn!(
        target: "ovsdb_log",
        "{}: record {} at offset {}: {}; dropping {} bytes{kept}, the {} records before it are good",
        path.display(), damage.record, damage.offset, damage.reason, tail.len(), damage.record
    );
    file.set_len(damage.offset)?;
    file.sync_all()
}

type SyncJob = (Arc<File>, oneshot::Sender<std::io::Result<()>>);

/// A thread that makes files durable.
#[derive(Debug)]
pub struct Syncer {
    jobs: mpsc::Sender<SyncJob>,
}

impl Syncer {
    /// Starts the thread; it ends when the `Syncer` is dropped.
    pub fn start() -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<SyncJob>();
        std::thread::Builder::new().name("ovsdb-sync".into()).spawn(move || sync_loop(&queue))?;
        Ok(Self { jobs })
    }

    /// Resolves when everything written to `file` before this call is on disk.
    pub async fn sync(&self, file: Arc<File>) -> std::io::Result<()> {
        let (done, wait) = oneshot::channel();
        let gone = || std::io::Error::other("the sync thread is gone");
        self.jobs.send((file, done)).map_err(|_| gone())?;
        wait.await.map_err(|_| gone())?
    }
}

fn sync_loop(queue: &mpsc::Receiver<SyncJob>) {
    while let Ok(first) = queue.recv() {
        // Whoever asked before this sync begins is served by it.
        let mut batch = vec![first];
        batch.extend(queue.try_iter());
        while let Some((file, _)) = batch.last() {
            let file = Arc::clone(file);
            let outcome = file.sync_data();
            let (same, others): (Vec<_>, Vec<_>) = batch.into_iter().partition(|(f, _)| Arc::ptr_eq(f, &file));
            batch = others;
            for (_, done) in same {
                let result = match &outcome {
                    Ok(()) => Ok(()),
                    Err(e) => Err(std::io::Error::new(e.kind(), e.to_string())),
                };
                // The one who waited may have gone away.
                let _ = done.send(result);
            }
        }
    }
}
