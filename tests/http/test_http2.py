# SPDX-License-Identifier: Apache-2.0
"""Our HTTP server over HTTP/2 against curl, nghttp and h2load."""
import os
import re
import shutil
import subprocess
import sys

import pytest

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import certs  # noqa: E402

PEER = os.path.join(os.environ.get("SINEW_BUILD_ROOT", "build"), "tests", "http", "http_peer")
curl, nghttp, h2load = (shutil.which(n) for n in ("curl", "nghttp", "h2load"))
H2 = "--http2-prior-knowledge"


class Peer:
    def __init__(self, *args):
        self.p = subprocess.Popen([PEER, "serve", "127.0.0.1:0", *args], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.port = int(self.p.stdout.readline().split(":")[1])

    def end(self):
        _, err = self.p.communicate(timeout=20)
        assert (self.p.returncode, err) == (0, "")


@pytest.fixture
def server():
    s = Peer()
    s.url = "http://127.0.0.1:%d" % s.port
    yield s
    s.end()


@pytest.fixture
def secure(tmp_path):
    cert, key = certs.alone(tmp_path)
    s = Peer(cert, key)
    s.url, s.ca = "https://localhost:%d" % s.port, cert
    yield s
    s.end()


@pytest.fixture
def body(tmp_path):
    f = tmp_path / "body"
    f.write_bytes(os.urandom(3000000))
    return f


def run(*args):
    return subprocess.run(args, capture_output=True, text=True, timeout=30)


@pytest.mark.skipif(not curl, reason="no curl")
class TestCurl:
    def test_plain(self, server):
        r = run(curl, "-si", H2, server.url + "/hello")
        assert r.stdout.startswith("HTTP/2 200") and r.stdout.endswith("\n\nhello\n")
        assert "date: " in r.stdout and "content-length: 6" in r.stdout
        r = run(curl, "-sI", H2, server.url + "/hello")
        assert r.stdout.startswith("HTTP/2 200") and "content-length: 6" in r.stdout

    @pytest.mark.parametrize("path", ["/echo", "/all"])
    def test_bodies(self, server, body, path, tmp_path):
        out = tmp_path / "out"
        r = run(curl, "-sv", H2, "-H", "Expect: 100-continue", "--data-binary", "@%s" % body, "-o",
                out, server.url + path)
        # An answer that has begun stands for "100 Continue".
        assert ("< HTTP/2 100" in r.stderr) == (path == "/all")
        assert out.read_bytes() == body.read_bytes()

    def test_refused(self, server, tmp_path):
        f = tmp_path / "large"
        f.write_bytes(b"x" * (17 << 20))
        code = ("-o", "/dev/null", "-s", "-w", "%{http_version} %{http_code}", H2)
        assert run(curl, *code, "--data-binary", "@%s" % f, server.url + "/all").stdout == "2 413"
        assert run(curl, *code, "-H", "Host: evil.test", server.url).stdout == "2 421"
        assert run(curl, *code, "-H", "Origin: http://evil.test", server.url).stdout == "2 403"
        many = [a for i in range(110) for a in ("-H", "X%d: x" % i)]
        assert run(curl, *code, *many, server.url).stdout == "2 431"

    def test_tls(self, secure, body, tmp_path):
        out = tmp_path / "out"
        r = run(curl, "-sv", "--cacert", secure.ca, "--data-binary", "@%s" % body, "-o", out,
                secure.url + "/echo")
        assert "ALPN: server accepted h2" in r.stderr
        assert out.read_bytes() == body.read_bytes()
        r = run(curl, "-sv", "--http1.1", "--cacert", secure.ca, secure.url + "/hello")
        assert "ALPN: server accepted http/1.1" in r.stderr and r.stdout == "hello\n"


@pytest.mark.skipif(not nghttp, reason="no nghttp")
class TestNghttp:
    def test_trailers_and_windows(self, server, body):
        r = run(nghttp, "-nv", "-w", "10", "-d", str(body), server.url + "/echo")
        assert re.search(r"recv .*x-done: yes", r.stdout)
        assert "RST_STREAM" not in r.stdout

    def test_many(self, server):
        r = run(nghttp, "-ns", "-m", "50", server.url + "/hello", server.url + "/method")
        assert r.stdout.count(" 200 ") == 100

    def test_continuation(self, server):
        r = run(nghttp, "-nv", "--continuation", "-H", "x-long: " + "y" * 20000,
                server.url + "/hello")
        assert ":status: 200" in r.stdout

    def test_padding(self, server, body):
        r = run(nghttp, "-v", "-b", "200", "-d", str(body), server.url + "/hello")
        assert ":status: 200" in r.stdout


@pytest.mark.skipif(not h2load, reason="no h2load")
@pytest.mark.parametrize("conns,streams", [(1, 1), (1, 100), (8, 64)])
def test_h2load(server, conns, streams):
    r = run(h2load, "-n", "20000", "-c", str(conns), "-m", str(streams), server.url + "/hello")
    assert "20000 done, 20000 succeeded, 0 failed" in r.stdout


@pytest.mark.skipif(not h2load, reason="no h2load")
def test_h2load_tls(secure):
    r = run(h2load, "-n", "5000", "-c", "4", "-m", "32", secure.url + "/hello")
    assert "Application protocol: h2" in r.stdout
    assert "5000 done, 5000 succeeded, 0 failed" in r.stdout
