# SPDX-License-Identifier: Apache-2.0
"""gRPC on the wire as nobody should write it, against our gRPC server and client (tests/grpc/grpc_peer)."""
import gzip
import os
import struct
import subprocess
import threading
import time

import pytest

import h2raw as h2
from siege import BUILD, LONG, MIB, OK, Peer, Process, Sidecar, Siege

GRPC_PEER = os.path.join(BUILD, "tests", "grpc", "grpc_peer")
DESCRIPTORS = os.path.join(BUILD, "src", "proto", "generated", "grpc_testing.desc")
SERVICE = "/grpc.testing.TestService/"
GRPC_OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, _, _, \
    RESOURCE_EXHAUSTED, _, _, _, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = range(15)


# ---- messages ----

def varint(n):
    out = b""
    while n >= 128:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    """A number, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def message(payload=b"", flag=0, length=None):
    return struct.pack(">BI", flag, len(payload) if length is None else length) + payload


def head(method, *more, kind="application/grpc", verb="POST"):
    path = method if method.startswith("/") else SERVICE + method
    return h2.request(path, verb, more=[("te", "trailers"), ("content-type", kind), *more])


def status(a):
    """grpc-status of an Answer: a number, or what came instead."""
    text = a.trailers.get("grpc-status")
    if text is not None:
        return int(text)
    return ("http", a.status) if a.status and a.status != 200 else ("reset", a.reset)


class Server(Process):
    def __init__(self):
        super().__init__([GRPC_PEER, "serve", "127.0.0.1:0", "--descriptors=" + DESCRIPTORS],
                         first="port ")
        self.reader = threading.Thread(target=lambda: [None for _ in self.p.stdout], daemon=True)
        self.reader.start()
        self.conn = None

    def canary(self):
        """EmptyCall on a kept connection."""
        self.conn = self.conn or h2.connect(self.port)
        got = status(call(self.conn, "EmptyCall", message()))
        self.conn.answers.clear()
        return "" if got == GRPC_OK else str(got)

    def end(self):
        assert self.p.poll() is None
        if self.conn:
            self.conn.close()
        self.p.stdin.close()
        assert self.p.wait(20) == 0, self.p.stderr.read()
        self.reader.join()
        assert self.p.stderr.read() == b""


@pytest.fixture(scope="module")
def server():
    s = Server()
    yield s
    s.end()


def siege(server, **kw):
    return Siege(server, ask=server.canary, **kw)


def begin(c, method, *more, body=b"", end=False, **kw):
    stream = c.next_id
    c.next_id += 2
    c.send(h2.headers(stream, head(method, *more, **kw), end_stream=False))
    if body:
        assert c.settings or c.until(lambda: c.settings)
        c.send_body(stream, body, end)
    elif end:
        c.send(h2.data(stream, b"", True))
    return stream


def call(c, method, body, *more, **kw):
    return c.answer(begin(c, method, *more, body=body, end=True, **kw))


# ---- messages that are none ----

BODIES = {  # what, the codes that may answer
    "nothing": (b"", [UNIMPLEMENTED, INTERNAL]),
    "part_of_prefix": (b"\0\0\0", [INTERNAL]),
    "part_of_message": (message(b"x", length=10), [INTERNAL]),
    "two_messages": (message() + message(), [UNIMPLEMENTED, INTERNAL]),
    "rest": (message() + b"x", [UNIMPLEMENTED, INTERNAL]),
    "flag_two": (message(flag=2), [INTERNAL]),
    "flag_255": (message(flag=255), [INTERNAL]),
    "compressed_unsaid": (message(gzip.compress(b""), flag=1), [INTERNAL]),
    "length_4_gib": (message(b"x", length=0xffffffff), [RESOURCE_EXHAUSTED]),
    "length_2_gib": (message(b"x", length=0x80000000), [RESOURCE_EXHAUSTED]),
    "length_over": (message(b"x", length=(4 << 20) + 1), [RESOURCE_EXHAUSTED]),
    "not_protobuf": (message(b"\xff" * 100), [INTERNAL]),
    "tag_zero": (message(b"\0\0"), [INTERNAL]),
    "cut": (message(b"\x1a\x05ab"), [INTERNAL]),
    "wrong_type": (message(field(3, 1)), [INTERNAL]),
    "utf8": (message(field(7, field(2, b"\xff\xfe"))), [INTERNAL]),
    "group": (message(b"\x0b\x0c"), [INTERNAL]),
    "groups_nested": (message(b"\x0b" * 74000), [INTERNAL]),
    "groups_closed": (message(b"\x0b" * 37000 + b"\x0c" * 37000), [INTERNAL]),
    "submessages": (message(field(3, b"") * 400000), [INTERNAL, RESOURCE_EXHAUSTED, GRPC_OK]),
    "unknown_fields": (message(field(900, 1) * 400000), [INTERNAL, RESOURCE_EXHAUSTED, GRPC_OK]),
}


@pytest.mark.parametrize("kind", BODIES)
def test_bad_message(server, kind):
    body, codes = BODIES[kind]
    with siege(server, grows=48 * MIB if len(body) > MIB else 4 * MIB) as s:
        c = s.connect()
        assert status(call(c, "UnaryCall", body)) in codes
        assert status(call(c, "EmptyCall", message())) == GRPC_OK


HEADS = {
    "encoding": dict(more=[("grpc-encoding", "snappy")], codes=[UNIMPLEMENTED]),
    "no_type": dict(kind="", codes=[("http", 415)]),
    "other_type": dict(kind="text/html", codes=[("http", 415)]),
    "like_type": dict(kind="application/grpcx", codes=[("http", 415)]),
    "get": dict(verb="GET", codes=[("http", 405)]),
    "service": dict(method="/no.Service/EmptyCall", codes=[UNIMPLEMENTED]),
    "method": dict(method=SERVICE + "No", codes=[UNIMPLEMENTED]),
    "no_method": dict(method=SERVICE, codes=[UNIMPLEMENTED]),
    "slashes": dict(method="/" + SERVICE + "EmptyCall", codes=[UNIMPLEMENTED]),
    "escaped": dict(method=SERVICE + "Empty%43all", codes=[UNIMPLEMENTED]),
    "long_path": dict(method="/" + "x" * 15000, codes=[UNIMPLEMENTED]),
    "metadata": dict(more=[("x%d" % i, "y" * 600) for i in range(80)], codes=[GRPC_OK]),
    "metadata_many": dict(more=[("x", "y")] * 500, codes=[("http", 431), RESOURCE_EXHAUSTED]),
    "metadata_huge": dict(more=[("x", "y" * 15000)] * 5,
                          codes=[("http", 431), RESOURCE_EXHAUSTED, ("reset", 1)]),
    "bin_not_base64": dict(more=[("x-bin", "!!!"), ("x-grpc-test-echo-trailing-bin", "!")],
                           codes=[GRPC_OK, INTERNAL]),
}


@pytest.mark.parametrize("kind", HEADS)
def test_bad_head(server, kind):
    how = dict(HEADS[kind])
    codes = how.pop("codes")
    more, method = how.pop("more", ()), how.pop("method", "EmptyCall")
    with siege(server) as s:
        c = s.connect()
        stream = c.next_id
        c.next_id += 2
        block = head(method, *more, **how)
        pieces = [block[i:i + 16384] for i in range(0, len(block), 16384)]
        c.send(h2.headers(stream, pieces[0], False, len(pieces) == 1),
               *(h2.continuation(stream, p, p is pieces[-1]) for p in pieces[1:]),
               h2.data(stream, message(), True))
        assert status(c.answer(stream)) in codes
        assert status(call(c, "EmptyCall", message())) == GRPC_OK


TIMEOUTS = {  # refused, or not
    "": None, "1": None, "S": None, "-1S": None, "+1S": None, "1.5S": None, "1 S": None, "1s": None,
    "100000000S": None, "999999999999999999999S": None, "0x1S": None, "1SS": None,
    "0n": DEADLINE_EXCEEDED, "0H": DEADLINE_EXCEEDED, "1n": DEADLINE_EXCEEDED,
    "99999999H": GRPC_OK, "99999999S": GRPC_OK, "00000009S": GRPC_OK,
}


def test_timeouts(server):
    with siege(server) as s:
        c = s.connect()
        for text, code in TIMEOUTS.items():
            got = status(call(c, "EmptyCall", message(), ("grpc-timeout", text)))
            assert got == code or code is None and got in (INTERNAL, INVALID_ARGUMENT, GRPC_OK) or \
                text == "1n" and got == GRPC_OK, (text, got)


# ---- much ----

def bomb(size):
    return gzip.compress(bytes(size), 9)


def test_gzip_bomb(server):
    """64 MiB in 64 KiB: refused when it is over the limit, and nothing more is unpacked."""
    body = bomb(64 * MIB)
    with siege(server, grows=12 * MIB) as s:
        c = s.connect()
        for _ in range(20):
            assert status(call(c, "UnaryCall", message(body, 1), ("grpc-encoding", "gzip"))) == \
                RESOURCE_EXHAUSTED


def test_gzip_bomb_of_members(server):
    """Empty members by the thousand, and garbage behind the last."""
    with siege(server) as s:
        c = s.connect()
        body = gzip.compress(b"") * 100000
        assert status(call(c, "EmptyCall", message(body, 1), ("grpc-encoding", "gzip"))) == GRPC_OK
        assert status(call(c, "EmptyCall", message(body + b"x", 1), ("grpc-encoding", "gzip"))) == \
            INTERNAL
        assert status(call(c, "EmptyCall", message(b"", 1), ("grpc-encoding", "gzip"))) in \
            (GRPC_OK, INTERNAL)


def test_gzip_bombs_in_a_stream(server):
    """Each within the limit: work, but not memory."""
    body = message(bomb(4 * MIB - 1), 1) * 20
    with siege(server, grows=24 * MIB) as s:
        c = s.connect()
        got = status(call(c, "StreamingInputCall", body, ("grpc-encoding", "gzip")))
        assert got in (INTERNAL, GRPC_OK)  # zeros are no protobuf


def test_announced_and_not_sent(server):
    """4 MiB are announced by 500 calls: memory comes with the bytes."""
    with siege(server, grows=16 * MIB) as s:
        for _ in range(5):
            c = s.connect()
            assert c.until(lambda: c.acks)
            c.send(*(h2.headers(2 * i + 1, head("UnaryCall"), end_stream=False) +
                     h2.data(2 * i + 1, message(b"x" * 100, length=4 * MIB)) for i in range(100)))
            c.send(h2.ping())
            assert c.until(lambda: c.pongs)


def test_tiny_messages_and_a_slow_reader(server):
    """100,000 messages, each to be answered, and the answers are not taken: no more is read."""
    with siege(server) as s:
        c = s.connect([(h2.INITIAL_WINDOW_SIZE, 1000)], auto="ack")
        stream = begin(c, "FullDuplexCall")
        one = message(field(2, field(1, 100)))
        assert c.until(lambda: c.settings)
        assert not c.send_body(stream, one * 100000, seconds=1)
        assert c.sent[stream] > 1000 * len(one)
        assert c.answers[stream].n == 1000
        c.send(h2.rst(stream))
        assert status(call(c, "EmptyCall", message())) == GRPC_OK


def test_empty_messages_by_the_hundred_thousand(server):
    with siege(server) as s:
        c = s.connect()
        assert c.until(lambda: c.acks)
        stream = begin(c, "StreamingInputCall")
        for _ in range(10):
            assert c.offer(*([h2.data(stream, message() * 1000)] * 10))
            c.send(h2.ping())
            assert c.until(lambda: c.pongs)
            c.pongs = 0
        c.send(h2.data(stream, b"", True))
        assert status(c.answer(stream)) == GRPC_OK


def test_calls_broken_off(server):
    """Streams that were begun in the server's code, cancelled again and again."""
    with siege(server) as s:
        c = s.connect()
        for i in range(2000 if LONG else 300):
            stream = begin(c, "FullDuplexCall", body=message(field(2, field(1, 1))))
            assert c.until(lambda: stream in c.answers and c.answers[stream].n)
            c.send(h2.rst(stream))
            c.answers.clear()
            if i % 100 == 99:
                assert status(call(c, "EmptyCall", message())) == GRPC_OK


