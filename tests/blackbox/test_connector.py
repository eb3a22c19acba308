# SPDX-License-Identifier: Apache-2.0
"""The registry connector (`sinew registry send`, `sinew bridge`) against a registry that is not ours: a
server made of sockets that keeps each request's bytes and answers what the test says."""
import json
import re
import socket
import struct
import threading
from urllib.parse import unquote

import pytest

import things
from things import ME, TO, Bridge, Sinew, WebSocket, local, sinew, until

NONE = (404, {"message": "Not Found"})


class Server(things.Listener):
    """`answer(method, target, body)` gives (status, JSON or bytes), or None: close. `asked` has what came."""

    def __init__(self, answer=None, address=None):
        self.answer = answer or (lambda m, t, b: (200, {}))
        self.asked, self.lock = [], threading.Lock()
        super().__init__(address)

    def serve(self, c):
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with c, c.makefile("rb") as f:
            try:
                while True:
                    line = f.readline()
                    if not line:
                        return
                    method, target, version = line.decode("latin1").rstrip("\r\n").split(" ")
                    headers = {}
                    while True:
                        h = f.readline().decode("latin1").rstrip("\r\n")
                        if not h:
                            break
                        k, v = h.split(":", 1)
                        assert k.lower() not in headers, "twice: " + k
                        headers[k.lower()] = v.strip()
                    body = f.read(int(headers.get("content-length", 0)))
                    with self.lock:
                        self.asked.append((method, target, body, headers))
                    r = self.answer(method, target, body)
                    if r is None:
                        return
                    status, value, *more = r
                    data = value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()
                    head = "HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n" % (
                        status, len(data), "".join("%s: %s\r\n" % x for x in (more[0] if more else {"Content-Type": "application/json"}).items()))
                    c.sendall(head.encode() + data)
            except OSError:
                pass

    def take(self):
        with self.lock:
            got, self.asked = self.asked, []
        return got


@pytest.fixture(scope="module")
def server():
    with Server() as s:
        yield s


@pytest.fixture(scope="module")
def bridge(server, tmp_path_factory):
    with Bridge(tmp_path_factory.mktemp("bridge"), "http://%s/" % server.address, "retries: 2\nnotifications: false") as b:
        yield b


def enc(text):
    """As the description has it: UTF-8, upper-case hex, all but these."""
    return "".join(chr(b) if re.fullmatch(rb"[A-Za-z0-9_.!~*()-]", bytes([b])) else "%%%02X" % b for b in text.encode())


U, G, H, R = "user://id.nimbus.example/marta vidal+@ü'", "user-guid://k3T9-marta", "hyperty://nimbus.example/5e0b?a=b#c", "hyperty-runtime://d/rt"
DO = "comm://nimbus.example/ob/1"
F = {"resources": ["chat", "a b+&=#"], "dataSchemes": ["comm"]}
FQ = "?resources=chat,a%20b%2B%26%3D%23&dataSchemes=comm"
hyp = lambda kind, x, q="": "/hyperty/%s/%s" % (kind, enc(x)) + (("/hyperty" + q) if q else "")
dob = lambda kind, x, q="": "/hyperty/dataobject/%s/%s" % (kind, enc(x)) + (("/do" + q) if q else "")

