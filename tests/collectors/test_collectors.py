# SPDX-License-Identifier: Apache-2.0
"""Spans before collectors that are not ours (collector.js), which come and go."""
import http.client
import json
import os
import subprocess
import sys
import threading
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path += [os.path.join(HERE, "../foreign"), os.path.join(HERE, "../services")]
from conftest import FAST, PATIENCE, Agent, Service, cleanup, free_port, peer, peers_message, sinew, until  # noqa: E402,F401
from services import Missing, npm  # noqa: E402
from test_sidecar import Running, basket  # noqa: E402

try:
    MODULES = npm(HERE)
except Missing as e:
    pytest.exit("SKIPPED, no collector is tested: %s" % e, returncode=77)


class Collector:
    def __init__(self, form, port=0):
        self.form = form
        self.p = subprocess.Popen(
            ["node", os.path.join(HERE, "collector.js"), form, str(port)], text=True,
            stdout=subprocess.PIPE, env=dict(os.environ, NODE_PATH=MODULES))
        self.port = json.loads(self.p.stdout.readline())["port"]
        self.changed = threading.Condition()
        self.requests, self.spans, self.wrong = [], [], []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.p.stdout:
            told = json.loads(line)
            with self.changed:
                self.requests.append(told)
                self.spans += told["spans"]
                self.wrong += told["wrong"]
                self.changed.notify_all()

    def wait(self, n):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.spans) >= n or self.wrong, PATIENCE), \
                self.requests
            assert self.wrong == []
            return list(self.spans)

    def stop(self):
        self.p.kill()
        self.p.wait()


@pytest.fixture
def collector(cleanup):  # noqa: F811
    def start(form, port=0):
        c = Collector(form, port)
        cleanup(c)
        return c
    return start


def counted(r):
    """{(exporter, result): spans} and {exporter: waiting} of /metrics."""
    found = {f.name: f.samples for f in text_string_to_metric_families(
        r.admin("/metrics")[1].decode())}
    return ({(x.labels["exporter"], x.labels["result"]): x.value
             for x in found.get("sinew_spans", [])},
            {x.labels["exporter"]: x.value for x in found.get("sinew_spans_waiting", [])})


def calls_of_all_kinds(r, s):
    """A good one, a retried one with back-off, one that fails, names beyond ASCII."""
    s.answer = lambda h, b: Service.reply(h, 503 if h.path == "/bad" or (
        h.path == "/again" and len([q for q in s.requests if q[1] == "/again"]) == 1) else 200)
    for path in ("/good?a=%22b%22", "/again", "/bad", "/%C3%A9"):
        r.ask("GET", "/call/service/basket/rest" + path)
    r.ask("POST", "/call/service/b%22%C3%A9/rest/x", b"1", {"sinew-timeout-ms": "50"})


def test_zipkin(sinew, cleanup, collector):  # noqa: F811
    s, c = Service(), collector("zipkin")
    cleanup(s)
    r = Running(sinew, "trace: {zipkin: 'http://127.0.0.1:%d'}\npeers: %s\npolicies: %s\n" % (
        c.port, basket(s.port), json.dumps(FAST["policies"])))
    calls_of_all_kinds(r, s)
    c.wait(1 + 1 + 1 + 2 + 1 + 4 + 1 + 1 + 1)
    assert c.requests[0]["path"] == "/api/v2/spans" and c.requests[0]["type"] == "application/json"
    ids = {x["id"] for x in c.spans}
    roots = [x for x in c.spans if "parentId" not in x]
    assert len(roots) == 5 and len(ids) == len(c.spans)
    assert all(x["parentId"] in ids for x in c.spans if x not in roots)
    assert {x["localEndpoint"]["serviceName"] for x in c.spans} == {"t"}
    assert any(a["value"].startswith("back-off") for x in roots for a in x.get("annotations", []))
    assert [x["tags"]["error"] for x in roots if x["tags"].get("http.url") == "/bad"]
    assert counted(r)[0][("zipkin", "sent")] == len(c.spans)


