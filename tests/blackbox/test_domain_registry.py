# SPDX-License-Identifier: Apache-2.0
"""`sinew registry serve` against the description of the domain registry, by a client made of a socket."""
import json
import re
import ssl
import threading
import time

import pytest

import things
import certs  # by the path of things.py
from things import FULL, OBJECT, Client, Sinew, local, path, seg

NEED = ("resources", "dataSchemes", "descriptor", "status", "expires", "runtime")
NOT_FOUND = b'{"message":"Not Found"}'
numbers = iter(range(1 << 30))


class Registry(Sinew):
    def __init__(self, folder, *args, config=None, env=None, tls=None, store="RAM"):
        self.address = local()
        env = {"STORAGE_TYPE": store, "EXPIRES": "3600", **(env or {})}
        super().__init__(folder, "registry", "serve", "--listen", self.address, *args, config=config, env=env)
        try:
            things.listening(self.address)
        except AssertionError as e:
            self.end()
            raise AssertionError("%s: %s" % (e, self.err))

    def client(self, tls=None):
        return Client(self.address, tls)


@pytest.fixture(scope="module", params=["RAM", "SQLITE"])
def ask(request, tmp_path_factory):
    with Registry(tmp_path_factory.mktemp("registry"), store=request.param) as r:
        c = r.client()
        yield c
        c.close()


@pytest.fixture
def user():
    return "user://id.d/blackbox-%d" % next(numbers)


def hyperty(user, n=1):
    return "hyperty://d/%s/%d" % (user.rsplit("-", 1)[1], n)


def put(ask, user, h, **change):
    value = {k: v for k, v in {**FULL, **change}.items() if v is not None}
    if "guid" not in change:
        value["guid"] = "user-guid://" + user
    assert ask.json("PUT", path("hyperty", "user", user, h), value) == (200, {"message": "Hyperty created"})


