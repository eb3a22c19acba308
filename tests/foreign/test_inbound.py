# SPDX-License-Identifier: Apache-2.0
"""`listen.inbound`, the proxy in front of a service, and the adapters to servers that are not ours in
examples/: services of Node, Python, gRPC and WebSocket behind; curl, h2load, nghttp and plain sockets in
front; a collector of Python's own."""
import asyncio
import concurrent.futures
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
import websockets
from prometheus_client.parser import text_string_to_metric_families

from conftest import PATIENCE, Agent, Raw, Service, free_port, peers_message, until
from test_h2 import cert  # noqa: F401 (a fixture)
from test_sidecar import DEBIAN_PYTHON, GRPC_SERVER, WebSockets
from test_sidecar_ws import NODE as WS_NODE
from test_trace import Collector, lower

ROOT = os.path.abspath(os.environ.get("SINEW_BUILD_ROOT", "build"))
node, h2load = shutil.which("node"), shutil.which("h2load")


class Proxy:
    """A `sinew run` in front of @to; options of listen.inbound as keywords, '_' for '-'."""

    def __init__(self, sinew, to, text="", listen="", agent=None, env=None, scheme="http", **options):
        self.port, self.admin_port, self.sinew, self.scheme = free_port(), free_port(), sinew, scheme
        self.addr = "127.0.0.1:%d" % self.port
        inbound = dict({"addr": self.addr, "to": to if isinstance(to, str) else "127.0.0.1:%d" % to},
                       **{k.replace("_", "-"): v for k, v in options.items()})
        self.file = sinew.tmp / ("inbound%d.yaml" % self.port)
        self.file.write_text("name: t\nlisten:\n  inbound: %s\n  admin: '127.0.0.1:%d'\n%s%s" % (
            json.dumps(inbound), self.admin_port, listen, text))
        self.process = sinew.start("run", self.file, agent=agent, env=env)
        self.said = []
        for line in self.process.stderr:
            self.said.append(line)
            if "inbound on" in line:
                break
        else:
            raise AssertionError("it ended: " + "".join(self.said))

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ask(self, method, path, body=None, headers=()):
        c = self.connect()
        c.request(method, path, body, dict(headers))
        r = c.getresponse()
        data = r.read()
        c.close()
        return r, data

    def curl(self, path, *args):
        r = subprocess.run(["curl", "-s", "-m", "30", "-w", "\n%{http_version} %{http_code}", *args,
                            "%s://localhost:%d%s" % (self.scheme, self.port, path)],
                           capture_output=True, text=True, timeout=60)
        body, _, last = r.stdout.rpartition("\n")
        return last, body

    def metrics(self):
        c = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=PATIENCE)
        c.request("GET", "/metrics")
        text = c.getresponse().read().decode()
        c.close()
        return {(s.name, s.labels.get("status")): s.value
                for f in text_string_to_metric_families(text) for s in f.samples
                if s.labels.get("listener") == self.addr and "le" not in s.labels}

    def rss(self):
        with open("/proc/%d/status" % self.process.pid, encoding="ascii") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) << 10

    def stop(self, rc=0):
        self.process.terminate()
        assert self.process.wait(PATIENCE) == rc


def served(sinew, cleanup, answer=None, **kw):
    s = Service(answer, name="one")
    cleanup(s)
    return s, Proxy(sinew, s.port, **kw)


# ---- what goes through ----

@pytest.mark.parametrize("form", ["127.0.0.1:%d", "http://127.0.0.1:%d", "localhost:%d", ":%d", "%d",
                                  "http://localhost:%d/"])
def test_forms_of_to(sinew, cleanup, form):
    s = Service(name="one")
    cleanup(s)
    assert Proxy(sinew, form % s.port).ask("GET", "/")[1] == b"hello from one"


def test_a_request_arrives_as_it_was_made(sinew, cleanup):
    s, p = served(sinew, cleanup)
    answer, body = p.ask("POST", "/a/../b%2Fc?q=1&r=%20", b"hello", {
        "Host": "shop.example", "X-Thing": "1", "Connection": "x-gone", "X-Gone": "1", "TE": "gzip",
        "Origin": "https://elsewhere.example", "X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6",
        "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil", "Authorization": "Bearer x"})
    assert (answer.status, body) == (200, b"hello from one")
    method, path, headers, sent = s.requests[0]
    headers = lower(headers)
    assert (method, path, sent) == ("POST", "/a/../b%2Fc?q=1&r=%20", b"hello")
    assert headers["host"] == "shop.example" and headers["x-thing"] == "1"
    assert headers["origin"] == "https://elsewhere.example" and headers["authorization"] == "Bearer x"
    assert headers["x-forwarded-for"] == "127.0.0.1" and headers["x-forwarded-proto"] == "http"
    assert not {"x-gone", "te", "connection", "forwarded", "x-forwarded-host"} & set(headers)
    assert not [h for h in headers if h.startswith(("x-b3", "traceparent", "sinew"))]
    assert not [h for h in lower(dict(answer.getheaders())) if h.startswith("sinew")]


