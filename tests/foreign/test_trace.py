# SPDX-License-Identifier: Apache-2.0
"""Spans: what collectors get and what peers are told. The collectors are Python's own server; what
they take is checked against the forms' own rules."""
import json
import os
import re
import ssl
import threading
import time

import certs
from conftest import FAST, PATIENCE, Agent, Service, free_port, peers_message
from test_sidecar import Running, basket

SOURCE = os.environ.get("SINEW_SOURCE_ROOT", os.getcwd())


class Collector(Service):
    def __init__(self, status=202, **kw):
        self.spans = []
        self.changed = threading.Condition()
        super().__init__(self.take, **kw)
        self.status = status

    def take(self, h, body):
        with self.changed:
            doc = json.loads(body)
            if h.path == "/v1/traces":
                for r in doc["resourceSpans"]:
                    for s in r["scopeSpans"]:
                        self.spans += s["spans"]
            else:
                self.spans += doc
            self.changed.notify_all()
        self.reply(h, self.status)

    def wait(self, n):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.spans) >= n, PATIENCE), self.spans
            return list(self.spans)


def lower(headers):
    return {k.lower(): v for k, v in headers.items()}


def traced(sinew, cleanup, services, collector, **values):
    """The seed's way: policies from the agent, the collector a registry entry."""
    cleanup(collector)
    for s in services:
        cleanup(s)
    message = peers_message(*[s.port for s in services])
    message["peers"]["cluster://trace-spans"] = {
        "1": {"protocol": "http", "address": "127.0.0.1", "port": collector.port}}
    message["policies"] = {"values": dict({
        "enable-zipkin": True, "zipkin-service-id": "cluster://trace-spans",
        "retry-initial-delay": 20, "retry-max-delay": 50}, **values)}
    agent = Agent(message)
    cleanup(agent)
    return Running(sinew, "", agent=agent, env={
        "BERLIOZ_CLUSTER": "shop", "BERLIOZ_SECTOR": "core", "BERLIOZ_SERVICE": "Front"})


def ready(r):
    while r.admin("/readyz")[0].status != 200:
        pass


def test_one_zipkin_span_an_attempt(sinew, cleanup):
    s = Service(lambda h, b: Service.reply(h, 200 if len(s.requests) > 1 else 503))
    c = Collector()
    r = traced(sinew, cleanup, [s], c)
    ready(r)
    assert r.ask("GET", "/call/service/basket/rest/items?page=2")[0].status == 200
    spans = c.wait(2)
    sent = [lower(q[2]) for q in s.requests]
    for span, headers, status in zip(spans, sent, ("503", "200")):
        assert span["traceId"] == headers["x-b3-traceid"] and span["id"] == headers["x-b3-spanid"]
        assert span["parentId"] == span["traceId"] == headers["x-b3-parentspanid"]
        assert span["name"] == "get" and span["kind"] == "CLIENT" and span["duration"] >= 1
        assert span["localEndpoint"] == {"serviceName": "service-shop-core-front"}
        assert span["remoteEndpoint"] == {"serviceName": "service-shop-core-basket-rest"}
        assert span["tags"]["http.url"] == "/items?page=2"
        assert span["tags"]["http.status_code"] == status
        assert re.fullmatch("[0-9a-f]{16}", span["id"])
    assert spans[0]["tags"]["error"] == "503" and "error" not in spans[1]["tags"]
    assert spans[0]["id"] != spans[1]["id"]


def test_the_caller_s_trace_goes_on(sinew, cleanup):
    s, c = Service(), Collector()
    r = traced(sinew, cleanup, [s], c)
    ready(r)
    r.ask("GET", "/call/service/basket/rest/", headers={
        "X-B3-TraceId": "a1b2c3d4e5f607186e0a2b4c8d1f3057", "X-B3-SpanId": "1d2c3b4a59687766",
        "X-B3-Sampled": "1"})
    span = c.wait(1)[0]
    assert span["traceId"] == "a1b2c3d4e5f607186e0a2b4c8d1f3057"
    assert span["parentId"] == "1d2c3b4a59687766"


def test_not_sampled_is_passed_on_and_not_reported(sinew, cleanup):
    s, c = Service(), Collector()
    r = traced(sinew, cleanup, [s], c)
    ready(r)
    r.ask("GET", "/call/service/basket/rest/a", headers={
        "X-B3-TraceId": "6e0a2b4c8d1f3057", "X-B3-SpanId": "1d2c3b4a59687766", "X-B3-Sampled": "0"})
    r.ask("GET", "/call/service/basket/rest/b")
    assert [x["tags"]["http.url"] for x in c.wait(1)] == ["/b"]
    assert lower(s.requests[0][2])["x-b3-sampled"] == "0"


