#!/usr/bin/env python3
"""Records what Linux's connection tracker says of the segments that tcp.py draws: cases for ct/tcp_tests.rs.

    tcp_linux.py FIRST_SEED SEQUENCES >cases.txt      # needs root, iproute2, nftables, and a kernel with nf_conntrack

Segments go through a router of its own between two network namespaces, which writes what its tracker says into the DSCP. A line is
a segment as tcp_tests.rs reads it, and after "=" what the tracker said: inv, new or est, and the state of the connection.
"""
import ctypes, os, random, socket, subprocess, sys
from tcp import frame, sequence

RULES = """
table ip judge {
    chain post {
        type filter hook postrouting priority 100;
        ct state invalid ip dscp set 1
        ct state new ip dscp set 2
        ct state established ip dscp set 3
    }
}
"""
SAID = {1: 'inv', 2: 'new', 3: 'est'}

def run(*words, text=None):
    subprocess.run(words, check=True, input=text, text=True)

class Router:
    def __init__(self):
        self.ends, self.ns = 'tcp%de' % os.getpid(), 'tcp%dr' % os.getpid()
        for ns in (self.ends, self.ns): run('ip', 'netns', 'add', ns)
        for i, address in ((0, '10.0.0.1'), (1, '10.0.0.2')):
            run('ip', '-n', self.ends, 'link', 'add', 'e%d' % i, 'type', 'veth', 'peer', 'name', 'r%d' % i, 'netns', self.ns)
            run('ip', '-n', self.ns, 'link', 'set', 'r%d' % i, 'address', '50:54:00:00:00:01')
            run('ip', '-n', self.ends, 'link', 'set', 'e%d' % i, 'up')
            run('ip', '-n', self.ns, 'link', 'set', 'r%d' % i, 'up')
            run('ip', '-n', self.ns, 'route', 'add', address, 'dev', 'r%d' % i)
            run('ip', '-n', self.ns, 'neigh', 'add', address, 'lladdr', '50:54:00:00:00:02', 'dev', 'r%d' % i)
        inside = ('ip', 'netns', 'exec', self.ns)
        run(*inside, 'sh', '-c', 'echo 1 >/proc/sys/net/ipv4/ip_forward; for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done')
        run(*inside, 'nft', '-f', '-', text=RULES)
        self.sleeper = subprocess.Popen(inside + ('sleep', 'infinity'))
        with open('/run/netns/' + self.ends) as f:
            if ctypes.CDLL(None).setns(f.fileno(), 0): raise SystemExit('setns')
        self.socks = []
        for i in (0, 1):
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind(('e%d' % i, 0)); s.settimeout(1)
            self.socks.append(s)
    def judge(self, reply, sport, *seg):
        self.socks[reply].send(frame(reply, sport, *seg))
        said = 'lost'
        try:
            while said == 'lost':
                data, address = self.socks[not reply].recvfrom(65536)
                if address[2] != socket.PACKET_OUTGOING and data[12:14] == b'\x08\x00' and data[23] == 6: said = SAID.get(data[15] >> 2, 'none')
        except TimeoutError: pass
        state = '-'
        with open('/proc/%d/net/nf_conntrack' % self.sleeper.pid) as f:
            for line in f:
                words = line.split()
                if 'sport=%d' % sport in words or 'dport=%d' % sport in words: state = words[5]
        return said + ' ' + state
    def close(self):
        self.sleeper.kill(); self.sleeper.wait()
        for ns in (self.ends, self.ns): run('ip', 'netns', 'del', ns)

if __name__ == '__main__':
    first, n = int(sys.argv[1]), int(sys.argv[2])
    router = Router()
    try:
        for seed in range(first, first + n):
            print('# seed %d' % seed)
            for seg in sequence(random.Random(seed)):
                reply, flags, seq, ack, win, length, scale = seg
                said = router.judge(reply, 1024 + seed % 60000, flags, seq, ack, win, length, scale)
                print('%s %s %d %d %d %d%s = %s' % ('<' if reply else '>', flags or '-', seq, ack, win, length, '' if scale is None else ' %d' % scale, said))
    finally: router.close()
