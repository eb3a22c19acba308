# SPDX-License-Identifier: Apache-2.0
"""What the tests of this folder share: processes of the binary, nodes in Node.js, packages as bytes."""
import json
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from urllib.parse import quote

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
import ports  # noqa: E402
from patience import PATIENCE, until  # noqa: E402

SINEW = os.path.abspath(os.environ.get("SINEW_BINARY", os.path.join(HERE, "../../build/sinew")))
LONG = bool(os.environ.get("SINEW_LONG"))
MU = "\u00b5Home"
BROKER_ID = MU + "/core/eventBroker"
REGISTRY_ID = MU + "/core/serviceRegistry"


def local():
    return "127.0.0.1:%d" % ports.free_port()


def split(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


class Pulse:
    """How long this process was not given the processor at most, in seconds."""

    def __enter__(self):
        self.longest, self.going = 0, True
        self.t = threading.Thread(target=self._beat, daemon=True)
        self.t.start()
        return self

    def _beat(self):
        while self.going:
            before = time.monotonic()
            time.sleep(0.05)
            self.longest = max(self.longest, time.monotonic() - before)

    def __exit__(self, *_):
        self.going = False
        self.t.join()


def listening(address):
    def is_open():
        try:
            socket.create_connection(split(address), timeout=1).close()
            return True
        except OSError:
            return False
    until(is_open, "somebody listens on " + address)


class Listener:
    """A server of the tests: serve(c) with each connection, in a thread of its own."""

    def __init__(self, address=None):
        self.address, self.connections = address or local(), 0
        self.s = socket.socket()
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.s.bind(split(self.address))
        self.s.listen(200)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                c, _ = self.s.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.s.close()


class Process:
    """A program; its lines of stdout and stderr are kept."""

    def __init__(self, args, env=None, cwd=None):
        self.p = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  env=env, cwd=cwd)
        self.out, self.err = [], []
        self.lines = queue.Queue()
        self.readers = [threading.Thread(target=self._read, args=a, daemon=True)
                        for a in ((self.p.stdout, self.out), (self.p.stderr, self.err))]
        for t in self.readers:
            t.start()

    def _read(self, f, to):
        for line in f:
            text = line.decode("utf-8", "replace").rstrip("\n")
            to.append(text)
            if to is self.out:
                self.took(text)

    def took(self, line):
        self.lines.put(line)

    def write(self, text):
        self.p.stdin.write(text.encode())
        self.p.stdin.flush()

    def end(self, how=signal.SIGTERM):
        """Ends it, if it has not; its status."""
        if self.p.poll() is None:
            self.p.send_signal(how)
        try:
            self.p.wait(PATIENCE)
        finally:
            if self.p.poll() is None:
                self.p.kill()
                self.p.wait()
            for t in self.readers:
                t.join(PATIENCE)
            for f in (self.p.stdin, self.p.stdout, self.p.stderr):
                try:
                    f.close()
                except OSError:
                    pass
        return self.p.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


class Sinew(Process):
    """`sinew ARGS`, in a directory of its own, without the caller's settings."""

    def __init__(self, folder, *args, config=None, env=None):
        folder = str(folder)
        e = {k: v for k, v in os.environ.items() if not k.startswith(("SINEW_", "NODE_", "BERLIOZ_"))}
        e.update({"XDG_RUNTIME_DIR": folder, "XDG_STATE_HOME": folder, "HOME": folder}, **(env or {}))
        args = list(args)
        if config is not None:
            path = os.path.join(folder, "sinew-%s.yaml" % uuid.uuid4().hex)
            with open(path, "w") as f:
                f.write(config)
            args += ["--config", path]
        super().__init__([SINEW] + args, env=e, cwd=folder)

    def __exit__(self, *_):
        status = self.end()
        assert status in (0, 1, 2, 3, 4, 5, -9, -15), "status %s: %s" % (status, "\n".join(self.err[-30:]))


