#!/usr/bin/env python3
"""Random scenes in Debian's ovs-vswitchd and in ours: the same steps to both, and where the answers, or the packets that leave, differ.

    steps.py OUR-OVS-VSWITCHD [--seed N] [--count N] [--theme NAME] [--scene FILE] [--all]

A seed is a scene of scenes.py, themes take turns. Time stands still in both daemons and passes where a scene says so. A difference is made
smaller before it is shown: steps are left out as long as it is the same. `--scene` runs the steps of a file. Steps beside those of xlate.py:

    devices BRIDGE N...   dummy ports pN, with a file of what leaves them
    bond BRIDGE PORTS W   a bond of dummy ports, with words of its row
    merge N...            what leaves these ports is compared as if it were one
    in pN HEX             a packet comes in; what leaves all ports is compared
    back pN HOW           what left port N last comes back there, turned around, as `frames.turned` says how
    chance RANGE          which address, and which port, of a range of NAT's is taken is chance
    hush                  what spanning trees send is not compared from here on: when within a second they do is chance
    warp MS               time passes, half a second at a time, of more than 31 seconds five
    A ;; B                 several steps that stay together
    watch VERSION FORMAT  a controller's connection, `heard` is what it was told since, `resume` sends the continuations back
    send NAME VERSION HEX  a message of a controller of this name and its answers, all bytes of them; `hear NAME` is what else it was told

Neighbours: scenes.py writes scenes, tables.py has the two switches, openflow.py the connections.
"""
import argparse
import difflib
import random
import re
import struct
import sys
import time

import frames
import openflow as of
import scenes
import tables
import xlate

PATIENCE_S = 2
# netdev-dummy/receive answers before the packet has been forwarded: nothing new for this long is rest.
QUIET_S = 0.03
# Stands for what is each daemon's own.
OWN = b"own"
# In names of commands that look at things whose order is chance, or which follow after a while.
LOOKS = ("show", "dump", "stats", "list", "get")


