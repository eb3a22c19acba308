# SPDX-License-Identifier: Apache-2.0
"""`sinew database`, `sinew queue` and the sidecar against dynalite and kinesalite; what they write the
AWS SDK reads."""
import base64
import http.client
import json

import pytest

import foreign
from conftest import FAST, REGION, config, seed_form

CLEAN = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
         "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture
def agent_of(cleanup):
    def make(message):
        agent = foreign.Agent(dict(FAST, **message))
        cleanup(agent)
        return agent
    return make


def test_database(sinew, table, sdk, agent_of):
    agent = agent_of(seed_form(("contacts", config(table))))

    def run(*args, stdin=None):
        r = sinew.run("database", "contacts", *args, agent=agent, env=CLEAN, stdin=stdin)
        return r.returncode, json.loads(r.stdout) if r.stdout else None, r.stderr
    assert run("PutItem", '{"Item": {"id": {"S": "1"}, "name": {"S": "Chuck"}}}')[:2] == (0, {})
    assert sdk.call("dynamodb", "GetItem", {"TableName": "contacts", "Key": {"id": {"S": "1"}}},
                    table)["Item"]["name"] == {"S": "Chuck"}
    code, answer, _ = run("Scan", "{}")
    assert (code, answer["Count"]) == (0, 1)
    code, answer, err = run("GetItem", "-", "-v", stdin='{"Key": {"id": {"S": "1"}}}')
    assert answer["Item"]["id"] == {"S": "1"} and "request " in err
    code, answer, err = run("PutItem", '{"Item": {"id": {"S": "1"}}, '
                            '"ConditionExpression": "attribute_not_exists(id)"}')
    assert (code, answer) == (1, None) and "ConditionalCheckFailedException" in err
    code, answer, err = run("PutItm", "{}")
    assert code == 2 and "did you mean PutItem?" in err


def test_database_that_is_not_there(sinew, table, agent_of):
    agent = agent_of(seed_form(("nothing", config(table))))
    r = sinew.run("database", "contacts", "Scan", agent=agent, env=CLEAN)
    assert (r.returncode, r.stdout) == (1, "")
    assert "database contacts: Scan: ResourceNotFoundException" in r.stderr
    r = sinew.run("database", "contacts", "info", agent=agent, env=CLEAN)
    assert json.loads(r.stdout) == {"tableName": "nothing",
                                    "config": dict(config(table), credentials="***")}


def test_rights(sinew, table, agent_of, fault_proxy):
    """A secret that is not the one the service knows; none at all; no region anywhere."""
    proxy = fault_proxy(table, {"AK": "SK"})
    agent = agent_of(seed_form(("contacts", config(proxy.url, secret="other"))))
    r = sinew.run("database", "contacts", "Scan", agent=agent, env=CLEAN)
    assert r.returncode == 5 and "InvalidSignatureException" in r.stderr
    agent = agent_of(seed_form(("contacts", {"region": REGION, "endpoint": proxy.url})))
    r = sinew.run("database", "contacts", "Scan", agent=agent, env=CLEAN)
    assert r.returncode == 5 and "credentials" in r.stderr
    agent = agent_of(seed_form(("contacts", {"endpoint": proxy.url})))
    r = sinew.run("database", "contacts", "Scan", agent=agent, env=CLEAN)
    assert r.returncode == 2 and "region" in r.stderr
    agent = agent_of(seed_form(("contacts", {})))
    r = sinew.run("database", "contacts", "Scan", agent=agent,
                  env=dict(CLEAN, AWS_REGION=REGION, AWS_ENDPOINT_URL_DYNAMODB=proxy.url,
                           AWS_ACCESS_KEY_ID="AK", AWS_SECRET_ACCESS_KEY="SK"))
    assert r.returncode == 0, r.stderr


def test_throttled(sinew, table, agent_of, fault_proxy):
    proxy = fault_proxy(table)
    agent = agent_of(seed_form(("contacts", config(proxy.url))))
    proxy.fault("ProvisionedThroughputExceededException", 2)
    r = sinew.run("database", "contacts", "Scan", "-v", agent=agent, env=CLEAN)
    assert r.returncode == 0 and "3 attempts" in r.stderr
    proxy.fault("ProvisionedThroughputExceededException", 3)
    r = sinew.run("database", "contacts", "Scan", agent=agent, env=CLEAN)
    assert r.returncode == 1 and "ProvisionedThroughputExceededException" in r.stderr


