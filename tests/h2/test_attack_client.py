# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 servers that misbehave against our client (`sinew run`, asked over its sidecar): each call ends
once, in time, with an error that says something; memory stays flat; other peers are reached as ever, and
so is this one when it behaves again."""
import json
import socket
import struct
import time

import pytest

import h2raw as h2
from siege import LONG, MIB, OK, Peer, Sidecar, Siege, hello, wait_until


class Stage:
    def __init__(self, root):
        self.root, self.good, self.evil, self.client = str(root), Peer(), None, None

    def begin(self, answer=hello, settings=(), begin=None, **policies):
        self.evil = Peer(answer, settings, begin)
        self.client = Sidecar(self.root, self.evil, self.good, **policies)
        return self.client

    def canary(self):
        status, body = self.client.call("good")
        return "" if (status, body) == (200, b"hello\n") else "%d %r" % (status, body)

    def siege(self, **kw):
        return Siege(self.client, ask=self.canary, **kw)

    def recovers(self):
        """The peer behaves: it is reached."""
        self.evil.answer, self.evil.settings, self.evil.begin = hello, (), None
        for _ in range(20):
            status, body = self.client.call()
            if status == 200:
                assert body == b"hello\n"
                return
            time.sleep(0.05)
        raise AssertionError((status, body))


# Where it matters what becomes of a call, and not how long that takes.
PATIENT = {"timeout": 20000, "deadline": 20000, "idle-timeout": 20000}


@pytest.fixture
def stage(tmp_path):
    s = Stage(tmp_path)
    yield s
    if s.client:
        s.client.end()
        s.evil.end()
    s.good.end()


def told(results):
    """Each call failed, and was told how."""
    for status, body in results:
        if status == 0:
            continue  # in the middle of an answer there is no other way
        assert status in (502, 503, 504), (status, body)
        problem = json.loads(body)
        assert problem["code"], problem
    return [s for s, _ in results]


def endless(frame, n=64 * MIB):
    """Answer with so many bytes of one frame."""
    def answer(c, f):
        one = frame(f.stream)
        piece = one * max(1, 65536 // len(one))
        c.offer(*([piece] * (n // len(piece))))
    return answer


def answer_with(*frames):
    """Frames are made by functions of the stream's number, or bytes."""
    def answer(c, f):
        c.send(*(x(f.stream) if callable(x) else x for x in frames))
    return answer


def head(*pairs, end=False, first=OK):
    return lambda s: h2.headers(s, first + h2.block(pairs), end_stream=end)


def split(stream, block, end_stream=False):
    pieces = [block[i:i + 16384] for i in range(0, len(block), 16384)]
    return b"".join([h2.headers(stream, pieces[0], end_stream, len(pieces) == 1)] + [
        h2.continuation(stream, p, i == len(pieces) - 2) for i, p in enumerate(pieces[1:])])


END = lambda s: h2.data(s, b"hello\n", True)  # noqa: E731

# ---- what never ends ----

