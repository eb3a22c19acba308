# SPDX-License-Identifier: Apache-2.0
"""The command line against an agent and services that are not ours."""
import json
import os
import re
import signal
import socket

import pytest

from conftest import SOURCE

PEERS = {"1": {"protocol": "http", "networkProtocol": "tcp", "port": 4000, "address": "10.0.0.23"},
         "2": {"protocol": "http", "networkProtocol": "tcp", "port": 4001, "address": "10.0.0.44"}}
SEED = {"peers": {"service": {"app": {"client": PEERS}}}}
PLANNED = ("run test schema drivers database queue hub node publish repl registry bridge streams "
           "dead-letters data meta connector new platform top breaker").split()


def one_peer(port, **policies):
    peer = {"protocol": "http", "networkProtocol": "tcp", "port": port, "address": "127.0.0.1"}
    return {"peers": {"service": {"app": {"client": {"1": peer}}}},
            "policies": {"values": dict({"retry-initial-delay": 10}, **policies)}}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def commands(sinew):
    text = sinew("--help").stdout
    return re.findall(r"^  ([a-z-]+) +\S", text.split("Commands:")[1].split("Options")[0], re.M)


# ---- help, usage ----

def test_help_on_every_level(sinew):
    names = commands(sinew)
    assert {"agent", "peers", "peer", "request", "policies", "check", "why", "version"} <= set(names)
    for name in names:
        r = sinew(name, "--help")
        assert (r.returncode, r.stderr) == (0, "")
        assert r.stdout.startswith("Usage: sinew " + name)
        assert "Example:\n  sinew " in r.stdout
        assert max(len(line) for line in r.stdout.split("\n")) <= 110


def test_every_command_has_a_man_page(sinew):
    with open(os.path.join(SOURCE, "docs/man/meson.build")) as f:
        listed = set(re.findall(r"'([a-z-]+)'", re.search(r"man_pages = \[(.*?)\]", f.read(), re.S).group(1)))
    assert listed == set(commands(sinew))


def test_version(sinew):
    assert re.fullmatch(r"sinew \d+\.\d+\.\d+\n", sinew("version").stdout)
    assert sinew("--version").stdout == sinew("version").stdout


def test_unknown_names_say_the_nearest(sinew):
    r = sinew("requst", "service", "app", "client")
    assert (r.returncode, r.stdout) == (2, "")
    assert "did you mean `request`" in r.stderr
    r = sinew("peers", "--wach", "service", "app", "client")
    assert r.returncode == 2 and "did you mean `--watch`" in r.stderr


@pytest.mark.parametrize("name", PLANNED)
def test_what_is_not_there_yet_says_so(sinew, name):
    r = sinew(name)
    assert r.returncode == 2 and "not available in this version" in r.stderr and r.stdout == ""


@pytest.mark.parametrize("args", [
    [], ["peers"], ["peers", "service"], ["peers", "service", "a", "b", "c"], ["peers", "--timeout"],
    ["peers", "service", "app", "--timeout", "5 s"], ["peers", "service", "app", "--log", "xml"],
    ["request", "service", "app", "client", "/", "--retry", "twice", "--agent", "ws://127.0.0.1:1/t"],
    ["request", "service", "app", "client", "/", "-H", "nonsense", "--agent", "ws://127.0.0.1:1/t"],
    ["peers", "service", "app", "--watch=yes"], ["peers", "service", "app", "--admin", "x"],
])
def test_wrong_usage_exits_2(sinew, args):
    r = sinew(*args)
    assert (r.returncode, r.stdout) == (2, "") and r.stderr != ""


def test_complaints_as_json(sinew):
    r = sinew("requst", "--log", "json")
    assert r.returncode == 2 and "request" in json.loads(r.stderr)["message"]


# ---- the agent ----

def test_no_agent_named(sinew):
    r = sinew("peers", "service", "app", "client")
    assert r.returncode == 2 and "BERLIOZ_AGENT_PATH" in r.stderr


