# SPDX-License-Identifier: Apache-2.0
"""`sinew run`: the sidecar and the admin API, used by programs that are not ours."""
import asyncio
import hashlib
import http.client
import json
import os
import socket
import subprocess
import threading

import pytest
import websockets

from conftest import FAST, PATIENCE, Agent, Raw, Service, free_port, peers_message


class Running:
    """A `sinew run` with a sidecar on a free port and its admin API on its Unix socket."""

    def __init__(self, sinew, text, agent=None, **kw):
        self.port = free_port()
        self.file = sinew.tmp / "sinew.yaml"
        self.file.write_text("name: t\nlisten: {sidecar: '127.0.0.1:%d'}\n%s" % (self.port, text))
        self.process = sinew.start("run", self.file, agent=agent, **kw)
        self.sinew = sinew
        self.said = []
        for line in self.process.stderr:  # it says where it listens once it does
            self.said.append(line)
            if "sidecar on" in line:
                break
        else:
            raise AssertionError("it ended: " + "".join(self.said))

    def ask(self, method, path, body=None, headers=()):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        c.request(method, path, body, dict(headers), encode_chunked="Transfer-Encoding" in dict(headers))
        r = c.getresponse()
        data = r.read()
        c.close()
        return r, data

    def admin(self, path, method="GET", body=None):
        c = http.client.HTTPConnection("localhost", timeout=PATIENCE)
        c.sock = socket.socket(socket.AF_UNIX)
        c.sock.settimeout(PATIENCE)
        c.sock.connect(str(self.sinew.tmp / "sinew" / "t.sock"))
        c.request(method, path, body)
        r = c.getresponse()
        data = r.read()
        c.close()
        return r, data

    def cli(self, *args):
        return self.sinew.run(*args, "--config", self.file)


def basket(*ports):
    return json.dumps(peers_message(*ports)["peers"])


def run_with(sinew, cleanup, *services, policies=None):
    for s in services:
        cleanup(s)
    return Running(sinew, "peers: %s\npolicies: %s\n" % (
        basket(*[s.port for s in services]), json.dumps(policies or FAST["policies"])))


# ---- calls ----

def test_a_call_reaches_the_peer_as_it_was_made(sinew, cleanup):
    s = Service(name="one")
    r = run_with(sinew, cleanup, s)
    answer, body = r.ask("POST", "/call/service/basket/rest/a/../b%2Fc?q=1&r=%20", b"hello",
                         {"X-Thing": "1", "Connection": "x-gone", "X-Gone": "1", "TE": "gzip"})
    assert (answer.status, body) == (200, b"hello from one")
    method, path, headers, sent = s.requests[0]
    assert (method, path, sent) == ("POST", "/a/../b%2Fc?q=1&r=%20", b"hello")
    assert headers["X-Thing"] == "1" and headers["Host"] == "127.0.0.1:%d" % s.port
    assert "X-Gone" not in headers and "Te" not in headers and "TE" not in headers
    assert answer.headers["sinew-peer"] == "1" and len(answer.headers["sinew-call-id"]) == 16


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_every_method_passes(sinew, cleanup, method):
    s = Service(name="one")
    r = run_with(sinew, cleanup, s)
    answer, body = r.ask(method, "/call/service/basket/rest/")
    assert answer.status == 200 and s.requests[0][0] == method
    assert body == (b"" if method == "HEAD" else b"hello from one")
    assert answer.headers["Content-Length"] == "14"


def test_large_bodies_stream_both_ways(sinew, cleanup):
    digest = []

    def echo(h, body):
        digest.append(hashlib.sha256(body).hexdigest())
        Service.reply(h, 200, body[::-1])
    r = run_with(sinew, cleanup, Service(echo))
    data = os.urandom(1 << 16) * 128
    answer, body = r.ask("POST", "/call/service/basket/rest/x", data)
    assert answer.status == 200 and body == data[::-1]
    assert digest == [hashlib.sha256(data).hexdigest()]


