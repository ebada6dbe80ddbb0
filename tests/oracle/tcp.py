#!/usr/bin/env python3
"""Records what Open vSwitch's userspace connection tracker says of random TCP segments: cases for ct/tcp_tests.rs.

    tcp.py FIRST_SEED SEQUENCES >cases.txt      # needs Debian's openvswitch-switch and root

A line is a segment as tcp_tests.rs reads it, and after "=" what the tracker said: inv, new or est, and the states of both ends.
"""
import json, os, random, socket, struct, subprocess, sys, tempfile, time

def csum(b):
    if len(b) % 2: b += b'\0'
    s = sum(struct.unpack('!%dH' % (len(b) // 2), b))
    while s >> 16: s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff

FLAGS = {'F': 1, 'S': 2, 'R': 4, 'P': 8, 'A': 16, 'U': 32}

def frame(reply, sport, flags, seq, ack, win, length, scale):
    a, b = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
    src, dst, sp, dp = (b, a, 80, sport) if reply else (a, b, sport, 80)
    opt = bytes([1, 3, 3, scale]) if scale is not None else b''
    f = sum(FLAGS[c] for c in flags)
    head = struct.pack('!HHIIBBHHH', sp, dp, seq, ack, (5 + len(opt) // 4) << 4, f, win, 0, 0) + opt
    seg = head + bytes(length)
    pseudo = src + dst + struct.pack('!BBH', 0, 6, len(seg))
    seg = seg[:16] + struct.pack('!H', csum(pseudo + seg)) + seg[18:]
    ip = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(seg), 0, 0, 64, 6, 0) + src + dst
    ip = ip[:10] + struct.pack('!H', csum(ip)) + ip[12:]
    return bytes.fromhex('505400000001505400000002' '0800') + ip + seg

class Switch:
    def __init__(self, vswitchd):
        self.dir = tempfile.mkdtemp(prefix='ctdiff.')
        env = dict(os.environ, OVS_RUNDIR=self.dir, OVS_LOGDIR=self.dir, OVS_DBDIR=self.dir, OVS_SYSCONFDIR=self.dir)
        run = lambda *a: subprocess.run(a, env=env, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
        run('ovsdb-tool', 'create', self.dir + '/conf.db', '/usr/share/openvswitch/vswitch.ovsschema')
        self.db = subprocess.Popen(['ovsdb-server', '--remote=punix:' + self.dir + '/db.sock', self.dir + '/conf.db'], env=env, stderr=subprocess.DEVNULL)
        time.sleep(.5)
        run('ovs-vsctl', '--no-wait', 'init')
        self.vs = subprocess.Popen([vswitchd, '--enable-dummy', '--disable-system', '--unixctl=' + self.dir + '/ctl', 'unix:' + self.dir + '/db.sock'], env=env, stderr=subprocess.DEVNULL)
        cmd = ['ovs-vsctl', 'add-br', 'br0', '--', 'set', 'bridge', 'br0', 'datapath_type=dummy', 'fail-mode=secure']
        for n in range(1, 6): cmd += ['--', 'add-port', 'br0', 'p%d' % n, '--', 'set', 'interface', 'p%d' % n, 'type=dummy', 'ofport_request=%d' % n]
        run(*cmd)
        for flow in ['table=0,in_port=1,tcp,actions=ct(commit,table=1)', 'table=0,in_port=2,tcp,actions=ct(commit,table=1)',
                     'table=1,priority=30,ct_state=+inv,ip,actions=3', 'table=1,priority=20,ct_state=+new,ip,actions=4', 'table=1,priority=10,ct_state=+est,ip,actions=5']:
            run('ovs-ofctl', 'add-flow', 'br0', flow)
        self.sock = socket.socket(socket.AF_UNIX); self.sock.connect(self.dir + '/ctl'); self.id = 0
        self.before = self.sent()
    def ctl(self, method, *params):
        self.id += 1
        self.sock.sendall(json.dumps({'method': method, 'params': list(params), 'id': self.id}).encode())
        text = ''
        while True:
            text += self.sock.recv(65536).decode()
            try: reply = json.loads(text)
            except ValueError: continue
            if reply['error']: raise SystemExit(method + ': ' + reply['error'])
            return reply['result']
    def sent(self):
        out, port = {}, None
        for line in self.ctl('dpctl/show', '-s').splitlines():
            w = line.split()
            if line.strip().startswith('port '): port = w[2]
            if port and line.strip().startswith('TX packets:'): out[port] = int(w[1].split(':')[1])
        return out
    def judge(self, reply, sport, *seg):
        self.ctl('netdev-dummy/receive', 'p2' if reply else 'p1', frame(reply, sport, *seg).hex())
        for _ in range(200):
            now = self.sent()
            hit = [w for p, w in (('p3', 'inv'), ('p4', 'new'), ('p5', 'est')) if now.get(p, 0) > self.before.get(p, 0)]
            if hit: break
            time.sleep(.005)
        self.before = now
        states = '-'
        for line in self.ctl('dpctl/dump-conntrack', '-m').splitlines():
            orig = line.split('reply=')[0]
            if 'sport=%d,' % sport in orig or 'dport=%d)' % sport in orig:
                states = line.split('state_orig=')[1].split(',')[0] + ' ' + line.split('state_reply=')[1].split(',')[0]
        return (hit or ['lost'])[0] + ' ' + states
    def close(self):
        for p in (self.vs, self.db): p.terminate(); p.wait()

def sequence(rng):
    """Segments that mostly make sense: both ends know where they stand, and err now and then."""
    isn = [rng.choice([1000, 0xffffff00, 0x7fffffff]), rng.choice([5000, 0xfffffff0, 0x80000000])]
    nxt, scale = list(isn), [rng.choice([None, 0, 7, 14]), rng.choice([None, 0, 7])]
    step = 0 if rng.random() < .8 else 3
    for i in range(rng.randint(4, 14)):
        if step == 0: d, flags = 0, 'S'
        elif step == 1: d, flags = 1, 'SA'
        else: d, flags = rng.randint(0, 1) if i else 0, rng.choices(['A', 'PA', 'FA', 'R', 'RA', 'S', 'SA', 'F', 'PAU', ''], [30, 20, 12, 3, 3, 4, 2, 1, 2, 1])[0]
        length = rng.choice([0, 0, 1, 100, 1400]) if 'S' not in flags else 0
        err = rng.choices([0, 1, -1, 2, 1000, 70000, -1000, -70000, 1 << 20], [60, 3, 3, 3, 3, 3, 3, 3, 3])[0] if step > 1 else 0
        aerr = rng.choices([0, 1, -1, 70000, -70000], [80, 5, 5, 5, 5])[0] if step > 1 else 0
        seq = (nxt[d] + err) & 0xffffffff
        ack = (nxt[1 - d] + aerr) & 0xffffffff if 'A' in flags else 0
        win = rng.choice([0, 1, 229, 29200, 65535])
        sc = scale[d] if 'S' in flags else None
        yield bool(d), flags, seq, ack, win, length, sc
        if err == 0: nxt[d] = (nxt[d] + length + ('S' in flags) + ('F' in flags)) & 0xffffffff
        step += 1

if __name__ == '__main__':
    first, n = int(sys.argv[1]), int(sys.argv[2])
    vswitchd = sys.argv[3] if len(sys.argv) > 3 else '/usr/sbin/ovs-vswitchd'
    sw = Switch(vswitchd)
    try:
        for seed in range(first, first + n):
            print('# seed %d' % seed)
            for seg in sequence(random.Random(seed)):
                reply, flags, seq, ack, win, length, scale = seg
                said = sw.judge(reply, 1024 + seed % 60000, flags, seq, ack, win, length, scale)
                print('%s %s %d %d %d %d%s = %s' % ('<' if reply else '>', flags or '-', seq, ack, win, length, '' if scale is None else ' %d' % scale, said))
    finally: sw.close()
