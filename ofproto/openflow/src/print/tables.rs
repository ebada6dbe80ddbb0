//! Tables: modification, description, status, and what they can do. Tables that can do the same are told of together.

use super::session::action_names;
use super::{hex, put};
use crate::message::{ActionFeatures, TableDesc, TableFeatureSet, TableFeatures, TableMod, TableStats};
use crate::text::Names;
use crate::text::actions::Alternate;
use crate::types::{TableId, Version};
use flow::Field;

/// OFPTMPEF14_*
const EVICTION: [(u32, &str); 3] = [(1, "OTHER"), (2, "IMPORTANCE"), (4, "LIFETIME")];
/// OFPTR_*
const VACANCY_DOWN: u8 = 3;
const VACANCY_UP: u8 = 4;
const MISSES: [&str; 3] = ["controller", "continue", "drop"];
const INSTRUCTIONS: [&str; 6] = ["meter", "apply_actions", "clear_actions", "write_actions", "write_metadata", "goto_table"];
const TABLES: usize = 255;

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn eviction_flags(flags: u32) -> String {
    if flags == u32::MAX { "(default)".to_owned() } else { hex::bits(flags, &EVICTION, "|") }
}

pub(super) fn table_mod(out: &mut String, t: &TableMod, names: &Names<'_>) {
    match t.table {
        TableId::ALL => out.push_str(" table_id: ALL_TABLES"),
        table => put(out, format_args!(" table_id={}", names.table(table))),
    }
    if let Some(name) = t.miss.and_then(|m| MISSES.get(usize::from(m))) {
        put(out, format_args!(", flow_miss_config={name}"));
    }
    if let Some(on) = t.eviction {
        put(out, format_args!(", eviction={}", on_off(on)));
    }
    if let Some(flags) = t.eviction_flags.filter(|f| *f != u32::MAX) {
        put(out, format_args!("eviction_flags={}", eviction_flags(flags)));
    }
    if let Some(on) = t.vacancy {
        put(out, format_args!(", vacancy={}", on_off(on)));
        if on {
            put(out, format_args!(" vacancy:{},{}", t.vacancy_down, t.vacancy_up));
        }
    }
}

pub(super) fn desc(out: &mut String, t: &TableDesc, names: &Names<'_>) {
    put(out, format_args!("\n  table {}:\n", names.table(t.table)));
    put(out, format_args!("   eviction={} eviction_flags={}\n", on_off(t.eviction), eviction_flags(t.eviction_flags)));
    put(out, format_args!("   vacancy={}", on_off(t.vacancy)));
    if t.vacancy {
        put(out, format_args!(" vacancy_down={}% vacancy_up={}% vacancy={}%", t.vacancy_down, t.vacancy_up, t.vacancy_now));
    }
    out.push('\n');
}

pub(super) fn status(out: &mut String, reason: u8, t: &TableDesc, names: &Names<'_>) {
    out.push_str(match reason {
        VACANCY_DOWN => " reason=VACANCY_DOWN",
        VACANCY_UP => " reason=VACANCY_UP",
        _ => "",
    });
    out.push_str("\ntable_desc:-");
    desc(out, t, names);
}

pub(super) fn features(out: &mut String, tables: &[TableFeatures], version: Version) {
    let mut list = List { out, version, dittos: None, first: true };
    let mut before = None;
    for t in tables {
        list.table(t, before, None, None);
        before = Some(t);
    }
    list.finish();
}

pub(super) fn stats(out: &mut String, entries: &[TableStats], version: Version) {
    // From 1.3 on statistics carry no features, so there is nothing to say of what 1.4 added to them.
    let mut list = List { out, version: version.min(Version::V13), dittos: None, first: true };
    let mut before: Option<&TableStats> = None;
    for e in entries {
        let counters = |e: &TableStats| (e.active, e.lookups, e.matched);
        list.table(&e.features, before.map(|b| &b.features), Some(counters(e)), before.map(counters));
        before = Some(e);
    }
    list.finish();
}

type Counters = (u32, u64, u64);

struct List<'a> {
    out: &'a mut String,
    version: Version,
    /// First and last table that are like the one told of before them.
    dittos: Option<(u8, u8)>,
    first: bool,
}

