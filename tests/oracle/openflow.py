"""OpenFlow on the wire, as far as comparing two switches needs it: messages that ovs-ofctl makes of text, a connection that tells the
errors of each message, and random changes of messages. What a message means is nobody's business here.

In: text of flows, groups, meters; paths of sockets. Out: bytes of messages, replies. Neighbours: tables.py compares, generate.py makes the text.
"""
import os
import re
import socket
import struct
import subprocess
import tempfile
import threading

HELLO, ERROR, ECHO, ECHO_REPLY, EXPERIMENTER, FEATURES, FEATURES_REPLY = range(7)
BARRIER = {1: (18, 19)}  # request and reply; from 1.1 on they are 20 and 21
VERSIONS = {"OpenFlow10": 1, "OpenFlow11": 2, "OpenFlow12": 3, "OpenFlow13": 4, "OpenFlow14": 5, "OpenFlow15": 6}
OURS = 0x7E570000  # transaction ids of ours: barriers behind each message


def header(version, kind, body=b"", xid=0):
    return struct.pack("!BBHI", version, kind, 8 + len(body), xid) + body


def barrier(version):
    return BARRIER.get(version, (20, 21))


class Stream:
    """Whole messages from a socket."""

    def __init__(self, sock):
        self.sock, self.buffer = sock, b""

    def message(self):
        """The next message, None at the end of the stream."""
        while True:
            if len(self.buffer) >= 4:
                length = max(8, struct.unpack("!H", self.buffer[2:4])[0])
                if len(self.buffer) >= length:
                    whole, self.buffer = self.buffer[:length], self.buffer[length:]
                    return whole
            try:
                more = self.sock.recv(65536)
            except (ConnectionError, socket.timeout):
                return None
            if not more:
                return None
            self.buffer += more


