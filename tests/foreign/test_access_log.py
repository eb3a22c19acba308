# SPDX-License-Identifier: Apache-2.0
"""log.access: the requests through the sidecar as lines of JSON on stdout."""
import datetime
import json
import queue
import signal
import socket
import threading

import pytest

from conftest import FAST, PATIENCE, Raw, Service, Watch, free_port, peers_message
from test_sidecar import Running, basket


def run_with(sinew, cleanup, access, *services, more="", policies=None, port=None):
    for s in services:
        cleanup(s)
    ports = [port] if port else [s.port for s in services]
    return Running(sinew, "log: {access: %s}\npeers: %s\npolicies: %s\n%s" % (
        access, basket(*ports), json.dumps(policies or FAST["policies"]), more))


def rest(r):
    """Every line, once it has ended."""
    r.process.send_signal(signal.SIGTERM)
    out, err = r.process.communicate(timeout=PATIENCE)
    assert r.process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def test_a_line_says_what_became_of_a_call(sinew, cleanup):
    s = Service(name="one")
    r = run_with(sinew, cleanup, "on", s)
    lines = Watch(r.process)
    answer, body = r.ask("POST", "/call/service/basket/rest/items/7?token=geheim&q=geheim", b"12345",
                         {"Authorization": "Bearer geheim", "Cookie": "a=geheim"})
    line = lines.next()
    assert line.pop("time")[:4] == str(datetime.datetime.now(datetime.timezone.utc).year)
    assert 0 <= line.pop("ms") < 20000
    assert line == {"method": "POST", "target": "service basket/rest", "path": "/items/7", "status": 200,
                    "in": 5, "out": len(body), "attempts": 1, "peer": "1",
                    "call": answer.headers["sinew-call-id"]}


def test_failures_have_a_code_and_their_attempts(sinew, cleanup):
    r = run_with(sinew, cleanup, "on", port=free_port())
    lines = Watch(r.process)
    answer, _ = r.ask("GET", "/call/service/basket/rest/")
    line = lines.next()
    assert (line["status"], line["error"], line["call"]) == (502, "CONNECT", answer.headers["sinew-call-id"])
    assert line["attempts"] >= 2 and "peer" not in line
    r.ask("GET", "/call/service/void/rest/", headers={"sinew-timeout-ms": "500"})
    line = lines.next()
    assert (line["status"], line["error"], line["target"]) == (503, "NO_PEER", "service void/rest")


def test_what_is_no_call_has_a_line_too(sinew, cleanup):
    s = Service()
    r = run_with(sinew, cleanup, "on", s)
    lines = Watch(r.process)
    wanted = [("GET", "/peers/service/basket/rest", 200), ("GET", "/peers/service", 400), ("GET", "/nothing", 404),
              ("POST", "/peers/service/basket/rest", 405), ("GET", "/call/service/x", 400),
              ("GET", "/call/nokind/x/y", 400)]
    for method, path, status in wanted:
        assert r.ask(method, path + "?secret=geheim")[0].status == status
        line = lines.next()
        assert (line["method"], line["path"], line["status"]) == (method, path, status)
        assert "geheim" not in json.dumps(line)


