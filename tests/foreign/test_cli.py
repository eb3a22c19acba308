# SPDX-License-Identifier: Apache-2.0
"""The command line itself: help, mistakes, what is printed where, exit statuses."""
import glob
import json
import os
import re
import signal
import threading

import pytest

from conftest import FAST, PATIENCE, Agent, Raw, Service, free_port, peer, peers_message

SOURCE = os.environ.get("SINEW_SOURCE_ROOT", os.getcwd())
PLANNED = ("test streams "
           "dead-letters data meta connector new platform").split()
NOWHERE = ["--agent", "ws://127.0.0.1:1/t"]


def commands(sinew):
    text = sinew.run("--help").stdout
    return re.findall(r"^  ([a-z-]+) +\S", text.split("Commands:")[1].split("Options")[0], re.M)


def an_agent(cleanup, message):
    a = Agent(message)
    cleanup(a)
    return a


def test_help_on_every_level_with_an_example(sinew):
    for name in commands(sinew):
        r = sinew.run(name, "--help")
        assert (r.returncode, r.stderr) == (0, "")
        assert r.stdout.startswith("Usage: sinew " + name)
        assert "Example:\n  sinew " in r.stdout


def test_documents_use_options_that_are_there(sinew):
    """Of every `sinew COMMAND --option` in README.md and docs."""
    def options(*command):
        return set(re.findall(r"--[a-z][a-z-]*", sinew.run(*command, "--help").stdout))
    known = {name: options() | options(name) for name in commands(sinew)}
    used = re.compile(r"\bsinew ((?:--[a-z-]+ \S+ )*)(%s)\b([^`\n|;]*)" % "|".join(known))
    pages = [os.path.join(SOURCE, "README.md")] + glob.glob(os.path.join(SOURCE, "docs/*.md"))
    assert len(pages) > 30
    for page in pages:
        with open(page, encoding="utf-8") as f:
            text = f.read().replace("\\\n", " ")
        for m in used.finditer(text):
            there = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", m.group(1) + m.group(3)))
            assert there <= known[m.group(2)], (page, m.group(0))


def test_every_command_has_a_man_page(sinew):
    with open(os.path.join(SOURCE, "docs/man/meson.build")) as f:
        pages = re.search(r"man_pages = \[(.*?)\]", f.read(), re.S).group(1)
    assert set(re.findall(r"'([a-z-]+)'", pages)) == set(commands(sinew))


def test_version(sinew):
    assert re.fullmatch(r"sinew \d+\.\d+\.\d+\n", sinew.run("version").stdout)
    assert sinew.run("--version").stdout == sinew.run("version").stdout


@pytest.mark.parametrize("name", PLANNED)
def test_what_is_not_there_yet_says_so(sinew, name):
    r = sinew.run(name, "--help")
    assert r.returncode == 2 and "not available in this version" in r.stderr and r.stdout == ""


@pytest.mark.parametrize("args", [
    [], ["peers"], ["peers", "service", "a", "b", "c"], ["peers", "--timeout"],
    ["peers", "service", "app", "--timeout", "5 s"], ["peers", "service", "app", "--log", "xml"],
    ["request", "service", "app", "client", "/", "--retry", "twice"] + NOWHERE,
    ["request", "service", "app", "client", "/", "-H", "nonsense"] + NOWHERE,
    ["peers", "service", "app", "--watch=yes"],
    ["breaker", "open"], ["top", "--sort", "x"],
    ["peers", "service", "app", "-q"], ["policies", "service"], ["why", "xyz"],
])
def test_wrong_usage_exits_2(sinew, args):
    r = sinew.run(*args)
    assert (r.returncode, r.stdout) == (2, "") and r.stderr != ""


@pytest.mark.parametrize("command", ["peers", "peer"])
def test_a_misspelt_kind_names_the_nearest(sinew, cleanup, command):
    a = an_agent(cleanup, peers_message(1))
    r = sinew.run(command, "servce", "app", "client", agent=a)
    assert r.returncode == 2 and "did you mean `service`?" in r.stderr


def test_no_agent_named(sinew):
    r = sinew.run("peers", "service", "app", "client")
    assert r.returncode == 2 and "BERLIOZ_AGENT_PATH" in r.stderr


def test_lines_as_json(sinew):
    r = sinew.run("requst", "--log", "json")
    assert r.returncode == 2 and "request" in json.loads(r.stderr)["message"]
    r = sinew.run("peers", "service", "app", "client", "--log=json", "--timeout=300ms", *NOWHERE)
    assert r.returncode == 1
    assert all(json.loads(line)["message"] for line in r.stderr.splitlines())


