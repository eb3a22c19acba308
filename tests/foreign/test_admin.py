# SPDX-License-Identifier: Apache-2.0
"""The admin API and its clients: what is told, who may change what, what a service manager hears."""
import http.client
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from conftest import BINARY, FAST, PATIENCE, Raw, Service, free_port, peers_message
from test_sidecar import Running, basket, run_with


BROWSER = shutil.which("chromium-headless-shell") or shutil.which("chromium")


def over_tcp(port, method, path, body=None, headers=(), host=None):
    c = http.client.HTTPConnection(host or "127.0.0.1", port, timeout=PATIENCE)
    c.request(method, path, body, dict(headers))
    r = c.getresponse()
    data = r.read()
    c.close()
    return r.status, data.decode()


def start(sinew, text, *args, env=None):
    """`sinew run` of a file; returns once it says where the admin API is."""
    f = sinew.tmp / "s.yaml"
    f.write_text(text)
    p = sinew.start("run", f, *args, env=env)
    said = []
    for line in p.stderr:
        said.append(line)
        if "admin API on" in line:
            return p, f
    raise AssertionError("".join(said))


# ---- what it tells ----

def test_routes_name_what_they_do_not_know(sinew, cleanup):
    r = run_with(sinew, cleanup, Service())
    for method, path, status, word in (
            ("GET", "/peeers", 404, "did you mean /peers?"),
            ("GET", "/x/y", 404, "there are /healthz"),
            ("GET", "/streams", 404, "not available in this version"),
            ("GET", "/healthz/x", 404, "nothing stands below /healthz"),
            ("PUT", "/healthz", 405, "/healthz is for GET"),
            ("DELETE", "/breakers/service/basket", 405, "GET and PUT"),
            ("GET", "/config?orgin", 400, "did you mean ?origin?"),
            ("GET", "/peers?x", 400, "takes no ?x"),
            ("GET", "/peers/service", 400, "KIND/NAME"),
            ("GET", "/peers//basket", 400, "KIND/NAME"),
            ("GET", "/peers/service/basket/rest/x", 400, "KIND/NAME"),
            ("GET", "/peers/service/%00/rest", 400, "KIND/NAME"),
            ("GET", "/peers/service/%ff/rest", 400, "not UTF-8"),
            ("GET", "/peers/servce/basket", 400, "unknown kind"),
            ("GET", "/peers/service/nobody", 404, "there is no service nobody"),
            ("GET", "/why/xyz", 400, "16 hexadecimal digits"),
            ("GET", "/why/0000000000000001", 404, "no call has had this id"),
            ("GET", "/why?limit=0", 400, "1 to 100"),
            ("PUT", "/breakers", 400, "KIND/NAME")):
        answer, body = r.admin(path, method, "{}" if method == "PUT" else None)
        doc = json.loads(body)
        assert answer.status == status and doc["status"] == status, (path, body)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert word in doc["detail"], (path, doc)
    answer, body = r.admin("/healthz", "HEAD")
    assert answer.status == 200 and body == b""


def test_config_says_where_values_come_from(sinew, cleanup):
    (sinew.tmp / "token").write_text("geheim\n")
    _, f = start(sinew, "name: t\nlisten: {sidecar: {address: '127.0.0.1:%d', token: '${file:%s}'}}\n"
                 "limits: {idle: '${IDLE:30s}', body: '${BODY}'}\n" % (
                     free_port(), sinew.tmp / "token"),
                 "--agent", "ws://127.0.0.1:1/a", env={"BODY": "1MiB"})
    c = http.client.HTTPConnection("localhost", timeout=PATIENCE)
    c.sock = socket.socket(socket.AF_UNIX)
    c.sock.connect(str(sinew.tmp / "sinew" / "t.sock"))
    c.request("GET", "/config?origin")
    doc = json.loads(c.getresponse().read())
    assert doc["name"] == {"value": "t", "from": "%s:1:7" % f}
    assert doc["limits.idle"] == {"value": "30s", "from": "%s:3:16" % f, "by": "default of IDLE"}
    assert doc["limits.body"] == {"value": "1MiB", "from": "%s:3:37" % f, "by": "env BODY"}
    assert doc["limits.message"] == {"value": "64MiB", "from": "default"}
    token = doc["listen.sidecar.token"]
    assert token["value"] == "***" and token["by"] == "file %s" % (sinew.tmp / "token")
    assert doc["agent.url"] == {"value": "ws://127.0.0.1:1/a", "from": "options"}


