# SPDX-License-Identifier: Apache-2.0
"""`sinew hub` on etcd as its users see it: the store is away and back, and two hubs with one id."""
import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../services"))
import services  # noqa: E402
from conftest import until  # noqa: E402


@pytest.fixture
def etcd():
    try:
        server = services.Etcd()
    except services.Missing as e:
        pytest.skip(str(e))
    yield server
    server.kill(signal.SIGCONT)
    server.stop()


def section(etcd, id_):
    return {"registry": "127.0.0.1:0", "broker": "127.0.0.1:0", "id": id_,
            "store": {"type": "etcd", "endpoints": [etcd.url], "timeout": "500ms"}}


def said(hub, words):
    return len([line for line in hub.log if words in line])


def test_away_and_back(hub, nodes, etcd):
    h = hub(section(etcd, "one"))
    assert nodes("lamp").register(h)[0] == 1
    assert h.admin("/readyz") == {"ready": True, "missing": []}
    etcd.kill(signal.SIGSTOP)
    until(lambda: said(h, "the store (etcd) is away: "), lambda: h.log)
    missing = h.admin("/readyz")
    assert missing["ready"] is False
    assert missing["missing"][0].startswith("hub: the store (etcd) is away: "), missing
    late = nodes("late").register(h)
    assert late[0] == 0 and "Database" in late[1]["error"]["reason"], late
    assert [n["nodeId"] for n in h.admin("/hub/nodes")["nodes"]] == ["lamp"]
    etcd.kill(signal.SIGCONT)
    until(lambda: said(h, "the store (etcd) is back"), lambda: h.log)
    assert h.admin("/readyz") == {"ready": True, "missing": []}
    assert said(h, "is away: ") == said(h, "is back") == 1, h.log
    until(lambda: nodes("late").register(h)[0] == 1, lambda: h.log)


def test_two_with_one_id(hub, nodes, etcd):
    first = hub(section(etcd, "same"))
    assert nodes("lamp").register(first)[0] == 1
    second = hub(section(etcd, "same"))
    words = "give this one an id of its own (hub.id)"
    until(lambda: said(second, words), lambda: second.log)
    assert words in second.admin("/readyz")["missing"][0]
    assert first.admin("/readyz")["ready"] is True
    assert said(first, "another hub with the id 'same' has come to this store") == 1, first.log
    assert nodes("bell").register(second)[0] == 0
    assert nodes("door").register(first)[0] == 1
