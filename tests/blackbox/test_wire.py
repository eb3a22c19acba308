# SPDX-License-Identifier: Apache-2.0
"""What the description of the µHome mesh says of bytes, sentence by sentence, at a hub and at a node."""
import json
import socket
import struct
import time
import uuid

import pytest

import things
from things import BROKER_ID, Hub, Js, Line, MU, REGISTRY_ID, Sinew, ask, event, healthy, local, package, until

HEALTH = MU + ".core.healthcheck"
NO_HANDLER = {"message": "No Handler for Event registered"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with Hub(tmp_path_factory.mktemp("hub"), more="max-connections: 600") as h:
        yield h


@pytest.fixture(scope="module")
def node(hub, tmp_path_factory):
    """`sinew node` with programs as handlers."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "big").write_text("import sys; sys.stdout.write('{\"x\": \"' + 'y' * 65536 + '\"}')")
    at = local()
    on = {"echo": "cat", "text": "echo hällo", "nothing": "true", "fails": "sh -c 'echo why >&2; exit 3'", "big": "python3 big",
          "who": "sh -c 'echo \"$SINEW_EVENT_TYPE $SINEW_EVENT_SOURCE $SINEW_NODE_ID\"'"}
    with Sinew(folder, "node", "wire/node", "--listen", at, "--broker", hub.broker, "--registry", hub.registry,
               *["--on=%s=%s" % o for o in on.items()]) as s:
        s.address = at
        things.listening(at)
        for type_ in on:
            until(lambda: ask(at, type_)[1] != NO_HANDLER, "it has subscribed to " + type_)
        yield s


def of(hub, node, which):
    return {"broker": hub.broker, "registry": hub.registry, "node": node.address}[which]


WHO = {"broker": BROKER_ID, "registry": REGISTRY_ID, "node": "wire/node"}
each = pytest.mark.parametrize("which", list(WHO))


def check_form(p, who, status, data=None, error=None):
    """The bytes of a reply, whole: its members in order, compact, nothing escaped that need not be."""
    assert p is not None, "the connection ended"
    assert p[:2] == (status, 2)
    o = json.loads(p[2])
    u = uuid.UUID(o["id"])
    assert u.version == 4 and str(u) == o["id"]
    time.strptime(o["timestamp"][:19], "%Y-%m-%dT%H:%M:%S")
    assert len(o["timestamp"]) == 24 and o["timestamp"][19] == "." and o["timestamp"][23] == "Z"
    want = {"id": o["id"], "timestamp": o["timestamp"], "source": who, "type": MU + (".response" if error is None else ".error")}
    if data is not None:
        want["data"] = data
    if error is not None:
        want["error"] = error
    assert p[2] == json.dumps(want, ensure_ascii=False, separators=(",", ":")).encode()


BAD = [  # payload, status, version, the answer's status, its error
    (b'\x80{"type":"x"}', 1, 2, 2, "Payload is no valid UTF-8."),
    (b'"\xed\xa0\x80"', 1, 2, 2, "Payload is no valid UTF-8."),
    (b'\xc0\x80', 0, 1, 2, "Payload is no valid UTF-8."),
    (b'{"type": "\xff"}', 0, 7, 2, "Payload is no valid UTF-8."),
    (b'', 1, 2, 2, "Payload is no valid JSON string."),
    (b'', 0, 1, 2, "Payload is no valid JSON string."),
    (b'{room}', 1, 2, 2, "Payload is no valid JSON string."),
    (b'{"type":"x"}{}', 1, 2, 2, "Payload is no valid JSON string."),
    (b'{"type":"x",}', 1, 2, 2, "Payload is no valid JSON string."),
    (b'{"type":"x"', 1, 1, 2, "Payload is no valid JSON string."),
    (b'{"a":"\x01"}', 1, 2, 2, "Payload is no valid JSON string."),
    (b'[1]', 0, 2, 2, "Payload can only be of type object."),
    (b'null', 1, 2, 2, "Payload can only be of type object."),
    (b'"text"', 1, 3, 2, "Payload can only be of type object."),
    (b'21.5', 1, 0, 2, "Payload can only be of type object."),
    (b'[]', 1, 255, 2, "Payload can only be of type object."),
    (b'{"type":"x"}', 0, 2, 2, "Error in Message"),
    (b'{"type":"x"}', 2, 2, 2, "Error in Message"),
    (b'{}', 255, 2, 2, "Error in Message"),
    (b'[1]', 128, 1, 2, "Error in Message"),
]
NOBODY = [  # payload, version: nobody handles it
    (b'{}', 2), (b'{"type":"no.such"}', 2), (b'{"type":7}', 2), (b'{"type":null}', 2), (b'{"type":["x"]}', 2), (b'[1,2]', 1),
    (b'21.5', 1), (b'"text"', 1), (b'null', 1), (b'{"type":"no.such"}', 1), (b' {"type" : "no.such" }\n', 9),
    (b'{"type":"' + HEALTH.encode() + b'x"}', 2), (("{\"type\":\"%s\"}" % HEALTH.replace("\u00b5", "\u03bc")).encode(), 2),
    (b'{"type":"' + HEALTH.encode() + b'","type":"no.such"}', 2),  # the last of two counts
]
FINE = [b'{"type":"no.such","type":"' + HEALTH.encode() + b'"}', ('{"type":"\\u00b5Home.core.healthcheck"}').encode(),
        b'\r\n\t {"id":7,"data":[[]],"x":{},"type":"' + HEALTH.encode() + b'"} ', b'{"type":"\xc2\xb5Home.healthcheck"}']


@each
def test_every_check_of_a_request_in_its_order_on_one_connection(hub, node, which):
    """Each costs its own reply, and reading goes on behind it."""
    with Line(of(hub, node, which)) as c:
        for payload, status, version, answer, error in BAD:
            c.send(package(payload, status, version))
            check_form(c.package(), WHO[which], answer, error=error)
        for payload, version in NOBODY:
            c.send(package(payload, 1, version))
            check_form(c.package(), WHO[which], 1, data=NO_HANDLER)
        for payload in FINE:
            c.send(package(payload))
            check_form(c.package(), WHO[which], 1, data={"message": "Service is healthy"})


@each
def test_any_split_and_any_coalescing_is_the_same_to_the_receiver(hub, node, which):
    asked = [(package(p, s, v), a, None, e) for p, s, v, a, e in BAD] + [(package(p, 1, v), 1, NO_HANDLER, None) for p, v in NOBODY]
    whole = b"".join(a[0] for a in asked)
    with Line(of(hub, node, which)) as c:  # all at once, and at its end still answered
        c.send(whole).half()
        for _, status, data, error in asked:
            check_form(c.package(), WHO[which], status, data, error)
        assert c.is_ended()
    with Line(of(hub, node, which)) as c:  # byte by byte
        for i in range(len(whole)):
            c.send(whole[i:i + 1])
        for _, status, data, error in asked:
            check_form(c.package(), WHO[which], status, data, error)
    one = package(event(HEALTH))
    for cut in (1, 2, 3, 4, 5, 6, len(one) - 1):
        with Line(of(hub, node, which)) as c:
            c.send(one + one[:cut])
            check_form(c.package(), WHO[which], 1, data={"message": "Service is healthy"})
            c.send(one[cut:] + one + one)
            for _ in range(3):
                assert c.reply()[0] == 1


@each
def test_what_a_partial_package_at_the_end_costs(hub, node, which):
    one = package(event(HEALTH))
    for piece in (b"", one[:1], one[:2], one[:4], one[:5], one[:-1]):
        with Line(of(hub, node, which)) as c:
            c.send(piece).half()
            assert c.is_ended()
        with Line(of(hub, node, which)) as c:
            c.send(one + piece).half()
            assert c.reply()[0] == 1
            assert c.is_ended()


@each
def test_the_server_does_not_end_first(hub, node, which):
    with Line(of(hub, node, which)) as c:
        c.send(package(event(HEALTH)))
        c.reply()
        c.s.settimeout(0.05)
        with pytest.raises(TimeoutError):
            c.s.recv(1)


@each
def test_payloads_of_65535_bytes_and_all_first_bytes_of_json(hub, node, which):
    """Sizes that look like JSON: 0x7b.. is {, 0x5b.. is [, 0x20.. a blank; and the largest."""
    with_size = {}
    for size in (65535, 65534, 0x7b00, 0x7b22, 0x7bff, 0x5b5d, 0x2020, 0x0a0a, 0x0d0a, 0x0920, 256, 0x4745, 0x2200):
        p = event(HEALTH, "")
        p["data"] = "x" * (size - len(json.dumps(p, ensure_ascii=False).encode()))
        with_size[size] = package(p)
        assert len(with_size[size]) == size + 5
        with Line(of(hub, node, which)) as c:
            c.send(with_size[size])
            check_form(c.package(), WHO[which], 1, data={"message": "Service is healthy"})
    with Line(of(hub, node, which)) as c:  # all of them in a row; then versions above 255, where nobody looks any more
        c.send(b"".join(with_size.values()))
        for _ in with_size:
            assert c.reply()[0] == 1
        c.send(package(event(HEALTH), version=259)).send(package(b"[]", version=65535))
        assert c.reply()[1]["data"] == {"message": "Service is healthy"}
        assert c.reply()[1]["error"] == "Payload can only be of type object."


@each
def test_nesting(hub, node, which):
    for depth in (1, 62, 63):  # and the payload itself: 64 levels
        for text in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
            with Line(of(hub, node, which)) as c:
                c.send(package(b'{"type":"' + HEALTH.encode() + b'","data":' + text.encode() + b"}"))
                assert c.reply()[0] == 1
    with Line(of(hub, node, which)) as c:
        c.send(package(b'[' * 65535, version=1)).send(package(b'{"a":' * 13107)).send(package(event(HEALTH)))
        assert [c.reply()[0] for _ in range(3)] == [2, 2, 1]


# Two framings.

def rpc(address, text, n=1):
    """What is answered to these bytes: n values."""
    with Line(address) as c:
        c.send(text if isinstance(text, bytes) else json.dumps(text, ensure_ascii=False).encode())
        return values(c, n)


def values(c, n):
    got, out = "", []
    decoder = json.JSONDecoder()
    while len(out) < n:
        try:
            value, end = decoder.raw_decode(got)
            out.append(value)
            got = got[end:]
            assert not got[:1].isspace(), "white space behind a response"
        except json.JSONDecodeError:
            piece = c.s.recv(65536)
            assert piece, "the connection ended; so far %s and %r" % (out, got)
            got += piece.decode()
    assert not got
    return out


HEALTHY = {"jsonrpc": "2.0", "id": "h", "result": {"healthy": True}}


def health(id_="h", **more):
    return {"jsonrpc": "2.0", "id": id_, "method": MU + ".healthcheck", **more}


@each
def test_neither_framing_is_closed_without_a_word(hub, node, which):
    for text in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"abc", b"nul", b'"a"', b"\x00\x01\x02\x03", b"   x", b" \n\t\r1", b"}{}"):
        with Line(of(hub, node, which)) as c:
            c.send(text)
            assert c.is_ended(), text
    for text in (b"a", b"ab", b" ", b"{", b"[", b"\x00", b"\x00\x10", b"}{"):
        with Line(of(hub, node, which)) as c:
            c.send(text).half()
            assert c.is_ended(), text
    for text in (b"{}", b"[]"):
        with Line(of(hub, node, which)) as c:
            c.send(text).half()
            assert json.loads(c.rest()) == {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Invalid Request"}}


@each
def test_json_rpc(hub, node, which):
    at = of(hub, node, which)
    assert rpc(at, health()) == [HEALTHY]
    assert rpc(at, b"\n \t\r\n\n\n\n" + json.dumps(health()).encode()) == [HEALTHY]
    for id_ in ("", 0, -1, 41, 1.5, None, "\u00b5\"\\\n", 2 ** 53):
        assert rpc(at, health(id_)) == [dict(HEALTHY, id=id_)], id_
    for params in ({}, [], [1], {"a": {"b": []}}):
        assert rpc(at, health(params=params)) == [HEALTHY]
    with Line(at) as c:  # byte by byte, with what counting braces could get wrong
        text = json.dumps(health(params={"}]": "\\\"}{[", "x": "\\"}), ensure_ascii=False).encode()
        for i in range(len(text)):
            c.send(text[i:i + 1])
        assert values(c, 1) == [HEALTHY]
        c.send(text + b" \n" + text + text)
        assert values(c, 3) == [HEALTHY] * 3
        c.half()
        assert c.is_ended()
    no = {"jsonrpc": "2.0", "id": "h", "error": {"code": -32601, "message": "Method not found"}}
    bad = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Invalid Request"}}
    assert rpc(at, dict(health(), method="no.such")) == [no]
    assert rpc(at, {"jsonrpc": "2.0", "id": "h"}) == [dict(bad, id="h")]
    for q in (dict(health(), jsonrpc="1.0"), dict(health(), method=7)):
        assert rpc(at, q) == [dict(bad, id="h")], q
    assert [r["error"] for r in rpc(at, {"id": "h", "method": "x"})] == [bad["error"]]
    for id_ in ({}, [1], True):
        assert rpc(at, health(id_)) == [bad], id_
    assert rpc(at, b" []") == [bad]  # of three bytes: it is not waited for more
    assert rpc(at, [1]) == [[bad]]
    assert rpc(at, [1, health(), 2]) == [[bad, HEALTHY, bad]]
    got = rpc(at, [health("x"), {"jsonrpc": "2.0", "method": "house.note"}, dict(health("y"), method="no.such")])[0]
    assert sorted(got, key=lambda r: r["id"]) == [dict(HEALTHY, id="x"), dict(no, id="y")]
    with Line(at) as c:  # notifications are not answered, alone, unknown or in a batch
        n = {"jsonrpc": "2.0", "method": MU + ".healthcheck"}
        c.send(json.dumps(n).encode() + json.dumps(dict(n, method="no.such")).encode() + json.dumps([n, n]).encode())
        c.send(json.dumps(health()).encode())
        assert values(c, 1) == [HEALTHY]
    for text in (b'{"jsonrpc": "2.0", nope}', b'{"a": 1]', b'[1,]', b'{"a":"\x80"}'):
        with Line(at) as c:
            c.send(text)
            assert json.loads(c.rest()) == {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error"}}, text
    with Line(at) as c:  # what came before is answered, too
        c.send(json.dumps(health()).encode() + b'{"a"}' + json.dumps(health()).encode())
        try:
            assert [r.get("error", {}).get("code") for r in values(c, 2)] == [None, -32700]
            assert c.is_ended()
        except ConnectionResetError:
            pass


@each
def test_the_framing_is_decided_once(hub, node, which):
    with Line(of(hub, node, which)) as c:
        c.send(json.dumps(health()).encode())
        values(c, 1)
        c.send(package(event(HEALTH)))  # no JSON-RPC: begins with no bracket
        rest = c.rest()
        assert rest == b"" or json.loads(rest)["error"]["code"] == -32700
    with Line(of(hub, node, which)) as c:
        c.send(package(event(HEALTH)))
        c.reply()
        text = json.dumps(health(params={"pad": " " * 40000})).encode()
        size = struct.unpack(">H", text[:2])[0]
        c.send(text)  # a package of size 0x7b22, version 0x6a73, status 'o'
        assert size < len(text) - 5
        assert c.reply()[1]["error"] == "Payload is no valid JSON string."


def test_json_rpc_values_are_bounded(hub, node):
    for at in (hub.broker, hub.registry, node.address):
        text = json.dumps(health(params={"pad": ""})).encode()
        pad = b"x" * ((1 << 20) - len(text))
        assert rpc(at, text.replace(b'""', b'"' + pad + b'"')) == [HEALTHY]
        with Line(at) as c:
            try:
                c.send(b'{"jsonrpc":"2.0","id":1,"method":"x","params":["' + b"y" * (3 << 20))
            except OSError:
                continue  # it was answered and closed under way
            rest = c.rest()
            if rest:
                assert json.loads(rest)["error"]["code"] == -32600
        with Line(at) as c:
            c.send(b'{"a":"' + b"y" * ((1 << 20) - 5))
            assert json.loads(c.rest())["error"] == {"code": -32600, "message": "Invalid Request"}


def test_core_events_as_methods(hub):
    """The same rules by JSON-RPC: data and source are the params, a handler's error is code -32000 minus status."""
    with Js("node", id="rpc", broker=hub.broker, registry=hub.registry) as n:
        def call(at, name, **params):
            r = rpc(at, {"jsonrpc": "2.0", "id": 5, "method": MU + ".core." + name, "params": params})[0]
            assert (r.pop("jsonrpc"), r.pop("id")) == ("2.0", 5)
            return r

        def no(message, reason):
            return {"error": {"code": -32002, "message": message, "data": {"reason": reason}}}
        fail = "Failed to subscribe for microservice to event"
        assert call(hub.broker, "subscribe") == no(fail, "Request did not contain a NodeId (source)")
        assert call(hub.broker, "subscribe", source="rpc") == no(fail, "Request did not contain a event to subscribe to")
        assert call(hub.broker, "subscribe", source="rpc2", subscribe="e") == no(fail, "Node is not registered")
        assert call(hub.broker, "subscribe", source="rpc", subscribe="e") == {"result": {"message": "Successful subscribed to event"}}
        n.do("handle", type="e")
        assert call(hub.broker, "publish", source="rpc", event="e", data=[1]) == {
            "result": {"message": "Successfully published event", "subscribers": 1}}
        assert n.got("e")["data"] == [1]
        assert call(hub.registry, "register", source="rpc", address=n.address) == no("Failed to register microservice", "Node already exists")
        assert call(hub.registry, "unregister", source="nobody") == no("Failed to unregister microservice", "Node is not registered")
        assert call(hub.registry, "unregister", source="rpc") == {"result": {"message": "Successfully unregistered microservice 'rpc'"}}


# Handlers of a node.

def test_handlers_answers(hub, node):
    with Line(node.address) as c:
        c.send(package(event("echo", {"a": [1, "ü"]})))
        check = c.package()
        assert check[0] == 1 and json.loads(check[2])["data"] == {"a": [1, "ü"]}
        c.send(package(event("text")))
        check_form(c.package(), "wire/node", 1, data={"message": "hällo"})
        c.send(package(event("nothing")))
        check_form(c.package(), "wire/node", 1, data={})
        c.send(package(event("who", source="Zoë")))
        check_form(c.package(), "wire/node", 1, data={"message": "who Zoë wire/node"})
        c.send(package(event("fails")))
        status, p = c.reply()
        assert status == 0 and p["type"] == MU + ".error" and isinstance(p["error"]["message"], str)
        c.send(package(event("big")))
        check_form(c.package(), "wire/node", 0, error={"message": "Response payload is too large", "limit": 65535})
        c.send(package(event("text")))
        assert c.reply()[0] == 1


# Registration.

class Fake(things.Listener):
    """A server that answers each connection with the bytes it was given, after it has read a package."""

    def __init__(self, answer):
        self.answer, self.took, self.ended = answer, [], []
        super().__init__()

    def serve(self, c):
        with c:
            c.settimeout(things.PATIENCE)
            try:
                chunk = c.recv(70000)
                self.took.append(chunk)
                if self.answer == ():
                    return
                if self.answer is None:
                    self.ended.append(c.recv(1))
                    return
                pieces = self.answer if isinstance(self.answer, list) else [self.answer]
                for p in pieces:
                    c.sendall(p)
                    if len(pieces) > 1:
                        time.sleep(0.02)
                self.ended.append(c.recv(1))  # the asker ends it
            except OSError as e:
                self.ended.append(e)


def register(hub, id_, address, **more):
    return ask(hub.registry, MU + ".core.register", {"nodeId": "not read", "address": address}, id_, **more)


GOOD = package(event(MU + ".response", NO_HANDLER))
UNHEALTHY = (2, {"message": "Failed to register microservice", "reason": "Unhealthy service"})


@pytest.mark.parametrize("name, answer, ok", [
    ("no handler", GOOD, True),
    ("pieces", [GOOD[i:i + 1] for i in range(6)] + [GOOD[6:]], True),
    ("version 1", package(b"[1]", version=1), True),
    ("version 7", package(event(MU + ".response"), version=7), True),
    ("status 2", package(event(MU + ".error", error="x"), status=2), False),
    ("status 0", package(event(MU + ".error", error={"message": "x"}), status=0), False),
    ("no json", package(b"nonsense"), False),
    ("closes", (), False),
])
def test_health_check_of_a_registration(hub, name, answer, ok):
    with Fake(answer) as f:
        id_ = "health/" + name
        got = register(hub, id_, f.address)
        if ok:
            assert got == (1, {"message": "Successfully registered microservice '%s'" % id_, "address": f.address})
            # a duplicate is asked for its health first, too; a success of it changes nothing
            assert register(hub, id_, f.address) == (2, {"message": "Failed to register microservice", "reason": "Node already exists"})
            assert len(f.took) == 2
            assert ask(hub.registry, MU + ".core.unregister", source=id_)[0] == 1
        else:
            assert got == UNHEALTHY
        if answer != ():  # in order: nodes of the original die of a reset
            until(lambda: len(f.ended) == len(f.took), "each connection is ended")
            assert set(f.ended) == {b""}
        chunk = f.took[0]  # header and payload in one piece
        size, version, status = struct.unpack(">HHB", chunk[:5])
        assert (size, version, status) == (len(chunk) - 5, 2, 1)
        o = json.loads(chunk[5:])
        assert list(o) == ["id", "timestamp", "source", "type"] and o["source"] == REGISTRY_ID and o["type"] == HEALTH
        assert chunk[5:] == json.dumps(o, ensure_ascii=False, separators=(",", ":")).encode()


def test_what_is_no_registration(hub):
    message = "Failed to register microservice"
    none, no_address = "Request did not contain a NodeId (source)", "Request did not contain an address"
    for e in (event(MU + ".core.register", source=None), event(MU + ".core.register", {"address": "127.0.0.1:1"}, source=""),
              event(MU + ".core.register", {"nodeId": "x", "address": "127.0.0.1:1"}, source=None)):
        with Line(hub.registry) as c:
            c.send(package(e))
            check_form(c.package(), REGISTRY_ID, 2, error={"message": message, "reason": none})
    for data in (None, {}, [], "x", {"address": ""}, {"address": None}):
        assert ask(hub.registry, MU + ".core.register", data, "x") == (2, {"message": message, "reason": no_address}), data
    for address in ("nowhere", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "localhost:5102", "[::1]:5102", "1.2.3:4", ":5102",
                    "127.0.0.1:51 02", "127.0.0.1:5102x", " 127.0.0.1:1", "127.0.0.1:1"):
        status, error = register(hub, "x", address)
        assert status == 2 and error["message"] == message and "reason" in error, address


def test_an_address_that_does_not_answer_is_unhealthy_before_the_asker_gives_up(hub):
    with Fake(None) as f:
        start = time.monotonic()
        assert register(hub, "silent", f.address) == UNHEALTHY
        assert time.monotonic() - start > 1.9
        until(lambda: f.ended, "the connection is ended")
        assert f.ended == [b""]


def test_registrations_of_one_id_at_the_same_time(hub):
    with Fake(GOOD) as f:
        lines = [Line(hub.registry) for _ in range(20)]
        for l in lines:
            l.send(package(event(MU + ".core.register", {"address": f.address}, "race")))
        got = [l.reply() for l in lines]
        assert sorted(s for s, _ in got) == [1] + [2] * 19
        assert {p["error"]["reason"] for s, p in got if s == 2} == {"Node already exists"}
        ask(hub.registry, MU + ".core.unregister", source="race")
        for l in lines:
            l.close()


# The broker's list.

def test_node_lists_at_the_broker(tmp_path):
    with Hub(tmp_path, registry=local(), only="broker") as hub, Fake(GOOD) as a, Fake(GOOD) as b, Fake(GOOD) as moved:
        def nodes(data, source=REGISTRY_ID):
            return ask(hub.broker, MU + ".core.nodes", data, source)

        def subscribers(type_="e"):
            return ask(hub.broker, MU + ".core.publish", {"event": type_, "data": 0}, MU + "/interface/test")[1]["subscribers"]
        bad = (2, {"message": "Failed to update active nodes", "reason": "Request did not contain nodes"})
        for data in (None, {}, {"nodes": None}, {"nodes": {}}, {"nodes": "x"}, []):
            assert nodes(data) == bad, data
        ok = (1, {"message": "Succesfully updated active nodes"})
        assert nodes({"nodes": []}) == ok
        assert nodes({"nodes": [{"nodeId": "a", "address": a.address}, {"nodeId": "b", "address": b.address}]}, "anybody") == ok
        for id_, n in (("a", 1), ("b", 2), ("a", 2)):
            assert ask(hub.broker, MU + ".core.subscribe", {"subscribe": "e"}, id_)[0] == 1
            assert subscribers() == n
        assert ask(hub.broker, MU + ".core.subscribe", {"subscribe": "f"}, "a")[0] == 1
        # a moves and keeps its subscriptions; b goes, and returns without
        assert nodes({"nodes": [{"nodeId": "a", "address": moved.address}]}) == ok
        assert (subscribers(), subscribers("f")) == (1, 1)
        until(lambda: [t for t in moved.took if b'"type":"f"' in t], "the event is at the new address")
        assert nodes({"nodes": [{"nodeId": "a", "address": moved.address}, {"nodeId": "b", "address": b.address}]}) == ok
        assert subscribers() == 1
        e = [json.loads(t[5:]) for t in moved.took][-1]
        assert list(e) == ["id", "timestamp", "source", "type", "data"] and e["source"] == BROKER_ID
        # what is no node in a list does not cost the others
        status, _ = nodes({"nodes": [1, None, [], {}, {"nodeId": "c"}, {"nodeId": "a", "address": moved.address}]})
        assert status in (1, 2)
        healthy(hub.broker)


def test_dead_silent_and_slow_subscribers_delay_nobody(tmp_path):
    with Hub(tmp_path, registry=local(), only="broker") as hub, Fake(GOOD) as good, Fake(None) as silent, Fake(()) as rude, \
            Fake(b"\xff" * 70000) as garbage:
        listed = {"good": good.address, "silent": silent.address, "rude": rude.address, "garbage": garbage.address, "dead": local()}
        assert ask(hub.broker, MU + ".core.nodes", {"nodes": [{"nodeId": i, "address": a} for i, a in listed.items()]})[0] == 1
        for id_ in listed:
            assert ask(hub.broker, MU + ".core.subscribe", {"subscribe": "e"}, id_)[0] == 1
        for n in range(30):
            assert ask(hub.broker, MU + ".core.publish", {"event": "e", "data": n}, "good") == (
                1, {"message": "Successfully published event", "subscribers": 5})
        until(lambda: len(good.took) == 30, "all have come to who takes them")
        assert [json.loads(t[5:])["data"] for t in good.took] == list(range(30))
        until(lambda: len(good.ended) == 30, "each connection is ended")
        assert set(good.ended) == {b""}
        healthy(hub.broker)


def test_subscribe_and_publish_refused(hub):
    with Js("node", id="some", broker=hub.broker, registry=hub.registry):
        none, no_event = "Request did not contain a NodeId (source)", "Request did not contain a event to subscribe to"
        for word in ("subscribe", "unsubscribe"):
            type_ = MU + ".core." + word
            fail = "Failed to %s for microservice %s event" % (word, "to" if word == "subscribe" else "from")
            assert ask(hub.broker, type_, None, None) == (2, {"message": fail, "reason": none})
            assert ask(hub.broker, type_, {word: "x"}, "") == (2, {"message": fail, "reason": none})
            for data in (None, {}, {word: ""}, {word: None}, "x", [word]):
                assert ask(hub.broker, type_, data, "nobody") == (2, {"message": fail, "reason": no_event}), data
            assert ask(hub.broker, type_, {word: "x"}, "nobody") == (2, {"message": fail, "reason": "Node is not registered"})
        fail, no_event = "Failed to publish event", "Request did not contain a event to publish"
        for word in ("publish", "broadcast"):
            type_ = MU + ".core." + word
            assert ask(hub.broker, type_, None, None) == (2, {"message": fail, "reason": none})
            for data in (None, {}, {"event": ""}, {"event": None}, {"data": 1}, [1]):
                assert ask(hub.broker, type_, data, "nobody") == (2, {"message": fail, "reason": no_event}), data
            for reserved in (MU + ".", MU + ".core.nodes", MU + ".x"):
                assert ask(hub.broker, type_, {"event": reserved}, "nobody") == (2, {"message": fail, "reason": "Event type is reserved"})
            for source in ("nobody", MU + "/interface", MU + "/core/serviceRegistry"):
                assert ask(hub.broker, type_, {"event": "x"}, source) == (2, {"message": fail, "reason": "Node is not registered"})
            assert ask(hub.broker, type_, {"event": "x"}, MU + "/interface/")[0] == 1
            assert ask(hub.broker, type_, {"event": MU}, "some")[0] == 1  # not reserved: no dot


def test_old_names(tmp_path):
    with Hub(tmp_path) as hub, Fake(GOOD) as f:
        old = lambda at, name, data: ask(at, MU + "." + name, data, "old")
        assert old(hub.registry, "register", {"address": f.address}) == (1, NO_HANDLER)
        assert old(hub.broker, "nodes", {"nodes": []}) == (1, NO_HANDLER)
        for at in (hub.broker, hub.registry):
            assert old(at, "healthcheck", None) == (1, {"message": "Service is healthy"})
    with Hub(tmp_path, more="old-names: true") as hub, Fake(GOOD) as f:
        assert old(hub.registry, "register", {"address": f.address})[0] == 1
        assert ask(hub.broker, MU + ".core.subscribe", {"subscribe": "x"}, "old")[0] == 1


def test_strict(tmp_path):
    with Hub(tmp_path, more="strict: true") as hub:
        for at in (hub.broker, hub.registry):
            healthy(at)
            with Line(at) as c:
                for version in (0, 3, 255):
                    c.send(package(event(HEALTH), version=version))
                    assert c.reply()[1]["error"] == "Unsupported protocol version"
                for name in ("id", "timestamp", "source", "type"):
                    for value in (None, "", 0):
                        e = event(HEALTH)
                        e[name] = value
                        if value is None:
                            del e[name]
                        c.send(package(e))
                        status, p = c.reply()
                        assert (status, p["error"]) == (2, "Payload does not contain every required µHomeEvent properties."), (name, value)


def test_version_1_answers(tmp_path):
    with Hub(tmp_path, more="version: 1") as hub:
        for version in (1, 2, 9):
            with Line(hub.broker) as c:
                c.send(package(event(HEALTH), version=version))
                status, v, body = c.package()
                assert (status, v, json.loads(body)["data"]) == (1, 1, {"message": "Service is healthy"})


def test_liveness_and_restarts(tmp_path):
    with Hub(tmp_path, more="check: {every: 50ms, failures: 2, restarts: true, timeout: 1s}") as hub:
        exists = (2, {"message": "Failed to register microservice", "reason": "Node already exists"})
        with Fake(GOOD) as a, Fake(GOOD) as b:
            assert register(hub, "n", a.address)[0] == 1
            assert register(hub, "n", b.address) == exists
            a.s.shutdown(socket.SHUT_RDWR)
            a.s.close()
            until(lambda: register(hub, "n", b.address)[0] == 1, "it may come back elsewhere")
            assert ask(hub.broker, MU + ".core.subscribe", {"subscribe": "x"}, "n")[0] == 1
            b.s.shutdown(socket.SHUT_RDWR)
            b.s.close()
            until(lambda: ask(hub.broker, MU + ".core.subscribe", {"subscribe": "x"}, "n")[0] == 2, "it is removed")


def test_a_list_that_does_not_fit_is_not_sent_and_not_cut(tmp_path):
    """The broker keeps the last one; a shorter one is sent again."""
    with Js("broker") as broker, Hub(tmp_path, broker=broker.address, only="registry") as hub, Fake(GOOD) as f:
        ids = ["%s/%d" % ("x" * 300, n) for n in range(250)]
        with Line(hub.registry) as c:
            for id_ in ids:
                c.send(package(event(MU + ".core.register", {"address": f.address}, id_)))
                assert c.reply()[0] == 1
        until(lambda: [l for l in hub.err if "fit" in l or "65" in l], "it says so")
        most = max(len(s["nodes"]) for s in broker.all(lambda s: "nodes" in s))
        assert 100 < most < 220
        for id_ in ids[50:]:
            assert ask(hub.registry, MU + ".core.unregister", source=id_)[0] == 1
        broker.wait(lambda s: {n["nodeId"] for n in s.get("nodes", [])} == set(ids[:50]))
        assert all(len({n["nodeId"] for n in s["nodes"]}) == len(s["nodes"]) for s in broker.all(lambda s: "nodes" in s))


def test_a_node_that_ends_finishes_what_runs(hub, tmp_path):
    at = local()
    with Sinew(tmp_path, "node", "ends", "--listen", at, "--broker", hub.broker, "--registry", hub.registry,
               "--on", "slow=sh -c 'touch begun; while [ ! -e go ]; do sleep 0.05; done; echo done'") as n:
        things.listening(at)
        until(lambda: [l for l in n.err if "subscribed" in l], "it has subscribed")
        with Line(at) as c:
            c.send(package(event("slow")))
            until(lambda: (tmp_path / "begun").exists(), "the handler runs")
            n.p.terminate()
            until(lambda: ask(hub.registry, MU + ".core.unregister", source="ends")[0] == 2, "it has unregistered")
            (tmp_path / "go").touch()
            assert c.reply()[1]["data"] == {"message": "done"}
        n.p.wait(things.PATIENCE)
        assert n.end() == 0, n.err


def test_tokens(tmp_path):
    (tmp_path / "token").write_text("s3cret\n")
    with Hub(tmp_path, more="token: s3cret") as hub:
        wrong = (2, "Token is missing or wrong")
        for at in (hub.broker, hub.registry):
            assert ask(at, HEALTH, token="s3cret") == (1, {"message": "Service is healthy"})
            for token in ("", "s3cre", "s3crets", "S3CRET", 7, ["s3cret"], None):
                assert ask(at, HEALTH, token=token) == wrong
                assert ask(at, "no.such", token=token) == wrong
            with Line(at) as c:  # after the status, before the handlers
                c.send(package(event(HEALTH), status=0))
                assert c.reply()[1]["error"] == "Error in Message"
            r = rpc(at, health())[0]
            assert "error" in r and "result" not in r
            assert rpc(at, health(token="s3cret")) == [HEALTHY]
        token = ["--token", str(tmp_path / "token"), "--broker", hub.broker]
        with Sinew(tmp_path, "node", "n", "--listen", ":0", "--on", "e=cat", "--registry", hub.registry, *token) as n:
            until(lambda: [l for l in n.err if "subscribed" in l], "it has subscribed")
            status, out, err = things.sinew(tmp_path, "publish", "e", "1", *token)
            assert status == 0 and json.loads(out)["subscribers"] == 1, err
            assert things.sinew(tmp_path, "publish", "e", "1", "--broker", hub.broker)[0] == 1


def test_at_least_once_over_a_kill_of_the_hub(tmp_path):
    """What the publisher was told is taken comes, in order; the node is away and the hub is killed meanwhile."""
    more = "log: events.db\nstore: {type: sqlite, path: nodes.db}\nqueue: {max: 3}"
    at = {"broker": local(), "registry": local()}
    with Hub(tmp_path, more=more, **at) as hub:
        with Js("node", id="sure", **at) as node:
            assert node.do("subscribe", type="e", more={"delivery": "at-least-once"})["status"] == 1
            assert ask(hub.broker, MU + ".core.publish", {"event": "e", "data": 0}, "sure") == (
                1, {"message": "Successfully published event", "subscribers": 1})
            node.got("e")
            node.do("stop")
            for n in range(1, 10):
                assert ask(hub.broker, MU + ".core.publish", {"event": "e", "data": n}, "sure")[0] == 1
            hub.end(9)
            with Hub(tmp_path, more=more, **at):
                node.do("listen")
                until(lambda: {s["got"]["data"] for s in node.all(lambda s: "got" in s)} == set(range(10)), "each has come")
                came = [s["got"]["data"] for s in node.all(lambda s: "got" in s)]
                assert [n for i, n in enumerate(came) if n not in came[:i]] == list(range(10)), came


def test_at_least_once_is_refused_without_a_log(hub):
    with Js("node", id="sure", broker=hub.broker, registry=hub.registry) as node:
        r = node.do("subscribe", type="e", more={"delivery": "at-least-once"})
        assert r["status"] == 2 and r["payload"]["error"]["message"] == "Failed to subscribe for microservice to event"


# Attackers.

def memory(process, which="VmRSS"):
    """KiB."""
    with open("/proc/%d/status" % process.p.pid) as f:
        return next(int(l.split()[1]) for l in f if l.startswith(which + ":"))


def test_many_half_packages_and_clients_that_never_read(hub, node):
    before = memory(hub)
    half = struct.pack(">HHB", 65535, 2, 1) + b"{" * 65000
    lines = []
    try:
        for at in (hub.broker, hub.registry):
            for _ in range(100):
                lines.append(Line(at).send(half))
        for _ in range(5):  # asks, and reads nothing
            c = Line(hub.broker)
            lines.append(c)
            c.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            c.s.settimeout(0.1)
            one = package(event("no.such")) * 1000
            try:
                for _ in range(200):
                    c.s.send(one)
            except (TimeoutError, ConnectionError):
                pass
        for at in (hub.broker, hub.registry):
            healthy(at)
        if memory(hub, "VmSize") < 1 << 30:  # else it is a sanitizer's, which keeps more
            assert memory(hub) - before < 200 * 70 + 5 * 2048 + 8192, "%d KiB more" % (memory(hub) - before)
    finally:
        for l in lines:
            l.close()


def test_connections_are_bounded_and_come_back(tmp_path):
    with Hub(tmp_path, more="max-connections: 8") as hub:
        for at in (hub.broker, hub.registry):
            def free():
                try:
                    with Line(at) as c:
                        c.send(package(event(HEALTH)))
                        return c.package()
                except OSError:
                    return False
            until(free, "the probes' connections are gone")

            def eight():
                kept = []
                for _ in range(8):
                    c = Line(at)
                    kept.append(c)
                    try:
                        c.send(package(event(HEALTH)))
                        if not c.package():
                            break
                    except OSError:
                        break
                else:
                    return kept
                for c in kept:
                    c.close()
            kept = until(eight, "eight are served at once")
            for _ in range(20):
                with things.try_line(at) as c:
                    assert c.is_ended()
            for c in kept:
                c.send(package(event(HEALTH)))
                assert c.reply()[0] == 1
            for c in kept:
                c.close()
            until(free, "others are served again")


def test_time_limits(hub, node):
    """Three seconds without a byte of what has begun; at three addresses, of both framings, at once. Where nothing
    has begun it is ten."""
    one = package(event(HEALTH))
    everywhere = (hub.broker, hub.registry, node.address)
    with things.Pulse() as pulse:
        started = time.monotonic()
        lines = []
        for at in everywhere:
            for begun in (one[:1], one[:2], one[:4], one[:-1], b"{", b"[ ", b'{"jsonrpc"', one + one[:7]):
                lines.append(Line(at).send(begun))
        slow = [Line(at).send(one[:3]) for at in everywhere]
        for i in range(3, 8):  # a byte each half second is progress
            time.sleep(0.5)
            for l in slow:
                try:
                    l.send(one[i:i + 1])
                except OSError:
                    assert pulse.longest > 2
        for l in slow:
            try:
                l.send(one[8:])
                assert l.package()[0] == 1 or pulse.longest > 2
            except (OSError, TypeError):
                assert pulse.longest > 2  # we were not given the processor
            l.close()
        silent = [Line(at) for at in everywhere]
        for l in lines:
            l.rest()
            l.close()
        assert time.monotonic() - started > 2.9
        for l in silent:
            l.s.settimeout(0.01)
            try:
                assert l.s.recv(1) == b"" and pulse.longest > 2, "the others ended no sooner than this one"
            except TimeoutError:
                pass
            l.close()


@pytest.mark.skipif(not things.LONG, reason="ten seconds")
def test_idle_connections_are_closed(hub, node):
    started = time.monotonic()
    lines = [Line(at) for at in (hub.broker, hub.registry, node.address)]
    lines += [Line(l) for l in (hub.broker, hub.registry, node.address)]
    for l in lines[3:]:
        l.send(package(event(HEALTH)))
        l.reply()
    for l in lines:
        assert l.is_ended()
        l.close()
    assert 9.9 < time.monotonic() - started


# Kept connections, as docs/microhome.md has them.

def fnv(data, h=0xcbf29ce484222325):
    for b in data:
        h = ((h ^ b) * 0x100000001b3) & 0xffffffffffffffff
    return h


def mark(id_, request=b""):
    h = fnv(b"sinew keeps" + id_[:12] + request)
    h = ((h ^ h >> 32) * 0xd6e8feb86659fd93) & 0xffffffffffffffff
    return struct.pack(">I", h >> 32)


def marked():
    b = bytearray(uuid.uuid4().bytes)
    b[12:] = mark(bytes(b))
    return uuid.UUID(bytes=bytes(b))


def test_marks(hub, node):
    for at in (hub.broker, hub.registry, node.address):
        with Line(at) as c:
            asked = [marked() for _ in range(10)]
            c.send(b"".join(package(dict(event(HEALTH), id=str(u))) for u in asked))
            for _ in asked:
                u = uuid.UUID(c.reply()[1]["id"]).bytes
                fits = [a for a in asked if mark(u, a.bytes) == u[12:]]
                assert len(fits) == 1
                asked.remove(fits[0])
            plain = uuid.uuid4()
            c.send(package(dict(event(HEALTH), id=str(plain))))
            u = uuid.UUID(c.reply()[1]["id"]).bytes
            assert mark(u, plain.bytes) != u[12:] and mark(u) != u[12:]
