# SPDX-License-Identifier: Apache-2.0
"""Requests over HTTP/2 to servers that are not ours: nghttpd and Node, plain and by ALPN."""
import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest

import certs
from conftest import FAST, PATIENCE, Agent, Service, free_port, peer

POLL_LOOP = os.path.join(os.path.abspath(os.environ.get("SINEW_BUILD_ROOT", "build")),
                         "examples", "poll_loop")
nghttpd, node = shutil.which("nghttpd"), shutil.which("node")


@pytest.fixture
def cert(tmp_path):
    return certs.alone(tmp_path)


@pytest.fixture
def mesh(sinew, cleanup):
    """mesh(port, protocol, policies) -> a class with request(*args) and many(paths)"""
    def make(port, protocol="h2", **policies):
        values = dict(FAST["policies"]["values"], **policies)
        agent = Agent({"peers": {"service": {"basket": {"rest": {"1": peer(port, protocol)}}}},
                       "policies": {"values": values}})
        cleanup(agent)

        class Mesh:
            @staticmethod
            def request(*args):
                return sinew.run("request", "service", "basket", "rest", *args, agent=agent)

            @staticmethod
            def many(lines):
                """All at once, in one process: lines of output."""
                r = subprocess.run([POLL_LOOP, "basket", "rest"], env=sinew.env(agent),
                                   input="".join(line + "\n" for line in lines),
                                   capture_output=True, text=True, timeout=PATIENCE * 2)
                assert (r.returncode, r.stderr) == (0, "")
                return r.stdout.splitlines()
        return Mesh
    return make


class Process:
    """A server: lines of its output, by a thread."""

    def __init__(self, *args):
        self.p = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, errors="replace")
        self.lines = []
        self.changed = threading.Condition()
        threading.Thread(target=self._pump, daemon=True).start()

    def _pump(self):
        for line in self.p.stdout:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()

    def wait(self, beginning):
        def found():
            return next((line for line in self.lines if line.startswith(beginning)), None)
        with self.changed:
            assert self.changed.wait_for(lambda: found() is not None, PATIENCE), self.lines
            return found()

    def stop(self):
        self.p.kill()
        self.p.wait()


@pytest.fixture
def served(tmp_path, cleanup, cert):
    """start(tls, *options) -> port of an nghttpd that serves /small and /large."""
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "small").write_text("small\n")
    (docs / "large").write_bytes(bytes(range(256)) * 12000)

    def start(tls, *options):
        port = free_port()
        args = [nghttpd, "-a", "127.0.0.1", "-d", str(docs), *options]
        server = Process(*args, str(port), *([cert[1], cert[0]] if tls else ["--no-tls"]))
        cleanup(server)
        end = time.monotonic() + PATIENCE
        while True:
            assert server.p.poll() is None, server.lines
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                return port
            assert time.monotonic() < end
    start.docs = docs
    return start


@pytest.mark.skipif(not nghttpd, reason="no nghttpd")
class TestNghttpd:
    @pytest.mark.parametrize("tls", [False, True])
    def test_get(self, mesh, served, cert, tls):
        m = mesh(served(tls), "https" if tls else "h2", **({"tls-ca": cert[0]} if tls else {}))
        r = m.request("/small")
        assert (r.returncode, r.stdout) == (0, "small\n"), r.stderr
        r = m.request("/nothing")
        assert "404" in r.stderr + r.stdout

    @pytest.mark.parametrize("tls", [False, True])
    def test_large_both_ways(self, mesh, served, cert, tmp_path, tls):
        m = mesh(served(tls, "--echo-upload"), "https" if tls else "h2",
                 **({"tls-ca": cert[0]} if tls else {}))
        text = "".join("%07d\n" % i for i in range(300000))
        (tmp_path / "body").write_text(text)
        r = m.request("/large", "-X", "POST", "-d", "@" + str(tmp_path / "body"))
        assert r.returncode == 0, r.stderr
        assert r.stdout == text

    def test_small_windows_and_padding(self, mesh, served, tmp_path):
        m = mesh(served(False, "--echo-upload", "-w", "10", "-W", "16", "-b", "200"))
        text = "".join("%07d\n" % i for i in range(20000))
        (tmp_path / "body").write_text(text)
        r = m.request("/", "-X", "POST", "-d", "@" + str(tmp_path / "body"))
        assert r.stdout == text, r.stderr

    def test_few_streams_at_once(self, mesh, served):
        """What the server does not take at once waits, or has another connection."""
        out = mesh(served(False, "-m", "3")).many(["/small"] * 200)
        assert out == ["200 small", ""] * 200

    def test_trailers_and_no_length(self, mesh, served):
        r = mesh(served(False, "--trailer=x-done: yes", "--no-content-length")).request("/small")
        assert (r.returncode, r.stdout) == (0, "small\n"), r.stderr