def test_metrics_are_read_by_a_parser_that_is_not_ours(sinew, cleanup):
    s = Service(lambda h, b: Service.reply(h, 200 if len(s.requests) % 3 else 503))
    r = run_with(sinew, cleanup, s)
    for _ in range(10):
        assert r.ask("GET", "/call/service/basket/rest/")[0].status == 200
    r.ask("GET", "/call/service/b%22a%5Cd%C3%A9/rest/", headers={"sinew-timeout-ms": "1"})
    answer, text = r.admin("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {f.name: f for f in text_string_to_metric_families(text.decode())}
    kinds = {n: f.type for n, f in families.items()}
    for name, kind in {"sinew_calls": "counter", "sinew_call_seconds": "histogram",
                       "sinew_attempts": "counter", "sinew_retries": "counter",
                       "sinew_breaker_state": "gauge", "sinew_inflight": "gauge",
                       "sinew_pending": "gauge", "sinew_budget_tokens": "gauge"}.items():
        assert kinds.get(name) == kind, (name, kinds)
        assert families[name].documentation

    def value(family, name=None, **labels):
        found = [x.value for x in families[family].samples
                 if x.labels == labels and x.name == (name or x.name)]
        assert len(found) == 1, (family, labels, families[family].samples)
        return found[0]
    basket_rest = {"target": "service basket/rest"}
    assert value("sinew_calls", outcome="ok", **basket_rest) == 10
    assert value("sinew_attempts", **basket_rest) == len(s.requests) > 10
    assert value("sinew_retries", reason="unavailable", **basket_rest) == len(s.requests) - 10
    assert value("sinew_inflight", **basket_rest) == 0 == value("sinew_pending", **basket_rest)
    assert value("sinew_budget_tokens", **basket_rest) > 0
    assert value("sinew_breaker_state", peer="1", **basket_rest) == 0
    assert value("sinew_call_seconds", "sinew_call_seconds_count", **basket_rest) == 10
    assert value("sinew_call_seconds", "sinew_call_seconds_bucket", le="+Inf", **basket_rest) == 10
    buckets = [x.value for x in families["sinew_call_seconds"].samples
               if x.name.endswith("_bucket") and x.labels["target"] == "service basket/rest"]
    assert buckets == sorted(buckets) and len(buckets) == 17
    assert any(x.labels["target"] == 'service b"a\\d\u00e9/rest'
               for x in families["sinew_calls"].samples)


def test_series_are_capped(sinew, cleanup):
    r = run_with(sinew, cleanup, Service(), policies={"values": {
        "no-peer-wait": 0, "no-peer-retry": False, "retry-count": 1}})
    c = http.client.HTTPConnection("127.0.0.1", r.port, timeout=PATIENCE)
    for i in range(2100):
        c.request("GET", "/call/service/s%d/rest/" % i, headers={"sinew-timeout-ms": "1000"})
        c.getresponse().read()
    text = r.admin("/metrics")[1].decode()
    families = {f.name: f for f in text_string_to_metric_families(text)}
    histograms = sum(len({x.labels.get("target") for x in f.samples}) for f in families.values()
                     if f.type == "histogram")
    others = sum(len(f.samples) for f in families.values() if f.type != "histogram")
    assert histograms + others <= 10000 + len(families)
    assert any(x.labels == {"overflow": "true"} for f in families.values() for x in f.samples)
    calls = sum(x.value for x in families["sinew_calls"].samples)
    assert calls == 2100


def test_the_console_is_one_page_that_needs_nothing_else(sinew, cleanup):
    r = run_with(sinew, cleanup, Service())
    answer, page = r.admin("/")
    page = page.decode()
    assert answer.status == 200 and answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "innerHTML" not in page and "http" not in page
    for path in re.findall(r"fetch\('([^']+)'\)", page):
        assert r.admin(path)[0].status in (200, 503), path


def test_http_2_is_spoken_too(sinew, cleanup):
    port = free_port()
    start(sinew, "name: t\nlisten: {admin: {address: '127.0.0.1:%d', token: geheim}}\npeers: {}\n" % port)
    url = "http://127.0.0.1:%d" % port
    out = subprocess.run(["curl", "-s", "--http2-prior-knowledge", "-w", " %{http_version}",
                          url + "/healthz"], capture_output=True, text=True, timeout=PATIENCE)
    assert out.stdout == '{"status":"ok","name":"t"} 2'
    out = subprocess.run(["curl", "-s", "--http2-prior-knowledge", "-X", "PUT", "-d", "{}",
                          "-w", " %{http_code}", url + "/breakers/service/a"],
                         capture_output=True, text=True, timeout=PATIENCE)
    assert out.stdout.endswith(" 401")


# ---- who may do what ----

def test_over_tcp_changes_need_the_token(sinew, cleanup):
    port, s = free_port(), Service()
    cleanup(s)
    text = "name: t\nlisten: {admin: %s}\npeers: %s\n"
    p, f = start(sinew, text % ("'127.0.0.1:%d'" % port, basket(s.port)))
    change = ("PUT", "/breakers/service/basket/rest", '{"state": "open"}')
    assert over_tcp(port, "GET", "/breakers")[0] == 200
    status, body = over_tcp(port, *change)
    assert status == 403 and "set listen.admin.token" in body
    assert over_tcp(port, "POST", "/drain")[0] == 403
    assert sinew.run("breaker", "open", "service/basket/rest", "--config", f).returncode == 5
    p.kill()
    p.wait()
    _, f = start(sinew, text % ("{address: '127.0.0.1:%d', token: geheim}" % port, basket(s.port)))
    assert over_tcp(port, "GET", "/breakers")[0] == 200
    for wrong in ({}, {"Authorization": "Bearer geheim2"}, {"Authorization": "Basic geheim"},
                  {"Authorization": "Bearer "}, {"Authorization": "geheim"}):
        assert over_tcp(port, *change, headers=wrong)[0] == 401, wrong
    assert over_tcp(port, *change, headers={"Authorization": "Bearer geheim"})[0] == 200
    assert sinew.run("breaker", "auto", "service/basket/rest", "--config", f).returncode == 0
    # a web page: another origin, or another name for this machine
    assert over_tcp(port, "GET", "/config", headers={"Origin": "http://evil.example"})[0] == 403
    assert over_tcp(port, "GET", "/config", headers={"Host": "evil.example"})[0] == 421


def own_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
            return s.getsockname()[0]
        except OSError:
            return None


def test_off_loopback_everything_needs_the_token(sinew, cleanup):
    address, port = own_address(), free_port()
    f = sinew.tmp / "s.yaml"
    f.write_text("listen: {admin: '0.0.0.0:%d'}\npeers: {}\n" % port)
    for command in ("run", "check"):
        r = sinew.run(command, f)
        assert r.returncode == 2 and "s.yaml:1:17" in r.stderr and "needs a token" in r.stderr
    if address is None:
        pytest.skip("no other address than loopback")
    start(sinew, "listen: {admin: {address: '%s:%d', token: geheim}}\npeers: {}\n" % (address, port))
    host = {"Host": "localhost"}
    for path in ("/", "/healthz", "/metrics", "/config", "/nowhere"):
        assert over_tcp(port, "GET", path, headers=host, host=address)[0] == 401, path
    host["Authorization"] = "Bearer geheim"
    assert over_tcp(port, "GET", "/healthz", headers=host, host=address)[0] == 200


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_other_users_do_not_get_in(sinew, cleanup):
    run_with(sinew, cleanup, Service())
    path = sinew.tmp / "sinew" / "t.sock"
    assert os.stat(path).st_mode & 0o777 == 0o600
    child = ("import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.settimeout(20)\n"
             "try:\n s.connect(sys.argv[1])\n"
             " s.sendall(b'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')\n"
             " print(s.recv(12).decode() or 'closed')\n"
             "except OSError as e:\n print('closed' if e.errno in (32, 104) else 'refused')\n")
    # "@NAME" stands for the socket although the folders above it are closed: as a descriptor's path
    fd = os.open(path, os.O_PATH)

    def ask(uid):
        return subprocess.run(["/usr/bin/python3", "-c", child, "/proc/self/fd/%d" % fd],
                              pass_fds=[fd], capture_output=True, text=True, timeout=PATIENCE,
                              user=uid, group=uid, extra_groups=[]).stdout.strip()
    assert ask(0) == "HTTP/1.1 200"
    assert ask(65534) == "refused"  # the mode
    os.chmod(path, 0o666)
    assert ask(65534) == "closed"  # the kernel's word
    assert ask(0) == "HTTP/1.1 200"


def test_the_socket_is_found_where_a_service_manager_s_environment_put_it(sinew, cleanup):
    name = "test-%d" % os.getpid()
    # no XDG_RUNTIME_DIR there: /run/sinew, else the state directory
    p, f = start(sinew, "name: %s\npeers: {}\n" % name, env={"XDG_RUNTIME_DIR": ""})
    r = sinew.run("top", "--once", "--config", f)
    assert r.returncode == 0 and r.stdout.startswith(name + ": 0 targets"), r
    p.terminate()
    assert p.wait(PATIENCE) == 0
    assert not os.path.exists("/run/sinew/%s.sock" % name)


# ---- breakers ----

def test_breakers_can_be_forced(sinew, cleanup):
    s = Service()
    r = run_with(sinew, cleanup, s)
    r.ask("GET", "/call/service/basket/rest/")
    assert r.cli("breaker", "open", "service", "basket", "rest").returncode == 0
    answer, body = r.ask("GET", "/call/service/basket/rest/")
    assert answer.status == 503 and json.loads(body)["code"] == "BREAKER"
    assert "forced open" in r.cli("breaker").stdout
    assert json.loads(r.cli("breaker", "--json").stdout)[0]["breaker"] == "forced open"
    assert json.loads(r.admin("/targets")[1])["targets"][0]["open"] == 1
    assert json.loads(r.admin("/breakers/service/basket/rest")[1])[0]["peer"] == "1"
    assert r.cli("breaker", "auto", "service/basket/rest").returncode == 0
    assert r.ask("GET", "/call/service/basket/rest/")[0].status == 200
    assert r.cli("breaker", "close", "service", "basket", "rest", "1").returncode == 0
    assert "forced closed" in r.cli("breaker").stdout


@pytest.mark.parametrize("args, status, word", [
    (["opne", "service", "basket", "rest"], 2, "did you mean `open`"),
    (["open", "service"], 2, "KIND NAME"),
    (["open", "service/basket/rest", "1", "2"], 2, "KIND NAME"),
    (["open", "srvice/basket/rest"], 2, "unknown kind"),
    (["open", "service", "nobody"], 3, "there is no service nobody"),
    (["open", "service", "basket", "rest", "77"], 3, "no peer 77"),
    (["open", "service", "basket", "rest", "--peer", "77"], 3, "no peer 77"),
])
def test_breaker_s_exit_status(sinew, cleanup, args, status, word):
    r = run_with(sinew, cleanup, Service())
    done = r.cli("breaker", *args)
    assert done.returncode == status and word in done.stderr, done


def test_nobody_there_is_one_sentence(sinew):
    for args in (["top", "--once"], ["breaker"], ["policies"], ["why"]):
        r = sinew.run(*args, "--admin", "127.0.0.1:%d" % free_port())
        assert r.returncode == 1 and r.stderr.count("\n") == 1, (args, r.stderr)
        assert "no sinew answers on" in r.stderr


def test_a_mute_one_is_given_up(sinew):
    with socket.create_server(("127.0.0.1", 0)) as s:
        r = sinew.run("top", "--once", "--timeout", "100ms", "--admin",
                      "127.0.0.1:%d" % s.getsockname()[1])
    assert r.returncode == 4 and "does not answer" in r.stderr


def test_policies_of_the_running_one(sinew, cleanup):
    r = run_with(sinew, cleanup, Service())
    out = r.cli("policies", "service", "basket", "rest", "--admin",
                "unix:%s" % (sinew.tmp / "sinew" / "t.sock"))
    assert out.returncode == 0 and re.search(r"^retry-count +\d+ ", out.stdout, re.M), out


# ---- why ----

def test_why_is_a_time_line(sinew, cleanup):
    port = free_port()
    r = Running(sinew, "peers: %s\npolicies: {retry-count: 3, retry-initial-delay: 60, "
                       "retry-max-delay: 60}\n" % basket(port))
    answer, _ = r.ask("GET", "/call/service/basket/rest/x?secret=1")
    call = answer.headers["sinew-call-id"]
    for args in (["why", call], ["why"]):
        out = r.cli(*args)
        assert out.returncode == 0, out
        lines = out.stdout.splitlines()
        assert lines[0].startswith("call %s " % call) and lines[0].endswith("rest  GET /x")
        assert lines[1].startswith("failed after ") and "[CONNECT]" in lines[1]
        attempts = [x for x in lines if re.match(r"  \d \|[ #]{30}\| ", x)]
        waits = [x for x in lines if re.match(r"    \|[ .]{30}\| .* waited$", x)]
        assert [x[2] for x in attempts] == ["1", "2", "3"] and len(waits) == 2
        assert "retry in 60 ms" in attempts[0] and "give up" in attempts[2]
        starts = [float(x.split("|")[2].split()[0]) for x in attempts]
        assert starts[0] < 50 < starts[1] < starts[2]
    r.process.terminate()
    assert r.process.wait(PATIENCE) == 0
    gone = r.cli("why", call)  # from the recorder's file
    assert gone.returncode == 0 and gone.stdout == out.stdout
    none = r.cli("why", "0123456789abcdef")
    assert none.returncode == 1 and "id" in none.stderr


def test_why_finds_calls_of_others_too(sinew, cleanup):
    """A failed `sinew request` is newer than what the running one knows."""
    port = free_port()
    r = Running(sinew, "peers: %s\npolicies: {retry-count: 1}\n" % basket(port))
    r.ask("GET", "/call/service/basket/rest/old")
    assert "/old" in r.cli("why").stdout
    r.cli("request", "service", "basket", "rest", "/new")
    assert "/new" in r.cli("why").stdout
    r.ask("GET", "/call/service/basket/rest/newest")
    assert "/newest" in r.cli("why").stdout
    lone = r.cli("why", "--admin", "unix:%s" % (sinew.tmp / "sinew" / "t.sock"))
    assert "/newest" in lone.stdout
    assert "/newest" in r.cli("why", "--state", sinew.tmp / "state" / "sinew").stdout
    # a sinew with another state directory is asked over its socket
    other = sinew.run("why", "--config", r.file, env={"XDG_STATE_HOME": str(sinew.tmp / "other")})
    assert other.returncode == 0 and "/newest" in other.stdout
    lists = [json.loads(r.admin("/why" + q)[1]) for q in ("", "?limit=1", "?failed")]
    assert [len(x) for x in lists] == [2, 1, 2] and lists[1][0]["what"] == "GET /newest"


# ---- top ----

def test_top_shows_one_table(sinew, cleanup):
    s, t = Service(), Service(lambda h, b: Service.reply(h, 404))
    cleanup(s)
    cleanup(t)
    peers = peers_message(s.port)["peers"]
    peers["service"]["alpha"] = peers_message(t.port)["peers"]["service"]["basket"]
    r = Running(sinew, "peers: %s\n" % json.dumps(peers))
    r.ask("GET", "/call/service/basket/rest/")
    r.ask("GET", "/call/service/alpha/rest/")
    top = r.cli("top", "--once", "--sort", "name")
    lines = top.stdout.splitlines()
    assert top.returncode == 0 and lines[0] == "t: 2 targets"
    assert lines[1].split()[:3] == ["TARGET", "PEERS", "CALLS/S"]
    assert [x.split()[1] for x in lines[2:]] == ["alpha/rest", "basket/rest"]
    wrong = r.cli("top", "--sort", "eror")
    assert wrong.returncode == 2 and "did you mean `errors`" in wrong.stderr


def test_top_counts_and_sorts(sinew, cleanup):
    """Calls made while it looks: the rate, the quantiles, the errors of one second."""
    slow = Service(lambda h, b: (time.sleep(0.02), Service.reply(h, 200)))
    bad = Service(lambda h, b: Service.reply(h, 500))
    cleanup(slow)
    cleanup(bad)
    peers = peers_message(slow.port)["peers"]
    peers["service"]["bad"] = peers_message(bad.port)["peers"]["service"]["basket"]
    r = Running(sinew, "peers: %s\npolicies: {retry-count: 1, breaker: false}\n" % json.dumps(peers))
    r.ask("GET", "/call/service/basket/rest/")
    r.ask("GET", "/call/service/bad/rest/")
    for sort, first in (("errors", "service bad/rest"), ("p99", "service basket/rest"),
                        ("rate", "service bad/rest"), ("name", "service bad/rest")):
        p = sinew.start("top", "--json", "--sort", sort, "--config", r.file)
        end = time.monotonic() + PATIENCE
        while True:  # it prints a line a second; calls go on until one saw enough of them
            for _ in range(8):
                r.ask("GET", "/call/service/bad/rest/")
            r.ask("GET", "/call/service/basket/rest/")
            if not select.select([p.stdout], [], [], 0)[0]:
                continue
            doc = json.loads(p.stdout.readline())
            rows = {t["target"]: t for t in doc["targets"]}
            b, k = rows["service bad/rest"], rows["service basket/rest"]
            if b["rate"] > k["rate"] > 0:
                break
            assert time.monotonic() < end
        assert doc["targets"][0]["target"] == first
        assert b["errors"] == 1 and k["errors"] == 0
        assert k["p50_ms"] >= 10 > b["p50_ms"] and k["p99_ms"] >= k["p50_ms"]
        p.send_signal(signal.SIGINT)
        p.stdout.close()
        assert p.wait(PATIENCE) in (0, 1)


def test_top_obeys_keys(sinew, cleanup):
    s = Service()
    r = run_with(sinew, cleanup, s)
    r.ask("GET", "/call/service/basket/rest/")
    master, slave = pty.openpty()
    p = subprocess.Popen([BINARY, "top", "--config", str(r.file)], stdin=slave, stdout=slave,
                         stderr=slave, env=sinew.env(), cwd=sinew.tmp)
    sinew.children.append(p)
    os.close(slave)
    seen = b""

    def until(word):
        nonlocal seen
        end = time.monotonic() + PATIENCE
        while word not in seen:
            assert time.monotonic() < end and select.select([master], [], [], PATIENCE)[0], seen
            seen += os.read(master, 65536)
        seen = b""
    until(b"by rate; sort: r rate")
    os.write(master, b"9")
    until(b"by p99; sort:")
    os.write(master, b"n")
    until(b"by name; sort:")
    os.write(master, b"q")
    assert p.wait(PATIENCE) == 0
    os.close(master)


# ---- the service manager ----

@pytest.mark.parametrize("abstract", [False, True])
def test_service_manager_is_told(sinew, cleanup, abstract):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = "@sinew-test-%d" % os.getpid() if abstract else str(sinew.tmp / "notify")
    s.bind("\0" + path[1:] if abstract else path)
    s.settimeout(PATIENCE)
    r = Running(sinew, "peers: %s\n" % basket(1), env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"})
    assert s.recv(100) == b"READY=1"
    assert r.admin("/healthz")[0].status == 200  # ready: it listens
    assert [s.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    r.process.send_signal(signal.SIGTERM)
    told = b"WATCHDOG=1"
    while told == b"WATCHDOG=1":
        told = s.recv(100)
    assert told == b"STOPPING=1"
    assert r.process.wait(PATIENCE) == 0


def test_the_watchdog_of_another_process_is_not_ours(sinew, cleanup):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(str(sinew.tmp / "notify"))
    s.settimeout(PATIENCE)
    r = Running(sinew, "peers: {}\n", env={"NOTIFY_SOCKET": str(sinew.tmp / "notify"),
                                          "WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"})
    assert s.recv(100) == b"READY=1"
    for _ in range(20):
        r.admin("/healthz")
    r.process.terminate()
    assert s.recv(100) == b"STOPPING=1"
    assert r.process.wait(PATIENCE) == 0


def test_drain_is_a_sigterm_that_comes_over_the_api(sinew, cleanup):
    s = Service()
    r = run_with(sinew, cleanup, s)
    for _ in range(2):  # the second one does not cut it short
        try:
            answer, body = r.admin("/drain", "POST")
            assert answer.status == 202 and json.loads(body) == {"draining": True}
        except (ConnectionError, http.client.HTTPException, FileNotFoundError):
            break  # it is gone already
    assert r.process.wait(PATIENCE) == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_the_unit_file_is_one(sinew):
    unit = os.path.join(os.environ.get("SINEW_BUILD_ROOT", "build"), "packaging/sinew.service")
    text = open(unit).read()
    copy = sinew.tmp / "sinew.service"  # where the binary is
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=" + BINARY, text, flags=re.M)
                    .replace("Documentation=man:sinew(1) man:sinew-run(1)\n", ""))
    r = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True,
                       timeout=60)
    assert r.returncode == 0 and "sinew.service" not in r.stderr, r.stderr
    assert "Type=notify" in text and "WatchdogSec=" in text


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_the_console_in_a_browser(sinew, cleanup):
    port, s = free_port(), Service()
    cleanup(s)
    sidecar = free_port()
    peers = peers_message(s.port)["peers"]
    peers["service"]["<b>x"] = peers["service"]["basket"]  # a name is text, never markup
    start(sinew, "name: shop\nlisten: {admin: '127.0.0.1:%d', sidecar: '127.0.0.1:%d'}\npeers: %s\n" % (
        port, sidecar, json.dumps(peers)))
    assert over_tcp(sidecar, "GET", "/call/service/basket/rest/")[0] == 200
    assert over_tcp(sidecar, "GET", "/call/service/%3Cb%3Ex/rest/")[0] == 200
    out = subprocess.run(
        [BROWSER, "--no-sandbox", "--disable-gpu", "--headless", "--disable-dev-shm-usage",
         "--user-data-dir=%s" % (sinew.tmp / "browser"), "--virtual-time-budget=5000", "--dump-dom",
         "http://127.0.0.1:%d/" % port], capture_output=True, text=True, timeout=PATIENCE * 3)
    page = out.stdout.split("<script>")[0]
    assert '<h1 id="name">shop</h1>' in page and '<p id="ready" class="">ready</p>' in page, page
    rows = re.findall("<tr>(.*?)</tr>", page.split("<tbody")[1])
    cells = {r[0]: r for r in (re.findall("<td[^>]*>(.*?)</td>", row) for row in rows)}
    assert set(cells) == {"service basket/rest", "service &lt;b&gt;x/rest"}, page
    assert all(len(c) == 10 and c[1] == "1" and c[9] == "closed" for c in cells.values())
    assert len(re.findall("<th>", page)) == 10