class Side(tables.Side):
    """A switch in which time stands still, with the ports of a scene."""

    def begin(self):
        for held in self.connections.values():
            held.close()
        for held in getattr(self, "controllers", {}).values():
            held.close()
        self.connections, self.dummies, self.watched, self.told, self.early = {}, [], None, [], []
        self.controllers, self.stories = {}, {}
        # A daemon's own time stands still from its first scene on: there is no going back.
        self.reset()
        self.run(["ovs-vsctl", "--db=unix:" + self.folder + "/db.sock", "--timeout=20", "clear", "open_vswitch", ".", "other_config",
                  "--", "clear", "open_vswitch", ".", "datapaths"])
        self.ask("dpctl/ct-del-limits", "zone=0,1,5,7")
        for method in (["dpctl/ipf-set-min-frag", "v4", "1200"], ["dpctl/ipf-set-min-frag", "v6", "1280"], ["dpctl/ct-set-limits", "default=1000000"]):
            self.ask(*method)
        for method in ("time/stop", "tnl/neigh/flush", "dpctl/flush-conntrack", "dpctl/ct-enable-tcp-seq-chk"):
            self.ask(method)
        for line in self.ask("ovs/route/show").splitlines():
            if line.startswith("User: "):
                self.ask("ovs/route/del", line.split()[1])

    def interfaces(self, numbers):
        self.dummies += numbers
        return [" -- set interface p%d type=dummy ofport_request=%d options:tx_pcap=%s" % (n, n, self.pcap(n)) for n in numbers]

    def up(self, numbers):
        return "".join(self.ask("netdev-dummy/set-admin-state", "p%d" % n, "up") for n in numbers)

    def step(self, line):
        if ";;" in line:
            return "".join(self.step(part.strip()) for part in line.split(";;"))
        if "dump-" in line:
            # Counters come with looks at megaflows, for which time would have to pass.
            self.ask("revalidator/purge")
        verb, _, rest = line.partition(" ")
        if verb in ("devices", "bond"):
            words = rest.split()
            numbers = [int(n.lstrip("p")) for n in (words[1].split(",") if verb == "bond" else words[1:])]
            for n in numbers:
                open(self.pcap(n), "wb").close()
            made = self.interfaces(numbers)
            if verb == "bond":
                names = " ".join("p%d" % n for n in numbers)
                text = "add-bond %s bond %s %s" % (words[0], names, " ".join(words[2:])) + " ".join(made)
            else:
                text = " -- ".join("add-port %s p%d%s" % (words[0], n, words_) for n, words_ in zip(numbers, made))
            said = self.command("vsctl " + text)
            return said + self.up(numbers)
        if verb == "in":
            return self.ask("netdev-dummy/receive", *rest.split())
        if verb == "back":
            port, how = rest.split()
            packets = self.left()[int(port[1:])]
            back = frames.turned(packets[-1], how) if packets else None
            return self.ask("netdev-dummy/receive", port, back.hex()) if back else "nothing to turn around"
        if verb == "warp":
            left = int(rest)
            return self.ask("time/warp", *([str(left)] if left < 1000 else [str(left), "500" if left <= 31000 else "5000"]))
        if verb == "appctl":
            return self.ask(*rest.split())
        if verb == "trace":
            return self.ask("ofproto/trace", *rest.split())
        if verb == "watch":
            return self.watch(*rest.split())
        if verb == "send":
            return self.send(*rest.split())
        if verb == "hear":
            return self.hear(rest)
        if verb in ("heard", "resume"):
            return getattr(self, verb)() if self.watched else ""
        return self.command(line).replace(self.folder, "")

    def watch(self, version, form="default"):
        self.watched = int(version)
        held = self.connection(self.watched)
        replies = held.send(of.header(self.watched, 9, struct.pack("!HH", 0, 0xFFFF)))
        if form != "default":
            replies += held.send(of.header(self.watched, of.EXPERIMENTER, struct.pack("!III", 0x2320, 16, 2)))
        return " ".join(of.told(reply) for reply in replies)

    def named(self, name, version):
        held = self.controllers.get(name)
        if held is None or not held.alive or held.version != version:
            if held:
                held.close()
            held = self.controllers[name] = of.Connection(self.folder + "/br0.mgmt", version)
        return held

    def send(self, name, version, data):
        """The answers to a message; what else comes is kept for `hear`."""
        for n in self.dummies if "50540000010" in data else ():
            # What a dummy port is called by is each daemon's own.
            mac = self.command('vsctl get interface p%d mac_in_use' % n).strip().strip('"').replace(":", "")
            data = data.replace("50540000010%d" % n, mac)
        replies = self.named(name, int(version)).send(bytes.fromhex(data))
        self.stories.setdefault(name, []).extend(plain_message(reply) for reply in replies if reply and unasked(reply))
        answers = [plain_message(reply) if reply else "closed" for reply in replies if not (reply and unasked(reply))]
        # In how many messages the features of tables come hangs on their length.
        return "\n".join(text for n, text in enumerate(answers) if n == 0 or text != answers[n - 1] or not text.endswith(OWN.hex()))

    def hear(self, name):
        """All that a controller was told without a question."""
        held = self.controllers.get(name)
        if held and held.alive:
            self.stories.setdefault(name, []).extend(plain_message(reply) for reply in held.send(b"") if reply)
        return "\n".join(last_words(self.stories.get(name, [])))

    def heard(self):
        """What the connection was told since, as it came."""
        replies = self.early + self.connection(self.watched).send(b"")
        self.told, self.early = [reply for reply in replies if reply], []
        return "\n".join(plain_message(reply) for reply in self.told)

    def resume(self):
        """The continuations of what was heard last go back."""
        said = []
        for message in self.told:
            if message[1] == of.EXPERIMENTER and message[8:16] == struct.pack("!II", 0x2320, 30):
                body = b"".join(p for kind, p in properties(message[16:]) if kind in (0, 1, 3, 5, 6, 7, 8))
                said += self.connection(self.watched).send(of.header(self.watched, of.EXPERIMENTER, struct.pack("!II", 0x2320, 28) + body))
        # What a packet that goes on sends up comes before the barrier's reply or later.
        self.early = [reply for reply in said if reply and reply[1] != of.ERROR]
        return " ".join(of.told(reply) for reply in said if reply not in self.early)


def properties(data):
    """[(type, property with its padding)]"""
    out = []
    while len(data) >= 4:
        kind, length = struct.unpack("!HH", data[:4])
        padded = (max(length, 4) + 7) & ~7
        out.append((kind, data[:padded]))
        data = data[padded:]
    return out


