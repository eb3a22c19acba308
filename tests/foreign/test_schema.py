# SPDX-License-Identifier: Apache-2.0
"""`sinew schema` and `sinew drivers --json`, read by a validator that is not ours."""
import json
import os
import re

import pytest
import yaml

from conftest import BINARY  # noqa: F401 (found before the rest is)

jsonschema = pytest.importorskip("jsonschema")
ROOT = os.environ.get("SINEW_SOURCE_ROOT", os.path.abspath(os.path.join(os.path.dirname(__file__), "../..")))
MODULES = os.path.join(os.path.abspath(os.environ.get("SINEW_BUILD_ROOT", "build")), "tests/connect")


def schema_of(sinew, *args):
    r = sinew.run("schema", *args)
    assert (r.returncode, r.stderr) == (0, "")
    schema = json.loads(r.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def plain(text):
    """As our reader does: every key is a text."""
    def keys(v):
        if isinstance(v, dict):
            return {str(k): keys(x) for k, x in v.items()}
        return [keys(x) for x in v] if isinstance(v, list) else v
    return keys(yaml.safe_load(text))


GOOD = [
    "{}",
    "agent: ws://127.0.0.1:1/t",
    "agent: {url: ws://127.0.0.1:1/t, ping: 30s, tls: {verify: false}}",
    "name: x\nlimits: {idle: 5s, body: 1MiB, connections: 7, core: true}\nlisten:",
    "listen: {sidecar: ':3500', admin: {address: ':1', token: t}}",
    "policies: {timeout: 5s, service: {basket: {rest: {retry-count: 1, balance: first}}}}",
    "policies: {values: {retry-on: [connect, reset]}, children: {database: {values: {breaker: false}}}}",
    "limits: {idle: '${IDLE:5s}'}",
    "trace: {zipkin: 'http://127.0.0.1:9411', sample: 0.5}\nlog: {level: debug}",
    "peers: {database: {a: {'0': {tableName: t, config: {}}}}}",
]
BAD = [
    "agnet: x",
    "agent: {ping: 5s}",
    "limits: {idle: soon}",
    "limits: {connections: 0}",
    "log: {level: loud}",
    "trace: {sample: 2}",
    "policies: {retry-count: many}",
    "policies: {balance: last}",
    "listen: {sidecar: {token: t}}",
    "peers: []",
]


def test_file(sinew):
    """What the schema says and what `sinew check` says."""
    v = schema_of(sinew)
    for text in GOOD + BAD:
        path = sinew.tmp / "f.yaml"
        path.write_text(text)
        ours = sinew.run("check", path).returncode == 0
        assert ours == (text in GOOD), text
        assert v.is_valid(plain(text)) == ours, (text, list(v.iter_errors(plain(text))))


def test_documents(sinew):
    """Every file that a document shows."""
    file, mesh = schema_of(sinew), schema_of(sinew, "mesh")
    seen = 0
    for name in sorted(os.listdir(os.path.join(ROOT, "docs"))):
        if not name.endswith(".md"):
            continue
        with open(os.path.join(ROOT, "docs", name), encoding="utf-8") as f:
            for block in re.findall(r"```yaml\n(.*?)```", f.read(), re.S):
                seen += 1
                schema = mesh if name == "mesh-file.md" else file
                errors = [e.message for e in schema.iter_errors(plain(block))]
                assert not errors, (name, block, errors)
    assert seen > 0
    with open(os.path.join(ROOT, "examples/mesh.yaml"), encoding="utf-8") as f:
        doc = plain(f.read())
    assert not [e.message for e in mesh.iter_errors(doc)]
    assert not mesh.is_valid({**doc, "servces": {}})


def test_drivers(sinew):
    r = sinew.run("drivers", "--json", env={"SINEW_MODULE_PATH": MODULES})
    assert r.returncode == 0
    assert "refused: it was made for driver ABI 0" in r.stderr
    drivers = {(d["topic"], d["type"]): d for d in json.loads(r.stdout)}
    for d in drivers.values():
        jsonschema.Draft202012Validator.check_schema(d["options"])
    assert any(o["name"] == "PutItem" for o in drivers["database", "dynamodb"]["operations"])
    assert ("broker", "kinesis") in drivers
    memory = jsonschema.Draft202012Validator(drivers["database", "memory"]["options"])
    assert memory.is_valid({"limit": 5})
    assert not memory.is_valid({"limit": 0}) and not memory.is_valid({"limt": 5})
    r = sinew.run("drivers", "database")
    assert r.returncode == 0 and "dynamodb" in r.stdout and "kinesis" not in r.stdout
    r = sinew.run("drivers", "database", "dynamodb")
    assert "GetItem" in r.stdout
    r = sinew.run("drivers", "database", "dynamdb")
    assert r.returncode == 1 and "did you mean dynamodb?" in r.stderr
    r = sinew.run("drivers", "databse")
    assert r.returncode == 2 and "no topic `databse`" in r.stderr
    r = sinew.run("schema", "msh")
    assert r.returncode == 2