def sinew(folder, *args, stdin="", **more):
    """Runs it to its end: (status, stdout, stderr)."""
    with Sinew(folder, *args, **more) as s:
        try:
            s.write(stdin)
            s.p.stdin.close()
        except BrokenPipeError:
            pass
        s.p.wait(PATIENCE)
        s.end()
        return s.p.returncode, "\n".join(s.out), "\n".join(s.err)


class Hub(Sinew):
    """A hub, or one of its two roles; ready when made."""

    def __init__(self, folder, *args, more="", broker=None, registry=None, only=None):
        self.broker, self.registry = broker or local(), registry or local()
        roles = {"broker": self.broker, "registry": self.registry}
        if only:
            for role in roles:
                if role != only:
                    roles[role] = "{listen: 'off', address: '%s'}" % roles[role]
        text = "hub:\n" + "".join("  %s: %s\n" % r for r in roles.items()) + "".join("  %s\n" % l for l in more.splitlines())
        super().__init__(folder, "hub", *args, config=text)
        for role in ("broker", "registry"):
            if only in (None, role):
                try:
                    listening(getattr(self, role))
                except AssertionError as e:
                    self.end()
                    raise AssertionError("%s; it said: %s" % (e, "\n".join(self.err)))


class Js(Process):
    """A peer in Node.js (peer.js)."""

    def __init__(self, role, **options):
        self.options = {"listen": local(), **options}
        self.address = self.options["listen"]
        self.said, self.results = [], {}
        self.changed = threading.Condition()
        self.n = 0
        super().__init__(["node", os.path.join(HERE, "peer.js"), role] + ["%s=%s" % o for o in self.options.items()])
        first = self.wait(lambda s: "started" in s)
        self.started = first["started"]

    def took(self, line):
        o = json.loads(line)
        with self.changed:
            if "re" in o:
                self.results[o["re"]] = o
            else:
                self.said.append(o)
            self.changed.notify_all()

    def wait(self, ok, n=1):
        """What it said that fits, when there are n; the last of them."""
        def have():
            return len(self.all(ok)) >= n
        with self.changed:
            if not self.changed.wait_for(have, PATIENCE):
                raise AssertionError("it said only %s; %s" % (self.said, self.err))
            return self.all(ok)[n - 1]

    def all(self, ok):
        return [s for s in self.said if ok(s)]

    def got(self, type_, n=1):
        """The nth event of a type that a handler was given."""
        return self.wait(lambda s: "got" in s and s["got"]["type"] == type_, n)["got"]

    def do(self, op, **args):
        self.n += 1
        n = self.n
        self.write(json.dumps({"op": op, "n": n, **args}) + "\n")
        with self.changed:
            assert self.changed.wait_for(lambda: n in self.results, PATIENCE), "no result of %s: %s" % (op, self.err)
            r = self.results.pop(n)
        if "failed" in r:
            raise RuntimeError(r["failed"])
        return r["result"]

    def end(self, how=signal.SIGTERM):
        try:
            self.p.stdin.close()
        except OSError:
            pass
        return super().end(how)


# Packages as bytes.

def package(payload, status=1, version=2):
    body = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
    return struct.pack(">HHB", len(body), version, status) + body


def event(type_, data=None, source="tester", **more):
    e = {"id": str(uuid.uuid4()), "timestamp": "2031-03-09T04:05:06.789Z", "source": source, "type": type_, **more}
    if data is not None:
        e["data"] = data
    return {k: v for k, v in e.items() if v is not None}


class Closed:
    """A connection that was refused or reset while it was made: as one that was closed at once."""

    def is_ended(self):
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def try_line(address):
    try:
        return Line(address)
    except ConnectionError:
        return Closed()


