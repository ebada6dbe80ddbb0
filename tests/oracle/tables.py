#!/usr/bin/env python3
"""Random flow tables in Debian's ovs-vswitchd and in ours, random packets through both, random changes of messages to both; what differs.

    tables.py OUR-OVS-VSWITCHD [--seed N] [--count N] [--only traces|packets|messages] [--all]

A seed is a case: it says everything that happens in it, so that `--seed N --count 1` shows again what seed N has shown. A difference is
made smaller before it is shown: flows, then actions and matches are left out as long as it is the same; a difference that has been seen
before in the same run is only counted, unless --all. The exit status says whether there was one, or a daemon that ended or did not answer.

Compared are the errors of every message, the whole text of a trace but for the megaflow, the bytes that leave each port, what is learned
and the counters of flows and groups. Masks of megaflows are not: narrower ones are ours by decision.
Neighbours: generate.py makes tables and packets, openflow.py speaks to the switches, xlate.py starts them.
"""
import argparse
import difflib
import json
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import generate as g
import openflow as of
import xlate

NAMES = list(of.VERSIONS)
DELETE = [of.header(4, 14, struct.pack("!QQBBHHHIIIHHHHI", 0, 0, 255, 3, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0, 1, 4, 0)),
          of.header(4, 15, struct.pack("!HBBI", 2, 0, 0, 0xFFFFFFFC)), of.header(4, 29, struct.pack("!HHI", 2, 0, 0xFFFFFFFF))]
TLV = "{class=0xffff,type=0,len=4}->tun_metadata0,{class=0xffff,type=1,len=8}->tun_metadata1"
PATIENCE_S = 3
# netdev-dummy/receive answers before the packet has been forwarded: nothing new for this long is rest.
QUIET_S = 0.1
# Of the log of a daemon that has ended.
LAST_LINES = 20


