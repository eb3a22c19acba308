# SPDX-License-Identifier: Apache-2.0
"""`sinew grpc` against servers whose reflection service lies: it ends in time, says what is wrong, and
writes nothing to the terminal that is not text."""
import base64
import os
import subprocess
import time

import pytest

import h2raw as h2
from siege import BUILD, Peer
from test_attack_grpc import DONE, field, message, only, reply, varint

BINARY = os.path.abspath(os.environ.get("SINEW_BINARY", os.path.join(BUILD, "sinew")))


def string(number, text):
    return field(number, text.encode() if isinstance(text, str) else text)


def method(name, takes=".p.M", gives=".p.M"):
    return string(1, name) + string(2, takes) + string(3, gives)


def service(name, *methods):
    return string(1, name) + b"".join(string(2, m) for m in methods)


def member(name, number, kind, type_name=None, label=1):
    out = string(1, name) + field(3, number) + field(4, label) + field(5, kind)
    return out + (string(6, type_name) if type_name else b"")


def file(name, *more, package="p", syntax="proto3"):
    return string(1, name) + string(2, package) + b"".join(more) + string(12, syntax)


SERVICE = string(6, service("S", method("Do")))
MESSAGE = string(4, string(1, "M") + string(2, member("m", 1, 11, ".p.M")))
GOOD = file("a.proto", MESSAGE, SERVICE)


def nested(n):
    """A type n levels deep."""
    out = string(1, "X")
    for _ in range(n):
        out = string(1, "X") + string(3, out)
    return out


def imports(n):
    return b"".join(string(3, "%d.proto" % i) for i in range(n))


def many(n, number, make):
    return b"".join(string(number, make(i)) for i in range(n))


FILES = {  # the descriptors the server gives for anything it is asked
    "good": [GOOD],
    "garbage": [b"\xff" * 1000],
    "empty": [b""],
    "nothing": [],
    "no_name": [MESSAGE + SERVICE],
    "other_file": [file("b.proto")],
    "itself": [file("a.proto", string(3, "a.proto"), MESSAGE, SERVICE)],
    "each_other": [file("a.proto", string(3, "b.proto"), SERVICE),
                   file("b.proto", string(3, "a.proto"), MESSAGE)],
    "twice": [GOOD, GOOD],
    "two_definitions": [GOOD, file("b.proto", MESSAGE)],
    "missing_type": [file("a.proto", SERVICE)],
    "type_is_service": [file("a.proto", string(6, service("S", method("Do", ".p.S", ".p.S"))))],
    "type_is_nothing": [file("a.proto", string(6, service("S", method("Do", "", ""))))],
    "deep": [file("a.proto", string(4, nested(5000)), MESSAGE, SERVICE)],
    "long_names": [file("a.proto", string(4, string(1, "x" * 100000)), MESSAGE, SERVICE)],
    "escapes": [file("a.proto", MESSAGE, string(6, service("S", method("\x1b[2JDo"))))],
    "newlines": [file("a.proto", string(4, string(1, "M\nmessage Y {")), SERVICE)],
    "no_utf8": [file("a.proto", string(4, string(1, b"\xff\xfe")), SERVICE)],
    "field_numbers": [file("a.proto", SERVICE, string(4, string(1, "M") + string(
        2, member("a", 1, 5)) + string(2, member("b", 1, 9)) + string(2, member("c", 0, 5))))],
    "field_kind": [file("a.proto", SERVICE, string(4, string(1, "M") + string(2, member("a", 1, 99))))],
    "oneof": [file("a.proto", SERVICE, string(4, string(1, "M") + string(
        2, member("a", 1, 5) + field(9, 1000))))],
    "map_entry": [file("a.proto", SERVICE, string(4, string(1, "M") + string(
        2, member("a", 1, 11, ".p.M.E", 3)) + string(3, string(1, "E") + string(7, field(7, 1)))))],
    "many_imports": [file("a.proto", imports(200000), MESSAGE, SERVICE)],
    "many_fields": [file("a.proto", SERVICE, string(4, string(1, "M") + many(
        60000, 2, lambda i: member("f%d" % i, i + 1, 5))))],
    "many_methods": [file("a.proto", MESSAGE, string(6, service(
        "S", method("Do"), *(method("m%d" % i) for i in range(50000)))))],
    "many_values": [file("a.proto", MESSAGE, SERVICE, string(5, string(1, "E") + many(
        100000, 2, lambda i: string(1, "v%d" % i) + field(2, i))))],
}


def answer_files(files):
    return message(string(4, b"".join(string(1, f) for f in files)))


class Reflection:
    """Answers each question on the stream with what @say(question) makes."""

    def __init__(self, say, do=None):
        self.say, self.do, self.asked = say, do, 0
        self.peer = Peer(self.answer)

    def answer(self, c, f):
        path = dict(c.answers[f.stream].heads[0])[":path"]
        if "Reflection" not in path:
            frames = self.do or [reply(), lambda s: h2.data(s, message()), DONE]
            c.send(*(x(f.stream) for x in frames))
            return
        c.send(reply()(f.stream))
        a, at = c.answers[f.stream], 0
        while not a.over or len(a.body) > at:
            n = int.from_bytes(a.body[at + 1:at + 5], "big") if len(a.body) >= at + 5 else None
            if n is not None and len(a.body) >= at + 5 + n:
                self.asked += 1
                said = self.say(bytes(a.body[at + 5:at + 5 + n]))
                at += 5 + n
                if said is None:
                    continue
                c.send_body(f.stream, said, False)
            elif len(c.requests) > 0:
                self.answer(c, c.requests.pop(0))
            else:
                c.read(20)
        c.send(DONE(f.stream))