def test_proxies_before_us_are_added_to(sinew, cleanup):
    s, p = served(sinew, cleanup, trust_forwarded=True)
    p.ask("GET", "/", headers={"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6",
                               "X-Forwarded-Proto": "https", "X-Forwarded-Host": "shop.example"})
    headers = lower(s.requests[0][2])
    assert headers["x-forwarded-for"] == "6.6.6.6, 127.0.0.1"
    assert headers["forwarded"] == "for=6.6.6.6, for=127.0.0.1;proto=http"
    assert headers["x-forwarded-proto"] == "https" and headers["x-forwarded-host"] == "shop.example"
    p.ask("GET", "/")
    headers = lower(s.requests[1][2])
    assert headers["x-forwarded-for"] == "127.0.0.1" and "forwarded" not in headers
    assert headers["x-forwarded-proto"] == "http"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "POST"])
@pytest.mark.parametrize("status", [200, 204, 304, 404, 500, 503])
def test_methods_and_statuses(sinew, cleanup, method, status):
    s, p = served(sinew, cleanup, lambda h, b: Service.reply(h, status, b"" if status in (204, 304)
                                                             else b"body", [("X-A", "1")]))
    last, body = p.curl("/", "-X", method, *(["-I"] if method == "HEAD" else []))
    assert last == "1.1 %d" % status
    assert method == "HEAD" or body == ("" if status in (204, 304) else "body")
    assert len(s.requests) == 1  # an answer is an answer: nothing is tried again


def test_unix_sockets_on_both_sides(sinew, cleanup):
    path, to = str(sinew.tmp / "in.sock"), str(sinew.tmp / "to.sock")
    js = ("require('http').createServer((q, r) => r.end(JSON.stringify(q.headers)))"
          ".listen(process.argv[1], () => console.log('up'))")
    server = subprocess.Popen([node, "-e", js, to], stdout=subprocess.PIPE, text=True)
    sinew.children.append(server)
    server.stdout.readline()
    p = Proxy(sinew, "unix:" + to)
    assert json.loads(p.ask("GET", "/", headers={"Host": "a.example"})[1])["host"] == "a.example"
    p.stop()
    Proxy(sinew, "unix:" + to, addr="unix:" + path)
    out = subprocess.run(["curl", "-s", "--unix-socket", path, "http://b.example/"],
                         capture_output=True, text=True, timeout=60)
    headers = json.loads(out.stdout)
    assert headers["host"] == "b.example" and "x-forwarded-for" not in headers


NODE = """
const http = require('http'), http2 = require('http2');
const serve = (q, r) => {
  if (q.url === '/sum') {
    let n = 0;
    q.on('data', (d) => { n += d.length; });
    q.on('end', () => r.end(String(n)));
  } else if (q.url === '/trailers') {
    r.setHeader('Trailer', 'x-sum');
    r.write('abc');
    r.addTrailers({'x-sum': '3'});
    r.end();
  } else if (q.url.startsWith('/big/')) {
    let left = Number(q.url.slice(5));
    const piece = Buffer.alloc(65536, 'x');
    const go = () => { while (left > 0) { const n = Math.min(left, piece.length); left -= n;
      if (!r.write(piece.subarray(0, n))) { r.once('drain', go); return; } } r.end(); };
    go();
  } else if (q.url === '/echo') {
    q.pipe(r);
  } else if (q.url === '/early') {
    r.writeHead(103); r.end();
  } else {
    r.setHeader('x-version', q.httpVersion);
    r.end(JSON.stringify(q.headers));
  }
};
const h2 = process.argv[1] === 'h2';
const s = h2 ? http2.createServer(serve) : http.createServer(serve);
s.listen(0, '127.0.0.1', () => console.log(s.address().port));
"""


def node_server(sinew, form="h1"):
    server = subprocess.Popen([node, "-e", NODE, form], stdout=subprocess.PIPE, text=True)
    sinew.children.append(server)
    return int(server.stdout.readline())


