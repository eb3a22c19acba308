# SPDX-License-Identifier: Apache-2.0
"""Secrets and tokens are planted wherever one can stand, and looked for wherever sinew says something:
logs at every level, the answers of the admin API and the sidecar, the flight recorder's files, problems
of files, the commands, the service manager's socket. Every planted one contains the word MARK."""
import http.client
import json
import os
import socket
import threading

import pytest

from conftest import PATIENCE, Agent, Raw, Service, free_port, peer, peers_message
from test_trace import Collector

MARK = "geheim"
COUNT = [0]


def secret():
    COUNT[0] += 1
    return "%s%d" % (MARK, COUNT[0])


def clean(what, text):
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    at = text.find(MARK)
    assert at < 0, "%s has a secret: ...%s..." % (what, text[max(0, at - 200):at + 60])


def agent_message(port, broken):
    m = peers_message(port)
    m["peers"]["service"]["broken"] = {"rest": {"1": peer(broken)}}
    m["peers"]["database"] = {"contacts": {"1": {
        "class": "dynamodb", "subClass": "dynamodb", "tableName": "contacts",
        "config": {"region": "us-east-1", "credentials": {
            "accessKeyId": secret(), "secretAccessKey": secret(), "sessionToken": secret()}}}}}
    m["peers"]["queue"] = {"jobs": {"1": {
        "class": "kinesis", "streamName": "jobs", "config": {"password": secret(), "n": {
            "api_TOKEN": [secret(), {"x": secret()}], "Secret": {"deep": secret()}}}}}}
    m["endpoints"] = {"default": {"port": 1, "clientSecret": secret()}}
    m["consumes"] = [{"kind": "service", "name": "x", "authToken": secret()}]
    m["policies"] = {"values": {"retry-count": 2, "retry-initial-delay": 1, "my-token": secret(),
                                "tls-key": "/nowhere/" + secret(), "enable-zipkin": True,
                                "timeout": {"password": secret()}}}
    return m


class Everything:
    """A `sinew run` with everything on, and all that it said."""

    def __init__(self, sinew, cleanup):
        self.sinew = sinew
        self.service = Service(lambda h, b: Service.reply(
            h, 503 if h.path.startswith("/fail") else 200, b"x" * 100 + secret().encode(),
            [("Set-Cookie", "id=" + secret()), ("X-Auth-Token", secret()),
             ("Retry-After", "0" if h.path.startswith("/fail") else secret())]))
        # what is no HTTP, with a secret in it: texts of errors repeat what they met
        self.broken = Raw(lambda raw, c, n: (raw.read_request(c), c.sendall(
            b"HTTP/1.1 200 OK\r\nX-Api-Key " + secret().encode() + b"\r\n\r\n")))
        self.collector = Collector()
        for thing in (self.service, self.broken, self.collector):
            cleanup(thing)
        self.agent = Agent(agent_message(self.service.port, self.broken.port))
        cleanup(self.agent)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(sinew.tmp / "notify"))
        self.manager.setblocking(False)
        self.admin_port, self.port = free_port(), free_port()
        self.admin_token, self.token = secret(), secret()
        (sinew.tmp / "token").write_text(self.token + "\n")
        self.file = sinew.tmp / "sinew.yaml"
        self.file.write_text(
            "name: t\nlog: {level: debug, access: on}\n"
            "listen:\n"
            "  admin: {address: '127.0.0.1:%d', token: '${ADMIN_TOKEN}'}\n"
            "  sidecar: {address: '127.0.0.1:%d', token: '${file:%s}'}\n"
            "trace: {otlp: 'http://127.0.0.1:%d'}\nstate: %s\n"
            "tls:\n  verify: ${VERIFY:true}\n" % (
                self.admin_port, self.port, sinew.tmp / "token", self.collector.port,
                sinew.tmp / "kept"))
        (sinew.tmp / "kept").mkdir()
        self.process = sinew.start(
            "run", self.file, "-vv", "--log", "json", agent=self.agent,
            env={"ADMIN_TOKEN": self.admin_token, "NOTIFY_SOCKET": str(sinew.tmp / "notify"),
                 "AWS_SECRET_ACCESS_KEY": secret(), "AWS_SESSION_TOKEN": secret()})
        self.said = []
        self.changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        with self.changed:
            assert self.changed.wait_for(
                lambda: any("sidecar on" in x for x in self.said), PATIENCE), self.said

    def _read(self):
        for line in self.process.stderr:
            with self.changed:
                self.said.append(line)
                self.changed.notify_all()

    def ask(self, port, method, path, body=None, **headers):
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        c.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        r = c.getresponse()
        data = r.read()
        c.close()
        return r, data

    def call(self, method, path, body=None, token=None, **headers):
        return self.ask(self.port, method, path, body,
                        Authorization="Bearer " + (token or self.token), **headers)

    def admin(self, path, method="GET", body=None, token=None):
        return self.ask(self.admin_port, method, path, body,
                        Authorization="Bearer " + (token or self.admin_token))


ADMIN_PATHS = (
    "/", "/healthz", "/readyz", "/metrics", "/peers", "/peers/database/contacts",
    "/peers/queue/jobs", "/peers/service/basket/rest", "/policies", "/policies/service/basket/rest",
    "/policies/database/contacts", "/breakers", "/breakers/service/basket/rest", "/targets", "/why",
    "/why?text", "/why/last", "/why/last?text", "/config", "/config?origin", "/nowhere")