def test_a_chunked_request_arrives_whole(sinew, cleanup):
    def take(server, c, n):
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            data += c.recv(65536)
        server.requests.append(data)
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    raw = Raw(take)
    r = run_with(sinew, cleanup, raw)

    answer, body = r.ask("POST", "/call/service/basket/rest/x", iter([b"abc", b"defg"]),
                         {"Transfer-Encoding": "chunked"})
    assert (answer.status, body) == (200, b"ok")
    head, _, chunks = raw.requests[0].partition(b"\r\n\r\n")
    assert b"ransfer-Encoding: chunked" in head
    text = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        text += chunks[:int(size, 16)]
        chunks = chunks[int(size, 16) + 2:]
    assert text == b"abcdefg"


def test_failures_are_retried_and_the_last_answer_comes_back(sinew, cleanup):
    s = Service(lambda h, b: Service.reply(h, 503 if len(s.requests) < 3 else 200, b"%d" % len(s.requests)))
    r = run_with(sinew, cleanup, s)
    answer, body = r.ask("GET", "/call/service/basket/rest/")
    assert (answer.status, body) == (200, b"3")
    s.answer = lambda h, b: Service.reply(h, 503, b"no", [("X-Why", "tired")])
    answer, body = r.ask("GET", "/call/service/basket/rest/")
    assert (answer.status, body, answer.headers["X-Why"]) == (503, b"no", "tired")
    n = len(s.requests)
    r.ask("GET", "/call/service/basket/rest/", headers={"sinew-retry": "none"})
    assert len(s.requests) == n + 1


@pytest.mark.parametrize("size, times", [(5, 2), (65536, 2), (65537, 1), (400_000, 1)])
def test_a_body_is_sent_again_while_it_fits(sinew, cleanup, size, times):
    data = os.urandom(size)
    s = Service(lambda h, b: Service.reply(h, 503 if len(s.requests) < 2 else 200))
    r = run_with(sinew, cleanup, s)
    answer, _ = r.ask("POST", "/call/service/basket/rest/x", data)
    assert answer.status == (200 if times == 2 else 503)
    assert [q[3] for q in s.requests] == [data] * times


def test_a_body_of_which_a_part_was_taken_is_sent_again_from_its_begin(sinew, cleanup):
    def take(server, c, n):
        if n == 1:
            c.recv(20_000)
            server.reset(c)
        elif server.read_request(c):
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    data = os.urandom(60_000)
    raw = Raw(take)
    r = run_with(sinew, cleanup, raw)
    with socket.create_connection(("127.0.0.1", r.port), PATIENCE) as c:  # in two pieces
        c.sendall(b"POST /call/service/basket/rest/x HTTP/1.1\r\nHost: localhost\r\n"
                  b"Content-Length: 60000\r\n\r\n" + data[:30_000])
        while raw.accepted < 2:
            pass
        c.sendall(data[30_000:])
        assert c.recv(4096).startswith(b"HTTP/1.1 200 OK")
    assert raw.requests[0][1] == data


def test_a_call_that_fails_tells_its_story(sinew, cleanup):
    port = free_port()
    r = Running(sinew, "peers: %s\npolicies: %s\n" % (basket(port), json.dumps(FAST["policies"])))
    answer, body = r.ask("GET", "/call/service/basket/rest/x?secret=1")
    doc = json.loads(body)
    assert answer.status == 502 and answer.headers["Content-Type"] == "application/problem+json"
    assert doc["code"] == "CONNECT" and "refused" in doc["attempts"][0]["detail"]
    call = answer.headers["sinew-call-id"]
    _, story = r.admin("/why/" + call + "?text")
    assert b"GET /x" in story and b"secret" not in story and b"refused" in story
    assert json.loads(r.admin("/why/" + call)[1])["attempts"][0]["phase"] == "connect"
    assert call in [one["id"] for one in json.loads(r.admin("/why")[1])]


def test_no_peer_and_time_out_have_their_own_status(sinew, cleanup):
    raw = Raw(lambda s, c, n: c.recv(1 << 20) and c.recv(1))
    r = run_with(sinew, cleanup, raw)
    answer, body = r.ask("GET", "/call/service/void/rest/")
    assert answer.status == 503 and json.loads(body)["code"] == "NO_PEER"
    answer, body = r.ask("GET", "/call/service/basket/rest/", headers={"sinew-timeout-ms": "300"})
    assert answer.status == 504 and json.loads(body)["code"] in ("DEADLINE", "TIMEOUT")


