# SPDX-License-Identifier: Apache-2.0
"""`sinew hub` as its users see it."""
import http.client
import json
import os
import socket
import subprocess
import threading
import time

from conftest import BINARY, PATIENCE, ask, connect, event, free_port, pack, read_package, until

BOTH = {"registry": "127.0.0.1:0", "broker": "127.0.0.1:0"}


def request(hub, method, path, body=None, **headers):
    c = http.client.HTTPConnection(*hub.http, timeout=PATIENCE)
    c.request(method, path, body, headers)
    r = c.getresponse()
    text = r.read()
    c.close()
    return r.status, json.loads(text) if "json" in r.getheader("Content-Type", "") else text.decode()


# ---- the diary's example ----

def test_the_diary(hub, nodes):
    """A broker, a registry, a service that subscribes to local.test and one that does not, events in
    a row, and the first one killed and returning."""
    h = hub(dict(BOTH, check={"restarts": True}))
    one, two = nodes("dummyService"), nodes("dummyService2")
    status, reply = one.register(h)
    assert (status, reply["data"]) == (1, {
        "message": "Successfully registered microservice 'dummyService'", "address": one.address})
    assert two.register(h)[0] == 1
    status, reply = one.subscribe(h, "local.test")
    assert (status, reply["data"]["message"]) == (1, "Successful subscribed to event")
    stop, sent = threading.Event(), []

    def every(seconds):
        while not stop.wait(seconds):
            assert h.publish("local.test", {"n": len(sent)})[0] == 1
            sent.append(len(sent))
    ticker = threading.Thread(target=every, args=(0.05,))
    ticker.start()
    got = one.wait(5)
    assert [e["data"]["n"] for e in got[:5]] == [0, 1, 2, 3, 4]
    assert got[0]["source"] == "µHome/core/eventBroker"
    port = one.port
    one.stop()  # killed: it says nothing to anybody
    lost = len(sent)
    until(lambda: len(sent) > lost + 3, "the broker went on")
    again = nodes("dummyService", port=port)
    assert again.register(h)[0] == 1  # and its subscription is still there
    n = len(sent)
    got = again.wait(3)
    assert got[0]["data"]["n"] >= lost and n > lost
    stop.set()
    ticker.join()
    assert two.got == []
    assert h.admin("/hub")["broker"]["failed"] >= 1


def test_a_node_that_dies_is_removed(hub, nodes):
    h = hub(dict(BOTH, check={"every": "50ms", "timeout": "200ms", "failures": 2}))
    one, two = nodes("one"), nodes("two")
    assert one.register(h)[0] == two.register(h)[0] == 1
    one.stop()
    until(lambda: len(h.admin("/hub/nodes")["nodes"]) == 1, "it is still there")
    status, reply = ask(h.broker, "one", "µHome.core.subscribe", {"subscribe": "x"})
    assert (status, reply["error"]["reason"]) == (2, "Node is not registered")
    assert nodes("one").register(h)[0] == 1  # elsewhere
    until(lambda: "sinew_hub_removed_total{} 1" in h.admin("/metrics"), "it was counted")


# ---- where it listens ----

def refused(tmp_path, section, *args):
    path = tmp_path / "refused.yaml"
    path.write_text(json.dumps({"hub": section}))
    r = subprocess.run([BINARY, *args, str(path)], capture_output=True, text=True, timeout=PATIENCE)
    assert r.returncode == 2, r.stderr
    return r.stderr


def test_off_loopback(tmp_path, hub, nodes):
    said = refused(tmp_path, {"broker": "0.0.0.0:0"}, "check")
    assert "insecure: true" in said and "hub.broker" in said
    assert "insecure: true" in refused(tmp_path, {"registry": "0.0.0.0:0", "broker": "off"}, "run")
    assert "hub.http" in refused(tmp_path, {"http": "0.0.0.0:0"}, "check")
    h = hub({"registry": "0.0.0.0:0", "broker": "0.0.0.0:0", "insecure": True})
    n = nodes("n")
    assert ask(("127.0.0.1", h.registry[1]), "n", "µHome.core.register", {"address": n.address})[0] == 1


def test_check_says_what_is_wrong(tmp_path):
    said = refused(tmp_path, {"regstry": {}, "store": {"type": "sqlit"}, "broker": {"listn": 1},
                              "check": {"every": "often"}, "queue": {"full": "drop"}}, "check")
    for want in ('unknown key "regstry", did you mean "registry"?', 'unknown type "sqlit", did you mean "sqlite"?',
                 'unknown key "listn", did you mean "listen"?', "every must be a duration", 'unknown full "drop"'):
        assert want in said, said