def test_half_closed_and_gone(server):
    """Connections that go with a hundred calls open."""
    with siege(server) as s:
        for _ in range(20):
            c = s.connect()
            for _ in range(100):
                begin(c, "FullDuplexCall", body=message(field(2, field(1, 1) + field(2, 50000))))
            c.close()


# ---- what is said ----

TEXTS = ["a\r\nb", "\x01\x1b[31m", "%41%", "ä€😀", "\x7f", "x" * 5000, " ", ""]


def test_status_texts(server):
    """The text of a status is anybody's: it travels encoded, and breaks no header."""
    with siege(server) as s:
        c = s.connect()
        for text in TEXTS:
            a = call(c, "UnaryCall", message(field(7, field(1, 5) + field(2, text.encode()))))
            assert status(a) == NOT_FOUND
            said = a.trailers.get("grpc-message", "")
            assert all(" " <= x <= "~" for x in said)
            raw = bytearray()
            i = 0
            while i < len(said):
                if said[i] == "%":
                    raw.append(int(said[i + 1:i + 3], 16))
                    i += 3
                else:
                    raw.append(ord(said[i]))
                    i += 1
            assert raw.decode().strip(" ") == text.strip(" ")


def test_status_codes(server):
    with siege(server) as s:
        c = s.connect()
        for code in (1, 16, 17, 255, 2147483647, (1 << 64) - 1):
            got = status(call(c, "UnaryCall", message(field(7, field(1, code)))))
            assert got == (code if code <= 16 else UNKNOWN)


