# SPDX-License-Identifier: Apache-2.0
"""A hub under test, and nodes of the µHome mesh made of raw sockets, written from the protocol's
description alone."""
import json
import os
import re
import select
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid

import pytest

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from patience import PATIENCE, until  # noqa: E402,F401
from ports import free_port  # noqa: E402,F401

BINARY = os.path.abspath(os.environ.get("SINEW_BINARY", "build/sinew"))
ROOT = os.environ.get("SINEW_SOURCE_ROOT", os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
MODULES = os.path.join(os.environ.get("SINEW_BUILD_ROOT", os.path.dirname(BINARY)), "src/connect/broker")
BROKER = "µHome/core/eventBroker"
REGISTRY = "µHome/core/serviceRegistry"


def pack(payload, status=1, version=2):
    body = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
    return struct.pack(">HHB", len(body), version, status) + body


def event(source, type_, data=None, **more):
    e = {"id": str(uuid.uuid4()), "timestamp": "2031-03-09T04:05:06.789Z", "source": source, "type": type_}
    if source is None:
        del e["source"]
    if data is not None:
        e["data"] = data
    e.update(more)
    return e


def read_exactly(s, n):
    got = b""
    while len(got) < n:
        piece = s.recv(n - len(got))
        if not piece:
            return None
        got += piece
    return got


def read_package(s):
    """(status, version, payload), or None at the end."""
    head = read_exactly(s, 5)
    if head is None:
        return None
    size, version, status = struct.unpack(">HHB", head)
    body = read_exactly(s, size)
    assert body is not None, "the stream ended within a package"
    return status, version, json.loads(body.decode())


def connect(addr):
    s = socket.create_connection(addr, timeout=PATIENCE)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def ask(addr, source, type_, data=None, **more):
    """One exchange: (status, payload)."""
    with connect(addr) as s:
        s.sendall(pack(event(source, type_, data, **more)))
        reply = read_package(s)
        assert reply is not None, "no reply to %s" % type_
        return reply[0], reply[2]


class Node:
    """A service: answers health checks, keeps what it got. `answer(payload)` may say more."""

    def __init__(self, id_, port=0, answer=None):
        self.id = id_
        self.answer = answer
        self.got = []
        self.changed = threading.Condition()
        self.stopped = False
        self.s = socket.socket()
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.s.bind(("127.0.0.1", port))
        self.s.listen(1024)
        self.port = self.s.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self):
        return "127.0.0.1:%d" % self.port

    def _accept(self):
        while True:
            try:
                c, _ = self.s.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(c,), daemon=True).start()

    def _serve(self, c):
        c.settimeout(PATIENCE)
        try:
            with c:
                while True:
                    p = read_package(c)
                    if p is None or self.stopped:
                        return
                    c.sendall(self._reply(p[2]))
        except (OSError, AssertionError):
            pass

    def _reply(self, payload):
        if payload["type"] == "µHome.core.healthcheck":
            return pack(event(self.id, "µHome.response", {"message": "Service is healthy"}))
        answer = self.answer(payload) if self.answer else {"message": "ok"}
        with self.changed:
            self.got.append(payload)
            self.changed.notify_all()
        if isinstance(answer, int):
            return pack(event(self.id, "µHome.error", error={"message": "no"}), status=answer)
        return pack(event(self.id, "µHome.response", answer))

    def register(self, hub):
        return ask(hub.registry, self.id, "µHome.core.register", {"nodeId": self.id, "address": self.address})

    def subscribe(self, hub, type_, **more):
        return ask(hub.broker, self.id, "µHome.core.subscribe", dict({"subscribe": type_}, **more))

    def wait(self, n, type_=None):
        def have():
            return len([e for e in self.got if type_ in (None, e["type"])]) >= n
        with self.changed:
            assert self.changed.wait_for(have, PATIENCE), "%s got %d events" % (self.id, len(self.got))
        return [e for e in self.got if type_ in (None, e["type"])]

    def stop(self):
        self.stopped = True
        self.s.shutdown(socket.SHUT_RDWR)
        self.s.close()


