# SPDX-License-Identifier: Apache-2.0
"""Request smuggling through the sidecar to servers that are not ours: nginx and Node (strict, and with
its lenient parser). A case is what a client sends as one blow; whatever the sidecar makes of it, the
backend must have seen exactly the requests that the sidecar answered for it, none of them the one
that was hidden, and the next clients of the kept connections get their own answers."""
import os
import re
import socket
import subprocess
import sys
import threading
import time

import pytest

from conftest import PATIENCE, Raw, Sinew, free_port
from test_sidecar import Running, basket

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "h2"))
import h2raw as h2  # noqa: E402

CALL = b"/call/service/basket/rest"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\nX-Id: hidden\r\n\r\n"

# ---- backends: every request they see becomes a line "METHOD target id" ----

NGINX = """
daemon off; worker_processes 1; pid %(dir)s/pid; error_log %(dir)s/error;
events { worker_connections 256; }
http {
  log_format seen escape=json '$request_method $request_uri $http_x_id';
  client_body_temp_path %(dir)s/body; proxy_temp_path %(dir)s/proxy;
  fastcgi_temp_path %(dir)s/fastcgi; uwsgi_temp_path %(dir)s/uwsgi; scgi_temp_path %(dir)s/scgi;
  access_log %(dir)s/seen seen;
  server { listen 127.0.0.1:%(port)d; keepalive_requests 100000;
           location / { return 200 "$request_method $request_uri $http_x_id\\n"; } }
}
"""

NODE = """
const http = require('http');
const server = http.createServer((req, res) => {
  const line = [req.method, req.url, req.headers['x-id'] || ''].join(' ') + '\\n';
  process.stdout.write(line);
  req.on('data', () => {});
  req.on('end', () => res.end(line));
  req.on('error', () => {});
});
server.on('upgrade', (req, socket) => {
  process.stdout.write([req.method, req.url, req.headers['x-id'] || ''].join(' ') + '\\n');
  socket.end('HTTP/1.1 400 Bad Request\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n');
});
server.on('clientError', (e, socket) => {
  // A request that is broken off is no fault of its framing.
  if (e.code !== 'ECONNRESET' && e.code !== 'HPE_INVALID_EOF_STATE')
    process.stdout.write('BROKEN ' + e.code + '\\n');
  socket.destroy();
});
server.keepAliveTimeout = 60000;
server.listen(0, '127.0.0.1', () => process.stderr.write(server.address().port + '\\n'));
"""


class Nginx:
    def __init__(self, folder):
        self.port = free_port()
        self.log = folder / "seen"
        conf = folder / "nginx.conf"
        conf.write_text(NGINX % {"dir": folder, "port": self.port})
        self.process = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(conf), "-e", str(folder / "error")])
        wait_for_port(self.port)

    def seen(self):
        return self.log.read_text().splitlines() if self.log.exists() else []

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Node:
    def __init__(self, folder, *flags):
        self.log = folder / "seen"
        with open(self.log, "w") as out:
            self.process = subprocess.Popen(["node", *flags, "-e", NODE], stdout=out,
                                            stderr=subprocess.PIPE, text=True)
        self.port = int(self.process.stderr.readline())

    def seen(self):
        return self.log.read_text().splitlines()

    def stop(self):
        self.process.terminate()
        self.process.wait()


def wait_for_port(port):
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < end


BACKENDS = {"nginx": Nginx, "node": Node,
            "node-lenient": lambda folder: Node(folder, "--insecure-http-parser")}


@pytest.fixture(scope="module", params=sorted(BACKENDS))
def hop(request, tmp_path_factory):
    """A sidecar in front of one backend; retries are off, so that every request is somebody's."""
    backend = BACKENDS[request.param](tmp_path_factory.mktemp("backend"))
    sinew = Sinew(tmp_path_factory.mktemp("sinew"))
    r = Running(sinew, "peers: %s\npolicies: {retry-count: 0, breaker: false}\n" % basket(backend.port))
    r.backend = backend
    r.number = 0
    yield r
    alive = r.process.poll()
    sinew.stop()
    backend.stop()
    assert alive is None


