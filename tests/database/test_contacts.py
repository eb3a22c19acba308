# SPDX-License-Identifier: Apache-2.0
"""examples/contacts: the guidelines' idea as a program, against both services."""
import base64
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request

import pytest

from conftest import BUILD, FAST, config, foreign, seed_form


class Contacts:
    def __init__(self, env):
        self.p = subprocess.Popen([os.path.join(BUILD, "examples/contacts")], env=env,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.port = int(self.p.stdout.readline().split()[-1])

    def ask(self, method, path, body=None):
        request = urllib.request.Request("http://127.0.0.1:%d%s" % (self.port, path), method=method,
                                         data=None if body is None else body.encode())
        try:
            with urllib.request.urlopen(request, timeout=30) as r:
                return r.status, json.load(r)
        except urllib.error.HTTPError as e:
            return e.code, json.load(e)

    def stop(self):
        if self.p.poll() is None:
            self.p.send_signal(signal.SIGTERM)
        self.errors = self.p.communicate(timeout=30)[1]
        assert self.p.returncode == 0, self.errors


@pytest.fixture
def jobs(kinesalite, sdk):
    """A stream "jobs"; call it for what is in it."""
    def call(op, params):
        return sdk.call("kinesis", op, params, kinesalite.url)
    call("CreateStream", {"StreamName": "jobs", "ShardCount": 1})
    while call("DescribeStreamSummary", {"StreamName": "jobs"})[
            "StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
        pass

    def records():
        shard = call("ListShards", {"StreamName": "jobs"})["Shards"][0]["ShardId"]
        at = call("GetShardIterator", {"StreamName": "jobs", "ShardId": shard,
                                       "ShardIteratorType": "TRIM_HORIZON"})["ShardIterator"]
        return [json.loads(base64.b64decode(r["Data"]["$bytes"]))
                for r in call("GetRecords", {"ShardIterator": at})["Records"]]
    records.url = kinesalite.url
    yield records
    call("DeleteStream", {"StreamName": "jobs"})


@pytest.fixture
def contacts(table, jobs, sinew, cleanup):
    """The seed's message, both halves."""
    def message(database):
        m = seed_form(("contacts", config(database)))
        m["peers"]["queue"] = {"contacts": {"1": {"streamName": "jobs", "config": config(jobs.url)}}}
        return m
    agent = foreign.Agent(dict(FAST, **message(table)))
    cleanup(agent)
    service = Contacts(sinew.env(agent))
    cleanup(service)
    service.agent, service.message = agent, message
    return service


CHUCK = {"id": "chuck", "name": "Chuck Norris", "phone": "314-159-2653"}


def test_contacts(contacts, jobs, table, sdk):
    assert contacts.ask("GET", "/contacts/chuck") == (404, None)
    assert contacts.ask("POST", "/contacts", json.dumps(CHUCK)) == (201, {"saved": True})
    assert contacts.ask("GET", "/contacts/chuck") == (200, CHUCK)
    assert contacts.ask("POST", "/contacts", '{"id": "bob", "age": 7}')[0] == 201
    status, everybody = contacts.ask("GET", "/contacts")
    assert status == 200 and sorted(c["id"] for c in everybody) == ["bob", "chuck"]
    assert sdk.call("document", "Get", {"TableName": "contacts", "Key": {"id": "chuck"}},
                    table)["Item"] == CHUCK
    assert jobs() == [CHUCK, {"id": "bob", "age": 7}]
    for nonsense in ("", "{", "[1]", '{"name": "has no id"}'):
        assert contacts.ask("POST", "/contacts", nonsense)[0] == 400, nonsense
    assert contacts.ask("GET", '/contacts/a%22b')[0] == 404 and len(jobs()) == 2


def test_contacts_go_on_while_the_database_moves(contacts, jobs, table, fault_proxy):
    first, second = fault_proxy(table), fault_proxy(table)
    assert contacts.ask("GET", "/contacts/m1") == (404, None)  # the agent's first message is there
    contacts.agent.push(contacts.message(first.url))
    while not first.seen:
        assert contacts.ask("GET", "/contacts/m1") == (404, None)
    for i in range(60):
        assert contacts.ask("POST", "/contacts", json.dumps({"id": "m%d" % i}))[0] == 201
        if i == 30:
            first.fault("cut", 1)
        if i == 40:
            contacts.agent.push(contacts.message(second.url))
            while not second.seen:
                assert contacts.ask("GET", "/contacts/m1")[0] == 200
            first.stop()
    assert len(first.seen) > 20 and len(second.seen) > 15
    assert [r["id"] for r in jobs()] == ["m%d" % i for i in range(60)]
