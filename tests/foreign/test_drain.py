# SPDX-License-Identifier: Apache-2.0
"""`sinew run` told to end, by a signal or over the admin API: what has begun ends, nothing new begins."""
import asyncio
import http.client
import json
import os
import signal
import socket
import sys
import threading
import time

import pytest
import websockets

from conftest import PATIENCE, Raw, Service
from test_sidecar import Running, WebSockets, basket

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "h2"))
import h2raw as h2  # noqa: E402

LONG = "limits: {drain-timeout: 60s}\n"


class Held:
    """A service whose answers wait for a word: release()."""

    def __init__(self):
        self.arrived = threading.Semaphore(0)
        self.go = threading.Event()
        self.service = Service(self._answer)
        self.port = self.service.port

    def _answer(self, h, body):
        self.arrived.release()
        assert self.go.wait(PATIENCE * 3)
        Service.reply(h, 200, b"done " + body)

    def stop(self):
        self.go.set()
        self.service.stop()


class Asking(threading.Thread):
    """A request in a thread."""

    def __init__(self, r, *args, **kw):
        super().__init__(daemon=True)
        self.r, self.args, self.kw, self.result = r, args, kw, None
        self.start()

    def run(self):
        try:
            self.result = self.r.ask(*self.args, **self.kw)
        except (OSError, http.client.HTTPException) as e:
            self.result = e

    def wait(self):
        self.join(PATIENCE * 3)
        assert not self.is_alive()
        return self.result


def run_with(sinew, cleanup, service, more=LONG):
    cleanup(service)
    return Running(sinew, "peers: %s\n%s" % (basket(service.port), more))


