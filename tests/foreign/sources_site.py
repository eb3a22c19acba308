# SPDX-License-Identifier: Apache-2.0
"""An agent whose mesh file names sources of instances, and a connector that keeps what it was ever sent."""
import asyncio
import json
import os
import threading
import time

import websockets

from conftest import PATIENCE


class Connector:
    """Every set of instances of service `shop` that an agent has ever sent, by endpoint. As connectors
    do, it keeps what a message does not name."""

    def __init__(self, agent_port):
        self.url = "ws://127.0.0.1:%d/task" % agent_port
        self.sets = {}     # endpoint -> [set of (identity, address, port), ...]
        self.weights = {}  # (endpoint, identity) -> weight
        self.changed = threading.Condition()
        self.loop = asyncio.new_event_loop()
        self.task = self.loop.create_task(self._read())
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self.task)
        except (websockets.ConnectionClosed, asyncio.CancelledError):
            pass
        self.loop.close()

    async def _read(self):
        async with websockets.connect(self.url, max_size=None) as ws:
            async for message in ws:
                endpoints = json.loads(message).get("peers", {}).get("service", {}).get("shop", {})
                with self.changed:
                    for name, peers in endpoints.items():
                        one = {(i, p["address"], p["port"]) for i, p in peers.items()}
                        history = self.sets.setdefault(name, [])
                        if not history or history[-1] != one:
                            history.append(one)
                        for i, p in peers.items():
                            self.weights[name, i] = p.get("weight")
                    self.changed.notify_all()

    def wait(self, name, *addresses):
        """Until exactly these are there, ADDRESS:PORT or IDENTITY=ADDRESS:PORT."""
        want = set()
        for a in addresses:
            identity, _, place = a.rpartition("=")
            host, _, number = place.rpartition(":")
            want.add((identity or place, host.strip("[]"), int(number)))
        with self.changed:
            assert self.changed.wait_for(
                lambda: self.sets.get(name, [None])[-1] == want, PATIENCE), \
                "%s: wanted %r, was sent %r" % (name, want, self.sets.get(name))

    def history(self, name):
        with self.changed:
            return [sorted("%s:%d" % (a, p) for _, a, p in s) for s in self.sets.get(name, [])]

    def stop(self):
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.task.cancel)
        self.thread.join(PATIENCE)


class Site:
    """An agent with a mesh file of service `shop`."""

    def __init__(self, sinew, cleanup, **head):
        self.sinew, self.cleanup, self.head = sinew, cleanup, head
        self.lines = []

    def write(self, **endpoints):
        """endpoint=what stands behind `from:`, or a whole endpoint"""
        shown = {k: v if isinstance(v, dict) else {"from": v} for k, v in endpoints.items()}
        (self.sinew.tmp / "new").write_text(
            json.dumps({**self.head, "services": {"shop": {"endpoints": shown}}}))
        os.rename(self.sinew.tmp / "new", self.sinew.tmp / "mesh.yaml")

    def start(self, **kw):
        self.process, self.port = self.sinew.agent("--mesh", "mesh.yaml", **kw)
        threading.Thread(target=self._pump, daemon=True).start()
        return self.connect()

    def connect(self):
        c = Connector(self.port)
        self.cleanup(c)
        return c

    def _pump(self):
        for line in self.process.stderr:
            self.lines.append(line)

    def said(self, *words):
        end = time.monotonic() + PATIENCE
        while not any(all(w in line for w in words) for line in list(self.lines)):
            assert time.monotonic() < end, (words, self.lines)
            time.sleep(0.01)


