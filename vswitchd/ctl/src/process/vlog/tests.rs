//! The log as a whole: levels, file life and the tables, by what ends up in a file.

use super::*;
use std::cell::Cell;
use std::fmt;

fn log_to(dir: &Path) -> Log {
    let log = Log::new("ovs-vswitchd");
    log.detach_console();
    log.sinks().file = Some(LogFile::open(&dir.join("log")).unwrap());
    log.change(&levels::parse("PATTERN:file:%c|%p|%m").unwrap());
    log
}

fn bridge() -> Module {
    Module::named("bridge").unwrap()
}

#[test]
fn levels_decide_per_module_and_destination() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_to(dir.path());
    log.write(bridge(), Level::Dbg, "unseen");
    log.write(bridge(), Level::Info, "seen");
    log.change(&levels::parse("bridge:file:dbg").unwrap());
    log.write(bridge(), Level::Dbg, "seen too");
    log.write(Module::named("bond").unwrap(), Level::Dbg, "unseen");
    log.change(&levels::parse("off").unwrap());
    log.write(bridge(), Level::Emer, "unseen");
    let text = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(text, "bridge|INFO|seen\nbridge|DBG|seen too\n");
    assert_eq!(log.max_level(bridge()), Level::Off);
}

#[test]
fn close_and_reopen_follow_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_to(dir.path());
    let path = dir.path().join("log");
    log.write(bridge(), Level::Info, "one");
    std::fs::rename(&path, dir.path().join("old")).unwrap();
    log.write(bridge(), Level::Info, "two");
    log.reopen_file().unwrap();
    log.write(bridge(), Level::Info, "three");
    log.close_file();
    log.write(bridge(), Level::Info, "lost");
    log.reopen_file().unwrap();
    log.write(bridge(), Level::Info, "four");
    assert_eq!(std::fs::read_to_string(dir.path().join("old")).unwrap(), "bridge|INFO|one\nbridge|INFO|two\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "bridge|INFO|three\nbridge|INFO|four\n");
    assert_eq!(Log::new("x").reopen_file(), Err("Logging to file not configured".into()));
}

#[test]
fn the_tables_are_laid_out_as_ovs_does() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_to(dir.path());
    log.change(&levels::parse("daemon:syslog:err").unwrap());
    log.set_rate_limits(Module::named("bfd"), false);
    let list = log.list();
    assert!(list.starts_with("                 console    syslog    file\n                 -------    ------    ------\nbacktrace          OFF       INFO       INFO\n"));
    assert!(list.contains("\ndaemon             OFF        ERR       INFO\n"));
    assert!(list.contains("\nbfd                OFF       INFO       INFO    (rate limiting disabled)\n"));
    assert!(list.contains("\ndpif_lookup_autovalidator   OFF       INFO       INFO\n"));
    let patterns = log.list_patterns();
    assert!(patterns.contains("\nSYSLOG   <%B> %D{%h %e %T} %E %A:          ovs|%05N|%c%T|%p|%m\n"));
    assert!(patterns.ends_with("\nFILE     none                              %c|%p|%m\n"));
}

#[test]
fn other_threads_are_named_and_number_their_own_lines() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_to(dir.path());
    log.change(&levels::parse("PATTERN:file:%05N|%c%T|%t").unwrap());
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("revalidator1".into())
            .spawn_scoped(scope, || {
                log.write(bridge(), Level::Info, "");
                log.write(bridge(), Level::Info, "");
            })
            .unwrap();
    });
    let text = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(text, "00001|bridge(revalidator1)|revalidator1\n00002|bridge(revalidator1)|revalidator1\n");
}

/// A line that its rate keeps back costs no words: those of a packet's flow are many, and each packet of a flood may have one.
#[test]
fn what_is_not_written_is_not_put_into_words() {
    struct Costly<'a>(&'a Cell<u32>);
    impl fmt::Display for Costly<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.set(self.0.get() + 1);
            f.write_str("words")
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(log_to(dir.path()));
    log.change(&levels::parse("PATTERN:file:%p|%m").unwrap());
    let times = Cell::new(0);
    tracing::subscriber::with_default(subscriber::Subscriber(Arc::clone(&log)), || {
        for n in 0..5 {
            tracing::info!(target: "bridge", rl = 1, burst = 2, n, "{}", Costly(&times));
        }
    });
    let text = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!((text.as_str(), times.get()), ("INFO|words n=0\nINFO|words n=1\n", 2));
}
