# SPDX-License-Identifier: Apache-2.0
"""`sinew request` against services that are not ours, good and bad."""
import json
import threading
import time

import pytest

from conftest import FAST, Agent, Raw, Service, free_port, peer, peers_message

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def mesh(sinew, cleanup):
    """request(*ports, args=..., policies=...) -> finished process"""
    def request(ports, *args, policies=None, **kw):
        values = dict(FAST["policies"]["values"], **(policies or {}))
        agent = Agent(peers_message(*ports, policies={"values": values}))
        cleanup(agent)
        return sinew.run("request", "service", "basket", "rest", *args, agent=agent, **kw)
    return request


def service(cleanup, *a, **kw):
    s = Service(*a, **kw)
    cleanup(s)
    return s


def raw(cleanup, script):
    r = Raw(script)
    cleanup(r)
    return r


def answers(*list_):
    """Connection n gets list_[n-1] (the last one repeats) after its request was read."""
    def script(r, c, n):
        while True:
            if r.read_request(c) is None:
                return
            what = list_[min(n, len(list_)) - 1]
            if what == "reset":
                return r.reset(c)
            if what == "close":
                return
            if what == "stall":
                c.recv(1)
                return
            c.sendall(what)
            if what != OK:
                return
    return script


def test_get(mesh, cleanup):
    s = service(cleanup, name="one")
    r = mesh([s.port], "/items?page=2")
    assert r.returncode == 0, r.stderr
    assert r.stdout == "hello from one"
    assert "200" in r.stderr
    method, path, headers, body = s.requests[0]
    assert (method, path, body) == ("GET", "/items?page=2", b"")
    assert headers["Host"] == "127.0.0.1:%d" % s.port
    assert not [h for h in headers if h.lower().startswith(("x-b3", "traceparent"))]


def test_head_and_headers_of_the_answer(mesh, cleanup):
    s = service(cleanup, lambda h, b: Service.reply(h, 201, b"made", [("X-Thing", "a b")]))
    r = mesh([s.port], "/", "-i", "-H", "Accept: text/x", "-H", "X-Own:1")
    assert "201" in r.stdout.split("\n")[0]
    assert "x-thing: a b" in r.stdout.lower()
    assert r.stdout.endswith("made")
    assert s.requests[0][2]["Accept"] == "text/x" and s.requests[0][2]["X-Own"] == "1"
    r = mesh([s.port], "/", "-X", "HEAD")
    assert r.returncode == 0, r.stderr
    assert s.requests[1][0] == "HEAD"


def test_seed_milestone_2_as_printed(mesh, cleanup):
    s = service(cleanup)
    body = '{"name": "Chuck Norris", "phone": "314-159-2653"}'
    r = mesh([s.port], "/contact", "-X", "POST", "-d", body)
    assert r.returncode == 0, r.stderr
    method, path, headers, got = s.requests[0]
    assert (method, path) == ("POST", "/contact")
    assert headers["Content-Type"] == "application/json"
    assert json.loads(got) == json.loads(body)


@pytest.mark.parametrize("data, json_type", [("plain", False), ("[1]", True), ("12", False),
                                             ('{"a":', False)])
def test_body_that_is_json(mesh, cleanup, data, json_type):
    s = service(cleanup)
    r = mesh([s.port], "/", "-X", "POST", "-d", data)
    assert r.returncode == 0, r.stderr
    assert (s.requests[0][2].get("Content-Type") == "application/json") == json_type
    assert s.requests[0][3] == data.encode()


def test_own_content_type_wins(mesh, cleanup):
    s = service(cleanup)
    mesh([s.port], "/", "-X", "POST", "-d", "{}", "-H", "content-type: text/odd")
    types = [v for k, v in s.requests[0][2].items() if k.lower() == "content-type"]
    assert types == ["text/odd"]


def test_body_from_file_and_stdin(mesh, cleanup, sinew):
    s = service(cleanup)
    (sinew.tmp / "body.txt").write_text("from a file")
    mesh([s.port], "/", "-X", "PUT", "-d", "@body.txt")
    mesh([s.port], "/", "-X", "PUT", "-d", "-", stdin="from stdin")
    assert [q[3] for q in s.requests] == [b"from a file", b"from stdin"]
    r = mesh([s.port], "/", "-d", "@missing.txt")
    assert r.returncode in (1, 2) and "missing.txt" in r.stderr
    assert len(s.requests) == 2