class Side(xlate.Switch):
    """A switch with open connections to its control socket and its bridge."""

    def __init__(self, daemon, folder):
        super().__init__(daemon, folder)
        self.control = None
        self.connections = {}
        # Ports whose packets are looked at.
        self.dummies = list(g.PORTS + g.OTHER)
        # Questions and valid messages that got no answer: what follows compares nothing.
        self.unanswered = 0

    def ask(self, method, *params):
        if self.control is None:
            self.control = socket.socket(socket.AF_UNIX)
            self.control.settimeout(30)
            self.control.connect(self.folder + "/switch.ctl")
        try:
            self.control.sendall(json.dumps({"id": 0, "method": method, "params": list(params)}).encode())
            text, decoder = "", json.JSONDecoder()
            while True:
                more = self.control.recv(1 << 20)
                if not more:
                    raise ConnectionError
                text += more.decode("utf-8", "replace")
                try:
                    reply, _ = decoder.raw_decode(text)
                    break
                except ValueError:
                    continue
        except OSError:
            self.control = None
            self.unanswered += 1
            return "NO ANSWER"
        said = reply["result"] if reply["error"] is None else "error: " + reply["error"]
        return (said or "").replace(self.folder, "")

    def tell(self, version, message, bridge="br0"):
        """The replies to a valid message."""
        replies = self.connection(version, bridge).send(message)
        self.unanswered += None in replies
        return replies

    def connection(self, version, bridge="br0"):
        held = self.connections.get((bridge, version))
        if held is None or not held.alive:
            if held:
                held.close()
            held = self.connections[bridge, version] = of.Connection(self.folder + "/" + bridge + ".mgmt", version)
            if version == 1:
                for kind, body in ((15, struct.pack("!B7x", 1)), (12, struct.pack("!I", 2))):
                    held.send(of.header(1, of.EXPERIMENTER, struct.pack("!II", 0x2320, kind) + body))
        return held

    def forget_old(self):
        for key in [key for key in self.connections if key[1] < 4]:
            self.connections.pop(key).finish()

    def build(self, commands):
        """Bridges and ports anew."""
        for held in self.connections.values():
            held.close()
        self.connections = {}
        vsctl = ["ovs-vsctl", "--db=unix:" + self.folder + "/db.sock", "--timeout=20"]
        self.reset()
        self.run(vsctl + ["remove", "open_vswitch", ".", "other_config", "vlan-limit"])
        ports = ["add-br", "br1", "--", "set", "bridge", "br1", "datapath_type=dummy", "fail-mode=secure"]
        for bridge, numbers in (("br0", g.PORTS), ("br1", g.OTHER)):
            for n in numbers:
                pcap = self.pcap(n)
                if os.path.exists(pcap):
                    os.unlink(pcap)
                ports += ["--", "add-port", bridge, "p%d" % n, "--", "set", "interface", "p%d" % n, "type=dummy", "ofport_request=%d" % n,
                          "options:tx_pcap=" + pcap]
        for bridge, name, peer, n in (("br0", "patch0", "patch1", g.PATCH), ("br1", "patch1", "patch0", g.PEER)):
            ports += ["--", "add-port", bridge, name, "--", "set", "interface", name, "type=patch", "options:peer=" + peer, "ofport_request=%d" % n]
        said = self.run(vsctl + ports)
        for command in commands:
            said += self.run(vsctl + command.split())
        said += self.run(["ovs-ofctl", "add-tlv-map", "br0", TLV])
        self.run(["ovs-ofctl", "add-flow", "br1", "actions=NORMAL"])
        for n in g.PORTS + g.OTHER:
            self.ask("netdev-dummy/set-admin-state", "p%d" % n, "up")
        return said

    def has_ended(self, patience_s):
        try:
            self.switch.wait(patience_s)
            return True
        except subprocess.TimeoutExpired:
            return False

    def last_words(self):
        """How the daemon has ended, and the last lines of its log and of what it said on standard error."""
        out = ["%s: exit status %s" % (self.folder, self.switch.returncode)]
        for name in ("ovs-vswitchd.log", "stderr"):
            try:
                out += open(self.folder + "/" + name, errors="replace").read().splitlines()[-LAST_LINES:]
            except FileNotFoundError:
                pass
        return "\n".join(out)

    def pcap(self, n):
        return self.folder + "/p%d.pcap" % n

    def left(self):
        """What has left each port so far: {port: [packets]}."""
        out = {}
        for n in self.dummies:
            try:
                data = open(self.pcap(n), "rb").read()[24:]
            except FileNotFoundError:
                data = b""
            packets = []
            while len(data) >= 16:
                length = struct.unpack("<I", data[8:12])[0]
                packets.append(data[16:16 + length])
                data = data[16 + length:]
            out[n] = packets
        return out


def normal(text):
    """A trace without what is known to differ and to mean nothing."""
    text = xlate.normal(text)
    text = re.sub(r"^Megaflow: .*\n", "", text, flags=re.M)
    text = re.sub(r"(bucket \d+:.*) score \d+", r"\1 score X", text)
    # 3.1 does not tell a group that waits for a hash from one without a bucket.
    text = text.replace("-> selection method in use: dp_hash, recirculating", "-> no live bucket")
    # A field of ours (decision 0098).
    text = re.sub(r",?ipv6_exthdr=[^, \n]*", "", text)
    # A tunnel option that is set whole.
    text = re.sub(r"/0xf{8}(f{8})?(->tun_metadata)", r"\2", text)
    text = re.sub(r"/0x(3|7|f{5,6})(->(mpls_tc|nw_ecn|ip_ecn|mpls_label|ipv6_label|nsh_spi))", r"\2", text)
    # What a packet is to be continued by has a number of its own or not.
    text = re.sub(r"(controller\([^)]*recirc_id=)R\d+", r"\1R", text)
    if re.search(r"\b(FLOOD|ALL|flood|all|flooding|unregistered)\b", text) or re.search(r"Datapath actions: .*push_vlan\([^)]*vid=99", text):
        text = any_order(text)
    return text


