# SPDX-License-Identifier: Apache-2.0
"""The registry connector over real sockets, through each of its three sets of HTTP functions."""
import json
import os
import re
import socket

import pytest

from script import Registry

ROOT = os.environ.get("SINEW_SOURCE_ROOT", os.path.join(os.path.dirname(__file__), "../.."))
with open(os.path.join(ROOT, "tests/vectors/rethink-connector.json")) as f:
    DOC = json.load(f)
DEFAULTS = DOC["defaults"]["config"] if "defaults" in DOC else DOC["meta"]["defaults"]["config"]
BASE = "registry.nimbus.example:4567"


def path_form(path):
    return re.sub(r"%[0-9a-fA-F]{2}", lambda m: m.group().upper(), path).replace("%27", "'")


def step_of(exchange):
    if exchange.get("connect_error") in ("closed", "timeout"):
        return {"error": exchange["connect_error"]}
    reply = exchange["http_reply"]
    return {k: reply[k] for k in ("status", "body", "raw_body", "headers") if k in reply}


def check_request(want, got):
    path, _, query = got["path"].partition("?")
    assert got["method"] == want["method"]
    assert path_form(path) == path_form(want["path"])
    assert (query or None) == want["query"]
    if want["body"] is None:
        assert got["body"] == b""
    elif want["body"] == {}:
        assert got["body"] == b"{}"
    else:
        assert json.loads(got["body"]) == want["body"]
    if want["method"] == "PUT":
        assert got["headers"]["Content-Type"] == "application/json"


def value_form(response):
    """As the vectors compare: the type without case, an id by its kind, too."""
    if response is not None:
        response = dict(response, type=response["type"].lower())
        response["id"] = (type(response["id"]).__name__, response["id"])
    return response


def notified(texts):
    out = [json.loads(t) for t in texts]
    for n in out:
        assert isinstance(n.pop("id"), int)
    return sorted(out, key=lambda n: n["to"])


def script_of(v):
    error = v.get("connect_error")
    if "exchanges" in v:  # a registry that is lost midway is one that hangs up, for us
        return [{"error": "closed"} if e.get("connect_error") == "refused" else step_of(e)
                for e in v["exchanges"]] + [{"error": "closed"}] * 2
    if error in ("closed", "timeout"):
        return [{"error": error}] * 20
    return [step_of(v)] if "http_reply" in v else []


def config_of(v, registry, nobody, stranger):
    config = dict(DEFAULTS, **v.get("config", {}))
    error = v.get("connect_error")
    port = nobody if error == "refused" else stranger.port if error == "tls" else registry.port
    config["url"] = config["url"].replace(BASE, "127.0.0.1:%d" % port)
    return config


@pytest.fixture(scope="module")
def nobody():
    """A port where connections are refused."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        yield s.getsockname()[1]


@pytest.fixture(scope="module")
def stranger(certs):
    r = Registry(cert=certs("stranger"))
    yield r
    r.close()


def check_vector(v, peer, registry, nobody, stranger):
    config = config_of(v, registry, nobody, stranger)
    script = script_of(v)
    c = peer.connector(config, notify=True)
    peer.ask(c=c, collect=True)
    registry.expect(*script)
    stranger.expect()
    if v.get("trigger") == "poll":
        if v.get("connect_error") == "refused":
            peer.ask(c=c, poll=True)
        else:  # the next poll begins when this one is over
            registry.expect(*script, {"status": 200, "body": {}})
            while len(registry.heard) < 2:
                peer.ask(c=c, poll=True)
            check_request(v["http_expect"], registry.heard[0])
    else:
        assert value_form(peer.send(c, v["message"])) == value_form(v["response"])
        wants = [e["http_expect"] for e in v.get("exchanges", [])]
        if not wants and "http_expect" in v and v.get("connect_error") not in ("refused", "tls"):
            wants = [v["http_expect"]] * v.get("attempts", 1)
        if peer.kind == "host" and "exchanges" in v and len(registry.heard) > len(wants):
            # curl itself tries again when a kept connection was closed
            wants += [wants[-1]] * (len(registry.heard) - len(wants))
        assert len(registry.heard) == len(wants)
        for want, got in zip(wants, registry.heard):
            check_request(want, got)
        if v.get("connect_error") == "tls":
            assert stranger.connections == v["attempts"] and not stranger.heard
    if "notifications" in v:
        want = [dict(n) for n in v["notifications"]]
        for n in want:
            n.pop("id", None)
        got = notified(peer.ask(c=c, collect=True)["notifications"])
        assert got == sorted(want, key=lambda n: n["to"])


@pytest.mark.parametrize("v", DOC["vectors"], ids=lambda v: v["name"])
def test_vector(v, peer, registry, nobody, stranger):
    check_vector(v, peer, registry, nobody, stranger)
