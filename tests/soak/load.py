# SPDX-License-Identifier: Apache-2.0
"""The load that comes from other languages: programs that speak HTTP to the sidecar, to a registry, and
WebSocket to the bridge. Each worker writes a line for everything it has begun, as soak_peer does:
START_MS LATENCY_US ID RESULT, where RESULT is "ok" or the reason why not."""
import base64
import http.client
import itertools
import json
import os
import socket
import struct
import threading
import time
import urllib.parse

PATIENCE = 25  # longer than every deadline: who has to wait so long was forgotten
DEADLINE_MS = 8000


class WebSocket:
    """As little of RFC 6455 as a client needs."""

    def __init__(self, port, path="/", tls=None, headers=None):
        self.s = socket.create_connection(("127.0.0.1", port), PATIENCE)
        if tls:
            self.s = tls.wrap_socket(self.s, server_hostname="127.0.0.1")
        more = "".join("%s: %s\r\n" % h for h in (headers or {}).items())
        self.s.sendall(("GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n%s"
                        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" % (
                            path, more)).encode())
        self.f = self.s.makefile("rb")
        if b" 101 " not in self.f.readline():
            raise ConnectionError("no upgrade")
        while self.f.readline() not in (b"\r\n", b""):
            pass

    def frame(self, opcode, body):
        length = struct.pack("!B", 0x80 | len(body)) if len(body) < 126 else struct.pack("!BH", 0x80 | 126, len(body))
        self.s.sendall(struct.pack("!B", 0x80 | opcode) + length + b"\0\0\0\0" + body)

    def exactly(self, n):
        got = self.f.read(n)
        if len(got) < n:
            raise ConnectionResetError("the stream ended")
        return got

    def ask(self, text):
        self.frame(1, text.encode())
        return self.next()

    def next(self):
        while True:
            first, n = self.exactly(2)
            if n > 125:
                n = int.from_bytes(self.exactly(2 if n == 126 else 8), "big")
            body = self.exactly(n)
            if first & 15 == 1:
                return body.decode()
            if first & 15 == 8:
                raise ConnectionResetError("closed")
            if first & 15 == 9:
                self.frame(10, body)

    def close(self):
        self.f.close()
        self.s.close()


class Load:
    """@rate in all a second, by @workers, each with a connection of its own. one(worker, id) -> result."""

    def __init__(self, name, path, rate, workers):
        self.name, self.path, self.rate, self.workers = name, path, rate, workers
        self.sent = self.ok = 0
        self.over, self.lock = threading.Event(), threading.Lock()
        self.number = itertools.count(1)

    def start(self):
        self.out = open(self.path, "w", buffering=1 << 16)
        self.threads = [threading.Thread(target=self._work, args=(k,), daemon=True) for k in range(self.workers)]
        for t in self.threads:
            t.start()

    def _work(self, k):
        me = {"k": k}
        due = time.monotonic() + k / self.rate
        while not self.over.wait(max(0, due - time.monotonic())):
            due = max(due + self.workers / self.rate, time.monotonic() - 1)  # at most a second is made up for
            self._one(me, next(self.number))

    def _one(self, me, n):
        with self.lock:
            self.sent += 1
        start, tag = time.monotonic(), "%s-%d" % (self.name, n)
        try:
            result = self.one(me, tag)
        except TimeoutError:
            result = "client:timeout"
        except (OSError, http.client.HTTPException) as e:
            result = "client:" + {ConnectionRefusedError: "refused", BrokenPipeError: "reset"}.get(type(e), "reset")
        if result != "ok":
            self.disconnect(me)
        took = time.monotonic() - start
        with self.lock:
            self.ok += result == "ok"
            self.out.write("%d %d %s %s\n" % (start * 1000, took * 1e6, me.pop("what", tag), result))
        if result.startswith("client:"):
            self.over.wait(0.2)

    def disconnect(self, me):
        for name in ("connection", "told"):
            c = me.pop(name, None)
            if c is not None:
                c.close()

    def http(self, me, port, method, path, body=None, headers=(), tls=None):
        """(status, JSON or text) over the worker's connection."""
        c = me.get("connection")
        if c is None:
            c = me["connection"] = http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=tls) \
                if tls else http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        c.request(method, path, body, dict(headers))
        r = c.getresponse()
        text = r.read()
        if r.getheader("Connection", "").lower() == "close":
            self.disconnect(me)
        try:
            return r.status, json.loads(text)
        except ValueError:
            return r.status, text.decode(errors="replace")

    def stop(self):
        self.over.set()

    def join(self):
        for t in self.threads:
            t.join(2 * PATIENCE)
        self.out.write("sent %d\n" % self.sent)
        self.out.close()
        return not any(t.is_alive() for t in self.threads)


def reason(status, answer):
    """Of a sidecar's answer that is not the one hoped for."""
    if isinstance(answer, dict) and "code" in answer:
        return answer["code"]
    return "HTTP_%d" % status


class Calls(Load):
    """Any language's calls, through a sidecar."""

    def __init__(self, name, path, rate, workers, port):
        super().__init__(name, path, rate, workers)
        self.port = port

    def one(self, me, tag):
        endpoint = ("plain", "tls", "named")[me["k"] % 3]
        status, answer = self.http(me, self.port, "POST", "/call/service/counter/%s/count/%s" % (endpoint, tag), b"",
                                   {"Idempotency-Key": tag, "sinew-timeout-ms": str(DEADLINE_MS)})
        if status == 200:
            return "ok" if answer == tag else "WRONG_ANSWER"
        return reason(status, answer)