def any_order(text):
    """A trace in which a packet goes to several ports in an order that is chance: its lines, and the words of what the datapath does, sorted."""
    def words(match):
        # A tag that was popped for one port is pushed again, equal, for the next.
        told = re.sub(r"pop_vlan|push_vlan\([^)]*\)", "", match.group(2))
        return match.group(1) + " ".join(sorted(re.findall(r"[^ ,()]+", told)))
    text = re.sub(r"^(Datapath actions: )(.*)$", words, text, flags=re.M)
    return "\n".join(sorted(line.strip() for line in text.splitlines())) + "\n"


class Pair:
    def __init__(self, daemon, side=Side):
        self.root = tempfile.mkdtemp(prefix="tables-")
        self.pool = ThreadPoolExecutor(2)
        self.recorder = of.Recorder()
        self.sides = [side("/usr/sbin/ovs-vswitchd", self.root + "/theirs"), side(daemon, self.root + "/ours")]

    def both(self, do):
        return list(self.pool.map(do, self.sides))

    def clear(self, bridge="br0"):
        def do(side):
            for message in DELETE:
                side.tell(4, message, bridge)
        self.both(do)

    def messages(self, case):
        """What is to be sent for groups, meters and flows: [(text, version, message)]."""
        out = []
        for verb, version, lines in (("add-meter", "OpenFlow13", case["meters"]), ("add-groups", "OpenFlow15", case["groups"]), ("add-flows", case["version"], case["flows"])):
            made = self.recorder.messages(version, verb, lines)
            out += [(line, of.VERSIONS[version], made[line]) for line in lines if made[line]]
        return out

    def load(self, case):
        """Sends the tables: where the replies differ, and how many messages both took."""
        self.clear()
        sent = self.messages(case)

        def do(side):
            out = []
            for _, version, message in sent:
                out.append([of.told(reply) for reply in side.tell(version, message)])
            # To a connection before 1.3 OVS sends table misses though it does not ask for any: none is left.
            side.forget_old()
            return out
        theirs, ours = self.both(do)
        return [(text, a, b) for (text, _, _), a, b in zip(sent, theirs, ours) if a != b], sum(a == b == [] for a, b in zip(theirs, ours))

    def dump(self, version):
        """The flows as each tells them: encodings of matches and actions, without durations."""
        every = struct.pack("!BBHIIIQQHHI", 255, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0, 0, 1, 4, 0)
        request = of.header(version, 18, struct.pack("!HHI", 1, 0, 0) + every)

        def do(side):
            out = []
            for reply in side.tell(version, request):
                if reply is None or reply[1] != 19:
                    return [of.told(reply)]
                rest = reply[16:]
                while len(rest) >= 8:
                    length = max(8, struct.unpack("!H", rest[:2])[0])
                    entry = rest[:length]
                    if version < 6:
                        entry = entry[:4] + bytes(8) + entry[12:]
                    entry = re.sub(b"\x80\x02\x00\x08.{8}", b"\x80\x02\x00\x08" + bytes(8), entry, flags=re.S)
                    out.append(entry.hex())
                    rest = rest[length:]
            side.forget_old()
            return sorted(out)
        return self.both(do)

    def trace(self, args):
        return [normal(said) for said in self.both(lambda side: side.ask("ofproto/trace", "br0", *args))]

    def stop(self):
        for side in self.sides:
            side.stop()
        shutil.rmtree(self.root, ignore_errors=True)


def signature(theirs, ours):
    """The first line that differs, without numbers."""
    for a, b in zip(theirs.splitlines() + [""], ours.splitlines() + [""]):
        if a != b:
            short = lambda line: re.sub(r"0x[0-9a-f]+|\b[0-9a-f:.]*\d[0-9a-f:.]*\b", "N", line.strip())
            parts = re.split(r"[, ]", a), re.split(r"[, ]", b)
            if a.startswith(("Flow: ", "Final flow: ")) and b.startswith(("Flow: ", "Final flow: ")):
                less, more = ([x for x in parts[i] if x not in parts[1 - i]] for i in (0, 1))
                return "%s %s | %s" % (a.split(":")[0], short(" ".join(less))[:80], short(" ".join(more))[:80])
            return short(a)[:60] + " | " + short(b)[:60]
    return "end"