def plain_reply(version, body):
    """The body of a multipart reply without what is each daemon's own: its name, actions and fields of ours, the band that remarks DSCP."""
    kind = struct.unpack("!H", body[:2])[0]
    if kind in (0, 12):
        return body[:2] + OWN
    if kind == 8:
        return body[:32]
    if kind == 11:
        return body[:12] + b"bands" + body[16:]
    return body


def last_words(stories):
    """What a connection was told, of changes of a port one after another the last: OVS tells of its link before it tells of all."""
    port = lambda text: (re.match(r"version 1 type 12 02(00){7}.{4}|version [^1] type 12 02(00){7}.{8}", text) or [""])[0]
    out = []
    for text in stories:
        if out and port(text) and port(text) == port(out[-1]):
            out.pop()
        out.append(text)
    return out


def queues(data):
    """The entries of a reply about the queues of ports."""
    while len(data) >= 10:
        length = max(16, struct.unpack("!H", data[8:10])[0])
        yield data[:length]
        data = data[length:]


def unasked(message):
    """Whether a message is none that answers: packets, flows, ports, roles, tables, requests of others, controllers, monitors."""
    kind, body = message[1], message[8:]
    if kind == of.EXPERIMENTER:
        return body[:8] in [struct.pack("!II", 0x2320, n) for n in (14, 17, 23, 24, 30)] or body[:8] == struct.pack("!II", 0x4F4E4600, 1911)
    if kind == (17 if message[0] == 1 else 19):
        return body[:2] == b"\0\x10" or body[:2] == b"\xff\xff"
    return kind in (10, 11, 12) or message[0] > 4 and kind in (30, 31, 32, 35)


def plain_message(message):
    """A message without its transaction id, and a packet-in without buffers' and continuations' own numbers."""
    head = "version %d type %d " % (message[0], message[1])
    if message[1] == of.EXPERIMENTER and message[8:16] == struct.pack("!II", 0x2320, 30):
        return head + " ".join("continuation" if kind == 8 else "%d:%s" % (kind, p.hex()) for kind, p in properties(message[16:]))
    body = message[8:]
    if message[1] == (17 if message[0] == 1 else 19):
        body = plain_reply(message[0], body)
    if message[:2] in (b"\4\x17", b"\5\x17"):
        # Whose queues come first is chance.
        body = body[:8] + b"".join(sorted(queues(body[8:])))
    if message[1] == of.EXPERIMENTER and message[8:16] == struct.pack("!II", 0x2320, 14):
        body = body[:20] + bytes(8) + body[28:]
    if message[1] == 11:
        # How long the flow was there is as exact as the look for what is over, once a second.
        at = {1: 52, 6: 0}.get(message[0], 12)
        body = body[:at] + bytes(8) + body[at + 8:] if at else re.sub(b"\x80\x02\x00\x08.{8}", b"", body, flags=re.S)
    return head + body.hex()


def outer(data):
    """A packet without the source port that a tunnel chooses by a hash; a checksum over it is told right or wrong."""
    for type_, at, length, src in ((b"\x08\x00", 14, 20, 26), (b"\x86\xdd", 14, 40, 22)):
        four = length == 20
        if data[12:14] != type_ or len(data) < at + length + 8 or data[at + 9 if four else at + 6] != 17:
            continue
        udp = at + length
        if struct.unpack("!H", data[udp + 2:udp + 4])[0] not in (4789, 6666, 6081):
            continue
        body, ends = data[udp:], data[src:src + (8 if four else 32)]
        size = struct.unpack("!H", body[4:6])[0]
        pseudo = ends + (struct.pack("!BBH", 0, 17, size) if four else struct.pack("!II", size, 17))
        told = "none" if body[6:8] == b"\0\0" else "right" if scenes.g.checksum(pseudo + body) == 0 else "wrong"
        return unnamed("%s checksum %s %s" % (data[:udp].hex(), told, (body[2:6] + body[8:]).hex()))
    return unnamed(data.hex())


def unnamed(text):
    """Without the MACs of dummy ports, which each daemon counts on for itself."""
    return re.sub(r"aa(:?)55(?:\1aa)(?:\1)55(?:\1[0-9a-f]{2}){2}", "DUMMY", text)


