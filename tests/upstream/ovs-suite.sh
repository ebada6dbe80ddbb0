#!/bin/bash
# ovs-suite.sh - run Open vSwitch 3.1.0's own test suites (Debian's packages of it)
# against a given ovs-vswitchd.
#
#   ovs-suite.sh [options] DAEMON SELECTOR...
#   ovs-suite.sh --setup        packages, Python environment, source and build; idempotent
#
#   DAEMON    "stock" or the path of a replacement ovs-vswitchd executable
#   SELECTOR  file.at        every test of that .at file
#             N | N-M        test numbers
#             kw:WORD        tests whose title or keywords hold WORD
#             vswitchd       every test that starts ovs-vswitchd
#             all            everything
#             FILE.at:TITLE  the tests of that file with that title
#             @FILE          a file of selectors, one per line (# comments)
#             -SELECTOR      take these away again (not as the first selector)
# options
#   -s unit|system  which suite (default unit); system = check-system-userspace, needs root
#   -j N       unit: autotest -jN; system: N shards in separate namespaces (default 2)
#   -t SEC     OVS_CTL_TIMEOUT for the run (default 30, as upstream)
#   -T SEC     wall limit for the whole run
#   -w DIR     work folder: source, build, runs
#              (default $FERRULE_OVS_SUITE, else ${XDG_CACHE_HOME:-$HOME/.cache}/ferrule-ovs-suite)
#   -o DIR     where the run's files go (default <work folder>/runs/<pid>)
#   -b DIR     extra folder put first on the suite's PATH (other replaced tools:
#              ovs-appctl, ovs-ofctl, ovsdb-server, ...)
#   -l         only list what would be run
#   -f         also print one line per test that failed unexpectedly
#   -n         do not make private net/mount/pid namespaces (needs no root; unit suite only)
#   --rmem N   show the tests net.core.rmem_max = N (212992 lets 7 tests run that skip above 1 MiB)
#   --expected-fail FILE   tests that are known to fail, one per line: a number, or
#              "file.at:title"; # begins a comment. A listed test that fails does not fail the run;
#              one that passes is printed as "unexpected pass" and fails it, so the list only shrinks.
# Output: one line per .at file, then the number of expected failures, then
#   N passed, N failed, N skipped
# where failed counts unexpected failures, tests that did not run, and unexpected passes.
# Exit 0 if that is nought, 1 if not, 2 if the suite could not be run.
set -u
PROG=$(readlink -f "$0")
WORK=${FERRULE_OVS_SUITE:-${XDG_CACHE_HOME:-$HOME/.cache}/ferrule-ovs-suite}
SUITE=unit J=2 TMO=30 LIM= OUT= BDIR= LIST= FAILS= NS=1 XFAIL= RMEM= SETUP=
die() { echo "ovs-suite: $*" >&2; exit 2; }
usage() { sed -n '2,/^set -u/{/^set -u/d;s/^# \{0,1\}//;p}' "$PROG"; exit 2; }
while [ $# -gt 0 ]; do case $1 in
 --setup) SETUP=1; shift;;
 --expected-fail|--rmem|-[sjtTwob])
    [ $# -ge 2 ] || die "$1 needs a value"
    case $1 in --expected-fail) XFAIL=$2;; --rmem) RMEM=$2;; -s) SUITE=$2;; -j) J=$2;; -t) TMO=$2;;
     -T) LIM=$2;; -w) WORK=$2;; -o) OUT=$2;; -b) BDIR=$2;; esac; shift 2;;
 -l) LIST=1; shift;; -f) FAILS=1; shift;; -n) NS=; shift;;
 --) shift; break;;
 -*) usage;;
 *) break;;
esac; done
[ -n "$SETUP" ] || [ $# -ge 2 ] || usage
case $SUITE in unit) TS=testsuite;; system) TS=system-userspace-testsuite;; *) die "-s unit|system";; esac
[ -z "$XFAIL" ] || [ -r "$XFAIL" ] || die "cannot read $XFAIL"
mkdir -p "$WORK" && WORK=$(readlink -f "$WORK") || die "no work folder"
SRC=$WORK/openvswitch BUILD=$WORK/build VERSION=3.1.0
PY=${PYTHON3:-$WORK/venv/bin/python3}

# What building needs, and what the tests call (a missing program makes tests skip).
PACKAGES="build-essential pkg-config libssl-dev libcap-ng-dev libunbound-dev openssl python3 python3-venv python3-dev bc
 procps iproute2 ethtool tcpdump netcat-openbsd curl wget lftp conntrack iptables nftables iputils-ping iputils-arping"
