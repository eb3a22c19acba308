# SPDX-License-Identifier: Apache-2.0
"""The mesh with nodes in Node.js, written from the protocol's description: every role beside ours."""
import json
import uuid

import pytest

import things
from things import BROKER_ID, Hub, Js, MU, REGISTRY_ID, Sinew, local, sinew, until


def is_uuid4(text):
    u = uuid.UUID(text)
    return u.version == 4 and u.variant == uuid.RFC_4122 and str(u) == text


def is_time(text):
    return len(text) == 24 and text[4] == text[7] == "-" and text[10] == "T" and text[13] == text[16] == ":" \
        and text[19] == "." and text[23] == "Z" and text.replace("-", "").replace(":", "")[:8].isdigit()


def check_delivered(e, type_, data):
    assert list(e) == ["id", "timestamp", "source", "type"] + ([] if data is None else ["data"])
    assert is_uuid4(e["id"]) and is_time(e["timestamp"])
    assert (e["source"], e["type"], e.get("data")) == (BROKER_ID, type_, data)


@pytest.mark.parametrize("original, compat", [("", ""), ("1", ""), ("1", "compat: 0.0.1"), ("", "compat: 0.0.1")])
def test_our_hub_their_nodes(tmp_path, original, compat):
    with Hub(tmp_path, more=compat) as hub:
        o = {"broker": hub.broker, "registry": hub.registry, "original": original}
        with Js("node", id="lampe/küche", **o) as lamp, Js("node", id="heater", version="1", **o) as heater:
            assert lamp.started["status"] == 1 and lamp.started["version"] == 2
            p = lamp.started["payload"]
            assert list(p) == ["id", "timestamp", "source", "type", "data"] and is_uuid4(p["id"]) and is_time(p["timestamp"])
            assert (p["source"], p["type"]) == (REGISTRY_ID, MU + ".response")
            assert p["data"] == {"message": "Successfully registered microservice 'lampe/küche'", "address": lamp.address}
            for n in (lamp, heater):
                r = n.do("subscribe", type="window.opened")
                assert (r["status"], r["version"], r["payload"]["source"]) == (1, 2, BROKER_ID)
                assert r["payload"]["data"] == {"message": "Successful subscribed to event"}
            r = heater.do("subscribe", type="ångström")
            assert r["status"] == 1
            data = {"room": "Küche", "n": [1, 2.5, None, True, {"a": "\u2028\u0001\"\\"}]}
            r = lamp.do("ask", address=hub.broker, type=MU + ".core.publish", data={"event": "window.opened", "data": data})
            assert (r["status"], r["payload"]["data"]) == (1, {"message": "Successfully published event", "subscribers": 2})
            for n in (lamp, heater):
                check_delivered(n.got("window.opened"), "window.opened", data)
            r = lamp.do("ask", address=hub.broker, type=MU + ".core.publish", data={"event": "ångström"})
            assert r["payload"]["data"]["subscribers"] == 1
            check_delivered(heater.got("ångström"), "ångström", None)
            r = lamp.do("ask", address=hub.broker, type=MU + ".core.broadcast", data={"event": "window.opened", "data": 0})
            assert (r["status"], r["payload"]["data"]["subscribers"]) == (1, 2)
            for n in (lamp, heater):
                assert n.got("window.opened", 2)["data"] == 0
            r = heater.do("ask", address=hub.broker, type=MU + ".core.unsubscribe", data={"unsubscribe": "window.opened"})
            assert (r["status"], r["payload"]["data"]) == (1, {"message": "Successful unsubscribed from event"})
            r = heater.do("unregister")
            assert (r["status"], r["payload"]["data"]) == (1, {"message": "Successfully unregistered microservice 'heater'"})
            r = heater.do("unregister")
            assert r["status"] == 2 and r["payload"]["type"] == MU + ".error" and r["payload"]["error"] == {
                "message": "Failed to unregister microservice", "reason": "Node is not registered"}
            r = heater.do("subscribe", type="x")
            assert r["payload"]["error"] == {"message": "Failed to subscribe for microservice to event", "reason": "Node is not registered"}
            r = lamp.do("register")
            assert (r["status"], r["payload"]["error"]) == (
                2, {"message": "Failed to register microservice", "reason": "Node already exists"})
            for n in (lamp, heater):  # each package of ours came as one piece, alone
                assert not n.all(lambda s: "did" in s)