READS = [  # resource, criteria, target
    (U, None, hyp("user", U)), (U, {}, hyp("user", U)), (U, {"resources": []}, hyp("user", U)), (U, {"filter": 1, "resources": {}}, hyp("user", U)),
    (U, F, hyp("user", U, FQ)), (U, {"resources": ["chat"]}, hyp("user", U, "?resources=chat")), (U, {"resources": "chat"}, hyp("user", U, "?resources=chat")),
    (U, {"dataSchemes": ["x", "y"], "domain": "d"}, hyp("user", U, "?dataSchemes=x,y")),
    (U, {"reporter": H}, hyp("user", U)), (U, [], hyp("user", U)), (U, "x", hyp("user", U)),
    (G, None, hyp("guid", G)), (G, F, hyp("guid", G)), (H, None, hyp("url", H)), (H, F, hyp("url", H)), (R, None, hyp("url", R)),
    ("/hyperty/idp-identifier/m@x.de", None, hyp("email", "m@x.de")), ("/hyperty/idp-identifier/m@x.de/rest", None, hyp("email", "m@x.de")),
    ("/hyperty-instance/idp-identifier/m@x.de", F, hyp("email", "m@x.de", FQ)),
    ("/hyperty-instance/user/" + U, None, hyp("user", U)), ("/hyperty/user/" + U, None, hyp("user", U)), ("/user/" + U, None, hyp("user", U)),
    ("/hyperty-instance/user/bob/x", None, hyp("user", "bob/x")),
    ("/hyperty-instance/user/user%3A%2F%2Fd%2Fbob", None, hyp("user", "user://d/bob")), ("/user/user%3a%2f%2fd%2Fbob", F, hyp("user", "user://d/bob", FQ)),
    ("/hyperty-instance/guid/k1", None, hyp("guid", "user-guid://k1")), ("/hyperty/guid/" + G, None, hyp("guid", G)),
    ("/hyperty/user-guid/k1", None, hyp("guid", "user-guid://k1")), ("/user-guid/k1", None, hyp("guid", "user-guid://k1")),
    ("/hyperty/url/" + H, None, hyp("url", H)), ("/hyperty-instance/url/abc", None, hyp("url", "hyperty://nimbus.example/abc")),
    ("/hyperty/abc/d", None, hyp("url", "hyperty://nimbus.example/abc/d")), ("/hyperty/" + H, None, hyp("url", H)),
    ("/hyperty-runtime/rt", None, hyp("url", "hyperty-runtime://nimbus.example/rt")), ("/hyperty-runtime/" + R, None, hyp("url", R)),
    ("/dataObject/url/" + DO, None, dob("url", DO)), ("/dataObject/name/x/y", None, dob("name", "x/y")), ("/dataObject/reporter/" + H, F, dob("reporter", H, FQ)),
    ("/comm", {"reporter": H}, dob("reporter", H)), ("/comm", {"reporter": H, **F}, dob("reporter", H, FQ)), (DO, {"reporter": H}, dob("reporter", H)),
    (DO, None, dob("url", DO)), (DO, F, dob("url", DO, FQ)), ("ctxt://d/x", None, dob("url", "ctxt://d/x")), ("connection://d/x", F, dob("url", "connection://d/x", FQ)),
    ("hyperty-instance://d/x", None, dob("url", "hyperty-instance://d/x")), ("runtime://d/x", None, dob("url", "runtime://d/x")),
    ("a name", None, dob("name", "a name")), ("a name", F, dob("name", "a name", FQ)), ("/comm", None, dob("name", "/comm")),
    ("日本/%41", None, dob("name", "日本/%41")),
]


@pytest.mark.parametrize("type_", ["read", "READ"])
def test_what_reads_ask(server, bridge, type_):
    for resource, criteria, target in READS:
        server.take()
        body = {"resource": resource, "idToken": None, "policy": None}
        if criteria is not None:
            body["criteria"] = criteria
        lists = resource.startswith("/hyperty-instance/") and "/url/" not in resource  # the manual's form: an array
        assert bridge.ask(type_, body) == ({"code": 404, "description": "Not Found"} if "/guid/" in target and criteria else
                                           {"code": 200, "value": [] if lists else {}}), resource
        got = server.take()
        assert [(m, t, b) for m, t, b, _ in got] == [("GET", target, b"")], (resource, criteria)
        assert "content-type" not in got[0][3] and "transfer-encoding" not in got[0][3]
        assert got[0][3]["host"] == server.address


C = {"user": U, "url": H, "descriptor": "d", "expires": 7, "resources": ["x"], "dataSchemes": [], "status": "created", "runtime": R, "p2pRequester": None,
     "p2pHandler": "h", "guid": G}
D = {"name": "n", "schema": "s", "url": DO, "reporter": H, "expires": 7, "dataSchemes": ["ü"], "resources": [], "status": "live", "runtime": None,
     "p2pRequester": "r"}
EXTRA = {"startingTime": "x", "lastModified": "y", "id": "z", "context": {}, "owner": "o"}


def without(d, *names):
    return {k: v for k, v in d.items() if k not in names}