def test_a_header_of_ours_that_says_nothing_is_refused(sinew, cleanup):
    s = Service()
    r = run_with(sinew, cleanup, s)
    for name, value, says in (("sinew-timeout-ms", "5s", "sinew-timeout-ms is a whole number of milliseconds"),
                              ("sinew-retry", "never", "sinew-retry is safe, all or none")):
        answer, body = r.ask("GET", "/call/service/basket/rest/", headers={name: value})
        assert answer.status == 400 and json.loads(body)["detail"] == says
    assert s.requests == []


def test_the_deadline_is_passed_on(sinew, cleanup):
    s = Service()
    r = run_with(sinew, cleanup, s)
    r.ask("GET", "/call/service/basket/rest/", headers={"sinew-timeout-ms": "5000"})
    left = {k.lower(): v for k, v in s.requests[0][2].items()}["sinew-timeout-ms"]
    assert 0 < int(left) <= 5000


def test_an_answer_that_breaks_off_is_not_taken_for_whole(sinew, cleanup):
    def cut(server, c, n):
        server.read_request(c)
        c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        Raw.reset(c)
    r = run_with(sinew, cleanup, Raw(cut))
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        r.ask("GET", "/call/service/basket/rest/")


def test_a_client_that_goes_away_ends_the_call(sinew, cleanup):
    gone = threading.Event()

    def hold(server, c, n):
        server.read_request(c)
        server.seen.set()
        try:
            while c.recv(4096):
                pass
        finally:  # by an end or a reset
            gone.set()
    raw = Raw(hold)
    raw.seen = threading.Event()
    r = run_with(sinew, cleanup, raw)
    c = socket.create_connection(("127.0.0.1", r.port))
    c.sendall(b"GET /call/service/basket/rest/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert raw.seen.wait(PATIENCE)
    Raw.reset(c)
    assert gone.wait(PATIENCE)


@pytest.mark.parametrize("path,status", [
    ("/call/service/basket", 400), ("/call/service/bas%2Fket/rest/", 400),
    ("/call/service/basket%zz/rest/", 400), ("/call/nokind/basket/rest/", 400),
    ("/call/database/contacts/x/y", 400), ("/", 404), ("/calls", 404), ("/peers/service", 400),
])
def test_wrong_paths_are_refused_with_a_sentence(sinew, cleanup, path, status):
    r = run_with(sinew, cleanup, Service())
    answer, body = r.ask("GET", path)
    assert answer.status == status and json.loads(body)["detail"]


def test_web_pages_cannot_reach_it(sinew, cleanup):
    s = Service()
    r = run_with(sinew, cleanup, s)
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert r.ask("GET", "/call/service/basket/rest/", headers=headers)[0].status == 403
    assert r.ask("GET", "/peers/service/basket/rest",
                 headers={"Host": "evil.example"})[0].status == 421
    assert s.requests == []


def test_a_token_is_asked_for(sinew, cleanup):
    port, s = free_port(), Service()
    cleanup(s)
    f = sinew.tmp / "s.yaml"
    f.write_text("name: t\nlisten: {sidecar: {address: '127.0.0.1:%d', token: secret1}}\npeers: %s\n"
                 % (port, basket(s.port)))
    p = sinew.start("run", f)
    assert any("sidecar on" in line for line in p.stderr)

    def ask(headers):
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        c.request("GET", "/call/service/basket/rest/", headers=headers)
        return c.getresponse().status
    assert [ask({}), ask({"Authorization": "Bearer secret2"}), ask({"Authorization": "Bearer secret"}),
            ask({"Authorization": "bearer secret1"})] == [401, 401, 401, 200]


# ---- gRPC and HTTP/2 through it ----

GRPC_SERVER = """
import sys, time
from concurrent import futures
import grpc

class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        def echo(request, context):
            context.set_trailing_metadata((("x-t", "1"), ("x-b-bin", bytes([0, 255]))))
            return request
        def left(request, context):
            return b"%d" % int(1000 * context.time_remaining())
        def fail(request, context):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "\u00fcnfit")
        def slow(request, context):
            while context.is_active():
                time.sleep(0.01)
        def chat(requests, context):
            for r in requests:
                yield r.upper()
        name = details.method.rsplit("/", 1)[1]
        if name == "chat":
            return grpc.stream_stream_rpc_method_handler(chat)
        fn = {"echo": echo, "left": left, "fail": fail, "slow": slow}.get(name)
        return fn and grpc.unary_unary_rpc_method_handler(fn)

server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((Handler(),))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.read()
"""
GRPC_CLIENT = """
import sys
import grpc

channel = grpc.insecure_channel(sys.argv[1])
to = (("sinew-target", "service/basket/rest"),)

def unary(name, data=b"x", metadata=to, timeout=10):
    return channel.unary_unary("/p.S/" + name).with_call(data, metadata=metadata, timeout=timeout)

def status(*args, **kw):
    try:
        unary(*args, **kw)
    except grpc.RpcError as e:
        return e.code(), e.details()

answer, call = unary("echo", b"hi")
assert answer == b"hi"
assert ("x-t", "1") in [tuple(m) for m in call.trailing_metadata()], call.trailing_metadata()
assert ("x-b-bin", bytes([0, 255])) in [tuple(m) for m in call.trailing_metadata()]
assert unary("echo", b"z" * 3000000)[0] == b"z" * 3000000
left = int(unary("left", timeout=5)[0])
assert 0 < left <= 5100, left  # grpcio rounds up what it sends
assert status("fail") == (grpc.StatusCode.FAILED_PRECONDITION, "\u00fcnfit")
assert status("nothing")[0] == grpc.StatusCode.UNIMPLEMENTED
assert status("slow", timeout=0.5)[0] == grpc.StatusCode.DEADLINE_EXCEEDED
code, text = status("echo", metadata=(("sinew-target", "service/void/rest"),))
assert code == grpc.StatusCode.UNAVAILABLE and "No peer found" in text, (code, text)
assert status("echo", metadata=(("sinew-target", "service"),))[0] == grpc.StatusCode.INVALID_ARGUMENT
assert status("echo", metadata=())[0] == grpc.StatusCode.UNIMPLEMENTED
chat = channel.stream_stream("/p.S/chat")
assert list(chat((b"abc%d" % i for i in range(100)), metadata=to)) == [b"ABC%d" % i for i in range(100)]
calls = [channel.unary_unary("/p.S/echo").future(b"%d" % i, metadata=to) for i in range(200)]
assert [c.result(20) for c in calls] == [b"%d" % i for i in range(200)]
print("ok")
"""
DEBIAN_PYTHON = "/usr/bin/python3"  # where python3-grpcio is


def test_grpc_passes_through(sinew, cleanup):
    server = subprocess.Popen([DEBIAN_PYTHON, "-c", GRPC_SERVER], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    sinew.children.append(server)
    r = Running(sinew, "peers: %s\npolicies: %s\n" % (basket(int(server.stdout.readline())),
                                                     json.dumps(FAST["policies"])))
    client = subprocess.run([DEBIAN_PYTHON, "-c", GRPC_CLIENT, "127.0.0.1:%d" % r.port],
                            capture_output=True, text=True, timeout=120)
    assert client.stdout == "ok\n", client.stdout + client.stderr


def test_http2_in_and_a_target_by_header(sinew, cleanup):
    s = Service(name="one")
    r = run_with(sinew, cleanup, s)
    out = subprocess.run(["curl", "-s", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}",
                          "-H", "sinew-target: service/basket/rest", "-d", "x" * 1000,
                          "http://127.0.0.1:%d/own/path?q" % r.port],
                         capture_output=True, text=True, timeout=60)
    assert out.stdout == "hello from one2 200"
    assert s.requests[0][1] == "/own/path?q" and s.requests[0][3] == b"x" * 1000
    assert "sinew-target" not in {k.lower() for k in s.requests[0][2]}


# ---- WebSocket through it ----

class WebSockets:
    """Echoes; python3-websockets."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.open = 0
        self.ready = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()
        assert self.ready.wait(PATIENCE)

    def _run(self):
        async def serve():
            self.server = await websockets.serve(self._echo, "127.0.0.1", 0, subprotocols=["a", "b"],
                                                 ping_interval=None)
            self.port = self.server.sockets[0].getsockname()[1]
            self.ready.set()
        self.loop.run_until_complete(serve())
        self.loop.run_forever()

    async def _echo(self, ws, path=None):
        self.open += 1
        try:
            async for message in ws:
                await ws.send(message if message != "path" else ws.path)
        finally:
            self.open -= 1

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)


def test_websocket_passes_through(sinew, cleanup):
    s = WebSockets()
    r = run_with(sinew, cleanup, s)

    async def talk():
        uri = "ws://127.0.0.1:%d/call/service/basket/rest/chat?room=1" % r.port
        async with websockets.connect(uri, subprotocols=["b"], ping_interval=None) as ws:
            assert ws.subprotocol == "b" and len(ws.response_headers["sinew-call-id"]) == 16
            await ws.send("path")
            assert await ws.recv() == "/chat?room=1"
            data = os.urandom(1 << 19)
            for _ in range(4):
                await ws.send(data)
                assert await ws.recv() == data
            await asyncio.gather(*[ws.send("x" * n) for n in range(1, 200)])
            for n in range(1, 200):
                assert len(await ws.recv()) == n
        assert ws.close_code == 1000
    asyncio.run(asyncio.wait_for(talk(), PATIENCE * 3))
    target = json.loads(r.admin("/targets")[1])["targets"][0]
    while target["inflight"]:
        target = json.loads(r.admin("/targets")[1])["targets"][0]
    assert (target["calls"], target["failed"]) == (1, 0)


def test_a_tunnel_counts_as_under_way_and_ends_with_either_side(sinew, cleanup):
    s = WebSockets()
    r = run_with(sinew, cleanup, s)

    async def talk():
        uri = "ws://127.0.0.1:%d/call/service/basket/rest/" % r.port
        ws = await websockets.connect(uri, ping_interval=None)
        await ws.send("a")
        await ws.recv()
        assert json.loads(r.admin("/targets")[1])["targets"][0]["inflight"] == 1
        ws.transport.abort()
        while s.open:
            await asyncio.sleep(0)
        ws = await websockets.connect(uri, ping_interval=None)
        r.process.terminate()
        await ws.wait_closed()
    asyncio.run(asyncio.wait_for(talk(), PATIENCE * 3))
    assert r.process.wait(PATIENCE) == 0


def test_a_refused_upgrade_is_an_answer(sinew, cleanup):
    s = Service(lambda h, b: Service.reply(h, 403, b"no"))
    r = run_with(sinew, cleanup, s)
    answer, body = r.ask("GET", "/call/service/basket/rest/", headers={
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
    assert (answer.status, body) == (403, b"no")
    assert lower_headers(s.requests[0][2])["upgrade"] == "websocket"


def lower_headers(headers):
    return {k.lower(): v for k, v in headers.items()}


# ---- the agent comes later ----

def test_ready_names_what_is_missing_and_peers_change(sinew, cleanup):
    s = Service(name="late")
    cleanup(s)
    agent = Agent()
    agent.first = None  # it says nothing at first
    cleanup(agent)
    r = Running(sinew, "", agent=agent)
    answer, body = r.admin("/readyz")
    assert answer.status == 503 and json.loads(body)["missing"][0].startswith("agent: ")
    assert r.admin("/healthz")[0].status == 200
    assert json.loads(r.ask("GET", "/peers/service/basket/rest")[1]) is None
    agent.wait_connections(1)
    agent.push(peers_message(s.port))
    answer, body = r.ask("GET", "/call/service/basket/rest/", headers={"sinew-timeout-ms": "10000"})
    assert (answer.status, body) == (200, b"hello from late")
    assert r.admin("/readyz")[0].status == 200
    assert list(json.loads(r.ask("GET", "/peers/service/basket/rest")[1])) == ["1"]


# ---- beginning and end ----

def test_a_wrong_file_is_told_with_its_place(sinew):
    f = sinew.tmp / "s.yaml"
    f.write_text("listen: {sidcar: x}\n")
    r = sinew.run("run", f)
    assert r.returncode == 2 and "s.yaml:1:10" in r.stderr and "sidecar" in r.stderr
    f.write_text("listen: {sidecar: 0.0.0.0:80}\npeers: {}\n")
    r = sinew.run("run", f)
    assert r.returncode == 2 and "needs a token" in r.stderr
    assert sinew.run("run", "none.yaml").returncode == 2