def split(text):
    """Parts of a list at its commas, but those in parentheses."""
    parts, depth = [""], 0
    for c in text:
        depth += c in "([{"
        depth -= c in ")]}"
        if c == "," and not depth:
            parts.append("")
        else:
            parts[-1] += c
    return parts


def smaller(items, holds):
    """As few items as the difference needs, by leaving out halves, then single ones."""
    size = max(1, len(items) // 2)
    while True:
        at = 0
        while at < len(items):
            fewer = items[:at] + items[at + size:]
            if holds(fewer):
                items = fewer
            else:
                at += size
        if size == 1:
            return items
        size //= 2


def minimise(case, holds):
    for what in ("flows", "groups", "meters"):
        case = dict(case, **{what: smaller(case[what], lambda fewer: holds(dict(case, **{what: fewer})))})
    for _ in range(2):
        for what in ("flows", "groups"):
            for n in range(len(case[what])):
                line = case[what][n]
                head, _, body = line.partition(",actions=") if what == "flows" else (line, "", "")
                put = lambda text: dict(case, **{what: case[what][:n] + [text] + case[what][n + 1:]})
                if body:
                    parts = smaller(split(body), lambda fewer: bool(fewer) and holds(put(head + ",actions=" + ",".join(fewer))))
                    body = ",".join(parts)
                    keep = smaller(split(head), lambda fewer: bool(fewer) and holds(put(",".join(fewer) + ",actions=" + body)))
                    case = put(",".join(keep) + ",actions=" + body)
                    if body.startswith("clone(") and body.endswith(")"):
                        inner = put(head + ",actions=" + body[len("clone("):-1])
                        if holds(inner):
                            case = inner
                else:
                    parts = smaller(split(line), lambda fewer: bool(fewer) and holds(put(",".join(fewer))))
                    case = put(",".join(parts))
    return case


def same(theirs, ours):
    """Whether two traces are one, but for a copy that ours works on where OVS takes back what a bucket did (decision 0096), and for the length of
    an output that OVS does not make, which it keeps for the next. Where packets go to is the same nevertheless."""
    def going(actions):
        """Actions without what changes the packet, those of a clone in its place."""
        out = []
        for part in split(actions):
            if part.startswith("clone("):
                out += going(part[len("clone("):-1])
            elif not re.match(r"(set|push_|pop_|trunc)\w*\b|drop$", part):
                out.append(part)
        return out

    def plain(text):
        return re.sub(r"^Datapath actions: (.*)$", lambda m: str(going(m.group(1))), text, flags=re.M)
    copies = "clone(" in ours and "clone(" not in theirs
    kept = "max_len" in ours and "skipping output" in ours and "trunc(" in theirs
    return theirs == ours or (copies or kept) and plain(theirs) == plain(ours)


def pointed(before, after):
    """The bytes that were changed."""
    a, b = before.hex(), after.hex()
    start = next((n for n in range(0, min(len(a), len(b)), 2) if a[n:n + 2] != b[n:n + 2] and n not in (4, 6)), min(len(a), len(b)))
    return "from byte %d: %s became %s" % (start // 2, a[start:start + 48], b[start:start + 48])


def has_action(message, types, subtype=b""):
    """Whether an action is in the message: all start at a multiple of eight bytes. A subtype is that of Nicira's."""
    return any(message[n:n + 2] in types and message[n + 4:n + 4 + len(subtype)] == subtype for n in range(16, len(message), 8))


def excused(message, theirs, ours):
    """Differences that are not ours: why, or None."""
    theirs, ours = (reply[0] if len(reply) == 1 else str(reply) for reply in (theirs, ours))
    if {theirs, ours} == {"error 2/13", "error 2/14"}:
        return "whether an unknown field has a wrong type or length hangs in OVS on which fields share its place in a hash table"
    if has_action(message, (b"\xff\xff",), b"\x00\x00\x23\x20\x00\x0d") and ours in ("error 2/5", "error 2/1"):
        return "OVS forgets what is wrong with a bundle_load() when it comes to its register"
    if theirs == "error 2/0" and has_action(message, (b"\x00\x0b", b"\x00\x0c", b"\x00\x1a", b"\x00\x1b")):
        return "copies of TTLs and I-TAGs are actions of ours"
    if (theirs, ours) == ("error 12/1", "error 12/11"):
        return "of a meter that is there and has no bands, either may be told first"
    if ours == "error of 0x2320 type 37" and message[1] == 15:
        return "OVS does not look into groups for tunnel options that are not mapped"
    return None


class Run:
    def __init__(self, pair, options):
        self.pair, self.options = pair, options
        self.seen, self.counts = {}, dict(tables=0, accepted=0, traces=0, packets=0, left=0, messages=0, differences=0)
        self.config = None
        self.step = "configuration"

    def make(self, seed):
        r = random.Random(seed)
        version = r.choice(NAMES + ["OpenFlow13", "OpenFlow15", "OpenFlow15"])
        groups = [1, 2, 3] if r.random() < 0.5 and version != "OpenFlow10" else []
        meters = [1] if r.random() < 0.3 and version >= "OpenFlow13" else []
        case = {"version": version, "meters": [g.meter(r, n) for n in meters], "groups": [g.group(r, n, groups, meters) for n in reversed(groups)],
                "flows": [g.flow(r, of.VERSIONS[version], groups, meters, n) for n in range(r.choice((4, 10, 25, 50)))]}
        return r, case

    def configure(self, seed):
        """Ports and bridges are those of the seed's ten."""
        if self.config != seed // 10:
            self.config = seed // 10
            r = random.Random("configuration %d" % self.config)
            self.commands = g.configurations(r) if self.config % 3 else []
            self.pair.both(lambda side: side.build(self.commands))
            time.sleep(0.1)

    def found(self, seed, what, key, text):
        self.counts["differences"] += 1
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.seen[key] > 1 and not self.options.all:
            return
        print("==== seed %d: %s [%s]\n%s" % (seed, what, key, text))
        sys.stdout.flush()

    def show(self, case):
        lines = ["# vsctl " + c for c in self.commands] + ["# version " + case["version"]]
        lines += ["meter br0 " + m for m in case["meters"]] + ["group br0 " + x for x in case["groups"]] + ["flow br0 " + f for f in case["flows"]]
        return "\n".join(lines) + "\n"

    def new(self, key):
        return self.options.all or key not in self.seen

    def case(self, seed):
        self.step = "configuration"
        self.configure(seed)
        r, case = self.make(seed)
        self.step = "tables"
        refused, accepted = self.pair.load(case)
        self.counts["tables"] += 1
        self.counts["accepted"] += accepted
        for text, theirs, ours in refused:
            key = "refusal %s | %s of %s" % (theirs, ours, re.sub(r"[0-9]+", "N", text.split("actions=")[-1].split("(")[0].split(":")[0]))
            if self.new(key):
                small = minimise({"version": case["version"], "meters": case["meters"], "groups": case["groups"], "flows": [text]} if "group_id" not in text else
                                 {"version": case["version"], "meters": [], "groups": [g_ for g_ in case["groups"]], "flows": []},
                                 lambda c: any((a, b) == (theirs, ours) for _, a, b in self.pair.load(c)[0]))
                self.pair.load(case)
                self.found(seed, "refusal", key, self.show(small) + "theirs %s, ours %s" % (theirs, ours))
            else:
                self.found(seed, "refusal", key, "")
        if refused:
            # What one of them lacks is nothing to compare the rest by.
            gone = {text for text, _, _ in refused}
            case = dict(case, flows=[f for f in case["flows"] if f not in gone], groups=[x for x in case["groups"] if x not in gone])
            self.pair.load(case)
        self.step = "dump"
        self.dumps(seed, case, r.choice((4, 5)))
        if self.options.only in (None, "traces"):
            self.traces(seed, r, case)
        if self.options.only in (None, "packets"):
            self.packets(seed, random.Random("packets %d" % seed), case)
        if self.options.only in (None, "messages"):
            self.mutations(seed, random.Random("messages %d" % seed), case)

    def dumps(self, seed, case, version):
        # Of a move that came by 1.5 OVS tells 1.3 in ONF's form, ours in Nicira's; an option of a tunnel that is set is as long as its value or as
        # the option. To 1.2 OVS tells of encap(), which it would not take from there; in 1.5 a field that does not fill its bytes has a mask or none.
        told = " ".join(case["flows"])
        if case["version"] == "OpenFlow15" and version == 4 and "move:" in told or re.search("tun_metadata|->nxoxm_nsh_spi|tcp_flags=[0-9a-fx]*/0xfff,", told.lower()):
            return
        theirs, ours = self.pair.dump(version)
        if theirs != ours:
            less, more = [x for x in theirs if x not in ours], [x for x in ours if x not in theirs]
            key = "dump version %d" % version

            def holds(fewer):
                self.pair.load(fewer)
                a, b = self.pair.dump(version)
                return a != b
            if self.new(key):
                small = minimise(case, holds)
                self.pair.load(small)
                a, b = self.pair.dump(version)
                less, more = [x for x in a if x not in b], [x for x in b if x not in a]
                self.found(seed, "dump", key, self.show(small) + "theirs %s\nours   %s" % (less[:2], more[:2]))
                self.pair.load(case)
            else:
                self.found(seed, "dump", key, "")

    def traces(self, seed, r, case):
        for _ in range(self.options.traces):
            args = g.trace(r)
            self.step = "trace br0 " + " ".join(args)
            theirs, ours = self.pair.trace(args)
            if 'a "packet-in" is called for' in theirs and theirs != ours:
                # It has not yet seen that an old connection is gone.
                time.sleep(0.2)
                theirs, ours = self.pair.trace(args)
            self.counts["traces"] += 1
            if same(theirs, ours):
                continue
            key = "trace " + signature(theirs, ours)
            if not self.new(key):
                self.found(seed, "trace", key, "")
                continue

            def holds(fewer):
                self.pair.load(fewer)
                a, b = self.pair.trace(args)
                return not same(a, b) and "trace " + signature(a, b) == key
            small = minimise(case, holds)
            self.pair.load(small)
            a, b = self.pair.trace(args)
            diff = "".join(difflib.unified_diff(a.splitlines(True), b.splitlines(True), "theirs", "ours", n=30))
            self.found(seed, "trace", key, self.show(small) + "trace br0 %s\n%s" % (" ".join(args), diff[:6000]))
            self.pair.load(case)

    def rest(self, before):
        """What has left each port of both since, once it is the same and nothing new has come for a while."""
        start = changed = time.time()
        last = None
        while True:
            after = self.pair.both(lambda side: side.left())
            new, now = [{n: a[n][len(b[n]):] for n in a} for a, b in zip(after, before)], time.time()
            if new != last:
                last, changed = new, now
            if now - start > PATIENCE_S or new[0] == new[1] and now - changed > QUIET_S:
                return new
            time.sleep(0.01)

    def packets(self, seed, r, case):
        packets = []
        while len(packets) < self.options.packets:
            data = g.Packet(r).bytes()
            if len(data) >= 14:
                packets.append((r.choice(g.PORTS[:5] + [1, 1, 2, 11]), data))
        # What leaves is compared from the first packet on: one that comes late is not lost to the comparison.
        before = self.pair.both(lambda side: side.left())
        theirs = {}
        for n, data in packets:
            self.step = "packet p%d <- %s" % (n, data.hex())
            self.pair.both(lambda side: side.ask("netdev-dummy/receive", "p%d" % n, data.hex()))
            theirs, ours = self.rest(before)
            self.counts["packets"] += 1
            if theirs != ours:
                text = ["p%d <- %s" % (n, data.hex())]
                for p in theirs:
                    if theirs[p] != ours[p]:
                        text += ["  p%d theirs %s" % (p, x.hex()) for x in theirs[p]] + ["  p%d ours   %s" % (p, x.hex()) for x in ours[p]]
                shape = lambda side: " ".join("p%d:%d" % (p, len(x)) for p, x in side.items() if x)
                key = "packet " + ("number" if shape(theirs) != shape(ours) else "bytes")
                self.found(seed, "packet", key if not self.options.all else key + str(self.counts["packets"]), self.show(case) + "\n".join(text))
                break
        self.counts["left"] += sum(map(len, theirs.values()))
        self.states(seed, case, packets)

    def states(self, seed, case, packets):
        def plain(line):
            """Without times, and without masks of whole fields that OVS's text has where a byte is not filled."""
            line = re.sub(r"\s+\d+$|duration=\d+s, |/0xf{8}(f{8})?(?=->tun_metadata)", "", line)
            return re.sub(r"/0x(3|7|f{5,6})(?=->(mpls_tc|nw_ecn|ip_ecn|mpls_label|ipv6_label|nsh_spi))", "", line)

        def look(side):
            side.ask("revalidator/wait")
            out = {}
            for what in (["-OOpenFlow15", "dump-group-stats", "br0"],):
                said = side.run(["ovs-ofctl", "--no-names"] + what)
                out[" ".join(what)] = sorted(xlate.normal(re.sub(r"\(xid=.*?\)", "", line)) for line in said.splitlines())
            for what in (["bridge/dump-flows", "br0"], ["fdb/show", "br0"], ["mdb/show", "br0"]):
                out[" ".join(what)] = sorted(plain(line) for line in side.ask(*what).splitlines())
            return out
        # Counters come with the next look at the megaflows, which takes half a second.
        for _ in range(4):
            theirs, ours = self.pair.both(look)
            if theirs == ours:
                return
        for what in theirs:
            if theirs[what] != ours[what]:
                diff = list(difflib.unified_diff(theirs[what], ours[what], "theirs", "ours", n=0, lineterm=""))
                key = "state " + what
                self.found(seed, "state after packets", key, self.show(case) + "\n".join("p%d <- %s" % (n, d.hex()) for n, d in packets) + "\n" + "\n".join(diff)[:4000])

    def mutations(self, seed, r, case):
        valid = [m for _, _, m in self.pair.messages(case)]
        if not valid:
            return
        self.pair.clear()
        for _ in range(self.options.messages):
            original = r.choice(valid)
            message = of.mutated(r, original)
            version = message[0]
            self.step = "message " + message.hex()
            replies = self.pair.both(lambda side: [of.told(reply) for reply in side.connection(version).send(message)])
            self.counts["messages"] += 1
            if replies[0] != replies[1] and not excused(message, *replies):
                key = "message version %d type %d: %s | %s" % (version, message[1], *replies)
                self.found(seed, "message", key, "was %s\nis  %s\n%s\ntheirs %s, ours %s" % (
                    original.hex(), message.hex(), pointed(original, message), *replies))


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("daemon")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--only", choices=("traces", "packets", "messages"))
    parser.add_argument("--traces", type=int, default=30)
    parser.add_argument("--packets", type=int, default=8)
    parser.add_argument("--messages", type=int, default=60)
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    pair = Pair(options.daemon)
    run = Run(pair, options)
    failed = False
    try:
        for seed in range(options.seed, options.seed + options.count):
            fault = ""
            try:
                run.case(seed)
            except (OSError, struct.error) as error:
                # What was being said to a daemon that is gone, or does not speak any more.
                fault = ": %r" % error
            gone = [side for side in pair.sides if side.has_ended(0.5 if fault else 0)]
            if gone or fault:
                print("==== seed %d, %s: %s%s" % (seed, run.step, ", ".join(side.folder for side in gone) or "nobody", " is gone" + fault))
                for side in gone or pair.sides:
                    print(side.last_words())
                failed = True
                break
    finally:
        pair.stop()
    for key, times in sorted(run.seen.items(), key=lambda item: -item[1]):
        print("%6d %s" % (times, key))
    unanswered = sum(side.unanswered for side in pair.sides)
    print(", ".join("%s %d" % count for count in run.counts.items()) + ", unanswered %d" % unanswered)
    sys.exit(bool(run.counts["differences"] or unanswered or failed))


if __name__ == "__main__":
    main()
