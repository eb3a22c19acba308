# SPDX-License-Identifier: Apache-2.0
"""microhome-flows.json with registry, broker or HTTP interface under test: every other party is played
here, over real sockets, step by step."""
import http.client
import json
import os
import re
import socket
import time

import pytest
from conftest import PATIENCE, ROOT, connect, pack, read_package, readable

with open(os.path.join(ROOT, "tests/vectors/microhome-flows.json")) as f:
    FLOWS = [flow for flow in json.load(f)["flows"] if flow["sut"] in ("registry", "broker", "interface")]
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")


class Party:
    """One that the test plays: a port of its own."""

    def __init__(self):
        self.s = socket.socket()
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.s.bind(("127.0.0.1", 0))
        self.s.settimeout(PATIENCE)
        self.address = "127.0.0.1:%d" % self.s.getsockname()[1]
        self.up = False

    def listen(self):
        self.s.listen(64)
        self.up = True

    def close(self):
        self.s.close()
        self.up = False


class Play:
    def __init__(self, flow, start):
        self.flow = flow
        self.sut = flow["sut"]
        self.parties = {role: Party() for role in flow["roles"] if role != self.sut}
        self.parties.setdefault("broker", Party()) if self.sut != "broker" else None
        for role, party in self.parties.items():
            if not any(s.get("refused", "").endswith("-> " + role) and self.sut != "broker"
                       for s in flow["steps"]):
                party.listen()
        self.nowhere = Party()  # bound, and nobody listens there
        self.hub = start(self.section())
        self.conns = {}
        self.since = {}
        self.response = None

    def section(self):
        if self.sut == "broker":
            return {"broker": "127.0.0.1:0", "registry": "off"}
        at = {"listen": "off", "address": self.parties["broker"].address}
        if self.sut == "registry":
            return {"registry": "127.0.0.1:0", "broker": at}
        return {"registry": "off", "broker": at, "http": "127.0.0.1:0"}

    def translate(self, value):
        """Addresses of the vector as those that are played."""
        text = json.dumps(value, ensure_ascii=False)
        for role, address in self.flow["roles"].items():
            if address and role in self.parties:
                text = text.replace(address, self.parties[role].address)
        return json.loads(re.sub(r"192\.168\.70\.\d+:\d+", self.nowhere.address, text))

    # ---- steps ----

    def send(self, step, name):
        if name not in self.conns:
            self.conns[name] = connect(getattr(self.hub, self.sut))
        packet = step["packet"]
        payload = self.translate(packet["payload"])
        if payload.get("id") == "$uuid":
            payload["id"] = "0b4f0c1e-58ab-4c2e-9d41-2f8a6a1e0d77"
        if payload.get("timestamp") == "$timestamp":
            payload["timestamp"] = "2031-03-09T04:05:06.789Z"
        self.since[name] = time.monotonic()
        self.conns[name].sendall(pack(payload, packet["status"], packet["version"]))

    def expect(self, step, name):
        if name not in self.conns:
            self.conns[name], _ = self.parties[step["to"]].s.accept()
            self.conns[name].settimeout(PATIENCE)
        got = read_package(self.conns[name])
        assert got is not None, "the connection ended, expected %s" % step
        want = self.translate(step["packet"]["payload"])
        status, version, payload = got
        for key, form in (("id", UUID4), ("timestamp", TIME)):
            if want.get(key, "").startswith("$"):
                assert form.match(payload.get(key, "")), payload
                payload[key] = want[key]
        for path in self.flow.get("unordered") or []:
            self.sort(payload, path)
            self.sort(want, path)
        assert (status, version, payload) == (step["packet"]["status"], step["packet"]["version"], want)
        if "after_ms" in step:
            low, high = step["after_ms"]
            assert low <= (time.monotonic() - self.since[name]) * 1000 <= high

    @staticmethod
    def sort(payload, path):
        *way, last = path.split(".")
        for part in way:
            payload = payload.get(part) or {}
        if last in payload:
            payload[last].sort(key=json.dumps)

    def end(self, step, name):
        if step["end"] == self.sut:
            assert self.conns[name].recv(1) == b"", "it must end the connection"
        self.conns.pop(name).close()

    def quiet(self, step):
        role = step["quiet"]
        deadline = time.monotonic() + step["ms"] / 1000
        watched = [self.parties[role].s] if role in self.parties and self.parties[role].up else []
        watched += [c for name, c in self.conns.items()
                    if any(s.get("conn") == name and s.get("from") == role for s in self.flow["steps"])]
        for s in watched:
            assert not readable(s, max(0, deadline - time.monotonic())), "%s was not left alone" % role

    def do(self, step):
        what, args = step["do"], step["args"]
        if what == "interface.http":
            method, path, _ = args[0].split(" ")
            self.response = http.client.HTTPConnection(*self.hub.http, timeout=PATIENCE)
            self.response.request(method, path, json.dumps(args[1]), {"Content-Type": "application/json"})
            return
        how = {"broker.broadcastEvent": "publish", "broker.broadcastAll": "broadcast"}[what]
        status, reply = self.hub.publish(args[0], args[1], how=how)
        assert status == 1, reply

    def local(self, step):
        if self.sut == "interface":
            r = self.response.getresponse()
            assert (str(r.status), json.loads(r.read())) == (step["expect"], step["body"])
        else:  # the push is made again, to a broker that has come up
            assert "retries the push" in step["expect"]
            broker = self.parties["broker"]
            broker.listen()
            conn, _ = broker.s.accept()
            conn.settimeout(PATIENCE)
            with conn:
                status, _, payload = read_package(conn)
                assert (status, payload["type"], len(payload["data"]["nodes"])) == (1, "µHome.core.nodes", 1)
                conn.sendall(pack({"type": "µHome.response"}))

    def state(self, step):
        nodes = self.hub.admin("/hub/subscriptions")["subscriptions"]
        for type_, ids in step["subscribers"].items():
            assert [n["nodeId"] for n in nodes if type_ in n["types"]] == ids

    def run(self):
        for step in self.flow["steps"]:
            if "packet" in step:
                (self.expect if step["from"] == self.sut else self.send)(step, step["conn"])
            elif "end" in step:
                self.end(step, step["conn"])
            elif "quiet" in step:
                self.quiet(step)
            elif "down" in step:
                self.parties[step["down"]].close()
            elif "do" in step:
                self.do(step)
            elif "local" in step:
                self.local(step)
            elif "state" in step:
                self.state(step)
            else:
                assert "silence" in step or "refused" in step, step

    def close(self):
        for s in [*self.conns.values(), *(p.s for p in self.parties.values()), self.nowhere.s]:
            s.close()


def test_there_are_flows():
    assert len(FLOWS) >= 29


@pytest.mark.parametrize("flow", FLOWS, ids=lambda f: f["id"])
def test_flow(flow, hub):
    play = Play(flow, hub)
    try:
        play.run()
    finally:
        play.close()