def until_draining(r):
    """It says so on the admin API."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        answer, body = r.admin("/readyz")
        if answer.status == 503:
            assert json.loads(body)["missing"] == ["draining"]
            return
    raise AssertionError("it does not drain")


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


def by_signal(r):
    r.process.send_signal(signal.SIGTERM)


def by_admin(r):
    answer, body = r.admin("/drain", "POST")
    assert answer.status == 202 and json.loads(body) == {"draining": True}


@pytest.mark.parametrize("how", [by_signal, by_admin])
def test_calls_under_way_end_and_new_ones_do_not_begin(sinew, cleanup, how):
    s = Held()
    r = run_with(sinew, cleanup, s)
    calls = [Asking(r, "POST", "/call/service/basket/rest/", b"%d" % i) for i in range(5)]
    for _ in calls:
        assert s.arrived.acquire(timeout=PATIENCE)
    how(r)
    until_draining(r)
    assert r.admin("/healthz")[0].status == 200 and refused(r.port)
    assert r.process.poll() is None
    s.go.set()
    for i, call in enumerate(calls):
        answer, body = call.wait()
        assert (answer.status, body) == (200, b"done %d" % i)
        assert answer.headers["Connection"] == "close"
    assert r.process.wait(PATIENCE) == 0
    assert "draining" in r.process.stderr.read()


@pytest.mark.parametrize("how", [by_signal, by_admin])
def test_it_ends_at_once_when_nothing_is_under_way(sinew, cleanup, how):
    s = Service(name="one")
    r = run_with(sinew, cleanup, s)
    kept = http.client.HTTPConnection("127.0.0.1", r.port, timeout=PATIENCE)
    kept.request("GET", "/call/service/basket/rest/")
    assert kept.getresponse().read() == b"hello from one"
    begin = time.monotonic()
    how(r)
    assert r.process.wait(PATIENCE) == 0 and time.monotonic() - begin < 10
    assert kept.sock.recv(1) == b""  # an idle connection is closed


def test_a_second_signal_does_not_wait(sinew, cleanup):
    s = Held()
    r = run_with(sinew, cleanup, s)
    call = Asking(r, "GET", "/call/service/basket/rest/")
    assert s.arrived.acquire(timeout=PATIENCE)
    by_signal(r)
    until_draining(r)
    begin = time.monotonic()
    by_signal(r)
    assert r.process.wait(PATIENCE) == 0 and time.monotonic() - begin < 10
    result = call.wait()
    assert isinstance(result, Exception) or result[0].status == 503


def test_a_signal_ends_what_the_admin_api_began(sinew, cleanup):
    s = Held()
    r = run_with(sinew, cleanup, s)
    call = Asking(r, "GET", "/call/service/basket/rest/")
    assert s.arrived.acquire(timeout=PATIENCE)
    by_admin(r)
    until_draining(r)
    by_signal(r)
    assert r.process.wait(PATIENCE) == 0
    call.wait()


def test_the_time_out_breaks_off_what_does_not_end(sinew, cleanup):
    s = Held()
    r = run_with(sinew, cleanup, s, "limits: {drain-timeout: 300ms}\n")
    call = Asking(r, "GET", "/call/service/basket/rest/")
    assert s.arrived.acquire(timeout=PATIENCE)
    begin = time.monotonic()
    by_signal(r)
    assert r.process.wait(PATIENCE) == 0
    assert time.monotonic() - begin >= 0.3
    result = call.wait()
    assert isinstance(result, Exception) or result[0].status == 503


def test_streams_are_sent_to_their_end(sinew, cleanup):
    """An answer in pieces, and a request's body that still comes."""
    go = threading.Event()

    def talk(server, c, n):
        data = b""
        while b"\r\n\r\n" not in data:
            data += c.recv(65536)
        c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        go.wait(PATIENCE)
        while not data.endswith(b"0\r\n\r\n"):
            data += c.recv(65536)
        c.sendall(b"3\r\ntwo\r\n0\r\n\r\n")
    raw = Raw(talk)
    r = run_with(sinew, cleanup, raw)
    with socket.create_connection(("127.0.0.1", r.port), PATIENCE) as c:
        c.sendall(b"POST /call/service/basket/rest/ HTTP/1.1\r\nHost: localhost\r\n"
                  b"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        got = b""
        while b"one" not in got:
            got += c.recv(65536)
        by_signal(r)
        until_draining(r)
        go.set()
        c.sendall(b"4\r\nlast\r\n0\r\n\r\n")
        while not got.endswith(b"0\r\n\r\n"):
            piece = c.recv(65536)
            assert piece, got
            got += piece
        assert b"two" in got and c.recv(1) == b""
    assert r.process.wait(PATIENCE) == 0


def test_a_request_that_has_come_is_answered(sinew, cleanup):
    """Half a head is there when it begins to drain; the rest follows."""
    s = Service(name="one")
    held = Held()
    cleanup(s)
    cleanup(held)
    r = Running(sinew, "peers: {service: {basket: {rest: {'1': {protocol: http, address: 127.0.0.1, port: %d}}},"
                " slow: {rest: {'1': {protocol: http, address: 127.0.0.1, port: %d}}}}}\n%s"
                % (s.port, held.port, LONG))
    call = Asking(r, "GET", "/call/service/slow/rest/")
    assert held.arrived.acquire(timeout=PATIENCE)
    with socket.create_connection(("127.0.0.1", r.port), PATIENCE) as c:
        c.sendall(b"GET /call/service/basket/rest/ HTTP/1.1\r\n")
        kept = socket.create_connection(("127.0.0.1", r.port), PATIENCE)
        kept.sendall(b"GET /peers/service/basket/rest HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in kept.recv(65536)  # by now the other's first half has been read, too
        by_signal(r)
        until_draining(r)
        assert kept.recv(1) == b""
        c.sendall(b"Host: localhost\r\n\r\n")
        got = b""
        while True:
            piece = c.recv(65536)
            if not piece:
                break
            got += piece
        assert got.startswith(b"HTTP/1.1 200") and b"Connection: close" in got and b"hello from one" in got
    held.go.set()
    assert call.wait()[0].status == 200
    assert r.process.wait(PATIENCE) == 0


def test_http2_clients_are_told_to_go(sinew, cleanup):
    s = Held()
    r = run_with(sinew, cleanup, s)
    with h2.connect(r.port) as c:
        c.send(h2.headers(1, h2.request("/call/service/basket/rest/")))
        assert s.arrived.acquire(timeout=PATIENCE)
        by_signal(r)
        assert c.until(lambda: c.goaways)
        assert c.goaways[0].code == h2.NO_ERROR and c.goaways[0].last == 1
        c.send(h2.headers(3, h2.request("/call/service/basket/rest/")))
        s.go.set()
        a = c.answer(1)
        assert not c.answers.get(3) or c.answers[3].reset == h2.REFUSED_STREAM  # to be sent elsewhere
        assert (a.status, bytes(a.body)) == (200, b"done ")
        assert c.verdict() == h2.NO_ERROR
    assert r.process.wait(PATIENCE) == 0


def test_tunnels_last_until_their_ends_close_them(sinew, cleanup):
    s = WebSockets()
    r = run_with(sinew, cleanup, s)

    async def talk():
        uri = "ws://127.0.0.1:%d/call/service/basket/rest/" % r.port
        async with websockets.connect(uri, ping_interval=None) as ws:
            await ws.send("a")
            assert await ws.recv() == "a"
            by_signal(r)
            await asyncio.get_running_loop().run_in_executor(None, until_draining, r)
            for i in range(20):
                await ws.send(str(i))
                assert await ws.recv() == str(i)
            assert r.process.poll() is None
    asyncio.run(asyncio.wait_for(talk(), PATIENCE * 3))
    assert r.process.wait(PATIENCE) == 0


def test_service_manager_hears_of_it(sinew, cleanup):
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = str(sinew.tmp / "notify")
    told.bind(path)
    told.settimeout(PATIENCE)
    s = Held()
    cleanup(s)
    r = Running(sinew, "peers: %s\n%s" % (basket(s.port), LONG), env={"NOTIFY_SOCKET": path})
    assert told.recv(100) == b"READY=1"
    call = Asking(r, "GET", "/call/service/basket/rest/")
    assert s.arrived.acquire(timeout=PATIENCE)
    by_admin(r)
    assert told.recv(100) == b"STOPPING=1"
    s.go.set()
    assert call.wait()[0].status == 200
    assert r.process.wait(PATIENCE) == 0