def blow(port, data):
    """Send it, end our side, read whatever comes until the other end closes."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as s:
        got = b""
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        try:
            while True:
                piece = s.recv(65536)
                if not piece:
                    return got
                got += piece
        except ConnectionError:
            return got


def canaries(r, n=6):
    """Honest requests over the kept connections: each gets its own answer."""
    wanted = []
    for i in range(n):
        r.number += 1
        name = "canary-%d" % r.number
        body = b"x" * (i % 3)
        answer, text = r.ask("POST" if body else "GET", "/call/service/basket/rest/%s" % name,
                             body or None, {"X-Id": name})
        method = "POST" if body else "GET"
        assert answer.status == 200
        assert text.decode().strip() == "%s /%s %s" % (method, name, name)
        wanted.append("%s /%s %s" % (method, name, name))
    return wanted


def settled(r, last):
    """The backend's lines once @last is among them (nginx writes them behind its answer)."""
    end = time.monotonic() + PATIENCE
    while last not in r.backend.seen() and time.monotonic() < end:
        time.sleep(0.005)
    return r.backend.seen()


def check(r, before, answered):
    """@answered: how many answers of the backend the attacker got, None: not to be counted."""
    wanted = canaries(r)
    lines = settled(r, wanted[-1])[before:]
    assert not [line for line in lines if "hidden" in line], lines
    assert not [line for line in lines if line.startswith("BROKEN")], lines
    assert [line for line in lines if "canary" in line] == wanted
    if answered is not None:
        assert len(lines) == len(wanted) + answered, lines
    return [line for line in lines if "canary" not in line]


def statuses(answer):
    return [int(s) for s in re.findall(rb"HTTP/1\.1 (\d\d\d) ", answer)]


def from_backend(answer):
    return len(re.findall(rb"(?im)^sinew-peer: 1\r$", answer))


# ---- HTTP/1.1 in ----

def post(*lines, body=b"", target=CALL + b"/attack", version=b"HTTP/1.1", end=b"\r\n"):
    head = [b"POST " + target + b" " + version, b"Host: localhost", *lines]
    return b"".join(line + end for line in head) + end + body


CL_HIDDEN = b"Content-Length: %d" % len(HIDDEN)
CHUNKED = b"Transfer-Encoding: chunked"
ZERO = b"0\r\n\r\n" + HIDDEN
CL_ZERO = b"Content-Length: %d" % len(ZERO)


def chunk(data, ext=b""):
    return b"%x%s\r\n%s\r\n" % (len(data), ext, data)


