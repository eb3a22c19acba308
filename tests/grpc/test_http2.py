# SPDX-License-Identifier: Apache-2.0
"""Our gRPC server against plain HTTP/2 clients: what is on the wire, byte for byte."""
import re
import shutil
import subprocess

import pytest

from conftest import PATIENCE, Server

curl, nghttp, h2load = (shutil.which(n) for n in ("curl", "nghttp", "h2load"))
EMPTY = b"\0\0\0\0\0"
TEN = b"\0\0\0\0\x02\x10\x0a"  # SimpleRequest {response_size: 10}
TEN_BACK = b"\0\0\0\0\x0e\x0a\x0c\x12\x0a" + bytes(10)  # SimpleResponse {payload {body}}
SERVICE = "/grpc.testing.TestService/"


@pytest.fixture(scope="module")
def server():
    s = Server("sinew")
    yield s
    s.end()


class Answer:
    """What curl got: status, headers, body, trailers."""

    def __init__(self, server, path, body, *headers, method="POST",
                 type="application/grpc", scheme="http", more=()):
        args = [curl, "-s", "--http2-prior-knowledge", "-X", method, "-D", "-", "-o", "-",
                "-w", "\n%{http_version} %{num_connects}", "-H", "te: trailers", *more]
        if type:
            args += ["-H", "content-type: " + type]
        for h in headers:
            args += ["-H", h]
        r = subprocess.run(args + ["--data-binary", "@-", "%s://localhost:%d%s" % (
            scheme, server.port, path), "--resolve", "localhost:%d:127.0.0.1" % server.port],
            input=body, capture_output=True, timeout=PATIENCE)
        assert r.returncode == 0, (r.returncode, r.stderr, r.stdout)
        head, _, rest = r.stdout.partition(b"\r\n\r\n")
        assert rest.endswith(b"\n2 1")
        self.status = int(head.split()[1])
        lines = head.decode().split("\r\n")[1:]
        # Trailers are written where they come: behind the body.
        self.body = rest[:-len(b"\n2 1")]
        m = re.search(rb"((?:[a-z0-9-]+: [^\r\n]*\r\n)+)(?:\r\n)?$", self.body)
        self.trailers = {}
        if m:
            self.body = self.body[:m.start()]
            lines2 = m.group(1).decode().rstrip("\r\n").split("\r\n")
            self.trailers = dict(line.split(": ", 1) for line in lines2)
        self.headers = dict(line.split(": ", 1) for line in lines)


