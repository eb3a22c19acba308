# SPDX-License-Identifier: Apache-2.0
"""`sinew repl`: a script in a pipe, and a person at a terminal, in a mesh of nodes that are not ours."""
import json
import os
import stat
import subprocess
import sys

import pytest

from conftest import BINARY, BROKER, PATIENCE, ROOT, Node

sys.path.append(os.path.join(ROOT, "tests"))
from terminal import Terminal  # noqa: E402


@pytest.fixture
def mesh(hub):
    """A hub, and a lamp that answers with what it was sent."""
    h = hub()
    lamp = Node("lamp/hall", answer=lambda p: {"you said": p.get("data")})
    assert lamp.register(h)[0] == 1
    h.lamp = lamp
    yield h
    lamp.stop()


def places(h):
    return ["--broker", "%s:%d" % h.broker, "--registry", "%s:%d" % h.registry]


def script(h, *lines, text=None):
    r = subprocess.run([BINARY, "repl", *places(h)], input=text or "".join(x + "\n" for x in lines), env=h.env,
                       capture_output=True, text=True, timeout=PATIENCE)
    return r.returncode, r.stdout.splitlines(), r.stderr.splitlines()


def test_a_script(mesh):
    code, out, err = script(
        mesh, "# who is there", "nodes", "", "health lamp/hall",
        'send lamp/hall lamp.on {"level": 3, "why": "a  b"}', "send %s lamp.off" % mesh.lamp.address,
        "rpc %s:%d µHome.core.healthcheck" % mesh.broker, "on local.test", 'emit local.test [1, 2]', "wait",
        "version 1", "version", "quit", "nonsense that is never read")
    assert (code, err) == (0, []), (out, err)
    assert out[0].split() == [mesh.lamp.address, "lamp/hall"]
    assert json.loads(out[1])["data"] == {"message": "Service is healthy"}
    assert json.loads(out[2])["data"] == {"you said": {"level": 3, "why": "a  b"}}
    assert json.loads(out[3])["data"] == {"you said": None}
    assert json.loads(out[4])["result"]
    assert json.loads(out[5])["data"]["subscribers"] == 1
    assert json.loads(out[6]) == {"type": "local.test", "source": BROKER, "data": [1, 2]}
    assert out[7:] == ["1"]
    assert [e["type"] for e in mesh.lamp.got] == ["lamp.on", "lamp.off"]
    # What `on` has registered is gone with it.
    assert [x.split()[1] for x in script(mesh, "nodes")[1]] == ["lamp/hall"]


def test_broadcast_and_subscriptions(mesh):
    assert mesh.lamp.subscribe(mesh, "door.bell")[0] == 1
    code, out, err = script(mesh, "subscriptions", 'broadcast lights.out {"now": true}')
    assert (code, err) == (0, [])
    listed = json.loads(out[0])["data"]["subscriptions"]
    assert [(n["nodeId"], n["types"]) for n in listed] == [("lamp/hall", ["door.bell"])]
    assert mesh.lamp.wait(1, "lights.out")[0]["data"] == {"now": True}


@pytest.mark.parametrize("line, said", [
    ("nonsense", "no word `nonsense`: `help` lists them"),
    ("send lamp/hall", "usage: send NODE TYPE [JSON]"),
    ("health lamp/hall twice", "usage: health NODE"),
    ("send kitchen x", "no node `kitchen`: `nodes` lists them; an address is IPv4:PORT"),
    ("version 3", "packages have version 1 or 2, not `3`"),
    ("wait soon", "wait takes whole seconds, at most 86400, not `soon`"),
    ("wait 0", "no event came"),
])
def test_a_word_that_fails(mesh, line, said):
    code, out, err = script(mesh, line, "version")
    assert code == 1
    assert out == ["2"], "the script goes on"
    assert err == ["sinew: " + said]


def test_a_refusal_is_shown_and_counts_as_failed(mesh):
    code, out, err = script(mesh, "emit µHome.mine", "send lamp/hall x {bad", "emit x [1}")
    assert code == 1
    assert json.loads(out[0])["error"]["reason"] == "Event type is reserved"
    assert len(out) == 1, out
    assert err == ["sinew: no JSON (at byte 1): {bad", "sinew: no JSON (at byte 2): [1}"]


def test_mu(mesh):
    code, out, err = script(mesh, "send lamp/hall uHome.core.healthcheck", "send lamp/hall μHome.core.healthcheck")
    assert code == 0
    assert [json.loads(x)["data"]["message"] for x in out] == ["Service is healthy"] * 2
    assert all("µHome.core.healthcheck" in x and "U+00B5" in x for x in err) and len(err) == 2


def test_a_line_that_is_too_long_is_skipped(mesh):
    code, out, err = script(mesh, text="emit x \"%s\"\nversion" % ("a" * (3 << 20)))
    assert (code, out) == (1, ["2"])
    assert err == ["sinew: a line has at most 1048576 bytes"]


def test_nobody_there(hub, tmp_path):
    h = hub()
    where = places(h)
    h.close()
    r = subprocess.run([BINARY, "repl", *where], input="nodes\nemit x\n", env=h.env, capture_output=True,
                       text=True, timeout=PATIENCE)
    assert r.returncode == 1 and r.stdout == ""
    assert len(r.stderr.splitlines()) == 2 and "refused" in r.stderr


def test_an_original_registry_and_broker():
    """Version 0.0.1 answers what it does not know with status 1."""
    old = Node("µHome/core/serviceRegistry", answer=lambda p: {"message": "No Handler for Event registered"})
    r = subprocess.run([BINARY, "repl", "--broker", old.address, "--registry", old.address],
                       input="nodes\nemit x\nsubscriptions\n", capture_output=True, text=True, timeout=PATIENCE)
    old.stop()
    assert r.returncode == 1 and r.stdout == ""
    assert len(r.stderr.splitlines()) == 3 and r.stderr.count("version 0.0.1") == 3


def test_at_a_terminal(mesh, tmp_path):
    # libedit does not free the two texts of a function that was added to it.
    (tmp_path / "leaks").write_text("leak:wcsdup\n")
    mesh.env["LSAN_OPTIONS"] = "print_suppressions=0:suppressions=%s" % (tmp_path / "leaks")
    t = Terminal(BINARY, "repl", *places(mesh), **mesh.env)
    try:
        t.until("sinew> ")
        t.type("send la\tlamp.on 1\n")
        t.until('"you said": 1')
        t.type("on local.test\n")
        t.until("registered as repl-")
        t.until("sinew> ")
        # An event comes while a line is being typed: above it, and the line is drawn anew.
        t.type("version")
        t.until("version")
        mesh.publish("local.test", {"n": "µ"})
        t.until('{"type":"local.test"')
        t.until("sinew> version")
        t.type("\nemit lo\t2\n")  # the types that were named
        t.until('"subscribers":1')
        t.type("quit\n")
        assert t.end() == 0
    finally:
        t.stop()
    kept = os.path.join(mesh.env["XDG_STATE_HOME"], "sinew", "repl-history")
    assert stat.S_IMODE(os.stat(kept).st_mode) == 0o600
    again = Terminal(BINARY, "repl", *places(mesh), **mesh.env)
    try:
        again.until("sinew> ")
        again.type("\x1b[A\x1b[A")  # up, up
        again.until("emit local.test 2")
        again.type("\x15quit\n")
        assert again.end() == 0
    finally:
        again.stop()