# ---- reflection and health ----

REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
QUESTIONS = [field(4, n) for n in (
    b"", b".", b"..", b"grpc.testing.", b".grpc.testing.TestService", b"grpc.testing.TestService.No",
    b"grpc.testing.TestService..", b"x" * 10000, b"\xff\xfe", b"a.b.c" * 1000, b"%s%n")] + [
    field(3, n) for n in (b"", b"../../etc/passwd", b"/etc/passwd", b"x" * 10000, b"\0")] + [
    field(5, field(1, b"grpc.testing.Empty") + field(2, 0xffffffff)), field(5, b""),
    field(6, b"nobody"), field(6, b""), b"", field(900, 5), field(3, b"a") + field(4, b"b")]


def test_reflection_with_nonsense(server):
    with siege(server) as s:
        c = s.connect()
        for question in QUESTIONS:
            a = call(c, REFLECTION, message(question))
            assert status(a) in (GRPC_OK, INTERNAL, INVALID_ARGUMENT), (question, status(a))
            assert b"root:" not in a.body


def test_reflection_answers_wait(server):
    """Large answers to small questions, not taken."""
    with siege(server) as s:
        c = s.connect([(h2.INITIAL_WINDOW_SIZE, 1000)], auto="ack")
        stream = begin(c, REFLECTION)
        question = message(field(4, b"grpc.testing.TestService"))
        assert c.until(lambda: c.settings)
        assert not c.send_body(stream, question * 20000, seconds=1)
        assert c.answers[stream].n == 1000


