# SPDX-License-Identifier: Apache-2.0
"""Peers as processes that are spoken to line by line (README.md), and a tap between them."""
import contextlib
import hashlib
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading

import pytest

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from certs import authority, leaf  # noqa: E402

pytest.register_assert_rewrite("suite")
HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.abspath(os.environ.get("SINEW_BUILD_ROOT", os.path.join(HERE, "../../build")))
PEER = os.path.join(BUILD, "tests/grpc/grpc_peer")
PYTHON = "/usr/bin/python3"  # Debian's, which has grpcio
PATIENCE = float(os.environ.get("SINEW_TEST_PATIENCE", "60"))


# ---- grpc-js ----

def javascript():
    """Where grpc-js is installed; what stands in package-lock.json, from npm, once for each build
    directory. Without node or npm's registry the whole file is skipped (77), and says so."""
    folder = os.path.join(BUILD, "tests/grpc/js")
    with open(os.path.join(HERE, "package-lock.json"), "rb") as f:
        wanted = hashlib.sha256(f.read()).hexdigest()
    stamp = os.path.join(folder, "installed")
    if os.path.exists(stamp) and open(stamp).read() == wanted:
        return os.path.join(folder, "node_modules")
    reason = "node or npm is missing"
    if shutil.which("node") and shutil.which("npm"):
        os.makedirs(folder, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(os.path.join(HERE, name), folder)
        try:
            r = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund",
                                "--fetch-retries=1", "--fetch-timeout=20000"], cwd=folder,
                               capture_output=True, text=True, timeout=100)
            if r.returncode == 0:
                with open(stamp, "w") as f:
                    f.write(wanted)
                return os.path.join(folder, "node_modules")
            reason = "npm ci: " + " ".join(r.stderr.split())[-300:]
        except subprocess.TimeoutExpired:
            reason = "npm ci did not end"
    pytest.exit("SKIPPED, grpc-js is not tested: " + reason, returncode=77)


def pytest_sessionstart(session):
    if any("test_grpcjs" in arg for arg in session.config.args):
        javascript()


# ---- processes ----

class Lines:
    """A process: what it says is kept line by line."""

    def __init__(self, args, env=None):
        self.args = args
        self.p = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, bufsize=1,
                                  env=dict(os.environ, **(env or {})))
        self.lines, self.errors = [], []
        self.changed = threading.Condition()
        self.open = 2
        for stream, into in ((self.p.stdout, self.lines), (self.p.stderr, self.errors)):
            threading.Thread(target=self._pump, args=(stream, into), daemon=True).start()

    def _pump(self, stream, into):
        for line in stream:
            with self.changed:
                into.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.open -= 1
            self.changed.notify_all()

    def say(self, line):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()

    def mark(self):
        with self.changed:
            return len(self.lines)

    def wait(self, what, since=0, patience=PATIENCE):
        """The first line from @since on for which @what (a beginning, or a function) is true."""
        ask = what if callable(what) else lambda line: line.startswith(what)

        def found():
            return next((line for line in self.lines[since:] if ask(line)), None)
        with self.changed:
            if not self.changed.wait_for(lambda: found() is not None or self.open == 0, patience):
                raise AssertionError("%s: no %r within %d s; said %s, errors %s" % (
                    self.args[:3], what, patience, self.lines[since:], self.errors[-40:]))
            line = found()
        assert line is not None, "%s ended: %s %s" % (self.args[:3], self.lines[since:],
                                                      self.errors[-60:])
        return line

    def end(self):
        """It ends when its input does, well and without complaint."""
        if not self.p.stdin.closed:
            self.p.stdin.close()
        try:
            self.p.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("%s does not end: %s" % (self.args[:3], self.errors[-40:]))
        with self.changed:
            self.changed.wait_for(lambda: self.open == 0, PATIENCE)
        self.p.stdout.close()
        self.p.stderr.close()
        assert self.p.returncode == 0, (self.p.returncode, self.errors)
        assert self.errors == [], self.errors

    def kill(self):
        self.p.kill()
        self.p.wait()


def command(kind):
    return {"sinew": [PEER], "grpcio": [PYTHON, os.path.join(HERE, "peer.py")],
            "grpcjs": ["node", os.path.join(HERE, "peer.js")]}[kind]