def excused(line, theirs):
    """Whether OVS answers from memory that it has given back: an error about a monitor that is refused, in whatever version stands there."""
    return re.match(r"version (\d+) type 1 ", theirs) and int(line.split()[3][:2], 16) != int(theirs.split()[1])


def looks(line):
    """Whether a step changes nothing. Its command tells, not what follows: `--id=@p get port p -- create mirror` is a change."""
    verb, *words = line.split()
    command = next((word for word in words if not word.startswith("-O")), "")
    return verb == "hear" or verb in ("appctl", "ofctl", "vsctl") and any(word in command for word in LOOKS)


def normal(line, text, merged, bond=()):
    """An answer without what is chance; `bond` are the members of one: which of them its addresses are told behind is."""
    verb = line.split()[0]
    if verb == "trace":
        # Of a bond without a member that is alive 3.1 says nothing.
        text = re.sub(r"^.*no member of bond is enabled.*\n", "", tables.normal(text), flags=re.M)
        return re.sub(r"Datapath actions: .*", "", text) if merged else text
    text = unnamed(re.sub(r"\(xid=.*?\)", "", text))
    # OVS evicts flows and tells of vacancies, but says of no table that it can.
    text = re.sub(r"^ *(eviction|vacancy events): (not )?supported\n", "", text, flags=re.M)
    # To whom a packet without a rule goes hangs in OVS on how lately a connection came.
    text = re.sub(r"^table_id=254,.*\n?", "", text, flags=re.M)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID", text)
    text = re.sub(r"duration=[0-9.]+s?", "duration=X", text)
    if "ipf-get-status" in line:
        # Of IPv6 OVS does not say it.
        text = re.sub(r"nw_proto=\d+", "nw_proto=X", text)
    if "route/show" in line:
        # The others are the host's.
        text = "".join(re.findall(r"^User.*\n", text, flags=re.M))
    if "fdb/show" in line or "mdb/show" in line:
        # Where within a second a daemon's clock stood still is chance.
        text = re.sub(r"\s+\d+$", "", text, flags=re.M)
        text = re.sub(r"^ +(\d+)", lambda m: "bond" if m.group(1) in bond else m.group(0), text, flags=re.M)
    if bond:
        text = re.sub(r"((?:static|dynamic) entry on )\d+", r"\1bond", text)
    if "bond/set-active-slave" in line:
        # It may have been it before, by chance.
        return ""
    if "bond/show" in line:
        text = re.sub(r"(Recirc-ID : |bond-id: )\d+", r"\1N", text)
        text = re.sub(r"^(hash \d+.*|next rebalance: .*|.*load:.*)\n", "", text, flags=re.M)
    if looks(line) and verb != "hear" or verb == "heard":
        text = "\n".join(sorted(l.rstrip() for l in text.splitlines() if l.strip()))
    return text.rstrip("\n")