def test_otlp(sinew, cleanup, collector):  # noqa: F811
    s, c = Service(), collector("otlp")
    cleanup(s)
    r = Running(sinew, "trace: {otlp: 'http://127.0.0.1:%d/custom/path'}\npeers: %s\npolicies: %s\n" % (
        c.port, basket(s.port), json.dumps(FAST["policies"])))
    calls_of_all_kinds(r, s)
    c.wait(14)
    assert c.requests[0]["path"] == "/custom/path"
    ids = {x["spanId"] for x in c.spans}
    roots = [x for x in c.spans if "parentSpanId" not in x]
    assert len(roots) == 5 and all(x["kind"] == 3 for x in c.spans)
    assert all(x["parentSpanId"] in ids for x in c.spans if x not in roots)
    names = {a["key"]: a["value"] for a in c.spans[0]["resource"]["attributes"]}
    assert names["service.name"] == {"stringValue": "t"}
    assert any(e["name"].startswith("back-off") for x in roots for e in x.get("events", []))
    assert [x for x in roots if x.get("status", {}).get("code") == 2]


def test_both_at_once(sinew, cleanup, collector):  # noqa: F811
    s, z, o = Service(), collector("zipkin"), collector("otlp")
    cleanup(s)
    r = Running(sinew, "trace: {zipkin: 'http://127.0.0.1:%d', otlp: 'http://127.0.0.1:%d'}\n"
                       "peers: %s\n" % (z.port, o.port, basket(s.port)))
    r.ask("GET", "/call/service/basket/rest/")
    assert {x["id"] for x in z.wait(2)} == {x["spanId"] for x in o.wait(2)}


@pytest.mark.parametrize("form", ["zipkin", "otlp"])
def test_a_killed_collector_costs_its_spans_only(sinew, cleanup, collector, form):  # noqa: F811
    s, c = Service(), collector(form)
    cleanup(s)
    r = Running(sinew, "trace: {%s: 'http://127.0.0.1:%d'}\npeers: %s\n" % (
        form, c.port, basket(s.port)))

    def calls(n):
        slowest = 0
        for _ in range(n):
            began = time.monotonic()
            assert r.ask("GET", "/call/service/basket/rest/")[0].status == 200
            slowest = max(slowest, time.monotonic() - began)
        return slowest
    calls(10)
    c.wait(20)
    c.p.kill()  # SIGKILL
    c.p.wait()
    assert calls(50) < 1  # nothing waits for it
    until(lambda: counted(r)[0][(form, "failed")] == 100, lambda: counted(r))
    again = collector(form, c.port)
    calls(10)
    assert len(again.wait(20)) == 20
    until(lambda: counted(r)[0][(form, "sent")] == 40, lambda: counted(r))
    totals, waiting = counted(r)
    assert totals == {(form, "sent"): 40, (form, "dropped"): 0, (form, "failed"): 100}
    assert waiting == {form: 0}
    r.process.terminate()
    log = r.process.stderr.read()
    assert log.count("spans are lost: the ") == 1 and log.count("takes spans again") == 1, log


