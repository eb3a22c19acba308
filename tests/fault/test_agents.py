# SPDX-License-Identifier: Apache-2.0
"""Two agents on one etcd: what is reported at one is told by both, and by one that starts later; kill -9
of an agent and of etcd, and in the end what was accepted is there, everywhere the same."""
import asyncio
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest
import websockets

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../services"))
import services  # noqa: E402
from fault import BINARY, LONG, free_port, wait_until  # noqa: E402

TASKS = ["t%d" % i for i in range(4)]


class Agent:
    def __init__(self, tmp, name, etcd, port=0):
        self.log_path = tmp / (name + ".log")
        self.port = port or free_port()
        self.args = [BINARY, "agent", "--listen", "127.0.0.1:%d" % self.port, "--etcd", etcd.url, "-v"]
        self.start()

    def start(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("BERLIOZ_", "SINEW_CONFIG"))}
        with open(self.log_path, "a") as log:
            self.p = subprocess.Popen(self.args, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)

    def said(self):
        return self.log_path.read_text()

    def http(self, path, body=None):
        """(status, text); None when nobody is there."""
        try:
            with urllib.request.urlopen("http://127.0.0.1:%d%s" % (self.port, path), body, 20) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()
        except OSError:
            return None

    def view(self, task):
        r = self.http("/" + task)
        return json.loads(r[1]) if r and r[0] == 200 else None

    def report(self, task, **sections):
        return self.http("/report", json.dumps([{"id": task, "metadata": sections}]).encode())

    def kill(self):
        self.p.kill()
        self.p.wait()


class Connectors:
    """Of each task one at each agent: what they know, kept over reconnections as connectors do."""

    def __init__(self, agents):
        self.known = {(a.port, t): {} for a in agents for t in TASKS}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.tasks = [self.loop.create_task(self._one(*key)) for key in self.known]
        try:
            self.loop.run_until_complete(asyncio.gather(*self.tasks))
        except asyncio.CancelledError:
            pass

    async def _one(self, port, task):
        while True:
            try:
                async with websockets.connect("ws://127.0.0.1:%d/%s" % (port, task)) as ws:
                    while True:
                        self.known[port, task].update(json.loads(await ws.recv()))
            except (OSError, websockets.WebSocketException, asyncio.TimeoutError):
                await asyncio.sleep(0.1)

    def stop(self):
        self.loop.call_soon_threadsafe(lambda: [t.cancel() for t in self.tasks])
        self.thread.join(20)
        self.loop.run_until_complete(asyncio.gather(*self.tasks, return_exceptions=True))
        self.loop.close()


