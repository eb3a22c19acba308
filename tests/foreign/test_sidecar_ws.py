# SPDX-License-Identifier: Apache-2.0
"""WebSocket over HTTP/2 (RFC 8441) through the sidecar to peers that speak HTTP/1.1; the clients are
Node's http2 and hand-made frames."""
import asyncio
import base64
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

import pytest
import websockets

from conftest import PATIENCE, Raw, Service
from test_sidecar import Running, WebSockets, basket, run_with

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "h2"))
import h2raw as h2  # noqa: E402

CONNECT_PROTOCOL = 8  # of SETTINGS

NODE = """
const http2 = require('http2'), crypto = require('crypto');
const client = http2.connect(process.argv[1]);
function frame(data, op) {  // masked, as clients must
  const mask = crypto.randomBytes(4), n = data.length;
  const head = n < 126 ? Buffer.from([0x80 | op, 0x80 | n])
    : n < 65536 ? Buffer.from([0x80 | op, 0xfe, n >> 8, n & 255])
    : Buffer.concat([Buffer.from([0x80 | op, 0xff]), Buffer.alloc(8)]);
  if (n >= 65536) head.writeBigUInt64BE(BigInt(n), 2);
  const body = Buffer.from(data);
  for (let i = 0; i < n; i++) body[i] ^= mask[i & 3];
  return Buffer.concat([head, mask, body]);
}
function reader(stream, onMessage) {
  let buf = Buffer.alloc(0);
  stream.on('data', piece => {
    buf = Buffer.concat([buf, piece]);
    for (;;) {
      if (buf.length < 2) return;
      let n = buf[1] & 127, at = 2;
      if (n === 126) { if (buf.length < 4) return; n = buf.readUInt16BE(2); at = 4; }
      if (n === 127) { if (buf.length < 10) return; n = Number(buf.readBigUInt64BE(2)); at = 10; }
      if (buf.length < at + n) return;
      const op = buf[0] & 15, data = buf.subarray(at, at + n);
      buf = buf.subarray(at + n);
      onMessage(op, data);
    }
  });
}
client.on('remoteSettings', s => {
  if (!s.enableConnectProtocol) { console.log('no extended CONNECT'); process.exit(1); }
  let left = 20;
  for (let k = 0; k < 20; k++) {
    const req = client.request({':method': 'CONNECT', ':protocol': 'websocket', ':scheme': 'http',
      ':authority': 'localhost', ':path': '/call/service/basket/rest/chat?room=' + k,
      'sec-websocket-version': '13', 'sec-websocket-protocol': 'a, b'});
    const big = crypto.randomBytes(1 << 18);
    const sent = [Buffer.from('path'), Buffer.from('x'), big, Buffer.alloc(0), Buffer.from('end')];
    let at = 0;
    req.on('response', h => {
      const bad = h[':status'] !== 200 || h['sec-websocket-protocol'] !== 'a' ||
        h['sec-websocket-accept'] || h['upgrade'] || !h['sinew-call-id'];
      if (bad) { console.log('wrong answer', h); process.exit(1); }
      for (const m of sent) req.write(frame(m, m === sent[0] ? 1 : 2));
    });
    reader(req, (op, data) => {
      if (op === 8) { req.end(); return; }
      const wanted = at === 0 ? Buffer.from('/chat?room=' + k) : sent[at];
      if (!data.equals(wanted)) { console.log('wrong message', at, data.length); process.exit(1); }
      if (++at === sent.length) req.write(frame(Buffer.from([3, 232]), 8));
    });
    req.on('close', () => { if (--left === 0) { console.log('ok'); client.close(); } });
    req.on('error', e => { console.log('error', e); process.exit(1); });
  }
});
setTimeout(() => { console.log('too slow'); process.exit(1); }, 60000).unref();
"""


def test_nodes_client(sinew, cleanup):
    s = WebSockets()
    r = run_with(sinew, cleanup, s)
    out = subprocess.run(["node", "-e", NODE, "http://127.0.0.1:%d" % r.port], capture_output=True,
                         text=True, timeout=90)
    assert out.stdout == "ok\n", out.stdout + out.stderr
    target = json.loads(r.admin("/targets")[1])["targets"][0]
    while target["inflight"]:
        target = json.loads(r.admin("/targets")[1])["targets"][0]
    assert (target["calls"], target["failed"]) == (20, 0)


# ---- by hand ----