def environment(kind):
    return {"NODE_PATH": javascript(), "NO_COLOR": "1", "NODE_OPTIONS": "--no-deprecation"} if kind == "grpcjs" else \
        {"GRPC_VERBOSITY": "NONE"} if kind == "grpcio" else {}


class Server(Lines):
    def __init__(self, kind, address="127.0.0.1:0", cert=None, key=None, ca=None, more=()):
        self.kind = kind
        if kind == "sinew":
            tls = ["--%s=%s" % (n, v) for n, v in (("cert", cert), ("key", key), ("ca", ca)) if v]
        else:
            tls = [v for v in (cert, key, ca) if v]
        super().__init__(command(kind) + ["serve", address] + tls + list(more), environment(kind))
        self.port = int(self.wait("port ").split()[1])
        self.address = "127.0.0.1:%d" % self.port

    def restart(self):
        since = self.mark()
        self.say("restart")
        assert self.wait("port ", since) == "port %d" % self.port


class Client(Lines):
    def __init__(self, kind, address, ca=None, cert=None, key=None):
        self.kind = kind
        if kind == "sinew":
            tls = ["--%s=%s" % (n, v) for n, v in (("ca", ca), ("cert", cert), ("key", key)) if v]
        else:
            tls = [v for v in (ca, cert, key) if v]
        super().__init__(command(kind) + ["client", address] + tls, environment(kind))

    def begin(self, case):
        self.since = self.mark()
        self.case = case
        self.say(case)

    def at(self, where):
        """It says "at @where"; the next such line is looked for behind it."""
        line = self.wait(lambda l: l.startswith(("at ", "FAILED ")), self.since)
        assert line == "at " + where
        self.since = self.lines.index(line, self.since) + 1

    def finish(self):
        line = self.wait(lambda l: l.startswith(("ok ", "FAILED ")), self.since)
        assert line == "ok " + self.case

    def run(self, case):
        self.begin(case)
        self.finish()


# ---- what is on the wire ----

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Half:
    """One direction of a connection."""

    def __init__(self, preface):
        self.bytes = bytearray()
        self.preface = preface

    def frames(self):
        """[(type, flags, stream, payload)] of what is complete."""
        at, found = len(PREFACE) if self.preface else 0, []
        if self.preface and len(self.bytes) >= at:
            assert self.bytes[:at] == PREFACE
        while at + 9 <= len(self.bytes):
            size = int.from_bytes(self.bytes[at:at + 3], "big")
            kind, flags, stream = struct.unpack(">BBI", self.bytes[at + 3:at + 9])
            if at + 9 + size > len(self.bytes):
                break
            found.append((kind, flags, stream & 0x7fffffff, bytes(self.bytes[at + 9:at + 9 + size])))
            at += 9 + size
        return found

    def messages(self):
        """[(compressed, size)] of all gRPC messages in the order of their streams."""
        streams = {}
        for kind, flags, stream, payload in self.frames():
            if kind == DATA:
                if flags & 8:
                    payload = payload[1:len(payload) - payload[0]]
                streams[stream] = streams.get(stream, b"") + payload
        found = []
        for _, data in sorted(streams.items()):
            at = 0
            while at + 5 <= len(data):
                flag, size = struct.unpack(">BI", data[at:at + 5])
                found.append((flag, size))
                at += 5 + size
            assert at == len(data), "a message is cut off"
        return found


class Tap:
    """A relay that keeps what passes. hole(): nothing passes any more; cut(): both ends are reset."""

    def __init__(self, port):
        self.upstream = port
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.sock.getsockname()[1]
        self.changed = threading.Condition()
        self.connections = []  # (from the client, from the server)
        self.sockets = []
        self.silent = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                a, _ = self.sock.accept()
                b = socket.create_connection(("127.0.0.1", self.upstream))
            except OSError:
                return
            halves = (Half(True), Half(False))
            with self.changed:
                self.connections.append(halves)
                self.sockets += [a, b]
            threading.Thread(target=self._pump, args=(a, b, halves[0]), daemon=True).start()
            threading.Thread(target=self._pump, args=(b, a, halves[1]), daemon=True).start()

    def _pump(self, source, sink, half):
        try:
            while True:
                data = source.recv(1 << 16)
                if not data:
                    break
                if self.silent:
                    continue
                with self.changed:
                    half.bytes += data
                    self.changed.notify_all()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def wait(self, what):
        with self.changed:
            assert self.changed.wait_for(what, PATIENCE), [
                (h.frames()[-5:]) for c in self.connections for h in c]

    def count(self, side, kind, flags):
        """Frames of one kind on all connections; @side 0: of the client."""
        return sum(f[0] == kind and f[1] == flags
                   for c in self.connections for f in c[side].frames())

    def hole(self):
        self.silent = True

    def cut(self):
        for s in self.sockets:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):  # the other pump was quicker
                s.shutdown(socket.SHUT_RDWR)
            s.close()

    def stop(self):
        self.sock.close()
        for s in self.sockets:
            s.close()