FILL = {"expires": 3600, "resources": [], "dataSchemes": [], "status": "live", "runtime": ""}
WRITES = [  # type, body, method, target, JSON sent (None: no body)
    ("create", {"value": {**C, **EXTRA}}, "PUT", "/hyperty/user/%s/%s" % (enc(U), enc(H)), without(C, "user", "url")),
    ("CREATE", {"value": C}, "PUT", "/hyperty/user/%s/%s" % (enc(U), enc(H)), without(C, "user", "url")),
    ("create", {"value": {"user": "bob@x.de", "url": R}}, "PUT", "/hyperty/user/bob%40x.de/" + enc(R), {}),
    ("Create", {"value": {"user": "bob", "url": H, "descriptor": "d"}}, "PUT", "/hyperty/user/bob/" + enc(H), {"descriptor": "d"}),
    ("CREATE", {"value": {"user": "bob", "url": H, "descriptor": "d", "status": None}}, "PUT", "/hyperty/user/bob/" + enc(H), {**FILL, "descriptor": "d", "status": None}),
    ("create", {"value": {"user": "bob", "hypertyURL": H, "hypertyDescriptorURL": "d", "expires": 5}}, "PUT", "/hyperty/user/bob/" + enc(H),
     {**FILL, "descriptor": "d", "expires": 5}),
    ("create", {"value": {"user": "bob", "hypertyURL": "odd://x/1", "hypertyRuntimeURL": R}}, "PUT", "/hyperty/user/bob/" + enc("odd://x/1"), {**FILL, "runtime": R}),
    ("create", {"value": {"user": "bob", "url": H, "hypertyURL": "hyperty://d/old", "descriptor": "new", "hypertyDescriptorURL": "old"}}, "PUT",
     "/hyperty/user/bob/" + enc(H), {**FILL, "descriptor": "new"}),
    ("create", {"value": {**D, **EXTRA}}, "PUT", "/hyperty/dataobject/" + enc(DO), D),
    ("create", {"value": {"url": "hyperty-instance://d/x"}}, "PUT", "/hyperty/dataobject/" + enc("hyperty-instance://d/x"), {"url": "hyperty-instance://d/x"}),
    ("update", {"resource": H}, "PUT", "/hyperty/url/" + enc(H), "{}"),
    ("update", {"resource": H, "value": None}, "PUT", "/hyperty/url/" + enc(H), "{}"),
    ("UPDATE", {"resource": H, "value": {}}, "PUT", "/hyperty/url/" + enc(H), "{}"),
    ("update", {"resource": H, "value": {"user": U, "guid": G, "url": H, **EXTRA}}, "PUT", "/hyperty/url/" + enc(H), "{}"),
    ("update", {"resource": H, "value": {"status": "live"}, "method": "refresh"}, "PUT", "/hyperty/url/" + enc(H), {"status": "live"}),
    ("update", {"resource": H, "value": C}, "PUT", "/hyperty/url/" + enc(H), without(C, "user", "url", "guid")),
    ("update", {"resource": "/hyperty/" + H, "value": "disconnected", "attribute": "status"}, "PUT", "/hyperty/url/" + enc(H), {"status": "disconnected"}),
    ("update", {"resource": "/hyperty/abc"}, "PUT", "/hyperty/url/" + enc("hyperty://nimbus.example/abc"), "{}"),
    ("update", {"resource": "/hyperty-runtime/abc/d"}, "PUT", "/hyperty/url/" + enc("hyperty-runtime://nimbus.example/abc/d"), "{}"),
    ("update", {"resource": "/comm/abc"}, "PUT", "/dataobject/url/" + enc("comm://nimbus.example/abc"), "{}"),
    ("update", {"resource": "/dataObject/abc"}, "PUT", "/dataobject/url/abc", "{}"),
    ("update", {"resource": "/dataObject/" + DO}, "PUT", "/dataobject/url/" + enc(DO), "{}"),
    ("update", {"resource": DO, "value": {**D, **EXTRA}}, "PUT", "/dataobject/url/" + enc(DO), without(D, "url")),
    ("delete", {"value": {"user": U, "url": H}}, "DELETE", "/hyperty/user/%s/%s" % (enc(U), enc(H)), None),
    ("DELETE", {"value": {"user": U, "hypertyURL": H, "hypertyDescriptorURL": "d"}}, "DELETE", "/hyperty/user/%s/%s" % (enc(U), enc(H)), None),
    ("delete", {"value": {"url": DO}}, "DELETE", "/hyperty/dataobject/url/" + enc(DO), None),
    ("delete", {"value": {"name": DO}}, "DELETE", "/hyperty/dataobject/url/" + enc(DO), None),
    ("delete", {"value": {"url": DO, "name": "comm://d/2"}}, "DELETE", "/hyperty/dataobject/url/" + enc("comm://d/2"), None),
]


def test_what_writes_ask(server, bridge):
    for type_, body, method, target, want in WRITES:
        server.take()
        assert bridge.ask(type_, body) == {"code": 200}
        (m, t, b, h), = server.take()
        assert (m, t) == (method, target), body
        if want is None:
            assert b == b"" and "content-type" not in h
        else:
            assert h["content-type"] == "application/json"
            assert b == b"{}" if want == "{}" else json.loads(b) == want, (body, b)


