# SPDX-License-Identifier: Apache-2.0
"""`sinew peers` and `sinew peer` against an agent that is not ours."""
import json
import random

import pytest
import websockets

from conftest import Agent, free_port, peer, peers_message

TWO = {"1": peer(4000, address="10.0.0.23"), "2": peer(4001, address="10.0.0.44")}
OWN = {"BERLIOZ_CLUSTER": "shop", "BERLIOZ_SECTOR": "core", "BERLIOZ_SERVICE": "front"}


@pytest.mark.parametrize("message", [
    {"peers": {"service": {"app": {"client": TWO}}}},
    {"peers": {"service://shop-core-app": {"client": TWO}}},
    {"peers": {"service://shop-core-app-client": TWO}},
], ids=["kind-tree", "id-endpoint", "flat-id"])
def test_all_three_forms(sinew, cleanup, message):
    agent = Agent(message)
    cleanup(agent)
    r = sinew.run("peers", "service", "app", "client", agent=agent, env=OWN)
    assert r.returncode == 0, r.stderr
    assert json.loads(r.stdout) == TWO
    assert agent.received == []


def test_unknown_target_is_null(sinew, cleanup):
    agent = Agent({"peers": {"service": {"app": {"client": TWO}}}})
    cleanup(agent)
    r = sinew.run("peers", "service", "nobody", "client", agent=agent)
    assert (r.returncode, r.stdout.strip()) == (0, "null")
    assert r.stderr == "sinew: nobody serves service nobody client; 1 other target is known, such as service app client\n"
    r = sinew.run("peer", "service", "nobody", "client", agent=agent)
    assert (r.returncode, r.stdout.strip()) == (3, "null")
    r = sinew.run("peers", "service", "ap", "client", agent=agent)
    assert r.stderr == "sinew: nobody serves service ap client; did you mean service app client?\n"


def test_unknown_task_sends_empty_object(sinew, cleanup):
    agent = Agent({})
    cleanup(agent)
    r = sinew.run("peers", "service", "app", "client", agent=agent)
    assert (r.returncode, r.stdout.strip()) == (0, "null")


def test_peer_comes_as_it_came(sinew, cleanup):
    odd = {"7": dict(peer(4000), name="x", extra={"b": [1, 2.50, None], "a": "é\u2028"})}
    agent = Agent({"peers": {"service": {"app": {"client": odd}}}})
    cleanup(agent)
    r = sinew.run("-v", "peer", "service", "app", "client", agent=agent)
    assert r.returncode == 0, r.stderr
    assert json.loads(r.stdout) == odd["7"]
    assert "7" in r.stderr


def test_random_peer_reaches_all(sinew, cleanup):
    agent = Agent({"peers": {"service": {"app": {"client": TWO}}}})
    cleanup(agent)
    seen = set()
    for _ in range(40):
        r = sinew.run("peer", "service", "app", "client", agent=agent)
        seen.add(json.loads(r.stdout)["port"])
        if len(seen) == 2:
            break
    assert seen == {4000, 4001}


def test_watch_prints_changes_only(sinew, cleanup):
    agent = Agent(peers_message(1001))
    cleanup(agent)
    w = sinew.watch("peers", "service", "basket", "rest", "--watch", agent=agent)
    assert w.next() == {"1": peer(1001)}
    agent.push(peers_message(1001))
    agent.push(peers_message(1001, 1002))
    assert w.next() == {"1": peer(1001), "2": peer(1002)}
    agent.push("this is not JSON")
    agent.push('["an array"]')
    agent.push({"peers": 17})
    agent.push({"unknown": {"a": 1}})
    agent.push({"peers": {"service": {"basket": {"rest": {}}}}})
    assert w.next() == {}
    agent.drop()
    agent.wait_connections(2)
    assert w.next() == {"1": peer(1001)}  # the full message of the new connection differs
    agent.push({"peers": None})
    assert w.next() == {}