@pytest.mark.parametrize("form", ["h1", "h2"])
@pytest.mark.parametrize("front", ["--http1.1", "--http2-prior-knowledge"])
def test_both_versions_on_both_sides(sinew, form, front, tmp_path):
    p = Proxy(sinew, node_server(sinew, form), http2=form == "h2")
    version = "2" if "2" in front else "1.1"
    last, body = p.curl("/", front, "-H", "X-Some: Thing")
    headers = json.loads(body)
    host = headers.get("host", headers.get(":authority"))
    assert last == version + " 200" and host == "localhost:%d" % p.port
    assert headers["x-some"] == "Thing" and headers["x-forwarded-for"] == "127.0.0.1"
    data = tmp_path / "data"
    data.write_bytes(os.urandom(3 << 20))
    out = tmp_path / "out"
    assert p.curl("/sum", front, "--data-binary", "@%s" % data) == (version + " 200", str(3 << 20))
    assert p.curl("/echo", front, "-T", str(data), "-o", str(out))[0] == version + " 200"
    assert out.read_bytes() == data.read_bytes()
    last, body = p.curl("/trailers", front, "-D", "-")
    assert "x-sum: 3" in body and last == version + " 200"


def test_tls_outside(sinew, cleanup, cert):  # noqa: F811
    port = node_server(sinew)
    p = Proxy(sinew, port, scheme="https", tls={"cert": cert[0], "key": cert[1]})
    for flag, version in (("--http1.1", "1.1"), ("--http2", "2")):
        last, body = p.curl("/", flag, "--cacert", cert[0])
        assert last == version + " 200" and json.loads(body)["x-forwarded-proto"] == "https"
    q = Proxy(sinew, port, scheme="https", tls={"cert": cert[0], "key": cert[1], "ca": cert[0]})
    assert q.curl("/", "--cacert", cert[0])[0].endswith(" 000")
    assert q.curl("/", "--cacert", cert[0], "--cert", cert[0], "--key", cert[1])[0] == "2 200"


def test_nothing_is_buffered(sinew, cleanup):
    """A slow reader stops the service, and a slow service the writer; neither costs memory."""
    size = 200 << 20
    p = Proxy(sinew, node_server(sinew))
    before = p.rss()
    c = p.connect()
    c.request("GET", "/big/%d" % size)
    r = c.getresponse()
    assert len(r.read(1 << 20)) == 1 << 20
    assert p.rss() - before < 8 << 20
    got = 1 << 20
    while got < size:
        got += len(r.read(1 << 20))
    assert not r.read()
    stuck = socket.create_server(("127.0.0.1", 0))
    q = Proxy(sinew, stuck.getsockname()[1])
    before = q.rss()
    s = socket.create_connection(("127.0.0.1", q.port))
    s.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    s.settimeout(1)
    sent = 0
    with pytest.raises(socket.timeout):
        while True:
            sent += s.send(b"x" * 65536)
    assert sent < 32 << 20 and q.rss() - before < 8 << 20


def test_websocket(sinew, cleanup):
    s = WebSockets()
    cleanup(s)
    p = Proxy(sinew, s.port, http2=True,  # an upgrade is HTTP/1.1 all the same
              text="limits: {drain-timeout: 1s}\n")

    async def talk():
        uri = "ws://127.0.0.1:%d/chat?room=1" % p.port
        async with websockets.connect(uri, subprotocols=["b"], ping_interval=None) as ws:
            assert ws.subprotocol == "b"
            await ws.send("path")
            assert await ws.recv() == "/chat?room=1"
            data = os.urandom(1 << 19)
            for _ in range(4):
                await ws.send(data)
                assert await ws.recv() == data
        assert ws.close_code == 1000
        while s.open:
            await asyncio.sleep(0.005)
        ws = await websockets.connect(uri, ping_interval=None)
        ws.transport.abort()
        while s.open:
            await asyncio.sleep(0.005)
        ws = await websockets.connect(uri, ping_interval=None)
        p.process.terminate()
        p.process.stderr.readline()  # draining: what is open may go on for a while
        await ws.send("still")
        assert await ws.recv() == "still"
        await ws.wait_closed()
    asyncio.run(asyncio.wait_for(talk(), PATIENCE * 3))
    assert p.process.wait(PATIENCE) == 0


def test_drain(sinew, cleanup):
    """What has begun may end; then the process does, without waiting for its time."""
    release = threading.Event()
    s, p = served(sinew, cleanup, lambda h, b: (release.wait(PATIENCE), Service.reply(h, 200, b"done")))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(p.ask, "GET", "/")
        until(lambda: s.requests)
        p.process.terminate()
        assert "draining" in p.process.stderr.readline()
        with pytest.raises(OSError):
            p.ask("GET", "/")
        release.set()
        answer, body = first.result()
        assert (answer.status, body) == (200, b"done")
    assert p.process.wait(PATIENCE) == 0


def test_drain_waits_for_a_tunnel(sinew, cleanup):
    s = WebSockets()
    cleanup(s)
    p = Proxy(sinew, s.port)

    async def talk():
        ws = await websockets.connect("ws://%s/" % p.addr, ping_interval=None)
        p.process.terminate()
        p.process.stderr.readline()
        await ws.close()
    asyncio.run(asyncio.wait_for(talk(), PATIENCE * 3))
    assert p.process.wait(PATIENCE) == 0  # before the 30 s are over


