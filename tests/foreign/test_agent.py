# SPDX-License-Identifier: Apache-2.0
"""`sinew agent` with a WebSocket client and an HTTP client that are not ours."""
import asyncio
import json
import os
import socket
import urllib.error
import urllib.request

import pytest
import websockets

from conftest import BINARY, PATIENCE, peer, peers_message

with open(BINARY, "rb") as binary:
    SANITIZED = b"__asan_init" in binary.read()


def http(port, path, data=None, headers=None):
    req = urllib.request.Request("http://127.0.0.1:%d%s" % (port, path), data=data,
                                 headers=headers or {})
    try:
        with urllib.request.urlopen(req, timeout=PATIENCE) as r:
            return r.status, r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def report(port, task, **sections):
    body = json.dumps([{"id": task, "metadata": sections}]).encode()
    return http(port, "/report", body, {"Content-Type": "application/json"})


async def messages(port, path, n, between=()):
    """The first @n messages; after each, the next function of @between runs."""
    got = []
    todo = list(between)
    async with websockets.connect("ws://127.0.0.1:%d%s" % (port, path), max_size=None) as ws:
        while len(got) < n:
            got.append(json.loads(await asyncio.wait_for(ws.recv(), PATIENCE)))
            if todo:
                await asyncio.get_running_loop().run_in_executor(None, todo.pop(0))
    return got


def test_wire_document_is_served_as_it_is(sinew):
    doc = peers_message(4000, 4001, policies={"values": {"timeout": 100}})
    (sinew.tmp / "mesh.json").write_text(json.dumps(doc))
    _, port = sinew.agent("--mesh", "mesh.json")
    assert asyncio.run(messages(port, "/any-task", 1)) == [doc]
    assert asyncio.run(messages(port, "/", 1)) == [doc]
    status, text = http(port, "/any-task")
    assert status == 200 and json.loads(text) == doc
    r = sinew.run("peers", "service", "basket", "rest", agent="ws://127.0.0.1:%d/t" % port)
    assert json.loads(r.stdout) == doc["peers"]["service"]["basket"]["rest"], r.stderr


def test_report_pushes_only_what_changed(sinew):
    _, port = sinew.agent()
    peers = peers_message(4000)["peers"]
    policies = {"values": {"timeout": 7}}

    def first():
        assert report(port, "t1", peers=peers, policies=policies) == (200, "")

    def same_and_other_order():
        assert report(port, "t1", peers=peers)[0] == 200
        assert report(port, "t2", peers={"service": {}})[0] == 200
        assert report(port, "t1", policies={"values": {"timeout": 8}})[0] == 200

    def null():
        assert report(port, "t1", peers=None)[0] == 200

    got = asyncio.run(messages(port, "/t1", 5, [first, lambda: None, same_and_other_order, null]))
    assert got[0] == {}
    assert {"peers": peers} in got[1:3] and {"policies": policies} in got[1:3]
    assert got[3] == {"policies": {"values": {"timeout": 8}}}
    assert got[4] == {"peers": {}}  # a stored null goes out as {}
    full = json.loads(http(port, "/t1")[1])
    assert full["peers"] is None and full["policies"] == {"values": {"timeout": 8}}
    assert json.loads(http(port, "/nobody")[1]) == {}


def test_other_paths_are_404(sinew):
    _, port = sinew.agent()
    for path in ("/a/b", "/"):
        with pytest.raises(websockets.InvalidStatusCode) as e:
            asyncio.run(messages(port, path, 1))
        assert e.value.status_code == 404