class Line:
    """A connection that keeps what it has read."""

    def __init__(self, address):
        self.s = socket.create_connection(split(address), timeout=PATIENCE)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.kept = b""

    def send(self, data):
        self.s.sendall(data)
        return self

    def half(self):
        self.s.shutdown(socket.SHUT_WR)
        return self

    def take(self, n):
        while len(self.kept) < n:
            piece = self.s.recv(65536)
            if not piece:
                return None
            self.kept += piece
        got, self.kept = self.kept[:n], self.kept[n:]
        return got

    def package(self):
        """(status, version, payload's bytes), or None at the end."""
        head = self.take(5)
        if head is None:
            assert not self.kept, "the stream ended within a package: %r" % self.kept
            return None
        size, version, status = struct.unpack(">HHB", head)
        body = self.take(size)
        assert body is not None, "the stream ended within a package"
        return status, version, body

    def reply(self):
        """(status, payload)."""
        p = self.package()
        assert p is not None, "the connection ended"
        return p[0], json.loads(p[2])

    def is_ended(self):
        """Nothing comes any more, and the other side has ended it (also by a reset)."""
        try:
            return not self.kept and self.s.recv(1) == b""
        except ConnectionResetError:
            return not self.kept

    def rest(self):
        try:
            while True:
                piece = self.s.recv(65536)
                if not piece:
                    break
                self.kept += piece
        except ConnectionResetError:
            pass
        got, self.kept = self.kept, b""
        return got

    def close(self):
        self.s.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def ask(address, type_, data=None, source="tester", **more):
    """One exchange: (status, the payload's data, or its error)."""
    with Line(address) as c:
        c.send(package(event(type_, data, source, **more)))
        status, p = c.reply()
        return status, p.get("data", p.get("error"))


def healthy(address):
    """It serves."""
    assert ask(address, MU + ".core.healthcheck") == (1, {"message": "Service is healthy"})


# ---- domain registries, and what speaks to them ----

TO = "domain://registry.nimbus.example"
ME = "hyperty://nimbus.example/me"
FULL = {"resources": ["chat", "audio"], "dataSchemes": ["comm"], "descriptor": "hyperty-catalogue://catalogue.d/.well-known/hyperty/Chat",
        "status": "live", "expires": 3000, "guid": "user-guid://g-1", "runtime": "hyperty-runtime://d/rt", "p2pRequester": "r", "p2pHandler": "h"}
OBJECT = {"schema": "hyperty-catalogue://catalogue.d/.well-known/dataschema/C", "reporter": "hyperty://d/rep", "name": "ob", "status": "live",
          "resources": ["chat"], "dataSchemes": ["comm"], "expires": 3000, "runtime": "hyperty-runtime://d/rt", "p2pRequester": "r"}


def seg(text):
    return quote(text, safe="")


def path(*segments):
    return "/" + "/".join(seg(s) for s in segments)


class Client:
    """One connection of HTTP/1.1, kept; the request's bytes are ours to choose."""

    def __init__(self, address, tls=None):
        self.address, self.tls, self.s = address, tls, None

    def open(self):
        s = socket.create_connection(split(self.address), timeout=PATIENCE)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.s = self.tls.wrap_socket(s, server_hostname="localhost") if self.tls else s
        self.f = self.s.makefile("rb")

    def close(self):
        if self.s:
            self.f.close()
            self.s.close()
            self.s = None

    def __call__(self, method, target, body=None, **headers):
        if not self.s:
            self.open()
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body, separators=(",", ":"))
        data = body.encode() if isinstance(body, str) else body
        h = {"Host": self.address, **{k.replace("_", "-"): v for k, v in headers.items()}}
        if data is not None:
            h.update({"Content-Type": "application/json", "Content-Length": str(len(data))})
        head = "%s %s HTTP/1.1\r\n%s\r\n" % (method, target, "".join("%s: %s\r\n" % x for x in h.items()))
        try:
            self.s.sendall(head.encode("utf-8", "surrogateescape") + (data or b""))
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was answered before it had come
        return self.read(method)

    def read(self, method="GET"):
        line = self.f.readline()
        assert line, "the connection ended"
        status = int(line.split()[1])
        headers = {}
        while True:
            line = self.f.readline().rstrip(b"\r\n")
            if not line:
                break
            k, v = line.decode().split(":", 1)
            headers[k.lower()] = v.strip()
        n = 0 if method == "HEAD" or status in (204, 304) else int(headers.get("content-length", "0"))
        body = self.f.read(n)
        if headers.get("connection", "").lower() == "close":
            self.close()
        self.headers = headers
        return status, body

    def json(self, method, target, body=None, **headers):
        status, text = self(method, target, body, **headers)
        assert self.headers["content-type"] == "application/json", self.headers
        return status, json.loads(text)


