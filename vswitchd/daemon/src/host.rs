//! `Open_vSwitch.statistics`: what the machine and the processes of the run folder use, for `other_config:enable-statistics`. Text of
//! /proc in, the column's pairs out; what the kernel does not tell is left out.

use nix::sys::statvfs::{FsFlags, statvfs};
use std::fs;
use std::path::Path;

/// USER_HZ, by which the kernel counts processor time for programs (proc(5)).
const TICKS_PER_S: u64 = 100;

/// Everything; sizes in kB, times in ms.
pub fn statistics(rundir: &Path) -> Vec<(String, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut pairs = vec![("cpu".to_owned(), processors(&read("/proc/cpuinfo")).to_string())];
    pairs.extend(load_average(&read("/proc/loadavg")).map(|load| ("load_average".to_owned(), load)));
    pairs.extend(memory(&read("/proc/meminfo")).map(|memory| ("memory".to_owned(), memory)));
    let uptime_ms = read("/proc/uptime").split('.').next().and_then(|s| s.parse::<u64>().ok()).unwrap_or(0) * 1000;
    pairs.extend(processes(rundir).into_iter().map(|(name, pid)| {
        let usage = process(&read(&format!("/proc/{pid}/stat")), uptime_ms).unwrap_or_default();
        (format!("process_{name}"), usage)
    }));
    let file_systems: Vec<_> = mounts(&read("/proc/mounts")).filter_map(file_system).collect();
    if !file_systems.is_empty() {
        pairs.push(("file_systems".to_owned(), file_systems.join(" ")));
    }
    pairs
}

fn processors(cpuinfo: &str) -> usize {
    cpuinfo.lines().filter(|line| line.starts_with("processor")).count()
}

/// Of one, five and fifteen minutes.
fn load_average(loadavg: &str) -> Option<String> {
    let loads: Vec<_> = loadavg.split_whitespace().take(3).collect();
    (loads.len() == 3).then(|| loads.join(","))
}

/// Total, used, of these for caches; swap: total, used.
fn memory(meminfo: &str) -> Option<String> {
    let of = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let (total, swap) = (of("MemTotal")?, of("SwapTotal")?);
    let used = total.saturating_sub(of("MemFree")?);
    let caches = of("Buffers")? + of("Cached")?;
    Some(format!("{total},{used},{caches},{swap},{}", swap.saturating_sub(of("SwapFree")?)))
}

/// Names and ids of the processes that have a pid file in the folder.
fn processes(rundir: &Path) -> Vec<(String, u32)> {
    let entries = fs::read_dir(rundir).into_iter().flatten().flatten();
    let process = |path: &Path| {
        let name = path.file_name()?.to_str()?.strip_suffix(".pid")?.to_owned();
        Some((name, fs::read_to_string(path).ok()?.trim().parse().ok()?))
    };
    let mut found: Vec<_> = entries.filter_map(|entry| process(&entry.path())).collect();
    found.sort();
    found
}

/// Virtual and resident size, processor time, crashes, time since the first start and since the last, core.
fn process(stat: &str, uptime_ms: u64) -> Option<String> {
    // The name stands in parentheses and may hold anything; proc(5) numbers what follows from 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ms = |ticks: u64| ticks * 1000 / TICKS_PER_S;
    let (vsz_kb, rss_kb) = (field(23)? / 1024, field(24)? * 4);
    let (busy, age) = (ms(field(14)? + field(15)?), uptime_ms.saturating_sub(ms(field(22)?)));
    Some(format!("{vsz_kb},{rss_kb},{busy},0,{age},{age},{}", field(39)?))
}

/// Where local, writable file systems are mounted.
fn mounts(mounts: &str) -> impl Iterator<Item = &str> {
    mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (device, point, _, options) = (words.next()?, words.next()?, words.next()?, words.next()?);
        (device.starts_with("/dev") && options.split(',').any(|option| option == "rw")).then_some(point)
    })
}

/// Mount point, total and used.
fn file_system(point: &str) -> Option<String> {
    let point = point.replace("\\040", " ");
    let fs = statvfs(point.as_str()).ok().filter(|fs| !fs.flags().contains(FsFlags::ST_RDONLY))?;
    let kb = |blocks: u64| blocks * fs.fragment_size() / 1024;
    Some(format!("{},{},{}", point.replace([' ', ','], "_"), kb(fs.blocks()), kb(fs.blocks() - fs.blocks_free())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_as_the_column_has_it() {
        assert_eq!(processors("processor\t: 0\nmodel name\t: x\n\nprocessor\t: 1\n"), 2);
        assert_eq!(load_average("0.50 0.40 0.30 1/234 5678\n").as_deref(), Some("0.50,0.40,0.30"));
        assert_eq!(load_average(""), None);
        let meminfo = "MemTotal: 1000 kB\nMemFree: 300 kB\nBuffers: 20 kB\nCached: 80 kB\nSwapTotal: 50 kB\nSwapFree: 10 kB\n";
        assert_eq!(memory(meminfo).as_deref(), Some("1000,700,100,50,40"));
        assert_eq!(memory("MemTotal: 1000 kB\n"), None);
        let stat =
            "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 6000 8192000 25 0 1 1 1 0 0 0 0 0 0 0 0 0 17 3 0 0 0";
        assert_eq!(process(stat, 100_000).as_deref(), Some("8000,100,2000,0,40000,40000,3"));
        assert_eq!(process("7 (a) S 1", 0), None);
        let text = "/dev/sda1 / ext4 rw,relatime 0 0\nproc /proc proc rw 0 0\n/dev/sdb /cd iso9660 ro 0 0\n";
        assert_eq!(mounts(text).collect::<Vec<_>>(), ["/"]);
    }

    #[test]
    fn this_machine_has_them() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("me.pid"), std::process::id().to_string()).unwrap();
        let pairs = statistics(folder.path());
        for key in ["cpu", "load_average", "memory", "process_me"] {
            assert!(pairs.iter().any(|(k, v)| k == key && !v.is_empty()), "{key} in {pairs:?}");
        }
    }
}
