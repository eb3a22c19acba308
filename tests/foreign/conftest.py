# SPDX-License-Identifier: Apache-2.0
"""Peers that are not ours, for tests of the binary: an agent made of python3-websockets, HTTP
services of Python's own server, and raw sockets that misbehave as told."""
import asyncio
import http.server
import json
import os
import queue
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest
import websockets

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from patience import PATIENCE, until  # noqa: E402,F401
from ports import free_port  # noqa: E402,F401

BINARY = os.path.abspath(os.environ.get("SINEW_BINARY", "build/sinew"))


class Agent:
    """The original's side of the socket: full message at connect, then what push() sends."""

    def __init__(self, first=None, path="/task-1"):
        self.first = first if first is not None else {}
        self.path = path
        self.sockets = set()
        self.connections = 0
        self.received = []
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.changed = threading.Condition()
        self.port = 0
        self.server = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        assert self.ready.wait(PATIENCE)

    @property
    def url(self):
        return "ws://127.0.0.1:%d%s" % (self.port, self.path)

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._open())
        self.loop.run_forever()

    async def _open(self):
        self.server = await websockets.serve(self._serve, "127.0.0.1", self.port,
                                             process_request=self._check, max_size=None,
                                             ping_interval=None)
        self.port = self.server.sockets[0].getsockname()[1]
        self.ready.set()

    async def _check(self, path, headers):
        if path != self.path:
            return (http.HTTPStatus.NOT_FOUND, [], b"no such task\n")

    async def _serve(self, ws, path=None):
        with self.changed:
            self.connections += 1
            self.sockets.add(ws)
            self.changed.notify_all()
        try:
            if self.first is not None:
                await ws.send(self.first if isinstance(self.first, (str, bytes))
                              else json.dumps(self.first))
            async for message in ws:
                self.received.append(message)
        except websockets.ConnectionClosed:
            pass
        finally:
            with self.changed:
                self.sockets.discard(ws)
                self.changed.notify_all()

    def wait_connections(self, n):
        with self.changed:
            assert self.changed.wait_for(lambda: self.connections >= n, PATIENCE), \
                "connector did not connect %d times" % n

    def wait_gone(self):
        with self.changed:
            assert self.changed.wait_for(lambda: not self.sockets, PATIENCE)

    def push(self, message):
        text = message if isinstance(message, (str, bytes)) else json.dumps(message)

        async def send():
            for ws in list(self.sockets):
                try:
                    await ws.send(text)
                except websockets.ConnectionClosed:
                    pass  # it refused what was sent before; it will come again
        asyncio.run_coroutine_threadsafe(send(), self.loop).result(PATIENCE)

    def drop(self):
        """Break every connection without a close handshake."""
        async def cut():
            for ws in list(self.sockets):
                ws.transport.abort()
        asyncio.run_coroutine_threadsafe(cut(), self.loop).result(PATIENCE)

    def stop(self):
        async def end():
            self.server.close()
            for ws in list(self.sockets):
                ws.transport.abort()
            await self.server.wait_closed()
        asyncio.run_coroutine_threadsafe(end(), self.loop).result(PATIENCE)

    def start(self):
        """Again, on the same port."""
        asyncio.run_coroutine_threadsafe(self._open(), self.loop).result(PATIENCE)


class Service:
    """An HTTP service: @answer(handler, body) writes the response; every request is recorded."""

    def __init__(self, answer=None, name="", ssl=None):
        outer = self
        self.name = name
        self.requests = []
        self.answer = answer or (lambda h, body: outer.reply(h, 200, b"hello from " + name.encode()))

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def any(self):
                n = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(n)
                outer.requests.append((self.command, self.path, dict(self.headers), body))
                outer.answer(self, body)
            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_HEAD = any

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request, client_address):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        if ssl is not None:
            self.server.socket = ssl.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def reply(handler, status, body=b"", headers=()):
        handler.send_response(status)
        for k, v in headers:
            handler.send_header(k, v)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Raw:
    """A TCP server: @script(connection, number) handles each connection in a thread."""

    def __init__(self, script):
        self.script = script
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.sock.getsockname()[1]
        self.accepted = 0
        self.requests = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._one, args=(c, self.accepted), daemon=True).start()

    def _one(self, c, n):
        try:
            self.script(self, c, n)
        except OSError:
            pass
        finally:
            c.close()

    def read_request(self, c):
        data = b""
        while b"\r\n\r\n" not in data:
            piece = c.recv(65536)
            if not piece:
                return None
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n")[1:]:
            k, _, v = line.partition(b":")
            if k.strip().lower() == b"content-length":
                length = int(v)
        while len(body) < length:
            body += c.recv(65536)
        self.requests.append((head, body))
        return head, body

    @staticmethod
    def reset(c):
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.close()

    def stop(self):
        self.sock.close()


def peer(port, protocol="http", address="127.0.0.1"):
    return {"protocol": protocol, "networkProtocol": "tcp", "port": port, "address": address}


def peers_message(*ports, **more):
    """The seed's form: service basket, endpoint rest."""
    m = {"peers": {"service": {"basket": {"rest": {str(i + 1): peer(p) for i, p in
                                                  enumerate(ports)}}}}}
    m.update(more)
    return m


FAST = {"policies": {"values": {"retry-initial-delay": 20, "retry-max-delay": 50}}}


class Watch:
    """A running `sinew ... --watch`: lines of stdout one by one."""

    def __init__(self, process):
        self.process = process
        self.lines = queue.Queue()
        threading.Thread(target=self._pump, daemon=True).start()

    def _pump(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def next(self, patience=PATIENCE):
        line = self.lines.get(timeout=patience)
        assert line is not None, "it ended: " + self.process.stderr.read()
        return json.loads(line)


class Sinew:
    def __init__(self, tmp):
        self.tmp = tmp
        self.children = []

    def env(self, agent=None, **more):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("BERLIOZ_", "SINEW_CONFIG"))}
        env.update(HOME=str(self.tmp), XDG_STATE_HOME=str(self.tmp / "state"),
                   XDG_RUNTIME_DIR=str(self.tmp))
        if agent is not None:
            env["BERLIOZ_AGENT_PATH"] = agent if isinstance(agent, str) else agent.url
        env.update(more)
        return env

    def run(self, *args, agent=None, stdin=None, env=None, patience=60):
        return subprocess.run([BINARY, *map(str, args)], cwd=self.tmp, timeout=patience,
                              env=self.env(agent, **(env or {})), capture_output=True,
                              text=True, input=stdin if stdin is not None else "")

    def start(self, *args, agent=None, env=None):
        p = subprocess.Popen([BINARY, *map(str, args)], cwd=self.tmp,
                             env=self.env(agent, **(env or {})), stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.children.append(p)
        return p

    def watch(self, *args, **kw):
        return Watch(self.start(*args, **kw))

    def agent(self, *args, **kw):
        """`sinew agent` on a free port; returns (process, port) once it accepts."""
        port = free_port()
        p = self.start("agent", "--listen", "127.0.0.1:%d" % port, *args, **kw)
        end = time.monotonic() + PATIENCE
        while True:
            assert p.poll() is None, "agent ended: " + p.stderr.read()
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return p, port
            except OSError:
                assert time.monotonic() < end, "agent does not listen"

    def stop(self):
        for p in self.children:
            if p.poll() is None:
                p.kill()
            p.wait()


@pytest.fixture
def sinew(tmp_path):
    s = Sinew(tmp_path)
    yield s
    s.stop()


@pytest.fixture
def cleanup():
    things = []
    yield things.append
    for t in reversed(things):
        t.stop()
