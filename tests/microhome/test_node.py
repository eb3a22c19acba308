# SPDX-License-Identifier: Apache-2.0
"""`sinew node` and `sinew publish`, among nodes made of raw sockets."""
import json
import os
import re
import socket
import subprocess
import threading

import pytest
from conftest import BINARY, BROKER, PATIENCE, REGISTRY, ask, connect, event, free_port, pack, read_package


class Sinew:
    """`sinew node ID`, with the lines it says."""

    def __init__(self, tmp, id_, *args):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("BERLIOZ_", "SINEW_CONFIG"))}
        env.update(XDG_RUNTIME_DIR=str(tmp), XDG_STATE_HOME=str(tmp))
        self.log, self.changed = [], threading.Condition()
        self.p = subprocess.Popen([BINARY, "node", id_, "--listen", "127.0.0.1:0", *args], env=env,
                                  cwd=str(tmp), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True)
        threading.Thread(target=self._pump, daemon=True).start()

    def _pump(self):
        for line in self.p.stderr:
            with self.changed:
                self.log.append(line.rstrip("\n"))
                self.changed.notify_all()

    def said(self, what):
        """The first line that matches."""
        def find():
            return next((m for m in (re.search(what, line) for line in self.log) if m), None)
        with self.changed:
            assert self.changed.wait_for(find, PATIENCE), (what, self.log)
            return find()

    @property
    def addr(self):
        host, port = self.said(r"listens on (\S+)").group(1).rsplit(":", 1)
        return host, int(port)


@pytest.fixture
def sinew_node(tmp_path):
    started = []

    def start(id_, *args):
        started.append(Sinew(tmp_path, id_, *args))
        return started[-1]
    yield start
    for n in started:
        if n.p.poll() is None:
            n.p.terminate()
        n.p.wait(PATIENCE)


def core(nodes, says):
    """A registry or broker of the original's kind that is played: `says` answers by type."""
    def answer(payload):
        known = says.get(payload["type"], {"message": "No Handler for Event registered"})
        return known(payload) if callable(known) else known
    return nodes("core", answer=answer)


def at(hub):
    return ["--broker", "%s:%d" % hub.broker, "--registry", "%s:%d" % hub.registry]


def publish(*args):
    return subprocess.run([BINARY, "publish", *args], capture_output=True, text=True, timeout=PATIENCE,
                          stdin=subprocess.DEVNULL)


def test_commands_answer_events(hub, nodes, sinew_node):
    h = hub()
    script = 'read -r line; echo "{\\"got\\": $line, \\"type\\": \\"$SINEW_EVENT_TYPE\\", ' \
             '\\"source\\": \\"$SINEW_EVENT_SOURCE\\", \\"node\\": \\"$SINEW_NODE_ID\\"}"'
    n = sinew_node("lamp/hall", *at(h), "--timeout", "1s", "--on", "a.echo=sh -c '%s'" % script,
                   "--on", "a.text=echo two  'words and'\\ more", "--on", "a.none=true",
                   "--on", "a.fail=sh -c 'echo broken; exit 3'", "--on", "a.slow=sleep 60",
                   "--on", "a.kill=sh -c 'kill -9 $$'", "--on", "a.away=/no/such/program",
                   "--on", "a.loud=yes")
    for type_ in "echo text none fail slow kill away loud".split():
        n.said(r"subscribed to a\.%s$" % type_)

    def send(type_, data=None):
        return ask(n.addr, "me", type_, data)
    status, reply = send("a.echo", {"n": "µ"})
    assert (status, reply["source"], reply["type"]) == (1, "lamp/hall", "µHome.response")
    assert reply["data"] == {"got": {"n": "µ"}, "type": "a.echo", "source": "me", "node": "lamp/hall"}
    assert send("a.text")[1]["data"] == {"message": "two words and more"}
    assert send("a.none")[1]["data"] == {}
    status, reply = send("a.fail")
    assert (status, reply["type"], reply["error"]["reason"]) == (0, "µHome.error", "broken")
    assert reply["error"]["message"].endswith("ended with status 3")
    assert send("a.slow")[1]["error"]["message"].endswith("took too long")
    assert send("a.kill")[1]["error"]["message"].endswith("ended by signal 9")
    assert "cannot be started" in send("a.away")[1]["error"]["message"]
    assert "printed more than" in send("a.loud")[1]["error"]["message"]
    assert send("µHome.core.healthcheck")[1]["data"] == {"message": "Service is healthy"}
    assert send("x")[1]["data"] == {"message": "No Handler for Event registered"}