def test_an_instance_has_its_members_in_their_order(ask, user):
    a, b = hyperty(user, 1), hyperty(user, 2)
    put(ask, user, a)
    put(ask, user, b, guid=None, p2pRequester=None, p2pHandler=None)
    status, text = ask("GET", path("hyperty", "url", a))
    got = json.loads(text)
    assert status == 200 and ask.headers["content-type"] == "application/json"
    assert list(got) == ["resources", "dataSchemes", "descriptor", "startingTime", "hypertyID", "userID", "lastModified", "status",
                         "expires", "guid", "runtime", "p2pRequester", "p2pHandler"]
    assert {**got, **FULL, "guid": got["guid"]} == got and got["hypertyID"] == a and got["userID"] == user
    for t in ("startingTime", "lastModified"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", got[t])
        assert abs(time.time() - time.mktime(time.strptime(got[t], "%Y-%m-%dT%H:%M:%SZ")) + time.timezone) < 60
    status, plain = ask.json("GET", path("hyperty", "url", b))
    assert status == 200 and len(plain) == 10
    assert ask.json("GET", path("hyperty", "user", user)) == (200, {a: got, b: plain})
    assert ask.json("GET", path("hyperty", "guid", got["guid"])) == (200, {a: got, b: plain})
    assert ask.json("GET", path("hyperty", "email", user.rsplit("/", 1)[1])) == (200, {a: got, b: plain})


def test_a_data_object_has_its_members_in_their_order(ask, user):
    url, name, reporter = "comm://d/" + user, "name of " + user, "hyperty://d/" + user
    value = {**OBJECT, "name": name, "reporter": reporter, "url": "comm://d/another", "startingTime": "x", "unknown": 1}
    assert ask.json("PUT", path("hyperty", "dataobject", url), value) == (200, {"message": "Data object created"})
    status, got = ask.json("GET", path("hyperty", "dataobject", "url", url))
    assert status == 200
    assert list(got) == ["schema", "url", "reporter", "name", "status", "startingTime", "resources", "dataSchemes", "lastModified",
                         "expires", "runtime", "p2pRequester"]
    assert got["url"] == url and got["startingTime"] != "x"
    for how, key in (("name", name), ("reporter", reporter)):
        assert ask.json("GET", path("hyperty", "dataobject", how, key)) == (200, {url: got})
    for how, key in (("url", url), ("name", name), ("reporter", reporter)):
        p = path("hyperty", "dataobject", how, key, "do")
        assert ask.json("GET", p + "?resources=chat") == (200, {url: got})
        assert ask.json("GET", p + "?dataSchemes=comm&resources=chat") == (200, {url: got})
        for q in ("?resources=chat,video", "", "?x=1", "?resources=chat&x=1", "?resources=Chat"):
            assert ask("GET", p + q) == (404, NOT_FOUND), q
        assert ask("GET", path("hyperty", "dataobject", how, key + "x")) == (404, NOT_FOUND)
        assert ask("GET", path("hyperty", "dataobject", how, key + "x", "do") + "?resources=chat") == (404, NOT_FOUND)
    # it moves between names and reporters, and answers without statusChanged
    p = path("dataobject", "url", url)
    assert ask.json("PUT", p, {}) == (200, {"message": "Keep alive"})
    assert ask.json("PUT", p, " { } ") == (200, {"message": "Keep alive"})
    assert ask.json("PUT", p, {"name": name + "2", "reporter": None}) == (200, {"message": "data object updated"})
    assert ask("GET", path("hyperty", "dataobject", "name", name)) == (404, NOT_FOUND)
    assert ask.json("GET", path("hyperty", "dataobject", "name", name + "2"))[1][url]["reporter"] == reporter
    assert ask.json("PUT", p, {"reporter": reporter + "2"}) == (200, {"message": "data object updated"})
    assert ask("GET", path("hyperty", "dataobject", "reporter", reporter)) == (404, NOT_FOUND)
    p = path("hyperty", "dataobject", "url", url)
    for _ in range(2):
        assert ask.json("DELETE", p) == (200, {"message": "Data object deleted"})
        status, gone = ask.json("GET", p)  # never 408
        assert (status, gone["status"]) == (200, "disconnected")
    assert ask("DELETE", p + "x") == (404, NOT_FOUND)
    for body in ({}, {"name": "x"}):
        assert ask("PUT", path("dataobject", "url", url + "x"), body) == (404, NOT_FOUND)
    for key in OBJECT:
        if key != "p2pRequester":
            value = {k: v for k, v in OBJECT.items() if k != key}
            assert ask("PUT", path("hyperty", "dataobject", url + key), value) == (400, b""), key
            assert ask("PUT", path("hyperty", "dataobject", url + key), {**value, key: None}) == (400, b""), key
            assert ask("GET", path("hyperty", "dataobject", "url", url + key)) == (404, NOT_FOUND)


def test_what_is_no_body(ask, user):
    p = path("hyperty", "user", user, hyperty(user))
    text = json.dumps(FULL)
    bad = ["", " ", "null", "1", '"x"', "[]", "[{}]", "{", text[:-1], text + "}", text + text, "{'a':1}", text.replace("live", "li\nve"),
           text.encode().replace(b"live", b"li\xffve"), text.encode().replace(b"live", b"\xed\xa0\x80"), text.replace("live", "\\u0000"),
           text.replace("live", "\\ud800"), text.replace("3000", "NaN"), text.replace("3000", "03000"),
           text.replace('"status"', '"status": "live", "status"'),
           "[" * 100000, '{"a":' * 20000]
    bad += [{k: v for k, v in FULL.items() if k != key} for key in NEED] + [{**FULL, key: None} for key in NEED]
    for key in FULL:
        wrong = [[{}], {}] + (["x", [1, [2]], [None]] if key in ("resources", "dataSchemes") else [["x"]])
        if key == "expires":
            wrong = ["x", "", "1x", 1.5, True, [1], {}, 2 ** 31, -2 ** 31 - 1, "2147483648", 1e300]
        bad += [{**FULL, key: w} for w in wrong]
    bad += [{**FULL, "resources": ["x"] * 257}, {**FULL, "dataSchemes": [str(i) for i in range(300)]}]
    for body in bad:
        assert ask("PUT", p, body) == (400, b""), body
    assert ask("PUT", p) == (400, b"")  # none at all
    assert ask("GET", p.rsplit("/", 1)[0]) == (404, NOT_FOUND)
    put(ask, user, hyperty(user), resources=[str(i) for i in range(256)])
    for expires, kept in (("77", 77), (78.0, 78), (0, 0), (-5, -5), (2 ** 31 - 1, 3600), (3601, 3600), (-2 ** 31, -2 ** 31)):
        put(ask, user, hyperty(user, 2), expires=expires)
        assert ask.json("GET", path("hyperty", "url", hyperty(user, 2)))[1]["expires"] == kept
    status, _ = ask("PUT", p, b'{"descriptor":"' + b"x" * (1 << 20) + b'"}')
    assert status == 413
    for wrong in ([], "x", 7, None):
        assert ask("PUT", path("hyperty", "url", hyperty(user)), json.dumps(wrong)) == (400, b""), wrong


def test_updates_and_keep_alives(ask, user):
    h = hyperty(user)
    p = path("hyperty", "url", h)
    for body in ({}, {"status": "live"}):
        assert ask("PUT", p, body) == (404, NOT_FOUND)
    put(ask, user, h, status="created")
    ok = lambda changed, message: (200, {"statusChanged": changed, "message": message})
    for body in ("{}", " {\t\r\n} "):
        status, text = ask("PUT", p, body)
        assert (status, text) == (200, b'{"statusChanged":"%s","message":"Keep alive"}' % (b"true" if body == "{}" else b"false"))
    assert ask.json("PUT", p, {"resources": ["file"], "p2pHandler": None}) == ok("false", "Hyperty updated")
    assert ask.json("PUT", p, {"status": "live"}) == ok("false", "Hyperty updated")
    assert ask.json("PUT", p, {"status": "paused"}) == ok("true", "Hyperty updated")
    assert ask.json("PUT", p, {"userID": "user://id.d/mallory", "hypertyID": "x", "startingTime": "x", "lastModified": "y", "url": "z",
                               "unknown": [{}], "guid2": 1, "expires": 99999}) == ok("false", "Hyperty updated")
    got = ask.json("GET", p)[1]
    assert (got["resources"], got["p2pHandler"], got["status"], got["expires"]) == (["file"], "h", "paused", 3600)
    assert (got["userID"], got["hypertyID"]) == (user, h) and got["startingTime"] != "x"
    assert ask("GET", path("hyperty", "user", "user://id.d/mallory")) == (404, NOT_FOUND)
    for wrong in ({"expires": "x"}, {"resources": 7}, {"status": {}}, {"resources": ["x"] * 257}, '{"status":"a","status":"b"}'):
        assert ask("PUT", p, wrong) == (400, b""), wrong
    assert ask.json("DELETE", path("hyperty", "user", user, h)) == (200, {"message": "Hyperty deleted"})
    status, gone = ask.json("GET", p)
    assert (status, gone["status"]) == (408, "disconnected")
    assert ask.json("PUT", p, {"resources": ["chat"]}) == ok("false", "Hyperty updated")  # does not revive it
    assert ask.json("GET", p)[0] == 408
    assert ask.json("DELETE", path("hyperty", "user", user, h)) == (200, {"message": "Hyperty deleted"})
    for key in (("user", user), ("guid", "user-guid://" + user), ("email", user.rsplit("/", 1)[1])):
        status, all_ = ask.json("GET", path("hyperty", *key))
        assert (status, list(all_)) == (408, [h]), key
    assert ask.json("GET", path("hyperty", "user", user, "hyperty") + "?resources=chat")[0] == 408
    assert ask.json("PUT", p, {}) == ok("true", "Keep alive")
    assert ask.json("GET", path("hyperty", "user", user))[0] == 200
    # a replacing create: an optional member that is not given disappears, startingTime stays
    put(ask, user, h, p2pHandler=None)
    again = ask.json("GET", p)[1]
    assert "p2pHandler" not in again and again["startingTime"] == got["startingTime"]


def test_whose_it_is(ask, user):
    h, other = hyperty(user), user + "/other"
    put(ask, user, h)
    put(ask, other, hyperty(user, 2), guid=None)
    for who in (other, user + "/nobody"):
        assert ask("PUT", path("hyperty", "user", who, h), FULL) == (404, NOT_FOUND)
        assert ask("DELETE", path("hyperty", "user", who, h)) == (404, NOT_FOUND)
        assert ask("PUT", path("hyperty", "user", who, h), {"status": "live"}) == (400, b"")  # 400 wins
    assert ask("DELETE", path("hyperty", "user", user, h))[0] == 200
    assert ask("PUT", path("hyperty", "user", other, h), FULL) == (404, NOT_FOUND)  # a deleted one, too
    assert ask("DELETE", path("hyperty", "user", user, h + "x")) == (404, NOT_FOUND)


def test_guids_and_emails(ask, user):
    email = user.rsplit("/", 1)[1]
    other = "user://another.d/x/" + email
    g, g2 = "user-guid://" + user, "user-guid://2-" + user
    a, b, c, d = [hyperty(user, n) for n in range(4)]
    by = lambda how, what: ask.json("GET", path("hyperty", how, what))
    put(ask, user, a, guid=None)
    assert by("guid", g)[0] == 404
    put(ask, user, a, guid=g)  # bound by a replacing create, too
    assert list(by("guid", g)[1]) == [a]
    put(ask, user, b, guid=g2)
    for guid in (g, g2):  # all of the user's, whatever their own say
        assert set(by("guid", guid)[1]) == {a, b}
    put(ask, other, c, guid=g2)  # the last create wins
    assert (set(by("guid", g2)[1]), set(by("guid", g)[1])) == ({c}, {a, b})
    put(ask, email, d, guid=None)  # a plain identifier is its own
    assert set(by("email", email)[1]) == {a, b, c, d}
    for h, u in ((a, user), (b, user), (c, other)):
        assert ask("DELETE", path("hyperty", "user", u, h))[0] == 200
    status, all_ = by("email", email)
    assert status == 200 and {h: x["status"] for h, x in all_.items()} == {a: "disconnected", b: "disconnected", c: "disconnected", d: "live"}
    assert (by("guid", g)[0], by("guid", g2)[0], by("user", email)[0]) == (408, 408, 200)
    assert ask("DELETE", path("hyperty", "user", email, d))[0] == 200
    assert by("email", email)[0] == 408
    assert ask("PUT", path("hyperty", "url", b), {"status": "live"})[0] == 200
    assert (by("email", email)[0], by("guid", g)[0], by("guid", g2)[0]) == (200, 200, 408)
    put(ask, user + "-slash/", hyperty(user, 9), guid=None)
    assert list(by("email", email + "-slash")[1]) == [hyperty(user, 9)]
    for wrong in (email + "x", "", user):
        assert ask("GET", path("hyperty", "email", wrong))[0] == 404, wrong


def test_advanced_search(ask, user):
    email = user.rsplit("/", 1)[1]
    have = {1: (["chat", "audio"], ["comm"]), 2: (["chat"], ["comm", "connection"]), 3: (["video", "a b", "ü"], []), 4: ([], ["chat"]),
            5: (["chat"], ["comm"])}
    for n, (r, s) in have.items():
        put(ask, user, hyperty(user, n), resources=r, dataSchemes=s, status="disconnected" if n == 5 else "live")
    for q, want in (("resources=chat", {1, 2, 5}), ("resources=chat,audio", {1}), ("resources=audio,chat,chat", {1}), ("resources=chat%2Caudio", {1}),
                    ("dataSchemes=comm", {1, 2, 5}), ("resources=chat&dataSchemes=connection", {2}), ("dataSchemes=connection&resources=chat", {2}),
                    ("resources=video&dataSchemes=comm", None), ("resources=chat,", {1, 2, 5}), ("resources=chat,,", {1, 2, 5}),
                    ("resources=,chat", None), ("resources=", None), ("resources=chat,,audio", None), ("resources=,", {1, 2, 3, 4, 5}),
                    ("resources=a+b", {3}), ("resources=a%20b", {3}), ("resources=%C3%BC", {3}), ("resources=CHAT", None), ("dataSchemes=chat", {4}),
                    ("resources=chat&resources=video", {1, 2, 5}), ("resources=video&resources=chat", {3}), ("", None), ("x=1", None),
                    ("resources=chat&x=1", None), ("resource=chat", None), ("Resources=chat", None), ("resources=nothing", None)):
        for how, key in (("user", user), ("email", email)):
            p = path("hyperty", how, key, "hyperty") + ("?" + q if q else "")
            if want is None:
                assert ask("GET", p) == (404, NOT_FOUND), p
            else:
                status, got = ask.json("GET", p)
                assert (status, set(got)) == (200, {hyperty(user, n) for n in want}), p
    assert ask("PUT", path("hyperty", "url", hyperty(user, 3)), {"status": "disconnected"})[0] == 200
    assert ask.json("GET", path("hyperty", "user", user, "hyperty") + "?resources=video")[0] == 408  # another one lives
    status, got = ask.json("GET", path("hyperty", "user", user) + "?resources=video")  # ignored
    assert (status, len(got)) == (200, 5)
    assert ask("GET", path("hyperty", "user", user + "x", "hyperty") + "?resources=chat") == (404, NOT_FOUND)
    for name in ("hyperty", "do", "anything"):
        assert ask("GET", path("hyperty", "user", user, name))[0] == 404


def test_identifiers_and_paths(ask, user):
    tail = user.rsplit("-", 1)[1]
    odd = ["%s %%41+&=?#;:@'\"<>\\|^`{}[]~!*()$," % tail, "日本語/ü/\u007f/" + tail, "..", ".", "a/../b" + tail, "hyperty", "url/" + tail, "x" * 2048]
    for n, h in enumerate(odd):
        put(ask, user, h, guid=None)
        status, got = ask.json("GET", path("hyperty", "url", h))
        assert (status, got["hypertyID"]) == (200, h)
    assert set(ask.json("GET", path("hyperty", "user", user))[1]) == set(odd)
    every = "".join("%%%02x" % b for b in user.encode())  # lower-case hex, and what need not be escaped
    assert set(ask.json("GET", "/hyperty/user/" + every)[1]) == set(odd)
    assert ask("GET", path("hyperty", "user", user) + "/")[0] == 200
    assert ask("GET", "/" + path("hyperty", "user", user))[0] == 200
    for p in (path("hyperty", "user", user).replace("/user/", "//user/"), path("hyperty", "user") + "//" + seg(user)):
        assert ask("GET", p)[0] == 404, p
    put(ask, user, "plus+" + tail, guid=None)
    assert ask("GET", "/hyperty/url/plus+" + tail)[0] == 200
    assert ask("GET", "/hyperty/url/plus%20" + tail)[0] == 404
    for bad in ("%", "%4", "%zz", "%4g", "%00", "a%00b", "%ff", "%c3%28", "%ed%a0%80", "%c0%af", "%", "%%41"):
        assert ask("GET", "/hyperty/url/" + bad) == (400, b""), bad
        assert ask("PUT", "/hyperty/user/u/" + bad, FULL) == (400, b""), bad
    assert ask("PUT", path("hyperty", "user", user, "x" * 2049), FULL) == (400, b"")
    assert ask("PUT", path("hyperty", "user", "ü" * 1025, "x"), FULL) == (400, b"")
    for p in ("/hyperty/user/user://d/bob", "/hyperty", "/hyperty/", "/hyperty/user", "/hyperty/user/", "/hyperty/url/", "/hyperty/x/y", "/dataobject",
              "/dataobject/url", "/dataobject/url/x", "/hyperty/dataobject", "/hyperty/dataobject/x", "/throwexception", "/nothing", "/LIVE",
              "/hyperty/user/a/b", "/hyperty/user/a/b/c", "/hyperty/url/a/b", "/registry", "/live/x"):
        assert ask("GET", p)[0] == 404, p
    for p in ("/hyperty/user/x", "/hyperty/user/a/b/c", "/hyperty", "/hyperty/url/a/b", "/hyperty/dataobject/a/b/c", "/hyperty/guid/x", "/live", "/"):
        assert ask("PUT", p, FULL)[0] == 404, p
    for p in ("/hyperty/user/x", "/hyperty/url/x", "/dataobject/url/x", "/live"):
        assert ask("DELETE", p)[0] == 404, p


def test_targets_that_are_too_long(ask):
    for n in (9000, 65536):
        ask.close()
        try:
            status, _ = ask("GET", "/hyperty/url/" + "x" * n)
        except (AssertionError, ConnectionResetError):
            status = 414
            ask.close()
        assert status == 414
    assert ask("GET", "/live")[0] == 200


def test_other_methods(ask, user):
    h = hyperty(user)
    put(ask, user, h)
    p = path("hyperty", "url", h)
    for target in (p, path("hyperty", "user", user), "/live", "/hyperty/url/no", "/error", "/", "/nothing"):
        status, body = ask("GET", target)
        length = ask.headers["content-length"]
        assert ask("HEAD", target) == (status, b"") and ask.headers.get("content-length") == length, target
    for method in ("POST", "PATCH", "OPTIONS", "TRACE", "LINK", "get", "PROPFIND"):
        status, _ = ask(method, p)
        assert status in (404, 501) or method == "OPTIONS" and status == 404, method
        ask.close()
    for name in ("X_HTTP_Method_Override", "X_HTTP_Method", "X_Method_Override"):
        assert ask.json("GET", p, **{name: "DELETE"})[1]["status"] == "live"
        assert ask("POST", path("hyperty", "user", user, h), **{name: "DELETE"})[0] == 404
        assert ask.json("PUT", p, {}, **{name: "DELETE"})[1]["message"] == "Keep alive"
    assert ask.json("GET", p)[0] == 200
    assert ask("GET", "/error") == (401, b'{"message":"Unauthorized."}')
    assert ask("GET", "/")[0] == 302 and ask.headers["location"].endswith("/live")


def test_requests_in_a_row_and_in_pieces(ask, user):
    put(ask, user, hyperty(user))
    p = path("hyperty", "user", user)
    one = ("GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (p, ask.address)).encode()
    ask.s.sendall(one * 20)
    assert {ask.read() for _ in range(20)} == {ask("GET", p)}
    for i in range(len(one)):
        ask.s.sendall(one[i:i + 1])
    assert ask.read()[0] == 200
    body = b"{}"
    ask.s.sendall(("PUT %s HTTP/1.1\r\nHost: x\r\nHost: %s\r\nContent-Length: 2\r\n\r\n" % (path("hyperty", "url", hyperty(user)), ask.address)).encode() + body)
    assert ask.read()[0] in (400, 421)  # two hosts
    ask.close()
    for bad in ("Content-Length: 2\r\nContent-Length: 3", "Content-Length: -1", "Content-Length: 2\r\nTransfer-Encoding: chunked", "Content-Length: 2x"):
        ask.open()
        ask.s.sendall(("PUT /hyperty/url/x HTTP/1.1\r\nHost: %s\r\n%s\r\n\r\n{}" % (ask.address, bad)).encode())
        assert ask.read()[0] == 400, bad
        ask.close()
    ask.open()
    ask.s.sendall(("PUT %s HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n" %
                   (path("hyperty", "url", hyperty(user)), ask.address)).encode())
    assert ask.read()[0] == 200


# What needs the clock. One wait for all.

def test_expiry(tmp_path):
    with Registry(tmp_path, store="RAM") as ram, Registry(tmp_path, store="SQLITE") as sqlite:
        clients = [r.client() for r in (ram, sqlite)]
        seen = [expiry_begins(c) for c in clients]
        time.sleep(2.1)
        for c, listed in zip(clients, seen):
            expiry_seen(c, listed)
            c.close()


def expiry_begins(ask):
    names = ["user", "guid", "email", "url", "filter", "emailfilter", "mixed", "updated", "alive", "deleted"]
    for n in names:
        put(ask, "user://d/" + n, "hyperty://d/" + n, expires=0 if n == "url" else 1, guid="user-guid://" + n)
    put(ask, "user://d/mixed", "hyperty://d/lives")
    for n in ("url", "name", "reporter", "do"):
        value = {**OBJECT, "name": "n-" + n, "reporter": "r-" + n, "expires": 1}
        assert ask("PUT", path("hyperty", "dataobject", "comm://d/" + n), value)[0] == 200
    assert ask("DELETE", path("hyperty", "user", "user://d/deleted", "hyperty://d/deleted"))[0] == 200
    status, listed = ask.json("GET", "/registry/updated")
    assert status == 200 and "hyperty://d/deleted" in listed
    return listed


def expiry_seen(ask, seen):
    assert ask.json("GET", "/registry/updated") == (200, {})  # nothing has looked at them
    assert ask.json("PUT", path("hyperty", "url", "hyperty://d/alive"), {})[1]["message"] == "Keep alive"
    for n, p in (("user", path("hyperty", "user", "user://d/user")), ("guid", path("hyperty", "guid", "user-guid://guid")),
                 ("email", path("hyperty", "email", "email")), ("filter", path("hyperty", "user", "user://d/filter", "hyperty") + "?resources=chat"),
                 ("emailfilter", path("hyperty", "email", "emailfilter", "hyperty") + "?resources=chat")):
        status, got = ask.json("GET", p)
        assert (status, list(got), got["hyperty://d/" + n]["status"]) == (408, ["hyperty://d/" + n], "disconnected"), n
    status, got = ask.json("GET", path("hyperty", "url", "hyperty://d/url"))
    assert (status, got["status"]) == (408, "disconnected") and got["lastModified"] == got["startingTime"]
    status, got = ask.json("GET", path("hyperty", "user", "user://d/mixed"))
    assert status == 200 and {k: v["status"] for k, v in got.items()} == {"hyperty://d/mixed": "disconnected", "hyperty://d/lives": "live"}
    for n, p in (("url", path("hyperty", "dataobject", "url", "comm://d/url")), ("name", path("hyperty", "dataobject", "name", "n-name")),
                 ("reporter", path("hyperty", "dataobject", "reporter", "r-reporter")),
                 ("do", path("hyperty", "dataobject", "name", "n-do", "do") + "?resources=chat")):
        status, got = ask.json("GET", p)
        assert (status, (got if n == "url" else got["comm://d/" + n])["status"]) == (200, "disconnected"), n
    status, got = ask.json("GET", "/registry/updated")
    want = {"hyperty://d/" + n for n in ("user", "guid", "email", "url", "filter", "emailfilter", "mixed")} | {
        "comm://d/" + n for n in ("url", "name", "reporter", "do")}
    assert set(got) == want - set(seen) and all(v["status"] == "disconnected" for v in got.values())
    assert ask.json("GET", "/registry/updated") == (200, {})
    # a revival takes it off the list; what clients write as disconnected is not on it
    assert ask("DELETE", path("hyperty", "user", "user://d/mixed", "hyperty://d/lives"))[0] == 200
    assert ask("PUT", path("hyperty", "url", "hyperty://d/lives"), {})[0] == 200
    put(ask, "user://d/written", "hyperty://d/written", status="disconnected", guid=None)
    assert ask.json("GET", "/registry/updated") == (200, {})


@pytest.mark.parametrize("store", ["RAM", "SQLITE"] if things.LONG else ["SQLITE"])
def test_the_heartbeat_and_several_who_ask_for_changes(tmp_path, store):
    """Each change is told once, to one of them."""
    with Registry(tmp_path, store=store, env={"EXPIRES": "1", "EXPIRES_MAX": "100"}) as r:
        ask = r.client()
        n = 300
        for i in range(n):
            put(ask, "user://d/%d" % (i % 7), "hyperty://d/%d" % i, expires=1, guid=None)
        put(ask, "user://d/max", "hyperty://d/max", expires=5000)
        assert ask.json("GET", path("hyperty", "url", "hyperty://d/max"))[1]["expires"] == 100
        got, lock, stop = [], threading.Lock(), threading.Event()

        def poll():
            c = r.client()
            while not stop.is_set():
                keys = list(c.json("GET", "/registry/updated")[1])
                with lock:
                    got.extend(keys)
                time.sleep(0.02)
            c.close()
        threads = [threading.Thread(target=poll) for _ in range(4)]
        for t in threads:
            t.start()
        things.until(lambda: len(got) >= n, "all are told")
        stop.set()
        for t in threads:
            t.join()
        assert sorted(got) == sorted("hyperty://d/%d" % i for i in range(n))
        ask.close()


def test_nothing_acknowledged_is_lost(tmp_path):
    """kill -9 under four writers, three times; SQLite."""
    done, state, stop = {}, tmp_path / "state", threading.Event()
    state.mkdir()

    def write(address, who):
        c = Client(address)
        i = 0
        try:
            while not stop.is_set():
                h = "hyperty://d/%s-%d" % (who, i % 50)
                i += 1
                status = "s%s-%d" % (who, i)
                if c("PUT", path("hyperty", "user", "user://d/" + who, h), {**FULL, "status": status, "guid": "user-guid://" + who})[0] == 200:
                    done[h] = i
        except (OSError, AssertionError, ValueError, IndexError):
            pass
    for turn in range(3):
        with Registry(tmp_path, "--state", str(state), store="SQLITE") as r:
            c = r.client()
            for h, mark in list(done.items()):
                status, got = c.json("GET", path("hyperty", "url", h))
                assert status == 200 and int(got["status"].split("-")[2]) >= mark, (h, mark, got)
            if done:
                assert c.json("GET", path("hyperty", "guid", "user-guid://%d-0" % (turn - 1)))[0] == 200
            c.close()
            done.clear()
            stop.clear()
            threads = [threading.Thread(target=write, args=(r.address, "%d-%d" % (turn, i))) for i in range(4)]
            for t in threads:
                t.start()
            things.until(lambda: len(done) > 100, "there are writes")
            r.p.kill()
            r.p.wait()
            stop.set()
            for t in threads:
                t.join()


# What the environment says.

def test_live(tmp_path):
    with Registry(tmp_path) as r:
        c = r.client()
        for accept in ("text/html", "*/*"):
            status, body = c("GET", "/live", Accept=accept)
            assert (status, body) == (200, b'{"status":"up","Storage_type":"Ram","Hyperties_stored":"0"}')
        put(c, "user://d/a", "hyperty://d/a", guid=None)
        put(c, "user://d/a", "hyperty://d/b", guid=None, status="disconnected")
        assert c("PUT", path("hyperty", "dataobject", "comm://d/1"), OBJECT)[0] == 200
        assert c.json("GET", "/live")[1]["Hyperties_stored"] == "2"
        c.close()


EVIL = "</li><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"


def test_the_page_is_not_injectable(tmp_path):
    with Registry(tmp_path, env={"DOMAIN_ENV": "DEVELOPMENT"}) as r:
        c = r.client()
        for n, user in enumerate((EVIL, "javascript:alert(1)", "user://d/plain")):
            put(c, user, EVIL + str(n), **{k: EVIL for k in ("descriptor", "status", "runtime", "p2pRequester", "p2pHandler")},
                guid="user-guid://" + EVIL, resources=[EVIL, "two"], dataSchemes=[EVIL], expires=3600)
        put(c, "user://d/plain", "hyperty://d/plain", guid="user-guid://plain", p2pHandler=None, p2pRequester=None)
        assert c("GET", "/live")[1].startswith(b"{")
        status, page = c("GET", "/live", Accept="text/html,application/xhtml+xml;q=0.9")
        text = page.decode()
        assert status == 200 and c.headers["content-type"].startswith("text/html")
        for evil in ("<script", "<img", "</li></li>", "onerror=alert(1)>", "\"'>", "href=\"javascript", "href='javascript"):
            assert evil not in text.lower(), evil
        visible = re.sub(r"<(style|head)\b.*?</\1>|<[^>]*>", "", text, flags=re.S)
        visible = re.sub(r"\s+", " ", visible)
        order = ["Domain Registry Status Page", "Storage type: Ram, Users with Hyperties: 2, Hyperties stored: 4"]
        at = [visible.index(w) for w in order]
        assert at == sorted(at)
        for word in ("GUID: user-guid://plain User: user://d/plain Total Hyperties: 2 Active Hyperties: 1 Disconnected Hyperties: 1", "HypertyID: hyperty://d/plain",
                     "Descriptor:", "DataSchemes:", "Starting Time:", "Last Modified:", "Status:", "Expires: 3600", "Resources:",
                     "Peer-To-Peer Requester:", "Peer-To-Peer Handler:", "Runtime:"):
            assert word in visible, word
        assert "http://%s/hyperty/user/user%%3A%%2F%%2Fd%%2Fplain" % r.address in text
        assert "http://%s/hyperty/url/hyperty%%3A%%2F%%2Fd%%2Fplain" % r.address in text
        for host in ("x\"><script>alert(2)</script>", "127.0.0.1:1/<script>", "localhost:80\" onmouseover=\"x"):
            c.close()
            status, page = c("GET", "/live", Accept="text/html", Host=host)
            assert status in (400, 421) or b"<script" not in page and b"onmouseover" not in page
        c.close()


def test_the_load_balancer(tmp_path):
    with Registry(tmp_path, env={"LOAD_BALANCER_IP": "10.9.8.7"}) as r:
        c = r.client()
        for target in ("/live", "/error", "/", "/hyperty/url/x", "/nothing"):
            assert c("GET", target, X_Forwarded_For="10.9.8.7") == (401, b"Unauthorized request")
            assert c.headers["content-type"] == "text/html;charset=utf-8"
        assert c("PUT", path("hyperty", "user", "a", "b"), FULL)[0] == 401
        c.close()
    with Registry(tmp_path, env={"LOAD_BALANCER_IP": "::ffff:127.0.0.1"}) as r:
        c = r.client()
        assert c("GET", "/live")[0] == 200
        c.close()


def test_creates_of_the_manuals_time(tmp_path):
    p = path("hyperty", "user", "user://d/u", "hyperty://d/h")
    with Registry(tmp_path) as r:
        c = r.client()
        assert c("PUT", p, {"descriptor": "d"}) == (400, b"")
        c.close()
    with Registry(tmp_path, env={"LEGACY_PUT": "1", "EXPIRES_MAX": "50"}) as r:
        c = r.client()
        assert c("PUT", p, {"descriptor": "d"}) == (200, b'{"message":"Hyperty created"}')
        got = c.json("GET", path("hyperty", "url", "hyperty://d/h"))[1]
        assert {k: got[k] for k in NEED} == {"descriptor": "d", "expires": 50, "resources": [], "dataSchemes": [], "status": "live", "runtime": ""}
        assert c("PUT", p, {"descriptor": "d", "status": "live"}) == (400, b"")
        assert c("PUT", p, {"descriptor": "d", "x": 1}) == (400, b"")
        c.close()


@pytest.mark.parametrize("env", [{"STORAGE_TYPE": "CASSANDRA"}, {"STORAGE_TYPE": "Ram2"}, {"EXPIRES": "0"}, {"EXPIRES": "x"},
                                 {"KEYSTORE": "a.jks", "KEYSTORE_PASSWORD": "x"}])
def test_settings_that_cannot_be_served(tmp_path, env):
    status, _, err = things.sinew(tmp_path, "registry", "serve", "--listen", local(), env={"STORAGE_TYPE": "RAM", **env})
    assert status == 2 and err


# TLS.

def test_writes_need_a_certificate(tmp_path):
    for ca in ("ca", "evil"):
        certs.authority(tmp_path, ca)
    for name, ca in (("server", "ca"), ("node", "ca"), ("mallory", "evil")):
        certs.leaf(tmp_path, name, ca)

    def context(name=None):
        c = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        if name:
            c.load_cert_chain(str(tmp_path / (name + ".pem")), str(tmp_path / (name + ".key")))
        return c
    config = "registry:\n  tls: {cert: server.pem, key: server.key, ca: ca.pem}\n  client-certificates: writes\n"
    with Registry(tmp_path, config=config) as r:
        ours, open_ = r.client(context("node")), r.client(context())
        put(ours, "user://d/u", "hyperty://d/h")
        p = path("hyperty", "user", "user://d/u", "hyperty://d/h")
        for method, target, body in (("PUT", p, FULL), ("DELETE", p, None), ("PUT", path("hyperty", "url", "hyperty://d/h"), {}), ("POST", "/live", None),
                                     ("PUT", path("dataobject", "url", "x"), {}), ("PUT", "/nothing", {})):
            assert open_.json(method, target, body) == (401, {"message": "Unauthorized."}), (method, target)
        assert open_("GET", path("hyperty", "url", "hyperty://d/h"))[0] == 200
        assert open_.json("GET", path("hyperty", "url", "hyperty://d/h"))[1]["status"] == "live"
        with pytest.raises((OSError, AssertionError)):
            r.client(context("mallory"))("GET", "/live")
        with pytest.raises((OSError, AssertionError, ValueError)):
            r.client()("GET", "/live")
        # the connector shows its own
        message = {"id": 1, "type": "update", "from": "hyperty://d/h", "to": "domain://registry.d", "body": {"resource": "hyperty://d/h"}}
        port = r.address.rsplit(":", 1)[1]
        for names, code in (("node", 200), (None, 504)):
            bridge = "bridge:\n  url: https://localhost:%s\n  retries: 1\n" % port
            if names:
                bridge += "  ssl: {enabled: true, cert: node.pem, key: node.key, ca: ca.pem}\n"
            _, out, err = things.sinew(tmp_path, "registry", "send", json.dumps(message), config=bridge)
            assert json.loads(out)["body"]["code"] == code, (out, err)
        for c in (ours, open_):
            c.close()