# ---- fixtures ----

@pytest.fixture
def things():
    """add(thing): is ended after the test; a process has to end well."""
    all_of_them = []

    def add(thing):
        all_of_them.append(thing)
        return thing
    yield add
    problems = []
    for t in reversed(all_of_them):
        if isinstance(t, Tap):
            t.stop()
        elif t.p.poll() is None:
            try:
                t.end()
            except AssertionError as e:
                problems.append(e)
    assert not problems, problems


@pytest.fixture(scope="module")
def servers():
    """servers(kind): a plain one, shared by tests that leave it as it was; it has to end well."""
    started = {}

    def get(kind):
        if kind not in started or started[kind].p.poll() is not None:
            started[kind] = Server(kind)
        return started[kind]
    yield get
    for server in started.values():
        server.end()


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    """(ca, cert, key) of localhost and 127.0.0.1, and another CA that signed nothing."""
    d = tmp_path_factory.mktemp("certs")

    for ca in ("ca", "other"):
        authority(d, ca)
    leaf(d, "localhost")

    class Certs:
        ca, cert, key = (str(d / n) for n in ("ca.pem", "localhost.pem", "localhost.key"))
        other = str(d / "other.pem")
    return Certs


@pytest.fixture(scope="session")
def descriptors(tmp_path_factory):
    """A FileDescriptorSet of TestService, for reflection."""
    path = str(tmp_path_factory.mktemp("descriptors") / "test.desc")
    subprocess.run(["protoc", "-I/usr/share/grpc-proto", "--include_imports", "-o" + path,
                    "grpc/testing/test.proto"], check=True)
    return path


class Pair:
    """A server and a client of two kinds that run case after case; new ones after a failure."""

    def __init__(self, kinds):
        self.kinds = kinds
        self.server = self.client = None

    def run(self, case):
        if self.server is None or self.server.p.poll() is not None:
            self.server = Server(self.kinds[0])
            self.client = Client(self.kinds[1], self.server.address)
        if self.client.p.poll() is not None:
            self.client = Client(self.kinds[1], self.server.address)
        self.since = self.server.mark()
        try:
            self.client.run(case)
        except AssertionError:
            # What has not ended must not spoil the others.
            if self.client.lines[-1:] != [] and self.client.lines[-1].startswith("FAILED"):
                raise
            self.stop()
            raise

    def end(self):
        for p in (self.client, self.server):
            if p is not None:
                p.end()

    def stop(self):
        for p in (self.client, self.server):
            if p is not None and p.p.poll() is None:
                p.kill()


@pytest.fixture(scope="module")
def pair(request):
    p = Pair(request.param)
    yield p
    p.stop()


# What also runs without any of ours.
PEERS_AGREE = {"test_case", "test_compression", "test_cancel_reaches_the_server",
               "test_health_watch", "test_goaway_while_calling", "test_peers_end_well"}


def pytest_generate_tests(metafunc):
    """A file that tests peers says which: PAIRS = [(server, client)]."""
    pairs = getattr(metafunc.module, "PAIRS", [])
    names = ["%s-serves-%s" % p for p in pairs]
    if metafunc.definition.name not in PEERS_AGREE:
        pairs = [p for p in pairs if "sinew" in p]
        names = ["%s-serves-%s" % p for p in pairs]
    if "pair" in metafunc.fixturenames:
        metafunc.parametrize("pair", pairs, indirect=True, scope="module", ids=names)
    elif "kinds" in metafunc.fixturenames:
        metafunc.parametrize("kinds", pairs, ids=names)
