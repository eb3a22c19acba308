# SPDX-License-Identifier: Apache-2.0
"""`sinew bridge`: messages by WebSocket and stdin, a real registry behind it; the clients are not ours."""
import asyncio
import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatusCode

from registry import BINARY, BUILD, HERE, OURS, PATIENCE, SOURCE, Registry, free_port

sys.path.insert(0, os.path.join(HERE, "../services"))
import services  # noqa: E402

MODULES = os.path.join(BUILD, "src/connect/broker")

RUNTIME = "hyperty-runtime://nimbus.example/rt/registry"
REGISTRY = "domain://registry.nimbus.example"
USER = "user://nimbus.example/marta"


class Bridge:
    """`sinew bridge` with the section @section."""

    def __init__(self, section=None, args=(), wait=True):
        self.dir = tempfile.mkdtemp(prefix="sinew-bridge-")
        self.ending = False
        self.env = {k: v for k, v in os.environ.items() if k not in OURS and not k.startswith("NODE_")}
        self.env.update(SINEW_MODULE_PATH=MODULES, XDG_RUNTIME_DIR=self.dir, XDG_STATE_HOME=self.dir, HOME=self.dir)
        self.file = os.path.join(self.dir, "sinew.yaml")
        with open(self.file, "w") as f:
            json.dump({"bridge": section or {}}, f)
        self.err = open(os.path.join(self.dir, "stderr"), "w+")
        self.p = subprocess.Popen([BINARY, "bridge", "--config", self.file] + list(args), env=self.env,
                                  cwd=self.dir, stdin=subprocess.DEVNULL, stdout=self.err, stderr=self.err)
        if wait:
            self.say("admin API on")

    def log(self):
        with open(os.path.join(self.dir, "stderr")) as f:
            return f.read()

    def say(self, what):
        until = time.monotonic() + PATIENCE
        while what not in self.log():
            assert self.p.poll() is None and time.monotonic() < until, self.log()
            time.sleep(0.01)

    def end(self):
        """Once: a second signal would not wait."""
        if self.p.poll() is None and not self.ending:
            self.p.terminate()
        self.ending = True

    def stop(self, code=0):
        self.end()
        got = self.p.wait(PATIENCE)
        log = self.log()
        self.err.close()
        shutil.rmtree(self.dir, ignore_errors=True)
        assert got == code, (got, log)
        return log


class connect:
    """A client without coroutines."""

    def __init__(self, url, **more):
        self.loop = asyncio.new_event_loop()
        try:
            self.ws = self.run(lambda: websockets.connect(url, max_size=None, **more))
        except Exception:
            self.loop.close()
            raise

    def run(self, what):
        async def within():
            return await asyncio.wait_for(what(), PATIENCE)
        return self.loop.run_until_complete(within())

    def send(self, data):
        self.run(lambda: self.ws.send(data))

    def recv(self):
        return self.run(self.ws.recv)

    def code(self):
        with pytest.raises(ConnectionClosed):
            self.recv()
        return self.ws.close_code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.run(self.ws.close)
        self.loop.close()


def message(ident, kind, body, **more):
    return dict({"id": ident, "type": kind, "from": RUNTIME, "to": REGISTRY, "body": body}, **more)


def create(ident, hyperty):
    return message(ident, "create", {"value": {
        "user": USER, "url": hyperty, "descriptor": "d", "expires": 60, "resources": ["chat"],
        "dataSchemes": ["comm"], "status": "live", "runtime": "r"}})


def read(ident, resource):
    return message(ident, "read", {"resource": resource})


def answer(ident, body):
    return {"id": ident, "type": "response", "from": REGISTRY, "to": RUNTIME, "body": body}


@pytest.fixture(scope="module")
def domain():
    r = Registry(env={"STORAGE_TYPE": "RAM"})
    yield r
    r.stop()


@pytest.fixture(scope="module")
def bridge(domain):
    port = free_port()
    b = Bridge({"url": domain.url, "poll_interval_ms": 0, "websocket": {"listen": "127.0.0.1:%d" % port}})
    b.say("registry connector on ws://127.0.0.1:%d" % port)
    b.url = "ws://127.0.0.1:%d" % port
    yield b
    b.stop()


def ask(ws, m):
    ws.send(m if isinstance(m, str) else json.dumps(m))
    return json.loads(ws.recv())


