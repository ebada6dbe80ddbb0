#!/bin/bash
# Fuzzes the decoders with libFuzzer on stable Rust, from the corpus and the crashes of the repository.
#   run.sh check [TARGET...]         a fixed number of runs from a fixed seed: the same in every run of the gate
#   run.sh [SECONDS [TARGET...]]     looks for what is new, SECONDS for each target (default 20); targets: openflow oxm text extract
#                                    jsonrpc journal
#   run.sh grow SECONDS TARGET       adds what reaches new code to the corpus
# corpus/TARGET.txt has one input a line: hexadecimal, for `text` and `jsonrpc` the text itself. A crash is written to crashes/TARGET/ and stays
# there: each run begins with them.
set -euo pipefail
here=$(readlink -f "$(dirname "$0")")
cd "$here"
grow=
if [ "${1:-}" = grow ]; then grow=1; shift; fi
if [ "${1:-}" = check ]; then
    amount="200000 runs"; limit=(-runs=200000 -seed=1 -max_total_time=120)
else
    amount="${1:-20} s"; limit=(-max_total_time="${1:-20}")
fi
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(openflow oxm text extract jsonrpc journal)

out=${FERRULE_FUZZ_TARGET:-$here/../../target/fuzz}
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1 --cfg=fuzzing"
cargo build --release --locked -q --target x86_64-unknown-linux-gnu --target-dir "$out"

work=$(mktemp -d -t ferrule-fuzz.XXXXXX)
trap 'rm -rf "$work"' EXIT
for target in "${targets[@]}"; do
    binary=$out/x86_64-unknown-linux-gnu/release/$target
    seeds=$work/$target.seeds
    found=$work/$target.found
    mkdir -p "$seeds" "$found" "crashes/$target"
    python3 - "$target" "corpus/$target.txt" "$seeds" <<'PY'
import sys
target, corpus, seeds = sys.argv[1:]
for n, line in enumerate(open(corpus, encoding="utf-8")):
    line = line.rstrip("\n")
    data = line.encode() if target in ("text", "jsonrpc") else bytes.fromhex(line)
    open(f"{seeds}/{n:05}", "wb").write(data)
PY
    echo "fuzz: $target, $(ls "$seeds" | wc -l) seeds, $(ls "crashes/$target" | wc -l) crashes of old, $amount"
    for crash in "crashes/$target"/*; do
        [ ! -f "$crash" ] || "$binary" -timeout=10 "$crash" >"$work/log" 2>&1 || { tail -30 "$work/log"; echo "fuzz: $crash again"; exit 1; }
    done
    if ! "$binary" "${limit[@]}" -timeout=10 -rss_limit_mb=2048 -max_len=2048 -print_final_stats=1 \
        -artifact_prefix="crashes/$target/" "$found" "$seeds" >"$work/log" 2>&1; then
        tail -40 "$work/log"
        echo "fuzz: $target failed; the input is in tests/fuzz/crashes/$target"
        exit 1
    fi
    grep -E 'stat::(number_of_executed_units|new_units_added)' "$work/log" || true
    if [ -n "$grow" ]; then
        mkdir -p "$work/merged"
        "$binary" -merge=1 -max_len=2048 "$work/merged" "$seeds" "$found" >"$work/log" 2>&1
        python3 - "$target" "$work/merged" "corpus/$target.txt" <<'PY'
import os, sys
target, merged, corpus = sys.argv[1:]
lines = set()
for name in os.listdir(merged):
    data = open(f"{merged}/{name}", "rb").read()
    if target not in ("text", "jsonrpc"):
        lines.add(data.hex())
        continue
    try:
        text = data.decode()
    except UnicodeDecodeError:
        continue
    if text and "\n" not in text and "\r" not in text and text.isprintable():
        lines.add(text)
with open(corpus, "w", encoding="utf-8") as out:
    out.writelines(line + "\n" for line in sorted(lines, key=lambda l: (len(l), l)))
PY
        rm -rf "$work/merged"
    fi
done
