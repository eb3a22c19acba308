# SPDX-License-Identifier: Apache-2.0
"""Sinew under load while something breaks, and what must hold then: every call is answered, or failed
with its story; none outlives its deadline; descriptors and memory come back to where they were.

SINEW_LONG=1 (make soak): each for longer, and worse. SINEW_SEED: another course of chances."""
import hashlib
import http.client
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time

from net import HERE

sys.path.append(os.path.join(HERE, ".."))
from patience import PATIENCE, until as wait_until  # noqa: E402,F401
from ports import free_port  # noqa: E402,F401

BINARY = os.path.abspath(os.environ.get("SINEW_BINARY", "build/sinew"))
LONG = bool(os.environ.get("SINEW_LONG"))
SANITIZED = b"__asan_init" in open(BINARY, "rb").read() if os.path.exists(BINARY) else False
DEADLINE = 2.0  # of a call
IDLE = 1.5      # policy idle-timeout
SLACK = 2.0 if not SANITIZED else 6.0  # of this machine, which may be busy
MEMORY_KB = 5 * 1024  # what may stay: sinew run keeps up to 4 MiB of freed memory at hand
LARGE, POSTED = 100_000, 40_000


class Peer:
    """peer.py: a service that can be killed and started again at the same port."""

    def __init__(self, net=None, port=0):
        self.prefix = net.far if net else []
        self.host = net.far_host if net else "127.0.0.1"
        self.port = port
        self.start()

    def start(self):
        self.p = subprocess.Popen([*self.prefix, sys.executable, os.path.join(HERE, "peer.py"),
                                   self.host, str(self.port)], stdout=subprocess.PIPE, text=True)
        self.port = int(self.p.stdout.readline())

    def kill(self):
        self.p.kill()
        self.p.wait()
        self.p.stdout.close()

    stop = kill


class Unix(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Sinew:
    """`sinew run` with its sidecar and admin API on Unix sockets."""

    def __init__(self, tmp, peers=(), net=None, config="", policies=None, env=None):
        self.tmp = tmp
        self.net = net
        self.sidecar, self.admin = str(tmp / "side"), str(tmp / "admin")
        self.file = tmp / "sinew.yaml"
        values = dict({"idle-timeout": int(IDLE * 1000), "timeout": 1000, "connect-timeout": 500,
                       "retry-initial-delay": 20, "retry-max-delay": 200, "breaker-max-open": 1000},
                      **(policies or {}))
        places = [net.place(p.port) if net else (p.host, p.port) for p in peers]
        entries = {str(i + 1): {"protocol": "http", "address": h, "port": n}
                   for i, (h, n) in enumerate(places)}
        text = "listen: {sidecar: 'unix:%s', admin: 'unix:%s'}\nlimits: {core: true}\n" % (
            self.sidecar, self.admin)
        if peers:
            text += "peers: {service: {app: {web: %s}}}\n" % json.dumps(entries)
        if "agent:" not in config:
            text += "policies: %s\n" % json.dumps(values)
        self.file.write_text(text + config)
        self.env = dict({k: v for k, v in os.environ.items() if not k.startswith("BERLIOZ_")},
                        HOME=str(tmp), XDG_STATE_HOME=str(tmp / "state"), **(env or {}))
        self.start()

    def start(self):
        self.err = open(self.tmp / "stderr", "a+")
        self.p = subprocess.Popen([*(self.net.near if self.net else []), BINARY, "run", str(self.file)],
                                  stdin=subprocess.DEVNULL, stderr=self.err, env=self.env)
        wait_until(self.listens, "it does not listen: " + self.said())

    def listens(self):
        assert self.p.poll() is None, self.said()
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(self.admin)
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(self.sidecar)
            return True
        except OSError:
            return False

    def said(self):
        return (self.tmp / "stderr").read_text()

    def ask(self, path, which=None, method="GET", body=None, headers=()):
        c = Unix(which or self.sidecar, PATIENCE)
        try:
            c.request(method, path, body, dict(headers))
            r = c.getresponse()
            return r.status, r.headers, r.read()
        finally:
            c.close()

    def get(self, path):
        status, _, body = self.ask(path, self.admin)
        return status, body.decode()

    def metric(self, name):
        """The sum of all series of @name."""
        status, text = self.get("/metrics")
        assert status == 200
        return sum(float(m) for m in re.findall(r"^%s(?:\{[^}]*\})? (\S+)$" % name, text, re.M))

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.p.pid))

    def memory_kb(self):
        with open("/proc/%d/smaps_rollup" % self.p.pid) as f:
            return int(re.search(r"Private_Dirty:\s+(\d+)", f.read()).group(1))

    def stop(self):
        """In order, with nothing to say about memory."""
        self.p.terminate()
        try:
            status = self.p.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
            status = "it had to be killed"
        self.err.close()
        assert status == 0, (status, self.said())


class Floor:
    """What an idle sinew holds; after() waits for it to come back."""

    def __init__(self, sinew):
        self.sinew = sinew
        self.fds = sinew.descriptors()
        self.kb = sinew.memory_kb()

    def after(self, descriptors_more=0):
        s = self.sinew
        wait_until(lambda: s.descriptors() <= self.fds + descriptors_more,
                   lambda: "descriptors stay: %d, then %d" % (self.fds, s.descriptors()))
        assert s.metric("sinew_inflight") == 0 and s.metric("sinew_pending") == 0
        if not SANITIZED:  # which keeps what was freed
            wait_until(lambda: s.memory_kb() <= self.kb + MEMORY_KB,
                       lambda: "memory stays: %d KB, then %d" % (self.kb, s.memory_kb()))