def test_4xx_is_an_answer(mesh, cleanup):
    s = service(cleanup, lambda h, b: Service.reply(h, 404, b"nothing here"))
    r = mesh([s.port], "/")
    assert (r.returncode, r.stdout) == (0, "nothing here")
    r = mesh([s.port], "/", "--fail")
    assert r.returncode == 1
    assert len(s.requests) == 2  # never retried


def test_3xx_is_not_followed(mesh, cleanup):
    s = service(cleanup, lambda h, b: Service.reply(h, 302, b"", [("Location", "/other")]))
    r = mesh([s.port], "/")
    assert r.returncode == 0 and "302" in r.stderr
    assert [q[1] for q in s.requests] == ["/"]


def test_5xx_is_retried_even_post(mesh, cleanup):
    """The seed's connector retries every method."""
    left = [503, 500]
    s = service(cleanup, lambda h, b: Service.reply(h, left.pop() if left else 200, b"done"))
    r = mesh([s.port], "/", "-X", "POST", "-d", "x")
    assert (r.returncode, r.stdout) == (0, "done"), r.stderr
    assert len(s.requests) == 3 and all(q[3] == b"x" for q in s.requests)


def test_last_5xx_is_reported_with_its_body(mesh, cleanup):
    s = service(cleanup, lambda h, b: Service.reply(h, 503, b"busy"))
    r = mesh([s.port], "/", policies={"retry-count": 2})
    assert len(s.requests) == 2
    assert r.stdout == "busy"
    assert "503" in r.stderr


def test_retry_safe_does_not_repeat_a_post(mesh, cleanup):
    s = service(cleanup, lambda h, b: Service.reply(h, 503, b"busy"))
    mesh([s.port], "/", "-X", "POST", "-d", "x", "--retry", "safe")
    assert len(s.requests) == 1
    mesh([s.port], "/", "--retry", "safe")
    assert len(s.requests) == 1 + 3
    s.requests.clear()
    mesh([s.port], "/", "--retry", "none")
    assert len(s.requests) == 1


@pytest.mark.parametrize("bad", [
    "reset", "close", b"HTTP/1.1 OK\r\n\r\n", b"garbage\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    b"HTTP/1.1 200 OK\r\n folded: yes\r\nContent-Length: 2\r\n\r\nok",
], ids=["reset", "close", "no-status", "garbage", "short-body", "two-lengths", "bad-chunk",
        "cut-chunk", "obs-fold"])
def test_a_bad_answer_is_retried(mesh, cleanup, bad):
    s = raw(cleanup, answers(bad, OK))
    r = mesh([s.port], "/")
    assert (r.returncode, r.stdout) == (0, "ok"), r.stderr
    assert len(s.requests) == 2
    s2 = raw(cleanup, answers(bad))
    r = mesh([s2.port], "/", "-X", "POST", "-d", "x", "--retry", "safe")
    assert r.returncode == 1
    assert len(s2.requests) == 1  # it may have been carried out: never twice


def test_stall_is_a_timeout(mesh, cleanup):
    s = raw(cleanup, answers("stall", OK))
    r = mesh([s.port], "/", policies={"timeout": 300})
    assert (r.returncode, r.stdout) == (0, "ok"), r.stderr
    s = raw(cleanup, answers("stall"))
    start = time.monotonic()
    r = mesh([s.port], "/", policies={"timeout": 300, "retry-count": 2})
    assert r.returncode in (1, 4)
    assert "no answer within 300 ms" in r.stderr
    assert time.monotonic() - start < 10


def test_deadline(mesh, cleanup):
    s = raw(cleanup, answers("stall"))
    start = time.monotonic()
    r = mesh([s.port], "/", policies={"deadline": 800, "timeout": 5000})
    assert r.returncode == 4, r.stderr
    assert time.monotonic() - start < 4


def test_a_dead_peer_is_avoided(mesh, cleanup):
    s = service(cleanup, name="alive")
    for _ in range(6):
        r = mesh([free_port(), s.port], "/")
        assert (r.returncode, r.stdout) == (0, "hello from alive"), r.stderr


def test_all_peers_dead_tells_the_attempts(mesh):
    a, b = free_port(), free_port()
    r = mesh([a, b], "/")
    assert r.returncode == 1
    assert ":%d" % a in r.stderr and ":%d" % b in r.stderr
    assert "refused" in r.stderr.lower()
    assert r.stdout == ""


