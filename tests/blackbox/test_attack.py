# SPDX-License-Identifier: Apache-2.0
"""Mutated streams of valid traffic at a hub, a domain registry and a connector; servers that answer nonsense.
Whatever comes, they go on serving others, and end in order. $SINEW_SEED chooses the streams, $SINEW_LONG
makes it last a minute each instead of a moment."""
import json
import os
import random
import socket
import struct
import threading
import time
import uuid

import pytest

import things
from things import FULL, MU, OBJECT, Client, Hub, Sinew, WebSocket, event, healthy, local, package, path

SECONDS = float(os.environ.get("SINEW_ATTACK_SECONDS", "60" if things.LONG else "0.7"))
SEED = int(os.environ.get("SINEW_SEED", "1"))
ODD = [b"\x00", b"\xff\xff", b"\x7f\xff\xff\xff", b"-1", b"99999999999999999999", b"\r\n", b"\r\n\r\n", b"\xc0\x80", b"\xf4\x90\x80\x80", b'"', b"\\", b"{",
       b"[" * 200, b"%00", b"%", b"\xe2\x80\xa8", b"null", b"1e999", b"\xef\xbb\xbf", b":", b",", b"\x00\x00\x00\x02\x01", MU.encode()]


def mutate(r, streams):
    """One or several of the streams, one after another, with some bytes changed."""
    s = bytearray(b"".join(r.choice(streams) for _ in range(r.choice((1, 1, 1, 2, 5)))))
    for _ in range(r.choice((0, 1, 1, 2, 3, 8))):
        if not s:
            break
        at = r.randrange(len(s))
        kind = r.randrange(8)
        if kind == 0:
            s[at] ^= 1 << r.randrange(8)
        elif kind == 1:
            s[at] = r.randrange(256)
        elif kind == 2:
            s[at:at] = r.choice(ODD)
        elif kind == 3:
            del s[at:at + r.choice((1, 2, 5, 100))]
        elif kind == 4:
            end = at + r.choice((1, 5, 50, 500))
            s[at:at] = s[at:end] * r.choice((1, 2, 50))
        elif kind == 5:
            other = r.choice(streams)
            i = r.randrange(len(other))
            s[at:at + r.choice((0, 10))] = other[i:i + r.randrange(1, 200)]
        elif kind == 6:
            del s[at:]
        else:
            s[at:at + 2] = struct.pack(">H", r.choice((0, 1, 5, 255, 256, 65535, 65534, 32768, 0x7b22)))
    return bytes(s[:200000])


VALUES = [None, True, False, 0, -1, 1, 1.5, 1e300, -2 ** 63, 2 ** 64, "", "x", "\u00b5", "127.0.0.1:1", "a" * 600, [], {}, [[]], [None], {"": {}}, ["x", 1], "\u0000",
          "hyperty://d/1", "e", [{"nodeId": "a"}], [{"nodeId": 7, "address": []}], [{"nodeId": "c", "address": "1.2.3.4:5"}] * 3, "\U0001f600"]


def confuse(r, value, depth=0):
    """The same shape with some values of other types."""
    if r.random() < (0.1 if depth else 0.02):
        return r.choice(VALUES)
    if isinstance(value, dict):
        return {(k if r.random() < 0.97 else r.choice(("", "x", "source", "type", "data", "ü"))): confuse(r, v, depth + 1)
                for k, v in value.items() if r.random() < 0.97}
    if isinstance(value, list):
        return [confuse(r, v, depth + 1) for v in value] * r.choice((1, 1, 1, 2))
    return value


