# SPDX-License-Identifier: Apache-2.0
"""Ends that misbehave against our HTTP/2 server: each attack is answered with the protocol's error,
while memory stays flat and everybody else is served."""
import os
import socket
import ssl
import struct
import threading
import time

import pytest

import h2raw as h2
from h2raw import request
from siege import FILES, LONG, MIB, NGHTTPD, Nghttpd, OurServer, Siege
import certs  # by the path of siege.py

CALM = h2.ENHANCE_YOUR_CALM
ours_only = pytest.mark.skipif(NGHTTPD, reason="nghttpd has no such rule")
OPEN = b"".join(h2.literal(*p) for p in (  # a request whose body is waited for
    (":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", "/all")))
GET = request("/hello")


@pytest.fixture
def server(request, tmp_path):
    mark = request.node.get_closest_marker("times")
    s = Nghttpd(str(tmp_path)) if NGHTTPD else OurServer(**(mark.kwargs if mark else {}))
    yield s
    s.end()


def flood(siege, frames, n=40000, first=(), **kw):
    """@frames(i) by the ten thousand until the server has had enough: its verdict."""
    c = siege.connect(**kw)
    if first:
        c.send(*first)
    for at in range(0, n, 500):
        if not c.offer(*(frames(i) for i in range(at, at + 500))):
            break
    return c, c.verdict(5)


# ---- floods ----

def odd(i):
    return 2 * i + 1


CHEAP = {
    "ping": lambda i: h2.ping(),
    "ping_ack": lambda i: h2.ping(ack=True),
    "settings": lambda i: h2.settings(),
    "settings_values": lambda i: h2.settings((h2.HEADER_TABLE_SIZE, i), (h2.MAX_FRAME_SIZE, 16384),
                                             (h2.INITIAL_WINDOW_SIZE, 65535 - i % 2)),
    "settings_many_entries": lambda i: h2.settings(*[(h2.INITIAL_WINDOW_SIZE, 65535)] * 30),
    "settings_unknown": lambda i: h2.settings((999, i)),
    "priority_idle": lambda i: h2.priority(odd(i) % 100001),
    "priority_one": lambda i: h2.priority(1001, i % 2),
    "window_conn": lambda i: h2.window(0, 1),
    "window_stream": lambda i: h2.window(1, 1),
    "empty_data": lambda i: h2.data(1),
    "rst_closed": lambda i: h2.rst(3),
}


@ours_only
@pytest.mark.parametrize("kind", CHEAP)
def test_flood(server, kind):
    """Frames that cost the sender nothing."""
    first = [h2.headers(1, OPEN, end_stream=False)]
    if kind == "rst_closed":
        first += [h2.headers(3, OPEN, end_stream=False), h2.rst(3)]
    with Siege(server) as s:
        c, verdict = flood(s, CHEAP[kind], first=first)
        assert verdict == CALM


@pytest.mark.parametrize("kind", ["ping", "settings"])
def test_flood_unread(server, kind):
    """The answers are never read: they must not pile up."""
    with Siege(server) as s:
        c = s.connect(buffers=4096, auto=False)
        piece = CHEAP[kind](0) * 5000
        c.sock.settimeout(1)
        total = 0
        try:
            while total < (256 if LONG else 64) * MIB:
                total += c.sock.send(piece)
        except OSError:
            pass  # it stopped reading, or closed
        assert total < 64 * MIB


def test_data_padding_only(server):
    """DATA frames of nothing but padding use windows and bring nothing: windows come back (or it is
    enough), the stream stays in step."""
    with Siege(server) as s:
        c = s.connect(auto=True)
        c.send(h2.headers(1, OPEN, end_stream=False))
        sent, pad = 0, h2.frame(h2.DATA, h2.PADDED, 1, b"\xff" + b"\0" * 255)
        for _ in range(4000):
            if not c.offer(pad * 10):
                break
            sent += 10
            if c.answers.get(1) and c.answers[1].over:
                break
        c.drain()
        verdict = c.verdict(1) if c.end or c.goaways else None
        assert verdict in (None, CALM, h2.FLOW_CONTROL_ERROR)


# ---- streams begun and broken off ----

def begun(i):
    return h2.headers(odd(i), OPEN, end_stream=False)


RESETS = {
    "rapid_reset": lambda i: h2.headers(odd(i), GET) + h2.rst(odd(i)),
    "rapid_reset_open": lambda i: begun(i) + h2.rst(odd(i)),
    # the server is made to reset
    "window_zero": lambda i: begun(i) + h2.window(odd(i), 0),
    "window_overflow": lambda i: begun(i) + h2.window(odd(i), 0x7fffffff),
    "data_after_end": lambda i: h2.headers(odd(i), GET) + h2.data(odd(i), b"x"),
    "headers_after_end": lambda i: h2.headers(odd(i), GET) + h2.headers(odd(i), GET),
    "length_mismatch": lambda i: h2.headers(odd(i), OPEN + h2.literal("content-length", "5"),
                                            end_stream=False) + h2.data(odd(i), b"x", True),
    "malformed": lambda i: h2.headers(odd(i), h2.literal(":method", "GET")),
    "priority_self": lambda i: begun(i) + h2.priority(odd(i), odd(i)),
    "priority_size": lambda i: begun(i) + h2.frame(h2.PRIORITY, 0, odd(i), b"\0\0\0\0"),
    "second_head": lambda i: begun(i) + h2.headers(odd(i), h2.literal("a", "b"), end_stream=False),
    "refused": lambda i: begun(i),
}