def test_watches_by_the_thousand(server):
    """Each costs little, and all goes when they go."""
    conns = 50 if LONG else 10
    with siege(server, grows=conns * 100 * 12 * 1024) as s:
        before = s.rss
        for _ in range(conns):
            c = s.connect()
            assert c.until(lambda: c.acks)
            for i in range(100):
                begin(c, "/grpc.health.v1.Health/Watch", end=True,
                      body=message(field(1, b"n" * (1024 if i % 2 else 3))))
            assert c.until(lambda: sum(a.n > 0 for a in c.answers.values()) == 100)
        if os.environ.get("SINEW_H2_FIGURES"):
            print("\n  %d bytes for each watch" % ((s.rss - before) // (conns * 100)), end=" ")
        assert status(call(s.connect(), "/grpc.health.v1.Health/Watch",
                           message(field(1, b"n" * 1025)))) == INVALID_ARGUMENT


# ---- our client ----

def reply(*pairs, first=OK, kind="application/grpc"):
    return lambda s: h2.headers(s, first + h2.block([("content-type", kind), *pairs]),
                                end_stream=False)


def trailers(*pairs):
    return lambda s: h2.headers(s, h2.block(pairs))


def only(*pairs, kind="application/grpc"):
    return lambda s: h2.headers(s, OK + h2.block([("content-type", kind), *pairs]))


def body(data):
    return lambda s: b"".join(h2.data(s, data[i:i + 16384]) for i in range(0, len(data), 16384))


DONE = trailers(("grpc-status", "0"))
ANSWERS = {  # frames, the code our client tells
    "ok": ([reply(), body(message()), DONE], None),
    "no_message": ([reply(), DONE], "UNIMPLEMENTED|INTERNAL"),
    "two_messages": ([reply(), body(message() * 2), DONE], "UNIMPLEMENTED|INTERNAL"),
    "many_messages": ([reply(), body(message() * 100000), DONE], "UNIMPLEMENTED|INTERNAL"),
    "half_message": ([reply(), body(message(b"x", length=9)), DONE], "INTERNAL"),
    "half_prefix": ([reply(), body(b"\0\0"), DONE], "INTERNAL"),
    "length_4_gib": ([reply(), body(message(b"x", length=0xffffffff))], "RESOURCE_EXHAUSTED"),
    "flag": ([reply(), body(message(flag=7)), DONE], "INTERNAL"),
    "compressed_unsaid": ([reply(), body(message(gzip.compress(b""), 1)), DONE], "INTERNAL"),
    "gzip_bomb": ([reply(("grpc-encoding", "gzip")), body(message(bomb(64 * MIB), 1)), DONE],
                  "RESOURCE_EXHAUSTED"),
    "not_gzip": ([reply(("grpc-encoding", "gzip")), body(message(b"x" * 50, 1)), DONE], "INTERNAL"),
    "encoding": ([reply(("grpc-encoding", "zip")), body(message()), DONE], "INTERNAL|UNIMPLEMENTED"),
    "not_protobuf": ([reply(), body(message(b"\xff" * 20)), DONE], "line"),
    "groups": ([reply(), body(message(b"\x0b" * 74000)), DONE], "line"),  # bytes, and not empty
    "no_status": ([reply(), body(message()), trailers(("a", "b"))], "UNKNOWN"),
    "no_trailers": ([reply(), body(message()), lambda s: h2.data(s, b"", True)], "UNKNOWN|INTERNAL"),
    "status_text": ([only(("grpc-status", "x"))], "UNKNOWN"),
    "status_99": ([only(("grpc-status", "99"))], "UNKNOWN"),
    "status_negative": ([only(("grpc-status", "-1"))], "UNKNOWN"),
    "status_huge": ([only(("grpc-status", "4294967301"))], "UNKNOWN"),
    "status_message": ([only(("grpc-status", "5"), ("grpc-message", "%0d%0a%00%1b[31m%zz%"))],
                       "NOT_FOUND"),
    "status_details": ([only(("grpc-status", "5"), ("grpc-status-details-bin", "!!"))], "NOT_FOUND"),
    "status_details_junk": ([only(("grpc-status", "5"), ("grpc-status-details-bin", "/////w"))],
                            "NOT_FOUND"),
    "message_long": ([only(("grpc-status", "5"), ("grpc-message", "x" * 16000))], "NOT_FOUND"),
    "data_behind": ([reply(("grpc-status", "0")), body(message()), DONE], "INTERNAL|UNKNOWN"),
    "html": ([reply(kind="text/html"), body(b"<html>"), lambda s: h2.data(s, b"", True)], "UNKNOWN"),
    "http_401": ([lambda s: h2.headers(s, h2.literal(":status", "401"))], "UNAUTHENTICATED"),
    "http_418": ([lambda s: h2.headers(s, h2.literal(":status", "418"))], "UNKNOWN"),
    "reset_code": ([reply(), lambda s: h2.rst(s, 0xdeadbeef)], "UNKNOWN|INTERNAL"),
    "reset_calm": ([lambda s: h2.rst(s, h2.ENHANCE_YOUR_CALM)], "RESOURCE_EXHAUSTED|UNAVAILABLE"),
    "metadata_many": ([lambda s: h2.headers(s, OK + h2.literal("a", "b") * 500, False)],
                      "INTERNAL|RESOURCE_EXHAUSTED|UNAVAILABLE"),
    "trailers_many": ([reply(), body(message()), lambda s: h2.headers(s, h2.literal("a", "b") * 500)],
                      "INTERNAL|RESOURCE_EXHAUSTED|UNAVAILABLE"),
}


class Client:
    """grpc_peer as a client: cases by name."""

    def __init__(self, port):
        self.p = subprocess.Popen([GRPC_PEER, "client", "127.0.0.1:%d" % port], text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.usage = h2.Usage(self.p.pid)

    def run(self, case):
        self.p.stdin.write(case + "\n")
        self.p.stdin.flush()
        return self.p.stdout.readline().rstrip("\n")

    def end(self):
        self.p.stdin.close()
        assert self.p.wait(20) == 0


@pytest.fixture(scope="module")
def evil():
    peer = Peer()
    client = Client(peer.port)
    yield peer, client
    client.end()
    peer.end()


@pytest.mark.parametrize("kind", ANSWERS)
def test_bad_answer(evil, kind):
    """One client process through them all."""
    peer, client = evil
    frames, codes = ANSWERS[kind]

    def answer(c, f):
        with_end = [x(f.stream) if callable(x) else x for x in frames]
        c.offer(*with_end)
    peer.answer = answer
    client.usage.reset_peak()
    before = client.usage.rss
    begun = time.monotonic()
    said = client.run("empty_unary")
    assert time.monotonic() - begun < 15
    if codes is None:
        assert said == "ok empty_unary"
    else:
        assert said.startswith("FAILED empty_unary ") and said.split()[2] in codes.split("|"), said
        assert all(x >= " " for x in said)
    if not client.usage.sanitized:
        assert client.usage.peak - before < 16 * MIB
    peer.answer = lambda c, f: c.send(*(x(f.stream) for x in ANSWERS["ok"][0]))
    assert client.run("empty_unary") == "ok empty_unary"


# ---- through the sidecar ----

CALL = "/call/service/evil/rest" + SERVICE


def test_through_the_sidecar(server, tmp_path):
    """Sessions that are cancelled, not read, or never ended: the proxy keeps little, and lets go."""
    good = Peer()
    client = Sidecar(str(tmp_path), server, good, protocol="grpc")

    def canary():
        status_, text = client.call("good")
        return "" if status_ == 200 else "%d %r" % (status_, text)
    try:
        with Siege(client, ask=canary, grows=24 * MIB) as s:
            c = s.connect()
            assert status(call(c, CALL + "EmptyCall", message())) == GRPC_OK
            for _ in range(200):
                stream = begin(c, CALL + "FullDuplexCall", body=message(field(2, field(1, 1))))
                assert c.until(lambda n=stream: n in c.answers and c.answers[n].n)
                c.send(h2.rst(stream))
                c.answers.clear()
            d = s.connect([(h2.INITIAL_WINDOW_SIZE, 1000)], auto="ack")
            for _ in range(10):  # large answers that are not taken
                begin(d, CALL + "FullDuplexCall", body=message(field(2, field(1, 1 << 20))))
            assert d.until(lambda: sum(a.n == 1000 for a in d.answers.values()) == 10)
            e = s.connect()
            for kind in ("flag_two", "length_4_gib", "part_of_message", "not_protobuf", "two_messages"):
                assert status(call(e, CALL + "UnaryCall", BODIES[kind][0])) in \
                    BODIES[kind][1] + [RESOURCE_EXHAUSTED, UNAVAILABLE], kind
            assert status(call(e, CALL + "EmptyCall", message())) == GRPC_OK
    finally:
        client.end()
        good.end()
