# SPDX-License-Identifier: Apache-2.0
"""The agent's checks against servers that are not ours, each a process of its own: Python's
http.server, grpcio, and one that accepts and says nothing. They are killed and started again, and
who went out and came back is counted."""
import calendar
import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import certs
import dns_peer
import pytest

from conftest import PATIENCE, free_port, until

HERE = os.path.dirname(os.path.abspath(__file__))

GRPC_SERVER = """
import sys, tempfile
sys.path.insert(0, sys.argv[2])
import cli_peer
with tempfile.TemporaryDirectory() as folder:
    cli_peer.generate(folder)
server = cli_peer.Server(reflection=(), health=sys.argv[3] == "health",
                         address="127.0.0.1:" + sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    server.health.states["test.cli.Echo"] = int(line)
    print("set", flush=True)
"""


HTTPS_SERVER = """
import http.server, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "cert.key")
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"""


class Process:
    """A server that can be killed and started again at its port."""

    def __init__(self, *args, port=None, cwd=None, ready=None, ip="127.0.0.1"):
        self.port, self.ip = port or free_port(), ip
        self.args = [str(a).replace("PORT", str(self.port)) for a in args]
        self.cwd, self.ready, self.process = cwd, ready, None
        self.start()

    @property
    def address(self):
        return "%s:%d" % (self.ip, self.port)

    def start(self):
        self.process = subprocess.Popen([sys.executable, *self.args], cwd=self.cwd, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL)
        if self.ready:
            assert self.process.stdout.readline() == self.ready
        until(self.takes_connections)

    def takes_connections(self):
        assert self.process.poll() is None
        try:
            socket.create_connection((self.ip, self.port), 1).close()
            return True
        except OSError:
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    stop = kill


class CheckingAgent:
    """`sinew agent` with a mesh file; what it says of instances, line by line."""

    def __init__(self, sinew, endpoints, doc=None, options=()):
        doc = doc or {"services": {"shop": {"endpoints": {
            name: {"protocol": protocol, "instances": [s.address for s in servers], "check": check}
            for name, (protocol, servers, check) in endpoints.items()}}}}
        (sinew.tmp / "mesh.json").write_text(json.dumps(doc))
        self.process, self.port = sinew.agent("--mesh", "mesh.json", *options)
        self.said, self.other = [], []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stderr:
            m = re.search(r"127\.0\.0\.\d:(\d+) is (unwell: (.*)|well again)$", line.rstrip())
            if m:
                self.said.append((int(m[1]), m[3] or "well"))
            else:
                self.other.append(line)

    def served(self, endpoint, what="port"):
        with urllib.request.urlopen("http://127.0.0.1:%d/t" % self.port, timeout=PATIENCE) as r:
            peers = json.load(r)["peers"]["service"]["shop"].get(endpoint, {})
        return {p[what] for p in peers.values()}

    def serves(self, endpoint, *servers):
        until(lambda: self.served(endpoint) == {s.port for s in servers})


# Who lives may be slow on a busy machine: a time-out would be no mistake of ours.
TIMES = {"every": "100ms", "timeout": "10s", "healthy_after": 2, "unhealthy_after": 3}


def test_http_servers_come_and_go(sinew, cleanup, tmp_path):
    servers = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "healthz").write_text("well")
        servers.append(Process("-m", "http.server", "--bind", "127.0.0.1", "PORT",
                               cwd=tmp_path / name))
        cleanup(servers[-1])
    one, two = servers
    agent = CheckingAgent(sinew, {"web": ("http", servers, {"http": "/healthz", **TIMES})})
    assert agent.served("web") == {one.port, two.port}
    one.kill()
    agent.serves("web", two)
    one.start()
    agent.serves("web", one, two)
    (tmp_path / "two" / "healthz").unlink()
    agent.serves("web", one)
    (tmp_path / "two" / "healthz").write_text("well")
    agent.serves("web", one, two)
    one.process.send_signal(signal.SIGTERM)
    agent.serves("web", two)
    two.kill()  # then nobody is left: all are served
    agent.serves("web", one, two)
    until(lambda: len(agent.said) == 6)
    refused = "GET /healthz: connect to %s: Connection refused"
    assert agent.said == [
        (one.port, refused % one.address), (one.port, "well"),
        (two.port, "GET /healthz: status 404"), (two.port, "well"),
        (one.port, refused % one.address), (two.port, refused % two.address)]
    # An agent that starts anew does not empty the mesh, though nobody is there.
    agent.process.terminate()
    agent.process.wait(PATIENCE)
    agent = CheckingAgent(sinew, {"web": ("http", servers, {"http": "/healthz", **TIMES})})
    assert agent.served("web") == {one.port, two.port}
    two.start()
    agent.serves("web", two)