def test_the_runtime_of_the_manuals_create_comes_from_the_sender(server, bridge):
    for sender, runtime in (("hyperty-runtime://d/rt/registry", "hyperty-runtime://d/rt"), ("hyperty-runtime://d/rt/registry/", "hyperty-runtime://d/rt"),
                            ("runtime://d/rt/", "runtime://d/rt"), ("hyperty-runtime://d/rt", "hyperty-runtime://d/rt"), ("hyperty://d/rt", "")):
        server.take()
        assert bridge.ask("create", {"value": {"user": "u", "hypertyURL": H}}, **{"from": sender})["code"] == 200
        assert json.loads(server.take()[0][2])["runtime"] == runtime, sender


def test_messages_that_ask_nothing(server, bridge):
    server.take()
    bad = {"code": 400, "description": "Bad Request"}
    for type_, body in (("read", ...), ("read", None), ("read", []), ("read", "x"), ("read", {}), ("read", {"resource": ""}), ("read", {"resource": 7}),
                        ("read", {"resource": None}), ("read", {"resource": [U]}), ("update", {}), ("update", {"resource": ""}), ("update", {"value": {}}),
                        ("create", {}), ("create", {"value": None}), ("create", {"value": "x"}), ("create", {"value": {}}), ("create", {"value": {"user": "u"}}),
                        ("create", {"value": {"url": H}}), ("create", {"value": {"url": H, "user": 7}}), ("create", {"value": {"url": 7, "user": "u"}}),
                        ("create", {"value": {"url": "", "user": "u"}}), ("create", {"value": {"hypertyURL": DO}}), ("create", {"value": {"name": "n"}}),
                        ("delete", {"value": {"url": H}}), ("delete", {"value": {"user": U}}), ("delete", {"value": []}), ("delete", {}),
                        ("update", {"resource": H, "value": "x", "attribute": "userID"}), ("update", {"resource": H, "value": "x", "attribute": "guid"})):
        assert bridge.ask(type_, body) == bad, (type_, body)
    for type_ in ("subscribe", "", "readx", "execute"):
        assert bridge.ask(type_, {"resource": U}) == {"code": 405, "description": "Method Not Allowed"}, type_
    assert server.take() == []
    bridge.post("response", {"code": 200})
    bridge.post("RESPONSE", {"code": 200})
    for id_ in ("1", "", 0, -3, 2 ** 40, "ü"):
        assert bridge.ask("read", {"resource": U}, id=id_)["code"] == 200
    for to in (TO + "/",):
        assert bridge.ask("read", {"resource": U}, to=to)["code"] == 200
    server.take()
    for to in ("global://registry", "domain://msg-node.nimbus.example/sm", "hyperty://d/1"):
        assert bridge.ask("read", {"resource": U}, to=to)["code"] == 404
    assert server.take() == []
    assert not bridge.answers


def test_what_becomes_of_replies(server, bridge):
    html = b"<html><body><h2>500 Internal Error</h2></body></html>"
    many = {H: {"status": "live"}, "hyperty://a/ü": {"status": "disconnected", "x": "\u0001 \U0001f600"}}
    table = [
        ((200, many), {"code": 200, "value": many}),
        ((408, many), {"code": 408, "description": "Temporarily Unavailable", "value": many}),
        ((404, {"message": "Not Found"}), {"code": 404, "description": "Not Found"}),
        ((404, {"message": "User not found"}), {"code": 404, "description": "User not found"}),
        ((404, {"message": 7}), {"code": 404, "description": "Not Found"}),
        ((404, []), {"code": 404, "description": "Not Found"}),
        ((401, b"Unauthorized request"), {"code": 401, "description": "Unauthorized"}),
        ((500, html), {"code": 500, "description": "Internal Server Error"}),
        ((400, b""), {"code": 400, "description": "Bad Request"}),
        ((503, b"{"), {"code": 503, "description": "Service Unavailable"}),
        ((200, html), {"code": 502, "description": "Bad Gateway"}),
        ((200, b""), {"code": 502, "description": "Bad Gateway"}),
        ((408, b"nope"), {"code": 502, "description": "Bad Gateway"}),
        ((200, b'{"a":'), {"code": 502, "description": "Bad Gateway"}),
        (None, {"code": 504, "description": "Error contacting the domain registry."}),
    ]
    try:
        for reply, want in table:
            server.answer = lambda *_: reply
            server.take()
            assert bridge.ask("read", {"resource": U}) == want, reply
            assert len(server.take()) == (2 if reply is None else 1)  # any status ends the series
            write = want["code"] if reply is None or want["code"] != 502 else reply[0]
            for type_, body in (("create", {"value": C}), ("update", {"resource": H}), ("delete", {"value": {"user": U, "url": H}})):
                assert bridge.ask(type_, body) == (want if reply is None else {"code": write}), (type_, reply)
        # redirects: a read follows ten, a write none
        server.answer = lambda m, t, b: (302, b"", {"Location": "/%d" % (int(t[1:]) + 1 if t[1:].isdigit() else 1)}) if t != "/10" else (200, {"x": {}})
        server.take()
        assert bridge.ask("read", {"resource": U}) == {"code": 200, "value": {"x": {}}}
        assert len(server.take()) == 11
        assert bridge.ask("update", {"resource": H}) == {"code": 302}
        assert len(server.take()) == 1
    finally:
        server.answer = lambda *_: (200, {})


