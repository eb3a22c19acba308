# SPDX-License-Identifier: Apache-2.0
"""What is attacked, and what must hold while it is.

SINEW_H2_TARGET=nghttpd attacks nghttpd instead of our server: what a hardened server answers.
"""
import contextlib
import http.client
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time

import h2raw

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from ports import free_port  # noqa: E402,F401

BUILD = os.environ.get("SINEW_BUILD_ROOT", "build")
NGHTTPD = os.environ.get("SINEW_H2_TARGET") == "nghttpd"
LONG = bool(os.environ.get("SINEW_LONG"))  # make soak: more of everything
MIB = 1 << 20
FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))  # ours and those of who we start
if os.environ.get("SINEW_H2_DEBUG"):
    threading.excepthook = lambda a: print("thread:", a.exc_value)


def wait_until(holds, seconds=60.0):
    """For what another process will do."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class Process:
    """A server process that prints where it listens (the port is last) and ends with its stdin,
    leaving nothing behind."""

    def __init__(self, argv, env=None, first=""):
        self.p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, env=dict(os.environ, **(env or {})))
        line = self.p.stdout.readline().decode().strip()
        assert line.startswith(first), self.p.communicate()
        self.port = int(line.replace(":", " ").split()[-1])
        self.usage = h2raw.Usage(self.p.pid)

    def end(self):
        assert self.p.poll() is None, self.p.communicate()
        out, err = self.p.communicate(timeout=20)
        assert (self.p.returncode, err) == (0, b"")


class OurServer(Process):
    def __init__(self, *args, **env):
        super().__init__([os.path.join(BUILD, "tests", "http", "http_peer"), "serve", "127.0.0.1:0",
                          *args], env)


class Nghttpd:
    def __init__(self, root):
        for name, size in (("hello", 6), ("endless", 1 << 28), ("all", 1), ("echo", 1)):
            with open(os.path.join(root, name), "wb") as f:
                f.write(b"hello\n") if size == 6 else f.truncate(size)
        self.port = free_port()
        self.p = subprocess.Popen(["nghttpd", "--no-tls", "-a", "127.0.0.1", "--echo-upload", "-d",
                                   root, str(self.port)], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        self.usage = h2raw.Usage(self.p.pid)

        def up():
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return True
        assert wait_until(up)

    def end(self):
        assert self.p.poll() is None
        self.p.terminate()
        self.p.wait()


class Canary(threading.Thread):
    """An honest client: asks again and again, over a kept connection and over new ones; or calls
    @ask(), which tells what was wrong or ""."""

    def __init__(self, port, ask=None):
        super().__init__(daemon=True)
        self.port, self.whole = port, ask
        self.over = threading.Event()
        self.asked, self.slowest, self.bad = 0, 0.0, []

    def ask(self, conn):
        a = conn.ask("/hello")
        return "" if (a.status, bytes(a.body)) == (200, b"hello\n") else \
            "%s %s %r" % (a.status, a.reset, bytes(a.body[:50]))

    def run(self):
        kept = None
        while not self.bad:
            last = self.over.is_set()  # once more after all
            begun = time.monotonic()
            try:
                if self.whole:
                    problem = self.whole()
                else:
                    kept = kept or h2raw.connect(self.port)
                    problem = self.ask(kept)
                    kept.answers.clear()
                    if self.asked % 8 == 0 or last:
                        with h2raw.connect(self.port) as fresh:
                            problem = problem or self.ask(fresh)
                self.slowest = max(self.slowest, time.monotonic() - begun)
            except (h2raw.Closed, OSError) as e:
                problem = repr(e)
            self.asked += 1
            if problem:
                self.bad.append(problem)
            if last:
                break
            self.over.wait(0.005)
        if kept is not None:
            kept.close()


class Siege(contextlib.ExitStack):
    """with Siege(server) as s: s.connect() ... Meanwhile others are served as ever; afterwards the
    process has taken no more than @grows bytes at its peak and holds no descriptor more."""

    def __init__(self, server, grows=6 * MIB, slowest=5.0, ask=None):
        super().__init__()
        self.server, self.grows, self.slowest, self.ask = server, grows, slowest, ask

    def connect(self, *args, **kw):
        return self.enter_context(h2raw.connect(self.server.port, *args, **kw))

    @property
    def rss(self):
        return self.server.usage.rss

    def __enter__(self):
        warm = Canary(self.server.port, self.ask)
        warm.over.set()
        warm.run()
        assert warm.bad == []
        usage = self.server.usage
        usage.reset_peak()
        self.before, self.fds = usage.rss, usage.fds
        self.canary = Canary(self.server.port, self.ask)
        self.canary.start()
        return self

    def __exit__(self, kind, value, trace):
        super().__exit__(kind, value, trace)
        self.canary.over.set()
        self.canary.join()
        if kind is not None:
            return False
        usage = self.server.usage
        assert self.server.p.poll() is None, "the process died"
        assert self.canary.bad == [], "others are not served"
        assert self.canary.slowest < self.slowest
        self.grown = usage.peak - self.before
        if not usage.sanitized:
            assert self.grown <= self.grows, "grew by %d KiB" % (self.grown >> 10)
        assert wait_until(lambda: usage.fds <= self.fds), (usage.fds, self.fds)
        if os.environ.get("SINEW_H2_FIGURES"):
            print("\n  grew %d KiB, canary %d, slowest %.0f ms" % (
                self.grown >> 10, self.canary.asked, self.canary.slowest * 1000), end=" ")
        return False


# ---- servers of ours that misbehave, and the client they are asked by ----

OK = h2raw.indexed(8)  # :status 200


def hello(c, f):
    """How an honest server answers the request that began with frame @f."""
    c.send(h2raw.headers(f.stream, OK, end_stream=False), h2raw.data(f.stream, b"hello\n", True))


class Peer:
    """An HTTP/2 server: @answer(conn, frame) is called for each request's head; @settings are its
    first frame, @begin(conn) may do something else before anything is read."""

    def __init__(self, answer=hello, settings=(), begin=None):
        self.answer, self.settings, self.begin = answer, settings, begin
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self.listener.getsockname()[1]
        self.conns, self.problems = set(), []
        self.verdicts, self.resets = [], []  # codes of what clients sent us
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(h2raw.Conn(sock),), daemon=True).start()

    def serve(self, c):
        self.conns.add(c)
        try:
            if self.begin:
                self.begin(c)
            while len(c.buf) < len(h2raw.PREFACE):
                piece = c.sock.recv(65536)
                if not piece:
                    return
                c.buf += piece
            del c.buf[:len(h2raw.PREFACE)]
            c.send(h2raw.settings(*self.settings))
            while True:
                if c.requests:
                    self.answer(c, c.requests.pop(0))
                else:
                    c.read(60)
        except (h2raw.Closed, OSError):
            pass
        except Exception as e:  # pylint: disable=broad-except
            self.problems.append(repr(e))
        finally:
            self.resets += [a.reset for a in c.answers.values() if a.reset is not None]
            if c.goaways:
                self.verdicts.append(c.goaways[-1].code)
            c.close()
            self.conns.discard(c)

    def end(self):
        self.listener.close()
        for c in list(self.conns):
            with contextlib.suppress(OSError):
                c.sock.shutdown(socket.SHUT_RDWR)
        assert wait_until(lambda: not self.conns)
        assert self.problems == []


class Sidecar(Process):
    """`sinew run`: one client process that can be asked again and again. Targets: service evil, and
    service good for the canary."""

    def __init__(self, root, evil, good, protocol="h2", **policies):
        policies = dict({"breaker": False, "retry-count": 1, "timeout": 700, "deadline": 700,
                         "idle-timeout": 700, "retry-initial-delay": 10, "pool-idle": 100}, **policies)
        self.port = free_port()

        def peer(port, protocol="h2"):
            return {"rest": {"1": {"protocol": protocol, "networkProtocol": "tcp", "port": port,
                                   "address": "127.0.0.1"}}}
        config = {"name": "h2", "listen": {"sidecar": "127.0.0.1:%d" % self.port},
                  "peers": {"service": {"evil": peer(evil.port, protocol), "good": peer(good.port)}},
                  "policies": policies}
        path = os.path.join(root, "sinew.yaml")
        with open(path, "w") as f:
            json.dump(config, f)
        binary = os.path.abspath(os.environ.get("SINEW_BINARY", os.path.join(BUILD, "sinew")))
        env = dict(os.environ, XDG_RUNTIME_DIR=root, XDG_STATE_HOME=root)
        self.p = subprocess.Popen([binary, "run", path], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, env=env)
        self.said = []
        for line in self.p.stderr:
            self.said.append(line)
            if b"sidecar on" in line:
                break
        else:
            raise AssertionError(b"".join(self.said))
        self.reader = threading.Thread(target=lambda: self.said.extend(self.p.stderr), daemon=True)
        self.reader.start()
        self.usage = h2raw.Usage(self.p.pid)

    def end(self):
        assert self.p.poll() is None, self.said
        self.p.terminate()
        assert self.p.wait(20) == 0, self.said
        self.reader.join()

    def call(self, name="evil", method="GET", body=None, timeout=60):
        """Status and body, or status 0 and what went wrong with the connection."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            c.request(method, "/call/service/%s/rest/hello" % name, body)
            r = c.getresponse()
            return r.status, r.read()
        except (http.client.HTTPException, OSError) as e:
            return 0, repr(e).encode()
        finally:
            c.close()

    def calls(self, n=8, **kw):
        """So many at once; each ends, and in time."""
        results = [None] * n

        def one(i):
            results[i] = self.call(**kw)
        threads = [threading.Thread(target=one, args=(i,), daemon=True) for i in range(n)]
        begun = time.monotonic()
        for t in threads:
            t.start()
        for t in threads:
            t.join(20)
        assert None not in results, "a call never ended"
        assert time.monotonic() - begun < 7
        return results
