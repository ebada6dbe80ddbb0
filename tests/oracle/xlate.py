#!/usr/bin/env python3
"""Runs the same commands against Debian's ovs-vswitchd and against ours, and shows where the replies differ.

    xlate.py OUR-OVS-VSWITCHD CASES [--record FILE] [NAME...]

A case begins with `## name`, starts from an empty switch with bridge br0 (datapath type dummy, fail mode secure), and is a list of
commands: `vsctl ...`, `ofctl ...`, `appctl ...`, `flow BRIDGE FLOW`, `group BRIDGE GROUP`, `trace ...`. The output of `trace`,
`ofctl dump-*` and `appctl` is compared. `~ TEXT` in front of a case's commands is a known difference: the case may differ.
`--record` writes down what both agree upon, of the cases that need nothing but ports and flows: for the unit test of translation.
Both daemons run in private folders with dummy devices only.
"""
import difflib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


class Switch:
    def __init__(self, daemon, folder):
        os.makedirs(folder)
        self.folder = folder
        self.env = dict(os.environ, OVS_RUNDIR=folder, OVS_DBDIR=folder, OVS_LOGDIR=folder)
        self.env.pop("OVS_SYSCONFDIR", None)
        db, sock = folder + "/conf.db", folder + "/db.sock"
        self.run(["ovsdb-tool", "create", db, SCHEMA])
        server = ["ovsdb-server", db, "--remote=punix:" + sock, "--no-chdir", "--unixctl=" + folder + "/ovsdb.ctl"]
        quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(folder + "/stderr", "w"))
        self.server = subprocess.Popen(server, env=self.env, **quiet)
        self.until(lambda: os.path.exists(sock))
        self.run(["ovs-vsctl", "--db=unix:" + sock, "--no-wait", "init"])
        switch = [daemon, "unix:" + sock, "--enable-dummy", "--disable-system", "--no-chdir", "--pidfile",
                  "--log-file", "--unixctl=" + folder + "/switch.ctl"]
        self.switch = subprocess.Popen(switch, env=self.env, **quiet)
        self.until(lambda: os.path.exists(folder + "/switch.ctl"))

    def until(self, holds):
        import time
        for _ in range(1000):
            if holds():
                return
            time.sleep(0.02)
        sys.exit("daemon in %s does not start" % self.folder)

    def run(self, command):
        try:
            done = subprocess.run(command, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=30)
        except subprocess.TimeoutExpired:
            return "TIMEOUT\n"
        return done.stdout.decode("utf-8", "replace")

    def stop(self):
        for process in (self.switch, self.server):
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()

    def reset(self):
        vsctl = ["ovs-vsctl", "--db=unix:" + self.folder + "/db.sock", "--timeout=20"]
        for bridge in self.run(vsctl + ["list-br"]).split():
            self.run(vsctl + ["del-br", bridge])
        return self.run(vsctl + ["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=dummy", "fail-mode=secure",
                                 "protocols=[OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15]"])

    def command(self, line):
        verb, _, rest = line.partition(" ")
        if verb == "ports":
            # ports BRIDGE 1 2 3: dummy ports p1 p2 p3 with these numbers
            bridge, *numbers = rest.split()
            rest = " -- ".join("add-port %s p%s -- set interface p%s type=dummy ofport_request=%s" % (bridge, n, n, n) for n in numbers)
            verb = "vsctl"
        if verb == "vsctl":
            return self.run(["ovs-vsctl", "--db=unix:" + self.folder + "/db.sock", "--timeout=20"] + shlex.split(rest))
        if verb == "flow":
            bridge, _, flow = rest.partition(" ")
            return self.run(["ovs-ofctl", "-OOpenFlow15", "add-flow", bridge, flow] if "meter:" in flow else
                            ["ovs-ofctl", "-OOpenFlow13", "add-flow", bridge, flow])
        if verb == "group":
            bridge, _, group = rest.partition(" ")
            return self.run(["ovs-ofctl", "-OOpenFlow15", "add-group", bridge, group])
        if verb == "ofctl":
            return self.run(["ovs-ofctl"] + shlex.split(rest))
        if verb == "trace":
            return self.run(["ovs-appctl", "-t", self.folder + "/switch.ctl", "ofproto/trace"] + shlex.split(rest))
        if verb == "appctl":
            return self.run(["ovs-appctl", "-t", self.folder + "/switch.ctl"] + shlex.split(rest))
        sys.exit("what is " + line)