def test_no_peer(mesh, sinew, cleanup):
    r = mesh([], "/", policies={"retry-count": 2})
    assert r.returncode == 3
    assert "no peer" in r.stderr.lower()
    r = mesh([], "/", policies={"no-peer-retry": False})
    assert r.returncode == 3


def test_a_peer_that_comes_later(sinew, cleanup):
    s = service(cleanup, name="late")
    agent = Agent(peers_message(policies={"values": {"retry-initial-delay": 300,
                                                     "retry-count": 20}}))
    cleanup(agent)
    p = sinew.start("request", "service", "basket", "rest", "/", agent=agent)
    agent.wait_connections(1)
    agent.push({"peers": peers_message(s.port)["peers"]})
    out, err = p.communicate(timeout=30)
    assert (p.returncode, out) == (0, "hello from late"), err


@pytest.mark.parametrize("url", ["http://other.example/", "//other.example/x"])
def test_absolute_url_is_refused(mesh, cleanup, url):
    s = service(cleanup)
    r = mesh([s.port], url)
    assert r.returncode == 2
    assert "url must be relative: begin it with /" in r.stderr
    assert s.requests == []


def test_missing_slash_is_added(mesh, cleanup):
    s = service(cleanup)
    mesh([s.port], "items")
    assert s.requests[0][1] == "/items"


def test_header_injection_is_refused(mesh, cleanup):
    s = service(cleanup)
    r = mesh([s.port], "/", "-H", "X-A: b\r\nX-Evil: 1")
    assert r.returncode == 2 and s.requests == []
    r = mesh([s.port], "/a b")
    assert r.returncode == 2 and s.requests == []
    r = mesh([s.port], "/", "-X", "GE T")
    assert r.returncode == 2 and s.requests == []


def test_b3_headers_only_when_asked(mesh, cleanup):
    s = service(cleanup)
    mesh([s.port], "/", policies={"enable-zipkin": True})
    headers = {k.lower(): v for k, v in s.requests[0][2].items()}
    assert len(headers["x-b3-traceid"]) == 16 and headers["x-b3-sampled"] == "1"
    int(headers["x-b3-traceid"], 16)


def test_chunked_and_until_close_answers(mesh, cleanup):
    chunked = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
               b"5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n")
    until_close = b"HTTP/1.0 200 OK\r\n\r\nuntil the end"
    s = raw(cleanup, answers(b"HTTP/1.1 100 Continue\r\n\r\n" + chunked))
    assert mesh([s.port], "/").stdout == "hello world"
    s = raw(cleanup, answers(until_close))
    assert mesh([s.port], "/").stdout == "until the end"


def test_large_bodies_both_ways(mesh, cleanup, sinew):
    big = "0123456789abcdef" * (1 << 17)  # 2 MiB
    s = service(cleanup, lambda h, b: Service.reply(h, 200, b))
    (sinew.tmp / "big").write_text(big)
    r = mesh([s.port], "/", "-X", "POST", "-d", "@big")
    assert r.returncode == 0, r.stderr[:300]
    assert r.stdout == big


def test_answer_larger_than_allowed(mesh, cleanup):
    s = service(cleanup, lambda h, b: Service.reply(h, 200, b"x" * 100000))
    r = mesh([s.port], "/", policies={"max-response": 65536})
    assert r.returncode == 1
    assert "max-response" in r.stderr


def test_story_can_be_read_later(sinew, cleanup):
    agent = Agent(peers_message(free_port(), policies=FAST["policies"]))
    cleanup(agent)
    r = sinew.run("request", "service", "basket", "rest", "/", agent=agent)
    assert r.returncode == 1
    w = sinew.run("why")
    assert w.returncode == 0, w.stderr
    assert "basket" in w.stdout and "refused" in w.stdout.lower()


def test_secrets_are_not_in_the_story(sinew, cleanup):
    s = service(cleanup, lambda h, b: Service.reply(h, 500, b"body-s3cret"))
    agent = Agent(peers_message(s.port, policies=FAST["policies"]))
    cleanup(agent)
    r = sinew.run("request", "service", "basket", "rest", "/?token=url-s3cret", "-X", "POST", "-H",
                  "Authorization: Bearer head-s3cret", "-d", "data-s3cret", agent=agent)
    w = sinew.run("why")
    for text in (r.stderr, w.stdout, w.stderr):
        assert "s3cret" not in text