@pytest.mark.parametrize("kind", RESETS)
def test_resets(server, kind):
    if NGHTTPD and kind in ("malformed", "length_mismatch", "window_overflow", "refused",
                            "headers_after_end", "second_head"):
        pytest.skip("nghttpd goes on for ever")
    with Siege(server) as s:
        c, verdict = flood(s, RESETS[kind], n=20000)
        if kind.startswith("rapid"):
            assert verdict == (h2.INTERNAL_ERROR if NGHTTPD else CALM)
        assert verdict in (CALM, h2.PROTOCOL_ERROR, h2.FRAME_SIZE_ERROR, h2.STREAM_CLOSED) or NGHTTPD


@ours_only
def test_rapid_reset_from_many(server):
    """Within the budget of each connection, and over and over anew."""
    with Siege(server) as s:
        for _ in range(40 if LONG else 10):
            with h2.connect(server.port) as c:
                c.offer(*(RESETS["rapid_reset_open"](i) for i in range(900)))


# ---- header blocks ----

def never_ending(piece, n=200000):
    yield h2.headers(1, GET, end_headers=False)
    one = h2.continuation(1, piece)
    per = max(1, 65536 // len(one))
    for _ in range(0, n, per):
        yield one * per


@pytest.mark.parametrize("piece", [b"", h2.literal("a", "b")[:1], h2.literal("a", "b"),
                                   h2.literal("x" * 100, "y" * 16000)],
                         ids=["empty", "byte", "small", "large"])
def test_continuation_flood(server, piece):
    if len(piece) == 1:
        piece = h2.indexed(2)  # one byte
    with Siege(server) as s:
        c = s.connect()
        for chunk in never_ending(piece):
            if not c.offer(chunk):
                break
        assert c.verdict(5) in (CALM, h2.PROTOCOL_ERROR, h2.COMPRESSION_ERROR)


def test_continuation_after_end_headers(server):
    with Siege(server) as s:
        c = s.connect()
        c.send(h2.headers(1, OPEN, end_stream=False), h2.continuation(1, b"", True))
        assert c.verdict(5) == h2.PROTOCOL_ERROR


def test_continuation_trailers_never_end(server):
    """A second block on a stream whose body is under way."""
    with Siege(server) as s:
        c = s.connect()
        c.send(h2.headers(1, OPEN, end_stream=False), h2.data(1, b"x"),
               h2.headers(1, b"", end_headers=False))
        for _ in range(100):
            if not c.offer(h2.continuation(1, h2.literal("a", "b" * 1000)) * 16):
                break
        assert c.verdict(5) in (CALM, h2.PROTOCOL_ERROR, h2.COMPRESSION_ERROR) or NGHTTPD and c.end


def split(stream, block, end_stream=True):
    pieces = [block[i:i + 16384] for i in range(0, len(block), 16384)]
    out = [h2.headers(stream, pieces[0], end_stream, len(pieces) == 1)]
    for i, p in enumerate(pieces[1:]):
        out.append(h2.continuation(stream, p, i == len(pieces) - 2))
    return out


BOMBS = {
    # one entry of the table, named again and again: 4,000 bytes for each byte on the wire
    "indexed": lambda: GET + h2.literal("bomb", "x" * 4000, index=True) + h2.indexed(62) * 16000,
    "indexed_full": lambda: GET + h2.literal("bomb", "x" * 4000, index=True) +
    h2.indexed(62) * 110000,
    "many_small": lambda: GET + h2.literal("a", "b") * 3000,
    "many_cookies": lambda: GET + h2.literal("cookie", "a=b") * 3000,
    "one_huge": lambda: GET + h2.literal("huge", "x" * 100000),
    "huge_name": lambda: GET + h2.literal("n" * 100000, "x"),
    "huge_path": lambda: request("/" + "x" * 100000),
    "table_updates": lambda: h2.table_size(0) * 1 + h2.table_size(4096) + GET,
}


@pytest.mark.parametrize("kind", BOMBS)
def test_header_bomb(server, kind):
    """Refused (431 or RST_STREAM: then the connection and its table go on), or the end of it."""
    with Siege(server) as s:
        c = s.connect()
        for _ in range(20):
            stream = c.next_id
            c.next_id += 2
            if not c.offer(*split(stream, BOMBS[kind]())):
                break
            a = c.answer(stream, 5)
            if not a.over:
                break
            if kind == "table_updates":
                assert a.status == 200
            elif not NGHTTPD:
                assert a.status in (431, 414, None)
        if c.end or c.goaways:
            assert c.verdict(1) in (CALM, h2.PROTOCOL_ERROR, h2.COMPRESSION_ERROR, h2.INTERNAL_ERROR)
        else:
            assert c.ask("/hello").status == 200


@ours_only
def test_header_bomb_leaves_the_table_right(server):
    """An entry made by a block that was refused is there for the next one."""
    with Siege(server) as s:
        c = s.connect()
        c.send(*split(1, GET + h2.literal("x-kept", "value", index=True) + h2.literal("a", "b") * 300))
        assert c.answer(1).status == 431
        c.send(h2.headers(3, GET + h2.indexed(62)))
        assert c.answer(3).status == 200


@pytest.mark.parametrize("block", [h2.indexed(62), h2.indexed(1 << 20), b"\x80", h2.table_size(4097),
                                   h2.table_size(1 << 30), GET + h2.table_size(0),
                                   b"\xff" + b"\xff" * 20, b"\x00\x7f\xff\xff\xff\xff\x0f",
                                   b"\x00\x85abc", b"\x00\x81\xff\x00", b"\x40\x01a"],
                         ids=["absent", "far", "zero", "table_large", "table_huge", "late_update",
                              "integer", "length", "cut", "huffman_eos", "value_cut"])
def test_hpack_errors(server, block):
    with Siege(server) as s:
        c = s.connect()
        c.send(h2.headers(1, block))
        assert c.verdict(5) == h2.COMPRESSION_ERROR


# ---- too many streams ----

@pytest.mark.parametrize("acked", [False, True])
def test_too_many_streams(server, acked):
    with Siege(server, grows=12 * MIB) as s:
        c = s.connect(auto=acked)
        if acked:
            assert c.until(lambda: c.settings and c.acks)
        limit = c.settings.get(h2.MAX_CONCURRENT_STREAMS, 100)
        c.offer(*(h2.headers(odd(i), OPEN, end_stream=False) for i in range(limit * 3)))
        c.until(lambda: len([a for a in c.answers.values() if a.reset is not None]) >= limit * 2, 3)
        if c.goaways:
            assert c.goaways[-1].code in (h2.PROTOCOL_ERROR, CALM)
        else:
            resets = [a.reset for a in c.answers.values() if a.reset is not None]
            assert resets == [h2.REFUSED_STREAM] * (limit * 2)


# ---- windows ----

def test_window_overflow_connection(server):
    with Siege(server) as s:
        c = s.connect()
        c.send(h2.window(0, 0x7fffffff))
        assert c.verdict(5) == h2.FLOW_CONTROL_ERROR


def test_window_overflow_stream(server):
    with Siege(server) as s:
        c = s.connect()
        c.send(h2.headers(1, OPEN, end_stream=False), h2.window(1, 0x7fffffff))
        assert c.answer(1, 5).reset == h2.FLOW_CONTROL_ERROR
        assert c.ask("/hello").status == 200 if c.next_id > 1 else c.next_id == 1


@pytest.mark.parametrize("value", [0x80000000, 0xffffffff])
def test_initial_window_too_large(server, value):
    with Siege(server) as s:
        c = s.connect([(h2.INITIAL_WINDOW_SIZE, value)])
        assert c.verdict(5) == h2.FLOW_CONTROL_ERROR


def test_initial_window_overflows_streams(server):
    with Siege(server) as s:
        c = s.connect()
        c.send(h2.headers(1, OPEN, end_stream=False), h2.window(1, 0x7fffffff - 65535),
               h2.settings((h2.INITIAL_WINDOW_SIZE, 0x7fffffff)))
        a = c.answer(1, 5)
        assert a.reset == h2.FLOW_CONTROL_ERROR or c.verdict(1) == h2.FLOW_CONTROL_ERROR


def test_window_never_opened(server):
    """Answers without end on every stream of some connections, and nobody takes them."""
    conns = 40 if LONG else 10
    with Siege(server, grows=conns * 100 * 128 * 1024) as s:
        before, opened = s.rss, 0
        for _ in range(conns):
            c = s.connect([(h2.INITIAL_WINDOW_SIZE, 0)], auto=False)
            c.send(*(h2.headers(odd(i), request("/endless")) for i in range(100)))
            assert c.until(lambda: len(c.answers) == 100)
            opened += 100
        used = (s.rss - before) // opened
        if os.environ.get("SINEW_H2_FIGURES"):
            print("\n  %d bytes for each stream that waits for a window" % used, end=" ")
    with Siege(server) as s:  # and again: in the memory there is
        pass


@ours_only
def test_bodies_nobody_takes(server):
    """The echo cannot send, so it reads no more: what a client may send ahead is memory."""
    conns = 20 if LONG else 4
    with Siege(server, grows=conns * 100 * 400 * 1024) as s:
        before, opened = s.rss, 0
        for _ in range(conns):
            c = s.connect([(h2.INITIAL_WINDOW_SIZE, 0)])
            assert c.until(lambda: c.acks)
            window = c.settings[h2.INITIAL_WINDOW_SIZE]
            for i in range(100):
                c.send(h2.headers(odd(i), request("/echo", "POST"), end_stream=False))
                assert c.offer(h2.data(odd(i), b"x" * 16384) * (window // 16384))
            c.send(h2.ping())
            assert c.until(lambda: c.pongs)
            opened += 100
        if os.environ.get("SINEW_H2_FIGURES"):
            print("\n  %d KiB for each stream that is not read (window %d KiB)" % (
                (s.rss - before) // opened >> 10, window >> 10), end=" ")


def test_window_drip(server):
    """A byte at a time: many frames of ours, but they cost the client as many."""
    with Siege(server) as s:
        c = s.connect([(h2.INITIAL_WINDOW_SIZE, 0)], auto=False)
        c.send(h2.headers(1, request("/endless")))
        for i in range(300):
            c.send(h2.window(1, 1))
            assert c.until(lambda: c.answers.get(1) and c.answers[1].n == i + 1)


def test_window_shut_and_opened(server):
    """The initial window to nothing and back while answers are under way: below zero and up."""
    with Siege(server) as s:
        c = s.connect(auto=False)
        c.send(h2.headers(1, request("/endless")))
        assert c.until(lambda: c.answers.get(1) and c.answers[1].n == 65535)
        for _ in range(20):
            c.send(h2.settings((h2.INITIAL_WINDOW_SIZE, 0)),
                   h2.settings((h2.INITIAL_WINDOW_SIZE, 65535)))
        c.send(h2.settings((h2.INITIAL_WINDOW_SIZE, 0)))
        acks = 22
        assert c.until(lambda: c.acks >= acks)
        assert c.answers[1].n == 65535
        c.send(h2.window(1, 65535), h2.window(0, 65535))  # to nothing, not above
        c.send(h2.ping())
        assert c.until(lambda: c.pongs)
        assert c.answers[1].n == 65535
        c.send(h2.window(1, 7))
        assert c.until(lambda: c.answers[1].n == 65542)


@ours_only
def test_body_beyond_the_window(server):
    """The handler takes nothing of the body: no more than the window may come."""
    with Siege(server) as s:
        c = s.connect([(h2.INITIAL_WINDOW_SIZE, 0)])
        c.send(h2.headers(1, request("/endless", "POST"), end_stream=False))
        c.offer(h2.data(1, b"x" * 16384) * 600)
        a = c.answer(1, 5)
        assert a.reset == h2.FLOW_CONTROL_ERROR or c.verdict(1) == h2.FLOW_CONTROL_ERROR


@ours_only
def test_body_too_large(server):
    """Above max_body the answer is 413, and the rest is not taken."""
    with Siege(server, grows=64 * MIB) as s:  # two copies while the buffer grows
        c = s.connect()
        assert c.until(lambda: c.acks)
        c.send(h2.headers(1, OPEN, end_stream=False))
        c.send_body(1, bytes(20 * MIB))
        a = c.answer(1, 5)
        assert a.status == 413 and c.sent[1] <= 18 * MIB
        c.next_id = 3
        assert c.ask("/hello").status == 200


# ---- slowness ----

def closes(c, seconds=30):
    """How long until the server closes."""
    begun_at = time.monotonic()
    try:
        while time.monotonic() - begun_at < seconds:
            c.read(seconds)
    except (h2.Closed, socket.timeout):
        pass
    assert c.end, "still open"
    return time.monotonic() - begun_at


SHORT = pytest.mark.times(HTTP_PEER_HEAD_MS="400", HTTP_PEER_IDLE_MS="600")


@ours_only
@SHORT
@pytest.mark.parametrize("first", [b"", b"P", h2.PREFACE[:20], h2.PREFACE, h2.PREFACE + b"\0\0",
                                   h2.PREFACE + h2.settings(),
                                   h2.PREFACE + h2.settings() + h2.headers(1, GET)[:30],
                                   h2.PREFACE + h2.settings() +
                                   h2.headers(1, GET, end_headers=False)],
                         ids=["nothing", "letter", "part", "preface", "torn_settings", "settings",
                              "torn_headers", "no_end_headers"])
def test_slow_start(server, first):
    with Siege(server) as s:
        c = s.connect(preface=None, auto=False)
        if first:
            c.send(first)
        closes(c, 4)


@ours_only
@SHORT
def test_slow_bytes(server):
    """A byte now and then keeps nothing alive that is not finished."""
    with Siege(server) as s:
        c = s.connect(preface=None, auto=False)
        wire = h2.PREFACE + h2.settings() + h2.headers(1, request("/hello", more=[("a", "b" * 500)]))
        at, end = 0, time.monotonic() + 6
        while not c.end and time.monotonic() < end:
            try:
                c.send(wire[at:at + 1])
            except h2.Closed:
                break
            at += 1
            c.drain()
            time.sleep(0.02)
        assert c.end and at < len(wire)


@ours_only
@SHORT
def test_slow_body(server):
    """The body stops: the stream ends (408 or a reset) although the connection lives on pings."""
    with Siege(server) as s:
        c = s.connect()
        c.send(h2.headers(1, OPEN, end_stream=False), h2.data(1, b"x"))
        end = time.monotonic() + 5
        while time.monotonic() < end and not c.end and not (1 in c.answers and c.answers[1].over):
            c.send(h2.ping())
            c.until(lambda: 1 in c.answers and c.answers[1].over, 0.1)
        assert c.end or c.answers[1].over
        if 1 in c.answers and c.answers[1].status:
            assert c.answers[1].status == 408


@ours_only
@SHORT
def test_slow_reader(server):
    """Nobody takes the answer: stream or connection ends although PINGs come."""
    with Siege(server) as s:
        c = s.connect([(h2.INITIAL_WINDOW_SIZE, 0)], auto=False)
        c.send(h2.headers(1, request("/endless")))
        end = time.monotonic() + 6
        try:
            while time.monotonic() < end and not (1 in c.answers and c.answers[1].over):
                c.send(h2.ping())
                c.until(lambda: 1 in c.answers and c.answers[1].over, 0.1)
        except h2.Closed:
            pass
        assert c.end or c.answers[1].over


@ours_only
@SHORT
def test_ping_keeps_no_idle_connection(server):
    """PING is no request: the idle time goes on."""
    with Siege(server) as s:
        c = s.connect()
        end = time.monotonic() + 5
        try:
            while time.monotonic() < end and not c.goaways:
                c.send(h2.ping())
                c.until(lambda: c.goaways, 0.1)
        except h2.Closed:
            pass
        assert c.goaways or c.end


# ---- the wrong frame in the wrong place ----

HEAD = h2.headers(1, OPEN, end_stream=False)
PART = h2.headers(1, OPEN, end_stream=False, end_headers=False)
WRONG = {  # frames, what the whole connection gets
    "data_idle": (h2.data(5, b"x"), [h2.PROTOCOL_ERROR]),
    "data_zero": (h2.data(0, b"x"), [h2.PROTOCOL_ERROR]),
    "headers_zero": (h2.headers(0, GET), [h2.PROTOCOL_ERROR]),
    "headers_even": (h2.headers(2, GET), [h2.PROTOCOL_ERROR]),
    "rst_idle": (h2.rst(5), [h2.PROTOCOL_ERROR]),
    "rst_zero": (h2.rst(0), [h2.PROTOCOL_ERROR]),
    "rst_size": (HEAD + h2.frame(h2.RST_STREAM, 0, 1, b"\0\0\0"), [h2.FRAME_SIZE_ERROR]),
    "window_idle": (h2.window(5, 1), [h2.PROTOCOL_ERROR]),
    "window_zero": (h2.window(0, 0), [h2.PROTOCOL_ERROR]),
    "window_size": (h2.frame(h2.WINDOW_UPDATE, 0, 0, b"\0\0\1"), [h2.FRAME_SIZE_ERROR]),
    "ping_stream": (h2.frame(h2.PING, 0, 1, b"12345678"), [h2.PROTOCOL_ERROR]),
    "ping_size": (h2.frame(h2.PING, 0, 0, b"1234567"), [h2.FRAME_SIZE_ERROR]),
    "settings_stream": (h2.frame(h2.SETTINGS, 0, 1), [h2.PROTOCOL_ERROR]),
    "settings_size": (h2.frame(h2.SETTINGS, 0, 0, b"12345"), [h2.FRAME_SIZE_ERROR]),
    "settings_ack_size": (h2.frame(h2.SETTINGS, 1, 0, b"123456"), [h2.FRAME_SIZE_ERROR]),
    "settings_push": (h2.settings((h2.ENABLE_PUSH, 2)), [h2.PROTOCOL_ERROR]),
    "settings_frame_small": (h2.settings((h2.MAX_FRAME_SIZE, 1)), [h2.PROTOCOL_ERROR]),
    "settings_frame_large": (h2.settings((h2.MAX_FRAME_SIZE, 1 << 24)), [h2.PROTOCOL_ERROR]),
    "settings_too_many": (h2.settings(*[(h2.INITIAL_WINDOW_SIZE, 65535)] * 2000),
                          [CALM, h2.PROTOCOL_ERROR]),
    "goaway_stream": (h2.frame(h2.GOAWAY, 0, 1, b"\0" * 8), [h2.PROTOCOL_ERROR]),
    "goaway_size": (h2.frame(h2.GOAWAY, 0, 0, b"\0" * 7), [h2.FRAME_SIZE_ERROR]),
    "priority_zero": (h2.priority(0), [h2.PROTOCOL_ERROR]),
    "push_promise": (HEAD + h2.frame(h2.PUSH_PROMISE, 4, 1, struct.pack(">I", 2) + GET),
                     [h2.PROTOCOL_ERROR]),
    "frame_large": (HEAD + h2.data(1, b"x" * 16385), [h2.FRAME_SIZE_ERROR]),
    "frame_huge": (HEAD + h2.frame(h2.DATA, 0, 1, b"x" * 100, length=(1 << 24) - 1),
                   [h2.FRAME_SIZE_ERROR]),
    "headers_huge": (h2.frame(h2.HEADERS, 4, 1, GET, length=1 << 20), [h2.FRAME_SIZE_ERROR]),
    "unknown_huge": (h2.frame(0xfa, 0, 0, b"x", length=1 << 20), [h2.FRAME_SIZE_ERROR]),
    "padding_data": (HEAD + h2.frame(h2.DATA, h2.PADDED, 1, b"\x05abc"), [h2.PROTOCOL_ERROR]),
    "padding_empty": (HEAD + h2.frame(h2.DATA, h2.PADDED, 1),
                      [h2.PROTOCOL_ERROR, h2.FRAME_SIZE_ERROR]),
    "padding_headers": (h2.frame(h2.HEADERS, h2.PADDED | 5, 1, b"\xff" + GET), [h2.PROTOCOL_ERROR]),
    "interleaved_ping": (PART + h2.ping(), [h2.PROTOCOL_ERROR]),
    "interleaved_data": (PART + h2.data(1, b"x"), [h2.PROTOCOL_ERROR]),
    "interleaved_headers": (PART + h2.headers(3, GET), [h2.PROTOCOL_ERROR]),
    "interleaved_unknown": (PART + h2.frame(0xfa, 0, 1), [h2.PROTOCOL_ERROR]),
    "interleaved_stream": (PART + h2.continuation(3, b"", True), [h2.PROTOCOL_ERROR]),
    "continuation_alone": (h2.continuation(1, GET, True), [h2.PROTOCOL_ERROR]),
    "headers_first": (None, [h2.PROTOCOL_ERROR]),  # instead of SETTINGS
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_frame(server, kind):
    frames, codes = WRONG[kind]
    with Siege(server) as s:
        if frames is None:
            c = s.connect(preface=None)
            c.send(h2.PREFACE, h2.headers(1, GET))
        else:
            c = s.connect()
            c.send(frames)
        verdict = c.verdict(5)
        assert verdict in codes, (verdict, c.end, c.seen)


def test_self_dependency(server):
    """Priorities are gone from the protocol: ignored, or an error of the stream."""
    with Siege(server) as s:
        c = s.connect()
        c.send(h2.headers(1, struct.pack(">IB", 1, 5) + GET, flags=h2.PRIORITY_FLAG))
        a = c.answer(1, 5)
        assert a.status == 200 or a.reset == h2.PROTOCOL_ERROR or \
            c.verdict(1) == h2.PROTOCOL_ERROR


def test_stream_closed(server):
    """Frames on a stream that is over: an error of the stream or of the connection."""
    with Siege(server) as s:
        c = s.connect()
        assert c.ask("/hello").status == 200
        for wire in (h2.data(1, b"x"), h2.headers(1, GET)):
            d = s.connect()
            assert d.ask("/hello").status == 200
            d.send(wire)
            d.send(h2.ping())
            d.until(lambda: d.pongs or d.goaways or d.end, 5)
            assert d.answers[1].reset == h2.STREAM_CLOSED or d.pongs or \
                d.verdict(1) in (h2.STREAM_CLOSED, h2.PROTOCOL_ERROR)
            if d.pongs and not d.goaways:
                assert d.ask("/hello").status == 200
                assert len(d.answers[1].heads) == 1  # not answered a second time


def test_lower_stream(server):
    """A stream below one that was opened is closed: nghttp2 cannot tell it from one that was reset,
    and drops what comes for it."""
    with Siege(server) as s:
        c = s.connect()
        c.send(h2.headers(5, OPEN, end_stream=False), h2.headers(3, GET))
        c.next_id = 7
        if c.ask("/hello", seconds=3).status == 200:
            assert 3 not in c.answers or c.answers[3].reset == h2.STREAM_CLOSED
        else:
            assert c.goaways[-1].code in (h2.PROTOCOL_ERROR, h2.STREAM_CLOSED)


def test_reset_twice_and_late_frames(server):
    """After RST_STREAM more frames of that stream may come: they are dropped."""
    with Siege(server) as s:
        c = s.connect()
        c.send(HEAD, h2.rst(1), h2.window(1, 100), h2.rst(1), h2.priority(1))
        c.next_id = 3
        assert c.ask("/hello").status == 200


def test_goaway_then_more(server):
    """A client that says GOAWAY and goes on: what is open ends, nothing breaks."""
    with Siege(server) as s:
        c = s.connect()
        c.send(HEAD, h2.goaway(0), h2.headers(3, GET), h2.data(1, b"x", True))
        c.until(lambda: c.end, 2)
        d = s.connect()
        d.offer(*[h2.goaway(0, CALM, b"x" * 1000)] * 3000)


def test_unknown_frames_are_ignored(server):
    with Siege(server) as s:
        c = s.connect()
        for kind in (0x0a, 0x0b, 0x10, 0x42, 0xff):
            c.send(h2.frame(kind, 0xff, 0, b"x" * 100), h2.frame(kind, 0xff, 77, b""))
        assert c.ask("/hello").status == 200


def test_unknown_frames_flood(server):
    """nghttp2 drops them before anybody hears of them: no more than bytes on the wire."""
    with Siege(server) as s:
        c = s.connect()
        assert c.offer(h2.frame(0xfa, 0, 1, b"x" * 20) * 100000)
        assert c.ask("/hello").status == 200


def test_reserved_bits_are_ignored(server):
    with Siege(server) as s:
        c = s.connect()
        c.send(h2.frame(h2.HEADERS, 5, 0x80000001, GET))
        assert c.answer(1).status == 200


# ---- requests that are none ----

def req(*pairs):
    return h2.block(pairs)


BASE = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/hello")]


def without(name):
    return [p for p in BASE if p[0] != name]


def instead(name, value):
    return [(n, value if n == name else v) for n, v in BASE]


MALFORMED = {
    "no_method": without(":method"),
    "no_path": without(":path"),
    "no_scheme": without(":scheme"),
    "empty_path": instead(":path", ""),
    "path_no_slash": instead(":path", "hello"),
    "path_absolute": instead(":path", "http://evil.test/hello"),
    "path_space": instead(":path", "/hello HTTP/1.1"),
    "path_crlf": instead(":path", "/hello\r\nX: y"),
    "path_nul": instead(":path", "/hel\0lo"),
    "path_fragment": instead(":path", "/hello#x"),
    "path_high": instead(":path", b"/h\xffllo"),
    "path_star": instead(":path", "*"),
    "method_space": instead(":method", "GET /"),
    "method_empty": instead(":method", ""),
    "method_crlf": instead(":method", "GET\r\n"),
    "scheme_odd": instead(":scheme", "ht tp"),
    "authority_crlf": instead(":authority", "localhost\r\nX: y"),
    "authority_user": instead(":authority", "user@localhost"),
    "authority_space": instead(":authority", "local host"),
    "double_method": BASE[:1] + BASE,
    "double_path": BASE + BASE[3:],
    "double_authority": BASE[:3] + BASE[2:],
    "unknown_pseudo": BASE + [(":sinew", "x")],
    "status_pseudo": BASE + [(":status", "200")],
    "protocol_pseudo": BASE + [(":protocol", "websocket")],
    "pseudo_late": [("a", "b")] + BASE,
    "upper_case": BASE + [("Upper", "x")],
    "name_empty": BASE + [("", "x")],
    "name_space": BASE + [("a b", "x")],
    "name_colon": BASE + [("a:b", "x")],
    "name_crlf": BASE + [("a\r\nb", "x")],
    "name_nul": BASE + [("a\0", "x")],
    "name_high": BASE + [(b"a\xff", "x")],
    "value_cr": BASE + [("a", "x\ry")],
    "value_lf": BASE + [("a", "x\ny")],
    "value_nul": BASE + [("a", "x\0y")],
    "value_smuggle": BASE + [("a", "x\r\n\r\nGET /evil HTTP/1.1\r\nHost: x\r\n\r\n")],
    "value_lead_space": BASE + [("a", " x")],
    "connection": BASE + [("connection", "close")],
    "keep_alive": BASE + [("keep-alive", "x")],
    "proxy_connection": BASE + [("proxy-connection", "x")],
    "transfer_encoding": BASE + [("transfer-encoding", "chunked")],
    "upgrade": BASE + [("upgrade", "h2c")],
    "te_other": BASE + [("te", "gzip")],
    "length_text": BASE + [("content-length", "x")],
    "length_sign": BASE + [("content-length", "+0")],
    "length_list": BASE + [("content-length", "0, 0")],
    "length_negative": BASE + [("content-length", "-1")],
    "length_two": BASE + [("content-length", "0"), ("content-length", "1")],
    "length_without_body": BASE + [("content-length", "5")],
    "length_overflow": BASE + [("content-length", "18446744073709551616")],
    "host_other": BASE + [("host", "evil.test")],
    "host_foreign": instead(":authority", "evil.test"),
    "no_authority": without(":authority"),
    "connect": [(":method", "CONNECT"), (":authority", "localhost:80")],
    "connect_path": instead(":method", "CONNECT"),
    "websocket": instead(":method", "CONNECT") + [(":protocol", "websocket")],
}
# What may be answered instead of RST_STREAM PROTOCOL_ERROR: never 200, but for those listed.
LENIENT = {"value_lead_space", "path_star", "host_other"}
FORGIVEN = {"value_lead_space"}


@ours_only
def test_malformed_requests(server):
    """All on one connection, and each may end its stream only."""
    found = {}
    with Siege(server) as s:
        c = s.connect()
        for kind, pairs in MALFORMED.items():
            if c.end or c.goaways:
                c = s.connect()
            stream = c.next_id
            c.next_id += 2
            c.send(h2.headers(stream, h2.block(pairs)))
            a = c.answer(stream, 3)
            found[kind] = a.status if a.status else ("reset", a.reset) if a.over else \
                ("conn", c.goaways and c.goaways[-1].code, c.end)
        c = s.connect()
        assert c.ask("/hello").status == 200
    if os.environ.get("SINEW_H2_FIGURES"):
        print(found)
    for kind, got in found.items():
        ok = got in (("reset", h2.PROTOCOL_ERROR), 400, 404, 405, 421, 501) or \
            kind in FORGIVEN and got == 200
        assert ok, (kind, got)


LENGTHS = {  # content-length, pieces of the body
    "short": ("10", [b"12345"]),
    "long": ("3", [b"12345"]),
    "long_late": ("5", [b"12345", b"6"]),
    "none_but_some": ("0", [b"1"]),
}


@pytest.mark.parametrize("kind", LENGTHS)
def test_content_length_mismatch(server, kind):
    length, pieces = LENGTHS[kind]
    with Siege(server) as s:
        c = s.connect()
        c.send(h2.headers(1, OPEN + h2.literal("content-length", length), end_stream=False),
               *(h2.data(1, p, p is pieces[-1]) for p in pieces))
        a = c.answer(1, 5)
        assert a.reset == h2.PROTOCOL_ERROR and a.status in (None, 400)
        c.next_id = 3
        assert c.ask("/hello").status == 200


TRAILERS = {
    "pseudo": h2.literal(":path", "/evil"),
    "length": h2.literal("content-length", "1"),
    "connection": h2.literal("connection", "close"),
    "upper": h2.literal("X", "y"),
    "crlf": h2.literal("x", "y\r\nz"),
    "no_end": None,
}


@pytest.mark.parametrize("kind", TRAILERS)
def test_bad_trailers(server, kind):
    with Siege(server) as s:
        c = s.connect()
        block = TRAILERS[kind]
        c.send(HEAD, h2.data(1, b"x"),
               h2.headers(1, block or h2.literal("x", "y"), end_stream=block is not None))
        a = c.answer(1, 5)
        if kind != "length":
            assert a.reset == h2.PROTOCOL_ERROR or c.goaways[-1].code == h2.PROTOCOL_ERROR
        c.next_id = 3
        assert c.goaways or c.ask("/hello").status == 200


def test_te_trailers_and_good_trailers(server):
    with Siege(server) as s:
        c = s.connect()
        c.send(h2.headers(1, OPEN + h2.literal("te", "trailers"), end_stream=False),
               h2.data(1, b"body"), h2.headers(1, h2.literal("x-end", "y")))
        a = c.answer(1, 5)
        assert a.status == 200 and (NGHTTPD or bytes(a.body) == b"body")


# ---- the beginning ----

PREFACES = [b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX",
            b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n", b"PRI * HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"\0" * 100, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500]


@pytest.mark.parametrize("first", PREFACES, ids=["xx", "last_byte", "version", "h1_pri", "zeros",
                                                 "tls"])
def test_bad_preface(server, first):
    with Siege(server) as s:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as k:
            k.sendall(first + h2.settings() + h2.headers(1, GET))
            got = b""
            try:
                while True:
                    piece = k.recv(65536)
                    if not piece:
                        break
                    got += piece
            except ConnectionResetError:
                pass
            assert b"hello\n" not in got


@ours_only
def test_http1_beside_http2(server):
    """One port: HTTP/1.1 is served; preface and request come in any pieces."""
    with Siege(server) as s:
        for cut in range(1, len(h2.PREFACE), 5):
            c = s.connect(preface=None)
            c.send(h2.PREFACE[:cut])
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as k:
                k.sendall(b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                got = b""
                while not got.endswith(b"hello\n"):
                    piece = k.recv(65536)
                    assert piece, got
                    got += piece
            c.send(h2.PREFACE[cut:], h2.settings())
            assert c.ask("/hello").status == 200


@ours_only
def test_upgrade_is_not_h2c(server):
    """Upgrade: h2c is not offered: the request is answered as HTTP/1.1."""
    with Siege(server) as s:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as k:
            k.sendall(b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, "
                      b"HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
            assert k.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_byte_by_byte(server):
    """A proper conversation in the smallest pieces there are."""
    wire = h2.PREFACE + h2.settings((h2.INITIAL_WINDOW_SIZE, 100000)) + h2.ping() + \
        h2.headers(1, OPEN[:10], end_stream=False, end_headers=False) + \
        h2.continuation(1, OPEN[10:40]) + h2.continuation(1, OPEN[40:], True) + \
        h2.data(1, b"body") + h2.data(1, b"", True)
    with Siege(server) as s:
        c = s.connect(preface=None)
        for i in range(len(wire)):
            c.send(wire[i:i + 1])
        a = c.answer(1)
        assert a.status == 200 and (NGHTTPD or bytes(a.body) == b"body")


@ours_only
class TestTls:
    @pytest.fixture
    def server(self, tmp_path):
        s = OurServer(*certs.alone(tmp_path), HTTP_PEER_HEAD_MS="500", HTTP_PEER_IDLE_MS="700")
        yield s
        s.end()

    def connect(self, server, alpn):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if alpn:
            context.set_alpn_protocols(alpn)
        k = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        return context.wrap_socket(k)

    def test_h2(self, server):
        k = self.connect(server, ["h2", "http/1.1"])
        assert k.selected_alpn_protocol() == "h2"
        with h2.Conn(k) as c:
            c.send(h2.PREFACE, h2.settings())
            assert c.ask("/hello", scheme="https").status == 200
            assert c.ask("/hello", scheme="https").status == 200

    @pytest.mark.parametrize("first", [b"", b"\x16", b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03",
                                       b"\x16\x03\x01\xff\xff" + b"x" * 70000, b"GET / HTTP/1.1\r\n"])
    def test_handshake_that_stops(self, server, first):
        with socket.create_connection(("127.0.0.1", server.port), timeout=4) as k:
            try:
                k.sendall(first)
                while k.recv(65536):
                    pass
            except ConnectionError:
                pass

    def test_agreed_and_silent(self, server):
        with self.connect(server, ["h2"]) as k:
            while k.recv(65536):
                pass

    def test_h1_after_h2_was_agreed(self, server):
        with self.connect(server, ["h2"]) as k:
            k.sendall(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
            got = b""
            while piece := k.recv(65536):
                got += piece
            assert b"hello\n" not in got

    def test_preface_without_alpn(self, server):
        """Prior knowledge is for plain connections: over TLS the preface is no request."""
        for alpn in (None, ["http/1.1"]):
            with self.connect(server, alpn) as k:
                k.sendall(h2.PREFACE + h2.settings() + h2.headers(1, GET))
                got = b""
                while piece := k.recv(65536):
                    got += piece
                assert b"hello\n" not in got


# ---- many ----

def test_many_connections(server):
    """Connections that say hello and nothing more: their memory is known."""
    n = min(9000 if LONG else 2000, FILES - 200)
    with Siege(server, grows=n * 40 * 1024) as s:
        before = s.rss
        conns = [s.connect(auto=False) for _ in range(n)]
        assert conns[-1].until(lambda: conns[-1].acks)
        each = (s.rss - before) // n
        if os.environ.get("SINEW_H2_FIGURES"):
            print("\n  %d bytes for each idle connection" % each, end=" ")
        if not server.usage.sanitized:
            assert each < 40 * 1024


@ours_only
def test_all_at_once(server):
    """Every flood there is from many sides, over and over anew."""
    kinds = [(k, f, [h2.headers(1, OPEN, end_stream=False)]) for k, f in CHEAP.items()] + \
        [(k, f, []) for k, f in RESETS.items()]
    wires = [b"".join([*first, *(f(i) for i in range(1 if first else 0, 3000))])
             for _, f, first in kinds]
    until = time.monotonic() + (30 if LONG else 2)
    rounds = []

    def attack(n):
        while time.monotonic() < until:
            try:
                with h2.connect(server.port, auto=n % 2 == 0, keep=False) as c:
                    c.offer(wires[n % len(wires)], seconds=0.5)
                    rounds.append(n)
            except (h2.Closed, OSError):
                pass

    with Siege(server, grows=32 * MIB):
        threads = [threading.Thread(target=attack, args=(n,)) for n in range(len(wires))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert len(set(rounds)) == len(wires)
