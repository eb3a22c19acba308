# SPDX-License-Identifier: Apache-2.0
"""TLS, redirects, replicas that die, many messages, and all of it going at once."""
import json
import threading
import time

import pytest

from script import Registry

USER = "user://d/bob"
READ = {"id": 1, "type": "read", "from": "hyperty://d/me", "to": "domain://registry.d",
        "body": {"resource": USER}}
FOUND = {"status": 200, "body": {"hyperty://d/1": {"status": "live"}}}
NO_CONTACT = {"code": 504, "description": "Error contacting the domain registry."}


@pytest.fixture(params=["loop", "thread"])
def own(request):
    from conftest import Peer
    p = Peer(request.param)
    yield p
    p.end()


@pytest.fixture
def registries():
    made = []

    def make(**args):
        made.append(Registry(**args))
        return made[-1]
    yield make
    for r in made:
        r.close()


def body(peer, settings, message=READ):
    return peer.send(peer.connector(settings), message)["body"]


# ---- TLS ----

def test_mutual_tls(own, registries, certs):
    r = registries(cert=certs("server"), ca=certs("ca.pem"))
    r.fallback = FOUND
    ssl = {"enabled": True, "cert": certs("client.pem"), "key": certs("client.key"),
           "ca": certs("ca.pem")}
    assert body(own, {"url": r.url, "ssl": ssl})["code"] == 200
    # without a certificate, with the system's authorities, with a stranger's certificate
    assert body(own, {"url": r.url, "retries": 1}) == NO_CONTACT
    bad = dict(ssl, cert=certs("stranger.pem"), key=certs("stranger.key"))
    assert body(own, {"url": r.url, "ssl": bad, "retries": 1}) == NO_CONTACT
    # by a name the certificate does not have
    assert body(own, {"url": r.url.replace("127.0.0.1", "localhost"), "ssl": ssl})["code"] == 200
    locked = dict(ssl, cert=certs("locked.pem"), key=certs("secret.key"),
                  keyPassphrase="open sesame")
    assert body(own, {"url": r.url, "ssl": locked})["code"] == 200
    assert "secret.key" in own.open({"url": r.url, "ssl": dict(locked, keyPassphrase="no")})["error"]
    assert "secret.key" in own.open({"url": r.url, "ssl": {
        k: v for k, v in locked.items() if k != "keyPassphrase"}})["error"]
    assert "nowhere" in own.open({"url": r.url, "ssl": dict(ssl, ca="/nowhere.pem")})["error"]


def test_name_is_verified(own, registries, certs):
    r = registries(cert=certs("client"), ca=certs("ca.pem"))
    r.fallback = FOUND
    ssl = {"enabled": True, "cert": certs("client.pem"), "key": certs("client.key"),
           "ca": certs("ca.pem")}
    assert body(own, {"url": r.url.replace("127.0.0.1", "127.0.0.2"), "ssl": ssl,
                      "retries": 1}) == NO_CONTACT


# ---- redirects ----

def to(location, status=302):
    return {"status": status, "raw_body": "", "headers": {"Location": location}}


def test_redirects(own, registries):
    a, b = registries(), registries()
    settings = {"url": a.url, "retries": 2}
    for location in ("/other?x=1", "other", a.url + "/other", a.url + "/other#part"):
        a.expect(to(location), FOUND)
        assert body(own, settings)["code"] == 200
        assert "/other" in a.heard[1]["path"]
    b.fallback = FOUND
    for status in (301, 302, 303, 307, 308):
        a.expect(to(b.url + "/there", status))
        assert body(own, settings)["code"] == 200
    assert b.heard[-1]["path"] == "/there"
    a.expect(*[to("/%d" % i) for i in range(10)], FOUND)
    assert body(own, settings)["code"] == 200
    a.expect(*[to("/%d" % i) for i in range(22)])  # two attempts of eleven
    assert body(own, settings) == NO_CONTACT
    assert len(a.heard) == 22
    a.expect(to(b.url))
    update = dict(READ, type="update", body={"resource": "hyperty://d/1"})
    assert body(own, settings, update) == {"code": 302}
    a.expect({"status": 302, "raw_body": "", "headers": {}})
    assert body(own, settings)["code"] == 302


# ---- what ends a series ----

@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_any_status_ends_the_series(own, registries, status):
    a, b = registries(), registries()
    for url in (a.url, a.url + "," + b.url):
        for r in (a, b):
            r.expect()
            r.fallback = {"status": status, "body": {"message": "later"},
                          "headers": {"Retry-After": "0"}}
        assert body(own, {"url": url}) == {"code": status, "description": "later"}
        assert len(a.heard) + len(b.heard) == 1