def test_guid_with_filters(server, bridge):
    """The connector filters, by the rule of the registry."""
    have = {"hyperty://a": {"resources": ["chat", "x"], "dataSchemes": ["comm"], "status": "live"},
            "hyperty://b": {"resources": ["chat"], "dataSchemes": ["comm"], "status": "disconnected"},
            "hyperty://c": {"resources": ["x"], "dataSchemes": [], "status": "live"}}
    server.answer = lambda *_: (200, have)
    try:
        ask = lambda **c: bridge.ask("read", {"resource": G, "criteria": c})
        only = lambda *k: {h: have["hyperty://" + h[-1]] for h in ["hyperty://" + x for x in k]}
        assert ask(resources=["chat"]) == {"code": 200, "value": only("a", "b")}
        assert ask(resources=["chat", "x"]) == {"code": 200, "value": only("a")}
        assert ask(resources=["x"], dataSchemes=["comm"]) == {"code": 200, "value": only("a")}
        assert ask(resources=["y"]) == {"code": 404, "description": "Not Found"}
        assert ask(resources=["Chat"]) == {"code": 404, "description": "Not Found"}
        have.pop("hyperty://a")
        assert ask(dataSchemes=["comm"]) == {"code": 408, "description": "Temporarily Unavailable", "value": only("b")}
    finally:
        server.answer = lambda *_: (200, {})


def test_data_objects_of_an_owner(server, bridge):
    hyperties = {"hyperty://d/b": {}, "hyperty://d/a": {}, "hyperty://d/C": {}}
    objects = {"hyperty://d/a": {"comm://d/1": {"n": 1}, "CTXT://d/2": {"n": 2}}, "hyperty://d/b": {"Comm://d/0": {"n": 0}, "context://d/3": {"n": 3}}}
    first = [200]

    def answer(method, target, body):
        key = unquote(target.split("/")[-1].split("?")[0] if "/do?" not in target else target.split("/")[-2])
        if target.startswith("/hyperty/user/") or target.startswith("/hyperty/guid/"):
            return (first[0], hyperties) if first[0] in (200, 408) else (first[0], {"message": "Not Found"})
        return (200, objects[key]) if key in objects else NONE
    server.answer = answer
    try:
        def ask(resource, **more):
            server.take()
            r = bridge.ask("read", {"resource": resource, **more})
            return r, [t for _, t, _, _ in server.take()]
        reporters = [dob("reporter", h) for h in ("hyperty://d/C", "hyperty://d/a", "hyperty://d/b")]  # ascending bytes
        r, asked = ask("/hyperty-data-object-instance/comm/owner/" + U)
        assert r == {"code": 200, "value": [{"n": 0}, {"n": 1}]} and asked == [hyp("user", U)] + reporters
        first[0] = 408
        r, asked = ask("/comm/user/" + U)
        assert r == {"code": 200, "value": {"comm://d/1": {"n": 1}, "Comm://d/0": {"n": 0}}} and asked == [hyp("user", U)] + reporters
        r, asked = ask("/ctxt/user/" + G)
        assert r == {"code": 200, "value": {"CTXT://d/2": {"n": 2}, "context://d/3": {"n": 3}}} and asked == [hyp("guid", G)] + reporters
        r, asked = ask("/dataObject/user/" + U)
        assert len(r["value"]) == 4
        r, asked = ask("/hyperty-data-object-instance/comm/owner/hyperty://d/a")
        assert r == {"code": 200, "value": [{"n": 1}]} and asked == [dob("reporter", "hyperty://d/a")]
        r, asked = ask("/hyperty-data-object-instance/connection/owner/" + U)
        assert r == {"code": 404, "description": "Not Found"}
        r, asked = ask("/hyperty-data-object-instance/comm/owner/" + U, criteria={"resources": ["chat"]})
        assert asked[1:] == [x + "/do?resources=chat" for x in reporters]
        r, asked = ask("/hyperty-data-object-instance/comm/reporter/hyperty://d/b")
        assert r == {"code": 200, "value": [{"n": 0}]} and asked == [dob("reporter", "hyperty://d/b")]
        first[0] = 404
        r, asked = ask("/hyperty-data-object-instance/comm/owner/" + U)
        assert r == {"code": 404, "description": "Not Found"} and len(asked) == 1
        first[0] = 200
        objects["hyperty://d/C"] = None
        server.answer = lambda m, t, b: (500, b"x") if "%2FC" in t else answer(m, t, b)
        r, asked = ask("/hyperty-data-object-instance/comm/owner/" + U)
        assert r == {"code": 500, "description": "Internal Server Error"} and len(asked) == 2
    finally:
        server.answer = lambda *_: (200, {})