def test_no_secret_is_told(sinew, cleanup):
    e = Everything(sinew, cleanup)
    while e.admin("/readyz")[0].status != 200:
        pass
    # calls that go well, that fail, that are refused, with secrets in all that a caller can say
    for path in ("/ok", "/fail"):
        for target in ("service/basket/rest", "service/broken/rest", "service/nobody/rest"):
            answer, body = e.call(
                "POST", "/call/%s%s?token=%s&password=%s" % (target, path, secret(), secret()),
                secret(), Cookie="id=" + secret(), X_Api_Key=secret(), sinew_timeout_ms="2000",
                Idempotency_Key=secret())
            if answer.status >= 400 and "problem" in answer.headers.get("Content-Type", ""):
                clean("a problem document", body)
    answer, body = e.call("GET", "/call/service/basket/rest/", token=secret())
    assert answer.status == 401
    clean("the sidecar's refusal", body)
    answer, body = e.ask(e.port, "GET", "/peers/service/basket/rest?x=" + secret())
    assert answer.status == 401
    clean("the sidecar's refusal", body)
    for path in ("/peers/database/contacts", "/peers/queue/jobs"):
        answer, body = e.call("GET", path)
        assert answer.status == 200 and b"***" in body
        clean(path, body)
    # the admin API: everything it has, and what it refuses
    for path in ADMIN_PATHS:
        answer, body = e.admin(path)
        clean(path, body)
        clean(path, str(answer.headers))
    for path, method, body in (("/breakers/service/basket/rest", "PUT", '{"state": "%s"}' % secret()),
                               ("/breakers/service/basket/rest", "PUT", '{"%s": ' % secret()),
                               ("/config?" + "x=" + secret(), "GET", None)):
        answer, data = e.admin(path, method, body)
        assert answer.status == 400
        clean(path[:10], data)
    answer, body = e.admin("/breakers/service/basket/rest", "PUT", '{"state": "auto"}', secret())
    assert answer.status == 401
    clean("the refusal of a token", body)
    # an agent that sends what is no metadata
    for broken in ('{"peers": {"a": "%s' % secret(), '{"peers": "%s"}' % secret(),
                   '{"policies": {"values": "%s"}}' % secret(), secret(), '["%s"]' % secret(),
                   '{"peers": {"service": {"basket": {"rest": {"1": "%s"}}}}}' % secret(),
                   '{"peers": {"database": {"contacts": "%s"}}}' % secret()):
        e.agent.push(broken)
    e.agent.push(agent_message(e.service.port, e.broken.port))
    for path in ADMIN_PATHS:
        clean(path, e.admin(path)[1])
    # the commands
    for args in (["why"], ["breaker"], ["top", "--once"], ["top", "--once", "--json"],
                 ["policies", "service", "basket", "rest", "--admin", "127.0.0.1:%d" % e.admin_port],
                 ["peers", "database", "contacts"], ["peers", "queue", "jobs"],
                 ["peer", "queue", "jobs"], ["check", e.file], ["-vv", "check", e.file, "--connect"],
                 ["breaker", "open", "service", "basket", "rest", "x", "-vv"]):
        r = sinew.run(*args, "--config", e.file, agent=e.agent,
                      env={"ADMIN_TOKEN": e.admin_token})
        clean(" ".join(map(str, args)), r.stdout + r.stderr)
    assert MARK in sinew.run("peers", "queue", "jobs", "--show-secrets", "--config", e.file,
                             agent=e.agent, env={"ADMIN_TOKEN": e.admin_token}).stdout  # asked for
    # what is written down
    e.process.terminate()
    assert e.process.wait(PATIENCE) == 0
    with e.changed:
        log = "".join(e.said)
    assert "wrong type" in log  # it was read
    clean("the log", log)
    access = e.process.stdout.read()
    assert "/call/service/basket/rest" in access + log
    clean("the access log", access)
    while True:
        try:
            clean("what the service manager hears", e.manager.recv(1000))
        except BlockingIOError:
            break
    rings = [os.path.join(d, f) for d, _, fs in os.walk(sinew.tmp / "state") for f in fs]
    assert rings
    for path in rings:
        clean(path, open(path, "rb").read())
    # metadata is kept with its secrets, for nobody else
    for d, _, files in os.walk(sinew.tmp / "kept"):
        for f in files:
            assert os.stat(os.path.join(d, f)).st_mode & 0o077 == 0, f
    # spans: the query is the original's; headers, bodies and tokens are not in them
    for span in e.collector.spans:
        text = json.dumps(span)
        for part in text.split("?token=")[1:]:
            text = text.replace("?token=" + part.split('"')[0], "")
        clean("a span", text)
    assert e.collector.spans


@pytest.mark.parametrize("text, place", [
    ("listen: {admin: {address: '127.0.0.1:1', token: [%s]}}\n", "1:"),
    ("listen: {admin: {address: '127.0.0.1:1', tokn: %s}}\n", "1:"),
    ("listen: {sidecar: {address: '127.0.0.1:1', token: {x: %s}}}\n", "1:"),
    ("trace: {otlp: 'http://user:%s@h/'}\n", "1:"),
    ("agent: 'ws://user:%s@h/t'\n", "1:"),
    ("listen: {admin: '127.0.0.1:1', token: %s\n", ""),
    ("listen: {admin: {address: '127.0.0.1:1', token: \"${NOT_%s}\"}}\n", None),
])
def test_problems_of_a_file_do_not_repeat_secrets(sinew, text, place):
    f = sinew.tmp / "s.yaml"
    f.write_text(text % secret())
    for command in ("check", "run"):
        r = sinew.run(command, f)
        assert r.returncode == 2, r
        if place is not None:  # the name of a variable is none
            clean(text, r.stdout + r.stderr)
            assert "s.yaml:" + place in r.stderr