def connect(path="/call/service/basket/rest/", protocol="websocket", more=(), authority="localhost"):
    return h2.block([(":method", "CONNECT"), (":protocol", protocol), (":scheme", "http"),
                     (":authority", authority), (":path", path), ("sec-websocket-version", "13"), *more])


def frame(data, op=1, mask=b"\1\2\3\4"):
    n = len(data)
    head = bytes([0x80 | op, 0x80 | n]) if n < 126 else struct.pack(">BBH", 0x80 | op, 0xfe, n) \
        if n < 65536 else struct.pack(">BBQ", 0x80 | op, 0xff, n)
    return head + mask + bytes(b ^ mask[i & 3] for i, b in enumerate(data))


def echo(data, op=1):
    n = len(data)
    return (bytes([0x80 | op, n]) if n < 126 else struct.pack(">BBH", 0x80 | op, 126, n)) + data


def opened(c, stream, block=None):
    c.send(h2.headers(stream, block or connect(), end_stream=False))
    assert c.until(lambda: stream in c.answers and c.answers[stream].heads or c.answers.get(stream, h2.Answer()).over)
    return c.answers[stream]


def test_it_says_that_it_can(sinew, cleanup):
    r = run_with(sinew, cleanup, WebSockets())
    with h2.connect(r.port) as c:
        assert c.until(lambda: c.settings) and c.settings[CONNECT_PROTOCOL] == 1


def test_a_conversation_beside_other_requests(sinew, cleanup):
    s = WebSockets()
    r = run_with(sinew, cleanup, s)
    with h2.connect(r.port) as c:
        a = opened(c, 1)
        assert a.status == 200 and a.headers["sinew-peer"] == "1"
        for i in range(50):
            c.send(h2.data(1, frame(b"m%d" % i)))
            assert c.until(lambda: bytes(a.body).endswith(echo(b"m%d" % i)))
        c.next_id = 3
        assert c.ask("/peers/service/basket/rest").status == 200
        assert json.loads(r.admin("/targets")[1])["targets"][0]["inflight"] == 1
        c.send(h2.data(1, frame(b"\3\xe8", 8)))
        assert c.until(lambda: a.over) and a.ended  # the peer closes behind the closing handshake


@pytest.mark.parametrize("how", ["reset", "end", "connection"])
def test_the_peer_hears_of_the_clients_end(sinew, cleanup, how):
    s = WebSockets()
    r = run_with(sinew, cleanup, s)
    with h2.connect(r.port) as c:
        a = opened(c, 1)
        c.send(h2.data(1, frame(b"a")))
        assert c.until(lambda: bytes(a.body) == echo(b"a")) and s.open == 1
        if how == "reset":
            c.send(h2.rst(1))
        elif how == "end":
            c.send(h2.data(1, b"", end_stream=True))
        else:
            Raw.reset(c.sock)
        while s.open:
            pass
        target = json.loads(r.admin("/targets")[1])["targets"][0]
        while target["inflight"]:
            target = json.loads(r.admin("/targets")[1])["targets"][0]