def test_settings_of_form(server, tmp_path):
    many = {"hyperty://b": {"n": 2}, "hyperty://a": {"n": 1}}
    url = "http://" + server.address

    def send(more, message, **change):
        m = {"id": "1", "type": "READ", "from": ME, "to": TO, "body": message, **change}
        status, out, err = sinew(tmp_path, "registry", "send", json.dumps(m), config="bridge:\n  url: %s\n%s" % (url, more))
        return status, json.loads(out)
    try:
        server.answer = lambda *_: (200, many)
        for format_, resource, want in (("auto", U, many), ("auto", "/hyperty-instance/user/u", [{"n": 1}, {"n": 2}]), ("map", "/hyperty-instance/user/u", many),
                                        ("array", U, [{"n": 1}, {"n": 2}]), ("array", H, [many])):
            assert send("  value_format: %s\n" % format_, {"resource": resource})[1]["body"] == {"code": 200, "value": want}, (format_, resource)
        for word, want in (("lower", "response"), ("upper", "RESPONSE"), ("mirror", "RESPONSE")):
            assert send("  response_type: %s\n" % word, {"resource": U})[1]["type"] == want
        server.answer = lambda *_: (408, many)
        assert send("  node_compat: vertx\n", {"resource": U})[1]["body"] == {"code": 500, "description": "Temporarily Unavailable", "value": many}
        server.answer = lambda *_: NONE
        assert send("  node_compat: vertx\n", {"resource": U})[1]["body"]["code"] == 404
        # several recipients: one of them is this registry, which then is the sender of the answer
        server.answer = lambda *_: (200, many)
        r = send("  domain: nimbus.example\n", {"resource": U}, to=["hyperty://x/1", TO])
        assert r[1]["from"] == TO and r[1]["body"]["code"] == 200
        assert send("", {"resource": U}, to=["hyperty://x/1"])[1]["body"]["code"] == 400
        assert send("  domain: other.example\n", {"resource": U})[1]["body"]["code"] == 404
        server.answer = lambda *_: None
        for retries, n in (("1", 1), ("3", 3), ("0", 5), ("-1", 1), ("null", 5)):
            server.take()
            status, r = send("  retries: %s\n" % retries, {"resource": U})
            assert (status, r["body"]["code"], len(server.take())) == (1, 504, n), retries
    finally:
        server.answer = lambda *_: (200, {})


def test_changes_of_status(tmp_path):
    pending = [{}]

    def answer(method, target, body):
        if target == "/registry/updated":
            r, pending[0] = pending[0], {}
            return 200, r
        return 200, {"statusChanged": "true" if b"disc" in body else "false", "message": "x"}
    with Server(answer) as s, Bridge(tmp_path, "http://" + s.address, "domain: nimbus.example\npoll_interval_ms: 50") as b:
        pending[0] = {"hyperty://d/1": {"status": "disconnected", "resources": []}, "comm://d/ü": {"status": "disconnected"}}
        until(lambda: len(b.told) == 2, "both are told")
        for url in ("hyperty://d/1", "comm://d/ü"):
            m, = [t for t in b.told if t["to"] == url + "/registration"]
            assert {k: m[k] for k in m if k != "id"} == {"type": "update", "from": TO, "to": url + "/registration",
                                                         "body": {"value": "disconnected", "attribute": "status"}}
        assert b.told[0]["id"] < b.told[1]["id"]
        b.told.clear()
        assert b.ask("update", {"resource": "hyperty://d/2"}) == {"code": 200}  # a keep-alive is not told
        assert b.ask("update", {"resource": "hyperty://d/3", "value": {"status": "live"}, "method": "refresh"}) == {"code": 200}
        assert b.ask("update", {"resource": "hyperty://d/4", "value": {"resources": []}}) == {"code": 200}  # no status is known
        assert b.ask("update", {"resource": "hyperty://d/5", "value": {"status": "live"}}) == {"code": 200}
        assert b.ask("update", {"resource": "hyperty://d/6", "value": {"status": "disconnected"}, "method": "refresh"}) == {"code": 200}
        until(lambda: len(b.told) == 2, "two are told")
        assert [(t["to"], t["body"]["value"]) for t in b.told] == [("hyperty://d/5/registration", "live"), ("hyperty://d/6/registration", "disconnected")]
        s.answer = lambda m, t, b: (200, b"[nonsense") if t.startswith("/reg") else (200, {})
        n = len(s.asked)
        until(lambda: len(s.asked) > n + 3, "it is polled on")
        assert len(b.told) == 2