class Stage:
    def __init__(self, daemon):
        self.pair = tables.Pair(daemon, Side)
        self.counts = dict(scenes=0, steps=0, traces=0, packets=0, left=0, looks=0, differences=0)

    def rest(self, before, merged, hushed):
        start = changed = time.time()
        last = None
        while True:
            after = self.pair.both(lambda side: side.left())
            new, now = [], time.time()
            for a, b in zip(after, before):
                one = {}
                if self.chance:
                    told_as = lambda data: frames.masked(data, *self.chance)
                else:
                    told_as = outer
                for n in a:
                    told = [p for p in a[n][len(b.get(n, [])):] if not (hushed and p.startswith(b"\x01\x80\xc2\0\0\0"))]
                    one.setdefault(merged.get(n, n), []).extend(map(told_as, told))
                # The order in which a packet is flooded is chance, and with it that of its mirrors.
                new.append({n: sorted(packets) for n, packets in one.items()})
            if new != last:
                last, changed = new, now
            if now - start > PATIENCE_S or new[0] == new[1] and now - changed > QUIET_S:
                return new
            time.sleep(0.005)

    def plain(self, line, said, merged, bond):
        text = normal(line, said, merged, bond)
        if self.chance and "conntrack" in line:
            text = "\n".join(sorted(frames.masked_text(text, *self.chance).splitlines()))
        return text

    def play(self, scene):
        """The first step whose answers differ, and both answers; None if there is none."""
        self.pair.both(lambda side: side.begin())
        merged, bond, hushed = {}, [], False
        self.chance = None
        for number, line in enumerate(scene):
            verb = line.split()[0]
            if verb == "bond":
                bond = re.findall(r"\bp(\d+)", line.split()[2])
            if verb == "hush":
                hushed = True
                continue
            if verb == "chance":
                self.chance = line.split()[1:]
                continue
            if verb == "merge":
                merged = {int(n): int(line.split()[1]) for n in line.split()[1:]}
                continue
            before = self.pair.both(lambda side: side.left())
            answers = [self.plain(line, said, merged, bond) for said in self.pair.both(lambda side: side.step(line))]
            if looks(line):
                for _ in range(20):
                    if answers[0] == answers[1]:
                        break
                    time.sleep(0.05)
                    answers = [self.plain(line, said, merged, bond) for said in self.pair.both(lambda side: side.step(line))]
                self.counts["looks"] += 1
            self.counts["steps"] += 1
            self.counts["traces"] += verb == "trace"
            if verb in ("in", "back", "warp", "resume"):
                new = self.rest(before, merged, hushed)
                self.counts["packets"] += verb in ("in", "back")
                self.counts["left"] += sum(map(len, new[0].values()))
                for n in new[0]:
                    if new[0][n] != new[1][n]:
                        for side in (0, 1):
                            answers[side] += "".join("\np%d: %s" % (n, data) for data in new[side][n])
            if verb == "trace" and tables.same(*answers) or verb == "send" and excused(line, answers[0]):
                continue
            if answers[0] != answers[1]:
                return number, answers
        return None

    def key(self, scene, found):
        number, answers = found
        line = scene[number].split()
        return " ".join(line[:2] if line[0] in ("appctl", "ofctl") else line[:1]) + ": " + tables.signature(*answers)

    def smaller(self, scene, key):
        """The scene with as few steps as the difference needs; devices stay."""
        def holds(fewer):
            found = self.play(fewer)
            return found is not None and self.key(fewer, found) == key
        keep = [line for line in scene if line.startswith("devices")][:1]
        rest = [line for line in scene if line not in keep]
        return keep + tables.smaller(rest, lambda fewer: holds(keep + fewer))


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("daemon")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--theme", choices=list(scenes.THEMES))
    parser.add_argument("--scene")
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    stage = Stage(options.daemon)
    seen, gone = {}, []
    names = list(scenes.THEMES)
    try:
        for seed in range(options.seed, options.seed + options.count):
            theme = options.theme or names[seed % len(names)]
            scene = scenes.THEMES[theme](random.Random("%s %d" % (theme, seed)))
            if options.scene:
                scene = [line for line in open(options.scene).read().splitlines() if line and not line.startswith("#")]
            found = stage.play(scene)
            stage.counts["scenes"] += 1
            gone = [side.folder for side in stage.pair.sides if side.switch.poll() is not None]
            if gone:
                print("seed %d %s: %s is gone\n%s" % (seed, theme, gone, "\n".join(scene)))
                break
            if found is None:
                continue
            stage.counts["differences"] += 1
            key = theme + " " + stage.key(scene, found)
            seen[key] = seen.get(key, 0) + 1
            if seen[key] > 1 and not options.all:
                continue
            scene = scene[:found[0] + 1]
            if not options.scene:
                scene = stage.smaller(scene, stage.key(scene, found))
            found = stage.play(scene) or found
            diff = "\n".join(difflib.unified_diff(found[1][0].splitlines(), found[1][1].splitlines(), "theirs", "ours", n=30, lineterm=""))
            print("==== seed %d: %s\n%s\n%s" % (seed, key, "\n".join(scene), diff[:5000]))
            sys.stdout.flush()
    finally:
        stage.pair.stop()
    for key, times in sorted(seen.items(), key=lambda item: -item[1]):
        print("%6d %s" % (times, key))
    unanswered = sum(side.unanswered for side in stage.pair.sides)
    print(", ".join("%s %d" % count for count in stage.counts.items()) + ", unanswered %d" % unanswered)
    sys.exit(bool(stage.counts["differences"] or unanswered or gone))


if __name__ == "__main__":
    main()
