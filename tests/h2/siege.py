# SPDX-License-Identifier: Apache-2.0
"""What is attacked, and what must hold while it is.

SINEW_H2_TARGET=nghttpd attacks nghttpd instead of our server: what a hardened server answers.
"""
import contextlib
import os
import socket
import subprocess
import threading
import time

import h2raw

BUILD = os.environ.get("SINEW_BUILD_ROOT", "build")
NGHTTPD = os.environ.get("SINEW_H2_TARGET") == "nghttpd"
LONG = bool(os.environ.get("SINEW_H2_LONG"))  # make soak: more of everything
MIB = 1 << 20
if os.environ.get("SINEW_H2_DEBUG"):
    threading.excepthook = lambda a: print("thread:", a.exc_value)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def wait_until(holds, seconds=10.0):
    """For what another process will do."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class Process:
    """A server process that prints "HOST:PORT" and ends with its stdin, leaving nothing behind."""

    def __init__(self, argv, env=None):
        self.p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, env=dict(os.environ, **(env or {})))
        line = self.p.stdout.readline().decode().strip()
        assert ":" in line, self.p.communicate()
        self.port = int(line.rsplit(":", 1)[1])
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
    """An honest client: asks again and again, over a kept connection and over new ones."""

    def __init__(self, port, ask=None):
        super().__init__(daemon=True)
        self.port, self.ask_one = port, ask or self.ask
        self.over = threading.Event()
        self.asked, self.slowest, self.bad = 0, 0.0, []

    def ask(self, conn):
        a = conn.ask("/hello", seconds=8)
        return "" if (a.status, bytes(a.body)) == (200, b"hello\n") else \
            "%s %s %r" % (a.status, a.reset, bytes(a.body[:50]))

    def run(self):
        kept = None
        while not self.bad:
            last = self.over.is_set()  # once more after all
            try:
                if kept is None:
                    kept = h2raw.connect(self.port)
                begun = time.monotonic()
                problem = self.ask_one(kept)
                kept.answers.clear()
                if self.asked % 8 == 0 or last:
                    with h2raw.connect(self.port) as fresh:
                        problem = problem or self.ask_one(fresh)
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