def test_who_is_out_is_seen(sinew, cleanup):
    """In `sinew peers`, over HTTP and in the metrics, of an agent that asks for a token."""
    def ask(what):
        request = urllib.request.Request("http://127.0.0.1:%d/-/%s" % (agent.port, what),
                                         headers={"Authorization": "Bearer tea"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as r:
            return r.read().decode()

    def peers():
        url = "ws://127.0.0.1:%d/t" % agent.port
        r = sinew.run("peers", "service", "shop", "web", "--agent", url,
                      env={"SINEW_AGENT_TOKEN": "tea"})
        assert r.returncode == 0, r.stderr
        return set(json.loads(r.stdout)), r.stderr

    one = Process("-m", "http.server", "--bind", "127.0.0.1", "PORT")
    cleanup(one)
    two = Process("-m", "http.server", "--bind", "127.0.0.1", "PORT")
    cleanup(two)
    (sinew.tmp / "token").write_text("tea\n")
    agent = CheckingAgent(sinew, {"web": ("http", [one, two], {"http": "/", **TIMES}),
                                  "raw": ("tcp", [two], {"tcp": True, **TIMES})},
                          options=("--token", "token"))
    assert peers() == ({"1", "2"}, "")
    assert json.loads(ask("checks")) == []
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen("http://127.0.0.1:%d/-/checks" % agent.port, timeout=PATIENCE)
    two.kill()
    before = time.time()
    until(lambda: len(json.loads(ask("checks"))) == 2)
    web, raw = sorted(json.loads(ask("checks")), key=lambda o: o["target"], reverse=True)
    since = calendar.timegm(time.strptime(web.pop("since"), "%Y-%m-%dT%H:%M:%SZ"))
    assert before - 2 < since < time.time() + 2 and web.pop("seconds") <= time.time() - before + 1
    assert web == {"target": "service shop/web", "identity": "2", "address": two.address,
                   "served": False, "why": "GET /: connect to %s: Connection refused" % two.address}
    assert raw["target"] == "service shop/raw" and raw["served"], raw
    until(lambda: peers()[0] == {"1"})
    said = peers()[1]
    assert re.fullmatch(r"sinew: 2 \(%s\) is unwell since \d{4}-[-0-9T:]+Z and not served: GET /: "
                        r"connect to %s: Connection refused\n" % (two.address, two.address), said), said
    metrics = ask("metrics")
    for line in ('instances{target="service shop/web",state="well"} 1',
                 'instances{target="service shop/web",state="unwell"} 1',
                 'instances{target="service shop/raw",state="unwell"} 1', "connectors{} 0"):
        assert "\nsinew_agent_%s\n" % line in metrics, metrics
    assert int(re.search(r'sinew_agent_checks_total\{result="failed"\} (\d+)', metrics)[1]) >= 6
    one.kill()
    until(lambda: "as all are, so it is served all the same" in peers()[1])
    one.start()
    two.start()
    until(lambda: json.loads(ask("checks")) == [])
    until(lambda: peers() == ({"1", "2"}, ""))


def test_instances_that_dns_tells_are_checked(sinew, cleanup):
    names = dns_peer.NameServer()
    cleanup(names)
    one = Process("-m", "http.server", "--bind", "127.0.0.1", "PORT")
    cleanup(one)
    two = Process("-m", "http.server", "--bind", "127.0.0.2", "PORT", port=one.port, ip="127.0.0.2")
    cleanup(two)
    names.set("web.test", "A", ["127.0.0.1", "127.0.0.2"])
    doc = {"resolver": "127.0.0.1:%d" % names.port, "services": {"shop": {"endpoints": {"web": {
        "from": "dns://web.test:%d" % one.port, "check": {"http": "/", **TIMES}}}}}}
    agent = CheckingAgent(sinew, None, doc)

    def serve(*ips):
        until(lambda: agent.served("web", "address") == set(ips))
    serve("127.0.0.1", "127.0.0.2")
    two.kill()
    serve("127.0.0.1")
    names.set("web.test", "A", ["127.0.0.2", "127.0.0.1", "127.0.0.3"])
    until(lambda: len(agent.said) == 2)  # the third; what is known of the second stays known
    serve("127.0.0.1")
    two.start()
    serve("127.0.0.1", "127.0.0.2")
    names.set("web.test", "A", ["127.0.0.2"])
    serve("127.0.0.2")
    until(lambda: len(agent.said) >= 3)
    said = [why for _, why in agent.said]
    assert [w == "well" for w in said] == [False, False, True], agent.said


def test_one_that_accepts_and_says_nothing(sinew, cleanup):
    silent = socket.create_server(("127.0.0.1", 0), backlog=100)
    port = silent.getsockname()[1]

    class Silent:
        address = "127.0.0.1:%d" % port
    Silent.port = port
    lively = Process("-m", "http.server", "--bind", "127.0.0.1", "PORT")
    cleanup(lively)
    quick = dict(TIMES, timeout="150ms", unhealthy_after=2)
    agent = CheckingAgent(sinew, {
        "web": ("http", [Silent, lively], {"http": "/", "status": "200-404", **TIMES}),
        "quick": ("http", [Silent], {"http": "/", **quick}),
        "rpc": ("grpc", [Silent], {"grpc": "", **quick}),
        "raw": ("raw", [Silent], {"tcp": True, **TIMES})})
    until(lambda: len(agent.said) == 2)
    assert sorted(agent.said) == [(port, "GET /: no answer within 150 ms"),
                                  (port, "gRPC health of the server: no answer within 150 ms")]
    assert agent.served("web") == {port, lively.port}  # ten seconds are not over
    assert agent.served("raw") == {port}
    silent.close()
    agent.serves("web", lively)
    assert all(why.endswith("refused") or "reset" in why or "closed" in why
               for _, why in agent.said[2:]), agent.said


def test_grpc_servers_come_and_go(sinew, cleanup):
    if subprocess.run([sys.executable, "-c", "import grpc"], capture_output=True).returncode:
        pytest.skip("grpcio is missing")
    folder = os.path.join(HERE, "../grpc")

    def server(kind):
        p = Process("-c", GRPC_SERVER, "PORT", folder, kind, ready="ready\n")
        cleanup(p)
        return p

    def state(p, number):
        p.process.stdin.write("%d\n" % number)
        p.process.stdin.flush()
        assert p.process.stdout.readline() == "set\n"

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        one, two, bare = pool.map(server, ("health", "health", "none"))
    agent = CheckingAgent(sinew, {
        "rpc": ("grpc", [one, two], {"grpc": "test.cli.Echo", **TIMES}),
        "bare": ("grpc", [bare, one], {"grpc": "", **TIMES}),
        "unknown": ("grpc", [two], {"grpc": "test.cli.None", **TIMES})})
    agent.serves("bare", one)
    state(two, 2)
    agent.serves("rpc", one)
    state(two, 1)
    agent.serves("rpc", one, two)
    two.kill()
    agent.serves("rpc", one)
    two.start()
    agent.serves("rpc", one, two)
    until(lambda: len(agent.said) >= 6)  # what it says may come later than what it does
    echo = [s for s in agent.said if s[0] == two.port and "test.cli.None" not in s[1]]
    assert len(echo) == 4, agent.said
    assert echo[0] == (two.port, "gRPC health of test.cli.Echo: NOT_SERVING")
    assert echo[1] == echo[3] == (two.port, "well")
    assert "test.cli.Echo" in echo[2][1]
    assert [s for s in agent.said if s[0] == one.port] == []
    why = [s[1] for s in agent.said if s[0] == bare.port]
    assert len(why) == 1 and "UNIMPLEMENTED" in why[0]
    unknown = [s[1] for s in agent.said if "test.cli.None" in s[1]]
    assert len(unknown) == 1 and "NOT_FOUND" in unknown[0]
    assert agent.served("unknown") == {two.port}


def test_by_tls(sinew, cleanup, tmp_path):
    ca, _ = certs.alone(tmp_path, subject="shop", names="DNS:shop.test")
    server = Process("-c", HTTPS_SERVER, "PORT", cwd=tmp_path)
    cleanup(server)
    check = {"http": "/cert.pem", **TIMES}
    agent = CheckingAgent(sinew, {
        "well": ("https", [server], dict(check, ca=ca, host="shop.test")),
        "plain": ("https", [server], dict(check, tls=False)),
        "stranger": ("https", [server], dict(check, host="shop.test")),
        "other": ("https", [server], dict(check, ca=ca, host="other.test")),
        "any": ("http", [server], dict(check, tls=True, insecure=True))})
    until(lambda: len(agent.said) == 3)
    said = " / ".join(why for _, why in agent.said)
    assert "certificate" in said and "other.test" in said, said
    server.kill()  # the other two were well until now
    until(lambda: len(agent.said) == 5)
    assert all("refused" in why or "closed" in why or "reset" in why
               for _, why in agent.said[3:]), agent.said
