# SPDX-License-Identifier: Apache-2.0
"""Readiness of `sinew run`: it names what is missing, and the agent may come, go and come again."""
import json
import threading
import time

from conftest import PATIENCE, Agent, Service, free_port, peers_message
from test_sidecar import Running


def ready(r):
    answer, body = r.admin("/readyz")
    doc = json.loads(body)
    assert doc["ready"] == (answer.status == 200) and answer.status in (200, 503)
    return doc["missing"]


def until(r, holds):
    end = time.monotonic() + PATIENCE
    while True:
        missing = ready(r)
        if holds(missing):
            return missing
        assert time.monotonic() < end, missing


def test_an_agent_that_is_not_there_yet(sinew, cleanup):
    s = Service(name="late")
    cleanup(s)
    agent = Agent(peers_message(s.port))
    agent.stop()  # its port is known, nobody listens
    r = Running(sinew, "", agent=agent)
    missing = until(r, lambda m: m)
    assert len(missing) == 1 and missing[0].startswith("agent: "), missing
    assert str(agent.port) in missing[0] or "connect" in missing[0]
    assert r.admin("/healthz")[0].status == 200  # it lives all the same
    answer, body = r.ask("GET", "/call/service/basket/rest/", headers={"sinew-timeout-ms": "300"})
    assert answer.status == 503 and json.loads(body)["code"] == "NO_PEER"
    agent.start()
    cleanup(agent)
    assert until(r, lambda m: not m) == []
    assert r.ask("GET", "/call/service/basket/rest/")[1] == b"hello from late"


def test_a_call_waits_for_the_agents_first_word(sinew, cleanup):
    """As long as its own time allows, not longer."""
    s = Service(name="late")
    cleanup(s)
    agent = Agent()
    agent.first = None
    cleanup(agent)
    r = Running(sinew, "policies: {no-peer-wait: 20s}\n", agent=agent)
    agent.wait_connections(1)
    result = []
    t = threading.Thread(target=lambda: result.append(
        r.ask("GET", "/call/service/basket/rest/", headers={"sinew-timeout-ms": "20000"})))
    t.start()
    agent.push(peers_message(s.port))
    t.join(PATIENCE * 2)
    assert result and result[0][1] == b"hello from late"


def test_what_is_known_stays_when_the_agent_goes(sinew, cleanup):
    s = Service(name="one")
    cleanup(s)
    agent = Agent(peers_message(s.port))
    r = Running(sinew, "", agent=agent)
    agent.wait_connections(1)
    assert until(r, lambda m: not m) == []
    agent.stop()
    assert r.ask("GET", "/call/service/basket/rest/")[1] == b"hello from one"
    agent.start()
    cleanup(agent)
    agent.wait_connections(2)
    assert until(r, lambda m: not m) == []


def test_without_an_agent_it_is_ready_at_once(sinew, cleanup):
    r = Running(sinew, "peers: {service: {basket: {rest: {'1': {protocol: http, address: 127.0.0.1, port: %d}}}}}\n"
                % free_port())
    assert ready(r) == []
