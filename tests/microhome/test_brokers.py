# SPDX-License-Identifier: Apache-2.0
"""The hub with message brokers: hubs joined by NATS, events from outside by MQTT."""
import json
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from conftest import PATIENCE, ROOT, until

sys.path.insert(0, os.path.join(ROOT, "tests/services"))
import services

BUILD = os.environ.get("SINEW_BUILD_ROOT", os.path.join(ROOT, "build"))
MODULES = os.path.join(BUILD, "src/connect/broker")
INFO = {"log": {"level": "info"}}
BOTH = {"registry": "127.0.0.1:0", "broker": "127.0.0.1:0"}


@pytest.fixture
def broker(monkeypatch):
    """Start nats-server or mosquitto."""
    monkeypatch.setenv("SINEW_MODULE_PATH", MODULES)
    running = []

    def start(kind):
        module = {"nats": "nats", "mosquitto": "mqtt"}[kind]
        if not os.path.exists(os.path.join(MODULES, "sinew-broker-%s.so" % module)):
            pytest.skip("the module broker/%s is not built" % module)
        try:
            running.append(services.start(kind))
        except services.Missing as why:
            pytest.skip(str(why))
        return running[-1]
    yield start
    for b in running:
        b.stop()


def said(hub, text):
    until(lambda: any(text in line for line in hub.log), text + " in " + "\n".join(hub.log[-10:]))


def values(node):
    """What came, but for those of joined(), of which there may be more under way."""
    return [e["data"] for e in node.got if e["data"] != "probe"]


def came(node, n):
    until(lambda: len(values(node)) >= n, lambda: "%d of %d: %s" % (len(values(node)), n, values(node)))


def joined(hubs, nodes):
    """Until every hub's event reaches every node."""
    for h in hubs:
        for n in nodes:
            tries = [0]

            def heard():
                tries[0] += 1
                h.publish("t", "probe")
                return "probe" in [e["data"] for e in n.got]
            until(heard, "the hubs hear each other")
            for m in nodes:
                m.got.clear()


def test_hubs_joined_by_nats(hub, nodes, broker):
    """What is published at one hub reaches the subscribers of both, once."""
    server = broker("nats")
    bus = {"type": "nats", "url": server.url, "reconnect-max": "200ms"}
    hubs = [hub(dict(BOTH, bus=bus, id="h%d" % i), **INFO) for i in range(2)]
    ns = []
    for i, h in enumerate(hubs):
        said(h, "connected to")
        n = nodes("n%d" % i)
        assert n.register(h)[0] == n.subscribe(h, "t")[0] == 1
        ns.append(n)
    joined(hubs, ns)
    for k in range(40):
        assert hubs[k % 2].publish("t", k)[0] == 1
    for n in ns:
        came(n, 40)
    time.sleep(0.1)
    for n in ns:
        assert sorted(values(n)) == list(range(40))
        n.got.clear()
    # The link is cut: each hub serves its own, and says so; healed: both again.
    server.kill()
    for i, h in enumerate(hubs):
        said(h, "the broker is away")
        h.publish("t", "own%d" % i)
    for i, n in enumerate(ns):
        came(n, 1)
        assert values(n) == ["own%d" % i]
    server.start()
    joined(hubs, ns)
    hubs[0].publish("t", "again")
    until(lambda: all("again" in values(n) for n in ns), "both again")
    # A hub that is killed does not disturb the other.
    hubs[0].p.kill()
    hubs[0].p.wait()
    hubs[1].publish("t", "alone")
    until(lambda: "alone" in values(ns[1]), "the other hub goes on")