# ---- WebSocket ----

def test_messages_of_a_connection(bridge):
    with connect(bridge.url) as ws:
        assert ask(ws, create(1, "hyperty://nimbus.example/ws-1")) == answer(1, {"code": 200})
        got = ask(ws, read(2, "hyperty://nimbus.example/ws-1"))
        assert got["body"]["code"] == 200 and got["id"] == 2
        assert got["body"]["value"]["hypertyID"] == "hyperty://nimbus.example/ws-1"
        assert ask(ws, read(3, "hyperty://nimbus.example/none"))["body"]["code"] == 404
        # Never silent: no JSON, an unknown type, too large. A response itself gets no answer.
        assert ask(ws, "no json")["body"]["code"] == 400
        assert ask(ws, message(4, "dance", {}))["body"]["code"] == 405
        assert ask(ws, message(5, "read", {"resource": "x" * (1 << 20)}))["body"]["code"] == 413
        ws.send(json.dumps(message(6, "response", {"code": 200})))
        assert ask(ws, message(7, "dance", {}))["id"] == 7


def test_many_connections_many_messages(bridge):
    seen = {}

    def one(k):
        with connect(bridge.url) as ws:
            for i in range(50):
                ws.send(json.dumps(create("%d-%d" % (k, i), "hyperty://nimbus.example/m%d-%d" % (k, i))))
            seen[k] = [json.loads(ws.recv()) for _ in range(50)]

    threads = [threading.Thread(target=one, args=(k,)) for k in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(PATIENCE)
    for k in range(20):
        assert {m["id"] for m in seen[k]} == {"%d-%d" % (k, i) for i in range(50)}
        assert {m["body"]["code"] for m in seen[k]} == {200}


def test_changes_of_status_are_told_to_every_connection(bridge):
    url = "hyperty://nimbus.example/told"
    with connect(bridge.url) as a, connect(bridge.url) as b:
        assert ask(a, create(1, url))["body"]["code"] == 200
        a.send(json.dumps(message(2, "update", {"resource": url, "value": {"status": "disconnected"}})))
        for ws, n in ((a, 2), (b, 1)):
            got = [json.loads(ws.recv()) for _ in range(n)]
            told = [m for m in got if m["type"] == "update"]
            assert len(told) == 1 and told[0]["to"] == url + "/registration"
            assert told[0]["from"] == REGISTRY
            assert told[0]["body"] == {"value": "disconnected", "attribute": "status"}


def test_what_is_no_message(bridge):
    with connect(bridge.url) as ws:
        ws.send(b"\x00\x01")
        assert ws.code() == 1003
    with connect(bridge.url) as ws:
        ws.send("x" * (3 << 20))
        assert ws.code() == 1009


def rss_mib(pid):
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) / 1024


def test_who_never_reads_costs_little(bridge):
    """It may send until its answers fill what waits for it; nobody else notices."""
    port = int(bridge.url.rsplit(":", 1)[1])
    text = json.dumps(message("i" * 30000, "read", {})).encode()
    frame = b"\x81\xfe" + struct.pack(">H", len(text)) + bytes(4) + text
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        s.settimeout(1)
        assert b" 101 " in s.recv(4096)
        before, sent, ended = rss_mib(bridge.p.pid), 0, time.monotonic() + PATIENCE
        with pytest.raises((socket.timeout, ConnectionError)):
            while time.monotonic() < ended:
                s.sendall(frame * 10)
                sent += 10 * len(frame)
        assert 1 << 20 < sent
        assert rss_mib(bridge.p.pid) - before < 96
        with connect(bridge.url) as ws:
            ws.send(json.dumps(message(7, "read", {})))
            assert json.loads(ws.recv())["id"] == 7


def test_a_page_of_somebody_else_is_refused(bridge):
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        out = subprocess.run(
            ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "5", "-H", "Connection: Upgrade",
             "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13",
             "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
            + [x for k, v in headers.items() for x in ("-H", "%s: %s" % (k, v))]
            + [bridge.url.replace("ws:", "http:")], stdout=subprocess.PIPE, text=True)
        assert out.stdout == ("403" if "Origin" in headers else "421")