def test_another_websocket_version_is_told_ours(sinew):
    _, port = sinew.agent()
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as s:
        s.sendall(b"GET /t HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                  b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                  b"Sec-WebSocket-Version: 8\r\n\r\n" % port)
        head = s.makefile("rb").read()
    assert head.startswith(b"HTTP/1.1 426 "), head
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in head


def test_bad_reports_are_refused_whole(sinew):
    _, port = sinew.agent()
    for body in (b"{", b"{}", b"[1]", b'[{"id": 1, "metadata": {}}]',
                 b'[{"id": "t", "metadata": {"peers": {}}}, {"id": "u"}]'):
        status, text = http(port, "/report", body)
        assert status == 400 and text.strip(), body
    assert json.loads(http(port, "/t")[1]) == {}


def test_web_pages_cannot_reach_it(sinew):
    _, port = sinew.agent()
    assert http(port, "/t", headers={"Origin": "https://evil.example"})[0] == 403
    assert http(port, "/t", headers={"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert http(port, "/t", headers={"Host": "evil.example"})[0] == 421
    assert http(port, "/report", b"[]", {"Origin": "https://evil.example"})[0] == 403


def test_mesh_file_is_read_again_and_a_broken_one_is_not_used(sinew):
    path = sinew.tmp / "mesh.yaml"

    def write(text):
        (sinew.tmp / "new").write_text(text)
        os.rename(sinew.tmp / "new", path)

    write(json.dumps(peers_message(4000)))
    p, port = sinew.agent("--mesh", "mesh.yaml")

    def broken_then_good():
        write("peers: {service: [")
        line = ""
        while "mesh.yaml:" not in line:  # file:line:column
            line = p.stderr.readline()
            assert line, "no complaint about the broken file"
        assert peers_message(4000) == json.loads(http(port, "/t")[1])
        write(json.dumps(peers_message(4001)))

    got = asyncio.run(messages(port, "/t", 2, [broken_then_good]))
    assert got == [peers_message(4000), {"peers": peers_message(4001)["peers"]}]


def test_wrong_mesh_file_at_start(sinew):
    (sinew.tmp / "m.yaml").write_text("services:\n  basket:\n    endpoint: {}\n")
    r = sinew.run("agent", "--listen", "127.0.0.1:0", "--mesh", "m.yaml", patience=20)
    assert r.returncode == 2
    assert r.stderr.count("m.yaml:3:5") == 1 and "endpoints" in r.stderr
    r = sinew.run("agent", "--listen", "127.0.0.1:0", "--mesh", "none.yaml", patience=20)
    assert r.returncode == 2 and r.stderr.count("none.yaml") == 1


def test_a_slow_reader_gets_what_it_missed_as_one(sinew):
    """While its socket is full, changes become one message; targets that came and went meanwhile are
    empty maps in it. The others are told each one."""
    p, port = sinew.agent()
    pad = "x" * 1000000

    def state(i):
        peers = {"service": {"s%d" % i: {"e": {"1": {"n": i}}}, "big": {"e": {"1": {"pad": pad}}}}}
        assert report(port, "t", peers=peers)[0] == 200
        assert report(port, "t", policies={"values": {"timeout": i}})[0] == 200

    def resident():
        with open("/proc/%d/statm" % p.pid) as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

    async def talk():
        slow = socket.create_connection(("127.0.0.1", port))
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        async with websockets.connect("ws://127.0.0.1/t", sock=slow, max_size=None, max_queue=1,
                                      read_limit=4096, ping_interval=None) as ws, \
                websockets.connect("ws://127.0.0.1:%d/t" % port, max_size=None) as quick:
            assert json.loads(await ws.recv()) == {} == json.loads(await quick.recv())
            for i in range(16):
                await loop.run_in_executor(None, state, i)
                for _ in range(2 if i < 1 else 1):
                    seen = json.loads(await quick.recv())
                while "policies" not in seen or seen["policies"]["values"]["timeout"] != i:
                    seen = json.loads(await quick.recv())
            assert resident() < 80 or SANITIZED
            known, n = {}, 0
            while known.get("policies") != {"values": {"timeout": 15}} or "s15" not in known["peers"]:
                m = json.loads(await asyncio.wait_for(ws.recv(), PATIENCE))
                n += 1
                known.setdefault("peers", {}).update(m.get("peers", {}).get("service", {}))
                known["policies"] = m.get("policies", known.get("policies"))
            assert n < 28
            last = {name for name, e in known["peers"].items() if e and e.get("e")}
            # A report names no graves: only what was never sent as such may be left of it.
            assert {"s15", "big"} <= last and len(last) < 17
            await loop.run_in_executor(None, state, 16)
            got = [json.loads(await asyncio.wait_for(ws.recv(), PATIENCE)) for _ in range(2)]
            assert got[0]["peers"]["service"]["s16"] and got[1]["policies"]["values"]["timeout"] == 16

    asyncio.run(talk())


def test_sigterm_ends_it(sinew):
    p, port = sinew.agent()
    p.terminate()
    assert p.wait(PATIENCE) == 0