def normal(text):
    text = re.sub(r"duration=[0-9.]+s", "duration=Xs", text)
    text = re.sub(r"(used|idle_age|hard_age)[=:][0-9.a-z]+", r"\1=X", text)
    # Ids of recirculations are numbered in the order of their use.
    ids = {}
    number = lambda m: m.group(1) + "R%d" % ids.setdefault(int(m.group(2), 0), len(ids) + 1)
    text = re.sub(r"((?:recirc\(|recirc_id[=(]))(0x[0-9a-f]+|[1-9][0-9]*)", number, text)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID", text)
    text = re.sub(r"^[-0-9]+T[0-9:]+Z\|", "", text, flags=re.M)
    text = re.sub(r"^(Datapath actions: )(.*)$", lambda m: m.group(1) + unordered(m.group(2)), text, flags=re.M)
    return text.replace("/switch.ctl", "")


def unordered(actions):
    """Outputs to several ports with nothing but tags in between, in the order of the ports: that of a flood is nobody's business."""
    parts = re.findall(r"(?:[^,(]|\([^)]*\))+", actions)
    if not all(re.fullmatch(r"\d+|pop_vlan|push_vlan\(.*\)|trunc\(\d+\)", p) for p in parts) or len(parts) < 2:
        return actions
    pops, pushed, trunc, out = 0, [], "", []
    for p in parts:
        if p == "pop_vlan":
            if pushed:
                pushed.pop()
            else:
                pops += 1
        elif p.startswith("push"):
            pushed.append(p)
        elif p.startswith("trunc"):
            trunc = p + ","
        else:
            out.append((int(p), trunc + "pop_vlan," * pops + "".join(q + "," for q in pushed)))
            trunc = ""
    return " ".join("%s%d" % (how, port) for port, how in sorted(out))


def cases(path):
    found, name = [], None
    for line in open(path):
        line = line.rstrip("\n")
        if line.startswith("## "):
            found.append((line[3:], []))
        elif line.strip() and not line.startswith("#"):
            found[-1][1].append(line)
    return found


def write_down(record, name, said):
    if any(line.split()[0] not in ("ports", "flow", "trace") for line, _ in said):
        return
    record.write("## %s\n" % name)
    for line, text in said:
        # Numbers of recirculations depend on what the daemon has done before; what is cut short is an endless loop.
        if line.startswith("trace") and ("recirc(" in text or "recirc_id=" in text.replace("recirc_id=0,", "") or len(text) > 3000):
            continue
        if line.startswith("trace") and "ovs-appctl:" in text or line.startswith("flow") and text:
            continue
        record.write("$ %s\n%s" % (line, text if text.endswith("\n") or not text else text + "\n"))


def main():
    daemon, path, *names = sys.argv[1:]
    record = None
    if names[:1] == ["--record"]:
        record, names = open(names[1], "w"), names[2:]
    root = tempfile.mkdtemp(prefix="xlate-")
    switches = []
    failed = total = 0
    try:
        switches = [Switch("/usr/sbin/ovs-vswitchd", root + "/theirs"), Switch(daemon, root + "/ours")]
        for name, lines in cases(path):
            if names and not any(n in name for n in names):
                continue
            known = [l[2:] for l in lines if l.startswith("~ ")]
            replies = []
            said_last = []
            for switch in switches:
                reply = [switch.reset()]
                said_last = []
                for line in lines:
                    if line.startswith("~ "):
                        continue
                    said = switch.command(line).replace(switch.folder, "")
                    said_last.append((line, said))
                    reply += ["$ " + line + "\n", said if said.endswith("\n") or not said else said + "\n"]
                replies.append(normal("".join(reply)).splitlines(True))
            total += 1
            if record and replies[0] == replies[1]:
                write_down(record, name, said_last)
            if replies[0] != replies[1]:
                failed += not known
                print("==== %s%s" % (name, " (known: %s)" % known[0] if known else ""))
                if not known:
                    sys.stdout.writelines(difflib.unified_diff(replies[0], replies[1], "theirs", "ours", n=4))
            elif known:
                print("==== %s: no longer differs" % name)
        print("%d cases, %d differ" % (total, failed))
    finally:
        for switch in switches:
            switch.stop()
        if os.environ.get("KEEP"):
            print(root)
        else:
            shutil.rmtree(root, ignore_errors=True)
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