def test_publish_reaches_both_kinds(hub, nodes, sinew_node, tmp_path):
    h = hub()
    other = nodes("window")
    assert other.register(h)[0] == 1 and other.subscribe(h, "door.bell")[0] == 1
    seen = tmp_path / "seen"
    n = sinew_node("lamp", *at(h), "--on", "door.bell=sh -c 'cat > %s.new; mv %s.new %s'" % (seen, seen, seen))
    n.said("subscribed to door.bell")
    r = publish("--broker", "%s:%d" % h.broker, "door.bell", '{"door": "front"}')
    assert (r.returncode, json.loads(r.stdout)) == (0, {"message": "Successfully published event",
                                                        "subscribers": 2})
    got = other.wait(1)[0]
    assert (got["source"], got["type"], got["data"]) == (BROKER, "door.bell", {"door": "front"})
    n.p.poll()
    for _ in range(400):
        if seen.exists():
            break
        threading.Event().wait(0.02)
    assert json.loads(seen.read_text()) == {"door": "front"}
    r = publish("--all", "--broker", "%s:%d" % h.broker, "to.all")
    assert r.returncode == 0 and "data" not in other.wait(1, "to.all")[0]
    r = publish("--broker", "%s:%d" % h.broker, "uHome.core.x")
    assert r.returncode == 1 and "reserved" in r.stderr and "read as µHome.core.x" in r.stderr
    # It takes its leave.
    n.p.terminate()
    assert n.p.wait(PATIENCE) == 0
    r = publish("--broker", "%s:%d" % h.broker, "door.bell")
    assert json.loads(r.stdout)["subscribers"] == 1


def test_an_original_broker_takes_no_events(nodes):
    broker = core(nodes, {})
    r = publish("--broker", broker.address, "a", "[1]")
    assert r.returncode == 1 and "µHome.core.publish" in r.stderr and "0.0.1" in r.stderr
    asked = broker.wait(1)[0]
    assert (asked["source"], asked["type"]) == ("µHome/interface/cli", "µHome.core.publish")
    assert asked["data"] == {"event": "a", "data": [1]}
    r = publish("--broker", "127.0.0.1:1", "a")
    assert r.returncode == 1 and r.stdout == ""
    for args in (["a", "{"], [""], ["--broker", "nowhere", "a"]):
        assert publish(*args).returncode == 2


def test_registration_is_tried_again_and_subscribing_too(nodes, sinew_node):
    times = {"subscribe": 0}

    def subscribe(payload):
        times["subscribe"] += 1
        return 2 if times["subscribe"] == 100 else {"message": "Successful subscribed to event"}
    port = free_port()
    n = sinew_node("lamp", "--registry", "127.0.0.1:%d" % port, "--broker", "127.0.0.1:%d" % port,
                   "--on", "a=true")
    n.said("lamp listens")
    both = nodes("core", port=port, answer=lambda p: (
        {"message": "Successfully registered microservice 'lamp'"} if p["type"].endswith("register")
        else subscribe(p)))
    n.said("lamp is registered at")
    n.said("subscribed to a")
    register = both.wait(1, "µHome.core.register")[0]
    assert register["source"] == "lamp" and register["data"] == {
        "nodeId": "lamp", "address": "%s:%d" % n.addr}
    assert list(register) == ["id", "timestamp", "source", "type", "data"]
    n.p.terminate()
    assert n.p.wait(PATIENCE) == 0
    assert both.wait(1, "µHome.core.unregister")[0]["source"] == "lamp"