CODES = {"NO_PEER", "BREAKER", "OVERLOAD", "TIMEOUT", "DEADLINE", "CONNECT", "RESET", "EOF", "IO"}


def is_story(problem):
    """Every attempt, or the refusal, with its reason and what was decided."""
    attempts = problem.get("attempts")
    return problem.get("code") in CODES and attempts and \
        all(a["phase"] and a["detail"] and a["decision"] for a in attempts) and \
        all(a["peer"] or a["phase"] == "admit" for a in attempts)


class Load:
    """Clients that call through the sidecar, one call after the other, and write down what came."""

    def __init__(self, sinew, clients=8, kinds=("small", "large", "post")):
        self.sinew = sinew
        self.kinds = kinds
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.answered = self.calls = 0
        self.failed, self.broken, self.wrong = [], [], []
        self.why = {}  # how often each sentence was heard
        self.slowest = 0.0
        self.no_story = []
        self.stories = 40  # that are asked for: at once, for the recorder's ring is small
        self.since_ok = time.monotonic()
        seed = int(os.environ.get("SINEW_SEED", "1"))
        self.threads = [threading.Thread(target=self._client, args=(random.Random(seed * 1000 + i),),
                                         daemon=True) for i in range(clients)]
        for t in self.threads:
            t.start()

    def _client(self, rng):
        connection = None
        while not self.stopping.is_set():
            if connection is None:
                connection = Unix(self.sinew.sidecar, DEADLINE + IDLE + 5 * SLACK)
            try:
                keep = self._call(connection, rng)
            except Exception as e:  # noqa: B902 whatever it was: it is no answer
                with self.lock:
                    self.wrong.append(repr(e))
                keep = False
            if not keep:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _call(self, c, rng):
        kind = rng.choice(self.kinds)
        headers = {"sinew-timeout-ms": str(int(DEADLINE * 1000))}
        text = "%x" % rng.getrandbits(40)
        base = "/call/service/app/web"
        with self.lock:
            self.calls += 1
        start = time.monotonic()
        if kind == "post":
            body = text.encode() * (POSTED // len(text))
            expected = hashlib.sha256(body).hexdigest().encode()
            c.request("POST", base + "/sum", body, headers)
        elif kind == "large":
            expected = (b"%08x" % LARGE * (LARGE // 8 + 1))[:LARGE]
            c.request("GET", base + "/large/%d" % LARGE, headers=headers)
        else:
            expected = text.encode()
            c.request("GET", base + "/small/" + text, headers=headers)
        r = c.getresponse()
        head_s = time.monotonic() - start
        got, last = b"", time.monotonic()
        try:
            while len(got) < len(expected) + 100_000:
                piece = r.read1(65536)
                if not piece:
                    break
                got += piece
                last = time.monotonic()
            whole = r.length in (None, 0)
        except (OSError, http.client.HTTPException):
            whole = False
        silent_s = time.monotonic() - last
        r.close()
        with self.lock:
            self._account(kind, r, got, expected, whole, head_s, silent_s)
        if r.status != 200 or not whole:
            self._has_story(r.headers.get("sinew-call-id", ""))
            self.stopping.wait(0.02)  # as a client would
        return whole and not r.will_close

    def _has_story(self, call_id):
        with self.lock:
            self.stories -= 1
            if self.stories < 0:
                return
        status, story = self.sinew.get("/why/" + call_id)
        if status != 200:
            self.no_story.append((call_id, story))

    def _account(self, kind, r, got, expected, whole, head_s, silent_s):
        call_id = r.headers.get("sinew-call-id", "")
        self.slowest = max(self.slowest, head_s)
        if head_s > DEADLINE + SLACK:
            self.wrong.append("%s: head after %.2f s" % (kind, head_s))
        if silent_s > IDLE + SLACK:
            self.wrong.append("%s: silent for %.2f s" % (kind, silent_s))
        if r.status == 200 and whole and got == expected:
            self.answered += 1
            self.since_ok = time.monotonic()
        elif r.status == 200 and not whole and expected.startswith(got):
            self.broken.append(call_id)
        elif r.headers.get("Content-Type") == "application/problem+json" and whole:
            if r.status not in (502, 503, 504) or len(call_id) != 16 or not is_story(json.loads(got)):
                self.wrong.append("%s: %d %r" % (kind, r.status, got[:500]))
            self.failed.append(call_id)
            why = re.sub(r"\d+", "N", json.loads(got).get("detail", ""))
            self.why[why] = self.why.get(why, 0) + 1
        else:
            self.wrong.append("%s: %d, %d of %d bytes, whole: %s: %r" % (
                kind, r.status, len(got), len(expected), whole, got[:200]))

    def run(self, seconds):
        time.sleep(seconds)
        return self

    def answers_again(self):
        """Calls are answered from some time on."""
        mark = time.monotonic()
        wait_until(lambda: self.since_ok > mark, "no call is answered any more")
        return time.monotonic() - mark

    def end(self):
        """All calls are over; their number is right, and there is a story for each that failed."""
        self.stopping.set()
        for t in self.threads:
            t.join(DEADLINE + IDLE + 6 * SLACK)
            assert not t.is_alive(), "a call hangs"
        failed, broken = len(self.failed), len(self.broken)
        said = "%d calls: %d answered, %d failed, %d broken off, slowest head %.2f s" % (
            self.calls, self.answered, failed, broken, self.slowest)
        print(said, *("\n  %d x %s" % (n, why) for why, n in self.why.items()), flush=True)
        assert not self.wrong, (said, len(self.wrong), self.wrong[:5])
        assert self.calls == self.answered + failed + broken, said
        assert not self.no_story, self.no_story
        wait_until(lambda: self.sinew.metric("sinew_calls_total") >= self.calls, "calls were not counted")
        return self
