# SPDX-License-Identifier: Apache-2.0
"""What whole-binary tests share: the binary, an agent and a service that are not ours."""
import asyncio
import http.server
import json
import os
import re
import subprocess
import threading

import pytest
import websockets

BINARY = os.environ.get("SINEW_BINARY", "sinew")
SOURCE = os.environ.get("SINEW_SOURCE_ROOT", os.getcwd())


class Agent:
    """An agent in Python: sends its message to every connector, and later ones on push()."""

    def __init__(self, message):
        self.message = message
        self.sockets = set()
        self.paths = []
        self.loop = asyncio.new_event_loop()
        self.started = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        assert self.started.wait(10)

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._serve())
        self.loop.run_forever()

    async def _serve(self):
        self.server = await websockets.serve(self._handle, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        self.url = "ws://127.0.0.1:%d/task-1" % self.port
        self.started.set()

    async def _handle(self, ws, path):
        self.paths.append(path)
        self.sockets.add(ws)
        try:
            if self.message is not None:
                await ws.send(self.text(self.message))
            await ws.wait_closed()
        finally:
            self.sockets.discard(ws)

    @staticmethod
    def text(message):
        return message if isinstance(message, str) else json.dumps(message)

    def push(self, message):
        async def send():
            for ws in list(self.sockets):
                await ws.send(self.text(message))
        asyncio.run_coroutine_threadsafe(send(), self.loop).result(10)

    def close(self):
        async def close():
            self.server.close()
            await self.server.wait_closed()
        asyncio.run_coroutine_threadsafe(close(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)


class Service:
    """An HTTP service in Python: tells what it was asked, or answers what it is told to."""

    def __init__(self, status=200, stall=False):
        self.requests = []
        self.status = status
        self.release = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                size = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(size)
                outer.requests.append({"method": self.command, "path": self.path,
                                       "headers": {k.lower(): v for k, v in self.headers.items()},
                                       "body": body.decode("utf-8", "replace")})
                if stall:
                    outer.release.wait(20)
                text = json.dumps(outer.requests[-1]).encode()
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(text)))
                self.send_header("X-Test", "yes")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = answer

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def service():
    made = []

    def make(**kwargs):
        made.append(Service(**kwargs))
        return made[-1]
    yield make
    for s in made:
        s.close()


@pytest.fixture
def agent():
    made = []

    def make(message):
        made.append(Agent(message))
        return made[-1]
    yield make
    for a in made:
        a.close()


def environment(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("BERLIOZ_", "SINEW_CONFIG"))}
    env.update({k: str(v) for k, v in more.items()})
    return env


@pytest.fixture
def sinew(tmp_path):
    """Run the binary in an empty folder; the result has returncode, stdout, stderr."""
    def run(*args, stdin=None, timeout=60, **env):
        return subprocess.run([BINARY] + [str(a) for a in args], cwd=tmp_path, text=True,
                              input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL,
                              capture_output=True, timeout=timeout, env=environment(**env))
    return run


@pytest.fixture
def start(tmp_path):
    """Start the binary and leave it running; it is ended, and must end, behind the test."""
    running = []

    def begin(*args, **env):
        p = subprocess.Popen([BINARY] + [str(a) for a in args], cwd=tmp_path, text=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=environment(**env))
        running.append(p)
        return p
    yield begin
    for p in running:
        if p.poll() is None:
            p.terminate()
        assert p.wait(20) is not None
        p.stdout.close()
        p.stderr.close()


@pytest.fixture
def mesh_agent(start, tmp_path):
    """`sinew agent` on a mesh file: gives the URL of task "task-1" and the process."""
    def begin(text, *args):
        path = tmp_path / "mesh.yaml"
        path.write_text(text)
        p = start("agent", "--listen", "127.0.0.1:0", "--mesh", path, *args)
        while True:
            line = p.stderr.readline()
            assert line, "the agent ended"
            m = re.search(r"ws://[\d.]+:(\d+)", line)
            if m:
                return "ws://127.0.0.1:%s" % m.group(1), p, path
    return begin