impl List<'_> {
    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        put(self.out, text);
    }

    fn table(&mut self, t: &TableFeatures, before: Option<&TableFeatures>, now: Option<Counters>, was: Option<Counters>) {
        const REPLACE: u8 = 0;
        if std::mem::take(&mut self.first) && t.command != REPLACE {
            let name = ["replace", "modify", "enable", "disable"].get(usize::from(t.command)).unwrap_or(&"***bad command***");
            self.put(format_args!("\n  command: {name}"));
        }
        let n = t.table.0;
        let same_stats = now.is_none() || now == was;
        let same = before.is_some_and(|b| equal(t, b));
        if same_stats && same && t.name.is_empty() {
            self.dittos = Some((self.dittos.map_or(n, |(first, _)| first), n));
            return;
        }
        self.finish();
        self.put(format_args!("\n  table {n}"));
        if !t.name.is_empty() {
            self.put(format_args!(" (\"{}\")", t.name));
        }
        self.out.push(':');
        if same_stats && same {
            self.out.push_str(" ditto");
            return;
        }
        self.out.push('\n');
        if let Some((active, lookups, matched)) = now {
            self.put(format_args!("    active={active}, lookup={lookups}, matched={matched}\n"));
        }
        if !same {
            self.whole(t, before);
        } else if !self.empty(t) {
            self.out.push_str("    (same features)\n");
        }
    }

    fn finish(&mut self) {
        match self.dittos.take() {
            None => {}
            Some((first, last)) if first == last => self.put(format_args!("\n  table {first}: ditto\n")),
            Some((first, last)) => self.put(format_args!("\n  tables {first}...{last}: ditto\n")),
        }
    }

    /// What a miss does, where the version tells.
    fn miss(&self, t: &TableFeatures) -> Option<&'static str> {
        let told = matches!(self.version, Version::V11 | Version::V12);
        MISSES.get(usize::from(t.miss)).copied().filter(|_| told)
    }

    fn empty(&self, t: &TableFeatures) -> bool {
        let none = TableFeatureSet::default();
        t.metadata_match == 0
            && t.metadata_write == 0
            && self.miss(t).is_none()
            && self.version < Version::V14
            && t.max_entries == 0
            && t.flows.iter().all(|set| *set == none)
            && t.matchable.is_empty()
    }

    fn whole(&mut self, t: &TableFeatures, before: Option<&TableFeatures>) {
        if t.metadata_match != 0 || t.metadata_write != 0 {
            let (matching, write) = (Alternate(t.metadata_match), Alternate(t.metadata_write));
            self.put(format_args!("    metadata: match={matching} write={write}\n"));
        }
        if let Some(name) = self.miss(t) {
            self.put(format_args!("    config={name}\n"));
        }
        if self.version >= Version::V14 {
            let not = |on: bool| if on { "" } else { "not " };
            self.put(format_args!("    eviction: {}supported\n", not(t.supports_eviction)));
            self.put(format_args!("    vacancy events: {}supported\n", not(t.supports_vacancy)));
        }
        if t.max_entries != 0 {
            self.put(format_args!("    max_entries={}\n", t.max_entries));
        }
        self.instructions(t, before);
        if t.matchable.is_empty() {
            return;
        }
        if before.is_some_and(|b| b.matchable == t.matchable) {
            self.out.push_str("    (same matching)\n");
            return;
        }
        self.out.push_str("    matching:\n");
        for (title, maskable, wildcard) in
            [("arbitrary mask", true, true), ("exact match or wildcard", false, true), ("must exact match", false, false)]
        {
            let fits = |f: &&Field| t.maskable.contains(f) == maskable && t.wildcard.contains(f) == wildcard;
            let fields: Vec<Field> = t.matchable.iter().filter(fits).copied().collect();
            if !fields.is_empty() {
                self.put(format_args!("      {title}:{}\n", field_names(&fields)));
            }
        }
    }

    fn instructions(&mut self, t: &TableFeatures, before: Option<&TableFeatures>) {
        let [flows, miss] = &t.flows;
        let table = t.table;
        let like_before =
            before.is_some_and(|b| same_set(flows, table, &b.flows[0], b.table) && same_set(miss, table, &b.flows[1], b.table));
        let none = TableFeatureSet::default();
        if like_before {
            if *flows != none {
                self.out.push_str("    (same instructions)\n");
            }
        } else if flows != miss {
            self.out.push_str("    instructions (other than table miss):\n");
            self.set(flows, before.map(|b| &b.flows[0]));
            self.out.push_str("    instructions (table miss):\n");
            self.set(miss, before.map(|b| &b.flows[1]));
        } else if *flows != none {
            self.out.push_str("    instructions (table miss and others):\n");
            self.set(flows, before.map(|b| &b.flows[0]));
        }
    }

    fn set(&mut self, set: &TableFeatureSet, before: Option<&TableFeatureSet>) {
        let next = ranges(&set.next);
        if !next.is_empty() {
            self.put(format_args!("      next tables: {next}\n"));
        }
        if set.instructions != 0 {
            if before.is_some_and(|b| b.instructions == set.instructions) {
                self.out.push_str("      (same instructions)\n");
            } else {
                let names: Vec<String> = (0..32)
                    .filter(|n| set.instructions >> n & 1 != 0)
                    .map(|n| INSTRUCTIONS.get(n).map_or_else(|| n.to_string(), |name| (*name).to_owned()))
                    .collect();
                self.put(format_args!("      instructions: {}\n", names.join(" ")));
            }
        }
        let like_before = before.is_some_and(|b| b.write == set.write && b.apply == set.apply);
        if like_before && !set.write.set_fields.is_empty() {
            self.out.push_str("      (same actions)\n");
        } else if set.write != set.apply {
            self.out.push_str("      Write-Actions features:\n");
            self.actions(&set.write);
            self.out.push_str("      Apply-Actions features:\n");
            self.actions(&set.apply);
        } else if set.write != ActionFeatures::default() {
            self.out.push_str("      Write-Actions and Apply-Actions features:\n");
            self.actions(&set.write);
        }
    }

    fn actions(&mut self, actions: &ActionFeatures) {
        if actions.actions != 0 {
            self.put(format_args!("        actions: {}\n", action_names(actions.actions)));
        }
        if !actions.set_fields.is_empty() {
            self.put(format_args!("        supported on Set-Field:{}\n", field_names(&actions.set_fields)));
        }
    }
}

