#!/usr/bin/env python3
"""os-ken's switch tests, from the installed package, against our daemon or Debian's.

    run.py [options] [PART...]

PART is a beginning of VERSION/KIND/FILE, as `of13/match`; without one, everything but what measures rates.
A controller sends a packet out of a tester bridge into the bridge under test, over one of three veth pairs, and sees what comes back.
Each lane has a network namespace of its own, with two daemons and a controller in it. Needs root; run by the Python that has os-ken.
Prints a line for each test that failed unexpectedly, or passed though it is listed, then how many passed and failed.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import os_ken.tests.switch

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
SUITE = os.path.dirname(os.path.realpath(os_ken.tests.switch.__file__))
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
STOCK = "/usr/sbin/ovs-vswitchd"
VERSIONS = {"of10": ("OpenFlow10", "openflow10"), "of13": ("OpenFlow13", "openflow13"), "of14": ("OpenFlow14", "openflow14")}
RATES = ("group", "meter")
LINKS = 3
CONTROLLER_PORT = 6653
SECONDS_PER_TEST_MAX = 10


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART")
    ours = os.path.join(ROOT, "target/release/ovs-vswitchd")
    parser.add_argument("--target", default=ours, help="the daemon under test: `stock` or a path")
    parser.add_argument("--tester", default=ours, help="the daemon that sends and listens: `stock` or a path")
    parser.add_argument("--lanes", type=int, default=6, help="how many at the same time")
    parser.add_argument("--miss", default="1", help="seconds to wait for a packet that must not come")
    parser.add_argument("--wait", default="3", help="seconds to wait for an answer")
    parser.add_argument("--send", default="30", help="seconds to send for where rates are measured, at most")
    parser.add_argument("--expected-fail", help="a file of tests known to fail")
    parser.add_argument("--rates", action="store_true", help="what measures rates, too")
    parser.add_argument("--fast", action="store_true", help="leave out files of which all is known to fail")
    parser.add_argument("--save", help="write every result to this file")
    return parser.parse_args()


class Test(collections.namedtuple("Test", "part title")):
    """One test: its file within the suite, without the ending, and what it says of itself; `str` is what a list of expected failures has."""

    def __str__(self):
        return f"{self.part}: {self.title}"


def load(path):
    """A JSON file as the tests are to see it: named by its path, for some of them share a name."""
    with open(path, encoding="utf-8") as file:
        _, *tests = json.load(file)
    return [os.path.splitext(os.path.relpath(path, SUITE))[0], *tests]


def tests_of(path):
    """The tests of one JSON file."""
    part, *tests = load(path)
    return [Test(part, test["description"]) for test in tests]


def files(options):
    """(version, path) of each file chosen, in a fixed order."""
    for version in VERSIONS:
        for folder, _, names in sorted(os.walk(os.path.join(SUITE, version))):
            for name in sorted(names):
                path = os.path.join(folder, name)
                part = os.path.relpath(path, SUITE)
                if not name.endswith(".json"):
                    continue
                if options.parts and not any(part.startswith(p) for p in options.parts):
                    continue
                if part.split(os.sep)[1] in RATES and not options.rates:
                    continue
                yield version, path


class Lane:
    """A namespace with the bridge under test, the tester's bridge, three links between them and a controller."""

    def __init__(self, number, options):
        self.options = options
        self.namespace = f"osken-{os.getpid()}-{number}"
        self.folder = tempfile.mkdtemp(prefix="osken.")
        self.daemons = []

    def run(self, *words, environment=None):
        command = ["ip", "netns", "exec", self.namespace, *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=self.folder, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr}{done.stdout}")
        return done.stdout

    def daemon(self, name, program, dpid, version):
        """Starts a daemon in a folder of its own, with one bridge whose ports are its ends of the links."""
        folder = os.path.join(self.folder, name)
        os.mkdir(folder)
        environment = dict(os.environ, **{f"OVS_{v}": folder for v in ("RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR")})
        common = ["--detach", "--no-chdir", "--pidfile", "--log-file", "-vconsole:off"]
        if program == "stock":
            database = os.path.join(folder, "conf.db")
            self.run("ovsdb-tool", "create", database, SCHEMA, environment=environment)
            self.run("ovsdb-server", *common, f"--remote=punix:{folder}/db.sock", database, environment=environment)
            self.run("ovs-vsctl", "--no-wait", "init", environment=environment)
            self.run(STOCK, *common, f"unix:{folder}/db.sock", environment=environment)
        else:
            self.run(os.path.realpath(program), *common, "--embedded-db", environment=environment)
        words = ["ovs-vsctl", "--timeout=20", "add-br", name, "--", "set", "bridge", name, "datapath_type=netdev", "fail_mode=secure"]
        words += [f"protocols={version}", f"other_config:datapath-id={dpid:016x}", "--", "set-controller", name]
        words += [f"tcp:127.0.0.1:{CONTROLLER_PORT}", "--", "set", "controller", name, "max_backoff=1000"]
        for n in range(1, LINKS + 1):
            words += ["--", "add-port", name, f"{name}{n}", "--", "set", "interface", f"{name}{n}", f"ofport_request={n}"]
        self.run(*words, environment=environment)

    def start(self, version):
        subprocess.run(["ip", "netns", "add", self.namespace], check=True)
        self.run("ip", "link", "set", "lo", "up")
        # Nothing but the tests' packets is to be on the links.
        self.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        for n in range(1, LINKS + 1):
            self.run("ip", "link", "add", f"dut{n}", "type", "veth", "peer", "name", f"tester{n}")
            for end in (f"dut{n}", f"tester{n}"):
                self.run("ip", "link", "set", end, "up")
        self.daemon("dut", self.options.target, 1, version)
        self.daemon("tester", self.options.tester, 2, version)

    def stop(self):
        for name in ("dut", "tester"):
            for program in ("ovs-vswitchd", "ovsdb-server"):
                try:
                    with open(os.path.join(self.folder, name, f"{program}.pid"), encoding="ascii") as file:
                        os.kill(int(file.read()), signal.SIGKILL)
                except (OSError, ValueError):
                    pass
        subprocess.run(["ip", "netns", "del", self.namespace], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def tests(self, version, paths):
        """Runs files; {Test: "" or what went wrong}."""
        folder = os.path.join(self.folder, "tests")
        os.mkdir(folder)
        for n, path in enumerate(paths):
            with open(os.path.join(folder, f"{n}.json"), "w", encoding="utf-8") as file:
                json.dump(load(path), file)
        count = sum(len(tests_of(path)) for path in paths)
        options = self.options
        environment = dict(
            os.environ, OSKEN_MISS_SECONDS=options.miss, OSKEN_WAIT_SECONDS=options.wait, OSKEN_SEND_SECONDS=options.send
        )
        words = [os.path.join(os.path.dirname(sys.executable), "osken-manager"), os.path.join(HERE, "app.py")]
        words += ["--ofp-listen-host=127.0.0.1", f"--ofp-tcp-listen-port={CONTROLLER_PORT}", f"--test-switch-dir={folder}"]
        words += [f"--test-switch-{side}-version={VERSIONS[version][1]}" for side in ("target", "tester")]
        limit = 30 + count * (SECONDS_PER_TEST_MAX + (float(options.send) if options.rates else 0))
        command = ["ip", "netns", "exec", self.namespace, "timeout", "-k", "5", str(limit), *words]
        done = subprocess.run(command, env=environment, cwd=self.folder, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return read(done.stdout)


def read(text):
    """What the tests said: a line of the file, then for each test its title and OK or ERROR, and the reason."""
    results, part, last = {}, None, None
    for line in text.splitlines():
        if line.startswith("--- Test report"):
            break
        if match := re.fullmatch(r" {4}(\S.*?) +(OK|ERROR)", line):
            last = Test(part, match[1])
            results[last] = "" if match[2] == "OK" else "?"
        elif line.startswith(" " * 8) and last:
            results[last] = line.strip() if results[last] == "?" else results[last]
        elif re.fullmatch(r"of1\d/\S+", line):
            part = line
    if not results:
        print(text, file=sys.stderr)
    return results


class Known:
    """A list of tests known to fail: beginnings of what a test is called, `*` standing for anything."""

    def __init__(self, path):
        self.rows = []
        if path:
            with open(path, encoding="utf-8") as file:
                lines = [line.strip() for line in file]
            for line in (line for line in lines if line and not line.startswith("#")):
                self.rows.append(re.compile(".*".join(map(re.escape, line.split("*")))))

    def says(self, test):
        """Whether it is known to fail."""
        return any(pattern.match(str(test)) for pattern in self.rows)


def parcels(options, listed):
    """The files in parcels of one version each, as many as there are lanes for each version; the long and the short mixed."""
    by_version = collections.defaultdict(list)
    for version, path in files(options):
        # A file of which nothing is expected need not be sent in the fast run.
        if not options.fast or not all(listed.says(test) for test in tests_of(path)):
            by_version[version].append(path)
    for version, paths in by_version.items():
        parts = min(options.lanes, len(paths))
        for n in range(parts):
            yield version, paths[n::parts]


def judge(wanted, results, listed):
    """Prints what is not as it should be; gives counts and a line per test."""
    count, lines = collections.Counter(), []
    for test in dict.fromkeys(wanted):
        reason, known = results.get(test, "did not run"), listed.says(test)
        lines.append(f"{'ok' if not reason else 'FAILED'}\t{test}\t{reason}\n")
        if known and reason:
            count["expected"] += 1
        elif not known and not reason:
            count["passed"] += 1
        else:
            count["failed"] += 1
            print(f"FAILED {test}: {reason}" if reason else f"passed though it is listed: {test}")
    return count, lines


def main():
    options = arguments()
    listed = Known(options.expected_fail)

    def work(job):
        number, (version, paths) = job
        lane = Lane(number, options)
        try:
            lane.start(VERSIONS[version][0])
            return lane.tests(version, paths)
        finally:
            lane.stop()

    jobs = list(enumerate(parcels(options, listed)))
    wanted = [test for _, (_, paths) in jobs for path in paths for test in tests_of(path)]
    results = {}
    with concurrent.futures.ThreadPoolExecutor(options.lanes) as pool:
        for result in pool.map(work, jobs):
            results.update(result)
    count, lines = judge(wanted, results, listed)
    if options.save:
        with open(options.save, "w", encoding="utf-8") as file:
            file.writelines(lines)
    print(f"{count['passed']} passed, {count['failed']} failed, {count['expected']} expected failures")
    sys.exit(1 if count["failed"] else 0)


if __name__ == "__main__":
    main()