@pytest.mark.parametrize("original", ["", "1"])
def test_their_hub_our_node_publish_and_repl(tmp_path, original):
    with Js("broker", original=original) as broker, Js("registry", broker=broker.address, original=original) as registry:
        at = ["--broker", broker.address, "--registry", registry.address]
        with Sinew(tmp_path, "node", "lamp/hall", "--listen", ":0", "--on", "lamp.on=cat", *at) as lamp, \
                Sinew(tmp_path, "node", "second", "--listen", ":0", *at) as second:
            h = registry.wait(lambda s: "health" in s and s["health"]["payload"]["source"] == "lamp/hall")["health"]
            assert h["payload"]["data"] == {"message": "Service is healthy"}
            broker.wait(lambda s: s.get("subscribe") == "lamp.on" and s["by"] == "lamp/hall")
            broker.wait(lambda s: len(s.get("nodes", [])) == 2 or original and s.get("subscribe"))
            if original:
                results = broker.do("broadcast", type="lamp.on", data={"level": 80})
                assert [(r["id"], r["status"], r["payload"]["data"]) for r in results] == [("lamp/hall", 1, {"level": 80})]
                status, out, err = sinew(tmp_path, "publish", "lamp.on", '{"level": 81}', *at[:2])
                assert status == 1 and MU + ".core.publish" in err + out
            else:
                status, out, err = sinew(tmp_path, "publish", "lamp.on", '{"level": 81}', *at[:2])
                assert status == 0 and json.loads(out)["subscribers"] == 1, (out, err)
                d = broker.wait(lambda s: s.get("delivered") == "lamp.on")
                assert [(r["id"], r["status"], r["payload"]["data"]) for r in d["results"]] == [("lamp/hall", 1, {"level": 81})]
                status, out, err = sinew(tmp_path, "publish", "--all", "lights.out", *at[:2])
                assert status == 0 and json.loads(out)["subscribers"] == 2, (out, err)
                d = broker.wait(lambda s: s.get("delivered") == "lights.out")
                assert {r["payload"]["data"]["message"] for r in d["results"]} == {"No Handler for Event registered"}
                status, out, err = sinew(tmp_path, "repl", *at, stdin='on door.bell\nemit door.bell {"door": "Süd"}\nwait\n')
                assert status == 0, (out, err)
                assert json.loads(out.splitlines()[-1]) == {"type": "door.bell", "source": BROKER_ID, "data": {"door": "Süd"}}
                until(lambda: len(broker.all(lambda s: "nodes" in s)[-1]["nodes"]) == 2, "the temporary node has gone")
            assert not broker.all(lambda s: "did" in s) and not registry.all(lambda s: "did" in s)
            lamp.end()
            if not original:
                until(lambda: [n["nodeId"] for n in broker.all(lambda s: "nodes" in s)[-1]["nodes"]] == ["second"], "the node has unregistered")
            second.end()
            assert (lamp.p.returncode, second.p.returncode) == (0, 0), (lamp.err, second.err)


def test_a_node_that_is_refused_ends(tmp_path):
    with Js("broker") as broker, Js("registry", broker=broker.address) as registry, \
            Js("node", id="lamp", broker=broker.address, registry=registry.address):
        status, _, err = sinew(tmp_path, "node", "lamp", "--listen", ":0", "--broker", broker.address, "--registry", registry.address)
        assert status == 1 and "Node already exists" in err


@pytest.mark.parametrize("original", ["", "1"])
def test_our_registry_their_broker(tmp_path, original):
    with Js("broker", original=original) as broker, Hub(tmp_path, broker=broker.address, only="registry") as hub:
        with Js("node", id="lamp", broker=broker.address, registry=hub.registry, original=original) as lamp:
            assert lamp.started["status"] == 1
            p = broker.wait(lambda s: "nodes" in s and len(s["nodes"]) == 1)
            assert p == {"nodes": [{"nodeId": "lamp", "address": lamp.address}], "from": REGISTRY_ID}
            assert lamp.do("subscribe", type="local.test")["status"] == 1
            results = broker.do("broadcast", type="local.test", data="tick")
            assert [(r["id"], r["status"]) for r in results] == [("lamp", 1)]
            # an update that is asked for from outside: the list is pushed, nobody is answered
            pushes = len(broker.all(lambda s: "nodes" in s))
            with pytest.raises(RuntimeError, match="Request timed out|without a reply"):
                lamp.do("ask", address=hub.registry, type=MU + ".core.updateBroker", timeout=300)
            broker.wait(lambda s: "nodes" in s, pushes + 1)
            if not original:
                assert lamp.do("unregister")["status"] == 1
                broker.wait(lambda s: s.get("nodes") == [])
            assert not broker.all(lambda s: "did" in s)