@pytest.fixture
def stream(kinesalite, sdk):
    sdk.call("kinesis", "CreateStream", {"StreamName": "jobs", "ShardCount": 2}, kinesalite.url)
    while sdk.call("kinesis", "DescribeStream", {"StreamName": "jobs"},
                   kinesalite.url)["StreamDescription"]["StreamStatus"] != "ACTIVE":
        pass
    yield kinesalite.url
    sdk.call("kinesis", "DeleteStream", {"StreamName": "jobs"}, kinesalite.url)


def test_queue(sinew, stream, sdk, agent_of):
    """The queue is called contacts, its stream jobs."""
    agent = agent_of({"peers": {"queue": {"contacts": {"0": {"streamName": "jobs",
                                                            "config": config(stream)}}}}})
    for data, key in (b"call Chuck", "k"), (b"\xff\x00", "ä"):
        r = sinew.run("queue", "contacts", "PutRecord", json.dumps(
            {"Data": base64.b64encode(data).decode(), "PartitionKey": key}), agent=agent, env=CLEAN)
        assert r.returncode == 0 and "SequenceNumber" in json.loads(r.stdout), r.stderr
    tail = sinew.watch("queue", "contacts", "tail", "--from", "oldest", agent=agent, env=CLEAN)
    seen = [tail.next(), tail.next()]
    seen.sort(key=lambda m: m["key"])
    assert seen[0]["data"] == "call Chuck" and seen[0]["key"] == "k"
    assert base64.b64decode(seen[1]["base64"]) == b"\xff\x00" and seen[1]["key"] == "ä"
    assert all(m["shard"].startswith("shardId-") and m["sequence"] and m["arrival"] > 0 for m in seen)
    sdk.call("kinesis", "PutRecord", {"StreamName": "jobs", "PartitionKey": "later",
                                      "Data": "more"}, stream)
    assert tail.next()["data"] == "more"
    tail.process.terminate()
    assert tail.process.wait(foreign.PATIENCE) == 0
    r = sinew.run("queue", "contacts", "tail", "--from", "sometime", agent=agent, env=CLEAN)
    assert r.returncode == 2 and "--from is trim-horizon, latest, a duration" in r.stderr
    r = sinew.run("queue", "contacts", "tail", "{}", agent=agent, env=CLEAN)
    assert r.returncode == 2


def test_tail_of_nothing(sinew, kinesalite, agent_of):
    agent = agent_of({"peers": {"queue": {"contacts": {"0": {"streamName": "nothing",
                                                            "config": config(kinesalite.url)}}}}})
    r = sinew.run("queue", "contacts", "tail", agent=agent, env=CLEAN)
    assert r.returncode in (1, 5)
    assert "ResourceNotFoundException" in r.stderr


def test_sidecar(sinew, table, sdk, agent_of):
    agent = agent_of(seed_form(("contacts", config(table))))
    port = foreign.free_port()
    file = sinew.tmp / "sinew.yaml"
    file.write_text("listen: {sidecar: '127.0.0.1:%d'}\n" % port)
    p = sinew.start("run", file, agent=agent, env=CLEAN)
    for line in p.stderr:
        if "sidecar on" in line:
            break
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=foreign.PATIENCE)
    c.request("POST", "/database/contacts/PutItem", '{"Item": {"id": {"S": "side"}}}')
    r = c.getresponse()
    assert (r.status, r.read()) == (200, b"{}") and r.headers["sinew-request-id"]
    c.request("POST", "/database/contacts/GetItem", '{"Key": {"id": {"N": "1"}}}')
    r = c.getresponse()
    doc = json.loads(r.read())
    assert (r.status, doc["error"]) == (400, "ValidationException")
    assert doc["request"] and doc["message"]
    assert sdk.call("dynamodb", "GetItem", {"TableName": "contacts", "Key": {"id": {"S": "side"}}},
                    table)["Item"] == {"id": {"S": "side"}}
    p.terminate()
    assert p.wait(foreign.PATIENCE) == 0
