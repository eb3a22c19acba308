#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Servers that are not ours, for tests: dynalite, kinesalite (npm), Swift with its S3 API and etcd (Debian).

usage: services.py NAME... -- COMMAND   start the servers, run the command with TEST_*_URL in its
                                        environment, stop them; 77 when one cannot be had

Everything is on loopback and on ports that were free, is in memory or in a directory that is thrown
away, and ends with this process. Packages of npm are installed once, as package-lock.json says, into
$XDG_CACHE_HOME/sinew (~/.cache/sinew). README.md says what each server can and cannot do.
"""
import contextlib
import fcntl
import hashlib
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, ".."))
from ports import free_ports  # noqa: E402

PATIENCE = float(os.environ.get("SINEW_TEST_PATIENCE", "100"))


class Missing(Exception):
    """The server cannot be had on this machine; the test is to be skipped."""


def npm(source=HERE):
    """Where the packages of @source's package-lock.json are: installed at the first use. Missing."""
    with open(os.path.join(source, "package-lock.json"), "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()[:16]
    cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "sinew")
    folder = os.path.join(cache, "npm-" + digest)
    modules = os.path.join(folder, "node_modules")
    if os.path.isdir(modules):
        return modules
    if not shutil.which("npm"):
        raise Missing("npm is missing")
    os.makedirs(cache, exist_ok=True)
    with open(folder + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two builds are tested at once
        if os.path.isdir(modules):
            return modules
        # Whole or not at all: made beside, then moved.
        with tempfile.TemporaryDirectory(dir=cache) as made:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(os.path.join(source, name), made)
            try:
                r = subprocess.run(
                    ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund",
                     "--fetch-retries=1", "--fetch-timeout=20000"], cwd=made,
                    stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150)
            except subprocess.TimeoutExpired:
                raise Missing("npm ci did not end")
            if r.returncode != 0:
                raise Missing("npm ci: " + " ".join(r.stderr.split())[-300:])
            os.makedirs(folder, exist_ok=True)
            os.rename(os.path.join(made, "node_modules"), modules)
    return modules


class Node:
    """A program of this folder on node: ends when its input does."""

    def __init__(self, *args):
        env = dict(os.environ, NODE_PATH=npm(), NODE_NO_WARNINGS="1", NO_COLOR="1")
        # What the SDKs would read must not come from the machine.
        for name in [n for n in env if n.startswith("AWS_")]:
            del env[name]
        env.update(AWS_CONFIG_FILE="/dev/null", AWS_SHARED_CREDENTIALS_FILE="/dev/null",
                   AWS_EC2_METADATA_DISABLED="true")
        self.errors = tempfile.TemporaryFile("w+")
        self.p = subprocess.Popen(["node"] + [os.path.join(HERE, args[0])] + list(args[1:]), env=env,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                  text=True, bufsize=1)
        self.lines = queue.Queue()
        threading.Thread(target=self._pump, daemon=True).start()

    def _pump(self):
        for line in self.p.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def line(self, patience=PATIENCE):
        try:
            line = self.lines.get(timeout=patience)
        except queue.Empty:
            line = None
        if line is None:
            self.errors.seek(0)
            raise AssertionError("%s: no line; errors: %s" % (self.p.args[1:], self.errors.read()[-2000:]))
        return line

    def say(self, line):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()

    def stop(self):
        with contextlib.suppress(OSError):
            self.p.stdin.close()
        try:
            self.p.wait(5)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
        self.p.stdout.close()
        self.errors.close()


class Npm:
    """dynalite or kinesalite."""

    def __init__(self, kind, port=0):
        self.kind = kind
        self.node = Node("servers.js", kind, str(port))
        self.port = int(self.node.line().split()[1])
        self.url = "http://127.0.0.1:%d" % self.port

    def env(self):
        return {"TEST_%s_URL" % self.kind.upper(): self.url}

    def stop(self):
        self.node.stop()

    def restart(self):
        """Again on the same port, empty."""
        self.node.stop()
        self.__init__(self.kind, self.port)


class Sdk:
    """The official AWS SDK for JavaScript (sdk.js)."""

    def __init__(self):
        self.node = Node("sdk.js")
        self.lock = threading.Lock()

    def call(self, service, op, params, url, key="test", secret="test", region="eu-north-1"):
        """The answer's object, {"error": name, ...} for an error."""
        config = {"endpoint": url, "region": region,
                  "credentials": {"accessKeyId": key, "secretAccessKey": secret}}
        with self.lock:
            self.node.say(json.dumps({"service": service, "op": op, "params": params,
                                      "config": config}))
            answer = json.loads(self.node.line())
        return answer.get("ok", answer)

    def stop(self):
        self.node.stop()