FLOODS = {
    "ping": lambda s: h2.ping(),
    "settings": lambda s: h2.settings(),
    "settings_values": lambda s: h2.settings((h2.INITIAL_WINDOW_SIZE, 65535),
                                             (h2.MAX_CONCURRENT_STREAMS, 7)),
    "priority": lambda s: h2.priority(s),
    "window_conn": lambda s: h2.window(0, 1),
    "window_stream": lambda s: h2.window(s, 1),
    "empty_data": lambda s: h2.data(s),
    "rst_closed": lambda s: h2.rst(s),
    "unknown": lambda s: h2.frame(0xfa, 0, s, b"x"),
    "goaway": lambda s: h2.goaway(0x7fffffff, 0, b"x" * 1000),
    "informational": lambda s: h2.headers(s, h2.literal(":status", "103"), end_stream=False),
    "continue": lambda s: h2.headers(s, h2.literal(":status", "100"), end_stream=False),
    "origin_like": lambda s: h2.frame(0x0c, 0, 0, b"x" * 4000),
    "altsvc": lambda s: h2.frame(0x0a, 0, s, b"\0\0" + b"x" * 4000),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_flood(stage, kind):
    head_first = kind == "empty_data"

    def answer(c, f):
        if head_first:
            c.send(h2.headers(f.stream, OK, end_stream=False))
        endless(FLOODS[kind], (64 if LONG else 4) * MIB)(c, f)
    client = stage.begin(answer)
    with stage.siege():
        results = client.calls(4)
        if kind not in ("altsvc", "origin_like"):
            told(results)
        stage.recovers()


CONTINUATIONS = {"empty": b"", "small": h2.literal("a", "b"), "large": h2.literal("a", "b" * 16000)}


@pytest.mark.parametrize("kind", CONTINUATIONS)
def test_continuation_flood(stage, kind):
    def answer(c, f):
        c.send(h2.headers(f.stream, OK, end_stream=False, end_headers=False))
        endless(lambda s: h2.continuation(s, CONTINUATIONS[kind]))(c, f)
    client = stage.begin(answer, **PATIENT)
    with stage.siege():
        assert set(told(client.calls(4))) == {502}
        assert set(stage.evil.verdicts) <= {h2.ENHANCE_YOUR_CALM, h2.PROTOCOL_ERROR}
        stage.recovers()


BOMBS = {
    "indexed": OK + h2.literal("bomb", "x" * 4000, index=True) + h2.indexed(62) * 16000,
    "indexed_more": OK + h2.literal("bomb", "x" * 4000, index=True) + h2.indexed(62) * 110000,
    "many_small": OK + h2.literal("a", "b") * 3000,
    "one_huge": OK + h2.literal("huge", "x" * 100000),
    "cookies": OK + h2.literal("set-cookie", "a=" + "b" * 500) * 200,
}


@pytest.mark.parametrize("where", ["head", "trailers", "informational"])
@pytest.mark.parametrize("kind", BOMBS)
def test_header_bomb(stage, kind, where):
    def answer(c, f):
        bomb = BOMBS[kind]
        if where == "head":
            c.offer(split(f.stream, bomb), END(f.stream))
        elif where == "trailers":
            c.offer(h2.headers(f.stream, OK, end_stream=False), h2.data(f.stream, b"x"),
                    split(f.stream, bomb[1:], True))
        else:
            c.offer(split(f.stream, h2.literal(":status", "103") + bomb[1:]))
            hello(c, f)
    client = stage.begin(answer, **(PATIENT if where == "head" else {}))
    with stage.siege():
        for status, _ in client.calls(4):
            assert where != "head" or status == 502
        stage.recovers()


# ---- answers that are none ----

BAD = {
    "no_status": [lambda s: h2.headers(s, h2.literal("a", "b"), end_stream=False), END],
    "status_text": [head(first=h2.literal(":status", "abc")), END],
    "status_short": [head(first=h2.literal(":status", "20")), END],
    "status_long": [head(first=h2.literal(":status", "2000")), END],
    "status_zero": [head(first=h2.literal(":status", "000")), END],
    "status_below": [head(first=h2.literal(":status", "099")), END],
    "status_zero_late": [lambda s: h2.headers(s, h2.literal(":status", "103"), end_stream=False),
                         head(first=h2.literal(":status", "000")), END],
    "status_sign": [head(first=h2.literal(":status", "+20")), END],
    "status_101": [head(first=h2.literal(":status", "101")), END],
    "status_twice": [head(first=OK + OK), END],
    "status_late": [head(first=h2.literal("a", "b") + OK), END],
    "request_pseudo": [head((":path", "/")), END],
    "unknown_pseudo": [head((":x", "/")), END],
    "upper_case": [head(("Upper", "x")), END],
    "connection": [head(("connection", "close")), END],
    "transfer_encoding": [head(("transfer-encoding", "chunked")), END],
    "value_crlf": [head(("a", "b\r\nSet-Cookie: x=y")), END],
    "value_nul": [head(("a", "b\0c")), END],
    "name_space": [head(("a b", "c")), END],
    "name_empty": [head(("", "c")), END],
    "name_colon": [head(("a:b", "c")), END],
    "length_short": [head(("content-length", "100")), END],
    "length_long": [head(("content-length", "1")), END],
    "length_text": [head(("content-length", "6x")), END],
    "length_two": [head(("content-length", "6"), ("content-length", "7")), END],
    "length_huge": [head(("content-length", "99999999999999999999")), END],
    "data_first": [END],
    "rst_only": [lambda s: h2.rst(s, h2.INTERNAL_ERROR)],
    "rst_no_error": [lambda s: h2.rst(s, h2.NO_ERROR)],
    "rst_unknown": [lambda s: h2.rst(s, 0xdeadbeef)],
    "rst_refused": [lambda s: h2.rst(s, h2.REFUSED_STREAM)],
    "rst_h1": [lambda s: h2.rst(s, h2.HTTP_1_1_REQUIRED)],
    "rst_after_head": [head(), lambda s: h2.rst(s)],
    "rst_after_data": [head(), lambda s: h2.data(s, b"x"), lambda s: h2.rst(s, h2.NO_ERROR)],
    "informational_end": [lambda s: h2.headers(s, h2.literal(":status", "103"))],
    "trailers_only_status": [head(), lambda s: h2.headers(s, OK)],
    "trailers_pseudo": [head(), lambda s: h2.headers(s, h2.literal(":path", "/"))],
    "trailers_no_end": [head(), lambda s: h2.headers(s, h2.literal("a", "b"), end_stream=False)],
    "trailers_upper": [head(), lambda s: h2.headers(s, h2.literal("A", "b"))],
    "padding": [head(), lambda s: h2.frame(h2.DATA, h2.PADDED | 1, s, b"\x09hello")],
    "even_stream": [lambda s: h2.headers(2, OK)],
    "unopened_stream": [lambda s: h2.headers(s + 1000, OK)],
    "data_unopened": [lambda s: h2.data(s + 1000, b"x")],
    "push": [lambda s: h2.frame(h2.PUSH_PROMISE, 4, s, struct.pack(">I", 2) + h2.request())],
    "ping_size": [h2.frame(h2.PING, 0, 0, b"1")],
    "frame_large": [head(), lambda s: h2.data(s, b"x" * 16385)],
    "frame_huge": [h2.frame(h2.DATA, 0, 1, b"x", length=(1 << 24) - 1)],
    "hpack": [lambda s: h2.headers(s, b"\xff\xff\xff\xff\xff\xff\xff")],
    "hpack_absent": [lambda s: h2.headers(s, OK + h2.indexed(99))],
    "hpack_table": [lambda s: h2.headers(s, h2.table_size(1 << 24) + OK)],
    "continuation": [lambda s: h2.continuation(s, OK, True)],
    "interleaved": [lambda s: h2.headers(s, OK, False, False), h2.ping()],
    "window_zero": [h2.window(0, 0)],
    "window_zero_stream": [lambda s: h2.window(s, 0)],
    "window_overflow": [h2.window(0, 0x7fffffff)],
    "window_overflow_stream": [lambda s: h2.window(s, 0x7fffffff)],
    "settings_frame": [h2.settings((h2.MAX_FRAME_SIZE, 1))],
    "settings_window": [h2.settings((h2.INITIAL_WINDOW_SIZE, 1 << 31))],
    "settings_size": [h2.frame(h2.SETTINGS, 0, 0, b"12345")],
    "settings_push": [h2.settings((h2.ENABLE_PUSH, 1))],
    "goaway_calm": [h2.goaway(0, h2.ENHANCE_YOUR_CALM, b"too_many_pings")],
    "goaway_error": [lambda s: h2.goaway(s, h2.INTERNAL_ERROR)],
    "goaway_grows": [h2.goaway(1), h2.goaway(0x7fffffff), lambda s: h2.rst(s, h2.CANCEL)],
    "goaway_text": [lambda s: h2.goaway(0, 2, b"\x1b[31m\0\r\n\xff" * 1000)],
    "http1": [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"],
    "zeros": [b"\0" * 1000],
}

@pytest.mark.parametrize("kind", BAD)
def test_bad_answer(stage, kind):
    client = stage.begin(answer_with(*BAD[kind]))
    with stage.siege():
        statuses = told(client.calls(4))
        assert set(statuses) <= {0, 502, 503, 504}
        stage.recovers()


GOOD = {
    "informational": [lambda s: h2.headers(s, h2.literal(":status", "100"), end_stream=False),
                      lambda s: h2.headers(s, h2.literal(":status", "103"), end_stream=False),
                      head(), END],
    "trailers": [head(), lambda s: h2.data(s, b"hello\n"), lambda s: h2.headers(s, h2.literal("a", "b"))],
    "padding": [lambda s: h2.frame(h2.HEADERS, h2.PADDED | 4, s, b"\x03" + OK + b"\0\0\0"),
                lambda s: h2.frame(h2.DATA, h2.PADDED | 1, s, b"\xffhello\n" + b"\0" * 255)],
    "rst_after_end": [head(), END, lambda s: h2.rst(s, h2.NO_ERROR), lambda s: h2.window(s, 1)],
    "goaway_behind": [lambda s: h2.goaway(s), head(), END],
    "pieces": [lambda s: h2.headers(s, OK[:0], False, False), lambda s: h2.continuation(s, OK, True),
               *[lambda s, i=i: h2.data(s, b"hello\n"[i:i + 1]) for i in range(6)],
               lambda s: h2.data(s, b"", True)],
    "value_spaces": [head(("a", " b\t")), END],
    "unknown_frames": [h2.frame(0xfa, 255, 0, b"x"), head(), lambda s: h2.frame(0xfb, 255, s, b"x"), END],
}


@pytest.mark.parametrize("kind", GOOD)
def test_odd_but_good_answer(stage, kind):
    client = stage.begin(answer_with(*GOOD[kind]), **PATIENT)
    with stage.siege():
        for _ in range(3):
            assert client.call() == (200, b"hello\n")


def test_goaway_lies_about_what_was_answered(stage):
    """The last id is below streams that were answered or are: none is answered twice."""
    def answer(c, f):
        if f.stream < 5:
            hello(c, f)
        else:
            c.send(h2.goaway(1, h2.NO_ERROR), h2.headers(f.stream, OK, end_stream=False),
                   h2.data(f.stream, b"hello\n", True))
    client = stage.begin(answer, **PATIENT)
    with stage.siege():
        for _ in range(10):
            status, body = client.call()
            assert (status, body) == (200, b"hello\n") or status in (502, 503)
        stage.recovers()


def test_refused_for_ever(stage):
    """REFUSED_STREAM is placed anew once, not for ever."""
    seen = []

    def answer(c, f):
        seen.append(f.stream)
        c.send(h2.rst(f.stream, h2.REFUSED_STREAM))
    client = stage.begin(answer)
    with stage.siege():
        told(client.calls(4))
        assert len(seen) <= 16
        stage.recovers()


# ---- time ----

def nothing(c, f):
    pass


WAITS = {
    "never_answers": dict(answer=nothing),
    "never_greets": dict(begin=lambda c: time.sleep(1.5)),
    "no_streams": dict(answer=nothing, settings=[(h2.MAX_CONCURRENT_STREAMS, 0)]),
    "head_only": dict(answer=answer_with(head())),
    "part_of_head": dict(answer=answer_with(lambda s: h2.headers(s, OK[:0], False, False))),
    "torn_frame": dict(answer=answer_with(lambda s: h2.headers(s, OK)[:5])),
    "pings_only": dict(answer=lambda c, f: [
        (c.send(h2.ping()), c.until(lambda: False, 0.2)) for _ in range(6)]),
}


@pytest.mark.parametrize("kind", WAITS)
def test_time_holds(stage, kind):
    client = stage.begin(**WAITS[kind])
    with stage.siege():
        told(client.calls(4))
        stage.recovers()


def test_no_window_for_the_request(stage):
    """The peer never takes the body."""
    client = stage.begin(nothing, settings=[(h2.INITIAL_WINDOW_SIZE, 0)])
    with stage.siege():
        told(client.calls(4, method="POST", body=b"x" * 100000))
        stage.recovers()


def test_streams_come_late(stage):
    """MAX_CONCURRENT_STREAMS 0 at first: calls wait, and go when it grows."""
    client = stage.begin(hello, settings=[(h2.MAX_CONCURRENT_STREAMS, 1)])
    with stage.siege():
        assert client.calls(8) == [(200, b"hello\n")] * 8


# ---- windows ----

def test_beyond_the_windows(stage):
    """The caller reads nothing, so we take no more than the windows say; a peer that sends on is
    told off."""
    def answer(c, f):
        c.send(h2.headers(f.stream, OK, end_stream=False))
        c.offer(*([h2.data(f.stream, b"x" * 16384)] * 4000), seconds=3)
    client = stage.begin(answer)
    with stage.siege(grows=16 * MIB) as s:
        callers = []
        for _ in range(4):
            k = s.enter_context(socket.create_connection(("127.0.0.1", client.port), timeout=10))
            k.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            k.sendall(b"GET /call/service/evil/rest/hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
            callers.append(k)
        assert wait_until(lambda: h2.FLOW_CONTROL_ERROR in
                          stage.evil.verdicts + stage.evil.resets)
        for k in callers:
            k.close()
        stage.recovers()


def test_large_answer_flows(stage):
    """And to one that keeps the windows everything is taken."""
    n = 8 * MIB

    def answer(c, f):
        c.send(h2.headers(f.stream, OK, end_stream=False))
        c.send_body(f.stream, b"x" * n)
    client = stage.begin(answer)
    with stage.siege():
        status, body = client.call()
        assert (status, len(body)) == (200, n)


def test_reset_storm(stage):
    """Hundreds of calls, all reset; then all served."""
    client = stage.begin(answer_with(lambda s: h2.rst(s, h2.INTERNAL_ERROR)))
    with stage.siege():
        for _ in range(20 if LONG else 4):
            told(client.calls(40))
        stage.recovers()
        stage.evil.answer = hello
        assert client.calls(40) == [(200, b"hello\n")] * 40


# ---- through us: the sidecar speaks HTTP/2 to whoever asks, too ----

def ask_through(c, i, end_stream=True, method="GET"):
    stream = 2 * i + 1
    c.send(h2.headers(stream, h2.request("/call/service/evil/rest/hello", method),
                      end_stream=end_stream))
    return stream


def endless_answer(c, f):
    """As much as the windows allow, for ever: one stream of this connection at a time."""
    c.send(h2.headers(f.stream, OK, end_stream=False))
    stage_streams = c.__dict__.setdefault("streams", [])
    stage_streams.append(f.stream)
    progress = True
    while progress:
        progress = False
        for s in stage_streams:
            n = min(16384, c.room(s))
            if n > 0:
                c.sent[s] = c.sent.get(s, 0) + n
                c.sent[0] = c.sent.get(0, 0) + n
                c.send(h2.data(s, bytes(n)))
                progress = True
        c.drain()


def test_through_windows_shut_at_both_ends(stage):
    """100 answers without end, nobody takes them: what waits in the proxy is bounded by windows, and
    is gone with the client."""
    client = stage.begin(endless_answer, timeout=5000, deadline=5000, **{"idle-timeout": 5000})
    for _ in range(3):
        with stage.siege(grows=64 * MIB) as s:
            c = s.connect([(h2.INITIAL_WINDOW_SIZE, 0)], auto="ack")
            assert c.until(lambda: c.acks)
            for i in range(100):
                ask_through(c, i)
            assert c.until(lambda: sum(bool(a.heads) for a in c.answers.values()) > 90, 5)
    stage.recovers()
    assert client.usage.rss


def test_through_rapid_reset(stage):
    """Resets of the client's are resets of ours: the peer is not made to pay for ever."""
    seen = []

    def answer(c, f):
        seen.append(f.stream)
    client = stage.begin(answer)
    with stage.siege() as s:
        for _ in range(5):
            c = s.connect()
            for i in range(0, 2000, 50):
                wire = b"".join(h2.headers(2 * k + 1, h2.request("/call/service/evil/rest/x")) +
                                h2.rst(2 * k + 1) for k in range(i, i + 50))
                if not c.offer(wire):
                    break
            assert c.verdict(3) == h2.ENHANCE_YOUR_CALM
        stage.recovers()
    assert client.usage.fds < 60


def test_through_body_nobody_takes(stage):
    """The peer's window is shut: the proxy reads no more of the client's body than it keeps."""
    stage.begin(nothing, settings=[(h2.INITIAL_WINDOW_SIZE, 0)], timeout=5000, deadline=5000)
    with stage.siege(grows=48 * MIB) as s:
        c = s.connect()
        assert c.until(lambda: c.acks)
        for i in range(50):
            c.send_body(ask_through(c, i, False, "POST"), bytes(400000), seconds=0.02)
        assert all(n <= 256 << 10 for stream, n in c.sent.items() if stream), c.sent
        c.close()
        stage.recovers()
