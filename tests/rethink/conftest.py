# SPDX-License-Identifier: Apache-2.0
"""Connectors of ours, registries that are not."""
import json
import os
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.append(os.path.join(HERE, ".."))
from certs import alone, authority, leaf, openssl  # noqa: E402
from script import Registry  # noqa: E402

BUILD = os.environ.get("SINEW_BUILD_ROOT", os.path.join(HERE, "../../build"))


class Peer:
    """rethink_peer, a line at a time."""

    def __init__(self, kind):
        self.kind, self.cache = kind, {}
        self.process = subprocess.Popen([os.path.join(BUILD, "tests/rethink/rethink_peer"), kind],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **line):
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def open(self, settings, notify=False):
        return self.ask(open=settings, notify=notify)

    def connector(self, settings, notify=False):
        """The same one for the same settings."""
        key = json.dumps([settings, notify])
        if key not in self.cache:
            answer = self.open(settings, notify)
            assert "c" in answer, answer
            self.cache[key] = answer["c"]
        return self.cache[key]

    def send(self, c, message):
        """A message's answer (None: there is none)."""
        text = message if isinstance(message, str) else json.dumps(message)
        answer = self.ask(c=c, message=text)
        assert "response" in answer, answer
        response = answer["response"]
        assert response is None or "\n" not in response
        return None if response is None else json.loads(response)

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(20) == 0


@pytest.fixture(scope="module", params=["loop", "thread", "host"])
def peer(request):
    p = Peer(request.param)
    yield p
    p.end()


@pytest.fixture(scope="module")
def registry():
    r = Registry()
    yield r
    r.close()


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    """Certificates by openssl: an authority, a server and a client of it, a stranger."""
    d = str(tmp_path_factory.mktemp("certs"))

    authority(d)
    for name in ("server", "client", "locked"):
        leaf(d, name)
    alone(d, "stranger", "stranger")
    openssl(d, "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", "locked.key", "-out", "secret.key",
        "-passout", "pass:open sesame")
    return lambda name: os.path.join(d, name)