PIP="pyftpdlib<2 tftpy pyparsing netaddr scapy pytest sortedcontainers setuptools<80"

packages() {
    local p missing=
    for p in $PACKAGES; do
        dpkg-query -W -f '${Status}' $p 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
    done
    [ -n "$missing" ] || return 0
    [ "$(id -u)" = 0 ] || die "these packages are missing:$missing"
    { apt-get update; DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $missing; } \
        >"$WORK/apt.log" 2>&1 || die "could not install$missing; see $WORK/apt.log"
}
python_env() {
    [ -n "${PYTHON3:-}" ] || [ -e "$WORK/venv/.complete" ] && return
    rm -rf "$WORK/venv"; python3 -m venv "$WORK/venv" || die "no Python environment"
    # shellcheck disable=SC2086
    "$WORK/venv/bin/pip" install -q $PIP >"$WORK/pip.log" 2>&1 || die "pip, see $WORK/pip.log"
    touch "$WORK/venv/.complete"
}
source_tree() { # the package openvswitch-source: the whole tree, with the generated testsuites
    [ -e "$SRC/.complete" ] && return
    local dl=$WORK/dl; rm -rf "$dl" "$SRC"; mkdir -p "$dl" && cd "$dl" || die "no $dl"
    apt-get download openvswitch-source >apt.log 2>&1 || die "no package openvswitch-source, see $dl/apt.log"
    local v; v=$(dpkg-deb -f openvswitch-source_*.deb Version)
    case $v in $VERSION-*) ;; *) die "openvswitch-source is $v here; these suites are of $VERSION (Debian 12)";; esac
    dpkg-deb -x openvswitch-source_*.deb x && tar xzf x/usr/src/openvswitch/openvswitch.tar.gz -C "$WORK" || die "cannot unpack"
    [ -e "$SRC/configure" ] && [ -e "$SRC/tests/testsuite" ] || die "the package lacks configure or tests/testsuite"
    rm -rf "$dl/x"; touch "$SRC/.complete"
}
build() {
    [ -e "$BUILD/.complete" ] && return
    mkdir -p "$BUILD" && cd "$BUILD" || die "no $BUILD"
    [ -e Makefile ] || nice -n 10 "$SRC/configure" PYTHON3="$PY" CFLAGS='-g -O2' --disable-afxdp >configure.out 2>&1 \
        || die "configure, see $BUILD/configure.out"
    # "check --list" builds what the tests need without running one
    { nice -n 10 make -j"$(nproc)" && nice -n 10 make -j"$(nproc)" check TESTSUITEFLAGS=--list; } >make.out 2>&1 \
        || die "make, see $BUILD/make.out"
    touch .complete
}
HERE=$PWD
exec 9>"$WORK/.lock"; flock 9 || die "no lock"
packages; python_env; source_tree; build
exec 9>&-; cd "$HERE" || exit 2
[ -z "$SETUP" ] || { echo "ready: $WORK"; exit 0; }

[ "$SUITE" = unit ] || { [ "$(id -u)" = 0 ] && [ -n "$NS" ]; } || die "the system suite needs root and namespaces"
[ -z "$NS" ] || [ "$(id -u)" = 0 ] || die "namespaces need root; -n runs the unit suite without"
[ -e "$SRC/tests/$TS" ] || die "no $SRC/tests/$TS"
DAEMON=$1; shift
[ -n "$OUT" ] || OUT=$WORK/runs/$$
mkdir -p "$OUT/bin" || die "no $OUT"; OUT=$(readlink -f "$OUT")
case $DAEMON in
 stock) REAL=$BUILD/vswitchd/ovs-vswitchd;;
 *) REAL=$(readlink -f "$DAEMON") && [ -x "$REAL" ] || die "$DAEMON is not executable";;
esac
# argv[0] must stay "ovs-vswitchd": default pidfile, log and socket names follow it
printf '#!/bin/bash\nexec -a ovs-vswitchd %q "$@"\n' "$REAL" >"$OUT/bin/ovs-vswitchd"; chmod +x "$OUT/bin/ovs-vswitchd"
rm -f "$OUT/expected"; [ -z "$XFAIL" ] || cp "$XFAIL" "$OUT/expected" || die "cannot copy $XFAIL"

