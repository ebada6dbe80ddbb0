#!/usr/bin/env python3
"""10,000 dummy ports added in one transaction: how long our daemon and Debian's take to configure them, in turn.

    ports.py [--ports N] [--rounds N] DAEMON

Each round starts a fresh ovsdb-server (Debian's, for both sides) and a daemon with --enable-dummy, adds a bridge, then all ports by one
`transact` that also increments next_cfg, and waits for cur_cfg. Prints both sides' seconds and the ratio of the medians.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
STOCK = "/usr/sbin/ovs-vswitchd"
WAIT_S = 300


class Database:
    """A JSON-RPC connection."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(WAIT_S)
        self.socket.connect(path)
        self.decoder = json.JSONDecoder()
        self.text = ""

    def transact(self, *operations):
        request = {"method": "transact", "id": 1, "params": ["Open_vSwitch", *operations]}
        self.socket.sendall(json.dumps(request).encode())
        while True:
            try:
                message, end = self.decoder.raw_decode(self.text)
            except ValueError:
                chunk = self.socket.recv(1 << 20)
                if not chunk:
                    sys.exit("the server hung up")
                self.text += chunk.decode()
                continue
            self.text = self.text[end:].lstrip()
            if message.get("id") == 1:
                break
        for result in message["result"]:
            if result and "error" in result:
                sys.exit(f"transaction: {result}")
        return message["result"]


def ports(count, first_cfg):
    """Operations that add `count` ports to the only bridge."""
    operations, names = [], []
    for n in range(count):
        operations.append({"op": "insert", "table": "Interface", "uuid-name": f"i{n}", "row": {"name": f"p{n}", "type": "dummy"}})
        row = {"name": f"p{n}", "interfaces": ["named-uuid", f"i{n}"]}
        operations.append({"op": "insert", "table": "Port", "uuid-name": f"p{n}", "row": row})
        names.append(["named-uuid", f"p{n}"])
    operations.append({"op": "mutate", "table": "Bridge", "where": [], "mutations": [["ports", "insert", ["set", names]]]})
    operations.append({"op": "update", "table": "Open_vSwitch", "where": [], "row": {"next_cfg": first_cfg + 1}})
    return operations


def measure(daemon, count):
    """Seconds from the transaction to cur_cfg."""
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ, OVS_RUNDIR=folder, OVS_LOGDIR=folder, OVS_DBDIR=folder, OVS_SYSCONFDIR=folder)

        def run(*words):
            return subprocess.run(words, env=environment, cwd=folder, check=True, capture_output=True, text=True).stdout

        try:
            run("ovsdb-tool", "create", "conf.db", SCHEMA)
            run("ovsdb-server", "--detach", "--no-chdir", "--pidfile", "--log-file", "--remote=punix:db.sock", "conf.db")
            run("ovs-vsctl", "--no-wait", "init")
            run(daemon, "--detach", "--no-chdir", "--pidfile", "--log-file", "-vconsole:off", "--enable-dummy",
                "--disable-system", f"unix:{folder}/db.sock")
            run("ovs-vsctl", "--timeout=30", "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=dummy", "fail_mode=secure")
            database = Database(f"{folder}/db.sock")
            select = {"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["cur_cfg"]}
            before = database.transact(select)[0]["rows"][0]["cur_cfg"]
            start = time.monotonic()
            database.transact(*ports(count, before))
            while database.transact(select)[0]["rows"][0]["cur_cfg"] <= before:
                if time.monotonic() - start > WAIT_S:
                    sys.exit(f"{daemon}: not configured within {WAIT_S} s")
                time.sleep(0.02)
            took = time.monotonic() - start
            rows = {"op": "select", "table": "Interface", "where": [["ofport", ">", 0]], "columns": ["ofport"]}
            numbered = len(database.transact(rows)[0]["rows"])
            if numbered != count + 1:
                sys.exit(f"{daemon}: {numbered} of {count + 1} interfaces have a number")
            return took
        finally:
            for name in ("ovs-vswitchd", "ovsdb-server"):
                try:
                    with open(f"{folder}/{name}.pid") as file:
                        os.kill(int(file.read()), signal.SIGKILL)
                except (OSError, ValueError):
                    pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ports", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("daemon")
    options = parser.parse_args()
    ours, stock = [], []
    for turn in range(options.rounds):
        ours.append(measure(os.path.abspath(options.daemon), options.ports))
        stock.append(measure(STOCK, options.ports))
        print(f"{options.ports} ports, round {turn + 1}: ours {ours[-1]:.2f} s, OVS {stock[-1]:.2f} s", flush=True)
    ratio = statistics.median(ours) / statistics.median(stock)
    print(f"medians: ours {statistics.median(ours):.2f} s, OVS {statistics.median(stock):.2f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