GRPC_CLIENT = """
import sys
import grpc

channel = grpc.insecure_channel(sys.argv[1])

def unary(name, data=b"x", timeout=10, metadata=()):
    return channel.unary_unary("/p.S/" + name).with_call(data, timeout=timeout, metadata=metadata)

def status(*args, **kw):
    try:
        unary(*args, **kw)
    except grpc.RpcError as e:
        return e.code(), e.details()

answer, call = unary("echo", b"hi")
assert answer == b"hi"
assert ("x-b-bin", bytes([0, 255])) in [tuple(m) for m in call.trailing_metadata()]
assert unary("echo", b"z" * 3000000)[0] == b"z" * 3000000
left = int(unary("left", timeout=5)[0])
assert 0 < left <= 5100, left
assert status("fail") == (grpc.StatusCode.FAILED_PRECONDITION, "\u00fcnfit")
assert status("nothing")[0] == grpc.StatusCode.UNIMPLEMENTED
assert status("slow", timeout=0.5)[0] == grpc.StatusCode.DEADLINE_EXCEEDED
chat = channel.stream_stream("/p.S/chat")
assert list(chat(b"abc%d" % i for i in range(100))) == [b"ABC%d" % i for i in range(100)]
calls = [channel.unary_unary("/p.S/echo").future(b"%d" % i) for i in range(200)]
assert [c.result(20) for c in calls] == [b"%d" % i for i in range(200)]
print("ok")
"""


GRPC_SILENT = """
import sys, time
import grpc

channel = grpc.insecure_channel(sys.argv[1])

def slowly():
    for i in range(3):
        yield b"a%d" % i
        time.sleep(1.5)

assert list(channel.stream_stream("/p.S/chat")(slowly())) == [b"A0", b"A1", b"A2"]
print("ok")
"""