def test_a_mute_collector_holds_up_nothing_and_loss_is_counted(sinew, cleanup):  # noqa: F811
    """It takes the connection and never answers: the queue fills, the oldest go."""
    from conftest import Raw
    mute = Raw(lambda raw, c, n: (raw.read_request(c), threading.Event().wait(PATIENCE * 3)))
    s = Service(lambda h, b: h.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    cleanup(mute)
    cleanup(s)
    r = Running(sinew, "trace: {otlp: 'http://127.0.0.1:%d'}\npeers: %s\n" % (
        mute.port, basket(s.port)))
    calls, c = 0, http.client.HTTPConnection("127.0.0.1", r.port, timeout=PATIENCE)
    while calls == 0 or counted(r)[0][("otlp", "dropped")] == 0:
        for _ in range(200):
            c.request("GET", "/call/service/basket/rest/")
            answer = c.getresponse()
            assert answer.status == 200 and answer.read()
        calls += 200
        assert calls < 20000
    totals, waiting = counted(r)
    assert sum(totals.values()) + waiting["otlp"] == 2 * calls
    assert waiting["otlp"] <= 1000 + 512
    began = time.monotonic()
    r.process.terminate()
    assert r.process.wait(PATIENCE) == 0 and time.monotonic() - began < 5


# ---- the collector of enable-zipkin, found through policies ----

def registry(services, collectors, **policies):
    message = peers_message(*[s.port for s in services])
    for name, c in collectors.items():
        message["peers"][name] = {"1": peer(c.port)}
    message["policies"] = {"values": dict({"enable-zipkin": True}, **policies)}
    return message


def test_the_collector_changes_at_run_time(sinew, cleanup, collector):  # noqa: F811
    s = Service()
    cleanup(s)
    one, two, three = (collector("zipkin") for _ in range(3))
    known = {"cluster://one": one, "cluster://two": two}
    agent = Agent(registry([s], known))
    cleanup(agent)
    r = Running(sinew, "", agent=agent)
    until(lambda: r.admin("/readyz")[0].status == 200, lambda: r.admin("/readyz"))

    def call(name):
        assert r.ask("GET", "/call/service/basket/rest/" + name)[0].status == 200

    def told(c, name):
        def seen():
            with c.changed:
                return "/" + name in [x["tags"]["http.url"] for x in c.spans]
        until(lambda: seen() or c.wrong, lambda: (name, c.requests, counted(r)))
        assert c.wrong == []

    def policy(name):
        return json.loads(r.admin("/policies")[1])[name]["value"]

    def switch(known=known, **policies):
        agent.push(registry([s], known, **policies))
        for name, value in policies.items():
            until(lambda: policy(name) == value, lambda: r.admin("/policies"))
    call("nowhere")  # there is no collector yet: lost, and counted
    until(lambda: counted(r)[0].get(("enable-zipkin", "dropped")) == 1, lambda: counted(r))
    switch(**{"zipkin-service-id": "cluster://one"})
    call("first")
    told(one, "first")
    switch(**{"zipkin-service-id": "cluster://two"})
    call("second")
    told(two, "second")
    # the id's own peer moves
    switch(known={"cluster://one": one, "cluster://two": three},
           **{"zipkin-service-id": "cluster://two"})
    until(lambda: json.loads(r.admin("/peers")[1]) and str(three.port) in r.admin("/peers")[1].decode(),
          lambda: r.admin("/peers"))
    call("third")
    told(three, "third")
    # an id wins over an endpoint; without an id the endpoint counts
    switch(**{"zipkin-service-id": "cluster://one",
              "zipkin-endpoint": "http://127.0.0.1:%d" % two.port})
    call("fourth")
    told(one, "fourth")
    switch(**{"zipkin-service-id": None, "zipkin-endpoint": "http://127.0.0.1:%d" % two.port})
    call("fifth")
    told(two, "fifth")
    switch(**{"zipkin-service-id": None, "zipkin-endpoint": "http://127.0.0.1:%d/api/v2/spans" % one.port})
    call("sixth")
    told(one, "sixth")
    totals, _ = counted(r)
    assert totals[("enable-zipkin", "sent")] == 6 and totals[("enable-zipkin", "dropped")] == 1


def test_check_says_where_a_url_is_wrong(sinew):  # noqa: F811
    f = sinew.tmp / "s.yaml"
    for url, column, word in (("ws://a:1", 16, "http:// or https://"), ("a:9411", 16, "trace.zipkin"),
                              ("http://:1/", 16, "trace.zipkin"),
                              ("http://u:p@h/", 16, "trace.zipkin")):
        f.write_text("name: t\ntrace: {zipkin: '%s'}\npeers: {}\n" % url)
        for command in ("check", "run"):
            done = sinew.run(command, f)
            assert done.returncode == 2, (url, done)
            assert "s.yaml:2:%d: " % (column + 1) in done.stderr and word in done.stderr, done.stderr
            assert "u:p" not in done.stderr