def test_only_one_of_them(hub, nodes):
    broker = hub(BOTH, "--only", "broker")
    registry = hub(BOTH, "--broker", "%s:%d" % broker.broker)
    n = nodes("lamp/hall")
    assert n.register(registry)[0] == 1
    until(lambda: n.subscribe(broker, "x")[0] == 1, "the list was pushed")
    assert broker.publish("x", 1)[1]["data"]["subscribers"] == 1
    assert n.wait(1)[0]["data"] == 1
    assert any("registry is at 127.0.0.1:5101" in line for line in broker.log)  # not here
    assert ask(registry.registry, "lamp/hall", "µHome.core.unregister")[0] == 1
    until(lambda: n.subscribe(broker, "x")[0] == 2, "and again without it")


def test_address_in_use(tmp_path, hub):
    h = hub()
    path = tmp_path / "second.yaml"
    path.write_text(json.dumps({"hub": {"registry": "127.0.0.1:0", "broker": "%s:%d" % h.broker}}))
    r = subprocess.run([BINARY, "run", str(path)], capture_output=True, text=True, timeout=PATIENCE,
                       env=h.env)
    assert r.returncode == 2 and "in use" in r.stderr, r.stderr


# ---- HTTP ----

def test_http(hub, nodes):
    h = hub(dict(BOTH, http="127.0.0.1:0"))
    n = nodes("n")
    assert n.register(h)[0] == n.subscribe(h, "door.bell")[0] == 1
    assert n.subscribe(h, "a b/ü")[0] == 1
    want = {"message": "Successfully published event", "subscribers": 1}
    assert request(h, "POST", "/events/door.bell", '{"door": "front"}') == (202, want)
    assert request(h, "POST", "/publish/door.bell") == (202, want)
    assert request(h, "POST", "/events/a%20b/%C3%BC", "[1]") == (202, want)
    got = n.wait(3)
    assert ([e.get("data") for e in got], got[2]["type"]) == ([{"door": "front"}, None, [1]], "a b/ü")
    assert request(h, "POST", "/events/door.bell", "{door")[0] == 400
    assert request(h, "POST", "/events/%C2%B5Home.core.nodes", "{}")[0] == 400
    assert request(h, "POST", "/events/")[0] == 400
    assert request(h, "POST", "/events/big", json.dumps("x" * 65600))[0] == 413
    assert request(h, "POST", "/events/big", json.dumps("x" * 65500))[0] == 413  # no room for the rest
    assert request(h, "GET", "/events/door.bell")[0] == 405
    assert request(h, "POST", "/elsewhere")[0] == 404
    status, body = request(h, "GET", "/nodes")
    assert (status, [(x["nodeId"], x["address"]) for x in body["nodes"]]) == (200, [("n", n.address)])
    assert request(h, "GET", "/health") == (200, {"healthy": True})
    assert request(h, "GET", "/nodes", Origin="http://evil.example")[0] == 403


def test_http_when_the_broker_is_away(hub):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        h = hub({"registry": "off", "http": "127.0.0.1:0",
                 "broker": {"listen": "off", "address": "127.0.0.1:%d" % s.getsockname()[1]}})
        assert request(h, "POST", "/events/x", "1")[0] == 502
        s.listen()
        assert request(h, "POST", "/events/x", "1")[0] == 504  # it does not answer


def test_sidecar_and_token(hub, nodes):
    h = hub(dict(BOTH, http="127.0.0.1:0", token="s3cret"), listen={"sidecar": "127.0.0.1:0"})
    assert request(h, "POST", "/events/x", "1")[0] == 401
    status, body = request(h, "POST", "/events/x", "1", Authorization="Bearer s3cret")
    assert (status, body["subscribers"]) == (202, 0)
    status, reply = ask(h.registry, "n", "µHome.core.register", {"address": "127.0.0.1:1"})
    assert status != 1  # without the token


# ---- one catalog ----