class Recorder:
    """A switch that agrees to everything and writes down what ovs-ofctl sends it: text becomes messages."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="recorder-")
        self.path = self.folder + "/switch"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(8)
        self.got, self.known = [], {}
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            sock, _ = self.listener.accept()
            self.talk(sock)

    def talk(self, sock):
        sock.settimeout(5)
        stream = Stream(sock)
        hello = stream.message()
        if hello is None:
            return
        version = hello[0]
        bitmap = sum(1 << v for v in range(1, version + 1))
        sock.sendall(header(version, HELLO, struct.pack("!HHI", 1, 8, bitmap)))
        while True:
            message = stream.message()
            if message is None:
                sock.close()
                return
            version, kind, xid = message[0], message[1], message[4:8]
            if kind == barrier(version)[0]:
                sock.sendall(struct.pack("!BBH", version, barrier(version)[1], 8) + xid)
            elif kind == ECHO:
                sock.sendall(struct.pack("!BBH", version, ECHO_REPLY, len(message)) + xid + message[8:])
            elif kind == FEATURES:
                body = struct.pack("!QIBBHII", 1, 0, 254, 0, 0, 0, 0)
                sock.sendall(struct.pack("!BBH", version, FEATURES_REPLY, 8 + len(body)) + xid + body)
            elif kind != HELLO:
                self.got.append(message)

    def ask(self, version, verb, path):
        self.got = []
        done = subprocess.run(["ovs-ofctl", "--no-names", "-O" + version, verb, "unix:" + self.path, path],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20)
        said = done.stdout.decode("utf-8", "replace")
        # Before flows of OpenFlow 1.0 the client chooses their format, which is not of the flows.
        chosen = lambda m: m[0] == 1 and m[1] == EXPERIMENTER and struct.unpack("!I", m[12:16])[0] in (12, 15)
        return [m for m in self.got if not chosen(m)], said if done.returncode else ""

    def messages(self, version, verb, lines):
        """{line: message, or None where ovs-ofctl refuses it}; verb is add-flows, add-groups."""
        fresh = [line for line in dict.fromkeys(lines) if (version, verb, line) not in self.known]
        for _ in range(len(fresh)):
            if not fresh:
                break
            with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
                file.write("".join(line + "\n" for line in fresh))
                file.flush()
                got, said = self.ask(version, verb, file.name)
            if not said and len(got) == len(fresh):
                self.known.update({(version, verb, line): message for line, message in zip(fresh, got)})
                fresh = []
                break
            where = re.search(re.escape(file.name) + r":(\d+)", said)
            if not where:
                break
            bad = fresh.pop(int(where.group(1)) - 1)
            self.known[version, verb, bad] = None
        for line in fresh:
            one = verb[:-1] if verb.endswith("s") else verb
            got, said = self.ask(version, one, line)
            self.known[version, verb, line] = got[-1] if not said and got else None
        return {line: self.known[version, verb, line] for line in lines}


class Connection:
    """A connection to a bridge: each message is followed by a barrier, and what came before its reply are the message's own replies."""

    def __init__(self, path, version, timeout=5):
        self.version, self.count = version, 0
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.stream = Stream(self.sock)
        self.sock.sendall(header(version, HELLO, struct.pack("!HHI", 1, 8, 1 << version)))
        self.alive = self.stream.message() is not None

    def send(self, message):
        """The replies to a message; the last is None if the connection did not survive it."""
        self.count += 1
        xid = OURS + self.count
        replies = []
        try:
            self.sock.sendall(message + header(self.version, barrier(self.version)[0], xid=xid))
        except OSError:
            pass
        while True:
            reply = self.stream.message()
            if reply is None:
                self.alive = False
                return replies + [None]
            if struct.unpack("!I", reply[4:8])[0] == xid and reply[1] == barrier(self.version)[1]:
                return replies
            if reply[1] == ECHO:
                self.sock.sendall(reply[:1] + bytes([ECHO_REPLY]) + reply[2:])
            else:
                replies.append(reply)

    def close(self):
        self.sock.close()

    def finish(self):
        """Closes it, and waits until the other end has: then the switch has forgotten it."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
            while self.stream.message() is not None:
                pass
        except OSError:
            pass
        self.close()


def told(reply):
    """A reply in short: type and code of an error, type and length of anything else."""
    if reply is None:
        return "closed"
    if reply[1] == ERROR and len(reply) >= 12:
        kind, code = struct.unpack("!HH", reply[8:12])
        if kind == 0xFFFF and len(reply) >= 16:
            return "error of %#x type %d" % (struct.unpack("!I", reply[12:16])[0], code)
        return "error %d/%d" % (kind, code)
    return "type %d" % reply[1]


def mutated(rng, message, depth=1):
    """The message with something in it changed; its length field is true unless that is what was changed."""
    data = bytearray(message)
    for _ in range(rng.choice((1, 1, 1, 1, 1, 2))):
        how = rng.randrange(9)
        at = rng.randrange(8, len(data)) if len(data) > 8 else 0
        if not at:
            continue
        if how == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            data[at] = rng.choice((0, 1, 0xFF, 0x7F, 0x80, rng.randrange(256)))
        elif how == 2:
            at &= ~1
            data[at:at + 2] = struct.pack("!H", rng.choice((0, 1, 4, 7, 8, 9, 16, 24, 0xFFFF, 0xFFFE, rng.randrange(65536))))
        elif how == 3:
            at &= ~3
            data[at:at + 4] = struct.pack("!I", rng.choice((0, 1, 0xFFFFFFFF, 0xFFFFFFF8, 0x2320, rng.getrandbits(32))))
        elif how == 4:
            at &= ~7
            del data[at:at + 8]
        elif how == 5:
            at &= ~7
            data[at:at] = bytes(data[at:at + 8]) if rng.random() < 0.5 else bytes(8)
        elif how == 6:
            del data[at:]
        elif how == 7:
            at &= ~1
            old = struct.unpack("!H", bytes(data[at:at + 2]).ljust(2, b"\0"))[0]
            data[at:at + 2] = struct.pack("!H", (old + rng.choice((-8, -4, -1, 1, 4, 8))) & 0xFFFF)
        else:
            end = rng.randrange(at, len(data)) & ~7
            data += data[at & ~7:end]
    if len(data) > 60000:
        del data[60000:]
    data[2:4] = struct.pack("!H", len(data))
    if rng.random() < 0.04:
        data[1] = rng.randrange(40)
    return bytes(data)
