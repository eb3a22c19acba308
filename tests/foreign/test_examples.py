# SPDX-License-Identifier: Apache-2.0
"""The programs in examples/, which are what users copy from, against an agent and a service that are not ours."""
import os
import subprocess

import pytest

from conftest import PATIENCE, Agent, Service, peers_message

ROOT = os.path.abspath(os.environ.get("SINEW_BUILD_ROOT", "build"))


@pytest.fixture
def mesh(sinew, cleanup):
    """run(example, *args, stdin) -> (finished process, agent, service)"""
    service = Service(name="one")
    cleanup(service)
    agent = Agent(peers_message(service.port))
    cleanup(agent)

    def start(example, *args):
        return subprocess.Popen([os.path.join(ROOT, "examples", example), "basket", "rest", *args],
                                env=sinew.env(agent), stdin=subprocess.PIPE, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    start.service = service
    start.agent = agent
    return start


def test_call(mesh):
    p = mesh("call", "/x?y=1")
    out, err = p.communicate(timeout=PATIENCE)
    assert (p.returncode, err) == (0, "")
    assert out == "200 http://127.0.0.1:%d/x?y=1\nhello from one\n" % mesh.service.port
    assert [r[:2] for r in mesh.service.requests] == [("GET", "/x?y=1")]


def test_uv_loop(mesh):
    p = mesh("uv_loop", "/u")
    out, err = p.communicate(timeout=PATIENCE)
    assert (p.returncode, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "tick" and lines[-2:] == ["200 hello from one", "closed"]


def test_poll_loop(mesh):
    p = mesh("poll_loop")
    out, err = p.communicate("/a\nhttp://there/\n/b\n", timeout=PATIENCE)
    assert (p.returncode, err) == (0, "")
    assert sorted(out.splitlines()) == ["200 hello from one", "200 hello from one",
                                        "url must be relative: begin it with /"]


def test_monitor(mesh):
    p = mesh("monitor")
    assert p.stderr.readline().endswith(": connected\n")
    mesh.agent.push(peers_message(mesh.service.port, 4001))
    for line in p.stdout:
        if line == "basket has 2 peers\n":
            break
    assert "127.0.0.1:%d" % mesh.service.port in p.stdout.readline()
    assert "127.0.0.1:4001" in p.stdout.readline()
    p.communicate("\n", timeout=PATIENCE)
    assert p.returncode == 0


@pytest.mark.parametrize("example", ["call", "monitor", "poll_loop", "uv_loop"])
def test_without_agent(sinew, example):
    p = subprocess.run([os.path.join(ROOT, "examples", example), "a", "b", "/"], env=sinew.env(),
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
    assert p.returncode == 2


def test_grpc():
    at = os.path.join(ROOT, "examples")
    server = subprocess.Popen([os.path.join(at, "grpc_server"), "127.0.0.1:0",
                               os.path.join(at, "greeter.desc")], stdout=subprocess.PIPE, text=True)
    try:
        port = server.stdout.readline().split()[-1]

        def greet(name):
            return subprocess.run([os.path.join(at, "grpc_client"), "127.0.0.1", port, name],
                                  capture_output=True, text=True, timeout=PATIENCE)
        p = greet("world")
        assert (p.returncode, p.stdout, p.stderr) == (0, "Hello, world\n", "")
        p = greet("")
        assert (p.returncode, p.stdout) == (1, "")
        assert p.stderr.startswith("INVALID_ARGUMENT: ") and "who is it?" in p.stderr
        p = subprocess.run([os.environ["SINEW_BINARY"], "grpc", "127.0.0.1:" + port, "call",
                            "examples.Greeter/KeepSaying", '{"name": "you", "times": 1}'],
                           capture_output=True, text=True, timeout=PATIENCE)
        assert (p.returncode, p.stdout) == (0, '{"text":"Hello, you"}\n')
    finally:
        server.terminate()
    assert server.wait(timeout=PATIENCE) == 0