SWIFT = "/usr/bin/swift-proxy-server"
SWIFT_RUN = """
import runpy, sys
from swift.common import utils
utils.set_swift_dir(sys.argv[1])
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""
SWIFT_RINGS = """
import sys
from swift.common.ring import RingBuilder
for kind, port in zip(('account', 'container', 'object'), sys.argv[2:]):
    ring = RingBuilder(part_power=4, replicas=1, min_part_hours=0)
    ring.add_dev({'region': 1, 'zone': 1, 'ip': '127.0.0.1', 'port': int(port), 'device': 'd1',
                  'weight': 1.0})
    ring.rebalance()
    ring.get_ring().save('%s/%s.ring.gz' % (sys.argv[1], kind))
"""
SWIFT_FILTERS = ["catch_errors", "gatekeeper", "healthcheck", "listing_formats"]


class Swift:
    """OpenStack Swift, one replica: its S3 API (region us-east-1) verifies Signature V4."""

    key, secret, region = "test:tester", "testing", "us-east-1"

    def __init__(self):
        if not os.path.exists(SWIFT) or shutil.which("memcached") is None:
            raise Missing("swift-proxy or memcached is missing")
        self.processes = []
        self.folder = tempfile.mkdtemp(prefix="sinew-swift-", dir="/var/tmp")  # tmpfs may lack xattrs
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _spawn(self, name, args):
        log = open(os.path.join(self.folder, name + ".log"), "w")
        self.processes.append(subprocess.Popen(["setpriv", "--pdeathsig", "KILL"] + args,
                                               stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        log.close()

    def _write(self, name, text):
        with open(os.path.join(self.folder, name), "w") as f:
            f.write(text)

    def _start(self):
        user = subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip()
        cache, account, container, objects, self.port = free_ports(5)
        self.url = "http://127.0.0.1:%d" % self.port
        os.makedirs(os.path.join(self.folder, "devices/d1"))
        self._write("run.py", SWIFT_RUN)
        self._write("swift.conf", "[swift-hash]\nswift_hash_path_prefix = s\n"
                    "swift_hash_path_suffix = s\n[swift-constraints]\nmax_meta_overall_size = 2048\n"
                    "[storage-policy:0]\nname = default\ndefault = yes\n")
        subprocess.run(["/usr/bin/python3", "-c", SWIFT_RINGS, self.folder, str(account),
                        str(container), str(objects)], check=True, capture_output=True)
        common = "[DEFAULT]\nbind_ip = 127.0.0.1\nswift_dir = %s\nuser = %s\nworkers = 0\n" \
                 "bind_port = %%d\n" % (self.folder, user)
        self._spawn("memcached", ["memcached", "-l", "127.0.0.1", "-p", str(cache), "-U", "0",
                                  "-m", "16", "-u", user])
        for kind, port in (("account", account), ("container", container), ("object", objects)):
            self._write(kind + "-server.conf", common % port +
                        "devices = %s/devices\nmount_check = false\nfallocate_reserve = 0\n"
                        "[pipeline:main]\npipeline = %s-server\n[app:%s-server]\n"
                        "use = egg:swift#%s\nconn_timeout = 20\nnode_timeout = 30\n"
                        % (self.folder, kind, kind, kind))
            self._server(kind)
        self._write("proxy-server.conf", common % self.port +
                    "[pipeline:main]\npipeline = catch_errors gatekeeper healthcheck cache "
                    "listing_formats s3api tempauth proxy-server\n[app:proxy-server]\n"
                    "use = egg:swift#proxy\naccount_autocreate = true\n"
                    "error_suppression_interval = 0\nconn_timeout = 20\nnode_timeout = 30\n[filter:tempauth]\nuse = egg:swift#tempauth\n"
                    "user_test_tester = testing .admin\n[filter:cache]\nuse = egg:swift#memcache\n"
                    "memcache_servers = 127.0.0.1:%d\n[filter:s3api]\nuse = egg:swift#s3api\n"
                    "location = us-east-1\n" % cache +
                    "".join("[filter:%s]\nuse = egg:swift#%s\n" % (f, f) for f in SWIFT_FILTERS))
        self._server("proxy")
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self._use()
                return
            except (OSError, KeyError):
                dead = [p.args for p in self.processes if p.poll() is not None]
                if dead or time.monotonic() > end:
                    raise AssertionError("Swift does not start: %s\n%s" % (dead, self.logs()))
                time.sleep(0.1)

    def _use(self):
        """A token, a container and an object: each of the servers has its part in one of them."""
        def ask(url, method="GET", **headers):
            r = urllib.request.urlopen(urllib.request.Request(
                url, b"" if method == "PUT" else None, headers, method=method), timeout=20)
            with r:
                return dict(r.headers)
        given = ask(self.url + "/auth/v1.0", **{"X-Auth-User": self.key, "X-Auth-Key": self.secret})
        token, storage = {"X-Auth-Token": given["X-Auth-Token"]}, given["X-Storage-Url"]
        ask(storage, **token)
        ask(storage + "/ready", "PUT", **token)
        ask(storage + "/ready/too", "PUT", **token)

    def _server(self, kind):
        self._spawn(kind, ["/usr/bin/python3", os.path.join(self.folder, "run.py"), self.folder,
                           "/usr/bin/swift-%s-server" % kind,
                           os.path.join(self.folder, kind + "-server.conf"), "--verbose"])

    def logs(self):
        text = ""
        for name in sorted(os.listdir(self.folder)):
            if name.endswith(".log"):
                with open(os.path.join(self.folder, name), errors="replace") as f:
                    text += "--- %s\n%s" % (name, f.read()[-1500:])
        return text

    def env(self):
        return {"TEST_SWIFT_URL": self.url, "TEST_SWIFT_KEY": self.key,
                "TEST_SWIFT_SECRET": self.secret, "TEST_SWIFT_REGION": self.region}

    def stop(self):
        for p in self.processes:
            p.kill()
        for p in self.processes:
            p.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Etcd:
    """etcd-server, one member; .kill() and .start() keep what it holds."""

    def __init__(self):
        if shutil.which("etcd") is None:
            raise Missing("etcd-server is missing")
        self.folder = tempfile.mkdtemp(prefix="sinew-etcd-")
        self.port, self.peer_port = free_ports(2)
        self.url = "http://127.0.0.1:%d" % self.port
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self):
        peer = "http://127.0.0.1:%d" % self.peer_port
        with open(os.path.join(self.folder, "log"), "a") as log:
            self.p = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "etcd", "--name", "t",
                 "--data-dir", os.path.join(self.folder, "data"),
                 "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
                 "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                 "--initial-cluster", "t=" + peer, "--heartbeat-interval", "10",
                 "--election-timeout", "100", "--logger", "zap", "--log-level", "warn"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.post("/v3/kv/range", {"key": "AA=="})
                return
            except OSError:
                if self.p.poll() is not None or time.monotonic() > end:
                    with open(os.path.join(self.folder, "log"), errors="replace") as log:
                        raise AssertionError("etcd does not start: " + log.read()[-2000:])
                time.sleep(0.02)

    def post(self, path, body):
        """Through its JSON gateway (keys and values in base64)."""
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=5) as r:
            return json.load(r)

    def kill(self, number=signal.SIGKILL):
        self.p.send_signal(number)
        if number == signal.SIGKILL:
            self.p.wait()

    def env(self):
        return {"TEST_ETCD_URL": self.url}

    def stop(self):
        if hasattr(self, "p"):
            self.p.kill()
            self.p.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Broker:
    """A message broker: nats-server with JetStream, or mosquitto; .kill() and .start() keep what it
    holds."""

    def __init__(self, kind):
        self.kind = kind
        self.program = {"nats": "/usr/sbin/nats-server", "mosquitto": "/usr/sbin/mosquitto"}[kind]
        if not os.path.exists(self.program):
            raise Missing(os.path.basename(self.program) + " is missing")
        self.folder = tempfile.mkdtemp(prefix="sinew-%s-" % kind)
        self.port = free_ports(1)[0]
        self.url = "%s://127.0.0.1:%d" % ("nats" if kind == "nats" else "mqtt", self.port)
        with open(os.path.join(self.folder, "conf"), "w") as f:
            if kind == "nats":
                f.write("host: 127.0.0.1\nport: %d\njetstream { store_dir: \"%s/js\" }\n" %
                        (self.port, self.folder))
            else:
                f.write("listener %d 127.0.0.1\nallow_anonymous true\n" % self.port)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self):
        with open(os.path.join(self.folder, "log"), "a") as log:
            self.p = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", self.program, "-c",
                                       os.path.join(self.folder, "conf")],
                                      stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
                return
            except OSError:
                if self.p.poll() is not None or time.monotonic() > end:
                    raise AssertionError("%s does not start" % self.program)
                time.sleep(0.02)

    def env(self):
        return {"TEST_%s_URL" % self.kind.upper(): self.url}

    def kill(self):
        self.p.kill()
        self.p.wait()

    def stop(self):
        if hasattr(self, "p"):
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def start(name):
    """A running server with .url, .env() and .stop(). Missing."""
    if name == "etcd":
        return Etcd()
    if name in ("nats", "mosquitto"):
        return Broker(name)
    return Swift() if name == "swift" else Npm(name)


def main():
    if "--" not in sys.argv:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    at = sys.argv.index("--")
    names, command = sys.argv[1:at], sys.argv[at + 1:]
    if not command or not set(names) <= {"dynalite", "etcd", "kinesalite", "swift", "nats", "mosquitto"}:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _: sys.exit(128 + n))
    running = []
    try:
        env = dict(os.environ)
        for name in names:
            running.append(start(name))
            env.update(running[-1].env())
        return subprocess.run(command, env=env).returncode
    except Missing as why:
        print("SKIPPED: %s" % why)
        return 77
    finally:
        for server in running:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())
