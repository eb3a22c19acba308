# SPDX-License-Identifier: Apache-2.0
"""A program that uses libsinew (database_peer.c), an agent that tells it where its database is, and
what tests/services offers."""
import importlib.util
import json
import os
import subprocess
import sys
import threading

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../services"))
from fixtures import dynalite, fault_proxy, kinesalite, sdk  # noqa: E402,F401

# Its conftest is the foreign tests' own; here it is a module of another name.
_spec = importlib.util.spec_from_file_location("foreign", os.path.join(HERE, "../foreign/conftest.py"))
foreign = importlib.util.module_from_spec(_spec)
sys.modules["foreign"] = foreign
_spec.loader.exec_module(foreign)
from foreign import cleanup, sinew  # noqa: E402,F401

BUILD = os.path.abspath(os.environ.get("SINEW_BUILD_ROOT", os.path.join(HERE, "../../build")))
PEER = os.path.join(BUILD, "tests/database/database_peer")
PATIENCE = float(os.environ.get("SINEW_TEST_PATIENCE", "60"))
REGION = "eu-north-1"


def config(url, key="AK", secret="SK", **more):
    c = {"region": REGION, "endpoint": url, "credentials": {"accessKeyId": key, "secretAccessKey": secret}}
    c["credentials"].update(more)
    return c


def seed_form(*entries):
    """{"peers": {"database": {"contacts": {"1": {tableName, config}, ...}}}}"""
    return {"peers": {"database": {"contacts": {
        str(i + 1): {"tableName": table, "config": c} for i, (table, c) in enumerate(entries)}}}}


FAST = {"policies": {"values": {"retry-initial-delay": 20, "retry-max-delay": 100}}}


class Peer:
    """database_peer.c"""

    def __init__(self, agent, **env):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("BERLIOZ_", "AWS_", "SINEW_CONFIG"))}
        clean.update(BERLIOZ_AGENT_PATH=agent.url, AWS_CONFIG_FILE="/dev/null",
                     AWS_SHARED_CREDENTIALS_FILE="/dev/null", AWS_EC2_METADATA_DISABLED="true", **env)
        self.p = subprocess.Popen([PEER], env=clean, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, bufsize=1)
        self.log = []
        threading.Thread(target=self._pump, daemon=True).start()
        assert self.line() == ["ready"]

    def _pump(self):
        for line in self.p.stderr:
            self.log.append(line.rstrip("\n"))

    def line(self):
        timer = threading.Timer(PATIENCE, self.p.kill)
        timer.start()
        line = self.p.stdout.readline()
        timer.cancel()
        assert line, "it ended: %s" % self.log[-20:]
        return line.rstrip("\n").split("\t")

    def say(self, *parts):
        self.p.stdin.write("\t".join(p if isinstance(p, str) else json.dumps(p) for p in parts) + "\n")

    def ask(self, *parts):
        self.say(*parts)
        return self.line()

    def call(self, operation, params, name="contacts"):
        """(attempts, request id, answer)"""
        line = self.ask("call", name, operation, params)
        assert line[0] == "ok", line
        return int(line[1]), line[2], json.loads(line[3])

    def refused(self, operation, params, name="contacts"):
        """(code, type, text)"""
        line = self.ask("call", name, operation, params)
        assert line[0] == "error", line
        return line[1:]

    def item(self, verb, what, *options):
        line = self.ask(verb, "contacts", what, *options)
        assert line[0] == "ok", line
        return json.loads(line[1])

    def items(self, verb, *options):
        """([pages], position)"""
        self.say(verb, "contacts", *options)
        pages = []
        while True:
            line = self.line()
            if line[0] == "end":
                return pages, json.loads(line[1]) if line[1] != "-" else "-"
            assert line[0] == "page", line
            pages.append(json.loads(line[2]))
            assert len(pages[-1]) == int(line[1])

    def stop(self):
        """It ends well when its input does."""
        if self.p.poll() is None:
            self.p.stdin.close()
            try:
                self.p.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.p.kill()
                self.p.wait()
        assert self.p.returncode == 0, (self.p.returncode, self.log[-20:])


@pytest.fixture
def table(dynalite, sdk):
    """A table "contacts" with key `id`, and an index by `city`."""
    sdk.call("dynamodb", "CreateTable", {
        "TableName": "contacts", "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"},
                                 {"AttributeName": "city", "AttributeType": "S"}],
        "GlobalSecondaryIndexes": [{
            "IndexName": "by-city", "Projection": {"ProjectionType": "ALL"},
            "KeySchema": [{"AttributeName": "city", "KeyType": "HASH"},
                          {"AttributeName": "id", "KeyType": "RANGE"}]}]}, dynalite.url)
    while sdk.call("dynamodb", "DescribeTable", {"TableName": "contacts"},
                   dynalite.url)["Table"]["TableStatus"] != "ACTIVE":
        pass
    yield dynalite.url
    sdk.call("dynamodb", "DeleteTable", {"TableName": "contacts"}, dynalite.url)
    while "Table" in sdk.call("dynamodb", "DescribeTable", {"TableName": "contacts"}, dynalite.url):
        pass


@pytest.fixture
def start(cleanup):
    """start(message, **environment): (agent, peer); the agent sends the message first."""
    def begin(message, fast=True, **env):
        agent = foreign.Agent(dict(FAST, **message) if fast else message)
        cleanup(agent)
        peer = Peer(agent, **env)
        cleanup(peer)
        return agent, peer
    return begin