def test_a_registry_that_refuses_ends_it(hub, nodes, sinew_node):
    h = hub()
    there = nodes("lamp")
    assert there.register(h)[0] == 1
    n = sinew_node("lamp", *at(h))
    assert n.p.wait(PATIENCE) == 1
    n.said("Response isn't successful: Failed to register microservice: Node already exists")


def test_many_on_one_connection_and_json_rpc(hub, sinew_node):
    h = hub()
    n = sinew_node("lamp", *at(h), "--on", "a=cat")
    n.said("subscribed to a")
    with connect(n.addr) as s:
        s.sendall(b"".join(pack(event("me", "a", i)) for i in range(20)))
        assert [read_package(s)[2]["data"] for _ in range(20)] == list(range(20))
    with connect(n.addr) as s:
        s.sendall('{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":"µ"}}'.encode())
        assert json.loads(s.recv(65536)) == {"jsonrpc": "2.0", "id": 1, "result": {"x": "µ"}}


def test_off_loopback_it_wants_security(tmp_path):
    def run(*args):
        return subprocess.run([BINARY, "node", *args], capture_output=True, text=True, timeout=PATIENCE,
                              cwd=str(tmp_path))
    r = run("lamp", "--listen", "0.0.0.0:0")
    assert r.returncode == 2 and "--insecure" in r.stderr and "--cert" in r.stderr
    r = run("lamp")
    assert r.returncode == 2 and "--listen" in r.stderr
    for on in ("a", "=x", "a=", "a='x"):
        assert run("lamp", "--listen", ":0", "--on", on).returncode == 2
    assert REGISTRY


def test_the_examples(hub, tmp_path):
    h = hub()
    folder = os.path.join(os.environ.get("SINEW_BUILD_ROOT", "build"), "examples/microhome")
    running, said = [], {}
    for name in "dummy_service dummy_service2 storage chain".split():
        p = subprocess.Popen([os.path.join(folder, name), "127.0.0.1:0", "%s:%d" % h.broker,
                              "%s:%d" % h.registry], stdout=subprocess.PIPE, text=True,
                             env=dict(os.environ, STORAGE=str(tmp_path / "kept")))
        running.append(p)
        said[name] = re.fullmatch(r"(\S+) is at (\S+)\n", p.stdout.readline()).groups()
    try:
        at_broker = ["--broker", "%s:%d" % h.broker]
        for n in range(100):  # the last of the three may still be subscribing
            r = publish(*at_broker, "local.test", json.dumps({"n": n}))
            if json.loads(r.stdout)["subscribers"] == 2:
                break
        line = running[0].stdout.readline()
        while '{"n":%d}' % n not in line.replace(" ", ""):
            line = running[0].stdout.readline()
        assert line.startswith("local.test from " + BROKER)
        host, port = said["storage"][1].rsplit(":", 1)
        status, reply = ask((host, int(port)), "me", "storage.save", ["any", {"pay": "load"}])
        assert (status, reply["data"]["message"]) == (1, "Saved")
        assert ask((host, int(port)), "me", "storage.save")[0] == 2
        for _ in range(500):
            kept = [json.loads(line) for line in (tmp_path / "kept").read_text().splitlines()]
            if {"n": n} in kept:
                break
            threading.Event().wait(0.02)
        assert {"n": n} in kept and ["any", {"pay": "load"}] in kept
    finally:
        for p in running:
            p.terminate()
    assert [p.wait(PATIENCE) for p in running] == [0] * 4
    for p in running:
        p.stdout.close()
    assert json.loads(publish(*at_broker, "local.test").stdout)["subscribers"] == 0