def test_agent_absent(sinew):
    url = "ws://127.0.0.1:%d/task-1" % free_port()
    for cmd in ("peers", "peer", "request"):
        r = sinew(cmd, "service", "app", "client", "--timeout", "300ms", BERLIOZ_AGENT_PATH=url)
        assert (r.returncode, r.stdout) == (1, "") and url in r.stderr


def test_agent_silent(sinew, agent):
    a = agent(None)
    r = sinew("peers", "service", "app", "client", "--timeout", "300ms", "--agent", a.url)
    assert r.returncode == 1 and a.url in r.stderr


# ---- peers ----

def test_peers_as_the_seed_shows(sinew, agent):
    a = agent(SEED)
    r = sinew("peers", "service", "app", "client", BERLIOZ_AGENT_PATH=a.url)
    assert r.returncode == 0 and json.loads(r.stdout) == PEERS
    assert a.paths == ["/task-1"]


def test_unknown_target(sinew, agent):
    a = agent(SEED)
    r = sinew("peers", "service", "other", "client", "--agent", a.url)
    assert (r.returncode, r.stdout) == (0, "null\n")
    r = sinew("peer", "service", "other", "client", "--agent", a.url)
    assert (r.returncode, r.stdout) == (3, "null\n")


def test_unknown_kind(sinew, agent):
    a = agent(SEED)
    for cmd in ("peers", "peer", "request"):
        r = sinew(cmd, "planet", "app", "client", "--agent", a.url)
        assert r.returncode == 2 and r.stdout == ""


def test_peer_is_one_of_them(sinew, agent):
    a = agent(SEED)
    r = sinew("peer", "service", "app", "client", "-v", "--agent", a.url)
    identity = re.search(r"identity (\d)", r.stderr).group(1)
    assert r.returncode == 0 and json.loads(r.stdout) == PEERS[identity]


def test_secrets_are_masked(sinew, agent):
    config = {"region": "r", "credentials": {"accessKeyId": "A", "secretAccessKey": "very \"secret\""}}
    a = agent({"peers": {"database": {"contacts": {"1": {"tableName": "contacts", "config": config}}}}})
    r = sinew("peers", "database", "contacts", "--agent", a.url)
    assert "very" not in r.stdout
    assert json.loads(r.stdout)["1"]["config"] == {
        "region": "r", "credentials": {"accessKeyId": "***", "secretAccessKey": "***"}}
    r = sinew("peers", "database", "contacts", "--show-secrets", "--agent", a.url)
    assert json.loads(r.stdout)["1"]["config"] == config


def test_watch_prints_a_line_a_change(start, agent):
    a = agent(SEED)
    p = start("peers", "service", "app", "client", "--watch", "--agent", a.url)
    assert json.loads(p.stdout.readline()) == PEERS
    a.push({"peers": {"service": {"app": {"client": {"2": PEERS["2"]}}}}})
    assert json.loads(p.stdout.readline()) == {"2": PEERS["2"]}
    p.send_signal(signal.SIGTERM)
    assert p.wait(10) == 0


def test_watch_of_an_unknown_target(start, agent):
    a = agent({})
    p = start("peers", "service", "app", "client", "--watch", "--agent", a.url)
    assert p.stdout.readline() == "null\n"
    a.push(SEED)
    assert json.loads(p.stdout.readline()) == PEERS
    p.send_signal(signal.SIGINT)
    assert p.wait(10) == 0


# ---- request ----

def test_request_as_the_seed_prints_it(sinew, agent, service):
    s = service()
    a = agent(one_peer(s.port))
    body = '{"name": "Chuck Norris", "phone": "314-159-2653"}'
    r = sinew("request", "service", "app", "client", "/contact", "-X", "POST", "-d", body,
              "--agent", a.url)
    assert r.returncode == 0 and r.stderr.startswith("HTTP/1.1 200 OK\n")
    seen = json.loads(r.stdout)
    assert (seen["method"], seen["path"]) == ("POST", "/contact")
    assert json.loads(seen["body"]) == json.loads(body)
    assert seen["headers"]["content-type"] == "application/json"


