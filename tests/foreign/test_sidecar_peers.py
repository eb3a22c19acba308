# SPDX-License-Identifier: Apache-2.0
"""GET /peers/... of the sidecar, once and with ?watch."""
import http.client
import json
import os
import resource
import signal
import socket
import sys

import pytest

from conftest import PATIENCE, Agent, Raw, peer
from test_sidecar import Running

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "h2"))
import h2raw as h2  # noqa: E402

PATH = "/peers/service/basket/rest"


def message(*ports, pad=""):
    entries = {str(i + 1): peer(p) for i, p in enumerate(ports)}
    if pad:
        for e in entries.values():
            e["pad"] = pad
    return {"peers": {"service": {"basket": {"rest": entries}}}}


class Watching:
    def __init__(self, r, path=PATH + "?watch"):
        self.c = http.client.HTTPConnection("127.0.0.1", r.port, timeout=PATIENCE)
        self.c.request("GET", path)
        self.answer = self.c.getresponse()

    def next(self):
        """The next line; None at the proper end."""
        line = self.answer.readline()
        return json.loads(line) if line else None

    def ports(self):
        value = self.next()
        return value and sorted(p["port"] for p in value.values())

    def stop(self):
        self.c.close()


@pytest.fixture
def mesh(sinew, cleanup):
    agent = Agent({})
    cleanup(agent)
    r = Running(sinew, "", agent=agent)
    agent.wait_connections(1)
    r.agent = agent
    return r


def test_the_present_value_comes_at_once_and_each_change_is_a_line(mesh, cleanup):
    w = Watching(mesh)
    cleanup(w)
    assert w.answer.status == 200 and w.answer.headers["Content-Type"] == "application/x-ndjson"
    assert w.next() is None
    mesh.agent.push(message(1001))
    assert w.ports() == [1001]
    mesh.agent.push(message(1001, 1002))
    assert w.ports() == [1001, 1002]
    late = Watching(mesh)
    cleanup(late)
    assert late.ports() == [1001, 1002]  # once, although the target's own first message is due too
    mesh.agent.push(message(1001, 1002))  # no change
    mesh.agent.push(message(1003))
    assert w.ports() == [1003] and late.ports() == [1003]
    mesh.agent.push(message())
    assert [w.next(), late.next()] == [{}, {}]


def test_who_reads_slowly_gets_only_the_latest(mesh, cleanup):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(PATIENCE)
    s.connect(("127.0.0.1", mesh.port))
    s.sendall(b"GET %s?watch HTTP/1.1\r\nHost: localhost\r\n\r\n" % PATH.encode())
    quick = Watching(mesh)
    cleanup(quick)
    assert quick.next() is None
    pad, n = "x" * 200000, 60
    for i in range(1, n + 1):
        mesh.agent.push(message(2000 + i, pad=pad))
        assert quick.ports() == [2000 + i]
    answer = http.client.HTTPResponse(s)
    answer.begin()
    seen = [json.loads(answer.readline())]
    while seen[-1] is None or seen[-1]["1"]["port"] != 2000 + n:
        seen.append(json.loads(answer.readline()))
    assert len(seen) < n / 2, "%d lines waited for it" % len(seen)
    ports = [v["1"]["port"] for v in seen if v]
    assert ports == sorted(set(ports))
    mesh.agent.push(message(3000))
    assert json.loads(answer.readline())["1"]["port"] == 3000
    s.close()


def test_a_watch_over_http2(mesh):
    with h2.connect(mesh.port) as c:
        c.send(h2.headers(1, h2.request(PATH + "?a=b&watch=1")))
        assert c.until(lambda: 1 in c.answers and bytes(c.answers[1].body) == b"null\n")
        mesh.agent.push(message(1001))
        assert c.until(lambda: c.answers[1].body.count(b"\n") == 2)
        assert json.loads(c.answers[1].body.splitlines()[1])["1"]["port"] == 1001
        c.send(h2.rst(1))
        assert c.ask(PATH).status == 200


def test_there_is_a_limit_and_who_leaves_makes_room(mesh):
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with h2.connect(mesh.port) as first:  # 100 streams a connection
        conns = [first] + [h2.connect(mesh.port) for _ in range(9)]
        for c in conns:
            c.send(*[h2.headers(1 + 2 * i, h2.request(PATH + "?watch")) for i in range(100)])
        for c in conns:
            assert c.until(lambda: len([a for a in c.answers.values() if a.body]) == 100)
        refused = mesh.ask("GET", PATH + "?watch")
        assert refused[0].status == 503 and json.loads(refused[1])["detail"]
        assert mesh.ask("GET", PATH)[0].status == 200
        for c in conns[1:]:
            Raw.reset(c.sock)
        first.send(h2.rst(1))
        w = Watching(mesh)
        assert w.answer.status == 200 and w.next() is None
        w.stop()


def test_the_end_of_the_sidecar_is_a_proper_end(mesh, cleanup):
    w = Watching(mesh)
    cleanup(w)
    assert w.next() is None
    mesh.process.send_signal(signal.SIGTERM)
    assert w.answer.readline() == b"" and w.answer.isclosed()
    assert mesh.process.wait(PATIENCE) == 0


def test_secrets_are_masked(mesh, cleanup):
    w = Watching(mesh, "/peers/database/d?watch")
    cleanup(w)
    assert w.next() is None
    mesh.agent.push({"peers": {"database": {"d": {"1": {
        "tableName": "t", "config": {"region": "r", "credentials": {"accessKeyId": "geheim", "secretAccessKey": "geheim"}}}}}}})
    line = w.next()
    assert line["1"]["tableName"] == "t" and "geheim" not in json.dumps(line) and "***" in json.dumps(line)
    body = mesh.ask("GET", "/peers/database/d")[1]
    assert b"geheim" not in body and b"***" in body


@pytest.mark.parametrize("method,path,status", [
    ("POST", PATH, 405), ("DELETE", PATH + "?watch", 405), ("HEAD", PATH + "?watch", 200),
    ("GET", "/peers/nokind/basket/rest?watch", 400), ("GET", "/peers/nokind/basket/rest", 400),
    ("GET", "/peers/service/bas%2Fket/rest", 400), ("GET", PATH + "/more", 400),
    ("GET", "/peers/service//rest", 400), ("GET", "/peers/service/%00/rest", 400),
])
def test_what_is_no_way_to_ask(mesh, method, path, status):
    answer, body = mesh.ask(method, path)
    assert answer.status == status
    if status != 200:
        assert json.loads(body)["detail"].isprintable()


def test_unknown_names_cost_nothing(mesh):
    for i in range(200):
        assert mesh.ask("GET", "/peers/service/unknown-%d/rest" % i)[1] == b"null\n"
    assert json.loads(mesh.admin("/targets")[1])["targets"] == []
