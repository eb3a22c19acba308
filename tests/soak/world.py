# SPDX-License-Identifier: Apache-2.0
"""The site that is soaked: what runs, where, and with which file.

  far end of a bad line (network namespace): counter-1..5 (4 and 5 found by DNS), front-1..2
            (sinew, TLS, before counter-1..2), grpc-1..2
  near end: agent-1, agent-2 (TLS and a token; both on etcd), sidecar, sidecar-2 (never killed), hub-1..2
            (etcd, NATS between them), registry-1..2 (PostgreSQL), registry-3 (SQLite), bridge, subscriber-1..2,
            and what is not ours: etcd, NATS, PostgreSQL, dynalite,
            kinesalite
  the agents, etcd, NATS and PostgreSQL are reached over lines of their own that can be cut.

What keeps files (hub-N.log, registry-3, the sidecar's state and its database) keeps them on a small tmpfs."""
import contextlib
import ctypes
import glob
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "../fault"), os.path.join(HERE, "../services")]
import net  # noqa: E402
import postgres  # noqa: E402
import services  # noqa: E402
from ports import free_port  # noqa: E402
from process import Outside, Process, now  # noqa: E402

CLONE_NEWNET = 0x40000000
STATE_MB = 96
TYPE = "soak.tick"
CHECKED = ("counter-1", "counter-2", "counter-3", "grpc-1", "grpc-2")  # and asked whether they are well
COUNTING = (*CHECKED, "counter-4", "counter-5")
LISTED, COUNTERS = 3, 5  # counters in the mesh file, and in all
CHECK = {"every": "500ms", "timeout": "1s", "healthy_after": 2, "unhealthy_after": 2}
POLICIES = {"connect-timeout": 700, "timeout": 2000, "deadline": 8000, "retry-initial-delay": 50, "retry-max-delay": 500,
            "breaker-open": 500, "breaker-max-open": 2000, "max-inflight": 2048}


def post(port, target, body):
    """To dynalite or kinesalite, by their own protocol; they ask for a signature and do not check it."""
    r = urllib.request.Request("http://127.0.0.1:%d/" % port, json.dumps(body).encode(), {
        "X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.%d" % ("Kinesis" in target),
        "X-Amz-Date": "20310101T000000Z",
        "Authorization": "AWS4-HMAC-SHA256 Credential=AK/20310101/eu-north-1/x/aws4_request, "
                         "SignedHeaders=host, Signature=0"})
    with urllib.request.urlopen(r, timeout=20) as a:
        text = a.read()
        return json.loads(text) if text else {}


def listens(host, port):
    def ready():
        with contextlib.suppress(OSError):
            socket.create_connection((host, port), 1).close()
            return True
        return False
    return ready


