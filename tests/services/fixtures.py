# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the servers; a conftest.py takes the ones it needs:

    sys.path.insert(0, os.path.join(HERE, "../services"))
    from fixtures import dynalite, fault_proxy, sdk
"""
import pytest

import services
from fault_proxy import FaultProxy


def skip(why):
    """The whole file is skipped, loudly: a test that is left out in silence is taken for a good one."""
    pytest.exit("SKIPPED, servers of tests/services are not there: %s" % why, returncode=77)


def _running(name):
    try:
        server = services.start(name)
    except services.Missing as why:
        skip(why)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def dynalite():
    yield from _running("dynalite")


@pytest.fixture(scope="session")
def kinesalite():
    yield from _running("kinesalite")


@pytest.fixture(scope="session")
def etcd():
    yield from _running("etcd")


@pytest.fixture(scope="session")
def swift():
    yield from _running("swift")


@pytest.fixture(scope="session")
def sdk():
    """The official AWS SDK: sdk.call("document", "Put", params, server.url)."""
    try:
        peer = services.Sdk()
    except services.Missing as why:
        skip(why)
    yield peer
    peer.stop()


@pytest.fixture
def fault_proxy():
    """fault_proxy(url, secrets=None): a FaultProxy; all end with the test."""
    made = []

    def make(*args, **kwargs):
        made.append(FaultProxy(*args, **kwargs))
        return made[-1]
    yield make
    for p in made:
        p.stop()