def test_exchanges_that_do_not_end_well(tmp_path):
    """Attempts are counted; no answer in time, half of one, none at all, one that never ends."""
    body = b'{"a":{}}'
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n" + body + b"\r\n0\r\n\r\n"
    for name, sent, close, code in (("whole", whole, False, 200), ("chunked", chunked, False, 200), ("by its end", whole.replace(b"Length: 8", b"Type: x"), True, 200),
                                    ("silent", b"", False, 504), ("half a head", whole[:20], True, 504), ("half a body", whole[:-3], True, 504),
                                    ("half a chunk", chunked[:-9], True, 504), ("half, and open", whole[:-3], False, 504), ("no HTTP", b"\x00\x01\x02nonsense\r\n\r\n", True, 504),
                                    ("endless head", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100000, True, 504), ("bad length", whole.replace(b": 8", b": -8"), True, 504)):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        address, attempts, held = local(), [], []
        s.bind(things.split(address))
        s.listen(10)

        def serve():
            while True:
                try:
                    c, _ = s.accept()
                except OSError:
                    return
                attempts.append(1)
                try:
                    c.recv(65536)
                    c.sendall(sent)
                except OSError:
                    pass
                if close:
                    c.close()
                else:
                    held.append(c)
        threading.Thread(target=serve, daemon=True).start()
        with Bridge(tmp_path, "http://" + address, "retries: 2\ntimeout_ms: %d\nnotifications: false" % (20000 if code == 200 or close else 200)) as b:
            r = b.ask("read", {"resource": U})
            assert r == ({"code": 200, "value": {"a": {}}} if code == 200 else {"code": 504, "description": "Error contacting the domain registry."}), name
            until(lambda: len(attempts) >= (1 if code == 200 else 2), "each attempt is there")
            assert len(attempts) == (1 if code == 200 else 2), name
        s.close()
        for c in held:
            c.close()


def test_sizes(server, bridge):
    assert bridge.ask("read", {"resource": "user://" + "x" * 30000})["code"] == 414
    bridge.post("read", {"resource": U, "pad": "x" * (1 << 20)})  # nobody reads its id
    until(lambda: [k for k in bridge.answers if k in (None, "null")], "it is answered")
    assert [bridge.answers.pop(k)["body"]["code"] for k in list(bridge.answers) if k in (None, "null")] == [413]
    assert bridge.ask("read", {"resource": "user://" + "x" * 9000})["code"] == 200
    server.answer = lambda *_: (200, {"hyperty://d/%d" % i: {"x": "y" * 1000} for i in range(5000)})
    try:
        assert len(bridge.ask("read", {"resource": U})["value"]) == 5000
    finally:
        server.answer = lambda *_: (200, {})


def test_many_messages_at_once(server, bridge):
    """Each has its own answer, whatever the order; none waits for another."""
    gate = threading.Event()

    def answer(method, target, body):
        if target.endswith("slow"):
            gate.wait(things.PATIENCE)
        return 200, {"of": {"target": target}}
    server.answer = answer
    try:
        slow = [bridge.post("read", {"resource": "user://d/slow"}) for _ in range(4)]
        for n in range(200):
            assert bridge.ask("read", {"resource": "user://d/%d" % n}) == {"code": 200, "value": {"of": {"target": hyp("user", "user://d/%d" % n)}}}
        assert not any(json.dumps(m["id"]) in bridge.answers for m in slow)
        gate.set()
        until(lambda: all(json.dumps(m["id"]) in bridge.answers for m in slow), "the slow ones are answered")
        for m in slow:
            assert bridge.answers.pop(json.dumps(m["id"]))["body"]["code"] == 200
    finally:
        server.answer = lambda *_: (200, {})