def test_one_url_is_tried_as_often_as_said(own, registries):
    """No breaker, no budget: after a hundred failures it is as on the first day."""
    a = registries()
    a.fallback = {"error": "closed"}
    c = own.connector({"url": a.url, "retries": 3})
    for _ in range(40):
        a.expect()
        assert own.send(c, READ)["body"] == NO_CONTACT
        assert len(a.heard) == 3
    a.fallback = FOUND
    assert own.send(c, READ)["body"]["code"] == 200


# ---- replicas ----

def test_replicas_share_the_work(own, registries):
    three = [registries() for _ in range(3)]
    for r in three:
        r.fallback = FOUND
    c = own.connector({"url": [r.url for r in three]})
    assert own.ask(c=c, flood=[json.dumps(READ), 300])["codes"] == {"200": 300}
    assert min(len(r.heard) for r in three) > 10


def test_a_replica_dies_and_comes_back(own, registries):
    a, b = registries(), registries()
    a.fallback = b.fallback = FOUND
    c = own.connector({"url": [a.url, b.url], "retries": 3})
    done = threading.Event()

    def kill():
        time.sleep(0.1)
        a.close()
        done.set()

    killer = threading.Thread(target=kill)
    killer.start()
    codes = {}
    while not done.is_set() or len(codes) == 0:
        for code, n in own.ask(c=c, flood=[json.dumps(READ), 100])["codes"].items():
            codes[code] = codes.get(code, 0) + n
    killer.join()
    assert set(codes) == {"200"}, codes
    again = registries(port=a.port)
    again.fallback = FOUND
    end = time.monotonic() + 15
    while not again.heard and time.monotonic() < end:
        assert own.ask(c=c, flood=[json.dumps(READ), 20])["codes"] == {"200": 20}
    assert again.heard


# ---- many ----

def test_ten_thousand(peer, registry):
    registry.expect()
    registry.fallback = FOUND
    c = peer.connector({"url": registry.url})
    n = 10000 if peer.kind != "host" else 500  # a connection each, there
    assert peer.ask(c=c, flood=[json.dumps(READ), n])["codes"] == {"200": n}
    registry.fallback = None


def test_closing_answers_all(peer, registry):
    registry.expect()
    registry.fallback = lambda *a: time.sleep(0.02) or FOUND
    c = peer.open({"url": registry.url})["c"]
    codes = peer.ask(c=c, flood=[json.dumps(READ), 400], close=True)["codes"]
    assert sum(codes.values()) == 400 and set(codes) <= {"200", "504"}
    registry.fallback = None


# ---- polls ----

def test_polls_by_themselves_and_do_not_overlap(peer, registry):
    registry.expect()
    busy, most, lock = [0], [0], threading.Lock()

    def slow(method, path, got):
        if path != "/registry/updated":
            return FOUND
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        time.sleep(0.05)
        with lock:
            busy[0] -= 1
        return {"status": 200, "body": {"hyperty://d/1": {"status": "disconnected"}}}

    registry.fallback = slow
    c = peer.open({"url": registry.url, "poll_interval_ms": 10}, notify=True)["c"]
    peer.send(c, READ)  # from here on the domain is known
    with registry.lock:
        assert registry.lock.wait_for(lambda: sum(
            h["path"] == "/registry/updated" for h in registry.heard) >= 6, 10)
    peer.ask(c=c, close=True)
    registry.fallback = None
    assert most[0] == 1
    told = [json.loads(t) for t in peer.ask(c=c, collect=True)["notifications"]]
    assert len(told) >= 4 and [m["id"] for m in told] == list(range(1, len(told) + 1))
    assert {k: told[0][k] for k in told[0] if k != "id"} == {
        "type": "update", "from": "domain://registry.d", "to": "hyperty://d/1/registration",
        "body": {"value": "disconnected", "attribute": "status"}}


# ---- bad messages ----

@pytest.mark.parametrize("text, code", [
    ("", 400), ("nonsense", 400), ("[]", 400), ("{", 400), ('{"id": 1}', 400),
    ('{"to": "domain://registry.d", "type": "read", "body": {"resource": "%s"}}' % ("x" * 20000), 414),
    ("[" * 500 + "]" * 500, 400), ('{"a": "%s"}' % ("x" * (1 << 20)), 413)])
def test_bad_messages_are_answered(peer, registry, text, code):
    registry.expect()
    c = peer.connector({"url": registry.url})
    answer = peer.send(c, text)
    assert answer["type"] == "response" and answer["body"]["code"] == code
    assert answer["body"]["description"]
    assert not registry.heard