class Reporter:
    """Sections that are never reported twice, to one agent after the other."""

    def __init__(self, agents):
        self.agents = agents
        self.sent, self.accepted, self.refused, self.unknown = 0, {}, 0, 0
        self.stopped = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopped:
            n = self.sent
            task, section = TASKS[n % len(TASKS)], "s%d" % n
            self.sent += 1
            r = self.agents[n // 3 % len(self.agents)].report(task, **{section: {"n": n}})
            if r is None:
                self.unknown += 1
            elif r[0] == 200:
                self.accepted[task, section] = {"n": n}
            else:
                assert r[0] == 503, r
                self.refused += 1
            time.sleep(0.01)

    def stop(self):
        self.stopped = True
        self.thread.join(30)


@pytest.fixture
def cleanup():
    things = []

    def add(thing):
        things.append(thing)
        return thing
    yield add
    for thing in reversed(things):
        thing.kill() if isinstance(thing, (Agent, subprocess.Popen)) else thing.stop()


@pytest.fixture
def etcd(cleanup):
    try:
        return cleanup(services.start("etcd"))
    except services.Missing as e:
        pytest.skip(str(e))


def test_what_is_accepted_is_everywhere(tmp_path, cleanup, etcd):
    a, b = (cleanup(Agent(tmp_path, name, etcd)) for name in "ab")
    for agent in (a, b):
        wait_until(lambda: agent.view("t0") == {}, agent.said)
    connectors = cleanup(Connectors([a, b]))
    reporter = cleanup(Reporter([a, b]))

    def goes_on(n=20):
        start = len(reporter.accepted)
        wait_until(lambda: len(reporter.accepted) > start + n,
                   lambda: "no report is accepted: " + a.said() + b.said())

    for _ in range(5 if LONG else 1):
        goes_on()
        a.kill()
        goes_on()  # at the other one
        a.start()
        wait_until(lambda: a.view("t0"), a.said)
        goes_on()
        refused = reporter.refused
        before = a.view("t0"), b.view("t0")
        etcd.kill()
        wait_until(lambda: reporter.refused > refused + 5, "reports are taken without etcd")
        assert a.view("t0").items() >= before[0].items() and b.view("t0").items() >= before[1].items()
        etcd.start()
        goes_on()
    assert "is away" in b.said() and b.said().count("is away: ") <= (10 if LONG else 2), b.said()
    reporter.stop()
    assert reporter.sent == len(reporter.accepted) + reporter.refused + reporter.unknown
    c = cleanup(Agent(tmp_path, "c", etcd))
    wait_until(lambda: c.view("t0"), c.said)

    def same():
        views = [[agent.view(t) for t in TASKS] for agent in (a, b, c)]
        return views[0] == views[1] == views[2]
    wait_until(same, "agents differ")
    there = {(t, s): v for t in TASKS for s, v in c.view(t).items()}
    assert reporter.accepted.items() <= there.items()
    assert len(there) <= reporter.sent
    wait_until(lambda: all(known == {s: v for (t, s), v in there.items() if t == task}
                           for (_, task), known in connectors.known.items()),
               "a connector does not know what its agent has")


def test_nodes_of_hubs_and_large_sections(tmp_path, cleanup, etcd):
    registry, node = free_port(), free_port()
    (tmp_path / "hub.yaml").write_text(json.dumps({"hub": {
        "id": "h", "registry": "127.0.0.1:%d" % registry, "broker": {"listen": "off"},
        "store": {"type": "etcd", "endpoints": [etcd.url]}}}))
    env = dict(os.environ, XDG_RUNTIME_DIR=str(tmp_path), XDG_STATE_HOME=str(tmp_path))
    start = lambda *args: cleanup(subprocess.Popen(  # noqa: E731
        [BINARY, *args], cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL))
    start("hub", "--config", "hub.yaml")
    agent = cleanup(Agent(tmp_path, "a", etcd))
    n = start("node", "lamp/hall", "--listen", "127.0.0.1:%d" % node, "--registry", "127.0.0.1:%d" % registry)

    def lamp():
        v = agent.view("t")
        return v and v.get("peers", {}).get("service", {}).get("lamp/hall", {}).get("default")
    wait_until(lamp, agent.said)
    assert lamp() == {"1": {"protocol": "microhome", "address": "127.0.0.1", "port": node}}
    n.terminate()
    wait_until(lambda: not lamp(), "a node that has unregistered is still a peer")
    assert agent.report("t", big="x" * 200000)[0] == 200
    # Larger than a value of etcd: in pieces, which are gone with what replaces it.
    huge = "y" * 5000000
    assert agent.report("t", big=huge)[0] == 200
    assert agent.view("t")["big"] == huge
    other = cleanup(Agent(tmp_path, "b", etcd))
    wait_until(lambda: other.view("t"), other.said)
    assert other.view("t")["big"] == huge
    assert other.report("t", big="z" * 300000)[0] == 200
    wait_until(lambda: agent.view("t")["big"] == "z" * 300000, agent.said)
    # A task twice in one report: the last item wins, also when it is what the store has.
    twice = [{"id": "t", "metadata": {"n": n}} for n in (2, 1)]
    assert agent.report("t", n=1)[0] == 200
    assert agent.http("/report", json.dumps(twice).encode())[0] == 200
    assert agent.view("t")["n"] == 1