def test_tls(domain, certs):
    port = free_port()
    b = Bridge({"url": domain.url, "websocket": {"listen": "127.0.0.1:%d" % port, "cert": certs("server.pem"),
                                                 "key": certs("server.key")}})
    b.say("registry connector on wss://127.0.0.1:%d" % port)
    with connect("wss://localhost:%d" % port, ssl=ssl.create_default_context(cafile=certs("ca.pem"))) as ws:
        assert ask(ws, message(1, "dance", {}))["body"]["code"] == 405
    b.stop()


def test_no_registry_and_the_end(domain):
    """What is in flight is answered; a signal ends connections with 1001."""
    port = free_port()
    b = Bridge({"url": "http://127.0.0.1:%d" % free_port(), "retries": 1,
                "websocket": {"listen": "127.0.0.1:%d" % port, "max_connections": 1}})
    ws = connect("ws://127.0.0.1:%d" % port)
    assert ask(ws, read(1, "hyperty://nimbus.example/x"))["body"]["code"] == 504
    with pytest.raises(InvalidStatusCode) as e:
        connect("ws://127.0.0.1:%d" % port)
    assert e.value.status_code == 503
    b.end()
    assert ws.code() == 1001
    ws.__exit__()
    b.stop()


# ---- a µHome mesh ----

def package(address, type_, data, timeout=PATIENCE):
    """One exchange with a node, as anybody's: (status, payload)."""
    host, port = address.rsplit(":", 1)
    body = json.dumps({"id": "x", "timestamp": "2031-03-09T04:05:06.789Z", "source": "µHome/interface/test", "type": type_,
                       "data": data}, ensure_ascii=False).encode()
    with socket.create_connection((host, int(port)), timeout=timeout) as s:
        s.sendall(struct.pack(">HHB", len(body), 2, 1) + body)
        got = b""
        while len(got) < 5 or len(got) < 5 + struct.unpack(">H", got[:2])[0]:
            piece = s.recv(65536)
            assert piece, got
            got += piece
    return got[4], json.loads(got[5:])