class Resource(Load):
    """Writes to a database or queue through a sidecar; @parameters(id) -> object."""

    def __init__(self, name, path, rate, workers, port, operation, parameters):
        super().__init__(name, path, rate, workers)
        self.port, self.operation, self.parameters = port, operation, parameters

    def one(self, me, tag):
        status, answer = self.http(me, self.port, "POST", self.operation, json.dumps(self.parameters(tag)),
                                   {"sinew-timeout-ms": str(DEADLINE_MS)})
        return "ok" if status == 200 else reason(status, answer)


def insert(tag):
    return {"sql": "INSERT INTO soak VALUES ($1)", "params": [tag]}


def item(tag):
    return {"Item": {"id": {"S": tag}}}


def record(tag):
    return {"Data": base64.b64encode(tag.encode()).decode(), "PartitionKey": tag}


class Entries(Load):
    """The life of registry entries, one after the other: created, kept alive twice, every third deleted. state:
    what was acknowledged of each: "live", "gone", or "unsure" when an answer is missing."""

    def __init__(self, name, path, rate, workers, port):
        super().__init__(name, path, rate, workers)
        self.port, self.state = port, {}

    def url(self, me):
        return "hyperty://soak.example/%s-%d-%d" % (self.name, me["k"], me["entry"])

    def one(self, me, tag):
        step = me["step"] = me.get("step", 3) + 1
        if step > 3 or (step == 3 and me["entry"] % 3):
            me["entry"], step, me["step"] = me.get("entry", -1) + 1, 0, 0
        me["what"] = "%s:%s" % (self.url(me), ("create", "keep-alive", "keep-alive", "delete")[step])
        return self.told(me, step, lambda: (self.create, self.keep, self.keep, self.delete)[step](me, tag, self.url(me)))

    def told(self, me, step, ask):
        """What is known of the entry while @ask goes on, and after it."""
        url = self.url(me)
        if step in (0, 3):
            self.state[url] = "unsure-gone" if step else "unsure"
            me["step"] = 3  # another one, unless this is made
        result = ask()
        if result == "ok" and step in (0, 3):
            self.state[url], me["step"] = ("gone" if step else "live"), step
        return result


VALUE = {"user": "user://soak.example/marta", "descriptor": "d", "expires": 3600, "resources": ["chat"],
         "dataSchemes": ["comm"], "status": "live", "runtime": "r"}


class Messages(Entries):
    """By messages through the bridge's connector."""

    def say(self, me, tag, kind, body):
        if "connection" not in me:
            me["connection"] = WebSocket(self.port)
        answer = json.loads(me["connection"].ask(json.dumps({
            "id": tag, "type": kind, "from": "hyperty-runtime://soak.example/rt/registry",
            "to": "domain://registry.soak.example", "body": body})))
        if answer.get("id") != tag:
            return "WRONG_ANSWER"
        code = answer["body"]["code"]
        return "ok" if code == 200 else "CODE_%d" % code

    def create(self, me, tag, url):
        return self.say(me, tag, "create", {"value": dict(VALUE, url=url)})

    def keep(self, me, tag, url):
        return self.say(me, tag, "update", {"resource": url, "value": {}})

    def delete(self, me, tag, url):
        return self.say(me, tag, "delete", {"value": {"user": VALUE["user"], "url": url}})


class Rest(Entries):
    """By the registry's own interface."""

    def put(self, me, method, path, body):
        status, answer = self.http(me, self.port, method, path, json.dumps(body) if body is not None else None,
                                   {"Content-Type": "application/json"})
        return "ok" if status == 200 else "HTTP_%d" % status

    def create(self, me, tag, url):
        body = {k: v for k, v in VALUE.items() if k != "user"}
        return self.put(me, "PUT", "/hyperty/user/%s/%s" % (quoted(VALUE["user"]), quoted(url)), body)

    def keep(self, me, tag, url):
        return self.put(me, "PUT", "/hyperty/url/" + quoted(url), {})

    def delete(self, me, tag, url):
        return self.put(me, "DELETE", "/hyperty/user/%s/%s" % (quoted(VALUE["user"]), quoted(url)), None)


def quoted(text):
    return urllib.parse.quote(text, safe="")


class Reports(Load):
    """What is reported at one agent and taken there must be told by the other. Every worker reports for a task
    of its own; may: by task, the values that it can have: what was taken last, and what nobody knows of since."""

    def __init__(self, name, path, rate, workers, agents):
        super().__init__(name, path, rate, workers)
        self.agents, self.may = agents, {}

    def one(self, me, tag):
        task, here, (port, tls, headers) = "reported-%d" % me["k"], self.agents[me["k"] % 2], self.agents[1 - me["k"] % 2]
        if "told" not in me:
            me["told"] = WebSocket(port, "/" + task, tls, headers)
        self.may.setdefault(task, [None]).append(tag)
        status, _ = self.http(me, here[0], "POST", "/report", json.dumps([{"id": task, "metadata": {"soak": tag}}]),
                              dict(here[2], **{"Content-Type": "application/json"}), here[1])
        if status != 200:
            return "HTTP_%d" % status
        self.may[task] = [tag]
        while json.loads(me["told"].next()).get("soak") != tag:
            pass
        return "ok"


class Peer:
    """soak_peer, which counts by itself."""

    def __init__(self, world, name, argv, env):
        self.name, self.path = name, os.path.join(world.home, name + ".lines")
        self.process = world.add(name, [world.peer, *argv], env=env, out=self.path)

    def stop(self):
        pass

    def join(self):
        return self.process.stop(60) == 0