def test_nodes_are_peers(hub, nodes):
    h = hub(BOTH, peers={"service": {"basket": {"rest": {"1": {"address": "10.1.2.3", "port": 80}}}}})
    n = nodes("lamp/hall")
    assert n.register(h)[0] == 1

    def peers():
        said = h.admin("/peers/service/lamp%2Fhall/default")
        return said if isinstance(said, dict) and "1" in str(said) else None
    until(peers, "it became a peer")
    assert str(n.port) in json.dumps(peers())
    status, reply = ask(h.registry, "anybody", "µHome.core.nodes")
    assert (status, reply["data"]["nodes"]) == (1, [{"nodeId": "lamp/hall", "address": n.address}])
    assert {"path": ["service", "basket", "rest"],
            "peers": {"1": {"address": "10.1.2.3", "port": 80}}} in reply["data"]["targets"]
    status, reply = ask(h.registry, "anybody", "µHome.core.nodes", {"service": "basket", "endpoint": "rest"})
    assert reply["data"]["peers"] == {"1": {"address": "10.1.2.3", "port": 80}}
    assert ask(h.registry, "lamp/hall", "µHome.core.unregister")[0] == 1
    until(lambda: not peers(), "and is none any more")


# ---- those who mean no good ----

def test_ids_with_dots_are_peers(hub, nodes):
    """Elsewhere NAME may be SECTOR.NAME; a node's id is taken as it is."""
    h = hub(BOTH)
    started = [nodes(i) for i in ("hall", "lamp.hall", "kitchen.hall", "service.x")]
    for n in started:
        assert n.register(h)[0] == 1

    def port(name):
        said = h.admin("/peers/service/%s/default" % name)
        peers = said if "1" in said else said.get("peers") or {}
        return peers["1"]["port"] if "1" in peers else None
    for n in started:
        until(lambda: port(n.id) == n.port, lambda: (n.id, n.port, h.admin("/peers")))
    assert ask(h.registry, "lamp.hall", "µHome.core.unregister")[0] == 1
    until(lambda: port("lamp.hall") != started[1].port, "it is gone")
    assert port("kitchen.hall") == started[2].port and port("hall") == started[0].port


def test_hostile_peers(hub, nodes):
    h = hub(dict(BOTH, **{"max-connections": 200}))
    n = nodes("n")
    assert n.register(h)[0] == n.subscribe(h, "x")[0] == 1
    crowd = []
    whole = pack(event("n", "µHome.core.healthcheck"))
    for i in range(150):
        s = connect(h.broker if i % 2 else h.registry)
        s.sendall(whole[:1 + i % (len(whole) - 1)])  # half packets, and never the rest
        crowd.append(s)
    began = time.monotonic()
    assert h.publish("x", 1)[0] == 1  # served all the same
    assert n.wait(1)
    assert time.monotonic() - began < 3
    slow = connect(h.broker)
    for b in whole[:12]:  # slow loris: a byte now and then
        slow.sendall(bytes([b]))
        time.sleep(0.01)
    biggest = pack(event("n", "µHome.core.publish", {"event": "x", "data": "y" * 65350}))
    assert len(biggest) > 65500
    with connect(h.broker) as s:
        s.sendall(biggest)
        assert read_package(s)[0] == 1
    assert len(n.wait(2)[1]["data"]) == 65350
    with connect(h.broker) as s:
        s.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert s.recv(100) == b""
    for s in crowd:
        s.settimeout(PATIENCE)
        assert s.recv(1) == b""  # each is closed when its time is up
        s.close()
    slow.close()
    flood = []
    for i in range(400):  # more than there may be
        s = socket.socket()
        s.settimeout(PATIENCE)
        try:
            s.connect(h.broker)
        except ConnectionError:
            pass  # closed at once
        flood.append(s)
    for s in flood:
        s.close()

    def served():
        try:
            return h.publish("x", 2)[0] == 1
        except (OSError, AssertionError):
            return False  # the crowd is still being shown out
    until(served, "it is still there")
    with open("/proc/%d/status" % h.p.pid) as f:
        rss = [int(line.split()[1]) for line in f if line.startswith("VmRSS")][0]
    assert rss < 120000 or "ASAN_OPTIONS" in os.environ, "%d KiB" % rss