# Which tests: the generated suite is read, not run.
"$PY" - "$SRC/tests/$TS" "$OUT" "$J" "$SUITE" "$@" <<'PY' || exit 2
import os, re, sys
ts, out, j, suite, *selectors = sys.argv[1:]
lines = open(ts, errors='replace').readlines()
titles = {}
for l in lines:
    m = re.match(r'(?:at_help_all=.)?(\d+);([^;]+):(\d+);([^;]*);(.*)$', l)
    if m: titles[int(m[1])] = (m[4].strip(), m[5].rstrip("';\n"))
if not titles: sys.exit('ovs-suite: no test list in ' + ts)
# An executed line that starts the daemon; not one that talks to it.
starts = re.compile(r'(^|\s|;|\()(start_daemon\s+)?ovs-vswitchd\s+(-|unix:|tcp:|\$)|\bsim_add\b')
talks = re.compile(r'ovs-appctl|--target')
groups, number, body = [], None, []
for l in lines:
    if m := re.match(r'#AT_START_(\d+)$', l): number, body = int(m[1]), []
    elif re.match(r'#AT_STOP_\d+$', l) and number:
        code = [x for x in body if not x.startswith('printf') and 'at_fn_check_prepare' not in x]
        daemon = any(starts.search(x) and not talks.search(x) for x in code)
        file = re.search(r"at_fn_group_banner \d+ '([^':]+):(\d+)'", ''.join(body))[1]
        groups.append((number, file, daemon)); number = None
    elif number: body.append(l)
numbers = {g[0] for g in groups}
def listed(path):
    for l in open(path):
        l = l.split('#')[0].strip()
        if l: yield l
title = lambda n: titles.get(n, ('',))[0]
def pick(s):
    if s.startswith('@'): return set().union(*map(pick, listed(s[1:])))
    if s == 'all': return numbers
    if s == 'vswitchd': return {g[0] for g in groups if g[2]}
    if s.startswith('kw:'):
        w = s[3:].lower()
        return {n for n, (t, k) in titles.items() if w in t.lower() or w in k.lower().split()}
    if m := re.fullmatch(r'(\d+)(?:-(\d+))?', s): return set(range(int(m[1]), int(m[2] or m[1]) + 1)) & numbers
    named = {n for n, file, _ in groups if f'{file}:{title(n)}' == s}
    return named or {g[0] for g in groups if g[1] == s} or sys.exit('ovs-suite: nothing matches ' + s)
chosen = set()
for s in selectors:
    if s.startswith('-'): chosen -= pick(s[1:])
    else: chosen |= pick(s)
chosen = sorted(chosen)
if not chosen: sys.exit('ovs-suite: nothing selected')
with open(out + '/map', 'w') as f:
    for n, file, daemon in groups: f.write(f'{n}\t{file}\t{int(daemon)}\t{title(n)}\n')
open(out + '/sel', 'w').write('\n'.join(map(str, chosen)) + '\n')
k = max(1, min(int(j), len(chosen))) if suite == 'system' else 1
for i in range(k): open(f'{out}/shard{i}', 'w').write(' '.join(map(str, chosen[i::k])) + '\n')
# Which of them are known to fail; a line that names no test is an error, so that the list cannot rot.
if os.path.exists(out + '/expected'):
    known = set()
    for l in open(out + '/expected'):
        l = l.strip()
        if not l or l.startswith('#'): continue
        if m := re.match(r'(\d+)\s*(#.*)?$', l): hit = {int(m[1])} & numbers
        else:
            hit = {n for n, file, _ in groups if f'{file}:{title(n)}' == l}
            if not hit:
                l = re.sub(r'\s+#.*', '', l)
                hit = {n for n, file, _ in groups if f'{file}:{title(n)}' == l}
        if not hit: sys.exit(f'ovs-suite: the list of expected failures names no test: {l}')
        known |= hit
    open(out + '/known', 'w').write(''.join(f'{n}\n' for n in sorted(known)))
PY
if [ -n "$LIST" ]; then awk -F'\t' 'NR==FNR{s[$1]=1;next} s[$1]{print $1"\t"$2"\t"$4}' "$OUT/sel" "$OUT/map"; exit 0; fi