def test_broken_off_by_either_side(sinew, cleanup):
    seen = threading.Event()

    def cut(server, c, n):
        head, _ = server.read_request(c)
        if b"/cut" in head:
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            Raw.reset(c)
            return
        seen.set()
        c.recv(1)
    raw = Raw(cut)
    r = run_with(sinew, cleanup, "on", raw)
    lines = Watch(r.process)
    with pytest.raises(Exception):
        r.ask("GET", "/call/service/basket/rest/cut")
    line = lines.next()
    assert (line["status"], line["out"]) == (200, 3) and line["error"] in ("RESET", "EOF")
    c = socket.create_connection(("127.0.0.1", r.port))
    c.sendall(b"GET /call/service/basket/rest/wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert seen.wait(PATIENCE)
    Raw.reset(c)
    line = lines.next()
    assert (line["status"], line["error"]) == (499, "CANCELLED")


def test_lines_are_lines_whatever_the_path_holds(sinew, cleanup):
    s = Service()
    r = run_with(sinew, cleanup, "on", s)
    for path in (b"/%22%0a%00", b'/"\\{}', b"/" + b"a" * 5000, b"/\xc3\xa4\xff", b"/\x80\x81"):
        with socket.create_connection(("127.0.0.1", r.port), PATIENCE) as c:
            c.sendall(b"GET /call/service/basket/rest" + path + b" HTTP/1.1\r\nHost: localhost\r\n"
                      b"Connection: close\r\n\r\n")
            while c.recv(65536):
                pass
    shown = [line["path"] for line in rest(r)]
    assert '/"\\{}' in shown and "/%22%0a%00" in shown and "/" + "a" * 1023 in shown


def test_off_says_nothing(sinew, cleanup):
    s = Service()
    r = run_with(sinew, cleanup, "off", s)
    for _ in range(5):
        r.ask("GET", "/call/service/basket/rest/")
        r.ask("GET", "/nothing")
    assert rest(r) == []


def test_a_share_of_them_and_all_that_fail(sinew, cleanup):
    s = Service(lambda h, b: Service.reply(h, 500 if h.path == "/bad" else 200))
    r = run_with(sinew, cleanup, "0.1", s, policies={"values": {"retry-count": 1, "breaker": False}})
    reader = queue.Queue()
    threading.Thread(target=lambda: [reader.put(line) for line in r.process.stdout] + [reader.put(None)],
                     daemon=True).start()
    for i in range(500):
        r.ask("GET", "/call/service/basket/rest/bad" if i % 50 == 0 else "/call/service/basket/rest/good")
    r.process.send_signal(signal.SIGTERM)
    lines = [json.loads(line) for line in iter(lambda: reader.get(timeout=PATIENCE), None)]
    bad = [line for line in lines if line["path"] == "/bad"]
    assert len(bad) == 10 and all(line["status"] == 500 for line in bad)
    assert 10 < len(lines) - len(bad) < 120  # about 49


def test_a_reader_that_does_not_read_stops_nothing(sinew, cleanup):
    """What finds no room is lost and counted; the watchdog is fed."""
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = str(sinew.tmp / "notify")
    told.bind(path)
    told.settimeout(PATIENCE)
    s = Service()
    cleanup(s)
    r = Running(sinew, "log: {access: on}\npeers: %s\n" % basket(s.port),
                env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"})
    n = 0
    name = "x" * 1000
    while n < 500:  # over the pipe's and our own room
        assert r.ask("GET", "/peers/service/%s/rest" % name[:200] + "?")[0].status == 200
        assert r.ask("GET", "/" + name)[0].status == 404
        n += 1
    while told.recv(100) != b"WATCHDOG=1":
        pass
    r.process.send_signal(signal.SIGTERM)
    lines = [json.loads(line) for line in r.process.communicate(timeout=PATIENCE)[0].splitlines()]
    written = [line for line in lines if "path" in line]
    lost = sum(line.get("lost", 0) for line in lines)
    assert r.process.returncode == 0 and 0 < len(written) < 2 * n
    assert lost <= 2 * n - len(written)


def test_stdout_that_is_gone_stops_nothing(sinew, cleanup):
    s = Service(name="one")
    r = run_with(sinew, cleanup, "on", s)
    r.process.stdout.close()
    for _ in range(10):
        assert r.ask("GET", "/call/service/basket/rest/")[1] == b"hello from one"
    r.process.send_signal(signal.SIGTERM)
    assert r.process.wait(PATIENCE) == 0


def test_wrong_words_are_told(sinew):
    f = sinew.tmp / "s.yaml"
    for word in ("2", "some", "-1", "[on]", "1e400"):
        f.write_text("log:\n  access: %s\npeers: {}\n" % word)
        r = sinew.run("check", f)
        assert r.returncode == 2 and "s.yaml:2:11: log.access must be off, on, or a share" in r.stderr + r.stdout


def test_further_hosts(sinew, cleanup):
    """listen.sidecar.hosts: names that a container's network gives us."""
    s = Service(name="one")
    cleanup(s)
    port = free_port()
    f = sinew.tmp / "s.yaml"
    f.write_text("name: t\nlisten: {sidecar: {address: '127.0.0.1:%d', hosts: [sidecar.internal, 'exact:81']}}\n"
                 "peers: %s\n" % (port, json.dumps(peers_message(s.port)["peers"])))
    p = sinew.start("run", f)
    assert any("sidecar on" in line for line in p.stderr)

    def ask(host, *more):
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as c:
            c.sendall(b"\r\n".join([b"GET /peers/service/basket/rest HTTP/1.1", b"Host: " + host,
                                    b"Connection: close", *more, b"", b""]))
            return int(c.makefile("rb").read().split()[1])
    assert [ask(h) for h in (b"sidecar.internal", b"SIDECAR.internal:%d" % port, b"exact:81", b"127.0.0.1",
                             b"127.8.9.10:1", b"[::1]:5", b"localhost")] == [200] * 7
    assert [ask(h) for h in (b"sidecar.internal.evil", b"evil", b"exact:82", b"127.0.0.1.evil", b"10.0.0.1",
                             b"0.0.0.0", b"[::ffff:127.0.0.1]", b"")] == [421] * 8
    assert ask(b"sidecar.internal", b"Origin: http://sidecar.internal") == 200
    assert ask(b"sidecar.internal", b"Origin: http://evil") == 403
    assert ask(b"sidecar.internal", b"Origin: null") == 403
    assert ask(b"localhost", b"Sec-Fetch-Site: same-site") == 403


def test_other_lines_are_as_the_file_says(sinew, cleanup):
    s = Service()
    cleanup(s)
    r = Running(sinew, "log: {level: error, format: json}\nagent: ws://127.0.0.1:%d/t\npeers: %s\n" % (
        free_port(), basket(s.port)))
    r.process.send_signal(signal.SIGTERM)
    _, err = r.process.communicate(timeout=PATIENCE)
    lines = [json.loads(line) for line in err.splitlines()]
    assert lines and all(line["level"] == "info" for line in lines)


def test_a_body_over_the_limit(sinew, cleanup):
    s = Service()
    r = run_with(sinew, cleanup, "off", s, more="limits: {body: 1000}")
    assert r.ask("POST", "/call/service/basket/rest/", b"x" * 1000)[0].status == 200
    assert r.ask("POST", "/call/service/basket/rest/", b"x" * 1001)[0].status == 413