def test_secrets_are_masked(sinew, cleanup):
    config = {"region": "r", "credentials": {"accessKeyId": "A", "secretAccessKey": "a \"b\\"},
              "deep": [{"apiToken": ["x", {"y": "}"}], "z": 1.50}], "key": None}
    a = an_agent(cleanup, {"peers": {"database": {"contacts": {"1": {"tableName": "contacts",
                                                                     "config": config}}}}})
    r = sinew.run("peers", "database", "contacts", agent=a)
    assert json.loads(r.stdout)["1"]["config"] == {
        "region": "r", "credentials": "***", "deep": [{"apiToken": "***", "z": 1.5}], "key": None}
    r = sinew.run("peer", "database", "contacts", "--show-secrets", agent=a)
    assert json.loads(r.stdout)["config"] == config


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_watch_of_an_unknown_target_until_a_signal(sinew, cleanup, sig):
    a = an_agent(cleanup, {})
    w = sinew.watch("peers", "service", "basket", "rest", "--watch", agent=a)
    assert w.next() is None
    a.push(peers_message(4000))
    assert w.next() == {"1": peer(4000)}
    w.process.send_signal(sig)
    assert w.process.wait(PATIENCE) == 0


def test_watch_ends_when_nobody_reads(sinew, cleanup):
    a = an_agent(cleanup, peers_message(4000))
    p = sinew.start("peers", "service", "basket", "rest", "--watch", agent=a)
    assert p.stdout.readline() != ""
    p.stdout.close()
    a.push(peers_message(4001))
    assert p.wait(PATIENCE) == 0


def test_url_may_be_left_out_and_verbose_tells_the_peer(sinew, cleanup):
    s = Service()
    cleanup(s)
    a = an_agent(cleanup, peers_message(s.port))
    r = sinew.run("request", "service", "basket", "rest", "-v", "-d", "x", agent=a)
    assert r.returncode == 0 and s.requests[0][:2] == ("POST", "/")
    assert "peer 1" in r.stderr and "1 attempt" in r.stderr
    assert re.search(r"call [0-9a-f]{16}", r.stderr)


def test_timeout_bounds_the_call(sinew, cleanup):
    done = threading.Event()
    s = Raw(lambda raw, c, n: done.wait(PATIENCE))
    cleanup(s)
    a = an_agent(cleanup, peers_message(s.port))
    r = sinew.run("request", "service", "basket", "rest", "/", "--timeout", "700ms", agent=a)
    done.set()
    assert (r.returncode, r.stdout) == (4, ""), r.stderr


def test_story_lists_attempts_and_the_id_for_why(sinew, cleanup):
    port = free_port()
    a = an_agent(cleanup, peers_message(port, **FAST))
    r = sinew.run("request", "service", "basket", "rest", "/", agent=a)
    attempts = [x for x in r.stderr.splitlines() if re.match(r"  +\d  .*:%d +connect " % port, x)]
    call = re.search(r"call ([0-9a-f]{16})", r.stderr).group(1)
    assert r.returncode == 1 and len(attempts) == 3
    w = sinew.run("why", call)
    assert w.returncode == 0 and call in w.stdout and str(port) in w.stdout
    w = sinew.run("why", "0123456789abcdef")
    assert w.returncode == 1 and w.stdout == ""


def test_policies_say_where_they_come_from(sinew, cleanup):
    children = {"service": {"children": {"app": {"values": {"retry-count": 7}}}}}
    a = an_agent(cleanup, {"policies": {"values": {"timeout": 900}, "children": children}})
    r = sinew.run("policies", "service", "app", "client", agent=a)
    lines = {line.split()[0]: line.split(None, 2)[1:] for line in r.stdout.splitlines()}
    assert r.returncode == 0, r.stderr
    assert lines["timeout"][0] == "900"
    assert lines["retry-count"][0] == "7" and "app" in lines["retry-count"][1]
    assert lines["retry-max-delay"][1] == "default"


def test_check(sinew):
    (sinew.tmp / "good.yaml").write_text("agent: ws://127.0.0.1:1/t\n")
    assert sinew.run("check", "good.yaml").returncode == 0
    (sinew.tmp / "bad.yaml").write_text("agnet: ws://127.0.0.1:1/t\npolicies:\n  timeout: soon\n")
    r = sinew.run("check", "bad.yaml")
    assert r.returncode == 2
    assert "bad.yaml:1:1" in r.stderr and "agent" in r.stderr
    assert sinew.run("check", "none.yaml").returncode == 2
    (sinew.tmp / "twice.yaml").write_text(
        "listen:\n  sidecar: {address: 127.0.0.1:3500}\n  admin: 127.0.0.1:3500\nhub: {broker: ':0', registry: ':0'}\n")
    r = sinew.run("check", "twice.yaml")
    assert r.returncode == 2 and r.stderr == \
        "twice.yaml:3:10: 127.0.0.1:3500 is what listen.sidecar listens on (line 2)\n", r.stderr