@pytest.mark.parametrize("original", ["", "1"])
def test_their_registry_our_broker(tmp_path, original):
    with Hub(tmp_path, registry=local(), only="broker") as hub, \
            Js("registry", listen=hub.registry, broker=hub.broker, original=original) as registry:
        o = {"broker": hub.broker, "registry": hub.registry, "original": original}
        with Js("node", id="lamp", **o) as lamp, Js("node", id="heater", **o) as heater:
            registry.wait(lambda s: len(s.get("pushed", [])) == 2)
            assert all(s["reply"]["data"] == {"message": "Succesfully updated active nodes"} and s["reply"]["source"] == BROKER_ID
                       for s in registry.all(lambda s: "pushed" in s))
            assert lamp.do("subscribe", type="a")["status"] == heater.do("subscribe", type="a")["status"] == 1
            with Sinew(tmp_path, "node", "ours", "--listen", ":0", "--on", "a=cat", "--broker", hub.broker, "--registry", hub.registry):
                def three():
                    return things.ask(hub.broker, MU + ".core.publish", {"event": "a", "data": 1}, "lamp")[1]["subscribers"] == 3
                until(three, "our node has subscribed")
                assert lamp.got("a")["data"] == heater.got("a")["data"] == 1
            assert not registry.all(lambda s: "did" in s)


def test_a_handler_that_never_answers_holds_up_nothing(tmp_path):
    """As that of the diary's example, which only logs: the next events do not wait for the time-out of the first."""
    with Hub(tmp_path) as hub, Js("node", id="dummy", broker=hub.broker, registry=hub.registry, original="1") as dummy:
        dummy.do("handle", type="local.test", silent=True)
        assert dummy.do("ask", address=hub.broker, type=MU + ".core.subscribe", data={"subscribe": "local.test"})["status"] == 1
        for n in range(10):
            r = dummy.do("ask", address=hub.broker, type=MU + ".core.publish", data={"event": "local.test", "data": n})
            assert r["payload"]["data"]["subscribers"] == 1
        dummy.got("local.test", 10)  # one after another they took 27 s
        assert [s["got"]["data"] for s in dummy.all(lambda s: "got" in s)] == list(range(10))


def test_the_broker_is_away_when_a_node_registers(tmp_path):
    """The node succeeds all the same, and the list reaches the broker when it is back."""
    address = local()
    with Hub(tmp_path, broker=address, only="registry") as hub, \
            Js("node", id="lamp", broker=address, registry=hub.registry) as lamp:
        assert lamp.started["status"] == 1
        with Js("broker", listen=address) as broker:
            broker.wait(lambda s: s.get("nodes") == [{"nodeId": "lamp", "address": lamp.address}])


def test_the_repl_speaks_to_their_nodes(tmp_path):
    with Hub(tmp_path) as hub, Js("node", id="lamp", broker=hub.broker, registry=hub.registry) as lamp:
        lamp.do("handle", type="state", echo=True)
        lamp.do("handle", type="wrong", reply={"status": 0, "error": {"message": "m", "reason": "r"}})
        lamp.do("method", name="power")
        at = ["--broker", hub.broker, "--registry", hub.registry]
        words = ['nodes', 'send lamp state {"a": 1}', 'send %s state 7' % lamp.address, 'rpc lamp power {"w": 2}',
                 'health lamp', 'health %s' % lamp.address, 'version 1', 'send lamp state [1]', 'version 2', 'broadcast state 9',
                 'subscriptions', 'help', 'quit', 'send lamp wrong']
        status, out, err = sinew(tmp_path, "repl", *at, stdin="\n".join(words) + "\n")
        assert status == 0, (out, err)
        lines = out.splitlines()
        assert lamp.address in lines[0] and "lamp" in lines[0]
        assert [json.loads(l)["data"] for l in lines[1:3]] == [{"echo": {"a": 1}}, {"echo": 7}]
        assert {"params": {"w": 2}, "by": "lamp"} in [json.loads(lines[3]).get("result"), json.loads(lines[3])]
        assert "healthy" in lines[4] and "healthy" in lines[5]
        assert json.loads(lines[6])["data"] == {"echo": [1]}
        assert lamp.got("state", 4)["data"] == 9
        assert sinew(tmp_path, "repl", *at, stdin="send lamp wrong\n")[0] == 1
        assert sinew(tmp_path, "repl", *at, stdin="health 127.0.0.1:1\n")[0] == 1
        assert sinew(tmp_path, "repl", *at, stdin="nonsense\nnodes\n")[0] == 1


