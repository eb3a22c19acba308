# SPDX-License-Identifier: Apache-2.0
"""Our HTTP server and WebSocket ends against curl, Python's and Node's HTTP, and python3-websockets."""
import asyncio
import http.client
import os
import shutil
import socket
import ssl
import subprocess
import sys

import pytest
import websockets

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import certs  # noqa: E402

PEER = os.path.join(os.environ.get("SINEW_BUILD_ROOT", "build"), "tests", "http", "http_peer")
curl = shutil.which("curl")
node = shutil.which("node")


class Peer:
    def __init__(self, *args):
        self.p = subprocess.Popen([PEER, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True)

    def line(self):
        return self.p.stdout.readline().rstrip("\n")

    def end(self):
        out, err = self.p.communicate(timeout=20)
        assert self.p.returncode == 0, err
        assert err == ""
        return out


@pytest.fixture
def server():
    s = Peer("serve", "127.0.0.1:0")
    s.port = int(s.line().split(":")[1])
    s.url = "http://127.0.0.1:%d" % s.port
    yield s
    if s.p.poll() is None:
        s.end()


@pytest.fixture
def cert(tmp_path):
    return certs.alone(tmp_path)


def run(*args, **kw):
    return subprocess.run(args, capture_output=True, text=True, timeout=30, **kw)


@pytest.mark.skipif(not curl, reason="no curl")
class TestCurl:
    def test_keep_alive(self, server):
        r = run(curl, "-sv", server.url + "/hello", server.url + "/hello", server.url + "/no")
        assert r.stdout == "hello\nhello\nno\n"
        assert r.stderr.count("Re-using existing connection") == 2

    def test_head_and_10(self, server):
        r = run(curl, "-sI", server.url + "/hello")
        assert "Content-Length: 6" in r.stdout
        r = run(curl, "-si0", server.url + "/hello")
        assert "Connection: close" in r.stdout and r.stdout.endswith("hello\n")

    def test_expect_continue(self, server, tmp_path):
        f = tmp_path / "body"
        f.write_bytes(b"x" * 3000000)
        r = run(curl, "-sv", "-H", "Expect: 100-continue", "--data-binary", "@%s" % f, "-o",
                tmp_path / "out", server.url + "/all")
        assert "HTTP/1.1 100 Continue" in r.stderr
        assert (tmp_path / "out").read_bytes() == f.read_bytes()

    def test_chunked_both_ways(self, server, tmp_path):
        f = tmp_path / "body"
        f.write_bytes(os.urandom(5000000))
        r = run(curl, "-sv", "-H", "Transfer-Encoding: chunked", "--data-binary", "@%s" % f, "-o",
                tmp_path / "out", server.url + "/echo")
        assert "Transfer-Encoding: chunked" in r.stderr
        assert (tmp_path / "out").read_bytes() == f.read_bytes()

    def test_too_large(self, server, tmp_path):
        f = tmp_path / "body"
        f.write_bytes(b"x" * (17 << 20))
        r = run(curl, "-s", "-w", "%{http_code}", "--data-binary", "@%s" % f, server.url + "/all")
        assert r.stdout == "413 Content Too Large: the body is too large\n413"

    def test_large_but_not_read(self, server, tmp_path):
        f = tmp_path / "body"
        f.write_bytes(b"x" * (5 << 20))
        r = run(curl, "-s", "-H", "Expect:", "--data-binary", "@%s" % f, server.url + "/hello")
        assert r.stdout == "hello\n"

    def test_foreign_host_and_origin(self, server):
        code = ("-o", "/dev/null", "-s", "-w", "%{http_code}")
        assert run(curl, *code, "-H", "Host: evil.test", server.url + "/hello").stdout == "421"
        assert run(curl, *code, "-H", "Host: allowed.test", server.url + "/hello").stdout == "200"
        assert run(curl, *code, "-H", "Origin: http://evil.test", server.url).stdout == "403"

    def test_tls(self, cert):
        s = Peer("serve", "127.0.0.1:0", *cert)
        url = "https://localhost:%s" % s.line().split(":")[1]
        r = run(curl, "-sv", "--cacert", cert[0], url + "/hello", url + "/hello")
        assert r.stdout == "hello\nhello\n"
        assert "ALPN: server accepted h2" in r.stderr
        s.end()

    def test_unix_socket(self, tmp_path):
        path = str(tmp_path / "s")
        s = Peer("serve", "unix:" + path)
        assert s.line() == "unix:" + path
        assert run(curl, "-s", "--unix-socket", path, "http://any.name/hello").stdout == "hello\n"
        s.end()
        assert not os.path.exists(path)


class TestPython:
    def test_http_client(self, server):
        c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        for _ in range(3):
            c.request("GET", "/hello")
            r = c.getresponse()
            assert (r.status, r.read()) == (200, b"hello\n")
        body = os.urandom(1000000)
        c.request("POST", "/echo", body=iter([body[:10], body[10:]]), encode_chunked=True,
                  headers={"Transfer-Encoding": "chunked"})
        r = c.getresponse()
        assert r.read() == body
        c.request("DELETE", "/method")
        assert c.getresponse().read() == b"DELETE"

    def test_pipeline(self, server):
        with socket.create_connection(("127.0.0.1", server.port)) as s:
            n = 2000
            one = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
            s.sendall(one * (n - 1) + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            data = b""
            while True:
                piece = s.recv(65536)
                if not piece:
                    break
                data += piece
            assert data.count(b"HTTP/1.1 200 OK\r\n") == n
            assert data.count(b"hello\n") == n

    def test_answer_survives_a_rude_client(self, server):
        """An error answer is readable although the client goes on sending."""
        with socket.create_connection(("127.0.0.1", server.port)) as s:
            s.sendall(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 100000)
            assert s.recv(100).startswith(b"HTTP/1.1 400 ")

    def test_graceful_end(self, server):
        c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        c.request("GET", "/hello")
        assert c.getresponse().read() == b"hello\n"
        server.end()


@pytest.mark.skipif(not node, reason="no node")
def test_node(server):
    script = """
const http = require('http');
const agent = new http.Agent({keepAlive: true, maxSockets: 4});
const body = 'x'.repeat(300000);
let left = 40, bad = 0;
function one(i) {
  const post = i %% 2;
  const req = http.request({port: %d, path: post ? '/echo' : '/hello', agent,
      method: post ? 'POST' : 'GET'}, res => {
    let n = 0;
    res.on('data', d => n += d.length);
    res.on('end', () => {
      if (n !== (post ? body.length : 6)) bad++;
      if (post && res.trailers['x-done'] !== 'yes') bad++;
      if (--left === 0) { console.log('bad', bad); agent.destroy(); }
    });
  });
  req.end(post ? body : undefined);
}
for (let i = 0; i < 40; i++) one(i);
""" % server.port
    r = run(node, "-e", script)
    assert r.stdout == "bad 0\n", r.stderr


class TestWebSocketServer:
    def talk(self, server, coroutine, **kw):
        async def go():
            async with websockets.connect("ws://127.0.0.1:%d/ws" % server.port, max_size=None,
                                          compression=None, **kw) as ws:
                return await coroutine(ws)
        return asyncio.run(asyncio.wait_for(go(), 20))

    def test_echo(self, server):
        async def go(ws):
            for m in ("hi", b"\0\1", "", "ä€😀" * 1000, "x" * 999999):
                await ws.send(m)
                assert await ws.recv() == m
            await ws.send(iter(["a", "b", "c"]))  # fragments
            assert await ws.recv() == "abc"
            await (await ws.ping())
            await asyncio.sleep(0.7)  # three of the server's pings
            await ws.send("still here")
            assert await ws.recv() == "still here"
        self.talk(server, go)
        assert server.line() == "closed CLOSED 1000"

    def test_server_closes(self, server):
        async def go(ws):
            await ws.send("close me")
            with pytest.raises(websockets.ConnectionClosed) as e:
                await ws.recv()
            assert (e.value.code, e.value.reason) == (4000, "as you wish")
        self.talk(server, go)
        assert server.line() == "closed CLOSED 4000"

    def test_too_large(self, server):
        async def go(ws):
            await ws.send("x" * 1000001)
            with pytest.raises(websockets.ConnectionClosed) as e:
                await ws.recv()
            assert e.value.code == 1009
        self.talk(server, go)
        assert server.line() == "closed LIMIT 1009"

    def test_dropped(self, server):
        async def go(ws):
            ws.transport.abort()
        self.talk(server, go)
        assert server.line().split()[1] in ("RESET", "EOF")

    def test_foreign_origin(self, server):
        async def go(ws):
            pass
        with pytest.raises(websockets.InvalidStatusCode) as e:
            self.talk(server, go, origin="http://evil.test")
        assert e.value.status_code == 403

    def test_not_a_websocket(self, server):
        c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        c.request("GET", "/ws")
        r = c.getresponse()
        assert (r.status, r.getheader("Upgrade")) == (426, "websocket")


class TestWebSocketClient:
    def talk(self, serve, lines, cert=None, more=()):
        """Run our client against @serve(ws); returns its output. The client closes at the end of its
        input; @lines None: once @serve has set ws.told."""
        async def go():
            context = None
            told = asyncio.Event()
            if cert:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*cert)

            async def one(ws, path=None):
                ws.told = told
                await serve(ws)
            async with websockets.serve(one, "127.0.0.1", 0, ssl=context, max_size=None) as s:
                url = "%s://127.0.0.1:%d/a?b" % ("wss" if cert else "ws",
                                                 s.sockets[0].getsockname()[1])
                p = await asyncio.create_subprocess_exec(
                    PEER, "ws", url, *more, stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
                if lines is None:
                    await asyncio.wait_for(told.wait(), 20)
                out, err = await asyncio.wait_for(p.communicate((lines or "").encode()), 20)
                assert p.returncode == 0, err
                return out.decode().splitlines()
        return asyncio.run(go())

    def test_echo(self):
        async def serve(ws):
            assert ws.path == "/a?b"
            async for m in ws:
                await ws.send(m)
        out = self.talk(serve, "hi\n" + "x" * 200000 + "\n\n")
        assert out[:4] == ["open", "text 2 hi", "text 200000 " + "x" * 60, "text 0 "]
        assert out[4].startswith("closed CLOSED 1000")

    def test_binary_and_fragments(self):
        async def serve(ws):
            await ws.send(b"bin")
            await ws.send(iter(["fr", "ag", "ment"]))
            await (await ws.ping())  # what was sent before has been read
            ws.told.set()
            await ws.wait_closed()
        out = self.talk(serve, None)
        assert "binary 3 bin" in out and "text 8 fragment" in out

    def test_server_closes(self):
        async def serve(ws):
            await ws.recv()
            await ws.close(4321, "enough")
        out = self.talk(serve, "x\n")
        assert out[-1].startswith("closed CLOSED 4321") or out[-1].startswith("closed CLOSED 1000")

    def test_too_large(self):
        async def serve(ws):
            try:
                await ws.send("x" * 1000001)
                await ws.wait_closed()
            except websockets.ConnectionClosed:
                pass
            assert ws.close_code == 1009
        out = self.talk(serve, "x\n")
        assert out[-1].startswith("closed LIMIT 1009")

    def test_tls(self, cert):
        async def serve(ws):
            async for m in ws:
                await ws.send(m)
        out = self.talk(serve, "secret\n", cert=cert, more=(cert[0],))
        assert out[:2] == ["open", "text 6 secret"]

    def test_tls_unknown_ca(self, cert):
        async def serve(ws):
            pass
        out = self.talk(serve, "x\n", cert=cert)
        assert out[0].startswith("closed TLS") and "certificate" in out[0]

    def test_refused(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))  # not listening, and nobody else's
            r = run(PEER, "ws", "ws://127.0.0.1:%d/" % s.getsockname()[1], input="")
        assert r.stdout.startswith("closed CONNECT 111 ")

    def test_not_found(self, server):
        r = run(PEER, "ws", "ws://127.0.0.1:%d/nothing" % server.port, input="")
        assert r.stdout == "closed STATUS 404 status 404 Not Found instead of 101\n"

    def test_bad_url(self):
        r = run(PEER, "ws", "http://a/", input="")
        assert r.returncode == 1 and "ws://" in r.stderr