NODE = """
const http2 = require('http2');
const fs = require('fs');
const counts = { requests: 0, sessions: 0 };
const options = { settings: { maxConcurrentStreams: 50 } };
const [cert, key] = process.argv.slice(1);
const server = cert ? http2.createSecureServer({ ...options, cert: fs.readFileSync(cert),
  key: fs.readFileSync(key), allowHTTP1: true }) : http2.createServer(options);
server.on('session', () => { counts.sessions++; });
server.on('sessionError', () => {});
server.on('request', (req, res) => {
  if (req.httpVersionMajor === 1)
    res.end('HTTP/1.1');
});
server.on('stream', (stream, headers) => {
  const path = headers[':path'];
  const n = ++counts.requests;
  stream.on('error', () => {});
  if (path === '/counts') {
    stream.respond({ ':status': 200 });
    stream.end(JSON.stringify({ ...counts, method: headers[':method'],
      scheme: headers[':scheme'], authority: headers[':authority'], headers }));
  } else if (path === '/refuse' && n === 1) {
    stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
  } else if (path === '/goaway' && n === 20) {
    stream.session.goaway(http2.constants.NGHTTP2_NO_ERROR);
    stream.respond({ ':status': 200 });
    stream.end('last');
  } else if (path === '/broken') {
    stream.respond({ ':status': 200, 'content-length': 100 });
    stream.write('half', () => stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR));
  } else if (path === '/short') {
    stream.respond({ ':status': 200 });
    stream.write('begun', () => stream.session.destroy());
  } else if (path === '/hints') {
    stream.additionalHeaders({ ':status': 103, link: '</a>' });
    stream.respond({ ':status': 200 });
    stream.end('hinted');
  } else if (path === '/error') {
    stream.respond({ ':status': 503, 'retry-after': '0' });
    stream.end('no');
  } else {
    stream.respond({ ':status': 200 });
    stream.end('path ' + path);
  }
});
server.listen(0, '127.0.0.1', () => console.log('port ' + server.address().port));
"""


@pytest.fixture
def nodejs(cleanup, cert):
    def start(tls=False):
        server = Process(node, "-e", NODE, "--", *(cert if tls else ()))
        cleanup(server)
        return int(server.wait("port ").split()[1])
    return start


@pytest.mark.skipif(not node, reason="no node")
class TestNode:
    def counts(self, m, *args):
        r = m.request("/counts", *args)
        assert r.returncode == 0, r.stderr
        return json.loads(r.stdout)

    def test_what_it_sees(self, mesh, nodejs):
        port = nodejs()
        c = self.counts(mesh(port), "-X", "POST", "-H", "X-Thing: one", "-d", "{}")
        assert (c["method"], c["scheme"]) == ("POST", "http")
        assert c["authority"] == "127.0.0.1:%d" % port
        assert c["headers"]["x-thing"] == "one"
        assert c["headers"]["content-length"] == "2"
        assert "host" not in c["headers"] and "connection" not in c["headers"]

    def test_alpn(self, mesh, nodejs, cert):
        c = self.counts(mesh(nodejs(True), "https", **{"tls-ca": cert[0]}))
        assert c["scheme"] == "https"

    def test_one_connection(self, mesh, nodejs):
        m = mesh(nodejs())
        assert sorted(set(m.many(["/%d" % (i % 10) for i in range(40)]))) == \
            ["200 path /%d" % i for i in range(10)]
        c = self.counts(m)
        assert (c["requests"], c["sessions"]) == (41, 2)  # the second process's own

    def test_refused_stream(self, mesh, nodejs):
        """REFUSED_STREAM was not worked on: even a POST goes again."""
        m = mesh(nodejs(), **{"retry-unsafe": False})
        r = m.request("/refuse", "-X", "POST", "-d", "{}")
        assert (r.returncode, r.stdout.strip()) == (0, "path /refuse"), r.stderr
        assert self.counts(m)["requests"] == 3

    def test_goaway(self, mesh, nodejs):
        """What the server did not take any more has another connection, at once."""
        m = mesh(nodejs())
        out = m.many(["/goaway"] * 60)
        assert len(out) == 60 and set(out) <= {"200 path /goaway", "200 last"}, out
        assert "200 last" in out and self.counts(m)["sessions"] == 3

    def test_broken_answer(self, mesh, nodejs):
        m = mesh(nodejs(), **{"retry-count": 2})
        for path in ("/broken", "/short"):
            r = m.request(path)
            assert r.returncode != 0 and r.stdout == "", path
        assert self.counts(m)["requests"] == 5

    def test_interim_answer(self, mesh, nodejs):
        r = mesh(nodejs()).request("/hints")
        assert (r.returncode, r.stdout.strip()) == (0, "hinted"), r.stderr

    def test_failure_status(self, mesh, nodejs):
        m = mesh(nodejs(), **{"retry-count": 3})
        r = m.request("/error")
        assert "attempts used up" in r.stderr and "503" in r.stderr
        assert self.counts(m)["requests"] == 4


class TestHttp1:
    def test_https_without_h2(self, mesh, cleanup, cert):
        """ALPN agrees on nothing: HTTP/1.1."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*cert)

        class Wrap:
            @staticmethod
            def wrap_socket(sock, server_side):
                return context.wrap_socket(sock, server_side=server_side)
        s = Service(name="one", ssl=Wrap)
        cleanup(s)
        r = mesh(s.port, "https", **{"tls-ca": cert[0]}).request("/a")
        assert (r.returncode, r.stdout.strip()) == (0, "hello from one"), r.stderr

    def test_h2_asked_of_http1(self, mesh, cleanup):
        """A server that does not know HTTP/2 answers something else: a failure, told as such."""
        s = Service(name="one")
        cleanup(s)
        r = mesh(s.port, "h2", **{"retry-count": 1}).request("/a")
        assert r.returncode != 0 and s.requests == [], r.stdout