class World:
    def __init__(self, home, build, say):
        self.home, self.build, self.say = home, os.path.abspath(build), say
        self.binary = os.path.join(self.build, "sinew")
        self.peer = os.path.join(self.build, "tests/soak/soak_peer")
        self.missing = []  # what cannot be had here
        self.trouble, self.shunned = [], []  # shunned: (counter, from, to), when it was unwell and everybody knew
        self.processes, self.lines = {}, {}
        self.npm = None
        with contextlib.suppress(services.Missing):
            self.npm = services.npm()  # needs the machine's own network
        found = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
        self.faketime = found[0] if found else None
        if not found:
            self.lack("faketime is missing: no clock jumps")
        self._network()
        self._disk()

    def lack(self, what):
        self.missing.append(what)
        self.say("!!! SKIPPED: " + what)

    def _network(self):
        try:
            self.net = net.Namespaces()
            fd = os.open("/var/run/netns/" + self.net.devices[0], os.O_RDONLY | os.O_CLOEXEC)
            if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET) != 0:
                raise net.Impossible("setns")
            os.close(fd)
            self.far = ["nsenter", "--net=/var/run/netns/" + self.net.devices[1]]
        except (net.Impossible, OSError) as e:
            self.lack("no network namespaces (%s): a process lies between instead" % e)
            self.net = net.Streams()
            self.far = []
        self.bad_line = "%s: %s" % (self.net.name, "tc netem" if getattr(self.net, "netem", False) else
                                    "tests/fault/wire.py" + (" on TUN devices, this kernel has no netem"
                                                             if self.far else ""))

    def _disk(self):
        self.state = os.path.join(self.home, "state")
        os.mkdir(self.state)
        r = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dm" % STATE_MB, "soak", self.state],
                           capture_output=True, text=True)
        self.mounted = r.returncode == 0
        if not self.mounted:
            self.lack("no tmpfs can be mounted (%s): no full disk" % r.stderr.strip())

    def file(self, name, content):
        path = os.path.join(self.home, name)
        with open(path + ".new", "w") as f:
            json.dump(content, f)
        os.rename(path + ".new", path)
        return path

    def add(self, name, argv, **how):
        p = self.processes[name] = Process(self, name, argv, **how)
        p.start()
        return p

    def line(self, name, port):
        """To @port by a line of its own: where it begins."""
        self.lines[name] = net.Streams()
        return self.lines[name].place(port)[1]

    # ---- certificates ----

    def openssl(self, *args):
        subprocess.run(["openssl", *args], cwd=self.home, check=True, capture_output=True)

    def make_authority(self):
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                     "-subj", "/CN=soak authority", "-keyout", "ca.key", "-out", "ca.pem")
        self.make_certificate()

    def make_certificate(self):
        """A new one for the fronts and agent-2, put in place as careless people do: one file, a moment later the other."""
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=soak.test",
                     "-keyout", "new.key", "-out", "new.csr")
        with open(os.path.join(self.home, "ext"), "w") as f:
            f.write("subjectAltName=DNS:soak.test,IP:127.0.0.1\n")
        self.openssl("x509", "-req", "-in", "new.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                     "-days", "10", "-extfile", "ext", "-out", "new.pem")

    def put(self, name):
        os.replace(os.path.join(self.home, "new." + name), os.path.join(self.home, "server." + name))

    # ---- what runs ----

    def start(self):
        self.make_authority()
        self.put("pem"), self.put("key")
        self._far_end()
        self._names()
        self._servers()
        self._agents()
        self._hubs()
        self._registries()
        for p in self.processes.values():
            p.wait_ready()

    def _far_end(self):
        host, self.counters, self.fronts, self.greeters = self.net.far_host, [], [], []
        prefix = self.far
        for i in range(COUNTERS):
            port = free_port()
            self.counters.append(port)
            name = "counter-%d" % (i + 1)
            self.add(name, [sys.executable, os.path.join(HERE, "counter.py"), host, str(port), self.counted(name)],
                     prefix=prefix, ours=False, ready=listens(host, port))
        for i in range(2):
            port = free_port()
            self.fronts.append(port)
            path = self.file("front-%d.yaml" % (i + 1), {"name": "front-%d" % (i + 1), "listen": {"inbound": {
                "addr": "%s:%d" % (host, port), "to": "%s:%d" % (host, self.counters[i]),
                "tls": {"cert": self.home + "/server.pem", "key": self.home + "/server.key"}}}})
            self.add("front-%d" % (i + 1), [self.binary, "run", path], prefix=prefix, ready=listens(host, port))

            port, name = free_port(), "grpc-%d" % (i + 1)
            self.greeters.append(port)
            self.add(name, [self.peer, "serve", "%s:%d" % (host, port), self.counted(name)], prefix=prefix,
                     ready=listens(host, port))

        self.places = [[self.net.place(p) for p in ports] for ports in (self.counters, self.fronts, self.greeters)]

    def _names(self):
        """A name server for those that the mesh file does not list, if there is a Python that has dnspython."""
        self.resolver, has = free_port(), [p for p in (sys.executable, "/usr/bin/python3") if os.path.exists(p) and
                                           subprocess.run([p, "-c", "import dns.message"], capture_output=True).returncode == 0]
        if not has:
            self.lack("dnspython is missing: all instances stand in the mesh file")
            return
        self.add("names", [has[0], os.path.join(HERE, "names.py"), str(self.resolver), self.zone(range(COUNTERS))], ours=False,
                 ready=listens("127.0.0.1", self.resolver))

    def zone(self, counters):
        found = [(i, *self.places[0][i]) for i in counters if i >= LISTED]
        return self.file("zone", {"_count._tcp.soak.test SRV": ["0 1 %d host-%d.soak.test." % (port, i) for i, _, port in found],
                                  **{"host-%d.soak.test A" % i: [host] for i, host, _ in found}})

    def counted(self, name):
        """Where it writes down what it has counted; and with ".unwell" what came while it was unwell."""
        return os.path.join(self.home, name + ".counted")

    def _servers(self):
        etcd = services.Etcd()
        pg = postgres.Postgres().start()
        self.etcd_port = self.line("etcd", etcd.port)
        self.pg_port = self.line("postgres", pg.port)
        self.processes["etcd"], self.processes["postgres"] = Outside("etcd", etcd), Outside("postgres", pg)
        self.pg = pg
        with contextlib.suppress(services.Missing):
            self.processes["nats"] = Outside("nats", services.Broker("nats"))
            self.nats_port = self.line("nats", self.processes["nats"].server.port)
        if "nats" not in self.processes:
            self.lack("nats-server is missing: one hub")
        if self.npm is None:
            self.lack("npm or its packages are missing: no table, no queue")
            return
        self.dynalite, self.kinesalite = services.Npm("dynalite"), services.Npm("kinesalite")
        post(self.dynalite.port, "DynamoDB_20120810.CreateTable", {
            "TableName": "table", "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            "ProvisionedThroughput": {"ReadCapacityUnits": 1000, "WriteCapacityUnits": 1000}})
        post(self.kinesalite.port, "Kinesis_20131202.CreateStream", {"StreamName": "jobs", "ShardCount": 1})

    def mesh(self, counters=range(COUNTERS)):
        """The mesh file, with these instances of the service in it or in the DNS."""
        every, secret, grpc = ({str(i + 1): {"address": h, "port": p} for i, (h, p) in enumerate(places)}
                               for places in self.places)
        plain, named = ({i: p for i, p in every.items() if int(i) - 1 in counters and (int(i) > LISTED) == behind}
                        for behind in (False, True))
        named = {"instances": named}
        if "names" in self.processes:
            self.zone(counters)
            self.processes["names"].tell(signal.SIGHUP)
            named = {"from": "srv://_count._tcp.soak.test"}
        here = {"region": "eu-north-1", "credentials": {"accessKeyId": "AK", "secretAccessKey": "SK"}}
        mesh = {
            "services": {"counter": {"endpoints": {
                "plain": {"protocol": "http", "instances": plain, "check": dict(CHECK, http="/healthz")},
                "named": dict(named, check=dict(CHECK, tcp=True)),
                "tls": {"protocol": "https", "instances": secret,
                        "check": dict(CHECK, http="/healthz", host="soak.test", ca=self.home + "/ca.pem")},
                "grpc": {"protocol": "grpc", "instances": grpc, "check": dict(CHECK, grpc="")}}}},
            "databases": {
                "notes": [{"subClass": "sqlite", "config": {"path": self.state + "/notes.db"}}],
                "ledger": [{"subClass": "postgres", "config": {"host": "127.0.0.1", "port": self.pg_port,
                                                               "user": "sinew", "database": "postgres"}}]},
            "queues": {}, "resolver": "127.0.0.1:%d" % self.resolver,
            "policies": dict(POLICIES, **{"tls-ca": self.home + "/ca.pem", "tls-server-name": "soak.test"}),
            "tasks": {"client": {}, "sidecar": {}, "sidecar-2": {}}}
        if self.npm:
            mesh["databases"]["table"] = [{"tableName": "table", "config": dict(
                here, endpoint="http://127.0.0.1:%d" % self.dynalite.port)}]
            mesh["queues"]["jobs"] = [{"streamName": "jobs", "config": dict(
                here, endpoint="http://127.0.0.1:%d" % self.kinesalite.port)}]
        return self.file("mesh.yaml", mesh)

    def _agents(self):
        self.token, ca, mesh = os.urandom(12).hex(), self.home + "/ca.pem", self.mesh()
        with open(self.home + "/token", "w") as f:
            f.write(self.token + "\n")
        secret = ["--cert", self.home + "/server.pem", "--key", self.home + "/server.key", "--token", self.home + "/token"]
        self.agents = []  # (port, TLS or None, headers), by their lines
        for name, more, tls, headers in (
                ("agent-1", [], None, {}),
                ("agent-2", secret, ssl.create_default_context(cafile=ca), {"Authorization": "Bearer " + self.token})):
            port = free_port()
            self.add(name, [self.binary, "agent", "--listen", "127.0.0.1:%d" % port, "--mesh", mesh,
                            "--etcd", "http://127.0.0.1:%d" % self.etcd_port, *more], ready=listens("127.0.0.1", port))
            self.agents.append((self.line(name, port), tls, headers))
        self.secret_agent = port  # where it listens itself
        plain, secret = ("%s://127.0.0.1:%d/" % (scheme, a[0]) for scheme, a in zip(("ws", "wss"), self.agents))
        # What a program is told of its agent by the environment.
        self.client = {"BERLIOZ_AGENT_PATH": secret + "client", "SINEW_AGENT_TOKEN": self.token, "SSL_CERT_FILE": ca}
        self.sidecars = []
        for name, agent in (("sidecar", plain + "sidecar"), ("sidecar-2", {
                "url": secret + "sidecar-2", "token": "${file:%s/token}" % self.home, "tls": {"ca": ca}})):
            port = free_port()
            self.sidecars.append(port)
            path = self.file(name + ".yaml", {"name": name, "agent": agent, "listen": {"sidecar": "127.0.0.1:%d" % port},
                                              "state": os.path.join(self.state, name)})
            os.mkdir(os.path.join(self.state, name))
            self.add(name, [self.binary, "run", path], ready=listens("127.0.0.1", port), clock=name == "sidecar")

    def metadata(self, agent, task):
        """What @agent tells it."""
        port, tls, headers = agent
        r = urllib.request.Request("http%s://127.0.0.1:%d/%s" % ("s" if tls else "", port, task), headers=headers)
        with urllib.request.urlopen(r, timeout=20, context=tls) as a:
            return json.load(a)

    def ails(self, what):
        """Something is wrong with the run, whatever the load says."""
        self.trouble.append(what)

    def await_served(self, name, served, patience=15):
        """Until both agents name the instance, and the front before it, or do not any more."""
        kind, i = name.split("-")
        endpoints = ["grpc"] if kind == "grpc" else ["plain"] if int(i) > len(self.fronts) else ["plain", "tls"]
        end = now() + patience
        while now() < end:
            with contextlib.suppress(OSError, KeyError):
                told = [self.metadata(a, "client")["peers"]["service"]["counter"] for a in self.agents]
                if all((i in t[e]) == served for t in told for e in endpoints):
                    return
            time.sleep(0.05)
        self.ails("the agents %s %s after %d s" % ("do not name" if served else "still name", name, patience))

    def _hubs(self):
        self.hubs, self.delivered = [], []  # hubs: (broker, registry)
        for i in range(2 if "nats" in self.processes else 1):
            name, places = "hub-%d" % (i + 1), ["127.0.0.1:%d" % free_port() for _ in range(2)]
            hub = {"id": name, "broker": places[0], "registry": places[1], "log": "%s/%s.log" % (self.state, name),
                   "store": {"type": "etcd", "endpoints": ["http://127.0.0.1:%d" % self.etcd_port]},
                   "check": {"every": "2s", "failures": 6, "restarts": True}}  # a subscriber that is killed is missed
            if "nats" in self.processes:
                hub["bus"] = {"type": "nats", "url": "nats://127.0.0.1:%d" % self.nats_port, "durable": True}
            self.add(name, [self.binary, "hub", "--config", self.file(name + ".yaml", {"name": name, "hub": hub})],
                     clock=i == 0, ready=listens("127.0.0.1", int(places[0].split(":")[1])))
            self.hubs.append(places)
        for i in range(2):
            self.delivered.append(os.path.join(self.home, "delivered-%d" % (i + 1)))
            self.add("subscriber-%d" % (i + 1), [self.peer, "subscribe", "subscriber/%d" % (i + 1),
                                                 "127.0.0.1:%d" % free_port(), TYPE, *self.hubs[i % len(self.hubs)]],
                     out=self.delivered[i])

    def _registries(self):
        self.registries = [free_port() for _ in range(3)]
        url = "postgresql://sinew@127.0.0.1:%d/postgres" % self.pg_port
        for i, port in enumerate(self.registries):
            store = {"url": url} if i < 2 else {"storage-type": "sqlite", "path": self.state + "/registry.db"}
            name = "registry-%d" % (i + 1)
            path = self.file(name + ".yaml", {"name": name, "registry": dict(store, listen="127.0.0.1:%d" % port)})
            self.add(name, [self.binary, "registry", "serve", "--config", path],
                     ready=listens("127.0.0.1", port), clock=i == 2)
        self.bridge = free_port()
        path = self.file("bridge.yaml", {"name": "bridge", "bridge": {
            "url": ["http://127.0.0.1:%d" % p for p in self.registries[:2]], "timeout_ms": 2000, "connect_timeout_ms": 700,
            "poll_interval_ms": 0, "notifications": False, "websocket": {"listen": "127.0.0.1:%d" % self.bridge}}})
        self.add("bridge", [self.binary, "bridge", "--config", path], ready=listens("127.0.0.1", self.bridge))

    def look(self):
        for p in self.processes.values():
            p.look()

    def stop(self):
        """What ours said of its end: {name: status}, where it was not 0."""
        bad = {}
        for p in self.processes.values():
            if isinstance(p, Process):
                status = p.stop()
                if p.ours and status != 0:
                    bad[p.name] = "%s: %s" % ("had to be killed" if status is None else "status %d" % status, p.said())
        for name in ("dynalite", "kinesalite"):
            if hasattr(self, name):
                getattr(self, name).stop()
        for name, how in (("etcd", "stop"), ("nats", "stop"), ("postgres", "close")):
            if name in self.processes:
                getattr(self.processes[name].server, how)()
        for line in [*self.lines.values(), self.net]:
            line.stop()
        if self.mounted:
            subprocess.run(["umount", "-l", self.state], capture_output=True)
        return bad

    def remove(self):
        shutil.rmtree(self.home, ignore_errors=True)