@pytest.mark.parametrize("type_", ["uHome.storage", "\u03bcHome.storage"])
def test_other_letters_for_the_micro_sign_are_read_by_the_tools_and_not_on_the_wire(tmp_path, type_):
    with Js("broker") as broker:
        status, out, err = sinew(tmp_path, "publish", type_, "1", "--broker", broker.address)
        assert status == 1 and "reserved" in out + err and MU in out + err
    with Hub(tmp_path) as hub:  # on the wire it is another type, which anybody may publish
        with Js("node", id="lamp", broker=hub.broker, registry=hub.registry) as lamp:
            lamp.do("subscribe", type=type_)
            r = lamp.do("ask", address=hub.broker, type=MU + ".core.publish", data={"event": type_})
            assert r["payload"]["data"]["subscribers"] == 1
            check_delivered(lamp.got(type_), type_, None)


def test_events_from_outside_by_http(tmp_path):
    import http.client
    at = local()
    with Hub(tmp_path, more="http: %s" % at) as hub, Js("node", id="lamp", broker=hub.broker, registry=hub.registry) as lamp:
        lamp.do("subscribe", type="door.bell")
        lamp.do("subscribe", type="tür/glocke")

        def http_(method, path, body=None):
            c = http.client.HTTPConnection(at, timeout=things.PATIENCE)
            c.request(method, path, body.encode() if isinstance(body, str) else body)
            r = c.getresponse()
            text = r.read()
            c.close()
            return r.status, text
        status, body = http_("POST", "/events/door.bell", '{"door": "front"}')
        assert (status, json.loads(body)) == (202, {"message": "Successfully published event", "subscribers": 1})
        check_delivered(lamp.got("door.bell"), "door.bell", {"door": "front"})
        assert http_("POST", "/events/door.bell")[0] == 202
        check_delivered(lamp.got("door.bell", 2), "door.bell", None)
        assert http_("POST", "/publish/t%C3%BCr%2Fglocke", "null")[0] == 202
        e = lamp.got("tür/glocke")
        assert "data" in e and e["data"] is None
        assert http_("POST", "/events/door.bell", '{"door": ')[0] == 400
        assert http_("POST", "/events/%C2%B5Home.core.nodes", '{}')[0] == 400
        assert http_("POST", "/events/door.bell", '"%s"' % ("x" * 65536))[0] == 413
        assert http_("GET", "/events/door.bell")[0] == 405
        assert http_("POST", "/nowhere")[0] == 404
        assert http_("POST", "/events/")[0] in (400, 404)
        assert http_("GET", "/health")[0] == 200
        status, body = http_("GET", "/nodes")
        assert status == 200 and "lamp" in body.decode()
        assert not [g for g in lamp.all(lambda s: "got" in s)][3:]


def test_http_to_a_broker_that_is_elsewhere(tmp_path):
    """502 when it refuses or is not there, 504 when it does not answer; the request is the vector's."""
    import http.client
    import socket
    at, broker = local(), local()
    with Hub(tmp_path, broker=broker, only="registry", more="http: %s" % at):
        def post():
            c = http.client.HTTPConnection(at, timeout=things.PATIENCE)
            c.request("POST", "/events/door.bell", b"[1]")
            r = c.getresponse()
            r.read()
            c.close()
            return r.status
        assert post() == 502
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(things.split(broker))
            s.listen()
            assert post() == 504
        with Js("broker", listen=broker, original="1"):
            assert post() == 502
        with Js("broker", listen=broker):
            assert post() == 202