class Hub:
    """`sinew hub`, on free ports."""

    def __init__(self, tmp, section, *args, **sections):
        self.home = tmp
        path = os.path.join(str(tmp), "hub.yaml")
        with open(path, "w") as f:
            json.dump(dict(sections, hub=section), f)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("BERLIOZ_", "SINEW_CONFIG"))}
        clean.update(XDG_RUNTIME_DIR=str(tmp), XDG_STATE_HOME=str(tmp), SINEW_MODULE_PATH=MODULES)
        self.env = clean
        self.p = subprocess.Popen([BINARY, "hub", "--config", path, *args], env=clean, cwd=str(tmp),
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True)
        self.log = []
        self.found = {}
        self.changed = threading.Condition()
        threading.Thread(target=self._pump, daemon=True).start()
        with self.changed:
            assert self.changed.wait_for(lambda: "broker" in self.found or self.p.poll() is not None,
                                         PATIENCE), self.log
        time.sleep(0.02 if self.p.poll() is not None else 0)
        assert "broker" in self.found, self.log

    def _pump(self):
        for line in self.p.stderr:
            m = re.search(r"(registry|broker|HTTP|admin API) (?:on|is at) (\S+)$", line.strip())
            with self.changed:
                self.log.append(line.rstrip("\n"))
                if m:
                    self.found[m.group(1)] = m.group(2)
                self.changed.notify_all()

    def _addr(self, name):
        with self.changed:
            assert self.changed.wait_for(lambda: name in self.found, PATIENCE), self.log
        host, port = self.found[name].rsplit(":", 1)
        return host, int(port)

    registry = property(lambda self: self._addr("registry"))
    broker = property(lambda self: self._addr("broker"))
    http = property(lambda self: self._addr("HTTP"))

    def admin(self, path):
        """A GET on its admin socket."""
        with self.changed:
            assert self.changed.wait_for(lambda: "admin API" in self.found, PATIENCE), self.log
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(PATIENCE)
        with s:
            s.connect(self.found["admin API"].replace("unix:", ""))
            s.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode())
            raw = b""
            while True:
                piece = s.recv(65536)
                if not piece:
                    break
                raw += piece
        head, _, body = raw.partition(b"\r\n\r\n")
        if b"chunked" in head.lower():
            out = b""
            while body:
                size, _, body = body.partition(b"\r\n")
                n = int(size, 16)
                out, body = out + body[:n], body[n + 2:]
                if n == 0:
                    break
            body = out
        text = body.decode()
        return json.loads(text) if b"application/json" in head else text

    def publish(self, type_, data=None, source="µHome/interface/test", how="publish"):
        said = {"event": type_}
        if data is not None:
            said["data"] = data
        return ask(self.broker, source, "µHome.core." + how, said)

    def close(self):
        if self.p.poll() is None:
            self.p.terminate()
        try:
            status = self.p.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.p.kill()
            raise
        return status


@pytest.fixture
def hub(tmp_path):
    """Start hubs; each must end well."""
    hubs = []

    def start(section=None, *args, **sections):
        section = {"registry": "127.0.0.1:0", "broker": "127.0.0.1:0"} if section is None else section
        home = tmp_path / str(len(hubs))
        home.mkdir()
        hubs.append(Hub(home, section, *args, **sections))
        return hubs[-1]
    yield start
    for h in hubs:
        killed = h.p.poll() == -9
        assert h.close() == (-9 if killed else 0), h.log[-30:]


@pytest.fixture
def nodes():
    """Start nodes; they end with the test."""
    started = []

    def start(id_, **more):
        started.append(Node(id_, **more))
        return started[-1]
    yield start
    for n in started:
        if not n.stopped:
            n.stop()


def readable(s, seconds):
    return bool(select.select([s], [], [], seconds)[0])
