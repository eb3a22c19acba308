# SPDX-License-Identifier: Apache-2.0
"""Databases and queues through the binary: `sinew database`, `sinew queue`, the sidecar's routes; with
the driver of tests/connect/memory_module.c, loaded as a module."""
import http.client
import json
import os
import threading

import pytest

from conftest import FAST, PATIENCE, Agent
from test_sidecar import Running

MODULES = os.path.join(os.path.abspath(os.environ.get("SINEW_BUILD_ROOT", "build")), "tests/connect")
ENV = {"SINEW_MODULE_PATH": MODULES}
NOTES = {"database": {"notes": {"0": {"name": "n1", "class": "nosql", "subClass": "memory",
                                      "config": {"token": "t"}}},
                      "seed": {"0": {"tableName": "t1", "config": {"region": "r1"}}},
                      "gone": {}},
         "queue": {"contacts": {"0": {"streamName": "jobs", "config": {}}}}}


@pytest.fixture
def agent():
    a = Agent({"peers": NOTES, **FAST})
    yield a
    a.stop()


def test_info(sinew, agent):
    """The seed's form and the later one; the name is the key under peers, not the stream's."""
    r = sinew.run("queue", "contacts", "info", agent=agent)
    assert (r.returncode, r.stdout) == (0, '{"streamName":"jobs","config":{}}\n')
    r = sinew.run("database", "seed", "info", agent=agent)
    assert r.stdout == '{"tableName":"t1","config":{"region":"r1"}}\n'
    r = sinew.run("database", "notes", "info", agent=agent)
    assert r.stdout == '{"tableName":"n1","config":{"token":"***"}}\n'
    r = sinew.run("database", "notes", "info", "--show-secrets", agent=agent)
    assert r.stdout == '{"tableName":"n1","config":{"token":"t"}}\n'
    for name in "gone", "nobody":
        r = sinew.run("database", name, "info", agent=agent)
        assert (r.returncode, r.stdout) == (3, "null\n")


def test_watch(sinew, agent):
    w = sinew.watch("queue", "contacts", "watch", agent=agent)
    assert w.next() == {"0": {"streamName": "jobs", "config": {}}}
    agent.push({"peers": {"queue": {"contacts": {"0": {"name": "later", "subClass": "kinesis"}}}}})
    assert w.next() == {"0": {"name": "later", "subClass": "kinesis",
                                          "streamName": "later", "config": {}}}
    agent.push({"peers": None})
    assert w.next() == {}


def test_operations(sinew, agent):
    r = sinew.run("database", "notes", "Put", '{"key": "k", "n": 1.0}', agent=agent, env=ENV)
    assert (r.returncode, r.stdout) == (0, "{}\n")
    r = sinew.run("database", "notes", "Count", agent=agent, env=ENV)
    assert (r.returncode, r.stdout) == (0, '{"count":0}\n')  # a memory of its own
    r = sinew.run("database", "notes", "Get", "-", agent=agent, env=ENV, stdin='{"key": "k"}')
    assert r.returncode == 1 and r.stdout == ""
    assert "database notes: Get: NotFound" in r.stderr
    r = sinew.run("database", "notes", "Count", "-v", agent=agent, env=ENV)
    assert "entry 0, 1 attempt, " in r.stderr


def test_refusals(sinew, agent):
    def says(status, text, *args, env=ENV):
        r = sinew.run(*args, agent=agent, env=env)
        assert r.returncode == status and r.stdout == "", r
        assert text in r.stderr
    says(2, "memory has no operation Gett: did you mean Get?", "database", "notes", "Gett")
    says(2, "params must be a JSON object", "database", "notes", "Get", "[]")
    says(2, "params are no JSON: byte 1", "database", "notes", "Get", "{")
    says(2, "info takes no parameters", "database", "notes", "info", "{}")
    says(2, "--retry is safe, all or none", "database", "notes", "Get", "--retry", "some")
    says(2, "database notes memory not supported: no database driver is called memory",
         "database", "notes", "Get", env={"SINEW_MODULE_PATH": "tests/connect"})
    says(3, "No peer found.", "database", "gone", "Get")
    says(1, "cannot read /no/file", "database", "notes", "Get", "@/no/file")


@pytest.fixture
def running(sinew):
    text = "peers: %s\npolicies: %s\n" % (json.dumps(NOTES), json.dumps(FAST["policies"]))
    return Running(sinew, text, env=ENV)


def test_sidecar(running):
    r, body = running.ask("POST", "/database/notes/Put", '{"key": "a", "n": 1}')
    assert (r.status, body) == (200, b"{}")
    assert r.headers["content-type"] == "application/json"
    assert r.headers["sinew-peer"] == "0" and len(r.headers["sinew-call-id"]) == 16
    r, body = running.ask("POST", "/database/notes/Get", '{"key": "a"}')
    assert (r.status, json.loads(body)) == (200, {"key": "a", "n": 1})
    r, body = running.ask("POST", "/database/notes/Count")
    assert (r.status, body) == (200, b'{"count":1}')
    r, body = running.ask("POST", "/database/no%74es/Count")
    assert (r.status, body) == (200, b'{"count":1}')


def test_sidecar_refusals(running):
    def problem(status, detail, *args):
        r, body = running.ask(*args)
        doc = json.loads(body)
        assert (r.status, r.headers["content-type"]) == (status, "application/problem+json")
        assert detail in doc["detail"]
        return r, doc
    r, doc = problem(502, "Get: NotFound", "POST", "/database/notes/Get", '{"key": "x"}')
    assert (doc["error"], doc["code"]) == ("NotFound", "REJECTED")
    assert len(r.headers["sinew-call-id"]) == 16
    problem(400, "did you mean Get?", "POST", "/database/notes/Gett", "{}")
    problem(400, "must be a JSON object", "POST", "/database/notes/Get", "[]")
    problem(400, "no JSON", "POST", "/database/notes/Get", '{"a": 1}\0{"b": 2}')
    problem(400, "POST /database/NAME/OPERATION", "POST", "/database/notes", "{}")
    problem(400, "POST /database/NAME/OPERATION", "POST", "/database/notes/Get/more", "{}")
    problem(400, "POST /database/NAME/OPERATION", "POST", "/database/a%2fb/Get", "{}")
    problem(400, "printable", "POST", "/database/notes/G%20et", "{}")
    problem(405, "POST", "GET", "/database/notes/Get")
    problem(503, "No peer found.", "POST", "/database/gone/Get", "{}")
    r, body = running.ask("POST", "/database/notes/Get", "{}", {"Origin": "http://evil.example"})
    assert r.status == 403
    c = http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE)
    c.putrequest("POST", "/database/notes/Put")
    c.putheader("Content-Length", str(17 << 20))
    c.endheaders()
    assert c.getresponse().status == 413
    c.close()


def test_sidecar_many_at_once(running):
    """Answers and requests are not mixed up; clients that hang up leave nothing behind."""
    wrong = []

    def work(i):
        c = http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE)
        for n in range(50):
            text = '{"key":"k%d","n":%d}' % (i, n)
            c.request("POST", "/database/notes/Put", text)
            c.getresponse().read()
            c.request("POST", "/database/notes/Get", '{"key":"k%d"}' % i)
            if c.getresponse().read() != text.encode():
                wrong.append((i, n))
            if n % 10 == 9:  # gone without waiting for the answer
                c.request("POST", "/database/notes/Get", text)
                c.close()
        c.close()
    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    r, body = running.ask("POST", "/database/notes/Count")
    assert body == b'{"count":8}'
    running.process.terminate()
    assert running.process.wait(PATIENCE) == 0