fn bit(map: &[u64; 4], n: usize) -> bool {
    map[n / 64] >> (n % 64) & 1 != 0
}

/// Whether tables can do the same. Each may go to all tables behind it: they differ in that, but not in kind.
fn equal(a: &TableFeatures, b: &TableFeatures) -> bool {
    a.metadata_match == b.metadata_match
        && a.metadata_write == b.metadata_write
        && a.miss == b.miss
        && a.supports_eviction == b.supports_eviction
        && a.supports_vacancy == b.supports_vacancy
        && a.max_entries == b.max_entries
        && a.flows.iter().zip(&b.flows).all(|(x, y)| same_set(x, a.table, y, b.table))
        && a.matchable == b.matchable
}

fn same_set(a: &TableFeatureSet, table: TableId, b: &TableFeatureSet, other: TableId) -> bool {
    let end = usize::from(table.0.max(other.0)) + 1;
    let next = (end..TABLES).all(|n| bit(&a.next, n) == bit(&b.next, n));
    next && a.instructions == b.instructions && a.write == b.write && a.apply == b.apply
}

/// Tables of a map as `1-5,7`.
fn ranges(map: &[u64; 4]) -> String {
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(start) = (at..TABLES).find(|n| bit(map, *n)) {
        let end = (start + 1..TABLES).find(|n| !bit(map, *n)).unwrap_or(TABLES);
        parts.push(if end == start + 1 { start.to_string() } else { format!("{start}-{}", end - 1) });
        at = end;
    }
    parts.join(",")
}

/// Names of fields, those with a common beginning and numbered ones drawn together: ` reg0...reg15 nw_{src,dst}`.
fn field_names(fields: &[Field]) -> String {
    let mut sorted = fields.to_vec();
    sorted.sort();
    let names: Vec<&str> = sorted.iter().map(|f| f.row().name).collect();
    let mut out = String::from(" ");
    draw_together(&mut out, &names, 0);
    out
}

fn draw_together(out: &mut String, mut names: &[&str], prefix: usize) {
    let mut first = true;
    while let Some(name) = names.first() {
        if !std::mem::take(&mut first) {
            out.push(if prefix > 0 { ',' } else { ' ' });
        }
        // There is one run of a kind at a time; if there were two, numbers would be the nicer.
        let (by_prefix, extra) = prefix_run(names, prefix);
        let by_number = number_run(names);
        let run = by_prefix.max(by_number);
        if by_number >= by_prefix {
            out.push_str(&name[prefix..]);
            if run > 1 {
                put(out, format_args!("...{}", &names[run - 1][prefix..]));
            }
        } else {
            put(out, format_args!("{}{{", &name[prefix..prefix + extra]));
            draw_together(out, &names[..run], prefix + extra);
            out.push('}');
        }
        names = &names[run..];
    }
}

/// How many of the names share a beginning that ends in `_`, and how long it is.
fn prefix_run(names: &[&str], prefix: usize) -> (usize, usize) {
    let common = |name: &str| {
        let (a, b) = (&names[0].as_bytes()[prefix..], &name.as_bytes()[prefix..]);
        let same = a.iter().zip(b).take_while(|(x, y)| x == y).count();
        a[..same].iter().rposition(|c| *c == b'_').map_or(0, |at| at + 1)
    };
    let extra = names.get(1).map_or(0, |second| common(second));
    if extra == 0 {
        return (1, 0);
    }
    let others = names[2..].iter().take_while(|name| common(name) > 0).count();
    (2 + others, extra)
}

/// How many of the names are one name with numbers that follow each other; two are no run.
fn number_run(names: &[&str]) -> usize {
    let split = |name: &str| {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        name[stem..].parse::<u32>().ok().map(|n| (name[..stem].to_owned(), n))
    };
    let follows = |pair: &[&str]| match (split(pair[0]), split(pair[1])) {
        (Some((a, n)), Some((b, m))) => a == b && m == n + 1,
        _ => false,
    };
    let run = 1 + names.windows(2).take_while(|pair| follows(pair)).count();
    if run == 2 { 1 } else { run }
}