def test_microhome(domain, tmp_path):
    """The bridge is a node: its event type is the connector's address."""
    ports = {"broker": "127.0.0.1:%d" % free_port(), "registry": "127.0.0.1:%d" % free_port()}
    (tmp_path / "hub.yaml").write_text(json.dumps({"hub": ports}))
    env = dict({k: v for k, v in os.environ.items() if k not in OURS}, XDG_RUNTIME_DIR=str(tmp_path),
               XDG_STATE_HOME=str(tmp_path))
    b = Bridge({"url": domain.url, "microhome": dict(ports, id="directory", listen="127.0.0.1:%d" % free_port())})
    assert "ws://" not in b.log()
    # The hub comes later.
    hub = subprocess.Popen([BINARY, "hub", "--config", str(tmp_path / "hub.yaml")], env=env,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                told = package(ports["broker"], "µHome.core.subscriptions", {})[1]["data"]["subscriptions"]
                if [n for n in told if n["types"] == ["mn:/registry-connector"]]:
                    break
            except OSError:
                pass
            assert time.monotonic() < until, b.log()
            time.sleep(0.02)
        status, listed = package(ports["registry"], "µHome.core.nodes", {})
        at = {n["nodeId"]: n["address"] for n in listed["data"]["nodes"]}["directory"]
        url = "hyperty://nimbus.example/home"
        status, got = package(at, "mn:/registry-connector", create(1, url))
        assert (status, got["type"], got["data"]) == (1, "µHome.response", answer(1, {"code": 200}))
        assert package(at, "mn:/registry-connector", read(2, url))[1]["data"]["body"]["value"]["hypertyID"] == url
        assert package(at, "mn:/registry-connector", {"id": 3})[1]["data"]["body"]["code"] in (400, 405)
        # By the broker too: the registry has it, though nobody hears the answer.
        other = "hyperty://nimbus.example/published"
        package(ports["broker"], "µHome.core.publish",
                {"event": "mn:/registry-connector", "data": create(4, other)})
        until = time.monotonic() + PATIENCE
        while package(at, "mn:/registry-connector", read(5, other))[1]["data"]["body"]["code"] != 200:
            assert time.monotonic() < until
        b.stop()
        status, listed = package(ports["registry"], "µHome.core.nodes", {})
        assert listed["data"]["nodes"] == [], "it has taken its leave"
    finally:
        b.end()
        hub.terminate()
        assert hub.wait(PATIENCE) == 0


# ---- settings ----

@pytest.mark.parametrize("section,said", [
    ({"websocket": {"listen": "nowhere"}}, "bridge.websocket.listen"),
    ({"websocket": {"cert": "c.pem"}}, "cert and key go together"),
    ({"websockets": {}}, 'did you mean "websocket"'),
    ({"kafka": {}}, "kafka"),
    ({"vertx": {}}, "bridge.vertx.host is missing"),
    ({"vertx": {"host": "h", "port": 0}}, "port must be between 1 and 65535"),
    ({"address": ""}, "bridge.address is empty"),
    ({"nats": {"urls": "nats://h"}}, 'did you mean "url"'),
    ({"nats": {"url": "nats://h", "queue": "a b"}}, "bridge.nats.queue"),
    ({"nats": {"url": "nats://h"}, "address": "all.>"}, "is no subject of NATS"),
    ({"microhome": {"broker": "127.0.0.1:5100"}}, "bridge.microhome.registry is missing"),
    ({"microhome": {"broker": "127.0.0.1:5100", "registry": "127.0.0.1:x"}}, "bridge.microhome.registry"),
    ({"ssl": {"enabled": True, "cert": "no.pem", "key": "no.key", "ca": "no-ca.pem"}}, "no-ca.pem"),
])
def test_bad_settings_are_told_at_start(section, said):
    b = Bridge(section, wait=False)
    assert b.p.wait(PATIENCE) in (1, 2)
    log = b.log()
    b.stop(b.p.returncode)
    assert said in log, log


# ---- Vert.x ----

class EventBus:
    """The server's end of the TCP event bus bridge, from its public protocol page: one connection."""

    def __init__(self):
        self.port = free_port()
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.listener.settimeout(PATIENCE)

    def accept(self):
        self.c = self.listener.accept()[0]
        self.c.settimeout(PATIENCE)
        self.f = self.c.makefile("rb")

    def read(self):
        """The next frame that is no ping."""
        while True:
            n = struct.unpack(">i", self.f.read(4))[0]
            frame = json.loads(self.f.read(n))
            if frame["type"] != "ping":
                return frame
            self.write({"type": "pong"})

    def write(self, frame):
        data = json.dumps(frame).encode()
        self.c.sendall(struct.pack(">i", len(data)) + data)

    def message(self, body, reply="reply-1"):
        self.write({"type": "message", "address": "mn:/registry-connector", "headers": {}, "send": True,
                    "body": body, **({"replyAddress": reply} if reply else {})})

    def hang_up(self):
        self.f.close()
        self.c.close()


@pytest.fixture(scope="module")
def bus(domain):
    s = EventBus()
    b = Bridge({"url": domain.url, "poll_interval_ms": 0, "vertx": {"host": "localhost", "port": s.port}})
    s.accept()
    assert s.read() == {"type": "register", "address": "mn:/registry-connector"}
    yield s
    b.end()
    assert s.read() == {"type": "unregister", "address": "mn:/registry-connector"}
    log = b.stop()
    assert "registry connector on Vert.x at localhost:%d" % s.port in log and "ws://" not in log


def test_event_bus(bus):
    url = "hyperty://nimbus.example/vertx"
    bus.message(create(1, url))
    assert bus.read() == {"type": "send", "address": "reply-1", "body": answer(1, {"code": 200})}
    bus.message(json.dumps(read(2, url)), "reply-2")  # text is answered with text
    got = bus.read()
    assert got["address"] == "reply-2" and isinstance(got["body"], str)
    assert json.loads(got["body"])["body"]["value"]["hypertyID"] == url
    for body in ("no json", None, 7, []):
        bus.message(body, "reply-3")
        got = bus.read()["body"]
        assert (json.loads(got) if body == "no json" else got)["body"]["code"] == 400
    bus.message(create(3, url), None)  # nobody waits
    bus.message(message(4, "response", {"code": 200}), "reply-4")
    bus.write({"type": "err", "message": "access_denied"})
    bus.c.sendall(struct.pack(">i", 7) + b"no json")
    bus.message(message(5, "dance", {}), "reply-5")
    assert bus.read()["address"] == "reply-5"
    for i in range(300):  # in pieces, many at once
        bus.message(create(i, url), str(i))
    assert {bus.read()["address"] for _ in range(300)} == {str(i) for i in range(300)}


def test_event_bus_hears_of_changes(bus):
    url = "hyperty://nimbus.example/vertx-told"
    bus.message(create(1, url))
    assert bus.read()["body"]["body"]["code"] == 200
    bus.message(message(2, "update", {"resource": url, "value": {"status": "disconnected"}}))
    frames = {f["type"]: f for f in (bus.read(), bus.read())}
    assert frames["publish"]["address"] == url + "/registration"
    assert frames["publish"]["body"]["body"] == {"value": "disconnected", "attribute": "status"}
    assert frames["send"]["body"]["id"] == 2


def test_event_bus_that_goes_and_comes(bus):
    for _ in range(2):
        bus.message(create(1, "hyperty://nimbus.example/gone"))
        bus.hang_up()
        bus.accept()
        assert bus.read() == {"type": "register", "address": "mn:/registry-connector"}
    bus.c.sendall(struct.pack(">i", 1 << 30))  # no event bus at all
    bus.accept()
    assert bus.read()["type"] == "register"
    bus.message(message(5, "dance", {}))
    assert bus.read()["body"]["id"] == 5


# ---- NATS ----

class Nats:
    """A client by the public protocol of text lines."""

    def __init__(self, port):
        self.c = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.f = self.c.makefile("rb")
        assert self.f.readline().startswith(b"INFO ")
        self.c.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB inbox.* 1\r\nPING\r\n')
        assert self.f.readline() == b"PONG\r\n"

    def request(self, data, inbox="inbox.1"):
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.c.sendall(b"PUB mn:/registry-connector %s %d\r\n%s\r\n"
                       % (inbox.encode(), len(data), data))

    def answer(self, wait=PATIENCE):
        """(inbox, message)."""
        self.c.settimeout(wait)
        while True:
            line = self.f.readline().split()
            if line[0] == b"PING":
                self.c.sendall(b"PONG\r\n")
            else:
                assert line[0] == b"MSG", line
                return line[1].decode(), json.loads(self.f.read(int(line[-1]) + 2))

    def close(self):
        self.f.close()
        self.c.close()


@pytest.fixture(scope="module")
def nats_server():
    if not os.path.exists(os.path.join(MODULES, "sinew-broker-nats.so")):
        pytest.skip("the module broker/nats is not built")
    try:
        server = services.start("nats")
    except services.Missing as why:
        pytest.skip(str(why))
    yield server
    server.stop()


def test_nats(domain, nats_server):
    """Two bridges, one queue group: one answer a request."""
    bridges = [Bridge({"url": domain.url, "nats": {"url": nats_server.url}}) for _ in range(2)]
    for b in bridges:
        assert "ws://" not in b.log()
        b.say("registry connector on NATS")
    client = Nats(nats_server.port)
    until = time.monotonic() + PATIENCE
    while True:  # they have subscribed
        client.request(message(0, "dance", {}), "inbox.0")
        try:
            assert client.answer(0.2)[1]["body"]["code"] == 405
            break
        except OSError:
            assert time.monotonic() < until
            client.close()
            client = Nats(nats_server.port)
    url = "hyperty://nimbus.example/nats"
    client.request(create(1, url))
    assert client.answer() == ("inbox.1", answer(1, {"code": 200}))
    client.request(read(2, url), "inbox.2")
    inbox, got = client.answer()
    assert inbox == "inbox.2" and got["body"]["value"]["hypertyID"] == url
    for bad in (b"", b"no json"):
        client.request(bad)
        assert client.answer()[1]["body"]["code"] == 400
    for i in range(500):
        client.request(create(i, url), "inbox.%d" % i)
    got = [client.answer() for _ in range(500)]
    assert sorted(m["id"] for _, m in got) == list(range(500))
    assert all(inbox == "inbox.%d" % m["id"] for inbox, m in got)
    assert bridges[0].stop() is not None
    client.request(create(7, url), "inbox.7")  # the other one has it
    assert client.answer()[1]["id"] == 7
    client.close()
    bridges[1].stop()


# ---- a message node in JavaScript ----

EXAMPLE = os.path.join(SOURCE, "examples/message-node/message-node.js")


class Runtime:
    """A runtime of the example: a message a line."""

    def __init__(self, port):
        self.c = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.f = self.c.makefile("rw")

    def send(self, m):
        self.f.write(json.dumps(m) + "\n")
        self.f.flush()

    def recv(self):
        return json.loads(self.f.readline())


@pytest.mark.parametrize("how", ["child", "websocket"])
def test_message_node(how, domain, bridge):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is missing")
    port = free_port()
    if how == "child":
        args = [EXAMPLE, str(port), "child", BINARY, "bridge", "--stdin", "--url", domain.url]
    else:
        options = subprocess.run([node, "-p", "typeof WebSocket"], stdout=subprocess.PIPE, text=True).stdout
        args = ([] if "function" in options else ["--experimental-websocket"]) + [EXAMPLE, str(port), bridge.url]
    p = subprocess.Popen([node] + args, stderr=subprocess.PIPE, text=True, cwd=tempfile.gettempdir())
    try:
        while "ready" not in (line := p.stderr.readline()):
            assert line != "", "the message node has ended"
        a, b = Runtime(port), Runtime(port)
        url = "hyperty://nimbus.example/node-" + how
        a.send(create(1, url))
        assert a.recv() == answer(1, {"code": 200})
        b.send(message(9, "subscribe", {"resources": [url + "/registration"]}, to="domain://msg-node.d/sm"))
        assert b.recv()["body"] == {"code": 200}
        a.send(read(1, url))  # both have a message 1
        b.send(read(1, "hyperty://nimbus.example/none"))
        assert a.recv()["body"]["value"]["hypertyID"] == url
        assert b.recv()["body"]["code"] == 404
        a.send(message(2, "update", {"resource": url, "value": {"status": "disconnected"}}))
        assert a.recv() == answer(2, {"code": 200})
        told = b.recv()
        assert told["to"] == url + "/registration" and told["body"]["value"] == "disconnected"
    finally:
        p.kill()
        p.wait()
        p.stderr.close()


# ---- stdin ----

def stdin(url, text, *args):
    env = {k: v for k, v in os.environ.items() if k not in OURS and not k.startswith("NODE_")}
    return subprocess.run([BINARY, "bridge", "--stdin", "--url", url] + list(args), input=text, env=env,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PATIENCE,
                          cwd=tempfile.gettempdir())


def test_lines(domain):
    lines = [json.dumps(create(i, "hyperty://nimbus.example/l%d" % i)) for i in range(1000)]
    r = stdin(domain.url, "\n".join(lines))  # no newline behind the last
    assert r.returncode == 0 and r.stderr == ""
    got = [json.loads(line) for line in r.stdout.splitlines()]
    assert sorted(m["id"] for m in got) == list(range(1000))
    assert {m["body"]["code"] for m in got} == {200}


def test_lines_that_are_bad(domain):
    r = stdin(domain.url, "\n \nno json\n%s\n%s\n" % ("x" * (5 << 20), json.dumps(message(9, "dance", {}))))
    assert r.returncode == 0
    got = [json.loads(line) for line in r.stdout.splitlines()]
    assert sorted(m["body"]["code"] for m in got) == [400, 405, 413]


def test_lines_tell_changes_too(domain):
    url = "hyperty://nimbus.example/line-told"
    p = subprocess.Popen([BINARY, "bridge", "--stdin", "--url", domain.url], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True, cwd=tempfile.gettempdir())
    for m in (create(1, url), message(2, "update", {"resource": url, "value": {"status": "disconnected"}})):
        p.stdin.write(json.dumps(m) + "\n")
        p.stdin.flush()
        assert json.loads(p.stdout.readline())["type"] in ("response", "update")
    p.stdin.close()
    rest = [json.loads(line) for line in p.stdout]
    assert p.wait(PATIENCE) == 0 and len(rest) == 1 and rest[0]["id"] == 2


def test_nobody_reads_the_answers(domain):
    p = subprocess.Popen([BINARY, "bridge", "--stdin", "--url", domain.url], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tempfile.gettempdir())
    p.stdout.close()
    p.stdin.write(json.dumps(message(1, "dance", {})) + "\n")
    p.stdin.flush()
    assert p.wait(PATIENCE) == 1
    p.stdin.close()
    p.stderr.close()