class TestCurl:
    def test_empty(self, server):
        a = Answer(server, SERVICE + "EmptyCall", EMPTY)
        assert (a.status, a.headers["content-type"]) == (200, "application/grpc")
        assert a.body == EMPTY
        assert a.trailers["grpc-status"] == "0"
        assert "grpc-status" not in a.headers

    def test_unary(self, server):
        a = Answer(server, SERVICE + "UnaryCall", TEN)
        assert (a.status, a.body, a.trailers["grpc-status"]) == (200, TEN_BACK, "0")

    def test_stream(self, server):
        # StreamingOutputCallRequest {response_parameters {size: 1} response_parameters {size: 2}}
        a = Answer(server, SERVICE + "StreamingOutputCall",
                   b"\0\0\0\0\x08\x12\x02\x08\x01\x12\x02\x08\x02")
        assert a.body == (b"\0\0\0\0\x05\x0a\x03\x12\x01\0" + b"\0\0\0\0\x06\x0a\x04\x12\x02\0\0")
        assert a.trailers["grpc-status"] == "0"

    def test_content_type_with_subtype(self, server):
        for t in ("application/grpc+proto", "application/grpc;charset=utf-8"):
            a = Answer(server, SERVICE + "EmptyCall", EMPTY, type=t)
            assert (a.status, a.trailers["grpc-status"]) == (200, "0"), t

    def test_unimplemented(self, server):
        """Trailers only: one block of headers."""
        for path in (SERVICE + "UnimplementedCall", "/nobody.Service/Call", "/", "/a"):
            a = Answer(server, path, EMPTY)
            assert (a.status, a.body) == (200, b""), path
            assert a.headers["grpc-status"] == "12", path

    def test_answered_early(self, server):
        """The answer is there before the request is; this curl does not notice by itself."""
        for _ in range(20):
            a = Answer(server, "/nobody.Service/Call", EMPTY)
            assert (a.status, a.headers["grpc-status"]) == (200, "12")

    def test_not_grpc(self, server):
        assert Answer(server, SERVICE + "EmptyCall", b"{}", type="application/json").status == 415
        assert Answer(server, SERVICE + "EmptyCall", b"", type=None, method="GET").status \
            in (405, 415)

    def test_message_cut_off(self, server):
        for body in (b"\0\0", b"\0\0\0\0\x05abc", EMPTY + b"\0"):
            a = Answer(server, SERVICE + "EmptyCall", body)
            assert a.status == 200 and a.headers["grpc-status"] in ("12", "13"), body

    def test_no_message(self, server):
        a = Answer(server, SERVICE + "EmptyCall", b"")
        assert a.headers["grpc-status"] in ("12", "13"), a.headers

    def test_two_messages(self, server):
        a = Answer(server, SERVICE + "EmptyCall", EMPTY + EMPTY)
        assert a.headers["grpc-status"] in ("12", "13"), a.headers

    def test_not_protobuf(self, server):
        a = Answer(server, SERVICE + "UnaryCall", b"\0\0\0\0\x02\xff\xff")
        assert a.headers["grpc-status"] in ("3", "13"), a.headers

    def test_compressed_without_encoding(self, server):
        a = Answer(server, SERVICE + "EmptyCall", b"\1\0\0\0\0")
        assert a.headers["grpc-status"] == "13"

    def test_unknown_encoding(self, server):
        a = Answer(server, SERVICE + "EmptyCall", b"\1\0\0\0\1x", "grpc-encoding: snappy")
        assert a.headers["grpc-status"] == "12"
        assert "gzip" in a.headers["grpc-accept-encoding"]

    def test_too_large(self, server):
        a = Answer(server, SERVICE + "EmptyCall", b"\0\x7f\xff\xff\xff" + bytes(100))
        assert a.headers["grpc-status"] == "8"

    def test_status_text(self, server):
        text = "50 % ü\n".encode()
        status = b"\x08\x05\x12" + bytes([len(text)]) + text
        body = b"\x3a" + bytes([len(status)]) + status
        a = Answer(server, SERVICE + "UnaryCall", len(body).to_bytes(5, "big") + body)
        assert a.headers["grpc-status"] == "5"
        assert a.headers["grpc-message"].upper() == "50 %25 %C3%BC%0A"

    def test_time_is_up(self, server):
        since = server.mark()
        a = Answer(server, SERVICE + "UnaryCall", TEN, "grpc-timeout: 50m", "x-test-hang: 1")
        assert (a.status, a.headers["grpc-status"]) == (200, "4")
        server.wait("cancelled UnaryCall", since)

    def test_tls(self, certs):
        s = Server("sinew", cert=certs.cert, key=certs.key)
        a = Answer(s, SERVICE + "UnaryCall", TEN, scheme="https",
                   more=["--http2", "--cacert", certs.ca])
        assert (a.status, a.body, a.trailers["grpc-status"]) == (200, TEN_BACK, "0")
        s.end()


def test_nghttp(server, tmp_path):
    """The frames of an answer: HEADERS, DATA, HEADERS with END_STREAM."""
    body = tmp_path / "body"
    body.write_bytes(TEN)
    r = subprocess.run([nghttp, "-v", "--no-dep", "-H", ":method: POST", "-H",
                        "content-type: application/grpc", "-H", "te: trailers", "-d", str(body),
                        "http://%s%sUnaryCall" % (server.address, SERVICE)],
                       capture_output=True, timeout=PATIENCE)
    assert r.returncode == 0, r.stderr
    text = re.sub(rb"\x1b\[[0-9;]*m", b"", r.stdout).decode(errors="replace")
    got = re.findall(r"recv (\w+) frame <length=(\d+), flags=0x(\w\w), stream_id=(\d+)>", text)
    stream = [(kind, int(size) if kind == "DATA" else None, flags) for kind, size, flags, s in got
              if s != "0" and kind != "WINDOW_UPDATE"]
    assert stream == [("HEADERS", None, "04"), ("DATA", len(TEN_BACK), "00"),
                      ("HEADERS", None, "05")]
    assert "grpc-status: 0" in text


@pytest.mark.parametrize("connections", [1, 8])
def test_h2load(server, tmp_path, connections):
    body = tmp_path / "body"
    body.write_bytes(TEN)
    r = subprocess.run([h2load, "-n", "4000", "-c", str(connections), "-m", "64", "-d", str(body),
                        "-H", "content-type: application/grpc", "-H", "te: trailers",
                        "http://%s%sUnaryCall" % (server.address, SERVICE)],
                       capture_output=True, text=True, timeout=PATIENCE)
    assert "4000 total, 4000 started, 4000 done, 4000 succeeded, 0 failed, 0 errored, 0 timeout" \
        in r.stdout, r.stdout
    assert "%d) data" % (4000 * len(TEN_BACK)) in r.stdout or \
        "(%d) data" % (4000 * len(TEN_BACK)) in r.stdout, r.stdout
