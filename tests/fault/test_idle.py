# SPDX-License-Identifier: Apache-2.0
"""What doing nothing costs, with a margin; bench/idle_bench.c has the figures."""
import os
import re
import socket
import ssl
import subprocess

import pytest

from fault import SANITIZED, Peer, Sinew
import certs  # by the path of fault.py

CONNECTIONS = 400  # Unix sockets; the pool of what requests need must not blur it


HTTP_PEER = os.path.join(os.environ.get("SINEW_BUILD_ROOT", "build"), "tests", "http", "http_peer")


def figures(pid):
    with open("/proc/%d/smaps_rollup" % pid) as f:
        text = f.read()
    return {k: int(v) for k, v in re.findall(r"^(\w+):\s+(\d+) kB", text, re.M)}


@pytest.mark.skipif(SANITIZED, reason="memory of sanitizers")
def test_an_idle_sinew_is_small(tmp_path, cleanup):
    sinew = cleanup(Sinew(tmp_path, [cleanup(Peer())], env={"MALLOC_PERTURB_": "0"}))
    m = figures(sinew.p.pid)
    assert m["Rss"] <= 16 * 1024 and m["Private_Clean"] + m["Private_Dirty"] <= 6 * 1024, m


@pytest.mark.skipif(SANITIZED, reason="memory of sanitizers")
def test_idle_connections_are_small(tmp_path, cleanup):
    sinew = cleanup(Sinew(tmp_path, [cleanup(Peer())], env={"MALLOC_PERTURB_": "0"}))
    socks, before = [], 0
    for i in range(CONNECTIONS):
        s = socket.socket(socket.AF_UNIX)
        socks.append(s)
        s.connect(sinew.sidecar)
        s.sendall(b"GET /peers/service/app/web HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert s.recv(4096).startswith(b"HTTP/1.1 200")
        if i == 0:
            before = sinew.memory_kb()
    each = (sinew.memory_kb() - before) * 1024 / CONNECTIONS
    assert each <= 4096, each
    assert len(socks) == CONNECTIONS
    for s in socks:
        s.close()


@pytest.mark.skipif(SANITIZED, reason="memory of sanitizers")
def test_idle_tls_connections_are_small(tmp_path):
    """Of the library's HTTP server: the sidecar has no TLS."""
    cert, key = certs.alone(tmp_path)
    context = ssl.create_default_context(cafile=cert)
    context.check_hostname = False
    socks, before = [], 0
    p = subprocess.Popen([HTTP_PEER, "serve", "127.0.0.1:0", cert, key], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True, env=dict(os.environ, MALLOC_PERTURB_="0"))
    try:
        port = int(p.stdout.readline().split(":")[1])
        for i in range(CONNECTIONS):
            s = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 20))
            socks.append(s)
            s.sendall(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert s.recv(4096).startswith(b"HTTP/1.1 200")
            if i == 0:
                before = figures(p.pid)["Private_Dirty"]
        each = (figures(p.pid)["Private_Dirty"] - before) * 1024 / CONNECTIONS
    finally:
        p.kill()
        p.communicate()
    assert each <= 40 * 1024, each