def test_grpc_streams_may_be_silent(sinew):
    server = subprocess.Popen([DEBIAN_PYTHON, "-c", GRPC_SERVER], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    sinew.children.append(server)
    p = Proxy(sinew, int(server.stdout.readline()), timeout="500ms", text="limits: {idle: 1s}\n")
    client = subprocess.run([DEBIAN_PYTHON, "-c", GRPC_SILENT, p.addr], capture_output=True, text=True,
                            timeout=120)
    assert client.stdout == "ok\n", client.stdout + client.stderr


def test_absolute_form(sinew, cleanup):
    s, p = served(sinew, cleanup)

    def raw(head):
        with socket.create_connection(("127.0.0.1", p.port), PATIENCE) as c:
            c.sendall(head + b"Connection: close\r\n\r\n")
            answer = b""
            while piece := c.recv(65536):
                answer += piece
            return answer.split()[1]
    assert raw(b"GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\n") == b"200"
    assert s.requests[0][1] == "/x?y" and s.requests[0][2]["Host"] == "a.example"
    assert raw(b"GET http://a.example/x?y HTTP/1.1\r\nHost: b.example\r\n") == b"400"
    assert raw(b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n") == b"501"
    assert len(s.requests) == 1
    assert raw(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n") == b"200" and s.requests[1][1] == "*"


def test_websocket_over_http2(sinew, cleanup):
    s = WebSockets()
    cleanup(s)
    p = Proxy(sinew, s.port)
    js = WS_NODE.replace("/call/service/basket/rest/chat", "/chat").replace("|| !h['sinew-call-id']", "")
    out = subprocess.run([node, "-e", js, "http://" + p.addr], capture_output=True, text=True, timeout=90)
    assert out.stdout == "ok\n", out.stdout + out.stderr
    until(lambda: not p.metrics()[("sinew_inbound_inflight", None)])


def test_grpc(sinew, cleanup):
    server = subprocess.Popen([DEBIAN_PYTHON, "-c", GRPC_SERVER], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    sinew.children.append(server)
    collector = Collector()
    cleanup(collector)
    p = Proxy(sinew, int(server.stdout.readline()), timeout="200ms",
              text="trace: {otlp: 'http://127.0.0.1:%d'}\n" % collector.port)
    client = subprocess.run([DEBIAN_PYTHON, "-c", GRPC_CLIENT, p.addr], capture_output=True, text=True,
                            timeout=120)
    assert client.stdout == "ok\n", client.stdout + client.stderr
    p.stop()
    tags = [{a["key"]: a["value"] for a in s["attributes"]} for s in collector.wait(200)]
    codes = {int(list(t["rpc.grpc.status_code"].values())[0]) for t in tags
             if "rpc.grpc.status_code" in t}
    assert {0, 9, 12} <= codes


# ---- time, limits, failures ----

def test_deadlines(sinew, cleanup):
    s, p = served(sinew, cleanup, lambda h, b: (time.sleep(1 if h.path == "/slow" else 0),
                                                Service.reply(h, 200, b"done")))
    for name in ("sinew-timeout-ms", "x-envoy-expected-rq-timeout-ms"):
        answer, body = p.ask("GET", "/", headers={name: "0"})
        assert answer.status == 504 and "on arrival" in json.loads(body)["detail"]
    assert not s.requests
    assert p.ask("GET", "/", headers={"sinew-timeout-ms": "5000"})[0].status == 200
    assert 0 < int(lower(s.requests[0][2])["sinew-timeout-ms"]) <= 5000
    begin = time.monotonic()
    answer, body = p.ask("GET", "/slow", headers={"sinew-timeout-ms": "150"})
    assert answer.status == 504 and json.loads(body)["code"] == "DEADLINE"
    assert 0.14 < time.monotonic() - begin < 0.9
    last, _ = p.curl("/", "--http2-prior-knowledge", "-H", "content-type: application/grpc",
                     "-H", "grpc-timeout: 0m", "-D", os.path.join(sinew.tmp, "head"))
    assert last == "2 200" and "grpc-status: 4" in (sinew.tmp / "head").read_text()
    m = p.metrics()
    assert m[("sinew_inbound_expired_total", None)] == 3
    assert m[("sinew_inbound_requests_total", "5xx")] == 3
    assert m[("sinew_inbound_requests_total", "2xx")] == 2
    assert m[("sinew_inbound_seconds_count", None)] == 5
    assert m[("sinew_inbound_inflight", None)] == 0


def test_a_silent_service_has_its_time(sinew, cleanup):
    release = threading.Event()
    s, p = served(sinew, cleanup, lambda h, b: (release.wait(PATIENCE), Service.reply(h, 200)),
                  timeout="200ms")
    answer, body = p.ask("GET", "/")
    assert answer.status == 504 and "200 ms" in json.loads(body)["detail"]
    release.set()
    assert p.ask("GET", "/")[0].status == 200
    # Its time begins when the request is whole.
    c = p.connect()
    c.putrequest("POST", "/")
    c.putheader("Content-Length", "4")
    c.endheaders(b"ab")
    time.sleep(0.5)
    c.send(b"cd")
    assert c.getresponse().status == 200
    assert s.requests[-1][3] == b"abcd"


def test_limits(sinew, cleanup):
    release = threading.Event()
    s, p = served(sinew, cleanup, lambda h, b: (release.wait(PATIENCE), Service.reply(h, 200)),
                  max_inflight=2, max_body="10")
    assert p.ask("POST", "/", b"x" * 11)[0].status == 413
    assert p.curl("/", "-H", "Transfer-Encoding: chunked", "-H", "Expect:",
                  "-d", "x" * 20)[0] == "1.1 413"
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = [pool.submit(p.ask, "GET", "/") for _ in range(2)]
        until(lambda: len(s.requests) == 2)
        assert p.metrics()[("sinew_inbound_inflight", None)] == 2
        answer, body = p.ask("GET", "/")
        assert answer.status == 503 and "as many requests" in json.loads(body)["detail"]
        release.set()
        assert [f.result()[0].status for f in first] == [200, 200]
    assert p.ask("GET", "/")[0].status == 200


@pytest.mark.parametrize("front", ["--http1.1", "--http2-prior-knowledge"])
def test_the_head_has_a_limit(sinew, cleanup, front):
    s, p = served(sinew, cleanup, text="limits: {header: 4KiB}\n")
    assert p.curl("/", front, "-H", "X: " + "a" * 3000)[0].endswith(" 200")
    assert p.curl("/", front, "-H", "X: " + "a" * 5000)[0].endswith(" 431")
    assert len(s.requests) == 1


def test_a_service_that_is_not_there(sinew, cleanup):
    port = free_port()
    p = Proxy(sinew, port)
    answer, body = p.ask("GET", "/")
    assert answer.status == 502 and answer.headers["Content-Type"] == "application/problem+json"
    assert "refused" in json.loads(body)["detail"]
    js = "require('http').createServer((q, r) => r.end('here')).listen(%d, () => console.log(1))" % port
    server = subprocess.Popen([node, "-e", js], stdout=subprocess.PIPE, text=True)
    sinew.children.append(server)
    server.stdout.readline()
    assert p.ask("GET", "/")[1] == b"here"
    server.kill()
    server.wait()
    assert p.ask("GET", "/")[0].status == 502


def test_a_kept_connection_that_was_closed(sinew, cleanup):
    """The service closes after its answer without a word: GETs are tried anew, POSTs are not."""
    def script(raw, c, n):
        raw.read_request(c)
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        raw.read_request(c)  # of the next request: closed in its face
        Raw.reset(c)
    raw = Raw(script)
    cleanup(raw)
    p = Proxy(sinew, raw.port)
    assert [p.ask("GET", "/")[0].status for _ in range(4)] == [200] * 4
    assert p.ask("POST", "/", b"x")[0].status in (200, 502)
    assert p.ask("POST", "/", b"x")[0].status in (200, 502)
    posts = [h for h, _ in raw.requests if h.startswith(b"POST")]
    assert len(posts) == 2


def test_an_answer_that_breaks_off(sinew, cleanup):
    def script(raw, c, n):
        raw.read_request(c)
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        c.recv(1) if n < 0 else c.close()
    raw = Raw(script)
    cleanup(raw)
    p = Proxy(sinew, raw.port)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        p.ask("GET", "/")
    r = subprocess.run(["curl", "-s", "--http2-prior-knowledge", "http://" + p.addr],
                       capture_output=True, timeout=60)
    assert r.returncode != 0 and r.stdout in (b"", b"half")


def test_an_answer_that_falls_silent(sinew, cleanup):
    s, p = served(sinew, cleanup, lambda h, b: (h.send_response(200), h.send_header("Content-Length", "9"),
                                                h.end_headers(), h.wfile.write(b"half"), time.sleep(5)),
                  timeout="200ms")
    begin = time.monotonic()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        p.ask("GET", "/")
    assert time.monotonic() - begin < 3


def test_a_client_that_goes_ends_the_work(sinew, cleanup):
    gone = threading.Event()

    def script(raw, c, n):
        raw.read_request(c)
        try:
            if c.recv(1) == b"":
                gone.set()
        except OSError:
            gone.set()
    raw = Raw(script)
    cleanup(raw)
    p = Proxy(sinew, raw.port)
    s = socket.create_connection(("127.0.0.1", p.port))
    s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: raw.requests)
    Raw.reset(s)
    assert gone.wait(PATIENCE)
    until(lambda: not p.metrics()[("sinew_inbound_inflight", None)])
    assert p.metrics()[("sinew_inbound_requests_total", "none")] == 1


SMUGGLED = [
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcdG",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"\n\"\r\nx\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("i", range(len(SMUGGLED)))
def test_nothing_is_smuggled(sinew, i):
    js = ("const l = []; require('http').createServer((q, r) => { l.push(q.url); q.resume();"
          "q.on('end', () => r.end(JSON.stringify(l))); }).listen(0, '127.0.0.1', function() {"
          "console.log(this.address().port) })")
    server = subprocess.Popen([node, "-e", js], stdout=subprocess.PIPE, text=True)
    sinew.children.append(server)
    p = Proxy(sinew, int(server.stdout.readline()))
    s = socket.create_connection(("127.0.0.1", p.port), PATIENCE)
    s.sendall(SMUGGLED[i])
    s.shutdown(socket.SHUT_WR)
    answer = b""
    while piece := s.recv(65536):
        answer += piece
    assert answer == b"" or answer.split()[1].startswith((b"4", b"5")), answer
    assert json.loads(p.ask("GET", "/after")[1]) in (["/after"], ["/", "/after"])


@pytest.mark.skipif(h2load is None, reason="no h2load")
@pytest.mark.parametrize("form", ["h1", "h2"])
def test_many_at_once(sinew, form):
    p = Proxy(sinew, node_server(sinew, form), http2=form == "h2")
    for front in ([], ["--h1"]):
        out = subprocess.run([h2load, *front, "-n", "3000", "-c", "20", "-m", "1" if front else "10",
                              "http://%s/" % p.addr], capture_output=True, text=True, timeout=120)
        assert "3000 succeeded, 0 failed" in out.stdout, out.stdout
    assert p.metrics()[("sinew_inbound_requests_total", "2xx")] == 6000
    p.stop()


# ---- traces ----

PLACE = {"BERLIOZ_CLUSTER": "shop", "BERLIOZ_SECTOR": "core", "BERLIOZ_SERVICE": "Front"}
B3 = {"X-B3-TraceId": "6e0a2b4c8d1f3057", "X-B3-SpanId": "1d2c3b4a59687766",
      "X-B3-ParentSpanId": "6e0a2b4c8d1f3057", "X-B3-Sampled": "1"}


def test_zipkin_switched_live(sinew, cleanup):
    """`enable-zipkin` at the root, as the seed has it: off, on, off."""
    s, c = Service(name="one"), Collector()
    cleanup(s)
    cleanup(c)

    def policies(on):
        return {"policies": {"values": {"enable-zipkin": on, "zipkin-endpoint":
                                        "http://127.0.0.1:%d/api/v2/spans" % c.port}}}
    agent = Agent(dict(peers_message(), **policies(False)))
    cleanup(agent)
    p = Proxy(sinew, s.port, agent=agent, env=PLACE)
    agent.wait_connections(1)
    p.ask("GET", "/off", headers=B3)
    assert lower(s.requests[0][2])["x-b3-spanid"] == B3["X-B3-SpanId"]  # goes through as it came
    agent.push(policies(True))
    until(lambda: p.ask("GET", "/on") and "x-b3-traceid" in lower(s.requests[-1][2]))
    p.ask("POST", "/joined?x=1", b"a", dict(B3, Host="front.example:7001"))
    told = lower(s.requests[-1][2])
    assert told["x-b3-traceid"] == B3["X-B3-TraceId"] and told["x-b3-sampled"] == "1"
    assert told["x-b3-spanid"] == B3["X-B3-SpanId"] and told["x-b3-parentspanid"] == B3["X-B3-TraceId"]
    until(lambda: [x for x in c.spans if "joined" in x["tags"]["http.url"]])
    span = [x for x in c.spans if "joined" in x["tags"]["http.url"]][0]
    assert span["id"] == B3["X-B3-SpanId"] and span["traceId"] == B3["X-B3-TraceId"]
    assert span["kind"] == "SERVER" and span["shared"] is True and span["name"] == "post"
    assert span["localEndpoint"] == {"serviceName": "service-shop-core-front", "ipv4": "127.0.0.1"}
    assert span["tags"] == {"http.url": "http://front.example:7001/joined?x=1",
                            "http.status_code": "200"}
    root = [x for x in c.spans if x["tags"]["http.url"].endswith("/on")][0]
    assert root["traceId"] == root["id"] and "parentId" not in root and "shared" not in root
    agent.push(policies(False))
    until(lambda: p.ask("GET", "/off-again") and "x-b3-traceid" not in lower(s.requests[-1][2]))
    n = len(s.requests)
    p.stop()
    assert not [x for x in c.spans if x["tags"]["http.url"].endswith("/off")]
    assert len(c.spans) < n


def test_not_sampled_is_not_reported(sinew, cleanup):
    s, c = Service(name="one"), Collector()
    cleanup(s)
    cleanup(c)
    p = Proxy(sinew, s.port, text="trace: {zipkin: 'http://127.0.0.1:%d'}\n" % c.port)
    p.ask("GET", "/no", headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"})
    told = lower(s.requests[0][2])["traceparent"]
    assert told.startswith("00-0af7651916cd43dd8448eb211c80319c-") and told.endswith("-00")
    p.ask("GET", "/yes")
    p.stop()
    assert [x["tags"]["http.url"].rpartition("/")[2] for x in c.wait(1)] == ["yes"]


def test_a_trace_goes_through_the_service(sinew, cleanup):
    """Caller -> proxy -> service -> sidecar -> peer: each span below the one before."""
    c, peer, sidecar_port = Collector(), Service(name="peer"), free_port()
    cleanup(c)
    cleanup(peer)

    def answer(h, body):
        link = http.client.HTTPConnection("127.0.0.1", sidecar_port, timeout=PATIENCE)
        link.request("GET", "/call/service/basket/rest/deep", headers={
            k: v for k, v in h.headers.items() if k.lower() in ("traceparent", "sinew-timeout-ms")})
        Service.reply(h, 200, link.getresponse().read())
    s = Service(answer)
    cleanup(s)
    p = Proxy(sinew, s.port, listen="  sidecar: '127.0.0.1:%d'\n" % sidecar_port,
              text="trace: {otlp: 'http://127.0.0.1:%d'}\npeers: %s\n" % (
                  c.port, json.dumps(peers_message(peer.port)["peers"])))
    answer, body = p.ask("GET", "/top", headers={
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "sinew-timeout-ms": "9000"})
    assert body == b"hello from peer"
    assert 0 < int(lower(peer.requests[0][2])["sinew-timeout-ms"]) <= 9000
    spans = c.wait(3)
    assert {x["traceId"] for x in spans} == {"0af7651916cd43dd8448eb211c80319c"}
    server = [x for x in spans if x["kind"] in (2, "SPAN_KIND_SERVER")]
    assert len(server) == 1 and server[0]["parentSpanId"] == "b7ad6b7169203331"
    call = [x for x in spans if x["parentSpanId"] == server[0]["spanId"]]
    attempt = [x for x in spans if call and x["parentSpanId"] == call[0]["spanId"]]
    assert len(call) == 1 and len(attempt) == 1
    assert lower(peer.requests[0][2])["traceparent"].split("-")[2] == attempt[0]["spanId"]
    assert "b7ad6b7169203331" not in lower(s.requests[0][2])["traceparent"]


# ---- the file ----

def test_check_says_where(sinew):
    f = sinew.tmp / "bad.yaml"
    f.write_text("listen:\n  inbound:\n    addr: nowhere\n    to: https://a/b\n    htp2: true\n"
                 "    timeout: soon\n    tls: {cert: a.pem}\n")
    r = sinew.run("check", f)
    text = r.stdout + r.stderr
    assert r.returncode == 2, text
    for place, words in (("3:11", "listen.inbound.addr"), ("4:9", "listen.inbound.to"),
                         ("5:5", "http2"), ("6:14", "timeout"), ("7:10", "key")):
        assert [x for x in text.split("\n") if "bad.yaml:%s:" % place in x and words in x], text
    f.write_text("listen:\n  inbound: 127.0.0.1:80\n")
    r = sinew.run("check", f)
    assert r.returncode == 2 and "bad.yaml:2:12: listen.inbound must be a map" in r.stdout + r.stderr
    f.write_text("listen:\n  inbound: {addr: '0.0.0.0:8080', to: 'app:80'}\n")
    r = sinew.run("check", f)
    assert r.returncode == 0, r.stdout + r.stderr


# ---- adapters ----

class Adapted:
    """A server of examples/ whose requests sinew traces."""

    def __init__(self, sinew, cleanup, name):
        binary = os.path.join(ROOT, "examples", name)
        if not os.path.exists(binary):
            pytest.skip("its library is not installed")
        self.collector, self.peer = Collector(), Service(name="peer")
        cleanup(self.collector)
        cleanup(self.peer)
        self.admin_port = free_port()
        file = sinew.tmp / "app.yaml"
        file.write_text("listen: {admin: '127.0.0.1:%d'}\ntrace: {zipkin: 'http://127.0.0.1:%d'}\n"
                        "peers: %s\n" % (self.admin_port, self.collector.port,
                                         json.dumps(peers_message(self.peer.port)["peers"])))
        self.process = subprocess.Popen([binary, file, "basket", "rest"], env=sinew.env(**PLACE),
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        sinew.children.append(self.process)
        self.port = int(self.process.stdout.readline())
        self.addr = "host"

    ask, connect, metrics = Proxy.ask, Proxy.connect, Proxy.metrics

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=PATIENCE)
        assert (self.process.returncode, err) == (0, "")


@pytest.mark.parametrize("name", ["inbound_mhd_server", "inbound_evhttp_server"])
def test_adapters(sinew, cleanup, name):
    a = Adapted(sinew, cleanup, name)
    assert a.ask("GET", "/plain?x=1", headers={"Host": "front.example:7001"})[1] == b"hello\n"
    answer, body = a.ask("GET", "/call", headers={
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "sinew-timeout-ms": "9000"})
    assert (answer.status, body) == (200, b"hello from peer")
    told = lower(a.peer.requests[0][2])
    assert 0 < int(told["sinew-timeout-ms"]) <= 9000
    assert a.ask("GET", "/plain", headers={"sinew-timeout-ms": "0"})[0].status == 504
    c = a.connect()  # several on one connection
    for _ in range(3):
        c.request("GET", "/kept")
        assert c.getresponse().read() == b"hello\n"
    spans = {x["id"]: x for x in a.collector.wait(8)}
    servers = [x for x in spans.values() if x["kind"] == "SERVER"]
    assert len(servers) == 6
    plain = [x for x in servers if x["tags"]["http.url"].startswith("http://front.example:7001/plain")][0]
    assert plain["name"] == "get" and plain["tags"]["http.status_code"] == "200"
    assert plain["localEndpoint"] == {"serviceName": "service-shop-core-front", "ipv4": "127.0.0.1"}
    deep = [x for x in servers if x["traceId"] == "0af7651916cd43dd8448eb211c80319c"][0]
    assert deep["parentId"] == "b7ad6b7169203331"
    attempt = spans[told["traceparent"].split("-")[2]]
    assert spans[attempt["parentId"]]["parentId"] == deep["id"]
    assert [x["tags"]["http.status_code"] for x in servers].count("504") == 1
    m = a.metrics()
    assert m[("sinew_inbound_requests_total", "2xx")] == 5
    assert m[("sinew_inbound_requests_total", "5xx")] == 1
    assert m[("sinew_inbound_expired_total", None)] == 1
    assert m[("sinew_inbound_inflight", None)] == 0
    c.close()
    a.stop()


def test_an_evhttp_client_that_goes(sinew, cleanup):
    a = Adapted(sinew, cleanup, "inbound_evhttp_server")
    a.ask("GET", "/plain")
    s = socket.create_connection(("127.0.0.1", a.port))
    s.sendall(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: a.metrics()[("sinew_inbound_inflight", None)] == 1)
    Raw.reset(s)
    until(lambda: not a.metrics()[("sinew_inbound_inflight", None)])
    assert a.metrics()[("sinew_inbound_requests_total", "none")] == 1
    assert a.ask("GET", "/late")[1] == b"at last\n"
    a.stop()