def test_watch_survives_an_absent_agent(sinew, cleanup):
    agent = Agent(peers_message(1001))
    cleanup(agent)
    w = sinew.watch("peers", "service", "basket", "rest", "--watch", agent=agent)
    assert w.next() == {"1": peer(1001)}
    agent.stop()
    agent.first = peers_message(2002)
    agent.start()
    assert w.next() == {"1": peer(2002)}


def test_agent_that_is_not_there(sinew):
    url = "ws://127.0.0.1:%d/task-1" % free_port()
    for cmd in ("peers", "peer"):
        r = sinew.run("--timeout", "700ms", cmd, "service", "app", "client", agent=url)
        assert r.returncode == 1
        assert url in r.stderr
        assert r.stdout == ""


def test_agent_that_says_404(sinew, cleanup):
    agent = Agent({})
    cleanup(agent)
    r = sinew.run("--timeout", "700ms", "peers", "service", "app", "client",
                  agent=agent.url.replace("/task-1", "/"))
    assert r.returncode == 1
    assert "404" in r.stderr and "task id" in r.stderr


def test_no_agent_configured(sinew):
    r = sinew.run("--timeout", "500ms", "peers", "service", "app", "client")
    assert r.returncode in (1, 2)
    assert "BERLIOZ_AGENT_PATH" in r.stderr


def test_override_source(sinew):
    r = sinew.run("peers", "service", "basket", "rest",
                  env={"BERLIOZ_METADATA_SOURCE": "override",
                       "BERLIOZ_METADATA_OVERRIDE": json.dumps(peers_message(1001))})
    assert r.returncode == 0, r.stderr
    assert json.loads(r.stdout) == {"1": peer(1001)}


def test_agent_path_substitution(sinew, cleanup):
    agent = Agent(peers_message(1001))
    cleanup(agent)
    r = sinew.run("peers", "service", "basket", "rest", agent="ws://${HOSTY}:%d/${TASKY}" % agent.port,
                  env={"HOSTY": "127.0.0.1", "TASKY": "task-1"})
    assert json.loads(r.stdout) == {"1": peer(1001)}, r.stderr


def test_large_message(sinew, cleanup):
    many = {str(i): dict(peer(1 + i % 65535), name="n%d" % i) for i in range(20000)}
    agent = Agent({"peers": {"service": {"app": {"client": many}}}})
    cleanup(agent)
    r = sinew.run("peers", "service", "app", "client", agent=agent)
    assert json.loads(r.stdout) == many


def test_a_64_mb_frame_is_survived(sinew, cleanup):
    agent = Agent(peers_message(1001))
    cleanup(agent)
    w = sinew.watch("peers", "service", "basket", "rest", "--watch", agent=agent)
    assert w.next() == {"1": peer(1001)}
    agent.first = peers_message(1001, 1003)
    try:
        agent.push('{"peers": "' + "x" * (64 << 20) + '"}')
        agent.push(peers_message(1001, 1003))
    except websockets.ConnectionClosed as e:
        assert e.code == 1009  # refused: the next true message comes over a new connection
    assert w.next(60) == {"1": peer(1001), "2": peer(1003)}


def test_unknown_kind_is_refused(sinew, cleanup):
    agent = Agent(peers_message(1001))
    cleanup(agent)
    r = sinew.run("peers", "servise", "basket", "rest", agent=agent)
    assert r.returncode == 2
    assert "service" in r.stderr and r.stdout == ""


def test_help_and_mistakes(sinew):
    r = sinew.run("--help")
    assert r.returncode == 0 and "peers" in r.stdout
    for cmd in ("agent", "peers", "peer", "request", "policies", "check", "why"):
        r = sinew.run(cmd, "--help")
        assert r.returncode == 0 and cmd in r.stdout and "sinew %s" % cmd in r.stdout
    r = sinew.run("pers")
    assert r.returncode == 2 and "peers" in r.stderr
    r = sinew.run("peers", "--wach", "service", "a", "b")
    assert r.returncode == 2 and "--watch" in r.stderr
    r = sinew.run("peers", "service")
    assert r.returncode == 2 and "peers: NAME is missing" in r.stderr
    r = sinew.run("check")
    assert r.returncode == 2 and "check: FILE is missing" in r.stderr