def test_waits_and_failures_are_spans(sinew, cleanup):
    port = free_port()
    s, c = Service(), Collector()
    r = traced(sinew, cleanup, [s], c, **{"zipkin-sleep-span": True, "retry-count": 2})
    ready(r)
    r.ask("GET", "/call/service/void/rest/z")
    spans = c.wait(3)
    assert [x["tags"].get("error") for x in spans] == ["Error: No peer found.", None,
                                                       "Error: No peer found."]
    assert spans[1]["remoteEndpoint"] == {"serviceName": "sleep"}
    assert spans[1]["tags"] == {"http.url": "http://sleep", "http.status_code": "200"}
    assert spans[0]["remoteEndpoint"] == {"serviceName": "service-shop-core-void-rest"}
    assert port


def test_no_tracing_no_headers(sinew, cleanup):
    s = Service()
    cleanup(s)
    r = Running(sinew, "peers: %s\n" % basket(s.port))
    r.ask("GET", "/call/service/basket/rest/")
    assert not [k for k in lower(s.requests[0][2]) if k.startswith("x-b3") or k == "traceparent"]


def test_a_refusing_collector_loses_spans_and_no_call(sinew, cleanup):
    s, c = Service(), Collector(status=500)
    r = traced(sinew, cleanup, [s], c)
    ready(r)
    for _ in range(3):
        assert r.ask("GET", "/call/service/basket/rest/")[0].status == 200
    c.wait(3)
    assert len(c.spans) == 3  # never again


def test_the_last_spans_leave_at_the_end(sinew, cleanup):
    s, c = Service(), Collector()
    r = traced(sinew, cleanup, [s], c)
    ready(r)
    r.ask("GET", "/call/service/basket/rest/")
    r.process.terminate()
    assert r.process.wait(PATIENCE) == 0
    assert len(c.wait(1)) == 1


def test_otlp_has_a_span_a_call_and_one_an_attempt(sinew, cleanup):
    s = Service(lambda h, b: Service.reply(h, 200 if len(s.requests) > 1 else 503))
    c = Collector(200)
    cleanup(s)
    cleanup(c)
    r = Running(sinew, "trace: {otlp: 'http://127.0.0.1:%d'}\npeers: %s\npolicies: %s\n" % (
        c.port, basket(s.port), json.dumps(FAST["policies"])))
    r.ask("GET", "/call/service/basket/rest/x")
    spans = c.wait(3)
    call = [x for x in spans if "parentSpanId" not in x][0]
    attempts = [x for x in spans if x is not call]
    assert all(x["parentSpanId"] == call["spanId"] and x["traceId"] == call["traceId"]
               and x["kind"] == 3 for x in attempts)
    assert re.fullmatch("[0-9a-f]{32}", call["traceId"])
    assert [e["name"] for e in call.get("events", [])][0].startswith("back-off")
    statuses = [a["value"]["intValue"] for x in attempts for a in x["attributes"]
                if a["key"] == "http.response.status_code"]
    assert statuses == ["503", "200"] and attempts[0]["status"]["code"] == 2
    told = [lower(q[2])["traceparent"] for q in s.requests]
    assert told == ["00-%s-%s-01" % (call["traceId"], x["spanId"]) for x in attempts]
    assert int(call["startTimeUnixNano"]) <= int(attempts[0]["startTimeUnixNano"])


def test_a_collector_with_a_certificate_of_our_own_authority(sinew, cleanup):
    cert, key = certs.alone(sinew.tmp)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    s, trusted, other = Service(), Collector(200, ssl=context), Collector(200, ssl=context)
    for c in (s, trusted, other):
        cleanup(c)
    text = "trace: {otlp: 'https://127.0.0.1:%d'}\npeers: %s\n"
    r = Running(sinew, text % (trusted.port, basket(s.port)) + "tls: {ca: %s}\n" % cert)
    r.ask("GET", "/call/service/basket/rest/")
    assert len(trusted.wait(2)) == 2
    r.process.terminate()
    assert r.process.wait(PATIENCE) == 0
    r = Running(sinew, text % (other.port, basket(s.port)))  # the system does not know it
    r.ask("GET", "/call/service/basket/rest/")
    end = time.monotonic() + PATIENCE
    while b'sinew_spans_total{exporter="otlp",result="failed"} 2' not in r.admin("/metrics")[1]:
        assert time.monotonic() < end
    assert other.spans == []