def test_the_client_hears_of_the_peers_end(sinew, cleanup):
    def talk(server, c, n):
        key = [l for l in server.read_request(c)[0].split(b"\r\n") if l.lower().startswith(b"sec-websocket-key")]
        digest = hashlib.sha1(key[0].split(b": ")[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        c.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                  b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\nlast words")
        if n == 2:
            Raw.reset(c)
    raw = Raw(talk)
    r = run_with(sinew, cleanup, raw)
    with h2.connect(r.port) as c:
        a = opened(c, 1)
        assert c.until(lambda: a.over) and a.ended and bytes(a.body) == b"last words"
        a = opened(c, 3)
        assert c.until(lambda: a.over) and not a.ended and a.reset is not None


def test_a_slow_reader_makes_the_peer_wait(sinew, cleanup):
    sent = []

    async def flood():
        async def serve(ws, path=None):
            try:
                for i in range(2000):
                    await ws.send(bytes(100000))
                    sent.append(i)
            except websockets.ConnectionClosed:
                pass
        server = await websockets.serve(serve, "127.0.0.1", 0, ping_interval=None)
        port.append(server.sockets[0].getsockname()[1])
        ready.set()
    port, ready, loop = [], threading.Event(), asyncio.new_event_loop()
    threading.Thread(target=lambda: (loop.run_until_complete(flood()), loop.run_forever()), daemon=True).start()
    assert ready.wait(PATIENCE)
    r = Running(sinew, "peers: %s\n" % basket(port[0]))
    with h2.connect(r.port, auto="ack") as c:  # opens no windows
        a = opened(c, 1)
        assert c.until(lambda: a.n >= 65535)
        c.send(h2.ping())
        assert c.until(lambda: c.pongs == 1)
        assert a.n == 65535 and len(sent) < 1000
    loop.call_soon_threadsafe(loop.stop)


@pytest.mark.parametrize("answer,status", [
    (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403),
    (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
     b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n", 502),
    (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 502),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200),
])
def test_a_refusal_is_an_answer(sinew, cleanup, answer, status):
    def talk(server, c, n):
        server.read_request(c)
        c.sendall(answer)
        c.recv(1)
    raw = Raw(talk)
    cleanup(raw)
    r = Running(sinew, "peers: %s\npolicies: {retry-count: 1}\n" % basket(raw.port))
    with h2.connect(r.port) as c:
        a = opened(c, 1)
        assert c.until(lambda: a.over) and a.status == status
    head = raw.requests[0][0].lower()
    assert head.startswith(b"get / http/1.1\r\n") and b"upgrade: websocket" in head
    assert head.count(b"sec-websocket-key: ") == 1 and b"sec-websocket-version: 13" in head


@pytest.mark.parametrize("block,status", [
    (connect(more=[("origin", "http://evil.example")]), 403),
    (connect(authority="evil.example"), 421),
    (connect(path="/peers/service/basket/rest"), 200),
    (connect(path="/nothing"), 404),
    (connect(protocol="web socket"), 400),
    (connect(protocol="websocket, h2c"), 400),
])
def test_rules_hold_for_it_too(sinew, cleanup, block, status):
    s = Service()
    r = run_with(sinew, cleanup, s)
    with h2.connect(r.port) as c:
        a = opened(c, 1, block)
        assert a.status == status or (status == 400 and a.reset is not None)
    assert s.requests == []


def test_no_upgrade_to_http2_is_passed_on(sinew, cleanup):
    """It would lead past everything the sidecar does with requests."""
    s = Service(name="one")
    r = run_with(sinew, cleanup, s)
    with h2.connect(r.port) as c:
        assert opened(c, 1, connect(protocol="h2c")).status == 200
    answer, body = r.ask("GET", "/call/service/basket/rest/", headers={
        "Connection": "Upgrade, HTTP2-Settings", "Upgrade": "websocket, h2c", "HTTP2-Settings": "AAMAAABk"})
    assert (answer.status, body) == (200, b"hello from one")
    for request in s.requests:
        names = {k.lower() for k in request[2]}
        assert "upgrade" not in names and "http2-settings" not in names


def test_draining_waits_for_it(sinew, cleanup):
    s = WebSockets()
    r = run_with(sinew, cleanup, s)
    with h2.connect(r.port) as c:
        a = opened(c, 1)
        r.process.send_signal(signal.SIGTERM)
        assert c.until(lambda: c.goaways)
        c.send(h2.data(1, frame(b"still")))
        assert c.until(lambda: bytes(a.body) == echo(b"still"))
        assert r.process.poll() is None
        c.send(h2.data(1, frame(b"\3\xe8", 8)))
        assert c.until(lambda: a.over) and a.ended
    assert r.process.wait(PATIENCE) == 0


def test_many_at_once_and_broken_ones(sinew, cleanup):
    s = WebSockets()
    r = run_with(sinew, cleanup, s)
    for round in range(5):
        with h2.connect(r.port) as c:
            for i in range(50):
                c.send(h2.headers(1 + 2 * i, connect(), end_stream=False))
                if i % 5 == 4:
                    c.send(h2.rst(1 + 2 * i))
            live = [1 + 2 * i for i in range(50) if i % 5 != 4]
            assert c.until(lambda: all(n in c.answers and c.answers[n].heads for n in live))
            c.send(*[h2.data(n, frame(b"%d" % n)) for n in live])
            assert c.until(lambda: all(bytes(c.answers[n].body) == echo(b"%d" % n) for n in live))
    while s.open:
        pass
    target = json.loads(r.admin("/targets")[1])["targets"][0]
    while target["inflight"]:
        target = json.loads(r.admin("/targets")[1])["targets"][0]
    assert socket.create_connection(("127.0.0.1", r.port), PATIENCE)