def confused(r, streams, n):
    """Streams of JSON in packages, alone or behind a head of HTTP, whose values are other ones."""
    out = []
    while len(out) < n:
        s = r.choice(streams)
        try:
            if s[2:3] == b"\0":
                out.append(package(confuse(r, json.loads(s[5:])), version=s[3], status=s[4]))
            elif s[:1] in b"{[":
                out.append(json.dumps(confuse(r, json.loads(s)), ensure_ascii=False).encode())
            else:
                head, body = s.split(b"\r\n\r\n", 1)
                data = json.dumps(confuse(r, json.loads(body)), ensure_ascii=False).encode()
                head = b"\r\n".join(l for l in head.split(b"\r\n") if not l.startswith(b"Content-Length"))
                out.append(head + b"\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        except (ValueError, UnicodeError, struct.error):
            continue
    return out


def throw(r, address, data, got=None):
    """Sends it in pieces, reads a little, and ends the connection in one of several ways."""
    try:
        with socket.create_connection(things.split(address), timeout=things.PATIENCE) as s:
            s.settimeout(0.01)
            try:
                if r.random() < 0.3:
                    n = r.choice((1, 2, 7, 100))
                    for i in range(0, min(len(data), 40 * n), n):
                        s.send(data[i:i + n])
                    data = data[40 * n:]
                s.sendall(data)
                how = r.randrange(4)
                if how == 0:
                    s.shutdown(socket.SHUT_WR)
                if how != 1:
                    s.recv(65536)
                if how == 2:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except OSError:
                pass
    except OSError:
        pass


class Liar(things.Listener):
    """A server whose answers are mutated."""

    def __init__(self, seed, replies):
        self.seed, self.replies = seed, replies
        super().__init__()

    def serve(self, c):
        with c:
            try:
                c.settimeout(0.02)
                c.recv(65536)
                c.sendall(mutate(random.Random(self.seed * 1000003 + self.connections), self.replies))
                c.recv(65536)
            except OSError:
                pass


def attack(targets, alive, seed, n=6):
    """@targets: pairs of an address and its streams."""
    stop, count = time.monotonic() + SECONDS, [0]

    def has_json(streams):
        return streams[0][2:3] == b"\0" or streams[0][-1:] == b"}"

    def run(r):
        while time.monotonic() < stop:
            address, streams = r.choice(targets)
            if r.random() < 0.4 and has_json(streams):
                throw(r, address, b"".join(confused(r, streams, r.choice((1, 3, 20)))))
            else:
                throw(r, address, mutate(r, streams))
            count[0] += 1
    threads = [threading.Thread(target=run, args=(random.Random(SEED * 1000 + seed * 10 + i),)) for i in range(n)]
    for t in threads:
        t.start()
    while time.monotonic() < stop:
        alive()
        time.sleep(0.1)
    for t in threads:
        t.join()
    alive()
    assert count[0] > 0


def ends_well(process):
    process.p.stdin.close()
    process.end()
    said = "\n".join(process.err)
    assert process.p.returncode == 0 and "Sanitizer" not in said and "runtime error" not in said, said[-8000:]


def events(address):
    core = MU + ".core."
    out = [package(event(core + "healthcheck")), package(event(MU + ".healthcheck")), package(b"[1,2]", version=1), package(b"{}")]
    for source in ("a", "b", "lamp/hall", MU + "/interface/x"):
        for name, data in (("register", {"nodeId": "x", "address": address}), ("unregister", None), ("nodes", None), ("nodes", {"after": "a"}),
                           ("nodes", {"revision": 1}), ("nodes", {"service": "a", "endpoint": "default"}),
                           ("nodes", {"nodes": [{"nodeId": i, "address": address} for i in ("a", "b", "lamp/hall")]}),
                           ("subscribe", {"subscribe": "e"}), ("subscribe", {"subscribe": "f", "delivery": "at-least-once"}),
                           ("unsubscribe", {"unsubscribe": "e"}), ("publish", {"event": "e", "data": {"a": [1, None, "ü\u0001"]}}),
                           ("publish", {"event": "f", "data": "x" * 3000}), ("broadcast", {"event": "g"}), ("subscriptions", {"skip": 1}),
                           ("updateBroker", None)):
            out.append(package(event(core + name, data, source)))
            params = dict(data or {}, source=source)
            out.append(json.dumps({"jsonrpc": "2.0", "id": 7, "method": core + name, "params": params}, ensure_ascii=False).encode())
    out.append(json.dumps([json.loads(o) for o in out if o[:1] == b"{"], ensure_ascii=False).encode())
    return out


REPLIES = [package(event(MU + ".response", {"message": "Service is healthy"})), package(event(MU + ".error", error={"message": "m", "reason": "r"}), status=2),
           package(event(MU + ".error", error="text"), status=0), package(event(MU + ".response", "x" * 60000))]


def test_a_hub(tmp_path):
    http = local()
    more = "http: %s\nlog: events.db\ncheck: {every: 100ms, restarts: true, timeout: 500ms}\nold-names: true\nqueue: {max: 20}\nmax-nodes: 500" % http
    with Liar(SEED, REPLIES) as liar, Hub(tmp_path, more=more) as hub:
        streams = events(liar.address)
        requests = [("%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (m, t, len(b), b)).encode() for m, t, b in (
            ("POST", "/events/e", '{"a": 1}'), ("POST", "/publish/f%20g", ""), ("GET", "/nodes", ""), ("GET", "/health", ""), ("POST", "/events/e", "[1"))]
        requests.append(b"POST /events/e HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1]\r\n0\r\n\r\n")

        def alive():
            healthy(hub.broker)
            healthy(hub.registry)
        attack([(hub.broker, streams), (hub.registry, streams), (http, requests)], alive, 1)
        ends_well(hub)


def test_a_node(tmp_path):
    at = local()
    with Hub(tmp_path) as hub, Sinew(tmp_path, "node", "n", "--listen", at, "--on", "e=cat", "--broker", hub.broker, "--registry", hub.registry) as node:
        things.listening(at)
        streams = events(at) + [package(event("e", {"a": 1}))]
        attack([(at, streams)], lambda: healthy(at), 2, n=2)
        ends_well(node)
        ends_well(hub)


@pytest.mark.parametrize("store", ["RAM", "SQLITE"])
def test_a_domain_registry(tmp_path, store):
    at = local()
    with Sinew(tmp_path, "registry", "serve", "--listen", at, env={"STORAGE_TYPE": store, "EXPIRES": "1", "DOMAIN_ENV": "DEVELOPMENT"}) as registry:
        things.listening(at)

        def request(method, target, body=None, more=""):
            data = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
            return ("%s %s HTTP/1.1\r\nHost: %s\r\n%s%s\r\n" % (method, target, at, more, "" if body is None else "Content-Length: %d\r\n" % len(data))).encode() + data
        streams = []
        for u in ("user://d/a", "b@x.de", "ü"):
            for h in ("hyperty://d/1", "hyperty://d/2"):
                streams += [request("PUT", path("hyperty", "user", u, h), {**FULL, "expires": 1}), request("PUT", path("hyperty", "url", h), {}),
                            request("PUT", path("hyperty", "url", h), {"status": "x", "resources": ["chat", "ü"], "guid": "user-guid://g-2"}),
                            request("DELETE", path("hyperty", "user", u, h)), request("GET", path("hyperty", "url", h)),
                            request("PUT", path("hyperty", "dataobject", h), OBJECT), request("PUT", path("dataobject", "url", h), {"name": "x"}),
                            request("DELETE", path("hyperty", "dataobject", "url", h))]
            streams += [request("GET", path("hyperty", "user", u)), request("GET", path("hyperty", "user", u, "hyperty") + "?resources=chat,audio&dataSchemes=comm"),
                        request("HEAD", path("hyperty", "email", "a"))]
        streams += [request("GET", t) for t in ("/live", "/", "/error", "/registry/updated", "/hyperty/guid/user-guid%3A%2F%2Fg-1",
                                                "/hyperty/dataobject/name/ob/do?resources=chat", "/hyperty/dataobject/reporter/hyperty%3A%2F%2Fd%2Frep")]
        streams += [request("GET", "/live", None, "Accept: text/html\r\n")] * 3

        def alive():
            c = Client(at)
            assert c("GET", "/live")[0] == 200
            c.close()
        attack([(at, streams)], alive, 3)
        ends_well(registry)


MESSAGES = [{"id": i, "type": t, "from": "hyperty-runtime://d/rt/registry", "to": "domain://registry.d", "body": b} for i, (t, b) in enumerate((
    ("read", {"resource": "user://d/a", "criteria": {"resources": ["chat", "ü"], "dataSchemes": ["comm"]}}),
    ("READ", {"resource": "/hyperty-data-object-instance/comm/owner/user://d/a"}), ("read", {"resource": "user-guid://g", "criteria": {"resources": "chat"}}),
    ("READ", {"resource": "/hyperty-instance/user/user%3A%2F%2Fd%2Fa"}), ("create", {"value": {**FULL, "user": "u", "url": "hyperty://d/1"}}),
    ("CREATE", {"value": {"user": "u", "hypertyURL": "hyperty://d/1"}}), ("update", {"resource": "/hyperty/x", "value": "live", "attribute": "status"}),
    ("update", {"resource": "comm://d/1", "value": OBJECT}), ("delete", {"value": {"user": "u", "url": "hyperty://d/1"}}), ("delete", {"value": {"name": "comm://d/1"}})))]


def test_a_connector(tmp_path):
    """Mutated messages from mutated WebSockets, and a registry whose answers are mutated."""
    at = local()
    body = json.dumps({"hyperty://d/%d" % i: {**FULL, "hypertyID": "x"} for i in range(3)}).encode()
    replies = [b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (s, len(body), body) for s in (200, 200, 408, 404)]
    replies += [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
                b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"a":{"status":"live"}}']
    with Liar(SEED + 1, replies) as liar, Sinew(tmp_path, "bridge", config="bridge:\n  url: http://%s\n  retries: 2\n  timeout_ms: 500\n"
                                                "  poll_interval_ms: 20\n  domain: d\n  websocket: {listen: '%s'}\n" % (liar.address, at)) as bridge:
        things.listening(at)
        hello = ("GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                 "Sec-WebSocket-Version: 13\r\n\r\n" % at).encode()
        texts = [json.dumps(m, ensure_ascii=False).encode() for m in MESSAGES]
        r = random.Random(SEED)
        frame = lambda data, **how: WebSocket.frame(None, data, **how)
        frames = [frame(t) for t in texts] + [frame(t[:30], fin=False) + frame(t[30:], op=0) for t in texts]
        frames += [frame(b"x" * 125, op=9), frame(b"\x03\xe8bye", op=8), frame(b"bin", op=2), frame(b"")]
        plain = [hello + b"".join(frame(mutate(r, texts)) for _ in range(3)) for _ in range(200)]

        def alive():
            ws = WebSocket(at)
            ws.send({"id": str(uuid.uuid4()), "type": "nonsense"})
            assert ws.answer()["code"] in (400, 405)
            ws.close()
        attack([(at, [hello + f for f in frames] + plain), (at, plain), (at, [hello + b"".join(frames)])], alive, 4)
        ends_well(bridge)


def test_lines_for_a_connector(tmp_path):
    """Each line that is no response has one answer."""
    r = random.Random(SEED)
    with Liar(SEED + 2, [b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}']) as liar, Sinew(
            tmp_path, "bridge", "--stdin", config="bridge:\n  url: http://%s\n  retries: 1\n  timeout_ms: 200\n  notifications: false\n" % liar.address) as bridge:
        texts = [json.dumps(m, ensure_ascii=False).encode() for m in MESSAGES]
        stop, sent = time.monotonic() + SECONDS, 0
        while time.monotonic() < stop and sent < 100000:
            line = (confused(r, texts, 1)[0] if r.random() < 0.5 else mutate(r, texts)).replace(b"\n", b"")[:100000]
            bridge.p.stdin.write(line + b"\n")
            sent += bool(line.strip())
        bridge.p.stdin.close()
        bridge.p.wait(things.PATIENCE * 3)
        bridge.end()
        said = "\n".join(bridge.err)
        assert bridge.p.returncode == 0 and "Sanitizer" not in said and "runtime error" not in said, said[-8000:]
        assert len(bridge.out) == sent, (sent, len(bridge.out))
