# SPDX-License-Identifier: Apache-2.0
"""Every message of the manual, placeholders filled, nothing else changed: through each set of HTTP
functions, by the binary, and by the example that brings its own."""
import json
import os
import subprocess

import pytest

from conftest import BUILD

USER = "user://id.nimbus.example/marta.vidal"
RUNTIME = "hyperty-runtime://nimbus.example/rt-7f21"
HYPERTY = "hyperty://nimbus.example/5e0b-one"
REGISTRY = "domain://registry.nimbus.example"
# Of the data model: what a RegistryDataObject has, and a HypertyInstance on top of it.
REGISTRY_DATA_OBJECT = {
    "id": "5e0b-one", "url": HYPERTY, "user": USER,
    "descriptor": "hyperty-catalogue://catalogue.nimbus.example/.well-known/hyperty/DeskShare",
    "startingTime": "2016-02-19T10:00:00Z", "lastModified": "2016-02-19T10:00:00Z",
    "status": "live", "stubs": [], "stubsConfiguration": {}}
INSTANCE = {"descriptor": REGISTRY_DATA_OBJECT["descriptor"], "hypertyID": HYPERTY, "status": "live"}
OBJECT = {"schema": "s", "url": "comm://nimbus.example/room-118", "status": "live"}


def message(ident, kind, sender, body):
    return {"id": ident, "type": kind, "from": sender, "to": REGISTRY, "body": body}


def answer(ident, receiver, body):
    return {"id": ident, "type": "response", "from": REGISTRY, "to": receiver, "body": body}


REGISTRATION = message("1", "CREATE", RUNTIME + "/registry", {"value": REGISTRY_DATA_OBJECT})
UNREGISTRATION = message("4", "DELETE", RUNTIME + "/registry", {"value": REGISTRY_DATA_OBJECT})
QUERY = message("2", "READ", HYPERTY, {"resource": "/hyperty-instance/user/" + USER})
OBJECTS = message("3", "READ", HYPERTY,
                  {"resource": "/hyperty-data-object-instance/comm/owner/" + USER})


def domain_registry(method, path, body):
    """As strict as the final one: six members, or 400."""
    needed = {"expires", "dataSchemes", "resources", "runtime", "status", "descriptor"}
    user = "/hyperty/user/user%3A%2F%2Fid.nimbus.example%2Fmarta.vidal"
    hyperty = user + "/hyperty%3A%2F%2Fnimbus.example%2F5e0b-one"
    if (method, path) == ("PUT", hyperty):
        return {"status": 200 if needed <= set(json.loads(body)) else 400,
                "body": {"message": "Hyperty created"}}
    if (method, path) == ("DELETE", hyperty):
        return {"status": 200, "body": {"message": "Hyperty deleted"}}
    if (method, path) == ("GET", user):
        return {"status": 200, "body": {HYPERTY: INSTANCE}}
    if (method, path) == ("GET", "/hyperty/dataobject/reporter/hyperty%3A%2F%2Fnimbus.example%2F5e0b-one"):
        return {"status": 200, "body": {OBJECT["url"]: OBJECT}}
    return {"status": 404, "body": {"message": "Not Found"}}


CASES = [
    (REGISTRATION, answer("1", RUNTIME + "/registry", {"code": 200})),
    (UNREGISTRATION, answer("4", RUNTIME + "/registry", {"code": 200})),
    (QUERY, answer("2", HYPERTY, {"code": 200, "value": [INSTANCE]})),
    (OBJECTS, answer("3", HYPERTY, {"code": 200, "value": [OBJECT]})),
]


@pytest.fixture
def manual(registry):
    registry.expect()
    registry.fallback = domain_registry
    yield registry
    registry.fallback = None


@pytest.mark.parametrize("n", range(len(CASES)))
def test_manual(n, peer, manual):
    c = peer.connector({"url": manual.url})
    assert peer.send(c, CASES[n][0]) == CASES[n][1]


def test_several_recipients(peer, manual):
    c = peer.connector({"url": manual.url})
    m = dict(QUERY, to=["hyperty://nimbus.example/other", REGISTRY])
    assert peer.send(c, m) == CASES[2][1]
    assert peer.send(c, dict(QUERY, to=["hyperty://nimbus.example/other"]))["body"]["code"] == 400
    assert peer.send(c, dict(QUERY, to="global://registry"))["body"] == {
        "code": 404, "description": "Not Found"}


def test_functions(peer, manual):
    """getUser, addHyperty, deleteHyperty: nobody asked by message, so the answer is a body."""
    c = peer.connector({"url": manual.url})

    def call(*args):
        return json.loads(peer.ask(c=c, call=list(args))["response"])

    assert call("get_user", USER) == {"body": {"code": 200, "value": {HYPERTY: INSTANCE}}}
    assert call("add_hyperty", USER, HYPERTY, '{"descriptor": "d"}') == {"body": {"code": 400}}
    assert call("add_hyperty", USER, HYPERTY, '{"hypertyDescriptorURL": "d"}') == {
        "body": {"code": 200}}
    assert call("delete_hyperty", USER, HYPERTY) == {"body": {"code": 200}}


def run(args, text, env=None):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NODE_")}
    return subprocess.run(args, input=text, capture_output=True, text=True, timeout=30,
                          env={**clean, **(env or {})})


def test_binary(manual, tmp_path):
    sinew = [os.path.join(BUILD, "sinew"), "registry", "send"]
    text = json.dumps(QUERY)
    for args, env, stdin in (
            (["--url", manual.url, text], {}, ""),
            (["--url", manual.url], {}, text),
            (["-"], {"NODE_REGISTRY_URL": manual.url, "NODE_DOMAIN": "nimbus.example"}, text)):
        r = run(sinew + args, stdin, env)
        assert (r.returncode, json.loads(r.stdout)) == (0, CASES[2][1]), r.stderr
    file = tmp_path / "sinew.yaml"
    file.write_text("bridge: {url: '%s/', value_format: map, response_type: mirror}\n" % manual.url)
    r = run(sinew + ["--config", str(file), text], "", {"NODE_REGISTRY_URL": "http://127.0.0.1:1"})
    assert json.loads(r.stdout)["type"] == "RESPONSE"
    assert json.loads(r.stdout)["body"]["value"] == {HYPERTY: INSTANCE}
    r = run(sinew + ["--url", "http://127.0.0.1:1", text], "")
    assert r.returncode == 1 and json.loads(r.stdout)["body"]["code"] == 504
    r = run(sinew + ["--url", "nonsense", text], "")
    assert r.returncode == 2 and "url" in r.stderr and r.stdout == ""
    r = run(sinew + ["--url", manual.url, '{"type": "response"}'], "")
    assert r.returncode == 0 and r.stdout == ""
    file.write_text("bridge: {url: 'http://x', retrys: 3}\n")
    r = run([os.path.join(BUILD, "sinew"), "check", str(file)], "")
    assert r.returncode == 2 and "retries" in r.stderr + r.stdout
    file.write_text("bridge: {}\n")
    assert run([os.path.join(BUILD, "sinew"), "check", str(file)], "").returncode == 0


def test_example_on_curl(manual):
    lines = "".join(json.dumps(c[0]) + "\n" for c in CASES)
    r = run([os.path.join(BUILD, "examples/rethink-curl"), manual.url], lines)
    assert [json.loads(line) for line in r.stdout.splitlines()] == [c[1] for c in CASES]