def test_request_bodies_and_headers(sinew, agent, service, tmp_path):
    s = service()
    a = agent(one_peer(s.port))

    def seen(*args, **kwargs):
        r = sinew("request", "service", "app", "client", "x", "--agent", a.url, *args, **kwargs)
        assert r.returncode == 0, r.stderr
        return json.loads(r.stdout)
    assert seen()["path"] == "/x" and s.requests[-1]["method"] == "GET"
    plain = seen("-d", "not json", "-H", "X-One: 1", "-HX-Two:2")
    assert (plain["method"], plain["body"]) == ("POST", "not json")
    assert "content-type" not in plain["headers"]
    assert (plain["headers"]["x-one"], plain["headers"]["x-two"]) == ("1", "2")
    assert seen("-d", "[1]", "-H", "content-type: text/x")["headers"]["content-type"] == "text/x"
    (tmp_path / "body").write_text('{"from": "file"}')
    assert json.loads(seen("-d", "@body")["body"]) == {"from": "file"}
    assert seen("-d", "-", stdin="from stdin")["body"] == "from stdin"
    assert seen("-d", "3")["headers"].get("content-type") is None


def test_request_include_and_fail(sinew, agent, service):
    s = service(status=404)
    a = agent(one_peer(s.port))
    r = sinew("request", "service", "app", "client", "/x", "-i", "--agent", a.url)
    head, body = r.stdout.split("\n\n", 1)
    assert r.returncode == 0 and r.stderr.startswith("HTTP/1.1 404 Not Found\n")
    assert head.startswith("HTTP/1.1 404 Not Found\n") and "X-Test: yes" in head
    assert json.loads(body)["path"] == "/x"
    r = sinew("request", "service", "app", "client", "/x", "--fail", "--agent", a.url)
    assert r.returncode == 1 and len(s.requests) == 2


def test_request_500_is_retried_and_then_an_answer(sinew, agent, service):
    s = service(status=500)
    a = agent(one_peer(s.port))
    r = sinew("request", "service", "app", "client", "/x", "--agent", a.url)
    assert r.returncode == 0 and "HTTP/1.1 500" in r.stderr and len(s.requests) == 3
    assert json.loads(r.stdout)["path"] == "/x"
    r = sinew("request", "service", "app", "client", "/x", "--retry", "none", "--fail", "--agent", a.url)
    assert r.returncode == 1 and len(s.requests) == 4


@pytest.mark.parametrize("url", ["http://example.com/", "//example.com/x"])
def test_request_refuses_absolute_urls(sinew, agent, url):
    a = agent(SEED)
    r = sinew("request", "service", "app", "client", url, "--agent", a.url)
    assert r.returncode == 2 and "url must be relative: begin it with /" in r.stderr


def test_request_tells_its_attempts(sinew, agent):
    port = free_port()
    a = agent(one_peer(port))
    r = sinew("request", "service", "app", "client", "/x", "--agent", a.url)
    assert (r.returncode, r.stdout) == (1, "")
    lines = [line for line in r.stderr.split("\n") if "127.0.0.1:%d" % port in line and "connect" in line]
    assert len(lines) >= 3 and "refused" in lines[-1]


def test_request_no_peer(sinew, agent):
    a = agent(one_peer(1, **{"no-peer-retry": False}))
    r = sinew("request", "service", "other", "client", "/x", "--agent", a.url)
    assert (r.returncode, r.stdout) == (3, "")


def test_request_deadline(sinew, agent, service):
    s = service(stall=True)
    a = agent(one_peer(s.port))
    r = sinew("request", "service", "app", "client", "/x", "--timeout", "600ms", "--agent", a.url)
    assert (r.returncode, r.stdout) == (4, "")


# ---- policies ----

def test_policies_say_where_they_come_from(sinew, agent):
    a = agent({"policies": {"values": {"timeout": 900},
                            "children": {"service": {"children": {"app": {"values": {"retry-count": 7}}}}}}})
    r = sinew("policies", "service", "app", "client", "--agent", a.url)
    lines = {line.split()[0]: line.split()[1:] for line in r.stdout.splitlines()}
    assert r.returncode == 0
    assert lines["timeout"][0] == "900"
    assert lines["retry-count"][0] == "7" and "app" in lines["retry-count"][1]
    assert lines["retry-max-delay"][1] == "default"