def test_nodes_at_the_agent(hub, nodes, tmp_path):
    """Registered at the hub, a node is a peer to connectors of the agent beside it; what the mesh file
    lists is told to nodes that ask."""
    h = hub(BOTH)
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text("services: {basket: {endpoints: {rest: ['10.1.2.3:80']}}}\n")
    agent = subprocess.Popen([BINARY, "agent", "--listen", "127.0.0.1:0", "--mesh", str(mesh), "--hub",
                              "%s:%d" % h.registry], stderr=subprocess.PIPE, text=True, env=h.env)
    try:
        url = agent.stderr.readline().split()[-1]
        n = nodes("lamp/hall")
        assert n.register(h)[0] == 1

        def peers(name, endpoint):
            r = subprocess.run([BINARY, "peers", "--agent", url + "task-1", "service", name, endpoint],
                               capture_output=True, text=True, timeout=PATIENCE, env=h.env)
            return json.loads(r.stdout or "null")
        until(lambda: peers("lamp/hall", "default"), "it became a peer")
        assert peers("lamp/hall", "default")["1"]["port"] == n.port
        assert peers("basket", "rest")["1"]["address"] == "10.1.2.3"
        watch = subprocess.Popen([BINARY, "peers", "--watch", "--agent", url + "task-2", "service",
                                  "lamp/hall", "default"], stdout=subprocess.PIPE, text=True, env=h.env)
        assert json.loads(watch.stdout.readline())["1"]["port"] == n.port
        assert ask(h.registry, "lamp/hall", "µHome.core.unregister")[0] == 1
        assert not json.loads(watch.stdout.readline())  # pushed
        watch.terminate()
        watch.wait(PATIENCE)
        with_agent = hub(BOTH, "--agent", url + "hub")

        def told():
            data = ask(with_agent.registry, "n", "µHome.core.nodes", {"service": "basket", "endpoint": "rest"})[1]["data"]
            return (data["peers"] or {}).get("1", {}).get("address") == "10.1.2.3"
        until(told, "the mesh file is told")
    finally:
        agent.terminate()
        assert agent.wait(PATIENCE) == 0


def test_at_least_once(hub, nodes, tmp_path):
    """Kept until it is acknowledged, over a node's absence and the hub's death."""
    section = dict(BOTH, id="one", log=str(tmp_path / "events.db"),
                   store={"type": "sqlite", "path": str(tmp_path / "nodes.db")}, check={"restarts": True})
    h = hub(section)
    n = nodes("n")
    assert n.register(h)[0] == 1
    assert n.subscribe(h, "e", delivery="at-least-once")[0] == 1
    assert h.publish("e", 0)[1]["data"]["subscribers"] == 1
    n.wait(1)
    n.answer = lambda payload: 0  # a server error: not taken
    assert h.publish("e", 1)[0] == 1
    until(lambda: [e["data"] for e in n.got][1:3] == [1, 1], "it comes again")
    port = n.port
    n.stop()
    for i in (2, 3):
        assert h.publish("e", i)[0] == 1
    h.p.kill()
    h.p.wait(PATIENCE)
    h = hub(section)
    until(lambda: h.publish("e", 4)[1].get("data", {}).get("subscribers") == 1, "it is still subscribed")
    n = nodes("n", port=port)
    assert n.register(h)[0] == 1
    got = [e["data"] for e in n.wait(4)]
    assert sorted(set(got)) == [1, 2, 3, 4] and got[:1] == [1], got
    sub = h.admin("/hub/subscriptions")["subscriptions"]
    assert [(s["types"], s["delivery"]) for s in sub] == [(["e"], "at-least-once")]
    assert ask(h.broker, "n", "µHome.core.unsubscribe", {"unsubscribe": "e"})[0] == 1
    assert h.publish("e", 5)[1]["data"]["subscribers"] == 0


def test_two_hubs_on_one_bus(hub, nodes):
    """An event published at one hub reaches the subscribers of both, each once."""
    port = free_port()
    nats = subprocess.Popen(["nats-server", "-a", "127.0.0.1", "-p", str(port)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        bus = {"type": "nats", "url": "nats://127.0.0.1:%d" % port}
        a, b = hub(dict(BOTH, bus=bus)), hub(dict(BOTH, bus=bus))
        one, two = nodes("one"), nodes("two")
        assert one.register(a)[0] == one.subscribe(a, "e")[0] == 1
        assert two.register(b)[0] == two.subscribe(b, "e")[0] == 1
        until(lambda: a.publish("e", "a")[0] == 1 and "a" in [e["data"] for e in two.got], "a reaches b")
        until(lambda: b.publish("e", "b")[0] == 1 and "b" in [e["data"] for e in one.got], "b reaches a")
        assert b.publish("e", "last")[0] == 1
        until(lambda: one.got and one.got[-1]["data"] == "last", "it came to the other hub")
        until(lambda: two.got[-1]["data"] == "last", "and to its own")
        assert [e["data"] for e in one.got].count("last") == [e["data"] for e in two.got].count("last") == 1
        until(lambda: len(one.got) == a.admin("/hub")["broker"]["delivered"], "and it is counted")
    finally:
        nats.terminate()
        nats.wait(PATIENCE)