def test_settings_from_the_environment(server, tmp_path):
    m = json.dumps({"id": 1, "type": "read", "from": ME, "to": TO, "body": {"resource": U}})
    env = {"NODE_REGISTRY_URL": "http://" + server.address, "NODE_REGISTRY_RETRIES": "3"}
    for answer, n, more, code in ((lambda *_: None, 3, {}, 504), (lambda *_: (200, {}), 1, {}, 200), (lambda *_: (200, {}), 0, {"NODE_DOMAIN": "elsewhere.example"}, 404)):
        server.answer = answer
        server.take()
        _, out, err = sinew(tmp_path, "registry", "send", m, env={**env, **more})
        assert (json.loads(out)["body"]["code"], len(server.take())) == (code, n), err
    server.answer = lambda *_: (200, {})
    assert sinew(tmp_path, "registry", "send", "nonsense", env=env)[0] in (0, 2)
    for word in ("cert", "key", "ca"):
        files = {w: "there.pem" for w in ("cert", "key", "ca")}
        files[word] = "missing.pem"
        (tmp_path / "there.pem").write_text("x")
        status, _, err = sinew(tmp_path, "registry", "send", m, config="bridge:\n  url: https://127.0.0.1:1\n  ssl: {enabled: true, %s}\n" %
                               ", ".join("%s: %s" % f for f in files.items()))
        assert status in (1, 2) and ("missing.pem" in err or "there.pem" in err), err


# A runtime by WebSocket, with the registry of ours behind it.


def test_the_manuals_messages_by_websocket(tmp_path):
    """A runtime registers, is found, reports a data object, and leaves; with texts as ids and types in upper case."""
    registry, at = local(), local()
    runtime = "hyperty-runtime://nimbus.example/rt-1/registry"
    with Sinew(tmp_path, "registry", "serve", "--listen", registry, env={"STORAGE_TYPE": "RAM"}), \
            Sinew(tmp_path, "bridge", "--listen", at, "--url", "http://" + registry):
        things.listening(registry)
        things.listening(at)
        ws = WebSocket(at)

        def ask(type_, body, sender=ME):
            return ws.ask({"id": "1", "type": type_, "from": sender, "to": TO, "body": body})
        value = {"id": "x", "hypertyURL": "hyperty://nimbus.example/h1", "hypertyDescriptorURL": "hyperty-catalogue://c/.well-known/hyperty/H", "user": U}
        assert ask("CREATE", {"value": value}, runtime) == {"code": 200}
        r = ask("READ", {"resource": "/hyperty-instance/user/" + U})
        assert r["code"] == 200 and [h["hypertyID"] for h in r["value"]] == ["hyperty://nimbus.example/h1"]
        assert r["value"][0]["runtime"] == "hyperty-runtime://nimbus.example/rt-1" and r["value"][0]["expires"] == 3600
        assert ask("CREATE", {"value": {**D, "reporter": "hyperty://nimbus.example/h1", "runtime": "r"}}) == {"code": 200}
        r = ask("READ", {"resource": "/hyperty-data-object-instance/comm/owner/" + U})
        assert r["code"] == 200 and [o["url"] for o in r["value"]] == [DO]
        assert ask("DELETE", {"value": value}, runtime) == {"code": 200}
        r = ask("READ", {"resource": "/hyperty-instance/user/" + U})
        assert r["code"] == 408 and r["description"] == "Temporarily Unavailable" and r["value"][0]["status"] == "disconnected"
        # fragments, a ping between them, and texts that are no messages
        m = json.dumps({"id": 2, "type": "read", "from": ME, "to": TO, "body": {"resource": U}}, ensure_ascii=False).encode()
        ws.send(m[:20], fin=False)
        ws.send(b"hello", op=9)
        ws.send(m[20:], op=0)
        seen = [ws.take(), ws.take()]
        assert (10, b"hello") in seen and [json.loads(d)["body"]["code"] for op, d in seen if op == 1] == [408]
        for text in (b"", b"nonsense", b"[]", b"7", b'{"id":1', b"null"):
            assert ws.ask(text if text else b" ")["code"] == 400
        ws.send(b"\xff\xfe")
        op, data = ws.take()
        assert op == 8 and struct.unpack(">H", data[:2])[0] == 1007 or op == 1 and json.loads(data)["body"]["code"] == 400
        ws.close()
        ws = WebSocket(at)
        ws.send(b"x", op=2)
        op, data = ws.take()
        assert (op, struct.unpack(">H", data[:2])[0]) == (8, 1003)
        ws.close()