# Name: (what is sent, statuses the sidecar may say; None: whatever). A backend that sees the attack's
# own request is fine, as long as it is one for every answer.
REFUSED = {400, 501}
RAW = {
    # two lengths
    "cl.te": (post(CL_ZERO, CHUNKED, body=ZERO), REFUSED),
    "te.cl": (post(CHUNKED, b"Content-Length: 4", body=chunk(HIDDEN) + b"0\r\n\r\n"), REFUSED),
    "cl.cl": (post(b"Content-Length: 0", CL_HIDDEN, body=HIDDEN), REFUSED),
    "cl.cl same": (post(CL_HIDDEN, CL_HIDDEN, body=HIDDEN), REFUSED),
    "cl list": (post(b"Content-Length: 0, %d" % len(HIDDEN), body=HIDDEN), REFUSED),
    "cl list same": (post(b"Content-Length: 5, 5", body=b"hello" + HIDDEN), REFUSED),
    "cl plus": (post(b"Content-Length: +5", body=b"hello" + HIDDEN), REFUSED),
    "cl minus": (post(b"Content-Length: -1", body=HIDDEN), REFUSED),
    "cl hex": (post(b"Content-Length: 0x5", body=b"hello" + HIDDEN), REFUSED),
    "cl empty": (post(b"Content-Length:", body=HIDDEN), REFUSED),
    "cl with a space": (post(b"Content-Length: 5 5", body=b"hello" + HIDDEN), REFUSED),
    "cl octal": (post(b"Content-Length: 0005", body=b"hello"), None),
    "cl huge": (post(b"Content-Length: 18446744073709551616", body=HIDDEN), {400, 413}),
    "cl overflow to 5": (post(b"Content-Length: 18446744073709551621", body=b"hello" + HIDDEN), {400, 413}),
    "cl name with a space": (post(b"Content-Length : 5", body=b"hello" + HIDDEN), REFUSED),
    "cl name with a tab": (post(b"Content-Length\t: 5", body=b"hello" + HIDDEN), REFUSED),
    "cl behind a tab": (post(b"Content-Length:\t5", body=b"hello"), None),
    "cl with a NUL": (post(b"Content-Length: 5\0", body=b"hello" + HIDDEN), REFUSED),
    "cl with an underscore": (post(b"Content_Length: %d" % len(HIDDEN), body=HIDDEN), None),
    "cl of a GET": (post(CL_HIDDEN, body=HIDDEN).replace(b"POST", b"GET", 1), None),
    "cl too long": (post(b"Content-Length: 1000", body=HIDDEN), None),
    # Transfer-Encoding in disguise
    "te twice": (post(CHUNKED, CHUNKED, body=ZERO), REFUSED),
    "te identity": (post(b"Transfer-Encoding: identity", CL_ZERO, body=ZERO), REFUSED),
    "te chunked, identity": (post(b"Transfer-Encoding: chunked, identity", body=ZERO), REFUSED),
    "te gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked", body=ZERO), REFUSED),
    "te x": (post(b"Transfer-Encoding: xchunked", CL_ZERO, body=ZERO), REFUSED),
    "te quoted": (post(b'Transfer-Encoding: "chunked"', CL_ZERO, body=ZERO), REFUSED),
    "te with a tab": (post(b"Transfer-Encoding:\tchunked", CL_ZERO, body=ZERO), REFUSED),
    "te with a tab behind": (post(b"Transfer-Encoding: chunked\t", body=ZERO), REFUSED),
    "te with a vertical tab": (post(b"Transfer-Encoding: \x0bchunked", CL_ZERO, body=ZERO), REFUSED),
    "te with a NUL": (post(b"Transfer-Encoding: chunked\0", CL_ZERO, body=ZERO), REFUSED),
    "te before a space": (post(b"Transfer-Encoding : chunked", CL_ZERO, body=ZERO), REFUSED),
    "te behind a space": (post(b" Transfer-Encoding: chunked", CL_ZERO, body=ZERO), REFUSED),
    "te behind a CR": (post(b"X: x\rTransfer-Encoding: chunked", CL_ZERO, body=ZERO), REFUSED),
    "te behind an LF": (post(b"X: x\nTransfer-Encoding: chunked", CL_ZERO, body=ZERO), REFUSED),
    "te folded": (post(b"Transfer-Encoding:\r\n chunked", CL_ZERO, body=ZERO), REFUSED),
    "te without a value": (post(b"Transfer-Encoding:", CL_ZERO, body=ZERO), REFUSED),
    "te in HTTP/1.0": (post(CHUNKED, body=ZERO, version=b"HTTP/1.0"), REFUSED),
    "te with an underscore": (post(b"Transfer_Encoding: chunked", CL_ZERO, body=ZERO), None),
    "te named by Connection": (post(b"Connection: Transfer-Encoding", CHUNKED, body=ZERO), None),
    "cl named by Connection": (post(b"Connection: Content-Length", CL_HIDDEN, body=HIDDEN), None),
    "host named by Connection": (post(b"Connection: host, close"), None),
    # lines
    "bare LF": (post(CL_HIDDEN, body=HIDDEN, end=b"\n"), REFUSED),
    "bare LF in the head": (post(b"A: b\nContent-Length: 0", CL_HIDDEN, body=HIDDEN), REFUSED),
    "bare CR": (post(b"A: b\rContent-Length: 0", CL_HIDDEN, body=HIDDEN), REFUSED),
    "end by bare LF": (post(CL_HIDDEN)[:-2] + b"\n" + HIDDEN, REFUSED),
    "obs-fold": (post(b"A: b\r\n c", CL_HIDDEN, body=HIDDEN), REFUSED),
    "obs-fold of the first line": (b"POST " + CALL + b"/attack HTTP/1.1\r\n Host: localhost\r\n\r\n" + HIDDEN, REFUSED),
    "header without a colon": (post(b"GET /hidden HTTP/1.1", body=b""), REFUSED),
    "header without a name": (post(b": b", CL_HIDDEN, body=HIDDEN), REFUSED),
    "NUL in a name": (post(b"A\0: b", CL_HIDDEN, body=HIDDEN), REFUSED),
    "two Hosts": (post(b"Host: 127.0.0.1", body=b""), REFUSED),
    "no Host": (b"POST " + CALL + b"/attack HTTP/1.1\r\n\r\n", REFUSED),
    "colon in the Host": (b"GET " + CALL + b"/attack HTTP/1.1\r\nHost: localhost:80:80\r\n\r\n", None),
    # targets
    "absolute form": (b"POST http://localhost" + CALL + b"/attack HTTP/1.1\r\nHost: localhost\r\n\r\n", {200}),
    "absolute form of others": (b"POST http://evil" + CALL + b"/attack HTTP/1.1\r\nHost: localhost\r\n\r\n", {421}),
    "absolute form with user": (b"POST http://a@localhost" + CALL + b"/x HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 421}),
    "absolute form behind the target": (
        post(target=CALL + b"/http://localhost/other"), None),
    "target with a space": (b"GET " + CALL + b"/a HTTP/1.1\r\nX: y /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n", None),
    "two targets": (b"GET " + CALL + b"/a /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
    "target with a tab": (b"GET " + CALL + b"/a\t/hidden HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
    "target with a CR": (b"GET " + CALL + b"/a\r/hidden HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
    "encoded CRLF": (post(target=CALL + b"/a%0d%0a%0d%0aGET%20/x%20HTTP/1.1%0d%0a"), {200, 400}),
    "fragment": (post(target=CALL + b"/a#/hidden"), {400}),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", {404}),
    "empty rest": (b"GET " + CALL + b"?/other HTTP/1.1\r\nHost: localhost\r\n\r\n", None),
    "authority form": (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n" + HIDDEN, {501}),
    "CONNECT with a target": (
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\nsinew-target: service/basket/rest\r\n\r\n"
        + HIDDEN, {501}),
    "two slashes": (post(target=b"//evil" + CALL + b"/attack"), {404}),
    "target header with CR": (b"GET /a HTTP/1.1\r\nHost: localhost\r\nsinew-target: service/basket/rest\rX: y\r\n\r\n", {400}),
    "target header twice": (b"GET /attack HTTP/1.1\r\nHost: localhost\r\nsinew-target: service/basket/rest\r\n"
                            b"sinew-target: service/other/rest\r\n\r\n", {400}),
    "HTTP/1.2": (post(CL_HIDDEN, body=HIDDEN, version=b"HTTP/1.2"), {505}),
    "HTTP/0.9": (b"GET " + CALL + b"/hidden\r\n\r\n", REFUSED),
    "lower case version": (post(version=b"http/1.1"), REFUSED),
    "method with a space": (b" GET " + CALL + b"/a HTTP/1.1\r\nHost: localhost\r\n\r\n", REFUSED),
    "method with a colon": (b"G:T " + CALL + b"/a HTTP/1.1\r\nHost: localhost\r\n\r\n", REFUSED),
    # chunks
    "chunk extension": (post(CHUNKED, body=chunk(b"hello", b";a=b") + b"0\r\n\r\n"), {200}),
    "chunk extension with LF": (post(CHUNKED, body=b"5;a\nb\r\nhello\r\n" + ZERO), None),
    "chunk extension with a CR": (post(CHUNKED, body=b"5;a\rb\r\nhello\r\n" + ZERO), None),
    "chunk extension that hides": (post(CHUNKED, body=b"2;\nxx\r\n%x\r\n0\r\n\r\n" % len(HIDDEN) + HIDDEN + b"\r\n0\r\n\r\n"), None),
    "chunk size with LF": (post(CHUNKED, body=b"5\nhello\r\n0\r\n\r\n"), None),
    "chunk data with LF": (post(CHUNKED, body=b"5\r\nhello\n0\r\n\r\n"), None),
    "chunk size too small": (post(CHUNKED, body=b"3\r\nhello\r\n" + ZERO), None),
    "chunk size too large": (post(CHUNKED, body=b"ff\r\nhello\r\n" + ZERO), None),
    "chunk size 0x": (post(CHUNKED, body=b"0x5\r\nhello\r\n" + ZERO), None),
    "chunk size with a sign": (post(CHUNKED, body=b"+5\r\nhello\r\n" + ZERO), None),
    "chunk size with spaces": (post(CHUNKED, body=b"5 \r\nhello\r\n" + ZERO), None),
    "chunk size before spaces": (post(CHUNKED, body=b" 5\r\nhello\r\n" + ZERO), None),
    "chunk size with an underscore": (post(CHUNKED, body=b"5_0\r\nhello\r\n" + ZERO), None),
    "chunk size over 64 bits": (post(CHUNKED, body=b"10000000000000005\r\nhello\r\n" + ZERO), None),
    "chunk size of many zeros": (post(CHUNKED, body=b"0" * 15 + b"5\r\nhello\r\n0\r\n\r\n"), None),
    "chunk without size": (post(CHUNKED, body=b"\r\nhello\r\n" + ZERO), None),
    "trailers with a length": (post(CHUNKED, body=b"0\r\nContent-Length: 5\r\n\r\n"), None),
    "trailers with TE": (post(CHUNKED, body=b"0\r\nTransfer-Encoding: chunked\r\n\r\n" + ZERO), None),
    "trailers that fold": (post(CHUNKED, body=b"0\r\nA: b\r\n c\r\n\r\n"), None),
    "trailers by LF": (post(CHUNKED, body=b"0\r\nA: b\n\n" + HIDDEN), None),
    "last chunk by LF": (post(CHUNKED, body=b"0\n\n" + HIDDEN), None),
    "last chunk without end": (post(CHUNKED, body=b"0\r\n" + HIDDEN), None),
    # what follows
    "early end": (post(b"Content-Length: 1000", body=b"short"), None),
    "Expect": (post(b"Expect: 100-continue", CL_HIDDEN, body=HIDDEN), None),
    "Expect of something else": (post(b"Expect: 200-ok", CL_HIDDEN, body=HIDDEN), None),
    "two requests": (post(CL_HIDDEN, body=HIDDEN) + post(target=CALL + b"/second"), {200}),
    "empty lines before": (b"\r\n\r\n\r\n" + post(), REFUSED),
    # upgrades
    "upgrade": (post(b"Connection: Upgrade", b"Upgrade: websocket").replace(b"POST", b"GET", 1) + HIDDEN, None),
    "upgrade to h2c": (post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c",
                            b"HTTP2-Settings: AAMAAABkAAQAAP__").replace(b"POST", b"GET", 1) + HIDDEN, None),
    "upgrade with a body": (post(b"Connection: Upgrade", b"Upgrade: websocket", CL_HIDDEN, body=HIDDEN), None),
    "upgrade with chunks": (post(b"Connection: Upgrade", b"Upgrade: websocket", CHUNKED, body=ZERO), None),
    "upgrade in HTTP/1.0": (post(b"Connection: Upgrade", b"Upgrade: websocket", version=b"HTTP/1.0") + HIDDEN, None),
    "upgrade without Connection": (post(b"Upgrade: websocket").replace(b"POST", b"GET", 1) + HIDDEN, None),
    "HTTP/2 preface behind a request": (post() + h2.PREFACE, None),
}


@pytest.mark.parametrize("name", sorted(RAW))
def test_http1(hop, name):
    data, allowed = RAW[name]
    before = len(hop.backend.seen())
    answer = blow(hop.port, data)
    if allowed is not None:
        assert statuses(answer) and statuses(answer)[0] in allowed, answer
    if allowed and not allowed & {200}:
        assert from_backend(answer) == 0
        assert check(hop, before, 0) == []
        return
    # A request that the client broke off may have reached the backend without an answer for anybody.
    whole = all(s < 400 for s in statuses(answer))
    rest = check(hop, before, from_backend(answer) if whole and statuses(answer) else None)
    assert len(rest) <= data.count(CALL), rest


def test_every_cut_of_an_ambiguous_request_is_the_same(hop):
    """The same bytes in two pieces, wherever they are cut."""
    data = post(CL_ZERO, CHUNKED, body=ZERO)
    before = len(hop.backend.seen())
    for at in range(1, len(data), 7):
        with socket.create_connection(("127.0.0.1", hop.port), PATIENCE) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.sendall(data[:at])
            try:
                s.sendall(data[at:])
                s.shutdown(socket.SHUT_WR)
                got = b""
                while True:
                    piece = s.recv(65536)
                    if not piece:
                        break
                    got += piece
            except ConnectionError:
                continue
            assert statuses(got)[0] in REFUSED
    check(hop, before, 0)


def test_clients_that_break_off_do_not_leave_their_bodies_behind(hop):
    """A body that never ends: the backend's connection must not be used for the next request."""
    before = len(hop.backend.seen())
    for data in (post(b"Content-Length: 5000", body=HIDDEN), post(CHUNKED, body=chunk(HIDDEN)),
                 post(CHUNKED, body=b"1000\r\n" + HIDDEN)):
        for _ in range(5):
            s = socket.create_connection(("127.0.0.1", hop.port), PATIENCE)
            s.sendall(data)
            Raw.reset(s)
    check(hop, before, None)


# ---- HTTP/2 in, HTTP/1.1 out ----

def h2_head(*more, path=CALL + b"/attack", method="POST", pseudo=(), host="localhost"):
    pairs = [(":method", method), (":scheme", "http"), (":authority", host), (":path", path), *pseudo]
    return h2.block(pairs + list(more))


H2 = {
    "CRLF in a value": ([("x", b"a\r\nTransfer-Encoding: chunked")], {}),
    "LF in a value": ([("x", b"a\nTransfer-Encoding: chunked")], {}),
    "CR in a value": ([("x", b"a\rTransfer-Encoding: chunked")], {}),
    "NUL in a value": ([("x", b"a\0b")], {}),
    "a whole request in a value": ([("x", b"a\r\n\r\n" + HIDDEN)], {}),
    "CRLF in a name": ([(b"x: a\r\ny", b"b")], {}),
    "colon in a name": ([(b"x:y", b"b")], {}),
    "space in a name": ([(b"x y", b"b")], {}),
    "upper case name": ([(b"Content-Length", b"5")], {}),
    "empty name": ([(b"", b"b")], {}),
    "transfer-encoding": ([("transfer-encoding", "chunked")], {}),
    "connection": ([("connection", "transfer-encoding")], {}),
    "upgrade": ([("upgrade", "websocket")], {}),
    "te": ([("te", "gzip")], {}),
    "length too small": ([("content-length", "5")], {}),
    "length too large": ([("content-length", "5000")], {}),
    "length 0 and a body": ([("content-length", "0")], {}),
    "two lengths": ([("content-length", "5"), ("content-length", str(len(ZERO)))], {}),
    "length with a sign": ([("content-length", "+5")], {}),
    "length with a list": ([("content-length", "5, 5")], {}),
    "two hosts": ([("host", "evil")], {}),
    "foreign authority": ([], {"host": "evil"}),
    "authority with a slash": ([], {"host": "localhost/hidden"}),
    "authority with a CRLF": ([], {"host": b"localhost\r\nX: y"}),
    "path with spaces": ([], {"path": CALL + b"/a HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hidden"}),
    "path with a space": ([], {"path": CALL + b"/a /hidden"}),
    "path with a tab": ([], {"path": CALL + b"/a\t/hidden"}),
    "path with a NUL": ([], {"path": CALL + b"/a\0/hidden"}),
    "path without a slash": ([], {"path": b"hidden"}),
    "path in absolute form": ([], {"path": b"http://localhost/hidden"}),
    "empty path": ([], {"path": b""}),
    "path with a fragment": ([], {"path": CALL + b"/a#hidden"}),
    "method with CRLF": ([], {"method": b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\nPOST"}),
    "method with a space": ([], {"method": b"GET /hidden"}),
    "empty method": ([], {"method": b""}),
    "scheme with CRLF": ([], {"pseudo": [(":scheme", b"http\r\nX: y")]}),
    "two paths": ([], {"pseudo": [(":path", b"/hidden")]}),
    "unknown pseudo header": ([], {"pseudo": [(":x", b"y")]}),
    "pseudo header behind the others": ([("x", "y"), (":path", b"/hidden")], {}),
    "CONNECT": ([], {"method": "CONNECT"}),
    ":protocol": ([], {"method": "CONNECT", "pseudo": [(":protocol", b"websocket\r\nX: y")]}),
    "target with a CRLF": ([("sinew-target", b"service/basket/rest\r\nX: y")], {"path": b"/attack"}),
    "cookie with a LF": ([("cookie", b"a=b\nX: y")], {}),
}


@pytest.mark.parametrize("name", sorted(H2))
def test_http2(hop, name):
    more, kw = H2[name]
    before = len(hop.backend.seen())
    with h2.connect(hop.port) as c:
        try:
            c.send(h2.headers(1, h2_head(*more, **kw), end_stream=False))
            c.send(h2.data(1, ZERO, end_stream=True))
        except h2.Closed:
            pass
        a = c.answer(1)
    assert a.over or c.end, "neither answered nor ended"
    rest = check(hop, before, None)
    assert len(rest) <= (1 if a.status == 200 or name.startswith("length") else 0), (a.status, rest)
    if a.status == 200:  # only what is harmless, or came to light behind the backend's answer
        assert len(rest) == 1 and (name == "te" or name.startswith("length")), a.body


def test_http2_bodies_that_break_off(hop):
    before = len(hop.backend.seen())
    for more in ([], [("content-length", "5000")]):
        for _ in range(5):
            with h2.connect(hop.port) as c:
                c.send(h2.headers(1, h2_head(*more), end_stream=False))
                c.send(h2.data(1, HIDDEN))
                c.send(h2.rst(1))
    check(hop, before, None)


def test_http2_trailers_do_not_frame(hop):
    before = len(hop.backend.seen())
    for trailer in (("content-length", "5"), ("transfer-encoding", "chunked"), ("x", b"a\r\n\r\n" + HIDDEN)):
        with h2.connect(hop.port) as c:
            c.send(h2.headers(1, h2_head(), end_stream=False), h2.data(1, b"hello"),
                   h2.headers(1, h2.block([trailer])))
            c.answer(1)
    check(hop, before, None)


# ---- answers that smuggle: a peer that lies ----

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
ANSWERS = {
    "an answer more": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + POISON,
    "cl.te": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + POISON,
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 2\r\n\r\nok" + POISON,
    "body of 204": b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok" + POISON,
    "body of 304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n" + POISON,
    "unasked 101": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" + POISON,
    "many 1xx": b"HTTP/1.1 100 Continue\r\n\r\n" * 40 + POISON,
    "folded": b"HTTP/1.1 200 OK\r\nContent-Length:\r\n 0\r\n\r\n" + POISON,
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n" + POISON,
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nok\r\n0\r\n\r\n" + POISON,
    "HTTP/1.0 chunked": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + POISON,
    "header with a CR": b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n" + POISON,
}


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_no_answer_reaches_a_client_it_was_not_for(sinew, cleanup, name):
    """The peer's bytes behind an answer are never the next client's."""
    def talk(server, c, n):
        while True:
            got = server.read_request(c)
            if got is None:
                return
            first = b" /attack" in got[0].split(b"\r\n")[0]
            c.sendall(ANSWERS[name] if first else
                      b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown")
    raw = Raw(talk)
    cleanup(raw)
    r = Running(sinew, "peers: %s\npolicies: {retry-count: 0, breaker: false}\n" % basket(raw.port))
    for _ in range(3):
        answer = blow(r.port, b"GET " + CALL + b"/attack HTTP/1.1\r\nHost: localhost\r\n\r\n"
                      b"GET " + CALL + b"/own HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b"poison" not in answer or name in ("body of 304", "many 1xx"), answer
        assert b"Set-Cookie" not in answer and answer.count(b"HTTP/1.1 ") <= 2
        got, body = r.ask("GET", "/call/service/basket/rest/own")
        assert (got.status, body) == (200, b"own")
        with h2.connect(r.port) as c:
            assert bytes(c.ask("/call/service/basket/rest/own").body) == b"own"


def test_nothing_of_one_client_is_in_the_answers_of_others(sinew, cleanup):
    """Clients at once, many of them broken off in the middle, over few connections to the peer."""
    def talk(server, c, n):
        while True:
            got = server.read_request(c)
            if got is None:
                return
            name = got[0].split(b" ")[1]
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name) * 1000, name * 1000))
    raw = Raw(talk)
    cleanup(raw)
    r = Running(sinew, "peers: %s\npolicies: {retry-count: 0, breaker: false}\n" % basket(raw.port))
    wrong = []

    def client(me):
        for i in range(40):
            name = "/c%d-%d" % (me, i)
            if (i + me) % 3 == 0:  # goes away in the middle
                s = socket.create_connection(("127.0.0.1", r.port), PATIENCE)
                s.sendall(b"GET " + CALL + b"/gone HTTP/1.1\r\nHost: localhost\r\n\r\n")
                s.recv(100)
                Raw.reset(s)
                continue
            answer, body = r.ask("GET", "/call/service/basket/rest" + name)
            if answer.status != 200 or body != name.encode() * 1000:
                wrong.append((name, answer.status, body[:100]))
    threads = [threading.Thread(target=client, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(PATIENCE * 3)
    assert not wrong and not any(t.is_alive() for t in threads)