def run(peer, *args, timeout="4s"):
    begun = time.monotonic()
    r = subprocess.run([BINARY, "grpc", "127.0.0.1:%d" % peer.port, *args, "--timeout=" + timeout],
                       stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    assert time.monotonic() - begun < 8
    assert r.returncode in range(0, 6), r
    text = r.stdout + r.stderr
    assert not any(b < 32 and b not in (9, 10) or b == 127 for b in text), text[:300]
    text.decode()
    return r


def served(files):
    def say(question):
        if question[:1] == b"\x3a":  # list_services
            return message(string(6, string(1, string(1, "p.S"))))
        return answer_files(files)
    return Reflection(say)


@pytest.mark.parametrize("kind", FILES)
def test_descriptors(kind):
    r = served(FILES[kind])
    try:
        for args in (["list"], ["list", "p.S"], ["describe", "p.S"], ["describe", "p.M"],
                     ["call", "p.S/Do", "{}"], ["call", "p.S/Do", '{"m": {"m": {}}, "a": 1}']):
            got = run(r.peer, *args, timeout="1s" if kind == "many_imports" else "4s")
            if kind == "good":
                assert got.returncode == (2 if '"a"' in args[-1] else 0), (args, got)
            elif got.returncode != 0:
                assert len(got.stderr) > 10
    finally:
        r.peer.end()


def test_imports_without_end():
    """Every file wants another one."""
    def say(question):
        name = question[2:].decode("latin-1")
        n = int(name[:-6]) if name.endswith(".proto") and name[:-6].isdigit() else 0
        body = SERVICE + MESSAGE if n == 0 else b""
        return answer_files([file("%d.proto" % n, string(3, "%d.proto" % (n + 1)), body)])
    r = Reflection(say)
    try:
        got = run(r.peer, "describe", "p.S", timeout="2s")
        assert got.returncode != 0 and got.stderr
    finally:
        r.peer.end()


NAMES = ["\x1b[2J\x1b]0;title\x07", "a\r\nb", "x" * 100000, b"\xff\xfe", "", "ä.Ö"]


def test_names_of_services():
    r = Reflection(lambda q: message(string(6, b"".join(string(1, string(1, n)) for n in NAMES))))
    try:
        run(r.peer, "list")
        run(r.peer, "describe", "x")
    finally:
        r.peer.end()


ANSWERS = {
    "error": message(string(7, field(1, 13) + string(2, "\x1b[31m\r\nno"))),
    "error_code": message(string(7, field(1, (1 << 64) - 1))),
    "other_kind": message(string(5, string(1, "x"))),
    "nothing": message(b""),
    "cut": message(b"\x22\x7f"),
    "many_services": message(many(100000, 6, lambda i: string(1, string(1, "s%d" % i)))),
    "many_names": message(string(6, many(100000, 1, lambda i: string(1, "s%d" % i)))),
    "two": message(b"") * 2,
    "too_large": message(b"x", length=100 << 20),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_answers(kind):
    r = Reflection(lambda q: ANSWERS[kind])
    try:
        for args in (["list"], ["describe", "p.S"], ["call", "p.S/Do", "{}"]):
            run(r.peer, *args)
    finally:
        r.peer.end()


def test_never_answers():
    r = Reflection(lambda q: None)
    try:
        assert run(r.peer, "list", timeout="500ms").returncode == 4
    finally:
        r.peer.end()


def test_the_answer_of_the_call():
    """Status, details and metadata of anybody's making."""
    details = field(1, 3) + string(2, "\x1b[1m") + string(3, string(
        1, "type.googleapis.com/google.rpc.BadRequest\x1b") + string(2, b"\xff" * 20)) + string(
            3, string(1, "type.googleapis.com/google.rpc.ErrorInfo") + string(2, string(1, "\x1b[2J")))
    coded = base64.b64encode(details).decode()
    answers = [
        [only(("grpc-status", "3"), ("grpc-message", "%1b[2J%0d%0a%00 said"),
              ("grpc-status-details-bin", coded), ("x-thing", "\xe4\xf6"))],
        [reply(), lambda s: h2.data(s, message(string(900, b"\x1b") + varint(8) + b"\x01")), DONE],
        [reply(), lambda s: h2.data(s, message(b"\x0a\x02\x0a\x00") * 3000), DONE],
        [reply(), lambda s: h2.data(s, message(b"\x0a" + varint(100) + b"\x0a\x62" * 50)), DONE],
    ]
    for frames in answers:
        r = served(FILES["good"])
        r.do = frames
        try:
            for more in ([], ["-v"]):
                run(r.peer, "call", "p.S/Do", "{}", *more)
        finally:
            r.peer.end()