class Bridge(Sinew):
    """`sinew bridge --stdin`."""

    def __init__(self, folder, url, more=""):
        self.answers, self.told, self.changed = {}, [], threading.Condition()
        self.n = 0
        super().__init__(folder, "bridge", "--stdin", config="bridge:\n  url: %s\n%s" % (
            url, "".join("  %s\n" % l for l in more.splitlines())))

    def took(self, line):
        o = json.loads(line)
        with self.changed:
            if o.get("type", "").lower() == "response":
                key = json.dumps(o["id"]) if "id" in o else None
                assert key not in self.answers, "answered twice: " + line
                self.answers[key] = o
            else:
                self.told.append(o)
            self.changed.notify_all()

    def post(self, type_, body, **change):
        self.n += 1
        m = {"id": self.n, "type": type_, "from": ME, "to": TO, "body": body, **change}
        m = {k: v for k, v in m.items() if v is not ...}
        self.write(json.dumps(m, ensure_ascii=False) + "\n")
        return m

    def ask(self, type_, body, **change):
        """The response's body."""
        m = self.post(type_, body, **change)
        key = json.dumps(m["id"])
        with self.changed:
            assert self.changed.wait_for(lambda: key in self.answers, PATIENCE), "no answer to %.300s; %s" % (m, self.err)
            r = self.answers.pop(key)
        assert list(r) == ["id", "type", "from", "to", "body"] and r["type"] == "response", r
        assert (r["id"], r["from"], r["to"]) == (m["id"], m["to"], m["from"]) and type(r["id"]) is type(m["id"])
        return r["body"]

    def end(self, *how):
        try:
            self.p.stdin.close()
            self.p.wait(PATIENCE)
        except (OSError, ValueError):
            pass
        return super().end(*how)


class WebSocket:
    def __init__(self, address):
        self.s = socket.create_connection(split(address), timeout=PATIENCE)
        self.f = self.s.makefile("rb")
        self.s.sendall(("GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                        "Sec-WebSocket-Version: 13\r\n\r\n" % address).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.f.readline()
            assert line, head
            head += line
        assert head.startswith(b"HTTP/1.1 101") and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head

    def frame(self, data, op=1, fin=True):
        n, mask = len(data), os.urandom(4)
        size = bytes([0x80 | n]) if n < 126 else b"\xfe" + struct.pack(">H", n) if n < 65536 else b"\xff" + struct.pack(">Q", n)
        return bytes([(0x80 if fin else 0) | op]) + size + mask + bytes(b ^ mask[i & 3] for i, b in enumerate(data))

    def send(self, value, **how):
        data = value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()
        self.s.sendall(self.frame(data, **how))

    def take(self):
        """(op, data)."""
        a, n = self.f.read(2)
        assert not n & 0x80
        if n == 126:
            n = struct.unpack(">H", self.f.read(2))[0]
        elif n == 127:
            n = struct.unpack(">Q", self.f.read(8))[0]
        return a & 15, self.f.read(n)

    def ask(self, value):
        self.send(value)
        return self.answer()

    def answer(self):
        while True:
            op, data = self.take()
            assert op == 1, (op, data)
            r = json.loads(data)
            if r.get("type") == "response":
                return r["body"]

    def close(self):
        self.f.close()
        self.s.close()