def test_durable_bus(hub, nodes, broker):
    """JetStream keeps events for a hub that was killed."""
    server = broker("nats")

    def section(i):
        return dict(BOTH, id="h%d" % i, bus={
            "type": "nats", "url": server.url, "durable": True, "ack-wait": "1s",
            "reconnect-max": "200ms"})
    one, two = hub(section(1), **INFO), hub(section(2), **INFO)
    n1, n2 = nodes("n1"), nodes("n2")
    for h, n in ((one, n1), (two, n2)):
        said(h, "connected to")
        assert n.register(h)[0] == n.subscribe(h, "t")[0] == 1
    joined([one, two], [n1, n2])
    two.p.kill()
    two.p.wait()
    for k in range(20):
        assert one.publish("t", k)[0] == 1
    came(n1, 20)
    again = hub(section(2), **INFO)
    again_node = nodes("n3")
    assert again_node.register(again)[0] == again_node.subscribe(again, "t")[0] == 1
    # Those may have come before the node subscribed anew; what is published now comes for sure.
    one.publish("t", "now")
    until(lambda: "now" in values(again_node), "the hub is back")
    assert len(values(again_node)) == len(set(map(str, values(again_node))))


def mosquitto(server, *args):
    return ["-h", "127.0.0.1", "-p", str(server.port), *args]


@pytest.mark.skipif(not shutil.which("mosquitto_pub"), reason="mosquitto_pub is missing")
def test_mqtt_in_and_out(hub, nodes, broker):
    server = broker("mosquitto")
    h = hub(dict(BOTH, mqtt={"url": server.url, "deliver": ["door.bell", "kitchen.light"],
                             "reconnect-max": "200ms"}), **INFO)
    n = nodes("n")
    assert n.register(h)[0] == n.subscribe(h, "kitchen.light")[0] == n.subscribe(h, "plain")[0] == 1
    said(h, "connected to")

    def publish(topic, payload):
        subprocess.run(["mosquitto_pub"] + mosquitto(server, "-q", "1", "-t", topic, "-m", payload),
                       check=True, timeout=PATIENCE)
    out = subprocess.Popen(["mosquitto_sub"] + mosquitto(server, "-v", "-t", "uhome/out/#"),
                           stdout=subprocess.PIPE, text=True)
    lines = []
    threading.Thread(target=lambda: [lines.append(x.rstrip("\n")) for x in out.stdout],
                     daemon=True).start()
    try:
        def arrived():
            publish("uhome/in/kitchen/light", '{"on": true}')
            return n.got and lines
        until(arrived, "the first message")
        e = n.got[0]
        assert (e["type"], e["data"]) == ("kitchen.light", {"on": True})
        assert lines[0] == 'uhome/out/kitchen/light {"on": true}' or \
            json.loads(lines[0].split(" ", 1)[1]) == {"on": True}
        n.got.clear()
        publish("uhome/in/plain", "no {json")
        publish("uhome/in/plain", "")
        publish("uhome/in/µHome/core/nodes", "{}")  # reserved
        publish("uhome/in", "no type")
        publish("uhome/in/plain", "[1, 2]")
        # Of the first message there may be more under way: it was sent until one came.
        assert [x.get("data") for x in n.wait(3, "plain")] == ["no {json", None, [1, 2]]
        h.publish("door.bell", {"who": "me"})
        bell = until(lambda: [x for x in lines if x.startswith("uhome/out/door/bell ")], "an event goes out")
        assert [json.loads(x.split(" ", 1)[1]) for x in bell] == [{"who": "me"}]
        # The server goes and comes back.
        server.kill()
        said(h, "the server is away")
        server.start()
        n.got.clear()

        def back():
            publish("uhome/in/plain", "7")
            return n.got
        until(back, "MQTT is back")
        assert n.got[0]["data"] == 7
    finally:
        out.kill()
        out.wait()
        out.stdout.close()


def test_refused(tmp_path, broker):
    broker("mosquitto")
    path = tmp_path / "f.yaml"
    for mqtt, says in (
            ({"ulr": "x"}, "unknown key"),
            ({"url": "mqtt://127.0.0.1", "in": "a/#"}, "without wildcards"),
            ({"type": "kafka"}, "no broker driver is called kafka"),
            ("on", "map")):
        path.write_text(json.dumps({"hub": dict(BOTH, mqtt=mqtt)}))
        r = subprocess.run([os.environ.get("SINEW_BINARY", "build/sinew"), "check", str(path)],
                           capture_output=True, text=True, timeout=PATIENCE)
        assert r.returncode != 0 and says in r.stdout + r.stderr, r.stdout + r.stderr