shard() { # I
    local d=$OUT/t$1 jj=$J; mkdir -p "$d"; [ "$SUITE" = system ] && jj=1
    sed -e "s,^at_srcdir=.*,at_srcdir='$SRC/tests'," -e "s,^abs_srcdir=.*,abs_srcdir='$SRC/tests'," \
        -e "s,^at_top_srcdir=.*,at_top_srcdir='$SRC'," -e "s,^abs_top_srcdir=.*,abs_top_srcdir='$SRC'," \
        -e "s,^at_top_build_prefix=.*,at_top_build_prefix='$BUILD/'," "$BUILD/tests/atconfig" >"$d/atconfig"
    sed -e "s,^OVS_CTL_TIMEOUT=.*,OVS_CTL_TIMEOUT=$TMO," "$BUILD/tests/atlocal" >"$d/atlocal"
    local x P=; for x in utilities vswitchd ovsdb vtep tests ipsec; do P=$P:$BUILD/$x:$SRC/$x; done
    cat >"$d/go" <<G
ulimit -c 0
export TMPDIR=/tmp
/bin/bash $SRC/tests/$TS -C $d AUTOTEST_PATH=${BDIR:+$BDIR:}$OUT/bin$P -j$jj $(cat "$OUT/shard$1")
G
    local go=(/bin/bash "$d/go")
    if [ -n "$NS" ]; then
        go=(unshare --net --mount --pid --fork --kill-child --propagation private /bin/bash -c '
            mkdir -p /run/netns; mount -t tmpfs tmpfs /run/netns; mount -t proc proc /proc
            umount -l /sys 2>/dev/null; mount -t sysfs sysfs /sys; ip link set lo up
            [ -z "$2" ] || { echo "$2" >"$1/rmem"; mount --bind "$1/rmem" /proc/sys/net/core/rmem_max; }
            /bin/bash "$1/go"; exit $?' shard "$d" "$RMEM")
    fi
    ${LIM:+timeout -k 5 $LIM} nice -n 10 "${go[@]}" >"$d/out" 2>&1 </dev/null
}
T0=$(date +%s); pids=
for f in "$OUT"/shard*; do shard "${f##*shard}" & pids="$pids $!"; done
wait $pids
T1=$(date +%s)
"$PY" - "$OUT" $((T1-T0)) "$FAILS" <<'PY'
import collections, glob, os, re, sys
out, seconds, show = sys.argv[1:]
tests = {}
for l in open(out + '/map'):
    n, file, _, title = l.rstrip('\n').split('\t', 3)
    tests[int(n)] = (file, title)
chosen = [int(x) for x in open(out + '/sel')]
known = {int(x) for x in open(out + '/known')} if os.path.exists(out + '/known') else set()
said, where = {}, {}
for d in glob.glob(out + '/t*/out'):
    for l in open(d, errors='replace'):
        m = re.search(r'^\s*(\d+): .*?\s(ok|FAILED|skipped|expected failure|UNEXPECTED PASS)(?: \(([^)]*)\))?\s*$', l)
        if m: said[int(m[1])], where[int(m[1])] = m[2], m[3] or ''
def verdict(n):
    s = said.get(n)
    if s is None: return 'notrun'
    if s == 'skipped': return 'skipped'
    good = s in ('ok', 'expected failure')
    if n in known: return 'unexpected' if good else 'expected'
    return 'passed' if good else 'failed'
result = {n: verdict(n) for n in chosen}
files = collections.OrderedDict()
for n in chosen: files.setdefault(tests[n][0], collections.Counter())[result[n]] += 1
columns = ('passed', 'failed', 'expected', 'unexpected', 'skipped', 'notrun')
print(f"{'file':34}" + ''.join(f'{c:>11}' for c in columns) + f"{'total':>7}")
for f, c in files.items(): print(f'{f:34}' + ''.join(f'{c[k]:11}' for k in columns) + f'{sum(c.values()):7}')
with open(out + '/results', 'w') as f:
    for n in chosen: f.write(f"{n}\t{tests[n][0]}\t{said.get(n, 'not run')}\t{where.get(n, '')}\t{tests[n][1]}\n")
for n in chosen:
    name = f'{n} {tests[n][0]}:{tests[n][1]}'
    if result[n] == 'unexpected': print('unexpected pass', name)
    elif show and result[n] == 'failed': print('FAIL', name, where.get(n, ''))
    elif show and result[n] == 'notrun': print('NOT RUN', name)
total = collections.Counter(result.values())
failed = total['failed'] + total['unexpected'] + total['notrun']
print(f'run folder {out}; {seconds} s')
print(f"{total['expected']} expected failures")
print(f"{total['passed']} passed, {failed} failed, {total['skipped']} skipped")
sys.exit(1 if failed else 0)
PY
